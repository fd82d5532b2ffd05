//! Quay's API v1 as rows: the method, the path, the name, and what the caller must be.
//!
//! The router, the access decision and the discovery document are all made from these rows, and the
//! table of routes × callers (`tests/it/accounts/routes.txt`) has a line for each. To add an endpoint: add a row here, an arm in `http::v1::dispatch`, and the
//! handler; the shapes of body and answer in `http::v1::discovery`.

use hyper::Method;

use crate::access::Requires;

/// Makes the enum, its list and its rows.
macro_rules! endpoints {
    ($($name:ident $method:ident $path:literal $nickname:literal $requires:ident $summary:literal;)*) => {
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
                        requires: Requires::$requires,
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
    /// A segment in braces stands for anything but a slash. A slash at the end may be left out, and
    /// one may be added.
    pub(crate) path: &'static str,
    /// Quay's name for it, where Quay has it.
    pub(crate) nickname: &'static str,
    pub(crate) requires: Requires,
    pub(crate) summary: &'static str,
}

endpoints! {
    Csrf           GET    "/csrf_token"                            "getCsrfToken"         Anyone         "The token that unsafe requests of a browser carry";
    Signin         POST   "/api/v1/signin"                         "signinUser"           Anyone         "Begin a session with a password";
    Verify         POST   "/api/v1/signin/verify"                  "verifyUser"           UserAdmin      "Give the password once more, for what needs a fresh login";
    Signout        POST   "/api/v1/signout"                        "logout"               Anyone         "End this session, or with everywhere=true all of one's own";
    GetUser        GET    "/api/v1/user/"                          "getLoggedInUser"      SignedIn       "Who am I to this registry";
    ChangeUser     PUT    "/api/v1/user/"                          "changeUserDetails"    FreshLogin     "Change one's password or address";
    DeleteUser     DELETE "/api/v1/user/"                          "deleteCurrentUser"    FreshLogin     "Delete oneself, with all keys and sessions";
    ListSessions   GET    "/api/v1/user/sessions"                  "listUserSessions"     UserAdmin      "One's own sessions";
    EndSession     DELETE "/api/v1/user/sessions/{session_id}"     "endUserSession"       UserAdmin      "End one of one's own sessions";
    ListTokens     GET    "/api/v1/user/apptoken"                  "listAppTokens"        UserAdmin      "One's own API keys";
    CreateToken    POST   "/api/v1/user/apptoken"                  "createAppToken"       FreshLogin     "Make an API key; its secret is shown once";
    GetToken       GET    "/api/v1/user/apptoken/{token_uuid}"     "getAppToken"          FreshLogin     "One of one's own API keys, without its secret";
    RevokeToken    DELETE "/api/v1/user/apptoken/{token_uuid}"     "revokeAppToken"       FreshLogin     "Revoke one of one's own API keys";
    UserLogs       GET    "/api/v1/user/logs"                      "listUserLogs"         UserAdmin      "What was done to one's own account";
    ListUsers      GET    "/api/v1/superuser/users/"               "listAllUsers"         SuperuserRead  "Every user";
    CreateUser     POST   "/api/v1/superuser/users/"               "createInstallUser"    Superuser      "Make a user with a generated password";
    GetAnyUser     GET    "/api/v1/superuser/users/{username}"     "getInstallUser"       SuperuserRead  "One user";
    ChangeAnyUser  PUT    "/api/v1/superuser/users/{username}"     "changeInstallUser"    Superuser      "Change a user's password, address, groups or whether they may sign in";
    DeleteAnyUser  DELETE "/api/v1/superuser/users/{username}"     "deleteInstallUser"    Superuser      "Delete a user, with all keys and sessions";
    ListAllTokens  GET    "/api/v1/superuser/apptokens"            "listAllAppTokens"     SuperuserRead  "Everybody's API keys";
    RevokeAnyToken DELETE "/api/v1/superuser/apptokens/{token_uuid}" "revokeAnyAppToken"  Superuser      "Revoke anybody's API key";
    AllLogs        GET    "/api/v1/superuser/logs"                 "listAllLogs"          SuperuserRead  "What was done to all accounts";
    PublicUser     GET    "/api/v1/users/{username}"               "getUserInformation"   SignedIn       "What others may know of a user";
    ErrorType      GET    "/api/v1/error/{error_type}"             "getErrorDescription"  Anyone         "What an error type means";
    Discovery      GET    "/api/v1/discovery"                      "discovery"            Anyone         "This description";
}

/// The endpoint of a request line, with the values of the segments in braces; or the methods that
/// the path has; or nothing.
pub(super) fn find(method: &Method, path: &str) -> Result<(Endpoint, Vec<String>), Option<String>> {
    let mut allowed = Vec::new();
    for endpoint in Endpoint::ALL {
        let row = endpoint.row();
        let Some(values) = values(row.path, path) else { continue };
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
    let mut wanted = pattern.trim_end_matches('/').split('/');
    let mut given = path.strip_suffix('/').unwrap_or(path).split('/');
    let mut values = Vec::new();
    loop {
        match (wanted.next(), given.next()) {
            (None, None) => return Some(values),
            (Some(wanted), Some(given)) if wanted.starts_with('{') && !given.is_empty() => {
                values.push(given.to_owned());
            }
            (Some(wanted), Some(given)) if wanted == given => {}
            _ => return None,
        }
    }
}
