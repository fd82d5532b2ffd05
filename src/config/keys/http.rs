//! Keys of the HTTP server: where it listens, what it announces, and its limits.

use crate::config::kind::Kind::{
    self, Address, Bool, Duration, HeaderText, Int, List, Path, Port, Size, SomeOf, Table, Text, Texts, Url,
};

use super::Status::{Implemented, NoEffect, Refused, Within};
use super::{Row, row};

const IDLE_TIMEOUTS: super::Status =
    NoEffect("a transfer may take as long as bytes keep coming, see http.limits.bodyIdleTimeout");

#[rustfmt::skip] // a table is read down its columns
pub(super) const KEYS: &[Row] = &[
    row("http.address", Address, "127.0.0.1", Implemented,
        "IP address to listen on, \"localhost\", or \"\" for all addresses"),
    row("http.port", Port, "8080", Implemented,
        "port to listen on, 0 for any free one"),
    row("http.externalUrl", Url, "", Implemented,
        "URL under which clients reach the registry when that is not its address, as behind a proxy"),
    row("http.realm", HeaderText, "Authorization Required", Implemented,
        "realm of the challenge that asks for a password"),
    row("http.trustedProxies", Texts, "[]", Implemented, "addresses and networks of proxies whose X-Forwarded-For, -Proto and -Host and Forwarded headers count"),
    row("http.open", Bool, "false", Implemented,
        "anyone who reaches the port may do everything, without signing in"),
    row("http.tls.cert", Path, "", Implemented,
        "PEM file with the certificate chain; together with http.tls.key the port speaks TLS"),
    row("http.tls.key", Path, "", Implemented,
        "PEM file with the private key of http.tls.cert"),
    row("http.tls.cacert", Path, "", Refused("not supported: client certificates are not asked for; take it out"),
        "authority of client certificates"),

    row("http.limits.maxConnections", Int { least: 1, most: 1_000_000 }, "1024", Implemented,
        "connections open at a time; the one that is idle longest is closed for a new one"),
    row("http.limits.maxConnectionsPerAddress", Int { least: 0, most: 1_000_000 }, "0", Implemented,
        "the same for one address (IPv6: /64), but for trusted proxies; 0 for three quarters of maxConnections"),
    row("http.limits.headerTimeout", Duration { least: "1ms", most: "1h" }, "30s", Implemented,
        "how long the head of a request may take"),
    row("http.limits.idleTimeout", Duration { least: "1ms", most: "24h" }, "120s", Implemented,
        "how long a connection is kept between requests"),
    row("http.limits.bodyIdleTimeout", Duration { least: "1ms", most: "24h" }, "60s", Implemented,
        "how long a request or an answer may pause within its body"),
    row("http.limits.maxManifestSize", Size { least: 4 << 20, most: 64 << 20 }, "4MiB", Implemented,
        "largest manifest that is accepted; a size such as 8MiB, or bytes"),
    row("http.limits.shutdownTimeout", Duration { least: "1ms", most: "1h" }, "30s", Implemented,
        "how long requests may go on after the registry was told to stop"),

    row("http.readTimeout", Kind::ANY_DURATION, "", IDLE_TIMEOUTS, "how long a whole request may take"),
    row("http.writeTimeout", Kind::ANY_DURATION, "", IDLE_TIMEOUTS, "how long a whole answer may take"),
    row("http.compat", SomeOf(&["docker2s2"]), "[]", NoEffect("Docker's media types are always accepted"),
        "further media types to accept"),
    row("http.allowOrigin", Text, "", Refused("not implemented yet: pages of other origins cannot call the registry; leave it out"),
        "origin whose pages may call the registry"),
    row("http.ratelimit", Table, "", Refused("not implemented yet: take the block out; requests are not counted"),
        "greatest number of requests a second from one address"),
    row("http.ratelimit.rate", Kind::COUNT, "", Within, "requests a second, whatever the method"),
    row("http.ratelimit.methods", List, "", Within, "limits of single methods"),
    row("http.ratelimit.methods.*.method", Text, "", Within, "method the limit is for"),
    row("http.ratelimit.methods.*.rate", Kind::COUNT, "", Within, "requests a second"),
];
