//! [`Tls`]: accepts TLS connections. Certificate and key are read again when their files change.

mod preference;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{Acceptor, ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConnection};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use self::preference::Configs;
use super::client_certificate::Naming;
use super::read_ahead::ReadAhead;
use crate::acme::{ALPN, Acme};
use crate::config;
use crate::identity::access::ClientCertificate;
use crate::kit::certificate::{Validity, ValidityState, is_for};
use crate::kit::file::FileStamp;
use crate::kit::opaque_debug::opaque_debug;
use crate::registry::Error;

/// The name of HTTP/2 in a TLS handshake.
const HTTP2: &[u8] = b"h2";
const HTTP1: &[u8] = b"http/1.1";

const AUTHORITIES: &str = "http.tls.cacert";

/// The shortest time between two checks of the files.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Accepts TLS connections.
pub(super) struct Tls {
    configs: Mutex<CurrentConfigs>,
    certificate: Arc<Reloading>,
    clients: Option<Clients>,
}

/// Where the certificate comes from.
pub(super) enum Certificate {
    Files(config::Tls),
    /// From an ACME authority.
    Issued(Arc<Acme>),
}

/// A connection after the handshake.
pub(super) struct Accepted<S> {
    pub(super) stream: TlsStream<ReadAhead<S>>,
    /// The certificate that the client has shown.
    pub(super) certificate: ClientCertificate,
    pub(super) is_http2: bool,
    /// Whether an ACME authority has verified a name.
    pub(super) is_challenge: bool,
}

/// The configurations to use.
struct CurrentConfigs {
    configs: Configs,
    /// The file with the authorities of clients.
    watched: Watched<1>,
}

/// Files that are read again when they change, or when the last read failed.
struct Watched<const N: usize> {
    /// The state of the files when they were read last.
    stamps: [Option<FileStamp>; N],
    checked: Instant,
    /// Whether the last read failed. Then the next one may succeed, although the files are the same.
    is_unread: bool,
}

/// Why files are not usable.
struct Unusable {
    /// The key of the configuration that names the file.
    key: &'static str,
    why: String,
    /// Whether a file could not be read. Otherwise its content is at fault.
    is_unread: bool,
}

impl Unusable {
    fn content(key: &'static str, why: String) -> Self {
        Self { key, why, is_unread: false }
    }
}

impl<const N: usize> Watched<N> {
    fn new(stamps: [Option<FileStamp>; N], read: Option<&Unusable>) -> Self {
        Self { stamps, checked: Instant::now(), is_unread: read.is_some_and(|error| error.is_unread) }
    }

    /// Reads the files if they have changed, or if the last read failed, and returns the new content. If that fails,
    /// `unusable` is logged, once for each state of the files.
    fn read_changed<T>(
        &mut self,
        stamps: impl FnOnce() -> [Option<FileStamp>; N],
        read: impl FnOnce() -> Result<T, Unusable>,
        unusable: &str,
    ) -> Option<T> {
        if self.checked.elapsed() < CHECK_INTERVAL {
            return None;
        }
        self.checked = Instant::now();
        let stamps = stamps();
        let is_changed = stamps != self.stamps;
        if !is_changed && !self.is_unread {
            return None;
        }
        self.stamps = stamps;
        let read = read();
        self.is_unread = read.as_ref().is_err_and(|error| error.is_unread);
        read.inspect_err(|Unusable { key, why, .. }| {
            if is_changed {
                tracing::error!(key, error = why, "{unusable}");
            }
        })
        .ok()
    }
}

/// Client certificates.
struct Clients {
    authorities: PathBuf,
    naming: Naming,
}

