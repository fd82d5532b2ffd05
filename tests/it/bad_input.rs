//! Bad input of every kind gets the right 4xx, and changes nothing.
//!
//! One table. A row is a request as it goes over the wire, the status and the error code it gets. A
//! request line without a version is completed: by the version, `Host`, the length of the body and
//! `Connection: close`; one with a version is sent as it is written. A character stands for the byte
//! of the same number, so that bytes that are not UTF-8 can be written down. An answer without a code
//! comes from hyper, which knows no route yet; so does no answer at all (status 0).

use std::path::Path;

use crate::support::TestRegistry;
use crate::support::content::{CONFIG, INDEX, MANIFEST, push_image, sha256, start_upload};
use crate::support::http::Caller;
use crate::support::raw::exchange;

type Row = (&'static str, u16, &'static str);

/// `$DIGEST` is a blob of the repository `a`, `$NONE` a digest of nothing that is there, `$UPLOAD` an
/// upload of ten bytes, `$CUT` the end of what the client sends, `$TYPE` the media type of an image manifest, `$CONFIG` a good config
/// descriptor, and `$LONG` 300 letters.
const NAMES_TAGS_DIGESTS: &[Row] = &[
    ("GET /v2/A/tags/list", 400, "NAME_INVALID"),
    ("GET /v2//tags/list", 400, "NAME_INVALID"),
    ("GET /v2/a/../a/tags/list", 400, "NAME_INVALID"),
    ("GET /v2/a%2F..%2Fa/tags/list", 400, "NAME_INVALID"),
    ("GET /v2/a%00/tags/list", 400, "NAME_INVALID"),
    ("GET /v2/%C3%A4/tags/list", 400, "NAME_INVALID"),
    ("GET /v2/%FF/tags/list", 404, "UNSUPPORTED"),
    ("GET /v2/$LONG/tags/list", 400, "NAME_INVALID"),
    ("DELETE /v2/A/manifests/1", 400, "NAME_INVALID"),
    ("POST /v2/a_/blobs/uploads/", 400, "NAME_INVALID"),
    ("PUT /v2/a..b/manifests/1\ncontent-type: $TYPE\n\n{}", 400, "NAME_INVALID"),
    ("PUT /v2/a/manifests/.1\ncontent-type: $TYPE\n\n{}", 400, "MANIFEST_INVALID"),
    ("PUT /v2/a/manifests/$LONG\ncontent-type: $TYPE\n\n{}", 400, "MANIFEST_INVALID"),
    ("PUT /v2/a/manifests/a%0d%0ab\ncontent-type: $TYPE\n\n{}", 400, "MANIFEST_INVALID"),
    ("DELETE /v2/a/manifests/-1", 404, "MANIFEST_UNKNOWN"),
    ("DELETE /v2/a/manifests/%00", 404, "MANIFEST_UNKNOWN"),
    ("DELETE /v2/a/manifests/sha256:x", 400, "DIGEST_INVALID"),
    ("DELETE /v2/a/manifests/$NONE", 404, "MANIFEST_UNKNOWN"),
    ("PUT /v2/a/manifests/$NONE\ncontent-type: $TYPE\n\n{\"schemaVersion\":2,$CONFIG}", 400, "DIGEST_INVALID"),
    ("PUT /v2/a/manifests/$NONE?tag=.\ncontent-type: $TYPE\n\n{}", 400, "MANIFEST_INVALID"),
    ("PUT /v2/a/manifests/x?tag=y\ncontent-type: $TYPE\n\n{}", 400, "MANIFEST_INVALID"),
    ("DELETE /v2/a/blobs/x", 400, "DIGEST_INVALID"),
    ("DELETE /v2/a/blobs/sha256:", 400, "DIGEST_INVALID"),
    ("DELETE /v2/a/blobs/sha1:da39a3ee5e6b4b0d3255bfef95601890afd80709", 400, "DIGEST_INVALID"),
    ("DELETE /v2/a/blobs/$NONE", 404, "BLOB_UNKNOWN"),
    ("DELETE /v2/a/blobs/sha256:..%2F..%2F..%2Fcoracle.redb", 404, "UNSUPPORTED"),
    ("DELETE /v2/a/blobs/$DIGEST", 405, "DENIED"),
    ("GET /v2/a/blobs/sha512:$LONG", 400, "DIGEST_INVALID"),
    ("GET /v2/a/referrers/1", 400, "DIGEST_INVALID"),
    ("POST /v2/a/blobs/uploads/?digest=x\n\nx", 400, "DIGEST_INVALID"),
    ("POST /v2/a/blobs/uploads/?digest=$NONE\n\nx", 400, "DIGEST_INVALID"),
    ("POST /v2/a/blobs/uploads/?digest=$NONE&digest=$NONE\n\nx", 400, "UNSUPPORTED"),
    ("POST /v2/a/blobs/uploads/?mount=x&from=a", 400, "DIGEST_INVALID"),
    ("POST /v2/a/blobs/uploads/?mount=$DIGEST&mount=$DIGEST", 400, "UNSUPPORTED"),
    ("POST /v2/a/blobs/uploads/?digest-algorithm=crc32", 400, "DIGEST_INVALID"),
    ("PATCH /v2/a/blobs/uploads/..%2F..\n\nx", 404, "UNSUPPORTED"),
    ("PATCH /v2/a/blobs/uploads/x\n\nx", 404, "BLOB_UPLOAD_UNKNOWN"),
    ("PATCH /v2/b/blobs/uploads/07070707-0707-8707-8707-070707070707\n\nx", 404, "BLOB_UPLOAD_UNKNOWN"),
    ("DELETE /v2/a/blobs/uploads/{07070707-0707-8707-8707-070707070707}", 404, "BLOB_UPLOAD_UNKNOWN"),
    ("PUT $UPLOAD\n\nx", 400, "DIGEST_INVALID"),
    ("PUT $UPLOAD?digest=\n\nx", 400, "DIGEST_INVALID"),
    ("PUT $UPLOAD?digest=$NONE\n\nx", 400, "DIGEST_INVALID"),
    ("PUT $UPLOAD?digest=$NONE&digest=$NONE\n\nx", 400, "UNSUPPORTED"),
];

