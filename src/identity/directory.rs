//! The users of an LDAP directory.
//!
//! [`Directory`] finds the entry of a user, and binds as this entry to verify a password. A directory that does not
//! answer causes an error, never an endless wait. Referrals are not followed. No distinguished name is built from what a
//! client sends, and a name in a filter is escaped (RFC 4515). Knows no account and no database.

#[cfg(feature = "ldap")]
mod client;
mod entry;
#[cfg(feature = "ldap")]
mod transport;

use zeroize::Zeroizing;

use crate::kit::opaque_debug::opaque_debug;
use crate::kit::outgoing::Trust;
#[cfg(feature = "ldap")]
pub(crate) use client::{Directory, filter_problem};
pub(crate) use entry::Entry;

/// The operator's settings for a directory.
pub(crate) struct Settings {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) security: Security,
    /// The directories that are trusted, if the connection has TLS.
    pub(crate) trust: Trust,
    /// The entry under which users are searched.
    pub(crate) base: String,
    /// Whether users are searched at any depth.
    pub(crate) subtree: bool,
    pub(crate) user_attribute: String,
    /// An additional filter for users.
    pub(crate) user_filter: Option<String>,
    pub(crate) group_attribute: Option<String>,
    /// Reads the name and the password that the registry searches with. Called for each connection, so that a changed
    /// password needs no restart.
    pub(crate) bind: Box<dyn Fn() -> Result<Option<Bind>, String> + Send + Sync>,
}

opaque_debug!(Settings { host });

/// How a connection is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Security {
    /// TLS from the first byte.
    Tls,
    /// TLS after the operation `StartTLS`.
    StartTls,
    None,
}

/// A distinguished name with its password.
pub(crate) struct Bind {
    pub(crate) dn: String,
    pub(crate) password: Zeroizing<String>,
}

opaque_debug!(Bind { dn });

/// The directory did not give an answer about a user.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Unavailable(pub(crate) String);

/// How a directory does since the start of the registry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct DirectoryState {
    /// Questions that found the user, with the right password.
    pub(crate) accepted: u64,
    /// Questions about unknown users, or with wrong passwords.
    pub(crate) refused: u64,
    /// Questions without an answer.
    pub(crate) failed: u64,
    /// Why it cannot be asked. `None` if the last question was answered.
    pub(crate) away: Option<String>,
}

/// The directory of a build without LDAP. It has no value.
#[cfg(not(feature = "ldap"))]
#[derive(Clone, Debug)]
pub(crate) enum Directory {}

#[cfg(not(feature = "ldap"))]
impl Directory {
    pub(crate) fn open(_: Settings) -> Result<Self, String> {
        Err("this program was built without the feature ldap".to_owned())
    }

    pub(crate) fn issuer(&self) -> &str {
        match *self {}
    }

    pub(crate) fn state(&self) -> DirectoryState {
        match *self {}
    }

    pub(crate) async fn check(&self) -> Result<(), Unavailable> {
        match *self {}
    }

    pub(crate) async fn verify(&self, _: &str, _: &str) -> Result<Option<Entry>, Unavailable> {
        match *self {}
    }

    pub(crate) async fn find(&self, _: &str) -> Result<Option<Entry>, Unavailable> {
        match *self {}
    }
}

/// Why a text is not a filter. A build without LDAP cannot tell.
#[cfg(not(feature = "ldap"))]
pub(crate) fn filter_problem(_: &str) -> Option<&'static str> {
    None
}

/// The name of a result code of LDAP (RFC 4511, 4.1.9), for messages.
#[cfg(feature = "ldap")]
fn result_name(code: u32) -> String {
    let name = match code {
        2 => "protocolError",
        3 => "timeLimitExceeded",
        8 => "strongerAuthRequired",
        13 => "confidentialityRequired",
        32 => "noSuchObject",
        34 => "invalidDNSyntax",
        49 => "invalidCredentials",
        50 => "insufficientAccessRights",
        51 => "busy",
        52 => "unavailable",
        53 => "unwillingToPerform",
        _ => return format!("the result is {code}"),
    };
    format!("{name} ({code})")
}
