//! The rows about signing in, API keys and rules of access.

use coracle::Registry;
use coracle::config::Config;
use serde_json::json;

use crate::support::TestRegistry;
use crate::support::content::{push_image, start_upload};
use crate::support::http::Caller;
use crate::support::raw::exchange;
use crate::support::registry::{ALICE, BOB, ROOT};

/// A registry in zot's profile with these rules.
async fn ruled(repositories: &str) -> TestRegistry {
    let text = format!("profile = 'zot'\n[http.accessControl.repositories]\n{repositories}\n");
    let config = Config::from_toml_str(&text).unwrap().config;
    let builder = Registry::builder().config(config).user(ALICE.0, ALICE.1).user(BOB.0, BOB.1);
    TestRegistry::start(builder.superuser(ROOT.0, ROOT.1)).await
}

/// The reason why a configuration is refused.
fn refused(repositories: &str) -> String {
    Config::from_toml_str(&format!("[http.accessControl.repositories]\n{repositories}\n")).unwrap_err().to_string()
}

/// A registry in zot's profile whose directory is at a port where this listens.
async fn with_directory(port: u16) -> TestRegistry {
    let text = format!(
        "profile = 'zot'\n[http.auth.ldap]\naddress = '127.0.0.1'\nport = {port}\ninsecure = true\nbaseDN = 'dc=x'\n\
         userAttribute = 'uid'\n"
    );
    let config = Config::from_toml_str(&text).unwrap().config;
    TestRegistry::start(Registry::builder().config(config).user(ALICE.0, ALICE.1)).await
}

