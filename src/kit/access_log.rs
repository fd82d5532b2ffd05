//! [`AccessLog`]: where the lines about requests go.
//!
//! Usually each line is an event of `tracing`. Formatting it between two requests evicts their code from the caches of the
//! processor, which costs one to two microseconds. So a program may take the lines as values, and format many of them one
//! after another.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::opaque_debug::opaque_debug;
use super::shown_address::ShownAddress;

/// The target of the events.
pub(crate) const TARGET: &str = "coracle::request";

/// The facts about one request that are logged. `T` stands for each text.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AccessLine<T> {
    /// The id of the request.
    pub(crate) id: T,
    pub(crate) method: T,
    pub(crate) path: T,
    pub(crate) status: u16,
    /// The bytes of the response body that were sent.
    pub(crate) bytes: u64,
    /// From the first line of the request to the last byte of the response.
    pub(crate) duration: Duration,
    pub(crate) user: Option<T>,
    pub(crate) client: Option<IpAddr>,
    pub(crate) peer: Option<SocketAddr>,
    pub(crate) agent: Option<T>,
    /// Whether the response was not sent whole.
    pub(crate) aborted: bool,
    /// The id of the trace.
    pub(crate) trace: Option<T>,
}

/// Takes the fields of a line in their order. A field without a value is left out.
pub(crate) trait Fields {
    fn text(&mut self, name: &str, value: &str);
    /// An address, which needs no quotes.
    fn address(&mut self, name: &str, value: &ShownAddress);
    fn integer(&mut self, name: &str, value: u64);
    fn decimal(&mut self, name: &str, value: f64);
    fn truth(&mut self, name: &str, value: bool);

    fn text_if_any(&mut self, name: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.text(name, value);
        }
    }
}

impl<T> AccessLine<T> {
    /// The same line with something else for each text. The texts come in an order that is always the same.
    pub(crate) fn map<U>(self, mut map: impl FnMut(T) -> U) -> AccessLine<U> {
        AccessLine {
            id: map(self.id),
            method: map(self.method),
            path: map(self.path),
            status: self.status,
            bytes: self.bytes,
            duration: self.duration,
            user: self.user.map(&mut map),
            client: self.client,
            peer: self.peer,
            agent: self.agent.map(&mut map),
            aborted: self.aborted,
            trace: self.trace.map(&mut map),
        }
    }
}

#[cfg(test)]
impl<'a> AccessLine<&'a str> {
    /// A line without optional facts.
    pub(crate) const fn test(id: &'a str) -> Self {
        AccessLine {
            id,
            method: "GET",
            path: "/v2/",
            status: 200,
            bytes: 2,
            duration: Duration::from_micros(31),
            user: None,
            client: None,
            peer: None,
            agent: None,
            aborted: false,
            trace: None,
        }
    }
}

impl AccessLine<&str> {
    /// Hands out the fields of the event of [`AccessLine::emit`].
    pub(crate) fn record(&self, fields: &mut impl Fields) {
        fields.text("id", self.id);
        fields.text("method", self.method);
        fields.text("path", self.path);
        fields.integer("status", self.status.into());
        fields.integer("bytes", self.bytes);
        fields.decimal("seconds", self.duration.as_secs_f64());
        fields.text_if_any("user", self.user);
        if let Some(client) = self.client {
            fields.address("client", &ShownAddress::of_ip(client));
        }
        if let Some(peer) = self.peer {
            fields.address("peer", &ShownAddress::of_socket(peer));
        }
        fields.text_if_any("agent", self.agent);
        fields.truth("aborted", self.aborted);
        fields.text_if_any("trace", self.trace);
    }

    /// Emits the line as an event.
    pub(crate) fn emit(&self) {
        tracing::info!(
            target: TARGET,
            id = self.id,
            method = self.method,
            path = self.path,
            status = self.status,
            bytes = self.bytes,
            seconds = self.duration.as_secs_f64(),
            user = self.user,
            client = self.client.map(|ip| tracing::field::display(ShownAddress::of_ip(ip))),
            peer = self.peer.map(|peer| tracing::field::display(ShownAddress::of_socket(peer))),
            agent = self.agent,
            aborted = self.aborted,
            trace = self.trace,
        );
    }
}

/// Takes a line. It is called next to requests, so it must not wait until the program ends.
type Sink = dyn Fn(&AccessLine<&str>) + Send + Sync;

/// Where the lines about requests go. Clones go to the same place.
#[derive(Clone, Default)]
pub(crate) struct AccessLog {
    /// `None` for events.
    sink: Option<Arc<Sink>>,
}

impl AccessLog {
    /// The lines go to `sink`.
    pub(crate) fn to(sink: impl Fn(&AccessLine<&str>) + Send + Sync + 'static) -> Self {
        Self { sink: Some(Arc::new(sink)) }
    }

    /// Whether anything takes the lines.
    pub(crate) fn is_enabled(&self) -> bool {
        self.sink.is_some() || tracing::enabled!(target: TARGET, tracing::Level::INFO)
    }

    pub(crate) fn write(&self, line: &AccessLine<&str>) {
        match &self.sink {
            Some(sink) => sink(line),
            None => line.emit(),
        }
    }
}

opaque_debug!(AccessLog);
