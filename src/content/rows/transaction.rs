//! [`Rows`]: what a transaction shows; and [`WriteTx`], which changes it.

use std::borrow::Borrow;
use std::fmt::Display;
use std::ops::{ControlFlow, Deref, RangeBounds};

use redb::{AccessGuard, Durability, Key, Range, ReadableTable as _, TableDefinition, TableHandle as _, Value};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::audit::AuditRow;
use super::event::NewEvents;
use super::journal::Records;
use super::schema::SETTINGS;
use super::wal::Operations;
use super::{Error, codec};
use crate::kit::clock::Timestamp;

/// The name of a table and the types of its keys and values.
pub(super) type Definition<K, V> = &'static TableDefinition<'static, K, V>;

/// A consistent view of all rows. The view of a write transaction includes its own changes.
pub(crate) struct Rows(Transaction);

enum Transaction {
    Read(redb::ReadTransaction),
    Write(Box<redb::WriteTransaction>),
}

/// A write transaction.
pub(crate) struct WriteTx {
    rows: Rows,
    /// Whether the running change has written anything.
    pub(super) changed: bool,
    /// The audit rows that the running change has added.
    pub(super) audited: Vec<(Timestamp, AuditRow)>,
    /// The events of the running change, if there are sinks.
    pub(super) events: Option<NewEvents>,
    /// The records for the journal, if there is one.
    pub(super) records: Option<Records>,
    /// All writes, if there is a write-ahead log.
    pub(super) operations: Option<Operations>,
    /// The epoch of totals, once it was read; see [`super::totals`].
    pub(super) epoch: Option<u32>,
    /// Whether the use of namespaces is kept, once it was read; see [`super::usage`].
    pub(super) usage: Option<bool>,
}

/// A table that is written. It passes every write on to the write-ahead log.
pub(super) struct TableMut<'a, K: Key + 'static, V: Value + 'static> {
    table: redb::Table<'a, K, V>,
    name: &'static str,
    operations: Option<&'a mut Operations>,
}

/// A table that is read.
pub(super) enum Table<'a, K: Key + 'static, V: Value + 'static> {
    Read(redb::ReadOnlyTable<K, V>),
    Write(redb::Table<'a, K, V>),
}

impl Rows {
    pub(super) const fn new(transaction: redb::ReadTransaction) -> Self {
        Self(Transaction::Read(transaction))
    }

    /// The transaction of redb, for tests that look at tables by redb's own list.
    #[cfg(test)]
    pub(super) fn read_transaction(&self) -> &redb::ReadTransaction {
        match &self.0 {
            Transaction::Read(transaction) => transaction,
            Transaction::Write(_) => panic!("these are the rows of a write transaction"),
        }
    }

    pub(super) fn table<K: Key + 'static, V: Value + 'static>(
        &self,
        definition: Definition<K, V>,
    ) -> Result<Table<'_, K, V>, Error> {
        Ok(match &self.0 {
            Transaction::Read(transaction) => Table::Read(transaction.open_table(*definition)?),
            Transaction::Write(transaction) => Table::Write(transaction.open_table(*definition)?),
        })
    }

    fn write_transaction(&self) -> &redb::WriteTransaction {
        match &self.0 {
            Transaction::Write(transaction) => transaction,
            Transaction::Read(_) => unreachable!("a `WriteTx` is made of a write transaction"),
        }
    }

    /// The names of all tables in the database.
    pub(super) fn table_names(&self) -> Result<Vec<String>, Error> {
        let owned = |table: redb::UntypedTableHandle| table.name().to_owned();
        Ok(match &self.0 {
            Transaction::Read(transaction) => transaction.list_tables()?.map(owned).collect(),
            Transaction::Write(transaction) => transaction.list_tables()?.map(owned).collect(),
        })
    }

    /// Decodes the row under a key. An error names the key as `name`.
    pub(super) fn row<'k, K: Key + 'static, R: DeserializeOwned>(
        &self,
        definition: Definition<K, &'static [u8]>,
        key: impl Borrow<K::SelfType<'k>>,
        name: impl Display,
    ) -> Result<Option<R>, Error> {
        self.get(definition, key, |row| codec::row(definition, row, name))?.transpose()
    }

    /// Converts the value under a key, if there is one.
    pub(super) fn get<'k, K: Key + 'static, V: Value + 'static, T>(
        &self,
        definition: Definition<K, V>,
        key: impl Borrow<K::SelfType<'k>>,
        convert: impl FnOnce(V::SelfType<'_>) -> T,
    ) -> Result<Option<T>, Error> {
        let table = self.table(definition)?;
        Ok(table.get(key)?.map(|value| convert(value.value())))
    }

    /// Whether a table has a key.
    pub(super) fn has<'k, K: Key + 'static, V: Value + 'static>(
        &self,
        definition: Definition<K, V>,
        key: impl Borrow<K::SelfType<'k>>,
    ) -> Result<bool, Error> {
        Ok(self.get(definition, key, |_| ())?.is_some())
    }

    /// Decodes all rows of a table, each with its key.
    pub(super) fn named_rows<R: DeserializeOwned>(
        &self,
        definition: Definition<&'static str, &'static [u8]>,
    ) -> Result<Vec<(String, R)>, Error> {
        self.table(definition)?
            .collect(.., usize::MAX, |name, row| Ok(Some((name.to_owned(), codec::row(definition, row, name)?))))
    }

    /// The value of a setting.
    pub(crate) fn setting(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        self.get(SETTINGS, name, <[u8]>::to_vec)
    }
}

