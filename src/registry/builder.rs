//! [`Builder`]: the settings of a registry, and how it is opened.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};

use parking_lot::RwLock;
use tokio_util::task::TaskTracker;
use url::Url;

use super::prepared::Prepared;
use super::{Error, Notices, RateLimits, Registry, ReloadWarning, RemoteImages, Shared};
use crate::config::{self, Bearer, Config, Profile};
use crate::content::blobs::{Blobs, ForeignStore, SystemDisk, Tree};
use crate::content::repository::{
    Delays, ImmutableTags, MandatoryAnnotations, Quotas, Retention, Rules, Stores, TransferMode,
};
use crate::content::rows::{AccountRole, Database, SETTING_PROVIDER_KEY};
use crate::identity::access::{AccessPolicy, Authenticator, Policy, Rules as AccessRules};
use crate::identity::accounts::{self, Accounts, AuditFile, HashCost, Htpasswd, Password};
use crate::identity::directory::Directory;
use crate::identity::providers::Providers;
use crate::identity::tokens::{self, ExternalIssuer, Tokens};
use crate::identity::workload::{IssuerSettings, Workloads};
use crate::kit::access_log::AccessLog;
use crate::kit::byte_budget::ByteBudget;
use crate::kit::clock::Clock;
use crate::kit::metrics::Metrics;
use crate::oci::{RepositoryName, RepositoryPattern};
use crate::transfer::{Import, Naming, Ongoing, Scratch, Source, Transfers};

/// The most bytes of large responses that are in memory and not sent.
const UNSENT_BYTES_MAX: u32 = 64 * 1024 * 1024;
/// The most bytes of large pieces of blobs that are in memory and not sent. 256 pulls at full speed fit.
const PIECES_BYTES_MAX: u32 = 128 * 1024 * 1024;

/// Opens a registry. See the documentation of the crate for an example.
#[derive(Debug, Default)]
pub struct Builder {
    config: Config,
    root: Option<PathBuf>,
    temporary: bool,
    policy: Option<AccessPolicy>,
    users: Vec<NewUser>,
    preload: Vec<(RepositoryName, PathBuf)>,
    takeover: Option<RemoteImages>,
    access_log: AccessLog,
}

#[derive(Debug)]
struct NewUser {
    name: String,
    password: Password,
    superuser: bool,
}

impl Builder {
    /// Sets the configuration. The other methods take precedence.
    #[must_use]
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// Stores the data in this directory. Creates it if it is missing.
    #[must_use]
    pub fn data_dir(mut self, root: impl Into<PathBuf>) -> Self {
        self.root = Some(root.into());
        self.temporary = false;
        self
    }

    /// Stores the data in a new directory, which is removed when the registry is dropped. Nothing is synced to disk, and
    /// passwords are hashed with little work, so that a test does not wait for them.
    #[must_use]
    pub fn temporary(mut self) -> Self {
        self.temporary = true;
        self
    }

    /// Sets the access policy. The default depends on the configuration: [`AccessPolicy::Owners`] without one.
    #[must_use]
    pub fn policy(mut self, policy: AccessPolicy) -> Self {
        self.policy = Some(policy);
        self
    }

    /// Creates a user, or sets the password of an existing one.
    #[must_use]
    pub fn user(self, name: &str, password: &str) -> Self {
        self.new_user(name, password, false)
    }

    /// Creates a superuser, or makes an existing user one with this password.
    #[must_use]
    pub fn superuser(self, name: &str, password: &str) -> Self {
        self.new_user(name, password, true)
    }

    fn new_user(mut self, name: &str, password: &str, superuser: bool) -> Self {
        self.users.push(NewUser { name: name.to_owned(), password: Password::new(password), superuser });
        self
    }

    /// Imports an OCI image layout, a directory with `oci-layout` and `index.json`, into a repository.
    #[must_use]
    pub fn preload(mut self, repository: &RepositoryName, layout: impl Into<PathBuf>) -> Self {
        self.preload.push((repository.clone(), layout.into()));
        self
    }

    /// Takes over another registry: pulls fall through to it, and its content is fetched in the background.
    #[must_use]
    pub(crate) fn takeover_from(mut self, registry: Option<RemoteImages>) -> Self {
        self.takeover = registry;
        self
    }

    /// Sets where the lines about requests go.
    #[must_use]
    pub(crate) fn access_log(mut self, access_log: AccessLog) -> Self {
        self.access_log = access_log;
        self
    }

