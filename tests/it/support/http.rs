//! Requests over a real socket. Every response gets general checks, in any test.

use std::net::{IpAddr, SocketAddr};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::http::response::Parts;
use hyper::{Method, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use tokio::net::TcpSocket;
use tokio::sync::mpsc;

/// The specification's error codes, and the one for our own failures.
const CODES: [&str; 15] = [
    "BLOB_UNKNOWN",
    "BLOB_UPLOAD_INVALID",
    "BLOB_UPLOAD_UNKNOWN",
    "DIGEST_INVALID",
    "MANIFEST_BLOB_UNKNOWN",
    "MANIFEST_INVALID",
    "MANIFEST_UNKNOWN",
    "NAME_INVALID",
    "NAME_UNKNOWN",
    "SIZE_INVALID",
    "UNAUTHORIZED",
    "DENIED",
    "UNSUPPORTED",
    "TOOMANYREQUESTS",
    "UNKNOWN",
];

/// Someone who sends requests.
#[derive(Clone, Debug)]
pub struct Caller {
    address: SocketAddr,
    /// Where the caller's connections come from, if that is not left to the system.
    source: Option<IpAddr>,
    authorization: Option<HeaderValue>,
    /// Whether the caller speaks HTTP/2 in clear text.
    is_http2: bool,
}

impl Caller {
    pub fn new(address: SocketAddr, credentials: Option<(&str, &str)>) -> Self {
        let basic = |(name, password)| format!("Basic {}", STANDARD.encode(format!("{name}:{password}")));
        let authorization = credentials.map(|credentials| basic(credentials).try_into().unwrap());
        Self { address, source: None, authorization, is_http2: false }
    }

    /// The same caller over HTTP/2 in clear text.
    pub fn over_http2(self) -> Self {
        Self { is_http2: true, ..self }
    }

    /// The same caller at another address of this machine. Linux has all of 127.0.0.0/8 as its own.
    pub fn at(self, source: impl Into<IpAddr>) -> Self {
        Self { source: Some(source.into()), ..self }
    }

    /// Where the registry listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The `Authorization` header of the caller's requests.
    pub fn authorization(&self) -> Option<&str> {
        self.authorization.as_ref().map(|value| value.to_str().unwrap())
    }

    pub fn get(&self, path: &str) -> Request {
        self.request(Method::GET, path)
    }

    pub fn head(&self, path: &str) -> Request {
        self.request(Method::HEAD, path)
    }

    pub fn post(&self, path: &str) -> Request {
        self.request(Method::POST, path)
    }

    pub fn put(&self, path: &str) -> Request {
        self.request(Method::PUT, path)
    }

    pub fn patch(&self, path: &str) -> Request {
        self.request(Method::PATCH, path)
    }

    pub fn delete(&self, path: &str) -> Request {
        self.request(Method::DELETE, path)
    }

    pub fn request(&self, method: Method, path: &str) -> Request {
        let mut headers = HeaderMap::new();
        headers.extend(self.authorization.clone().map(|value| (header::AUTHORIZATION, value)));
        let body = Full::new(Bytes::new()).map_err(|never| match never {}).boxed();
        let Self { address, source, is_http2, .. } = *self;
        Request { address, source, is_http2, method, path: path.to_owned(), headers, body }
    }
}

/// A request to be sent.
#[must_use = "a request does nothing until it is sent"]
#[derive(Debug)]
pub struct Request {
    address: SocketAddr,
    source: Option<IpAddr>,
    is_http2: bool,
    method: Method,
    path: String,
    headers: HeaderMap,
    body: BoxBody<Bytes, std::io::Error>,
}

impl Request {
    /// Adds a header; it may be there already.
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        let name: HeaderName = name.parse().unwrap();
        self.headers.append(name, HeaderValue::from_bytes(value.as_ref()).unwrap());
        self
    }

    /// A body of known length.
    pub fn body(mut self, bytes: impl Into<Bytes>) -> Self {
        self.body = Full::new(bytes.into()).map_err(|never| match never {}).boxed();
        self
    }

    /// A body in chunked transfer coding.
    pub fn chunked(mut self, parts: Vec<Bytes>) -> Self {
        let parts = parts.into_iter().map(|part| Ok(hyper::body::Frame::data(part)));
        self.body = http_body_util::StreamBody::new(futures_util::stream::iter(parts)).boxed();
        self
    }

    /// A body in chunked transfer coding whose parts come while the test goes on; it ends when the
    /// sender is dropped.
    pub fn piecewise(mut self) -> (mpsc::UnboundedSender<Bytes>, Self) {
        let (sender, mut parts) = mpsc::unbounded_channel();
        let parts = futures_util::stream::poll_fn(move |context| {
            parts.poll_recv(context).map(|part| part.map(|part| Ok(hyper::body::Frame::data(part))))
        });
        self.body = http_body_util::StreamBody::new(parts).boxed();
        (sender, self)
    }

    /// Sends the request on a connection of its own, and checks what every answer must be.
    pub async fn send(self) -> Answer {
        self.try_send().await.unwrap()
    }

    /// As [`Request::send`], to a registry that may go away at any moment.
    pub async fn try_send(self) -> Result<Answer, Box<dyn std::error::Error + Send + Sync>> {
        let socket = if self.address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        if let Some(source) = self.source {
            socket.bind((source, 0).into())?;
        }
        let socket = TokioIo::new(socket.connect(self.address).await?);
        let from_page = self.headers.contains_key("x-zot-api-client");
        let mut request = hyper::Request::new(self.body);
        *request.method_mut() = self.method.clone();
        *request.headers_mut() = self.headers;
        let (head, body) = if self.is_http2 {
            *request.uri_mut() = format!("http://{}{}", self.address, self.path).parse().unwrap();
            let (mut sender, connection) = http2::handshake(TokioExecutor::new(), socket).await?;
            let connection = tokio::spawn(connection);
            let response = whole(sender.send_request(request).await?).await?;
            connection.abort();
            response
        } else {
            *request.uri_mut() = self.path.parse().unwrap();
            request.headers_mut().insert(header::HOST, self.address.to_string().try_into().unwrap());
            let (mut sender, connection) = http1::handshake(socket).await?;
            let connection = tokio::spawn(connection);
            let response = whole(sender.send_request(request).await?).await?;
            connection.abort();
            response
        };
        let answer =
            Answer { line: format!("{} {}", self.method, self.path), status: head.status, headers: head.headers, body };
        answer.check(&self.method, from_page);
        Ok(answer)
    }
}

