//! Sign-in on another device (RFC 8628) through the registry: the client learns the outcome, and the provider is not
//! polled more often than it allows.

use std::time::Duration;

use serde_json::{Value, json};

use super::hostile::{DEVICE_CODE, Hostile};
use super::player::Answer;
use super::program::Client;
use super::registry::Registry;
use crate::cli::person::Person;

const BEGIN: &str = "/api/v1/signin/device";
const POLL: &str = "/api/v1/signin/device/token";

/// A little more than the provider's interval of one second, so that a poll is surely not early.
const INTERVAL: Duration = Duration::from_millis(1100);

async fn begin(registry: &Registry) -> (Client, Value) {
    let mut client = Client::visit(registry).await;
    let begun = client.post(registry, BEGIN, &json!({ "provider": "oidc" })).await.status(200).json();
    (client, json!({ "handle": begun["handle"] }))
}

#[tokio::test]
async fn a_client_is_signed_in_when_the_code_was_entered() {
    let hostile = Hostile::start().await;
    let registry = Registry::knowing(&[("oidc", &hostile)]);
    hostile.script().device = vec!["authorization_pending", "done"];
    let mut client = Client::visit(&registry).await;
    let begun = client.post(&registry, BEGIN, &json!({ "provider": "oidc" })).await.status(200).json();
    assert_eq!(begun["user_code"], "WDJB-MJHT");
    assert_eq!(begun["verification_uri"], format!("{}/activate", hostile.issuer()));
    assert_eq!((&begun["interval"], &begun["expires_in"]), (&json!(1), &json!(600)));
    // The provider's device code would let another client with the same id continue.
    assert!(!begun.to_string().contains(DEVICE_CODE));
    let scope = hostile.asked("/device")[0].form("scope");
    assert!(scope.split(' ').any(|scope| scope == "openid") && scope.contains("groups"), "{scope}");

    let handle = json!({ "handle": begun["handle"] });
    let pending = client.post(&registry, POLL, &handle).await.status(200).json();
    assert_eq!(pending, json!({ "status": "pending", "interval": 1 }));
    assert_eq!(client.signed_in(&registry).await, None);
    tokio::time::sleep(INTERVAL).await;
    let done = client.post(&registry, POLL, &handle).await.status(200);
    assert_eq!(done.json()["status"], "done");
    assert_eq!(client.signed_in(&registry).await.as_deref(), Some("mallory@example.org"));
    assert_eq!(client.agent.get(&registry.at("/api/v1/user/")).await.json()["username"], "mallory@example.org");
}

#[tokio::test]
async fn a_client_that_polls_too_often_does_not_make_the_registry_poll() {
    let hostile = Hostile::start().await;
    let registry = Registry::knowing(&[("oidc", &hostile)]);
    let (mut client, handle) = begin(&registry).await;
    client.post(&registry, POLL, &handle).await.status(200);
    for _ in 0..20 {
        let said = client.post(&registry, POLL, &handle).await.status(200).json();
        assert_eq!(said["status"], "slow_down", "{said}");
        assert!(said["interval"].as_u64().is_some_and(|interval| (6..=60).contains(&interval)), "{said}");
    }
    assert_eq!(hostile.asked("/token").len(), 1);
}

#[tokio::test]
async fn a_provider_with_a_longer_interval_is_polled_less_often() {
    let hostile = Hostile::start().await;
    let registry = Registry::knowing(&[("oidc", &hostile)]);
    hostile.script().device = vec!["slow_down", "done"];
    let (mut client, handle) = begin(&registry).await;
    let said = client.post(&registry, POLL, &handle).await.status(200).json();
    assert_eq!(said, json!({ "status": "pending", "interval": 6 }));
    tokio::time::sleep(INTERVAL).await;
    assert_eq!(client.post(&registry, POLL, &handle).await.status(200).json()["status"], "slow_down");
    assert_eq!(hostile.asked("/token").len(), 1);
}

#[tokio::test]
async fn refusal_and_expiry_are_told_apart() {
    let hostile = Hostile::start().await;
    let registry = Registry::knowing(&[("oidc", &hostile)]);
    for (word, status) in [("access_denied", "denied"), ("expired_token", "expired"), ("invalid_grant", "expired")] {
        hostile.script().device = vec![word];
        let (mut client, handle) = begin(&registry).await;
        assert_eq!(client.post(&registry, POLL, &handle).await.status(200).json()["status"], status, "{word}");
        assert_eq!(client.signed_in(&registry).await, None);
    }
}

#[tokio::test]
async fn a_handle_belongs_to_one_registry_and_one_sign_in() {
    let hostile = Hostile::start().await;
    let [registry, other] = [(), ()].map(|()| Registry::knowing(&[("oidc", &hostile)]));
    hostile.script().device = vec!["done"];
    let (_, foreign) = begin(&other).await;
    let (mut client, handle) = begin(&registry).await;
    let text = handle["handle"].as_str().unwrap();
    for wrong in [foreign["handle"].as_str().unwrap(), "", "x", &text[1..], &text[..text.len() - 4]] {
        client.post(&registry, POLL, &json!({ "handle": wrong })).await.status(400);
    }
    assert!(hostile.asked("/token").is_empty());
    // It requires a CSRF token, so that another site cannot sign a browser in as another user.
    let kind = [("content-type", "application/json")];
    let page = client.agent.send(hyper::Method::POST, &registry.at(POLL), &kind, handle.to_string()).await;
    page.status(403);
    client.post(&registry, POLL, &handle).await.status(200);
}

