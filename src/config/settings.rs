//! The values of a checked configuration by key, with the defaults of the key table behind them.
//!
//! Knows the table, not the file. What must always hold: a setting has the kind of its row, and asking
//! for a key that is not set gives the table's default, which stands nowhere else.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::keys::{self, Row};

/// One value, read as its row's kind says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Setting {
    /// Given, and reported as wrong.
    Faulty,
    Bool(bool),
    Int(i64),
    Nanoseconds(i64),
    Text(String),
    Texts(Vec<String>),
    /// A list of tables.
    List(Vec<Settings>),
    /// Tables under names of the user's own.
    Map(BTreeMap<String, Settings>),
}

/// Values by the key of their row; a table within a list has its own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Settings {
    by_key: BTreeMap<&'static str, Setting>,
}

/// A type that a setting can be read as; nothing if the setting is of another kind.
pub(super) trait FromSetting: Sized {
    fn from_setting(setting: &Setting) -> Option<Self>;
}

impl Settings {
    pub(super) fn insert(&mut self, key: &'static str, setting: Setting) {
        self.by_key.insert(key, setting);
    }

    /// What the file says at a key, if it says anything.
    pub(super) fn given(&self, key: &str) -> Option<&Setting> {
        self.by_key.get(key)
    }

    /// The value at a key, or the table's default.
    pub(super) fn get<T: FromSetting>(&self, key: &str) -> T {
        let default = || keys::find(key).and_then(Row::default_setting);
        self.given(key)
            .cloned()
            .or_else(default)
            .and_then(|setting| T::from_setting(&setting))
            .expect("a key is asked for as the kind of its row, which a test does for each")
    }
}

impl FromSetting for bool {
    fn from_setting(setting: &Setting) -> Option<Self> {
        match setting {
            Setting::Bool(truth) => Some(*truth),
            _ => None,
        }
    }
}

impl FromSetting for u16 {
    fn from_setting(setting: &Setting) -> Option<Self> {
        match setting {
            Setting::Int(number) => (*number).try_into().ok(),
            _ => None,
        }
    }
}

impl FromSetting for u64 {
    fn from_setting(setting: &Setting) -> Option<Self> {
        match setting {
            Setting::Int(number) => (*number).try_into().ok(),
            _ => None,
        }
    }
}

impl FromSetting for usize {
    fn from_setting(setting: &Setting) -> Option<Self> {
        match setting {
            Setting::Int(number) => (*number).try_into().ok(),
            _ => None,
        }
    }
}

impl FromSetting for Duration {
    fn from_setting(setting: &Setting) -> Option<Self> {
        match setting {
            Setting::Nanoseconds(number) => (*number).try_into().ok().map(Self::from_nanos),
            _ => None,
        }
    }
}

impl FromSetting for String {
    fn from_setting(setting: &Setting) -> Option<Self> {
        match setting {
            Setting::Text(text) => Some(text.clone()),
            _ => None,
        }
    }
}

/// An empty text is no value.
impl FromSetting for Option<String> {
    fn from_setting(setting: &Setting) -> Option<Self> {
        String::from_setting(setting).map(|text| Some(text).filter(|text| !text.is_empty()))
    }
}

/// An empty text is no path.
impl FromSetting for Option<PathBuf> {
    fn from_setting(setting: &Setting) -> Option<Self> {
        Option::<String>::from_setting(setting).map(|text| text.map(PathBuf::from))
    }
}

impl FromSetting for Vec<String> {
    fn from_setting(setting: &Setting) -> Option<Self> {
        match setting {
            Setting::Texts(texts) => Some(texts.clone()),
            _ => None,
        }
    }
}

impl FromSetting for Vec<Settings> {
    fn from_setting(setting: &Setting) -> Option<Self> {
        match setting {
            Setting::List(tables) => Some(tables.clone()),
            _ => None,
        }
    }
}
