//! Sign-in on another device at an OpenID Connect provider (RFC 8628).

use std::sync::Arc;

use openidconnect::DeviceAuthorizationUrl;

use super::super::device::{Authorization, DevicePoll, Polled, poll_once};
use super::{Error, Metadata, OpenId, no_token_endpoint, token_error};
use crate::kit::clock::Timestamp;

impl OpenId {
    /// Whether the provider's metadata names a device authorization endpoint.
    pub(in crate::identity::providers) async fn offers_device(&self) -> bool {
        self.device_endpoint().await.is_ok()
    }

    async fn device_endpoint(&self) -> Result<(Arc<Metadata>, DeviceAuthorizationUrl), Error> {
        let metadata = self.metadata().await?;
        let url = metadata.additional_metadata().device_authorization_endpoint.clone().ok_or(Error::NoDeviceFlow)?;
        Ok((metadata, url))
    }

    pub(in crate::identity::providers) async fn start_device(&self, now: Timestamp) -> Result<Authorization, Error> {
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
        authorization: &Authorization,
        now: Timestamp,
    ) -> Result<DevicePoll, Error> {
        let metadata = self.metadata().await?;
        let client = self.client(&metadata);
        let mut request =
            client.exchange_device_access_token(authorization).map_err(|error| no_token_endpoint(&error))?;
        for (name, value) in self.assertion(now)? {
            request = request.add_extra_param(name, value);
        }
        match poll_once(request, &self.http).await? {
            // The registry requested these tokens itself over TLS. There is no callback that a nonce could bind.
            Polled::Tokens(tokens) => Ok(DevicePoll::Done(Box::new(self.sign_in(metadata, &tokens, None, now).await?))),
            Polled::Not(poll) => Ok(poll),
        }
    }
}
