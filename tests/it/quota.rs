//! Quotas, the largest number of repositories, and mandatory annotations: the real program with many clients at once.

use std::sync::Arc;

use serde_json::json;
use tokio::sync::Barrier;

use crate::support::content::{bytes, image, noise, push_blob, push_image, put_manifest, sha256};
use crate::support::http::{Answer, Caller};
use crate::support::process::{ADMIN, Program, Running};
use crate::ui::client::Client;

const PUSHERS: usize = 64;

fn start(config: &str) -> (tempfile::TempDir, Running) {
    let root = tempfile::tempdir().unwrap();
    let running = Program::serve_with(root.path(), config).with_admin().start();
    (root, running)
}

/// A superuser whose password was verified, so that many requests at once need not wait for that.
async fn signed_in(running: &Running) -> Caller {
    let admin = running.user(ADMIN);
    admin.get("/v2/").send().await.status(200);
    admin
}

/// Sends a request to Quay's API, which takes an API key and no password.
async fn quays(running: &Running, admin: &Caller, method: &str, path: &str, body: String) -> Answer {
    let made = admin.post("/zot/auth/apikey").body("{}").send().await.status(201).json();
    let request = running.anonymous().request(method.parse().unwrap(), path).body(body);
    request.header("authorization", format!("Bearer {}", made["apiKey"].as_str().unwrap())).send().await
}

/// Sends the same request from many clients at once. Returns the statuses.
async fn at_once<F: Future<Output = u16> + Send + 'static>(send: impl Fn(usize) -> F) -> Vec<u16> {
    let start = Arc::new(Barrier::new(PUSHERS));
    let pushers: Vec<_> = (0..PUSHERS)
        .map(|number| {
            let (start, sending) = (Arc::clone(&start), send(number));
            tokio::spawn(async move {
                start.wait().await;
                sending.await
            })
        })
        .collect();
    let mut statuses = Vec::new();
    for pusher in pushers {
        statuses.push(pusher.await.unwrap());
    }
    statuses
}

fn count(statuses: &[u16], wanted: u16) -> usize {
    statuses.iter().filter(|status| **status == wanted).count()
}

/// Pushes a blob in one request. Returns the status.
async fn push(caller: Caller, repository: String, seed: u64) -> u16 {
    let bytes = noise(1000, seed);
    let path = format!("/v2/{repository}/blobs/uploads/?digest={}", sha256(&bytes));
    caller.post(&path).body(bytes).send().await.status.as_u16()
}

