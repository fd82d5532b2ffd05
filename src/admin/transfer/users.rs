//! The API keys, stars and bookmarks that come with an import.

use std::sync::Arc;

use crate::admin::Failure;
use crate::identity::accounts::{Accounts, CarriedKey, Origin};
use crate::kit::clock::Timestamp;
use crate::kit::text::counted;
use crate::oci::RepositoryName;
use crate::transfer::{Imported, Problem, SourceKey, SourceUser};

/// How users are imported.
pub(super) struct Carrying<'a> {
    pub(super) accounts: &'a Arc<Accounts>,
    /// Precedes the names of repositories.
    pub(super) into: Option<&'a RepositoryName>,
    pub(super) dry_run: bool,
}

impl Carrying<'_> {
    /// Adds what users have who exist here, and reports what is left out.
    pub(super) fn run(&self, users: Vec<SourceUser>, imported: &mut Imported) -> Result<(), Failure> {
        for user in users.into_iter().filter(|user| !user.is_empty()) {
            if self.accounts.account(&user.name)?.is_none() {
                let keys = counted(user.keys.len() as u64, "API key", "API keys");
                let preferences = (user.stars.len() + user.bookmarks.len()) as u64;
                let preferences = counted(preferences, "star or bookmark", "stars and bookmarks");
                let why =
                    format!("is no user here, and has {keys} and {preferences}: add the user, and repeat the import");
                imported.report(Problem::new(format!("the user {}", user.name), why));
                continue;
            }
            self.user(user, imported)?;
        }
        Ok(())
    }

    fn user(&self, user: SourceUser, imported: &mut Imported) -> Result<(), Failure> {
        let SourceUser { name, keys, stars, bookmarks } = user;
        let of = |label: &str| format!("the API key {label:?} of {name}");
        let mut carried = Vec::new();
        for key in keys {
            let what = of(&key.label);
            match self.key(key) {
                Some(key) => carried.push(key),
                None => imported.report(Problem::new(what, "has an expiry that cannot be read")),
            }
        }
        let keys = self.accounts.carry_keys(&name, carried, self.dry_run, &Origin::local())?;
        imported.keys += keys.new;
        imported.known_keys += keys.known;
        imported.expired_keys += keys.expired;
        for (label, why) in keys.refused {
            imported.report(Problem::new(of(&label), why));
        }
        let names = |names: &[String]| names.iter().filter_map(|name| self.local(name).parse().ok()).collect();
        let (stars, bookmarks) = (names(&stars), names(&bookmarks));
        imported.preferences += self.accounts.carry_preferences(&name, stars, bookmarks, self.dry_run)?;
        Ok(())
    }

    /// Returns `None` if the time when the key expires cannot be read.
    fn key(&self, key: SourceKey) -> Option<CarriedKey> {
        let SourceKey { hash, id, label, scopes, created, expires, creator_agent, last_used } = key;
        let expires = match expires.as_str() {
            "" => None,
            time => Some(Timestamp::from_rfc3339(time)?),
        };
        let scopes = scopes.map(|scopes| scopes.iter().map(|scope| self.local(scope)).collect());
        let (created, last_used) = (Timestamp::from_rfc3339(&created), Timestamp::from_rfc3339(&last_used));
        Some(CarriedKey { hash, id, label, scopes, created, expires, creator_agent, last_used })
    }

    /// The local name of a repository, or pattern for names.
    fn local(&self, name: &str) -> String {
        self.into.map_or_else(|| name.to_owned(), |into| format!("{into}/{name}"))
    }
}