checks! {
    async fn a_password_is_not_wrong_while_the_directory_is_away(_caller, _repository) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let t = with_directory(listener.local_addr().unwrap().port()).await;
        drop(listener);
        let refused = t.user(("carol", "her password")).get("/v2/").send().await.status(503);
        assert!(refused.header("retry-after").is_some());
    }

    async fn only_passwords_of_its_users_are_sent_to_the_directory(_caller, _repository) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let t = with_directory(listener.local_addr().unwrap().port()).await;
        t.user((ALICE.0, "wrong")).get("/v2/").send().await.status(401);
        let key = format!("zak_{}", "0".repeat(32));
        for name in ["alice", "carol"] {
            t.user((name, &key)).get("/v2/").send().await.status(401);
        }
        let asked = listener.accept().map(drop).map_err(|error| error.kind());
        assert_eq!(asked, Err(std::io::ErrorKind::WouldBlock), "the directory was asked");
    }

    async fn a_uri_must_match_as_a_whole(_caller, _repository) {
        crate::client_certificates::a_uri_must_match_as_a_whole().await;
    }

    async fn no_challenge_on_success(caller, _repository) {
        let answer = caller.get("/v2/").send().await.status(200);
        assert_eq!(answer.header("www-authenticate"), None);
    }

    async fn there_is_a_token_service(caller, repository) {
        let answer = caller.get(&format!("/v2/auth?scope=repository:{repository}:pull")).send().await.status(200).json();
        let bearer = format!("Bearer {}", answer["token"].as_str().unwrap());
        let stranger = Caller::new(caller.address(), None);
        stranger.get("/v2/").header("authorization", bearer).send().await.status(200);
    }

    async fn the_first_request_is_challenged(_caller, _repository) {
        let t = ruled("\"base/**\" = { anonymousPolicy = ['read'] }").await;
        t.anonymous().get("/v2/").send().await.error(401, "UNAUTHORIZED");
        t.user(ALICE).get("/v2/").send().await.status(200);
        t.anonymous().get("/v2/").header("x-zot-api-client", "zot-ui").send().await.status(200);
    }

    async fn public_content_brings_a_bearer_challenge(_caller, _repository) {
        let t = ruled("\"base/**\" = { anonymousPolicy = ['read'] }").await;
        push_image(&t.user(ROOT), "base/x", "1", 1).await;
        let refused = t.anonymous().post("/v2/base/x/blobs/uploads/").send().await.error(401, "UNAUTHORIZED");
        assert!(refused.header("www-authenticate").unwrap().starts_with("Bearer "));
        let answer = t.anonymous().get("/v2/auth?scope=repository:base/x:pull").send().await.status(200).json();
        let bearer = format!("Bearer {}", answer["token"].as_str().unwrap());
        t.anonymous().get("/v2/base/x/manifests/1").header("authorization", bearer).send().await.status(200);
    }

    async fn scopes_of_keys_are_enforced(caller, repository) {
        push_image(&caller, repository, "1", 1).await;
        let body = json!({ "scopes": ["elsewhere"] }).to_string();
        let key = caller.post("/zot/auth/apikey").body(body).send().await.status(201).json();
        let by_key = Caller::new(caller.address(), Some((ALICE.0, key["apiKey"].as_str().unwrap())));
        by_key.get(&format!("/v2/{repository}/tags/list")).send().await.error(403, "DENIED");
    }

    async fn scopes_that_match_nothing_are_refused(caller, _repository) {
        for scope in ["!alice/**", "alice/{a", "/alice", "alice/team**", "Alice/app"] {
            let body = json!({ "scopes": [scope] }).to_string();
            caller.post("/zot/auth/apikey").body(body).send().await.error(400, "UNSUPPORTED");
        }
    }

    async fn useless_scopes_are_warned_of(_caller, _repository) {
        let t = ruled("\"team/**\" = { defaultPolicy = ['read'] }").await;
        for (scope, warns) in [("repo1", true), ("team/app", false)] {
            let body = json!({ "scopes": [scope] }).to_string();
            let made = t.user(ALICE).post("/zot/auth/apikey").body(body).send().await.status(201);
            assert_eq!(made.header("warning").is_some_and(|warning| warning.starts_with("299 - ")), warns);
        }
    }

    async fn unknown_fields_of_keys_are_refused(caller, _repository) {
        caller.post("/zot/auth/apikey").body(r#"{"scope": ["x"]}"#).send().await.error(400, "UNSUPPORTED");
        caller.post("/zot/auth/apikey").body(r#"{"LABEL": "x", "Scopes": ["x"]}"#).send().await.status(201);
    }

    async fn no_key_outlives_the_key_that_made_it(caller, _repository) {
        let end = "2999-12-31T23:59:59Z";
        let body = json!({ "expirationDate": end }).to_string();
        let made = caller.post("/zot/auth/apikey").body(body).send().await.status(201).json();
        let by_key = Caller::new(caller.address(), Some((ALICE.0, made["apiKey"].as_str().unwrap())));
        let made = by_key.post("/zot/auth/apikey").body("{}").send().await.status(201).json();
        assert_eq!(made["expirationDate"], end);
        let later = r#"{"expirationDate": "3000-01-01T00:00:00Z"}"#;
        by_key.post("/zot/auth/apikey").body(later).send().await.error(400, "UNSUPPORTED");
    }

    async fn ends_beyond_the_range_are_the_latest(caller, _repository) {
        let body = r#"{"expirationDate": "9999-12-31T23:59:59Z"}"#;
        let made = caller.post("/zot/auth/apikey").body(body).send().await.status(201).json();
        assert_eq!(made["expirationDate"], "9999-12-30T22:00:00Z");
    }

    async fn patterns_that_match_nothing_are_refused(_caller, _repository) {
        assert!(refused("\"Team/**\" = { defaultPolicy = ['read'] }").contains("has the character 'T'"));
        assert!(refused("\"team/app**\" = { defaultPolicy = ['read'] }").contains("has ** next to other characters"));
    }

    async fn errors_of_the_key_routes_say_why(caller, _repository) {
        let refused = caller.post("/zot/auth/apikey").body("{").send().await.status(400).json();
        assert!(!refused["errors"][0]["message"].as_str().unwrap().is_empty());
    }

    async fn a_star_among_users_is_warned_about(_caller, _repository) {
        let policies = "policies = [{ users = ['*'], actions = ['read'] }]";
        let text = format!("[http.accessControl.repositories.'**']\n{policies}\n");
        let warnings = format!("{:?}", Config::from_toml_str(&text).unwrap().warnings);
        assert!(warnings.contains("is not a user") && warnings.contains("defaultPolicy"), "{warnings}");
        let t = ruled(&format!("'**' = {{ {policies} }}")).await;
        t.user(ALICE).get("/v2/alice/app/tags/list").send().await.error(403, "DENIED");
    }

    async fn keys_end_with_a_user_of_the_file(_caller, _repository) {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("htpasswd");
        let write = |name: &str| std::fs::write(&file, format!("{name}:{}\n", bcrypt::hash("x", 4).unwrap())).unwrap();
        write("dave");
        let text = format!("profile = 'zot'\n[http.auth.htpasswd]\npath = '{}'\n", file.display());
        let builder = Registry::builder().config(Config::from_toml_str(&text).unwrap().config);
        let t = TestRegistry::start(builder).await;
        let key = t.user(("dave", "x")).post("/zot/auth/apikey").body("{}").send().await.status(201).json();
        write("erin");
        let by_key = t.user(("dave", key["apiKey"].as_str().unwrap()));
        let refused = async || by_key.get("/v2/").send().await.status == 401;
        crate::openid::people::until("the key ends", refused).await;
    }

    async fn guessers_are_told_when_to_come_back(caller, _repository) {
        let mut last = None;
        for n in 0..8 {
            let guesser = Caller::new(caller.address(), Some(("guessed", &format!("guess {n}"))));
            let answer = guesser.at([127, 0, 0, 77]).get("/v2/").send().await;
            last = Some((answer.status.as_u16(), answer.header("retry-after").is_some()));
        }
        assert_eq!(last, Some((429, true)));
    }

    async fn no_challenge_with_403(_caller, _repository) {
        let t = ruled("\"**\" = { anonymousPolicy = ['read'] }").await;
        let denied = t.user(ALICE).get("/v2/x/tags/list").send().await.error(403, "DENIED");
        assert_eq!(denied.header("www-authenticate"), None);
    }

    async fn patterns_of_one_length_are_ordered(_caller, _repository) {
        let t = ruled("\"a/?\" = { defaultPolicy = ['read'] }\n\"a/*\" = { defaultPolicy = [] }").await;
        t.user(ALICE).get("/v2/a/b/tags/list").send().await.error(403, "DENIED");
    }

    async fn another_origin_changes_nothing(caller, repository) {
        let upload = || caller.post(&format!("/v2/{repository}/blobs/uploads/"));
        upload().header("origin", "https://evil.example").send().await.error(403, "DENIED");
        upload().header("sec-fetch-site", "same-site").send().await.error(403, "DENIED");
        upload().header("origin", format!("http://{}", caller.address())).send().await.status(202);
    }

    async fn another_hosts_name_opens_nothing(_caller, _repository) {
        let t = TestRegistry::open().await;
        for (host, status) in [("evil.example", 403), ("localhost", 200)] {
            let head = format!("GET /v2/_catalog HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
            assert_eq!(exchange(t.running.address(), head.as_bytes(), false).await.status, status);
        }
    }

    async fn names_keep_their_case(_caller, _repository) {
        let rules = "\"**\" = { policies = [{ groups = ['Dev'], actions = ['read'] }] }\n[http.accessControl.groups.Dev]\nusers = ['alice']";
        let t = ruled(rules).await;
        t.user(ALICE).get("/v2/a/b/tags/list").send().await.error(404, "NAME_UNKNOWN");
        t.user(BOB).get("/v2/a/b/tags/list").send().await.error(403, "DENIED");
    }

    async fn unknown_actions_are_refused(_caller, _repository) {
        assert!(refused("\"**\" = { defaultPolicy = ['push'] }").contains("defaultPolicy"));
    }

    async fn conditions_are_refused(_caller, _repository) {
        let rules = "\"**\" = { policies = [{ users = ['a'], actions = ['read'], conditions = [{ expression = 'true' }] }] }";
        assert!(refused(rules).contains("conditions: not supported"));
    }

    async fn cancelling_needs_no_right_to_delete(_caller, _repository) {
        let t = ruled("\"**\" = { defaultPolicy = ['read', 'create'] }").await;
        let upload = start_upload(&t.user(ALICE), "a/b").await;
        t.user(ALICE).delete(&upload).send().await.status(204);
    }

    async fn superusers_stand_above_the_rules(_caller, _repository) {
        let t = ruled("\"**\" = { policies = [] }").await;
        t.user(ROOT).get("/metrics").send().await.status(200);
        push_image(&t.user(ROOT), "a/b", "1", 1).await;
        t.user(ALICE).get("/metrics").send().await.error(403, "DENIED");
    }

    async fn permissions_add_to_the_rules(_caller, _repository) {
        let t = ruled("\"**\" = { policies = [] }").await;
        push_image(&t.user(ROOT), "a/b", "1", 1).await;
        let key = t.user(ROOT).post("/zot/auth/apikey").body("{}").send().await.status(201).json();
        let bearer = format!("Bearer {}", key["apiKey"].as_str().unwrap());
        let request = t.anonymous().put("/api/v1/repository/a/b/permissions/user/alice").header("authorization", bearer);
        request.body(json!({ "role": "read" }).to_string()).send().await.status(200);
        t.user(ALICE).get("/v2/a/b/tags/list").send().await.status(200);
        t.user(BOB).get("/v2/a/b/tags/list").send().await.error(403, "DENIED");
    }
}
