//! The kinds of values. Each kind reads a value of the tree, or says what it expected instead.
//!
//! A message never repeats a value of free text, since it may be a password.

use std::net::IpAddr;

use serde_json::Value;

use super::origins::AllowedOrigins;
use super::settings::Setting;
use super::time_window::TimeWindow;
use super::units::{duration_nanoseconds, size_bytes, size_text};

/// How many characters of an invalid value a message repeats.
const SHOWN_CHARS_MAX: usize = 60;
/// How a size is written.
const SIZE_UNITS: &str = "in bytes or with the unit KiB, MiB, GiB or TiB, such as \"4MiB\"";

/// First segments of paths that coracle uses itself.
const TAKEN_SEGMENTS: [&str; 8] = ["v2", "api", "zot", "auth", "csrf_token", "livez", "readyz", "startupz"];

/// The kind of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Bool,
    Int {
        least: i64,
        most: i64,
    },
    /// Bytes: a number, or a string with a binary unit.
    Size {
        least: u64,
        most: u64,
    },
    /// A Go duration, or nanoseconds as a number; the bounds are Go durations.
    Duration {
        least: &'static str,
        most: &'static str,
    },
    /// A part of a whole, from 0 to 1, as a number or a string. It is read as millionths.
    Ratio,
    /// A TCP port as a number or a string, 0 for any free one.
    Port,
    /// An IP address, `localhost`, or "" for all addresses.
    Address,
    /// An absolute http or https URL without query, or "".
    Url,
    /// Origins of web pages, separated by commas, `*` for all, or "".
    Origins,
    /// A path of requests that coracle does not use itself.
    UrlPath,
    /// Text that can be quoted in a header: printable ASCII without quotes and backslashes.
    HeaderText,
    /// Hours of the day, or "".
    TimeWindow,
    Text,
    /// A path of the file system, or "".
    Path,
    OneOf(&'static [&'static str]),
    Texts,
    SomeOf(&'static [&'static str]),
    /// A table whose presence has a meaning.
    Table,
    /// A table with a key `enable`, and the default of that key.
    Switch {
        default: bool,
    },
    /// A list of tables.
    List,
    /// A table of texts, whose names the user chooses.
    TextMap,
    /// A table of tables, whose names the user chooses.
    Map,
    /// Anything, unchecked.
    Free,
}

impl Kind {
    pub(super) const ANY_INT: Self = Self::Int { least: i64::MIN, most: i64::MAX };
    pub(super) const ANY_SIZE: Self = Self::Size { least: 0, most: i64::MAX as u64 };
    pub(super) const COUNT: Self = Self::Int { least: 0, most: i64::MAX };
    pub(super) const AT_LEAST_ONE: Self = Self::Int { least: 1, most: i64::MAX };
    pub(super) const LIMIT: Self = Self::duration("1s", "87600h");
    pub(super) const ANY_DURATION: Self = Self::duration("-2562047h", "2562047h");

    pub(super) const fn duration(least: &'static str, most: &'static str) -> Self {
        Self::Duration { least, most }
    }

    /// Whether a value means the same as an absent key.
    pub(super) fn is_unset(self, value: &Value) -> bool {
        let empty_is_default = matches!(self, Self::HeaderText | Self::UrlPath);
        value.is_null() || (empty_is_default && value == "")
    }

    /// The kind of each element of a list.
    pub(super) const fn element(self) -> Option<Self> {
        match self {
            Self::Texts => Some(Self::Text),
            Self::SomeOf(words) => Some(Self::OneOf(words)),
            _ => None,
        }
    }

