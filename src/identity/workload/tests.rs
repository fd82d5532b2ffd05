//! Claims of tokens, as a table, and the pauses between reads of keys.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use serde_json::{Value, json};

use super::claims::Claims;
use super::*;

const NOW: u64 = 1_700_000_000;

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_micros(seconds * 1_000_000)
}

fn claims(changes: &Value) -> Claims {
    let mut claims = json!({ "iss": "https://i.example", "aud": "here", "sub": "s", "iat": NOW, "exp": NOW + 300 });
    claims.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    claims.as_object().unwrap().clone().into_iter().filter(|(_, value)| !value.is_null()).collect()
}

#[test]
fn claims_are_checked_one_by_one() {
    let expected =
        Expected { audiences: vec!["here".to_owned(), "there".to_owned()], lifetime_max: Duration::from_mins(30) };
    for (changes, outcome) in [
        (json!({}), Ok(())),
        (json!({ "aud": ["other", "there"] }), Ok(())),
        (json!({ "nbf": NOW + 60, "iat": NOW + 60 }), Ok(())),
        (json!({ "exp": NOW - 59, "iat": NOW - 100 }), Ok(())),
        (json!({ "exp": 1_700_000_300.5 }), Ok(())),
        (json!({ "iss": "https://i.example/" }), Err(Reason::InvalidClaim("iss"))),
        (json!({ "iss": ["https://i.example"] }), Err(Reason::InvalidClaim("iss"))),
        (json!({ "aud": null }), Err(Reason::MissingClaim("aud"))),
        (json!({ "aud": [] }), Err(Reason::Audience)),
        (json!({ "aud": "herehere" }), Err(Reason::Audience)),
        (json!({ "aud": "Here" }), Err(Reason::Audience)),
        (json!({ "aud": ["x", ["here"]] }), Err(Reason::Audience)),
        (json!({ "aud": { "here": true } }), Err(Reason::Audience)),
        (json!({ "exp": null }), Err(Reason::MissingClaim("exp"))),
        (json!({ "exp": "1700000300" }), Err(Reason::InvalidClaim("exp"))),
        (json!({ "exp": -1 }), Err(Reason::InvalidClaim("exp"))),
        (json!({ "exp": 1e300 }), Err(Reason::InvalidClaim("exp"))),
        (json!({ "exp": NOW - 60, "iat": NOW - 100 }), Err(Reason::Expired)),
        (json!({ "iat": null }), Err(Reason::MissingClaim("iat"))),
        (json!({ "iat": NOW + 61 }), Err(Reason::FromFuture)),
        (json!({ "nbf": NOW + 61 }), Err(Reason::TooEarly)),
        (json!({ "nbf": "soon" }), Err(Reason::InvalidClaim("nbf"))),
        (json!({ "iat": NOW + 30, "exp": NOW + 10 }), Err(Reason::InvalidClaim("iat"))),
        (json!({ "exp": NOW + 1801 }), Err(Reason::TooLongLived)),
        (json!({ "sub": null }), Err(Reason::MissingClaim("sub"))),
        (json!({ "sub": "" }), Err(Reason::InvalidClaim("sub"))),
        (json!({ "sub": 5 }), Err(Reason::InvalidClaim("sub"))),
        (json!({ "sub": "a b" }), Err(Reason::InvalidClaim("sub"))),
        (json!({ "sub": "a\u{202e}b" }), Err(Reason::InvalidClaim("sub"))),
        (json!({ "sub": "a\u{200b}b" }), Err(Reason::InvalidClaim("sub"))),
        (json!({ "sub": "a\u{e0041}" }), Err(Reason::InvalidClaim("sub"))),
        (json!({ "sub": "a\u{3164}b" }), Err(Reason::InvalidClaim("sub"))),
        (json!({ "sub": "a".repeat(1025) }), Err(Reason::InvalidClaim("sub"))),
    ] {
        let found = expected.check("https://i.example", &claims(&changes), at(NOW)).map(|_| ());
        assert_eq!(found, outcome, "{changes}");
    }
}

