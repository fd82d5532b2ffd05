//! The page of the mirrored registries.

use askama::Template;

use super::{Badge, Bytes, Icon, Layout, Time};

/// The mirrored registries.
#[derive(Debug, Template)]
#[template(path = "admin/mirrors.html")]
pub(crate) struct MirrorsPage {
    pub(crate) layout: Layout,
    pub(crate) upstreams: Vec<UpstreamRow>,
}

/// A mirrored registry.
#[derive(Clone, Debug)]
pub(crate) struct UpstreamRow {
    pub(crate) name: String,
    pub(crate) state: Badge,
    pub(crate) mode: String,
    pub(crate) urls: Vec<String>,
    pub(crate) rules: Vec<String>,
    /// Why it is not asked.
    pub(crate) unavailable: Option<String>,
    pub(crate) last_error: Option<(Option<Time>, String)>,
    pub(crate) quota: Option<u64>,
    pub(crate) hits: u64,
    pub(crate) misses: u64,
    pub(crate) stale: u64,
    pub(crate) errors: u64,
    pub(crate) fetched: Bytes,
    pub(crate) repositories: String,
    pub(crate) bytes: Bytes,
    pub(crate) running: Option<SyncProgress>,
    pub(crate) last: Option<SyncResult>,
    pub(crate) next: Option<Time>,
    /// The command that synchronises it at once.
    pub(crate) command: String,
}

/// A synchronisation that is going on.
#[derive(Clone, Debug)]
pub(crate) struct SyncProgress {
    pub(crate) since: Option<Time>,
    pub(crate) done: u64,
    pub(crate) all: u64,
    pub(crate) what: String,
    pub(crate) bytes: Bytes,
    pub(crate) current: String,
}

/// The result of the last synchronisation.
#[derive(Clone, Debug)]
pub(crate) struct SyncResult {
    pub(crate) ended: Option<Time>,
    pub(crate) what: String,
    pub(crate) bytes: Bytes,
    /// The reason of an early end, the failures and the notes.
    pub(crate) problems: Vec<String>,
}
