//! Health probes, metrics, and the paths that only show that a registry runs.

use hyper::header::{self, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Response, StatusCode};

use super::error::ApiError;
use super::response::{redirect, with_body};
use super::route::RouteError;
use super::{Body, Context, HandlerResult, ui};
use crate::acme::Report;
use crate::content::repository::QuotaFigures;
use crate::kit::certificate::Validity;
use crate::kit::clock::Timestamp;
use crate::oci::ErrorCode;
use crate::registry::Shared;

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// `/`: load balancers take any 2xx for a healthy server.
/// A browser is sent to the pages.
pub(super) fn root(context: &Context<'_>) -> HandlerResult {
    let wants_page = context.registry.has_pages() && {
        let accepted = context.info.headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
        accepted.flat_map(|value| value.split([',', ';'])).any(|word| word.trim().eq_ignore_ascii_case("text/html"))
    };
    let mut response = if wants_page {
        redirect(StatusCode::SEE_OTHER, ui::START)?
    } else {
        with_body(StatusCode::OK, TEXT, Body::bytes("coracle, an OCI registry. Its API is at /v2/.\n"))
    };
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("Accept"));
    Ok(response)
}

/// `/v2/` (distribution-spec, "Determining Support").
pub(super) fn ping() -> Response<Body> {
    with_body(StatusCode::OK, HeaderValue::from_static("application/json"), Body::bytes("{}"))
}

/// `/livez`: the process responds.
pub(super) fn live() -> Response<Body> {
    with_body(StatusCode::OK, TEXT, Body::bytes("ok"))
}

/// `/startupz`: the registry has started.
pub(super) fn started() -> Response<Body> {
    live()
}

/// `/readyz`: the database responds as well, and the directories of blobs can be read. A registry that accepts no pushes is
/// ready, because it can still serve pulls. The response then has the reason.
pub(super) fn ready(context: &Context<'_>) -> HandlerResult {
    let health = context.registry.stores().check().map_err(ApiError::unavailable)?;
    let text = match (health.read_only, health.pushes) {
        (true, _) => "ok, read-only: the database cannot be written\n".to_owned(),
        (false, Err(why)) => format!("ok, pushes refused: {why}\n"),
        (false, Ok(())) => return Ok(live()),
    };
    Ok(with_body(StatusCode::OK, TEXT, Body::bytes(text)))
}

/// The response to a pending challenge of an ACME authority.
pub(super) fn acme_challenge(context: &Context<'_>, token: &str) -> HandlerResult {
    let response = context.registry.acme().and_then(|acme| acme.challenge_response(token));
    let response = response.ok_or_else(|| ApiError::from(RouteError::NotFound))?;
    Ok(with_body(StatusCode::OK, HeaderValue::from_static("application/octet-stream"), Body::bytes(response)))
}

/// Sends a client to `https://`, at a port that only answers challenges. Never to a host that only the request names.
pub(super) fn use_https(registry: &Shared, head: &Parts) -> HandlerResult {
    let names = registry.acme().map(|acme| acme.domains()).unwrap_or_default();
    let requested = head.headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let requested = requested.map(|host| host.rsplit_once(':').map_or(host, |(host, _)| host));
    let is_requested = |name: &&String| requested.is_some_and(|host| host.eq_ignore_ascii_case(name));
    let name = names.iter().find(is_requested).or(names.first());
    let usual = || name.map(|name| format!("https://{name}"));
    let url = registry.external_url().map(str::to_owned).or_else(usual);
    match url.filter(|_| head.method.is_safe()) {
        Some(url) => {
            let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
            redirect(StatusCode::PERMANENT_REDIRECT, &format!("{url}{path}"))
        }
        None => Err(ApiError::new(
            ErrorCode::Denied,
            "this port only answers the challenges of an ACME authority: use https://",
        )),
    }
}

/// The metrics, in the text format of Prometheus.
pub(super) fn metrics(context: &Context<'_>) -> Response<Body> {
    let stores = context.registry.stores();
    context.registry.metrics().storage(stores.space().ok(), stores.is_read_only());
    let seconds = |time: Timestamp| time.micros() / 1_000_000;
    let certificate = if let Some(acme) = context.registry.acme() {
        let Report { validity, renewal, failure, failures, .. } = acme.report();
        let failure = failure.map(|(at, _)| seconds(at));
        context.registry.metrics().acme(failures, failure, renewal.map(seconds));
        validity.ok()
    } else {
        context.registry.certificate_file().and_then(|file| Validity::read(&file).ok())
    };
    let certificate = certificate.map(|validity| seconds(validity.until));
    context.registry.metrics().times(stores.last_backup().ok().flatten().map(seconds), certificate);
    if let Some(mirror) = context.registry.mirror() {
        let (held, limit, evicted) = mirror.figures();
        context.registry.metrics().mirror(held, limit.unwrap_or_default(), evicted);
        mirror.report(context.registry.metrics());
    }
    if let Some(events) = context.registry.events() {
        events.report(stores, context.registry.metrics());
    }
    context.registry.traces().report(context.registry.metrics());
    if let Some(directory) = context.registry.accounts().directory_state() {
        let counts = [directory.accepted, directory.refused, directory.failed];
        context.registry.metrics().directory(counts, directory.away.is_some());
    }
    if let Ok(Some(figures)) = stores.quota_figures() {
        let QuotaFigures { repositories, max_repositories, .. } = figures;
        let refused = [
            ("size", figures.refused_size),
            ("tags", figures.refused_tags),
            ("repositories", figures.refused_repositories),
        ];
        context.registry.metrics().quotas(repositories, max_repositories, refused);
    }
    // Prometheus asks for `OpenMetrics`. Others, such as promtool, read only its older format.
    let accepted = context.info.headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let (content_type, text) = if accepted.into_iter().any(|value| value.contains("application/openmetrics-text")) {
        ("application/openmetrics-text; version=1.0.0; charset=utf-8", context.registry.metrics().encode())
    } else {
        ("text/plain; version=0.0.4; charset=utf-8", context.registry.metrics().encode_plain())
    };
    with_body(StatusCode::OK, HeaderValue::from_static(content_type), Body::bytes(text))
}
