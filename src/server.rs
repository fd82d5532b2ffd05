//! Sockets: accepting connections, TLS, limits, and stopping gracefully.
//!
//! Knows no endpoint. Invariant: a slow or silent client holds only its own connection, for a limited time.
//! Stopping lets running requests finish.

mod admin;
mod connections;
mod forward;
mod http1;
mod http2;
mod linger;
mod maintenance;
#[cfg(target_os = "linux")]
mod sendfile;
mod tls;
mod unread;
mod write_timeout;
mod wrong_scheme;

use std::convert::Infallible;
use std::fmt;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::server::conn;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};

use crate::config::Address;
use crate::http::{self, Arriving, Body, BoxError, Connection, OwnHosts, RequestBody};
use crate::kit::opaque_debug::opaque_debug;
use crate::registry::{Error, Registry, Shared};
use connections::{ConnectionHandle, Connections, InFlight};
use http1::{ConnectionState, HeadTimeout, Http1Body};
use http2::Activity;
use linger::{Linger, Lingering};
use sendfile::{FileSocket, Windows};
use tls::Tls;
pub(crate) use tls::check_tls;
use unread::{ClientBody, UnreadInput};
use write_timeout::WriteTimeout;
use wrong_scheme::{Mistake, WrongScheme, first_byte};

/// The longest time for a TLS handshake.
const HANDSHAKE_WAIT: Duration = Duration::from_secs(10);
/// The pause after a connection could not be accepted, for example for lack of file handles.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// The time in which a connection that is closed for another one may send GOAWAY and `close_notify`.
const GOODBYE_WAIT: Duration = Duration::from_millis(100);
/// The longest time to wait for running writes when the server stops.
const WORK_WAIT: Duration = Duration::from_secs(10);
/// The most unread bytes of a connection that hyper buffers. One read takes in much of a blob, and the buffers of many
/// connections fit into memory.
const READ_BUFFER_BYTES: usize = 256 * 1024;
/// The most headers of a request. Clients send a dozen.
const HEADERS_MAX: usize = 100;
/// HTTP/2: the flow control windows of one stream and of a connection.
const STREAM_WINDOW_BYTES: u32 = 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 2 * 1024 * 1024;
/// HTTP/2: the most concurrent requests on one connection.
const STREAMS_MAX: u32 = 100;
/// HTTP/2: the most header bytes that clients may send. It is our own limit of 32 KiB, and the 32 bytes that RFC 9113,
/// 6.5.2, adds for each field. The 16 KiB of hyper's default are too few for podman, which requests 1024 ranges at once.
const HEADER_LIST_BYTES_MAX: u32 = 36 * 1024;

impl Registry {
    /// Serves on the configured address (`127.0.0.1:8080` without a configuration). Returns once the registry accepts
    /// connections. Must be called in a tokio runtime.
    pub async fn spawn(&self) -> Result<RunningRegistry, Error> {
        let http = &self.shared.config().http;
        let address = match http.address {
            Address::All => format!("[::]:{}", http.port),
            Address::Localhost => format!("localhost:{}", http.port),
            Address::Ip(ip) => SocketAddr::new(ip, http.port).to_string(),
        };
        let listener = match (TcpListener::bind(&address).await, &http.address) {
            // The system may have no IPv6.
            (Err(_), Address::All) => TcpListener::bind(("0.0.0.0", http.port)).await,
            (result, _) => result,
        };
        self.spawn_on(listener.map_err(|source| Error::Listen { address, source })?)
    }

    /// Serves on a free port of the loopback interface, for tests.
    pub async fn spawn_local(&self) -> Result<RunningRegistry, Error> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await;
        self.spawn_on(listener.map_err(|source| Error::Listen { address: "127.0.0.1:0".to_owned(), source })?)
    }

    /// Serves on a socket that the caller has opened. Must be called in a tokio runtime.
    pub fn spawn_on(&self, listener: TcpListener) -> Result<RunningRegistry, Error> {
        let unknown = |source| Error::Listen { address: "an unknown address".to_owned(), source };
        let address = listener.local_addr().map_err(unknown)?;
        let config = self.shared.config();
        let tls = config.http.tls.as_ref().map(Tls::open).transpose()?;
        let scheme = if tls.is_some() { "https" } else { "http" };
        let (stop, stopped) = watch::channel(false);
        let admin = admin::bind(&self.shared);
        let lingering = Lingering::new(stopped.clone());
        let is_certified = tls.as_ref().map(|tls| Box::new(tls.is_for()) as Box<_>);
        let own_hosts = Arc::new(OwnHosts::new(address, is_certified));
        let shared = Arc::clone(&self.shared);
        let server = Server { shared, tls, own_hosts, lingering, wrong_scheme: WrongScheme::default() };
        let task = tokio::spawn(server.run(listener, admin, stopped));
        Ok(RunningRegistry { url: format!("{scheme}://{address}"), address, stop, task })
    }

    /// Answers one request without a socket, through the same code.
    pub async fn answer<B>(&self, request: Request<B>) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        answer(&self.shared, &Connection::default(), true, request, None).await
    }
}

