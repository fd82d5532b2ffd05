//! The metrics of one registry, for Prometheus. Metrics with the same meaning as in zot have the same name.

mod directory;
mod sinks;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hyper::Method;
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use directory::DirectoryMetrics;
pub(crate) use sinks::SinkFigures;
use sinks::Sinks;

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

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct UpstreamLabels {
    upstream: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LimitLabels {
    limit: &'static str,
}

/// A counter for each upstream of the mirror.
type PerUpstream = Family<UpstreamLabels, Counter<u64, AtomicU64>>;

/// The counters of one upstream.
#[derive(Clone, Debug, Default)]
pub(crate) struct UpstreamCounters {
    /// Pulls of manifests and blobs that were stored.
    pub(crate) hits: Counter<u64, AtomicU64>,
    /// Those that had to be fetched.
    pub(crate) misses: Counter<u64, AtomicU64>,
    /// Pulls of tags that could not be compared.
    pub(crate) stale: Counter<u64, AtomicU64>,
    /// Bytes of blobs that were fetched.
    pub(crate) bytes: Counter<u64, AtomicU64>,
}

/// The metrics of the mirror.
#[derive(Debug, Default)]
struct Upstreams {
    hits: PerUpstream,
    misses: PerUpstream,
    stale: PerUpstream,
    errors: PerUpstream,
    bytes: PerUpstream,
    quota: Family<UpstreamLabels, Gauge>,
    quota_floor: Family<UpstreamLabels, Gauge>,
    available: Family<UpstreamLabels, Gauge>,
}

impl Upstreams {
    fn register(registry: &mut Registry) -> Self {
        let new = Self::default();
        for (name, help, family) in [
            ("coracle_mirror_hits", "Pulls of mirrored manifests and blobs that were stored", &new.hits),
            ("coracle_mirror_misses", "Pulls of mirrored manifests and blobs that had to be fetched", &new.misses),
            ("coracle_mirror_stale", "Pulls of tags that could not be compared with the upstream", &new.stale),
            ("coracle_mirror_errors", "Requests to the upstream that failed", &new.errors),
        ] {
            registry.register(name, help, family.clone());
        }
        let help = "Fetched in blobs from the upstream";
        registry.register_with_unit("coracle_mirror_fetched", help, Unit::Bytes, new.bytes.clone());
        let help = "Requests for manifests that the upstream still allows, if it says so";
        registry.register("coracle_mirror_quota_remaining", help, new.quota.clone());
        let help = "Requests for manifests that synchronisation leaves for clients, 0 if the limit begins again soon";
        registry.register("coracle_mirror_quota_floor", help, new.quota_floor.clone());
        let help = "0 while the upstream is not asked, because it failed";
        registry.register("coracle_mirror_available", help, new.available.clone());
        new
    }
}

/// The figures of traces, in builds that have them.
#[derive(Debug, Default)]
struct TraceFigures {
    sent: Counter<u64, AtomicU64>,
    dropped: Counter<u64, AtomicU64>,
}

impl TraceFigures {
    fn register(registry: &mut Registry) -> Self {
        let new = Self::default();
        if cfg!(feature = "otel") {
            registry.register("coracle_traces_sent", "Spans that the collector took", new.sent.clone());
            let help = "Spans that were lost, because the collector did not take them";
            registry.register("coracle_traces_dropped", help, new.dropped.clone());
        }
        new
    }
}

/// The metrics of one registry.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    latency: Family<MethodLabels, Histogram, fn() -> Histogram>,
    sent: Counter<u64, AtomicU64>,
    rate_limited: Family<LimitLabels, Counter>,
    /// The sum of `rate_limited` over all limits. The library cannot list the counters of a family.
    rate_limited_sum: AtomicU64,
    connections: Gauge,
    refused_connections: Counter<u64, AtomicU64>,
    storage_free: Gauge,
    storage_least: Gauge,
    storage_read_only: Gauge,
    last_backup: Gauge,
    certificate_end: Gauge,
    keys_about_to_end: Gauge,
    acme: AcmeGauges,
    mirror_held: Gauge,
    mirror_limit: Gauge,
    mirror_evicted: Counter<u64, AtomicU64>,
    upstreams: Upstreams,
    sinks: Sinks,
    quotas: Quotas,
    #[cfg_attr(not(feature = "otel"), allow(dead_code, reason = "only the feature otel has traces"))]
    traces: TraceFigures,
    directory: DirectoryMetrics,
}

