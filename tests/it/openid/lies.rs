//! A response of a provider is accepted only if all of it is valid. Each test changes one response of an honest provider
//! and then restores it.
//!
//! A refused sign-in gives no session, creates no user and shows a page with the reason. The same registry accepts the
//! honest response afterwards, so nothing invalid was stored, and the change caused the refusal.

use serde_json::{Value, json};

use super::agent::Agent;
use super::hostile::{Hostile, Script, Signing};
use super::player::{Answer, Reply};
use super::registry::{Registry, is_a_clear_page};

const DISCOVERY: &str = "/.well-known/openid-configuration";

/// Fails unless a sign-in with this change is refused and the next one without it succeeds. An unusable response is the
/// provider's fault (502), an invalid one is not trusted (401), and a user who may not sign in here is refused (403).
async fn refuses(status: u16, bend: impl FnOnce(&mut Script)) {
    let hostile = Hostile::start().await;
    let registry = Registry::knowing(&[("oidc", &hostile)]);
    bend(&mut hostile.script());
    let mut agent = Agent::default();
    let page = agent.get(&registry.login("oidc", None)).await;
    let page = if page.status == 302 {
        let callback = agent.get(&page.location()).await.status(302).location();
        agent.get(&callback).await
    } else {
        page
    };
    let page = page.status(status);
    is_a_clear_page(&page);
    assert_eq!(registry.name(&mut agent).await, None);
    assert_eq!(registry.users(), ["admin"]);
    hostile.straighten();
    let mut agent = Agent::default();
    registry.sign_in(&mut agent, "oidc").await.status(201);
    assert_eq!(registry.name(&mut agent).await.as_deref(), Some("mallory@example.org"));
}

/// Changes the claims of ID tokens.
async fn refuses_claims(change: impl Fn(&mut Value) + Send + 'static) {
    refuses(401, |script| script.id_token = Box::new(change)).await;
}

/// Replaces a response.
async fn refuses_reply(path: &'static str, reply: impl Into<Reply>) {
    refuses(502, |script| {
        script.replies.insert(path, reply.into());
    })
    .await;
}

macro_rules! signing {
    ($($name:ident: $signing:ident;)+) => {$(
        #[tokio::test]
        async fn $name() {
            refuses(401, |script| script.signing = Signing::$signing).await;
        }
    )+};
}

signing! {
    an_unsigned_id_token_is_refused: Unsigned;
    an_id_token_that_another_key_has_signed_is_refused: Foreign;
    an_id_token_that_brings_its_own_key_is_refused: Embedded;
    an_id_token_with_the_public_key_as_hmac_secret_is_refused: PublicKeyAsSecret;
    an_id_token_with_the_clients_secret_as_hmac_secret_is_refused_where_the_provider_signs_with_keys: ClientSecret;
    an_id_token_with_a_broken_signature_is_refused: Broken;
    an_id_token_of_a_key_that_the_provider_does_not_have_is_refused: UnknownKey;
}

macro_rules! claims {
    ($($name:ident: |$claims:ident| $change:expr;)+) => {$(
        #[tokio::test]
        async fn $name() {
            refuses_claims(|$claims| { $change; }).await;
        }
    )+};
}

/// Seconds since 1970, from now.
fn from_now(seconds: i64) -> Value {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    json!(i64::try_from(now).unwrap() + seconds)
}

fn remove(claims: &mut Value, name: &str) {
    claims.as_object_mut().unwrap().remove(name).unwrap();
}

