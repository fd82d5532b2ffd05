//! The list of repositories.

use std::ops::ControlFlow;

use super::{Error, Stores};
use crate::meta::ContentRead as _;

/// A part of the repositories' names, in byte order.
#[derive(Debug)]
pub(crate) struct NamePage {
    pub(crate) names: Vec<String>,
    /// Where to go on, if there are more.
    pub(crate) next: Option<String>,
}

impl Stores {
    /// At most `limit` of the `visible` names behind `last`, which need not exist; only those that begin
    /// with `prefix`.
    pub(crate) fn catalog(
        &self,
        prefix: &str,
        last: &str,
        limit: usize,
        visible: impl Fn(&str) -> bool,
    ) -> Result<NamePage, Error> {
        let mut page = NamePage { names: Vec::new(), next: None };
        self.meta.read(|tx| {
            tx.each_repository(last.max(prefix), |name| {
                // Names with the prefix are neighbours.
                if !name.starts_with(prefix) {
                    return ControlFlow::Break(());
                }
                if !visible(name) {
                    return ControlFlow::Continue(());
                }
                if page.names.len() == limit {
                    // A name that the caller sees anyway: `last` must not tell of others.
                    page.next = page.names.last().cloned();
                    return ControlFlow::Break(());
                }
                page.names.push(name.to_owned());
                ControlFlow::Continue(())
            })
        })?;
        Ok(page)
    }
}
