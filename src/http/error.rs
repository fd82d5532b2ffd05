//! [`ApiError`]: every failure a client can see is made here, and only here.
//!
//! Each layer's errors become HTTP by a match without `_`, so that a new one does not compile until
//! its answer has been thought about. Headers that belong to a status are set where the error is
//! made, so no handler can forget them. A 5xx says no more than a request id; its cause is logged
//! once, with that id, by [`super::answer`].

mod refused;

use std::fmt;
use std::io;

use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use serde_json::{Value, json};

use super::{Body, response::json_response};
use crate::content::blobs;
use crate::content::repository;
use crate::http::route::RouteError;
use crate::identity::access::{NotAuthenticated, Surface};
use crate::identity::accounts;
use crate::oci::{Digest, ErrorCode};

/// Seconds after which a client that was turned away may try again.
const RETRY_SECONDS: HeaderValue = HeaderValue::from_static("5");

/// What Quay calls the kinds of failure, and what they mean.
pub(super) const ERROR_TYPES: [(&str, &str); 7] = [
    ("invalid_request", "The request is not one that can be carried out."),
    ("invalid_token", "Nobody has signed in, or not with credentials that count here."),
    (FRESH_LOGIN_REQUIRED, "The password has to be given once more: POST /api/v1/signin/verify."),
    ("insufficient_scope", "Whoever has signed in may not do this."),
    ("not_found", "What the request is about does not exist."),
    ("too_many_requests", "Something was tried too often; Retry-After says when to come back."),
    ("downstream_issue", "The registry failed; its log says how, under the request id."),
];

/// The type of a failure that has no status to itself.
pub(super) const FRESH_LOGIN_REQUIRED: &str = "fresh_login_required";

/// The type of a failure, by its status.
pub(super) fn error_type_of(status: StatusCode) -> &'static str {
    match status {
        StatusCode::UNAUTHORIZED => "invalid_token",
        StatusCode::FORBIDDEN => "insufficient_scope",
        StatusCode::NOT_FOUND => "not_found",
        StatusCode::TOO_MANY_REQUESTS => "too_many_requests",
        _ if status.is_server_error() => "downstream_issue",
        _ => "invalid_request",
    }
}

/// A failure as the client will see it, and what only the log may see.
#[derive(Debug)]
pub(crate) struct ApiError(Box<Content>);

#[derive(Debug)]
struct Content {
    status: StatusCode,
    code: ErrorCode,
    message: String,
    details: Vec<Value>,
    headers: Vec<(HeaderName, HeaderValue)>,
    /// What happened, for the log; only for 5xx.
    cause: Option<String>,
    /// Fields of API v1 beside the usual ones.
    fields: Vec<(&'static str, Value)>,
    /// Quay's word for the kind of failure, where the status does not say it.
    title: Option<&'static str>,
    /// What is wrong with the token that was sent (RFC 6750, 3.1).
    token_error: Option<&'static str>,
    /// What a token would have to be good for.
    scope: Option<String>,
}

impl ApiError {
    /// A failure of the client.
    pub(crate) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        let status = StatusCode::from_u16(code.status()).unwrap_or(StatusCode::BAD_REQUEST);
        Self(Box::new(Content {
            status,
            code,
            message: message.into(),
            details: Vec::new(),
            headers: Vec::new(),
            cause: None,
            fields: Vec::new(),
            title: None,
            token_error: None,
            scope: None,
        }))
    }

    /// A failure of ours.
    pub(crate) fn internal(cause: impl fmt::Display) -> Self {
        let mut error = Self::new(ErrorCode::Unknown, "internal error");
        error.0.cause = Some(cause.to_string());
        error
    }

    /// A failure of ours that will pass.
    pub(crate) fn unavailable(cause: impl fmt::Display) -> Self {
        Self::internal(cause)
            .status(StatusCode::SERVICE_UNAVAILABLE)
            .message("the registry cannot do this at the moment")
            .header(header::RETRY_AFTER, RETRY_SECONDS)
    }

