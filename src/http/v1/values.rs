//! Values that several endpoints read or show, with their schemas.
//!
//! Regular expressions in schemas are of the kind that all libraries read alike.

use std::borrow::Cow;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::input::{PathValue, invalid, parsed};
use crate::http::error::ApiError;
use crate::http::route;
use crate::identity::accounts::{Error, Password};
use crate::kit::clock::Timestamp;
use crate::oci::{Digest, NAME_LENGTH_MAX, RepositoryName, Tag};

pub(super) const EMAIL_MAX: usize = 254;

/// The colours of avatars.
const COLORS: [&str; 8] = ["#969696", "#aec7e8", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#17becf"];

/// Quay's words for a malformed tag.
const INVALID_TAG: &str =
    "Invalid tag: must match [A-Za-z0-9_.-], NOT start with \".\" or \"-\", and can contain 1-128 characters";

/// A repository name (distribution-spec, "Pulling manifests").
pub(super) const REPOSITORY: &str = r"^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*$";

/// The first part of a repository name.
pub(super) const NAMESPACE: &str = r"^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*$";

/// The first part of a repository name, or nothing.
pub(super) const NO_NAMESPACE: &str = r"^([a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)?$";

/// The name of a new user. Users of an htpasswd file may have other names.
pub(super) const USER_NAME: &str = "^[A-Za-z0-9][A-Za-z0-9._@+$-]{0,254}$";

/// Text without control characters.
pub(super) const LINE: &str = r"^[^\x00-\x1f\x7f-\x9f]*$";

const QUAY_TIME: &str = "^[A-Z][a-z]{2}, [0-9]{2} [A-Z][a-z]{2} [0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2} -0000$";

/// The characters that Unicode calls white space or control characters. Libraries differ in what `\s` stands for.
macro_rules! blanks {
    () => {
        r"\x00-\x20\x7f-\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
    };
}

/// A password that a user chooses.
pub(super) const PASSWORD: &str = concat!("^[^", blanks!(), "]*$");

/// An email address.
pub(super) const EMAIL: &str = concat!("^[^@", blanks!(), "]+@[^", blanks!(), "]+$");

/// Gives a type a schema that is written in place of a reference.
macro_rules! schema {
    ([$($generics:tt)*] $type:ty, $json:tt) => {
        impl<$($generics)*> JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($json)
            }
        }
    };
    ($type:ty, $json:tt) => {
        schema!([] $type, $json);
    };
}

schema!(RepositoryName, { "type": "string", "minLength": 1, "maxLength": NAME_LENGTH_MAX, "pattern": REPOSITORY });
schema!(Tag, { "type": "string", "pattern": "^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$" });
schema!(Digest, { "type": "string", "pattern": "^(sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})$" });
schema!([const VALUE: bool] Always<VALUE>, { "type": "boolean", "enum": [VALUE] });
schema!(Switch, { "type": "string", "enum": ["true", "false"] });

impl PathValue for RepositoryName {
    fn parse(text: &str) -> Result<Self, ApiError> {
        Ok(route::repository(text)?)
    }
}

impl PathValue for Tag {
    fn parse(text: &str) -> Result<Self, ApiError> {
        text.parse().map_err(|_| invalid(INVALID_TAG))
    }
}

/// The name of a user in a path.
#[derive(Clone, Debug, JsonSchema)]
#[schemars(inline)]
pub(super) struct UserName(#[schemars(length(min = 1, max = 255))] pub(super) String);

impl PathValue for UserName {
    fn parse(text: &str) -> Result<Self, ApiError> {
        Ok(Self(text.to_owned()))
    }
}

/// The name of a group in a path.
#[derive(Clone, Debug, JsonSchema)]
#[schemars(inline)]
pub(super) struct GroupName(#[schemars(length(min = 1, max = 255), regex(pattern = LINE))] pub(super) String);

impl PathValue for GroupName {
    fn parse(text: &str) -> Result<Self, ApiError> {
        Ok(Self(text.to_owned()))
    }
}

/// The id of an API key or of a refresh token in a path.
#[derive(Clone, Copy, Debug, JsonSchema)]
#[schemars(inline)]
pub(super) struct TokenId(pub(super) Uuid);

impl PathValue for TokenId {
    fn parse(text: &str) -> Result<Self, ApiError> {
        Ok(Self(text.parse().map_err(|_| Error::KeyUnknown)?))
    }
}

/// A parameter that is on or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Switch(pub(super) bool);

impl FromStr for Switch {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        match text {
            "true" => Ok(Self(true)),
            "false" => Ok(Self(false)),
            _ => Err("is true or false"),
        }
    }
}

impl<'de> Deserialize<'de> for Switch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        parsed(deserializer)
    }
}

/// A parameter that is a whole number. A number that is too large to be reached is the largest.
#[derive(Clone, Copy, Debug, JsonSchema)]
#[schemars(inline)]
pub(super) struct WholeNumber(#[schemars(with = "String", regex(pattern = "^[0-9]+$"))] pub(super) usize);

impl FromStr for WholeNumber {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err("must be a whole number that is not negative");
        }
        Ok(Self(text.parse().unwrap_or(usize::MAX)))
    }
}

impl<'de> Deserialize<'de> for WholeNumber {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        parsed(deserializer)
    }
}

/// A field that always has this value. Clients of Quay read it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Always<const VALUE: bool>;

impl<const VALUE: bool> Serialize for Always<VALUE> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bool(VALUE)
    }
}

/// A field that is always null. Clients of Quay read it.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Null;

schema!(Null, { "type": ["string", "null"] });

/// A time as Quay writes it.
#[derive(Clone, Copy, Debug, JsonSchema)]
#[schemars(inline)]
pub(super) struct QuayTime(#[schemars(with = "String", regex(pattern = QUAY_TIME))] pub(super) Timestamp);

impl Serialize for QuayTime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0.rfc2822())
    }
}

/// The kind of account that an entry is about.
#[derive(Clone, Copy, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub(super) enum Kind {
    User,
}

/// A picture of a name: Quay draws it from the hash and the colour.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Avatar {
    name: String,
    #[schemars(regex(pattern = "^[0-9a-f]{64}$"))]
    hash: String,
    #[schemars(extend("enum" = COLORS))]
    color: &'static str,
    kind: Kind,
}

impl Avatar {
    pub(super) fn of(name: &str) -> Self {
        let hash: [u8; 32] = Sha256::digest(name.to_lowercase()).into();
        let color = COLORS[usize::from(hash[0]) % COLORS.len()];
        Self { name: name.to_owned(), hash: hex::encode(hash), color, kind: Kind::User }
    }
}

/// Checks a password that a user chose.
pub(super) fn checked_password(text: &str) -> Result<Password, ApiError> {
    // Quay's words.
    let why = "Invalid password, password must be at least 8 characters and contain no whitespace.";
    Password::chosen(text).map_err(|_| invalid(why))
}

/// Checks that an email address can be one.
pub(super) fn checked_email(text: String) -> Result<String, ApiError> {
    let valid = text.chars().count() <= EMAIL_MAX
        && text.split_once('@').is_some_and(|(user, host)| !user.is_empty() && !host.is_empty())
        && !text.chars().any(|c| c.is_control() || c.is_whitespace());
    if valid { Ok(text) } else { Err(invalid("the email address is not one")) }
}
