//! What stands for [`super::sendfile`] where there is no `sendfile(2)` that is worth it: blobs are read and written.

use std::io;

use bytes::Bytes;
use tokio::net::TcpStream;

use crate::http::Body;

/// Nothing is sent from files.
#[derive(Clone, Debug, Default)]
pub(super) struct Windows;

impl Windows {
    /// The body hands out what it reads.
    pub(super) fn next(&self, _body: &mut Body) -> Option<io::Result<Bytes>> {
        None
    }
}

/// The socket itself.
pub(super) struct FileSocket;

impl FileSocket {
    #[expect(clippy::new_ret_no_self, reason = "there is nothing to add to the socket")]
    pub(super) fn new(socket: TcpStream, _windows: Windows) -> TcpStream {
        socket
    }
}
