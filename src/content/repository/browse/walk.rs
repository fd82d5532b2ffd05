//! [`Walk`]: visits the repositories that a caller sees, in byte order.
//!
//! A caller who sees few of many repositories does not walk through all. The number of names that a walk looks at is
//! limited, whether the caller sees them or not.

use std::ops::ControlFlow;

use crate::content::repository::{Error, SearchScope};
use crate::content::rows::Rows;
use crate::oci::RepositoryName;

/// The most names that one walk looks at.
pub(super) const LOOKED_AT_MAX: usize = 200_000;
/// Greater than every byte of a name.
const LAST: char = '\u{7f}';

/// The next step of a walk after a name.
#[derive(Debug)]
pub(super) enum Step {
    Next,
    /// Leaves out the rest of a folder: a path that ends in a slash.
    LeaveFolder(String),
    Stop,
}

/// A walk over names after `after` that begin with `prefix`.
pub(super) struct Walk<'a> {
    pub(super) tx: &'a Rows,
    pub(super) scope: &'a SearchScope,
    /// Every visible name must be within `scope`.
    pub(super) visible: &'a dyn Fn(&str) -> bool,
    pub(super) prefix: &'a str,
    /// The last name, or a folder with its slash.
    pub(super) after: &'a str,
}

impl Walk<'_> {
    /// Visits each visible name until `visit` stops. Returns whether the walk was cut off by its limit.
    pub(super) fn each(&self, mut visit: impl FnMut(&str) -> Step) -> Result<bool, Error> {
        let (mut after, mut left) = (past(self.after), LOOKED_AT_MAX);
        for part in self.parts() {
            let is_done = match part {
                Part::Within(within) => self.walk(&within, &mut after, &mut left, &mut visit)?,
                Part::Name(name) => {
                    let text = name.as_str();
                    let is_wanted = text > after.as_str() && text.starts_with(self.prefix) && (self.visible)(text);
                    if !is_wanted || self.tx.repository(&name)?.is_none() {
                        continue;
                    }
                    match visit(text) {
                        Step::Next => false,
                        Step::LeaveFolder(folder) => {
                            after = past(&folder);
                            false
                        }
                        Step::Stop => true,
                    }
                }
            };
            if is_done || left == 0 {
                return Ok(left == 0);
            }
        }
        Ok(false)
    }

    /// Visits the names that begin with `within`. Returns whether `visit` stopped.
    fn walk(
        &self,
        within: &str,
        after: &mut String,
        left: &mut usize,
        visit: &mut dyn FnMut(&str) -> Step,
    ) -> Result<bool, Error> {
        let mut is_done = false;
        loop {
            let mut skipped_to = None;
            self.tx.each_repository_within(within, after, |name| {
                if *left == 0 {
                    return ControlFlow::Break(());
                }
                *left -= 1;
                if !(self.visible)(name) {
                    return ControlFlow::Continue(());
                }
                match visit(name) {
                    Step::Next => return ControlFlow::Continue(()),
                    Step::LeaveFolder(folder) => skipped_to = Some(past(&folder)),
                    Step::Stop => is_done = true,
                }
                ControlFlow::Break(())
            })?;
            match skipped_to {
                Some(next) => *after = next,
                None => return Ok(is_done),
            }
        }
    }

    /// The parts of the scope that may have names with the prefix, in byte order.
    pub(super) fn parts(&self) -> Vec<Part> {
        let SearchScope::Some { beginnings, names } = self.scope else {
            return vec![Part::Within(self.prefix.to_owned())];
        };
        let mut parts = Vec::new();
        for within in beginnings {
            if within.starts_with(self.prefix) || self.prefix.starts_with(within) {
                parts.push(Part::Within(within.as_str().max(self.prefix).to_owned()));
            }
        }
        let is_within = |name: &RepositoryName| beginnings.iter().any(|within| name.as_str().starts_with(within));
        parts.extend(names.iter().filter(|name| !is_within(name)).cloned().map(Part::Name));
        parts.sort_unstable_by(|a, b| a.text().cmp(b.text()));
        parts.dedup_by(|a, b| a.text() == b.text());
        parts
    }
}

/// A part of a scope.
#[derive(Debug)]
pub(super) enum Part {
    /// All names with this beginning.
    Within(String),
    /// One name, which need not exist.
    Name(RepositoryName),
}

impl Part {
    /// The beginning of its names, or its only name.
    pub(super) fn text(&self) -> &str {
        match self {
            Self::Within(within) => within,
            Self::Name(name) => name.as_str(),
        }
    }

    /// Whether it has a name.
    pub(super) fn has(&self, name: &str) -> bool {
        match self {
            Self::Within(within) => name.starts_with(within.as_str()),
            Self::Name(only) => name == only.as_str(),
        }
    }
}

/// The text after a position: the position itself for a name, the end of a folder for a path that ends in a slash.
fn past(position: &str) -> String {
    let mut text = position.to_owned();
    if text.ends_with('/') {
        text.push(LAST);
    }
    text
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;
    use crate::content::repository::scene::{Scene, rules};

    #[test]
    fn a_walk_visits_what_the_scope_has_once_and_in_order() {
        let scene = Scene::new(rules());
        for name in ["a", "a-b/x", "a/x", "a/y/z", "b", "b/x", "c/x"] {
            scene.repository(name).push_blob(b"{}");
        }
        let names = |scope: &SearchScope, prefix: &str, after: &str| {
            let mut names = Vec::new();
            let is_cut = scene.stores.database.read(|tx| {
                let walk = Walk { tx, scope, visible: &|name| name != "b/x", prefix, after };
                walk.each(|name| {
                    names.push(name.to_owned());
                    Step::Next
                })
            });
            assert!(!is_cut.unwrap());
            names.join(" ")
        };
        let some = |beginnings: &[&str], names: &[&str]| {
            let beginnings = beginnings.iter().map(ToString::to_string).collect();
            SearchScope::of(beginnings, names.iter().map(|name| name.parse().unwrap()).collect())
        };
        assert_eq!(names(&SearchScope::All, "", ""), "a a-b/x a/x a/y/z b c/x");
        assert_eq!(names(&SearchScope::All, "a/", "a/x"), "a/y/z");
        assert_eq!(names(&SearchScope::All, "", "a/"), "b c/x");
        assert_eq!(
            names(&some(&["b/", "a/", "a/", "a/y/"], &["a/x", "c/x", "a", "absent"]), "", ""),
            "a a/x a/y/z c/x"
        );
        assert_eq!(names(&some(&["a/"], &["c/x"]), "a/y/", ""), "a/y/z");
        assert_eq!(names(&some(&["a"], &["c/x"]), "", ""), "a a-b/x a/x a/y/z c/x");
        assert_eq!(names(&some(&["a", ""], &[]), "", ""), "a a-b/x a/x a/y/z b c/x");
        assert_eq!(names(&some(&[], &[]), "", ""), "");
    }

    #[test]
    fn a_folder_is_left_without_its_neighbours() {
        let scene = Scene::new(rules());
        for name in ["a/x", "a/y", "a0", "b"] {
            scene.repository(name).push_blob(b"{}");
        }
        let mut names = Vec::new();
        let walk = |tx: &Rows| {
            Walk { tx, scope: &SearchScope::All, visible: &|_| true, prefix: "", after: "" }.each(|name| {
                names.push(name.to_owned());
                if name.starts_with("a/") { Step::LeaveFolder("a/".to_owned()) } else { Step::Next }
            })
        };
        scene.stores.database.read(walk).unwrap();
        assert_eq!(names, ["a/x", "a0", "b"]);
    }
}
