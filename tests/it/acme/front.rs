//! A server between the registry and pebble. It counts orders and refuses them, and has renewal information (RFC 9773),
//! which Debian's pebble lacks.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1 as client_http1;
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use super::client;
use super::pebble::Pebble;

/// The behaviour of the server.
#[derive(Debug, Default)]
pub struct Rules {
    /// The problem with which orders are refused, and its `Retry-After`.
    pub refused: Option<(&'static str, u32)>,
    /// The time in which certificates are to be renewed.
    pub window: Option<(String, String)>,
    /// The payloads of the orders so far.
    pub orders: Vec<Value>,
    /// The certificates that were asked about.
    pub asked: Vec<String>,
}

/// The server.
pub struct Front {
    address: SocketAddr,
    pub rules: Arc<Mutex<Rules>>,
    task: JoinHandle<()>,
}

impl Front {
    pub async fn before(pebble: &Pebble) -> Self {
        let [certificate, key] = pebble.identity();
        let certificate = CertificateDer::from_pem_file(certificate).unwrap();
        let key = PrivateKeyDer::from_pem_file(key).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = config.with_no_client_auth().with_single_cert(vec![certificate], key).unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (upstream, ca) = (SocketAddr::from(([127, 0, 0, 1], pebble.port)), pebble.ca());
        let rules = Arc::<Mutex<Rules>>::default();
        let shared = Arc::clone(&rules);
        let task = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (acceptor, rules, ca) = (acceptor.clone(), Arc::clone(&shared), ca.clone());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(socket).await else { return };
                    let answer = service_fn(move |request| {
                        let (rules, ca) = (Arc::clone(&rules), ca.clone());
                        async move { Ok::<_, Infallible>(pass(request, &rules, upstream, ca).await) }
                    });
                    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
                });
            }
        });
        Self { address, rules, task }
    }

    /// The URL of the directory.
    pub fn directory(&self) -> String {
        format!("https://{}/dir", self.address)
    }

    /// The number of orders so far.
    pub fn orders(&self) -> usize {
        self.rules.lock().unwrap().orders.len()
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Passes a request on, unless the rules say otherwise.
async fn pass(
    request: Request<Incoming>,
    rules: &Mutex<Rules>,
    upstream: SocketAddr,
    ca: CertificateDer<'static>,
) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let host = head.headers["host"].to_str().unwrap().to_owned();
    let path = head.uri.path().to_owned();
    let body = body.collect().await.unwrap().to_bytes();
    if let Some(id) = path.strip_prefix("/renewal-info/") {
        let mut rules = rules.lock().unwrap();
        rules.asked.push(id.to_owned());
        let (start, end) = rules.window.clone().unwrap();
        let info = json!({ "suggestedWindow": { "start": start, "end": end } });
        return Response::builder().header(RETRY_AFTER, 21_600).body(Full::from(info.to_string())).unwrap();
    }
    let is_order = path.starts_with("/order-plz");
    if is_order {
        let mut rules = rules.lock().unwrap();
        rules.orders.push(payload(&body));
        if let Some((problem, seconds)) = rules.refused {
            let kind = format!("urn:ietf:params:acme:error:{problem}");
            let problem = json!({ "type": kind, "detail": "too many", "status": 429 });
            return Response::builder()
                .status(429)
                .header(CONTENT_TYPE, "application/problem+json")
                .header(RETRY_AFTER, seconds)
                .body(Full::from(problem.to_string()))
                .unwrap();
        }
    }
    let stream = client::connect(upstream, "localhost", &[ca], &[]).await.unwrap();
    let (mut sender, connection) = client_http1::handshake(TokioIo::new(stream)).await.unwrap();
    let connection = tokio::spawn(connection);
    let response = sender.send_request(Request::from_parts(head, Full::new(body.clone()))).await.unwrap();
    let (mut head, content) = response.into_parts();
    let content = content.collect().await.unwrap().to_bytes();
    connection.abort();
    let changed = match (serde_json::from_slice::<Value>(&content), &rules.lock().unwrap().window) {
        (Ok(mut directory), Some(_)) if path == "/dir" => {
            directory["renewalInfo"] = json!(format!("https://{host}/renewal-info"));
            Some(directory)
        }
        (Ok(mut order), _) if is_order && payload(&body).get("replaces").is_some() => {
            order["replaces"] = payload(&body)["replaces"].clone();
            Some(order)
        }
        _ => None,
    };
    let content = changed.map_or(content, |changed| Bytes::from(changed.to_string()));
    if head.headers.contains_key(CONTENT_LENGTH) && !content.is_empty() {
        head.headers.insert(CONTENT_LENGTH, content.len().into());
    }
    Response::from_parts(head, Full::new(content))
}

/// The payload of a signed request.
fn payload(body: &[u8]) -> Value {
    let signed: Value = serde_json::from_slice(body).unwrap_or_default();
    let payload = URL_SAFE_NO_PAD.decode(signed["payload"].as_str().unwrap_or_default()).unwrap_or_default();
    serde_json::from_slice(&payload).unwrap_or_default()
}
