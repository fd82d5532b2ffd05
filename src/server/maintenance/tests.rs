//! Tests of the maintenance tasks.

use super::*;

#[tokio::test(start_paused = true)]
async fn collection_starts_when_its_window_opens() {
    let hours = |hours: f64| Duration::from_secs_f64(hours * 3600.0);
    let window: TimeWindow = "02:00-04:00".parse().expect("it is a window");
    let begin = tokio::time::Instant::now();
    opened(window, || hours(20.5) + begin.elapsed()).await;
    assert_eq!(begin.elapsed(), hours(5.5));
    // The clock was wrong, and is set while the task waits.
    let begin = tokio::time::Instant::now();
    opened(window, || if begin.elapsed() < hours(1.0) { hours(20.0) } else { hours(3.0) }).await;
    assert_eq!(begin.elapsed(), hours(1.0));
}
