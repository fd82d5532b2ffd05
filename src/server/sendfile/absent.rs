//! Sending on systems other than Linux: blobs are read and written.

use std::sync::Arc;

use bytes::Bytes;

use super::socket::Socket;
use crate::http::Body;
use crate::kit::log_limit::LogLimit;

#[derive(Clone, Debug)]
pub(super) struct Windows;

impl Windows {
    pub(super) fn new(_unmapped: Arc<LogLimit>) -> Self {
        Self
    }

    pub(super) fn next(&self, _body: &mut Body) -> Option<Bytes> {
        None
    }
}

pub(super) struct FileSocket;

impl FileSocket {
    #[expect(clippy::new_ret_no_self, reason = "there is nothing to add to the socket")]
    pub(super) fn new(socket: Socket, _windows: Windows) -> Socket {
        socket
    }
}
