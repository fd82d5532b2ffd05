//! "Pushing a blob monolithically", in one request or two, and "Cancel a blob upload".

use bytes::Bytes;

use crate::support::TestRegistry;
use crate::support::content::{assert_blob, noise, push_blob, sha256, sha512, start_upload};

#[tokio::test]
async fn a_post_begins_an_upload_of_its_own() {
    let t = TestRegistry::open().await;
    let caller = t.anonymous();
    for path in ["/v2/a/blobs/uploads/", "/v2/a/blobs/uploads"] {
        let [first, second] = [caller.post(path).send().await, caller.post(path).send().await];
        assert_ne!(first.location(), second.location());
        for answer in [first, second] {
            let answer = answer.status(202).has("range", "0-0").has("content-length", "0");
            let location = answer.location();
            let id = location.strip_prefix("/v2/a/blobs/uploads/").expect("a path of the repository");
            assert!(uuid::Uuid::try_parse(id).is_ok(), "{id} is no UUID");
            assert_eq!(answer.header("docker-upload-uuid"), Some(id));
        }
    }
}

#[tokio::test]
async fn post_then_put_makes_a_blob_that_can_be_pulled() {
    let t = TestRegistry::open().await;
    let caller = t.anonymous();
    for length in [0, 1, 1_500_000] {
        let content = noise(length, 1);
        let digest = sha256(&content);
        let location = start_upload(&caller, "a/b").await;
        let put = caller.put(&format!("{location}?digest={digest}")).body(content.clone()).send().await.status(201);
        let put = put.has("docker-content-digest", &digest).has("content-length", "0");
        assert_eq!(put.location(), format!("/v2/a/b/blobs/{digest}"));
        assert_blob(&caller, "a/b", &digest, &content).await;
    }
}

#[tokio::test]
async fn a_single_post_makes_a_blob_that_can_be_pulled() {
    let t = TestRegistry::open().await;
    let caller = t.anonymous();
    for length in [0, 1, 1_500_000] {
        let content = noise(length, 2);
        for digest in [sha256(&content), sha512(&content)] {
            let post = caller.post(&format!("/v2/a/b/blobs/uploads/?digest={digest}")).body(content.clone());
            let post = post.send().await.status(201).has("docker-content-digest", &digest);
            assert_eq!(post.location(), format!("/v2/a/b/blobs/{digest}"));
            assert_blob(&caller, "a/b", &digest, &content).await;
        }
    }
    assert_eq!(t.unfinished_uploads(), 0);
}

#[tokio::test]
async fn a_body_in_chunked_transfer_coding_is_a_body() {
    let t = TestRegistry::open().await;
    let caller = t.anonymous();
    let digest = sha256(b"onetwothree");
    let parts = || ["one", "two", "three"].map(Bytes::from).to_vec();
    let post = format!("/v2/a/blobs/uploads/?digest={digest}");
    caller.post(&post).chunked(parts()).send().await.status(201);
    assert_blob(&caller, "a", &digest, b"onetwothree").await;
    let location = start_upload(&caller, "b").await;
    caller.put(&format!("{location}?digest={digest}")).chunked(parts()).send().await.status(201);
    assert_blob(&caller, "b", &digest, b"onetwothree").await;
}

#[tokio::test]
async fn the_content_type_of_a_blob_does_not_matter() {
    let t = TestRegistry::open().await;
    let caller = t.anonymous();
    for kind in ["application/octet-stream", "text/plain", "application/x-www-form-urlencoded", "?"] {
        let path = format!("/v2/a/blobs/uploads/?digest={}", sha256(kind.as_bytes()));
        caller.post(&path).header("content-type", kind).body(kind.to_owned()).send().await.status(201);
    }
}

#[tokio::test]
async fn a_single_post_with_other_bytes_is_400_and_leaves_nothing() {
    let t = TestRegistry::open().await;
    let caller = t.anonymous();
    for digest in [sha256(b"right"), sha512(b"right")] {
        let path = format!("/v2/a/blobs/uploads/?digest={digest}");
        caller.post(&path).body("wrong").send().await.error(400, "DIGEST_INVALID");
        caller.get(&format!("/v2/a/blobs/{digest}")).send().await.error(404, "BLOB_UNKNOWN");
    }
    caller.get("/v2/a/tags/list").send().await.error(404, "NAME_UNKNOWN");
    assert_eq!(t.unfinished_uploads(), 0);
}

#[tokio::test]
async fn a_single_post_of_a_part_that_is_not_the_first_is_416_at_once() {
    let t = TestRegistry::open().await;
    let caller = t.anonymous();
    let post = caller.post(&format!("/v2/a/blobs/uploads/?digest={}", sha256(b"56789")));
    let answer = post.header("content-range", "5-9").body("56789").send().await;
    answer.error(416, "BLOB_UPLOAD_INVALID");
    assert_eq!(t.unfinished_uploads(), 0);
    let post = caller.post(&format!("/v2/a/blobs/uploads/?digest={}", sha256(b"56789")));
    post.header("content-range", "0-4").body("56789").send().await.status(201);
}

