//! Small pages for users who sign in with a browser.
//!
//! Invariant: no text becomes markup. No page runs a script, is shown in a frame, or sends its address to the next page.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use sha2::{Digest as _, Sha256};

use super::Body;
use super::caching::NO_STORE;
use super::error::ApiError;
use super::response::{empty, value, with_body};

pub(super) const REFERRER_POLICY: HeaderName = HeaderName::from_static("referrer-policy");
const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:36em;margin:15vh auto;padding:0 1em;\
                     color:#222;background:#fff}h1{font-size:1.4em}button{font:inherit;padding:.4em 1.2em}\
                     code{background:#eee;padding:.1em .3em;overflow-wrap:anywhere}\
                     @media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}code{background:#333}}";

/// A page with a title and paragraphs of plain text.
pub(super) fn page(status: StatusCode, title: &str, paragraphs: &[&str]) -> Response<Body> {
    let mut body = String::new();
    for paragraph in paragraphs {
        body.extend(["<p>", &escaped(paragraph), "</p>"]);
    }
    of_markup(status, title, &body, "'none'")
}

/// A page with markup. The caller must use [`escaped`] texts in it. `form_action` lists the targets of its forms, in the
/// syntax of Content Security Policy.
pub(super) fn of_markup(status: StatusCode, title: &str, markup: &str, form_action: &str) -> Response<Body> {
    let title = escaped(title);
    let html = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width\"><title>{title}</title><style>{STYLE}</style></head>\
         <body><h1>{title}</h1>{markup}</body></html>\n"
    );
    let mut response = with_body(status, HTML, Body::bytes(html));
    let style = STANDARD.encode(Sha256::digest(STYLE));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{style}'; form-action {form_action}; base-uri 'none'; \
         frame-ancestors 'none'"
    );
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, value(policy));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    quiet(headers);
    response
}

/// Keeps a response out of caches, and its address out of other requests, unless the response sets its own policy.
pub(super) fn quiet(headers: &mut hyper::HeaderMap) {
    headers.insert(header::CACHE_CONTROL, NO_STORE);
    headers.entry(REFERRER_POLICY).or_insert(HeaderValue::from_static("no-referrer"));
}

/// Sends a browser to a URL.
pub(super) fn redirect(status: StatusCode, url: &str) -> Result<Response<Body>, ApiError> {
    let mut response = empty(status);
    let location = HeaderValue::from_str(url).map_err(ApiError::internal)?;
    response.headers_mut().insert(header::LOCATION, location);
    quiet(response.headers_mut());
    Ok(response)
}

/// Escapes text for markup, also between quotes.
pub(super) fn escaped(text: &str) -> String {
    let mut markup = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => markup.push_str("&amp;"),
            '<' => markup.push_str("&lt;"),
            '>' => markup.push_str("&gt;"),
            '"' => markup.push_str("&quot;"),
            '\'' => markup.push_str("&#39;"),
            c => markup.push(c),
        }
    }
    markup
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_becomes_markup() {
        assert_eq!(escaped("<a href='x'>\"&amp;\""), "&lt;a href=&#39;x&#39;&gt;&quot;&amp;amp;&quot;");
    }
}
