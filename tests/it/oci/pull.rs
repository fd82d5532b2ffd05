//! "Pull": manifests and blobs by GET and HEAD, conditions, and ranges as in RFC 9110, 13 and 14.

use crate::support::TestRegistry;
use crate::support::content::{
    MANIFEST, assert_blob, bytes, noise, push_blob, push_image, put_manifest, sha256, sha512, start_upload,
};
use crate::support::http::{Answer, Caller};

#[tokio::test]
async fn the_base_says_that_this_is_a_registry() {
    let t = TestRegistry::open().await;
    for path in ["/v2/", "/v2"] {
        t.anonymous().get(path).send().await.status(200);
        t.anonymous().head(path).send().await.status(200);
    }
}

#[tokio::test]
async fn head_has_the_headers_of_get_and_no_body_over_each_version_of_http() {
    let t = TestRegistry::open().await;
    let caller = t.anonymous();
    push_image(&caller, "a", "1", 1).await;
    let blob = push_blob(&caller, "a", b"content").await;
    let empty = push_blob(&caller, "a", b"").await;
    let unknown = sha256(b"missing");
    for (path, status) in [
        ("/".to_owned(), 200),
        ("/v2/".to_owned(), 200),
        ("/v2/_catalog".to_owned(), 200),
        ("/v2/a/tags/list".to_owned(), 200),
        ("/v2/a/manifests/1".to_owned(), 200),
        (format!("/v2/a/blobs/{blob}"), 200),
        (format!("/v2/a/blobs/{empty}"), 200),
        (format!("/v2/a/referrers/{unknown}"), 200),
        ("/ui/".to_owned(), 200),
        ("/metrics".to_owned(), 200),
        ("/livez".to_owned(), 200),
        ("/readyz".to_owned(), 200),
        ("/v2/a/manifests/2".to_owned(), 404),
        ("/v2/b/tags/list".to_owned(), 404),
        (format!("/v2/a/blobs/{unknown}"), 404),
        ("/v2/a/blobs/sha256:zz".to_owned(), 400),
    ] {
        let got = caller.get(&path).send().await.status(status);
        for caller in [caller.clone(), caller.clone().over_http2()] {
            let head = caller.head(&path).send().await.status(status);
            for name in ["content-type", "docker-content-digest", "etag", "cache-control"] {
                assert_eq!(head.header(name), got.header(name), "{path}: {name}");
            }
            let length = head.header("content-length").unwrap().parse::<usize>().unwrap();
            // The figures of the registry change with each request, and an invalid request is named with its method.
            if path != "/metrics" && status != 400 {
                assert_eq!(length, got.body.len(), "{path}");
            }
            let again = caller.head(&path).header("if-none-match", "*").send().await;
            if again.status == 304 {
                assert_eq!(again.header("content-length"), None, "{path}");
            }
        }
    }
}

#[tokio::test]
async fn a_manifest_is_pulled_by_tag_and_by_digest_as_the_bytes_that_were_pushed() {
    let t = TestRegistry::open().await;
    let caller = t.anonymous();
    let pushed = bytes(&push_image(&caller, "a/b", "1.0", 1).await);
    let digest = sha256(&pushed);
    for reference in ["1.0", &digest, &digest.replace(':', "%3A")] {
        let path = format!("/v2/a/b/manifests/{reference}");
        let answer = caller.get(&path).send().await.status(200);
        assert_eq!(answer.body, pushed);
        let [head, head2] = [caller.head(&path), caller.clone().over_http2().head(&path)];
        for answer in [answer, head.send().await.status(200), head2.send().await.status(200)] {
            answer
                .has("docker-content-digest", &digest)
                .has("content-type", MANIFEST)
                .has("content-length", &pushed.len().to_string())
                .has("etag", &format!("\"{digest}\""))
                .has("x-content-type-options", "nosniff");
        }
    }
}