    /// Reads a value that is not a table. The error says what was expected and what was found.
    pub(super) fn read(self, value: &Value) -> Result<Setting, String> {
        let setting = match (self, value) {
            (Self::Bool, Value::Bool(truth)) => Some(Setting::Bool(*truth)),
            (Self::Int { least, most }, Value::Number(number)) => {
                number.as_i64().filter(|n| (least..=most).contains(n)).map(Setting::Int)
            }
            (Self::Size { least, most }, value) => read_size(value)
                .filter(|bytes| (least..=most).contains(bytes))
                .and_then(|bytes| i64::try_from(bytes).ok())
                .map(Setting::Int),
            (Self::Duration { least, most }, value) => read_duration(value)
                .filter(|n| Some(*n) >= duration_nanoseconds(least))
                .filter(|n| Some(*n) <= duration_nanoseconds(most))
                .map(Setting::Nanoseconds),
            (Self::Ratio, value) => read_ratio(value).map(Setting::Int),
            (Self::Port, value) => read_port(value).map(|port| Setting::Int(port.into())),
            (Self::Address, Value::String(text)) => read_address(text).map(Setting::Text),
            (Self::Url, Value::String(text)) => read_url(text).map(Setting::Text),
            (Self::Origins, Value::String(text)) => {
                text.parse::<AllowedOrigins>().ok().map(|_| Setting::Text(text.clone()))
            }
            (Self::UrlPath, Value::String(text)) => is_free_path(text).then(|| Setting::Text(text.clone())),
            (Self::HeaderText, Value::String(text)) => {
                let fits = |c: char| c == ' ' || (c.is_ascii_graphic() && c != '"' && c != '\\');
                text.chars().all(fits).then(|| Setting::Text(text.clone()))
            }
            (Self::TimeWindow, Value::String(text)) => {
                (text.is_empty() || text.parse::<TimeWindow>().is_ok()).then(|| Setting::Text(text.clone()))
            }
            (Self::Text | Self::Path, Value::String(text)) => Some(Setting::Text(text.clone())),
            (Self::OneOf(words), Value::String(text)) => read_word(words, text).map(Setting::Text),
            (Self::Texts, Value::Array(list)) => read_all(list, |text| Some(text.to_owned())).map(Setting::Texts),
            (Self::SomeOf(words), Value::Array(list)) => {
                read_all(list, |text| read_word(words, text)).map(Setting::Texts)
            }
            (Self::TextMap, Value::Object(texts)) => {
                let text = |(name, value): (&String, &Value)| Some((name.clone(), value.as_str()?.to_owned()));
                texts.iter().map(text).collect::<Option<_>>().map(Setting::TextMap)
            }
            _ => None,
        };
        setting.ok_or_else(|| format!("expected {}, found {}", self.expected(), self.found(value)))
    }

    /// The accepted values, as the object of "expected".
    pub(super) fn expected(self) -> String {
        match self {
            Self::Bool => "true or false".to_owned(),
            Self::Int { least: i64::MIN, .. } => "a whole number".to_owned(),
            Self::Int { least, most: i64::MAX } => format!("a whole number, at least {least}"),
            Self::Int { least, most } => format!("a whole number from {least} to {most}"),
            Self::ANY_SIZE => format!("a size {SIZE_UNITS}"),
            Self::Size { least, most } => {
                format!("a size from {} to {} {SIZE_UNITS}", size_text(least), size_text(most))
            }
            Self::ANY_DURATION => "a duration such as \"1h30m\" (a bare number counts nanoseconds)".to_owned(),
            Self::Duration { least, most } => {
                let day = duration_nanoseconds("24h");
                let fits = duration_nanoseconds(least) <= day && day <= duration_nanoseconds(most);
                let example = if fits { "24h" } else { most };
                format!("a duration from {least} to {most}, such as \"{example}\" (a bare number counts nanoseconds)")
            }
            Self::Ratio => "a number from 0 to 1, such as 0.1".to_owned(),
            Self::Port => "a port from 0 to 65535, as a number or a string".to_owned(),
            Self::Address => "an IP address, \"localhost\", or \"\" for all addresses".to_owned(),
            Self::Url => "a URL such as \"https://registry.example\", without query".to_owned(),
            Self::Origins => {
                "origins of web pages such as \"https://ui.example\", separated by commas, or \"*\" for all".to_owned()
            }
            Self::UrlPath => format!(
                "a path such as \"/metrics\", of letters, digits and -._~, outside /{}",
                TAKEN_SEGMENTS.join(", /")
            ),
            Self::HeaderText => "a string of printable ASCII without quotes and backslashes".to_owned(),
            Self::TimeWindow => "two times of the day, such as \"22:00-06:00\"".to_owned(),
            Self::Text | Self::Path => "a string".to_owned(),
            Self::OneOf(words) => one_of(words),
            Self::Texts => "a list of strings".to_owned(),
            Self::SomeOf(words) => format!("a list of strings, each {}", one_of(words)),
            Self::Table | Self::Switch { .. } => "a table of keys".to_owned(),
            Self::List => "a list of tables".to_owned(),
            Self::TextMap => "a table of names, each with a string".to_owned(),
            Self::Map => "a table of names, each with a table of keys".to_owned(),
            Self::Free => "anything".to_owned(),
        }
    }

