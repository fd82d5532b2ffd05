//! Repositories: `RepoSummary`, and the types that have lists of them.

use std::cell::OnceCell;

use apollo_compiler::executable::{self, SelectionSet};
use apollo_compiler::resolvers::{FieldError, ObjectValue, ResolveInfo, ResolvedValue};
use apollo_compiler::response::JsonValue;

use super::image::{Images, image, page_info, platform, time};
use super::record::{Record, Resolved, objects};
use super::{Scene, int};
use crate::content::repository::browse::{Selected, Selection, Tagged};
use crate::content::rows::{Platform, Totals};
use crate::oci::RepositoryName;

/// A page of repositories.
pub(super) struct Repositories<'s> {
    scene: &'s Scene<'s>,
    selection: Selection,
    selected: OnceCell<Selected>,
}

impl<'s> Repositories<'s> {
    /// A page that is read when one of its fields is resolved. All repositories are counted only if a query requests it.
    pub(super) fn new(scene: &'s Scene<'s>, mut selection: Selection, info: &ResolveInfo<'_>) -> Self {
        let pages = info.field_selections().iter().map(|field| &field.selection_set);
        selection.is_counted = pages.into_iter().any(|set| may_select(set, &["Page", "TotalCount"]));
        Self { scene, selection, selected: OnceCell::new() }
    }

    fn selected(&self) -> Result<&Selected, FieldError> {
        if let Some(selected) = self.selected.get() {
            return Ok(selected);
        }
        let selected = self.scene.read(self.scene.gallery.select(&self.selection))?;
        if let Some(looked_at) = selected.looked_at {
            self.scene.remark(format!("only {looked_at} repositories were looked at"));
        }
        Ok(self.selected.get_or_init(|| selected))
    }

    fn results<'a>(&self) -> Resolved<'a>
    where
        's: 'a,
    {
        let scene = self.scene;
        let ranked = |name: &RepositoryName| (name.clone(), self.selection.rank(name));
        let names: Vec<_> = self.selected()?.names.iter().map(ranked).collect();
        Ok(ResolvedValue::list(
            names.into_iter().map(move |(name, rank)| ResolvedValue::object(Repository::new(scene, name, rank))),
        ))
    }

    fn page<'a>(&self) -> Resolved<'a> {
        let Selected { names, total, .. } = self.selected()?;
        Ok(ResolvedValue::object(page_info(*total, names.len())))
    }
}

/// Whether a query may select a field by this path. A fragment may.
pub(super) fn may_select(set: &SelectionSet, path: &[&str]) -> bool {
    let Some((first, rest)) = path.split_first() else { return true };
    set.selections.iter().any(|selection| match selection {
        executable::Selection::Field(field) => field.name == *first && may_select(&field.selection_set, rest),
        executable::Selection::FragmentSpread(_) | executable::Selection::InlineFragment(_) => true,
    })
}

impl ObjectValue for Repositories<'_> {
    fn type_name(&self) -> &'static str {
        "PaginatedReposResult"
    }

    fn resolve_field<'a>(&'a self, info: &'a ResolveInfo<'a>) -> Resolved<'a> {
        match info.field_name() {
            "Results" => self.results(),
            "Page" => self.page(),
            _ => Err(self.unknown_field_error(info)),
        }
    }
}

/// The result of a search: one of the lists has the results, and the page is about that.
pub(super) enum Found<'s> {
    Repositories(Repositories<'s>),
    Images(Images<'s>),
}

impl ObjectValue for Found<'_> {
    fn type_name(&self) -> &'static str {
        "GlobalSearchResult"
    }

    fn resolve_field<'a>(&'a self, info: &'a ResolveInfo<'a>) -> Resolved<'a> {
        match (info.field_name(), self) {
            ("Page", Self::Repositories(found)) => found.page(),
            ("Page", Self::Images(found)) => Ok(found.page()),
            ("Repos", Self::Repositories(found)) => found.results(),
            ("Images", Self::Images(found)) => Ok(found.results()),
            ("Repos" | "Images" | "Layers", _) => Ok(objects(Vec::new())),
            _ => Err(self.unknown_field_error(info)),
        }
    }
}

