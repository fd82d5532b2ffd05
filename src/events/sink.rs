//! [`Sink`]: sends the events of the outbox to one server.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hyper::Method;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper_util::client::proxy::matcher::Matcher;
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};
use tokio_util::task::TaskTracker;
use url::Url;

use super::message;
use crate::content::repository::Stores;
use crate::content::rows::{EventRow, RefusedEvent};
use crate::kit::clock::Clock;
use crate::kit::file::read_text;
use crate::kit::log_limit::LogLimit;
use crate::kit::opaque_debug::opaque_debug;
use crate::kit::outgoing::Trust;
use crate::mirror::client::{Transport, TransportSettings, collect, host_of};

/// The most events that are read at once. A crash repeats at most as many.
const BATCH: usize = 64;
/// How often the outbox is looked at when nothing announces an event.
const POLL: Duration = Duration::from_secs(5);
/// The pause after the outbox could not be read or written.
const FAILURE_PAUSE: Duration = Duration::from_secs(1);
/// The largest answer of a sink that is read, for the log.
const ANSWER_BYTES_MAX: usize = 1024;
/// How much of an answer the log shows.
const SHOWN_CHARS: usize = 120;
/// The largest file with a token or a secret.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// The settings of a sink.
#[derive(Clone)]
pub(crate) struct SinkSettings {
    pub(crate) name: Option<String>,
    pub(crate) url: Url,
    pub(crate) channel: Option<String>,
    pub(crate) timeout: Duration,
    pub(crate) proxy: Option<String>,
    pub(crate) headers: HeaderMap,
    /// User and password for Basic authentication.
    pub(crate) login: Option<(String, String)>,
    pub(crate) token: Option<String>,
    pub(crate) token_file: Option<PathBuf>,
    pub(crate) trust: Trust,
    pub(crate) secret_file: Option<PathBuf>,
    pub(crate) retry_delay: Duration,
    pub(crate) max_retry_delay: Duration,
    pub(crate) max_retries: u64,
}

opaque_debug!(SinkSettings { name });

/// A server that gets events.
pub(crate) struct Sink {
    key: String,
    settings: SinkSettings,
    transport: Transport,
    authorization: Option<HeaderValue>,
    secret: Option<Vec<u8>>,
    state: Mutex<SinkState>,
    /// Notified to try again at once.
    retry: Notify,
    unread: LogLimit,
    unwritten: LogLimit,
}

opaque_debug!(Sink { key });

/// The state of a sink since the start.
#[derive(Clone, Debug, Default)]
pub(crate) struct SinkState {
    pub(crate) delivered: u64,
    /// Attempts that failed.
    pub(crate) failures: u64,
    /// Why the last attempt failed. `None` if it succeeded.
    pub(crate) failing: Option<String>,
}

/// Why an attempt failed.
#[derive(Debug)]
enum Failure {
    /// The server is away. It is tried without end.
    Away(String),
    /// The server answered with an error, which may be about this event.
    Refused(String),
}

impl Failure {
    fn why(&self) -> &str {
        match self {
            Self::Away(why) | Self::Refused(why) => why,
        }
    }
}

