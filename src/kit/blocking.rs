//! [`run`]: blocking work of any type as one type of task. tokio compiles its task, about 900 lines of intermediate code,
//! for each type of closure. More than a hundred handlers have one.

use std::any::Any;

use tokio::task::{JoinError, JoinHandle};
use tokio_util::task::TaskTracker;

type Outcome = Box<dyn Any + Send>;

/// Runs blocking work. It runs to its end even if the future is dropped, and [`TaskTracker::wait`] waits for it.
pub(crate) async fn run<T: Send + 'static>(
    tracker: &TaskTracker,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, JoinError> {
    let outcome = spawn(tracker, Box::new(move || Box::new(work()))).await?;
    Ok(*outcome.downcast().expect("the work has this type"))
}

fn spawn(tracker: &TaskTracker, work: Box<dyn FnOnce() -> Outcome + Send>) -> JoinHandle<Outcome> {
    tracker.spawn_blocking(work)
}
