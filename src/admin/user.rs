//! Operations on users.

use serde::{Deserialize, Serialize};

use super::{Call, Failure, Operation};
use crate::content::repository::SearchScope;
use crate::content::rows::AccountRole;
use crate::identity::accounts::{
    Account, Accounts, Error, HashedPassword, NewUser as Draft, Origin, Password, UserChange,
};
use crate::kit::opaque_debug::opaque_debug;

/// The largest number of users in one list.
pub(super) const USERS_MAX: usize = 100_000;

/// The largest number of repositories of a namespace in one list.
const REPOSITORIES_MAX: usize = 1000;

/// A password on its way through the socket. Does not print.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Secret(String);

impl Secret {
    pub(crate) fn new(text: String) -> Self {
        Self(text)
    }

    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

opaque_debug!(Secret);

/// The password of an operation that sets one. It is generated unless it is given.
#[derive(Debug, clap::Args, Serialize, Deserialize)]
pub(crate) struct NewPassword {
    #[arg(skip)]
    #[serde(rename = "password")]
    pub(crate) given: Option<Secret>,
    /// Read the password from standard input instead of generating one
    #[arg(long)]
    #[serde(skip)]
    pub(crate) password_stdin: bool,
}

impl NewPassword {
    /// The hash of the password, and the password itself if it was generated.
    fn hash(self, accounts: &Accounts) -> Result<(HashedPassword, Option<String>), Error> {
        if let Some(Secret(text)) = self.given {
            return Ok((accounts.hash_blocking(&Password::chosen(&text)?)?, None));
        }
        let password = Password::generate();
        Ok((accounts.hash_blocking(&password)?, Some(password.reveal().to_owned())))
    }
}

/// Add a user and print a generated password once
#[derive(Debug, clap::Args, Serialize, Deserialize)]
pub(crate) struct AddUser {
    /// The name of the user
    name: String,
    #[command(flatten)]
    #[serde(flatten)]
    password: NewPassword,
    /// Let the user do everything
    #[arg(long)]
    superuser: bool,
    /// Let the user see everything and change nothing
    #[arg(long, conflicts_with = "superuser")]
    read_only_superuser: bool,
    /// Put the user into these groups, separated by commas [default: none]
    #[arg(long, value_delimiter = ',')]
    groups: Vec<String>,
    /// Make this namespace the user's, even if it contains repositories [default: a namespace made from the name,
    /// unless it contains repositories or permissions of others]
    #[arg(long)]
    namespace: Option<String>,
}

/// A new user. The password is set only if it was generated.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct NewUser {
    #[serde(flatten)]
    pub(crate) user: UserWithNamespace,
    pub(crate) password: Option<String>,
}

impl Operation for AddUser {
    type Answer = NewUser;

    fn perform(self, call: &Call<'_>) -> Result<NewUser, Failure> {
        let (accounts, origin) = (call.accounts(), Origin::local());
        let role = match (self.superuser, self.read_only_superuser) {
            (true, _) => AccountRole::Superuser,
            (false, true) => AccountRole::ReadOnlySuperuser,
            (false, false) => AccountRole::Ordinary,
        };
        let Self { name, password, groups, namespace, .. } = self;
        let (password, generated) = password.hash(accounts)?;
        accounts.add_user(Draft { name: name.clone(), password, role, groups, email: None, namespace }, &origin)?;
        Ok(NewUser { user: UserWithNamespace::read(accounts, name)?, password: generated })
    }

    fn new_password(&mut self) -> Option<&mut NewPassword> {
        Some(&mut self.password)
    }
}

/// A user and the namespace that the user owns.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct UserWithNamespace {
    pub(crate) name: String,
    pub(crate) namespace: Option<String>,
    /// Why the user does not own the namespace of its name.
    pub(crate) namespace_note: Option<String>,
}

impl UserWithNamespace {
    fn read(accounts: &Accounts, name: String) -> Result<Self, Error> {
        let account = accounts.account(&name)?.ok_or_else(|| Error::UserUnknown { name: name.clone() })?;
        let namespace_note = accounts.namespace_note(&account)?;
        Ok(Self { name, namespace: account.namespace.clone(), namespace_note })
    }
}

/// List all users
#[derive(Debug, clap::Args, Serialize, Deserialize)]
pub(crate) struct ListUsers {}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct UserList {
    pub(crate) users: Vec<UserView>,
}