    /// Opens the registry. Blocks. Opens no socket and starts no task.
    pub fn open(self) -> Result<Registry, Error> {
        if let Some((key, why)) = config::missing_part(&self.config) {
            return Err(Error::setting(key, why));
        }
        let temporary = self.temporary.then(tempfile::tempdir).transpose().map_err(|source| Error::Storage {
            root: std::env::temp_dir(),
            cause: format!("cannot create a temporary directory: {source}").into(),
        })?;
        let root = match &temporary {
            Some(directory) => Some(directory.path().to_owned()),
            None => self.root.or_else(|| self.config.storage.root_directory.clone()),
        };
        let root = root.ok_or(Error::NoDataDirectory)?;
        let clock = Clock::default();
        let metrics = Arc::new(Metrics::new());
        let prepared = Prepared::new(&self.config, self.takeover.as_ref(), &metrics);
        // The first problem; `check-config` shows all.
        let prepared = prepared.map_err(|errors| errors.into_iter().next().unwrap_or(Error::NoDataDirectory))?;
        let Prepared { retention, quotas, immutable, events, external_issuer, .. } = prepared;
        let Prepared { workloads, providers, directory, upstreams, site, .. } = prepared;
        let rules = rules(&self.config, retention, quotas, immutable);
        let (tree, database, stores) = open_stores(&root, &self.config, rules, temporary.is_none(), &clock)?;
        let accounts = open_accounts(&database, &self.config, directory, temporary.is_some(), &clock, &tree)?;
        // Before anything changes.
        let acme = super::acme::open(&self.config, &tree, &clock)?;
        if let Some(events) = &events {
            let begun = events.begin(self.config.extensions.events.outbox_limit, &stores);
            begun.map_err(|error| Error::repository(error, &tree))?;
        }
        for (repository, layout) in self.preload {
            preload(&stores, repository, layout)?;
        }
        let grants = self.policy.unwrap_or(if self.config.http.open {
            AccessPolicy::Open
        } else {
            match self.config.profile {
                Profile::Coracle => AccessPolicy::Owners,
                Profile::Zot if self.config.http.access_control.is_some() => AccessPolicy::Listed,
                Profile::Zot => AccessPolicy::SignedIn,
            }
        });
        let control = self.config.http.access_control.as_ref();
        let tokens = open_tokens(&database, &self.config, external_issuer, &clock, &tree)?;
        let key = database.hmac_key(SETTING_PROVIDER_KEY).map_err(|error| Error::database(error, &tree))?;
        let providers = Providers::new(providers, key.bytes());
        let traces = super::traces::open(&self.config.extensions.traces)?;
        let work = TaskTracker::new();
        let mirror = super::mirror::open(&self.config.extensions.sync, upstreams, &stores, &work);
        let shared = Shared {
            search: Arc::default(),
            transfers: Transfers::default(),
            site,
            mirror: mirror.map(Arc::new),
            events,
            acme,
            takeover: self.takeover.map(super::takeover::Takeover::new),
            providers,
            tree,
            stores,
            authenticator: Authenticator::new(Arc::clone(&accounts), Arc::clone(&tokens), workloads),
            accounts,
            clock,
            tokens,
            policy: RwLock::new(Arc::new(Policy {
                grants,
                rules: control.map(|control| Arc::new(AccessRules::new(control))),
                keys_make_keys: self.config.profile == Profile::Zot,
                anonymous_catalog: self.config.profile == Profile::Zot && self.config.http.auth.bearer.is_none(),
            })),
            external_origin: self.config.http.external_url.as_deref().and_then(|url| Url::parse(url).ok()),
            rate_limits: RateLimits::new(&self.config.http.rate_limit),
            config: self.config,
            metrics,
            access_log: self.access_log,
            traces,
            serving: OnceLock::new(),
            activity: super::Activity::default(),
            disk: Arc::default(),
            api_description: OnceLock::new(),
            unsent: ByteBudget::new(UNSENT_BYTES_MAX),
            pieces: ByteBudget::new(PIECES_BYTES_MAX),
            work,
            instance: rand::random(),
            notices: Notices::default(),
            reload_warning: ReloadWarning::default(),
            requests: AtomicU64::new(1),
            _temporary: temporary,
        };
        for user in self.users {
            let role = if user.superuser { AccountRole::Superuser } else { AccountRole::Ordinary };
            let put = shared.put_user(&user.name, &user.password, role);
            put.map_err(|error| Error::accounts(error, &shared.tree))?;
        }
        Ok(Registry { shared: Arc::new(shared) })
    }
}

