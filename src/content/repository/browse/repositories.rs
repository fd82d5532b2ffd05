//! Lists of repositories in four orders, and the tree of their paths.

use std::ops::ControlFlow;

use super::version;
use super::walk::{LOOKED_AT_MAX, Step, Walk};
use crate::content::repository::{Error, SearchScope, Stores};
use crate::content::rows::{Order, Rows, Totals};
use crate::kit::clock::Timestamp;
use crate::oci::{RepositoryName, Tag};

/// A caller who sees at most this many repositories gets them collected and sorted. Otherwise the order is walked.
const COLLECTED_MAX: usize = 2_000;
/// The most repositories of one folder that are counted.
pub(crate) const COUNTED_MAX: usize = 500;
/// The most starts of tags that are looked at for the newest tag.
const STARTS_LOOKED_AT_MAX: usize = 50;

/// The order of a list of repositories.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum RepositoryOrder {
    /// By name.
    #[default]
    Name,
    /// The latest change first.
    Change,
    /// The largest first.
    Size,
    /// The most pulls first.
    Pulls,
}

impl RepositoryOrder {
    const fn index(self) -> Option<Order> {
        match self {
            Self::Name => None,
            Self::Change => Some(Order::Change),
            Self::Size => Some(Order::Size),
            Self::Pulls => Some(Order::Pulls),
        }
    }
}

/// A position in a list of repositories: the value that it is ordered by, and the name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RepositoryCursor {
    pub(crate) value: u64,
    pub(crate) name: String,
}

/// Selects a page of repositories.
#[derive(Clone, Debug)]
pub(crate) struct RepositoryQuery {
    pub(crate) order: RepositoryOrder,
    /// A part of the name.
    pub(crate) part: String,
    pub(crate) after: Option<RepositoryCursor>,
    pub(crate) limit: usize,
}

/// A repository in a list.
#[derive(Debug)]
pub(crate) struct ListedRepository {
    pub(crate) name: RepositoryName,
    /// `None` until the background work after an upgrade has counted them.
    pub(crate) totals: Option<Totals>,
    /// The tag that was pushed last, and when.
    pub(crate) newest: Option<(Tag, Timestamp)>,
    pub(crate) is_public: bool,
    pub(crate) description: String,
}

/// A page of repositories.
#[derive(Debug, Default)]
pub(crate) struct RepositoryPage {
    pub(crate) repositories: Vec<ListedRepository>,
    /// The order of the page: by name until the background work after an upgrade has counted all repositories.
    pub(crate) order: RepositoryOrder,
    pub(crate) next: Option<RepositoryCursor>,
    /// Whether a limit has cut the list off.
    pub(crate) is_cut_off: bool,
}

/// An entry of the tree.
#[derive(Debug)]
pub(crate) enum TreeEntry {
    Folder {
        /// The path without a slash at its end.
        path: String,
        /// The number of repositories, at most [`COUNTED_MAX`].
        repositories: usize,
    },
    Repository(Box<ListedRepository>),
}

/// The entries of a folder.
#[derive(Debug, Default)]
pub(crate) struct TreePage {
    pub(crate) entries: Vec<TreeEntry>,
    /// The last entry, if there are more. A folder has a slash at its end.
    pub(crate) next: Option<String>,
    pub(crate) is_cut_off: bool,
}

impl Stores {
    /// A page of the repositories that are `visible`, all of them within `scope`.
    pub(crate) fn list_repositories(
        &self,
        query: &RepositoryQuery,
        scope: &SearchScope,
        visible: &dyn Fn(&str) -> bool,
    ) -> Result<RepositoryPage, Error> {
        let admits = |name: &str| name.contains(&query.part) && visible(name);
        self.database.read(|tx| {
            let mut query = query.clone();
            if query.order != RepositoryOrder::Name && !tx.totals_complete()? {
                (query.order, query.after) = (RepositoryOrder::Name, None);
            }
            let mut page = select(tx, &query, scope, &admits)?;
            page.order = query.order;
            Ok(page)
        })
    }

