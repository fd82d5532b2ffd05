//! "Error Codes": responses to invalid names, tags, methods and paths.

use crate::support::TestRegistry;
use crate::support::content::{MANIFEST, bytes, image, push_blob, push_image, put_manifest, sha256, start_upload};
use crate::support::registry::{ALICE, BOB};

/// The form of an error is looked at in every answer of every test; this is one in full.
#[tokio::test]
async fn an_error_is_json_with_code_message_and_detail() {
    let t = TestRegistry::open().await;
    let digest = sha256(b"unknown");
    let answer = t.anonymous().get(&format!("/v2/a/blobs/{digest}")).send().await.status(404);
    let expected = serde_json::json!({ "errors": [{
        "code": "BLOB_UNKNOWN",
        "message": format!("the repository has no blob {digest}"),
        "detail": { "digest": digest },
    }]});
    assert_eq!(answer.json(), expected);
    let head = t.anonymous().head(&format!("/v2/a/blobs/{digest}")).send().await.status(404);
    assert_eq!(head.header("content-length"), Some(answer.body.len().to_string().as_str()));
}

#[tokio::test]
async fn a_method_that_is_not_for_the_path_is_405_with_those_that_are() {
    let t = TestRegistry::open().await;
    let caller = t.anonymous();
    let digest = sha256(b"");
    let location = start_upload(&caller, "a").await;
    let rows = [
        ("/v2/".to_owned(), "GET, HEAD"),
        ("/v2/_catalog".to_owned(), "GET, HEAD"),
        ("/v2/a/tags/list".to_owned(), "GET, HEAD"),
        (format!("/v2/a/referrers/{digest}"), "GET, HEAD"),
        ("/v2/a/manifests/x".to_owned(), "GET, HEAD, PUT, DELETE"),
        (format!("/v2/a/blobs/{digest}"), "GET, HEAD, DELETE"),
        ("/v2/a/blobs/uploads/".to_owned(), "POST"),
        (location, "GET, HEAD, PATCH, PUT, DELETE"),
    ];
    let mut refused = 0;
    for (path, allow) in rows {
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"] {
            if !allow.split(", ").any(|allowed| allowed == method) {
                let answer = caller.request(method.parse().unwrap(), &path).send().await;
                answer.error(405, "UNSUPPORTED").has("allow", allow);
                refused += 1;
            }
        }
    }
    assert_eq!(refused, 50);
}

#[tokio::test]
async fn a_name_outside_the_grammar_is_400_on_every_route() {
    let t = TestRegistry::open().await;
    let caller = t.anonymous();
    let digest = sha256(b"");
    let (longest, longer) = ("a".repeat(255), "a".repeat(256));
    for name in
        ["A", "a//b", "a..b", "-a", "a-", "_a", "a___b", "a.-b", "a%20b", "a%00", "..", "a/../b", "%C3%A4", "", &longer]
    {
        for (method, path) in [
            ("GET", format!("/v2/{name}/tags/list")),
            ("GET", format!("/v2/{name}/manifests/1")),
            ("PUT", format!("/v2/{name}/manifests/1")),
            ("DELETE", format!("/v2/{name}/manifests/{digest}")),
            ("GET", format!("/v2/{name}/blobs/{digest}")),
            ("DELETE", format!("/v2/{name}/blobs/{digest}")),
            ("POST", format!("/v2/{name}/blobs/uploads/")),
            ("GET", format!("/v2/{name}/referrers/{digest}")),
        ] {
            caller.request(method.parse().unwrap(), &path).send().await.error(400, "NAME_INVALID");
        }
    }
    push_image(&caller, &longest, "1", 1).await;
    caller.get(&format!("/v2/{longest}/manifests/1")).send().await.status(200);
}

