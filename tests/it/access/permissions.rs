//! Roles, visibility, groups and repositories through API v1, as in Quay, and the matrix of Quay's own tests.

use serde_json::{Value, json};

use crate::accounts::browser::Browser;
use crate::support::TestRegistry;
use crate::support::content::push_image;
use crate::support::http::{Answer, Caller};
use crate::support::registry::{ALICE, BOB, ROOT};

/// A caller of API v1 with an API key.
struct Api {
    caller: Caller,
    bearer: Option<String>,
}

impl Api {
    async fn of(t: &TestRegistry, user: (&str, &str)) -> Self {
        let key = t.user(user).post("/zot/auth/apikey").body("{}").send().await.status(201).json();
        Self { caller: t.anonymous(), bearer: Some(format!("Bearer {}", key["apiKey"].as_str().unwrap())) }
    }

    fn nobody(t: &TestRegistry) -> Self {
        Self { caller: t.anonymous(), bearer: None }
    }

    async fn ask(&self, method: &str, path: &str, body: Value) -> Answer {
        let mut request = self.caller.request(method.parse().unwrap(), &format!("/api/v1/{path}"));
        if let Some(bearer) = &self.bearer {
            request = request.header("authorization", bearer);
        }
        let body = if body.is_null() { String::new() } else { body.to_string() };
        request.header("content-type", "application/json").body(body).send().await
    }

    async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, Value::Null).await
    }
}

