//! The life of federated users: their groups, names and addresses change at the provider, they are disabled here, they
//! leave, and the provider is unavailable for a while.

use hyper::Method;
use serde_json::{Value, json};

use super::agent::Agent;
use super::hostile::Hostile;
use super::player::Answer;
use super::registry::{Registry, is_a_clear_page};
use crate::support::content::push_image;
use crate::support::process::ADMIN;

/// Members of `dev` may write in `team/`, and no other caller has rights there.
const RULES: &str = "[http.accessControl.repositories.'team/**']\n\
    policies = [{ groups = ['dev'], actions = ['read', 'create', 'update', 'delete'] }]\n";

/// The status of reading a list of tags as this user.
async fn reads(registry: &Registry, name: &str, key: &str) -> u16 {
    registry.running.user((name, key)).get("/v2/team/app/tags/list").send().await.status.as_u16()
}

#[tokio::test]
async fn groups_are_those_of_the_last_sign_in_and_rules_follow_at_once() {
    let hostile = Hostile::start().await;
    let rules = RULES.replace("groups = ['dev']", "users = ['admin'], groups = ['dev']");
    let registry = Registry::knowing_with(&[("oidc", &hostile)], &rules);
    push_image(&registry.running.user(ADMIN), "team/app", "1", 1).await;
    let mut agent = registry.signed_in("oidc").await;
    let key = registry.new_key(&mut agent).await;
    let name = "mallory@example.org";
    let denied = reads(&registry, name, &key).await;
    assert!([403, 404].contains(&denied), "guests see nothing there: {denied}");
    for (groups, expected) in [
        (json!(["guests", "dev"]), 200),
        (json!(["guests"]), denied),
        (json!("dev"), 200),
        (json!([]), denied),
        (json!(["dev", "dev", ""]), 200),
        (json!(null), denied),
        (json!([{ "name": "dev" }]), denied),
        (json!(["DEV", "dev "]), denied),
    ] {
        hostile.script().claims["groups"] = groups.clone();
        let again = registry.signed_in("oidc").await;
        drop(again);
        // The key and another session of the browser are older.
        assert_eq!(reads(&registry, name, &key).await, expected, "{groups}");
        let page = agent.ui(Method::GET, &registry.at("/v2/team/app/tags/list"), "").await;
        assert_eq!(page.status, expected, "{groups}");
    }
}

/// Groups of userinfo and of the ID token are joined, as in zot.
#[tokio::test]
async fn groups_come_from_both_responses_of_the_provider() {
    let hostile = Hostile::start().await;
    let registry = Registry::knowing(&[("oidc", &hostile)]);
    hostile.script().id_token = Box::new(|claims| claims["groups"] = json!(["b", "a"]));
    hostile.script().userinfo = Box::new(|claims| claims["groups"] = json!(["c", "a"]));
    let mut agent = registry.signed_in("oidc").await;
    let account = registry.account(&mut agent).await.unwrap();
    assert_eq!(account["groups"], json!(["a", "b", "c"]), "{account}");
}

/// Groups that were assigned here are stored apart from those of the provider.
#[tokio::test]
async fn groups_that_were_assigned_here_stay() {
    let hostile = Hostile::start().await;
    let registry = Registry::knowing(&[("oidc", &hostile)]);
    let mut agent = registry.signed_in("oidc").await;
    registry.coracle(&["user", "groups", "mallory@example.org", "operators"], "");
    hostile.script().claims["groups"] = json!(["others"]);
    registry.sign_in(&mut agent, "oidc").await.status(201);
    let account = registry.account(&mut agent).await.unwrap();
    assert_eq!(account["groups"], json!(["operators", "others"]), "{account}");
}

/// The subject identifies a user. The address is only the current name.
#[tokio::test]
async fn a_user_with_a_new_address_is_the_same_user() {
    let hostile = Hostile::start().await;
    let registry = Registry::knowing(&[("oidc", &hostile)]);
    let mut agent = registry.signed_in("oidc").await;
    let (key, users) = (registry.new_key(&mut agent).await, registry.users());
    hostile.script().claims["email"] = json!("mallory@new.example");
    let mut agent = registry.signed_in("oidc").await;
    assert_eq!(registry.users(), users, "no second user was created");
    let name = registry.name(&mut agent).await.unwrap();
    assert_eq!(registry.status(&name, &key).await, 200);
}