/// A user in a list.
#[expect(clippy::struct_excessive_bools, reason = "the fields of the JSON output")]
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct UserView {
    pub(crate) name: String,
    pub(crate) superuser: bool,
    pub(crate) read_only_superuser: bool,
    pub(crate) enabled: bool,
    pub(crate) groups: Vec<String>,
    email: Option<String>,
    /// `local`, `htpasswd`, or the name of an identity provider.
    pub(crate) source: String,
    pub(crate) also_in_htpasswd: bool,
    pub(crate) namespace: Option<String>,
}

impl UserView {
    fn new(account: Account, namespace: Option<String>) -> Self {
        Self {
            superuser: account.role == AccountRole::Superuser,
            read_only_superuser: account.role == AccountRole::ReadOnlySuperuser,
            enabled: !account.disabled,
            source: account.source().to_owned(),
            also_in_htpasswd: account.also_in_file,
            name: account.name,
            groups: account.groups,
            email: account.email,
            namespace,
        }
    }
}

impl Operation for ListUsers {
    type Answer = UserList;

    fn perform(self, call: &Call<'_>) -> Result<UserList, Failure> {
        let users = call.accounts().users("", USERS_MAX)?;
        let namespaces = call.accounts().namespaces_of(&users)?;
        let users = users.into_iter().zip(namespaces).map(|(user, namespace)| UserView::new(user, namespace));
        Ok(UserList { users: users.collect() })
    }
}

/// Set a user's password, or generate one and print it once
#[derive(Debug, clap::Args, Serialize, Deserialize)]
pub(crate) struct SetPassword {
    /// The name of the user
    name: String,
    #[command(flatten)]
    #[serde(flatten)]
    password: NewPassword,
}

/// The password is set only if it was generated.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ChangedPassword {
    pub(crate) name: String,
    pub(crate) password: Option<String>,
}

impl Operation for SetPassword {
    type Answer = ChangedPassword;

    fn perform(self, call: &Call<'_>) -> Result<ChangedPassword, Failure> {
        let (password, generated) = self.password.hash(call.accounts())?;
        change(call, &self.name, UserChange { password: Some(password), ..UserChange::default() })?;
        Ok(ChangedPassword { name: self.name, password: generated })
    }

    fn new_password(&mut self) -> Option<&mut NewPassword> {
        Some(&mut self.password)
    }
}

/// Let a disabled user sign in again
#[derive(Debug, clap::Args, Serialize, Deserialize)]
pub(crate) struct EnableUser {
    /// The name of the user
    name: String,
}

/// Disable a user: the password, API keys and sessions stop working until the user is enabled
#[derive(Debug, clap::Args, Serialize, Deserialize)]
pub(crate) struct DisableUser {
    /// The name of the user
    name: String,
    /// Disable the user even if no superuser is left
    #[arg(long)]
    force: bool,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct UserState {
    pub(crate) name: String,
    pub(crate) enabled: bool,
}

impl Operation for EnableUser {
    type Answer = UserState;

    fn perform(self, call: &Call<'_>) -> Result<UserState, Failure> {
        change(call, &self.name, UserChange { disabled: Some(false), ..UserChange::default() })?;
        Ok(UserState { name: self.name, enabled: true })
    }
}

impl Operation for DisableUser {
    type Answer = UserState;

    fn perform(self, call: &Call<'_>) -> Result<UserState, Failure> {
        if !self.force {
            keep_a_superuser(call, &self.name, "disable")?;
        }
        change(call, &self.name, UserChange { disabled: Some(true), ..UserChange::default() })?;
        Ok(UserState { name: self.name, enabled: false })
    }
}

fn change(call: &Call<'_>, name: &str, change: UserChange) -> Result<(), Error> {
    call.accounts().change_user(name, change, None, &Origin::local())
}

/// The namespace that a user owns after a change, and the repositories whose owner changed.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ChangedNamespace {
    #[serde(flatten)]
    pub(crate) user: UserWithNamespace,
    /// The new namespace.
    pub(crate) owned: NamespaceContent,
    /// The previous namespace, which has no owner any more. Null if the user had no other.
    pub(crate) left: Option<NamespaceContent>,
}

/// The repositories of a namespace.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct NamespaceContent {
    pub(crate) namespace: String,
    pub(crate) repositories: Vec<String>,
    /// Whether there are more repositories than the list has.
    pub(crate) more: bool,
}

