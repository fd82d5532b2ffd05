//! Imports from running registries.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::written::Distribution;
use super::{command, create, docker_registry, is_partial, publish, pull, serve, succeeds};
use crate::clients::home::needs;
use crate::support::content::{bytes, descriptor, image, index, noise, push_blob, put_manifest, sha256};
use crate::support::http::Caller;
use crate::support::process::{ADMIN, Finished, Program, Running};

/// The layers that an image of the old registry has, in the store of that registry.
pub(super) fn stored(store: &Distribution, repository: &str, tag: &str, layers: &[&[u8]]) -> Value {
    let config = format!("{{\"name\":\"{repository}:{tag}\"}}");
    for content in std::iter::once(config.as_bytes()).chain(layers.iter().copied()) {
        let digest = store.blob(content);
        store.link(repository, &digest);
    }
    let image = image(config.as_bytes(), layers);
    let digest = store.manifest(repository, &image);
    store.tag(repository, tag, &digest);
    image
}

/// Pushes an image with these layers, as clients do: they ask first for each blob.
pub(super) async fn push(caller: &Caller, repository: &str, tag: &str, layers: &[&[u8]]) -> Value {
    let config = format!("{{\"name\":\"{repository}:{tag}\"}}");
    let contents = || std::iter::once(config.as_bytes()).chain(layers.iter().copied());
    for content in contents() {
        let digest = sha256(content);
        let there = caller.head(&format!("/v2/{repository}/blobs/{digest}")).send().await;
        if there.status != 200 {
            let start = caller.post(&format!("/v2/{repository}/blobs/uploads/")).send().await.status(202);
            let location = start.location();
            let separator = if location.contains('?') { '&' } else { '?' };
            let put = caller.put(&format!("{location}{separator}digest={digest}"));
            put.body(content.to_vec()).send().await.status(201);
        }
    }
    let image = image(config.as_bytes(), layers);
    put_manifest(caller, repository, tag, &image).await.status(201);
    image
}

#[tokio::test]
async fn another_registry_is_imported_with_its_signatures() {
    let place = tempfile::tempdir().unwrap();
    let (old, root) = (place.path().join("old"), place.path().join("data"));
    let source = serve(&old);
    let caller = source.anonymous();
    let one = push(&caller, "team/app", "1", &[&noise(100_000, 1)]).await;
    let two = push(&caller, "team/app", "2", &[&noise(100_000, 1), b"two"]).await;
    let both = index(&[&one, &two]);
    put_manifest(&caller, "team/app", "both", &both).await.status(201);
    let mut signature = image(b"{}", &[b"signature"]);
    push_blob(&caller, "team/app", b"{}").await;
    push_blob(&caller, "team/app", b"signature").await;
    signature["subject"] = descriptor(one["mediaType"].as_str().unwrap(), &bytes(&one));
    put_manifest(&caller, "team/app", &sha256(&bytes(&signature)), &signature).await.status(201);
    let other = push(&caller, "other", "1", &[b"other"]).await;
    create(&root);
    let from = format!("docker://{}", source.address());

    let dry = succeeds("import", &root, &["--dry-run", &from]);
    assert_eq!((&dry["tags"], &dry["bytes"]), (&json!(4), &json!(0)), "{dry}");
    assert_eq!(dry["notes"], json!([]), "a registry without users needs no credentials");
    // One tag, one repository by another name, and everything below a prefix.
    let found = succeeds("import", &root, &[&format!("{from}/team/app:1")]);
    assert_eq!(found["tags"], json!(1), "{found}");
    let found = succeeds("import", &root, &["--as", "new/name", &format!("{from}/team/app")]);
    assert_eq!(found["tags"], json!(3), "{found}");
    let running = serve(&root);
    let found = succeeds("import", &root, &["--into", "all", &from]);
    assert_eq!((&found["tags"], &found["repositories"]), (&json!(4), &json!(2)), "{found}");
    let found = succeeds("import", &root, &[&format!("{from}/team/*")]);
    assert_eq!((&found["tags"], &found["known_tags"]), (&json!(2), &json!(1)), "{found}");
    source.stop();

    // Nothing is a copy that the mirror would fetch again.
    let caller = running.anonymous();
    for (repository, image) in [("team/app", &one), ("new/name", &one), ("all/team/app", &one)] {
        pull(&caller, repository, "1", image).await;
        let referrers = caller.get(&format!("/v2/{repository}/referrers/{}", sha256(&bytes(&one)))).send().await;
        assert_eq!(referrers.json()["manifests"][0]["digest"], sha256(&bytes(&signature)), "{repository}");
    }
    pull(&caller, "new/name", "2", &two).await;
    pull(&caller, "all/other", "1", &other).await;
    let answer = caller.get("/v2/all/team/app/manifests/both").send().await.status(200);
    assert_eq!(answer.body, bytes(&both));
    running.stop();
    succeeds("scrub", &root, &[]);
}

