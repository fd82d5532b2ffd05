//! Tokens of an external token issuer (zot's `http.auth.bearer`): which are accepted, and their rights.

use std::path::{Path, PathBuf};

use aws_lc_rs::hmac;
use aws_lc_rs::signature as sign;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use coracle::Registry;
use coracle::config::Config;
use serde_json::{Value, json};

use crate::support::TestRegistry;
use crate::support::content::{push_blob, push_image, start_upload};
use crate::support::http::Answer;
use crate::support::issuer::{Private, encode, pem};
use crate::support::process::Program;
use crate::support::registry::{ALICE, ROOT};

const REALM: &str = "https://auth.example/token?tenant=1";
const SERVICE: &str = "registry.example";

fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

/// The claims of a valid token of the issuer.
fn claims(access: &Value) -> Value {
    json!({ "iss": "auth.example", "sub": "carol", "aud": SERVICE, "exp": now() + 300, "nbf": now(), "iat": now(), "access": access })
}

fn entry(name: &str, actions: &[&str]) -> Value {
    json!({ "type": "repository", "name": name, "actions": actions })
}

/// A configuration with the issuer, whose keys are in a file.
fn settings(directory: &Path, keys: &str) -> String {
    let file = directory.join("keys");
    std::fs::write(&file, keys).unwrap();
    format!("[http.auth.bearer]\nrealm = '{REALM}'\nservice = '{SERVICE}'\ncert = '{}'\n", file.display())
}

/// A registry that trusts the issuer and has users of its own.
async fn registry(keys: &str, more: &str) -> TestRegistry {
    let directory = tempfile::tempdir().unwrap();
    let config = Config::from_toml_str(&format!("{more}\n{}", settings(directory.path(), keys))).unwrap().config;
    let builder = Registry::builder().config(config).user(ALICE.0, ALICE.1).superuser(ROOT.0, ROOT.1);
    TestRegistry::start(builder).await
}

async fn send(t: &TestRegistry, token: &str, method: &str, path: &str) -> Answer {
    let request = t.anonymous().request(method.parse().unwrap(), path);
    request.header("authorization", format!("Bearer {token}")).send().await
}

/// The challenge that sends clients to the issuer.
fn challenge(rest: &str) -> String {
    format!("Bearer realm=\"{REALM}\",service=\"{SERVICE}\"{rest}")
}

