//! A registry with something on every page, and the paths of its pages.

use serde_json::{Value, json};

use super::client::Client;
use crate::support::TestRegistry;
use crate::support::content::{
    EMPTY, INDEX, MANIFEST, bytes, descriptor, image, push_blob, push_image, put_manifest, sha256,
};
use crate::support::http::Caller;
use crate::support::registry::{ALICE, BOB, ROOT};

/// The pages of accounts and of superusers, and the lists of repositories. They exist without content.
pub const PAGES: &[&str] = &[
    "/ui/",
    "/ui/?view=tree",
    "/ui/?q=app&sort=size",
    "/ui/?q=nothing",
    "/ui/search?q=",
    "/ui/search?q=app",
    "/ui/search?q=app%3A1",
    "/ui/account",
    "/ui/account/access",
    "/ui/account/keys",
    "/ui/account/keys/new",
    "/ui/account/sessions",
    "/ui/account/clients",
    "/ui/account/password",
    "/ui/account/log",
    "/ui/admin/users",
    "/ui/admin/users/-/new",
    "/ui/admin/users/alice",
    "/ui/admin/users/alice/-/disable",
    "/ui/admin/users/alice/-/reset-password",
    "/ui/admin/users/alice/-/delete",
    "/ui/admin/groups",
    "/ui/admin/groups/-/new",
    "/ui/admin/audit",
    "/ui/admin/disk",
    "/ui/admin/mirrors",
    "/ui/admin/maintenance",
    "/ui/admin/limits",
    "/ui/admin/config",
];

/// A registry with something on every page.
#[derive(Debug)]
pub struct Furnished {
    pub t: TestRegistry,
    /// The paths of all pages that root sees.
    pub pages: Vec<String>,
    /// The path of a blob's download.
    pub blob: String,
}

impl Furnished {
    pub async fn start() -> Self {
        let t = TestRegistry::with_users().await;
        furnish_accounts(&t).await;
        let mut pages: Vec<String> = PAGES.iter().map(|path| (*path).to_owned()).collect();
        pages.extend(["/ui/admin/groups/team", "/ui/account/access?repository=alice/app"].map(str::to_owned));
        let (repository, blob) = furnish_repositories(&t).await;
        pages.extend(repository);
        Self { t, pages, blob }
    }
}

/// Makes keys, a refresh token and a group with a member.
async fn furnish_accounts(t: &TestRegistry) {
    for (scopes, label) in [("[\"alice/**:pull\"]", "pipeline"), ("null", "laptop")] {
        let body = format!("{{\"label\":\"{label}\",\"scopes\":{scopes}}}");
        for user in [ALICE, ROOT] {
            t.user(user).post("/zot/auth/apikey").body(body.clone()).send().await.status(201);
        }
    }
    t.user(ROOT).get("/v2/auth?offline_token=true&client_id=docker").send().await.status(200);
    let mut root = Client::signed_in(t, ROOT).await;
    let form = root.get("/ui/admin/groups/-/new").await;
    let fields = [("name", "team"), ("role", "write"), ("description", "A team")];
    root.submit(&form, "/ui/admin/groups/-/new", &fields).await.status(303);
    let group = root.get("/ui/admin/groups/team").await;
    let mut adding = group.clone();
    adding.body = group.text().replace("value=\"settings\"", "value=\"member\"").into();
    root.submit(&adding, "/ui/admin/groups/team", &[("member", BOB.0)]).await.status(303);
}

/// Pushes each kind of manifest and returns the paths of their pages, and of a blob.
async fn furnish_repositories(t: &TestRegistry) -> (Vec<String>, String) {
    const APP: &str = "alice/app";
    let alice = t.user(ALICE);
    let (index, images) = push_index(&alice, APP, "1.10").await;
    let single = push_image(&alice, APP, "1.9", 3).await;
    let moved = push_image(&alice, APP, "latest", 5).await;
    put_manifest(&alice, APP, "latest", &single).await.status(201);
    push_signature(&alice, APP, &index).await;
    let archive = chart(&[
        ("app/Chart.yaml", b"apiVersion: v2\nname: app\nversion: 1.0.0\n"),
        (
            "app/README.md",
            b"# The chart\n\nA [link](https://ok.example/) and `code`.\n\n| a | b |\n| - | - |\n| 1 | 2 |\n",
        ),
    ]);
    push_chart(&alice, "alice/chart", "1.0.0", &archive).await;
    push_file(&alice, "alice/files", "1", "note.txt").await;
    let mut client = Client::signed_in(t, ALICE).await;
    let description = format!("/ui/r/{APP}/-/description");
    let page = client.get(&description).await.status(200);
    // Readmes often begin with the second level.
    let text =
        "## The app\n\nIt has a [page](https://ok.example/), a list\n\n- one\n- two\n\n#### Small print\n\nand `code`.";
    client.submit(&page, &description, &[("description", text)]).await.status(303);
    let deleted = push_deleted(&alice, APP).await;
    let (index, child) = (sha256(&bytes(&index)), sha256(&bytes(&images[1])));
    let places = [
        String::new(),
        "?q=1&sort=size".to_owned(),
        "?q=nothing".to_owned(),
        "/-/untagged".to_owned(),
        "/-/history".to_owned(),
        "/-/history?tag=latest".to_owned(),
        "/-/description".to_owned(),
        "/-/settings".to_owned(),
        "/-/tag/1.10".to_owned(),
        format!("/-/tag/1.10?platform={child}"),
        "/-/tag/1.9".to_owned(),
        format!("/-/manifest/{index}"),
        format!("/-/manifest/{child}"),
        "/-/delete-tags?tag=1.10&tag=latest".to_owned(),
        format!("/-/delete-manifest/{index}"),
        format!("/-/delete-manifest/{child}"),
        "/-/delete".to_owned(),
        "/-/deleted".to_owned(),
        format!("/-/restore-manifest/{deleted}"),
        format!("/-/restore/latest?digest={}", sha256(&bytes(&moved))),
    ];
    let mut paths: Vec<String> = places.iter().map(|place| format!("/ui/r/{APP}{place}")).collect();
    let signature = format!("/ui/r/{APP}/-/manifest/{}", push_signature(&alice, APP, &moved).await);
    paths.extend([
        signature,
        "/ui/r/alice/chart/-/tag/1.0.0".to_owned(),
        "/ui/r/alice/files/-/tag/1".to_owned(),
        "/ui/?view=tree&path=alice".to_owned(),
        format!("/ui/search?q={}", &index[7..19]),
    ]);
    let blob = format!("/ui/r/{APP}/-/blob/{}", single["layers"][0]["digest"].as_str().unwrap());
    (paths, blob)
}

