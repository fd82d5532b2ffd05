//! `extensions.traces`: the collector that gets traces of requests.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use url::Url;

use super::check::{check_named_authorities, check_named_file};
use super::in_force::Shown;
use super::keys::Row;
use super::kind::Kind::{self, Path, Text, TextMap};
use super::settings::{FromSetting, Section, Setting, Settings, section};
use super::walk::Findings;
use crate::kit::network::is_loopback;

const TRACES: &str = "extensions.traces";
const ENDPOINT: &str = "extensions.traces.endpoint";

section! {
    /// Traces of requests, sent to a collector of OpenTelemetry. Only builds with the feature otel have them.
    Traces {
        /// URL of a collector that takes OTLP over HTTP, usually at port 4318. Without it, there are no traces.
        endpoint: Option<String> = "extensions.traces.endpoint", Kind::Url, "";
        /// File with headers for the collector, one name: value in each line. It is read again for each attempt.
        headers_file: Option<PathBuf> = "extensions.traces.headersFile", Path, "";
        /// PEM file with certificate authorities to trust, in addition to those of the system.
        ca: Option<PathBuf> = "extensions.traces.cacert", Path, "";
        /// Part of the requests that are traced, from 0 to 1. For a request with traceparent, its caller decides.
        sample_ratio: Ratio = "extensions.traces.sampleRatio", Kind::Ratio, "1";
        /// Name of the registry, as service.name.
        service_name: String = "extensions.traces.serviceName", Text, "coracle";
        /// Attributes of the registry, such as deployment.environment.name.
        resource: BTreeMap<String, String> = "extensions.traces.resource", TextMap, "{}";
    }
}

/// A part of a whole, in millionths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ratio(u32);

impl Ratio {
    /// The millionths.
    pub const fn per_million(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", f64::from(self.0) / 1e6)
    }
}

impl Shown for Ratio {
    fn shown(&self) -> String {
        self.to_string()
    }
}

impl FromSetting for Ratio {
    fn from_setting(setting: &Setting) -> Option<Self> {
        match setting {
            Setting::Int(millionths) => (*millionths).try_into().ok().map(Self),
            _ => None,
        }
    }
}

/// Checks the collector.
pub(super) fn check(settings: &Settings, findings: &mut Findings) {
    if !settings.has_text(ENDPOINT) {
        if settings.given(ENDPOINT).is_none() && Traces::ROWS.iter().any(|row| settings.given(row.key).is_some()) {
            findings.warning(TRACES, "has no effect: without endpoint, there are no traces");
        }
        return;
    }
    let traces = Traces::read(settings);
    let url = traces.endpoint.as_deref().and_then(|url| Url::parse(url).ok());
    let is_open = |url: &Url| url.scheme() == "http" && !url.host_str().is_some_and(is_loopback);
    if url.as_ref().is_some_and(is_open) && traces.headers_file.is_some() {
        findings.warning(ENDPOINT, "http:// sends the headers of headersFile in clear text: use https://");
    }
    if let Some(file) = &traces.headers_file {
        check_named_file(&format!("{TRACES}.headersFile"), file, findings);
    }
    if let Some(file) = &traces.ca {
        check_named_authorities(&format!("{TRACES}.cacert"), file, findings);
    }
}
