//! Users from GitHub: their identity and groups, from the pages of its API and from lists that it refuses.

use serde_json::json;

use super::agent::{Agent, Page};
use super::github::{GitHub, Person, octocat, registry};
use super::registry::{Registry, is_a_clear_page};

async fn sign_in(registry: &Registry, agent: &mut Agent) -> Page {
    let page = agent.get(&registry.login("github", None)).await.status(302);
    let page = agent.get(&page.location()).await.status(200);
    let callback = agent.submit(&page, &[]).await.status(302).location();
    agent.get(&callback).await
}

async fn both(change: impl FnOnce(&mut Person)) -> (Registry, GitHub) {
    let github = GitHub::start(octocat()).await;
    github.change(change);
    (registry(&github, ""), github)
}

fn emails(list: &[(&str, bool, bool)]) -> Vec<(String, bool, bool)> {
    list.iter().map(|(address, primary, verified)| ((*address).to_owned(), *primary, *verified)).collect()
}

#[tokio::test]
async fn a_user_has_the_primary_address_and_the_groups_of_the_teams() {
    let (registry, github) = both(|person| {
        person.emails = emails(&[
            ("other@example.org", false, true),
            ("octocat@github.example", true, true),
            ("old@example.org", false, false),
        ]);
    })
    .await;
    let mut agent = Agent::default();
    sign_in(&registry, &mut agent).await.status(201);
    let account = registry.account(&mut agent).await.unwrap();
    assert_eq!(account["username"], "octocat@github.example", "{account}");
    assert_eq!(account["groups"], json!(["octo-org", "octo-org/justice-league"]), "{account}");
    let sent = github.asked("/login/oauth/access_token");
    assert_eq!((sent.len(), sent[0].query.len()), (1, 0), "the secret is in no URL");
}

#[tokio::test]
async fn lists_are_read_to_their_last_page() {
    let (registry, _github) = both(|person| {
        person.orgs = (0..230).map(|n| format!("org-{n:03}")).collect();
        person.teams = (0..130).map(|n| ("octo-org".to_owned(), format!("team-{n:03}"))).collect();
        person.emails = (0..140).map(|n| (format!("alias-{n}@example.org"), false, true)).collect();
        person.emails.push(("octocat@github.example".to_owned(), true, true));
    })
    .await;
    let mut agent = Agent::default();
    sign_in(&registry, &mut agent).await.status(201);
    let account = registry.account(&mut agent).await.unwrap();
    assert_eq!(account["username"], "octocat@github.example");
    let groups: Vec<&str> = account["groups"].as_array().unwrap().iter().map(|group| group.as_str().unwrap()).collect();
    assert!(groups.contains(&"org-229") && groups.contains(&"octo-org/team-129"), "{groups:?}");
}

/// An organization can hide its members from applications. Its users still sign in.
#[tokio::test]
async fn a_user_whose_organizations_are_hidden_has_no_groups() {
    let (registry, github) = both(|_| {}).await;
    github.restrict();
    let mut agent = Agent::default();
    sign_in(&registry, &mut agent).await.status(201);
    assert_eq!(registry.account(&mut agent).await.unwrap()["groups"], json!([]));
}

#[tokio::test]
async fn a_user_without_a_verified_primary_address_is_refused() {
    for list in [
        &[][..],
        &[("octocat@github.example", true, false)],
        &[("octocat@github.example", false, true)],
        &[("octocat@github.example", true, false), ("other@example.org", false, true)],
    ] {
        let (registry, _github) = both(|person| person.emails = emails(list)).await;
        let mut agent = Agent::default();
        let page = sign_in(&registry, &mut agent).await.status(401);
        is_a_clear_page(&page);
        assert_eq!(registry.name(&mut agent).await, None, "{list:?}");
        assert_eq!(registry.users(), ["admin"]);
    }
}

/// GitHub refuses an invalid code with the status 200.
#[tokio::test]
async fn a_code_that_github_does_not_take_is_refused() {
    let (registry, github) = both(|_| {}).await;
    let mut agent = Agent::default();
    let page = agent.get(&registry.login("github", None)).await.status(302);
    let page = agent.get(&page.location()).await.status(200);
    let callback = agent.submit(&page, &[]).await.status(302).location();
    let wrong = super::agent::with_parameter(&callback, "code", Some("0123456789abcdef0123"));
    let page = agent.get(&wrong).await.status(401);
    is_a_clear_page(&page);
    assert_eq!(registry.name(&mut agent).await, None);
    assert_eq!(github.asked("/login/oauth/access_token").len(), 1);
    assert!(github.asked("/api/v3/user").is_empty());
}

/// GitHub's number identifies a user. Name and address may later belong to another user.
#[tokio::test]
async fn a_user_with_the_address_of_another_one_does_not_get_that_account() {
    let (registry, github) = both(|_| {}).await;
    let mut agent = Agent::default();
    sign_in(&registry, &mut agent).await.status(201);
    let key = registry.new_key(&mut agent).await;
    github.change(|person| person.id += 1);
    sign_in(&registry, &mut Agent::default()).await.status(403);
    assert_eq!(registry.status("octocat@github.example", &key).await, 200);
    // Another address makes it another user.
    github.change(|person| person.emails = emails(&[("hubot@github.example", true, true)]));
    let mut other = Agent::default();
    sign_in(&registry, &mut other).await.status(201);
    assert_eq!(registry.name(&mut other).await.as_deref(), Some("hubot@github.example"));
}

#[tokio::test]
async fn keys_of_a_user_who_has_revoked_the_access_stop() {
    let github = GitHub::start(octocat()).await;
    let registry = registry(&github, "[http.auth.openid]\nrecheck = '1s'\n");
    let mut agent = Agent::default();
    sign_in(&registry, &mut agent).await.status(201);
    let (name, key) = ("octocat@github.example", registry.new_key(&mut agent).await);
    let seen = github.asked("/api/v3/user").len();
    super::people::until("GitHub is asked again", async || {
        assert_eq!(registry.status(name, &key).await, 200);
        github.asked("/api/v3/user").len() > seen
    })
    .await;
    github.revoke();
    super::people::until("the key stops", async || registry.status(name, &key).await == 401).await;
    assert_eq!(registry.name(&mut agent).await, None);
    sign_in(&registry, &mut agent).await.status(201);
    assert_eq!(registry.status(name, &key).await, 200);
}
