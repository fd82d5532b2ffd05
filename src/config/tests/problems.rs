//! Problems of values and keys, word for word.

use super::{lines, load};
use crate::config::source::Format;

/// The problems of a text in TOML; none if it loads.
fn problems(toml: &str) -> Vec<String> {
    load(Format::Toml, toml).map_or_else(|error| lines(error.problems()), |_| Vec::new())
}

#[test]
fn every_problem_is_reported_at_once() {
    let text = "proifle = 'zot'\nstorage = {commit = 'yes', rootDirectory = 5}\n\
                [http]\nport = 70000\nallowOrigin = 'ui.example'\n[http.tls]\ncert = '/nowhere/c.pem'\n\
                [http.auth.bearer.upstreamTokenEndpoint]\nreal = 'x'\n[log]\nlevel = 'loud'\n[[differences]]\nroute = 1";
    assert_eq!(
        problems(text),
        [
            "f: differences[0].check: is missing: the table requires it",
            "f: differences[0].coracle: is missing: the table requires it",
            "f: differences[0].route: expected a string, found a number",
            "f: differences[0].why: is missing: the table requires it",
            "f: differences[0].zot: is missing: the table requires it",
            "f: http.allowOrigin: expected origins of web pages such as \"https://ui.example\", separated by commas, or \"*\" \
             for all, found another string",
            "f: http.auth.bearer.upstreamTokenEndpoint: not supported: clients ask the external token issuer themselves; \
             remove the block",
            "f: http.auth.bearer.upstreamTokenEndpoint.real: unknown key",
            "f: http.port: expected a port from 0 to 65535, as a number or a string, found 70000",
            "f: http.tls.cert: cannot read \"/nowhere/c.pem\": No such file or directory (os error 2)",
            "f: http.tls.key: is missing: TLS needs it together with http.tls.cert",
            "f: log.level: expected one of \"panic\", \"fatal\", \"error\", \"warn\", \"info\", \
             \"debug\", \"trace\", found \"loud\"",
            "f: proifle: unknown key, did you mean profile?",
            "f: storage.commit: expected true or false, found \"yes\"",
            "f: storage.rootDirectory: expected a string, found a number",
        ]
    );
}

