//! The connection under the LDAP library: TCP, TLS, and limits on what the directory sends.
//!
//! The library speaks over a pair of local sockets. Each message from the directory is read here first. The library gets it
//! only if its size and nesting have a limit and its lengths are right, because the library checks neither. `StartTLS` is
//! one message each way, so that no byte which came before TLS is taken for one that came through it.

use std::io;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, copy, split};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::AbortHandle;
use tokio_rustls::TlsConnector;

use super::{Security, Settings, Unavailable, result_name};

/// The largest sum of all messages of a connection, in bytes. The groups of a user have some 100 bytes each.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;
/// The deepest nesting of a message. A search result has a depth of five.
const DEPTH_MAX: usize = 12;
/// The request `StartTLS` (RFC 4511, 4.14.1) with the message id 1.
const START_TLS: &[u8] = b"\x30\x1d\x02\x01\x01\x77\x18\x80\x161.3.6.1.4.1.1466.20037";
/// The tags of BER in the response to it.
const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const ENUMERATED: u8 = 0x0a;
const EXTENDED_RESPONSE: u8 = 0x78;
/// The bit of a tag whose content is other elements.
const CONSTRUCTED: u8 = 0x20;

/// Connects to the directory, and returns the library's end of the connection.
pub(super) async fn connect(
    settings: &Settings,
    tls: Option<&Arc<ClientConfig>>,
) -> Result<(std::os::unix::net::UnixStream, AbortHandle), Unavailable> {
    let Settings { host, port, .. } = settings;
    let failed = |what: &str, error: &dyn std::fmt::Display| Unavailable(format!("{host}:{port} {what}: {error}"));
    let reached = TcpStream::connect((host.as_str(), *port)).await;
    let mut stream = reached.map_err(|error| failed("cannot be reached", &error))?;
    if settings.security == Security::StartTls {
        start_tls(&mut stream).await.map_err(|error| failed("does not start TLS", &error))?;
    }
    let pair = || -> io::Result<_> {
        let (ours, library) = UnixStream::pair()?;
        Ok((ours, library.into_std()?))
    };
    let (ours, library) = pair().map_err(|error| failed("cannot be asked", &error))?;
    let task = match tls {
        None => tokio::spawn(carry(stream, ours)),
        Some(config) => {
            let name = ServerName::try_from(host.clone()).map_err(|error| failed("has no valid name", &error))?;
            let connected = TlsConnector::from(Arc::clone(config)).connect(name, stream).await;
            tokio::spawn(carry(
                connected.map_err(|error| {
                    failed(
                        "gives no TLS connection that can be trusted (a plain port needs http.auth.ldap.startTLS)",
                        &error,
                    )
                })?,
                ours,
            ))
        }
    };
    Ok((library, task.abort_handle()))
}

async fn start_tls(stream: &mut TcpStream) -> io::Result<()> {
    stream.write_all(START_TLS).await?;
    let message = read_message(stream).await?.ok_or(io::ErrorKind::UnexpectedEof)?;
    match start_tls_result(&message) {
        Some(0) => Ok(()),
        Some(code) => Err(io::Error::other(format!("it refuses StartTLS: {}", result_name(u32::from(code))))),
        None => Err(invalid("the response is not one to StartTLS")),
    }
}

/// The result code in the response to `StartTLS`.
fn start_tls_result(message: &[u8]) -> Option<u8> {
    let (SEQUENCE, message, []) = element(message)? else { return None };
    let (INTEGER, [1], operation) = element(message)? else { return None };
    let (EXTENDED_RESPONSE, response, _) = element(operation)? else { return None };
    let (ENUMERATED, [code], _) = element(response)? else { return None };
    Some(*code)
}

/// Carries requests to the directory and messages back, until either end closes.
async fn carry(server: impl AsyncRead + AsyncWrite, ours: UnixStream) {
    let (mut from_server, mut to_server) = split(server);
    let (mut requests, mut answers) = ours.into_split();
    let answering = async {
        let mut left = ANSWER_BYTES_MAX;
        while let Some(message) = read_message(&mut from_server).await? {
            left = left.checked_sub(message.len()).ok_or_else(|| invalid("the answers are too large"))?;
            answers.write_all(&message).await?;
        }
        Ok(())
    };
    let ended = tokio::select! {
        ended = copy(&mut requests, &mut to_server) => ended.map(drop),
        ended = answering => ended,
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "the connection to the directory broke");
    }
}

