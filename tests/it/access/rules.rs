//! `http.accessControl` with the real program: zot's cases in both profiles, reloading, and explanations.

use std::path::Path;
use std::time::Duration;

use coracle::Registry;
use coracle::config::Config;
use serde_json::{Value, json};

use crate::support::TestRegistry;
use crate::support::content::{bytes, image, push_blob, push_image, put_manifest, sha256, start_upload};
use crate::support::process::{ADMIN, Program, Running};
use crate::support::registry::{ALICE, BOB};

/// carol is in the group dev of the database, dave in the configured group ops.
const USERS: [&str; 4] = ["alice", "bob", "carol", "dave"];

/// The program with these rules, and the passwords of its users.
fn start(root: &Path, profile: &str, rules: &Value) -> (Running, Vec<String>) {
    write(root, profile, rules);
    let file = root.join("coracle.json");
    let running = Program::serve(root).arg(&file).with_admin().start();
    let passwords = USERS.iter().map(|user| {
        let groups: &[&str] = if *user == "carol" { &["--groups", "dev"] } else { &[] };
        let done = Program::new(["user", "add", user]).arg("--root").arg(root);
        let done = groups.iter().fold(done, Program::arg).run();
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        done.stdout.trim().to_owned()
    });
    let passwords = passwords.collect();
    (running, passwords)
}

fn write(root: &Path, profile: &str, rules: &Value) {
    let config = json!({ "profile": profile, "storage": { "commit": false }, "http": { "accessControl": rules } });
    let new = root.join("coracle.json.new");
    std::fs::write(&new, config.to_string()).unwrap();
    std::fs::rename(new, root.join("coracle.json")).unwrap();
}

#[tokio::test]
async fn the_right_to_move_tags_is_the_same_for_a_push_by_tag_and_by_digest() {
    let config = "[http.accessControl.repositories.'**']\n\
                  policies = [{ users = ['bob'], actions = ['read', 'update'] }]\n";
    let config = Config::from_toml_str(config).unwrap().config;
    let t = TestRegistry::start(Registry::builder().user(ALICE.0, ALICE.1).user(BOB.0, BOB.1).config(config)).await;
    push_image(&t.user(ALICE), "alice/app", "1", 1).await;
    push_blob(&t.user(ALICE), "alice/app", b"{}").await;
    let bob = t.user(BOB);
    let noted = |note: &str| {
        let mut manifest = image(b"{}", &[]);
        manifest["annotations"] = json!({ "note": note });
        let digest = sha256(&bytes(&manifest));
        (manifest, digest)
    };
    let (by_tag, _) = noted("by tag");
    put_manifest(&bob, "alice/app", "1", &by_tag).await.status(201);
    let (by_digest, digest) = noted("by digest");
    put_manifest(&bob, "alice/app", &format!("{digest}?tag=1"), &by_digest).await.status(201);
    let (refused, digest) = noted("refused");
    for (reference, message) in [
        (digest.clone(), "bob may not add a manifest to alice/app"),
        ("new".to_owned(), "bob may not create the tag new in alice/app"),
        (format!("{digest}?tag=new"), "bob may not create the tag new in alice/app"),
        (format!("{digest}?tag=1&tag=new"), "bob may not create the tag new in alice/app"),
    ] {
        let answer = put_manifest(&bob, "alice/app", &reference, &refused).await.error(403, "DENIED").json();
        assert_eq!(answer["errors"][0]["message"], message, "{reference}");
    }
    let pulled = bob.get("/v2/alice/app/manifests/1").send().await.status(200);
    assert_eq!(pulled.body, bytes(&by_digest));
}

