//! The audit of changes to accounts. A row is written in the transaction of its change, and then to the log and the
//! audit file.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use super::{Accounts, AuditFile, Error};
use crate::content::rows::{self, AuditEvent, AuditRow, Author, EventOrigin, WriteTx};
use crate::kit::clock::Timestamp;
use crate::oci::RepositoryName;

/// The number of old rows that one transaction removes, so that no writer waits for long.
const TRIMMED_AT_ONCE: usize = 1000;

/// The user and client behind a change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Origin {
    /// The user, if known.
    pub(crate) performer: Option<String>,
    pub(crate) address: Option<String>,
    /// The other end of the connection: the client or a proxy.
    pub(crate) peer: Option<String>,
    pub(crate) agent: String,
    /// The method of the request.
    pub(crate) method: Option<String>,
    /// The id of the request.
    pub(crate) request: Option<String>,
}

impl Origin {
    /// The command line on this machine.
    pub(crate) fn local() -> Self {
        Self { agent: "coracle command line".to_owned(), ..Self::default() }
    }

    /// The registry itself.
    pub(crate) fn itself() -> Self {
        Self { agent: "coracle".to_owned(), ..Self::default() }
    }

    /// The request, for the events that it causes.
    pub(crate) fn of_events(&self) -> EventOrigin {
        let Self { performer, address, method, agent, .. } = self.clone();
        EventOrigin { actor: performer, address, method, agent: Some(agent) }
    }

    /// The audit row of a change to a repository, under the account of its namespace.
    pub(super) fn repository_row(&self, kind: &str, name: &RepositoryName, metadata: &[(&str, &str)]) -> AuditRow {
        let named = [("repo", name.as_str())];
        self.row(kind, name.namespace(), &[&named, metadata].concat())
    }

    /// The audit row of a change to an account.
    pub(super) fn row(&self, kind: &str, account: &str, metadata: &[(&str, &str)]) -> AuditRow {
        AuditRow {
            kind: kind.to_owned(),
            account: account.to_owned(),
            performer: self.performer.clone(),
            address: self.address.clone(),
            peer: self.peer.clone(),
            agent: self.agent.clone(),
            request: self.request.clone(),
            metadata: metadata.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        }
    }
}

/// An audit row with its time.
#[derive(Clone, Debug)]
pub(crate) struct AuditEntry {
    pub(crate) at: Timestamp,
    pub(crate) row: AuditRow,
}

/// A page of the audit, newest entry first.
#[derive(Debug, Default)]
pub(crate) struct AuditPage {
    pub(crate) entries: Vec<AuditEntry>,
    /// The start of the next page, if there is one.
    pub(crate) next: Option<(Timestamp, u32)>,
}

/// Metadata as a JSON object, which the JSON log format nests.
fn as_json(metadata: &[(String, String)]) -> impl tracing::Value + use<> {
    let object: BTreeMap<&str, &str> = metadata.iter().map(|(name, value)| (&**name, &**value)).collect();
    // Writing text as JSON does not fail.
    tracing::field::display(serde_json::to_string(&object).unwrap_or_default())
}

/// The author of the changes of one request or command.
#[derive(Debug)]
struct RequestAuthor {
    accounts: Arc<Accounts>,
    origin: Origin,
}

impl Author for RequestAuthor {
    fn user(&self) -> Option<&str> {
        self.origin.performer.as_deref()
    }

    fn request(&self) -> EventOrigin {
        self.origin.of_events()
    }

    fn row(&self, repository: &RepositoryName, event: &AuditEvent) -> AuditRow {
        let metadata: Vec<(&str, &str)> = event.metadata.iter().map(|(name, value)| (*name, value.as_str())).collect();
        self.origin.repository_row(event.kind, repository, &metadata)
    }

    fn finish(&self, rows: Vec<(Timestamp, AuditRow)>) {
        self.accounts.start_generation();
        self.accounts.publish_audit(rows);
    }
}

impl Accounts {
    /// Lists the audit of one account or of all between two times, newest entry first.
    pub(crate) fn audit(
        &self,
        account: Option<&str>,
        from: Timestamp,
        before: (Timestamp, u32),
        limit: usize,
    ) -> Result<AuditPage, Error> {
        let mut page = AuditPage::default();
        let mut last = before;
        self.database.read(|tx| {
            tx.each_audit(from, before, |at, row| {
                if account.is_some_and(|account| account != row.account) {
                    return ControlFlow::Continue(());
                }
                if page.entries.len() == limit {
                    page.next = Some(last);
                    return ControlFlow::Break(());
                }
                last = at;
                page.entries.push(AuditEntry { at: at.0, row });
                ControlFlow::Continue(())
            })
        })?;
        Ok(page)
    }

    /// Adds an audit row without another change.
    pub(crate) fn note(
        &self,
        kind: &str,
        account: &str,
        metadata: &[(&str, &str)],
        origin: &Origin,
    ) -> Result<(), Error> {
        let (row, now) = (origin.row(kind, account, metadata), self.clock.now());
        let ((), rows) = self.write(move |tx| Ok::<_, Error>(tx.add_audit(now, &row)?))?;
        self.publish_audit(rows);
        Ok(())
    }

    /// Writes to the database and returns the audit rows that the transaction added.
    pub(super) fn write<T, E>(
        &self,
        change: impl FnOnce(&mut WriteTx) -> Result<T, E> + Send + 'static,
    ) -> Result<(T, Vec<(Timestamp, AuditRow)>), E>
    where
        T: Send + 'static,
        E: From<rows::Error> + Send + 'static,
    {
        self.database.write(move |tx| {
            let value = change(tx)?;
            Ok((value, tx.take_audited()))
        })
    }

    /// Writes durable audit rows to the log and the audit file.
    pub(super) fn publish_audit(&self, rows: Vec<(Timestamp, AuditRow)>) {
        for (at, row) in rows {
            let AuditRow { kind, account, performer, address, peer, request, metadata, .. } = &row;
            let metadata = (!metadata.is_empty()).then(|| as_json(metadata));
            tracing::info!(target: "coracle::audit", kind, account, performer, address, peer, request, metadata);
            if let Some(file) = &self.audit_file {
                file.account(at, &row);
            }
        }
    }

    /// The audit file, if it is configured.
    pub(crate) const fn audit_file(&self) -> Option<&AuditFile> {
        self.audit_file.as_ref()
    }

    /// The author of the changes of one request or command.
    pub(crate) fn author(self: &Arc<Self>, origin: Origin) -> Arc<dyn Author> {
        Arc::new(RequestAuthor { accounts: Arc::clone(self), origin })
    }

    /// Removes audit rows that are too old.
    pub(super) fn trim_audit(&self) -> Result<(), Error> {
        let before = self.clock.now().before(self.rules.audit_kept);
        let oldest = self.database.read(|tx| {
            let mut any = false;
            tx.each_audit(Timestamp::from_micros(0), (before, 0), |_, _| {
                any = true;
                ControlFlow::Break(())
            })?;
            Ok::<_, Error>(any)
        })?;
        if oldest { Ok(self.database.write(move |tx| tx.trim_audit(before, TRIMMED_AT_ONCE))?) } else { Ok(()) }
    }
}
