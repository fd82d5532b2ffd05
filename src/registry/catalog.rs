//! [`CatalogView`]: the repositories that a caller sees in lists.

use std::sync::Arc;

use super::Shared;
use crate::content::repository::browse::{
    Deletion, DeletionPreview, Found, Gallery, ManifestReport, RepositoryPage, RepositoryQuery, Sought, TagPage,
    TagQuery, TreePage, Viewer,
};
use crate::content::repository::{Error, NamePage, SearchScope, Stores};
use crate::identity::access::{Action, Caller, Policy};
use crate::identity::accounts::{self, Accounts, Permissions};
use crate::mirror::Mirror;
use crate::oci::{Reference, RepositoryName};

/// The view of one caller. Owns its parts, so that a blocking thread can list repositories.
#[derive(Debug)]
pub(crate) struct CatalogView {
    stores: Arc<Stores>,
    accounts: Arc<Accounts>,
    policy: Arc<Policy>,
    mirror: Option<Arc<Mirror>>,
    caller: Caller,
}

impl Shared {
    /// The view of a caller.
    pub(crate) fn catalog_view(&self, caller: &Caller) -> CatalogView {
        CatalogView {
            stores: Arc::clone(&self.stores),
            accounts: Arc::clone(&self.accounts),
            policy: self.policy(),
            mirror: self.mirror.clone(),
            caller: caller.clone(),
        }
    }

    /// Whether the content of a repository is withheld from a caller: see [`CatalogView::is_withheld`].
    pub(crate) fn withholds(&self, caller: &Caller, name: &RepositoryName) -> bool {
        // Most registries have no mirror, and need no view.
        self.mirror.is_some() && self.catalog_view(caller).is_withheld(name)
    }
}

impl CatalogView {
    /// Lists at most `limit` visible names after `last` that begin with `prefix`. May take long: blocks.
    pub(crate) fn page(
        &self,
        (prefix, last): (&str, &str),
        limit: usize,
        only_public: bool,
    ) -> Result<NamePage, Error> {
        let is_visible = |name: &str| {
            let Ok(name) = name.parse() else { return false };
            let is_public = || self.accounts.permissions(&name).is_ok_and(|permissions| permissions.public);
            self.sees(&name) && (!only_public || is_public())
        };
        self.stores.catalog((prefix, last), limit, &self.scope(), is_visible)
    }

    /// Lists at most `limit` visible names after `last`, with those of `more`, which are in byte order. May take long:
    /// blocks.
    pub(crate) fn merged_page(&self, last: &str, limit: usize, more: &[RepositoryName]) -> Result<NamePage, Error> {
        let NamePage { mut names, next } = self.page(("", last), limit, false)?;
        let begin = more.partition_point(|name| name.as_str() <= last);
        // One more of each tells whether there is another page.
        let others = more[begin..].iter().filter(|name| self.sees(name)).take(limit.saturating_add(1));
        names.extend(others.map(|name| name.as_str().to_owned()));
        names.sort_unstable();
        names.dedup();
        let has_more = next.is_some() || names.len() > limit;
        names.truncate(limit);
        let next = has_more.then(|| names.last().cloned()).flatten();
        Ok(NamePage { names, next })
    }

    /// A page of repositories in some order.
    pub(crate) fn repositories(&self, query: &RepositoryQuery) -> Result<RepositoryPage, Error> {
        self.stores.list_repositories(query, &self.scope(), &|name| self.sees_text(name))
    }

    /// The folders and repositories under a path, after the entry `after`.
    pub(crate) fn tree(&self, path: &str, after: &str, limit: usize) -> Result<TreePage, Error> {
        self.stores.tree(path, after, limit, &self.scope(), &|name| self.sees_text(name))
    }

    /// Searches repositories, tags, manifests and blobs.
    pub(crate) fn search(&self, sought: &Sought) -> Result<Found, Error> {
        self.stores.search(sought, &self.scope(), &|name| self.sees_text(name))
    }

