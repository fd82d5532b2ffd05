//! [`Serving`]: since when and where the registry accepts connections.

use std::time::{Duration, Instant};

use super::Shared;
use crate::kit::clock::Timestamp;

/// The server of a registry.
#[derive(Clone, Debug)]
pub(crate) struct Serving {
    /// Every place where it listens: URLs without a path, as `http://127.0.0.1:8080`, and `unix:` with a path.
    pub(crate) urls: Vec<String>,
    /// When it began to accept connections.
    pub(crate) since: Timestamp,
    began: Instant,
}

impl Serving {
    /// The first place where it listens.
    pub(crate) fn url(&self) -> &str {
        self.urls.first().map_or("", String::as_str)
    }

    /// The duration since then, which a change of the wall clock does not affect.
    pub(crate) fn uptime(&self) -> Duration {
        self.began.elapsed()
    }
}

impl Shared {
    /// Notes that a server accepts connections. The first one counts.
    pub(crate) fn note_serving(&self, urls: &[String]) {
        let _ = self.serving.set(Serving { urls: urls.to_vec(), since: self.now(), began: Instant::now() });
    }

    /// The server of the registry. `None` if it accepts no connections.
    pub(crate) fn serving(&self) -> Option<&Serving> {
        self.serving.get()
    }
}
