//! [`Client`]: the client of one other registry, called the upstream.
//!
//! Connections are pooled, HTTP/1.1 or HTTP/2. A response may take as long as its bytes keep arriving. A request that
//! fails for a reason that may pass is repeated, within the [`Effort`] of its caller. After a failure the upstream is left
//! alone for a while, so that clients of ours do not wait for it one after the other ([`health`]).
//!
//! The upstream is not trusted. Invariants:
//!
//! * Credentials go to the upstream's own host, and to a token service that belongs to it ([`realm`]). A redirect to another
//!   host loses them. A connection with TLS never leads to one without.
//! * A manifest is returned only if its bytes have the digest that was requested or announced. The reader of a blob
//!   compares its digest.
//! * Every head, list, token and manifest has a limit. A blob has the length that its response announced.

mod challenge;
mod connector;
mod credentials;
mod error;
mod headers;
mod health;
mod realm;
mod redirect;
#[cfg(test)]
mod tests;
mod token;
mod transport;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, Response, StatusCode};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use url::Url;

use challenge::Challenge;
pub(crate) use credentials::Credentials;
pub(crate) use error::Error;
use headers::{announced_digest, content_length, content_range, quota, retry_after};
use health::Health;
use token::Tokens;
use transport::Transport;
pub(crate) use transport::{TransportSettings, host_of};

use crate::oci::{Algorithm, Digest, Manifest, MediaType, Reference, RepositoryName};

/// The largest manifest that is fetched. Registries accept 4 MiB.
const MANIFEST_BYTES_MAX: usize = 4 * 1024 * 1024;
/// The largest list of referrers.
const LIST_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How much of the body of an error is read for its message.
const MESSAGE_BYTES_MAX: usize = 8 * 1024;
/// The longest `Retry-After` that a request waits for. A longer one fails at once.
const RETRY_AFTER_MAX: Duration = Duration::from_mins(2);

/// The settings of a [`Client`].
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// The address of the upstream: scheme, host and port. A path is a prefix of all repositories.
    pub(crate) url: Url,
    pub(crate) transport: TransportSettings,
    pub(crate) credentials: Credentials,
    /// Token services on other domains that may get the credentials: their hosts.
    pub(crate) token_hosts: Vec<String>,
    /// The number of requests at a time, bodies included.
    pub(crate) concurrency: usize,
    /// The longest pause between two parts of a body.
    pub(crate) idle: Duration,
    /// The most repetitions of a request, however patient its caller is.
    pub(crate) retries: u32,
    /// The pause before the first repetition. Each further one is twice as long.
    pub(crate) retry_delay: Duration,
    /// The longest pause before a repetition.
    pub(crate) retry_delay_max: Duration,
}

/// How long a caller tries.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    /// How often a request is repeated.
    pub(crate) retries: u32,
    /// The longest time to the head of a response, for each attempt and for everything it needs, such as a token.
    pub(crate) wait: Duration,
    /// Whether a request is sent to an upstream that failed a moment ago.
    pub(crate) insists: bool,
}

/// The client of one upstream. A clone is the same client.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    settings: Settings,
    /// Host and port, for messages.
    host: String,
    transport: Transport,
    slots: Arc<Semaphore>,
    health: Health,
    tokens: Tokens,
    /// The last challenge of the upstream. Later requests bring their credentials at once.
    challenge: Mutex<Option<Challenge>>,
}

/// A manifest of the upstream.
#[derive(Clone, Debug)]
pub(crate) struct FetchedManifest {
    pub(crate) digest: Digest,
    pub(crate) media_type: MediaType,
    pub(crate) bytes: Bytes,
}

/// The state of a manifest at the upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ManifestState {
    /// It has the digest that the caller knows.
    Unchanged,
    /// It has this digest, or the upstream does not say which.
    Changed(Option<Digest>),
}

/// The bytes of a blob, while they arrive.
#[derive(Debug)]
pub(crate) struct Download {
    host: String,
    body: Incoming,
    idle: Duration,
    /// The offset of the first byte in the blob. It is 0 if the upstream does not support ranges.
    pub(crate) offset: u64,
    /// The size of the blob, if the upstream announces it.
    pub(crate) size: Option<u64>,
    _slot: OwnedSemaphorePermit,
}

impl Download {
    /// Returns the next bytes, or `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            let frame = timeout(self.idle, self.body.frame()).await;
            let frame = frame.map_err(|_| Error::Timeout { host: self.host.clone(), after: self.idle })?;
            match frame {
                None => return Ok(None),
                Some(Err(error)) => return Err(Error::broken(&self.host, &error)),
                Some(Ok(frame)) => {
                    if let Ok(bytes) = frame.into_data() {
                        return Ok(Some(bytes));
                    }
                }
            }
        }
    }
}