const LISTS_RANGES_LENGTHS: &[Row] = &[
    ("GET /v2/_catalog?n=x", 400, "UNSUPPORTED"),
    ("GET /v2/_catalog?n=-1", 400, "UNSUPPORTED"),
    ("GET /v2/_catalog?n=1&n=1", 400, "UNSUPPORTED"),
    ("GET /v2/a/tags/list?n=%31%00", 400, "UNSUPPORTED"),
    ("GET /v2/a/tags/list?last=%FF", 400, "UNSUPPORTED"),
    ("GET /v2/a/tags/list?%FF=1", 400, "UNSUPPORTED"),
    ("GET /v2/a/referrers/$DIGEST?last=x", 400, "UNSUPPORTED"),
    ("GET /v2/a/referrers/$DIGEST?artifactType=%FF", 400, "UNSUPPORTED"),
    ("GET /v2/a/referrers/$DIGEST?n=x", 400, "UNSUPPORTED"),
    ("GET /v2/a/blobs/$DIGEST\nrange: bytes=5-1", 416, "SIZE_INVALID"),
    ("GET /v2/a/blobs/$DIGEST\nrange: bytes=99999-", 416, "SIZE_INVALID"),
    ("GET /v2/a/blobs/$DIGEST\nrange: bytes=-0", 416, "SIZE_INVALID"),
    ("GET /v2/a/blobs/$DIGEST\nrange: bytes=\u{e4}-", 400, "SIZE_INVALID"),
    ("GET /v2/a/blobs/$DIGEST\nrange: bytes=0-0\nrange: bytes=1-1", 400, "SIZE_INVALID"),
    ("PATCH $UPLOAD\ncontent-range: 0-0\n\nx", 416, "BLOB_UPLOAD_INVALID"),
    ("PATCH $UPLOAD\ncontent-range: 9-10\n\nxy", 416, "BLOB_UPLOAD_INVALID"),
    ("PATCH $UPLOAD\ncontent-range: 11-11\n\nx", 416, "BLOB_UPLOAD_INVALID"),
    ("PATCH $UPLOAD\ncontent-range: 10-12\n\nx", 400, "SIZE_INVALID"),
    ("PATCH $UPLOAD\ncontent-range: 10-10\n\nxyz", 400, "SIZE_INVALID"),
    ("PATCH $UPLOAD\ncontent-range: 10-9\n\n", 400, "BLOB_UPLOAD_INVALID"),
    ("PATCH $UPLOAD\ncontent-range: 10-x\n\nx", 400, "BLOB_UPLOAD_INVALID"),
    ("PATCH $UPLOAD\ncontent-range: \u{ff}\n\nx", 400, "BLOB_UPLOAD_INVALID"),
    ("PATCH $UPLOAD\ncontent-range: 10-10\ncontent-range: 10-10\n\nx", 400, "BLOB_UPLOAD_INVALID"),
    ("PATCH $UPLOAD\ncontent-range: 10-18446744073709551615\n\nx", 400, "BLOB_UPLOAD_INVALID"),
    ("PATCH $UPLOAD\ncontent-range: 10-12\ntransfer-encoding: chunked\n\n1\r\nx\r\n0\r\n\r\n", 400, "SIZE_INVALID"),
    ("PUT $UPLOAD?digest=$NONE\ncontent-range: 11-11\n\nx", 416, "BLOB_UPLOAD_INVALID"),
    ("PUT $UPLOAD?digest=$NONE\ncontent-range: 10-11\n\nx", 400, "SIZE_INVALID"),
    ("POST /v2/a/blobs/uploads/?digest=$NONE\ncontent-range: 1-1\n\nx", 416, "BLOB_UPLOAD_INVALID"),
    ("POST /v2/a/blobs/uploads/?digest=$NONE\ncontent-range: 0-5\n\nx", 400, "SIZE_INVALID"),
];

