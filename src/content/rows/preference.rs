//! Rows of preferences: the repositories that users have starred or bookmarked.
//!
//! An earlier program may leave rows of repositories and users that it has removed. A reader checks that a repository
//! exists before it shows it.

use std::ops::Bound::{Excluded, Unbounded};
use std::ops::ControlFlow;

use super::schema::{PREFERENCES, PREFERENCES_OF, STARS};
use super::{Error, Rows, WriteTx};
use crate::oci::RepositoryName;

/// A preference of a user for a repository. The numbers are in rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub(crate) enum Preference {
    Star = 0,
    Bookmark = 1,
}

impl Preference {
    const ALL: [Self; 2] = [Self::Star, Self::Bookmark];
}

impl Rows {
    /// Whether a user has starred or bookmarked a repository.
    pub(crate) fn prefers(
        &self,
        user: &str,
        preference: Preference,
        repository: &RepositoryName,
    ) -> Result<bool, Error> {
        self.has(PREFERENCES, (preference as u8, user, repository.as_str()))
    }

    /// The names of at most `limit` repositories that a user has starred or bookmarked, in byte order.
    pub(crate) fn preferred(&self, user: &str, preference: Preference, limit: usize) -> Result<Vec<String>, Error> {
        let range = (Excluded((preference as u8, user, "")), Unbounded);
        self.table(PREFERENCES)?.collect(range, limit, |(kind, of, repository), ()| {
            Ok(((kind, of) == (preference as u8, user)).then(|| repository.to_owned()))
        })
    }

    /// The number of users who have starred a repository.
    pub(crate) fn stars(&self, repository: &RepositoryName) -> Result<u64, Error> {
        Ok(self.get(STARS, repository.as_str(), |count| count)?.unwrap_or_default())
    }

    /// Visits the repositories that anyone has starred, in byte order, with the number of users.
    pub(crate) fn each_starred(&self, mut visit: impl FnMut(&str, u64) -> ControlFlow<()>) -> Result<(), Error> {
        self.table(STARS)?.each(.., |repository, count| Ok(visit(repository, count)))
    }
}

impl WriteTx {
    /// Sets or removes the preference of a user for a repository, and counts stars.
    pub(crate) fn set_preference(
        &mut self,
        user: &str,
        preference: Preference,
        repository: &RepositoryName,
        on: bool,
    ) -> Result<(), Error> {
        if self.prefers(user, preference, repository)? == on {
            return Ok(());
        }
        let (key, of) = ((preference as u8, user, repository.as_str()), (preference as u8, repository.as_str(), user));
        if on {
            self.insert(PREFERENCES, key, ())?;
            self.insert(PREFERENCES_OF, of, ())?;
        } else {
            self.remove(PREFERENCES, key)?;
            self.remove(PREFERENCES_OF, of)?;
        }
        if preference == Preference::Bookmark {
            return Ok(());
        }
        let stars = self.stars(repository)?;
        match if on { stars.saturating_add(1) } else { stars.saturating_sub(1) } {
            0 => self.remove(STARS, repository.as_str()),
            stars => self.insert(STARS, repository.as_str(), stars),
        }
    }

    /// Removes the preferences of a user who is removed.
    pub(super) fn remove_preferences_of_user(&mut self, user: &str) -> Result<(), Error> {
        for preference in Preference::ALL {
            for repository in self.preferred(user, preference, usize::MAX)? {
                let Ok(name) = repository.parse() else { continue };
                self.set_preference(user, preference, &name, false)?;
            }
        }
        Ok(())
    }

    /// Removes the preferences for a repository that is removed.
    pub(super) fn remove_preferences_of_repository(&mut self, repository: &RepositoryName) -> Result<(), Error> {
        for preference in Preference::ALL {
            let name = repository.as_str();
            let range = (Excluded((preference as u8, name, "")), Unbounded);
            let users = self.table(PREFERENCES_OF)?.collect(range, usize::MAX, |(kind, of, user), ()| {
                Ok(((kind, of) == (preference as u8, name)).then(|| user.to_owned()))
            })?;
            for user in users {
                self.set_preference(&user, preference, repository, false)?;
            }
        }
        Ok(())
    }
}