#[test]
fn wrong_values_say_what_is_expected() {
    let cases = [
        ("http = 5", "f: http: expected a table of keys, found a number"),
        ("http.tls = 'on'", "f: http.tls: expected a table of keys, found a string"),
        (
            "storage.uploadExpiry = 24",
            "f: storage.uploadExpiry: expected a duration from 1s to 8760h, such as \"24h\" \
             (a bare number counts nanoseconds), found 24",
        ),
        (
            "http.limits.idleTimeout = '1 h'",
            "f: http.limits.idleTimeout: expected a duration from 1ms to 24h, such as \"24h\" \
             (a bare number counts nanoseconds), found \"1 h\"",
        ),
        (
            "storage.gcDelay = true",
            "f: storage.gcDelay: expected a duration from 0s to 87600h, such as \"24h\" \
             (a bare number counts nanoseconds), found true",
        ),
        (
            "storage.gcTimeWindow = '22-6'",
            "f: storage.gcTimeWindow: expected two times of the day, such as \"22:00-06:00\", found \"22-6\"",
        ),
        (
            "storage.retention.policies = [{ repositories = ['a/**', '{b'] }]",
            "f: storage.retention.policies[0].repositories[1]: the pattern \"{b\" has an unclosed brace",
        ),
        (
            "http.limits.maxManifestSize = '3MiB'",
            "f: http.limits.maxManifestSize: expected a size from 4MiB to 64MiB in bytes or with the unit KiB, \
             MiB, GiB or TiB, such as \"4MiB\", found \"3MiB\"",
        ),
        (
            "storage.quotas = [{ repositories = ['a'], size = '2MB' }]",
            "f: storage.quotas[0].size: expected a size in bytes or with the unit KiB, MiB, GiB or TiB, such as \
             \"4MiB\", found \"2MB\"",
        ),
        (
            "http.limits.maxConnections = 0",
            "f: http.limits.maxConnections: expected a whole number from 1 to 1000000, found 0",
        ),
        (
            "http.limits.maxConnections = 1.5",
            "f: http.limits.maxConnections: expected a whole number from 1 to 1000000, found 1.5",
        ),
        ("http.port = '+80'", "f: http.port: expected a port from 0 to 65535, as a number or a string, found \"+80\""),
        (
            "http.address = 'example.org'",
            "f: http.address: expected an IP address, \"localhost\", or \"\" for all addresses, \
             found \"example.org\"",
        ),
        (
            "http.externalUrl = 'registry.example'",
            "f: http.externalUrl: expected a URL such as \"https://registry.example\", without \
             query, found another string",
        ),
        (
            "http.realm = 'a\"b'",
            "f: http.realm: expected a string of printable ASCII without quotes and backslashes, \
             found \"a\\\"b\"",
        ),
        ("http.compat = ['docker2s1']", "f: http.compat[0]: expected \"docker2s2\", found \"docker2s1\""),
        (
            "http.trustedProxies = ['10.0.0.1', '::1', 5]",
            "f: http.trustedProxies[2]: expected a string, found a number",
        ),
        (
            "storage.retention.policies = [{ repositories = ['a'] }, { repositories = ['a', true] }]",
            "f: storage.retention.policies[1].repositories[1]: expected a string, found true or false",
        ),
        ("http.ratelimit.window = '1999ms'", "f: http.ratelimit.window: expected whole seconds, such as \"10s\""),
        (
            "http.ratelimit.methods = [{ method = 'PUT', rate = 1 }, { method = 'put', rate = 2 }]",
            "f: http.ratelimit.methods[1].method: PUT has a limit already",
        ),
        (
            "storage.quotas = [{ namespaces = ['x', '{a/b,c}', 'x/**', 'x/y'], tags = 1 }]",
            "f: storage.quotas[0].namespaces[3]: the pattern \"x/y\" matches no namespace: a namespace is the first part \
             of a name, without a slash",
        ),
        (
            "http.listen = ['127.0.0.1:80', 'unix:/tmp/x.sock', 'unix:/tmp/../tmp/x.sock']",
            "f: http.listen[2]: unix:/tmp/../tmp/x.sock is the same place as unix:/tmp/x.sock: remove one of them",
        ),
        (
            "http.listen = [':80', 'http://127.0.0.1:80']",
            "f: http.listen[1]: http://127.0.0.1:80 is the same place as :80: remove one of them",
        ),
        (
            "http.listen = [\"unix:/tmp/x\\u0000y\"]",
            "f: http.listen[0]: the path of a unix socket cannot contain a NUL character",
        ),
        ("differences = 1", "f: differences: expected a list of tables, found a number"),
        ("differences = [1]", "f: differences[0]: expected a table of keys, found a number"),
    ];
    for (text, problem) in cases {
        assert_eq!(problems(text), [problem], "{text}");
    }
    for path in ["metrics", "/", "/v2", "/v2/x", "/api/x", "/zot/x", "/livez", "/a/", "/a//b", "/a/../b", "/ä"] {
        let found = problems(&format!("extensions.metrics.prometheus.path = '{path}'"));
        assert_eq!(found.len(), 1, "{path}");
        assert!(found[0].contains("expected a path such as \"/metrics\""), "{found:?}");
    }
}

#[test]
fn a_required_key_that_is_null_is_missing() {
    for text in [r#"{"differences": [null]}"#, r#"{"differences": [{"route": null}, null]}"#] {
        let error = load(Format::Json, text).expect_err("five keys are missing");
        assert!(
            lines(error.problems()).contains(&"f: differences[0].route: is missing: the table requires it".to_owned())
        );
        assert_eq!(error.problems().len() % 5, 0, "{error}");
    }
}

