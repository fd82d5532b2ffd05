//! Stars and bookmarks: repositories that a user prefers. They give no rights, so changes have no audit row.

use super::{Accounts, Error};
use crate::content::rows::Preference;
use crate::oci::RepositoryName;

/// The most stars and the most bookmarks of one user.
pub(super) const PREFERENCES_MAX: usize = 5_000;

impl Accounts {
    /// Stars or bookmarks a repository, or undoes it. Returns whether the user prefers it now, or `None` if the
    /// repository does not exist.
    pub(crate) fn toggle_preference(
        &self,
        user: &str,
        preference: Preference,
        repository: &RepositoryName,
    ) -> Result<Option<bool>, Error> {
        let (user, repository) = (user.to_owned(), repository.clone());
        self.database.write(move |tx| {
            if tx.repository(&repository)?.is_none() {
                return Ok(None);
            }
            let on = !tx.prefers(&user, preference, &repository)?;
            if on && tx.preferred(&user, preference, PREFERENCES_MAX)?.len() == PREFERENCES_MAX {
                return Err(Error::TooManyPreferences { max: PREFERENCES_MAX });
            }
            tx.set_preference(&user, preference, &repository, on)?;
            Ok(Some(on))
        })
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;
    use crate::content::rows::SettingsRow;
    use crate::identity::accounts::{Origin, scene};
    use crate::kit::clock::Timestamp;

    #[test]
    fn preferences_end_with_their_user_or_their_repository() {
        let (_root, accounts) = scene::accounts();
        let database = &accounts.database;
        let [one, other, absent]: [RepositoryName; 3] =
            ["a/one", "a/other", "a/absent"].map(|name| name.parse().unwrap());
        for name in [one.clone(), other.clone()] {
            let put = move |tx: &mut crate::content::rows::WriteTx| {
                tx.put_settings(&name, &SettingsRow::default())?;
                tx.put_repository(&name, Timestamp::from_micros(1))
            };
            database.write(put).unwrap();
        }
        for name in ["ann", "bob"] {
            accounts.store_user(name, scene::user());
        }
        let toggle = |user, preference, name| accounts.toggle_preference(user, preference, name).unwrap();
        for user in ["ann", "bob"] {
            assert_eq!(toggle(user, Preference::Star, &one), Some(true));
            assert_eq!(toggle(user, Preference::Bookmark, &other), Some(true));
        }
        assert_eq!(toggle("ann", Preference::Star, &absent), None);
        let stars = |name| database.read(|tx| tx.stars(name)).unwrap();
        let starred = |user| database.read(|tx| tx.preferred(user, Preference::Star, 9)).unwrap();
        let bookmarked = |user| database.read(|tx| tx.preferred(user, Preference::Bookmark, 9)).unwrap();
        assert_eq!((stars(&one), stars(&other)), (2, 0));
        assert_eq!(toggle("bob", Preference::Star, &one), Some(false));
        assert_eq!((stars(&one), starred("ann"), starred("bob")), (1, vec!["a/one".to_owned()], Vec::new()));
        accounts.remove_user("ann", &Origin::local()).unwrap();
        assert_eq!((stars(&one), bookmarked("ann"), bookmarked("bob").len()), (0, Vec::new(), 1));
        let name = other.clone();
        database
            .write(move |tx| {
                tx.remove_settings(&name)?;
                tx.put_repository(&name, Timestamp::from_micros(1))
            })
            .unwrap();
        assert!(bookmarked("bob").is_empty());
    }
}
