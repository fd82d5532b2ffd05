//! `http.allowOrigin`: zot's web page on another origin.

use hyper::Method;

use super::{ON, registry};
use crate::support::content::push_image;
use crate::support::http::Request;
use crate::support::registry::ALICE;

const UI: &str = "http://127.0.0.1:3000";
const EVIL: &str = "https://evil.example";

/// A request as a browser sends it for a page of another origin.
fn page(request: Request, origin: &str) -> Request {
    request.header("origin", origin).header("sec-fetch-site", "same-site").header("x-zot-api-client", "zot-ui")
}

#[tokio::test]
async fn a_named_origin_gets_preflights_and_responses_with_cookies() {
    let t = registry(&format!("{ON}http.allowOrigin = {UI:?}")).await;
    for path in ["/v2/", "/v2/_zot/ext/mgmt", "/v2/_zot/ext/userprefs", "/v2/alice/app/manifests/1", "/zot/auth/logout"]
    {
        let preflight = |origin| {
            let request = t.anonymous().request(Method::OPTIONS, path).header("origin", origin);
            request.header("access-control-request-method", "PUT").send()
        };
        let answer = preflight(UI).await.status(204).has("access-control-allow-origin", UI);
        let answer = answer.has("access-control-allow-credentials", "true").has("vary", "Origin");
        assert!(answer.header("access-control-allow-methods").unwrap().split(',').any(|method| method == "PUT"));
        assert!(answer.header("access-control-allow-headers").unwrap().contains("X-ZOT-API-CLIENT"));
        assert_eq!(preflight(EVIL).await.status(204).header("access-control-allow-origin"), None);
    }
    // Errors can be read too: the page looks at 401.
    page(t.anonymous().get("/v2/"), UI).send().await.status(401).has("access-control-allow-origin", UI);
}

#[tokio::test]
async fn a_page_of_a_named_origin_signs_in_stars_and_deletes() {
    let t = registry(&format!("{ON}http.allowOrigin = {UI:?}")).await;
    push_image(&t.user(ALICE), "alice/app", "1", 1).await;
    let signed_in = page(t.user(ALICE).get("/v2/"), UI).send().await.status(200);
    let cookie = signed_in.headers.get_all("set-cookie").iter().map(|value| value.to_str().unwrap());
    let cookie = cookie.into_iter().find(|cookie| cookie.starts_with("session=")).unwrap().split(';').next().unwrap();
    let star = "/v2/_zot/ext/userprefs?repo=alice/app&action=toggleStar";
    page(t.anonymous().put(star), EVIL).header("cookie", cookie).send().await.error(403, "DENIED");
    page(t.anonymous().put(star), UI).header("cookie", cookie).send().await.status(200);
    let tag = "/v2/alice/app/manifests/1";
    page(t.anonymous().delete(tag), EVIL).header("cookie", cookie).send().await.error(403, "DENIED");
    page(t.anonymous().delete(tag), UI).header("cookie", cookie).send().await.status(202);
    // API v1 has no other origins.
    let api = page(t.anonymous().post("/api/v1/signout"), UI).header("cookie", cookie).send().await.status(403);
    assert_eq!(api.header("access-control-allow-origin"), None);
}

#[tokio::test]
async fn all_origins_read_without_cookies_and_change_nothing_by_themselves() {
    let t = registry(&format!("{ON}http.allowOrigin = '*'\nhttp.open = true")).await;
    let answer = page(t.anonymous().get("/v2/_catalog"), EVIL).send().await.status(200);
    assert_eq!(answer.has("access-control-allow-origin", "*").header("access-control-allow-credentials"), None);
    // An open registry does not look at tokens, so one is no proof.
    for token in ["", "Bearer anything"] {
        let request = page(t.anonymous().post("/v2/a/blobs/uploads/"), EVIL).header("authorization", token);
        request.send().await.error(403, "DENIED");
    }
}
