//! What a registry asks of the system for its process, before it does anything else and when it has started. Nothing
//! fails without it.

#[cfg(any(target_os = "linux", test))]
use std::ops::Range;

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

/// Lets go of the code that has run so far: what is needed again comes back from the page cache, 64 KiB at a time. Of
/// what a registry at rest has in memory, most is otherwise code that only its start needed.
#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "which pages are given back is said by their addresses")]
pub(super) fn let_go_of_start() {
    let Ok(mappings) = std::fs::read_to_string("/proc/self/smaps") else { return };
    for range in unwritten_code(&mappings) {
        let start = std::ptr::with_exposed_provenance_mut(range.start);
        // SAFETY: nobody has written to these pages, nor can write to them: they come back from their file as they were.
        let _ = unsafe { rustix::mm::madvise(start, range.len(), rustix::mm::Advice::LinuxDontNeed) };
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) fn let_go_of_start() {}

/// Where code of files is mapped that can be run and not written, and of which no page has been written to (by a
/// debugger, or for want of position-independent code).
#[cfg(any(target_os = "linux", test))]
fn unwritten_code(mappings: &str) -> Vec<Range<usize>> {
    let (mut found, mut code) = (Vec::new(), None);
    for line in mappings.lines() {
        let fields: Vec<_> = line.split_ascii_whitespace().collect();
        match *fields {
            [addresses, rights, _offset, _device, inode, ..] if addresses.contains('-') => {
                let address = |text| usize::from_str_radix(text, 16).ok();
                let range = addresses.split_once('-').and_then(|(from, to)| Some(address(from)?..address(to)?));
                code = range.filter(|_| rights == "r-xp" && inode != "0");
            }
            ["Anonymous:", "0", "kB"] => found.extend(code.take()),
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_code_that_is_as_its_file_says_is_let_go() {
        let mapping = |head: &str, written: u32| {
            format!(
                "{head}\nSize:                 64 kB\nAnonymous:          {written} kB\nVmFlags: rd ex mr mw me sd\n"
            )
        };
        let mappings = [
            mapping("1000-2000 r--p 00000000 fe:00 1234                       /usr/bin/coracle", 0),
            mapping("2000-5000 r-xp 00001000 fe:00 1234                       /usr/bin/coracle (deleted)", 0),
            mapping("5000-6000 r--p 00004000 fe:00 1234                       /usr/bin/coracle", 4),
            mapping("7000-8000 r-xp 00000000 fe:00 99                         /usr/lib/one with a breakpoint.so", 4),
            mapping("8000-9000 r-xp 00000000 fe:00 98                         /usr/lib/one with blanks.so", 0),
            mapping("9000-a000 rwxp 00000000 fe:00 97                         /usr/lib/written.so", 0),
            mapping("a000-b000 r-xp 00000000 00:00 0                          [vdso]", 0),
        ];
        assert_eq!(unwritten_code(&mappings.concat()), [0x2000..0x5000, 0x8000..0x9000]);
        assert!(unwritten_code("").is_empty());
    }
}
