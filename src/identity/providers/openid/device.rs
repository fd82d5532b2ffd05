//! Sign-in with another device at a provider that speaks OpenID Connect (RFC 8628).

use std::sync::Arc;

use openidconnect::DeviceAuthorizationUrl;

use super::super::device::{Authorization, DevicePoll, Polled, poll_once};
use super::{Error, Metadata, OpenId, token_error};
use crate::kit::clock::Timestamp;

impl OpenId {
    /// Whether the provider says that it has this.
    pub(in crate::identity::providers) async fn offers_device(&self) -> bool {
        self.device_endpoint().await.is_ok()
    }

    async fn device_endpoint(&self) -> Result<(Arc<Metadata>, DeviceAuthorizationUrl), Error> {
        let metadata = self.metadata().await?;
        let url = metadata.additional_metadata().device_authorization_endpoint.clone().ok_or(Error::NoDevice)?;
        Ok((metadata, url))
    }

    pub(in crate::identity::providers) async fn begin_device(&self, now: Timestamp) -> Result<Authorization, Error> {
        let (metadata, url) = self.device_endpoint().await?;
        let client = self.client(&metadata).set_device_authorization_url(url);
        let mut request = client.exchange_device_code().add_scopes(self.scopes(&metadata));
        for (name, value) in self.assertion(now)? {
            request = request.add_extra_param(name, value);
        }
        request.request_async(&self.http).await.map_err(|error| token_error(&error))
    }

    pub(in crate::identity::providers) async fn poll_device(
        &self,
        said: &Authorization,
        now: Timestamp,
    ) -> Result<DevicePoll, Error> {
        let metadata = self.metadata().await?;
        let client = self.client(&metadata);
        let mut request = client
            .exchange_device_access_token(said)
            .map_err(|error| Error::Away { cause: format!("it has no token endpoint: {error}") })?;
        for (name, value) in self.assertion(now)? {
            request = request.add_extra_param(name, value);
        }
        match poll_once(request, &self.http).await? {
            // The registry itself has asked for these tokens and got them over TLS; there is no way back by a browser
            // that a nonce would bind them to.
            Polled::Tokens(tokens) => Ok(DevicePoll::Done(Box::new(self.sign_in(metadata, &tokens, None, now).await?))),
            Polled::Not(poll) => Ok(poll),
        }
    }
}
