//! Owners of namespaces: new users, existing users, and the explanations.

use serde_json::{Value, json};

use super::browser::Browser;
use crate::support::content::push_image;
use crate::support::process::{ADMIN, Program, Running};

const PASSWORD: &str = "a-good-password";

/// Runs a command, which must succeed, and returns its standard output and standard error.
fn coracle(root: &std::path::Path, arguments: &[&str]) -> (String, String) {
    let done = Program::new(arguments).arg("--root").arg(root).input(PASSWORD).run();
    assert_eq!(done.code, Some(0), "{arguments:?}: {}", done.stderr);
    (done.stdout.trim().to_owned(), done.stderr)
}

fn add(root: &std::path::Path, name: &str) -> Value {
    let (made, _) = coracle(root, &["user", "add", name, "--password-stdin", "--json"]);
    serde_json::from_str(&made).unwrap()
}

fn explain(root: &std::path::Path, name: &str, repository: &str) -> Value {
    serde_json::from_str(&coracle(root, &["access", "explain", name, repository, "--json"]).0).unwrap()
}

async fn signed_in(running: &Running, name: &str) -> Browser {
    let mut browser = Browser::of(running.anonymous()).await;
    browser.sign_in(name, PASSWORD).await.status(200);
    browser
}

async fn push_begins(running: &Running, name: &str, repository: &str) -> u16 {
    let upload = running.user((name, PASSWORD)).post(&format!("/v2/{repository}/blobs/uploads/")).send().await;
    upload.status.as_u16()
}

#[tokio::test]
async fn every_user_has_a_namespace_whatever_its_name_and_is_told_the_truth_about_it() {
    let root = tempfile::tempdir().unwrap();
    let running = Program::serve(root.path()).with_admin().start();
    for (name, namespace) in [
        ("carol@example.com", "carol__at__example.com"),
        ("Alice", "alice__c1"),
        ("alice", "alice"),
        ("robot$ci", "robot__dollar__ci"),
        ("team+ci", "team__plus__ci"),
    ] {
        assert_eq!(add(root.path(), name)["namespace"], namespace);
        let mut browser = signed_in(&running, name).await;
        let user = browser.get("/api/v1/user/").await.status(200).json();
        assert_eq!((&user["namespace"], &user["can_create_repo"]), (&json!(namespace), &json!(true)), "{name}");
        assert_eq!(user["namespace_note"], Value::Null);
        let body = json!({ "repository": "made", "visibility": "private", "description": "" });
        let made = browser.send(browser.caller.post("/api/v1/repository").body(body.to_string())).await.status(201);
        assert_eq!(made.json()["namespace"], namespace);
        push_image(&running.user((name, PASSWORD)), &format!("{namespace}/app"), "1", 1).await;
        let explained = explain(root.path(), name, &format!("{namespace}/app"));
        assert_eq!(explained["namespace"], namespace);
        assert!(explained["actions"].as_array().unwrap().contains(&json!("push")), "{explained}");
    }
    assert_eq!(push_begins(&running, "alice", "alice__c1/app").await, 403);
    assert!(coracle(root.path(), &["user", "list"]).0.contains("  carol__at__example.com/…"));
}

#[tokio::test]
async fn nobody_gets_a_namespace_that_has_anything_of_others_but_from_an_administrator() {
    let root = tempfile::tempdir().unwrap();
    let config = "[http.accessControl.repositories.'ruled/**']\npolicies = [{ users = ['carol'], groups = ['dev'], \
                  actions = ['read'] }]\n[http.accessControl.repositories.'own/**']\npolicies = [{ users = ['own'], \
                  actions = ['read'] }]\n";
    let running = Program::serve_with(root.path(), config).with_admin().start();
    let admin = running.user(ADMIN);
    push_image(&admin, "team/app", "1", 1).await;
    push_image(&admin, "alice", "1", 1).await;
    coracle(root.path(), &["user", "add", "dave", "--password-stdin", "--groups", "group"]);
    for name in ["team", "group", "ruled", "library"] {
        let made = add(root.path(), name);
        assert_eq!(made["namespace"], Value::Null, "{made}");
        let note = made["namespace_note"].as_str().unwrap();
        assert!(note.contains(&format!("coracle user namespace {name} {name}")), "{note}");
        let mut browser = signed_in(&running, name).await;
        let user = browser.get("/api/v1/user/").await.status(200).json();
        assert_eq!(user["can_create_repo"], json!(false));
        // The user does not learn what else there is.
        let own = user["namespace_note"].as_str().unwrap();
        assert!(
            own.contains("it was not free") && own.contains(&format!("coracle user namespace {name} {name}")),
            "{own}"
        );
        let body = json!({ "repository": "made", "visibility": "private", "description": "" });
        browser.send(browser.caller.post("/api/v1/repository").body(body.to_string())).await.status(403);
        assert_eq!(push_begins(&running, name, &format!("{name}/x")).await, 403);
        assert_eq!(explain(root.path(), name, &format!("{name}/app"))["namespace_note"], note);
    }
    running.user(("team", PASSWORD)).get("/v2/team/app/manifests/1").send().await.status(403);
    running.wait_for("does not own the namespace of its name");
    // A repository of one part is in no namespace, and rules that name the user are for the user.
    for name in ["alice", "own"] {
        assert_eq!(add(root.path(), name)["namespace"], name);
        assert_eq!(push_begins(&running, name, &format!("{name}/x")).await, 202);
    }
    // The administrator decides otherwise, and one owner is enough.
    coracle(root.path(), &["user", "namespace", "team", "team"]);
    running.user(("team", PASSWORD)).get("/v2/team/app/manifests/1").send().await.status(200);
    let taken = Program::new(["user", "namespace", "alice", "team", "--root"]).arg(root.path()).run();
    assert!(taken.code == Some(1) && taken.stderr.contains("belongs to the user team"), "{}", taken.stderr);
}

