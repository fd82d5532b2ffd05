//! Steps with accounts.

use super::{Client, REPOSITORIES};
use crate::content::rows::{AccountRole, Grantee, Role};
use crate::identity::accounts::{NewKey, NewUser, Origin, Password};

/// The most users, because hashing passwords is slow.
const USERS_MAX: usize = 3;

impl Client {
    fn any_user(&mut self) -> Option<String> {
        if self.users == 0 { None } else { Some(format!("user{}", self.random.below(self.users))) }
    }

    pub(super) fn add_user(&mut self) -> bool {
        if self.users == USERS_MAX {
            return false;
        }
        let name = format!("user{}", self.users);
        let new = NewUser {
            name: name.clone(),
            password: self.accounts.hash_blocking(&Password::new("a password")).unwrap(),
            role: AccountRole::Ordinary,
            groups: vec!["dev".to_owned()],
            email: None,
            namespace: None,
        };
        self.accounts.add_user(new, &Origin::local()).unwrap();
        self.users += 1;
        self.note(format!("make {name}"));
        true
    }

    pub(super) fn add_key(&mut self) -> bool {
        let Some(name) = self.any_user() else { return false };
        let new = NewKey { label: "ci".to_owned(), scopes: Some(vec!["a/**:pull".to_owned()]), ..NewKey::default() };
        self.accounts.create_key(&name, new, &Origin::local()).unwrap();
        self.note(format!("make a key of {name}"));
        true
    }

    pub(super) fn revoke_key(&mut self) -> bool {
        let keys = self.accounts.keys(None).unwrap();
        let Some(key) = keys.first() else { return false };
        self.accounts.revoke_key(Some(&key.owner), key.id, &Origin::local()).unwrap();
        self.note(format!("revoke a key of {}", key.owner));
        true
    }

    pub(super) fn begin_session(&mut self) -> bool {
        let Some(name) = self.any_user() else { return false };
        let account = self.accounts.account(&name).unwrap().unwrap();
        self.accounts.start_session(&account, None, &Origin::local()).unwrap();
        self.note(format!("begin a session of {name}"));
        true
    }

    pub(super) fn end_sessions(&mut self) -> bool {
        let Some(name) = self.any_user() else { return false };
        self.accounts.end_sessions(&name, |_, _| true, &Origin::local()).unwrap();
        self.note(format!("end the sessions of {name}"));
        true
    }

    pub(super) fn give_role(&mut self) -> bool {
        let Some(name) = self.any_user() else { return false };
        let repository = REPOSITORIES[self.random.below(REPOSITORIES.len())].parse().unwrap();
        let role = [None, Some(Role::Read), Some(Role::Admin)][self.random.below(3)];
        self.accounts.set_permission(&repository, Grantee::User, &name, role, &Origin::local()).unwrap();
        self.note(format!("give {name} the role {role:?} in {repository}"));
        true
    }
}
