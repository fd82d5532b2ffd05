//! Properties of all tokens and lists of scopes, including tokens that are signed with the registry's own key.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, crypto};
use serde_json::Value;

use super::{InvalidToken, Rules, ScopeRequest, Tokens};
use crate::content::blobs::{SystemDisk, Tree};
use crate::content::rows::Database;
use crate::identity::accounts::Actions;
use crate::kit::clock::Clock;

const ISSUER: &str = "coracle";
const AUDIENCE: &str = "here";
const LIFETIME: u64 = 300;

struct Bench {
    tokens: Tokens,
    clock: Clock,
    _root: tempfile::TempDir,
}

thread_local! {
    static BENCH: Bench = Bench::new();
}

impl Bench {
    fn new() -> Self {
        let root = tempfile::tempdir().expect("a directory");
        let database = Database::open(&Tree::new(root.path()), Arc::new(SystemDisk), false).expect("a new database");
        let clock = Clock::default();
        let rules =
            Rules { lifetime: Duration::from_secs(LIFETIME), issuer: ISSUER.to_owned(), audience: AUDIENCE.to_owned() };
        let tokens = Tokens::open(Arc::new(database), clock.clone(), rules, None).expect("a new database has no key");
        tokens.create_signer().expect("a new key");
        Self { tokens, clock, _root: root }
    }
}

/// Checks an arbitrary token, or a header and claims on two lines, which are signed with the registry's own key. `$KID`
/// stands for the key's id and `$NOW` for the current second.
pub(crate) fn token(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    BENCH.with(|bench| {
        let Some((header, claims)) = text.split_once('\n') else {
            let refused = bench.tokens.verify(text).err();
            assert!(matches!(refused, Some(InvalidToken::Forged)), "it is not signed: {refused:?}");
            return;
        };
        let keys = bench.tokens.keys().expect("it was created");
        let (id, key) = keys.current();
        let now = bench.clock.now().micros() / 1_000_000;
        let fill = |text: &str| URL_SAFE_NO_PAD.encode(text.replace("$KID", id).replace("$NOW", &now.to_string()));
        let signed = format!("{}.{}", fill(header), fill(claims));
        let signature = crypto::sign(signed.as_bytes(), key, Algorithm::ES256).expect("a generated key signs");
        let Ok(grant) = bench.tokens.verify(&format!("{signed}.{signature}")) else { return };
        let header: Value = serde_json::from_str(&header.replace("$KID", id)).expect("an accepted header");
        assert_eq!((&header["alg"], &header["kid"]), (&"ES256".into(), &id.into()));
        assert!(header.get("crit").is_none_or(Value::is_null), "{header}");
        let claims = claims.replace("$NOW", &now.to_string());
        let claims: Value = serde_json::from_str(&claims).expect("accepted claims");
        assert_eq!((&claims["iss"], &claims["aud"]), (&ISSUER.into(), &AUDIENCE.into()));
        let second = |name: &str| claims[name].as_u64().expect("a number");
        // The second may have passed since `now`.
        assert!(second("exp") - second("iat") <= LIFETIME && second("nbf").max(second("iat")) <= now + 2);
        assert!(second("exp") + 60 >= now, "{claims}");
        let named = claims["access"].as_array().expect("a list").iter().filter_map(|entry| entry["name"].as_str());
        let unnamed = "not/named".parse().expect("a name");
        assert!(named.into_iter().any(|name| name == "not/named") || grant.actions(&unnamed) == Actions::NONE);
    });
}

/// Checks values of the parameter `scope`, one per line: only requested and allowed actions are granted.
pub(crate) fn scopes(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let requests = match ScopeRequest::read(text.lines()) {
        Ok(requests) => requests,
        Err(error) => {
            let message = error.to_string();
            assert!(message.len() < 1200 && !message.contains(char::is_control), "{message:?}");
            return;
        }
    };
    assert!(requests.len() <= 100);
    for request in requests {
        let name = request.repository("registry.example:5000");
        if let Some(name) = &name {
            assert!(text.contains(name.as_str()));
        }
        for allowed in [Actions::NONE, Actions::PULL, Actions::PUSH, Actions::CONTENT, Actions::ALL] {
            let given = request.granted(name.as_ref(), allowed);
            for action in &given.actions {
                assert!(text.contains(action.as_str()) || text.contains('*'), "{action} was not asked for");
                let may = match action.as_str() {
                    "pull" => allowed.covers(Actions::PULL),
                    "push" => !allowed.within(Actions::PUSH).is_empty(),
                    "delete" => allowed.covers(Actions::DELETE),
                    "*" => allowed.covers(Actions::ALL),
                    _ => false,
                };
                assert!(may, "{action} is not allowed");
            }
        }
    }
}
