//! [`ApiError`]: every error that a client can see is made here.
//!
//! The errors of each layer become HTTP by a match without `_`, so that a new error does not compile until it has a
//! status. Headers that belong to a status are set where the error is made, so no handler can forget them. The response
//! to a 5xx has only a request id. [`super::answer`] logs its cause once, with that id.

mod content;
mod problem;
mod refused;

use std::fmt;
use std::io;

use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use serde_json::{Value, json};

pub(super) use problem::Problem;
use problem::ProblemFields;

use super::{Body, response::json_response};
use crate::http::route::RouteError;
use crate::identity::access::{NotAuthenticated, Surface};
use crate::identity::accounts;
use crate::kit::file::is_full;
use crate::oci::ErrorCode;

/// Seconds after which a client may try again.
pub(super) const RETRY_SECONDS: HeaderValue = HeaderValue::from_static("5");

/// Quay's error types, and their meaning.
pub(super) const ERROR_TYPES: [(&str, &str); 8] = [
    ("invalid_request", "The request is invalid."),
    ("invalid_token", "The request has no valid credentials."),
    (FRESH_LOGIN_REQUIRED, "The password must be entered again: POST /api/v1/signin/verify."),
    ("insufficient_scope", "The caller may not do this."),
    (TAG_IMMUTABLE, "The tag can be neither moved nor removed."),
    ("not_found", "The requested resource does not exist."),
    ("too_many_requests", "Too many attempts. Retry-After has the time to wait."),
    ("downstream_issue", "The registry failed. Its log has the cause under the request id."),
];

/// The error type of a 401 that asks for the password again.
pub(super) const FRESH_LOGIN_REQUIRED: &str = "fresh_login_required";

/// The error type of a 409 for an immutable tag.
const TAG_IMMUTABLE: &str = "tag_immutable";

/// The error type of a status.
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

/// An error as the client sees it, and its cause for the log.
#[derive(Debug)]
pub(crate) struct ApiError(Box<Content>);

type Headers = Vec<(HeaderName, HeaderValue)>;

#[derive(Debug)]
struct Content {
    status: StatusCode,
    code: ErrorCode,
    message: String,
    details: Vec<Value>,
    headers: Headers,
    /// The cause, for the log only. Present in every logged 5xx.
    cause: Option<String>,
    /// More fields of the response in API v1.
    fields: ProblemFields,
    /// Quay's error type, if it does not follow from the status.
    title: Option<&'static str>,
    /// The error code of a refused access token, for the challenge (RFC 6750, 3.1).
    token_error: Option<&'static str>,
    /// The scope that an access token needs, for the challenge.
    scope: Option<String>,
}

