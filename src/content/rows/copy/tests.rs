//! A copy has every row of every table, and what is to be left out is.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::collections::BTreeMap;

use redb::{ReadableTableMetadata as _, TableDefinition};

use super::*;
use crate::content::blobs::{FaultyDisk, Operation, SystemDisk};

/// Puts rows into every table, larger than one batch altogether.
struct Filling<'a>(&'a WriteTx);

impl Visitor for Filling<'_> {
    fn table<K: Key + 'static, V: Value + 'static>(&mut self, definition: Definition<K, V>) -> Result<(), Error> {
        let mut table = self.0.transaction().open_table(*definition)?;
        for number in 0..3_u8 {
            let (key, value) = (example(&K::type_name(), number), example(&V::type_name(), number));
            table.insert(K::from_bytes(&key), V::from_bytes(&value))?;
        }
        Ok(())
    }
}

/// Bytes that are a value of a type, as redb writes it.
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
    // Lengths of what has no fixed width come first, except for the last.
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
#[derive(Default)]
struct Reading {
    rows: BTreeMap<String, Vec<Row>>,
}

struct ReadingOf<'a>(&'a Rows, Reading);

impl Visitor for ReadingOf<'_> {
    fn table<K: Key + 'static, V: Value + 'static>(&mut self, definition: Definition<K, V>) -> Result<(), Error> {
        let table = self.0.table(definition)?;
        let mut rows = Vec::new();
        for row in table.range(..)? {
            let (key, value) = row?;
            let key = K::as_bytes(&key.value()).as_ref().to_vec();
            rows.push((key, V::as_bytes(&value.value()).as_ref().to_vec()));
        }
        self.1.rows.insert(definition.name().to_owned(), rows);
        Ok(())
    }
}

fn read(tx: &Rows) -> Result<Reading, Error> {
    let mut reading = ReadingOf(tx, Reading::default());
    each_table(&mut reading)?;
    Ok(reading.1)
}

/// By redb's own list: tables, and how many rows each has.
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

struct Place {
    _directory: tempfile::TempDir,
    tree: Tree,
}

fn place() -> Place {
    let directory = tempfile::tempdir().unwrap();
    let tree = Tree::new(directory.path());
    Place { _directory: directory, tree }
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
            // More than one batch of one table, and of rows that are larger than a page.
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
    let (from, to) = (place(), place());
    let database = filled(&from.tree);
    let mut steps = 0;
    let mut pause = |_| {
        steps += 1;
        ControlFlow::Continue(())
    };
    database.copy(&to.tree, &disk(), Extent::All, &mut pause).unwrap();
    assert!(steps > 2, "12 MB were copied in {steps} steps");
    assert!(!to.tree.database().exists(), "it has its name only when it is installed");
    install(&to.tree, &SystemDisk).unwrap();

    let copy = ReadOnlyDatabase::open(&to.tree.database(), disk()).unwrap();
    let (rows, copied) = (database.read(read).unwrap().rows, copy.read(read).unwrap().rows);
    assert_eq!(copied, rows);
    // What each_table does not know, redb does.
    let (tables, tables_copied) = (database.read(listed).unwrap(), copy.read(listed).unwrap());
    assert_eq!(tables_copied, tables);
    assert!(tables.values().all(|rows| *rows > 0), "a table has no rows: {tables:?}");
}

#[test]
fn a_copy_without_sessions_lets_nobody_in_with_them() {
    let (from, to) = (place(), place());
    let database = filled(&from.tree);
    database.copy(&to.tree, &disk(), Extent::WithoutSessions, &mut never).unwrap();
    let copy = ReadOnlyDatabase::open(&to.tree.new_database(), disk()).unwrap();
    let (rows, copied) = (database.read(read).unwrap().rows, copy.read(read).unwrap().rows);
    for (table, rows) in rows {
        if TABLES_OF_SESSIONS.contains(&table.as_str()) {
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
fn a_table_that_nobody_lists_is_not_left_out_silently() {
    const UNLISTED: Definition<&str, &str> = &TableDefinition::new("of a later time");
    let (from, to) = (place(), place());
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
fn a_copy_that_is_broken_off_or_fails_has_no_name_of_a_database() {
    let (from, to) = (place(), place());
    let database = filled(&from.tree);
    let broken_off = database.copy(&to.tree, &disk(), Extent::All, &mut |_| ControlFlow::Break(()));
    assert!(matches!(broken_off, Err(Error::Cancelled)));
    assert!(!to.tree.database().exists());

    let faulty = Arc::new(FaultyDisk::default());
    faulty.fail_times(Operation::Sync, 0, usize::MAX, rustix::io::Errno::IO);
    let disk_that_fails: Arc<dyn Disk> = faulty;
    database.copy(&to.tree, &disk_that_fails, Extent::All, &mut never).unwrap_err();
    // And it is made as if nothing had been there.
    database.copy(&to.tree, &disk(), Extent::All, &mut never).unwrap();
    install(&to.tree, &SystemDisk).unwrap();
    drop(Database::open(&to.tree, disk(), true).unwrap());
}
