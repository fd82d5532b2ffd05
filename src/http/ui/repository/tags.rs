//! The tags of a repository, its manifests without a tag, and the history of its tags.

use std::collections::HashMap;

use super::kind::{kind_name, pull_kind};
use super::{PageCall, frame, manifest_url, tag_url, url};
use crate::content::repository::browse::{
    ListedTag, ORDERED_BY_FACTS_MAX, TagOrder, TagQuery, UntaggedManifest, UntaggedState,
};
use crate::content::repository::{Amount, HistoryFilter, NameFilter, PlannedTag, QuotaUse};
use crate::content::rows::{Facts, Kind, Platform, Totals};
use crate::http::error::ApiError;
use crate::http::ui::repositories::first_push;
use crate::http::ui::route::parameter;
use crate::http::{HandlerResult, host_of};
use crate::identity::access::Action;
use crate::oci::{Digest, RepositoryName, Tag};
use crate::web::{
    Badge, Bytes, Figure, FigureValue, HistoryRow, Markdown, NextPage, PullTarget, RepositoryFrame, ShortDigest,
    TagEntry, TagHistory, TagRetention, TagsPage, Tone, UntaggedEntry, UntaggedList, pull_commands,
};

/// The number of entries on a page.
const PAGE: usize = 50;
/// The same for the history, whose entries have long links.
const HISTORY_PAGE: usize = 40;
/// The last page of a history. A page takes longer the more entries it skips.
const HISTORY_PAGES_MAX: usize = 250;
/// A longer description is closed at first, in characters.
const DESCRIPTION_SHOWN_MAX: usize = 600;
/// The number of platforms of a tag that are named.
const PLATFORMS_MAX: usize = 4;

/// The orders of tags: the word in the URL, and the name.
const ORDERS: [(&str, &str, TagOrder); 5] = [
    ("version", "Newest version", TagOrder::Version),
    ("pushed", "Last push", TagOrder::Pushed),
    ("name", "Name", TagOrder::Name),
    ("size", "Size", TagOrder::Size),
    ("pulls", "Pulls", TagOrder::Pulls),
];

/// Lists tags.
pub(super) async fn tags(call: &PageCall<'_>, name: RepositoryName) -> HandlerResult {
    let frame = frame(call, &name, "")?;
    let part = call.parameter("q")?.to_owned();
    let wanted = call.parameter("sort")?;
    let order = ORDERS.iter().find(|(word, ..)| *word == wanted).map_or(TagOrder::Version, |(.., order)| *order);
    let after = call.parameter("after")?.parse().ok();
    let is_first = after.is_none();
    let query = TagQuery { order, part: part.clone(), after, limit: PAGE };
    let (view, of) = (call.context.registry.catalog_view(call.context.caller), name.clone());
    let page = call.context.blocking(move || view.tags(&of, &query)).await?;
    let planned = planned(call, &frame, &name, &page.tags).await?;
    let word = ORDERS.iter().find(|(.., known)| *known == page.order).map_or("version", |(word, ..)| *word);
    let link = |after: &str| format!("{}?q={}&sort={word}{after}", url(&name), parameter(&part));
    let pages = NextPage {
        next: page.next.map(|next| link(&format!("&after={}", parameter(&next.to_string())))),
        first: (!is_first).then(|| link("")),
    };
    let order_note = (page.order != order).then(|| {
        format!("Tags are ordered by version, because more than {ORDERED_BY_FACTS_MAX} tags cannot be ordered by this.")
    });
    let base = call.context.base_url();
    let pull = page.tags.iter().find(|tag| tag.tag.companion_of().is_none()).and_then(|tag| {
        let target = PullTarget {
            host: host_of(&base),
            is_https: base.starts_with("https:"),
            repository: name.as_str(),
            tag: Some(tag.tag.as_str()),
            digest: &tag.digest.to_string(),
        };
        pull_commands(pull_kind(tag.facts.as_ref(), ""), target).into_iter().next()
    });
    let settings = call.context.registry.accounts().repository_settings(&name)?;
    let totals = call.context.registry.stores().totals(&name)?;
    let quotas = call.context.registry.repository(&name).quotas()?;
    call.render(&TagsPage {
        layout: call.layout(name.to_string()),
        frame,
        is_long: settings.description.chars().count() > DESCRIPTION_SHOWN_MAX,
        description: Markdown::new(&settings.description),
        figures: totals.map(|totals| figures(call, &totals, &quotas)).unwrap_or_default(),
        pull,
        part,
        orders: ORDERS.iter().map(|(known, title, _)| (*known, *title, *known == word)).collect(),
        order_note,
        is_retention_dry: !planned.is_empty() && call.context.registry.stores().is_retention_dry(),
        tags: page.tags.into_iter().map(|tag| entry(call, &name, &tag, &planned)).collect(),
        pages,
        is_cut_off: page.is_cut_off,
        first_push: first_push(call, Some(name.as_str())),
    })
}

