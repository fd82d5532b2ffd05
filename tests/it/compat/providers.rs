//! The rows about signing in through providers. The registry of the other checks knows none: each here has its own.

use serde_json::json;

use crate::openid::agent::{Agent, parameter};
use crate::openid::github::{self, GitHub};
use crate::openid::hostile::Hostile;
use crate::openid::registry::Registry;
use crate::support::http::Caller;
use crate::support::process::ADMIN;

checks! {
    async fn providers_send_back_to_the_address_that_was_used(_caller, _repository) {
        let hostile = Hostile::start().await;
        let registry = Registry::knowing(&[("oidc", &hostile)]);
        let page = Agent::default().get(&registry.login("oidc", None)).await.status(302);
        let back = parameter(&page.location(), "redirect_uri");
        assert_eq!(back, Some(registry.callback("oidc")));
        // And to its own pages, by whole URLs, as zot's page asks.
        let mut agent = Agent::default();
        let home = registry.at("/home");
        let callback = registry.fetch_callback(&mut agent, "oidc", Some(&home)).await;
        assert_eq!(agent.get(&callback).await.status(302).location(), home);
    }

    async fn every_sign_in_has_a_challenge_and_a_nonce(_caller, _repository) {
        let hostile = Hostile::start().await;
        let registry = Registry::knowing(&[("oidc", &hostile)]);
        let page = Agent::default().get(&registry.login("oidc", None)).await.status(302);
        for name in ["code_challenge", "nonce", "state"] {
            assert_eq!(parameter(&page.location(), name).map(|value| value.len()), Some(43), "{name}");
        }
        assert_eq!(parameter(&page.location(), "code_challenge_method").as_deref(), Some("S256"));
    }

    async fn a_sign_in_that_fails_shows_a_page(_caller, _repository) {
        let hostile = Hostile::start().await;
        let registry = Registry::knowing(&[("oidc", &hostile)]);
        let unknown = Agent::default().get(&registry.at("/zot/auth/login?provider=okta")).await.status(400);
        let stranger = Agent::default().get(&registry.at("/zot/auth/callback/oidc?code=a&state=b")).await.status(401);
        for page in [unknown, stranger] {
            assert!(page.text().contains("<h1>"), "{}", page.text());
        }
    }

    async fn a_sign_in_counts_once(_caller, _repository) {
        let hostile = Hostile::start().await;
        let registry = Registry::knowing(&[("oidc", &hostile)]);
        let mut agent = Agent::default();
        let callback = registry.fetch_callback(&mut agent, "oidc", None).await;
        let mut again = agent.clone();
        agent.get(&callback).await.status(201);
        again.get(&callback).await.status(401);
    }

    async fn nobody_takes_over_a_name(_caller, _repository) {
        let hostile = Hostile::start().await;
        let registry = Registry::knowing(&[("oidc", &hostile)]);
        let name = "mallory@example.org";
        registry.coracle(&["user", "add", name, "--password-stdin"], "the-password-of-another");
        let mut agent = Agent::default();
        registry.sign_in(&mut agent, "oidc").await.status(403);
        assert_eq!(registry.name(&mut agent).await, None);
        assert_eq!(registry.status(name, "the-password-of-another").await, 200);
    }

    async fn whoever_has_another_address_is_the_same(_caller, _repository) {
        let hostile = Hostile::start().await;
        let registry = Registry::knowing(&[("oidc", &hostile)]);
        registry.signed_in("oidc").await;
        hostile.script().claims["email"] = json!("new@example.org");
        let mut agent = registry.signed_in("oidc").await;
        assert_eq!(registry.name(&mut agent).await.as_deref(), Some("mallory@example.org"));
    }

    async fn unverified_addresses_are_nobodys(_caller, _repository) {
        let hostile = Hostile::start().await;
        let registry = Registry::knowing(&[("oidc", &hostile)]);
        hostile.script().claims["email_verified"] = json!(false);
        registry.sign_in(&mut Agent::default(), "oidc").await.status(403);
    }

    async fn whoever_has_left_the_provider_has_left_the_registry(_caller, _repository) {
        let hostile = Hostile::start().await;
        hostile.script().refresh_tokens = true;
        let registry = Registry::knowing_with(&[("oidc", &hostile)], "[http.auth.openid]\nrecheck = '1s'\n");
        let mut agent = registry.signed_in("oidc").await;
        let key = registry.new_key(&mut agent).await;
        hostile.script().gone = true;
        let status = async || registry.status("mallory@example.org", &key).await;
        crate::openid::people::until("the key stops", async || status().await == 401).await;
        assert_eq!(registry.status(ADMIN.0, ADMIN.1).await, 200);
    }

    async fn an_own_github_is_asked_at_its_own_api(_caller, _repository) {
        let github = GitHub::start(github::octocat()).await;
        let registry = github::registry(&github, "");
        let page = Agent::default().get(&registry.login("github", None)).await.status(302);
        assert!(page.location().starts_with(&format!("{}/login/oauth/authorize?", github.url())), "{}", page.location());
    }

    async fn signing_out_without_a_session_is_refused(caller, _repository) {
        let refused = caller.post("/zot/auth/logout").send().await.error(403, "DENIED");
        assert!(refused.text().contains("signing out ends sessions"), "{}", refused.text());
        caller.get("/v2/").send().await.status(200);
    }

    async fn signing_out_takes_the_cookie_user_too(caller, _repository) {
        // A password with the request would go on to count, and is answered otherwise.
        let caller = crate::support::http::Caller::new(caller.address(), None);
        let answer = caller.post("/zot/auth/logout").send().await.status(200);
        let cookies: Vec<_> = answer.headers.get_all("set-cookie").iter().map(|line| line.to_str().unwrap()).collect();
        assert!(cookies.iter().any(|line| line.starts_with("user=; Path=/; Max-Age=0")), "{cookies:?}");
    }
}
