//! The commands of zot's document on API keys and of part A of Quay's API document, word for word: with real curl, jq
//! and shell, against a fresh registry, over plain HTTP and over TLS with HTTP/2. Only scheme and host, and
//! values of earlier responses, are filled in.

use std::collections::BTreeSet;
use std::fs;

use jiff::Timestamp;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::curl::Curl;
use super::home::{Home, needs};
use super::image::{Descriptor, OCI_CONFIG, OCI_MANIFEST};
use super::target::{TRANSPORTS, Target, guarded_with, with_htpasswd};
use crate::support::process::ADMIN;

/// zot's text for "no time".
const NEVER: &str = "0001-01-01T00:00:00Z";

/// The fields of a key as zot orders them; the last one is there once.
const FIELDS: [&str; 10] = [
    "createdAt",
    "expirationDate",
    "isExpired",
    "creatorUa",
    "generatedBy",
    "lastUsed",
    "label",
    "scopes",
    "uuid",
    "apiKey",
];

/// One edition of zot's document.
struct Edition {
    create: &'static str,
    label: &'static str,
    list: &'static str,
    use_key: &'static str,
    revoke: &'static str,
}

/// As it was when API keys came, and as it is today.
const EDITIONS: [Edition; 2] = [
    Edition {
        create: r#"curl -u user:password -X POST http://localhost:8080/v2/_zot/ext/apikey -d '{"label": "myLabel", "scopes": ["repo1", "repo2"]}'"#,
        label: "myLabel",
        list: "curl -u user:password -X GET http://localhost:8080/v2/_zot/ext/apikey",
        use_key: "curl -u user:zak_e77bcb9e9f634f1581756abbf9ecd269 http://localhost:8080/v2/_catalog",
        revoke: r#"curl -u user:password -X DELETE "http://localhost:8080/v2/_zot/ext/apikey?id=46a45ce7-5d92-498a-a9cb-9654b1da3da1""#,
    },
    Edition {
        create: r#"curl -u user:password -X POST http://localhost:8080/zot/auth/apikey -d '{"label": "git", "scopes": ["repo1", "repo2"]}'"#,
        label: "git",
        list: "curl -u user:password -X GET http://localhost:8080/zot/auth/apikey",
        use_key: "curl -u user:zak_e77bcb9e9f634f1581756abbf9ecd269 http://localhost:8080/v2/_catalog",
        revoke: "curl -u user:password -X DELETE http://localhost:8080/zot/auth/apikey?id=46a45ce7-5d92-498a-a9cb-9654b1da3da1",
    },
];
const EXPIRING: &str = r#"curl -u user:password -X POST http://localhost:8080/zot/auth/apikey -d '{"label": "myAPIKEY", "expirationDate": "2023-08-28T17:10:05+03:00"}'"#;

/// Part A of Quay's document.
const QUAYS: &str = r#"CSRF_TOKEN=$(curl -s -c cookies.txt -b cookies.txt "http://localhost:8080/csrf_token" | jq -r '.csrf_token')
curl -s -c cookies.txt -b cookies.txt -X POST \
  -H "Content-Type: application/json" -H "X-Requested-With: XMLHttpRequest" \
  -H "X-CSRF-Token: $CSRF_TOKEN" \
  -d '{"username": "admin", "password": "password"}' "http://localhost:8080/api/v1/signin"
curl -s -b cookies.txt "http://localhost:8080/api/v1/user/"
"#;

/// Part B.
const QUAYS_TOKEN: &str = r#"TOKEN=$(curl -s -u username:password "http://localhost:8080/v2/auth?service=localhost:8080" | jq -r '.token')
"#;
const QUAYS_CATALOG: &str = r#"curl -s -H "Authorization: Bearer $TOKEN" "http://localhost:8080/v2/_catalog"
"#;
const QUAYS_SCOPED_TOKEN: &str = r#"TOKEN=$(curl -s -u username:password \
  "http://localhost:8080/v2/auth?service=localhost:8080&scope=repository:namespace/repo:pull" | jq -r '.token')
"#;

