//! Reads the lists that proxies append to, from their end.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The entries of `X-Forwarded-*`, last first. Empty entries are skipped (RFC 9110, 5.6.1).
pub(super) fn plain(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.rsplit(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|entry| !entry.is_empty())
}

/// The elements of `Forwarded`, last first. A comma between quotes does not separate elements, even if a client has left
/// a quote open before it.
pub(super) fn quoted(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(value);
    std::iter::from_fn(move || {
        let whole = rest?;
        let (mut at, mut in_quotes) = (whole.len(), false);
        while at > 0 {
            at -= 1;
            match whole[at] {
                b'"' if !in_quotes || !is_escaped(whole, at) => in_quotes = !in_quotes,
                b',' if !in_quotes => {
                    rest = Some(&whole[..at]);
                    return Some(&whole[at + 1..]);
                }
                _ => {}
            }
        }
        rest.take()
    })
    .map(<[u8]>::trim_ascii)
    .filter(|element| !element.is_empty())
}

/// Whether an odd number of backslashes precedes a byte.
fn is_escaped(text: &[u8], at: usize) -> bool {
    text[..at].iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 1
}

/// The element of one proxy in `Forwarded` (RFC 7239, 4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Hop<'a> {
    /// `for`: the client of the proxy.
    pub(super) node: Option<&'a [u8]>,
    pub(super) proto: Option<&'a [u8]>,
    pub(super) host: Option<&'a [u8]>,
}

impl<'a> Hop<'a> {
    /// Reads an element. A malformed element, or one with a repeated parameter, counts as empty.
    pub(super) fn read(element: &'a [u8]) -> Self {
        Self::try_read(element).unwrap_or_default()
    }

    fn try_read(element: &'a [u8]) -> Option<Self> {
        let (mut hop, mut rest) = (Self::default(), element);
        while !rest.is_empty() {
            let (name, value);
            (name, value, rest) = pair(rest)?;
            let known = match name {
                _ if name.eq_ignore_ascii_case(b"for") => &mut hop.node,
                _ if name.eq_ignore_ascii_case(b"proto") => &mut hop.proto,
                _ if name.eq_ignore_ascii_case(b"host") => &mut hop.host,
                _ => continue,
            };
            if known.replace(value).is_some() {
                return None;
            }
        }
        Some(hop)
    }
}

/// A name, its value without quotes, and what follows the next semicolon.
fn pair(text: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let equals = text.iter().position(|byte| *byte == b'=')?;
    let (name, text) = (text[..equals].trim_ascii(), text[equals + 1..].trim_ascii_start());
    let (value, rest) = if let Some(text) = text.strip_prefix(b"\"") {
        let end = (0..text.len()).find(|at| text[*at] == b'"' && !is_escaped(text, *at))?;
        // An address, a scheme or a host needs no escapes.
        (Some(&text[..end]).filter(|value| !value.contains(&b'\\')), text[end + 1..].trim_ascii_start())
    } else {
        let end = text.iter().position(|byte| *byte == b';').unwrap_or(text.len());
        (Some(text[..end].trim_ascii()), &text[end..])
    };
    let rest = match rest {
        [] => rest,
        [b';', rest @ ..] => rest.trim_ascii(),
        _ => return None,
    };
    Some((name, value.unwrap_or_default(), rest))
}

/// Reads the address of an entry, with or without a port, brackets, quotes or a zone. Returns `None` for `unknown`, for a
/// name such as `_hidden`, and for anything else.
pub(super) fn address(entry: &[u8]) -> Option<IpAddr> {
    let text = str::from_utf8(entry).ok()?.trim();
    let text = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    let (address, port): (IpAddr, _) = if let Some(text) = text.strip_prefix('[') {
        let (address, port) = text.split_once(']')?;
        (ipv6(address)?.into(), port)
    } else if text.bytes().filter(|byte| *byte == b':').count() > 1 {
        (ipv6(text)?.into(), "")
    } else {
        let (address, port) = text.split_at(text.find(':').unwrap_or(text.len()));
        (address.parse::<Ipv4Addr>().ok()?.into(), port)
    };
    let is_port = |port: &str| {
        let digits = port.bytes().all(|byte| byte.is_ascii_digit()) && (1..=5).contains(&port.len());
        // A proxy may hide a port behind a name (RFC 7239, 6.3).
        digits || port.starts_with('_')
    };
    let is_fine = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
    is_fine.then(|| address.to_canonical())
}

fn ipv6(text: &str) -> Option<Ipv6Addr> {
    text.split('%').next()?.parse().ok()
}
