//! Sends spans to the collector: OTLP over HTTP, in protobuf.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hyper::Request;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::transform::common::tonic::ResourceAttributesWithSchema;
use opentelemetry_proto::transform::trace::tonic::group_spans_by_resource_and_scope;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SpanData;
use prost::Message as _;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::Settings;
use super::queue::{Queue, SPANS_MAX, Waiting};
use crate::kit::file::read_text;
use crate::kit::outgoing::{self, Client, Plain};

/// The most spans in one request.
const BATCH_MAX: usize = 512;
/// The longest time that a span waits for others.
const BATCH_WAIT: Duration = Duration::from_secs(2);
/// The longest time of one attempt.
const ATTEMPT_MAX: Duration = Duration::from_secs(10);
/// The pause after a failure. Each further one is twice as long.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// The longest time to send what waits when the registry stops.
const FLUSH_MAX: Duration = Duration::from_secs(3);
/// The largest file of headers, in bytes.
const HEADERS_BYTES_MAX: u64 = 64 * 1024;
const PROTOBUF: HeaderValue = HeaderValue::from_static("application/x-protobuf");

/// The path of traces at a collector.
const PATH: &str = "/v1/traces";

pub(super) struct Export {
    client: Client,
    url: String,
    headers_file: Option<PathBuf>,
    resource: ResourceAttributesWithSchema,
    sent: AtomicU64,
}

/// Why spans were not sent.
enum Failure {
    /// The collector is away or busy.
    Later(String),
    /// The collector does not take them.
    Refused(String),
}

impl From<outgoing::Error> for Failure {
    fn from(error: outgoing::Error) -> Self {
        use outgoing::Error as E;
        let why = error.to_string();
        match error {
            E::Trust(_) | E::Unreachable { .. } | E::Certificate { .. } | E::Deadline { .. } => Self::Later(why),
            // Another attempt may fail in the same way, and the batch must not block the next ones.
            _ => Self::Refused(why),
        }
    }
}

impl Export {
    pub(super) fn new(settings: &Settings, resource: &Resource) -> Result<Self, String> {
        let base = settings.endpoint.trim_end_matches('/');
        let url = if base.ends_with(PATH) { base.to_owned() } else { format!("{base}{PATH}") };
        url.parse::<hyper::Uri>().map_err(|error| format!("expected a URL: {error}"))?;
        let client = Client::new(outgoing::Settings {
            ca: settings.ca.clone(),
            plain: Plain::Anywhere,
            deadline: ATTEMPT_MAX,
            ..outgoing::Settings::default()
        });
        let headers_file = settings.headers_file.clone();
        Ok(Self { client, url, headers_file, resource: resource.into(), sent: AtomicU64::new(0) })
    }

    /// The number of sent spans since the start.
    pub(super) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Sends spans until it is dropped.
    pub(super) async fn run(&self, queue: &Queue) {
        let mut waiting = queue.waiting.lock().await;
        let (mut pause, mut is_noticed) = (None, false);
        loop {
            collect(&mut waiting).await;
            match self.attempt(&waiting.spans).await {
                Ok(()) => {
                    pause = None;
                    if std::mem::take(&mut is_noticed) {
                        tracing::info!(dropped = queue.dropped(), "the collector takes traces again");
                    }
                }
                Err(Failure::Later(why)) => {
                    if pause.is_none() && queue.may_notice() {
                        is_noticed = true;
                        tracing::warn!(why, waiting = SPANS_MAX, "cannot send traces; those beyond the limit are lost");
                    }
                    let wait = pause.map_or(PAUSE_MIN, |last: Duration| (last * 2).min(PAUSE_MAX));
                    pause = Some(wait);
                    sleep(wait).await;
                    continue;
                }
                Err(Failure::Refused(why)) => {
                    queue.drop_spans(waiting.spans.len());
                    pause = None;
                    if queue.may_notice() {
                        tracing::warn!(why, "the collector refused traces, which are lost");
                    }
                }
            }
            waiting.spans.clear();
        }
    }

    /// Sends the waiting spans. Those that the collector does not take in a short time are lost.
    pub(super) async fn flush(&self, queue: &Queue) {
        // Another server of this registry still sends.
        let Ok(mut waiting) = queue.waiting.try_lock() else { return };
        let sending = async {
            loop {
                let Waiting { receiver, spans } = &mut *waiting;
                while spans.len() < BATCH_MAX
                    && let Ok(span) = receiver.try_recv()
                {
                    spans.push(span);
                }
                if spans.is_empty() || self.attempt(spans).await.is_err() {
                    return;
                }
                spans.clear();
            }
        };
        let _ = timeout(FLUSH_MAX, sending).await;
        let lost = waiting.spans.len() + waiting.receiver.len();
        if lost > 0 {
            queue.drop_spans(lost);
            waiting.spans.clear();
            while waiting.receiver.try_recv().is_ok() {}
            tracing::warn!(lost, "the last traces are lost, because the collector did not take them");
        }
    }

    async fn attempt(&self, spans: &[SpanData]) -> Result<(), Failure> {
        let resource_spans = group_spans_by_resource_and_scope(spans.to_vec(), &self.resource);
        let body = ExportTraceServiceRequest { resource_spans }.encode_to_vec();
        let mut request = Request::new(body);
        *request.method_mut() = hyper::Method::POST;
        *request.uri_mut() = self.url.parse().map_err(|_| Failure::Refused("the URL is invalid".to_owned()))?;
        if let Some(file) = self.headers_file.clone() {
            let read = tokio::task::spawn_blocking(move || headers(&file)).await;
            let read = read.unwrap_or_else(|error| Err(error.to_string()));
            *request.headers_mut() = read.map_err(Failure::Later)?;
        }
        request.headers_mut().insert(header::CONTENT_TYPE, PROTOBUF);
        let status = self.client.send(request).await?.status();
        if status.is_success() {
            self.sent.fetch_add(spans.len() as u64, Ordering::Relaxed);
            return Ok(());
        }
        let why = format!("{} answered {status}", self.url);
        // As OTLP says: the request took too long, there are too many, or a server before the collector has no answer.
        let is_temporary = matches!(status.as_u16(), 408 | 429 | 502..=504);
        Err(if is_temporary { Failure::Later(why) } else { Failure::Refused(why) })
    }
}

/// Waits for the first span, and a short time for others.
async fn collect(Waiting { receiver, spans }: &mut Waiting) {
    if spans.is_empty() {
        receiver.recv_many(spans, BATCH_MAX).await;
    }
    let until = Instant::now() + BATCH_WAIT;
    while spans.len() < BATCH_MAX {
        let room = BATCH_MAX - spans.len();
        match timeout_at(until, receiver.recv_many(spans, room)).await {
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
    }
}

/// Reads the file of headers: a line `name: value` each. Errors contain no value.
fn headers(file: &std::path::Path) -> Result<HeaderMap, String> {
    let unread = |error: io::Error| format!("cannot read {}: {error}", file.display());
    let text = read_text(file, HEADERS_BYTES_MAX).map_err(unread)?;
    let mut headers = HeaderMap::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let invalid =
            || format!("{}:{}: expected a header such as `authorization: Bearer …`", file.display(), number + 1);
        let (name, value) = line.split_once(':').ok_or_else(invalid)?;
        let name: HeaderName = name.trim().parse().map_err(|_| invalid())?;
        let mut value: HeaderValue = value.trim().parse().map_err(|_| invalid())?;
        value.set_sensitive(true);
        headers.append(name, value);
    }
    Ok(headers)
}
