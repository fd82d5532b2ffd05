//! No secret is left in the database and other files, in the log, in answers, figures and lists, or in what `{:?}`
//! shows: secrets are planted wherever one can be given, and looked for in every form.

mod bodies;
mod debug;
mod search;
mod tokens;

use std::path::Path;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use super::browser::Browser;
use crate::support::content::push_image;
use crate::support::http::{Answer, Caller, Request};
use crate::support::process::{Program, Running};
use crate::tls::{certify, connect};
use search::Search;

/// Passwords that people have chosen. They are written differently in JSON, in a URL and by `{:?}`.
const ADMINS: &str = "adm1n\"pl\\anted%20&+=ü";
const DORAS: [&str; 4] = ["d0ra-first<planted>", "d0ra-second'planted'", "d0ra-third\\planted", "d0ra-fourth/planted"];
const FILED: &str = "f1led-planted|password";

/// A key of the right form that was never created.
const UNKNOWN_KEY: &str = "zak_1234abcd1234abcd1234abcd1234abcd";

/// Labels are no secrets: what the search has to find.
const LABEL: &str = "label-that-may-be-found";

/// A key or password that an answer shows.
fn text<'a>(answer: &'a Value, field: &str) -> &'a str {
    answer[field].as_str().unwrap_or_else(|| panic!("{field} in {answer}"))
}

/// The value of the session's cookie in a `Cookie` header.
fn id(browser: &Browser) -> &str {
    browser.cookie.as_deref().unwrap().strip_prefix("session=").unwrap()
}

/// The secrets of a browser session.
async fn signed_in(search: &mut Search, caller: Caller, name: &str, password: &str) -> Browser {
    let mut browser = Browser::of(caller).await;
    search.plant("a visitor's cookie", id(&browser));
    search.plant("a visitor's CSRF token", &browser.csrf);
    let answer = browser.sign_in(name, password).await.status(200);
    search.shows(&answer, &[("a session", id(&browser)), ("its CSRF token", &browser.csrf)]);
    browser
}

/// Replaces `$S` in a body with a new secret, or `$N` with a new secret that is a number, and plants it.
fn planted(search: &mut Search, body: &str) -> String {
    let number = search.extent().1;
    let (secret, digits) = (format!("typed-s3cret-{number}-into-json"), format!("73100{number:05}55110"));
    search.plant(&format!("what was given in {body}"), if body.contains("$N") { &digits } else { &secret });
    body.replace("$S", &secret).replace("$N", &digits)
}

/// The registry under test, and what has been heard of it.
struct Subject<'a> {
    root: &'a Path,
    running: Running,
    search: Search,
}

impl<'a> Subject<'a> {
    /// Starts the program, with users whose passwords come in each way that there is.
    fn start(root: &'a Path, format: &str) -> Self {
        let file = root.join("htpasswd");
        std::fs::write(&file, format!("filed:{}\n", bcrypt::hash(FILED, 4).unwrap())).unwrap();
        let file = file.display();
        let config = format!("[log]\nlevel = 'trace'\nformat = '{format}'\n[http.auth.htpasswd]\npath = '{file}'\n");
        let running = Program::serve_with(root, &config).env("CORACLE_ADMIN_PASSWORD", ADMINS).start();
        let mut subject = Self { root, running, search: Search::default() };
        for password in [ADMINS, FILED].into_iter().chain(DORAS) {
            subject.search.plant("a chosen password", password);
        }
        subject.coracle(&["user", "add", "dora", "--password-stdin"], DORAS[0]);
        let generated = subject.coracle(&["user", "add", "fred"], "");
        subject.search.plant("a password that the command line has made", &generated);
        let printed = subject.coracle(&["apikey", "create", "--user", "dora", "--label", LABEL], "");
        subject.search.plant("a key that the command line has made", &printed);
        subject
    }