const MANIFESTS: &[Row] = &[
    ("PUT /v2/a/manifests/x\ncontent-type: $TYPE\n\n", 400, "MANIFEST_INVALID"),
    ("PUT /v2/a/manifests/x\ncontent-type: $TYPE\n\n{", 400, "MANIFEST_INVALID"),
    ("PUT /v2/a/manifests/x\ncontent-type: $TYPE\n\nnull", 400, "MANIFEST_INVALID"),
    ("PUT /v2/a/manifests/x\ncontent-type: $TYPE\n\n[]", 400, "MANIFEST_INVALID"),
    ("PUT /v2/a/manifests/x\ncontent-type: $TYPE\n\n{}", 400, "MANIFEST_INVALID"),
    ("PUT /v2/a/manifests/x\ncontent-type: $TYPE\n\n{\"schemaVersion\":2}", 400, "MANIFEST_INVALID"),
    ("PUT /v2/a/manifests/x\ncontent-type: $TYPE\n\n{\"schemaVersion\":1,$CONFIG}", 400, "MANIFEST_INVALID"),
    ("PUT /v2/a/manifests/x\ncontent-type: $TYPE\n\n{\"schemaVersion\":\"2\",$CONFIG}", 400, "MANIFEST_INVALID"),
    ("PUT /v2/a/manifests/x\ncontent-type: $TYPE\n\n{\"schemaVersion\":2,$CONFIG}x", 400, "MANIFEST_INVALID"),
    ("PUT /v2/a/manifests/x\ncontent-type: $TYPE\n\n{\"schemaVersion\":2,$CONFIG,$CONFIG}", 400, "MANIFEST_INVALID"),
    (
        "PUT /v2/a/manifests/x\ncontent-type: $TYPE\n\n{\"schemaVersion\":2,$CONFIG,\"x\":\"\u{ff}\"}",
        400,
        "MANIFEST_INVALID",
    ),
    (
        "PUT /v2/a/manifests/x\ncontent-type: $TYPE\n\n{\"schemaVersion\":2,$CONFIG,\"x\":\"\0\"}",
        400,
        "MANIFEST_INVALID",
    ),
    (
        "PUT /v2/a/manifests/x\ncontent-type: $TYPE\n\n\u{ef}\u{bb}\u{bf}{\"schemaVersion\":2,$CONFIG}",
        400,
        "MANIFEST_INVALID",
    ),
    (
        "PUT /v2/a/manifests/x\ncontent-type: $TYPE\n\n{\"schemaVersion\":2,$CONFIG,\"layers\":{}}",
        400,
        "MANIFEST_INVALID",
    ),
    (
        "PUT /v2/a/manifests/x\ncontent-type: $TYPE\n\n{\"schemaVersion\":2,$CONFIG,\"layers\":[{}]}",
        400,
        "MANIFEST_INVALID",
    ),
    (
        "PUT /v2/a/manifests/x\ncontent-type: $TYPE\n\n{\"schemaVersion\":2,$CONFIG,\"manifests\":[]}",
        400,
        "MANIFEST_INVALID",
    ),
    (
        "PUT /v2/a/manifests/x\ncontent-type: $TYPE\n\n{\"schemaVersion\":2,$CONFIG,\"subject\":{\"digest\":\"x\"}}",
        400,
        "MANIFEST_INVALID",
    ),
    (
        "PUT /v2/a/manifests/x\ncontent-type: $TYPE\n\n{\"schemaVersion\":2,$CONFIG,\"annotations\":{\"a\":1}}",
        400,
        "MANIFEST_INVALID",
    ),
    (
        "PUT /v2/a/manifests/x\ncontent-type: $TYPE\n\n{\"schemaVersion\":2,$CONFIG,\"artifactType\":\"$LONG\"}",
        400,
        "MANIFEST_INVALID",
    ),
    (
        "PUT /v2/a/manifests/x\ncontent-type: $TYPE\n\n{\"schemaVersion\":2,$CONFIG,\"mediaType\":\"$INDEX\"}",
        400,
        "MANIFEST_INVALID",
    ),
    ("PUT /v2/a/manifests/x\ncontent-type: $INDEX\n\n{\"schemaVersion\":2,$CONFIG}", 400, "MANIFEST_INVALID"),
    ("PUT /v2/a/manifests/x\ncontent-type: $TYPE\n\n$DEEP", 400, "MANIFEST_INVALID"),
    ("PUT /v2/a/manifests/x\ncontent-type: $TYPE\n\n$HUGE", 413, "MANIFEST_INVALID"),
    ("PUT /v2/a/manifests/x\ncontent-type: text/plain\n\n{\"schemaVersion\":2,$CONFIG}", 415, "MANIFEST_INVALID"),
    ("PUT /v2/a/manifests/x\ncontent-type: nonsense\n\n{\"schemaVersion\":2,$CONFIG}", 400, "MANIFEST_INVALID"),
    ("PUT /v2/a/manifests/x\ncontent-type: \u{ff}\n\n{\"schemaVersion\":2,$CONFIG}", 400, "MANIFEST_INVALID"),
    (
        "PUT /v2/a/manifests/x\ncontent-type: $TYPE\ncontent-type: $TYPE\n\n{\"schemaVersion\":2,$CONFIG}",
        400,
        "MANIFEST_INVALID",
    ),
    (
        "PUT /v2/a/manifests/x\ncontent-type: $TYPE\ncontent-encoding: gzip\n\n\u{1f}\u{8b}\u{8}\0",
        400,
        "MANIFEST_INVALID",
    ),
    (
        "PUT /v2/a/manifests/1\ncontent-type: $TYPE\nif-match: x\n\n{\"schemaVersion\":2,$CONFIG}",
        400,
        "MANIFEST_INVALID",
    ),
    ("PUT /v2/a/manifests/1\ncontent-type: $TYPE\nif-match: \"$NONE\"\n\n{\"schemaVersion\":2,$CONFIG}", 412, "DENIED"),
    ("PUT /v2/a/manifests/1\ncontent-type: $TYPE\nif-none-match: *\n\n{\"schemaVersion\":2,$CONFIG}", 412, "DENIED"),
];

