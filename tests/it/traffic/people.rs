//! [`People`]: users that come and go during the traffic, on the command line and through Quay's API.

use std::collections::BTreeMap;
use std::path::Path;

use hyper::Method;
use serde_json::Value;
use tokio::runtime::Handle;

use super::memory::{Presence, close};
use super::{Pulse, SHARED, Seen, administer};
use crate::support::http::{Caller, Request};

/// A user who signed in.
#[derive(Debug)]
struct Person {
    presence: Presence,
    /// Their key: its id and itself.
    key: Option<(String, String)>,
    key_presence: Presence,
    /// Whether they were given a role in the repository that everybody shares.
    role: Presence,
}

#[derive(Debug, Default)]
pub struct People {
    made: usize,
    by_name: BTreeMap<String, Person>,
}

impl People {
    /// Goes on until something is not answered, or until it is stopped. Blocks.
    pub fn run(&mut self, root: &Path, caller: &Caller, pulse: &Pulse, runtime: &Handle) {
        while !pulse.is_stopped() && self.next(root, caller, runtime).is_some() {
            pulse.answered();
        }
    }

    fn next(&mut self, root: &Path, caller: &Caller, runtime: &Handle) -> Option<()> {
        self.made += 1;
        let name = format!("u{}", self.made);
        let new = Person { presence: Presence::Open, key: None, key_presence: Presence::Open, role: Presence::Open };
        let person = self.by_name.entry(name.clone()).or_insert(new);
        administer(root, &["user", "add", &name])?;
        person.presence = Presence::There;
        let key = administer(root, &["apikey", "create", "--user", &name, "--label", "test"])?;
        let text = |name: &str| key[name].as_str().unwrap().to_owned();
        person.key = Some((text("id"), text("key")));
        person.key_presence = Presence::There;
        let path = format!("/api/v1/repository/{SHARED}/permissions/user/{name}");
        let put = bearer(caller, Method::PUT, &path).body(r#"{"role": "read"}"#);
        runtime.block_on(put.try_send()).ok()?.status(200);
        person.role = Presence::There;
        match self.made % 4 {
            0 => {
                person.presence = Presence::Open;
                administer(root, &["user", "remove", &name])?;
                person.presence = Presence::Gone;
            }
            1 => {
                person.key_presence = Presence::Open;
                administer(root, &["apikey", "revoke", &text("id")])?;
                person.key_presence = Presence::Gone;
            }
            _ => {}
        }
        Some(())
    }

    /// Checks that exactly the acknowledged users exist.
    pub async fn check(&mut self, root: &Path, caller: &Caller, seen: &mut Seen) {
        let list = administer(root, &["user", "list"]).expect("a running registry answers");
        let users = list["users"].as_array().unwrap();
        for (name, person) in &mut self.by_name {
            let is_there = users.iter().any(|user| user["name"] == **name);
            person.presence = close(person.presence, is_there, name, seen);
            if !is_there {
                person.key_presence = Presence::Gone;
            }
            if let Some((_, key)) = &person.key {
                let answer = Caller::new(caller.address(), Some((name, key))).get("/v2/").send().await;
                assert!(matches!(answer.status.as_u16(), 200 | 401), "{}", answer.text());
                person.key_presence = close(person.key_presence, answer.status == 200, "a key", seen);
            }
            let path = format!("/api/v1/repository/{SHARED}/permissions/user/{name}");
            let role = bearer(caller, Method::GET, &path).send().await;
            if is_there {
                person.role = close(person.role, role.status == 200, "a role", seen);
            }
        }
        self.by_name.retain(|_, person| person.presence == Presence::There && person.key_presence == Presence::There);
        // As many are enough to look at.
        while self.by_name.len() > 20 {
            let (name, _) = self.by_name.pop_first().unwrap();
            administer(root, &["user", "remove", &name]).expect("a running registry answers");
        }
    }
}

/// A request with an API key in the form that Quay's API expects.
fn bearer(caller: &Caller, method: Method, path: &str) -> Request {
    use base64::Engine as _;
    let basic = caller.authorization().unwrap().strip_prefix("Basic ").unwrap();
    let pair = base64::engine::general_purpose::STANDARD.decode(basic).unwrap();
    let (_, key) = std::str::from_utf8(&pair).unwrap().split_once(':').unwrap();
    Caller::new(caller.address(), None).request(method, path).header("authorization", format!("Bearer {key}"))
}

/// A key of the superuser's, without scopes.
pub fn admin_key(root: &Path) -> String {
    let key: Value = administer(root, &["apikey", "create", "--user", "admin"]).unwrap();
    key["key"].as_str().unwrap().to_owned()
}
