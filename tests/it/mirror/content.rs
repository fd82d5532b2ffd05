//! Content that stays as it is at the upstream, and an upstream that is gone.

use std::path::Path;
use std::time::Instant;

use serde_json::{Value, json};

use super::between::{Between, Mode};
use super::{AT_ONCE, Setting, is_stale, pull};
use crate::support::TestRegistry;
use crate::support::content::{self, push_blob, push_image, put_manifest, sha256};
use crate::support::process::Program;

/// The blobs in a data directory.
fn blobs(root: &Path) -> usize {
    std::fs::read_dir(root.join("blobs").join("sha256")).unwrap().count()
}

#[tokio::test]
async fn one_of_ten_platforms_is_stored_and_all_can_be_pulled() {
    let t = Setting::new("1h").await;
    let mut images = Vec::new();
    for seed in 0..10 {
        images.push(push_image(&t.pusher(), "app", &format!("platform-{seed}"), seed * 10).await);
    }
    let index = content::index(&images.iter().collect::<Vec<_>>());
    put_manifest(&t.pusher(), "app", "1", &index).await.status(201);
    let digests: Vec<String> = images.iter().map(|image| sha256(&content::bytes(image))).collect();
    let answer = t.puller().get("/v2/up/app/manifests/1").send().await.status(200);
    assert_eq!(answer.body, content::bytes(&index));
    assert_eq!(answer.header("docker-content-digest"), Some(sha256(&content::bytes(&index)).as_str()));
    pull(&t.puller(), "up/app", &digests[3], &images[3]).await;
    assert_eq!(blobs(&t.mirror.registry.data_dir()), 2, "the config and the layer of one platform");
    assert_eq!(t.between.count("GET", "/manifests/"), 2);
    for (digest, image) in digests.iter().zip(&images) {
        pull(&t.puller(), "up/app", digest, image).await;
    }
    assert_eq!(blobs(&t.mirror.registry.data_dir()), 20);
}

#[tokio::test]
async fn a_docker_image_stays_byte_for_byte() {
    const DOCKER: &str = "application/vnd.docker.distribution.manifest.v2+json";
    let t = Setting::new("1h").await;
    let mut image: Value = content::image(b"{}", &[b"layer"]);
    image["mediaType"] = json!(DOCKER);
    image["config"]["mediaType"] = json!("application/vnd.docker.container.image.v1+json");
    image["layers"][0]["mediaType"] = json!("application/vnd.docker.image.rootfs.diff.tar.gzip");
    push_blob(&t.pusher(), "app", b"{}").await;
    push_blob(&t.pusher(), "app", b"layer").await;
    // Docker indents its manifests.
    let bytes = serde_json::to_vec_pretty(&image).unwrap();
    let pushed = t.pusher().put("/v2/app/manifests/1").header("content-type", DOCKER).body(bytes.clone());
    pushed.send().await.status(201);
    for _ in 0..2 {
        let answer = t.puller().get("/v2/up/app/manifests/1").send().await.status(200);
        assert_eq!((answer.header("content-type"), &answer.body[..]), (Some(DOCKER), &bytes[..]));
        assert_eq!(answer.header("docker-content-digest"), Some(sha256(&bytes).as_str()));
        t.between.set(Mode::Status(500));
    }
}

#[tokio::test]
async fn all_stored_tags_can_be_pulled_after_a_restart_without_the_upstream() {
    let upstream = TestRegistry::open().await;
    let between = Between::before(upstream.running.address()).await;
    let data = tempfile::tempdir().unwrap();
    let config = format!(
        "http.open = true\n[[extensions.sync.registries]]\nurls = ['http://{}']\nonDemand = true\nmanifestCheckInterval = \
         '0s'\ncontent = [{{ prefix = '**', destination = '/up' }}]\n",
        between.address
    );
    let mut images = Vec::new();
    for number in 0..10 {
        let (repository, tag) = (format!("app-{}", number % 3), number.to_string());
        images.push((
            format!("up/{repository}"),
            tag.clone(),
            push_image(&upstream.anonymous(), &repository, &tag, number * 10).await,
        ));
    }
    let running = Program::serve_with(data.path(), &config).start();
    for (repository, tag, image) in &images {
        pull(&running.anonymous(), repository, tag, image).await;
    }
    running.stop();
    for mode in [Mode::Hang, Mode::Status(503)] {
        between.set(mode.clone());
        let running = Program::serve_with(data.path(), &config).start();
        let requests = between.total();
        let mut times = Vec::new();
        for (repository, tag, image) in &images {
            let began = Instant::now();
            let manifest = pull(&running.anonymous(), repository, tag, image).await;
            assert!(is_stale(&manifest), "{mode:?}: {tag}");
            assert!(began.elapsed() < AT_ONCE, "{mode:?}: {tag} took {:?}", began.elapsed());
            times.push(began.elapsed().as_millis());
        }
        // A comparison waits for 0.8 s, and the others do not wait while the upstream is left alone.
        assert!(between.total() - requests < images.len(), "each tag waits for the upstream");
        println!("{mode:?}: the pulls took {times:?} ms");
        running.stop();
    }
}

#[tokio::test]
async fn a_pushed_tag_stays_until_it_is_deleted_and_a_deleted_tag_comes_again() {
    let t = Setting::new("0s").await;
    let theirs = push_image(&t.pusher(), "app", "1", 1).await;
    let (tag, delete) = ("/v2/up/app/manifests/1", async || {
        t.puller().delete("/v2/up/app/manifests/1").send().await.status(202);
    });
    pull(&t.puller(), "up/app", "1", &theirs).await;
    delete().await;
    assert_eq!(t.puller().get(tag).send().await.status(200).body, content::bytes(&theirs));
    let own = push_image(&t.puller(), "up/app", "1", 10).await;
    let requests = t.between.total();
    pull(&t.puller(), "up/app", "1", &own).await;
    assert_eq!(t.between.total(), requests, "a pushed tag is not compared");
    delete().await;
    pull(&t.puller(), "up/app", "1", &theirs).await;
    pull(&t.pusher(), "app", "1", &theirs).await;
}