impl ApiError {
    /// Makes an error of the client, with the usual status of its code.
    pub(crate) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        let status = StatusCode::from_u16(code.status()).unwrap_or(StatusCode::BAD_REQUEST);
        Self(Box::new(Content {
            status,
            code,
            message: message.into(),
            details: Vec::new(),
            headers: Vec::new(),
            cause: None,
            fields: ProblemFields::default(),
            title: None,
            token_error: None,
            scope: None,
        }))
    }

    /// Makes an internal error. The client does not see its cause.
    pub(crate) fn internal(cause: impl fmt::Display) -> Self {
        let mut error = Self::new(ErrorCode::Unknown, "internal error");
        error.0.cause = Some(cause.to_string());
        error
    }

    /// Makes an internal error that may pass.
    pub(crate) fn unavailable(cause: impl fmt::Display) -> Self {
        Self::internal(cause)
            .status(StatusCode::SERVICE_UNAVAILABLE)
            .message("the registry cannot do this now: try again later")
            .header(header::RETRY_AFTER, RETRY_SECONDS)
    }

    /// Makes the error of an overloaded registry. It is not logged as an error.
    pub(crate) fn busy(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::Unknown, message)
            .status(StatusCode::SERVICE_UNAVAILABLE)
            .header(header::RETRY_AFTER, RETRY_SECONDS)
    }

    /// Too many bytes of large responses are in memory, because clients do not read them.
    pub(crate) fn unread() -> Self {
        Self::busy("too many large responses wait for their clients: try again in a few seconds")
    }

    /// Makes the error of an identity provider that does not answer.
    pub(crate) fn provider_away(cause: impl fmt::Display) -> Self {
        Self::unavailable(cause).message("the identity provider does not answer: try again later")
    }

    /// Makes the error of a client that must wait.
    pub(crate) fn too_many(message: impl Into<String>, seconds: u64) -> Self {
        Self::new(ErrorCode::TooManyRequests, message).header(header::RETRY_AFTER, seconds.into())
    }

    /// Makes the error of a full disk.
    pub(crate) fn no_space(cause: impl fmt::Display) -> Self {
        Self::unavailable(cause)
            .status(StatusCode::INSUFFICIENT_STORAGE)
            .message("the registry's disk is full: it accepts no pushes until there is space again")
    }

    /// Makes an error of the client with status 400.
    pub(crate) fn bad_request(code: ErrorCode, message: impl Into<String>) -> Self {
        Self::new(code, message).status(StatusCode::BAD_REQUEST)
    }

    /// Makes the error of a path that does not exist.
    pub(crate) fn nothing_here() -> Self {
        RouteError::NotFound.into()
    }

    /// Makes the error of an operation on API keys while they are off.
    pub(crate) fn no_api_keys() -> Self {
        Self::missing(ErrorCode::Unsupported, "API keys are off: the operator can turn on http.auth.apikey")
    }

    /// Makes an error of the client with status 404.
    pub(crate) fn missing(code: ErrorCode, message: impl Into<String>) -> Self {
        Self::new(code, message).status(StatusCode::NOT_FOUND)
    }

    /// Makes the error of a request that a page of another site may have sent.
    pub(crate) fn csrf() -> Self {
        let message = "CSRF token was invalid or missing.";
        let mut error = Self::new(ErrorCode::Denied, message);
        error.0.fields.error = Some(message);
        error
    }

    /// Makes the error of a wrong password, where Quay uses status 403.
    pub(crate) fn wrong_password() -> Self {
        let mut error = Self::new(ErrorCode::Denied, "Invalid Username or Password");
        (error.0.fields.invalid_credentials, error.0.fields.needs_email_verification) = (Some(true), Some(false));
        error
    }

    /// Makes the error of wrong credentials. It does not tell which part of them is wrong.
    fn wrong_credentials() -> Self {
        Self::new(ErrorCode::Unauthorized, "invalid or expired credentials")
    }

    pub(super) fn status(mut self, status: StatusCode) -> Self {
        self.0.status = status;
        self
    }

    fn message(mut self, message: impl Into<String>) -> Self {
        self.0.message = message.into();
        self
    }

    pub(crate) fn detail(mut self, detail: Value) -> Self {
        self.0.details.push(detail);
        self
    }

    /// Adds a header to the response.
    pub(crate) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers.push((name, value));
        self
    }

    /// Makes the error of a chunk or range that does not fit the stored bytes.
    pub(crate) fn range(code: ErrorCode, message: impl Into<String>) -> Self {
        Self::new(code, message).status(StatusCode::RANGE_NOT_SATISFIABLE)
    }

    /// Makes the error of a body that is too large.
    pub(crate) fn too_large(code: ErrorCode, message: impl Into<String>) -> Self {
        Self::new(code, message).status(StatusCode::PAYLOAD_TOO_LARGE)
    }

    /// Makes the error of headers that are too large.
    pub(crate) fn headers_too_large() -> Self {
        Self::new(ErrorCode::Unsupported, "the headers are too large")
            .status(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE)
    }

    /// Makes the error of an `Expect` header that is not `100-continue`.
    pub(crate) fn expectation() -> Self {
        Self::new(ErrorCode::Unsupported, "the only supported expectation is 100-continue")
            .status(StatusCode::EXPECTATION_FAILED)
    }

    /// Makes the error of a request line that is too long.
    pub(crate) fn uri_too_long(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::Unsupported, message).status(StatusCode::URI_TOO_LONG)
    }

    /// The client sends the body too slowly.
    pub(crate) fn timeout(code: ErrorCode) -> Self {
        Self::new(code, "the body of the request arrives too slowly")
            .status(StatusCode::REQUEST_TIMEOUT)
            .header(header::CONNECTION, HeaderValue::from_static("close"))
    }

    /// The status of the response.
    pub(crate) const fn status_code(&self) -> StatusCode {
        self.0.status
    }

    /// The message that the client gets.
    pub(crate) fn message_text(&self) -> &str {
        &self.0.message
    }

    /// The cause, for the log only.
    pub(crate) fn cause(&self) -> Option<&str> {
        self.0.cause.as_deref()
    }

    /// The error code of a refused access token, for the challenge.
    pub(crate) fn token_error(&self) -> Option<&'static str> {
        self.0.token_error
    }

    /// The scope that an access token needs, for the challenge.
    pub(crate) fn scope(&self) -> Option<&str> {
        self.0.scope.as_deref()
    }

    /// Adds the scope that an access token needs, if the error has a challenge.
    pub(crate) fn for_scope(mut self, scope: impl FnOnce() -> Option<String>) -> Self {
        if self.wants_challenge() {
            self.0.scope = scope();
        }
        self
    }

    /// Adds the error code of a refused access token, for the challenge.
    pub(crate) fn of_token(mut self, word: &'static str) -> Self {
        self.0.token_error = Some(word);
        self
    }

    /// Whether the response has a challenge.
    pub(crate) fn wants_challenge(&self) -> bool {
        self.0.status == StatusCode::UNAUTHORIZED
    }

    /// Makes the response. `base` is the registry's own URL, for links.
    pub(crate) fn into_response(self, surface: Surface, request_id: &str, base: &str) -> Response<Body> {
        let status = self.0.status;
        let (body, headers) = match surface {
            Surface::Registry => self.into_errors(request_id),
            Surface::ApiV1 => self.into_problem(request_id, base),
            Surface::Pages => return self.into_page(request_id),
        };
        let mut response = json_response(status, &body);
        for (name, value) in headers {
            response.headers_mut().append(name, value);
        }
        response
    }

    /// The form of the pages.
    fn into_page(self, request_id: &str) -> Response<Body> {
        let Content { status, message, headers, cause, .. } = *self.0;
        let mut response = super::ui::error_page(status, &message, cause.map(|_| request_id));
        for (name, value) in headers {
            response.headers_mut().append(name, value);
        }
        response
    }

    /// The form of the distribution specification.
    fn into_errors(self, request_id: &str) -> (Value, Headers) {
        let Content { code, message, mut details, headers, cause, .. } = *self.0;
        if cause.is_some() {
            details = vec![json!({ "requestId": request_id })];
        }
        let entry = |detail| json!({ "code": code.as_str(), "message": message, "detail": detail });
        let errors: Vec<Value> = details.into_iter().map(entry).collect();
        (json!({ "errors": errors }), headers)
    }
}

