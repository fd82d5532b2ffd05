//! The parts of the program that a build may leave out, and the keys that need them. Such a key is refused, because ignoring
//! it would change who may do what, or how data travels.

use super::model::Config;
use super::settings::{Setting, Settings};
use super::walk::Findings;

/// A key that needs a part.
struct Part {
    key: &'static str,
    /// The feature of Cargo that builds the part.
    feature: &'static str,
    is_built: bool,
    /// Whether a configuration uses the part. A file uses it as well if it has the key.
    is_used: fn(&Config) -> bool,
}

const TLS: &str = "tls";
const HAS_TLS: bool = cfg!(feature = "tls");

const PARTS: [Part; 11] = [
    Part { key: "http.tls.cert", feature: TLS, is_built: HAS_TLS, is_used: |config| config.http.tls.is_some() },
    Part {
        key: "http.tls.cacert",
        feature: TLS,
        is_built: HAS_TLS,
        is_used: |config| config.http.client_certificates.is_some(),
    },
    Part {
        key: "http.auth.bearer.cert",
        feature: TLS,
        is_built: HAS_TLS,
        is_used: |config| config.http.auth.bearer.is_some(),
    },
    Part {
        key: "http.auth.bearer.oidc",
        feature: TLS,
        is_built: HAS_TLS,
        is_used: |config| !config.http.auth.workload_issuers.is_empty(),
    },
    Part {
        key: "http.auth.openid",
        feature: "openid",
        is_built: cfg!(feature = "openid"),
        is_used: |config| config.http.auth.openid.is_some(),
    },
    Part {
        key: "http.auth.ldap",
        feature: "ldap",
        is_built: cfg!(feature = "ldap"),
        is_used: |config| config.http.auth.ldap.is_some(),
    },
    Part {
        key: "extensions.search",
        feature: "search",
        is_built: cfg!(feature = "search"),
        is_used: |config| config.extensions.search.enable,
    },
    Part {
        key: "http.tls.acme.domains",
        feature: "acme",
        is_built: cfg!(feature = "acme"),
        is_used: |config| config.http.acme.is_some(),
    },
    Part {
        key: "extensions.traces.endpoint",
        feature: "otel",
        is_built: cfg!(feature = "otel"),
        is_used: |config| config.extensions.traces.endpoint.is_some(),
    },
    // The default is true, so a program that wants no pages need not set it.
    Part { key: "http.ui", feature: "ui", is_built: cfg!(feature = "ui"), is_used: |_| false },
    Part { key: "extensions.ui", feature: "search", is_built: cfg!(feature = "search"), is_used: |_| false },
];

/// Keys with URLs, which need TLS if a URL begins with `https://`.
const URLS: [Part; 4] = [
    Part {
        key: "extensions.sync.registries",
        feature: TLS,
        is_built: HAS_TLS,
        is_used: |config| {
            let sync = &config.extensions.sync;
            sync.enable && sync.registries.iter().flat_map(|registry| &registry.urls).any(|url| is_https(url))
        },
    },
    Part {
        key: "extensions.sync.mirror",
        feature: TLS,
        is_built: HAS_TLS,
        is_used: |config| config.extensions.sync.enable && !config.extensions.sync.mirror.is_empty(),
    },
    Part {
        key: "extensions.events.sinks",
        feature: TLS,
        is_built: HAS_TLS,
        is_used: |config| {
            let events = &config.extensions.events;
            events.enable && events.sinks.iter().any(|sink| is_https(&sink.address))
        },
    },
    Part {
        key: "extensions.traces.endpoint",
        feature: TLS,
        is_built: HAS_TLS,
        is_used: |config| config.extensions.traces.endpoint.as_deref().is_some_and(is_https),
    },
];

fn is_https(url: &str) -> bool {
    url.get(..8).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https://"))
}

fn why(part: &Part) -> String {
    format!("this program was built without the feature {}: build it with the feature, or remove the key", part.feature)
}

/// Reports the keys of a file that need a part which this build leaves out.
pub(super) fn check(settings: &Settings, findings: &mut Findings) {
    for part in PARTS.iter().filter(|part| !part.is_built) {
        if settings.given(part.key).is_some_and(|value| *value != Setting::Bool(false)) {
            findings.problem(part.key, why(part));
        }
    }
    if findings.problems.is_empty()
        && let Some((key, why)) = missing_part(&Config::new(settings))
    {
        findings.problem(key, why);
    }
}

/// The first key of a configuration that needs a part which this build leaves out, and the problem. A program may have set
/// any value.
pub(crate) fn missing_part(config: &Config) -> Option<(&'static str, String)> {
    let mut missing = PARTS.iter().chain(&URLS).filter(|part| !part.is_built);
    missing.find(|part| (part.is_used)(config)).map(|part| (part.key, why(part)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::keys;

    #[test]
    fn every_key_that_needs_a_part_exists() {
        for part in PARTS.iter().chain(&URLS) {
            assert!(keys::find(part.key).is_some(), "{}", part.key);
        }
    }
}