fn figures(call: &PageCall<'_>, totals: &Totals, quotas: &[QuotaUse]) -> Vec<Figure> {
    let last =
        totals.last_pull.map_or_else(|| FigureValue::Text("never".to_owned()), |at| FigureValue::Time(call.time(at)));
    let quota = |quota: &QuotaUse| Figure {
        name: if quota.is_of_namespace { "Quota of the namespace" } else { "Quota" },
        value: match quota.amount {
            Amount::Size => FigureValue::BytesOf(Bytes(quota.used), Bytes(quota.limit)),
            Amount::Tags => FigureValue::Text(quota.to_string()),
        },
    };
    let usual = [
        Figure { name: "Tags", value: FigureValue::Count(totals.tags) },
        Figure { name: "Size", value: FigureValue::Bytes(Bytes(totals.size)) },
        Figure { name: "Last change", value: FigureValue::Time(call.time(totals.changed)) },
        Figure { name: "Pulls", value: FigureValue::Count(totals.pulls) },
        Figure { name: "Last pull", value: last },
    ];
    usual.into_iter().chain(quotas.iter().map(quota)).collect()
}

/// The decisions of the next retention run about the tags of a page, for a user who may delete them.
async fn planned(
    call: &PageCall<'_>,
    frame: &RepositoryFrame,
    name: &RepositoryName,
    tags: &[ListedTag],
) -> Result<HashMap<Tag, TagRetention>, ApiError> {
    let repository = call.context.registry.repository(name);
    if !frame.may_delete || !repository.has_tag_rules() {
        return Ok(HashMap::new());
    }
    let tags: Vec<Tag> = tags.iter().map(|tag| tag.tag.clone()).collect();
    let planned = call.context.blocking(move || repository.planned_tags(&tags)).await?;
    let shown = |planned: PlannedTag| {
        let (decision, rule) = (&planned.decision, planned.rule());
        let until = decision.until.map(|until| call.time(until));
        let retention = TagRetention { goes: !decision.keeps, reason: decision.reason.to_string(), until, rule };
        (planned.tag, retention)
    };
    Ok(planned.into_iter().map(shown).collect())
}

fn entry(
    call: &PageCall<'_>,
    name: &RepositoryName,
    tag: &ListedTag,
    planned: &HashMap<Tag, TagRetention>,
) -> TagEntry {
    let facts = tag.facts.as_ref();
    let mut badges = Vec::new();
    if facts.is_some_and(|facts| !matches!(facts.kind, Kind::Image | Kind::Index)) {
        badges.push(Badge::new(kind_name(facts, ""), Tone::Accent));
    }
    if tag.is_signed {
        badges.push(Badge::new("signed", Tone::Good));
    }
    if tag.immutable.is_some() {
        badges.push(Badge::new("immutable", Tone::Plain));
    }
    let platforms = facts.map(platforms).unwrap_or_default();
    TagEntry {
        digest: ShortDigest(tag.digest),
        href: tag_url(name, &tag.tag),
        badges,
        more_platforms: platforms.len().saturating_sub(PLATFORMS_MAX),
        platforms: platforms.into_iter().take(PLATFORMS_MAX).collect(),
        size: facts.map(|facts| Bytes(facts.size)),
        only_here: tag.only_here.map(Bytes),
        moved: call.time(tag.moved),
        pushed_by: facts.and_then(|facts| call.pusher(facts)),
        pulls: tag.pulls.count,
        last_pull: tag.pulls.last.map(|at| call.time(at)),
        expires: tag.expires.map(|at| call.time(at)),
        retention: planned.get(&tag.tag).cloned(),
        tag: tag.tag.to_string(),
    }
}

/// The platforms of an image or an index.
fn platforms(facts: &Facts) -> Vec<String> {
    let all = facts.platform.iter().chain(&facts.platforms);
    all.map(platform).filter(|platform| !platform.is_empty() && platform != "unknown/unknown").collect()
}

