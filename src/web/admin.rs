//! The pages of superusers: users, groups, the audit log, disk use, maintenance, limits and configuration.

use askama::Template;

use super::{Badge, Bytes, Choice, Icon, KeyRow, Layout, NextPage, Time};

/// The list of users.
#[derive(Debug, Template)]
#[template(path = "admin/users.html")]
pub(crate) struct UserList {
    pub(crate) layout: Layout,
    /// Whether the caller may change users.
    pub(crate) may_change: bool,
    pub(crate) users: Vec<UserRow>,
    pub(crate) pages: NextPage,
}

/// A user in a list.
#[derive(Clone, Debug)]
pub(crate) struct UserRow {
    pub(crate) name: String,
    pub(crate) url: String,
    pub(crate) email: Option<String>,
    pub(crate) badges: Vec<Badge>,
    pub(crate) source: String,
    pub(crate) groups: Vec<String>,
}

/// One user.
#[derive(Debug, Template)]
#[template(path = "admin/user.html")]
pub(crate) struct UserPage {
    pub(crate) layout: Layout,
    pub(crate) error: Option<String>,
    pub(crate) may_change: bool,
    /// Why the pages cannot change this user.
    pub(crate) fixed: Option<&'static str>,
    pub(crate) user: UserRow,
    pub(crate) is_disabled: bool,
    pub(crate) has_password: bool,
    pub(crate) namespace: Option<String>,
    pub(crate) namespace_note: Option<String>,
    pub(crate) created: Option<Time>,
    /// The groups as the form has them, one in a line.
    pub(crate) groups: String,
    pub(crate) keys: Vec<KeyRow>,
    pub(crate) sessions: usize,
}

/// The form that creates a user.
#[derive(Debug, Template)]
#[template(path = "admin/new-user.html")]
pub(crate) struct NewUserForm {
    pub(crate) layout: Layout,
    pub(crate) error: Option<String>,
    pub(crate) name: String,
    pub(crate) email: String,
}

/// The list of groups.
#[derive(Debug, Template)]
#[template(path = "admin/groups.html")]
pub(crate) struct GroupList {
    pub(crate) layout: Layout,
    pub(crate) may_change: bool,
    pub(crate) groups: Vec<GroupRow>,
}

/// A group in a list.
#[derive(Clone, Debug)]
pub(crate) struct GroupRow {
    pub(crate) name: String,
    pub(crate) url: String,
    pub(crate) description: String,
    /// The role of the members in the namespace of the group's name.
    pub(crate) role: &'static str,
    pub(crate) members: usize,
}

/// One group.
#[derive(Debug, Template)]
#[template(path = "admin/group.html")]
pub(crate) struct GroupPage {
    pub(crate) layout: Layout,
    pub(crate) error: Option<String>,
    pub(crate) may_change: bool,
    pub(crate) group: GroupRow,
    pub(crate) roles: Vec<Choice>,
    pub(crate) members: Vec<MemberRow>,
    pub(crate) repositories: Vec<PermittedRow>,
}

/// A member of a group.
#[derive(Clone, Debug)]
pub(crate) struct MemberRow {
    pub(crate) name: String,
    pub(crate) url: String,
    /// The URL of the page that removes the member.
    pub(crate) remove: String,
}

/// A repository in which a group has a role.
#[derive(Clone, Debug)]
pub(crate) struct PermittedRow {
    pub(crate) name: String,
    pub(crate) url: String,
    pub(crate) role: &'static str,
}

/// The form that creates a group.
#[derive(Debug, Template)]
#[template(path = "admin/new-group.html")]
pub(crate) struct NewGroupForm {
    pub(crate) layout: Layout,
    pub(crate) error: Option<String>,
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) roles: Vec<Choice>,
}

/// The audit log, of one user or of all.
#[derive(Debug, Template)]
#[template(path = "admin/audit.html")]
pub(crate) struct AuditLog {
    pub(crate) layout: Layout,
    pub(crate) error: Option<String>,
    /// The path of the page, which the filter requests.
    pub(crate) path: &'static str,
    /// The account of the filter. `None` if the page shows one account only.
    pub(crate) account: Option<String>,
    pub(crate) kind: String,
    /// The first and the last day, such as `2026-11-30`.
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) entries: Vec<AuditRow>,
    pub(crate) pages: NextPage,
}

