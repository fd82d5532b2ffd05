//! API keys: the user's own, and, for superusers, those of all users.

use std::sync::Arc;
use std::time::Duration;

use hyper::StatusCode;
use uuid::Uuid;

use super::PageCall;
use super::call::{choices, mistaken};
use super::route::parameter;
use crate::http::error::ApiError;
use crate::http::{HandlerResult, host_of};
use crate::identity::accounts::{Actions, Error, Key, KeyScope, NewKey, SCOPES_MAX};
use crate::kit::text::shell_word;
use crate::oci::RepositoryName;
use crate::web::{Confirm, Copy, KeyList, KeyRow, Matching, NewKeyForm, Secret, sentence};

/// The lifetimes that the form offers, in days.
const LIFETIMES: [(&str, u64); 5] =
    [("7 days", 7), ("30 days", 30), ("90 days", 90), ("1 year", 365), ("5 years", 1825)];
/// The lifetime that is chosen at first.
const USUAL_LIFETIME: &str = "90";
/// The value of the choice of a key that does not expire.
const NEVER: &str = "never";
/// The repositories that the form shows, and those that it looks at.
const MATCHING_MAX: usize = 30;
const EXAMINED_MAX: usize = 10_000;
/// The repositories that are looked at in one step.
const STEP: usize = 1000;
const DAY: Duration = Duration::from_hours(24);

/// Lists the user's keys.
pub(super) fn list(call: &PageCall<'_>) -> HandlerResult {
    let keys = call.context.registry.accounts().keys(Some(call.context.user()?))?;
    call.render(&KeyList {
        layout: call.account_layout("API keys", "/ui/account/keys"),
        off: !call.context.registry.has_api_keys(),
        keys: keys.into_iter().map(|key| row(call, key, true)).collect(),
    })
}

/// A key as the lists of its owner and of superusers show it.
pub(super) fn row(call: &PageCall<'_>, key: Key, is_own: bool) -> KeyRow {
    let revoke = if is_own { format!("/ui/account/keys/{}/revoke", key.id) } else { revoke_any_url(&key) };
    KeyRow {
        revoke,
        label: key.label,
        scopes: key.scopes.filter(|scopes| !scopes.is_empty()),
        created: call.time(key.created),
        expires: key.expires.map(|at| call.time(at)),
        is_expired: key.expired,
        last_used: key.last_used.map(|used| call.last_use(used.at, used.address, used.agent)),
    }
}

/// The fields of the form.
#[derive(Debug)]
struct Wanted {
    label: String,
    /// The word of the choice between all rights and some repositories.
    limit: String,
    patterns: String,
    actions: Vec<&'static str>,
    lifetime: String,
}

impl Wanted {
    /// The fields before the user has changed them. A link may name a pattern.
    fn fresh(call: &PageCall<'_>) -> Result<Self, ApiError> {
        let patterns = call.parameter("repository")?.to_owned();
        let limit = if patterns.is_empty() { ALL_RIGHTS } else { SOME_REPOSITORIES }.to_owned();
        let (label, lifetime) = (String::new(), USUAL_LIFETIME.to_owned());
        Ok(Self { label, limit, patterns, actions: USUAL_ACTIONS.to_vec(), lifetime })
    }

    fn read(call: &PageCall<'_>) -> Result<Self, ApiError> {
        let form = call.form.as_ref();
        let chosen: Vec<&str> = form.into_iter().flat_map(|form| form.all("actions")).collect();
        Ok(Self {
            label: call.field("label")?.to_owned(),
            limit: call.field("limit")?.to_owned(),
            patterns: call.field("patterns")?.to_owned(),
            actions: ACTIONS.into_iter().map(|(word, _)| word).filter(|word| chosen.contains(word)).collect(),
            lifetime: call.field("lifetime")?.to_owned(),
        })
    }

    /// The scopes of the key: each pattern with the actions. Limits that would have no effect are a mistake. Otherwise a
    /// user who typed them could get a key without them.
    fn scopes(&self) -> Result<Option<Vec<String>>, ApiError> {
        let patterns: Vec<&str> = self.patterns.split_whitespace().collect();
        match self.limit.as_str() {
            ALL_RIGHTS if !patterns.is_empty() => {
                return Err(mistaken(
                    "the repositories would not limit a key with all your rights: choose “Only some repositories”, or \
                     clear the field “Repositories”",
                ));
            }
            ALL_RIGHTS if !self.actions.is_empty() && self.actions != USUAL_ACTIONS => {
                return Err(mistaken(
                    "the actions would not limit a key with all your rights: choose “Only some repositories”, or \
                     choose the actions Pull and Push again",
                ));
            }
            ALL_RIGHTS => return Ok(None),
            SOME_REPOSITORIES => {}
            _ => return Err(mistaken("choose what the key may use")),
        }
        if patterns.is_empty() {
            return Err(mistaken("a key that is limited needs at least one repository or pattern"));
        }
        if patterns.len() > SCOPES_MAX {
            return Err(mistaken(format!("a key has at most {SCOPES_MAX} patterns")));
        }
        if self.actions.is_empty() {
            return Err(mistaken("choose at least one action"));
        }
        let actions = self.actions.join(",");
        Ok(Some(patterns.iter().map(|pattern| format!("{pattern}:{actions}")).collect()))
    }
}

