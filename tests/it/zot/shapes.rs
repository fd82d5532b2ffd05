//! Manifests of other kinds: indexes, Docker's types, artifacts; times, users and counts; variables and aliases.

use serde_json::json;

use super::client::{SEARCH, config, data, post, push, push_config};
use super::{ON, registry};
use crate::support::content::{INDEX, MANIFEST, bytes, descriptor, index, push_blob, put_manifest, sha256};
use crate::support::registry::ALICE;

#[tokio::test]
async fn an_index_has_the_manifests_that_the_repository_has() {
    let t = registry(ON).await;
    let alice = t.user(ALICE);
    let arm = push(&alice, "alice/app", "arm", "arm64", &["arm"]).await;
    let amd = push(&alice, "alice/app", "amd", "amd64", &["amd"]).await;
    let list = index(&[&arm.manifest, &amd.manifest]);
    put_manifest(&alice, "alice/app", "all", &list).await.status(201);
    let query =
        "{Image(image:\"alice/app:all\"){Digest MediaType Title Vendor LastUpdated Manifests{Digest Platform{Arch}}}}";
    assert_eq!(
        data(&alice, query).await["Image"],
        json!({
            "Digest": sha256(&bytes(&list)), "MediaType": INDEX, "Title": "App", "Vendor": "ACME",
            "LastUpdated": "2024-05-01T10:00:00Z",
            "Manifests": [
                { "Digest": arm.digest, "Platform": { "Arch": "arm64/v8" } },
                { "Digest": amd.digest, "Platform": { "Arch": "amd64/v8" } },
            ],
        })
    );
    // A layer of one of its manifests finds the index too.
    let found = data(&alice, &format!("{{ImageListForDigest(id:\"{}\"){{Results{{Tag}}}}}}", arm.layers[0])).await;
    assert_eq!(found["ImageListForDigest"]["Results"], json!([{ "Tag": "all" }, { "Tag": "arm" }]));
    let byname = format!("{{Image(image:\"alice/app@{}\"){{Tag Digest TaggedTimestamp}}}}", arm.digest);
    assert_eq!(
        data(&alice, &byname).await["Image"],
        json!({ "Tag": "", "Digest": arm.digest, "TaggedTimestamp": "0001-01-01T00:00:00Z" })
    );
}

#[tokio::test]
async fn docker_images_and_artifacts_are_images() {
    let t = registry(ON).await;
    let alice = t.user(ALICE);
    let config = br#"{"os":"linux","architecture":"amd64"}"#;
    push_blob(&alice, "alice/docker", config).await;
    let docker = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "config": descriptor("application/vnd.docker.container.image.v1+json", config), "layers": [],
    });
    put_manifest(&alice, "alice/docker", "1", &docker).await.status(201);
    push_blob(&alice, "alice/artifact", b"{}").await;
    let artifact = json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "artifactType": "application/vnd.example",
        "config": descriptor("application/vnd.oci.empty.v1+json", b"{}"),
        "layers": [descriptor("text/plain", b"{}")],
    });
    put_manifest(&alice, "alice/artifact", "1", &artifact).await.status(201);
    let fields = "MediaType ArtifactType LastUpdated Title Manifests{ArtifactType Platform{Os Arch} History{Layer{Size} HistoryDescription{Created CreatedBy}}}";
    let shown = data(&alice, &format!("{{Image(image:\"alice/docker:1\"){{{fields}}}}}")).await["Image"].clone();
    let kind = "application/vnd.docker.container.image.v1+json";
    assert_eq!(
        shown,
        json!({
            "MediaType": docker["mediaType"], "ArtifactType": kind, "LastUpdated": "0001-01-01T00:00:00Z", "Title": "",
            "Manifests": [{ "ArtifactType": kind, "Platform": { "Os": "linux", "Arch": "amd64" }, "History": [] }],
        })
    );
    let shown = data(&alice, &format!("{{Image(image:\"alice/artifact:1\"){{{fields}}}}}")).await["Image"].clone();
    let step = json!({ "Created": "0001-01-01T00:00:00Z", "CreatedBy": "" });
    assert_eq!(
        shown["Manifests"],
        json!([{
            "ArtifactType": "application/vnd.example", "Platform": { "Os": "", "Arch": "" },
            "History": [{ "Layer": { "Size": "2" }, "HistoryDescription": step }],
        }])
    );
}

#[tokio::test]
async fn times_and_the_user_of_a_push_are_shown() {
    let t = registry(ON).await;
    let alice = t.user(ALICE);
    push(&alice, "alice/app", "1", "arm64", &["layer"]).await;
    let query = "{Image(image:\"alice/app:1\"){PushedBy PushTimestamp TaggedTimestamp LastPullTimestamp IsDeletable DownloadCount}}";
    let shown = data(&alice, query).await["Image"].clone();
    assert_eq!((&shown["PushedBy"], &shown["IsDeletable"]), (&json!("alice"), &json!(null)));
    assert_eq!(shown["PushTimestamp"], shown["TaggedTimestamp"]);
    assert!(shown["PushTimestamp"].as_str().unwrap().starts_with("20"));
    assert_eq!(shown["LastPullTimestamp"], "0001-01-01T00:00:00Z");
}

