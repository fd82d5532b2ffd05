//! An OpenID provider that can lie. Every response is valid until a test changes it.
//!
//! A browser is redirected back at once with a code, as the configured user. Codes are valid once and bound to client,
//! redirect URI and PKCE challenge, so a registry that omits one of them fails even with the honest provider. Requests
//! are recorded.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::agent;
use super::player::{Answer, Asked, Player, Reply};
use crate::support::issuer::{Private, encode};

/// The client id and secret of registries.
pub const CLIENT: (&str, &str) = ("registry-client", "s3cret-of-the-client-at-the-hostile-one");

/// The device code and user code.
pub const DEVICE_CODE: &str = "device-s3cret-5eed";

/// How an ID token is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signing {
    Right,
    /// `alg: none`, and an empty signature.
    Unsigned,
    /// Uses an unknown key under the id of a published one.
    Foreign,
    /// HMAC with the public key in PEM as the secret, the classic confusion.
    PublicKeyAsSecret,
    /// HMAC with the client's secret: valid in itself, but not what the metadata announces.
    ClientSecret,
    /// Uses a key from the token's own header.
    Embedded,
    /// A signature with a valid beginning.
    Broken,
    /// Names a key id that is not published.
    UnknownKey,
}

/// The parameters of a query in their order.
type Parameters = Vec<(String, String)>;

/// The parts of the provider that a test can change.
pub struct Script {
    /// The claims of the user, with the subject.
    pub claims: Value,
    /// Changes the claims of an ID token before it is signed.
    pub id_token: Box<dyn Fn(&mut Value) + Send>,
    /// Changes the response of userinfo.
    pub userinfo: Box<dyn Fn(&mut Value) + Send>,
    /// Changes the discovery document.
    pub discovery: Box<dyn Fn(&mut Value) + Send>,
    /// Changes the parameters of the redirect back.
    pub redirect: Box<dyn Fn(&mut Parameters) + Send>,
    /// Changes the response of the token endpoint.
    pub tokens: Box<dyn Fn(&mut Value) + Send>,
    pub signing: Signing,
    /// Replaces the response of a path.
    pub replies: HashMap<&'static str, Reply>,
    /// Whether it issues refresh tokens.
    pub refresh_tokens: bool,
    /// The responses to polls for another device, in order. The last one is repeated. Each is an error code of RFC 8628
    /// or `done`.
    pub device: Vec<&'static str>,
    /// Whether the user is gone, so that refresh tokens are refused.
    pub gone: bool,
    /// Whether it checks the bindings of a code.
    pub binds: bool,
    keys: Keys,
    codes: HashMap<String, Grant>,
    refresh: Vec<String>,
    made: u32,
    asked: Vec<Asked>,
}

struct Keys {
    private: Private,
    kid: String,
}

#[derive(Clone, Debug)]
struct Grant {
    redirect_uri: String,
    nonce: String,
    challenge: String,
}

/// A running provider, which ends on drop.
pub struct Hostile {
    pub player: Player,
    script: Arc<Mutex<Script>>,
}

impl std::fmt::Debug for Hostile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Hostile").field(&self.player).finish()
    }
}

/// Mallory, an honest user while nothing is changed.
pub fn mallory() -> Value {
    json!({
        "sub": "subject-of-mallory",
        "email": "mallory@example.org",
        "email_verified": true,
        "preferred_username": "mallory",
        "groups": ["guests"],
    })
}

/// The unchanged provider.
fn straight<T>() -> Box<dyn Fn(&mut T) + Send> {
    Box::new(|_| {})
}

impl Hostile {
    /// An honest provider with [`mallory`].
    pub async fn start() -> Self {
        let script = Arc::new(Mutex::new(Script::straight()));
        let shared = Arc::clone(&script);
        let player = Player::start(move |asked| shared.lock().unwrap().reply(&asked)).await;
        Self { player, script }
    }

    pub fn issuer(&self) -> String {
        self.player.url()
    }

