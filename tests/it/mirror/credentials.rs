//! Credentials for upstreams: from files and programs, and those of the clients themselves.

use std::os::unix::fs::PermissionsExt as _;

use base64::Engine as _;
use coracle::Registry;
use coracle::config::Config;
use serde_json::Value;

use super::between::{Between, Mode};
use super::pull;
use crate::support::TestRegistry;
use crate::support::content::{self, push_image, put_manifest, sha256};
use crate::support::http::Caller;
use crate::support::process::Program;
use crate::support::registry::{ALICE, BOB, ROOT};

/// An upstream with users, where alice has an image, and a proxy before it.
async fn private_upstream() -> (TestRegistry, Between, Value) {
    let upstream = TestRegistry::with_users().await;
    let image = push_image(&upstream.user(ALICE), "alice/app", "1", 1).await;
    let between = Between::before(upstream.running.address()).await;
    (upstream, between, image)
}

#[tokio::test]
async fn a_credential_program_supplies_the_password() {
    let (_upstream, between, image) = private_upstream().await;
    let directory = tempfile::tempdir().unwrap();
    let bin = directory.path().join("bin");
    std::fs::create_dir(&bin).unwrap();
    let program = bin.join("docker-credential-test");
    let script = format!(
        "#!/bin/sh\nread -r host\necho \"$1 $host\" >> '{}/asked'\n\
         echo '{{\"ServerURL\": \"x\", \"Username\": \"{}\", \"Secret\": \"{}\"}}'\n",
        directory.path().display(),
        ALICE.0,
        ALICE.1.replace('\'', "'\\''"),
    );
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let host = between.address;
    let docker = directory.path().join("config.json");
    std::fs::write(&docker, format!("{{\"auths\": {{\"{host}\": {{}}}}, \"credsStore\": \"test\"}}")).unwrap();
    let file = format!("[extensions.sync]\ncredentialsFile = '{}'\n", docker.display());
    for (number, (file, key)) in [("", "credentialHelper = 'test'"), (&*file, "")].into_iter().enumerate() {
        let config = format!(
            "{file}[[extensions.sync.registries]]\nurls = ['http://{host}']\nonDemand = true\n{key}\n\
             content = [{{ prefix = '**', destination = '/up' }}]\n"
        );
        let root = directory.path().join(format!("data{number}"));
        let mirror = Program::serve_with(&root, &config).arg("--open").env("PATH", &path).start();
        pull(&mirror.anonymous(), "up/alice/app", "1", &image).await;
        let log = mirror.stop().stderr;
        assert!(!log.contains(ALICE.1), "{log}");
        let asked = std::fs::read_to_string(directory.path().join("asked")).unwrap();
        assert_eq!(asked, format!("get {host}\n").repeat(number + 1), "one run for all requests");
    }
}

/// A registry of its own users whose upstream gets the credentials of each client.
async fn passing(between: &Between) -> TestRegistry {
    let text = format!(
        "[[extensions.sync.registries]]\nurls = ['http://{}']\nonDemand = true\ncredentials = 'client'\n\
         manifestCheckInterval = '1h'\nmaxRetries = 0\ncontent = [{{ prefix = '**', destination = '/up' }}]\n",
        between.address
    );
    let config = Config::from_toml_str(&text).unwrap().config;
    TestRegistry::start(Registry::builder().config(config).superuser(ROOT.0, ROOT.1)).await
}

const MANIFEST: &str = "/v2/up/alice/app/manifests/1";

fn verdicts(between: &Between) -> usize {
    between.count("HEAD", "")
}

#[tokio::test]
async fn the_upstream_decides_with_the_credentials_of_each_client() {
    let (_upstream, between, image) = private_upstream().await;
    let mirror = passing(&between).await;
    let alice = mirror.user(ALICE);
    pull(&alice, "up/alice/app", "1", &image).await;
    let asked = between.total();
    pull(&alice, "up/alice/app", "1", &image).await;
    assert_eq!(between.total(), asked, "the verdict and the content are remembered");

    // The content is stored, and still only for those whom the upstream permits.
    let digest = sha256(&content::bytes(&image));
    let config = image["config"]["digest"].as_str().unwrap();
    let paths = [
        MANIFEST.to_owned(),
        format!("/v2/up/alice/app/manifests/{digest}"),
        format!("/v2/up/alice/app/blobs/{config}"),
    ];
    for path in &paths {
        for caller in [mirror.user(BOB), mirror.user((ALICE.0, "wrong")), mirror.user(("mallory", "x"))] {
            let status = caller.get(path).send().await.status.as_u16();
            assert!(matches!(status, 401 | 403 | 404), "{path}: {status}");
        }
        let anonymous = mirror.anonymous().get(path).send().await.error(401, "UNAUTHORIZED");
        let challenge = anonymous.header("www-authenticate").unwrap();
        assert!(challenge.starts_with("Basic "), "clients send the password with the request itself: {challenge}");
        let served = alice.get(path).send().await.status(200);
        let lifetime = served.header("cache-control").unwrap();
        assert!(lifetime.starts_with("private") || lifetime == "no-store", "{path}: {lifetime}");
    }
    // Neither anonymous clients nor our own users see the repository elsewhere.
    mirror.anonymous().get("/v2/up/alice/app/tags/list").send().await.status(401);
    mirror.anonymous().get("/v2/_catalog").send().await.status(401);
}

