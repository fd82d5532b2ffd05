//! [`AuditFile`]: the audit as lines of JSON in a file, as zot's `log.audit`.
//!
//! A line describes a request that changed something, in zot's form, or a row of the account audit. It is written before
//! the request is answered. A failure to write it is logged and does not fail the request. No line has a secret.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use serde::Serialize;

use crate::content::blobs::Owner;
use crate::content::rows::AuditRow;
use crate::kit::append::AppendFile;
use crate::kit::clock::Timestamp;

/// Only the owner may read the audit.
const MODE: u32 = 0o600;

/// An append-only audit file.
#[derive(Debug)]
pub(crate) struct AuditFile(AppendFile);

/// A request that changed something.
#[derive(Debug)]
pub(crate) struct RequestEntry {
    pub(crate) client: String,
    pub(crate) peer: Option<String>,
    pub(crate) user: String,
    pub(crate) method: String,
    /// The path, and the query parameters that identify the target.
    pub(crate) target: String,
    pub(crate) status: u16,
    pub(crate) id: String,
}

/// A line, with zot's field names in zot's order.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Line<'a> {
    level: &'static str,
    #[serde(rename = "clientIP")]
    client_ip: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer: Option<&'a str>,
    subject: &'a str,
    action: &'a str,
    object: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    agent: Option<&'a str>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    metadata: BTreeMap<&'a str, &'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request: Option<&'a str>,
    time: String,
    message: &'static str,
}

impl AuditFile {
    /// Opens the file, or creates it for the owner of the data directory `root`.
    pub(crate) fn open(path: &Path, root: &Path) -> io::Result<Self> {
        let is_new = !path.exists();
        let file = AppendFile::open(path, MODE)?;
        if let Some(owner) = Owner::to_inherit(root).filter(|_| is_new) {
            owner.take(path);
        }
        Ok(Self(file))
    }

    /// Opens the file again if it was moved.
    pub(crate) fn reopen(&self) -> io::Result<()> {
        self.0.reopen()
    }

    /// Writes a line for a request.
    pub(crate) fn request(&self, at: Timestamp, entry: &RequestEntry) {
        self.write(&Line {
            level: "info",
            client_ip: &entry.client,
            peer: entry.peer.as_deref(),
            subject: &entry.user,
            action: &entry.method,
            object: &entry.target,
            status: Some(entry.status),
            agent: None,
            metadata: BTreeMap::new(),
            request: Some(&entry.id),
            time: at.to_string(),
            message: "HTTP API Audit",
        });
    }

    /// Writes a line for an audit row of an account.
    pub(super) fn account(&self, at: Timestamp, row: &AuditRow) {
        self.write(&Line {
            level: "info",
            client_ip: row.address.as_deref().unwrap_or_default(),
            peer: row.peer.as_deref(),
            subject: row.performer.as_deref().unwrap_or_default(),
            action: &row.kind,
            object: &row.account,
            status: None,
            agent: Some(&row.agent),
            metadata: row.metadata.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect(),
            request: row.request.as_deref(),
            time: at.to_string(),
            message: "account audit",
        });
    }

    fn write(&self, line: &Line<'_>) {
        let written = serde_json::to_vec(line).map_err(io::Error::from).and_then(|line| self.0.append(&line));
        if let Err(error) = written {
            let (path, action, object) = (self.0.path().display(), line.action, line.object);
            tracing::error!(%path, %error, action, object, "cannot write the audit file");
        }
    }
}
