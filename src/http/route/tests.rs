//! Request lines and their routes.

use super::*;
use crate::identity::access::Surface;

const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const ID: &str = "07070707-0707-8707-8707-070707070707";

/// The route of a request line as text, or the status of its refusal.
fn read(line: &str) -> String {
    let line = line.replace("{d}", DIGEST).replace("{id}", ID);
    let (method, uri) = line.split_once(' ').expect("a method and a path");
    let (path, query) = uri.split_once('?').map_or((uri, None), |(path, query)| (path, Some(query)));
    let method = method.parse().expect("a method");
    let shown = match parse(&method, &Path::decode(path), query, Some("/metrics")) {
        Ok(route) => format!("{route:?}"),
        Err(RouteError::NotFound) => "404".to_owned(),
        Err(RouteError::MethodNotAllowed { allow }) => format!("405 {allow}"),
        Err(RouteError::Malformed { code, .. }) => {
            let status = if code == ErrorCode::Unsupported { 400 } else { code.status() };
            format!("{status} {}", code.as_str())
        }
        Err(RouteError::TooLong { .. }) => "414".to_owned(),
    };
    shown.replace(DIGEST, "{d}").replace(ID, "{id}")
}

fn check(rows: &[(&str, &str)]) {
    for (line, expected) in rows {
        assert_eq!(&read(line), expected, "{line}");
    }
}

