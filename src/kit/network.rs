//! Groups of network addresses.

use std::net::{IpAddr, Ipv6Addr};

/// The network of one client: an IPv4 address, or 56 bits of an IPv6 address. A client can use each address of its
/// network, and providers assign networks of 56 bits to customers (RFC 6177).
pub(crate) fn client_network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (!0 << 72))),
        address @ IpAddr::V4(_) => address,
    }
}