claims! {
    an_id_token_for_another_client_is_refused: |claims| claims["aud"] = json!("another-client");
    an_id_token_for_others_and_not_this_client_is_refused: |claims| claims["aud"] = json!(["one", "two"]);
    an_id_token_for_several_clients_without_azp_is_refused:
        |claims| claims["aud"] = json!([super::hostile::CLIENT.0, "another-client"]);
    an_id_token_that_was_issued_to_another_client_is_refused: |claims| {
        claims["aud"] = json!([super::hostile::CLIENT.0, "another-client"]);
        claims["azp"] = json!("another-client");
    };
    an_id_token_without_an_audience_is_refused: |claims| remove(claims, "aud");
    an_id_token_of_another_issuer_is_refused: |claims| claims["iss"] = json!("https://another.example");
    an_id_token_of_nearly_the_same_issuer_is_refused:
        |claims| claims["iss"] = json!(format!("{}/", claims["iss"].as_str().unwrap()));
    an_id_token_that_has_expired_is_refused: |claims| claims["exp"] = from_now(-120);
    an_id_token_that_is_not_valid_yet_is_refused: |claims| claims["nbf"] = from_now(3600);
    an_id_token_of_the_future_is_refused: |claims| claims["iat"] = from_now(3600);
    an_id_token_without_a_nonce_is_refused: |claims| remove(claims, "nonce");
    an_id_token_with_another_nonce_is_refused: |claims| claims["nonce"] = json!("another");
    an_id_token_with_an_empty_subject_is_refused: |claims| claims["sub"] = json!("");
}

macro_rules! incomplete {
    ($($name:ident: $claim:literal;)+) => {$(
        #[tokio::test]
        async fn $name() {
            refuses(502, |script| script.id_token = Box::new(|claims| remove(claims, $claim))).await;
        }
    )+};
}

// The claims that an ID token must have (OpenID Connect Core, 2).
incomplete! {
    an_id_token_without_an_issuer_is_invalid: "iss";
    an_id_token_that_never_expires_is_invalid: "exp";
    an_id_token_without_a_subject_is_invalid: "sub";
    an_id_token_without_a_time_is_invalid: "iat";
}

/// OpenID Connect Core, 5.3.2: userinfo for another subject must not be used.
#[tokio::test]
async fn userinfo_about_another_subject_is_refused() {
    refuses(401, |script| script.userinfo = Box::new(|claims| claims["sub"] = json!("another-subject"))).await;
}

#[tokio::test]
async fn an_unverified_address_is_not_accepted_as_a_name() {
    refuses(403, |script| {
        script.id_token = Box::new(|claims| claims["email_verified"] = json!(false));
        script.userinfo = Box::new(|claims| claims["email_verified"] = json!(false));
    })
    .await;
}

/// Some providers write booleans as texts.
#[tokio::test]
async fn an_address_that_is_unverified_in_quotes_is_not_accepted_as_a_name() {
    refuses(403, |script| {
        script.id_token = Box::new(|claims| claims["email_verified"] = json!("false"));
        script.userinfo = Box::new(|claims| claims["email_verified"] = json!("false"));
    })
    .await;
}

/// One of the two responses says so.
#[tokio::test]
async fn an_address_that_only_userinfo_calls_unverified_is_not_accepted_as_a_name() {
    refuses(403, |script| script.userinfo = Box::new(|claims| claims["email_verified"] = json!(false))).await;
}

#[tokio::test]
async fn a_user_without_the_claim_of_the_name_is_refused() {
    refuses(401, |script| {
        script.id_token = Box::new(|claims| remove(claims, "email"));
        script.userinfo = Box::new(|claims| remove(claims, "email"));
    })
    .await;
}

macro_rules! names {
    ($($name:ident: $status:literal, $value:expr;)+) => {$(
        #[tokio::test]
        async fn $name() {
            refuses($status, |script| {
                script.id_token = Box::new(|claims| claims["email"] = json!($value));
                script.userinfo = Box::new(|claims| claims["email"] = json!($value));
            })
            .await;
        }
    )+};
}

