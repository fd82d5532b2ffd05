//! A user agent without a screen: a cookie jar with the rules of browsers, links, forms and redirects.
//!
//! It follows no redirect by itself. The test decides, and can act as an attacker. Cookies belong to a host regardless of
//! the port, and to a path (RFC 6265).

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::header::{self, HeaderMap};
use hyper::{Method, Uri};
use hyper_util::rt::TokioIo;
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde_json::Value;
use tokio::net::TcpStream;

/// A request that takes longer hangs. The limit is generous for a busy machine.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// More redirects than any sign-in has.
const REDIRECTS_MAX: usize = 20;

/// A cookie.
#[derive(Clone, Debug)]
pub struct Cookie {
    pub name: String,
    pub value: String,
    host: String,
    pub path: String,
}

/// A response.
#[derive(Clone, Debug)]
pub struct Page {
    /// The requested URL.
    pub url: String,
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Page {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{}: {error}: {}", self.url, self.text()))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// The `Set-Cookie` headers.
    pub fn cookies(&self) -> Vec<&str> {
        self.headers.get_all(header::SET_COOKIE).iter().map(|line| line.to_str().unwrap()).collect()
    }

    /// The `Set-Cookie` header of this cookie.
    pub fn cookie(&self, name: &str) -> Option<&str> {
        self.cookies().into_iter().find(|line| line.split_once('=').is_some_and(|(found, _)| found == name))
    }

    /// The absolute URL of a redirect.
    #[track_caller]
    pub fn location(&self) -> String {
        let to = self.header("location");
        resolve(&self.url, to.unwrap_or_else(|| panic!("no redirect but {}: {}", self.status, self.text())))
    }

    /// Asserts the status.
    #[track_caller]
    pub fn status(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}: {}", self.url, self.text());
        self
    }

    /// The target of the page's form, and its fields with values.
    #[track_caller]
    pub fn form(&self) -> (String, Vec<(String, String)>) {
        let text = self.text();
        let (_, form) = text.split_once("<form").unwrap_or_else(|| panic!("{} has no form: {text}", self.url));
        let form = form.split("</form>").next().unwrap();
        let action = attribute(form, "action").unwrap_or_else(|| self.url.clone());
        let tags = form.split('<').filter(|tag| tag.starts_with("input") || tag.starts_with("button"));
        let fields =
            tags.filter_map(|tag| Some((attribute(tag, "name")?, attribute(tag, "value").unwrap_or_default())));
        (resolve(&self.url, &action), fields.collect())
    }
}

/// The value of an attribute in a tag.
fn attribute(tag: &str, name: &str) -> Option<String> {
    let tag = tag.split('>').next().unwrap();
    let (_, rest) = tag.split_once(&format!(" {name}=\""))?;
    let value = rest.split('"').next().unwrap();
    Some(value.replace("&quot;", "\"").replace("&#x27;", "'").replace("&#39;", "'").replace("&amp;", "&"))
}

/// A link of a page as an absolute URL.
pub fn resolve(base: &str, link: &str) -> String {
    if link.contains("://") {
        return link.to_owned();
    }
    if link.starts_with("//") {
        return format!("http:{link}");
    }
    let path = base.find("://").map_or(0, |at| at + 3);
    let origin = base[path..].find('/').map_or(base, |at| &base[..path + at]);
    format!("{origin}{link}")
}

/// A parameter of a URL's query, decoded.
pub fn parameter(url: &str, name: &str) -> Option<String> {
    let query = url.split_once('?')?.1.split('#').next()?;
    pairs(query).into_iter().find(|(found, _)| found == name).map(|(_, value)| value)
}

/// The URL with another value of a parameter, or without the parameter.
pub fn with_parameter(url: &str, name: &str, value: Option<&str>) -> String {
    let (path, query) = url.split_once('?').unwrap_or((url, ""));
    let mut pairs = pairs(query);
    pairs.retain(|(found, _)| found != name);
    pairs.extend(value.map(|value| (name.to_owned(), value.to_owned())));
    format!("{path}?{}", encode(&pairs))
}

/// Decodes `a=b&c=d`.
pub fn pairs(text: &str) -> Vec<(String, String)> {
    let decode = |part: &str| percent_decode_str(&part.replace('+', " ")).decode_utf8_lossy().into_owned();
    let pairs = text.split('&').filter(|pair| !pair.is_empty());
    pairs.map(|pair| pair.split_once('=').unwrap_or((pair, ""))).map(|(n, v)| (decode(n), decode(v))).collect()
}

/// Encodes a form.
pub fn encode<N: AsRef<str>, V: AsRef<str>>(pairs: &[(N, V)]) -> String {
    let text = |part: &str| utf8_percent_encode(part, NON_ALPHANUMERIC).to_string();
    let pairs = pairs.iter().map(|(name, value)| format!("{}={}", text(name.as_ref()), text(value.as_ref())));
    pairs.collect::<Vec<_>>().join("&")
}

