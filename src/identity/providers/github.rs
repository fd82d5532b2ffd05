//! [`GitHub`]: sign-in through GitHub, which uses OAuth (RFC 6749) and an API instead of ID tokens.
//!
//! GitHub's user number identifies a user and is never reused. The user name is the verified primary e-mail address, as
//! in zot. Groups are organizations, and teams as `organization/team`.

use std::borrow::Cow;

use oauth2::basic::{BasicClient, BasicErrorResponseType};
use oauth2::{
    AccessToken, AuthType, AuthUrl, AuthorizationCode, CsrfToken, DeviceAuthorizationUrl, EndpointNotSet, EndpointSet,
    PkceCodeChallenge, PkceCodeVerifier, RefreshToken, RequestTokenError, Scope, TokenResponse as _, TokenUrl,
};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use url::Url;

use super::client::ProviderClient;
use super::device::{Authorization, DevicePoll, Polled, poll_once};
use super::openid::{redirect_url, token_error};
use super::{
    Error, Protocol, ProviderSettings, ProviderSignIn, RecheckOutcome, RecheckToken, RenewedTokens, Secrets, groups,
    is_text,
};
use crate::identity::accounts::FederatedUser;
use crate::kit::opaque_debug::opaque_debug;
use crate::kit::outgoing::Client;

/// The largest number of pages of a list, and the entries of each.
const PAGES_MAX: usize = 10;
const PAGE: usize = 100;

/// The scopes that are requested if none are configured.
const DEFAULT_SCOPES: [&str; 2] = ["read:org", "user:email"];
/// GitHub's paths for the authorization page and for sign-in on another device.
const AUTHORIZE: &str = "/login/oauth/authorize";
const DEVICE: &str = "/login/device/code";
/// The requested version of the API.
const API_VERSION: &str = "2022-11-28";

type OAuthClient = BasicClient<EndpointSet, EndpointNotSet, EndpointNotSet, EndpointNotSet, EndpointSet>;
type Tokens = oauth2::basic::BasicTokenResponse;

/// GitHub or a GitHub Enterprise Server.
pub(super) struct GitHub {
    client: OAuthClient,
    /// The device authorization endpoint, if it can be derived.
    device_url: Option<DeviceAuthorizationUrl>,
    issuer: String,
    api_url: String,
    scopes: Vec<String>,
    http: ProviderClient,
}

opaque_debug!(GitHub { api_url });

#[derive(Deserialize)]
struct User {
    id: u64,
}

#[derive(Deserialize)]
struct Email {
    #[serde(rename = "email")]
    address: String,
    #[serde(default)]
    primary: bool,
    #[serde(default)]
    verified: bool,
}

#[derive(Deserialize)]
struct Organization {
    login: String,
}

#[derive(Deserialize)]
struct Team {
    slug: String,
    organization: Organization,
}

/// A failed request to the API.
enum ApiError {
    /// The token is invalid or lacks the right: 401, 403 or 404.
    Refused(u16),
    Unavailable(String),
}

impl From<ApiError> for Error {
    fn from(error: ApiError) -> Self {
        match error {
            ApiError::Refused(status) => Self::Invalid { cause: format!("GitHub's API responds with status {status}") },
            ApiError::Unavailable(cause) => Self::Unavailable { cause },
        }
    }
}

impl GitHub {
    pub(super) fn new(settings: ProviderSettings, http: &Client) -> Result<Self, String> {
        let Protocol::GitHub { auth_url, token_url, api_url } = settings.protocol else {
            return Err("not a GitHub provider".to_owned());
        };
        let invalid = |error: url::ParseError| format!("invalid URL: {error}");
        let api = api_url.clone();
        let issuer = Url::parse(&auth_url).map_err(invalid)?.origin().ascii_serialization();
        let device_url = auth_url.strip_suffix(AUTHORIZE).map(|host| format!("{host}{DEVICE}"));
        let device_url = device_url.map(DeviceAuthorizationUrl::new).transpose().map_err(invalid)?;
        let client = BasicClient::new(settings.client_id)
            .set_auth_uri(AuthUrl::new(auth_url).map_err(invalid)?)
            .set_token_uri(TokenUrl::new(token_url).map_err(invalid)?)
            .set_auth_type(AuthType::RequestBody);
        let client = match settings.client_secret {
            Some(secret) => client.set_client_secret(secret),
            None => client,
        };
        Ok(Self { client, device_url, issuer, api_url, scopes: settings.scopes, http: ProviderClient::new(http, &api) })
    }

