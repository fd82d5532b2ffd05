//! Tests of valid tokens and of all ways to be invalid.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use super::*;
use crate::content::blobs::{SystemDisk, Tree};
use crate::identity::accounts::Actions;

struct Test {
    _root: tempfile::TempDir,
    database: Arc<Database>,
    clock: Clock,
    tokens: Tokens,
}

fn rules(lifetime: u64) -> Rules {
    Rules { lifetime: Duration::from_secs(lifetime), issuer: "coracle".to_owned(), audience: "here".to_owned() }
}

fn test() -> Test {
    let root = tempfile::tempdir().unwrap();
    let database = Arc::new(Database::open(&Tree::new(root.path()), Arc::new(SystemDisk), false).unwrap());
    let clock = Clock::default();
    let tokens = Tokens::open(Arc::clone(&database), clock.clone(), rules(300), None).unwrap();
    Test { _root: root, database, clock, tokens }
}

fn entry(name: &str, actions: &[&str]) -> AccessEntry {
    let actions = actions.iter().map(|action| (*action).to_owned()).collect();
    AccessEntry { kind: "repository".to_owned(), name: name.to_owned(), actions }
}

fn alice(tokens: &Tokens) -> String {
    let signer = tokens.create_signer().unwrap();
    tokens.issue(&signer, Some("alice"), IssuedFor::Password(7), vec![entry("a/b", &["push", "pull"])]).token
}

#[test]
fn a_token_names_its_holder_and_actions() {
    let t = test();
    let grant = t.tokens.verify(&alice(&t.tokens)).unwrap();
    let Holder::Local { user, by } = &grant.holder else { panic!("not a local token") };
    assert_eq!((user.as_deref(), by), (Some("alice"), &IssuedFor::Password(7)));
    assert_eq!(grant.actions(&"a/b".parse().unwrap()), Actions::PULL | Actions::PUSH);
    assert_eq!(grant.actions(&"a/c".parse().unwrap()), Actions::NONE);
    let anonymous = t.tokens.issue(&t.tokens.signer().unwrap(), None, IssuedFor::Anonymous, Vec::new());
    assert!(matches!(t.tokens.verify(&anonymous.token).unwrap().holder, Holder::Local { user: None, .. }));
    assert!(!format!("{anonymous:?}").contains(&anonymous.token));
}

