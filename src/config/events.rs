//! `extensions.events`: the servers that get events about changes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use url::Url;

use super::check::{check_named_authorities, check_named_file};
use super::keys::Row;
use super::kind::Kind::{self, Bool, List, OneOf, Path, Text, TextMap};
use super::openid::Secret;
use super::settings::{Section, Setting, Settings, section};
use super::walk::Findings;
use crate::kit::network::is_loopback;

const EVENTS: &str = "extensions.events";
const SINKS: &str = "extensions.events.sinks";
const ADDRESS: &str = "extensions.events.sinks.*.address";

section! {
    /// Events about changes, sent to other servers.
    Events {
        /// Whether events are sent.
        enable: bool = "extensions.events.enable", Bool, "false";
        /// Servers to send events to. Each gets all events.
        sinks: Vec<EventSink> = "extensions.events.sinks", List, "[]";
        /// Most events that wait for sinks. Beyond it, the oldest ones are dropped.
        outbox_limit: u64 = "extensions.events.outboxLimit", Kind::Int { least: 1, most: 10_000_000 }, "100000";
    }
}

section! {
    /// A server that gets events.
    EventSink {
        /// Name of the sink for commands and metrics. Without it, the host of its address with a short hash.
        name: Option<String> = "extensions.events.sinks.*.name", Text, "";
        /// Protocol of the server. Only http is supported.
        kind: SinkKind = "extensions.events.sinks.*.type", OneOf(&["http", "nats"]), "http";
        /// URL that events are posted to.
        address: String = "extensions.events.sinks.*.address", Text, "required";
        /// Value of the attribute channel of each event.
        channel: Option<String> = "extensions.events.sinks.*.channel", Text, "";
        /// How long one attempt may take.
        timeout: Duration = "extensions.events.sinks.*.timeout", Kind::duration("100ms", "10m"), "30s";
        /// Proxy to use. Without it, that of the environment.
        proxy: Option<String> = "extensions.events.sinks.*.proxy", Text, "";
        /// Headers to send.
        headers: BTreeMap<String, String> = "extensions.events.sinks.*.headers", TextMap, "{}";
        /// User name for Basic authentication.
        username: Option<String> = "extensions.events.sinks.*.credentials.username", Text, "";
        /// Password for Basic authentication.
        password: Option<Secret> = "extensions.events.sinks.*.credentials.password", Text, "";
        /// Token for Bearer authentication.
        token: Option<Secret> = "extensions.events.sinks.*.credentials.token", Text, "";
        /// File with the token for Bearer authentication. It is read again for each attempt.
        token_file: Option<PathBuf> = "extensions.events.sinks.*.credentials.file", Path, "";
        /// PEM file with certificate authorities to trust, in addition to those of the system.
        ca: Option<PathBuf> = "extensions.events.sinks.*.tlsconfig.cacertfile", Path, "";
        /// PEM file with the client certificate of the registry.
        certificate: Option<PathBuf> = "extensions.events.sinks.*.tlsconfig.certfile", Path, "";
        /// PEM file with the key of certfile.
        key: Option<PathBuf> = "extensions.events.sinks.*.tlsconfig.keyfile", Path, "";
        /// File with the secret that signs events, as Standard Webhooks defines it: HMAC-SHA256 in the header
        /// webhook-signature. The content is the secret, or whsec_ with the secret in base64.
        secret_file: Option<PathBuf> = "extensions.events.sinks.*.secretFile", Path, "";
        /// Pause before the first repetition. Each further one is twice as long.
        retry_delay: Duration = "extensions.events.sinks.*.retryDelay", Kind::duration("10ms", "1h"), "1s";
        /// Longest pause before a repetition.
        max_retry_delay: Duration = "extensions.events.sinks.*.maxRetryDelay", Kind::duration("10ms", "24h"), "1m";
        /// How often an event is repeated that the server answers with an error, before it is set aside. A server that
        /// cannot be reached, or answers 408, 425, 429, 502, 503 or 504, is tried without end.
        max_retries: u64 = "extensions.events.sinks.*.maxRetries", Kind::COUNT, "8";
    }
}

/// The protocol of a sink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SinkKind {
    /// `CloudEvents` over HTTP.
    Http,
    /// NATS, which is refused.
    Nats,
}

