//! The most work and memory that one client can cause: other clients are still served.

use coracle::{AccessPolicy, Registry};
use serde_json::json;

use crate::support::TestRegistry;
use crate::support::connection::Raw;
use crate::support::content::{MANIFEST, image, index, push_blob, put_manifest};

const PROBE: &str = "GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n";

#[tokio::test]
async fn a_probe_is_answered_while_a_repository_with_large_images_is_described() {
    let t = TestRegistry::open().await;
    let client = t.anonymous();
    push_blob(&client, "a", b"{}").await;
    // The registry must read these fields to find the few that it needs.
    let annotations: serde_json::Map<_, _> = (0..4000).map(|n| (format!("a{n:04}"), json!("b"))).collect();
    let mut manifests = Vec::new();
    for n in 0..50 {
        let mut manifest = image(b"{}", &[]);
        manifest["annotations"] = annotations.clone().into();
        manifest["annotations"]["n"] = json!(n.to_string());
        put_manifest(&client, "a", &format!("image-{n}"), &manifest).await.status(201);
        manifests.push(manifest);
    }
    let mut list = index(&manifests.iter().collect::<Vec<_>>());
    for n in 0..4 {
        list["annotations"] = json!({ "n": n.to_string() });
        put_manifest(&client, "a", &format!("index-{n}"), &list).await.status(201);
    }
    for path in ["/api/v1/repository/a", "/api/v1/repository/a/tag/?limit=100"] {
        let (mut slow, mut probe) = (Raw::connect(t.running.address()).await, Raw::connect(t.running.address()).await);
        for connection in [&mut slow, &mut probe] {
            connection.send(PROBE).await;
            assert_eq!(connection.answer().await.status, 200);
        }
        slow.send(format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n")).await;
        tokio::task::yield_now().await;
        probe.send(PROBE).await;
        // The registry and this test share one thread, so work on that thread delays the probe.
        tokio::select! {
            biased;
            answer = slow.answer() => panic!("the probe waited until {path} was answered with {}", answer.status),
            answer = probe.answer() => assert_eq!(answer.status, 200),
        }
        assert_eq!(slow.answer().await.status, 200, "{path}");
    }
}

/// The size of manifests of which four take all memory for unsent responses.
const LARGE_BYTES: usize = 15 << 20;

#[tokio::test]
async fn responses_that_clients_do_not_read_take_limited_memory() {
    let config = coracle::config::Config::from_toml_str("http.limits.maxManifestSize = '16MiB'").unwrap().config;
    let t = TestRegistry::start(Registry::builder().config(config).policy(AccessPolicy::Open)).await;
    let client = t.anonymous();
    push_blob(&client, "a", b"{}").await;
    put_manifest(&client, "a", "small", &image(b"{}", &[])).await.status(201);
    for n in 0..5 {
        let mut manifest = image(b"{}", &[]);
        manifest["annotations"] = json!({ "n": n.to_string().repeat(LARGE_BYTES) });
        put_manifest(&client, "a", &format!("large-{n}"), &manifest).await.status(201);
    }
    let request = async |tag: &str| {
        let mut connection = Raw::connect_narrow(t.running.address()).await;
        connection.send(format!("GET /v2/a/manifests/{tag} HTTP/1.1\r\nhost: localhost\r\n\r\n")).await;
        connection
    };
    // All of these share one copy.
    let mut unread = Vec::new();
    for _ in 0..10 {
        let mut connection = request("large-0").await;
        assert_eq!(connection.head().await.status, 200);
        unread.push(connection);
    }
    for n in 1..4 {
        let mut connection = request(&format!("large-{n}")).await;
        assert_eq!(connection.head().await.status, 200);
        unread.push(connection);
    }
    let refused = request("large-4").await.answer().await;
    assert_eq!(refused.status, 503);
    assert!(refused.head.contains("retry-after: "), "{}", refused.head);
    client.get("/v2/a/manifests/small").send().await.status(200);
    client.get("/v2/a/manifests/large-0").send().await.status(200).has("content-type", MANIFEST);
    // A request that waits is served when another response has ended.
    let mut waiting = request("large-4").await;
    assert!(waiting.is_silent_for(std::time::Duration::from_millis(300)).await, "it is not waiting");
    drop(unread.pop());
    assert_eq!(waiting.head().await.status, 200);
}