/// The metrics of the certificate that an ACME authority issues.
#[derive(Clone, Debug, Default)]
struct AcmeGauges {
    failures: Counter<u64, AtomicU64>,
    last_failure: Gauge,
    renewal: Gauge,
}

impl AcmeGauges {
    fn register(registry: &mut Registry) -> Self {
        let new = Self::default();
        let help = "Attempts to get a certificate that failed (http.tls.acme)";
        registry.register("coracle_acme_failures", help, new.failures.clone());
        for (name, help, gauge) in [
            (
                "coracle_acme_last_failure_timestamp",
                "When the last attempt to get a certificate failed. 0 if it did not",
                &new.last_failure,
            ),
            (
                "coracle_acme_renewal_timestamp",
                "When the certificate is due for renewal. 0 without one of an ACME authority",
                &new.renewal,
            ),
        ] {
            registry.register_with_unit(name, help, Unit::Seconds, gauge.clone());
        }
        new
    }
}

/// The figures of quotas, which are there if the operator limits anything.
#[derive(Clone, Debug, Default)]
struct Quotas {
    repositories: Gauge,
    max_repositories: Gauge,
    refused: Family<LimitLabels, Counter<u64, AtomicU64>>,
}

impl Quotas {
    fn register(registry: &mut Registry) -> Self {
        let new = Self::default();
        let help = "Repositories, if quotas are configured";
        registry.register("coracle_quota_repositories", help, new.repositories.clone());
        let help = "The most repositories there may be, 0 for no limit";
        registry.register("coracle_quota_repositories_limit", help, new.max_repositories.clone());
        registry.register("coracle_quota_refused", "Requests that a quota refused", new.refused.clone());
        new
    }
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
            "From the request's headers to the last byte of its response",
            Unit::Seconds,
            latency.clone(),
        );
        let sent = Counter::default();
        registry.register_with_unit("coracle_http_sent", "Sent in the bodies of responses", Unit::Bytes, sent.clone());
        let rate_limited = Family::default();
        registry.register("coracle_http_rate_limited", "Requests refused by http.ratelimit", rate_limited.clone());
        let connections = Gauge::default();
        registry.register("coracle_http_connections", "Open connections", connections.clone());
        let refused_connections = Counter::default();
        let help = "Connections closed at once, as their address had too many (http.limits.maxConnectionsPerAddress)";
        registry.register("coracle_http_refused_connections", help, refused_connections.clone());
        let [storage_free, storage_least, storage_read_only] = std::array::from_fn(|_| Gauge::default());
        for (name, help, gauge) in [
            ("coracle_storage_free", "Free on the disk of the data directory", &storage_free),
            ("coracle_storage_min_free", "Pushes are refused with less (storage.minFreeSpace)", &storage_least),
        ] {
            registry.register_with_unit(name, help, Unit::Bytes, gauge.clone());
        }
        let [last_backup, certificate_end] = std::array::from_fn(|_| Gauge::default());
        for (name, help, gauge) in [
            ("coracle_backup_timestamp", "When the last backup was finished. 0 for never", &last_backup),
            ("coracle_certificate_end_timestamp", "When the certificate ends. 0 without one", &certificate_end),
        ] {
            registry.register_with_unit(name, help, Unit::Seconds, gauge.clone());
        }
        let keys_about_to_end = Gauge::default();
        let help = "API keys that end within 7 days, without those that were created for at most 7 days";
        registry.register("coracle_api_keys_about_to_end", help, keys_about_to_end.clone());
        let acme = AcmeGauges::register(&mut registry);
        let [mirror_held, mirror_limit] = std::array::from_fn(|_| Gauge::default());
        for (name, help, gauge) in [
            ("coracle_mirror_held", "Mirrored content, without what was pushed too", &mirror_held),
            (
                "coracle_mirror_limit",
                "Beyond it, mirrored content is evicted (extensions.sync.sizeLimit)",
                &mirror_limit,
            ),
        ] {
            registry.register_with_unit(name, help, Unit::Bytes, gauge.clone());
        }
        let mirror_evicted = Counter::default();
        let help = "Mirrored content that was evicted";
        registry.register_with_unit("coracle_mirror_evicted", help, Unit::Bytes, mirror_evicted.clone());
        let help = "1 while the database cannot be changed";
        registry.register("coracle_storage_read_only", help, storage_read_only.clone());
        let upstreams = Upstreams::register(&mut registry);
        let sinks = Sinks::register(&mut registry);
        let quotas = Quotas::register(&mut registry);
        let traces = TraceFigures::register(&mut registry);
        let directory = DirectoryMetrics::register(&mut registry);
        let info = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("zot", "The running program", info);
        Self {
            registry,
            requests,
            latency,
            sent,
            rate_limited,
            rate_limited_sum: AtomicU64::default(),
            connections,
            refused_connections,
            storage_free,
            storage_least,
            storage_read_only,
            last_backup,
            certificate_end,
            keys_about_to_end,
            acme,
            mirror_held,
            mirror_limit,
            mirror_evicted,
            upstreams,
            sinks,
            quotas,
            traces,
            directory,
        }
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

    /// Counts a request that a rate limit refused. `limit` is its key.
    pub(crate) fn rate_limited(&self, limit: &'static str) {
        self.rate_limited.get_or_create(&LimitLabels { limit }).inc();
        self.rate_limited_sum.fetch_add(1, Ordering::Relaxed);
    }

    /// The number of requests that a rate limit refused, since the start.
    pub(crate) fn rate_limited_sum(&self) -> u64 {
        self.rate_limited_sum.load(Ordering::Relaxed)
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

    /// Counts a connection that was refused because of the share of its address.
    pub(crate) fn refused_connection(&self) {
        self.refused_connections.inc();
    }

    /// Sets the state of the storage: free bytes and `storage.minFreeSpace`, if they are known, and whether it is read-only.
    pub(crate) fn storage(&self, space: Option<(u64, u64)>, read_only: bool) {
        if let Some((free, least)) = space {
            self.storage_free.set(i64::try_from(free).unwrap_or(i64::MAX));
            self.storage_least.set(i64::try_from(least).unwrap_or(i64::MAX));
        }
        self.storage_read_only.set(read_only.into());
    }

    /// Sets when the last backup was finished and when the certificate ends, in seconds since 1970, if there are any.
    pub(crate) fn times(&self, last_backup: Option<u64>, certificate_end: Option<u64>) {
        for (gauge, time) in [(&self.last_backup, last_backup), (&self.certificate_end, certificate_end)] {
            gauge.set(i64::try_from(time.unwrap_or_default()).unwrap_or(i64::MAX));
        }
    }

    /// Sets the number of API keys that end soon.
    pub(crate) fn keys_about_to_end(&self, count: u64) {
        self.keys_about_to_end.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Sets the failures to get a certificate since the start, the time of the last one unless something succeeded since, and
    /// when the certificate is due for renewal, in seconds since 1970.
    pub(crate) fn acme(&self, failures: u64, last_failure: Option<u64>, renewal: Option<u64>) {
        self.acme.failures.inner().store(failures, Ordering::Relaxed);
        for (gauge, time) in [(&self.acme.last_failure, last_failure), (&self.acme.renewal, renewal)] {
            gauge.set(i64::try_from(time.unwrap_or_default()).unwrap_or(i64::MAX));
        }
    }

    /// Sets what the mirror holds and may hold, and what it has evicted since the start, in bytes. No limit is shown as 0.
    pub(crate) fn mirror(&self, held: u64, limit: u64, evicted: u64) {
        self.mirror_held.set(i64::try_from(held).unwrap_or(i64::MAX));
        self.mirror_limit.set(i64::try_from(limit).unwrap_or(i64::MAX));
        self.mirror_evicted.inner().store(evicted, Ordering::Relaxed);
    }

    /// Notes the number of repositories, its limit, and the refused requests by kind.
    pub(crate) fn quotas(&self, repositories: u64, limit: u64, refused: [(&'static str, u64); 3]) {
        self.quotas.repositories.set(i64::try_from(repositories).unwrap_or(i64::MAX));
        self.quotas.max_repositories.set(i64::try_from(limit).unwrap_or(i64::MAX));
        for (limit, count) in refused {
            self.quotas.refused.get_or_create(&LimitLabels { limit }).inner().store(count, Ordering::Relaxed);
        }
    }

    /// The counters of an upstream of the mirror. The same name has the same counters.
    pub(crate) fn upstream_counters(&self, upstream: &str) -> UpstreamCounters {
        let labels = UpstreamLabels { upstream: upstream.to_owned() };
        let counter = |family: &PerUpstream| family.get_or_create(&labels).clone();
        let Upstreams { hits, misses, stale, bytes, .. } = &self.upstreams;
        UpstreamCounters { hits: counter(hits), misses: counter(misses), stale: counter(stale), bytes: counter(bytes) }
    }

    /// Sets the state of an upstream: its failures since the start, and whether it is asked.
    pub(crate) fn upstream(&self, upstream: &str, errors: u64, is_available: bool) {
        let labels = UpstreamLabels { upstream: upstream.to_owned() };
        self.upstreams.errors.get_or_create(&labels).inner().store(errors, Ordering::Relaxed);
        self.upstreams.available.get_or_create(&labels).set(is_available.into());
    }

    /// Sets the requests that an upstream still allows, and those that are left for clients, if they are known.
    pub(crate) fn upstream_quota(&self, upstream: &str, quota: Option<(u64, u64)>) {
        let labels = UpstreamLabels { upstream: upstream.to_owned() };
        let Upstreams { quota: left, quota_floor: floor, .. } = &self.upstreams;
        let values = quota.map_or([None, None], |(left, floor)| [Some(left), Some(floor)]);
        for (family, value) in [left, floor].into_iter().zip(values) {
            match value {
                Some(value) => {
                    family.get_or_create(&labels).set(i64::try_from(value).unwrap_or(i64::MAX));
                }
                None => {
                    family.remove(&labels);
                }
            }
        }
    }

    /// Sets the numbers of accepted, refused and failed requests to the LDAP directory, and whether it is away.
    pub(crate) fn directory(&self, counts: [u64; 3], is_away: bool) {
        self.directory.set(counts, is_away);
    }

    /// Sets the figures of a sink of events.
    pub(crate) fn sink(&self, sink: &str, figures: &SinkFigures) {
        self.sinks.set(sink, figures);
    }

    /// Sets the number of events that were dropped since the start.
    pub(crate) fn dropped_events(&self, count: u64) {
        self.sinks.dropped.inner().store(count, Ordering::Relaxed);
    }

    /// Sets the numbers of spans that were sent and dropped since the start.
    #[cfg(feature = "otel")]
    pub(crate) fn traces(&self, sent: u64, dropped: u64) {
        self.traces.sent.inner().store(sent, Ordering::Relaxed);
        self.traces.dropped.inner().store(dropped, Ordering::Relaxed);
    }

    /// All metrics in the text format of `OpenMetrics`.
    pub(crate) fn encode(&self) -> String {
        let mut out = String::new();
        text::encode(&mut out, &self.registry).expect("writing to a text does not fail");
        out
    }

    /// All metrics in the text format of Prometheus, which more programs read.
    pub(crate) fn encode_plain(&self) -> String {
        plain(&self.encode())
    }
}

/// Converts the text format of `OpenMetrics`. There, the name of a counter lacks the ending of its samples, and there are types
/// that Prometheus does not have.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut kinds = std::collections::HashMap::new();
    for line in text.lines() {
        if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            kinds.insert(name, kind);
        }
    }
    for line in text.lines() {
        let comment = line.strip_prefix("# ").and_then(|rest| rest.split_once(' '));
        match comment.and_then(|(word, rest)| Some((word, rest.split_once(' ')?))) {
            Some((word @ ("HELP" | "TYPE"), (name, rest))) => {
                let kind = kinds.get(name).copied().unwrap_or_default();
                let ending = match kind {
                    "counter" => "_total",
                    "info" => "_info",
                    _ => "",
                };
                let rest = if word == "TYPE" && kind == "info" { "gauge" } else { rest };
                out.extend(["# ", word, " ", name, ending, " ", rest, "\n"]);
            }
            // Units, and the end.
            _ if line.starts_with('#') => {}
            _ => out.extend([line, "\n"]),
        }
    }
    out
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
