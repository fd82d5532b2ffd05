//! Lists of repositories with tags: in the orders of rows, and by the rank of a text in their names.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};
use std::ops::ControlFlow;

use super::{Gallery, Tagged, take};
use crate::content::repository::browse::walk::{Step, Walk};
use crate::content::repository::{Error, SearchScope};
use crate::content::rows::{Order, Platform, Preference};
use crate::oci::RepositoryName;

/// A viewer who sees at most this many repositories gets them collected and sorted. Otherwise an order is read.
const COLLECTED_MAX: usize = 2_000;
/// The most starred repositories that are sorted by their stars, and the most preferences of a user.
const STARRED_MAX: usize = 10_000;

/// The order of a list of repositories.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum RepositorySort {
    /// By the place of the searched text in the name.
    #[default]
    Relevance,
    Name,
    NameDescending,
    /// The latest change first.
    Change,
    /// The most pulls first.
    Pulls,
    /// The most stars first.
    Stars,
}

/// Conditions on repositories.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RepositoryFilter {
    /// Any of these systems and architectures, in lower case. Empty for all.
    pub(crate) systems: Vec<String>,
    pub(crate) architectures: Vec<String>,
    /// Whether the newest image must have a signature.
    pub(crate) signed: bool,
    pub(crate) starred: bool,
    pub(crate) bookmarked: bool,
}

impl RepositoryFilter {
    fn looks_at_images(&self) -> bool {
        self.signed || self.names_platforms()
    }

    fn names_platforms(&self) -> bool {
        !self.systems.is_empty() || !self.architectures.is_empty()
    }

    /// Whether any of the platforms fits.
    fn has_any(&self, platforms: &[Platform]) -> bool {
        let meets = |wanted: &[String], text: &str| wanted.is_empty() || wanted.iter().any(|one| *one == text);
        platforms.iter().any(|platform| {
            meets(&self.systems, &platform.os.to_lowercase())
                && (meets(&self.architectures, &architecture_of(platform).to_lowercase())
                    || meets(&self.architectures, &platform.architecture.to_lowercase()))
        })
    }
}

/// Selects repositories.
#[derive(Clone, Debug, Default)]
pub(crate) struct Selection {
    /// The searched text, in lower case. Empty for all repositories, and `None` for a list that is not searched.
    pub(crate) text: Option<String>,
    pub(crate) sort: RepositorySort,
    pub(crate) filter: RepositoryFilter,
    pub(crate) offset: usize,
    pub(crate) limit: usize,
    /// Whether the repositories on all pages are counted.
    pub(crate) is_counted: bool,
}

impl Selection {
    fn text(&self) -> &str {
        self.text.as_deref().unwrap_or_default()
    }

    /// The rank of a repository that was found. 0 is the best.
    pub(crate) fn rank(&self, name: &RepositoryName) -> u32 {
        let rank = self.text.as_deref().and_then(|text| rank(text, name.as_str()));
        rank.unwrap_or_default()
    }
}

/// A page of repositories.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Selected {
    pub(crate) names: Vec<RepositoryName>,
    /// The number of repositories on all pages, if it was requested. A limit of the request may make it smaller.
    pub(crate) total: usize,
    /// The number of repositories that were looked at, if there are more: neither the page nor the total is complete.
    pub(crate) looked_at: Option<usize>,
}

/// Called for each repository in order.
type Visit<'v> = &'v mut dyn FnMut(&str) -> Result<ControlFlow<()>, Error>;

