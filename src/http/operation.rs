//! [`Operation`]: the operation that a request asks for. Each of the two dialects, and the pages, have a router. All give
//! the access that an operation requires, and values that are already parsed.

use std::sync::Arc;

use hyper::{Method, StatusCode, header};

use super::api::mirrored::{self, Prepared};
use super::api::{blob, list, manifest, token, upload};
use super::caching;
use super::error::ApiError;
use super::request::RequestBody;
use super::route::{self, Path, Route, RouteError};
use super::{Context, HandlerResult, cors, ext, ops, ui, v1};
use crate::identity::access::{Access, Surface};
use crate::mirror::Mirror;
use crate::oci::RepositoryName;

/// An operation with its values.
#[derive(Debug)]
pub(crate) enum Operation {
    /// An operation of the distribution specification, of zot, or for the operator.
    Registry(Route),
    /// An endpoint of Quay's API v1.
    V1(v1::Request),
    /// A page for users with a browser.
    Page(ui::Request),
    /// A file of zot's web page.
    Site(String),
}

impl Operation {
    /// Reads a request line. `metrics` is the operator's path for the metrics, if they are on.
    pub(crate) fn parse(
        method: &Method,
        path: &Path<'_>,
        query: Option<&str>,
        metrics: Option<&str>,
    ) -> Result<Self, RouteError> {
        match path.as_str() {
            Some(text) if path.surface() == Surface::ApiV1 && metrics != Some(text) => {
                v1::parse(method, text, query).map(Self::V1)
            }
            Some(text) if path.surface() == Surface::Pages && metrics != Some(text) => {
                ui::parse(method, text, query).map(Self::Page)
            }
            _ => route::parse(method, path, query, metrics).map(Self::Registry),
        }
    }

    /// The access that the operation requires.
    pub(crate) fn access(&self) -> Access {
        match self {
            Self::Registry(route) => route.access(),
            Self::V1(request) => request.access(),
            Self::Page(request) => request.access(),
            Self::Site(_) => Access::Anyone,
        }
    }

    /// The path with the names of its values in place of the values, for traces.
    pub(super) const fn template(&self) -> &'static str {
        match self {
            Self::Registry(route) => route.template(),
            Self::V1(request) => request.path(),
            Self::Page(_) => "/ui/{page}",
            Self::Site(_) => "/{file}",
        }
    }

    /// The scope of an access token for the operation (see [`Route::scope`]). API v1 has no challenge that names one.
    pub(super) fn scope(&self, reduces: bool) -> Option<String> {
        match self {
            Self::Registry(route) => route.scope(reduces),
            Self::V1(_) | Self::Page(_) | Self::Site(_) => None,
        }
    }

    /// The repository of a pull, or of a list of tags or referrers.
    pub(super) const fn pulled_repository(&mut self) -> Option<&mut RepositoryName> {
        match self {
            Self::Registry(route) => route.pulled_repository(),
            Self::V1(_) | Self::Page(_) | Self::Site(_) => None,
        }
    }

    /// Whether the operation brings in blobs or manifests, for which there must be space.
    pub(super) fn brings_content(&self) -> bool {
        matches!(self, Self::Registry(route) if route.brings_content())
    }

    /// Whether the operation is a health probe, or a question of the ACME authority.
    pub(crate) const fn is_probe(&self) -> bool {
        matches!(self, Self::Registry(Route::Live | Route::Ready | Route::Started | Route::AcmeChallenge { .. }))
    }

    /// Whether the operation reads the metrics.
    pub(super) const fn is_metrics(&self) -> bool {
        matches!(self, Self::Registry(Route::Metrics))
    }

    /// Whether requests for the operation have no limit: probes, and the files of pages, which anyone may read from memory.
    pub(super) fn is_unlimited(&self) -> bool {
        match self {
            Self::Registry(_) => self.is_probe(),
            Self::Page(request) => request.is_asset(),
            Self::Site(_) => true,
            Self::V1(_) => false,
        }
    }

    /// Whether the operation is a pull, for which an upstream may decide.
    pub(super) fn asks_upstream(&self) -> bool {
        matches!(self, Self::Registry(route) if mirrored::pulled(route).is_some())
    }

    /// Handles a request of a caller who may make it. Async handlers are boxed. Otherwise every request future is as
    /// large as the largest handler.
    pub(super) async fn handle(self, context: &Context<'_>, body: &mut RequestBody) -> HandlerResult {
        match self {
            Self::Registry(route) => match context.registry.mirror() {
                None => dispatch(context, route, body).await,
                Some(mirror) => Box::pin(pull_through(context, mirror, route, body)).await,
            },
            Self::V1(request) => Box::pin(v1::handle(context, request, body)).await,
            Self::Page(request) => Box::pin(ui::handle(context, request, body)).await,
            Self::Site(file) => ext::site::get(context, &file),
        }
    }
}

