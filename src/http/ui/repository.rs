//! The pages of one repository.
//!
//! Invariant: a page has the access of the API operation that shows or changes the same.

mod delete;
mod deleted;
mod kind;
mod manifest;
mod settings;
mod tags;

use super::PageCall;
use super::route::parameter;
use crate::content::repository::{Error, Immutable, Repository};
use crate::http::error::ApiError;
use crate::http::{HandlerResult, api};
use crate::identity::access::{Access, Action, Actions};
use crate::kit::clock::Timestamp;
use crate::oci::{Digest, Reference, RepositoryName, Tag};
use crate::web::{Crumb, RepositoryFrame, Source};

pub(super) use kind::kind_name;

/// The number of immutable tags that a page names.
const IMMUTABLE_SHOWN_MAX: usize = 10;
/// The tags that are looked at in one step.
const STEP: usize = 1000;

/// Separates the name of a repository from the name of a page. No part of a name is a hyphen.
const SEPARATOR: &str = "/-/";

/// A page of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Tags,
    Untagged,
    History,
    Description,
    Settings,
    /// Deletes the tags that the query or the form names.
    DeleteTags,
    DeleteManifest(Digest),
    /// Deletes the repository.
    Delete,
    /// Points a tag at a previous target.
    Restore(Tag),
    Tag(Tag),
    Manifest(Digest),
    /// Manifests that were deleted by digest.
    Deleted,
    RestoreManifest(Digest),
    /// Downloads a blob.
    Blob(Digest),
}

impl Place {
    /// Reads a decoded path after `/ui/r/`.
    pub(super) fn parse(path: &str) -> Option<(RepositoryName, Self)> {
        let (name, place) = path.split_once(SEPARATOR).unwrap_or((path, ""));
        let place = match place.split_once('/') {
            None => match place {
                "" if !path.contains(SEPARATOR) => Self::Tags,
                "untagged" => Self::Untagged,
                "history" => Self::History,
                "deleted" => Self::Deleted,
                "description" => Self::Description,
                "settings" => Self::Settings,
                "delete-tags" => Self::DeleteTags,
                "delete" => Self::Delete,
                _ => return None,
            },
            Some(("tag", tag)) => Self::Tag(tag.parse().ok()?),
            Some(("restore", tag)) => Self::Restore(tag.parse().ok()?),
            Some(("manifest", digest)) => Self::Manifest(digest.parse().ok()?),
            Some(("delete-manifest", digest)) => Self::DeleteManifest(digest.parse().ok()?),
            Some(("restore-manifest", digest)) => Self::RestoreManifest(digest.parse().ok()?),
            Some(("blob", digest)) => Self::Blob(digest.parse().ok()?),
            Some(_) => return None,
        };
        Some((name.parse().ok()?, place))
    }

    /// The access that the page requires: that of the same operation of the APIs.
    pub(super) fn access(&self, name: &RepositoryName) -> Access {
        let action = match self {
            Self::Tags | Self::Untagged | Self::History | Self::Tag(_) | Self::Manifest(_) | Self::Blob(_) => {
                Action::Pull
            }
            // A restored manifest is one more manifest, as after a push.
            Self::Description | Self::Deleted | Self::RestoreManifest(_) => Action::Push,
            Self::Restore(_) => Action::Update,
            Self::DeleteTags | Self::DeleteManifest(_) => Action::Delete,
            Self::Settings | Self::Delete => Action::Administer,
        };
        Access::Repository(name.clone(), Actions::of(action))
    }

    pub(super) const fn takes_form(&self) -> bool {
        match self {
            Self::Description
            | Self::Settings
            | Self::DeleteTags
            | Self::DeleteManifest(_)
            | Self::Delete
            | Self::Restore(_)
            | Self::RestoreManifest(_) => true,
            Self::Tags
            | Self::Untagged
            | Self::History
            | Self::Deleted
            | Self::Tag(_)
            | Self::Manifest(_)
            | Self::Blob(_) => false,
        }
    }
}

