//! [`Listener`]: a socket that accepts connections. It was opened here or by systemd, for TCP or as a unix socket.
//! [`Port`]: a listener, and what it serves.

use std::fmt;
use std::fs::FileType;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustix::fs::{Gid, Mode, chmod, chown};
use rustix::io::Errno;
use rustix::net::AddressFamily;
use rustix::net::sockopt::{socket_acceptconn, socket_domain};
use tokio::net::{TcpListener, UnixListener};

use super::connections::Connections;
use super::socket::Socket;
use crate::admin::socket::by_short_path;
use crate::config::{Address, Listen, Speaks, UnixSocket};
use crate::http::OwnHosts;
use crate::kit::file::FileId;

/// The groups of the system.
const GROUPS: &str = "/etc/group";

/// A socket that accepts connections.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: ListeningSocket,
    pub(super) speaks: Speaks,
}

#[derive(Debug)]
enum ListeningSocket {
    Tcp(TcpListener),
    Unix {
        listener: UnixListener,
        /// The file that goes with the listener. `None` if systemd has made it.
        file: Option<SocketFile>,
    },
}

/// The file of a unix socket, which is removed with it.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    /// The identity of our file. Another process may have replaced it.
    identity: FileId,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if std::fs::symlink_metadata(&self.path).is_ok_and(|found| FileId::from(&found) == self.identity) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

impl From<TcpListener> for Listener {
    fn from(listener: TcpListener) -> Self {
        Self { socket: ListeningSocket::Tcp(listener), speaks: Speaks::TlsOrPlain }
    }
}

impl Listener {
    /// Opens a socket. Must be called in a tokio runtime.
    pub(super) async fn open(listen: &Listen, unix: &UnixSocket) -> io::Result<Self> {
        match listen {
            Listen::Unix(path) => {
                let (listener, file) = open_unix(path, unix)?;
                Ok(Self { socket: ListeningSocket::Unix { listener, file: Some(file) }, speaks: Speaks::Plain })
            }
            Listen::Port { address, port, speaks } => {
                let bound = match address {
                    Address::All => TcpListener::bind(("::", *port)).await,
                    Address::Localhost => TcpListener::bind(("localhost", *port)).await,
                    Address::Ip(ip) => TcpListener::bind((*ip, *port)).await,
                };
                let listener = match (bound, address) {
                    (Err(error), Address::All) if lacks_ipv6(&error) => TcpListener::bind(("0.0.0.0", *port)).await?,
                    (bound, _) => bound?,
                };
                Ok(Self { speaks: *speaks, ..listener.into() })
            }
        }
    }

    /// Takes a socket that systemd has opened. Must be called in a tokio runtime.
    pub(crate) fn from_handle(handle: OwnedFd) -> Result<Self, String> {
        let failed = |error: io::Error| error.to_string();
        if !socket_acceptconn(&handle).map_err(|error| failed(error.into()))? {
            return Err("it does not listen: use ListenStream= and Accept=no".to_owned());
        }
        let family = socket_domain(&handle).map_err(|error| failed(error.into()))?;
        if family == AddressFamily::UNIX {
            let listener = std::os::unix::net::UnixListener::from(handle);
            listener.set_nonblocking(true).map_err(failed)?;
            let listener = UnixListener::from_std(listener).map_err(failed)?;
            return Ok(Self { socket: ListeningSocket::Unix { listener, file: None }, speaks: Speaks::Plain });
        }
        let listener = std::net::TcpListener::from(handle);
        listener.set_nonblocking(true).map_err(failed)?;
        listener.local_addr().map_err(|_| "it is for neither TCP nor a path: use ListenStream=".to_owned())?;
        Ok(TcpListener::from_std(listener).map_err(failed)?.into())
    }

    /// The address on the network. `None` for a unix socket.
    pub(super) fn address(&self) -> io::Result<Option<SocketAddr>> {
        match &self.socket {
            ListeningSocket::Tcp(listener) => listener.local_addr().map(Some),
            ListeningSocket::Unix { .. } => Ok(None),
        }
    }

    /// Returns the next connection, and the address of its client on the network.
    fn poll_accept(&self, context: &mut Context<'_>) -> Poll<io::Result<(Socket, Option<SocketAddr>)>> {
        Poll::Ready(match &self.socket {
            ListeningSocket::Tcp(listener) => {
                ready!(listener.poll_accept(context)).map(|(socket, peer)| (Socket::Tcp(socket), Some(peer)))
            }
            ListeningSocket::Unix { listener, .. } => {
                ready!(listener.poll_accept(context)).map(|(socket, _)| (Socket::Unix(socket), None))
            }
        })
    }
}

