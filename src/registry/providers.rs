//! Prepares the identity providers of the configuration, and asks them about their users.

use std::sync::Arc;

use super::recheck::Failure;
use super::{Error, Shared};
use crate::config::{self, Config};
use crate::identity::accounts::DueFederatedUser;
use crate::identity::providers::{
    self, ClientId, ClientKey, ClientSecret, PreparedProviders, ProviderSettings, Providers, RecheckOutcome,
    RecheckToken, Targets,
};
use crate::kit::outgoing::{self, Client};

/// The purpose of the sealed token of a provider.
const TOKEN_PURPOSE: &str = "token of a provider";

/// Prepares the identity providers. Sends no request.
pub(super) fn prepare(config: &Config) -> Result<PreparedProviders, Error> {
    let openid = config.http.auth.openid.as_ref();
    let one = |(name, provider): (&String, &config::Provider)| {
        let client_key = provider.client_key.as_ref().map(|key| ClientKey::read(key.reveal())).transpose();
        let client_key =
            client_key.map_err(|why| Error::setting("http.auth.openid.providers", format!("{name}.keypath: {why}")))?;
        let secret = provider.client_secret.as_ref();
        Ok(ProviderSettings {
            name: name.clone(),
            title: provider.title.clone(),
            client_id: ClientId::new(provider.client_id.clone()),
            client_secret: secret.map(|secret| ClientSecret::new(secret.reveal().to_owned())),
            client_key,
            scopes: provider.scopes.clone(),
            protocol: match provider.protocol.clone() {
                config::Protocol::OpenId { issuer, username_claim, groups_claim } => {
                    providers::Protocol::OpenId { issuer, username_claim, groups_claim }
                }
                config::Protocol::GitHub { auth_url, token_url, api_url } => {
                    providers::Protocol::GitHub { auth_url, token_url, api_url }
                }
            },
        })
    };
    let origins = openid.into_iter().flat_map(|openid| openid.callback_allow_origins.iter().map(String::as_str));
    let settings = providers::Settings {
        providers: openid.into_iter().flat_map(|openid| &openid.providers).map(one).collect::<Result<_, _>>()?,
        targets: Targets::new(origins.chain(config.http.external_url.as_deref())),
        client: Client::new(outgoing::Settings {
            ca: openid.and_then(|openid| openid.ca_cert.clone()),
            ..outgoing::Settings::default()
        }),
        with_recheck: openid.is_some_and(|openid| openid.recheck.is_some()),
    };
    Providers::prepare(settings).map_err(|cause| Error::setting("http.auth.openid.providers", cause))
}

impl Shared {
    /// Seals a token that the registry asks a provider with.
    pub(crate) fn seal_recheck_token(&self, issuer: &str, subject: &str, recheck_token: &RecheckToken) -> Vec<u8> {
        self.providers().sealer().seal(&[TOKEN_PURPOSE, issuer, subject], recheck_token.to_text().as_bytes())
    }

    fn open_recheck_token(&self, who: &DueFederatedUser) -> Option<RecheckToken> {
        let opened = self.providers().sealer().open(&[TOKEN_PURPOSE, &who.issuer, &who.subject], &who.sealed)?;
        RecheckToken::from_text(str::from_utf8(&opened).ok()?)
    }

    /// Asks the provider of a user, and stores the result.
    pub(super) async fn recheck_at_provider(self: &Arc<Self>, mut who: DueFederatedUser) -> Result<(), Failure> {
        let provider = self.providers().get(&who.provider).filter(|known| known.issuer() == who.issuer);
        let (Some(provider), Some(recheck_token)) = (provider, self.open_recheck_token(&who)) else { return Ok(()) };
        let Some(renewed) = provider.renew(recheck_token, self.now()).await? else {
            tracing::info!(user = who.name, provider = who.provider, "a provider no longer knows a user");
            return self.write(move |accounts| accounts.federated_user_is_gone(&who)).await;
        };
        // Stored at once, because the previous token may be invalid now.
        if let Some(recheck_token) = renewed.recheck_token {
            let sealed = self.seal_recheck_token(&who.issuer, &who.subject, &recheck_token);
            who = self.write(move |accounts| accounts.renew_federated_token(who, sealed)).await?;
        }
        match provider.recheck(&who.subject, &renewed.access).await? {
            RecheckOutcome::Known { groups } => {
                self.write(move |accounts| accounts.federated_user_is_known(&who, groups)).await
            }
            RecheckOutcome::Gone => {
                tracing::info!(user = who.name, provider = who.provider, "a provider no longer knows a user");
                self.write(move |accounts| accounts.federated_user_is_gone(&who)).await
            }
        }
    }
}

impl From<providers::Error> for Failure {
    fn from(error: providers::Error) -> Self {
        Self::Provider { error: error.to_string(), is_away: matches!(error, providers::Error::Unavailable { .. }) }
    }
}