/// The choices of the rights of a key.
const ALL_RIGHTS: &str = "all";
const SOME_REPOSITORIES: &str = "some";

/// The actions that a key can be limited to.
const ACTIONS: [(&str, &str); 3] = [("pull", "Pull"), ("push", "Push"), ("delete", "Delete")];
/// The actions that are chosen at first.
const USUAL_ACTIONS: [&str; 2] = ["pull", "push"];

/// Creates a key and shows its secret, or shows the form.
pub(super) async fn create(call: &PageCall<'_>) -> HandlerResult {
    if !call.context.registry.has_api_keys() {
        return call.redirect("/ui/account/keys", None);
    }
    if call.form.is_none() {
        return form(call, Wanted::fresh(call)?, StatusCode::OK, None, None);
    }
    let wanted = Wanted::read(call)?;
    let done = if call.field("show")? == "matching" {
        matching(call, &wanted).await.map(Err)
    } else {
        create_key(call, &wanted).await.map(Ok)
    };
    match done {
        Ok(Ok(page)) => page,
        Ok(Err(matching)) => form(call, wanted, StatusCode::OK, None, Some(matching)),
        Err(error) => {
            let (status, why) = PageCall::mistake(error)?;
            form(call, wanted, status, Some(why), None)
        }
    }
}

fn form(
    call: &PageCall<'_>,
    wanted: Wanted,
    status: StatusCode,
    error: Option<String>,
    matching: Option<Matching>,
) -> HandlerResult {
    let longest = call.context.registry.config().http.auth.key_lifetime;
    let fits = |days: u64| longest.is_none_or(|longest| DAY * u32::try_from(days).unwrap_or(u32::MAX) <= longest);
    let fitting = LIFETIMES.iter().filter(|(_, days)| fits(*days));
    let fitting = fitting.map(|(text, days)| (days.to_string(), (*text).to_owned()));
    let last = match longest {
        None => (NEVER.to_owned(), "No end".to_owned()),
        Some(longest) => ("longest".to_owned(), format!("The longest allowed, {}", days(longest))),
    };
    let view = NewKeyForm {
        layout: call.account_layout("New API key", "/ui/account/keys"),
        error,
        label: wanted.label,
        is_limited: wanted.limit == SOME_REPOSITORIES,
        patterns: wanted.patterns,
        actions: choices(ACTIONS, |word| wanted.actions.contains(&word)),
        lifetimes: choices(fitting.chain([last]), |value| value == wanted.lifetime),
        matching,
    };
    PageCall::render_as(status, &view)
}

/// A duration in whole days, or else in hours.
fn days(duration: Duration) -> String {
    let hours = duration.as_secs() / 3600;
    if hours >= 48 && hours.is_multiple_of(24) { format!("{} days", hours / 24) } else { format!("{hours} hours") }
}

/// The repositories that the caller sees and that the patterns match.
async fn matching(call: &PageCall<'_>, wanted: &Wanted) -> Result<Matching, ApiError> {
    let (limit, patterns) = (SOME_REPOSITORIES.to_owned(), wanted.patterns.clone());
    let limited = Wanted { limit, actions: vec!["pull"], patterns, ..Wanted::fresh(call)? };
    let scopes = limited.scopes()?.unwrap_or_default();
    let scopes: Vec<KeyScope> =
        scopes.iter().map(|scope| scope.parse()).collect::<Result<_, _>>().map_err(Error::from)?;
    let view = call.context.registry.catalog_view(call.context.caller);
    let is_wanted = move |name: &RepositoryName| scopes.iter().any(|scope| scope.allows(name) != Actions::NONE);
    let find = move || {
        let (mut names, mut after, mut examined) = (Vec::new(), String::new(), 0);
        loop {
            let page = view.page(("", &after), STEP, false)?;
            examined += page.names.len();
            let fits = |name: &String| name.parse().is_ok_and(|name| is_wanted(&name));
            names.extend(page.names.iter().filter(|name| fits(name)).cloned());
            match page.next {
                Some(next) if examined < EXAMINED_MAX && names.len() <= MATCHING_MAX => after = next,
                next => {
                    let has_more = next.is_some() || names.len() > MATCHING_MAX;
                    names.truncate(MATCHING_MAX);
                    return Ok::<_, crate::content::repository::Error>(Matching { names, has_more });
                }
            }
        }
    };
    call.context.blocking(find).await
}

