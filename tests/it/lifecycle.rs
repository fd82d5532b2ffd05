//! Stopping and starting: running requests may finish, stuck requests are cut, and confirmed changes stay.

use std::os::unix::fs::OpenOptionsExt as _;
use std::time::Duration;

use rustix::process::Signal;
use tokio::net::TcpStream;

use crate::support::connection::Raw;
use crate::support::content::{bytes, noise, push_image, sha256};
use crate::support::process::{ADMIN, Program, Running};

/// Sends half of an upload, and waits until the registry has received it.
async fn half_an_upload(running: &Running, content: &[u8]) -> Raw {
    let uploads = "/v2/slow/blobs/uploads/";
    let location = running.anonymous().post(uploads).send().await.status(202).location();
    let mut upload = Raw::connect(running.address()).await;
    let digest = sha256(content);
    let length = content.len();
    upload
        .send(format!("PUT {location}?digest={digest} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n\r\n"))
        .await;
    upload.send(&content[..length / 2]).await;
    let reached = format!("0-{}", length / 2 - 1);
    // Only the status of the upload shows that the bytes have arrived.
    for _ in 0..1000 {
        let status = running.anonymous().get(&location).send().await.status(204);
        if status.header("range") == Some(&*reached) {
            return upload;
        }
        tokio::task::yield_now().await;
    }
    panic!("the first half does not arrive");
}

/// Returns when the registry accepts no more connections.
async fn refused(running: &Running) {
    for _ in 0..3000 {
        if TcpStream::connect(running.address()).await.is_err() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("connections are still accepted");
}

#[tokio::test]
async fn sigterm_lets_a_running_upload_finish() {
    let root = tempfile::tempdir().unwrap();
    let content = noise(200_000, 1);
    let running = Program::serve(root.path()).arg("--open").start();
    let mut upload = half_an_upload(&running, &content).await;
    running.signal(Signal::TERM);
    refused(&running).await;
    upload.send(&content[100_000..]).await;
    assert_eq!(upload.answer().await.status, 201);
    let finished = running.finish();
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);

    let again = Program::serve(root.path()).arg("--open").start();
    let blob = again.anonymous().get(&format!("/v2/slow/blobs/{}", sha256(&content))).send().await.status(200);
    assert_eq!(blob.body, content);
}

#[tokio::test]
async fn a_request_that_never_ends_is_cut_when_the_time_is_over() {
    let root = tempfile::tempdir().unwrap();
    let config = "[http]\nopen = true\nlimits.shutdownTimeout = '200ms'\n";
    let running = Program::serve_with(root.path(), config).start();
    let content = noise(1000, 2);
    let mut upload = half_an_upload(&running, &content).await;
    running.signal(Signal::TERM);
    let finished = running.finish();
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    assert!(finished.stderr.contains("requests were still running"), "{}", finished.stderr);
    assert!(upload.try_answer().await.is_none_or(|answer| answer.status >= 400), "nothing was finished");
    // The bytes that had arrived are kept.
    let files = std::fs::read_dir(root.path().join("uploads")).unwrap();
    let sizes: Vec<u64> = files.map(|file| file.unwrap().metadata().unwrap().len()).collect();
    assert_eq!(sizes, [500]);
}

#[tokio::test]
async fn a_second_signal_stops_the_registry_at_once() {
    let root = tempfile::tempdir().unwrap();
    let config = "[http]\nopen = true\nlimits.shutdownTimeout = '1h'\n";
    let running = Program::serve_with(root.path(), config).start();
    let _upload = half_an_upload(&running, &noise(1000, 3)).await;
    running.signal(Signal::INT);
    refused(&running).await;
    running.signal(Signal::INT);
    let finished = running.finish();
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
}

/// As on a network file system whose server is away.
#[tokio::test]
async fn a_file_whose_read_hangs_does_not_keep_the_process() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("users");
    std::fs::write(&file, format!("ann:{}\n", bcrypt::hash("x", 4).unwrap())).unwrap();
    let config = format!("[http.auth.htpasswd]\npath = {file:?}\n");
    let running = Program::serve_with(&root.path().join("data"), &config).start();
    std::fs::remove_file(&file).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, &file, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    // It can be opened for writing when the registry reads it, and then the read waits for bytes.
    let write_at_once = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap();
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    let _writer = loop {
        match std::fs::File::options().write(true).custom_flags(write_at_once).open(&file) {
            Ok(file) => break file,
            Err(error) => assert!(std::time::Instant::now() < deadline, "the registry does not read it: {error}"),
        }
        tokio::task::yield_now().await;
    };
    running.signal(Signal::TERM);
    refused(&running).await;
    running.signal(Signal::TERM);
    let finished = running.finish();
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
}

#[tokio::test]
async fn an_idle_connection_does_not_delay_the_end() {
    let root = tempfile::tempdir().unwrap();
    // The timeout is longer than any test waits.
    let config = "[http]\nopen = true\nlimits.shutdownTimeout = '1h'\nlimits.idleTimeout = '1h'\n";
    let running = Program::serve_with(root.path(), config).start();
    let mut used = Raw::connect(running.address()).await;
    used.send("GET /v2/ HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    assert_eq!(used.answer().await.status, 200);
    let mut silent = Raw::connect(running.address()).await;
    running.anonymous().get("/v2/").send().await.status(200);
    assert_eq!(running.stop().code, Some(0));
    assert_eq!((used.drain().await, silent.drain().await), (0, 0));
}

#[test]
fn a_signal_works_as_soon_as_the_first_line_is_written() {
    for signal in [Signal::TERM, Signal::INT, Signal::TERM, Signal::INT] {
        let root = tempfile::tempdir().unwrap();
        let running = Program::serve(root.path()).arg("--open").start();
        running.signal(signal);
        assert_eq!(running.finish().code, Some(0), "{signal:?}");
    }
}

#[tokio::test]
async fn pushed_content_survives_a_restart() {
    let root = tempfile::tempdir().unwrap();
    let running = Program::serve(root.path()).with_admin().start();
    let manifest = push_image(&running.user(ADMIN), "admin/a", "1", 4).await;
    assert_eq!(running.stop().code, Some(0));
    let again = Program::serve(root.path()).start();
    let admin = again.user(ADMIN);
    assert_eq!(admin.get("/v2/admin/a/manifests/1").send().await.status(200).body, bytes(&manifest));
    let layer = manifest["layers"][0]["digest"].as_str().unwrap();
    let blob = admin.get(&format!("/v2/admin/a/blobs/{layer}")).send().await.status(200);
    assert_eq!(sha256(&blob.body), layer);
}

#[tokio::test]
async fn a_registry_whose_output_is_closed_still_serves() {
    // As in `coracle serve 2>&1 | head -1`, every further log line fails to be written.
    let root = tempfile::tempdir().unwrap();
    let running = Program::serve(root.path()).arg("--open").start_unheard();
    for seed in 0..3 {
        push_image(&running.anonymous(), "unheard", "1", seed).await;
    }
    running.anonymous().get("/v2/unheard/manifests/1").send().await.status(200);
    assert_eq!(running.stop().code, Some(0));
}
