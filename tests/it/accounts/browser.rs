//! A client that signs in as at Quay.

use serde_json::{Value, json};

use crate::support::TestRegistry;
use crate::support::http::{Answer, Caller, Request};

/// A client with a cookie jar, as curl's `-c` and `-b`, or a browser.
#[derive(Debug)]
pub struct Browser {
    pub caller: Caller,
    pub cookie: Option<String>,
    pub csrf: String,
}

impl Browser {
    pub async fn new(t: &TestRegistry) -> Self {
        Self::of(t.anonymous()).await
    }

    /// One that has signed in.
    pub async fn signed_in(t: &TestRegistry, (name, password): (&str, &str)) -> Self {
        let mut browser = Self::new(t).await;
        browser.sign_in(name, password).await.status(200);
        browser
    }

    /// A client without credentials.
    pub async fn of(caller: Caller) -> Self {
        let mut browser = Self { caller, cookie: None, csrf: String::new() };
        browser.fetch_csrf().await;
        browser
    }

    pub async fn fetch_csrf(&mut self) {
        let request = self.with_cookie(self.caller.get("/csrf_token"));
        let answer = self.keep(request.send().await.status(200));
        answer.json()["csrf_token"].as_str().unwrap().clone_into(&mut self.csrf);
        assert_eq!(self.csrf.len(), 64);
    }

    pub async fn sign_in(&mut self, name: &str, password: &str) -> Answer {
        let body = json!({ "username": name, "password": password });
        self.send(self.caller.post("/api/v1/signin").body(body.to_string())).await
    }

    fn with_cookie(&self, request: Request) -> Request {
        match &self.cookie {
            Some(cookie) => request.header("cookie", cookie),
            None => request,
        }
    }

    /// Sends a request with the cookie and the CSRF token.
    pub async fn send(&mut self, request: Request) -> Answer {
        let request = self.with_cookie(request).header("x-csrf-token", &self.csrf);
        let answer = request.header("content-type", "application/json").send().await;
        self.keep(answer)
    }

    /// Keeps the cookie and the next token that an answer sets.
    fn keep(&mut self, answer: Answer) -> Answer {
        if let Some(cookie) = answer.header("set-cookie") {
            assert!(cookie.contains("; HttpOnly") && cookie.contains("; SameSite=Lax") && !cookie.contains("Secure"));
            self.cookie = Some(cookie.split(';').next().unwrap().to_owned());
        }
        if let Some(next) = answer.header("x-next-csrf-token") {
            next.clone_into(&mut self.csrf);
        }
        answer
    }

    /// Changes something.
    pub async fn tell(&mut self, method: &str, path: &str, body: &Value) -> Answer {
        self.send(self.caller.request(method.parse().unwrap(), path).body(body.to_string())).await
    }

    pub async fn get(&mut self, path: &str) -> Answer {
        self.send(self.caller.get(path)).await
    }
}
