//! Hostile tokens: each is refused, regardless of its signer, and the registry keeps running.
//!
//! The signature alone would give away most of them. To exercise each check, many tokens here are signed with the
//! registry's own key, which the test reads from the data directory.

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm, KeyPair as _,
};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD};
use coracle::Registry;
use serde_json::{Value, json};

use crate::support::TestRegistry;
use crate::support::content::push_image;
use crate::support::http::Answer;
use crate::support::registry::{ALICE, BOB, ROOT};

/// The beginning of a private key for P-256 in PKCS #8.
const PKCS8: &[u8] =
    b"\x30\x81\x87\x02\x01\x00\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07";
const PKCS8_BYTES: usize = 138;

/// The order of the curve P-256.
const ORDER: &str = "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551";

/// A registry with its database on disk, not in memory.
async fn on_disk() -> (TestRegistry, tempfile::TempDir) {
    let root = tempfile::tempdir().unwrap();
    let builder = Registry::builder().data_dir(root.path());
    let builder = builder.user(ALICE.0, ALICE.1).user(BOB.0, BOB.1).superuser(ROOT.0, ROOT.1);
    let registry = tokio::task::spawn_blocking(move || builder.open()).await.unwrap().unwrap();
    let running = registry.spawn_local().await.unwrap();
    (TestRegistry { registry, running }, root)
}

/// The registry's own signing key.
struct Stolen {
    pkcs8: Vec<u8>,
    id: String,
    /// The published key.
    public: Value,
}

impl Stolen {
    async fn from(t: &TestRegistry) -> Self {
        let keys = t.anonymous().get("/.well-known/jwks.json").send().await.status(200).json();
        let read = |name| std::fs::read(t.registry.data_dir().join(name)).unwrap_or_default();
        let file = [read("coracle.redb"), read("coracle.wal")].concat();
        let at = file.windows(PKCS8.len()).position(|bytes| bytes == PKCS8).expect("the key is in the database");
        let id = keys["keys"][0]["kid"].as_str().unwrap().to_owned();
        Self { pkcs8: file[at..at + PKCS8_BYTES].to_vec(), id, public: keys["keys"][0].clone() }
    }

    fn signature(&self, how: &'static EcdsaSigningAlgorithm, text: &str) -> Vec<u8> {
        let key = EcdsaKeyPair::from_pkcs8(how, &self.pkcs8).unwrap();
        key.sign(&SystemRandom::new(), text.as_bytes()).unwrap().as_ref().to_vec()
    }

    fn header(&self) -> Value {
        json!({ "typ": "JWT", "alg": "ES256", "kid": self.id })
    }

    /// Signs these parts as the registry does.
    fn sign_text(&self, header: &str, body: &[u8]) -> String {
        let text = format!("{}.{}", text(header.as_bytes()), text(body));
        let signature = self.signature(&ECDSA_P256_SHA256_FIXED_SIGNING, &text);
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    fn sign(&self, header: &Value, claims: &Value) -> String {
        self.sign_text(&header.to_string(), claims.to_string().as_bytes())
    }
}

fn text(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A token with this signature, which need not be valid.
fn unsigned(header: &Value, claims: &Value, signature: &[u8]) -> String {
    format!("{}.{}.{}", text(header.to_string().as_bytes()), text(claims.to_string().as_bytes()), text(signature))
}

fn claims(token: &str) -> Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap()).unwrap()
}

/// The token with the second valid ECDSA signature, which can be computed from the first without the key.
fn twin(token: &str) -> String {
    let (rest, signature) = token.rsplit_once('.').unwrap();
    let mut signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let order = hex::decode(ORDER).unwrap();
    let mut borrow = 0;
    for at in (0..32).rev() {
        let difference = i16::from(order[at]) - i16::from(signature[32 + at]) - borrow;
        borrow = i16::from(difference < 0);
        signature[32 + at] = u8::try_from(difference.rem_euclid(256)).unwrap();
    }
    format!("{rest}.{}", text(&signature))
}

async fn with(t: &TestRegistry, authorization: &[u8], path: &str) -> Answer {
    t.anonymous().get(path).header("authorization", authorization).send().await
}

