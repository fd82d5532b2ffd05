//! [`ReadHead`]: the head of a request, as far as it is understood without its caller: limits, operation, and what the
//! operation requires. Reads no body and looks up no account.

use hyper::header::{self, HeaderName};
use hyper::http::request::Parts;

use super::api::mirrored;
use super::error::ApiError;
use super::forwarded::ClientInfo;
use super::operation::Operation;
use super::route::{Path, Route, RouteError};
use super::{cors, ext};
use crate::identity::access::{Access, Credentials};
use crate::mirror::client::Login;
use crate::oci::{ErrorCode, RepositoryName};
use crate::registry::Shared;

/// The most bytes of all headers. Clients send less than 4 KiB, tokens included.
const HEADER_BYTES_MAX: usize = 32 * 1024;
/// The longest request line. 46 tags of 128 bytes fit, with a name and a digest.
const URI_BYTES_MAX: usize = 8 * 1024;

/// The head of a request, as far as it is understood without its caller.
pub(super) struct ReadHead {
    pub(super) operation: Operation,
    /// The access that the operation requires.
    pub(super) access: Access,
    /// The name in the request, if the operation is about a mirrored repository unless the caller may use that of this name.
    pub(super) bare: Option<RepositoryName>,
    /// Credentials for an upstream, and their user for the log.
    pub(super) passed: Option<(Login, String)>,
}

impl ReadHead {
    /// The scope that an access token needs. It does not depend on which repositories exist.
    pub(super) fn scope(&self, registry: &Shared) -> Option<String> {
        let scope = self.operation.scope(registry.external_issuer().is_none())?;
        let (Some(bare), Some((_, actions))) = (&self.bare, scope.rsplit_once(':')) else { return Some(scope) };
        Some(format!("repository:{bare}:{actions} {scope}"))
    }

    /// Checks the head of a request, and finds its operation.
    pub(super) fn of(
        registry: &Shared,
        head: &Parts,
        path: &Path<'_>,
        client: &ClientInfo<'_>,
    ) -> Result<Self, ApiError> {
        check_limits(head)?;
        check_expect(head)?;
        check_transfer_coding(head)?;
        client.check()?;
        if cors::is_preflight(registry, head, path) {
            let operation = Operation::Registry(Route::Preflight);
            return Ok(Self { operation, access: Access::Anyone, bare: None, passed: None });
        }
        let parsed = Operation::parse(&head.method, path, head.uri.query(), registry.metrics_path());
        let is_free = matches!(parsed, Err(RouteError::NotFound) | Ok(Operation::Registry(Route::Root)));
        let mut operation = match ext::site::find(registry, head, path).filter(|_| is_free) {
            Some(file) => Operation::Site(file),
            None => parsed?,
        };
        let mut bare = None;
        if let Some(mirror) = registry.mirror() {
            bare = mirrored::resolve(mirror, head.uri.query(), &mut operation)?;
        }
        if let (Some(mirror), Operation::Registry(route)) = (registry.mirror(), &operation) {
            if let Some(login) = mirrored::passed_login(mirror, &head.headers, route) {
                let user = mirrored::passed_user(mirror, route, &login);
                // The upstream decides, before anything is served.
                return Ok(Self { operation, access: Access::Anyone, bare: None, passed: Some((login, user)) });
            }
            if let Some(error) = mirrored::useless_ticket(registry, mirror, &head.headers, route) {
                return Err(error.for_scope(|| operation.scope(registry.external_issuer().is_none())));
            }
        }
        let access = match operation.access() {
            Access::SignedIn if Credentials::from_page(&head.headers) => Access::Guest,
            access => access,
        };
        Ok(Self { operation, access, bare, passed: None })
    }
}

fn check_limits(head: &Parts) -> Result<(), ApiError> {
    let uri = head.uri.path_and_query().map_or(0, |uri| uri.as_str().len());
    if uri > URI_BYTES_MAX {
        return Err(ApiError::uri_too_long(format!("a request line has at most {URI_BYTES_MAX} bytes")));
    }
    let headers: usize = head.headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    if headers > HEADER_BYTES_MAX { Err(ApiError::headers_too_large()) } else { Ok(()) }
}

/// Refuses expectations that the registry cannot meet (RFC 9110, 10.1.1). hyper meets `100-continue` by itself.
fn check_expect(head: &Parts) -> Result<(), ApiError> {
    if every_value_is(head, &header::EXPECT, b"100-continue") { Ok(()) } else { Err(ApiError::expectation()) }
}

/// Refuses transfer codings that the registry does not decode (RFC 9112, 6.1). hyper decodes `chunked`, and ignores others
/// before it.
fn check_transfer_coding(head: &Parts) -> Result<(), ApiError> {
    if every_value_is(head, &header::TRANSFER_ENCODING, b"chunked") {
        return Ok(());
    }
    Err(ApiError::bad_request(ErrorCode::Unsupported, "the only transfer coding that is supported is chunked"))
}

/// Whether a header is missing, or has only this value, in any case.
fn every_value_is(head: &Parts, name: &HeaderName, text: &[u8]) -> bool {
    head.headers.get_all(name).iter().all(|value| value.as_bytes().trim_ascii().eq_ignore_ascii_case(text))
}
