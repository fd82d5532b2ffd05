//! `coracle login` and `coracle logout` with a password, against real registries: the files of docker and podman, and
//! what remains after a failure.

use std::io::{Read as _, Write as _};
use std::process::Stdio;
use std::time::Duration;

use coracle::config::Config;
use coracle::{AccessPolicy, Registry};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use super::person::{Person, keys};
use crate::clients::home::needs;
use crate::support::TestRegistry;
use crate::support::content::{noise, push_blob, push_image};
use crate::support::http::Caller;
use crate::support::registry::{ALICE, BOB};

/// `127.0.0.1:<port>`, as docker and podman name it.
fn host(t: &TestRegistry) -> String {
    t.running.address().to_string()
}

async fn login(person: &Person, t: &TestRegistry, more: &[&str]) -> crate::support::process::Finished {
    let host = host(t);
    let arguments = [&["login", &host, "--username", ALICE.0, "--password-stdin"], more].concat();
    person.run(&arguments, ALICE.1).await
}

/// The number of alice's sessions other than the one of this request.
async fn other_sessions(t: &TestRegistry) -> usize {
    let visit = t.anonymous().get("/csrf_token").send().await.status(200);
    let cookie = |answer: &crate::support::http::Answer| {
        answer.header("set-cookie").unwrap().split(';').next().unwrap().to_owned()
    };
    let token = visit.json()["csrf_token"].as_str().unwrap().to_owned();
    let body = json!({ "username": ALICE.0, "password": ALICE.1 }).to_string();
    let signin = t.anonymous().post("/api/v1/signin").header("cookie", cookie(&visit)).header("x-csrf-token", token);
    let session = cookie(&signin.body(body).send().await.status(200));
    let listed = t.anonymous().get("/api/v1/user/sessions").header("cookie", session).send().await.status(200);
    listed.json()["sessions"].as_array().unwrap().len() - 1
}

#[tokio::test]
async fn docker_and_podman_get_a_key_that_is_limited_and_ends_and_logout_revokes_it() {
    let (t, person) = (TestRegistry::with_users().await, Person::new());
    let done = login(&person, &t, &["--scope", "alice/app:pull", "--expires", "1h", "--label", "my laptop"]).await;
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let host = host(&t);
    assert_eq!(done.stdout, format!("signed in to {host} as alice\n"));

    let [docker, podman] = [person.docker(), person.podman()].map(|file| person.entry(&file, &host).unwrap());
    assert_eq!(docker, podman);
    let (user, key) = docker;
    assert_eq!(user, "alice");
    assert!(key.starts_with("zak_") && key.len() == 36, "{key}");
    assert!(!format!("{}{}", done.stdout, done.stderr).contains(&key[4..]), "the key is shown");
    let made = keys(&t.user(ALICE)).await;
    assert_eq!(made.len(), 1, "{made:?}");
    assert_eq!((&made[0]["label"], &made[0]["scopes"]), (&json!("my laptop"), &json!(["alice/app:pull"])));
    let time = |name: &str| made[0][name].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    let lifetime = time("expirationDate").duration_since(time("createdAt"));
    assert_eq!((lifetime.as_millis() + 500) / 1000, 3600);
    assert_eq!(other_sessions(&t).await, 0, "the session in which the key was made has not ended");

    // It opens what it is for, and nothing else.
    let digest = push_blob(&t.user(ALICE), "alice/app", &noise(100, 1)).await;
    let by_key = Caller::new(t.running.address(), Some((&user, &key)));
    by_key.get(&format!("/v2/alice/app/blobs/{digest}")).send().await.status(200);
    by_key.post("/v2/alice/app/blobs/uploads/").send().await.status(403);

    let done = person.run(&["logout", &host], "").await;
    assert_eq!((done.code, done.stdout), (Some(0), format!("signed out of {host}\n")), "{}", done.stderr);
    assert!(keys(&t.user(ALICE)).await.is_empty());
    by_key.get(&format!("/v2/alice/app/blobs/{digest}")).send().await.status(401);
    for file in [person.docker(), person.podman()] {
        assert_eq!(person.entry(&file, &host), None);
    }
    let done = person.run(&["logout", &host], "").await;
    assert_eq!(done.code, Some(1), "not logged in: {}", done.stdout);
}

