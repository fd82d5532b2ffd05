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

/// The decimal digits of each octet with a dot, and how many characters these are.
const OCTETS: [([u8; 4], usize); 256] = {
    let mut octets = [([b'.'; 4], 0); 256];
    let mut octet = 0;
    while octet < 256 {
        let (digits, count) = &mut octets[octet];
        let mut unit = 100;
        while unit > 0 {
            if octet >= unit || unit == 1 {
                digits[*count] = b"0123456789"[octet / unit % 10];
                *count += 1;
            }
            unit /= 10;
        }
        *count += 1;
        octet += 1;
    }
    octets
};

impl fmt::Display for ShownAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (ip, port) = match self {
            Self::Ip(IpAddr::V4(ip)) => (ip, None),
            Self::Socket(SocketAddr::V4(socket)) => (socket.ip(), Some(socket.port())),
            Self::Ip(ip) => return ip.fmt(f),
            Self::Socket(socket) => return socket.fmt(f),
        };
        // 255.255.255.255:65535
        let mut text = [0; 21];
        let mut length = 0;
        for octet in ip.octets() {
            let (digits, count) = OCTETS[usize::from(octet)];
            text[length..length + 4].copy_from_slice(&digits);
            length += count;
        }
        // The last octet has no dot after it.
        length -= 1;
        if let Some(port) = port {
            text[length] = b':';
            let mut buffer = itoa::Buffer::new();
            let digits = buffer.format(port).as_bytes();
            text[length + 1..=length + digits.len()].copy_from_slice(digits);
            length += 1 + digits.len();
        }
        f.write_str(str::from_utf8(&text[..length]).expect("digits are ASCII"))
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