impl Gallery<'_> {
    /// A page of repositories that have tags. All of them are looked at only if they are counted.
    pub(crate) fn select(&self, selection: &Selection) -> Result<Selected, Error> {
        let (mut names, mut visited) = (Vec::new(), 0);
        let end = selection.offset.saturating_add(selection.limit);
        let mut add = |name: &str| {
            if (selection.offset..end).contains(&visited) {
                names.extend(name.parse().ok());
            }
            visited += 1;
            if visited >= end { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let filter = &selection.filter;
        if filter.looks_at_images() {
            let (mut left, mut looked_at) = (self.limits.filtered, None);
            self.each_preferred(selection, left + 1, &mut |name| {
                if left == 0 {
                    looked_at = Some(self.limits.filtered);
                }
                if left == 0 || self.is_exhausted() {
                    return Ok(ControlFlow::Break(()));
                }
                left -= 1;
                let Ok(parsed) = name.parse() else { return Ok(ControlFlow::Continue(())) };
                let is_full = self.has_images(&parsed, filter)? && add(name).is_break();
                Ok(if is_full && !selection.is_counted { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
            })?;
            return Ok(Selected { names, total: visited, looked_at });
        }
        let counted = self.each_preferred(selection, end, &mut |name| Ok(add(name)))?;
        let total = match counted {
            Some(total) => total,
            None if selection.is_counted => self.count(selection)?,
            None => visited,
        };
        Ok(Selected { names, total, looked_at: None })
    }

    /// Counts all repositories that a selection is about, by their names.
    fn count(&self, selection: &Selection) -> Result<usize, Error> {
        let mut count = 0;
        self.each_name(false, selection.text(), &mut |_| {
            count += 1;
            ControlFlow::Continue(())
        })?;
        Ok(count)
    }

    /// Whether the images of a repository meet a filter.
    fn has_images(&self, name: &RepositoryName, filter: &RepositoryFilter) -> Result<bool, Error> {
        let Some(newest) = self.newest(name)? else { return Ok(false) };
        if filter.signed && !self.is_signed(name, newest.digest)? {
            return Ok(false);
        }
        Ok(!filter.names_platforms() || filter.has_any(&self.platforms_and_vendors(name)?.0))
    }

    /// Whether an image, and its repository, meet a filter.
    pub(crate) fn meets(&self, image: &Tagged, filter: &RepositoryFilter) -> Result<bool, Error> {
        let name = &image.repository;
        if filter.signed && !self.is_signed(name, image.digest)?
            || filter.starred && !self.has_starred(name)?
            || filter.bookmarked && !self.has_bookmarked(name)?
        {
            return Ok(false);
        }
        if !filter.names_platforms() {
            return Ok(true);
        }
        let Some(facts) = self.facts(name, image.digest)? else { return Ok(false) };
        let platforms: Vec<Platform> = facts.platform.into_iter().chain(facts.platforms).collect();
        Ok(filter.has_any(&platforms))
    }

    /// Visits the repositories of a selection in order, without the conditions on images, until `visit` breaks. At most
    /// the first `end` are needed. Returns the number of all if it is known then.
    fn each_preferred(&self, selection: &Selection, end: usize, visit: Visit<'_>) -> Result<Option<usize>, Error> {
        let wanted =
            [(selection.filter.starred, Preference::Star), (selection.filter.bookmarked, Preference::Bookmark)];
        let mut wanted = wanted.into_iter().filter_map(|(is_wanted, preference)| is_wanted.then_some(preference));
        let Some(first) = wanted.next() else { return self.each_sorted(selection, end, visit) };
        // Users prefer few of many repositories.
        let Some(user) = self.viewer.user else { return Ok(Some(0)) };
        let mut names = self.read().preferred(user, first, STARRED_MAX)?;
        for other in wanted {
            let others: HashSet<String> = self.read().preferred(user, other, STARRED_MAX)?.into_iter().collect();
            names.retain(|name| others.contains(name));
        }
        names.retain(|name| rank(selection.text(), name).is_some() && (self.viewer.sees)(name));
        self.each_of(names, selection, visit).map(Some)
    }

    fn each_sorted(&self, selection: &Selection, end: usize, visit: Visit<'_>) -> Result<Option<usize>, Error> {
        let text = selection.text();
        if *self.viewer.scope != SearchScope::All {
            let admits = |name: &str| rank(text, name).is_some() && (self.viewer.sees)(name);
            let mut names = Vec::new();
            let walk = Walk { tx: self.rows, scope: self.viewer.scope, visible: &admits, prefix: "", after: "" };
            walk.each(|name| {
                names.push(name.to_owned());
                if take(&self.names_left) && names.len() <= COLLECTED_MAX { Step::Next } else { Step::Stop }
            })?;
            if names.len() <= COLLECTED_MAX {
                return self.each_of(names, selection, visit).map(Some);
            }
        }
        let sort = match selection.sort {
            RepositorySort::Relevance if text.is_empty() => RepositorySort::Name,
            RepositorySort::Change | RepositorySort::Pulls if !self.read().totals_complete()? => RepositorySort::Name,
            sort => sort,
        };
        match sort {
            RepositorySort::Name => self.each_by_name(false, text, visit)?,
            RepositorySort::NameDescending => self.each_by_name(true, text, visit)?,
            RepositorySort::Change => self.each_in_order(Order::Change, text, visit)?,
            RepositorySort::Pulls => self.each_in_order(Order::Pulls, text, visit)?,
            RepositorySort::Stars => self.each_by_stars(text, visit)?,
            RepositorySort::Relevance => return self.each_by_rank(text, end, visit).map(Some),
        }
        Ok(None)
    }

    /// Visits names that were collected, if they have tags. Returns their number.
    fn each_of(&self, names: Vec<String>, selection: &Selection, visit: Visit<'_>) -> Result<usize, Error> {
        let mut sorted = Vec::with_capacity(names.len());
        for name in names {
            let Ok(parsed) = name.parse::<RepositoryName>() else { continue };
            let Some((row, totals)) = self.read().repository_and_totals(&parsed)? else { continue };
            if totals.map_or(row.manifests > 0, |totals| totals.tags > 0) {
                let value = match selection.sort {
                    RepositorySort::Relevance => {
                        u64::MAX - u64::from(rank(selection.text(), &name).unwrap_or(u32::MAX))
                    }
                    RepositorySort::Name | RepositorySort::NameDescending => 0,
                    RepositorySort::Change => totals.map_or(0, |totals| totals.changed.micros()),
                    RepositorySort::Pulls => totals.map_or(0, |totals| totals.pulls),
                    RepositorySort::Stars => self.read().stars(&parsed)?,
                };
                sorted.push((Reverse(value), name));
            }
        }
        sorted.sort_unstable();
        if selection.sort == RepositorySort::NameDescending {
            sorted.reverse();
        }
        let total = sorted.len();
        for (_, name) in sorted {
            if visit(&name)?.is_break() {
                break;
            }
        }
        Ok(total)
    }

    /// Visits the visible repositories with tags whose names have a text, by their names.
    fn each_name(
        &self,
        descending: bool,
        text: &str,
        visit: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        let fits = |name: &str| {
            if take(&self.names_left) { ControlFlow::Continue(fits(text, name)) } else { ControlFlow::Break(()) }
        };
        self.read().each_repository_with_tags(descending, fits, |name| {
            if (self.viewer.sees)(name) { visit(name) } else { ControlFlow::Continue(()) }
        })?;
        Ok(())
    }

    fn each_by_name(&self, descending: bool, text: &str, visit: Visit<'_>) -> Result<(), Error> {
        let mut outcome = Ok(());
        self.each_name(descending, text, &mut |name| {
            visit(name).unwrap_or_else(|error| {
                outcome = Err(error);
                ControlFlow::Break(())
            })
        })?;
        outcome
    }

    fn each_in_order(&self, order: Order, text: &str, visit: Visit<'_>) -> Result<(), Error> {
        let mut outcome = Ok(());
        self.read().each_in_order(order, None, true, |name, value| {
            if !take(&self.names_left) {
                return Ok(ControlFlow::Break(()));
            }
            if !fits(text, name) || !(self.viewer.sees)(name) {
                return Ok(ControlFlow::Continue(()));
            }
            // A row of an earlier program may be out of date.
            let Ok(parsed) = name.parse() else { return Ok(ControlFlow::Continue(())) };
            let current = self.read().ordered_repository(order, &parsed, value)?;
            if current.is_none_or(|(_, totals)| totals.tags == 0) {
                return Ok(ControlFlow::Continue(()));
            }
            Ok(visit(name).unwrap_or_else(|error| {
                outcome = Err(error);
                ControlFlow::Break(())
            }))
        })?;
        outcome
    }

    /// Visits the starred repositories, and then the others by name.
    fn each_by_stars(&self, text: &str, visit: Visit<'_>) -> Result<(), Error> {
        let mut starred = Vec::new();
        self.read().each_starred(|name, stars| {
            if fits(text, name) && (self.viewer.sees)(name) {
                starred.push((Reverse(stars), name.to_owned()));
            }
            let is_done = !take(&self.names_left) || starred.len() == STARRED_MAX;
            if is_done { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        starred.sort_unstable();
        for (_, name) in &starred {
            let Ok(parsed) = name.parse::<RepositoryName>() else { continue };
            let has_tags = self.read().totals(&parsed)?.is_some_and(|totals| totals.tags > 0);
            if has_tags && visit(name)?.is_break() {
                return Ok(());
            }
        }
        let known: HashSet<String> = starred.into_iter().map(|(_, name)| name).collect();
        self.each_by_name(false, text, &mut |name| {
            if known.contains(name) { Ok(ControlFlow::Continue(())) } else { visit(name) }
        })
    }

    /// Visits the first `end` repositories by the rank of a text in their names. Keeps only those in memory. Returns the
    /// number of all.
    fn each_by_rank(&self, text: &str, end: usize, visit: Visit<'_>) -> Result<usize, Error> {
        let (mut best, mut total) = (BinaryHeap::<(u32, String)>::new(), 0);
        self.each_name(false, text, &mut |name| {
            total += 1;
            let Some(rank) = rank(text, name) else { return ControlFlow::Continue(()) };
            // The first names of each rank stay.
            if best.len() < end || best.peek().is_some_and(|(worst, _)| rank < *worst) {
                best.push((rank, name.to_owned()));
                if best.len() > end {
                    best.pop();
                }
            }
            ControlFlow::Continue(())
        })?;
        for (_, name) in best.into_sorted_vec() {
            if visit(&name)?.is_break() {
                break;
            }
        }
        Ok(total)
    }
}

/// The architecture of a platform with its variant.
pub(crate) fn architecture_of(platform: &Platform) -> String {
    match platform.variant.as_str() {
        "" => platform.architecture.clone(),
        variant => format!("{}/{variant}", platform.architecture),
    }
}

/// Whether a search for a text finds a name. Costs less than [`rank`], which agrees.
fn fits(text: &str, name: &str) -> bool {
    name.contains(text) || text.contains('/') && rank(text, name).is_some()
}

/// The rank of a name that is found by a text, as by zot: 0 is the best. `None` if it is not found.
///
/// A text of one component is best in the last component, then in the first one. Of several components, all but the last
/// one must be the first ones of the name, and the last one may be anywhere in the last of the name. Any other place is
/// worse.
fn rank(text: &str, name: &str) -> Option<u32> {
    if text == name {
        return Some(0);
    }
    let place = |part: &str, text: &str| part.find(text).and_then(|at| u32::try_from(at + 1).ok());
    let (first, last) = (name.split('/').next().unwrap_or(name), name.rsplit('/').next().unwrap_or(name));
    let in_components = match text.rsplit_once('/') {
        None => place(last, text).or_else(|| place(first, text).map(|at| at.saturating_mul(10))),
        Some((beginning, end)) => {
            let is_below = name.strip_prefix(beginning).is_some_and(|rest| rest.starts_with('/'));
            place(last, end).filter(|_| is_below)
        }
    };
    in_components
        .or_else(|| if name.starts_with(text) { Some(10) } else { Some(place(name, text)?.saturating_mul(100)) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_ranked_as_by_zot() {
        for (text, name, expected) in [
            ("", "a/b", Some(1)),
            ("app", "app", Some(0)),
            ("app", "team/app", Some(1)),
            ("pp", "team/app", Some(2)),
            ("team", "team/app", Some(10)),
            ("am", "team/app", Some(30)),
            ("mid", "team/mid/app", Some(600)),
            ("am/mi", "team/mid/app", Some(300)),
            ("team/mi", "team/mid/app", Some(10)),
            ("team/ap", "team/mid/app", Some(1)),
            ("team/mid/pp", "team/mid/app", Some(2)),
            ("tea/ap", "team/app", None),
            ("team/app", "team", None),
            ("team/m", "team", None),
            ("x", "team/app", None),
        ] {
            assert_eq!(rank(text, name), expected, "{text:?} in {name:?}");
            assert_eq!(fits(text, name), expected.is_some(), "{text:?} in {name:?}");
        }
    }
}
