//! The description of API v1 is true, by the judgement of two programs that know nothing else of the registry.
//!
//! A public validator reads the description as a document. schemathesis makes requests out of it, good ones and bad
//! ones, and looks whether each answer is one that the description has: status, media type, headers and body; and that
//! nothing is a failure of ours, that what the description forbids is refused and what it allows is not, that no
//! operation forgets to ask who is there. It does so as every kind of caller.
//!
//! Requests sign out, delete their own user and end sessions. Where a caller can do that, the operation has a session of
//! its own ([`OWN_SESSIONS`]), and the paths of the others name users, keys and sessions that are there for it: so the
//! caller is the same from the first request to the last, which is asked at the end.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use serde_json::{Value, json};

use super::browser::Browser;
use crate::clients::home::{CLIENT_MINUTES_MAX, Home, Output, finish, needs};
use crate::clients::python::needs_packages;
use crate::support::content::push_image;
use crate::support::http::Caller;
use crate::support::process::Program;
use crate::support::registry::ROOT;
use crate::support::{TestRegistry, is_long_form};

/// The releases that are known to do what is asked of them here. Of the last depends which requests are made.
const PACKAGES: &[&str] = &["schemathesis==4.32.5", "openapi-spec-validator==0.9.0", "hypothesis==6.170.15"];

/// The extent of schemathesis: valid and invalid values of each parameter, and random requests; only a few random requests;
/// or one for each operation, for callers that are refused before any parameter is read. A hundred random requests for each
/// operation take a quarter of an hour, and have found nothing more.
const MANY: &[&str] = &["--phases", "coverage,fuzzing", "--max-examples", "3"];
const SOME: &[&str] = &["--phases", "fuzzing", "--max-examples", "4"];
const ONE: &[&str] = &["--phases", "fuzzing", "--max-examples", "1"];

/// Everybody's password but the superuser's.
const PASSWORD: &str = "everybody's-password";

/// Operations that end the session they are done with, or change its user; each is done by the user of its name.
const OWN_SESSIONS: [&str; 6] =
    ["changeUserDetails", "deleteCurrentUser", "endUserSession", "logout", "signinUser", "verifyUser"];

/// Operations that need an identity provider. `openid/device.rs` and `openid/handover.rs` test their success.
const NEED_A_PROVIDER: [&str; 3] =
    ["POST /api/v1/signin/code", "POST /api/v1/signin/device", "POST /api/v1/signin/device/token"];

/// Users whom paths name.
const NAMED: [&str; 6] = ["bob", "carol", "dave", "erin", "frank", "grace"];

/// Repositories, in which [`NAMED`] and [`GROUPS`] have roles, and groups, in which they are.
const REPOSITORIES: [&str; 6] = ["root/a", "root/b", "root/c/d", "root/e", "root/f", "root/g"];
const GROUPS: [&str; 4] = ["dev", "ops", "qa", "all of them"];
/// Repositories and groups to be removed.
const DOOMED: [&str; 4] = ["one", "two", "three", "four"];

/// For operations that verify a password.
const ONLY_RIGHT_PASSWORDS: &str = r#"
phases.coverage.enabled = false
parameters."body.username" = { dictionary = "signs-in", probability = 1.0 }
parameters."body.password" = { dictionary = "passwords", probability = 1.0 }
"#;

/// The caller of the requests, and the objects that they name.
#[derive(Debug, Default)]
struct Visitor {
    who: &'static str,
    headers: BTreeMap<&'static str, String>,
    /// Headers of single operations.
    own: BTreeMap<&'static str, BTreeMap<&'static str, String>>,
    keys: Vec<String>,
    sessions: Vec<String>,
    refresh_tokens: Vec<String>,
}

impl Visitor {
    /// A caller with an API key.
    fn with_key(who: &'static str, key: &str) -> Self {
        let headers = BTreeMap::from([("Authorization", format!("Bearer {key}"))]);
        Self { who, headers, ..Self::default() }
    }

