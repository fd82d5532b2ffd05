//! A copy has every row of every table, except those that it must leave out.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::collections::BTreeMap;

use redb::{ReadableTableMetadata as _, TableDefinition};

use super::*;
use crate::content::blobs::{FaultyDisk, Operation, SystemDisk};

/// Puts rows into every table.
struct Filling<'a>(&'a WriteTx);

impl Visitor for Filling<'_> {
    fn table<K: Key + 'static, V: Value + 'static>(&mut self, definition: Definition<K, V>) -> Result<(), Error> {
        let mut table = self.0.unlogged().open_table(*definition)?;
        for number in 0..3_u8 {
            let (key, value) = (example(&K::type_name(), number), example(&V::type_name(), number));
            table.insert(K::from_bytes(&key), V::from_bytes(&value))?;
        }
        Ok(())
    }
}

/// The encoding of some value of a type of redb.
fn example(name: &redb::TypeName, number: u8) -> Vec<u8> {
    let name = name.name();
    let inner = name.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')).filter(|inner| !inner.is_empty());
    let parts: Vec<&str> = inner.unwrap_or(name).split(',').collect();
    let width = |part: &str| match part {
        "()" => Some(0),
        "u8" => Some(1),
        "u32" => Some(4),
        "u64" => Some(8),
        "u128" => Some(16),
        _ => None,
    };
    let one = |part: &str| match width(part) {
        Some(width) => vec![number; width],
        None => format!("some text {number}").into_bytes(),
    };
    if parts.len() == 1 {
        return one(parts[0]);
    }
    // The lengths of variable fields come first, except that of the last field.
    let mut bytes = Vec::new();
    let fields: Vec<Vec<u8>> = parts.iter().map(|part| one(part)).collect();
    for (part, field) in parts.iter().zip(&fields).take(parts.len() - 1) {
        if width(part).is_none() {
            bytes.push(u8::try_from(field.len()).unwrap());
        }
    }
    bytes.extend(fields.concat());
    bytes
}

/// Key and value, as bytes.
type Row = (Vec<u8>, Vec<u8>);

/// The rows of every table.
type Tables = BTreeMap<String, Vec<Row>>;

struct Reading<'a>(&'a Rows, Tables);

impl Visitor for Reading<'_> {
    fn table<K: Key + 'static, V: Value + 'static>(&mut self, definition: Definition<K, V>) -> Result<(), Error> {
        let rows = self.0.table(definition)?.collect(.., usize::MAX, |key, value| {
            Ok(Some((K::as_bytes(&key).as_ref().to_vec(), V::as_bytes(&value).as_ref().to_vec())))
        })?;
        self.1.insert(definition.name().to_owned(), rows);
        Ok(())
    }
}

fn read(rows: &Rows) -> Result<Tables, Error> {
    let mut reading = Reading(rows, Tables::new());
    each_table(&mut reading)?;
    Ok(reading.1)
}

/// The number of rows of each table, by redb's own list.
fn listed(tx: &Rows) -> Result<BTreeMap<String, u64>, Error> {
    let mut listed = BTreeMap::new();
    let transaction = tx.read_transaction();
    for table in transaction.list_tables()? {
        let name = table.name().to_owned();
        listed.insert(name, transaction.open_untyped_table(table)?.len()?);
    }
    Ok(listed)
}

fn never(_: Duration) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

struct Directory {
    _directory: tempfile::TempDir,
    tree: Tree,
}

fn directory() -> Directory {
    let directory = tempfile::tempdir().unwrap();
    let tree = Tree::new(directory.path());
    Directory { _directory: directory, tree }
}

fn disk() -> Arc<dyn Disk> {
    Arc::new(SystemDisk)
}