#[tokio::test]
async fn a_name_may_look_like_a_path_of_the_api() {
    let t = TestRegistry::open().await;
    let caller = t.anonymous();
    for name in ["tags/list", "a/blobs/uploads", "a/manifests/b", "v2/v2", "a/referrers", "blobs", "x/a__b/c.d/e-f--g"]
    {
        let manifest = push_image(&caller, name, "list", 1).await;
        let digest = sha256(&bytes(&manifest));
        caller.get(&format!("/v2/{name}/manifests/{digest}")).send().await.status(200);
        let tags = caller.get(&format!("/v2/{name}/tags/list")).send().await.status(200).json();
        assert_eq!(tags, serde_json::json!({ "name": name, "tags": ["list"] }));
    }
}

#[tokio::test]
async fn a_tag_has_up_to_128_characters_of_the_grammar() {
    let t = TestRegistry::open().await;
    let caller = t.anonymous();
    push_blob(&caller, "a", b"{}").await;
    let manifest = image(b"{}", &[]);
    let (longest, longer) = ("x".repeat(128), "x".repeat(129));
    for tag in ["a", "_", "0", "A.b-c_d", "...".trim_start_matches('.'), &longest] {
        if !tag.is_empty() {
            put_manifest(&caller, "a", tag, &manifest).await.status(201);
            caller.get(&format!("/v2/a/manifests/{tag}")).send().await.status(200);
        }
    }
    for tag in [".a", "-a", "a%20b", "a+b", "%C3%A4", "a%00", &longer] {
        put_manifest(&caller, "a", tag, &manifest).await.error(400, "MANIFEST_INVALID");
        caller.get(&format!("/v2/a/manifests/{tag}")).send().await.error(404, "MANIFEST_UNKNOWN");
    }
}

#[tokio::test]
async fn a_path_that_is_none_is_404() {
    let t = TestRegistry::open().await;
    let caller = t.anonymous();
    for path in ["/v1/", "/v2x", "/v2/a", "/v2/a/b", "/v2/a/tags", "/v2/_catalog/", "/v2/a/blobs", "/V2/", "//v2/"] {
        caller.get(path).send().await.error(404, "UNSUPPORTED");
        caller.post(path).send().await.error(404, "UNSUPPORTED");
    }
}

#[tokio::test]
async fn who_is_not_signed_in_hears_401_before_anything_else_and_others_403() {
    let t = TestRegistry::with_users().await;
    let [alice, bob] = [ALICE, BOB].map(|user| t.user(user));
    let manifest = push_image(&alice, "alice/a", "1", 1).await;
    let (digest, unknown) = (sha256(&bytes(&manifest)), sha256(b"unknown"));
    for (method, path) in [
        ("GET", "/v2/alice/a/manifests/1".to_owned()),
        ("GET", format!("/v2/alice/a/manifests/{digest}")),
        ("GET", "/v2/alice/a/tags/list".to_owned()),
        ("GET", format!("/v2/alice/a/referrers/{digest}")),
        ("GET", format!("/v2/alice/a/blobs/{unknown}")),
        ("PUT", "/v2/alice/a/manifests/1".to_owned()),
        ("POST", "/v2/alice/a/blobs/uploads/".to_owned()),
        ("DELETE", "/v2/alice/a/manifests/1".to_owned()),
        // Missing and existing content get the same response.
        ("GET", "/v2/alice/none/manifests/1".to_owned()),
        ("DELETE", "/v2/alice/none/manifests/1".to_owned()),
    ] {
        let ask = |caller: crate::support::http::Caller| caller.request(method.parse().unwrap(), &path).send();
        ask(t.anonymous()).await.error(401, "UNAUTHORIZED");
        ask(bob.clone()).await.error(403, "DENIED");
        ask(t.user(("alice", "wrong"))).await.error(401, "UNAUTHORIZED");
        ask(t.user(("unknown", "wrong"))).await.error(401, "UNAUTHORIZED");
    }
    alice.get("/v2/alice/a/manifests/1").send().await.status(200).has("content-type", MANIFEST);
}