    /// The configuration of schemathesis.
    fn config(&self) -> String {
        let mut config = format!("headers = {}\n{}", table(&self.headers), include_str!("schemathesis.toml"));
        let lists = [
            ("users", NAMED.map(str::to_owned).to_vec()),
            ("keys", self.keys.clone()),
            ("repositories", REPOSITORIES.map(str::to_owned).to_vec()),
            ("groups", GROUPS.map(str::to_owned).to_vec()),
            ("doomed-repositories", DOOMED.map(|name| format!("root/{name}")).to_vec()),
            ("doomed-groups", DOOMED.map(str::to_owned).to_vec()),
            ("sessions", self.sessions.clone()),
            ("refresh-tokens", self.refresh_tokens.clone()),
            ("signs-in", vec!["signinUser".to_owned()]),
            ("passwords", vec![PASSWORD.to_owned()]),
        ];
        for (name, mut values) in lists {
            if values.is_empty() {
                // A parameter must not be a list, and this value does not exist.
                values.push("00000000-0000-4000-8000-000000000000".to_owned());
            }
            writeln!(config, "[dictionaries.{name}]\nvalues = {}", json!(values)).unwrap();
        }
        for (operation, headers) in &self.own {
            let headers = table(headers);
            writeln!(config, "[[operations]]\ninclude-operation-id = {operation:?}\nheaders = {headers}").unwrap();
            if matches!(*operation, "signinUser" | "verifyUser") {
                // After some wrong passwords the right one waits as well: here only right ones are sent.
                config.push_str(ONLY_RIGHT_PASSWORDS);
            }
        }
        config
    }

    /// Lets schemathesis make its requests; what it reports.
    async fn examine(&self, registry: &Caller, python: &Path, effort: &[&str]) -> Value {
        let home = Home::alone();
        let document = registry.get("/api/v1/discovery").send().await.status(200);
        let config = home.write("schemathesis.toml", self.config());
        // Out of a file, since it does not ask for what it was made from.
        let document = home.write("discovery.json", &document.body);
        let report = home.path("report.json");
        let mut command = home.command(python);
        command.args(["-m", "schemathesis.cli", "--no-color", "--config-file"]).arg(config).arg("run").arg(document);
        command.args(["--url", &format!("http://{}", registry.address()), "--seed", "1"]).args(effort);
        command.args(["--report", "json", "--report-json-path"]).arg(&report);
        // The long form takes two minutes on two busy cores.
        let limit = 2 * CLIENT_MINUTES_MAX;
        // The registry may live on this thread.
        let (status, Output { stdout, stderr }) =
            tokio::task::spawn_blocking(move || finish(&mut command, "", limit)).await.unwrap();
        let said = String::from_utf8_lossy(&stdout);
        assert!(status.success(), "as {}: {status}\n{said}\n{stderr}", self.who);
        let report: Value = serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap();
        let (operations, requests) = (&report["operations"], &report["test_cases"]["generated"]);
        assert_eq!(operations["tested"], operations["total"], "as {}: {operations}", self.who);
        assert!(requests.as_u64().unwrap() >= 50, "as {}: only {requests} requests", self.who);
        report
    }

    /// The registry's description of the caller.
    async fn is_known(&self, registry: &Caller) -> u16 {
        let request = registry.get("/api/v1/user/");
        let request = self.headers.iter().fold(request, |request, (name, value)| request.header(name, value));
        request.send().await.status.as_u16()
    }
}

/// Names and texts as TOML has them.
fn table(rows: &BTreeMap<&str, String>) -> String {
    let rows: Vec<String> = rows.iter().map(|(name, value)| format!("{name} = {value:?}")).collect();
    format!("{{ {} }}", rows.join(", "))
}

/// The headers of a session.
fn headers_of(browser: &Browser) -> BTreeMap<&'static str, String> {
    BTreeMap::from([("Cookie", browser.cookie.clone().unwrap()), ("X-CSRF-Token", browser.csrf.clone())])
}

/// The other sessions of this user.
async fn other_sessions(browser: &mut Browser) -> Vec<String> {
    let sessions = browser.get("/api/v1/user/sessions").await.status(200).json();
    let others = sessions["sessions"].as_array().unwrap().iter().filter(|session| session["current"] == false);
    others.map(|session| session["id"].as_str().unwrap().to_owned()).collect()
}

