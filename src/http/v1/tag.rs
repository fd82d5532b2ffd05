//! Tags with their history, in Quay's shapes: changes that a push does not make, and the restoration of tags.

use hyper::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::answer::{Created, NoContent};
use super::endpoint::{Endpoint, delete, future, get, post, put};
use super::input::{Call, NoQuery, invalid};
use super::repository::authored;
use super::values::{QuayTime, Switch, WholeNumber};
use crate::content::repository::{
    Error as ContentError, Expiry, HistoryEntry, HistoryFilter, MissingRight, NameFilter, TagChange, TagRights,
};
use crate::http::Context;
use crate::http::error::ApiError;
use crate::identity::access::{Action, Requires};
use crate::kit::clock::Timestamp;
use crate::oci::{Digest, Reference, RepositoryName, Tag};

/// The endpoints of this file.
pub(super) const ENDPOINTS: &[Endpoint] = &[
    get("/api/v1/repository/{repository}/tag/", Requires::Repository(Action::Pull), &future(list_tags))
        .named("listRepoTags", "List a repository's tags and their history, the latest first"),
    put("/api/v1/repository/{repository}/tag/{tag}", Requires::Tag, &future(change_tag))
        .named("changeTag", "Create or move a tag, set when it expires, lock or unlock it")
        .refuses(&[StatusCode::CONFLICT]),
    delete("/api/v1/repository/{repository}/tag/{tag}", Requires::Repository(Action::Delete), &future(delete_tag))
        .named("deleteFullTag", "Delete a tag, which can be restored for some time")
        .refuses(&[StatusCode::CONFLICT]),
    post("/api/v1/repository/{repository}/tag/{tag}/restore", Requires::Tag, &future(restore_tag))
        .named("restoreTag", "Point a tag at a manifest that it pointed at before")
        .refuses(&[StatusCode::CONFLICT]),
    post("/api/v1/repository/{repository}/tag/{tag}/expire", Requires::Repository(Action::Delete), &future(expire_tag))
        .named("removeTagFromTimemachine", "Remove the history of a tag, or the tag, for good")
        .refuses(&[StatusCode::CONFLICT]),
];

/// The number of entries on a page of Quay: the default and the maximum.
const PAGE: usize = 50;
const PAGE_MAX: usize = 100;
/// No repository has more pages.
const PAGE_NUMBER_MAX: usize = 1_000_000_000;
const MICROS: u64 = 1_000_000;
/// The last time that can be written in every form, at the end of the year 9999.
const LAST_SECOND: u64 = 253_402_207_200;

#[derive(Debug, Deserialize, JsonSchema)]
struct ListTagsQuery {
    #[serde(rename = "specificTag")]
    specific_tag: Option<String>,
    /// `like:` and a part of the name, or `eq:` and the name.
    #[schemars(regex(pattern = "^$|^(like|eq):"))]
    filter_tag_name: Option<String>,
    /// Python's spelling, `True`, is valid too.
    #[serde(rename = "onlyActiveTags")]
    #[schemars(with = "Option<Switch>")]
    only_active_tags: Option<String>,
    /// A number outside the bounds is replaced by the nearest bound, as in Quay.
    page: Option<WholeNumber>,
    limit: Option<WholeNumber>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct TagHistory {
    #[schemars(length(max = PAGE_MAX))]
    tags: Vec<TagEntry>,
    #[schemars(range(min = 1, max = PAGE_NUMBER_MAX))]
    page: usize,
    has_additional: bool,
}

/// A tag and what it points at, or pointed at for some time.
#[derive(Debug, Serialize, JsonSchema)]
struct TagEntry {
    name: String,
    /// Whether the tag was restored to this manifest.
    reversion: bool,
    /// Whether the tag can be neither moved nor removed: it is locked, or a rule of the operator matches it.
    immutable: bool,
    #[schemars(range(max = LAST_SECOND))]
    start_ts: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u64", range(max = LAST_SECOND))]
    end_ts: Option<u64>,
    #[schemars(with = "Digest")]
    manifest_digest: String,
    is_manifest_list: bool,
    /// The size of the image, unless its manifest was deleted.
    size: Option<u64>,
    last_modified: QuayTime,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "QuayTime")]
    expiration: Option<QuayTime>,
}

