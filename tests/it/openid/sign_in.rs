//! The whole way of a user with a browser, at a certified provider and at the simulated GitHub: sign in, create a key,
//! push with it, sign out everywhere.

use std::path::Path;

use serde_json::{Value, json};

use super::agent::Agent;
use super::browser::Browser;
use super::github::{self, GitHub};
use super::node::needs_node;
use super::provider::{self, Provider};
use super::registry::{Registry, table};
use crate::clients::home::{Home, needs};
use crate::support::content::push_image;
use crate::support::issuer::{Private, pem};
use crate::support::process::ADMIN;

pub const CAROL: &str = "carol-at-the-provider";

/// A registry whose users have the provider's names and may push below them.
pub fn knowing(provider: &Provider, before: &str) -> Registry {
    let table = table("oidc", provider.issuer(), provider::CLIENT);
    Registry::start(&format!("{before}\n{table}claimMapping = {{ username = 'preferred_username' }}\n"))
}

/// A provider and a registry that know each other.
pub fn both(packages: &Path, before: &str) -> (Registry, Provider) {
    let mut provider = Provider::start(packages);
    let registry = knowing(&provider, before);
    let back = json!({ "post_logout_redirect_uris": [registry.at("/login")] });
    provider.client(&[registry.callback("oidc")], &back);
    (registry, provider)
}

/// Signs in at the provider's pages: name, password and consent.
pub async fn fill_in(browser: &Browser, provider: &Provider, subject: &str) {
    browser.arrives(&format!("{}/interaction/", provider.issuer())).await;
    browser.fill("input[name=login]", subject).await;
    browser.fill("input[name=password]", "any").await;
    browser.click("button[type=submit]").await;
    browser.click("form:not(:has(input[name=login])) button[type=submit]").await;
}

