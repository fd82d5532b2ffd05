//! A sign-in in the browser signs in a program on the same machine, if the user confirms it, and no other program.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hyper::Method;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::agent::{self, Agent, Page};
use super::hostile::Hostile;
use super::program::Client;
use super::registry::{Registry, is_a_clear_page};
use crate::cli::person::Person;

const EXCHANGE: &str = "/api/v1/signin/code";
const REDIRECT: &str = "http://127.0.0.1:9/done?x=1";
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";

fn challenge() -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(VERIFIER))
}

fn login(registry: &Registry, redirect: &str) -> String {
    let query = [
        ("provider", "oidc"),
        ("callback_ui", redirect),
        ("code_challenge", &challenge()),
        ("code_challenge_method", "S256"),
    ];
    registry.at(&format!("/zot/auth/login?{}", agent::encode(&query)))
}

/// Signs in, up to the confirmation page.
async fn asked(registry: &Registry, agent: &mut Agent, redirect: &str) -> Page {
    let page = agent.get(&login(registry, redirect)).await.status(302);
    let callback = agent.get(&page.location()).await.status(302).location();
    agent.get(&callback).await.status(200)
}

/// The code that the browser of a user who confirms takes to the program.
async fn code(registry: &Registry) -> String {
    let mut agent = Agent::default();
    let page = asked(registry, &mut agent, REDIRECT).await;
    let sent = agent.submit(&page, &[]).await.status(303).location();
    agent::parameter(&sent, "code").unwrap_or_else(|| panic!("{sent}"))
}

async fn exchange(registry: &Registry, code: &str, verifier: &str) -> (u16, Client) {
    let mut client = Client::visit(registry).await;
    let body = json!({ "code": code, "code_verifier": verifier });
    let status = client.post(registry, EXCHANGE, &body).await.status;
    (status, client)
}

#[tokio::test]
async fn a_confirmation_signs_the_program_in_and_not_the_browser() {
    let hostile = Hostile::start().await;
    let registry = Registry::knowing(&[("oidc", &hostile)]);
    let mut agent = Agent::default();
    let page = asked(&registry, &mut agent, REDIRECT).await;
    is_a_clear_page(&page);
    let (text, host) = (page.text(), registry.running.address().to_string());
    assert!(text.contains("mallory@example.org") && text.contains(&host), "{text}");
    assert!(!text.contains(&challenge()) && !text.contains("127.0.0.1:9"), "{text}");
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.contains("form-action 'self' http://127.0.0.1:9;"), "{policy}");
    let cookie = page.cookie("question").unwrap();
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"), "{cookie}");
    assert_eq!(registry.account(&mut agent).await, None, "a program's sign-in is not the browser's");

    let sent = agent.submit(&page, &[]).await.status(303);
    assert_eq!(sent.header("referrer-policy"), Some("no-referrer"));
    let to = sent.location();
    assert!(to.starts_with("http://127.0.0.1:9/done?x=1&code="), "{to}");
    assert_eq!(registry.account(&mut agent).await, None);
    let (status, mut client) = exchange(&registry, &agent::parameter(&to, "code").unwrap(), VERIFIER).await;
    assert_eq!(status, 200);
    assert_eq!(client.signed_in(&registry).await.as_deref(), Some("mallory@example.org"));
}

#[tokio::test]
async fn a_code_is_valid_once_and_with_its_verifier() {
    let hostile = Hostile::start().await;
    let registry = Registry::knowing(&[("oidc", &hostile)]);
    let fresh = code(&registry).await;
    assert_eq!(exchange(&registry, &fresh, VERIFIER).await.0, 200);
    let (status, mut client) = exchange(&registry, &fresh, VERIFIER).await;
    assert_eq!((status, client.signed_in(&registry).await), (403, None), "a code was used twice");
    let fresh = code(&registry).await;
    for verifier in [&VERIFIER.replace('d', "e"), &challenge(), "", VERIFIER] {
        let (status, mut client) = exchange(&registry, &fresh, verifier).await;
        assert_eq!((status, client.signed_in(&registry).await), (403, None), "{verifier:?}: a wrong one uses it up");
    }
    assert_eq!(exchange(&registry, "", VERIFIER).await.0, 403);
    // Another site cannot use it to sign a browser in as another user.
    let fresh = code(&registry).await;
    let body = json!({ "code": fresh, "code_verifier": VERIFIER }).to_string();
    let kind = [("content-type", "application/json")];
    Agent::default().send(Method::POST, &registry.at(EXCHANGE), &kind, body).await.status(403);
    assert_eq!(exchange(&registry, &fresh, VERIFIER).await.0, 200);
}

#[tokio::test]
async fn only_the_browser_of_the_page_can_confirm() {
    let hostile = Hostile::start().await;
    let registry = Registry::knowing(&[("oidc", &hostile)]);
    let (mut agent, mut other) = (Agent::default(), Agent::default());
    let page = asked(&registry, &mut agent, REDIRECT).await;
    let others = asked(&registry, &mut other, REDIRECT).await;
    let (action, fields) = page.form();
    // Without the cookie (as a form of another site), with the form of another sign-in, and with nothing.
    is_a_clear_page(&Agent::default().post(&action, &fields).await.status(403));
    is_a_clear_page(&other.post(&action, &fields).await.status(403));
    is_a_clear_page(&agent.post(&action, &others.form().1).await.status(403));
    is_a_clear_page(&agent.post(&action, &[("answer", "allow")]).await.status(403));
    // The headers that browsers send for a form of another site.
    let headers = [("content-type", "application/x-www-form-urlencoded"), ("sec-fetch-site", "cross-site")];
    agent.send(Method::POST, &action, &headers, agent::encode(&fields)).await.status(403);
    // A link does not confirm.
    agent.get(&format!("{action}?{}", agent::encode(&fields))).await.status(405);
    agent.submit(&page, &[]).await.status(303);
    is_a_clear_page(&agent.submit(&page, &[]).await.status(403));
}

