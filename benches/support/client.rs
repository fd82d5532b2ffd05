//! A client that costs little: a socket of its own, and large buffers.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};

use super::content::{Content, Noise, digest};

const BUFFER_BYTES: usize = 128 << 10;
/// How often it looks for more of a body before it sleeps.
const LOOKS: usize = 200;

pub(crate) struct Client {
    socket: TcpStream,
    buffer: Vec<u8>,
    /// Received bytes that are not used yet.
    from: usize,
    until: usize,
}

/// The head of an answer; its body is to be taken.
pub(crate) struct Head {
    pub(crate) status: u16,
    pub(crate) length: usize,
    pub(crate) location: Option<String>,
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let socket = TcpStream::connect(address).unwrap();
        socket.set_nodelay(true).unwrap();
        Self { socket, buffer: vec![0; BUFFER_BYTES], from: 0, until: 0 }
    }

    fn fill(&mut self) {
        if self.from == self.until {
            (self.from, self.until) = (0, 0);
        }
        let count = self.socket.read(&mut self.buffer[self.until..]).unwrap();
        assert_ne!(count, 0, "the connection has ended");
        self.until += count;
    }

    /// As `fill`, but looks again for a while before it sleeps. A client that hashes what it pulls has always something
    /// to do; one that sleeps after each piece makes the registry pay for waking it.
    fn fill_eagerly(&mut self) {
        for _ in 0..LOOKS {
            match recv(&self.socket, &mut self.buffer[..], RecvFlags::DONTWAIT) {
                Ok((0, _)) => panic!("the connection has ended"),
                Ok((count, _)) => {
                    (self.from, self.until) = (0, count);
                    return;
                }
                Err(Errno::AGAIN) => std::thread::yield_now(),
                Err(error) => panic!("{error}"),
            }
        }
        self.fill();
    }

    fn head(&mut self) -> Head {
        loop {
            let bytes = &self.buffer[self.from..self.until];
            if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
                let text = std::str::from_utf8(&bytes[..end]).unwrap();
                let field = |name: &str| {
                    let mut fields = text.lines().filter_map(|line| line.split_once(':'));
                    fields.find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim().to_owned())
                };
                let head = Head {
                    status: text[9..12].parse().unwrap(),
                    length: field("content-length").map_or(0, |length| length.parse().unwrap()),
                    location: field("location"),
                };
                self.from += end + 4;
                return head;
            }
            self.fill();
        }
    }

    fn take(&mut self, mut length: usize, mut see: impl FnMut(&[u8])) {
        while length > 0 {
            if self.from == self.until {
                self.fill_eagerly();
            }
            let count = length.min(self.until - self.from);
            see(&self.buffer[self.from..self.from + count]);
            self.from += count;
            length -= count;
        }
    }

    fn write_head(&mut self, method: &str, path: &str, headers: &str, length: usize) {
        // Locations may name the host, which is this one.
        let path = path.find("/v2/").map_or(path, |at| &path[at..]);
        let head = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\n{headers}content-length: {length}\r\n\r\n");
        self.socket.write_all(head.as_bytes()).unwrap();
    }

    /// One request with a small body; the answer's is thrown away.
    pub(crate) fn send(&mut self, method: &str, path: &str, headers: &str, body: &[u8]) -> Head {
        self.write_head(method, path, headers, body.len());
        self.socket.write_all(body).unwrap();
        let head = self.head();
        if method != "HEAD" {
            self.take(head.length, |_| {});
        }
        head
    }

    fn start(&mut self, repository: &str) -> String {
        let head = self.send("POST", &format!("/v2/{repository}/blobs/uploads/"), "", b"");
        assert_eq!(head.status, 202);
        head.location.unwrap()
    }

    /// POST, PATCH with everything, and PUT, as docker, podman and skopeo do it.
    pub(crate) fn push(&mut self, repository: &str, noise: &Noise, content: &Content) {
        let location = self.start(repository);
        self.write_head("PATCH", &location, OCTETS, content.length());
        for piece in noise.pieces(content) {
            self.socket.write_all(piece).unwrap();
        }
        let head = self.head();
        self.take(head.length, |_| {});
        assert_eq!(head.status, 202);
        let location = head.location.unwrap();
        assert_eq!(self.send("PUT", &with_digest(&location, content), "", b"").status, 201);
    }

    /// POST, PATCH and PUT of a small blob. Returns its digest.
    pub(crate) fn push_bytes(&mut self, repository: &str, bytes: &[u8]) -> String {
        let digest = digest(bytes);
        let location = self.start(repository);
        let head = self.send("PATCH", &location, OCTETS, bytes);
        assert_eq!(head.status, 202);
        let location = head.location.unwrap();
        let separator = if location.contains('?') { '&' } else { '?' };
        assert_eq!(self.send("PUT", &format!("{location}{separator}digest={digest}"), "", b"").status, 201);
        digest
    }

    /// POST, PATCH for every chunk of so many pieces, and PUT.
    pub(crate) fn push_chunked(&mut self, repository: &str, noise: &Noise, content: &Content, pieces: usize) {
        let mut location = self.start(repository);
        let mut at = 0;
        for chunk in noise.pieces(content).collect::<Vec<_>>().chunks(pieces) {
            let length: usize = chunk.iter().map(|piece| piece.len()).sum();
            let range = format!("{OCTETS}content-range: {at}-{}\r\n", at + length - 1);
            self.write_head("PATCH", &location, &range, length);
            for piece in chunk {
                self.socket.write_all(piece).unwrap();
            }
            let head = self.head();
            self.take(head.length, |_| {});
            assert_eq!(head.status, 202);
            location = head.location.unwrap();
            at += length;
        }
        assert_eq!(self.send("PUT", &with_digest(&location, content), "", b"").status, 201);
    }

    /// GET, and a look at every byte.
    pub(crate) fn pull(&mut self, repository: &str, noise: &Noise, content: &Content) {
        self.write_head("GET", &format!("/v2/{repository}/blobs/{}", content.digest()), "", 0);
        let head = self.head();
        assert_eq!((head.status, head.length), (200, content.length()));
        let mut at = 0;
        self.take(head.length, |bytes| {
            noise.check(content, at, bytes);
            at += bytes.len();
        });
    }

    /// The same. Returns the time until the first byte of the blob.
    pub(crate) fn pull_timed(&mut self, repository: &str, noise: &Noise, content: &Content) -> Duration {
        let began = Instant::now();
        self.write_head("GET", &format!("/v2/{repository}/blobs/{}", content.digest()), "", 0);
        let head = self.head();
        assert_eq!((head.status, head.length), (200, content.length()));
        let (mut at, mut first) = (0, None);
        self.take(head.length, |bytes| {
            first.get_or_insert_with(|| began.elapsed());
            noise.check(content, at, bytes);
            at += bytes.len();
        });
        first.unwrap_or_default()
    }

    pub(crate) fn put_manifest(&mut self, repository: &str, reference: &str, manifest: &str) {
        let kind = "content-type: application/vnd.oci.image.manifest.v1+json\r\n";
        let head = self.send("PUT", &format!("/v2/{repository}/manifests/{reference}"), kind, manifest.as_bytes());
        assert_eq!(head.status, 201);
    }
}

pub(crate) const OCTETS: &str = "content-type: application/octet-stream\r\n";

fn with_digest(location: &str, content: &Content) -> String {
    let separator = if location.contains('?') { '&' } else { '?' };
    format!("{location}{separator}digest={}", content.digest())
}

/// A manifest of an image.
pub(crate) fn manifest(config: &Content, layers: &[&Content], note: &str) -> String {
    let descriptor = |kind: &str, content: &Content| {
        let (digest, size) = (content.digest(), content.length());
        format!(r#"{{"mediaType":"application/vnd.oci.image.{kind}","digest":"{digest}","size":{size}}}"#)
    };
    let layers: Vec<_> = layers.iter().map(|layer| descriptor("layer.v1.tar+gzip", layer)).collect();
    format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{},"layers":[{}],"annotations":{{"note":"{note}"}}}}"#,
        descriptor("config.v1+json", config),
        layers.join(",")
    )
}