/// The identity is stored in the database.
#[tokio::test]
async fn a_user_is_the_same_after_a_restart() {
    let hostile = Hostile::start().await;
    let table = super::registry::table("oidc", &hostile.issuer(), super::hostile::CLIENT);
    let registry = Registry::start(&table);
    let mut agent = registry.signed_in("oidc").await;
    let key = registry.new_key(&mut agent).await;
    let registry = registry.restart(&table);
    assert_eq!(registry.status("mallory@example.org", &key).await, 200);
    hostile.script().claims["sub"] = json!("another user with this address");
    registry.sign_in(&mut Agent::default(), "oidc").await.status(403);
    hostile.script().claims["sub"] = super::hostile::mallory()["sub"].clone();
    registry.signed_in("oidc").await;
    assert_eq!(registry.users().len(), 2, "admin, and one person");
}

#[tokio::test]
async fn a_disabled_user_is_refused() {
    let hostile = Hostile::start().await;
    let registry = Registry::knowing(&[("oidc", &hostile)]);
    let mut agent = registry.signed_in("oidc").await;
    let key = registry.new_key(&mut agent).await;
    registry.coracle(&["user", "disable", "mallory@example.org"], "");
    assert_eq!(registry.name(&mut agent).await, None);
    assert_eq!(registry.status("mallory@example.org", &key).await, 401);
    let page = registry.sign_in(&mut agent, "oidc").await.status(403);
    is_a_clear_page(&page);
    assert_eq!(registry.name(&mut agent).await, None);
    registry.coracle(&["user", "enable", "mallory@example.org"], "");
    registry.sign_in(&mut agent, "oidc").await.status(201);
    assert_eq!(registry.status("mallory@example.org", &key).await, 200);
}

/// The configured claim is the name. If it is missing, the address is, as in zot.
#[tokio::test]
async fn the_name_is_the_configured_claim() {
    for (claim, expected) in
        [("preferred_username", "mallory"), ("sub", "subject-of-mallory"), ("nickname", "mallory@example.org")]
    {
        let hostile = Hostile::start().await;
        let table = super::registry::table("oidc", &hostile.issuer(), super::hostile::CLIENT);
        let registry = Registry::start(&format!("{table}claimMapping = {{ username = '{claim}' }}\n"));
        let mut agent = registry.signed_in("oidc").await;
        assert_eq!(registry.name(&mut agent).await.as_deref(), Some(expected), "{claim}");
    }
}

