//! [`RemoteImages`]: images of another registry, as a command names them.

use std::str::FromStr;

use serde::{Deserialize, Serialize};
use url::Url;

use super::{NameRule, is_hub};
use crate::kit::network::is_loopback;
use crate::kit::outgoing::LACKS_TLS;
use crate::kit::text_form::text_form;
use crate::oci::{RepositoryName, RepositoryPattern, Tag};

/// The address of Docker Hub.
pub(crate) const HUB_URL: &str = "https://registry-1.docker.io";
/// All repositories.
const EVERYTHING: &str = "**";

/// Images of another registry: `docker://host/pattern[:tag]`. Also with `https://` or `http://`, which say how it is
/// reached. With `docker://`, this machine is reached without TLS.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct RemoteImages {
    text: String,
    host: String,
    /// Scheme, host and port.
    pub(crate) url: String,
    /// The repositories.
    pub(crate) pattern: String,
    pub(crate) tag: Option<Tag>,
}

impl RemoteImages {
    /// Whether a text names a registry, and no file.
    pub(crate) fn is_named_by(text: &str) -> bool {
        ["docker://", "https://", "http://"].iter().any(|scheme| text.starts_with(scheme))
    }

    /// Host and port.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// Whether it names everything that the registry has.
    pub(crate) fn is_everything(&self) -> bool {
        self.pattern == EVERYTHING && self.tag.is_none()
    }

    /// The repository, if the pattern has no wildcards.
    pub(crate) fn repository(&self) -> Option<RepositoryName> {
        let names = self.pattern.parse::<RepositoryPattern>().ok()?.literals()?;
        names.into_iter().next().filter(|name| name.as_str() == self.pattern)
    }

    /// The rule for local names: below `prefix`, or as `name`.
    pub(crate) fn rule(
        &self,
        prefix: Option<&RepositoryName>,
        name: Option<&RepositoryName>,
    ) -> Result<NameRule, String> {
        let hub = is_hub(&self.host);
        match name {
            Some(_) if self.repository().is_none() => {
                Err(format!("--as names one repository, and {self} may be several: use --into"))
            }
            Some(name) => NameRule::new(&self.pattern, name.as_str(), true, hub),
            None => NameRule::new(&self.pattern, prefix.map_or("", RepositoryName::as_str), false, hub),
        }
    }
}

impl FromStr for RemoteImages {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (scheme, rest) = text.split_once("://").ok_or("expected docker://HOST, https://HOST or http://HOST")?;
        let (host, images) = rest.split_once('/').unwrap_or((rest, ""));
        if images.contains('@') {
            return Err("an image cannot be named by its digest: name a tag or the repository".to_owned());
        }
        let (pattern, tag) = match images.rsplit_once(':') {
            Some((pattern, tag)) => (pattern, Some(tag.parse::<Tag>().map_err(|error| error.to_string())?)),
            None => (images, None),
        };
        let pattern = if pattern.is_empty() { EVERYTHING } else { pattern };
        pattern.parse::<RepositoryPattern>().map_err(|error| format!("the pattern {pattern:?} {error}"))?;
        let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
        let url = match scheme {
            _ if is_hub(host) => HUB_URL.to_owned(),
            "http" => format!("http://{host}"),
            "docker" if is_loopback(name) => format!("http://{host}"),
            "docker" | "https" => format!("https://{host}"),
            _ => return Err(format!("expected docker://, https:// or http://, found {scheme}://")),
        };
        if cfg!(not(feature = "tls")) && url.starts_with("https:") {
            return Err(LACKS_TLS.to_owned());
        }
        let parsed = Url::parse(&url).ok().filter(|url| url.host_str().is_some() && url.path() == "/");
        if parsed.is_none_or(|url| !url.username().is_empty() || url.password().is_some()) {
            return Err("expected a host, and no password in it".to_owned());
        }
        let remote = Self { text: text.to_owned(), host: host.to_owned(), url, pattern: pattern.to_owned(), tag };
        if remote.tag.is_some() && remote.repository().is_none() {
            return Err("a tag needs the name of one repository".to_owned());
        }
        Ok(remote)
    }
}

text_form!(RemoteImages);

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn images_of_a_registry_have_a_host_a_pattern_and_a_tag() {
        for (text, url, pattern, tag) in [
            ("docker://localhost:5000", "http://localhost:5000", "**", None),
            ("docker://old.example/", "https://old.example", "**", None),
            ("http://old.example:5000/team/**", "http://old.example:5000", "team/**", None),
            ("docker://old.example/team/app:1", "https://old.example", "team/app", Some("1")),
            ("docker://docker.io/library/busybox", HUB_URL, "library/busybox", None),
            ("docker://[::1]:5000/a", "http://[::1]:5000", "a", None),
        ] {
            let remote: RemoteImages = text.parse().unwrap();
            assert_eq!((remote.url.as_str(), remote.pattern.as_str()), (url, pattern), "{text}");
            assert_eq!(remote.tag.as_ref().map(Tag::as_str), tag, "{text}");
        }
        for text in
            ["docker://", "docker:///a", "docker://user:secret@host/a", "docker://host/a@sha256:0", "docker://h/*:1"]
        {
            assert!(text.parse::<RemoteImages>().is_err(), "{text}");
        }
        let rule = |text: &str, name: &str| {
            let remote: RemoteImages = text.parse().unwrap();
            remote.rule(None, Some(&name.parse().unwrap()))
        };
        let renamed = rule("docker://h.example/team/app", "new/name").unwrap();
        assert_eq!(renamed.remote(&"new/name".parse().unwrap()).unwrap().as_str(), "team/app");
        assert!(rule("docker://h.example/team/*", "new/name").is_err());
    }
}
