//! [`OpenId`]: a provider that speaks OpenID Connect (Core 1.0, Discovery 1.0, RP-Initiated Logout 1.0).
//!
//! What the provider says about itself is fetched when it is first needed, and again when it has become old or names
//! a key that is not known. What must hold: a token counts only if it is signed with a key of this issuer by an
//! asymmetric algorithm, is made out to this client, in answer to this sign-in, and is of this time.

mod device;
mod metadata;

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
    AccessToken, AccessTokenHash, AdditionalClaims, AuthType, AuthenticationFlow, AuthorizationCode,
    ClaimsVerificationError, ClientId, ClientSecret, CsrfToken, EmptyExtraTokenFields, EndpointMaybeSet,
    EndpointNotSet, EndpointSet, IdTokenFields, IssuerUrl, Nonce, OAuth2TokenResponse as _, PkceCodeChallenge,
    PkceCodeVerifier, RedirectUrl, RefreshToken, RequestTokenError, Scope, SignatureVerificationError,
    StandardErrorResponse, StandardTokenResponse, SubjectIdentifier, TokenResponse as _, UserInfoClaims, UserInfoError,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use subtle::ConstantTimeEq as _;
use url::Url;

use super::client::ProviderClient;
use super::client_key::ASSERTION_TYPE;
use super::{
    CLOCK_SKEW, ClientKey, Error, Protocol, ProviderSettings, RecheckOutcome, RecheckToken, Renewed, Secrets, SignedIn,
    groups, is_text,
};
use crate::identity::accounts::FederatedUser;
use crate::kit::clock::Timestamp;
use crate::kit::outgoing::{self, Client};
use metadata::{Metadata, MetadataCache};

/// What is asked for where nothing is said, as far as the provider knows it.
const DEFAULT_SCOPES: [&str; 2] = ["email", "profile"];
const WISHED_SCOPES: [&str; 1] = ["groups"];
const OFFLINE: &str = "offline_access";
/// Google's own way to be asked for what [`OFFLINE`] is elsewhere.
const GOOGLE: &str = "https://accounts.google.com";

/// What signs tokens. None of them has a key that the client knows as well.
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

/// What the token endpoint answers.
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

/// A provider.
pub(crate) struct OpenId {
    issuer: IssuerUrl,
    client_id: ClientId,
    client_secret: Option<ClientSecret>,
    client_key: Option<ClientKey>,
    scopes: Vec<String>,
    username_claim: String,
    groups_claim: String,
    recheck_token: bool,
    http: ProviderClient,
    metadata: MetadataCache,
}

impl fmt::Debug for OpenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenId").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

