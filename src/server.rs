//! Sockets: accepting connections, TLS, limits, and stopping gracefully.
//!
//! Knows no endpoint. Invariant: a slow or silent client holds only its own connection. A silent client holds it for a
//! limited time. One that sends or takes the bytes of a blob slowly but steadily may take any time, because links can
//! be slow. Stopping lets running requests finish.

#[cfg_attr(not(feature = "cli"), path = "server/admin/absent.rs")]
mod admin;
#[cfg(feature = "tls")]
mod client_certificate;
mod connections;
mod forward;
mod http1;
mod http2;
mod linger;
mod listener;
mod maintenance;
#[cfg(feature = "tls")]
mod read_ahead;
#[cfg_attr(not(target_os = "linux"), path = "server/sendfile/absent.rs")]
mod sendfile;
mod socket;
mod start;
mod streams;
#[cfg_attr(not(feature = "tls"), path = "server/tls/absent.rs")]
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
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::http::{self, Arriving, Body, BoxError, Connection, OwnHosts, RequestBody};
use crate::identity::access::ClientCertificate;
use crate::kit::byte_budget::ByteBudget;
use crate::kit::log_limit::LogLimit;
use crate::registry::Shared;
use connections::{ConnectionHandle, Connections, InFlight};
use http1::{ConnectionState, HeadTimeout, Http1Body};
use http2::Activity;
use linger::{Linger, Lingering};
pub(crate) use listener::Listener;
use listener::{Port, accept};
use sendfile::{FileSocket, Windows};
use socket::{Replay, Socket};
pub use start::RunningRegistry;
pub(crate) use start::serving_problems;
use streams::{NewStreams, WithStreams};
pub(crate) use tls::check_tls;
use tls::{Accepted, Failed, Tls};
use unread::{ClientBody, UnreadInput};
use write_timeout::WriteTimeout;
use wrong_scheme::{Mistake, WrongScheme};

/// The longest time from the start of a connection to the end of its TLS handshake.
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

async fn answer<B>(
    shared: &Shared,
    connection: &Connection,
    place: impl Future<Output = bool>,
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
    http::answer(shared, connection, place, head, body).await
}

/// The listening sockets and what they serve.
struct Server {
    shared: Arc<Shared>,
    tls: Option<Tls>,
    lingering: Lingering,
    wrong_scheme: WrongScheme,
    /// Limits the bytes of HTTP/2 responses that have no place.
    small_bytes: ByteBudget,
}

