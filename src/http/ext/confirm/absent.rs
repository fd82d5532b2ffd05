//! Sign-in of a program with a browser in a build without the feature `openid`.

use crate::http::error::ApiError;
use crate::http::request::RequestBody;
use crate::http::{Context, HandlerResult};

pub(in crate::http) async fn answer(_: &Context<'_>, _: &mut RequestBody) -> HandlerResult {
    Err(ApiError::nothing_here())
}