/// A platform in the form of `docker pull --platform`.
pub(super) fn platform(known: &Platform) -> String {
    let mut platform = String::new();
    for part in [&known.os, &known.architecture, &known.variant] {
        if !platform.is_empty() && !part.is_empty() {
            platform.push('/');
        }
        platform.push_str(part);
    }
    platform
}

/// Lists manifests without a tag.
pub(super) async fn untagged(call: &PageCall<'_>, name: RepositoryName) -> HandlerResult {
    let frame = frame(call, &name, "untagged")?;
    let after: Option<Digest> = call.parameter("after")?.parse().ok();
    let repository = call.context.registry.repository(&name);
    let page = call.context.blocking(move || repository.untagged(after, PAGE)).await?;
    let here = format!("{}/-/untagged", url(&name));
    let pages =
        NextPage { next: page.next.map(|next| format!("{here}?after={next}")), first: after.map(|_| here.clone()) };
    let entry = |manifest: UntaggedManifest| {
        let (reason, index, since) = match manifest.state {
            UntaggedState::Listed { index } => {
                ("part of", Some((ShortDigest(index), manifest_url(&name, index))), None)
            }
            UntaggedState::Refers => ("refers to another manifest", None, None),
            UntaggedState::Unreferenced { since } => ("unreferenced", None, Some(call.time(call.now().before(since)))),
            UntaggedState::History => ("kept by the history of a tag", None, None),
        };
        UntaggedEntry {
            digest: ShortDigest(manifest.digest),
            href: manifest_url(&name, manifest.digest),
            kind: kind_name(manifest.facts.as_ref(), &manifest.media_type).to_owned(),
            size: manifest.facts.as_ref().map(|facts| Bytes(facts.size)),
            pushed: manifest.facts.as_ref().map(|facts| call.time(facts.pushed)),
            reason,
            index,
            since,
        }
    };
    let manifests = page.manifests.into_iter().map(entry).collect();
    call.render(&UntaggedList { layout: call.layout(format!("Untagged · {name}")), frame, manifests, pages })
}

/// Lists where tags point and pointed.
pub(super) async fn history(call: &PageCall<'_>, name: RepositoryName) -> HandlerResult {
    let frame = frame(call, &name, "history")?;
    let tag = call.parameter("tag")?.to_owned();
    let number = call.query.number("page")?.unwrap_or(1).clamp(1, HISTORY_PAGES_MAX);
    let names = if tag.is_empty() { Vec::new() } else { vec![NameFilter::Is(tag.clone())] };
    let filter = HistoryFilter { names, only_active: false, skip: HISTORY_PAGE * (number - 1), limit: HISTORY_PAGE };
    let repository = call.context.registry.repository(&name);
    let history = call.context.blocking(move || repository.history(&filter)).await?;
    let actions = call.context.registry.actions(call.context.caller, &name)?;
    let here = format!("{}/-/history?tag={}", url(&name), parameter(&tag));
    let pages = NextPage {
        next: (history.more && number < HISTORY_PAGES_MAX).then(|| format!("{here}&page={}", number + 1)),
        first: (number > 1).then(|| here.clone()),
    };
    let mut entries = Vec::with_capacity(history.entries.len());
    for one in history.entries {
        let digest = one.state.digest;
        let is_current = one.state.until.is_none_or(|until| until > call.now());
        let exists = is_there(call, &name, digest)?;
        let may_restore = !is_current && actions.has(Action::Update);
        entries.push(HistoryRow {
            digest: ShortDigest(digest),
            href: exists.then(|| manifest_url(&name, digest)),
            size: one.weight.filter(|_| exists).map(|weight| Bytes(weight.size)),
            started: call.time(one.started),
            ended: one.state.until.map(|until| call.time(until)),
            is_current,
            is_restored: one.state.reversion,
            restore: may_restore.then(|| format!("{}/-/restore/{}?digest={digest}", url(&name), one.tag)),
            tag: one.tag.to_string(),
        });
    }
    let is_kept = call.context.registry.stores().keeps_tag_history();
    call.render(&TagHistory { layout: call.layout(format!("History · {name}")), frame, tag, is_kept, entries, pages })
}

/// Whether a manifest exists and is not deleted.
pub(super) fn is_there(call: &PageCall<'_>, name: &RepositoryName, digest: Digest) -> Result<bool, ApiError> {
    Ok(call.context.registry.repository(name).has_present_manifest(digest)?)
}
