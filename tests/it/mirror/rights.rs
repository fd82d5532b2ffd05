//! Which hosts are mirrored, and who may pull.

use coracle::config::Config;
use coracle::{AccessPolicy, Registry};
use hyper::Method;

use super::Setting;
use super::between::Between;
use crate::support::TestRegistry;
use crate::support::content::{self, push_image};
use crate::support::http::Caller;
use crate::support::registry::{ALICE, BOB};

#[tokio::test]
async fn only_known_hosts_are_mirrored_and_rights_stay() {
    let upstream = TestRegistry::open().await;
    let between = Between::before(upstream.running.address()).await;
    let image = push_image(&upstream.anonymous(), "team/app", "1", 3).await;
    let builder = Registry::builder().config(Setting::config(&between, "1h"));
    let mirror = TestRegistry::start(builder.user(ALICE.0, ALICE.1).user(BOB.0, BOB.1)).await;
    let requests = between.total();
    let path = "/v2/team/app/manifests/1";
    mirror.user(BOB).get("/v2/up/team/app/manifests/1").send().await.error(403, "DENIED");
    mirror.anonymous().get("/v2/up/team/app/manifests/1").send().await.error(401, "UNAUTHORIZED");
    let host = between.address;
    let foreign = [
        "evil.example",
        "127.0.0.1",
        "169.254.169.254",
        "localhost",
        "..",
        "a/b",
        "",
        "http://evil.example",
        &format!("{host}.evil.example"),
        &format!("{host}@evil.example"),
        &format!("evil.example%23{host}"),
        &format!("{host}%00"),
        &format!("{host}/"),
        &format!("%20{host}"),
    ];
    for ns in foreign {
        let answer = mirror.user(ALICE).get(&format!("{path}?ns={ns}")).send().await;
        answer.error(404, "NAME_UNKNOWN");
    }
    for path in [
        &format!("{path}?ns={host}&ns=evil.example"),
        "/v2/up/../team/app/manifests/1",
        "/v2/up/..%2fteam%2fapp/manifests/1",
        "/v2/up/http:%2f%2fevil.example/x/manifests/1",
        "/v2/up/evil.example:80/x/manifests/1",
        "/v2/up/team/app/manifests/1@evil.example",
        "/v2/up/team/app/blobs/..%2f..%2fother",
    ] {
        let status = mirror.user(ALICE).get(path).send().await.status.as_u16();
        assert!(matches!(status, 400 | 404), "{path}: {status}");
    }
    assert_eq!(between.total(), requests, "no refused request reaches the upstream");
    let open = Registry::builder().config(Setting::config(&between, "1h")).policy(AccessPolicy::Open);
    let open = TestRegistry::start(open).await;
    let answer = open.anonymous().get(&format!("{path}?ns={host}")).send().await.status(200);
    assert_eq!(answer.body, content::bytes(&image));
}

/// A response without the name of its repository.
async fn shape(caller: &Caller, method: Method, path: &str, name: &str) -> (u16, String, Option<String>) {
    let answer = caller.request(method, &path.replace("NAME", name)).send().await;
    let challenge = answer.header("www-authenticate").map(|challenge| challenge.replace(name, "NAME"));
    (answer.status.as_u16(), answer.text().replace(name, "NAME"), challenge)
}

