//! Traces of requests: a span for each request, and below it one for each request to an upstream. They go to a collector of
//! OpenTelemetry, by OTLP over HTTP.
//!
//! Only the Cargo feature `otel` has them, and they are off without a collector. A request never waits for the collector: a
//! span that finds the queue full is dropped and counted.

#![cfg_attr(not(feature = "otel"), allow(dead_code, reason = "only the feature otel reads the settings"))]

#[cfg(not(feature = "otel"))]
mod absent;
#[cfg(feature = "otel")]
mod export;
#[cfg(feature = "otel")]
mod queue;
#[cfg(feature = "otel")]
mod span;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

#[cfg(not(feature = "otel"))]
pub(crate) use absent::{RequestSpan, Traces, UpstreamSpan, in_current, in_span, name_current};
#[cfg(feature = "otel")]
pub(crate) use span::{RequestSpan, Traces, UpstreamSpan, in_current, in_span, name_current};

/// Whether this build can send traces.
pub(crate) const IS_BUILT: bool = cfg!(feature = "otel");

/// Where traces go, and which.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// The URL of the collector, without `/v1/traces`.
    pub(crate) endpoint: String,
    /// A file with headers to send. It is read for each attempt.
    pub(crate) headers_file: Option<PathBuf>,
    /// A file with certificates to trust, in addition to those of the platform.
    pub(crate) ca: Option<PathBuf>,
    /// The part of the requests that are traced, unless their caller decides.
    pub(crate) sample_per_million: u32,
    pub(crate) service: String,
    /// Attributes of the registry.
    pub(crate) resource: BTreeMap<String, String>,
}

/// The end of a request.
#[derive(Debug)]
pub(crate) struct Ended<'a> {
    pub(crate) status: u16,
    /// The bytes of the body that the client got.
    pub(crate) sent: u64,
    pub(crate) is_aborted: bool,
    /// The address of the client, and of the other end of the connection.
    pub(crate) client: Option<IpAddr>,
    pub(crate) peer: Option<IpAddr>,
    /// The id of the request in the log.
    pub(crate) id: &'a str,
}
