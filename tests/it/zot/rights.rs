//! Users find only what they may pull: in lists, counts, images, layers and referrers.

use std::collections::BTreeSet;

use serde_json::Value;

use super::client::{data, get, push, push_referrer};
use super::{ON, registry, zui};
use crate::support::content::{noise, sha256};
use crate::support::http::Caller;
use crate::support::registry::{ALICE, BOB, ROOT};

/// Every query that lists repositories or images of several repositories, and the part of the names that it finds.
/// Without a part, it finds all.
const LISTS: [(&str, &str); 14] = [
    ("{RepoListWithNewestImage{Page{TotalCount} Results{Name NewestImage{RepoName}}}}", ""),
    ("{RepoListWithNewestImage(requestedPage:{sortBy:ALPHABETIC_DSC}){Page{TotalCount} Results{Name}}}", ""),
    ("{RepoListWithNewestImage(requestedPage:{sortBy:UPDATE_TIME}){Page{TotalCount} Results{Name}}}", ""),
    ("{RepoListWithNewestImage(requestedPage:{sortBy:DOWNLOADS}){Page{TotalCount} Results{Name}}}", ""),
    ("{RepoListWithNewestImage(requestedPage:{sortBy:STARS}){Page{TotalCount} Results{Name}}}", ""),
    ("{GlobalSearch(query:\"\"){Page{TotalCount} Repos{Name}}}", ""),
    ("{GlobalSearch(query:\"app\"){Page{TotalCount} Repos{Name}}}", "app"),
    ("{GlobalSearch(query:\"\",filter:{Os:[\"linux\"]}){Page{TotalCount} Repos{Name}}}", ""),
    ("{GlobalSearch(query:\":1\"){Page{TotalCount} Images{RepoName}}}", ""),
    ("{GlobalSearch(query:\"LAYER\"){Page{TotalCount} Images{RepoName}}}", ""),
    ("{ImageListForDigest(id:\"LAYER\"){Page{TotalCount} Results{RepoName}}}", ""),
    ("{ImageListForDigest(id:\"CONFIG\"){Page{TotalCount} Results{RepoName}}}", ""),
    // All others have the layers of the base, and none has more than the derived image.
    ("{DerivedImageList(image:\"public/base:1\"){Page{TotalCount} Results{RepoName}}}", "not public/base"),
    ("{BaseImageList(image:\"public/derived:1\"){Page{TotalCount} Results{RepoName}}}", "not public/derived"),
];

/// Whether a query with a part finds a repository.
fn finds(part: &str, name: &str) -> bool {
    part.strip_prefix("not ").map_or_else(|| name.contains(part), |other| name != other)
}

/// The repositories that a result names, and the count that it states.
fn named(value: &Value, names: &mut BTreeSet<String>) -> Option<u64> {
    let mut total = value["TotalCount"].as_u64();
    match value {
        Value::Object(fields) => {
            for (field, value) in fields {
                match (field.as_str(), value) {
                    ("Name" | "RepoName", Value::String(name)) => {
                        names.insert(name.clone());
                    }
                    _ => total = total.or(named(value, names)),
                }
            }
        }
        Value::Array(list) => list.iter().for_each(|value| {
            named(value, names);
        }),
        _ => {}
    }
    total
}

async fn found(caller: &Caller, query: &str) -> (BTreeSet<String>, u64) {
    let mut names = BTreeSet::new();
    let total = named(&data(caller, query).await, &mut names).unwrap();
    (names, total)
}

#[tokio::test]
async fn users_find_only_the_repositories_that_they_may_pull() {
    let rules = "http.accessControl.repositories.'public/**' = {policies = [{users = ['root'], actions = ['create']}], defaultPolicy = ['read'], anonymousPolicy = ['read']}";
    let t = registry(&format!("{ON}{rules}\n")).await;
    let (alice, bob, root) = (t.user(ALICE), t.user(BOB), t.user(ROOT));
    let mut existing: BTreeSet<String> = ["public/base", "public/derived"].map(str::to_owned).into();
    let base = push(&root, "public/base", "1", "arm64", &["base"]).await;
    let derived = push(&root, "public/derived", "1", "arm64", &["base", "derived", "more"]).await;
    for (name, image) in [("public/base", &base), ("public/derived", &derived)] {
        push_referrer(&root, name, &image.manifest, "application/spdx+json").await;
    }
    for number in 0..12_u64 {
        let chosen = noise(2, number);
        let (owner, caller) = if chosen[0].is_multiple_of(2) { ("alice", &alice) } else { ("bob", &bob) };
        let word = if chosen[1].is_multiple_of(2) { "app" } else { "web" };
        let name = format!("{owner}/{word}{number}");
        let image = push(caller, &name, "1", "arm64", &["base", "derived"]).await;
        push_referrer(caller, &name, &image.manifest, "application/spdx+json").await;
        existing.insert(name);
    }
    for (caller, owner) in [(&alice, "alice/"), (&bob, "bob/"), (&root, "")] {
        let may = |name: &str| name.starts_with("public/") || name.starts_with(owner);
        for (query, part) in LISTS {
            let query = query.replace("LAYER", &base.layers[0]).replace("CONFIG", &base.config);
            let expected: BTreeSet<String> =
                existing.iter().filter(|name| may(name) && finds(part, name)).cloned().collect();
            let total = expected.len() as u64;
            assert_eq!(found(caller, &query).await, (expected, total), "{owner} {query}");
        }
        for name in &existing {
            check_one(caller, name, may(name)).await;
        }
    }
}

