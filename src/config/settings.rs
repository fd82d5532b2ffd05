//! The values of a checked configuration by key, and how a struct is read from them.
//!
//! A setting has the kind of its row. A key that is absent has the default of its row.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::keys::{self, Row};
use super::openid::Secret;

/// One value, of the kind of its row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Setting {
    /// The key is absent, and its row has no default.
    Absent,
    /// The value is invalid, which has been reported.
    Invalid,
    Bool(bool),
    Int(i64),
    Nanoseconds(i64),
    Text(String),
    Texts(Vec<String>),
    /// Texts whose names the user chooses.
    TextMap(BTreeMap<String, String>),
    /// A list of tables.
    List(Vec<Settings>),
    /// Tables whose names the user chooses.
    Map(BTreeMap<String, Settings>),
}

/// Values by the key of their row. A table in a list or map has its own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Settings {
    by_key: BTreeMap<&'static str, Setting>,
}

/// A type that a setting can be read as.
pub(super) trait FromSetting: Sized {
    /// Returns `None` if the setting is of another kind.
    fn from_setting(setting: &Setting) -> Option<Self>;
}

/// A table of the configuration. [`section!`] implements it.
pub(super) trait Section: Sized {
    /// The keys of the fields.
    const ROWS: &'static [Row];

    fn read(settings: &Settings) -> Self;

    /// Adds the keys and values of the fields, but not those of nested tables.
    fn show(&self, _values: &mut Vec<(&'static str, String)>) {}

    /// Reads a table that is complete or absent: `None` if a key is missing or empty.
    fn read_if_complete(settings: &Settings) -> Option<Self> {
        Self::ROWS.iter().all(|row| settings.has_text(row.key)).then(|| Self::read(settings))
    }
}

impl Settings {
    pub(super) fn insert(&mut self, key: &'static str, setting: Setting) {
        self.by_key.insert(key, setting);
    }

    /// The value that the file gives a key.
    pub(super) fn given(&self, key: &str) -> Option<&Setting> {
        self.by_key.get(key)
    }

    /// Whether the file gives a key, and not as an empty text.
    pub(super) fn has_text(&self, key: &str) -> bool {
        self.given(key).is_some_and(|setting| *setting != Setting::Text(String::new()))
    }

    /// The tables that the file gives a map.
    pub(super) fn tables(&self, key: &str) -> impl Iterator<Item = (&String, &Self)> {
        let tables = match self.given(key) {
            Some(Setting::Map(tables)) => Some(tables),
            _ => None,
        };
        tables.into_iter().flatten()
    }

    /// The texts that the file gives a list, with their positions.
    pub(super) fn given_texts(&self, key: &str) -> impl Iterator<Item = (usize, &String)> {
        let texts = match self.given(key) {
            Some(Setting::Texts(texts)) => texts.as_slice(),
            _ => &[],
        };
        texts.iter().enumerate()
    }

    /// The value of a key, or the default of its row if the file gives none or an invalid one.
    pub(super) fn get<T: FromSetting>(&self, key: &str) -> T {
        let default = || keys::find(key).and_then(Row::default_setting);
        let given = self.given(key).filter(|setting| **setting != Setting::Invalid).cloned();
        let setting = given.or_else(default).unwrap_or(Setting::Absent);
        T::from_setting(&setting).expect("a key is read as the kind of its row, which a test does for each")
    }
}

/// Defines a struct of the configuration. A field has its documentation, its type, its key, the kind of value that the
/// key takes, and the default. The key table has all of it. A nested field has a function that reads it.
macro_rules! section {
    (
        $(#[doc = $about:literal])+
        $name:ident {
            $($(#[doc = $doc:literal])+ $field:ident: $type:ty = $key:literal, $kind:expr $(, $default:literal)?;)*
            $(nested { $($(#[doc = $nested_doc:literal])+ $nested:ident: $nested_type:ty = $read:expr;)* })?
        }
    ) => {
        $(#[doc = $about])+
        #[derive(Debug, Clone, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct $name {
            $(
                $(#[doc = $doc])+
                #[doc = ""]
                #[doc = concat!("Key `", $key, "`" $(, ", default `", $default, "`")?, ".")]
                pub $field: $type,
            )*
            $($($(#[doc = $nested_doc])+ pub $nested: $nested_type,)*)?
        }

        impl Section for $name {
            const ROWS: &'static [Row] = &[$(Row::supported($key, $kind, concat!("" $(, $default)?), &[$($doc),+]),)*];

            fn read(settings: &Settings) -> Self {
                Self { $($field: settings.get($key),)* $($($nested: $read(settings),)*)? }
            }

            #[allow(unused_variables, reason = "a section may have nested tables only")]
            fn show(&self, values: &mut Vec<(&'static str, String)>) {
                $(values.push(($key, $crate::config::in_force::Shown::shown(&self.$field)));)*
            }
        }
    };
}
pub(super) use section;

/// Implements [`FromSetting`] for types that are read from one kind of setting.
macro_rules! from_setting {
    ($($type:ty: $pattern:pat => $value:expr;)*) => {$(
        impl FromSetting for $type {
            fn from_setting(setting: &Setting) -> Option<Self> {
                match setting {
                    $pattern => $value,
                    _ => None,
                }
            }
        }
    )*};
}
pub(super) use from_setting;

from_setting! {
    bool: Setting::Bool(truth) => Some(*truth);
    u16: Setting::Int(number) => (*number).try_into().ok();
    u64: Setting::Int(number) => (*number).try_into().ok();
    usize: Setting::Int(number) => (*number).try_into().ok();
    Duration: Setting::Nanoseconds(number) => (*number).try_into().ok().map(Self::from_nanos);
    String: Setting::Text(text) => Some(text.clone());
    PathBuf: Setting::Text(text) => Some(text.into());
    Option<String>: Setting::Text(text) => Some(Some(text.clone()).filter(|text| !text.is_empty()));
    Option<PathBuf>: Setting::Text(text) => Some(Some(text.into()).filter(|_| !text.is_empty()));
    Vec<String>: Setting::Texts(texts) => Some(texts.clone());
    BTreeMap<String, String>: Setting::TextMap(texts) => Some(texts.clone());
    Option<Secret>: Setting::Text(text) => Some(Some(Secret::new(text.as_str())).filter(|_| !text.is_empty()));
}

impl FromSetting for Option<Duration> {
    fn from_setting(setting: &Setting) -> Option<Self> {
        if *setting == Setting::Absent { Some(None) } else { Duration::from_setting(setting).map(Some) }
    }
}

impl<T: Section> FromSetting for Vec<T> {
    fn from_setting(setting: &Setting) -> Option<Self> {
        match setting {
            Setting::List(tables) => Some(tables.iter().map(T::read).collect()),
            _ => None,
        }
    }
}
