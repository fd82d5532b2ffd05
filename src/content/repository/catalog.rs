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
        /// Namespaces: first components of names.
        namespaces: Vec<String>,
        /// Single names, which need not exist.
        names: Vec<RepositoryName>,
    },
}

impl Stores {
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
            SearchScope::All => take(tx, (prefix, last), prefix, wanted, &visible, &mut names),
            SearchScope::Some { namespaces, names: several } => {
                for namespace in namespaces {
                    let within = format!("{namespace}/");
                    if within.starts_with(prefix) || prefix.starts_with(&within) {
                        take(tx, (prefix, last), within.as_str().max(prefix), wanted, &visible, &mut names)?;
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

/// Adds the first `wanted` visible names after `last` that begin with `prefix` and with `within`. One of the two begins
/// with the other.
fn take(
    tx: &Rows,
    (prefix, last): (&str, &str),
    within: &str,
    wanted: usize,
    visible: impl Fn(&str) -> bool,
    names: &mut Vec<String>,
) -> Result<(), Error> {
    let full = names.len().saturating_add(wanted);
    tx.each_repository(last.max(within), |name| {
        // Names with the same beginning are neighbours.
        if !name.starts_with(within) || !name.starts_with(prefix) {
            return ControlFlow::Break(());
        }
        if visible(name) {
            names.push(name.to_owned());
        }
        if names.len() == full { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    Ok(())
}
