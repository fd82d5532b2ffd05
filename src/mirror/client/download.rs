//! [`Download`]: the bytes of a blob, while they arrive.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::time::timeout;

use super::Error;
use super::slots::Slot;

/// The bytes of a blob, while they arrive. There are never more than its size.
#[derive(Debug)]
pub(crate) struct Download {
    host: String,
    body: Incoming,
    idle: Duration,
    /// The offset of the first byte in the blob. It is 0 if the upstream does not support ranges.
    pub(crate) offset: u64,
    pub(crate) size: u64,
    /// The bytes that have not arrived yet.
    left: u64,
    _slot: Slot,
}

impl Download {
    /// `idle` is the longest pause between two parts of the body.
    pub(super) fn new(host: String, body: Incoming, idle: Duration, offset: u64, size: u64, slot: Slot) -> Self {
        Self { host, body, idle, offset, size, left: size.saturating_sub(offset), _slot: slot }
    }

    /// Returns the next bytes, or `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            let frame = timeout(self.idle, self.body.frame()).await;
            let frame = frame.map_err(|_| Error::Timeout { host: self.host.clone(), after: self.idle })?;
            match frame {
                None => return Ok(None),
                Some(Err(error)) => return Err(Error::broken(&self.host, &error)),
                Some(Ok(frame)) => {
                    let Ok(bytes) = frame.into_data() else { continue };
                    self.left = self.left.checked_sub(bytes.len() as u64).ok_or_else(|| Error::Invalid {
                        host: self.host.clone(),
                        cause: format!("the blob has more than {} bytes", self.size),
                    })?;
                    return Ok(Some(bytes));
                }
            }
        }
    }
}