impl OpenId {
    pub(super) fn new(settings: ProviderSettings, http: &Client, recheck_token: bool) -> Result<Self, String> {
        let Protocol::OpenId { issuer, username_claim, groups_claim } = settings.protocol else {
            return Err("it is no provider of OpenID".to_owned());
        };
        let http = ProviderClient::new(http, &issuer);
        Ok(Self {
            issuer: IssuerUrl::new(issuer).map_err(|error| format!("the issuer is no URL: {error}"))?,
            client_id: settings.client_id,
            client_secret: settings.client_secret,
            client_key: settings.client_key,
            scopes: settings.scopes,
            username_claim,
            groups_claim,
            recheck_token,
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
        let takes = |method| methods.is_none_or(|methods| methods.contains(&method));
        let client = match &self.client_secret {
            Some(secret) => client.set_client_secret(secret.clone()),
            None => client,
        };
        let in_body = self.client_secret.is_none()
            || (methods.is_some()
                && !takes(CoreClientAuthMethod::ClientSecretBasic)
                && takes(CoreClientAuthMethod::ClientSecretPost));
        client.set_auth_type(if in_body { AuthType::RequestBody } else { AuthType::BasicAuth })
    }

    /// What shows who the client is, if a key does.
    fn assertion(&self, now: Timestamp) -> Result<Vec<(&'static str, String)>, Error> {
        let Some(key) = &self.client_key else { return Ok(Vec::new()) };
        let assertion = key.assertion(self.client_id.as_str(), self.issuer.as_str(), now);
        let assertion = assertion.map_err(|cause| Error::Away { cause })?;
        Ok(vec![("client_assertion_type", ASSERTION_TYPE.to_owned()), ("client_assertion", assertion)])
    }

    /// What is asked for, besides `openid`.
    fn scopes(&self, metadata: &Metadata) -> Vec<Scope> {
        if !self.scopes.is_empty() {
            let offered = self.scopes.iter().filter(|scope| *scope != "openid");
            return offered.filter(|scope| !self.is_google() || *scope != OFFLINE).cloned().map(Scope::new).collect();
        }
        let offers = |scope: &&str| {
            metadata.scopes_supported().is_some_and(|all| all.iter().any(|offered| offered.as_str() == *scope))
        };
        let recheck_token = self.recheck_token.then_some(OFFLINE).filter(|_| !self.is_google());
        let wished = WISHED_SCOPES.into_iter().chain(recheck_token).filter(offers);
        DEFAULT_SCOPES.into_iter().chain(wished).map(|scope| Scope::new(scope.to_owned())).collect()
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
        if self.is_google() && self.recheck_token {
            request = request.add_extra_param("access_type", "offline");
        }
        Ok(request.url().0.into())
    }

    /// That the answer comes from this issuer (RFC 9207): where it says so, and where the provider always does.
    pub(super) async fn check_issuer(&self, said: Option<&str>) -> Result<(), Error> {
        let other = || Error::Invalid { cause: "another issuer has sent it".to_owned() };
        match said {
            Some(said) if said == self.issuer.as_str() => Ok(()),
            Some(_) => Err(other()),
            None if self
                .metadata
                .get(&self.issuer, &self.http)
                .await?
                .additional_metadata()
                .authorization_response_iss_parameter_supported =>
            {
                Err(other())
            }
            None => Ok(()),
        }
    }

    pub(super) async fn redeem(
        &self,
        code: &str,
        secrets: &Secrets,
        callback: &str,
        now: Timestamp,
    ) -> Result<SignedIn, Error> {
        let metadata = self.metadata().await?;
        let client = self.client(&metadata);
        let mut request = client
            .exchange_code(AuthorizationCode::new(code.to_owned()))
            .map_err(|error| Error::Away { cause: format!("it has no token endpoint: {error}") })?
            .set_pkce_verifier(PkceCodeVerifier::new(secrets.verifier.clone()))
            .set_redirect_uri(Cow::Owned(redirect_url(callback)?));
        for (name, value) in self.assertion(now)? {
            request = request.add_extra_param(name, value);
        }
        let tokens = request.request_async(&self.http).await.map_err(|error| token_error(&error))?;
        self.sign_in(metadata, &tokens, Some(&Nonce::new(secrets.nonce.clone())), now).await
    }

    /// Who it is that these tokens were made for, in answer to the request with this nonce, or to one without.
    async fn sign_in(
        &self,
        metadata: Arc<Metadata>,
        tokens: &Tokens,
        nonce: Option<&Nonce>,
        now: Timestamp,
    ) -> Result<SignedIn, Error> {
        let check_nonce = |given: Option<&Nonce>| -> Result<(), String> {
            let given = given.map_or("", |given| given.secret()).as_bytes();
            let is_ours: bool = match nonce {
                Some(nonce) => given.ct_eq(nonce.secret().as_bytes()).into(),
                None => given.is_empty(),
            };
            if is_ours { Ok(()) } else { Err("it was made for another sign-in".to_owned()) }
        };
        let claims = match self.verified(&metadata, tokens, check_nonce, now) {
            Err(ClaimsVerificationError::SignatureVerification(SignatureVerificationError::NoMatchingKey)) => {
                let newer = self.metadata.with_new_keys(&metadata, &self.http).await?;
                let newer = newer.ok_or_else(|| invalid(&"its key is not one of the issuer's"))?;
                self.verified(&newer, tokens, check_nonce, now)
            }
            outcome => outcome,
        };
        let claims = claims.map_err(|error| invalid(&error))?;
        let subject = text(&claims, "sub").filter(|subject| is_text(subject));
        let subject = subject.ok_or_else(|| invalid(&"its subject is missing or too long"))?.to_owned();
        let more = self.user_info(&metadata, tokens, &subject).await?;
        let user = self.user(subject, &claims, more.as_ref())?;
        Ok(SignedIn { user, recheck_token: recheck_token(tokens) })
    }

    /// The ID token's claims, if the token holds (OpenID Connect Core, 3.1.3.7).
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
                if issued.timestamp() <= later { Ok(()) } else { Err("it is of a time to come".to_owned()) }
            });
        let claims = id_token.claims(&verifier, check_nonce)?;
        if claims.authorized_party().is_some_and(|party| party.as_str() != self.client_id.as_str()) {
            return Err(other("it was made for another client"));
        }
        if let Some(expected) = claims.access_token_hash() {
            let unverified = ClaimsVerificationError::SignatureVerification;
            let algorithm = id_token.signing_alg().map_err(unverified)?;
            let key = id_token.signing_key(&verifier).map_err(unverified)?;
            let actual = AccessTokenHash::from_token(tokens.access_token(), algorithm, key);
            if actual.ok().as_ref() != Some(expected) {
                return Err(other("it belongs to another access token"));
            }
        }
        let claims = as_map(claims);
        let not_before = claims.get("nbf").and_then(Value::as_f64);
        #[expect(clippy::cast_precision_loss, reason = "it is compared with seconds of this century")]
        let latest = now.after(CLOCK_SKEW).micros() as f64 / 1e6;
        if not_before.is_some_and(|time| time > latest) { Err(other("it is of a time to come")) } else { Ok(claims) }
    }

    /// What the provider says about the person beyond the token, if it has a place for that.
    async fn user_info(
        &self,
        metadata: &Metadata,
        tokens: &Tokens,
        subject: &str,
    ) -> Result<Option<Map<String, Value>>, Error> {
        match self.ask_user_info(metadata, tokens.access_token(), subject).await {
            None => Ok(None),
            Some(Ok(claims)) => Ok(Some(claims)),
            Some(Err(UserInfoError::ClaimsVerification(error))) => Err(invalid(&error)),
            Some(Err(error)) => Err(Error::Away { cause: format!("its UserInfo: {}", user_info_cause(&error)) }),
        }
    }

    async fn ask_user_info(
        &self,
        metadata: &Metadata,
        access: &AccessToken,
        subject: &str,
    ) -> Option<Result<Map<String, Value>, UserInfoError<outgoing::Error>>> {
        let client = self.client(metadata);
        let subject = SubjectIdentifier::new(subject.to_owned());
        let request = client.user_info(access.clone(), Some(subject)).ok()?;
        let claims: Result<UserInfoClaims<Claims, CoreGenderClaim>, _> = request.request_async(&self.http).await;
        Some(claims.map(|claims| as_map(&claims)))
    }

    /// Name and groups, of both places that may have them; `UserInfo` goes first, as for zot.
    fn user(
        &self,
        subject: String,
        claims: &Map<String, Value>,
        more: Option<&Map<String, Value>>,
    ) -> Result<FederatedUser, Error> {
        let places = || more.into_iter().chain([claims]);
        let claim = |name: &str| places().find_map(|place| text(place, name)).map(str::to_owned);
        let email = claim("email").filter(|email| is_text(email));
        let unverified = places().any(|place| place.get("email_verified") == Some(&Value::Bool(false)));
        let own_name = claim(&self.username_claim).filter(|_| self.username_claim != "email");
        let name = match own_name {
            Some(name) => name,
            // As for zot, the address is the name where the claim is empty.
            None if unverified && email.is_some() => return Err(Error::Unverified),
            None => email.clone().ok_or_else(|| Error::Nameless { claim: self.username_claim.clone() })?,
        };
        Ok(FederatedUser {
            provider: String::new(),
            issuer: self.issuer.as_str().to_owned(),
            subject,
            name,
            email: email.filter(|_| !unverified),
            groups: self.groups(places()),
        })
    }

    /// The groups of every place, each a list or one text.
    fn groups<'a>(&self, places: impl Iterator<Item = &'a Map<String, Value>>) -> Vec<String> {
        let values = places.filter_map(|place| place.get(&self.groups_claim));
        let texts = values.flat_map(|value| match value {
            Value::Array(list) => list.iter().filter_map(Value::as_str).collect(),
            Value::String(text) => vec![text.as_str()],
            _ => Vec::new(),
        });
        groups(texts.map(str::to_owned).collect())
    }

    /// Tokens to ask with about somebody; none, if the provider gives them none any more.
    pub(super) async fn renew(&self, by: RecheckToken, now: Timestamp) -> Result<Option<Renewed>, Error> {
        let RecheckToken::Refresh(token) = by else {
            return Err(Error::Away { cause: "it gives no such token".to_owned() });
        };
        let metadata = self.metadata().await?;
        let client = self.client(&metadata);
        let refresh = RefreshToken::new(token.clone());
        let mut request = client
            .exchange_refresh_token(&refresh)
            .map_err(|error| Error::Away { cause: format!("it has no token endpoint: {error}") })?;
        for (name, value) in self.assertion(now)? {
            request = request.add_extra_param(name, value);
        }
        match request.request_async(&self.http).await {
            Ok(tokens) => Ok(Some(Renewed {
                recheck_token: recheck_token(&tokens).filter(|new| *new != RecheckToken::Refresh(token)),
                access: tokens.access_token().clone(),
            })),
            // Only this is about the person: that the client is not known says nothing about them.
            Err(RequestTokenError::ServerResponse(answer))
                if *answer.error() == CoreErrorResponseType::InvalidGrant =>
            {
                Ok(None)
            }
            Err(error) => Err(token_error(&error)),
        }
    }

    /// Whether the provider knows somebody still.
    pub(super) async fn ask(&self, subject: &str, access: &AccessToken) -> Result<RecheckOutcome, Error> {
        let metadata = self.metadata().await?;
        match self.ask_user_info(&metadata, access, subject).await {
            None => Ok(RecheckOutcome::Known { groups: None }),
            Some(Ok(claims)) => {
                // A provider that has groups in its ID tokens alone says nothing about them here.
                let says = claims.contains_key(&self.groups_claim);
                Ok(RecheckOutcome::Known { groups: says.then(|| self.groups([&claims].into_iter())) })
            }
            Some(Err(UserInfoError::Response(status, ..))) if [401, 403].contains(&status.as_u16()) => {
                Ok(RecheckOutcome::Gone)
            }
            Some(Err(error)) => Err(Error::Away { cause: format!("its UserInfo: {}", user_info_cause(&error)) }),
        }
    }

    /// Where a browser ends its session at the provider (RP-Initiated Logout 1.0), if the provider has such a place;
    /// it comes back to `back`.
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

