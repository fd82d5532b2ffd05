//! The audit log, of the user and of all.

use std::time::Duration;

use hyper::StatusCode;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::PageCall;
use super::call::mistaken;
use super::route::parameter;
use crate::http::HandlerResult;
use crate::http::error::ApiError;
use crate::identity::accounts::AuditEntry;
use crate::kit::clock::Timestamp;
use crate::web::{AuditLog, AuditRow, NextPage, program};

/// The number of entries on a page.
const PAGE: usize = 50;
/// The entries that one page looks at, if few of them have the wanted kind.
const EXAMINED_MAX: usize = 5000;
/// The days that a page shows without a filter.
const USUAL_DAYS: u32 = 30;
const DAY: Duration = Duration::from_hours(24);

/// The audit log of the user.
pub(super) fn own(call: &PageCall<'_>) -> HandlerResult {
    let account = call.context.user()?;
    let layout = call.account_layout("Your audit log", "/ui/account/log");
    show(call, layout, "/ui/account/log", Some(account), None)
}

/// The audit log of all accounts, or of the one that the filter names.
pub(super) fn all(call: &PageCall<'_>) -> HandlerResult {
    let account = call.parameter("account")?;
    let layout = call.admin_layout("Audit log", "/ui/admin/audit");
    show(call, layout, "/ui/admin/audit", Some(account).filter(|name| !name.is_empty()), Some(account.to_owned()))
}

/// The days and the place of a page.
#[derive(Debug)]
struct Range {
    from: Timestamp,
    before: (Timestamp, u32),
}

fn show(
    call: &PageCall<'_>,
    layout: crate::web::Layout,
    path: &'static str,
    account: Option<&str>,
    filter: Option<String>,
) -> HandlerResult {
    let (kind, from, to) = (call.parameter("kind")?, call.parameter("from")?, call.parameter("to")?);
    let (mut status, mut error, mut entries, mut next) = (StatusCode::OK, None, Vec::new(), None);
    match range(call) {
        Ok(range) => (entries, next) = find(call, account, kind, &range)?,
        Err(refused) => {
            let (refused, why) = PageCall::mistake(refused)?;
            (status, error) = (refused, Some(why));
        }
    }
    let parameters = [("account", filter.as_deref().unwrap_or_default()), ("kind", kind), ("from", from), ("to", to)];
    let link = |more: Option<String>| {
        let mut url = path.to_owned();
        let given = parameters.iter().filter(|(_, value)| !value.is_empty());
        for pair in given.map(|(name, value)| format!("{name}={}", parameter(value))).chain(more) {
            url.push(if url.contains('?') { '&' } else { '?' });
            url.push_str(&pair);
        }
        url
    };
    let pages = NextPage {
        next: next.map(|(at, number)| link(Some(format!("before={}-{number}", at.micros())))),
        first: (!call.parameter("before")?.is_empty()).then(|| link(None)),
    };
    let entries = entries.into_iter().map(|entry| row(call, entry)).collect();
    let (kind, from, to) = (kind.to_owned(), from.to_owned(), to.to_owned());
    PageCall::render_as(status, &AuditLog { layout, error, path, account: filter, kind, from, to, entries, pages })
}

fn range(call: &PageCall<'_>) -> Result<Range, ApiError> {
    let day = |text: &str| {
        let date = Date::strptime("%Y-%m-%d", text).ok().and_then(|date| date.to_zoned(TimeZone::UTC).ok());
        let micros = date.and_then(|date| u64::try_from(date.timestamp().as_microsecond()).ok());
        micros.map(Timestamp::from_micros).ok_or_else(|| mistaken("a day has the form 2026-12-31"))
    };
    let (from, to, before) = (call.parameter("from")?, call.parameter("to")?, call.parameter("before")?);
    let from = if from.is_empty() { call.now().before(DAY * USUAL_DAYS) } else { day(from)? };
    let to = if to.is_empty() { call.now() } else { day(to)? }.after(DAY);
    if to < from {
        return Err(mistaken("the last day is before the first day"));
    }
    let read = || {
        let (micros, number) = before.split_once('-')?;
        Some((Timestamp::from_micros(micros.parse().ok()?), number.parse().ok()?))
    };
    let before =
        if before.is_empty() { (to, 0) } else { read().ok_or_else(|| mistaken("the place of the page is invalid"))? };
    Ok(Range { from, before: before.min((to, 0)) })
}

type Found = (Vec<AuditEntry>, Option<(Timestamp, u32)>);

/// The entries of a page, and the place of the next one.
fn find(call: &PageCall<'_>, account: Option<&str>, kind: &str, range: &Range) -> Result<Found, ApiError> {
    let accounts = call.context.registry.accounts();
    let (mut found, mut place, mut examined) = (Vec::new(), range.before, 0);
    loop {
        let page = accounts.audit(account, range.from, place, PAGE)?;
        examined += page.entries.len();
        // All of them are taken, so that the place of the next page is right. A page may have more entries than usual.
        found.extend(page.entries.into_iter().filter(|entry| kind.is_empty() || entry.row.kind.contains(kind)));
        match page.next {
            Some(next) if found.len() < PAGE && examined < EXAMINED_MAX => place = next,
            next => return Ok((found, next)),
        }
    }
}

fn row(call: &PageCall<'_>, AuditEntry { at, row }: AuditEntry) -> AuditRow {
    AuditRow {
        at: call.time(at),
        kind: row.kind,
        account: row.account,
        performer: row.performer,
        address: row.address,
        program: program(&row.agent),
        agent: row.agent,
        details: row.metadata,
    }
}
