//! Tags with their history, in Quay's shapes: what a push does not do, and what brings tags back.

use std::sync::Arc;

use hyper::{Response, StatusCode};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

use super::schema::{Schema, always, boolean, integer, list_of, object, quay_time, text};
use super::{Call, invalid, read};
use crate::content::repository::{Expiry, HistoryEntry, HistoryFilter, NameFilter, TagChange};
use crate::http::error::ApiError;
use crate::http::request::RequestBody;
use crate::http::response::{empty, json_response};
use crate::http::time::rfc2822;
use crate::http::{Body, Context};
use crate::identity::access::Action;
use crate::kit::clock::Timestamp;
use crate::oci::{Digest, Reference, Tag};

/// As many as Quay shows at once, without and with a limit of the client's.
const PAGE: usize = 50;
const PAGE_MAX: usize = 100;
/// No repository has more pages.
const PAGE_NUMBER_MAX: usize = 1_000_000_000;
const MICROS: u64 = 1_000_000;
/// The last time that can be written in every form, at the end of the year 9999.
const LAST_SECOND: u64 = 253_402_207_200;

/// What Quay says of a tag that is none.
const INVALID_TAG: &str =
    "Invalid tag: must match [A-Za-z0-9_.-], NOT start with \".\" or \"-\", and can contain 1-128 characters";

#[derive(Deserialize)]
struct ChangeBody {
    manifest_digest: Option<String>,
    #[serde(default, deserialize_with = "given")]
    expiration: Option<Value>,
    immutable: Option<bool>,
}

#[derive(Deserialize)]
struct RestoreBody {
    manifest_digest: Option<String>,
}

#[derive(Deserialize)]
struct ExpireBody {
    manifest_digest: Option<String>,
    /// Of an index, nothing is kept for its manifests that could be forgotten with it.
    #[serde(rename = "include_submanifests")]
    _include_submanifests: Option<bool>,
    is_alive: Option<bool>,
}

pub(super) async fn list(context: &Context<'_>, call: &Call<'_>) -> Result<Response<Body>, ApiError> {
    let number = |name, default| Ok::<_, ApiError>(call.query.number(name)?.unwrap_or(default).max(1));
    let (page, limit) = (number("page", 1)?.min(PAGE_NUMBER_MAX), number("limit", PAGE)?.min(PAGE_MAX));
    let only_active = match call.query.one("onlyActiveTags")? {
        None => false,
        Some(text) if text.eq_ignore_ascii_case("true") => true,
        Some(text) if text.eq_ignore_ascii_case("false") => false,
        Some(_) => return Err(invalid("the parameter onlyActiveTags is true or false")),
    };
    let mut names = Vec::new();
    if let Some(tag) = call.query.one("specificTag")?.filter(|tag| !tag.is_empty()) {
        names.push(NameFilter::Is(tag.to_owned()));
    }
    match call.query.one("filter_tag_name")?.filter(|filter| !filter.is_empty()).map(|filter| filter.split_once(':')) {
        None => {}
        Some(Some(("like", part))) => names.push(NameFilter::Contains(part.to_owned())),
        Some(Some(("eq", name))) => names.push(NameFilter::Is(name.to_owned())),
        Some(_) => return Err(invalid("the parameter filter_tag_name has the form like:TEXT or eq:TAG")),
    }
    let filter = HistoryFilter { names, only_active, skip: limit.saturating_mul(page - 1), limit };
    let repository = context.registry.repository(call.repository()?);
    let history = context.blocking(move || repository.history(&filter)).await?;
    let tags: Vec<Value> = history.entries.iter().map(view).collect();
    Ok(json_response(StatusCode::OK, &json!({ "tags": tags, "page": page, "has_additional": history.more })))
}

