//! `/v2/_catalog`: the repositories the caller may pull from.

use hyper::{Response, StatusCode, header};
use oci_spec::distribution::RepositoryListBuilder;

use crate::http::error::ApiError;
use crate::http::response::{json_response, next_link};
use crate::http::route::Page;
use crate::http::{Body, Context};

pub(in crate::http) fn list(context: &Context<'_>, page: &Page) -> Result<Response<Body>, ApiError> {
    let visible = |name: &str| name.parse().is_ok_and(|name| context.sees(&name));
    let listed = match page.size() {
        0 => crate::content::repository::NamePage { names: Vec::new(), next: None },
        limit => context.registry.stores().catalog(("", &page.last), limit, &context.among(), visible)?,
    };
    let list = RepositoryListBuilder::default().repositories(listed.names).build().map_err(ApiError::internal)?;
    let mut response = json_response(StatusCode::OK, &list);
    if let Some(last) = listed.next {
        response.headers_mut().insert(header::LINK, next_link(&page.next_path("/v2/_catalog", &last)));
    }
    Ok(response)
}
