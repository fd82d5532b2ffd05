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
mod download;
mod error;
mod exchange;
mod head;
mod headers;
mod health;
mod list;
mod message;
mod realm;
mod redirect;
mod slots;
#[cfg(test)]
mod tests;
mod token;
mod transport;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, Response, StatusCode};
use tokio::time::{sleep, timeout, timeout_at};
use url::Url;

pub(crate) use credentials::{Credentials, Helper, Login};
pub(crate) use download::Download;
pub(crate) use error::{Error, Presented};
use exchange::{Deadline, Remembered};
use head::HeadSupport;
pub(crate) use head::{ManifestState, Refreshed};
use headers::{announced_digest, content_length, content_range, declared_type, quota, retry_after};
pub(crate) use health::Allowance;
use health::{ClientState, Health};
pub(crate) use list::Catalog;
use message::error_message;
use slots::{Kind, Slot, Slots};
use token::{Subject, Tokens};
pub(crate) use transport::{Transport, TransportSettings, collect, host_of};

use crate::oci::{Algorithm, Digest, Manifest, MediaType, Reference, RepositoryName};

/// The largest manifest that is fetched. Registries accept 4 MiB.
const MANIFEST_BYTES_MAX: usize = 4 * 1024 * 1024;
/// The largest list of referrers.
const LIST_BYTES_MAX: usize = 4 * 1024 * 1024;
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
    slots: Slots,
    health: Health,
    tokens: Tokens,
    challenge: Remembered,
    head_support: Arc<HeadSupport>,
}

/// A manifest of the upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FetchedManifest {
    pub(crate) digest: Digest,
    pub(crate) media_type: MediaType,
    pub(crate) bytes: Bytes,
}

/// A request, which may be sent more than once.
struct Ask<'a> {
    method: Method,
    /// The path after `/v2/`, with the query.
    path: String,
    /// The content that an access token must be for.
    subject: Subject<'a>,
    headers: HeaderMap,
}

/// Marks the response to a request that had an `Authorization`.
#[derive(Clone, Copy, Debug)]
struct Authorized;

/// A response, and the slot that its body occupies.
struct Answered {
    response: Response<Incoming>,
    slot: Slot,
}

impl Client {
    pub(crate) fn new(settings: Settings) -> Result<Self, Error> {
        let host = transport::checked_host(&settings.url)?;
        let transport = Transport::new(&settings.transport)?;
        let slots = Slots::new(settings.concurrency);
        Ok(Self::of(settings, host, transport, slots, Arc::default()))
    }

    fn of(
        settings: Settings,
        host: String,
        transport: Transport,
        slots: Slots,
        head_support: Arc<HeadSupport>,
    ) -> Self {
        let (health, tokens, challenge) = (Health::default(), Tokens::default(), Remembered::default());
        Self { shared: Arc::new(Shared { settings, host, transport, slots, health, tokens, challenge, head_support }) }
    }

    /// A client of the same upstream with other credentials. It shares the connections and the limit on requests, and
    /// nothing that depends on the credentials.
    pub(crate) fn with_login(&self, login: Login) -> Self {
        let Shared { settings, host, transport, slots, head_support, .. } = &*self.shared;
        let settings = Settings { credentials: Credentials::login(login), ..settings.clone() };
        Self::of(settings, host.clone(), transport.clone(), slots.clone(), Arc::clone(head_support))
    }

    /// Host and port of the upstream.
    pub(crate) fn host(&self) -> &str {
        &self.shared.host
    }

    /// The address of the upstream.
    pub(crate) fn url(&self) -> &Url {
        &self.shared.settings.url
    }

    /// How the upstream does, for people.
    pub(crate) fn state(&self) -> ClientState {
        self.shared.health.state()
    }

    /// The requests for manifests that the upstream still allows, if it says so.
    pub(crate) fn allowance(&self) -> Option<Allowance> {
        self.shared.health.allowance()
    }

    /// Fetches a manifest. Returns `None` if the upstream does not have it.
    pub(crate) async fn manifest(
        &self,
        repository: &RepositoryName,
        reference: &Reference,
        effort: Effort,
    ) -> Result<Option<FetchedManifest>, Error> {
        let ask = self.ask(Method::GET, repository, &format!("manifests/{reference}")).accepts_manifests();
        match self.send(&ask, effort).await? {
            Some(answered) => self.read_manifest(answered, reference, effort).await.map(Some),
            None => Ok(None),
        }
    }

