//! The data directory: whether it exists, whom it belongs to, and whether its disk has space and makes writes durable.

use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{Access, access};

use super::Check;
use crate::config::{Config, Storage};
use crate::kit::text::size;

/// The bytes of one durable write, and how many are made.
const PROBE_BYTES: usize = 64 * 1024;
const PROBES: usize = 5;
/// A durable write that takes longer makes each push slow.
const SLOW_SYNC: Duration = Duration::from_millis(100);
/// The free entries of a file system that are a warning.
const ENTRIES_MIN: u64 = 1000;

/// How to free space.
const FREE_SPACE: &str =
    "free space: `coracle du` shows the largest repositories, `coracle gc` removes what is unreferenced";

/// The files of a registry that it must be able to write.
const FILES: [&str; 6] = ["coracle.redb", "coracle.wal", "manifests.log", "blobs", "uploads", "admin.sock"];

/// Checks the data directory. Writes only a temporary file.
pub(super) fn checks(root: &Path, config: &Config) -> Vec<Check> {
    let mut checks = vec![directory(root)];
    let Some(existing) = nearest(root) else { return checks };
    checks.push(file_system(&existing));
    if existing == root {
        checks.push(permissions(root));
    }
    checks.push(durable_writes(&existing));
    checks.push(space(&existing, &config.storage));
    checks
}

/// The directory itself, or the nearest one above it that exists.
fn nearest(root: &Path) -> Option<PathBuf> {
    let root = std::path::absolute(root).ok()?;
    root.ancestors().find(|path| path.is_dir()).map(Path::to_owned)
}

fn directory(root: &Path) -> Check {
    const NAME: &str = "data directory";
    let shown = root.display();
    match std::fs::metadata(root) {
        Ok(found) if found.is_dir() => Check::ok(NAME, shown.to_string()),
        Ok(_) => Check::problem(NAME, format!("{shown} is not a directory"), "name another one with --root"),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let above = nearest(root).unwrap_or_default();
            match access(&above, Access::WRITE_OK | Access::EXEC_OK) {
                Ok(()) => Check::ok(NAME, format!("{shown} does not exist; the first start creates it")),
                Err(error) => Check::problem(
                    NAME,
                    format!("{shown} does not exist, and this user may not create it in {}: {error}", above.display()),
                    advice(error.kind(), &above, root),
                ),
            }
        }
        Err(error) => {
            let above = nearest(root).unwrap_or_default();
            Check::problem(NAME, format!("{shown} cannot be opened: {error}"), advice(error.kind(), &above, root))
        }
    }
}

/// Says what to do about a failed operation on `path`, in the data directory `root`.
fn advice(error: ErrorKind, path: &Path, root: &Path) -> String {
    let me = rustix::process::geteuid().as_raw();
    let owner = std::fs::metadata(path).map_or(me, |found| found.uid());
    let (path, root) = (path.display(), root.display());
    match error {
        ErrorKind::ReadOnlyFilesystem => format!(
            "mount the file system of {path} writable (`mount -o remount,rw`), and look for errors of the disk with \
             `dmesg`; in a container, mount a volume at {root}"
        ),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => FREE_SPACE.to_owned(),
        ErrorKind::PermissionDenied if owner == me => format!("allow the owner to write: `chmod -R u+rwX {path}`"),
        ErrorKind::PermissionDenied => format!(
            "run the registry and this command as the user with the ID {owner}, such as with `sudo -u '#{owner}'`, or \
             give it the directory: `chown -R {me} {root}`"
        ),
        _ => "look for errors of the disk with `dmesg`; if there are some, restore a backup on another disk".to_owned(),
    }
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

/// Whether the registry's user may read and write its files.
fn permissions(root: &Path) -> Check {
    const NAME: &str = "permissions";
    let me = rustix::process::geteuid().as_raw();
    let Ok(directory) = std::fs::metadata(root) else { return Check::skipped(NAME, "the directory cannot be read") };
    let owner = directory.uid();
    let entries = FILES.iter().map(|name| root.join(name)).filter(|path| path.symlink_metadata().is_ok());
    for path in std::iter::once(root.to_owned()).chain(entries) {
        let enter = if path.is_dir() { Access::EXEC_OK } else { Access::empty() };
        let wanted = Access::READ_OK | Access::WRITE_OK | enter;
        if let Err(error) = access(&path, wanted) {
            return Check::problem(
                NAME,
                format!("the user with the ID {me} may not use {}: {error}", path.display()),
                advice(error.kind(), &path, root),
            );
        }
        // Root may do everything, and the registry runs as the owner of the directory.
        let found = path.symlink_metadata().map_or(owner, |found| found.uid());
        if found != owner && owner != 0 {
            return Check::problem(
                NAME,
                format!("{} belongs to the user with the ID {found}, and its directory to {owner}", path.display()),
                format!("give everything to the user of the registry: `chown -R {owner} {}`", root.display()),
            );
        }
    }
    if me == 0 && owner == 0 {
        let advice = "run the registry as a user of its own, as the service of the Debian package does";
        return Check::warning(NAME, "the data directory belongs to root", advice);
    }
    Check::ok(NAME, format!("the user with the ID {owner} owns the data directory"))
}

/// Whether the disk makes writes durable, and how fast.
fn durable_writes(directory: &Path) -> Check {
    const NAME: &str = "durable writes";
    match probe(directory) {
        Ok(median) if median > SLOW_SYNC => Check::warning(
            NAME,
            format!("a durable write takes {} ms, and each push waits for several", median.as_millis()),
            "use a faster disk, or set storage.commit = false if the last second may be lost",
        ),
        Ok(median) => {
            Check::ok(NAME, format!("a write of {} takes {:.1} ms", size(PROBE_BYTES as u64), millis(median)))
        }
        Err(error) => {
            let found = format!("cannot write to {}: {error}", directory.display());
            Check::problem(NAME, found, advice(error.kind(), directory, directory))
        }
    }
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
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
    const NAME: &str = "free space";
    let least = storage.min_free_space;
    let found = match rustix::fs::statvfs(directory) {
        Ok(found) => found,
        Err(error) => return Check::skipped(NAME, format!("unknown: {error}")),
    };
    let free = found.f_bavail.saturating_mul(found.f_frsize);
    if free < least {
        let found =
            format!("{} are free, and pushes are refused below {} (storage.minFreeSpace)", size(free), size(least));
        return Check::problem(NAME, found, FREE_SPACE);
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
