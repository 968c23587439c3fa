//! The tables of the journal's file, their versions, and the look at a file before it is opened.
//!
//! Every released form stays here as a step; steps are never edited. A file of a newer form is
//! refused before SQLite touches it; an older one is copied aside, then lifted in one transaction.
//! Invariant: after [`prepare`] the file's tables are letter by letter the ones that the steps
//! make.

use std::path::Path;

use rusqlite::{Connection, TransactionBehavior};

use super::{JournalError, disk};

/// Marks the file as ours, in SQLite's `application_id`: "CtOv".
pub(super) const APPLICATION: i64 = 0x4374_4f76;

/// Step n lifts a file of form n to form n + 1.
const STEPS: [&str; 1] = ["
CREATE TABLE facts (
    app TEXT NOT NULL, seq INTEGER NOT NULL, epoch INTEGER NOT NULL, node TEXT NOT NULL,
    id BLOB NOT NULL, kind TEXT NOT NULL, version INTEGER NOT NULL, time_ms INTEGER NOT NULL,
    actor TEXT NOT NULL, operation INTEGER, bytes BLOB NOT NULL,
    before BLOB NOT NULL, hash BLOB NOT NULL,
    PRIMARY KEY (app, seq)
) STRICT, WITHOUT ROWID;
CREATE TABLE heads (
    app TEXT NOT NULL PRIMARY KEY,
    base_seq INTEGER NOT NULL, base_hash BLOB NOT NULL,
    seq INTEGER NOT NULL, hash BLOB NOT NULL, sum BLOB NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE snapshots (
    app TEXT NOT NULL, seq INTEGER NOT NULL, version INTEGER NOT NULL,
    bytes BLOB NOT NULL, sum BLOB NOT NULL,
    PRIMARY KEY (app, seq)
) STRICT, WITHOUT ROWID;
CREATE TABLE evidence (
    app TEXT NOT NULL, operation INTEGER NOT NULL, weight INTEGER NOT NULL,
    color TEXT NOT NULL, kind TEXT NOT NULL, count INTEGER NOT NULL, sum BLOB NOT NULL,
    PRIMARY KEY (app, operation, weight, color, kind)
) STRICT, WITHOUT ROWID;
CREATE TABLE epochs (
    id INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    epoch INTEGER NOT NULL, node TEXT NOT NULL, pid INTEGER NOT NULL, time_ms INTEGER NOT NULL,
    sum BLOB NOT NULL
) STRICT, WITHOUT ROWID;
"];

/// The form that this program writes.
pub(super) const FORM: u32 = STEPS.len() as u32;

/// What the first bytes of a database file say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// No file, or an empty one.
    Nothing,
    /// A database of this form; 0 when its tables were not made yet.
    Form(u32),
}

/// Reads the form out of the file's first bytes, without SQLite, which might write to it.
pub(super) fn look(path: &Path) -> Result<Found, JournalError> {
    use std::io::Read;
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Found::Nothing),
        Err(error) => return Err(JournalError::io(path, "opening", &error)),
    };
    let kind = file.metadata().map_err(|error| JournalError::io(path, "looking", &error))?;
    if !kind.is_file() {
        let why = "it is not a plain file. Move it away".to_owned();
        return Err(JournalError::Unsafe { path: path.to_owned(), why });
    }
    let mut head = Vec::new();
    file.take(100).read_to_end(&mut head).map_err(|e| JournalError::io(path, "reading", &e))?;
    if head.is_empty() {
        return Ok(Found::Nothing);
    }
    let corrupt =
        |what: &str| JournalError::Corrupt { path: path.to_owned(), what: what.to_owned() };
    if head.len() < 100 || !head.starts_with(b"SQLite format 3\0") {
        return Err(corrupt("its first bytes are not those of a database"));
    }
    // The versions for writing and reading: 1 until the write-ahead file was turned on, then 2.
    if !matches!(head.get(18..20), Some([1, 1] | [2, 2])) {
        return Err(corrupt("its first bytes name no known way of writing it"));
    }
    let number = |at: usize| {
        head.get(at..at + 4)
            .and_then(|bytes| bytes.try_into().ok())
            .map_or(u32::MAX, u32::from_be_bytes)
    };
    let (form, application) = (number(60), number(68));
    if form == 0 && application == 0 {
        return Ok(Found::Form(0));
    }
    if i64::from(application) != APPLICATION {
        return Err(corrupt("it is not marked as a journal of Cutover"));
    }
    if form > FORM {
        let what = format!("form {form}");
        return Err(JournalError::Newer { path: path.to_owned(), what, known: FORM });
    }
    Ok(Found::Form(form))
}

/// Sets the connection up for writing; makes or lifts the tables; checks that they are ours.
pub(super) fn prepare(path: &Path, db: &mut Connection) -> Result<(), JournalError> {
    lift(path, db, &STEPS)?;
    check_tables(path, db, &STEPS)
}

