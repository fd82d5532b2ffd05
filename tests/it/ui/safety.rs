//! Rules that hold for every page and every form.

use super::client::Client;
use crate::support::TestRegistry;
use crate::support::registry::{ALICE, BOB};

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
async fn every_page_has_the_policy_and_is_not_cached() {
    let t = TestRegistry::with_users().await;
    let mut client = Client::signed_in(&t, ALICE).await;
    for path in ["/ui/", "/ui/sign-out", "/ui/nothing", "/ui/confirm-password"] {
        let page = client.get(path).await;
        let policy = page.header("content-security-policy").expect("a policy").to_owned();
        for part in ["default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "style-src 'self';"] {
            assert!(policy.contains(part), "{path}: {policy}");
        }
        assert!(!policy.contains("unsafe") && !policy.contains('*'), "{path}: {policy}");
        assert_eq!(page.header("cache-control"), Some("no-store"), "{path}");
        assert_eq!(page.header("x-content-type-options"), Some("nosniff"), "{path}");
    }
}

/// The paths of all pages of an account and of superusers that need no value.
pub const PAGES: &[&str] = &[
    "/ui/",
    "/ui/account",
    "/ui/account/access",
    "/ui/account/keys",
    "/ui/account/keys/new",
    "/ui/account/sessions",
    "/ui/account/clients",
    "/ui/account/password",
    "/ui/account/log",
    "/ui/admin/users",
    "/ui/admin/users/-/new",
    "/ui/admin/users/alice",
    "/ui/admin/users/alice/-/disable",
    "/ui/admin/users/alice/-/reset-password",
    "/ui/admin/users/alice/-/delete",
    "/ui/admin/groups",
    "/ui/admin/groups/-/new",
    "/ui/admin/audit",
    "/ui/admin/disk",
    "/ui/admin/maintenance",
    "/ui/admin/limits",
    "/ui/admin/config",
];
