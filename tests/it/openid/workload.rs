//! ID tokens of a certified provider as credentials of a workload: its metadata, its keys, and its tokens.

use serde_json::json;

use super::agent::{self, Agent};
use super::node::needs_node;
use super::provider::{CLIENT, Provider};
use super::registry::Registry;
use super::sign_in::CAROL;

const REDIRECT: &str = "http://127.0.0.1:9/callback";
// RFC 7636, appendix B.
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

#[tokio::test]
async fn an_id_token_of_a_certified_provider_is_accepted_by_its_rule() {
    let mut provider = Provider::start(needs_node!());
    provider.client(&[REDIRECT.to_owned()], &json!({}));
    let issuer = provider.issuer().to_owned();
    let mut agent = Agent::default();
    let url = format!(
        "{issuer}/auth?client_id={}&response_type=code&scope=openid&redirect_uri={REDIRECT}&state=x\
         &code_challenge={CHALLENGE}&code_challenge_method=S256",
        CLIENT.0
    );
    let page = agent.get(&url).await;
    let page = provider.sign_in(&mut agent, page, CAROL, REDIRECT).await.status(303);
    let code = agent::parameter(&page.location(), "code").expect("a code");
    let form = [
        ("grant_type", "authorization_code"),
        ("code", &code),
        ("redirect_uri", REDIRECT),
        ("code_verifier", VERIFIER),
        ("client_id", CLIENT.0),
        ("client_secret", CLIENT.1),
    ];
    let tokens = agent.post(&format!("{issuer}/token"), &form).await.status(200).json();
    let id_token = tokens["id_token"].as_str().unwrap();

    let of = |audience: &str, subject: &str| {
        Registry::start(&format!(
            "[[http.auth.bearer.oidc]]\nissuer = '{issuer}'\naudiences = ['{audience}']\n\
             rules = [{{ claims = {{ sub = '{subject}' }}, groups = ['ci'] }}]\n"
        ))
    };
    assert_eq!(of(CLIENT.0, CAROL).status("any", id_token).await, 200);
    assert_eq!(of(CLIENT.0, "carol").status("any", id_token).await, 401);
    assert_eq!(of("another", CAROL).status("any", id_token).await, 401);
    // The other tokens of the provider are no ID tokens.
    let registry = of(CLIENT.0, CAROL);
    assert_eq!(registry.status("any", tokens["access_token"].as_str().unwrap()).await, 401);
}
