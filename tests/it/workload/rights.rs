//! The rights of workloads, and the exchange of their tokens.

use coracle::Registry;
use coracle::config::Config;
use serde_json::json;

use super::issuer::{AUDIENCE, Issuer};
use crate::accounts::browser::Browser;
use crate::support::TestRegistry;
use crate::support::content::push_image;
use crate::support::http::{Answer, Caller};
use crate::support::registry::{ALICE, BOB, ROOT};

const RULES: &str = "{ claims = { repository = 'org/app', ref = 'refs/heads/main' }, groups = ['ci'] },\
    { claims = { repository = 'org/lib' }, user = 'alice', scopes = ['alice/app:pull,push'] },\
    { claims = { sub = 'system:serviceaccount:*:deployer', '/kubernetes.io/namespace' = 'prod' } },\
    { claims = { repository = 'org/*' }, groups = ['readers'], scopes = ['team/**:pull'] }";

const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const ID_TOKEN: &str = "urn:ietf:params:oauth:token-type:id_token";

async fn registry(issuer: &Issuer) -> TestRegistry {
    let config = format!(
        "{}[http.accessControl.repositories.'team/**']\npolicies = [\
         {{ groups = ['ci'], actions = ['read', 'create'] }}, {{ groups = ['readers'], actions = ['read', 'create'] }},\
         {{ users = ['{}/system:serviceaccount:prod:deployer'], actions = ['read'] }}]\n",
        issuer.settings("", RULES),
        issuer.url()
    );
    let config = Config::from_toml_str(&config).unwrap().config;
    let builder =
        Registry::builder().config(config).user(ALICE.0, ALICE.1).user(BOB.0, BOB.1).superuser(ROOT.0, ROOT.1);
    let t = TestRegistry::start(builder).await;
    push_image(&t.user(ROOT), "team/app", "1", 1).await;
    push_image(&t.user(ROOT), "alice/app", "1", 2).await;
    t
}

/// Letters for what a caller may do in a repository: pull, push, delete.
async fn may(t: &TestRegistry, authorization: &str, name: &str) -> String {
    let absent = format!("/v2/{name}/manifests/sha256:{}", "0".repeat(64));
    let mut found = String::new();
    for (letter, method, path, done) in [
        ('r', "GET", format!("/v2/{name}/tags/list"), 200),
        ('w', "POST", format!("/v2/{name}/blobs/uploads/"), 202),
        ('d', "DELETE", absent, 404),
    ] {
        let request = t.anonymous().request(method.parse().unwrap(), &path).header("authorization", authorization);
        let answer = request.send().await;
        assert!([done, 401, 403].contains(&answer.status.as_u16()), "{method} {path}: {}", answer.text());
        if answer.status.as_u16() == done {
            found.push(letter);
        }
    }
    found
}

fn basic(t: &TestRegistry, token: &str) -> String {
    t.user(("any", token)).authorization().unwrap().to_owned()
}

async fn form(caller: &Caller, path: &str, fields: &[(&str, &str)]) -> Answer {
    let body: String = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
    caller.post(path).header("content-type", "application/x-www-form-urlencoded").body(body).send().await
}

#[tokio::test]
async fn a_workload_has_the_rights_of_its_rule_and_no_account() {
    let issuer = Issuer::start();
    let t = registry(&issuer).await;
    for (changes, team, alices) in [
        (json!({}), "rw", ""),
        // A subject or a name of a user does not make the token that user.
        (json!({ "sub": "alice", "preferred_username": "alice", "email": "alice@example.org" }), "rw", ""),
        (json!({ "sub": "root" }), "rw", ""),
        (json!({ "repository": "org/lib" }), "", "rw"),
        (json!({ "repository": "org/other" }), "r", ""),
        (json!({ "ref": "refs/pull/1/merge" }), "r", ""),
        (
            json!({ "repository": null, "sub": "system:serviceaccount:prod:deployer", "kubernetes.io": { "namespace": "prod" } }),
            "r",
            "",
        ),
    ] {
        let token = issuer.token(&changes);
        for authorization in [basic(&t, &token), format!("Bearer {token}")] {
            assert_eq!(may(&t, &authorization, "team/app").await, team, "{changes}");
            assert_eq!(may(&t, &authorization, "alice/app").await, alices, "{changes}");
            assert_eq!(may(&t, &authorization, "bob/app").await, "", "{changes}");
        }
    }
    // Nothing that belongs to an account.
    for changes in [json!({}), json!({ "repository": "org/lib" })] {
        let token = issuer.token(&changes);
        for (method, path) in [
            ("GET", "/zot/auth/apikey"),
            ("POST", "/zot/auth/apikey"),
            ("GET", "/metrics"),
            ("GET", "/api/v1/user/"),
            ("GET", "/api/v1/user/apptoken"),
            ("GET", "/api/v1/superuser/users/"),
            ("GET", "/api/v1/repository/alice/app/permissions/user/"),
            ("PUT", "/v2/_zot/ext/userprefs?action=toggleStar&repo=team/app"),
        ] {
            let request = t.anonymous().request(method.parse().unwrap(), path);
            let answer = request.header("authorization", format!("Bearer {token}")).body("{}").send().await;
            assert!([401, 403, 404].contains(&answer.status.as_u16()), "{method} {path}: {}", answer.text());
        }
    }
    let listed = t.user(("any", &issuer.token(&json!({})))).get("/v2/_catalog").send().await.status(200).json();
    assert_eq!(listed["repositories"], json!(["team/app"]));
    let listed = t.user(("any", &issuer.token(&json!({ "repository": "org/lib" })))).get("/v2/_catalog").send().await;
    assert_eq!(listed.status(200).json()["repositories"], json!(["alice/app"]));
}

