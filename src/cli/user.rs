//! `coracle user …` and `coracle group …`.

use super::administer::{Report, operations};
use crate::admin::{
    AddMembers, AddUser, ChangedGroup, ChangedNamespace, ChangedPassword, DisableUser, EnableUser, GroupView, Groups,
    GroupsOfUser, ListGroups, ListUsers, NamespaceContent, NewUser, RemoveGroup, RemoveMembers, RemoveUser,
    RemovedUser, SetGroups, SetNamespace, SetPassword, SetRole, UserList, UserState, UserWithNamespace,
};
use crate::kit::text::{counted, some_of, table};

/// The most repositories that a message names.
const REPOSITORIES_SHOWN: usize = 3;

operations! {
    /// Manage users (the registry may be running or stopped)
    User: UserCommand {
        Add(AddUser),
        List(ListUsers),
        Passwd(SetPassword),
        Enable(EnableUser),
        Disable(DisableUser),
        Remove(RemoveUser),
        Namespace(SetNamespace),
        Groups(SetGroups),
    }
}

operations! {
    /// Manage groups (the registry may be running or stopped)
    ///
    /// A group can have a role in the namespace of its name: the members of dev with the role write can push to dev/….
    /// Permissions in single repositories are set with the API.
    Group: GroupCommand {
        List(ListGroups),
        Role(SetRole),
        AddMember(AddMembers),
        RemoveMember(RemoveMembers),
        Remove(RemoveGroup),
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
        if self.users.is_empty() {
            eprintln!("There are no users.");
        }
    }
}

impl Report for NewUser {
    fn print(&self) {
        self.user.explain();
        print_password(self.password.as_deref());
    }
}

impl Report for ChangedNamespace {
    fn print(&self) {
        self.user.explain();
        let name = &self.user.name;
        explain_content(&self.owned, &format!("belongs to {name}"), &format!("belong to {name}"));
        if let Some(left) = &self.left {
            explain_content(left, "has no owner", "have no owner");
            eprintln!("`coracle user namespace {name} {}` undoes the change.", left.namespace);
        }
        println!("done");
    }
}

/// Prints how many repositories a namespace has, with a verb, and the first of them.
fn explain_content(content: &NamespaceContent, one: &str, several: &str) {
    let NamespaceContent { namespace, repositories, more } = content;
    if repositories.is_empty() {
        return;
    }
    let text = |noun: &str, verb: &str| format!("{noun} of {namespace}/… {verb}");
    let count = counted(repositories.len() as u64, &text("repository", one), &text("repositories", several));
    let least = if *more { "at least " } else { "" };
    eprintln!("{least}{count} now: {}", some_of(repositories, REPOSITORIES_SHOWN));
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
        if self.groups.is_empty() {
            eprintln!("There are no groups.");
        }
    }
}

impl Report for GroupView {
    fn print(&self) {
        println!("group {}, role {}, members: {}", self.name, self.role, list(&self.members));
    }
}

impl Report for ChangedGroup {
    fn print(&self) {
        self.group.print();
        if self.created {
            let name = &self.group.name;
            eprintln!("The group {name} did not exist and was created. `coracle group list` shows all groups.");
        }
    }
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "-".to_owned() } else { names.join(", ") }
}