#[tokio::test]
async fn a_refusal_sends_the_program_away() {
    let hostile = Hostile::start().await;
    let registry = Registry::knowing(&[("oidc", &hostile)]);
    for answer in ["refuse", "", "Allow"] {
        let mut agent = Agent::default();
        let page = asked(&registry, &mut agent, REDIRECT).await;
        let to = agent.submit(&page, &[("answer", answer)]).await.status(303).location();
        assert_eq!(to, "http://127.0.0.1:9/done?x=1&error=access_denied", "{answer:?}");
    }
}

#[tokio::test]
async fn a_program_is_on_the_same_machine_and_proves_itself() {
    let hostile = Hostile::start().await;
    let registry = Registry::knowing(&[("oidc", &hostile)]);
    let mut agent = Agent::default();
    for redirect in
        ["http://evil.example:9/", "https://evil.example/", "http://localhost:9/", "http://127.0.0.1/", "/", ""]
    {
        is_a_clear_page(&agent.get(&login(&registry, redirect)).await.status(400));
    }
    let good = login(&registry, REDIRECT);
    for (name, value) in [("code_challenge", "short"), ("code_challenge", ""), ("code_challenge_method", "plain")] {
        is_a_clear_page(&agent.get(&agent::with_parameter(&good, name, Some(value))).await.status(400));
    }
    assert!(hostile.asked("/authorize").is_empty());
    // Without a challenge it would be a page, and that origin is not allowed.
    let page = agent.get(&agent::with_parameter(&good, "code_challenge", None)).await.status(302);
    let callback = agent.get(&page.location()).await.status(302).location();
    let end = agent.get(&callback).await.status(302);
    assert_eq!(end.header("location"), Some("/"));
    // IPv6 loopback is the same machine.
    let page = asked(&registry, &mut Agent::default(), "http://[::1]:9/x").await;
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.contains("form-action 'self' http:;"), "{policy}");
}

#[tokio::test]
async fn a_user_who_was_disabled_meanwhile_is_refused() {
    let hostile = Hostile::start().await;
    let registry = Registry::knowing(&[("oidc", &hostile)]);
    let fresh = code(&registry).await;
    registry.coracle(&["user", "disable", "mallory@example.org"], "");
    let (status, mut client) = exchange(&registry, &fresh, VERIFIER).await;
    assert_eq!((status, client.signed_in(&registry).await), (403, None));
}

/// A browser that only records the URL.
const BROWSER: &str = "#!/bin/sh\nprintf '%s' \"$1\" > \"$HOME/.opened\" && mv \"$HOME/.opened\" \"$HOME/opened\"\n";

/// `coracle login` with a new home directory and a browser that stops at the confirmation page.
async fn on_the_command_line(registry: &Registry, person: &Person) -> (crate::support::process::Running, Agent, Page) {
    person.install("the-browser", BROWSER);
    let host = registry.running.address().to_string();
    let browser = person.path("bin/the-browser").display().to_string();
    let running = person.coracle(&["login", &host]).env("BROWSER", &browser).spawn();
    let opened = person.path("opened");
    for _ in 0..3000 {
        if opened.exists() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let address = std::fs::read_to_string(opened).unwrap();
    running.wait_for(&address);
    let mut agent = Agent::default();
    let page = agent.get(&address).await.status(302);
    let callback = agent.get(&page.location()).await.status(302).location();
    let page = agent.get(&callback).await.status(200);
    (running, agent, page)
}

#[tokio::test]
async fn on_the_command_line_the_browser_is_opened_and_comes_back() {
    let hostile = Hostile::start().await;
    let registry = Registry::knowing(&[("oidc", &hostile)]);
    let person = Person::new();
    let (running, mut agent, page) = on_the_command_line(&registry, &person).await;
    let to = agent.submit(&page, &[]).await.status(303).location();
    // Other requests to the port get nothing and do no harm, because the path is secret.
    let (origin, _) = to.split_at(to.find("/?").or_else(|| to[7..].find('/').map(|at| at + 7)).unwrap());
    agent.get(&format!("{origin}/?code=abc")).await.status(404);
    agent.get(&format!("{origin}/favicon.ico")).await.status(404);
    let _idle = tokio::net::TcpStream::connect(origin.trim_start_matches("http://")).await.unwrap();
    let last = agent.get(&to).await.status(200);
    assert!(last.text().contains("terminal") && !last.text().contains("<script"), "{}", last.text());
    let done = tokio::task::spawn_blocking(move || running.finish()).await.unwrap();
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let host = registry.running.address().to_string();
    let (user, key) = person.entry(&person.docker(), &host).unwrap();
    assert_eq!((user.as_str(), registry.status(&user, &key).await), ("mallory@example.org", 200));
}

#[tokio::test]
async fn on_the_command_line_a_refusal_ends_the_sign_in() {
    let hostile = Hostile::start().await;
    let registry = Registry::knowing(&[("oidc", &hostile)]);
    let person = Person::new();
    let (running, mut agent, page) = on_the_command_line(&registry, &person).await;
    let to = agent.submit(&page, &[("answer", "refuse")]).await.status(303).location();
    agent.get(&to).await.status(200);
    let done = tokio::task::spawn_blocking(move || running.finish()).await.unwrap();
    assert_eq!(done.code, Some(1), "{}", done.stdout);
    assert!(done.stderr.contains("refused in the browser"), "{}", done.stderr);
    assert!(!person.docker().exists());
}
