//! Changes with an author: the audit rows of a change are part of its transaction.

use std::sync::Arc;

use super::{Error, Repository};
use crate::content::rows::{AuditEvent, Author, EventOrigin, WriteTx};

impl Repository {
    /// The same repository, changed by `author`. Changes without an author have no audit rows.
    pub(crate) fn by(self, author: Arc<dyn Author>) -> Self {
        Self { author: Some(author), ..self }
    }

    /// The same repository, changed by a request that has no audit rows.
    pub(crate) fn requested_by(self, request: EventOrigin) -> Self {
        Self { request: Some(request), ..self }
    }

    /// The request behind a change, for the events that it causes.
    pub(super) fn request(&self) -> Option<EventOrigin> {
        self.author.as_ref().map(|author| author.request()).or_else(|| self.request.clone())
    }

    /// Makes a change that has events for the audit log.
    pub(super) fn write<T: Send + 'static>(
        &self,
        change: impl FnOnce(&mut WriteTx) -> Result<(T, Vec<AuditEvent>), Error> + Send + 'static,
    ) -> Result<T, Error> {
        let (name, now, author) = (self.name.clone(), self.stores.clock.now(), self.author.clone());
        let request = self.request();
        let written = self.stores.database.write(move |tx| {
            tx.set_event_origin(request);
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
