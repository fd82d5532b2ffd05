//! Where a redirect of an upstream may lead. Registries redirect blobs to other hosts, which need no credentials.

use hyper::StatusCode;
use url::{Host, Url};

/// The most redirects of one request.
const HOPS_MAX: usize = 5;

pub(super) const fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// Whether two URLs have the same scheme, host and port: the browser's meaning of an origin.
pub(super) fn is_same_origin(one: &Url, other: &Url) -> bool {
    one.origin() == other.origin()
}

/// The URL of the next request, or why a redirect is not followed: `redirects <why>`.
pub(super) fn next(from: &Url, location: Option<&str>, hops: usize) -> Result<Url, &'static str> {
    if hops > HOPS_MAX {
        return Err("more than 5 times");
    }
    let location = location.ok_or("without a valid Location")?;
    let to = from.join(location).map_err(|_| "to an invalid URL")?;
    match (from.scheme(), to.scheme()) {
        (_, "https") | ("http", "http") => {}
        ("https", "http") => return Err("from https to http, which has no protection"),
        _ => return Err("to an address that is not on the web"),
    }
    if !to.username().is_empty() || to.password().is_some() {
        return Err("to a URL with a user name or a password");
    }
    if is_local(&to) && !is_local(from) {
        return Err("to an address of this machine or its network");
    }
    Ok(to)
}

/// Whether the URL names an address that only this machine or its link reaches. An upstream elsewhere must not make the
/// registry send requests there.
fn is_local(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name.eq_ignore_ascii_case("localhost") || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => {
            address.is_loopback() || address.is_link_local() || address.is_unspecified() || address.is_private()
        }
        Some(Host::Ipv6(address)) => match address.to_ipv4_mapped() {
            Some(mapped) => mapped.is_loopback() || mapped.is_link_local() || mapped.is_private(),
            None => {
                address.is_loopback()
                    || address.is_unspecified()
                    || address.is_unique_local()
                    || address.is_unicast_link_local()
            }
        },
        None => true,
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn redirects_lead_to_other_hosts_but_never_out_of_tls_or_to_the_own_network() {
        let from = "https://registry.example/v2/a/blobs/x".parse::<Url>().unwrap();
        for (location, allowed) in [
            ("https://cdn.example/x?signature=1", true),
            ("/v2/other", true),
            ("//cdn.example/x", true),
            ("http://registry.example/x", false),
            ("http://cdn.example/x", false),
            ("ftp://cdn.example/x", false),
            ("file:///etc/passwd", false),
            ("https://user:secret@cdn.example/x", false),
            ("https://localhost/x", false),
            ("https://a.localhost/x", false),
            ("https://127.0.0.1/x", false),
            ("https://169.254.169.254/latest", false),
            ("https://10.0.0.1/x", false),
            ("https://[::1]/x", false),
            ("https://[::ffff:127.0.0.1]/x", false),
            ("https://[fd00::1]/x", false),
            ("https://0x7f.1/x", false),
            ("", true),
        ] {
            assert_eq!(next(&from, Some(location), 1).is_ok(), allowed, "{location}");
        }
        assert!(next(&from, None, 1).is_err());
        assert!(next(&from, Some("/x"), HOPS_MAX).is_ok());
        assert!(next(&from, Some("/x"), HOPS_MAX + 1).is_err());
        let local = "http://127.0.0.1:5000/v2/".parse::<Url>().unwrap();
        assert!(next(&local, Some("http://127.0.0.1:5001/x"), 1).is_ok(), "an upstream on this machine may");
        assert!(!is_same_origin(&local, &"http://127.0.0.1:5001/".parse().unwrap()));
    }
}
