//! `coracle login` through a certified provider, with a browser on this machine or on another one. skopeo then copies
//! with the stored credentials.

use serde_json::{Value, json};

use super::browser::Browser;
use super::node::needs_node;
use super::provider::Provider;
use super::registry::Registry;
use super::sign_in::{CAROL, fill_in, knowing};
use crate::clients::home::{Home, needs};
use crate::support::content::push_image;
use crate::support::process::{ADMIN, Program, Running};

/// Starts `coracle login` with a new home directory.
fn login(home: &Home, registry: &Registry, arguments: &[&str]) -> Running {
    let host = registry.running.address().to_string();
    let mut program = Program::new([&["login", &*host][..], arguments].concat());
    for (name, value) in home.command("coracle").get_envs() {
        program = program.env(name.to_str().unwrap(), value.unwrap());
    }
    for name in ["BROWSER", "DISPLAY", "WAYLAND_DISPLAY"] {
        program = program.env(name, "");
    }
    program.spawn()
}

/// The URL with this text that has a line of its own in the output.
fn address(said: &str, part: &str) -> String {
    let mut lines = said.lines().map(str::trim).filter(|line| line.starts_with("http"));
    lines.find(|line| line.contains(part)).unwrap_or_else(|| panic!("no address with {part} in {said}")).to_owned()
}

/// The API keys of carol.
fn keys(registry: &Registry) -> Vec<Value> {
    let arguments = ["apikey", "list", "--user", "carol", "--json"];
    let listed: Value = serde_json::from_str(&registry.coracle(&arguments, "").stdout).unwrap();
    let keys = listed["apiKeys"].as_array().or(listed["keys"].as_array()).or(listed.as_array());
    keys.unwrap_or_else(|| panic!("{listed}")).clone()
}

/// Copies an image with skopeo, which finds the key: to a repository in the key's scopes, and not to another one.
async fn copies(home: &Home, registry: &Registry) {
    push_image(&registry.running.user(ADMIN), "library/base", "1", 1).await;
    let host = registry.running.address();
    let source = format!("docker://{host}/library/base:1");
    let [inside, outside] = ["carol/app", "carol/other"].map(|name| format!("docker://{host}/{name}:1"));
    let creds = format!("{}:{}", ADMIN.0, ADMIN.1);
    let plain = ["copy", "--src-tls-verify=false", "--dest-tls-verify=false", "--src-creds", &creds, &source];
    home.run("skopeo", &[&plain[..], &[&*inside]].concat());
    home.fails("skopeo", &[&plain[..], &[&*outside]].concat());
}

fn both(packages: &std::path::Path) -> (Registry, Provider) {
    let mut provider = Provider::start(packages);
    let registry = knowing(&provider, "");
    provider.client(&[registry.callback("oidc")], &json!({}));
    (registry, provider)
}

/// After a sign-in there is a key with the requested limits, and no session.
fn left(registry: &Registry, label: &str) {
    let keys = keys(registry);
    let [key] = &*keys else { panic!("{keys:?}") };
    assert_eq!((&key["label"], &key["scopes"]), (&json!(label), &json!(["carol/app"])), "{key}");
    assert_ne!(key["expirationDate"], json!("0001-01-01T00:00:00Z"), "the key expires: {key}");
}

#[tokio::test]
async fn a_user_signs_in_on_the_command_line_with_the_browser_of_the_machine() {
    needs!(CHROMIUM, CHROMEDRIVER, SKOPEO);
    let (registry, provider) = both(needs_node!());
    let (home, browser) = (Home::alone(), Browser::start().await);
    let asked = ["--no-browser", "--scope", "carol/app", "--expires", "2h", "--label", "laptop"];
    let running = login(&home, &registry, &asked);
    let said = running.wait_for("code_challenge_method=S256");
    browser.open(&address(&said, "/zot/auth/login?")).await;
    fill_in(&browser, &provider, CAROL).await;
    // The registry asks for confirmation first.
    browser.arrives(registry.url()).await;
    let page = browser.source().await;
    assert!(page.contains("carol") && !page.contains("<script"), "{page}");
    browser.click("form:has(input[value=allow]) button").await;
    browser.arrives("http://127.0.0.1:").await;
    browser.shows(".card.narrow h1").await;
    let (page, round) =
        (browser.source().await, "return getComputedStyle(document.querySelector('.card')).borderRadius");
    assert!(page.contains("Continue in the terminal") && !page.contains("<script"), "{page}");
    assert_eq!(
        browser.script(round).await,
        json!("12px"),
        "the page of the program has the look of the registry's pages"
    );
    let done = running.finish();
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert!(done.stdout.contains("as carol"), "{}", done.stdout);
    left(&registry, "laptop");
    copies(&home, &registry).await;
}

#[tokio::test]
async fn a_user_signs_in_on_the_command_line_with_a_code_on_another_device() {
    needs!(CHROMIUM, CHROMEDRIVER, SKOPEO);
    let (registry, provider) = both(needs_node!());
    let (home, browser) = (Home::alone(), Browser::start().await);
    let asked = ["--device", "--scope", "carol/app", "--expires", "2h", "--label", "server"];
    let running = login(&home, &registry, &asked);
    let said = running.wait_for("user_code=");
    let code = address(&said, "user_code=").split_once("user_code=").unwrap().1.to_owned();
    browser.open(&address(&said, "/device")).await;
    browser.fill("input[name=user_code]", &code).await;
    browser.click("button[type=submit]").await;
    let confirm = "button[form='op.deviceConfirmForm'][autofocus]";
    browser.shows(confirm).await;
    assert!(browser.source().await.contains(&code), "the provider shows the code for comparison");
    browser.click(confirm).await;
    fill_in(&browser, &provider, CAROL).await;
    let done = running.finish();
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    left(&registry, "server");
    copies(&home, &registry).await;
}

/// A user who refuses at the provider gets an error, and nothing is stored.
#[tokio::test]
async fn a_user_who_refuses_on_the_other_device_gets_nothing() {
    needs!(CHROMIUM, CHROMEDRIVER);
    let (registry, _provider) = both(needs_node!());
    let (home, browser) = (Home::alone(), Browser::start().await);
    let running = login(&home, &registry, &["--device"]);
    browser.open(&address(&running.wait_for("user_code="), "user_code=")).await;
    browser.click("button[name=abort]").await;
    let done = running.finish();
    assert_eq!(done.code, Some(1), "{}", done.stderr);
    assert!(!done.stderr.contains("signed in to"), "{}", done.stderr);
    assert_eq!(registry.users(), ["admin"]);
}
