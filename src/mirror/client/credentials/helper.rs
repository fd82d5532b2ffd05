//! Programs that know credentials: `docker-credential-<name> get`, with the host on standard input and JSON on standard
//! output (docker/docker-credential-helpers).

use std::fmt;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::Login;
use crate::kit::text::printable;

/// The longest run of a program. Those of cloud services send requests.
const WAIT: Duration = Duration::from_secs(10);
/// The most bytes that a program may print. A token has some KiB.
const OUTPUT_BYTES_MAX: usize = 64 * 1024;
/// How much of its messages is logged.
const MESSAGE_BYTES_MAX: usize = 512;
/// The output for an unknown host.
const NOT_FOUND: &str = "credentials not found";
/// The user name that marks a refresh token.
const TOKEN_USER: &str = "<token>";

/// A program that knows credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Helper {
    program: String,
}

impl fmt::Display for Helper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.program)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HelperOutput {
    username: String,
    secret: String,
}

impl Helper {
    /// The program of a name, which must not be a path. `ecr` is zot's name for Amazon's program.
    pub(crate) fn new(name: &str) -> Result<Self, String> {
        let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if name.is_empty() || !name.chars().all(is_part) {
            return Err(format!("{name:?} is not the name of a program: docker-credential-<name> is run"));
        }
        let name = if name == "ecr" { "ecr-login" } else { name };
        Ok(Self { program: format!("docker-credential-{name}") })
    }

    /// The program of a file.
    #[cfg(test)]
    pub(super) fn at(file: &std::path::Path) -> Self {
        Self { program: file.to_str().expect("a path of a test is text").to_owned() }
    }

    /// Runs the program for a host. Returns `None` if it knows no credentials.
    pub(super) async fn get(&self, server: &str) -> Result<Option<Login>, String> {
        let mut command = Command::new(&self.program);
        command.arg("get").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let child = command.spawn().map_err(|error| format!("cannot run {self}: {error}"))?;
        let run = timeout(WAIT, talk(child, server)).await;
        let run = run.map_err(|_| format!("{self} has no result after {} s", WAIT.as_secs()))?;
        let Run { status, output, message } = run.map_err(|error| format!("{self}: {error}"))?;
        if !status.success() {
            if String::from_utf8_lossy(&output).contains(NOT_FOUND) {
                return Ok(None);
            }
            // Standard output is not quoted, because it may have a secret.
            let message = printable(String::from_utf8_lossy(&message).trim());
            return Err(format!("{self} failed with {status}: {message}"));
        }
        if output.len() > OUTPUT_BYTES_MAX {
            return Err(format!("{self} printed more than {OUTPUT_BYTES_MAX} bytes"));
        }
        let HelperOutput { username, secret } =
            serde_json::from_slice(&output).map_err(|_| format!("the output of {self} is not valid"))?;
        if secret.is_empty() {
            return Ok(None);
        }
        let secret = Zeroizing::new(secret);
        Ok(Some(if username == TOKEN_USER {
            Login::IdentityToken(secret)
        } else {
            Login::Password { user: username, password: secret }
        }))
    }
}

/// The result of a program.
struct Run {
    status: ExitStatus,
    output: Zeroizing<Vec<u8>>,
    message: Vec<u8>,
}

/// Writes the input of a program, and reads its limited output.
async fn talk(mut child: Child, input: &str) -> std::io::Result<Run> {
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let write = async {
        if let Some(mut stdin) = stdin {
            // A program that does not read all input can still print a result.
            let _ = stdin.write_all(input.as_bytes()).await;
        }
    };
    let ((), output, message) =
        tokio::join!(write, read(stdout, OUTPUT_BYTES_MAX + 1), read(stderr, MESSAGE_BYTES_MAX));
    // A program that prints more waits for a reader, and is killed.
    let output = Zeroizing::new(output?);
    if output.len() > OUTPUT_BYTES_MAX {
        child.start_kill()?;
    }
    Ok(Run { status: child.wait().await?, output, message: message? })
}

async fn read(stream: Option<impl AsyncRead + Unpin>, limit: usize) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(stream) = stream {
        stream.take(limit as u64).read_to_end(&mut bytes).await?;
    }
    Ok(bytes)
}