#[tokio::test]
async fn a_manifest_is_served_as_what_it_was_pushed_whatever_the_client_accepts() {
    let t = TestRegistry::open().await;
    let caller = t.anonymous();
    push_image(&caller, "a", "1", 1).await;
    for accept in [MANIFEST, "*/*", "application/vnd.docker.distribution.manifest.v1+json", "nonsense"] {
        let request = caller.get("/v2/a/manifests/1").header("accept", accept);
        request.send().await.status(200).has("content-type", MANIFEST);
    }
}

#[tokio::test]
async fn a_digest_may_be_cached_for_ever_and_a_tag_must_be_asked_for() {
    let t = TestRegistry::open().await;
    let caller = t.anonymous();
    let digest = sha256(&bytes(&push_image(&caller, "a", "1", 1).await));
    let by_digest = caller.get(&format!("/v2/a/manifests/{digest}")).send().await;
    by_digest.has("cache-control", "max-age=31536000, immutable");
    caller.get("/v2/a/manifests/1").send().await.has("cache-control", "no-cache");
}

#[tokio::test]
async fn what_is_not_found_is_404_for_get_and_head() {
    let t = TestRegistry::open().await;
    let caller = t.anonymous();
    push_image(&caller, "a", "1", 1).await;
    let unknown = sha256(b"missing");
    for (path, code) in [
        ("/v2/a/manifests/2".to_owned(), "MANIFEST_UNKNOWN"),
        (format!("/v2/a/manifests/{unknown}"), "MANIFEST_UNKNOWN"),
        ("/v2/a/manifests/.not-a-tag".to_owned(), "MANIFEST_UNKNOWN"),
        ("/v2/b/manifests/1".to_owned(), "NAME_UNKNOWN"),
        (format!("/v2/b/manifests/{unknown}"), "NAME_UNKNOWN"),
        (format!("/v2/a/blobs/{unknown}"), "BLOB_UNKNOWN"),
        (format!("/v2/b/blobs/{unknown}"), "BLOB_UNKNOWN"),
    ] {
        caller.get(&path).send().await.error(404, code);
        caller.head(&path).send().await.status(404);
        caller.clone().over_http2().head(&path).send().await.status(404);
    }
}

#[tokio::test]
async fn a_blob_is_found_only_in_a_repository_that_has_it() {
    let t = TestRegistry::open().await;
    let caller = t.anonymous();
    let digest = push_blob(&caller, "a", b"mine").await;
    caller.head(&format!("/v2/a/blobs/{digest}")).send().await.status(200);
    caller.head(&format!("/v2/b/blobs/{digest}")).send().await.status(404);
    caller.get(&format!("/v2/b/blobs/{digest}")).send().await.error(404, "BLOB_UNKNOWN");
    caller.get("/v2/b/tags/list").send().await.error(404, "NAME_UNKNOWN");
}

#[tokio::test]
async fn a_blob_is_pulled_whole_with_digest_and_length() {
    let t = TestRegistry::open().await;
    let caller = t.anonymous();
    // Nothing, one byte, more than one read of the file, and the border between two reads.
    for length in [0, 1, 256 * 1024, 256 * 1024 + 1, 3_000_000] {
        let content = noise(length, 7);
        let digest = push_blob(&caller, "a/b/c", &content).await;
        for path in [digest.clone(), digest.replace(':', "%3a")] {
            let path = format!("/v2/a/b/c/blobs/{path}");
            let got = caller.get(&path).send().await.status(200);
            assert!(got.body == content, "{length} bytes came back otherwise");
            let [head, head2] = [caller.head(&path), caller.clone().over_http2().head(&path)];
            for answer in [got, head.send().await.status(200), head2.send().await.status(200)] {
                answer
                    .has("docker-content-digest", &digest)
                    .has("content-length", &length.to_string())
                    .has("content-type", "application/octet-stream")
                    .has("accept-ranges", "bytes")
                    .has("etag", &format!("\"{digest}\""))
                    .has("cache-control", "max-age=31536000, immutable")
                    .has("x-content-type-options", "nosniff");
            }
        }
    }
}