    /// Runs the queries of one search request. May take long: blocks.
    pub(crate) fn gallery<T>(&self, look: impl FnOnce(&Gallery<'_>) -> Result<T, Error>) -> Result<T, Error> {
        // Most lists are long, and most callers of such a list see all of it.
        let sees_all = self.mirror.is_none() && self.policy.sees_all(&self.caller);
        let (scope, sees) = (self.scope(), |name: &str| sees_all || self.sees_text(name));
        let deletes = |name: &RepositoryName| self.has(name, Action::Delete);
        let user = self.caller.account().map(|account| account.name.as_str());
        self.stores.gallery(&Viewer { user, scope: &scope, sees: &sees, deletes: &deletes }, look)
    }

    /// A page of tags. The caller must be allowed to pull from the repository.
    pub(crate) fn tags(&self, name: &RepositoryName, query: &TagQuery) -> Result<TagPage, Error> {
        self.stores.repository(name).list_tags(query, &|name| self.sees_text(name))
    }

    /// Everything about a manifest. The caller must be allowed to pull it.
    pub(crate) fn manifest_report(
        &self,
        name: &RepositoryName,
        reference: &Reference,
    ) -> Result<ManifestReport, Error> {
        self.stores.repository(name).manifest_report(reference, &|name| self.sees_text(name))
    }

    /// The effect of a deletion. The caller must be allowed to pull from the repository.
    pub(crate) fn preview_deletion(
        &self,
        name: &RepositoryName,
        deletion: &Deletion,
    ) -> Result<DeletionPreview, Error> {
        self.stores.repository(name).preview_deletion(deletion, &|name| self.sees_text(name))
    }

    fn sees_text(&self, name: &str) -> bool {
        name.parse().is_ok_and(|name| self.sees(&name))
    }

    /// Whether the caller may mount blobs of a repository.
    pub(crate) fn may_mount_from(&self, name: &RepositoryName) -> bool {
        self.has(name, Action::Pull) && !self.is_withheld(name)
    }

    /// Whether the content of a repository is withheld from the caller, except for pulls: its upstream decides who may have
    /// it, and is only asked for pulls. Callers who may push see it.
    pub(crate) fn is_withheld(&self, name: &RepositoryName) -> bool {
        self.mirror.as_ref().is_some_and(|mirror| mirror.passes_logins(name)) && !self.has(name, Action::Push)
    }

    /// Whether the caller has a right. If this cannot be decided, the caller does not.
    fn has(&self, name: &RepositoryName, action: Action) -> bool {
        self.accounts
            .permissions(name)
            .is_ok_and(|permissions| self.policy.actions(&self.caller, name, &permissions).has(action))
    }

    /// Whether the caller sees a repository. If this cannot be decided, the repository is left out.
    fn sees(&self, name: &RepositoryName) -> bool {
        if self.is_withheld(name) {
            return false;
        }
        // Permissions only add rights, so most repositories of a long list are not looked up.
        let sees = |permissions: &Permissions| self.policy.sees(&self.caller, name, permissions);
        if sees(&Permissions::default()) {
            return true;
        }
        match self.accounts.permissions(name) {
            Ok(permissions) => sees(&permissions),
            Err(error) => {
                tracing::error!(%error, "left a repository out of a list");
                false
            }
        }
    }

    /// The scope to search for repositories that the caller sees.
    fn scope(&self) -> SearchScope {
        self.named_scope().unwrap_or_else(|error| {
            tracing::error!(%error, "searching all repositories for a list");
            SearchScope::All
        })
    }

    fn named_scope(&self) -> Result<SearchScope, accounts::Error> {
        let Some(beginnings) = self.policy.beginnings(&self.caller.identity) else { return Ok(SearchScope::All) };
        let names = self.accounts.named_repositories(self.caller.identity.grantee().map(|account| &**account))?;
        Ok(SearchScope::of(beginnings, names))
    }
}
