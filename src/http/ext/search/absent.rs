//! `/v2/_zot/ext/search` in a build without the feature `search`.

use crate::http::error::ApiError;
use crate::http::request::RequestBody;
use crate::http::route::Query;
use crate::http::{Context, HandlerResult};

pub(in crate::http) async fn get(_: &Context<'_>, _: &Query) -> HandlerResult {
    Err(ApiError::nothing_here())
}

pub(in crate::http) async fn post(_: &Context<'_>, _: &mut RequestBody) -> HandlerResult {
    Err(ApiError::nothing_here())
}
