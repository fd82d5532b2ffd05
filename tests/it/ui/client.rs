//! A browser without scripts: a cookie jar, links and forms.

use hyper::Method;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::support::TestRegistry;
use crate::support::http::{Answer, Caller};

/// A user with a browser.
#[derive(Clone, Debug)]
pub struct Client {
    caller: Caller,
    pub cookie: Option<String>,
}

impl Client {
    pub fn new(t: &TestRegistry) -> Self {
        Self { caller: t.anonymous(), cookie: None }
    }

    /// A browser that reaches the same registry as a caller.
    pub const fn of(caller: Caller) -> Self {
        Self { caller, cookie: None }
    }

    /// A browser whose user has signed in through the sign-in page.
    pub async fn signed_in(t: &TestRegistry, user: (&str, &str)) -> Self {
        let mut client = Self::new(t);
        client.sign_in(user).await;
        client
    }

    /// Signs a user in through the sign-in page.
    pub async fn sign_in(&mut self, (name, password): (&str, &str)) {
        let client = self;
        let page = client.get("/ui/sign-in").await.status(200);
        let sent = client.submit(&page, "/ui/sign-in", &[("user", name), ("password", password)]).await.status(303);
        assert_eq!(sent.location(), "/ui/");
    }

    /// Opens a page. Redirects are not followed.
    pub async fn get(&mut self, path: &str) -> Answer {
        self.send(Method::GET, path, None).await
    }

    /// Sends fields to a path, with nothing that the page of the form adds.
    pub async fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let fields = fields.iter().map(|(name, value)| format!("{}={}", encoded(name), encoded(value)));
        self.send(Method::POST, path, Some(fields.collect::<Vec<_>>().join("&"))).await
    }

    /// Fills in the form of a page that posts to `action`, and sends it with its hidden fields.
    pub async fn submit(&mut self, page: &Answer, action: &str, fields: &[(&str, &str)]) -> Answer {
        let text = page.text();
        let start = text.find(&format!("action=\"{action}\"")).unwrap_or_else(|| panic!("no form to {action}: {text}"));
        let form = text[start..].split("</form>").next().unwrap();
        let hidden = form.split("<input type=\"hidden\" name=\"").skip(1).map(|rest| {
            let (name, rest) = rest.split_once("\" value=\"").unwrap();
            (name.to_owned(), unescaped(rest.split('"').next().unwrap()))
        });
        let mut all: Vec<(String, String)> = hidden.collect();
        all.extend(fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let all: Vec<(&str, &str)> = all.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        self.post(action, &all).await
    }

    async fn send(&mut self, method: Method, path: &str, body: Option<String>) -> Answer {
        let mut request = self.caller.request(method, path).header("accept", "text/html");
        if let Some(cookie) = &self.cookie {
            request = request.header("cookie", cookie);
        }
        if let Some(body) = body {
            request = request.header("content-type", "application/x-www-form-urlencoded").body(body);
        }
        let answer = request.send().await;
        for line in answer.headers.get_all("set-cookie") {
            let line = line.to_str().unwrap();
            let (name, value) = line.split(';').next().unwrap().split_once('=').unwrap();
            if name == "session" {
                assert!(line.contains("; HttpOnly") && line.contains("; SameSite=Lax"), "{line}");
                self.cookie = (!value.is_empty()).then(|| format!("session={value}"));
            }
        }
        answer
    }
}

/// The text that markup stands for.
pub fn unescaped(markup: &str) -> String {
    let named = [
        ("&lt;", "<"),
        ("&gt;", ">"),
        ("&quot;", "\""),
        ("&#60;", "<"),
        ("&#62;", ">"),
        ("&#34;", "\""),
        ("&#39;", "'"),
        ("&#38;", "&"),
        ("&amp;", "&"),
    ];
    named.iter().fold(markup.to_owned(), |text, (name, character)| text.replace(name, character))
}
