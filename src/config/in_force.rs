//! The configuration in force, as people read it. No value of it is a secret: the keys of identity providers, which may
//! have one, and access rules are left out.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::keys;
use super::kind::Kind;
use super::model::{Address, Config, Difference, LogFormat, LogLevel, Profile, RetentionPolicy};
use super::network::Network;
use super::settings::Section;
use super::sync::{SyncContent, SyncRegistry};
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
        if let Some(bearer) = &self.http.auth.bearer {
            bearer.show(&mut values);
        }
        if let Some(tls) = &self.http.tls {
            tls.show(&mut values);
        }
        self.log.show(&mut values);
        self.extensions.metrics.show(&mut values);
        self.extensions.scrub.show(&mut values);
        self.extensions.sync.show(&mut values);
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
    Duration: value => duration(*value);
    Vec<String>: value => value.join(", ");
    Vec<Network>: value => value.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    Vec<Difference>: value => if value.is_empty() { String::new() } else { text::counted(value.len() as u64, "entry", "entries") };
    Vec<RetentionPolicy>: value => if value.is_empty() { String::new() } else { text::counted(value.len() as u64, "policy", "policies") };
    Vec<SyncRegistry>: value => if value.is_empty() { String::new() } else { text::counted(value.len() as u64, "registry", "registries") };
    Vec<SyncContent>: value => if value.is_empty() { String::new() } else { text::counted(value.len() as u64, "rule", "rules") };
    TimeWindow: value => value.to_string();
    IpAddr: value => value.to_string();
    Profile: value => match value { Self::Coracle => "coracle", Self::Zot => "zot" }.to_owned();
    LogFormat: value => match value { Self::Text => "text", Self::Json => "json" }.to_owned();
    LogLevel: value => format!("{value:?}").to_lowercase();
    Address: value => match value { Self::All => "all addresses".to_owned(), Self::Localhost => "localhost".to_owned(), Self::Ip(ip) => ip.to_string() };
}

impl<T: Shown> Shown for Option<T> {
    fn shown(&self) -> String {
        self.as_ref().map(Shown::shown).unwrap_or_default()
    }
}

/// A duration with its largest whole unit, such as `30s` or `24h`.
pub(crate) fn duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    match millis {
        _ if millis == 0 => "0s".to_owned(),
        _ if millis.is_multiple_of(3_600_000) => format!("{}h", millis / 3_600_000),
        _ if millis.is_multiple_of(60_000) => format!("{}m", millis / 60_000),
        _ if millis.is_multiple_of(1000) => format!("{}s", millis / 1000),
        _ => format!("{millis}ms"),
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

    #[test]
    fn durations_have_their_largest_whole_unit() {
        for (millis, text) in [(0, "0s"), (1500, "1500ms"), (90_000, "90s"), (120_000, "2m"), (86_400_000, "24h")] {
            assert_eq!(duration(Duration::from_millis(millis)), text);
        }
    }
}
