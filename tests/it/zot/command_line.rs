//! Every query of zot's command line, word for word, and what it compares before it sends one.

use serde_json::{Value, json};

use super::client::{failure, post, push};
use super::{ON, registry, zli};
use crate::support::content::sha256;
use crate::support::registry::ALICE;

/// The queries that the command line uses: their arguments in order, and the type of the result.
const QUERIES: &[(&str, &[&str], &str)] = &[
    ("ImageList", &["repo", "requestedPage"], "PaginatedImagesResult"),
    (
        "CVEDiffListForImages",
        &["minuend", "subtrahend", "requestedPage", "searchedCVE", "excludedCVE"],
        "CVEDiffResult",
    ),
    ("ImageListForDigest", &["id", "requestedPage"], "PaginatedImagesResult"),
    ("BaseImageList", &["image", "digest", "requestedPage"], "PaginatedImagesResult"),
    ("DerivedImageList", &["image", "digest", "requestedPage"], "PaginatedImagesResult"),
    ("CVEListForImage", &["image", "requestedPage", "searchedCVE", "excludedCVE", "severity"], "CVEResultForImage"),
    ("ImageListForCVE", &["id", "filter", "requestedPage"], "PaginatedImagesResult"),
    ("ImageListWithCVEFixed", &["id", "image", "filter", "requestedPage"], "PaginatedImagesResult"),
    ("Referrers", &["repo", "digest", "type"], "Referrer"),
    ("GlobalSearch", &["query", "filter", "requestedPage"], "GlobalSearchResult"),
];

#[tokio::test]
async fn the_schema_has_the_queries_in_the_order_that_is_compared() {
    let t = registry(ON).await;
    let answer = post(&t.user(ALICE), zli::SCHEMA).await.status(200).json();
    assert_eq!(answer.get("errors"), None);
    let schema = &answer["data"]["__schema"];
    assert_eq!(schema["queryType"]["__typename"], "__Type");
    let fields = schema["queryType"]["fields"].as_array().unwrap();
    let types = schema["types"].as_array().unwrap();
    for (name, arguments, result) in QUERIES {
        let field = fields.iter().find(|field| field["name"] == *name).unwrap_or_else(|| panic!("{name}"));
        let found: Vec<&str> =
            field["args"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
        assert_eq!(found, *arguments, "{name}");
        assert_eq!(field["type"], json!({ "name": null, "kind": "NON_NULL" }), "{name}");
        assert!(types.iter().any(|one| one["name"] == *result), "{result}");
    }
    assert_eq!(fields.len(), 15);
    let discovered = t.user(ALICE).get("/v2/_oci/ext/discover").send().await.status(200).json();
    assert_eq!(discovered["extensions"][0]["endpoints"][0], "/v2/_zot/ext/search");
}

#[tokio::test]
async fn the_queries_of_the_command_line_have_the_shapes_of_zot() {
    let t = registry(ON).await;
    let alice = t.user(ALICE);
    let base = push(&alice, "alice/base", "1", "arm64", &["base"]).await;
    let app = push(&alice, "alice/app", "1", "arm64", &["base", "app!"]).await;
    let media_type = "application/vnd.oci.image.manifest.v1+json";
    let shown = |repository: &str, image: &super::client::Image, layers: Value| {
        json!({
            "RepoName": repository, "Tag": "1", "Digest": image.digest, "MediaType": media_type,
            "Manifests": [{
                "Digest": image.digest, "ConfigDigest": image.config, "Size": image.size.to_string(),
                "Platform": { "Os": "linux", "Arch": "arm64/v8" }, "IsSigned": false, "Layers": layers,
                "LastUpdated": "2024-05-01T10:00:00Z",
            }],
            "LastUpdated": "2024-05-01T10:00:00Z", "Size": image.size.to_string(), "IsSigned": false,
        })
    };
    let base = shown("alice/base", &base, json!([{ "Size": "4", "Digest": base.layers[0] }]));
    let layers = json!([{ "Size": "4", "Digest": app.layers[0] }, { "Size": "4", "Digest": app.layers[1] }]);
    let app = shown("alice/app", &app, layers);
    let digest = app["Digest"].as_str().unwrap();
    for (query, expected) in [
        (zli::image_list("alice/app", "ALPHABETIC_ASC"), &app),
        (zli::image_list_for_digest(digest, "UPDATE_TIME"), &app),
        (zli::images_by_digest(digest), &app),
        (zli::derived_image_list("alice/base:1", "DOWNLOADS"), &app),
        (zli::base_image_list("alice/app:1", "RELEVANCE"), &base),
    ] {
        let answer = post(&alice, &query).await.status(200).json();
        let found =
            answer["data"].as_object().and_then(|data| data.values().next()).unwrap_or_else(|| panic!("{answer}"));
        assert_eq!(found["Results"], json!([expected]), "{query}");
    }
    let search = async |text: &str| {
        let answer = post(&alice, &zli::global_search(text, "RELEVANCE")).await.status(200).json();
        answer["data"]["GlobalSearch"].clone()
    };
    let found = search("alice/app").await;
    assert_eq!((&found["Images"], found["Repos"].as_array().unwrap().len()), (&json!([]), 1));
    assert_eq!(found["Repos"][0]["Platforms"], json!([{ "Os": "linux", "Arch": "arm64/v8" }]));
    let found = search("alice/app:1").await;
    assert_eq!((&found["Images"], &found["Repos"]), (&json!([app]), &json!([])));
    let referrers = post(&alice, &zli::referrers("alice/app", digest)).await.status(200).json();
    assert_eq!(referrers, json!({ "data": { "Referrers": [] } }));
}

#[tokio::test]
async fn the_queries_for_vulnerabilities_say_that_these_are_not_searched() {
    let t = registry(ON).await;
    let alice = t.user(ALICE);
    let image = zli::image_input("alice/app", "1", None);
    let of_platform = zli::image_input("alice/app", "2", Some(("linux", "amd64")));
    for query in [
        zli::cve_list_for_image("alice/app:1", "", "SEVERITY"),
        zli::image_list_for_cve("CVE-1", "ALPHABETIC_ASC"),
        zli::image_list_with_cve_fixed("CVE-1", "alice/app"),
        zli::cve_diff_list(&image, &of_platform),
    ] {
        assert_eq!(failure(&alice, &query).await, "cve search is disabled", "{query}");
    }
}

#[tokio::test]
async fn an_empty_registry_has_empty_lists_for_the_command_line() {
    let t = registry(ON).await;
    let alice = t.user(ALICE);
    let empty = json!({ "Results": [] });
    for (query, expected) in [
        (zli::image_list("alice/app", "RELEVANCE"), json!({ "ImageList": empty })),
        (zli::images_by_digest("sha256:1234"), json!({ "ImageListForDigest": empty })),
        (zli::global_search("a", "RELEVANCE"), json!({ "GlobalSearch": { "Images": [], "Repos": [] } })),
        (zli::referrers("alice/app", &sha256(b"")), json!({ "Referrers": [] })),
    ] {
        assert_eq!(post(&alice, &query).await.status(200).json()["data"], expected, "{query}");
    }
    for query in [zli::derived_image_list("alice/app:1", "RELEVANCE"), zli::base_image_list("alice/app:1", "RELEVANCE")]
    {
        assert_eq!(failure(&alice, &query).await, "can't find image: alice/app:1", "{query}");
    }
}
