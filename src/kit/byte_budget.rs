//! [`ByteBudget`]: a limit on bytes in memory that wait for slow clients.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// A number of bytes that may be in memory at once.
#[derive(Clone, Debug)]
pub(crate) struct ByteBudget {
    free: Arc<Semaphore>,
    total: u32,
}

/// A part of a [`ByteBudget`]. It is free again when this is dropped.
#[derive(Debug)]
pub(crate) struct ReservedBytes(#[expect(dead_code, reason = "dropping it frees the bytes")] OwnedSemaphorePermit);

impl ByteBudget {
    pub(crate) fn new(total: u32) -> Self {
        Self { free: Arc::new(Semaphore::new(total as usize)), total }
    }

    /// Reserves bytes. Waits up to `wait` for others to be freed, and then returns `None`. More bytes than the total count
    /// as the total, so that each size can be reserved.
    pub(crate) async fn reserve(&self, bytes: u64, wait: Duration) -> Option<ReservedBytes> {
        let permit = Arc::clone(&self.free).acquire_many_owned(self.limit(bytes));
        Some(ReservedBytes(timeout(wait, permit).await.ok()?.ok()?))
    }

    /// Reserves bytes if they are free now.
    pub(crate) fn try_reserve(&self, bytes: u64) -> Option<ReservedBytes> {
        Arc::clone(&self.free).try_acquire_many_owned(self.limit(bytes)).ok().map(ReservedBytes)
    }

    fn limit(&self, bytes: u64) -> u32 {
        u32::try_from(bytes).unwrap_or(u32::MAX).min(self.total)
    }
}

impl ReservedBytes {
    /// Keeps these bytes reserved until the last copy of them is dropped.
    pub(crate) fn hold(self, bytes: Bytes) -> Bytes {
        struct Held {
            bytes: Bytes,
            _reserved: ReservedBytes,
        }
        impl AsRef<[u8]> for Held {
            fn as_ref(&self) -> &[u8] {
                &self.bytes
            }
        }
        Bytes::from_owner(Held { bytes, _reserved: self })
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn bytes_are_reserved_until_their_last_copy_is_dropped() {
        let budget = ByteBudget::new(10);
        let reserved = budget.reserve(8, Duration::ZERO).await.unwrap();
        let mut bytes = reserved.hold(Bytes::from_static(b"01234567"));
        let part = bytes.split_to(1);
        drop(bytes);
        assert!(budget.try_reserve(3).is_none() && budget.try_reserve(2).is_some());
        assert!(budget.reserve(3, Duration::from_secs(1)).await.is_none());
        assert_eq!(part, "0");
        drop(part);
        assert!(budget.try_reserve(1000).is_some(), "more than the total counts as the total");
    }
}