/// Checks that the tables are the ones that the steps make.
pub(super) fn check(path: &Path, db: &Connection) -> Result<(), JournalError> {
    check_tables(path, db, &STEPS)
}

fn lift(path: &Path, db: &mut Connection, steps: &[&str]) -> Result<(), JournalError> {
    let sql = |step| move |error: rusqlite::Error| JournalError::sql(path, step, &error);
    let form: u32 = db
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .map_err(sql("reading the form"))?;
    let target = steps.len();
    let from = usize::try_from(form).unwrap_or(usize::MAX);
    if from >= target {
        return Ok(());
    }
    if from > 0 {
        keep_copy(path, db, form)?;
    }
    let tx = db
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(sql("lifting the tables"))?;
    for step in steps.iter().skip(from) {
        tx.execute_batch(step).map_err(sql("lifting the tables"))?;
    }
    tx.pragma_update(None, "application_id", APPLICATION).map_err(sql("marking the file"))?;
    tx.pragma_update(None, "user_version", target as i64).map_err(sql("marking the file"))?;
    tx.commit().map_err(sql("lifting the tables"))?;
    // The next start reads the form out of the file itself.
    db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
        .map_err(sql("emptying the write-ahead file"))
}

/// Keeps the file as it was, beside it: `journal.db.form1`.
fn keep_copy(path: &Path, db: &Connection, form: u32) -> Result<(), JournalError> {
    let copy = disk::beside(path, &format!(".form{form}"));
    let half = disk::beside(&copy, ".new");
    if copy.exists() {
        return Ok(());
    }
    drop(std::fs::remove_file(&half));
    drop(disk::create_private(&half)?);
    db.execute("VACUUM INTO ?1", [half.to_string_lossy()])
        .map_err(|error| JournalError::sql(&half, "keeping a copy before the lift", &error))?;
    std::fs::File::open(&half)
        .and_then(|file| file.sync_all())
        .and_then(|()| std::fs::rename(&half, &copy))
        .map_err(|error| JournalError::io(&copy, "keeping a copy before the lift", &error))?;
    match copy.parent() {
        Some(folder) => disk::sync_folder(folder),
        None => Ok(()),
    }
}

fn check_tables(path: &Path, db: &Connection, steps: &[&str]) -> Result<(), JournalError> {
    let model = Connection::open_in_memory()
        .and_then(|db| steps.iter().try_for_each(|step| db.execute_batch(step)).map(|()| db))
        .map_err(|error| JournalError::sql(path, "making the tables to compare with", &error))?;
    let wanted = tables(&model).map_err(|e| JournalError::sql(path, "reading the tables", &e))?;
    let found = tables(db).map_err(|e| JournalError::sql(path, "reading the tables", &e))?;
    let application: i64 = db
        .pragma_query_value(None, "application_id", |row| row.get(0))
        .map_err(|error| JournalError::sql(path, "reading the mark", &error))?;
    if wanted == found && application == APPLICATION {
        Ok(())
    } else {
        let what = "its tables are not the ones that Cutover made".to_owned();
        Err(JournalError::Corrupt { path: path.to_owned(), what })
    }
}

fn tables(db: &Connection) -> rusqlite::Result<Vec<(String, String, Option<String>)>> {
    db.prepare("SELECT type, name, sql FROM sqlite_schema ORDER BY name")?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_an_older_form_is_lifted_once_with_a_copy_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.db");
        let mut db = Connection::open(&path).unwrap();
        lift(&path, &mut db, &STEPS).unwrap();
        db.execute("INSERT INTO epochs VALUES (1, 7, 'n', 1, 1, x'00')", []).unwrap();
        let steps = [STEPS[0], "ALTER TABLE epochs ADD COLUMN extra TEXT;"];
        lift(&path, &mut db, &steps).unwrap();
        check_tables(&path, &db, &steps).unwrap();
        assert!(check_tables(&path, &db, &STEPS).is_err());
        let epoch: i64 = db.query_row("SELECT epoch FROM epochs", [], |row| row.get(0)).unwrap();
        assert_eq!(epoch, 7);
        let copy = Connection::open(disk::beside(&path, ".form1")).unwrap();
        check_tables(&path, &copy, &STEPS).unwrap();
        assert!(look(&path).unwrap_err().to_string().contains("form 2"));
    }

    #[test]
    fn a_lift_that_fails_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.db");
        let mut db = Connection::open(&path).unwrap();
        lift(&path, &mut db, &STEPS).unwrap();
        let bad =
            [STEPS[0], "ALTER TABLE epochs ADD COLUMN a TEXT; ALTER TABLE nothing RENAME TO x;"];
        assert!(lift(&path, &mut db, &bad).is_err());
        check_tables(&path, &db, &STEPS).unwrap();
        assert_eq!(look(&path), Ok(Found::Form(1)));
    }
}