const PATHS_METHODS_HEADERS: &[Row] = &[
    ("POST /", 405, "UNSUPPORTED"),
    ("PUT /v2/a/manifests/1\nexpect: 200-ok", 417, "UNSUPPORTED"),
    ("GET /v2/a", 404, "UNSUPPORTED"),
    ("GET /v2/a/blobs/$DIGEST/", 404, "UNSUPPORTED"),
    ("GET /../../etc/passwd", 404, "UNSUPPORTED"),
    ("GET /v2/a/b%2", 404, "UNSUPPORTED"),
    ("OPTIONS *", 404, "UNSUPPORTED"),
    ("POST /v2/", 405, "UNSUPPORTED"),
    ("BREW /v2/a/manifests/1", 405, "UNSUPPORTED"),
    ("delete /v2/a/manifests/1", 405, "UNSUPPORTED"),
    ("DELETE /v2/a/tags/list", 405, "UNSUPPORTED"),
    ("GET http://localhost/v2/A/tags/list HTTP/1.1\nhost: localhost\n\n", 400, "NAME_INVALID"),
    ("GET http://localhost/nowhere HTTP/1.1\nhost: localhost\n\n", 404, "UNSUPPORTED"),
    ("CONNECT localhost:443 HTTP/1.1\nhost: localhost\n\n", 404, "UNSUPPORTED"),
    ("GET /v2/A/tags/list HTTP/1.0\n\n", 400, "NAME_INVALID"),
    ("DELETE /v2/a/manifests/1 HTTP/1.1\n\n", 400, "UNSUPPORTED"),
    ("DELETE /v2/a/manifests/1 HTTP/1.1\nhost: localhost\nhost: y\n\n", 400, "UNSUPPORTED"),
    ("DELETE /v2/a/manifests/1 HTTP/1.0\nhost: localhost\nhost: y\n\n", 400, "UNSUPPORTED"),
    ("GET /v2/?$LONGER", 414, "UNSUPPORTED"),
    ("DELETE /v2/a/manifests/1?$LONGER", 414, "UNSUPPORTED"),
    ("DELETE /v2/a/manifests/1?$PARAMETERS", 414, "UNSUPPORTED"),
    ("DELETE /v2/a/manifests/1?$LONGEST", 414, ""),
    ("DELETE /v2/a/manifests/1\nx-long: $FORTY_KIB", 431, "UNSUPPORTED"),
    ("DELETE /v2/a/manifests/1\n$FLOOD", 431, ""),
];