/// An API key: its secret and its id.
async fn key(caller: &Caller) -> (String, String) {
    let made = caller.post("/zot/auth/apikey").body("{}").send().await.status(201).json();
    [&made["apiKey"], &made["uuid"]].map(|text| text.as_str().unwrap().to_owned()).into()
}

/// A registry with a superuser, and with users for everything that is done to users.
async fn registry() -> TestRegistry {
    let users = NAMED.iter().chain(&OWN_SESSIONS);
    let builder = coracle::Registry::builder().superuser(ROOT.0, ROOT.1);
    TestRegistry::start(users.fold(builder, |builder, user| builder.user(user, PASSWORD))).await
}

/// The objects in paths besides users: repositories with roles, groups with members.
async fn furnish(t: &TestRegistry) {
    let mut root = Browser::signed_in(t, ROOT).await;
    let mut put = async |path: String| {
        let role = json!({ "role": if path.contains("/permissions/") { "write" } else { "member" } });
        root.tell("PUT", &path, &role).await.status(200);
    };
    for group in GROUPS.map(|group| group.replace(' ', "%20")) {
        put(format!("/api/v1/group/{group}")).await;
        for user in NAMED {
            put(format!("/api/v1/group/{group}/members/{user}")).await;
        }
    }
    for name in DOOMED {
        put(format!("/api/v1/group/{name}")).await;
        push_image(&t.user(ROOT), &format!("root/{name}"), "1", 1).await;
    }
    for repository in REPOSITORIES {
        push_image(&t.user(ROOT), repository, "1", 1).await;
        for user in NAMED {
            put(format!("/api/v1/repository/{repository}/permissions/user/{user}")).await;
        }
        for group in GROUPS.map(|group| group.replace(' ', "%20")) {
            put(format!("/api/v1/repository/{repository}/permissions/team/{group}")).await;
        }
    }
}

/// Some refresh tokens of the superuser, by their ids.
async fn refresh_tokens(t: &TestRegistry, root: &mut Browser) -> Vec<String> {
    for _ in 0..8 {
        t.user(ROOT).get("/v2/auth?offline_token=true").send().await.status(200);
    }
    let listed = root.get("/api/v1/user/refreshtoken").await.status(200).json();
    let tokens = listed["tokens"].as_array().unwrap().iter();
    tokens.map(|token| token["uuid"].as_str().unwrap().to_owned()).collect()
}

/// So many API keys of the superuser, for others to revoke.
async fn keys(t: &TestRegistry, count: usize) -> Vec<String> {
    let mut keys = Vec::new();
    for _ in 0..count {
        keys.push(key(&t.user(ROOT)).await.1);
    }
    keys
}

#[tokio::test]
async fn a_public_validator_takes_the_description() {
    needs!(PYTHON);
    let python = needs_packages!(PACKAGES);
    let t = TestRegistry::with_users().await;
    let home = Home::alone();
    let document = t.anonymous().get("/api/v1/discovery").send().await.status(200).body;
    let mut command = home.command(python);
    command.args(["-m", "openapi_spec_validator"]).arg(home.write("discovery.json", document));
    let (status, Output { stdout, stderr }) = finish(&mut command, "", CLIENT_MINUTES_MAX);
    assert!(status.success(), "{}{stderr}", String::from_utf8_lossy(&stdout));
}

