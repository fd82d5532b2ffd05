//! Attacks on a sign-in with an honest provider: foreign states, codes, cookies and names, and responses of other
//! providers. A refused sign-in gives no session and sends no code.

use hyper::Method;
use serde_json::json;

use super::agent::{Agent, Page, parameter, with_parameter};
use super::hostile::Hostile;
use super::registry::{Registry, is_a_clear_page};
use crate::support::content::push_image;
use crate::support::process::ADMIN;

async fn registry() -> (Registry, Hostile) {
    let hostile = Hostile::start().await;
    (Registry::knowing(&[("oidc", &hostile)]), hostile)
}

/// Opens a callback that must be refused.
async fn refused(registry: &Registry, agent: &mut Agent, url: &str) -> Page {
    let page = agent.get(url).await.status(401);
    is_a_clear_page(&page);
    assert_eq!(registry.name(agent).await, None, "{url}");
    page
}

#[tokio::test]
async fn a_foreign_state_is_refused_and_no_code_is_sent() {
    let (registry, hostile) = registry().await;
    let mut agent = Agent::default();
    let callback = registry.fetch_callback(&mut agent, "oidc", None).await;
    let state = parameter(&callback, "state").unwrap();
    let mut turned = state.clone().into_bytes();
    turned[3] = if turned[3] == b'A' { b'B' } else { b'A' };
    let turned = String::from_utf8(turned).unwrap();
    let upper = state.to_uppercase();
    let wrong = [None, Some(""), Some("x"), Some(&*turned), Some(&state[1..]), Some(&*upper)];
    for wrong in wrong.into_iter().filter(|wrong| *wrong != Some(&state)) {
        refused(&registry, &mut agent.clone(), &with_parameter(&callback, "state", wrong)).await;
    }
    // An attacker must not choose which of two values is used.
    for twice in [format!("{callback}&state=x"), callback.replace('?', "?state=x&")] {
        let mut agent = agent.clone();
        assert!([400, 401].contains(&agent.get(&twice).await.status), "{twice}");
        assert_eq!(registry.name(&mut agent).await, None);
    }
    assert!(hostile.asked("/token").is_empty(), "no code was sent");
    agent.get(&callback).await.status(201);
}

/// An attacker signs a victim in as the attacker by a link, to read what the victim pushes.
#[tokio::test]
async fn a_callback_is_of_no_use_in_another_browser() {
    let (registry, hostile) = registry().await;
    let mut attacker = Agent::default();
    let callback = registry.fetch_callback(&mut attacker, "oidc", None).await;
    refused(&registry, &mut Agent::default(), &callback).await;
    // Nor in a browser with a pending sign-in of its own.
    let mut victim = Agent::default();
    registry.fetch_callback(&mut victim, "oidc", None).await;
    refused(&registry, &mut victim, &callback).await;
    assert!(hostile.asked("/token").is_empty(), "no code was sent");
}

#[tokio::test]
async fn a_callback_is_valid_once() {
    let (registry, hostile) = registry().await;
    let mut agent = Agent::default();
    let callback = registry.fetch_callback(&mut agent, "oidc", None).await;
    let mut copy = agent.clone();
    agent.get(&callback).await.status(201);
    let sent = hostile.asked("/token").len();
    // An attacker has the URL and the cookie from a log or a backup of the browser.
    refused(&registry, &mut copy, &callback).await;
    // The same with another code of the provider for the same state.
    refused(&registry, &mut copy, &with_parameter(&callback, "code", Some("another"))).await;
    assert_eq!(hostile.asked("/token").len(), sent, "no code was sent again");
    assert!(registry.name(&mut agent).await.is_some(), "the signed-in user stays so");
}

/// Several simultaneous requests: only one succeeds.
#[tokio::test]
async fn a_callback_is_valid_once_for_simultaneous_requests() {
    let (registry, hostile) = registry().await;
    let mut agent = Agent::default();
    let callback = registry.fetch_callback(&mut agent, "oidc", None).await;
    let mut all = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (mut agent, callback) = (agent.clone(), callback.clone());
        all.spawn(async move { agent.get(&callback).await.status });
    }
    let mut statuses = all.join_all().await;
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 401, 401, 401, 401, 401, 401, 401]);
    assert_eq!(hostile.asked("/token").len(), 1);
}

