//! The metrics of one registry, for Prometheus. Metrics with the same meaning as in zot have the same name.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use hyper::Method;
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

/// Upper bounds in seconds: from a manifest in memory to a large blob over a slow network.
const LATENCY_BOUNDS: [f64; 14] =
    [0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 60.0, 300.0, 1800.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    method: &'static str,
    code: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MethodLabels {
    method: &'static str,
}

/// The metrics of one registry.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    latency: Family<MethodLabels, Histogram, fn() -> Histogram>,
    sent: Counter<u64, AtomicU64>,
    connections: Gauge,
    storage_free: Gauge,
    storage_least: Gauge,
    storage_read_only: Gauge,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::default();
        let requests = Family::default();
        registry.register("zot_http_requests", "Answered requests", requests.clone());
        let histogram: fn() -> Histogram = || Histogram::new(LATENCY_BOUNDS);
        let latency = Family::new_with_constructor(histogram);
        registry.register_with_unit(
            "zot_http_method_latency",
            "From the request's headers to the last byte of its answer",
            Unit::Seconds,
            latency.clone(),
        );
        let sent = Counter::default();
        registry.register_with_unit("coracle_http_sent", "Sent in the bodies of answers", Unit::Bytes, sent.clone());
        let connections = Gauge::default();
        registry.register("coracle_http_connections", "Open connections", connections.clone());
        let [storage_free, storage_least, storage_read_only] = std::array::from_fn(|_| Gauge::default());
        for (name, help, gauge) in [
            ("coracle_storage_free", "Free on the disk of the data directory", &storage_free),
            ("coracle_storage_min_free", "Pushes are refused with less (storage.minFreeSpace)", &storage_least),
        ] {
            registry.register_with_unit(name, help, Unit::Bytes, gauge.clone());
        }
        let help = "1 while the database cannot be changed";
        registry.register("coracle_storage_read_only", help, storage_read_only.clone());
        let info = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("zot", "The running program", info);
        Self { registry, requests, latency, sent, connections, storage_free, storage_least, storage_read_only }
    }

    /// Counts a request and its response.
    pub(crate) fn request(&self, method: &Method, code: u16, duration: Duration, sent: u64) {
        let method = label(method);
        self.requests.get_or_create(&RequestLabels { method, code }).inc();
        self.latency.get_or_create(&MethodLabels { method }).observe(duration.as_secs_f64());
        self.sent.inc_by(sent);
    }

    /// The number of responses with a status, since the start.
    pub(crate) fn responses(&self, code: u16) -> u64 {
        let counted = |method| self.requests.get(&RequestLabels { method, code }).map_or(0, |counter| counter.get());
        METHODS.into_iter().map(counted).sum()
    }

    /// The number of open connections.
    pub(crate) fn open_connections(&self) -> u64 {
        u64::try_from(self.connections.get()).unwrap_or_default()
    }

    /// Counts a connection as open until the guard is dropped.
    pub(crate) fn connection(&self) -> ConnectionGuard {
        self.connections.inc();
        ConnectionGuard(self.connections.clone())
    }

    /// Sets the state of the storage: free bytes and `storage.minFreeSpace`, if they are known, and whether it is read-only.
    pub(crate) fn storage(&self, space: Option<(u64, u64)>, read_only: bool) {
        if let Some((free, least)) = space {
            self.storage_free.set(i64::try_from(free).unwrap_or(i64::MAX));
            self.storage_least.set(i64::try_from(least).unwrap_or(i64::MAX));
        }
        self.storage_read_only.set(read_only.into());
    }

    /// All metrics in the text format of `OpenMetrics`.
    pub(crate) fn encode(&self) -> String {
        let mut out = String::new();
        text::encode(&mut out, &self.registry).expect("writing to a text does not fail");
        out
    }
}

/// See [`Metrics::connection`].
#[derive(Debug)]
pub(crate) struct ConnectionGuard(Gauge);

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Every label of a method.
const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OTHER"];

/// A method as a label. Unknown methods share one label, because each label uses memory.
fn label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        _ => "OTHER",
    }
}
