//! The request that carries an event: `CloudEvents` 1.0 over HTTP in binary mode, with zot's types and fields, and the
//! signature of Standard Webhooks.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use serde::Serialize;
use sha2::Sha256;
use uuid::Uuid;

use crate::content::rows::{EventKind, EventOrigin, EventRow};

/// zot's source, which receivers of its events compare.
const SOURCE: HeaderValue = HeaderValue::from_static("zotregistry.dev");
/// The beginning of a secret in base64, as Standard Webhooks writes it.
const SECRET_PREFIX: &str = "whsec_";

/// The data of an event, in zot's fields.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Data<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    reference: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    digest: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    media_type: &'a str,
    /// The text of the manifest, if it still exists.
    #[serde(skip_serializing_if = "Option::is_none")]
    manifest: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    actor: Option<Actor<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request: Option<Request<'a>>,
}

#[derive(Serialize)]
struct Actor<'a> {
    name: &'a str,
}

#[derive(Serialize)]
struct Request<'a> {
    addr: &'a str,
    method: &'a str,
    useragent: &'a str,
}

/// The type of an event, as zot names it.
pub(crate) const fn kind(kind: EventKind) -> &'static str {
    match kind {
        EventKind::RepositoryCreated => "zotregistry.repository.created",
        EventKind::ImageUpdated => "zotregistry.image.updated",
        EventKind::ImageDeleted => "zotregistry.image.deleted",
        EventKind::ImageLintFailed => "zotregistry.image.lint_failed",
    }
}

/// The body of an event.
pub(super) fn body(event: &EventRow, manifest: Option<&str>) -> Vec<u8> {
    let origin = event.origin.as_ref();
    let text = |part: &'_ Option<String>| -> String { part.clone().unwrap_or_default() };
    let request = origin.filter(|origin| **origin != EventOrigin::default());
    let request = request.map(|origin| (text(&origin.address), text(&origin.method), text(&origin.agent)));
    let data = Data {
        name: &event.repository,
        reference: &event.reference,
        digest: &event.digest,
        media_type: &event.media_type,
        manifest,
        actor: origin.and_then(|origin| origin.actor.as_deref()).map(|name| Actor { name }),
        request: request.as_ref().map(|(addr, method, useragent)| Request { addr, method, useragent }),
    };
    serde_json::to_vec(&data).unwrap_or_default()
}

/// The headers of an event.
pub(super) fn headers(event: &EventRow, channel: Option<&str>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let mut set = |name: &'static str, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    };
    set("ce-id", &id(event));
    set("ce-type", kind(event.kind));
    set("ce-time", &event.at.to_string());
    set("ce-specversion", "1.0");
    if let Some(channel) = channel {
        set("ce-channel", channel);
    }
    headers.insert(HeaderName::from_static("ce-source"), SOURCE);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers
}

/// The id of an event, the same at each attempt.
pub(crate) fn id(event: &EventRow) -> String {
    Uuid::from_u128(event.id).to_string()
}

/// The key in the text of a secret file.
pub(super) fn key(text: &str) -> Result<Vec<u8>, &'static str> {
    let text = text.trim();
    let key = match text.strip_prefix(SECRET_PREFIX) {
        Some(encoded) => STANDARD.decode(encoded).map_err(|_| "whsec_ must be followed by base64")?,
        None => text.as_bytes().to_vec(),
    };
    if key.is_empty() { Err("it has no secret") } else { Ok(key) }
}

/// Signs a message (Standard Webhooks).
pub(super) fn sign(headers: &mut HeaderMap, key: &[u8], id: &str, seconds: u64, body: &[u8]) {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("an HMAC takes keys of any length");
    mac.update(format!("{id}.{seconds}.").as_bytes());
    mac.update(body);
    let signature = format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()));
    for (name, value) in
        [("webhook-id", id), ("webhook-timestamp", &seconds.to_string()), ("webhook-signature", &signature)]
    {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
}