/// Creates a key from the registry's page and pushes an image with it by skopeo.
async fn push_with_a_key(registry: &Registry, browser: &Browser, name: &str, repository: &str) {
    let headers = json!({ "x-zot-api-client": "zot-ui", "content-type": "application/json" });
    let (status, text) = browser.fetch("POST", "/zot/auth/apikey", &headers, Some(r#"{"label": "skopeo"}"#)).await;
    assert_eq!(status, 201, "{text}");
    let made: Value = serde_json::from_str(&text).unwrap();
    let credentials = format!("{name}:{}", made["apiKey"].as_str().unwrap());
    push_image(&registry.running.user(ADMIN), "library/base", "1", 1).await;
    let host = registry.running.address();
    let arguments = [
        "copy",
        "--src-tls-verify=false",
        "--dest-tls-verify=false",
        "--src-creds",
        &format!("{}:{}", ADMIN.0, ADMIN.1),
        "--dest-creds",
        &credentials,
        &format!("docker://{host}/library/base:1"),
        &format!("docker://{host}/{repository}:1"),
    ];
    Home::alone().run("skopeo", &arguments);
    let tags = registry.running.user(ADMIN).get(&format!("/v2/{repository}/tags/list")).send().await.status(200);
    assert_eq!(tags.json()["tags"], json!(["1"]));
}

/// An agent with the browser's session cookie only.
async fn session(registry: &Registry, browser: &Browser) -> Agent {
    let cookie = browser.cookie("session").await.expect("a session");
    for (attribute, wanted) in [("httpOnly", json!(true)), ("sameSite", json!("Lax")), ("path", json!("/"))] {
        assert_eq!(cookie[attribute], wanted, "{cookie}");
    }
    let mut agent = Agent::default();
    agent.plant(registry.url(), &format!("session={}; Path=/", cookie["value"].as_str().unwrap()));
    agent
}

async fn signs_in_and_out(root: &str, packages: &Path) {
    let (registry, provider) = both(packages, "");
    let browser = Browser::start().await;
    browser.open(&registry.at(&format!("{root}/login?provider=oidc"))).await;
    fill_in(&browser, &provider, CAROL).await;
    browser.arrives(&registry.callback("oidc")).await;
    assert!(browser.cookie("statecookie").await.is_none(), "the cookie of the sign-in is removed");
    let user = browser.cookie("user").await.expect("a cookie for zot's page");
    assert_eq!((&user["httpOnly"], &user["value"]), (&json!(false), &json!("carol")));
    let mut copied = session(&registry, &browser).await;
    assert_eq!(registry.name(&mut copied).await.as_deref(), Some("carol"));
    push_with_a_key(&registry, &browser, "carol", "carol/app").await;

    let headers = json!({ "x-zot-api-client": "zot-ui" });
    let (status, text) = browser.fetch("POST", &format!("{root}/logout"), &headers, None).await;
    assert_eq!(status, 200, "{text}");
    assert!(browser.cookie("session").await.is_none() && browser.cookie("user").await.is_none());
    assert_eq!(registry.name(&mut copied).await, None, "the session has ended, not only its cookie");
    let answer: Value = serde_json::from_str(&text).unwrap();
    // The provider asks for confirmation, signs out and redirects back.
    browser.open(answer["endSessionUrl"].as_str().unwrap_or_else(|| panic!("{text}"))).await;
    browser.click("button[name=logout]").await;
    browser.arrives(&registry.at("/login")).await;
    browser.open(&registry.login("oidc", None)).await;
    browser.arrives(&format!("{}/interaction/", provider.issuer())).await;
    assert!(browser.has("input[name=login]").await, "the provider's session has ended too");
}

#[tokio::test]
async fn a_user_signs_in_with_a_browser_pushes_with_a_key_and_signs_out() {
    needs!(CHROMIUM, CHROMEDRIVER, SKOPEO);
    signs_in_and_out("/zot/auth", needs_node!()).await;
}

#[tokio::test]
async fn a_user_signs_in_with_a_browser_at_the_older_routes_and_signs_out() {
    needs!(CHROMIUM, CHROMEDRIVER, SKOPEO);
    signs_in_and_out("/auth", needs_node!()).await;
}

/// Zot's page sends the browser away and expects it back at its own page, with the session.
#[tokio::test]
async fn a_user_returns_to_the_page_of_the_start() {
    needs!(CHROMIUM, CHROMEDRIVER);
    let (registry, provider) = both(needs_node!(), "");
    let browser = Browser::start().await;
    let home = registry.at("/livez?from=home");
    browser.open(&registry.login("oidc", Some(&home))).await;
    fill_in(&browser, &provider, CAROL).await;
    assert_eq!(browser.arrives(&home).await, home);
    let headers = json!({ "x-zot-api-client": "zot-ui" });
    assert_eq!(browser.fetch("GET", "/v2/", &headers, None).await.0, 200);
    assert_eq!(browser.fetch("GET", "/v2/", &json!({}), None).await.0, 401, "zot's header is required");
    // The provider does not ask a signed-in user again.
    browser.open(&registry.login("oidc", Some(&home))).await;
    assert_eq!(browser.arrives(&home).await, home);
}

#[tokio::test]
async fn a_user_who_does_not_consent_reads_the_reason() {
    needs!(CHROMIUM, CHROMEDRIVER);
    let (registry, provider) = both(needs_node!(), "");
    let browser = Browser::start().await;
    browser.open(&registry.login("oidc", None)).await;
    browser.arrives(&format!("{}/interaction/", provider.issuer())).await;
    browser.click("a[href$='/abort']").await;
    browser.arrives(&registry.callback("oidc")).await;
    assert!(browser.source().await.contains("<h1"), "{}", browser.source().await);
    assert!(browser.cookie("session").await.is_none());
}

#[tokio::test]
async fn a_user_signs_in_with_a_browser_at_github_and_pushes_with_a_key() {
    needs!(CHROMIUM, CHROMEDRIVER, SKOPEO);
    let github = GitHub::start(github::octocat()).await;
    let rules = "[http.accessControl.repositories.'octo-org/**']\n\
        policies = [{ groups = ['octo-org/justice-league'], actions = ['read', 'create', 'update'] }]\n";
    let registry = github::registry(&github, rules);
    let browser = Browser::start().await;
    browser.open(&registry.login("github", Some("/livez"))).await;
    browser.click("button[name=authorize]").await;
    browser.arrives(&registry.at("/livez")).await;
    let mut copied = session(&registry, &browser).await;
    assert_eq!(registry.name(&mut copied).await.as_deref(), Some("octocat@github.example"));
    push_with_a_key(&registry, &browser, "octocat@github.example", "octo-org/app").await;
    let headers = json!({ "x-zot-api-client": "zot-ui" });
    let signed_out = browser.fetch("POST", "/zot/auth/logout", &headers, None).await;
    assert_eq!(signed_out, (200, "{}".to_owned()), "GitHub has no page for signing out");
    assert_eq!(registry.name(&mut copied).await, None);
}

/// Without a shared secret, the registry authenticates with a signature (RFC 7523).
#[tokio::test]
async fn a_registry_with_a_key_instead_of_a_secret_is_accepted() {
    let mut provider = Provider::start(needs_node!());
    let key = Private::rsa();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), pem("PRIVATE KEY", &key.private_der())).unwrap();
    let table = table("oidc", provider.issuer(), provider::CLIENT);
    let secret = format!("clientsecret = '{}'", provider::CLIENT.1);
    let registry = Registry::start(&table.replace(&secret, &format!("keypath = '{}'", file.path().display())));
    let client = |key: &Private| {
        json!({
            "client_secret": null,
            "token_endpoint_auth_method": "private_key_jwt",
            "token_endpoint_auth_signing_alg": "RS256",
            "jwks": { "keys": [key.jwk("the-registrys-key")] },
        })
    };
    provider.client(&[registry.callback("oidc")], &client(&key));
    let mut agent = Agent::default();
    let page = agent.get(&registry.login("oidc", None)).await.status(302);
    let page = provider.sign_in(&mut agent, page, CAROL, registry.url()).await;
    agent.get(&page.location()).await.status(201);
    assert_eq!(registry.name(&mut agent).await.as_deref(), Some("carol@example.org"));
    // A provider that knows another key refuses it.
    provider.client(&[registry.callback("oidc")], &client(&Private::rsa()));
    let mut agent = Agent::default();
    let page = agent.get(&registry.login("oidc", None)).await.status(302);
    let page = provider.sign_in(&mut agent, page, CAROL, registry.url()).await;
    agent.get(&page.location()).await.status(502);
}

