//! Tags of a repository.

use super::{Error, Repository};

/// A page of tags, in byte order.
#[derive(Debug, Default)]
pub(crate) struct TagPage {
    pub(crate) tags: Vec<String>,
    /// Whether more tags follow.
    pub(crate) more: bool,
}

impl Repository {
    /// At most `limit` tags after `last`. The tag `last` need not exist.
    pub(crate) fn tags(&self, last: &str, limit: usize) -> Result<TagPage, Error> {
        self.stores.database.read(|tx| {
            if tx.repository(&self.name)?.is_none() {
                return Err(Error::RepositoryUnknown { name: self.name.clone() });
            }
            let (tags, more) = tx.tags(&self.name, last, limit)?;
            Ok(TagPage { tags, more })
        })
    }
}
