//! [`PageCall`]: a request as the handler of a page sees it, and the ways to answer it.
//!
//! Invariant: a handler gets a form only with the proof that a page of this registry sent it.

use askama::Template;
use hyper::header::HeaderValue;
use hyper::{Response, StatusCode};

use super::route;
use crate::content::rows::{AccountRole, Facts};
use crate::http::error::ApiError;
use crate::http::page::{self, Rights};
use crate::http::request::RequestBody;
use crate::http::response;
use crate::http::route::Query;
use crate::http::{Body, Context, HandlerResult};
use crate::identity::access::{Access, AccessPolicy, Action, Caller};
use crate::identity::accounts::SessionId;
use crate::kit::clock::Timestamp;
use crate::oci::{ErrorCode, RepositoryName};
use crate::web::{Choice, LastUse, Layout, Menu, MenuEntry, Notice, Time, User, program, sentence};

/// The largest form.
const FORM_BYTES_MAX: usize = 64 * 1024;

/// The field with the proof that a page of this registry sent the form.
const CSRF_FIELD: &str = "_csrf_token";

/// The pages of the user's own account.
const ACCOUNT: Menu = Menu {
    name: "Your account",
    entries: &[
        MenuEntry { path: "/ui/account", name: "Overview" },
        MenuEntry { path: "/ui/account/keys", name: "API keys" },
        MenuEntry { path: "/ui/account/access", name: "Your rights" },
        MenuEntry { path: "/ui/account/sessions", name: "Sessions" },
        MenuEntry { path: "/ui/account/clients", name: "Signed-in clients" },
        MenuEntry { path: "/ui/account/password", name: "Password" },
        MenuEntry { path: "/ui/account/log", name: "Audit log" },
    ],
};

/// The pages of superusers.
const ADMINISTRATION: Menu = Menu {
    name: "Administration",
    entries: &[
        MenuEntry { path: "/ui/admin/users", name: "Users" },
        MenuEntry { path: "/ui/admin/groups", name: "Groups" },
        MenuEntry { path: "/ui/admin/audit", name: "Audit log" },
        MenuEntry { path: "/ui/admin/disk", name: "Disk use" },
        MenuEntry { path: "/ui/admin/mirrors", name: "Mirrors" },
        MenuEntry { path: "/ui/admin/maintenance", name: "Maintenance" },
        MenuEntry { path: "/ui/admin/limits", name: "Limits" },
        MenuEntry { path: "/ui/admin/config", name: "Configuration" },
    ],
};

/// A request for a page.
#[derive(Debug)]
pub(in crate::http) struct PageCall<'a> {
    pub(in crate::http) context: &'a Context<'a>,
    pub(super) query: Query,
    /// The form, if the request sends one.
    pub(super) form: Option<Query>,
    /// The path and the query of the page.
    pub(super) target: String,
    csrf_token: String,
    /// The visitor's new cookie, to which the CSRF token belongs.
    visitor: Option<SessionId>,
    now: Timestamp,
}

impl<'a> PageCall<'a> {
    /// `has_form` tells whether the page has a form, for which a visitor without a session gets a cookie.
    pub(super) fn new(
        context: &'a Context<'a>,
        query: Query,
        form: Option<Query>,
        target: String,
        has_form: bool,
    ) -> Self {
        let known = context.cookie();
        let visitor = if known.is_none() && has_form { Some(SessionId::generate()) } else { None };
        let csrf_token = match known.as_ref().or(visitor.as_ref()) {
            Some(cookie) => {
                let signed_in = context.caller.credential.session().map(|grant| grant.signed_in);
                context.registry.accounts().csrf_token(cookie, signed_in)
            }
            None => String::new(),
        };
        Self { context, query, form, target, csrf_token, visitor, now: context.registry.now() }
    }

    /// The cookie to set for a visitor who had none.
    pub(super) fn visitor_cookie(&self) -> Option<HeaderValue> {
        self.visitor.as_ref().map(|id| self.context.cookies().session(id, false))
    }

    /// A field of the form, without blanks around it. Empty if the form does not have it.
    pub(super) fn field(&self, name: &'static str) -> Result<&str, ApiError> {
        let value = self.form.as_ref().map(|form| form.one(name)).transpose()?;
        Ok(value.flatten().unwrap_or_default().trim())
    }

    /// A parameter of the URL, without blanks around it. Empty if the URL does not have it.
    pub(super) fn parameter(&self, name: &'static str) -> Result<&str, ApiError> {
        Ok(self.query.one(name)?.unwrap_or_default().trim())
    }

    /// A time relative to that of the request.
    pub(super) const fn time(&self, at: Timestamp) -> Time {
        Time::new(at, self.now)
    }

    /// The time of the request.
    pub(super) const fn now(&self) -> Timestamp {
        self.now
    }

    /// The frame of a page.
    pub(super) fn layout(&self, title: impl Into<String>) -> Layout {
        let account = self.context.caller.account();
        let user = account
            .map(|account| User { name: account.name.clone(), is_superuser: account.role != AccountRole::Ordinary });
        let notice = self.query.one("notice").ok().flatten().and_then(Notice::find);
        Layout {
            title: title.into(),
            offers_sign_in: user.is_none() && !self.is_open(),
            has_start: true,
            user,
            csrf_token: self.csrf_token.clone(),
            notice: notice.filter(|_| self.form.is_none()),
            ..Layout::default()
        }
    }