#[tokio::test]
async fn an_external_token_grants_what_it_lists_regardless_of_the_rules() {
    let key = Private::rsa();
    let rules =
        "[http.accessControl.repositories]\n'open/**' = { anonymousPolicy = ['read'] }\n'**' = { defaultPolicy = [] }";
    let t = registry(&key.certificate(), rules).await;
    push_image(&t.user(ROOT), "alice/x", "1", 1).await;
    push_image(&t.user(ROOT), "open/x", "1", 2).await;
    // A holder with the name of a user does not become that user.
    let token = |access: Value| {
        let mut claims = claims(&access);
        claims["sub"] = json!("root");
        key.token("RS256", &json!({}), &claims)
    };
    let manifest = "/v2/alice/x/manifests/1";
    let refused = async |token: &str, method: &str, path: &str, scope: &str| {
        let answer = send(&t, token, method, path).await.error(401, "UNAUTHORIZED");
        let expected = challenge(&format!(",scope=\"{scope}\",error=\"insufficient_scope\""));
        assert_eq!(answer.header("www-authenticate"), Some(expected.as_str()), "{method} {path}");
    };

    let pull = token(json!([entry("alice/x", &["pull"])]));
    send(&t, &pull, "GET", "/v2/").await.status(200);
    send(&t, &pull, "GET", manifest).await.status(200);
    refused(&pull, "POST", "/v2/alice/x/blobs/uploads/", "repository:alice/x:pull,push").await;
    refused(&pull, "DELETE", manifest, "repository:alice/x:delete").await;
    refused(&pull, "GET", "/v2/alice/xx/tags/list", "repository:alice/xx:pull").await;
    t.anonymous().get("/v2/open/x/tags/list").send().await.status(200);
    refused(&pull, "GET", "/v2/open/x/tags/list", "repository:open/x:pull").await;
    // The token gives no access to accounts.
    for path in ["/api/v1/user/", "/api/v1/superuser/users/", "/api/v1/repository/alice/x/permissions/user/"] {
        send(&t, &pull, "GET", path).await.status(401);
    }
    for path in ["/zot/auth/apikey", "/v2/auth?scope=repository:alice/x:push", "/metrics"] {
        send(&t, &pull, "GET", path).await.error(401, "UNAUTHORIZED");
    }

    for (access, allowed) in [
        (json!([]), ""),
        (json!(null), ""),
        (json!([entry("alice/x", &[])]), ""),
        (json!([entry("alice/*", &["pull"]), entry("**", &["pull"])]), ""),
        (json!([{ "type": "registry", "name": "alice/x", "actions": ["pull"] }]), ""),
        (json!([entry("alice/x", &["fly", "pull"])]), "r"),
        (json!([entry("alice/x", &["pull"]), entry("alice/x", &["push"])]), "rw"),
        (json!([entry("alice/x", &["push"])]), "w"),
        (json!([entry("alice/x", &["delete"])]), "d"),
        (json!([entry("alice/x", &["*"])]), "rwd"),
    ] {
        let token = token(access.clone());
        let absent = format!("/v2/alice/x/manifests/sha256:{}", "0".repeat(64));
        let mut found = String::new();
        for (letter, method, path, done) in [
            ('r', "GET", manifest, 200),
            ('w', "POST", "/v2/alice/x/blobs/uploads/", 202),
            ('d', "DELETE", absent.as_str(), 404),
        ] {
            let answer = send(&t, &token, method, path).await;
            assert!([done, 401].contains(&answer.status.as_u16()), "{access} {method}: {}", answer.text());
            if answer.status == done {
                found.push(letter);
            }
        }
        assert_eq!(found, allowed, "{access}");
        // No action in the token allows changing permissions.
        send(&t, &token, "GET", "/api/v1/repository/alice/x/permissions/user/").await.status(401);
    }

    // A push to a new repository, a moved tag, and a mount of a blob that may be pulled.
    let token = format!("Bearer {}", token(json!([entry("new/x", &["push"]), entry("alice/x", &["pull"])])));
    let put = async |seed: u64| {
        let blob = push_blob(&t.user(ROOT), "alice/x", &[u8::try_from(seed).unwrap(); 10]).await;
        let mount = format!("/v2/new/x/blobs/uploads/?mount={blob}&from=alice/x");
        t.anonymous().post(&mount).header("authorization", &token).send().await.status(201);
        let of = json!({ "mediaType": "application/octet-stream", "digest": blob, "size": 10 });
        let body = json!({ "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": of, "layers": [] });
        let request = t.anonymous().put("/v2/new/x/manifests/1").header("authorization", &token);
        let request = request.header("content-type", "application/vnd.oci.image.manifest.v1+json");
        request.body(body.to_string()).send().await.status(201);
    };
    put(1).await;
    put(2).await;
}

#[tokio::test]
async fn clients_are_sent_to_the_external_issuer_and_local_credentials_are_accepted_too() {
    let key = Private::p256();
    for profile in ["coracle", "zot"] {
        let t = registry(&key.public_pem(), &format!("profile = '{profile}'")).await;
        for (method, path, scope) in [
            ("GET", "/v2/", ""),
            ("GET", "/v2/a/b/tags/list", ",scope=\"repository:a/b:pull\""),
            ("POST", "/v2/a/b/blobs/uploads/", ",scope=\"repository:a/b:pull,push\""),
            ("DELETE", "/v2/a/b/manifests/1", ",scope=\"repository:a/b:delete\""),
            ("GET", "/v2/_catalog", ",scope=\"registry:catalog:*\""),
        ] {
            let answer = t.anonymous().request(method.parse().unwrap(), path).send().await.error(401, "UNAUTHORIZED");
            assert_eq!(answer.header("www-authenticate"), Some(challenge(scope).as_str()), "{profile} {path}");
            let answer = send(&t, "a.b.c", method, path).await.error(401, "UNAUTHORIZED");
            let expected = challenge(&format!("{scope},error=\"invalid_token\""));
            assert_eq!(answer.header("www-authenticate"), Some(expected.as_str()), "{profile} {path}");
        }
        // Passwords, API keys, and the tokens that they are exchanged for.
        let alice = t.user(ALICE);
        start_upload(&alice, "alice/x").await;
        let made = alice.post("/zot/auth/apikey").body("{}").send().await.status(201).json();
        t.user((ALICE.0, made["apiKey"].as_str().unwrap())).get("/v2/").send().await.status(200);
        let own = alice.get("/v2/auth?scope=repository:alice/x:pull,push").send().await.status(200).json();
        send(&t, own["token"].as_str().unwrap(), "POST", "/v2/alice/x/blobs/uploads/").await.status(202);
    }
}

