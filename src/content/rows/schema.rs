//! Every table, with the meaning of its key and value; and the version of them all together.
//!
//! Digests in keys are [`Digest::key`](crate::oci::Digest). Values named as a row are in the form
//! of [`super::codec`].

use redb::{Key, ReadableTable, TableDefinition, TableHandle as _, Value};

use super::{Error, ReadTx, WriteTx};
use crate::kit::clock::{SteadyTime, Timestamp};

/// The version this program writes. A change of a table's meaning raises it, and comes with a
/// migration from the version before.
pub(super) const VERSION: u32 = 6;

/// The setting that exists from an upgrade to version 6 until the users of the own table have their namespaces.
pub(crate) const SETTING_OWNERS_UNKNOWN: &str = "owners unknown";
/// The same for the users of the htpasswd file.
pub(crate) const SETTING_FILE_OWNERS_UNKNOWN: &str = "owners of the htpasswd file unknown";
/// The setting that holds the version, as four big-endian bytes.
pub(super) const SETTING_VERSION: &str = "schema version";
/// The setting that holds the secret upload ids are bound to their repository with.
pub(crate) const SETTING_UPLOAD_KEY: &str = "upload key";
/// The setting that holds the secret CSRF tokens are made with.
pub(crate) const SETTING_CSRF_KEY: &str = "csrf key";

/// The setting that holds the secret which marks of passwords are made with.
pub(crate) const SETTING_STAMP_KEY: &str = "stamp key";
/// The setting that holds the secret which sign-ins through providers are signed and sealed with.
pub(crate) const SETTING_PROVIDER_KEY: &str = "provider key";
/// The setting that holds which journal belongs to the database; see [`super::journal`].
pub(super) const SETTING_JOURNAL: &str = "journal";
/// The setting that holds the number of the last change of content, as eight big-endian bytes.
pub(super) const SETTING_JOURNAL_NUMBER: &str = "journal number";

/// The setting that says that the layers of foreign types of all manifests are in `listings`: one byte, 1. A database
/// that an earlier program has filled gets it when they were looked through.
pub(crate) const SETTING_OPTIONAL_LISTED: &str = "optional layers listed";

/// The setting that holds a [`SteadyClockRow`](super::SteadyClockRow).
pub(super) const SETTING_STEADY_CLOCK: &str = "steady clock";
/// The setting that holds a list of [`RestingUpload`](super::RestingUpload).
pub(super) const SETTING_RESTING_UPLOADS: &str = "resting uploads";

/// Name → value, for what there is one of.
pub(super) const SETTINGS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("settings");
/// Name → [`RepositoryRow`](super::RepositoryRow). A repository exists while it has content.
pub(super) const REPOSITORIES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("repositories");
/// Digest → [`BlobRow`](super::BlobRow). The row implies the file.
pub(super) const BLOBS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("blobs");
/// (digest, repository) → [`LinkRow`](super::LinkRow): the repository may serve the blob. The
/// digest comes first so that all repositories with a blob are neighbours.
pub(super) const LINKS: TableDefinition<'_, (&[u8], &str), &[u8]> = TableDefinition::new("links");
/// (repository, digest) → [`ManifestRow`](super::ManifestRow).
pub(super) const MANIFESTS: TableDefinition<'_, (&str, &[u8]), &[u8]> = TableDefinition::new("manifests");
/// (repository, digest) → the manifest's bytes as they were pushed.
pub(super) const MANIFEST_BYTES: TableDefinition<'_, (&str, &[u8]), &[u8]> = TableDefinition::new("manifest bytes");
/// (repository, tag) → [`TagRow`](super::TagRow).
pub(super) const TAGS: TableDefinition<'_, (&str, &str), &[u8]> = TableDefinition::new("tags");
/// (repository, digest, tag): the tags of a manifest.
pub(super) const TAGS_OF: TableDefinition<'_, (&str, &[u8], &str), ()> = TableDefinition::new("tags of manifests");
/// (repository, subject, artifact type, digest) → the descriptor as JSON. The type comes before the
/// digest so that a filtered list is one range as well; it is empty for a referrer without one.
pub(super) const REFERRERS: TableDefinition<'_, ReferrerKey<'_>, &[u8]> = TableDefinition::new("referrers");
pub(super) type ReferrerKey<'a> = (&'a str, &'a [u8], &'a str, &'a [u8]);
/// (repository, listed digest, manifest): the manifest names the digest, whether or not that is here. The manifest is
/// an index that lists it, or an image with it as a layer of a type that need not be here.
pub(super) const LISTINGS: TableDefinition<'_, (&str, &[u8], &[u8]), ()> = TableDefinition::new("listings");
/// User name → [`UserRow`](super::UserRow).
pub(super) const USERS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("users");

