//! A simulated GitHub: sign-in with OAuth, and the part of its REST API that identifies a user.
//!
//! Forms, statuses and headers follow GitHub's documentation (OAuth apps; REST API, version 2022-11-28), with the
//! relevant fields only. Requests beyond a token's scopes are refused as by GitHub, and so are requests without a
//! `User-Agent`. The API is at `/api/v3`, as on a GitHub Enterprise Server, and the pages are at `/login/oauth/…`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::agent;
use super::player::{Answer, Asked, Player, Reply};
use super::registry::Registry;

/// The client id and secret of registries.
pub const CLIENT: (&str, &str) = ("Iv1.8a61f9b3a7aba766", "github-s3cret-of-the-registry-0123456789");

/// The entries of a page by default and at most.
const PAGE: (usize, usize) = (30, 100);

/// A user of GitHub.
#[derive(Clone, Debug)]
pub struct Person {
    pub id: u64,
    pub login: &'static str,
    /// The address, whether it is the primary one, and whether it is verified.
    pub emails: Vec<(String, bool, bool)>,
    pub orgs: Vec<String>,
    /// Organization and slug.
    pub teams: Vec<(String, String)>,
}

/// The octocat of GitHub's documentation, whose only address is verified.
pub fn octocat() -> Person {
    Person {
        id: 583_231,
        login: "octocat",
        emails: vec![("octocat@github.example".to_owned(), true, true)],
        orgs: vec!["octo-org".to_owned()],
        teams: vec![("octo-org".to_owned(), "justice-league".to_owned())],
    }
}

#[derive(Debug, Default)]
struct Granted {
    redirect_uri: String,
    scope: String,
    challenge: String,
}

#[derive(Debug)]
struct State {
    person: Person,
    /// Whether the organization restricts the access of applications.
    restricted: bool,
    /// Whether the user has revoked the application's access.
    revoked: bool,
    codes: HashMap<String, Granted>,
    /// Tokens and their scopes.
    tokens: HashMap<String, String>,
    made: u32,
    asked: Vec<Asked>,
}

/// A running server. Every visitor is signed in as its user and consents.
#[derive(Debug)]
pub struct GitHub {
    player: Player,
    state: Arc<Mutex<State>>,
}

impl GitHub {
    pub async fn start(person: Person) -> Self {
        let state = State {
            person,
            restricted: false,
            revoked: false,
            codes: HashMap::new(),
            tokens: HashMap::new(),
            made: 0,
            asked: Vec::new(),
        };
        let state = Arc::new(Mutex::new(state));
        let shared = Arc::clone(&state);
        let player = Player::start(move |asked| Reply::Answer(shared.lock().unwrap().answer(&asked))).await;
        Self { player, state }
    }

    pub fn url(&self) -> String {
        self.player.url()
    }

    /// Changes the user.
    pub fn change(&self, change: impl FnOnce(&mut Person)) {
        change(&mut self.state.lock().unwrap().person);
    }

    /// Lets no application read the members of the organization.
    pub fn restrict(&self) {
        self.state.lock().unwrap().restricted = true;
    }

    /// Revokes the application's access.
    pub fn revoke(&self) {
        self.state.lock().unwrap().revoked = true;
    }

    /// The requests to this path.
    pub fn asked(&self, path: &str) -> Vec<Asked> {
        self.state.lock().unwrap().asked.iter().filter(|asked| asked.path == path).cloned().collect()
    }
}

/// A registry that uses it as a GitHub Enterprise Server.
pub fn registry(github: &GitHub, before: &str) -> Registry {
    let (url, (id, secret)) = (github.url(), CLIENT);
    Registry::start(&format!(
        "{before}\n[http.auth.openid.providers.github]\nclientid = '{id}'\nclientsecret = '{secret}'\n\
         authurl = '{url}/login/oauth/authorize'\ntokenurl = '{url}/login/oauth/access_token'\n\
         scopes = ['read:org', 'user:email']\n"
    ))
}

fn refusal(status: u16, message: &str) -> Answer {
    let documents = "https://docs.github.com/rest";
    Answer::json(status, &json!({ "message": message, "documentation_url": documents, "status": status.to_string() }))
}

/// The refusal of the token endpoint, which has the status 200.
fn oauth_error(asked: &Asked, error: &str, description: &str) -> Answer {
    let fields = [("error", error), ("error_description", description), ("error_uri", "https://docs.github.com/apps")];
    oauth(asked, &fields)
}

/// Fields as a form, or as JSON if the client accepts that.
fn oauth(asked: &Asked, fields: &[(&str, &str)]) -> Answer {
    if asked.header("accept").contains("application/json") {
        return Answer::json(200, &fields.iter().map(|(name, value)| (*name, Value::from(*value))).collect());
    }
    Answer::new(200, "application/x-www-form-urlencoded; charset=utf-8", agent::encode(fields))
}

