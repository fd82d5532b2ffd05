//! Sign-in through an identity provider in a build without the feature `openid`.

use crate::http::error::ApiError;
use crate::http::route::Query;
use crate::http::{Context, HandlerResult};

pub(in crate::http) async fn begin(_: &Context<'_>, _: &Query) -> HandlerResult {
    Err(ApiError::nothing_here())
}

pub(in crate::http) async fn callback(_: &Context<'_>, _: &str, _: &Query) -> HandlerResult {
    Err(ApiError::nothing_here())
}