/// SHA-256 of an API key → [`KeyRow`](super::KeyRow).
pub(super) const KEYS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("keys");
/// (owner, microseconds of creation, id) → the key's hash.
pub(super) const KEYS_OF: TableDefinition<'_, (&str, u64, u128), &[u8]> = TableDefinition::new("keys of users");
/// SHA-256 of a session's cookie → [`SessionRow`](super::SessionRow).
pub(super) const SESSIONS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("sessions");
/// (user, microseconds of creation, id) → the session's hash.
pub(super) const SESSIONS_OF: TableDefinition<'_, (&str, u64, u128), &[u8]> = TableDefinition::new("sessions of users");
/// (microseconds, number within them) → [`AuditRow`](super::AuditRow).
pub(super) const AUDIT: TableDefinition<'_, (u64, u32), &[u8]> = TableDefinition::new("audit");

/// Name → [`SettingsRow`](super::SettingsRow), of repositories that somebody has said something about.
pub(super) const SETTINGS_OF: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("settings of repositories");
/// (repository, kind of grantee, name) → [`Role`](super::Role) as a row.
pub(super) const PERMISSIONS: TableDefinition<'_, (&str, u8, &str), &[u8]> = TableDefinition::new("permissions");
/// (kind of grantee, name, repository): the same from the other side.
pub(super) const PERMISSIONS_OF: TableDefinition<'_, (u8, &str, &str), ()> =
    TableDefinition::new("permissions of grantees");
/// Name → [`GroupRow`](super::GroupRow), of groups that somebody has said something about. Who is in a group
/// stands in the users' rows.
pub(super) const GROUPS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("groups");
/// (repository, tag, microseconds at which it came to point there, number within them) →
/// [`PastRow`](super::PastRow): what tags pointed at before.
pub(super) const PAST_TAGS: TableDefinition<'_, (&str, &str, u64, u32), &[u8]> = TableDefinition::new("past tags");
/// (steady time at which it ceased to, repository, tag, the rest of the key in `past tags`): what is forgotten first.
pub(super) const ENDED_TAGS: TableDefinition<'_, (u64, &str, &str, u64, u32), ()> = TableDefinition::new("ended tags");
/// (repository, microseconds at which it came to point there, tag, number within them, or the largest for where
/// the tag points now) → steady time at which it ceased to, or the largest number: the history in its order.
pub(super) const TAG_STARTS: TableDefinition<'_, (&str, u64, &str, u32), u64> = TableDefinition::new("starts of tags");
/// (repository, tag) → [`TagMark`](super::TagMark), of tags of which there is more to know.
pub(super) const TAG_MARKS: TableDefinition<'_, (&str, &str), &[u8]> = TableDefinition::new("marks of tags");
/// (microseconds, repository, tag): the tags that are to be removed, and when.
pub(super) const EXPIRING_TAGS: TableDefinition<'_, (u64, &str, &str), ()> = TableDefinition::new("expiring tags");
/// Key id → [`SigningRow`](super::SigningRow): what tokens are signed with.
pub(super) const SIGNING_KEYS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("signing keys");
/// SHA-256 of a refresh token → [`RefreshRow`](super::RefreshRow).
pub(super) const REFRESH_TOKENS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("refresh tokens");
/// (user, microseconds of creation, id) → the refresh token's hash.
pub(super) const REFRESH_TOKENS_OF: TableDefinition<'_, (&str, u64, u128), &[u8]> =
    TableDefinition::new("refresh tokens of users");

/// (repository, digest): the same links as in `links` from the other side.
pub(super) const LINKS_OF: TableDefinition<'_, (&str, &[u8]), ()> = TableDefinition::new("links of repositories");
/// (repository, digest, tag, the rest of the key in `past tags`): which manifests tags pointed at before.
pub(super) const PAST_OF: TableDefinition<'_, (&str, &[u8], &str, u64, u32), ()> =
    TableDefinition::new("past tags of manifests");
/// (repository, [`Unreferenced`](super::Unreferenced), digest) → steady time since when.
pub(super) const UNREFERENCED: TableDefinition<'_, (&str, u8, &[u8]), u64> = TableDefinition::new("unneeded");
/// (steady time, repository, [`Unreferenced`](super::Unreferenced), digest): the same in the order of time.
pub(super) const UNREFERENCED_SINCE: TableDefinition<'_, (u64, &str, u8, &[u8]), ()> =
    TableDefinition::new("unneeded since");
