//! The most work and memory that one client can cause: other clients are still served.

use serde_json::json;

use crate::support::TestRegistry;
use crate::support::connection::Raw;
use crate::support::content::{image, index, push_blob, put_manifest};

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
