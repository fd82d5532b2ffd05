//! [`AuditFile`]: what was done, as lines of JSON in a file of the operator's; zot's `log.audit`.
//!
//! Two kinds of line with the same names: one for each request that changed something, in zot's form, and
//! one for each row of the audit of accounts. What must hold: a line is there before its request is
//! answered; a failure to write one is logged, and is never the request's; no line has a secret.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use crate::clock::Timestamp;
use crate::meta::AuditRow;

/// Nobody but the owner reads who did what.
const MODE: u32 = 0o600;

/// What tells one file from another: device and inode.
type Mark = (u64, u64);

/// A file that is only appended to.
#[derive(Debug)]
pub(crate) struct AuditFile {
    path: PathBuf,
    open: Mutex<Open>,
}

#[derive(Debug)]
struct Open {
    file: File,
    mark: Mark,
    /// Whether the last line is cut off, because the disk was full in the middle of it.
    torn: bool,
}

/// A request that changed something.
#[derive(Debug)]
pub(crate) struct RequestEntry {
    pub(crate) client: String,
    pub(crate) user: String,
    pub(crate) method: String,
    /// The path, and the parameters that say what it is on.
    pub(crate) target: String,
    pub(crate) status: u16,
    pub(crate) id: String,
}

/// A line; zot's names, in zot's order.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Line<'a> {
    level: &'static str,
    #[serde(rename = "clientIP")]
    client_ip: &'a str,
    subject: &'a str,
    action: &'a str,
    object: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    agent: Option<&'a str>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    metadata: BTreeMap<&'a str, &'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request: Option<&'a str>,
    time: String,
    message: &'static str,
}

impl AuditFile {
    /// Opens the file, or makes it.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), open: Mutex::new(Open::at(path)?) })
    }

    /// Writes down a request.
    pub(crate) fn request(&self, at: Timestamp, entry: &RequestEntry) {
        self.write(&Line {
            level: "info",
            client_ip: &entry.client,
            subject: &entry.user,
            action: &entry.method,
            object: &entry.target,
            status: Some(entry.status),
            agent: None,
            metadata: BTreeMap::new(),
            request: Some(&entry.id),
            time: at.to_string(),
            message: "HTTP API Audit",
        });
    }

    /// Writes down what was done to an account.
    pub(super) fn account(&self, at: Timestamp, row: &AuditRow) {
        self.write(&Line {
            level: "info",
            client_ip: row.address.as_deref().unwrap_or_default(),
            subject: row.performer.as_deref().unwrap_or_default(),
            action: &row.kind,
            object: &row.account,
            status: None,
            agent: Some(&row.agent),
            metadata: row.metadata.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect(),
            request: row.request.as_deref(),
            time: at.to_string(),
            message: "account audit",
        });
    }

    fn write(&self, line: &Line<'_>) {
        let written = serde_json::to_vec(line).map_err(io::Error::from).and_then(|line| self.append(&line));
        if let Err(error) = written {
            let (action, object) = (line.action, line.object);
            tracing::error!(path = %self.path.display(), %error, action, object, "the audit file lacks a line");
        }
    }

    fn append(&self, line: &[u8]) -> io::Result<()> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever rotates files moves this one away, and need not say so.
        if mark(&self.path).ok() != Some(open.mark) {
            *open = Open::at(&self.path)?;
        }
        open.append(line)
    }
}

impl Open {
    fn at(path: &Path) -> io::Result<Self> {
        let file = File::options().append(true).create(true).mode(MODE).open(path)?;
        let metadata = file.metadata()?;
        Ok(Self { file, mark: (metadata.dev(), metadata.ino()), torn: false })
    }

    fn append(&mut self, line: &[u8]) -> io::Result<()> {
        let before: &[u8] = if self.torn { b"\n" } else { b"" };
        let whole = [before, line, b"\n"].concat();
        let mut rest = whole.as_slice();
        while !rest.is_empty() {
            match self.file.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => rest = &rest[count..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.torn |= rest.len() < whole.len();
                    return Err(error);
                }
            }
        }
        self.torn = false;
        Ok(())
    }
}

fn mark(path: &Path) -> io::Result<Mark> {
    let metadata = fs::metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_was_cut_off_spoils_no_other() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit");
        fs::write(&path, "{\"cut\":").unwrap();
        let mut open = Open { torn: true, ..Open::at(&path).unwrap() };
        open.append(b"{\"whole\":1}").unwrap();
        open.append(b"{\"whole\":2}").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "{\"cut\":\n{\"whole\":1}\n{\"whole\":2}\n");
    }
}
