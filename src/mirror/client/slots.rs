//! [`Slots`]: how many requests an upstream gets at a time. The others wait in the order in which they came.
//!
//! Blobs do not take all slots, so that a tag is compared while large blobs arrive.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The most requests that wait for a slot of one upstream.
const WAITING_MAX: usize = 1024;

/// The purpose of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A manifest, a list, or only the head of a response.
    Short,
    Blob,
}

#[derive(Clone, Debug)]
pub(super) struct Slots {
    all: Arc<Semaphore>,
    /// A blob takes one of these first.
    blobs: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
}

/// The right to send one request, and to receive its response.
#[derive(Debug)]
pub(super) struct Slot {
    _permits: (Option<OwnedSemaphorePermit>, OwnedSemaphorePermit),
}

/// Counts a request that waits.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Slots {
    pub(super) fn new(concurrency: usize) -> Self {
        let all = concurrency.clamp(1, Semaphore::MAX_PERMITS);
        // One of four is for short requests, if there are several.
        let blobs = all - (all / 4).max(usize::from(all > 1));
        Self { all: Arc::new(Semaphore::new(all)), blobs: Arc::new(Semaphore::new(blobs)), waiting: Arc::default() }
    }

    /// Waits for a slot. Returns `None` if too many others wait already.
    pub(super) async fn acquire(&self, kind: Kind) -> Option<Slot> {
        let waiting = Waiting(&self.waiting);
        if waiting.0.fetch_add(1, Ordering::Relaxed) >= WAITING_MAX {
            return None;
        }
        let blob = match kind {
            Kind::Short => None,
            Kind::Blob => Some(Arc::clone(&self.blobs).acquire_owned().await.ok()?),
        };
        Some(Slot { _permits: (blob, Arc::clone(&self.all).acquire_owned().await.ok()?) })
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    /// Whether a future is ready at once.
    fn at_once<T>(future: impl Future<Output = T>) -> Option<T> {
        match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            std::task::Poll::Ready(value) => Some(value),
            std::task::Poll::Pending => None,
        }
    }

    #[test]
    fn blobs_leave_a_slot_for_short_requests() {
        let slots = Slots::new(4);
        let blobs: Vec<_> = (0..3).map(|_| at_once(slots.acquire(Kind::Blob)).flatten().expect("a slot")).collect();
        assert!(at_once(slots.acquire(Kind::Blob)).is_none(), "the fourth blob waits");
        let short = at_once(slots.acquire(Kind::Short)).flatten().expect("a slot");
        assert!(at_once(slots.acquire(Kind::Short)).is_none());
        drop((blobs, short));
        assert!(at_once(slots.acquire(Kind::Blob)).flatten().is_some());
        assert!(at_once(Slots::new(1).acquire(Kind::Blob)).flatten().is_some(), "one slot is for all");
    }

    #[test]
    fn the_queue_has_a_limit() {
        let slots = Slots::new(1);
        let _slot = at_once(slots.acquire(Kind::Short)).flatten().expect("a slot");
        let mut context = Context::from_waker(Waker::noop());
        let mut waiting: Vec<_> = (0..WAITING_MAX).map(|_| Box::pin(slots.acquire(Kind::Short))).collect();
        for request in &mut waiting {
            assert!(request.as_mut().poll(&mut context).is_pending());
        }
        assert!(matches!(at_once(slots.acquire(Kind::Short)), Some(None)), "it does not wait");
        drop(waiting);
        assert!(at_once(slots.acquire(Kind::Short)).is_none(), "it waits");
    }
}