#[tokio::test]
async fn a_tag_that_differs_is_kept_and_a_damaged_image_is_listed() {
    needs!(DOCKER_REGISTRY);
    let place = tempfile::tempdir().unwrap();
    let root = place.path().join("data");
    let store = Distribution::new(&place.path().join("old"));
    let good = stored(&store, "team/app", "good", &[b"good"]);
    let theirs = stored(&store, "team/app", "both", &[b"theirs"]);
    stored(&store, "team/app", "bad", &[b"a layer that is lost"]);
    std::fs::remove_file(store.data(&sha256(b"a layer that is lost"))).unwrap();
    let (_registry, address) = docker_registry(place.path(), "old");
    let running = serve(&root);
    let ours = push(&running.anonymous(), "team/app", "both", &[b"ours"]).await;
    let from = format!("docker://{address}");
    let found = is_partial(&root, &[&from]);
    assert_eq!((&found["tags"], &found["kept_tags"]), (&json!(1), &json!(["team/app:both"])), "{found}");
    assert_eq!(found["problems"][0]["what"], json!("team/app:bad"), "{found}");
    pull(&running.anonymous(), "team/app", "good", &good).await;
    pull(&running.anonymous(), "team/app", "both", &ours).await;
    let found = is_partial(&root, &["--overwrite", &from]);
    assert_eq!((&found["tags"], &found["known_tags"], &found["kept"]), (&json!(1), &json!(1), &json!(0)), "{found}");
    pull(&running.anonymous(), "team/app", "both", &theirs).await;
}

