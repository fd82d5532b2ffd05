//! Rows of what was done to accounts, and by whom.

use std::ops::ControlFlow;

use redb::ReadableTable as _;
use serde::{Deserialize, Serialize};

use super::schema::AUDIT;
use super::{Error, Rows, WriteTx, codec};
use crate::kit::clock::Timestamp;

/// Something that was done, or tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AuditRow {
    /// What: one of Quay's kinds, such as `login_success`.
    pub(crate) kind: String,
    /// Whose account it was done to.
    pub(crate) account: String,
    /// Who did it; nobody, if it is not known.
    pub(crate) performer: Option<String>,
    pub(crate) address: Option<String>,
    /// Who was at the other end of the connection. For the log and the audit file only; not stored.
    #[serde(skip)]
    pub(crate) peer: Option<String>,
    pub(crate) agent: String,
    /// The request it was done in.
    pub(crate) request: Option<String>,
    /// What else there is to know, by name; never a secret.
    pub(crate) metadata: Vec<(String, String)>,
}

impl Rows {
    /// Visits what was done between two times, newest first, until told to stop.
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
            let row =
                codec::decode(row.value()).ok_or_else(|| Error::Corrupt { table: "audit", key: micros.to_string() })?;
            if visit((Timestamp::from_micros(micros), number), row).is_break() {
                break;
            }
        }
        Ok(())
    }
}

impl WriteTx {
    /// Adds a row, behind all rows of the same time.
    pub(crate) fn add_audit(&mut self, at: Timestamp, row: &AuditRow) -> Result<(), Error> {
        let mut table = self.table_mut(AUDIT)?;
        let last = table.range((at.micros(), 0)..=(at.micros(), u32::MAX))?.next_back().transpose()?;
        let number = last.map_or(0, |(key, _)| key.value().1 + 1);
        table.insert((at.micros(), number), codec::encode(row).as_slice())?;
        drop(table);
        self.audited.push((at, row.clone()));
        Ok(())
    }

    /// The rows added since this was last asked: for whoever tells others of them, once they are durable.
    pub(crate) fn take_audited(&mut self) -> Vec<(Timestamp, AuditRow)> {
        std::mem::take(&mut self.audited)
    }

    /// Removes the rows before a time; at most `limit` of them.
    pub(crate) fn trim_audit(&mut self, before: Timestamp, limit: usize) -> Result<(), Error> {
        let mut table = self.table_mut(AUDIT)?;
        let old: Vec<(u64, u32)> = table
            .range(..(before.micros(), 0))?
            .take(limit)
            .map(|row| row.map(|(key, _)| key.value()))
            .collect::<Result<_, _>>()?;
        for key in old {
            table.remove(key)?;
        }
        Ok(())
    }
}