/// Asserts that every part of the registry refuses a token and asks for another one.
async fn refused(t: &TestRegistry, what: &str, token: &str) {
    let host = t.running.address();
    for (path, scope) in [
        ("/v2/", ""),
        ("/v2/alice/x/tags/list", ",scope=\"repository:alice/x:pull\""),
        ("/v2/_catalog", ",scope=\"registry:catalog:*\""),
        ("/v2/auth?scope=repository:alice/x:pull", ""),
        ("/zot/auth/apikey", ""),
    ] {
        // Twice, because a refused token must not be cached as valid.
        for _ in 0..2 {
            let answer = with(t, format!("Bearer {token}").as_bytes(), path).await.error(401, "UNAUTHORIZED");
            let expected =
                format!("Bearer realm=\"http://{host}/v2/auth\",service=\"{host}\"{scope},error=\"invalid_token\"");
            assert_eq!(answer.header("www-authenticate"), Some(expected.as_str()), "{what}: {path}");
            assert!(token.len() < 8 || !answer.text().contains(token), "{what}: the answer repeats the token");
        }
    }
    let answer = with(t, format!("Bearer {token}").as_bytes(), "/api/v1/user/").await.status(401).json();
    assert_eq!(answer["error_type"], "invalid_token", "{what}");
}

async fn good(t: &TestRegistry, who: (&str, &str)) -> String {
    let answer = t.user(who).get("/v2/auth?scope=repository:alice/x:pull").send().await.status(200).json();
    answer["token"].as_str().unwrap().to_owned()
}

/// The material for forgeries.
struct Forger {
    /// A valid token.
    good: String,
    own: Stolen,
    /// The token of another registry, and the URL of that registry's public key.
    foreign: Stolen,
    foreign_keys: String,
}

/// The fault and the token.
type Forgery = (String, String);

impl Forger {
    /// The claims of the valid token, and the same claims for a superuser.
    fn claims(&self) -> (Value, Value) {
        let mut root = claims(&self.good);
        root["sub"] = json!("root");
        (claims(&self.good), root)
    }

    fn header(&self, name: &str, value: Value) -> Value {
        let mut header = self.own.header();
        header[name] = value;
        header
    }

    fn hmac(&self, algorithm: &str, secret: &[u8]) -> String {
        let how = if algorithm == "HS512" { hmac::HMAC_SHA512 } else { hmac::HMAC_SHA256 };
        let (header, root) = (self.header("alg", json!(algorithm)), self.claims().1);
        let signed = format!("{}.{}", text(header.to_string().as_bytes()), text(root.to_string().as_bytes()));
        format!("{signed}.{}", text(hmac::sign(&hmac::Key::new(how, secret), signed.as_bytes()).as_ref()))
    }

