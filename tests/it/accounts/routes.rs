//! Every route × every kind of caller, as one table: `routes.txt`.
//!
//! The test asks a running program and compares the statuses with the file. A test of the router checks that the file
//! has a line for every route. For a new route, add it to [`ROUTES`], add its objects to [`World::target`] in
//! [`objects`], and write the file with `UPDATE_SNAPSHOTS=1 cargo test --test it routes`. Then read the difference.

mod callers;
mod objects;
mod pages;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use tokio::task::JoinSet;

use crate::support::http::{Answer, Request};
use callers::{COLUMNS, Means, Who, World};
use objects::Target;
use pages::PAGES;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/accounts/routes.txt");

/// Objects of alice.
const NAME: &str = "alice/app";
/// Hers too, and what is mounted comes from here.
const OTHER: &str = "alice/other";
/// Hers as well, if it were there.
const ABSENT: &str = "alice/absent";

/// Every route; of those that have two paths, both.
const ROUTES: &[&str] = &[
    "GET /",
    "GET /livez",
    "GET /readyz",
    "GET /startupz",
    "GET /metrics",
    "GET /nothing",
    "",
    "GET /v2/",
    "GET /v2/_catalog",
    "GET /v2/{name}/tags/list",
    "GET /v2/{absent}/tags/list",
    "GET /v2/{name}/referrers/{digest}",
    "GET /v2/{name}/manifests/{tag}",
    "GET /v2/{absent}/manifests/{tag}",
    "HEAD /v2/{name}/manifests/{tag}",
    "PUT /v2/{name}/manifests/{tag}",
    "DELETE /v2/{name}/manifests/{digest}",
    "DELETE /v2/{absent}/manifests/{digest}",
    "POST /v2/{name}/manifests/{tag}",
    "GET /v2/{name}/blobs/{digest}",
    "GET /v2/{absent}/blobs/{digest}",
    "HEAD /v2/{name}/blobs/{digest}",
    "DELETE /v2/{name}/blobs/{digest}",
    "DELETE /v2/{absent}/blobs/{digest}",
    "POST /v2/{name}/blobs/uploads/",
    "POST /v2/{name}/blobs/uploads/?digest={digest}",
    "POST /v2/{name}/blobs/uploads/?mount={digest}",
    "GET /v2/{name}/blobs/uploads/{id}",
    "GET /v2/{absent}/blobs/uploads/{id}",
    "PATCH /v2/{name}/blobs/uploads/{id}",
    "PUT /v2/{name}/blobs/uploads/{id}?digest={digest}",
    "DELETE /v2/{name}/blobs/uploads/{id}",
    "",
    "GET /v2/auth",
    "GET /v2/auth?scope=repository:{name}:pull,push",
    "POST /v2/auth",
    "GET /v2/token",
    "GET /.well-known/jwks.json",
    "GET /.well-known/acme-challenge/token",
    "",
    "GET /zot/auth/token",
    "GET /zot/auth/token?scope=repository:{name}:pull,push",
    "POST /zot/auth/token",
    "OPTIONS /zot/auth/token",
    "GET /zot/auth/apikey",
    "POST /zot/auth/apikey",
    "DELETE /zot/auth/apikey?id={token_uuid}",
    "OPTIONS /zot/auth/apikey",
    "GET /v2/_zot/ext/apikey",
    "POST /v2/_zot/ext/apikey",
    "DELETE /v2/_zot/ext/apikey?id={token_uuid}",
    "OPTIONS /v2/_zot/ext/apikey",
    "GET /v2/_oci/ext/discover",
    "GET /v2/_zot/ext/mgmt",
    "GET /v2/_zot/ext/search?query={__typename}",
    "POST /v2/_zot/ext/search",
    "PUT /v2/_zot/ext/userprefs?action=toggleStar&repo={name}",
    "PUT /v2/_zot/ext/userprefs?action=toggleStar&repo={absent}",
    "PUT /v2/_zot/ext/userprefs?action=toggleBookmark&repo={name}",
    "",
    "GET /zot/auth/login?provider=oidc",
    "GET /auth/login?provider=oidc",
    "GET /zot/auth/callback/oidc",
    "GET /auth/callback/oidc",
    "POST /zot/auth/confirm",
    "POST /zot/auth/logout",
    "OPTIONS /zot/auth/logout",
    "POST /auth/logout",
    "OPTIONS /auth/logout",
];

