//! Starting a server: opening its sockets. [`RunningRegistry`]: a registry that accepts connections.

use std::future::ready;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use hyper::{Request, Response};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::http2::small_bytes;
use super::linger::Lingering;
use super::listener::check_unix_socket;
use super::tls::{Certificate, Tls, check_authorities};
use super::wrong_scheme::WrongScheme;
use super::{Listener, Port, Server, admin, answer, maintenance};
use crate::config::{self, Speaks};
use crate::http::{Body, BoxError, Connection, OwnHosts};
use crate::kit::opaque_debug::opaque_debug;
use crate::registry::{Error, Registry, Shared};

impl Registry {
    /// Serves where the configuration says (`127.0.0.1:8080` without one). Returns once the registry accepts connections.
    /// Must be called in a tokio runtime.
    pub async fn spawn(&self) -> Result<RunningRegistry, Error> {
        self.serve(self.listen().await?)
    }

    /// Opens the sockets of the configuration. Connections wait until they are served.
    pub(crate) async fn listen(&self) -> Result<Vec<Listener>, Error> {
        let http = &self.shared.config().http;
        let mut listeners = Vec::new();
        for place in http.listens() {
            let opened = Listener::open(&place, &http.unix_socket).await;
            let failed = |source| Error::Listen { address: place.to_string(), key: http.listen_key(), source };
            listeners.push(opened.map_err(failed)?);
        }
        Ok(listeners)
    }

    /// Serves on a free port of the loopback interface, for tests.
    pub async fn spawn_local(&self) -> Result<RunningRegistry, Error> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await;
        let failed = |source| Error::Listen { address: "127.0.0.1:0".to_owned(), key: "http.port", source };
        self.spawn_on(listener.map_err(failed)?)
    }

    /// Serves on a socket that the caller has opened. Must be called in a tokio runtime.
    pub fn spawn_on(&self, listener: TcpListener) -> Result<RunningRegistry, Error> {
        self.serve(vec![listener.into()])
    }

    /// Serves on sockets. Must be called in a tokio runtime.
    pub(crate) fn serve(&self, listeners: Vec<Listener>) -> Result<RunningRegistry, Error> {
        let http = &self.shared.config().http;
        let certificate = match (self.shared.acme(), &http.tls) {
            (Some(acme), _) => Some(Certificate::Issued(Arc::clone(acme))),
            (None, files) => files.clone().map(Certificate::Files),
        };
        let open = |certificate| Tls::open(certificate, http.client_certificates.as_ref());
        let tls = certificate.map(open).transpose()?;
        let (mut ports, mut urls, mut addresses, mut challenges) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for listener in listeners {
            let key = http.listen_key();
            let unknown = |source| Error::Listen { address: "an unknown address".to_owned(), key, source };
            let address = listener.address().map_err(unknown)?;
            let tls = tls.as_ref().filter(|_| listener.speaks == Speaks::TlsOrPlain);
            let has_tls = tls.is_some();
            let only_challenges = listener.speaks == Speaks::Challenges;
            if only_challenges {
                challenges.push(format!("acme://{listener}"));
            } else {
                urls.push(match address {
                    Some(_) => format!("{}://{listener}", if has_tls { "https" } else { "http" }),
                    None => listener.to_string(),
                });
                addresses.extend(address);
            }
            let is_certified = tls.map(|tls| Box::new(tls.is_for()) as Box<_>);
            ports.push(Port {
                listener,
                has_tls,
                only_challenges,
                own_hosts: Arc::new(OwnHosts::new(address, is_certified)),
            });
        }
        urls.append(&mut challenges);
        let (stop, stopped) = watch::channel(false);
        let admin = admin::bind(&self.shared);
        let lingering = Lingering::new(stopped.clone());
        let server = Server {
            shared: Arc::clone(&self.shared),
            tls,
            lingering,
            wrong_scheme: WrongScheme::default(),
            small_bytes: small_bytes(),
        };
        self.shared.note_serving(&urls);
        let task = tokio::spawn(server.run(ports, admin, stopped));
        Ok(RunningRegistry { urls, addresses, stop, task, shared: Arc::clone(&self.shared) })
    }

    /// Answers one request without a socket, through the same code.
    pub async fn answer<B>(&self, request: Request<B>) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        answer(&self.shared, &Connection::default(), ready(true), request, None).await
    }
}

/// The problems that end serving although no other program is in the way: the keys, and why. `check_tls` finds those of
/// the certificate and its key.
pub(crate) fn serving_problems(http: &config::Http) -> Vec<(&'static str, String)> {
    let is_unix = http.listens().iter().any(|place| matches!(place, config::Listen::Unix(_)));
    let group = if is_unix { check_unix_socket(&http.unix_socket) } else { Ok(()) };
    let group = group.map_err(|why| ("http.unixSocket.group", why));
    let clients = http.client_certificates.as_ref().filter(|_| http.has_tls());
    let clients = clients.map_or(Ok(()), check_authorities);
    [group, clients].into_iter().filter_map(Result::err).collect()
}

/// A registry that accepts connections. Dropping it stops the registry without waiting for requests.
pub struct RunningRegistry {
    urls: Vec<String>,
    addresses: Vec<SocketAddr>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
    shared: Arc<Shared>,
}

impl RunningRegistry {
    /// `http://<address>:<port>`, or `https://…`: the first place where it listens. `unix:<path>` for a unix socket.
    pub fn url(&self) -> &str {
        self.urls.first().map_or("", String::as_str)
    }

    /// Every place where it listens, as [`RunningRegistry::url`].
    pub fn urls(&self) -> &[String] {
        &self.urls
    }

    /// The first address on the network where it listens. `0.0.0.0:0` if it only listens on unix sockets.
    pub fn address(&self) -> SocketAddr {
        self.addresses.first().copied().unwrap_or_else(|| (Ipv4Addr::UNSPECIFIED, 0).into())
    }

    /// Stops accepting connections, and returns when running requests have finished or the configured time is over, and
    /// when running writes have ended. Writes that hang delay it by 20 s at most.
    /// Dropping the future stops the registry at once.
    pub async fn shutdown(mut self) {
        self.stop.send_replace(true);
        // The task fails only by a panic, which has been reported already.
        let _ = (&mut self.task).await;
    }
}

impl Drop for RunningRegistry {
    fn drop(&mut self) {
        // Work on stored data is not a part of the task. It ends after its current step, and transfers at once.
        let is_shut_down = self.stop.send_replace(true) && self.task.is_finished();
        self.task.abort();
        // After a shutdown, another server may use the mirror.
        if !is_shut_down {
            maintenance::stop_mirror(&self.shared);
        }
    }
}

opaque_debug!(RunningRegistry { urls });
