//! The spans that wait for the collector.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use opentelemetry::Context;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{Span, SpanData, SpanProcessor};
use tokio::sync::mpsc;

use crate::kit::log_limit::LogLimit;

/// The most spans that wait, besides those of the next request. Each has a few KiB at most.
pub(super) const SPANS_MAX: usize = 4096;
/// How often the log may say that spans are lost, or that they are sent again.
const NOTICE_INTERVAL: Duration = Duration::from_mins(10);

#[derive(Debug)]
pub(super) struct Queue {
    sender: mpsc::Sender<SpanData>,
    pub(super) waiting: tokio::sync::Mutex<Waiting>,
    dropped: AtomicU64,
    notices: LogLimit,
}

/// The end of the queue that the exporter reads, and what it has not sent.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) receiver: mpsc::Receiver<SpanData>,
    pub(super) spans: Vec<SpanData>,
}

impl Queue {
    pub(super) fn new() -> Self {
        let (sender, receiver) = mpsc::channel(SPANS_MAX);
        let waiting = tokio::sync::Mutex::new(Waiting { receiver, spans: Vec::new() });
        Self { sender, waiting, dropped: AtomicU64::new(0), notices: LogLimit::new(NOTICE_INTERVAL) }
    }

    /// The number of dropped spans since the start.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    pub(super) fn drop_spans(&self, count: usize) {
        self.dropped.fetch_add(count as u64, Ordering::Relaxed);
    }

    /// Whether the log may have another line about the collector.
    pub(super) fn may_notice(&self) -> bool {
        self.notices.pass().is_some()
    }
}

/// Takes the spans that end.
#[derive(Debug)]
pub(super) struct Intake(pub(super) Arc<Queue>);

impl SpanProcessor for Intake {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        if !span.span_context.is_sampled() {
            return;
        }
        if self.0.sender.try_send(span).is_err() {
            self.0.drop_spans(1);
            if self.0.may_notice() {
                tracing::warn!(
                    waiting = SPANS_MAX,
                    "traces are lost, because the collector takes them too slowly; see coracle_traces_dropped_total"
                );
            }
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}