impl From<RouteError> for ApiError {
    fn from(error: RouteError) -> Self {
        match error {
            RouteError::NotFound => {
                Self::new(ErrorCode::Unsupported, "this path does not exist").status(StatusCode::NOT_FOUND)
            }
            RouteError::MethodNotAllowed { allow } => {
                Self::new(ErrorCode::Unsupported, format!("this path supports only {allow}"))
                    .header(header::ALLOW, super::response::value(&allow))
            }
            RouteError::Malformed { code, message } => {
                let error = Self::new(code, message);
                // This code alone would mean that the method is not supported.
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
            NotAuthenticated::CertificateNamesNone
            | NotAuthenticated::CertificateUser(_)
            | NotAuthenticated::CertificateExpired => Self::new(ErrorCode::Unauthorized, error.to_string()),
            NotAuthenticated::WrongBearer => Self::wrong_credentials().of_token("invalid_token"),
            NotAuthenticated::Token(invalid) => {
                Self::new(ErrorCode::Unauthorized, invalid.to_string()).of_token("invalid_token")
            }
            NotAuthenticated::IdToken => {
                Self::new(ErrorCode::Unauthorized, error.to_string()).of_token("invalid_token")
            }
            NotAuthenticated::IssuerAway(cause) => Self::provider_away(cause),
            NotAuthenticated::Accounts(error) => error.into(),
        }
    }
}

impl From<accounts::NotSignedIn> for ApiError {
    fn from(error: accounts::NotSignedIn) -> Self {
        match error {
            accounts::NotSignedIn::Wrong => Self::wrong_credentials(),
            accounts::NotSignedIn::Throttled(accounts::Throttled { seconds }) => {
                let message = format!("too many wrong passwords: try again in {seconds} s");
                Self::new(ErrorCode::TooManyRequests, message).header(header::RETRY_AFTER, seconds.into())
            }
            accounts::NotSignedIn::TooBusy(_) => {
                Self::busy("too many passwords wait to be verified: try again in a few seconds")
            }
            accounts::NotSignedIn::DirectoryAway(_) => {
                Self::busy("the directory that knows the password does not answer: try again later")
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
            | E::AddressTaken
            | E::UserInHtpasswd { .. }
            | E::UserFederated { .. }
            | E::InvalidUserName { .. }
            | E::InvalidNamespace { .. }
            | E::NamespaceTaken { .. }
            | E::InvalidPassword(_)
            | E::InvalidKey { .. }
            | E::InvalidPermission { .. }
            | E::TooManyPreferences { .. }
            | E::InvalidScope(_) => Self::bad_request(ErrorCode::Unsupported, message),
            E::TooBusy(_) => Self::busy(message),
            E::HtpasswdUnreadable { .. } => Self::internal(message),
            E::Database(error) => database(&error),
        }
    }
}

/// Maps a failure of the database.
fn database(error: &crate::content::rows::Error) -> ApiError {
    match error.io() {
        Some(source) => disk(source, error),
        None if error.is_transient() => ApiError::unavailable(error),
        None => ApiError::internal(error),
    }
}

/// Maps a failure of the disk. Some may pass.
fn disk(source: &io::Error, cause: &dyn fmt::Display) -> ApiError {
    match source.kind() {
        kind if is_full(kind) => ApiError::no_space(cause),
        io::ErrorKind::ReadOnlyFilesystem => ApiError::unavailable(cause),
        _ if source.raw_os_error().is_some_and(may_pass) => ApiError::unavailable(cause),
        _ => ApiError::internal(cause),
    }
}

/// Whether an error may pass by itself: the device failed, or file handles or memory ran out. Other errors stay, such as
/// files that another program has moved away, or that the registry may not open.
fn may_pass(errno: i32) -> bool {
    use rustix::io::Errno;
    let passing = [Errno::IO, Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::TIMEDOUT];
    passing.iter().any(|error| error.raw_os_error() == errno)
}

/// A panic in a blocking call becomes an internal error, so that the connection survives it.
impl From<tokio::task::JoinError> for ApiError {
    fn from(error: tokio::task::JoinError) -> Self {
        Self::internal(error)
    }
}
