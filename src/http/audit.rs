//! One line in the audit file, if there is one, for every request that changed something.

use std::sync::Arc;

use hyper::http::request::Parts;
use hyper::{Method, StatusCode};
use tokio_util::task::TaskTracker;

use super::forwarded::ClientInfo;
use crate::identity::accounts::{Accounts, RequestEntry};
use crate::registry::Shared;

/// The parameters that say what a request is on. What others say may be a secret.
const SHOWN: [&str; 7] = ["digest", "digest-algorithm", "everywhere", "from", "id", "mount", "tag"];

/// In place of a status: the client has gone, and may not know what came of its request. As nginx has it.
const CLIENT_GONE: u16 = 499;

/// A request that may change something, and is allowed to. If it is dropped before its end, its client has gone;
/// since what has begun to be written is finished all the same, that is written down too.
#[derive(Debug)]
pub(super) struct AuditedRequest {
    accounts: Arc<Accounts>,
    work: TaskTracker,
    entry: Option<RequestEntry>,
}

impl AuditedRequest {
    /// None, if nothing is to be written down whatever becomes of the request.
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

    /// The request has changed something if it has succeeded. Returns when that is written down.
    pub(super) async fn end(mut self, status: StatusCode) {
        let Some(mut entry) = self.entry.take().filter(|_| status.is_success()) else { return };
        entry.status = status.as_u16();
        let _ = self.write(entry).await;
    }

    /// On a thread that may wait for a disk, also if nobody waits for the thread.
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

/// The client's address; with its port as zot writes it, where there is no proxy before the client.
fn address(client: &ClientInfo<'_>) -> String {
    match (client.address, client.peer) {
        (Some(address), Some(peer)) if peer.ip().to_canonical() != address => address.to_string(),
        (_, Some(peer)) => peer.to_string(),
        _ => String::new(),
    }
}

/// The path and the parameters as they were sent, but for the values of those that nobody has to see.
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
    fn only_parameters_that_are_known_not_to_be_secrets_are_shown() {
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
