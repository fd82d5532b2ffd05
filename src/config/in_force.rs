//! The configuration in force, as people read it. No value of it is a secret: the keys of identity providers, which may
//! have one, and access rules are left out.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::acme::AcmeChallenge;
use super::bearer::{WorkloadIssuer, WorkloadRule};
use super::client_certificate::CertificateAttribute;
use super::events::{EventSink, SinkKind};
use super::immutable::ImmutableTags;
use super::keys;
use super::kind::Kind;
use super::listen::Listen;
use super::model::{Address, Config, Difference, LogFormat, LogLevel, Profile, SocketMode};
use super::network::Network;
use super::openid::Secret;
use super::origins::AllowedOrigins;
use super::quota::Quota;
use super::rate_limit::MethodRate;
use super::retention::{KeepTags, RetentionPolicy};
use super::settings::Section;
use super::sync::{SyncContent, SyncRegistry, WhoseCredentials};
use super::time_window::TimeWindow;
use crate::kit::text;

/// The value of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ValueInForce {
    pub(crate) key: &'static str,
    /// The value as text. Empty for none.
    pub(crate) text: String,
    /// Whether it differs from the default.
    pub(crate) is_given: bool,
    pub(crate) doc: String,
}

impl Config {
    /// The values of all keys but those of lists, identity providers and access rules, ordered by key.
    pub(crate) fn in_force(&self) -> Vec<ValueInForce> {
        let (values, defaults) = (self.values(), Self::default().values());
        let mut rows: Vec<_> = values
            .into_iter()
            .filter_map(|(key, value)| {
                let row = keys::find(key)?;
                let is_given = defaults.iter().all(|(known, default)| *known != key || *default != value);
                let is_size = matches!(row.kind, Kind::Size { .. });
                let text = value.parse().ok().filter(|_| is_size).map_or(value, text::size);
                Some(ValueInForce { key, text, is_given, doc: format!("{}.", row.doc()) })
            })
            .collect();
        rows.sort_unstable_by_key(|row| row.key);
        rows
    }

    fn values(&self) -> Vec<(&'static str, String)> {
        let mut values = Vec::new();
        self.show(&mut values);
        self.storage.show(&mut values);
        self.storage.collection.show(&mut values);
        self.http.show(&mut values);
        self.http.auth.show(&mut values);
        self.http.limits.show(&mut values);
        self.http.unix_socket.show(&mut values);
        self.http.rate_limit.show(&mut values);
        if let Some(bearer) = &self.http.auth.bearer {
            bearer.show(&mut values);
        }
        if let Some(ldap) = &self.http.auth.ldap {
            ldap.show(&mut values);
        }
        if let Some(tls) = &self.http.tls {
            tls.show(&mut values);
        }
        if let Some(acme) = &self.http.acme {
            acme.show(&mut values);
        }
        if let Some(clients) = &self.http.client_certificates {
            clients.show(&mut values);
        }
        self.log.show(&mut values);
        self.extensions.metrics.show(&mut values);
        self.extensions.scrub.show(&mut values);
        self.extensions.events.show(&mut values);
        self.extensions.sync.show(&mut values);
        self.extensions.lint.show(&mut values);
        self.extensions.search.show(&mut values);
        self.extensions.ui.show(&mut values);
        self.extensions.traces.show(&mut values);
        values
    }
}

/// A value that people can read.
pub(super) trait Shown {
    fn shown(&self) -> String;
}

/// Implements [`Shown`] by an expression of the value.
macro_rules! shown {
    ($($type:ty: $value:ident => $text:expr;)*) => {$(
        impl Shown for $type {
            fn shown(&self) -> String {
                let $value = self;
                $text
            }
        }
    )*};
}

shown! {
    bool: value => value.to_string();
    u16: value => value.to_string();
    u64: value => value.to_string();
    usize: value => value.to_string();
    String: value => value.clone();
    PathBuf: value => value.display().to_string();
    Duration: value => text::duration(*value);
    Vec<String>: value => value.join(", ");
    Vec<Listen>: value => value.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    SocketMode: value => format!("{:04o}", value.bits());
    Vec<Network>: value => value.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    Vec<Difference>: value => if value.is_empty() { String::new() } else { text::counted(value.len() as u64, "entry", "entries") };
    Vec<RetentionPolicy>: value => if value.is_empty() { String::new() } else { text::counted(value.len() as u64, "policy", "policies") };
    Vec<ImmutableTags>: value => if value.is_empty() { String::new() } else { text::counted(value.len() as u64, "rule", "rules") };
    Vec<Quota>: value => if value.is_empty() { String::new() } else { text::counted(value.len() as u64, "quota", "quotas") };
    Vec<WorkloadIssuer>: value => if value.is_empty() { String::new() } else { text::counted(value.len() as u64, "issuer", "issuers") };
    Vec<WorkloadRule>: value => if value.is_empty() { String::new() } else { text::counted(value.len() as u64, "rule", "rules") };
    Vec<KeepTags>: value => if value.is_empty() { String::new() } else { text::counted(value.len() as u64, "entry", "entries") };
    Vec<MethodRate>: value => value.iter().map(|limit| format!("{} {}", limit.method, limit.rate)).collect::<Vec<_>>().join(", ");
    Vec<SyncRegistry>: value => if value.is_empty() { String::new() } else { text::counted(value.len() as u64, "registry", "registries") };
    Vec<CertificateAttribute>: value => value.iter().map(|attribute| format!("{attribute:?}")).collect::<Vec<_>>().join(", ");
    Vec<AcmeChallenge>: value => value.iter().map(|challenge| challenge.word()).collect::<Vec<_>>().join(", ");
    Vec<EventSink>: value => if value.is_empty() { String::new() } else { text::counted(value.len() as u64, "sink", "sinks") };
    BTreeMap<String, String>: value => value.keys().cloned().collect::<Vec<_>>().join(", ");
    Secret: _value => "(secret)".to_owned();
    SinkKind: value => match value { Self::Http => "http", Self::Nats => "nats" }.to_owned();
    Vec<SyncContent>: value => if value.is_empty() { String::new() } else { text::counted(value.len() as u64, "rule", "rules") };
    TimeWindow: value => value.to_string();
    AllowedOrigins: value => value.to_string();
    IpAddr: value => value.to_string();
    Profile: value => match value { Self::Coracle => "coracle", Self::Zot => "zot" }.to_owned();
    WhoseCredentials: value => match value { Self::Own => "own", Self::Client => "client" }.to_owned();
    LogFormat: value => match value { Self::Text => "text", Self::Json => "json" }.to_owned();
    LogLevel: value => format!("{value:?}").to_lowercase();
    Address: value => match value { Self::All => "all addresses".to_owned(), Self::Localhost => "localhost".to_owned(), Self::Ip(ip) => ip.to_string() };
}

impl<T: Shown> Shown for Option<T> {
    fn shown(&self) -> String {
        self.as_ref().map(Shown::shown).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_in_force_are_readable_and_say_whether_they_are_defaults() {
        let mut config = Config::default();
        config.http.port = 443;
        let values = config.in_force();
        let find = |key: &str| values.iter().find(|value| value.key == key).expect("a key of the table");
        assert_eq!((find("http.port").text.as_str(), find("http.port").is_given), ("443", true));
        assert_eq!((find("storage.gcDelay").text.as_str(), find("storage.gcDelay").is_given), ("24h", false));
        assert_eq!(find("storage.minFreeSpace").text, "64 MiB");
        assert!(values.len() > 30, "{}", values.len());
    }
}