    /// The folders and repositories directly under `path`, which is empty for the root, after the entry `after`.
    pub(crate) fn tree(
        &self,
        path: &str,
        after: &str,
        limit: usize,
        scope: &SearchScope,
        visible: &dyn Fn(&str) -> bool,
    ) -> Result<TreePage, Error> {
        enum Found {
            Folder(String, usize),
            Repository(String),
        }
        let prefix = if path.is_empty() { String::new() } else { format!("{path}/") };
        self.database.read(|tx| {
            let (mut found, mut has_more) = (Vec::<Found>::new(), false);
            let walk = Walk { tx, scope, visible, prefix: &prefix, after };
            let is_cut_off = walk.each(|name| {
                let folder = name[prefix.len()..].split_once('/').map(|(first, _)| &name[..prefix.len() + first.len()]);
                if let (Some(Found::Folder(last, count)), Some(folder)) = (found.last_mut(), folder)
                    && last == folder
                {
                    *count += 1;
                    return if *count >= COUNTED_MAX { Step::LeaveFolder(format!("{folder}/")) } else { Step::Next };
                }
                if found.len() == limit {
                    has_more = true;
                    return Step::Stop;
                }
                found.push(match folder {
                    Some(folder) => Found::Folder(folder.to_owned(), 1),
                    None => Found::Repository(name.to_owned()),
                });
                Step::Next
            })?;
            let next = has_more.then(|| match found.last() {
                Some(Found::Folder(path, _)) => format!("{path}/"),
                Some(Found::Repository(name)) => name.clone(),
                None => String::new(),
            });
            let mut page = TreePage { entries: Vec::with_capacity(found.len()), next, is_cut_off };
            for entry in found {
                page.entries.extend(match entry {
                    Found::Folder(path, repositories) => Some(TreeEntry::Folder { path, repositories }),
                    Found::Repository(name) => listed(tx, &name)?.map(|one| TreeEntry::Repository(Box::new(one))),
                });
            }
            Ok(page)
        })
    }
}

/// A page in the order of the query.
fn select(
    tx: &Rows,
    query: &RepositoryQuery,
    scope: &SearchScope,
    admits: &dyn Fn(&str) -> bool,
) -> Result<RepositoryPage, Error> {
    match query.order.index() {
        Some(order) if *scope == SearchScope::All => walk_order(tx, order, query, admits),
        Some(order) => match collect(tx, order, query, scope, admits)? {
            Some(page) => Ok(page),
            None => walk_order(tx, order, query, admits),
        },
        None => {
            let after = query.after.as_ref().map_or("", |after| after.name.as_str());
            let mut names = Vec::new();
            let walk = Walk { tx, scope, visible: admits, prefix: "", after };
            let is_cut_off = walk.each(|name| {
                names.push((0, name.to_owned()));
                if names.len() > query.limit { Step::Stop } else { Step::Next }
            })?;
            page(tx, names, query.limit, is_cut_off)
        }
    }
}