/// Pushes an index of two platforms, and returns the index and its images.
pub async fn push_index(caller: &Caller, repository: &str, tag: &str) -> (Value, Vec<Value>) {
    let (mut images, mut entries) = (Vec::new(), Vec::new());
    for architecture in ["amd64", "arm64"] {
        let config = json!({
            "os": "linux", "architecture": architecture, "created": "2026-01-02T03:04:05Z",
            "config": { "Entrypoint": ["/app"], "Env": ["SECRET=hunter2"], "Labels": { "org.example": architecture } },
            "history": [
                { "created_by": "/bin/sh -c #(nop) ADD file:1 in /" },
                { "created_by": "RUN /bin/sh -c make build # buildkit", "empty_layer": true },
            ],
        });
        let config = config.to_string().into_bytes();
        let layer = format!("layer of {architecture}").into_bytes();
        push_blob(caller, repository, &config).await;
        push_blob(caller, repository, &layer).await;
        let manifest = image(&config, &[&layer]);
        put_manifest(caller, repository, &sha256(&bytes(&manifest)), &manifest).await.status(201);
        let mut entry = descriptor(MANIFEST, &bytes(&manifest));
        entry["platform"] = json!({ "os": "linux", "architecture": architecture });
        entries.push(entry);
        images.push(manifest);
    }
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": entries });
    put_manifest(caller, repository, tag, &index).await.status(201);
    (index, images)
}

/// Pushes a signature of a manifest in cosign's form, and returns its digest.
async fn push_signature(caller: &Caller, repository: &str, subject: &Value) -> String {
    push_blob(caller, repository, b"{}").await;
    let media_type = subject["mediaType"].as_str().unwrap();
    let signature = json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "artifactType": "application/vnd.dev.cosign.artifact.sig.v1+json",
        "config": descriptor(EMPTY, b"{}"), "layers": [descriptor(EMPTY, b"{}")],
        "subject": descriptor(media_type, &bytes(subject)),
        "annotations": { "org.opencontainers.image.created": "2026-01-02T03:04:05Z" },
    });
    let digest = sha256(&bytes(&signature));
    put_manifest(caller, repository, &digest, &signature).await.status(201);
    digest
}

/// Pushes a manifest without a tag, deletes it, and returns its digest.
pub async fn push_deleted(caller: &Caller, repository: &str) -> String {
    let layer = format!("deleted layer of {repository}").into_bytes();
    push_blob(caller, repository, b"{}").await;
    push_blob(caller, repository, &layer).await;
    let manifest = image(b"{}", &[&layer]);
    let digest = sha256(&bytes(&manifest));
    put_manifest(caller, repository, &digest, &manifest).await.status(201);
    caller.delete(&format!("/v2/{repository}/manifests/{digest}")).send().await.status(202);
    digest
}

/// Pushes a Helm chart with this archive.
pub async fn push_chart(caller: &Caller, repository: &str, tag: &str, archive: &[u8]) {
    let config = br#"{"name":"app","version":"1.0.0","description":"a chart"}"#;
    push_blob(caller, repository, config).await;
    push_blob(caller, repository, archive).await;
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST,
        "config": descriptor("application/vnd.cncf.helm.config.v1+json", config),
        "layers": [descriptor("application/vnd.cncf.helm.chart.content.v1.tar+gzip", archive)],
    });
    put_manifest(caller, repository, tag, &manifest).await.status(201);
}

/// Pushes an artifact with a file of this name.
pub async fn push_file(caller: &Caller, repository: &str, tag: &str, name: &str) {
    let file = b"a note";
    push_blob(caller, repository, b"{}").await;
    push_blob(caller, repository, file).await;
    let mut layer = descriptor("text/plain", file);
    layer["annotations"] = json!({ "org.opencontainers.image.title": name });
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "artifactType": "application/vnd.example",
        "config": descriptor(EMPTY, b"{}"), "layers": [layer],
    });
    put_manifest(caller, repository, tag, &manifest).await.status(201);
}

/// A gzipped tar archive.
pub fn chart(files: &[(&str, &[u8])]) -> Vec<u8> {
    let encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let mut builder = tar::Builder::new(encoder);
    for (path, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        builder.append_data(&mut header, path, *content).unwrap();
    }
    builder.into_inner().unwrap().finish().unwrap()
}
