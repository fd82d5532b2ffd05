//! The lists of the distribution specification: repositories, tags and referrers, in pages.

use std::fmt::Write as _;
use std::sync::Arc;

use hyper::header::{self, HeaderValue};
use hyper::{Response, StatusCode};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;

use crate::content::repository::{Error, NamePage, ReferrerCursor, TagPage};
use crate::http::response::{OCI_FILTERS_APPLIED, json_response, next_link, with_body};
use crate::http::route::Page;
use crate::http::{Body, Context, HandlerResult};
use crate::oci::{Digest, MediaType, RepositoryName, Tag};

/// The characters that are encoded in the value of a parameter: all that RFC 3986 does not call unreserved.
const PARAMETER: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The most entries of a page. A client that follows `Link` gets the whole list.
const PAGE_MAX: usize = 10_000;

#[derive(Serialize)]
struct RepositoryList {
    repositories: Vec<String>,
}

#[derive(Serialize)]
struct TagList<'a> {
    name: &'a str,
    tags: Vec<String>,
}

impl Page {
    /// The most entries of this page.
    fn size(&self) -> usize {
        self.limit.unwrap_or(PAGE_MAX).min(PAGE_MAX)
    }

    /// The path of the next page.
    fn next_path(&self, path: &str, last: &str) -> String {
        let last = utf8_percent_encode(last, PARAMETER);
        format!("{path}?n={}&last={last}", self.size())
    }
}

/// `/v2/_catalog`: the repositories that the caller may pull from. `more` are names that this registry may lack, in byte
/// order.
pub(in crate::http) async fn catalog(
    context: &Context<'_>,
    page: Page,
    more: Arc<Vec<RepositoryName>>,
) -> HandlerResult {
    let listed = match page.size() {
        0 => NamePage { names: Vec::new(), next: None },
        limit => {
            let (view, last) = (context.registry.catalog_view(context.caller), page.last.clone());
            context.blocking(move || view.merged_page(&last, limit, &more)).await?
        }
    };
    let mut response = json_response(StatusCode::OK, &RepositoryList { repositories: listed.names });
    if let Some(last) = listed.next {
        response.headers_mut().insert(header::LINK, next_link(&page.next_path("/v2/_catalog", &last)));
    }
    Ok(response)
}

/// `/v2/<name>/tags/list` (distribution-spec, "Listing Tags").
pub(in crate::http) fn tags(context: &Context<'_>, name: &RepositoryName, page: &Page) -> HandlerResult {
    let listed = context.registry.repository(name).tags(&page.last, page.size())?;
    Ok(tag_list(name, page, listed.tags, listed.more))
}

/// As [`tags`], with more tags, which are in byte order. The repository need not exist if there are any.
pub(super) fn merged_tags(context: &Context<'_>, name: &RepositoryName, page: &Page, more: &[Tag]) -> HandlerResult {
    let listed = match context.registry.repository(name).tags(&page.last, page.size()) {
        Err(Error::RepositoryUnknown { .. }) if !more.is_empty() => TagPage::default(),
        listed => listed?,
    };
    let begin = more.partition_point(|tag| tag.as_str() <= page.last.as_str());
    // One more of each tells whether there is another page.
    let others = more[begin..].iter().take(page.size() + 1).map(Tag::as_str);
    let mut tags: Vec<String> = listed.tags.into_iter().chain(others.map(str::to_owned)).collect();
    tags.sort_unstable();
    tags.dedup();
    let has_more = listed.more || tags.len() > page.size();
    tags.truncate(page.size());
    Ok(tag_list(name, page, tags, has_more))
}

fn tag_list(name: &RepositoryName, page: &Page, tags: Vec<String>, has_more: bool) -> Response<Body> {
    let next = has_more.then(|| tags.last().cloned()).flatten();
    let mut response = json_response(StatusCode::OK, &TagList { name: name.as_str(), tags });
    if let Some(last) = next {
        let path = page.next_path(&format!("/v2/{name}/tags/list"), &last);
        response.headers_mut().insert(header::LINK, next_link(&path));
    }
    response
}

/// `/v2/<name>/referrers/<digest>` (distribution-spec, "Listing Referrers").
pub(in crate::http) fn referrers(
    context: &Context<'_>,
    name: &RepositoryName,
    subject: Digest,
    types: &[String],
    after: ReferrerCursor,
    limit: Option<usize>,
) -> HandlerResult {
    let page = context.registry.repository(name).referrers(subject, types, after, limit)?;
    // The database has the descriptors as JSON. They need no parsing.
    let mut body = Body::bytes(format!(r#"{{"schemaVersion":2,"mediaType":"{}","manifests":["#, MediaType::OCI_INDEX));
    body.push_bytes(page.descriptors);
    body.push_bytes("]}");
    let mut response = with_body(StatusCode::OK, HeaderValue::from_static(MediaType::OCI_INDEX), body);
    if !types.is_empty() {
        response.headers_mut().insert(OCI_FILTERS_APPLIED, HeaderValue::from_static("artifactType"));
    }
    if let Some(ReferrerCursor { artifact_type, digest: Some(digest) }) = page.next {
        let mut path = format!("/v2/{name}/referrers/{subject}?");
        if let Some(limit) = limit {
            let _ = write!(path, "n={limit}&");
        }
        for kind in types {
            let _ = write!(path, "artifactType={}&", utf8_percent_encode(kind, PARAMETER));
        }
        let cursor = format!("{artifact_type}@{digest}");
        let _ = write!(path, "last={}", utf8_percent_encode(&cursor, PARAMETER));
        response.headers_mut().insert(header::LINK, next_link(&path));
    }
    Ok(response)
}