impl Tls {
    /// Reads certificate and key. Fails if they are not usable.
    pub(super) fn open(certificate: Certificate, clients: Option<&config::ClientCertificates>) -> Result<Self, Error> {
        let open = match certificate {
            Certificate::Files(files) => Reloading::open(&files),
            Certificate::Issued(acme) => Reloading::open_issued(acme),
        };
        let unusable = |Unusable { key, why, .. }| Error::Tls { cause: format!("{key}: {why}").into() };
        let certificate = Arc::new(open.map_err(unusable)?);
        let clients = clients.map(|clients| {
            let naming = Naming::new(clients).map_err(|error| Error::Tls { cause: error.into() })?;
            Ok::<_, Error>(Clients { authorities: clients.authorities.clone(), naming })
        });
        let clients = clients.transpose()?;
        let stamp = clients.as_ref().and_then(|clients| FileStamp::at(&clients.authorities));
        let configs = configs(&certificate, clients.as_ref()).map_err(unusable)?;
        let configs = Mutex::new(CurrentConfigs { configs, watched: Watched::new([stamp], None) });
        Ok(Self { configs, certificate, clients })
    }

    /// Performs the handshake.
    pub(super) async fn accept<S: AsyncRead + AsyncWrite + Unpin>(&self, socket: S) -> io::Result<Accepted<S>> {
        let configs = self.configs();
        let start = LazyConfigAcceptor::new(Acceptor::default(), ReadAhead::new(socket)).await?;
        let config = Arc::clone(configs.for_client(&start.client_hello()));
        let stream = start.into_stream(config).await?;
        let session = stream.get_ref().1;
        let (certificate, protocol) = (self.client(session), session.alpn_protocol());
        let (is_http2, is_challenge) = (protocol == Some(HTTP2), protocol == Some(ALPN));
        Ok(Accepted { stream, certificate, is_http2, is_challenge })
    }

    /// Returns the configurations to use. If a changed file of authorities is not usable, this logs an error and keeps the
    /// old ones.
    fn configs(&self) -> Configs {
        let mut current = self.configs.lock();
        if let Some(clients) = &self.clients {
            let changed = current.watched.read_changed(
                || [FileStamp::at(&clients.authorities)],
                || configs(&self.certificate, Some(clients)),
                "the changed authorities are not usable: the previous ones stay in use",
            );
            if let Some(changed) = changed {
                tracing::info!(file = %clients.authorities.display(), "read the changed authorities of clients");
                current.configs = changed;
            }
        }
        current.configs.clone()
    }

    /// The client certificate of a connection.
    fn client(&self, session: &ServerConnection) -> ClientCertificate {
        let shown = session.peer_certificates().and_then(|chain| chain.first());
        match (shown, &self.clients) {
            (Some(certificate), Some(clients)) => clients.naming.client(certificate),
            _ => ClientCertificate::None,
        }
    }

    /// Returns a function that tells whether the current certificate is for a name.
    pub(super) fn is_for(&self) -> impl Fn(&str) -> bool + Send + Sync + use<> {
        let certificate = Arc::clone(&self.certificate);
        move |name| certificate.current().end_entity_cert().is_ok_and(|certificate| is_for(certificate, name))
    }
}

/// Makes configurations. They have tickets of their own, so that no session continues that earlier authorities permitted.
fn configs(certificate: &Arc<Reloading>, clients: Option<&Clients>) -> Result<Configs, Unusable> {
    let failed = |error: rustls::Error| Unusable::content("http.tls", error.to_string());
    let provider = Arc::new(preference::provider());
    let builder = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider));
    let builder = builder.with_safe_default_protocol_versions().map_err(failed)?;
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(Clients { authorities: path, .. }) => {
            let roots = authorities(path)?;
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            let verifier = verifier.allow_unauthenticated().build();
            let verifier = verifier.map_err(|error| Unusable::content(AUTHORITIES, error.to_string()))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut server = builder.with_cert_resolver(Arc::<Reloading>::clone(certificate));
    // A client that comes back shows what it was given, so the registry remembers nothing of it.
    server.ticketer = aws_lc_rs::Ticketer::new().map_err(failed)?;
    server.session_storage = Arc::new(NoServerSessionStorage {});
    server.alpn_protocols = vec![HTTP2.to_vec(), HTTP1.to_vec()];
    if certificate.acme.is_some() {
        server.alpn_protocols.push(ALPN.to_vec());
    }
    Ok(Configs::new(server))
}