/// Requests that no client library sends.
const FRAMING: &[Row] = &[
    ("\n\nDELETE\n\n HTTP/1.1", 400, ""),
    ("DELETE /v2/a/manifests/1 HTTP/1.2\nhost: localhost\n\n", 400, ""),
    ("DELETE /v2/a/manifests/1 HTTP/3\nhost: localhost\n\n", 400, ""),
    ("DELETE  /v2/a/manifests/1 HTTP/1.1\nhost: localhost\n\n", 400, ""),
    ("DELETE /v2/a/manifests/1 x HTTP/1.1\nhost: localhost\n\n", 400, ""),
    ("DELETE v2/a/manifests/1 HTTP/1.1\nhost: localhost\n\n", 400, ""),
    ("DEL(ETE /v2/a/manifests/1 HTTP/1.1\nhost: localhost\n\n", 400, ""),
    ("DELETE /v2/a/manifests/1\0 HTTP/1.1\nhost: localhost\n\n", 400, ""),
    ("DELETE /v2/a/manifests/\u{ff} HTTP/1.1\nhost: localhost\n\n", 400, ""),
    ("DELETE /v2/a/manifests/1 HTTP/1.1\nhost : x\n\n", 400, ""),
    ("DELETE /v2/a/manifests/1 HTTP/1.1\nhost: localhost\nno colon\n\n", 400, ""),
    ("DELETE /v2/a/manifests/1 HTTP/1.1\nhost: localhost\nx\u{ff}: y\n\n", 400, ""),
    ("DELETE /v2/a/manifests/1 HTTP/1.1\nhost: localhost\nx: \0\n\n", 400, ""),
    ("DELETE /v2/a/manifests/1 HTTP/1.1\nhost: localhost\n folded: y\n\n", 400, ""),
    ("PUT /v2/a/manifests/1 HTTP/1.1\nhost: localhost\ncontent-length: x\n\n", 400, ""),
    ("PUT /v2/a/manifests/1 HTTP/1.1\nhost: localhost\ncontent-length: -1\n\n", 400, ""),
    ("PUT /v2/a/manifests/1 HTTP/1.1\nhost: localhost\ncontent-length: +2\n\n{}", 400, ""),
    ("PUT /v2/a/manifests/1 HTTP/1.1\nhost: localhost\ncontent-length: 99999999999999999999\n\n{}", 400, ""),
    ("PUT /v2/a/manifests/1 HTTP/1.1\nhost: localhost\ncontent-length: 2\ncontent-length: 3\n\n{}", 400, ""),
    ("PUT /v2/a/manifests/1 HTTP/1.1\nhost: localhost\ncontent-length: 2, 3\n\n{}", 400, ""),
    ("PUT /v2/a/manifests/1 HTTP/1.1\nhost: localhost\ntransfer-encoding: gzip\n\n{}", 400, ""),
    ("PUT /v2/a/manifests/1 HTTP/1.1\nhost: localhost\ntransfer-encoding: chunked, gzip\n\n{}", 400, ""),
    (
        "PUT /v2/a/manifests/1 HTTP/1.1\nhost: localhost\ncontent-type: $TYPE\ntransfer-encoding: gzip, chunked\n\n2\r\n{}\r\n0\r\n\r\n",
        400,
        "UNSUPPORTED",
    ),
    (
        "PUT /v2/a/manifests/1\ncontent-type: $TYPE\n\n{\"schemaVersion\":2,$CONFIG,\"layers\":[],\"Layers\":[]}",
        400,
        "MANIFEST_INVALID",
    ),
    ("PUT /v2/a/manifests/1 HTTP/1.0\ntransfer-encoding: chunked\n\n2\r\n{}\r\n0\r\n\r\n", 400, ""),
    // The transfer coding takes precedence (RFC 9112, 6.3), and its content is not a manifest.
    (
        "PUT /v2/a/manifests/1 HTTP/1.1\nhost: localhost\ncontent-type: $TYPE\ncontent-length: 9\ntransfer-encoding: chunked\n\n2\r\n{}\r\n0\r\n\r\n",
        400,
        "MANIFEST_INVALID",
    ),
    (
        "PUT /v2/a/manifests/1 HTTP/1.1\nhost: localhost\ncontent-type: $TYPE\ntransfer-encoding: chunked\n\nx\r\n{}\r\n0\r\n\r\n",
        400,
        "SIZE_INVALID",
    ),
    (
        "PUT /v2/a/manifests/1 HTTP/1.1\nhost: localhost\ncontent-type: $TYPE\ntransfer-encoding: chunked\n\n-2\r\n{}\r\n0\r\n\r\n",
        400,
        "SIZE_INVALID",
    ),
    (
        "PUT /v2/a/manifests/1 HTTP/1.1\nhost: localhost\ncontent-type: $TYPE\ntransfer-encoding: chunked\n\nFFFFFFFFFFFFFFFFF\r\n{}\r\n0\r\n\r\n",
        400,
        "SIZE_INVALID",
    ),
    (
        "PUT /v2/a/manifests/1 HTTP/1.1\nhost: localhost\ncontent-type: $TYPE\ntransfer-encoding: chunked\n\n2\r\n{}x\r\n0\r\n\r\n",
        400,
        "SIZE_INVALID",
    ),
    (
        "PUT /v2/a/manifests/1 HTTP/1.1\nhost: localhost\ncontent-type: $TYPE\ntransfer-encoding: chunked\n\n2\r\n{}\r\n$CUT",
        400,
        "SIZE_INVALID",
    ),
    (
        "PUT /v2/a/manifests/1 HTTP/1.1\nhost: localhost\ncontent-type: $TYPE\ncontent-length: 9\n\n{}$CUT",
        400,
        "SIZE_INVALID",
    ),
    (
        "POST /v2/a/blobs/uploads/?digest=$NONE HTTP/1.1\nhost: localhost\ncontent-length: 9\n\nx$CUT",
        400,
        "SIZE_INVALID",
    ),
    (
        "POST /v2/a/blobs/uploads/?digest=$NONE HTTP/1.1\nhost: localhost\ntransfer-encoding: chunked\n\nzz\r\nx\r\n",
        400,
        "SIZE_INVALID",
    ),
];

