//! The pages of the user's own account.

use super::client::{Client, unescaped};
use crate::support::TestRegistry;
use crate::support::content::push_image;
use crate::support::registry::{ALICE, BOB};

/// The texts of the commands and secrets that a page offers to copy.
fn copies(page: &str) -> Vec<String> {
    let codes = page.split("<span class=\"copy\">").skip(1).map(|rest| {
        let code = rest.split("<code").nth(1).unwrap().split_once('>').unwrap().1;
        unescaped(code.split("</code>").next().unwrap())
    });
    codes.collect()
}

#[tokio::test]
async fn a_key_is_made_with_a_limit_shown_once_and_revoked() {
    let t = TestRegistry::with_users().await;
    push_image(&t.user(ALICE), "alice/app", "1", 1).await;
    push_image(&t.user(ALICE), "alice/other", "1", 1).await;
    let mut client = Client::signed_in(&t, ALICE).await;
    let form = client.get("/ui/account/keys/new").await.status(200);
    let limit = [
        ("label", "pipeline <b>"),
        ("lifetime", "30"),
        ("limit", "some"),
        ("patterns", "alice/a*"),
        ("actions", "pull"),
    ];
    let shown = [&limit[..], &[("show", "matching")]].concat();
    let matching = client.submit(&form, "/ui/account/keys/new", &shown).await.status(200).text();
    assert!(
        matching.contains("<code>alice/app</code>") && !matching.contains("<code>alice/other</code>"),
        "{matching}"
    );
    assert!(!matching.contains("pipeline <b>"), "{matching}");
    assert!(client.get("/ui/account/keys").await.text().contains("No API keys"));

    let made = client.submit(&form, "/ui/account/keys/new", &limit).await.status(200).text();
    let key = copies(&made).into_iter().find(|text| text.starts_with("zak_")).expect("the key");
    let by_key = t.user((ALICE.0, &key));
    by_key.get("/v2/alice/app/manifests/1").send().await.status(200);
    by_key.get("/v2/alice/other/manifests/1").send().await.status(403);

    let list = client.get("/ui/account/keys").await.status(200).text();
    assert!(!list.contains(&key) && list.contains("alice/a*:pull") && !list.contains("pipeline <b>"), "{list}");
    let path = list.split("href=\"").find(|rest| rest.contains("/revoke\"")).unwrap().split('"').next().unwrap();
    let question = client.get(path).await.status(200);
    by_key.get("/v2/alice/app/manifests/1").send().await.status(200);
    let mut bob = Client::signed_in(&t, BOB).await;
    bob.get(path).await.status(404);
    let done = client.submit(&question, path, &[]).await.status(303);
    assert_eq!(done.location(), "/ui/account/keys?notice=key-revoked");
    assert!(client.get(&done.location()).await.text().contains("The API key is revoked."));
    by_key.get("/v2/alice/app/manifests/1").send().await.status(401);
}

#[tokio::test]
async fn a_mistake_in_the_form_of_a_key_is_explained_and_makes_no_key() {
    let t = TestRegistry::with_users().await;
    let mut client = Client::signed_in(&t, ALICE).await;
    let form = client.get("/ui/account/keys/new").await.status(200);
    for (fields, why) in [
        (&[("label", ""), ("lifetime", "7")][..], "The key needs a label."),
        (&[("label", "a"), ("lifetime", "8")], "Choose a lifetime."),
        (&[("label", "a"), ("lifetime", "7"), ("limit", "some"), ("actions", "pull")], "at least one repository"),
        (&[("label", "a"), ("lifetime", "7"), ("limit", "some"), ("patterns", "a")], "Choose at least one action."),
        (
            &[("label", "a"), ("lifetime", "7"), ("limit", "some"), ("patterns", "a/{b"), ("actions", "pull")],
            "has an unclosed brace",
        ),
    ] {
        let page = client.submit(&form, "/ui/account/keys/new", fields).await.status(400).text();
        assert!(unescaped(&page).contains(why), "{why}: {page}");
    }
    assert!(client.get("/ui/account/keys").await.text().contains("No API keys"));
}