/// A shell with its own home. curl's configuration file makes it print the status, the content type, the next CSRF token
/// and the HTTP version as well, so that the commands stay as they are.
struct Shell<'a> {
    home: &'a Home,
    target: &'a Target,
    /// The replacement for `localhost:8080`.
    registry: String,
}

/// The standard output of a script, and its responses.
#[derive(Debug)]
struct Said {
    body: String,
    answers: Vec<[String; 3]>,
}

impl<'a> Shell<'a> {
    fn new(home: &'a Home, target: &'a Target) -> Self {
        let format = "%{stderr}%{http_code}|%{content_type}|%header{x-next-csrf-token}|%{http_version}\\n";
        home.write(".curlrc", format!("silent\nshow-error\nwrite-out = \"{format}\"\n"));
        Self { home, target, registry: target.host_port.clone() }
    }

    /// The same where the registry seems to be at `localhost:8080`, so that commands need no change at all.
    fn at_8080(home: &'a Home, target: &'a Target) -> Self {
        let shell = Self::new(home, target);
        let settings = fs::read_to_string(home.path(".curlrc")).unwrap();
        home.write(".curlrc", format!("{settings}connect-to = \"localhost:8080:{}\"\n", target.host_port));
        Self { registry: "localhost:8080".to_owned(), ..shell }
    }

    fn run(&self, script: &str) -> Said {
        let (scheme, version) = if self.target.is_https() { ("https://", "2") } else { ("http://", "1.1") };
        let script = script.replace("http://", scheme).replace("localhost:8080", &self.registry);
        let done = self.home.run("sh", &["-c", &script]);
        let answers = done.stderr.lines().map(|line| {
            let (line, spoken) = line.rsplit_once('|').unwrap_or_else(|| panic!("{line}"));
            assert_eq!(spoken, version);
            let mut parts = line.split('|').map(str::to_owned);
            std::array::from_fn(|_| parts.next().unwrap_or_else(|| panic!("{line}")))
        });
        Said { body: done.text().to_owned(), answers: answers.collect() }
    }

    /// Runs a script of one answer, which must have this status and, with a body, be JSON.
    #[track_caller]
    fn gets(&self, script: &str, status: u16) -> String {
        let Said { body, answers } = self.run(script);
        let [[got, content_type, _]] = &*answers else { panic!("{script}: {answers:?}") };
        assert_eq!(*got, status.to_string(), "{script}: {body}");
        assert_eq!(content_type, if body.is_empty() { "" } else { "application/json" }, "{script}: {body}");
        body
    }
}

/// The time in a field, which has to be RFC 3339.
fn time(value: &Value) -> Timestamp {
    value.as_str().unwrap().parse().unwrap_or_else(|error| panic!("{value}: {error}"))
}

/// Asserts everything that can be known of a key's fields, and that they stand in zot's order.
fn check_key(body: &str, begun: Timestamp, agent: &str, fields: &[&str]) -> Value {
    let key: Value = serde_json::from_str(body).unwrap();
    let names: BTreeSet<&str> = key.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(names, fields.iter().copied().collect(), "{body}");
    let places: Vec<usize> = fields.iter().map(|name| body.find(&format!("\"{name}\":")).unwrap()).collect();
    assert!(places.is_sorted(), "{body}");
    let created = time(&key["createdAt"]);
    assert!(begun <= created && created <= Timestamp::now(), "{body}");
    assert_eq!((&key["generatedBy"], &key["creatorUa"]), (&json!("manual"), &json!(agent)));
    let id = key["uuid"].as_str().unwrap();
    let version = uuid::Uuid::parse_str(id).unwrap().get_version_num();
    assert_eq!((version, id.len(), id), (4, 36, &*id.to_lowercase()));
    if let Some(secret) = key["apiKey"].as_str() {
        let digits = secret.strip_prefix("zak_").unwrap();
        let hex = |digit: u8| matches!(digit, b'0'..=b'9' | b'a'..=b'f');
        assert!(digits.len() == 32 && digits.bytes().all(hex), "{secret}");
    }
    key
}

