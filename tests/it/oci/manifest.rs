//! "Pushing Manifests": what is taken, what is refused and why, tags in the same step, conditions.

use coracle::config::Config;
use coracle::{AccessPolicy, Registry};
use serde_json::{Value, json};

use crate::support::TestRegistry;
use crate::support::content::{
    CONFIG, EMPTY, INDEX, LAYER, MANIFEST, bytes, descriptor, image, index, push_blob, push_image, put_manifest,
    sha256, sha512,
};
use crate::support::http::{Answer, Caller};

const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// The largest manifest that is taken.
const LARGEST: usize = 4 << 20;

/// Pushes any bytes as a manifest.
async fn put(caller: &Caller, reference: &str, content_type: &str, body: impl Into<bytes::Bytes>) -> Answer {
    let path = format!("/v2/a/manifests/{reference}");
    caller.put(&path).header("content-type", content_type).body(body).send().await
}

/// Pushes bytes that are a manifest, and asserts that they are served as they came.
async fn round_trip(caller: &Caller, reference: &str, content_type: &str, body: Vec<u8>) {
    let digest = sha256(&body);
    let answer = put(caller, reference, content_type, body.clone()).await.status(201);
    let answer = answer.has("docker-content-digest", &digest).has("content-length", "0");
    assert_eq!(answer.location(), format!("/v2/a/manifests/{digest}"));
    for reference in [reference, &digest] {
        let got = caller.get(&format!("/v2/a/manifests/{reference}")).send().await.status(200);
        assert_eq!(got.has("content-type", content_type).body, body);
    }
}

/// A repository `a` that has the config `{}` and one layer.
async fn with_blobs() -> (TestRegistry, Caller) {
    let t = TestRegistry::open().await;
    let caller = t.anonymous();
    push_blob(&caller, "a", b"{}").await;
    push_blob(&caller, "a", b"layer").await;
    (t, caller)
}

#[tokio::test]
async fn a_manifest_is_kept_in_its_exact_bytes() {
    let (_t, caller) = with_blobs().await;
    let config = descriptor(CONFIG, b"{}");
    // Odd order, odd blanks, an unknown field, escapes and numbers as no printer would write them.
    let text = format!(
        "\n{{ \"unknown\" : [1.0e0, \"\\u0061\"],\r\n\t\"layers\":[ ],\"config\":{config},  \"mediaType\":\"{MANIFEST}\",\"schemaVersion\":2}} \n"
    );
    round_trip(&caller, "odd", MANIFEST, text.into_bytes()).await;
}

#[tokio::test]
async fn every_kind_of_manifest_is_taken() {
    let (_t, caller) = with_blobs().await;
    let one = image(b"{}", &[b"layer"]);
    round_trip(&caller, "image", MANIFEST, bytes(&one)).await;
    round_trip(&caller, "no-layers", MANIFEST, bytes(&image(b"{}", &[]))).await;
    let mut artifact = image(b"{}", &[b"layer"]);
    artifact["config"]["mediaType"] = EMPTY.into();
    artifact["artifactType"] = "application/vnd.example+type".into();
    artifact["annotations"] = json!({ "a": "b" });
    round_trip(&caller, "artifact", MANIFEST, bytes(&artifact)).await;
    let mut unknown_types = image(b"{}", &[b"layer"]);
    unknown_types["config"]["mediaType"] = "application/vnd.example.config".into();
    unknown_types["layers"][0]["mediaType"] = "text/spam; charset=x".into();
    round_trip(&caller, "unknown-types", MANIFEST, bytes(&unknown_types)).await;
    let mut docker = one.clone();
    docker["mediaType"] = DOCKER_MANIFEST.into();
    round_trip(&caller, "docker", DOCKER_MANIFEST, bytes(&docker)).await;

    let both = index(&[&one, &artifact]);
    round_trip(&caller, "index", INDEX, bytes(&both)).await;
    round_trip(&caller, "nested-index", INDEX, bytes(&index(&[&both, &one]))).await;
    round_trip(&caller, "empty-index", INDEX, bytes(&index(&[]))).await;
    let mut list = index(&[&docker]);
    list["mediaType"] = DOCKER_LIST.into();
    round_trip(&caller, "docker-list", DOCKER_LIST, bytes(&list)).await;
    // BuildKit's caches list blobs in an index.
    let mut cache = index(&[]);
    cache["manifests"] =
        json!([descriptor(LAYER, b"layer"), descriptor("application/vnd.buildkit.cacheconfig.v0", b"{}")]);
    round_trip(&caller, "cache", INDEX, bytes(&cache)).await;
}

