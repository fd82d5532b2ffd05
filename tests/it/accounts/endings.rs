//! When credentials end: with what they were derived from.

use std::path::{Path, PathBuf};
use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::browser::Browser;
use crate::support::http::Caller;
use crate::support::process::{ADMIN, Program, Running};
use crate::support::registry::ALICE;
use crate::support::{TestRegistry, content::push_image};

/// An htpasswd file that a test writes, and a registry that follows it.
struct File {
    root: tempfile::TempDir,
    path: PathBuf,
}

impl File {
    fn new(users: &[(&str, &str)]) -> Self {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("htpasswd");
        let file = Self { root, path };
        file.write(users);
        file
    }

    fn write(&self, users: &[(&str, &str)]) {
        let line = |(name, password): &(&str, &str)| format!("{name}:{}\n", bcrypt::hash(password, 4).unwrap());
        self.replace(users.iter().map(line).collect::<String>().as_bytes());
    }

    /// Replaces the file in one step, as editors do.
    fn replace(&self, content: &[u8]) {
        let new = self.path.with_extension("new");
        std::fs::write(&new, content).unwrap();
        std::fs::rename(new, &self.path).unwrap();
    }

    fn data(&self) -> PathBuf {
        self.root.path().join("data")
    }

    fn serve(&self) -> Running {
        let config = format!("[http.auth.htpasswd]\npath = '{}'\n", self.path.display());
        std::fs::create_dir_all(self.data()).unwrap();
        Program::serve_with(&self.data(), &config).with_admin().start()
    }
}

