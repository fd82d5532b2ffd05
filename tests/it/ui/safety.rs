//! Rules that hold for every page and every form.

use super::client::Client;
use super::furnished::{Furnished, PAGES};
use crate::support::TestRegistry;
use crate::support::content::{bytes, push_image, sha256};
use crate::support::registry::{ALICE, BOB, ROOT};

#[tokio::test]
async fn a_browser_is_sent_from_the_root_to_the_pages_and_other_clients_are_not() {
    let t = TestRegistry::with_users().await;
    let mut client = Client::new(&t);
    let sent = client.get("/").await.status(303);
    assert_eq!(sent.location(), "/ui/");
    assert_eq!(sent.header("vary"), Some("Accept"));
    t.anonymous().get("/").send().await.status(200);
    let sent = client.get("/ui/").await.status(303);
    assert_eq!(sent.location(), "/ui/sign-in?next=%2Fui%2F");
}

#[tokio::test]
async fn a_sign_in_needs_the_password_and_the_proof_of_the_page() {
    let t = TestRegistry::with_users().await;
    let mut client = Client::new(&t);
    let page = client.get("/ui/sign-in?next=%2Fui%2F%3Fafter%3Da").await.status(200);
    assert!(page.text().contains("docker login"), "{}", page.text());
    client.post("/ui/sign-in", &[("user", ALICE.0), ("password", ALICE.1)]).await.status(403);
    let mut other = Client::new(&t);
    other.submit(&page, "/ui/sign-in", &[("user", ALICE.0), ("password", ALICE.1)]).await.status(403);
    let wrong = client.submit(&page, "/ui/sign-in", &[("user", ALICE.0), ("password", "no")]).await.status(403);
    assert!(wrong.text().contains("The user name or the password is wrong."), "{}", wrong.text());
    let right = client.submit(&wrong, "/ui/sign-in", &[("user", ALICE.0), ("password", ALICE.1)]).await.status(303);
    assert_eq!(right.location(), "/ui/?after=a");
    let page = client.get("/ui/").await.status(200);
    assert!(page.text().contains("alice") && page.text().contains("Sign out"));
    let out = client.submit(&page, "/ui/sign-out", &[]).await.status(303);
    assert_eq!(out.location(), "/ui/sign-in?notice=signed-out");
    client.get("/ui/").await.status(303);
}

#[tokio::test]
async fn the_password_of_a_prompt_signs_no_page_in() {
    let t = TestRegistry::with_users().await;
    let answer = t.user(BOB).get("/ui/").send().await.status(303);
    assert!(answer.location().starts_with("/ui/sign-in?next="));
}

#[tokio::test]
async fn every_page_has_the_policy_is_not_cached_and_is_small() {
    let Furnished { t, mut pages, blob } = Furnished::start().await;
    let mut client = Client::signed_in(&t, ROOT).await;
    for path in &pages {
        client.get(path).await.status(200);
    }
    let file = client.get(&blob).await.status(200);
    assert_eq!(file.header("content-disposition"), Some("attachment"));
    assert_eq!(file.header("content-security-policy"), Some("default-src 'none'; sandbox"));
    assert_eq!(file.header("x-content-type-options"), Some("nosniff"));
    pages.extend(["/ui/sign-out", "/ui/nothing", "/ui/confirm-password", "/ui/r/alice/nothing"].map(str::to_owned));
    for path in pages {
        let page = client.get(&path).await;
        let policy = page.header("content-security-policy").expect("a policy").to_owned();
        for part in ["default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "style-src 'self';"] {
            assert!(policy.contains(part), "{path}: {policy}");
        }
        assert!(!policy.contains("unsafe") && !policy.contains('*'), "{path}: {policy}");
        assert_eq!(page.header("cache-control"), Some("no-store"), "{path}");
        assert_eq!(page.header("x-content-type-options"), Some("nosniff"), "{path}");
        assert_eq!(page.header("x-frame-options"), Some("DENY"), "{path}");
        assert_eq!(page.header("cross-origin-opener-policy"), Some("same-origin"), "{path}");
        let text = page.text();
        let inline = [" style=", "<style", " onclick=", " onload=", " onerror=", "javascript:"];
        assert!(!inline.iter().any(|word| text.contains(word)), "{path}: {text}");
        assert!(text.len() < 30 * 1024, "{path} has {} bytes", text.len());
    }
}