#[tokio::test(flavor = "multi_thread")]
async fn quotas_are_exact_under_64_pushers_and_refuse_before_the_first_byte() {
    let (_root, running) = start("[[storage.quotas]]\nnamespaces = ['team']\nsize = 20500\ntags = 5\n");
    let admin = signed_in(&running).await;
    let statuses = at_once(|number| {
        let repository = if number % 2 == 0 { "team/a" } else { "team/b" };
        push(admin.clone(), repository.to_owned(), 1000 + number as u64)
    })
    .await;
    assert_eq!((count(&statuses, 201), count(&statuses, 403)), (20, 44), "{statuses:?}");

    // A client that waits for the permission to send gets the refusal instead.
    let location = admin.post("/v2/team/a/blobs/uploads/").send().await.status(202).location();
    let (_body, request) = admin.patch(&location).header("content-length", "100000").piecewise();
    let refused = request.send().await.error(403, "DENIED").json();
    assert_eq!(
        refused["errors"][0]["detail"],
        json!({ "quota": "storage.quotas[0]", "used": 20_000, "limit": 20_500 })
    );
    let message = refused["errors"][0]["message"].as_str().unwrap();
    assert!(message.starts_with("the namespace team uses 19.5 KiB of 20 KiB"), "{message}");

    let config = push_blob(&admin, "team/a", b"{}").await;
    let manifest = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "layers": [],
        "config": { "mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": 2 },
    });
    let statuses = at_once(|number| {
        let (admin, manifest) = (admin.clone(), manifest.clone());
        async move { put_manifest(&admin, "team/a", &format!("t{number}"), &manifest).await.status.as_u16() }
    })
    .await;
    assert_eq!((count(&statuses, 201), count(&statuses, 403)), (5, 59), "{statuses:?}");

    let shown = quays(&running, &admin, "GET", "/api/v1/repository/team/a", String::new()).await.status(200).json();
    assert_eq!(shown["quota_report"]["configured_quota"], 20_500, "{shown}");
    let mut client = Client::of(running.anonymous());
    client.sign_in(ADMIN).await;
    let page = client.get("/ui/r/team/a").await.status(200).text();
    assert!(page.contains("Quota of the namespace") && page.contains("5 tags of 5 tags"), "{page}");
    let metrics = admin.get("/metrics").send().await.status(200).text();
    assert!(metrics.contains("coracle_quota_refused_total{limit=\"tags\"} 59"), "{metrics}");
    assert!(metrics.contains("coracle_quota_repositories 2"), "{metrics}");

    // Deleting works, and makes room. Other namespaces have no quota.
    let list = admin.get("/v2/team/a/tags/list").send().await.status(200).json();
    let tag = list["tags"][0].as_str().unwrap();
    admin.delete(&format!("/v2/team/a/manifests/{tag}")).send().await.status(202);
    put_manifest(&admin, "team/a", "again", &manifest).await.status(201);
    push_image(&admin, "other/a", "1", 7).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn there_are_no_more_repositories_than_permitted() {
    let (_root, running) = start("storage.maxRepos = 10");
    let admin = signed_in(&running).await;
    let statuses = at_once(|number| push(admin.clone(), format!("r{number}/a"), number as u64)).await;
    assert_eq!((count(&statuses, 201), count(&statuses, 429)), (10, 54), "{statuses:?}");
    let refused = admin.post("/v2/one/more/blobs/uploads/").send().await.error(429, "TOOMANYREQUESTS").json();
    assert_eq!(refused["errors"][0]["detail"]["limit"], 10);
    let body = json!({ "repository": "more", "visibility": "private", "description": "", "namespace": "one" });
    quays(&running, &admin, "POST", "/api/v1/repository", body.to_string()).await.status(429);
    // Existing repositories are not limited.
    let there = statuses.iter().position(|status| *status == 201).unwrap();
    assert_eq!(push(admin.clone(), format!("r{there}/a"), 77).await, 201);
    push_image(&admin, &format!("r{there}/a"), "1", 78).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_without_a_mandatory_annotation_is_refused_with_its_name() {
    let (_root, running) = start("[extensions.lint]\nenable = true\nmandatoryAnnotations = ['vendor', 'source']\n");
    let admin = running.user(ADMIN);
    let config = br#"{"config":{"Labels":{"vendor":"x"}}}"#;
    push_blob(&admin, "app", config).await;
    let mut manifest = image(config, &[]);
    let refused = put_manifest(&admin, "app", "1", &manifest).await.error(400, "MANIFEST_INVALID").json();
    assert_eq!(refused["errors"][0]["detail"]["missingAnnotations"], json!(["source"]));
    manifest["annotations"] = json!({ "source": "here" });
    put_manifest(&admin, "app", "1", &manifest).await.status(201);
}

/// Pushes a blob in three ways. Returns the statuses.
async fn push_thrice(caller: &Caller, repository: &str, bytes: &bytes::Bytes) -> [u16; 3] {
    let uploads = format!("/v2/{repository}/blobs/uploads/");
    let digest = sha256(bytes);
    let whole = caller.post(&format!("{uploads}?digest={digest}")).body(bytes.clone()).send().await.status;
    let at = caller.post(&uploads).send().await.status(202).location();
    let put = caller.put(&format!("{at}?digest={digest}")).body(bytes.clone()).send().await.status;
    let at = caller.post(&uploads).send().await.status(202).location();
    let sent = caller.patch(&at).body(bytes.clone()).send().await;
    let patched = if sent.status == 202 {
        caller.put(&format!("{}?digest={digest}", sent.location())).send().await.status
    } else {
        sent.status
    };
    [whole, put, patched].map(|status| status.as_u16())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_that_adds_nothing_works_although_the_quota_is_used() {
    let quotas = "[[storage.quotas]]\nrepositories = ['ci/**']\nsize = '100KiB'\n\
                  [[storage.quotas]]\nnamespaces = ['team']\nsize = '100KiB'\n";
    let (_root, running) = start(quotas);
    let admin = signed_in(&running).await;
    let (there, new) = (noise(60 * 1024, 1), noise(60 * 1024, 2));
    for (first, second) in [("ci/a", "ci/a"), ("team/a", "team/a"), ("team/a", "team/b")] {
        assert_eq!(push_thrice(&admin, first, &there).await, [201; 3], "{first}");
        assert_eq!(push_thrice(&admin, second, &there).await, [201; 3], "{second}");
        assert_eq!(push_thrice(&admin, second, &new).await, [403; 3], "{second}");
    }
    // Bytes without a digest are bounded by what is there.
    let at = admin.post("/v2/ci/a/blobs/uploads/").send().await.status(202).location();
    admin.patch(&at).body(noise(61 * 1024, 3)).send().await.error(403, "DENIED");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_signature_survives_garbage_collection_and_the_removal_of_others_is_in_the_audit() {
    let (root, running) = start("[storage]\ntagHistory = '0s'\n");
    let admin = signed_in(&running).await;
    let mut signatures = Vec::new();
    for (seed, locked) in [(1, true), (2, false)] {
        let subject = sha256(&bytes(&push_image(&admin, "admin/app", &seed.to_string(), seed).await));
        let tag = format!("{}.sig", subject.replace(':', "-"));
        push_image(&admin, "admin/app", &tag, 10 + seed).await;
        if locked {
            let path = format!("/api/v1/repository/admin/app/tag/{tag}");
            quays(&running, &admin, "PUT", &path, json!({ "immutable": true }).to_string()).await.status(201);
        }
        admin.delete(&format!("/v2/admin/app/manifests/{subject}")).send().await.status(202);
        signatures.push(tag);
    }
    let collect = Program::new(["gc", "--delay", "0s", "--root"]).arg(root.path()).run();
    assert_eq!(collect.code, Some(0), "{collect:?}");
    let list = admin.get("/v2/admin/app/tags/list").send().await.status(200).json();
    assert_eq!(list["tags"], json!([signatures[0]]), "{collect:?}");
    let path = "/api/v1/superuser/logs";
    let logs = quays(&running, &admin, "GET", path, String::new()).await.status(200).json();
    let removed =
        |entry: &serde_json::Value| entry["kind"] == "delete_tag" && entry["metadata"]["tag"] == json!(signatures[1]);
    assert!(logs["logs"].as_array().unwrap().iter().any(removed), "{logs}");
}
