//! [`ShownAddress`]: an address as `Display` writes it, without its formatter for IPv4. The access log has two of them in each
//! line.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// An address, with or without a port.
#[derive(Debug)]
pub(crate) enum ShownAddress {
    Ip(IpAddr),
    Socket(SocketAddr),
}

impl fmt::Display for ShownAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (ip, port) = match self {
            Self::Ip(IpAddr::V4(ip)) => (ip, None),
            Self::Socket(SocketAddr::V4(socket)) => (socket.ip(), Some(socket.port())),
            Self::Ip(ip) => return ip.fmt(f),
            Self::Socket(socket) => return socket.fmt(f),
        };
        let numbers = ip.octets().into_iter().map(u16::from).chain(port);
        for (before, number) in ["", ".", ".", ".", ":"].into_iter().zip(numbers) {
            f.write_str(before)?;
            f.write_str(itoa::Buffer::new().format(number))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn addresses_have_the_text_of_display(address: SocketAddr, small in 0_u16..300) {
            for port in [address.port(), small] {
                let socket = SocketAddr::new(address.ip(), port);
                prop_assert_eq!(ShownAddress::Socket(socket).to_string(), socket.to_string());
            }
            prop_assert_eq!(ShownAddress::Ip(address.ip()).to_string(), address.ip().to_string());
        }
    }
}
