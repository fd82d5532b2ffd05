//! `http.auth.openid`: how providers are read, and the problems that are reported.

use std::time::Duration;

use serde_json::{Value, json};

use super::{lines, load};
use crate::config::openid::Protocol;
use crate::config::source::Format;
use crate::config::{Config, Loaded, Secret};

/// A configuration with these providers, and `more` in `http.auth.openid`.
fn tree(providers: &Value, more: &Value) -> String {
    let mut openid = more.clone();
    openid["providers"] = providers.clone();
    json!({"http": {"auth": {"openid": openid}}}).to_string()
}

fn loaded(providers: &Value, more: &Value) -> Loaded {
    load(Format::Json, &tree(providers, more)).unwrap_or_else(|error| panic!("{providers}: {error}"))
}

fn problems(providers: &Value, more: &Value) -> Vec<String> {
    load(Format::Json, &tree(providers, more)).map_or_else(|error| lines(error.problems()), |_| Vec::new())
}

fn oidc() -> Value {
    json!({"clientid": "registry", "clientsecret": "hunter2", "issuer": "https://id.example/realms/a/"})
}

#[test]
fn a_provider_is_read_as_it_is_written_and_its_secret_does_not_print() {
    let Loaded { config, warnings, .. } = loaded(&json!({"oidc": oidc()}), &json!({}));
    assert_eq!(warnings, []);
    assert!(!format!("{config:?}").contains("hunter2"));
    let openid = config.http.auth.openid.expect("it is given");
    assert_eq!((openid.recheck, openid.ca_cert), (Some(Duration::from_hours(24)), None));
    let provider = &openid.providers["oidc"];
    assert_eq!((provider.title.as_str(), provider.client_id.as_str()), ("oidc", "registry"));
    assert_eq!(provider.client_secret.as_ref().map(Secret::reveal), Some("hunter2"));
    // The slash at the end stays, because tokens have it.
    let Protocol::OpenId { issuer, username_claim, groups_claim } = &provider.protocol else { panic!("it is OpenID") };
    assert_eq!(issuer, "https://id.example/realms/a/");
    assert_eq!((username_claim.as_str(), groups_claim.as_str()), ("email", "groups"));

    let more = json!({"recheck": "0s", "callbackAllowOrigins": ["https://ui.example"]});
    let openid = loaded(&json!({"oidc": oidc()}), &more).config.http.auth.openid.expect("it is given");
    assert_eq!((openid.recheck, openid.callback_allow_origins), (None, vec!["https://ui.example".to_owned()]));
    assert_eq!(Config::default().http.auth.openid, None);
}

#[test]
fn the_api_of_github_is_on_the_host_of_its_sign_in() {
    let api = |more: &Value| {
        let mut provider = json!({"clientid": "a"});
        provider.as_object_mut().expect("it is one").extend(more.as_object().expect("it is one").clone());
        let openid = loaded(&json!({"github": provider}), &json!({})).config.http.auth.openid.expect("it is given");
        match &openid.providers["github"].protocol {
            Protocol::GitHub { auth_url, token_url, api_url } => [auth_url, token_url, api_url].map(Clone::clone),
            Protocol::OpenId { .. } => panic!("it is GitHub"),
        }
    };
    assert_eq!(
        api(&json!({})),
        [
            "https://github.com/login/oauth/authorize",
            "https://github.com/login/oauth/access_token",
            "https://api.github.com"
        ]
    );
    let own = json!({"authurl": "https://git.example:8443/a", "tokenurl": "https://git.example:8443/t"});
    assert_eq!(api(&own)[2], "https://git.example:8443/api/v3");
    let mut named = own;
    named["apiurl"] = "https://api.git.example/".into();
    assert_eq!(api(&named)[2], "https://api.git.example");
}