#[tokio::test]
async fn skopeo_pushes_with_it() {
    needs!(SKOPEO);
    let (t, person) = (TestRegistry::with_users().await, Person::new());
    assert_eq!(login(&person, &t, &[]).await.code, Some(0));
    let label = keys(&t.user(ALICE)).await[0]["label"].as_str().unwrap().to_owned();
    assert!(label.strip_prefix("coracle login on ").is_some_and(|machine| !machine.is_empty()), "{label}");
    push_image(&t.user(ALICE), "alice/app", "1", 1).await;
    let at = |tag: &str| format!("docker://{}/alice/app:{tag}", host(&t));
    let mut skopeo = tokio::process::Command::new("skopeo");
    skopeo.args(["--insecure-policy", "copy", "--src-tls-verify=false", "--dest-tls-verify=false"]);
    skopeo.args([at("1"), at("2")]).envs(person.environment());
    let done = tokio::time::timeout(Duration::from_mins(1), skopeo.output()).await.unwrap().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    t.user(ALICE).get("/v2/alice/app/manifests/2").send().await.status(200);
}

#[tokio::test]
async fn a_key_is_good_for_90_days_and_for_no_longer_than_it_may_be() {
    for (settings, days) in [("", 90), ("http.auth.keys.maxLifetime = '240h'", 10)] {
        let config = Config::from_toml_str(settings).unwrap().config;
        let t = TestRegistry::start(Registry::builder().config(config).user(ALICE.0, ALICE.1)).await;
        let person = Person::new();
        let done = login(&person, &t, &[]).await;
        assert_eq!(done.code, Some(0), "{settings}: {}", done.stderr);
        let made = &keys(&t.user(ALICE)).await[0];
        let time = |name: &str| made[name].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
        let lifetime = time("expirationDate").duration_since(time("createdAt"));
        assert_eq!((lifetime.as_secs() + 43_200) / 86_400, days, "{settings}");
    }
}

#[tokio::test]
async fn signing_in_again_ends_the_key_from_before_and_no_other() {
    let (t, person) = (TestRegistry::with_users().await, Person::new());
    let other = t.user(ALICE).post("/zot/auth/apikey").body("{}").send().await.status(201).json();
    assert_eq!(login(&person, &t, &[]).await.code, Some(0));
    let (_, first) = person.entry(&person.podman(), &host(&t)).unwrap();
    assert_eq!(login(&person, &t, &[]).await.code, Some(0));
    let (_, second) = person.entry(&person.podman(), &host(&t)).unwrap();
    assert_ne!(first, second);
    let by = |key: &str| t.user(("alice", key)).get("/v2/");
    by(&first).send().await.status(401);
    by(&second).send().await.status(200);

    // A key that came there in another way is replaced, and stay valid: it may be anybody's.
    let other = other["apiKey"].as_str().unwrap().to_owned();
    let entry = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, format!("alice:{other}"));
    for file in [person.docker(), person.podman()] {
        person.write(&file, &json!({ "auths": { host(&t): { "auth": entry } } }).to_string());
    }
    assert_eq!(login(&person, &t, &[]).await.code, Some(0));
    by(&other).send().await.status(200);
    // The same holds for logout.
    for file in [person.docker(), person.podman()] {
        person.write(&file, &json!({ "auths": { host(&t): { "auth": entry } } }).to_string());
    }
    let done = person.run(&["logout", &host(&t)], "").await;
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert!(done.stderr.contains("stay valid"), "{}", done.stderr);
    by(&other).send().await.status(200);
    assert_eq!(person.entry(&person.docker(), &host(&t)), None);
}

