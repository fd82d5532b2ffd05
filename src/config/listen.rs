//! [`Listen`]: a place where the registry listens.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use thiserror::Error;

use super::Address;

/// The beginning of a path of a unix socket.
const UNIX: &str = "unix:";
/// The beginning of an address that speaks plain HTTP although there is a certificate.
const PLAIN: &str = "http://";
/// The beginning of an address that only answers the challenges of an ACME authority.
const CHALLENGES: &str = "acme://";
/// The longest name of the file of a unix socket. A longer directory is opened first, but the name must fit into
/// `sun_path` of unix(7), which has 108 bytes, together with the number of the directory and of the process.
const NAME_BYTES_MAX: usize = 80;

/// A place where the registry listens: `0.0.0.0:443`, `[::1]:8080`, `:8080`, `http://127.0.0.1:8080`,
/// `acme://:80`, or `unix:/run/coracle/http.sock`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// A port.
    Port {
        /// The addresses of the port.
        address: Address,
        /// The port, 0 for any free one.
        port: u16,
        /// The protocol of the port.
        speaks: Speaks,
    },
    /// A unix socket, which speaks plain HTTP.
    Unix(PathBuf),
}

/// The protocol of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Speaks {
    /// TLS if there is a certificate, and otherwise plain HTTP.
    TlsOrPlain,
    /// Plain HTTP also if there is a certificate.
    Plain,
    /// Plain HTTP, and only for the challenges of an ACME authority. Everything else is sent to https://.
    Challenges,
}

impl Listen {
    /// Whether only this machine can connect.
    pub(crate) fn is_local(&self) -> bool {
        match self {
            Self::Unix(_) => true,
            Self::Port { address, .. } => address.is_loopback(),
        }
    }

    /// Whether two places cannot be listened on at once. `is_same_file` compares the paths of unix sockets.
    pub(super) fn conflicts_with(&self, other: &Self, is_same_file: impl Fn(&Path, &Path) -> bool) -> bool {
        match (self, other) {
            (Self::Unix(one), Self::Unix(other)) => is_same_file(one, other),
            (Self::Port { address: one, port, .. }, Self::Port { address: other, port: same, .. }) => {
                let is_each = one == other || includes(*one, *other) || includes(*other, *one);
                *port != 0 && port == same && is_each
            }
            _ => false,
        }
    }
}

/// Whether a port on all addresses takes it on the other address, too.
fn includes(all: Address, other: Address) -> bool {
    match (all, other) {
        (Address::All, _) => true,
        (Address::Ip(IpAddr::V6(all)), _) => all.is_unspecified(),
        (Address::Ip(IpAddr::V4(all)), Address::Ip(IpAddr::V4(_)) | Address::Localhost) => all.is_unspecified(),
        _ => false,
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "{UNIX}{}", path.display()),
            Self::Port { address, port, speaks } => {
                f.write_str(match speaks {
                    Speaks::TlsOrPlain => "",
                    Speaks::Plain => PLAIN,
                    Speaks::Challenges => CHALLENGES,
                })?;
                match address {
                    Address::All => write!(f, ":{port}"),
                    Address::Localhost => write!(f, "localhost:{port}"),
                    Address::Ip(ip) => SocketAddr::new(*ip, *port).fmt(f),
                }
            }
        }
    }
}

impl FromStr for Listen {
    type Err = InvalidListen;

