//! The target after a sign-in: `callback_ui`, with zot's statuses and cookies, and tricks to lead elsewhere.

use super::agent::{Agent, parameter};
use super::hostile::Hostile;
use super::registry::{ROOTS, Registry, is_a_clear_page};

/// Targets at the registry or an allowed origin, and the resulting redirects, which use the parsed URL. `$R` is the
/// registry's own origin.
const KEPT: &[(&str, &str)] = &[
    ("/", "/"),
    ("/home", "/home"),
    ("/home?tab=1&x=%2F%2Fevil.example", "/home?tab=1&x=%2F%2Fevil.example"),
    ("/image/a%2Fb#part", "/image/a%2Fb#part"),
    ("$R", "$R/"),
    ("$R/home", "$R/home"),
    ("https://ui.example/home", "https://ui.example/home"),
    ("https://ui.example:443/home", "https://ui.example/home"),
    ("HTTPS://UI.example/home", "https://ui.example/home"),
    ("https://ui%2eexample/", "https://ui.example/"),
    ("https://ui\u{3002}example/", "https://ui.example/"),
];

/// Targets that lead elsewhere, or could: `/` replaces them.
const REFUSED: &[&str] = &[
    "//evil.example",
    "///evil.example",
    "////evil.example/..",
    "/..//evil.example",
    "/.//evil.example",
    "/a/..//evil.example",
    "/%2e%2e//evil.example",
    "/\\evil.example",
    "\\\\evil.example",
    "\\/evil.example",
    "/\\/evil.example",
    "/home\\..\\evil",
    "/\t/evil.example",
    "\t//evil.example",
    " //evil.example",
    "/\n/evil.example",
    "/home\r\nSet-Cookie: session=planted",
    "/home\rx",
    "/home\nx",
    "/\0",
    "home",
    "./home",
    "evil.example",
    "evil.example/home",
    "?x=1",
    "#x",
    "https://evil.example",
    "https://evil.example/home",
    "https:evil.example",
    "https:/evil.example",
    "https:///evil.example",
    "http:\\\\evil.example",
    "https://ui.example.evil.example/",
    "https://ui.example@evil.example/",
    "https://ui.example:x@evil.example/",
    "https://evil.example#@ui.example/",
    "https://evil.example\\@ui.example/",
    "https://evil.example\\.ui.example/",
    "https://evil.example/https://ui.example/",
    "https://ui.example:8443/home",
    "https://ui.example:0443x/home",
    "http://ui.example/home",
    "https://ui.example.",
    "https://ui.exampl\u{435}/",
    "https://[::1",
    "https://",
    "javascript:alert(1)",
    "JavaScript://ui.example/%0aalert(1)",
    "data:text/html,x",
    "ftp://ui.example/",
    "file:///etc/passwd",
    "blob:https://ui.example/x",
    "//ui.example/home",
    "$R@evil.example/",
    "$R.evil.example/",
    "http://127.0.0.1/home",
    "http://localhost/home",
    "http://127.0.0.1:1/home",
];

async fn registry() -> (Registry, Hostile) {
    let hostile = Hostile::start().await;
    let before = "[http.auth.openid]\ncallbackAllowOrigins = ['https://ui.example']\n";
    (Registry::knowing_with(&[("oidc", &hostile)], before), hostile)
}

#[tokio::test]
async fn an_allowed_origin_is_a_target() {
    let (registry, _hostile) = registry().await;
    for (target, sent) in KEPT {
        let [target, sent] = [target, sent].map(|text| text.replace("$R", registry.url()));
        let mut agent = Agent::default();
        let callback = registry.fetch_callback(&mut agent, "oidc", Some(&target)).await;
        let page = agent.get(&callback).await.status(302);
        assert_eq!(page.header("location"), Some(&*sent), "{target}");
        assert!(registry.name(&mut agent).await.is_some(), "{target}");
    }
}

#[tokio::test]
async fn no_trick_leads_a_signed_in_user_elsewhere() {
    // More than the rate limit of one address allows at one registry.
    let registries = [registry().await, registry().await, registry().await];
    for (at, target) in REFUSED.iter().enumerate() {
        let (registry, _) = &registries[at % registries.len()];
        let target = target.replace("$R", registry.url());
        let mut agent = Agent::default();
        let callback = registry.fetch_callback(&mut agent, "oidc", Some(&target)).await;
        let page = agent.get(&callback).await.status(302);
        assert_eq!(page.header("location"), Some("/"), "{target:?}");
        assert_eq!(page.cookies().iter().filter(|line| line.contains("planted")).count(), 0);
    }
}

/// Values that no encoder would write.
#[tokio::test]
async fn no_trick_of_the_query_leads_elsewhere() {
    let (registry, _hostile) = registry().await;
    for query in [
        "callback_ui=/home&callback_ui=https://evil.example",
        "callback_ui=https://evil.example&callback_ui=/home",
        "callback_ui=%252F%252Fevil.example",
        "callback_ui=/%09/evil.example",
        "callback_ui=%2F%2Fevil.example",
        "callback_ui=/%5Cevil.example",
        "callback_ui=https%3A%2F%2Fui.example%40evil.example",
        "callback_ui=%FF%FE",
        "CALLBACK_UI=https://evil.example",
    ] {
        let mut agent = Agent::default();
        let page = agent.get(&registry.at(&format!("/zot/auth/login?provider=oidc&{query}"))).await;
        if page.status == 400 {
            continue;
        }
        let callback = agent.get(&page.status(302).location()).await.location();
        let page = agent.get(&callback).await;
        let location = page.header("location").unwrap_or("/");
        assert!(["/", "/home"].contains(&location), "{query}: {page:?}");
    }
}