#[tokio::test]
async fn zots_cases_in_zots_profile() {
    let root = tempfile::tempdir().unwrap();
    let rules = json!({
        "repositories": {
            "team/**": {
                "policies": [
                    { "users": ["alice"], "actions": ["read", "create", "update", "delete"] },
                    { "groups": ["dev", "ops"], "actions": ["read", "create"] },
                ],
                "defaultPolicy": ["read"],
            },
            "public/**": { "defaultPolicy": ["read", "create"], "anonymousPolicy": ["read"] },
            "secret/only/this": { "policies": [{ "users": ["alice"], "actions": ["read"] }] },
            "**": { "policies": [{ "users": ["bob"], "actions": ["read"] }] },
        },
        "adminPolicy": { "users": [ADMIN.0], "actions": ["read", "create", "update", "delete"] },
        "groups": { "ops": { "users": ["dave"] } },
    });
    let (running, passwords) = start(root.path(), "zot", &rules);
    let admin = running.user(ADMIN);
    for repository in ["team/a", "public/a", "secret/only/this", "other/a"] {
        push_image(&admin, repository, "1", 1).await;
    }
    let user = |name: &str| {
        let at = USERS.iter().position(|known| *known == name).unwrap();
        running.user((name, &passwords[at]))
    };
    let callers = [user("alice"), user("bob"), user("carol"), user("dave"), running.anonymous()];
    let other = image(b"{}", &[]);
    let statuses = async |method: &str, path: &str| {
        let mut statuses = Vec::new();
        for caller in &callers {
            statuses.push(caller.request(method.parse().unwrap(), path).send().await.status.as_u16());
        }
        statuses
    };
    // alice, bob, carol (dev), dave (ops), an anonymous caller
    for (method, path, expected) in [
        ("GET", "/v2/team/a/tags/list", [200, 200, 200, 200, 401]),
        ("POST", "/v2/team/a/blobs/uploads/", [202, 403, 202, 202, 401]),
        ("DELETE", "/v2/team/a/manifests/absent", [404, 403, 403, 403, 401]),
        ("GET", "/v2/public/a/tags/list", [200, 200, 200, 200, 200]),
        ("POST", "/v2/public/a/blobs/uploads/", [202, 202, 202, 202, 401]),
        ("GET", "/v2/secret/only/this/tags/list", [200, 403, 403, 403, 401]),
        ("GET", "/v2/other/a/tags/list", [403, 200, 403, 403, 401]),
        ("GET", "/v2/absent/a/tags/list", [403, 404, 403, 403, 401]),
        // Anonymous callers are challenged although they have rights, so that clients send credentials.
        ("GET", "/v2/", [200, 200, 200, 200, 401]),
    ] {
        assert_eq!(statuses(method, path).await, expected, "{method} {path}");
    }
    callers[0].post("/v2/alice/x/blobs/uploads/").send().await.error(403, "DENIED");
    // `create` without `update` allows new tags only, and `update` without `create` allows moving tags only.
    let carol = &callers[2];
    let config = push_blob(carol, "team/a", b"{}").await;
    assert!(config.starts_with("sha256:"));
    put_manifest(carol, "team/a", "new", &other).await.status(201);
    let refused = put_manifest(carol, "team/a", "1", &other).await.error(403, "DENIED").json();
    let expected = json!({
        "code": "DENIED",
        "message": "carol may not update the tag 1 in team/a",
        "detail": { "user": "carol", "name": "team/a", "action": "update" },
    });
    assert_eq!(refused["errors"], json!([expected]));
    let digest = sha256(&bytes(&other));
    put_manifest(carol, "team/a", &format!("{digest}?tag=newer"), &other).await.status(201);
    put_manifest(carol, "team/a", &format!("{digest}?tag=newest&tag=1"), &other).await.error(403, "DENIED");
    let tags = carol.get("/v2/team/a/tags/list").send().await.status(200).json();
    assert_eq!(tags["tags"], json!(["1", "new", "newer"]), "a refused push creates no tag");
    // Lists agree with single requests.
    let listed =
        async |at: usize| callers[at].get("/v2/_catalog").send().await.status(200).json()["repositories"].clone();
    assert_eq!(listed(0).await, json!(["public/a", "secret/only/this", "team/a"]));
    assert_eq!(listed(1).await, json!(["other/a", "public/a", "team/a"]));
    assert_eq!(listed(4).await, json!(["public/a"]));
    // Unlike zot, it is not a challenge for a password, because a docker without one would fail.
    let refused = callers[4].get("/v2/team/a/tags/list").send().await.error(401, "UNAUTHORIZED");
    assert!(refused.header("www-authenticate").unwrap().starts_with("Bearer "));
}

#[tokio::test]
async fn a_refused_push_over_several_tags_asks_to_delete_the_tags_first() {
    let root = tempfile::tempdir().unwrap();
    let all = ["read", "create", "update", "delete"];
    let careful = [&all[..], &["detectManifestCollision"]].concat();
    let rules = json!({ "repositories": { "**": { "policies": [
        { "users": ["alice"], "actions": careful }, { "users": ["bob"], "actions": all },
    ] } } });
    let (running, passwords) = start(root.path(), "zot", &rules);
    let (alice, bob) = (running.user(("alice", &passwords[0])), running.user(("bob", &passwords[1])));
    let manifest = push_image(&bob, "a/b", "1", 1).await;
    put_manifest(&bob, "a/b", "2", &manifest).await.status(201);
    let digest = sha256(&bytes(&manifest));
    let path = format!("/v2/a/b/manifests/{digest}");
    alice.delete(&path).send().await.error(409, "MANIFEST_INVALID");
    alice.delete("/v2/a/b/manifests/2").send().await.status(202);
    alice.delete(&path).send().await.status(202);
}

