//! The description of a repository, its visibility, and the roles of users and groups.

use std::sync::Arc;

use hyper::StatusCode;

use super::{PageCall, frame, url};
use crate::content::rows::{Grantee, Role};
use crate::http::HandlerResult;
use crate::http::error::ApiError;
use crate::http::ui::call::choices;
use crate::identity::accounts::DESCRIPTION_MAX;
use crate::oci::{ErrorCode, RepositoryName};
use crate::web::{DescriptionForm, Markdown, RepositorySettings, RoleEntry};

/// The grantees and the roles that the form offers: the word, and the text.
const KINDS: [(&str, &str); 2] = [("user", "user"), ("group", "group")];
const ROLES: [(&str, &str); 3] =
    [("read", "read: pull"), ("write", "write: push, pull and delete"), ("admin", "admin: everything, also roles")];

/// Shows and changes the description.
pub(super) async fn description(call: &PageCall<'_>, name: RepositoryName) -> HandlerResult {
    let frame = frame(call, &name, "")?;
    let (mut status, mut error) = (StatusCode::OK, None);
    let known = call.context.registry.accounts().repository_settings(&name)?.description;
    let mut shown = known.clone();
    if call.form.is_some() {
        // Browsers send line ends as two characters.
        let text = call.field("description")?.replace("\r\n", "\n");
        shown.clone_from(&text);
        let (accounts, origin, of) =
            (Arc::clone(call.context.registry.accounts()), call.context.origin(), name.clone());
        let changed = call.context.blocking(move || accounts.change_repository(&of, None, Some(text), &origin)).await;
        match changed {
            Ok(()) => return call.redirect(&url(&name), Some("saved")),
            Err(mistake) => {
                let (code, text) = PageCall::mistake(mistake)?;
                (status, error) = (code, Some(text));
            }
        }
    }
    let view = DescriptionForm {
        layout: call.layout(format!("Description · {name}")),
        frame,
        error,
        description: shown,
        preview: Markdown::new(&known),
        characters_max: DESCRIPTION_MAX,
    };
    PageCall::render_as(status, &view)
}

/// Shows and changes the visibility and the roles.
pub(super) async fn settings(call: &PageCall<'_>, name: RepositoryName) -> HandlerResult {
    let frame = frame(call, &name, "settings")?;
    let here = format!("{}/-/settings", url(&name));
    let (mut status, mut error) = (StatusCode::OK, None);
    if call.form.is_some() {
        match change(call, &name).await {
            Ok(notice) => return call.redirect(&here, Some(notice)),
            Err(mistake) => {
                let (code, text) = PageCall::mistake(mistake)?;
                (status, error) = (code, Some(text));
            }
        }
    }
    let accounts = call.context.registry.accounts();
    let permissions = accounts.permissions(&name)?;
    let entry = |kind: &'static str| {
        move |(name, role): &(String, Role)| RoleEntry { kind, name: name.clone(), role: role.as_str() }
    };
    let users = permissions.users.iter().map(entry("user"));
    let roles = users.chain(permissions.groups.iter().map(entry("group"))).collect();
    let owner = accounts.account(name.namespace())?.filter(|account| owns(account.namespace.as_deref(), &name));
    let (kind, role) = (call.field("kind")?, call.field("role")?);
    let view = RepositorySettings {
        layout: call.layout(format!("Settings · {name}")),
        frame,
        error,
        is_set_public: accounts.repository_settings(&name)?.public,
        roles,
        kinds: choices(KINDS, |word| word == kind),
        grantee: call.field("name")?.to_owned(),
        given_roles: choices(ROLES, |word| word == role),
        owner: owner.map(|account| account.name.clone()),
    };
    PageCall::render_as(status, &view)
}

/// Makes the change of a form. Returns the word of the notice.
async fn change(call: &PageCall<'_>, name: &RepositoryName) -> Result<&'static str, ApiError> {
    let (accounts, origin, of) = (Arc::clone(call.context.registry.accounts()), call.context.origin(), name.clone());
    match call.field("change")? {
        "visibility" => {
            let public = match call.field("visibility")? {
                "public" if call.field("sure")? != "yes" => {
                    return Err(invalid("confirm that anyone may pull from the repository"));
                }
                "public" => true,
                "private" => false,
                _ => return Err(invalid("choose public or private")),
            };
            call.context.blocking(move || accounts.change_repository(&of, Some(public), None, &origin)).await?;
            Ok("saved")
        }
        word @ ("set-role" | "remove-role") => {
            let kind = match call.field("kind")? {
                "user" => Grantee::User,
                "group" => Grantee::Group,
                _ => return Err(invalid("choose a user or a group")),
            };
            let who = call.field("name")?.to_owned();
            let role = if word == "set-role" { Some(call.field("role")?.parse::<Role>()?) } else { None };
            if kind == Grantee::User {
                let account = accounts.account(&who)?;
                if account.is_some_and(|account| owns(account.namespace.as_deref(), name)) {
                    return Err(invalid("the owner of the namespace has all rights, and needs no role"));
                }
            }
            call.context.blocking(move || accounts.set_permission(&of, kind, &who, role, &origin)).await?;
            Ok(if role.is_some() { "saved" } else { "role-removed" })
        }
        _ => Err(invalid("the form has no change")),
    }
}

/// Whether the owner of a namespace has all rights in a repository.
fn owns(namespace: Option<&str>, name: &RepositoryName) -> bool {
    name.as_str() != name.namespace() && namespace == Some(name.namespace())
}

fn invalid(why: &str) -> ApiError {
    ApiError::bad_request(ErrorCode::Unsupported, why)
}