#[tokio::test]
async fn a_layer_that_is_kept_elsewhere_need_not_be_here() {
    let (_t, caller) = with_blobs().await;
    for kind in [
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
    ] {
        let mut manifest = image(b"{}", &[]);
        manifest["layers"] = json!([descriptor(kind, b"elsewhere")]);
        round_trip(&caller, "1", MANIFEST, bytes(&manifest)).await;
    }
}

#[tokio::test]
async fn a_content_type_may_have_parameters_or_be_missing() {
    let (_t, caller) = with_blobs().await;
    let mut manifest = image(b"{}", &[]);
    let push = |tag: &str, manifest: &Value| caller.put(&format!("/v2/a/manifests/{tag}")).body(bytes(manifest));
    let parameters = format!("{MANIFEST}; charset=utf-8");
    push("1", &manifest).header("content-type", parameters).send().await.status(201);
    push("2", &manifest).send().await.status(201);
    manifest.as_object_mut().unwrap().remove("mediaType");
    push("3", &manifest).send().await.status(201);
    push("4", &manifest).header("content-type", MANIFEST).send().await.status(201);
    for tag in ["1", "2", "3", "4"] {
        let got = caller.get(&format!("/v2/a/manifests/{tag}")).send().await.status(200);
        got.has("content-type", MANIFEST);
    }
}

#[tokio::test]
async fn a_type_that_is_no_manifest_is_415_and_one_that_is_not_the_manifests_own_is_400() {
    let (_t, caller) = with_blobs().await;
    let own = bytes(&image(b"{}", &[]));
    let mut without = image(b"{}", &[]);
    without.as_object_mut().unwrap().remove("mediaType");
    let without = bytes(&without);
    for kind in ["application/json", "application/vnd.docker.distribution.manifest.v1+prettyjws", CONFIG] {
        put(&caller, "1", kind, without.clone()).await.error(415, "MANIFEST_INVALID");
        put(&caller, "1", kind, own.clone()).await.error(415, "MANIFEST_INVALID");
    }
    for kind in [INDEX, DOCKER_MANIFEST, "nonsense", "/", "a/b/c"] {
        put(&caller, "1", kind, own.clone()).await.error(400, "MANIFEST_INVALID");
        put(&caller, "1", kind, b"{}".to_vec()).await.error(400, "MANIFEST_INVALID");
    }
    caller.get("/v2/a/manifests/1").send().await.status(404);
}

#[tokio::test]
async fn a_digest_must_be_that_of_the_bytes() {
    let (_t, caller) = with_blobs().await;
    let body = bytes(&image(b"{}", &[]));
    for wrong in [sha256(b"other"), sha512(b"other")] {
        put(&caller, &wrong, MANIFEST, body.clone()).await.error(400, "DIGEST_INVALID");
        caller.get(&format!("/v2/a/manifests/{wrong}")).send().await.status(404);
    }
    for none in ["sha256:abc", "md5:d41d8cd98f00b204e9800998ecf8427e", "latest:1"] {
        put(&caller, none, MANIFEST, body.clone()).await.error(400, "DIGEST_INVALID");
    }
    put(&caller, &sha256(&body), MANIFEST, body.clone()).await.status(201);
    caller.get("/v2/a/tags/list").send().await.status(200);
}

