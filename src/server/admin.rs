//! The socket of local administration: one line of JSON in, one line of JSON out.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncWriteExt as _, Interest};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::maintenance;
use crate::admin::{Call, Command, Handed, Reply, socket};
use crate::http::why_unreadable;
use crate::registry::Shared;

/// The longest command in bytes. Lists of scopes and groups fit.
const LINE_BYTES_MAX: usize = 64 * 1024;
/// The most commands that run at once. Others wait.
const COMMANDS_MAX: usize = 8;
/// The longest time to wait for a command after its program has connected.
const COMMAND_WAIT: Duration = Duration::from_secs(10);

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
    let mut running = JoinSet::new();
    loop {
        while running.len() >= COMMANDS_MAX {
            running.join_next().await;
        }
        match listener.accept().await {
            Ok((stream, _)) => {
                let (shared, stopped) = (Arc::clone(&shared), stopped.clone());
                running.spawn(async move {
                    if let Err(error) = serve(&shared, stream, &stopped).await {
                        tracing::debug!(%error, "a command ended early");
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a command could not be accepted");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

async fn serve(shared: &Arc<Shared>, stream: UnixStream, stopped: &watch::Receiver<bool>) -> std::io::Result<()> {
    let (line, handles) = timeout(COMMAND_WAIT, read(&stream)).await??;
    let reply = run(shared, &line, handles, stopped).await.map_or_else(Reply::Error, Reply::Ok);
    let mut answer = serde_json::to_string(&reply)?;
    answer.push('\n');
    let mut stream = stream;
    stream.write_all(answer.as_bytes()).await
}

/// Reads the line of a command, and the open directory and file that may come with it.
async fn read(stream: &UnixStream) -> std::io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    let (mut line, mut handles, mut buffer) = (Vec::new(), Vec::new(), [0; 4096]);
    while line.len() < LINE_BYTES_MAX && !line.ends_with(b"\n") {
        stream.readable().await?;
        match stream.try_io(Interest::READABLE, || socket::receive(stream, &mut buffer)) {
            Ok((0, _)) => break,
            Ok((count, more)) => {
                line.extend_from_slice(&buffer[..count]);
                if handles.is_empty() {
                    handles = more;
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok((line, handles))
}

async fn run(
    shared: &Arc<Shared>,
    line: &[u8],
    handles: Vec<OwnedFd>,
    stopped: &watch::Receiver<bool>,
) -> Result<Value, String> {
    let command: Command = serde_json::from_slice(line)
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