#[tokio::test]
async fn a_blob_of_sha512_is_pulled_by_it() {
    let t = TestRegistry::open().await;
    let caller = t.anonymous();
    let content = noise(1000, 3);
    let digest = sha512(&content);
    let push = caller.post(&format!("/v2/a/blobs/uploads/?digest={digest}")).body(content.clone());
    push.send().await.status(201).has("docker-content-digest", &digest);
    assert_blob(&caller, "a", &digest, &content).await;
    // The bytes are there under one digest only.
    caller.head(&format!("/v2/a/blobs/{}", sha256(&content))).send().await.status(404);
}

#[tokio::test]
async fn a_client_that_has_the_content_already_gets_304() {
    let t = TestRegistry::open().await;
    let caller = t.anonymous();
    let manifest = bytes(&push_image(&caller, "a", "1", 1).await);
    let blob = push_blob(&caller, "a", b"content").await;
    let other = sha256(b"other");
    for (path, digest) in [
        ("/v2/a/manifests/1".to_owned(), sha256(&manifest)),
        (format!("/v2/a/manifests/{}", sha256(&manifest)), sha256(&manifest)),
        (format!("/v2/a/blobs/{blob}"), blob.clone()),
    ] {
        for (known, status) in [
            (format!("\"{digest}\""), 304),
            (format!("W/\"{digest}\""), 304),
            (format!("\"{other}\", \"{digest}\""), 304),
            ("*".to_owned(), 304),
            (format!("\"{other}\""), 200),
            (String::new(), 200),
        ] {
            for request in [caller.get(&path), caller.head(&path)] {
                let answer = request.header("if-none-match", &known).send().await.status(status);
                let answer = answer.has("etag", &format!("\"{digest}\"")).has("docker-content-digest", &digest);
                assert!(answer.header("cache-control").is_some());
                assert!(status == 200 || answer.body.is_empty(), "{known}");
            }
        }
    }
}

/// A repository `a` with a blob of these bytes, and the blob's path.
async fn with_blob(content: &[u8]) -> (TestRegistry, Caller, String) {
    let t = TestRegistry::open().await;
    let caller = t.anonymous();
    let digest = push_blob(&caller, "a", content).await;
    (t, caller, format!("/v2/a/blobs/{digest}"))
}

#[tokio::test]
async fn one_range_is_206_with_just_those_bytes() {
    let content = noise(700_000, 5);
    let (_t, caller, path) = with_blob(&content).await;
    let last = content.len() - 1;
    for (range, first, end) in [
        ("bytes=0-0".to_owned(), 0, 0),
        ("bytes=10-19".to_owned(), 10, 19),
        (format!("bytes={last}-{last}"), last, last),
        (format!("bytes=10-{}", last + 1000), 10, last),
        ("bytes=10-99999999999999999999999".to_owned(), 10, last),
        ("bytes=650000-".to_owned(), 650_000, last),
        ("bytes=0-".to_owned(), 0, last),
        ("bytes=-1".to_owned(), last, last),
        ("bytes=-300000".to_owned(), last + 1 - 300_000, last),
        ("bytes=-9999999".to_owned(), 0, last),
        ("bytes=262143-262144".to_owned(), 262_143, 262_144),
        ("bytes=9-20,9999999-".to_owned(), 9, 20),
    ] {
        let answer = caller.get(&path).header("range", &range).send().await.status(206);
        assert!(answer.body == content[first..=end], "{range}");
        answer
            .has("content-range", &format!("bytes {first}-{end}/{}", content.len()))
            .has("content-length", &(end - first + 1).to_string())
            .has("docker-content-digest", &sha256(&content))
            .has("etag", &format!("\"{}\"", sha256(&content)))
            .has("content-type", "application/octet-stream");
    }
}

