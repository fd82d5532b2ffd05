//! Repositories, as Quay shows them.

use std::sync::Arc;

use hyper::{Response, StatusCode};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::schema::{Schema, boolean, integer, map, named, object, one_of, quay_time, text};
use super::{Call, invalid, read};
use crate::content::rows::SettingsRow;
use crate::http::error::ApiError;
use crate::http::request::RequestBody;
use crate::http::response::{empty, json_response};
use crate::http::time::rfc2822;
use crate::http::{Body, Context};
use crate::identity::access::{Access, Action, Actions};
use crate::identity::accounts::{Accounts, DESCRIPTION_MAX};
use crate::oci::RepositoryName;

/// As many repositories as Quay shows at once.
const PAGE: usize = 100;
/// As many tags as Quay shows with their repository.
const TAGS_MAX: usize = 500;

#[derive(Deserialize)]
struct NewRepositoryBody {
    repository: String,
    visibility: String,
    description: String,
    namespace: Option<String>,
    repo_kind: Option<String>,
}

#[derive(Deserialize)]
struct DescriptionBody {
    description: String,
}

#[derive(Deserialize)]
struct VisibilityBody {
    visibility: String,
}

/// The repositories one may pull from: all, those of a namespace, or those that are public. Quay wants one of
/// the latter.
pub(super) fn list(context: &Context<'_>, call: &Call<'_>) -> Result<Response<Body>, ApiError> {
    let namespace = call.query.one("namespace")?;
    let only_public = match call.query.one("public")? {
        None | Some("false") => false,
        Some("true") => true,
        Some(_) => return Err(invalid("the parameter public is true or false")),
    };
    let is_name = |text: &str| text.parse::<RepositoryName>().is_ok();
    if namespace.is_some_and(|namespace| !is_name(namespace) || namespace.contains('/')) {
        return Err(invalid("the parameter namespace is the first part of repositories' names"));
    }
    let prefix = namespace.map(|namespace| format!("{namespace}/")).unwrap_or_default();
    let after = call.query.one("next_page")?;
    if after.is_some_and(|after| !is_name(after)) {
        return Err(invalid("the parameter next_page is not one that a list gave"));
    }
    let accounts = context.registry.accounts();
    let visible = |name: &str| {
        let Ok(name) = name.parse() else { return false };
        let is_public = || accounts.permissions(&name).is_ok_and(|permissions| permissions.public);
        context.sees(&name) && (!only_public || is_public())
    };
    let from = (prefix.as_str(), after.unwrap_or_default());
    let page = context.registry.stores().catalog(from, PAGE, &context.among(), visible)?;
    let mut repositories = Vec::new();
    for name in page.names.iter().filter_map(|name| name.parse::<RepositoryName>().ok()) {
        let settings = accounts.repository_settings(&name)?;
        let (namespace, short) = split(&name);
        repositories.push(json!({
            "namespace": namespace,
            "name": short,
            "description": settings.description,
            "is_public": settings.public,
            "kind": "image",
            "state": "NORMAL",
            "is_starred": false,
        }));
    }
    let mut list = json!({ "repositories": repositories });
    if let Some(next) = page.next {
        list["next_page"] = next.into();
    }
    Ok(json_response(StatusCode::OK, &list))
}

pub(super) async fn create(context: &Context<'_>, body: &mut RequestBody) -> Result<Response<Body>, ApiError> {
    let NewRepositoryBody { repository, visibility, description, namespace, repo_kind } = read(body).await?;
    if repo_kind.is_some_and(|kind| kind != "image") {
        return Err(invalid("repo_kind is image: other kinds are not supported"));
    }
    let public = is_public(&visibility)?;
    let account = context.account()?;
    let namespace = namespace.unwrap_or_else(|| Accounts::default_namespace(account));
    let name = if namespace.is_empty() { repository } else { format!("{namespace}/{repository}") };
    let name: RepositoryName = name.parse().map_err(|_| invalid("Invalid repository name"))?;
    // That it is there already, only those hear who may make it.
    context.registry.decide(context.caller, &Access::Repository(name.clone(), Actions::of(Action::Push)))??;
    // Whoever makes a repository public may also do so later, by changevisibility.
    if public {
        context
            .registry
            .decide(context.caller, &Access::Repository(name.clone(), Actions::of(Action::Administer)))??;
    }
    check_description(&description)?;
    let made = context.registry.repository(&name);
    let settings = SettingsRow { public, description };
    let (accounts, origin) = (Arc::clone(context.registry.accounts()), context.origin());
    let (is_new, name) = context
        .blocking(move || {
            let is_new = made.create(settings)?;
            if is_new {
                accounts.repository_made(&name, &origin)?;
            }
            Ok::<_, ApiError>((is_new, name))
        })
        .await?;
    if !is_new {
        return Err(invalid("Repository already exists"));
    }
    let (namespace, short) = split(&name);
    Ok(json_response(StatusCode::CREATED, &json!({ "namespace": namespace, "name": short, "kind": "image" })))
}