#[tokio::test]
async fn variables_aliases_fragments_and_operation_names_work() {
    let t = registry(ON).await;
    let alice = t.user(ALICE);
    push(&alice, "alice/app", "1", "arm64", &["layer"]).await;
    let query = "query A{__typename} query B($image:String!,$with:Boolean!){one:Image(image:$image){...f} Image(image:$image){Tag @include(if:$with) __typename}} fragment f on ImageSummary{RepoName}";
    let body = json!({ "query": query, "operationName": "B", "variables": { "image": "alice/app:1", "with": false } });
    let answer = alice.post(SEARCH).body(body.to_string()).send().await.status(200).json();
    let expected = json!({ "data": { "one": { "RepoName": "alice/app" }, "Image": { "__typename": "ImageSummary" } } });
    assert_eq!(answer, expected);
    let url = format!(
        "{SEARCH}?operationName=C&variables=%7B%22a%22:%22alice/app:1%22%7D&query=query%20C($a:String!){{Image(image:$a){{Tag}}}}"
    );
    let answer = alice.get(&url).send().await.status(200).json();
    assert_eq!(answer, json!({ "data": { "Image": { "Tag": "1" } } }));
    let wrong = json!({ "query": "query($a:String!){Image(image:$a){Tag}}", "variables": { "a": 1 } });
    alice.post(SEARCH).body(wrong.to_string()).send().await.status(422);
    alice.get(&format!("{SEARCH}?query={{__typename}}&variables=x")).send().await.status(422);
}

#[tokio::test]
async fn a_plus_sign_in_the_url_is_a_blank() {
    let t = registry(ON).await;
    let answer = t.user(ALICE).get(&format!("{SEARCH}?query=query+A+{{__typename}}")).send().await.status(200).json();
    assert_eq!(answer, json!({ "data": { "__typename": "Query" } }));
}

#[tokio::test]
async fn labels_of_label_schema_stand_in_for_annotations() {
    let t = registry(ON).await;
    let alice = t.user(ALICE);
    let mut described = config("arm64");
    described["config"]["Labels"] = json!({
        "org.label-schema.description": "Old", "org.label-schema.license": "GPL", "org.label-schema.name": "Name",
        "org.label-schema.vcs-url": "https://src", "org.label-schema.usage": "https://doc",
        "org.label-schema.vendor": "Maker", "org.label-schema.labels": "web,db",
    });
    let newer = json!({ "org.opencontainers.image.title": "Title" });
    push_config(&alice, ("alice/app", "1"), &described, &["layer"], newer).await;
    let query = "{Image(image:\"alice/app:1\"){Description Licenses Title Source Documentation Vendor Authors Labels}}";
    assert_eq!(
        data(&alice, query).await["Image"],
        json!({
            "Description": "Old", "Licenses": "GPL", "Title": "Title", "Source": "https://src",
            "Documentation": "https://doc", "Vendor": "Maker", "Authors": "", "Labels": "web,db",
        })
    );
}

#[tokio::test]
async fn a_tag_is_found_by_a_part_in_any_case_in_any_repository() {
    let t = registry(ON).await;
    let alice = t.user(ALICE);
    for (repository, tag) in [("alice/app", "V1-RC"), ("alice/app", "2"), ("alice/app-x", "1-rc2"), ("alice/b", "3")] {
        push(&alice, repository, tag, "arm64", &["layer"]).await;
    }
    let query = "{GlobalSearch(query:\":Rc\"){Page{TotalCount} Images{RepoName Tag}}}";
    assert_eq!(
        data(&alice, query).await["GlobalSearch"],
        json!({
            "Page": { "TotalCount": 2 },
            "Images": [{ "RepoName": "alice/app", "Tag": "V1-RC" }, { "RepoName": "alice/app-x", "Tag": "1-rc2" }],
        })
    );
}

#[tokio::test]
async fn found_repositories_have_the_rank_of_zot() {
    let t = registry(&format!("{ON}profile = 'zot'")).await;
    let alice = t.user(ALICE);
    for name in ["app", "team/app", "team/my-app", "app/web", "a/app/b", "other"] {
        push(&alice, name, "1", "arm64", &["layer"]).await;
    }
    let found = data(&alice, "{GlobalSearch(query:\"app\"){Page{TotalCount} Repos{Name Rank}}}").await;
    let expected = [("app", 0), ("team/app", 1), ("team/my-app", 4), ("app/web", 10), ("a/app/b", 300)];
    let expected: Vec<_> = expected.iter().map(|(name, rank)| json!({ "Name": name, "Rank": rank })).collect();
    assert_eq!(found["GlobalSearch"], json!({ "Page": { "TotalCount": 5 }, "Repos": expected }));
}

