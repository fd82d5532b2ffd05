//! Request line → [`Route`]: which operation, on what. Pure: touches no secret and no state.
//!
//! There are three ways for a request line to be wrong, and they are never mistaken for each other:
//! see [`RouteError`]. A handler that gets a route finds every value in it checked.

mod path;
mod query;
mod sign_in;
mod v1;

use std::borrow::Cow;

use hyper::Method;
pub(crate) use path::Path;
pub(crate) use query::Query;
pub(crate) use v1::{Endpoint, Row};

use crate::content::repository::{ManifestTarget, ReferrerCursor};
use crate::identity::access::{Access, Actions, Requires, Surface};
use crate::oci::{Algorithm, Digest, ErrorCode, InvalidReference, Reference, RepositoryName, Tag, UploadId};

/// More tags than this in one push would be refused by proxies on the way: each may have 128 bytes,
/// and request lines have 8 KiB.
const PUSHED_TAGS_MAX: usize = 46;

/// An operation and what it is on.
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
    /// A token for credentials (Docker token specification): asked for in the URL, or in a form.
    GetToken {
        query: Query,
    },
    PostToken,
    /// What tokens are verified with.
    TokenKeys,
    /// zot's API keys.
    ListKeys,
    CreateKey,
    RevokeKey {
        id: String,
    },
    /// A browser asks whether a page of another origin may ask.
    Preflight,
    /// A browser is to be sent to a provider.
    Login {
        query: Query,
    },
    /// A browser comes back from a provider.
    Callback {
        provider: String,
        query: Query,
    },
    /// Whoever has signed in in a browser says whether a program is.
    Confirm,
    /// The end of a session of zot's web page.
    Logout,
    /// Quay's API, with the values of the path's segments and the parameters.
    V1 {
        endpoint: Endpoint,
        /// What the path names, where it names one.
        repository: Option<RepositoryName>,
        values: Vec<String>,
        query: Query,
    },
    /// The path `/`, which load balancers and people ask for.
    Root,
    Live,
    Ready,
    Started,
    Metrics,
}

/// A part of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Page {
    /// How many entries are wanted.
    pub(crate) limit: Option<usize>,
    /// The list goes on behind this one, which need not exist.
    pub(crate) last: String,
}

/// Why a request line is not a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RouteError {
    /// There is no such path.
    NotFound,
    /// There is, but not for this method.
    MethodNotAllowed { allow: Cow<'static, str> },
    /// There is, but a value in it is not what it must be.
    Malformed { code: ErrorCode, message: String },
    /// The request line has more than is reasonable.
    TooLong { message: String },
}