    /// Changes it.
    pub fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap()
    }

    /// Makes it honest again, with the same keys and the same user.
    pub fn straighten(&self) {
        let mut script = self.script();
        let old = std::mem::replace(&mut *script, Script::straight());
        let Script { claims, keys, codes, refresh, made, asked, .. } = old;
        *script = Script { claims, keys, codes, refresh, made, asked, ..Script::straight() };
    }

    /// Replaces the response of a path.
    pub fn reply(&self, path: &'static str, reply: impl Into<Reply>) {
        self.script().replies.insert(path, reply.into());
    }

    /// Signs with a new key from now on and removes the old one.
    pub fn rotate(&self) {
        let mut script = self.script();
        script.made += 1;
        script.keys = Keys { private: Private::p256(), kid: format!("key-{}", script.made + 1) };
    }

    /// The requests to this path.
    pub fn asked(&self, path: &str) -> Vec<Asked> {
        self.script().asked.iter().filter(|asked| asked.path == path).cloned().collect()
    }
}

fn now() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap()
}

fn is_client(asked: &Asked) -> bool {
    let form = (asked.form("client_id"), asked.form("client_secret"));
    agent::basic(&asked.header("authorization")).unwrap_or(form) == (CLIENT.0.to_owned(), CLIENT.1.to_owned())
}

fn error(status: u16, code: &str) -> Reply {
    Answer::json(status, &json!({ "error": code })).header("cache-control", "no-store").into()
}

impl Script {
    fn straight() -> Self {
        Self {
            claims: mallory(),
            id_token: straight(),
            userinfo: straight(),
            discovery: straight(),
            redirect: straight(),
            tokens: straight(),
            signing: Signing::Right,
            replies: HashMap::new(),
            refresh_tokens: false,
            device: vec!["authorization_pending"],
            gone: false,
            binds: true,
            keys: Keys { private: Private::rsa(), kid: "key-1".to_owned() },
            codes: HashMap::new(),
            refresh: Vec::new(),
            made: 0,
            asked: Vec::new(),
        }
    }

    fn reply(&mut self, asked: &Asked) -> Reply {
        let known =
            ["/.well-known/openid-configuration", "/authorize", "/jwks", "/token", "/userinfo", "/end", "/device"];
        let path = known.into_iter().find(|path| *path == asked.path);
        self.asked.push(asked.clone());
        let Some(path) = path else { return error(404, "not_found") };
        if let Some(reply) = self.replies.get(path) {
            return reply.clone();
        }
        let issuer = format!("http://{}", asked.header("host"));
        match path {
            "/.well-known/openid-configuration" => {
                let mut document = json!({
                    "issuer": issuer,
                    "authorization_endpoint": format!("{issuer}/authorize"),
                    "token_endpoint": format!("{issuer}/token"),
                    "jwks_uri": format!("{issuer}/jwks"),
                    "userinfo_endpoint": format!("{issuer}/userinfo"),
                    "end_session_endpoint": format!("{issuer}/end"),
                    "device_authorization_endpoint": format!("{issuer}/device"),
                    "response_types_supported": ["code"],
                    "subject_types_supported": ["public"],
                    "id_token_signing_alg_values_supported": ["RS256", "ES256"],
                    "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
                    "code_challenge_methods_supported": ["S256"],
                    "authorization_response_iss_parameter_supported": true,
                    "scopes_supported": ["openid", "email", "profile", "groups", "offline_access"],
                });
                (self.discovery)(&mut document);
                Answer::json(200, &document).into()
            }
            "/jwks" => {
                let mut key = self.keys.private.jwk(&self.keys.kid);
                key["use"] = json!("sig");
                Answer::json(200, &json!({ "keys": [key] })).into()
            }
            "/authorize" => self.authorize(asked, &issuer),
            "/token" => self.token(asked, &issuer),
            "/device" if !is_client(asked) => error(401, "invalid_client"),
            "/device" => Answer::json(
                200,
                &json!({
                    "device_code": DEVICE_CODE,
                    "user_code": "WDJB-MJHT",
                    "verification_uri": format!("{issuer}/activate"),
                    "verification_uri_complete": format!("{issuer}/activate?user_code=WDJB-MJHT"),
                    "expires_in": 600,
                    "interval": 1,
                }),
            )
            .into(),
            "/userinfo" => {
                if !asked.header("authorization").starts_with("Bearer access-") {
                    return error(401, "invalid_token");
                }
                let mut claims = self.claims.clone();
                (self.userinfo)(&mut claims);
                Answer::json(200, &claims).into()
            }
            _ => Answer::html(200, "signed out").into(),
        }
    }

