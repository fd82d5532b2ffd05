//! One function for each row, named as the row's `check`; each has a repository of the same name.

use bytes::Bytes;
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::support::content::{
    EMPTY, INDEX, MANIFEST, bytes, descriptor, image, push_blob, push_image, put_manifest, sha256, start_upload,
    until_received,
};
use crate::support::http::Caller;

checks! {
    async fn base_without_slash(caller, _repository) {
        let [with, without] = [caller.get("/v2/").send().await, caller.get("/v2").send().await];
        assert_eq!((without.status, without.body), (with.status, with.body));
    }

    async fn root_is_a_sign_of_life(caller, _repository) {
        let answer = Caller::new(caller.address(), None).get("/").send().await.status(200);
        assert!(answer.text().contains("/v2/"), "{}", answer.text());
    }

    async fn unauthorized_body_is_wrapped(caller, repository) {
        for stranger in [Caller::new(caller.address(), None), Caller::new(caller.address(), Some(("alice", "wrong")))] {
            let refused = stranger.get(&format!("/v2/{repository}/tags/list")).send().await.status(401);
            assert_eq!(refused.json()["errors"][0]["code"], "UNAUTHORIZED");
        }
    }

    async fn every_error_has_a_body(caller, repository) {
        let digest = push_blob(&caller, repository, b"content").await;
        for (path, range, status) in [
            ("blobs/sha256:x".to_owned(), "", 400),
            ("tags/list?n=x".to_owned(), "", 400),
            (format!("blobs/{digest}"), "bytes=99-", 416),
            ("referrers/x".to_owned(), "", 400),
        ] {
            let answer = caller.get(&format!("/v2/{repository}/{path}")).header("range", range);
            assert!(answer.send().await.status(status).json()["errors"][0]["code"].is_string());
        }
    }

    async fn percent_encoded_digest(caller, repository) {
        let manifest = push_image(&caller, repository, "1", 1).await;
        let [manifest, blob] = [sha256(&bytes(&manifest)), manifest["layers"][0]["digest"].as_str().unwrap().to_owned()];
        for path in [format!("manifests/{manifest}"), format!("blobs/{blob}"), format!("referrers/{manifest}")] {
            let path = format!("/v2/{repository}/{}", path.replace(':', "%3A"));
            caller.get(&path).send().await.status(200);
        }
    }

    async fn head_blob_has_no_side_effect(caller, repository) {
        let digest = push_blob(&caller, &format!("{repository}/source"), b"elsewhere only").await;
        let path = format!("/v2/{repository}/other/blobs/{digest}");
        for _ in 0..2 {
            caller.head(&path).send().await.status(404);
            caller.get(&path).send().await.error(404, "BLOB_UNKNOWN");
        }
        caller.get(&format!("/v2/{repository}/other/tags/list")).send().await.error(404, "NAME_UNKNOWN");
    }

    async fn blob_conditions(caller, repository) {
        let digest = push_blob(&caller, repository, b"content").await;
        let path = format!("/v2/{repository}/blobs/{digest}");
        let whole = caller.get(&path).send().await.status(200).has("accept-ranges", "bytes");
        let etag = whole.has("cache-control", "private, max-age=31536000, immutable").header("etag").unwrap().to_owned();
        caller.get(&path).header("if-none-match", &etag).send().await.status(304);
        caller.get(&path).header("range", "bytes=0-1").header("if-range", "\"x\"").send().await.status(200);
        caller.get(&path).header("range", "bytes=0-1").header("if-range", &etag).send().await.status(206);
    }

    async fn blob_content_type(caller, repository) {
        let manifest = push_image(&caller, repository, "1", 2).await;
        let path = format!("/v2/{repository}/blobs/{}", manifest["config"]["digest"].as_str().unwrap());
        caller.head(&path).send().await.status(200).has("content-type", "application/octet-stream");
        caller.get(&path).send().await.status(200).has("content-type", "application/octet-stream");
    }

    async fn delete_blob_invalid_digest(caller, repository) {
        caller.delete(&format!("/v2/{repository}/blobs/sha256:x")).send().await.error(400, "DIGEST_INVALID");
    }

    async fn monolithic_post_any_content_type(caller, repository) {
        let path = format!("/v2/{repository}/blobs/uploads/?digest={}", sha256(b"x"));
        caller.post(&path).body("x").send().await.status(201);
        caller.post(&path).header("content-type", "text/plain").body("x").send().await.status(201);
    }

    async fn monolithic_post_chunked(caller, repository) {
        let path = format!("/v2/{repository}/blobs/uploads/?digest={}", sha256(b"xy"));
        caller.post(&path).chunked(vec![Bytes::from("x"), Bytes::from("y")]).send().await.status(201);
    }

    async fn monolithic_post_names_digest(caller, repository) {
        let digest = sha256(b"x");
        let path = format!("/v2/{repository}/blobs/uploads/?digest={digest}");
        caller.post(&path).body("x").send().await.status(201).has("docker-content-digest", &digest);
    }

    async fn mount_names_digest(caller, repository) {
        let digest = push_blob(&caller, &format!("{repository}/source"), b"content").await;
        let path = format!("/v2/{repository}/target/blobs/uploads/?mount={digest}&from={repository}/source");
        caller.post(&path).send().await.status(201).has("docker-content-digest", &digest);
    }

    async fn mount_of_invalid_digest(caller, repository) {
        let path = format!("/v2/{repository}/blobs/uploads/?mount=sha256:x&from=a");
        caller.post(&path).send().await.error(400, "DIGEST_INVALID");
    }

    async fn from_without_mount(caller, repository) {
        let begun = caller.post(&format!("/v2/{repository}/blobs/uploads/?from=a")).send().await.status(202);
        caller.delete(&begun.location()).send().await.status(204);
    }

    async fn streamed_patch_range_is_cumulative(caller, repository) {
        let location = start_upload(&caller, repository).await;
        caller.patch(&location).body("012").send().await.status(202).has("range", "0-2");
        caller.patch(&location).body("345").send().await.status(202).has("range", "0-5");
    }

    async fn empty_patch_range(caller, repository) {
        let location = start_upload(&caller, repository).await;
        caller.patch(&location).send().await.status(202).has("range", "0-0");
    }

    async fn malformed_content_range(caller, repository) {
        let location = start_upload(&caller, repository).await;
        for (range, code) in [("x", "BLOB_UPLOAD_INVALID"), ("2-1", "BLOB_UPLOAD_INVALID"), ("0-5", "SIZE_INVALID")] {
            caller.patch(&location).header("content-range", range).body("012").send().await.error(400, code);
        }
        // A well-formed range that does not fit the upload is 416, as in zot.
        caller.patch(&location).header("content-range", "5-7").body("567").send().await.status(416);
    }

    async fn one_writer_at_a_time(caller, repository) {
        let location = start_upload(&caller, repository).await;
        let (parts, first) = caller.patch(&location).piecewise();
        let first = tokio::spawn(first.send());
        parts.send(Bytes::from("012")).unwrap();
        until_received(&caller, &location, 3).await;
        let second = caller.patch(&location).body("678").send();
        let ending = async {
            parts.send(Bytes::from("345")).unwrap();
            drop(parts);
        };
        let (second, ()) = tokio::join!(second, ending);
        first.await.unwrap().status(202);
        second.status(202).has("range", "0-8");
        let put = format!("{location}?digest={}", sha256(b"012345678"));
        caller.put(&put).send().await.status(201);
    }

    async fn interrupted_patch_keeps_bytes(caller, repository) {
        // The socket knows no password, so it borrows the header of the caller's.
        let location = start_upload(&caller, repository).await;
        let mut socket = TcpStream::connect(caller.address()).await.unwrap();
        let head = format!(
            "PATCH {location} HTTP/1.1\r\nHost: localhost\r\nAuthorization: {}\r\nContent-Length: 6\r\n\r\n012",
            caller.authorization().unwrap()
        );
        socket.write_all(head.as_bytes()).await.unwrap();
        until_received(&caller, &location, 3).await;
        drop(socket);
        let put = format!("{location}?digest={}", sha256(b"012345"));
        caller.put(&put).header("content-range", "3-5").body("345").send().await.status(201);
    }

    async fn final_put_appends_without_content_range(caller, repository) {
        let location = start_upload(&caller, repository).await;
        caller.patch(&location).body("012").send().await.status(202);
        caller.put(&format!("{location}?digest={}", sha256(b"012345"))).body("345").send().await.status(201);
    }

    async fn final_put_reads_chunked_body(caller, repository) {
        let location = start_upload(&caller, repository).await;
        caller.patch(&location).body("012").send().await.status(202);
        let put = caller.put(&format!("{location}?digest={}", sha256(b"012345")));
        put.chunked(vec![Bytes::from("345")]).send().await.status(201);
    }

    async fn final_put_compares_length(caller, repository) {
        let location = start_upload(&caller, repository).await;
        let put = caller.put(&format!("{location}?digest={}", sha256(b"012")));
        put.header("content-range", "0-9").body("012").send().await.error(400, "SIZE_INVALID");
    }

    async fn old_digest_stays_after_retag(caller, repository) {
        let old = push_image(&caller, repository, "1", 3).await;
        push_image(&caller, repository, "1", 4).await;
        let old = sha256(&bytes(&old));
        caller.get(&format!("/v2/{repository}/manifests/{old}")).send().await.status(200);
    }

    async fn tag_grammar_on_put(caller, repository) {
        push_blob(&caller, repository, b"{}").await;
        let manifest = image(b"{}", &[]);
        for tag in [".x", "-x", "a+b", "a%20b"] {
            put_manifest(&caller, repository, tag, &manifest).await.error(400, "MANIFEST_INVALID");
        }
    }

    async fn docker_media_types(caller, repository) {
        push_blob(&caller, repository, b"{}").await;
        let mut manifest = image(b"{}", &[]);
        manifest["mediaType"] = "application/vnd.docker.distribution.manifest.v2+json".into();
        put_manifest(&caller, repository, "1", &manifest).await.status(201);
        let mut list = crate::support::content::index(&[&manifest]);
        list["mediaType"] = "application/vnd.docker.distribution.manifest.list.v2+json".into();
        put_manifest(&caller, repository, "2", &list).await.status(201);
    }

    async fn content_type_parameters(caller, repository) {
        push_blob(&caller, repository, b"{}").await;
        let put = caller.put(&format!("/v2/{repository}/manifests/1")).body(bytes(&image(b"{}", &[])));
        put.header("content-type", format!("{MANIFEST}; charset=utf-8")).send().await.status(201);
    }

    async fn content_type_missing(caller, repository) {
        push_blob(&caller, repository, b"{}").await;
        let path = format!("/v2/{repository}/manifests/1");
        caller.put(&path).body(bytes(&image(b"{}", &[]))).send().await.status(201);
        caller.get(&path).send().await.status(200).has("content-type", MANIFEST);
    }

    async fn content_type_is_the_manifests_own(caller, repository) {
        push_blob(&caller, repository, b"{}").await;
        let mut manifest = image(b"{}", &[]);
        manifest["mediaType"] = INDEX.into();
        let put = caller.put(&format!("/v2/{repository}/manifests/1")).body(bytes(&manifest));
        put.header("content-type", MANIFEST).send().await.error(400, "MANIFEST_INVALID");
    }

    async fn missing_blob_has_its_code(caller, repository) {
        let manifest = image(b"no config", &[b"no layer"]);
        let refused = put_manifest(&caller, repository, "1", &manifest).await.error(400, "MANIFEST_BLOB_UNKNOWN");
        assert_eq!(refused.digests().len(), 2);
    }

    async fn missing_blob_of_an_artifact(caller, repository) {
        push_blob(&caller, repository, b"{}").await;
        for kind in ["application/vnd.example.config", EMPTY] {
            let mut manifest = image(b"{}", &[b"missing"]);
            manifest["config"]["mediaType"] = kind.into();
            put_manifest(&caller, repository, "1", &manifest).await.error(400, "MANIFEST_BLOB_UNKNOWN");
        }
    }

    async fn sha384_is_not_known(caller, repository) {
        let digest = format!("sha384:{}", "0".repeat(96));
        let refused = put_manifest(&caller, repository, &digest, &image(b"{}", &[])).await;
        refused.error(400, "DIGEST_INVALID");
    }

    async fn delete_manifest_of_unknown_repository(caller, repository) {
        for reference in ["1".to_owned(), sha256(b"x")] {
            let path = format!("/v2/{repository}/manifests/{reference}");
            caller.delete(&path).send().await.error(404, "NAME_UNKNOWN");
        }
    }

    async fn tags_last_need_not_exist(caller, repository) {
        for tag in ["1", "3"] {
            push_image(&caller, repository, tag, 5).await;
        }
        let listed = caller.get(&format!("/v2/{repository}/tags/list?last=2")).send().await.status(200);
        assert_eq!(listed.json()["tags"], json!(["3"]));
    }

    async fn catalog_in_byte_order(caller, repository) {
        for name in ["b", "a/c", "a", "a-b"] {
            push_blob(&caller, &format!("{repository}/{name}"), b"x").await;
        }
        let listed = caller.get(&format!("/v2/_catalog?n=4&last={repository}")).send().await.status(200);
        let expected = ["a", "a-b", "a/c", "b"].map(|name| format!("{repository}/{name}"));
        assert_eq!(listed.json()["repositories"], json!(expected));
    }

    async fn catalog_last_need_not_exist(caller, repository) {
        push_blob(&caller, &format!("{repository}/b"), b"x").await;
        let listed = caller.get(&format!("/v2/_catalog?n=1&last={repository}/a")).send().await.status(200);
        assert_eq!(listed.json()["repositories"], json!([format!("{repository}/b")]));
    }

    async fn catalog_n_is_a_number(caller, _repository) {
        caller.get("/v2/_catalog?n=x").send().await.error(400, "UNSUPPORTED");
    }

    async fn referrers_come_in_pages(caller, repository) {
        push_blob(&caller, repository, b"{}").await;
        let subject = descriptor(MANIFEST, b"subject");
        for n in 0..2 {
            let mut manifest = image(b"{}", &[]);
            manifest["subject"] = subject.clone();
            manifest["annotations"] = json!({ "n": n.to_string() });
            put_manifest(&caller, repository, &n.to_string(), &manifest).await.status(201);
        }
        let path = format!("/v2/{repository}/referrers/{}?n=1", sha256(b"subject"));
        let first = caller.get(&path).send().await.status(200);
        let second = caller.get(&first.next().expect("a second page")).send().await.status(200);
        assert_eq!(second.next(), None);
        assert_ne!(first.json()["manifests"][0]["digest"], second.json()["manifests"][0]["digest"]);
    }
}