/// Shows a page of a repository.
pub(super) async fn handle(call: &PageCall<'_>, name: RepositoryName, place: Place) -> HandlerResult {
    match place {
        Place::Tags => tags::tags(call, name).await,
        Place::Untagged => tags::untagged(call, name).await,
        Place::History => tags::history(call, name).await,
        Place::Deleted => deleted::list(call, name).await,
        Place::RestoreManifest(digest) => deleted::restore(call, name, digest).await,
        Place::Description => settings::description(call, name).await,
        Place::Settings => settings::settings(call, name).await,
        Place::DeleteTags => delete::tags(call, name).await,
        Place::DeleteManifest(digest) => delete::manifest(call, name, digest).await,
        Place::Delete => delete::repository(call, name).await,
        Place::Restore(tag) => delete::restore(call, name, tag).await,
        Place::Tag(tag) => manifest::page(call, name, Reference::Tag(tag)).await,
        Place::Manifest(digest) => manifest::page(call, name, Reference::Digest(digest)).await,
        Place::Blob(digest) => download(call, &name, digest).await,
    }
}

/// Downloads a blob. Its bytes are of a stranger, so the browser must not show them.
async fn download(call: &PageCall<'_>, name: &RepositoryName, digest: Digest) -> HandlerResult {
    use hyper::header::{CONTENT_DISPOSITION, CONTENT_SECURITY_POLICY, HeaderValue, X_CONTENT_TYPE_OPTIONS};
    let mut response = api::blob::get(call.context, name, digest).await?;
    let headers = response.headers_mut();
    headers.insert(CONTENT_DISPOSITION, HeaderValue::from_static("attachment"));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; sandbox"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    Ok(response)
}

/// The head of the pages of a repository. Fails if the repository does not exist.
fn frame(call: &PageCall<'_>, name: &RepositoryName, tab: &'static str) -> Result<RepositoryFrame, ApiError> {
    let registry = call.context.registry;
    if !registry.repository(name).is_known()? {
        return Err(Error::RepositoryUnknown { name: name.clone() }.into());
    }
    let actions = registry.actions(call.context.caller, name)?;
    let mut crumbs = vec![Crumb { name: "Repositories".to_owned(), path: Some("/ui/".to_owned()) }];
    crumbs.extend(folders(name.as_str()));
    let last = name.as_str().rsplit('/').next().unwrap_or_default();
    crumbs.push(Crumb { name: last.to_owned(), path: Some(url(name)) });
    let mirror = registry.mirror_source(name)?;
    Ok(RepositoryFrame {
        name: name.to_string(),
        crumbs,
        is_public: call.is_public(name)?,
        mirror: mirror.map(|source| Source {
            name: format!("{}/{}", source.upstream, source.repository),
            fetched: Timestamp::from_rfc3339(&source.fetched).map(|at| call.time(at)),
        }),
        tab,
        may_push: actions.has(Action::Push),
        may_delete: actions.has(Action::Delete),
        may_administer: actions.has(Action::Administer),
    })
}

/// The folders above a name.
pub(super) fn folders(name: &str) -> Vec<Crumb> {
    let slashes = name.match_indices('/').map(|(at, _)| at);
    let mut start = 0;
    slashes
        .map(|end| {
            let folder = name[start..end].to_owned();
            start = end + 1;
            Crumb { name: folder, path: Some(format!("/ui/?view=tree&path={}", parameter(&name[..end]))) }
        })
        .collect()
}

/// The URL of a repository. Names, tags and digests need no encoding.
pub(super) fn url(name: &RepositoryName) -> String {
    format!("/ui/r/{name}")
}

pub(super) fn tag_url(name: &RepositoryName, tag: &Tag) -> String {
    format!("/ui/r/{name}/-/tag/{tag}")
}

pub(super) fn manifest_url(name: &RepositoryName, digest: Digest) -> String {
    format!("/ui/r/{name}/-/manifest/{digest}")
}

/// The tags that can be neither moved nor deleted, of those that exist, each with the reason.
async fn immutable(
    call: &PageCall<'_>,
    name: &RepositoryName,
    tags: &[Tag],
) -> Result<Vec<(Tag, Immutable)>, ApiError> {
    let (repository, tags) = (call.context.registry.repository(name), tags.to_vec());
    call.context.blocking(move || repository.immutable_tags(&tags)).await
}

