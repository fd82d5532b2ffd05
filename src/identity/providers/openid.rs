//! [`OpenId`]: an OpenID Connect provider (Core 1.0, Discovery 1.0, RP-Initiated Logout 1.0).
//!
//! An ID token is accepted only if a key of the issuer signed it with an asymmetric algorithm, for this client, in
//! response to this sign-in, and it is valid now.

mod device;
mod metadata;
mod user_info;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use openidconnect::core::{
    CoreAuthDisplay, CoreAuthPrompt, CoreClientAuthMethod, CoreErrorResponseType, CoreGenderClaim, CoreJsonWebKey,
    CoreJweContentEncryptionAlgorithm, CoreJwsSigningAlgorithm, CoreResponseType, CoreRevocableToken,
    CoreRevocationErrorResponse, CoreTokenIntrospectionResponse, CoreTokenType,
};
use openidconnect::{
    AccessTokenHash, AdditionalClaims, AuthType, AuthenticationFlow, AuthorizationCode, ClaimsVerificationError,
    ClientId, ClientSecret, CsrfToken, EmptyExtraTokenFields, EndpointMaybeSet, EndpointNotSet, EndpointSet,
    IdTokenFields, IssuerUrl, Nonce, OAuth2TokenResponse as _, PkceCodeChallenge, PkceCodeVerifier, RedirectUrl,
    RefreshToken, RequestTokenError, Scope, SignatureVerificationError, StandardErrorResponse, StandardTokenResponse,
    TokenResponse as _,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use subtle::ConstantTimeEq as _;
use url::Url;

use super::client::ProviderClient;
use super::client_key::ASSERTION_TYPE;
use super::{
    CLOCK_SKEW, ClientKey, Error, Protocol, ProviderSettings, ProviderSignIn, RecheckToken, RenewedTokens, Secrets,
    is_text,
};
use crate::kit::clock::Timestamp;
use crate::kit::opaque_debug::opaque_debug;
use crate::kit::outgoing::{self, Client};
use metadata::{Metadata, MetadataCache};
use user_info::{as_map, text};

/// The scopes that are requested if none are configured.
const DEFAULT_SCOPES: [&str; 2] = ["email", "profile"];
/// Requested as well if the provider supports them.
const OPTIONAL_SCOPES: [&str; 1] = ["groups"];
const OFFLINE: &str = "offline_access";
/// Google has a parameter instead of the scope [`OFFLINE`].
const GOOGLE: &str = "https://accounts.google.com";

/// The accepted signature algorithms. All are asymmetric, so that the client's secret cannot sign tokens.
const ALGORITHMS: [CoreJwsSigningAlgorithm; 9] = [
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha256,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha384,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha512,
    CoreJwsSigningAlgorithm::RsaSsaPssSha256,
    CoreJwsSigningAlgorithm::RsaSsaPssSha384,
    CoreJwsSigningAlgorithm::RsaSsaPssSha512,
    CoreJwsSigningAlgorithm::EcdsaP256Sha256,
    CoreJwsSigningAlgorithm::EcdsaP384Sha384,
    CoreJwsSigningAlgorithm::EdDsa,
];

/// Claims that the library has no field for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Claims {
    #[serde(flatten)]
    all: Map<String, Value>,
}

impl AdditionalClaims for Claims {}

/// The response of the token endpoint.
pub(super) type Tokens = StandardTokenResponse<
    IdTokenFields<
        Claims,
        EmptyExtraTokenFields,
        CoreGenderClaim,
        CoreJweContentEncryptionAlgorithm,
        CoreJwsSigningAlgorithm,
    >,
    CoreTokenType,
>;

type OpenIdClient = openidconnect::Client<
    Claims,
    CoreAuthDisplay,
    CoreGenderClaim,
    CoreJweContentEncryptionAlgorithm,
    CoreJsonWebKey,
    CoreAuthPrompt,
    StandardErrorResponse<CoreErrorResponseType>,
    Tokens,
    CoreTokenIntrospectionResponse,
    CoreRevocableToken,
    CoreRevocationErrorResponse,
    EndpointSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointMaybeSet,
    EndpointMaybeSet,
>;

/// An OpenID Connect provider.
pub(crate) struct OpenId {
    issuer: IssuerUrl,
    client_id: ClientId,
    client_secret: Option<ClientSecret>,
    client_key: Option<ClientKey>,
    scopes: Vec<String>,
    username_claim: String,
    groups_claim: String,
    with_recheck: bool,
    http: ProviderClient,
    metadata: MetadataCache,
}