#[test]
fn the_first_rule_that_matches_counts() {
    let rule = |claims: &[(&str, &str)], group: &str| {
        let claims = claims.iter().map(|(name, pattern)| ((*name).to_owned(), (*pattern).to_owned())).collect();
        let settings = RuleSettings { claims, groups: vec![group.to_owned()], ..RuleSettings::default() };
        Arc::new(Rule::new("https://i.example", &settings).unwrap())
    };
    let rules = [
        rule(&[("repository", "org/app"), ("ref", "refs/heads/main")], "writers"),
        rule(&[("repository", "org/*")], "readers"),
        rule(&[("/kubernetes.io/serviceaccount/name", "ci"), ("protected", "true"), ("id", "7")], "pods"),
    ];
    for (found, group) in [
        (json!({ "repository": "org/app", "ref": "refs/heads/main" }), Some("writers")),
        (json!({ "repository": "org/app", "ref": "refs/heads/main2" }), Some("readers")),
        (json!({ "repository": "org/app" }), Some("readers")),
        (json!({ "repository": "evil/org/app" }), None),
        (json!({ "repository": ["org/app"] }), None),
        (json!({ "repository": { "org/app": "org/app" } }), None),
        (json!({ "Repository": "org/app" }), None),
        (json!({ "protected": true, "id": 7, "kubernetes.io": { "serviceaccount": { "name": "ci" } } }), Some("pods")),
        (
            json!({ "protected": "true", "id": "7", "kubernetes.io": { "serviceaccount": { "name": "ci" } } }),
            Some("pods"),
        ),
        (json!({ "protected": true, "id": 7, "kubernetes.io": { "serviceaccount": "ci" } }), None),
        (json!({ "protected": true, "id": 7, "/kubernetes.io/serviceaccount/name": "ci" }), None),
    ] {
        let matched = rule::matching(&rules, found.as_object().unwrap());
        assert_eq!(matched.ok().map(|rule| rule.groups[0].as_str()), group, "{found}");
    }
    let refused = rule::matching(&rules[..2], json!({}).as_object().unwrap()).unwrap_err();
    assert_eq!(refused.to_string(), "no rule matches: rules[0] at the claim ref, rules[1] at the claim repository");
}

#[test]
fn a_rule_needs_a_claim_that_is_not_only_stars() {
    for (claims, is_valid) in [
        (json!({}), false),
        (json!({ "sub": "**" }), false),
        (json!({ "sub": "*:*/**" }), false),
        (json!({ "sub": "" }), false),
        (json!({ "sub": "a", "ref": "**" }), true),
    ] {
        let claims = serde_json::from_value(claims.clone()).unwrap();
        let settings = RuleSettings { claims, ..RuleSettings::default() };
        assert_eq!(Rule::new("i", &settings).is_ok(), is_valid, "{settings:?}");
    }
    let of = |scope: &str| RuleSettings {
        claims: [("sub".to_owned(), "a".to_owned())].into(),
        scopes: vec![scope.to_owned()],
        ..RuleSettings::default()
    };
    assert!(Rule::new("i", &of("team/{")).is_err());
    let (one, other) = (Rule::new("i", &of("team/a")).unwrap(), Rule::new("i", &of("team/b")).unwrap());
    assert_ne!(one.id(), other.id(), "a changed rule is another one");
    let elsewhere = Rule::new("j", &of("team/a")).unwrap();
    assert_ne!(one.id(), elsewhere.id(), "a rule of another issuer is another one");
}

#[test]
fn arbitrary_claims_are_refused_or_checked() {
    for text in [
        "",
        "{}",
        "a.b.c",
        r#"{"iss":"https://issuer.example","aud":"here","sub":"x","iat":1699999999,"exp":1700000100}"#,
    ] {
        token(text.as_bytes());
    }
}
