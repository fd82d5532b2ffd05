//! `coracle user …` and `coracle group …`.

use std::process::ExitCode;

use clap::Subcommand;

use super::Error;
use super::administer::{Report, Target, password_from_stdin};
use crate::admin::{
    AddMembers, AddUser, ChangedPassword, GroupView, Groups, GroupsOfUser, ListGroups, ListUsers, NewUser, RemoveGroup,
    RemoveMembers, RemoveUser, RemovedUser, SetEnabled, SetGroups, SetNamespace, SetPassword, SetRole, UserList,
    UserState, UserWithNamespace,
};
use crate::kit::text::table;

/// Manage users (the registry may be running or stopped)
#[derive(Debug, clap::Args)]
pub(super) struct User {
    #[command(flatten)]
    target: Target,
    #[command(subcommand)]
    command: UserCommand,
}

#[derive(Debug, Subcommand)]
enum UserCommand {
    Add(AddUser),
    List(ListUsers),
    Passwd(SetPassword),
    /// Let a disabled user sign in again
    Enable {
        /// The name of the user
        name: String,
    },
    /// Disable a user: the password, API keys and sessions stop working until the user is enabled
    Disable {
        /// The name of the user
        name: String,
        /// Disable the user even if no superuser is left
        #[arg(long)]
        force: bool,
    },
    Remove(RemoveUser),
    Namespace(SetNamespace),
    Groups(SetGroups),
}

impl User {
    pub(super) fn run(self) -> Result<ExitCode, Error> {
        let Self { target, mut command } = self;
        if let UserCommand::Add(AddUser { password, password_stdin: true, .. })
        | UserCommand::Passwd(SetPassword { password, password_stdin: true, .. }) = &mut command
        {
            *password = Some(password_from_stdin()?);
        }
        match command {
            UserCommand::Add(request) => target.run(request),
            UserCommand::List(request) => target.run(request),
            UserCommand::Passwd(request) => target.run(request),
            UserCommand::Enable { name } => target.run(SetEnabled { name, enabled: true, force: false }),
            UserCommand::Disable { name, force } => target.run(SetEnabled { name, enabled: false, force }),
            UserCommand::Remove(request) => target.run(request),
            UserCommand::Namespace(request) => target.run(request),
            UserCommand::Groups(request) => target.run(request),
        }
    }
}

/// Manage groups (the registry may be running or stopped)
///
/// A group can have a role in the namespace of its name: the members of dev with the role write can push to dev/….
/// Permissions in single repositories are set with the API.
#[derive(Debug, clap::Args)]
pub(super) struct Group {
    #[command(flatten)]
    target: Target,
    #[command(subcommand)]
    command: GroupCommand,
}

#[derive(Debug, Subcommand)]
enum GroupCommand {
    List(ListGroups),
    Role(SetRole),
    AddMember(AddMembers),
    RemoveMember(RemoveMembers),
    Remove(RemoveGroup),
}

impl Group {
    pub(super) fn run(self) -> Result<ExitCode, Error> {
        let Self { target, command } = self;
        match command {
            GroupCommand::List(request) => target.run(request),
            GroupCommand::Role(request) => target.run(request),
            GroupCommand::AddMember(request) => target.run(request),
            GroupCommand::RemoveMember(request) => target.run(request),
            GroupCommand::Remove(request) => target.run(request),
        }
    }
}

impl Report for UserList {
    fn print(&self) {
        let rows = self.users.iter().map(|user| {
            let mut notes = Vec::new();
            if user.superuser {
                notes.push("superuser".to_owned());
            }
            if user.read_only_superuser {
                notes.push("read-only superuser".to_owned());
            }
            if !user.enabled {
                notes.push("disabled".to_owned());
            }
            if user.source != "local" {
                notes.push(format!("from {}", user.source));
            }
            if user.also_in_htpasswd {
                notes.push("also in the htpasswd file, whose password is ignored".to_owned());
            }
            let namespace = user.namespace.as_ref().map_or_else(|| "-".to_owned(), |name| format!("{name}/…"));
            [user.name.clone(), namespace, list(&user.groups), notes.join(", ")]
        });
        print!("{}", table(["NAME", "OWNS", "GROUPS", "NOTES"], rows));
    }
}

impl Report for NewUser {
    fn print(&self) {
        self.user.explain();
        print_password(self.password.as_deref());
    }
}

impl Report for UserWithNamespace {
    fn print(&self) {
        self.explain();
        println!("done");
    }
}

impl UserWithNamespace {
    fn explain(&self) {
        if let Some(namespace) = &self.namespace {
            eprintln!("{} owns the repositories {namespace}/…", self.name);
        }
        if let Some(note) = &self.namespace_note {
            eprintln!("{note}");
        }
    }
}

impl Report for ChangedPassword {
    fn print(&self) {
        print_password(self.password.as_deref());
    }
}

/// Prints a generated password, alone on standard output.
fn print_password(generated: Option<&str>) {
    println!("{}", generated.unwrap_or("done"));
}

impl Report for UserState {
    fn print(&self) {
        println!("{} {}", if self.enabled { "enabled" } else { "disabled" }, self.name);
    }
}

impl Report for GroupsOfUser {
    fn print(&self) {
        println!("{} is in the groups: {}", self.name, list(&self.groups));
    }
}

impl Report for RemovedUser {
    fn print(&self) {
        println!("removed {}", self.name);
        if let Some(namespace) = self.namespace.as_ref().filter(|_| self.repositories_remain) {
            eprintln!(
                "The repositories {namespace}/… remain and have no owner: `coracle user namespace USER {namespace}` \
                 gives them to another user."
            );
        }
    }
}

impl Report for Groups {
    fn print(&self) {
        let rows = self.groups.iter().map(|group| [group.name.clone(), group.role.clone(), list(&group.members)]);
        print!("{}", table(["NAME", "ROLE", "MEMBERS"], rows));
    }
}

impl Report for GroupView {
    fn print(&self) {
        println!("group {}, role {}, members: {}", self.name, self.role, list(&self.members));
    }
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "-".to_owned() } else { names.join(", ") }
}