opaque_debug!(OpenId { issuer });

impl OpenId {
    pub(super) fn new(settings: ProviderSettings, http: &Client, with_recheck: bool) -> Result<Self, String> {
        let Protocol::OpenId { issuer, username_claim, groups_claim } = settings.protocol else {
            return Err("not an OpenID provider".to_owned());
        };
        let http = ProviderClient::new(http, &issuer);
        Ok(Self {
            issuer: IssuerUrl::new(issuer).map_err(|error| format!("invalid issuer URL: {error}"))?,
            client_id: settings.client_id,
            client_secret: settings.client_secret,
            client_key: settings.client_key,
            scopes: settings.scopes,
            username_claim,
            groups_claim,
            with_recheck,
            http,
            metadata: MetadataCache::default(),
        })
    }

    pub(super) fn issuer(&self) -> &str {
        self.issuer.as_str()
    }

    async fn metadata(&self) -> Result<Arc<Metadata>, Error> {
        self.metadata.get(&self.issuer, &self.http).await
    }

    fn client(&self, metadata: &Metadata) -> OpenIdClient {
        let client = OpenIdClient::from_provider_metadata(metadata.clone(), self.client_id.clone(), None);
        let methods = metadata.token_endpoint_auth_methods_supported();
        let supports = |method| methods.is_none_or(|methods| methods.contains(&method));
        let client = match &self.client_secret {
            Some(secret) => client.set_client_secret(secret.clone()),
            None => client,
        };
        let in_body = self.client_secret.is_none()
            || (methods.is_some()
                && !supports(CoreClientAuthMethod::ClientSecretBasic)
                && supports(CoreClientAuthMethod::ClientSecretPost));
        client.set_auth_type(if in_body { AuthType::RequestBody } else { AuthType::BasicAuth })
    }

    /// The parameters that authenticate the client, if it has a key.
    fn assertion(&self, now: Timestamp) -> Result<Vec<(&'static str, String)>, Error> {
        let Some(key) = &self.client_key else { return Ok(Vec::new()) };
        let assertion = key.assertion(self.client_id.as_str(), self.issuer.as_str(), now);
        let assertion = assertion.map_err(|cause| Error::Unavailable { cause })?;
        Ok(vec![("client_assertion_type", ASSERTION_TYPE.to_owned()), ("client_assertion", assertion)])
    }

    /// The scopes to request in addition to `openid`.
    fn scopes(&self, metadata: &Metadata) -> Vec<Scope> {
        if !self.scopes.is_empty() {
            let configured = self.scopes.iter().filter(|scope| *scope != "openid");
            return configured
                .filter(|scope| !self.is_google() || *scope != OFFLINE)
                .cloned()
                .map(Scope::new)
                .collect();
        }
        let is_supported = |scope: &&str| {
            metadata.scopes_supported().is_some_and(|all| all.iter().any(|supported| supported.as_str() == *scope))
        };
        let offline = self.with_recheck.then_some(OFFLINE).filter(|_| !self.is_google());
        let optional = OPTIONAL_SCOPES.into_iter().chain(offline).filter(is_supported);
        DEFAULT_SCOPES.into_iter().chain(optional).map(|scope| Scope::new(scope.to_owned())).collect()
    }

    fn is_google(&self) -> bool {
        self.issuer.as_str().trim_end_matches('/') == GOOGLE
    }

    pub(super) async fn authorization_url(&self, secrets: &Secrets, callback: &str) -> Result<String, Error> {
        let metadata = self.metadata().await?;
        let client = self.client(&metadata).set_redirect_uri(redirect_url(callback)?);
        let (state, nonce) = (secrets.state.clone(), secrets.nonce.clone());
        let verifier = PkceCodeVerifier::new(secrets.verifier.clone());
        let flow = AuthenticationFlow::<CoreResponseType>::AuthorizationCode;
        let mut request = client
            .authorize_url(flow, || CsrfToken::new(state), || Nonce::new(nonce))
            .add_scopes(self.scopes(&metadata))
            .set_pkce_challenge(PkceCodeChallenge::from_code_verifier_sha256(&verifier));
        if self.is_google() && self.with_recheck {
            request = request.add_extra_param("access_type", "offline");
        }
        Ok(request.url().0.into())
    }