/// Checks a text that is quoted in a challenge. The configuration file has been checked, but programs can set any text.
pub(super) fn check_quoted(key: &'static str, text: &str) -> Result<(), Error> {
    let fits = |byte: u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\');
    if text.bytes().all(fits) {
        return Ok(());
    }
    Err(Error::setting(key, "expected printable ASCII without quotes and backslashes"))
}

/// Opens the token service. Access tokens have one audience, whichever name of the
/// registry the client used.
fn open_tokens(
    database: &Arc<Database>,
    config: &Config,
    external_issuer: Option<ExternalIssuer>,
    clock: &Clock,
    tree: &Tree,
) -> Result<Arc<Tokens>, Error> {
    let auth = &config.http.auth;
    let host = config.http.external_url.as_deref().and_then(|url| url.split("://").nth(1));
    let audience = auth.token_services.first().map(String::as_str).or(host).unwrap_or("coracle").to_owned();
    let rules = tokens::Rules { lifetime: auth.token_lifetime, issuer: auth.token_issuer.clone(), audience };
    let tokens = Tokens::open(Arc::clone(database), clock.clone(), rules, external_issuer);
    Ok(Arc::new(tokens.map_err(|error| Error::database(error, tree))?))
}

pub(super) fn open_external_issuer(bearer: &Bearer) -> Result<ExternalIssuer, Error> {
    check_quoted("http.auth.bearer.realm", &bearer.realm)?;
    check_quoted("http.auth.bearer.service", &bearer.service)?;
    ExternalIssuer::open(&bearer.cert, &bearer.service).map_err(|cause| Error::setting("http.auth.bearer.cert", cause))
}

/// Prepares the issuers of workload tokens. Sends no request.
pub(super) fn open_workloads(config: &Config) -> Result<Workloads, Error> {
    const KEY: &str = "http.auth.bearer.oidc";
    let one = |issuer: &config::WorkloadIssuer| {
        let rules = issuer.rules.iter().map(|rule| rule.prepare(&issuer.issuer)).collect::<Result<_, _>>();
        Ok(IssuerSettings {
            rules: rules.map_err(|error| Error::setting(KEY, format!("{}: {error}", issuer.issuer)))?,
            issuer: issuer.issuer.clone(),
            audiences: issuer.audiences.clone(),
            ca_file: issuer.authority_file.clone(),
            ca: issuer.authority.clone(),
            keys_file: issuer.keys_file.clone(),
            keys_refresh: issuer.keys_refresh,
            lifetime_max: issuer.max_lifetime,
        })
    };
    let settings = config.http.auth.workload_issuers.iter().map(one).collect::<Result<_, Error>>()?;
    Workloads::new(settings).map_err(|cause| Error::setting(KEY, cause))
}

/// The rules of the stores.
fn rules(config: &Config, retention: Retention, quotas: Quotas, immutable: ImmutableTags) -> Rules {
    let (storage, lint) = (&config.storage, &config.extensions.lint);
    let collection = &storage.collection;
    Rules {
        sparse_indexes: storage.allow_sparse_indexes,
        upload_expiry: storage.upload_expiry,
        tag_history: storage.tag_history,
        delays: Delays { blob: collection.delay, untagged: collection.untagged_delay.unwrap_or(collection.delay) },
        retention,
        mandatory_annotations: if lint.enable {
            MandatoryAnnotations::new(&lint.mandatory_annotations)
        } else {
            MandatoryAnnotations::default()
        },
        quotas,
        immutable,
    }
}

fn open_stores(
    root: &Path,
    config: &Config,
    rules: Rules,
    is_lasting: bool,
    clock: &Clock,
) -> Result<(Tree, Arc<Database>, Arc<Stores>), Error> {
    let tree = Tree::new(root);
    refuse_foreign(&tree)?;
    if tree.backup_marker().exists() {
        let shown = root.display();
        let cause = format!(
            "{shown} is a backup or an unfinished restore: run `coracle restore {shown} --root DIRECTORY`, and use that \
             directory"
        );
        return Err(Error::storage(cause, &tree));
    }
    let sync = config.storage.commit && is_lasting;
    let disk = Arc::new(SystemDisk);
    let blobs = Blobs::open(root, disk.clone(), sync).map_err(|error| Error::blobs(error, &tree))?;
    let blobs = blobs.with_min_free(config.storage.min_free_space);
    let database = Database::open(&tree, disk.clone(), sync).map_err(|error| Error::database(error, &tree))?;
    let database = if config.storage.commit { database } else { database.with_delayed_durability() };
    if is_lasting {
        database.open_journal(&tree, disk).map_err(|error| Error::database(error, &tree))?;
    }
    let database = Arc::new(database);
    let stores = Stores::new(blobs, Arc::clone(&database), clock.clone(), rules);
    let stores = stores.map_err(|error| Error::repository(error, &tree))?;
    Ok((tree, database, Arc::new(stores)))
}

