//! Scopes of API keys: what is refused, what a comparison may cost, and what is of no use.

use std::time::Duration;

use serde_json::{Value, json};

use super::browser::Browser;
use crate::support::TestRegistry;
use crate::support::content::push_image;
use crate::support::http::{Answer, Caller};
use crate::support::process::Program;
use crate::support::registry::{ALICE, BOB, ROOT};

const ROUTES: [&str; 2] = ["/zot/auth/apikey", "/v2/_zot/ext/apikey"];

async fn create(caller: &Caller, scopes: &Value) -> Answer {
    caller.post(ROUTES[0]).body(json!({ "scopes": scopes }).to_string()).send().await
}

fn secret(answer: &Answer) -> String {
    answer.json()["apiKey"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_scope_that_can_match_nothing_is_refused_by_every_route_with_the_reason() {
    let t = TestRegistry::with_users().await;
    let alice = t.user(ALICE);
    let mut browser = Browser::signed_in(&t, ALICE).await;
    let bomb = format!("{{{}}}", ",".repeat(27)).repeat(10);
    for (scope, why) in [
        (bomb.as_str(), "has braces that stand for more than"),
        ("!alice/secret/**", "begins with !"),
        ("alice/{app", "has an unclosed brace"),
        ("alice/[a", "has an unclosed bracket"),
        ("/alice/app", "has an empty part"),
        ("alice//app", "has an empty part"),
        ("alice/", "has an empty part"),
        ("alice/team**", "has ** next to other characters"),
        ("Alice/app:pull", "has the character 'A'"),
        ("alice/-app", "matches no valid repository name"),
        ("alice/app:swim", "has other actions"),
        ("", "is empty"),
    ] {
        let expected = format!("the scope {:?} ", scope.chars().take(80).collect::<String>());
        let bodies = json!({ "scopes": ["alice/app", scope] }).to_string();
        for route in ROUTES {
            let refused = alice.post(route).body(bodies.clone()).send().await.error(400, "UNSUPPORTED").json();
            let message = refused["errors"][0]["message"].as_str().unwrap().to_owned();
            assert!(message.starts_with(&expected) && message.contains(why), "{message}");
        }
        let refused = browser.tell("POST", "/api/v1/user/apptoken", &json!({ "title": "t", "scopes": [scope] })).await;
        let message = refused.status(400).json()["detail"].as_str().unwrap().to_owned();
        assert!(message.starts_with(&expected) && message.contains(why), "{message}");
    }
    let keys = alice.get(ROUTES[0]).send().await.status(200).json();
    assert_eq!(keys, json!({ "apiKeys": [] }), "what was refused has changed something");
}

/// The most expensive permitted scopes are decided at once, and no other request waits.
#[tokio::test]
async fn no_scope_holds_up_the_registry() {
    let t = TestRegistry::with_users().await;
    let alice = t.user(ALICE);
    let repository = format!("alice/{}", "a".repeat(249));
    push_image(&alice, &repository, "1", 1).await;
    let alternatives = vec!["*a*a*a*b"; 30].join(",");
    for scopes in [
        json!(["*a".repeat(140) + "b"]),
        json!([format!("alice/{{{alternatives}}}")]),
        json!(["**/".repeat(90) + "b"]),
        json!(vec!["alice/*a*a*a*a*a*a*b"; 100]),
    ] {
        let made = create(&alice, &scopes).await.status(201);
        let by_key = t.user((ALICE.0, &secret(&made)));
        let path = format!("/v2/{repository}/tags/list");
        let asking = (0..8).map(|_| by_key.get(&path).send());
        let limit = Duration::from_secs(20);
        let all = tokio::time::timeout(limit, futures_util::future::join_all(asking)).await.expect("decided at once");
        for answer in all {
            answer.error(403, "DENIED");
        }
        let probe = t.anonymous().get("/livez").send();
        tokio::time::timeout(limit, probe).await.expect("the registry is alive").status(200);
    }
    // 100 of the largest are refused together.
    let largest = format!("alice/{{{}}}", vec!["aaaaaaaa"; 31].join(","));
    let mut browser = Browser::signed_in(&t, ALICE).await;
    let body = json!({ "title": "t", "scopes": vec![largest; 100] });
    let refused = browser.tell("POST", "/api/v1/user/apptoken", &body).await.status(400).json();
    assert!(refused["detail"].as_str().unwrap().contains("too large together"), "{refused}");
}

#[tokio::test]
async fn a_key_whose_scopes_grant_its_owner_nothing_is_made_with_a_warning() {
    let t = TestRegistry::with_users().await;
    let (alice, bob, root) = (t.user(ALICE), t.user(BOB), t.user(ROOT));
    push_image(&bob, "bob/shared", "1", 1).await;
    push_image(&bob, "bob/public", "1", 1).await;
    push_image(&bob, "bob/private", "1", 1).await;
    let mut owner = Browser::signed_in(&t, BOB).await;
    let role = json!({ "role": "read" });
    owner.tell("PUT", "/api/v1/repository/bob/shared/permissions/user/alice", &role).await.status(200);
    let visibility = json!({ "visibility": "public" });
    owner.tell("POST", "/api/v1/repository/bob/public/changevisibility", &visibility).await.status(200);
    for (caller, scopes, warns) in [
        // zot's own example.
        (&alice, json!(["repo1", "repo2"]), true),
        (&alice, json!(["alice/app"]), false),
        (&alice, json!(["repo1", "alice/app"]), true),
        (&alice, json!(["**"]), false),
        (&alice, json!(["*"]), true),
        (&alice, json!(["ali*/app:pull"]), false),
        (&alice, json!(["alice"]), true),
        (&alice, json!(["team/**"]), true),
        (&alice, json!(["bob/private"]), true),
        (&alice, json!(["bob/shared"]), false),
        (&alice, json!(["bob/shared:push"]), true),
        (&alice, json!(["bob/*"]), false),
        (&alice, json!(["bob/*:delete"]), true),
        (&alice, json!(["bob/p*"]), false),
        (&alice, json!(["bob/pr*"]), true),
        (&root, json!(["repo1", "team/*:pull"]), false),
        (&alice, json!([]), false),
        (&alice, Value::Null, false),
    ] {
        let made = create(caller, &scopes).await.status(201);
        let warning = made.header("warning");
        assert_eq!(warning.is_some(), warns, "{scopes}: {warning:?}");
        let which = if scopes == json!(["repo1", "alice/app"]) { " repo1" } else { "" };
        let text = format!("299 - \"the scopes{which} of this API key grant alice nothing: ");
        assert!(warning.is_none_or(|warning| warning.starts_with(&text) && warning.ends_with('"')), "{warning:?}");
    }
    let mut browser = Browser::signed_in(&t, ALICE).await;
    for (scopes, warns) in [(json!(["repo1"]), true), (json!(["alice/**"]), false)] {
        let made = browser.tell("POST", "/api/v1/user/apptoken", &json!({ "title": "t", "scopes": scopes })).await;
        assert_eq!(made.status(200).header("warning").is_some(), warns, "{scopes}");
    }
}

#[tokio::test]
async fn rules_of_the_configuration_count_for_the_warning() {
    let rules = "\"team/**\" = { policies = [{ users = ['alice'], actions = ['read'] }] }\n\"team/other\" = { defaultPolicy = [] }";
    let text = format!("profile = 'zot'\n[http.accessControl.repositories]\n{rules}\n");
    let config = coracle::config::Config::from_toml_str(&text).unwrap().config;
    let builder = coracle::Registry::builder().config(config).user(ALICE.0, ALICE.1);
    let t = TestRegistry::start(builder).await;
    for (scopes, warns) in [
        (json!(["team/app"]), false),
        (json!(["te*/a*"]), false),
        (json!(["team/other"]), true),
        (json!(["team/app:push"]), true),
        (json!(["alice/**"]), true),
        (json!(["**"]), false),
    ] {
        let made = create(&t.user(ALICE), &scopes).await.status(201);
        assert_eq!(made.header("warning").is_some(), warns, "{scopes}");
    }
}

#[tokio::test]
async fn the_command_line_refuses_and_warns_as_the_routes_do() {
    let root = tempfile::tempdir().unwrap();
    let running = Program::serve(root.path()).with_admin().start();
    let coracle = |arguments: &[&str]| Program::new(arguments).arg("--root").arg(root.path()).run();
    assert_eq!(coracle(&["user", "add", "alice"]).code, Some(0));
    let create = |scope: &str| coracle(&["apikey", "create", "--user", "alice", "--scope", scope]);
    for (scope, why) in [
        ("!alice/**", "begins with !"),
        ("alice/{a", "has an unclosed brace"),
        ("alice/team**", "has ** next to other characters"),
    ] {
        let refused = create(scope);
        assert_eq!((refused.code, refused.stdout.as_str()), (Some(2), ""), "{scope}");
        assert!(refused.stderr.contains(why), "{}", refused.stderr);
    }
    let useless = create("repo1");
    assert_eq!(useless.code, Some(0), "{}", useless.stderr);
    assert!(useless.stdout.starts_with("zak_") && useless.stdout.lines().count() == 1, "{}", useless.stdout);
    assert!(useless.stderr.contains("warning: the scopes of this API key grant alice nothing"), "{}", useless.stderr);
    let useful = create("alice/**");
    assert_eq!((useful.code, useful.stderr.as_str()), (Some(0), ""));
    running.stop();
}
