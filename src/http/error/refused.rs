//! The response to a refused caller. It names the caller and the refused operation.
//!
//! It depends only on the caller and the request, and not on stored data: the response for a repository that does not
//! exist is the same.

use hyper::Method;
use serde_json::{Value, json};

use super::{ApiError, FRESH_LOGIN_REQUIRED};
use crate::content::rows::AccountRole;
use crate::identity::access::{Access, Action, Actions, Caller, Credential, Refusal, Requires, Surface};
use crate::oci::{ErrorCode, shown};

/// The message for a client that sends Basic credentials to API v1, which ignores them. It is the same for right and for
/// wrong credentials.
const NO_BASIC: &str = "Requires authentication: API v1 does not accept Basic credentials. Send an API key as \
                        \"Authorization: Bearer KEY\", or use a session";

impl ApiError {
    /// Makes the error of a caller without `access`. `scheme` is that of the `Authorization` header, and `scope` is the scope
    /// that an access token needs.
    pub(crate) fn refused(
        refusal: Refusal,
        caller: &Caller,
        access: &Access,
        (surface, scheme): (Surface, Option<&str>),
        scope: impl FnOnce() -> Option<String>,
    ) -> Self {
        let who = caller.name().unwrap_or("an anonymous caller");
        let what = operation(access);
        let error = match refusal {
            Refusal::Denied if needs_superuser(access) => Self::new(ErrorCode::Denied, superuser_message(caller, who)),
            Refusal::Denied if matches!(access, Access::OwnKeys | Access::Account(Requires::OwnKeys)) => {
                let advice = keys_advice(&caller.credential, surface);
                Self::new(ErrorCode::Denied, format!("{who} may not {what}{advice}"))
            }
            Refusal::Denied => return Self::lacking(caller, access, &what),
            Refusal::TooNarrow => {
                Self::new(ErrorCode::Unauthorized, format!("the access token does not permit the caller to {what}"))
                    .of_token("insufficient_scope")
            }
            // Quay's clients look for Quay's message. They do not send Basic.
            Refusal::Unauthenticated if surface == Surface::ApiV1 => match scheme {
                Some(scheme) if scheme.eq_ignore_ascii_case("basic") => Self::new(ErrorCode::Unauthorized, NO_BASIC),
                _ => refusal.into(),
            },
            Refusal::Unauthenticated => {
                Self::new(ErrorCode::Unauthorized, format!("Requires authentication to {what}"))
            }
            Refusal::NotFresh => refusal.into(),
        };
        error.detail(detail(caller, access)).for_scope(scope)
    }

    /// Makes the error of a caller who may not do `what` because a right is missing, that of `access`.
    pub(super) fn lacking(caller: &Caller, access: &Access, what: &str) -> Self {
        let who = caller.name().unwrap_or("an anonymous caller");
        Self::new(ErrorCode::Denied, format!("{who} may not {what}{}", by(&caller.credential, access)))
            .detail(detail(caller, access))
    }

    /// Adds the request as detail if the error has no detail. Docker repeats a refused request for 50 seconds if the error
    /// has no detail and the usual message of its code.
    pub(crate) fn of_request(mut self, method: &Method, path: &str) -> Self {
        if self.0.details.is_empty() {
            self.0.details.push(json!({ "method": method.as_str(), "path": shown(path) }));
        }
        self
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Unauthenticated => Self::new(ErrorCode::Unauthorized, "Requires authentication"),
            Refusal::NotFresh => {
                let mut error = Self::new(ErrorCode::Unauthorized, "Requires fresh login");
                error.0.title = Some(FRESH_LOGIN_REQUIRED);
                error
            }
            Refusal::TooNarrow => Self::new(ErrorCode::Unauthorized, "the access token does not permit this")
                .of_token("insufficient_scope"),
            Refusal::Denied => Self::new(ErrorCode::Denied, "these credentials do not permit this"),
        }
    }
}

fn needs_superuser(access: &Access) -> bool {
    let Access::Account(requires) = access else { return false };
    matches!(
        requires,
        Requires::Superuser | Requires::SuperuserRead | Requires::FreshSuperuser | Requires::FreshSuperuserRead
    )
}