    /// Has every route make a secret that makes one: a key of dora's from each of two, which are returned.
    async fn new_secrets(&mut self, admin: &mut Browser, session: &mut Browser) -> [String; 2] {
        let dora = self.running.user(("dora", DORAS[0]));
        let made = dora.post("/zot/auth/apikey").body(json!({ "label": LABEL }).to_string()).send().await.status(201);
        let key = text(&made.json(), "apiKey").to_owned();
        self.search.shows(&made, &[("a key of zot's route", &key)]);
        let made = session.tell("POST", "/api/v1/user/apptoken", &json!({ "title": LABEL })).await.status(200);
        let token = text(&made.json()["token"], "token_code").to_owned();
        self.search.shows(&made, &[("a key of Quay's route", &token)]);
        let made = admin.tell("POST", "/api/v1/superuser/users/", &json!({ "username": "erin" })).await.status(200);
        self.search.shows(&made, &[("erin's password", text(&made.json(), "password"))]);
        let page = dora.get("/v2/").header("x-zot-api-client", "zot-ui").send().await.status(200);
        let cookie = page.headers["set-cookie"].to_str().unwrap().split(';').next().unwrap();
        self.search.shows(&page, &[("a session of zot's page", cookie.strip_prefix("session=").unwrap())]);
        push_image(&dora, "dora/a", "1", 1).await;
        push_image(&self.running.user(("dora", &key)), "dora/b", "1", 2).await;
        [key, token]
    }

    /// Changes a password in each way that there is, so that what was right before is wrong.
    async fn new_passwords(&mut self, admin: &mut Browser, session: &mut Browser) {
        let body = json!({ "password": DORAS[1] }).to_string();
        let answer = session.send(session.caller.put("/api/v1/user/").body(body)).await.status(200);
        self.search.answer(&answer);
        let body = json!({ "password": DORAS[2], "email": "dora@example.org" }).to_string();
        let answer = admin.send(admin.caller.put("/api/v1/superuser/users/dora").body(body)).await.status(200);
        self.search.answer(&answer);
        self.coracle(&["user", "passwd", "dora", "--password-stdin"], DORAS[3]);
        for password in DORAS {
            // After so many attempts the caller may have to wait.
            let answer = self.send(self.running.user(("dora", password)).get("/v2/")).await;
            let expected = if password == DORAS[3] { 200 } else { 401 };
            assert!([expected, 429].contains(&answer.status.as_u16()), "{}", answer.text());
        }
    }

    /// Ends the program, and adds what it leaves behind to the places that are searched.
    async fn stop(mut self) -> Search {
        let signing = self.public_keys().await;
        let Self { root, running, mut search } = self;
        let finished = running.stop();
        assert_eq!(finished.code, Some(0));
        for kind in ["login_failure", "user_change_password", "create_refresh_token", "coracle::request", LABEL] {
            assert!(finished.stderr.contains(kind), "{kind} is in the log");
        }
        search.place("log", finished.stderr);
        search.place("standard output", finished.stdout);
        // The same commands on a stopped registry.
        for command in [["apikey", "list", "--json"], ["user", "list", "--json"]] {
            let listed = Program::new(command).arg("--root").arg(root).run();
            assert!(listed.stdout.contains("dora"), "{}", listed.stderr);
            search.place(format!("{command:?}"), listed.stdout + &listed.stderr);
        }
        let kept = files(root);
        let rows = kept.iter().find(|(path, _)| path.ends_with("coracle.redb")).map(|(_, content)| content).unwrap();
        for known in [LABEL, "dora", "$argon2id$"] {
            assert!(rows.windows(known.len()).any(|window| window == known.as_bytes()), "{known} is in the database");
        }
        // A stop leaves nothing in the write-ahead log.
        assert!(kept.iter().any(|(path, content)| path.ends_with("coracle.wal") && content.is_empty()));
        // The database and its log, the journal of manifests, four blobs, the configuration and the htpasswd file.
        assert_eq!(kept.len(), 9);
        for (path, mut content) in kept {
            if path.ends_with("coracle.redb") {
                tokens::plant_signing_keys(&mut search, &signing, &mut content);
            }
            search.place(path, content);
        }
        search
    }

    /// Runs a command on the running registry, which must succeed.
    fn coracle(&mut self, arguments: &[&str], input: &str) -> String {
        let done = Program::new(arguments).arg("--root").arg(self.root).input(input).run();
        assert_eq!(done.code, Some(0), "{arguments:?}: {}", done.stderr);
        self.search.place(format!("standard error of {arguments:?}"), done.stderr);
        done.stdout.trim().to_owned()
    }

    async fn send(&mut self, request: Request) -> Answer {
        let answer = request.send().await;
        self.search.answer(&answer);
        answer
    }

