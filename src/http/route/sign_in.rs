//! The routes where browsers sign in and out: zot's, and one of our own. The token services.

use hyper::Method;

use super::{Query, Route, RouteError};

pub(super) fn login(method: &Method, query: Query) -> Result<Route, RouteError> {
    match *method {
        Method::GET => Ok(Route::Login { query }),
        _ => Err(RouteError::MethodNotAllowed { allow: "GET".into() }),
    }
}

/// `HEAD` is not allowed, because a code can be used only once.
pub(super) fn callback(method: &Method, provider: &str, query: &str) -> Result<Route, RouteError> {
    if provider.is_empty() || provider.contains('/') {
        return Err(RouteError::NotFound);
    }
    match *method {
        Method::GET => Ok(Route::Callback { provider: provider.to_owned(), query: Query::form(query)? }),
        _ => Err(RouteError::MethodNotAllowed { allow: "GET".into() }),
    }
}

pub(super) fn confirm(method: &Method) -> Result<Route, RouteError> {
    match *method {
        Method::POST => Ok(Route::Confirm),
        _ => Err(RouteError::MethodNotAllowed { allow: "POST".into() }),
    }
}

pub(super) fn logout(method: &Method) -> Result<Route, RouteError> {
    match *method {
        Method::POST => Ok(Route::Logout),
        Method::OPTIONS => Ok(Route::Preflight),
        _ => Err(RouteError::MethodNotAllowed { allow: "POST, OPTIONS".into() }),
    }
}

/// The token service.
pub(super) fn token(method: &Method, query: &str) -> Result<Route, RouteError> {
    match *method {
        Method::GET | Method::HEAD => Ok(Route::GetToken { query: Query::form(query)? }),
        Method::POST => Ok(Route::PostToken),
        _ => Err(RouteError::MethodNotAllowed { allow: "GET, HEAD, POST".into() }),
    }
}

/// zot's token service for the ID tokens of workloads.
pub(super) fn exchange(method: &Method, query: &str) -> Result<Route, RouteError> {
    match *method {
        Method::GET | Method::HEAD => Ok(Route::ExchangeToken { query: Query::form(query)?, is_form: false }),
        Method::POST => Ok(Route::ExchangeToken { query: Query::form(query)?, is_form: true }),
        Method::OPTIONS => Ok(Route::Preflight),
        _ => Err(RouteError::MethodNotAllowed { allow: "GET, HEAD, POST, OPTIONS".into() }),
    }
}