/// Reads a response to its end.
async fn whole(response: Response<Incoming>) -> Result<(Parts, Bytes), hyper::Error> {
    let (head, body) = response.into_parts();
    Ok((head, body.collect().await?.to_bytes()))
}

/// A response.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Method and path, for messages.
    line: String,
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    /// Checks that apply to every response. Pages that ask for the password themselves get no challenge, and neither does
    /// Quay's API.
    fn check(&self, method: &Method, from_page: bool) {
        let line = &self.line;
        let path = percent_encoding::percent_decode_str(line).decode_utf8_lossy();
        let quays = path.contains(" /api/") || path.contains(" /csrf_token");
        if path.split_once(" /v2").is_some_and(|(_, rest)| rest.is_empty() || rest.starts_with(['/', '?'])) {
            assert_eq!(self.header("docker-distribution-api-version"), Some("registry/2.0"), "{line}");
        }
        if *method == Method::HEAD {
            assert!(self.body.is_empty(), "{line}: a HEAD has no body");
        }
        if let (Some(length), false) = (self.header("content-length"), *method == Method::HEAD) {
            assert_eq!(length.parse::<usize>().unwrap(), self.body.len(), "{line}");
        }
        if !self.status.is_client_error() && !self.status.is_server_error() {
            return;
        }
        let is_page = path.contains(" /ui") && self.header("content-type") != Some("application/json");
        let content_type = if is_page { "text/html; charset=utf-8" } else { "application/json" };
        assert_eq!(self.header("content-type"), Some(content_type), "{line}");
        let challenged = self.status == StatusCode::UNAUTHORIZED && !from_page && !quays && !is_page;
        assert_eq!(challenged, self.header("www-authenticate").is_some(), "{line}");
        assert_eq!(self.status == StatusCode::METHOD_NOT_ALLOWED, self.header("allow").is_some(), "{line}");
        if matches!(self.status.as_u16(), 429 | 503) {
            assert!(self.header("retry-after").is_some(), "{line}");
        }
        if *method == Method::HEAD || is_page {
            return;
        }
        if quays {
            let problem = self.json();
            for field in ["detail", "error_message", "error_type", "title", "type", "message"] {
                assert!(problem[field].as_str().is_some_and(|text| !text.is_empty()), "{line}: {problem}");
            }
            assert_eq!(problem["status"], self.status.as_u16(), "{line}");
            return;
        }
        let errors = self.json()["errors"].as_array().cloned().unwrap_or_default();
        assert!(!errors.is_empty(), "{line}: {}", self.text());
        let is_query = path.contains("/v2/_zot/ext/search");
        for error in errors {
            // GraphQL has a form of its own.
            if is_query && error["extensions"]["code"].is_string() {
                assert!(error["message"].is_string() && error.get("code").is_none(), "{line}: {}", self.text());
                continue;
            }
            let code = error["code"].as_str().unwrap_or_default();
            assert!(CODES.contains(&code), "{line}: {}", self.text());
            assert_eq!(code == "UNKNOWN", self.status.is_server_error(), "{line}: {}", self.text());
            assert!(!error["message"].as_str().unwrap_or_default().is_empty(), "{line}: {}", self.text());
            // Docker repeats a request whose refusal has no detail and the usual message of its code.
            assert!(!error["detail"].is_null(), "{line}: {}", self.text());
        }
        assert!(!self.text().contains("/blobs/sha256/"), "{line}: a path of the data directory: {}", self.text());
    }

    /// Asserts the status, and hands the answer on.
    #[track_caller]
    pub fn status(self, status: u16) -> Self {
        assert_eq!(self.status.as_u16(), status, "{}: {}", self.line, self.text());
        self
    }

    /// Asserts status and error code.
    #[track_caller]
    pub fn error(self, status: u16, code: &str) -> Self {
        let answer = self.status(status);
        assert_eq!(answer.json()["errors"][0]["code"], code, "{}: {}", answer.line, answer.text());
        answer
    }

    /// Asserts that a header has this value.
    #[track_caller]
    pub fn has(self, name: &str, value: &str) -> Self {
        assert_eq!(self.header(name), Some(value), "{}: {name}", self.line);
        self
    }

    /// The value of a header that is given once.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.get_all(name).iter();
        let value = values.next()?.to_str().unwrap();
        assert!(values.next().is_none(), "{}: {name} is given twice", self.line);
        Some(value)
    }

    /// The `Location` header.
    #[track_caller]
    pub fn location(&self) -> String {
        self.header("location").expect("a Location").to_owned()
    }

    /// The path in a `Link` header with `rel="next"`.
    pub fn next(&self) -> Option<String> {
        let link = self.header("link")?;
        let path = link.strip_prefix('<').and_then(|rest| rest.strip_suffix(">; rel=\"next\""));
        Some(path.expect("a link of the form <path>; rel=\"next\"").to_owned())
    }

    /// All values of a header, as lists in one or several lines (RFC 9110, 5.3).
    pub fn list(&self, name: &str) -> Vec<String> {
        let values = self.headers.get_all(name).iter();
        values.flat_map(|value| value.to_str().unwrap().split(',')).map(|value| value.trim().to_owned()).collect()
    }

    /// The digests that the errors of the answer are about.
    pub fn digests(&self) -> Vec<String> {
        let errors = self.json()["errors"].as_array().cloned().unwrap_or_default();
        errors.iter().filter_map(|error| Some(error["detail"]["digest"].as_str()?.to_owned())).collect()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{}: {error}: {}", self.line, self.text()))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}
