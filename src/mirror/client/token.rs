//! [`Tokens`]: the access tokens of an upstream, by scope.
//!
//! A token is fetched once for all requests that wait for it, and used until shortly before it expires.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, StatusCode};
use parking_lot::Mutex;
use serde::Deserialize;
use url::{Url, form_urlencoded};

use super::challenge::Bearer;
use super::credentials::Login;
use super::headers::retry_after;
use super::{Client, Error, Presented, Settings, error_message, realm, transport};
use crate::kit::bounded_map::BoundedMap;
use crate::oci::RepositoryName;

/// The most scopes with a token. Each repository has one.
const SCOPES_MAX: usize = 4096;
/// The largest response of a token service.
const RESPONSE_BYTES_MAX: usize = 64 * 1024;
/// How long a token is valid whose response does not say so (distribution, "Token Authentication").
const LIFETIME_DEFAULT: Duration = Duration::from_mins(1);
/// A token is not used for this long before it expires.
const MARGIN: Duration = Duration::from_secs(10);
/// The longest time that a token is used.
const LIFETIME_MAX: Duration = Duration::from_hours(1);

/// The content that a request is about.
#[derive(Clone, Copy)]
pub(super) enum Subject<'a> {
    Repository(&'a RepositoryName),
    /// The list of repositories.
    Catalog,
}

impl Subject<'_> {
    pub(super) const fn repository(&self) -> Option<&RepositoryName> {
        match self {
            Self::Repository(name) => Some(name),
            Self::Catalog => None,
        }
    }

    /// The scope of a token. The path of the upstream's address is a part of the names there.
    fn scope(self, url: &Url) -> String {
        match (self, url.path().trim_matches('/')) {
            (Self::Repository(name), "") => format!("repository:{name}:pull"),
            (Self::Repository(name), prefix) => format!("repository:{prefix}/{name}:pull"),
            (Self::Catalog, _) => "registry:catalog:*".to_owned(),
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Tokens(Mutex<BoundedMap<String, Arc<tokio::sync::Mutex<Option<Token>>>, SCOPES_MAX>>);

#[derive(Clone)]
struct Token {
    authorization: HeaderValue,
    expires: Instant,
    /// The credentials for which the token service issued it.
    login: Option<Login>,
}

crate::kit::opaque_debug::opaque_debug!(Token);

#[derive(Deserialize)]
struct Response {
    #[serde(default)]
    token: String,
    #[serde(default)]
    access_token: String,
    /// In seconds.
    expires_in: Option<u64>,
}

impl Tokens {
    /// The `Authorization` with a token to read a subject. `refused` is one that the upstream did not accept.
    pub(super) async fn get(
        &self,
        client: &Client,
        bearer: &Bearer,
        subject: Subject<'_>,
        refused: Option<&HeaderValue>,
    ) -> Result<Option<HeaderValue>, Error> {
        let scope = subject.scope(&client.shared.settings.url);
        let key = format!("{} {} {scope}", bearer.realm, bearer.service);
        let slot = Arc::clone(self.0.lock().get_or_insert_with(key, Arc::default, |_| true));
        // Others that need the same token wait here.
        let mut slot = slot.lock().await;
        if let Some(token) = &*slot
            && token.expires > Instant::now()
            && Some(&token.authorization) != refused
        {
            return Ok(Some(token.authorization.clone()));
        }
        let Settings { credentials, .. } = &client.shared.settings;
        let (host, repository) = (&client.shared.host, subject.repository());
        let login = if refused.is_none() {
            credentials.of(host, repository).await?
        } else {
            let token = slot.as_ref().filter(|token| Some(&token.authorization) == refused);
            let behind = token.and_then(|token| token.login.as_ref());
            let is_refused = |login: &Login| Some(login) == behind || login.bearer().as_ref() == refused;
            credentials.other_than(host, repository, is_refused).await?
        };
        if let Some(token) = login.as_ref().and_then(Login::bearer) {
            return Ok(Some(token));
        }
        let token = fetch(client, bearer, &scope, login).await?;
        Ok(Some(slot.insert(token).authorization.clone()))
    }
}

/// Gets a token from the token service.
async fn fetch(client: &Client, bearer: &Bearer, scope: &str, login: Option<Login>) -> Result<Token, Error> {
    let shared = &*client.shared;
    let settings = &shared.settings;
    let service: Url =
        bearer.realm.parse().map_err(|_| client.invalid("its token service has no valid URL".to_owned()))?;
    if service.scheme() != "https" && !(service.scheme() == "http" && settings.url.scheme() == "http") {
        return Err(client.invalid(format!("its token service {} has no TLS", transport::host_of(&service))));
    }
    if login.is_some() && !realm::may_have_credentials(&service, &settings.url, &settings.token_hosts) {
        return Err(client.invalid(format!(
            "its token service {} belongs to another domain, so it does not get the credentials; add it to tokenHosts \
             if that is right",
            transport::host_of(&service)
        )));
    }
    let mut headers = HeaderMap::new();
    let (method, url, body) = match &login {
        Some(Login::IdentityToken(token)) => {
            let mut form = form_urlencoded::Serializer::new(String::new());
            form.append_pair("grant_type", "refresh_token").append_pair("refresh_token", token);
            form.append_pair("service", &bearer.service)
                .append_pair("scope", scope)
                .append_pair("client_id", "coracle");
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
            (Method::POST, service, Bytes::from(form.finish()))
        }
        other => {
            if let Some(basic) = other.as_ref().and_then(Login::basic) {
                headers.insert(header::AUTHORIZATION, basic);
            }
            let mut url = service;
            {
                let mut query = url.query_pairs_mut();
                if !bearer.service.is_empty() {
                    query.append_pair("service", &bearer.service);
                }
                query.append_pair("scope", scope);
            }
            (Method::GET, url, Bytes::new())
        }
    };
    let response = shared.transport.send(&method, &url, headers, body).await?;
    let (status, wait) = (response.status(), retry_after(response.headers()));
    let host = transport::host_of(&url);
    if !status.is_success() {
        let message = error_message(response).await;
        return Err(match status {
            StatusCode::TOO_MANY_REQUESTS => Error::RateLimited { host, retry_after: wait, message },
            status if status.is_server_error() => Error::Failed { host, status, retry_after: wait, message },
            // Other services answer 400, 401 or 403 to wrong credentials.
            _ => {
                let presented = if login.is_some() { Presented::Credentials } else { Presented::Nothing };
                Error::Unauthorized { host, presented, message }
            }
        });
    }
    let bytes = transport::collect(&host, response.into_body(), RESPONSE_BYTES_MAX, settings.idle).await?;
    let unusable = || Error::Invalid { host: host.clone(), cause: "it has no usable token".to_owned() };
    let Response { token, access_token, expires_in } = serde_json::from_slice(&bytes).map_err(|_| unusable())?;
    let token = if token.is_empty() { access_token } else { token };
    if token.is_empty() {
        return Err(unusable());
    }
    let mut authorization = HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| unusable())?;
    authorization.set_sensitive(true);
    let lifetime = expires_in.map_or(LIFETIME_DEFAULT, Duration::from_secs).min(LIFETIME_MAX);
    Ok(Token { authorization, expires: Instant::now() + lifetime.saturating_sub(MARGIN), login })
}
