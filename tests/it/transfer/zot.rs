//! API keys, stars and bookmarks of zot's users, from a database that bbolt has written (`tests/fixtures/zot-meta.go`).

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use serde_json::{Value, json};

use super::written::layout;
use super::{command, is_partial, succeeds};
use crate::support::content::{image, sha256};
use crate::support::process::{Program, Running};
use crate::zot::client::data;

const CONFIG: &str = "extensions.search.enable = true\nextensions.ui.enable = true\n";
/// The most keys that a user may have.
const KEYS_MAX: u64 = 100;

/// The secret of a key in the fixture.
fn secret(user: &str, label: &str) -> String {
    format!("zak_{}", &sha256(format!("{user} {label}").as_bytes())[7..39])
}

fn write_database(at: &Path) {
    let mut bytes = Vec::new();
    let packed = File::open(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/zot-meta.db.gz")).unwrap();
    flate2::read::GzDecoder::new(packed).read_to_end(&mut bytes).unwrap();
    std::fs::write(at, bytes).unwrap();
}

/// A data directory of zot with the repositories `a` and `a/nested`.
fn write_store(old: &Path) {
    let image = image(b"{}", &[b"one"]);
    for repository in ["a", "a/nested"] {
        layout(&old.join(repository), &[(Some("1"), &image, &[b"{}", b"one"])]);
    }
    write_database(&old.join("meta.db"));
}

fn start(root: &Path) -> Running {
    Program::serve_with(root, CONFIG).with_admin().start()
}

fn add(root: &Path, user: &str) {
    let added =
        Program::new(["user", "add", user, "--password-stdin", "--root"]).arg(root).input("a-long-password").run();
    assert_eq!(added.code, Some(0), "{added:?}");
}

fn problems(found: &Value) -> Vec<&str> {
    found["problems"].as_array().unwrap().iter().map(|problem| problem["what"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn users_of_zot_keep_their_keys_stars_and_bookmarks() {
    let place = tempfile::tempdir().unwrap();
    let (root, old) = (place.path().join("data"), place.path().join("old"));
    write_store(&old);
    let running = start(&root);
    let source = old.to_str().unwrap();
    // None of them is a user here. One has nothing.
    let found = is_partial(&root, &["--into", "alice", "--dry-run", source]);
    assert_eq!((&found["tags"], &found["keys"]), (&json!(2), &json!(0)), "{found}");
    assert_eq!(problems(&found), ["the user alice", "the user bob@example.com", "the user carol"]);

    add(&root, "alice");
    add(&root, "carol");
    let dry = is_partial(&root, &["--into", "alice", "--dry-run", source]);
    let found = is_partial(&root, &["--into", "alice", source]);
    for found in [&dry, &found] {
        assert_eq!((&found["keys"], &found["expired_keys"]), (&json!(3 + KEYS_MAX), &json!(1)), "{found}");
        assert_eq!(found["skipped"], json!(1 + 50), "{found}");
    }
    // A dry run has no repositories that could be starred.
    assert_eq!((&dry["preferences"], &found["preferences"]), (&json!(0), &json!(2)));
    let again = is_partial(&root, &["--into", "alice", source]);
    assert_eq!((&again["keys"], &again["known_keys"]), (&json!(0), &json!(3 + KEYS_MAX)), "{again}");
    assert_eq!(again["preferences"], json!(0), "{again}");

    let with = |user: &str, label: &str| {
        let secret = secret(user, label);
        running.user((user, &secret))
    };
    let tags = |name: &str| format!("/v2/{name}/tags/list");
    for label in ["everything", "later"] {
        for name in ["alice/a", "alice/a/nested"] {
            with("alice", label).get(&tags(name)).send().await.status(200);
        }
    }
    // Scopes have the new names, and count.
    let scoped = with("alice", "only a");
    scoped.get(&tags("alice/a")).send().await.status(200);
    assert_eq!(scoped.get("/v2/_catalog").send().await.status(200).json(), json!({ "repositories": ["alice/a"] }));
    assert!(!scoped.get(&tags("alice/a/nested")).send().await.status.is_success());
    for (user, label) in [("alice", "expired"), ("bob@example.com", "laptop"), ("alice", "no such key")] {
        with(user, label).get("/v2/").send().await.status(401);
    }
    // A key is for its user alone.
    running.user(("carol", &secret("alice", "everything"))).get("/v2/").send().await.status(401);
    let keys = running.user(("alice", "a-long-password")).get("/zot/auth/apikey").send().await.status(200).json();
    let kept = keys["apiKeys"].as_array().unwrap();
    assert_eq!(kept.len(), 3);
    let later = kept.iter().find(|key| key["label"] == "later").unwrap();
    assert_eq!(later["expirationDate"], json!("2100-01-01T00:00:00Z"));
    assert!(later["uuid"].as_str().unwrap().starts_with("00000000-0000-4000-8000-"), "{later}");
    let alice = with("alice", "everything");
    let starred = data(&alice, "{StarredRepos{Results{Name}}}").await;
    assert_eq!(starred["StarredRepos"]["Results"], json!([{ "Name": "alice/a" }]));
    let bookmarked = data(&alice, "{BookmarkedRepos{Results{Name}}}").await;
    assert_eq!(bookmarked["BookmarkedRepos"]["Results"], json!([{ "Name": "alice/a/nested" }]));
    // Neither a secret nor its hash gets into the log.
    let hash = sha256(&secret("alice", "everything").as_bytes()[4..]);
    assert!(!running.stderr().contains(&hash[7..]));
}

#[tokio::test]
async fn images_are_imported_if_the_database_of_zot_cannot_be_read() {
    let place = tempfile::tempdir().unwrap();
    let (root, old) = (place.path().join("data"), place.path().join("old"));
    write_store(&old);
    let _running = start(&root);
    add(&root, "alice");
    let source = old.to_str().unwrap();
    // zot runs, and holds its lock.
    let writer = File::open(old.join("meta.db")).unwrap();
    rustix::fs::flock(&writer, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let found = is_partial(&root, &[source]);
    assert_eq!((&found["tags"], &found["keys"]), (&json!(2), &json!(0)), "{found}");
    assert_eq!(problems(&found), ["meta.db"]);
    assert!(found["problems"][0]["why"].as_str().unwrap().contains("stop zot"), "{found}");
    drop(writer);
    std::fs::write(old.join("meta.db"), b"not a database").unwrap();
    let found = is_partial(&root, &[source]);
    assert!(found["problems"][0]["why"].as_str().unwrap().contains("not a bbolt database"), "{found}");
    // zot called it so before.
    std::fs::remove_file(old.join("meta.db")).unwrap();
    write_database(&old.join("repo.db"));
    assert_eq!(is_partial(&root, &[source])["keys"], json!(3));
    // If everything gets one name, users are left out.
    let done = command("import", &root, &["--as", "one", source]);
    assert!(done.stdout.contains(r#""keys":0"#) && !done.stdout.contains("carol"), "{done:?}");
    std::fs::remove_file(old.join("repo.db")).unwrap();
    assert_eq!(succeeds("import", &root, &[source])["known_tags"], json!(2));
}