/// Imports an image layout.
fn preload(stores: &Arc<Stores>, repository: RepositoryName, layout: PathBuf) -> Result<(), Error> {
    let source = match Source::open(&layout, &Scratch::of(stores)) {
        Ok(source) => source,
        Err(error) => return Err(Error::preload(error, layout)),
    };
    let naming = Naming { repository: Some(repository), ..Naming::default() };
    // The registry may change its copy, and the layout stays as it is.
    let ongoing = Ongoing::new("");
    let mode = TransferMode::Copy;
    let import = Import { stores, naming, mode, overwrite: true, sparse: false, dry_run: false, ongoing: &ongoing };
    match import.run(&source, &|_| ControlFlow::Continue(())) {
        Err(error) => Err(Error::preload(error, layout)),
        Ok(imported) => match imported.problems.into_iter().next() {
            Some(problem) => Err(Error::preload(problem.to_string(), layout)),
            None => Ok(()),
        },
    }
}

/// Refuses the data directory of another registry, before anything is written to it.
fn refuse_foreign(tree: &Tree) -> Result<(), Error> {
    if tree.database().exists() || tree.journal().exists() {
        return Ok(());
    }
    let Some(ForeignStore { program, sign }) = ForeignStore::find(tree.root()) else { return Ok(()) };
    let root = tree.root().display();
    // zot has an image layout for each repository, below its directory.
    let found = if sign == tree.root() {
        format!("{root} is an OCI image layout")
    } else {
        format!("{root} contains images of {program} ({})", sign.display())
    };
    let cause = format!(
        "{found}, which coracle does not read in place: start coracle with another --root, and import the images: \
         `coracle import {root}`"
    );
    Err(Error::storage(cause, tree))
}

/// Reads a pattern. The configuration file has been checked, but programs can set any text.
pub(super) fn checked_pattern(key: &'static str, pattern: &str) -> Result<RepositoryPattern, Error> {
    pattern.parse().map_err(|why| Error::setting(key, format!("the pattern {pattern:?} {why}")))
}

fn open_accounts(
    database: &Arc<Database>,
    config: &Config,
    directory: Option<Directory>,
    is_temporary: bool,
    clock: &Clock,
    tree: &Tree,
) -> Result<Arc<Accounts>, Error> {
    let auth = &config.http.auth;
    let htpasswd = auth.htpasswd.as_deref().map(Htpasswd::new);
    let rules = accounts::Rules {
        keys_max: auth.keys_per_user,
        key_lifetime_max: auth.key_lifetime,
        session_idle: auth.session_idle_timeout,
        session_lifetime: auth.session_lifetime,
        granted: config
            .http
            .access_control
            .as_ref()
            .map(crate::identity::access::AccessControl::granted)
            .unwrap_or_default(),
        hash_cost: if is_temporary { HashCost::Light } else { HashCost::Usual },
        ..accounts::Rules::default()
    };
    let audit_file = config.log.audit.as_deref().map(|path| {
        AuditFile::open(path, tree.root())
            .map_err(|error| Error::setting("log.audit", format!("{}: {error}", path.display())))
    });
    let accounts = Accounts::open(Arc::clone(database), clock.clone(), rules, htpasswd, audit_file.transpose()?);
    let accounts = accounts.map_err(|error| Error::accounts(error, tree))?;
    Ok(Arc::new(match (directory, &auth.ldap) {
        (Some(directory), Some(ldap)) => accounts.with_directory(directory, ldap.outage_memory),
        _ => accounts,
    }))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn only_a_temporary_registry_hashes_passwords_with_little_work() {
        let cost = |builder: Builder| builder.user("alice", "secret").open().unwrap().shared.accounts().hash_cost();
        assert_eq!(cost(Registry::builder().temporary()), HashCost::Light);
        let root = tempfile::tempdir().unwrap();
        assert_eq!(cost(Registry::builder().data_dir(root.path())), HashCost::Usual);
        assert_eq!(cost(Registry::builder().temporary().data_dir(root.path())), HashCost::Usual);
    }
}
