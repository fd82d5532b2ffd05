//! The socket of local administration: one line of JSON in, one line of JSON out.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncWriteExt as _, Interest};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::maintenance;
use crate::admin::{Call, Command, Handed, Reply, socket};
use crate::http::why_unreadable;
use crate::kit::log_limit::LogLimit;
use crate::registry::Shared;

/// The longest command in bytes. Lists of scopes and groups fit.
const LINE_BYTES_MAX: usize = 64 * 1024;
/// The most commands that run at once. Others wait.
const COMMANDS_MAX: usize = 8;
/// The most open connections. Others wait. Most of them may be silent.
const CONNECTIONS_MAX: usize = 64;
/// The longest time to wait for a command after its program has connected, and for the program to take the answer.
const COMMAND_WAIT: Duration = Duration::from_secs(10);
/// The pause after a command could not be accepted, for example for lack of file handles.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// Creates the socket. This happens before the registry reports that it runs, so that the next command finds it. The
/// registry works without the socket, so a failure is only logged.
pub(super) fn bind(shared: &Shared) -> Option<UnixListener> {
    let bound = socket::bind(shared.tree()).and_then(|listener| {
        listener.set_nonblocking(true)?;
        UnixListener::from_std(listener)
    });
    match bound {
        Ok(listener) => Some(listener),
        Err(error) => {
            let path = shared.tree().admin_socket();
            tracing::warn!(path = %path.display(), %error, "the socket for coracle's commands could not be created");
            None
        }
    }
}

/// Takes commands until the server ends.
pub(super) async fn listen(listener: UnixListener, shared: Arc<Shared>, stopped: watch::Receiver<bool>) {
    let commands = Arc::new(Semaphore::new(COMMANDS_MAX));
    let unaccepted = LogLimit::default();
    let mut connections = JoinSet::new();
    loop {
        while connections.len() >= CONNECTIONS_MAX {
            connections.join_next().await;
        }
        match listener.accept().await {
            Ok((stream, _)) => {
                let (shared, commands, stopped) = (Arc::clone(&shared), Arc::clone(&commands), stopped.clone());
                connections.spawn(async move {
                    if let Err(error) = serve(&shared, stream, &commands, &stopped).await {
                        tracing::debug!(%error, "a command ended early");
                    }
                });
            }
            Err(error) => {
                if let Some(count) = unaccepted.pass() {
                    tracing::warn!(%error, count, "commands could not be accepted");
                }
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve(
    shared: &Arc<Shared>,
    mut stream: UnixStream,
    commands: &Semaphore,
    stopped: &watch::Receiver<bool>,
) -> std::io::Result<()> {
    let received = timeout(COMMAND_WAIT, receive(&stream)).await??;
    let reply = {
        // A connection takes none of the few places before its command has arrived.
        let _place = commands.acquire().await.map_err(std::io::Error::other)?;
        run(shared, received, stopped).await.map_or_else(Reply::Error, Reply::Ok)
    };
    let mut answer = serde_json::to_string(&reply)?;
    answer.push('\n');
    timeout(COMMAND_WAIT, stream.write_all(answer.as_bytes())).await?
}

/// A command as it arrived.
struct Received {
    /// At most [`LINE_BYTES_MAX`] bytes.
    line: Vec<u8>,
    /// Whether there were more bytes.
    is_cut: bool,
    /// The open directory and file that may come with the command.
    handles: Vec<OwnedFd>,
}

/// Receives a command. Takes all of a line that is too long, because a program reads the answer only after it has sent
/// the line.
async fn receive(stream: &UnixStream) -> std::io::Result<Received> {
    let mut received = Received { line: Vec::new(), is_cut: false, handles: Vec::new() };
    let mut buffer = [0; 4096];
    loop {
        stream.readable().await?;
        match stream.try_io(Interest::READABLE, || socket::receive(stream, &mut buffer)) {
            Ok((0, _)) => return Ok(received),
            Ok((count, handles)) => {
                let kept = count.min(LINE_BYTES_MAX - received.line.len());
                received.line.extend_from_slice(&buffer[..kept]);
                received.is_cut |= kept < count;
                if received.handles.is_empty() {
                    received.handles = handles;
                }
                if buffer[..count].ends_with(b"\n") {
                    return Ok(received);
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

async fn run(shared: &Arc<Shared>, received: Received, stopped: &watch::Receiver<bool>) -> Result<Value, String> {
    let Received { line, is_cut, handles } = received;
    if is_cut {
        return Err("the command has more than 64 KiB: give fewer names, or patterns such as team/**".to_owned());
    }
    let command: Command = serde_json::from_slice(&line)
        .map_err(|error| format!("this version does not know the command: {}", why_unreadable(&error)))?;
    let mut handles = handles.into_iter();
    let handed = match command.directory().map(|path| (path, handles.next())) {
        None => None,
        Some((path, Some(handle))) => Some(Handed::reach(handle, path)?),
        Some((_, None)) => return Err("the command comes from another version of coracle".to_owned()),
    };
    let attached = handles.next().map(File::from);
    let (registry, pause) = (Arc::clone(shared), maintenance::pause_between_steps(stopped));
    let work = move || {
        let (handed, attached) = (handed.as_ref(), attached.as_ref());
        command.perform(&Call { registry: &registry, handed, attached, pause: &pause })
    };
    let done = shared.work().spawn_blocking(work).await;
    done.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
}
