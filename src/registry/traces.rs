//! Traces by the configuration.

use super::Error;
use crate::config;
use crate::kit::traces::{Settings, Traces};

/// Prepares traces, if there is a collector. Sends nothing.
pub(super) fn open(config: &config::Traces) -> Result<Traces, Error> {
    let Some(endpoint) = config.endpoint.clone() else { return Ok(Traces::default()) };
    let settings = Settings {
        endpoint,
        headers_file: config.headers_file.clone(),
        ca: config.ca.clone(),
        sample_per_million: config.sample_ratio.per_million(),
        service: config.service_name.clone(),
        resource: config.resource.clone(),
    };
    Traces::open(&settings).map_err(|why| Error::setting("extensions.traces.endpoint", why))
}
