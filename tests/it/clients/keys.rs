//! API keys with real clients: each uses a key as a password, its scopes apply with every client, and a revoked or expired
//! key is refused at the next request.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use oci_client::RegistryOperation;
use oci_client::errors::{OciDistributionError, OciErrorCode};
use oci_client::secrets::RegistryAuth;
use serde_json::{Value, json};

use super::content;
use super::ctr::Containerd;
use super::curl::Curl;
use super::docker::{Engine, needs_engine};
use super::home::{Home, needs, says_unauthorized};
use super::image::{Image, compare};
use super::oci_client::{OciClient, wait};
use super::oras::{ORAS, Oras};
use super::python::needs_packages;
use super::storage::Storage;
use super::target::{Target, guarded};

/// A key of the superuser.
struct Key {
    id: String,
    secret: String,
}

impl Key {
    /// Creates a key with curl.
    fn make(home: &Home, target: &Target, body: &Value) -> Self {
        let curl = Curl::of(home, target);
        let made = curl.send("/zot/auth/apikey", &["--request", "POST", "--data", &body.to_string()]).is(201).json();
        let text = |field: &str| made[field].as_str().unwrap().to_owned();
        Self { id: text("uuid"), secret: text("apiKey") }
    }

    /// The key as user and password.
    fn credentials(&self) -> String {
        format!("admin:{}", self.secret)
    }
}

/// A registry whose clients use a key for repositories below `keys/`.
fn by_key() -> Target {
    let target = guarded();
    let home = Home::beside(&target);
    let key = Key::make(&home, &target, &json!({ "label": "client", "scopes": ["keys/**"] }));
    target.signed_in_as("admin", &key.secret)
}

/// The name of an image in the registry, for skopeo.
fn at(target: &Target, name: &str) -> String {
    format!("docker://{}", target.image(name))
}

/// Whether a client reports a denial, in its own words or the registry's.
fn says_denied(said: &str) -> bool {
    ["403 (Forbidden)", "403 Forbidden", "denied"].iter().any(|words| said.contains(words)) && !says_unauthorized(said)
}

/// The repositories that curl lists for these credentials.
fn catalog(home: &Home, target: &Target, credentials: &str) -> Value {
    let stranger = Curl::stranger(home, target);
    stranger.send("/v2/_catalog", &["--user", credentials]).is(200).json()["repositories"].take()
}

#[test]
fn skopeo_pushes_with_a_key_where_its_scopes_let_it_and_nowhere_else() {
    needs!(SKOPEO, CURL, UMOCI, BUSYBOX);
    let target = guarded();
    let home = Home::beside(&target);
    let (image, other) = (content::busybox(), content::busybox_arm64());
    let curl = Curl::of(&home, &target);
    curl.push(&other, "repo2", "one");
    let key = Key::make(&home, &target, &json!({ "scopes": ["repo1"] }));
    let credentials = key.credentials();
    let copy = |to: &str| {
        ["copy", "--quiet", "--preserve-digests", "--dest-creds", &credentials, &image.source(), &at(&target, to)]
            .map(str::to_owned)
    };
    let run = |arguments: &[String]| home.run("skopeo", &arguments.iter().map(String::as_str).collect::<Vec<_>>());
    let fails =
        |arguments: &[String]| home.fails("skopeo", &arguments.iter().map(String::as_str).collect::<Vec<_>>()).stderr;
    run(&copy("repo1:one"));
    compare(&image, |part| curl.fetch("repo1", part).is(200).body).at_least(1, 3, 100_000);

    for name in ["repo2:two", "repo1/below:one", "repo11:one"] {
        let said = fails(&copy(name));
        assert!(says_denied(&said), "{name}: {said}");
    }
    assert_eq!(catalog(&home, &target, &credentials), json!(["repo1"]));
    assert_eq!(
        catalog(&home, &target, &format!("admin:{}", target.credentials.as_ref().unwrap().1)),
        json!(["repo1", "repo2"])
    );
    assert_eq!(curl.tags("repo2"), ["one"]);
    // The key can neither read nor delete other repositories, and can do everything in its own.
    let [theirs, own] = ["repo2:one", "repo1:one"].map(|name| at(&target, name));
    for command in
        [&["inspect", "--raw", "--creds", &credentials, &theirs][..], &["delete", "--creds", &credentials, &theirs]]
    {
        let said = home.fails("skopeo", command).stderr;
        assert!(says_denied(&said), "{command:?}: {said}");
    }
    home.run("skopeo", &["delete", "--creds", &credentials, &own]);
    curl.is_gone("repo1", "one", &image.root);
    assert_eq!(curl.tags("repo2"), ["one"]);
    // The key belongs to this user only.
    let said = home.fails("skopeo", &["inspect", "--raw", "--creds", &format!("user:{}", key.secret), &own]).stderr;
    assert!(says_unauthorized(&said), "{said}");
}

