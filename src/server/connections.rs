//! [`Connections`]: counts the open connections and the requests of each address, and chooses the connection to close for
//! a new one.
//!
//! A connection without a request in flight is idle, also while the head of a request arrives. When the limit is
//! reached, the connection that has been idle longest is closed. One whose request was refused for lack of a place is
//! closed before it. A connection with a request in flight is never closed, unless the registry waits for a small body
//! of a client that has not authenticated. Each address has a share, so that one client cannot use all connections. A
//! reserve beyond the limit is for probes: the registry reads a request there, and handles it if it is a probe or if a
//! place becomes free soon.
//!
//! A request other than a probe needs a place. The places are as many as the connections, and the share of an address
//! limits both: a request has an open blob and memory of its own, and an HTTP/2 connection has up to a hundred requests.

mod counts;
#[cfg(test)]
mod tests;
mod waiting;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

use self::counts::Counts;
use self::waiting::{Queue, Waiting};
use crate::config::{Limits, Network};
use crate::http::Arriving;
use crate::kit::network::client_network;

/// The reserve is a sixteenth of the limit, within these bounds.
const RESERVE_MIN: usize = 4;
const RESERVE_MAX: usize = 64;

/// All connections of one server.
#[derive(Debug)]
pub(super) struct Connections {
    limits: ConnectionLimits,
    state: Mutex<State>,
    /// Notified when there may be room again, because a connection has ended or become idle.
    room_made: Notify,
}

#[derive(Clone, Copy, Debug)]
struct ConnectionLimits {
    /// The most connections, and the most places, one for each request in flight. A probe needs no place.
    total: usize,
    /// The most connections, and the most places, of one address.
    share: usize,
    /// Connections beyond the limit.
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
    /// Those of requests whose bodies are still arriving, from clients that have not authenticated. Others may have them
    /// meanwhile, so there may be too many for a moment when the bodies have arrived.
    lent: Counts,
    /// Requests that wait for a place.
    waiting: Queue,
    /// Whether the last check found no room, so that a task may wait for [`Connections::room_made`].
    is_full: bool,
    /// Counts up with every connection that begins or becomes idle.
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
    /// As in its [`Entry`].
    address: Option<IpAddr>,
    /// Notified when the connection must close, or the server stops.
    signal: Arc<Notify>,
}

/// A request in flight.
#[derive(Debug)]
pub(super) struct InFlight {
    connection: ConnectionHandle,
    /// Changes while the state is locked, or by the one task that waits for the place.
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
        Self { limits, state: Mutex::default(), room_made: Notify::new() }
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

    /// Notes that a connection has become idle, if it has. The task that accepts connections may close it for another one.
    fn note_idle(&self, state: &mut State, index: usize) {
        let idle_number = state.idle_number + 1;
        let entry = state.entry(index);
        if entry.requests != entry.arriving {
            return;
        }
        entry.idle_number = idle_number;
        state.idle_number = idle_number;
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
        Ok(ConnectionHandle(Arc::new(HandleInner { connections: Arc::clone(self), index, address, signal })))
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

    /// The entry of a connection that has a handle.
    fn entry(&mut self, index: usize) -> &mut Entry {
        self.entries[index].as_mut().expect("it stays until the last handle is dropped")
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
        let (taken, lent) = (self.places.total(), self.lent.total());
        // Each request calls this. While few places are taken, it needs no lookup of the address.
        let is_free = taken < limits.total + lent
            && (taken < limits.share || self.places.of(address) < limits.share + self.lent.of(address));
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
        let entry = self.entry(index);
        if std::mem::take(&mut entry.is_closing) {
            let address = entry.address;
            self.closing -= 1;
            self.open.add(address);
        }
    }

    fn close_longest_idle(&mut self, address: Option<IpAddr>) -> bool {
        let Some(index) = self.longest_idle(address) else { return false };
        let entry = self.entry(index);
        entry.is_closing = true;
        entry.signal.notify_one();
        let address = entry.address;
        self.open.remove(address);
        self.closing += 1;
        true
    }
}

impl ConnectionHandle {
    /// The most requests in flight that the connection may have a place for.
    pub(super) fn places_max(&self) -> usize {
        let limits = self.0.connections.limits;
        if self.0.address.is_some() { limits.share.min(limits.total) } else { limits.total }
    }

    /// Begins a request on the connection.
    pub(super) fn request(&self) -> InFlight {
        let HandleInner { connections, index, address, .. } = &*self.0;
        let mut state = connections.lock();
        let entry = state.entry(*index);
        entry.requests += 1;
        entry.is_refused = false;
        // The request arrived before the connection was closed, so the connection stays.
        state.keep(*index);
        let has_place = state.take_place(*address, connections.limits);
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
        self.0.connections.lock().entry(self.0.index).is_closing
    }

    /// Whether so many connections are being closed that this one must close at once.
    pub(super) fn is_urgent(&self) -> bool {
        let connections = &self.0.connections;
        connections.lock().closing > connections.limits.reserve
    }
}

impl InFlight {
    /// Takes a place, unless the request has one. Returns false if none is free.
    pub(super) fn take_place(&self) -> bool {
        if self.has_place.load(Ordering::Relaxed) {
            return true;
        }
        let HandleInner { connections, address, .. } = &*self.connection.0;
        let mut state = connections.lock();
        let has_place = state.take_place(*address, connections.limits);
        self.has_place.store(has_place, Ordering::Relaxed);
        has_place
    }

    /// Gives the place to other requests, because the rest of this one costs little.
    pub(super) fn free_place(&self) {
        let HandleInner { connections, address, .. } = &*self.connection.0;
        let mut state = connections.lock();
        if self.has_place.swap(false, Ordering::Relaxed) {
            state.places.remove(*address);
            state.give_places(connections.limits);
        }
    }

    /// Says that the request is refused for lack of a place.
    pub(super) fn refuse(&self) {
        let HandleInner { connections, index, .. } = &*self.connection.0;
        connections.lock().entry(*index).is_refused = true;
    }

    /// The connection, to be told while a body arrives.
    pub(super) fn arriving(&self) -> Arc<dyn Arriving> {
        Arc::clone(&self.connection.0) as Arc<dyn Arriving>
    }

    /// Waits for a place. Returns false if too many requests wait already, or the wait takes too long.
    pub(super) async fn wait_for_place(&self) -> bool {
        let HandleInner { connections, address, .. } = &*self.connection.0;
        let Some(waiting) = Waiting::begin(connections, *address) else { return false };
        let has_place = waiting.place().await;
        self.has_place.store(has_place, Ordering::Relaxed);
        has_place
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let HandleInner { connections, index, address, .. } = &*self.connection.0;
        let mut state = connections.lock();
        state.entry(*index).requests -= 1;
        connections.note_idle(&mut state, *index);
        if *self.has_place.get_mut() {
            state.places.remove(*address);
            state.give_places(connections.limits);
        }
    }
}

impl Arriving for HandleInner {
    fn begin(&self) {
        let mut state = self.connections.lock();
        state.entry(self.index).arriving += 1;
        state.lent.add(self.address);
        self.connections.note_idle(&mut state, self.index);
        state.give_places(self.connections.limits);
    }

    fn end(&self) {
        let mut state = self.connections.lock();
        state.entry(self.index).arriving -= 1;
        state.lent.remove(self.address);
        // The body arrived before the connection was closed, so the connection stays.
        state.keep(self.index);
    }
}

impl Drop for HandleInner {
    fn drop(&mut self) {
        self.connections.lock().remove(self.index);
        self.connections.room_made.notify_waiters();
    }
}
