//! Spans, with the attributes of OpenTelemetry's conventions for HTTP, and `traceparent` (W3C Trace Context).

use std::fmt;
use std::sync::Arc;

use hyper::Method;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator as _};
use opentelemetry::trace::{FutureExt as _, SpanKind, Status, TraceContextExt as _, Tracer as _, TracerProvider as _};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{Sampler, SdkTracer, SdkTracerProvider};
use url::Url;

use super::export::Export;
use super::queue::{Intake, Queue};
use super::{Ended, Settings};
use crate::kit::metrics::Metrics;

/// The longest value of an attribute that a client chooses, in bytes.
const VALUE_BYTES_MAX: usize = 1024;
/// The longest `tracestate` that is passed to the collector, in bytes. W3C Trace Context requires as much.
const STATE_BYTES_MAX: usize = 512;
const STATE: HeaderName = HeaderName::from_static("tracestate");
const MILLION: f64 = 1_000_000.0;

/// The tracer of a request, in the context of its span.
struct Origin(SdkTracer);

/// The traces of one registry. A clone is the same.
#[derive(Clone, Default)]
pub(crate) struct Traces(Option<Arc<Opened>>);

struct Opened {
    tracer: SdkTracer,
    queue: Arc<Queue>,
    export: Export,
}

impl fmt::Debug for Traces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Traces(on)" } else { "Traces(off)" })
    }
}

/// The span of a request.
pub(crate) struct RequestSpan(Context);

impl fmt::Debug for RequestSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RequestSpan({})", self.trace_id())
    }
}

impl Traces {
    /// Prepares traces. Sends nothing.
    pub(crate) fn open(settings: &Settings) -> Result<Self, String> {
        let attributes = settings.resource.iter().map(|(name, value)| KeyValue::new(name.clone(), value.clone()));
        let resource = Resource::builder_empty()
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .with_attributes(attributes)
            .with_service_name(settings.service.clone())
            .build();
        let queue = Arc::new(Queue::new());
        let ratio = Sampler::TraceIdRatioBased(f64::from(settings.sample_per_million) / MILLION);
        let provider = SdkTracerProvider::builder()
            .with_span_processor(Intake(Arc::clone(&queue)))
            .with_sampler(Sampler::ParentBased(Box::new(ratio)))
            .with_resource(resource.clone())
            .build();
        let tracer = provider.tracer("coracle");
        let export = Export::new(settings, &resource)?;
        Ok(Self(Some(Arc::new(Opened { tracer, queue, export }))))
    }

    /// Begins the span of a request. `None` if there are no traces.
    pub(crate) fn begin(&self, head: &Parts, agent: &str) -> Option<RequestSpan> {
        let Opened { tracer, .. } = &**self.0.as_ref()?;
        let caller = TraceContextPropagator::new().extract_with_context(&Context::new(), &Received(&head.headers));
        let builder = tracer.span_builder(method_name(&head.method)).with_kind(SpanKind::Server);
        let context = caller.with_span(tracer.build_with_context(builder, &caller));
        let context = context.with_value(Origin(tracer.clone()));
        let span = context.span();
        if span.is_recording() {
            span.set_attribute(KeyValue::new("http.request.method", method_name(&head.method)));
            span.set_attribute(KeyValue::new("url.path", shortened(head.uri.path())));
            if !agent.is_empty() {
                span.set_attribute(KeyValue::new("user_agent.original", shortened(agent)));
            }
            if let Some(host) = head.headers.get(header::HOST).and_then(|host| host.to_str().ok()) {
                span.set_attribute(KeyValue::new("server.address", shortened(host)));
            }
        }
        Some(RequestSpan(context))
    }

    /// Sets the figures in the metrics.
    pub(crate) fn report(&self, metrics: &Metrics) {
        if let Some(opened) = &self.0 {
            metrics.traces(opened.export.sent(), opened.queue.dropped());
        }
    }

    /// Sends spans until it is dropped.
    pub(crate) async fn send(self) {
        if let Some(opened) = &self.0 {
            opened.export.run(&opened.queue).await;
        }
    }

    /// Sends the spans that wait, for a short time. Call it when requests have ended.
    pub(crate) async fn flush(&self) {
        if let Some(opened) = &self.0 {
            opened.export.flush(&opened.queue).await;
        }
    }
}

impl RequestSpan {
    /// The id of the trace, for the log.
    pub(crate) fn trace_id(&self) -> String {
        self.0.span().span_context().trace_id().to_string()
    }

