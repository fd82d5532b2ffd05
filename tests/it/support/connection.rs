//! A connection on which a test says every byte itself, and when.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

/// A test that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(30);

/// A connection in plain text.
#[derive(Debug)]
pub struct Raw {
    socket: TcpStream,
    /// Read, and not handed out yet.
    buffer: Vec<u8>,
}

/// The head of a response.
#[derive(Debug)]
pub struct RawAnswer {
    pub status: u16,
    pub head: String,
}

impl Raw {
    pub async fn connect(address: SocketAddr) -> Self {
        Self { socket: TcpStream::connect(address).await.unwrap(), buffer: Vec::new() }
    }

    /// A connection from another address of this machine.
    pub async fn connect_from(address: SocketAddr, source: std::net::IpAddr) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((source, 0).into()).unwrap();
        Self { socket: socket.connect(address).await.unwrap(), buffer: Vec::new() }
    }

    /// A connection whose client side holds as little as the system allows.
    pub async fn connect_narrow(address: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(1).unwrap();
        Self { socket: socket.connect(address).await.unwrap(), buffer: Vec::new() }
    }

    /// Sends bytes. That the other side has closed is for the next read to find out.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.socket.write_all(bytes.as_ref()).await;
    }

    /// Says that nothing more will be sent.
    pub async fn finish_sending(&mut self) {
        self.socket.shutdown().await.unwrap();
    }

    /// Reads a head, and as much body as it announces.
    #[track_caller]
    pub fn answer(&mut self) -> impl Future<Output = RawAnswer> {
        let place = std::panic::Location::caller();
        async move { self.try_answer().await.unwrap_or_else(|| panic!("{place}: the connection was closed")) }
    }

    /// Reads a head, and leaves the body unread.
    pub async fn head(&mut self) -> RawAnswer {
        let end = loop {
            if let Some(end) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
            assert!(self.read().await, "the connection was closed");
        };
        let head = String::from_utf8(self.buffer.drain(..end).collect()).unwrap().to_ascii_lowercase();
        RawAnswer { status: head.split(' ').nth(1).unwrap().parse().unwrap(), head }
    }

    /// As [`Raw::answer`]; none if the connection is closed instead.
    pub async fn try_answer(&mut self) -> Option<RawAnswer> {
        let end = loop {
            if let Some(end) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
            if !self.read().await {
                return None;
            }
        };
        let head = String::from_utf8(self.buffer.drain(..end).collect()).unwrap().to_ascii_lowercase();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
        while self.buffer.len() < length {
            if !self.read().await {
                return None;
            }
        }
        self.buffer.drain(..length);
        Some(RawAnswer { status, head })
    }

    /// Reads until the other side closes, and says how many bytes came.
    pub async fn drain(&mut self) -> usize {
        let mut count = std::mem::take(&mut self.buffer).len();
        while self.read().await {
            count += std::mem::take(&mut self.buffer).len();
        }
        count
    }

    /// As [`Raw::drain`], but after each piece of at most this size it pauses.
    pub async fn drain_slowly(&mut self, pause: Duration, piece: usize) -> usize {
        let mut bytes = vec![0; piece];
        let mut count = 0;
        loop {
            let read = timeout(PATIENCE, self.socket.read(&mut bytes)).await.expect("the other side says nothing");
            match read {
                Ok(0) | Err(_) => return count,
                Ok(read) => count += read,
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// Whether nothing comes for this long.
    pub async fn is_silent_for(&mut self, duration: Duration) -> bool {
        timeout(duration, self.socket.readable()).await.is_err()
    }

    /// Reads more; false at the end, also if that is not a clean one.
    async fn read(&mut self) -> bool {
        let mut bytes = vec![0; 64 * 1024];
        let read = timeout(PATIENCE, self.socket.read(&mut bytes)).await.expect("the other side says nothing");
        let count = read.unwrap_or(0);
        self.buffer.extend_from_slice(&bytes[..count]);
        count > 0
    }
}
