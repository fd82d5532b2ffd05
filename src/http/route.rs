//! Request line → [`Route`]: the operation and its values, for every path but those of API v1. Pure: reads no state.
//!
//! A request line can be wrong in several ways, each with a [`RouteError`] of its own. Every value is checked.
//!
//! To add an operation: a variant of [`Route`], a line in [`Route::access`], an arm in `http::operation`, the handler,
//! and its row in `tests/it/accounts/routes.txt`. The compiler, and a test for the row, report what is missing.

mod extension;
mod path;
mod query;
mod sign_in;
mod template;

use std::borrow::Cow;

pub(crate) use extension::Preference;
use hyper::Method;
pub(crate) use path::Path;
pub(crate) use query::Query;

use crate::content::repository::{ManifestTarget, ReferrerCursor};
use crate::identity::access::{Access, Actions};
use crate::oci::{Algorithm, Digest, ErrorCode, InvalidReference, Reference, RepositoryName, Tag, UploadId};

/// The most tags in one push. Proxies refuse request lines of more than 8 KiB, and a tag may have 128 bytes.
const PUSHED_TAGS_MAX: usize = 46;

/// An operation with its values.
#[derive(Clone, Debug)]
pub(crate) enum Route {
    Ping,
    Catalog {
        page: Page,
    },
    Tags {
        name: RepositoryName,
        page: Page,
    },
    Referrers {
        name: RepositoryName,
        subject: Digest,
        types: Vec<String>,
        after: ReferrerCursor,
        limit: Option<usize>,
    },
    GetManifest {
        name: RepositoryName,
        reference: Reference,
    },
    HeadManifest {
        name: RepositoryName,
        reference: Reference,
    },
    PutManifest {
        name: RepositoryName,
        target: ManifestTarget,
    },
    DeleteManifest {
        name: RepositoryName,
        reference: Reference,
    },
    GetBlob {
        name: RepositoryName,
        digest: Digest,
    },
    HeadBlob {
        name: RepositoryName,
        digest: Digest,
    },
    DeleteBlob {
        name: RepositoryName,
        digest: Digest,
    },
    StartUpload {
        name: RepositoryName,
        algorithm: Algorithm,
    },
    PushBlob {
        name: RepositoryName,
        digest: Digest,
    },
    MountBlob {
        name: RepositoryName,
        digest: Digest,
    },
    UploadStatus {
        name: RepositoryName,
        id: UploadId,
    },
    UploadChunk {
        name: RepositoryName,
        id: UploadId,
    },
    FinishUpload {
        name: RepositoryName,
        id: UploadId,
        digest: Digest,
    },
    CancelUpload {
        name: RepositoryName,
        id: UploadId,
    },
    /// An access token for credentials (Docker token specification), requested in the URL or in a form.
    GetToken {
        query: Query,
    },
    PostToken,
    /// zot's route for the ID tokens of workloads, which may be in a form.
    ExchangeToken {
        query: Query,
        is_form: bool,
    },
    /// The keys that verify access tokens.
    TokenKeys,
    /// The response to a challenge HTTP-01 of an ACME authority (RFC 8555, 8.3).
    AcmeChallenge(String),
    /// zot's API keys.
    ListKeys,
    CreateKey,
    RevokeKey {
        id: String,
    },
    /// A CORS preflight: a browser asks whether a page of another origin may send a request.
    Preflight,
    /// The extensions that the registry offers (distribution-spec, "Extension API").
    Discover,
    /// The ways to sign in, for zot's web page and command line.
    Management,
    /// zot's search, with the query in the URL or in the body.
    GetSearch {
        query: Query,
    },
    PostSearch,
    /// Stars or bookmarks a repository, or undoes it.
    TogglePreference {
        name: RepositoryName,
        preference: Preference,
    },
    /// The start of a sign-in: sends the browser to an identity provider.
    Login {
        query: Query,
    },
    /// The end of a sign-in: the browser comes back from an identity provider.
    Callback {
        provider: String,
        query: Query,
    },
    /// The user, who signed in with a browser, allows or refuses the sign-in of a program.
    Confirm,
    /// The end of a session of zot's web page.
    Logout,
    /// The path `/`, which load balancers and people request.
    Root,
    Live,
    Ready,
    Started,
    Metrics,
}

/// A page of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Page {
    /// The largest number of entries.
    pub(crate) limit: Option<usize>,
    /// The entry before the page. It need not exist.
    pub(crate) last: String,
}

/// Why a request line is not a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RouteError {
    /// The path does not exist.
    NotFound,
    /// The path exists, but not for this method.
    MethodNotAllowed { allow: Cow<'static, str> },
    /// The path exists, but one of its values is invalid.
    Malformed { code: ErrorCode, message: String },
    /// The request line has too many values.
    TooLong { message: String },
}