#[tokio::test]
async fn logins_at_two_registries_are_independent() {
    let (one, two, person) = (TestRegistry::with_users().await, TestRegistry::with_users().await, Person::new());
    for t in [&one, &two] {
        assert_eq!(login(&person, t, &[]).await.code, Some(0));
    }
    let none_named = person.run(&["logout"], "").await;
    assert_eq!(none_named.code, Some(2), "which of the two is not said: {}", none_named.stdout);
    assert!(none_named.stderr.contains("logged in to 127.0.0.1:"), "{}", none_named.stderr);
    assert!(none_named.stderr.ends_with(": name one\n"), "{}", none_named.stderr);
    assert_eq!(person.run(&["logout", &host(&one)], "").await.code, Some(0));
    assert!(keys(&one.user(ALICE)).await.is_empty());
    let (_, key) = person.entry(&person.docker(), &host(&two)).unwrap();
    two.user(("alice", &key)).get("/v2/").send().await.status(200);
    // Only one login is left.
    assert_eq!(person.run(&["logout"], "").await.code, Some(0));
    assert!(keys(&two.user(ALICE)).await.is_empty());
}

#[tokio::test]
async fn what_is_refused_leaves_nothing_behind() {
    let (t, person) = (TestRegistry::with_users().await, Person::new());
    let host = host(&t);
    let user = ["login", &host, "--username", "alice", "--password-stdin"];
    for (arguments, input, code, said) in [
        (&user[..], "wrong", 1, "Password"),
        (&user[..], "", 1, "standard input is empty"),
        (&[&user[..], &["--scope", "Not/A/Scope"]].concat(), ALICE.1, 2, "has the character 'N'"),
        (&[&user[..], &["--scope", "alice/app:swim"]].concat(), ALICE.1, 2, "the scope"),
        (&[&user[..], &["--scope", "alice/{app"]].concat(), ALICE.1, 2, "has an unclosed brace"),
        (&[&user[..], &["--provider", "oidc"]].concat(), ALICE.1, 2, "--provider"),
        (&["login", &host, "--provider", "oidc"], "", 2, "no providers"),
        (&["login", &host, "--device"], "", 2, "no providers"),
        (&["login", &host, "--password-stdin"], ALICE.1, 2, "--username"),
        (&["login", &format!("{host}/alice/app")], "", 2, "path"),
        (&["login", "http://registry.example", "--username", "alice", "--password-stdin"], "x", 2, "--insecure-http"),
        (&["login", &host, "--expires", "0s"], "", 2, "at least one second"),
    ] {
        let done = person.run(arguments, input).await;
        assert_eq!(done.code, Some(code), "{arguments:?}: {}{}", done.stdout, done.stderr);
        assert!(done.stderr.contains(said), "{arguments:?}: {}", done.stderr);
        assert_eq!(done.stdout, "");
    }
    assert!(keys(&t.user(ALICE)).await.is_empty());
    assert_eq!(other_sessions(&t).await, 0);
    assert!(!person.docker().exists() && !person.podman().exists() && !person.path("config/coracle").exists());
}

#[tokio::test]
async fn another_registry_is_refused_with_a_hint() {
    let person = Person::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let other = listener.local_addr().unwrap().to_string();
    let answering = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 4096];
        let _ = stream.read(&mut request).unwrap();
        let page = "<html>\u{1b}[2J nothing here";
        write!(stream, "HTTP/1.1 404 Not Found\r\nContent-Length: {}\r\n\r\n{page}", page.len()).unwrap();
    });
    let done = person.run(&["login", &other, "--username", "a", "--password-stdin"], "b").await;
    answering.join().unwrap();
    assert_eq!(done.code, Some(1));
    assert!(done.stderr.contains("not a coracle registry"), "{}", done.stderr);
    // No program listens there any more.
    let done = person.run(&["login", &other, "--username", "a", "--password-stdin"], "b").await;
    assert_eq!(done.code, Some(1));
    assert!(done.stderr.contains("cannot be reached"), "{}", done.stderr);
}

#[tokio::test]
async fn without_the_registry_a_key_is_removed_only_with_local() {
    let (t, person) = (TestRegistry::with_users().await, Person::new());
    assert_eq!(login(&person, &t, &[]).await.code, Some(0));
    let host = host(&t);
    t.running.shutdown().await;
    let done = person.run(&["logout", &host], "").await;
    assert_eq!(done.code, Some(1), "{}", done.stdout);
    assert!(done.stderr.contains("--local"), "{}", done.stderr);
    assert!(person.entry(&person.docker(), &host).is_some());
    let done = person.run(&["logout", &host, "--local"], "").await;
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert!(done.stderr.contains("was not revoked"), "{}", done.stderr);
    assert_eq!(person.entry(&person.docker(), &host), None);
}