impl State {
    fn answer(&mut self, asked: &Asked) -> Answer {
        self.asked.push(asked.clone());
        match (asked.method.as_str(), &*asked.path) {
            ("GET", "/login/oauth/authorize") => self.page(asked),
            ("POST", "/login/oauth/authorize") => self.authorize(asked),
            ("POST", "/login/oauth/access_token") => self.token(asked),
            ("GET", path) => match path.strip_prefix("/api/v3") {
                Some(path) => self.api(asked, path),
                None => refusal(404, "Not Found"),
            },
            _ => refusal(404, "Not Found"),
        }
    }

    /// The page that asks the user for consent.
    fn page(&self, asked: &Asked) -> Answer {
        if asked.query("client_id") != CLIENT.0 {
            return Answer::html(404, "<h1>404</h1>");
        }
        let inputs = asked.query.iter().map(|(name, value)| {
            let value = value.replace('&', "&amp;").replace('"', "&quot;").replace('<', "&lt;");
            format!("<input type=\"hidden\" name=\"{name}\" value=\"{value}\">")
        });
        let inputs = inputs.collect::<String>();
        let button = "<button type=\"submit\" name=\"authorize\" value=\"1\">Authorize</button>";
        let form = format!("<form action=\"/login/oauth/authorize\" method=\"post\">{inputs}{button}</form>");
        Answer::html(200, &format!("<title>Authorize {}</title>{form}", self.person.login))
    }

    fn authorize(&mut self, asked: &Asked) -> Answer {
        self.made += 1;
        let code = format!("{:020x}", 0xc0de_0000_0000_u64 + u64::from(self.made));
        let redirect_uri = asked.form("redirect_uri");
        if !asked.form("code_challenge").is_empty() {
            assert_eq!(asked.form("code_challenge_method"), "S256");
        }
        let granted = Granted {
            redirect_uri: redirect_uri.clone(),
            scope: asked.form("scope"),
            challenge: asked.form("code_challenge"),
        };
        self.codes.insert(code.clone(), granted);
        let sign = if redirect_uri.contains('?') { '&' } else { '?' };
        let parameters = agent::encode(&[("code", &*code), ("state", &*asked.form("state"))]);
        Answer::redirect(&format!("{redirect_uri}{sign}{parameters}"))
    }

    fn token(&mut self, asked: &Asked) -> Answer {
        let basic = agent::basic(&asked.header("authorization"));
        let form = (asked.form("client_id"), asked.form("client_secret"));
        if basic.unwrap_or(form) != (CLIENT.0.to_owned(), CLIENT.1.to_owned()) {
            let text = "The client_id and/or client_secret passed are incorrect.";
            return oauth_error(asked, "incorrect_client_credentials", text);
        }
        let Some(granted) = self.codes.remove(&asked.form("code")) else {
            return oauth_error(asked, "bad_verification_code", "The code passed is incorrect or expired.");
        };
        let uri = asked.form("redirect_uri");
        if !uri.is_empty() && uri != granted.redirect_uri {
            return oauth_error(asked, "redirect_uri_mismatch", "The redirect_uri MUST match the registered callback.");
        }
        let verifier = asked.form("code_verifier");
        let hashed = URL_SAFE_NO_PAD.encode(digest(&SHA256, verifier.as_bytes()));
        if !granted.challenge.is_empty() && hashed != granted.challenge {
            return oauth_error(asked, "bad_verification_code", "The code_verifier does not match.");
        }
        self.made += 1;
        self.revoked = false;
        let token = format!("gho_{:036}", 16_000_000_000_u64 + u64::from(self.made));
        let scope = granted.scope.split([' ', ',']).filter(|scope| !scope.is_empty()).collect::<Vec<_>>().join(",");
        self.tokens.insert(token.clone(), scope.clone());
        oauth(asked, &[("access_token", &token), ("scope", &scope), ("token_type", "bearer")])
    }

