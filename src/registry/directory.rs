//! Opens the LDAP directory of `http.auth.ldap`.

use zeroize::Zeroizing;

use super::Error;
use crate::config::{self, Ldap};
use crate::identity::directory::{Bind, Directory, Security, Settings};
use crate::kit::outgoing::Trust;

/// Opens a directory. Sends nothing.
pub(crate) fn open(ldap: &Ldap) -> Result<Directory, Error> {
    let credentials = ldap.credentials.clone();
    let settings = Settings {
        host: ldap.address.clone(),
        port: ldap.port_in_use(),
        security: match (ldap.insecure, ldap.start_tls) {
            (false, _) => Security::Tls,
            (true, true) => Security::StartTls,
            (true, false) => Security::None,
        },
        trust: Trust {
            authorities: ldap.ca_cert.iter().cloned().collect(),
            accepts_any: ldap.skip_verify,
            ..Trust::default()
        },
        base: ldap.base_dn.clone(),
        subtree: ldap.subtree_search,
        user_attribute: ldap.user_attribute.clone(),
        user_filter: ldap.user_filter.clone(),
        group_attribute: ldap.user_group_attribute.clone(),
        bind: Box::new(move || {
            let read = credentials.as_deref().map(config::ldap_credentials).transpose();
            let read = read.map_err(|why| format!("http.auth.ldap.credentialsFile: {why}"))?;
            Ok(read.map(|(dn, password)| Bind { dn, password: Zeroizing::new(password.reveal().to_owned()) }))
        }),
    };
    Directory::open(settings).map_err(|cause| Error::setting("http.auth.ldap", cause))
}
