//! The socket of local administration: one line of JSON in, one line of JSON out.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::chores;
use crate::admin::{self, Command};
use crate::http::why_unreadable;
use crate::registry::Shared;

/// The longest command; lists of scopes and groups fit.
const LINE_BYTES_MAX: u64 = 64 * 1024;
/// More commands at once wait.
const COMMANDS_MAX: usize = 8;
/// Whoever has connected says what they want within this time.
const COMMAND_WAIT: Duration = Duration::from_secs(10);

/// Makes the socket: before anybody is told that the registry runs, so that a command which comes next
/// finds it. Without it the registry works as well, and so a failure is reported and no more.
pub(super) fn bind(shared: &Shared) -> Option<UnixListener> {
    let path = shared.admin_socket();
    // Whoever holds the database's lock owns the socket: one that is there was left by a crash.
    let _ = fs::remove_file(&path);
    let listener = match UnixListener::bind(&path) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "there is no socket for coracle's own commands");
            return None;
        }
    };
    if let Err(error) = fs::set_permissions(&path, fs::Permissions::from_mode(0o600)) {
        tracing::warn!(path = %path.display(), %error, "there is no socket for coracle's own commands");
        return None;
    }
    Some(listener)
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
    let (read, mut write) = stream.into_split();
    let mut line = String::new();
    let mut read = BufReader::new(read.take(LINE_BYTES_MAX));
    timeout(COMMAND_WAIT, read.read_line(&mut line)).await??;
    let mut answer = run(shared, &line, stopped).await.to_string();
    answer.push('\n');
    write.write_all(answer.as_bytes()).await
}

async fn run(shared: &Arc<Shared>, line: &str, stopped: &watch::Receiver<bool>) -> Value {
    let command: Command = match serde_json::from_str(line) {
        Ok(command) => command,
        Err(error) => {
            let why = why_unreadable(&error);
            return json!({ "error": format!("not a command that this version knows: {why}") });
        }
    };
    let (of, rest) = (Arc::clone(shared), chores::rest(stopped));
    match shared.work().spawn_blocking(move || admin::execute(&of, command, &rest)).await {
        Ok(Ok(value)) => json!({ "ok": value }),
        Ok(Err(error)) => json!({ "error": error.to_string() }),
        Err(error) => json!({ "error": error.to_string() }),
    }
}