/// A request, which may be sent more than once.
struct Ask<'a> {
    method: Method,
    /// The path after `/v2/`, with the query.
    path: String,
    /// The repository that an access token must be for.
    repository: &'a RepositoryName,
    headers: HeaderMap,
}

/// A response, and the slot that its body occupies.
struct Answered {
    response: Response<Incoming>,
    slot: OwnedSemaphorePermit,
}

impl Client {
    pub(crate) fn new(settings: Settings) -> Result<Self, Error> {
        let host = host_and_port(&settings.url)?;
        let transport = Transport::new(&settings.transport)?;
        let slots = Arc::new(Semaphore::new(settings.concurrency.max(1)));
        let (health, tokens, challenge) = (Health::default(), Tokens::default(), Mutex::default());
        Ok(Self { shared: Arc::new(Shared { settings, host, transport, slots, health, tokens, challenge }) })
    }

    /// Host and port of the upstream.
    pub(crate) fn host(&self) -> &str {
        &self.shared.host
    }

    /// The requests for manifests that the upstream still allows, if it says so.
    pub(crate) fn remaining_quota(&self) -> Option<u64> {
        self.shared.health.remaining_quota()
    }

    /// Fetches a manifest. Returns `None` if the upstream does not have it.
    pub(crate) async fn manifest(
        &self,
        repository: &RepositoryName,
        reference: &Reference,
        effort: Effort,
    ) -> Result<Option<FetchedManifest>, Error> {
        let ask = self.ask(Method::GET, repository, &format!("manifests/{reference}")).accepts_manifests();
        let Some(answered) = self.send(&ask, effort).await? else { return Ok(None) };
        let headers = answered.response.headers().clone();
        let bytes = self.collect(answered, MANIFEST_BYTES_MAX).await?;
        let announced = announced_digest(&headers);
        let digest = match reference {
            Reference::Digest(digest) => *digest,
            Reference::Tag(_) => announced.unwrap_or_else(|| Digest::of(Algorithm::Sha256, &bytes)),
        };
        let actual = Digest::of(digest.algorithm(), &bytes);
        if actual != digest {
            return Err(self.invalid(format!("the manifest has the digest {actual}, not {digest}")));
        }
        let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let media_type = MediaType::from_content_type(content_type)
            .map_err(|_| self.invalid("the manifest has no valid Content-Type".to_owned()))?;
        Ok(Some(FetchedManifest { digest, media_type, bytes }))
    }

    /// Asks whether a manifest is still the known one, without fetching it. Returns `None` if the upstream does not have
    /// it, according to its response to HEAD. Some registries answer so although they have the manifest.
    pub(crate) async fn manifest_state(
        &self,
        repository: &RepositoryName,
        reference: &Reference,
        known: Option<Digest>,
        effort: Effort,
    ) -> Result<Option<ManifestState>, Error> {
        let mut ask = self.ask(Method::HEAD, repository, &format!("manifests/{reference}")).accepts_manifests();
        if let Some(known) = known {
            let etag = HeaderValue::try_from(format!("\"{known}\"")).expect("a digest is a valid header");
            ask.headers.insert(header::IF_NONE_MATCH, etag);
        }
        let Some(Answered { response, .. }) = self.send(&ask, effort).await? else { return Ok(None) };
        let digest = announced_digest(response.headers());
        let is_same = response.status() == StatusCode::NOT_MODIFIED || digest.is_some() && digest == known;
        Ok(Some(if is_same { ManifestState::Unchanged } else { ManifestState::Changed(digest) }))
    }

    /// Fetches a blob from an offset. Returns `None` if the upstream does not have it. The caller compares its digest.
    pub(crate) async fn blob(
        &self,
        repository: &RepositoryName,
        digest: Digest,
        offset: u64,
        effort: Effort,
    ) -> Result<Option<Download>, Error> {
        let mut ask = self.ask(Method::GET, repository, &format!("blobs/{digest}"));
        if offset > 0 {
            ask.headers.insert(header::RANGE, HeaderValue::try_from(format!("bytes={offset}-")).expect("it is ASCII"));
        }
        let Some(Answered { response, slot }) = self.send(&ask, effort).await? else { return Ok(None) };
        let (head, body) = response.into_parts();
        let length = content_length(&head.headers);
        let (offset, size) = if head.status == StatusCode::PARTIAL_CONTENT {
            let (first, size) = content_range(&head.headers)
                .filter(|(first, _)| *first == offset)
                .ok_or_else(|| self.invalid("the Content-Range is not what was requested".to_owned()))?;
            (first, size.or(length.map(|length| first + length)))
        } else {
            (0, length)
        };
        let (host, idle) = (self.shared.host.clone(), self.shared.settings.idle);
        Ok(Some(Download { host, body, idle, offset, size, _slot: slot }))
    }

