//! Content is fetched once, and comes from the mirror afterwards.

use std::time::{Duration, Instant};

use super::between::Mode;
use super::{PATIENCE, Setting, is_stale, pull};
use crate::support::connection::Raw;
use crate::support::content::{self, noise, push_blob, push_image, put_manifest, sha256};

#[tokio::test]
async fn an_image_is_fetched_once_and_survives_its_upstream() {
    let t = Setting::new("1h").await;
    let image = push_image(&t.pusher(), "team/app", "1", 1).await;
    pull(&t.puller(), "up/team/app", "1", &image).await;
    assert_eq!(t.between.count("GET", "/manifests/"), 1);
    assert_eq!(t.between.count("GET", "/blobs/"), 2);
    let requests = t.between.total();
    pull(&t.puller(), "up/team/app", "1", &image).await;
    let digest = sha256(&content::bytes(&image));
    pull(&t.puller(), "up/team/app", &digest, &image).await;
    assert_eq!(t.between.total(), requests, "neither a tag within the interval nor a digest asks the upstream");
    t.puller().get("/v2/up/team/app/manifests/other").send().await.error(404, "MANIFEST_UNKNOWN");
    t.puller().get("/v2/elsewhere/manifests/1").send().await.error(404, "NAME_UNKNOWN");
}

#[tokio::test]
async fn a_tag_is_compared_with_one_head_request() {
    let t = Setting::new("0s").await;
    let first = push_image(&t.pusher(), "app", "1", 1).await;
    pull(&t.puller(), "up/app", "1", &first).await;
    let path = "/v2/up/app/manifests/1";
    assert_eq!(t.compared(path).await.1, [1, 0]);
    let second = push_image(&t.pusher(), "app", "1", 2).await;
    let (moved, requests) = t.compared(path).await;
    assert_eq!((&moved.body[..], requests), (&content::bytes(&second)[..], [1, 1]));
    pull(&t.puller(), "up/app", "1", &second).await;
}

#[tokio::test]
async fn many_clients_cause_one_download_and_the_first_may_leave() {
    let t = Setting::new("1h").await;
    let layer = noise(3_000_000, 7);
    push_blob(&t.pusher(), "app", b"{}").await;
    push_blob(&t.pusher(), "app", &layer).await;
    put_manifest(&t.pusher(), "app", "1", &content::image(b"{}", &[&layer])).await.status(201);
    let path = format!("/v2/up/app/blobs/{}", sha256(&layer));
    t.between.set(Mode::Half);
    let first = tokio::spawn(t.puller().get(&path).try_send());
    while t.between.count("GET", "/blobs/") == 0 {
        tokio::task::yield_now().await;
    }
    let others: Vec<_> = (0..16).map(|_| tokio::spawn(t.puller().get(&path).send())).collect();
    first.abort();
    let _ = first.await;
    t.between.set(Mode::Forward);
    for other in others {
        assert_eq!(other.await.unwrap().status(200).body, layer);
    }
    assert_eq!(t.between.count("GET", "/blobs/"), 1);
    assert_eq!(t.mirror.unfinished_uploads(), 0);
}

#[tokio::test]
async fn a_client_that_leaves_during_a_download_leaves_no_task() {
    const CLIENTS: usize = 20;
    let t = Setting::new("1h").await;
    let layer = noise(100_000, 8);
    push_blob(&t.pusher(), "app", b"{}").await;
    push_blob(&t.pusher(), "app", &layer).await;
    put_manifest(&t.pusher(), "app", "1", &content::image(b"{}", &[&layer])).await.status(201);
    let head = format!("GET /v2/up/app/blobs/{} HTTP/1.1\r\nhost: localhost\r\n\r\n", sha256(&layer));
    t.between.set(Mode::Half);
    let connect = async || {
        let mut client = Raw::connect(t.mirror.running.address()).await;
        client.send(&head).await;
        assert_eq!(client.head().await.status, 200);
        client
    };
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    // The download needs tasks itself.
    let _first = connect().await;
    let before = tasks();
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        clients.push(connect().await);
    }
    assert!(tasks() >= before + CLIENTS);
    drop(clients);
    let begun = Instant::now();
    while tasks() >= before + CLIENTS / 2 {
        assert!(begun.elapsed() < PATIENCE, "{before} tasks became {}", tasks());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    t.between.set(Mode::Forward);
}

#[tokio::test]
async fn signatures_come_with_the_image() {
    let t = Setting::new("1h").await;
    let image = push_image(&t.pusher(), "app", "1", 4).await;
    let subject = sha256(&content::bytes(&image));
    let mut signature = content::image(b"{}", &[]);
    push_blob(&t.pusher(), "app", b"{}").await;
    signature["artifactType"] = "application/vnd.example.signature".into();
    signature["subject"] = content::descriptor("application/vnd.oci.image.manifest.v1+json", &content::bytes(&image));
    let digest = sha256(&content::bytes(&signature));
    put_manifest(&t.pusher(), "app", &digest, &signature).await.status(201);
    pull(&t.puller(), "up/app", "1", &image).await;
    let (listed, _) = t.compared(&format!("/v2/up/app/referrers/{subject}")).await;
    assert_eq!(listed.json()["manifests"][0]["digest"], digest.as_str());
    let requests = t.between.total();
    t.between.set(Mode::Hang);
    let stored = t.puller().get(&format!("/v2/up/app/manifests/{digest}")).send().await.status(200);
    assert_eq!(stored.body, content::bytes(&signature));
    assert_eq!(t.between.total(), requests, "the signature was stored with the list");
}

#[tokio::test]
async fn referrers_that_do_not_arrive_are_missing_with_a_warning_and_come_soon() {
    // The list fails, or a manifest of it.
    for (seed, fault) in [(1, Mode::Status(500)), (2, Mode::Oversized)] {
        let t = Setting::new("1h").await;
        let image = push_image(&t.pusher(), "app", "1", seed).await;
        let mut sbom = content::image(b"{}", &[]);
        push_blob(&t.pusher(), "app", b"{}").await;
        sbom["artifactType"] = "application/vnd.example.sbom".into();
        sbom["subject"] = content::descriptor(content::MANIFEST, &content::bytes(&image));
        let digest = sha256(&content::bytes(&sbom));
        put_manifest(&t.pusher(), "app", &digest, &sbom).await.status(201);
        pull(&t.puller(), "up/app", "1", &image).await;
        let path = format!("/v2/up/app/referrers/{}", sha256(&content::bytes(&image)));
        t.between.set(fault.clone());
        for _ in 0..2 {
            let listed = t.puller().get(&path).send().await.status(200);
            assert!(is_stale(&listed), "{fault:?}");
            assert_eq!(listed.json()["manifests"], serde_json::json!([]), "{fault:?}");
        }
        let metrics = t.puller().get("/metrics").send().await.status(200).text();
        let line = format!("coracle_mirror_stale_total{{upstream=\"{}\"}} 2\n", t.between.address);
        assert!(metrics.contains(&line), "{fault:?}: {metrics}");
        t.between.set(Mode::Forward);
        // The interval is an hour, and a failure does not count.
        let (listed, _) = t.compared(&path).await;
        assert_eq!(listed.json()["manifests"][0]["digest"], digest.as_str(), "{fault:?}");
        let requests = t.between.total();
        t.between.set(Mode::Status(500));
        assert!(!is_stale(&t.puller().get(&path).send().await.status(200)));
        assert_eq!(t.between.total(), requests);
    }
}