#[tokio::test]
async fn credentials_of_this_registry_do_not_reach_the_upstream() {
    let (_upstream, between, image) = private_upstream().await;
    let mirror = passing(&between).await;
    let root = mirror.user(ROOT);
    let made = root.post("/zot/auth/apikey").body("{\"label\": \"x\"}").send().await.status(201).json();
    let key = made["apiKey"].as_str().unwrap().to_owned();
    pull(&mirror.user(ALICE), "up/alice/app", "1", &image).await;
    // The rules of this registry permit the superuser, and the upstream does not permit anonymous pulls.
    mirror.user((ROOT.0, &key)).get(MANIFEST).send().await.error(401, "UNAUTHORIZED");
    // The upstream does not decide about content that was pushed here.
    let own = push_image(&root, "up/own", "1", 7).await;
    let token = root.get("/v2/auth?scope=repository:team/x:pull").send().await.status(200).json();
    let bearer = format!("Bearer {}", token["token"].as_str().unwrap());
    mirror.anonymous().get(MANIFEST).header("authorization", &bearer).send().await.status(401);
    pull(&mirror.user((ROOT.0, &key)), "up/own", "1", &own).await;
    let basic = |user: &str, password: &str| {
        let pair = format!("{user}:{password}");
        format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair))
    };
    for seen in between.seen() {
        let sent = seen.authorization.unwrap_or_default();
        assert!(sent != basic(ROOT.0, ROOT.1) && sent != basic(ROOT.0, &key) && sent != bearer, "{}", seen.line);
    }
}

#[tokio::test]
async fn users_of_the_upstream_do_not_get_what_was_pushed_here() {
    let (_upstream, between, image) = private_upstream().await;
    let mirror = passing(&between).await;
    let root = mirror.user(ROOT);
    let made = root.post("/zot/auth/apikey").body("{\"label\": \"x\"}").send().await.status(201).json();
    let root = mirror.user((ROOT.0, made["apiKey"].as_str().unwrap()));
    pull(&mirror.user(ALICE), "up/alice/app", "1", &image).await;
    let own = push_image(&root, "up/alice/app", "own", 70).await;
    let (digest, layer) = (sha256(&content::bytes(&own)), own["layers"][0]["digest"].as_str().unwrap());
    for part in
        ["manifests/own", &format!("manifests/{digest}"), &format!("blobs/{layer}"), &format!("referrers/{digest}")]
    {
        let path = format!("/v2/up/alice/app/{part}");
        mirror.user(ALICE).get(&path).send().await.status(404);
        root.get(&path).send().await.status(200);
    }
    // A push of the upstream's own image takes nothing from its users.
    put_manifest(&root, "up/alice/app", "same", &image).await.status(201);
    for reference in ["1", &sha256(&content::bytes(&image))] {
        pull(&mirror.user(ALICE), "up/alice/app", reference, &image).await;
    }
}

#[tokio::test]
async fn a_token_to_push_is_for_users_of_this_registry() {
    let (_upstream, between, _) = private_upstream().await;
    let mirror = passing(&between).await;
    for actions in ["pull,push", "push", "*"] {
        let path = format!("/v2/auth?scope=repository:up/alice/app:{actions}");
        let token = mirror.user(ROOT).get(&path).send().await.status(200).json();
        assert!(!token["token"].as_str().unwrap().starts_with("coracle.pass."), "{token}");
        mirror.user(ALICE).get(&path).send().await.error(401, "UNAUTHORIZED");
    }
    assert_eq!(between.total(), 0, "no password reaches the upstream");
}

