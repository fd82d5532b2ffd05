//! [`Connections`]: counts the open connections of each address, and chooses the one to close for a new one.
//!
//! A connection without a request in flight is idle, also while the head of a request arrives. When the limit is
//! reached, the connection that has been idle longest is closed. One whose request was refused for lack of a place is
//! closed before it. A connection with a request in flight is never closed, unless the registry waits for a small body
//! of a client that has not authenticated. Each address has a share, so that one client cannot use all connections. A
//! reserve beyond the limit is for probes: the registry reads a request there, and handles it if it is a probe or if a
//! place becomes free soon.
//!
//! Each request in flight has a place. The places are as many as the connections, and the share of an address limits both:
//! a request has an open blob and memory of its own, and an HTTP/2 connection has up to a hundred requests.

mod counts;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use self::counts::Counts;
use crate::config::{Limits, Network};
use crate::http::Arriving;
use crate::kit::network::client_network;

/// The reserve is a sixteenth of the limit, within these bounds.
const RESERVE_MIN: usize = 4;
const RESERVE_MAX: usize = 64;
/// A request that finds no free place waits this long for one.
const PLACE_WAIT: Duration = Duration::from_secs(10);

/// All connections of one server.
#[derive(Debug)]
pub(super) struct Connections {
    limits: ConnectionLimits,
    state: Mutex<State>,
    /// Notified when there may be room again, because a connection has ended or become idle.
    room_made: Notify,
    /// Notified when a place is free again.
    freed: Notify,
}

#[derive(Clone, Copy, Debug)]
struct ConnectionLimits {
    /// The most connections, and the most places, one for each request in flight. A probe needs no place.
    total: usize,
    /// The most connections, and the most places, of one address.
    share: usize,
    /// Connections beyond the limit. Half of them may wait for a place. The other half is for heads and probes.
    reserve: usize,
}

#[derive(Debug, Default)]
struct State {
    entries: Vec<Option<Entry>>,
    /// Unused indices of `entries`.
    unused: Vec<usize>,
    /// Connections that are not being closed.
    open: Counts,
    closing: usize,
    /// Places that are taken.
    places: Counts,
    waiting: usize,
    /// Whether the last check found no room, so that a task may wait for [`Connections::room_made`].
    is_full: bool,
    /// Counts up with every connection that becomes idle.
    idle_number: u64,
}

#[derive(Debug)]
struct Entry {
    /// `None` for a trusted proxy and for a unix socket, which have no share.
    address: Option<IpAddr>,
    requests: usize,
    /// Those of the requests whose bodies are still arriving, from clients that have not authenticated.
    arriving: usize,
    /// Whether a request was refused for lack of a place, so that nothing but the rest of its body is expected.
    is_refused: bool,
    is_closing: bool,
    /// Orders idle connections: the smallest has been idle longest.
    idle_number: u64,
    signal: Arc<Notify>,
}

/// An address has too many connections, and none of them is idle.
#[derive(Clone, Copy, Debug)]
pub(super) struct Full;

/// One open connection. It is counted until the last clone is dropped.
#[derive(Clone, Debug)]
pub(super) struct ConnectionHandle(Arc<HandleInner>);

#[derive(Debug)]
struct HandleInner {
    connections: Arc<Connections>,
    index: usize,
    /// Notified when the connection must close, or the server stops.
    signal: Arc<Notify>,
}

/// A request in flight.
#[derive(Debug)]
pub(super) struct InFlight {
    connection: ConnectionHandle,
    /// Changes only while the state is locked.
    has_place: AtomicBool,
}