/// Checks the sinks, if events are on.
pub(super) fn check(settings: &Settings, findings: &mut Findings) {
    let sinks = match (settings.given(EVENTS), settings.given(SINKS)) {
        (Some(Setting::Bool(true)), Some(Setting::List(sinks))) => sinks.as_slice(),
        (Some(Setting::Bool(true)), _) => {
            findings.warning(EVENTS, "has no effect: without sinks, no events are written");
            return;
        }
        _ => return,
    };
    let mut names = BTreeSet::new();
    for (index, settings) in sinks.iter().enumerate() {
        let at = |key: &str| format!("{SINKS}[{index}].{key}");
        // A missing or invalid address has been reported. Without one, the sink cannot be read.
        if !matches!(settings.given(ADDRESS), Some(Setting::Text(_))) {
            continue;
        }
        let sink = EventSink::read(settings);
        if sink.kind == SinkKind::Nats {
            let why = "not supported: the client for NATS brings two dozen libraries; use type http, with a bridge from \
                       HTTP to NATS";
            findings.problem(&at("type"), why);
        }
        match address(&sink.address) {
            Ok(url) => {
                let is_open = url.scheme() == "http" && !url.host_str().is_some_and(is_loopback);
                let has_secret = sink.password.is_some() || sink.token.is_some() || sink.token_file.is_some();
                if is_open && has_secret {
                    findings.warning(&at("address"), "http:// sends the credentials in clear text: use https://");
                }
            }
            Err(why) => findings.problem(&at("address"), why),
        }
        if let Some(proxy) = &sink.proxy
            && !proxy.starts_with("http://")
        {
            findings.problem(&at("proxy"), "expected a URL such as http://proxy.example:3128");
        }
        if let Err(why) = headers(&sink) {
            findings.problem(&at("headers"), why);
        }
        if let Some(name) = &sink.name
            && !names.insert(name.clone())
        {
            findings.problem(&at("name"), format!("{name:?} is the name of another sink"));
        }
        if sink.certificate.is_some() != sink.key.is_some() {
            findings.problem(&at("tlsconfig"), "certfile and keyfile need each other");
        }
        let files = [
            ("credentials.file", &sink.token_file),
            ("tlsconfig.certfile", &sink.certificate),
            ("tlsconfig.keyfile", &sink.key),
            ("secretFile", &sink.secret_file),
        ];
        for (key, file) in files {
            if let Some(file) = file {
                check_named_file(&at(key), file, findings);
            }
        }
        if let Some(file) = &sink.ca {
            check_named_authorities(&at("tlsconfig.cacertfile"), file, findings);
        }
    }
}

/// Reads the headers of a sink. No message has a value, which may be a secret.
pub(crate) fn headers(sink: &EventSink) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    let has_credentials = sink.username.is_some() || sink.token.is_some() || sink.token_file.is_some();
    for (text, value) in &sink.headers {
        let name: HeaderName = text.parse().map_err(|_| format!("{text:?} is not the name of a header"))?;
        if is_of_request(&name) || name == header::AUTHORIZATION && has_credentials {
            return Err(format!("{name} is set by the registry for each event: remove it"));
        }
        if headers.contains_key(&name) {
            return Err(format!("{name} is given twice"));
        }
        let value: HeaderValue = value.parse().map_err(|_| format!("the value of {name} is not valid in a header"))?;
        headers.append(name, value);
    }
    Ok(headers)
}

/// Whether a header frames the request, is for one connection (RFC 9110, 7.6.1), or is part of an event.
fn is_of_request(name: &HeaderName) -> bool {
    const OF_CONNECTION: [&str; 3] = ["keep-alive", "proxy-connection", "http2-settings"];
    let of_request = [
        header::HOST,
        header::CONTENT_LENGTH,
        header::TRANSFER_ENCODING,
        header::CONNECTION,
        header::TE,
        header::TRAILER,
        header::UPGRADE,
        header::EXPECT,
        header::PROXY_AUTHORIZATION,
        header::PROXY_AUTHENTICATE,
        header::CONTENT_TYPE,
        header::CONTENT_ENCODING,
        header::USER_AGENT,
    ];
    let text = name.as_str();
    of_request.contains(name)
        || OF_CONNECTION.contains(&text)
        || text.starts_with("ce-")
        || matches!(text, "webhook-id" | "webhook-timestamp" | "webhook-signature")
}

/// Reads the address of a sink.
pub(crate) fn address(text: &str) -> Result<Url, &'static str> {
    let url = Url::parse(text).map_err(|_| "expected a URL such as https://hooks.example/registry")?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
        return Err("expected a URL such as https://hooks.example/registry");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("contains a user name or a password: use credentials.username and credentials.password");
    }
    Ok(url)
}
