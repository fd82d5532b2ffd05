//! What was done to accounts.

use std::time::Duration;

use hyper::{Response, StatusCode};
use serde_json::{Value, json};

use super::schema::{Schema, always, list_of, map, named, object, one_of, quay_time, text};
use super::{Call, invalid, user};
use crate::http::error::ApiError;
use crate::http::response::json_response;
use crate::http::time::{parse_day, rfc2822};
use crate::http::{Body, Context};
use crate::identity::accounts::AuditEntry;
use crate::kit::clock::Timestamp;

/// As many as Quay shows at once.
const PAGE: usize = 20;
const DAY: Duration = Duration::from_hours(24);

pub(super) fn of_user(context: &Context<'_>, call: &Call<'_>) -> Result<Response<Body>, ApiError> {
    list(context, call, Some(context.user()?))
}

pub(super) fn of_all(context: &Context<'_>, call: &Call<'_>) -> Result<Response<Body>, ApiError> {
    list(context, call, None)
}

fn list(context: &Context<'_>, call: &Call<'_>, account: Option<&str>) -> Result<Response<Body>, ApiError> {
    let now = context.registry.accounts().now();
    // From yesterday to tomorrow, unless days are named.
    let from = day(call, "starttime")?.unwrap_or_else(|| now.before(DAY));
    let to = day(call, "endtime")?.unwrap_or(now).after(DAY);
    let before = match call.query.one("next_page")? {
        None => (to, 0),
        Some(cursor) => {
            cursor_of(cursor).ok_or_else(|| invalid("the parameter next_page is not one that was given"))?
        }
    };
    if before.0 < from {
        return Err(invalid("starttime must not be after endtime"));
    }
    let page = context.registry.accounts().audit(account, from, before, PAGE)?;
    let entries: Vec<Value> = page.entries.iter().map(|entry| view(entry, account.is_none())).collect();
    let mut list = json!({
        "start_time": rfc2822(from),
        "end_time": rfc2822(to),
        "logs": entries,
    });
    if let Some((at, number)) = page.next {
        list["next_page"] = format!("{}-{number}", at.micros()).into();
    }
    Ok(json_response(StatusCode::OK, &list))
}

fn day(call: &Call<'_>, name: &str) -> Result<Option<Timestamp>, ApiError> {
    let form = || invalid(format!("the parameter {name} has the form MM/DD/YYYY"));
    call.query.one(name)?.map(|text| parse_day(text).ok_or_else(form)).transpose()
}

fn cursor_of(text: &str) -> Option<(Timestamp, u32)> {
    let (micros, number) = text.split_once('-')?;
    Some((Timestamp::from_micros(micros.parse().ok()?), number.parse().ok()?))
}

fn view(entry: &AuditEntry, with_account: bool) -> Value {
    let metadata: serde_json::Map<String, Value> =
        entry.row.metadata.iter().map(|(name, value)| (name.clone(), value.as_str().into())).collect();
    let mut view = json!({
        "kind": entry.row.kind,
        "metadata": metadata,
        "ip": entry.row.address,
        "user_agent": entry.row.agent,
        "request_id": entry.row.request,
        "datetime": rfc2822(entry.at),
    });
    if let Some(performer) = &entry.row.performer {
        view["performer"] =
            json!({ "kind": "user", "name": performer, "is_robot": false, "avatar": user::avatar(performer) });
    }
    // A wrong password for nobody is about no account.
    if with_account && !entry.row.account.is_empty() {
        view["namespace"] =
            json!({ "kind": "user", "name": entry.row.account, "avatar": user::avatar(&entry.row.account) });
    }
    view
}

/// What [`view`] makes.
pub(super) fn schema() -> Schema {
    named("LogEntry", view_schema())
}

/// The same with the account that it was done to, if there is one.
pub(super) fn account_schema() -> Schema {
    let account = object([("kind", one_of(["user"])), ("name", text()), ("avatar", user::avatar_schema())]);
    named("AccountLogEntry", view_schema().and("namespace", account.optional()))
}

/// A page of them.
pub(super) fn page_schema(entry: Schema) -> Schema {
    object([
        ("start_time", quay_time()),
        ("end_time", quay_time()),
        ("logs", list_of(entry).at_most(PAGE)),
        ("next_page", text().optional()),
    ])
}

fn view_schema() -> Schema {
    let performer =
        [("kind", one_of(["user"])), ("name", text()), ("is_robot", always(false)), ("avatar", user::avatar_schema())];
    object([
        ("kind", text()),
        ("metadata", map(text())),
        ("ip", text().or_null()),
        ("user_agent", text()),
        ("request_id", text().or_null()),
        ("datetime", quay_time()),
        ("performer", object(performer).optional()),
    ])
}
