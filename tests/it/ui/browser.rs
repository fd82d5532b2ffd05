//! The pages in a real browser, as axe-core and a phone see them.

use std::fmt::Write as _;

use serde_json::Value;

use crate::clients::home::needs;
use crate::openid::browser::Browser;
use crate::openid::node::needs_node;
use crate::support::registry::ROOT;
use crate::support::{TestRegistry, is_long_form};

use super::furnished::Furnished;

/// A width of the window in pixels, and whether the pages are dark: a phone and a desktop. Colours do not depend on the
/// width, and the layout does not depend on them, so two looks show both.
const LOOKS: [(u32, bool); 2] = [(360, true), (1280, false)];
/// The width of a small phone.
const NARROW: u32 = 320;

pub async fn sign_in(browser: &Browser, t: &TestRegistry, (name, password): (&str, &str)) {
    browser.open(&format!("{}/ui/sign-in", t.running.url())).await;
    browser.fill("#user", name).await;
    browser.fill("#password", password).await;
    browser.click("form button[type=submit]").await;
    browser.shows(".me").await;
}

/// The violations that axe-core reports, one in a line.
async fn violations(browser: &Browser, axe: &str) -> String {
    browser.script(axe).await;
    let report = browser
        .script_that_waits(
            "const done = arguments[arguments.length - 1];
             axe.run(document, { resultTypes: ['violations'] })
                .then((report) => done(report.violations), (error) => done(`${error}`));",
        )
        .await;
    let mut lines = String::new();
    for violation in report.as_array().unwrap_or_else(|| panic!("{report}")) {
        for node in violation["nodes"].as_array().unwrap() {
            writeln!(lines, "  {}: {} {}", violation["id"], node["html"], node["failureSummary"]).unwrap();
        }
    }
    lines
}

/// The problems of the open page at its width: text beyond the edge, and requests to other hosts.
async fn problems(browser: &Browser, host: &str) -> String {
    let wide = browser
        .script(
            "const page = document.documentElement;
             if (page.scrollWidth <= page.clientWidth) return [];
             const beyond = (e) => e.getBoundingClientRect().right > page.clientWidth + 1;
             return [...document.querySelectorAll('body *')].filter(beyond).slice(0, 3).map((e) => e.outerHTML.slice(0, 100));",
        )
        .await;
    let loaded = browser.script("return performance.getEntriesByType('resource').map((entry) => entry.name)").await;
    let mut lines = String::new();
    for element in wide.as_array().unwrap() {
        writeln!(lines, "  beyond the edge: {element}").unwrap();
    }
    for url in loaded.as_array().unwrap().iter().filter_map(Value::as_str).filter(|url| !url.starts_with(host)) {
        writeln!(lines, "  loaded from elsewhere: {url}").unwrap();
    }
    lines
}

/// The faults of every second page, beginning with the given one.
async fn wrong_on(every_second: usize, t: &TestRegistry, pages: &[String], axe: &str) -> String {
    let browser = Browser::start().await;
    let (url, mut wrong) = (t.running.url().to_owned(), String::new());
    let look = async |path: &str, looks: &[(u32, bool)]| {
        let mut found = String::new();
        for &(width, dark) in looks {
            browser.looks(width, dark).await;
            browser.open(&format!("{url}{path}")).await;
            let mut said = problems(&browser, &url).await + &violations(&browser, axe).await;
            if width == LOOKS[0].0 {
                browser.looks(NARROW, dark).await;
                said += &problems(&browser, &url).await;
            }
            if !said.is_empty() {
                writeln!(found, "{path} at {width} px, {}:\n{said}", if dark { "dark" } else { "light" }).unwrap();
            }
        }
        found
    };
    // The short form looks at one page as a dark phone and at the next one as a light desktop.
    let looks = |number: usize| if is_long_form() { &LOOKS[..] } else { &LOOKS[number / 2 % 2..][..1] };
    let mine = |(number, _): &(usize, &str)| number % 2 == every_second;
    for (number, path) in ["/ui/sign-in", "/ui/sign-out", "/ui/nothing"].into_iter().enumerate().filter(mine) {
        wrong += &look(path, looks(number)).await;
    }
    sign_in(&browser, t, ROOT).await;
    let more = ["/ui/confirm-password", "/ui/sign-out"];
    for (number, path) in pages.iter().map(String::as_str).chain(more).enumerate().filter(mine) {
        wrong += &look(path, looks(number)).await;
    }
    wrong
}

/// Two browsers look at half of the pages each.
#[tokio::test]
async fn axe_finds_nothing_on_any_page_in_light_and_dark_and_nothing_is_wider_than_the_window() {
    needs!(CHROMIUM, CHROMEDRIVER);
    let axe = std::fs::read_to_string(needs_node!().join("node_modules/axe-core/axe.min.js")).unwrap();
    let Furnished { t, pages, .. } = Furnished::start().await;
    let (one, other) = tokio::join!(wrong_on(0, &t, &pages, &axe), wrong_on(1, &t, &pages, &axe));
    assert!(one.is_empty() && other.is_empty(), "{one}{other}");
}

#[tokio::test]
async fn a_user_with_scripts_filters_a_list_and_copies_a_command() {
    needs!(CHROMIUM, CHROMEDRIVER);
    let (t, browser) = (TestRegistry::with_users().await, Browser::start().await);
    sign_in(&browser, &t, ROOT).await;
    browser.open(&format!("{}/ui/admin/users", t.running.url())).await;
    let shown = "return [...document.querySelectorAll('#users tr:not([hidden])')].map((row) => row.dataset.name)";
    assert_eq!(browser.script(shown).await, serde_json::json!(["alice", "bob", "root"]));
    browser.fill("[data-filter=users]", "OB").await;
    assert_eq!(browser.script(shown).await, serde_json::json!(["bob"]));
    browser.open(&format!("{}/ui/account", t.running.url())).await;
    browser.click("[data-copy]").await;
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while browser.script("return document.querySelector('[data-copy]').textContent").await == "Copy" {
        assert!(std::time::Instant::now() < deadline, "the button says nothing");
    }
}
