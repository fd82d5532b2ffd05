//! The sinks of the configuration.

use super::Error;
use crate::config::{self, EventSink};
use crate::events::{Events, Sink, SinkSettings};
use crate::kit::outgoing::Trust;

const SINKS: &str = "extensions.events.sinks";

/// Prepares the sinks, if there are any. Sends no request.
pub(super) fn prepare(config: &config::Events) -> Result<Option<Events>, Error> {
    if !config.enable || config.sinks.is_empty() {
        return Ok(None);
    }
    let sinks: Result<_, String> = config.sinks.iter().map(settings).collect();
    sinks.and_then(Events::new).map(Some).map_err(|why| Error::setting(SINKS, why))
}

/// A sink that gets no events, to check its server.
pub(crate) fn open_sink(sink: &EventSink) -> Result<Sink, String> {
    settings(sink).and_then(Sink::new)
}

/// The configuration file has been checked, but programs can set any text.
fn settings(sink: &EventSink) -> Result<SinkSettings, String> {
    let reveal = |secret: &Option<config::Secret>| secret.as_ref().map(|secret| secret.reveal().to_owned());
    Ok(SinkSettings {
        name: sink.name.clone(),
        url: config::sink_address(&sink.address)?,
        channel: sink.channel.clone(),
        timeout: sink.timeout,
        proxy: sink.proxy.clone(),
        headers: config::sink_headers(sink)?,
        login: sink.username.clone().map(|user| (user, reveal(&sink.password).unwrap_or_default())),
        token: reveal(&sink.token),
        token_file: sink.token_file.clone(),
        trust: Trust {
            pem: None,
            authorities: sink.ca.iter().cloned().collect(),
            identity: sink.certificate.clone().zip(sink.key.clone()),
            accepts_any: false,
        },
        secret_file: sink.secret_file.clone(),
        retry_delay: sink.retry_delay,
        max_retry_delay: sink.max_retry_delay,
        max_retries: sink.max_retries,
    })
}