    /// The registry has too much to do. It is not a failure, and so is not logged as one.
    pub(crate) fn busy(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::Unknown, message)
            .status(StatusCode::SERVICE_UNAVAILABLE)
            .header(header::RETRY_AFTER, RETRY_SECONDS)
    }

    /// A provider of identities cannot be asked.
    pub(crate) fn provider_away(cause: impl fmt::Display) -> Self {
        Self::unavailable(cause).message("the provider does not answer: nobody can sign in through it at the moment")
    }

    /// Whoever asks for this has to wait.
    pub(crate) fn too_many(message: impl Into<String>, seconds: u64) -> Self {
        Self::new(ErrorCode::TooManyRequests, message).header(header::RETRY_AFTER, seconds.into())
    }

    /// There is no room for what the client sends.
    pub(crate) fn no_space(cause: impl fmt::Display) -> Self {
        Self::unavailable(cause)
            .status(StatusCode::INSUFFICIENT_STORAGE)
            .message("the registry's disk is full: nothing more is taken until there is room again")
    }

    /// A mistake of the client that has no status of its own.
    pub(crate) fn bad_request(code: ErrorCode, message: impl Into<String>) -> Self {
        Self::new(code, message).status(StatusCode::BAD_REQUEST)
    }

    /// There is no such path.
    pub(crate) fn nothing_here() -> Self {
        RouteError::NotFound.into()
    }

    /// The operator wants no API keys.
    pub(crate) fn no_api_keys() -> Self {
        Self::missing(ErrorCode::Unsupported, "there are no API keys here: http.auth.apikey is off")
    }

    /// Something is not there that has no code of its own.
    pub(crate) fn missing(code: ErrorCode, message: impl Into<String>) -> Self {
        Self::new(code, message).status(StatusCode::NOT_FOUND)
    }

    /// An unsafe request of a browser without the token that shows where it comes from.
    pub(crate) fn csrf() -> Self {
        let message = "CSRF token was invalid or missing.";
        Self::new(ErrorCode::Denied, message).field("error", message)
    }

    /// A password was not right, where Quay answers with 403.
    pub(crate) fn wrong_password() -> Self {
        Self::new(ErrorCode::Denied, "Invalid Username or Password")
            .field("invalidCredentials", true)
            .field("needsEmailVerification", false)
    }

    /// Says nothing of what is wrong with them.
    fn wrong_credentials() -> Self {
        Self::new(ErrorCode::Unauthorized, "the credentials are wrong, or not valid any more")
    }

    fn field(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.0.fields.push((name, value.into()));
        self
    }

    fn status(mut self, status: StatusCode) -> Self {
        self.0.status = status;
        self
    }

    fn message(mut self, message: impl Into<String>) -> Self {
        self.0.message = message.into();
        self
    }

    fn detail(mut self, detail: Value) -> Self {
        self.0.details.push(detail);
        self
    }

    /// A header that belongs to the answer.
    pub(crate) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers.push((name, value));
        self
    }

    /// The chunk or range does not fit what is there.
    pub(crate) fn range(code: ErrorCode, message: impl Into<String>) -> Self {
        Self::new(code, message).status(StatusCode::RANGE_NOT_SATISFIABLE)
    }

    /// The body is larger than what the registry takes.
    pub(crate) fn too_large(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::ManifestInvalid, message).status(StatusCode::PAYLOAD_TOO_LARGE)
    }

    /// The client's headers are larger than what the registry takes.
    pub(crate) fn headers_too_large() -> Self {
        Self::new(ErrorCode::Unsupported, "the headers are too large")
            .status(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE)
    }

    /// The client expects something that is not `100-continue`.
    pub(crate) fn expectation() -> Self {
        Self::new(ErrorCode::Unsupported, "the only expectation that can be met is 100-continue")
            .status(StatusCode::EXPECTATION_FAILED)
    }

    /// The request line is longer than what the registry takes.
    pub(crate) fn uri_too_long(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::Unsupported, message).status(StatusCode::URI_TOO_LONG)
    }

    /// The client has sent nothing for too long.
    pub(crate) fn timeout() -> Self {
        Self::new(ErrorCode::BlobUploadInvalid, "the client has sent nothing for too long")
            .status(StatusCode::REQUEST_TIMEOUT)
            .header(header::CONNECTION, HeaderValue::from_static("close"))
    }

    /// The status of the answer.
    pub(crate) const fn status_code(&self) -> StatusCode {
        self.0.status
    }

    /// What only the log may see.
    pub(crate) fn cause(&self) -> Option<&str> {
        self.0.cause.as_deref()
    }

    /// What is wrong with the token that was sent, in a word for the challenge.
    pub(crate) fn token_error(&self) -> Option<&'static str> {
        self.0.token_error
    }

    /// What a token would have to be good for, as the challenge says it.
    pub(crate) fn scope(&self) -> Option<&str> {
        self.0.scope.as_deref()
    }

    /// The same failure, of an operation for which a token would need this scope.
    pub(crate) fn for_scope(mut self, scope: impl FnOnce() -> Option<String>) -> Self {
        if self.wants_challenge() {
            self.0.scope = scope();
        }
        self
    }

    fn of_token(mut self, word: &'static str) -> Self {
        self.0.token_error = Some(word);
        self
    }

    /// Whether the client should be told how to sign in.
    pub(crate) fn wants_challenge(&self) -> bool {
        self.0.status == StatusCode::UNAUTHORIZED
    }

    /// The answer. `base` is the registry's own URL, for links.
    pub(crate) fn into_response(self, surface: Surface, request_id: &str, base: &str) -> Response<Body> {
        match surface {
            Surface::Registry => self.into_errors(request_id),
            Surface::ApiV1 => self.into_problem(request_id, base),
        }
    }

    /// Quay's shape: every field that one of its readers may look for.
    fn into_problem(self, request_id: &str, base: &str) -> Response<Body> {
        let Content { status, message, headers, cause, fields, title, .. } = *self.0;
        let title = title.unwrap_or_else(|| error_type_of(status));
        let mut problem = json!({
            "detail": message,
            "error_message": message,
            "message": message,
            "error_type": title,
            "title": title,
            "type": format!("{base}/api/v1/error/{title}"),
            "status": status.as_u16(),
        });
        if title == "invalid_token" {
            problem["session_required"] = false.into();
        }
        if cause.is_some() {
            problem["request_id"] = request_id.into();
        }
        for (name, value) in fields {
            problem[name] = value;
        }
        let mut response = json_response(status, &problem);
        for (name, value) in headers {
            response.headers_mut().append(name, value);
        }
        response
    }

    /// The specification's shape.
    fn into_errors(self, request_id: &str) -> Response<Body> {
        let Content { status, code, message, details, headers, cause, .. } = *self.0;
        let entry = |detail: Option<Value>| {
            let mut entry = json!({ "code": code.as_str(), "message": message });
            if let Some(detail) = detail {
                entry["detail"] = detail;
            }
            entry
        };
        let errors: Vec<Value> = match (cause, details.is_empty()) {
            (Some(_), _) => vec![entry(Some(json!({ "requestId": request_id })))],
            (None, true) => vec![entry(None)],
            (None, false) => details.into_iter().map(|detail| entry(Some(detail))).collect(),
        };
        let mut response = json_response(status, &json!({ "errors": errors }));
        for (name, value) in headers {
            response.headers_mut().append(name, value);
        }
        response
    }
}

