//! [`Page`]: every page, with its path and the access that it requires. Pure.

mod account;
mod admin;

pub(super) use account::AccountPage;
pub(super) use admin::{AdminPage, UserChange};
use hyper::Method;
use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC, utf8_percent_encode};

use super::repository::Place;
use crate::http::route::{Path, Query, RouteError};
use crate::identity::access::{Access, Requires};
use crate::oci::RepositoryName;

/// The longest path of a page to return to, in bytes.
const NEXT_BYTES_MAX: usize = 2048;

/// The characters of a path that a URL must not have, or that have another meaning there.
const NOT_IN_PATH: &AsciiSet =
    &CONTROLS.add(b' ').add(b'"').add(b'#').add(b'%').add(b'<').add(b'>').add(b'?').add(b'\\').add(b'`');

/// A page with the values of its path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Page {
    /// A file that pages load.
    Asset(String),
    /// The list of repositories.
    Repositories,
    Search,
    Repository(RepositoryName, Place),
    SignIn,
    /// Asks for the password again, for pages that need a recent sign-in.
    ConfirmPassword,
    SignOut,
    Account(AccountPage),
    Admin(AdminPage),
}

/// A request for a page.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(super) page: Page,
    /// The path and the query, to return to.
    pub(super) target: String,
    pub(super) query: Query,
    /// Whether the request sends the form of the page.
    pub(super) is_form: bool,
}

impl Page {
    /// Reads a decoded path.
    fn parse(path: &str) -> Option<Self> {
        if path == "/ui" {
            return Some(Self::Repositories);
        }
        let path = path.strip_prefix("/ui/")?;
        if let Some(name) = path.strip_prefix("assets/") {
            return Some(Self::Asset(name.to_owned()));
        }
        if let Some(rest) = path.strip_prefix("account").filter(|rest| rest.is_empty() || rest.starts_with('/')) {
            return AccountPage::parse(rest).map(Self::Account);
        }
        if let Some(rest) = path.strip_prefix("admin/") {
            return AdminPage::parse(rest).map(Self::Admin);
        }
        if let Some(path) = path.strip_prefix("r/") {
            let (name, place) = Place::parse(path)?;
            return Some(Self::Repository(name, place));
        }
        Some(match path {
            "" => Self::Repositories,
            "search" => Self::Search,
            "sign-in" => Self::SignIn,
            "sign-out" => Self::SignOut,
            "confirm-password" => Self::ConfirmPassword,
            _ => return None,
        })
    }

    /// The access that the page requires, or its form.
    fn access(&self, is_form: bool) -> Access {
        match self {
            Self::Asset(_) => Access::Anyone,
            Self::Repositories | Self::Search | Self::SignIn | Self::SignOut => Access::Account(Requires::Anyone),
            Self::Repository(name, place) => place.access(name),
            Self::ConfirmPassword => Access::Account(Requires::Session),
            Self::Account(page) => Access::Account(page.access()),
            Self::Admin(page) => Access::Account(page.access(is_form)),
        }
    }

    /// Whether the page has a form, which it takes by `POST`.
    pub(super) const fn takes_form(&self) -> bool {
        match self {
            Self::SignIn | Self::ConfirmPassword | Self::SignOut => true,
            Self::Asset(_) | Self::Repositories | Self::Search => false,
            Self::Account(page) => page.takes_form(),
            Self::Admin(page) => page.takes_form(),
            Self::Repository(_, place) => place.takes_form(),
        }
    }

    /// Whether a sign-in may return to the page.
    const fn is_destination(&self) -> bool {
        !matches!(self, Self::Asset(_) | Self::SignIn | Self::ConfirmPassword | Self::SignOut)
    }
}

impl Request {
    /// The access that the operation requires.
    pub(crate) fn access(&self) -> Access {
        self.page.access(self.is_form)
    }

    /// Whether the request is for a file that pages load.
    pub(crate) const fn is_asset(&self) -> bool {
        matches!(self.page, Page::Asset(_))
    }
}

