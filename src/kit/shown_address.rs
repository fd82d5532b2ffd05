//! [`ShownAddress`]: an address as `Display` writes it, without its formatter for IPv4. The access log has two of them in each
//! line.

use std::fmt;
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};

/// `[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff%4294967295]:65535`
const LENGTH_MAX: usize = 58;

/// The text of an address, with or without a port.
#[derive(Debug)]
pub(crate) struct ShownAddress {
    text: [u8; LENGTH_MAX],
    length: usize,
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

impl ShownAddress {
    pub(crate) fn of_ip(ip: IpAddr) -> Self {
        let mut shown = Self { text: [0; LENGTH_MAX], length: 0 };
        match ip {
            IpAddr::V4(ip) => shown.push_octets(ip.octets()),
            IpAddr::V6(_) => shown.push_display(&ip),
        }
        shown
    }

    pub(crate) fn of_socket(socket: SocketAddr) -> Self {
        let mut shown = Self { text: [0; LENGTH_MAX], length: 0 };
        match socket {
            SocketAddr::V4(socket) => {
                shown.push_octets(socket.ip().octets());
                shown.push(b":");
                shown.push(itoa::Buffer::new().format(socket.port()).as_bytes());
            }
            SocketAddr::V6(_) => shown.push_display(&socket),
        }
        shown
    }

    pub(crate) fn as_str(&self) -> &str {
        str::from_utf8(&self.text[..self.length]).expect("addresses are ASCII")
    }

    fn push_octets(&mut self, octets: [u8; 4]) {
        for octet in octets {
            let (digits, count) = &OCTETS[usize::from(octet)];
            self.text[self.length..self.length + 4].copy_from_slice(digits);
            self.length += count;
        }
        // The last octet has no dot after it.
        self.length -= 1;
    }

    fn push(&mut self, text: &[u8]) {
        self.text[self.length..self.length + text.len()].copy_from_slice(text);
        self.length += text.len();
    }

    fn push_display(&mut self, address: &impl fmt::Display) {
        let mut room = &mut self.text[..];
        write!(room, "{address}").expect("it has room for every address");
        self.length = LENGTH_MAX - room.len();
    }
}

impl fmt::Display for ShownAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
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
                let shown = ShownAddress::of_socket(socket);
                prop_assert_eq!(shown.as_str(), socket.to_string());
            }
            let shown = ShownAddress::of_ip(address.ip());
            prop_assert_eq!(shown.as_str(), address.ip().to_string());
        }
    }

    #[test]
    fn the_longest_addresses_have_room() {
        for longest in ["255.255.255.255:65535", "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff%4294967295]:65535"] {
            assert_eq!(ShownAddress::of_socket(longest.parse().expect("an address")).as_str(), longest);
        }
    }
}
