//! `/v2/<name>/tags/list` (distribution-spec, "Listing Tags").

use hyper::{Response, StatusCode, header};
use oci_spec::distribution::TagListBuilder;

use crate::http::error::ApiError;
use crate::http::response::{json_response, next_link};
use crate::http::route::Page;
use crate::http::{Body, Context};
use crate::oci::RepositoryName;

pub(in crate::http) fn list(
    context: &Context<'_>,
    name: &RepositoryName,
    page: &Page,
) -> Result<Response<Body>, ApiError> {
    let listed = context.registry.repository(name).tags(&page.last, page.size())?;
    let next = listed.more.then(|| listed.tags.last().cloned()).flatten();
    let list = TagListBuilder::default().name(name.as_str()).tags(listed.tags).build().map_err(ApiError::internal)?;
    let mut response = json_response(StatusCode::OK, &list);
    if let Some(last) = next {
        let path = page.next_path(&format!("/v2/{name}/tags/list"), &last);
        response.headers_mut().insert(header::LINK, next_link(&path));
    }
    Ok(response)
}
