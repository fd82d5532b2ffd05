//! [`HashQueue`]: limits how many passwords are hashed at a time.
//!
//! Hashing takes much memory and time on purpose. All of it passes this queue: verifying a password and hashing a new
//! one. The queue serves its callers in turn, so that many passwords of one caller do not delay one of another caller.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

/// The number of hashes at a time. Each takes 19 MiB of memory. Two use both cores of the smallest machine.
const AT_ONCE: usize = 2;
/// How many passwords may wait, of all callers and of one.
const WAITING_MAX: usize = 128;
const WAITING_OF_ONE_MAX: usize = 32;
/// A password that waits this long is refused.
const PERMIT_WAIT: Duration = Duration::from_secs(20);
/// How often a blocked thread looks for its permit.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// Too many passwords wait to be hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many passwords wait to be hashed: try again in a few seconds")]
pub(crate) struct TooBusy;

/// The origin of a password. Each has its own place in the queue.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum HashCaller {
    /// A client of this network that has not signed in.
    Network(Option<IpAddr>),
    /// A user who changes a password.
    User(String),
    /// The command line, or the library.
    Operator,
}

/// The queue.
#[derive(Debug, Default)]
pub(super) struct HashQueue(Mutex<Queue>);

#[derive(Debug)]
struct Queue {
    at_once: usize,
    running: usize,
    waiting: usize,
    callers: HashMap<HashCaller, VecDeque<oneshot::Sender<HashPermit>>>,
    /// The callers that wait, the next one first.
    order: VecDeque<HashCaller>,
}

/// The right to hash one password. Dropping it passes it on.
#[derive(Debug)]
pub(super) struct HashPermit {
    queue: Arc<HashQueue>,
}

enum Place {
    Ready(HashPermit),
    Waiting(oneshot::Receiver<HashPermit>),
}

impl Default for Queue {
    fn default() -> Self {
        Self { at_once: AT_ONCE, running: 0, waiting: 0, callers: HashMap::new(), order: VecDeque::new() }
    }
}

impl HashQueue {
    /// A queue for work that waits for another server instead of using a processor.
    pub(super) fn of(at_once: usize) -> Self {
        Self(Mutex::new(Queue { at_once, ..Queue::default() }))
    }

    /// Waits for a permit. Dropping the future leaves the queue.
    pub(super) async fn take(self: &Arc<Self>, caller: HashCaller) -> Result<HashPermit, TooBusy> {
        match self.ask(caller)? {
            Place::Ready(permit) => Ok(permit),
            Place::Waiting(permit) => timeout(PERMIT_WAIT, permit).await.ok().and_then(Result::ok).ok_or(TooBusy),
        }
    }

    /// As [`HashQueue::take`], on a blocking thread. It polls, because a blocking receive panics in a runtime.
    pub(super) fn take_blocking(self: &Arc<Self>, caller: HashCaller) -> Result<HashPermit, TooBusy> {
        let mut permit = match self.ask(caller)? {
            Place::Ready(permit) => return Ok(permit),
            Place::Waiting(permit) => permit,
        };
        let deadline = Instant::now() + PERMIT_WAIT;
        loop {
            match permit.try_recv() {
                Ok(permit) => return Ok(permit),
                Err(oneshot::error::TryRecvError::Empty) if Instant::now() < deadline => {
                    std::thread::sleep(LOOK_INTERVAL);
                }
                Err(_) => return Err(TooBusy),
            }
        }
    }

    fn ask(self: &Arc<Self>, caller: HashCaller) -> Result<Place, TooBusy> {
        let mut queue = self.lock();
        if queue.running < queue.at_once {
            queue.running += 1;
            return Ok(Place::Ready(HashPermit { queue: Arc::clone(self) }));
        }
        queue.make_room(&caller)?;
        let (sender, permit) = oneshot::channel();
        queue.push(caller, sender);
        Ok(Place::Waiting(permit))
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.0.lock()
    }
}

impl Queue {
    fn push(&mut self, caller: HashCaller, sender: oneshot::Sender<HashPermit>) {
        self.waiting += 1;
        let waiting = self.callers.entry(caller.clone()).or_default();
        if waiting.is_empty() {
            self.order.push_back(caller);
        }
        waiting.push_back(sender);
    }

    /// Makes room for one more password of this caller. A full queue drops the newest password of the caller with the
    /// most, unless that is this caller.
    fn make_room(&mut self, caller: &HashCaller) -> Result<(), TooBusy> {
        if self.has_room(caller) {
            return Ok(());
        }
        self.forget_gone();
        if self.has_room(caller) {
            return Ok(());
        }
        let own = self.waiting_of(caller);
        let most = self.callers.values_mut().max_by_key(|waiting| waiting.len());
        let Some(most) = most.filter(|most| own + 1 < most.len() && own < WAITING_OF_ONE_MAX) else {
            return Err(TooBusy);
        };
        // Dropping the sender refuses the password.
        most.pop_back();
        self.waiting -= 1;
        Ok(())
    }

