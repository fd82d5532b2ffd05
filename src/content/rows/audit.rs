//! Rows of the audit log.

use std::fmt;
use std::ops::ControlFlow;

use redb::ReadableTable as _;
use serde::{Deserialize, Serialize};

use super::schema::AUDIT;
use super::{Error, EventOrigin, Rows, WriteTx, codec};
use crate::kit::clock::Timestamp;
use crate::oci::RepositoryName;

/// Something that was done, or attempted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AuditRow {
    /// One of Quay's kinds, such as `login_success`.
    pub(crate) kind: String,
    /// The account that it was done to.
    pub(crate) account: String,
    /// The caller, if known.
    pub(crate) performer: Option<String>,
    pub(crate) address: Option<String>,
    /// The other end of the connection. For the log and the audit file only; the row does not contain it.
    #[serde(skip)]
    pub(crate) peer: Option<String>,
    pub(crate) agent: String,
    /// The id of the request.
    pub(crate) request: Option<String>,
    /// More facts by name, never a secret.
    pub(crate) metadata: Vec<(String, String)>,
}

/// An event of a repository, for the audit log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AuditEvent {
    /// One of Quay's kinds, such as `move_tag`.
    pub(crate) kind: &'static str,
    pub(crate) metadata: Vec<(&'static str, String)>,
}

impl AuditEvent {
    pub(crate) fn new(kind: &'static str) -> Self {
        Self { kind, metadata: Vec::new() }
    }

    pub(crate) fn with(mut self, name: &'static str, value: &impl ToString) -> Self {
        self.metadata.push((name, value.to_string()));
        self
    }
}

/// The author of a change, who makes its audit rows.
pub(crate) trait Author: fmt::Debug + Send + Sync {
    /// The name of the user. `None` if the caller is anonymous.
    fn user(&self) -> Option<&str>;

    /// The request behind the change, for the events that it causes.
    fn request(&self) -> EventOrigin;

    /// The row of an event of a repository.
    fn row(&self, repository: &RepositoryName, event: &AuditEvent) -> AuditRow;

    /// Ends a change. `rows` are its audit rows, which are durable now. A failed change has no rows.
    fn finish(&self, rows: Vec<(Timestamp, AuditRow)>);
}

impl Rows {
    /// Visits the audit rows between two times, the newest first, until `visit` breaks.
    pub(crate) fn each_audit(
        &self,
        from: Timestamp,
        before: (Timestamp, u32),
        mut visit: impl FnMut((Timestamp, u32), AuditRow) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        let table = self.table(AUDIT)?;
        for row in table.range((from.micros(), 0)..(before.0.micros(), before.1))?.rev() {
            let (at, row) = row?;
            let (micros, number) = at.value();
            let row = codec::row(AUDIT, row.value(), micros)?;
            if visit((Timestamp::from_micros(micros), number), row).is_break() {
                break;
            }
        }
        Ok(())
    }
}

impl WriteTx {
    /// Adds a row after all rows of the same time.
    pub(crate) fn add_audit(&mut self, at: Timestamp, row: &AuditRow) -> Result<(), Error> {
        let mut table = self.table_mut(AUDIT)?;
        let last = table.range((at.micros(), 0)..=(at.micros(), u32::MAX))?.next_back().transpose()?;
        let number = last.map_or(0, |(key, _)| key.value().1 + 1);
        table.insert((at.micros(), number), codec::encode(row).as_slice())?;
        drop(table);
        self.audited.push((at, row.clone()));
        Ok(())
    }

    /// Takes the rows added since the last call. The caller logs them when they are durable.
    pub(crate) fn take_audited(&mut self) -> Vec<(Timestamp, AuditRow)> {
        std::mem::take(&mut self.audited)
    }

    /// Removes at most `limit` rows from before a time.
    pub(crate) fn trim_audit(&mut self, before: Timestamp, limit: usize) -> Result<(), Error> {
        let old = self.table(AUDIT)?.collect(..(before.micros(), 0), limit, |key, _| Ok(Some(key)))?;
        let mut table = self.table_mut(AUDIT)?;
        for key in old {
            table.remove(key)?;
        }
        Ok(())
    }
}
