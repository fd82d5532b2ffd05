//! `coracle apikey …`: the credentials of pipelines.

use super::administer::{Report, operations};
use crate::admin::{CreateKey, KeyList, ListKeys, NewApiKey, RevokeKey, RevokedKey};
use crate::kit::text::{minute, table};

operations! {
    /// Manage API keys (the registry may be running or stopped)
    ApiKey: KeyCommand { Create(CreateKey), List(ListKeys), Revoke(RevokeKey) }
}

impl Report for NewApiKey {
    fn print(&self) {
        println!("{}", self.key);
        if let Some(warning) = &self.warning {
            eprintln!("coracle: warning: {warning}");
        }
    }
}

impl Report for KeyList {
    fn print(&self) {
        let rows = self.keys.iter().map(|key| {
            let expires = key.expires.map_or_else(|| "never".to_owned(), minute);
            [
                key.id.to_string(),
                key.owner.clone(),
                if key.label.is_empty() { "-".to_owned() } else { key.label.clone() },
                key.scopes.as_ref().map_or_else(|| "all".to_owned(), |scopes| scopes.join(" ")),
                minute(key.created),
                if key.expired { format!("expired {expires}") } else { expires },
                key.last_used.map_or_else(|| "never".to_owned(), minute),
            ]
        });
        print!("{}", table(["ID", "OWNER", "LABEL", "SCOPES", "CREATED", "EXPIRES", "LAST USED"], rows));
        if self.keys.is_empty() {
            eprintln!("There are no API keys.");
        }
    }
}

impl Report for RevokedKey {
    fn print(&self) {
        println!("revoked {}", self.id);
    }
}