#[tokio::test]
async fn a_bare_name_does_not_tell_whether_a_private_repository_exists() {
    for public in [false, true] {
        let upstream = TestRegistry::open().await;
        let between = Between::before(upstream.running.address()).await;
        let image = push_image(&upstream.anonymous(), "team/app", "1", 3).await;
        let rules = if public {
            "[http.accessControl.repositories.'hub.example/**']\nanonymousPolicy = ['read']\ndefaultPolicy = ['read']\n"
        } else {
            ""
        };
        let text = format!(
            "[extensions.sync]\nbareNames = 'hub.example'\n[[extensions.sync.registries]]\nhost = 'hub.example'\n\
             urls = ['http://{}']\nonDemand = true\nmaxRetries = 0\n{rules}",
            between.address
        );
        let config = Config::from_toml_str(&text).unwrap().config;
        let builder = Registry::builder().config(config).user(ALICE.0, ALICE.1).user(BOB.0, BOB.1);
        let mirror = TestRegistry::start(builder).await;
        let alice = mirror.user(ALICE);
        let own = push_image(&alice, "alice/private", "1", 7).await;
        let (digest, zero) = (content::bytes(&own), format!("sha256:{}", "0".repeat(64)));
        let digest = content::sha256(&digest);
        for path in [
            "/v2/NAME/manifests/1",
            &format!("/v2/NAME/manifests/{digest}"),
            &format!("/v2/NAME/blobs/{}", own["config"]["digest"].as_str().unwrap()),
            &format!("/v2/NAME/blobs/{zero}"),
            &format!("/v2/NAME/referrers/{digest}"),
            "/v2/NAME/tags/list",
        ] {
            for method in [Method::GET, Method::HEAD] {
                if method == Method::HEAD && !(path.contains("manifests") || path.contains("blobs")) {
                    continue;
                }
                for caller in [mirror.anonymous(), mirror.user(BOB)] {
                    let private = shape(&caller, method.clone(), path, "alice/private").await;
                    let absent = shape(&caller, method.clone(), path, "alice/missing").await;
                    assert_eq!(private, absent, "{public} {method} {path}");
                }
            }
        }
        // The owner sees it, also with a token for the name.
        let token = async |caller: &Caller, name: &str| {
            let path = format!("/v2/auth?scope=repository:{name}:pull");
            let token = caller.get(&path).send().await.status(200).json();
            format!("Bearer {}", token["token"].as_str().unwrap())
        };
        let bearer = token(&alice, "alice/private").await;
        let get =
            async |path: &str, bearer: &str| mirror.anonymous().get(path).header("authorization", bearer).send().await;
        assert_eq!(alice.get("/v2/alice/private/manifests/1").send().await.status(200).body, content::bytes(&own));
        assert_eq!(get("/v2/alice/private/manifests/1", &bearer).await.status(200).body, content::bytes(&own));
        // A token for a bare name is one for the mirrored repository, too.
        let answer = get("/v2/team/app/manifests/1", &token(&mirror.user(BOB), "team/app").await).await;
        if public {
            assert_eq!(answer.status(200).body, content::bytes(&image));
            mirror.anonymous().get("/v2/team/app/manifests/1").send().await.status(200);
        } else {
            assert!(matches!(answer.status.as_u16(), 401 | 403), "{}", answer.status);
        }
    }
}

#[tokio::test]
async fn bare_names_do_not_lead_to_an_upstream_that_gets_passwords() {
    let text = "[extensions.sync]\nbareNames = 'hub.example'\n[[extensions.sync.registries]]\nhost = 'hub.example'\n\
                urls = ['http://127.0.0.1:1']\nonDemand = true\ncredentials = 'client'\n";
    let error = Config::from_toml_str(text).unwrap_err().to_string();
    assert!(error.contains("bareNames leads here"), "{error}");
}

#[tokio::test]
async fn a_client_that_pushes_by_a_bare_name_is_not_told_what_only_the_upstream_has() {
    let t = Setting::with(|between| {
        format!(
            "[extensions.sync]\nbareNames = 'hub.example'\n[[extensions.sync.registries]]\nhost = 'hub.example'\n\
             urls = ['http://{}']\nonDemand = true\nmaxRetries = 0\n",
            between.address
        )
    })
    .await;
    let image = push_image(&t.pusher(), "team/app", "1", 3).await;
    let layer = image["layers"][0]["digest"].as_str().unwrap();
    for path in [
        format!("/v2/team/app/manifests/{}", content::sha256(&content::bytes(&image))),
        format!("/v2/team/app/blobs/{layer}"),
    ] {
        t.puller().head(&path).send().await.status(404);
        t.puller().get(&path).send().await.status(200);
        t.puller().head(&path).send().await.status(404);
    }
    t.puller().head("/v2/team/app/manifests/1").send().await.status(200);
}