impl From<&HistoryEntry> for TagEntry {
    fn from(entry: &HistoryEntry) -> Self {
        let seconds = |time: Timestamp| time.micros() / MICROS;
        Self {
            name: entry.tag.as_str().to_owned(),
            reversion: entry.state.reversion,
            immutable: entry.is_immutable,
            start_ts: seconds(entry.started),
            end_ts: entry.state.until.map(seconds),
            manifest_digest: entry.state.digest.to_string(),
            is_manifest_list: entry.weight.is_some_and(|weight| weight.is_index),
            size: entry.weight.map(|weight| weight.size),
            last_modified: QuayTime(entry.started),
            expiration: entry.state.until.map(QuayTime),
        }
    }
}

async fn list_tags(context: &Context<'_>, call: Call<RepositoryName, ListTagsQuery>) -> Result<TagHistory, ApiError> {
    let ListTagsQuery { specific_tag, filter_tag_name, only_active_tags, page, limit } = call.query;
    let at_least_one = |number: Option<WholeNumber>, default| number.map_or(default, |WholeNumber(n)| n.max(1));
    let (page, limit) = (at_least_one(page, 1).min(PAGE_NUMBER_MAX), at_least_one(limit, PAGE).min(PAGE_MAX));
    let only_active = match only_active_tags.map(|text| text.to_ascii_lowercase()).as_deref() {
        None | Some("false") => false,
        Some("true") => true,
        Some(_) => return Err(invalid("the parameter onlyActiveTags is true or false")),
    };
    let mut names: Vec<NameFilter> =
        specific_tag.filter(|tag| !tag.is_empty()).map(NameFilter::Is).into_iter().collect();
    match filter_tag_name.filter(|filter| !filter.is_empty()).as_deref().map(|filter| filter.split_once(':')) {
        None => {}
        Some(Some(("like", part))) => names.push(NameFilter::Contains(part.to_owned())),
        Some(Some(("eq", name))) => names.push(NameFilter::Is(name.to_owned())),
        Some(_) => return Err(invalid("the parameter filter_tag_name has the form like:TEXT or eq:TAG")),
    }
    let filter = HistoryFilter { names, only_active, skip: limit.saturating_mul(page - 1), limit };
    let repository = context.registry.repository(&call.path);
    let history = context.blocking(move || repository.history(&filter)).await?;
    let tags = history.entries.iter().map(TagEntry::from).collect();
    Ok(TagHistory { tags, page, has_additional: history.more })
}

#[derive(Debug, Deserialize, JsonSchema)]
struct ChangeTagBody {
    #[schemars(with = "Option<Digest>")]
    manifest_digest: Option<String>,
    /// The time when the tag is removed, in seconds since 1970, or null for never.
    #[serde(default, deserialize_with = "given")]
    #[schemars(with = "Option<u64>", range(max = LAST_SECOND))]
    expiration: Option<Value>,
    /// Whether to lock the tag, so that it can be neither moved nor removed, or to unlock it. Only an administrator of the
    /// repository may unlock a tag.
    immutable: Option<bool>,
}

#[derive(Clone, Copy, Debug, Serialize, JsonSchema)]
#[schemars(inline)]
enum Updated {
    Updated,
}

