//! The client of the registry's HTTP API.

use hyper::header::{self, HeaderMap};
use hyper::{Method, Request};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::address::RemoteRegistry;
use crate::kit::opaque_debug::opaque_debug;
use crate::kit::outgoing::{self, CertificateFault, Client};
use crate::kit::text::printable;

const CSRF_TOKEN: &str = "x-csrf-token";
const NEXT_CSRF_TOKEN: &str = "x-next-csrf-token";
const SESSION_COOKIE: &str = "session";

/// A connection to a registry, with the session if there is one.
pub(in crate::cli) struct Api {
    client: Client,
    registry: RemoteRegistry,
    cookie: Option<Zeroizing<String>>,
    csrf: Option<Zeroizing<String>>,
    /// The warning of the last response.
    warning: Option<String>,
}

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum Failure {
    /// The registry refused it.
    #[error("{why}")]
    Refused { status: u16, why: String },
    /// There was no response.
    #[error("{}", no_response(_0))]
    NoResponse(outgoing::Error),
    /// The response is not that of a coracle registry.
    #[error("{_0}")]
    Other(String),
}

fn no_response(error: &outgoing::Error) -> String {
    let outgoing::Error::Certificate { host, fault: CertificateFault::Untrusted, cause } = error else {
        return printable(&error.to_string());
    };
    format!("the certificate of {host} is not trusted ({}): name it with --ca FILE", printable(cause))
}

/// The ways to sign in.
#[derive(Debug)]
pub(super) struct Ways {
    pub(super) password: bool,
    /// The longest lifetime of a key in seconds, if there is a limit.
    pub(super) key_lifetime_max: Option<u64>,
    pub(super) providers: Vec<Provider>,
}

/// An identity provider.
#[derive(Clone, Debug)]
pub(super) struct Provider {
    pub(super) name: String,
    /// The name to show.
    pub(super) title: String,
    /// Whether it supports sign-in on another device.
    pub(super) device: bool,
}

/// A new API key.
pub(super) struct NewKey {
    pub(super) id: String,
    pub(super) secret: Zeroizing<String>,
    /// When it expires.
    pub(super) expiration: Option<String>,
    /// Why it grants nothing.
    pub(super) warning: Option<String>,
}

opaque_debug!(Api { registry });

impl Api {
    pub(in crate::cli) fn new(client: Client, registry: RemoteRegistry) -> Self {
        Self { client, registry, cookie: None, csrf: None, warning: None }
    }

    pub(super) async fn ways(&mut self) -> Result<Ways, Failure> {
        let answer = match self.call(Method::GET, "/api/v1/signin/providers", None).await {
            Err(Failure::Refused { status: 404, .. }) => return Err(self.other()),
            answer => answer?,
        };
        let provider = |value: &Value| {
            let name = value["name"].as_str()?.to_owned();
            let title = printable(value["title"].as_str().unwrap_or(&name));
            Some(Provider { name, title, device: value["device"] == true })
        };
        let providers = answer["providers"].as_array().ok_or_else(|| self.other())?;
        Ok(Ways {
            password: answer["password"] == true,
            key_lifetime_max: answer["key_lifetime_max"].as_u64(),
            providers: providers.iter().filter_map(provider).collect(),
        })
    }

    /// Starts a session with a password.
    pub(super) async fn sign_in(&mut self, user: &str, password: &str) -> Result<(), Failure> {
        self.post("/api/v1/signin", &json!({ "username": user, "password": password })).await.map(drop)
    }

    /// Sends a POST request with a CSRF token, which may start a session.
    pub(super) async fn post(&mut self, path: &str, body: &Value) -> Result<Value, Failure> {
        if self.csrf.is_none() {
            let answer = self.call(Method::GET, "/csrf_token", None).await?;
            let token = answer["csrf_token"].as_str().ok_or_else(|| self.other())?;
            self.csrf = Some(Zeroizing::new(token.to_owned()));
        }
        self.call(Method::POST, path, Some(body)).await
    }

    /// The name of the signed-in user.
    pub(super) async fn whoami(&mut self) -> Result<String, Failure> {
        let answer = self.call(Method::GET, "/api/v1/user/", None).await?;
        let name = answer["username"].as_str().ok_or_else(|| self.other())?;
        // The name becomes part of `<name>:<key>`, and is printed.
        if name.is_empty() || name.contains(':') || name.chars().any(char::is_control) {
            return Err(Failure::Other(format!("docker and podman cannot use the user name {:?}", printable(name))));
        }
        Ok(name.to_owned())
    }

    pub(super) async fn make_key(
        &mut self,
        label: &str,
        scopes: &[String],
        lifetime_seconds: u64,
    ) -> Result<NewKey, Failure> {
        let mut body = json!({ "title": label, "lifetime": lifetime_seconds });
        if !scopes.is_empty() {
            body["scopes"] = scopes.into();
        }
        let mut answer = self.post("/api/v1/user/apptoken", &body).await?;
        let token = &mut answer["token"];
        let (Value::String(secret), Some(id)) = (token["token_code"].take(), token["uuid"].as_str()) else {
            return Err(self.other());
        };
        let expiration = token["expiration"].as_str().map(|time| {
            let time = jiff::fmt::rfc2822::parse(time).map(|time| time.timestamp());
            time.map_or_else(|_| "-".to_owned(), |time| time.strftime("%Y-%m-%d %H:%M UTC").to_string())
        });
        Ok(NewKey { id: id.to_owned(), secret: Zeroizing::new(secret), expiration, warning: self.warning.take() })
    }