/// A key and a value of a table.
type Entry<'a, K, V> = (AccessGuard<'a, K>, AccessGuard<'a, V>);

impl<K: Key + 'static, V: Value + 'static> Table<'_, K, V> {
    pub(super) fn get<'k>(&self, key: impl Borrow<K::SelfType<'k>>) -> Result<Option<AccessGuard<'_, V>>, Error> {
        Ok(match self {
            Self::Read(table) => table.get(key)?,
            Self::Write(table) => table.get(key)?,
        })
    }

    pub(super) fn range<'k>(&self, range: impl RangeBounds<K::SelfType<'k>> + 'k) -> Result<Range<'_, K, V>, Error> {
        Ok(match self {
            Self::Read(table) => redb::ReadableTable::range(table, range)?,
            Self::Write(table) => table.range(range)?,
        })
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> Result<u64, Error> {
        Ok(match self {
            Self::Read(table) => redb::ReadableTableMetadata::len(table)?,
            Self::Write(table) => redb::ReadableTableMetadata::len(table)?,
        })
    }

    pub(super) fn first(&self) -> Result<Option<Entry<'_, K, V>>, Error> {
        Ok(self.range(..)?.next().transpose()?)
    }

    pub(super) fn last(&self) -> Result<Option<Entry<'_, K, V>>, Error> {
        Ok(self.range(..)?.next_back().transpose()?)
    }

    /// Visits the rows of a range in order, until `visit` breaks.
    pub(super) fn each<'k>(
        &self,
        range: impl RangeBounds<K::SelfType<'k>> + 'k,
        mut visit: impl FnMut(K::SelfType<'_>, V::SelfType<'_>) -> Result<ControlFlow<()>, Error>,
    ) -> Result<(), Error> {
        for row in self.range(range)? {
            let (key, value) = row?;
            if visit(key.value(), value.value())?.is_break() {
                break;
            }
        }
        Ok(())
    }

    /// Converts at most `limit` rows of a range, in order. Ends at the first one that `convert` returns `None` for: its
    /// key does not have the wanted prefix.
    pub(super) fn collect<'k, T>(
        &self,
        range: impl RangeBounds<K::SelfType<'k>> + 'k,
        limit: usize,
        mut convert: impl FnMut(K::SelfType<'_>, V::SelfType<'_>) -> Result<Option<T>, Error>,
    ) -> Result<Vec<T>, Error> {
        let mut converted = Vec::new();
        for row in self.range(range)?.take(limit) {
            let (key, value) = row?;
            let Some(value) = convert(key.value(), value.value())? else { break };
            converted.push(value);
        }
        Ok(converted)
    }
}

impl WriteTx {
    pub(super) fn new(transaction: redb::WriteTransaction) -> Self {
        let rows = Rows(Transaction::Write(Box::new(transaction)));
        Self {
            rows,
            changed: false,
            audited: Vec::new(),
            events: None,
            records: None,
            operations: None,
            epoch: None,
            usage: None,
        }
    }