    fn from_str(text: &str) -> Result<Self, InvalidListen> {
        if let Some(path) = text.strip_prefix(UNIX) {
            let path = PathBuf::from(path);
            return match path.file_name() {
                _ if path.as_os_str().as_encoded_bytes().contains(&0) => Err(InvalidListen::Nul),
                Some(name) if name.len() > NAME_BYTES_MAX => Err(InvalidListen::Long { length: name.len() }),
                Some(_) if path.is_absolute() => Ok(Self::Unix(path)),
                _ => Err(InvalidListen::Form),
            };
        }
        let plain = text.strip_prefix(PLAIN).map(|rest| (Speaks::Plain, rest));
        let special = plain.or_else(|| text.strip_prefix(CHALLENGES).map(|rest| (Speaks::Challenges, rest)));
        let (speaks, rest) = special.unwrap_or((Speaks::TlsOrPlain, text));
        let (host, port) = rest.rsplit_once(':').ok_or(InvalidListen::Form)?;
        let port = Some(port).filter(|port| port.bytes().all(|byte| byte.is_ascii_digit()));
        let port = port.and_then(|port| port.parse().ok()).ok_or(InvalidListen::Form)?;
        let address = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(host) => host.parse().map(IpAddr::V6).map(Address::Ip).ok(),
            None if host.is_empty() => Some(Address::All),
            None if host.eq_ignore_ascii_case("localhost") => Some(Address::Localhost),
            None => host.parse().map(IpAddr::V4).map(Address::Ip).ok(),
        };
        Ok(Self::Port { address: address.ok_or(InvalidListen::Form)?, port, speaks })
    }
}

/// A text is not a [`Listen`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum InvalidListen {
    /// It has neither form.
    #[error(
        "expected an address and a port such as 0.0.0.0:443, [::1]:8080, :8080, http://127.0.0.1:8080 or acme://:80, or \
         a unix socket such as unix:/run/coracle/http.sock"
    )]
    Form,
    /// A path contains a NUL.
    #[error("the path of a unix socket cannot contain a NUL character")]
    Nul,
    /// The name of a file is too long for the system.
    #[error("the name of the unix socket has {length} bytes, and at most {NAME_BYTES_MAX} are possible: shorten it")]
    Long {
        /// Its length in bytes.
        length: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_and_written() {
        for (text, is_local) in [
            ("0.0.0.0:443", false),
            ("127.0.0.1:0", true),
            ("[::1]:8080", true),
            ("[2001:db8::1]:8080", false),
            (":8080", false),
            ("localhost:5000", true),
            ("http://192.0.2.1:80", false),
            ("acme://:80", false),
            ("unix:/run/coracle.sock", true),
        ] {
            let listen: Listen = text.parse().expect(text);
            assert_eq!((listen.to_string().as_str(), listen.is_local()), (text, is_local));
        }
        for text in
            ["", "80", "host:80", "::1:80", "127.0.0.1", "127.0.0.1:70000", "127.0.0.1:+1", "unix:x", "https://:1"]
        {
            assert!(text.parse::<Listen>().is_err(), "{text}");
        }
        for (path, expected) in [
            ("/run/a\0b".to_owned(), InvalidListen::Nul),
            ("/run/".to_owned() + &"a".repeat(81), InvalidListen::Long { length: 81 }),
            ("/".to_owned(), InvalidListen::Form),
        ] {
            assert_eq!(format!("unix:{path}").parse::<Listen>(), Err(expected));
        }
        assert!(format!("unix:/run/{}", "a".repeat(80)).parse::<Listen>().is_ok());
    }

    #[test]
    fn one_place_cannot_be_listened_on_twice() {
        for (one, other, conflicts) in [
            (":80", "127.0.0.1:80", true),
            ("0.0.0.0:80", "http://127.0.0.1:80", true),
            ("0.0.0.0:80", "[::1]:80", false),
            ("[::]:80", "127.0.0.1:80", true),
            ("127.0.0.1:80", "127.0.0.2:80", false),
            ("127.0.0.1:80", "127.0.0.1:81", false),
            (":0", ":0", false),
            ("unix:/tmp/x.sock", "unix:/tmp/x.sock", true),
            ("unix:/tmp/x.sock", "unix:/tmp/y.sock", false),
        ] {
            let [first, second]: [Listen; 2] = [one, other].map(|text| text.parse().expect(text));
            assert_eq!(first.conflicts_with(&second, |one, other| one == other), conflicts, "{one} {other}");
            assert_eq!(second.conflicts_with(&first, |one, other| one == other), conflicts, "{other} {one}");
        }
    }
}