#[test]
fn a_value_that_may_be_secret_is_never_shown() {
    let text = r#"{"http": {"externalUrl": "https://me:hunter2@r.example", "auth": {
        "openid": {"providers": {"oidc": {"clientsecret": 420017, "scopes": "hunter2"}}},
        "htpasswd": {"path": true}}}, "clientsecret": "hunter2",
        "extensions": {"events": {"enable": true, "sinks": [{"credentials": {"password": ["hunter2"]}}]}}}"#;
    let error = load(Format::Json, text).expect_err("every value is wrong");
    assert_eq!(error.problems().len(), 7, "{error}");
    assert!(!error.to_string().contains("hunter2") && !error.to_string().contains("420017"), "{error}");
    // A secret in the place of a table that has one, or of any table or list above it.
    let inner = ["hunter2", "[\"hunter2\"]", "420017", "{\"hunter2\": 1}"];
    for path in
        ["extensions.events.sinks.*.credentials", "extensions.sync.registries", "http.auth.openid.providers.oidc"]
    {
        let keys: Vec<&str> = path.split('.').collect();
        for end in 1..=keys.len() {
            for inner in inner {
                let nested = keys[..end].iter().rev().fold(inner.to_owned(), |value, key| match *key {
                    "*" => format!("[{value}]"),
                    key => format!("{{\"{key}\": {value}}}"),
                });
                if let Err(error) = load(Format::Json, &nested.replace("hunter2\": 1", "key\": \"hunter2\"")) {
                    assert!(!error.to_string().contains("hunter2") && !error.to_string().contains("420017"), "{error}");
                }
            }
        }
    }
}

#[test]
fn names_that_differ_in_case_only_are_one_key() {
    let cases = [
        ("http.port = 1\nhttp.PORT = 2", "f: http.port: is given twice, also as PORT"),
        ("[http]\nport = 1\n[HTTP]\nopen = true", "f: http: is given twice, also as HTTP"),
    ];
    for (text, problem) in cases {
        assert_eq!(problems(text), [problem], "{text}");
    }
    let same = [
        (Format::Toml, "a = 1\na = 2", "f:2:1: duplicate key"),
        (Format::Json, "{\"a\": 1,\n \"a\": 2}", "f:2:4: duplicate key \"a\""),
        (Format::Yaml, "a: 1\na: 2\n", "f:2:1: duplicate mapping key `a` is not allowed here"),
    ];
    for (format, text, problem) in same {
        let error = load(format, text).expect_err("a key is given twice");
        assert_eq!(error.to_string(), problem);
    }
}

#[test]
fn an_unknown_key_names_the_nearest_known_one() {
    let cases = [
        ("storage.rootDir = 'x'", "f: storage.rootDir: unknown key, did you mean storage.rootDirectory?"),
        ("rootDirectory = 'x'", "f: rootDirectory: unknown key, did you mean storage.rootDirectory?"),
        ("http.adress = 'x'", "f: http.adress: unknown key, did you mean http.address?"),
        ("http.maxConnections = 5", "f: http.maxConnections: unknown key, did you mean http.limits.maxConnections?"),
        ("htp.port = 5", "f: htp: unknown key, did you mean http?"),
        ("'http.port' = 5", "f: \"http.port\": unknown key, did you mean http.port?"),
        ("http.TLS.certificate = 'x'", "f: http.tls.certificate: unknown key, did you mean http.tls.cert?"),
        (
            "http.limits.idle_timeout = '1s'",
            "f: http.limits.idle_timeout: unknown key, did you mean http.limits.idleTimeout?",
        ),
        ("extensions.metric.enable = true", "f: extensions.metric: unknown key, did you mean extensions.metrics?"),
        ("realm = 'x'", "f: realm: unknown key, did you mean http.realm?"),
        ("minFreeSpce = '1GiB'", "f: minFreeSpce: unknown key, did you mean storage.minFreeSpace?"),
        (
            "log.colour = 'red'",
            "f: log.colour: unknown key; known keys here: audit, format, level, output (all keys: `coracle check-config \
             --keys`)",
        ),
        (
            "'*' = 1",
            "f: \"*\": unknown key; known keys here: differences, distSpecVersion, extensions, http, log, profile, \
             scheduler, storage (all keys: `coracle check-config --keys`)",
        ),
    ];
    for (text, problem) in cases {
        assert_eq!(problems(text), [problem], "{text}");
    }
    // Neither unrelated keys nor refused keys are suggested. Many tables have `enable`.
    for text in [
        "http.colour = 1",
        "htp2ssxyz = 1",
        "storage.remoteCach = true",
        "clustr = 1",
        "x = 1",
        "server = 1",
        "log.file = 'x'",
        "http.timeout = '1s'",
        "enable = true",
    ] {
        let found = problems(text);
        assert!(found.len() == 1 && found[0].contains("unknown key; known keys here: "), "{text}: {found:?}");
        assert!(!found[0].contains("remoteCache"), "{found:?}");
    }
    let text = r#"{"http": {"accessControl": {"repositories": {"a/**": {"polices": []}}}}}"#;
    let error = load(Format::Json, text).expect_err("a key is misspelt");
    assert_eq!(
        lines(error.problems())[0],
        "f: http.accessControl.repositories.\"a/**\".polices: unknown key, did you mean \
         http.accessControl.repositories.\"a/**\".policies?"
    );
}

