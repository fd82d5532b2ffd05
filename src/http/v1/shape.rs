//! [`Shape`]: what each endpoint takes and gives. What follows from its row (who may, and so what is
//! refused) is not said here; [`super::discovery`] puts both together.
//!
//! To add an endpoint: an arm in [`of`]. The schema of what is shown in several places stands with
//! the handler that makes it. Parameters of paths have their schemas by name, in [`in_path`].

use hyper::StatusCode;

use super::schema::{
    Schema, boolean, day, integer, line, list_of, map, object, one_of, rfc3339, success, switch, text, uuid,
};
use super::{discovery, group, log, permission, repository, session, signin, superuser, tag, token, user};
use crate::content::rows::Grantee;
use crate::http::error::ERROR_TYPES;
use crate::http::route::Endpoint;
use crate::identity::accounts::{LABEL_MAX, PASSWORD_MAX, PASSWORD_MIN, SCOPE_LENGTH_MAX, SCOPES_MAX};

/// What an endpoint takes and gives.
#[derive(Debug, Default)]
pub(super) struct Shape {
    pub(super) query: Vec<(&'static str, Schema)>,
    pub(super) body: Option<Schema>,
    /// Nothing: 204.
    pub(super) answer: Option<Schema>,
    /// Whether the answer says that something was made: 201.
    pub(super) creates: bool,
    /// Headers of the answer; an optional one is not always there.
    pub(super) headers: Vec<(&'static str, Schema)>,
    /// What is refused besides what every endpoint with such a row refuses.
    pub(super) refusals: Vec<StatusCode>,
}

/// An endpoint that answers with JSON.
fn gives(answer: Schema) -> Shape {
    Shape { answer: Some(answer), ..Shape::default() }
}

/// An endpoint that answers with nothing.
fn gives_nothing() -> Shape {
    Shape::default()
}

impl Shape {
    /// Takes a body with these fields.
    fn takes<const N: usize>(mut self, fields: [(&str, Schema); N]) -> Self {
        self.body = Some(object(fields));
        self
    }

    /// Takes a body with these fields and no others.
    fn takes_only<const N: usize>(mut self, fields: [(&str, Schema); N]) -> Self {
        self.body = Some(object(fields).closed());
        self
    }

    fn query(mut self, name: &'static str, schema: Schema) -> Self {
        self.query.push((name, schema.optional()));
        self
    }

    /// Cannot do without this parameter.
    fn needs(mut self, name: &'static str, schema: Schema) -> Self {
        self.query.push((name, schema));
        self
    }

    /// Sets or removes the session's cookie.
    fn sets_cookie(mut self) -> Self {
        self.headers.push(("Set-Cookie", text().optional()));
        self
    }

    /// Looks at a password: whoever guesses has to wait, and whoever does not goes on with another
    /// CSRF token.
    fn verifies_password(mut self) -> Self {
        self.headers.push(("X-Next-CSRF-Token", csrf_token()));
        self.refuses(StatusCode::TOO_MANY_REQUESTS)
    }

    /// Whoever has signed in by it goes on with another CSRF token.
    fn may_begin(mut self) -> Self {
        self.headers.push(("X-Next-CSRF-Token", csrf_token().optional()));
        self
    }

    /// Does what was asked for, and may say that it is of no use.
    fn may_warn(mut self) -> Self {
        self.headers.push(("Warning", text().pattern("^299 - \"[^\"]*\"$").optional()));
        self
    }

    /// Answers with 201.
    fn creates(mut self) -> Self {
        self.creates = true;
        self
    }

    fn refuses(mut self, status: StatusCode) -> Self {
        self.refusals.push(status);
        self
    }
}

/// The shape of an endpoint.
#[expect(clippy::too_many_lines, reason = "an arm for each endpoint")]
pub(super) fn of(endpoint: Endpoint) -> Shape {
    match endpoint {
        Endpoint::Csrf => gives(object([("csrf_token", csrf_token())])).sets_cookie(),
        Endpoint::Signin => {
            gives(success()).takes([("username", text()), ("password", text())]).verifies_password().sets_cookie()
        }
        Endpoint::Verify => gives(success()).takes([("password", text())]).verifies_password(),
        Endpoint::Signout => gives(success()).query("everywhere", switch()).sets_cookie(),
        Endpoint::ListProviders => gives(signin::providers_schema()),
        Endpoint::BeginDevice => {
            gives(signin::device_schema()).takes([("provider", text())]).refuses(StatusCode::TOO_MANY_REQUESTS)
        }
        Endpoint::PollDevice => {
            let shape = gives(signin::device_token_schema()).takes([("handle", text())]).sets_cookie();
            shape.may_begin().refuses(StatusCode::TOO_MANY_REQUESTS)
        }
        Endpoint::ExchangeCode => {
            gives(success()).takes([("code", text()), ("code_verifier", text())]).sets_cookie().may_begin()
        }
        Endpoint::ListSessions => gives(object([("sessions", list_of(session::schema()))])),
        Endpoint::GetUser => gives(user::own_schema()),
        Endpoint::ChangeUser => {
            gives(user::own_schema()).takes([("password", new_password().or_none()), ("email", email().or_none())])
        }
        Endpoint::PublicUser => gives(object([("username", text()), ("avatar", user::avatar_schema())])),
        Endpoint::ListTokens => gives(token::list_schema(token::schema())).query("expiring", switch()),
        Endpoint::CreateToken => gives(object([("token", token::secret_schema())]))
            .takes_only([
                ("title", line().length(0, LABEL_MAX)),
                ("scopes", list_of(scope()).at_most(SCOPES_MAX).or_none()),
                ("expiration", rfc3339().or_none()),
                // In seconds, in place of the expiration.
                ("lifetime", integer(1, token::LIFETIME_MAX).or_none()),
            ])
            .may_warn(),
        Endpoint::GetToken => gives(object([("token", token::schema())])),
        Endpoint::ListAllTokens => gives(token::list_schema(token::owned_schema())),
        Endpoint::UserLogs => log_page(gives(log::page_schema(log::schema()))),
        Endpoint::AllLogs => log_page(gives(log::page_schema(log::account_schema()))),
        Endpoint::ListUsers => {
            gives(object([("users", list_of(superuser::schema())), ("next_page", text().optional())]))
                .query("limit", integer(1, superuser::PAGE_MAX))
                .query("disabled", switch())
                .query("next_page", text())
        }
        Endpoint::CreateUser => {
            gives(object([("username", user_name()), ("email", email().or_null()), ("password", text())]))
                .takes([("username", user_name()), ("email", email().or_none())])
        }
        Endpoint::GetAnyUser => gives(superuser::schema()),
        Endpoint::ChangeAnyUser => gives(superuser::schema()).takes_only([
            ("password", new_password().or_none()),
            ("email", email().or_none()),
            ("enabled", boolean().or_none()),
            ("groups", groups().or_none()),
        ]),
        Endpoint::ListRepositories => {
            gives(object([("repositories", list_of(repository::listed_schema())), ("next_page", text().optional())]))
                .query("namespace", text().length(1, crate::oci::NAME_LENGTH_MAX).pattern(NAMESPACE))
                .query("public", switch())
                .query("next_page", text().length(1, crate::oci::NAME_LENGTH_MAX).pattern(REPOSITORY))
        }
        Endpoint::CreateRepository => {
            let kind = || one_of(["image"]);
            gives(object([("namespace", text()), ("name", text()), ("kind", kind())]))
                .takes([
                    ("repository", text().length(1, crate::oci::NAME_LENGTH_MAX).pattern(REPOSITORY)),
                    ("visibility", visibility()),
                    ("description", repository::description_schema()),
                    // Without one the repository's name has one part.
                    ("namespace", text().length(0, crate::oci::NAME_LENGTH_MAX).pattern(NO_NAMESPACE).or_none()),
                    ("repo_kind", kind().or_none()),
                ])
                .creates()
                .refuses(StatusCode::FORBIDDEN)
        }
        Endpoint::GetRepository => gives(repository::schema()).query("includeTags", switch()),
        Endpoint::ChangeRepository => gives(success()).takes([("description", repository::description_schema())]),
        Endpoint::ChangeVisibility => gives(success()).takes([("visibility", visibility())]),
        Endpoint::ListUserRoles => roles(Grantee::User),
        Endpoint::ListGroupRoles => roles(Grantee::Group),
        Endpoint::GetUserRole => gives(permission::schema(Grantee::User)),
        Endpoint::GetGroupRole => gives(permission::schema(Grantee::Group)),
        Endpoint::SetUserRole => gives(permission::schema(Grantee::User)).takes([("role", permission::role_schema())]),
        Endpoint::SetGroupRole => {
            gives(permission::schema(Grantee::Group)).takes([("role", permission::role_schema())])
        }
        Endpoint::GetAllRoles => {
            gives(object([("permissions", list_of(object([("role", permission::role_schema())])))]))
        }
        Endpoint::ExplainAccess => gives(permission::explanation_schema())
            .query("username", text())
            .needs("repository", text().length(1, crate::oci::NAME_LENGTH_MAX).pattern(REPOSITORY))
            .refuses(StatusCode::NOT_FOUND),
        Endpoint::ListGroups => gives(object([("groups", list_of(group::listed_schema()))])),
        Endpoint::SetGroup => gives(group::set_schema()).takes_only([
            ("role", group::role_schema().or_none()),
            ("description", repository::description_schema().or_none()),
        ]),
        Endpoint::ListMembers => {
            gives(object([("name", text()), ("members", list_of(group::member_schema())), ("can_edit", boolean())]))
        }
        Endpoint::AddMember => gives(group::member_schema()),
        Endpoint::GroupRoles => gives(group::permissions_schema()),
        Endpoint::ListRefreshTokens => gives(object([("tokens", list_of(token::refresh_schema()))])),
        Endpoint::ListTags => gives(tag::list_schema())
            .query("specificTag", text())
            .query("filter_tag_name", text().pattern("^$|^(like|eq):"))
            .query("onlyActiveTags", switch())
            // Any number: what is too small or too large is brought within its bounds, as in Quay.
            .query("page", text().pattern("^[0-9]+$"))
            .query("limit", text().pattern("^[0-9]+$")),
        Endpoint::ChangeTag => gives(one_of(["Updated"]))
            .takes([
                ("manifest_digest", tag::digest_schema().or_none()),
                ("expiration", tag::expiry_schema().or_none()),
            ])
            .creates(),
        Endpoint::RestoreTag => gives(object([])).takes([("manifest_digest", tag::digest_schema())]),
        Endpoint::ExpireTag => gives(one_of([""])).takes([
            ("manifest_digest", tag::digest_schema().or_none()),
            ("include_submanifests", boolean().or_none()),
            ("is_alive", boolean().or_none()),
        ]),
        Endpoint::DeleteRepository
        | Endpoint::DeleteTag
        | Endpoint::RemoveUserRole
        | Endpoint::RemoveGroupRole
        | Endpoint::RemoveGroup
        | Endpoint::RemoveMember
        | Endpoint::EndRefreshToken
        | Endpoint::EndSession
        | Endpoint::DeleteUser
        | Endpoint::DeleteAnyUser
        | Endpoint::RevokeToken
        | Endpoint::RevokeAnyToken => gives_nothing(),
        Endpoint::ErrorType => gives(object([("title", error_type()), ("type", text()), ("description", text())])),
        Endpoint::Discovery => gives(discovery::schema()),
    }
}

/// The schema of a parameter in a path: a name means the same everywhere.
pub(super) fn in_path(name: &str) -> Schema {
    match name {
        "session_id" | "token_uuid" => uuid(),
        "error_type" => error_type(),
        "repository" => text().length(1, crate::oci::NAME_LENGTH_MAX).pattern(REPOSITORY),
        "group" => line().length(1, 255),
        "tag" => text().pattern("^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$"),
        _ => text().length(1, 255),
    }
}

/// The roles in a repository, by the name of who has them.
fn roles(kind: Grantee) -> Shape {
    gives(object([("permissions", map(permission::schema(kind)))]))
}

fn visibility() -> Schema {
    one_of(["public", "private"])
}

/// Both lists of what was done to accounts.
fn log_page(shape: Shape) -> Shape {
    let next_page = text().pattern("^[0-9]+-[0-9]+$");
    shape.query("starttime", day()).query("endtime", day()).query("next_page", next_page)
}

fn csrf_token() -> Schema {
    text().pattern("^[A-Za-z0-9_-]{64}$")
}

fn error_type() -> Schema {
    one_of(ERROR_TYPES.iter().map(|(title, _)| *title))
}

/// The name of a user who is to be made; others may be in a file.
fn user_name() -> Schema {
    text().pattern("^[A-Za-z0-9][A-Za-z0-9._@+$-]{0,254}$")
}

fn groups() -> Schema {
    list_of(line().length(1, superuser::GROUP_MAX)).at_most(superuser::GROUPS_MAX)
}

/// A password that somebody chooses.
fn new_password() -> Schema {
    text().length(PASSWORD_MIN, PASSWORD_MAX).pattern(&format!("^[^{BLANKS}]*$"))
}

fn email() -> Schema {
    text().length(3, user::EMAIL_MAX).pattern(&format!("^[^@{BLANKS}]+@[^{BLANKS}]+$"))
}

/// What Unicode calls white space, and what it calls control characters, for a regular expression:
/// libraries differ in what `\s` stands for.
const BLANKS: &str = r"\x00-\x20\x7f-\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000";

/// The grammar of a repository's name (distribution-spec, "Pulling manifests").
const REPOSITORY: &str = r"^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*$";

/// The first component of one, or none.
const NO_NAMESPACE: &str = r"^([a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)?$";

/// The first component of one.
const NAMESPACE: &str = r"^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*$";

/// What an API key is limited to.
fn scope() -> Schema {
    let action = r"(pull|push|delete|\*)";
    text().length(1, SCOPE_LENGTH_MAX).pattern(&format!(r"^[a-z0-9/._*?{{}},!^\[\]-]+(:{action}(,{action})*)?$"))
}