    /// Checks the `iss` parameter of a callback (RFC 9207). It must be present if the provider always sends it.
    pub(super) async fn check_issuer(&self, issuer: Option<&str>) -> Result<(), Error> {
        let is_valid = match issuer {
            Some(issuer) => issuer == self.issuer.as_str(),
            None => !self.metadata().await?.additional_metadata().authorization_response_iss_parameter_supported,
        };
        if is_valid { Ok(()) } else { Err(Error::Invalid { cause: "it comes from another issuer".to_owned() }) }
    }

    /// Exchanges the code of a callback for the user's identity.
    pub(super) async fn redeem(
        &self,
        code: &str,
        secrets: &Secrets,
        callback: &str,
        now: Timestamp,
    ) -> Result<ProviderSignIn, Error> {
        let metadata = self.metadata().await?;
        let client = self.client(&metadata);
        let mut request = client
            .exchange_code(AuthorizationCode::new(code.to_owned()))
            .map_err(|error| no_token_endpoint(&error))?
            .set_pkce_verifier(PkceCodeVerifier::new(secrets.verifier.clone()))
            .set_redirect_uri(Cow::Owned(redirect_url(callback)?));
        for (name, value) in self.assertion(now)? {
            request = request.add_extra_param(name, value);
        }
        let tokens = request.request_async(&self.http).await.map_err(|error| token_error(&error))?;
        self.sign_in(metadata, &tokens, Some(&Nonce::new(secrets.nonce.clone())), now).await
    }

    /// Verifies the tokens of a sign-in with this nonce, or of one without, and reads the user's identity.
    async fn sign_in(
        &self,
        metadata: Arc<Metadata>,
        tokens: &Tokens,
        nonce: Option<&Nonce>,
        now: Timestamp,
    ) -> Result<ProviderSignIn, Error> {
        let check_nonce = |found: Option<&Nonce>| -> Result<(), String> {
            let found = found.map_or("", |found| found.secret()).as_bytes();
            let is_ours: bool = match nonce {
                Some(nonce) => found.ct_eq(nonce.secret().as_bytes()).into(),
                None => found.is_empty(),
            };
            if is_ours { Ok(()) } else { Err("the token is for another sign-in".to_owned()) }
        };
        let claims = match self.verified(&metadata, tokens, check_nonce, now) {
            Err(ClaimsVerificationError::SignatureVerification(SignatureVerificationError::NoMatchingKey)) => {
                let newer = self.metadata.with_new_keys(&metadata, &self.http).await?;
                let newer = newer.ok_or_else(|| invalid(&"the token's key does not belong to the issuer"))?;
                self.verified(&newer, tokens, check_nonce, now)
            }
            outcome => outcome,
        };
        let claims = claims.map_err(|error| invalid(&error))?;
        let subject = text(&claims, "sub").filter(|subject| is_text(subject));
        let subject = subject.ok_or_else(|| invalid(&"the subject is missing or too long"))?.to_owned();
        let user_info = self.user_info(&metadata, tokens.access_token(), &subject).await?;
        let user = self.user(subject, &claims, user_info.as_ref())?;
        Ok(ProviderSignIn { user, recheck_token: recheck_token(tokens) })
    }

    /// Verifies the ID token and returns its claims (OpenID Connect Core, 3.1.3.7).
    fn verified(
        &self,
        metadata: &Metadata,
        tokens: &Tokens,
        check_nonce: impl Fn(Option<&Nonce>) -> Result<(), String>,
        now: Timestamp,
    ) -> Result<Map<String, Value>, ClaimsVerificationError> {
        let other = |why: &str| ClaimsVerificationError::Other(why.to_owned());
        let id_token = tokens.id_token().ok_or_else(|| other("there is no ID token"))?;
        let client = self.client(metadata);
        let earlier = UNIX_EPOCH + Duration::from_micros(now.before(CLOCK_SKEW).micros());
        let later = i64::try_from(now.after(CLOCK_SKEW).micros() / 1_000_000).unwrap_or(i64::MAX);
        let verifier = client
            .id_token_verifier()
            .set_allowed_algs(ALGORITHMS)
            .set_time_fn(move || earlier.into())
            .set_issue_time_verifier_fn(move |issued| {
                if issued.timestamp() <= later { Ok(()) } else { Err("the token is from the future".to_owned()) }
            });
        let claims = id_token.claims(&verifier, check_nonce)?;
        if claims.authorized_party().is_some_and(|party| party.as_str() != self.client_id.as_str()) {
            return Err(other("the token is for another client"));
        }
        if let Some(expected) = claims.access_token_hash() {
            let unverified = ClaimsVerificationError::SignatureVerification;
            let algorithm = id_token.signing_alg().map_err(unverified)?;
            let key = id_token.signing_key(&verifier).map_err(unverified)?;
            let actual = AccessTokenHash::from_token(tokens.access_token(), algorithm, key);
            if actual.ok().as_ref() != Some(expected) {
                return Err(other("the ID token belongs to another access token"));
            }
        }
        let claims = as_map(claims);
        let not_before = claims.get("nbf").and_then(Value::as_f64);
        #[expect(clippy::cast_precision_loss, reason = "a second more or less does not matter")]
        let latest = now.after(CLOCK_SKEW).micros() as f64 / 1e6;
        if not_before.is_some_and(|time| time > latest) { Err(other("the token is not valid yet")) } else { Ok(claims) }
    }

