//! The queries: the fields of the type `Query`.

use std::rc::Rc;

use apollo_compiler::resolvers::{FieldError, ObjectValue, ResolveInfo, ResolvedValue};
use apollo_compiler::response::JsonValue;

use super::arguments::{Page, filter, searched, text};
use super::image::{Images, annotations_in, image, referrers};
use super::record::Resolved;
use super::repository::{Found, Repositories, RepositoryInfo};
use super::{Scene, refused};
use crate::content::repository::browse::{
    ImageOrder, ReferrerQuery, Relation, RepositoryFilter, RepositorySort, Tagged,
};
use crate::oci::{Digest, RepositoryName};

/// The root of a request.
pub(super) struct Query<'s> {
    pub(super) scene: &'s Scene<'s>,
}

impl ObjectValue for Query<'_> {
    fn type_name(&self) -> &'static str {
        "Query"
    }

    fn resolve_field<'a>(&'a self, info: &'a ResolveInfo<'a>) -> Resolved<'a> {
        match info.field_name() {
            // zot ranks this list as a search for nothing.
            "RepoListWithNewestImage" => self.repositories(info, Some(String::new()), RepositoryFilter::default()),
            "StarredRepos" => {
                self.repositories(info, None, RepositoryFilter { starred: true, ..RepositoryFilter::default() })
            }
            "BookmarkedRepos" => {
                self.repositories(info, None, RepositoryFilter { bookmarked: true, ..RepositoryFilter::default() })
            }
            "GlobalSearch" => self.global_search(info),
            "ExpandedRepoInfo" => self.repository_info(info),
            "Image" => self.image(info),
            "ImageList" => self.image_list(info),
            "ImageListForDigest" => {
                let page = Page::read(info)?;
                let found = self.scene.read(self.scene.gallery.images_with_digest(text(info, "id")))?;
                self.images(found, &page, ImageOrder::Name)
            }
            "DerivedImageList" => self.related(info, Relation::Derived),
            "BaseImageList" => self.related(info, Relation::Base),
            "Referrers" => self.referrers(info),
            "CVEListForImage" | "CVEDiffListForImages" | "ImageListForCVE" | "ImageListWithCVEFixed" => {
                Err(refused("cve search is disabled"))
            }
            _ => Err(self.unknown_field_error(info)),
        }
    }
}

impl<'s> Query<'s> {
    fn repositories<'a>(&self, info: &ResolveInfo<'_>, text: Option<String>, filter: RepositoryFilter) -> Resolved<'a>
    where
        's: 'a,
    {
        let selection = Page::read(info)?.selection(text, RepositorySort::Change, filter)?;
        Ok(ResolvedValue::object(Repositories::new(self.scene, selection, info)))
    }

    /// Searches by the form of the text, as zot does.
    fn global_search<'a>(&self, info: &ResolveInfo<'_>) -> Resolved<'a>
    where
        's: 'a,
    {
        let (page, filter, query) = (Page::read(info)?, filter(info)?, searched(info)?);
        let gallery = self.scene.gallery;
        let images = match query.split_once(':') {
            _ if !query.contains([':', '@']) => {
                let selection = page.selection(Some(query), RepositorySort::Relevance, filter)?;
                return Ok(ResolvedValue::object(Found::Repositories(Repositories::new(self.scene, selection, info))));
            }
            Some(("sha256", _)) => gallery.images_with_digest(&query),
            Some(("", part)) if !part.is_empty() => gallery.images_with_tag_part(part),
            Some((name, tag)) if !name.is_empty() => match self.scene.read(gallery.repository(name))? {
                Some(name) => gallery.images(&name, tag),
                None => Ok(Vec::new()),
            },
            _ => return Err(refused("invalid search query")),
        };
        let images = self.scene.read(images)?;
        let images = Images::new(self.scene, images, &page, ImageOrder::Name, &filter)?;
        Ok(ResolvedValue::object(Found::Images(images)))
    }

    fn repository_info<'a>(&self, info: &ResolveInfo<'_>) -> Resolved<'a>
    where
        's: 'a,
    {
        let name = self.scene.read(self.scene.gallery.repository(text(info, "repo")))?;
        Ok(ResolvedValue::object(RepositoryInfo { scene: self.scene, name }))
    }

    fn image<'a>(&self, info: &ResolveInfo<'_>) -> Resolved<'a>
    where
        's: 'a,
    {
        let found = self.referenced(text(info, "image"))?;
        Ok(ResolvedValue::object(image(self.scene, found, None)))
    }

    fn image_list<'a>(&self, info: &ResolveInfo<'_>) -> Resolved<'a>
    where
        's: 'a,
    {
        let page = Page::read(info)?;
        let gallery = self.scene.gallery;
        let found = match self.scene.read(gallery.repository(text(info, "repo")))? {
            Some(name) => self.scene.read(gallery.images(&name, ""))?,
            None => Vec::new(),
        };
        self.images(found, &page, ImageOrder::Name)
    }

    fn related<'a>(&self, info: &ResolveInfo<'_>, relation: Relation) -> Resolved<'a>
    where
        's: 'a,
    {
        let page = Page::read(info)?;
        let of = self.referenced(text(info, "image"))?;
        let digest = match text(info, "digest") {
            "" => of.digest,
            digest => digest.parse().map_err(|_| refused("invalid digest"))?,
        };
        let found = self.scene.read(self.scene.gallery.related_images(&of.repository, digest, relation))?;
        self.images(found, &page, ImageOrder::Created)
    }

    fn images<'a>(&self, found: Vec<Tagged>, page: &Page, usual: ImageOrder) -> Resolved<'a>
    where
        's: 'a,
    {
        let images = Images::new(self.scene, found, page, usual, &RepositoryFilter::default())?;
        Ok(ResolvedValue::object(images))
    }

    fn referrers<'a>(&self, info: &ResolveInfo<'_>) -> Resolved<'a> {
        // The web page sends an empty text for all types.
        let types = info.arguments().get("type").and_then(JsonValue::as_array).map(Vec::as_slice).unwrap_or_default();
        let types = types.iter().filter_map(JsonValue::as_str).filter(|kind| !kind.is_empty());
        let query = ReferrerQuery { types: types.map(str::to_owned).collect(), with_annotations: annotations_in(info) };
        let digest: Digest = text(info, "digest").parse().map_err(|_| refused("invalid digest"))?;
        let found = match self.scene.read(self.scene.gallery.repository(text(info, "repo")))? {
            Some(name) => self.scene.read(self.scene.gallery.referrers(&name, digest, &query))?,
            None => Rc::default(),
        };
        Ok(referrers(found))
    }

    /// The image that a text names: `repository:tag`, or `repository@digest`. An image that the viewer does not see is
    /// not found.
    fn referenced(&self, reference: &str) -> Result<Tagged, FieldError> {
        let not_found = || refused(format!("can't find image: {reference}"));
        let gallery = self.scene.gallery;
        let seen = |name: &str| -> Result<RepositoryName, FieldError> {
            self.scene.read(gallery.repository(name))?.ok_or_else(not_found)
        };
        if let Some((name, digest)) = reference.split_once('@') {
            let (repository, digest) = (seen(name)?, digest.parse().map_err(|_| not_found())?);
            return match self.scene.read(gallery.manifest(&repository, digest))? {
                Some(_) => Ok(Tagged::untagged(repository, digest)),
                None => Err(not_found()),
            };
        }
        let (name, tag) = reference.rsplit_once(':').ok_or_else(|| refused("no reference provided"))?;
        self.scene.read(gallery.tag(&seen(name)?, tag))?.ok_or_else(not_found)
    }
}
