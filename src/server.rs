//! Sockets: accepting connections, TLS, limits, and stopping gracefully.
//!
//! Knows no endpoint. What must hold: a slow or silent client holds nothing but its own connection,
//! and that for a limited time; stopping lets running requests finish.

mod activity;
mod admin;
mod connections;
mod head;
mod linger;
mod maintenance;
#[cfg_attr(not(target_os = "linux"), path = "server/copy.rs")]
mod sendfile;
mod stall;
mod tls;
mod unread;
mod wrong_scheme;

use std::convert::Infallible;
use std::fmt;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulConnection;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};

use crate::config::Address;
use crate::http::{self, Body, BoxError, Connection, OwnHosts, RequestBody};
use crate::registry::{Error, Registry, Shared};
use activity::Activity;
use connections::{Connections, InFlight, OpenConnection};
use head::{Answer, ConnectionState, Head};
use linger::{Linger, Lingering};
use sendfile::{FileSocket, Windows};
use stall::Stall;
use tls::Tls;
use unread::{ClientBody, UnreadInput};
use wrong_scheme::{Mistake, WrongScheme, first_byte};

/// A client has this long for its part of a TLS handshake.
const HANDSHAKE_WAIT: Duration = Duration::from_secs(10);
/// After a failure to accept (no file handles, say), this long nothing is accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// A connection that is closed for another one has this long to say goodbye (GOAWAY, `close_notify`).
const GOODBYE_WAIT: Duration = Duration::from_millis(100);
/// What is being written when the server ends is waited for, but not for ever.
const WORK_WAIT: Duration = Duration::from_secs(10);
/// What hyper may hold of a connection's unread bytes. Large enough for one read to bring in much
/// of a blob, and small enough for many connections.
const READ_BUFFER_BYTES: usize = 256 * 1024;
/// More headers than this are refused; clients send a dozen.
const HEADERS_MAX: usize = 100;
/// HTTP/2: how much a client may send before it is asked for more, in one stream and in all.
const STREAM_WINDOW_BYTES: u32 = 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 2 * 1024 * 1024;
/// HTTP/2: requests at once on one connection.
const STREAMS_MAX: u32 = 100;
/// What HTTP/2 clients are told to send at most in headers: our own limit of 32 KiB, and the 32 bytes that RFC 9113,
/// 6.5.2, adds for each field. hyper's own 16 KiB are too few for podman, which asks for 1024 ranges at once.
const HEADER_LIST_BYTES_MAX: u32 = 36 * 1024;

impl Registry {
    /// Serves on the configured address (`127.0.0.1:8080` without a configuration) and returns once
    /// it accepts connections. Must be called in a tokio runtime.
    pub async fn spawn(&self) -> Result<RunningRegistry, Error> {
        let http = &self.shared.config().http;
        let address = match http.address {
            Address::All => format!("[::]:{}", http.port),
            Address::Localhost => format!("localhost:{}", http.port),
            Address::Ip(ip) => SocketAddr::new(ip, http.port).to_string(),
        };
        let listener = match (TcpListener::bind(&address).await, &http.address) {
            // A system without IPv6 has all of its addresses in IPv4.
            (Err(_), Address::All) => TcpListener::bind(("0.0.0.0", http.port)).await,
            (result, _) => result,
        };
        self.spawn_on(listener.map_err(|source| Error::Listen { address, source })?)
    }

    /// Serves on a free port of the loopback interface: for tests.
    pub async fn spawn_local(&self) -> Result<RunningRegistry, Error> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await;
        self.spawn_on(listener.map_err(|source| Error::Listen { address: "127.0.0.1:0".to_owned(), source })?)
    }

    /// Serves on a socket that somebody else has opened. Must be called in a tokio runtime.
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

    /// Answers one request without a socket: the same way through the code.
    pub async fn answer<B>(&self, request: Request<B>) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        answer(&self.shared, &Connection::default(), true, request).await
    }
}

async fn answer<B>(shared: &Shared, connection: &Connection, has_place: bool, request: Request<B>) -> Response<Body>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let (head, body) = request.into_parts();
    let body = UnsyncBoxBody::new(body.map_err(Into::into));
    let body = RequestBody::new(body, shared.limits().body_idle_timeout);
    http::answer(shared, connection, has_place, head, body).await
}

