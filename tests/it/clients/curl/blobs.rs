//! Blobs by hand: chunks, broken and cancelled uploads, ranges, and other digests.

use std::fs;
use std::io::Write as _;
use std::process::Stdio;
use std::time::{Duration, Instant};

use super::Curl;
use crate::clients::content;
use crate::clients::home::{Home, needs};
use crate::clients::image::digest;
use crate::clients::target::{guarded, open, targets};
use crate::support::content::sha512;

#[test]
fn a_blob_arrives_in_chunks_by_hand() {
    needs!(CURL);
    for target in targets() {
        let home = Home::beside(&target);
        let curl = Curl::of(&home, &target);
        let blob = content::noise(3_000_000);
        let mut location = curl.start("curl/chunks");
        for (from, to) in [(0, 1_000_000), (1_000_000, 2_500_000)] {
            let range = format!("Content-Range: {from}-{}", to - 1);
            let chunk = &blob[from..to];
            let answer =
                curl.send_file("PATCH", &location, "application/octet-stream", chunk, &["--header", &range]).is(202);
            assert_eq!(answer.header("Range"), Some(&*format!("0-{}", to - 1)));
            answer.header("Location").expect("a chunk's answer says where it goes on").clone_into(&mut location);
            let status = curl.get(&location).is(204);
            assert_eq!(status.header("Range"), Some(&*format!("0-{}", to - 1)));
        }
        let range = ["--header", "Content-Range: 9-12"];
        let answer = curl.send_file("PATCH", &location, "application/octet-stream", b"oops", &range).is(416);
        assert_eq!(answer.header("Range"), Some("0-2499999"), "a chunk out of order changes nothing");
        let digest = digest(&blob);
        let answer =
            curl.end(&location, &digest, &blob[2_500_000..], &["--header", "Content-Range: 2500000-2999999"]).is(201);
        assert_eq!(answer.header("Docker-Content-Digest"), Some(&*digest));
        let location = answer.header("Location").expect("a new blob has a Location").to_owned();
        assert!(curl.get(&location).is(200).body == blob, "the blob came back differently");
    }
}

#[test]
fn an_upload_with_the_wrong_digest_or_given_up_leaves_nothing() {
    needs!(CURL);
    let target = open();
    let home = Home::beside(&target);
    let curl = Curl::of(&home, &target);
    let promised = digest(b"something else");
    let answer = curl.end(&curl.start("curl/wrong"), &promised, b"something", &[]).is(400);
    assert_eq!(answer.code(), "DIGEST_INVALID");
    for digest in [promised, digest(b"something")] {
        curl.get(&format!("/v2/curl/wrong/blobs/{digest}")).is(404);
    }
    let given_up = curl.start("curl/wrong");
    curl.delete(&given_up).is(204);
    assert_eq!(curl.get(&given_up).is(404).code(), "BLOB_UPLOAD_UNKNOWN");
}

#[test]
fn an_upload_broken_off_in_the_middle_goes_on_where_it_stopped() {
    needs!(CURL);
    let target = guarded();
    let home = Home::beside(&target);
    let curl = Curl::of(&home, &target);
    let blob = content::noise(8 << 20);
    let location = curl.start("curl/broken");
    // curl is killed when it has half of the blob and waits for more.
    let url = curl.url(&location);
    let mut sender = home
        .command("curl")
        .args(curl.arguments(&url))
        .args(["--request", "PATCH", "--header", "Content-Type: application/octet-stream", "--upload-file", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut pipe = sender.stdin.take().unwrap();
    pipe.write_all(&blob[..blob.len() / 2]).unwrap();
    sender.kill().unwrap();
    sender.wait().unwrap();
    drop(pipe);

    // The registry may still be reading the bytes that curl sent. The client asks for the offset, and asks again if it was
    // too early.
    let until = Instant::now() + Duration::from_secs(30);
    loop {
        let status = curl.get(&location).is(204);
        let range = status.header("Range").unwrap_or("0-0");
        let kept = range.strip_prefix("0-").unwrap().parse::<usize>().unwrap() + 1;
        if kept > 1 {
            assert!(kept <= blob.len() / 2, "{kept} bytes were kept");
            let location = status.header("Location").unwrap_or(&location);
            let range = format!("Content-Range: {kept}-{}", blob.len() - 1);
            let answer = curl.end(location, &digest(&blob), &blob[kept..], &["--header", &range]);
            if answer.status == 201 {
                break;
            }
            answer.is(416);
        }
        assert!(Instant::now() < until, "the registry has kept {range} of the half");
    }
    let got = curl.get(&format!("/v2/curl/broken/blobs/{}", digest(&blob))).is(200).body;
    assert!(got == blob, "the blob of two halves came back differently");
}

#[test]
fn a_download_in_ranges_and_one_continued_give_the_same_bytes() {
    needs!(CURL);
    for target in targets() {
        let home = Home::beside(&target);
        let curl = Curl::of(&home, &target);
        let blob = content::noise(1_000_000);
        let path = format!("/v2/curl/ranges/blobs/{}", curl.push_blob("curl/ranges", &blob).digest);
        assert_eq!(curl.head(&path).is(200).header("Content-Length"), Some("1000000"));
        for (range, from, to) in
            [("0-0", 0, 1), ("10-99", 10, 100), ("999990-", 999_990, 1_000_000), ("-7", 999_993, 1_000_000)]
        {
            let answer = curl.send(&path, &["--range", range]).is(206);
            assert_eq!(answer.header("Content-Range"), Some(&*format!("bytes {from}-{}/1000000", to - 1)));
            assert_eq!(answer.body, blob[from..to], "{range}");
        }
        let answer = curl.send(&path, &["--range", "1000000-"]).is(416);
        assert_eq!(answer.header("Content-Range"), Some("bytes */1000000"));

        // curl has the first 400,000 bytes already and requests the rest.
        let file = home.write("half", &blob[..400_000]);
        let url = curl.url(&path);
        let mut arguments = curl.arguments(&url);
        arguments.extend(["--fail", "--continue-at", "-", "--output", file.to_str().unwrap()]);
        home.run("curl", &arguments);
        assert!(fs::read(file).unwrap() == blob, "the continued download differs");
    }
}

#[test]
fn a_blob_may_have_a_sha512_digest() {
    needs!(CURL);
    let target = guarded();
    let home = Home::beside(&target);
    let curl = Curl::of(&home, &target);
    let blob = content::noise(100_000);
    let digest = sha512(&blob);
    let answer = curl.end(&curl.start("curl/sha512"), &digest, &blob, &[]).is(201);
    assert_eq!(answer.header("Docker-Content-Digest"), Some(&*digest));
    assert!(curl.get(&format!("/v2/curl/sha512/blobs/{digest}")).is(200).body == blob);
}