/// A realistic provider: single-use refresh tokens and a user who is gone.
#[tokio::test]
async fn keys_of_a_user_who_is_gone_from_the_provider_stop() {
    let (registry, mut provider) = both(needs_node!(), "[http.auth.openid]\nrecheck = '1s'\n");
    let mut agent = Agent::default();
    let page = agent.get(&registry.login("oidc", None)).await.status(302);
    let page = provider.sign_in(&mut agent, page, CAROL, registry.url()).await;
    agent.get(&page.location()).await.status(201);
    let key = registry.new_key(&mut agent).await;
    // Several rounds, because a refresh token that were used twice would end the chain.
    for _ in 0..50 {
        assert_eq!(registry.status("carol", &key).await, 200);
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    provider.accounts(&json!({}));
    super::people::until("the key stops", async || registry.status("carol", &key).await == 401).await;
    assert_eq!(registry.name(&mut agent).await, None);
    provider.accounts(&json!({ CAROL: provider::carol() }));
    let mut agent = Agent::default();
    let page = agent.get(&registry.login("oidc", None)).await.status(302);
    let page = provider.sign_in(&mut agent, page, CAROL, registry.url()).await;
    agent.get(&page.location()).await.status(201);
    assert_eq!(registry.status("carol", &key).await, 200);
}
