//! Responses that browsers show: pages.
//!
//! Invariant: no text becomes markup. A page has no script and no style but those of the registry, is not shown in a
//! frame, and is not cached.
//!
//! Pages are not compressed. Each has a CSRF token, which stays the same during a session, and many repeat what the
//! request searches for. An attacker who chooses the searches and sees the compressed sizes could guess the token byte
//! by byte (BREACH). The templates of long lists keep their markup short instead. Assets have no secret and are
//! compressed.

use askama::Template;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};

use super::Body;
use super::error::ApiError;
use super::response::{REFERRER_POLICY, quiet, value, with_body};
use crate::web::{Layout, Message};

const OPENER_POLICY: HeaderName = HeaderName::from_static("cross-origin-opener-policy");
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");
const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");

/// The things that a page may do, beyond loading the registry's style and images.
#[derive(Clone, Copy, Debug)]
pub(super) enum Rights<'a> {
    /// Show text only.
    Nothing,
    /// Send forms to these targets, in the syntax of Content Security Policy. No script.
    FormsTo(&'a str),
    /// Send forms to the registry, and run the registry's script.
    Usual,
}

/// A page of a view.
pub(super) fn rendered(
    status: StatusCode,
    view: &impl Template,
    rights: Rights<'_>,
) -> Result<Response<Body>, ApiError> {
    let html = view.render().map_err(ApiError::internal)?;
    Ok(of_html(status, html, rights))
}

/// A page with a title and paragraphs of plain text.
pub(super) fn page(status: StatusCode, title: &str, paragraphs: &[&str]) -> Response<Body> {
    message(status, title, paragraphs.iter().map(|text| (*text).to_owned()).collect(), None)
}

/// The same, with the path and the name of the page to go on with.
pub(super) fn message(
    status: StatusCode,
    title: &str,
    paragraphs: Vec<String>,
    way_on: Option<(&'static str, &'static str)>,
) -> Response<Body> {
    let layout = Layout { has_start: way_on.is_some(), ..Layout::plain(title) };
    let html = Message { layout, paragraphs, way_on }.render().expect("a String takes all text");
    of_html(status, html, Rights::Nothing)
}

fn of_html(status: StatusCode, html: String, rights: Rights<'_>) -> Response<Body> {
    let mut response = with_body(status, HTML, Body::bytes(html));
    let (scripts, forms) = match rights {
        Rights::Nothing => ("'none'", "'none'"),
        Rights::FormsTo(targets) => ("'none'", targets),
        Rights::Usual => ("'self'", "'self'"),
    };
    let policy = format!(
        "default-src 'none'; script-src {scripts}; style-src 'self'; img-src 'self' data:; form-action {forms}; \
         base-uri 'none'; frame-ancestors 'none'"
    );
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, value(policy));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    // A page that opened this one in a window learns nothing about it.
    headers.insert(OPENER_POLICY, HeaderValue::from_static("same-origin"));
    headers.insert(RESOURCE_POLICY, HeaderValue::from_static("same-origin"));
    if !matches!(rights, Rights::Nothing) {
        // A page with `no-referrer` makes browsers send `Origin: null` with its form. The registry refuses that origin.
        headers.insert(REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    }
    quiet(headers);
    response
}