    fn with_other_algorithms(&self) -> Vec<Forgery> {
        let Self { good, own, .. } = self;
        let root = self.claims().1;
        let raw = URL_SAFE_NO_PAD.decode(good.rsplit_once('.').unwrap().1).unwrap();
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &own.pkcs8).unwrap();
        let mut forgeries = Vec::new();
        let mut add = |what: &str, token: String| forgeries.push((what.to_owned(), token));
        for alg in ["none", "None", "NONE", "nOnE", "", "HS256", "ES384", "RS256", "EdDSA", "ES256K"] {
            for signature in [&b""[..], &raw] {
                add(&format!("algorithm {alg:?}"), unsigned(&self.header("alg", json!(alg)), &root, signature));
            }
        }
        add("no algorithm named", unsigned(&json!({ "typ": "JWT", "kid": own.id }), &root, &raw));
        add("an algorithm that is a list", unsigned(&self.header("alg", json!(["ES256"])), &root, &raw));
        for (what, secret) in [
            ("the JWK", own.public.to_string().as_bytes()),
            ("a coordinate", own.public["x"].as_str().unwrap().as_bytes()),
            ("the point", key.public_key().as_ref()),
            ("the id", own.id.as_bytes()),
            ("nothing", b""),
        ] {
            for algorithm in ["HS256", "HS512"] {
                add(&format!("{algorithm} with {what} as the secret"), self.hmac(algorithm, secret));
            }
        }
        forgeries
    }

    fn with_other_keys(&self) -> Vec<Forgery> {
        let Self { own, foreign, foreign_keys, .. } = self;
        let (base, root) = self.claims();
        let mut forgeries = Vec::new();
        let mut add = |what: &str, token: String| forgeries.push((what.to_owned(), token));
        add("another registry's", foreign.sign(&foreign.header(), &root));
        add("another registry's, with our key's id", foreign.sign(&own.header(), &root));
        for (name, value) in [
            ("jwk", foreign.public.clone()),
            ("jku", json!(foreign_keys)),
            ("x5u", json!("file:///etc/ssl/cert.pem")),
            ("x5c", json!([STANDARD.encode(&foreign.pkcs8)])),
        ] {
            for id in [&own.id, &foreign.id] {
                let mut header = self.header("kid", json!(id));
                header[name] = value.clone();
                add(&format!("a key in {name}"), foreign.sign(&header, &root));
            }
        }
        let ids = ["", "../../coracle.redb", "/dev/null", "' OR 1=1 --", "\0", "ä", &"k".repeat(4000), &own.id[1..]];
        for id in ids {
            add(&format!("key id {id:?}"), own.sign(&self.header("kid", json!(id)), &base));
        }
        add("no key id", own.sign(&json!({ "alg": "ES256" }), &base));
        add("a key id that is a number", own.sign(&self.header("kid", json!(1)), &base));
        add("an extension that must be understood", own.sign(&self.header("crit", json!(["exp"])), &base));
        forgeries
    }

    fn of_other_forms(&self) -> Vec<Forgery> {
        let Self { good, own, .. } = self;
        let (base, root) = self.claims();
        let [head, body, signature] = good.split('.').collect::<Vec<_>>()[..] else { panic!("three parts") };
        let raw = URL_SAFE_NO_PAD.decode(signature).unwrap();
        let signed = format!("{head}.{body}");
        let mut forgeries = Vec::new();
        let mut add = |what: &str, token: String| forgeries.push((what.to_owned(), token));
        let twice = format!("{{\"alg\":\"none\",\"alg\":\"ES256\",\"kid\":{:?}}}", own.id);
        add("two algorithms", own.sign_text(&twice, base.to_string().as_bytes()));
        add("a header that is no JSON", own.sign_text("alg=ES256", base.to_string().as_bytes()));
        add("a header deeper than any", own.sign_text(&"[".repeat(10_000), base.to_string().as_bytes()));
        add("a signature in DER", {
            let der = own.signature(&ECDSA_P256_SHA256_ASN1_SIGNING, &signed);
            format!("{signed}.{}", text(&der))
        });
        for (what, bytes) in [
            ("zeros", vec![0; 64]),
            ("ones", vec![0xff; 64]),
            ("the order of the curve", hex::decode(ORDER.repeat(2)).unwrap()),
            ("nothing", Vec::new()),
            ("half of it", raw[..32].to_vec()),
            ("more than it", [&raw[..], b"\0"].concat()),
            ("another order", [&raw[32..], &raw[..32]].concat()),
        ] {
            add(&format!("{what} as the signature"), format!("{signed}.{}", text(&bytes)));
        }
        add("another's claims", format!("{head}.{}.{signature}", text(root.to_string().as_bytes())));
        add("cut off", good[..good.len() - 10].to_owned());
        add("padded", format!("{signed}.{}", URL_SAFE.encode(&raw)));
        add("padded claims", format!("{head}.{body}=.{signature}"));
        add("base64 of another alphabet", format!("{head}.{body}+/.{signature}"));
        add("not base64", format!("{head}.{body}!.{signature}"));
        add("a space in it", format!("{head}. {body}.{signature}"));
        add("percent-encoded", format!("{head}.{body}.%{signature}"));
        add("an empty header", format!(".{body}.{signature}"));
        add("empty claims", format!("{head}..{signature}"));
        add("nothing but dots", "..".to_owned());
        add("one part more", format!("{good}.{signature}"));
        add("one part less", signed.clone());
        add("five parts, as encrypted ones have", format!("{head}.{body}.{signature}.{body}.{signature}"));
        add("a dot at the end", format!("{good}."));
        add("the same twice", format!("{good}, Bearer {good}"));
        add("the form with braces", json!({ "payload": body, "protected": head, "signature": signature }).to_string());
        add("a text in the form of an API key that does not exist", format!("zak_{}", "0".repeat(32)));
        add("huge", format!("{head}.{}.{signature}", "A".repeat(25_000)));
        let mut long = base;
        long["pad"] = json!("x".repeat(19_000));
        add("longer than any, and signed well", own.sign(&own.header(), &long));
        forgeries
    }
}

