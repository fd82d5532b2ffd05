//! Repositories, in Quay's shapes.

use std::collections::BTreeMap;
use std::sync::Arc;

use hyper::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::answer::{Created, NoContent, Success};
use super::endpoint::{Endpoint, delete, future, get, post, put};
use super::input::{Call, NoQuery, invalid};
use super::path::means_repository;
use super::values::{Always, NAMESPACE, NO_NAMESPACE, QuayTime, REPOSITORY, Switch};
use crate::content::repository::{self, Amount, Repository};
use crate::content::rows::SettingsRow;
use crate::http::Context;
use crate::http::error::ApiError;
use crate::identity::access::{Access, Action, Actions, Requires};
use crate::identity::accounts::{Accounts, DESCRIPTION_MAX};
use crate::oci::{Digest, NAME_LENGTH_MAX, RepositoryName};
use crate::registry::MirrorSource;

/// The endpoints of this file.
pub(super) const ENDPOINTS: &[Endpoint] = &[
    get("/api/v1/repository", Requires::Anyone, &future(list_repositories))
        .named("listRepos", "List the repositories that the caller may pull from"),
    post("/api/v1/repository", Requires::SignedIn, &future(create_repository))
        .named("createRepo", "Create an empty repository")
        .refuses(&[StatusCode::FORBIDDEN, StatusCode::TOO_MANY_REQUESTS]),
    post(
        "/api/v1/repository/{repository}/changevisibility",
        Requires::Repository(Action::Administer),
        &future(change_visibility),
    )
    .named("changeRepoVisibility", "Make a repository public or private"),
    get("/api/v1/repository/{repository}", Requires::Repository(Action::Pull), &future(get_repository))
        .named("getRepo", "Get a repository with its tags"),
    put("/api/v1/repository/{repository}", Requires::Repository(Action::Push), &future(change_repository))
        .named("updateRepo", "Describe a repository"),
    delete("/api/v1/repository/{repository}", Requires::Repository(Action::Administer), &future(delete_repository))
        .named("deleteRepository", "Delete a repository with everything in it")
        .refuses(&[StatusCode::CONFLICT]),
];

/// The number of repositories on a page of Quay.
const PAGE: usize = 100;
/// The number of tags that Quay shows with their repository.
const TAGS_MAX: usize = 500;

/// The only kind of repository that coracle has.
#[derive(Clone, Copy, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
enum RepositoryKind {
    Image,
}

/// The only state of a repository that coracle has.
#[derive(Clone, Copy, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
#[schemars(inline)]
enum RepositoryState {
    Normal,
}

/// Public repositories can be pulled from without credentials.
#[derive(Clone, Copy, Debug, JsonSchema)]
#[schemars(rename_all = "lowercase")]
#[expect(dead_code, reason = "only its schema is used")]
enum Visibility {
    Public,
    Private,
}