    /// Describes an invalid value. Includes it only if it cannot be a secret. A text in the place of a table may be the
    /// secret of a key below.
    pub(super) fn found(self, value: &Value) -> String {
        let is_container =
            matches!(self, Self::Table | Self::Switch { .. } | Self::List | Self::Map | Self::Texts | Self::TextMap);
        let secret = is_container || matches!(self, Self::Text | Self::Path | Self::Url | Self::Origins | Self::Free);
        match value {
            Value::Null => "nothing".to_owned(),
            Value::Array(_) => "a list".to_owned(),
            Value::Object(_) => "a table".to_owned(),
            Value::Bool(_) if secret => "true or false".to_owned(),
            Value::Number(_) if secret => "a number".to_owned(),
            Value::String(_) if is_container => "a string".to_owned(),
            Value::String(_) if secret => "another string".to_owned(),
            Value::Bool(truth) => truth.to_string(),
            Value::Number(number) => number.to_string(),
            Value::String(text) => format!("{:?}", shorten(text)),
        }
    }
}

/// Shortens a text for a message.
pub(super) fn shorten(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

fn one_of(words: &[&str]) -> String {
    match words {
        [word] => format!("\"{word}\""),
        words => format!("one of \"{}\"", words.join("\", \"")),
    }
}

fn read_word(words: &[&str], text: &str) -> Option<String> {
    words.iter().find(|word| word.eq_ignore_ascii_case(text)).map(|word| (*word).to_owned())
}

fn read_all(list: &[Value], read: impl Fn(&str) -> Option<String>) -> Option<Vec<String>> {
    list.iter().map(|element| read(element.as_str()?)).collect()
}

fn read_size(value: &Value) -> Option<u64> {
    match value {
        Value::Number(number) => number.as_u64(),
        Value::String(text) => size_bytes(text),
        _ => None,
    }
}

fn read_duration(value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) => number.as_i64(),
        Value::String(text) => duration_nanoseconds(text),
        _ => None,
    }
}

fn read_ratio(value: &Value) -> Option<i64> {
    let ratio = match value {
        Value::Number(number) => number.as_f64()?,
        Value::String(text) => text.parse::<f64>().ok()?,
        _ => return None,
    };
    // The product is between 0 and a million.
    #[expect(clippy::cast_possible_truncation, reason = "it is in range")]
    (0.0..=1.0).contains(&ratio).then(|| (ratio * 1e6).round() as i64)
}

fn read_port(value: &Value) -> Option<u16> {
    match value {
        Value::Number(number) => number.as_u64()?.try_into().ok(),
        Value::String(text) if text.bytes().all(|b| b.is_ascii_digit()) => text.parse().ok(),
        _ => None,
    }
}

/// Reads an address, without the brackets that zot requires around IPv6.
fn read_address(text: &str) -> Option<String> {
    if text.is_empty() || text.eq_ignore_ascii_case("localhost") {
        return Some(text.to_ascii_lowercase());
    }
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    match bare {
        Some(inner) => inner.parse().ok().filter(IpAddr::is_ipv6),
        None => text.parse().ok(),
    }
    .map(|address| address.to_string())
}

/// Reads a URL, without slashes at its end.
fn read_url(text: &str) -> Option<String> {
    if text.is_empty() {
        return Some(String::new());
    }
    let (scheme, rest) = text.split_once("://")?;
    let is_web = scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https");
    let is_plain = rest.chars().all(|c| c.is_ascii_graphic() && !"?#@\\\"<>".contains(c));
    let has_host = !rest.is_empty() && !rest.starts_with(['/', ':']);
    (is_web && is_plain && has_host).then(|| text.trim_end_matches('/').to_owned())
}

fn is_free_path(text: &str) -> bool {
    let Some(rest) = text.strip_prefix('/') else {
        return false;
    };
    let is_segment = |segment: &str| {
        !matches!(segment, "" | "." | "..")
            && segment.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~".contains(&b))
    };
    rest.split('/').all(is_segment) && rest.split('/').next().is_some_and(|first| !TAKEN_SEGMENTS.contains(&first))
}
