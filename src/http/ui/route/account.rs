//! The pages of the user's own account.

use uuid::Uuid;

use crate::identity::access::Requires;

/// A page of the user's own account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::http::ui) enum AccountPage {
    Overview,
    /// The user's rights, and the rules that grant them.
    Access,
    Keys,
    NewKey,
    RevokeKey(Uuid),
    Sessions,
    /// Programs with a refresh token.
    Clients,
    Password,
    /// The audit log of the user.
    Log,
}

impl AccountPage {
    /// Reads the path below `/ui/account`.
    pub(super) fn parse(path: &str) -> Option<Self> {
        Some(match path {
            "" => Self::Overview,
            "/access" => Self::Access,
            "/keys" => Self::Keys,
            "/keys/new" => Self::NewKey,
            "/sessions" => Self::Sessions,
            "/clients" => Self::Clients,
            "/password" => Self::Password,
            "/log" => Self::Log,
            _ => Self::RevokeKey(path.strip_prefix("/keys/")?.strip_suffix("/revoke")?.parse().ok()?),
        })
    }

    pub(super) const fn access(self) -> Requires {
        match self {
            Self::Overview => Requires::SignedIn,
            Self::Keys => Requires::OwnKeys,
            Self::NewKey | Self::RevokeKey(_) | Self::Password => Requires::FreshLogin,
            Self::Access | Self::Sessions | Self::Clients | Self::Log => Requires::UserAdmin,
        }
    }

    pub(super) const fn takes_form(self) -> bool {
        match self {
            Self::NewKey | Self::RevokeKey(_) | Self::Sessions | Self::Clients | Self::Password => true,
            Self::Overview | Self::Access | Self::Keys | Self::Log => false,
        }
    }
}
