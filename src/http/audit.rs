//! [`AuditedRequest`]: one line in the audit file, if there is one, for every request that changed something.

use std::sync::Arc;

use hyper::http::request::Parts;
use hyper::{Method, StatusCode};
use tokio_util::task::TaskTracker;

use super::access_log::CLIENT_GONE;
use super::forwarded::ClientInfo;
use crate::identity::accounts::{Accounts, RequestEntry};
use crate::registry::Shared;

/// The parameters that the audit file shows. The values of others may be secrets.
const SHOWN: [&str; 7] = ["digest", "digest-algorithm", "everywhere", "from", "id", "mount", "tag"];

/// A permitted request that may change something. If it is dropped before its end, its client has disconnected. This is
/// audited as well, because commits that have begun run to their end.
#[derive(Debug)]
pub(super) struct AuditedRequest {
    accounts: Arc<Accounts>,
    work: TaskTracker,
    entry: Option<RequestEntry>,
}

impl AuditedRequest {
    /// Returns `None` if there is no audit file, or if the method changes nothing.
    pub(super) fn begin(
        registry: &Shared,
        head: &Parts,
        client: &ClientInfo<'_>,
        id: &str,
        user: Option<&str>,
    ) -> Option<Self> {
        let changes = [Method::POST, Method::PUT, Method::PATCH, Method::DELETE].contains(&head.method);
        if !changes || registry.accounts().audit_file().is_none() {
            return None;
        }
        let entry = RequestEntry {
            client: address(client),
            peer: client.peer.map(|peer| peer.to_string()),
            user: user.unwrap_or_default().to_owned(),
            method: head.method.to_string(),
            target: target(head.uri.path(), head.uri.query()),
            status: CLIENT_GONE,
            id: id.to_owned(),
        };
        Some(Self { accounts: Arc::clone(registry.accounts()), work: registry.work().clone(), entry: Some(entry) })
    }

    /// Writes the line if the request succeeded.
    pub(super) async fn end(mut self, status: StatusCode) {
        // The form of a page is answered with a redirect if it succeeds.
        let is_done = status.is_success() || status == StatusCode::SEE_OTHER;
        let Some(mut entry) = self.entry.take().filter(|_| is_done) else { return };
        entry.status = status.as_u16();
        let _ = self.write(entry).await;
    }

    /// Writes on a thread for blocking work. The write runs to its end even if the handle is dropped.
    fn write(&self, entry: RequestEntry) -> tokio::task::JoinHandle<()> {
        let accounts = Arc::clone(&self.accounts);
        self.work.spawn_blocking(move || {
            if let Some(file) = accounts.audit_file() {
                file.request(accounts.now(), &entry);
            }
        })
    }
}

impl Drop for AuditedRequest {
    fn drop(&mut self) {
        if let Some(entry) = self.entry.take() {
            drop(self.write(entry));
        }
    }
}

/// The client's address. Without a proxy it has the port, as in zot.
fn address(client: &ClientInfo<'_>) -> String {
    match (client.address, client.peer) {
        (Some(address), Some(peer)) if peer.ip().to_canonical() != address => address.to_string(),
        (_, Some(peer)) => peer.to_string(),
        _ => String::new(),
    }
}

/// The path and the parameters as sent. The values of other parameters than [`SHOWN`] are masked.
fn target(path: &str, query: Option<&str>) -> String {
    let Some(query) = query else { return path.to_owned() };
    let mut shown = path.to_owned();
    for (at, pair) in query.split('&').enumerate() {
        shown.push(if at == 0 { '?' } else { '&' });
        match pair.split_once('=') {
            Some((name, _)) if !SHOWN.contains(&name) => shown.extend([name, "=***"]),
            _ => shown.push_str(pair),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_listed_parameters_are_shown() {
        for (query, shown) in [
            ("digest=sha256:00&tag=a&tag=b", "digest=sha256:00&tag=a&tag=b"),
            ("_csrf_token=abc&everywhere=true", "_csrf_token=***&everywhere=true"),
            ("password=a=b&id", "password=***&id"),
            ("%64igest=x&Digest=x", "%64igest=***&Digest=***"),
        ] {
            assert_eq!(target("/v2/a", Some(query)), format!("/v2/a?{shown}"));
        }
        assert_eq!(target("/v2/a", None), "/v2/a");
    }
}
