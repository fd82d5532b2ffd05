//! The audit log of one user, and of all.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use super::endpoint::{Endpoint, get, sync};
use super::input::{Call, invalid, parsed};
use super::values::{Always, Avatar, Kind, QuayTime};
use crate::http::Context;
use crate::http::error::ApiError;
use crate::http::time::parse_day;
use crate::identity::access::Requires;
use crate::identity::accounts::AuditEntry;
use crate::kit::clock::Timestamp;

/// The endpoints of this file.
pub(super) const ENDPOINTS: &[Endpoint] = &[
    get("/api/v1/user/logs", Requires::UserAdmin, &sync(list_user_logs))
        .named("listUserLogs", "List the audit log of the user"),
    get("/api/v1/superuser/logs", Requires::SuperuserRead, &sync(list_all_logs))
        .named("listAllLogs", "List the audit log of all accounts"),
];

/// The number of entries on a page of Quay.
const PAGE: usize = 20;
const ONE_DAY: Duration = Duration::from_hours(24);

/// A day as Quay reads it.
const DAY: &str = "^(0?[1-9]|1[0-2])/(0?[1-9]|[12][0-9]|3[01])/[0-9]{4}$";

#[derive(Debug, Deserialize, JsonSchema)]
struct LogQuery {
    /// The first day. The default is yesterday.
    starttime: Option<Day>,
    /// The last day. The default is tomorrow.
    endtime: Option<Day>,
    next_page: Option<Cursor>,
}

/// The beginning of a day in UTC.
#[derive(Clone, Copy, Debug, JsonSchema)]
#[schemars(inline)]
struct Day(#[schemars(with = "String", regex(pattern = DAY))] Timestamp);

impl FromStr for Day {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        parse_day(text).map(Self).ok_or("has the form MM/DD/YYYY")
    }
}

impl<'de> Deserialize<'de> for Day {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        parsed(deserializer)
    }
}

/// The place of the last entry of a page: its time and its number within that time.
#[derive(Clone, Copy, Debug, JsonSchema)]
#[schemars(inline)]
struct Cursor(#[schemars(with = "String", regex(pattern = "^[0-9]+-[0-9]+$"))] (Timestamp, u32));

impl FromStr for Cursor {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let read = || {
            let (micros, number) = text.split_once('-')?;
            Some((Timestamp::from_micros(micros.parse().ok()?), number.parse().ok()?))
        };
        read().map(Self).ok_or("is not one that was given")
    }
}

impl<'de> Deserialize<'de> for Cursor {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        parsed(deserializer)
    }
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(inline)]
struct LogPage<Entry> {
    start_time: QuayTime,
    end_time: QuayTime,
    #[schemars(length(max = PAGE))]
    logs: Vec<Entry>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    next_page: Option<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct LogEntry {
    kind: String,
    metadata: BTreeMap<String, String>,
    ip: Option<String>,
    user_agent: String,
    request_id: Option<String>,
    datetime: QuayTime,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Performer")]
    performer: Option<Performer>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Performer {
    kind: Kind,
    name: String,
    is_robot: Always<false>,
    avatar: Avatar,
}

/// An entry with the account that it is about. A wrong password for an unknown user is about no account.
#[derive(Debug, Serialize, JsonSchema)]
struct AccountLogEntry {
    #[serde(flatten)]
    entry: LogEntry,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "LogNamespace")]
    namespace: Option<LogNamespace>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct LogNamespace {
    kind: Kind,
    name: String,
    avatar: Avatar,
}

impl From<AuditEntry> for LogEntry {
    fn from(AuditEntry { at, row }: AuditEntry) -> Self {
        let performer = row.performer.map(|name| {
            let avatar = Avatar::of(&name);
            Performer { kind: Kind::User, name, is_robot: Always, avatar }
        });
        Self {
            kind: row.kind,
            metadata: row.metadata.into_iter().collect(),
            ip: row.address,
            user_agent: row.agent,
            request_id: row.request,
            datetime: QuayTime(at),
            performer,
        }
    }
}

impl From<AuditEntry> for AccountLogEntry {
    fn from(entry: AuditEntry) -> Self {
        let account = Some(entry.row.account.clone()).filter(|account| !account.is_empty());
        let namespace = account.map(|name| {
            let avatar = Avatar::of(&name);
            LogNamespace { kind: Kind::User, name, avatar }
        });
        Self { entry: entry.into(), namespace }
    }
}

fn list_user_logs(
    context: &Context<'_>,
    Call { query, .. }: Call<(), LogQuery>,
) -> Result<LogPage<LogEntry>, ApiError> {
    page(context, &query, Some(context.user()?))
}

fn list_all_logs(
    context: &Context<'_>,
    Call { query, .. }: Call<(), LogQuery>,
) -> Result<LogPage<AccountLogEntry>, ApiError> {
    page(context, &query, None)
}

fn page<Entry: From<AuditEntry>>(
    context: &Context<'_>,
    query: &LogQuery,
    account: Option<&str>,
) -> Result<LogPage<Entry>, ApiError> {
    let now = context.registry.accounts().now();
    let from = query.starttime.map_or_else(|| now.before(ONE_DAY), |Day(start)| start);
    let to = query.endtime.map_or(now, |Day(start)| start).after(ONE_DAY);
    let before = query.next_page.map_or((to, 0), |Cursor(place)| place);
    if before.0 < from {
        return Err(invalid("starttime must not be after endtime"));
    }
    let page = context.registry.accounts().audit(account, from, before, PAGE)?;
    Ok(LogPage {
        start_time: QuayTime(from),
        end_time: QuayTime(to),
        logs: page.entries.into_iter().map(Entry::from).collect(),
        next_page: page.next.map(|(at, number)| format!("{}-{number}", at.micros())),
    })
}