/// The parts of a `multipart/byteranges` answer: their `Content-Range` and bytes (RFC 9110, 14.6).
pub(super) fn parts(answer: &Answer) -> Vec<(String, Vec<u8>)> {
    let kind = answer.header("content-type").unwrap();
    let boundary = kind.strip_prefix("multipart/byteranges; boundary=").expect("a boundary");
    let find = |bytes: &[u8], text: &str| bytes.windows(text.len()).position(|window| window == text.as_bytes());
    let (start, between) = (format!("--{boundary}\r\n"), format!("\r\n--{boundary}"));
    let mut rest = answer.body.strip_prefix(start.as_bytes()).expect("a first part");
    let mut parts = Vec::new();
    loop {
        let head = find(rest, "\r\n\r\n").expect("a part has a head");
        let range =
            str::from_utf8(&rest[..head]).unwrap().split("\r\n").find_map(|line| line.strip_prefix("Content-Range: "));
        let range = range.expect("a part says which it is").to_owned();
        rest = &rest[head + 4..];
        let end = find(rest, &between).expect("a part ends");
        parts.push((range, rest[..end].to_vec()));
        rest = &rest[end + between.len()..];
        match rest.strip_prefix(b"\r\n") {
            Some(next) => rest = next,
            None => break,
        }
    }
    assert_eq!(rest, b"--\r\n", "the last boundary ends the body");
    parts
}

#[tokio::test]
async fn several_ranges_are_206_in_parts() {
    let content = noise(600_000, 6);
    let (_t, caller, path) = with_blob(&content).await;
    for (header, expected) in [
        ("bytes=0-9,20-29", vec![(0, 9), (20, 29)]),
        ("bytes=-5, 0-0", vec![(599_995, 599_999), (0, 0)]),
        ("bytes=0-0,9999999-,100-300099", vec![(0, 0), (100, 300_099)]),
        (
            "bytes=0-0,1-1,2-2,3-3,4-4,5-5,6-6,7-7,8-8,9-9,10-10,11-11,12-12,13-13,14-14,15-15",
            (0..16).map(|n| (n, n)).collect(),
        ),
    ] {
        let answer = caller.get(&path).header("range", header).send().await.status(206);
        let expected: Vec<(String, Vec<u8>)> = expected
            .into_iter()
            .map(|(first, last): (usize, usize)| {
                (format!("bytes {first}-{last}/600000"), content[first..=last].to_vec())
            })
            .collect();
        assert!(parts(&answer) == expected, "{header}");
        assert_eq!(answer.header("content-range"), None, "{header}");
    }
}

/// podman asks for as many parts of a zstd:chunked layer at once, with offsets of large layers, and takes 416 for a
/// failure. After a 400 it asks for fewer.
#[tokio::test]
async fn as_many_as_1024_ranges_are_served_and_more_are_400() {
    let content = noise(1 << 20, 6);
    let (_t, caller, path) = with_blob(&content).await;
    let ranges = |count: usize| {
        let ranges = (0..count).map(|n| n * 1000).map(|first| format!("{first:012}-{:012}", first + 9));
        format!("bytes={}", ranges.collect::<Vec<_>>().join(","))
    };
    for count in [17, 100, 1024] {
        let answer = caller.get(&path).header("range", ranges(count)).send().await.status(206);
        let parts = parts(&answer);
        assert_eq!(parts.len(), count);
        for (n, (range, bytes)) in parts.iter().enumerate() {
            assert_eq!(*range, format!("bytes {}-{}/{}", n * 1000, n * 1000 + 9, content.len()));
            assert!(*bytes == content[n * 1000..n * 1000 + 10], "{range}");
        }
    }
    caller.get(&path).header("range", ranges(1025)).send().await.error(400, "SIZE_INVALID");
}

