//! Quay's API v1 as rows: the method, the path, the name, and what the caller must be.
//!
//! The router, the access decision and the discovery document are all made from these rows, and the
//! table of routes × callers (`tests/it/accounts/routes.txt`) has a line for each. To add an endpoint: add a
//! row here, an arm in `http::v1::dispatch`, and the handler; what it takes and gives in `http::v1::shape`.

use hyper::Method;

use crate::identity::access::Action::{Administer, Delete, Inspect, Pull, Push, Update};
use crate::identity::access::Requires::{
    self, Anyone, FreshLogin, FreshLoginOrKey, FreshSuperuser, FreshSuperuserRead, OwnKeys, Repository, Session,
    SignedIn, Superuser, SuperuserRead, UserAdmin,
};

/// The segment that stands for a repository's name.
pub(crate) const REPOSITORY: &str = "{repository}";

/// Makes the enum, its list and its rows.
macro_rules! endpoints {
    ($($name:ident $method:ident $path:literal $nickname:literal $requires:expr, $summary:literal;)*) => {
        /// An endpoint of API v1.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub(crate) enum Endpoint {
            $(#[doc = $summary] $name,)*
        }

        impl Endpoint {
            /// Every endpoint.
            pub(crate) const ALL: &[Self] = &[$(Self::$name),*];

            /// What is known of the endpoint.
            pub(crate) const fn row(self) -> Row {
                match self {
                    $(Self::$name => Row {
                        method: Method::$method,
                        path: $path,
                        nickname: $nickname,
                        requires: $requires,
                        summary: $summary,
                    },)*
                }
            }
        }
    };
}

/// What is known of an endpoint.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) method: Method,
    /// A segment in braces stands for anything but a slash, `{repository}` for a repository's name,
    /// slashes and all. A slash at the end may be left out, and one may be added.
    pub(crate) path: &'static str,
    /// Quay's name for it, where Quay has it.
    pub(crate) nickname: &'static str,
    pub(crate) requires: Requires,
    pub(crate) summary: &'static str,
}

impl Row {
    /// The names of the segments in braces.
    pub(crate) fn values(&self) -> impl Iterator<Item = &'static str> {
        self.path.split('/').filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'))
    }
}

