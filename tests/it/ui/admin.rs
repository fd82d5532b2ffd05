//! The pages of superusers.

use super::client::{Client, unescaped};
use crate::support::TestRegistry;
use crate::support::content::{noise, push_blob, push_image, sha256};
use crate::support::registry::{ALICE, BOB, ROOT};

#[tokio::test]
async fn a_user_is_made_disabled_enabled_and_deleted() {
    let t = TestRegistry::with_users().await;
    let mut root = Client::signed_in(&t, ROOT).await;
    let form = root.get("/ui/admin/users/-/new").await.status(200);
    let new = "/ui/admin/users/-/new";
    root.submit(&form, new, &[("name", "-bad name")]).await.status(400);
    root.submit(&form, new, &[("name", "carol"), ("email", "not an address")]).await.status(400);
    let made = root.submit(&form, new, &[("name", "carol"), ("email", "carol@example.org")]).await.status(200).text();
    let password = made.split("Password of carol\">").nth(1).unwrap().split('<').next().unwrap();
    let password = unescaped(password);
    let carol = t.user(("carol", &password));
    carol.get("/v2/").send().await.status(200);
    root.submit(&form, new, &[("name", "carol")]).await.status(400);

    for (change, status) in [("disable", 401), ("enable", 200)] {
        let path = format!("/ui/admin/users/carol/-/{change}");
        let question = root.get(&path).await.status(200);
        let done = root.submit(&question, &path, &[]).await.status(303);
        assert_eq!(done.location(), format!("/ui/admin/users/carol?notice=user-{change}d"));
        root.get(&done.location()).await.status(200);
        carol.get("/v2/").send().await.status(status);
    }
    let path = "/ui/admin/users/carol/-/reset-password";
    let question = root.get(path).await.status(200);
    root.submit(&question, path, &[]).await.status(200);
    carol.get("/v2/").send().await.status(401);
    let path = "/ui/admin/users/carol/-/delete";
    let question = root.get(path).await.status(200);
    root.submit(&question, path, &[("typed", "bob")]).await.status(400);
    root.submit(&question, path, &[("typed", "carol")]).await.status(303);
    root.get("/ui/admin/users/carol").await.status(404);
}

#[tokio::test]
async fn a_group_is_made_and_its_members_get_its_role() {
    let t = TestRegistry::with_users().await;
    let mut root = Client::signed_in(&t, ROOT).await;
    let form = root.get("/ui/admin/groups/-/new").await.status(200);
    let fields = [("name", "team"), ("role", "write"), ("description", "<i>ours</i>")];
    root.submit(&form, "/ui/admin/groups/-/new", &fields).await.status(303);
    let again = root.submit(&form, "/ui/admin/groups/-/new", &fields).await.status(400);
    assert!(again.text().contains("A group of this name exists already."), "{}", again.text());
    let page = root.get("/ui/admin/groups/team").await.status(200);
    assert!(!page.text().contains("<i>"), "{}", page.text());
    root.submit(&page, "/ui/admin/groups/team", &[("change", "member"), ("member", "bob")]).await.status(400);
    let add = page.text().replacen("name=\"change\" value=\"settings\"", "name=\"change\" value=\"member\"", 1);
    let mut page = page;
    page.body = add.into();
    root.submit(&page, "/ui/admin/groups/team", &[("member", "absent")]).await.status(404);
    root.submit(&page, "/ui/admin/groups/team", &[("member", "bob")]).await.status(303);
    t.user(BOB).post("/v2/team/app/blobs/uploads/").send().await.status(202);
    assert!(root.get("/ui/admin/groups").await.text().contains("data-label=\"Members\">1</td>"));
    let path = "/ui/admin/groups/team/-/remove-member?user=bob";
    let question = root.get(path).await.status(200);
    root.submit(&question, path, &[]).await.status(303);
    t.user(BOB).post("/v2/team/app/blobs/uploads/").send().await.status(403);
    let question = root.get("/ui/admin/groups/team/-/delete").await.status(200);
    root.submit(&question, "/ui/admin/groups/team/-/delete", &[]).await.status(303);
    root.get("/ui/admin/groups/team").await.status(404);
}

#[tokio::test]
async fn superusers_cannot_be_changed_and_others_see_no_page_of_superusers() {
    let t = TestRegistry::with_users().await;
    let mut root = Client::signed_in(&t, ROOT).await;
    let path = "/ui/admin/users/root/-/disable";
    let question = root.get(path).await.status(400);
    root.submit(&question, path, &[]).await.status(400);
    t.user(ROOT).get("/v2/").send().await.status(200);
    let mut alice = Client::signed_in(&t, ALICE).await;
    for path in super::furnished::PAGES.iter().filter(|path| path.starts_with("/ui/admin/")) {
        let page = alice.get(path).await.status(403).text();
        assert!(page.contains("Not permitted") && page.contains("Only superusers"), "{path}: {page}");
    }
    assert!(!alice.get("/ui/").await.text().contains("Administration"));
}