#[test]
fn operations() {
    check(&[
        ("GET /v2/", "Ping"),
        ("GET /v2", "Ping"),
        ("HEAD /v2/", "Ping"),
        ("GET /", "Root"),
        ("HEAD /", "Root"),
        ("GET /livez", "Live"),
        ("GET /readyz", "Ready"),
        ("GET /startupz", "Started"),
        ("GET /metrics", "Metrics"),
        ("GET /.well-known/acme-challenge/a-_B9", r#"AcmeChallenge("a-_B9")"#),
        ("GET /.well-known/acme-challenge/", "404"),
        ("GET /.well-known/acme-challenge/a/b", "404"),
        ("GET /.well-known/acme-challenge/a%2Fb", "404"),
        ("GET /v2/_catalog", r#"Catalog { page: Page { limit: None, last: "" } }"#),
        ("GET /v2/_catalog?n=5&last=a%2Fb", r#"Catalog { page: Page { limit: Some(5), last: "a/b" } }"#),
        ("GET /v2/a/b/tags/list?n=0", r#"Tags { name: "a/b", page: Page { limit: Some(0), last: "" } }"#),
        ("GET /v2/a/manifests/latest", r#"GetManifest { name: "a", reference: Tag("latest") }"#),
        ("HEAD /v2/a/manifests/{d}", r#"HeadManifest { name: "a", reference: Digest({d}) }"#),
        ("GET /v2/a/manifests/sha256%3A0", "400 DIGEST_INVALID"),
        ("DELETE /v2/a/manifests/latest", r#"DeleteManifest { name: "a", reference: Tag("latest") }"#),
        ("PUT /v2/a/manifests/latest", r#"PutManifest { name: "a", target: Tag("latest") }"#),
        ("PUT /v2/a/manifests/{d}", r#"PutManifest { name: "a", target: Digest { digest: {d}, tags: [] } }"#),
        (
            "PUT /v2/a/manifests/{d}?tag=x&tag=y&tag=x",
            r#"PutManifest { name: "a", target: Digest { digest: {d}, tags: ["x", "y"] } }"#,
        ),
        ("GET /v2/a/blobs/{d}", r#"GetBlob { name: "a", digest: {d} }"#),
        ("HEAD /v2/a/blobs/{d}", r#"HeadBlob { name: "a", digest: {d} }"#),
        ("DELETE /v2/a/blobs/{d}", r#"DeleteBlob { name: "a", digest: {d} }"#),
        ("POST /v2/a/blobs/uploads/", r#"StartUpload { name: "a", algorithm: Sha256 }"#),
        ("POST /v2/a/blobs/uploads", r#"StartUpload { name: "a", algorithm: Sha256 }"#),
        ("POST /v2/a/blobs/uploads/?digest-algorithm=sha512", r#"StartUpload { name: "a", algorithm: Sha512 }"#),
        ("POST /v2/a/blobs/uploads/?digest={d}", r#"PushBlob { name: "a", digest: {d} }"#),
        ("POST /v2/a/blobs/uploads/?mount={d}&from=b", r#"MountBlob { name: "a", digest: {d} }"#),
        ("POST /v2/a/blobs/uploads/?mount={d}&from=B", r#"StartUpload { name: "a", algorithm: Sha256 }"#),
        ("POST /v2/a/blobs/uploads/?mount={d}", r#"MountBlob { name: "a", digest: {d} }"#),
        ("GET /v2/a/blobs/uploads/{id}", r#"UploadStatus { name: "a", id: UploadId({id}) }"#),
        ("PATCH /v2/a/blobs/uploads/{id}", r#"UploadChunk { name: "a", id: UploadId({id}) }"#),
        ("PUT /v2/a/blobs/uploads/{id}?digest={d}", r#"FinishUpload { name: "a", id: UploadId({id}), digest: {d} }"#),
        ("DELETE /v2/a/blobs/uploads/{id}", r#"CancelUpload { name: "a", id: UploadId({id}) }"#),
    ]);
}

#[test]
fn names_that_look_like_paths() {
    check(&[
        ("GET /v2/a/blobs/b/blobs/{d}", r#"GetBlob { name: "a/blobs/b", digest: {d} }"#),
        ("GET /v2/tags/list/tags/list", r#"Tags { name: "tags/list", page: Page { limit: None, last: "" } }"#),
        ("GET /v2/a/manifests/manifests/x", r#"GetManifest { name: "a/manifests", reference: Tag("x") }"#),
        ("GET /v2/a/blobs/uploads/blobs/{d}", r#"GetBlob { name: "a/blobs/uploads", digest: {d} }"#),
        ("POST /v2/a/blobs/uploads/blobs/uploads/", r#"StartUpload { name: "a/blobs/uploads", algorithm: Sha256 }"#),
        ("GET /v2/v2/v2/manifests/v2", r#"GetManifest { name: "v2/v2", reference: Tag("v2") }"#),
        ("GET /v2/a%2Fb/manifests/x", r#"GetManifest { name: "a/b", reference: Tag("x") }"#),
    ]);
}

#[test]
fn percent_encoded_digests_are_digests() {
    let encoded = DIGEST.replace(':', "%3A");
    assert_eq!(read(&format!("GET /v2/a/blobs/{encoded}")), r#"GetBlob { name: "a", digest: {d} }"#);
    assert_eq!(read(&format!("POST /v2/a/blobs/uploads/?digest={encoded}")), r#"PushBlob { name: "a", digest: {d} }"#);
}

#[test]
fn referrers_with_filters_and_cursor() {
    check(&[
        (
            "GET /v2/a/referrers/{d}?artifactType=application/spdx+json&artifactType=x",
            r#"Referrers { name: "a", subject: {d}, types: ["application/spdx+json", "x"], after: ReferrerCursor { artifact_type: "", digest: None }, limit: None }"#,
        ),
        (
            "GET /v2/a/referrers/{d}?n=3&last=application%2Fa%40b@{d}",
            r#"Referrers { name: "a", subject: {d}, types: [], after: ReferrerCursor { artifact_type: "application/a@b", digest: Some({d}) }, limit: Some(3) }"#,
        ),
        ("GET /v2/a/referrers/{d}?last=x", "400 UNSUPPORTED"),
        ("GET /v2/a/referrers/sha256:x", "400 DIGEST_INVALID"),
        ("GET /v2/a/referrers/latest", "400 DIGEST_INVALID"),
    ]);
}

#[test]
fn paths_that_do_not_exist() {
    for line in [
        "GET /v1/",
        "GET /v2x",
        "GET /v2//",
        "GET /v2/a",
        "GET /v2/a/b",
        "GET /v2/a/tags",
        "GET /v2/_catalog/",
        "GET /v2/_catalogue",
        "GET /v2/a/blobs",
        "GET /metrics/",
        "GET //v2/",
        "GET /v2/%ff/tags/list",
        "GET *",
    ] {
        assert_eq!(read(line), "404", "{line}");
    }
}

#[test]
fn methods_that_are_not_allowed() {
    check(&[
        ("POST /v2/", "405 GET, HEAD"),
        ("DELETE /v2/_catalog", "405 GET, HEAD"),
        ("POST /v2/a/tags/list", "405 GET, HEAD"),
        ("POST /v2/a/manifests/x", "405 GET, HEAD, PUT, DELETE"),
        ("PUT /v2/a/blobs/{d}", "405 GET, HEAD, DELETE"),
        ("GET /v2/a/blobs/uploads/", "405 POST"),
        ("POST /v2/a/blobs/uploads/{id}", "405 GET, HEAD, PATCH, PUT, DELETE"),
        ("DELETE /v2/a/referrers/{d}", "405 GET, HEAD"),
        ("POST /", "405 GET, HEAD"),
        ("POST /livez", "405 GET, HEAD"),
    ]);
}

#[test]
fn malformed_values() {
    let long = "a".repeat(256);
    check(&[
        ("GET /v2/A/manifests/x", "400 NAME_INVALID"),
        ("GET /v2//manifests/x", "400 NAME_INVALID"),
        ("GET /v2/../manifests/x", "400 NAME_INVALID"),
        ("GET /v2/..%2f..%2fetc/manifests/x", "400 NAME_INVALID"),
        ("GET /v2/a%00b/tags/list", "400 NAME_INVALID"),
        (&format!("GET /v2/{long}/tags/list"), "400 NAME_INVALID"),
        ("GET /v2/a/manifests/.x", "404 MANIFEST_UNKNOWN"),
        ("DELETE /v2/a/manifests/-x", "404 MANIFEST_UNKNOWN"),
        ("PUT /v2/a/manifests/.x", "400 MANIFEST_INVALID"),
        ("PUT /v2/a/manifests/x?tag=y", "400 MANIFEST_INVALID"),
        ("PUT /v2/a/manifests/{d}?tag=.y", "400 MANIFEST_INVALID"),
        ("GET /v2/a/blobs/sha256:..%2f..%2fx", "404"),
        ("GET /v2/a/blobs/x", "400 DIGEST_INVALID"),
        ("GET /v2/a/blobs/md5:d41d8cd98f00b204e9800998ecf8427e", "400 DIGEST_INVALID"),
        ("POST /v2/a/blobs/uploads/?digest=x", "400 DIGEST_INVALID"),
        ("POST /v2/a/blobs/uploads/?digest={d}&digest={d}", "400 UNSUPPORTED"),
        ("POST /v2/a/blobs/uploads/?mount=x&from=b", "400 DIGEST_INVALID"),
        ("POST /v2/a/blobs/uploads/?digest-algorithm=md5", "400 DIGEST_INVALID"),
        ("PUT /v2/a/blobs/uploads/{id}", "400 DIGEST_INVALID"),
        ("PUT /v2/a/blobs/uploads/{id}?digest=", "400 DIGEST_INVALID"),
        ("GET /v2/a/blobs/uploads/..", "404 BLOB_UPLOAD_UNKNOWN"),
        ("GET /v2/a/blobs/uploads/x", "404 BLOB_UPLOAD_UNKNOWN"),
        ("GET /v2/_catalog?n=x", "400 UNSUPPORTED"),
        ("GET /v2/_catalog?n=-1", "400 UNSUPPORTED"),
        ("GET /v2/_catalog?n=1&n=2", "400 UNSUPPORTED"),
        ("GET /v2/_catalog?last=%ff", "400 UNSUPPORTED"),
        ("GET /v2/a/tags/list?n=", "400 UNSUPPORTED"),
    ]);
    let tags = (0..47).fold(String::new(), |tags, n| format!("{tags}&tag=t{n}"));
    assert_eq!(read(&format!("PUT /v2/a/manifests/{{d}}?{tags}")), "414");
}

/// The names of the variants. A new variant does not compile until it is added here.
macro_rules! variants {
    ($($variant:ident)*) => {
        const VARIANTS: &[&str] = &[$(stringify!($variant)),*];

        fn variant(route: &Route) -> &'static str {
            match route {
                $(Route::$variant { .. } => stringify!($variant),)*
            }
        }
    };
}

variants! {
    Ping Catalog Tags Referrers GetManifest HeadManifest PutManifest DeleteManifest GetBlob HeadBlob DeleteBlob
    StartUpload PushBlob MountBlob UploadStatus UploadChunk FinishUpload CancelUpload ListKeys CreateKey RevokeKey
    GetToken PostToken ExchangeToken TokenKeys AcmeChallenge Preflight Login Callback Confirm Logout Root Live Ready Started Metrics
    Discover Management TogglePreference GetSearch PostSearch
}

/// The server's own answers make the table. This test makes sure that it has every route.
#[test]
fn every_route_has_a_line_in_the_table_of_callers() {
    let mut variants = Vec::new();
    let table = include_str!("../../../tests/it/accounts/routes.txt");
    for line in table.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let mut words = line.split_whitespace();
        let mut word = || words.next().expect("a line has a method, a path and the status for each caller");
        let (method, uri) = (word().parse().expect("a method"), word());
        let values = [("{name}", "a/b"), ("{absent}", "a/c"), ("{tag}", "1"), ("{digest}", DIGEST), ("{id}", ID)];
        let uri = values.iter().fold(uri.to_owned(), |uri, (name, value)| uri.replace(name, value));
        let (path, query) = uri.split_once('?').map_or((&*uri, None), |(path, query)| (path, Some(query)));
        let path = Path::decode(path);
        if path.surface() != Surface::Registry {
            continue;
        }
        if let Ok(route) = parse(&method, &path, query, Some("/metrics")) {
            variants.push(variant(&route));
        } else {
            // A path that does not exist is the same for all callers.
            let said: std::collections::BTreeSet<&str> = words.collect();
            assert!(said.len() == 1 && said.is_subset(&["404", "405"].into()), "{line}");
        }
    }
    let missing: Vec<&&str> = VARIANTS.iter().filter(|name| !variants.contains(*name)).collect();
    assert!(missing.is_empty(), "without a line: {missing:?}");
}