#[tokio::test]
async fn in_our_profile_rules_add_to_ownership_and_permissions() {
    let root = tempfile::tempdir().unwrap();
    let rules = json!({ "repositories": { "shared/**": { "policies": [{ "users": ["bob"], "actions": ["read"] }] } } });
    let (running, passwords) = start(root.path(), "coracle", &rules);
    let (alice, bob) = (running.user(("alice", &passwords[0])), running.user(("bob", &passwords[1])));
    push_image(&running.user(ADMIN), "shared/a", "1", 1).await;
    start_upload(&alice, "alice/x").await;
    bob.get("/v2/shared/a/tags/list").send().await.status(200);
    alice.get("/v2/shared/a/tags/list").send().await.error(403, "DENIED");
    bob.get("/v2/alice/x/tags/list").send().await.error(403, "DENIED");
}

#[tokio::test]
async fn changed_rules_apply_without_a_restart_and_invalid_ones_are_ignored() {
    let root = tempfile::tempdir().unwrap();
    let rules =
        |users: &[&str]| json!({ "repositories": { "**": { "policies": [{ "users": users, "actions": ["read"] }] } } });
    let (running, passwords) = start(root.path(), "zot", &rules(&["alice"]));
    let (alice, bob) = (running.user(("alice", &passwords[0])), running.user(("bob", &passwords[1])));
    let seen = async |who: &crate::support::http::Caller| who.get("/v2/a/b/tags/list").send().await.status.as_u16();
    assert_eq!((seen(&alice).await, seen(&bob).await), (404, 403));
    let until = async |expected: (u16, u16)| {
        for _ in 0..300 {
            if (seen(&alice).await, seen(&bob).await) == expected {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the rules were not followed");
    };
    write(root.path(), "zot", &rules(&["bob"]));
    until((403, 404)).await;
    // An unreadable or missing file changes nothing.
    std::fs::write(root.path().join("coracle.json"), "{ \"http\": { \"accessControl\": { \"repositories\": 1 } } }")
        .unwrap();
    running.wait_for("reload failed; the previous configuration stays in force");
    assert_eq!((seen(&alice).await, seen(&bob).await), (403, 404));
    std::fs::remove_file(root.path().join("coracle.json")).unwrap();
    write(root.path(), "zot", &rules(&["alice", "bob"]));
    until((404, 404)).await;
}

#[tokio::test]
async fn a_decision_is_explained() {
    let root = tempfile::tempdir().unwrap();
    let rules = json!({
        "repositories": {
            "team/**": {
                "policies": [{ "users": ["bob"], "actions": ["read"] }, { "groups": ["ops"], "actions": ["create"] }],
                "anonymousPolicy": ["read"],
            },
        },
        "groups": { "ops": { "users": ["dave"] } },
    });
    let (running, _) = start(root.path(), "coracle", &rules);
    let explain = |user: &str, repository: &str| {
        let done = Program::new(["access", "explain", user, repository, "--root"]).arg(root.path()).run();
        (done.code, done.stdout + &done.stderr)
    };
    let (code, text) = explain("dave", "team/app");
    assert_eq!(
        (code, text.as_str()),
        (
            Some(0),
            "dave may push in team/app\n  push: http.accessControl.repositories.\"team/**\".policies[1], through the group ops\n"
        )
    );
    assert!(explain("alice", "alice/x").1.contains("the user owns alice/…"));
    assert!(explain("alice", "team/app").1.starts_with("alice may do nothing in team/app\n"));
    assert!(explain("-", "team/app").1.contains("anonymousPolicy"));
    assert!(explain(ADMIN.0, "x").1.contains("the user is a superuser"));
    assert_eq!(explain("unknown", "x"), (Some(1), "coracle: there is no user unknown\n".to_owned()));
    assert_eq!(explain("dave", "X").0, Some(2));
    // The same over API v1.
    let key = running.user(ADMIN).post("/zot/auth/apikey").body("{}").send().await.status(201).json();
    let key = format!("Bearer {}", key["apiKey"].as_str().unwrap());
    let ask = async |query: &str| {
        running.anonymous().get(&format!("/api/v1/superuser/access?{query}")).header("authorization", &key).send().await
    };
    let told = ask("username=dave&repository=team/app").await.status(200).json();
    assert_eq!(told["actions"], json!(["push"]));
    assert_eq!(ask("repository=team/app").await.status(200).json()["actions"], json!(["pull"]));
    ask("username=unknown&repository=x").await.status(404);
    ask("username=dave").await.status(400);
}