#[tokio::test]
async fn tokens_with_a_wrong_form_or_signature_are_refused_with_a_challenge() {
    let ((t, _root), (other, _other_root)) = (on_disk().await, on_disk().await);
    push_image(&t.user(ALICE), "alice/x", "1", 1).await;
    let good = good(&t, ALICE).await;
    let foreign_keys = format!("http://{}/.well-known/jwks.json", other.running.address());
    let (own, foreign) = (Stolen::from(&t).await, Stolen::from(&other).await);
    let forger = Forger { good: good.clone(), own, foreign, foreign_keys };
    let forgeries = [forger.with_other_algorithms(), forger.with_other_keys(), forger.of_other_forms()].concat();
    assert!(forgeries.len() >= 60, "only {}", forgeries.len());
    for (what, token) in &forgeries {
        refused(&t, what, token).await;
    }
    // Two headers are refused, even if one has a valid token.
    let bad = &forgeries[0].1;
    for two in [[&good, bad], [bad, &good], [&good, &good]] {
        let request = t.anonymous().get("/v2/").header("authorization", format!("Bearer {}", two[0]));
        request.header("authorization", format!("Bearer {}", two[1])).send().await.error(401, "UNAUTHORIZED");
    }
    for (what, value) in [
        ("no token", b"Bearer".to_vec()),
        ("another scheme", format!("Token {good}").into_bytes()),
        ("no scheme", good.clone().into_bytes()),
        ("the scheme twice", format!("Bearer Bearer {good}").into_bytes()),
        ("bytes that are no text", [b"Bearer \xff", good.as_bytes()].concat()),
        ("a token as a password", format!("Basic {}", STANDARD.encode(format!("alice:{good}"))).into_bytes()),
    ] {
        let answer = with(&t, &value, "/v2/").await;
        assert_eq!(answer.status, 401, "{what}");
    }
    with(&t, format!("Bearer {good}").as_bytes(), "/v2/alice/x/tags/list").await.status(200);
}

