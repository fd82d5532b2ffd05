//! `http.tls` and `http.auth.mtls`: the certificate of the registry, and users who sign in with a client certificate.

use std::path::PathBuf;

use regex_lite::Regex;

use super::keys::Row;
use super::kind::Kind::{self, Path, SomeOf, Text};
use super::settings::{FromSetting, Section, Setting, Settings, section};
use super::walk::Findings;

const AUTHORITIES: &str = "http.tls.cacert";
const MTLS: &str = "http.auth.mtls";
const PATTERN: &str = "http.auth.mtls.uriSanPattern";
const ATTRIBUTES: Kind = SomeOf(&["CommonName", "CN", "Subject", "DN", "Email", "URI", "URL", "DNSName"]);

section! {
    /// Certificate and key. Both were readable when the configuration was read.
    Tls {
        /// PEM file with the certificate chain. Together with http.tls.key, the port speaks TLS.
        cert: PathBuf = "http.tls.cert", Path, "";
        /// PEM file with the private key of http.tls.cert.
        key: PathBuf = "http.tls.key", Path, "";
    }
}

section! {
    /// Users who sign in with a client certificate.
    ClientCertificates {
        /// PEM file with the authorities of client certificates. With it, a client may sign in with a certificate, which
        /// names its user. Read again when it changes.
        authorities: PathBuf = "http.tls.cacert", Path, "";
        /// Parts of a certificate that name the user. The first one that the certificate has counts.
        attributes: Vec<CertificateAttribute> = "http.auth.mtls.identityAttributes", ATTRIBUTES, "[\"CommonName\"]";
        /// Expression that the whole URI of a certificate must match. Its first group is the user.
        uri_pattern: Option<String> = "http.auth.mtls.uriSanPattern", Text, "";
        /// Which URI of a certificate is used, from 0.
        uri_index: u64 = "http.auth.mtls.uriSanIndex", Kind::COUNT, "0";
        /// Which DNS name of a certificate is used, from 0.
        dns_index: u64 = "http.auth.mtls.dnsSanIndex", Kind::COUNT, "0";
        /// Which e-mail address of a certificate is used, from 0.
        email_index: u64 = "http.auth.mtls.emailSanIndex", Kind::COUNT, "0";
    }
}

/// A part of a certificate that can name a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum CertificateAttribute {
    /// The common name of the subject.
    CommonName,
    /// The whole subject, such as `CN=alice,O=Example`.
    Subject,
    /// An e-mail address.
    Email,
    /// A URI.
    Uri,
    /// A DNS name.
    DnsName,
}

impl FromSetting for Vec<CertificateAttribute> {
    fn from_setting(setting: &Setting) -> Option<Self> {
        let Setting::Texts(words) = setting else { return None };
        let read = |word: &String| match word.as_str() {
            "CommonName" | "CN" => Some(CertificateAttribute::CommonName),
            "Subject" | "DN" => Some(CertificateAttribute::Subject),
            "Email" => Some(CertificateAttribute::Email),
            "URI" | "URL" => Some(CertificateAttribute::Uri),
            "DNSName" => Some(CertificateAttribute::DnsName),
            _ => None,
        };
        words.iter().map(read).collect()
    }
}

/// Reads the section if there are authorities.
pub(super) fn read(settings: &Settings) -> Option<ClientCertificates> {
    settings.has_text(AUTHORITIES).then(|| ClientCertificates::read(settings))
}

/// A pattern for whole URIs. A match within a URI would let a program that may choose a part of its URI name any user.
pub(crate) fn uri_pattern(pattern: &str) -> Result<Regex, regex_lite::Error> {
    // `a)|(?:b` is valid only between the parentheses, and would match a part of a URI.
    Regex::new(pattern)?;
    Regex::new(&format!("^(?:{pattern})$"))
}

pub(super) fn check(settings: &Settings, findings: &mut Findings) {
    if let Some(pattern) = settings.get::<Option<String>>(PATTERN) {
        match uri_pattern(&pattern) {
            Err(error) => findings.problem(PATTERN, error.to_string()),
            Ok(regex) if regex.captures_len() < 2 => {
                findings.problem(PATTERN, "needs a group, whose match is the user");
            }
            Ok(_) => {}
        }
    }
    if settings.given(MTLS).is_some() && !settings.has_text(AUTHORITIES) {
        findings.warning(MTLS, format!("has no effect without {AUTHORITIES}, the authorities of client certificates"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_for_whole_uris() {
        let pattern = uri_pattern("a/(.+)|b").expect("it is valid");
        assert!(pattern.is_match("a/x") && pattern.is_match("b"));
        assert!(!pattern.is_match("a/x\n") && !pattern.is_match("xb") && !pattern.is_match("ba/x"));
        for (text, why) in [("a)|(?:b", "closing"), ("(?x) a # b", "without closing"), ("(a{99999}){99}", "size limit")]
        {
            let error = uri_pattern(text).expect_err("it is invalid").to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
