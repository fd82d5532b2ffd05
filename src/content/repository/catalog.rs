//! The list of repositories.

use std::ops::ControlFlow;

use super::{Error, Stores};
use crate::content::rows::Rows;
use crate::oci::RepositoryName;

/// A part of the repositories' names, in byte order.
#[derive(Debug)]
pub(crate) struct NamePage {
    pub(crate) names: Vec<String>,
    /// Where to go on, if there are more.
    pub(crate) next: Option<String>,
}

/// Where to look for repositories that somebody sees, so that who sees few of many does not go through all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SearchScope {
    All,
    Some {
        /// Those below these first parts of names,
        namespaces: Vec<String>,
        /// and these, which need not exist.
        names: Vec<RepositoryName>,
    },
}

impl Stores {
    /// At most `limit` of the `visible` names behind `last`, which need not exist; only those that begin
    /// with `prefix`. What is visible must lie `among` what is looked at.
    pub(crate) fn catalog(
        &self,
        (prefix, last): (&str, &str),
        limit: usize,
        among: &SearchScope,
        visible: impl Fn(&str) -> bool,
    ) -> Result<NamePage, Error> {
        // One more than the page has says whether there is another page.
        let wanted = limit.saturating_add(1);
        let mut names = Vec::new();
        self.database.read(|tx| match among {
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
        // A name that the caller sees anyway: `last` must not tell of others.
        let next = if is_all { None } else { names.last().cloned() };
        Ok(NamePage { names, next })
    }
}

/// Adds the first `wanted` visible names behind `last` that begin with `prefix` and with `within`, one of which is the
/// beginning of the other.
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
