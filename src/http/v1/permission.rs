//! The roles of users and groups in a repository, and the explanation of a user's rights.

use std::collections::BTreeMap;
use std::sync::Arc;

use hyper::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::answer::NoContent;
use super::endpoint::{Endpoint, delete, future, get, put, sync};
use super::input::{Call, NoQuery, PathValue, invalid};
use super::repository::existing;
use super::values::{Always, Avatar, GroupName, UserName};
use crate::content::rows::{Grantee, Role};
use crate::http::Context;
use crate::http::error::ApiError;
use crate::identity::access::{Action, Requires};
use crate::oci::{ErrorCode, RepositoryName};
use crate::registry::Explanation;

const INSPECT: Requires = Requires::Repository(Action::Inspect);
const ADMINISTER: Requires = Requires::Repository(Action::Administer);

/// The endpoints of this file. Those of users and groups have the same handlers.
pub(super) const ENDPOINTS: &[Endpoint] = &[
    get("/api/v1/repository/{repository}/permissions/user/", INSPECT, &sync(list_roles::<UserName>))
        .named("listRepoUserPermissions", "List the users with a role in a repository"),
    get("/api/v1/repository/{repository}/permissions/user/{username}", INSPECT, &sync(get_role::<UserName>))
        .named("getUserPermissions", "Get a user's role in a repository"),
    put("/api/v1/repository/{repository}/permissions/user/{username}", ADMINISTER, &future(set_role::<UserName>))
        .named("changeUserPermissions", "Give a user a role in a repository"),
    delete("/api/v1/repository/{repository}/permissions/user/{username}", ADMINISTER, &future(remove_role::<UserName>))
        .named("deleteUserPermissions", "Remove a user's role in a repository"),
    get("/api/v1/repository/{repository}/permissions/user/{username}/transitive", INSPECT, &sync(get_all_roles))
        .named("getUserTransitivePermission", "List a user's roles in a repository, of the user and of its groups"),
    get("/api/v1/repository/{repository}/permissions/team/", INSPECT, &sync(list_roles::<GroupName>))
        .named("listRepoTeamPermissions", "List the groups with a role in a repository"),
    get("/api/v1/repository/{repository}/permissions/team/{group}", INSPECT, &sync(get_role::<GroupName>))
        .named("getTeamPermissions", "Get a group's role in a repository"),
    put("/api/v1/repository/{repository}/permissions/team/{group}", ADMINISTER, &future(set_role::<GroupName>))
        .named("changeTeamPermissions", "Give a group a role in a repository"),
    delete("/api/v1/repository/{repository}/permissions/team/{group}", ADMINISTER, &future(remove_role::<GroupName>))
        .named("deleteTeamPermissions", "Remove a group's role in a repository"),
    get("/api/v1/superuser/access", Requires::SuperuserRead, &sync(explain_access))
        .named("explainAccess", "Explain a user's rights in a repository and the rules that grant them")
        .refuses(&[StatusCode::NOT_FOUND]),
    get("/api/v1/user/access", Requires::UserAdmin, &sync(explain_own_access))
        .named("explainOwnAccess", "Explain the user's own rights in a repository and the rules that grant them"),
];

/// Quay's roles in a repository.
#[derive(Clone, Copy, Debug, JsonSchema)]
#[schemars(inline, rename_all = "lowercase")]
#[expect(dead_code, reason = "only its schema is used")]
pub(super) enum RoleName {
    Read,
    Write,
    Admin,
}

#[derive(Debug, Serialize, JsonSchema)]
struct UserRole {
    #[schemars(with = "RoleName")]
    role: &'static str,
    name: String,
    is_robot: Always<false>,
    avatar: Avatar,
}

#[derive(Debug, Serialize, JsonSchema)]
struct GroupRole {
    #[schemars(with = "RoleName")]
    role: &'static str,
    name: String,
    avatar: Avatar,
}

/// Users or groups: Quay has the same endpoints for both.
trait Grantees: PathValue {
    const KIND: Grantee;
    type Role: Serialize + JsonSchema + Send + 'static;

    fn name(&self) -> &str;
    fn shown(name: &str, role: Role) -> Self::Role;
}

impl Grantees for UserName {
    const KIND: Grantee = Grantee::User;
    type Role = UserRole;

    fn name(&self) -> &str {
        &self.0
    }

    fn shown(name: &str, role: Role) -> UserRole {
        UserRole { role: role.as_str(), name: name.to_owned(), is_robot: Always, avatar: Avatar::of(name) }
    }
}

impl Grantees for GroupName {
    const KIND: Grantee = Grantee::Group;
    type Role = GroupRole;

    fn name(&self) -> &str {
        &self.0
    }

