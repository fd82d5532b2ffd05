//! No list shows what a single request would not: random rules, permissions and callers.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};

use crate::accounts::browser::Browser;
use crate::support::content::{descriptor, push_blob, push_image, put_manifest};
use crate::support::http::Caller;
use crate::support::process::{ADMIN, Program};

const REPOSITORIES: [&str; 6] = ["alice/a", "alice/b/c", "bob/a", "team/a", "team/b", "top"];
const PATTERNS: [&str; 8] = ["**", "*", "team/**", "team/a", "alice/**", "{alice,bob}/*", "*/a", "b*/**"];
const ACTIONS: [&str; 4] = ["read", "create", "update", "delete"];

/// Rules with some patterns, each with actions for alice, the group dev, all signed-in users or anonymous callers.
fn rules() -> impl Strategy<Value = Value> {
    let actions = || prop::sample::subsequence(ACTIONS.to_vec(), 0..=2);
    let block = (actions(), actions(), actions(), actions()).prop_map(|(alice, dev, default, anonymous)| {
        json!({
            "policies": [{ "users": ["alice"], "actions": alice }, { "groups": ["dev"], "actions": dev }],
            "defaultPolicy": default,
            "anonymousPolicy": anonymous,
        })
    });
    prop::collection::hash_map(prop::sample::select(PATTERNS.to_vec()), block, 0..4)
        .prop_map(|blocks| json!({ "repositories": blocks.into_iter().collect::<std::collections::BTreeMap<_, _>>() }))
}

#[derive(Clone, Debug)]
struct Case {
    profile: &'static str,
    /// Without rules, the permissions of the database decide.
    rules: Option<Value>,
    public: Vec<&'static str>,
    /// The role of bob, who is in the group dev.
    roles: Vec<(&'static str, &'static str)>,
    /// The repositories that the group dev may read.
    dev: Vec<&'static str>,
    /// Whether the members of the group team, of whom bob is one, may read in team/….
    namespace: bool,
    /// The scopes of alice's API key.
    scopes: Vec<&'static str>,
}

fn case() -> impl Strategy<Value = Case> {
    let some = || prop::sample::subsequence(REPOSITORIES.to_vec(), 0..=2);
    let roles = some().prop_map(|all| all.into_iter().zip(["read", "write"]).collect());
    let scopes = prop::sample::subsequence(vec!["alice/**", "**:pull", "team/*:push", "top", "bob/a:pull"], 1..=3);
    let profile = prop::sample::select(vec!["coracle", "coracle", "zot"]);
    (profile, prop::option::of(rules()), some(), roles, some(), any::<bool>(), scopes).prop_map(
        |(profile, rules, public, roles, dev, namespace, scopes)| Case {
            profile,
            rules,
            public,
            roles,
            dev,
            namespace,
            scopes,
        },
    )
}

#[test]
fn no_list_shows_what_a_single_request_would_not() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut runner = TestRunner::new(Config { cases: 12, failure_persistence: None, ..Config::default() });
    runner.run(&case(), |case| runtime.block_on(holds(case))).unwrap();
}

