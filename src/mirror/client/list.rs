//! The lists of an upstream: its repositories, the tags of a repository, and the referrers of a manifest.

use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, Response, StatusCode};
use serde::Deserialize;
use tokio::time::timeout;
use url::Url;

use super::challenge::Challenge;
use super::{Ask, Authorized, Client, Effort, Error, Presented, Subject};
use crate::oci::{Digest, Manifest, Reference, RepositoryName, Tag};

/// The names that are requested in one page.
const PAGE: usize = 1000;
/// The most pages of a list. More are left out.
const PAGES_MAX: usize = 1000;
/// The most names of a list. More are left out.
pub(crate) const NAMES_MAX: usize = 100_000;

/// The repositories of an upstream.
#[derive(Debug)]
pub(crate) struct Catalog {
    pub(crate) names: Vec<RepositoryName>,
    /// Whether the upstream has users and was asked without credentials, so that these may be the public ones only.
    pub(crate) is_public: bool,
}

/// The names of all pages of a list.
struct Pages {
    names: Vec<String>,
    /// Whether each page was requested with an `Authorization`.
    is_authorized: bool,
}

/// The statuses, besides 404, of registries without lists of referrers.
const NO_REFERRERS: [StatusCode; 4] =
    [StatusCode::BAD_REQUEST, StatusCode::METHOD_NOT_ALLOWED, StatusCode::NOT_ACCEPTABLE, StatusCode::NOT_IMPLEMENTED];

#[derive(Deserialize)]
struct Tags {
    /// Registries answer `null` for an empty list.
    tags: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Repositories {
    repositories: Option<Vec<String>>,
}

impl Ask<'_> {
    /// A request about the whole registry. The path is that below `/v2/`.
    fn of_registry(path: &str) -> Self {
        Self { method: Method::GET, path: path.to_owned(), subject: Subject::Catalog, headers: HeaderMap::new() }
    }
}

impl Client {
    /// Lists the tags of a repository. Returns `None` if the upstream does not have it. Invalid names are left out.
    pub(crate) async fn tags(&self, repository: &RepositoryName, effort: Effort) -> Result<Option<Vec<Tag>>, Error> {
        let ask = self.ask(Method::GET, repository, "tags/list");
        let read = |bytes: &[u8]| serde_json::from_slice(bytes).map(|Tags { tags }| tags.unwrap_or_default());
        let pages = self.pages(ask, effort, read).await?;
        Ok(pages.map(|pages| pages.names.iter().filter_map(|name| name.parse().ok()).collect()))
    }

    /// Lists the repositories of the upstream. Returns `None` if it has no such list.
    pub(crate) async fn repositories(&self, effort: Effort) -> Result<Option<Catalog>, Error> {
        let ask = Ask::of_registry("_catalog");
        let read = |bytes: &[u8]| {
            serde_json::from_slice(bytes).map(|Repositories { repositories }| repositories.unwrap_or_default())
        };
        self.learn_challenge(effort).await;
        let Some(Pages { names, is_authorized }) = self.pages(ask, effort, read).await? else { return Ok(None) };
        // The path of the upstream's address is a part of the names there.
        let prefix = self.shared.settings.url.path().trim_matches('/');
        let below = |name: &String| match prefix {
            "" => name.parse().ok(),
            prefix => name.strip_prefix(prefix)?.strip_prefix('/')?.parse().ok(),
        };
        let names = names.iter().filter_map(below).collect();
        // Some token services give a token to those without credentials.
        let presented = if is_authorized { self.presented(Subject::Catalog).await } else { Presented::Nothing };
        let is_public = presented == Presented::Nothing && self.shared.challenge.any().is_some();
        Ok(Some(Catalog { names, is_public }))
    }

    /// Whether the upstream works, although it has failed for a request. Then it is not left alone any longer.
    pub(crate) async fn responds(&self, effort: Effort) -> bool {
        let works = self.ping(effort).await.is_some_and(|response| !response.status().is_server_error());
        if works {
            self.shared.health.succeeded();
        }
        works
    }

    /// Requests `/v2/` without credentials. Returns `None` if there is no response.
    async fn ping(&self, effort: Effort) -> Option<Response<Incoming>> {
        let ask = Ask::of_registry("");
        let asked = async {
            let _slot = self.shared.slots.acquire(ask.kind()).await;
            self.follow(&ask, None).await
        };
        timeout(effort.wait, asked).await.ok()?.ok()
    }