#[test]
fn problems_of_a_provider_are_reported_by_key_and_all_at_once() {
    let with = |key: &str, value: Value| {
        let mut provider = oidc();
        provider[key] = value;
        json!({ "oidc": provider })
    };
    let at = "f: http.auth.openid.providers.";
    for (providers, expected) in [
        (
            json!({}),
            "f: http.auth.openid.providers: is missing: name at least one provider, or remove http.auth.openid"
                .to_owned(),
        ),
        (
            json!({"okta": oidc()}),
            format!("{at}\"okta\": expected one of github, gitlab, google, oidc; use oidc for any other provider"),
        ),
        (
            with("clientid", "".into()),
            format!("{at}oidc.clientid: is missing: it is the id of the registry at the provider"),
        ),
        (with("issuer", "".into()), format!("{at}oidc.issuer: is missing: it is the URL of the provider")),
        (
            with("issuer", "http://id.example".into()),
            format!("{at}oidc.issuer: expected https: with http, an attacker on the network could sign in as any user"),
        ),
        (
            with("issuer", "https://id.example/?a=b".into()),
            format!("{at}oidc.issuer: expected a URL without a user, a query and a fragment"),
        ),
        (
            with("issuer", "id.example".into()),
            format!("{at}oidc.issuer: expected a URL such as \"https://provider.example\""),
        ),
        (
            with("authurl", "https://x.example".into()),
            format!("{at}oidc.authurl: the issuer provides it: remove the key"),
        ),
        (with("scopes", json!(["openid email"])), format!("{at}oidc.scopes[0]: expected one scope, without spaces")),
        (
            with("keypath", "/nowhere/k.pem".into()),
            format!("{at}oidc.keypath: cannot read \"/nowhere/k.pem\": No such file or directory (os error 2)"),
        ),
        (
            with("credentialsFile", "/nowhere/c.json".into()),
            format!(
                "{at}oidc.credentialsFile: cannot read \"/nowhere/c.json\": No such file or directory (os error 2)"
            ),
        ),
        (
            json!({"github": {"clientid": "a", "authurl": "https://git.example/a"}}),
            format!("{at}github.tokenurl: is missing: a self-hosted GitHub needs it together with authurl"),
        ),
    ] {
        let found = problems(&providers, &json!({}));
        assert!(found.contains(&expected), "{providers}: {found:?}");
        assert!(!found.iter().any(|line| line.contains("hunter2")), "{found:?}");
    }
    for issuer in ["http://localhost:8181", "http://127.0.0.1:8181/dex", "http://[::1]:8181", "https://id.example"] {
        assert_eq!(problems(&with("issuer", issuer.into()), &json!({})), [""; 0], "{issuer}");
    }
    for host in ["localhost.example", "127.0.0.1.example", "10.0.0.1"] {
        assert_eq!(problems(&with("issuer", format!("http://{host}").into()), &json!({})).len(), 1, "{host}");
    }
    for origin in ["ui.example", "https://ui.example/home", "ftp://ui.example", "https://me@ui.example", "https:\\\\ui"]
    {
        let found = problems(&json!({"oidc": oidc()}), &json!({"callbackAllowOrigins": [origin]}));
        assert_eq!(found.len(), 1, "{origin}");
        assert!(found[0].starts_with("f: http.auth.openid.callbackAllowOrigins[0]: expected an origin"), "{found:?}");
    }
    let both = json!({"oidc": with("clientid", "".into())["oidc"], "okta": oidc()});
    assert_eq!(problems(&both, &json!({"cacert": "/nowhere/ca.pem"})).len(), 3);
}

#[test]
fn the_credentials_file_takes_precedence_over_the_keys_and_is_never_shown() {
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let write = |text: &str| {
        let path = dir.path().join("credentials.json");
        std::fs::write(&path, text).expect("a file can be written there");
        let mut provider = oidc();
        provider["credentialsFile"] = path.to_str().expect("it is text").into();
        json!({ "oidc": provider })
    };
    let openid = loaded(&write(r#"{"clientid": "filed", "clientsecret": "from the file"}"#), &json!({}));
    let openid = openid.config.http.auth.openid.expect("it is given");
    let provider = &openid.providers["oidc"];
    assert_eq!(provider.client_id, "filed");
    assert_eq!(provider.client_secret.as_ref().map(Secret::reveal), Some("from the file"));
    for text in ["{\"clientid\": \"a\", \"clientsecret\": hunter3}", "hunter3", "[]", "{\"clientsecret\": 5}"] {
        let found = problems(&write(text), &json!({}));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains("oidc.credentialsFile: ") && !found[0].contains("hunter"), "{found:?}");
    }
}

#[test]
fn with_providers_api_keys_cannot_be_disabled() {
    let text = json!({"http": {"auth": {"apikey": false, "openid": {"providers": {"oidc": oidc()}}}}}).to_string();
    let loaded = load(Format::Json, &text).expect("it is right");
    assert!(loaded.config.http.auth.api_keys);
    let expected = "f: http.auth.apikey: has no effect: federated users have no password, and need API keys for docker";
    assert_eq!(lines(&loaded.warnings), [expected]);
}
