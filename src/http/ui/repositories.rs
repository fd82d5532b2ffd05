//! The list of repositories, as a list and as folders, and the search.

use super::PageCall;
use super::repository::{folders, kind_name, manifest_url, tag_url, url};
use super::route::parameter;
use crate::content::repository::browse::{
    self, COUNTED_MAX, RepositoryCursor, RepositoryOrder, RepositoryQuery, Sought, TreeEntry,
};
use crate::http::{HandlerResult, host_of};
use crate::kit::text::counted;
use crate::web::{
    Bytes, Copy, FoundEntry, ListedRepository, NextPage, RepositoryList, SearchResults, ShortDigest, summary,
};

/// The number of repositories on a page.
const PAGE: usize = 50;
/// The longest part of a description in a list, in characters.
const SUMMARY_MAX: usize = 160;

/// The orders: the word in the URL, and the name.
const ORDERS: [(&str, &str, RepositoryOrder); 4] = [
    ("change", "Last change", RepositoryOrder::Change),
    ("name", "Name", RepositoryOrder::Name),
    ("size", "Size", RepositoryOrder::Size),
    ("pulls", "Pulls", RepositoryOrder::Pulls),
];

/// Lists the repositories that the caller may pull from.
pub(super) async fn list(call: &PageCall<'_>) -> HandlerResult {
    if call.parameter("view")? == "tree" && call.parameter("q")?.is_empty() {
        return tree(call).await;
    }
    let part = call.parameter("q")?.to_lowercase();
    let wanted = call.parameter("sort")?;
    let order = ORDERS.iter().find(|(word, ..)| *word == wanted).map_or(RepositoryOrder::Change, |(.., order)| *order);
    let after = cursor(call.parameter("after")?);
    let is_first = after.is_none();
    let query = RepositoryQuery { order, part: part.clone(), after, limit: PAGE };
    let view = call.context.registry.catalog_view(call.context.caller);
    let page = call.context.blocking(move || view.repositories(&query)).await?;
    if page.repositories.is_empty() && is_first && !call.may_list()? {
        return call.to_sign_in();
    }
    let word = ORDERS.iter().find(|(.., known)| *known == page.order).map_or("name", |(word, ..)| *word);
    let link = |after: &str| format!("/ui/?q={}&sort={word}{after}", parameter(&part));
    let pages = NextPage {
        next: page.next.map(|next| link(&format!("&after={}", parameter(&format!("{}:{}", next.value, next.name))))),
        first: (!is_first).then(|| link("")),
    };
    call.render(&RepositoryList {
        layout: call.layout("Repositories"),
        is_tree: false,
        crumbs: Vec::new(),
        orders: ORDERS.iter().map(|(known, title, _)| (*known, *title, *known == word)).collect(),
        entries: page.repositories.iter().map(|one| listed(call, one)).collect(),
        pages,
        is_cut_off: page.is_cut_off,
        is_counting: page.order != order,
        first_push: first_push(call, None),
        part,
    })
}

/// Lists the folders and repositories of a folder.
async fn tree(call: &PageCall<'_>) -> HandlerResult {
    let (path, after) = (call.parameter("path")?.trim_matches('/').to_owned(), call.parameter("after")?.to_owned());
    let is_first = after.is_empty();
    let view = call.context.registry.catalog_view(call.context.caller);
    let of = path.clone();
    let page = call.context.blocking(move || view.tree(&of, &after, PAGE)).await?;
    if page.entries.is_empty() && is_first && !call.may_list()? {
        return call.to_sign_in();
    }
    let here = folder_url(&path);
    let pages = NextPage {
        next: page.next.map(|next| format!("{here}&after={}", parameter(&next))),
        first: (!is_first).then(|| here.clone()),
    };
    let mut crumbs = Vec::new();
    if !path.is_empty() {
        let root = crate::web::Crumb { name: "Repositories".to_owned(), path: Some("/ui/?view=tree".to_owned()) };
        crumbs.push(root);
        crumbs.extend(folders(&format!("{path}/")));
    }
    let start = if path.is_empty() { 0 } else { path.len() + 1 };
    let entry = |entry: &TreeEntry| match entry {
        TreeEntry::Folder { path, repositories } => {
            let count = counted(*repositories as u64, "repository", "repositories");
            let more = if *repositories >= COUNTED_MAX { " or more" } else { "" };
            ListedRepository {
                href: folder_url(path),
                name: path.get(start..).unwrap_or(path).to_owned(),
                folder: Some(format!("{count}{more}")),
                ..ListedRepository::default()
            }
        }
        TreeEntry::Repository(one) => {
            let mut shown = listed(call, one);
            one.name.as_str().get(start..).unwrap_or(one.name.as_str()).clone_into(&mut shown.name);
            shown
        }
    };
    call.render(&RepositoryList {
        layout: call.layout(if path.is_empty() { "Repositories".to_owned() } else { path.clone() }),
        is_tree: true,
        crumbs,
        part: String::new(),
        orders: ORDERS
            .iter()
            .map(|(known, title, order)| (*known, *title, *order == RepositoryOrder::Change))
            .collect(),
        entries: page.entries.iter().map(entry).collect(),
        pages,
        is_cut_off: page.is_cut_off,
        is_counting: false,
        first_push: first_push(call, None),
    })
}

