//! `/v2/<name>/manifests/<reference>` (distribution-spec, "Pulling manifests", "Pushing Manifests",
//! "Deleting tags", "Deleting Manifests").

use std::time::Duration;

use bytes::Bytes;
use hyper::header;
use hyper::{Response, StatusCode};

use super::mirrored::failed;
use crate::content::repository::{self, ManifestInfo, ManifestTarget, PutManifest, Repository};
use crate::http::error::ApiError;
use crate::http::request::{RequestBody, content_type, expected, has_already};
use crate::http::response::{
    CACHE_AND_ASK, CACHE_FOR_EVER, OCI_SUBJECT, OCI_TAG, content, empty, identify, not_modified, value,
};
use crate::http::{Body, Context, HandlerResult};
use crate::identity::access::{Action, Actions};
use crate::oci::{Manifest, Reference, RepositoryName};

/// The longest time that a large manifest waits for others to be sent.
const UNSENT_WAIT: Duration = Duration::from_secs(5);

/// Returns `None` if the manifest is large and not in memory: see [`get_large`]. Otherwise serves the manifest with the
/// media type of its push. The `Accept` header is ignored, because the bytes of a digest cannot be converted.
pub(in crate::http) fn get(
    context: &Context<'_>,
    name: &RepositoryName,
    reference: &Reference,
) -> Result<Option<Response<Body>>, ApiError> {
    let repository = context.registry.repository(name);
    let (info, bytes) = repository.manifest_at_hand(reference)?;
    if has_already(context.info.headers, info.digest) {
        return Ok(Some(not_modified(described(&info, reference))));
    }
    Ok(bytes.map(|bytes| {
        repository.count_pull(info.digest);
        with_bytes(&info, reference, bytes)
    }))
}

/// Reads a large manifest when there is memory for it.
pub(in crate::http) async fn get_large(
    context: &Context<'_>,
    name: &RepositoryName,
    reference: &Reference,
) -> HandlerResult {
    let repository = context.registry.repository(name);
    let (info, bytes) = read(context, repository.clone(), reference).await?;
    repository.count_pull(info.digest);
    Ok(with_bytes(&info, reference, bytes))
}

/// Reads a manifest, a large one when there is memory for it.
pub(in crate::http) async fn read(
    context: &Context<'_>,
    repository: Repository,
    reference: &Reference,
) -> Result<(ManifestInfo, Bytes), ApiError> {
    if let (info, Some(bytes)) = repository.manifest_at_hand(reference)? {
        return Ok((info, bytes));
    }
    let info = repository.manifest_info(reference)?;
    let reserved = context.registry.unsent().reserve(info.size, UNSENT_WAIT).await;
    let reserved = reserved.ok_or_else(ApiError::unread)?;
    let digest = info.digest;
    let bytes = context.blocking(move || repository.large_manifest(digest, reserved)).await?;
    Ok((info, bytes))
}

fn with_bytes(info: &ManifestInfo, reference: &Reference, bytes: Bytes) -> Response<Body> {
    let mut response = described(info, reference);
    *response.body_mut() = Body::reserved(bytes);
    response
}

pub(in crate::http) fn head(context: &Context<'_>, name: &RepositoryName, reference: &Reference) -> HandlerResult {
    let info = context.registry.repository(name).manifest_info(reference)?;
    let mut response = described(&info, reference);
    if has_already(context.info.headers, info.digest) {
        return Ok(not_modified(response));
    }
    response.headers_mut().insert(header::CONTENT_LENGTH, info.size.into());
    Ok(response)
}

pub(in crate::http) async fn put(
    context: &Context<'_>,
    name: &RepositoryName,
    target: ManifestTarget,
    body: &mut RequestBody,
) -> HandlerResult {
    let content_type = content_type(context.info.headers)?;
    // A client that waits for `100 Continue` learns it before it sends the manifest.
    Manifest::check_type(content_type.as_ref()).map_err(repository::Error::ManifestInvalid)?;
    let expected = expected(context.info.headers)?;
    let bytes = body.read_manifest(context.registry.manifest_bytes_max()).await?;
    let tags = match &target {
        ManifestTarget::Digest { tags, .. } => tags.clone(),
        ManifestTarget::Tag(_) => Vec::new(),
    };

    let granted = context.registry.actions(context.caller, name)?;
    let author = context.registry.accounts().author(context.origin());
    let repository = context.registry.repository(name).by(author);
    let put = PutManifest {
        target,
        content_type,
        bytes,
        expected,
        may_create: granted.has(Action::Push),
        may_move: granted.has(Action::Update),
        sparse: false,
        by_client: true,
    };
    let info = store(context, name, repository, put).await?;

    let mut response = empty(StatusCode::CREATED);
    let headers = response.headers_mut();
    headers.insert(header::LOCATION, value(format!("/v2/{name}/manifests/{}", info.digest)));
    identify(headers, info.digest);
    if let Some(subject) = info.subject {
        headers.insert(OCI_SUBJECT, value(subject.to_string()));
    }
    for tag in tags {
        headers.append(OCI_TAG, value(tag.as_str()));
    }
    Ok(response)
}

/// Stores a manifest. If its parts are still only in the registry that the repository mirrors, fetches them first: the
/// client was told that they exist.
async fn store(
    context: &Context<'_>,
    name: &RepositoryName,
    repository: Repository,
    put: PutManifest,
) -> Result<ManifestInfo, ApiError> {
    let caller = context.caller.clone();
    let Some(mirror) = context.registry.mirror().filter(|mirror| mirror.mirrors(name)) else {
        let put = move || repository.put_manifest(put).map_err(|error| ApiError::of_change(error, &caller));
        return context.blocking(put).await;
    };
    let (again, first) = (repository.clone(), put.clone());
    let stored = context.blocking(move || Ok::<_, repository::Error>(repository.put_manifest(first))).await?;
    match stored {
        Err(repository::Error::ManifestContentMissing { missing }) => {
            let failure = mirror.bring(name, &missing).await;
            let stored = context.blocking(move || Ok::<_, repository::Error>(again.put_manifest(put))).await?;
            match (stored, failure) {
                // The upstream may have what is missing, and the client can try again.
                (Err(repository::Error::ManifestContentMissing { .. }), Some(error)) => {
                    Err(failed(mirror, &error, name))
                }
                (stored, _) => stored.map_err(|error| ApiError::of_change(error, &caller)),
            }
        }
        stored => stored.map_err(|error| ApiError::of_change(error, &caller)),
    }
}

pub(in crate::http) async fn delete(
    context: &Context<'_>,
    name: &RepositoryName,
    reference: Reference,
) -> HandlerResult {
    let granted = context.registry.actions(context.caller, name)?;
    let repository = context.registry.repository(name).requested_by(context.origin().of_events());
    let only_untagged = granted.covers(Actions::DETECT_COLLISION);
    context.blocking(move || repository.delete_manifest(&reference, only_untagged)).await?;
    Ok(empty(StatusCode::ACCEPTED))
}

/// The response to a request for a manifest, without the body.
fn described(info: &ManifestInfo, reference: &Reference) -> Response<Body> {
    let cache = match reference {
        Reference::Digest(_) => CACHE_FOR_EVER,
        Reference::Tag(_) => CACHE_AND_ASK,
    };
    content(value(&info.media_type), info.digest, cache)
}
