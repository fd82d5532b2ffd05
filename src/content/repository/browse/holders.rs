//! [`Holders`]: the other repositories that have a blob, as far as a caller sees them.

use std::collections::HashMap;
use std::ops::ControlFlow;

use crate::content::repository::Error;
use crate::content::rows::Rows;
use crate::oci::{Digest, RepositoryName};

/// The most repositories that one request looks at, whether the caller sees them or not.
const LOOKED_AT_MAX: usize = 3_000;

/// Finds the visible repositories that have a blob. A repository that the caller does not see counts as absent, also in
/// sums: a caller must not learn what others store by pushing the same blob.
pub(super) struct Holders<'a> {
    tx: &'a Rows,
    /// The repository of the request, which is no other one.
    repository: &'a RepositoryName,
    visible: &'a dyn Fn(&str) -> bool,
    left: usize,
    /// The decisions so far: the layers of an image are mostly in the same repositories.
    known: HashMap<String, bool>,
    /// Whether another visible repository has a blob: images of a repository mostly have the same layers.
    shared: HashMap<Digest, bool>,
}

impl<'a> Holders<'a> {
    pub(super) fn new(tx: &'a Rows, repository: &'a RepositoryName, visible: &'a dyn Fn(&str) -> bool) -> Self {
        Self { tx, repository, visible, left: LOOKED_AT_MAX, known: HashMap::new(), shared: HashMap::new() }
    }

    /// At most `limit` names, and whether there are more.
    pub(super) fn of(&mut self, digest: Digest, limit: usize) -> Result<(Vec<String>, bool), Error> {
        let (mut names, mut has_more) = (Vec::new(), false);
        self.tx.each_linking_repository(digest, |name| {
            if self.left == 0 {
                return ControlFlow::Break(());
            }
            self.left -= 1;
            if name == self.repository.as_str() {
                return ControlFlow::Continue(());
            }
            let is_visible = match self.known.get(name) {
                Some(known) => *known,
                None => (self.visible)(name),
            };
            self.known.insert(name.to_owned(), is_visible);
            if is_visible && names.len() == limit {
                has_more = true;
                return ControlFlow::Break(());
            }
            if is_visible {
                names.push(name.to_owned());
            }
            ControlFlow::Continue(())
        })?;
        Ok((names, has_more))
    }

    /// Whether another visible repository has the blob.
    pub(super) fn has(&mut self, digest: Digest) -> Result<bool, Error> {
        if let Some(known) = self.shared.get(&digest) {
            return Ok(*known);
        }
        let (_, has_any) = self.of(digest, 0)?;
        self.shared.insert(digest, has_any);
        Ok(has_any)
    }
}