    /// Credentials in headers, cookies and parameters, right and wrong; many at once.
    async fn headers(&mut self, credentials: &[(&str, &str)], session: &Browser) {
        let anonymous = self.running.anonymous();
        let cookie = session.cookie.as_ref().unwrap();
        let mut requests = Vec::new();
        for (name, password) in credentials {
            let caller = self.running.user((name, password));
            for path in ["/v2/", "/v2/_catalog", "/zot/auth/apikey", "/v2/_zot/ext/apikey", "/metrics", "/nowhere"] {
                requests.push(caller.get(path));
            }
            let page = caller.get("/v2/?password=x").header("x-zot-api-client", "zot-ui");
            requests.push(page.header("cookie", format!("session={password}")));
            for path in ["/v2/", "/api/v1/user/", "/api/v1/superuser/logs"] {
                for authorization in [
                    format!("Bearer {password}"),
                    (*password).to_owned(),
                    format!("Basic {name}:{password}"),
                    format!("Digest username={name}, response={password}"),
                ] {
                    requests.push(anonymous.get(path).header("authorization", authorization));
                }
                requests.push(anonymous.get(path).header("cookie", format!("session={password}; key={password}")));
            }
            // Where no secret belongs.
            let plain: String = utf8_percent_encode(password, NON_ALPHANUMERIC).collect();
            for path in ["/v2/", "/v2/_catalog", "/csrf_token", "/api/v1/user/logs", "/zot/auth/apikey", "/nowhere"] {
                for query in ["password", "_csrf_token", "id", "n", "starttime", "next_page"] {
                    requests.push(anonymous.get(&format!("{path}?{query}={plain}")));
                }
            }
            let dora = self.running.user(("dora", DORAS[0]));
            requests.push(dora.delete(&format!("/zot/auth/apikey?id={plain}")));
            requests.push(anonymous.post(&format!("/api/v1/signout?_csrf_token={plain}")));
            for path in ["/api/v1/signout?everywhere=", "/api/v1/signin?x=", "/api/v1/user/apptoken?x="] {
                let post = anonymous.post(&format!("{path}{plain}")).header("cookie", cookie);
                requests.push(post.header("x-csrf-token", plain.clone()));
            }
        }
        for answer in futures_util::future::join_all(requests.into_iter().map(Request::send)).await {
            self.search.answer(&answer);
        }
    }

    /// Output about accounts for operators and users.
    async fn lists(&mut self, admin: &mut Browser, session: &mut Browser) {
        let by_password = self.running.user(("admin", ADMINS));
        let figures = by_password.get("/metrics").send().await.status(200);
        self.search.answer(&figures);
        let keys = self.running.user(("dora", DORAS[0])).get("/zot/auth/apikey").send().await.status(200);
        assert!(keys.text().contains(LABEL));
        self.search.answer(&keys);
        for path in
            ["/api/v1/superuser/logs", "/api/v1/superuser/users/", "/api/v1/superuser/apptokens", "/api/v1/user/"]
        {
            let mut next = path.to_owned();
            for _ in 0..100 {
                let answer = admin.get(&next).await.status(200);
                self.search.answer(&answer);
                let Some(cursor) = answer.json()["next_page"].as_str().map(str::to_owned) else { break };
                next = format!("{path}?next_page={cursor}");
            }
        }
        for path in [
            "/api/v1/user/logs",
            "/api/v1/user/sessions",
            "/api/v1/user/apptoken",
            "/api/v1/user/refreshtoken",
            "/api/v1/user/",
            "/api/v1/discovery",
        ] {
            let answer = session.get(path).await.status(200);
            self.search.answer(&answer);
        }
        for command in
            [&["apikey", "list", "--json"][..], &["user", "list", "--json"], &["user", "list"], &["apikey", "list"]]
        {
            let listed = self.coracle(command, "");
            assert!(listed.contains("dora"), "{command:?}: {listed}");
            self.search.place(format!("{command:?}"), listed);
        }
    }
}

/// Everything below a directory, by path.
fn files(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            found.extend(files(&entry));
        } else if entry.is_file() {
            let content = std::fs::read(&entry).unwrap();
            found.push((entry.display().to_string(), content));
        }
    }
    found
}

#[tokio::test]
async fn no_planted_secret_is_found_anywhere_with_a_log_of_text() {
    nothing_planted_is_found("text").await;
}

#[tokio::test]
async fn no_planted_secret_is_found_anywhere_with_a_log_of_json() {
    nothing_planted_is_found("json").await;
}

