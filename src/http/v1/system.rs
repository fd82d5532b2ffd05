//! The registry itself, for superusers: background work, the use of the disk, and the configuration in force. Quay has
//! none of them.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;

use super::endpoint::{Endpoint, delete, future, get, post, sync};
use super::input::{Call, PathValue};
use super::values::QuayTime;
use crate::http::error::ApiError;
use crate::http::{Context, maintenance};
use crate::identity::access::Requires;
use crate::registry::{DiskCount, UpstreamView, Work, WorkState};

/// How long a request waits for a count of the use of the disk, before it gets the last one.
const DISK_PATIENCE: Duration = Duration::from_secs(30);

/// The endpoints of this file.
pub(super) const ENDPOINTS: &[Endpoint] = &[
    get("/api/v1/superuser/maintenance", Requires::SuperuserRead, &sync(get_maintenance))
        .named("getMaintenance", "Show the running background work, and the results of the last work since the start"),
    post("/api/v1/superuser/maintenance/{work}", Requires::Superuser, &future(start_work))
        .named("startMaintenance", "Start a garbage collection or a scrub, unless it is running"),
    delete("/api/v1/superuser/maintenance/{work}", Requires::Superuser, &future(stop_work))
        .named("stopMaintenance", "Stop a running garbage collection or scrub after its current step"),
    get("/api/v1/superuser/disk", Requires::SuperuserRead, &future(get_disk))
        .named("getDiskUse", "Show the use of the disk by repositories, uploads and unreferenced content"),
    get("/api/v1/superuser/configuration", Requires::SuperuserRead, &sync(get_configuration))
        .named("getConfiguration", "Show the configuration in force, without secrets and access rules"),
    get("/api/v1/superuser/mirrors", Requires::SuperuserRead, &future(get_mirrors))
        .named("getMirrors", "Show the registries that are mirrored, their state, and their synchronisation"),
];

#[derive(Debug, Serialize, JsonSchema)]
struct Mirrors {
    upstreams: Vec<UpstreamView>,
}

async fn get_mirrors(context: &Context<'_>, _: Call) -> Result<Mirrors, ApiError> {
    let holdings = context.blocking(context.registry.count_mirrored()).await?;
    Ok(Mirrors { upstreams: context.registry.upstream_views(&holdings) })
}

#[derive(Debug, Serialize, JsonSchema)]
struct Maintenance {
    collection: State,
    scrub: State,
}

/// The state of one kind of work.
#[derive(Debug, Serialize, JsonSchema)]
struct State {
    running_since: Option<QuayTime>,
    /// How much of the running work is done. Null if it is unknown.
    #[schemars(range(max = 99))]
    percent: Option<u8>,
    ended: Option<QuayTime>,
    result: Option<String>,
    /// Whether the last work found no problem. Null before the first one.
    good: Option<bool>,
}

impl From<WorkState> for State {
    fn from(WorkState { running_since, percent, ended, result, is_good, .. }: WorkState) -> Self {
        let good = ended.map(|_| is_good);
        Self { running_since: running_since.map(QuayTime), percent, ended: ended.map(QuayTime), result, good }
    }
}

/// A kind of work in a path.
#[derive(Clone, Copy, Debug, JsonSchema)]
#[schemars(inline)]
struct WorkName(#[schemars(with = "WorkWord")] Work);

/// The words for the kinds of work.
#[derive(Clone, Copy, Debug, JsonSchema)]
#[schemars(inline, rename_all = "lowercase")]
#[expect(dead_code, reason = "only its schema is used")]
enum WorkWord {
    Collection,
    Scrub,
}

impl PathValue for WorkName {
    fn parse(text: &str) -> Result<Self, ApiError> {
        Work::find(text).map(Self).ok_or_else(ApiError::nothing_here)
    }
}

async fn start_work(context: &Context<'_>, call: Call<WorkName>) -> Result<State, ApiError> {
    let WorkName(work) = call.path;
    maintenance::start(context, work).await?;
    Ok(context.registry.activity().state(work).into())
}

async fn stop_work(context: &Context<'_>, call: Call<WorkName>) -> Result<State, ApiError> {
    let WorkName(work) = call.path;
    maintenance::stop(context, work).await?;
    Ok(context.registry.activity().state(work).into())
}

#[expect(clippy::unnecessary_wraps, reason = "the handlers of all endpoints return results")]
fn get_maintenance(context: &Context<'_>, _: Call) -> Result<Maintenance, ApiError> {
    let state = |work| State::from(context.registry.activity().state(work));
    Ok(Maintenance { collection: state(Work::Collection), scrub: state(Work::Scrub) })
}

/// The use of the disk, in bytes.
#[derive(Debug, Serialize, JsonSchema)]
struct Disk {
    /// When the content was counted. Counts of a large registry are used for a while.
    counted: QuayTime,
    repositories: u64,
    blobs: u64,
    /// The sum over all repositories, as if they shared nothing.
    logical_bytes: u64,
    /// Each blob once.
    stored_bytes: u64,
    /// The blobs among them that several repositories have.
    shared_bytes: u64,
    uploads: u64,
    upload_bytes: u64,
    /// The bytes that garbage collection frees when everything that is unreferenced now is due.
    unreferenced_bytes: u64,
    /// Whether there was too much to count, so that the figures above are a part of the whole.
    truncated: bool,
    /// Null if the free space is unknown.
    free_bytes: Option<u64>,
    /// Pushes are refused with less free space. Null if the free space is unknown.
    min_free_bytes: Option<u64>,
    read_only: bool,
    /// Why pushes are refused. Null if they are not.
    refuses_pushes: Option<String>,
}

async fn get_disk(context: &Context<'_>, _: Call) -> Result<Disk, ApiError> {
    let stores = context.registry.stores();
    let DiskCount { usage, at } = context.registry.disk_use(DISK_PATIENCE).await.map_err(ApiError::unavailable)?;
    let (free, least) = stores.space().ok().unzip();
    Ok(Disk {
        counted: QuayTime(at),
        repositories: usage.repositories,
        blobs: usage.blobs,
        logical_bytes: usage.logical,
        stored_bytes: usage.stored,
        shared_bytes: usage.shared,
        uploads: usage.uploads,
        upload_bytes: usage.upload_bytes,
        unreferenced_bytes: usage.unreferenced,
        truncated: usage.is_part,
        free_bytes: free,
        min_free_bytes: least,
        read_only: stores.is_read_only(),
        refuses_pushes: stores.check_space().err().map(|error| error.to_string()),
    })
}

#[derive(Debug, Serialize, JsonSchema)]
struct Configuration {
    keys: Vec<ValueInForce>,
}

/// The value of a key, as people write it.
#[derive(Debug, Serialize, JsonSchema)]
struct ValueInForce {
    key: &'static str,
    value: String,
    /// Whether the value differs from the default.
    given: bool,
}

#[expect(clippy::unnecessary_wraps, reason = "the handlers of all endpoints return results")]
fn get_configuration(context: &Context<'_>, _: Call) -> Result<Configuration, ApiError> {
    let values = context.registry.config().in_force().into_iter();
    Ok(Configuration {
        keys: values.map(|value| ValueInForce { key: value.key, value: value.text, given: value.is_given }).collect(),
    })
}