    pub(super) async fn revoke_key(&mut self, id: &str) -> Result<(), Failure> {
        self.call(Method::DELETE, &format!("/api/v1/user/apptoken/{id}"), None).await.map(drop)
    }

    /// Ends the session.
    pub(super) async fn sign_out(&mut self) -> Result<(), Failure> {
        self.post("/api/v1/signout", &json!({})).await?;
        (self.cookie, self.csrf) = (None, None);
        Ok(())
    }

    /// Revokes a key with the key itself. A key that the registry does not know is revoked already.
    pub(in crate::cli) async fn end_key(&mut self, id: &str, key: &str) -> Result<(), Failure> {
        let mut request = self.request(Method::DELETE, &format!("/api/v1/user/apptoken/{id}"), None)?;
        let bearer = Zeroizing::new(format!("Bearer {key}"));
        let bearer = header::HeaderValue::from_str(&bearer)
            .map_err(|_| Failure::Other("the stored credentials are not an API key".to_owned()))?;
        request.headers_mut().insert(header::AUTHORIZATION, bearer);
        match self.send(request).await {
            Err(Failure::Refused { status: 401, .. }) => Ok(()),
            answer => answer.map(drop),
        }
    }

    async fn call(&mut self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, Failure> {
        let mut request = self.request(method, path, body)?;
        let value = |text: &str| {
            header::HeaderValue::from_str(text)
                .map_err(|_| Failure::Other("the cookie of the registry is invalid".to_owned()))
        };
        if let Some(cookie) = &self.cookie {
            let cookie = Zeroizing::new(format!("{SESSION_COOKIE}={}", **cookie));
            request.headers_mut().insert(header::COOKIE, value(&cookie)?);
        }
        if let Some(csrf) = &self.csrf {
            request.headers_mut().insert(CSRF_TOKEN, value(csrf)?);
        }
        self.send(request).await
    }

    fn request(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Request<Vec<u8>>, Failure> {
        let url = format!("{}{path}", self.registry.url);
        let request = Request::builder().method(method).uri(url).header(header::ACCEPT, "application/json");
        let request = match body {
            Some(body) => request.header(header::CONTENT_TYPE, "application/json").body(body.to_string().into_bytes()),
            None => request.body(Vec::new()),
        };
        request.map_err(|error| Failure::Other(error.to_string()))
    }

    async fn send(&mut self, request: Request<Vec<u8>>) -> Result<Value, Failure> {
        let response = self.client.send(request).await.map_err(Failure::NoResponse)?;
        let (head, body) = response.into_parts();
        self.remember(&head.headers);
        let status = head.status.as_u16();
        let said: Option<Value> = serde_json::from_slice(&body).ok();
        match said {
            Some(said) if head.status.is_success() => Ok(said),
            None if head.status.is_success() && body.is_empty() => Ok(Value::Null),
            Some(said) if said["detail"].is_string() || said["error_message"].is_string() => {
                let why = said["detail"].as_str().or_else(|| said["error_message"].as_str()).unwrap_or_default();
                Err(Failure::Refused { status, why: printable(why) })
            }
            // Another registry, or a proxy.
            _ if status == 404 => Err(Failure::Refused { status, why: self.other().to_string() }),
            _ => Err(Failure::Other(format!(
                "{} is not a coracle registry: it answered with status {status}",
                self.host()
            ))),
        }
    }

    /// Stores the cookie and the CSRF token of a response.
    fn remember(&mut self, headers: &HeaderMap) {
        for cookie in headers.get_all(header::SET_COOKIE) {
            let pair = cookie.to_str().ok().and_then(|cookie| cookie.split(';').next());
            if let Some((SESSION_COOKIE, value)) = pair.and_then(|pair| pair.split_once('=')) {
                self.cookie = Some(Zeroizing::new(value.to_owned())).filter(|value| !value.is_empty());
            }
        }
        let warning = headers.get(header::WARNING).and_then(|warning| warning.to_str().ok());
        let text = |warning: &str| printable(warning.trim_start_matches("299 - ").trim_matches('"'));
        self.warning = warning.map(text);
        if let Some(token) = headers.get(NEXT_CSRF_TOKEN).and_then(|token| token.to_str().ok()) {
            self.csrf = Some(Zeroizing::new(token.to_owned()));
        }
    }

    pub(super) fn host(&self) -> &str {
        &self.registry.host
    }

    pub(super) fn url(&self) -> &str {
        &self.registry.url
    }

    fn other(&self) -> Failure {
        let host = self.host();
        Failure::Other(format!("{host} is not a coracle registry with this sign-in: use docker login"))
    }
}