/// A repository with its images. One that the viewer does not see has neither.
pub(super) struct RepositoryInfo<'s> {
    pub(super) scene: &'s Scene<'s>,
    pub(super) name: Option<RepositoryName>,
}

impl ObjectValue for RepositoryInfo<'_> {
    fn type_name(&self) -> &'static str {
        "RepoInfo"
    }

    fn resolve_field<'a>(&'a self, info: &'a ResolveInfo<'a>) -> Resolved<'a> {
        let Some(name) = &self.name else { return Ok(ResolvedValue::null()) };
        match info.field_name() {
            "Images" => {
                let images = self.scene.read(self.scene.gallery.images(name, ""))?;
                let is_deletable = Some(self.scene.gallery.may_delete(name));
                let scene = self.scene;
                Ok(ResolvedValue::list(
                    images.into_iter().map(move |one| ResolvedValue::object(image(scene, one, is_deletable))),
                ))
            }
            "Summary" => Ok(ResolvedValue::object(Repository::new(self.scene, name.clone(), 0))),
            _ => Err(self.unknown_field_error(info)),
        }
    }
}

/// A repository in a list.
struct Repository<'s> {
    scene: &'s Scene<'s>,
    name: RepositoryName,
    rank: u32,
    totals: OnceCell<Option<Totals>>,
    newest: OnceCell<Option<Tagged>>,
    sample: OnceCell<(Vec<Platform>, Vec<String>)>,
}

impl<'s> Repository<'s> {
    const fn new(scene: &'s Scene<'s>, name: RepositoryName, rank: u32) -> Self {
        Self { scene, name, rank, totals: OnceCell::new(), newest: OnceCell::new(), sample: OnceCell::new() }
    }

    fn totals(&self) -> Result<Option<Totals>, FieldError> {
        if let Some(totals) = self.totals.get() {
            return Ok(*totals);
        }
        let totals = self.scene.read(self.scene.gallery.totals(&self.name))?;
        Ok(*self.totals.get_or_init(|| totals))
    }

    fn newest(&self) -> Result<Option<&Tagged>, FieldError> {
        if self.newest.get().is_none() {
            let newest = self.scene.read(self.scene.gallery.newest(&self.name))?;
            let _ = self.newest.set(newest);
        }
        Ok(self.newest.get().and_then(Option::as_ref))
    }

    fn sample(&self) -> Result<&(Vec<Platform>, Vec<String>), FieldError> {
        if let Some(sample) = self.sample.get() {
            return Ok(sample);
        }
        let sample = self.scene.read(self.scene.gallery.platforms_and_vendors(&self.name))?;
        Ok(self.sample.get_or_init(|| sample))
    }
}

impl ObjectValue for Repository<'_> {
    fn type_name(&self) -> &'static str {
        "RepoSummary"
    }

    fn resolve_field<'a>(&'a self, info: &'a ResolveInfo<'a>) -> Resolved<'a> {
        let gallery = self.scene.gallery;
        let leaf: JsonValue = match info.field_name() {
            "Name" => self.name.as_str().into(),
            "LastUpdated" => time(self.totals()?.map(|totals| totals.changed)),
            "Size" => self.totals()?.map_or(0, |totals| totals.size).to_string().into(),
            "Platforms" => {
                let platforms: Vec<Record> = self.sample()?.0.iter().map(platform).collect();
                return Ok(objects(platforms));
            }
            "Vendors" => {
                let vendors = self.sample()?.1.iter();
                return Ok(ResolvedValue::list(vendors.map(|vendor| ResolvedValue::leaf(vendor.as_str()))));
            }
            "NewestImage" => {
                let Some(newest) = self.newest()? else { return Ok(ResolvedValue::null()) };
                return Ok(ResolvedValue::object(image(self.scene, newest.clone(), None)));
            }
            "DownloadCount" => int(self.totals()?.map_or(0, |totals| totals.pulls)),
            "StarCount" => int(self.scene.read(gallery.stars(&self.name))?),
            "IsBookmarked" => self.scene.read(gallery.has_bookmarked(&self.name))?.into(),
            "IsStarred" => self.scene.read(gallery.has_starred(&self.name))?.into(),
            "Rank" => int(self.rank.into()),
            _ => return Err(self.unknown_field_error(info)),
        };
        Ok(ResolvedValue::Leaf(leaf))
    }
}
