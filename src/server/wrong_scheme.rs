//! [`WrongScheme`]: a client that speaks TLS to a plain port, or plain HTTP to a TLS port.
//!
//! Both get a response in plain HTTP. A client that expected TLS cannot read it, but recognizes it: Go's clients print
//! "server gave HTTP response to HTTPS client", which says more than any TLS alert.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};

use super::Peer;
use crate::oci::ErrorCode;

/// The first byte of a TLS handshake: the type of its record.
const TLS_HANDSHAKE: u8 = 0x16;

/// The mistakes that were logged. Each mistake is logged once, because its clients try again and again.
#[derive(Debug, Default)]
pub(super) struct WrongScheme {
    plain: AtomicBool,
    tls: AtomicBool,
}

/// The mistake of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mistake {
    /// TLS to a plain port.
    Tls,
    /// Plain HTTP to a TLS port.
    Plain,
}

impl Mistake {
    /// Finds the mistake in the first byte that a client sends. HTTP begins with the letters of a method.
    pub(super) fn find(first: u8, has_tls: bool) -> Option<Self> {
        match (first, has_tls) {
            (TLS_HANDSHAKE, false) => Some(Self::Tls),
            (_, true) if first.is_ascii_alphabetic() => Some(Self::Plain),
            _ => None,
        }
    }

    const fn message(self) -> &'static str {
        match self {
            Self::Tls => "this port speaks plain HTTP and the client spoke TLS: use http:// instead of https://",
            Self::Plain => "this port speaks HTTPS and the client spoke plain HTTP: use https:// instead of http://",
        }
    }

    /// A whole response, in the form that clients of registries read.
    fn response(self) -> String {
        let error = json!({ "code": ErrorCode::Unsupported.as_str(), "message": self.message(), "detail": null });
        let body = format!("{}\n", json!({ "errors": [error] }));
        format!(
            "HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
             Connection: close\r\n\r\n{body}",
            body.len()
        )
    }
}

impl WrongScheme {
    /// Answers a client that made a mistake, and closes its connection.
    pub(super) async fn refuse(
        &self,
        mistake: Mistake,
        mut socket: impl AsyncWrite + Unpin,
        peer: Peer,
    ) -> io::Result<()> {
        match mistake {
            // docker tries https first with every registry on the same machine.
            Mistake::Tls if !self.tls.swap(true, Ordering::Relaxed) => tracing::info!(
                %peer,
                "a client spoke TLS to this port, which speaks plain HTTP: set http.tls, or tell the client to use \
                 http:// (logged once)"
            ),
            Mistake::Plain if !self.plain.swap(true, Ordering::Relaxed) => tracing::warn!(
                %peer,
                "a client spoke plain HTTP to this port, which speaks HTTPS: tell the client to use https://; \
                 credentials that it sent were readable on the network (logged once)"
            ),
            _ => tracing::debug!(%peer, ?mistake, "a client used the wrong scheme"),
        }
        socket.write_all(mistake.response().as_bytes()).await?;
        socket.shutdown().await
    }
}