    /// Reads the response to GET, and compares the digest. Fails if it is no manifest, such as the page of a hotel's network.
    async fn read_manifest(
        &self,
        answered: Answered,
        reference: &Reference,
        effort: Effort,
    ) -> Result<FetchedManifest, Error> {
        let headers = answered.response.headers().clone();
        let bytes = self.collect(answered, MANIFEST_BYTES_MAX, effort).await?;
        let announced = announced_digest(&headers);
        let digest = match reference {
            Reference::Digest(digest) => *digest,
            Reference::Tag(_) => announced.unwrap_or_else(|| Digest::of(Algorithm::Sha256, &bytes)),
        };
        let actual = Digest::of(digest.algorithm(), &bytes);
        if actual != digest {
            return Err(self.invalid(format!("the manifest has the digest {actual}, not {digest}")));
        }
        let declared = declared_type(&headers)
            .map_err(|why| self.invalid(format!("the manifest has no valid Content-Type: {why}")))?;
        let manifest = Manifest::read_pushed(&bytes, declared.as_ref())
            .map_err(|error| self.invalid(format!("it is not a manifest: {error}")))?;
        Ok(FetchedManifest { digest, media_type: manifest.media_type().clone(), bytes })
    }

    /// Fetches a blob from an offset. `size` is its size, if that is known. Returns `None` if the upstream does not have
    /// it. The caller compares its digest.
    pub(crate) async fn blob(
        &self,
        repository: &RepositoryName,
        digest: Digest,
        offset: u64,
        size: Option<u64>,
        effort: Effort,
    ) -> Result<Option<Download>, Error> {
        let mut ask = self.ask(Method::GET, repository, &format!("blobs/{digest}"));
        if offset > 0 {
            ask.headers.insert(header::RANGE, HeaderValue::try_from(format!("bytes={offset}-")).expect("it is ASCII"));
        }
        let Some(Answered { response, slot }) = self.send(&ask, effort).await? else { return Ok(None) };
        let (head, body) = response.into_parts();
        let length = content_length(&head.headers);
        let (offset, announced) = if head.status == StatusCode::PARTIAL_CONTENT {
            let (first, size) = content_range(&head.headers)
                .filter(|(first, _)| *first == offset)
                .ok_or_else(|| self.invalid("the Content-Range is not what was requested".to_owned()))?;
            (first, size.or(length.map(|length| first + length)))
        } else {
            (0, length)
        };
        let size = match (announced, size) {
            (Some(announced), Some(size)) if announced != size => {
                return Err(self.invalid(format!("the blob has {announced} bytes, not {size} as in the manifest")));
            }
            (announced, size) => announced.or(size).ok_or_else(|| self.invalid("the blob has no size".to_owned()))?,
        };
        let (host, idle) = (self.shared.host.clone(), self.shared.settings.idle);
        Ok(Some(Download::new(host, body, idle, offset, size, slot)))
    }