/// A victim's code from a log or a referrer, in a sign-in of the attacker (RFC 9700, 4.5). PKCE ties the code to its
/// sign-in. If the provider does not check it, the nonce does.
#[tokio::test]
async fn a_code_of_another_sign_in_is_refused() {
    for provider_looks in [true, false] {
        let (registry, hostile) = registry().await;
        hostile.script().binds = provider_looks;
        let stolen = parameter(&registry.fetch_callback(&mut Agent::default(), "oidc", None).await, "code").unwrap();
        let mut attacker = Agent::default();
        let callback = registry.fetch_callback(&mut attacker, "oidc", None).await;
        refused(&registry, &mut attacker, &with_parameter(&callback, "code", Some(&stolen))).await;
        assert_eq!(hostile.asked("/token").len(), 1, "the provider was asked about it");
        assert_eq!(registry.users(), ["admin"]);
    }
}

/// The response of one provider is sent to the callback of another one, which would get the code (RFC 9700, 4.4). The
/// defence does not need RFC 9207, which many providers lack.
#[tokio::test]
async fn an_answer_for_one_provider_is_refused_at_anothers_callback() {
    for says_issuer in [true, false] {
        let (honest, evil) = (Hostile::start().await, Hostile::start().await);
        for hostile in [&honest, &evil].into_iter().filter(|_| !says_issuer) {
            says_no_issuer(hostile);
        }
        let registry = Registry::knowing(&[("google", &honest), ("oidc", &evil)]);
        let mut agent = Agent::default();
        let callback = registry.fetch_callback(&mut agent, "google", None).await;
        let moved = callback.replace("/callback/google", "/callback/oidc");
        refused(&registry, &mut agent.clone(), &moved).await;
        refused(&registry, &mut agent.clone(), &with_parameter(&moved, "iss", None)).await;
        // Both sign-ins are pending in the same browser, in either order.
        registry.fetch_callback(&mut agent, "oidc", None).await;
        refused(&registry, &mut agent.clone(), &moved).await;
        registry.fetch_callback(&mut agent, "google", None).await;
        refused(&registry, &mut agent.clone(), &moved).await;
        assert!(evil.asked("/token").is_empty() && honest.asked("/token").is_empty(), "no code was sent");
    }
}

/// Makes a provider one without RFC 9207.
fn says_no_issuer(hostile: &Hostile) {
    let mut script = hostile.script();
    script.discovery = Box::new(|document| {
        document.as_object_mut().unwrap().remove("authorization_response_iss_parameter_supported");
    });
    script.redirect = Box::new(|parameters| parameters.retain(|(name, _)| name != "iss"));
}

/// RFC 9207: a response names its issuer if the provider has announced that.
#[tokio::test]
async fn an_answer_of_another_issuer_is_refused_and_no_code_is_sent() {
    let (registry, hostile) = registry().await;
    for iss in [Some("https://another.example"), Some(""), Some(&*format!("{}/", hostile.issuer())), None] {
        let mut agent = Agent::default();
        let callback = registry.fetch_callback(&mut agent, "oidc", None).await;
        refused(&registry, &mut agent, &with_parameter(&callback, "iss", iss)).await;
    }
    assert!(hostile.asked("/token").is_empty(), "no code was sent");
}

/// Many providers lack RFC 9207.
#[tokio::test]
async fn a_response_without_an_issuer_is_accepted_from_a_provider_that_never_sends_it() {
    let (registry, hostile) = registry().await;
    says_no_issuer(&hostile);
    registry.signed_in("oidc").await;
}