/// Quay wants one of the first two; here all repositories are listed without them.
#[derive(Debug, Deserialize, JsonSchema)]
struct ListRepositoriesQuery {
    #[schemars(length(min = 1, max = NAME_LENGTH_MAX), regex(pattern = NAMESPACE))]
    namespace: Option<String>,
    /// Whether to list public repositories only.
    public: Option<Switch>,
    #[schemars(length(min = 1, max = NAME_LENGTH_MAX), regex(pattern = REPOSITORY))]
    next_page: Option<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Repositories {
    repositories: Vec<RepositoryInList>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    next_page: Option<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct RepositoryInList {
    namespace: String,
    name: String,
    description: String,
    is_public: bool,
    kind: RepositoryKind,
    state: RepositoryState,
    is_starred: Always<false>,
    quota_report: QuotaReport,
}

/// The use of the quota of a repository.
#[derive(Debug, Serialize, JsonSchema)]
struct QuotaReport {
    /// The bytes of the blobs of the repository.
    quota_bytes: u64,
    /// The most bytes that the repository may have, or else its namespace. Null without a quota.
    configured_quota: Option<u64>,
}

impl QuotaReport {
    fn new(context: &Context<'_>, name: &RepositoryName) -> Result<Self, ApiError> {
        let quotas = context.registry.repository(name).quotas()?;
        let quota = quotas.iter().find(|quota| quota.amount == Amount::Size);
        let totals = context.registry.stores().totals(name)?;
        Ok(Self {
            quota_bytes: totals.map_or(0, |totals| totals.size),
            configured_quota: quota.map(|quota| quota.limit),
        })
    }
}

async fn list_repositories(
    context: &Context<'_>,
    call: Call<(), ListRepositoriesQuery>,
) -> Result<Repositories, ApiError> {
    let ListRepositoriesQuery { namespace, public, next_page } = call.query;
    let only_public = public == Some(Switch(true));
    let is_name = |text: &str| text.parse::<RepositoryName>().is_ok();
    if namespace.as_deref().is_some_and(|namespace| !is_name(namespace) || namespace.contains('/')) {
        return Err(invalid("the parameter namespace is the first part of repositories' names"));
    }
    if next_page.as_deref().is_some_and(|after| !is_name(after)) {
        return Err(invalid("the parameter next_page is not one that a list gave"));
    }
    let prefix = namespace.map(|namespace| format!("{namespace}/")).unwrap_or_default();
    let after = next_page.unwrap_or_default();
    let accounts = context.registry.accounts();
    let view = context.registry.catalog_view(context.caller);
    let page = context.blocking(move || view.page((&prefix, &after), PAGE, only_public)).await?;
    let mut repositories = Vec::new();
    for name in page.names.iter().filter_map(|name| name.parse::<RepositoryName>().ok()) {
        let settings = accounts.repository_settings(&name)?;
        let quota_report = QuotaReport::new(context, &name)?;
        let (namespace, name) = split(&name);
        repositories.push(RepositoryInList {
            namespace,
            name,
            description: settings.description,
            is_public: settings.public,
            kind: RepositoryKind::Image,
            state: RepositoryState::Normal,
            is_starred: Always,
            quota_report,
        });
    }
    Ok(Repositories { repositories, next_page: page.next })
}

#[derive(Debug, Deserialize, JsonSchema)]
struct CreateRepositoryBody {
    #[schemars(length(min = 1, max = NAME_LENGTH_MAX), regex(pattern = REPOSITORY))]
    repository: String,
    #[schemars(with = "Visibility")]
    visibility: String,
    #[schemars(length(max = DESCRIPTION_MAX))]
    description: String,
    /// The first part of the name. The default is the user's own namespace. An empty one gives a name of one part.
    #[schemars(length(max = NAME_LENGTH_MAX), regex(pattern = NO_NAMESPACE))]
    namespace: Option<String>,
    #[schemars(with = "Option<RepositoryKind>")]
    repo_kind: Option<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct CreatedRepository {
    namespace: String,
    name: String,
    kind: RepositoryKind,
}

async fn create_repository(
    context: &Context<'_>,
    call: Call<(), NoQuery, CreateRepositoryBody>,
) -> Result<Created<CreatedRepository>, ApiError> {
    let CreateRepositoryBody { repository, visibility, description, namespace, repo_kind } = call.body;
    if repo_kind.is_some_and(|kind| kind != "image") {
        return Err(invalid("repo_kind is image: other kinds are not supported"));
    }
    let public = is_public(&visibility)?;
    let account = context.account()?;
    let namespace = namespace.unwrap_or_else(|| Accounts::default_namespace(account));
    let name = if namespace.is_empty() { repository } else { format!("{namespace}/{repository}") };
    let name: RepositoryName = name.parse().map_err(|_| invalid("Invalid repository name"))?;
    if !means_repository(&name) {
        return Err(invalid(format!(
            "the name {name} ends like a path of this API, which would mean another repository"
        )));
    }
    let need = |action| {
        let access = Access::Repository(name.clone(), Actions::of(action));
        Ok::<_, ApiError>(context.registry.decide(context.caller, &access)??)
    };
    // Only callers who may create the repository learn that it exists.
    need(Action::Push)?;
    // A public repository needs the same right as changevisibility.
    if public {
        need(Action::Administer)?;
    }
    check_description(&description)?;
    let repository = authored(context, &name);
    let settings = SettingsRow { public, description };
    if !context.blocking(move || repository.create(settings)).await? {
        return Err(invalid("Repository already exists"));
    }
    let (namespace, name) = split(&name);
    Ok(Created(CreatedRepository { namespace, name, kind: RepositoryKind::Image }))
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct GetRepositoryQuery {
    /// Whether to show tags. The default is true.
    include_tags: Option<Switch>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct ShownRepository {
    namespace: String,
    name: String,
    kind: RepositoryKind,
    description: String,
    is_public: bool,
    is_organization: Always<false>,
    is_starred: Always<false>,
    state: RepositoryState,
    can_write: bool,
    can_admin: bool,
    quota_report: QuotaReport,
    /// The source of mirrored content. Absent if the repository has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "MirrorSource")]
    mirror: Option<MirrorSource>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "BTreeMap<String, ShownTag>")]
    tags: Option<BTreeMap<String, ShownTag>>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct ShownTag {
    name: String,
    size: u64,
    last_modified: QuayTime,
    #[schemars(with = "Digest")]
    manifest_digest: String,
}

async fn get_repository(
    context: &Context<'_>,
    call: Call<RepositoryName, GetRepositoryQuery>,
) -> Result<ShownRepository, ApiError> {
    let full_name = call.path;
    let repository = existing(context, &full_name)?;
    let settings = context.registry.accounts().repository_settings(&full_name)?;
    let actions = context.registry.actions(context.caller, &full_name)?;
    let mut tags = None;
    if call.query.include_tags != Some(Switch(false)) {
        // Weighing the images of many tags takes time.
        let tagged = context.blocking(move || repository.tagged(TAGS_MAX)).await?.into_iter();
        let shown = tagged.map(|tagged| ShownTag {
            name: tagged.tag,
            size: tagged.size,
            last_modified: QuayTime(tagged.moved),
            manifest_digest: tagged.digest.to_string(),
        });
        tags = Some(shown.map(|tag| (tag.name.clone(), tag)).collect());
    }
    let (namespace, name) = split(&full_name);
    Ok(ShownRepository {
        namespace,
        name,
        kind: RepositoryKind::Image,
        description: settings.description,
        is_public: settings.public,
        is_organization: Always,
        is_starred: Always,
        state: RepositoryState::Normal,
        can_write: actions.has(Action::Push),
        can_admin: actions.has(Action::Administer),
        quota_report: QuotaReport::new(context, &full_name)?,
        mirror: context.registry.mirror_source(&full_name)?,
        tags,
    })
}

#[derive(Debug, Deserialize, JsonSchema)]
struct DescriptionBody {
    #[schemars(length(max = DESCRIPTION_MAX))]
    description: String,
}

async fn change_repository(
    context: &Context<'_>,
    call: Call<RepositoryName, NoQuery, DescriptionBody>,
) -> Result<Success, ApiError> {
    check_description(&call.body.description)?;
    change(context, call.path, None, Some(call.body.description)).await
}

#[derive(Debug, Deserialize, JsonSchema)]
struct VisibilityBody {
    #[schemars(with = "Visibility")]
    visibility: String,
}

async fn change_visibility(
    context: &Context<'_>,
    call: Call<RepositoryName, NoQuery, VisibilityBody>,
) -> Result<Success, ApiError> {
    change(context, call.path, Some(is_public(&call.body.visibility)?), None).await
}

async fn change(
    context: &Context<'_>,
    name: RepositoryName,
    public: Option<bool>,
    description: Option<String>,
) -> Result<Success, ApiError> {
    existing(context, &name)?;
    let (accounts, origin) = (Arc::clone(context.registry.accounts()), context.origin());
    context.blocking(move || accounts.change_repository(&name, public, description, &origin)).await?;
    Ok(Success::DONE)
}

async fn delete_repository(context: &Context<'_>, call: Call<RepositoryName>) -> Result<NoContent, ApiError> {
    existing(context, &call.path)?;
    let repository = authored(context, &call.path);
    context.blocking(move || repository.remove()).await?;
    Ok(NoContent)
}

/// The repository, with the caller as the author of its changes.
pub(super) fn authored(context: &Context<'_>, name: &RepositoryName) -> Repository {
    context.registry.repository(name).by(context.registry.accounts().author(context.origin()))
}

/// The repository, if it exists. Callers who come here may know that it does not.
pub(super) fn existing(context: &Context<'_>, name: &RepositoryName) -> Result<Repository, ApiError> {
    let repository = context.registry.repository(name);
    if repository.is_known()? {
        return Ok(repository);
    }
    Err(repository::Error::RepositoryUnknown { name: name.clone() }.into())
}

/// Quay's two parts of a name: the namespace, which is empty in a name of one part, and the rest.
fn split(name: &RepositoryName) -> (String, String) {
    let (namespace, rest) = name.as_str().split_once('/').unwrap_or(("", name.as_str()));
    (namespace.to_owned(), rest.to_owned())
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
