//! Questions before something is deleted or restored, with the effect, and the deletion.

use hyper::StatusCode;

use super::tags::is_there;
use super::{PageCall, all_immutable, authored, frame, immutable, manifest_url, tag_url, url, why_immutable};
use crate::content::repository::browse::{DELETED_TAGS_MAX, Deletion, DeletionPreview, KeptBy};
use crate::content::repository::{Error, Immutable, TagRights};
use crate::http::HandlerResult;
use crate::http::error::ApiError;
use crate::identity::access::{Action, Actions};
use crate::kit::clock::Timestamp;
use crate::kit::text::{counted, size};
use crate::oci::{Digest, ErrorCode, Reference, RepositoryName, Tag};
use crate::web::{Bytes, DeletePage, RestorePage, ShortDigest};

/// Deletes tags.
pub(super) async fn tags(call: &PageCall<'_>, name: RepositoryName) -> HandlerResult {
    let frame = frame(call, &name, "")?;
    let given = call.form.as_ref().unwrap_or(&call.query);
    let mut tags = given.all("tag").filter_map(|tag| tag.parse::<Tag>().ok()).collect::<Vec<_>>();
    tags.truncate(DELETED_TAGS_MAX);
    if tags.is_empty() {
        return call.redirect(&url(&name), None);
    }
    let mut error = None;
    if call.form.is_some() {
        match delete_tags(call, &name, tags.clone()).await {
            Ok(()) => {
                let notice = if tags.len() == 1 { "tag-deleted" } else { "tags-deleted" };
                return call.redirect(&url(&name), Some(notice));
            }
            Err(mistake) => error = Some(PageCall::mistake(mistake)?),
        }
    }
    let preview = preview(call, &name, Deletion::Tags(tags.clone())).await?;
    let protected = immutable(call, &name, &tags).await?;
    let title = match tags.as_slice() {
        [tag] => format!("Delete the tag {tag}?"),
        tags => format!("Delete {} tags?", tags.len()),
    };
    let back = if let [tag] = tags.as_slice() { tag_url(&name, tag) } else { url(&name) };
    let action = format!("{}/-/delete-tags", url(&name));
    let mut page = question(call, frame, title, (action, back), preview);
    page.selected = tags.iter().map(ToString::to_string).collect();
    page.blocked = blocked_by_tags(&protected, tags.len());
    page.button = if tags.len() == 1 { "Delete the tag" } else { "Delete the tags" };
    show(page, error)
}

/// Why immutable tags forbid the deletion of `selected` tags, if there are any.
fn blocked_by_tags(protected: &[(Tag, Immutable)], selected: usize) -> Option<String> {
    let advice = if protected.len() < selected { " Go back and select only the others." } else { "" };
    (!protected.is_empty()).then(|| why_immutable(protected, protected.len()) + advice)
}

/// Deletes tags one after another, each with its own audit row. A tag that is gone already is no error.
async fn delete_tags(call: &PageCall<'_>, name: &RepositoryName, tags: Vec<Tag>) -> Result<(), ApiError> {
    let repository = authored(call, name);
    let delete = move || {
        let is_one = tags.len() == 1;
        for tag in tags {
            match repository.delete_manifest(&Reference::Tag(tag), false) {
                Err(Error::ManifestUnknown { .. }) if !is_one => {}
                result => result?,
            }
        }
        Ok::<_, Error>(())
    };
    call.context.blocking(delete).await
}

/// Deletes a manifest with its tags.
pub(super) async fn manifest(call: &PageCall<'_>, name: RepositoryName, digest: Digest) -> HandlerResult {
    let frame = frame(call, &name, "untagged")?;
    let mut error = None;
    if call.form.is_some() {
        let granted = call.context.registry.actions(call.context.caller, &name)?;
        let (repository, only_untagged) = (authored(call, &name), granted.covers(Actions::DETECT_COLLISION));
        let delete = move || repository.delete_manifest(&Reference::Digest(digest), only_untagged);
        match call.context.blocking(delete).await {
            Ok(()) => return call.redirect(&url(&name), Some("manifest-deleted")),
            Err(mistake) => error = Some(PageCall::mistake(mistake)?),
        }
    }
    let preview = preview(call, &name, Deletion::Manifest(digest)).await?;
    let action = format!("{}/-/delete-manifest/{digest}", url(&name));
    let blocked = match preview.blocked_by {
        Some(_) => Some(
            "An index lists this manifest. Delete the index first, and garbage collection removes this manifest too."
                .to_owned(),
        ),
        None => blocked_by_tags(&immutable(call, &name, &preview.tags).await?, 0),
    };
    let mut page =
        question(call, frame, "Delete the manifest?".to_owned(), (action, manifest_url(&name, digest)), preview);
    page.blocked = blocked;
    page.restored_on = page.restored_on.map(|_| "Deleted");
    page.button = "Delete the manifest";
    show(page, error)
}

