//! A user's whole way through the pages in a real browser: without scripts, on a phone, and with the keyboard alone.

use super::browser::sign_in;
use crate::clients::home::{Home, needs};
use crate::openid::browser::Browser;
use crate::support::TestRegistry;
use crate::support::content::push_image;
use crate::support::registry::ALICE;

/// The keys as WebDriver names them.
const TAB: &str = "\u{e004}";
const ENTER: &str = "\u{e007}";

/// The most presses of the Tab key from the start of a page to an element.
const TABS_MAX: usize = 60;

/// Copies a tag to another repository with skopeo.
async fn skopeo_copies(t: &TestRegistry, key: &str) -> Result<(), String> {
    let host = t.running.url().strip_prefix("http://").unwrap().to_owned();
    let credentials = format!("{}:{key}", ALICE.0);
    let copying = tokio::task::spawn_blocking(move || {
        let [from, to] = ["app:1", "copy:1"].map(|name| format!("docker://{host}/alice/{name}"));
        let options = ["--src-tls-verify=false", "--dest-tls-verify=false"];
        let credentials = ["--src-creds", &credentials, "--dest-creds", &credentials];
        let arguments = [&["copy"], &options[..], &credentials, &[&from, &to]].concat();
        Home::alone().attempt("skopeo", &arguments, "").map(|_| ())
    });
    copying.await.unwrap()
}

/// Signs in, searches, opens a tag, deletes and restores it, makes a key, uses and revokes it, and signs out.
async fn journey(t: &TestRegistry, browser: &Browser) {
    let (url, alice) = (t.running.url(), t.user(ALICE));
    push_image(&alice, "alice/app", "1", 1).await;
    push_image(&alice, "alice/app", "2", 3).await;
    sign_in(browser, t, ALICE).await;
    browser.fill(".bar input[name=q]", &format!("app:1{ENTER}")).await;
    browser.click("main a[href='/ui/r/alice/app/-/tag/1']").await;

    browser.click("main a[href*='/-/delete-tags']").await;
    alice.get("/v2/alice/app/manifests/1").send().await.status(200);
    browser.click("form.danger button.danger").await;
    browser.shows(".notice.good").await;
    alice.get("/v2/alice/app/manifests/1").send().await.status(404);
    browser.click(".tabs a[href$='/-/history']").await;
    browser.click("td.end a[href*='/-/restore/1?']").await;
    browser.click("form.card button[type=submit]").await;
    browser.arrives(&format!("{url}/ui/r/alice/app/-/tag/1")).await;
    alice.get("/v2/alice/app/manifests/1").send().await.status(200);

    browser.click(".me").await;
    browser.click("a[href='/ui/account/keys']").await;
    browser.click("main a[href='/ui/account/keys/new']").await;
    browser.fill("#label", "pipeline").await;
    browser.click("input[name=limit][value=some]").await;
    browser.fill("#patterns", "alice/**").await;
    browser.click("button[name=show]").await;
    browser.shows(".matching").await;
    assert!(browser.source().await.contains("<code>alice/app</code>"));
    browser.click("form.card .actions button[type=submit]").await;
    browser.shows(".notice.warning").await;
    let source = browser.source().await;
    let key = format!("zak_{}", source.split("zak_").nth(1).unwrap().split('<').next().unwrap());
    skopeo_copies(t, &key).await.unwrap();
    let by_key = t.user((ALICE.0, &key));
    by_key.get("/v2/alice/copy/manifests/1").send().await.status(200);

    browser.click("main .actions a").await;
    browser.click("td.end a").await;
    browser.click("main form button[type=submit]").await;
    browser.shows(".notice.good").await;
    by_key.get("/v2/alice/copy/manifests/1").send().await.status(401);
    assert!(skopeo_copies(t, &key).await.is_err());
    browser.click(".bar form button.link").await;
    browser.arrives(&format!("{url}/ui/sign-in")).await;
    assert!(browser.source().await.contains("You are signed out."));
    browser.open(&format!("{url}/ui/account")).await;
    browser.arrives(&format!("{url}/ui/sign-in")).await;
}