    /// Returns the size of a blob, or `None` if the upstream does not have it.
    pub(crate) async fn blob_size(
        &self,
        repository: &RepositoryName,
        digest: Digest,
        effort: Effort,
    ) -> Result<Option<u64>, Error> {
        let ask = self.ask(Method::HEAD, repository, &format!("blobs/{digest}"));
        let Some(Answered { response, .. }) = self.send(&ask, effort).await? else { return Ok(None) };
        match content_length(response.headers()) {
            Some(size) => Ok(Some(size)),
            None => Err(self.invalid("a blob has no Content-Length".to_owned())),
        }
    }

    /// Fetches the first referrers of a manifest: their digests. Returns `None` if the upstream does not support referrers.
    pub(crate) async fn referrers(
        &self,
        repository: &RepositoryName,
        subject: Digest,
        effort: Effort,
    ) -> Result<Option<Vec<Digest>>, Error> {
        let ask = self.ask(Method::GET, repository, &format!("referrers/{subject}"));
        let Some(answered) = self.send(&ask, effort).await? else { return Ok(None) };
        let bytes = self.collect(answered, LIST_BYTES_MAX).await?;
        let index = Manifest::read(&bytes, None).map_err(|error| self.invalid(error.to_string()))?;
        Ok(Some(index.manifests().iter().map(|child| child.digest).collect()))
    }

    fn ask<'a>(&self, method: Method, repository: &'a RepositoryName, rest: &str) -> Ask<'a> {
        let prefix = self.shared.settings.url.path().trim_matches('/');
        let slash = if prefix.is_empty() { "" } else { "/" };
        Ask { method, path: format!("{prefix}{slash}{repository}/{rest}"), repository, headers: HeaderMap::new() }
    }

    /// Sends a request until it succeeds or the caller's effort is spent. Returns `None` for 404.
    async fn send(&self, ask: &Ask<'_>, effort: Effort) -> Result<Option<Answered>, Error> {
        let Shared { settings, health, host, slots, .. } = &*self.shared;
        let mut attempt = 0;
        loop {
            if !effort.insists {
                health.check()?;
            }
            let attempted = timeout(effort.wait, async {
                let slot = Arc::clone(slots).acquire_owned().await.map_err(|_| Error::Stopped)?;
                let response = Box::pin(self.exchange(ask)).await?;
                Ok(Answered { response, slot })
            });
            let attempted = attempted.await;
            let result = attempted.unwrap_or_else(|_| Err(Error::Timeout { host: host.clone(), after: effort.wait }));
            let error = match result {
                Ok(answered) => {
                    health.succeeded(quota(answered.response.headers()));
                    return Ok(Some(answered));
                }
                Err(Error::NotFound) => {
                    health.succeeded(None);
                    return Ok(None);
                }
                Err(error) => error,
            };
            health.failed(&error);
            let doubled = settings.retry_delay.saturating_mul(1 << attempt.min(16)).min(settings.retry_delay_max);
            let delay = error.retry_after().unwrap_or(doubled);
            if attempt >= effort.retries.min(settings.retries) || !error.is_transient() || delay > RETRY_AFTER_MAX {
                return Err(error);
            }
            attempt += 1;
            sleep(delay).await;
        }
    }

    /// Sends a request once, with the credentials that the upstream wants.
    async fn exchange(&self, ask: &Ask<'_>) -> Result<Response<Incoming>, Error> {
        let known = self.shared.challenge.lock().clone();
        let sent = self.authorization(known.as_ref(), ask, None).await?;
        let response = self.follow(ask, sent.as_ref()).await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return self.classify(response).await;
        }
        let Some(challenge) = Challenge::strongest(response.headers()) else { return self.classify(response).await };
        *self.shared.challenge.lock() = Some(challenge.clone());
        // A token that was refused is not used again.
        let authorization = self.authorization(Some(&challenge), ask, sent.as_ref()).await?;
        if authorization.is_none() || authorization == sent {
            return self.classify(response).await;
        }
        let response = self.follow(ask, authorization.as_ref()).await?;
        self.classify(response).await
    }

    /// The `Authorization` of a request. `refused` is one that the upstream did not accept.
    async fn authorization(
        &self,
        challenge: Option<&Challenge>,
        ask: &Ask<'_>,
        refused: Option<&HeaderValue>,
    ) -> Result<Option<HeaderValue>, Error> {
        match challenge {
            None => Ok(None),
            Some(Challenge::Basic) => {
                let login = self.shared.settings.credentials.of(&self.shared.host).await?;
                Ok(login.as_ref().and_then(credentials::Login::basic))
            }
            Some(Challenge::Bearer(bearer)) => {
                let scope = format!("repository:{}:pull", token_name(&self.shared.settings.url, ask.repository));
                self.shared.tokens.get(self, bearer, &scope, refused).await.map(Some)
            }
        }
    }

    /// Sends a request, and follows redirects.
    async fn follow(&self, ask: &Ask<'_>, authorization: Option<&HeaderValue>) -> Result<Response<Incoming>, Error> {
        let Shared { settings, transport, host, .. } = &*self.shared;
        let mut url = settings.url.clone();
        url.set_path("");
        let mut url = url.join(&format!("/v2/{}", ask.path)).map_err(|error| self.invalid(error.to_string()))?;
        let mut hops = 0;
        loop {
            let mut headers = ask.headers.clone();
            if let Some(authorization) = authorization.filter(|_| redirect::is_same_origin(&url, &settings.url)) {
                headers.insert(header::AUTHORIZATION, authorization.clone());
            }
            let response = transport.send(&ask.method, &url, headers, Bytes::new()).await?;
            if !redirect::is_redirect(response.status()) {
                return Ok(response);
            }
            hops += 1;
            let location = response.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
            url = redirect::next(&url, location, hops)
                .map_err(|why| Error::Redirect { host: host.clone(), why: why.to_owned() })?;
        }
    }

    /// Turns an error status into an error.
    async fn classify(&self, response: Response<Incoming>) -> Result<Response<Incoming>, Error> {
        let (host, status) = (self.shared.host.clone(), response.status());
        if status.is_success() || status == StatusCode::NOT_MODIFIED {
            return Ok(response);
        }
        let retry_after = retry_after(response.headers());
        if status == StatusCode::NOT_FOUND {
            return Err(Error::NotFound);
        }
        let message = error_message(response).await;
        Err(match status {
            StatusCode::UNAUTHORIZED => Error::Unauthorized { host, message },
            StatusCode::FORBIDDEN => Error::Denied { host, message },
            StatusCode::TOO_MANY_REQUESTS => Error::RateLimited { host, retry_after, message },
            status if status.is_server_error() => Error::Failed { host, status, retry_after, message },
            status => Error::Unexpected { host, status, message },
        })
    }

    /// Reads a body of at most `limit` bytes.
    async fn collect(&self, answered: Answered, limit: usize) -> Result<Bytes, Error> {
        let Shared { host, settings, .. } = &*self.shared;
        let Answered { response, slot } = answered;
        let _slot = slot;
        transport::collect(host, response.into_body(), limit, settings.idle).await
    }

    fn invalid(&self, cause: String) -> Error {
        Error::Invalid { host: self.shared.host.clone(), cause }
    }
}