/// Deletes the repository.
pub(super) async fn repository(call: &PageCall<'_>, name: RepositoryName) -> HandlerResult {
    let frame = frame(call, &name, "settings")?;
    let mut error = None;
    if call.form.is_some() {
        let repository = authored(call, &name);
        let deleted = if call.field("confirm")? == name.as_str() {
            call.context.blocking(move || repository.remove()).await
        } else {
            Err(ApiError::bad_request(ErrorCode::Unsupported, "write the name of the repository to confirm"))
        };
        match deleted {
            Ok(()) => return call.redirect("/ui/", Some("repository-deleted")),
            Err(mistake) => error = Some(PageCall::mistake(mistake)?),
        }
    }
    let (protected, count) = all_immutable(call, &name).await?;
    let back = format!("{}/-/settings", url(&name));
    let action = format!("{}/-/delete", url(&name));
    let mut page =
        question(call, frame, format!("Delete the repository {name}?"), (action, back), DeletionPreview::default());
    let totals = call.context.registry.stores().totals(&name)?;
    page.effects = vec!["its manifests, its history, its roles and its description".to_owned()];
    if let Some(totals) = totals {
        page.effects.insert(0, counted(totals.tags, "tag", "tags"));
        page.effects.push(format!("blobs that no other repository has, of {} in all", size(totals.size)));
    }
    if count > 0 {
        page.blocked = Some(why_immutable(&protected, count) + " So the repository cannot be deleted.");
    } else {
        page.confirm = Some(name.to_string());
    }
    page.button = "Delete the repository";
    show(page, error)
}

async fn preview(call: &PageCall<'_>, name: &RepositoryName, deletion: Deletion) -> Result<DeletionPreview, ApiError> {
    let (view, of) = (call.context.registry.catalog_view(call.context.caller), name.clone());
    call.context.blocking(move || view.preview_deletion(&of, &deletion)).await
}

fn question(
    call: &PageCall<'_>,
    frame: crate::web::RepositoryFrame,
    title: String,
    (action, back): (String, String),
    preview: DeletionPreview,
) -> DeletePage {
    let mut effects = Vec::new();
    if preview.manifests > 0 {
        let referrers = match preview.referrers {
            0 => String::new(),
            count => format!(", {count} of them signatures, SBOMs or attestations"),
        };
        effects.push(counted(preview.manifests as u64, "manifest", "manifests") + &referrers);
    }
    let kept = preview.kept.iter().map(|(digest, keeper)| {
        let reason = match keeper {
            KeptBy::Tag(tag) => format!("because the tag {tag} points at it"),
            KeptBy::Index(_) => "because an index lists it".to_owned(),
        };
        (ShortDigest(*digest), reason)
    });
    let stays =
        preview.bytes.as_ref().map(|bytes| bytes.needed_here + bytes.needed_elsewhere).filter(|bytes| *bytes > 0);
    DeletePage {
        layout: call.layout(title.clone()),
        error: None,
        title,
        action,
        back,
        selected: Vec::new(),
        tags: preview.tags.iter().map(ToString::to_string).collect(),
        has_more_tags: preview.more_tags,
        effects,
        kept: kept.collect(),
        freed: preview.bytes.as_ref().map(|bytes| Bytes(bytes.freed)),
        stays: stays.map(Bytes),
        repositories: preview.bytes.map(|bytes| bytes.repositories).unwrap_or_default(),
        restorable_until: preview.restorable_until.map(Timestamp::to_minute),
        restored_on: frame.may_push.then_some("History"),
        blocked: None,
        confirm: None,
        button: "Delete",
        frame,
    }
}

fn show(mut page: DeletePage, error: Option<(StatusCode, String)>) -> HandlerResult {
    let (status, text) = error.map_or((StatusCode::OK, None), |(status, text)| (status, Some(text)));
    page.error = text;
    PageCall::render_as(status, &page)
}

/// Points a tag at a previous target.
pub(super) async fn restore(call: &PageCall<'_>, name: RepositoryName, tag: Tag) -> HandlerResult {
    let frame = frame(call, &name, "history")?;
    let given = if call.form.is_some() { call.field("digest")? } else { call.parameter("digest")? }.to_owned();
    let digest = given.parse::<Digest>().ok();
    let (mut status, mut error) = (StatusCode::OK, None);
    if call.form.is_some() {
        match point(call, &name, &tag, digest).await {
            Ok(()) => return call.redirect(&tag_url(&name, &tag), Some("tag-restored")),
            Err(mistake) => {
                let (code, text) = PageCall::mistake(mistake)?;
                (status, error) = (code, Some(text));
            }
        }
    }
    let reference = Reference::Tag(tag.clone());
    let present = match call.context.registry.repository(&name).manifest_info(&reference) {
        Ok(info) => Some(info.digest).filter(|digest| is_there(call, &name, *digest).unwrap_or(false)),
        Err(_) => None,
    };
    let view = RestorePage {
        layout: call.layout(format!("Restore {tag} · {name}")),
        frame,
        error,
        tag: tag.to_string(),
        digest: given,
        short: digest.map(ShortDigest),
        present: present.map(ShortDigest),
    };
    PageCall::render_as(status, &view)
}

async fn point(call: &PageCall<'_>, name: &RepositoryName, tag: &Tag, digest: Option<Digest>) -> Result<(), ApiError> {
    let digest = digest.ok_or_else(|| ApiError::bad_request(ErrorCode::DigestInvalid, "the digest is invalid"))?;
    let granted = call.context.registry.actions(call.context.caller, name)?;
    let may = TagRights { may_create: granted.has(Action::Push), may_move: granted.has(Action::Update) };
    let (repository, tag) = (authored(call, name), tag.clone());
    call.context.blocking(move || repository.restore_tag_with(&tag, digest, may)).await?;
    Ok(())
}