/// A registry that accepts connections. Dropping it stops it without waiting for anything.
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

    /// Stops accepting, lets running requests finish for as long as the configuration allows, and
    /// returns when nothing runs any more. Whoever does not wait for that stops it at once.
    pub async fn shutdown(mut self) {
        self.stop.send_replace(true);
        // It can only have failed by a panic, which has been reported where it happened.
        let _ = (&mut self.task).await;
    }
}

impl Drop for RunningRegistry {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl fmt::Debug for RunningRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunningRegistry").field("url", &self.url).finish_non_exhaustive()
    }
}

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
        // Dropping the set ends its tasks: none outlives the server.
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
            let Ok(ticket) = connections.open(peer.ip(), server.shared.trusted_proxies()) else {
                tracing::debug!(%peer, "closed a connection: the address has too many requests in flight");
                continue;
            };
            let (server, stopping) = (Arc::clone(&server), stopping.subscribe());
            tasks.spawn(async move {
                let _counted = server.shared.metrics().connection();
                server.connection(socket, Client { peer, ticket, stopping }).await;
            });
        }
        drop(listener);
        stopping.send_replace(());
        connections.tell_all();
        if timeout(limits.shutdown_timeout, stopping.closed()).await.is_err() {
            tracing::warn!("requests were still running when the time to stop was over");
        }
        tasks.shutdown().await;
        // What was being received has lost its connection, and so ends; what was being finished is finished.
        let work = server.shared.work();
        work.close();
        if timeout(WORK_WAIT, work.wait()).await.is_err() {
            tracing::warn!("the disk is too slow to wait for what is being written");
        }
        work.reopen();
        maintenance::last(&server.shared).await;
    }

    async fn connection(&self, socket: TcpStream, mut client: Client) {
        let peer = client.peer;
        // Without it, an answer in two writes waits 40 ms for the client's acknowledgement.
        if let Err(error) = socket.set_nodelay(true) {
            tracing::debug!(%peer, %error, "the connection is gone");
            return;
        }
        let limits = self.shared.limits();
        let wait = if self.tls.is_some() { HANDSHAKE_WAIT } else { limits.idle_timeout };
        let first = tokio::select! {
            first = timeout(wait, first_byte(&socket)) => first,
            // A client that has sent nothing yet is not waited for.
            _ = client.stopping.changed() => return,
            () = client.ticket.must_close() => return tracing::debug!(%peer, "closed for another connection"),
        };
        let Ok(Ok(Some(first))) = first else { return tracing::debug!(%peer, "the client sent nothing") };
        let (state, patience) = (ConnectionState::new(), limits.body_idle_timeout);
        let (rest, lingering) = (state.rest().clone(), self.lingering.clone());
        if let Some(mistake) = Mistake::find(first, self.tls.is_some()) {
            rest.leave_unread();
            let socket = Linger::new(Stall::new(socket, patience), rest, lingering);
            let refused = tokio::select! {
                refused = self.wrong_scheme.refuse(mistake, socket, peer) => refused,
                () = client.ticket.must_close() => return tracing::debug!(%peer, "closed for another connection"),
            };
            return refused.unwrap_or_else(|error| tracing::debug!(%peer, %error, "the connection ended early"));
        }
        let Some(tls) = &self.tls else {
            let windows = Windows::default();
            let socket = Stall::new(FileSocket::new(socket, windows.clone()), patience);
            return self.http1(Linger::new(socket, rest, lingering), state, Some(windows), client).await;
        };
        let socket = Linger::new(Stall::new(socket, patience), rest, lingering);
        let handshake = timeout(HANDSHAKE_WAIT, tls.acceptor().accept(socket));
        let handshake = tokio::select! {
            handshake = handshake => handshake,
            () = client.ticket.must_close() => return tracing::debug!(%peer, "closed for another connection"),
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
        let limits = self.shared.limits();
        let io = Head::new(io, limits.header_timeout, state.clone());
        let (answers, ticket) = (self.answers(client.peer), client.ticket.clone());
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            // hyper counts from the end of the last answer: this is how long a connection may rest.
            .header_read_timeout(limits.idle_timeout)
            .max_headers(HEADERS_MAX)
            .max_buf_size(READ_BUFFER_BYTES)
            .serve_connection(
                TokioIo::new(io),
                service_fn(move |request| {
                    let (answering, rest) = (state.answer(ticket.request()), state.rest().clone());
                    let (windows, answers) = (windows.clone(), answers.clone());
                    async move {
                        let mut answer = answers.answer(request, &rest, answering.in_flight()).await;
                        if rest.is_unread() {
                            // The client stops sending when it reads this (RFC 9112, 9.3).
                            answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
                        }
                        Ok::<_, Infallible>(answer.map(|body| Answer { body, windows, _answering: answering }))
                    }
                }),
            );
        client.serve(connection).await;
    }

    async fn http2(
        &self,
        io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        state: ConnectionState,
        client: Client,
    ) {
        let limits = self.shared.limits();
        let idle = limits.idle_timeout;
        let (activity, answers, peer) = (Activity::new(), self.answers(client.peer), client.peer);
        let (requests, ticket) = (activity.clone(), client.ticket.clone());
        let connection = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            // A client that is still there answers the ping.
            .keep_alive_interval(idle)
            .keep_alive_timeout(idle)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_concurrent_streams(STREAMS_MAX)
            .max_header_list_size(HEADER_LIST_BYTES_MAX)
            .serve_connection(
                TokioIo::new(io),
                service_fn(move |request| {
                    let (asked, answers) = (requests.request(ticket.request()), answers.clone());
                    let rest = state.rest().clone();
                    async move {
                        let answer = answers.answer(request, &rest, Some(asked.in_flight())).await;
                        Ok::<_, Infallible>(answer.map(|body| asked.answer(body)))
                    }
                }),
            );
        tokio::select! {
            () = client.serve(connection) => {}
            () = activity.ended(limits.body_idle_timeout, idle) => tracing::debug!(%peer, "nothing went on"),
        }
    }

    fn answers(&self, peer: SocketAddr) -> Answers {
        let connection = Arc::new(Connection::from(peer, Arc::clone(&self.own_hosts)));
        Answers { shared: Arc::clone(&self.shared), connection }
    }
}

