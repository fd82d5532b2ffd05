//! The list of repositories.

use std::ops::ControlFlow;

use super::{Error, Stores};
use crate::content::rows::Rows;
use crate::oci::RepositoryName;

/// A page of repository names, in byte order.
#[derive(Debug)]
pub(crate) struct NamePage {
    pub(crate) names: Vec<String>,
    /// The last name of the page, if there are more.
    pub(crate) next: Option<String>,
}

/// The part of the catalog that a caller can see. A caller who sees few of many repositories does not walk through all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SearchScope {
    All,
    Some {
        /// All names with one of these beginnings, such as `alice/`. None begins with another one.
        beginnings: Vec<String>,
        /// Single names, which need not exist.
        names: Vec<RepositoryName>,
    },
}

impl SearchScope {
    /// The names with any of these beginnings, and some other names. All names if one of the beginnings is empty.
    pub(crate) fn of(mut beginnings: Vec<String>, names: Vec<RepositoryName>) -> Self {
        beginnings.sort_unstable();
        beginnings.dedup_by(|longer, kept| longer.starts_with(kept.as_str()));
        if beginnings.first().is_some_and(String::is_empty) { Self::All } else { Self::Some { beginnings, names } }
    }
}

impl Stores {
    /// The next repositories after `after`, which becomes the last of them, for long work in steps.
    /// `None` at the end.
    pub(super) fn next_names(&self, after: &mut String) -> Result<Option<Vec<RepositoryName>>, Error> {
        let mut names = Vec::new();
        self.database.read(|tx| {
            tx.each_repository(after, |name| {
                names.push(name.to_owned());
                if names.len() == NAMES { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })
        })?;
        let Some(last) = names.last() else { return Ok(None) };
        after.clone_from(last);
        Ok(Some(names.iter().filter_map(|name| name.parse().ok()).collect()))
    }

    /// At most `limit` of the `visible` names after `last` that begin with `prefix`. The name `last` need not exist. Every
    /// visible name must be within `scope`.
    pub(crate) fn catalog(
        &self,
        (prefix, last): (&str, &str),
        limit: usize,
        scope: &SearchScope,
        visible: impl Fn(&str) -> bool,
    ) -> Result<NamePage, Error> {
        // One more than the page has says whether there is another page.
        let wanted = limit.saturating_add(1);
        let mut names = Vec::new();
        self.database.read(|tx| match scope {
            SearchScope::All => take(tx, prefix, last, wanted, &visible, &mut names),
            SearchScope::Some { beginnings, names: several } => {
                for within in beginnings {
                    if within.starts_with(prefix) || prefix.starts_with(within) {
                        take(tx, within.as_str().max(prefix), last, wanted, &visible, &mut names)?;
                    }
                }
                for name in several {
                    let text = name.as_str();
                    if text > last && text.starts_with(prefix) && visible(text) && tx.repository(name)?.is_some() {
                        names.push(text.to_owned());
                    }
                }
                Ok(())
            }
        })?;
        names.sort_unstable();
        names.dedup();
        let is_all = names.len() <= limit;
        names.truncate(limit);
        // `last` is a name that the caller sees: it must not reveal others.
        let next = if is_all { None } else { names.last().cloned() };
        Ok(NamePage { names, next })
    }
}

/// The names that one transaction of long work reads.
const NAMES: usize = 256;

/// Adds the first `wanted` visible names after `last` that begin with `within`.
fn take(
    tx: &Rows,
    within: &str,
    last: &str,
    wanted: usize,
    visible: impl Fn(&str) -> bool,
    names: &mut Vec<String>,
) -> Result<(), Error> {
    let full = names.len().saturating_add(wanted);
    tx.each_repository_within(within, last, |name| {
        if visible(name) {
            names.push(name.to_owned());
        }
        if names.len() == full { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    Ok(())
}