#[tokio::test]
async fn a_client_that_wants_a_token_gets_a_ticket_for_its_credentials() {
    let (_upstream, between, image) = private_upstream().await;
    let mirror = passing(&between).await;
    let path = "/v2/auth?scope=repository:up/alice/app:pull";
    let ticket = async |caller: Caller| {
        let answer = caller.get(path).send().await.status(200).has("cache-control", "no-store");
        format!("Bearer {}", answer.json()["token"].as_str().unwrap())
    };
    let (alice, bob) = (ticket(mirror.user(ALICE)).await, ticket(mirror.user(BOB)).await);
    let get = async |path: &str, bearer: &str| {
        mirror.anonymous().get(path).header("authorization", bearer).send().await.status.as_u16()
    };
    assert_eq!(get(MANIFEST, &alice).await, 200);
    assert!(matches!(get(MANIFEST, &bob).await, 401 | 403 | 404));
    assert_eq!(get(MANIFEST, &format!("{alice}0")).await, 401);
    assert_eq!(get("/v2/elsewhere/manifests/1", &alice).await, 401, "it is worth nothing elsewhere");
    // The messages say what to do.
    let refused = async |path: &str, bearer: &str| {
        let answer = mirror.anonymous().get(path).header("authorization", bearer).send().await;
        let answer = answer.error(401, "UNAUTHORIZED");
        (answer.text(), answer.header("www-authenticate").unwrap().to_owned())
    };
    let (text, challenge) = refused(MANIFEST, "Bearer coracle.pass.00").await;
    let host = between.address;
    assert!(text.contains(&format!("the token for {host} has expired")) && challenge.starts_with("Basic"), "{text}");
    let (text, challenge) = refused("/v2/elsewhere/manifests/1", &alice).await;
    assert!(text.contains("for pulls from another registry only"), "{text}");
    assert!(challenge.starts_with("Bearer") && challenge.contains("invalid_token"), "{challenge}");
    // The upstream must accept the credentials.
    mirror.user((ALICE.0, "wrong")).get(path).send().await.error(401, "UNAUTHORIZED");
    // A request that also names a repository of this registry has the credentials of a user here.
    let both = format!("{path}&scope=repository:team/x:pull,push");
    let own = mirror.user(ROOT).get(&both).send().await.status(200).json();
    assert!(!own["token"].as_str().unwrap().starts_with("coracle.pass."), "{own}");
    mirror.user(ALICE).get(&both).send().await.error(401, "UNAUTHORIZED");
    let config = image["config"]["digest"].as_str().unwrap();
    assert_eq!(get(&format!("/v2/up/alice/app/blobs/{config}"), &alice).await, 200);
}

#[tokio::test]
async fn without_a_verdict_nothing_is_served() {
    let (_upstream, between, image) = private_upstream().await;
    let mirror = passing(&between).await;
    pull(&mirror.user(ALICE), "up/alice/app", "1", &image).await;
    between.set(Mode::Status(500));
    pull(&mirror.user(ALICE), "up/alice/app", "1", &image).await;
    let answer = mirror.user(BOB).get(MANIFEST).send().await.status(502);
    assert!(answer.text().contains(&between.address.to_string()), "{}", answer.text());
    let asked = verdicts(&between);
    between.set(Mode::Forward);
    assert!(matches!(mirror.user(("eve", "x")).get(MANIFEST).send().await.status.as_u16(), 401 | 403 | 404));
    let refused = verdicts(&between);
    mirror.user(("eve", "x")).get(MANIFEST).send().await;
    assert!(refused > asked && verdicts(&between) == refused, "a refusal is remembered for a moment");
}