#[tokio::test]
async fn a_manifest_of_sha512_is_pulled_by_it_and_by_its_tags() {
    let (_t, caller) = with_blobs().await;
    let body = bytes(&image(b"{}", &[]));
    let digest = sha512(&body);
    let push = put(&caller, &format!("{digest}?tag=x&tag=y"), MANIFEST, body.clone()).await.status(201);
    let push = push.has("docker-content-digest", &digest);
    assert_eq!(push.location(), format!("/v2/a/manifests/{digest}"));
    for reference in [digest.as_str(), "x", "y"] {
        let got = caller.get(&format!("/v2/a/manifests/{reference}")).send().await.status(200);
        assert_eq!(got.has("docker-content-digest", &digest).body, body);
    }
    // Blobs and subjects may be named by it as well.
    let (config, subject) = (sha512(b"{}"), digest);
    caller.post(&format!("/v2/a/blobs/uploads/?digest={config}")).body("{}").send().await.status(201);
    let mut manifest = image(b"{}", &[]);
    manifest["config"]["digest"] = config.into();
    manifest["subject"] = json!({ "mediaType": MANIFEST, "digest": subject, "size": body.len() });
    put_manifest(&caller, "a", "z", &manifest).await.status(201).has("oci-subject", &subject);
    let listed = caller.get(&format!("/v2/a/referrers/{subject}")).send().await.status(200);
    assert_eq!(listed.json()["manifests"][0]["digest"], sha256(&bytes(&manifest)));
}

#[tokio::test]
async fn a_manifest_of_exactly_4_mib_is_taken_and_a_larger_one_is_413() {
    let (_t, caller) = with_blobs().await;
    let mut body = bytes(&image(b"{}", &[]));
    body.resize(LARGEST, b' ');
    round_trip(&caller, "largest", MANIFEST, body.clone()).await;
    body.push(b' ');
    put(&caller, "larger", MANIFEST, body.clone()).await.error(413, "MANIFEST_INVALID");
    let parts = body.chunks(100_000).map(bytes::Bytes::copy_from_slice).collect();
    let chunked = caller.put("/v2/a/manifests/larger").header("content-type", MANIFEST).chunked(parts);
    chunked.send().await.error(413, "MANIFEST_INVALID");
    caller.get("/v2/a/manifests/larger").send().await.status(404);
}

#[tokio::test]
async fn a_descriptor_without_a_valid_size_is_refused_by_its_name() {
    let (_t, caller) = with_blobs().await;
    let push = async |manifest: &Value, field: &str| {
        let refused = put_manifest(&caller, "a", "1", manifest).await.error(400, "MANIFEST_INVALID").json();
        let message = refused["errors"][0]["message"].as_str().unwrap();
        assert!(message.contains(&format!("the field {field}.size ")), "{message}");
    };
    for size in [json!(-5), json!(1.5), json!("12"), json!(null), json!(1e30), json!(u64::MAX), json!([])] {
        let mut manifest = image(b"{}", &[b"layer", b"layer"]);
        manifest["layers"][1]["size"] = size.clone();
        push(&manifest, "layers[1]").await;
        let mut manifest = image(b"{}", &[]);
        manifest["config"]["size"] = size.clone();
        push(&manifest, "config").await;
        let mut list = index(&[&image(b"{}", &[])]);
        list["manifests"][0]["size"] = size;
        push(&list, "manifests[0]").await;
    }
    let mut manifest = image(b"{}", &[b"layer"]);
    manifest["layers"][0].as_object_mut().unwrap().remove("size");
    push(&manifest, "layers[0]").await;
    // As in other registries, the size need not be that of the stored blob.
    let mut manifest = image(b"{}", &[b"layer"]);
    manifest["layers"][0]["size"] = json!(i64::MAX);
    put_manifest(&caller, "a", "1", &manifest).await.status(201);
}

#[tokio::test]
async fn missing_blobs_are_all_named() {
    let (_t, caller) = with_blobs().await;
    // Another repository's blob is not this one's.
    push_blob(&caller, "b", b"in b").await;
    let manifest = image(b"no config", &[b"layer", b"missing", b"in b", b"missing"]);
    let refused = put_manifest(&caller, "a", "1", &manifest).await.error(400, "MANIFEST_BLOB_UNKNOWN");
    let mut missing = [b"no config".as_slice(), b"missing", b"in b"].map(sha256);
    missing.sort_unstable();
    assert_eq!(refused.digests(), missing);
    caller.get("/v2/a/manifests/1").send().await.error(404, "MANIFEST_UNKNOWN");
}

