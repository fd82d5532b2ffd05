//! The data directory: whether it exists, whom it belongs to, and whether its disk has space and makes writes durable.

use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{Access, access};

use super::permissions::permissions;
use super::{Check, State};
use crate::admin::{FREE_SPACE, FULL_BYTES};
use crate::config::{Config, Storage};
use crate::kit::file::{MAKE_WRITABLE, is_full};
use crate::kit::text::size;

/// The names of the checks.
pub(super) const DIRECTORY: &str = "data directory";
pub(super) const WRITES: &str = "durable writes";
pub(super) const SPACE: &str = "free space";

/// The bytes of one durable write, and how many are made.
const PROBE_BYTES: usize = 64 * 1024;
const PROBES: usize = 5;
/// A durable write that takes longer makes each push slow.
const SLOW_SYNC: Duration = Duration::from_millis(100);
/// The free entries of a file system that are a warning.
const ENTRIES_MIN: u64 = 1000;

/// Checks the data directory, an absolute path. Writes only a temporary file.
pub(super) fn checks(root: &Path, config: Option<&Config>) -> Vec<Check> {
    let mut checks = vec![directory(root)];
    let Some(existing) = nearest(root) else { return checks };
    checks.push(file_system(&existing));
    if existing == root {
        checks.push(permissions(root));
    }
    let is_denied = checks.iter().any(|check| check.state == State::Problem);
    let writes = durable_writes(&existing, root, is_denied);
    let default = Config::default().storage;
    let space = space(&existing, config.map_or(&default, |config| &config.storage));
    checks.extend([once(writes, &space), space]);
    checks
}

/// A check whose advice is that of `next`, the check below it, refers to it instead of repeating the advice.
fn once(mut check: Check, next: &Check) -> Check {
    if check.advice.is_some() && check.advice == next.advice {
        check.advice = Some(format!("see {} below", next.name));
    }
    check
}

/// The directory itself, or the nearest one above it that exists.
fn nearest(root: &Path) -> Option<PathBuf> {
    root.ancestors().find(|path| path.is_dir()).map(Path::to_owned)
}

fn directory(root: &Path) -> Check {
    const NAME: &str = DIRECTORY;
    let shown = root.display();
    match std::fs::metadata(root) {
        Ok(found) if found.is_dir() => Check::ok(NAME, shown.to_string()),
        Ok(_) => Check::problem(NAME, format!("{shown} is not a directory"), "name another one with --root"),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let above = nearest(root).unwrap_or_default();
            match access(&above, Access::WRITE_OK | Access::EXEC_OK) {
                Ok(()) => Check::ok(NAME, format!("{shown} does not exist; the first start creates it")),
                Err(error) => {
                    let error = std::io::Error::from(error);
                    let found =
                        format!("{shown} does not exist, and cannot be created in {}: {error}", above.display());
                    Check::problem(NAME, found, advice(error.kind(), &above, root))
                }
            }
        }
        Err(error) => {
            let above = nearest(root).unwrap_or_default();
            Check::problem(NAME, format!("{shown} cannot be opened: {error}"), advice(error.kind(), &above, root))
        }
    }
}

/// Says what to do about a failed operation on `path`, in the data directory `root` or above it.
pub(super) fn advice(error: ErrorKind, path: &Path, root: &Path) -> String {
    let me = rustix::process::geteuid().as_raw();
    let owner = |path: &Path| std::fs::metadata(path).map_or(me, |found| found.uid());
    let shown = path.display();
    match error {
        ErrorKind::ReadOnlyFilesystem => {
            format!("{MAKE_WRITABLE}; in a container, mount a volume at {}", root.display())
        }
        _ if is_full(error) => FREE_SPACE.to_owned(),
        ErrorKind::PermissionDenied if !path.starts_with(root) => match owner(path) {
            owner if owner == me => {
                format!("name another directory with --root, or allow yourself to write: `chmod u+rwx {shown}`")
            }
            owner => format!("{}, or name a directory of your own with --root", as_user(owner)),
        },
        ErrorKind::PermissionDenied => match (owner(root), owner(path)) {
            (owner, _) if owner != me => run_as(owner, root),
            (owner, of_path) if of_path != me => give_to(owner, root),
            _ => format!("allow the owner to write: `chmod -R u+rwX {shown}`"),
        },
        _ => "look for errors of the disk with `dmesg`; if there are some, restore a backup on another disk".to_owned(),
    }
}

fn run_as(owner: u32, root: &Path) -> String {
    if owner == 0 {
        // Root made it, and perhaps for a registry that runs as another user.
        return format!(
            "run this command as root, such as with `sudo`; if the registry does not run as root, give its user the \
             directory: `sudo chown -R USER {}`",
            root.display()
        );
    }
    as_user(owner)
}

fn as_user(owner: u32) -> String {
    format!("run the registry and this command as the user with the ID {owner}, such as with `sudo -u '#{owner}'`")
}

/// Gives the files in a data directory to the user of the registry.
pub(super) fn give_to(user: u32, root: &Path) -> String {
    format!("give everything in it to the user of the registry, as root: `chown -R {user} {}`", root.display())
}

