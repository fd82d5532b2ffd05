//! [`Htpasswd`]: users of an operator's file with bcrypt hashes, in the format of zot and Apache.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};

use crate::kit::file::FileStamp;
use crate::kit::opaque_debug::opaque_debug;

/// A user of the file, with its stored row. Does not print.
#[derive(Clone, Default)]
pub(super) struct FileUser {
    pub(super) hash: String,
    /// See [`FileUserRow`](crate::content::rows::FileUserRow). Zero if there is no row.
    pub(super) incarnation: u64,
    pub(super) inherits: bool,
}

/// The names and hashes of a file. An invalid line has no hash.
pub(super) type Lines = HashMap<String, Option<String>>;

/// The users of a file at the last read. Hashes do not print.
pub(crate) struct Htpasswd {
    path: PathBuf,
    users: RwLock<HashMap<String, FileUser>>,
    /// Raised when the users change.
    generation: AtomicU64,
    /// The state of the file whose invalid lines were logged last.
    logged: Mutex<Option<FileStamp>>,
}

opaque_debug!(Htpasswd { path });

impl Htpasswd {
    /// The users of a file, which is not read yet. [`super::Accounts::open`] reads it.
    pub(crate) fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            users: RwLock::default(),
            generation: AtomicU64::new(0),
            logged: Mutex::default(),
        }
    }

    /// A number that changes with the users.
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Finds a user by name.
    pub(super) fn user(&self, name: &str) -> Option<FileUser> {
        self.users.read().get(name).cloned()
    }

    /// The highest cost of the hashes.
    pub(super) fn highest_cost(&self) -> Option<u32> {
        let users = self.users.read();
        users.values().filter_map(|user| cost_of(&user.hash)).max()
    }

    /// Lists the users after a name, in no order.
    pub(super) fn users_after(&self, after: &str) -> Vec<(String, FileUser)> {
        let users = self.users.read();
        let behind = users.iter().filter(|(name, _)| name.as_str() > after);
        behind.map(|(name, user)| (name.clone(), user.clone())).collect()
    }

    /// Whether the file has this user.
    pub(super) fn has(&self, name: &str) -> bool {
        self.users.read().contains_key(name)
    }

    /// Identifies the file's version. A look at the path also notices a renamed file and a replaced symlink, as
    /// Kubernetes makes them. File notifications do not.
    pub(super) fn stamp(&self) -> Option<FileStamp> {
        FileStamp::at(&self.path)
    }

    /// Reads the file. Logs its invalid lines, once for each state of the file.
    pub(super) fn read(&self) -> Result<Lines, String> {
        // Before the file is read, so that a change meanwhile is logged with the next read.
        let stamp = self.stamp();
        let text = text_of(&self.path)?;
        let (users, invalid) = read(&text);
        let logged = std::mem::replace(&mut *self.logged.lock(), stamp);
        if stamp.is_none() || stamp != logged {
            for (line, why) in invalid {
                tracing::error!(path = %self.path.display(), line, why, "ignored a line of the htpasswd file");
            }
        }
        Ok(users)
    }

    /// Replaces the users.
    pub(super) fn publish(&self, users: HashMap<String, FileUser>) {
        *self.users.write() = users;
        self.generation.fetch_add(1, Ordering::Release);
    }
}

/// The cost of a bcrypt hash. Each step doubles the work.
pub(super) fn cost_of(hash: &str) -> Option<u32> {
    hash.get(4..6)?.parse().ok()
}

/// The users of a file, and its invalid lines: line number and reason.
fn read(text: &str) -> (Lines, Vec<(usize, &'static str)>) {
    let written: Vec<&str> = text.lines().collect();
    let (mut users, mut invalid) = (HashMap::new(), Vec::new());
    for (number, user) in lines(text) {
        match user {
            Ok((name, hash)) => {
                users.insert(name.to_owned(), Some(hash.to_owned()));
            }
            Err(why) => {
                // An invalid line keeps its user out, but the user still exists.
                if let Some((name, _)) = written.get(number - 1).and_then(|line| line.trim().split_once(':')) {
                    users.entry(name.to_owned()).or_insert(None);
                }
                invalid.push((number, why));
            }
        }
    }
    (users, invalid)
}

/// The invalid lines of a file: line number and reason. A line is not repeated, because it may be a password.
pub(crate) fn htpasswd_problems(path: &Path) -> std::io::Result<Vec<(usize, &'static str)>> {
    let text = fs::read_to_string(path)?;
    Ok(lines(&text).filter_map(|(number, user)| Some((number, user.err()?))).collect())
}

fn text_of(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("http.auth.htpasswd.path: {}: {error}", path.display()))
}

/// The users of a file, or the reason why a line is invalid, by line number.
fn lines(text: &str) -> impl Iterator<Item = (usize, Result<(&str, &str), &'static str>)> {
    let lines = text.lines().map(str::trim).zip(1..);
    lines.filter(|(line, _)| !line.is_empty() && !line.starts_with('#')).map(|(line, number)| (number, user(line)))
}

fn user(line: &str) -> Result<(&str, &str), &'static str> {
    let (name, hash) = line.split_once(':').ok_or("it does not have the form name:hash")?;
    if name.is_empty() {
        return Err("it has no name before the colon");
    }
    let begins = |kinds: &[&str]| kinds.iter().any(|kind| hash.starts_with(kind));
    if begins(&["$2a$", "$2b$", "$2y$"]) {
        let parts = hash.parse::<bcrypt::HashParts>().map_err(|_| "its bcrypt hash is cut off or damaged")?;
        return if (4..=31).contains(&parts.get_cost()) {
            Ok((name, hash))
        } else {
            Err("its bcrypt cost is not 4 to 31")
        };
    }
    Err(match hash {
        "" => "it has no hash after the colon",
        _ if begins(&["$apr1$", "$1$"]) => {
            "it has an MD5 hash, and only bcrypt is supported: make it with `htpasswd -B`"
        }
        _ if begins(&["{SHA}", "{SSHA}"]) => {
            "it has a SHA-1 hash, and only bcrypt is supported: make it with `htpasswd -B`"
        }
        _ if begins(&["$5$", "$6$", "$y$", "$argon2"]) => {
            "it has a hash of another kind, and only bcrypt is supported: make it with `htpasswd -B`"
        }
        _ => "it has no bcrypt hash: make it with `htpasswd -B`",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invalid_line_is_reported_with_its_number_and_the_reason() {
        let hash = bcrypt::hash("secret", 4).expect("a hash");
        let text = format!(
            "# users\n\nann:{hash}\nhunter2\n:{hash}\nbob:$apr1$x$y\ncarol:{{SHA}}x\ndora:\neve:plain\nfred:{}\n  gus:{hash}  \n",
            &hash[..40]
        );
        let (right, wrong): (Vec<_>, Vec<_>) = lines(&text).partition(|(_, user)| user.is_ok());
        let right: Vec<_> = right.into_iter().filter_map(|(number, user)| Some((number, user.ok()?.0))).collect();
        assert_eq!(right, [(3, "ann"), (11, "gus")]);
        let wrong: Vec<_> = wrong.into_iter().filter_map(|(number, user)| Some((number, user.err()?))).collect();
        let expected = ["name:hash", "no name", "MD5", "SHA-1", "no hash", "no bcrypt hash", "cut off"];
        assert_eq!(wrong.len(), expected.len());
        for ((number, why), (expected, line)) in wrong.into_iter().zip(expected.into_iter().zip(4..)) {
            assert!(number == line && why.contains(expected), "{number}: {why}");
        }
    }
}