#[expect(clippy::too_many_lines, reason = "one list is compared after the other")]
async fn holds(case: Case) -> Result<(), TestCaseError> {
    let root = tempfile::tempdir().unwrap();
    let mut config = json!({ "profile": case.profile, "storage": { "commit": false } });
    if let Some(rules) = &case.rules {
        config["http"] = json!({ "accessControl": rules });
    }
    let file = root.path().join("coracle.json");
    std::fs::write(&file, config.to_string()).unwrap();
    let running = Program::serve(root.path()).arg(&file).with_admin().start();
    let admin = running.user(ADMIN);
    let add = |name: &str, groups: &[&str]| {
        let command = Program::new(["user", "add", name, "--root"]).arg(root.path());
        let done = groups.iter().fold(command, |command, group| command.arg("--groups").arg(group)).run();
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        done.stdout.trim().to_owned()
    };
    let passwords = [add("alice", &[]), add("bob", &["dev", "team"])];
    let [alice, bob] =
        [("alice", &passwords[0]), ("bob", &passwords[1])].map(|(name, password)| running.user((name, password)));

    // Every repository has an image, a referrer of it, and one shared blob.
    for repository in REPOSITORIES {
        let manifest = push_image(&admin, repository, "1", 1).await;
        push_blob(&admin, repository, b"shared").await;
        let mut referrer = manifest.clone();
        referrer["subject"] =
            descriptor(manifest["mediaType"].as_str().unwrap(), &crate::support::content::bytes(&manifest));
        put_manifest(&admin, repository, "referrer", &referrer).await.status(201);
    }
    let key = |caller: &Caller, body: Value| caller.post("/zot/auth/apikey").body(body.to_string());
    let admin_key = key(&admin, json!({})).send().await.status(201).json();
    let bearer = format!("Bearer {}", admin_key["apiKey"].as_str().unwrap());
    let tell = async |method: &str, path: String, body: Value| {
        let request = running.anonymous().request(method.parse().unwrap(), &path).header("authorization", &bearer);
        request.header("content-type", "application/json").body(body.to_string()).send().await.status(200);
    };
    for repository in &case.public {
        tell("POST", format!("/api/v1/repository/{repository}/changevisibility"), json!({ "visibility": "public" }))
            .await;
    }
    for (repository, role) in case.roles.iter().filter(|(repository, _)| !repository.starts_with("bob/")) {
        tell("PUT", format!("/api/v1/repository/{repository}/permissions/user/bob"), json!({ "role": role })).await;
    }
    for repository in &case.dev {
        tell("PUT", format!("/api/v1/repository/{repository}/permissions/team/dev"), json!({ "role": "read" })).await;
    }
    if case.namespace {
        let mut session = Browser::of(running.anonymous()).await;
        session.sign_in(ADMIN.0, ADMIN.1).await.status(200);
        session.tell("PUT", "/api/v1/group/team", &json!({ "role": "read" })).await.status(200);
    }
    let scoped = key(&alice, json!({ "scopes": case.scopes })).send().await.status(201).json();
    let scoped = running.user(("alice", scoped["apiKey"].as_str().unwrap()));

    for (who, caller) in
        [("alice", &alice), ("bob", &bob), ("her key", &scoped), ("admin", &admin), ("anonymous", &running.anonymous())]
    {
        let mut readable = Vec::new();
        for repository in REPOSITORIES {
            let manifest = caller.get(&format!("/v2/{repository}/manifests/1")).send().await;
            let may = manifest.status.is_success();
            let tags = caller.get(&format!("/v2/{repository}/tags/list")).send().await.status.is_success();
            prop_assert_eq!(may, tags, "{} {}", who, repository);
            let digest = crate::support::content::sha256(b"shared");
            let head = caller.head(&format!("/v2/{repository}/blobs/{digest}")).send().await.status.is_success();
            prop_assert_eq!(may, head);
            let referrers =
                caller.get(&format!("/v2/{repository}/referrers/{digest}")).send().await.status.is_success();
            prop_assert_eq!(may, referrers);
            if may {
                readable.push(repository);
            }
        }
        let listed = caller.get("/v2/_catalog").send().await;
        if listed.status.is_success() {
            prop_assert_eq!(&listed.json()["repositories"], &json!(readable), "{} of {:?}", who, case);
        } else {
            prop_assert_eq!(who, "anonymous");
        }
        // The pages have the same repositories.
        let (mut paged, mut path) = (Vec::new(), Some("/v2/_catalog?n=1".to_owned()));
        while let Some(next) = path.take() {
            let page = caller.get(&next).send().await;
            if !page.status.is_success() {
                break;
            }
            paged.extend(page.json()["repositories"].as_array().unwrap().clone());
            path = page.header("link").map(|link| link[1..link.find('>').unwrap()].to_owned());
            prop_assert!(paged.len() <= REPOSITORIES.len());
        }
        if who != "anonymous" {
            prop_assert_eq!(Value::Array(paged), json!(readable));
        }
        // The pages for people too, which know sessions only.
        let user = match who {
            "alice" => Some(("alice", &*passwords[0])),
            "bob" => Some(("bob", &*passwords[1])),
            "admin" => Some(ADMIN),
            _ => None,
        };
        if user.is_some() || who == "anonymous" {
            let mut client = crate::ui::client::Client::of(running.anonymous());
            if let Some(user) = user {
                client.sign_in(user).await;
            }
            crate::ui::listing::agrees(&mut client, &REPOSITORIES, &readable).await?;
        }
        // A mount requires the right to pull from the source.
        let digest = crate::support::content::sha256(b"shared");
        let mounted =
            caller.post(&format!("/v2/alice/mounted/blobs/uploads/?mount={digest}")).send().await.status.as_u16();
        if matches!(mounted, 201 | 202) {
            prop_assert_eq!(mounted == 201, !readable.is_empty(), "{} of {:?}", who, case);
            if mounted == 201 {
                admin.delete(&format!("/v2/alice/mounted/blobs/{digest}")).send().await.status(202);
            }
        }
    }
    Ok(())
}