pub(super) async fn change(
    context: &Context<'_>,
    call: &Call<'_>,
    body: &mut RequestBody,
) -> Result<Response<Body>, ApiError> {
    let tag = tag(call)?;
    let ChangeBody { manifest_digest, expiration, immutable } = read(body).await?;
    if immutable.is_some() {
        return Err(invalid("immutable is not supported: tags cannot be locked"));
    }
    let digest = manifest_digest.as_deref().map(digest_of).transpose()?;
    let now = context.registry.now();
    let expires = expiration.map_or(Ok(Expiry::Unchanged), |at| expiry_of(&at, now))?;
    let name = call.repository()?.clone();
    let granted = context.registry.actions(context.caller, &name)?;
    let change = TagChange {
        digest,
        expires,
        may_create: granted.has(Action::Push),
        may_move: granted.has(Action::Update),
        may_delete: granted.has(Action::Delete),
    };
    let (accounts, origin) = (Arc::clone(context.registry.accounts()), context.origin());
    let repository = context.registry.repository(&name);
    context
        .blocking(move || {
            let before = repository.change_tag(&tag, change)?;
            if let Some(digest) = digest.filter(|digest| before.digest != Some(*digest)) {
                let (digest, original) = (digest.to_string(), before.digest.map(|digest| digest.to_string()));
                let mut detail = vec![("tag", tag.as_str()), ("manifest_digest", &digest)];
                detail.extend(original.as_deref().map(|original| ("original_manifest_digest", original)));
                let kind = if original.is_some() { "move_tag" } else { "create_tag" };
                accounts.note_repository(kind, &name, &detail, &origin)?;
            }
            // A tag that was moved has no expiration of before.
            let had = before.expires.filter(|_| digest.is_none_or(|digest| before.digest == Some(digest)));
            let has = match expires {
                Expiry::Unchanged => had,
                Expiry::Never => None,
                Expiry::At(time) => Some(time),
            };
            if has != had {
                let shown = |time: Option<Timestamp>| time.map_or_else(|| "none".to_owned(), rfc2822);
                let (new, old) = (shown(has), shown(had));
                let detail = [("tag", tag.as_str()), ("expiration_date", &new), ("old_expiration_date", &old)];
                accounts.note_repository("change_tag_expiration", &name, &detail, &origin)?;
            }
            Ok::<_, ApiError>(())
        })
        .await?;
    Ok(json_response(StatusCode::CREATED, &"Updated"))
}

pub(super) async fn delete(context: &Context<'_>, call: &Call<'_>) -> Result<Response<Body>, ApiError> {
    let (tag, name) = (tag(call)?, call.repository()?.clone());
    let (accounts, origin) = (Arc::clone(context.registry.accounts()), context.origin());
    let repository = context.registry.repository(&name);
    context
        .blocking(move || {
            repository.delete_manifest(&Reference::Tag(tag.clone()), false)?;
            accounts.note_repository("delete_tag", &name, &[("tag", tag.as_str())], &origin)?;
            Ok::<_, ApiError>(())
        })
        .await?;
    Ok(empty(StatusCode::NO_CONTENT))
}

pub(super) async fn restore(
    context: &Context<'_>,
    call: &Call<'_>,
    body: &mut RequestBody,
) -> Result<Response<Body>, ApiError> {
    let (tag, name) = (tag(call)?, call.repository()?.clone());
    let RestoreBody { manifest_digest } = read(body).await?;
    let digest = digest_of(&manifest_digest.ok_or_else(|| invalid("Missing manifest_digest"))?)?;
    let (accounts, origin) = (Arc::clone(context.registry.accounts()), context.origin());
    let repository = context.registry.repository(&name);
    context
        .blocking(move || {
            let original = repository.restore_tag(&tag, digest)?;
            if original != Some(digest) {
                let (digest, original) = (digest.to_string(), original.map(|digest| digest.to_string()));
                let mut detail = vec![("tag", tag.as_str()), ("manifest_digest", &digest)];
                detail.extend(original.as_deref().map(|original| ("original_manifest_digest", original)));
                accounts.note_repository("revert_tag", &name, &detail, &origin)?;
            }
            Ok::<_, ApiError>(())
        })
        .await?;
    Ok(json_response(StatusCode::OK, &json!({})))
}