/// The rules let everybody read. The upstream lets alice alone.
#[tokio::test]
async fn nothing_but_a_pull_shows_what_an_upstream_keeps_private() {
    let (_upstream, between, image) = private_upstream().await;
    let text = format!(
        "[[extensions.sync.registries]]\nurls = ['http://{}']\nonDemand = true\ncredentials = 'client'\nmaxRetries = 0\n\
         content = [{{ prefix = '**', destination = '/up' }}]\n[http.accessControl.repositories.'up/**']\n\
         anonymousPolicy = ['read']\ndefaultPolicy = ['read']\n",
        between.address
    );
    let config = Config::from_toml_str(&text).unwrap().config;
    let builder = Registry::builder().config(config).superuser(ROOT.0, ROOT.1).user(BOB.0, BOB.1);
    let mirror = TestRegistry::start(builder).await;
    let alice = mirror.user(ALICE);
    pull(&alice, "up/alice/app", "1", &image).await;
    let digest = sha256(&content::bytes(&image));
    let layer = image["layers"][0]["digest"].as_str().unwrap();
    for path in [
        "/v2/up/alice/app/tags/list",
        "/api/v1/repository/up/alice/app",
        "/api/v1/repository/up/alice/app/tag/",
        &format!("/api/v1/repository/up/alice/app/manifest/{digest}"),
        "/ui/r/up/alice/app",
        "/ui/r/up/alice/app/-/tag/1",
    ] {
        let answer = mirror.anonymous().get(path).send().await;
        assert_ne!(answer.status, 200, "{path}: {}", answer.text());
        assert!(!answer.text().contains(&digest), "{path}");
    }
    for caller in [mirror.anonymous(), mirror.user(BOB)] {
        for path in ["/v2/_catalog", "/ui/", "/ui/search?q=app", "/api/v1/repository?public=true"] {
            let listed = caller.get(path).send().await.text();
            assert!(!listed.contains("up/alice/app"), "{path}: {listed}");
        }
    }
    let mount = format!("/v2/{}/x/blobs/uploads/?mount={layer}&from=up/alice/app", BOB.0);
    mirror.user(BOB).post(&mount).send().await.status(202);
    // A superuser sees it.
    mirror.user(ROOT).get("/v2/up/alice/app/tags/list").send().await.status(200);
    // A missing tag says nothing about the others.
    alice.get("/v2/up/alice/app/manifests/absent").send().await.status(404);
    alice.get("/v2/up/alice/app/manifests/1").send().await.status(200);
}

#[tokio::test]
async fn an_upstream_that_refuses_head_can_decide() {
    for status in [404, 405] {
        let (_upstream, between, image) = private_upstream().await;
        let mirror = passing(&between).await;
        between.set(Mode::NoHead(status));
        pull(&mirror.user(ALICE), "up/alice/app", "1", &image).await;
        let refused = mirror.user(BOB).get(MANIFEST).send().await.status.as_u16();
        assert!(matches!(refused, 401 | 403 | 404), "{refused}");
        let config = image["config"]["digest"].as_str().unwrap();
        let path = format!("/v2/up/alice/app/blobs/{config}");
        mirror.user(ALICE).head(&path).send().await.status(200);
    }
}

#[tokio::test]
async fn wrong_passwords_for_an_upstream_are_limited_for_each_client_and_user() {
    let (_upstream, between, image) = private_upstream().await;
    let mirror = passing(&between).await;
    pull(&mirror.user(ALICE), "up/alice/app", "1", &image).await;
    let before = between.total();
    let mut limited = 0;
    for number in 0..20 {
        let guesser = mirror.user((ALICE.0, &format!("guess {number}"))).at([127, 0, 0, 2]);
        let path = if number % 2 == 0 { MANIFEST } else { "/v2/auth?scope=repository:up/alice/app:pull" };
        let answer = guesser.get(path).send().await;
        limited += usize::from(answer.status == 429);
        if answer.status == 429 {
            assert!(answer.text().contains("too many wrong passwords for the upstream"), "{}", answer.text());
        }
    }
    assert!(limited >= 10, "{limited} of 20");
    assert!(between.total() - before < 40, "{:?}", between.seen());
    // The right password and other clients do not wait.
    pull(&mirror.user(ALICE), "up/alice/app", "1", &image).await;
    let answer = mirror.user((ALICE.0, "another guess")).get(MANIFEST).send().await;
    assert!(!answer.text().contains("too many wrong passwords for the upstream"), "{}", answer.text());
}

#[tokio::test]
async fn the_access_log_names_the_user_of_the_upstream() {
    let (_upstream, between, image) = private_upstream().await;
    let root = tempfile::tempdir().unwrap();
    let config = format!(
        "[[extensions.sync.registries]]\nurls = ['http://{}']\nonDemand = true\ncredentials = 'client'\n\
         content = [{{ prefix = '**', destination = '/up' }}]\n",
        between.address
    );
    let running = Program::serve_with(root.path(), &config).start();
    pull(&running.user(ALICE), "up/alice/app", "1", &image).await;
    let log = running.stop().stderr;
    let user = format!("user=\"{}/{}\"", between.address, ALICE.0);
    assert!(log.lines().any(|line| line.contains(&user) && line.contains(MANIFEST)), "{log}");
    assert!(!log.contains(ALICE.1), "{log}");
}