impl Server {
    async fn run(self, ports: Vec<Port>, admin: Option<UnixListener>, mut stopped: watch::Receiver<bool>) {
        let limits = self.shared.limits().clone();
        let connections = Arc::new(Connections::new(&limits));
        let (stopping, _) = watch::channel(());
        // Dropping a set ends its tasks, so no connection outlives the server.
        let (mut tasks, mut background) = (JoinSet::new(), JoinSet::new());
        maintenance::spawn(&mut background, &self.shared, &stopped);
        background.spawn(self.shared.traces().clone().send());
        if let Some(acme) = self.shared.acme() {
            background.spawn(Arc::clone(acme).run(self.shared.work().clone()));
        }
        if let Some(admin) = admin {
            background.spawn(admin::listen(admin, Arc::clone(&self.shared), stopped.clone()));
        }
        let server = Arc::new(self);
        let (unaccepted, refused) = (LogLimit::default(), LogLimit::default());
        let unmapped = Arc::new(LogLimit::default());
        let mut next = 0;
        loop {
            let (port, accepted) = tokio::select! {
                accepted = accept(&ports, &mut next, &connections) => accepted,
                Some(_) = tasks.join_next() => continue,
                Some(ended) = background.join_next() => {
                    if let Err(error) = ended {
                        tracing::error!(%error, "a background task panicked: restart the registry to start it again");
                    }
                    continue;
                }
                _ = stopped.wait_for(|stopped| *stopped) => break,
            };
            let (socket, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    if let Some(count) = unaccepted.pass() {
                        tracing::warn!(%error, count, "connections could not be accepted");
                    }
                    connections.close_one();
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let address = peer.map(|peer: SocketAddr| peer.ip());
            let peer = Peer(peer);
            let Ok(handle) = connections.open(address, server.shared.trusted_proxies()) else {
                server.shared.metrics().refused_connection();
                if let Some(count) = refused.pass() {
                    tracing::warn!(
                        %peer,
                        count,
                        "closed a connection, because its address has as many as http.limits.maxConnectionsPerAddress \
                         allows, and none of them is idle: raise it, or add a proxy to http.trustedProxies"
                    );
                } else {
                    tracing::debug!(%peer, "closed a connection, because its address has as many as it may have");
                }
                continue;
            };
            let (server, stopping) = (Arc::clone(&server), stopping.subscribe());
            let (has_tls, only_challenges) = (port.has_tls, port.only_challenges);
            let (own_hosts, unmapped) = (Arc::clone(&port.own_hosts), Arc::clone(&unmapped));
            // The runtime moves a task ten times until it has ended, and this one has ten kilobytes.
            tasks.spawn(Box::pin(async move {
                let _counted = server.shared.metrics().connection();
                server
                    .connection(
                        socket,
                        Client {
                            peer,
                            has_tls,
                            only_challenges,
                            certificate: ClientCertificate::None,
                            own_hosts,
                            unmapped,
                            handle,
                            stopping,
                        },
                    )
                    .await;
            }));
        }
        drop(ports);
        maintenance::stop_mirror(&server.shared);
        stopping.send_replace(());
        connections.notify_all();
        if timeout(limits.shutdown_timeout, stopping.closed()).await.is_err() {
            tracing::warn!("requests were still running when http.limits.shutdownTimeout was over");
        }
        background.shutdown().await;
        tasks.shutdown().await;
        maintenance::stop_mirror(&server.shared);
        // Uploads that were being received have lost their connections, so they end. Commits are waited for.
        let work = server.shared.work();
        work.close();
        if timeout(WORK_WAIT, work.wait()).await.is_err() {
            tracing::warn!("writes were still running when the server stopped");
        }
        work.reopen();
        maintenance::write_at_end(&server.shared, &stopped, WORK_WAIT).await;
        server.shared.traces().flush().await;
    }

    async fn connection(&self, mut socket: Socket, mut client: Client) {
        let peer = client.peer;
        if let Err(error) = socket.send_at_once() {
            tracing::debug!(%peer, %error, "the connection is gone");
            return;
        }
        let limits = self.shared.limits();
        let tls = self.tls.as_ref().filter(|_| client.has_tls);
        let wait = if tls.is_some() { HANDSHAKE_WAIT } else { limits.idle_timeout };
        let deadline = Instant::now() + wait;
        let beginning = tokio::select! {
            beginning = timeout_at(deadline, socket.beginning(tls.is_none(), limits.header_timeout)) => beginning,
            () = client.must_end() => return,
        };
        let Ok(Ok(Some(beginning))) = beginning else { return tracing::debug!(%peer, "the client sent nothing") };
        let (state, patience) = (ConnectionState::new(), limits.body_idle_timeout);
        let (unread, lingering) = (state.unread().clone(), self.lingering.clone());
        if let Some(mistake) = Mistake::find(beginning.first, tls.is_some()) {
            unread.leave();
            let socket = Linger::new(WriteTimeout::new(socket, patience), unread, lingering);
            let refused = tokio::select! {
                refused = self.wrong_scheme.refuse(mistake, socket, peer) => refused,
                () = client.must_end() => return,
            };
            return refused.unwrap_or_else(|error| tracing::debug!(%peer, %error, "the connection ended early"));
        }
        let Some(tls) = tls else {
            let windows = Windows::new(Arc::clone(&client.unmapped));
            let socket = WriteTimeout::new(FileSocket::new(socket, windows.clone()), patience);
            let socket = Replay::new(Linger::new(socket, unread, lingering), beginning);
            return if beginning.is_http2() {
                self.http2(socket, state, client).await;
            } else {
                self.http1(socket, state, Some(windows), client).await;
            };
        };
        let socket = Linger::new(WriteTimeout::new(socket, patience), unread.clone(), lingering);
        let handshake = tokio::select! {
            handshake = timeout_at(deadline, tls.accept(socket)) => handshake,
            () = client.must_end() => return,
        };
        match handshake {
            Err(_) => tracing::debug!(%peer, "the TLS handshake took too long"),
            Ok(Err(Failed { error, socket })) => {
                tls.log_failure(peer, &error);
                let Some(mut socket) = socket else { return };
                // A client that is still sending must be able to read the reason.
                unread.leave();
                tokio::select! {
                    _ = socket.shutdown() => {}
                    () = client.must_end() => {}
                }
            }
            Ok(Ok(Accepted { is_challenge: true, .. })) => {
                // The authority has seen the certificate of the challenge, and sends nothing.
                tracing::debug!(%peer, "the ACME authority has verified a name by TLS");
            }
            Ok(Ok(Accepted { stream, certificate, is_http2, .. })) => {
                client.certificate = certificate;
                if is_http2 {
                    self.http2(stream, state, client).await;
                } else {
                    self.http1(stream, state, None, client).await;
                }
            }
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
        let (responder, handle) = (self.responder(&client), client.handle.clone());
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
                    let (responding, unread) = (state.respond(|| handle.request()), state.unread().clone());
                    let (windows, responder) = (windows.clone(), responder.clone());
                    async move {
                        let mut response = responder.respond(request, &unread, responding.in_flight()).await;
                        if unread.is_left() {
                            // The client stops sending when it reads this (RFC 9112, 9.3).
                            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
                        }
                        Ok::<_, Infallible>(response.map(|body| Http1Body { body, windows, responding }))
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
        let (activity, responder, peer) = (Activity::new(), self.responder(&client), client.peer);
        let (requests, handle) = (activity.clone(), client.handle.clone());
        let new = NewStreams::default();
        let connection = http2::builder(new.clone(), idle, client.handle.places_max()).serve_connection(
            TokioIo::new(io),
            service_fn(move |request| {
                let (active, responder) = (requests.request(handle.request()), responder.clone());
                let (unread, small) = (state.unread().clone(), self.small_bytes.clone());
                async move {
                    let mut response = responder.respond(request, &unread, active.in_flight()).await;
                    if http2::needs_no_place(response.body_mut(), &small) {
                        active.in_flight().free_place();
                    }
                    Ok::<_, Infallible>(response.map(|body| active.respond(body)))
                }
            }),
        );
        tokio::select! {
            () = client.serve(WithStreams::new(connection, new), |connection| connection.connection().graceful_shutdown()) => {}
            () = activity.ended(limits.body_idle_timeout, idle) => tracing::debug!(%peer, "closed a connection on which nothing moved"),
        }
    }

    fn responder(&self, client: &Client) -> Responder {
        let connection = Connection::from(client.peer.0, client.has_tls, Arc::clone(&client.own_hosts));
        let connection = connection.with_certificate(client.certificate.clone());
        let connection = Arc::new(if client.only_challenges { connection.only_for_challenges() } else { connection });
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
    async fn respond(&self, request: Request<Incoming>, unread: &UnreadInput, in_flight: &InFlight) -> Response<Body> {
        let request = ClientBody::wrap(request, unread);
        let need_not_wait = in_flight.take_place() || http::is_probe(request.method(), request.uri());
        let place = async {
            let has_place = need_not_wait || in_flight.wait_for_place().await;
            if !has_place {
                in_flight.refuse();
            }
            has_place
        };
        let has_body = !http_body::Body::is_end_stream(request.body());
        let arriving = has_body.then(|| in_flight.arriving());
        answer(&self.shared, &self.connection, place, request, arriving).await
    }
}

/// The other end of a connection, for the log. A client of a unix socket has no address.
#[derive(Clone, Copy)]
struct Peer(Option<SocketAddr>);

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(address) => address.fmt(f),
            None => f.write_str("unix"),
        }
    }
}

/// The client of a connection, and the two events that end the connection early.
struct Client {
    peer: Peer,
    has_tls: bool,
    /// Whether the port is only for the challenges of an ACME authority.
    only_challenges: bool,
    certificate: ClientCertificate,
    /// The hosts of the listening socket.
    own_hosts: Arc<OwnHosts>,
    /// Limits the warnings of all connections about files that could not be mapped.
    unmapped: Arc<LogLimit>,
    handle: ConnectionHandle,
    /// Notified when the server stops. The server waits until all of these are dropped.
    stopping: watch::Receiver<()>,
}

impl Client {
    /// Waits until a connection without a request has to end: for another connection, or because the server stops.
    async fn must_end(&mut self) {
        let peer = self.peer;
        tokio::select! {
            _ = self.stopping.changed() => {}
            () = self.handle.must_close() => tracing::debug!(%peer, "closed for another connection"),
        }
    }

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
