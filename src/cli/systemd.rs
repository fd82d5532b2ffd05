//! The protocol of systemd: sockets that it opens, and what the service reports (`sd_listen_fds(3)`, `sd_notify(3)`).
//!
//! Without systemd, nothing of it happens.

use std::future::pending;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use rustix::io::{FdFlags, fcntl_setfd};

use super::Error;

/// The first handle that systemd passes.
const FIRST_HANDLE: i32 = 3;

/// A variable that systemd sets.
fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// The sockets of a socket unit. None if systemd passes none to this process. Must be called before the process opens
/// anything.
pub(super) fn handles() -> Result<Vec<OwnedFd>, Error> {
    let count = number("LISTEN_FDS").unwrap_or_default();
    if number("LISTEN_PID") != Some(std::process::id().into()) {
        return Ok(Vec::new());
    }
    let numbers = (FIRST_HANDLE..).take(usize::try_from(count).unwrap_or_default());
    let taken: std::io::Result<Vec<OwnedFd>> = numbers.map(take).collect();
    taken.map_err(|error| socket_error(&error.to_string()))
}

/// The error of a socket that cannot be used.
pub(super) fn socket_error(why: &str) -> Error {
    Error::failed(format!("the socket of the socket unit: {why}"))
}

fn take(number: i32) -> std::io::Result<OwnedFd> {
    // SAFETY: systemd passes this handle to this process, and nothing in the process closes it.
    #[expect(unsafe_code, reason = "a handle that another process passes has only a number")]
    let handle = unsafe { BorrowedFd::borrow_raw(number) };
    fcntl_setfd(handle, FdFlags::CLOEXEC)?;
    handle.try_clone_to_owned()
}

/// Whether standard error goes to the journal, which members of some groups can read.
pub(super) fn logs_to_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    let Ok(found) = rustix::fs::fstat(std::io::stderr()) else { return false };
    stream == format!("{}:{}", found.st_dev, found.st_ino)
}

/// Reports a change of state. A registry works without it, so a failure is only logged.
pub(super) fn notify(state: &str) {
    if let Some(Err(error)) = send(state) {
        tracing::warn!(%error, "systemd could not be notified");
    }
}

fn send(state: &str) -> Option<std::io::Result<()>> {
    let path = std::env::var_os("NOTIFY_SOCKET").filter(|path| !path.is_empty())?;
    let sent = UnixDatagram::unbound().and_then(|socket| {
        #[cfg(target_os = "linux")]
        if let Some(name) = path.as_bytes().strip_prefix(b"@") {
            use std::os::linux::net::SocketAddrExt as _;
            let address = std::os::unix::net::SocketAddr::from_abstract_name(name)?;
            return socket.send_to_addr(state.as_bytes(), &address);
        }
        socket.send_to(state.as_bytes(), &path)
    });
    Some(sent.map(drop))
}

/// Reports that the process is alive, twice in the time that systemd allows. Never returns.
pub(super) async fn feed_watchdog() {
    let is_own = number("WATCHDOG_PID").is_none_or(|process| process == u64::from(std::process::id()));
    let Some(allowed) = number("WATCHDOG_USEC").filter(|allowed| is_own && *allowed > 0) else {
        return pending().await;
    };
    loop {
        notify("WATCHDOG=1");
        tokio::time::sleep(Duration::from_micros(allowed / 2)).await;
    }
}
