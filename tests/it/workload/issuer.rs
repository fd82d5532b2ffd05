//! An issuer of workload tokens of a test's own: its metadata and keys over HTTP, and its tokens.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::support::issuer::Private;

/// The name of registries at the issuer.
pub const AUDIENCE: &str = "registry.test";

#[derive(Debug, Default)]
struct State {
    keys: Vec<Value>,
    /// Replaces fields of the metadata.
    metadata: Value,
    is_down: bool,
    /// Requests get no answer.
    hangs: bool,
    has_ended: bool,
    /// The requests so far.
    requests: usize,
}

/// An issuer that ends on drop. Its key `r1` signs by default.
pub struct Issuer {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    pub rsa: Private,
}

impl Issuer {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, rsa) = (listener.local_addr().unwrap(), Private::rsa());
        let state = State { keys: vec![signing(&rsa, "r1", "RS256")], metadata: json!({}), ..State::default() };
        let state = Arc::new(Mutex::new(state));
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if shared.lock().unwrap().has_ended {
                    return;
                }
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || answer(address, &shared, stream.unwrap()));
            }
        });
        Self { address, state, rsa }
    }

    pub fn url(&self) -> String {
        url(self.address)
    }

    pub fn set_keys(&self, keys: Vec<Value>) {
        self.state.lock().unwrap().keys = keys;
    }

    /// Answers every request with 500, or stops doing so.
    pub fn set_down(&self, is_down: bool) {
        self.state.lock().unwrap().is_down = is_down;
    }

    /// Answers no request, or does so again.
    pub fn set_hanging(&self, hangs: bool) {
        self.state.lock().unwrap().hangs = hangs;
    }

    pub fn set_metadata(&self, changes: Value) {
        self.state.lock().unwrap().metadata = changes;
    }

    pub fn requests(&self) -> usize {
        self.state.lock().unwrap().requests
    }

    /// The claims of a job in `org/app` on its main branch. `null` removes a claim.
    pub fn claims(&self, changes: &Value) -> Value {
        let mut claims = json!({
            "iss": self.url(),
            "aud": AUDIENCE,
            "sub": "repo:org/app:ref:refs/heads/main",
            "repository": "org/app",
            "ref": "refs/heads/main",
            "iat": now(),
            "nbf": now(),
            "exp": now() + 300,
        });
        let fields = claims.as_object_mut().unwrap();
        fields.extend(changes.as_object().unwrap().clone());
        fields.retain(|_, value| !value.is_null());
        claims
    }

    /// A token with these changes to the claims.
    pub fn token(&self, changes: &Value) -> String {
        self.rsa.token("RS256", &json!({ "kid": "r1" }), &self.claims(changes))
    }

    /// A configuration that accepts the issuer with these rules, which are TOML.
    pub fn settings(&self, more: &str, rules: &str) -> String {
        format!(
            "[[http.auth.bearer.oidc]]\nissuer = '{}'\naudiences = ['other', '{AUDIENCE}']\n{more}\nrules = [{rules}]\n",
            self.url()
        )
    }
}

impl std::fmt::Debug for Issuer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issuer").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Drop for Issuer {
    fn drop(&mut self) {
        self.state.lock().unwrap().has_ended = true;
        let _ = TcpStream::connect(self.address);
    }
}

/// A key in the form of a JWKS, for signatures of one algorithm.
pub fn signing(key: &Private, kid: &str, algorithm: &str) -> Value {
    let mut jwk = key.jwk(kid);
    jwk["alg"] = algorithm.into();
    jwk["use"] = "sig".into();
    jwk
}

pub fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

fn url(address: SocketAddr) -> String {
    format!("http://{address}")
}

fn answer(address: SocketAddr, state: &Mutex<State>, mut stream: TcpStream) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let first = lines.next().transpose()?.unwrap_or_default();
    for line in lines {
        if line?.is_empty() {
            break;
        }
    }
    state.lock().unwrap().requests += 1;
    while state.lock().unwrap().hangs {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let (status, body) = {
        let state = state.lock().unwrap();
        let path = first.split(' ').nth(1).unwrap_or_default();
        match path {
            _ if state.is_down => (500, json!({})),
            "/.well-known/openid-configuration" => {
                let mut metadata = json!({ "issuer": url(address), "jwks_uri": format!("{}/keys", url(address)) });
                metadata.as_object_mut().unwrap().extend(state.metadata.as_object().unwrap().clone());
                (200, metadata)
            }
            "/keys" => (200, json!({ "keys": state.keys })),
            _ => (404, json!({})),
        }
    };
    let body = body.to_string();
    write!(stream, "HTTP/1.1 {status} x\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
}