    pub(super) fn issuer(&self) -> &str {
        &self.issuer
    }

    pub(super) fn authorization_url(&self, secrets: &Secrets, callback: &str) -> Result<String, Error> {
        let verifier = PkceCodeVerifier::new(secrets.verifier.clone());
        let state = secrets.state.clone();
        let request = self
            .client
            .authorize_url(|| CsrfToken::new(state))
            .add_scopes(self.scopes())
            .set_redirect_uri(Cow::Owned(redirect_url(callback)?))
            .set_pkce_challenge(PkceCodeChallenge::from_code_verifier_sha256(&verifier));
        Ok(request.url().0.into())
    }

    fn scopes(&self) -> Vec<Scope> {
        if self.scopes.is_empty() {
            DEFAULT_SCOPES.into_iter().map(|scope| Scope::new(scope.to_owned())).collect()
        } else {
            self.scopes.iter().cloned().map(Scope::new).collect()
        }
    }

    pub(super) const fn offers_device(&self) -> bool {
        self.device_url.is_some()
    }

    /// Starts a sign-in on another device. The application's settings at GitHub must allow it.
    pub(super) async fn start_device(&self) -> Result<Authorization, Error> {
        let url = self.device_url.clone().ok_or(Error::NoDeviceFlow)?;
        let client = self.client.clone().set_device_authorization_url(url);
        let request = client.exchange_device_code().add_scopes(self.scopes());
        request.request_async(&self.http).await.map_err(|error| refused_or(&error))
    }

    pub(super) async fn poll_device(&self, authorization: &Authorization) -> Result<DevicePoll, Error> {
        match poll_once(self.client.exchange_device_access_token(authorization), &self.http).await? {
            Polled::Tokens(tokens) => Ok(DevicePoll::Done(Box::new(self.sign_in(&tokens).await?))),
            Polled::Not(poll) => Ok(poll),
        }
    }

    pub(super) async fn redeem(&self, code: &str, secrets: &Secrets, callback: &str) -> Result<ProviderSignIn, Error> {
        let request = self
            .client
            .exchange_code(AuthorizationCode::new(code.to_owned()))
            .set_pkce_verifier(PkceCodeVerifier::new(secrets.verifier.clone()))
            .set_redirect_uri(Cow::Owned(redirect_url(callback)?));
        let tokens = request.request_async(&self.http).await.map_err(|error| refused_or(&error))?;
        self.sign_in(&tokens).await
    }

    /// Reads the user's identity from the API.
    async fn sign_in(&self, tokens: &Tokens) -> Result<ProviderSignIn, Error> {
        let token = tokens.access_token().secret();
        let user: User = self.get("/user", token).await?;
        let email = self
            .email(token)
            .await?
            .ok_or_else(|| Error::MissingClaim { claim: "of a verified primary e-mail address".to_owned() })?;
        let user = FederatedUser {
            provider: String::new(),
            issuer: self.issuer.clone(),
            subject: user.id.to_string(),
            name: email.clone(),
            email: Some(email),
            groups: self.groups(token).await?,
        };
        Ok(ProviderSignIn { user, recheck_token: Some(recheck_token(tokens)) })
    }

    /// The primary e-mail address, if GitHub has verified it.
    async fn email(&self, token: &str) -> Result<Option<String>, ApiError> {
        let emails: Vec<Email> = self.list("/user/emails", token).await?;
        let primary = emails.into_iter().find(|email| email.primary && email.verified && is_text(&email.address));
        Ok(primary.map(|email| email.address))
    }

    /// The user's organizations and teams. A token without access to them counts as no groups, as in zot.
    async fn groups(&self, token: &str) -> Result<Vec<String>, ApiError> {
        let organizations: Vec<Organization> = or_empty(self.list("/user/orgs", token).await)?;
        let teams: Vec<Team> = or_empty(self.list("/user/teams", token).await)?;
        let team = |team: Team| format!("{}/{}", team.organization.login, team.slug);
        let organizations = organizations.into_iter().map(|organization| organization.login);
        Ok(groups(organizations.chain(teams.into_iter().map(team)).collect()))
    }

