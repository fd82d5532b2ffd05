//! Token services that move, fail, and are named by mistake.

use parking_lot::Mutex;

use super::*;

const INSISTENT: Effort = Effort { insists: true, ..QUICK };

/// How a token service answers.
#[derive(Clone, Copy, Debug)]
enum Service {
    Works,
    Status(u16),
    /// A page instead of a token.
    Page,
    Hangs,
    /// It refuses one repository.
    Refuses,
}

/// An upstream, and its first token service. The second one always works.
struct Scene {
    client: Client,
    /// The token service that the upstream names, or `None` if it needs no token.
    named: Arc<Mutex<Option<SocketAddr>>>,
    service: Arc<Mutex<Service>>,
    services: [SocketAddr; 2],
    /// The requests to the upstream, and to the first token service.
    upstream_requests: Arc<AtomicUsize>,
    token_requests: Arc<AtomicUsize>,
}

impl Scene {
    async fn new() -> Self {
        let (service, token_requests) = (Arc::new(Mutex::new(Service::Works)), Arc::new(AtomicUsize::new(0)));
        let (answers, counter) = (Arc::clone(&service), Arc::clone(&token_requests));
        let first = serve(move |request| {
            counter.fetch_add(1, Ordering::SeqCst);
            let service = *answers.lock();
            let is_refused = request.uri().query().unwrap().contains("refused");
            match service {
                Service::Refuses if is_refused => Some(reply(403, "")),
                Service::Works | Service::Refuses => Some(reply(200, r#"{"token": "first", "expires_in": 300}"#)),
                Service::Status(status) => Some(reply(status, "")),
                Service::Page => Some(reply(200, "<html>")),
                Service::Hangs => None,
            }
        })
        .await;
        let second = serve(|_| Some(reply(200, r#"{"token": "second", "expires_in": 300}"#))).await;
        let (named, upstream_requests) = (Arc::new(Mutex::new(Some(first))), Arc::new(AtomicUsize::new(0)));
        let (current, counter) = (Arc::clone(&named), Arc::clone(&upstream_requests));
        let upstream = serve(move |request| {
            counter.fetch_add(1, Ordering::SeqCst);
            let Some(named) = *current.lock() else { return Some(manifest_reply(IMAGE)) };
            let token = if named == first { "Bearer first" } else { "Bearer second" };
            if has(request, header::AUTHORIZATION, token) {
                return Some(manifest_reply(IMAGE));
            }
            let mut refused = reply(401, "");
            let challenge = format!("Bearer realm=\"http://{named}/token\",service=\"here\"");
            refused.headers_mut().insert(header::WWW_AUTHENTICATE, challenge.parse().unwrap());
            Some(refused)
        })
        .await;
        let (client, services) = (client(upstream), [first, second]);
        Self { client, named, service, services, upstream_requests, token_requests }
    }

    async fn pull(&self, repository: &str, effort: Effort) -> Result<(), Error> {
        self.client.manifest(&repository.parse().unwrap(), &tag(), effort).await.map(|found| drop(found.unwrap()))
    }

    /// The requests to the upstream and to the first token service since the last call.
    fn requests(&self) -> [usize; 2] {
        [&self.upstream_requests, &self.token_requests].map(|counter| counter.swap(0, Ordering::SeqCst))
    }
}

#[tokio::test]
async fn a_token_service_that_moved_is_found_through_the_upstream() {
    for service in [Service::Status(500), Service::Status(404), Service::Status(429), Service::Page] {
        let scene = Scene::new().await;
        scene.pull("one", QUICK).await.unwrap();
        *scene.service.lock() = service;
        *scene.named.lock() = Some(scene.services[1]);
        scene.requests();
        scene.pull("two", QUICK).await.unwrap_or_else(|error| panic!("{service:?}: {error}"));
        assert_eq!(scene.requests(), [2, 1], "{service:?}");
        // From now on, the new one is asked at once.
        scene.pull("three", QUICK).await.unwrap();
        assert_eq!(scene.requests(), [1, 0], "{service:?}");
        assert_eq!(scene.client.state().errors, 0, "{service:?}");
    }
}

#[tokio::test]
async fn an_upstream_that_needs_no_token_any_more_is_pulled_from() {
    let scene = Scene::new().await;
    scene.pull("one", QUICK).await.unwrap();
    *scene.service.lock() = Service::Status(404);
    *scene.named.lock() = None;
    scene.requests();
    let pulls = (0..8).map(|number| scene.pull(["two", "three"][number % 2], QUICK));
    for pulled in futures_util::future::join_all(pulls).await {
        pulled.unwrap();
    }
    assert_eq!(scene.requests()[0], 8);
    scene.pull("four", QUICK).await.unwrap();
    assert_eq!(scene.requests(), [1, 0], "the old token service is forgotten");
}

#[tokio::test]
async fn a_token_service_that_hangs_is_named_and_forgotten() {
    let scene = Scene::new().await;
    scene.pull("one", QUICK).await.unwrap();
    *scene.service.lock() = Service::Hangs;
    *scene.named.lock() = Some(scene.services[1]);
    let effort = Effort { wait: Duration::from_millis(200), ..QUICK };
    let error = scene.pull("two", effort).await.unwrap_err();
    let host = scene.services[0].to_string();
    assert!(error.is_timeout() && error.to_string().starts_with(&host), "{error}");
    let paused = scene.client.state().paused.unwrap().1;
    assert!(paused.starts_with(&host), "the pause names the token service: {paused}");
    scene.pull("two", INSISTENT).await.unwrap();
    // The same if the caller leaves before its wait ends.
    *scene.named.lock() = Some(scene.services[0]);
    *scene.service.lock() = Service::Works;
    scene.pull("three", INSISTENT).await.unwrap();
    *scene.service.lock() = Service::Hangs;
    *scene.named.lock() = None;
    let left = timeout(Duration::from_millis(200), scene.pull("four", INSISTENT)).await;
    assert!(left.is_err(), "the token service hangs");
    scene.pull("four", INSISTENT).await.unwrap();
}

#[tokio::test]
async fn a_wrong_challenge_does_not_outlast_its_request() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nothing = listener.local_addr().unwrap();
    drop(listener);
    let scene = Scene::new().await;
    *scene.named.lock() = Some(nothing);
    let error = scene.pull("one", QUICK).await.unwrap_err();
    assert!(error.to_string().starts_with(&format!("{nothing} cannot be reached")), "{error}");
    *scene.named.lock() = None;
    scene.requests();
    scene.pull("one", INSISTENT).await.unwrap();
    assert_eq!(scene.requests(), [1, 0]);
}

#[tokio::test]
async fn a_token_service_that_refuses_one_repository_still_serves_the_others() {
    let scene = Scene::new().await;
    *scene.service.lock() = Service::Refuses;
    scene.pull("one", QUICK).await.unwrap();
    assert_eq!(scene.requests(), [2, 1]);
    let error = scene.pull("refused", QUICK).await.unwrap_err();
    assert!(matches!(&error, Error::Unauthorized { host, .. } if *host == scene.services[0].to_string()), "{error}");
    assert_eq!(scene.requests(), [1, 1], "the upstream names the same service, which is asked once");
    scene.pull("two", QUICK).await.unwrap();
    assert_eq!(scene.requests(), [1, 1], "an upstream that works gets one request");
}

#[tokio::test]
async fn a_refusal_without_a_challenge_is_followed_by_a_request_without_the_token() {
    let refuses_tokens = Arc::new(AtomicUsize::new(0));
    let refuses = Arc::clone(&refuses_tokens);
    let address = serve(move |request| {
        if request.uri().path() == "/token" {
            return Some(reply(200, r#"{"token": "t", "expires_in": 300}"#));
        }
        let has_token = request.headers().contains_key(header::AUTHORIZATION);
        if refuses.load(Ordering::SeqCst) == 1 {
            return Some(if has_token { reply(401, "") } else { manifest_reply(IMAGE) });
        }
        if has_token {
            return Some(manifest_reply(IMAGE));
        }
        let host = request.headers()[header::HOST].to_str().unwrap();
        let mut answer = reply(401, "");
        let challenge = format!("Bearer realm=\"http://{host}/token\"");
        answer.headers_mut().insert(header::WWW_AUTHENTICATE, challenge.parse().unwrap());
        Some(answer)
    })
    .await;
    let client = client(address);
    assert!(client.manifest(&name(), &tag(), QUICK).await.unwrap().is_some());
    refuses_tokens.store(1, Ordering::SeqCst);
    assert!(client.manifest(&name(), &tag(), QUICK).await.unwrap().is_some());
}