    fn authorize(&mut self, asked: &Asked, issuer: &str) -> Reply {
        for (name, value) in [("client_id", CLIENT.0), ("response_type", "code"), ("code_challenge_method", "S256")] {
            assert_eq!(asked.query(name), value, "{name} of {asked:?}");
        }
        assert!(asked.query("scope").split(' ').any(|scope| scope == "openid"), "{asked:?}");
        let [redirect_uri, nonce, challenge] =
            ["redirect_uri", "nonce", "code_challenge"].map(|name| asked.query(name));
        let code = self.code(&redirect_uri, &nonce, &challenge);
        let mut parameters = vec![
            ("code".to_owned(), code),
            ("state".to_owned(), asked.query("state")),
            ("iss".to_owned(), issuer.to_owned()),
        ];
        (self.redirect)(&mut parameters);
        Answer::redirect(&format!("{redirect_uri}?{}", agent::encode(&parameters))).into()
    }

    fn code(&mut self, redirect_uri: &str, nonce: &str, challenge: &str) -> String {
        self.made += 1;
        let code = format!("code-{:024x}", 0x5eed_0000_0000_0000_u64 + u64::from(self.made));
        let [redirect_uri, nonce, challenge] = [redirect_uri, nonce, challenge].map(str::to_owned);
        self.codes.insert(code.clone(), Grant { redirect_uri, nonce, challenge });
        code
    }

    fn token(&mut self, asked: &Asked, issuer: &str) -> Reply {
        if !is_client(asked) {
            return error(401, "invalid_client");
        }
        let nonce = match &*asked.form("grant_type") {
            "authorization_code" => {
                // The first request uses it up, also a refused one.
                let Some(grant) = self.codes.remove(&asked.form("code")) else { return error(400, "invalid_grant") };
                let hashed = URL_SAFE_NO_PAD.encode(digest(&SHA256, asked.form("code_verifier").as_bytes()));
                if self.binds && (grant.redirect_uri != asked.form("redirect_uri") || grant.challenge != hashed) {
                    return error(400, "invalid_grant");
                }
                Some(grant.nonce)
            }
            "refresh_token" => {
                let known = self.refresh.iter().position(|token| *token == asked.form("refresh_token"));
                let Some(at) = known.filter(|_| !self.gone) else { return error(400, "invalid_grant") };
                self.refresh.remove(at);
                None
            }
            "urn:ietf:params:oauth:grant-type:device_code" => {
                assert_eq!(asked.form("device_code"), DEVICE_CODE);
                let said = if self.device.len() > 1 { self.device.remove(0) } else { self.device[0] };
                if said != "done" {
                    return error(400, said);
                }
                None
            }
            _ => return error(400, "unsupported_grant_type"),
        };
        self.made += 1;
        let access = format!("access-s3cret-{:024x}", 0xacce_0000_0000_0000_u64 + u64::from(self.made));
        let mut answer = json!({
            "access_token": access,
            "token_type": "Bearer",
            "expires_in": 3600,
            "id_token": self.id_token(issuer, nonce.as_deref()),
        });
        if self.refresh_tokens {
            let refresh = format!("refresh-s3cret-{:024x}", 0x4ef4_0000_0000_0000_u64 + u64::from(self.made));
            answer["refresh_token"] = json!(refresh);
            self.refresh.push(refresh);
        }
        (self.tokens)(&mut answer);
        Answer::json(200, &answer).header("cache-control", "no-store").into()
    }

