//! Sign-in and sign-out through an identity provider, from the pages.

use crate::clients::home::needs;
use crate::openid::browser::Browser;
use crate::openid::node::needs_node;
use crate::openid::sign_in::{CAROL, both, fill_in};

#[tokio::test]
async fn a_user_signs_in_at_a_provider_returns_to_the_page_and_signs_out_at_both() {
    needs!(CHROMIUM, CHROMEDRIVER);
    let (registry, provider) = both(needs_node!(), "");
    let browser = Browser::start().await;
    browser.open(&registry.at("/ui/account/keys")).await;
    browser.arrives(&registry.at("/ui/sign-in?next=")).await;
    browser.click("a[href^='/zot/auth/login?provider=oidc']").await;
    fill_in(&browser, &provider, CAROL).await;
    browser.arrives(&registry.at("/ui/account/keys")).await;
    assert!(browser.source().await.contains("carol"));
    browser.open(&registry.at("/ui/account/password")).await;
    assert!(browser.source().await.contains("Change your password there."), "{}", browser.source().await);
    browser.click(".bar form button.link").await;
    browser.shows("a[href*='/session/end']").await;
    let source = browser.source().await;
    assert!(source.contains("You are signed out here"), "{source}");
    browser.click("a[href*='/session/end']").await;
    browser.click("button[name=logout]").await;
    // Otherwise the redirect of the provider may come after the next page.
    browser.arrives(&registry.at("/login")).await;
    browser.open(&registry.at("/ui/account")).await;
    browser.arrives(&registry.at("/ui/sign-in")).await;
}
