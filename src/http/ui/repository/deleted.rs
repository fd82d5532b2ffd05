//! Manifests that were deleted by digest, and the question whether to restore one.

use super::{PageCall, authored, frame, manifest_url, url};
use crate::content::repository::DeletedManifest;
use crate::http::HandlerResult;
use crate::http::error::ApiError;
use crate::oci::{Digest, RepositoryName};
use crate::web::{Bytes, DeletedEntry, DeletedList, NextPage, RestoreManifestPage, ShortDigest};

/// The number of entries on a page.
const PAGE: usize = 50;

/// Lists the manifests that can be restored.
pub(super) async fn list(call: &PageCall<'_>, name: RepositoryName) -> HandlerResult {
    let frame = frame(call, &name, "deleted")?;
    let after: Option<Digest> = call.parameter("after")?.parse().ok();
    let repository = call.context.registry.repository(&name);
    let (found, next) = call.context.blocking(move || repository.deleted(after, PAGE)).await?;
    let here = format!("{}/-/deleted", url(&name));
    let pages = NextPage { next: next.map(|next| format!("{here}?after={next}")), first: after.map(|_| here.clone()) };
    let manifests = found.into_iter().map(|manifest| entry(call, &name, manifest)).collect();
    let is_kept = call.context.registry.stores().keeps_tag_history();
    call.render(&DeletedList { layout: call.layout(format!("Deleted · {name}")), frame, is_kept, manifests, pages })
}

fn entry(call: &PageCall<'_>, name: &RepositoryName, manifest: DeletedManifest) -> DeletedEntry {
    DeletedEntry {
        digest: ShortDigest(manifest.digest),
        restore: format!("{}/-/restore-manifest/{}", url(name), manifest.digest),
        media_type: manifest.media_type,
        size: Bytes(manifest.size),
        deleted: manifest.deleted.map(|at| call.time(at)),
        until: manifest.until.map(|at| call.time(at)),
    }
}

/// Asks whether to restore a manifest, and restores it.
pub(super) async fn restore(call: &PageCall<'_>, name: RepositoryName, digest: Digest) -> HandlerResult {
    let frame = frame(call, &name, "deleted")?;
    let (mut status, mut error) = (hyper::StatusCode::OK, None);
    if call.form.is_some() {
        let repository = authored(call, &name);
        match call.context.blocking(move || repository.restore_manifest(digest)).await {
            Ok(()) => return call.redirect(&manifest_url(&name, digest), Some("manifest-restored")),
            Err(mistake) => {
                let (code, text) = PageCall::mistake(mistake)?;
                (status, error) = (code, Some(text));
            }
        }
    }
    let manifest = call.context.registry.repository(&name).deleted_manifest(digest)?;
    let manifest = entry(call, &name, manifest.ok_or_else(ApiError::nothing_here)?);
    let layout = call.layout(format!("Restore a manifest · {name}"));
    PageCall::render_as(status, &RestoreManifestPage { layout, frame, error, digest: digest.to_string(), manifest })
}
