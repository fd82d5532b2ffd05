//! [`Naming`]: finds the user that a client certificate names.

use regex_lite::Regex;
use x509_cert::Certificate;
use x509_cert::der::Decode as _;
use x509_cert::der::asn1::ObjectIdentifier;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::{DirectoryString, GeneralName};

use crate::config::{CertificateAttribute, ClientCertificates, uri_pattern};
use crate::identity::access::ClientCertificate;
use crate::kit::clock::Timestamp;

/// The attribute type of a common name (RFC 4519, 2.3).
const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");

/// The parts of a certificate that name its user, in the order in which they are tried.
#[derive(Clone, Debug)]
pub(super) struct Naming {
    attributes: Vec<CertificateAttribute>,
    /// Matches the URI. Its first group is the name.
    uri_pattern: Option<Regex>,
    uri: usize,
    dns: usize,
    email: usize,
}

impl Naming {
    /// The pattern has been checked, but programs can set any text.
    pub(super) fn new(config: &ClientCertificates) -> Result<Self, regex_lite::Error> {
        let pattern = config.uri_pattern.as_deref().map(uri_pattern).transpose()?;
        let index = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        Ok(Self {
            attributes: config.attributes.clone(),
            uri_pattern: pattern,
            uri: index(config.uri_index),
            dns: index(config.dns_index),
            email: index(config.email_index),
        })
    }

    /// The client of a certificate that was verified.
    pub(super) fn client(&self, certificate: &[u8]) -> ClientCertificate {
        let Ok(certificate) = Certificate::from_der(certificate) else { return ClientCertificate::NamesNone };
        let until = certificate.tbs_certificate().validity().not_after.to_date_time().unix_duration();
        let until = Timestamp::from_micros(u64::try_from(until.as_micros()).unwrap_or(u64::MAX));
        // The first part that the certificate has decides, also if it names no user.
        let mut parts =
            self.attributes.iter().filter_map(|attribute| Some((*attribute, self.find(&certificate, *attribute)?)));
        let name = parts.next().and_then(|(attribute, part)| self.name(attribute, part));
        name.map_or(ClientCertificate::NamesNone, |name| ClientCertificate::Names { user: name.into(), until })
    }

    /// The part of a certificate that an attribute stands for.
    fn find(&self, certificate: &Certificate, attribute: CertificateAttribute) -> Option<String> {
        let found = match attribute {
            CertificateAttribute::CommonName => common_name(certificate),
            CertificateAttribute::Subject => Some(certificate.tbs_certificate().subject().to_string()),
            CertificateAttribute::Email => alternative(certificate, self.email, |name| match name {
                GeneralName::Rfc822Name(address) => Some(address.to_string()),
                _ => None,
            }),
            CertificateAttribute::DnsName => alternative(certificate, self.dns, |name| match name {
                GeneralName::DnsName(host) => Some(host.to_string()),
                _ => None,
            }),
            CertificateAttribute::Uri => alternative(certificate, self.uri, |name| match name {
                GeneralName::UniformResourceIdentifier(uri) => Some(uri.to_string()),
                _ => None,
            }),
        };
        found.filter(|part| !part.is_empty())
    }

    /// The user that a part names.
    fn name(&self, attribute: CertificateAttribute, part: String) -> Option<String> {
        match &self.uri_pattern {
            Some(pattern) if attribute == CertificateAttribute::Uri => {
                let name = pattern.captures(&part)?.get(1)?.as_str();
                (!name.is_empty()).then(|| name.to_owned())
            }
            _ => Some(part),
        }
    }
}

fn common_name(certificate: &Certificate) -> Option<String> {
    let subject = certificate.tbs_certificate().subject();
    let values = subject.iter().filter(|part| part.oid == COMMON_NAME);
    let value = values.last()?.value.decode_as::<DirectoryString>().ok()?;
    Some(value.value().into_owned())
}

/// One of the alternative names of a kind.
fn alternative(
    certificate: &Certificate,
    index: usize,
    of_kind: impl Fn(&GeneralName) -> Option<String>,
) -> Option<String> {
    let (_, names) = certificate.tbs_certificate().get_extension::<SubjectAltName>().ok()??;
    names.0.iter().filter_map(of_kind).nth(index)
}
