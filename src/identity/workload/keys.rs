//! [`Keys`]: the keys of an issuer (OpenID Connect Discovery 1.0), or those of a file.
//!
//! They are read at the first use, when they are old, and when a token names an unknown one. There is one read at a time, and
//! a pause after each. If the issuer does not answer, known keys stay in use for a day.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hyper::Request;
use parking_lot::RwLock;
use serde::Deserialize;
use tokio::sync::Mutex;

use super::{IssuerSettings, Reason};
use crate::identity::tokens::{VerifyingKey, read_key_set, read_keys};
use crate::kit::outgoing::{self, Client};

/// The longest pause between two reads.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// How long keys are used that the issuer does not confirm.
const STALE_MAX: Duration = Duration::from_hours(24);
/// The longest time of one request to an issuer. Clients wait for it.
const DEADLINE: Duration = Duration::from_secs(5);

/// The keys of one issuer.
#[derive(Debug)]
pub(super) struct Keys {
    source: Source,
    refresh: Duration,
    known: RwLock<Option<Arc<KeySet>>>,
    /// Whether the last read failed. Then callers with a known key do not wait for another one.
    is_away: AtomicBool,
    /// The mutex allows one read at a time.
    last: Mutex<Option<LastRead>>,
}

#[derive(Debug)]
enum Source {
    Issuer { url: String, client: Client },
    File(PathBuf),
}

/// The last read.
#[derive(Debug)]
struct LastRead {
    at: Instant,
    /// The cause, if it failed.
    failed: Option<String>,
}

/// The keys that one read has found.
#[derive(Debug)]
pub(super) struct KeySet {
    keys: Vec<VerifyingKey>,
    read: Instant,
}

/// The metadata of an issuer that matters.
#[derive(Deserialize)]
struct Metadata {
    issuer: String,
    jwks_uri: String,
}

impl KeySet {
    /// The keys that a token with this key id may have been signed with. A key without an id fits every token.
    pub(super) fn with_id<'k>(&'k self, id: Option<&'k str>) -> impl Iterator<Item = &'k VerifyingKey> {
        self.keys.iter().filter(move |key| key.id().is_none() || key.id() == id)
    }

    fn has(&self, id: Option<&str>) -> bool {
        self.with_id(id).next().is_some()
    }
}

impl Keys {
    pub(super) fn new(settings: &IssuerSettings) -> Result<Self, String> {
        let source = match &settings.keys_file {
            Some(path) => {
                read_keys(path).map_err(|why| format!("keysFile: {why}"))?;
                Source::File(path.clone())
            }
            None => Source::Issuer {
                url: settings.issuer.clone(),
                client: Client::new(outgoing::Settings {
                    ca: settings.ca_file.clone(),
                    ca_pem: settings.ca.clone(),
                    deadline: DEADLINE,
                    ..outgoing::Settings::default()
                }),
            },
        };
        Ok(Self {
            source,
            refresh: settings.keys_refresh,
            known: RwLock::default(),
            is_away: AtomicBool::new(false),
            last: Mutex::default(),
        })
    }

    /// The keys, among which is one with this id unless the issuer has none.
    pub(super) async fn find(&self, id: Option<&str>) -> Result<Arc<KeySet>, Reason> {
        if let Some(fresh) = self.fresh().filter(|set| set.has(id)) {
            return Ok(fresh);
        }
        let mut last = match self.last.try_lock() {
            Ok(last) => last,
            Err(_) => match self.stale(id).filter(|_| self.is_away.load(Ordering::Relaxed)) {
                Some(stale) => return Ok(stale),
                None => self.last.lock().await,
            },
        };
        // Another caller may have read them meanwhile.
        let fresh = self.fresh();
        if let Some(fresh) = fresh.as_ref().filter(|set| set.has(id)) {
            return Ok(Arc::clone(fresh));
        }
        let pause = self.refresh.min(PAUSE_MAX);
        if last.as_ref().is_none_or(|last| last.at.elapsed() >= pause) {
            // Before the read, so that clients that disconnect cause no reads without a pause.
            let failed = last.take().and_then(|last| last.failed);
            *last = Some(LastRead { at: Instant::now(), failed });
            let read = self.read().await;
            let failed = read.as_ref().err().cloned();
            if let Some(cause) = &failed {
                tracing::warn!(issuer = self.name(), cause, "cannot read the keys of an issuer of workload tokens");
            }
            self.is_away.store(failed.is_some(), Ordering::Relaxed);
            *last = Some(LastRead { at: Instant::now(), failed });
            if let Ok(keys) = read {
                let set = Arc::new(KeySet { keys, read: Instant::now() });
                *self.known.write() = Some(Arc::clone(&set));
                return Ok(set);
            }
        }
        if let Some(fresh) = fresh {
            return Ok(fresh);
        }
        let cause = || last.as_ref().and_then(|last| last.failed.clone()).unwrap_or_else(|| "they are old".to_owned());
        self.stale(id).ok_or_else(|| Reason::Unavailable(cause()))
    }

    /// The keys that serve during an outage, if this one is among them.
    fn stale(&self, id: Option<&str>) -> Option<Arc<KeySet>> {
        self.known.read().clone().filter(|set| set.read.elapsed() < STALE_MAX && set.has(id))
    }

    fn fresh(&self) -> Option<Arc<KeySet>> {
        self.known.read().clone().filter(|set| set.read.elapsed() < self.refresh)
    }

    fn name(&self) -> String {
        match &self.source {
            Source::Issuer { url, .. } => url.clone(),
            Source::File(path) => path.display().to_string(),
        }
    }

    async fn read(&self) -> Result<Vec<VerifyingKey>, String> {
        match &self.source {
            Source::File(path) => {
                let path = path.clone();
                let reading = tokio::task::spawn_blocking(move || read_keys(&path)).await;
                reading.map_err(|error| error.to_string())?
            }
            Source::Issuer { url, client } => {
                let at = format!("{}/.well-known/openid-configuration", url.trim_end_matches('/'));
                let metadata: Metadata = serde_json::from_slice(&get(client, &at).await?)
                    .map_err(|error| format!("the metadata of {url} cannot be read: {error}"))?;
                if metadata.issuer != *url {
                    return Err(format!("the metadata of {url} names another issuer"));
                }
                if url.starts_with("https://") && !metadata.jwks_uri.starts_with("https://") {
                    return Err(format!("the metadata of {url} has an address of keys without TLS"));
                }
                read_key_set(&get(client, &metadata.jwks_uri).await?)
            }
        }
    }
}

async fn get(client: &Client, url: &str) -> Result<Vec<u8>, String> {
    let request = Request::get(url).header("accept", "application/json").body(Vec::new());
    let response = client.send(request.map_err(|error| error.to_string())?).await.map_err(|error| error.to_string())?;
    if response.status().as_u16() == 200 {
        return Ok(response.into_body());
    }
    Err(format!("{url} answers {}", response.status()))
}
