//! The host of a request, over HTTP/1.1 and HTTP/2, with and without a proxy, and from a web page.

use bytes::Bytes;
use coracle::config::Config;
use coracle::{AccessPolicy, Registry};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2;
use hyper::{Method, Request};
use hyper_util::rt::{TokioExecutor, TokioIo};

use crate::accounts::browser::Browser;
use crate::support::TestRegistry;
use crate::support::content::push_image;
use crate::support::process::Program;
use crate::support::raw::exchange;
use crate::support::registry::{ALICE, ROOT};
use crate::tls::{certify, connect};

/// Sends a request over HTTP/2. Returns the status, the challenge and the body.
async fn send2(t: &TestRegistry, trusted: &Certificate, request: Request<()>) -> (u16, String, String) {
    let stream = connect(t.running.address(), &[trusted], &["h2"]).await.unwrap();
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let response = sender.send_request(request.map(|()| Full::new(Bytes::new()))).await.unwrap();
    let challenge = response.headers().get("www-authenticate").map(|value| value.to_str().unwrap().to_owned());
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, challenge.unwrap_or_default(), String::from_utf8(body.to_vec()).unwrap())
}

type Certificate = rustls::pki_types::CertificateDer<'static>;

/// Starts a registry with TLS, with or without users.
async fn over_tls(policy: Option<AccessPolicy>) -> (TestRegistry, Certificate, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let certificate = certify(directory.path());
    let path = directory.path().display();
    let config = format!("[http]\ntls.cert = '{path}/cert.pem'\ntls.key = '{path}/key.pem'\n");
    let builder = Registry::builder().config(Config::from_toml_str(&config).unwrap().config);
    let builder = match policy {
        Some(policy) => builder.policy(policy),
        None => builder.user(ALICE.0, ALICE.1),
    };
    (TestRegistry::start(builder).await, certificate, directory)
}

#[tokio::test]
async fn over_http2_the_registry_has_the_host_of_the_authority() {
    let (t, certificate, _files) = over_tls(None).await;
    let get = |url: &str| Request::get(url.to_owned());
    for host in ["registry.test", "registry.test:5443", "[2001:db8::1]:5443"] {
        let (status, challenge, _) =
            send2(&t, &certificate, get(&format!("https://{host}/v2/")).body(()).unwrap()).await;
        let expected = format!("Bearer realm=\"https://{host}/v2/auth\",service=\"{host}\"");
        assert_eq!((status, challenge), (401, expected));
        let (_, _, document) =
            send2(&t, &certificate, get(&format!("https://{host}/api/v1/discovery")).body(()).unwrap()).await;
        assert!(document.contains(&format!("https://{host}")), "{document:.300}");
        assert!(!document.contains("https://localhost"), "{document:.300}");
    }
    // A Host header must name the same host.
    let same = get("https://registry.test/v2/").header("host", "Registry.test:443").body(()).unwrap();
    assert_eq!(send2(&t, &certificate, same).await.0, 401);
    for host in ["evil.test", "registry.test:5443"] {
        let other = get("https://registry.test/v2/").header("host", host).body(()).unwrap();
        assert_eq!(send2(&t, &certificate, other).await.0, 400, "{host}");
    }
    for authority in ["me@registry.test", "registry.test:99999", "a..b"] {
        let request = get(&format!("https://{authority}/v2/")).body(());
        let Ok(request) = request else { continue };
        assert_eq!(send2(&t, &certificate, request).await.0, 400, "{authority}");
    }
}

