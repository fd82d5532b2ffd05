//! `zot-compat.toml`: it runs as it is, and every deliberate difference from zot that it lists is one.
//!
//! Each row is checked by the function that it names. A row without a function fails, and so does a
//! function without a row. What is checked is what coracle answers; what zot answers was read in zot's
//! code, and stands in the table to be read.

#[macro_use]
mod table;

mod access;
mod bearer;
mod checks;
mod extensions;
mod mirror;
mod providers;
mod storage;

use std::collections::BTreeSet;
use std::path::Path;

use coracle::Registry;
use coracle::config::{Config, Difference, Profile};

use crate::support::TestRegistry;
use crate::support::registry::{ALICE, BOB};

/// Every check.
fn all() -> impl Iterator<Item = &'static (&'static str, table::Check)> {
    let all = [checks::ALL, access::ALL, bearer::ALL, providers::ALL, extensions::ALL, mirror::ALL, storage::ALL];
    all.into_iter().flatten()
}

fn compat() -> Config {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("zot-compat.toml");
    let loaded = Config::load(&file).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(loaded.warnings, [], "what coracle ships says nothing that has no effect");
    loaded.config
}

#[test]
fn every_row_says_something_and_has_a_check_of_its_own() {
    let rows = compat().differences;
    assert!(rows.len() >= 30, "only {} rows were read", rows.len());
    for Difference { route, zot, coracle, why, check, .. } in &rows {
        for text in [route, zot, coracle, why, check] {
            assert!(!text.trim().is_empty(), "{route}: a field is empty");
        }
        assert_ne!(zot, coracle, "{route}: no difference");
    }
    let named: BTreeSet<&str> = rows.iter().map(|row| row.check.as_str()).collect();
    assert_eq!(named.len(), rows.len(), "two rows name the same check");
    let known: BTreeSet<&str> = all().map(|(name, _)| *name).collect();
    let without_check: Vec<_> = named.difference(&known).collect();
    let without_row: Vec<_> = known.difference(&named).collect();
    assert!(without_check.is_empty() && without_row.is_empty(), "rows: {without_check:?}, checks: {without_row:?}");
}

#[tokio::test]
async fn every_row_is_true_of_coracle() {
    let config = compat();
    assert_eq!(config.profile, Profile::Zot);
    let rows = config.differences.len();
    let builder = Registry::builder().config(config).user(ALICE.0, ALICE.1).user(BOB.0, BOB.1);
    let t = TestRegistry::start(builder).await;
    let mut checked = 0;
    for (name, check) in all() {
        println!("{name}");
        check(t.user(ALICE)).await;
        checked += 1;
    }
    assert_eq!(checked, rows);
}

/// The defaults of the profile `zot`.
#[tokio::test]
async fn the_profile_asks_for_a_password_and_gives_every_user_all_rights() {
    let builder = Registry::builder().config(compat()).user(ALICE.0, ALICE.1).user(BOB.0, BOB.1);
    let t = TestRegistry::start(builder).await;
    let refused = t.anonymous().get("/v2/").send().await.error(401, "UNAUTHORIZED");
    assert_eq!(refused.header("www-authenticate"), Some("Basic realm=\"Authorization Required\""));
    let digest = crate::support::content::push_blob(&t.user(ALICE), "anywhere", b"content").await;
    t.user(BOB).delete(&format!("/v2/anywhere/blobs/{digest}")).send().await.status(202);
}