impl Route {
    /// The repository of a pull, which a mirror may have under another name.
    pub(crate) const fn pulled_repository(&mut self) -> Option<&mut RepositoryName> {
        match self {
            Self::Tags { name, .. }
            | Self::Referrers { name, .. }
            | Self::GetManifest { name, .. }
            | Self::HeadManifest { name, .. }
            | Self::GetBlob { name, .. }
            | Self::HeadBlob { name, .. } => Some(name),
            _ => None,
        }
    }

    /// The access that the operation requires. A new operation does not compile without a line here.
    pub(crate) fn access(&self) -> Access {
        let to = |name: &RepositoryName, any| Access::Repository(name.clone(), any);
        match self {
            Self::Root
            | Self::Live
            | Self::Ready
            | Self::Started
            | Self::Preflight
            | Self::Management
            | Self::Login { .. }
            | Self::Callback { .. }
            | Self::Confirm
            | Self::Logout
            | Self::AcmeChallenge { .. }
            | Self::TokenKeys => Access::Anyone,
            Self::GetToken { .. } | Self::PostToken | Self::ExchangeToken { .. } => Access::Token,
            Self::ListKeys | Self::CreateKey | Self::RevokeKey { .. } => Access::OwnKeys,
            Self::Ping => Access::SignedIn,
            Self::Discover => Access::Guest,
            Self::Catalog { .. } | Self::GetSearch { .. } | Self::PostSearch => Access::Catalog,
            Self::Metrics => Access::Metrics,
            Self::Tags { name, .. }
            | Self::Referrers { name, .. }
            | Self::GetManifest { name, .. }
            | Self::HeadManifest { name, .. }
            | Self::GetBlob { name, .. }
            | Self::HeadBlob { name, .. }
            | Self::TogglePreference { name, .. } => to(name, Actions::PULL),
            // A mount also needs a source: a repository that has the blob and that the caller may pull from.
            Self::MountBlob { name, .. }
            | Self::StartUpload { name, .. }
            | Self::PushBlob { name, .. }
            | Self::UploadStatus { name, .. }
            | Self::UploadChunk { name, .. }
            | Self::FinishUpload { name, .. }
            | Self::CancelUpload { name, .. }
            | Self::PutManifest { name, .. } => to(name, Actions::PUSH),
            Self::DeleteManifest { name, .. } | Self::DeleteBlob { name, .. } => to(name, Actions::DELETE),
        }
    }

    /// Whether it brings in blobs or manifests, for which there must be space on the disk.
    pub(crate) fn brings_content(&self) -> bool {
        matches!(
            self,
            Self::PutManifest { .. }
                | Self::StartUpload { .. }
                | Self::PushBlob { .. }
                | Self::MountBlob { .. }
                | Self::UploadChunk { .. }
                | Self::FinishUpload { .. }
        )
    }

    /// The scope that an access token needs for the operation, for the challenge (Docker token specification). `None` if
    /// every access token is enough.
    ///
    /// Some clients, oras-py among them, keep the token of their first challenge. The challenge of a `HEAD` therefore
    /// names the actions that usually follow. `reduces` says whether the token service grants less than was requested,
    /// as ours does. Other services may refuse, so a pull, which begins with `HEAD` of the manifest, requests no more.
    pub(crate) fn scope(&self, reduces: bool) -> Option<String> {
        match self.access() {
            Access::Catalog => Some("registry:catalog:*".to_owned()),
            Access::Repository(name, _) if matches!(self, Self::HeadBlob { .. }) => {
                Some(format!("repository:{name}:pull,push"))
            }
            Access::Repository(name, _) if reduces && matches!(self, Self::HeadManifest { .. }) => {
                Some(format!("repository:{name}:pull,push,delete"))
            }
            Access::Repository(name, any) if any == Actions::PULL => Some(format!("repository:{name}:pull")),
            Access::Repository(name, any) if any == Actions::DELETE => Some(format!("repository:{name}:delete")),
            Access::Repository(name, _) => Some(format!("repository:{name}:pull,push")),
            Access::Anyone
            | Access::Token
            | Access::SignedIn
            | Access::Guest
            | Access::Metrics
            | Access::OwnKeys
            | Access::Account(_) => None,
        }
    }
}