pub(super) fn get(context: &Context<'_>, call: &Call<'_>) -> Result<Response<Body>, ApiError> {
    let name = call.repository()?;
    let repository = existing(context, name)?;
    let with_tags = match call.query.one("includeTags")? {
        None | Some("true") => true,
        Some("false") => false,
        Some(_) => return Err(invalid("the parameter includeTags is true or false")),
    };
    let accounts = context.registry.accounts();
    let settings = accounts.repository_settings(name)?;
    let actions = context.registry.actions(context.caller, name)?;
    let (namespace, short) = split(name);
    let mut shown = json!({
        "namespace": namespace,
        "name": short,
        "kind": "image",
        "description": settings.description,
        "is_public": settings.public,
        "is_organization": false,
        "is_starred": false,
        "state": "NORMAL",
        "can_write": actions.has(Action::Push),
        "can_admin": actions.has(Action::Administer),
    });
    if with_tags {
        let mut tags = Map::new();
        for tagged in repository.tagged(TAGS_MAX)? {
            let tag = json!({
                "name": tagged.tag,
                "size": tagged.size,
                "last_modified": rfc2822(tagged.moved),
                "manifest_digest": tagged.digest.to_string(),
            });
            tags.insert(tagged.tag, tag);
        }
        shown["tags"] = Value::Object(tags);
    }
    Ok(json_response(StatusCode::OK, &shown))
}

pub(super) async fn describe(
    context: &Context<'_>,
    call: &Call<'_>,
    body: &mut RequestBody,
) -> Result<Response<Body>, ApiError> {
    let DescriptionBody { description } = read(body).await?;
    check_description(&description)?;
    change(context, call, None, Some(description)).await
}

pub(super) async fn change_visibility(
    context: &Context<'_>,
    call: &Call<'_>,
    body: &mut RequestBody,
) -> Result<Response<Body>, ApiError> {
    let VisibilityBody { visibility } = read(body).await?;
    change(context, call, Some(is_public(&visibility)?), None).await
}

async fn change(
    context: &Context<'_>,
    call: &Call<'_>,
    public: Option<bool>,
    description: Option<String>,
) -> Result<Response<Body>, ApiError> {
    let name = call.repository()?.clone();
    existing(context, &name)?;
    let (accounts, origin) = (Arc::clone(context.registry.accounts()), context.origin());
    context.blocking(move || accounts.change_repository(&name, public, description, &origin)).await?;
    Ok(json_response(StatusCode::OK, &json!({ "success": true })))
}

/// First nobody but its owner may see it, then it goes: a crash between the two leaves no door open.
pub(super) async fn delete(context: &Context<'_>, call: &Call<'_>) -> Result<Response<Body>, ApiError> {
    let name = call.repository()?.clone();
    let repository = existing(context, &name)?;
    let (accounts, origin) = (Arc::clone(context.registry.accounts()), context.origin());
    context
        .blocking(move || {
            accounts.forget_repository(&name, &origin)?;
            Ok::<_, ApiError>(repository.remove()?)
        })
        .await?;
    Ok(empty(StatusCode::NO_CONTENT))
}

/// The repository, if it exists. Whoever comes here may know that it does not.
pub(super) fn existing(
    context: &Context<'_>,
    name: &RepositoryName,
) -> Result<crate::content::repository::Repository, ApiError> {
    let repository = context.registry.repository(name);
    if repository.is_known()? {
        return Ok(repository);
    }
    Err(crate::content::repository::Error::RepositoryUnknown { name: name.clone() }.into())
}

/// Quay's two parts of a name; of a name with one part the first is empty.
fn split(name: &RepositoryName) -> (&str, &str) {
    name.as_str().split_once('/').unwrap_or(("", name.as_str()))
}

fn is_public(visibility: &str) -> Result<bool, ApiError> {
    match visibility {
        "public" => Ok(true),
        "private" => Ok(false),
        _ => Err(invalid("visibility is public or private")),
    }
}

fn check_description(description: &str) -> Result<(), ApiError> {
    if description.chars().count() <= DESCRIPTION_MAX {
        return Ok(());
    }
    Err(invalid(format!("a description has at most {DESCRIPTION_MAX} characters")))
}

/// What [`list`] shows of a repository.
pub(super) fn listed_schema() -> Schema {
    named(
        "RepositoryInList",
        object([
            ("namespace", text()),
            ("name", text()),
            ("description", text()),
            ("is_public", boolean()),
            ("kind", one_of(["image"])),
            ("state", one_of(["NORMAL"])),
            ("is_starred", boolean()),
        ]),
    )
}

/// What [`get`] shows.
pub(super) fn schema() -> Schema {
    let tag = object([
        ("name", text()),
        ("size", integer(0, usize::MAX >> 1)),
        ("last_modified", quay_time()),
        ("manifest_digest", text()),
    ]);
    object([
        ("namespace", text()),
        ("name", text()),
        ("kind", one_of(["image"])),
        ("description", text()),
        ("is_public", boolean()),
        ("is_organization", boolean()),
        ("is_starred", boolean()),
        ("state", one_of(["NORMAL"])),
        ("can_write", boolean()),
        ("can_admin", boolean()),
        ("tags", map(tag).optional()),
    ])
}

/// A description of a repository or a group.
pub(super) fn description_schema() -> Schema {
    text().length(0, DESCRIPTION_MAX)
}
