//! Changes with an author: the audit rows of a change are part of its transaction.

use std::sync::Arc;

use super::{Error, Repository};
use crate::content::rows::{AuditEvent, Author, WriteTx};

impl Repository {
    /// The same repository, changed by `author`. Changes without an author have no audit rows.
    pub(crate) fn by(self, author: Arc<dyn Author>) -> Self {
        Self { author: Some(author), ..self }
    }

    /// Makes a change that has events for the audit log.
    pub(super) fn write<T: Send + 'static>(
        &self,
        change: impl FnOnce(&mut WriteTx) -> Result<(T, Vec<AuditEvent>), Error> + Send + 'static,
    ) -> Result<T, Error> {
        let (name, now, author) = (self.name.clone(), self.stores.clock.now(), self.author.clone());
        let written = self.stores.database.write(move |tx| {
            let (value, events) = change(tx)?;
            if let Some(author) = author {
                for event in &events {
                    tx.add_audit(now, &author.row(&name, event))?;
                }
            }
            Ok::<_, Error>((value, tx.take_audited()))
        });
        let (result, rows) = written.map_or_else(|error| (Err(error), Vec::new()), |(value, rows)| (Ok(value), rows));
        if let Some(author) = &self.author {
            author.finish(rows);
        }
        result
    }
}