#[tokio::test]
async fn an_external_token_is_accepted_only_if_every_check_passes() {
    let key = Private::rsa();
    let (certificate, der) = (key.certificate(), key.public_der());
    let t = registry(&certificate, "").await;
    push_image(&t.user(ROOT), "alice/x", "1", 1).await;
    let base = claims(&json!([entry("alice/x", &["pull"])]));
    let with = |name: &str, value: Value| {
        let mut claims = base.clone();
        claims[name] = value;
        key.token("RS256", &json!({}), &claims)
    };
    let without = |name: &str| {
        let mut claims = base.clone();
        claims.as_object_mut().unwrap().remove(name);
        key.token("RS256", &json!({}), &claims)
    };
    let hs256 = |secret: &[u8]| {
        let encoded = encode(&json!({ "alg": "HS256", "typ": "JWT" }), &base);
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), encoded.as_bytes());
        format!("{encoded}.{}", URL_SAFE_NO_PAD.encode(tag))
    };
    let unsigned = |alg: &str| format!("{}.", encode(&json!({ "alg": alg }), &base));
    let good = key.token("RS256", &json!({}), &base);
    let [head, body, signature] = good.split('.').collect::<Vec<_>>()[..] else { panic!("three parts") };
    let entry_until = |seconds: i64| {
        let mut entry = entry("alice/x", &["pull"]);
        entry["exp"] = json!(now() + seconds);
        with("access", json!([entry]))
    };
    let tags = "/v2/alice/x/tags/list";

    for (what, token) in [
        ("all is right", good.clone()),
        ("a key id, where there is one key without", key.token("RS256", &json!({ "kid": "ABCD:EFGH" }), &base)),
        ("for several", with("aud", json!(["elsewhere", SERVICE]))),
        ("without an audience, as in zot", without("aud")),
        ("just ended, and sent before", with("exp", json!(now() - 30))),
        ("an end with a fraction", with("exp", json!(1e9_f64.mul_add(2.0, 0.5)))),
        ("from a clock that is ahead", with("nbf", json!(now() + 30))),
        ("made by a clock that is ahead", with("iat", json!(now() + 30))),
        ("without a beginning", without("nbf")),
        ("without a subject", without("sub")),
        ("an entry that ends", entry_until(100)),
    ] {
        assert_eq!(send(&t, &token, "GET", tags).await.status, 200, "{what}");
    }
    for (what, token) in [
        ("another key", Private::rsa().token("RS256", &json!({}), &base)),
        ("another kind of key", Private::p256().token("ES256", &json!({}), &base)),
        ("an algorithm that did not sign", key.token("PS256", &json!({ "alg": "RS256" }), &base)),
        ("an algorithm of another kind of key", key.token("RS256", &json!({ "alg": "ES256" }), &base)),
        ("the certificate as a secret", hs256(certificate.as_bytes())),
        ("the public key as a secret", hs256(&der)),
        ("the public key in PEM as a secret", hs256(key.public_pem().as_bytes())),
        ("no algorithm", unsigned("none")),
        ("no algorithm, in capitals", unsigned("NONE")),
        ("an algorithm and no signature", unsigned("RS256")),
        ("another's claims", format!("{head}.{}.{signature}", URL_SAFE_NO_PAD.encode(json!({}).to_string()))),
        ("cut off", format!("{head}.{body}.{}", &signature[..signature.len() - 4])),
        ("what must be understood", key.token("RS256", &json!({ "crit": ["b64"], "b64": true }), &base)),
        ("for another service", with("aud", json!("elsewhere"))),
        ("for others", with("aud", json!(["elsewhere", "there"]))),
        ("for none", with("aud", json!([]))),
        ("for a number", with("aud", json!(1))),
        ("ended", with("exp", json!(now() - 61))),
        ("without an end", without("exp")),
        ("an end in words", with("exp", json!("2099-01-01"))),
        ("an end before all time", with("exp", json!(-1))),
        ("an end after all time", with("exp", json!(1e300))),
        ("not begun", with("nbf", json!(now() + 120))),
        ("made later", with("iat", json!(now() + 120))),
        ("an entry that has ended", entry_until(-61)),
        ("access that is no list", with("access", json!({}))),
        ("access to something without a name", with("access", json!([{ "type": "repository", "actions": ["pull"] }]))),
        ("claims that are no object", key.token("RS256", &json!({}), &json!([1]))),
    ] {
        // Twice, because a refused token must not be cached as valid.
        for _ in 0..2 {
            let answer = send(&t, &token, "GET", tags).await.error(401, "UNAUTHORIZED");
            let expected = challenge(",scope=\"repository:alice/x:pull\",error=\"invalid_token\"");
            assert_eq!(answer.header("www-authenticate"), Some(expected.as_str()), "{what}");
        }
    }
    // A key in the token's header is not trusted.
    let other = Private::rsa();
    for header in [
        json!({ "jwk": other.jwk("x") }),
        json!({ "jku": "https://evil.example/jwks.json" }),
        json!({ "x5c": [STANDARD.encode(other.public_der())] }),
        json!({ "kid": "../../keys" }),
    ] {
        send(&t, &other.token("RS256", &header, &base), "GET", tags).await.error(401, "UNAUTHORIZED");
    }
    send(&t, &good, "GET", tags).await.status(200);
}