/// A client's own page for the answer.
pub(super) fn redirect_url(callback: &str) -> Result<RedirectUrl, Error> {
    RedirectUrl::new(callback.to_owned()).map_err(|error| Error::Invalid { cause: format!("{callback}: {error}") })
}

/// What to ask with the next time, if the provider gives it.
fn recheck_token(tokens: &Tokens) -> Option<RecheckToken> {
    let token = tokens.refresh_token().map(|token| token.secret().clone());
    token.filter(|token| !token.is_empty()).map(RecheckToken::Refresh)
}

fn invalid(cause: &dyn fmt::Display) -> Error {
    Error::Invalid { cause: cause.to_string() }
}

fn as_map(claims: &impl Serialize) -> Map<String, Value> {
    match serde_json::to_value(claims) {
        Ok(Value::Object(map)) => map,
        _ => Map::new(),
    }
}

fn text<'a>(claims: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    claims.get(name).and_then(Value::as_str).filter(|text| !text.is_empty())
}

/// What went wrong at the token endpoint. The answer's text is not repeated: there may be a token in it.
pub(super) fn token_error<T>(error: &RequestTokenError<outgoing::Error, T>) -> Error
where
    T: openidconnect::ErrorResponse + fmt::Display + 'static,
{
    match error {
        RequestTokenError::ServerResponse(answer) => {
            // The word stands before what may be said about it.
            let said = answer.to_string();
            let word = said.split([':', ' ']).next().unwrap_or_default();
            Error::Refused { word: super::shown_word(word) }
        }
        RequestTokenError::Request(error) => Error::Away { cause: error.to_string() },
        RequestTokenError::Parse(error, _) => Error::Away { cause: format!("its tokens: at {}", error.path()) },
        RequestTokenError::Other(_) => Error::Away { cause: "its answer to a request for tokens is none".to_owned() },
    }
}

fn user_info_cause(error: &UserInfoError<outgoing::Error>) -> String {
    match error {
        UserInfoError::Request(error) => error.to_string(),
        UserInfoError::Response(status, ..) => format!("it answers {status}"),
        UserInfoError::Parse(error) => format!("it cannot be read, at {}", error.path()),
        other => other.to_string(),
    }
}