/// Reads a request line. `metrics` is the configured path of the metrics, if they are on.
pub(crate) fn parse(
    method: &Method,
    path: &Path<'_>,
    query: Option<&str>,
    metrics: Option<&str>,
) -> Result<Route, RouteError> {
    let path = path.as_str().ok_or(RouteError::NotFound)?;
    if metrics == Some(path) {
        return probe(method, Route::Metrics);
    }
    match path {
        "/" => return probe(method, Route::Root),
        "/livez" => return probe(method, Route::Live),
        "/readyz" => return probe(method, Route::Ready),
        "/startupz" => return probe(method, Route::Started),
        "/v2" | "/v2/" => return probe(method, Route::Ping),
        _ => {}
    }
    if let Some(token) = path.strip_prefix(path::ACME_CHALLENGE) {
        return extension::challenge(method, token);
    }
    if matches!(path, "/v2/auth" | "/v2/token") {
        return sign_in::token(method, query.unwrap_or_default());
    }
    if path == "/zot/auth/token" {
        return sign_in::exchange(method, query.unwrap_or_default());
    }
    if let Some(provider) = ["/zot/auth/callback/", "/auth/callback/"].iter().find_map(|way| path.strip_prefix(way)) {
        return sign_in::callback(method, provider, query.unwrap_or_default());
    }
    let query = extension::parameters(path, query.unwrap_or_default())?;
    match path {
        // zot's route, and its route in the first releases with API keys.
        "/zot/auth/apikey" | "/v2/_zot/ext/apikey" => return extension::keys(method, &query),
        "/zot/auth/login" | "/auth/login" => return sign_in::login(method, query),
        "/zot/auth/confirm" => return sign_in::confirm(method),
        "/zot/auth/logout" | "/auth/logout" => return sign_in::logout(method),
        "/.well-known/jwks.json" => return probe(method, Route::TokenKeys),
        "/v2/_oci/ext/discover" => return probe(method, Route::Discover),
        "/v2/_zot/ext/mgmt" => return probe(method, Route::Management),
        extension::SEARCH_PATH => return extension::search(method, query),
        "/v2/_zot/ext/userprefs" => return extension::preference(method, &query),
        _ => {}
    }
    let rest = path.strip_prefix("/v2/").ok_or(RouteError::NotFound)?;
    if rest == "_catalog" {
        return probe(method, Route::Catalog { page: query.page()? });
    }
    // Names have slashes, so the rest of the path is read from the right.
    if let Some(name) = rest.strip_suffix("/tags/list") {
        return probe(method, Route::Tags { name: repository(name)?, page: query.page()? });
    }
    let (head, last) = rest.rsplit_once('/').ok_or(RouteError::NotFound)?;
    if let Some(name) = head.strip_suffix("/manifests") {
        return manifest(method, name, last, &query);
    }
    if let Some(name) = head.strip_suffix("/referrers") {
        return referrers(method, name, last, &query);
    }
    if let Some(name) = head.strip_suffix("/blobs/uploads") {
        return if last.is_empty() { start(method, name, &query) } else { upload(method, name, last, &query) };
    }
    if let Some(name) = head.strip_suffix("/blobs") {
        return if last == "uploads" { start(method, name, &query) } else { blob(method, name, last) };
    }
    Err(RouteError::NotFound)
}

/// A route for `GET` and `HEAD`.
fn probe(method: &Method, route: Route) -> Result<Route, RouteError> {
    match *method {
        Method::GET | Method::HEAD => Ok(route),
        _ => Err(RouteError::MethodNotAllowed { allow: "GET, HEAD".into() }),
    }
}

fn manifest(method: &Method, name: &str, last: &str, query: &Query) -> Result<Route, RouteError> {
    let allowed = [Method::GET, Method::HEAD, Method::PUT, Method::DELETE].contains(method);
    if !allowed {
        return Err(RouteError::MethodNotAllowed { allow: "GET, HEAD, PUT, DELETE".into() });
    }
    let name = repository(name)?;
    let reference: Reference = last.parse().map_err(|invalid: InvalidReference| {
        let code = match &invalid {
            InvalidReference::Digest(_) => ErrorCode::DigestInvalid,
            // A manifest with an invalid tag does not exist, and cannot be pushed.
            InvalidReference::Tag(_) if *method == Method::PUT => ErrorCode::ManifestInvalid,
            InvalidReference::Tag(_) => ErrorCode::ManifestUnknown,
        };
        RouteError::Malformed { code, message: invalid.to_string() }
    })?;
    Ok(match *method {
        Method::GET => Route::GetManifest { name, reference },
        Method::HEAD => Route::HeadManifest { name, reference },
        Method::PUT => Route::PutManifest { name, target: target(reference, query)? },
        _ => Route::DeleteManifest { name, reference },
    })
}

fn target(reference: Reference, query: &Query) -> Result<ManifestTarget, RouteError> {
    let mut tags = Vec::new();
    for tag in query.all("tag") {
        if tags.len() == PUSHED_TAGS_MAX {
            let message = format!("at most {PUSHED_TAGS_MAX} tags are pushed at once");
            return Err(RouteError::TooLong { message });
        }
        let tag: Tag =
            tag.parse().map_err(|invalid: InvalidReference| malformed(ErrorCode::ManifestInvalid, &invalid))?;
        if !tags.contains(&tag) {
            tags.push(tag);
        }
    }
    match reference {
        Reference::Digest(digest) => Ok(ManifestTarget::Digest { digest, tags }),
        Reference::Tag(tag) if tags.is_empty() => Ok(ManifestTarget::Tag(tag)),
        Reference::Tag(_) => Err(malformed(
            ErrorCode::ManifestInvalid,
            &"the parameter tag goes with a push by digest, not with a push by tag",
        )),
    }
}