/// Creates the key. The page with its secret is the only place where it appears.
async fn create_key(call: &PageCall<'_>, wanted: &Wanted) -> Result<HandlerResult, ApiError> {
    let context = call.context;
    let longest = context.registry.config().http.auth.key_lifetime;
    let lifetime = match wanted.lifetime.as_str() {
        NEVER => None,
        "longest" => longest,
        days => {
            let known = LIFETIMES.iter().find(|(_, known)| known.to_string() == days);
            Some(
                DAY * known
                    .and_then(|(_, days)| u32::try_from(*days).ok())
                    .ok_or_else(|| mistaken("choose a lifetime"))?,
            )
        }
    };
    if wanted.label.is_empty() {
        return Err(mistaken("the key needs a label"));
    }
    let expires = lifetime.map(|lifetime| context.registry.accounts().now().after(lifetime));
    let new = NewKey { label: wanted.label.clone(), scopes: wanted.scopes()?, expires, maker: None };
    let (owner, origin, check) = (context.user()?.to_owned(), context.origin(), context.registry.key_check());
    let user = owner.clone();
    let (plain, _, warning) = context.blocking(move || check.create_key(&owner, new, &origin)).await?;
    let base = context.base_url();
    let host = host_of(&base);
    let user = shell_word(&user);
    let login =
        |program: &str| format!("echo {} | {program} --username {user} --password-stdin {host}", plain.reveal());
    let view = Secret {
        layout: call.account_layout("Your new API key", "/ui/account/keys"),
        warning: warning.map(|warning| sentence(&warning)),
        what: "key",
        shown: Copy::new("API key", plain.reveal()),
        commands: vec![
            Copy::new("Sign in with Docker", login("docker login")),
            Copy::new("Sign in with Podman", login(&format!("podman login{}", call.podman_option()))),
            Copy::new("Sign in with Helm", login(&format!("helm registry login{}", call.helm_option()))),
        ],
        back: "/ui/account/keys".to_owned(),
    };
    Ok(call.render(&view))
}

/// Revokes one of the user's keys.
pub(super) async fn revoke_own(call: &PageCall<'_>, id: Uuid) -> HandlerResult {
    let owner = call.context.user()?.to_owned();
    let key = call.context.registry.accounts().keys(Some(&owner))?.into_iter().find(|key| key.id == id);
    let key = key.ok_or(Error::KeyUnknown)?;
    let back = "/ui/account/keys".to_owned();
    let layout = call.account_layout("Revoke this API key?", "/ui/account/keys");
    revoke(call, layout, Some(owner), &key, format!("/ui/account/keys/{id}/revoke"), back).await
}

/// The URL of the page that revokes a key of any user. It names the user, so that the keys of all need not be read.
fn revoke_any_url(key: &Key) -> String {
    format!("/ui/admin/keys/{}/revoke?owner={}", key.id, parameter(&key.owner))
}

/// Revokes a key of any user.
pub(super) async fn revoke_any(call: &PageCall<'_>, id: Uuid) -> HandlerResult {
    let owner = Some(call.parameter("owner")?.to_owned()).filter(|owner| !owner.is_empty());
    let accounts = Arc::clone(call.context.registry.accounts());
    let keys = call.context.blocking(move || accounts.keys(owner.as_deref())).await?;
    let key = keys.into_iter().find(|key| key.id == id).ok_or(Error::KeyUnknown)?;
    let back = super::users::url(&key.owner);
    let layout = call.admin_layout("Revoke this API key?", "/ui/admin/users");
    let action = revoke_any_url(&key);
    revoke(call, layout, Some(key.owner.clone()), &key, action, back).await
}

async fn revoke(
    call: &PageCall<'_>,
    layout: crate::web::Layout,
    owner: Option<String>,
    key: &Key,
    action: String,
    back: String,
) -> HandlerResult {
    if call.form.is_some() {
        let (accounts, origin, id) = (Arc::clone(call.context.registry.accounts()), call.context.origin(), key.id);
        call.context.blocking(move || accounts.revoke_key(owner.as_deref(), id, &origin)).await?;
        return call.redirect(&back, Some("key-revoked"));
    }
    let label = if key.label.is_empty() { "without a label" } else { &key.label };
    let paragraphs = vec![
        format!("The key “{label}” of {} stops working at once. Programs that use it are refused.", key.owner),
        "This cannot be undone. You can create another key.".to_owned(),
    ];
    let button = "Revoke key";
    call.render(&Confirm { layout, error: None, paragraphs, typed: None, button, is_dangerous: true, action, back })
}
