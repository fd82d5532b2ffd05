//! The servers that the registry uses: the LDAP directory, and the sinks of events.

use super::Check;
use crate::cli::block_on;
use crate::config::{Config, EventSink, Ldap};
use crate::registry::{open_directory, open_sink};

/// The names of the checks.
pub(super) const LDAP: &str = "LDAP";
pub(super) const SINK: &str = "event sink";

const CHECK_CONFIG: &str = "run `coracle check-config`";

/// Tries the servers of the configuration. Sends no event and no password of a user.
pub(super) fn checks(config: &Config) -> Vec<Check> {
    let events = &config.extensions.events;
    let sinks = events.sinks.iter().filter(|_| events.enable);
    config.http.auth.ldap.iter().map(directory).chain(sinks.map(sink)).collect()
}

fn directory(ldap: &Ldap) -> Check {
    const NAME: &str = LDAP;
    let directory = match open_directory(ldap) {
        Ok(directory) => directory,
        Err(error) => return Check::problem(NAME, error.to_string(), CHECK_CONFIG),
    };
    match block_on(async { Ok(directory.check().await) }) {
        Err(error) => Check::skipped(NAME, error.to_string()),
        Ok(Ok(())) => {
            let (host, port) = (&ldap.address, ldap.port_in_use());
            Check::ok(NAME, format!("{host}:{port} lets the registry search under {}", ldap.base_dn))
        }
        Ok(Err(why)) => {
            let why = why.to_string();
            let advice = if why.contains("refuses the bindDN") {
                "correct the name or the password in http.auth.ldap.credentialsFile"
            } else if why.contains("cannot search") {
                "correct http.auth.ldap.baseDN, or let the bindDN read it"
            } else {
                "see that the directory runs, and check http.auth.ldap: address, port, insecure, startTLS and caCert"
            };
            Check::problem(NAME, why, advice)
        }
    }
}

fn sink(settings: &EventSink) -> Check {
    const NAME: &str = SINK;
    let sink = match open_sink(settings) {
        Ok(sink) => sink,
        Err(why) => return Check::problem(NAME, why, CHECK_CONFIG),
    };
    match block_on(async { Ok(sink.check().await) }) {
        Err(error) => Check::skipped(NAME, error.to_string()),
        Ok(Ok(())) => Check::ok(NAME, format!("the server of {} answers", sink.key())),
        Ok(Err(why)) => Check::problem(
            NAME,
            format!("{}: {why}", sink.key()),
            "see that its server runs, and check the address, the proxy and the ca of the sink in extensions.events.sinks",
        ),
    }
}