    /// Learns how the upstream authenticates its users. A registry with public repositories lists them without a challenge,
    /// but has one at `/v2/`, zot with status 200.
    async fn learn_challenge(&self, effort: Effort) {
        let challenge = &self.shared.challenge;
        if challenge.get().is_some() {
            return;
        }
        // If this fails, the list says why.
        if let Some(response) = self.ping(effort).await
            && (response.status().is_success() || response.status() == StatusCode::UNAUTHORIZED)
        {
            challenge.announce(Challenge::strongest(response.headers()));
        }
    }

    /// Fetches the first referrers of a manifest: their digests. An upstream without the list may have them under a tag
    /// (distribution-spec, "Referrers Tag Schema"). Returns `None` if it has neither.
    pub(crate) async fn referrers(
        &self,
        repository: &RepositoryName,
        subject: Digest,
        effort: Effort,
    ) -> Result<Option<Vec<Digest>>, Error> {
        let ask = self.ask(Method::GET, repository, &format!("referrers/{subject}"));
        let listed = match self.send(&ask, effort).await {
            // Registries that do not know the path also answer this.
            Err(Error::Unexpected { status, .. }) if NO_REFERRERS.contains(&status) => None,
            listed => listed?,
        };
        let bytes = match listed {
            Some(answered) => self.collect(answered, super::LIST_BYTES_MAX, effort).await?,
            None => match self.manifest(repository, &Reference::Tag(Tag::of_referrers(subject)), effort).await? {
                Some(index) => index.bytes,
                None => return Ok(None),
            },
        };
        let index = Manifest::read(&bytes, None).map_err(|error| self.invalid(error.to_string()))?;
        Ok(Some(index.manifests().iter().map(|child| child.digest).collect()))
    }

    /// Reads all pages of a list.
    async fn pages(
        &self,
        mut ask: Ask<'_>,
        effort: Effort,
        read: impl Fn(&[u8]) -> Result<Vec<String>, serde_json::Error>,
    ) -> Result<Option<Pages>, Error> {
        let path = ask.path.clone();
        let mut query = format!("n={PAGE}");
        let (mut names, mut is_authorized) = (Vec::new(), true);
        for _ in 0..PAGES_MAX {
            ask.path = format!("{path}?{query}");
            let Some(answered) = self.send(&ask, effort).await? else { return Ok(None) };
            is_authorized &= answered.response.extensions().get::<Authorized>().is_some();
            let next = answered.response.headers().get(header::LINK).and_then(next_query);
            let bytes = self.collect(answered, super::LIST_BYTES_MAX, effort).await?;
            let page =
                read(&bytes).map_err(|error| self.invalid(format!("a list is not JSON as expected: {error}")))?;
            let has_names = !page.is_empty();
            names.extend(page);
            if names.len() > NAMES_MAX {
                tracing::warn!(
                    host = self.host(),
                    path,
                    "the list has more than {NAMES_MAX} names: the rest is left out"
                );
                names.truncate(NAMES_MAX);
                return Ok(Some(Pages { names, is_authorized }));
            }
            match next.filter(|next| has_names && *next != query) {
                Some(next) => query = next,
                None => return Ok(Some(Pages { names, is_authorized })),
            }
        }
        tracing::warn!(host = self.host(), path, "the list has more than {PAGES_MAX} pages: the rest is left out");
        Ok(Some(Pages { names, is_authorized }))
    }
}

/// The query of the next page in a `Link` header. Only the query is used, so a list cannot lead to another place.
fn next_query(link: &HeaderValue) -> Option<String> {
    let (url, rest) = link.to_str().ok()?.trim().strip_prefix('<')?.split_once('>')?;
    if !rest.contains("next") {
        return None;
    }
    let base = Url::parse("http://upstream.invalid/").ok()?;
    base.join(url).ok()?.query().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_query_of_a_link_is_followed() {
        for (link, query) in [
            ("</v2/_catalog?last=a&n=2>; rel=\"next\"", Some("last=a&n=2")),
            ("<https://evil.example/v2/x?next_page=abc>; rel=next", Some("next_page=abc")),
            ("<?last=a%2Fb>; rel=\"next\"", Some("last=a%2Fb")),
            ("</v2/_catalog?last=a>; rel=\"prev\"", None),
            ("</v2/_catalog>; rel=\"next\"", None),
            ("nothing", None),
        ] {
            let value = HeaderValue::from_static(link);
            assert_eq!(next_query(&value).as_deref(), query, "{link}");
        }
    }
}
