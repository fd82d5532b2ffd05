//! zot's web page from a directory: its files, its routes in the browser, and its calls in their order, also from another
//! origin.

use std::path::Path;

use serde_json::{Value, json};

use super::client::push;
use super::{ON, registry, zui};
use crate::clients::home::needs;
use crate::openid::browser::Browser;
use crate::support::TestRegistry;
use crate::support::registry::ALICE;

/// A registry that serves a page.
async fn serving(directory: &Path) -> TestRegistry {
    registry(&format!("{ON}extensions.ui.directory = {:?}", directory.to_str().unwrap())).await
}

#[tokio::test]
async fn a_built_page_is_served_with_its_routes() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir(directory.path().join("assets")).unwrap();
    std::fs::write(directory.path().join("index.html"), "<title>page</title>").unwrap();
    std::fs::write(directory.path().join("assets/app-1.js"), "1;".repeat(2000)).unwrap();
    std::fs::write(directory.path().join("livez"), "not this").unwrap();
    let t = serving(directory.path()).await;
    let get = |path: &str| t.anonymous().get(path).send();
    for path in ["/", "/login", "/home", "/explore", "/image/alice%2Fapp/tag/1", "/user/apikey", "/index.html"] {
        let page = get(path).await.status(200).has("content-type", "text/html; charset=utf-8");
        let page = page.has("cache-control", "no-cache").has("x-frame-options", "DENY");
        assert!(page.header("content-security-policy").unwrap().starts_with("default-src 'none'; script-src 'self'"));
        assert_eq!(page.text(), "<title>page</title>");
    }
    let tag = get("/").await.header("etag").unwrap().to_owned();
    t.anonymous().get("/").header("if-none-match", &tag).send().await.status(304);
    let script = get("/assets/app-1.js").await.status(200).has("cache-control", "max-age=31536000, immutable");
    assert_eq!(script.body.len(), 4000);
    let packed = t.anonymous().get("/assets/app-1.js").header("accept-encoding", "gzip").send().await;
    assert!(packed.has("content-encoding", "gzip").body.len() < 200);
    // The registry's own paths stay.
    assert_eq!(get("/livez").await.status(200).text(), "ok");
    get("/ui/sign-in").await.status(200);
    get("/v2/").await.status(401);
    for path in ["/absent", "/loginx", "/assets", "/assets/../index.html", "/..%2fetc/passwd"] {
        get(path).await.status(404);
    }
    t.anonymous().post("/home").send().await.status(404);
}

#[tokio::test]
async fn a_directory_without_a_page_is_a_problem_of_the_configuration() {
    let directory = tempfile::tempdir().unwrap();
    let toml = format!("{ON}extensions.ui.directory = {:?}", directory.path().to_str().unwrap());
    let error = coracle::config::Config::from_toml_str(&toml).unwrap_err().to_string();
    assert!(error.contains("extensions.ui.directory") && error.contains("has no index.html"), "{error}");
}

/// Makes the calls of zot's web page in its order, with its headers, and returns what it would show. `base` is the origin of
/// the registry, and `queries` has the texts of the queries.
const CALLS: &str = "
const done = arguments[arguments.length - 1];
const client = { 'X-ZOT-API-CLIENT': 'zot-ui' };
const json = { Accept: 'application/json', 'Content-Type': 'application/json', ...client };
const call = async (method, path, headers = json, body) => {
  // The page sends no cookies to another origin when it asks for the ways to sign in.
  const credentials = base === location.origin ? 'same-origin' : path.endsWith('/mgmt') ? 'omit' : 'include';
  const answer = await fetch(base + path, { method, headers, body, credentials });
  const text = await answer.text();
  let value = null;
  try { value = JSON.parse(text); } catch { value = text; }
  return { status: answer.status, value, challenge: answer.headers.get('WWW-Authenticate') };
};
const search = async (name) => (await call('GET', `/v2/_zot/ext/search?query=${queries[name]}`)).value.data;
const names = async (name) => {
  const { Page, Repos } = (await search(name)).GlobalSearch;
  return [Page.TotalCount, ...Repos.map((one) => one.Name)];
};
(async () => {
  const seen = {};
  seen.ways = (await call('GET', '/v2/_zot/ext/mgmt', {})).value.http.auth;
  seen.guest = await call('GET', '/v2/');
  const wrong = { Authorization: `Basic ${btoa('alice:wrong')}`, ...client };
  seen.wrong = await call('GET', '/v2/', wrong);
  const right = { Authorization: `Basic ${btoa(\"alice:alice's password\")}`, ...client };
  seen.signedIn = (await call('GET', '/v2/', right)).status;
  seen.cookie = document.cookie.includes('user=alice');
  seen.home = (await search('home')).RepoListWithNewestImage.Results.map((one) => [one.Name, one.NewestImage.Tag]);
  seen.explored = await names('explore');
  seen.filtered = await names('filter');
  seen.suggested = (await search('suggest')).GlobalSearch.Images;
  const toggle = (action) => call('PUT', `/v2/_zot/ext/userprefs?repo=alice/app&action=${action}`);
  seen.toggled = [(await toggle('toggleStar')).status, (await toggle('toggleBookmark')).status];
  seen.starred = await names('starred');
  seen.bookmarked = await names('bookmarked');
  const summary = (await search('repository')).ExpandedRepoInfo.Summary;
  seen.summary = [summary.IsStarred, summary.IsBookmarked, summary.NewestImage.Tag];
  const image = (await search('image')).Image;
  seen.image = [image.Tag, image.Manifests[0].History[0].HistoryDescription.CreatedBy, image.Referrers.length];
  seen.uses = (await search('uses')).BaseImageList.Results.map((one) => one.RepoName);
  seen.usedBy = (await search('usedBy')).DerivedImageList.Results.map((one) => one.RepoName);
  const risks = await call('GET', `/v2/_zot/ext/search?query=${queries.risks}`);
  seen.risks = [risks.status, risks.value.errors[0].message];
  seen.deleted = (await call('DELETE', '/v2/alice/app/manifests/old')).status;
  seen.tags = (await search('repository')).ExpandedRepoInfo.Images.map((one) => [one.Tag, one.IsDeletable]);
  const key = { label: 'page', expirationDate: '2099-01-01T00:00:00.000+02:00' };
  const made = await call('POST', '/zot/auth/apikey', json, JSON.stringify(key));
  seen.key = [made.status, made.value.apiKey.slice(0, 4)];
  seen.keys = (await call('GET', '/zot/auth/apikey')).value.apiKeys.map((one) => one.label);
  seen.revoked = (await call('DELETE', `/zot/auth/apikey?id=${made.value.uuid}`)).status;
  seen.signedOut = await call('POST', '/zot/auth/logout');
  seen.cookieAfter = document.cookie.includes('user=');
  seen.after = (await call('GET', '/v2/')).status;
  return seen;
})().then(done, (error) => done(`${error}`));
";

