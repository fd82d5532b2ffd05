//! The registry itself, for superusers: background work, and the configuration in force. Quay has neither.

use schemars::JsonSchema;
use serde::Serialize;

use super::endpoint::{Endpoint, get, sync};
use super::input::Call;
use super::values::QuayTime;
use crate::http::Context;
use crate::http::error::ApiError;
use crate::identity::access::Requires;
use crate::registry::{Work, WorkState};

/// The endpoints of this file.
pub(super) const ENDPOINTS: &[Endpoint] = &[
    get("/api/v1/superuser/maintenance", Requires::SuperuserRead, &sync(get_maintenance))
        .named("getMaintenance", "Show the running background work, and the results of the last work since the start"),
    get("/api/v1/superuser/configuration", Requires::SuperuserRead, &sync(get_configuration))
        .named("getConfiguration", "Show the configuration in force, without secrets and access rules"),
];

#[derive(Debug, Serialize, JsonSchema)]
struct Maintenance {
    collection: State,
    scrub: State,
}

/// The state of one kind of work.
#[derive(Debug, Serialize, JsonSchema)]
struct State {
    running_since: Option<QuayTime>,
    ended: Option<QuayTime>,
    result: Option<String>,
    /// Whether the last work found no problem. Null before the first one.
    good: Option<bool>,
}

impl From<WorkState> for State {
    fn from(WorkState { running_since, ended, result, is_good }: WorkState) -> Self {
        let good = ended.map(|_| is_good);
        Self { running_since: running_since.map(QuayTime), ended: ended.map(QuayTime), result, good }
    }
}

#[expect(clippy::unnecessary_wraps, reason = "the handlers of all endpoints return results")]
fn get_maintenance(context: &Context<'_>, _: Call) -> Result<Maintenance, ApiError> {
    let state = |work| State::from(context.registry.activity().state(work));
    Ok(Maintenance { collection: state(Work::Collection), scrub: state(Work::Scrub) })
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