#[tokio::test]
async fn missing_manifests_of_an_index_are_all_named() {
    let (_t, caller) = with_blobs().await;
    let here = image(b"{}", &[]);
    put_manifest(&caller, "a", "here", &here).await.status(201);
    let gone = [image(b"1", &[]), image(b"2", &[])];
    let refused = put_manifest(&caller, "a", "1", &index(&[&gone[0], &here, &gone[1]])).await;
    let mut missing = gone.each_ref().map(|manifest| sha256(&bytes(manifest)));
    missing.sort_unstable();
    assert_eq!(refused.error(400, "MANIFEST_BLOB_UNKNOWN").digests(), missing);
    // A blob of the same bytes is no manifest.
    push_blob(&caller, "a", &bytes(&gone[0])).await;
    let refused = put_manifest(&caller, "a", "1", &index(&[&gone[0]])).await;
    assert_eq!(refused.error(400, "MANIFEST_BLOB_UNKNOWN").digests(), [sha256(&bytes(&gone[0]))]);
}

#[tokio::test]
async fn a_sparse_index_is_taken_if_the_configuration_says_so() {
    let config = Config::from_toml_str("storage.allowSparseIndexes = true").unwrap().config;
    let t = TestRegistry::start(Registry::builder().config(config).policy(AccessPolicy::Open)).await;
    let caller = t.anonymous();
    push_blob(&caller, "a", b"{}").await;
    let child = image(b"{}", &[]);
    let sparse = index(&[&child, &image(b"gone", &[])]);
    round_trip(&caller, "sparse", INDEX, bytes(&sparse)).await;
    // The blobs of an image must be there all the same; and a child may come later.
    put_manifest(&caller, "a", "1", &image(b"gone", &[])).await.error(400, "MANIFEST_BLOB_UNKNOWN");
    put_manifest(&caller, "a", &sha256(&bytes(&child)), &child).await.status(201);
    let delete = caller.delete(&format!("/v2/a/manifests/{}", sha256(&bytes(&child))));
    delete.send().await.error(405, "DENIED");
}

#[tokio::test]
async fn a_subject_may_be_there_or_not_and_is_acknowledged() {
    let (_t, caller) = with_blobs().await;
    let subject = bytes(&push_image(&caller, "a", "subject", 3).await);
    for subject in [subject.as_slice(), b"not there"] {
        let digest = sha256(subject);
        let mut manifest = image(b"{}", &[]);
        manifest["subject"] = descriptor(MANIFEST, subject);
        // Again and again: the header is there each time.
        for _ in 0..2 {
            put_manifest(&caller, "a", "1", &manifest).await.status(201).has("oci-subject", &digest);
        }
        let mut list = index(&[]);
        list["subject"] = descriptor(MANIFEST, subject);
        put_manifest(&caller, "a", "2", &list).await.status(201).has("oci-subject", &digest);
    }
    let without = put_manifest(&caller, "a", "3", &image(b"{}", &[])).await.status(201);
    assert_eq!(without.header("oci-subject"), None);
}

#[tokio::test]
async fn tags_come_with_a_push_by_digest() {
    let (_t, caller) = with_blobs().await;
    let body = bytes(&image(b"{}", &[]));
    let digest = sha256(&body);
    let tags: Vec<String> = (0..46).map(|n| format!("{}{n:02}", "x".repeat(126))).collect();
    let query = tags.iter().map(|tag| format!("tag={tag}")).collect::<Vec<_>>().join("&");
    let push = put(&caller, &format!("{digest}?{query}"), MANIFEST, body.clone()).await.status(201);
    assert_eq!(push.list("oci-tag"), tags);
    assert_eq!(caller.get("/v2/a/tags/list").send().await.status(200).json()["tags"], json!(tags));
    for tag in &tags {
        caller.head(&format!("/v2/a/manifests/{tag}")).send().await.status(200).has("docker-content-digest", &digest);
    }
    // A tag said twice is one tag; without tags, there is no header.
    let push = put(&caller, &format!("{digest}?tag=a&tag=b&tag=a"), MANIFEST, body.clone()).await.status(201);
    assert_eq!(push.list("oci-tag"), ["a", "b"]);
    let push = put(&caller, &digest, MANIFEST, body.clone()).await.status(201);
    assert!(push.list("oci-tag").is_empty());
}

