//! `discover` and `mgmt`.

use serde_json::json;

use super::{ON, registry};
use crate::support::registry::ALICE;

#[tokio::test]
async fn discover_lists_what_is_on_in_the_order_of_zot() {
    for (toml, endpoints) in [
        ("", None),
        ("extensions.search.enable = true", Some(json!(["/v2/_zot/ext/search", "/v2/_zot/ext/mgmt"]))),
        (ON, Some(json!(["/v2/_zot/ext/search", "/v2/_zot/ext/userprefs", "/v2/_zot/ext/mgmt"]))),
    ] {
        let t = registry(toml).await;
        let body = t.user(ALICE).get("/v2/_oci/ext/discover").send().await.status(200).json();
        let extensions = body["extensions"].as_array().unwrap();
        assert_eq!(extensions.first().map(|one| one["endpoints"].clone()), endpoints, "{toml}");
        if let Some(one) = extensions.first() {
            assert_eq!((&one["name"], &one["description"]), (&json!("_zot"), &json!("zot registry extensions")));
            assert!(one["url"].as_str().unwrap().ends_with("/pkg/extensions/_zot.md"));
        }
        t.anonymous().get("/v2/_oci/ext/discover").send().await.error(401, "UNAUTHORIZED");
    }
}

#[tokio::test]
async fn mgmt_says_which_ways_of_signing_in_there_are() {
    let path = "/v2/_zot/ext/mgmt";
    registry("").await.user(ALICE).get(path).send().await.status(404);
    for (toml, auth) in [
        ("", json!({ "htpasswd": {}, "apikey": true })),
        ("http.auth.apikey = false", json!({ "htpasswd": {} })),
        ("http.open = true", json!({})),
    ] {
        let t = registry(&format!("{ON}{toml}")).await;
        let answer = t.anonymous().get(path).send().await.status(200).has("cache-control", "no-store");
        let body = answer.json();
        assert_eq!(body["http"]["auth"], auth, "{toml}");
        assert_eq!(body["distSpecVersion"], "1.1.1");
        // Stale credentials of a browser do not matter.
        t.user(("alice", "wrong")).get(path).send().await.status(200);
    }
}
