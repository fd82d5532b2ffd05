//! Programs that keep credentials: `docker-credential-<name>`, with one word of what to do, a document on standard
//! input, and the outcome on standard output (docker/docker-credential-helpers).

use std::fmt;
use std::process::{Output, Stdio};
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use zeroize::Zeroizing;

use super::Entry;
use crate::cli::printable;

/// A person may have to unlock a keychain meanwhile.
const WAIT: Duration = Duration::from_mins(2);

/// What helpers say of a registry that they have nothing of.
const NOT_FOUND: &str = "credentials not found in native keychain";

/// A program that keeps credentials.
#[derive(Debug)]
pub(super) struct Helper {
    program: String,
}

/// What a helper says of a registry.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Kept {
    username: String,
    secret: String,
}

impl fmt::Display for Helper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.program)
    }
}

impl Helper {
    /// The helper that a file names. A name that leads elsewhere than to a program in the path is none.
    pub(super) fn new(name: &str) -> Result<Self, String> {
        if name.contains(['/', '\\', '\0']) {
            return Err(format!("{name:?} is not the name of a program that keeps credentials"));
        }
        Ok(Self { program: format!("docker-credential-{name}") })
    }

    pub(super) async fn store(&self, host: &str, entry: &Entry) -> Result<(), String> {
        let document = json!({ "ServerURL": host, "Username": entry.user, "Secret": &*entry.secret });
        let document = Zeroizing::new(document.to_string());
        self.succeed("store", self.run("store", &document).await?).map(drop)
    }

    pub(super) async fn get(&self, host: &str) -> Result<Option<Entry>, String> {
        let output = self.run("get", host).await?;
        if is_not_found(&output) {
            return Ok(None);
        }
        let said = Zeroizing::new(self.succeed("get", output)?);
        let kept: Kept = serde_json::from_slice(&said).map_err(|_| format!("{self} says what is no credential"))?;
        Ok(Some(Entry { user: kept.username, secret: Zeroizing::new(kept.secret) }))
    }

    /// Whether there was something.
    pub(super) async fn erase(&self, host: &str) -> Result<bool, String> {
        let output = self.run("erase", host).await?;
        if is_not_found(&output) {
            return Ok(false);
        }
        self.succeed("erase", output).map(|_| true)
    }

    async fn run(&self, word: &str, input: &str) -> Result<Output, String> {
        let failed = |error: &dyn fmt::Display| format!("{self} {word}: {error}");
        let mut command = Command::new(&self.program);
        command.arg(word).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().map_err(|error| failed(&error))?;
        let mut stdin = child.stdin.take().ok_or_else(|| failed(&"it has no input"))?;
        let talking = async {
            // A helper that does not read to the end has said something all the same.
            let _ = stdin.write_all(input.as_bytes()).await;
            drop(stdin);
            child.wait_with_output().await
        };
        let output = tokio::time::timeout(WAIT, talking).await.map_err(|_| failed(&"it does not come to an end"))?;
        output.map_err(|error| failed(&error))
    }

    fn succeed(&self, word: &str, output: Output) -> Result<Vec<u8>, String> {
        if output.status.success() {
            return Ok(output.stdout);
        }
        // Helpers say on standard output what is wrong.
        let said = [output.stdout, output.stderr].concat();
        Err(format!("{self} {word} has failed: {}", printable(&String::from_utf8_lossy(&said))))
    }
}

fn is_not_found(output: &Output) -> bool {
    !output.status.success() && String::from_utf8_lossy(&output.stdout).contains(NOT_FOUND)
}
