//! The list of all tables, the settings, and the schema version.
//!
//! Keys contain a digest as [`Digest::key`](crate::oci::Digest). Values that are called a row are encoded by
//! [`super::codec`].

use redb::{Key, TableDefinition, Value};

use super::totals::{FactsState, Stage};
use super::transaction::Definition;
use super::{Error, Rows, WriteTx};
use crate::kit::clock::{SteadyTime, Timestamp};

/// The version that this program writes. A change of what a table means raises it and needs a step in [`migrate`].
pub(super) const VERSION: u32 = 7;

/// The version, as four big-endian bytes.
pub(super) const SETTING_VERSION: &str = "schema version";
/// The secret that binds upload ids to their repository.
pub(crate) const SETTING_UPLOAD_KEY: &str = "upload key";
/// The secret for CSRF tokens.
pub(crate) const SETTING_CSRF_KEY: &str = "csrf key";
/// The secret for fingerprints of passwords.
pub(crate) const SETTING_STAMP_KEY: &str = "stamp key";
/// The secret that signs and encrypts the state of sign-ins through identity providers.
pub(crate) const SETTING_PROVIDER_KEY: &str = "provider key";
/// The secret that signs access tokens in a build without asymmetric signatures.
pub(crate) const SETTING_TOKEN_KEY: &str = "token key";
/// The id of the journal that belongs to the database; see [`super::journal`].
pub(super) const SETTING_JOURNAL: &str = "journal";
/// The number of the last change of content, as eight big-endian bytes.
pub(super) const SETTING_JOURNAL_NUMBER: &str = "journal number";
/// The write-ahead log of the database: its id and the number of checkpoints; see [`super::wal`]. No copy has it.
pub(super) const SETTING_WAL: &str = "write-ahead log";
/// A [`SteadyClockRow`](super::SteadyClockRow).
pub(super) const SETTING_STEADY_CLOCK: &str = "steady clock";
/// A list of [`RestingUpload`](super::RestingUpload).
pub(super) const SETTING_RESTING_UPLOADS: &str = "resting uploads";
/// One byte, 1, if `listings` has the optional layers of all manifests. A database of an earlier program lacks it until
/// all its manifests were read.
pub(crate) const SETTING_OPTIONAL_LISTED: &str = "optional layers listed";
/// How far facts and totals are counted; see [`super::totals`].
pub(super) const SETTING_FACTS: &str = "facts";
/// The journal number of the last change that kept facts and totals up to date, as eight big-endian bytes.
pub(super) const SETTING_FACTS_NUMBER: &str = "journal number of facts";
/// When the last backup was finished, in microseconds, as eight big-endian bytes. A backup does not have it.
pub(crate) const SETTING_LAST_BACKUP: &str = "last backup";
/// Pulls before this time are not known, in microseconds, as eight big-endian bytes: the database is from an earlier
/// program, a backup or a recovery. Without it, all pulls are known.
pub(crate) const SETTING_PULLS_KNOWN_SINCE: &str = "pulls known since";
/// Exists while the use of namespaces is kept, see [`super::usage`].
pub(super) const SETTING_USAGE: &str = "use of namespaces";
/// Exists from an upgrade to version 6 until the users of the database own their namespaces.
pub(crate) const SETTING_OWNERS_UNKNOWN: &str = "owners unknown";
/// Exists from an upgrade to version 6 until the users of the htpasswd file own their namespaces.
pub(crate) const SETTING_FILE_OWNERS_UNKNOWN: &str = "owners of the htpasswd file unknown";

/// Something to do with every table.
pub(super) trait Visitor {
    fn table<K: Key + 'static, V: Value + 'static>(&mut self, definition: Definition<K, V>) -> Result<(), Error>;
}

