//! What a registry asks of the system for its process, before it does anything else. Nothing fails without it.

/// Readies the process of a registry.
pub(super) fn prepare() {
    if let Err(error) = raise_handle_limit() {
        tracing::debug!(%error, "the limit of file handles stays as it is");
    }
    settle_allocator();
}

/// Connections and blobs are file handles; the limit that shells start with is for programs that may use `select`.
fn raise_handle_limit() -> rustix::io::Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })
}

/// Blocks up to this size come from memory that is kept, in bytes: the buffers of blobs on their way in. A larger one
/// is asked of the system and given back, with a page fault for each 4 KiB of it.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const KEPT_BLOCK_BYTES: std::ffi::c_int = 4 * 1024 * 1024;
/// As much free memory is kept for the next block, in bytes and in each arena.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const KEPT_FREE_BYTES: std::ffi::c_int = 4 * 1024 * 1024;

/// Settles what the allocator of the GNU C library otherwise finds out while it runs: by itself it has eight arenas for
/// each core, which keep what is free apart, and gives the buffers of a push back to the system after each batch.
/// Other allocators have brought nothing beyond that.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(unsafe_code, reason = "the C library's own settings have no other way in")]
fn settle_allocator() {
    let cores = std::thread::available_parallelism().map_or(2, usize::from).max(2);
    let arenas = std::ffi::c_int::try_from(cores).unwrap_or(std::ffi::c_int::MAX);
    for (setting, value) in [
        (libc::M_ARENA_MAX, arenas),
        (libc::M_MMAP_THRESHOLD, KEPT_BLOCK_BYTES),
        (libc::M_TRIM_THRESHOLD, KEPT_FREE_BYTES),
    ] {
        // SAFETY: these take any number, and what they do not accept they leave as it is.
        unsafe { libc::mallopt(setting, value) };
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn settle_allocator() {}
