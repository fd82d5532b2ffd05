//! Reads certificates, their keys and authorities from files, and says of a file that is not usable what to do.
//!
//! Nothing but files of a limited size is read: the start of a connection reads changed ones, and must not wait for a pipe.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, RootCertStore};

use crate::config::{self, PEM_BYTES_MAX};
use crate::kit::certificate::{Validity, ValidityState};
use crate::kit::file::read_small;
use crate::kit::text::{shell_word, size};

const CERT: &str = "http.tls.cert";
const KEY: &str = "http.tls.key";
pub(super) const AUTHORITIES: &str = "http.tls.cacert";

/// The bits of the mode of a file for users who neither own it nor are in its group. The group is left out, because a key
/// may be shared with a group on purpose, as Debian's `ssl-cert` does.
const OTHERS: u32 = 0o007;

/// Why files are not usable.
pub(super) struct Unusable {
    /// The key of the configuration that names the file.
    pub(super) key: &'static str,
    pub(super) why: String,
    /// Whether a file could not be read. Otherwise its content is at fault.
    pub(super) is_unread: bool,
}

impl Unusable {
    pub(super) fn content(key: &'static str, why: String) -> Self {
        Self { key, why, is_unread: false }
    }
}

/// The content that a file has to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    Certificate,
    Key,
}

/// Reads a file in PEM.
fn read(setting: &'static str, path: &Path) -> Result<Vec<u8>, Unusable> {
    let unread = |error: io::Error| Unusable {
        key: setting,
        why: format!("cannot read {}: {error}", path.display()),
        is_unread: true,
    };
    let too_large = || {
        let why = format!("{} is larger than {}", path.display(), size(PEM_BYTES_MAX));
        Unusable::content(setting, why)
    };
    let mut content = read_small(path, PEM_BYTES_MAX).map_err(unread)?.ok_or_else(too_large)?;
    // Some editors of Windows begin a file with this mark.
    if content.starts_with(b"\xef\xbb\xbf") {
        content.drain(..3);
    }
    Ok(content)
}

/// The reason why a file does not contain what is wanted, and the next step.
fn explained(setting: &'static str, path: &Path, content: &[u8], wanted: Wanted, error: &pem::Error) -> Unusable {
    let (noun, tool) = match wanted {
        Wanted::Certificate => ("certificate", "x509"),
        Wanted::Key => ("private key", "pkey"),
    };
    let has = |text: &str| content.windows(text.len()).any(|window| window == text.as_bytes());
    let convert = |how: &str| format!("convert it with `openssl {tool} {how}-in OLD -out NEW`");
    let hint = if wanted == Wanted::Key && (has("BEGIN ENCRYPTED PRIVATE KEY") || has("Proc-Type: 4,ENCRYPTED")) {
        format!("the key is encrypted with a passphrase: {}", convert(""))
    } else if content.first() == Some(&0x30) {
        format!("it is in the form DER and not PEM: {}", convert("-inform der "))
    } else if has("BEGIN TRUSTED CERTIFICATE") {
        format!("it has the form TRUSTED CERTIFICATE of OpenSSL: {}", convert(""))
    } else if has("BEGIN CERTIFICATE REQUEST") {
        "it is a request, which an authority answers with a certificate".to_owned()
    } else if let pem::Error::MissingSectionEnd { .. } = error {
        "its end is missing".to_owned()
    } else if wanted == Wanted::Certificate && has("PRIVATE KEY-----") {
        "it contains a private key".to_owned()
    } else if wanted == Wanted::Key && has("BEGIN CERTIFICATE-----") {
        "it contains a certificate".to_owned()
    } else {
        String::new()
    };
    let path = path.display();
    Unusable::content(
        setting,
        match (error, hint.is_empty()) {
            (_, false) => format!("{path} contains no {noun}: {hint}"),
            (pem::Error::NoItemsFound, true) => format!("{path} contains no {noun}"),
            (error, true) => format!("{path} contains no usable {noun}: {error}"),
        },
    )
}