pub(super) async fn expire(
    context: &Context<'_>,
    call: &Call<'_>,
    body: &mut RequestBody,
) -> Result<Response<Body>, ApiError> {
    let (tag, name) = (tag(call)?, call.repository()?.clone());
    let ExpireBody { manifest_digest, is_alive, .. } = read(body).await?;
    let digest = manifest_digest.as_deref().map(digest_of).transpose()?;
    let (accounts, origin) = (Arc::clone(context.registry.accounts()), context.origin());
    let repository = context.registry.repository(&name);
    context
        .blocking(move || {
            if is_alive == Some(true) {
                repository.discard_tag(&tag, digest)?;
            } else {
                repository.forget_past(&tag, digest)?;
            }
            let digest = digest.map(|digest| digest.to_string());
            let mut detail = vec![("tag", tag.as_str())];
            detail.extend(digest.as_deref().map(|digest| ("manifest_digest", digest)));
            accounts.note_repository("permanently_delete_tag", &name, &detail, &origin)?;
            Ok::<_, ApiError>(())
        })
        .await?;
    Ok(json_response(StatusCode::OK, &""))
}

/// Tells a field that is null from one that is not there.
fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

fn tag(call: &Call<'_>) -> Result<Tag, ApiError> {
    call.value().parse().map_err(|_| invalid(INVALID_TAG))
}

fn digest_of(text: &str) -> Result<Digest, ApiError> {
    text.parse().map_err(|error| invalid(format!("manifest_digest: {error}")))
}

/// A time to come, in seconds since 1970 as Python writes them, or null for none.
fn expiry_of(given: &Value, now: Timestamp) -> Result<Expiry, ApiError> {
    if given.is_null() {
        return Ok(Expiry::Never);
    }
    let seconds = given.as_u64().or_else(|| {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "`as` keeps to what a u64 can hold"
        )]
        given.as_f64().map(|seconds| seconds as u64)
    });
    let at = seconds.filter(|seconds| *seconds <= LAST_SECOND).map(|seconds| Timestamp::from_micros(seconds * MICROS));
    let at = at
        .filter(|at| *at > now)
        .ok_or_else(|| invalid("expiration is a time to come in seconds since 1970, or null"))?;
    Ok(Expiry::At(at))
}

fn view(entry: &HistoryEntry) -> Value {
    let seconds = |time: Timestamp| time.micros() / MICROS;
    let mut view = json!({
        "name": entry.tag.as_str(),
        "reversion": entry.state.reversion,
        "immutable": false,
        "start_ts": seconds(entry.started),
        "manifest_digest": entry.state.digest.to_string(),
        "is_manifest_list": entry.weight.is_some_and(|weight| weight.is_index),
        "size": entry.weight.map(|weight| weight.size),
        "last_modified": rfc2822(entry.started),
    });
    if let Some(until) = entry.state.until {
        view["end_ts"] = seconds(until).into();
        view["expiration"] = rfc2822(until).into();
    }
    view
}

/// A page of a history.
pub(super) fn list_schema() -> Schema {
    let seconds = || integer(0, usize::try_from(LAST_SECOND).unwrap_or(usize::MAX));
    let tag = object([
        ("name", text()),
        ("reversion", boolean()),
        ("immutable", always(false)),
        ("start_ts", seconds()),
        ("end_ts", seconds().optional()),
        ("manifest_digest", text()),
        ("is_manifest_list", boolean()),
        ("size", integer(0, usize::MAX >> 1).or_null()),
        ("last_modified", quay_time()),
        ("expiration", quay_time().optional()),
    ]);
    let page = integer(1, PAGE_NUMBER_MAX);
    object([("tags", list_of(tag).at_most(PAGE_MAX)), ("page", page), ("has_additional", boolean())])
}

/// When a tag is to go.
pub(super) fn expiry_schema() -> Schema {
    integer(0, usize::try_from(LAST_SECOND).unwrap_or(usize::MAX))
}

/// A digest that somebody sends.
pub(super) fn digest_schema() -> Schema {
    text().pattern("^(sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})$")
}
