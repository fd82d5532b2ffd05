//! Identity providers in a build without the feature `openid`: the list is empty.

use std::time::Duration;

pub(crate) const STATE_LIFETIME: Duration = Duration::ZERO;
pub(crate) const CONFIRM_LIFETIME: Duration = Duration::ZERO;

/// The providers of a configuration.
#[derive(Debug)]
pub(crate) struct PreparedProviders;

/// The providers of a registry.
#[derive(Debug)]
pub(crate) struct Providers;

/// One provider. It has no value.
#[derive(Debug)]
pub(crate) struct Provider {
    pub(crate) name: String,
    pub(crate) title: String,
    never: OpenId,
}

/// An OpenID Connect provider. It has no value.
#[derive(Debug)]
pub(crate) enum OpenId {}

impl Providers {
    pub(crate) const fn new(_: PreparedProviders, _: &[u8; 32]) -> Self {
        Self
    }

    pub(crate) const fn list(&self) -> &[Provider] {
        &[]
    }

    pub(crate) const fn get(&self, _: &str) -> Option<&Provider> {
        None
    }
}

impl Provider {
    pub(crate) fn issuer(&self) -> &str {
        match self.never {}
    }

    pub(crate) fn openid(&self) -> Option<&OpenId> {
        match self.never {}
    }

    pub(crate) async fn offers_device(&self) -> bool {
        match self.never {}
    }
}

impl OpenId {
    pub(crate) async fn end_session_url(&self, _: &str) -> Option<String> {
        match *self {}
    }
}