#[tokio::test]
async fn an_id_token_is_exchanged_for_an_access_token_of_its_scopes() {
    let issuer = Issuer::start();
    let t = registry(&issuer).await;
    let token = issuer.token(&json!({}));
    let caller = t.user(("any", &token));
    let scope = "repository:team/app:pull,push repository:alice/app:pull,push";
    let query = "?scope=repository:team/app:pull,push&scope=repository:alice/app:pull,push";
    let anonymous = t.anonymous();
    let exchanged = [
        caller.get(&format!("/v2/auth{query}")).send().await,
        caller.get(&format!("/zot/auth/token{query}")).send().await,
        form(
            &anonymous,
            "/v2/auth",
            &[("grant_type", "password"), ("username", "any"), ("password", &token), ("scope", scope)],
        )
        .await,
        form(
            &anonymous,
            "/v2/auth",
            &[("grant_type", EXCHANGE), ("subject_token", &token), ("subject_token_type", ID_TOKEN), ("scope", scope)],
        )
        .await,
        form(&anonymous, "/zot/auth/token", &[("password", &token), ("scope", scope)]).await,
        form(&anonymous, "/zot/auth/token", &[("id_token", &token), ("scope", scope)]).await,
    ];
    for answer in exchanged {
        let answer = answer.status(200).json();
        let access = answer["token"].as_str().unwrap();
        assert_eq!(answer["access_token"], access);
        let bearer = format!("Bearer {access}");
        assert_eq!(may(&t, &bearer, "team/app").await, "rw", "{answer}");
        assert_eq!(may(&t, &bearer, "team/other").await, "", "{answer}");
        assert_eq!(may(&t, &bearer, "alice/app").await, "", "{answer}");
        // It gets no other token.
        let again = anonymous.get(&format!("/v2/auth{query}")).header("authorization", &bearer);
        again.send().await.error(401, "UNAUTHORIZED");
        for (kind, field) in [("grant_type", EXCHANGE), ("grant_type", "password")] {
            let fields = [
                (kind, field),
                ("username", "x"),
                ("password", access),
                ("subject_token", access),
                ("subject_token_type", ID_TOKEN),
            ];
            form(&anonymous, "/v2/auth", &fields).await.error(401, "UNAUTHORIZED");
        }
    }
    let standard = form(
        &anonymous,
        "/v2/auth",
        &[("grant_type", EXCHANGE), ("subject_token", &token), ("subject_token_type", ID_TOKEN)],
    )
    .await;
    let standard = standard.status(200).json();
    assert_eq!(standard["issued_token_type"], "urn:ietf:params:oauth:token-type:access_token");
    assert_eq!(standard["token_type"], "Bearer");
    let wrong = [("grant_type", EXCHANGE), ("subject_token", token.as_str()), ("subject_token_type", "urn:x")];
    form(&anonymous, "/v2/auth", &wrong).await.status(400);
    let usual = [("grant_type", EXCHANGE), ("subject_token", token.as_str()), ("subject_token_type", ID_TOKEN)];
    for more in [
        ("requested_token_type", "urn:ietf:params:oauth:token-type:saml2"),
        ("requested_token_type", "urn:ietf:params:oauth:token-type:refresh_token"),
        ("actor_token", token.as_str()),
    ] {
        let refused = form(&anonymous, "/v2/auth", &[&usual[..], &[more]].concat()).await.status(400).json();
        assert_eq!(refused["errors"][0]["detail"]["error"], "invalid_request", "{refused}");
    }
    let same = ("requested_token_type", "urn:ietf:params:oauth:token-type:access_token");
    form(&anonymous, "/v2/auth", &[&usual[..], &[same]].concat()).await.status(200);
    // Credentials that do not count for changes in API v1 get told what counts.
    let path = "/api/v1/repository/team/app/tag/1";
    for authorization in [format!("Bearer {token}"), t.user(ROOT).authorization().unwrap().to_owned()] {
        let change = anonymous.delete(path).header("authorization", &authorization).send().await.status(403).json();
        let message = change["message"].as_str().unwrap();
        assert!(message.contains("need an API key or an access token of this registry"), "{change}");
    }

    // As in zot, the result without scopes is the ID token.
    for answer in
        [caller.get("/zot/auth/token").send().await, form(&anonymous, "/zot/auth/token", &[("token", &token)]).await]
    {
        let answer = answer.status(200).has("cache-control", "no-store").json();
        assert_eq!((&answer["token"], &answer["access_token"]), (&json!(token), &json!(token)));
        assert!((1..=300).contains(&answer["expires_in"].as_i64().unwrap()), "{answer}");
    }
    anonymous.get("/zot/auth/token").send().await.error(401, "UNAUTHORIZED");
    form(&anonymous, "/zot/auth/token", &[]).await.error(401, "UNAUTHORIZED");
    let other = issuer.token(&json!({ "aud": format!("{AUDIENCE}x") }));
    form(&anonymous, "/zot/auth/token", &[("password", &other)]).await.error(401, "UNAUTHORIZED");
}

