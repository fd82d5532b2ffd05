//! Small requests, on connections that stay.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use super::server::Server;
use super::support::client::{self, Client};
use super::support::content::Noise;
use super::{Done, Extent, Meter};

const CONNECTIONS: usize = 16;

/// The same request again and again, on connections that one thread serves, with as little as can be between an
/// answer and the next request: it shares the processors with what it measures.
fn measure(server: &Server, extent: Extent, request: &str) -> Done {
    let (mut poll, mut events) = (Poll::new().unwrap(), Events::with_capacity(CONNECTIONS));
    let mut clients: Vec<_> = (0..CONNECTIONS).map(|number| Asking::connect(server.address, &poll, number)).collect();
    let length = Duration::from_secs_f64(extent.seconds);
    let (meter, mut count) = (Meter::begin(server), 0_u64);
    for client in &mut clients {
        client.socket.write_all(request.as_bytes()).unwrap();
    }
    while meter.began.elapsed() < length {
        poll.poll(&mut events, Some(length)).unwrap();
        for event in &events {
            let client = &mut clients[event.token().0];
            if client.has_answer(request) {
                client.socket.write_all(request.as_bytes()).unwrap();
                count += 1;
            }
        }
    }
    meter.done(count as f64)
}

/// A connection, and what has come of an answer.
struct Asking {
    socket: TcpStream,
    received: Vec<u8>,
    count: usize,
}

impl Asking {
    fn connect(address: SocketAddr, poll: &Poll, number: usize) -> Self {
        let socket = std::net::TcpStream::connect(address).unwrap();
        socket.set_nodelay(true).unwrap();
        socket.set_nonblocking(true).unwrap();
        let mut socket = TcpStream::from_std(socket);
        poll.registry().register(&mut socket, Token(number), Interest::READABLE).unwrap();
        Self { socket, received: vec![0; 64 * 1024], count: 0 }
    }

    /// Takes what has come; whether that is a whole answer, which it looks at.
    fn has_answer(&mut self, request: &str) -> bool {
        loop {
            match self.socket.read(&mut self.received[self.count..]) {
                Ok(0) => panic!("the connection has ended"),
                Ok(count) => self.count += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
                Err(error) => panic!("{error}"),
            }
            let received = &self.received[..self.count];
            let Some(end) = received.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
            assert!(received.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(received));
            let length = if request.starts_with("HEAD") { 0 } else { length(&received[..end]) };
            if received.len() >= end + 4 + length {
                assert_eq!(received.len(), end + 4 + length, "more than was asked for");
                self.count = 0;
                return true;
            }
        }
    }
}

fn length(head: &[u8]) -> usize {
    let text = std::str::from_utf8(head).unwrap();
    let mut fields = text.lines().filter_map(|line| line.split_once(':'));
    let length = fields.find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    length.map_or(0, |(_, value)| value.trim().parse().unwrap())
}

fn request(method: &str, path: &str) -> String {
    let accept = "accept: application/vnd.oci.image.manifest.v1+json\r\n";
    format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\n{accept}\r\n")
}

/// An image with one layer of 1 KiB, if it is not there yet; gives the digest of the layer.
fn push_image(server: &Server, repository: &str, tags: &[String]) -> String {
    let noise = Noise::new();
    let (config, layer) = (noise.content(300, (0, 0, 1)), noise.content(1024, (0, 0, 2)));
    let mut pusher = Client::connect(server.address);
    pusher.push(repository, &noise, &config);
    pusher.push(repository, &noise, &layer);
    for tag in tags {
        pusher.put_manifest(repository, tag, &client::manifest(&config, &[&layer], "bench"));
    }
    layer.digest().to_owned()
}

pub(crate) fn base(server: &Server, extent: Extent) -> Done {
    measure(server, extent, &request("GET", "/v2/"))
}

pub(crate) fn manifest(server: &Server, extent: Extent, method: &str) -> Done {
    push_image(server, "bench/app", &["latest".to_owned()]);
    measure(server, extent, &request(method, "/v2/bench/app/manifests/latest"))
}

pub(crate) fn blob(server: &Server, extent: Extent, method: &str) -> Done {
    let layer = push_image(server, "bench/app", &["latest".to_owned()]);
    measure(server, extent, &request(method, &format!("/v2/bench/app/blobs/{layer}")))
}

pub(crate) fn tags(server: &Server, extent: Extent) -> Done {
    let tags: Vec<_> = (0..100).map(|number| format!("tag{number}")).collect();
    push_image(server, "bench/app", &tags);
    measure(server, extent, &request("GET", "/v2/bench/app/tags/list?n=100"))
}

pub(crate) fn catalog(server: &Server, extent: Extent) -> Done {
    for number in 0..100 {
        push_image(server, &format!("bench/app{number}"), &["latest".to_owned()]);
    }
    measure(server, extent, &request("GET", "/v2/_catalog?n=100"))
}

/// Whole small images, one after another: a config as tools write it, a layer of 1 KiB, and a manifest with a tag.
pub(crate) fn small_images(server: &Server, extent: Extent, round: usize) -> Done {
    let until = Instant::now() + Duration::from_secs_f64(extent.seconds);
    let mut pusher = Client::connect(server.address);
    let meter = Meter::begin(server);
    let mut count = 0;
    while Instant::now() < until {
        let name = format!("r{round}-{count}");
        let step = format!(
            r#"{{"created":"2026-01-01T00:00:00Z","created_by":"RUN /bin/sh -c apt-get install {name} # buildkit","comment":"buildkit.dockerfile.v0","empty_layer":true}}"#
        );
        let config = format!(
            r#"{{"architecture":"amd64","os":"linux","created":"2026-01-01T00:00:00Z","config":{{"Env":["PATH=/usr/bin","LANG=C.UTF-8"],"Entrypoint":["/bin/app"],"ExposedPorts":{{"80/tcp":{{}}}},"Labels":{{"org.opencontainers.image.title":"app"}}}},"rootfs":{{"type":"layers","diff_ids":[]}},"history":[{}]}}"#,
            vec![step; 20].join(",")
        );
        let layer = name.repeat(1024 / name.len());
        let [config_digest, layer_digest] =
            [&config, &layer].map(|blob| pusher.push_bytes("bench/small", blob.as_bytes()));
        let manifest = format!(
            r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{config_digest}","size":{}}},"layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"{layer_digest}","size":{}}}]}}"#,
            config.len(),
            layer.len()
        );
        pusher.put_manifest("bench/small", &name, &manifest);
        count += 1;
    }
    meter.done(f64::from(count))
}

/// New manifests, each under a tag of its own.
pub(crate) fn put(server: &Server, extent: Extent, round: usize, writers: usize) -> Done {
    let noise = Noise::new();
    let config = noise.content(300, (0, 0, 1));
    Client::connect(server.address).push("bench/put", &noise, &config);
    let until = Instant::now() + Duration::from_secs_f64(extent.seconds);
    let meter = Meter::begin(server);
    let count: u64 = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..writers)
            .map(|writer| {
                let config = &config;
                scope.spawn(move || {
                    let mut writing = Client::connect(server.address);
                    let mut count = 0;
                    while Instant::now() < until {
                        let name = format!("r{round}-{writers}-{writer}-{count}");
                        writing.put_manifest("bench/put", &name, &client::manifest(config, &[], &name));
                        count += 1;
                    }
                    count
                })
            })
            .collect();
        writers.into_iter().map(|writer| writer.join().unwrap()).sum()
    });
    meter.done(count as f64)
}
