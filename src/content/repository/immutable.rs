//! Immutable tags: those that a rule of the operator matches, and those that are locked one by one.
//!
//! An immutable tag can be created and pushed again with the same manifest. It cannot be moved, deleted or restored to
//! another manifest, and it does not expire. Each transaction that changes a tag checks that. The tags of signatures are
//! left out of the rules, because signing an image again moves them. An upstream may move the tags that it set.

use std::fmt;
use std::sync::Arc;

use super::{Error, Repository};
use crate::content::rows::{self, Rows};
use crate::oci::{Digest, RepositoryName, RepositoryPattern, Tag, TagRule};

/// A rule of the operator.
#[derive(Clone, Debug)]
pub(crate) struct ImmutableRule {
    /// Its name in messages.
    pub(crate) name: String,
    pub(crate) repositories: Vec<RepositoryPattern>,
    /// The immutable tags of the rule.
    pub(crate) tags: TagRule,
}

/// The rules of the operator.
#[derive(Clone, Debug, Default)]
pub(crate) struct ImmutableTags(Arc<[ImmutableRule]>);

/// The reason why a tag is immutable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Immutable {
    /// The rule with this name.
    Rule(String),
    /// A user has locked the tag.
    Locked,
}

impl fmt::Display for Immutable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rule(name) => write!(f, "immutable by the rule {name:?}"),
            Self::Locked => f.write_str("locked"),
        }
    }
}

impl ImmutableTags {
    pub(crate) fn new(rules: Vec<ImmutableRule>) -> Self {
        Self(rules.into())
    }

    /// The rule that makes a tag immutable.
    pub(super) fn rule(&self, name: &RepositoryName, tag: &Tag) -> Option<Immutable> {
        if tag.companion_of().is_some() {
            return None;
        }
        let matches = |rule: &&ImmutableRule| {
            rule.tags.is_immutable(tag) && rule.repositories.iter().any(|pattern| pattern.matches(name))
        };
        self.0.iter().find(matches).map(|rule| Immutable::Rule(rule.name.clone()))
    }

    /// The reason why an existing tag is immutable.
    pub(super) fn reason(&self, tx: &Rows, name: &RepositoryName, tag: &Tag) -> Result<Option<Immutable>, rows::Error> {
        if let Some(rule) = self.rule(name, tag) {
            return Ok(Some(rule));
        }
        Ok(tx.tag_attributes(name, tag)?.immutable.then_some(Immutable::Locked))
    }

    /// Fails if an existing tag is immutable.
    pub(super) fn check(&self, tx: &Rows, name: &RepositoryName, tag: &Tag) -> Result<(), Error> {
        match self.reason(tx, name, tag)? {
            Some(by) => Err(Error::TagImmutable { tag: tag.clone(), by }),
            None => Ok(()),
        }
    }

    /// Fails if a tag exists, does not point at `digest`, and is immutable.
    pub(super) fn check_move(&self, tx: &Rows, name: &RepositoryName, tag: &Tag, digest: Digest) -> Result<(), Error> {
        match tx.tag(name, tag)? {
            Some(row) if row.digest != digest => self.check(tx, name, tag),
            _ => Ok(()),
        }
    }
}

impl Repository {
    /// Those of some tags that exist and are immutable, each with the reason.
    pub(crate) fn immutable_tags(&self, tags: &[Tag]) -> Result<Vec<(Tag, Immutable)>, Error> {
        let rules = &self.stores.rules.immutable;
        self.stores.database.read(|tx| {
            let mut immutable = Vec::new();
            for tag in tags {
                if tx.tag(&self.name, tag)?.is_some()
                    && let Some(reason) = rules.reason(tx, &self.name, tag)?
                {
                    immutable.push((tag.clone(), reason));
                }
            }
            Ok(immutable)
        })
    }
}

#[cfg(test)]
mod tests;