#[test]
fn rules_that_never_apply_are_warned_of() {
    let quota = |of: &str| format!("storage.quotas = [{{ {of}, tags = 1 }}, {{ {of}, tags = 2 }}]");
    let entries = |first: &str| {
        format!(
            "storage.retention.policies = [{{ repositories = ['a'], keepTags = [{{ {first} mostRecentlyPushedCount = 1 }}, \
             {{ patterns = ['v'] }}] }}]"
        )
    };
    let is_never_used = |at: &str, why: &str| format!("f: {at}: is never used: {why} and takes precedence");
    let after = is_never_used("storage.retention.policies[0].keepTags[1]", "keepTags[0] matches every tag");
    for (text, expected) in [
        (
            "storage.immutableTags = [{ repositories = ['a'], tags = [] }]".to_owned(),
            "f: storage.immutableTags[0].tags: is empty, so the rule makes no tag immutable".to_owned(),
        ),
        (
            "storage.immutableTags = [{ repositories = [], tags = ['v*'] }]".to_owned(),
            "f: storage.immutableTags[0].repositories: is empty, so the rule makes no tag immutable".to_owned(),
        ),
        (
            "storage.retention.policies = [{ repositories = [] }]".to_owned(),
            "f: storage.retention.policies[0].repositories: is empty, so the policy applies to no repository"
                .to_owned(),
        ),
        (
            "storage.retention.policies = [{ repositories = ['**'] }, { repositories = ['a'] }]".to_owned(),
            is_never_used("storage.retention.policies[1]", "storage.retention.policies[0] matches all repositories"),
        ),
        (entries(""), after.clone()),
        (entries("patterns = ['^.*$'],"), after.clone()),
        (
            quota("repositories = ['**']"),
            is_never_used("storage.quotas[1]", "storage.quotas[0] matches all repositories"),
        ),
        (quota("namespaces = ['*']"), is_never_used("storage.quotas[1]", "storage.quotas[0] matches all namespaces")),
        (
            "storage.gcDelay = 720".to_owned(),
            "f: storage.gcDelay: counts nanoseconds without a unit: write 720ns, or another unit such as 24h"
                .to_owned(),
        ),
    ] {
        let loaded = load(Format::Toml, &text).expect(&text);
        assert_eq!(lines(&loaded.warnings), [expected], "{text}");
    }
    for text in ["storage.gcDelay = 0", &entries("patterns = ['a'],"), &quota("repositories = ['*']")] {
        assert_eq!(load(Format::Toml, text).expect(text).warnings, [], "{text}");
    }
}