#[test]
fn skopeo_pulls_with_a_key_for_pulling_and_pushes_and_deletes_nothing() {
    needs!(SKOPEO, CURL, UMOCI, BUSYBOX);
    let target = guarded();
    let home = Home::beside(&target);
    let image = content::busybox();
    let curl = Curl::of(&home, &target);
    curl.push(&image, "repo1", "one");
    let credentials = Key::make(&home, &target, &json!({ "scopes": ["repo1:pull"] })).credentials();
    let layout = home.fresh("layout");
    let to = format!("oci:{}:pulled", layout.display());
    home.run("skopeo", &["copy", "--quiet", "--src-creds", &credentials, &at(&target, "repo1:one"), &to]);
    let pulled = Image::in_layout(&layout, "pulled");
    compare(&image, |part| pulled.store.get(part)).at_least(1, 3, 100_000);

    let other = content::busybox_arm64().source();
    for command in [
        // Existing and new blobs; a new and an existing tag.
        &["copy", "--quiet", "--dest-creds", &credentials, &image.source(), &at(&target, "repo1:two")][..],
        &["copy", "--quiet", "--dest-creds", &credentials, &other, &at(&target, "repo1:one")],
        &["delete", "--creds", &credentials, &at(&target, "repo1:one")],
    ] {
        let said = home.fails("skopeo", command).stderr;
        assert!(says_denied(&said), "{command:?}: {said}");
    }
    assert_eq!(curl.tags("repo1"), ["one"]);
    assert_eq!(curl.manifest("repo1", "one").is(200).body, image.manifest());
}

#[test]
fn a_revoked_key_is_refused_by_the_next_request_of_the_same_connection() {
    needs!(CURL, PODMAN, UMOCI, BUSYBOX);
    let target = guarded();
    let home = Home::beside(&target);
    Curl::of(&home, &target).push(&content::busybox(), "repo1", "one");
    let key = Key::make(&home, &target, &json!({}));
    // The key was used before.
    let owner = target.credentials.clone().unwrap();
    let target = target.signed_in_as("admin", &key.secret);
    let podman = Storage::signed_in("podman", &home, &target);
    podman.pull("repo1:one");
    podman.empty();

    let url = |path: &str| format!("http://{}{path}", target.host_port);
    let (ping, id) = (url("/v2/"), url(&format!("/zot/auth/apikey?id={}", key.id)));
    let (by_key, by_password) = (key.credentials(), format!("{}:{}", owner.0, owner.1));
    let body = home.path("body");
    let common = [
        "--silent",
        "--show-error",
        "--output",
        body.to_str().unwrap(),
        "--write-out",
        "%{http_code}/%{num_connects} ",
    ];
    let mut arguments = Vec::new();
    for request in [
        &["--user", &by_key, &*ping][..],
        &["--user", &by_password, "--request", "DELETE", &id],
        &["--user", &by_key, &ping],
    ] {
        arguments.extend(common);
        arguments.extend(request);
        arguments.push("--next");
    }
    arguments.pop();
    // All three on one connection.
    assert_eq!(home.run("curl", &arguments).words(), ["200/1", "200/0", "401/0"]);
    let said = podman.fails(&["pull", "--quiet", &target.image("repo1:one")]).stderr;
    assert!(says_unauthorized(&said), "{said}");
    let login = ["login", "--username", "admin", "--password-stdin", &target.host_port];
    let said = home.fails_fed("podman", &login, &key.secret).stderr;
    assert!(said.contains("invalid username/password"), "{said}");
}