async fn change_tag(
    context: &Context<'_>,
    call: Call<(RepositoryName, Tag), NoQuery, ChangeTagBody>,
) -> Result<Created<Updated>, ApiError> {
    let Call { path: (name, tag), body: ChangeTagBody { manifest_digest, expiration, immutable }, .. } = call;
    let digest = manifest_digest.as_deref().map(digest_of).transpose()?;
    let now = context.registry.now();
    let expires = expiration.map_or(Ok(Expiry::Unchanged), |at| expiry_of(&at, now))?;
    let granted = context.registry.actions(context.caller, &name)?;
    let change = TagChange {
        digest,
        expires,
        may_create: granted.has(Action::Push),
        may_move: granted.has(Action::Update),
        may_delete: granted.has(Action::Delete),
        immutable,
        may_administer: granted.has(Action::Administer),
    };
    let caller = context.caller.clone();
    // A change that does not point the tag at a manifest is one of an existing tag.
    if digest.is_none() && !granted.has(Action::Update) {
        let refused = ContentError::NotGranted { name, right: MissingRight::UpdateTag(tag) };
        return Err(ApiError::of_change(refused, &caller));
    }
    let repository = authored(context, &name);
    let change = move || repository.change_tag(&tag, change).map_err(|error| ApiError::of_change(error, &caller));
    context.blocking(change).await?;
    Ok(Created(Updated::Updated))
}

async fn delete_tag(context: &Context<'_>, call: Call<(RepositoryName, Tag)>) -> Result<NoContent, ApiError> {
    let (name, tag) = call.path;
    let repository = authored(context, &name);
    context.blocking(move || repository.delete_manifest(&Reference::Tag(tag), false)).await?;
    Ok(NoContent)
}

#[derive(Debug, Deserialize, JsonSchema)]
struct RestoreTagBody {
    #[schemars(with = "Digest")]
    manifest_digest: Option<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Restored {}

async fn restore_tag(
    context: &Context<'_>,
    call: Call<(RepositoryName, Tag), NoQuery, RestoreTagBody>,
) -> Result<Restored, ApiError> {
    let (name, tag) = call.path;
    let digest = call.body.manifest_digest.ok_or_else(|| invalid("Missing manifest_digest"))?;
    let digest = digest_of(&digest)?;
    let granted = context.registry.actions(context.caller, &name)?;
    let may = TagRights { may_create: granted.has(Action::Push), may_move: granted.has(Action::Update) };
    let (repository, caller) = (authored(context, &name), context.caller.clone());
    let restore =
        move || repository.restore_tag_with(&tag, digest, may).map_err(|error| ApiError::of_change(error, &caller));
    context.blocking(restore).await?;
    Ok(Restored {})
}

#[derive(Debug, Deserialize, JsonSchema)]
struct ExpireTagBody {
    #[schemars(with = "Option<Digest>")]
    manifest_digest: Option<String>,
    /// Ignored: the manifests of an index have no history of their own.
    #[serde(rename = "include_submanifests")]
    _include_submanifests: Option<bool>,
    /// Whether to delete the tag itself, and not its history.
    is_alive: Option<bool>,
}

#[derive(Clone, Copy, Debug, Serialize, JsonSchema)]
#[schemars(inline)]
enum Expired {
    #[serde(rename = "")]
    Expired,
}

async fn expire_tag(
    context: &Context<'_>,
    call: Call<(RepositoryName, Tag), NoQuery, ExpireTagBody>,
) -> Result<Expired, ApiError> {
    let Call { path: (name, tag), body: ExpireTagBody { manifest_digest, is_alive, .. }, .. } = call;
    let digest = manifest_digest.as_deref().map(digest_of).transpose()?;
    let (repository, is_alive) = (authored(context, &name), is_alive == Some(true));
    context
        .blocking(
            move || {
                if is_alive { repository.discard_tag(&tag, digest) } else { repository.forget_past(&tag, digest) }
            },
        )
        .await?;
    Ok(Expired::Expired)
}

/// Tells a field that is null from an absent one.
fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

fn digest_of(text: &str) -> Result<Digest, ApiError> {
    text.parse().map_err(|error| invalid(format!("manifest_digest: {error}")))
}

/// Reads a future time in seconds since 1970, which Python may write with a fraction, or null for never.
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
