//! The rows about zot's extensions and pages of other origins.

use coracle::Registry;
use coracle::config::Config;
use hyper::Method;
use serde_json::json;

use crate::support::TestRegistry;
use crate::support::content::{index, put_manifest};
use crate::support::http::Caller;
use crate::zot::client::{config, data, failure, get, push, push_config};

/// A registry that allows pages of these origins.
async fn allowing(origins: &str) -> TestRegistry {
    let config = Config::from_toml_str(&format!("http.allowOrigin = {origins:?}")).unwrap().config;
    TestRegistry::start(Registry::builder().config(config)).await
}

checks! {
    async fn other_origins_are_named(caller, _repository) {
        let origin = "https://ui.example";
        let answer = caller.get("/v2/_catalog").header("origin", origin).send().await.status(200);
        assert_eq!(answer.header("access-control-allow-origin"), None);
        let preflight = caller.request(Method::OPTIONS, "/v2/").header("origin", origin);
        preflight.header("access-control-request-method", "GET").send().await.error(405, "UNSUPPORTED");
        caller.request(Method::OPTIONS, "/zot/auth/apikey").send().await.status(204).has("access-control-allow-origin", "*");
    }

    async fn one_of_several_origins(_caller, _repository) {
        let t = allowing("https://a.example,https://b.example").await;
        for origin in ["https://a.example", "https://b.example"] {
            let answer = t.anonymous().get("/v2/").header("origin", origin).send().await;
            answer.has("access-control-allow-origin", origin).has("vary", "Origin");
        }
        let answer = t.anonymous().get("/v2/").header("origin", "https://c.example").send().await;
        assert_eq!(answer.has("vary", "Origin").header("access-control-allow-origin"), None);
    }

    async fn the_newest_image_was_pushed_last(caller, repository) {
        for tag in ["2", "1"] {
            push(&caller, repository, tag, "arm64", &[tag]).await;
        }
        let query = format!("{{ExpandedRepoInfo(repo:\"{repository}\"){{Summary{{LastUpdated NewestImage{{Tag}}}}}}}}");
        let summary = data(&caller, &query).await["ExpandedRepoInfo"]["Summary"].clone();
        assert_eq!(summary["NewestImage"]["Tag"], "1");
        assert!(summary["LastUpdated"].as_str().unwrap() > "2024-05-01T10:00:00Z");
    }

    async fn platforms_are_those_of_recent_tags(caller, repository) {
        push(&caller, repository, "old", "arm64", &["old"]).await;
        for number in 0..20 {
            push(&caller, repository, &number.to_string(), "amd64", &["new"]).await;
        }
        let query = format!("{{ExpandedRepoInfo(repo:\"{repository}\"){{Summary{{Platforms{{Arch}}}}}}}}");
        let summary = data(&caller, &query).await["ExpandedRepoInfo"]["Summary"].clone();
        assert_eq!(summary["Platforms"], json!([{ "Arch": "amd64/v8" }]));
    }

    async fn repositories_are_sorted_by_stars(caller, repository) {
        push(&caller, repository, "1", "arm64", &["layer"]).await;
        caller.put(&format!("/v2/_zot/ext/userprefs?repo={repository}&action=toggleStar")).send().await.status(200);
        let query = "{RepoListWithNewestImage(requestedPage:{limit:1 sortBy:STARS}){Results{Name}}}";
        let found = data(&caller, query).await;
        assert_eq!(found["RepoListWithNewestImage"]["Results"][0]["Name"], repository);
    }

    async fn an_image_out_of_sight_is_not_found(caller, repository) {
        let query = format!("{{Image(image:\"{repository}:1\"){{Tag}}}}");
        assert_eq!(failure(&caller, &query).await, format!("can't find image: {repository}:1"));
    }

    async fn digests_are_found_by_their_beginning(caller, repository) {
        let image = push(&caller, repository, "1", "arm64", &[repository]).await;
        let hex = image.layers[0].strip_prefix("sha256:").unwrap();
        for (part, is_found) in [(&hex[..12], true), (&hex[..3], false), (&hex[4..], false)] {
            let found = data(&caller, &format!("{{ImageListForDigest(id:\"{part}\"){{Page{{TotalCount}}}}}}")).await;
            assert_eq!(found["ImageListForDigest"]["Page"]["TotalCount"], u64::from(is_found), "{part}");
        }
    }

    async fn an_image_without_layers_is_no_base(caller, repository) {
        push(&caller, repository, "none", "arm64", &[]).await;
        push(&caller, repository, "some", "arm64", &[repository]).await;
        for (query, tag) in [("DerivedImageList", "none"), ("BaseImageList", "some")] {
            let found = data(&caller, &format!("{{{query}(image:\"{repository}:{tag}\"){{Results{{Tag}}}}}}")).await;
            assert_eq!(found[query]["Results"], json!([]), "{query}");
        }
    }

    async fn label_schema_is_read_in_labels(caller, repository) {
        let mut labelled = config("arm64");
        labelled["config"]["Labels"] = json!({ "org.label-schema.labels": "web" });
        let annotations = json!({ "org.label-schema.name": "Name" });
        push_config(&caller, (repository, "1"), &labelled, &[], annotations).await;
        let found = data(&caller, &format!("{{Image(image:\"{repository}:1\"){{Labels Title}}}}")).await;
        assert_eq!(found["Image"], json!({ "Labels": "web", "Title": "" }));
    }

    async fn many_searches_wait(caller, _repository) {
        let mut searches = tokio::task::JoinSet::new();
        for _ in 0..20 {
            let caller = caller.clone();
            searches.spawn(async move { get(&caller, "{RepoListWithNewestImage{Results{Name}}}").await.status(200) });
        }
        assert_eq!(searches.join_all().await.len(), 20);
    }

    async fn a_request_has_a_limited_number_of_queries(caller, _repository) {
        let queries = (0..9).map(|number| format!("a{number}:RepoListWithNewestImage{{Results{{Name}}}} ")).collect::<Vec<_>>().concat();
        get(&caller, &format!("{{{queries}}}")).await.status(422);
    }

    async fn a_filter_looks_at_a_limited_number_of_repositories(caller, repository) {
        let empty = index(&[]);
        let mut pushes = tokio::task::JoinSet::new();
        for part in 0..16 {
            let (caller, empty, repository) = (caller.clone(), empty.clone(), repository.to_owned());
            pushes.spawn(async move {
                for number in (part..2_001).step_by(16) {
                    put_manifest(&caller, &format!("{repository}/{number}"), "1", &empty).await.status(201);
                }
            });
        }
        pushes.join_all().await;
        let query = "{GlobalSearch(query:\"\",filter:{Os:[\"absent\"]}){Page{TotalCount} Repos{Name}}}";
        let answer = get(&caller, query).await.status(200).json();
        assert_eq!(answer["errors"][0]["message"], "only 2000 repositories were looked at");
        assert_eq!(answer["data"]["GlobalSearch"]["Repos"], json!([]));
    }

    async fn zots_page_comes_from_a_directory(caller, _repository) {
        let stranger = Caller::new(caller.address(), None);
        stranger.get("/home").send().await.status(404);
        stranger.get("/ui/sign-in").send().await.status(200);
    }

    async fn mgmt_is_json(caller, _repository) {
        caller.get("/v2/_zot/ext/mgmt").send().await.status(200).has("content-type", "application/json");
    }

    async fn mgmt_ignores_parameters(caller, _repository) {
        let stranger = Caller::new(caller.address(), None);
        let bare = stranger.get("/v2/_zot/ext/mgmt").send().await.status(200);
        assert_eq!(stranger.get("/v2/_zot/ext/mgmt?a=b").send().await.status(200).body, bare.body);
    }
    async fn mirrored_tag_is_compared_once_a_minute(_caller, _repository) {
        crate::mirror::tag_is_compared_once_a_minute().await;
    }

    async fn synchronised_name_needs_no_catalog(_caller, _repository) {
        crate::mirror::name_needs_no_catalog().await;
    }
}