/// The last usable certificate and key of two files.
#[derive(Debug)]
struct Reloading {
    certificate: PathBuf,
    key: PathBuf,
    current: Mutex<Current>,
    /// The authority that issues the certificate. One file has certificate and key then.
    acme: Option<Arc<Acme>>,
}

struct Current {
    certified: Arc<CertifiedKey>,
    /// The two files.
    watched: Watched<2>,
}

impl Reloading {
    fn open(files: &config::Tls) -> Result<Self, Unusable> {
        let (certificate, key) = (files.cert.clone(), files.key.clone());
        let stamps = [&certificate, &key].map(|path| FileStamp::at(path));
        let certified = Arc::new(load(&certificate, &key)?);
        note(&certified, &certificate);
        let current = Current { certified, watched: Watched::new(stamps, None) };
        Ok(Self { certificate, key, current: Mutex::new(current), acme: None })
    }

    /// Begins with a self-signed certificate if the authority has issued none. A certificate that is not for all names is
    /// used, because the clients of its names need it.
    fn open_issued(acme: Arc<Acme>) -> Result<Self, Unusable> {
        let path = acme.certificate_file();
        let stamps = [&path, &path].map(|path| FileStamp::at(path));
        let (certified, watched) = match load(&path, &path) {
            Ok(certified) => (Arc::new(certified), Watched::new(stamps, None)),
            Err(unusable) => {
                if stamps[0].is_some() {
                    tracing::error!(error = unusable.why, "the certificate of the ACME authority is not usable");
                }
                let stand_in = acme.stand_in().map_err(|why| Unusable::content("http.tls.acme", why))?;
                (stand_in, Watched::new(stamps, Some(&unusable)))
            }
        };
        let current = Mutex::new(Current { certified, watched });
        Ok(Self { certificate: path.clone(), key: path, current, acme: Some(acme) })
    }

    /// Returns the certificate to use. If changed files are not usable, this logs an error and keeps the old certificate.
    fn current(&self) -> Arc<CertifiedKey> {
        let mut current = self.current.lock();
        let changed = current.watched.read_changed(
            || [&self.certificate, &self.key].map(|path| FileStamp::at(path)),
            || load(&self.certificate, &self.key),
            "the changed certificate is not usable: the previous one stays in use",
        );
        if let Some(changed) = changed {
            tracing::info!(certificate = %self.certificate.display(), "read the changed certificate");
            note(&changed, &self.certificate);
            current.certified = Arc::new(changed);
        }
        Arc::clone(&current.certified)
    }
}

impl ResolvesServerCert for Reloading {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        if let Some(acme) = &self.acme
            && hello.alpn().is_some_and(|mut protocols| protocols.any(|protocol| protocol == ALPN))
        {
            // Without a challenge, the handshake fails.
            return acme.challenge_certificate(hello.server_name()?);
        }
        Some(self.current())
    }
}

opaque_debug!(Current);

/// Checks that certificate and key are usable. Otherwise returns the key of the configuration at fault, and why.
pub(crate) fn check_tls(files: &config::Tls) -> Result<(), (&'static str, String)> {
    load(&files.cert, &files.key).map(drop).map_err(|unusable| (unusable.key, unusable.why))
}

/// Checks that the authorities of clients are usable.
pub(super) fn check_authorities(clients: &config::ClientCertificates) -> Result<(), (&'static str, String)> {
    authorities(&clients.authorities).map(drop).map_err(|unusable| (unusable.key, unusable.why))
}

/// Reads the authorities of clients.
fn authorities(path: &Path) -> Result<RootCertStore, Unusable> {
    let unusable = |why: &dyn std::fmt::Display| format!("{} is not usable: {why}", path.display());
    let mut roots = RootCertStore::empty();
    let read = read_chain(path).map_err(|error| match error {
        pem::Error::NoItemsFound => {
            Unusable::content(AUTHORITIES, format!("{} contains no certificate", path.display()))
        }
        error => Unusable { key: AUTHORITIES, why: unusable(&error), is_unread: is_unread(&error) },
    });
    for authority in read? {
        roots.add(authority).map_err(|error| Unusable::content(AUTHORITIES, unusable(&error)))?;
    }
    Ok(roots)
}