#[tokio::test]
async fn the_target_takes_precedence_over_the_host_header_and_an_invalid_host_is_refused() {
    let t = TestRegistry::with_users().await;
    let ask = async |head: &str| {
        let head = format!("{}\r\nconnection: close\r\n\r\n", head.replace('\n', "\r\n"));
        exchange(t.running.address(), head.as_bytes(), false).await
    };
    let answer = ask("GET http://good.test:81/v2/ HTTP/1.1\nhost: evil.test").await;
    assert_eq!(answer.status, 401);
    assert!(answer.head.contains("realm=\"http://good.test:81/v2/auth\",service=\"good.test:81\""), "{}", answer.head);
    for head in [
        "GET http://me@good.test/v2/ HTTP/1.1\nhost: good.test",
        "GET http://me:secret@good.test/v2/ HTTP/1.1\nhost: good.test",
        "GET http://good.test/v2/ HTTP/1.1",
        "GET http://good.test/v2/ HTTP/1.1\nhost: a\nhost: a",
        "GET ftp://good.test/v2/ HTTP/1.1\nhost: good.test",
        "GET /v2/ HTTP/1.1\nhost: me@good.test",
        "GET /v2/ HTTP/1.1\nhost: good.test/x",
        "GET /v2/ HTTP/1.1\nhost: good.test, evil.test",
        "GET /v2/ HTTP/1.1\nhost: good.test:port",
        "GET /v2/ HTTP/1.1\nhost: good.test:80:80",
        "GET /v2/ HTTP/1.1\nhost: [::1",
        "GET /v2/ HTTP/1.1\nhost: ::1",
        "GET /v2/ HTTP/1.1\nhost:",
        "GET /v2/ HTTP/1.1\nhost: a\"b",
        "GET /livez HTTP/1.1\nhost: a b",
    ] {
        assert_eq!(ask(head).await.status, 400, "{head}");
    }
}

#[tokio::test]
async fn an_open_registry_does_not_answer_to_the_name_of_a_web_page() {
    let (tls, certificate, _files) = over_tls(Some(AccessPolicy::Open)).await;
    let t = TestRegistry::open().await;
    push_image(&t.anonymous(), "x/y", "1", 1).await;
    let port = t.running.address().port();
    let ask = async |method: &str, path: &str, host: &str| {
        let head = format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        exchange(t.running.address(), head.as_bytes(), false).await.status
    };
    let manifest = "/v2/x/y/manifests/1";
    for host in ["rebound.evil.test", "localhost.evil.test", "127.0.0.1.nip.io", "192.168.1.5", "evil"] {
        for (method, path) in [("GET", manifest), ("DELETE", manifest), ("GET", "/v2/"), ("GET", "/api/v1/user/")] {
            assert_eq!(ask(method, path, &format!("{host}:{port}")).await, 403, "{method} {path} {host}");
            let absolute = format!("http://{host}:{port}{path}");
            assert_eq!(ask(method, &absolute, "localhost").await, 403, "{method} {absolute}");
        }
        for probe in ["/livez", "/readyz", "/startupz", "/metrics"] {
            assert_eq!(ask("GET", probe, host).await, 200, "{probe}");
        }
        let request = Request::get(format!("https://{host}:{port}/v2/")).body(()).unwrap();
        assert_eq!(send2(&tls, &certificate, request).await.0, 403, "{host}");
    }
    for host in ["localhost", "LOCALHOST.", "app.localhost", "127.0.0.1", "127.1.2.3", "[::1]"] {
        assert_eq!(ask("GET", manifest, &format!("{host}:{port}")).await, 200, "{host}");
        let request = Request::get(format!("https://{host}/v2/")).body(()).unwrap();
        assert_eq!(send2(&tls, &certificate, request).await.0, 200, "{host}");
    }
    // Old clients name no host. Browsers always do.
    let old = exchange(t.running.address(), format!("GET {manifest} HTTP/1.0\r\n\r\n").as_bytes(), false).await;
    assert_eq!(old.status, 200);
}