impl NamespaceContent {
    fn read(call: &Call<'_>, namespace: String) -> Result<Self, Failure> {
        let prefix = format!("{namespace}/");
        let stores = call.registry.stores();
        let page = stores.catalog((&prefix, ""), REPOSITORIES_MAX, &SearchScope::All, |_| true)?;
        Ok(Self { namespace, repositories: page.names, more: page.next.is_some() })
    }
}

/// Replace the namespace of a user, even if the new one contains repositories
///
/// Repositories in the previous namespace stay, and have no owner. The command names them.
#[derive(Debug, clap::Args, Serialize, Deserialize)]
pub(crate) struct SetNamespace {
    /// The name of the user
    name: String,
    /// The new namespace: the user will own the repositories NAMESPACE/…
    namespace: String,
}

impl Operation for SetNamespace {
    type Answer = ChangedNamespace;

    fn perform(self, call: &Call<'_>) -> Result<ChangedNamespace, Failure> {
        let previous = call.accounts().account(&self.name)?.and_then(|account| account.namespace.clone());
        call.accounts().set_namespace(&self.name, &self.namespace, &Origin::local())?;
        let left = previous.filter(|previous| *previous != self.namespace);
        Ok(ChangedNamespace {
            user: UserWithNamespace::read(call.accounts(), self.name)?,
            owned: NamespaceContent::read(call, self.namespace)?,
            left: left.map(|left| NamespaceContent::read(call, left)).transpose()?,
        })
    }
}

/// Set the groups of a user
#[derive(Debug, clap::Args, Serialize, Deserialize)]
pub(crate) struct SetGroups {
    /// The name of the user
    name: String,
    /// All groups of the user. Without any, the user leaves every group
    groups: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct GroupsOfUser {
    pub(crate) name: String,
    pub(crate) groups: Vec<String>,
}

impl Operation for SetGroups {
    type Answer = GroupsOfUser;

    fn perform(self, call: &Call<'_>) -> Result<GroupsOfUser, Failure> {
        change(call, &self.name, UserChange { groups: Some(self.groups.clone()), ..UserChange::default() })?;
        Ok(GroupsOfUser { name: self.name, groups: self.groups })
    }
}

/// Remove a user with all API keys and sessions, and keep the repositories
#[derive(Debug, clap::Args, Serialize, Deserialize)]
pub(crate) struct RemoveUser {
    /// The name of the user
    name: String,
    /// Remove the user even if no superuser is left
    #[arg(long)]
    force: bool,
}

/// A removed user, and the namespace that has no owner any more.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RemovedUser {
    pub(crate) name: String,
    pub(crate) namespace: Option<String>,
    /// Whether the namespace contains a repository.
    pub(crate) repositories_remain: bool,
}

impl Operation for RemoveUser {
    type Answer = RemovedUser;

    fn perform(self, call: &Call<'_>) -> Result<RemovedUser, Failure> {
        if !self.force {
            keep_a_superuser(call, &self.name, "remove")?;
        }
        let namespace = call.accounts().account(&self.name)?.and_then(|account| account.namespace.clone());
        call.accounts().remove_user(&self.name, &Origin::local())?;
        let repositories_remain = match &namespace {
            Some(namespace) => {
                let prefix = format!("{namespace}/");
                let page = call.registry.stores().catalog((&prefix, ""), 1, &SearchScope::All, |_| true)?;
                !page.names.is_empty()
            }
            None => false,
        };
        Ok(RemovedUser { name: self.name, namespace, repositories_remain })
    }
}

/// Fails if no other user is a superuser who can sign in: only this command line could make one then.
fn keep_a_superuser(call: &Call<'_>, name: &str, verb: &str) -> Result<(), Failure> {
    let counts = |account: &Account| account.role == AccountRole::Superuser && account.may_sign_in();
    if !call.accounts().account(name)?.is_some_and(|account| counts(&account)) {
        return Ok(());
    }
    let mut others = call.accounts().users("", USERS_MAX)?.into_iter().filter(|other| other.name != name);
    if others.any(|other| counts(&other)) {
        return Ok(());
    }
    Err(Failure::Invalid(format!(
        "{name} is the only superuser: add another with `coracle user add NAME --superuser`, or {verb} {name} with --force"
    )))
}
