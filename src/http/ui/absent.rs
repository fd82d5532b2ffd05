//! The pages of a build without the feature `ui`: no path has a page.

use hyper::{Method, Response, StatusCode};

use super::error::ApiError;
use super::request::RequestBody;
use super::response::empty;
use super::route::RouteError;
use super::{Body, Context, HandlerResult};
use crate::identity::access::{Access, Refusal};

/// The first page.
pub(super) const START: &str = "/";

/// A request for a page. It has no value.
#[derive(Clone, Debug)]
pub(crate) enum Request {}

impl Request {
    pub(crate) fn access(&self) -> Access {
        match *self {}
    }

    pub(crate) const fn is_asset(&self) -> bool {
        match *self {}
    }
}

pub(super) fn parse(_: &Method, _: &str, _: Option<&str>) -> Result<Request, RouteError> {
    Err(RouteError::NotFound)
}

pub(super) async fn handle(_: &Context<'_>, request: Request, _: &mut RequestBody) -> HandlerResult {
    match request {}
}

pub(super) fn refused(_: &Context<'_>, _: &Request, _: Refusal, _: &Access) -> HandlerResult {
    Err(ApiError::nothing_here())
}

pub(super) fn error_page(status: StatusCode, _: &str, _: Option<&str>) -> Response<Body> {
    empty(status)
}