/// The rest of them. The profile has no say in it.
const API_V1: &[&str] = &[
    "GET /csrf_token",
    "GET /api/v1/discovery",
    "GET /api/v1/error/{error_type}",
    "GET /api/v1/nothing",
    "POST /api/v1/signin",
    "POST /api/v1/signin/verify",
    "POST /api/v1/signout",
    "GET /api/v1/signin/providers",
    "POST /api/v1/signin/device",
    "POST /api/v1/signin/device/token",
    "POST /api/v1/signin/code",
    "",
    "GET /api/v1/user/",
    "PUT /api/v1/user/",
    "DELETE /api/v1/user/",
    "POST /api/v1/user/",
    "GET /api/v1/user/sessions",
    "DELETE /api/v1/user/sessions/{session_id}",
    "GET /api/v1/user/apptoken",
    "POST /api/v1/user/apptoken",
    "GET /api/v1/user/apptoken/{token_uuid}",
    "DELETE /api/v1/user/apptoken/{token_uuid}",
    "GET /api/v1/user/logs",
    "GET /api/v1/user/access",
    "GET /api/v1/user/refreshtoken",
    "DELETE /api/v1/user/refreshtoken/{token_uuid}",
    "GET /api/v1/users/{username}",
    "",
    "GET /api/v1/repository",
    "POST /api/v1/repository",
    "GET /api/v1/repository/{repository}",
    "PUT /api/v1/repository/{repository}",
    "DELETE /api/v1/repository/{repository}",
    "POST /api/v1/repository/{repository}/changevisibility",
    "GET /api/v1/repository/{repository}/manifest/{digest}",
    "POST /api/v1/repository/{repository}/manifest/{digest}/restore",
    "GET /api/v1/repository/{repository}/deletedmanifest/",
    "GET /api/v1/repository/{repository}/tag/",
    "PUT /api/v1/repository/{repository}/tag/{tag}",
    "DELETE /api/v1/repository/{repository}/tag/{tag}",
    "POST /api/v1/repository/{repository}/tag/{tag}/restore",
    "POST /api/v1/repository/{repository}/tag/{tag}/expire",
    "GET /api/v1/repository/{repository}/permissions/user/",
    "GET /api/v1/repository/{repository}/permissions/user/{username}",
    "PUT /api/v1/repository/{repository}/permissions/user/{username}",
    "DELETE /api/v1/repository/{repository}/permissions/user/{username}",
    "GET /api/v1/repository/{repository}/permissions/user/{username}/transitive",
    "GET /api/v1/repository/{repository}/permissions/team/",
    "GET /api/v1/repository/{repository}/permissions/team/{group}",
    "PUT /api/v1/repository/{repository}/permissions/team/{group}",
    "DELETE /api/v1/repository/{repository}/permissions/team/{group}",
    "",
    "GET /api/v1/group/",
    "PUT /api/v1/group/{group}",
    "DELETE /api/v1/group/{group}",
    "GET /api/v1/group/{group}/members",
    "PUT /api/v1/group/{group}/members/{membername}",
    "DELETE /api/v1/group/{group}/members/{membername}",
    "GET /api/v1/group/{group}/permissions",
    "",
    "GET /api/v1/superuser/users/",
    "POST /api/v1/superuser/users/",
    "GET /api/v1/superuser/users/{username}",
    "PUT /api/v1/superuser/users/{username}",
    "DELETE /api/v1/superuser/users/{username}",
    "GET /api/v1/superuser/apptokens",
    "DELETE /api/v1/superuser/apptokens/{token_uuid}",
    "GET /api/v1/superuser/logs",
    "GET /api/v1/superuser/access",
    "GET /api/v1/superuser/maintenance",
    "POST /api/v1/superuser/maintenance/{work}",
    "DELETE /api/v1/superuser/maintenance/{work}",
    "GET /api/v1/superuser/disk",
    "GET /api/v1/superuser/mirrors",
    "GET /api/v1/superuser/configuration",
];