    fn api(&self, asked: &Asked, path: &str) -> Answer {
        if asked.header("user-agent").is_empty() {
            return Answer::html(
                403,
                "Request forbidden by administrative rules. Please make sure your request has a \
                User-Agent header (https://docs.github.com/en/rest/overview/resources-in-the-rest-api#user-agent-required).",
            );
        }
        let authorization = asked.header("authorization");
        let (scheme, token) = authorization.split_once(' ').unwrap_or_default();
        let known = ["bearer", "token"].contains(&&*scheme.to_lowercase());
        let Some(scopes) = self.tokens.get(token).filter(|_| known && !self.revoked) else {
            return refusal(401, "Bad credentials");
        };
        let has = |wanted: &[&str]| scopes.split(',').any(|scope| wanted.contains(&scope));
        let person = &self.person;
        let org = |name: &str| json!({ "login": name, "id": 9919, "node_id": "MDEyOk9yZw==", "description": null });
        match path {
            "/user" => Answer::json(
                200,
                &json!({
                    "login": person.login,
                    "id": person.id,
                    "node_id": "MDQ6VXNlcjU4MzIzMQ==",
                    "type": "User",
                    "site_admin": false,
                    "name": "The Octocat",
                    "email": null, // what is not public is not here
                    "created_at": "2011-01-25T18:44:36Z",
                }),
            )
            .header("x-oauth-scopes", &scopes.replace(',', ", ")),
            "/user/emails" if !has(&["user", "user:email"]) => refusal(404, "Not Found"),
            "/user/emails" => {
                let entry = |(email, primary, verified): &(String, bool, bool)| {
                    let visibility = if *primary { json!("private") } else { Value::Null };
                    json!({ "email": email, "primary": primary, "verified": verified, "visibility": visibility })
                };
                page(asked, person.emails.iter().map(entry).collect())
            }
            "/user/orgs" | "/user/teams" if self.restricted => refusal(
                403,
                "Although you appear to have the correct authorization credentials, the `octo-org` organization has \
                 enabled OAuth App access restrictions, meaning that data access to third-parties is limited.",
            ),
            "/user/orgs" if !has(&["user", "read:org", "read:user"]) => {
                refusal(403, "You need at least read:org scope or user scope to list your organizations.")
            }
            "/user/orgs" => page(asked, person.orgs.iter().map(|name| org(name)).collect()),
            "/user/teams" if !has(&["user", "read:org", "repo"]) => refusal(404, "Not Found"),
            "/user/teams" => {
                let entry = |(name, slug): &(String, String)| json!({ "id": 1, "name": slug.replace('-', " "), "slug": slug, "organization": org(name) });
                page(asked, person.teams.iter().map(entry).collect())
            }
            _ => refusal(404, "Not Found"),
        }
    }
}

/// One page of a list with the `Link` header for the others.
fn page(asked: &Asked, all: Vec<Value>) -> Answer {
    let size = asked.query("per_page").parse().unwrap_or(PAGE.0).clamp(1, PAGE.1);
    let at: usize = asked.query("page").parse().unwrap_or(1).max(1);
    let last = all.len().div_ceil(size).max(1);
    let entries: Vec<Value> = all.into_iter().skip((at - 1) * size).take(size).collect();
    let answer = Answer::json(200, &Value::from(entries));
    let url = |page: usize| format!("http://{}{}?per_page={size}&page={page}", asked.header("host"), asked.path);
    let next = (at < last).then(|| format!("<{}>; rel=\"next\", <{}>; rel=\"last\"", url(at + 1), url(last)));
    let before = (at > 1).then(|| format!("<{}>; rel=\"prev\", <{}>; rel=\"first\"", url(at - 1), url(1)));
    let links: Vec<String> = before.into_iter().chain(next).collect();
    if links.is_empty() { answer } else { answer.header("link", &links.join(", ")) }
}

/// Tests the simulation without a registry.
#[tokio::test]
async fn the_simulated_github_responds_as_documented() {
    let mut person = octocat();
    person.orgs = (0..130).map(|n| format!("org-{n}")).collect();
    let github = GitHub::start(person).await;
    let (login, api) = (format!("{}/login/oauth", github.url()), format!("{}/api/v3", github.url()));
    let mut agent = agent::Agent::default();
    let redirect = "http://127.0.0.1:9/callback";
    let query = agent::encode(&[("client_id", CLIENT.0), ("redirect_uri", redirect), ("scope", "read:org user:email")]);
    let page = agent.get(&format!("{login}/authorize?{query}&state=s")).await.status(200);
    let location = agent.submit(&page, &[]).await.status(302).location();
    assert!(location.starts_with(redirect) && location.ends_with("state=s"), "{location}");
    let code = agent::parameter(&location, "code").unwrap();
    let form = [("client_id", CLIENT.0), ("client_secret", CLIENT.1), ("code", &*code)];
    let answer = agent.post(&format!("{login}/access_token"), &form).await.status(200);
    let answer = agent::pairs(&answer.text());
    assert_eq!(answer[1], ("scope".to_owned(), "read:org,user:email".to_owned()));
    let again = agent.post(&format!("{login}/access_token"), &form).await.status(200);
    assert!(again.text().starts_with("error=bad"), "{}", again.text());
    let bearer = format!("Bearer {}", answer[0].1);
    let headers = [("authorization", &*bearer), ("user-agent", "tests")];
    let mut get = async |path: &str, headers: &[(&str, &str)]| {
        agent.send(hyper::Method::GET, &format!("{api}{path}"), headers, "").await
    };
    get("/user", &headers[..1]).await.status(403);
    get("/user", &headers[1..]).await.status(401);
    assert_eq!(get("/user", &headers).await.status(200).json()["login"], "octocat");
    let page = get("/user/orgs?per_page=1000&page=2", &headers).await.status(200);
    assert_eq!((page.json().as_array().unwrap().len(), &page.json()[0]["login"]), (30, &json!("org-100")));
    let page = get("/user/orgs", &headers).await.status(200);
    assert!(page.header("link").unwrap().contains("page=2>; rel=\"next\""), "{page:?}");
    github.restrict();
    get("/user/teams", &headers).await.status(403);
}