#[tokio::test]
async fn an_untrusted_certificate_is_refused_and_ca_trusts_it() {
    let files = tempfile::tempdir().unwrap();
    crate::tls::certify(files.path());
    let at = files.path().display();
    let config = format!("[http]\ntls.cert = '{at}/cert.pem'\ntls.key = '{at}/key.pem'\n");
    let config = Config::from_toml_str(&config).unwrap().config;
    let builder = Registry::builder().config(config).policy(AccessPolicy::Owners).user(ALICE.0, ALICE.1);
    let (t, person) = (TestRegistry::start(builder).await, Person::new());
    let url = format!("https://localhost:{}", t.running.address().port());
    let arguments = ["login", &url, "--username", ALICE.0, "--password-stdin"];
    let done = person.run(&arguments, ALICE.1).await;
    assert_eq!(done.code, Some(1), "{}", done.stdout);
    let why = "is not trusted (self-signed, or signed by an unknown authority): name it with --ca FILE";
    assert!(done.stderr.contains(why), "{}", done.stderr);
    let ca = format!("{at}/cert.pem");
    let done = person.run(&[&arguments[..], &["--ca", &ca]].concat(), ALICE.1).await;
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    // A name without a scheme means HTTPS too, as --ca requires.
    let name = &url["https://".len()..];
    let by_name = ["login", name, "--username", ALICE.0, "--password-stdin", "--ca"];
    let done = person.run(&[&by_name[..], &[&ca]].concat(), ALICE.1).await;
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let done = person.run(&[&by_name[..], &["/nowhere/ca.pem"]].concat(), ALICE.1).await;
    assert!(done.code == Some(1) && done.stderr.contains("/nowhere/ca.pem"), "{}", done.stderr);
    let plain = format!("http://{name}");
    let done = person.run(&["login", &plain, "--username", "a", "--password-stdin", "--ca", &ca], "x").await;
    assert!(done.code == Some(2) && done.stderr.contains("--ca requires HTTPS"), "{}", done.stderr);
    assert!(person.entry(&person.docker(), &url["https://".len()..]).is_some());
    // Logout uses the file of --ca again.
    let done = person.run(&["logout"], "").await;
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert!(done.stderr.contains("was revoked"), "{}", done.stderr);
}

/// A program at a pseudo-terminal, and what the terminal shows.
struct AtTerminal {
    child: std::process::Child,
    shown: std::sync::Arc<std::sync::Mutex<Vec<u8>>>,
}