/// The cookie is signed, so it cannot be forged, changed, or taken from another registry.
#[tokio::test]
async fn a_cookie_that_the_registry_has_not_made_is_refused() {
    let (registry, hostile) = registry().await;
    let other = Registry::knowing(&[("oidc", &hostile)]);
    let mut agent = Agent::default();
    let callback = registry.fetch_callback(&mut agent, "oidc", None).await;
    let mut elsewhere = Agent::default();
    let callback_elsewhere = other.fetch_callback(&mut elsewhere, "oidc", None).await;
    let (cookie, foreign) = (agent.cookie("statecookie").unwrap(), elsewhere.cookie("statecookie").unwrap());
    let mut wrong = vec![String::new(), "x".to_owned(), "=".repeat(50), "A".repeat(4000), foreign.to_owned()];
    wrong.extend(["eyJhbGciOiJub25lIn0.e30.".to_owned(), format!("{cookie}A"), cookie[1..].to_owned()]);
    let step = cookie.len() / 12;
    for at in (0..cookie.len()).step_by(step.max(1)) {
        let mut bytes = cookie.as_bytes().to_vec();
        bytes[at] = if bytes[at] == b'A' { b'Q' } else { b'A' };
        wrong.push(String::from_utf8(bytes).unwrap());
    }
    for wrong in wrong.iter().filter(|wrong| *wrong != cookie) {
        let mut agent = agent.clone();
        agent.jar.clear();
        agent.plant(registry.url(), &format!("statecookie={wrong}; Path=/"));
        refused(&registry, &mut agent, &callback).await;
        let elsewhere = callback_elsewhere.replace(other.url(), registry.url());
        refused(&registry, &mut agent, &elsewhere).await;
    }
    assert!(hostile.asked("/token").is_empty(), "no code was sent");
    agent.get(&callback).await.status(201);
}

/// A session that an attacker planted from a neighbouring host is not the one that gets signed in.
#[tokio::test]
async fn a_planted_session_is_not_the_one_that_is_signed_in() {
    let (registry, _hostile) = registry().await;
    let mut attacker = Agent::default();
    attacker.get(&registry.at("/csrf_token")).await.status(200);
    let planted = attacker.cookie("session").unwrap().to_owned();
    for planted in [&*planted, "planted", &"A".repeat(43)] {
        let mut victim = Agent::default();
        victim.plant(registry.url(), &format!("session={planted}; Path=/"));
        registry.sign_in(&mut victim, "oidc").await.status(201);
        assert_ne!(victim.cookie("session"), Some(planted));
        assert!(registry.name(&mut victim).await.is_some());
        let mut attacker = Agent::default();
        attacker.plant(registry.url(), &format!("session={planted}; Path=/"));
        assert_eq!(registry.name(&mut attacker).await, None);
    }
}

/// A sign-in ends the browser's session of another user, and does not turn it into the new one.
#[tokio::test]
async fn a_sign_in_ends_the_session_that_the_browser_had() {
    let (registry, hostile) = registry().await;
    let mut agent = registry.signed_in("oidc").await;
    let mut before = agent.clone();
    hostile.script().claims["sub"] = json!("another-subject");
    hostile.script().claims["email"] = json!("peggy@example.org");
    registry.sign_in(&mut agent, "oidc").await.status(201);
    assert_eq!(registry.name(&mut agent).await.as_deref(), Some("peggy@example.org"));
    assert_eq!(registry.name(&mut before).await, None);
}

/// A provider cannot take over an existing name: not of a local user, a user of an htpasswd file, a user of another
/// provider, or another user of the same provider.
#[tokio::test]
async fn a_name_of_another_user_is_never_taken_over() {
    let (google, oidc) = (Hostile::start().await, Hostile::start().await);
    let file = tempfile::NamedTempFile::new().unwrap();
    let line = format!("filed@example.org:{}\n", bcrypt::hash("a password of a file", 4).unwrap());
    std::fs::write(file.path(), line).unwrap();
    let before = format!("[http.auth.htpasswd]\npath = '{}'\n", file.path().display());
    let registry = Registry::knowing_with(&[("google", &google), ("oidc", &oidc)], &before);
    registry.coracle(&["user", "add", "local@example.org", "--password-stdin"], "a-password-of-hers");
    let mut mallory = registry.signed_in("google").await;
    let key = registry.new_key(&mut mallory).await;
    let users = registry.users();
    for name in ["admin", "local@example.org", "filed@example.org", "mallory@example.org"] {
        oidc.script().claims["email"] = json!(name);
        oidc.script().claims["sub"] = json!(format!("a user who claims to be {name}"));
        let mut agent = Agent::default();
        let page = registry.sign_in(&mut agent, "oidc").await.status(403);
        is_a_clear_page(&page);
        assert!(page.text().contains("name"), "it says what is the matter: {}", page.text());
        assert_eq!(registry.name(&mut agent).await, None);
    }
    // Another user of the same provider who has got the address.
    google.script().claims["sub"] = json!("a new owner of the address");
    registry.sign_in(&mut Agent::default(), "google").await.status(403);
    assert_eq!(registry.users(), users);
    assert_eq!(registry.status(ADMIN.0, ADMIN.1).await, 200);
    assert_eq!(registry.status("local@example.org", "a-password-of-hers").await, 200);
    assert_eq!(registry.status("filed@example.org", "a password of a file").await, 200);
    assert_eq!(registry.status("mallory@example.org", &key).await, 200);
    assert!(registry.name(&mut mallory).await.is_some());
}

