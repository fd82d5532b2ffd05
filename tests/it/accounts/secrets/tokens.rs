//! Tokens among the secrets: what `/v2/auth` gives, where it may be sent by mistake, and the key it is signed with.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::search::Search;
use super::{DORAS, Subject, planted, text};
use crate::support::http::{Answer, Caller};

/// Forms that cannot be read, or give nothing, in which a secret stands.
const FORMS: &[&str] = &[
    "$S",
    "$S=x",
    r#"{"grant_type": "password", "username": "dora", "password": "$S"}"#,
    "grant_type=$S",
    "grant_type=password&username=dora&password=$S%zz",
    "grant_type=password&username=dora&password=$S%ff",
    "grant_type=password&username=dora&password=$S&password=$S",
    "grant_type=password&password=$S",
    "grant_type=password&username=$S",
    "grant_type=password&username=$S&password=x",
    "grant_type=password&username=dora&password=$S&service=another.example",
    "grant_type=password&username=dora&password=$S&scope=nonsense",
    "grant_type=refresh_token&refresh_token=$S",
    "grant_type=refresh_token&refresh_token=$S&refresh_token=$S",
    "grant_type=refresh_token&password=$S",
    "grant_type=authorization_code&code=$S",
    "grant_type=client_credentials&client_secret=$S",
];

/// The secret parts of a token: the whole token, and its signature.
fn plant_token(search: &mut Search, answer: &Answer, refresh: bool) -> [String; 2] {
    let json = answer.json();
    let token = text(&json, "token").to_owned();
    let refresh = if refresh { text(&json, "refresh_token").to_owned() } else { String::new() };
    let mut new = vec![("a token", &*token, 2)];
    new.extend((!refresh.is_empty()).then_some(("a refresh token", &*refresh, 1)));
    search.shows_times(answer, &new);
    search.plant("a token's signature", token.rsplit('.').next().unwrap());
    [token, refresh]
}

/// Gets tokens in both ways, and plants them: a token and a refresh token.
pub(super) async fn given(search: &mut Search, user: &Caller, name: &str, password: &str) -> Vec<String> {
    let scope = "scope=repository:dora/a:pull,push&scope=registry:catalog:*";
    let answer = user.get(&format!("/v2/auth?offline_token=true&client_id=docker&{scope}")).send().await.status(200);
    let mut secrets = plant_token(search, &answer, true).to_vec();
    let plain: String = utf8_percent_encode(password, NON_ALPHANUMERIC).collect();
    let form = format!("grant_type=password&username={name}&password={plain}&access_type=offline&{scope}");
    let form = form.replacen("&scope=registry", "+registry", 1);
    let answer = user.post("/v2/token").body(form).send().await.status(200);
    secrets.extend(plant_token(search, &answer, true));
    let by_refresh = format!("grant_type=refresh_token&refresh_token={}&{scope}", secrets[3]);
    let by_refresh = by_refresh.replacen("&scope=registry", "+registry", 1);
    let answer = user.post("/v2/auth").body(by_refresh).send().await.status(200);
    // The same refresh token is returned to its holder.
    let json = answer.json();
    search.shows_times(&answer, &[("a token", text(&json, "token"), 2), ("a refresh token", &secrets[3], 1)]);
    secrets.push(text(&json, "token").to_owned());
    secrets
}

impl Subject<'_> {
    /// Tokens as they are meant, as they are mistaken, and as others change them.
    pub(super) async fn tokens(&mut self) {
        let anonymous = self.running.anonymous();
        let dora = self.running.user(("dora", DORAS[0]));
        let secrets = given(&mut self.search, &dora, "dora", DORAS[0]).await;
        let bearer = format!("Bearer {}", secrets[0]);
        let request = anonymous.get("/v2/dora/a/tags/list").header("authorization", bearer);
        self.search.answer(&request.send().await.status(200));
        let mut requests = Vec::new();
        for secret in &secrets {
            let mut changed = vec![secret.clone(), format!("{secret}x"), secret[1..].to_owned()];
            if let Some((rest, _)) = secret.rsplit_once('.') {
                changed.push(format!("{rest}."));
                changed.push(format!("{rest}.{}", "A".repeat(86)));
            }
            for sent in changed {
                for path in ["/v2/", "/v2/dora/a/tags/list", "/v2/erin/x/tags/list", "/v2/auth", "/zot/auth/apikey"] {
                    requests.push(anonymous.get(path).header("authorization", format!("Bearer {sent}")));
                }
                for path in ["/api/v1/user/", "/api/v1/superuser/logs", "/metrics", "/nowhere"] {
                    requests.push(anonymous.get(path).header("authorization", format!("Bearer {sent}")));
                }
                let cookie = format!("session={sent}; token={sent}");
                requests.push(anonymous.get("/v2/").header("cookie", cookie));
                for path in ["/v2/", "/v2/auth", "/v2/dora/a/tags/list", "/api/v1/user/"] {
                    for name in ["token", "access_token", "refresh_token", "service", "account", "id"] {
                        requests.push(anonymous.get(&format!("{path}?{name}={sent}")));
                    }
                }
                for form in ["grant_type=refresh_token&refresh_token=", "token=", ""] {
                    requests.push(anonymous.post("/v2/auth").body(format!("{form}{sent}")));
                }
            }
        }
        for body in FORMS {
            requests.push(anonymous.post("/v2/auth").body(planted(&mut self.search, body)));
        }
        for request in requests {
            let answer = request.send().await;
            // The tokens for a refresh token are new secrets.
            let json: Value = serde_json::from_str(&answer.text()).unwrap_or_default();
            if json["token"].is_string() {
                let token = text(&json, "token").to_owned();
                let again = json["refresh_token"].as_str().map_or("no refresh token", |token| token).to_owned();
                self.search.shows_times(&answer, &[("a token", &token, 2), ("a refresh token", &again, 1)]);
            } else {
                self.search.answer(&answer);
            }
        }
    }

    /// The private signing keys, from the database, which is the only place that has them. They are found next to their
    /// public half, in the order of RFC 5915 and RFC 5958.
    pub(super) async fn public_keys(&mut self) -> Vec<Vec<u8>> {
        let answer = self.running.anonymous().get("/.well-known/jwks.json").send().await.status(200);
        self.search.answer(&answer);
        let keys = answer.json();
        let point = |key: &Value| [text(key, "x"), text(key, "y")].map(|half| URL_SAFE_NO_PAD.decode(half).unwrap());
        keys["keys"].as_array().unwrap().iter().map(|key| point(key).concat()).collect()
    }
}

/// Plants the private halves of these keys, and takes them out of the database, where they have to be.
pub(super) fn plant_signing_keys(search: &mut Search, public: &[Vec<u8>], database: &mut [u8]) {
    const BETWEEN: [u8; 6] = [0xa1, 0x44, 0x03, 0x42, 0x00, 0x04];
    for point in public {
        let whole = [&BETWEEN[..], point].concat();
        let at = database.windows(whole.len()).position(|window| window == whole);
        let at = at.expect("the key is in the database, for tokens that survive a restart");
        let private = database[at - 32..at].to_vec();
        assert_eq!(database[at - 34..at - 32], [0x04, 0x20], "a number of 32 bytes stands before it");
        // A rewritten page may also exist in its earlier form.
        while let Some(at) = database.windows(32).position(|window| window == private) {
            database[at..at + 32].fill(0);
        }
        search.plant_bytes("a key that signs tokens", &private);
        assert!(!search.in_bytes(&private).is_empty());
    }
}
