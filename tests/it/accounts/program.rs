//! `coracle user` and `coracle apikey`, with a running and a stopped registry.

use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use crate::support::process::{ADMIN, Program};

#[tokio::test]
async fn users_and_keys_are_managed_beside_a_running_registry_and_without_one() {
    let root = tempfile::tempdir().unwrap();
    let running = Program::serve(root.path()).with_admin().start();
    let coracle = |arguments: &[&str]| {
        let done = Program::new(arguments).arg("--root").arg(root.path()).run();
        assert_eq!(done.code, Some(0), "{arguments:?}: {}", done.stderr);
        done.stdout.trim().to_owned()
    };
    let password = coracle(&["user", "add", "carol", "--groups", "dev,ops"]);
    assert_eq!(password.len(), 20);
    let key =
        coracle(&["apikey", "create", "--user", "carol", "--label", "ci", "--scope", "carol/**", "--expires", "30d"]);
    let by_key = running.user(("carol", &key));
    by_key.get("/v2/").send().await.status(200);
    assert!(coracle(&["user", "list"]).contains("carol"));
    coracle(&["user", "disable", "carol"]);
    by_key.get("/v2/").send().await.status(401);
    // The password is right, and has not been verified before. What was refused now works later.
    let by_password = running.user(("carol", &password));
    by_password.get("/v2/").send().await.status(401);
    coracle(&["user", "enable", "carol"]);
    by_key.get("/v2/").send().await.status(200);
    by_password.get("/v2/").send().await.status(200);
    running.stop();

    // The registry rests, and the same commands open its directory.
    let keys: serde_json::Value =
        serde_json::from_str(&coracle(&["apikey", "list", "--user", "carol", "--json"])).unwrap();
    let (id, used) = (keys["keys"][0]["id"].as_str().unwrap(), &keys["keys"][0]["last_used"]);
    assert!(used.is_u64(), "the last use was not written down: {keys}");
    coracle(&["apikey", "revoke", id]);
    let changed = coracle(&["user", "passwd", "carol"]);
    assert_ne!(changed, password);
    let again = Program::serve(root.path()).start();
    again.user(("carol", &key)).get("/v2/").send().await.status(401);
    again.user(("carol", &changed)).get("/v2/").send().await.status(200);
    again.user(ADMIN).get("/v2/").send().await.status(200);

    let failed = Program::new(["user", "add", "carol", "--root"]).arg(root.path()).run();
    assert_eq!((failed.code, failed.stderr.trim()), (Some(1), "coracle: there is a user carol already"));
    let mode = |file: &str| {
        use std::os::unix::fs::MetadataExt as _;
        root.path().join(file).metadata().unwrap().mode() & 0o777
    };
    assert_eq!(mode("admin.sock"), 0o600);
}

#[tokio::test]
async fn silent_connections_do_not_delay_a_command() {
    let root = tempfile::tempdir().unwrap();
    let running = Program::serve(root.path()).with_admin().start();
    let connect = |_| UnixStream::connect(root.path().join("admin.sock")).unwrap();
    let silent: Vec<_> = (0..20).map(connect).collect();
    let begun = Instant::now();
    let listed = Program::new(["user", "list", "--root"]).arg(root.path()).run();
    assert_eq!(listed.code, Some(0), "{listed:?}");
    // A silent connection is closed after 10 s.
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    drop(silent);
    running.stop();
}

#[tokio::test]
async fn a_command_that_is_too_long_says_so() {
    let root = tempfile::tempdir().unwrap();
    let running = Program::serve(root.path()).with_admin().start();
    // The second one does not fit into the buffer of the socket.
    for count in [900, 4000] {
        let create = Program::new(["apikey", "create", "--user", "admin", "--label", "ci", "--root"]).arg(root.path());
        let scope = |number| ["--scope".to_owned(), format!("admin/{number}/{}", "s".repeat(80))];
        let scopes: Vec<_> = (0..count).flat_map(scope).collect();
        let scopes: Vec<_> = scopes.iter().map(String::as_str).collect();
        let refused = create.args(&scopes).run();
        let why = "coracle: the command has more than 64 KiB: give fewer names, or patterns such as team/**";
        assert_eq!((refused.code, refused.stderr.trim()), (Some(1), why));
    }
    running.stop();
}

#[tokio::test]
async fn users_of_an_htpasswd_file_come_and_go_with_the_file() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("htpasswd");
    // bcrypt, cost 4, of "secret": made by the same library that Apache's tool is compared with.
    let line = |user: &str| format!("{user}:{}\n", bcrypt_of_secret());
    std::fs::write(&file, format!("# users\n{}weak:{{SHA}}abc\n", line("dave"))).unwrap();
    let config = format!("[http.auth.htpasswd]\npath = {file:?}\n");
    let running = Program::serve_with(root.path(), &config).with_admin().start();
    let key = running.user(("dave", "secret")).post("/zot/auth/apikey").body("{}").send().await.status(201).json();
    let by_key = running.user(("dave", key["apiKey"].as_str().unwrap()));
    by_key.get("/v2/").send().await.status(200);
    running.user(("weak", "secret")).get("/v2/").send().await.status(401);

    // Renamed into place, as editors do it; noticed within a second or so.
    let new = root.path().join("htpasswd.new");
    std::fs::write(&new, line("erin")).unwrap();
    std::fs::rename(&new, &file).unwrap();
    let mut seen = 0;
    for _ in 0..100 {
        seen = by_key.get("/v2/").send().await.status.as_u16();
        if seen == 401 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(seen, 401, "a user who is gone from the file still gets in with a key");
    running.user(("erin", "secret")).get("/v2/").send().await.status(200);
}

/// A hash as `htpasswd -nbB` writes it.
fn bcrypt_of_secret() -> String {
    bcrypt::hash("secret", 4).unwrap()
}