#[tokio::test]
async fn every_kind_of_key_verifies_its_own_algorithms() {
    let rsa = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"];
    let p384 = Private::ec(&sign::ECDSA_P384_SHA384_FIXED_SIGNING);
    let kinds: [(Private, &[&str]); 4] =
        [(Private::rsa(), &rsa), (Private::p256(), &["ES256"]), (p384, &["ES384"]), (Private::ed(), &["EdDSA"])];
    let claims = claims(&json!([]));
    let all: Vec<Value> = kinds.iter().map(|(key, algorithms)| key.jwk(algorithms[0])).collect();
    let everything = registry(&json!({ "keys": all }).to_string(), "").await;
    for (key, algorithms) in &kinds {
        let by_pem = registry(&format!("a comment\n{}", key.public_pem()), "").await;
        for algorithm in *algorithms {
            let token = key.token(algorithm, &json!({}), &claims);
            for t in [&by_pem, &everything] {
                assert_eq!(send(t, &token, "GET", "/v2/").await.status, 200, "{algorithm}");
            }
        }
    }
}

#[tokio::test]
async fn a_key_id_picks_the_key_of_a_set_and_without_one_each_is_tried() {
    let [one, two, restricted, encrypting] = [(); 4].map(|()| Private::ed());
    let (rsa, secret) = (Private::rsa(), b"a secret that is in the file by mistake");
    let mut keys = vec![one.jwk("one"), two.jwk("two"), restricted.jwk("restricted"), encrypting.jwk("encrypting")];
    keys[2]["key_ops"] = json!(["sign"]);
    keys[3]["use"] = json!("enc");
    keys.push(json!({ "kty": "oct", "kid": "secret", "alg": "HS256", "k": URL_SAFE_NO_PAD.encode(secret) }));
    keys.push(json!({ "kty": "EC", "crv": "secp256k1", "kid": "odd", "x": "AA", "y": "AA" }));
    keys.push(rsa.jwk("rsa"));
    keys[6]["alg"] = json!("PS256");
    let t = registry(&json!({ "keys": keys }).to_string(), "").await;
    let claims = claims(&json!([]));
    let kid = |kid: &str| json!({ "kid": kid });
    let encoded = encode(&json!({ "alg": "HS256", "kid": "secret" }), &claims);
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), encoded.as_bytes());
    for (what, token, status) in [
        ("one", one.token("EdDSA", &kid("one"), &claims), 200),
        ("two", two.token("EdDSA", &kid("two"), &claims), 200),
        ("one, unnamed", one.token("EdDSA", &json!({}), &claims), 200),
        ("two, unnamed", two.token("EdDSA", &json!({}), &claims), 200),
        ("one as two", one.token("EdDSA", &kid("two"), &claims), 401),
        ("unknown", two.token("EdDSA", &kid("three"), &claims), 401),
        ("a key that does not verify", restricted.token("EdDSA", &kid("restricted"), &claims), 401),
        ("a key that is for something else", encrypting.token("EdDSA", &json!({}), &claims), 401),
        ("a secret", format!("{encoded}.{}", URL_SAFE_NO_PAD.encode(tag)), 401),
        ("the algorithm of the key", rsa.token("PS256", &kid("rsa"), &claims), 200),
        ("another algorithm of its kind", rsa.token("RS256", &kid("rsa"), &claims), 401),
    ] {
        assert_eq!(send(&t, &token, "GET", "/v2/").await.status, status, "{what}");
    }
}