// A missing name is refused as in zot, and so is one that is no single line. With a name that is invalid here, the user
// is identified and refused. A value that is not a text is an invalid response.
names! {
    an_empty_name_is_refused: 401, "";
    a_name_with_a_line_break_is_refused: 401, "mallory@example.org\nadmin";
    a_name_with_a_null_is_refused: 401, "admin\0";
    a_name_of_another_length_than_texts_have_is_refused: 401, "m".repeat(10_000);
    a_name_that_is_no_text_is_refused: 502, ["mallory@example.org"];
    a_name_that_is_a_number_is_refused: 502, 0;
    a_name_of_blanks_is_refused: 403, "   ";
    a_name_with_a_colon_which_basic_could_not_carry_is_refused: 403, "mal:lory@example.org";
    a_name_with_markup_is_refused: 403, "<script>alert(1)</script>@example.org";
    the_name_of_the_superuser_is_refused: 403, "admin";
}

macro_rules! replies {
    ($($name:ident: $path:expr, $reply:expr;)+) => {$(
        #[tokio::test]
        async fn $name() {
            refuses_reply($path, $reply).await;
        }
    )+};
}

replies! {
    a_discovery_that_is_no_json_is_the_providers_fault: DISCOVERY, Answer::text(200, "{\"issuer\": \"http");
    a_discovery_of_another_kind_is_the_providers_fault: DISCOVERY, Answer::json(200, &json!(["issuer"]));
    a_discovery_that_floods_is_the_providers_fault: DISCOVERY, Reply::Flood;
    a_discovery_that_breaks_off_is_the_providers_fault: DISCOVERY, Reply::HangUp;
    a_discovery_that_is_an_error_is_the_providers_fault: DISCOVERY, Answer::html(500, "<h1>sorry</h1>");
    keys_that_are_no_json_are_the_providers_fault: "/jwks", Answer::text(200, "not json");
    keys_that_flood_are_the_providers_fault: "/jwks", Reply::Flood;
    keys_that_are_an_error_are_the_providers_fault: "/jwks", Answer::json(503, &json!({}));
    tokens_that_are_no_json_are_the_providers_fault: "/token", Answer::text(200, "access_token=x");
    tokens_that_flood_are_the_providers_fault: "/token", Reply::Flood;
    tokens_that_break_off_are_the_providers_fault: "/token", Reply::HangUp;
    tokens_that_are_an_error_of_the_server_are_the_providers_fault: "/token", Answer::html(500, "<h1>sorry</h1>");
    a_client_that_the_provider_does_not_know_is_the_operators_fault:
        "/token", Answer::json(401, &json!({ "error": "invalid_client" }));
    userinfo_that_is_no_json_is_the_providers_fault: "/userinfo", Answer::text(200, "not json");
    userinfo_that_floods_is_the_providers_fault: "/userinfo", Reply::Flood;
}

#[tokio::test]
async fn tokens_without_an_id_token_are_refused() {
    refuses(401, |script| {
        let tokens = json!({ "access_token": "x", "token_type": "Bearer" });
        script.replies.insert("/token", Answer::json(200, &tokens).into());
    })
    .await;
}

/// RFC 6749, 5.2: the code is invalid, not the provider.
#[tokio::test]
async fn a_code_that_the_provider_does_not_take_is_refused() {
    refuses(401, |script| {
        script.replies.insert("/token", Answer::json(400, &json!({ "error": "invalid_grant" })).into());
    })
    .await;
}

macro_rules! documents {
    ($($name:ident: $key:expr, $value:expr;)+) => {$(
        #[tokio::test]
        async fn $name() {
            refuses(502, |script| script.discovery = Box::new(|document| document[$key] = json!($value))).await;
        }
    )+};
}

documents! {
    a_discovery_of_another_issuer_is_refused: "issuer", "https://another.example";
    a_discovery_whose_people_sign_in_at_a_script_is_refused: "authorization_endpoint", "javascript:alert(1)";
    a_discovery_whose_keys_are_a_file_is_refused: "jwks_uri", "file:///etc/passwd";
    a_discovery_whose_tokens_are_at_another_machine_without_tls_is_refused: "token_endpoint", "http://192.0.2.1/token";
}

