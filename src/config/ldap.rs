//! `http.auth.ldap`: the directory whose users may sign in, and the file with the name that the registry searches with.
//!
//! A secret is never printed, and no message contains one.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use super::check::check_authorities;
use super::keys::Row;
use super::kind::Kind::{self, Bool, Path as PathText, Port, Text};
use super::openid::{Secret, read_file};
use super::settings::{Section, Settings, section};
use super::walk::Findings;
use crate::identity::directory;
use crate::kit::network::is_loopback;
use crate::oci::JsonObject;

const LDAP: &str = "http.auth.ldap";
const ADDRESS: &str = "http.auth.ldap.address";
const CREDENTIALS: &str = "http.auth.ldap.credentialsFile";
const CA: &str = "http.auth.ldap.caCert";
/// The usual ports, without TLS from the first byte and with it.
const PORT: u16 = 389;
const TLS_PORT: u16 = 636;

section! {
    /// A directory whose users may sign in.
    Ldap {
        /// Host of the LDAP directory whose users may sign in.
        address: String = "http.auth.ldap.address", Text, "required";
        /// Port of the directory. 0 for 636, or for 389 with insecure.
        port: u16 = "http.auth.ldap.port", Port, "0";
        /// Whether the connection begins without TLS.
        insecure: bool = "http.auth.ldap.insecure", Bool, "false";
        /// Whether a connection that begins without TLS continues with it. Needs insecure.
        start_tls: bool = "http.auth.ldap.startTLS", Bool, "false";
        /// Whether any certificate of the directory is accepted. An attacker on the network can then read all passwords.
        skip_verify: bool = "http.auth.ldap.skipVerify", Bool, "false";
        /// PEM file with certificate authorities to trust at the directory, in addition to those of the system.
        ca_cert: Option<PathBuf> = "http.auth.ldap.caCert", PathText, "";
        /// JSON file with bindDN and bindPassword, the name that the registry searches with. Without it, the search is
        /// anonymous. Read again for each connection.
        credentials: Option<PathBuf> = "http.auth.ldap.credentialsFile", PathText, "";
        /// Entry under which users are searched.
        base_dn: String = "http.auth.ldap.baseDN", Text, "required";
        /// Whether users are searched at any depth under baseDN, and not only directly under it.
        subtree_search: bool = "http.auth.ldap.subtreeSearch", Bool, "false";
        /// Attribute with the user name.
        user_attribute: String = "http.auth.ldap.userAttribute", Text, "required";
        /// Additional filter for users.
        user_filter: Option<String> = "http.auth.ldap.userFilter", Text, "";
        /// Attribute with the groups of a user.
        user_group_attribute: Option<String> = "http.auth.ldap.userGroupAttribute", Text, "";
        /// How often the registry asks the directory whether a user still exists. 0 for never.
        recheck: Option<Duration> = "http.auth.ldap.recheck", Kind::duration("0s", "8760h"), "1h";
        /// How long a user who has signed in can do so again while the directory does not answer. 0 for not at all.
        outage_memory: Duration = "http.auth.ldap.outageMemory", Kind::duration("0s", "24h"), "1h";
    }
}

impl Ldap {
    /// The port, if it is not given the usual one.
    pub(crate) fn port_in_use(&self) -> u16 {
        match self.port {
            0 if self.insecure => PORT,
            0 => TLS_PORT,
            port => port,
        }
    }
}

/// The content of `credentialsFile`, as in zot.
#[derive(Deserialize)]
struct Credentials {
    #[serde(rename = "bindDN", alias = "BindDN", alias = "binddn")]
    bind_dn: String,
    #[serde(rename = "bindPassword", alias = "BindPassword", alias = "bindpassword")]
    bind_password: String,
}

