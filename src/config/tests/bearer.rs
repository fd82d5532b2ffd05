//! Issuers of workload tokens: what is read, and the problems.

use serde_json::{Value, json};

use super::{lines, load};
use crate::config::source::Format;

const AT: &str = "f: http.auth.bearer.oidc[0].";

fn entry(changes: &Value) -> Value {
    let mut entry = json!({
        "issuer": "https://i.example",
        "audiences": ["here"],
        "rules": [{ "claims": { "sub": "a" }, "groups": ["ci"] }],
    });
    entry.as_object_mut().expect("a table").extend(changes.as_object().expect("a table").clone());
    entry
}

fn with(entries: &[Value]) -> String {
    json!({ "http": { "auth": { "bearer": { "oidc": entries } } } }).to_string()
}

#[test]
fn issuers_are_read_with_their_rules() {
    let text = with(&[entry(&json!({ "skipIssuerVerification": false, "maxLifetime": "1h" }))]);
    let loaded = load(Format::Json, &text).expect("nothing is wrong");
    assert_eq!(loaded.warnings, []);
    let auth = loaded.config.http.auth;
    assert!(auth.bearer.is_none(), "there is no external token issuer");
    let issuer = &auth.workload_issuers[0];
    assert_eq!((issuer.issuer.as_str(), issuer.audiences.as_slice()), ("https://i.example", &["here".to_owned()][..]));
    assert_eq!((issuer.max_lifetime.as_secs(), issuer.keys_refresh.as_secs()), (3600, 300));
    let rule = &issuer.rules[0];
    assert_eq!((rule.claims["sub"].as_str(), rule.user.as_deref(), rule.groups[0].as_str()), ("a", None, "ci"));
    assert!(rule.scopes.is_empty());
}

#[test]
fn problems_of_issuers_name_the_key() {
    let github = "https://token.actions.githubusercontent.com";
    for (changes, problem) in [
        (json!({ "issuer": "i.example" }), "issuer: expected a URL such as"),
        (json!({ "issuer": "http://i.example" }), "issuer: expected https"),
        (json!({ "issuer": "https://u:p@i.example" }), "issuer: expected a URL without a user"),
        (json!({ "audiences": [] }), "audiences: expected the name"),
        (json!({ "audiences": ["here", ""] }), "audiences: expected the name"),
        (json!({ "rules": [] }), "rules: is missing"),
        (json!({ "rules": [{ "user": "ci" }] }), "rules[0].claims: is missing"),
        (json!({ "rules": [{ "claims": {} }] }), "rules[0].claims: needs at least one claim"),
        (json!({ "rules": [{ "claims": { "sub": "**" } }] }), "rules[0].claims: needs at least one claim"),
        (json!({ "rules": [{ "claims": { "sub": "https://**" } }] }), "rules[0].claims: needs at least one claim"),
        (
            json!({ "rules": [{ "claims": { "iss": "https://i.example", "/aud": "here" } }] }),
            "rules[0].claims: needs at least one claim other than iss and aud",
        ),
        (json!({ "rules": [{ "claims": { "sub": "a", "ref": "" } }] }), "rules[0].claims: the pattern of \"ref\""),
        (json!({ "rules": [{ "claims": { "sub": "a" }, "scopes": ["A"] }] }), "rules[0].scopes: the scope \"A\""),
        (json!({ "rules": [{ "claims": { "sub": 5 } }] }), "rules[0].claims: expected a table of names"),
        (
            json!({ "issuer": github, "rules": [{ "claims": { "ref": "refs/heads/main" } }] }),
            "rules[0].claims: everyone can get tokens of this issuer",
        ),
        (json!({ "skipIssuerVerification": true }), "skipIssuerVerification: not supported"),
        (json!({ "claimMapping": { "username": "claims.sub" } }), "claimMapping: not supported"),
        (json!({ "certificateAuthority": "x" }), "certificateAuthority: expected certificates in PEM"),
        (json!({ "keysFile": "/nowhere" }), "keysFile: cannot read \"/nowhere\""),
        (json!({ "issuer": "coracle" }), "issuer: expected a URL"),
    ] {
        let error = load(Format::Json, &with(&[entry(&changes)])).expect_err("something is wrong");
        let found = lines(error.problems());
        assert!(found.iter().any(|line| line.starts_with(&format!("{AT}{problem}"))), "{changes}: {found:?}");
    }
    for (other, problem) in
        [("https://i.example", "is listed twice"), ("https://i.example/a", "is a part of another issuer")]
    {
        let text = with(&[entry(&json!({})), entry(&json!({ "issuer": other }))]);
        let found = lines(load(Format::Json, &text).expect_err("something is wrong").problems());
        assert!(found.len() == 1 && found[0].contains(problem), "{found:?}");
    }
    let text = with(&[entry(&json!({})), entry(&json!({ "issuer": "https://i.example2" }))]);
    assert!(load(Format::Json, &text).is_ok());
}
