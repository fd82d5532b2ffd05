//! The pages of superusers.

use uuid::Uuid;

use crate::identity::access::Requires;

/// A page of superusers. Names have any characters, so a segment `-` separates them from the rest of the path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::http::ui) enum AdminPage {
    Users,
    NewUser,
    User(String),
    ChangeUser(String, UserChange),
    RevokeKey(Uuid),
    Groups,
    NewGroup,
    Group(String),
    DeleteGroup(String),
    /// Asks whether to remove the member that the query names.
    RemoveMember(String),
    Audit,
    Disk,
    Mirrors,
    Maintenance,
    Limits,
    Configuration,
}

/// A change of a user that has a page of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::http::ui) enum UserChange {
    Enable,
    Disable,
    ResetPassword,
    Delete,
}

impl AdminPage {
    /// Reads the path below `/ui/admin/`.
    pub(super) fn parse(path: &str) -> Option<Self> {
        Some(match path {
            "users" => Self::Users,
            "users/-/new" => Self::NewUser,
            "groups" => Self::Groups,
            "groups/-/new" => Self::NewGroup,
            "audit" => Self::Audit,
            "disk" => Self::Disk,
            "mirrors" => Self::Mirrors,
            "maintenance" => Self::Maintenance,
            "limits" => Self::Limits,
            "config" => Self::Configuration,
            _ => {
                if let Some(rest) = path.strip_prefix("users/") {
                    return user(rest);
                }
                if let Some(rest) = path.strip_prefix("groups/") {
                    return group(rest);
                }
                Self::RevokeKey(path.strip_prefix("keys/")?.strip_suffix("/revoke")?.parse().ok()?)
            }
        })
    }

    /// Forms need the right to change users, which read-only superusers do not have.
    pub(super) const fn access(&self, is_form: bool) -> Requires {
        match self {
            Self::User(_) | Self::Group(_) if is_form => Requires::FreshSuperuser,
            Self::Maintenance if is_form => Requires::Superuser,
            Self::ChangeUser(_, UserChange::Delete)
            | Self::DeleteGroup(_)
            | Self::RemoveMember(_)
            | Self::RevokeKey(_) => Requires::Superuser,
            Self::NewUser | Self::NewGroup | Self::ChangeUser(..) => Requires::FreshSuperuser,
            Self::Users
            | Self::User(_)
            | Self::Groups
            | Self::Group(_)
            | Self::Audit
            | Self::Disk
            | Self::Mirrors
            | Self::Maintenance
            | Self::Limits
            | Self::Configuration => Requires::SuperuserRead,
        }
    }

    pub(super) const fn takes_form(&self) -> bool {
        match self {
            Self::NewUser
            | Self::User(_)
            | Self::ChangeUser(..)
            | Self::RevokeKey(_)
            | Self::NewGroup
            | Self::Group(_)
            | Self::DeleteGroup(_)
            | Self::RemoveMember(_)
            | Self::Maintenance => true,
            Self::Users
            | Self::Groups
            | Self::Audit
            | Self::Disk
            | Self::Mirrors
            | Self::Limits
            | Self::Configuration => false,
        }
    }
}

fn user(rest: &str) -> Option<AdminPage> {
    let Some((name, change)) = rest.rsplit_once("/-/") else { return named(rest).map(AdminPage::User) };
    let change = match change {
        "enable" => UserChange::Enable,
        "disable" => UserChange::Disable,
        "reset-password" => UserChange::ResetPassword,
        "delete" => UserChange::Delete,
        _ => return None,
    };
    named(name).map(|name| AdminPage::ChangeUser(name, change))
}

fn group(rest: &str) -> Option<AdminPage> {
    match rest.rsplit_once("/-/") {
        None => named(rest).map(AdminPage::Group),
        Some((name, "delete")) => named(name).map(AdminPage::DeleteGroup),
        Some((name, "remove-member")) => named(name).map(AdminPage::RemoveMember),
        Some(_) => None,
    }
}

fn named(name: &str) -> Option<String> {
    (!name.is_empty()).then(|| name.to_owned())
}