#[tokio::test]
async fn no_form_is_taken_without_its_proof_or_from_another_site() {
    let Furnished { t, pages, .. } = Furnished::start().await;
    let mut root = Client::signed_in(&t, ROOT).await;
    let page = root.get("/ui/admin/users/-/new").await.status(200);
    let other = Client::signed_in(&t, ALICE).await.get("/ui/account/keys/new").await.status(200);
    let mut forms = std::collections::BTreeSet::new();
    for path in &pages {
        let text = root.get(path).await.status(200).text();
        let actions = text.split("<form").skip(1).filter_map(|rest| {
            let form = rest.split_once('>')?.0;
            let action = form.split_once("action=\"")?.1.split_once('"')?.0;
            form.contains("method=\"post\"").then(|| action.to_owned())
        });
        forms.extend(actions);
    }
    assert!(forms.len() >= 18, "{forms:?}");
    for path in &forms {
        root.post(path, &[("end", "others"), ("typed", "alice")]).await.status(403);
        let token = other.text().split("_csrf_token\" value=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
        root.post(path, &[("_csrf_token", &token), ("end", "others"), ("typed", "alice")]).await.status(403);
    }
    let token = page.text().split("_csrf_token\" value=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let form = format!("_csrf_token={token}&name=carol");
    for (name, value) in [("origin", "https://evil.example"), ("origin", "null"), ("sec-fetch-site", "cross-site")] {
        let request = t.anonymous().post("/ui/admin/users/-/new").header("cookie", root.cookie.clone().unwrap());
        request.header(name, value).body(form.clone()).send().await.status(403);
    }
    root.get("/ui/admin/users/carol").await.status(404);
    root.get("/ui/admin/users/alice").await.status(200);
}

/// A key outlives the session that made it, and its label, its scopes and the agents of clients are texts of strangers.
#[tokio::test]
async fn texts_of_strangers_are_text_on_every_page() {
    const HOSTILE: &str = "<img src=x onerror=alert(1)>\"'`&{{7*7}}";
    let t = TestRegistry::with_users().await;
    let body = serde_json::json!({ "label": HOSTILE }).to_string();
    let made = t.user(ROOT).post("/zot/auth/apikey").header("user-agent", HOSTILE).body(body).send().await.status(201);
    let key = made.json()["apiKey"].as_str().unwrap().to_owned();
    t.user((ROOT.0, &key)).get("/v2/").header("user-agent", HOSTILE).send().await.status(200);
    t.user(ROOT).get("/v2/auth?offline_token=true&client_id=%3Cimg%20src%3Dx%3E").send().await.status(200);
    t.user(("<img src=x>", "wrong")).get("/v2/").send().await.status(401);
    let mut root = Client::signed_in(&t, ROOT).await;
    let form = root.get("/ui/admin/groups/-/new").await;
    let fields = [("name", "<img src=x>"), ("role", "read"), ("description", HOSTILE)];
    root.submit(&form, "/ui/admin/groups/-/new", &fields).await.status(303);
    let more = [
        "/ui/admin/users/root",
        "/ui/admin/groups/%3Cimg%20src=x%3E",
        "/ui/account/access?repository=%3Cimg%3E",
        "/ui/?notice=%3Cimg%3E",
        "/ui/admin/audit?account=%22%3E%3Cimg%3E",
        "/ui/sign-in?next=%22%3E%3Cimg%3E",
    ];
    for path in PAGES.iter().chain(&more) {
        let text = root.get(path).await.text();
        assert!(!text.contains("<img"), "{path}: {text}");
    }
    assert!(super::client::unescaped(&root.get("/ui/account/keys").await.text()).contains(HOSTILE));
}

#[tokio::test]
async fn no_get_of_a_page_changes_anything() {
    let Furnished { t, pages, .. } = Furnished::start().await;
    let mut root = Client::signed_in(&t, ROOT).await;
    let count = |page: String| page.matches("<tr>").count();
    let before = count(root.get("/ui/admin/audit").await.text());
    for path in &pages {
        root.get(path).await.status(200);
    }
    assert_eq!(count(root.get("/ui/admin/audit").await.text()), before);
    root.get("/ui/admin/users/alice").await.status(200);
}

#[tokio::test]
async fn the_pages_can_be_switched_off() {
    let mut config = coracle::config::Config::default();
    config.http.ui = false;
    let t = TestRegistry::start(coracle::Registry::builder().config(config).user(ALICE.0, ALICE.1)).await;
    t.anonymous().get("/").header("accept", "text/html").send().await.status(200);
    for path in ["/ui/", "/ui/sign-in", "/ui/account"] {
        let answer = t.anonymous().get(path).send().await;
        assert_eq!((answer.status.as_u16(), answer.header("content-type")), (404, Some("application/json")), "{path}");
    }
}

#[tokio::test]
async fn pushed_content_is_never_a_page_of_the_registry() {
    let t = TestRegistry::with_users().await;
    let image = push_image(&t.user(ALICE), "alice/app", "1", 1).await;
    let blob = format!("/v2/alice/app/blobs/{}", image["config"]["digest"].as_str().unwrap());
    for path in ["/v2/alice/app/manifests/1", &blob] {
        let answer = t.user(ALICE).get(path).send().await.status(200);
        assert_eq!(answer.header("content-security-policy"), Some("sandbox"), "{path}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{path}");
    }
}

#[tokio::test]
async fn guessing_passwords_on_the_page_is_slowed_as_elsewhere() {
    let t = TestRegistry::with_users().await;
    let mut client = Client::new(&t);
    let page = client.get("/ui/sign-in").await.status(200);
    for attempt in 0..200 {
        let password = format!("wrong {attempt}");
        let answer = client.submit(&page, "/ui/sign-in", &[("user", ALICE.0), ("password", &password)]).await;
        if answer.status.as_u16() == 429 {
            assert!(answer.header("retry-after").is_some() && answer.text().contains("Too many attempts"));
            return;
        }
        answer.status(403);
    }
    panic!("200 wrong passwords were not slowed");
}

#[tokio::test]
async fn an_open_registry_shows_its_repositories_without_a_sign_in() {
    let t = TestRegistry::open().await;
    push_image(&t.anonymous(), "team/app", "1", 1).await;
    let mut client = Client::new(&t);
    let page = client.get("/ui/").await.status(200).text();
    assert!(page.contains("team/app") && page.contains("action=\"/ui/search\""), "{page}");
    assert!(!page.contains("/ui/sign-in"), "{page}");
    let page = client.get("/ui/sign-in").await.status(200).text();
    assert!(page.contains("This registry is open.") && page.contains("It has no users"), "{page}");
    assert!(!page.contains("name=\"password\"") && !page.contains("superuser"), "{page}");
    client.get("/ui/account").await.status(303);
    client.get("/ui/admin/users").await.status(303);
}

#[tokio::test]
async fn a_user_of_an_open_registry_can_still_sign_in() {
    let builder = coracle::Registry::builder().policy(coracle::AccessPolicy::Open).user(ALICE.0, ALICE.1);
    let t = TestRegistry::start(builder).await;
    let mut alice = Client::new(&t);
    let page = alice.get("/ui/sign-in").await.status(200).text();
    assert!(page.contains("This registry is open.") && !page.contains("It has no users"), "{page}");
    alice.sign_in(ALICE).await;
    assert!(alice.get("/ui/").await.status(200).text().contains("Sign out"));
}

/// The CSRF token of a page is the same during a session, so pages are not compressed and must be small as they are.
#[tokio::test]
async fn long_lists_are_small_without_compression_and_assets_with_it() {
    let t = TestRegistry::open().await;
    for number in 0..50 {
        push_image(&t.anonymous(), &format!("team/services/service-{number:02}"), "1.10.3", 1).await;
        push_image(&t.anonymous(), "team/app", &format!("1.{number}.0"), 1).await;
    }
    let get = async |path: &str| t.anonymous().get(path).header("accept-encoding", "gzip").send().await.status(200);
    let list = get("/ui/").await;
    assert_eq!(list.text().matches("<tr>").count(), 51);
    let tags = get("/ui/r/team/app").await;
    assert_eq!(tags.text().matches("<tr>").count(), 51);
    let history = get("/ui/r/team/app/-/history").await;
    assert_eq!(history.text().matches("<tr>").count(), 41);
    for number in 0..50 {
        t.anonymous().delete(&format!("/v2/team/app/manifests/1.{number}.0")).send().await.status(202);
        let manifest = push_image(&t.anonymous(), "team/loose", "moved", number + 2).await;
        let digest = sha256(&bytes(&manifest));
        push_image(&t.anonymous(), "team/gone", "moved", number + 2).await;
        t.anonymous().delete(&format!("/v2/team/gone/manifests/{digest}")).send().await.status(202);
    }
    push_image(&t.anonymous(), "team/loose", "moved", 1).await;
    let past = get("/ui/r/team/app/-/history").await;
    let [untagged, deleted] = [get("/ui/r/team/loose/-/untagged").await, get("/ui/r/team/gone/-/deleted").await];
    for (page, rows) in [(&past, 40), (&untagged, 50), (&deleted, 50)] {
        assert_eq!(page.text().matches("<tr>").count(), rows + 1, "{}", page.text());
    }
    let tag = get("/ui/r/team/loose/-/tag/moved").await;
    for page in [&list, &tags, &tag, &history, &past, &untagged, &deleted] {
        assert_eq!(page.header("content-encoding"), None);
        assert!(page.body.len() < 30 * 1024, "{} bytes: {}", page.body.len(), page.text());
    }
    let mut assets = 0;
    for path in list.text().split('"').filter(|text| text.starts_with("/ui/assets/")) {
        let asset = get(path).await;
        assert_eq!(asset.header("content-encoding"), Some("gzip"), "{path}");
        assets += asset.body.len();
    }
    assert!((1000..25 * 1024).contains(&assets), "{assets} bytes of assets");
}