/// The body of a list of one key: the key.
fn only(list: &str) -> &str {
    list.strip_prefix("{\"apiKeys\":[").and_then(|rest| rest.strip_suffix("]}")).unwrap_or_else(|| panic!("{list}"))
}

#[test]
fn the_commands_of_zots_document_on_api_keys() {
    needs!(CURL);
    for (profile, transport) in ["coracle", "zot"].into_iter().flat_map(|profile| TRANSPORTS.map(|way| (profile, way)))
    {
        let target = with_htpasswd(transport, profile, "user", "password");
        let home = Home::beside(&target);
        let shell = Shell::new(&home, &target);
        let agent = home.run("curl", &["--version"]).words()[..2].join("/");
        if profile == "zot" {
            // Where everybody may push anywhere, as in zot, the key's scopes show in the catalog.
            for repository in ["repo1", "repo2", "repo3"] {
                let curl = Curl::of(&home, &target);
                curl.push_blob(repository, b"{}");
                let config = Descriptor::of(OCI_CONFIG, b"{}").json();
                let manifest = json!({ "schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": [] });
                curl.push_manifest(repository, "1", OCI_MANIFEST, manifest.to_string().as_bytes());
            }
        }
        let catalog = if profile == "zot" { json!(["repo1", "repo2"]) } else { json!([]) };
        for edition in EDITIONS {
            let begun = Timestamp::now();
            let made = check_key(&shell.gets(edition.create, 201), begun, &agent, &FIELDS);
            assert_eq!((&made["label"], &made["scopes"]), (&json!(edition.label), &json!(["repo1", "repo2"])));
            assert_eq!((&made["expirationDate"], &made["isExpired"]), (&json!(NEVER), &json!(false)));
            assert_eq!(made["lastUsed"], NEVER);
            let unused = check_key(only(&shell.gets(edition.list, 200)), begun, &agent, &FIELDS[..9]);
            assert_eq!(unused["lastUsed"], NEVER);

            let secret = made["apiKey"].as_str().unwrap();
            let use_key = edition.use_key.replace("zak_e77bcb9e9f634f1581756abbf9ecd269", secret);
            let before = Timestamp::now();
            let listed: Value = serde_json::from_str(&shell.gets(&use_key, 200)).unwrap();
            assert_eq!(listed, json!({ "repositories": catalog }));
            let used = check_key(only(&shell.gets(edition.list, 200)), begun, &agent, &FIELDS[..9]);
            assert!(time(&used["lastUsed"]) >= before && time(&used["lastUsed"]) <= Timestamp::now(), "{used}");
            for field in FIELDS[..9].iter().filter(|field| **field != "lastUsed") {
                assert_eq!(used[*field], made[*field], "{field}");
            }

            let id = made["uuid"].as_str().unwrap();
            let revoke = edition.revoke.replace("46a45ce7-5d92-498a-a9cb-9654b1da3da1", id);
            assert_eq!(shell.gets(&revoke, 200), "");
            let refused: Value = serde_json::from_str(&shell.gets(&use_key, 401)).unwrap();
            assert_eq!(refused["errors"][0]["code"], "UNAUTHORIZED");
            assert_eq!(shell.gets(edition.list, 200), r#"{"apiKeys":[]}"#);
            // A key that no longer exists counts as revoked.
            assert_eq!(shell.gets(&revoke, 200), "");
        }

        // The date of the document is over; the same in a year that is to come.
        shell.gets(EXPIRING, 400);
        let begun = Timestamp::now();
        let body = shell.gets(&EXPIRING.replace("2023", "2093"), 201);
        let made = check_key(&body, begun, &agent, &FIELDS);
        assert_eq!(time(&made["expirationDate"]), "2093-08-28T17:10:05+03:00".parse().unwrap());
        assert_eq!((&made["isExpired"], &made["label"]), (&json!(false), &json!("myAPIKEY")));
        assert_eq!((&made["scopes"], &made["lastUsed"]), (&Value::Null, &json!(NEVER)));
    }
}

/// The values of a script's output, one behind the other.
fn values(text: &str) -> Vec<Value> {
    serde_json::Deserializer::from_str(text).into_iter().map(Result::unwrap).collect()
}

/// A cookie as curl keeps it: what is before its name, its name, its value, and when it ends.
fn cookie(jar: &str) -> (Vec<&str>, &str, &str, i64) {
    let lines: Vec<&str> = jar.lines().filter(|line| line.contains('\t')).collect();
    let [line] = &*lines else { panic!("{} cookies in {jar}", lines.len()) };
    let fields: Vec<&str> = line.split('\t').collect();
    (fields[..4].to_vec(), fields[5], fields[6], fields[4].parse().unwrap())
}

#[test]
fn the_three_commands_of_quays_document() {
    needs!(CURL, JQ);
    for transport in TRANSPORTS {
        the_three_commands(&guarded_with(transport, "password"));
    }
}

fn the_three_commands(target: &Target) {
    let home = Home::beside(target);
    let shell = Shell::new(&home, target);
    // The three commands are one script; between them stands what keeps the jar as it was then.
    let script = QUAYS.replacen("\ncurl", "\necho \"$CSRF_TOKEN\" > token.txt; cp cookies.txt visitor.txt\ncurl", 1);
    assert_eq!(script.lines().filter(|line| !QUAYS.contains(*line)).count(), 1);
    let Said { body, answers } = shell.run(&script);
    let read = |name: &str| fs::read_to_string(home.path(&format!("tmp/{name}"))).unwrap();

    let statuses: Vec<&str> = answers
        .iter()
        .map(|[status, content_type, _]| {
            assert_eq!(content_type, "application/json");
            &**status
        })
        .collect();
    assert_eq!(statuses, ["200", "200", "200"], "{body}");
    let token = read("token.txt");
    let alphabet = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    for token in [token.trim(), &answers[1][2]] {
        assert!(token.len() == 64 && token.bytes().all(alphabet), "{token}");
    }
    assert_ne!(token.trim(), answers[1][2], "an anonymous token differs from the token of a user");
    assert_eq!((&*answers[0][2], &*answers[2][2]), ("", ""));

    // For this host alone, for every path, only over https if that is how it was set, and not for scripts; until the
    // browser is closed, and after signing in for a while.
    let (visitor, jar) = (read("visitor.txt"), read("cookies.txt"));
    let ((place, name, before, none), (same_place, same_name, after, until)) = (cookie(&visitor), cookie(&jar));
    let only_https = if target.is_https() { "TRUE" } else { "FALSE" };
    assert_eq!((&*place, &*same_place), (&["#HttpOnly_127.0.0.1", "FALSE", "/", only_https][..], &*place));
    assert_eq!((name, same_name, none), (name, name, 0));
    assert_ne!(before, after, "what a visitor had is no session");
    assert!(until > Timestamp::now().as_second() + 3600, "{jar}");

    let [signed_in, user] = &*values(&body) else { panic!("{body}") };
    assert_eq!(*signed_in, json!({ "success": true }));
    let expected = json!({
        "anonymous": false,
        "username": "admin",
        "avatar": { "name": "admin", "hash": hex::encode(Sha256::digest("admin")), "color": user["avatar"]["color"], "kind": "user" },
        "can_create_repo": true,
        "is_me": true,
        "verified": true,
        "email": null,
        "logins": [],
        "invoice_email": false,
        "invoice_email_address": null,
        "preferred_namespace": true,
        "tag_expiration_s": 1_209_600,
        "prompts": [],
        "company": null,
        "family_name": null,
        "given_name": null,
        "location": null,
        "is_free_account": true,
        "has_password_set": true,
        "organizations": [],
        "super_user": true,
        // Ours.
        "groups": [],
        "namespace": "admin",
        "namespace_note": null,
        "provider": null,
    });
    assert_eq!(*user, expected);
    let color = user["avatar"]["color"].as_str().unwrap();
    assert!(color.len() == 7 && color.starts_with('#'), "{color}");

    // The responses in Quay's reference around these examples.
    let token_again = r#"curl -s -b cookies.txt "http://localhost:8080/csrf_token""#;
    let csrf: Value = serde_json::from_str(&shell.gets(token_again, 200)).unwrap();
    assert_eq!(csrf, json!({ "csrf_token": answers[1][2] }));
    let post = |token: &str, path: &str, body: &str| {
        format!(
            r#"curl -s -b cookies.txt -X POST -H "X-CSRF-Token: {token}" -d '{body}' "http://localhost:8080{path}""#
        )
    };
    let refused: Value = serde_json::from_str(&shell.gets(&post(token.trim(), "/api/v1/signout", ""), 403)).unwrap();
    assert_eq!(refused["error"], "CSRF token was invalid or missing.");
    let wrong = post(&answers[1][2], "/api/v1/signin", r#"{"username": "admin", "password": "passwort"}"#);
    let wrong: Value = serde_json::from_str(&shell.gets(&wrong, 403)).unwrap();
    assert_eq!((&wrong["needsEmailVerification"], &wrong["invalidCredentials"]), (&json!(false), &json!(true)));
    assert_eq!(wrong["message"], "Invalid Username or Password");
    let out = shell.gets(&post(&answers[1][2], "/api/v1/signout", ""), 200);
    assert_eq!(values(&out), [json!({ "success": true })]);
    let gone: Value = serde_json::from_str(&shell.gets(QUAYS.lines().last().unwrap(), 401)).unwrap();
    let expected = json!({
        "session_required": false,
        "detail": "Requires authentication",
        "error_message": "Requires authentication",
        "error_type": "invalid_token",
        "title": "invalid_token",
        "type": target.url("/api/v1/error/invalid_token"),
        "status": 401,
        // Ours: some readers look here.
        "message": "Requires authentication",
    });
    assert_eq!(gone, expected);
}

/// Runs one of the document's commands that set `TOKEN`. Gives the token, and checks every field of the answer, and
/// the whole of the token against what it has to be for.
fn token(shell: &Shell, command: &str, access: &Value) -> String {
    let begun = Timestamp::now().as_second();
    // jq notes what it reads, and is the same otherwise.
    let script = format!("jq() {{ tee answer.json | command jq \"$@\"; }}\n{command}printf %s \"$TOKEN\"");
    let token = shell.gets(&script, 200);
    let text = fs::read_to_string(shell.home.path("tmp/answer.json")).unwrap();
    let answer: Value = serde_json::from_str(&text).unwrap();
    let expected = json!({
        "token": token, "access_token": token, "expires_in": 3600, "issued_at": answer["issued_at"],
    });
    assert_eq!(answer, expected);
    let issued = time(&answer["issued_at"]).as_second();
    assert!(begun <= issued && issued <= Timestamp::now().as_second(), "{answer}");

    // jq 1.6 reads base64 with the alphabet of RFC 4648, 4 alone.
    let parts = r#"split(".")[:2][] | gsub("-"; "+") | gsub("_"; "/") | @base64d | fromjson"#;
    let read = shell.home.run_fed("jq", &["--raw-input", parts], &token);
    let [header, claims] = &*values(read.text()) else { panic!("{read:?}") };
    let keys: Value =
        serde_json::from_str(&shell.gets("curl http://localhost:8080/.well-known/jwks.json", 200)).unwrap();
    assert_eq!(*header, json!({ "typ": "JWT", "alg": "ES256", "kid": keys["keys"][0]["kid"] }));
    let by = claims["by"]["password"].as_number().unwrap();
    let expected = json!({
        "iss": "coracle", "sub": "username", "aud": "coracle", "access": access, "jti": claims["jti"],
        "iat": issued, "nbf": issued, "exp": issued + 3600,
        // Ours: with the password the token ends.
        "by": { "password": by },
    });
    assert_eq!(*claims, expected);
    assert_eq!(uuid::Uuid::parse_str(claims["jti"].as_str().unwrap()).unwrap().get_version_num(), 4);
    token
}

#[test]
fn the_token_commands_of_quays_document() {
    needs!(CURL, JQ);
    for transport in TRANSPORTS {
        let target = with_htpasswd(transport, "coracle", "username", "password");
        the_token_commands(&target.signed_in_as(ADMIN.0, ADMIN.1));
    }
}

fn the_token_commands(target: &Target) {
    let admins = Home::beside(target);
    let home = Home::beside(target);
    let shell = Shell::at_8080(&home, target);
    let curl = Curl::of(&admins, target);
    for repository in ["namespace/repo", "namespace/other", "namespace/hidden"] {
        curl.push_blob(repository, b"{}");
        let config = Descriptor::of(OCI_CONFIG, b"{}").json();
        let manifest = json!({ "schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": [] });
        curl.push_manifest(repository, "1", OCI_MANIFEST, manifest.to_string().as_bytes());
    }
    let key = curl.send("/zot/auth/apikey", &["--request", "POST", "--data", "{}"]).is(201).json();
    let key = format!("Authorization: Bearer {}", key["apiKey"].as_str().unwrap());
    for repository in ["namespace/repo", "namespace/other"] {
        let path = format!("/api/v1/repository/{repository}/permissions/user/username");
        let role = ["--request", "PUT", "--header", "Content-Type: application/json", "--data", r#"{"role": "write"}"#];
        let admin = Curl::stranger(&admins, target);
        admin.send(&path, &[&role[..], &["--header", &key]].concat()).is(200);
    }

    // Without a scope the token lists what its user sees, and opens nothing.
    let login = token(&shell, QUAYS_TOKEN, &json!([]));
    let with = |token: &str, command: &str| format!("TOKEN={token}\n{command}");
    let listed: Value = serde_json::from_str(&shell.gets(&with(&login, QUAYS_CATALOG), 200)).unwrap();
    assert_eq!(listed, json!({ "repositories": ["namespace/other", "namespace/repo"] }));
    let scoped = token(
        &shell,
        QUAYS_SCOPED_TOKEN,
        &json!([{ "type": "repository", "name": "namespace/repo", "actions": ["pull"] }]),
    );
    assert_ne!(login, scoped);
    let listed_scoped: Value = serde_json::from_str(&shell.gets(&with(&scoped, QUAYS_CATALOG), 200)).unwrap();
    assert_eq!(listed_scoped, json!({ "repositories": ["namespace/repo"] }));

    // The rights of each token. Its user may write to two repositories, and does not see the third.
    let start = "-X POST http://localhost:8080/v2";
    let (manifest, tags) = ("http://localhost:8080/v2/namespace/repo/manifests/1", "/tags/list");
    let rows: [(&str, &str, String); 9] = [
        ("200", "200", "http://localhost:8080/v2/".to_owned()),
        ("401", "200", manifest.to_owned()),
        ("401", "200", format!("http://localhost:8080/v2/namespace/repo{tags}")),
        ("401", "401", format!("{start}/namespace/repo/blobs/uploads/")),
        ("401", "401", format!("-X DELETE {manifest}")),
        ("401", "401", format!("http://localhost:8080/v2/namespace/other{tags}")),
        ("403", "403", format!("http://localhost:8080/v2/namespace/hidden{tags}")),
        ("403", "403", format!("http://localhost:8080/v2/namespace/absent{tags}")),
        ("403", "403", "http://localhost:8080/zot/auth/apikey".to_owned()),
    ];
    for (without_scope, with_scope, request) in rows {
        for (token, expected) in [(&login, without_scope), (&scoped, with_scope)] {
            let script = with(token, &format!(r#"curl -s -D head.txt -H "Authorization: Bearer $TOKEN" {request}"#));
            let Said { body, answers } = shell.run(&script);
            assert_eq!(answers[0][0], expected, "{request}: {body}");
            let head = fs::read_to_string(home.path("tmp/head.txt")).unwrap().to_lowercase();
            assert_eq!(head.contains("error=\"insufficient_scope\""), expected == "401", "{head}");
        }
    }
    assert_eq!(curl.tags("namespace/repo"), ["1"], "nothing was deleted");

    // A wrong password gets no token, and jq finds none in the refusal.
    let wrong = QUAYS_TOKEN.replace("username:password", "username:wrong") + "printf %s \"$TOKEN\"";
    let none = shell.gets(&wrong, 401);
    assert_eq!(none, "null");
    shell.gets(&with("null", QUAYS_CATALOG), 401);
}