/// The address and port of a listener, or `unix:` with the path of its socket.
impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.socket {
            ListeningSocket::Tcp(listener) => match listener.local_addr() {
                Ok(address) => address.fmt(f),
                Err(_) => f.write_str("an unknown address"),
            },
            ListeningSocket::Unix { listener, file } => {
                let address = listener.local_addr().ok();
                let path = file.as_ref().map(|file| file.path.as_path());
                let path = path.or_else(|| address.as_ref()?.as_pathname()).unwrap_or(Path::new(""));
                write!(f, "unix:{}", path.display())
            }
        }
    }
}

/// A listener, and what it serves.
pub(super) struct Port {
    pub(super) listener: Listener,
    pub(super) has_tls: bool,
    pub(super) only_challenges: bool,
    pub(super) own_hosts: Arc<OwnHosts>,
}

/// Waits until there is room for one more connection, and accepts the next one of any port. `next` is the port to ask
/// first, so that none is left out.
pub(super) async fn accept<'p>(
    ports: &'p [Port],
    next: &mut usize,
    connections: &Connections,
) -> (&'p Port, io::Result<(Socket, Option<SocketAddr>)>) {
    connections.room().await;
    std::future::poll_fn(|context| {
        for offset in 0..ports.len() {
            let at = (*next + offset) % ports.len();
            if let Poll::Ready(accepted) = ports[at].listener.poll_accept(context) {
                *next = at + 1;
                return Poll::Ready((&ports[at], accepted));
            }
        }
        Poll::Pending
    })
    .await
}

/// Whether an IPv6 socket failed because the system has no IPv6. If another program has the port on IPv6, a registry on
/// IPv4 alone would leave the clients that use IPv6 to that program.
fn lacks_ipv6(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL))
}

/// Checks what does not depend on other programs: whether the group of the socket exists.
pub(crate) fn check_unix_socket(rights: &UnixSocket) -> Result<(), String> {
    rights.group.as_deref().map_or(Ok(()), |name| group(name).map(drop).map_err(|error| error.to_string()))
}

/// Opens a unix socket with its rights. The file appears complete, and replaces one that a crash has left.
fn open_unix(path: &Path, rights: &UnixSocket) -> io::Result<(UnixListener, SocketFile)> {
    let group = rights.group.as_deref().map(group).transpose()?;
    match std::fs::symlink_metadata(path).as_ref().map(std::fs::Metadata::file_type) {
        Ok(kind) if !FileType::is_socket(&kind) => {
            return Err(io::Error::other("there is a file that is no socket"));
        }
        Ok(_) if by_short_path(path, |path| UnixStream::connect(path)).is_ok() => {
            return Err(io::Error::other("another program listens there"));
        }
        _ => {}
    }
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_string_lossy().into_owned();
    // A name that no other process has.
    let new = path.with_file_name(format!(".{name}.{}", std::process::id()));
    crate::kit::file::if_exists(std::fs::remove_file(&new))?;
    let listener = by_short_path(&new, |path| UnixListener::bind(path))?;
    let prepared = (|| {
        if let Some(group) = group {
            chown(&new, None, Some(group))?;
        }
        chmod(&new, Mode::from_raw_mode(rights.mode.bits()))?;
        let identity = FileId::from(&std::fs::symlink_metadata(&new)?);
        std::fs::rename(&new, path)?;
        Ok(SocketFile { path: path.to_owned(), identity })
    })();
    if prepared.is_err() {
        let _ = std::fs::remove_file(&new);
    }
    prepared.map(|file| (listener, file))
}

/// The id of a group of the system, by its name or as a number.
fn group(name: &str) -> io::Result<Gid> {
    let id = name.parse::<u32>().ok().or_else(|| {
        let groups = std::fs::read_to_string(GROUPS).ok()?;
        let mut fields = groups.lines().map(|line| line.split(':'));
        fields.find_map(|mut fields| (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok())?)
    });
    let unknown = || io::Error::other(format!("{GROUPS} has no group {name:?}: use the number of the group"));
    // The largest number means "no group" to the system.
    id.filter(|id| *id != u32::MAX).map(Gid::from_raw).ok_or_else(unknown)
}