/// Texts of a provider are escaped in pages.
#[tokio::test]
async fn a_providers_error_is_escaped_on_the_page() {
    let (registry, hostile) = registry().await;
    let markup = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'";
    for error in ["access_denied", "server_error", "temporarily_unavailable", markup] {
        hostile.script().redirect = Box::new(move |parameters| {
            parameters.retain(|(name, _)| name != "code");
            for (name, value) in [("error", error), ("error_description", markup), ("error_uri", "javascript:alert(1)")]
            {
                parameters.push((name.to_owned(), value.to_owned()));
            }
        });
        let mut agent = Agent::default();
        let callback = registry.fetch_callback(&mut agent, "oidc", Some("/home")).await;
        let page = agent.get(&callback).await;
        assert!([401, 403, 502, 503].contains(&page.status), "{page:?}");
        is_a_clear_page(&page);
        assert!(!page.text().contains("<img") && !page.text().contains("javascript:"), "{}", page.text());
        assert_eq!(registry.name(&mut agent).await, None);
    }
    assert!(hostile.asked("/token").is_empty());
}

/// An error with a code is an error.
#[tokio::test]
async fn an_error_with_a_code_is_an_error() {
    let (registry, hostile) = registry().await;
    hostile.script().redirect =
        Box::new(|parameters| parameters.push(("error".to_owned(), "access_denied".to_owned())));
    let mut agent = Agent::default();
    let callback = registry.fetch_callback(&mut agent, "oidc", None).await;
    refused(&registry, &mut agent, &callback).await;
    assert!(hostile.asked("/token").is_empty(), "no code was sent");
}

#[tokio::test]
async fn odd_requests_are_refused_and_harm_nothing() {
    let (registry, hostile) = registry().await;
    let mut agent = Agent::default();
    let callback = registry.fetch_callback(&mut agent, "oidc", None).await;
    let long = "x".repeat(6000);
    for (name, value) in
        [("code", &*long), ("state", &*long), ("iss", &*long), ("code", ""), ("state", "\0"), ("state", "\u{fffd}")]
    {
        let page = agent.clone().get(&with_parameter(&callback, name, Some(value))).await;
        assert!([400, 401, 414].contains(&page.status), "{name}={value:.20}: {page:?}");
    }
    for method in [Method::POST, Method::PUT, Method::DELETE, Method::PATCH] {
        for url in [&*callback, &registry.login("oidc", None)] {
            let page = agent.clone().send(method.clone(), url, &[], "").await;
            assert_eq!(page.status, 405, "{method} {url}: {page:?}");
        }
    }
    // A browser that prefetches sends HEAD, which signs no user in.
    let page = agent.clone().send(Method::HEAD, &callback, &[], "").await;
    assert!(page.cookie("session").is_none(), "{page:?}");
    let known = hostile.asked("/token").len();
    assert!(known <= 1, "only a code that is too long may have been sent: {known}");
    registry.sign_in(&mut agent, "oidc").await.status(201);
}