/// Checks all queries about one repository. To callers who do not see it, it looks like one that does not exist.
async fn check_one(caller: &Caller, name: &str, is_seen: bool) {
    let info = data(caller, &format!("{{ExpandedRepoInfo(repo:\"{name}\"){{Summary{{Name}} Images{{Tag}}}}}}")).await;
    assert_eq!(info["ExpandedRepoInfo"]["Summary"]["Name"].is_string(), is_seen, "{name}");
    assert_eq!(info["ExpandedRepoInfo"]["Images"].is_array(), is_seen, "{name}");
    for query in [
        format!("{{ImageList(repo:\"{name}\"){{Results{{Tag}}}}}}"),
        format!("{{GlobalSearch(query:\"{name}:1\"){{Images{{Tag}}}}}}"),
    ] {
        let answer = data(caller, &query).await.to_string();
        assert_eq!(answer.contains("\"Tag\":\"1\""), is_seen, "{query}");
    }
    let image = get(caller, &zui::detailed_image_info_with_types(name, "1")).await.status(200).json();
    let image = &image["data"]["Image"];
    assert_eq!(image["Manifests"][0]["Layers"][0]["Digest"].is_string(), is_seen, "{name}");
    assert_eq!(image["Referrers"].as_array().is_some_and(|list| !list.is_empty()), is_seen, "{name}");
    let digest = sha256(b"absent");
    let digest = image["Manifests"][0]["Digest"].as_str().unwrap_or(&digest);
    let referrers = data(caller, &zui::referrers(name, digest, "")).await;
    assert_eq!(!referrers["Referrers"].as_array().unwrap().is_empty(), is_seen, "{name}");
    for query in ["BaseImageList", "DerivedImageList"] {
        let query = format!("{{{query}(image:\"{name}:1\"){{Results{{RepoName}}}}}}");
        let answer = get(caller, &query).await.status(200).json();
        assert_eq!(answer.get("errors").is_none(), is_seen, "{query}: {answer}");
    }
}

#[tokio::test]
async fn stars_of_one_user_are_not_those_of_another() {
    let t = registry(&format!("{ON}profile = 'zot'")).await;
    let (alice, bob) = (t.user(ALICE), t.user(BOB));
    push(&alice, "team/app", "1", "arm64", &["layer"]).await;
    alice.put("/v2/_zot/ext/userprefs?repo=team/app&action=toggleStar").send().await.status(200);
    alice.put("/v2/_zot/ext/userprefs?repo=team/app&action=toggleBookmark").send().await.status(200);
    let query = "{ExpandedRepoInfo(repo:\"team/app\"){Summary{IsStarred IsBookmarked StarCount}}}";
    for (caller, is) in [(&alice, true), (&bob, false)] {
        let summary = data(caller, query).await["ExpandedRepoInfo"]["Summary"].clone();
        assert_eq!((summary["IsStarred"].as_bool(), summary["IsBookmarked"].as_bool()), (Some(is), Some(is)));
        assert_eq!(summary["StarCount"], 1);
        let starred = data(caller, "{StarredRepos{Results{Name}}}").await["StarredRepos"]["Results"].clone();
        assert_eq!(starred.as_array().unwrap().len(), usize::from(is));
    }
}

#[tokio::test]
async fn an_api_key_finds_only_what_it_may_pull() {
    let t = registry(ON).await;
    let alice = t.user(ALICE);
    push(&alice, "alice/app", "1", "arm64", &["layer"]).await;
    push(&alice, "alice/other", "1", "arm64", &["layer"]).await;
    let body = r#"{"label":"one","scopes":["alice/app:pull"]}"#;
    let key = alice.post("/zot/auth/apikey").body(body).send().await.status(201).json();
    let limited = t.user((ALICE.0, key["apiKey"].as_str().unwrap()));
    let info = data(&limited, "{ExpandedRepoInfo(repo:\"alice/app\"){Images{IsDeletable}}}").await;
    assert_eq!(info["ExpandedRepoInfo"]["Images"][0]["IsDeletable"], false);
    let (names, total) = found(&limited, "{RepoListWithNewestImage{Page{TotalCount} Results{Name}}}").await;
    assert_eq!((names, total), (BTreeSet::from(["alice/app".to_owned()]), 1));
}