/// The head of the file.
const LEGEND: &str = "\
# Routes and callers: the status that each kind of caller gets on every route.
#
# A running registry gives these statuses. Only the caller varies: the object of a request exists, and
# requests that remove something get a new one each time. {name} is alice/app, which belongs to alice, as
# would {absent}, which does not exist. The sessions, keys and uploads in paths are hers, and {username} is
# another user. If alice gets 404 for {absent}, other callers must get the same for it as for {name}.
#
# 401 means that signing in could help, 403 that it could not. A request that changes something in API v1
# without its CSRF token gets 403 from every caller. 405, and 404 for an unknown route, do not depend on the
# caller. `signin/verify` gives 400 to callers without a session, and `DELETE /api/v1/user/` to superusers.
# A page shows `sgn` if it sends the caller to the sign-in page, and `pwd` if it asks for the password again. Pages take
# sessions only. A form without the proof that a page of the registry sent it gets 403.
# zot's route for keys gives 200 for a key that does not exist or belongs to another user.
#
# The test writes this file: UPDATE_SNAPSHOTS=1 cargo test --test it routes
#
# Sessions more than ten minutes after their sign-in are missing, because tests cannot move the program's
# clock. `src/identity/access/policy/tests.rs` has them.
#
";

#[tokio::test]
async fn the_table_of_routes_and_callers_is_what_the_server_answers() {
    let document = discovered().await;
    let no_route = ["", "GET /api/v1/nothing", "POST /api/v1/user/"];
    let mut listed: Vec<&str> = API_V1.iter().filter(|line| !no_route.contains(line)).copied().collect();
    listed.sort_unstable();
    assert_eq!(document, listed, "what the registry says of its API v1, and what is asked of it here");

    let everything = [ROUTES, &[""], PAGES, &[""], API_V1].concat();
    let (coracle, zot) = tokio::join!(section("coracle", everything), section("zot", ROUTES.to_vec()));
    let text = format!("{LEGEND}{}\n{coracle}\n{zot}", callers::legend());
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(FILE, text).unwrap();
        return;
    }
    let file = std::fs::read_to_string(FILE).unwrap_or_default();
    assert!(file == text, "{}", differences(&file, &text));
}

/// The operations that the registry describes.
async fn discovered() -> Vec<String> {
    let t = crate::support::TestRegistry::with_users().await;
    let document = t.anonymous().get("/api/v1/discovery").send().await.status(200).json();
    assert_eq!(document["openapi"], "3.0.3");
    let mut described = Vec::new();
    for (path, operations) in document["paths"].as_object().unwrap() {
        let methods = operations.as_object().unwrap().keys();
        described.extend(methods.map(|method| format!("{} {path}", method.to_uppercase())));
    }
    described.sort_unstable();
    described
}

/// The table of one profile.
async fn section(profile: &str, routes: Vec<&'static str>) -> String {
    let (_running, world) = World::start(profile).await;
    let world = Arc::new(world);
    let mut asking = JoinSet::new();
    for route in routes.iter().copied().filter(|route| !route.is_empty()) {
        let world = Arc::clone(&world);
        asking.spawn(async move {
            let mut heard = Vec::new();
            for column in COLUMNS {
                heard.push(world.ask(route, column.means).await);
            }
            (route, heard)
        });
    }
    let answers: BTreeMap<&str, Vec<String>> = asking.join_all().await.into_iter().collect();
    let width = routes.iter().map(|route| route.len()).max().unwrap();
    let cells = |cells: &[String]| {
        let mut line = String::new();
        for (column, cell) in COLUMNS.iter().zip(cells) {
            line.push_str(if column.group.is_some() { "   " } else { " " });
            write!(line, "{cell:>3}").unwrap();
        }
        line
    };
    let names: Vec<String> = COLUMNS.iter().map(|column| column.name.to_owned()).collect();
    let title = format!("# profile = \"{profile}\"");
    let mut text = format!("{title:<width$}{}\n", callers::groups());
    writeln!(text, "{:<width$}{}", "#", cells(&names)).unwrap();
    for route in routes {
        match answers.get(route) {
            Some(answers) => writeln!(text, "{route:<width$}{}", cells(answers)).unwrap(),
            None => text.push('\n'),
        }
    }
    text
}