impl Route {
    /// What the operation asks of the caller. A new operation does not compile without a line here.
    pub(crate) fn access(&self) -> Access {
        let to = |name: &RepositoryName, any| Access::Repository(name.clone(), any);
        match self {
            Self::Root
            | Self::Live
            | Self::Ready
            | Self::Started
            | Self::Preflight
            | Self::Login { .. }
            | Self::Callback { .. }
            | Self::Confirm
            | Self::Logout
            | Self::TokenKeys => Access::Anyone,
            Self::GetToken { .. } | Self::PostToken => Access::Token,
            Self::ListKeys | Self::CreateKey | Self::RevokeKey { .. } => Access::OwnKeys,
            Self::V1 { endpoint, repository, .. } => match (endpoint.row().requires, repository) {
                (Requires::Repository(action), Some(name)) => to(name, Actions::of(action)),
                (requires, _) => Access::Account(requires),
            },
            Self::Ping => Access::SignedIn,
            Self::Catalog { .. } => Access::Catalog,
            Self::Metrics => Access::Metrics,
            Self::Tags { name, .. }
            | Self::Referrers { name, .. }
            | Self::GetManifest { name, .. }
            | Self::HeadManifest { name, .. }
            | Self::GetBlob { name, .. }
            | Self::HeadBlob { name, .. } => to(name, Actions::PULL),
            // A mount also looks for a repository with the blob that the caller may pull.
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
}

impl Route {
    /// Whether it brings in blobs or manifests, for which there must be room.
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

    /// What a token for the operation must be good for, as the challenge says it (Docker token
    /// specification). None where a token of any kind will do.
    ///
    /// Some clients, oras-py among them, keep the token of their first challenge. The challenge of a `HEAD` therefore
    /// offers what usually follows. `reduces` says whether the token service gives less than was asked for, as ours
    /// does. Another one may refuse, so a pull, which begins with `HEAD` of the manifest, asks it for no more.
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

/// Reads a request line. `metrics` is the path the operator has given to the metrics, if they are on.
pub(crate) fn parse(
    method: &Method,
    path: &Path<'_>,
    query: Option<&str>,
    metrics: Option<&str>,
) -> Result<Route, RouteError> {
    let (surface, path) = (path.surface(), path.as_str().ok_or(RouteError::NotFound)?);
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
    if matches!(path, "/v2/auth" | "/v2/token") {
        return token(method, query.unwrap_or_default());
    }
    if let Some(provider) = ["/zot/auth/callback/", "/auth/callback/"].iter().find_map(|way| path.strip_prefix(way)) {
        return sign_in::callback(method, provider, query.unwrap_or_default());
    }
    let query = Query::parse(query.unwrap_or_default())?;
    match path {
        // zot's route now, and the one of its first releases with API keys.
        "/zot/auth/apikey" | "/v2/_zot/ext/apikey" => return keys(method, &query),
        "/zot/auth/login" | "/auth/login" => return sign_in::login(method, query),
        "/zot/auth/confirm" => return sign_in::confirm(method),
        "/zot/auth/logout" | "/auth/logout" => return sign_in::logout(method),
        "/.well-known/jwks.json" => return probe(method, Route::TokenKeys),
        _ => {}
    }
    if surface == Surface::ApiV1 {
        return match v1::find(method, path) {
            Ok((endpoint, values)) => {
                let in_path = endpoint.row().path.contains(v1::REPOSITORY);
                let repository = values.first().filter(|_| in_path).map(|name| repository(name)).transpose()?;
                Ok(Route::V1 { endpoint, repository, values, query })
            }
            Err(Some(allow)) => Err(RouteError::MethodNotAllowed { allow: allow.into() }),
            Err(None) => Err(RouteError::NotFound),
        };
    }
    let rest = path.strip_prefix("/v2/").ok_or(RouteError::NotFound)?;
    if rest == "_catalog" {
        return probe(method, Route::Catalog { page: query.page()? });
    }
    // Names have slashes, so what follows them is read from the right.
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

/// A route that is only read.
fn probe(method: &Method, route: Route) -> Result<Route, RouteError> {
    match *method {
        Method::GET | Method::HEAD => Ok(route),
        _ => Err(RouteError::MethodNotAllowed { allow: "GET, HEAD".into() }),
    }
}

/// The token service.
fn token(method: &Method, query: &str) -> Result<Route, RouteError> {
    match *method {
        Method::GET | Method::HEAD => Ok(Route::GetToken { query: Query::form(query)? }),
        Method::POST => Ok(Route::PostToken),
        _ => Err(RouteError::MethodNotAllowed { allow: "GET, HEAD, POST".into() }),
    }
}

/// zot's API keys. That a browser may ask beforehand, zot's web page relies on.
fn keys(method: &Method, query: &Query) -> Result<Route, RouteError> {
    match *method {
        Method::GET | Method::HEAD => Ok(Route::ListKeys),
        Method::POST => Ok(Route::CreateKey),
        Method::OPTIONS => Ok(Route::Preflight),
        Method::DELETE => match query.one("id")? {
            Some(id) => Ok(Route::RevokeKey { id: id.to_owned() }),
            None => Err(malformed(ErrorCode::Unsupported, &"the parameter id says which API key: it is missing")),
        },
        _ => Err(RouteError::MethodNotAllowed { allow: "GET, HEAD, POST, DELETE, OPTIONS".into() }),
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
            // What cannot be a tag cannot be found; but it can be refused.
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
        // Without `from` the registry looks for the blob in every repository. A `from` that cannot be a repository
        // here names no source; the client pushes the blob itself (distribution-spec, "Mounting a blob").
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

fn repository(text: &str) -> Result<RepositoryName, RouteError> {
    text.parse().map_err(|invalid: crate::oci::InvalidName| malformed(ErrorCode::NameInvalid, &invalid))
}

fn digest(text: &str) -> Result<Digest, RouteError> {
    text.parse().map_err(|invalid: crate::oci::InvalidDigest| malformed(ErrorCode::DigestInvalid, &invalid))
}

fn malformed<E: ToString + ?Sized>(code: ErrorCode, why: &E) -> RouteError {
    RouteError::Malformed { code, message: why.to_string() }
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
