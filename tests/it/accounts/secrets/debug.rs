//! `{:?}` of the registry, its configuration and its errors shows no secret.

use coracle::Registry;

use super::search::Search;
use super::{FILED, signed_in, text, tokens};
use crate::support::TestRegistry;
use crate::support::registry::{ALICE, ROOT};

/// Whether a text has a long list of bytes in it: a key of the registry's own, or a hash.
fn has_bytes(text: &str) -> bool {
    let words = text.split([',', '[', ']', '(', ')', '{', '}', ' ', '\n']).filter(|word| !word.is_empty());
    let mut run = 0;
    words.into_iter().any(|word| {
        run = if word.parse::<u8>().is_ok() { run + 1 } else { 0 };
        run >= 16
    })
}

#[tokio::test]
async fn no_planted_secret_is_in_what_debug_shows() {
    let mut search = Search::default();
    for (name, password) in [ALICE, ROOT] {
        search.plant(name, password);
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    let hash = bcrypt::hash(FILED, 4).unwrap();
    std::fs::write(&file, format!("filed:{hash}\n")).unwrap();
    search.plant("a password of the htpasswd file", FILED);
    search.plant("its hash", &hash);
    let config = format!("[http.auth.htpasswd]\npath = '{}'\n", file.path().display());
    let config = coracle::config::Config::from_toml_str(&config).unwrap();
    let builder = || Registry::builder().config(config.config.clone()).user(ALICE.0, ALICE.1).superuser(ROOT.0, ROOT.1);
    search.place("Builder", format!("{:?} {:#?}", builder(), builder()));
    search.place("Config", format!("{config:?} {config:#?}"));
    let t = TestRegistry::start(builder()).await;
    // These requests fill the caches of callers.
    let alice = t.user(ALICE);
    let made = alice.post("/zot/auth/apikey").body("{}").send().await.status(201);
    search.shows(&made, &[("a key", text(&made.json(), "apiKey"))]);
    let key = text(&made.json(), "apiKey").to_owned();
    t.user((ALICE.0, &key)).get("/v2/").send().await.status(200);
    signed_in(&mut search, t.anonymous(), ALICE.0, ALICE.1).await.get("/api/v1/user/").await.status(200);
    t.user(("filed", FILED)).get("/v2/").send().await.status(200);
    search.plant("a wrong password", "typed-wr0ng-password");
    t.user((ALICE.0, "typed-wr0ng-password")).get("/v2/").send().await.status(401);
    let upload = alice.post("/v2/alice/a/blobs/uploads/").send().await.status(202);
    search.answer(&upload);
    let given = tokens::given(&mut search, &alice, ALICE.0, ALICE.1).await;
    t.anonymous().get("/v2/").header("authorization", format!("Bearer {}", given[0])).send().await.status(200);

    let shown =
        [format!("{:?}", t.registry), format!("{:#?}", t.registry), format!("{:?} {:#?}", t.running, t.running)];
    for shown in shown {
        assert!(shown.len() > 10 && !has_bytes(&shown), "{shown}");
        search.place("Debug", shown);
    }
    assert!(has_bytes(&format!("{:?}", [7_u8; 32])) && has_bytes(&format!("{:#?}", Some([255_u8; 32]))));
    // Errors are shown as well.
    for (name, password) in [("", "an-unused-passw0rd"), ("alice", &*"an-unused-passw0rd".repeat(100))] {
        search.plant("a password that was not taken", password);
        let refused = Registry::builder().temporary().user(name, password).open().unwrap_err();
        search.place("Error", format!("{refused:?} {refused:#?} {refused}"));
    }
    search.finds_nothing();
}