/// (repository, digest) → [`ManifestRow`](super::ManifestRow), of manifests that were deleted by digest and can be
/// restored. Their bytes are in `manifest bytes` still, and `listings` has everything that they reference. They stay
/// as long as `past tags` has a span of them: one is under their digest in place of a tag.
pub(super) const DELETED_MANIFESTS: TableDefinition<'_, (&str, &[u8]), &[u8]> =
    TableDefinition::new("deleted manifests");
/// Digest: blobs without a row whose files may still be there.
pub(super) const ORPHANS: TableDefinition<'_, &[u8], ()> = TableDefinition::new("orphans");
/// Digest → [`FileRow`](super::FileRow), of blobs that were pushed or hashed since there are such rows.
pub(super) const FILES: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("files");
/// Digest → [`DamageRow`](super::DamageRow), of blobs whose files are not what they should be.
pub(super) const DAMAGED: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("damaged blobs");

/// (issuer, subject) → the name of the user whom a provider means by it.
pub(super) const IDENTITIES: TableDefinition<'_, (&str, &str), &str> = TableDefinition::new("identities");
/// User name → [`FederatedUserRow`](super::FederatedUserRow), of users who come from providers.
pub(super) const FEDERATED_USERS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("users of providers");
/// User name → by what the provider can be asked again, sealed.
pub(super) const FEDERATED_TOKENS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("tokens of providers");

/// Namespace → the name of the user who owns it.
pub(super) const NAMESPACES: TableDefinition<'_, &str, &str> = TableDefinition::new("namespaces");
/// User name → the namespace that the user owns: the same from the other side.
pub(super) const NAMESPACES_OF: TableDefinition<'_, &str, &str> = TableDefinition::new("namespaces of users");
/// (e-mail address in lower case, user name): the users of the own table by their addresses.
pub(super) const ADDRESSES: TableDefinition<'_, (&str, &str), ()> = TableDefinition::new("addresses of users");
/// User name → [`FileUserRow`](super::FileUserRow), of users that the htpasswd file had when it was last read.
pub(super) const FILE_USERS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("users of the htpasswd file");

/// Whatever tables can be read from: a view, or a change in the making.
pub(crate) trait Source {
    type Table<'a, K: Key + 'static, V: Value + 'static>: ReadableTable<K, V>
    where
        Self: 'a;

    fn table<K: Key + 'static, V: Value + 'static>(
        &self,
        definition: TableDefinition<'_, K, V>,
    ) -> Result<Self::Table<'_, K, V>, Error>;

    /// The value of a setting.
    fn setting(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.table(SETTINGS)?.get(name)?.map(|value| value.value().to_vec()))
    }
}

impl Source for ReadTx {
    type Table<'a, K: Key + 'static, V: Value + 'static> = redb::ReadOnlyTable<K, V>;

    fn table<K: Key + 'static, V: Value + 'static>(
        &self,
        definition: TableDefinition<'_, K, V>,
    ) -> Result<Self::Table<'_, K, V>, Error> {
        Ok(self.0.open_table(definition)?)
    }
}

impl Source for WriteTx {
    type Table<'a, K: Key + 'static, V: Value + 'static> = redb::Table<'a, K, V>;

    fn table<K: Key + 'static, V: Value + 'static>(
        &self,
        definition: TableDefinition<'_, K, V>,
    ) -> Result<Self::Table<'_, K, V>, Error> {
        Ok(self.transaction.open_table(definition)?)
    }
}

impl WriteTx {
    /// A table to change. The only way to one, so that it is known whether anything was changed.
    pub(super) fn table_mut<K: Key + 'static, V: Value + 'static>(
        &mut self,
        definition: TableDefinition<'_, K, V>,
    ) -> Result<redb::Table<'_, K, V>, Error> {
        self.changed = true;
        Ok(self.transaction.open_table(definition)?)
    }

    /// Removes a setting.
    pub(crate) fn remove_setting(&mut self, name: &str) -> Result<(), Error> {
        self.table_mut(SETTINGS)?.remove(name)?;
        Ok(())
    }

    /// Sets the value of a setting.
    pub(crate) fn set_setting(&mut self, name: &str, value: &[u8]) -> Result<(), Error> {
        self.table_mut(SETTINGS)?.insert(name, value)?;
        Ok(())
    }
}