#[tokio::test]
async fn the_catalog_requires_a_token_with_catalog_access() {
    let key = Private::ed();
    let t = registry(&key.public_pem(), "").await;
    for name in ["alice/x", "alice/y"] {
        push_image(&t.user(ROOT), name, "1", 1).await;
    }
    let token = |access: Value| key.token("EdDSA", &json!({}), &claims(&access));
    let catalog = json!({ "type": "registry", "name": "catalog", "actions": ["*"] });
    let with = send(&t, &token(json!([catalog])), "GET", "/v2/_catalog").await.status(200).json();
    assert_eq!(with, json!({ "repositories": ["alice/x", "alice/y"] }));
    // Listing a repository does not allow pulling it.
    send(&t, &token(json!([catalog])), "GET", "/v2/alice/x/tags/list").await.error(401, "UNAUTHORIZED");
    for access in [
        json!([]),
        json!([entry("alice/x", &["pull"])]),
        json!([entry("catalog", &["*"])]),
        json!([{ "type": "registry", "name": "catalog", "actions": ["pull"] }]),
    ] {
        let without = send(&t, &token(access), "GET", "/v2/_catalog").await.error(401, "UNAUTHORIZED");
        let expected = challenge(",scope=\"registry:catalog:*\",error=\"insufficient_scope\"");
        assert_eq!(without.header("www-authenticate"), Some(expected.as_str()));
    }
    // API v1 lists only the repositories of the token.
    let listed = async |access: Value| {
        let answer = send(&t, &token(access), "GET", "/api/v1/repository?namespace=alice").await.status(200).json();
        answer["repositories"].as_array().unwrap().iter().map(|of| of["name"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(listed(json!([entry("alice/x", &["pull"])])).await, [json!("x")]);
    assert_eq!(listed(json!([entry("alice/x", &["push"])])).await, Vec::<Value>::new());
}

#[tokio::test]
async fn the_log_names_the_holder_of_an_external_token() {
    let root = tempfile::tempdir().unwrap();
    let (key, audit) = (Private::p256(), root.path().join("audit.log"));
    let config =
        format!("log.audit = '{}'\nlog.format = 'json'\n{}", audit.display(), settings(root.path(), &key.public_pem()));
    let running = Program::serve_with(root.path(), &config).with_admin().start();
    let push = async |subject: Value, name: &str| {
        let mut claims = claims(&json!([entry(name, &["push"])]));
        claims["sub"] = subject;
        let token = format!("Bearer {}", key.token("ES256", &json!({}), &claims));
        let path = format!("/v2/{name}/blobs/uploads/");
        running.anonymous().post(&path).header("authorization", token).send().await.status(202);
    };
    // A user of the same name is not the holder.
    push(json!("admin"), "a/one").await;
    push(json!("line\nbreak"), "a/two").await;
    let lines: Vec<Value> =
        std::fs::read_to_string(&audit).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let subjects: Vec<&str> = lines.iter().map(|line| line["subject"].as_str().unwrap()).collect();
    assert_eq!(subjects[subjects.len() - 2..], ["external:admin", "external"]);
    running.wait_for("\"user\":\"external:admin\"");
}

#[test]
fn a_file_without_a_key_that_verifies_is_an_error_at_the_start() {
    let root = tempfile::tempdir().unwrap();
    let p521 = Private::ec(&sign::ECDSA_P521_SHA512_FIXED_SIGNING);
    let short = STANDARD.decode(SHORT_RSA).unwrap();
    for (content, why) in [
        (String::new(), "no certificate or public key"),
        ("hello".to_owned(), "no certificate or public key"),
        (pem("PRIVATE KEY", b"secret"), "no certificate or public key"),
        (pem("CERTIFICATE", b"nonsense"), "the certificate cannot be read"),
        (pem("PUBLIC KEY", b"nonsense"), "the key must be RSA"),
        (pem("PUBLIC KEY", &short), "the key must be RSA"),
        (p521.public_pem(), "the key must be RSA"),
        ("-----BEGIN PUBLIC KEY-----\n!\n-----END PUBLIC KEY-----\n".to_owned(), "not PEM"),
        ("{}".to_owned(), "not a JWKS"),
        ("{\"keys\": []}".to_owned(), "the JWKS has no key for signatures"),
        ("{\"keys\": [{\"kty\": \"oct\", \"k\": \"c2VjcmV0\"}]}".to_owned(), "the JWKS has no key for signatures"),
        (" ".repeat((1 << 20) + 1), "larger than 1048576 bytes"),
    ] {
        let config = settings(root.path(), &content);
        let done = Program::serve_with(root.path(), &config).with_admin().run();
        assert_eq!(done.code, Some(2), "{why}: {}", done.stderr);
        assert!(done.stderr.contains("http.auth.bearer.cert cannot be used: "), "{}", done.stderr);
        assert!(done.stderr.contains(why), "{why}: {}", done.stderr);
    }
    // check-config reports the errors that it can find without the file's content.
    let file = root.path().join("c.toml");
    let missing = root.path().join("none");
    let [realm, service] = [("realm", REALM), ("service", SERVICE)].map(|(key, value)| format!("{key} = '{value}'\n"));
    let cert = |path: &PathBuf| format!("cert = '{}'\n", path.display());
    for (keys, why) in [
        (format!("{realm}{service}{}", cert(&missing)), "http.auth.bearer.cert: cannot read"),
        (format!("{realm}{service}"), "http.auth.bearer.cert: is missing"),
        (format!("{realm}{}", cert(&file)), "http.auth.bearer.service: is missing"),
        (format!("{service}{}", cert(&file)), "http.auth.bearer.realm: is missing"),
        (format!("realm = 'a\"b'\n{service}{}", cert(&file)), "http.auth.bearer.realm: expected"),
        (format!("{realm}{service}{}oidc = [{{}}]\n", cert(&file)), "http.auth.bearer.oidc[0].issuer: is missing"),
    ] {
        std::fs::write(&file, format!("[http.auth.bearer]\n{keys}")).unwrap();
        for done in [Program::new(["check-config"]).arg(&file).run(), Program::serve(root.path()).arg(&file).run()] {
            assert_ne!(done.code, Some(0), "{keys}");
            assert!(format!("{}{}", done.stdout, done.stderr).contains(why), "{why}: {}{}", done.stdout, done.stderr);
        }
    }
}

/// An RSA public key of 1024 bits.
const SHORT_RSA: &str = "MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQCu1w4ZVMMFPL7Fuu0DBfFWJyL8DPU6x9+MijqxomGupz8jDdbqn4\
     6jceaATsspkX62R8OKSsuKjv8KWAG+00ScwKn1T0wWtSqYHLoW2/hLv35APucBi5E4VADSGzR8lcowsKjbuJa0krWD\
     s4Vzz18R64/leyPI6iLp9Sr68FLmaQIDAQAB";
