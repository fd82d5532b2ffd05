//! [`Announced`]: a body whose length the server learns, and which never comes.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

/// A body of this many bytes that never comes.
pub(super) struct Announced {
    pub(super) length: u64,
}

impl Body for Announced {
    type Data = Bytes;
    type Error = Infallible;

    /// Nothing wakes the task: the response or the deadline ends the request.
    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Pending
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.length)
    }
}