#[tokio::test]
async fn tokens_with_invalid_claims_are_refused_although_their_signature_is_valid() {
    let (t, _root) = on_disk().await;
    push_image(&t.user(ALICE), "alice/x", "1", 1).await;
    let good = good(&t, ALICE).await;
    let own = Stolen::from(&t).await;
    let base = claims(&good);
    let with_claim = |name: &str, value: Value| {
        let mut claims = base.clone();
        claims[name] = value;
        own.sign(&own.header(), &claims)
    };
    let copy = own.sign(&own.header(), &base);
    with(&t, format!("Bearer {copy}").as_bytes(), "/v2/alice/x/tags/list").await.status(200);
    let now = base["iat"].as_i64().unwrap();
    let shifted = |by: i64| {
        let mut claims = base.clone();
        for name in ["iat", "nbf", "exp"] {
            claims[name] = json!(claims[name].as_i64().unwrap() + by);
        }
        own.sign(&own.header(), &claims)
    };
    for name in ["iss", "sub", "aud", "exp", "nbf", "iat", "jti", "access", "by"] {
        let mut claims = base.clone();
        claims.as_object_mut().unwrap().remove(name);
        refused(&t, &format!("without {name}"), &own.sign(&own.header(), &claims)).await;
        refused(&t, &format!("{name} is null"), &with_claim(name, json!(null))).await;
        refused(&t, &format!("{name} is a list of lists"), &with_claim(name, json!([[base[name]]]))).await;
    }
    for (what, token) in [
        ("expired", shifted(-3600 - 61)),
        ("not yet valid", shifted(60)),
        ("not before later", with_claim("nbf", json!(now + 60))),
        ("made later", with_claim("iat", json!(now + 60))),
        ("for longer than is given", with_claim("exp", json!(now + 3601))),
        ("for ever", with_claim("exp", json!(u64::MAX))),
        ("an end before all time", with_claim("exp", json!(-1))),
        ("an end with a fraction", with_claim("exp", json!(1e300))),
        ("an end in words", with_claim("exp", json!((now + 300).to_string()))),
        ("another issuer", with_claim("iss", json!("quay"))),
        ("an issuer that begins the same", with_claim("iss", json!("coracle "))),
        ("another audience", with_claim("aud", json!("elsewhere"))),
        ("several audiences", with_claim("aud", json!([base["aud"], "elsewhere"]))),
        ("access that is no list", with_claim("access", json!({ "type": "repository" }))),
        ("access by name only", with_claim("access", json!(["alice/x"]))),
        ("an invalid id", with_claim("jti", json!("1"))),
        ("by another kind of credential", with_claim("by", json!({ "session": 1 }))),
        ("claims that are no object", own.sign(&own.header(), &json!([base]))),
        ("claims that are no JSON", own.sign_text(&own.header().to_string(), b"sub=root")),
        ("claims that are no text", own.sign_text(&own.header().to_string(), b"\xff\xfe")),
        ("no claims", own.sign_text(&own.header().to_string(), b"")),
        // The user and the credential that the token was issued for must belong together.
        ("a superuser's name with her password", with_claim("sub", json!("root"))),
        ("without a user, with her password", with_claim("sub", json!(""))),
        ("an unknown user", with_claim("sub", json!("mallory"))),
        ("issued without a credential", with_claim("by", json!("nobody"))),
        ("issued for another password", with_claim("by", json!({ "password": 0 }))),
        ("issued for an unknown key", with_claim("by", json!({ "key": "00000000-0000-0000-0000-000000000000" }))),
    ] {
        refused(&t, what, &token).await;
    }

    // A token ends with its key, password or user, in every spelling of the token.
    let alice = t.user(ALICE);
    let made = alice.post("/zot/auth/apikey").body("{}").send().await.status(201).json();
    let by_key = self::good(&t, (ALICE.0, made["apiKey"].as_str().unwrap())).await;
    refused(&t, "her key as another's", &{
        let mut claims = claims(&by_key);
        claims["sub"] = json!("bob");
        own.sign(&own.header(), &claims)
    })
    .await;
    let bobs = self::good(&t, BOB).await;
    let fresh = claims(&self::good(&t, ALICE).await)["jti"].clone();
    with(&t, format!("Bearer {by_key}").as_bytes(), "/v2/alice/x/tags/list").await.status(200);
    // The token with the second signature has the same rights.
    with(&t, format!("Bearer {}", twin(&by_key)).as_bytes(), "/v2/alice/x/tags/list").await.status(200);
    alice.delete(&format!("/zot/auth/apikey?id={}", made["uuid"].as_str().unwrap())).send().await.status(200);
    refused(&t, "a revoked key's", &by_key).await;
    refused(&t, "a revoked key's, signed in its other form", &twin(&by_key)).await;
    refused(&t, "a revoked key's, with the id of another token", &{
        let mut claims = claims(&by_key);
        claims["jti"] = fresh;
        own.sign(&own.header(), &claims)
    })
    .await;
    let root = t.user(ROOT).post("/zot/auth/apikey").body("{}").send().await.status(201).json();
    let root = format!("Bearer {}", root["apiKey"].as_str().unwrap());
    t.anonymous().delete("/api/v1/superuser/users/bob").header("authorization", root).send().await.status(204);
    refused(&t, "a removed user's", &bobs).await;
    with(&t, format!("Bearer {good}").as_bytes(), "/v2/alice/x/tags/list").await.status(200);
}