#[tokio::test]
async fn an_index_is_found_with_the_manifests_that_are_meant() {
    let t = registry(ON).await;
    let alice = t.user(ALICE);
    let base = push(&alice, "alice/base", "1", "arm64", &["arm base"]).await;
    let arm = push(&alice, "alice/app", "arm", "arm64", &["arm base", "arm"]).await;
    let amd = push(&alice, "alice/app", "amd", "amd64", &["amd base", "amd"]).await;
    let list = index(&[&arm.manifest, &amd.manifest]);
    put_manifest(&alice, "alice/app", "all", &list).await.status(201);
    let shown = |tag: &str, images: &[&super::client::Image]| {
        let digests: Vec<_> = images.iter().map(|image| json!({ "Digest": image.digest })).collect();
        json!({ "Tag": tag, "Manifests": digests })
    };
    let whole = sha256(&bytes(&list));
    for (query, expected) in [
        ("DerivedImageList(image:\"alice/base:1\")".to_owned(), vec![shown("all", &[&arm]), shown("arm", &[&arm])]),
        ("BaseImageList(image:\"alice/app:all\")".to_owned(), vec![shown("1", &[&base])]),
        (format!("ImageListForDigest(id:\"{}\")", amd.layers[1]), vec![shown("all", &[&amd]), shown("amd", &[&amd])]),
        (format!("ImageListForDigest(id:\"{whole}\")"), vec![shown("all", &[&arm, &amd])]),
        // Only one of its manifests has the base.
        (format!("BaseImageList(image:\"alice/app:all\" digest:\"{}\")", amd.digest), vec![]),
        (format!("BaseImageList(image:\"alice/app:all\" digest:\"{}\")", arm.digest), vec![shown("1", &[&base])]),
    ] {
        let found = data(&alice, &format!("{{{query}{{Results{{Tag Manifests{{Digest}}}}}}}}")).await;
        let found = found.as_object().unwrap().values().next().unwrap()["Results"].clone();
        assert_eq!(found, json!(expected), "{query}");
    }
}

#[tokio::test]
async fn a_response_with_too_many_bytes_is_refused() {
    let t = registry(ON).await;
    let alice = t.user(ALICE);
    let mut large = config("arm64");
    let step = json!({ "created_by": "x".repeat(1000), "empty_layer": true });
    large["history"] = vec![step; 24].into();
    push_config(&alice, ("alice/app", "1"), &large, &["layer"], json!({})).await;
    // Every alias repeats the values of a list. Long values make it few enough for a build without optimisation.
    let texts = (0..60).map(|number| format!("b{number}:CreatedBy ")).collect::<Vec<_>>().concat();
    let query = |aliases: usize| {
        let histories = (0..aliases).map(|number| format!("a{number}:History{{HistoryDescription{{...H}}}} "));
        let histories = histories.collect::<String>();
        format!(
            "{{Image(image:\"alice/app:1\"){{Manifests{{{histories}}}}}}} fragment H on HistoryDescription{{{texts}}}"
        )
    };
    let shown = data(&alice, &query(2)).await["Image"]["Manifests"][0].clone();
    assert_eq!(shown["a1"].as_array().unwrap().len(), 25);
    let answer = post(&alice, &query(60)).await.status(422).json();
    let message = answer["errors"][0]["message"].as_str().unwrap();
    assert!(message.contains("64 MiB") && message.contains("requestedPage"), "{message}");
    assert_eq!(answer["data"], json!(null));
}

#[tokio::test]
async fn hostile_requests_get_errors_in_the_form_of_graphql() {
    let t = registry(ON).await;
    let alice = t.user(ALICE);
    let aliases = (0..10_000).map(|number| format!("a{number}:__typename ")).collect::<Vec<_>>().concat();
    for (query, status) in [
        (format!("{{{}}}", "a ".repeat(500_000)), 413),
        (format!("{}{}", "{a".repeat(100), "}".repeat(100)), 422),
        (format!("{{{}}}", &aliases[..60_000]), 422),
        (format!("{{GlobalSearch(query:\"\"){{Repos{{{}}}}}}}", "Name ".repeat(2_000)), 422),
        ("{absent}".to_owned(), 422),
        ("{Image(image:\"a:1\"){Tag{absent}}}".to_owned(), 422),
        ("{GlobalSearch(query:\"\" requestedPage:{limit:\"1\"}){Page{TotalCount}}}".to_owned(), 422),
        ("{GlobalSearch(query:[\"\"]){Page{TotalCount}}}".to_owned(), 422),
        ("{Image(image:1){Tag}}".to_owned(), 422),
        (String::new(), 422),
    ] {
        let answer = post(&alice, &query).await.status(status).has("content-type", "application/json").json();
        assert_eq!(answer["data"], json!(null));
        assert!(answer["errors"][0]["message"].is_string() && answer["errors"].as_array().unwrap().len() <= 20);
    }
    for body in ["", "{", "{\"query\":1}", "{\"variables\":[]}"] {
        let answer = alice.post(SEARCH).body(body).send().await.status(400).json();
        assert!(answer["errors"][0]["message"].is_string(), "{body}");
    }
    alice.put(SEARCH).send().await.status(405);
    registry("").await.user(ALICE).get(&format!("{SEARCH}?query={{__typename}}")).send().await.status(404);
}