#[tokio::test]
async fn a_superusers_session_gets_what_is_described_and_every_operation_succeeds() {
    needs!(PYTHON);
    let python = needs_packages!(PACKAGES);
    let t = registry().await;
    furnish(&t).await;
    let mut own = BTreeMap::new();
    for user in OWN_SESSIONS {
        own.insert(user, headers_of(&Browser::signed_in(&t, (user, PASSWORD)).await));
    }
    let mut ends = Browser::signed_in(&t, ("endUserSession", PASSWORD)).await;
    own.insert("endUserSession", headers_of(&ends));
    for _ in 0..6 {
        Browser::signed_in(&t, ("endUserSession", PASSWORD)).await;
    }
    let mut root = Browser::signed_in(&t, ROOT).await;
    let visitor = Visitor {
        who: "a superuser's session",
        headers: headers_of(&root),
        own,
        keys: keys(&t, 12).await,
        sessions: other_sessions(&mut ends).await,
        refresh_tokens: refresh_tokens(&t, &mut root).await,
    };
    let report = visitor.examine(&t.anonymous(), &python, MANY).await;
    assert_eq!(visitor.is_known(&t.anonymous()).await, 200);
    // Good requests of every operation have been answered with success: none was only ever refused.
    let mut refused = report["operations"]["total"].as_u64().unwrap();
    let (mut without, rates) = (Vec::new(), report["valid_rates"].as_object().unwrap());
    for (operation, phases) in rates {
        let accepted = ["coverage", "fuzzing"].map(|phase| phases[phase]["accepted"].as_u64().unwrap_or_default());
        // Two values that go together are rarely guessed; `routes.rs` has a success of each.
        let guessed = operation.matches('{').count() > 1;
        if !guessed && !NEED_A_PROVIDER.contains(&operation.as_str()) && accepted.iter().sum::<u64>() == 0 {
            without.push(format!("{operation}: {phases}"));
        }
        refused -= 1;
    }
    assert!(without.is_empty(), "no success of {}", without.join("\n"));
    // Operations that always give 401 have no rate.
    let unknown = NEED_A_PROVIDER.iter().filter(|operation| !rates.contains_key(**operation)).count();
    assert_eq!(refused, unknown as u64, "{}", report["valid_rates"]);
}

#[tokio::test]
async fn a_superusers_key_gets_what_is_described() {
    needs!(PYTHON);
    let python = needs_packages!(PACKAGES);
    let t = registry().await;
    furnish(&t).await;
    let keys = keys(&t, 6).await;
    let visitor = Visitor { keys, ..Visitor::with_key("a superuser's key", &key(&t.user(ROOT)).await.0) };
    visitor.examine(&t.anonymous(), &python, SOME).await;
    assert_eq!(visitor.is_known(&t.anonymous()).await, 200);
}

#[tokio::test]
async fn whoever_may_do_less_or_nothing_gets_what_is_described() {
    needs!(PYTHON);
    let python = needs_packages!(PACKAGES);
    let root = tempfile::tempdir().unwrap();
    let running = Program::serve(root.path()).with_admin().start();
    let coracle = |arguments: &[&str]| {
        let done = Program::new(arguments).arg("--root").arg(root.path()).run();
        assert_eq!(done.code, Some(0), "{arguments:?}: {}", done.stderr);
        done.stdout.trim().to_owned()
    };
    // Only the command line makes read-only superusers.
    let [alice, _] = [&["alice"][..], &["rosa", "--read-only-superuser"]]
        .map(|user| (user[0], coracle(&[&["user", "add"], user].concat())));
    let key = |user: &str| coracle(&["apikey", "create", "--user", user]);
    // `routes.rs` has the other callers: keys with a scope, keys that are no longer valid, and sessions without a token.
    let mut callers = vec![
        (200, Visitor::with_key("a user's key", &key("alice"))),
        (200, Visitor::with_key("a read-only superuser's key", &key("rosa"))),
        (401, Visitor { who: "anonymous", ..Visitor::default() }),
    ];
    let mut browser = Browser::of(running.anonymous()).await;
    browser.sign_in(alice.0, &alice.1).await.status(200);
    let mut other = Browser::of(running.anonymous()).await;
    other.sign_in(alice.0, &alice.1).await.status(200);
    callers[0].1.sessions = other_sessions(&mut browser).await;
    if !is_long_form() {
        callers.retain(|(_, visitor)| visitor.who == "a user's key");
    }
    for (known, visitor) in &callers {
        assert_eq!(visitor.is_known(&running.anonymous()).await, *known, "{}", visitor.who);
        let effort = match visitor.who {
            "a user's key" if is_long_form() => MANY,
            "a user's key" => SOME,
            _ => ONE,
        };
        visitor.examine(&running.anonymous(), &python, effort).await;
        assert_eq!(visitor.is_known(&running.anonymous()).await, *known, "{}", visitor.who);
    }
}