#[test]
fn headers_of_sinks_leave_the_request_as_it_is() {
    let sink = |headers: &str, more: &str| {
        problems(&format!(
            "[extensions.events]\nenable = true\n[[extensions.events.sinks]]\naddress = 'https://hooks.example'\n\
             headers = {{ {headers} }}\n{more}"
        ))
    };
    for name in ["Content-Length", "host", "transfer-encoding", "Connection", "te", "ce-id", "webhook-signature"] {
        let name = name.to_ascii_lowercase();
        let expected =
            format!("f: extensions.events.sinks[0].headers: {name} is set by the registry for each event: remove it");
        assert_eq!(sink(&format!("{name} = '3'"), ""), [expected]);
    }
    assert_eq!(sink("X-Team = 'a', Authorization = 'Custom hunter2'", ""), [""; 0]);
    assert_eq!(sink("Authorization = 'a'", "credentials.token = 'hunter2'").len(), 1);
    let found = sink("X-Team = \"hunter2\\n\"", "");
    assert!(found[0].contains("the value of x-team is not valid") && !found[0].contains("hunter2"), "{found:?}");
    assert!(sink("X-Team = 'a', x-team = 'b'", "")[0].contains("x-team is given twice"));
}

/// A variable without a value would leave the port without TLS.
#[test]
fn names_of_certificates_that_are_empty_are_reported() {
    let empty = |key: &str| format!("f: http.tls.{key}: is empty: name a file, or remove http.tls");
    assert_eq!(problems("http.tls = {cert = '', key = ''}"), [empty("cert"), empty("key")]);
    assert_eq!(problems("http.tls.key = ''"), [empty("key")]);
    let warnings = |toml: &str| lines(&load(Format::Toml, toml).expect(toml).warnings);
    let found = warnings("profile = 'zot'\nhttp.tls = {cert = '', key = '', cacert = ''}");
    assert!(found.len() == 2 && found[0].contains("http.tls.cert: is empty, so ports speak plain HTTP"), "{found:?}");
    for table in ["[http.tls]\n", "[HTTP.TLS]\n"] {
        let expected =
            "f: http.tls: is empty, so ports speak plain HTTP: set http.tls.cert and http.tls.key, or remove it";
        assert_eq!(warnings(table), [expected]);
    }
    assert_eq!(warnings("[http.tls]\ncacert = ''\n"), [""; 0]);
}

/// A client of a server with such a file would trust no certificate at all.
#[test]
fn a_file_without_certificates_or_a_large_one_is_no_authority() {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    let path = file.path().display();
    let issuer = "issuer = 'https://ci.example'\naudiences = ['coracle']\n";
    let rule = "[[http.auth.bearer.oidc.rules]]\nclaims = {sub = 'x'}\nscopes = ['ci/app']\n";
    let ldap = "address = 'ldap.example'\nbaseDN = 'dc=x'\nuserAttribute = 'uid'\n";
    let sink = "name = 'a'\naddress = 'https://hook.example'\n";
    let keys = [
        ("http.tls.cacert", format!("[http.tls]\ncert = 'c'\nkey = 'k'\ncacert = '{path}'")),
        ("http.tls.acme.caCert", format!("[http.tls.acme]\ndomains = ['a.example']\ncaCert = '{path}'")),
        ("http.auth.openid.cacert", format!("[http.auth.openid]\ncacert = '{path}'\n[http.auth.openid.providers]")),
        ("http.auth.ldap.caCert", format!("[http.auth.ldap]\n{ldap}caCert = '{path}'")),
        (
            "extensions.traces.cacert",
            format!("[extensions.traces]\nendpoint = 'https://traces.example'\ncacert = '{path}'"),
        ),
        (
            "extensions.events.sinks[0].tlsconfig.cacertfile",
            format!(
                "[extensions.events]\nenable = true\n[[extensions.events.sinks]]\n{sink}\
                 tlsconfig = {{cacertfile = '{path}'}}"
            ),
        ),
        (
            "http.auth.bearer.oidc[0].certificateAuthorityFile",
            format!("[[http.auth.bearer.oidc]]\n{issuer}certificateAuthorityFile = '{path}'\n{rule}"),
        ),
    ];
    let empty = format!("{path} contains no certificate in PEM");
    let large = format!("cannot read \"{path}\": it is larger than 1048576 bytes");
    for (length, why) in [(0, empty), ((1 << 20) + 1, large)] {
        file.as_file().set_len(length).expect("a temporary file");
        for (key, toml) in &keys {
            let found = problems(toml);
            assert!(found.contains(&format!("f: {key}: {why}")), "{key}: {found:#?}");
        }
    }
}