    /// The frame of a page of the user's own account. `place` is the entry of the menu that it belongs to.
    pub(super) fn account_layout(&self, title: impl Into<String>, place: &'static str) -> Layout {
        Layout { menu: Some(&ACCOUNT), place, ..self.layout(title) }
    }

    /// The frame of a page of superusers.
    pub(super) fn admin_layout(&self, title: impl Into<String>, place: &'static str) -> Layout {
        Layout { menu: Some(&ADMINISTRATION), place, ..self.layout(title) }
    }

    /// Whether the caller may change what the pages of superusers show.
    pub(super) fn is_superuser(&self) -> bool {
        self.context.caller.account().is_some_and(|account| account.role == AccountRole::Superuser)
    }

    /// When, from where and by which program something was used last.
    pub(super) fn last_use(&self, at: Timestamp, address: Option<String>, agent: String) -> LastUse {
        LastUse { at: self.time(at), address, program: program(&agent), agent }
    }

    /// The option of podman and similar programs for a registry without TLS.
    pub(super) fn podman_option(&self) -> &'static str {
        if self.is_https() { "" } else { " --tls-verify=false" }
    }

    /// The option of helm for a registry without TLS.
    pub(super) fn helm_option(&self) -> &'static str {
        if self.is_https() { "" } else { " --plain-http" }
    }

    fn is_https(&self) -> bool {
        self.context.base_url().starts_with("https:")
    }

    /// The user who pushed something, for callers with an account. Others do not learn the names of users.
    pub(super) fn pusher(&self, facts: &Facts) -> Option<String> {
        facts.pushed_by.clone().filter(|_| self.context.caller.account().is_some())
    }

    /// Shows a page.
    #[expect(clippy::unused_self, reason = "handlers answer through their call")]
    pub(super) fn render(&self, view: &impl Template) -> HandlerResult {
        Self::render_as(StatusCode::OK, view)
    }

    /// Shows a page with another status than 200.
    pub(super) fn render_as(status: StatusCode, view: &impl Template) -> HandlerResult {
        page::rendered(status, view, Rights::Usual)
    }

    /// Sends the browser to a page of this registry. The word names a notice that the page shows.
    #[expect(clippy::unused_self, reason = "handlers answer through their call")]
    pub(super) fn redirect(&self, path: &str, notice: Option<&str>) -> Result<Response<Body>, ApiError> {
        let notice = notice.and_then(Notice::find);
        let url = match notice {
            Some(notice) => {
                let sign = if path.contains('?') { '&' } else { '?' };
                format!("{path}{sign}notice={}", notice.word())
            }
            None => path.to_owned(),
        };
        response::redirect(StatusCode::SEE_OTHER, &url)
    }

    /// Whether all callers may do everything in repositories without signing in.
    pub(super) fn is_open(&self) -> bool {
        self.context.registry.policy().grants == AccessPolicy::Open
    }

    /// Whether the caller may list repositories, even if the list is empty.
    pub(super) fn may_list(&self) -> Result<bool, ApiError> {
        let Context { registry, caller, .. } = self.context;
        Ok(caller.account().is_some() || registry.decide(caller, &Access::Catalog)?.is_ok())
    }

    /// Whether anyone may pull from a repository, by its setting or by the rules of the configuration.
    pub(super) fn is_public(&self, name: &RepositoryName) -> Result<bool, ApiError> {
        Ok(self.context.registry.actions(&Caller::ANONYMOUS, name)?.has(Action::Pull))
    }

    /// Sends the browser to the sign-in page, which returns here.
    pub(super) fn to_sign_in(&self) -> HandlerResult {
        response::redirect(StatusCode::SEE_OTHER, &route::with_next("/ui/sign-in", &self.target))
    }

    /// The status and the text of a mistake that the user can correct in the form. Other errors stay errors: those of an
    /// overloaded registry, and of a user who must wait, which has headers of its own.
    pub(super) fn mistake(error: ApiError) -> Result<(StatusCode, String), ApiError> {
        let status = error.status_code();
        let must_wait = status == StatusCode::TOO_MANY_REQUESTS;
        if status.is_client_error() && !must_wait { Ok((status, sentence(error.message_text()))) } else { Err(error) }
    }
}

/// Reads the form of a page, and checks that a page of this registry sent it.
pub(super) async fn read_form(context: &Context<'_>, body: &mut RequestBody) -> Result<Query, ApiError> {
    let bytes = body.read(FORM_BYTES_MAX).await?;
    let form = Query::form(&String::from_utf8_lossy(&bytes))?;
    let signed_in = context.caller.credential.session().map(|grant| grant.signed_in);
    let is_own = match (form.one(CSRF_FIELD)?, context.cookie()) {
        (Some(token), Some(cookie)) => context.registry.accounts().is_csrf_token(token, &cookie, signed_in),
        _ => false,
    };
    if is_own { Ok(form) } else { Err(ApiError::csrf()) }
}

/// A mistake of the user in a form.
pub(super) fn mistaken(why: impl Into<String>) -> ApiError {
    ApiError::bad_request(ErrorCode::Unsupported, why)
}

/// The options of a form: the value and the text of each.
pub(super) fn choices(
    options: impl IntoIterator<Item = (impl Into<String>, impl Into<String>)>,
    is_chosen: impl Fn(&str) -> bool,
) -> Vec<Choice> {
    let choice = |value: String, text: String| Choice { is_chosen: is_chosen(&value), value, text };
    options.into_iter().map(|(value, text)| choice(value.into(), text.into())).collect()
}