/// Reads the certificates of a PEM file, of which there is at least one.
fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, pem::Error> {
    let chain = CertificateDer::pem_file_iter(path)?.collect::<Result<Vec<_>, _>>()?;
    if chain.is_empty() { Err(pem::Error::NoItemsFound) } else { Ok(chain) }
}

const fn is_unread(error: &pem::Error) -> bool {
    matches!(error, pem::Error::Io(_))
}

/// Logs that clients refuse a certificate, or will.
fn note(certified: &CertifiedKey, certificate: &Path) {
    let Some(validity) = certified.end_entity_cert().ok().and_then(Validity::of) else { return };
    let (certificate, Validity { from, until }) = (certificate.display(), validity);
    match validity.now() {
        ValidityState::Expired => {
            tracing::warn!(%certificate, %until, "the certificate has expired: clients refuse it");
        }
        ValidityState::NotYetValid => {
            tracing::warn!(%certificate, %from, "the certificate is not valid yet: clients refuse it");
        }
        ValidityState::ExpiresSoon => tracing::warn!(%certificate, %until, "the certificate expires soon"),
        ValidityState::Valid => {}
    }
}

fn load(certificate: &Path, key: &Path) -> Result<CertifiedKey, Unusable> {
    const CERT: &str = "http.tls.cert";
    const KEY: &str = "http.tls.key";
    let failed = |setting, path: &Path, what: &str, error: pem::Error| match error {
        pem::Error::NoItemsFound => Unusable::content(setting, format!("{} contains no {what}", path.display())),
        error => {
            let why = format!("cannot read {}: {error}", path.display());
            Unusable { key: setting, why, is_unread: is_unread(&error) }
        }
    };
    let chain = read_chain(certificate).map_err(|error| failed(CERT, certificate, "certificate", error))?;
    let der = PrivateKeyDer::from_pem_file(key).map_err(|error| failed(KEY, key, "private key", error))?;
    CertifiedKey::from_der(chain, der, &aws_lc_rs::default_provider()).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            Unusable::content(KEY, format!("{} is not the key of the certificate in {CERT}", key.display()))
        }
        rustls::Error::InvalidCertificate(why) => {
            Unusable::content(CERT, format!("{} is not usable: {why:?}", certificate.display()))
        }
        error => Unusable::content(KEY, format!("{} is not usable: {error}", key.display())),
    })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use std::fs;

    use rcgen::KeyPair;

    use super::*;

    /// Writes a certificate and its key.
    fn write(files: &config::Tls) {
        let key = KeyPair::generate().unwrap();
        let parameters = rcgen::CertificateParams::new(vec!["registry.example".to_owned()]).unwrap();
        fs::write(&files.cert, parameters.self_signed(&key).unwrap().pem()).unwrap();
        fs::write(&files.key, key.serialize_pem()).unwrap();
    }

    #[test]
    fn a_changed_certificate_that_could_not_be_read_is_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let (cert, key) = (directory.path().join("cert.pem"), directory.path().join("key.pem"));
        let files = config::Tls { cert, key };
        write(&files);
        let reloading = Reloading::open(&files).unwrap_or_else(|unusable| panic!("{}", unusable.why));
        let first = reloading.current().cert[0].clone();
        let later = || {
            std::thread::sleep(CHECK_INTERVAL);
            reloading.current().cert[0].clone()
        };
        // Reading a directory is an I/O error.
        fs::remove_file(&files.cert).unwrap();
        fs::create_dir(&files.cert).unwrap();
        assert_eq!(later(), first, "the previous certificate stays in use");
        assert!(reloading.current.lock().watched.is_unread);
        fs::remove_dir(&files.cert).unwrap();
        write(&files);
        // As if the files had been the same when they could not be read.
        reloading.current.lock().watched.stamps = [&files.cert, &files.key].map(|path| FileStamp::at(path));
        assert_ne!(later(), first);
        // An error of the content is not tried again.
        fs::write(&files.cert, "no certificate").unwrap();
        later();
        assert!(!reloading.current.lock().watched.is_unread);
    }
}