#[tokio::test]
async fn too_many_tags_are_414_and_tags_that_are_none_400_and_none_is_made() {
    let (_t, caller) = with_blobs().await;
    let body = bytes(&image(b"{}", &[]));
    let digest = sha256(&body);
    let many: Vec<String> = (0..47).map(|n| format!("tag=t{n}")).collect();
    put(&caller, &format!("{digest}?{}", many.join("&")), MANIFEST, body.clone()).await.status(414);
    for tags in ["tag=ok&tag=.x", "tag=", "tag=a%2Fb", &format!("tag=ok&tag={}", "a".repeat(129))] {
        put(&caller, &format!("{digest}?{tags}"), MANIFEST, body.clone()).await.error(400, "MANIFEST_INVALID");
    }
    put(&caller, "ok?tag=other", MANIFEST, body.clone()).await.error(400, "MANIFEST_INVALID");
    put(&caller, ".x", MANIFEST, body.clone()).await.error(400, "MANIFEST_INVALID");
    put(&caller, &"a".repeat(129), MANIFEST, body.clone()).await.error(400, "MANIFEST_INVALID");
    caller.get(&format!("/v2/a/manifests/{digest}")).send().await.status(404);
    assert_eq!(caller.get("/v2/a/tags/list").send().await.status(200).json()["tags"], json!([]));
}

#[tokio::test]
async fn a_tag_moves_and_the_old_digest_stays_pullable() {
    let t = TestRegistry::open().await;
    let caller = t.anonymous();
    let [old, new] = [push_image(&caller, "a", "1", 1).await, push_image(&caller, "a", "1", 2).await];
    assert_eq!(caller.get("/v2/a/manifests/1").send().await.status(200).body, bytes(&new));
    let path = format!("/v2/a/manifests/{}", sha256(&bytes(&old)));
    assert_eq!(caller.get(&path).send().await.status(200).body, bytes(&old));
}

#[tokio::test]
async fn a_conditional_push_succeeds_only_while_the_tag_is_where_the_client_believes() {
    let (_t, caller) = with_blobs().await;
    let [first, second] = [image(b"{}", &[]), image(b"{}", &[b"layer"])].map(|manifest| bytes(&manifest));
    let push = async |body: &[u8], header: &str, value: &str| {
        let request = caller.put("/v2/a/manifests/1").header("content-type", MANIFEST).header(header, value);
        request.body(body.to_vec()).send().await
    };
    let etag = |body: &[u8]| format!("\"{}\"", sha256(body));
    // Nothing is there yet.
    push(&first, "if-match", &etag(&first)).await.error(412, "DENIED");
    push(&first, "if-match", "*").await.error(412, "DENIED");
    caller.get("/v2/a/manifests/1").send().await.status(404);
    push(&first, "if-none-match", "*").await.status(201);
    // The first is there.
    push(&second, "if-none-match", "*").await.error(412, "DENIED");
    push(&second, "if-match", &etag(&second)).await.error(412, "DENIED");
    push(&second, "if-match", &format!("W/{}", etag(&first))).await.error(412, "DENIED");
    let now = caller.get("/v2/a/manifests/1").send().await.status(200);
    assert_eq!(now.body, first);
    let known = now.header("etag").unwrap().to_owned();
    push(&second, "if-match", &format!("{}, {known}", etag(b"x"))).await.status(201);
    push(&first, "if-match", "*").await.status(201);
    assert_eq!(caller.get("/v2/a/manifests/1").send().await.status(200).body, first);
    // An invalid condition is refused.
    push(&second, "if-match", "nonsense").await.error(400, "MANIFEST_INVALID");
    push(&second, "if-none-match", &etag(&first)).await.error(400, "MANIFEST_INVALID");
}

#[tokio::test]
async fn of_many_clients_that_push_a_new_tag_on_condition_one_succeeds() {
    let (_t, caller) = with_blobs().await;
    let pushes = (0..8).map(|n| {
        let mut manifest = image(b"{}", &[]);
        manifest["annotations"] = json!({ "n": n.to_string() });
        let push = caller.put("/v2/a/manifests/1").header("content-type", MANIFEST).header("if-none-match", "*");
        tokio::spawn(push.body(bytes(&manifest)).send())
    });
    let mut statuses = Vec::new();
    for push in pushes.collect::<Vec<_>>() {
        statuses.push(push.await.unwrap().status.as_u16());
    }
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 412, 412, 412, 412, 412, 412, 412]);
}