endpoints! {
    Csrf           GET    "/csrf_token"                            "getCsrfToken"         Anyone,         "The token that unsafe requests of a browser carry";
    Signin         POST   "/api/v1/signin"                         "signinUser"           Anyone,         "Begin a session with a password";
    Verify         POST   "/api/v1/signin/verify"                  "verifyUser"           Session,        "Give the password once more, for what needs a fresh login";
    ListProviders  GET    "/api/v1/signin/providers"               "listSigninProviders"  Anyone,         "What one can sign in with";
    BeginDevice    POST   "/api/v1/signin/device"                  "beginDeviceSignin"    Anyone,         "Begin to sign in through a provider with another device";
    PollDevice     POST   "/api/v1/signin/device/token"            "pollDeviceSignin"     Anyone,         "What has become of signing in with another device";
    ExchangeCode   POST   "/api/v1/signin/code"                    "exchangeSigninCode"   Anyone,         "Begin a session with the code that a browser has brought back to a program";
    Signout        POST   "/api/v1/signout"                        "logout"               Anyone,         "End this session, or with everywhere=true all of one's own";
    GetUser        GET    "/api/v1/user/"                          "getLoggedInUser"      SignedIn,       "Who am I to this registry";
    ChangeUser     PUT    "/api/v1/user/"                          "changeUserDetails"    FreshLogin,     "Change one's password or address";
    DeleteUser     DELETE "/api/v1/user/"                          "deleteCurrentUser"    FreshLogin,     "Delete oneself, with all keys and sessions";
    ListSessions   GET    "/api/v1/user/sessions"                  "listUserSessions"     UserAdmin,      "One's own sessions";
    EndSession     DELETE "/api/v1/user/sessions/{session_id}"     "endUserSession"       UserAdmin,      "End one of one's own sessions";
    ListTokens     GET    "/api/v1/user/apptoken"                  "listAppTokens"        OwnKeys,        "One's own API keys";
    CreateToken    POST   "/api/v1/user/apptoken"                  "createAppToken"       FreshLogin,     "Make an API key; its secret is shown once";
    GetToken       GET    "/api/v1/user/apptoken/{token_uuid}"     "getAppToken"          FreshLogin,     "One of one's own API keys, without its secret";
    RevokeToken    DELETE "/api/v1/user/apptoken/{token_uuid}"     "revokeAppToken"       FreshLoginOrKey, "Revoke one of one's own API keys; a key may revoke itself";
    UserLogs       GET    "/api/v1/user/logs"                      "listUserLogs"         UserAdmin,      "What was done to one's own account";
    ListUsers      GET    "/api/v1/superuser/users/"               "listAllUsers"         SuperuserRead,  "Every user";
    CreateUser     POST   "/api/v1/superuser/users/"               "createInstallUser"    FreshSuperuser, "Make a user with a generated password";
    GetAnyUser     GET    "/api/v1/superuser/users/{username}"     "getInstallUser"       SuperuserRead,  "One user";
    ChangeAnyUser  PUT    "/api/v1/superuser/users/{username}"     "changeInstallUser"    FreshSuperuser, "Change a user's password, address, groups or whether they may sign in";
    DeleteAnyUser  DELETE "/api/v1/superuser/users/{username}"     "deleteInstallUser"    Superuser,      "Delete a user, with all keys and sessions";
    ListAllTokens  GET    "/api/v1/superuser/apptokens"            "listAllAppTokens"     FreshSuperuserRead, "Everybody's API keys";
    RevokeAnyToken DELETE "/api/v1/superuser/apptokens/{token_uuid}" "revokeAnyAppToken"  Superuser,      "Revoke anybody's API key";
    AllLogs        GET    "/api/v1/superuser/logs"                 "listAllLogs"          SuperuserRead,  "What was done to all accounts";
    PublicUser     GET    "/api/v1/users/{username}"               "getUserInformation"   SignedIn,       "What others may know of a user";
    ListRepositories  GET    "/api/v1/repository"                           "listRepos"            Anyone,                 "The repositories that one may pull from";
    CreateRepository  POST   "/api/v1/repository"                           "createRepo"           SignedIn,               "Make an empty repository";
    ListTags          GET    "/api/v1/repository/{repository}/tag/"                                      "listRepoTags"               Repository(Pull),       "A repository's tags and what they pointed at, the latest first";
    ChangeTag         PUT    "/api/v1/repository/{repository}/tag/{tag}"                                 "changeTag"                  Repository(Update),     "Make or move a tag, or say when it is to be removed";
    DeleteTag         DELETE "/api/v1/repository/{repository}/tag/{tag}"                                 "deleteFullTag"              Repository(Delete),     "Delete a tag; it can be restored for some time";
    RestoreTag        POST   "/api/v1/repository/{repository}/tag/{tag}/restore"                         "restoreTag"                 Repository(Update),     "Point a tag at what it pointed at before";
    ExpireTag         POST   "/api/v1/repository/{repository}/tag/{tag}/expire"                          "removeTagFromTimemachine"   Repository(Delete),     "Forget what a tag pointed at before, or delete it, for good";
    ListUserRoles     GET    "/api/v1/repository/{repository}/permissions/user/"            "listRepoUserPermissions"    Repository(Inspect),    "The users with a role in a repository";
    GetUserRole       GET    "/api/v1/repository/{repository}/permissions/user/{username}"  "getUserPermissions"         Repository(Inspect),    "A user's role in a repository";
    SetUserRole       PUT    "/api/v1/repository/{repository}/permissions/user/{username}"  "changeUserPermissions"      Repository(Administer), "Give a user a role in a repository";
    RemoveUserRole    DELETE "/api/v1/repository/{repository}/permissions/user/{username}"  "deleteUserPermissions"      Repository(Administer), "Take a user's role in a repository away";
    GetAllRoles       GET    "/api/v1/repository/{repository}/permissions/user/{username}/transitive" "getUserTransitivePermission" Repository(Inspect), "A user's roles in a repository, by whatever path";
    ListGroupRoles    GET    "/api/v1/repository/{repository}/permissions/team/"            "listRepoTeamPermissions"    Repository(Inspect),    "The groups with a role in a repository";
    GetGroupRole      GET    "/api/v1/repository/{repository}/permissions/team/{group}"     "getTeamPermissions"         Repository(Inspect),    "A group's role in a repository";
    SetGroupRole      PUT    "/api/v1/repository/{repository}/permissions/team/{group}"     "changeTeamPermissions"      Repository(Administer), "Give a group a role in a repository";
    RemoveGroupRole   DELETE "/api/v1/repository/{repository}/permissions/team/{group}"     "deleteTeamPermissions"      Repository(Administer), "Take a group's role in a repository away";
    ChangeVisibility  POST   "/api/v1/repository/{repository}/changevisibility"             "changeRepoVisibility"       Repository(Administer), "Let everybody pull from a repository, or not";
    GetRepository     GET    "/api/v1/repository/{repository}"              "getRepo"              Repository(Pull),       "A repository, with its tags";
    ChangeRepository  PUT    "/api/v1/repository/{repository}"              "updateRepo"           Repository(Push),       "Describe a repository";
    DeleteRepository  DELETE "/api/v1/repository/{repository}"              "deleteRepository"     Repository(Administer), "Remove a repository with everything in it";
    ListGroups        GET    "/api/v1/group/"                               "listGroups"           SuperuserRead,          "Every group that something is said about";
    SetGroup          PUT    "/api/v1/group/{group}"                        "updateGroup"          FreshSuperuser,         "Make a group, or change what its members may do in <group>/…";
    RemoveGroup       DELETE "/api/v1/group/{group}"                        "deleteGroup"          Superuser,              "Remove a group, with its roles and from its members";
    ListMembers       GET    "/api/v1/group/{group}/members"                "getGroupMembers"      SuperuserRead,          "Who is in a group";
    AddMember         PUT    "/api/v1/group/{group}/members/{membername}"   "updateGroupMember"    FreshSuperuser,         "Put a user into a group";
    RemoveMember      DELETE "/api/v1/group/{group}/members/{membername}"   "deleteGroupMember"    Superuser,              "Take a user out of a group";
    GroupRoles        GET    "/api/v1/group/{group}/permissions"            "getGroupPermissions"  SuperuserRead,          "The repositories in which a group has a role";
    ExplainAccess     GET    "/api/v1/superuser/access"                     "explainAccess"        SuperuserRead,          "What somebody may do in a repository, and what says so";
    ListRefreshTokens GET    "/api/v1/user/refreshtoken"                    "listRefreshTokens"    UserAdmin,              "Where one has signed in with docker login";
    EndRefreshToken   DELETE "/api/v1/user/refreshtoken/{token_uuid}"       "endRefreshToken"      UserAdmin,              "Sign out where one has signed in with docker login";
    ErrorType      GET    "/api/v1/error/{error_type}"             "getErrorDescription"  Anyone,         "What an error type means";
    Discovery      GET    "/api/v1/discovery"                      "discovery"            Anyone,         "This description";
}

