//! The list of repositories.

use super::PageCall;
use super::route::parameter;
use crate::http::HandlerResult;
use crate::http::host_of;
use crate::web::{Copy, ListedRepository, NextPage, RepositoryList};

/// The number of repositories on a page.
const PAGE: usize = 50;

/// Lists the repositories that the caller may pull from.
pub(super) async fn list(call: &PageCall<'_>) -> HandlerResult {
    let after = call.parameter("after")?.to_owned();
    let is_first = after.is_empty();
    let view = call.context.registry.catalog_view(call.context.caller);
    let page = call.context.blocking(move || view.page(("", &after), PAGE, false)).await?;
    if page.names.is_empty() && is_first && !call.may_list()? {
        return call.to_sign_in();
    }
    let pages = NextPage {
        next: page.next.map(|next| format!("/ui/?after={}", parameter(&next))),
        first: (!is_first).then(|| super::START.to_owned()),
    };
    let repositories = page.names.into_iter().map(|name| ListedRepository { name }).collect();
    call.render(&RepositoryList {
        layout: call.layout("Repositories"),
        repositories,
        pages,
        first_push: first_push(call),
    })
}

/// The commands that push a first image.
fn first_push(call: &PageCall<'_>) -> Vec<Copy> {
    let base = call.context.base_url();
    let host = host_of(&base);
    let namespace = call.context.caller.account().and_then(|account| account.namespace.as_deref());
    let image = format!("{host}/{}app:1", namespace.map(|name| format!("{name}/")).unwrap_or_default());
    vec![
        Copy::new("Command to sign in", format!("docker login {host}")),
        Copy::new("Command to name an image", format!("docker tag app:1 {image}")),
        Copy::new("Command to push the image", format!("docker push {image}")),
    ]
}