/// Each line that differs, as the file has it and as the server answers.
fn differences(file: &str, text: &str) -> String {
    let route = |line: &str| line.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
    let mut report = "the file (-) is not what the server answers (+); if it is meant: UPDATE_SNAPSHOTS=1\n".to_owned();
    let (mut heading, mut count) = ("", 0);
    let mut known: Vec<&str> = file.lines().collect();
    for line in text.lines() {
        if line.starts_with("# profile") {
            heading = line;
        }
        if let Some(at) = known.iter().position(|known| *known == line) {
            known.remove(at);
            continue;
        }
        let before = known.iter().position(|known| !line.starts_with('#') && route(known) == route(line));
        let before = before.map_or("", |at| known.remove(at));
        if !heading.is_empty() {
            writeln!(report, "  {}", std::mem::take(&mut heading)).unwrap();
        }
        writeln!(report, "- {before}\n+ {line}").unwrap();
        count += 1;
    }
    for line in known {
        writeln!(report, "- {line}").unwrap();
        count += 1;
    }
    assert!(count > 0, "the lines are the same and stand elsewhere: UPDATE_SNAPSHOTS=1");
    report
}

/// The status of an answer; of a page that asks for a sign-in or for the password, a word for that.
fn shown(answer: &Answer) -> String {
    match answer.header("location") {
        Some(to) if to.starts_with("/ui/sign-in?next=") => "sgn".to_owned(),
        Some(to) if to.starts_with("/ui/confirm-password?") => "pwd".to_owned(),
        _ => answer.status.as_u16().to_string(),
    }
}

impl World {
    /// The status that one caller gets on one route.
    async fn ask(&self, route: &'static str, means: Means) -> String {
        let mut user = self.user(means).clone();
        // A user who deletes their own account must not be needed by other requests.
        let ends_user = ["DELETE /api/v1/user/", "POST /ui/account/password"].contains(&route);
        if ends_user && matches!(means, Means::Session(_)) {
            user = self.another(&user).await;
        }
        let target = match route {
            _ if route.contains("{repository}") || route.contains("{group}") => self.shared_target(route).await,
            "POST /ui/admin/users/{username}/-/delete" if matches!(means, Means::Session(Who::Root)) => {
                let name = self.another(self.user(Means::Session(Who::Bob))).await.name;
                Target::default().form(&[("typed", &name)]).value("{username}", name)
            }
            _ => self.target(route, &user).await,
        };
        let (method, path) = route.split_once(' ').unwrap();
        let mut path = path.replace("{name}", NAME).replace("{absent}", ABSENT).replace("{tag}", "1");
        // Required parts of these requests.
        match route {
            "GET /api/v1/repository" => path.push_str("?public=true"),
            "GET /api/v1/superuser/access" | "GET /api/v1/user/access" => path.push_str("?repository=alice/app"),
            _ => {}
        }
        for (name, value) in &target.values {
            path = path.replace(name, value);
        }
        let mut request: Request = self.anonymous().request(method.parse().unwrap(), &path);
        if path.starts_with("/ui") && method == "POST" {
            let fields = String::from_utf8(target.body).unwrap();
            return shown(&self.form(request, means, &user, &fields).await.send().await);
        }
        request = request.body(target.body);
        if !target.content_type.is_empty() {
            request = request.header("content-type", target.content_type);
        }
        let quays = path.starts_with("/api/") || path == "/csrf_token";
        let answer = self.identify(request, means, &user, quays).await.send().await;
        if route == "DELETE /api/v1/superuser/users/{username}" && answer.status.is_success() {
            self.spare_user.lock().await.take();
        }
        shown(&answer)
    }
}