    fn shown(name: &str, role: Role) -> GroupRole {
        GroupRole { role: role.as_str(), name: name.to_owned(), avatar: Avatar::of(name) }
    }
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(inline)]
struct Roles<R> {
    permissions: BTreeMap<String, R>,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct RoleBody {
    #[schemars(with = "RoleName")]
    role: String,
}

fn list_roles<G: Grantees>(
    context: &Context<'_>,
    Call { path: name, .. }: Call<RepositoryName>,
) -> Result<Roles<G::Role>, ApiError> {
    existing(context, &name)?;
    let roles = roles(context, &name, G::KIND)?.into_iter();
    Ok(Roles { permissions: roles.map(|(who, role)| (who.clone(), G::shown(&who, role))).collect() })
}

fn get_role<G: Grantees>(
    context: &Context<'_>,
    Call { path: (name, who), .. }: Call<(RepositoryName, G)>,
) -> Result<G::Role, ApiError> {
    existing(context, &name)?;
    let role = roles(context, &name, G::KIND)?.into_iter().find(|(known, _)| known == who.name());
    let (_, role) = role.ok_or_else(|| ApiError::missing(ErrorCode::Unsupported, no_role(G::KIND)))?;
    Ok(G::shown(who.name(), role))
}

async fn set_role<G: Grantees>(
    context: &Context<'_>,
    Call { path: (name, who), body: RoleBody { role }, .. }: Call<(RepositoryName, G), NoQuery, RoleBody>,
) -> Result<G::Role, ApiError> {
    let role: Role = role.parse()?;
    existing(context, &name)?;
    refuse_owner(context, &name, &who)?;
    let shown = G::shown(who.name(), role);
    let (accounts, origin) = (Arc::clone(context.registry.accounts()), context.origin());
    context.blocking(move || accounts.set_permission(&name, G::KIND, who.name(), Some(role), &origin)).await?;
    Ok(shown)
}

async fn remove_role<G: Grantees>(
    context: &Context<'_>,
    Call { path: (name, who), .. }: Call<(RepositoryName, G)>,
) -> Result<NoContent, ApiError> {
    existing(context, &name)?;
    refuse_owner(context, &name, &who)?;
    let (accounts, origin) = (Arc::clone(context.registry.accounts()), context.origin());
    let removed = context.blocking(move || accounts.set_permission(&name, G::KIND, who.name(), None, &origin)).await?;
    // Quay answers with 400 here, and not with 404.
    if removed { Ok(NoContent) } else { Err(invalid(no_role(G::KIND))) }
}

#[derive(Debug, Serialize, JsonSchema)]
struct AllRoles {
    permissions: Vec<OneRole>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct OneRole {
    #[schemars(with = "RoleName")]
    role: &'static str,
}

fn get_all_roles(context: &Context<'_>, call: Call<(RepositoryName, UserName)>) -> Result<AllRoles, ApiError> {
    let (name, UserName(user)) = call.path;
    existing(context, &name)?;
    let roles = context.registry.roles(&user, &name)?;
    if roles.is_empty() {
        return Err(ApiError::missing(ErrorCode::Unsupported, "the user has no role in the repository"));
    }
    Ok(AllRoles { permissions: roles.into_iter().map(|role| OneRole { role: role.as_str() }).collect() })
}

#[derive(Debug, Deserialize, JsonSchema)]
struct ExplainAccessQuery {
    #[schemars(with = "RepositoryName")]
    repository: String,
    /// The default is an anonymous caller.
    username: Option<String>,
}

fn explain_access(context: &Context<'_>, call: Call<(), ExplainAccessQuery>) -> Result<Explanation, ApiError> {
    let ExplainAccessQuery { repository, username } = call.query;
    let name: RepositoryName =
        repository.parse().map_err(|_| invalid("the parameter repository is not a repository's name"))?;
    Ok(context.registry.explain(username.as_deref(), &name)?)
}

#[derive(Debug, Deserialize, JsonSchema)]
struct ExplainOwnAccessQuery {
    #[schemars(with = "RepositoryName")]
    repository: String,
}

fn explain_own_access(context: &Context<'_>, call: Call<(), ExplainOwnAccessQuery>) -> Result<Explanation, ApiError> {
    let ExplainOwnAccessQuery { repository } = call.query;
    let name: RepositoryName =
        repository.parse().map_err(|_| invalid("the parameter repository is not a repository's name"))?;
    Ok(context.registry.explain_own(context.account()?, &name)?)
}

fn roles(context: &Context<'_>, name: &RepositoryName, kind: Grantee) -> Result<Vec<(String, Role)>, ApiError> {
    let permissions = context.registry.accounts().permissions(name)?;
    Ok(match kind {
        Grantee::User => permissions.users.clone(),
        Grantee::Group => permissions.groups.clone(),
    })
}

/// Quay's words.
fn no_role(kind: Grantee) -> String {
    let who = if kind == Grantee::User { "User" } else { "Team" };
    format!("{who} does not have permission for repo.")
}

fn refuse_owner<G: Grantees>(context: &Context<'_>, name: &RepositoryName, who: &G) -> Result<(), ApiError> {
    if G::KIND != Grantee::User || name.as_str() == name.namespace() {
        return Ok(());
    }
    let account = context.registry.accounts().account(who.name())?;
    if account.is_some_and(|account| account.namespace.as_deref() == Some(name.namespace())) {
        return Err(invalid("Namespace owner must always be admin."));
    }
    Ok(())
}