#[tokio::test]
async fn an_exchanged_token_ends_with_the_user_of_its_rule() {
    let issuer = Issuer::start();
    let t = registry(&issuer).await;
    let id_token = issuer.token(&json!({ "repository": "org/lib" }));
    let query = "/v2/auth?scope=repository:alice/app:pull,push,delete";
    let answer = t.user(("any", &id_token)).get(query).send().await.status(200).json();
    let access = format!("Bearer {}", answer["token"].as_str().unwrap());
    assert_eq!(may(&t, &access, "alice/app").await, "rw");
    let mut session = Browser::signed_in(&t, ROOT).await;
    session.tell("PUT", "/api/v1/superuser/users/alice", &json!({ "enabled": false })).await.status(200);
    assert_eq!(may(&t, &access, "alice/app").await, "");
    assert_eq!(may(&t, &basic(&t, &id_token), "alice/app").await, "");
}

#[tokio::test]
async fn a_workload_has_the_roles_of_the_groups_of_its_rule() {
    let issuer = Issuer::start();
    let t = registry(&issuer).await;
    let authorization = basic(&t, &issuer.token(&json!({})));
    assert_eq!(may(&t, &authorization, "alice/app").await, "");
    let mut session = Browser::signed_in(&t, ROOT).await;
    session.tell("PUT", "/api/v1/group/ci", &json!({})).await;
    let role = "/api/v1/repository/alice/app/permissions/team/ci";
    session.tell("PUT", role, &json!({ "role": "write" })).await.status(200);
    assert_eq!(may(&t, &authorization, "alice/app").await, "rwd");
    session.tell("DELETE", role, &json!({})).await;
    assert_eq!(may(&t, &authorization, "alice/app").await, "");
}

#[test]
fn the_example_of_the_documentation_is_a_configuration() {
    let page = include_str!("../../../docs/access.md");
    let (_, section) = page.split_once("\n## Workload identity\n").unwrap();
    let (_, block) = section.split_once("```toml\n").unwrap();
    let loaded = Config::from_toml_str(block.split_once("```").unwrap().0).unwrap();
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    assert_eq!(loaded.config.http.auth.workload_issuers[0].rules.len(), 2);
}

#[tokio::test]
async fn a_registry_without_issuers_takes_no_id_token() {
    let issuer = Issuer::start();
    let t = TestRegistry::with_users().await;
    let token = issuer.token(&json!({}));
    t.user((ALICE.0, &token)).get("/v2/").send().await.error(401, "UNAUTHORIZED");
    t.anonymous()
        .get("/v2/")
        .header("authorization", format!("Bearer {token}"))
        .send()
        .await
        .error(401, "UNAUTHORIZED");
    t.anonymous().get("/zot/auth/token").send().await.status(404);
    assert_eq!(issuer.requests(), 0);
    // A password of this form is a password.
    let odd = "eyJhbGciOiJub25lIn0.e30.x";
    let t = TestRegistry::start(Registry::builder().user("odd", odd)).await;
    t.user(("odd", odd)).get("/v2/").send().await.status(200);
}