#[tokio::test]
async fn a_configured_url_and_addresses_of_the_network_are_hosts_of_an_open_registry() {
    let root = tempfile::tempdir().unwrap();
    let config = "[http]\nopen = true\naddress = '0.0.0.0'\nexternalUrl = 'https://registry.example'\n\
                  trustedProxies = ['127.0.0.1']\n";
    let running = Program::serve_with(root.path(), config).start();
    let address = ([127, 0, 0, 1], running.address().port()).into();
    let ask = async |host: &str, more: &str| {
        let head = format!("GET /v2/ HTTP/1.1\r\nhost: {host}\r\n{more}connection: close\r\n\r\n");
        exchange(address, head.as_bytes(), false).await
    };
    for host in ["registry.example", "registry.example:8443", "192.0.2.7:8080", "kind-registry:5000", "nas.local"] {
        assert_eq!(ask(host, "").await.status, 200, "{host}");
    }
    let refused = ask("rebound.evil.test", "").await;
    assert_eq!((refused.status, refused.code()), (403, "DENIED".to_owned()));
    assert!(refused.body.contains("http.externalUrl"), "{}", refused.body);
    // Both the forwarded host and the host of the request itself must be the registry's own.
    for (host, forwarded) in [("rebound.evil.test", "localhost"), ("localhost", "rebound.evil.test")] {
        let more = format!("x-forwarded-host: {forwarded}\r\n");
        assert_eq!(ask(host, &more).await.status, 403, "{host} {forwarded}");
    }
}

#[tokio::test]
async fn a_web_page_changes_nothing_without_credentials() {
    let root = tempfile::tempdir().unwrap();
    let config = "[http.accessControl.repositories.'**']\nanonymousPolicy = ['read', 'create', 'update', 'delete']\n";
    let running = Program::serve_with(root.path(), config).with_admin().start();
    push_image(&running.anonymous(), "x/y", "1", 1).await;
    for (method, status) in [("GET", 200), ("DELETE", 403)] {
        let head = format!("{method} /v2/x/y/manifests/1 HTTP/1.1\r\nhost: evil.test\r\nconnection: close\r\n\r\n");
        assert_eq!(exchange(running.address(), head.as_bytes(), false).await.status, status);
    }
}

#[tokio::test]
async fn behind_a_proxy_a_change_without_credentials_gets_a_challenge() {
    let root = tempfile::tempdir().unwrap();
    let config = "[http.accessControl.repositories.'public/**']\nanonymousPolicy = ['read']\n";
    let running = Program::serve_with(root.path(), config).with_admin().start();
    for (method, path) in [
        ("POST", "/v2/admin/app/blobs/uploads/"),
        ("PUT", "/v2/admin/app/manifests/1"),
        ("DELETE", "/v2/admin/app/manifests/1"),
        ("POST", "/v2/public/app/blobs/uploads/"),
    ] {
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: registry.example\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        );
        let answer = exchange(running.address(), head.as_bytes(), false).await;
        assert_eq!((answer.status, answer.code()), (401, "UNAUTHORIZED".to_owned()), "{method} {path}");
        assert!(answer.head.contains("realm=\"http://registry.example/v2/auth\""), "{}", answer.head);
    }
}

