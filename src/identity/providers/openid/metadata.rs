//! [`MetadataCache`]: the metadata and keys of a provider (OpenID Connect Discovery 1.0).
//!
//! The metadata is fetched at the first use and when it is old, the keys also when a token names an unknown one. There
//! is one fetch at a time. Metadata with unsafe URLs is refused.

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
use crate::kit::network::is_loopback;
use crate::kit::outgoing;

/// The age at which metadata is fetched again.
const METADATA_AGE_MAX: Duration = Duration::from_hours(1);
/// The shortest time between two fetches of keys for tokens with unknown ones, so that forged tokens do not cause many
/// requests.
const KEYS_AGE_MIN: Duration = Duration::from_secs(30);

/// Metadata fields that the library does not read.
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

/// The cached metadata of one provider. The mutex allows one fetch at a time.
#[derive(Default)]
pub(super) struct MetadataCache(Mutex<CachedMetadata>);

#[derive(Default)]
struct CachedMetadata {
    metadata: Option<(Instant, Arc<Metadata>)>,
    /// The last fetch of keys for an unknown one.
    keys_fetched: Option<Instant>,
    /// The time and cause of the last failure.
    failed: Option<(Instant, String)>,
}

impl MetadataCache {
    /// The metadata, fetched if the cached one is old.
    pub(super) async fn get(&self, issuer: &IssuerUrl, http: &ProviderClient) -> Result<Arc<Metadata>, Error> {
        let asked = Instant::now();
        let mut known = self.0.lock().await;
        if let Some((at, metadata)) = &known.metadata
            && at.elapsed() < METADATA_AGE_MAX
        {
            return Ok(Arc::clone(metadata));
        }
        // A caller that waited for a failed fetch does not repeat it.
        if let Some((at, cause)) = &known.failed
            && *at > asked
        {
            return Err(Error::Unavailable { cause: cause.clone() });
        }
        let discovered = Metadata::discover_async(issuer.clone(), http).await;
        let discovered = discovered.map_err(|error| discovery_cause(&error));
        let checked = discovered.and_then(|metadata| check_urls(&metadata).map(|()| metadata));
        match checked {
            Ok(metadata) => {
                let metadata = Arc::new(metadata);
                known.metadata = Some((Instant::now(), Arc::clone(&metadata)));
                Ok(metadata)
            }
            Err(cause) => {
                let cause = format!("the metadata of {} cannot be read: {cause}", issuer.as_str());
                known.failed = Some((Instant::now(), cause.clone()));
                Err(Error::Unavailable { cause })
            }
        }
    }

    /// The metadata with newer keys. `None` if the keys were fetched recently.
    pub(super) async fn with_new_keys(
        &self,
        metadata: &Metadata,
        http: &ProviderClient,
    ) -> Result<Option<Arc<Metadata>>, Error> {
        let mut known = self.0.lock().await;
        // Another caller may have fetched them meanwhile.
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
        let keys = keys.map_err(|error| Error::Unavailable {
            cause: format!("the keys cannot be read: {}", discovery_cause(&error)),
        })?;
        let newer = Arc::new(metadata.clone().set_jwks(keys));
        if let Some((_, known)) = &mut known.metadata {
            *known = Arc::clone(&newer);
        }
        Ok(Some(newer))
    }
}

/// Checks that all URLs of the metadata use TLS or name this machine.
fn check_urls(metadata: &Metadata) -> Result<(), String> {
    let more = metadata.additional_metadata();
    let urls = [
        Some(metadata.authorization_endpoint().url()),
        metadata.token_endpoint().map(TokenUrl::url),
        metadata.userinfo_endpoint().map(UserInfoUrl::url),
        more.device_authorization_endpoint.as_ref().map(DeviceAuthorizationUrl::url),
        Some(metadata.jwks_uri().url()),
    ];
    // If the issuer uses TLS, all URLs must.
    let tls = metadata.issuer().url().scheme() == "https";
    let is_safe = |url: &&Url| match url.scheme() {
        "https" => url.has_host(),
        "http" => !tls && url.host_str().is_some_and(is_loopback),
        _ => false,
    };
    match urls.into_iter().flatten().find(|url| !is_safe(url)) {
        Some(url) => Err(format!("it has an unsafe URL with the scheme {}", url.scheme())),
        None => Ok(()),
    }
}

fn discovery_cause(error: &DiscoveryError<outgoing::Error>) -> String {
    match error {
        DiscoveryError::Request(error) => error.to_string(),
        DiscoveryError::Parse(error) => format!("invalid response at {}", error.path()),
        DiscoveryError::Response(status, ..) => format!("status {status}"),
        DiscoveryError::Validation(why) => why.clone(),
        other => other.to_string(),
    }
}
