//! [`ProviderClient`]: adapts the HTTP client to the OAuth and OpenID libraries.

use std::pin::Pin;

use openidconnect::{AsyncHttpClient, HttpRequest, HttpResponse};

use crate::kit::outgoing::{Client, Error};

/// The HTTP client for one provider.
#[derive(Clone, Debug)]
pub(super) struct ProviderClient {
    client: Client,
    /// Whether all requests must use TLS, because the provider's own URL does.
    tls: bool,
}

impl ProviderClient {
    /// Creates the client for the provider at this URL.
    pub(super) fn new(client: &Client, url: &str) -> Self {
        Self { client: client.clone(), tls: url.get(..8).is_some_and(|start| start.eq_ignore_ascii_case("https://")) }
    }

    pub(super) async fn send(&self, request: HttpRequest) -> Result<HttpResponse, Error> {
        if self.tls && request.uri().scheme_str() != Some("https") {
            return Err(Error::Plain { host: request.uri().host().unwrap_or_default().to_owned() });
        }
        self.client.send(request).await
    }
}

impl<'c> AsyncHttpClient<'c> for ProviderClient {
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<HttpResponse, Error>> + Send + 'c>>;

    fn call(&'c self, request: HttpRequest) -> Self::Future {
        Box::pin(self.send(request))
    }
}
