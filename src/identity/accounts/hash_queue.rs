//! [`HashQueue`]: how many passwords are hashed at a time, and which one is next.
//!
//! Hashing takes much memory and time on purpose. All of it goes through one queue: verifying a password and hashing a
//! new one. Callers take turns, so that one caller with many passwords does not delay another caller's single one.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

/// One hash costs 19 MiB of memory. Two at a time use both cores of the smallest machine.
const AT_ONCE: usize = 2;
/// How many may wait, of all callers and of one.
const WAITING_MAX: usize = 128;
const WAITING_OF_ONE_MAX: usize = 32;
/// A password that waited this long for its turn is refused.
const TURN_WAIT: Duration = Duration::from_secs(20);
/// A thread that blocks looks this often whether its turn has come.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// Too many passwords wait to be hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooBusy;

/// Whose password it is. Each of these has its own place in the queue.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum HashCaller {
    /// Somebody at this network who is not known yet.
    Network(Option<IpAddr>),
    /// A user who changes a password.
    User(String),
    /// The command line, or the library.
    Operator,
}

/// The queue.
#[derive(Debug, Default)]
pub(super) struct HashQueue(Mutex<Queue>);

#[derive(Debug, Default)]
struct Queue {
    running: usize,
    waiting: usize,
    callers: HashMap<HashCaller, VecDeque<oneshot::Sender<HashPermit>>>,
    /// Callers that wait, the next one first.
    order: VecDeque<HashCaller>,
}

/// The right to hash one password. When it is dropped, the next one begins.
#[derive(Debug)]
pub(super) struct HashPermit {
    turns: Arc<HashQueue>,
}

enum Place {
    Ready(HashPermit),
    Waiting(oneshot::Receiver<HashPermit>),
}

impl HashQueue {
    /// Waits for a turn. A caller that goes away meanwhile gives it up.
    pub(super) async fn take(self: &Arc<Self>, caller: HashCaller) -> Result<HashPermit, TooBusy> {
        match self.ask(caller)? {
            Place::Ready(turn) => Ok(turn),
            Place::Waiting(turn) => timeout(TURN_WAIT, turn).await.ok().and_then(Result::ok).ok_or(TooBusy),
        }
    }

    /// As [`HashQueue::take`], for a thread that may block. It may belong to a runtime, where a blocking receive panics.
    pub(super) fn take_blocking(self: &Arc<Self>, caller: HashCaller) -> Result<HashPermit, TooBusy> {
        let mut turn = match self.ask(caller)? {
            Place::Ready(turn) => return Ok(turn),
            Place::Waiting(turn) => turn,
        };
        let deadline = Instant::now() + TURN_WAIT;
        loop {
            match turn.try_recv() {
                Ok(turn) => return Ok(turn),
                Err(oneshot::error::TryRecvError::Empty) if Instant::now() < deadline => {
                    std::thread::sleep(LOOK_INTERVAL);
                }
                Err(_) => return Err(TooBusy),
            }
        }
    }

    fn ask(self: &Arc<Self>, caller: HashCaller) -> Result<Place, TooBusy> {
        let mut queue = self.lock();
        if queue.running < AT_ONCE {
            queue.running += 1;
            return Ok(Place::Ready(HashPermit { turns: Arc::clone(self) }));
        }
        queue.make_room(&caller)?;
        let (sender, turn) = oneshot::channel();
        queue.push(caller, sender);
        Ok(Place::Waiting(turn))
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

    /// Makes room for one more of this caller. In a full queue the newest password of the caller with the most is
    /// refused, unless that is this caller.
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
        // Dropping the sender tells the waiting one that it is refused.
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

    /// Removes passwords whose senders went away.
    fn forget_gone(&mut self) {
        for waiting in self.callers.values_mut() {
            waiting.retain(|sender| !sender.is_closed());
        }
        self.callers.retain(|_, waiting| !waiting.is_empty());
        self.order.retain(|caller| self.callers.contains_key(caller));
        self.waiting = self.callers.values().map(VecDeque::len).sum();
    }

    /// The next one: one of each caller in turn.
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
            let mut queue = self.turns.lock();
            let next = queue.next();
            queue.running -= usize::from(next.is_none());
            next
        };
        if let Some(sender) = next {
            // If its caller has just gone away, the turn comes back here and passes on when it is dropped.
            let _ = sender.send(Self { turns: Arc::clone(&self.turns) });
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

    /// A queue with all turns taken.
    fn taken() -> (Arc<HashQueue>, Vec<HashPermit>) {
        let turns = Arc::new(HashQueue::default());
        let running = (0..AT_ONCE).map(|_| turns.take_blocking(HashCaller::Operator).unwrap()).collect();
        (turns, running)
    }

    fn later(turns: &Arc<HashQueue>, caller: &str) -> Option<oneshot::Receiver<HashPermit>> {
        match turns.ask(user(caller)) {
            Ok(Place::Waiting(turn)) => Some(turn),
            Ok(Place::Ready(_)) => panic!("a turn was free"),
            Err(TooBusy) => None,
        }
    }

    #[test]
    fn a_single_password_is_next_behind_many_of_another_caller() {
        let (turns, mut running) = taken();
        let mut many: Vec<_> = (0..10).map(|_| later(&turns, "mallory").unwrap()).collect();
        let mut one = later(&turns, "alice").unwrap();
        running.pop();
        let first = many[0].try_recv().unwrap();
        assert!(one.try_recv().is_err());
        drop(first);
        assert!(one.try_recv().is_ok(), "the second turn is for the other caller");
    }

    #[test]
    fn one_caller_and_all_together_may_wait_only_so_many_times() {
        let (turns, _running) = taken();
        let of_one: Vec<_> = (0..100).filter_map(|_| later(&turns, "mallory")).collect();
        assert_eq!(of_one.len(), WAITING_OF_ONE_MAX);
        let _others: Vec<_> = (0..200).filter_map(|n| later(&turns, &format!("m{}", n % 6))).collect();
        assert_eq!(turns.lock().waiting, WAITING_MAX);
        // Another caller has a place all the same. It is that of the newest of the caller with the most.
        assert!(later(&turns, "alice").is_some());
        let queue = turns.lock();
        assert!(queue.waiting <= WAITING_MAX && queue.waiting_of(&user("mallory")) < WAITING_OF_ONE_MAX);
    }

    #[test]
    fn whoever_goes_away_leaves_no_turn_and_no_place() {
        let (turns, running) = taken();
        drop((0..100).filter_map(|_| later(&turns, "mallory")).collect::<Vec<_>>());
        assert!(later(&turns, "mallory").is_some(), "the places of those who left are free");
        let last = later(&turns, "alice").unwrap();
        drop((running, last));
        let queue = turns.lock();
        assert_eq!((queue.running, queue.waiting, queue.order.len()), (0, 0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_that_does_not_come_is_refused() {
        let (turns, _running) = taken();
        assert_eq!(turns.take(user("alice")).await.err(), Some(TooBusy));
    }
}
