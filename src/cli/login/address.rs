//! Which registry is meant: how it is asked, and under which name docker and podman know it.

use hyper::Uri;

use crate::config::{Address, Config};
use crate::kit::outgoing::is_loopback;

/// A registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) struct Registry {
    /// `https://registry.example:5000`, without a slash at its end.
    pub(in crate::cli) url: String,
    /// `registry.example:5000`: what stands before the first slash of an image's name.
    pub(in crate::cli) host: String,
}

impl Registry {
    /// The registry of a name or a URL. A name alone is asked over HTTPS, and over HTTP on this machine, as docker
    /// has it.
    pub(in crate::cli) fn named(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| format!("{text:?} names no registry: {why}");
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme @ ("http" | "https"), rest)) => (Some(scheme), rest),
            Some(_) => return Err(wrong("a URL begins with https:// or http://")),
            None => (None, text),
        };
        let host = rest.strip_suffix('/').unwrap_or(rest);
        if host.contains(['/', '?', '#']) {
            return Err(wrong(
                "give its name alone, without a path; what is signed in to is a registry, not a repository",
            ));
        }
        let uri: Uri = format!("https://{host}").parse().map_err(|_| wrong("it is neither a name nor an address"))?;
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        let port = host.strip_prefix(uri.host().unwrap_or_default()).and_then(|rest| rest.strip_prefix(':'));
        let port_fits = port.is_none_or(|port| port.parse::<u16>().is_ok());
        if authority != host || host.contains('@') || !port_fits {
            return Err(wrong("it is neither a name nor an address"));
        }
        let local = uri.host().is_some_and(is_loopback);
        let scheme = scheme.unwrap_or(if local { "http" } else { "https" });
        Ok(Self { url: format!("{scheme}://{host}"), host: host.to_owned() })
    }

    /// The registry of a configuration, as clients reach it from this machine.
    pub(in crate::cli) fn configured(config: &Config) -> Result<Self, String> {
        if let Some(url) = &config.http.external_url {
            return Self::named(url);
        }
        let host = match config.http.address {
            Address::Ip(ip) if ip.is_unspecified() && ip.is_ipv6() => "[::1]".to_owned(),
            Address::Ip(ip) if ip.is_unspecified() => "127.0.0.1".to_owned(),
            Address::Ip(ip) if ip.is_ipv6() => format!("[{ip}]"),
            Address::Ip(ip) => ip.to_string(),
            Address::All | Address::Localhost => "localhost".to_owned(),
        };
        let scheme = if config.http.tls.is_some() { "https" } else { "http" };
        match config.http.port {
            0 => Err("the registry of this configuration takes any free port: say which one it has".to_owned()),
            port => Self::named(&format!("{scheme}://{host}:{port}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_alone_is_asked_over_https_and_this_machine_over_http() {
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
            // Whose name begins so is not this machine.
            ("127.0.0.1.example", "https://127.0.0.1.example", "127.0.0.1.example"),
            ("localhost.example", "https://localhost.example", "localhost.example"),
        ] {
            assert_eq!(Registry::named(text), Ok(Registry { url: url.to_owned(), host: host.to_owned() }), "{text}");
        }
    }

    #[test]
    fn what_names_no_registry_is_refused() {
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
            assert!(Registry::named(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_configuration_says_where_its_registry_is() {
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
            assert_eq!(Registry::configured(&config).map(|registry| registry.url), Ok(url.to_owned()), "{text}");
        }
        let config = Config::from_toml_str("[http]\nport = 0").map(|loaded| loaded.config);
        assert!(config.is_ok_and(|config| Registry::configured(&config).is_err()));
    }
}
