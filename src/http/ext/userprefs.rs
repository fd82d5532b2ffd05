//! `PUT /v2/_zot/ext/userprefs`: stars and bookmarks of users, for zot's web page.

use std::sync::Arc;

use hyper::StatusCode;

use crate::content::rows;
use crate::http::error::ApiError;
use crate::http::response::empty;
use crate::http::route::Preference;
use crate::http::{Context, HandlerResult};
use crate::oci::{ErrorCode, RepositoryName};

/// Stars or bookmarks a repository that the caller may pull from, or undoes it.
pub(in crate::http) async fn toggle(
    context: &Context<'_>,
    name: &RepositoryName,
    preference: Preference,
) -> HandlerResult {
    if !context.registry.has_preferences() {
        return Err(ApiError::nothing_here());
    }
    // zot's web page would end the session at a 401.
    let Some(account) = context.caller.account() else {
        return Err(ApiError::new(ErrorCode::Denied, "only users have stars and bookmarks"));
    };
    let preference = match preference {
        Preference::Star => rows::Preference::Star,
        Preference::Bookmark => rows::Preference::Bookmark,
    };
    let accounts = Arc::clone(context.registry.accounts());
    let (user, name) = (account.name.clone(), name.clone());
    let toggled = context.blocking(move || accounts.toggle_preference(&user, preference, &name)).await?;
    match toggled {
        Some(_) => Ok(empty(StatusCode::OK)),
        None => Err(ApiError::missing(ErrorCode::NameUnknown, "there is no such repository")),
    }
}