/// A target that is changed later, in the cookie or in the callback URL, has no effect.
#[tokio::test]
async fn the_target_is_the_one_of_the_start() {
    let (registry, _hostile) = registry().await;
    let mut agent = Agent::default();
    let callback = registry.fetch_callback(&mut agent, "oidc", Some("/home")).await;
    let page = agent.get(&format!("{callback}&callback_ui=https%3A%2F%2Fevil.example")).await;
    assert!(page.header("location").is_none_or(|location| location == "/home"), "{page:?}");
}

#[tokio::test]
async fn statuses_redirects_and_cookies_are_those_of_zot() {
    let (registry, hostile) = registry().await;
    for root in ROOTS {
        let mut agent = Agent::default();
        let login = registry.at(&format!("{root}/login"));
        for unknown in
            ["", "?provider=", "?provider=unknown", "?provider=OIDC", "?provider=%3Cscript%3E", "?callback_ui=/"]
        {
            let page = agent.get(&format!("{login}{unknown}")).await.status(400);
            assert!(!page.text().contains("<script"), "{}", page.text());
            assert!(agent.jar.is_empty(), "{unknown} leaves cookies: {:?}", agent.jar);
        }
        let page = agent.get(&format!("{login}?provider=oidc")).await.status(302);
        let location = page.location();
        assert!(location.starts_with(&format!("{}/authorize?", hostile.issuer())), "{location}");
        for (name, wanted) in [
            ("client_id", super::hostile::CLIENT.0),
            ("response_type", "code"),
            ("redirect_uri", &registry.callback("oidc")),
            ("code_challenge_method", "S256"),
        ] {
            assert_eq!(parameter(&location, name).as_deref(), Some(wanted), "{location}");
        }
        let [state, nonce, challenge] =
            ["state", "nonce", "code_challenge"].map(|name| parameter(&location, name).unwrap());
        assert!(state.len() >= 22 && nonce.len() >= 22 && challenge.len() == 43, "{location}");
        assert!(state != nonce && nonce != challenge && state != challenge, "{location}");
        assert!(parameter(&location, "scope").unwrap().split(' ').any(|scope| scope == "openid"));
        assert!(!location.contains(super::hostile::CLIENT.1), "{location}");
        assert_eq!(page.header("cache-control"), Some("no-store"));
        let state_cookie = page.cookie("statecookie").expect("a cookie with the state");
        for attribute in ["; HttpOnly", "; SameSite=Lax", "; Max-Age=600"] {
            assert!(state_cookie.contains(attribute), "{state_cookie}");
        }
        assert!(!state_cookie.contains("Domain") && !state_cookie.contains("Secure"), "{state_cookie}");
        assert!(page.cookie("session").is_none(), "nothing is signed in yet: {:?}", page.cookies());

        let callback = agent.get(&location).await.location();
        let callback = callback.replace("/zot/auth/callback/", &format!("{root}/callback/"));
        let page = agent.get(&callback).await.status(201);
        assert!(page.body.is_empty() && page.header("location").is_none(), "{page:?}");
        assert_eq!(page.header("cache-control"), Some("no-store"));
        let [session, user] = ["session", "user"].map(|name| page.cookie(name).unwrap_or_else(|| panic!("{page:?}")));
        assert!(session.contains("; HttpOnly") && session.contains("; SameSite=Lax"), "{session}");
        assert!(session.contains("; Path=/;") || session.ends_with("; Path=/"), "{session}");
        assert!(!user.contains("HttpOnly") && user.contains("mallory"), "{user}");
        let state_cookie = page.cookie("statecookie").expect("the state is gone");
        assert!(state_cookie.starts_with("statecookie=;") && state_cookie.contains("; Max-Age=0"), "{state_cookie}");
        assert!(agent.cookie("statecookie").is_none(), "it is removed: {:?}", agent.jar);

        // Without a pending sign-in, or with another one.
        for query in ["", "?code=x", "?state=x", "?code=x&state=x", "?code=&state=", "?error=access_denied"] {
            let url = registry.at(&format!("{root}/callback/oidc{query}"));
            let page = Agent::default().get(&url).await.status(401);
            is_a_clear_page(&page);
        }
        for name in ["unknown", "", "oidc/", "oidc%2f..", "github"] {
            let page = Agent::default().get(&registry.at(&format!("{root}/callback/{name}?code=x&state=x"))).await;
            assert!([400, 401, 404].contains(&page.status), "{name}: {page:?}");
        }
    }
}

/// If the registry is reached over TLS, possibly through a proxy, cookies are limited to TLS.
#[tokio::test]
async fn cookies_are_secure_where_the_registry_is_reached_by_tls() {
    let hostile = Hostile::start().await;
    let before = "[http]\nexternalUrl = 'https://registry.example'\n";
    let registry = Registry::knowing_with(&[("oidc", &hostile)], before);
    let mut agent = Agent::default();
    let page = agent.get(&registry.login("oidc", Some("https://registry.example/home"))).await.status(302);
    let redirect = parameter(&page.location(), "redirect_uri").unwrap();
    assert_eq!(redirect, "https://registry.example/zot/auth/callback/oidc");
    let callback = agent.get(&page.location()).await.location().replace("https://registry.example", registry.url());
    assert!(page.cookie("statecookie").unwrap().contains("; Secure"), "{:?}", page.cookies());
    let page = agent.get(&callback).await.status(302);
    assert_eq!(page.header("location"), Some("https://registry.example/home"));
    for name in ["session", "user"] {
        assert!(page.cookie(name).unwrap().contains("; Secure"), "{:?}", page.cookies());
    }
}