    /// Gets new tokens for a user. `None` if the provider no longer issues any.
    pub(super) async fn renew(
        &self,
        recheck_token: RecheckToken,
        now: Timestamp,
    ) -> Result<Option<RenewedTokens>, Error> {
        let RecheckToken::Refresh(token) = recheck_token else {
            return Err(Error::Unavailable { cause: "it issues no such token".to_owned() });
        };
        let metadata = self.metadata().await?;
        let client = self.client(&metadata);
        let refresh = RefreshToken::new(token.clone());
        let mut request = client.exchange_refresh_token(&refresh).map_err(|error| no_token_endpoint(&error))?;
        for (name, value) in self.assertion(now)? {
            request = request.add_extra_param(name, value);
        }
        match request.request_async(&self.http).await {
            Ok(tokens) => Ok(Some(RenewedTokens {
                recheck_token: self::recheck_token(&tokens).filter(|new| *new != RecheckToken::Refresh(token)),
                access: tokens.access_token().clone(),
            })),
            // Only this error is about the user. Others may be about the client.
            Err(RequestTokenError::ServerResponse(response))
                if *response.error() == CoreErrorResponseType::InvalidGrant =>
            {
                Ok(None)
            }
            Err(error) => Err(token_error(&error)),
        }
    }

    /// The URL at which a browser ends its session at the provider, if there is one (RP-Initiated Logout 1.0). The
    /// browser returns to `back`.
    pub(crate) async fn end_session_url(&self, back: &str) -> Option<String> {
        let metadata = self.metadata().await.ok()?;
        let mut url = Url::parse(metadata.additional_metadata().end_session_endpoint.as_deref()?).ok()?;
        if !["https", "http"].contains(&url.scheme()) {
            return None;
        }
        url.query_pairs_mut()
            .append_pair("client_id", self.client_id.as_str())
            .append_pair("post_logout_redirect_uri", back);
        Some(url.into())
    }
}

/// The callback URL in the type of the libraries.
pub(super) fn redirect_url(callback: &str) -> Result<RedirectUrl, Error> {
    RedirectUrl::new(callback.to_owned()).map_err(|error| Error::Invalid { cause: format!("{callback}: {error}") })
}

/// The refresh token of a response, if there is one.
fn recheck_token(tokens: &Tokens) -> Option<RecheckToken> {
    let token = tokens.refresh_token().map(|token| token.secret().clone());
    token.filter(|token| !token.is_empty()).map(RecheckToken::Refresh)
}

fn invalid(cause: &dyn fmt::Display) -> Error {
    Error::Invalid { cause: cause.to_string() }
}

fn no_token_endpoint(error: &openidconnect::ConfigurationError) -> Error {
    Error::Unavailable { cause: format!("no token endpoint: {error}") }
}

/// The error for a failed request to the token endpoint. It does not repeat the response, which may contain a token.
pub(super) fn token_error<T>(error: &RequestTokenError<outgoing::Error, T>) -> Error
where
    T: openidconnect::ErrorResponse + fmt::Display + 'static,
{
    match error {
        RequestTokenError::ServerResponse(response) => {
            // The error code comes before its description.
            let text = response.to_string();
            let word = text.split([':', ' ']).next().unwrap_or_default();
            Error::Refused { word: super::shown_word(word) }
        }
        RequestTokenError::Request(error) => Error::Unavailable { cause: error.to_string() },
        RequestTokenError::Parse(error, _) => {
            Error::Unavailable { cause: format!("invalid token response at {}", error.path()) }
        }
        RequestTokenError::Other(_) => Error::Unavailable { cause: "invalid token response".to_owned() },
    }
}