/// A registry with an image `a:1` and an upload of ten bytes.
struct Subject {
    t: TestRegistry,
    caller: Caller,
    blob: String,
    upload: String,
}

impl Subject {
    async fn new() -> Self {
        let t = TestRegistry::open().await;
        let caller = t.anonymous();
        let manifest = push_image(&caller, "a", "1", 1).await;
        let upload = start_upload(&caller, "a").await;
        caller.patch(&upload).body("0123456789").send().await.status(202);
        Self { t, caller, blob: manifest["layers"][0]["digest"].as_str().unwrap().to_owned(), upload }
    }

    /// The bytes of a row's request.
    fn request(&self, row: &str) -> Vec<u8> {
        let flood: Vec<String> = (0..150).map(|n| format!("x-{n}: y")).collect();
        let config = format!("\"config\":{{\"mediaType\":\"{CONFIG}\",\"digest\":\"{}\",\"size\":1000}}", self.blob);
        let row = [
            ("$DIGEST", self.blob.as_str()),
            ("$NONE", &sha256(b"missing")),
            ("$UPLOAD", &self.upload),
            ("$TYPE", MANIFEST),
            ("$INDEX", INDEX),
            ("$CONFIG", &config),
            ("$LONGEST", &"x".repeat(100_000)),
            ("$LONGER", &"x".repeat(10_000)),
            ("$LONG", &"a".repeat(300)),
            ("$FORTY_KIB", &"x".repeat(40_000)),
            ("$PARAMETERS", &"a&".repeat(129)),
            ("$DEEP", &"[".repeat(50_000)),
            ("$HUGE", &" ".repeat((4 << 20) + 1)),
            ("$FLOOD", &flood.join("\n")),
            ("$CUT", ""),
        ]
        .iter()
        .fold(row.to_owned(), |row, (name, value)| row.replace(name, value));
        let (head, body) = row.split_once("\n\n").unwrap_or((&row, ""));
        let (line, headers) = head.split_once('\n').unwrap_or((head, ""));
        let head = if row.contains(" HTTP/") {
            head.to_owned()
        } else {
            let headers = if headers.is_empty() { String::new() } else { format!("\n{headers}") };
            let length = format!("\ncontent-length: {}", body.chars().count());
            let length = if headers.contains("transfer-encoding") { String::new() } else { length };
            format!("{line} HTTP/1.1\nhost: localhost\nconnection: close{headers}{length}")
        };
        let text = format!("{}\r\n\r\n{body}", head.replace('\n', "\r\n"));
        text.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect()
    }

