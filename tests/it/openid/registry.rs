//! The registry under test: the real program with providers, and the steps of its users.

use std::fmt::Write as _;

use hyper::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::agent::{Agent, Page, encode};
use super::hostile::{self, Hostile};
use crate::support::process::{Finished, Program, Running};

/// The older routes and the current ones.
pub const ROOTS: [&str; 2] = ["/zot/auth", "/auth"];

/// A running registry with its data directory.
#[derive(Debug)]
pub struct Registry {
    pub running: Running,
    pub root: TempDir,
}

/// The configuration of an OpenID provider.
pub fn table(name: &str, issuer: &str, (id, secret): (&str, &str)) -> String {
    format!(
        "[http.auth.openid.providers.{name}]\nname = 'Provider {name}'\nissuer = '{issuer}'\nclientid = '{id}'\n\
         clientsecret = '{secret}'\nscopes = ['openid', 'email', 'profile', 'groups']\n"
    )
}

impl Registry {
    /// Starts a registry with this configuration and the finest log level.
    pub fn start(config: &str) -> Self {
        let root = tempfile::tempdir().unwrap();
        let running = Self::serve(&root, config);
        Self { running, root }
    }

    fn serve(root: &TempDir, config: &str) -> Running {
        let config = format!("[log]\nlevel = 'trace'\n{config}");
        Program::serve_with(root.path(), &config).with_admin().start()
    }

    /// Starts a registry with these providers, which names users by their e-mail addresses, as zot does.
    pub fn knowing(providers: &[(&str, &Hostile)]) -> Self {
        Self::knowing_with(providers, "")
    }

    /// The same with more configuration before the providers.
    pub fn knowing_with(providers: &[(&str, &Hostile)], before: &str) -> Self {
        let tables = providers.iter().fold(String::new(), |mut all, (name, hostile)| {
            writeln!(all, "{}", table(name, &hostile.issuer(), hostile::CLIENT)).unwrap();
            all
        });
        Self::start(&format!("{before}\n{tables}"))
    }

    /// Restarts the registry with another configuration.
    pub fn restart(self, config: &str) -> Self {
        let Self { running, root } = self;
        assert_eq!(running.stop().code, Some(0));
        let running = Self::serve(&root, config);
        Self { running, root }
    }

    pub fn url(&self) -> &str {
        self.running.url()
    }

    /// The URL of a path.
    pub fn at(&self, path: &str) -> String {
        format!("{}{path}", self.url())
    }

    /// The URL that starts a sign-in.
    pub fn login(&self, provider: &str, callback_ui: Option<&str>) -> String {
        let mut query = vec![("provider", provider)];
        query.extend(callback_ui.map(|target| ("callback_ui", target)));
        self.at(&format!("/zot/auth/login?{}", encode(&query)))
    }

    /// The callback URL.
    pub fn callback(&self, provider: &str) -> String {
        self.at(&format!("/zot/auth/callback/{provider}"))
    }

    /// Starts a sign-in at a provider that asks nothing. Returns the callback URL that a browser would open next.
    pub async fn fetch_callback(&self, agent: &mut Agent, provider: &str, callback_ui: Option<&str>) -> String {
        let page = agent.get(&self.login(provider, callback_ui)).await.status(302);
        agent.get(&page.location()).await.status(302).location()
    }

    /// A whole sign-in without a target. Returns the last page.
    pub async fn sign_in(&self, agent: &mut Agent, provider: &str) -> Page {
        let callback = self.fetch_callback(agent, provider, None).await;
        agent.get(&callback).await
    }

    /// A signed-in user.
    pub async fn signed_in(&self, provider: &str) -> Agent {
        let mut agent = Agent::default();
        self.sign_in(&mut agent, provider).await.status(201);
        agent
    }

    /// The account of this session, if any. Asserts that zot's page and Quay's API agree.
    pub async fn account(&self, agent: &mut Agent) -> Option<Value> {
        let page = agent.ui(Method::GET, &self.at("/v2/"), "").await;
        let account = agent.get(&self.at("/api/v1/user/")).await;
        assert_eq!(page.status, account.status, "{}: {}", page.text(), account.text());
        (account.status == 200).then(|| account.json())
    }

    /// The user name of this session.
    pub async fn name(&self, agent: &mut Agent) -> Option<String> {
        let account = self.account(agent).await?;
        Some(account["username"].as_str().unwrap().to_owned())
    }

    /// Creates an API key as zot's page does.
    pub async fn new_key(&self, agent: &mut Agent) -> String {
        let body = json!({ "label": "made after a sign-in" }).to_string();
        let made = agent.ui(Method::POST, &self.at("/zot/auth/apikey"), &body).await.status(201);
        made.json()["apiKey"].as_str().unwrap().to_owned()
    }

    /// The status of a request with this name and this key or password.
    pub async fn status(&self, name: &str, key: &str) -> u16 {
        self.running.user((name, key)).get("/v2/").send().await.status.as_u16()
    }

    /// The command line with the running registry.
    pub fn coracle(&self, arguments: &[&str], input: &str) -> Finished {
        let done = Program::new(arguments).arg("--root").arg(self.root.path()).input(input).run();
        assert_eq!(done.code, Some(0), "{arguments:?}: {}", done.stderr);
        done
    }

    /// The names of all users.
    pub fn users(&self) -> Vec<String> {
        let listed: Value = serde_json::from_str(&self.coracle(&["user", "list", "--json"], "").stdout).unwrap();
        let users = listed["users"].as_array().unwrap_or_else(|| panic!("{listed}"));
        users.iter().map(|user| user["name"].as_str().unwrap_or_else(|| panic!("{listed}")).to_owned()).collect()
    }
}

/// Asserts the properties of every page about a failed sign-in: short, HTML, without a script, and without secrets.
#[track_caller]
pub fn is_a_clear_page(page: &Page) {
    let (url, text) = (&page.url, page.text());
    assert!(page.header("content-type").is_some_and(|kind| kind.starts_with("text/html")), "{url}: {page:?}");
    let policy = page.header("content-security-policy").unwrap_or_else(|| panic!("{url}: no policy: {page:?}"));
    assert!(policy.contains("default-src 'none'"), "{url}: {policy}");
    assert!(policy.contains("frame-ancestors 'none'"), "{url}: {policy}");
    assert_eq!(page.header("cache-control"), Some("no-store"), "{url}");
    assert_eq!(page.header("x-content-type-options"), Some("nosniff"), "{url}");
    assert!(!text.contains("<script") && text.len() < 10_000, "{url}: {text}");
    for secret in [hostile::CLIENT.1, "code-", "access-s3cret", "refresh-s3cret", "eyJ"] {
        assert!(!text.contains(secret), "{url}: {secret} in {text}");
    }
    assert!(page.cookie("session").is_none_or(|line| line.starts_with("session=;")), "{url}: {:?}", page.cookies());
}