/// Answers the requests of one connection.
#[derive(Clone)]
struct Answers {
    shared: Arc<Shared>,
    connection: Arc<Connection>,
}

impl Answers {
    async fn answer(
        &self,
        request: Request<Incoming>,
        rest: &UnreadInput,
        in_flight: Option<&InFlight>,
    ) -> Response<Body> {
        let request = ClientBody::wrap(request, rest);
        let is_probe = || http::is_probe(request.method(), request.uri());
        let has_place = match in_flight {
            Some(in_flight) => in_flight.has_place() || is_probe() || in_flight.wait_for_place().await,
            None => true,
        };
        answer(&self.shared, &self.connection, has_place, request).await
    }
}

/// The other end of a connection, and what may end it from here.
struct Client {
    peer: SocketAddr,
    ticket: OpenConnection,
    /// Told when the server stops. The server waits until all of these are dropped.
    stopping: watch::Receiver<()>,
}

impl Client {
    /// Serves a connection until it ends, the server stops or another connection needs its place.
    async fn serve<C>(self, connection: C)
    where
        C: GracefulConnection,
        C::Error: fmt::Display,
    {
        let peer = self.peer;
        let mut connection = pin!(connection);
        let mut is_stopping = false;
        loop {
            // An error means that the server is gone, which has stopped too.
            if !is_stopping && self.stopping.has_changed().unwrap_or(true) {
                is_stopping = true;
                connection.as_mut().graceful_shutdown();
            }
            if self.ticket.is_closing() {
                connection.as_mut().graceful_shutdown();
                let wait = if self.ticket.is_urgent() { Duration::ZERO } else { GOODBYE_WAIT };
                let has_ended = timeout(wait, connection.as_mut()).await.is_ok();
                // If a request came meanwhile, it is answered, and then the connection ends.
                if has_ended || self.ticket.is_closing() {
                    return tracing::debug!(%peer, "closed an idle connection for another one");
                }
            }
            // Every request polls this, so one signal says both that the server stops and that the connection must end.
            tokio::select! {
                biased;
                ended = connection.as_mut() => {
                    if let Err(error) = ended {
                        tracing::debug!(%peer, %error, "the connection ended early");
                    }
                    return;
                }
                () = self.ticket.told() => {}
            }
        }
    }
}

/// The next connection, when there may be one more.
async fn accept(listener: &TcpListener, connections: &Connections) -> std::io::Result<(TcpStream, SocketAddr)> {
    connections.room().await;
    listener.accept().await
}