/// Fetches what a pull needs before its handler answers. Content that is stored under a digest is answered at once, unless
/// its upstream must permit it.
async fn pull_through(
    context: &Context<'_>,
    mirror: &Mirror,
    mut route: Route,
    body: &mut RequestBody,
) -> HandlerResult {
    let is_private = mirrored::is_private(mirror, &route);
    if !is_private && let Some((name, digest)) = mirrored::pulled_digest(&route) {
        let again = route.clone();
        match dispatch(context, route, body).await {
            Err(error) if error.status_code() == StatusCode::NOT_FOUND => route = again,
            result => {
                mirror.note_use(&name, digest);
                return result;
            }
        }
    }
    // A blob may be evicted after it was found. Then it is fetched again, once.
    let mut again = matches!(route, Route::GetBlob { .. }).then(|| route.clone());
    let finished = |mut response| {
        if is_private {
            caching::make_private(&mut response)?;
        }
        Ok(response)
    };
    loop {
        match mirrored::prepare(context, mirror, &route).await? {
            Prepared::Answered(response) => return finished(response),
            Prepared::Local(warning) => match (dispatch(context, route, body).await, again.take()) {
                (Err(error), Some(blob)) if error.status_code() == StatusCode::NOT_FOUND => route = blob,
                (result, _) => {
                    let mut response = result?;
                    response.headers_mut().extend(warning.map(|warning| (header::WARNING, warning)));
                    return finished(response);
                }
            },
        }
    }
}

/// Calls the handler of a route. Async handlers are boxed. Otherwise every request future is as large as the largest
/// handler.
async fn dispatch(context: &Context<'_>, route: Route, body: &mut RequestBody) -> HandlerResult {
    match route {
        Route::Ping => Ok(ops::ping()),
        Route::Catalog { page } => Box::pin(list::catalog(context, page, Arc::default())).await,
        Route::Tags { name, page } => list::tags(context, &name, &page),
        Route::Referrers { name, subject, types, after, limit } => {
            list::referrers(context, &name, subject, &types, after, limit)
        }
        Route::GetManifest { name, reference } => match manifest::get(context, &name, &reference)? {
            Some(response) => Ok(response),
            None => Box::pin(manifest::get_large(context, &name, &reference)).await,
        },
        Route::HeadManifest { name, reference } => manifest::head(context, &name, &reference),
        Route::PutManifest { name, target } => Box::pin(manifest::put(context, &name, target, body)).await,
        Route::DeleteManifest { name, reference } => Box::pin(manifest::delete(context, &name, reference)).await,
        Route::GetBlob { name, digest } => Box::pin(blob::get(context, &name, digest)).await,
        Route::HeadBlob { name, digest } => blob::head(context, &name, digest),
        Route::DeleteBlob { name, digest } => Box::pin(blob::delete(context, &name, digest)).await,
        Route::StartUpload { name, algorithm } => Box::pin(upload::start(context, &name, algorithm)).await,
        Route::PushBlob { name, digest } => Box::pin(upload::push(context, &name, digest, body)).await,
        Route::MountBlob { name, digest } => Box::pin(upload::mount(context, &name, digest)).await,
        Route::UploadStatus { name, id } => upload::status(context, &name, id),
        Route::UploadChunk { name, id } => Box::pin(upload::chunk(context, &name, id, body)).await,
        Route::FinishUpload { name, id, digest } => Box::pin(upload::finish(context, &name, id, digest, body)).await,
        Route::CancelUpload { name, id } => Box::pin(upload::cancel(context, &name, id)).await,
        Route::ListKeys | Route::CreateKey | Route::RevokeKey { .. } if !context.registry.has_api_keys() => {
            Err(ApiError::no_api_keys())
        }
        Route::ListKeys => ext::apikey::list(context),
        Route::CreateKey => Box::pin(ext::apikey::create(context, body)).await,
        Route::RevokeKey { id } => Box::pin(ext::apikey::revoke(context, id)).await,
        Route::Preflight => Ok(cors::preflight(context)),
        Route::Discover => Ok(ext::discover::discover(context)),
        Route::Management => ext::mgmt::management(context),
        Route::GetSearch { query } => Box::pin(ext::search::get(context, &query)).await,
        Route::PostSearch => Box::pin(ext::search::post(context, body)).await,
        Route::TogglePreference { name, preference } => {
            Box::pin(ext::userprefs::toggle(context, &name, preference)).await
        }
        Route::Login { query } => Box::pin(ext::login::begin(context, &query)).await,
        Route::Callback { provider, query } => Box::pin(ext::login::callback(context, &provider, &query)).await,
        Route::Confirm => Box::pin(ext::confirm::answer(context, body)).await,
        Route::Logout => Box::pin(ext::logout::logout(context)).await,
        Route::GetToken { query } => Box::pin(token::get(context, &query)).await,
        Route::PostToken => Box::pin(token::post(context, body)).await,
        Route::ExchangeToken { query, is_form } => Box::pin(token::exchange(context, &query, body, is_form)).await,
        Route::TokenKeys => token::keys(context).await,
        Route::AcmeChallenge(token) => ops::acme_challenge(context, &token),
        Route::Root => ops::root(context),
        Route::Live => Ok(ops::live()),
        Route::Ready => ops::ready(context),
        Route::Started => Ok(ops::started()),
        Route::Metrics => Ok(ops::metrics(context)),
    }
}