#[tokio::test]
async fn a_range_that_is_not_in_the_blob_or_not_one_is_416_with_the_length() {
    let (_t, caller, path) = with_blob(b"0123456789").await;
    for range in [
        "bytes=10-",
        "bytes=10-20",
        "bytes=-0",
        "bytes=5-4",
        "bytes=",
        "bytes=-",
        "bytes=a-b",
        "bytes=1",
        "bytes",
        "bytes=0-1,x",
        "bytes=--1",
        "bytes=+1-2",
        "bytes=0x0-1",
        "bytes=99999999999999999999999-",
        "bytes=99999999999999999999999-99999999999999999999999",
        "bytes=,",
    ] {
        let answer = caller.get(&path).header("range", range).send().await.error(416, "SIZE_INVALID");
        answer.has("content-range", "bytes */10");
    }
    let twice = caller.get(&path).header("range", "bytes=0-1").header("range", "bytes=2-3");
    twice.send().await.error(400, "SIZE_INVALID");
}

#[tokio::test]
async fn an_empty_blob_has_no_ranges() {
    let (_t, caller, path) = with_blob(b"").await;
    for range in ["bytes=0-", "bytes=0-0", "bytes=-1"] {
        caller.get(&path).header("range", range).send().await.status(416).has("content-range", "bytes */0");
    }
}

#[tokio::test]
async fn a_range_in_another_unit_or_one_that_only_repeats_is_answered_with_everything() {
    let (_t, caller, path) = with_blob(b"0123456789").await;
    for range in ["lines=1-2", "bytes=0-9,0-9", "bytes=0-,1-,2-"] {
        let answer = caller.get(&path).header("range", range).send().await.status(200);
        assert_eq!(answer.body, "0123456789", "{range}");
    }
}

#[tokio::test]
async fn a_head_has_no_ranges() {
    let (_t, caller, path) = with_blob(b"0123456789").await;
    caller.head(&path).header("range", "bytes=0-1").send().await.status(200).has("content-length", "10");
}

#[tokio::test]
async fn if_range_asks_for_a_part_of_the_content_the_client_knows_and_else_for_everything() {
    let (_t, caller, path) = with_blob(b"0123456789").await;
    let etag = format!("\"{}\"", sha256(b"0123456789"));
    for (known, status, body) in [
        (etag.clone(), 206, "23"),
        (format!("W/{etag}"), 200, "0123456789"),
        (format!("\"{}\"", sha256(b"other")), 200, "0123456789"),
        ("Wed, 21 Oct 2015 07:28:00 GMT".to_owned(), 200, "0123456789"),
    ] {
        let request = caller.get(&path).header("range", "bytes=2-3").header("if-range", &known);
        assert_eq!(request.send().await.status(status).body, body, "{known}");
    }
}

#[tokio::test]
async fn an_interrupted_pull_is_continued_by_a_range() {
    let content = noise(900_000, 8);
    let (_t, caller, path) = with_blob(&content).await;
    let first = caller.get(&path).header("range", "bytes=0-400000").send().await.status(206);
    let etag = first.header("etag").unwrap().to_owned();
    let rest = caller.get(&path).header("range", "bytes=400001-").header("if-range", etag).send().await.status(206);
    assert!([first.body, rest.body].concat() == content);
}

#[tokio::test]
async fn what_is_still_being_pushed_cannot_be_pulled() {
    let t = TestRegistry::open().await;
    let caller = t.anonymous();
    let location = start_upload(&caller, "a").await;
    caller.patch(&location).body("unfinished").send().await.status(202);
    caller.get(&format!("/v2/a/blobs/{}", sha256(b"unfinished"))).send().await.error(404, "BLOB_UNKNOWN");
    let manifest = crate::support::content::image(b"unfinished", &[]);
    put_manifest(&caller, "a", "1", &manifest).await.error(400, "MANIFEST_BLOB_UNKNOWN");
    caller.get("/v2/a/manifests/1").send().await.status(404);
}