/// Reads one message. `None` at the end of the connection.
async fn read_message(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Vec<u8>>> {
    let mut message = vec![0; 2];
    if stream.read(&mut message[..1]).await? == 0 {
        return Ok(None);
    }
    stream.read_exact(&mut message[1..]).await?;
    let length = match message[1] {
        short @ 0..0x80 => usize::from(short),
        long => {
            let count = usize::from(long & 0x7f);
            if !(1..=4).contains(&count) {
                return Err(invalid("the length of a message is invalid"));
            }
            message.resize(2 + count, 0);
            stream.read_exact(&mut message[2..]).await?;
            message[2..].iter().fold(0, |length, byte| length << 8 | usize::from(*byte))
        }
    };
    if length > ANSWER_BYTES_MAX {
        return Err(invalid("a message is too large"));
    }
    let begin = message.len();
    message.resize(begin + length, 0);
    stream.read_exact(&mut message[begin..]).await?;
    if is_well_formed(&message, DEPTH_MAX) { Ok(Some(message)) } else { Err(invalid("a message is not well formed")) }
}

/// Whether the elements fill the bytes, and are nested at most this deep.
fn is_well_formed(mut bytes: &[u8], depth: usize) -> bool {
    while !bytes.is_empty() {
        let Some((tag, content, rest)) = element(bytes) else { return false };
        if tag & CONSTRUCTED != 0 && (depth == 0 || !is_well_formed(content, depth - 1)) {
            return false;
        }
        bytes = rest;
    }
    true
}

/// Splits the first element off: its tag, its content, and the bytes after it. LDAP has no tags of several bytes and no
/// indefinite lengths (RFC 4511, 5.1).
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[tag, length], rest) = bytes.split_first_chunk()?;
    let (length, rest) = match length {
        short @ 0..0x80 => (usize::from(short), rest),
        long => {
            let (digits, rest) = rest.split_at_checked(usize::from(long & 0x7f))?;
            if !(1..=4).contains(&digits.len()) {
                return None;
            }
            (digits.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
        }
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

fn invalid(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    async fn read(bytes: &[u8]) -> Result<Option<Vec<u8>>, io::ErrorKind> {
        read_message(&mut &*bytes).await.map_err(|error| error.kind())
    }

    #[test]
    fn the_result_of_start_tls_is_read_in_every_form_of_length() {
        let openldap = b"\x30\x0c\x02\x01\x01\x78\x07\x0a\x01\x00\x04\x00\x04\x00";
        let active_directory =
            b"\x30\x84\x00\x00\x00\x10\x02\x01\x01\x78\x84\x00\x00\x00\x07\x0a\x01\x34\x04\x00\x04\x00";
        assert_eq!(start_tls_result(openldap), Some(0));
        assert_eq!(start_tls_result(active_directory), Some(52));
        for end in 0..openldap.len() {
            assert_eq!(start_tls_result(&openldap[..end]), None, "{end}");
        }
        assert_eq!(start_tls_result(&openldap.repeat(2)), None, "a second message");
    }

    #[tokio::test]
    async fn a_message_that_is_too_large_or_too_deep_or_cut_off_is_refused() {
        let mut nested = vec![0x04, 0];
        for _ in 0..DEPTH_MAX {
            let length = u8::try_from(nested.len()).unwrap();
            nested.splice(0..0, [SEQUENCE, length]);
        }
        assert_eq!(read(&nested).await, Ok(Some(nested.clone())));
        let length = u8::try_from(nested.len()).unwrap();
        nested.splice(0..0, [SEQUENCE, length]);
        assert_eq!(read(&nested).await, Err(io::ErrorKind::InvalidData), "one deeper");

        assert_eq!(read(b"").await, Ok(None));
        let refused: [(&[u8], io::ErrorKind); 7] = [
            (b"\x30", io::ErrorKind::UnexpectedEof),
            (b"\x30\x02\x04", io::ErrorKind::UnexpectedEof),
            (b"\x30\x80\x00\x00", io::ErrorKind::InvalidData),
            (b"\x30\x85\x00\x00\x00\x00\x00", io::ErrorKind::InvalidData),
            (b"\x30\x84\xff\xff\xff\xff", io::ErrorKind::InvalidData),
            (b"\x30\x02\x04\x05", io::ErrorKind::InvalidData),
            (b"\x30\x03\x04\x01", io::ErrorKind::UnexpectedEof),
        ];
        for (bytes, kind) in refused {
            assert_eq!(read(bytes).await, Err(kind), "{bytes:02x?}");
        }
    }
}