/// Reads a request line. The path is decoded.
pub(crate) fn parse(method: &Method, path: &str, query: Option<&str>) -> Result<Request, RouteError> {
    let page = Page::parse(path).ok_or(RouteError::NotFound)?;
    let is_form = match *method {
        Method::GET | Method::HEAD => false,
        Method::POST if page.takes_form() => true,
        _ => {
            let allow = if page.takes_form() { "GET, HEAD, POST" } else { "GET, HEAD" };
            return Err(RouteError::MethodNotAllowed { allow: allow.into() });
        }
    };
    let mut target = encoded(path);
    let parameters = Query::form(query.unwrap_or_default())?;
    if let Some(query) = query {
        target.extend(["?", query]);
    }
    Ok(Request { page, target, query: parameters, is_form })
}

/// Encodes a path for a URL.
pub(super) fn encoded(path: &str) -> String {
    utf8_percent_encode(path, NOT_IN_PATH).to_string()
}

/// Encodes a parameter for a URL.
pub(super) fn parameter(value: &str) -> String {
    utf8_percent_encode(value, NON_ALPHANUMERIC).to_string()
}

/// Adds the page to return to.
pub(super) fn with_next(path: &str, target: &str) -> String {
    format!("{path}?next={}", parameter(target))
}

/// Reads the page to return to after a sign-in. Anyone may have written it, so it must be a page of this registry. The
/// first page replaces any other.
pub(super) fn next(text: Option<&str>) -> String {
    let read = |text: &str| {
        let odd = |c: char| c.is_control() || c.is_whitespace() || c == '\\';
        if text.len() > NEXT_BYTES_MAX || text.contains(odd) || !text.starts_with(super::START) {
            return None;
        }
        let (path, query) = text.split_once('?').map_or((text, None), |(path, query)| (path, Some(query)));
        let request = parse(&Method::GET, Path::decode(path).as_str()?, query).ok()?;
        request.page.is_destination().then_some(request.target)
    };
    text.and_then(read).filter(|target| target.is_ascii()).unwrap_or_else(|| super::START.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sign_in_returns_to_pages_of_this_registry_only() {
        for text in ["/ui/", "/ui/?q=a&sort=size"] {
            assert_eq!(next(Some(text)), text);
        }
        for text in [
            "",
            "/",
            "//evil.example/ui/",
            "https://evil.example/ui/",
            "/ui/../..//evil.example",
            "/ui/%2e%2e/%2e%2e//evil.example",
            "/ui//evil.example",
            "/ui/\\evil.example",
            "\\ui\\",
            "/ui/\r\nLocation: x",
            "javascript:alert(1)",
            "/ui/sign-in?next=/ui/sign-in",
            "/ui/sign-out",
            "/ui/assets/style.css",
            "/ui/nothing",
            "/v2/",
            " /ui/",
        ] {
            assert_eq!(next(Some(text)), "/ui/", "{text:?}");
        }
        assert_eq!(next(None), "/ui/");
    }

    #[test]
    fn pages_without_a_form_refuse_one() {
        let refused = parse(&Method::POST, "/ui/", None);
        assert!(matches!(refused, Err(RouteError::MethodNotAllowed { allow }) if allow == "GET, HEAD"));
        assert!(parse(&Method::POST, "/ui/sign-in", None).is_ok_and(|request| request.is_form));
        assert!(matches!(parse(&Method::GET, "/ui/nothing", None), Err(RouteError::NotFound)));
    }

    /// The names of the variants, and a function that finds the name of a page. A new variant does not compile until it is
    /// added here.
    macro_rules! kinds {
        ($($pattern:pat => $kind:literal $form:literal,)*) => {
            const KINDS: &[(&str, bool)] = &[$(($kind, $form)),*];

            fn kind(page: &Page) -> &'static str {
                match page {
                    $($pattern => $kind,)*
                }
            }
        };
    }

    kinds! {
        Page::Asset(_) => "asset" false,
        Page::Repositories => "repositories" false,
        Page::Search => "search" false,
        Page::Repository(_, Place::Tags) => "tags" false,
        Page::Repository(_, Place::Untagged) => "untagged" false,
        Page::Repository(_, Place::History) => "history" false,
        Page::Repository(_, Place::Description) => "description" true,
        Page::Repository(_, Place::Settings) => "settings" true,
        Page::Repository(_, Place::DeleteTags) => "delete tags" true,
        Page::Repository(_, Place::DeleteManifest(_)) => "delete manifest" true,
        Page::Repository(_, Place::Delete) => "delete repository" true,
        Page::Repository(_, Place::Restore(_)) => "restore" true,
        Page::Repository(_, Place::Tag(_)) => "tag" false,
        Page::Repository(_, Place::Manifest(_)) => "manifest" false,
        Page::Repository(_, Place::Deleted) => "deleted" false,
        Page::Repository(_, Place::RestoreManifest(_)) => "restore manifest" true,
        Page::Repository(_, Place::Blob(_)) => "blob" false,
        Page::SignIn => "sign in" true,
        Page::ConfirmPassword => "confirm password" true,
        Page::SignOut => "sign out" true,
        Page::Account(AccountPage::Overview) => "overview" false,
        Page::Account(AccountPage::Access) => "access" false,
        Page::Account(AccountPage::Keys) => "keys" false,
        Page::Account(AccountPage::NewKey) => "new key" true,
        Page::Account(AccountPage::RevokeKey(_)) => "revoke key" true,
        Page::Account(AccountPage::Sessions) => "sessions" true,
        Page::Account(AccountPage::Clients) => "clients" true,
        Page::Account(AccountPage::Password) => "password" true,
        Page::Account(AccountPage::Log) => "log" false,
        Page::Admin(AdminPage::Users) => "users" false,
        Page::Admin(AdminPage::NewUser) => "new user" true,
        Page::Admin(AdminPage::User(_)) => "user" true,
        Page::Admin(AdminPage::ChangeUser(_, UserChange::Enable)) => "enable user" true,
        Page::Admin(AdminPage::ChangeUser(_, UserChange::Disable)) => "disable user" true,
        Page::Admin(AdminPage::ChangeUser(_, UserChange::ResetPassword)) => "reset password" true,
        Page::Admin(AdminPage::ChangeUser(_, UserChange::Delete)) => "delete user" true,
        Page::Admin(AdminPage::RevokeKey(_)) => "revoke any key" true,
        Page::Admin(AdminPage::Groups) => "groups" false,
        Page::Admin(AdminPage::NewGroup) => "new group" true,
        Page::Admin(AdminPage::Group(_)) => "group" true,
        Page::Admin(AdminPage::DeleteGroup(_)) => "delete group" true,
        Page::Admin(AdminPage::RemoveMember(_)) => "remove member" true,
        Page::Admin(AdminPage::Audit) => "audit" false,
        Page::Admin(AdminPage::Disk) => "disk" false,
        Page::Admin(AdminPage::Mirrors) => "mirrors" false,
        Page::Admin(AdminPage::Maintenance) => "maintenance" true,
        Page::Admin(AdminPage::Limits) => "limits" false,
        Page::Admin(AdminPage::Configuration) => "configuration" false,
    }

    /// The server's own answers make the table. This test makes sure that it has every page and every form.
    #[test]
    fn every_page_and_every_form_is_in_the_table_of_callers() {
        let mut rows = std::collections::BTreeSet::new();
        for line in include_str!("../../../tests/it/accounts/routes.txt").lines() {
            let mut words = line.split_whitespace();
            let (Some(method), Some(target)) = (words.next(), words.next()) else { continue };
            let digest = format!("sha256:{}", "a".repeat(64));
            let values = [
                ("{name}", "a/b"),
                ("{digest}", &*digest),
                ("{tag}", "1"),
                ("{token_uuid}", "67e55044-10b1-426f-9247-bb680e5fe0c8"),
            ];
            let target = values.iter().fold(target.to_owned(), |target, (name, value)| target.replace(name, value));
            let (path, query) = target.split_once('?').map_or((&*target, None), |(path, query)| (path, Some(query)));
            if let Some(request) = method.parse().ok().and_then(|method| parse(&method, path, query).ok()) {
                assert_eq!(request.page.takes_form(), KINDS.contains(&(kind(&request.page), true)), "{line}");
                rows.insert((kind(&request.page), request.is_form));
            }
        }
        let forms = KINDS.iter().filter(|(_, takes_form)| *takes_form);
        let wanted = KINDS.iter().map(|(kind, _)| (*kind, false)).chain(forms.copied());
        let missing: Vec<_> = wanted.filter(|row| !rows.contains(row)).collect();
        assert!(missing.is_empty(), "without a line: {missing:?}");
    }
}