/// File systems on which a registry may lose data or stop working.
fn file_system(path: &Path) -> Check {
    const NAME: &str = "file system";
    const TMPFS: u64 = 0x0102_1994;
    const OVERLAY: u64 = 0x794c_7630;
    const NFS: u64 = 0x6969;
    const CIFS: [u64; 2] = [0xff53_4d42, 0xfe53_4d42];
    let Ok(found) = rustix::fs::statfs(path) else { return Check::skipped(NAME, "its kind is unknown") };
    // The type differs between platforms, and its upper bits are not used.
    #[expect(clippy::cast_sign_loss, reason = "the kernel's numbers have 32 bits")]
    let kind = found.f_type as u64 & 0xffff_ffff;
    let shown = path.display();
    if kind == TMPFS {
        let advice = "choose a directory on a disk, unless the content may be lost";
        return Check::warning(NAME, format!("{shown} is in memory: a restart of the machine loses it"), advice);
    }
    if kind == OVERLAY {
        let advice = format!("mount a volume at {shown}");
        return Check::warning(NAME, format!("{shown} is in the layer of a container, which is lost with it"), advice);
    }
    if kind == NFS || CIFS.contains(&kind) {
        let advice = "use a local disk, or a block device over the network";
        return Check::warning(
            NAME,
            format!("{shown} is on a network file system, whose locks and syncs may fail"),
            advice,
        );
    }
    Check::ok(NAME, "a local disk")
}

/// Whether the disk makes writes durable, and how fast. `is_denied` is whether another check says why nothing can be
/// written.
fn durable_writes(directory: &Path, root: &Path, is_denied: bool) -> Check {
    const NAME: &str = WRITES;
    match probe(directory) {
        Ok(median) if median > SLOW_SYNC => Check::warning(
            NAME,
            format!("a durable write takes {} ms, and each push waits for several", median.as_millis()),
            "use a faster disk, or set storage.commit = false if the last second may be lost",
        ),
        Ok(median) => Check::ok(NAME, format!("a write of {} takes {}", size(PROBE_BYTES as u64), millis(median))),
        // Another check says the same.
        Err(error)
            if is_denied
                && (error.kind() == ErrorKind::PermissionDenied
                    || error.kind() == ErrorKind::ReadOnlyFilesystem && directory != root) =>
        {
            Check::skipped(NAME, format!("not checked: this user cannot write to {}", directory.display()))
        }
        Err(error) => {
            let found = format!("cannot write to {}: {}", directory.display(), without_path(&error));
            Check::problem(NAME, found, advice(error.kind(), directory, root))
        }
    }
}

/// The message of an error without the name of the temporary file.
fn without_path(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" at path ").next().unwrap_or_default().to_owned()
}

/// A duration in milliseconds with one decimal.
fn millis(duration: Duration) -> String {
    let millis = duration.as_secs_f64() * 1000.0;
    if millis < 0.1 { "less than 0.1 ms".to_owned() } else { format!("{millis:.1} ms") }
}

/// Writes and syncs a temporary file, and returns the median duration.
fn probe(directory: &Path) -> std::io::Result<Duration> {
    let mut file = tempfile::Builder::new().prefix(".doctor-").tempfile_in(directory)?;
    let (bytes, mut times) = (vec![0; PROBE_BYTES], Vec::new());
    for _ in 0..PROBES {
        let began = Instant::now();
        file.write_all(&bytes)?;
        file.as_file().sync_all()?;
        times.push(began.elapsed());
    }
    std::fs::File::open(directory)?.sync_all()?;
    times.sort_unstable();
    Ok(times[PROBES / 2])
}

fn space(directory: &Path, storage: &Storage) -> Check {
    const NAME: &str = SPACE;
    let least = storage.min_free_space;
    let found = match rustix::fs::statvfs(directory) {
        Ok(found) => found,
        Err(error) => return Check::skipped(NAME, format!("unknown: {error}")),
    };
    let free = found.f_bavail.saturating_mul(found.f_frsize);
    let whole = found.f_blocks.saturating_mul(found.f_frsize);
    if whole <= least {
        let found = format!("the disk has {}, and pushes are refused below {} of free space", size(whole), size(least));
        return Check::problem(NAME, found, "choose a larger disk, or lower storage.minFreeSpace");
    }
    if free < least {
        let found =
            format!("{} are free, and pushes are refused below {} (storage.minFreeSpace)", size(free), size(least));
        return Check::problem(NAME, found, FREE_SPACE);
    }
    if free < FULL_BYTES {
        return Check::problem(NAME, format!("the disk is full, {} are free", size(free)), FREE_SPACE);
    }
    if found.f_files > 0 && found.f_favail < ENTRIES_MIN {
        let found = format!("the file system has room for {} more files only", found.f_favail);
        return Check::problem(NAME, found, "remove files, or make the file system again with more inodes");
    }
    if storage.is_space_low(free) {
        return Check::warning(
            NAME,
            format!("only {} are free; pushes are refused below {}", size(free), size(least)),
            FREE_SPACE,
        );
    }
    Check::ok(NAME, format!("{} are free", size(free)))
}