#[tokio::test]
async fn repositories_are_made_described_listed_and_removed() {
    let t = TestRegistry::with_users().await;
    let (alice, bob, nobody) = (Api::of(&t, ALICE).await, Api::of(&t, BOB).await, Api::nobody(&t));
    let new = json!({ "repository": "empty", "visibility": "private", "description": "mine" });
    let made = alice.ask("POST", "repository", new.clone()).await.status(201).json();
    assert_eq!(made, json!({ "namespace": "alice", "name": "empty", "kind": "image" }));
    let again = alice.ask("POST", "repository", new).await.status(400).json();
    assert_eq!(again["detail"], "Repository already exists");
    for (body, status) in [
        (json!({ "repository": "x", "visibility": "private", "description": "", "namespace": "bob" }), 403),
        (json!({ "repository": "X", "visibility": "private", "description": "" }), 400),
        (json!({ "repository": "x", "visibility": "secret", "description": "" }), 400),
        (json!({ "repository": "x/tag/v1", "visibility": "private", "description": "" }), 400),
        (json!({ "repository": "x/changevisibility", "visibility": "private", "description": "" }), 400),
        (json!({ "repository": "x", "visibility": "private" }), 400),
        (json!({ "repository": "x", "visibility": "private", "description": "", "repo_kind": "application" }), 400),
    ] {
        alice.ask("POST", "repository", body).await.status(status);
    }
    push_image(&t.user(ALICE), "alice/deep/er", "1", 1).await;
    push_image(&t.user(ALICE), "alice/deep/er", "2", 2).await;

    let list = alice.get("repository?namespace=alice").await.status(200).json();
    let names: Vec<&str> =
        list["repositories"].as_array().unwrap().iter().filter_map(|one| one["name"].as_str()).collect();
    assert_eq!(names, ["deep/er", "empty"]);
    assert_eq!(list["repositories"][1]["description"], "mine");
    assert_eq!(bob.get("repository?namespace=alice").await.status(200).json()["repositories"], json!([]));
    assert_eq!(alice.get("repository").await.status(200).json(), list);
    alice.get("repository?namespace=A").await.status(400);

    let shown = alice.get("repository/alice/deep/er").await.status(200).json();
    assert_eq!(
        (&shown["can_write"], &shown["can_admin"], &shown["is_public"]),
        (&json!(true), &json!(true), &json!(false))
    );
    assert_eq!(shown["tags"].as_object().unwrap().len(), 2);
    assert!(shown["tags"]["1"]["manifest_digest"].as_str().unwrap().starts_with("sha256:"));
    alice.ask("PUT", "repository/alice/deep/er", json!({ "description": "deeper" })).await.status(200);
    assert_eq!(alice.get("repository/alice/deep/er").await.json()["description"], "deeper");
    // An empty repository exists: it can be pulled from and has no tags.
    assert_eq!(t.user(ALICE).get("/v2/alice/empty/tags/list").send().await.status(200).json()["tags"], json!([]));

    // All callers may pull a public repository, also without a token, and all lists show it.
    nobody.get("repository/alice/deep/er").await.status(401);
    let visibility = |to: &str| json!({ "visibility": to });
    bob.ask("POST", "repository/alice/deep/er/changevisibility", visibility("public")).await.status(403);
    alice.ask("POST", "repository/alice/deep/er/changevisibility", visibility("public")).await.status(200);
    nobody.get("repository/alice/deep/er").await.status(200);
    t.anonymous().get("/v2/alice/deep/er/manifests/1").send().await.status(200);
    t.anonymous().post("/v2/alice/deep/er/blobs/uploads/").send().await.error(401, "UNAUTHORIZED");
    t.user(BOB).post("/v2/alice/deep/er/blobs/uploads/").send().await.error(403, "DENIED");
    let public = nobody.get("repository?public=true").await.status(200).json();
    assert_eq!(public["repositories"][0]["name"], "deep/er");
    let listed = t.user(BOB).get("/v2/_catalog").send().await.status(200).json();
    assert_eq!(listed["repositories"], json!(["alice/deep/er"]));
    alice.ask("POST", "repository/alice/deep/er/changevisibility", visibility("private")).await.status(200);
    t.anonymous().get("/v2/alice/deep/er/manifests/1").send().await.error(401, "UNAUTHORIZED");

    // It is removed completely. Callers without rights get the same response before and after.
    bob.ask("DELETE", "repository/alice/deep/er", Value::Null).await.status(403);
    alice.ask("POST", "repository/alice/deep/er/changevisibility", visibility("public")).await.status(200);
    alice.ask("DELETE", "repository/alice/deep/er", Value::Null).await.status(204);
    alice.ask("DELETE", "repository/alice/deep/er", Value::Null).await.status(404);
    bob.ask("DELETE", "repository/alice/deep/er", Value::Null).await.status(403);
    alice.get("repository/alice/deep/er").await.status(404);
    t.user(ALICE).get("/v2/alice/deep/er/tags/list").send().await.error(404, "NAME_UNKNOWN");
    alice.ask("DELETE", "repository/alice/empty", Value::Null).await.status(204);
    let blobs = t.registry.data_dir().join("blobs/sha256");
    assert_eq!(std::fs::read_dir(blobs).unwrap().count(), 0, "unreferenced blobs were left");
    // A new repository of the same name is not public.
    push_image(&t.user(ALICE), "alice/deep/er", "1", 1).await;
    t.anonymous().get("/v2/alice/deep/er/manifests/1").send().await.error(401, "UNAUTHORIZED");
}

