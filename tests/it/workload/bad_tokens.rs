//! Tokens that are refused, each with its reason in the log and the audit, and none for the client.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::issuer::{Issuer, now, signing};
use crate::support::issuer::{Private, encode};
use crate::support::process::Program;

const RULES: &str = "{ claims = { repository = 'org/app', ref = 'refs/heads/main' }, groups = ['ci'] },\
                     { claims = { sub = 'ghost' }, user = 'ghost' }, { claims = { sub = 'suspended' }, user = 'carol' }";

/// A token that is signed with a shared secret.
fn with_secret(secret: &[u8], claims: &Value) -> String {
    let encoded = encode(&json!({ "alg": "HS256", "typ": "JWT", "kid": "r1" }), claims);
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), encoded.as_bytes());
    format!("{encoded}.{}", URL_SAFE_NO_PAD.encode(tag))
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn bad_tokens(issuer: &Issuer, ec: &Private) -> Vec<(&'static str, String, &'static str)> {
    let changed = |changes: Value| issuer.token(&changes);
    let with_header = |algorithm: &str, header: Value| issuer.rsa.token(algorithm, &header, &issuer.claims(&json!({})));
    let good = issuer.token(&json!({}));
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let stranger = Private::rsa();
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let raw = |header: &str, claims: &str| format!("{}.{}.{signature}", part(header), part(claims));
    let deep = format!(r#"{{"iss":"{}","x":{}1{}}}"#, issuer.url(), "[".repeat(200), "]".repeat(200));
    let secret = URL_SAFE_NO_PAD.encode("a secret of thirty-two bytes ...");
    vec![
        ("another issuer", changed(json!({ "iss": "https://evil.example" })), "issuer is not in the configuration"),
        (
            "a slash after the issuer",
            changed(json!({ "iss": issuer.url() + "/" })),
            "issuer is not in the configuration",
        ),
        ("a part of the issuer", changed(json!({ "iss": issuer.url()[..16] })), "issuer is not in the configuration"),
        ("capitals in the issuer", changed(json!({ "iss": issuer.url().to_uppercase() })), "issuer is not in"),
        ("no issuer", changed(json!({ "iss": null })), "issuer is not in the configuration"),
        ("a list of issuers", changed(json!({ "iss": [issuer.url()] })), "issuer is not in the configuration"),
        ("another audience", changed(json!({ "aud": "https://github.com/org" })), "for another audience"),
        ("a longer audience", changed(json!({ "aud": "registry.test.evil.example" })), "for another audience"),
        ("a part of the audience", changed(json!({ "aud": "registry" })), "for another audience"),
        ("no audience", changed(json!({ "aud": null })), "the claim aud is missing"),
        ("an empty list of audiences", changed(json!({ "aud": [] })), "for another audience"),
        ("a nested list of audiences", changed(json!({ "aud": [["registry.test"]] })), "for another audience"),
        ("no signature", format!("{signed}."), "it has no signature"),
        (
            "alg none",
            raw(r#"{"alg":"none"}"#, &issuer.claims(&json!({})).to_string()),
            "the algorithm is not supported",
        ),
        (
            "HS256 with the public key",
            with_secret(issuer.rsa.public_pem().as_bytes(), &issuer.claims(&json!({}))),
            "the algorithm is not supported",
        ),
        (
            "HS256 with a published secret",
            with_secret(secret.as_bytes(), &issuer.claims(&json!({}))),
            "the algorithm is not supported",
        ),
        ("a small alg", with_header("rs256", json!({ "kid": "r1" })), "the algorithm is not supported"),
        (
            "ES256 with an RSA key",
            with_header("ES256", json!({ "kid": "r1" })),
            "the key does not belong to the algorithm",
        ),
        ("RS512 with a key for RS256", with_header("RS512", json!({ "kid": "r1" })), "the key does not belong to"),
        ("an unknown key", with_header("RS256", json!({ "kid": "r2" })), "the issuer has no such key"),
        ("no key id", with_header("RS256", json!({})), "the issuer has no such key"),
        ("a path as key id", with_header("RS256", json!({ "kid": "../r1" })), "the issuer has no such key"),
        ("a key for encryption", with_header("RS256", json!({ "kid": "enc" })), "the issuer has no such key"),
        ("a secret as key", with_header("RS256", json!({ "kid": "oct" })), "the issuer has no such key"),
        (
            "another key of the issuer",
            ec.token("ES256", &json!({ "kid": "e2" }), &issuer.claims(&json!({}))),
            "the signature is wrong",
        ),
        (
            "a stranger's key",
            stranger.token("RS256", &json!({ "kid": "r1" }), &issuer.claims(&json!({}))),
            "the signature is wrong",
        ),
        (
            "a key in the header",
            stranger.token("RS256", &json!({ "kid": "r1", "jwk": stranger.jwk("r1") }), &issuer.claims(&json!({}))),
            "the signature is wrong",
        ),
        (
            "keys at another place",
            stranger.token(
                "RS256",
                &json!({ "kid": "x", "jku": "https://evil.example/keys" }),
                &issuer.claims(&json!({})),
            ),
            "the issuer has no such key",
        ),
        ("a short signature", format!("{signed}.{}", &signature[..signature.len() - 4]), "the signature is wrong"),
        (
            "other claims",
            raw(r#"{"alg":"RS256","kid":"r1"}"#, &issuer.claims(&json!({ "sub": "x" })).to_string()),
            "the signature is wrong",
        ),
        ("a critical extension", with_header("RS256", json!({ "kid": "r1", "crit": ["exp"] })), "a critical extension"),
        ("an access token", with_header("RS256", json!({ "kid": "r1", "typ": "at+jwt" })), "the type of the token"),
        ("two algorithms", raw(r#"{"alg":"none","alg":"RS256","kid":"r1"}"#, "{}"), "its header is not a JSON object"),
        ("a header that is a list", raw(r#"["RS256","r1",null,null]"#, "{}"), "not a JWT"),
        ("deep claims", raw(r#"{"alg":"RS256","kid":"r1"}"#, &deep), "its claims are not a JSON object"),
        ("a long token", changed(json!({ "x": "y".repeat(16 * 1024) })), "longer than 16384 bytes"),
        ("an old token", changed(json!({ "iat": now() - 1000, "exp": now() - 61 })), "the token has expired"),
        ("no end", changed(json!({ "exp": null })), "the claim exp is missing"),
        ("an end that is text", changed(json!({ "exp": (now() + 300).to_string() })), "the claim exp is invalid"),
        ("a token for later", changed(json!({ "nbf": now() + 120 })), "the token is not valid yet"),
        ("a token from the future", changed(json!({ "iat": now() + 120 })), "issued in the future"),
        ("no time of issue", changed(json!({ "iat": null })), "the claim iat is missing"),
        ("a token for a year", changed(json!({ "exp": now() + 31_536_000 })), "longer than maxLifetime"),
        ("no subject", changed(json!({ "sub": null })), "the claim sub is missing"),
        ("a subject with a reversed part", changed(json!({ "sub": "a\u{202e}b" })), "the claim sub is invalid"),
        ("no repository", changed(json!({ "repository": null })), "no rule matches: rules[0] at the claim repository"),
        ("a repository that ends alike", changed(json!({ "repository": "evil/org/app" })), "at the claim repository"),
        ("a repository that begins alike", changed(json!({ "repository": "org/app-evil" })), "at the claim repository"),
        ("a repository with a line break", changed(json!({ "repository": "org/app\n" })), "at the claim repository"),
        ("a repository with capitals", changed(json!({ "repository": "Org/App" })), "at the claim repository"),
        ("a repository in Cyrillic", changed(json!({ "repository": "org/\u{430}pp" })), "at the claim repository"),
        ("a list of repositories", changed(json!({ "repository": ["org/app"] })), "at the claim repository"),
        (
            "a nested repository",
            changed(json!({ "repository": { "repository": "org/app" } })),
            "at the claim repository",
        ),
        ("a pull request", changed(json!({ "ref": "refs/pull/7/merge" })), "rules[0] at the claim ref"),
        ("a user who does not exist", changed(json!({ "sub": "ghost", "repository": "x" })), "the user of the rule"),
        ("a user who is disabled", changed(json!({ "sub": "suspended", "repository": "x" })), "the user of the rule"),
    ]
}

#[tokio::test]
async fn a_bad_token_is_refused_with_its_reason_in_log_and_audit() {
    let root = tempfile::tempdir().unwrap();
    let (issuer, ec, audit) = (Issuer::start(), Private::p256(), root.path().join("audit.log"));
    let mut encryption = issuer.rsa.jwk("enc");
    encryption["use"] = "enc".into();
    let secret = json!({ "kty": "oct", "kid": "oct", "k": URL_SAFE_NO_PAD.encode("a secret of thirty-two bytes ...") });
    let other = signing(&Private::p256(), "e2", "ES256");
    let unknown = json!({ "kty": "NEW", "kid": "new" });
    issuer.set_keys(vec![unknown, secret, encryption, other, signing(&issuer.rsa, "r1", "RS256")]);
    let config = format!("log.audit = '{}'\nlog.format = 'json'\n{}", audit.display(), issuer.settings("", RULES));
    let data = root.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let running = Program::serve_with(&data, &config).with_admin().start();
    for arguments in [&["user", "add", "carol"][..], &["user", "disable", "carol"]] {
        let done = Program::new(arguments).args(&["--root", data.to_str().unwrap()]).run();
        assert_eq!(done.code, Some(0), "{}", done.stderr);
    }
    running.user(("any", &issuer.token(&json!({})))).get("/v2/").send().await.status(200);

    let tokens = bad_tokens(&issuer, &ec);
    assert!(tokens.len() >= 40, "{}", tokens.len());
    for (number, (name, token, reason)) in tokens.iter().enumerate() {
        let request = running.anonymous().get("/v2/");
        // As a password and as a bearer token, in turn.
        let authorization = if number % 2 == 0 {
            running.user(("any", token)).authorization().unwrap().to_owned()
        } else {
            format!("Bearer {token}")
        };
        let answer = request.header("authorization", authorization).send().await;
        assert_eq!(answer.status.as_u16(), 401, "{name}: {}", answer.text());
        assert!(!answer.text().contains(reason) && !answer.text().contains(&issuer.url()), "{name}: {}", answer.text());
        let written = std::fs::read_to_string(&audit).unwrap();
        let last: Value = serde_json::from_str(written.lines().last().unwrap()).unwrap();
        assert!(last.to_string().contains("login_failure") && last.to_string().contains(reason), "{name}: {last}");
        assert!(!written.contains(token.as_str()), "{name}: the audit has the token");
        running.wait_for(reason);
    }
    // The issuer is asked again for unknown keys, but not for each of them.
    assert!(issuer.requests() <= 4, "{}", issuer.requests());
    running.user(("any", &issuer.token(&json!({})))).get("/v2/").send().await.status(200);
}

#[tokio::test]
async fn bad_tokens_in_a_row_are_slowed_and_good_ones_are_not() {
    let root = tempfile::tempdir().unwrap();
    let (issuer, audit) = (Issuer::start(), root.path().join("audit.log"));
    let config = format!("log.audit = '{}'\n{}", audit.display(), issuer.settings("", RULES));
    let data = root.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let running = Program::serve_with(&data, &config).with_admin().start();
    let bad = running.user(("any", &issuer.token(&json!({ "aud": "x" }))));
    let mut statuses = Vec::new();
    for _ in 0..70 {
        let answer = bad.get("/v2/").send().await;
        assert_eq!(answer.header("retry-after").is_some(), answer.status.as_u16() == 429);
        statuses.push(answer.status.as_u16());
    }
    assert_eq!((statuses[59], statuses[60], statuses[69]), (401, 429, 429));
    let refused = std::fs::read_to_string(&audit).unwrap().matches("login_failure").count();
    assert_eq!(refused, 60, "further refusals are not recorded");
    running.user(("any", &issuer.token(&json!({})))).get("/v2/").send().await.status(200);
}
