//! [`Waiting`] and [`Queue`]: requests that wait for a place get the free ones in the order of their arrival.
//!
//! A place that becomes free goes to the first of them whose address may have one more. If none may, it stays free, and a
//! new request may take it without overtaking.

use std::net::IpAddr;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;

use super::{ConnectionLimits, Connections, State};

/// A request that finds no free place waits this long for one.
pub(super) const PLACE_WAIT: Duration = Duration::from_secs(10);

/// One address may have at least as many waiting requests, also if others cannot wait then.
const SHARE_MIN: usize = 2;

/// The requests that wait, those that arrived first before the others. They are few, so searching is cheap.
#[derive(Debug, Default)]
pub(super) struct Queue(Vec<Waiter>);

#[derive(Debug)]
struct Waiter {
    address: Option<IpAddr>,
    given: oneshot::Sender<()>,
}

impl Queue {
    #[cfg(test)]
    pub(super) const fn len(&self) -> usize {
        self.0.len()
    }

    fn may_wait(&self, address: Option<IpAddr>, limits: ConnectionLimits) -> bool {
        // The rest of the reserve is for heads and probes, and unless it is small, others can wait as well.
        let max = limits.reserve / 2;
        let share = SHARE_MIN.max(max / 2);
        let of_address = self.0.iter().filter(|waiter| address.is_some() && waiter.address == address);
        self.0.len() < max && of_address.count() < share
    }
}

impl State {
    /// Gives the free places to requests that wait. Must be called whenever a place may have become free.
    pub(super) fn give_places(&mut self, limits: ConnectionLimits) {
        let mut next = 0;
        while let Some(waiter) = self.waiting.0.get(next) {
            if self.take_place(waiter.address, limits) {
                let given = self.waiting.0.remove(next).given.send(());
                debug_assert!(given.is_ok(), "a request leaves the queue before its receiver is dropped");
            } else {
                next += 1;
            }
        }
    }
}

/// A request that waits for a place, until this is dropped.
pub(super) struct Waiting<'a> {
    connections: &'a Connections,
    address: Option<IpAddr>,
    given: oneshot::Receiver<()>,
}

impl<'a> Waiting<'a> {
    /// Returns `None` if too many requests wait already.
    pub(super) fn begin(connections: &'a Connections, address: Option<IpAddr>) -> Option<Self> {
        let mut state = connections.lock();
        state.waiting.may_wait(address, connections.limits).then(|| {
            let (sender, given) = oneshot::channel();
            state.waiting.0.push(Waiter { address, given: sender });
            // One may have become free since the request found none.
            state.give_places(connections.limits);
            Self { connections, address, given }
        })
    }

    /// Returns true when the request has a place, which it must give back, and false if the wait takes too long.
    pub(super) async fn place(mut self) -> bool {
        matches!(timeout(PLACE_WAIT, &mut self.given).await, Ok(Ok(())))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut state = self.connections.lock();
        self.given.close();
        state.waiting.0.retain(|waiter| !waiter.given.is_closed());
        // It was given a place that it did not take, because its client has left or its time was over.
        if self.given.try_recv().is_ok() {
            state.places.remove(self.address);
            state.give_places(self.connections.limits);
        }
    }
}