    /// Gets a new token for a user. `None` if GitHub no longer issues any.
    pub(super) async fn renew(&self, token: RecheckToken) -> Result<Option<RenewedTokens>, Error> {
        let token = match token {
            RecheckToken::Access(token) => {
                return Ok(Some(RenewedTokens { access: AccessToken::new(token), recheck_token: None }));
            }
            RecheckToken::Refresh(token) => RefreshToken::new(token),
        };
        match self.client.exchange_refresh_token(&token).request_async(&self.http).await {
            Ok(tokens) => Ok(Some(RenewedTokens {
                access: tokens.access_token().clone(),
                recheck_token: Some(recheck_token(&tokens)),
            })),
            Err(error) => match refused_or(&error) {
                Error::Refused { word } if word == "bad_refresh_token" || word == "invalid_grant" => Ok(None),
                error => Err(error),
            },
        }
    }

    /// Checks whether GitHub still knows a user.
    pub(super) async fn recheck(&self, subject: &str, access: &AccessToken) -> Result<RecheckOutcome, Error> {
        match self.get::<User>("/user", access.secret()).await {
            Ok(user) if user.id.to_string() == subject => {}
            Ok(_) | Err(ApiError::Refused(_)) => return Ok(RecheckOutcome::Gone),
            Err(error @ ApiError::Unavailable(_)) => return Err(error.into()),
        }
        // The stored groups stay if a request for them fails.
        Ok(RecheckOutcome::Known { groups: self.groups(access.secret()).await.ok() })
    }

    async fn list<T: DeserializeOwned>(&self, path: &str, token: &str) -> Result<Vec<T>, ApiError> {
        let mut all = Vec::new();
        for page in 1..=PAGES_MAX {
            let found: Vec<T> = self.get(&format!("{path}?per_page={PAGE}&page={page}"), token).await?;
            let last = found.len() < PAGE;
            all.extend(found);
            if last {
                break;
            }
        }
        Ok(all)
    }

    async fn get<T: DeserializeOwned>(&self, path: &str, token: &str) -> Result<T, ApiError> {
        let request = oauth2::http::Request::get(format!("{}{path}", self.api_url))
            .header("accept", "application/vnd.github+json")
            .header("x-github-api-version", API_VERSION)
            .header("authorization", format!("Bearer {token}"))
            .body(Vec::new())
            .map_err(|_| ApiError::Unavailable("GitHub's token is not a valid header value".to_owned()))?;
        let response = self.http.send(request).await.map_err(|error| ApiError::Unavailable(error.to_string()))?;
        let status = response.status().as_u16();
        // GitHub's rate limit has the status of a refused token.
        let is_used_up = |name: &str| response.headers().get(name).is_some_and(|left| left.as_bytes() == b"0");
        match status {
            200 => serde_json::from_slice(response.body())
                .map_err(|_| ApiError::Unavailable(format!("invalid response of GitHub's API: {path}"))),
            403 if is_used_up("x-ratelimit-remaining") || response.headers().contains_key("retry-after") => {
                Err(ApiError::Unavailable("GitHub's API limits the request rate".to_owned()))
            }
            401 | 403 | 404 => Err(ApiError::Refused(status)),
            _ => Err(ApiError::Unavailable(format!("GitHub's API responds with status {status}"))),
        }
    }
}

fn or_empty<T>(list: Result<Vec<T>, ApiError>) -> Result<Vec<T>, ApiError> {
    match list {
        Err(ApiError::Refused(_)) => Ok(Vec::new()),
        list => list,
    }
}

/// The token for later questions about the user.
fn recheck_token(tokens: &Tokens) -> RecheckToken {
    match tokens.refresh_token() {
        Some(token) => RecheckToken::Refresh(token.secret().clone()),
        None => RecheckToken::Access(tokens.access_token().secret().clone()),
    }
}

/// The error of a failed token request. GitHub sends refusals as an object with `error` and the status 200.
fn refused_or(
    error: &RequestTokenError<crate::kit::outgoing::Error, oauth2::StandardErrorResponse<BasicErrorResponseType>>,
) -> Error {
    #[derive(Deserialize)]
    struct Refusal {
        error: String,
    }
    match error {
        RequestTokenError::Parse(_, body) => match serde_json::from_slice::<Refusal>(body) {
            Ok(refusal) => Error::Refused { word: super::shown_word(&refusal.error) },
            Err(_) => token_error(error),
        },
        error => token_error(error),
    }
}