/// The first immutable tags of the whole repository, each with the reason, and the number of all.
async fn all_immutable(call: &PageCall<'_>, name: &RepositoryName) -> Result<(Vec<(Tag, Immutable)>, usize), ApiError> {
    let repository = call.context.registry.repository(name);
    let find = move || {
        let (mut first, mut count, mut last) = (Vec::new(), 0, String::new());
        loop {
            let page = repository.tags(&last, STEP)?;
            let tags: Vec<Tag> = page.tags.iter().filter_map(|tag| tag.parse().ok()).collect();
            let found = repository.immutable_tags(&tags)?;
            count += found.len();
            first.extend(found.into_iter().take(IMMUTABLE_SHOWN_MAX - first.len()));
            match page.tags.into_iter().next_back() {
                Some(tag) if page.more => last = tag,
                _ => return Ok::<_, Error>((first, count)),
            }
        }
    };
    call.context.blocking(find).await
}

/// Why immutable tags forbid a deletion: the first of them, and the number of all.
fn why_immutable(tags: &[(Tag, Immutable)], count: usize) -> String {
    if let ([(tag, reason)], 1) = (tags, count) {
        return format!("The tag {tag} is {reason}, and can be neither moved nor deleted.");
    }
    let shown = tags.iter().take(IMMUTABLE_SHOWN_MAX).map(|(tag, reason)| format!("{tag} ({reason})"));
    let shown: Vec<String> = shown.collect();
    let more = match count.saturating_sub(shown.len()) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("These tags can be neither moved nor deleted: {}{more}.", shown.join(", "))
}

/// The repository, with the caller as the author of its changes.
fn authored(call: &PageCall<'_>, name: &RepositoryName) -> Repository {
    let registry = call.context.registry;
    registry.repository(name).by(registry.accounts().author(call.context.origin()))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn every_name_of_a_repository_has_its_pages() {
        for name in ["app", "untagged", "tag/latest", "a/settings", "a/b/c/manifest", "delete"] {
            let parsed = |place: &str| Place::parse(&format!("{name}{place}"));
            let name: RepositoryName = name.parse().unwrap();
            assert_eq!(parsed(""), Some((name.clone(), Place::Tags)));
            assert_eq!(parsed("/-/untagged"), Some((name.clone(), Place::Untagged)));
            assert_eq!(parsed("/-/tag/tag"), Some((name.clone(), Place::Tag("tag".parse().unwrap()))));
        }
        for path in [
            "",
            "a/",
            "a/-",
            "a/-/",
            "a/-/nothing",
            "a/-/tag",
            "a/-/tag/",
            "a/-/tag/a/b",
            "a/-/tag/-a",
            "A",
            "-/-/tag/a",
            "a/-/manifest/sha256:aa",
            "a/-/untagged/",
            "a//b",
        ] {
            assert_eq!(Place::parse(path), None, "{path:?}");
        }
    }

    #[test]
    fn the_reason_names_some_of_the_immutable_tags() {
        let tags: Vec<(Tag, Immutable)> =
            (1..=11).map(|number| (format!("v{number}").parse().unwrap(), Immutable::Locked)).collect();
        let reason = |count: usize| why_immutable(&tags[..count], count);
        assert_eq!(reason(1), "The tag v1 is locked, and can be neither moved nor deleted.");
        assert_eq!(reason(2), "These tags can be neither moved nor deleted: v1 (locked), v2 (locked).");
        assert!(reason(11).ends_with("v9 (locked), v10 (locked) and 1 more."), "{}", reason(11));
        assert!(why_immutable(&tags[..10], 1000).ends_with("v10 (locked) and 990 more."));
    }

    #[test]
    fn the_folders_of_a_name_are_its_beginnings() {
        let paths: Vec<_> = folders("a/b/c").into_iter().filter_map(|crumb| crumb.path).collect();
        assert_eq!(paths, ["/ui/?view=tree&path=a", "/ui/?view=tree&path=a%2Fb"]);
        assert!(folders("a").is_empty());
    }
}