#[tokio::test]
async fn a_put_with_other_bytes_is_400_and_the_upload_can_be_finished_rightly() {
    let t = TestRegistry::open().await;
    let caller = t.anonymous();
    let location = start_upload(&caller, "a").await;
    let put = format!("{location}?digest={}", sha256(b"right"));
    caller.put(&put).body("wrong").send().await.error(400, "DIGEST_INVALID");
    caller.get(&location).send().await.status(204).has("range", "0-0");
    caller.put(&put).body("right").send().await.status(201);
    assert_blob(&caller, "a", &sha256(b"right"), b"right").await;
}

#[tokio::test]
async fn a_digest_that_is_none_or_of_an_unknown_algorithm_is_400() {
    let t = TestRegistry::open().await;
    let caller = t.anonymous();
    let location = start_upload(&caller, "a").await;
    let md5 = "md5:d41d8cd98f00b204e9800998ecf8427e";
    let upper = sha256(b"").to_uppercase();
    for digest in ["", "x", "sha256:", "sha256:abc", "sha256:zz", md5, &upper, "sha256", ":"] {
        let post = caller.post(&format!("/v2/a/blobs/uploads/?digest={digest}"));
        post.body("x").send().await.error(400, "DIGEST_INVALID");
        caller.put(&format!("{location}?digest={digest}")).body("x").send().await.error(400, "DIGEST_INVALID");
        let algorithm = format!("/v2/a/blobs/uploads/?digest-algorithm={digest}");
        if digest != "sha256" {
            caller.post(&algorithm).send().await.error(400, "DIGEST_INVALID");
        }
    }
    caller.put(&location).body("x").send().await.error(400, "DIGEST_INVALID");
    caller.get(&location).send().await.status(204).has("range", "0-0");
    assert_eq!(t.unfinished_uploads(), 1);
}

#[tokio::test]
async fn the_same_blob_may_be_pushed_again_and_by_two_at_once() {
    let t = TestRegistry::open().await;
    let caller = t.anonymous();
    let content = noise(300_000, 4);
    let digest = sha256(&content);
    let [one, two] = [start_upload(&caller, "a").await, start_upload(&caller, "b").await];
    let put = |location: String| caller.put(&format!("{location}?digest={digest}")).body(content.clone()).send();
    let (first, second) = tokio::join!(put(one), put(two));
    first.status(201);
    second.status(201);
    push_blob(&caller, "a", &content).await;
    for repository in ["a", "b"] {
        assert_blob(&caller, repository, &digest, &content).await;
    }
}

#[tokio::test]
async fn an_upload_that_nobody_began_is_404() {
    let t = TestRegistry::open().await;
    let caller = t.anonymous();
    let location = start_upload(&caller, "a").await;
    let elsewhere = location.replace("/v2/a/", "/v2/b/");
    let invented = "/v2/a/blobs/uploads/07070707-0707-8707-8707-070707070707".to_owned();
    for path in [elsewhere, invented, location.to_uppercase().replace("/V2/A/BLOBS/UPLOADS", "/v2/a/blobs/uploads")] {
        let put = format!("{path}?digest={}", sha256(b"x"));
        caller.get(&path).send().await.error(404, "BLOB_UPLOAD_UNKNOWN");
        caller.patch(&path).body("x").send().await.error(404, "BLOB_UPLOAD_UNKNOWN");
        caller.put(&put).body("x").send().await.error(404, "BLOB_UPLOAD_UNKNOWN");
        caller.delete(&path).send().await.error(404, "BLOB_UPLOAD_UNKNOWN");
    }
    caller.get(&location).send().await.status(204).has("range", "0-0");
}

#[tokio::test]
async fn an_upload_ends_when_it_is_finished() {
    let t = TestRegistry::open().await;
    let caller = t.anonymous();
    let location = start_upload(&caller, "a").await;
    let put = format!("{location}?digest={}", sha256(b"x"));
    caller.put(&put).body("x").send().await.status(201);
    caller.get(&location).send().await.error(404, "BLOB_UPLOAD_UNKNOWN");
    caller.patch(&location).body("y").send().await.error(404, "BLOB_UPLOAD_UNKNOWN");
    caller.put(&put).body("x").send().await.error(404, "BLOB_UPLOAD_UNKNOWN");
    assert_blob(&caller, "a", &sha256(b"x"), b"x").await;
}

#[tokio::test]
async fn a_cancelled_upload_is_gone_with_its_bytes() {
    let t = TestRegistry::open().await;
    let caller = t.anonymous();
    let location = start_upload(&caller, "a").await;
    caller.patch(&location).body("some").send().await.status(202);
    assert_eq!(t.unfinished_uploads(), 1);
    caller.delete(&location).send().await.status(204);
    assert_eq!(t.unfinished_uploads(), 0);
    for method in ["GET", "PATCH", "DELETE"] {
        let request = caller.request(method.parse().unwrap(), &location);
        request.send().await.error(404, "BLOB_UPLOAD_UNKNOWN");
    }
    let put = format!("{location}?digest={}", sha256(b"some"));
    caller.put(&put).send().await.error(404, "BLOB_UPLOAD_UNKNOWN");
    caller.get(&format!("/v2/a/blobs/{}", sha256(b"some"))).send().await.status(404);
}