#[tokio::test]
async fn roles_of_users_and_groups() {
    let t = TestRegistry::with_users().await;
    let (alice, bob, root) = (Api::of(&t, ALICE).await, Api::of(&t, BOB).await, Api::of(&t, ROOT).await);
    push_image(&t.user(ALICE), "alice/x", "1", 1).await;
    let roles = "repository/alice/x/permissions";
    let may = async || {
        let bob = t.user(BOB);
        let pull = bob.get("/v2/alice/x/tags/list").send().await.status.as_u16();
        let push = bob.post("/v2/alice/x/blobs/uploads/").send().await.status.as_u16();
        let delete = bob.delete("/v2/alice/x/manifests/absent").send().await.status.as_u16();
        [pull, push, delete]
    };
    assert_eq!(may().await, [403, 403, 403]);
    for (role, expected) in [("read", [200, 403, 403]), ("write", [200, 202, 404]), ("admin", [200, 202, 404])] {
        let set = alice.ask("PUT", &format!("{roles}/user/bob"), json!({ "role": role })).await.status(200).json();
        assert_eq!((&set["role"], &set["name"], &set["is_robot"]), (&json!(role), &json!("bob"), &json!(false)));
        assert_eq!(may().await, expected, "{role}");
        let sees = bob.get(&format!("{roles}/user/")).await.status.as_u16();
        assert_eq!(sees, if role == "admin" { 200 } else { 403 });
    }
    let listed = alice.get(&format!("{roles}/user/")).await.status(200).json();
    assert_eq!(listed["permissions"]["bob"]["role"], "admin");
    assert_eq!(alice.get(&format!("{roles}/user/bob")).await.status(200).json()["role"], "admin");
    let all = alice.get(&format!("{roles}/user/bob/transitive")).await.status(200).json();
    assert_eq!(all, json!({ "permissions": [{ "role": "admin" }] }));
    alice.ask("DELETE", &format!("{roles}/user/bob"), Value::Null).await.status(204);
    assert_eq!(may().await, [403, 403, 403]);
    alice.get(&format!("{roles}/user/bob")).await.status(404);
    alice.get(&format!("{roles}/user/bob/transitive")).await.status(404);
    // The requests that Quay answers with 400.
    for (method, who, body, detail) in [
        ("DELETE", "bob", Value::Null, "User does not have permission for repo."),
        ("PUT", "nobodyx", json!({ "role": "read" }), "Invalid username: nobodyx"),
        ("PUT", "alice", json!({ "role": "read" }), "Namespace owner must always be admin."),
        ("PUT", "bob", json!({ "role": "owner" }), "a role is read, write or admin"),
    ] {
        let refused = alice.ask(method, &format!("{roles}/user/{who}"), body).await.status(400).json();
        assert_eq!(refused["detail"], detail);
    }

    // Groups have roles in repositories and in the namespace of their name.
    let mut session = Browser::signed_in(&t, ROOT).await;
    bob.ask("PUT", "group/dev", json!({ "role": "write" })).await.status(403);
    let made = session
        .tell("PUT", "/api/v1/group/dev", &json!({ "role": "member", "description": "developers" }))
        .await
        .status(200)
        .json();
    assert_eq!((&made["new_team"], &made["role"]), (&json!(true), &json!("member")));
    alice.ask("PUT", &format!("{roles}/team/dev"), json!({ "role": "write" })).await.status(200);
    assert_eq!(may().await, [403, 403, 403]);
    session.tell("PUT", "/api/v1/group/dev/members/bob", &json!({})).await.status(200);
    assert_eq!(may().await, [200, 202, 404]);
    let members = root.get("group/dev/members").await.status(200).json();
    assert_eq!(members["members"][0]["name"], "bob");
    let permitted = root.get("group/dev/permissions").await.status(200).json();
    assert_eq!(
        permitted["permissions"],
        json!([{ "repository": { "name": "alice/x", "is_public": false }, "role": "write" }])
    );
    t.user(BOB).post("/v2/dev/x/blobs/uploads/").send().await.error(403, "DENIED");
    session.tell("PUT", "/api/v1/group/dev", &json!({ "role": "write" })).await.status(200);
    t.user(BOB).post("/v2/dev/x/blobs/uploads/").send().await.status(202);
    t.user(ALICE).post("/v2/dev/x/blobs/uploads/").send().await.error(403, "DENIED");
    let groups = root.get("group/").await.status(200).json();
    assert_eq!(
        (&groups["groups"][0]["member_count"], &groups["groups"][0]["description"]),
        (&json!(1), &json!("developers"))
    );
    root.ask("DELETE", "group/dev/members/bob", Value::Null).await.status(204);
    root.ask("DELETE", "group/dev/members/bob", Value::Null).await.status(404);
    assert_eq!(may().await, [403, 403, 403]);
    session.tell("PUT", "/api/v1/group/dev/members/bob", &json!({})).await.status(200);
    root.ask("DELETE", "group/dev", Value::Null).await.status(204);
    root.ask("DELETE", "group/dev", Value::Null).await.status(404);
    assert_eq!(may().await, [403, 403, 403]);
    t.user(BOB).post("/v2/dev/x/blobs/uploads/").send().await.error(403, "DENIED");
}