/// Lets a page at an address make its calls to a registry, and checks what it would show.
async fn use_page(t: &TestRegistry, page: &str) {
    let alice = t.user(ALICE);
    push(&alice, "alice/base", "1", "arm64", &["base"]).await;
    push(&alice, "alice/app", "old", "arm64", &["base", "old"]).await;
    push(&alice, "alice/app", "new", "amd64", &["base", "new"]).await;
    let queries = json!({
        "home": zui::repo_list(15, 0),
        "explore": zui::global_search("app", "RELEVANCE", ""),
        "filter": zui::global_search("", "UPDATE_TIME", ",filter: { Os:[\"linux\"] Arch:[\"amd64/v8\"]}"),
        "suggest": zui::image_suggestions("alice/app:n"),
        "starred": zui::global_search("", "RELEVANCE", ",filter: { IsStarred: true}"),
        "bookmarked": zui::global_search("", "RELEVANCE", ",filter: { IsBookmarked: true}"),
        "repository": zui::detailed_repo_info("alice/app"),
        "image": zui::detailed_image_info_with_types("alice/app", "new"),
        "uses": zui::depends_on_for_image("alice/app:new"),
        "usedBy": zui::is_dependent_on_for_image("alice/base:1"),
        "risks": zui::vulnerabilities_for_repo("alice/app:new", "", "", ""),
    });
    let base = json!(t.running.url());
    let browser = Browser::start().await;
    browser.open(page).await;
    let seen = browser.script_that_waits(&format!("const base = {base}; const queries = {queries};{CALLS}")).await;
    assert!(seen.is_object(), "{seen}");
    let refused = |call: &Value| (call["status"].as_u64(), call["challenge"].is_null());
    assert_eq!(seen["ways"], json!({ "htpasswd": {}, "apikey": true }));
    assert_eq!((refused(&seen["guest"]), refused(&seen["wrong"])), ((Some(401), true), (Some(401), true)));
    for (field, expected) in [
        ("signedIn", json!(200)),
        ("cookie", json!(true)),
        ("home", json!([["alice/app", "new"], ["alice/base", "1"]])),
        ("explored", json!([1, "alice/app"])),
        ("filtered", json!([1, "alice/app"])),
        ("suggested", json!([{ "RepoName": "alice/app", "Tag": "new" }])),
        ("toggled", json!([200, 200])),
        ("starred", json!([1, "alice/app"])),
        ("bookmarked", json!([1, "alice/app"])),
        ("summary", json!([true, true, "new"])),
        ("image", json!(["new", "ADD base", 0])),
        ("uses", json!(["alice/base"])),
        ("usedBy", json!(["alice/app", "alice/app"])),
        ("risks", json!([200, "cve search is disabled"])),
        ("deleted", json!(202)),
        ("tags", json!([["new", true]])),
        ("key", json!([201, "zak_"])),
        ("keys", json!(["page"])),
        ("revoked", json!(200)),
        ("cookieAfter", json!(false)),
        ("after", json!(401)),
    ] {
        assert_eq!(seen[field], expected, "{field} of {seen}");
    }
    assert_eq!(seen["signedOut"]["status"], 200);
}

#[tokio::test]
async fn a_page_that_makes_the_calls_of_zots_page_works_in_a_browser() {
    needs!(CHROMIUM, CHROMEDRIVER);
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("index.html"), "<!doctype html><title>page</title>").unwrap();
    let t = serving(directory.path()).await;
    use_page(&t, &format!("{}/login", t.running.url())).await;
}

#[tokio::test]
async fn such_a_page_works_on_another_origin() {
    needs!(CHROMIUM, CHROMEDRIVER);
    // This page has no policy that keeps it from calling other origins.
    let server = registry("").await;
    let page = format!("{}/livez", server.running.url());
    let t = registry(&format!("{ON}http.allowOrigin = {:?}", server.running.url())).await;
    use_page(&t, &page).await;
    // A browser keeps the responses from pages of origins that are not named.
    let other = registry(ON).await;
    let browser = Browser::start().await;
    browser.open(&page).await;
    let script = format!(
        "const done = arguments[arguments.length - 1]; fetch('{}/v2/_zot/ext/mgmt').then(() => done('read'), () => done('kept'))",
        other.running.url()
    );
    assert_eq!(browser.script_that_waits(&script).await, "kept");
}