impl From<RouteError> for ApiError {
    fn from(error: RouteError) -> Self {
        match error {
            RouteError::NotFound => {
                Self::new(ErrorCode::Unsupported, "there is nothing at this path").status(StatusCode::NOT_FOUND)
            }
            RouteError::MethodNotAllowed { allow } => {
                Self::new(ErrorCode::Unsupported, format!("the methods here are {allow}"))
                    .header(header::ALLOW, super::response::value(&allow))
            }
            RouteError::Malformed { code, message } => {
                let error = Self::new(code, message);
                // As the code of a bad request, not of a bad method.
                if code == ErrorCode::Unsupported { error.status(StatusCode::BAD_REQUEST) } else { error }
            }
            RouteError::TooLong { message } => Self::uri_too_long(message),
        }
    }
}

impl From<NotAuthenticated> for ApiError {
    fn from(error: NotAuthenticated) -> Self {
        match error {
            NotAuthenticated::Invalid(invalid) => {
                let error = Self::new(ErrorCode::Unauthorized, invalid.to_string());
                if invalid.is_bearer() { error.of_token("invalid_token") } else { error }
            }
            NotAuthenticated::SignIn(error) => error.into(),
            NotAuthenticated::WrongBearer => Self::wrong_credentials().of_token("invalid_token"),
            NotAuthenticated::Token(invalid) => {
                Self::new(ErrorCode::Unauthorized, invalid.to_string()).of_token("invalid_token")
            }
            NotAuthenticated::Accounts(error) => error.into(),
        }
    }
}