impl AtTerminal {
    fn run(person: &Person, command: &str) -> Self {
        let mut script = std::process::Command::new("script");
        script.args(["--quiet", "--flush", "--return", "--command", command, "/dev/null"]).envs(person.environment());
        let mut child = script.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let (mut out, shown) = (child.stdout.take().unwrap(), std::sync::Arc::default());
        let seen: std::sync::Arc<std::sync::Mutex<Vec<u8>>> = std::sync::Arc::clone(&shown);
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = out.read(&mut buffer) {
                seen.lock().unwrap().extend_from_slice(&buffer[..count]);
            }
        });
        Self { child, shown }
    }

    fn shown(&self) -> String {
        String::from_utf8_lossy(&self.shown.lock().unwrap()).into_owned()
    }

    async fn wait_for(&self, text: &str) {
        for _ in 0..3000 {
            if self.shown().contains(text) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{text:?} is not shown: {}", self.shown());
    }

    fn types(&mut self, text: &str) {
        self.child.stdin.as_mut().unwrap().write_all(text.as_bytes()).unwrap();
    }

    async fn ends(mut self) -> (Option<i32>, String) {
        for _ in 0..3000 {
            if let Some(status) = self.child.try_wait().unwrap() {
                tokio::time::sleep(Duration::from_millis(50)).await;
                return (status.code(), self.shown());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.child.kill().unwrap();
        panic!("it does not end: {}", self.shown());
    }
}

#[tokio::test]
async fn at_a_terminal_name_and_password_are_asked_for_and_the_password_is_not_shown() {
    let (t, person) = (TestRegistry::with_users().await, Person::new());
    let command = format!("{} login {}; stty -a", env!("CARGO_BIN_EXE_coracle"), host(&t));
    let mut terminal = AtTerminal::run(&person, &command);
    terminal.wait_for(&format!("Name at {}: ", host(&t))).await;
    terminal.types("bob\n");
    terminal.wait_for("Password: ").await;
    // The question is shown after the terminal was made quiet.
    terminal.types(&format!("{}\n", BOB.1));
    let (_, shown) = terminal.ends().await;
    assert!(shown.contains(&format!("signed in to {} as bob", host(&t))), "{shown}");
    assert!(!shown.contains(BOB.1), "the password is shown: {shown}");
    assert!(shown.contains(" echo ") && !shown.contains(" -echo "), "the terminal stays quiet: {shown}");
    assert_eq!(keys(&t.user(BOB)).await.len(), 1);
}

#[tokio::test]
async fn whoever_goes_away_at_the_password_leaves_a_terminal_that_works_and_nothing_else() {
    let (t, person) = (TestRegistry::with_users().await, Person::new());
    // The shell goes on after it, so that it can be seen what the terminal is like.
    let program = env!("CARGO_BIN_EXE_coracle");
    let command = format!("trap : INT; {program} login {} --username alice; echo code $?; stty -a", host(&t));
    let mut terminal = AtTerminal::run(&person, &command);
    terminal.wait_for("Password: ").await;
    terminal.types("half a pass\u{3}");
    let (_, shown) = terminal.ends().await;
    assert!(shown.contains("interrupted") && shown.contains("code 1"), "{shown}");
    assert!(shown.contains(" echo ") && !shown.contains(" -echo "), "the terminal stays quiet: {shown}");
    assert!(keys(&t.user(ALICE)).await.is_empty());
    assert!(!person.docker().exists());
}

#[tokio::test]
async fn without_a_terminal_one_is_told_what_to_do() {
    let (t, person) = (TestRegistry::with_users().await, Person::new());
    let done = {
        use std::os::unix::process::CommandExt as _;
        let mut command = std::process::Command::new("setsid");
        command.args(["--wait", env!("CARGO_BIN_EXE_coracle"), "login", &host(&t), "--username", "alice"]);
        command.envs(person.environment()).stdin(Stdio::null()).process_group(0);
        tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
    };
    assert_eq!(done.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&done.stderr).contains("--password-stdin"));
}

/// A program that keeps credentials, has none, and takes its time to store one.
const SLOW_HELPER: &str = "#!/bin/sh
cat > /dev/null
[ \"$1\" = store ] || { echo 'credentials not found in native keychain'; exit 1; }
echo $$ > \"$HOME/.storing\" && mv \"$HOME/.storing\" \"$HOME/storing\"
exec sleep 600
";

#[tokio::test]
async fn whoever_goes_away_while_the_key_is_stored_leaves_no_key() {
    let (t, person) = (TestRegistry::with_users().await, Person::new());
    person.write(&person.docker(), "{\"credsStore\": \"slow\"}");
    person.install("docker-credential-slow", SLOW_HELPER);
    let host = host(&t);
    let running = person.coracle(&["login", &host, "--username", "alice", "--password-stdin"]).input(ALICE.1).spawn();
    let storing = person.path("storing");
    for _ in 0..12_000 {
        if storing.exists() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(storing.exists(), "the helper does not store");
    assert_eq!(keys(&t.user(ALICE)).await.len(), 1, "the key is there, and is being stored");
    running.signal(Signal::INT);
    let done = tokio::task::spawn_blocking(move || running.finish()).await.unwrap();
    assert_eq!(done.code, Some(1), "{}", done.stderr);
    assert!(keys(&t.user(ALICE)).await.is_empty(), "{}", done.stderr);
    assert_eq!(other_sessions(&t).await, 0);
    // Nor does the helper go on.
    let helper: i32 = std::fs::read_to_string(storing).unwrap().trim().parse().unwrap();
    let mut gone = false;
    for _ in 0..1000 {
        gone = kill_process(Pid::from_raw(helper).unwrap(), Signal::CONT).is_err();
        if gone {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(gone, "the helper is still there");
}