    fn id_token(&self, issuer: &str, nonce: Option<&str>) -> String {
        let now = now();
        let mut claims = self.claims.clone();
        let usual = json!({ "iss": issuer, "aud": CLIENT.0, "iat": now, "exp": now + 300 });
        claims.as_object_mut().unwrap().extend(usual.as_object().unwrap().clone());
        if let Some(nonce) = nonce {
            claims["nonce"] = json!(nonce);
        }
        (self.id_token)(&mut claims);
        let key = &self.keys.private;
        let algorithm = if matches!(key, Private::Rsa(_)) { "RS256" } else { "ES256" };
        let header = json!({ "kid": self.keys.kid });
        let hmac = |secret: &[u8]| {
            let encoded = encode(&json!({ "typ": "JWT", "alg": "HS256", "kid": self.keys.kid }), &claims);
            let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), encoded.as_bytes());
            format!("{encoded}.{}", URL_SAFE_NO_PAD.encode(tag))
        };
        match self.signing {
            Signing::Right => key.token(algorithm, &header, &claims),
            Signing::Unsigned => encode(&json!({ "typ": "JWT", "alg": "none" }), &claims) + ".",
            Signing::Foreign => Private::rsa().token("RS256", &header, &claims),
            Signing::Embedded => {
                let own = Private::rsa();
                own.token("RS256", &json!({ "kid": "mine", "jwk": own.jwk("mine") }), &claims)
            }
            Signing::PublicKeyAsSecret => hmac(key.public_pem().as_bytes()),
            Signing::ClientSecret => hmac(CLIENT.1.as_bytes()),
            Signing::Broken => {
                let token = key.token(algorithm, &header, &claims);
                let (rest, last) = token.split_at(token.len() - 8);
                format!("{rest}{}", if last == "AAAAAAAA" { "BBBBBBBB" } else { "AAAAAAAA" })
            }
            Signing::UnknownKey => key.token(algorithm, &json!({ "kid": "unknown-key" }), &claims),
        }
    }
}

/// Tests the provider without a registry: it is honest while nothing is changed.
#[tokio::test]
async fn the_hostile_provider_is_honest_until_it_is_changed_and_can_leave_and_return() {
    let mut hostile = Hostile::start().await;
    let issuer = hostile.issuer();
    let mut agent = agent::Agent::default();
    let redirect = "http://127.0.0.1:9/callback";
    let verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    let query = [
        ("client_id", CLIENT.0),
        ("response_type", "code"),
        ("scope", "openid"),
        ("redirect_uri", redirect),
        ("nonce", "n"),
        ("code_challenge", "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"),
        ("code_challenge_method", "S256"),
    ];
    let mut signed_in = async |changed: &[(&str, &str)]| {
        let location = agent.get(&format!("{issuer}/authorize?{}", agent::encode(&query))).await.status(302).location();
        let code = agent::parameter(&location, "code").unwrap();
        let mut form = vec![
            ("grant_type", "authorization_code"),
            ("redirect_uri", redirect),
            ("code_verifier", verifier),
            ("client_id", CLIENT.0),
            ("client_secret", CLIENT.1),
            ("code", &code),
        ];
        form.retain(|(name, _)| changed.iter().all(|(other, _)| other != name));
        agent.post(&format!("{issuer}/token"), &[&form, changed].concat()).await
    };
    for (name, value) in [("code_verifier", "x"), ("redirect_uri", "http://127.0.0.1:9/other"), ("code", "x")] {
        assert_eq!(signed_in(&[(name, value)]).await.status(400).json()["error"], "invalid_grant", "{name}");
    }
    assert_eq!(signed_in(&[("client_secret", "x")]).await.status(401).json()["error"], "invalid_client");
    let answer = signed_in(&[]).await.status(200).json();
    let parts: Vec<&str> = answer["id_token"].as_str().unwrap().split('.').collect();
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(parts[1]).unwrap()).unwrap();
    assert_eq!((&claims["nonce"], &claims["aud"], parts.len()), (&json!("n"), &json!(CLIENT.0), 3));
    hostile.script().signing = Signing::Unsigned;
    assert!(signed_in(&[]).await.json()["id_token"].as_str().unwrap().ends_with('.'));
    hostile.player.leave().await;
    let away = agent::fetch(hyper::Method::GET, &issuer, &hyper::HeaderMap::new(), "").await;
    assert!(away.is_err(), "{away:?}");
    hostile.player.resume().await;
    agent.get(&format!("{issuer}/jwks")).await.status(200);
}