    /// Everything that can be seen of the registry, from outside and on its disk.
    async fn state(&self) -> Vec<String> {
        let mut state = Vec::new();
        let blob = format!("/v2/a/blobs/{}", self.blob);
        let referrers = format!("/v2/a/referrers/{}", sha256(b"missing"));
        for path in ["/v2/_catalog", "/v2/a/tags/list", "/v2/a/manifests/1", &blob, &self.upload, &referrers] {
            let answer = self.caller.get(path).send().await;
            let mut headers: Vec<String> = answer.headers.iter().map(|header| format!("{header:?}")).collect();
            headers.retain(|header| !header.contains("\"date\""));
            state.push(format!("{path} {} {headers:?} {}", answer.status, sha256(&answer.body)));
        }
        let root = self.t.registry.data_dir();
        let mut files = Vec::new();
        for directory in ["blobs/sha256", "blobs/sha512", "uploads"] {
            files.extend(list(&root.join(directory)));
        }
        files.sort_unstable();
        state.push(format!("{files:?}"));
        state
    }
}

fn list(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap().map(Result::unwrap);
    entries.map(|entry| format!("{} {}", entry.path().display(), entry.metadata().unwrap().len())).collect()
}

async fn check(rows: &[Row]) {
    let subject = Subject::new().await;
    let before = subject.state().await;
    assert_eq!(before.len(), 7);
    let mut wrong = Vec::new();
    for (number, (row, status, code)) in rows.iter().enumerate() {
        let request = subject.request(row);
        let answer = exchange(subject.caller.address(), &request, row.ends_with("$CUT")).await;
        if (answer.status, answer.code().as_str()) != (*status, *code) {
            wrong.push(format!("{row:?}: {} {} instead of {status} {code}", answer.status, answer.body));
        }
        let json = answer.head.contains("content-type: application/json");
        assert_eq!(json, !code.is_empty() && answer.status > 0, "{row:?}: {}", answer.head);
        // Looking at everything is as much work as the request itself; some rows are enough to find
        // the one that changes something.
        if number % 8 == 0 {
            assert_eq!(subject.state().await, before, "{row:?} or one before it has changed something");
        }
    }
    assert!(wrong.is_empty(), "{} rows:\n{}", wrong.len(), wrong.join("\n"));
    assert_eq!(subject.state().await, before, "a row has changed something");
    // The upload is as usable as before.
    let put = format!("{}?digest={}", subject.upload, sha256(b"0123456789"));
    subject.caller.put(&put).send().await.status(201);
    assert_ne!(subject.state().await, before, "a change shows");
}