#[tokio::test]
async fn credentials_come_from_the_files_of_podman_and_docker() {
    let place = tempfile::tempdir().unwrap();
    let (old, root) = (place.path().join("old"), place.path().join("data"));
    let source = Program::serve(&old).with_admin().start();
    let one = push(&source.user(ADMIN), "team/app", "1", &[b"one"]).await;
    let running = serve(&root);
    let from = format!("docker://{}/team/app", source.address());
    let refused = command("import", &root, &[&from]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    let pair = {
        use base64::Engine as _;
        base64::engine::general_purpose::STANDARD.encode(format!("{}:{}", ADMIN.0, ADMIN.1))
    };
    let auth = place.path().join("auth.json");
    std::fs::write(&auth, json!({ "auths": { source.address().to_string(): { "auth": pair } } }).to_string()).unwrap();
    // The registry runs as another user, or cannot read the file for another reason: the command reads it.
    let done = Program::new(["import", "--json", "--root"])
        .arg(&root)
        .arg(&from)
        .env("REGISTRY_AUTH_FILE", &auth)
        .env("DOCKER_CONFIG", place.path())
        .run();
    assert_eq!(done.code, Some(0), "{done:?}");
    pull(&running.anonymous(), "team/app", "1", &one).await;
    let again = succeeds("import", &root, &["--authfile", auth.to_str().unwrap(), &from]);
    assert_eq!(again["known_tags"], json!(1), "{again}");
    assert!(!running.stderr().contains(ADMIN.1) && !done.stderr.contains(ADMIN.1));
}

/// A registry that requires credentials, with an image, and a person whose files of credentials are in a new directory.
struct Private {
    home: tempfile::TempDir,
    source: Running,
    host: String,
}

impl Private {
    async fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let source = Program::serve(&home.path().join("old")).with_admin().start();
        push(&source.user(ADMIN), "team/app", "1", &[b"one"]).await;
        let host = source.address().to_string();
        Self { home, source, host }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// Writes the credentials of the admin for later imports.
    fn log_in(&self, password: &str) {
        let entry = json!({ "username": ADMIN.0, "password": password });
        std::fs::write(self.file("auth.json"), json!({ "auths": { &self.host: entry } }).to_string()).unwrap();
    }

    fn import(&self, images: &str) -> Finished {
        self.import_with(images, &[])
    }

    fn import_with(&self, images: &str, options: &[&str]) -> Finished {
        let images = format!("docker://{}{images}", self.host);
        let program = Program::new(["import", "--root"]).arg(self.file("data")).arg(images).args(options);
        program.env("DOCKER_CONFIG", self.home.path()).env("REGISTRY_AUTH_FILE", self.file("auth.json")).run()
    }
}

#[tokio::test]
async fn an_import_without_credentials_says_so_and_fails_if_it_finds_nothing() {
    let private = Private::new().await;
    let (admin, host) = (private.source.user(ADMIN), &private.host);
    push(&admin, "open/app", "1", &[b"two"]).await;
    let import = |images| private.import(images);
    let has = |done: &Finished, code: i32, parts: &[&str]| {
        assert_eq!(done.code, Some(code), "{done:?}");
        for part in parts {
            assert!(done.stdout.contains(part), "{part:?} is not in {done:?}");
        }
    };
    let public = "note: without credentials, only public repositories were listed; no credentials for";
    let files = ["auth.json", "config.json"].map(|name| private.file(name).display().to_string());
    let files = format!("no credentials for {host} were found in {}, {}: run", files[0], files[1]);
    let login = format!("`podman login {host}` or `docker login {host}`, or name a file with --authfile");
    let unmatched = |pattern: &str| format!("{pattern}: no repository of {host} matches this pattern");
    has(&import(""), 1, &["imported: nothing", &unmatched("**"), public, &files, &login]);
    has(&import("/team/**"), 1, &["imported: nothing", &unmatched("team/**"), public, &files, &login]);
    let named = import("/team/app");
    has(&named, 1, &["imported: nothing", &files, &login]);
    assert!(!named.stdout.contains("other credentials"), "{named:?}");
    // A part of the repositories is public.
    publish(&admin, "open/app").await;
    has(&import(""), 0, &["1 tag", public, &files, &login]);
    has(&import("/team/**"), 1, &[&unmatched("team/**"), public]);
}

#[tokio::test]
async fn refused_credentials_of_an_import_are_named_with_their_file() {
    let private = Private::new().await;
    private.log_in("an old password");
    let advice =
        format!("note: check the credentials for {} in {}: ", private.host, private.file("auth.json").display());
    let admin = private.source.user(ADMIN);
    for is_partly_public in [false, true] {
        if is_partly_public {
            push(&admin, "open/app", "1", &[b"two"]).await;
            publish(&admin, "open/app").await;
        }
        for images in ["", "/team/**", "/team/app"] {
            let done = private.import(images);
            assert_eq!(done.code, Some(1), "{done:?}");
            assert!(done.stdout.contains("requires other credentials") && done.stdout.contains(&advice), "{done:?}");
            assert!(!done.stdout.contains("wildcards") && !done.stdout.contains("no credentials"), "{done:?}");
        }
    }
}

#[tokio::test]
async fn an_import_with_credentials_has_private_repositories_of_a_registry_that_anyone_may_list() {
    let private = Private::new().await;
    let admin = private.source.user(ADMIN);
    push(&admin, "open/app", "1", &[b"two"]).await;
    publish(&admin, "open/app").await;
    private.log_in(ADMIN.1);
    let done = private.import("");
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(done.stdout.contains("2 tags") && !done.stdout.contains("note:"), "{done:?}");
}

#[tokio::test]
async fn credentials_for_a_registry_are_not_sent_to_other_urls_of_the_configuration() {
    let private = Private::new().await;
    private.log_in(ADMIN.1);
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let urls = [other.local_addr().unwrap().to_string(), private.host.clone()].map(|host| format!("http://{host}"));
    let config =
        format!("[extensions.sync]\nregistries = [{{ urls = {urls:?}, onDemand = true, onlySigned = true }}]\n");
    std::fs::write(private.file("coracle.toml"), config).unwrap();
    let done = private.import_with("", &["--config", private.file("coracle.toml").to_str().unwrap()]);
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(done.stdout.contains("1 tag"), "an image without a signature is imported, too: {done:?}");
    other.set_nonblocking(true).unwrap();
    assert_eq!(other.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
}
