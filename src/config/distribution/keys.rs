//! Every key of docker's registry (distribution, versions 2 and 3), and how it is treated.

/// How coracle treats a key and everything below it.
#[derive(Debug)]
pub(super) enum Treatment {
    Followed,
    /// Says what coracle does anyway.
    Needless,
    /// Accepted with a warning: the reason.
    NoEffect(&'static str),
    /// An error, because ignoring the key would change what the registry is: the reason, and the alternative.
    Refused(&'static str),
}

use Treatment::{Followed, Needless, NoEffect, Refused};

const ELSEWHERE: &str = "coracle keeps its data in a local directory: use filesystem";
const MIDDLEWARE: &str = "coracle has no middleware: remove it, or put a proxy in front";

/// The keys, in the order of distribution's documentation.
pub(super) const KEYS: &[(&str, Treatment)] = &[
    ("version", Followed),
    ("log.level", Followed),
    ("log.formatter", Followed),
    ("log.accesslog", NoEffect("requests are in the log at level info: with log.level warn they are not")),
    ("log.fields", NoEffect("lines of the log have no fields of your own: add them where the log is collected")),
    ("log.hooks", NoEffect("no mail is sent: watch the log or the metrics")),
    ("log.reportcaller", NoEffect("lines of the log name no source file")),
    ("loglevel", Followed),
    ("storage.filesystem.rootdirectory", Followed),
    ("storage.filesystem.maxthreads", NoEffect("coracle limits its threads itself")),
    ("storage.azure", Refused(ELSEWHERE)),
    ("storage.gcs", Refused(ELSEWHERE)),
    ("storage.s3", Refused(ELSEWHERE)),
    ("storage.s3aws", Refused(ELSEWHERE)),
    ("storage.swift", Refused(ELSEWHERE)),
    ("storage.oss", Refused(ELSEWHERE)),
    ("storage.inmemory", Refused(ELSEWHERE)),
    ("storage.testdriver", Refused(ELSEWHERE)),
    ("storage.delete.enabled", Followed),
    ("storage.redirect.disable", NoEffect("blobs are always sent by coracle itself")),
    ("storage.cache", Needless),
    ("storage.tag.concurrencylimit", NoEffect("coracle looks tags up in its database")),
    ("storage.maintenance.readonly.enabled", Followed),
    ("storage.maintenance.uploadpurging.age", Followed),
    ("storage.maintenance.uploadpurging.enabled", NoEffect("unfinished uploads are always removed after their age")),
    ("storage.maintenance.uploadpurging.interval", NoEffect("coracle looks for them as often as their age demands")),
    ("storage.maintenance.uploadpurging.dryrun", NoEffect("unfinished uploads are always removed after their age")),
    ("auth.htpasswd.realm", Followed),
    ("auth.htpasswd.path", Followed),
    ("auth.token.realm", Followed),
    ("auth.token.service", Followed),
    ("auth.token.rootcertbundle", Followed),
    ("auth.token.issuer", NoEffect("a token is valid if rootcertbundle verifies it: its issuer is not compared")),
    ("auth.token.autoredirect", Refused("name the address of the token service in auth.token.realm")),
    ("auth.token.jwks", Refused("name a certificate or a public key in auth.token.rootcertbundle")),
    ("auth.token.signingalgorithms", NoEffect("the algorithm follows from the key in rootcertbundle")),
    ("auth.silly", Refused("use htpasswd or token")),
    ("middleware", Refused(MIDDLEWARE)),
    ("reporting", NoEffect("nothing is sent to other services: watch the log or the metrics")),
    ("http.addr", Followed),
    ("http.net", Refused("coracle listens on TCP: name an address in http.addr")),
    ("http.prefix", Refused("clients expect /v2/ at the top: let a proxy remove the prefix")),
    ("http.host", Followed),
    ("http.secret", Needless),
    ("http.relativeurls", Needless),
    ("http.draintimeout", Followed),
    ("http.tls.certificate", Followed),
    ("http.tls.key", Followed),
    ("http.tls.clientcas", Refused("coracle asks clients for no certificates: let a proxy do that, or use htpasswd")),
    ("http.tls.clientauth", Refused("coracle asks clients for no certificates: let a proxy do that, or use htpasswd")),
    (
        "http.tls.letsencrypt.cachefile",
        NoEffect("account and certificate are in the data directory: coracle gets new ones"),
    ),
    ("http.tls.letsencrypt.email", Followed),
    ("http.tls.letsencrypt.hosts", Followed),
    ("http.tls.letsencrypt.directoryurl", Followed),
    ("http.tls.minimumtls", NoEffect("coracle speaks TLS 1.2 and 1.3 only")),
    ("http.tls.ciphersuites", NoEffect("coracle uses the safe suites of TLS 1.2 and 1.3 only")),
    (
        "http.debug.addr",
        NoEffect("there is no debug server: the metrics are at http.addr, for users who may read them"),
    ),
    ("http.debug.prometheus.enabled", Followed),
    ("http.debug.prometheus.path", Followed),
    ("http.headers.x-content-type-options", Needless),
    ("http.headers", NoEffect("coracle sends the headers that clients need: let a proxy add others")),
    ("http.http2.disabled", NoEffect("clients choose between HTTP/1.1 and HTTP/2")),
    ("http.h2c.enabled", NoEffect("clients choose between HTTP/1.1 and HTTP/2")),
    ("notifications.events", NoEffect("no events are sent")),
    (
        "notifications.endpoints",
        Refused("no events are sent: remove the endpoints, and read the audit log instead (log.audit)"),
    ),
    ("redis", NoEffect("coracle needs no other service to remember things")),
    ("health", NoEffect("/readyz checks the disk and the database: point your monitoring there")),
    ("proxy.remoteurl", Followed),
    ("proxy.username", Refused("with coracle's keys, extensions.sync.credentialsFile names a file with credentials")),
    ("proxy.password", Refused("with coracle's keys, extensions.sync.credentialsFile names a file with credentials")),
    ("proxy.exec", Refused("with coracle's keys, extensions.sync.registries.*.credentialHelper names the program")),
    ("proxy.ttl", NoEffect("copies stay until extensions.sync.sizeLimit, and tags are compared every minute")),
    ("validation.manifests.indexes.platforms", Followed),
    ("validation.manifests.indexes.platformlist", NoEffect("an index may list any manifests that are not here")),
    (
        "validation.manifests.urls",
        NoEffect("layers with URLs are accepted as they are, and nothing is fetched from there"),
    ),
    ("validation.disabled", NoEffect("manifests are always checked")),
    ("validation.enabled", NoEffect("manifests are always checked")),
    ("policy", NoEffect("manifests of all types are accepted")),
    ("compatibility", NoEffect("manifests of schema 1 are refused, as in version 3")),
    ("catalog.maxentries", NoEffect("a page of the list has the size that the client wants, up to a limit")),
];
