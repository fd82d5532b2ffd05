//! Pages whose behaviour depends on the time, which tests of the program cannot move.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::header;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::route;
use crate::http::{Connection, RequestBody, answer};
use crate::registry::Registry;

/// An answer: status, location, cookie and text.
struct Page {
    status: u16,
    location: String,
    cookie: Option<String>,
    text: String,
}

impl Page {
    /// The proof that the forms of the page carry.
    fn token(&self) -> String {
        self.text.split("name=\"_csrf_token\" value=\"").nth(1).unwrap().split('"').next().unwrap().to_owned()
    }
}

/// Requests a page, or sends a form to it.
async fn ask(registry: &Registry, target: &str, cookie: &str, form: Option<&[(&str, &str)]>) -> Page {
    let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let pairs = form.iter().copied().flatten().map(|(name, value)| format!("{name}={}&", encoded(value)));
    let body = Full::new(Bytes::from(pairs.collect::<String>())).map_err(|never| match never {});
    let request =
        hyper::Request::builder().uri(target).header(header::COOKIE, cookie).header(header::HOST, "localhost");
    let request = request.method(if form.is_some() { "POST" } else { "GET" }).body(()).unwrap();
    let wait = Duration::from_secs(5);
    let body = RequestBody::new(UnsyncBoxBody::new(body), wait, wait);
    let head = request.into_parts().0;
    let response = answer(&registry.shared, &Connection::default(), std::future::ready(true), head, body).await;
    let header = |name| response.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
    let cookie = header(header::SET_COOKIE).map(|line| line.split(';').next().unwrap().to_owned());
    let (status, location) = (response.status().as_u16(), header(header::LOCATION).unwrap_or_default());
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    Page { status, location, cookie, text: String::from_utf8(bytes.to_vec()).unwrap() }
}

#[tokio::test]
async fn a_page_that_needs_a_recent_sign_in_asks_for_the_password_and_returns() {
    let open = || Registry::builder().temporary().user("alice", "alice's password").open().unwrap();
    let registry = tokio::task::spawn_blocking(open).await.unwrap();
    let form = ask(&registry, "/ui/sign-in", "", None).await;
    let visitor = form.cookie.clone().unwrap();
    let fields = [("user", "alice"), ("password", "alice's password"), ("_csrf_token", &form.token())];
    let cookie = ask(&registry, "/ui/sign-in", &visitor, Some(&fields)).await.cookie.unwrap();
    let target = "/ui/account/keys/new?repository=alice%2Fapp";
    assert_eq!(ask(&registry, target, &cookie, None).await.status, 200);

    registry.shared.clock().advance(Duration::from_mins(11));
    assert_eq!(ask(&registry, "/ui/account/keys", &cookie, None).await.status, 200);
    let sent = ask(&registry, target, &cookie, None).await;
    assert_eq!((sent.status, &*sent.location), (303, &*route::with_next("/ui/confirm-password", target)));
    let question = ask(&registry, &sent.location, &cookie, None).await;
    assert!(question.text.contains("Password of alice"), "{}", question.text);
    let token = question.token();
    for (password, status, location) in [("wrong", 403, ""), ("alice's password", 303, target)] {
        let fields = [("password", password), ("next", target), ("_csrf_token", &token)];
        let sent = ask(&registry, "/ui/confirm-password", &cookie, Some(&fields)).await;
        assert_eq!((sent.status, &*sent.location), (status, location), "{}", sent.text);
    }
    let form = ask(&registry, target, &cookie, None).await;
    assert!(form.status == 200 && form.text.contains("alice/app"), "{}", form.text);

    // The form that was open before the second sign-in has the proof of the first.
    let fields = [("label", "a"), ("lifetime", "7"), ("_csrf_token", &token)];
    assert_eq!(ask(&registry, "/ui/account/keys/new", &cookie, Some(&fields)).await.status, 403);
    registry.shared.clock().advance(Duration::from_mins(11));
    let fields = [("label", "a"), ("lifetime", "7"), ("_csrf_token", &form.token())];
    let sent = ask(&registry, "/ui/account/keys/new", &cookie, Some(&fields)).await;
    assert_eq!(sent.location, route::with_next("/ui/confirm-password", "/ui/account/keys/new"));

    registry.shared.clock().advance(Duration::from_hours(3));
    let ended = ask(&registry, "/ui/account", &cookie, None).await;
    assert_eq!(ended.location, route::with_next("/ui/sign-in", "/ui/account"));
}