#[tokio::test]
async fn the_audit_log_is_filtered_and_hostile_agents_are_text() {
    let t = TestRegistry::with_users().await;
    let agent = "<script>alert(1)</script>\"'&";
    t.user((ALICE.0, "wrong")).get("/v2/").header("user-agent", agent).send().await.status(401);
    let mut root = Client::signed_in(&t, ROOT).await;
    let page = root.get("/ui/admin/audit?account=alice&kind=failure").await.status(200).text();
    assert!(page.contains("login_failure") && !page.contains("<script>alert"), "{page}");
    assert!(unescaped(&page).contains(agent), "{page}");
    let page = root.get("/ui/admin/audit?account=bob&kind=failure").await.status(200).text();
    assert!(page.contains("No entries"), "{page}");
    for bad in ["from=x", "from=2026-12-31&to=2026-01-01", "before=x", "to=2026-13-01"] {
        root.get(&format!("/ui/admin/audit?{bad}")).await.status(400);
    }
}

#[tokio::test]
async fn the_configuration_in_force_has_no_secret() {
    let t = TestRegistry::with_users().await;
    let mut root = Client::signed_in(&t, ROOT).await;
    let page = root.get("/ui/admin/config").await.status(200).text();
    assert!(page.contains("storage.gcDelay") && page.contains("http.ui"), "{page}");
    assert!(!page.to_lowercase().contains("secret<"), "{page}");
    let page = root.get("/ui/admin/limits").await.status(200).text();
    assert!(page.contains("Too many wrong passwords"), "{page}");
}

#[tokio::test]
async fn the_page_of_limits_counts_limits_with_the_same_status_apart() {
    let config = "storage.maxRepos = 1\n[[storage.quotas]]\nrepositories = ['root/**']\nsize = 1000\n\
                  [[http.ratelimit.methods]]\nmethod = 'DELETE'\nrate = 1\n";
    let config = coracle::config::Config::from_toml_str(config).unwrap().config;
    let t = TestRegistry::start(coracle::Registry::builder().config(config).superuser(ROOT.0, ROOT.1)).await;
    let caller = t.user(ROOT);
    push_blob(&caller, "root/app", b"{}").await;
    for _ in 0..2 {
        caller.post("/v2/root/other/blobs/uploads/").send().await.error(429, "TOOMANYREQUESTS");
    }
    let large = noise(2000, 1);
    let path = format!("/v2/root/app/blobs/uploads/?digest={}", sha256(&large));
    caller.post(&path).body(large).send().await.error(403, "DENIED");
    let mut is_limited = false;
    for _ in 0..200 {
        is_limited = caller.delete("/v2/root/app/manifests/none").send().await.status == 429;
        if is_limited {
            break;
        }
    }
    assert!(is_limited, "200 requests were not limited");
    let page = Client::signed_in(&t, ROOT).await.get("/ui/admin/limits").await.status(200).text();
    for (limit, expected) in [
        ("Too many wrong passwords or sign-ins", "<span class=\"muted\">0</span>"),
        ("More requests than http.ratelimit permits", "<strong>1</strong>"),
        ("More repositories than storage.maxRepos", "<strong>2</strong>"),
        ("Pushes beyond a quota (storage.quotas)", "<strong>1</strong>"),
    ] {
        let row = page.split(limit).nth(1).and_then(|rest| rest.split("</tr>").next()).unwrap_or_default();
        assert!(row.contains(&format!("data-label=\"Refused\">{expected}")), "{limit}: {page}");
    }
}

#[tokio::test]
async fn a_scrub_is_started_on_the_page_and_by_the_api_and_leaves_its_result() {
    let t = TestRegistry::with_users().await;
    push_image(&t.user(ALICE), "alice/app", "1", 1).await;
    let mut root = Client::signed_in(&t, ROOT).await;
    let path = "/ui/admin/maintenance";
    let page = root.get(path).await.status(200);
    assert_eq!(page.text().matches("value=\"start\"").count(), 2, "{}", page.text());
    root.post(path, &[("work", "scrub"), ("act", "start")]).await.status(403);
    // The first form of the page is that of the collection.
    let done = root.submit(&page, path, &[("act", "start")]).await.status(303);
    assert_eq!(done.location(), "/ui/admin/maintenance?notice=collection-started");
    root.submit(&page, path, &[("act", "nothing")]).await.status(400);
    let body = serde_json::json!({ "label": "a" }).to_string();
    let made = t.user(ROOT).post("/zot/auth/apikey").body(body).send().await.status(201);
    let key = format!("Bearer {}", made.json()["apiKey"].as_str().unwrap());
    let api = |method: hyper::Method, path: &str| t.anonymous().request(method, path).header("authorization", &key);
    let work = "/api/v1/superuser/maintenance/scrub";
    let started = api(hyper::Method::POST, work).send().await.status(200).json();
    assert!(!started["running_since"].is_null() || !started["ended"].is_null(), "{started}");
    api(hyper::Method::POST, "/api/v1/superuser/maintenance/nothing").send().await.status(404);
    let deadline = std::time::Instant::now() + std::time::Duration::from_mins(1);
    loop {
        let state = api(hyper::Method::GET, "/api/v1/superuser/maintenance").send().await.status(200).json();
        if ["scrub", "collection"]
            .iter()
            .all(|work| state[work]["running_since"].is_null() && state[work]["good"] == true)
        {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "{state}");
    }
    let page = root.get(path).await.status(200).text();
    assert!(page.contains("Found no damage.") && page.contains("Found nothing to remove."), "{page}");
    // Nothing is running, so there is nothing to stop.
    api(hyper::Method::DELETE, work).send().await.status(200);
    let log = root.get("/ui/admin/audit").await.text();
    let events = ["start_collection", "start_scrub", "stop_scrub"].map(|event| log.matches(event).count());
    assert_eq!(events, [1, 1, 0], "{log}");
}