#[test]
fn the_first_key_is_created_when_it_is_needed_and_kept() {
    let t = test();
    let other = test();
    assert!(t.tokens.signer().is_none());
    // Tokens are refused without a key as with one.
    let foreign = alice(&other.tokens);
    assert!(!t.tokens.names_own_key(&foreign));
    assert_eq!(t.tokens.verify(&foreign).err(), Some(InvalidToken::Forged));
    let keys: Vec<_> = std::thread::scope(|scope| {
        let create = || t.tokens.create_signer().unwrap().public_keys();
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(create)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(keys.iter().all(|set| set == &keys[0] && set["keys"].as_array().unwrap().len() == 1), "{keys:?}");
    let again = Tokens::open(Arc::clone(&t.database), t.clock.clone(), rules(300), None).unwrap();
    assert_eq!(again.signer().unwrap().public_keys(), keys[0]);
    assert!(again.verify(&alice(&t.tokens)).is_ok());
}

#[test]
fn a_token_is_accepted_for_the_leeway_after_its_expiry() {
    let t = test();
    let token = alice(&t.tokens);
    // 300 seconds of lifetime and 60 of leeway.
    t.clock.advance(Duration::from_secs(359));
    assert!(t.tokens.verify(&token).is_ok());
    t.clock.advance(Duration::from_secs(1));
    assert_eq!(t.tokens.verify(&token).err(), Some(InvalidToken::Expired));
}

#[test]
fn tokens_of_a_retired_key_stay_valid_until_they_expire_and_after_a_restart() {
    let t = test();
    let old = alice(&t.tokens);
    let id = t.tokens.rotate().unwrap();
    let new = alice(&t.tokens);
    assert_eq!(jsonwebtoken::decode_header(&new).unwrap().kid, Some(id.clone()));
    let again = Tokens::open(Arc::clone(&t.database), t.clock.clone(), rules(300), None).unwrap();
    for tokens in [&t.tokens, &again] {
        assert!(tokens.verify(&old).is_ok() && tokens.verify(&new).is_ok());
        let keys = tokens.signer().unwrap().public_keys();
        assert_eq!(keys["keys"].as_array().unwrap().len(), 2);
        assert_eq!(keys["keys"][0]["kid"], id, "the signing key comes first");
    }
    // A day later the first key is no longer published.
    t.clock.advance(Duration::from_hours(25));
    t.tokens.rotate().unwrap();
    t.clock.advance(Duration::from_hours(25));
    t.tokens.rotate().unwrap();
    assert_eq!(t.tokens.signer().unwrap().public_keys()["keys"].as_array().unwrap().len(), 2);
}

/// A forged token.
fn forge(header: &Value, claims: &Value, signature: &[u8]) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.{}", part(header), part(claims), URL_SAFE_NO_PAD.encode(signature))
}

#[test]
fn invalid_tokens_are_refused() {
    let t = test();
    let good = alice(&t.tokens);
    let other = test();
    let keys = t.tokens.keys().unwrap();
    let (id, key) = keys.current();
    let public = t.tokens.signer().unwrap().public_keys()["keys"][0].clone();
    let now = t.clock.now().micros() / 1_000_000;
    let claims = json!({
        "iss": "coracle", "sub": "root", "aud": "here", "exp": now + 300, "nbf": now, "iat": now,
        "jti": Uuid::nil(), "access": [], "by": { "password": 7 },
    });
    let with = |name: &str, value: Value| {
        let mut changed = claims.clone();
        changed[name] = value;
        changed
    };
    let without = |name: &str| {
        let mut changed = claims.clone();
        changed.as_object_mut().unwrap().remove(name);
        changed
    };
    let header = Header { kid: Some(id.to_owned()), ..Header::new(Algorithm::ES256) };
    let sign = |claims: &Value| jsonwebtoken::encode(&header, claims, key).unwrap();
    assert!(t.tokens.verify(&sign(&claims)).is_ok(), "the unchanged claims are valid");

    let critical = Header { crit: Some(vec!["exp".to_owned()]), ..header.clone() };
    let critical = jsonwebtoken::encode(&critical, &claims, key).unwrap();
    let hmac = |secret: &[u8]| {
        let header = Header { kid: Some(id.to_owned()), ..Header::new(Algorithm::HS256) };
        jsonwebtoken::encode(&header, &claims, &EncodingKey::from_secret(secret)).unwrap()
    };
    let [head, body, signature] = good.splitn(3, '.').collect::<Vec<_>>()[..] else { panic!("three parts") };
    let forged = |text: String| (text, InvalidToken::Forged);
    let rows = [
        forged(String::new()),
        forged("..".to_owned()),
        forged("a.b.c".to_owned()),
        forged(good[..good.len() - 4].to_owned()),
        forged(format!("{good}A")),
        forged(format!("{head}.{body}.")),
        forged(format!("{head}.{}.{signature}", URL_SAFE_NO_PAD.encode(claims.to_string()))),
        forged(forge(&json!({ "alg": "none", "kid": id }), &claims, b"")),
        forged(forge(&json!({ "alg": "None", "typ": "JWT", "kid": id }), &claims, b"")),
        forged(forge(&json!({ "alg": "ES256" }), &claims, b"x")),
        forged(forge(&json!({ "alg": "ES256", "kid": "../../etc/passwd" }), &claims, b"x")),
        forged(forge(&json!({ "alg": "ES256", "kid": id, "jwk": public }), &claims, &[0; 64])),
        forged(forge(&json!({ "alg": "ES256", "kid": id }), &claims, &[0; 64])),
        forged(critical),
        // The public key as the secret of another algorithm.
        forged(hmac(public.to_string().as_bytes())),
        forged(hmac(public["x"].as_str().unwrap().as_bytes())),
        // Signed by another registry.
        forged(alice(&other.tokens)),
        forged(sign(&json!({ "sub": "root" }))),
        forged(sign(&without("aud"))),
        forged(sign(&without("exp"))),
        forged(sign(&without("by"))),
        forged(sign(&with("exp", json!("never")))),
        forged(sign(&with("aud", json!(null)))),
        forged(sign(&with("access", json!({})))),
        forged(sign(&with("exp", json!(-1)))),
        forged("A".repeat(TOKEN_BYTES_MAX + 1)),
        (sign(&with("iss", json!("quay"))), InvalidToken::Foreign),
        (sign(&with("aud", json!("elsewhere"))), InvalidToken::Foreign),
        // A longer lifetime than the registry's, and numbers that would overflow.
        (sign(&with("exp", json!(now + 301))), InvalidToken::Foreign),
        (sign(&with("exp", json!(u64::MAX))), InvalidToken::Foreign),
        (sign(&with("iat", json!(u64::MAX))), InvalidToken::Foreign),
        (sign(&with("nbf", json!(now + 10))), InvalidToken::TooEarly),
        (sign(&with("nbf", json!(u64::MAX))), InvalidToken::TooEarly),
    ];
    for (text, expected) in rows {
        // Twice, because a refused token must not be cached as valid.
        for _ in 0..2 {
            assert_eq!(t.tokens.verify(&text).err(), Some(expected), "{text}");
        }
    }
    // One changed character anywhere.
    for at in 0..good.len() {
        let mut bytes = good.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        let text = String::from_utf8(bytes).unwrap();
        // The last character of a part has unused bits.
        let is_unused = [head.len() - 1, head.len() + body.len(), good.len() - 1].contains(&at);
        assert!(t.tokens.verify(&text).is_err() || is_unused, "changed at {at}");
    }
}
