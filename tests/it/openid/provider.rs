//! `oidc-provider` as a process: a certified OpenID provider with the users and clients of a test.
//!
//! It runs `tests/openid/provider.mjs`, accepts any password and asks for consent. It requires PKCE, and each refresh
//! token is valid once. Its host is `localhost`, so that browsers treat it as another site than a registry at
//! `127.0.0.1`.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::{Value, json};

use super::agent::{Agent, Page};
use super::node;

/// Node starts in about a second. The limit is for a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

/// The client id and secret of registries.
pub const CLIENT: (&str, &str) = ("the-registry", "the-registrys-s3cret-at-the-provider");

/// A provider that ends on drop.
#[derive(Debug)]
pub struct Provider {
    child: Child,
    commands: Option<ChildStdin>,
    lines: Receiver<String>,
    issuer: String,
}

/// Carol, who has all claims.
pub fn carol() -> Value {
    json!({
        "name": "Carol",
        "preferred_username": "carol",
        "email": "carol@example.org",
        "email_verified": true,
        "groups": ["dev"],
    })
}

impl Provider {
    /// Starts a provider with the user [`carol`] and no client.
    pub fn start(packages: &Path) -> Self {
        let mut command = Command::new("node");
        command.arg(node::sources().join("provider.mjs")).arg(packages).arg("localhost");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let (send, lines) = channel();
        let out = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                let _ = send.send(line);
            }
        });
        let commands = child.stdin.take();
        let mut provider = Self { child, commands, lines, issuer: String::new() };
        let line = provider.lines.recv_timeout(PATIENCE).expect("the provider does not start");
        line.strip_prefix("issuer ").expect("an issuer").clone_into(&mut provider.issuer);
        provider.accounts(&json!({ "carol-at-the-provider": carol() }));
        provider
    }

    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Sends a command and waits for its result.
    fn command(&mut self, command: &Value) {
        writeln!(self.commands.as_mut().unwrap(), "{command}").unwrap();
        assert_eq!(self.lines.recv_timeout(PATIENCE).as_deref(), Ok("done"), "{command}");
    }

    /// Sets the users: their subjects and claims.
    pub fn accounts(&mut self, accounts: &Value) {
        self.command(&json!({ "accounts": accounts }));
    }

    /// Replaces the clients by one with a secret and these redirect URIs. `changes` replaces its fields, and null removes
    /// one.
    pub fn client(&mut self, redirect_uris: &[String], changes: &Value) {
        let mut client = json!({
            "client_id": CLIENT.0,
            "client_secret": CLIENT.1,
            "client_name": "A registry of the tests",
            "redirect_uris": redirect_uris,
            "grant_types": ["authorization_code", "refresh_token", "urn:ietf:params:oauth:grant-type:device_code"],
        });
        let client_fields = client.as_object_mut().unwrap();
        client_fields.extend(changes.as_object().unwrap().clone());
        client_fields.retain(|_, value| !value.is_null());
        self.command(&json!({ "clients": [client] }));
    }

    /// Signs a user in and consents, from the login page to the redirect to the client, whose redirect URI begins with
    /// this text.
    pub async fn sign_in(&self, agent: &mut Agent, page: Page, subject: &str, client: &str) -> Page {
        let inside = |url: &str| !url.starts_with(client);
        let mut page = agent.follow(page, inside).await;
        for _ in 0..2 {
            if page.status == 200 {
                let typed = [("login", subject), ("password", "any")];
                let asks = page.text().contains("name=\"login\"");
                let next = agent.submit(&page, if asks { &typed } else { &[] }).await;
                page = agent.follow(next, inside).await;
            }
        }
        page
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        drop(self.commands.take());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Tests the provider without a registry.
#[tokio::test]
async fn the_provider_signs_in_users_who_consent_and_sends_their_claims() {
    let mut provider = Provider::start(node::needs_node!());
    let redirect = "http://127.0.0.1:9/callback";
    provider.client(&[redirect.to_owned()], &json!({}));
    let mut agent = Agent::default();
    let issuer = provider.issuer().to_owned();
    // RFC 7636, appendix B.
    let (verifier, challenge) =
        ("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk", "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
    let url = format!(
        "{issuer}/auth?client_id={}&response_type=code&scope=openid%20email%20groups&redirect_uri={redirect}&state=x",
        CLIENT.0
    );
    // It requires PKCE.
    let page = agent.get(&url).await.status(303);
    assert!(page.location().contains("error=invalid_request"), "{}", page.location());
    let page = agent.get(&format!("{url}&code_challenge={challenge}&code_challenge_method=S256")).await;
    let page = provider.sign_in(&mut agent, page, "carol-at-the-provider", redirect).await.status(303);
    let code = super::agent::parameter(&page.location(), "code").expect("a code");
    let form = [
        ("grant_type", "authorization_code"),
        ("code", &code),
        ("redirect_uri", redirect),
        ("code_verifier", verifier),
        ("client_id", CLIENT.0),
        ("client_secret", CLIENT.1),
    ];
    let token = format!("{issuer}/token");
    agent.post(&token, &[&form[..5], &[("client_secret", "wrong")]].concat()).await.status(401);
    let answer = agent.post(&token, &form).await.status(200);
    let tokens = answer.json();
    assert!(tokens["id_token"].is_string() && tokens["refresh_token"].is_string(), "{tokens}");
    let bearer = format!("Bearer {}", tokens["access_token"].as_str().unwrap());
    let claims = agent.send(hyper::Method::GET, &format!("{issuer}/me"), &[("authorization", &bearer)], "").await;
    let claims = claims.status(200).json();
    assert_eq!((&claims["email"], &claims["groups"][0]), (&json!("carol@example.org"), &json!("dev")), "{claims}");
    // A user who is gone gets nothing more.
    provider.accounts(&json!({}));
    let refresh = tokens["refresh_token"].as_str().unwrap();
    let form = [&form[4..], &[("grant_type", "refresh_token"), ("refresh_token", refresh)]].concat();
    let answer = agent.post(&token, &form).await.status(400);
    assert_eq!(answer.json()["error"], "invalid_grant");
}