impl Sink {
    pub(crate) fn new(settings: SinkSettings) -> Result<Self, String> {
        let mut transport = TransportSettings { trust: settings.trust.clone(), ..TransportSettings::default() };
        transport.idle_connections = 1;
        if let Some(proxy) = &settings.proxy {
            transport.proxies = Arc::new(Matcher::builder().all(proxy.as_str()).build());
        }
        let key = settings.name.clone().unwrap_or_else(|| usual_key(&settings));
        let failed = |error: &dyn std::fmt::Display| format!("the sink {key}: {error}");
        let transport = Transport::new(&transport).map_err(|error| failed(&error))?;
        let secret = settings.secret_file.as_deref().map(|path| {
            let text = read_file(path).map_err(|why| failed(&why))?;
            message::key(&text).map_err(|why| format!("{}: {why}", path.display()))
        });
        let value = |text: String| {
            let mut value = HeaderValue::from_str(&text).map_err(|_| failed(&"the credentials fit no header"))?;
            value.set_sensitive(true);
            Ok::<_, String>(value)
        };
        let basic = settings
            .login
            .as_ref()
            .map(|(user, password)| value(format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))));
        let bearer = settings.token.as_ref().map(|token| value(format!("Bearer {token}")));
        Ok(Self {
            authorization: basic.or(bearer).transpose()?,
            secret: secret.transpose()?,
            key,
            settings,
            transport,
            state: Mutex::default(),
            retry: Notify::new(),
            unread: LogLimit::default(),
            unwritten: LogLimit::default(),
        })
    }

    /// The name of the sink in commands, metrics and rows.
    pub(crate) fn key(&self) -> &str {
        &self.key
    }

    pub(crate) fn state(&self) -> SinkState {
        self.state.lock().clone()
    }

    /// Fails if the server cannot be reached, or does not work at the moment. Sends no event and no credentials.
    pub(crate) async fn check(&self) -> Result<(), String> {
        let request = self.transport.send(&Method::HEAD, &self.settings.url, HeaderMap::new(), Bytes::new());
        match timeout(self.settings.timeout, request).await {
            Ok(Ok(answer)) if is_away(answer.status().as_u16()) => {
                Err(format!("{} answers {}", host_of(&self.settings.url), answer.status()))
            }
            Ok(answer) => answer.map(drop).map_err(|error| error.to_string()),
            Err(_) => Err(format!("no answer within {} s", self.settings.timeout.as_secs_f32())),
        }
    }

    /// Ends a pause after a failure.
    pub(crate) fn retry_now(&self) {
        self.retry.notify_one();
    }

    /// Sends events until the task ends. A write of the outbox runs on `work`, to its end.
    pub(crate) async fn run(self: Arc<Self>, stores: Arc<Stores>, clock: Clock, work: TaskTracker) {
        loop {
            // Made before the look into the outbox, so that no event is missed.
            let Some(written) = stores.events_written() else { return };
            let batch = match stores.events_for(&self.key, BATCH) {
                Ok(batch) => batch,
                Err(error) => {
                    if let Some(count) = self.unread.pass() {
                        tracing::error!(sink = self.key, %error, count, "cannot read the outbox of events");
                    }
                    sleep(FAILURE_PAUSE).await;
                    continue;
                }
            };
            if batch.is_empty() {
                tokio::select! {
                    () = written => {}
                    () = sleep(POLL) => {}
                }
                continue;
            }
            let mut position = None;
            for (number, event) in batch {
                if !self.deliver(&stores, &clock, &work, (number, event), &mut position).await {
                    break;
                }
            }
            self.save(&stores, &work, &mut position).await;
        }
    }

    /// Sends an event until it is taken, or set aside. Returns false if the outbox cannot be written. `position` is the one
    /// after the events that were taken and is not written yet.
    async fn deliver(
        &self,
        stores: &Arc<Stores>,
        clock: &Clock,
        work: &TaskTracker,
        (number, event): (u64, EventRow),
        position: &mut Option<u64>,
    ) -> bool {
        let mut refusals: u32 = 0;
        let mut pause = self.settings.retry_delay;
        loop {
            let failure = match self.attempt(stores, clock, &event).await {
                Ok(()) => {
                    let mut state = self.state.lock();
                    state.delivered += 1;
                    if state.failing.take().is_some() {
                        tracing::info!(sink = self.key, "the sink takes events again");
                    }
                    *position = Some(number + 1);
                    return true;
                }
                Err(failure) => failure,
            };
            self.note(&failure, &event);
            if let Failure::Refused(why) = failure {
                refusals += 1;
                if u64::from(refusals) > self.settings.max_retries {
                    tracing::warn!(sink = self.key, event = message::id(&event), why, "set an event aside");
                    let refused = RefusedEvent { event, refused: clock.now(), attempts: refusals, why };
                    *position = None;
                    return self.set_aside(stores, work, number, refused).await;
                }
            }
            self.save(stores, work, position).await;
            tokio::select! {
                () = sleep(pause.mul_f64(1.0 - rand::random::<f64>() / 10.0)) => {}
                () = self.retry.notified() => {}
            }
            pause = (pause * 2).min(self.settings.max_retry_delay.max(self.settings.retry_delay));
        }
    }

    /// Counts and logs a failure. The first one after a success is a warning.
    fn note(&self, failure: &Failure, event: &EventRow) {
        let mut state = self.state.lock();
        state.failures += 1;
        let was_failing = state.failing.replace(failure.why().to_owned()).is_some();
        let (why, event) = (failure.why(), message::id(event));
        if was_failing {
            tracing::debug!(sink = self.key, event, why, "an event could not be sent");
        } else {
            tracing::warn!(sink = self.key, event, why, "an event could not be sent; it is tried again");
        }
    }

    async fn attempt(&self, stores: &Stores, clock: &Clock, event: &EventRow) -> Result<(), Failure> {
        let manifest = stores.manifest_of_event(event).map_err(|error| Failure::Away(error.to_string()))?;
        let body = message::body(event, manifest.as_deref());
        let mut headers = self.settings.headers.clone();
        headers.extend(message::headers(event, self.settings.channel.as_deref()));
        if let Some(value) = &self.authorization {
            headers.insert(header::AUTHORIZATION, value.clone());
        } else if let Some(path) = &self.settings.token_file {
            let token = read_file(path).map_err(Failure::Away)?;
            let value = HeaderValue::from_str(&format!("Bearer {}", token.trim()));
            headers.insert(header::AUTHORIZATION, value.map_err(|error| Failure::Away(error.to_string()))?);
        }
        if let Some(secret) = &self.secret {
            let seconds = clock.now().micros() / 1_000_000;
            message::sign(&mut headers, secret, &message::id(event), seconds, &body);
        }
        let exchange = async {
            let answer = self.transport.send(&Method::POST, &self.settings.url, headers, Bytes::from(body)).await;
            let answer = answer.map_err(|error| Failure::Away(error.to_string()))?;
            let status = answer.status();
            if status.is_success() {
                return Ok(());
            }
            let host = host_of(&self.settings.url);
            let text = collect(&host, answer.into_body(), ANSWER_BYTES_MAX, self.settings.timeout).await;
            let text = text.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
            let text: String = text.chars().filter(|c| !c.is_control()).take(SHOWN_CHARS).collect();
            let colon = if text.is_empty() { "" } else { ": " };
            let why = format!("{host} answered {status}{colon}{text}");
            Err(if is_away(status.as_u16()) { Failure::Away(why) } else { Failure::Refused(why) })
        };
        let late = || Failure::Away(format!("no answer within {} s", self.settings.timeout.as_secs_f32()));
        timeout(self.settings.timeout, exchange).await.unwrap_or_else(|_| Err(late()))
    }

    /// Writes the position, if there is one.
    async fn save(&self, stores: &Arc<Stores>, work: &TaskTracker, position: &mut Option<u64>) {
        let Some(next) = *position else { return };
        let (stores, sink) = (Arc::clone(stores), self.key.clone());
        let saved = work.spawn_blocking(move || stores.set_event_position(sink, next)).await;
        if self.is_written(saved).await {
            *position = None;
        }
    }

    async fn set_aside(&self, stores: &Arc<Stores>, work: &TaskTracker, number: u64, refused: RefusedEvent) -> bool {
        let (stores, sink) = (Arc::clone(stores), self.key.clone());
        let saved = work.spawn_blocking(move || stores.refuse_event(sink, number, refused)).await;
        self.is_written(saved).await
    }

    /// Logs that the outbox could not be written, and waits a moment.
    async fn is_written(
        &self,
        result: Result<Result<(), crate::content::repository::Error>, tokio::task::JoinError>,
    ) -> bool {
        let error = match result {
            Ok(Ok(())) => return true,
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        if let Some(count) = self.unwritten.pass() {
            let sink = &self.key;
            tracing::error!(sink, error, count, "cannot write the outbox of events; some events will be sent again");
        }
        sleep(FAILURE_PAUSE).await;
        false
    }
}

/// Reads a file with a token or a secret. The error names the file.
fn read_file(path: &Path) -> Result<String, String> {
    read_text(path, FILE_BYTES_MAX).map_err(|error| format!("cannot read {}: {error}", path.display()))
}

/// Whether a status means that the server does not work at the moment.
const fn is_away(status: u16) -> bool {
    matches!(status, 408 | 425 | 429 | 502 | 503 | 504)
}

/// The key of a sink without a name. Its path may be a secret, so that only a hash of the address is shown.
fn usual_key(settings: &SinkSettings) -> String {
    let channel = settings.channel.as_deref().unwrap_or_default();
    let hash = Sha256::digest(format!("{}\n{channel}", settings.url));
    format!("{}-{}", settings.url.host_str().unwrap_or_default(), hex::encode(&hash[..4]))
}
