//! The address of a registry: its URL, and the name that docker and podman know it by.

use hyper::Uri;

use crate::cli::Error;
use crate::config::Config;
use crate::kit::network::is_loopback;

/// A registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) struct RemoteRegistry {
    /// Such as `https://registry.example:5000`, without a trailing slash.
    pub(in crate::cli) url: String,
    /// Such as `registry.example:5000`: what precedes the first slash of an image name.
    pub(in crate::cli) host: String,
}

impl RemoteRegistry {
    /// The registry of a name or a URL. A name without a scheme means HTTPS, or HTTP on this machine unless `tls` is set,
    /// as in docker.
    pub(in crate::cli) fn named(text: &str, tls: bool) -> Result<Self, Error> {
        let wrong = |why: &str| Error::usage(format!("{text:?} is not a registry: {why}"));
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme @ ("http" | "https"), rest)) => (Some(scheme), rest),
            Some(_) => return Err(wrong("a URL must begin with https:// or http://")),
            None => (None, text),
        };
        let host = rest.strip_suffix('/').unwrap_or(rest);
        if host.contains(['/', '?', '#']) {
            return Err(wrong("expected the name of a registry without a path or a repository"));
        }
        let uri: Uri = format!("https://{host}")
            .parse()
            .map_err(|_| wrong("expected a host name or an IP address, and optionally a port"))?;
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        let port = host.strip_prefix(uri.host().unwrap_or_default()).and_then(|rest| rest.strip_prefix(':'));
        let port_fits = port.is_none_or(|port| port.parse::<u16>().is_ok());
        if authority != host || host.contains('@') || !port_fits {
            return Err(wrong("expected a host name or an IP address, and optionally a port"));
        }
        let local = uri.host().is_some_and(is_loopback);
        let scheme = scheme.unwrap_or(if local && !tls { "http" } else { "https" });
        Ok(Self { url: format!("{scheme}://{host}"), host: host.to_owned() })
    }

    /// The registry of a configuration, with the address by which this machine reaches it.
    pub(in crate::cli) fn configured(config: &Config) -> Result<Self, Error> {
        if let Some(url) = &config.http.external_url {
            return Self::named(url, false);
        }
        match config.http.local_url() {
            None => Err(Error::usage(
                "http.port is 0 in this configuration, so the port is unknown: name the registry as HOST:PORT",
            )),
            Some(url) => Self::named(&url, false),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_without_a_scheme_means_https_and_http_on_this_machine() {
        for (text, url, host) in [
            ("registry.example", "https://registry.example", "registry.example"),
            ("registry.example:5000", "https://registry.example:5000", "registry.example:5000"),
            ("https://registry.example/", "https://registry.example", "registry.example"),
            ("http://registry.example", "http://registry.example", "registry.example"),
            ("localhost:8080", "http://localhost:8080", "localhost:8080"),
            ("127.0.0.2:8080", "http://127.0.0.2:8080", "127.0.0.2:8080"),
            ("[::1]:8080", "http://[::1]:8080", "[::1]:8080"),
            ("[2001:db8::1]", "https://[2001:db8::1]", "[2001:db8::1]"),
            ("https://localhost:8443", "https://localhost:8443", "localhost:8443"),
            // Other machines, although the names look local.
            ("127.0.0.1.example", "https://127.0.0.1.example", "127.0.0.1.example"),
            ("localhost.example", "https://localhost.example", "localhost.example"),
        ] {
            assert_eq!(
                RemoteRegistry::named(text, false),
                Ok(RemoteRegistry { url: url.to_owned(), host: host.to_owned() }),
                "{text}"
            );
        }
    }

    #[test]
    fn a_certificate_to_trust_means_https_on_this_machine_too() {
        let url = |text| RemoteRegistry::named(text, true).map(|registry| registry.url);
        assert_eq!(url("localhost:8080"), Ok("https://localhost:8080".to_owned()));
        assert_eq!(url("http://localhost:8080"), Ok("http://localhost:8080".to_owned()));
    }

    #[test]
    fn an_invalid_name_of_a_registry_is_refused() {
        for text in [
            "",
            "https://",
            "ftp://registry.example",
            "registry.example/team/app",
            "registry.example?x",
            "user@registry.example",
            "https://user:secret@registry.example",
            "registry.example:",
            "registry.example:99999",
            "registry.example:80:80",
            "a b",
            "::1",
        ] {
            assert!(RemoteRegistry::named(text, false).is_err(), "{text}");
        }
    }

    #[test]
    fn a_configuration_names_the_address_of_its_registry() {
        for (text, url) in [
            ("", "http://127.0.0.1:8080"),
            ("[http]\nport = 5000\naddress = '0.0.0.0'", "http://127.0.0.1:5000"),
            ("[http]\naddress = '::1'", "http://[::1]:8080"),
            ("[http]\naddress = ''", "http://localhost:8080"),
            ("[http]\naddress = '10.1.2.3'\ntls = {cert = 'LICENSE', key = 'LICENSE'}", "https://10.1.2.3:8080"),
            ("[http]\nexternalUrl = 'https://registry.example/'", "https://registry.example"),
        ] {
            let config = Config::from_toml_str(text).map(|loaded| loaded.config);
            let Ok(config) = config else { panic!("{text}: {config:?}") };
            assert_eq!(RemoteRegistry::configured(&config).map(|registry| registry.url), Ok(url.to_owned()), "{text}");
        }
        let config = Config::from_toml_str("[http]\nport = 0").map(|loaded| loaded.config);
        assert!(config.is_ok_and(|config| RemoteRegistry::configured(&config).is_err()));
    }
}