    fn ask<'a>(&self, method: Method, repository: &'a RepositoryName, rest: &str) -> Ask<'a> {
        let prefix = self.shared.settings.url.path().trim_matches('/');
        let slash = if prefix.is_empty() { "" } else { "/" };
        Ask {
            method,
            path: format!("{prefix}{slash}{repository}/{rest}"),
            subject: Subject::Repository(repository),
            headers: HeaderMap::new(),
        }
    }

    /// Sends a request until it succeeds or the caller's effort is spent. Returns `None` for 404.
    async fn send(&self, ask: &Ask<'_>, effort: Effort) -> Result<Option<Answered>, Error> {
        let Shared { settings, health, host, slots, .. } = &*self.shared;
        let mut attempt = 0;
        loop {
            if !effort.insists
                && let Err(error) = health.check(effort.wait)
            {
                // A limit of requests that ends within the wait of the caller is no failure.
                let ends = error.limited_for().filter(|left| attempt < effort.retries && *left <= effort.wait);
                let Some(left) = ends else { return Err(error) };
                attempt += 1;
                sleep(left).await;
                continue;
            }
            // A wait for other requests says nothing about the upstream.
            let slot = timeout(effort.wait, slots.acquire(ask.kind())).await.ok().flatten();
            let slot = slot.ok_or_else(|| Error::Busy { host: host.clone() })?;
            let began = Instant::now();
            let deadline = Deadline::after(effort.wait);
            let attempted = timeout_at(deadline.at, Box::pin(self.exchange(ask, deadline))).await;
            let result = match attempted {
                Ok(exchanged) => exchanged.map(|response| Answered { response, slot }),
                Err(_) => Err(Error::Timeout { host: host.clone(), after: effort.wait }),
            };
            let error = match result {
                Ok(answered) => {
                    health.succeeded();
                    // Docker Hub counts and announces requests for manifests only, coracle all.
                    let quota = quota(answered.response.headers());
                    if quota.is_some() || ask.is_for_manifest() {
                        health.announced(quota);
                    }
                    return Ok(Some(answered));
                }
                Err(Error::NotFound) => {
                    health.succeeded();
                    return Ok(None);
                }
                Err(error) => error,
            };
            health.failed(&error, began);
            let doubled = settings.retry_delay.saturating_mul(1 << attempt.min(16)).min(settings.retry_delay_max);
            let delay = error.retry_after().unwrap_or(doubled);
            if attempt >= effort.retries.min(settings.retries) || !error.is_transient() || delay > RETRY_AFTER_MAX {
                return Err(error);
            }
            attempt += 1;
            sleep(delay).await;
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
            let authorization = authorization.filter(|_| redirect::is_same_origin(&url, &settings.url));
            if let Some(authorization) = authorization {
                headers.insert(header::AUTHORIZATION, authorization.clone());
            }
            let mut response = transport.send(&ask.method, &url, headers, Bytes::new()).await?;
            if authorization.is_some() {
                response.extensions_mut().insert(Authorized);
            }
            if !redirect::is_redirect(response.status()) {
                if !redirect::is_same_origin(&url, &settings.url) {
                    // The limits of another host are not those of the upstream.
                    headers::forget_quota(response.headers_mut());
                }
                return Ok(response);
            }
            hops += 1;
            let location = response.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
            url = redirect::next(&url, location, hops)
                .map_err(|why| Error::Redirect { host: host.clone(), why: why.to_owned() })?;
        }
    }

    /// Turns an error status into an error.
    async fn classify(&self, ask: &Ask<'_>, response: Response<Incoming>) -> Result<Response<Incoming>, Error> {
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
            StatusCode::UNAUTHORIZED => {
                Error::Unauthorized { host, presented: self.presented(ask.subject).await, message }
            }
            StatusCode::FORBIDDEN => Error::Denied { host, presented: self.presented(ask.subject).await, message },
            StatusCode::TOO_MANY_REQUESTS => Error::RateLimited { host, retry_after, message },
            // 501 does not pass.
            status if status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED => {
                Error::Failed { host, status, retry_after, message }
            }
            status => Error::Unexpected { host, status, message },
        })
    }

    /// Reads a body of at most `limit` bytes, within the wait of the caller.
    async fn collect(&self, answered: Answered, limit: usize, effort: Effort) -> Result<Bytes, Error> {
        let host = &self.shared.host;
        let Answered { response, slot: _slot } = answered;
        let collected = timeout(effort.wait, transport::collect(host, response.into_body(), limit, effort.wait)).await;
        collected.unwrap_or_else(|_| Err(Error::Timeout { host: host.clone(), after: effort.wait }))
    }

    fn invalid(&self, cause: String) -> Error {
        Error::Invalid { host: self.shared.host.clone(), cause }
    }
}

impl Answered {
    /// Whether the response says that the manifest has this digest.
    fn has(&self, digest: Digest) -> bool {
        self.response.status() == StatusCode::NOT_MODIFIED || announced_digest(self.response.headers()) == Some(digest)
    }
}

impl Ask<'_> {
    /// Bodies of blobs may take long.
    fn kind(&self) -> Kind {
        if self.method == Method::GET && self.path.contains("/blobs/") { Kind::Blob } else { Kind::Short }
    }

    fn is_for_manifest(&self) -> bool {
        self.path.contains("/manifests/")
    }

    /// A known manifest need not be sent again.
    fn unless(mut self, known: Digest) -> Self {
        let etag = HeaderValue::try_from(format!("\"{known}\"")).expect("a digest is a valid header");
        self.headers.insert(header::IF_NONE_MATCH, etag);
        self
    }

    fn accepts_manifests(mut self) -> Self {
        let accepted = MediaType::MANIFESTS.join(", ");
        self.headers.insert(header::ACCEPT, HeaderValue::try_from(accepted).expect("media types are ASCII"));
        self
    }
}