/// The endpoint of a request line, with the values of the segments in braces; or the methods that
/// the path has; or nothing.
pub(super) fn find(method: &Method, path: &str) -> Result<(Endpoint, Vec<String>), Option<String>> {
    let mut allowed = Vec::new();
    let mut matched = None;
    for endpoint in Endpoint::ALL {
        let row = endpoint.row();
        // A repository's name could be read to take up what stands behind it: the first row to fit decides.
        if matched.is_some_and(|matched| matched != row.path) {
            continue;
        }
        let Some(values) = values(row.path, path) else { continue };
        matched = Some(row.path);
        if row.method == *method || (row.method == Method::GET && *method == Method::HEAD) {
            return Ok((*endpoint, values));
        }
        allowed.push(row.method.to_string());
        if row.method == Method::GET {
            allowed.push(Method::HEAD.to_string());
        }
    }
    Err((!allowed.is_empty()).then(|| allowed.join(", ")))
}

/// The values of a path's segments in braces, if the path fits.
fn values(pattern: &str, path: &str) -> Option<Vec<String>> {
    let pattern: Vec<&str> = pattern.trim_end_matches('/').split('/').collect();
    let path: Vec<&str> = path.strip_suffix('/').unwrap_or(path).split('/').collect();
    // A repository's name takes the segments that are left over.
    let more = path.len().checked_sub(pattern.len())?;
    let (mut values, mut at) = (Vec::new(), 0);
    for wanted in &pattern {
        let length = if *wanted == REPOSITORY { 1 + more } else { 1 };
        let given = path.get(at..at + length)?;
        at += length;
        match wanted.starts_with('{') {
            true if given.iter().all(|segment| !segment.is_empty()) => {
                let value: String = given.iter().flat_map(|segment| ["/", segment]).skip(1).collect();
                values.push(value);
            }
            false if given == [*wanted] => {}
            _ => return None,
        }
    }
    (at == path.len()).then_some(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_path_that_fits_is_meant_whatever_the_method() {
        let allow = |path| find(&Method::OPTIONS, path).map(drop);
        let none = |methods: &str| Err(Some(methods.to_owned()));
        assert_eq!(allow("/api/v1/repository/a/b/tag/"), none("GET, HEAD"));
        assert_eq!(allow("/api/v1/repository/a/b/tag/1"), none("PUT, DELETE"));
        assert_eq!(allow("/api/v1/repository/a/b/tag/1/restore"), none("POST"));
        assert_eq!(allow("/api/v1/repository/a/b"), none("GET, HEAD, PUT, DELETE"));
        // A tag's name left out must not remove a repository.
        assert_eq!(find(&Method::DELETE, "/api/v1/repository/a/b/tag/").map(drop), none("GET, HEAD"));
    }

    #[test]
    fn a_path_fits_a_row() {
        for (pattern, path, expected) in [
            ("/api/v1/user/", "/api/v1/user", Some(vec![])),
            ("/api/v1/user/", "/api/v1/user/", Some(vec![])),
            ("/api/v1/user/", "/api/v1/user//", None),
            ("/api/v1/users/{username}", "/api/v1/users/a", Some(vec!["a"])),
            ("/api/v1/users/{username}", "/api/v1/users/a/b", None),
            ("/api/v1/users/{username}", "/api/v1/users/", None),
            ("/r/{repository}/tag/{tag}", "/r/a/b/c/tag/x", Some(vec!["a/b/c", "x"])),
            ("/r/{repository}/tag/{tag}", "/r/a/tag/x", Some(vec!["a", "x"])),
            ("/r/{repository}/tag/{tag}", "/r/a//tag/x", None),
            ("/r/{repository}/tag/{tag}", "/r/tag/x", None),
            ("/r/{repository}/tag/", "/r/a/tag/tag", Some(vec!["a/tag"])),
            ("/r/{repository}", "/r/a/b", Some(vec!["a/b"])),
        ] {
            let expected = expected.map(|values| values.into_iter().map(str::to_owned).collect());
            assert_eq!(values(pattern, path), expected, "{pattern} {path}");
        }
    }
}