/// Reads the certificates of a file, of which there is at least one.
fn read_chain(setting: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, Unusable> {
    let content = read(setting, path)?;
    let failed = |error: pem::Error| explained(setting, path, &content, Wanted::Certificate, &error);
    let chain = CertificateDer::pem_slice_iter(&content).collect::<Result<Vec<_>, _>>().map_err(failed)?;
    if chain.is_empty() { Err(failed(pem::Error::NoItemsFound)) } else { Ok(chain) }
}

/// Reads a certificate and its key.
pub(super) fn load(certificate: &Path, key: &Path) -> Result<CertifiedKey, Unusable> {
    let chain = read_chain(CERT, certificate)?;
    let content = read(KEY, key)?;
    let read_key = || {
        let der = PrivateKeyDer::from_pem_slice(&content);
        der.map_err(|error| explained(KEY, key, &content, Wanted::Key, &error))
    };
    let provider = super::preference::provider();
    CertifiedKey::from_der(chain.clone(), read_key()?, &provider).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            let is_its = |certificate: &CertificateDer<'static>| {
                let der = read_key().ok()?;
                CertifiedKey::from_der(vec![certificate.clone()], der, &provider).ok()
            };
            let (key, file) = (key.display(), certificate.display());
            Unusable::content(
                KEY,
                match chain.iter().position(|certificate| is_its(certificate).is_some()) {
                    Some(place) => format!(
                        "{key} is the key of certificate number {} in {file}: the certificate of the registry comes first, \
                         and then those of its authorities",
                        place + 1
                    ),
                    None => format!("{key} is not the key of the certificate in {CERT}"),
                },
            )
        }
        rustls::Error::InvalidCertificate(why) => {
            Unusable::content(CERT, format!("{} is not usable: {}", certificate.display(), invalid(&why)))
        }
        _ => Unusable::content(
            KEY,
            format!("{} is not usable: a key is RSA with 2048 to 8192 bits, P-256, P-384, P-521 or Ed25519", key.display()),
        ),
    })
}

/// Why a certificate is invalid.
fn invalid(why: &CertificateError) -> String {
    let text = format!("{why:?}");
    if text.contains("UnsupportedCertVersion") {
        return "it has version 1, and clients need version 3: make a certificate with subjectAltName".to_owned();
    }
    match why {
        CertificateError::BadEncoding => "it is damaged".to_owned(),
        _ => text,
    }
}

/// Reads the authorities of clients.
pub(super) fn authorities(path: &Path) -> Result<RootCertStore, Unusable> {
    let mut roots = RootCertStore::empty();
    for (number, authority) in (1..).zip(read_chain(AUTHORITIES, path)?) {
        roots.add(authority).map_err(|error| {
            let why = match &error {
                rustls::Error::InvalidCertificate(why) => invalid(why),
                error => error.to_string(),
            };
            Unusable::content(
                AUTHORITIES,
                format!("certificate number {number} in {} is not usable: {why}", path.display()),
            )
        })?;
    }
    Ok(roots)
}

/// Checks that certificate and key are usable, and returns warnings about them. A warning and the reason of a failure have
/// the key of the configuration at fault.
pub(crate) fn check_tls(files: &config::Tls) -> Result<Vec<(&'static str, String)>, (&'static str, String)> {
    let certified = load(&files.cert, &files.key).map_err(|unusable| (unusable.key, unusable.why))?;
    Ok(warnings(&certified, &files.key))
}

/// Checks that the authorities of clients are usable.
pub(in crate::server) fn check_authorities(clients: &config::ClientCertificates) -> Result<(), (&'static str, String)> {
    authorities(&clients.authorities).map(drop).map_err(|unusable| (unusable.key, unusable.why))
}

/// Warnings about a usable certificate and the file of its key. Each has the key of the configuration at fault.
pub(super) fn warnings(certified: &CertifiedKey, key: &Path) -> Vec<(&'static str, String)> {
    let refusal = refusal(certified).map(|why| (CERT, why));
    let exposure = exposure(key).map(|why| (KEY, why));
    refusal.into_iter().chain(exposure).collect()
}