async fn answer<B>(
    shared: &Shared,
    connection: &Connection,
    has_place: bool,
    request: Request<B>,
    arriving: Option<Arc<dyn Arriving>>,
) -> Response<Body>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let (head, body) = request.into_parts();
    let body = UnsyncBoxBody::new(body.map_err(Into::into));
    let limits = shared.limits();
    let body = RequestBody::new(body, limits.body_idle_timeout, limits.header_timeout).on(arriving);
    http::answer(shared, connection, has_place, head, body).await
}

/// A registry that accepts connections. Dropping it stops the registry without waiting for requests.
pub struct RunningRegistry {
    url: String,
    address: SocketAddr,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl RunningRegistry {
    /// `http://<address>:<port>`, or `https://…`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops accepting connections, and returns when running requests have finished or the configured time is over.
    /// Dropping the future stops the registry at once.
    pub async fn shutdown(mut self) {
        self.stop.send_replace(true);
        // The task fails only by a panic, which has been reported already.
        let _ = (&mut self.task).await;
    }
}

impl Drop for RunningRegistry {
    fn drop(&mut self) {
        self.task.abort();
    }
}

opaque_debug!(RunningRegistry { url });

/// One listening socket and what it serves.
struct Server {
    shared: Arc<Shared>,
    tls: Option<Tls>,
    own_hosts: Arc<OwnHosts>,
    lingering: Lingering,
    wrong_scheme: WrongScheme,
}

impl Server {
    async fn run(self, listener: TcpListener, admin: Option<UnixListener>, mut stopped: watch::Receiver<bool>) {
        let limits = self.shared.limits().clone();
        let connections = Arc::new(Connections::new(&limits));
        let (stopping, _) = watch::channel(());
        // Dropping the set ends its tasks, so none outlives the server.
        let mut tasks = JoinSet::new();
        maintenance::spawn(&mut tasks, &self.shared, &stopped);
        if let Some(admin) = admin {
            tasks.spawn(admin::listen(admin, Arc::clone(&self.shared), stopped.clone()));
        }
        let server = Arc::new(self);
        loop {
            let accepted = tokio::select! {
                accepted = accept(&listener, &connections) => accepted,
                Some(_) = tasks.join_next() => continue,
                _ = stopped.wait_for(|stopped| *stopped) => break,
            };
            let (socket, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    connections.close_one();
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Ok(handle) = connections.open(peer.ip(), server.shared.trusted_proxies()) else {
                tracing::debug!(%peer, "closed a connection: the address has too many requests in flight");
                continue;
            };
            let (server, stopping) = (Arc::clone(&server), stopping.subscribe());
            tasks.spawn(async move {
                let _counted = server.shared.metrics().connection();
                server.connection(socket, Client { peer, handle, stopping }).await;
            });
        }
        drop(listener);
        stopping.send_replace(());
        connections.notify_all();
        if timeout(limits.shutdown_timeout, stopping.closed()).await.is_err() {
            tracing::warn!("requests were still running when http.limits.shutdownTimeout was over");
        }
        tasks.shutdown().await;
        // Uploads that were being received have lost their connections, so they end. Commits run to their end.
        let work = server.shared.work();
        work.close();
        if timeout(WORK_WAIT, work.wait()).await.is_err() {
            tracing::warn!("writes were still running when the server stopped");
        }
        work.reopen();
        maintenance::last(&server.shared, &stopped).await;
    }

    async fn connection(&self, socket: TcpStream, mut client: Client) {
        let peer = client.peer;
        // Without this, a response in two writes waits 40 ms for the client's acknowledgement.
        if let Err(error) = socket.set_nodelay(true) {
            tracing::debug!(%peer, %error, "the connection is gone");
            return;
        }
        let limits = self.shared.limits();
        let wait = if self.tls.is_some() { HANDSHAKE_WAIT } else { limits.idle_timeout };
        let first = tokio::select! {
            first = timeout(wait, first_byte(&socket)) => first,
            // A server that stops does not wait for a client that has sent nothing.
            _ = client.stopping.changed() => return,
            () = client.handle.must_close() => return tracing::debug!(%peer, "closed for another connection"),
        };
        let Ok(Ok(Some(first))) = first else { return tracing::debug!(%peer, "the client sent nothing") };
        let (state, patience) = (ConnectionState::new(), limits.body_idle_timeout);
        let (unread, lingering) = (state.unread().clone(), self.lingering.clone());
        if let Some(mistake) = Mistake::find(first, self.tls.is_some()) {
            unread.leave();
            let socket = Linger::new(WriteTimeout::new(socket, patience), unread, lingering);
            let refused = tokio::select! {
                refused = self.wrong_scheme.refuse(mistake, socket, peer) => refused,
                () = client.handle.must_close() => return tracing::debug!(%peer, "closed for another connection"),
            };
            return refused.unwrap_or_else(|error| tracing::debug!(%peer, %error, "the connection ended early"));
        }
        let Some(tls) = &self.tls else {
            let windows = Windows::default();
            let socket = WriteTimeout::new(FileSocket::new(socket, windows.clone()), patience);
            return self.http1(Linger::new(socket, unread, lingering), state, Some(windows), client).await;
        };
        let socket = Linger::new(WriteTimeout::new(socket, patience), unread, lingering);
        let handshake = timeout(HANDSHAKE_WAIT, tls.acceptor().accept(socket));
        let handshake = tokio::select! {
            handshake = handshake => handshake,
            () = client.handle.must_close() => return tracing::debug!(%peer, "closed for another connection"),
        };
        match handshake {
            Err(_) => tracing::debug!(%peer, "the TLS handshake took too long"),
            Ok(Err(error)) => tracing::debug!(%peer, %error, "the TLS handshake failed"),
            Ok(Ok(stream)) if stream.get_ref().1.alpn_protocol() == Some(tls::HTTP2) => {
                self.http2(stream, state, client).await;
            }
            Ok(Ok(stream)) => self.http1(stream, state, None, client).await,
        }
    }

    async fn http1(
        &self,
        io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        state: ConnectionState,
        windows: Option<Windows>,
        client: Client,
    ) {
        let (upgrade, limits) = (Arc::new(Mutex::new(None)), self.shared.limits());
        let io = HeadTimeout::new(io, limits.header_timeout, state.clone());
        let (responder, handle) = (self.responder(client.peer), client.handle.clone());
        let requested = Arc::clone(&upgrade);
        let connection = conn::http1::Builder::new()
            .timer(TokioTimer::new())
            // hyper counts from the end of the last response, so this limits how long a connection may be idle.
            .header_read_timeout(limits.idle_timeout)
            .max_headers(HEADERS_MAX)
            .max_buf_size(READ_BUFFER_BYTES)
            .serve_connection(
                TokioIo::new(io),
                service_fn(move |mut request| {
                    if request.extensions().get::<OnUpgrade>().is_some() {
                        *requested.lock() = Some(hyper::upgrade::on(&mut request));
                    }
                    let (responding, unread) = (state.respond(handle.request()), state.unread().clone());
                    let (windows, responder) = (windows.clone(), responder.clone());
                    async move {
                        let mut response = responder.respond(request, &unread, responding.in_flight()).await;
                        if unread.is_left() {
                            // The client stops sending when it reads this (RFC 9112, 9.3).
                            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
                        }
                        Ok::<_, Infallible>(response.map(|body| Http1Body { body, windows, _responding: responding }))
                    }
                }),
            )
            .with_upgrades();
        client.serve(connection, conn::http1::UpgradeableConnection::graceful_shutdown).await;
        // After a request with an `Upgrade` header, as curl sends it for HTTP/2 in clear text, hyper hands the connection
        // over instead of shutting it down. Dropping it would reset a client that is still sending.
        let upgrade = upgrade.lock().take();
        if let Some(upgrade) = upgrade
            && let Ok(connection) = upgrade.await
        {
            let mut connection = TokioIo::new(connection);
            tokio::select! {
                // If the client has gone, there is nothing to shut down.
                _ = connection.shutdown() => {}
                () = client.handle.must_close() => {}
            }
        }
    }

    async fn http2(
        &self,
        io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        state: ConnectionState,
        client: Client,
    ) {
        let limits = self.shared.limits();
        let idle = limits.idle_timeout;
        let (activity, responder, peer) = (Activity::new(), self.responder(client.peer), client.peer);
        let (requests, handle) = (activity.clone(), client.handle.clone());
        let connection = conn::http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            // A client that is still connected answers the pings.
            .keep_alive_interval(idle)
            .keep_alive_timeout(idle)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_concurrent_streams(STREAMS_MAX)
            .max_header_list_size(HEADER_LIST_BYTES_MAX)
            .serve_connection(
                TokioIo::new(io),
                service_fn(move |request| {
                    let (active, responder) = (requests.request(handle.request()), responder.clone());
                    let unread = state.unread().clone();
                    async move {
                        let response = responder.respond(request, &unread, Some(active.in_flight())).await;
                        Ok::<_, Infallible>(response.map(|body| active.respond(body)))
                    }
                }),
            );
        tokio::select! {
            () = client.serve(connection, conn::http2::Connection::graceful_shutdown) => {}
            () = activity.ended(limits.body_idle_timeout, idle) => tracing::debug!(%peer, "closed a connection on which nothing moved"),
        }
    }

    fn responder(&self, peer: SocketAddr) -> Responder {
        let connection = Arc::new(Connection::from(peer, Arc::clone(&self.own_hosts)));
        Responder { shared: Arc::clone(&self.shared), connection }
    }
}

/// Answers the requests of one connection.
#[derive(Clone)]
struct Responder {
    shared: Arc<Shared>,
    connection: Arc<Connection>,
}

impl Responder {
    async fn respond(
        &self,
        request: Request<Incoming>,
        unread: &UnreadInput,
        in_flight: Option<&InFlight>,
    ) -> Response<Body> {
        let request = ClientBody::wrap(request, unread);
        let is_probe = || http::is_probe(request.method(), request.uri());
        let has_place = match in_flight {
            Some(in_flight) => in_flight.has_place() || is_probe() || in_flight.wait_for_place().await,
            None => true,
        };
        if let Some(in_flight) = in_flight.filter(|_| !has_place) {
            in_flight.refuse();
        }
        let has_body = !http_body::Body::is_end_stream(request.body());
        let arriving = in_flight.filter(|_| has_body).map(InFlight::arriving);
        answer(&self.shared, &self.connection, has_place, request, arriving).await
    }
}

/// The client of a connection, and the two events that end the connection early.
struct Client {
    peer: SocketAddr,
    handle: ConnectionHandle,
    /// Notified when the server stops. The server waits until all of these are dropped.
    stopping: watch::Receiver<()>,
}

impl Client {
    /// Serves a connection until it ends, the server stops or another connection needs its place.
    async fn serve<C, E: fmt::Display>(&self, connection: C, stop: impl Fn(Pin<&mut C>))
    where
        C: Future<Output = Result<(), E>>,
    {
        let peer = self.peer;
        let mut connection = pin!(connection);
        let mut is_stopping = false;
        loop {
            // An error means that the server no longer exists.
            if !is_stopping && self.stopping.has_changed().unwrap_or(true) {
                is_stopping = true;
                stop(connection.as_mut());
            }
            if self.handle.is_closing() {
                stop(connection.as_mut());
                let wait = if self.handle.is_urgent() { Duration::ZERO } else { GOODBYE_WAIT };
                let has_ended = timeout(wait, connection.as_mut()).await.is_ok();
                // A request that came meanwhile is answered before the connection ends.
                if has_ended || self.handle.is_closing() {
                    return tracing::debug!(%peer, "closed an idle connection for another one");
                }
            }
            // Each request polls this, so one signal serves for two events: the server stops, or the connection must end.
            tokio::select! {
                biased;
                ended = connection.as_mut() => {
                    if let Err(error) = ended {
                        tracing::debug!(%peer, %error, "the connection ended early");
                    }
                    return;
                }
                () = self.handle.signalled() => {}
            }
        }
    }
}

/// Accepts the next connection when there is room for it.
async fn accept(listener: &TcpListener, connections: &Connections) -> std::io::Result<(TcpStream, SocketAddr)> {
    connections.room().await;
    listener.accept().await
}

/// Replaces sending from files on systems other than Linux: blobs are read and written.
#[cfg(not(target_os = "linux"))]
mod sendfile {
    use bytes::Bytes;
    use tokio::net::TcpStream;

    #[derive(Clone, Debug, Default)]
    pub(super) struct Windows;

    impl Windows {
        pub(super) fn next(&self, _body: &mut crate::http::Body) -> Option<std::io::Result<Bytes>> {
            None
        }
    }

    pub(super) struct FileSocket;

    impl FileSocket {
        #[expect(clippy::new_ret_no_self, reason = "there is nothing to add to the socket")]
        pub(super) fn new(socket: TcpStream, _windows: Windows) -> TcpStream {
            socket
        }
    }
}