fn referrers(method: &Method, name: &str, last: &str, query: &Query) -> Result<Route, RouteError> {
    if *method != Method::GET && *method != Method::HEAD {
        return Err(RouteError::MethodNotAllowed { allow: "GET, HEAD".into() });
    }
    let name = repository(name)?;
    let subject = digest(last)?;
    let after = match query.one("last")? {
        None => ReferrerCursor::default(),
        Some(cursor) => {
            let invalid =
                || malformed(ErrorCode::Unsupported, &"the parameter last is not one that a Link header gave");
            let (kind, digest) = cursor.rsplit_once('@').ok_or_else(invalid)?;
            let digest = digest.parse().map_err(|_| invalid())?;
            ReferrerCursor { artifact_type: kind.to_owned(), digest: Some(digest) }
        }
    };
    let types = query.all("artifactType").map(str::to_owned).collect();
    Ok(Route::Referrers { name, subject, types, after, limit: query.number("n")? })
}

fn blob(method: &Method, name: &str, last: &str) -> Result<Route, RouteError> {
    let route = match *method {
        Method::GET => |name, digest| Route::GetBlob { name, digest },
        Method::HEAD => |name, digest| Route::HeadBlob { name, digest },
        Method::DELETE => |name, digest| Route::DeleteBlob { name, digest },
        _ => return Err(RouteError::MethodNotAllowed { allow: "GET, HEAD, DELETE".into() }),
    };
    Ok(route(repository(name)?, digest(last)?))
}

fn start(method: &Method, name: &str, query: &Query) -> Result<Route, RouteError> {
    if *method != Method::POST {
        return Err(RouteError::MethodNotAllowed { allow: "POST".into() });
    }
    let name = repository(name)?;
    if let Some(text) = query.one("mount")? {
        let digest = digest(text)?;
        // Without `from` the registry looks for the blob in every repository. If `from` is no valid repository name,
        // there is no source, and the client pushes the blob itself (distribution-spec, "Mounting a blob").
        let is_source = query.all("from").all(|from| repository(from).is_ok()) && query.one("from").is_ok();
        return Ok(if is_source {
            Route::MountBlob { name, digest }
        } else {
            Route::StartUpload { name, algorithm: digest.algorithm() }
        });
    }
    if let Some(text) = query.one("digest")? {
        return Ok(Route::PushBlob { name, digest: digest(text)? });
    }
    let algorithm = match query.one("digest-algorithm")? {
        Some(text) => text
            .parse()
            .map_err(|invalid| malformed::<crate::oci::InvalidDigest>(ErrorCode::DigestInvalid, &invalid))?,
        None => Algorithm::Sha256,
    };
    Ok(Route::StartUpload { name, algorithm })
}

fn upload(method: &Method, name: &str, last: &str, query: &Query) -> Result<Route, RouteError> {
    let allowed = [Method::GET, Method::HEAD, Method::PATCH, Method::PUT, Method::DELETE].contains(method);
    if !allowed {
        return Err(RouteError::MethodNotAllowed { allow: "GET, HEAD, PATCH, PUT, DELETE".into() });
    }
    let name = repository(name)?;
    let id: UploadId = last
        .parse()
        .map_err(|invalid: crate::oci::InvalidUploadId| malformed(ErrorCode::BlobUploadUnknown, &invalid))?;
    Ok(match *method {
        Method::GET | Method::HEAD => Route::UploadStatus { name, id },
        Method::PATCH => Route::UploadChunk { name, id },
        Method::DELETE => Route::CancelUpload { name, id },
        _ => {
            let missing = || {
                malformed(ErrorCode::DigestInvalid, &"the parameter digest says what the blob must be: it is missing")
            };
            Route::FinishUpload { name, id, digest: digest(query.one("digest")?.ok_or_else(missing)?)? }
        }
    })
}

/// Reads the name of a repository.
pub(crate) fn repository(text: &str) -> Result<RepositoryName, RouteError> {
    text.parse().map_err(|invalid: crate::oci::InvalidName| malformed(ErrorCode::NameInvalid, &invalid))
}

/// Reads a digest.
pub(crate) fn digest(text: &str) -> Result<Digest, RouteError> {
    text.parse().map_err(|invalid: crate::oci::InvalidDigest| malformed(ErrorCode::DigestInvalid, &invalid))
}

fn malformed<E: ToString + ?Sized>(code: ErrorCode, why: &E) -> RouteError {
    RouteError::Malformed { code, message: why.to_string() }
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