#[test]
fn a_key_is_refused_from_the_second_on_in_which_it_ends() {
    needs!(SKOPEO, CURL, UMOCI, BUSYBOX);
    let target = guarded();
    let home = Home::beside(&target);
    let curl = Curl::of(&home, &target);
    curl.push(&content::busybox(), "repo1", "one");
    let end = Timestamp::now() + SignedDuration::from_millis(2500);
    let key = Key::make(&home, &target, &json!({ "expirationDate": end.to_string() }));
    let credentials = key.credentials();
    let image = at(&target, "repo1:one");
    let mut accepted = 0;
    // The time of the response is between the times before and after it.
    for _ in 0..1000 {
        let asked = Timestamp::now();
        let status = Curl::stranger(&home, &target).send("/v2/", &["--user", &credentials]).status;
        let answered = Timestamp::now();
        match status {
            200 => assert!(asked < end, "accepted at {asked}, although it ended at {end}"),
            401 => assert!(answered >= end, "refused at {answered}, although it ends at {end}"),
            other => panic!("{other}"),
        }
        if status == 401 {
            break;
        }
        accepted += 1;
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(accepted > 0 && Timestamp::now() >= end, "{accepted} answers before {end}");
    let said = home.fails("skopeo", &["inspect", "--raw", "--creds", &credentials, &image]).stderr;
    assert!(says_unauthorized(&said), "{said}");
    let listed = curl.get("/zot/auth/apikey").is(200).json();
    assert_eq!((&listed["apiKeys"][0]["isExpired"], &listed["apiKeys"][0]["uuid"]), (&json!(true), &json!(key.id)));
}

#[test]
fn podman_and_buildah_sign_in_push_and_pull_with_a_key() {
    needs!(PODMAN, BUILDAH, CURL, UMOCI, BUSYBOX);
    let target = by_key();
    let image = content::busybox();
    for program in ["podman", "buildah"] {
        let home = Home::beside(&target);
        let pusher = Storage::signed_in(program, &home, &target);
        let identity = pusher.load(&image);
        let name = format!("keys/{program}:one");
        pusher.push(&identity, &name, &["--format=v2s2"]);
        let stored = Curl::of(&home, &target).download(&format!("keys/{program}"), "one");
        let other = Home::beside(&target);
        let puller = Storage::signed_in(program, &other, &target);
        puller.has(&puller.pull(&name), &stored);
        let theirs = pusher.at("theirs/box:one");
        let said = pusher.fails(&["push", "--quiet", &identity, &theirs]).stderr;
        assert!(says_denied(&said), "{program}: {said}");
    }
}

#[test]
fn ctr_pushes_and_pulls_with_a_key() {
    needs!(CTR, CONTAINERD, UMOCI, BUSYBOX);
    let target = by_key();
    let home = Home::beside(&target);
    let image = content::busybox();
    let pusher = Containerd::start(&home, &target);
    for repository in ["keys/ctr", "theirs/ctr"] {
        pusher.import(&image, repository);
    }
    pusher.push("keys/ctr:amd64");
    let other = Home::beside(&target);
    let puller = Containerd::start(&other, &target);
    puller.pull("keys/ctr:amd64");
    let stored = puller.store();
    compare(&image, |part| stored.get(part)).at_least(1, 3, 100_000);

    let (user, key) = target.credentials.clone().unwrap();
    let denied =
        pusher.fails(&["images", "push"], Some(&format!("{user}:{key}")), &[&target.image("theirs/ctr:amd64")]);
    assert!(says_denied(&denied), "{denied}");
    let wrong = format!("{user}:zak_{}", "0".repeat(32));
    let said = puller.fails(&["content", "fetch"], Some(&wrong), &[&target.image("keys/ctr:amd64")]);
    assert!(says_unauthorized(&said), "{said}");
}

#[test]
fn oras_pushes_and_pulls_with_a_key() {
    needs!(PYTHON);
    let python = needs_packages!(ORAS);
    let target = by_key();
    let home = Home::beside(&target);
    let oras = Oras::signed_in(&python, &home, &target);
    let file = home.write("note.txt", "by key\n");
    oras.say(&json!(["push", oras.at("keys/oras:one"), false, [file]]));
    oras.say(&json!(["pull", oras.at("keys/oras:one"), home.path("back")]));
    assert_eq!(std::fs::read_to_string(home.path("back/note.txt")).unwrap(), "by key\n");
    let said = oras.fails(&json!(["push", oras.at("theirs/oras:one"), false, [file]]));
    assert!(said.contains("403") || said.to_lowercase().contains("denied"), "{said}");
}

#[test]
fn oci_client_pushes_and_pulls_with_a_key_for_a_password_and_as_a_token() {
    let target = by_key();
    let (user, key) = target.credentials.clone().unwrap();
    let image = content::many_layers();
    for (repository, auth) in
        [("keys/basic", RegistryAuth::Basic(user, key.clone())), ("keys/bearer", RegistryAuth::Bearer(key))]
    {
        let client = OciClient::new(&target, auth, |_| ());
        wait(client.client.auth(&client.at(repository), &client.auth, RegistryOperation::Push)).unwrap();
        client.push(&image, repository, "one");
        compare(&image, |part| client.fetch(repository, part)).at_least(1, content::layers() + 1, 0);
        let theirs = client.at("theirs/box");
        let refused = wait(client.client.push_blob(&theirs, &b"theirs"[..], &image.root.digest)).map(drop).unwrap_err();
        let denied = match &refused {
            OciDistributionError::RegistryError { envelope, .. } => envelope.errors[0].code == OciErrorCode::Denied,
            OciDistributionError::ServerError { code, .. } => *code == 403,
            _ => false,
        };
        assert!(denied, "{refused}");
    }
}

#[test]
fn docker_pushes_and_pulls_with_a_key_until_it_is_revoked() {
    needs_engine!();
    let target = guarded();
    let home = Home::beside(&target);
    let key = Key::make(&home, &target, &json!({ "scopes": ["keys/**"] }));
    let docker = Engine::start(&home, &target);
    docker.sign_in("admin", &key.secret).unwrap();
    let image = content::docker();
    docker.load(&image, "keys/docker:one");
    docker.push("keys/docker:one");
    docker.pull("keys/docker:one");
    docker.load(&image, "other/docker:one");
    let elsewhere = ["push", &*target.image("other/docker:one")];
    let said = docker.attempt(&elsewhere).unwrap_err();
    assert!(says_denied(&said), "{said}");
    // Other clients read the stored credentials as well.
    let file = home.path("docker/config.json");
    let inspect = ["inspect", "--raw", "--authfile", file.to_str().unwrap(), &at(&target, "keys/docker:one")];
    assert!(!home.run("skopeo", &inspect).stdout.is_empty());

    let id = format!("/zot/auth/apikey?id={}", key.id);
    Curl::of(&home, &target).send(&id, &["--request", "DELETE"]).is(200);
    let said = docker.attempt(&["pull", &target.image("keys/docker:one")]).unwrap_err();
    assert!(says_unauthorized(&said), "{said}");
    docker.sign_in("admin", &key.secret).unwrap_err();
}