/// Waits until the registry has read the file so many times since its start.
async fn until_read(running: &Running, times: usize) {
    let read = || running.stderr().matches("the htpasswd file was read again").count();
    for _ in 0..600 {
        if read() >= times {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the file was read {} times: {}", read(), running.stderr());
}

/// The status of the first thing that a client asks.
async fn ping(running: &Running, name: &str, password: &str) -> u16 {
    running.user((name, password)).get("/v2/").send().await.status.as_u16()
}

async fn key(caller: &Caller) -> String {
    let made = caller.post("/zot/auth/apikey").body("{}").send().await.status(201).json();
    made["apiKey"].as_str().unwrap().to_owned()
}

async fn signed_in(running: &Running, name: &str, password: &str) -> Browser {
    let mut browser = Browser::of(running.anonymous()).await;
    browser.sign_in(name, password).await.status(200);
    browser
}

/// The tokens that `docker login` gets for a password.
async fn log_in(caller: &Caller, name: &str, password: &str) -> Value {
    let password = utf8_percent_encode(password, NON_ALPHANUMERIC);
    let form = format!("grant_type=password&username={name}&password={password}&access_type=offline&client_id=test");
    caller.post("/v2/auth").body(form).send().await.status(200).json()
}

async fn refresh(caller: &Caller, refresh_token: &Value) -> crate::support::http::Answer {
    let form = format!("grant_type=refresh_token&refresh_token={}", refresh_token.as_str().unwrap());
    caller.post("/v2/auth").body(form).send().await
}

/// The status of a request with an access token.
async fn by_token(caller: &Caller, answer: &Value) -> u16 {
    let bearer = format!("Bearer {}", answer["access_token"].as_str().unwrap());
    caller.get("/v2/").header("authorization", bearer).send().await.status.as_u16()
}

#[tokio::test]
async fn another_password_in_the_file_ends_what_the_old_one_began_but_keys() {
    let file = File::new(&[("dave", "one"), ("other", "one")]);
    let running = file.serve();
    let (dave, anonymous) = (running.user(("dave", "one")), running.anonymous());
    let key = key(&dave).await;
    let mut session = signed_in(&running, "dave", "one").await;
    let tokens = log_in(&anonymous, "dave", "one").await;
    push_image(&dave, "dave/app", "1", 1).await;
    file.write(&[("dave", "two"), ("other", "one")]);
    until_read(&running, 1).await;
    session.get("/api/v1/user/").await.status(401);
    let made = session.send(session.caller.post("/api/v1/user/apptoken").body(r#"{"title":"x"}"#)).await;
    assert!(made.status.is_client_error(), "{}", made.text());
    assert_eq!(by_token(&anonymous, &tokens).await, 401);
    refresh(&anonymous, &tokens["refresh_token"]).await.status(401);
    dave.get("/v2/").send().await.status(401);
    running.user(("dave", &key)).get("/v2/dave/app/manifests/1").send().await.status(200);
    running.user(("dave", "two")).get("/v2/dave/app/manifests/1").send().await.status(200);
}

#[tokio::test]
async fn a_namesake_of_a_removed_user_of_the_file_inherits_nothing() {
    let file = File::new(&[("dave", "one"), ("dora", "one"), ("other", "one")]);
    let mut running = file.serve();
    for (name, was_stopped, reads) in [("dave", false, 0), ("dora", true, 2)] {
        let user = running.user((name, "one"));
        let key = key(&user).await;
        let mut session = signed_in(&running, name, "one").await;
        let tokens = log_in(&running.anonymous(), name, "one").await;
        push_image(&user, &format!("{name}/app"), "1", 1).await;
        let others = [("dave", "one"), ("dora", "one"), ("other", "one")].into_iter().filter(|user| user.0 != name);
        file.write(&others.collect::<Vec<_>>());
        until_read(&running, reads + 1).await;
        assert_eq!(ping(&running, name, &key).await, 401);
        running.wait_for(&format!("unless the line comes back user=\"{name}\""));
        let remove = || Program::new(["user", "remove", name, "--root"]).arg(file.data()).run();
        if was_stopped {
            running.stop();
            assert_eq!(remove().code, Some(0));
            running = file.serve();
            session.caller = running.anonymous();
        } else {
            let removed = remove();
            assert_eq!(removed.code, Some(0), "{}", removed.stderr);
        }
        // Even with the same password.
        file.write(&[("dave", "one"), ("dora", "one"), ("other", "one")]);
        until_read(&running, if was_stopped { 1 } else { reads + 2 }).await;
        assert_eq!(ping(&running, name, "one").await, 200);
        assert_eq!(ping(&running, name, &key).await, 401);
        session.get("/api/v1/user/").await.status(401);
        assert_eq!(by_token(&running.anonymous(), &tokens).await, 401);
        running.user((name, "one")).get(&format!("/v2/{name}/app/manifests/1")).send().await.status(403);
    }
}

#[tokio::test]
async fn a_user_whose_line_is_missing_for_a_moment_loses_nothing() {
    let file = File::new(&[("dave", "one"), ("other", "one")]);
    let running = file.serve();
    let dave = running.user(("dave", "one"));
    let key = key(&dave).await;
    let mut session = signed_in(&running, "dave", "one").await;
    push_image(&dave, "dave/app", "1", 1).await;
    let whole = std::fs::read(&file.path).unwrap();
    std::fs::write(&file.path, "").unwrap();
    until_read(&running, 1).await;
    running.wait_for("unless the line comes back user=\"dave\"");
    assert_eq!([ping(&running, "dave", &key).await, ping(&running, "dave", "one").await], [401, 401]);
    session.get("/api/v1/user/").await.status(401);
    // The registry reads the file twice more, and the line is still missing.
    for (content, times) in [("\n", 2), ("\n\n", 3)] {
        file.replace(content.as_bytes());
        until_read(&running, times).await;
    }
    file.replace(&whole);
    until_read(&running, 4).await;
    running.wait_for("keeps everything user=\"dave\"");
    assert_eq!([ping(&running, "dave", &key).await, ping(&running, "other", "one").await], [200, 200]);
    session.get("/api/v1/user/").await.status(200);
    push_image(&running.user(("dave", &key)), "dave/app", "2", 2).await;
}

#[tokio::test]
async fn a_namesake_with_another_password_gets_no_credentials_of_a_user_who_left_the_file() {
    let file = File::new(&[("dave", "one"), ("other", "one")]);
    let running = file.serve();
    let key = key(&running.user(("dave", "one"))).await;
    let mut session = signed_in(&running, "dave", "one").await;
    let tokens = log_in(&running.anonymous(), "dave", "one").await;
    file.write(&[("other", "one")]);
    running.wait_for("unless the line comes back user=\"dave\"");
    file.write(&[("dave", "two"), ("other", "one")]);
    running.wait_for("the line was missing");
    until_read(&running, 2).await;
    assert_eq!([ping(&running, "dave", &key).await, ping(&running, "dave", "two").await], [401, 200]);
    session.get("/api/v1/user/").await.status(401);
    assert_eq!(by_token(&running.anonymous(), &tokens).await, 401);
}

#[tokio::test]
async fn a_user_of_the_file_is_not_replaced_by_a_command_that_does_not_know_the_file() {
    let file = File::new(&[("dave", "one"), ("other", "one")]);
    let running = file.serve();
    let dave = running.user(("dave", "one"));
    let key = key(&dave).await;
    push_image(&dave, "dave/app", "1", 1).await;
    running.stop();
    let add = || Program::new(["user", "add", "dave", "--root"]).arg(file.data()).run();
    let added = add();
    assert_eq!(added.code, Some(1), "{}", added.stdout);
    assert!(added.stderr.contains("is kept in the htpasswd file"), "{}", added.stderr);
    let running = file.serve();
    assert_eq!(ping(&running, "dave", &key).await, 200);
    running.user(("dave", &key)).get("/v2/dave/app/manifests/1").send().await.status(200);
    // A user who has left the file makes room at once.
    file.write(&[("other", "one")]);
    until_read(&running, 1).await;
    running.wait_for("unless the line comes back user=\"dave\"");
    let added = add();
    assert_eq!(added.code, Some(0), "{}", added.stderr);
    let password = added.stdout.trim();
    assert_eq!([ping(&running, "dave", &key).await, ping(&running, "dave", password).await], [401, 200]);
    running.user(("dave", password)).get("/v2/dave/app/manifests/1").send().await.status(403);
}

#[tokio::test]
async fn a_password_that_changed_while_the_registry_was_stopped_ends_keys_too() {
    let file = File::new(&[("erin", "one"), ("other", "one")]);
    let running = file.serve();
    let erin = running.user(("erin", "one"));
    let (erins, others) = (key(&erin).await, key(&running.user(("other", "one"))).await);
    push_image(&erin, "erin/app", "1", 1).await;
    running.stop();
    let other = std::fs::read_to_string(&file.path).unwrap().lines().nth(1).unwrap().to_owned();
    file.write(&[("erin", "two")]);
    let erin = std::fs::read_to_string(&file.path).unwrap();
    std::fs::write(&file.path, format!("{erin}{other}\n")).unwrap();
    let running = file.serve();
    assert_eq!(ping(&running, "erin", &erins).await, 401);
    assert_eq!(ping(&running, "other", &others).await, 200);
    running.user(("erin", "two")).get("/v2/erin/app/manifests/1").send().await.status(200);
    running.wait_for("changed while the registry was stopped");
}

#[tokio::test]
async fn a_file_that_is_half_written_removes_nobody() {
    let file = File::new(&[("dave", "one"), ("other", "one")]);
    let running = file.serve();
    let key = key(&running.user(("dave", "one"))).await;
    let whole = std::fs::read(&file.path).unwrap();
    // A line that cannot be understood names the user still.
    std::fs::write(&file.path, "dave:not a hash\n").unwrap();
    until_read(&running, 1).await;
    assert_eq!(ping(&running, "dave", &key).await, 401);
    running.wait_for("ignored a line of the htpasswd file");
    std::fs::write(&file.path, &whole).unwrap();
    until_read(&running, 2).await;
    assert_eq!(ping(&running, "dave", &key).await, 200);
}

#[tokio::test]
async fn an_access_token_ends_with_the_refresh_token_that_it_came_from() {
    let t = TestRegistry::with_users().await;
    let (alice, anonymous) = (t.user(ALICE), t.anonymous());
    let first = log_in(&anonymous, ALICE.0, ALICE.1).await;
    let second = log_in(&anonymous, ALICE.0, ALICE.1).await;
    let refreshed = refresh(&anonymous, &first["refresh_token"]).await.status(200).json();
    let direct = alice.get("/v2/auth?account=alice&scope=repository:alice/x:pull").send().await.status(200).json();
    for token in [&first, &second, &refreshed, &direct] {
        assert_eq!(by_token(&anonymous, token).await, 200);
    }
    let mut browser = Browser::signed_in(&t, ALICE).await;
    let list = browser.get("/api/v1/user/refreshtoken").await.status(200).json();
    let id = list["tokens"][0]["uuid"].as_str().unwrap();
    browser.send(browser.caller.delete(&format!("/api/v1/user/refreshtoken/{id}"))).await.status(204);
    assert_eq!([by_token(&anonymous, &first).await, by_token(&anonymous, &refreshed).await], [401, 401]);
    assert_eq!([by_token(&anonymous, &second).await, by_token(&anonymous, &direct).await], [200, 200]);
}

#[tokio::test]
async fn signing_out_without_a_session_says_that_nothing_has_ended() {
    let t = TestRegistry::with_users().await;
    let key = key(&t.user(ALICE)).await;
    let token = t.user(ALICE).get("/v2/auth?scope=repository:alice/x:pull").send().await.status(200).json();
    let bearer = |secret: &str| format!("Bearer {secret}");
    for path in ["/zot/auth/logout", "/auth/logout", "/api/v1/signout"] {
        for secret in [key.as_str(), token["token"].as_str().unwrap()] {
            let answer = t.anonymous().post(path).header("authorization", bearer(secret)).send().await;
            assert!(answer.status.is_client_error(), "{path}: {}", answer.text());
        }
    }
    t.user(ALICE).post("/zot/auth/logout").send().await.error(403, "DENIED");
    t.anonymous().get("/v2/").header("authorization", bearer(&key)).send().await.status(200);
    // A caller without a session is signed out already, and a caller with one is signed out then.
    t.anonymous().post("/zot/auth/logout").send().await.status(200);
    let mut browser = Browser::signed_in(&t, ALICE).await;
    let cookie = browser.cookie.clone().unwrap();
    t.anonymous().post("/zot/auth/logout").header("cookie", cookie).send().await.status(200);
    browser.get("/api/v1/user/").await.status(401);
}

#[tokio::test]
async fn a_user_who_is_disabled_has_nothing_that_counts() {
    let root = tempfile::tempdir().unwrap();
    let running = Program::serve(root.path()).with_admin().start();
    let anonymous = running.anonymous();
    let tokens = log_in(&anonymous, ADMIN.0, ADMIN.1).await;
    assert_eq!(by_token(&anonymous, &tokens).await, 200);
    disable(root.path());
    assert_eq!(by_token(&anonymous, &tokens).await, 401);
    refresh(&anonymous, &tokens["refresh_token"]).await.status(401);
    running.user(ADMIN).get("/v2/").send().await.status(401);
}

fn disable(root: &Path) {
    let done = Program::new(["user", "disable", "--force", ADMIN.0, "--root"]).arg(root).run();
    assert_eq!(done.code, Some(0), "{}", done.stderr);
}
