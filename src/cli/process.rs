//! Settings of the process that a registry makes first. If one of them cannot be made, the registry runs without it.

use crate::config::Limits;

/// Makes the settings of a registry's process.
pub(super) fn prepare() {
    if let Err(error) = raise_handle_limit() {
        tracing::debug!(%error, "the limit of file handles could not be raised");
    }
    tune_allocator();
}

/// File handles for the database, the log and listening sockets, and some for commands and upstreams.
const OTHER_HANDLES: usize = 128;

/// Why the limit of file handles does not allow as many connections and requests as configured, if so. Each connection has
/// a handle, and each request may have another one, for a blob.
pub(super) fn too_few_handles(limits: &Limits) -> Option<String> {
    let handles = usize::try_from(rustix::process::getrlimit(rustix::process::Resource::Nofile).current?).ok()?;
    let most = handles.saturating_sub(OTHER_HANDLES) / 2;
    (limits.max_connections > most).then(|| {
        format!(
            "the limit of file handles is {handles}, so http.limits.maxConnections cannot be reached: raise the limit \
             (`ulimit -n`), or set maxConnections to {} or less",
            most.max(1)
        )
    })
}

/// Raises the limit of file handles, which connections and blobs use. Shells start programs with a low limit, for those
/// that use `select`.
fn raise_handle_limit() -> rustix::io::Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })
}

/// The allocator keeps freed blocks up to this many bytes for reuse, as the buffers of uploads are. It returns larger
/// ones to the system, so that each new one costs a page fault for every 4 KiB.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const KEPT_BLOCK_BYTES: std::ffi::c_int = 4 * 1024 * 1024;
/// The free memory that the allocator keeps in each arena, in bytes.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const KEPT_FREE_BYTES: std::ffi::c_int = 4 * 1024 * 1024;

/// Tunes the allocator of the GNU C library. By default it has eight arenas for each core, which do not share free
/// memory, and returns the buffers of a push to the system after each batch. Other allocators were not measurably better.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(unsafe_code, reason = "the C library offers no other way to set these")]
fn tune_allocator() {
    let cores = std::thread::available_parallelism().map_or(2, usize::from).max(2);
    let arenas = std::ffi::c_int::try_from(cores).unwrap_or(std::ffi::c_int::MAX);
    for (setting, value) in [
        (libc::M_ARENA_MAX, arenas),
        (libc::M_MMAP_THRESHOLD, KEPT_BLOCK_BYTES),
        (libc::M_TRIM_THRESHOLD, KEPT_FREE_BYTES),
    ] {
        // SAFETY: `mallopt` takes any number and ignores a value that it does not accept.
        unsafe { libc::mallopt(setting, value) };
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn tune_allocator() {}