/// reference: Quay's own matrix, for the resources that this registry has: an anonymous caller, an unrelated user, a
/// reader, the owner, a read-only superuser.
#[tokio::test]
async fn quays_matrix() {
    let t = TestRegistry::with_users().await;
    let add = async |name: &'static str, read_only: bool| {
        let root = t.registry.data_dir();
        let password = tokio::task::spawn_blocking(move || {
            let arguments: &[&str] =
                if read_only { &["user", "add", name, "--read-only-superuser"] } else { &["user", "add", name] };
            let done = crate::support::process::Program::new(arguments).arg("--root").arg(root).run();
            assert_eq!(done.code, Some(0), "{}", done.stderr);
            done.stdout.trim().to_owned()
        });
        Api::of(&t, (name, &password.await.unwrap())).await
    };
    let (reader, overseer) = (add("reader", false).await, add("overseer", true).await);
    let (owner, fresh, nobody) = (Api::of(&t, ALICE).await, Api::of(&t, BOB).await, Api::nobody(&t));
    for name in ["public", "private"] {
        push_image(&t.user(ALICE), &format!("alice/{name}"), "1", 1).await;
    }
    owner.ask("POST", "repository/alice/public/changevisibility", json!({ "visibility": "public" })).await.status(200);
    owner.ask("PUT", "repository/alice/private/permissions/user/reader", json!({ "role": "read" })).await.status(200);
    let callers = [nobody, fresh, reader, owner, overseer];
    let none = Value::Null;
    // An anonymous caller lacks the CSRF token of an unsafe request, so it gets 403. Quay's test has one and gets 401.
    for (method, path, body, expected) in [
        ("GET", "repository/alice/public", none.clone(), [200, 200, 200, 200, 200]),
        ("GET", "repository/alice/private", none.clone(), [401, 403, 200, 200, 200]),
        ("GET", "repository/alice/absent", none.clone(), [401, 403, 403, 404, 404]),
        ("PUT", "repository/alice/private", json!({ "description": "" }), [403, 403, 403, 200, 403]),
        (
            "POST",
            "repository/alice/private/changevisibility",
            json!({ "visibility": "private" }),
            [403, 403, 403, 200, 403],
        ),
        ("GET", "repository/alice/private/permissions/user/", none.clone(), [401, 403, 403, 200, 200]),
        ("GET", "repository/alice/private/permissions/team/", none.clone(), [401, 403, 403, 200, 200]),
        ("PUT", "repository/alice/private/permissions/user/bob", json!({ "role": "read" }), [403, 403, 403, 200, 403]),
        ("DELETE", "repository/alice/private/permissions/user/bob", none.clone(), [403, 403, 403, 204, 403]),
        ("GET", "superuser/users/", none.clone(), [401, 403, 403, 403, 200]),
        ("GET", "superuser/logs", none.clone(), [401, 403, 403, 403, 200]),
        ("POST", "superuser/users/", json!({}), [403, 403, 403, 403, 403]),
        ("GET", "user/", none.clone(), [401, 200, 200, 200, 200]),
        // The callers have API keys, which may not list keys. Those of Quay's test have sessions.
        ("GET", "user/apptoken", none.clone(), [401, 403, 403, 403, 403]),
        ("GET", "discovery", none.clone(), [200, 200, 200, 200, 200]),
        ("DELETE", "repository/alice/private", none.clone(), [403, 403, 403, 204, 403]),
    ] {
        let mut heard = Vec::new();
        for caller in &callers {
            heard.push(caller.ask(method, path, body.clone()).await.status.as_u16());
        }
        assert_eq!(heard, expected, "{method} {path}");
    }
}
