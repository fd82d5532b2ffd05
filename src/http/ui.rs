//! The pages under `/ui/`: for users with a browser, in English, without the need for scripts.
//!
//! # Adding a page
//!
//! 1. Add a variant to [`route::Page`], in its group. The compiler asks for its path, its access and its handler.
//! 2. Write the view: a struct in `src/web/` with a [`Layout`], and its template in `templates/`. Times, sizes, digests,
//!    badges and commands to copy are types of `src/web/`; `{{ value }}` shows them.
//! 3. Write the handler in the file of its group: an async function of a [`PageCall`] that reads typed values, makes one
//!    call, builds the view and renders it. `call.form` is the form of a `POST`. The proof that this site sent the form
//!    is checked before. A successful `POST` ends with [`PageCall::redirect`] and a word of `web::Notice`. A mistake of
//!    the user shows the form again with a message, see [`PageCall::mistake`].
//! 4. Add the route to `tests/it/accounts/routes.rs` and write its row with `UPDATE_SNAPSHOTS=1 cargo test --test it
//!    routes`; add the page to `tests/it/ui/furnished.rs`, so that the tests of every page look at it, axe and a browser
//!    included.
//!
//! # Rules
//!
//! A page shows nothing that no API shows to the same caller, and has the access of that API. Only sessions count here:
//! other credentials are ignored. Every URL that takes a form shows it too, so a sign-in in between returns to the form. A
//! caller without rights gets the same page as for a repository that does not exist. `GET` changes nothing.

mod account;
mod asset;
mod audit;
mod call;
mod error;
mod groups;
mod keys;
mod mirrors;
mod repositories;
mod repository;
mod route;
mod sessions;
mod sign_in;
mod system;
mod users;

use hyper::header;

pub(super) use call::PageCall;
pub(super) use error::page as error_page;
pub(crate) use route::Request;
pub(super) use route::parse;
use route::{AccountPage, AdminPage, Page};

use super::error::ApiError;
use super::request::RequestBody;
use super::response::redirect;
use super::{Context, HandlerResult, StatusCode};
use crate::identity::access::{Access, Refusal};
use crate::oci::ErrorCode;

#[cfg(test)]
mod tests;

/// The first page.
pub(super) const START: &str = "/ui/";

/// Handles a request of a caller who may make it.
pub(super) async fn handle(context: &Context<'_>, request: Request, body: &mut RequestBody) -> HandlerResult {
    let Request { page, target, query, is_form } = request;
    if let Page::Asset(name) = &page {
        return asset::get(context, name);
    }
    let form = if is_form { Some(call::read_form(context, body).await?) } else { None };
    let call = PageCall::new(context, query, form, target, page.takes_form());
    let mut response = match page {
        Page::Asset(_) => return Err(ApiError::nothing_here()),
        Page::Repositories => Box::pin(repositories::list(&call)).await,
        Page::Search => Box::pin(repositories::search(&call)).await,
        Page::Repository(name, place) => Box::pin(repository::handle(&call, name, place)).await,
        Page::SignIn => Box::pin(sign_in::sign_in(&call)).await,
        Page::ConfirmPassword => Box::pin(sign_in::confirm_password(&call)).await,
        Page::SignOut => Box::pin(sign_in::sign_out(&call)).await,
        Page::Account(page) => Box::pin(own(&call, page)).await,
        Page::Admin(page) => Box::pin(admin(&call, page)).await,
    }?;
    if let Some(cookie) = call.visitor_cookie().filter(|_| !response.headers().contains_key(header::SET_COOKIE)) {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    Ok(response)
}

/// The pages of the user's own account.
async fn own(call: &PageCall<'_>, page: AccountPage) -> HandlerResult {
    match page {
        AccountPage::Overview => account::overview(call),
        AccountPage::Access => account::access(call).await,
        AccountPage::Password => account::password(call).await,
        AccountPage::Keys => keys::list(call),
        AccountPage::NewKey => keys::create(call).await,
        AccountPage::RevokeKey(id) => keys::revoke_own(call, id).await,
        AccountPage::Sessions => sessions::sessions(call).await,
        AccountPage::Clients => sessions::clients(call).await,
        AccountPage::Log => audit::own(call),
    }
}

/// The pages of superusers.
async fn admin(call: &PageCall<'_>, page: AdminPage) -> HandlerResult {
    match page {
        AdminPage::Users => users::list(call),
        AdminPage::NewUser => users::create(call).await,
        AdminPage::User(name) => users::user(call, &name).await,
        AdminPage::ChangeUser(name, change) => users::change(call, &name, change).await,
        AdminPage::RevokeKey(id) => keys::revoke_any(call, id).await,
        AdminPage::Groups => groups::list(call),
        AdminPage::NewGroup => groups::create(call).await,
        AdminPage::Group(name) => groups::group(call, &name).await,
        AdminPage::DeleteGroup(name) => groups::delete(call, &name).await,
        AdminPage::RemoveMember(name) => groups::remove_member(call, &name).await,
        AdminPage::Audit => audit::all(call),
        AdminPage::Disk => system::disk(call).await,
        AdminPage::Mirrors => mirrors::list(call).await,
        AdminPage::Maintenance => system::maintenance(call).await,
        AdminPage::Limits => system::limits(call),
        AdminPage::Configuration => system::configuration(call),
    }
}

/// Answers a caller without access: with the sign-in page, with the page that asks for the password again, or as if the
/// page did not exist.
pub(super) fn refused(context: &Context<'_>, request: &Request, refusal: Refusal, access: &Access) -> HandlerResult {
    let to = |path: &str| redirect(StatusCode::SEE_OTHER, &route::with_next(path, &request.target));
    match refusal {
        Refusal::Unauthenticated | Refusal::TooNarrow => to("/ui/sign-in"),
        Refusal::NotFresh => to("/ui/confirm-password"),
        Refusal::Denied if matches!(access, Access::Repository(..)) => Err(ApiError::nothing_here()),
        // The text is a sentence on the page, in which the name of the user must not be the first word.
        Refusal::Denied if matches!(request.page, Page::Admin(_)) => {
            Err(ApiError::new(ErrorCode::Denied, "only superusers may see this page and change what it shows"))
        }
        Refusal::Denied => {
            Err(ApiError::refused(refusal, context.caller, access, (context.info.surface, None), || None))
        }
    }
}