#[tokio::test]
async fn invalid_tokens_sign_no_user_in() {
    let hostile = Hostile::start().await;
    let registry = Registry::knowing(&[("oidc", &hostile)]);
    hostile.script().device = vec!["done"];
    hostile.script().id_token = Box::new(|claims| claims["nonce"] = json!("of another sign-in"));
    let (mut client, handle) = begin(&registry).await;
    client.post(&registry, POLL, &handle).await.status(403);
    hostile.script().id_token = Box::new(|claims| claims["aud"] = json!("another-client"));
    let (mut client, handle) = begin(&registry).await;
    client.post(&registry, POLL, &handle).await.status(403);
    assert_eq!(client.signed_in(&registry).await, None);
    assert_eq!(registry.users(), ["admin"]);
}

#[tokio::test]
async fn a_disabled_user_learns_that() {
    let hostile = Hostile::start().await;
    let registry = Registry::knowing(&[("oidc", &hostile)]);
    registry.signed_in("oidc").await;
    registry.coracle(&["user", "disable", "mallory@example.org"], "");
    hostile.script().device = vec!["done"];
    let (mut client, handle) = begin(&registry).await;
    let refused = client.post(&registry, POLL, &handle).await.status(403);
    assert!(refused.json()["detail"].as_str().unwrap().contains("disabled"), "{}", refused.text());
    assert_eq!(client.signed_in(&registry).await, None);
}

#[tokio::test]
async fn a_sign_in_that_the_provider_does_not_offer_is_not_started() {
    let mut hostile = Hostile::start().await;
    hostile.script().discovery = Box::new(|document| {
        document.as_object_mut().unwrap().remove("device_authorization_endpoint");
    });
    let registry = Registry::knowing(&[("oidc", &hostile)]);
    let mut client = Client::visit(&registry).await;
    let listed = client.agent.get(&registry.at("/api/v1/signin/providers")).await.status(200).json();
    assert_eq!(listed["providers"], json!([{ "name": "oidc", "title": "Provider oidc", "device": false }]));
    for provider in ["oidc", "unknown", ""] {
        client.post(&registry, BEGIN, &json!({ "provider": provider })).await.status(400);
    }
    // A provider that is unavailable.
    let registry = Registry::knowing(&[("oidc", &hostile)]);
    hostile.player.leave().await;
    let mut client = Client::visit(&registry).await;
    let listed = client.agent.get(&registry.at("/api/v1/signin/providers")).await.status(200).json();
    assert_eq!(listed["providers"][0]["device"], false);
    let away = client.post(&registry, BEGIN, &json!({ "provider": "oidc" })).await.status(503);
    assert!(away.json()["detail"].as_str().unwrap().contains("provider"), "{}", away.text());
}

#[tokio::test]
async fn an_invalid_verification_page_is_not_passed_on() {
    let hostile = Hostile::start().await;
    let registry = Registry::knowing(&[("oidc", &hostile)]);
    for page in ["javascript:alert(1)", "https://x/\u{1b}[2J", ""] {
        hostile.reply(
            "/device",
            Answer::json(
                200,
                &json!({
                    "device_code": "d", "user_code": "u", "verification_uri": page, "expires_in": 600,
                }),
            ),
        );
        let mut client = Client::visit(&registry).await;
        client.post(&registry, BEGIN, &json!({ "provider": "oidc" })).await.status(503);
    }
}

#[tokio::test]
async fn on_the_command_line_the_code_is_shown_and_a_key_created() {
    let hostile = Hostile::start().await;
    let registry = Registry::knowing(&[("oidc", &hostile)]);
    hostile.script().device = vec!["authorization_pending", "done"];
    let (person, host) = (Person::new(), registry.running.address().to_string());
    let done = person.run(&["login", &host, "--device"], "").await;
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert!(done.stderr.contains("\n  WDJB-MJHT\n") && done.stderr.contains("/activate\n"), "{}", done.stderr);
    assert_eq!(done.stdout, format!("signed in to {host} as mallory@example.org\n"));
    let (user, key) = person.entry(&person.podman(), &host).unwrap();
    assert_eq!(registry.status(&user, &key).await, 200);
    assert_eq!(person.run(&["logout", &host], "").await.code, Some(0));
    assert_eq!(registry.status(&user, &key).await, 401);

    hostile.script().device = vec!["access_denied"];
    let done = person.run(&["login", &host, "--provider", "oidc", "--device"], "").await;
    assert_eq!(done.code, Some(1), "{}", done.stdout);
    assert!(done.stderr.contains("refused on the other device"), "{}", done.stderr);
}

#[tokio::test]
async fn a_client_that_stops_before_the_code_was_entered_leaves_nothing() {
    let hostile = Hostile::start().await;
    let registry = Registry::knowing(&[("oidc", &hostile)]);
    let (person, host) = (Person::new(), registry.running.address().to_string());
    let running = person.coracle(&["login", &host, "--device"]).spawn();
    let running = tokio::task::spawn_blocking(move || {
        running.wait_for("WDJB-MJHT");
        running.signal(rustix::process::Signal::INT);
        running.finish()
    });
    let done = running.await.unwrap();
    assert_eq!(done.code, Some(1), "{}", done.stderr);
    assert!(done.stderr.contains("interrupted"), "{}", done.stderr);
    assert_eq!(registry.users(), ["admin"]);
    assert!(!person.docker().exists() && !person.path("config/coracle").exists());
}