/// Sends a request on a new connection and reads the response to its end.
pub async fn fetch(
    method: Method,
    url: &str,
    headers: &HeaderMap,
    body: impl Into<Bytes>,
) -> Result<Page, Box<dyn std::error::Error + Send + Sync>> {
    let uri: Uri = url.split('#').next().unwrap().parse()?;
    let (host, port) = (uri.host().expect("a whole URL"), uri.port_u16().unwrap_or(80));
    let work = async {
        let socket = TcpStream::connect((host.trim_matches(['[', ']']), port)).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(socket)).await?;
        let connection = tokio::spawn(connection);
        let mut request = hyper::Request::new(Full::new(body.into()));
        *request.method_mut() = method;
        *request.uri_mut() = uri.path_and_query().map_or("/", |path| path.as_str()).parse()?;
        *request.headers_mut() = headers.clone();
        request.headers_mut().insert(header::HOST, uri.authority().unwrap().as_str().parse()?);
        let (head, body) = sender.send_request(request).await?.into_parts();
        let body = body.collect().await?.to_bytes();
        connection.abort();
        Ok(Page { url: url.to_owned(), status: head.status.as_u16(), headers: head.headers, body })
    };
    tokio::time::timeout(PATIENCE, work).await?
}

/// A user with a cookie jar.
#[derive(Clone, Debug, Default)]
pub struct Agent {
    pub jar: Vec<Cookie>,
}

impl Agent {
    /// The cookies that a browser would send with a request for this URL.
    fn header(&self, url: &str) -> String {
        let uri: Uri = url.parse().unwrap();
        let fits = |cookie: &&Cookie| {
            let path = cookie.path.trim_end_matches('/');
            let inside = uri.path().strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
            cookie.host == uri.host().unwrap() && inside
        };
        let cookies = self.jar.iter().filter(fits).map(|cookie| format!("{}={}", cookie.name, cookie.value));
        cookies.collect::<Vec<_>>().join("; ")
    }

    /// The value of a cookie.
    pub fn cookie(&self, name: &str) -> Option<&str> {
        self.jar.iter().find(|cookie| cookie.name == name).map(|cookie| &*cookie.value)
    }

    /// Puts a cookie into the jar, like an attacker who controls a part of the network.
    pub fn plant(&mut self, url: &str, line: &str) {
        let host = url.parse::<Uri>().unwrap().host().unwrap().to_owned();
        let (pair, attributes) = line.split_once(';').unwrap_or((line, ""));
        let (name, value) = pair.split_once('=').unwrap();
        let attribute = |wanted: &str| {
            let found = attributes.split(';').map(|attribute| attribute.trim().split_once('=').unwrap_or_default());
            found.filter(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value.to_owned()).next()
        };
        // The default is the directory of the page. All pages here have a short path.
        let path = attribute("path").unwrap_or_else(|| "/".to_owned());
        self.jar.retain(|cookie| !(cookie.name == name && cookie.host == host && cookie.path == path));
        let past = attribute("expires").is_some_and(|date| date.contains(" 1970 "));
        if attribute("max-age").as_deref() == Some("0") || past {
            return;
        }
        let (name, value) = (name.to_owned(), value.to_owned());
        self.jar.push(Cookie { name, value, host, path });
    }

    /// Sends a request with the cookies and stores those of the response. Follows no redirect.
    pub async fn send(&mut self, method: Method, url: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Page {
        let mut all = HeaderMap::new();
        let cookies = self.header(url);
        let cookies = (!cookies.is_empty()).then_some(("cookie", &*cookies));
        for (name, value) in headers.iter().copied().chain(cookies) {
            all.append(header::HeaderName::try_from(name).unwrap(), value.parse().unwrap());
        }
        let page = fetch(method, url, &all, body).await.unwrap_or_else(|error| panic!("{url}: {error}"));
        for line in page.cookies() {
            self.plant(url, line);
        }
        page
    }

    pub async fn get(&mut self, url: &str) -> Page {
        self.send(Method::GET, url, &[], "").await
    }

    /// Sends a form.
    pub async fn post<N: AsRef<str>, V: AsRef<str>>(&mut self, url: &str, form: &[(N, V)]) -> Page {
        let kind = [("content-type", "application/x-www-form-urlencoded")];
        self.send(Method::POST, url, &kind, encode(form)).await
    }

    /// Fills in the form of a page and sends it.
    pub async fn submit(&mut self, page: &Page, typed: &[(&str, &str)]) -> Page {
        let (action, mut fields) = page.form();
        for (name, value) in typed {
            let field = fields.iter_mut().find(|(found, _)| found == name);
            let (_, field) = field.unwrap_or_else(|| panic!("no field {name} in {}", page.text()));
            (*value).clone_into(field);
        }
        self.post(&action, &fields).await
    }

    /// Follows redirects while `further` accepts the next URL.
    pub async fn follow(&mut self, mut page: Page, further: impl Fn(&str) -> bool) -> Page {
        for _ in 0..REDIRECTS_MAX {
            if !matches!(page.status, 302 | 303) || !further(&page.location()) {
                return page;
            }
            page = self.get(&page.location()).await;
        }
        panic!("more redirects than any sign-in has: {}", page.url);
    }

    /// A request of zot's page, with the header that makes the session valid.
    pub async fn ui(&mut self, method: Method, url: &str, body: &str) -> Page {
        self.send(method, url, &[("x-zot-api-client", "zot-ui")], body.to_owned()).await
    }
}

/// Name and password in an `Authorization` header, as OAuth encodes them there (RFC 6749, 2.3.1).
pub fn basic(header: &str) -> Option<(String, String)> {
    let encoded = header.strip_prefix("Basic ")?;
    let text = String::from_utf8(STANDARD.decode(encoded).ok()?).ok()?;
    let (name, password) = text.split_once(':')?;
    let decode = |part: &str| percent_decode_str(part).decode_utf8_lossy().into_owned();
    Some((decode(name), decode(password)))
}
