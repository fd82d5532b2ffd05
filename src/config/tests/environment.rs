//! Keys that environment variables set.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::io::Write as _;
use std::time::Duration;

use crate::config::environment::Environment;
use crate::config::{Config, Loaded, Source};

fn load(toml: &str, variables: &[(&str, &str)]) -> Result<Loaded, String> {
    let mut file = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
    file.write_all(toml.as_bytes()).unwrap();
    let variables = variables.iter().map(|(name, value)| ((*name).into(), (*value).into()));
    let environment = Environment::read(variables).map_err(|error| error.to_string())?;
    Config::load_from(Some(file.path()), &environment)
        .map_err(|error| error.to_string().replace(&file.path().display().to_string(), "FILE"))
}

#[test]
fn a_variable_sets_a_key_of_every_kind_and_wins_over_the_file() {
    let secret = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(secret.path(), "hush\n").unwrap();
    let loaded = load(
        "[http]\nPORT = 1\nrealm = 'file'\n",
        &[
            ("CORACLE_HTTP_PORT", "443"),
            ("CORACLE_HTTP__OPEN", "true"),
            ("CORACLE_STORAGE_GCDELAY", "2h"),
            ("CORACLE_STORAGE_MINFREESPACE", "1GiB"),
            ("CORACLE_HTTP_TRUSTEDPROXIES", "10.0.0.0/8, 127.0.0.1"),
            ("CORACLE_HTTP_LIMITS_MAXCONNECTIONS", "7"),
            ("CORACLE_HTTP_ACCESSCONTROL", r#"{"repositories": {"**": {"anonymousPolicy": ["read"]}}}"#),
            ("CORACLE_HTTP_AUTH_OPENID_PROVIDERS_OIDC_CLIENTID", "coracle"),
            ("CORACLE_HTTP_AUTH_OPENID_PROVIDERS_OIDC_ISSUER", "https://issuer.example"),
            ("CORACLE_HTTP_AUTH_OPENID_PROVIDERS_OIDC_CLIENTSECRET_FILE", secret.path().to_str().unwrap()),
            ("CORACLE_HTTP_EXTERNALURL", "https://registry.example"),
            // Set by others.
            ("CORACLE_PORT", "tcp://10.0.0.1:80"),
            ("CORACLE_ADMIN_PASSWORD", "x"),
            ("HTTP_PROXY", "x"),
        ],
    )
    .unwrap();
    let config = &loaded.config;
    assert_eq!((config.http.port, config.http.open, config.http.realm.as_str()), (443, true, "file"));
    assert_eq!(config.storage.collection.delay, Duration::from_hours(2));
    assert_eq!(config.storage.min_free_space, 1 << 30);
    assert_eq!((config.http.trusted_proxies.len(), config.http.limits.max_connections), (2, 7));
    assert!(config.http.access_control.is_some());
    let provider = &config.http.auth.openid.as_ref().unwrap().providers["oidc"];
    assert_eq!(provider.client_secret.as_ref().unwrap().reveal(), "hush");
    for (key, source) in [
        ("http.port", Source::Variable("CORACLE_HTTP_PORT".to_owned())),
        ("http.realm", Source::File),
        ("http.ui", Source::Default),
    ] {
        assert_eq!(loaded.source(key), source, "{key}");
    }
}

#[test]
fn a_variable_that_sets_nothing_is_an_error_that_says_why() {
    for (name, value, message) in [
        ("CORACLE_HTTP_PROT", "1", "CORACLE_HTTP_PROT: unknown key"),
        ("CORACLE_HTTP", "1", "CORACLE_HTTP: http is a table"),
        ("CORACLE_HTTP_PORT", "many", "CORACLE_HTTP_PORT: http.port: expected a port"),
        ("CORACLE_HTTP_OPEN", "yes", "CORACLE_HTTP_OPEN: http.open: expected true or false"),
        ("CORACLE_HTTP_ACCESSCONTROL", "{", "CORACLE_HTTP_ACCESSCONTROL: the value of a table or list must be JSON"),
        ("CORACLE_HTTP_REALM_FILE", "/nowhere", "CORACLE_HTTP_REALM_FILE: /nowhere cannot be read"),
        ("CORACLE_STORAGE_REMOTECACHE", "true", "CORACLE_STORAGE_REMOTECACHE: storage.remoteCache: not supported"),
    ] {
        let why = load("", &[(name, value)]).unwrap_err();
        assert!(why.starts_with(message), "{why}");
    }
    let twice = load("", &[("CORACLE_HTTP_PORT", "1"), ("CORACLE_HTTP__PORT", "2")]).unwrap_err();
    assert!(twice.contains("sets the same key as CORACLE_HTTP_PORT"), "{twice}");
    // The problem of another key is one of the file.
    let other = load("[http]\nport = -1\n", &[("CORACLE_HTTP_OPEN", "true")]).unwrap_err();
    assert!(other.starts_with("FILE: http.port: "), "{other}");
}