/// Searches repositories, tags and digests.
pub(super) async fn search(call: &PageCall<'_>) -> HandlerResult {
    let text = call.parameter("q")?.to_owned();
    let mut layout = call.layout(if text.is_empty() { "Search".to_owned() } else { format!("{text} · Search") });
    layout.search.clone_from(&text);
    let mut found = browse::Found::default();
    if !text.is_empty() {
        let (view, sought) = (call.context.registry.catalog_view(call.context.caller), Sought::read(&text));
        found = call.context.blocking(move || view.search(&sought)).await?;
    }
    let results = SearchResults {
        layout,
        repositories: found.repositories.iter().map(|one| listed(call, one)).collect(),
        tags: found.tags.iter().map(found_tag).collect(),
        manifests: found.manifests.iter().map(found_manifest).collect(),
        blobs: found.blobs.iter().map(found_blob).collect(),
        is_part: found.is_part,
        text,
    };
    if results.is_empty() && !call.may_list()? {
        return call.to_sign_in();
    }
    call.render(&results)
}

fn found_tag(tag: &browse::FoundTag) -> FoundEntry {
    FoundEntry {
        href: tag_url(&tag.repository, &tag.tag),
        name: format!("{}:{}", tag.repository, tag.tag),
        kind: String::new(),
        digest: ShortDigest(tag.digest),
        size: None,
    }
}

fn found_manifest(manifest: &browse::FoundManifest) -> FoundEntry {
    FoundEntry {
        href: manifest_url(&manifest.repository, manifest.digest),
        name: match &manifest.tag {
            Some(tag) => format!("{}:{tag}", manifest.repository),
            None => manifest.repository.to_string(),
        },
        kind: kind_name(manifest.facts.as_ref(), "").to_owned(),
        digest: ShortDigest(manifest.digest),
        size: manifest.facts.as_ref().map(|facts| Bytes(facts.size)),
    }
}

fn found_blob(blob: &browse::FoundBlob) -> FoundEntry {
    FoundEntry {
        href: url(&blob.repository),
        name: blob.repository.to_string(),
        kind: "Blob".to_owned(),
        digest: ShortDigest(blob.digest),
        size: Some(Bytes(blob.size)),
    }
}

/// A repository with what lists show.
fn listed(call: &PageCall<'_>, one: &browse::ListedRepository) -> ListedRepository {
    let totals = one.totals.as_ref();
    ListedRepository {
        href: url(&one.name),
        name: one.name.to_string(),
        folder: None,
        description: summary(&one.description, SUMMARY_MAX),
        is_public: one.is_public || call.is_public(&one.name).unwrap_or(false),
        newest: one.newest.as_ref().map(|(tag, _)| (tag.to_string(), tag_url(&one.name, tag))),
        changed: totals.map(|totals| call.time(totals.changed)),
        tags: totals.map(|totals| totals.tags),
        size: totals.map(|totals| Bytes(totals.size)),
        pulls: totals.map(|totals| totals.pulls),
    }
}

fn folder_url(path: &str) -> String {
    format!("/ui/?view=tree&path={}", parameter(path))
}

/// Reads a position in a list.
fn cursor(text: &str) -> Option<RepositoryCursor> {
    let (value, name) = text.split_once(':')?;
    Some(RepositoryCursor { value: value.parse().ok()?, name: name.to_owned() })
}

/// The commands that push a first image, into a repository or into a new one.
pub(super) fn first_push(call: &PageCall<'_>, name: Option<&str>) -> Vec<Copy> {
    let base = call.context.base_url();
    let host = host_of(&base);
    let namespace = call.context.caller.account().and_then(|account| account.namespace.as_deref());
    let own = || format!("{}app", namespace.map(|name| format!("{name}/")).unwrap_or_default());
    let image = format!("{host}/{}:1", name.map_or_else(own, str::to_owned));
    vec![
        Copy::new("Command to sign in", format!("docker login {host}")),
        Copy::new("Command to name an image", format!("docker tag app:1 {image}")),
        Copy::new("Command to push the image", format!("docker push {image}")),
    ]
}