/// The log has no secret of two parties, at its finest level.
#[tokio::test]
async fn no_code_state_token_or_secret_is_in_the_log() {
    for format in ["text", "json"] {
        let hostile = Hostile::start().await;
        hostile.script().refresh_tokens = true;
        let registry = Registry::knowing_with(&[("oidc", &hostile)], &format!("format = '{format}'\n"));
        let mut secrets = vec![super::hostile::CLIENT.1.to_owned()];
        for turn in 0..4 {
            let mut agent = Agent::default();
            let page = agent.get(&registry.login("oidc", Some("/home"))).await.status(302);
            let mut callback = agent.get(&page.location()).await.location();
            for name in ["state", "nonce", "code_challenge"] {
                secrets.push(parameter(&page.location(), name).unwrap());
            }
            secrets.push(parameter(&callback, "code").unwrap());
            secrets.push(agent.cookie("statecookie").unwrap().to_owned());
            match turn {
                0 => {}
                1 => callback = with_parameter(&callback, "state", Some("wrong")),
                2 => hostile.script().signing = super::hostile::Signing::Foreign,
                _ => hostile.reply("/token", super::player::Answer::text(200, "{\"access_token\": \"access-s3cret\",")),
            }
            let page = agent.get(&callback).await;
            secrets.extend(agent.cookie("session").map(str::to_owned));
            assert_eq!(page.status == 302, turn == 0, "{page:?}");
        }
        let verifiers: Vec<String> = hostile.asked("/token").iter().map(|asked| asked.form("code_verifier")).collect();
        assert!(verifiers.len() == 3 && verifiers.iter().all(|verifier| verifier.len() >= 43), "{verifiers:?}");
        secrets.extend(verifiers);
        secrets.extend(["access-s3cret", "refresh-s3cret", "eyJ0eXAi"].map(str::to_owned));
        let log = registry.running.stop().stderr;
        assert!(log.contains("/zot/auth/callback/oidc"), "{log}");
        for secret in secrets {
            assert!(!log.contains(&secret), "{secret} is in the log:\n{log}");
        }
    }
}

/// A federated user has no password, also no empty one.
#[tokio::test]
async fn a_federated_user_has_no_password() {
    let (registry, _hostile) = registry().await;
    let mut agent = registry.signed_in("oidc").await;
    for password in ["", "mallory@example.org", "null", "subject-of-mallory"] {
        assert!([401, 429].contains(&registry.status("mallory@example.org", password).await), "{password:?}");
    }
    let key = registry.new_key(&mut agent).await;
    assert_eq!(registry.status("mallory@example.org", &key).await, 200);
    assert_eq!(registry.status("admin", &key).await, 401, "the key belongs to no other user");
}

#[tokio::test]
async fn a_federated_user_gets_no_namespace_that_is_in_use() {
    let hostile = Hostile::start().await;
    let table = super::registry::table("oidc", &hostile.issuer(), super::hostile::CLIENT);
    let registry = Registry::start(&format!("{table}claimMapping = {{ username = 'preferred_username' }}\n"));
    push_image(&registry.running.user(ADMIN), "team/app", "1", 1).await;
    let called = |name: &str| {
        hostile.script().claims["preferred_username"] = json!(name);
        hostile.script().claims["sub"] = json!(format!("who is called {name}"));
    };
    for (name, namespace) in [("team", None), ("library", None), ("gina", Some("gina"))] {
        called(name);
        let mut agent = registry.signed_in("oidc").await;
        let account = registry.account(&mut agent).await.unwrap();
        assert_eq!(
            (&account["namespace"], &account["can_create_repo"]),
            (&json!(namespace), &json!(namespace.is_some()))
        );
        assert_eq!(account["namespace_note"].is_null(), namespace.is_some(), "{account}");
        let key = registry.new_key(&mut agent).await;
        let user = registry.running.user((name, &key));
        let status = if namespace.is_some() { 202 } else { 403 };
        user.post(&format!("/v2/{name}/new/blobs/uploads/")).send().await.status(status);
        if name == "team" {
            user.get("/v2/team/app/manifests/1").send().await.status(403);
        }
    }
    registry.running.wait_for("does not own the namespace of its name");
    // E-mail addresses are names by default.
    let registry = Registry::knowing(&[("oidc", &hostile)]);
    let mut agent = registry.signed_in("oidc").await;
    let account = registry.account(&mut agent).await.unwrap();
    assert_eq!(account["namespace"], "mallory__at__example.org");
}
