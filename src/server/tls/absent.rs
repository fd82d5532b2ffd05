//! [`Tls`] of a build without the feature `tls`: it has no value, and no connection has TLS.

use std::io;
use std::sync::Arc;

use super::Peer;
use crate::acme::Acme;
use crate::config;
use crate::identity::access::ClientCertificate;
use crate::registry::Error;

/// Accepts TLS connections. It has no value.
pub(super) enum Tls {}

/// Where the certificate comes from.
pub(super) enum Certificate {
    Files(config::Tls),
    Issued(Arc<Acme>),
}

/// A connection after the handshake.
pub(super) struct Accepted<S> {
    pub(super) stream: S,
    pub(super) certificate: ClientCertificate,
    pub(super) is_http2: bool,
    pub(super) is_challenge: bool,
}

/// A handshake that failed.
pub(super) struct Failed<S> {
    pub(super) error: io::Error,
    pub(super) socket: Option<S>,
}

impl Tls {
    pub(super) fn open(_: Certificate, _: Option<&config::ClientCertificates>) -> Result<Self, Error> {
        Err(Error::Tls { cause: "this program was built without the feature tls".into() })
    }

    pub(super) async fn accept<S>(&self, _: S) -> Result<Accepted<S>, Failed<S>> {
        match *self {}
    }

    pub(super) fn log_failure(&self, _: Peer, _: &io::Error) {
        match *self {}
    }

    pub(super) fn is_for(&self) -> Box<dyn Fn(&str) -> bool + Send + Sync> {
        match *self {}
    }
}

pub(crate) fn check_tls(_: &config::Tls) -> Result<Vec<(&'static str, String)>, (&'static str, String)> {
    Err(("http.tls.cert", "this program was built without the feature tls".to_owned()))
}

pub(super) fn check_authorities(_: &config::ClientCertificates) -> Result<(), (&'static str, String)> {
    Err(("http.tls.cacert", "this program was built without the feature tls".to_owned()))
}