#[tokio::test]
async fn a_page_of_another_origin_changes_nothing() {
    let open = TestRegistry::open().await;
    let users = TestRegistry::with_users().await;
    let key = users.user(ROOT).post("/zot/auth/apikey").body("{}").send().await.status(201).json();
    let key = format!("Bearer {}", key["apiKey"].as_str().unwrap());
    for (caller, bearer) in [(open.anonymous(), None), (users.user(ROOT), Some(key))] {
        let own = format!("http://{}", caller.address());
        let (https, port) = (own.replace("http:", "https:"), format!("http://127.0.0.1:{}", 1));
        let named = own.replace("127.0.0.1", "localhost");
        let upload = async |headers: &[(&str, &str)]| {
            let request = caller.post("/v2/x/y/blobs/uploads/").header("content-type", "text/plain");
            let request = headers.iter().fold(request, |request, (name, value)| request.header(name, value));
            request.send().await.status.as_u16()
        };
        for headers in [
            &[][..],
            &[("origin", &*own)],
            &[("origin", &*own), ("sec-fetch-site", "same-origin")],
            &[("sec-fetch-site", "none")],
            // Behind an untrusted proxy only the browser knows that the client uses TLS.
            &[("origin", &*https), ("sec-fetch-site", "same-origin")],
        ] {
            assert_eq!(upload(headers).await, 202, "{headers:?}");
        }
        for headers in [
            &[("origin", "http://evil.example")][..],
            &[("origin", "null")],
            &[("origin", "")],
            &[("origin", "file://")],
            &[("origin", "http://127.0.0.1.evil.example")],
            &[("origin", &*https)],
            &[("origin", &*port)],
            &[("origin", &*named)],
            &[("origin", &*own), ("origin", "http://evil.example")],
            &[("origin", "http://evil.example"), ("sec-fetch-site", "same-origin")],
            &[("origin", "null"), ("sec-fetch-site", "same-origin")],
            &[("sec-fetch-site", "cross-site")],
            &[("sec-fetch-site", "same-site")],
            &[("origin", &*own), ("sec-fetch-site", "same-site")],
            &[("sec-fetch-site", "same-origin"), ("sec-fetch-site", "cross-site")],
        ] {
            assert_eq!(upload(headers).await, 403, "{headers:?}");
        }
        // A browser sends no bearer token by itself.
        let Some(bearer) = bearer else { continue };
        let request = users.anonymous().post("/v2/x/y/blobs/uploads/").header("authorization", bearer);
        request.header("origin", "https://ui.example").send().await.status(202);
    }
    // The same holds for sessions, in addition to the CSRF token.
    let mut browser = Browser::signed_in(&users, ALICE).await;
    let own = format!("http://{}", users.running.address());
    for (origin, status) in [("http://evil.example", 403), ("null", 403), (&own, 200)] {
        let request = browser.caller.post("/api/v1/user/apptoken").body(r#"{"title": "x"}"#).header("origin", origin);
        browser.send(request).await.status(status);
    }
}

#[tokio::test]
async fn pages_at_the_configured_url_are_the_registrys_own() {
    let root = tempfile::tempdir().unwrap();
    let running =
        Program::serve_with(root.path(), "http.externalUrl = 'https://registry.example'\n").with_admin().start();
    let admin = running.user(crate::support::process::ADMIN);
    let own = format!("http://{}", running.address());
    for (origin, status) in [
        ("https://registry.example", 202),
        ("https://registry.example:443", 202),
        (&own, 202),
        ("http://registry.example", 403),
        ("https://registry.example:8443", 403),
        ("https://registry.example.evil.example", 403),
    ] {
        admin.post("/v2/a/b/blobs/uploads/").header("origin", origin).send().await.status(status);
    }
}

#[tokio::test]
async fn a_path_has_the_surface_of_its_decoded_form() {
    let t = TestRegistry::with_users().await;
    let alice = t.user(ALICE);
    // API v1 accepts no password. Other paths do not exist.
    for (path, status) in [
        ("/api/v1/user/", 401),
        ("/%61pi/v1/user/", 401),
        ("/a%70i/v1/user/", 401),
        ("/api%2Fv1/user/", 401),
        ("/api%2fv1%2fuser/", 401),
        ("/%61%70%69%2Fv1/user/", 401),
        ("/api/v1/%75ser/", 401),
        ("//api/v1/user/", 404),
        ("/%2Fapi/v1/user/", 404),
        ("/./api/v1/user/", 404),
        ("/v2/../api/v1/user/", 404),
        ("/%2561pi/v1/user/", 404),
        ("/API/v1/user/", 404),
        ("/%ff/v1/user/", 404),
    ] {
        let answer = alice.get(path).send().await;
        assert_eq!(answer.status, status, "{path}");
        // Errors have the form of the surface.
        assert_eq!(answer.json()["error_type"].is_string(), status == 401, "{path}");
    }
    for path in ["/v2/", "/%762/", "/v%32/"] {
        alice.get(path).send().await.status(200).has("docker-distribution-api-version", "registry/2.0");
    }
    let found = alice.request(Method::GET, "/csrf%5Ftoken").send().await.status(200);
    assert!(found.json()["csrf_token"].is_string());
}

#[tokio::test]
async fn shared_caches_store_only_public_responses() {
    let t = TestRegistry::with_users().await;
    let alice = t.user(ALICE);
    let manifest = push_image(&alice, "alice/app", "1", 1).await;
    let layer = manifest["layers"][0]["digest"].as_str().unwrap();
    let by_tag = alice.get("/v2/alice/app/manifests/1").send().await.status(200);
    let digest = by_tag.header("docker-content-digest").unwrap().to_owned();
    let forever = [format!("/v2/alice/app/manifests/{digest}"), format!("/v2/alice/app/blobs/{layer}")];
    for method in [Method::GET, Method::HEAD] {
        for path in &forever {
            let answer = alice.request(method.clone(), path).send().await.status(200);
            answer.has("cache-control", "private, max-age=31536000, immutable").has("vary", "Authorization, Cookie");
        }
        let answer = alice.request(method.clone(), "/v2/alice/app/manifests/1").send().await.status(200);
        answer.has("cache-control", "private, no-cache").has("vary", "Authorization, Cookie");
    }
    let known = alice.get(&forever[0]).header("if-none-match", format!("\"{digest}\"")).send().await.status(304);
    known.has("cache-control", "private, max-age=31536000, immutable");
    for (caller, path, status) in [
        (&alice, "/v2/alice/app/tags/list", 200),
        (&alice, "/v2/_catalog", 200),
        (&alice, "/v2/alice/app/manifests/none", 404),
        (&t.anonymous(), &*forever[0], 401),
    ] {
        caller.get(path).send().await.status(status).has("cache-control", "no-store");
    }
    // Shared caches may store a public repository, also for a caller with credentials.
    let key = alice.post("/zot/auth/apikey").body("{}").send().await.status(201).json();
    let bearer = format!("Bearer {}", key["apiKey"].as_str().unwrap());
    let publish = t.anonymous().post("/api/v1/repository/alice/app/changevisibility").header("authorization", bearer);
    publish.body(r#"{"visibility": "public"}"#).send().await.status(200);
    for caller in [&alice, &t.anonymous()] {
        for path in &forever {
            let answer = caller.get(path).send().await.status(200);
            let answer = answer.has("cache-control", "max-age=31536000, immutable");
            assert_eq!(answer.header("vary"), None);
        }
        caller.get("/v2/alice/app/manifests/1").send().await.status(200).has("cache-control", "no-cache");
    }
}

#[tokio::test]
async fn an_untrusted_proxy_is_logged_once() {
    let root = tempfile::tempdir().unwrap();
    let running = Program::serve_with(root.path(), "http.trustedProxies = ['127.0.0.9']\n").with_admin().start();
    let ask = async |peer: u8, headers: &[(&str, &str)]| {
        let request = running.anonymous().at([127, 0, 0, peer]).get("/v2/");
        let request = headers.iter().fold(request, |request, (name, value)| request.header(name, value));
        request.send().await.status(401);
    };
    for _ in 0..3 {
        for header in ["x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "forwarded"] {
            ask(7, &[(header, "for=203.0.113.7")]).await;
        }
        ask(9, &[("x-forwarded-for", "203.0.113.7"), ("forwarded", "for=203.0.113.8")]).await;
        ask(9, &[("x-forwarded-for", "203.0.113.7")]).await;
    }
    ask(8, &[("forwarded", "for=203.0.113.7")]).await;
    running.wait_for("peer=127.0.0.8");
    let log = running.stop().stderr;
    let logged = |peer: &str, what: &str| {
        let peer = format!("peer={peer}");
        log.lines().filter(|line| line.contains(what) && line.split(' ').any(|word| word == peer)).count()
    };
    let untrusted = "add its address to http.trustedProxies";
    assert_eq!(["127.0.0.7", "127.0.0.8", "127.0.0.9"].map(|peer| logged(peer, untrusted)), [1, 1, 0], "{log}");
    assert_eq!(logged("127.0.0.9", "contradict each other"), 1, "{log}");
}
