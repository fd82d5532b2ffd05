//! Stands in for traces in a build without the feature `otel`. Everything here does nothing.

use hyper::Method;
use hyper::header::HeaderMap;
use hyper::http::request::Parts;
use url::Url;

use super::{Ended, Settings};
use crate::kit::metrics::Metrics;

#[derive(Clone, Debug, Default)]
pub(crate) struct Traces {}

/// No request has one.
#[derive(Debug)]
pub(crate) enum RequestSpan {}

#[derive(Debug)]
pub(crate) struct UpstreamSpan;

impl Traces {
    pub(crate) fn open(_: &Settings) -> Result<Self, String> {
        Err("this program was built without the feature otel".to_owned())
    }

    #[expect(clippy::unused_self, reason = "as with the feature")]
    pub(crate) const fn begin(&self, _: &Parts, _: &str) -> Option<RequestSpan> {
        None
    }

    #[expect(clippy::unused_self, reason = "as with the feature")]
    pub(crate) const fn report(&self, _: &Metrics) {}

    #[expect(clippy::unused_async, reason = "as with the feature")]
    pub(crate) async fn send(self) {}

    #[expect(clippy::unused_async, reason = "as with the feature")]
    pub(crate) async fn flush(&self) {}
}

impl RequestSpan {
    pub(crate) const fn trace_id(&self) -> String {
        match *self {}
    }

    pub(crate) const fn end(&self, _: &Ended<'_>) {
        match *self {}
    }
}

impl UpstreamSpan {
    pub(crate) const fn begin(_: &Method, _: &Url, _: &mut HeaderMap) -> Self {
        Self
    }

    pub(crate) fn end(self, _: Option<u16>) {}
}

pub(crate) const fn in_span<F>(_: Option<&RequestSpan>, work: F) -> F {
    work
}

pub(crate) const fn in_current<F>(work: F) -> F {
    work
}

pub(crate) const fn name_current(_: &Method, _: &'static str) {}
