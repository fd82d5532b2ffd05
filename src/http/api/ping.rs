//! `/v2/`: is this a registry, and am I signed in (distribution-spec, "Determining Support").

use hyper::header::HeaderValue;
use hyper::{Response, StatusCode};

use crate::http::Body;
use crate::http::response::with_body;

pub(in crate::http) fn get() -> Response<Body> {
    with_body(StatusCode::OK, HeaderValue::from_static("application/json"), Body::bytes("{}"))
}