/// Says what the caller lacks: the role, or a credential that suffices.
fn superuser_message(caller: &Caller, who: &str) -> String {
    let role = caller.account().map(|account| account.role);
    match (role, &caller.credential) {
        (Some(AccountRole::Superuser), Credential::Key(_) | Credential::Token(_)) => {
            "API keys and access tokens do not permit this: use a session whose password was given in the last ten \
             minutes, or the command line"
                .to_owned()
        }
        (Some(AccountRole::ReadOnlySuperuser), _) => format!("{who} is a read-only superuser"),
        _ => format!("{who} is not a superuser"),
    }
}

/// The operation as a phrase that follows "may not".
fn operation(access: &Access) -> String {
    match access {
        Access::Anyone | Access::Token | Access::SignedIn | Access::Guest => "use this registry".to_owned(),
        Access::Catalog => "list the repositories".to_owned(),
        Access::Metrics => "read the metrics".to_owned(),
        Access::OwnKeys => "manage API keys".to_owned(),
        Access::Repository(name, any) => format!("{} {name}", verb(action(*any))),
        Access::Account(requires) => match requires {
            Requires::Anyone | Requires::SignedIn | Requires::Repository(_) | Requires::Tag => "do this".to_owned(),
            Requires::UserAdmin => "manage the account".to_owned(),
            Requires::Session => "do this without a session".to_owned(),
            Requires::FreshLogin | Requires::FreshLoginOrKey => "do this without a recent sign-in".to_owned(),
            Requires::OwnKeys => "manage API keys".to_owned(),
            Requires::Superuser | Requires::SuperuserRead => "do what superusers do".to_owned(),
            Requires::FreshSuperuser | Requires::FreshSuperuserRead => {
                "do what superusers do after a recent sign-in".to_owned()
            }
        },
    }
}

/// Names the credential, if it may be the reason of the refusal.
fn by(credential: &Credential, access: &Access) -> &'static str {
    // In a repository only the scopes of an API key can be the reason. If another access token would help, the caller gets
    // 401.
    if matches!(access, Access::Repository(..)) {
        let is_scoped = credential.key().is_some_and(|key| key.scopes.is_some());
        return if is_scoped { " with this API key" } else { "" };
    }
    match credential {
        Credential::None
        | Credential::Password
        | Credential::IdToken
        | Credential::Certificate
        | Credential::Session(_) => "",
        Credential::Key(key) if key.scopes.is_none() => "",
        Credential::Key(_) => " with this API key",
        Credential::Token(_) => " with this access token",
    }
}

/// Names the credential that may not manage API keys, and those that may. A user whom an identity provider knows has no
/// password, and API v1 takes none.
fn keys_advice(credential: &Credential, surface: Surface) -> String {
    let by = match credential {
        Credential::None | Credential::Password | Credential::Session(_) => return String::new(),
        // A workload has no account.
        Credential::IdToken => return " with an ID token".to_owned(),
        Credential::Key(_) => "this API key",
        Credential::Certificate => "a client certificate",
        Credential::Token(_) => "this access token",
    };
    let advice = match surface {
        Surface::ApiV1 => "use a session, which POST /api/v1/signin starts",
        Surface::Registry | Surface::Pages => "use the password, or sign in on the pages under /ui/",
    };
    format!(" with {by}: {advice}")
}

/// The action to name, if any of several is enough.
fn action(any: Actions) -> Action {
    Action::ALL.into_iter().find(|action| any.has(*action)).unwrap_or(Action::Pull)
}

const fn verb(action: Action) -> &'static str {
    match action {
        Action::Pull => "pull from",
        Action::Push | Action::Update => "push to",
        Action::Delete => "delete from",
        Action::Administer => "administer",
        Action::Inspect => "see the permissions of",
    }
}

fn detail(caller: &Caller, access: &Access) -> Value {
    let mut detail = json!({ "user": caller.name() });
    if let Access::Repository(name, any) = access {
        detail["name"] = name.as_str().into();
        detail["action"] = action(*any).as_str().into();
    }
    detail
}
