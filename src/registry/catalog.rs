//! [`CatalogView`]: the repositories that a caller sees in lists.

use std::sync::Arc;

use super::Shared;
use crate::content::repository::browse::{
    Deletion, DeletionPreview, Found, ManifestReport, RepositoryPage, RepositoryQuery, Sought, TreePage,
};
use crate::content::repository::{Error, NamePage, SearchScope, Stores};
use crate::identity::access::{Caller, Policy};
use crate::identity::accounts::{self, Accounts, Permissions};
use crate::oci::{Reference, RepositoryName};

/// The view of one caller. Owns its parts, so that a blocking thread can list repositories.
#[derive(Debug)]
pub(crate) struct CatalogView {
    stores: Arc<Stores>,
    accounts: Arc<Accounts>,
    policy: Arc<Policy>,
    caller: Caller,
}

impl Shared {
    /// The view of a caller.
    pub(crate) fn catalog_view(&self, caller: &Caller) -> CatalogView {
        CatalogView {
            stores: Arc::clone(&self.stores),
            accounts: Arc::clone(&self.accounts),
            policy: self.policy(),
            caller: caller.clone(),
        }
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

    /// Whether the caller sees a repository. If this cannot be decided, the repository is left out.
    fn sees(&self, name: &RepositoryName) -> bool {
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
        let Some(namespaces) = self.policy.namespaces(&self.caller.identity) else { return Ok(SearchScope::All) };
        let names = self.accounts.named_repositories(self.caller.account().map(|account| &**account))?;
        Ok(SearchScope::Some { namespaces, names })
    }
}
