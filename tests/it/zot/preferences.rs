//! `userprefs`: stars and bookmarks.

use super::{ON, registry};
use crate::support::content::push_image;
use crate::support::registry::{ALICE, BOB};

fn path(action: &str, repository: &str) -> String {
    format!("/v2/_zot/ext/userprefs?repo={repository}&action={action}")
}

#[tokio::test]
async fn a_user_stars_and_bookmarks_with_the_statuses_of_zot() {
    let t = registry(&format!("{ON}profile = 'zot'")).await;
    let alice = t.user(ALICE);
    push_image(&alice, "alice/app", "1", 1).await;
    for action in ["toggleStar", "toggleBookmark", "toggleStar"] {
        let answer = alice.put(&path(action, "alice/app")).send().await.status(200);
        assert!(answer.body.is_empty());
    }
    for (query, status) in [
        ("?repo=alice/app", 400),
        ("?repo=alice/app&action=toggle", 400),
        ("?action=toggleStar", 400),
        ("?action=toggleStar&repo=", 404),
        ("?action=toggleStar&repo=alice/absent", 404),
        ("?action=toggleStar&repo=Not/A/Name", 404),
        ("?action=toggleStar&repo=a&repo=b", 400),
    ] {
        alice.put(&format!("/v2/_zot/ext/userprefs{query}")).send().await.status(status);
    }
    t.anonymous().put(&path("toggleStar", "alice/app")).send().await.status(401);
    alice.post(&path("toggleStar", "alice/app")).send().await.status(405);
}

#[tokio::test]
async fn a_repository_that_a_caller_may_not_see_looks_like_one_that_is_absent() {
    let t = registry(ON).await;
    push_image(&t.user(ALICE), "alice/app", "1", 1).await;
    for name in ["alice/app", "alice/absent"] {
        t.user(BOB).put(&path("toggleStar", name)).send().await.error(403, "DENIED");
    }
}

#[tokio::test]
async fn an_anonymous_caller_has_no_stars_where_it_may_pull() {
    let rules =
        "http.accessControl.repositories.'**' = {anonymousPolicy = ['read'], defaultPolicy = ['read', 'create']}";
    let t = registry(&format!("{ON}profile = 'zot'\n{rules}")).await;
    push_image(&t.user(ALICE), "alice/app", "1", 1).await;
    t.anonymous().put(&path("toggleStar", "alice/app")).send().await.error(403, "DENIED");
}

#[tokio::test]
async fn there_are_no_stars_without_the_page() {
    let t = registry("extensions.search.enable = true").await;
    push_image(&t.user(ALICE), "alice/app", "1", 1).await;
    t.user(ALICE).put(&path("toggleStar", "alice/app")).send().await.status(404);
}