fn filled(tree: &Tree) -> Database {
    let database = Database::open(tree, disk(), false).unwrap();
    database
        .write(|tx| {
            tx.changed = true;
            each_table(&mut Filling(tx))?;
            for setting in [schema::SETTING_CSRF_KEY, schema::SETTING_JOURNAL] {
                tx.set_setting(setting, b"secret")?;
            }
            // Rows larger than a page, and more than one batch of them.
            let mut bytes = tx.table_mut(schema::MANIFEST_BYTES)?;
            for number in 0..40_u8 {
                bytes.insert(("large", &[number][..]), vec![number; 300_000].as_slice())?;
            }
            Ok::<_, Error>(())
        })
        .unwrap();
    database
}

#[test]
fn a_copy_has_every_row_of_every_table() {
    let (from, to) = (directory(), directory());
    let database = filled(&from.tree);
    let mut steps = 0;
    let mut pause = |_| {
        steps += 1;
        ControlFlow::Continue(())
    };
    database.copy(&to.tree, &disk(), Extent::All, &mut pause).unwrap();
    assert!(steps > 2, "12 MB were copied in {steps} steps");
    assert!(!to.tree.database().exists(), "the copy has its name only when it is installed");
    install(&to.tree, &SystemDisk).unwrap();

    let copy = ReadOnlyDatabase::open(&to.tree, &to.tree.database(), disk()).unwrap();
    let (rows, copied) = (database.read(read).unwrap(), copy.read(read).unwrap());
    assert_eq!(copied, rows);
    // A table that is missing in `each_table` is in redb's list.
    let (tables, tables_copied) = (database.read(listed).unwrap(), copy.read(listed).unwrap());
    assert_eq!(tables_copied, tables);
    assert!(tables.values().all(|rows| *rows > 0), "a table has no rows: {tables:?}");
}

#[test]
fn a_copy_without_sessions_has_no_sessions_and_secrets() {
    let (from, to) = (directory(), directory());
    let database = filled(&from.tree);
    database.copy(&to.tree, &disk(), Extent::WithoutSessions, &mut never).unwrap();
    let copy = ReadOnlyDatabase::open(&to.tree, &to.tree.new_database(), disk()).unwrap();
    let (rows, copied) = (database.read(read).unwrap(), copy.read(read).unwrap());
    for (table, rows) in rows {
        if SESSION_TABLES.contains(&table.as_str()) {
            assert!(copied[&table].is_empty(), "{table}");
        } else if table == "settings" {
            let secrets = rows.iter().filter(|(_, value)| value == b"secret").count();
            assert_eq!((secrets, copied[&table].len()), (2, rows.len() - 2));
        } else {
            assert_eq!(copied[&table], rows, "{table}");
        }
    }
}

#[test]
fn a_table_that_is_not_in_the_list_is_not_left_out_silently() {
    const UNLISTED: Definition<&str, &str> = &TableDefinition::new("of a later time");
    let (from, to) = (directory(), directory());
    let database = filled(&from.tree);
    database
        .write(move |tx| {
            tx.table_mut(UNLISTED)?.insert("a", "b")?;
            Ok::<_, Error>(())
        })
        .unwrap();
    let refused = database.copy(&to.tree, &disk(), Extent::All, &mut never).unwrap_err();
    assert!(refused.to_string().contains("of a later time"), "{refused}");
}

#[test]
fn a_copy_that_is_cancelled_or_fails_does_not_become_the_database() {
    let (from, to) = (directory(), directory());
    let database = filled(&from.tree);
    let cancelled = database.copy(&to.tree, &disk(), Extent::All, &mut |_| ControlFlow::Break(()));
    assert!(matches!(cancelled, Err(Error::Cancelled)));
    assert!(!to.tree.database().exists());

    let faulty = Arc::new(FaultyDisk::default());
    faulty.fail_times(Operation::Sync, 0, usize::MAX, rustix::io::Errno::IO);
    let disk_that_fails: Arc<dyn Disk> = faulty;
    database.copy(&to.tree, &disk_that_fails, Extent::All, &mut never).unwrap_err();
    // The next copy ignores the rest of the failed one.
    database.copy(&to.tree, &disk(), Extent::All, &mut never).unwrap();
    install(&to.tree, &SystemDisk).unwrap();
    drop(Database::open(&to.tree, disk(), true).unwrap());
}