#[tokio::test]
async fn a_user_with_a_namespace_of_another_user_is_not_created() {
    let root = tempfile::tempdir().unwrap();
    let running = Program::serve(root.path()).with_admin().start();
    add(root.path(), "alice");
    for (namespace, why) in [("alice", "belongs to the user alice"), ("a/b", "invalid namespace")] {
        let add = Program::new(["user", "add", "bob", "--namespace", namespace, "--root"]).arg(root.path()).run();
        assert!(add.code == Some(1) && add.stderr.contains(why), "{}", add.stderr);
    }
    assert!(!coracle(root.path(), &["user", "list"]).0.contains("bob"));
    let (made, _) = coracle(root.path(), &["user", "add", "bob", "--password-stdin", "--namespace", "team", "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&made).unwrap()["namespace"], "team");
    assert_eq!(push_begins(&running, "bob", "team/x").await, 202);
    assert_eq!(push_begins(&running, "bob", "bob/x").await, 403);
}

#[tokio::test]
async fn a_user_who_was_removed_and_made_again_inherits_nothing() {
    let root = tempfile::tempdir().unwrap();
    let running = Program::serve(root.path()).with_admin().start();
    add(root.path(), "carol");
    add(root.path(), "dave");
    let before = running.user(("carol", PASSWORD));
    push_image(&before, "carol/app", "1", 1).await;
    let key = before.post("/zot/auth/apikey").body("{}").send().await.status(201).json();
    let key = key["apiKey"].as_str().unwrap().to_owned();
    let token = before.get("/v2/auth?scope=repository:carol/app:pull").send().await.status(200).json();
    let by_token = |token: &Value| {
        let bearer = format!("Bearer {}", token["token"].as_str().unwrap());
        running.anonymous().get("/v2/carol/app/manifests/1").header("authorization", bearer)
    };
    by_token(&token).send().await.status(200);
    let mut session = signed_in(&running, "carol").await;
    coracle(root.path(), &["user", "remove", "carol"]);
    assert_eq!(add(root.path(), "carol")["namespace"], Value::Null);
    by_token(&token).send().await.status(401);
    session.get("/api/v1/user/").await.status(401);
    running.user(("carol", &key)).get("/v2/").send().await.status(401);
    before.get("/v2/carol/app/manifests/1").send().await.status(403);
    // One whose namespace was empty gets it again.
    coracle(root.path(), &["user", "remove", "dave"]);
    assert_eq!(add(root.path(), "dave")["namespace"], "dave");
}

#[tokio::test]
async fn a_user_signs_in_by_an_address_that_no_other_has() {
    let root = tempfile::tempdir().unwrap();
    let running = Program::serve(root.path()).with_admin().start();
    for name in ["carol", "dave", "erin@example.com"] {
        add(root.path(), name);
    }
    let address = async |name: &str, address: &str| {
        let mut browser = signed_in(&running, name).await;
        let body = json!({ "email": address }).to_string();
        browser.send(browser.caller.put("/api/v1/user/").body(body)).await
    };
    let ping =
        async |name: &str, password: &str| running.user((name, password)).get("/v2/").send().await.status.as_u16();
    assert_eq!(ping("carol@example.com", PASSWORD).await, 401);
    address("carol", "Carol@Example.com").await.status(200);
    address("carol", "Carol@Example.com").await.status(200);
    assert_eq!(ping("carol@example.com", PASSWORD).await, 200);
    let mut browser = Browser::of(running.anonymous()).await;
    browser.sign_in("carol@example.com", PASSWORD).await.status(200);
    assert_eq!(browser.get("/api/v1/user/").await.json()["username"], "carol");
    // By a key too, and by Quay's names for one whose name is not given.
    let made = running.user(("carol", PASSWORD)).post("/zot/auth/apikey").body("{}").send().await.status(201).json();
    let key = made["apiKey"].as_str().unwrap();
    for name in ["carol", "carol@example.com", "$app", "$oauthtoken"] {
        assert_eq!(ping(name, key).await, 200, "{name}");
        let form = format!("grant_type=password&username={}&password={key}", name.replace('$', "%24"));
        running.anonymous().post("/v2/auth").body(form).send().await.status(200);
    }
    for name in ["dave", "$other", "erin@example.com", "unknown@example.com"] {
        assert_eq!(ping(name, key).await, 401, "{name}");
    }
    assert_eq!(ping("$app", PASSWORD).await, 401);
    // No other user gets it. The name of a user takes precedence over the address of another.
    let refused = address("dave", "carol@example.COM").await.status(400);
    assert!(refused.text().contains("E-mail address already used"), "{}", refused.text());
    assert_eq!(ping("carol@example.com", PASSWORD).await, 200);
    assert_eq!(ping("carol@example.com", key).await, 200);
    address("dave", "erin@example.com").await.status(200);
    assert_eq!(ping("carol@example.com", PASSWORD).await, 200);
    let mut browser = Browser::of(running.anonymous()).await;
    browser.sign_in("erin@example.com", PASSWORD).await.status(200);
    assert_eq!(browser.get("/api/v1/user/").await.json()["username"], "erin@example.com");
}