impl From<accounts::NotSignedIn> for ApiError {
    fn from(error: accounts::NotSignedIn) -> Self {
        match error {
            accounts::NotSignedIn::Wrong => Self::wrong_credentials(),
            accounts::NotSignedIn::Throttled(accounts::Throttled { seconds }) => {
                let message = format!("too many wrong passwords: try again in {seconds} seconds");
                Self::new(ErrorCode::TooManyRequests, message).header(header::RETRY_AFTER, seconds.into())
            }
            accounts::NotSignedIn::TooBusy(_) => {
                Self::busy("too many passwords wait to be verified: try again in a few seconds")
            }
            accounts::NotSignedIn::Accounts(error) => error.into(),
        }
    }
}

impl From<accounts::Error> for ApiError {
    fn from(error: accounts::Error) -> Self {
        use accounts::Error as E;
        let message = error.to_string();
        match error {
            E::UserUnknown { .. } | E::GroupUnknown { .. } | E::KeyUnknown | E::SessionUnknown => {
                Self::missing(ErrorCode::Unsupported, message)
            }
            E::UserExists { .. }
            | E::UserInHtpasswd { .. }
            | E::UserFederated { .. }
            | E::InvalidUserName { .. }
            | E::InvalidNamespace { .. }
            | E::NamespaceTaken { .. }
            | E::InvalidPassword(_)
            | E::InvalidKey { .. }
            | E::InvalidPermission { .. }
            | E::InvalidScope(_) => Self::bad_request(ErrorCode::Unsupported, message),
            E::TooBusy(_) => Self::busy(message),
            E::HtpasswdUnreadable { .. } => Self::internal(message),
            E::Database(error) => database(&error),
        }
    }
}

