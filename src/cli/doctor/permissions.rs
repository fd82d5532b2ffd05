//! The permissions of the data directory and of the files in it.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};
use rustix::io::Errno;

use super::Check;
use super::data::{advice, give_to};

pub(super) const NAME: &str = "permissions";

/// How many directories and files are checked. A wrong owner is most often that of many files.
const ENTRIES_MAX: usize = 10_000;
/// The most of them in one directory, so that one with many files does not hide the next.
const ENTRIES_OF_DIRECTORY_MAX: usize = 2000;

/// The files and directories of a registry in its data directory. Other files there do not matter.
const FILES: [&str; 9] = [
    "coracle.redb",
    "coracle.wal",
    "manifests.log",
    "blobs",
    "uploads",
    "admin.sock",
    "acme",
    "damaged",
    "first-password",
];
/// The directory with private keys.
const KEYS: &str = "acme";

/// The bits of others, and those of the group and others.
const OTHERS_WRITE: u32 = 0o002;
const STICKY: u32 = 0o1000;
const NOT_OWNER_ENTER: u32 = 0o011;

/// Whether the user of the registry may read and write its files, and other users may not.
pub(super) fn permissions(root: &Path) -> Check {
    let Ok(directory) = std::fs::metadata(root) else { return Check::skipped(NAME, "the directory cannot be read") };
    let (me, owner) = (rustix::process::geteuid().as_raw(), directory.uid());
    for path in entries(root) {
        if let Some(check) = own(&path, root, me, owner) {
            return check;
        }
    }
    if let Some(check) = others(root, &directory) {
        return check;
    }
    if me == 0 && owner == 0 {
        let advice = "run the registry as a user of its own, as the service of the Debian package does";
        return Check::warning(NAME, "the data directory belongs to root", advice);
    }
    Check::ok(NAME, format!("the user with the ID {owner} owns the data directory"))
}

/// The data directory, and what it contains: the directories before their files.
fn entries(root: &Path) -> Vec<PathBuf> {
    let known = FILES.iter().map(|name| root.join(name)).filter(|path| path.symlink_metadata().is_ok());
    let mut all: Vec<_> = std::iter::once(root.to_owned()).chain(known).collect();
    // The root has only known entries, which are in the list.
    let mut next = 1;
    while let Some(path) = all.get(next).filter(|_| all.len() < ENTRIES_MAX) {
        // The blob directory may be a link to another disk.
        let is_top = path.parent() == Some(root);
        if path.is_dir() && (is_top || !path.is_symlink()) {
            let found = std::fs::read_dir(path).into_iter().flatten().flatten();
            let found: Vec<_> = found.take(ENTRIES_OF_DIRECTORY_MAX).map(|entry| entry.path()).collect();
            all.extend(found);
        }
        next += 1;
    }
    all
}

/// The problem of the user of the registry with a file or directory.
fn own(path: &Path, root: &Path, me: u32, owner: u32) -> Option<Check> {
    // A file can be removed meanwhile.
    let found = path.symlink_metadata().ok()?;
    let shown = path.display();
    if let Err(error) = may_use(path, &found) {
        let error = std::io::Error::from(error);
        let found = format!("the user with the ID {me} may not use {shown}: {error}");
        return Some(Check::problem(NAME, found, advice(error.kind(), path, root)));
    }
    // Root may do everything, and the registry runs as the owner of the directory.
    (found.uid() != owner && owner != 0).then(|| {
        let found = format!("{shown} belongs to the user with the ID {}, and its directory to {owner}", found.uid());
        Check::problem(NAME, found, give_to(owner, root))
    })
}

/// Whether this user may use a file. A read-only file system is no fault of its permissions.
fn may_use(path: &Path, found: &Metadata) -> Result<(), Errno> {
    let read = if found.is_dir() { Access::READ_OK | Access::EXEC_OK } else { Access::READ_OK };
    match access(path, read | Access::WRITE_OK) {
        Err(Errno::ROFS) => access(path, read),
        // Removed meanwhile, or a link that leads nowhere.
        Err(Errno::NOENT) => Ok(()),
        done => done,
    }
}

/// Whether other users may change the data directory, or read the private keys in it.
fn others(root: &Path, directory: &Metadata) -> Option<Check> {
    let shown = root.display();
    let mode = directory.mode();
    if mode & OTHERS_WRITE != 0 && mode & STICKY == 0 {
        let found = format!("every user of this machine may delete files in {shown} (mode {:04o})", mode & 0o7777);
        return Some(Check::problem(NAME, found, format!("as the owner: `chmod 0700 {shown}`")));
    }
    let keys = root.join(KEYS);
    let enter = mode & keys.symlink_metadata().ok()?.mode() & NOT_OWNER_ENTER;
    let files = std::fs::read_dir(&keys).ok()?.flatten().take(ENTRIES_OF_DIRECTORY_MAX);
    let readable = files.filter(|file| file.metadata().is_ok_and(|found| found.mode() & (enter << 2) != 0));
    let readable = readable.map(|file| file.path()).min()?;
    let found = format!("other users may read {}, and the directory has private keys", readable.display());
    Some(Check::problem(NAME, found, format!("as the owner: `chmod -R go= {}`", keys.display())))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;

    use super::super::State;
    use super::*;

    fn mode(path: &Path, mode: u32) {
        std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn rights_of_other_users_are_a_problem() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().join("data");
        std::fs::create_dir_all(root.join("acme")).unwrap();
        let file = root.join("acme/account.json");
        std::fs::write(&file, "{}").unwrap();
        mode(&file, 0o644);
        mode(&root.join("acme"), 0o755);
        mode(&root, 0o755);
        let found = permissions(&root);
        assert!(found.state == State::Problem && found.found.contains("acme/account.json"), "{found:?}");
        assert_eq!(found.advice.unwrap(), format!("as the owner: `chmod -R go= {}`", root.join("acme").display()));
        // Other users reach the file neither below a private directory nor below a private data directory.
        mode(&root, 0o700);
        assert_ne!(permissions(&root).state, State::Problem);
        mode(&root, 0o755);
        mode(&root.join("acme"), 0o700);
        assert_ne!(permissions(&root).state, State::Problem);
        mode(&root, 0o777);
        let found = permissions(&root);
        assert!(found.found.contains("may delete files in") && found.found.ends_with("(mode 0777)"), "{found:?}");
        mode(&root, 0o1777);
        assert_ne!(permissions(&root).state, State::Problem);
    }

    #[test]
    fn files_below_the_top_level_are_checked() {
        let place = tempfile::tempdir().unwrap();
        let blobs = place.path().join("blobs/sha256");
        std::fs::create_dir_all(&blobs).unwrap();
        std::fs::write(blobs.join("abc"), "").unwrap();
        std::fs::write(place.path().join("other"), "").unwrap();
        let found = entries(place.path());
        assert!(found.contains(&blobs) && found.contains(&blobs.join("abc")), "{found:?}");
        assert!(!found.contains(&place.path().join("other")), "{found:?}");
        if !rustix::process::geteuid().is_root() {
            return;
        }
        std::os::unix::fs::chown(place.path(), Some(65534), None).unwrap();
        std::os::unix::fs::chown(place.path().join("blobs"), Some(65534), None).unwrap();
        std::os::unix::fs::chown(blobs.join("abc"), Some(65534), None).unwrap();
        let found = permissions(place.path());
        assert!(found.found.contains("blobs/sha256 belongs to the user with the ID 0"), "{found:?}");
        assert!(found.advice.unwrap().contains(&format!("`chown -R 65534 {}`", place.path().display())));
    }
}
