//! Bytes on a socket, for what no client library would send.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// No answer takes longer; one that does is a failed test.
const PATIENCE: Duration = Duration::from_secs(30);

/// A response.
#[derive(Debug)]
pub struct RawAnswer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl RawAnswer {
    /// The first error code in the body; nothing if the body is empty.
    pub fn code(&self) -> String {
        let body: serde_json::Value = serde_json::from_str(&self.body).unwrap_or_default();
        body["errors"][0]["code"].as_str().unwrap_or_default().to_owned()
    }

    fn parse(received: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(received);
        let (head, body) = text.split_once("\r\n\r\n")?;
        let status = head.strip_prefix("HTTP/1.")?.get(2..5)?.parse().ok()?;
        Some(Self { status, head: head.to_ascii_lowercase(), body: body.to_owned() })
    }

    /// Whether as many bytes have come as were announced.
    fn is_whole(&self) -> bool {
        let length = self.head.lines().find_map(|line| line.strip_prefix("content-length:"));
        length.is_none_or(|length| length.trim().parse() == Ok(self.body.len()))
    }
}

/// Sends bytes, and reads the first answer. `half_close` is whether the client then says that it
/// will send no more, as one that was cut off does.
pub async fn exchange(address: SocketAddr, bytes: &[u8], half_close: bool) -> RawAnswer {
    let mut socket = TcpStream::connect(address).await.unwrap();
    // The registry may refuse, and close, before it has read all of it.
    let sent = socket.write_all(bytes).await;
    if half_close && sent.is_ok() {
        let _ = socket.shutdown().await;
    }
    let mut received = Vec::new();
    let reading = async {
        while socket.read_buf(&mut received).await.unwrap_or(0) > 0 {
            let answer = RawAnswer::parse(&received).filter(|answer| answer.status >= 200 && answer.is_whole());
            if answer.is_some() {
                return answer;
            }
        }
        RawAnswer::parse(&received)
    };
    let answer = timeout(PATIENCE, reading).await.expect("an answer in time");
    answer.unwrap_or_else(|| RawAnswer { status: 0, head: String::new(), body: String::new() })
}
