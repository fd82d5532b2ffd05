//! zot's extension routes, and the challenges of an ACME authority.

use hyper::Method;

use super::{Query, Route, RouteError, malformed};
use crate::oci::ErrorCode;

/// A preference of a user for a repository, in zot's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Preference {
    Star,
    Bookmark,
}

/// zot's API keys. zot's web page relies on the preflight.
pub(super) fn keys(method: &Method, query: &Query) -> Result<Route, RouteError> {
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

/// `PUT /v2/_zot/ext/userprefs?action=…&repo=…`. As in zot, a name that no repository can have is not found.
pub(super) fn preference(method: &Method, query: &Query) -> Result<Route, RouteError> {
    if *method != Method::PUT {
        return Err(RouteError::MethodNotAllowed { allow: "PUT".into() });
    }
    let preference = match query.one("action")? {
        Some("toggleStar") => Preference::Star,
        Some("toggleBookmark") => Preference::Bookmark,
        _ => {
            let why = "the parameter action must be toggleStar or toggleBookmark";
            return Err(malformed(ErrorCode::Unsupported, &why));
        }
    };
    let missing = || malformed(ErrorCode::Unsupported, &"the parameter repo names a repository: it is missing");
    let name = query.one("repo")?.ok_or_else(missing)?;
    let name = name.parse().map_err(|invalid: crate::oci::InvalidName| malformed(ErrorCode::NameUnknown, &invalid))?;
    Ok(Route::TogglePreference { name, preference })
}

/// `/.well-known/acme-challenge/…`: a token has letters of base64url only (RFC 8555, 8.3).
pub(super) fn challenge(method: &Method, token: &str) -> Result<Route, RouteError> {
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if token.is_empty() || !token.bytes().all(is_letter) {
        return Err(RouteError::NotFound);
    }
    super::probe(method, Route::AcmeChallenge(token.to_owned()))
}

/// The path of zot's search.
pub(super) const SEARCH_PATH: &str = "/v2/_zot/ext/search";

/// Reads the parameters of a URL. For a search a plus sign stands for a blank, as in zot: zli writes it so.
pub(super) fn parameters(path: &str, text: &str) -> Result<Query, RouteError> {
    if path == SEARCH_PATH { Query::form(text) } else { Query::parse(text) }
}

/// `/v2/_zot/ext/search`: zot's web page sends `GET`, its command line `POST`.
pub(super) fn search(method: &Method, query: Query) -> Result<Route, RouteError> {
    match *method {
        Method::GET => Ok(Route::GetSearch { query }),
        Method::POST => Ok(Route::PostSearch),
        _ => Err(RouteError::MethodNotAllowed { allow: "GET, POST".into() }),
    }
}
