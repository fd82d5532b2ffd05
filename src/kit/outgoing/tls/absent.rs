//! [`Tls`] of a build without the feature `tls`: every connection fails.

use std::io;

use super::{Error, HandshakeError, LACKS_TLS, Trust};

/// A stream with TLS. No connection reaches it.
pub(crate) type TlsStream<S> = S;

/// Begins no TLS.
#[derive(Clone)]
pub(crate) struct Tls;

impl Tls {
    pub(crate) fn new(_: &Trust, _: &[&[u8]]) -> Result<Self, Error> {
        Ok(Self)
    }

    pub(crate) async fn connect<S>(&self, _: String, _: S) -> Result<TlsStream<S>, HandshakeError> {
        Err(HandshakeError::Broken(io::Error::other(LACKS_TLS)))
    }
}

pub(crate) fn protocol<S>(_: &TlsStream<S>) -> Option<&[u8]> {
    None
}