/// Defines a constant for each table, and the functions that need all of them.
macro_rules! tables {
    ($($(#[$doc:meta])* $name:ident: $key:ty => $value:ty = $text:literal;)*) => {
        $($(#[$doc])* pub(super) const $name: Definition<$key, $value> = &TableDefinition::new($text);)*

        /// The names of all tables.
        const NAMES: &[&str] = &[$($text),*];

        /// Passes every table to a visitor.
        pub(super) fn each_table(visitor: &mut impl Visitor) -> Result<(), Error> {
            $(visitor.table($name)?;)*
            Ok(())
        }
    };
}

tables! {
    /// Name → value.
    SETTINGS: &str => &[u8] = "settings";

    /// Name → [`RepositoryRow`](super::RepositoryRow), and its totals. A repository has a row while it has content or
    /// settings.
    REPOSITORIES: &str => &[u8] = "repositories";
    /// Namespace → [`NamespaceUse`](super::usage::NamespaceUse), while it is kept. The empty name stands for all namespaces.
    NAMESPACE_USE: &str => &[u8] = "use of namespaces";
    /// ([`Order`](super::Order), value, repository): the repositories with totals, in an order.
    REPOSITORY_ORDER: (u8, u64, &str) => () = "orders of repositories";
    /// (repository, digest) → [`Pulls`](super::Pulls) of a manifest, or with an empty digest those of the repository.
    PULLS: (&str, &[u8]) => &[u8] = "pulls";
    /// Digest → [`BlobRow`](super::blob::BlobRow). The row implies a durable file.
    BLOBS: &[u8] => &[u8] = "blobs";
    /// (digest, repository) → [`LinkRow`](super::blob::LinkRow): the repository may serve the blob. The digest comes
    /// first, so that one range has all repositories of a blob.
    LINKS: (&[u8], &str) => &[u8] = "links";
    /// (repository, digest): the blobs of a repository.
    LINKS_OF: (&str, &[u8]) => () = "links of repositories";
    /// Digest → [`FileRow`](super::FileRow), for each blob that was pushed or hashed since version 4.
    FILES: &[u8] => &[u8] = "files";
    /// Digest → [`DamageRow`](super::DamageRow), for each blob whose file is damaged.
    DAMAGED: &[u8] => &[u8] = "damaged blobs";
    /// Digest: each blob without a row whose file may still exist.
    ORPHANS: &[u8] => () = "orphans";

    /// (repository, digest) → [`ManifestRow`](super::ManifestRow).
    MANIFESTS: (&str, &[u8]) => &[u8] = "manifests";
    /// (repository, digest) → the bytes of the manifest as they were pushed.
    MANIFEST_BYTES: (&str, &[u8]) => &[u8] = "manifest bytes";
    /// (digest, repository) → [`Facts`](super::Facts) and [`Details`](super::Details). The digest comes first, so that
    /// one range has all repositories of a manifest.
    FACTS: (&[u8], &str) => &[u8] = "facts of manifests";
    /// (repository, digest) → [`ManifestRow`](super::ManifestRow), for each manifest that was deleted by digest and can
    /// be restored. `manifest bytes` keeps its bytes, and `listings` has everything that it references. `past tags` has
    /// a span of it under its digest in place of a tag; the row exists as long as any span of the manifest does.
    DELETED_MANIFESTS: (&str, &[u8]) => &[u8] = "deleted manifests";
    /// (repository, digest) → [`MirroredRow`](super::MirroredRow), for each manifest that was fetched from another
    /// registry.
    MIRRORED: (&str, &[u8]) => &[u8] = "mirrored manifests";
    /// (repository, digest) → microseconds: the last use of each mirrored manifest, and of each blob that was fetched from
    /// another registry and not pushed.
    MIRROR_USES: (&str, &[u8]) => u64 = "uses of mirrored content";
    /// (repository, subject, artifact type, digest) → descriptor as JSON. The type comes before the digest, so that a
    /// filtered list is one range. It is empty for a referrer without one.
    REFERRERS: (&str, &[u8], &str, &[u8]) => &[u8] = "referrers";
    /// (repository, listed digest, manifest): the manifest names the digest, which need not exist here. The manifest is
    /// an index that lists it, or an image that has it as an optional layer.
    LISTINGS: (&str, &[u8], &[u8]) => () = "listings";

    /// (repository, tag) → [`TagRow`](super::tag::TagRow).
    TAGS: (&str, &str) => &[u8] = "tags";
    /// (repository, digest, tag): the tags of a manifest.
    TAGS_OF: (&str, &[u8], &str) => () = "tags of manifests";
    /// (repository, tag) → [`TagAttributes`](super::TagAttributes), for each tag that has any.
    TAG_ATTRIBUTES: (&str, &str) => &[u8] = "marks of tags";
    /// (microseconds, repository, tag): the tags that expire, in order of time.
    EXPIRING_TAGS: (u64, &str, &str) => () = "expiring tags";
    /// (repository, tag, start in microseconds, number) → [`PastRow`](super::history::PastRow): what tags pointed at
    /// before. A manifest that was deleted by digest has a span under its digest in place of a tag. The number tells
    /// spans apart that start in the same microsecond.
    PAST_TAGS: (&str, &str, u64, u32) => &[u8] = "past tags";
    /// (repository, digest, tag, start, number): the spans in `past tags` of a manifest.
    PAST_OF: (&str, &[u8], &str, u64, u32) => () = "past tags of manifests";
    /// (steady time of the end, repository, tag, start, number): the spans in `past tags`, the oldest end first.
    ENDED_TAGS: (u64, &str, &str, u64, u32) => () = "ended tags";
    /// (repository, start in microseconds, tag, number) → steady time of the end: all spans of a repository, in order
    /// of time. The span that a tag is in now has the largest number and the largest end.
    TAG_STARTS: (&str, u64, &str, u32) => u64 = "starts of tags";

    /// (repository, [`Unreferenced`](super::Unreferenced), digest) → steady time since when.
    UNREFERENCED: (&str, u8, &[u8]) => u64 = "unneeded";
    /// (steady time, repository, [`Unreferenced`](super::Unreferenced), digest): the same, the oldest first.
    UNREFERENCED_SINCE: (u64, &str, u8, &[u8]) => () = "unneeded since";

    /// User name → [`UserRow`](super::UserRow).
    USERS: &str => &[u8] = "users";
    /// (e-mail address in lower case, user name): the users of the database by address.
    ADDRESSES: (&str, &str) => () = "addresses of users";
    /// User name → [`FileUserRow`](super::FileUserRow), for each user of the htpasswd file when it was last read.
    FILE_USERS: &str => &[u8] = "users of the htpasswd file";
    /// User name → [`FederatedUserRow`](super::FederatedUserRow).
    FEDERATED_USERS: &str => &[u8] = "users of providers";
    /// User name → the provider's refresh token, encrypted by the caller.
    FEDERATED_TOKENS: &str => &[u8] = "tokens of providers";
    /// (issuer, subject) → name of the federated user.
    IDENTITIES: (&str, &str) => &str = "identities";
    /// Namespace → name of the user who owns it.
    NAMESPACES: &str => &str = "namespaces";
    /// User name → namespace that the user owns.
    NAMESPACES_OF: &str => &str = "namespaces of users";

    /// SHA-256 of an API key → [`KeyRow`](super::KeyRow).
    KEYS: &[u8] => &[u8] = "keys";
    /// (owner, creation in microseconds, id) → SHA-256 of the key.
    KEYS_OF: (&str, u64, u128) => &[u8] = "keys of users";
    /// SHA-256 of a session's cookie → [`SessionRow`](super::SessionRow).
    SESSIONS: &[u8] => &[u8] = "sessions";
    /// (user, creation in microseconds, id) → SHA-256 of the cookie.
    SESSIONS_OF: (&str, u64, u128) => &[u8] = "sessions of users";
    /// SHA-256 of a refresh token → [`RefreshRow`](super::RefreshRow).
    REFRESH_TOKENS: &[u8] => &[u8] = "refresh tokens";
    /// (user, creation in microseconds, id) → SHA-256 of the refresh token.
    REFRESH_TOKENS_OF: (&str, u64, u128) => &[u8] = "refresh tokens of users";
    /// Key id → [`SigningRow`](super::SigningRow).
    SIGNING_KEYS: &str => &[u8] = "signing keys";

    /// ([`Preference`](super::Preference), user, repository): the repositories that a user has starred or bookmarked.
    PREFERENCES: (u8, &str, &str) => () = "preferences of users";
    /// ([`Preference`](super::Preference), repository, user): the same, by repository.
    PREFERENCES_OF: (u8, &str, &str) => () = "preferences of repositories";
    /// Repository → number of users who have starred it, unless that is 0.
    STARS: &str => u64 = "stars";

    /// Repository → [`SettingsRow`](super::SettingsRow), for each repository that was given settings.
    SETTINGS_OF: &str => &[u8] = "settings of repositories";
    /// (repository, [`Grantee`](super::Grantee), name) → [`Role`](super::Role) as a row.
    PERMISSIONS: (&str, u8, &str) => &[u8] = "permissions";
    /// ([`Grantee`](super::Grantee), name, repository): the permissions of a user or a group.
    PERMISSIONS_OF: (u8, &str, &str) => () = "permissions of grantees";
    /// Name → [`GroupRow`](super::GroupRow), for each group that was given a description or a role. The rows of the
    /// users say who is in a group.
    GROUPS: &str => &[u8] = "groups";

    /// Number → [`EventRow`](super::EventRow): the events that some sink still needs, in the order of the changes.
    EVENTS: u64 => &[u8] = "events";
    /// Sink → the number of the first event that it still needs.
    EVENT_POSITIONS: &str => u64 = "positions of event sinks";
    /// (sink, number) → [`RefusedEvent`](super::RefusedEvent).
    REFUSED_EVENTS: (&str, u64) => &[u8] = "refused events";

    /// (microseconds, number within them) → [`AuditRow`](super::AuditRow).
    AUDIT: (u64, u32) => &[u8] = "audit";
}

struct Creating<'a>(&'a mut WriteTx);

impl Visitor for Creating<'_> {
    fn table<K: Key + 'static, V: Value + 'static>(&mut self, definition: Definition<K, V>) -> Result<(), Error> {
        self.0.table_mut(definition).map(drop)
    }
}

/// Makes the tables that are missing. redb fails to read a table that does not exist.
pub(super) fn create_tables(tx: &mut WriteTx) -> Result<(), Error> {
    each_table(&mut Creating(tx))
}

/// Whether the database has all tables. A table can be added without a new version if earlier programs work without it.
pub(super) fn has_all_tables(rows: &Rows) -> Result<bool, Error> {
    let existing = rows.table_names()?;
    Ok(NAMES.iter().all(|name| existing.iter().any(|existing| existing == name)))
}

/// Fills an empty database.
pub(super) fn create(tx: &mut WriteTx) -> Result<(), Error> {
    create_tables(tx)?;
    tx.set_setting(SETTING_OPTIONAL_LISTED, &[1])?;
    tx.set_facts_state(FactsState { epoch: 1, stage: Stage::Complete, resets: 0 })?;
    tx.set_setting(SETTING_VERSION, &VERSION.to_be_bytes())
}

/// The version that has written a database. Fails for one that this program does not know.
pub(super) fn version(rows: &Rows) -> Result<u32, Error> {
    let bytes = rows.setting(SETTING_VERSION)?.unwrap_or_default();
    let found = u32::from_be_bytes(bytes.try_into().map_err(|_| Error::corrupt(SETTINGS, SETTING_VERSION))?);
    if (1..=VERSION).contains(&found) { Ok(found) } else { Err(Error::Schema { found, known: VERSION }) }
}

/// Upgrades a database of an earlier version.
pub(super) fn migrate(tx: &mut WriteTx, now: Timestamp) -> Result<(), Error> {
    let found = version(tx)?;
    create_tables(tx)?;
    if found < 2 {
        tx.begin_spans()?;
    }
    if found < 3 {
        tx.index_unreferenced(SteadyTime::beginning(now))?;
    }
    if found < 6 {
        tx.set_setting(SETTING_PULLS_KNOWN_SINCE, &now.micros().to_be_bytes())?;
        // `identity::accounts` knows which namespace belongs to a name, and does the rest.
        tx.set_setting(SETTING_OWNERS_UNKNOWN, &[])?;
        tx.set_setting(SETTING_FILE_OWNERS_UNKNOWN, &[])?;
    }
    tx.set_setting(SETTING_VERSION, &VERSION.to_be_bytes())
}