    /// Ends the span.
    pub(crate) fn end(&self, ended: &Ended<'_>) {
        let span = self.0.span();
        if span.is_recording() {
            span.set_attribute(KeyValue::new("http.response.status_code", i64::from(ended.status)));
            span.set_attribute(KeyValue::new("http.response.body.size", i64::try_from(ended.sent).unwrap_or(i64::MAX)));
            span.set_attribute(KeyValue::new("coracle.request.id", ended.id.to_owned()));
            for (name, address) in [("client.address", ended.client), ("network.peer.address", ended.peer)] {
                if let Some(address) = address {
                    span.set_attribute(KeyValue::new(name, address.to_string()));
                }
            }
            if ended.status >= 500 {
                span.set_attribute(KeyValue::new("error.type", ended.status.to_string()));
                span.set_status(Status::error(""));
            } else if ended.is_aborted {
                span.set_attribute(KeyValue::new("error.type", "disconnected"));
            }
        }
        span.end();
    }
}

/// Runs the work of a request in its span.
pub(crate) fn in_span<F: Future>(span: Option<&RequestSpan>, work: F) -> impl Future<Output = F::Output> {
    work.with_context(span.map_or_else(Context::new, |span| span.0.clone()))
}

/// Runs work in the span of the current task, for a task of its own.
pub(crate) fn in_current<F: Future>(work: F) -> impl Future<Output = F::Output> {
    work.with_current_context()
}

/// Names the span of the current request after its route.
pub(crate) fn name_current(method: &Method, route: &'static str) {
    Context::map_current(|context| {
        let span = context.span();
        if span.is_recording() {
            span.update_name(format!("{} {route}", method_name(method)));
            span.set_attribute(KeyValue::new("http.route", route));
        }
    });
}

/// The span of a request to an upstream, until the head of its response. A task that works for no request has no span.
#[derive(Debug)]
pub(crate) struct UpstreamSpan(Option<Context>);

impl UpstreamSpan {
    /// Begins the span, and sets `traceparent`.
    pub(crate) fn begin(method: &Method, url: &Url, headers: &mut HeaderMap) -> Self {
        let context = Context::current();
        let Some(Origin(tracer)) = context.get::<Origin>() else { return Self(None) };
        let builder = tracer.span_builder(method_name(method)).with_kind(SpanKind::Client);
        let context = context.with_span(tracer.build_with_context(builder, &context));
        let span = context.span();
        if span.is_recording() {
            // Without the query, which may have a signature.
            let full =
                format!("{}://{}{}", url.scheme(), url.authority().rsplit('@').next().unwrap_or_default(), url.path());
            span.set_attribute(KeyValue::new("http.request.method", method_name(method)));
            span.set_attribute(KeyValue::new("url.full", shortened(&full)));
            span.set_attribute(KeyValue::new("server.address", url.host_str().unwrap_or_default().to_owned()));
            span.set_attribute(KeyValue::new(
                "server.port",
                i64::from(url.port_or_known_default().unwrap_or_default()),
            ));
        }
        TraceContextPropagator::new().inject_context(&context, &mut Sent(headers));
        Self(Some(context))
    }

    /// Ends the span with the status of the response, if there is one.
    pub(crate) fn end(self, status: Option<u16>) {
        let Self(Some(context)) = self else { return };
        let span = context.span();
        if let Some(status) = status {
            span.set_attribute(KeyValue::new("http.response.status_code", i64::from(status)));
        }
        if status.is_none_or(|status| status >= 400) {
            let kind = status.map_or_else(|| "no response".to_owned(), |status| status.to_string());
            span.set_attribute(KeyValue::new("error.type", kind));
            span.set_status(Status::error(""));
        }
        span.end();
    }
}

/// A method as OpenTelemetry names it. Others share one name.
fn method_name(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "_OTHER",
    }
}

fn shortened(text: &str) -> String {
    text[..text.floor_char_boundary(VALUE_BYTES_MAX)].to_owned()
}

/// The headers of a request.
struct Received<'a>(&'a HeaderMap);

impl Extractor for Received<'_> {
    fn get(&self, name: &str) -> Option<&str> {
        let value = self.0.get(name)?.to_str().ok()?;
        Some(value).filter(|value| value.len() <= STATE_BYTES_MAX)
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(HeaderName::as_str).collect()
    }
}

/// The headers of a request to an upstream. `tracestate` stays here, because an upstream belongs to others.
struct Sent<'a>(&'a mut HeaderMap);

impl Injector for Sent<'_> {
    fn set(&mut self, name: &str, value: String) {
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(&value))
            && name != STATE
        {
            self.0.insert(name, value);
        }
    }
}