#[tokio::test]
async fn a_user_without_scripts_does_everything_from_sign_in_to_sign_out() {
    needs!(CHROMIUM, CHROMEDRIVER, SKOPEO);
    let (t, browser) = (TestRegistry::with_users().await, Browser::without_scripts().await);
    browser.open(&format!("{}/ui/sign-in", t.running.url())).await;
    let has = [browser.has("[data-copy]").await, browser.has("[data-copy]:not([hidden])").await];
    assert_eq!(has, [true, false], "buttons that need scripts are hidden");
    journey(&t, &browser).await;
}

#[tokio::test]
async fn a_user_with_a_phone_does_everything_from_sign_in_to_sign_out() {
    needs!(CHROMIUM, CHROMEDRIVER, SKOPEO);
    let (t, browser) = (TestRegistry::with_users().await, Browser::start().await);
    browser.looks(390, false).await;
    journey(&t, &browser).await;
}

/// Moves the focus to an element with the Tab key. Every element on the way must show its focus inside the window.
async fn reach(browser: &Browser, css: &str) {
    const LOOK: &str = "const element = document.activeElement;
        if (element === document.body || element.id === 'content') return null;
        const style = getComputedStyle(element);
        const box = element.getBoundingClientRect();
        const isMarked = style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2;
        const isInside = box.top >= 0 && box.bottom <= innerHeight && box.left >= 0 && box.width > 1 && box.height > 1;
        return [isMarked && isInside, element.outerHTML.slice(0, 160)];";
    browser.shows(css).await;
    let is_there = format!("return document.activeElement.matches({})", serde_json::json!(css));
    for _ in 0..TABS_MAX {
        if browser.script(&is_there).await == true {
            return;
        }
        browser.press(TAB).await;
        let focused = browser.script(LOOK).await;
        assert!(focused.is_null() || focused[0] == true, "the focus is not visible at {}", focused[1]);
    }
    panic!("{TABS_MAX} presses of Tab do not reach {css} at {}", browser.url().await);
}

#[tokio::test]
async fn the_keyboard_alone_signs_in_searches_deletes_a_tag_and_makes_a_key() {
    needs!(CHROMIUM, CHROMEDRIVER);
    let (t, browser) = (TestRegistry::with_users().await, Browser::start().await);
    let (url, alice) = (t.running.url(), t.user(ALICE));
    push_image(&alice, "alice/app", "1", 1).await;
    browser.looks(1280, false).await;
    browser.open(&format!("{url}/ui/sign-in")).await;
    for (field, text) in [("#user", ALICE.0), ("#password", ALICE.1)] {
        reach(&browser, field).await;
        browser.press(text).await;
    }
    browser.press(ENTER).await;
    browser.shows(".me").await;
    browser.press(TAB).await;
    let first = browser.script("return document.activeElement.className").await;
    assert_eq!(first, "skip", "the first element of a page skips to its content");

    reach(&browser, ".bar input[name=q]").await;
    browser.press(&format!("app{ENTER}")).await;
    browser.arrives(&format!("{url}/ui/search?q=app")).await;
    reach(&browser, "main a[href='/ui/r/alice/app']").await;
    browser.press(ENTER).await;
    reach(&browser, "main a[href='/ui/r/alice/app/-/tag/1']").await;
    browser.press(ENTER).await;
    reach(&browser, "main a[href*='/-/delete-tags?tag=1']").await;
    browser.press(ENTER).await;
    reach(&browser, "form.danger button.danger").await;
    browser.press(ENTER).await;
    browser.shows(".notice.good").await;
    alice.get("/v2/alice/app/manifests/1").send().await.status(404);

    reach(&browser, ".me").await;
    browser.press(ENTER).await;
    reach(&browser, "a[href='/ui/account/keys']").await;
    browser.press(ENTER).await;
    reach(&browser, "main a[href='/ui/account/keys/new']").await;
    browser.press(ENTER).await;
    reach(&browser, "#label").await;
    browser.press("laptop").await;
    reach(&browser, "form.card .actions button[type=submit]").await;
    browser.press(ENTER).await;
    browser.shows(".notice.warning").await;
    assert!(browser.source().await.contains("zak_"));
}
