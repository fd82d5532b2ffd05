//! [`Naming`]: finds the user that a client certificate names.

use regex::Regex;
use x509_cert::Certificate;
use x509_cert::der::Decode as _;
use x509_cert::der::asn1::ObjectIdentifier;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::{DirectoryString, GeneralName};

use crate::config::{CertificateAttribute, ClientCertificates};
use crate::identity::access::ClientCertificate;

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
    pub(super) fn new(config: &ClientCertificates) -> Result<Self, regex::Error> {
        let pattern = config.uri_pattern.as_deref().map(Regex::new).transpose()?;
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
        let named = self.attributes.iter().find_map(|attribute| self.find(&certificate, *attribute));
        named.map_or(ClientCertificate::NamesNone, |name| ClientCertificate::Names(name.into()))
    }

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
            CertificateAttribute::Uri => {
                let uri = alternative(certificate, self.uri, |name| match name {
                    GeneralName::UniformResourceIdentifier(uri) => Some(uri.to_string()),
                    _ => None,
                })?;
                match &self.uri_pattern {
                    None => Some(uri),
                    Some(pattern) => Some(pattern.captures(&uri)?.get(1)?.as_str().to_owned()),
                }
            }
        };
        found.filter(|name| !name.is_empty())
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