/// Makes every table, so that no later read has to ask whether one exists.
pub(super) fn create(tx: &mut WriteTx) -> Result<(), Error> {
    tx.table_mut(REPOSITORIES)?;
    tx.table_mut(BLOBS)?;
    tx.table_mut(LINKS)?;
    tx.table_mut(MANIFESTS)?;
    tx.table_mut(MANIFEST_BYTES)?;
    tx.table_mut(TAGS)?;
    tx.table_mut(TAGS_OF)?;
    tx.table_mut(REFERRERS)?;
    tx.table_mut(LISTINGS)?;
    tx.table_mut(USERS)?;
    tx.table_mut(KEYS)?;
    tx.table_mut(KEYS_OF)?;
    tx.table_mut(SESSIONS)?;
    tx.table_mut(SESSIONS_OF)?;
    tx.table_mut(AUDIT)?;
    second(tx)?;
    third(tx)?;
    fourth(tx)?;
    fifth(tx)?;
    add_tables(tx)?;
    tx.set_setting(SETTING_OPTIONAL_LISTED, &[1])?;
    sixth(tx)?;
    tx.set_setting(SETTING_VERSION, &VERSION.to_be_bytes())
}

/// Tables that were added without a new version: a program that does not know them works without them.
pub(super) fn add_tables(tx: &mut WriteTx) -> Result<(), Error> {
    tx.table_mut(DELETED_MANIFESTS)?;
    Ok(())
}

/// Whether [`add_tables`] was done.
pub(super) fn has_all_tables(tx: &ReadTx) -> Result<bool, Error> {
    Ok(tx.0.list_tables()?.any(|table| table.name() == DELETED_MANIFESTS.name()))
}

/// What version 6 has added.
fn sixth(tx: &mut WriteTx) -> Result<(), Error> {
    tx.table_mut(NAMESPACES)?;
    tx.table_mut(NAMESPACES_OF)?;
    tx.table_mut(ADDRESSES)?;
    tx.table_mut(FILE_USERS)?;
    Ok(())
}

/// What version 5 has added.
fn fifth(tx: &mut WriteTx) -> Result<(), Error> {
    tx.table_mut(IDENTITIES)?;
    tx.table_mut(FEDERATED_USERS)?;
    tx.table_mut(FEDERATED_TOKENS)?;
    Ok(())
}

/// What version 4 has added.
fn fourth(tx: &mut WriteTx) -> Result<(), Error> {
    tx.table_mut(FILES)?;
    tx.table_mut(DAMAGED)?;
    Ok(())
}

/// What version 3 has added.
fn third(tx: &mut WriteTx) -> Result<(), Error> {
    tx.table_mut(LINKS_OF)?;
    tx.table_mut(PAST_OF)?;
    tx.table_mut(UNREFERENCED)?;
    tx.table_mut(UNREFERENCED_SINCE)?;
    tx.table_mut(ORPHANS)?;
    Ok(())
}

/// What version 2 has added.
fn second(tx: &mut WriteTx) -> Result<(), Error> {
    tx.table_mut(SETTINGS_OF)?;
    tx.table_mut(PERMISSIONS)?;
    tx.table_mut(PERMISSIONS_OF)?;
    tx.table_mut(GROUPS)?;
    tx.table_mut(PAST_TAGS)?;
    tx.table_mut(ENDED_TAGS)?;
    tx.table_mut(TAG_STARTS)?;
    tx.table_mut(TAG_MARKS)?;
    tx.table_mut(EXPIRING_TAGS)?;
    tx.table_mut(SIGNING_KEYS)?;
    tx.table_mut(REFRESH_TOKENS)?;
    tx.table_mut(REFRESH_TOKENS_OF)?;
    Ok(())
}

/// The version that has written a database; one that this program does not know is refused.
pub(super) fn version(tx: &impl Source) -> Result<u32, Error> {
    let bytes = tx.setting(SETTING_VERSION)?.unwrap_or_default();
    let corrupt = || Error::Corrupt { table: "settings", key: SETTING_VERSION.to_owned() };
    let found = u32::from_be_bytes(bytes.try_into().map_err(|_| corrupt())?);
    if (1..=VERSION).contains(&found) { Ok(found) } else { Err(Error::Schema { found, known: VERSION }) }
}

/// Brings a database of an earlier version up to this one, in the transaction of `tx`.
pub(super) fn migrate(tx: &mut WriteTx, now: Timestamp) -> Result<(), Error> {
    let found = version(tx)?;
    if found < 2 {
        second(tx)?;
        tx.begin_spans()?;
    }
    if found < 3 {
        third(tx)?;
        tx.find_garbage(SteadyTime::beginning(now))?;
    }
    if found < 4 {
        fourth(tx)?;
    }
    if found < 5 {
        fifth(tx)?;
    }
    add_tables(tx)?;
    if found < 6 {
        sixth(tx)?;
        // Which namespace a name stands for is not for this layer to say.
        tx.set_setting(SETTING_OWNERS_UNKNOWN, &[])?;
        tx.set_setting(SETTING_FILE_OWNERS_UNKNOWN, &[])?;
    }
    tx.set_setting(SETTING_VERSION, &VERSION.to_be_bytes())
}
