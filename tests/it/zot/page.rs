//! Every query of zot's web page, word for word, and the shape of its response.

use serde_json::{Value, json};

use super::client::{data, failure, get, push, push_referrer};
use super::{ON, registry, zui};
use crate::support::content::{bytes, push_blob, sha256};
use crate::support::registry::{ALICE, BOB};

fn names(found: &Value) -> Vec<&str> {
    found.as_array().unwrap().iter().map(|one| one["Name"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn the_pages_of_an_image_have_the_shapes_of_zot() {
    let t = registry(ON).await;
    let alice = t.user(ALICE);
    let image = push(&alice, "alice/app", "1", "arm64", &["layer one", "layer two!"]).await;
    let none = json!({ "MaxSeverity": "", "Count": 0 });
    let arm = json!([{ "Os": "linux", "Arch": "arm64/v8" }]);

    let explored = data(&alice, &zui::repo_list(15, 0)).await["RepoListWithNewestImage"]["Results"][0].clone();
    let updated = explored["LastUpdated"].clone();
    assert!(updated.as_str().unwrap().ends_with('Z') && updated != "0001-01-01T00:00:00Z");
    assert_eq!(
        explored,
        json!({
            "Name": "alice/app", "LastUpdated": updated, "Size": (image.size - bytes(&image.manifest).len()).to_string(),
            "Platforms": arm,
            "NewestImage": {
                "Tag": "1", "Vulnerabilities": none, "Description": "An application", "Licenses": "MIT", "Title": "App",
                "Source": "https://a.example/src", "IsSigned": false, "SignatureInfo": [],
                "Documentation": "https://a.example/doc", "Vendor": "ACME", "Labels": "",
            },
            "IsStarred": false, "IsBookmarked": false, "StarCount": 0, "DownloadCount": 0,
        })
    );

    let manifests = json!([{ "Digest": image.digest, "Platform": arm[0], "Size": image.size.to_string() }]);
    assert_eq!(
        data(&alice, &zui::detailed_repo_info("alice/app")).await["ExpandedRepoInfo"],
        json!({
            "Images": [{
                "Manifests": manifests, "Vulnerabilities": none, "Tag": "1", "LastUpdated": "2024-05-01T10:00:00Z",
                "Vendor": "ACME", "IsDeletable": true,
            }],
            "Summary": {
                "Name": "alice/app", "LastUpdated": explored["LastUpdated"], "Size": explored["Size"], "Platforms": arm,
                "Vendors": ["ACME"], "IsStarred": false, "IsBookmarked": false,
                "NewestImage": {
                    "RepoName": "alice/app", "IsSigned": false, "SignatureInfo": [], "Vulnerabilities": none,
                    "Manifests": [{ "Digest": image.digest }], "Tag": "1", "Vendor": "ACME", "Title": "App",
                    "Documentation": "https://a.example/doc", "DownloadCount": 0, "Source": "https://a.example/src",
                    "Description": "An application", "Licenses": "MIT",
                },
            },
        })
    );

    let layer = |at: usize, size: &str| json!({ "Size": size, "Digest": image.layers[at] });
    let query = "{Image(image:\"alice/app:1\"){TaggedTimestamp}}";
    let tagged = data(&alice, query).await["Image"]["TaggedTimestamp"].clone();
    let mut expected = json!({
        "RepoName": "alice/app", "IsSigned": false, "SignatureInfo": [], "Vulnerabilities": none, "Referrers": [],
        "Tag": "1", "TaggedTimestamp": tagged,
        "Manifests": [{
            "History": [
                { "Layer": layer(0, "9"), "HistoryDescription": { "CreatedBy": "ADD base", "EmptyLayer": false } },
                { "Layer": null, "HistoryDescription": { "CreatedBy": "ENV a=b", "EmptyLayer": true } },
                { "Layer": layer(1, "10"), "HistoryDescription": { "CreatedBy": "RUN make", "EmptyLayer": false } },
            ],
            "Digest": image.digest, "ConfigDigest": image.config, "LastUpdated": "2024-05-01T10:00:00Z",
            "Size": image.size.to_string(), "Platform": arm[0], "Referrers": [],
        }],
        "Vendor": "ACME", "Licenses": "MIT",
    });
    assert_eq!(data(&alice, &zui::detailed_image_info("alice/app", "1")).await["Image"], expected);
    let kind = "application/vnd.oci.image.config.v1+json";
    expected["ArtifactType"] = kind.into();
    expected["Manifests"][0]["ArtifactType"] = kind.into();
    expected["Manifests"][0]["Layers"] = json!([layer(0, "9"), layer(1, "10")]);
    assert_eq!(data(&alice, &zui::detailed_image_info_with_types("alice/app", "1")).await["Image"], expected);
}

#[tokio::test]
async fn signatures_and_referrers_are_shown() {
    let t = registry(ON).await;
    let alice = t.user(ALICE);
    let image = push(&alice, "alice/app", "1", "arm64", &["layer"]).await;
    let notation = push_referrer(&alice, "alice/app", &image.manifest, "application/vnd.cncf.notary.signature").await;
    let sbom = push_referrer(&alice, "alice/app", &image.manifest, "application/spdx+json").await;
    let companion = format!("{}.sig", image.digest.replace(':', "-"));
    push(&alice, "alice/app", &companion, "amd64", &["signature"]).await;

    let shown = data(&alice, &zui::detailed_image_info("alice/app", "1")).await["Image"].clone();
    assert_eq!(shown["IsSigned"], true);
    assert_eq!(
        shown["SignatureInfo"],
        json!([
            { "Tool": "cosign", "IsTrusted": false, "Author": "" },
            { "Tool": "notation", "IsTrusted": false, "Author": "" },
        ])
    );
    let query = |kind: &str| zui::referrers("alice/app", &image.digest, kind);
    let all = data(&alice, &query("")).await["Referrers"].clone();
    assert_eq!(all, shown["Referrers"]);
    assert_eq!(all.as_array().unwrap().len(), 2);
    let one = data(&alice, &query("application/spdx+json")).await["Referrers"].clone();
    assert_eq!(
        one,
        json!([{
            "MediaType": "application/vnd.oci.image.manifest.v1+json", "ArtifactType": "application/spdx+json",
            "Size": bytes(&sbom).len(), "Digest": sha256(&bytes(&sbom)), "Annotations": [{ "Key": "a", "Value": "b" }],
        }])
    );
    assert!(all.as_array().unwrap().iter().any(|one| one["Digest"] == sha256(&bytes(&notation))));
    // Tags of signatures are no images.
    let tags = data(&alice, "{ImageList(repo:\"alice/app\"){Page{TotalCount} Results{Tag}}}").await;
    assert_eq!(tags["ImageList"], json!({ "Page": { "TotalCount": 1 }, "Results": [{ "Tag": "1" }] }));
    // A filter finds signed repositories.
    push(&alice, "alice/other", "1", "arm64", &["other"]).await;
    let signed = data(&alice, &zui::global_search("", "ALPHABETIC_ASC", ",filter: { HasToBeSigned: true}")).await;
    assert_eq!(names(&signed["GlobalSearch"]["Repos"]), ["alice/app"]);
}

#[tokio::test]
async fn searches_are_ordered_filtered_and_counted() {
    let t = registry(ON).await;
    let alice = t.user(ALICE);
    for (name, architecture) in [("alice/app", "arm64"), ("alice/my-app", "amd64"), ("alice/web", "amd64")] {
        push(&alice, name, "1", architecture, &[name]).await;
    }
    push_blob(&alice, "alice/untagged", b"only a blob").await;
    for _ in 0..2 {
        alice.get("/v2/alice/web/manifests/1").send().await.status(200);
    }
    alice.put("/v2/_zot/ext/userprefs?repo=alice/web&action=toggleStar").send().await.status(200);
    alice.put("/v2/_zot/ext/userprefs?repo=alice/my-app&action=toggleBookmark").send().await.status(200);
    for (text, sort, filter, expected) in [
        ("app", "RELEVANCE", "", vec!["alice/app", "alice/my-app"]),
        ("", "RELEVANCE", "", vec!["alice/app", "alice/my-app", "alice/web"]),
        ("", "ALPHABETIC_DSC", "", vec!["alice/web", "alice/my-app", "alice/app"]),
        ("", "UPDATE_TIME", "", vec!["alice/web", "alice/my-app", "alice/app"]),
        ("", "STARS", "", vec!["alice/web", "alice/app", "alice/my-app"]),
        ("alice", "ALPHABETIC_ASC", "", vec!["alice/app", "alice/my-app", "alice/web"]),
        ("", "RELEVANCE", ",filter: { Os:[\"linux\"] Arch:[\"amd64\"]}", vec!["alice/my-app", "alice/web"]),
        ("", "RELEVANCE", ",filter: { Os:\"\" Arch:[\"arm64/v8\"]}", vec!["alice/app"]),
        ("", "RELEVANCE", ",filter: { IsStarred: true}", vec!["alice/web"]),
        ("", "RELEVANCE", ",filter: { IsBookmarked: true}", vec!["alice/my-app"]),
        ("nothing", "RELEVANCE", "", vec![]),
    ] {
        let found = data(&alice, &zui::global_search(text, sort, filter)).await["GlobalSearch"].clone();
        assert_eq!(names(&found["Repos"]), expected, "{text:?} {sort} {filter}");
        assert_eq!(found["Page"], json!({ "TotalCount": expected.len(), "ItemCount": expected.len() }), "{text:?}");
    }
    let starred = data(&alice, "{StarredRepos{Results{Name IsStarred StarCount}}}").await;
    assert_eq!(starred["StarredRepos"]["Results"], json!([{ "Name": "alice/web", "IsStarred": true, "StarCount": 1 }]));
    let page = data(&alice, "{BookmarkedRepos(requestedPage:{limit:1}){Page{TotalCount} Results{Name}}}").await;
    assert_eq!(page["BookmarkedRepos"]["Results"], json!([{ "Name": "alice/my-app" }]));
    let second = "{RepoListWithNewestImage(requestedPage:{limit:1 offset:1 sortBy:ALPHABETIC_ASC}){Page{TotalCount ItemCount} Results{Name}}}";
    let second = data(&alice, second).await["RepoListWithNewestImage"].clone();
    assert_eq!(second, json!({ "Page": { "TotalCount": 3, "ItemCount": 1 }, "Results": [{ "Name": "alice/my-app" }] }));

    let suggest = zui::image_suggestions;
    let app = json!([{ "RepoName": "alice/app", "Tag": "1" }]);
    assert_eq!(data(&alice, &suggest("alice/app:")).await["GlobalSearch"]["Images"], app);
    assert_eq!(data(&alice, &suggest("alice/app:2")).await["GlobalSearch"]["Images"], json!([]));
    assert_eq!(data(&alice, &suggest(":1")).await["GlobalSearch"]["Images"].as_array().unwrap().len(), 3);
    assert_eq!(failure(&alice, &suggest("a@b")).await, "invalid search query");
    assert!(failure(&alice, &suggest(&"a".repeat(257))).await.starts_with("max string size limit exceeded"));
    let negative = "{RepoListWithNewestImage(requestedPage:{limit:-1}){Results{Name}}}";
    assert!(failure(&alice, negative).await.contains("can't be negative"));
}

#[tokio::test]
async fn images_that_share_layers_and_digests_are_found() {
    let t = registry(ON).await;
    let (alice, bob) = (t.user(ALICE), t.user(BOB));
    let base = push(&alice, "alice/base", "1", "arm64", &["base"]).await;
    let app = push(&alice, "alice/app", "1", "arm64", &["base", "app"]).await;
    push(&bob, "bob/app", "1", "arm64", &["base", "bob"]).await;
    let of = |found: &Value| {
        let list = found["Results"].as_array().unwrap().iter();
        list.map(|one| one["RepoName"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let derived = data(&alice, &zui::is_dependent_on_for_image("alice/base:1")).await["DerivedImageList"].clone();
    assert_eq!(
        (of(&derived), &derived["Page"]),
        (vec!["alice/app".to_owned()], &json!({ "TotalCount": 1, "ItemCount": 1 }))
    );
    let bases = data(&alice, &zui::depends_on_for_image("alice/app:1")).await["BaseImageList"].clone();
    assert_eq!(of(&bases), ["alice/base"]);
    assert_eq!(
        of(&data(&alice, &zui::depends_on_for_image("alice/base:1")).await["BaseImageList"]),
        Vec::<String>::new()
    );
    // An image that the caller may not see is as absent as one that does not exist.
    for image in ["bob/app:1", "bob/absent:1"] {
        let message = failure(&alice, &zui::depends_on_for_image(image)).await;
        assert_eq!(message, format!("can't find image: {image}"));
    }
    for (digest, expected) in [
        (&base.layers[0], vec!["alice/app", "alice/base"]),
        (&app.config, vec!["alice/app", "alice/base"]),
        (&app.digest, vec!["alice/app"]),
    ] {
        for text in [digest.as_str(), digest.strip_prefix("sha256:").unwrap().get(..12).unwrap()] {
            let found = data(&alice, &format!("{{ImageListForDigest(id:\"{text}\"){{Results{{RepoName}}}}}}")).await;
            assert_eq!(of(&found["ImageListForDigest"]), expected, "{text}");
        }
    }
}

#[tokio::test]
async fn vulnerabilities_are_not_searched() {
    let t = registry(ON).await;
    let alice = t.user(ALICE);
    for query in [
        zui::vulnerabilities_for_repo("alice/app:1", "", "", ""),
        zui::vulnerabilities_for_repo("alice/app:1", "CVE-1", "CVE-2", "HIGH"),
        zui::all_vulnerabilities_for_repo("alice/app:1"),
        zui::image_list_with_cve_fixed("CVE-1", "alice/app", ""),
        zui::image_list_with_cve_fixed("CVE-1", "alice/app", ",filter:{ Os:[\"linux\"] Arch:[\"amd64\"]}"),
    ] {
        assert_eq!(failure(&alice, &query).await, "cve search is disabled", "{query}");
    }
}

#[tokio::test]
async fn an_empty_registry_has_empty_lists() {
    let t = registry(ON).await;
    let alice = t.user(ALICE);
    assert_eq!(data(&alice, &zui::repo_list(15, 0)).await, json!({ "RepoListWithNewestImage": { "Results": [] } }));
    let details = json!({ "ExpandedRepoInfo": { "Images": null, "Summary": null } });
    assert_eq!(data(&alice, &zui::detailed_repo_info("alice/app")).await, details);
    assert_eq!(failure(&alice, &zui::detailed_image_info("alice/app", "1")).await, "can't find image: alice/app:1");
    assert_eq!(failure(&alice, "{Image(image:\"alice\"){Tag}}").await, "no reference provided");
    let found = data(&alice, &zui::global_search("a", "RELEVANCE", "")).await;
    assert_eq!(found, json!({ "GlobalSearch": { "Page": { "TotalCount": 0, "ItemCount": 0 }, "Repos": [] } }));
    t.anonymous().get("/v2/_zot/ext/search?query={__typename}").send().await.status(401);
    assert_eq!(get(&alice, "{__typename}").await.status(200).text(), r#"{"data":{"__typename":"Query"}}"#);
}
