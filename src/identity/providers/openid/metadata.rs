//! [`MetadataCache`]: what a provider says about itself (OpenID Connect Discovery 1.0), and its keys.
//!
//! Fetched when it is first needed, again when it has become old, and the keys when a token names one that is not
//! known. What must hold: one fetch at a time, however many wait; nothing is kept that names a place where no
//! provider is to be asked.

use std::sync::Arc;
use std::time::{Duration, Instant};

use openidconnect::core::{
    CoreAuthDisplay, CoreClaimName, CoreClaimType, CoreClientAuthMethod, CoreGrantType, CoreJsonWebKey,
    CoreJweContentEncryptionAlgorithm, CoreJweKeyManagementAlgorithm, CoreResponseMode, CoreResponseType,
    CoreSubjectIdentifierType,
};
use openidconnect::{
    AdditionalProviderMetadata, DeviceAuthorizationUrl, DiscoveryError, IssuerUrl, JsonWebKeySet, ProviderMetadata,
    TokenUrl, UserInfoUrl,
};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use url::Url;

use crate::identity::providers::Error;
use crate::identity::providers::client::ProviderClient;
use crate::kit::outgoing;

/// After this long what a provider says about itself is fetched again.
const METADATA_AGE_MAX: Duration = Duration::from_hours(1);
/// Keys are fetched anew for a token that names an unknown one, but not more often than this: whoever makes up tokens
/// must not make the registry ask without end.
const KEYS_AGE_MIN: Duration = Duration::from_secs(30);

/// What a provider says about itself beyond what the library reads.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in crate::identity::providers) struct ExtraMetadata {
    pub(in crate::identity::providers) end_session_endpoint: Option<String>,
    pub(in crate::identity::providers) device_authorization_endpoint: Option<DeviceAuthorizationUrl>,
    #[serde(default)]
    pub(in crate::identity::providers) authorization_response_iss_parameter_supported: bool,
}

impl AdditionalProviderMetadata for ExtraMetadata {}

pub(in crate::identity::providers) type Metadata = ProviderMetadata<
    ExtraMetadata,
    CoreAuthDisplay,
    CoreClientAuthMethod,
    CoreClaimName,
    CoreClaimType,
    CoreGrantType,
    CoreJweContentEncryptionAlgorithm,
    CoreJweKeyManagementAlgorithm,
    CoreJsonWebKey,
    CoreResponseMode,
    CoreResponseType,
    CoreSubjectIdentifierType,
>;

/// What one provider has said. One fetch at a time.
#[derive(Default)]
pub(super) struct MetadataCache(Mutex<CachedMetadata>);

/// What the provider has said about itself.
#[derive(Default)]
struct CachedMetadata {
    metadata: Option<(Instant, Arc<Metadata>)>,
    /// When keys were last fetched for the sake of an unknown one.
    keys_fetched: Option<Instant>,
    /// When it has last said nothing, and why.
    failed: Option<(Instant, String)>,
}

impl MetadataCache {
    /// What the provider says about itself, as it was fetched not long ago.
    pub(super) async fn get(&self, issuer: &IssuerUrl, http: &ProviderClient) -> Result<Arc<Metadata>, Error> {
        let asked = Instant::now();
        let mut known = self.0.lock().await;
        if let Some((at, metadata)) = &known.metadata
            && at.elapsed() < METADATA_AGE_MAX
        {
            return Ok(Arc::clone(metadata));
        }
        // Whoever has waited for somebody else's fetch to fail does not try it once more.
        if let Some((at, cause)) = &known.failed
            && *at > asked
        {
            return Err(Error::Away { cause: cause.clone() });
        }
        let discovered = Metadata::discover_async(issuer.clone(), http).await;
        let discovered = discovered.map_err(|error| discovery_cause(&error));
        let checked = discovered.and_then(|metadata| check_places(&metadata).map(|()| metadata));
        match checked {
            Ok(metadata) => {
                let metadata = Arc::new(metadata);
                known.metadata = Some((Instant::now(), Arc::clone(&metadata)));
                Ok(metadata)
            }
            Err(cause) => {
                let cause = format!("{} does not say what it should about itself: {cause}", issuer.as_str());
                known.failed = Some((Instant::now(), cause.clone()));
                Err(Error::Away { cause })
            }
        }
    }

    /// The same with keys that are newer; nothing, if there are none, or they were fetched too often.
    pub(super) async fn with_new_keys(
        &self,
        metadata: &Metadata,
        http: &ProviderClient,
    ) -> Result<Option<Arc<Metadata>>, Error> {
        let mut known = self.0.lock().await;
        // Somebody else may have fetched them meanwhile.
        if let Some((_, newer)) = &known.metadata
            && newer.jwks() != metadata.jwks()
        {
            return Ok(Some(Arc::clone(newer)));
        }
        if known.keys_fetched.is_some_and(|at| at.elapsed() < KEYS_AGE_MIN) {
            return Ok(None);
        }
        known.keys_fetched = Some(Instant::now());
        let keys = JsonWebKeySet::fetch_async(metadata.jwks_uri(), http).await;
        let keys = keys.map_err(|error| Error::Away { cause: format!("its keys: {}", discovery_cause(&error)) })?;
        let newer = Arc::new(metadata.clone().set_jwks(keys));
        if let Some((_, known)) = &mut known.metadata {
            *known = Arc::clone(&newer);
        }
        Ok(Some(newer))
    }
}

/// That every place that a provider names is one that is asked by TLS, or on this machine.
fn check_places(metadata: &Metadata) -> Result<(), String> {
    let more = metadata.additional_metadata();
    let places = [
        Some(metadata.authorization_endpoint().url()),
        metadata.token_endpoint().map(TokenUrl::url),
        metadata.userinfo_endpoint().map(UserInfoUrl::url),
        more.device_authorization_endpoint.as_ref().map(DeviceAuthorizationUrl::url),
        Some(metadata.jwks_uri().url()),
    ];
    // Where the issuer is asked by TLS, everything is.
    let tls = metadata.issuer().url().scheme() == "https";
    let is_right = |place: &&Url| match place.scheme() {
        "https" => place.has_host(),
        "http" => !tls && place.host_str().is_some_and(outgoing::is_loopback),
        _ => false,
    };
    match places.into_iter().flatten().find(|place| !is_right(place)) {
        Some(place) => Err(format!("it names a place that is not to be asked, of the scheme {}", place.scheme())),
        None => Ok(()),
    }
}

fn discovery_cause(error: &DiscoveryError<outgoing::Error>) -> String {
    match error {
        DiscoveryError::Request(error) => error.to_string(),
        DiscoveryError::Parse(error) => format!("what it says cannot be read, at {}", error.path()),
        DiscoveryError::Response(status, ..) => format!("it answers {status}"),
        DiscoveryError::Validation(why) => why.clone(),
        other => other.to_string(),
    }
}
