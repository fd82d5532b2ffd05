//! Sign-in from a program, such as `coracle login`: the ways to sign in.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;

use super::endpoint::{Endpoint, future, get};
use super::input::Call;
use super::values::Always;
use crate::http::Context;
use crate::http::error::ApiError;
use crate::identity::access::Requires;

/// The endpoints of this file.
pub(super) const ENDPOINTS: &[Endpoint] = &[get("/api/v1/signin/providers", Requires::Anyone, &future(list_providers))
    .named("listSigninProviders", "List the ways to sign in")];

/// The time that one provider has to say whether it offers sign-in with another device.
const PROVIDER_WAIT: Duration = Duration::from_secs(5);

#[derive(Debug, Serialize, JsonSchema)]
struct SignInWays {
    password: Always<true>,
    /// The longest lifetime of an API key, in seconds.
    #[schemars(range(min = 1))]
    key_lifetime_max: Option<u64>,
    providers: Vec<Provider>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Provider {
    name: String,
    title: String,
    /// Whether it offers sign-in with another device.
    device: bool,
}

async fn list_providers(context: &Context<'_>, _: Call) -> Result<SignInWays, ApiError> {
    let mut providers = Vec::new();
    for provider in context.registry.providers().list() {
        let device = tokio::time::timeout(PROVIDER_WAIT, provider.offers_device()).await.unwrap_or(false);
        providers.push(Provider { name: provider.name.clone(), title: provider.title.clone(), device });
    }
    let key_lifetime_max = context.registry.accounts().key_lifetime_max().map(|lifetime| lifetime.as_secs());
    Ok(SignInWays { password: Always, key_lifetime_max, providers })
}