/// Reads the name and the password that the registry searches with.
pub(crate) fn ldap_credentials(path: &Path) -> Result<(String, Secret), String> {
    let shown = path.to_string_lossy();
    let content = read_file(path).map_err(|error| format!("cannot read {shown:?}: {error}"))?;
    // The error of the parser is left out, because it may show the secret.
    let JsonObject(read): JsonObject<Credentials> = serde_json::from_str(&content)
        .map_err(|_| format!("{shown:?} is not a JSON object with bindDN and bindPassword"))?;
    if read.bind_dn.is_empty() || read.bind_password.is_empty() {
        // A directory takes a bind without a password for an anonymous one.
        return Err(format!("{shown:?} has an empty bindDN or bindPassword"));
    }
    Ok((read.bind_dn, Secret::new(read.bind_password)))
}

/// Reads the section if it is complete.
pub(super) fn read(settings: &Settings) -> Option<Ldap> {
    let required = Ldap::ROWS.iter().filter(|row| row.is_required());
    required.into_iter().all(|row| settings.has_text(row.key)).then(|| {
        let ldap = Ldap::read(settings);
        Ldap { recheck: ldap.recheck.filter(|every| !every.is_zero()), ..ldap }
    })
}

/// Reports the problems of the section.
pub(super) fn check(settings: &Settings, findings: &mut Findings) {
    if settings.given(LDAP).is_none() || findings.has_problem_under(LDAP) {
        return;
    }
    for row in Ldap::ROWS.iter().filter(|row| row.is_required() && !settings.has_text(row.key)) {
        findings.problem(row.key, "is empty: it is required");
    }
    let Some(ldap) = read(settings) else { return };
    if ldap.address.contains(['/', '@', ' '])
        || ldap.address.parse::<std::net::Ipv6Addr>().is_err() && ldap.address.contains(':')
    {
        findings.problem(ADDRESS, "expected a host such as \"ldap.example\", without a scheme and a port");
    }
    if !ldap.base_dn.contains('=') {
        findings.problem("http.auth.ldap.baseDN", "expected a distinguished name such as \"ou=people,dc=example\"");
    }
    let attributes = [
        ("http.auth.ldap.userAttribute", Some(&ldap.user_attribute)),
        ("http.auth.ldap.userGroupAttribute", ldap.user_group_attribute.as_ref()),
    ];
    for (key, name) in attributes {
        if name.is_some_and(|name| !is_attribute(name)) {
            findings.problem(key, "expected the name of an attribute, such as \"uid\"");
        }
    }
    if let Some(why) = ldap.user_filter.as_deref().and_then(directory::filter_problem) {
        findings.problem("http.auth.ldap.userFilter", why);
    }
    if let Some(Err(why)) = ldap.credentials.as_deref().map(ldap_credentials) {
        findings.problem(CREDENTIALS, why);
    }
    check_authorities(CA, settings, findings);
    warn(&ldap, findings);
}

/// Warns of settings that have no effect or no protection.
fn warn(ldap: &Ldap, findings: &mut Findings) {
    if ldap.start_tls && !ldap.insecure {
        let why = "has no effect without insecure: the connection has TLS from the first byte, as in zot";
        findings.warning("http.auth.ldap.startTLS", why);
    }
    let is_plain = ldap.insecure && !ldap.start_tls;
    if is_plain && !is_loopback(&ldap.address) {
        let why = "sends passwords in clear text: add startTLS, or use the TLS port without insecure";
        findings.warning("http.auth.ldap.insecure", why);
    }
    if is_plain && (ldap.ca_cert.is_some() || ldap.skip_verify) {
        findings.warning("http.auth.ldap.insecure", "has no TLS, so caCert and skipVerify have no effect");
    } else if ldap.skip_verify {
        let why = "lets an attacker on the network read all passwords: use caCert with the directory's authority";
        findings.warning("http.auth.ldap.skipVerify", why);
    }
}

/// Whether a text is the name or number of an attribute (RFC 4512, 1.4).
fn is_attribute(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '.')
}