/// Waits until a condition holds, because the registry checks periodically.
pub async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    for _ in 0..600 {
        if holds().await {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("{what}: not within half a minute");
}

/// A registry that asks the provider about its users as often as possible.
fn rechecking(hostile: &Hostile) -> Registry {
    Registry::knowing_with(&[("oidc", hostile)], "[http.auth.openid]\nrecheck = '1s'\n")
}

#[tokio::test]
async fn keys_and_sessions_of_a_user_who_has_left_stop_until_the_user_is_back() {
    let hostile = Hostile::start().await;
    hostile.script().refresh_tokens = true;
    let registry = rechecking(&hostile);
    let mut agent = registry.signed_in("oidc").await;
    let key = registry.new_key(&mut agent).await;
    let name = "mallory@example.org";
    let refreshed =
        || hostile.asked("/token").iter().filter(|asked| asked.form("grant_type") == "refresh_token").count();
    // While the provider knows the user nothing changes, with any of the refresh tokens.
    until("the provider is asked again", async || {
        assert_eq!(registry.status(name, &key).await, 200);
        refreshed() >= 2
    })
    .await;
    hostile.script().gone = true;
    until("the key stops", async || registry.status(name, &key).await == 401).await;
    assert_eq!(registry.name(&mut agent).await, None, "so does the session");
    // Other users are not affected, and the provider is not asked forever.
    assert_eq!(registry.status(ADMIN.0, ADMIN.1).await, 200);
    hostile.script().gone = false;
    registry.sign_in(&mut agent, "oidc").await.status(201);
    assert_eq!(registry.status(name, &key).await, 200, "a user who is back has the earlier keys");
}

/// A provider that is unavailable says nothing about its users.
#[tokio::test]
async fn a_provider_that_is_unavailable_ends_no_keys() {
    let mut hostile = Hostile::start().await;
    hostile.script().refresh_tokens = true;
    let registry = rechecking(&hostile);
    let mut agent = registry.signed_in("oidc").await;
    let key = registry.new_key(&mut agent).await;
    let name = "mallory@example.org";
    let asked = || hostile.asked("/token").len();
    let begun = asked();
    for reply in [
        Answer::html(503, "maintenance"),
        Answer::text(200, "no json"),
        Answer::json(401, &json!({ "error": "invalid_client" })),
    ] {
        hostile.reply("/token", reply);
        let before = asked();
        until("the provider is asked", async || {
            assert_eq!(registry.status(name, &key).await, 200);
            asked() > before
        })
        .await;
    }
    assert!(asked() > begun);
    hostile.player.leave().await;
    for _ in 0..30 {
        assert_eq!(registry.status(name, &key).await, 200);
        assert!(registry.name(&mut agent).await.is_some());
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}

/// A single-use refresh token is stored before anything else. A registry that stops in the middle of a check has it at
/// the next start, and no user loses keys.
#[tokio::test]
async fn a_stop_in_the_middle_of_a_check_ends_no_keys() {
    let hostile = Hostile::start().await;
    hostile.script().refresh_tokens = true;
    let table = super::registry::table("oidc", &hostile.issuer(), super::hostile::CLIENT);
    let config = format!("[http.auth.openid]\nrecheck = '1s'\n{table}");
    let registry = Registry::start(&config);
    let mut agent = registry.signed_in("oidc").await;
    let key = registry.new_key(&mut agent).await;
    let name = "mallory@example.org";
    let refreshed = |hostile: &Hostile| {
        let asked = hostile.asked("/token");
        asked.iter().filter(|asked| asked.form("grant_type") == "refresh_token").count()
    };
    let userinfo_before = hostile.asked("/userinfo").len();
    hostile.reply("/userinfo", super::player::Reply::Never);
    until("the provider is asked again", async || {
        assert_eq!(registry.status(name, &key).await, 200);
        refreshed(&hostile) > 0
    })
    .await;
    // The registry asks for userinfo after it has stored the new token. The provider hangs there.
    until("userinfo is requested", async || hostile.asked("/userinfo").len() > userinfo_before).await;
    let registry = registry.restart(&config);
    hostile.straighten();
    hostile.script().refresh_tokens = true;
    let before = refreshed(&hostile);
    until("the provider is asked with the new token", async || {
        assert_eq!(registry.status(name, &key).await, 200);
        refreshed(&hostile) >= before + 2
    })
    .await;
}

/// The refresh token cannot be read from the database, and a backup has none.
#[tokio::test]
async fn refresh_tokens_are_not_readable_in_the_data_directory() {
    let hostile = Hostile::start().await;
    hostile.script().refresh_tokens = true;
    let registry = rechecking(&hostile);
    registry.signed_in("oidc").await;
    let root = registry.root;
    assert_eq!(registry.running.stop().code, Some(0));
    let mut files = 0;
    let mut pending = vec![root.path().to_owned()];
    while let Some(directory) = pending.pop() {
        for entry in std::fs::read_dir(directory).unwrap().map(Result::unwrap) {
            if entry.path().is_dir() {
                pending.push(entry.path());
                continue;
            }
            let Ok(content) = std::fs::read(entry.path()) else { continue };
            files += 1;
            let found = |text: &str| content.windows(text.len()).any(|part| part == text.as_bytes());
            assert!(!found("refresh-s3cret") && !found("access-s3cret"), "{}", entry.path().display());
        }
    }
    assert!(files >= 2, "{files}");
}

#[tokio::test]
async fn a_page_names_a_provider_that_is_unavailable_and_it_works_again_without_a_restart() {
    let (mut away, there) = (Hostile::start().await, Hostile::start().await);
    let registry = Registry::knowing(&[("oidc", &away), ("google", &there)]);
    there.script().claims = json!({ "sub": "s", "email": "peggy@example.org", "email_verified": true });
    away.player.leave().await;
    // Unavailable before the first fetch; available; unavailable in the middle of a sign-in; available.
    for _ in 0..2 {
        let page = Agent::default().get(&registry.login("oidc", None)).await;
        assert!([502, 503].contains(&page.status), "{page:?}");
        is_a_clear_page(&page);
        assert!(page.text().contains("Provider oidc"), "it names the provider: {}", page.text());
        registry.signed_in("google").await;
        assert_eq!(registry.status(ADMIN.0, ADMIN.1).await, 200);
    }
    away.player.resume().await;
    let mut known = registry.signed_in("oidc").await;
    let mut agent = Agent::default();
    let callback = registry.fetch_callback(&mut agent, "oidc", None).await;
    away.player.leave().await;
    let page = agent.get(&callback).await;
    assert!([502, 503].contains(&page.status), "{page:?}");
    is_a_clear_page(&page);
    assert_eq!(registry.name(&mut agent).await, None);
    assert!(registry.name(&mut known).await.is_some(), "a signed-in user stays so");
    away.player.resume().await;
    registry.sign_in(&mut agent, "oidc").await.status(201);
}

#[tokio::test]
async fn signing_out_returns_the_sign_out_page_of_the_provider() {
    let hostile = Hostile::start().await;
    let registry = Registry::knowing(&[("oidc", &hostile)]);
    for root in super::registry::ROOTS {
        let mut agent = registry.signed_in("oidc").await;
        let mut copy = agent.clone();
        let page = agent.ui(Method::POST, &registry.at(&format!("{root}/logout")), "").await.status(200);
        let end = page.json()["endSessionUrl"].as_str().unwrap_or_else(|| panic!("{}", page.text())).to_owned();
        assert!(end.starts_with(&format!("{}/end?", hostile.issuer())), "{end}");
        let back = super::agent::parameter(&end, "post_logout_redirect_uri");
        assert_eq!(back, Some(registry.at("/login")), "{end}");
        assert_eq!(super::agent::parameter(&end, "client_id").as_deref(), Some(super::hostile::CLIENT.0), "{end}");
        for (name, whose) in [("the browser", &mut agent), ("a copy of its cookies", &mut copy)] {
            assert_eq!(registry.name(whose).await, None, "{name}");
        }
        assert!(agent.cookie("user").is_none() && agent.cookie("session").is_none(), "{:?}", agent.jar);
        let page = agent.ui(Method::POST, &registry.at(&format!("{root}/logout")), "").await.status(200);
        assert_eq!(page.json(), Value::Object(serde_json::Map::new()), "the session has ended");
    }
    hostile.script().discovery = Box::new(|document| {
        document.as_object_mut().unwrap().remove("end_session_endpoint");
    });
    let registry = Registry::knowing(&[("oidc", &hostile)]);
    let mut agent = registry.signed_in("oidc").await;
    let page = agent.ui(Method::POST, &registry.at("/zot/auth/logout"), "").await.status(200);
    assert_eq!(page.json(), json!({}), "a provider without such a page");
}

#[tokio::test]
async fn a_signed_in_user_sees_the_name_and_the_provider() {
    let hostile = Hostile::start().await;
    let registry = Registry::knowing(&[("oidc", &hostile)]);
    let mut agent = registry.signed_in("oidc").await;
    let account = registry.account(&mut agent).await.unwrap();
    assert_eq!(
        (&account["username"], &account["groups"]),
        (&json!("mallory@example.org"), &json!(["guests"])),
        "{account}"
    );
    assert!(account.to_string().contains("\"oidc\""), "the provider: {account}");
}