#[tokio::test]
async fn names_tags_and_digests() {
    check(NAMES_TAGS_DIGESTS).await;
}

#[tokio::test]
async fn lists_ranges_and_lengths() {
    check(LISTS_RANGES_LENGTHS).await;
}

#[tokio::test]
async fn manifests() {
    check(MANIFESTS).await;
}

#[tokio::test]
async fn paths_methods_and_headers() {
    check(PATHS_METHODS_HEADERS).await;
}

#[tokio::test]
async fn framing() {
    check(FRAMING).await;
}

/// The good twins of some rows, so that it is their badness that is refused.
#[tokio::test]
async fn what_is_good_is_not_refused() {
    let subject = Subject::new().await;
    for (row, status) in [
        ("GET http://localhost/v2/a/tags/list HTTP/1.1\nhost: localhost\n\n", 200),
        ("GET /v2/a/tags/list HTTP/1.0\n\n", 200),
        ("GET /v2/?x", 200),
        ("PUT /v2/a/manifests/x\ncontent-type: $TYPE\n\n{\"schemaVersion\":2,$CONFIG}", 201),
        ("PUT /v2/a/manifests/x\ncontent-type: $TYPE\ntransfer-encoding: chunked\n\n2;x=y\r\n{}\r\n0\r\n\r\n", 400),
        ("PATCH $UPLOAD\ncontent-range: 10-10\n\nx", 202),
        ("PATCH $UPLOAD\ncontent-range: 11-11\ntransfer-encoding: chunked\n\n1\r\nx\r\n0\r\n\r\n", 202),
        ("GET /v2/a/blobs/$DIGEST\nrange: bytes=0-0", 206),
    ] {
        let answer = exchange(subject.caller.address(), &subject.request(row), false).await;
        assert_eq!(answer.status, status, "{row:?}: {}", answer.body);
    }
}
