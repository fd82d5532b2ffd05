//! The socket of local administration: one line of JSON in, one line of JSON out.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncWriteExt as _, Interest};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::maintenance;
use crate::admin::{self, Command, Handed, socket};
use crate::http::why_unreadable;
use crate::registry::Shared;

/// The longest command; lists of scopes and groups fit.
const LINE_BYTES_MAX: usize = 64 * 1024;
/// More commands at once wait.
const COMMANDS_MAX: usize = 8;
/// Whoever has connected says what they want within this time.
const COMMAND_WAIT: Duration = Duration::from_secs(10);

/// Makes the socket: before anybody is told that the registry runs, so that a command which comes next
/// finds it. Without it the registry works as well, and so a failure is reported and no more.
pub(super) fn bind(shared: &Shared) -> Option<UnixListener> {
    let bound = socket::bind(shared.tree()).and_then(|listener| {
        listener.set_nonblocking(true)?;
        UnixListener::from_std(listener)
    });
    match bound {
        Ok(listener) => Some(listener),
        Err(error) => {
            let path = shared.tree().admin_socket();
            tracing::warn!(path = %path.display(), %error, "there is no socket for coracle's own commands");
            None
        }
    }
}

/// Takes commands until the server ends.
pub(super) async fn listen(listener: UnixListener, shared: Arc<Shared>, stopped: watch::Receiver<bool>) {
    let mut running = JoinSet::new();
    loop {
        // Some take long, and others must not wait for them.
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
    let (line, handed) = timeout(COMMAND_WAIT, read(&stream)).await??;
    let mut answer = match run(shared, &line, handed, stopped).await {
        Ok(value) => json!({ "ok": value }),
        Err(error) => json!({ "error": error }),
    }
    .to_string();
    answer.push('\n');
    let mut stream = stream;
    stream.write_all(answer.as_bytes()).await
}

/// Reads the line of a command, and the directory that may come with it.
async fn read(stream: &UnixStream) -> std::io::Result<(Vec<u8>, Option<OwnedFd>)> {
    let (mut line, mut handed, mut buffer) = (Vec::new(), None, [0; 4096]);
    while line.len() < LINE_BYTES_MAX && !line.ends_with(b"\n") {
        stream.readable().await?;
        match stream.try_io(Interest::READABLE, || socket::receive(stream, &mut buffer)) {
            Ok((0, _)) => break,
            Ok((count, directory)) => {
                line.extend_from_slice(&buffer[..count]);
                handed = directory.or(handed);
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok((line, handed))
}

async fn run(
    shared: &Arc<Shared>,
    line: &[u8],
    handed: Option<OwnedFd>,
    stopped: &watch::Receiver<bool>,
) -> Result<Value, String> {
    let command: Command = serde_json::from_slice(line)
        .map_err(|error| format!("not a command that this version knows: {}", why_unreadable(&error)))?;
    let handed = match (command.directory(), handed) {
        (None, _) => None,
        (Some(path), Some(handle)) => Some(Handed::reach(handle, path)?),
        (Some(_), None) => return Err("the command comes from another version of coracle".to_owned()),
    };
    let (of, rest) = (Arc::clone(shared), maintenance::rest(stopped));
    let done = shared.work().spawn_blocking(move || admin::execute(&of, command, handed.as_ref(), &rest)).await;
    done.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
}