    /// Opens a table for writing. Nothing else does, so `changed` is complete.
    pub(super) fn table_mut<K: Key + 'static, V: Value + 'static>(
        &mut self,
        definition: Definition<K, V>,
    ) -> Result<TableMut<'_, K, V>, Error> {
        let Self { rows, changed, operations, .. } = self;
        *changed = true;
        let table = rows.write_transaction().open_table(*definition)?;
        Ok(TableMut { table, name: definition.name(), operations: operations.as_mut() })
    }

    /// The transaction of redb. The write-ahead log does not get what is written through it: that is for a database under
    /// its temporary name.
    pub(super) fn unlogged(&self) -> &redb::WriteTransaction {
        self.rows.write_transaction()
    }

    pub(super) fn insert<'k, 'v, K: Key + 'static, V: Value + 'static>(
        &mut self,
        definition: Definition<K, V>,
        key: impl Borrow<K::SelfType<'k>>,
        value: impl Borrow<V::SelfType<'v>>,
    ) -> Result<(), Error> {
        self.table_mut(definition)?.insert(key, value)
    }

    /// Encodes a row and writes it under a key.
    pub(super) fn insert_row<'k, K: Key + 'static>(
        &mut self,
        definition: Definition<K, &'static [u8]>,
        key: impl Borrow<K::SelfType<'k>>,
        row: &impl Serialize,
    ) -> Result<(), Error> {
        self.insert(definition, key, codec::encode(row).as_slice())
    }

    pub(super) fn remove<'k, K: Key + 'static, V: Value + 'static>(
        &mut self,
        definition: Definition<K, V>,
        key: impl Borrow<K::SelfType<'k>>,
    ) -> Result<(), Error> {
        self.table_mut(definition)?.remove(key)
    }

    /// Sets the value of a setting.
    pub(crate) fn set_setting(&mut self, name: &str, value: &[u8]) -> Result<(), Error> {
        self.insert(SETTINGS, name, value)
    }

    /// Removes a setting.
    pub(crate) fn remove_setting(&mut self, name: &str) -> Result<(), Error> {
        self.remove(SETTINGS, name)
    }

    /// Commits the transaction. If it is durable, so are all transactions before it.
    pub(super) fn commit(self, is_durable: bool) -> Result<(), Error> {
        let mut transaction = self.into_inner();
        transaction.set_durability(if is_durable { Durability::Immediate } else { Durability::None })?;
        // Without quick repair, a start after a crash walks the whole database.
        transaction.set_quick_repair(is_durable);
        Ok(transaction.commit()?)
    }

    pub(super) fn abort(self) -> Result<(), Error> {
        Ok(self.into_inner().abort()?)
    }

    fn into_inner(self) -> redb::WriteTransaction {
        match self.rows.0 {
            Transaction::Write(transaction) => *transaction,
            Transaction::Read(_) => unreachable!("a `WriteTx` is made of a write transaction"),
        }
    }
}

impl<K: Key + 'static, V: Value + 'static> TableMut<'_, K, V> {
    pub(super) fn insert<'k, 'v>(
        &mut self,
        key: impl Borrow<K::SelfType<'k>>,
        value: impl Borrow<V::SelfType<'v>>,
    ) -> Result<(), Error> {
        if let Some(operations) = &mut self.operations {
            let (key, value) = (K::as_bytes(key.borrow()), V::as_bytes(value.borrow()));
            operations.add(self.name, key.as_ref(), Some(value.as_ref()));
        }
        self.table.insert(key, value)?;
        Ok(())
    }

    pub(super) fn remove<'k>(&mut self, key: impl Borrow<K::SelfType<'k>>) -> Result<(), Error> {
        if let Some(operations) = &mut self.operations {
            operations.add(self.name, K::as_bytes(key.borrow()).as_ref(), None);
        }
        self.table.remove(key)?;
        Ok(())
    }
}

impl<'a, K: Key + 'static, V: Value + 'static> Deref for TableMut<'a, K, V> {
    type Target = redb::Table<'a, K, V>;

    fn deref(&self) -> &Self::Target {
        &self.table
    }
}

impl Deref for WriteTx {
    type Target = Rows;

    fn deref(&self) -> &Rows {
        &self.rows
    }
}