impl From<repository::Error> for ApiError {
    fn from(error: repository::Error) -> Self {
        use repository::Error as E;
        let message = error.to_string();
        let named = |digest: Digest| json!({ "digest": digest.to_string() });
        match error {
            E::RepositoryUnknown { name } => {
                Self::new(ErrorCode::NameUnknown, message).detail(json!({ "name": name.as_str() }))
            }
            E::BlobUnknown { digest } | E::BlobDamaged { digest } => {
                Self::new(ErrorCode::BlobUnknown, message).detail(named(digest))
            }
            E::ManifestUnknown { reference } => {
                Self::new(ErrorCode::ManifestUnknown, message).detail(json!({ "reference": reference.to_string() }))
            }
            E::TagPastUnknown { .. } => Self::new(ErrorCode::ManifestUnknown, message),
            E::UploadUnknown { .. } => Self::new(ErrorCode::BlobUploadUnknown, message),
            // Neither request is wrong by itself; waiting may help.
            E::UploadBusy { .. } => Self::new(ErrorCode::BlobUploadInvalid, message)
                .status(StatusCode::CONFLICT)
                .header(header::RETRY_AFTER, RETRY_SECONDS),
            E::UploadOutOfOrder { .. } => Self::range(ErrorCode::BlobUploadInvalid, message),
            E::DigestMismatch { expected, actual } => Self::new(ErrorCode::DigestInvalid, message)
                .detail(json!({ "expected": expected.to_string(), "actual": actual.to_string() })),
            E::ManifestInvalid(crate::oci::InvalidManifest::UnsupportedType(_)) => {
                Self::new(ErrorCode::ManifestInvalid, message).status(StatusCode::UNSUPPORTED_MEDIA_TYPE)
            }
            E::ManifestInvalid(_) => Self::new(ErrorCode::ManifestInvalid, message),
            E::ManifestContentMissing { missing } => {
                let error = Self::new(ErrorCode::ManifestBlobUnknown, ErrorCode::ManifestBlobUnknown.message());
                missing.into_iter().fold(error, |error, digest| error.detail(named(digest)))
            }
            // As zot answers: the method is not allowed for as long as something needs the content.
            E::BlobReferenced { digest } => Self::new(ErrorCode::Denied, message)
                .status(StatusCode::METHOD_NOT_ALLOWED)
                .header(header::ALLOW, HeaderValue::from_static("GET, HEAD"))
                .detail(named(digest)),
            E::ManifestReferenced { digest, .. } => Self::new(ErrorCode::Denied, message)
                .status(StatusCode::METHOD_NOT_ALLOWED)
                .header(header::ALLOW, HeaderValue::from_static("GET, HEAD, PUT"))
                .detail(named(digest)),
            E::NotGranted => Self::new(ErrorCode::Denied, message),
            // As zot answers.
            E::ManifestTagged { digest } => {
                Self::new(ErrorCode::ManifestInvalid, message).status(StatusCode::CONFLICT).detail(named(digest))
            }
            E::TagMoved { .. } => Self::new(ErrorCode::Denied, message).status(StatusCode::PRECONDITION_FAILED),
            E::Blobs(error) => match &error {
                blobs::Error::Io(failed) => disk(&failed.source, &error),
                blobs::Error::NoSpace { .. } => Self::no_space(error),
                blobs::Error::DigestMismatch { .. } => Self::internal(error),
            },
            E::Database(error) => database(&error),
            E::Corrupt { .. } => Self::internal(message),
        }
    }
}

/// A failure of the database. It is opened again where that helps.
fn database(error: &crate::content::rows::Error) -> ApiError {
    match error.io() {
        Some(source) => disk(source, error),
        None if error.is_transient() => ApiError::unavailable(error),
        None => ApiError::internal(error),
    }
}

/// A failure of the disk. Of some, waiting may help.
fn disk(source: &io::Error, cause: &dyn fmt::Display) -> ApiError {
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ApiError::no_space(cause),
        io::ErrorKind::ReadOnlyFilesystem => ApiError::unavailable(cause),
        _ if source.raw_os_error().is_some_and(may_pass) => ApiError::unavailable(cause),
        _ => ApiError::internal(cause),
    }
}

/// Whether it is the device that failed, which may be on the way to it, or that file handles or memory have run
/// out. What is left is nothing to wait for: files that somebody has moved away, or may not be opened.
fn may_pass(errno: i32) -> bool {
    use rustix::io::Errno;
    let passing = [Errno::IO, Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::TIMEDOUT];
    passing.iter().any(|error| error.raw_os_error() == errno)
}

/// A panic in a blocking call is an internal error, not a dead connection.
impl From<tokio::task::JoinError> for ApiError {
    fn from(error: tokio::task::JoinError) -> Self {
        Self::internal(error)
    }
}