/// The reason why other users of this machine may use a private key, if they may.
fn exposure(key: &Path) -> Option<String> {
    let mode = key.metadata().ok()?.mode() & 0o7777;
    (mode & OTHERS != 0).then(|| {
        format!(
            "other users may use the private key {} (mode {mode:04o}): run `chmod o= {}`",
            key.display(),
            shell_word(&key.to_string_lossy())
        )
    })
}

/// The reason why clients refuse a certificate now or soon, if they do.
fn refusal(certified: &CertifiedKey) -> Option<String> {
    let validity = Validity::of(certified.end_entity_cert().ok()?)?;
    let Validity { from, until } = validity;
    match validity.now() {
        ValidityState::Expired => Some(format!("the certificate has expired at {until}: clients refuse it")),
        ValidityState::NotYetValid => Some(format!("the certificate is not valid before {from}: clients refuse it")),
        ValidityState::ExpiresSoon => Some(format!("the certificate expires soon, at {until}")),
        ValidityState::Valid => None,
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_file_without_a_key_or_certificate_says_what_it_has() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let why = |content: &[u8], wanted| {
            fs::write(&path, content).unwrap();
            let content = read(CERT, &path).unwrap_or_else(|unusable| panic!("{}", unusable.why));
            let error = match wanted {
                Wanted::Certificate => CertificateDer::from_pem_slice(&content).unwrap_err(),
                Wanted::Key => PrivateKeyDer::from_pem_slice(&content).unwrap_err(),
            };
            explained(CERT, &path, &content, wanted, &error).why
        };
        let (key, certificate) = (Wanted::Key, Wanted::Certificate);
        let pkcs8 = b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
        let sec1 = b"-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n-----END EC PRIVATE KEY-----\n";
        for encrypted in [&pkcs8[..], sec1] {
            assert!(why(encrypted, key).ends_with("passphrase: convert it with `openssl pkey -in OLD -out NEW`"));
        }
        assert!(why(b"\x30\x82\x01", certificate).contains("`openssl x509 -inform der -in OLD -out NEW`"));
        assert!(why(pkcs8, certificate).ends_with("contains no certificate: it contains a private key"));
        assert!(why(b"-----BEGIN CERTIFICATE-----\nAAAA\n", certificate).ends_with("its end is missing"));
        assert!(why(b"", key).ends_with("contains no private key"));
    }

    #[test]
    fn the_mark_of_an_editor_is_no_content() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let key = rcgen::KeyPair::generate().unwrap().serialize_pem();
        fs::write(&path, format!("\u{feff}{key}")).unwrap();
        let content = read(KEY, &path).unwrap_or_else(|unusable| panic!("{}", unusable.why));
        assert!(PrivateKeyDer::from_pem_slice(&content).is_ok());
    }

    #[test]
    fn a_key_that_other_users_may_use_is_a_warning() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().unwrap();
        let (cert, key) = (directory.path().join("cert.pem"), directory.path().join("the key.pem"));
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        fs::write(&cert, made.cert.pem()).unwrap();
        fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        let files = config::Tls { cert, key };
        let shown = files.key.display();
        for (mode, is_warned) in [(0o600, false), (0o640, false), (0o604, true), (0o644, true)] {
            fs::set_permissions(&files.key, fs::Permissions::from_mode(mode)).unwrap();
            let warning =
                format!("other users may use the private key {shown} (mode {mode:04o}): run `chmod o= '{shown}'`");
            let expected = if is_warned { vec![(KEY, warning)] } else { Vec::new() };
            assert_eq!(check_tls(&files).unwrap(), expected);
        }
    }

    #[test]
    fn a_pipe_and_a_large_file_are_not_read() {
        let directory = tempfile::tempdir().unwrap();
        let (pipe, large) = (directory.path().join("pipe"), directory.path().join("large"));
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        fs::File::create(&large).unwrap().set_len(3 << 30).unwrap();
        let unusable = read(CERT, &pipe).err().unwrap();
        assert!(unusable.why.ends_with("it is not a file"), "{}", unusable.why);
        let unusable = read(CERT, &large).err().unwrap();
        assert!(unusable.why.ends_with("is larger than 1 MiB"), "{}", unusable.why);
    }
}
