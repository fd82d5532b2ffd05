//! A registry of one test, made with nothing that a user of the library could not call.

use coracle::{AccessPolicy, Registry, RunningRegistry};

use super::http::Caller;

/// The user that every test registry has; owns `alice/…`.
pub const ALICE: (&str, &str) = ("alice", "alice's password");
/// Another one.
pub const BOB: (&str, &str) = ("bob", "bob's password");
/// The superuser.
pub const ROOT: (&str, &str) = ("root", "root's password");

/// A registry on a free port, in a directory that goes with it.
#[derive(Debug)]
pub struct TestRegistry {
    pub registry: Registry,
    pub running: RunningRegistry,
}

impl TestRegistry {
    /// Anybody may do everything: for tests that are not about access.
    pub async fn open() -> Self {
        Self::start(Registry::builder().policy(AccessPolicy::Open)).await
    }

    /// A registry with [`ALICE`], [`BOB`] and [`ROOT`] and the default policy.
    pub async fn with_users() -> Self {
        Self::start(Registry::builder().user(ALICE.0, ALICE.1).user(BOB.0, BOB.1).superuser(ROOT.0, ROOT.1)).await
    }

    /// A registry from any builder, in a temporary directory.
    pub async fn start(builder: coracle::Builder) -> Self {
        let registry = tokio::task::spawn_blocking(move || builder.temporary().open()).await.unwrap().unwrap();
        let running = registry.spawn_local().await.unwrap();
        Self { registry, running }
    }

    /// How many uploads are neither finished nor cancelled, by their files.
    pub fn unfinished_uploads(&self) -> usize {
        std::fs::read_dir(self.registry.data_dir().join("uploads")).unwrap().count()
    }

    /// Someone without credentials.
    pub fn anonymous(&self) -> Caller {
        Caller::new(self.running.address(), None)
    }

    /// Someone with a name and a password.
    pub fn user(&self, (name, password): (&str, &str)) -> Caller {
        Caller::new(self.running.address(), Some((name, password)))
    }
}
