//! A program that signs a user in through the registry's API: its cookie, its CSRF token and its requests.

use hyper::Method;
use serde_json::{Value, json};

use super::agent::{Agent, Page};
use super::registry::Registry;

#[derive(Debug)]
pub struct Client {
    pub agent: Agent,
    csrf: String,
}

impl Client {
    /// A program that has only got a CSRF token.
    pub async fn visit(registry: &Registry) -> Self {
        let mut agent = Agent::default();
        let visit = agent.get(&registry.at("/csrf_token")).await.status(200).json();
        Self { agent, csrf: visit["csrf_token"].as_str().unwrap().to_owned() }
    }

    /// Sends a request and keeps the CSRF token of the response.
    pub async fn post(&mut self, registry: &Registry, path: &str, body: &Value) -> Page {
        let headers = [("x-csrf-token", self.csrf.clone()), ("content-type", "application/json".to_owned())];
        let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
        let page = self.agent.send(Method::POST, &registry.at(path), &headers, body.to_string()).await;
        if let Some(next) = page.header("x-next-csrf-token") {
            next.clone_into(&mut self.csrf);
        }
        page
    }

    /// The user of its session, if the session may create a key.
    pub async fn signed_in(&mut self, registry: &Registry) -> Option<String> {
        let made = self.post(registry, "/api/v1/user/apptoken", &json!({ "title": "by a program" })).await;
        let user = self.agent.get(&registry.at("/api/v1/user/")).await;
        assert_eq!(made.status == 200, user.status == 200, "{}: {}", made.text(), user.text());
        (user.status == 200).then(|| user.json()["username"].as_str().unwrap().to_owned())
    }
}