/// A redirect would send code, secret and tokens to a host that the provider names.
#[tokio::test]
async fn no_redirect_of_a_provider_is_followed() {
    let other = Hostile::start().await;
    for path in [DISCOVERY, "/jwks", "/token", "/userinfo"] {
        for status in [302, 307, 308] {
            if path != "/token" && status != 302 {
                continue;
            }
            let to = format!("{}{path}", other.issuer());
            refuses_reply(path, Answer::text(status, "").header("location", &to)).await;
            assert!(other.asked(path).is_empty(), "{path} with {status}");
        }
    }
}

/// Clocks may differ by up to a minute.
#[tokio::test]
async fn clocks_may_differ_a_little() {
    for (name, seconds) in [("exp", -30), ("iat", 30), ("nbf", 30)] {
        let hostile = Hostile::start().await;
        let registry = Registry::knowing(&[("oidc", &hostile)]);
        hostile.script().id_token = Box::new(move |claims| claims[name] = from_now(seconds));
        registry.signed_in("oidc").await;
    }
}

#[tokio::test]
async fn changed_keys_of_a_provider_are_fetched_again() {
    let hostile = Hostile::start().await;
    let registry = Registry::knowing(&[("oidc", &hostile)]);
    registry.signed_in("oidc").await;
    registry.signed_in("oidc").await;
    assert_eq!(hostile.asked("/jwks").len(), 1, "keys are cached");
    assert_eq!(hostile.asked(DISCOVERY).len(), 1, "the metadata is cached");
    hostile.rotate();
    registry.signed_in("oidc").await;
    assert_eq!(hostile.asked("/jwks").len(), 2);
}

/// Otherwise every forged token would cause a request to the provider.
#[tokio::test]
async fn unknown_keys_are_not_fetched_again_and_again() {
    let hostile = Hostile::start().await;
    let registry = Registry::knowing(&[("oidc", &hostile)]);
    hostile.script().signing = Signing::UnknownKey;
    for _ in 0..5 {
        registry.sign_in(&mut Agent::default(), "oidc").await.status(401);
    }
    let fetched = hostile.asked("/jwks").len();
    assert!(fetched <= 2, "the keys were fetched {fetched} times");
}

/// Three at once: a provider that hangs delays its own users only.
#[tokio::test]
async fn a_provider_that_hangs_is_given_up_and_delays_no_other_user() {
    let hung =
        [("google", "/token", Reply::Never), ("gitlab", "/userinfo", Reply::Drip), ("oidc", DISCOVERY, Reply::Drip)];
    let hostile = [Hostile::start().await, Hostile::start().await, Hostile::start().await];
    let known: Vec<_> = hung.iter().zip(&hostile).map(|((name, ..), hostile)| (*name, hostile)).collect();
    let registry = Registry::knowing(&known);
    let mut people = tokio::task::JoinSet::new();
    for ((name, path, reply), hostile) in hung.into_iter().zip(&hostile) {
        hostile.reply(path, reply);
        let login = registry.login(name, None);
        people.spawn(async move {
            let mut agent = Agent::default();
            let page = agent.get(&login).await;
            let at_login = page.status != 302;
            let page = if at_login {
                page
            } else {
                let callback = agent.get(&page.location()).await.location();
                agent.get(&callback).await
            };
            assert_eq!(at_login, path == DISCOVERY);
            assert!([502, 503, 504].contains(&page.status), "{name}: {page:?}");
            is_a_clear_page(&page);
        });
    }
    let (mut others, mut slowest) = (0, std::time::Duration::ZERO);
    while people.try_join_next().is_none() {
        let begun = std::time::Instant::now();
        registry.running.anonymous().get("/livez").send().await.status(200);
        assert_eq!(registry.status("admin", crate::support::process::ADMIN.1).await, 200);
        slowest = slowest.max(begun.elapsed());
        others += 1;
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    people.join_all().await;
    assert!(others > 20 && slowest < std::time::Duration::from_secs(5), "{others} other requests, {slowest:?}");
}
