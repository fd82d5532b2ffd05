//! [`Tls`]: accepts TLS connections. Certificate and key are read again when their files change.

mod files;
mod preference;

use std::io;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustls::ServerConnection;
use rustls::crypto::aws_lc_rs;
use rustls::server::{Acceptor, ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

pub(super) use self::files::check_authorities;
pub(crate) use self::files::check_tls;
use self::files::{AUTHORITIES, Unusable, authorities, load};
use self::preference::Configs;
use super::Peer;
use super::client_certificate::Naming;
use super::read_ahead::ReadAhead;
use crate::acme::{ALPN, Acme};
use crate::config;
use crate::identity::access::ClientCertificate;
use crate::kit::certificate::is_for;
use crate::kit::file::FileStamp;
use crate::kit::log_limit::LogLimit;
use crate::kit::opaque_debug::opaque_debug;
use crate::registry::Error;

/// The name of HTTP/2 in a TLS handshake.
const HTTP2: &[u8] = b"h2";
const HTTP1: &[u8] = b"http/1.1";

/// The shortest time between two checks of the files.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Accepts TLS connections.
pub(super) struct Tls {
    /// They are made again when the file with the authorities of clients changes.
    configs: Watched<Configs, 1>,
    certificate: Arc<Reloading>,
    clients: Option<Clients>,
    /// Limits the warnings about client certificates that are refused.
    refused: LogLimit,
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

/// A handshake that failed. The client has not read the reason yet.
pub(super) struct Failed<S> {
    pub(super) error: io::Error,
    pub(super) socket: Option<ReadAhead<S>>,
}

/// A value from files, which are read again when they change, or when the last read failed.
struct Watched<T, const N: usize> {
    value: Mutex<T>,
    files: Mutex<Files<N>>,
}

struct Files<const N: usize> {
    /// Their state when they were read last.
    stamps: [Option<FileStamp>; N],
    checked: Instant,
    /// Whether the last read failed. Then the next one may succeed, although the files are the same.
    is_unread: bool,
}

impl<T: Clone, const N: usize> Watched<T, N> {
    fn new(value: T, stamps: [Option<FileStamp>; N], read: Option<&Unusable>) -> Self {
        let is_unread = read.is_some_and(|error| error.is_unread);
        let files = Files { stamps, checked: Instant::now(), is_unread };
        Self { value: Mutex::new(value), files: Mutex::new(files) }
    }

    /// Returns the value to use. If changed files are not usable, this logs `unusable` and keeps the old value.
    ///
    /// One connection looks at the files, and the others do not wait for it: a network file system may hang.
    fn current(&self, paths: [&Path; N], read: impl FnOnce() -> Result<T, Unusable>, unusable: &str) -> T {
        if let Some(mut files) = self.files.try_lock()
            && files.checked.elapsed() >= CHECK_INTERVAL
            && let Some(value) = run_blocking(|| files.read_changed(paths, read, unusable))
        {
            *self.value.lock() = value;
        }
        self.value.lock().clone()
    }
}

impl<const N: usize> Files<N> {
    /// Reads the files if they have changed, or if the last read failed, and returns the new value. If that fails,
    /// `unusable` is logged, once for each state of the files.
    fn read_changed<T>(
        &mut self,
        paths: [&Path; N],
        read: impl FnOnce() -> Result<T, Unusable>,
        unusable: &str,
    ) -> Option<T> {
        self.checked = Instant::now();
        let stamps = paths.map(FileStamp::at);
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

/// Does work that may block, while other threads take over the tasks of this one.
fn run_blocking<T>(work: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        _ => work(),
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
        let (configs, refused) = (Watched::new(configs, [stamp], None), LogLimit::default());
        Ok(Self { configs, certificate, clients, refused })
    }

    /// Performs the handshake.
    pub(super) async fn accept<S: AsyncRead + AsyncWrite + Unpin>(&self, socket: S) -> Result<Accepted<S>, Failed<S>> {
        let mut acceptor = pin!(LazyConfigAcceptor::new(Acceptor::default(), ReadAhead::new(socket)));
        let start = match acceptor.as_mut().await {
            Ok(start) => start,
            Err(error) => return Err(Failed { error, socket: acceptor.take_io() }),
        };
        // Only now: the client may have waited with its first message.
        let configs = self.configs();
        let config = Arc::clone(configs.for_client(&start.client_hello()));
        let handshake = start.into_stream(config).into_fallible().await;
        let stream = handshake.map_err(|(error, socket)| Failed { error, socket: Some(socket) })?;
        let session = stream.get_ref().1;
        if session.peer_certificates().is_some() && !self.configs().are(&configs) {
            let error = io::Error::other("the authorities of clients changed during the handshake");
            return Err(Failed { error, socket: Some(stream.into_inner().0) });
        }
        let (certificate, protocol) = (self.client(session), session.alpn_protocol());
        let (is_http2, is_challenge) = (protocol == Some(HTTP2), protocol == Some(ALPN));
        Ok(Accepted { stream, certificate, is_http2, is_challenge })
    }

    /// Logs a failed handshake: as a warning if the client certificate was refused, because the client is told nothing but
    /// that.
    pub(super) fn log_failure(&self, peer: Peer, error: &io::Error) {
        let cause = error.get_ref().and_then(|error| error.downcast_ref());
        if let Some(rustls::Error::InvalidCertificate(_)) = cause
            && let Some(count) = self.refused.pass()
        {
            return tracing::warn!(%peer, %error, count, "refused a client certificate");
        }
        tracing::debug!(%peer, %error, "the TLS handshake failed");
    }

    /// The configurations to use.
    fn configs(&self) -> Configs {
        let Some(clients) = &self.clients else { return self.configs.value.lock().clone() };
        let path = &clients.authorities;
        let read = || {
            let configs = configs(&self.certificate, Some(clients))?;
            tracing::info!(file = %path.display(), "read the changed authorities of clients");
            Ok(configs)
        };
        self.configs.current([path], read, "the changed authorities are not usable: the previous ones stay in use")
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
    // One is enough: each connection brings another one.
    server.send_tls13_tickets = 1;
    server.alpn_protocols = vec![HTTP2.to_vec(), HTTP1.to_vec()];
    if certificate.acme.is_some() {
        server.alpn_protocols.push(ALPN.to_vec());
    }
    Ok(Configs::new(server))
}

/// The last usable certificate and key of two files.
struct Reloading {
    certificate: PathBuf,
    key: PathBuf,
    certified: Watched<Arc<CertifiedKey>, 2>,
    /// The authority that issues the certificate. One file has certificate and key then.
    acme: Option<Arc<Acme>>,
}

impl Reloading {
    fn open(files: &config::Tls) -> Result<Self, Unusable> {
        let (certificate, key) = (files.cert.clone(), files.key.clone());
        let stamps = [&certificate, &key].map(|path| FileStamp::at(path));
        let certified = load(&certificate, &key)?;
        note(&certified, &certificate, &key);
        Ok(Self { certificate, key, certified: Watched::new(Arc::new(certified), stamps, None), acme: None })
    }

    /// Begins with a self-signed certificate if the authority has issued none. A certificate that is not for all names is
    /// used, because the clients of its names need it.
    fn open_issued(acme: Arc<Acme>) -> Result<Self, Unusable> {
        let path = acme.certificate_file();
        let stamps = [&path, &path].map(|path| FileStamp::at(path));
        let certified = match load(&path, &path) {
            Ok(certified) => Watched::new(Arc::new(certified), stamps, None),
            Err(unusable) => {
                if stamps[0].is_some() {
                    tracing::error!(error = unusable.why, "the certificate of the ACME authority is not usable");
                }
                let stand_in = acme.stand_in().map_err(|why| Unusable::content("http.tls.acme", why))?;
                Watched::new(stand_in, stamps, Some(&unusable))
            }
        };
        Ok(Self { certificate: path.clone(), key: path, certified, acme: Some(acme) })
    }

    /// The certificate to use.
    fn current(&self) -> Arc<CertifiedKey> {
        let read = || {
            let certified = load(&self.certificate, &self.key)?;
            tracing::info!(certificate = %self.certificate.display(), "read the changed certificate");
            note(&certified, &self.certificate, &self.key);
            Ok(Arc::new(certified))
        };
        let unusable = "the changed certificate is not usable: the previous one stays in use";
        self.certified.current([&self.certificate, &self.key], read, unusable)
    }
}

/// Logs that clients refuse a certificate, or will, and that other users may use its key.
fn note(certified: &CertifiedKey, certificate: &Path, key: &Path) {
    for (_, warning) in files::warnings(certified, key) {
        tracing::warn!(certificate = %certificate.display(), "{warning}");
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

opaque_debug!(Reloading);

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
        assert!(reloading.certified.files.lock().is_unread);
        fs::remove_dir(&files.cert).unwrap();
        write(&files);
        // As if the files had been the same when they could not be read.
        reloading.certified.files.lock().stamps = [&files.cert, &files.key].map(|path| FileStamp::at(path));
        assert_ne!(later(), first);
        // An error of the content is not tried again.
        fs::write(&files.cert, "no certificate").unwrap();
        later();
        assert!(!reloading.certified.files.lock().is_unread);
    }
}
