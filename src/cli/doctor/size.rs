//! The size of the requests that a proxy lets through. nginx refuses those above 1 MiB unless it is told otherwise, and then
//! small images arrive and large layers do not.

use std::time::Duration;

use hyper::{Request, StatusCode};

use super::Check;
use super::way::PROXY;
use crate::kit::outgoing::Client;
use crate::kit::text;

/// More than nearly all layers have.
const LARGE: u64 = 8 << 30;
/// As many layers have. A proxy that refuses these breaks pushes.
const USUAL: u64 = 64 << 20;

/// How long a proxy may take to refuse a request.
const PATIENCE: Duration = Duration::from_secs(2);

const ADVICE: &str = "let the proxy take requests of any size: `client_max_body_size 0` in nginx, the annotation \
                      `nginx.ingress.kubernetes.io/proxy-body-size: \"0\"` in its ingress, `LimitRequestBody 0` in Apache";

/// Announces large requests, and sends nothing of their bodies. A proxy that limits them refuses them at once.
pub(super) async fn size(client: &Client, url: &str) -> Option<Check> {
    if !is_refused(client, url, LARGE).await {
        return None;
    }
    let refuses = |size: u64| format!("the server at {url} refuses requests of {} (413)", text::size(size));
    Some(if is_refused(client, url, USUAL).await {
        Check::problem(PROXY, format!("{}: pushes of layers fail", refuses(USUAL)), ADVICE)
    } else {
        Check::warning(PROXY, format!("{}: pushes of large layers fail", refuses(LARGE)), ADVICE)
    })
}

/// The registry itself refuses the request for other reasons, or waits for the body.
async fn is_refused(client: &Client, url: &str, length: u64) -> bool {
    let request = Request::post(format!("{}/v2/", url.trim_end_matches('/'))).body(());
    let Ok(request) = request else { return false };
    let answer = tokio::time::timeout(PATIENCE, client.announce(request, length)).await;
    matches!(answer, Ok(Ok(answer)) if answer.status() == StatusCode::PAYLOAD_TOO_LARGE)
}