/// A browser without scripts sends what the user typed, also if the choice above it makes it count for nothing.
#[tokio::test]
async fn limits_that_would_have_no_effect_make_no_key_and_stay_in_the_form() {
    let t = TestRegistry::with_users().await;
    let mut client = Client::signed_in(&t, ALICE).await;
    let form = client.get("/ui/account/keys/new").await.status(200);
    let all = [("label", "ci"), ("lifetime", "7"), ("limit", "all")];
    let usual = [("actions", "pull"), ("actions", "push")];
    for (limits, why) in [
        (&[("patterns", "alice/app\r\nalice/b*"), usual[0], usual[1]][..], "The repositories would not limit a key"),
        (&[("actions", "pull")], "The actions would not limit a key"),
        (&[usual[0], usual[1], ("actions", "delete")], "The actions would not limit a key"),
    ] {
        let page = client.submit(&form, "/ui/account/keys/new", &[&all[..], limits].concat()).await.status(400).text();
        assert!(unescaped(&page).contains(why), "{why}: {page}");
        if limits[0].0 == "patterns" {
            assert!(page.contains("alice/app\r\nalice/b*</textarea>"), "{page}");
            assert!(page.contains("value=\"all\" checked") && !page.contains("value=\"some\" checked"), "{page}");
            assert!(page.contains("value=\"ci\"") && page.contains("value=\"7\" selected"), "{page}");
        }
    }
    // A form without the choice gives no rights.
    let page = client.submit(&form, "/ui/account/keys/new", &all[..2]).await.status(400).text();
    assert!(page.contains("Choose what the key may use."), "{page}");
    assert!(client.get("/ui/account/keys").await.text().contains("No API keys"));
    client.submit(&form, "/ui/account/keys/new", &[&all[..], &usual].concat()).await.status(200);
    let list = client.get("/ui/account/keys").await.text();
    assert!(list.contains("All rights of the user") && list.contains("in 7 days"), "{list}");
}

#[tokio::test]
async fn rights_are_explained_and_another_users_repository_looks_absent() {
    let t = TestRegistry::with_users().await;
    push_image(&t.user(ALICE), "alice/app", "1", 1).await;
    let mut alice = Client::signed_in(&t, ALICE).await;
    let page = alice.get("/ui/account/access?repository=alice%2Fapp").await.status(200).text();
    assert!(page.contains("The user owns alice/…") && page.contains(">everything</span>"), "{page}");
    let mut bob = Client::signed_in(&t, BOB).await;
    let shown = |page: String, name: &str| page.replace(name, "{name}").replace(&name.replace('/', "%2F"), "{name}");
    let present = bob.get("/ui/account/access?repository=alice%2Fapp").await.status(200).text();
    let absent = bob.get("/ui/account/access?repository=alice%2Fnot").await.status(200).text();
    assert_eq!(shown(present, "alice/app"), shown(absent, "alice/not"));
    bob.get("/ui/account/access?repository=..%2F").await.status(400);
}

#[tokio::test]
async fn sessions_end_one_by_one_and_a_new_password_ends_the_others() {
    let t = TestRegistry::with_users().await;
    let mut here = Client::signed_in(&t, ALICE).await;
    let mut there = Client::signed_in(&t, ALICE).await;
    let list = here.get("/ui/account/sessions").await.status(200);
    let id = list.text().split("name=\"end\" value=\"").nth(2).unwrap().split('"').next().unwrap().to_owned();
    here.submit(&list, "/ui/account/sessions", &[("end", &id)]).await.status(303);
    there.get("/ui/account").await.status(303);
    here.submit(&list, "/ui/account/sessions", &[("end", &id)]).await.status(404);

    let mut there = Client::signed_in(&t, ALICE).await;
    let form = here.get("/ui/account/password").await.status(200);
    let differ = [("password", "new-password"), ("again", "other-password")];
    let page = here.submit(&form, "/ui/account/password", &differ).await.status(400).text();
    assert!(page.contains("The two passwords differ."), "{page}");
    let same = [("password", "new-password"), ("again", "new-password")];
    here.submit(&form, "/ui/account/password", &same).await.status(303);
    here.get("/ui/account").await.status(200);
    there.get("/ui/account").await.status(303);
    t.user((ALICE.0, "new-password")).get("/v2/").send().await.status(200);
}

#[tokio::test]
async fn a_client_with_a_refresh_token_is_listed_and_signed_out() {
    let t = TestRegistry::with_users().await;
    t.user(ALICE).get("/v2/auth?offline_token=true&client_id=podman%3Cb%3E").send().await.status(200);
    let mut alice = Client::signed_in(&t, ALICE).await;
    let list = alice.get("/ui/account/clients").await.status(200);
    assert!(list.text().contains("podman") && !list.text().contains("<b>"), "{}", list.text());
    let id = list.text().split("name=\"end\" value=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    alice.submit(&list, "/ui/account/clients", &[("end", &id)]).await.status(303);
    assert!(alice.get("/ui/account/clients").await.text().contains("No clients"));
}