/// Reads an order from the position on.
fn walk_order(
    tx: &Rows,
    order: Order,
    query: &RepositoryQuery,
    admits: &dyn Fn(&str) -> bool,
) -> Result<RepositoryPage, Error> {
    let (mut names, mut looked_at) = (Vec::new(), 0);
    let after = query.after.as_ref().map(|after| (after.value, after.name.as_str()));
    tx.each_in_order(order, after, true, |name, value| {
        looked_at += 1;
        // A row of an earlier program may be out of date.
        if admits(name)
            && let Ok(parsed) = name.parse()
            && tx.ordered_repository(order, &parsed, value)?.is_some()
        {
            names.push((value, name.to_owned()));
        }
        let is_done = names.len() > query.limit || looked_at == LOOKED_AT_MAX;
        Ok(if is_done { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    })?;
    let is_cut_off = looked_at == LOOKED_AT_MAX && names.len() <= query.limit;
    page(tx, names, query.limit, is_cut_off)
}

/// Collects all repositories of a caller and sorts them. `None` if there are too many.
fn collect(
    tx: &Rows,
    order: Order,
    query: &RepositoryQuery,
    scope: &SearchScope,
    admits: &dyn Fn(&str) -> bool,
) -> Result<Option<RepositoryPage>, Error> {
    let mut names = Vec::new();
    let is_cut_off = Walk { tx, scope, visible: admits, prefix: "", after: "" }.each(|name| {
        names.push(name.to_owned());
        if names.len() > COLLECTED_MAX { Step::Stop } else { Step::Next }
    })?;
    if names.len() > COLLECTED_MAX {
        return Ok(None);
    }
    let mut values = Vec::with_capacity(names.len());
    for name in names {
        let Ok(parsed) = name.parse::<RepositoryName>() else { continue };
        let totals = tx.totals(&parsed)?;
        let value = totals.map_or(0, |totals| match order {
            Order::Change => totals.changed.micros(),
            Order::Size => totals.size,
            Order::Pulls => totals.pulls,
        });
        values.push((value, name));
    }
    values.sort_unstable_by(|a, b| b.cmp(a));
    if let Some(after) = &query.after {
        values.retain(|(value, name)| (*value, name.as_str()) < (after.value, after.name.as_str()));
    }
    values.truncate(query.limit.saturating_add(1));
    page(tx, values, query.limit, is_cut_off).map(Some)
}

/// The page of the first `limit` names. More of them mean that there is another page.
fn page(tx: &Rows, mut names: Vec<(u64, String)>, limit: usize, is_cut_off: bool) -> Result<RepositoryPage, Error> {
    let has_more = names.len() > limit;
    names.truncate(limit);
    let last = names.last().filter(|_| has_more).cloned();
    let mut page = RepositoryPage {
        next: last.map(|(value, name)| RepositoryCursor { value, name }),
        is_cut_off,
        ..RepositoryPage::default()
    };
    for (_, name) in names {
        page.repositories.extend(listed(tx, &name)?);
    }
    Ok(page)
}

impl Stores {
    /// The totals of a repository. `None` if it does not exist or they are not counted yet.
    pub(crate) fn totals(&self, name: &RepositoryName) -> Result<Option<Totals>, Error> {
        Ok(self.database.read(|tx| tx.totals(name))?)
    }
}

/// A repository with what lists show.
pub(super) fn listed(tx: &Rows, name: &str) -> Result<Option<ListedRepository>, Error> {
    let Ok(name) = name.parse::<RepositoryName>() else { return Ok(None) };
    let settings = tx.settings(&name)?;
    let (is_public, description) = settings.map_or((false, String::new()), |row| (row.public, row.description));
    let (mut newest, mut looked_at) = (None, 0);
    tx.each_span(&name, |tag, span| {
        looked_at += 1;
        if span.ended.is_none() && !version::is_companion(tag) {
            newest = tag.parse().ok().map(|tag| (tag, span.started));
        }
        if newest.is_some() || looked_at == STARTS_LOOKED_AT_MAX {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    })?;
    Ok(Some(ListedRepository { totals: tx.totals(&name)?, newest, is_public, description, name }))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::content::repository::scene::{Scene, image, rules};

    /// Repositories of different sizes, the last name the one that changed first.
    fn scene(names: &[&str]) -> Scene {
        let scene = Scene::new(rules());
        for (number, name) in names.iter().enumerate().rev() {
            let repository = scene.repository(name);
            let config = repository.push_blob(&vec![b' '; 100 * (number + 1)]);
            repository.push_manifest(&image(&[config], None, name), &["1", "2"]).unwrap();
            scene.clock.advance(Duration::from_secs(1));
        }
        scene
    }

    fn list(scene: &Scene, order: RepositoryOrder, part: &str, scope: &SearchScope, limit: usize) -> String {
        let (mut names, mut after) = (Vec::new(), None);
        loop {
            let query = RepositoryQuery { order, part: part.to_owned(), after, limit };
            let page = scene.stores.list_repositories(&query, scope, &|name| name != "hidden").unwrap();
            assert!(page.repositories.len() <= limit && !page.is_cut_off);
            names.extend(page.repositories.into_iter().map(|one| one.name.to_string()));
            after = page.next;
            if after.is_none() {
                return names.join(" ");
            }
        }
    }

    #[test]
    fn pages_of_every_order_have_every_visible_repository_once() {
        let scene = scene(&["b/x", "a/x", "hidden", "c/y", "a/z"]);
        let some = SearchScope::Some { beginnings: vec!["a/".into()], names: vec!["c/y".parse().unwrap()] };
        for limit in [1, 2, 3, 10] {
            let by = |order, part, scope| list(&scene, order, part, scope, limit);
            assert_eq!(by(RepositoryOrder::Name, "", &SearchScope::All), "a/x a/z b/x c/y");
            assert_eq!(by(RepositoryOrder::Change, "", &SearchScope::All), "b/x a/x c/y a/z");
            assert_eq!(by(RepositoryOrder::Size, "", &SearchScope::All), "a/z c/y a/x b/x");
            assert_eq!(by(RepositoryOrder::Change, "/x", &SearchScope::All), "b/x a/x");
            assert_eq!(by(RepositoryOrder::Name, "", &some), "a/x a/z c/y");
            assert_eq!(by(RepositoryOrder::Change, "", &some), "a/x c/y a/z");
            assert_eq!(by(RepositoryOrder::Size, "", &some), "a/z c/y a/x");
            assert_eq!(by(RepositoryOrder::Pulls, "", &some), "c/y a/z a/x");
        }
    }

    #[test]
    fn a_listed_repository_has_its_totals_and_its_newest_tag() {
        let scene = scene(&["a"]);
        let repository = scene.repository("a");
        repository.delete("2").unwrap();
        let config = repository.push_blob(b"{}");
        let digest = repository.push_manifest(&image(&[config], None, "x"), &["3"]).unwrap();
        let companion = format!("sha256-{}.sig", digest.hex());
        scene.clock.advance(Duration::from_secs(1));
        repository.push_manifest(&image(&[config], None, "s"), &[&companion]).unwrap();
        let query = RepositoryQuery { order: RepositoryOrder::Name, part: String::new(), after: None, limit: 9 };
        let page = scene.stores.list_repositories(&query, &SearchScope::All, &|_| true).unwrap();
        let [listed] = page.repositories.as_slice() else { panic!("{page:?}") };
        assert_eq!(listed.newest.as_ref().unwrap().0.as_str(), "3");
        let totals = listed.totals.unwrap();
        assert_eq!((totals.tags, totals.size), (3, 102));
    }

    fn tree(scene: &Scene, path: &str, limit: usize, scope: &SearchScope) -> String {
        let (mut shown, mut after) = (Vec::new(), String::new());
        loop {
            let page = scene.stores.tree(path, &after, limit, scope, &|name| name != "hidden").unwrap();
            assert!(page.entries.len() <= limit && !page.is_cut_off);
            shown.extend(page.entries.iter().map(|entry| match entry {
                TreeEntry::Folder { path, repositories } => format!("{path}/({repositories})"),
                TreeEntry::Repository(one) => one.name.to_string(),
            }));
            match page.next {
                Some(next) => after = next,
                None => return shown.join(" "),
            }
        }
    }

    #[test]
    fn the_tree_has_folders_with_their_numbers_of_repositories() {
        let scene = scene(&["a", "a-b/x", "a/x", "a/y/1", "a/y/2", "a/y-z", "b", "hidden"]);
        let some = SearchScope::Some { beginnings: vec!["a/".into()], names: vec!["b".parse().unwrap()] };
        for limit in [1, 2, 3, 10] {
            assert_eq!(tree(&scene, "", limit, &SearchScope::All), "a a-b/(1) a/(4) b");
            assert_eq!(tree(&scene, "a", limit, &SearchScope::All), "a/x a/y-z a/y/(2)");
            assert_eq!(tree(&scene, "a/y", limit, &SearchScope::All), "a/y/1 a/y/2");
            assert_eq!(tree(&scene, "", limit, &some), "a/(4) b");
            assert_eq!(tree(&scene, "absent", limit, &SearchScope::All), "");
        }
    }

    #[test]
    fn a_large_folder_is_not_counted_to_its_end() {
        let scene = Scene::new(rules());
        for number in 0..COUNTED_MAX + 5 {
            scene.repository(&format!("a/{number}")).push_blob(b"{}");
        }
        scene.repository("a0").push_blob(b"{}");
        assert_eq!(tree(&scene, "", 10, &SearchScope::All), format!("a/({COUNTED_MAX}) a0"));
    }
}