/// An entry of the audit log.
#[derive(Clone, Debug)]
pub(crate) struct AuditRow {
    pub(crate) at: Time,
    pub(crate) kind: String,
    pub(crate) account: String,
    pub(crate) performer: Option<String>,
    pub(crate) address: Option<String>,
    pub(crate) agent: String,
    /// The program in short.
    pub(crate) program: String,
    /// Names and values.
    pub(crate) details: Vec<(String, String)>,
}

/// How the disk is used.
#[derive(Debug, Template)]
#[template(path = "admin/disk.html")]
pub(crate) struct DiskPage {
    pub(crate) layout: Layout,
    /// Why parts of the page are missing.
    pub(crate) errors: Vec<String>,
    pub(crate) space: Option<Space>,
    pub(crate) is_read_only: bool,
    /// Why pushes are refused, if they are.
    pub(crate) refuses: Option<String>,
    /// `None` while the first count takes long.
    pub(crate) content: Option<ContentUse>,
}

/// The space on the disk.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Space {
    pub(crate) free: Bytes,
    /// Pushes are refused with less.
    pub(crate) least: Bytes,
}

/// The use of the disk by the content.
#[derive(Clone, Debug)]
pub(crate) struct ContentUse {
    /// When it was counted.
    pub(crate) counted: Time,
    pub(crate) repositories: String,
    pub(crate) blobs: String,
    /// The sum over all repositories, as if they shared nothing.
    pub(crate) logical: Bytes,
    /// Each blob once.
    pub(crate) stored: Bytes,
    /// The blobs among them that several repositories have.
    pub(crate) shared: Bytes,
    pub(crate) uploads: String,
    pub(crate) upload_bytes: Bytes,
    /// The bytes that garbage collection will free.
    pub(crate) unreferenced: Bytes,
    /// Whether there was too much to count.
    pub(crate) is_part: bool,
}

/// The background work.
#[derive(Debug, Template)]
#[template(path = "admin/maintenance.html")]
pub(crate) struct MaintenancePage {
    pub(crate) layout: Layout,
    /// Whether the caller may start and stop work.
    pub(crate) may_change: bool,
    pub(crate) works: Vec<WorkRow>,
}

/// One kind of background work.
#[derive(Clone, Debug)]
pub(crate) struct WorkRow {
    /// The word in the form.
    pub(crate) word: &'static str,
    pub(crate) name: &'static str,
    pub(crate) about: String,
    pub(crate) state: Badge,
    /// When the running work began.
    pub(crate) running_since: Option<Time>,
    /// How much of the running work is done.
    pub(crate) percent: Option<u8>,
    /// When the last work ended.
    pub(crate) ended: Option<Time>,
    /// The result of the last work.
    pub(crate) result: Option<String>,
    /// The command that does the work at once.
    pub(crate) command: &'static str,
}

/// The limits that clients ran into.
#[derive(Debug, Template)]
#[template(path = "admin/limits.html")]
pub(crate) struct LimitsPage {
    pub(crate) layout: Layout,
    pub(crate) connections: u64,
    pub(crate) connections_max: usize,
    pub(crate) limits: Vec<LimitRow>,
}

/// A limit, and how often clients ran into it since the start.
#[derive(Clone, Debug)]
pub(crate) struct LimitRow {
    pub(crate) status: u16,
    pub(crate) what: &'static str,
    pub(crate) advice: &'static str,
    pub(crate) count: u64,
}

/// The configuration in force.
#[derive(Debug, Template)]
#[template(path = "admin/configuration.html")]
pub(crate) struct ConfigurationPage {
    pub(crate) layout: Layout,
    pub(crate) keys: Vec<ConfigRow>,
}

/// A key of the configuration.
#[derive(Clone, Debug)]
pub(crate) struct ConfigRow {
    pub(crate) key: &'static str,
    pub(crate) value: String,
    /// Whether the configuration gives the value, and not the default.
    pub(crate) is_given: bool,
    pub(crate) doc: String,
}