async fn nothing_planted_is_found(format: &str) {
    let root = tempfile::tempdir().unwrap();
    let mut subject = Subject::start(root.path(), format);
    let mut admin = signed_in(&mut subject.search, subject.running.anonymous(), "admin", ADMINS).await;
    let mut session = signed_in(&mut subject.search, subject.running.anonymous(), "dora", DORAS[0]).await;
    signed_in(&mut subject.search, subject.running.anonymous(), "filed", FILED).await;
    let keys = subject.new_secrets(&mut admin, &mut session).await;

    let typed = ["typed-wr0ng-password", "sent-as-a-b3arer-token"];
    for (what, secret) in [("a wrong password", typed[0]), ("a wrong token", typed[1]), ("a wrong key", UNKNOWN_KEY)] {
        subject.search.plant(what, secret);
    }
    let wrong = [
        ("dora", typed[0]),
        ("dora", UNKNOWN_KEY),
        (typed[0], "x"),
        (typed[1], DORAS[0]),
        (&keys[0], "x"),
        (UNKNOWN_KEY, "x"),
    ];
    let right = [("admin", ADMINS), ("dora", DORAS[0]), ("dora", &keys[0]), ("dora", &keys[1]), ("filed", FILED)];
    subject.headers(&[&right[..], &wrong[..]].concat(), &session).await;
    let mut visitor = Browser::of(subject.running.anonymous()).await;
    for (name, password) in wrong.into_iter().chain([("admin:x", ADMINS)]) {
        let answer = visitor.sign_in(name, password).await;
        assert!(answer.status.is_client_error(), "{}", answer.text());
        subject.search.answer(&answer);
    }
    subject.bodies(&mut session, &mut admin).await;
    subject.tokens().await;
    subject.coracle(&["token", "rotate-key"], "");
    subject.lists(&mut admin, &mut session).await;
    subject.new_passwords(&mut admin, &mut session).await;

    let search = subject.stop().await;
    let (places, secrets) = search.extent();
    assert!(places > 500 && secrets > 60, "{secrets} secrets in {places} places");
    search.finds_nothing();
}

/// Another protocol reads headers by other code, which has a log of its own.
#[tokio::test]
async fn no_planted_secret_is_logged_over_http2() {
    let root = tempfile::tempdir().unwrap();
    let certificate = certify(root.path());
    let place = root.path().display();
    let tls = format!("[http]\ntls.cert = '{place}/cert.pem'\ntls.key = '{place}/key.pem'\n[log]\nlevel = 'trace'\n");
    let running = Program::serve_with(root.path(), &tls).env("CORACLE_ADMIN_PASSWORD", ADMINS).start();
    let mut search = Search::default();
    let (session, token) = ("c29tZS1zZXNzaW9uLXRoYXQtd2FzLXBsYW50ZWQtaGU", "some-csrf-t0ken-that-was-planted");
    for secret in [ADMINS, UNKNOWN_KEY, session, token] {
        search.plant("what was sent", secret);
    }
    let stream = connect(running.url().split_once("://").unwrap().1.parse().unwrap(), &[&certificate], &["h2"]).await;
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream.unwrap())).await.unwrap();
    let connection = tokio::spawn(connection);
    let admin = running.user(("admin", ADMINS));
    let credentials =
        [admin.authorization().unwrap().to_owned(), format!("Bearer {UNKNOWN_KEY}"), UNKNOWN_KEY.to_owned()];
    let mut statuses = Vec::new();
    for (method, path) in
        [("GET", "/v2/"), ("POST", "/api/v1/signin"), ("GET", "/api/v1/user/"), ("DELETE", "/zot/auth/apikey")]
    {
        for authorization in &credentials {
            let body = json!({ "username": "admin", "password": UNKNOWN_KEY }).to_string();
            let request = hyper::Request::builder()
                .method(method)
                .uri(format!("https://localhost{path}?_csrf_token={token}"))
                .header("authorization", authorization)
                .header("cookie", format!("session={session}"))
                .header("x-csrf-token", token)
                .body(Full::new(Bytes::from(body)))
                .unwrap();
            let answer = sender.send_request(request).await.unwrap();
            statuses.push(answer.status().as_u16());
            let headers = format!("{:?}", answer.headers());
            let body = answer.into_body().collect().await.unwrap().to_bytes();
            search.place(format!("answer to {method} {path}"), [headers.as_bytes(), &body].concat());
        }
    }
    assert!(statuses.contains(&200) && statuses.contains(&401), "{statuses:?}");
    connection.abort();
    let _ = connection.await;
    let log = running.stop().stderr;
    // The reader of the frames logs them.
    assert!(log.contains("received frame=Headers") && log.contains("coracle::request"));
    search.place("log", log);
    search.finds_nothing();
}