    fn has_room(&self, caller: &HashCaller) -> bool {
        self.waiting < WAITING_MAX && self.waiting_of(caller) < WAITING_OF_ONE_MAX
    }

    fn waiting_of(&self, caller: &HashCaller) -> usize {
        self.callers.get(caller).map_or(0, VecDeque::len)
    }

    /// Removes passwords whose callers no longer wait.
    fn forget_gone(&mut self) {
        for waiting in self.callers.values_mut() {
            waiting.retain(|sender| !sender.is_closed());
        }
        self.callers.retain(|_, waiting| !waiting.is_empty());
        self.order.retain(|caller| self.callers.contains_key(caller));
        self.waiting = self.callers.values().map(VecDeque::len).sum();
    }

    /// The next password, of each caller in turn.
    fn next(&mut self) -> Option<oneshot::Sender<HashPermit>> {
        while let Some(caller) = self.order.pop_front() {
            let Some(waiting) = self.callers.get_mut(&caller) else { continue };
            let sender = waiting.pop_front();
            self.waiting -= usize::from(sender.is_some());
            if waiting.is_empty() {
                self.callers.remove(&caller);
            } else {
                self.order.push_back(caller);
            }
            if let Some(sender) = sender.filter(|sender| !sender.is_closed()) {
                return Some(sender);
            }
        }
        None
    }
}

impl Drop for HashPermit {
    fn drop(&mut self) {
        let next = {
            let mut queue = self.queue.lock();
            let next = queue.next();
            queue.running -= usize::from(next.is_none());
            next
        };
        if let Some(sender) = next {
            // If the caller has just gone away, the permit is dropped, which passes it on.
            let _ = sender.send(Self { queue: Arc::clone(&self.queue) });
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    fn user(name: &str) -> HashCaller {
        HashCaller::User(name.to_owned())
    }

    /// A queue with all permits taken.
    fn taken() -> (Arc<HashQueue>, Vec<HashPermit>) {
        let queue = Arc::new(HashQueue::default());
        let running = (0..AT_ONCE).map(|_| queue.take_blocking(HashCaller::Operator).unwrap()).collect();
        (queue, running)
    }

    fn later(queue: &Arc<HashQueue>, caller: &str) -> Option<oneshot::Receiver<HashPermit>> {
        match queue.ask(user(caller)) {
            Ok(Place::Waiting(permit)) => Some(permit),
            Ok(Place::Ready(_)) => panic!("a permit was free"),
            Err(TooBusy) => None,
        }
    }

    #[test]
    fn a_single_password_is_next_after_one_of_another_caller() {
        let (queue, mut running) = taken();
        let mut many: Vec<_> = (0..10).map(|_| later(&queue, "mallory").unwrap()).collect();
        let mut one = later(&queue, "alice").unwrap();
        running.pop();
        let first = many[0].try_recv().unwrap();
        assert!(one.try_recv().is_err());
        drop(first);
        assert!(one.try_recv().is_ok(), "the second permit is for the other caller");
    }

    #[test]
    fn waiting_passwords_are_limited_for_one_caller_and_for_all() {
        let (queue, _running) = taken();
        let of_one: Vec<_> = (0..100).filter_map(|_| later(&queue, "mallory")).collect();
        assert_eq!(of_one.len(), WAITING_OF_ONE_MAX);
        let _others: Vec<_> = (0..200).filter_map(|n| later(&queue, &format!("m{}", n % 6))).collect();
        assert_eq!(queue.lock().waiting, WAITING_MAX);
        // Another caller takes the place of the newest password of the caller with the most.
        assert!(later(&queue, "alice").is_some());
        let state = queue.lock();
        assert!(state.waiting <= WAITING_MAX && state.waiting_of(&user("mallory")) < WAITING_OF_ONE_MAX);
    }

    #[test]
    fn callers_that_go_away_free_their_permit_and_place() {
        let (queue, running) = taken();
        drop((0..100).filter_map(|_| later(&queue, "mallory")).collect::<Vec<_>>());
        assert!(later(&queue, "mallory").is_some(), "the places of those who left are free");
        let last = later(&queue, "alice").unwrap();
        drop((running, last));
        let state = queue.lock();
        assert_eq!((state.running, state.waiting, state.order.len()), (0, 0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_password_that_waits_too_long_is_refused() {
        let (queue, _running) = taken();
        assert_eq!(queue.take(user("alice")).await.err(), Some(TooBusy));
    }
}
