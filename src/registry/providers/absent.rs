//! Identity providers in a build without the feature `openid`: the list is empty.

use std::sync::Arc;

use super::recheck::Failure;
use super::{Error, Shared};
use crate::config::Config;
use crate::identity::accounts::DueFederatedUser;
use crate::identity::providers::PreparedProviders;

pub(super) fn prepare(_: &Config) -> Result<PreparedProviders, Error> {
    Ok(PreparedProviders)
}

impl Shared {
    pub(super) async fn recheck_at_provider(self: &Arc<Self>, _: DueFederatedUser) -> Result<(), Failure> {
        Ok(())
    }
}
