//! The kinds of caller that the table has as columns, and a registry that knows them all.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::NAME;
use crate::support::content::{push_image, sha256};
use crate::support::http::{Caller, Request};
use crate::support::process::{ADMIN, Program, Running};
use crate::workload::issuer::{Issuer, now};

/// A user, whose password is known.
#[derive(Clone, Debug)]
pub struct User {
    pub name: String,
    pub password: String,
    /// How the command line makes such a user.
    option: Option<&'static str>,
}

/// A user that requests may change in any way but delete.
pub const SPARE: &str = "dave";

/// The users of the registry, by the names of the columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Who {
    Alice,
    Bob,
    /// Is disabled.
    Carol,
    /// Is a read-only superuser.
    Eve,
    Root,
}

/// By what a caller is known.
#[derive(Clone, Copy, Debug)]
pub enum Means {
    Nothing,
    /// The cookie and the CSRF token of an anonymous browser.
    Visitor,
    Password(Who),
    WrongPassword,
    /// A key by its name: as a password at the registry's routes, as a bearer token at API v1.
    Key(&'static str),
    /// The same, as a bearer token everywhere.
    Bearer(&'static str),
    /// A token got with alice's password: for pulling from and pushing to alice/app, for nothing, or for
    /// pushing there while it was good.
    Token(&'static str),
    /// The ID token of a workload: as a password at the registry's routes, as a bearer token at API v1.
    IdToken(&'static str),
    /// The cookie alone.
    Cookie(Who),
    /// A session with the proof that the registry's own page sends the request.
    Session(Who),
}

/// One column.
#[derive(Debug)]
pub struct Column {
    /// The group that begins with this column.
    pub group: Option<&'static str>,
    pub name: &'static str,
    meaning: &'static str,
    pub means: Means,
}

const fn first(group: &'static str, name: &'static str, means: Means, meaning: &'static str) -> Column {
    Column { group: Some(group), name, meaning, means }
}

const fn next(name: &'static str, means: Means, meaning: &'static str) -> Column {
    Column { group: None, name, meaning, means }
}

#[rustfmt::skip] // a table is read down its columns
pub const COLUMNS: &[Column] = &[
    first("nobody", "-", Means::Nothing, "says nothing"),
    next("vis", Means::Visitor, "cookie and CSRF token of a visitor who has not signed in"),
    first("password", "own", Means::Password(Who::Alice), "alice's; API v1 does not look at passwords"),
    next("oth", Means::Password(Who::Bob), "bob's, who is another user"),
    next("bad", Means::WrongPassword, "not alice's, with her name"),
    next("dis", Means::Password(Who::Carol), "carol's, who is disabled"),
    first("API key", "own", Means::Key("alice"), "alice's, as the password; at API v1, as are the next, as bearer token"),
    next("brr", Means::Bearer("alice"), "alice's, as bearer token everywhere"),
    next("oth", Means::Key("bob"), "bob's"),
    next("rep", Means::Key("repository"), "alice's, limited to alice/app"),
    next("els", Means::Key("elsewhere"), "alice's, limited to alice/other"),
    next("pul", Means::Key("pull"), "alice's, limited to pulling alice/app"),
    next("exp", Means::Key("expired"), "alice's, expired"),
    next("rev", Means::Key("revoked"), "alice's, revoked"),
    next("dis", Means::Key("carol"), "carol's"),
    first("token", "own", Means::Token("own"), "got with alice's password, for pulling from and pushing to alice/app"),
    next("all", Means::Token("all"), "the same, for everything there"),
    next("non", Means::Token("none"), "the same, for no repository"),
    next("oth", Means::Token("bob"), "got with bob's password, who asked for all of alice/app"),
    next("nob", Means::Token("nobody"), "got without credentials, for pulling from alice/app"),
    next("rev", Means::Token("revoked"), "got with an API key of alice's that was revoked since"),
    first("workload", "own", Means::IdToken("own"), "ID token that a rule gives the rights of alice"),
    next("pul", Means::IdToken("pull"), "the same, limited to pulling alice/app"),
    next("oth", Means::IdToken("other"), "ID token that a rule accepts and nothing gives rights to"),
    first("session", "coo", Means::Cookie(Who::Alice), "alice's cookie, without CSRF token and without zot's header"),
    next("own", Means::Session(Who::Alice), "alice's, with the CSRF token at API v1 and with zot's header elsewhere"),
    next("oth", Means::Session(Who::Bob), "bob's"),
    next("dis", Means::Session(Who::Carol), "carol's, from before she was disabled"),
    first("read-only", "pas", Means::Password(Who::Eve), "a read-only superuser's password"),
    next("key", Means::Key("eve"), "API key"),
    next("ses", Means::Session(Who::Eve), "session"),
    first("superuser", "pas", Means::Password(Who::Root), "a superuser's password"),
    next("key", Means::Key("root"), "API key"),
    next("pul", Means::Key("root-pull"), "API key, limited to pulling **"),
    next("ses", Means::Session(Who::Root), "session"),
];

/// The part of the file's beginning that explains the columns.
pub fn legend() -> String {
    let mut text = String::new();
    for column in COLUMNS {
        writeln!(text, "# {:<10} {}  {}", column.group.unwrap_or_default(), column.name, column.meaning).unwrap();
    }
    text
}

/// The names of the groups, above their columns.
pub fn groups() -> String {
    let mut line = String::new();
    let mut width = 0;
    for column in COLUMNS {
        if let Some(group) = column.group {
            write!(line, "{:<pad$}   {group}", "", pad = width - line.len()).unwrap();
            width += 2;
        }
        width += 4;
    }
    line
}

/// A running program with users, keys, sessions and an image.
#[derive(Debug)]
pub struct World {
    address: SocketAddr,
    /// The program's data directory.
    directory: tempfile::TempDir,
    users: BTreeMap<Who, User>,
    keys: BTreeMap<&'static str, String>,
    tokens: BTreeMap<&'static str, String>,
    /// The session of a user who cannot sign in again.
    carols: Session,
    /// The tokens of workloads.
    id_tokens: BTreeMap<&'static str, String>,
    _issuer: Issuer,
    /// Creates the objects: alice, with her own key.
    pub alice: Caller,
    /// The manifest of `alice/app:1`.
    pub image: Value,
    /// A spare user.
    pub spare_user: Mutex<Option<String>>,
    number: AtomicU64,
}

/// A session's cookie and CSRF token.
#[derive(Clone, Debug)]
struct Session {
    cookie: String,
    csrf: String,
}

impl World {
    /// Starts the program, which ends when what is returned of it is dropped.
    pub async fn start(profile: &str) -> (Running, Self) {
        let directory = tempfile::tempdir().unwrap();
        let issuer = Issuer::start();
        let config = format!(
            "profile = {profile:?}\nstorage.commit = false\nhttp.auth.keys.maxPerUser = 10000\n\
             extensions.search.enable = true\nextensions.ui.enable = true\n{}",
            issuer.settings("", RULES)
        );
        let running = Program::serve_with(directory.path(), &config).with_admin().start();
        let mut users = BTreeMap::new();
        for (who, name, option) in [
            (Who::Alice, "alice", None),
            (Who::Bob, "bob", None),
            (Who::Carol, "carol", None),
            (Who::Eve, "eve", Some("--read-only-superuser")),
        ] {
            users.insert(who, add_user(directory.path(), name, option));
        }
        add_user(directory.path(), SPARE, None);
        let (name, password) = (ADMIN.0.to_owned(), ADMIN.1.to_owned());
        users.insert(Who::Root, User { name, password, option: Some("--superuser") });
        let by_password = |who| running.user((users[&who].name.as_str(), users[&who].password.as_str()));

        // The one that expires is made first, so that it has expired when the others are made.
        let alice = by_password(Who::Alice);
        // A busy machine takes seconds to check a password for the first time.
        alice.get("/v2/").send().await.status(200);
        let soon = jiff::Timestamp::now() + Duration::from_secs(4);
        let mut keys = BTreeMap::new();
        for (name, owner, body) in [
            ("expired", Who::Alice, json!({ "expirationDate": soon.to_string() })),
            ("alice", Who::Alice, json!({})),
            ("bob", Who::Bob, json!({})),
            ("repository", Who::Alice, json!({ "scopes": [NAME] })),
            ("elsewhere", Who::Alice, json!({ "scopes": ["alice/other"] })),
            ("pull", Who::Alice, json!({ "scopes": [format!("{NAME}:pull")] })),
            ("carol", Who::Carol, json!({})),
            ("eve", Who::Eve, json!({})),
            ("root", Who::Root, json!({})),
            ("root-pull", Who::Root, json!({ "scopes": ["**:pull"] })),
        ] {
            let made = new_key(&by_password(owner), &body).await;
            keys.insert(name, made["apiKey"].as_str().unwrap().to_owned());
        }
        let revoked = new_key(&alice, &json!({})).await;
        alice.delete(&format!("/zot/auth/apikey?id={}", revoked["uuid"].as_str().unwrap())).send().await.status(200);
        keys.insert("revoked", revoked["apiKey"].as_str().unwrap().to_owned());

        let mut tokens = BTreeMap::new();
        let nobody = running.anonymous();
        let bob = by_password(Who::Bob);
        for (name, caller, query) in [
            ("own", &alice, "?scope=repository:alice/app:pull,push"),
            ("all", &alice, "?scope=repository:alice/app:*"),
            ("none", &alice, ""),
            ("bob", &bob, "?scope=repository:alice/app:*"),
            ("nobody", &nobody, "?scope=repository:alice/app:pull"),
        ] {
            tokens.insert(name, new_token(caller, query).await);
        }
        let soon_gone = new_key(&alice, &json!({})).await;
        let by_key = running.user(("alice", soon_gone["apiKey"].as_str().unwrap()));
        tokens.insert("revoked", new_token(&by_key, "?scope=repository:alice/app:*").await);
        alice.delete(&format!("/zot/auth/apikey?id={}", soon_gone["uuid"].as_str().unwrap())).send().await.status(200);

        // It is valid for as long as the test may take.
        let claims = |repository: &str| json!({ "repository": repository, "exp": now() + 7200 });
        let id_tokens = ["own", "pull", "other"].into_iter().map(|name| (name, issuer.token(&claims(name)))).collect();

        let image = push_image(&alice, NAME, "1", 1).await;
        let carols = sign_in(&running.anonymous(), &users[&Who::Carol]).await;
        command(directory.path(), &["user", "disable", "carol"]);
        let expired = running.user(("alice", &keys["expired"]));
        for _ in 0..1500 {
            if expired.get("/v2/").send().await.status.as_u16() == 401 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        // The same mistake again counts no more, however often it is made.
        running.user(WRONG).get("/v2/").send().await.status(401);
        by_password(Who::Carol).get("/v2/").send().await.status(401);
        let alice = running.user(("alice", &keys["alice"]));
        let (address, spare_user, number) = (running.address(), Mutex::default(), AtomicU64::new(100));
        (
            running,
            Self {
                address,
                directory,
                users,
                keys,
                tokens,
                carols,
                id_tokens,
                _issuer: issuer,
                alice,
                image,
                spare_user,
                number,
            },
        )
    }

    pub fn anonymous(&self) -> Caller {
        Caller::new(self.address, None)
    }

    /// A number that was not there before.
    pub fn next(&self) -> u64 {
        self.number.fetch_add(1, Ordering::Relaxed)
    }

    /// The user whose credentials a caller has, or could have.
    pub fn user(&self, means: Means) -> &User {
        let who = match means {
            Means::Password(who) | Means::Cookie(who) | Means::Session(who) => who,
            Means::Nothing
            | Means::Visitor
            | Means::WrongPassword
            | Means::Key(_)
            | Means::Bearer(_)
            | Means::Token(_)
            | Means::IdToken(_) => Who::Alice,
        };
        &self.users[&who]
    }

    /// A new user like this one.
    pub async fn another(&self, like: &User) -> User {
        let (root, name, option) = (self.directory.path().to_owned(), format!("like{}", self.next()), like.option);
        tokio::task::spawn_blocking(move || add_user(&root, &name, option)).await.unwrap()
    }

    /// A user to be deleted, who is there until that happens.
    pub async fn spare_user(&self) -> String {
        let mut spare = self.spare_user.lock().await;
        if spare.is_none() {
            *spare = Some(self.another(&self.users[&Who::Bob]).await.name);
        }
        spare.clone().unwrap()
    }

    /// The id of a new API key of alice.
    pub async fn new_key(&self) -> String {
        let User { name, password, .. } = &self.users[&Who::Alice];
        let alice = Caller::new(self.address, Some((name, password)));
        new_key(&alice, &json!({})).await["uuid"].as_str().unwrap().to_owned()
    }

    /// The id of a new refresh token of alice.
    pub async fn new_refresh_token(&self) -> String {
        let User { name, password, .. } = &self.users[&Who::Alice];
        let alice = Caller::new(self.address, Some((name, password)));
        // Other requests make refresh tokens at the same time.
        let client = sha256(&rand::random::<[u8; 16]>())[7..39].to_owned();
        alice.get(&format!("/v2/auth?offline_token=true&client_id={client}")).send().await.status(200);
        let bearer = format!("Bearer {}", self.keys["alice"]);
        let listed = self.anonymous().get("/api/v1/user/refreshtoken").header("authorization", bearer).send().await;
        let tokens = listed.status(200).json()["tokens"].as_array().unwrap().clone();
        let own = tokens.iter().find(|token| token["client"] == client.as_str()).unwrap();
        own["uuid"].as_str().unwrap().to_owned()
    }

    /// Does something at API v1 that is allowed to the owner of a key.
    pub async fn tell(&self, key: &str, path: &str, body: &Value) {
        let bearer = format!("Bearer {}", self.keys[key]);
        let request = self.anonymous().request("PUT".parse().unwrap(), path).header("authorization", bearer);
        request.header("content-type", "application/json").body(body.to_string()).send().await.status(200);
    }

    /// Does something at API v1 that takes a superuser who has just signed in.
    pub async fn tell_as_root(&self, path: &str, body: &Value) {
        let session = sign_in(&self.anonymous(), &self.users[&Who::Root]).await;
        let request = self.anonymous().request("PUT".parse().unwrap(), path).header("cookie", session.cookie);
        let request = request.header("x-csrf-token", session.csrf).header("content-type", "application/json");
        request.body(body.to_string()).send().await.status(200);
    }

    /// The id of a new session of alice.
    pub async fn new_session(&self) -> String {
        let session = sign_in(&self.anonymous(), &self.users[&Who::Alice]).await;
        let listed = self.anonymous().get("/api/v1/user/sessions").header("cookie", session.cookie).send().await;
        let listed = listed.status(200).json();
        let mut sessions = listed["sessions"].as_array().unwrap().iter();
        let this = sessions.find(|session| session["current"] == true).unwrap();
        this["id"].as_str().unwrap().to_owned()
    }

    /// The form of a page, with the proof that the caller's page sends it.
    pub async fn form(&self, request: Request, means: Means, user: &User, fields: &str) -> Request {
        let session = match means {
            Means::Visitor => visit(&self.anonymous()).await,
            Means::Session(Who::Carol) => self.carols.clone(),
            Means::Session(_) => sign_in(&self.anonymous(), user).await,
            _ => return self.identify(request.body(fields.to_owned()), means, user, false).await,
        };
        request.header("cookie", session.cookie).body(format!("{fields}&_csrf_token={}", session.csrf))
    }

    /// Adds what a caller is known by. `user` is who a session is begun for.
    pub async fn identify(&self, request: Request, means: Means, user: &User, at_api_v1: bool) -> Request {
        let basic = |name: &str, password: &str| format!("Basic {}", STANDARD.encode(format!("{name}:{password}")));
        let session = match means {
            Means::Nothing => return request,
            Means::Password(who) => {
                return request.header("authorization", basic(&self.users[&who].name, &self.users[&who].password));
            }
            Means::WrongPassword => return request.header("authorization", basic(WRONG.0, WRONG.1)),
            Means::Key(key) if !at_api_v1 => {
                return request.header("authorization", basic(owner(key), &self.keys[key]));
            }
            Means::Key(key) | Means::Bearer(key) => {
                return request.header("authorization", format!("Bearer {}", self.keys[key]));
            }
            Means::IdToken(token) if !at_api_v1 => {
                return request.header("authorization", basic("any", &self.id_tokens[token]));
            }
            Means::IdToken(token) => {
                return request.header("authorization", format!("Bearer {}", self.id_tokens[token]));
            }
            Means::Token(token) => {
                return request.header("authorization", format!("Bearer {}", self.tokens[token]));
            }
            Means::Visitor => visit(&self.anonymous()).await,
            Means::Session(Who::Carol) => self.carols.clone(),
            Means::Cookie(_) | Means::Session(_) => sign_in(&self.anonymous(), user).await,
        };
        let request = request.header("cookie", session.cookie);
        match means {
            Means::Cookie(_) => request,
            _ if at_api_v1 => request.header("x-csrf-token", session.csrf),
            _ => request.header("x-zot-api-client", "zot-ui"),
        }
    }
}

/// The name that goes with a key.
fn owner(key: &str) -> &str {
    match key {
        "bob" | "carol" | "eve" => key,
        "root" | "root-pull" => ADMIN.0,
        _ => "alice",
    }
}

/// The rules for workloads.
const RULES: &str = "{ claims = { repository = 'own' }, user = 'alice' }, { claims = { repository = 'other' } },\
                     { claims = { repository = 'pull' }, user = 'alice', scopes = ['alice/app:pull'] }";

/// Not a password of alice's.
const WRONG: (&str, &str) = ("alice", "not alice's password");

/// Runs a command on the running registry and returns its output.
fn command(root: &std::path::Path, arguments: &[&str]) -> String {
    let done = Program::new(arguments).arg("--root").arg(root).run();
    assert_eq!(done.code, Some(0), "{arguments:?}: {}", done.stderr);
    done.stdout.trim().to_owned()
}

fn add_user(root: &std::path::Path, name: &str, option: Option<&'static str>) -> User {
    let arguments: Vec<&str> = ["user", "add", name].into_iter().chain(option).collect();
    User { name: name.to_owned(), password: command(root, &arguments), option }
}

async fn new_key(owner: &Caller, body: &Value) -> Value {
    owner.post("/zot/auth/apikey").body(body.to_string()).send().await.status(201).json()
}

async fn new_token(caller: &Caller, query: &str) -> String {
    let answer = caller.get(&format!("/v2/auth{query}")).send().await.status(200).json();
    answer["token"].as_str().unwrap().to_owned()
}

/// The cookie and the token that everybody gets.
async fn visit(caller: &Caller) -> Session {
    let answer = caller.get("/csrf_token").send().await.status(200);
    let cookie = answer.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    Session { cookie, csrf: answer.json()["csrf_token"].as_str().unwrap().to_owned() }
}

async fn sign_in(caller: &Caller, user: &User) -> Session {
    let before = visit(caller).await;
    let body = json!({ "username": user.name, "password": user.password });
    let request = caller.post("/api/v1/signin").header("cookie", before.cookie).header("x-csrf-token", before.csrf);
    let answer = request.body(body.to_string()).send().await.status(200);
    let cookie = answer.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    Session { cookie, csrf: answer.header("x-next-csrf-token").unwrap().to_owned() }
}
