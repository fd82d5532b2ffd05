//! The token service of an upstream: whether it may get the credentials for the upstream.
//!
//! A challenge names the token service. The credentials of `registry-1.docker.io` go to `auth.docker.io`, and those of
//! `registry.gitlab.com` to `gitlab.com`, but not to any other host that a challenge names.

use url::Url;

use super::redirect::is_same_origin;

/// Whether credentials for `upstream` may be sent to `realm`. `hosts` are further hosts that the operator allows.
pub(super) fn may_have_credentials(realm: &Url, upstream: &Url, hosts: &[String]) -> bool {
    if is_same_origin(realm, upstream) {
        return true;
    }
    let (Some(realm_host), Some(host)) = (realm.host_str(), upstream.host_str()) else { return false };
    // Without TLS, the same host is the limit: another port may be a token service of a test.
    if realm.scheme() != "https" {
        return upstream.scheme() == "http" && realm_host == host;
    }
    if realm_host == host || hosts.iter().any(|allowed| allowed.eq_ignore_ascii_case(realm_host)) {
        return true;
    }
    let is_name = |host: &str| host.parse::<std::net::IpAddr>().is_err() && !host.starts_with('[');
    // The domain of `registry.example.org` is `example.org`. One of a single label belongs to everyone.
    let domain = host.split_once('.').map(|(_, domain)| domain).filter(|domain| domain.contains('.'));
    let within = |domain: &str| realm_host == domain || realm_host.ends_with(&format!(".{domain}"));
    is_name(host) && is_name(realm_host) && (domain.is_some_and(within) || within(host))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn only_a_token_service_of_the_same_domain_gets_credentials() {
        for (upstream, realm, allowed) in [
            ("https://registry-1.docker.io", "https://auth.docker.io/token", true),
            ("https://ghcr.io", "https://ghcr.io/token", true),
            ("https://registry.gitlab.com", "https://gitlab.com/jwt/auth", true),
            ("https://quay.io", "https://quay.io/v2/auth", true),
            ("https://quay.io", "https://auth.quay.io/v2/auth", true),
            ("https://quay.io", "https://evil.io/token", false),
            ("https://ghcr.io", "https://ghcr.io.evil.example/token", false),
            ("https://registry.example.org", "https://evilexample.org/token", false),
            ("https://registry.example.org", "http://registry.example.org/token", false),
            ("https://registry.example.org", "http://example.org/token", false),
            ("http://localhost:5000", "http://localhost:5001/token", true),
            ("http://localhost:5000", "http://127.0.0.1:5001/token", false),
            ("https://10.0.0.1", "https://11.0.0.1/token", false),
            ("https://[fd00::1]", "https://[fd00::2]/token", false),
        ] {
            let (upstream, url) = (upstream.parse().unwrap(), realm.parse().unwrap());
            assert_eq!(may_have_credentials(&url, &upstream, &[]), allowed, "{upstream} and {realm}");
        }
        let (upstream, realm) = ("https://quay.io".parse().unwrap(), "https://sso.example/token".parse().unwrap());
        assert!(may_have_credentials(&realm, &upstream, &["SSO.example".to_owned()]));
    }
}