impl Connections {
    pub(super) fn new(config: &Limits) -> Self {
        let total = config.max_connections;
        let share = match config.max_connections_per_address {
            0 => total - total / 4,
            share => share,
        };
        let limits = ConnectionLimits { total, share, reserve: (total / 16).clamp(RESERVE_MIN, RESERVE_MAX) };
        Self { limits, state: Mutex::default(), room_made: Notify::new(), freed: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Waits until one more connection may be accepted.
    pub(super) async fn room(&self) {
        loop {
            let room_made = self.room_made.notified();
            if self.has_room() {
                return;
            }
            room_made.await;
        }
    }

    fn has_room(&self) -> bool {
        let (mut state, limits) = (self.lock(), self.limits);
        let has_place = state.open.total() < limits.total + limits.reserve || state.longest_idle(None).is_some();
        // A connection that is being closed still has a file handle and memory.
        let has_room = has_place && state.open.total() + state.closing < limits.total + 2 * limits.reserve;
        state.is_full = !has_room;
        has_room
    }

    /// Wakes the task that accepts connections, if a connection that has become idle can be closed for another one.
    fn became_idle(&self, state: &State) {
        if state.is_full {
            self.room_made.notify_waiters();
        }
    }

    /// Registers an accepted connection, and closes an idle one for it if necessary. A trusted proxy serves many clients,
    /// and so does a unix socket, so they have no share.
    pub(super) fn open(self: &Arc<Self>, peer: Option<IpAddr>, proxies: &[Network]) -> Result<ConnectionHandle, Full> {
        let is_proxy = |peer: &IpAddr| proxies.iter().any(|proxy| proxy.contains(*peer));
        let address = peer.filter(|peer| !is_proxy(peer)).map(client_network);
        let (mut state, limits) = (self.lock(), self.limits);
        let open = state.open.of(address);
        if open >= limits.share && !state.make_room(open - limits.share, limits.reserve, address) {
            return Err(Full);
        }
        if let Some(beyond) = state.open.total().checked_sub(limits.total) {
            // Without an idle connection this uses the reserve. There was room before the connection was accepted.
            state.make_room(beyond, limits.reserve, None);
        }
        let signal = Arc::new(Notify::new());
        let index = state.insert(address, Arc::clone(&signal));
        Ok(ConnectionHandle(Arc::new(HandleInner { connections: Arc::clone(self), index, signal })))
    }

    /// Closes the connection that has been idle longest, because the system has run out of file handles.
    pub(super) fn close_one(&self) {
        self.lock().close_longest_idle(None);
    }

    /// Wakes every connection. Each then checks whether the server stops.
    pub(super) fn notify_all(&self) {
        self.lock().entries.iter().flatten().for_each(|entry| entry.signal.notify_one());
    }
}

impl State {
    fn insert(&mut self, address: Option<IpAddr>, signal: Arc<Notify>) -> usize {
        self.idle_number += 1;
        let entry = Entry {
            address,
            requests: 0,
            arriving: 0,
            is_refused: false,
            is_closing: false,
            idle_number: self.idle_number,
            signal,
        };
        self.open.add(address);
        if let Some(index) = self.unused.pop() {
            self.entries[index] = Some(entry);
            return index;
        }
        self.entries.push(Some(entry));
        self.entries.len() - 1
    }

    fn remove(&mut self, index: usize) {
        let Some(entry) = self.entries[index].take() else { return };
        self.unused.push(index);
        if entry.is_closing {
            self.closing -= 1;
        } else {
            self.open.remove(entry.address);
        }
    }

    /// Takes a place for a request of an address, if one is free.
    fn take_place(&mut self, address: Option<IpAddr>, limits: ConnectionLimits) -> bool {
        let taken = self.places.total();
        // Each request calls this. While few places are taken, it needs no lookup of the address.
        let is_free = taken < limits.total && (taken < limits.share || self.places.of(address) < limits.share);
        if is_free {
            self.places.add(address);
        }
        is_free
    }

    /// Idle connections, of one address or of all.
    fn idle(&self, address: Option<IpAddr>) -> impl Iterator<Item = (usize, &Entry)> {
        let entries = self.entries.iter().enumerate().filter_map(|(index, entry)| Some((index, entry.as_ref()?)));
        entries.filter(move |(_, entry)| {
            entry.requests == entry.arriving && !entry.is_closing && (address.is_none() || entry.address == address)
        })
    }

    fn longest_idle(&self, address: Option<IpAddr>) -> Option<usize> {
        self.idle(address).min_by_key(|(_, entry)| (!entry.is_refused, entry.idle_number)).map(|(index, _)| index)
    }

    /// Makes room for a new connection when `beyond` are open beyond the limit. Returns false if nothing can be closed
    /// and the reserve is used up. A few idle connections stay while the reserve has room, because their requests may be
    /// arriving.
    fn make_room(&mut self, beyond: usize, reserve: usize, address: Option<IpAddr>) -> bool {
        let is_reserve_free = beyond < reserve;
        if is_reserve_free && self.idle(address).nth(reserve / 2).is_none() {
            return true;
        }
        self.close_longest_idle(address) || is_reserve_free
    }

    /// Keeps a connection open that was to be closed.
    fn keep(&mut self, index: usize) {
        let Some(entry) = &mut self.entries[index] else { return };
        if std::mem::take(&mut entry.is_closing) {
            let address = entry.address;
            self.closing -= 1;
            self.open.add(address);
        }
    }

    fn close_longest_idle(&mut self, address: Option<IpAddr>) -> bool {
        let Some(index) = self.longest_idle(address) else { return false };
        let Some(entry) = &mut self.entries[index] else { return false };
        entry.is_closing = true;
        entry.signal.notify_one();
        let address = entry.address;
        self.open.remove(address);
        self.closing += 1;
        true
    }
}

impl ConnectionHandle {
    /// Begins a request on the connection.
    pub(super) fn request(&self) -> InFlight {
        let mut state = self.0.connections.lock();
        let state = &mut *state;
        if let Some(entry) = &mut state.entries[self.0.index] {
            entry.requests += 1;
            entry.is_refused = false;
            // The request arrived before the connection was closed, so the connection stays.
            state.keep(self.0.index);
        }
        let address = state.entries[self.0.index].as_ref().and_then(|entry| entry.address);
        let has_place = state.take_place(address, self.0.connections.limits);
        InFlight { connection: self.clone(), has_place: has_place.into() }
    }

    /// Returns when the connection may have to end, because another one needs its room or the server stops.
    pub(super) async fn signalled(&self) {
        self.0.signal.notified().await;
    }

    /// Returns when the connection must be closed for another one.
    pub(super) async fn must_close(&self) {
        loop {
            self.signalled().await;
            if self.is_closing() {
                return;
            }
        }
    }

    /// Whether the connection is to be closed, and no request has come since that was decided.
    pub(super) fn is_closing(&self) -> bool {
        let state = self.0.connections.lock();
        state.entries[self.0.index].as_ref().is_some_and(|entry| entry.is_closing)
    }

    /// Whether so many connections are being closed that this one must close at once.
    pub(super) fn is_urgent(&self) -> bool {
        let connections = &self.0.connections;
        connections.lock().closing > connections.limits.reserve
    }
}

impl InFlight {
    /// Whether the request has a place or gets one now.
    pub(super) fn has_place(&self) -> bool {
        if self.has_place.load(Ordering::Relaxed) {
            return true;
        }
        let HandleInner { connections, index, .. } = &*self.connection.0;
        let mut state = connections.lock();
        let Some(address) = state.entries[*index].as_ref().map(|entry| entry.address) else { return false };
        let has_place = state.take_place(address, connections.limits);
        self.has_place.store(has_place, Ordering::Relaxed);
        has_place
    }

    /// Says that the request is refused for lack of a place.
    pub(super) fn refuse(&self) {
        let HandleInner { connections, index, .. } = &*self.connection.0;
        if let Some(entry) = &mut connections.lock().entries[*index] {
            entry.is_refused = true;
        }
    }

    /// The connection, to be told while a body arrives.
    pub(super) fn arriving(&self) -> Arc<dyn Arriving> {
        Arc::clone(&self.connection.0) as Arc<dyn Arriving>
    }

    /// Waits for a place. Returns false if too many requests wait already, or the wait takes too long.
    pub(super) async fn wait_for_place(&self) -> bool {
        let connections = &self.connection.0.connections;
        let Some(_waiting) = Waiting::begin(connections) else { return false };
        let deadline = Instant::now() + PLACE_WAIT;
        loop {
            let freed = connections.freed.notified();
            if self.has_place() {
                return true;
            }
            if timeout_at(deadline, freed).await.is_err() {
                return false;
            }
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let HandleInner { connections, index, .. } = &*self.connection.0;
        let mut state = connections.lock();
        let state = &mut *state;
        let Some(entry) = &mut state.entries[*index] else { return };
        let address = entry.address;
        entry.requests -= 1;
        if entry.requests == 0 {
            state.idle_number += 1;
            entry.idle_number = state.idle_number;
            connections.became_idle(state);
        }
        if *self.has_place.get_mut() {
            state.places.remove(address);
            if state.waiting > 0 {
                connections.freed.notify_waiters();
            }
        }
    }
}

impl Arriving for HandleInner {
    fn begin(&self) {
        let mut state = self.connections.lock();
        let state = &mut *state;
        let Some(entry) = &mut state.entries[self.index] else { return };
        entry.arriving += 1;
        if entry.arriving == entry.requests {
            state.idle_number += 1;
            entry.idle_number = state.idle_number;
            self.connections.became_idle(state);
        }
    }

    fn end(&self) {
        let mut state = self.connections.lock();
        let state = &mut *state;
        if let Some(entry) = &mut state.entries[self.index] {
            entry.arriving -= 1;
        }
        // The body arrived before the connection was closed, so the connection stays.
        state.keep(self.index);
    }
}

impl Drop for HandleInner {
    fn drop(&mut self) {
        self.connections.lock().remove(self.index);
        self.connections.room_made.notify_waiters();
        self.connections.freed.notify_waiters();
    }
}

/// Counts a request that waits for a place, until this is dropped.
struct Waiting<'a>(&'a Connections);

impl<'a> Waiting<'a> {
    fn begin(connections: &'a Connections) -> Option<Self> {
        let mut state = connections.lock();
        let may_wait = state.waiting < connections.limits.reserve / 2;
        state.waiting += usize::from(may_wait);
        may_wait.then(|| Self(connections))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.lock().waiting -= 1;
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[tokio::test]
    async fn there_is_room_when_a_connection_becomes_idle() {
        let limits = Limits { max_connections: 4, ..crate::config::Config::default().http.limits };
        let connections = Arc::new(Connections::new(&limits));
        let mut all = Vec::new();
        while connections.has_room() {
            // Each from an address of its own, which has a share of three.
            let peer = IpAddr::from([192, 0, 2, u8::try_from(all.len()).unwrap()]);
            let connection = connections.open(Some(peer), &[]).unwrap();
            let request = connection.request();
            all.push((connection, Some(request)));
        }
        let waiting = tokio::spawn({
            let connections = Arc::clone(&connections);
            async move { connections.room().await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        // The request ends, and the connection stays open.
        all[0].1 = None;
        tokio::time::timeout(Duration::from_secs(10), waiting).await.unwrap().unwrap();
    }
}
