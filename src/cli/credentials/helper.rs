//! Credential helpers: programs `docker-credential-<name>` with one argument (the action), input on standard input, and
//! the result on standard output (docker/docker-credential-helpers).

use std::fmt;
use std::process::{Output, Stdio};
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use zeroize::Zeroizing;

use super::Entry;
use crate::cli::Error;
use crate::kit::text::printable;

/// The longest run of a helper. The user may have to unlock a keychain.
const WAIT: Duration = Duration::from_mins(2);

/// The output of helpers for an unknown registry.
const NOT_FOUND: &str = "credentials not found in native keychain";

/// A credential helper.
#[derive(Debug)]
pub(super) struct Helper {
    program: String,
    /// The key and the file that name it.
    source: String,
}

/// The output of a helper for a registry.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HelperOutput {
    username: String,
    secret: String,
}

impl fmt::Display for Helper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.program)
    }
}

impl Helper {
    /// The helper of a name, which must not be a path.
    pub(super) fn new(name: &str, source: String) -> Result<Self, Error> {
        if name.contains(['/', '\\', '\0']) {
            return Err(Error::failed(format!("{name:?} is not the name of a credential helper: see {source}")));
        }
        Ok(Self { program: format!("docker-credential-{name}"), source })
    }

    pub(super) async fn store(&self, host: &str, entry: &Entry) -> Result<(), Error> {
        let document = json!({ "ServerURL": host, "Username": entry.user, "Secret": &*entry.secret });
        let document = Zeroizing::new(document.to_string());
        self.succeed("store", self.run("store", &document).await?).map(drop)
    }

    pub(super) async fn get(&self, host: &str) -> Result<Option<Entry>, Error> {
        let output = self.run("get", host).await?;
        if is_not_found(&output) {
            return Ok(None);
        }
        let said = Zeroizing::new(self.succeed("get", output)?);
        let entry: HelperOutput =
            serde_json::from_slice(&said).map_err(|_| Error::failed(format!("the output of {self} is not valid")))?;
        Ok(Some(Entry { user: entry.username, secret: Zeroizing::new(entry.secret) }))
    }

    /// Removes the entry of a registry. Returns whether there was one.
    pub(super) async fn erase(&self, host: &str) -> Result<bool, Error> {
        let output = self.run("erase", host).await?;
        if is_not_found(&output) {
            return Ok(false);
        }
        self.succeed("erase", output).map(|_| true)
    }

    async fn run(&self, word: &str, input: &str) -> Result<Output, Error> {
        let failed = |error: &dyn fmt::Display| Error::failed(format!("{self} {word}: {error}"));
        let mut command = Command::new(&self.program);
        command.arg(word).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command
            .spawn()
            .map_err(|error| Error::failed(format!("cannot run {self}, named by {}: {error}", self.source)))?;
        let mut stdin = child.stdin.take().ok_or_else(|| failed(&"no standard input"))?;
        let talking = async {
            // A helper that does not read all input can still print a result.
            let _ = stdin.write_all(input.as_bytes()).await;
            drop(stdin);
            child.wait_with_output().await
        };
        let output = tokio::time::timeout(WAIT, talking)
            .await
            .map_err(|_| failed(&format!("no result within {} s", WAIT.as_secs())))?;
        output.map_err(|error| failed(&error))
    }

    fn succeed(&self, word: &str, output: Output) -> Result<Vec<u8>, Error> {
        if output.status.success() {
            return Ok(output.stdout);
        }
        // Helpers print errors to standard output.
        let said = [output.stdout, output.stderr].concat();
        Err(Error::failed(format!("{self} {word} failed: {}", printable(&String::from_utf8_lossy(&said)))))
    }
}

fn is_not_found(output: &Output) -> bool {
    !output.status.success() && String::from_utf8_lossy(&output.stdout).contains(NOT_FOUND)
}