impl Ask<'_> {
    fn accepts_manifests(mut self) -> Self {
        let accepted = MediaType::MANIFESTS.join(", ");
        self.headers.insert(header::ACCEPT, HeaderValue::try_from(accepted).expect("media types are ASCII"));
        self
    }
}

/// The name of a repository in the scope of a token: with the path of the upstream's address.
fn token_name(url: &Url, repository: &RepositoryName) -> String {
    let prefix = url.path().trim_matches('/');
    if prefix.is_empty() { repository.to_string() } else { format!("{prefix}/{repository}") }
}

fn host_and_port(url: &Url) -> Result<String, Error> {
    let host = url.host_str().filter(|_| matches!(url.scheme(), "http" | "https"));
    let host = host.ok_or_else(|| Error::Url(format!("{url} must begin with https:// or http:// and name a host")))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Error::Url(format!("the URL of {host} must not contain a user name or a password")));
    }
    Ok(transport::host_of(url))
}

/// The message of an error response: that of its first error, or the beginning of its text.
async fn error_message(response: Response<Incoming>) -> String {
    #[derive(serde::Deserialize)]
    struct Document {
        errors: Vec<One>,
    }
    #[derive(serde::Deserialize)]
    struct One {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    let is_json = response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().ends_with(b"json"));
    let wait = Duration::from_secs(1);
    let body = transport::collect("", response.into_body(), MESSAGE_BYTES_MAX, wait).await.unwrap_or_default();
    let text = match serde_json::from_slice::<Document>(&body) {
        Ok(document) => document.errors.first().map(|one| format!("{} {}", one.code, one.message)).unwrap_or_default(),
        Err(_) if is_json => String::new(),
        Err(_) => String::from_utf8_lossy(&body).into_owned(),
    };
    crate::kit::text::printable(text.trim())
}
