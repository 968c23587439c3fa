//! Crashes, damage and strange states of the journal's file.

use super::*;

/// Copies of the database and its write-ahead file, as a power cut would leave them.
struct Image {
    database: Vec<u8>,
    ahead: Vec<u8>,
}

impl Image {
    fn of(folder: &Path) -> Self {
        let ahead = std::fs::read(folder.join("journal.db-wal")).unwrap_or_default();
        Self { database: std::fs::read(folder.join(FILE)).unwrap(), ahead }
    }

    /// The facts of `shop` that a start from these bytes finds.
    fn opened(&self) -> Result<Vec<String>, JournalError> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(FILE), &self.database).unwrap();
        if !self.ahead.is_empty() {
            std::fs::write(folder.path().join("journal.db-wal"), &self.ahead).unwrap();
        }
        let mut store = open(folder.path())?;
        Ok(texts(&mut store, "shop"))
    }
}

#[test]
fn a_start_after_a_kill_finds_all_that_was_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(folder.path()).unwrap();
    let mut wanted: Vec<String> = Vec::new();
    for n in 0..12 {
        let text = format!("fact {n}");
        append(&mut store, "shop", &[&text]);
        wanted.push(text);
        if n == 6 {
            store.rest();
        }
        assert_eq!(Image::of(folder.path()).opened().unwrap(), wanted);
    }
}

#[test]
fn a_write_ahead_file_cut_at_any_place_means_a_state_that_was() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(folder.path()).unwrap();
    let mut lengths = vec![(0, 0)];
    for n in 0..4 {
        append(&mut store, "shop", &["a fact", "and another"]);
        lengths.push((Image::of(folder.path()).ahead.len(), (n + 1) * 2));
    }
    let Image { database, ahead } = Image::of(folder.path());
    let edges = lengths.iter().flat_map(|(at, _)| at.saturating_sub(30)..at + 60);
    let cuts = (0..ahead.len()).step_by(97).chain(edges).filter(|cut| *cut <= ahead.len());
    for cut in cuts {
        let image = Image { database: database.clone(), ahead: ahead[..cut].to_vec() };
        let durable = lengths.iter().rev().find(|(at, _)| *at <= cut).unwrap().1;
        assert_eq!(image.opened().map(|texts| texts.len()), Ok(durable), "cut at {cut}");
    }
}

#[test]
fn a_bit_flipped_in_the_write_ahead_file_loses_no_acknowledged_fact_silently() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(folder.path()).unwrap();
    for text in ["one", "two", "three"] {
        append(&mut store, "shop", &[text]);
    }
    let before_last = Image::of(folder.path()).ahead.len();
    append(&mut store, "shop", &["four"]);
    let Image { database, ahead } = Image::of(folder.path());
    let mut reported = 0;
    for at in (0..32).chain((32..ahead.len()).step_by(61)) {
        let mut flipped = ahead.clone();
        flipped[at] ^= 1 << (at % 8);
        match (Image { database: database.clone(), ahead: flipped }).opened() {
            Ok(texts) if texts.len() == 4 => {}
            // Nobody can tell a flip in the last transaction from a torn write.
            Ok(texts) => assert!(texts.len() == 3 && at >= before_last, "byte {at}: {texts:?}"),
            Err(JournalError::Corrupt { .. }) => reported += 1,
            Err(error) => panic!("byte {at}: {error}"),
        }
    }
    assert!(reported > 100, "{reported}");
}

#[test]
fn a_bit_flipped_anywhere_in_the_database_is_reported_or_harmless() {
    let (folder, mut store) = filled();
    store.rest();
    drop(store);
    let good = Image::of(folder.path());
    let wanted = good.opened().unwrap();
    let mut reported = 0;
    for at in (0..120).chain((120..good.database.len()).step_by(53)) {
        let mut database = good.database.clone();
        database[at] ^= 1 << (at % 8);
        match (Image { database, ahead: Vec::new() }).opened() {
            Ok(texts) => assert_eq!(texts, wanted, "byte {at}"),
            Err(JournalError::Corrupt { .. } | JournalError::Newer { .. }) => reported += 1,
            Err(error) => panic!("byte {at}: {error}"),
        }
    }
    assert!(reported > 20, "{reported}");
}

#[test]
fn a_bit_flipped_in_any_stored_row_is_reported() {
    let (folder, store) = filled();
    drop(store);
    // Without the remains of replaced rows, which are nobody's.
    Connection::open(folder.path().join(FILE)).unwrap().execute_batch("VACUUM").unwrap();
    let good = Image::of(folder.path());
    // Every byte that stands near the content of a row, found by what the rows say.
    let marks: [&[u8]; 6] = [b"one", b"noted", b"shop", b"blog", b"node-a", b"green"];
    let places: Vec<usize> = (0..good.database.len())
        .filter(|at| marks.iter().any(|mark| good.database[*at..].starts_with(mark)))
        .flat_map(|at| at..at + 4)
        .collect();
    assert!(places.len() > 60, "{}", places.len());
    for at in places {
        let mut database = good.database.clone();
        database[at] ^= 1;
        let result = Image { database, ahead: Vec::new() }.opened();
        assert!(matches!(result, Err(JournalError::Corrupt { .. })), "byte {at}: {result:?}");
    }
}

#[test]
fn a_database_cut_at_any_place_is_reported() {
    let (folder, mut store) = filled();
    store.rest();
    drop(store);
    let good = Image::of(folder.path()).database;
    for cut in (1..200).chain((200..good.len()).step_by(503)) {
        let result = Image { database: good[..cut].to_vec(), ahead: Vec::new() }.opened();
        assert!(matches!(result, Err(JournalError::Corrupt { .. })), "cut at {cut}: {result:?}");
    }
}

fn tampered(change: &str) -> Result<Vec<Chain>, JournalError> {
    let (folder, store) = filled();
    drop(store);
    let db = Connection::open(folder.path().join(FILE)).unwrap();
    db.execute_batch(change).unwrap();
    drop(db);
    Store::open_reading(folder.path()).unwrap().verify()
}

#[test]
fn an_edited_dropped_or_reordered_row_is_found() {
    assert_eq!(tampered("").unwrap().len(), 2);
    let changes = [
        "UPDATE facts SET bytes = x'00' WHERE app = 'shop' AND seq = 2",
        "UPDATE facts SET actor = 'wang' WHERE app = 'shop' AND seq = 3",
        "UPDATE facts SET time_ms = 1 WHERE seq = 1 AND app = 'blog'",
        "UPDATE facts SET operation = NULL WHERE app = 'shop' AND seq = 1",
        "DELETE FROM facts WHERE app = 'shop' AND seq = 1",
        "DELETE FROM facts WHERE app = 'shop' AND seq = 2",
        "DELETE FROM facts WHERE app = 'shop' AND seq = 3",
        "DELETE FROM facts WHERE app = 'shop'; DELETE FROM heads WHERE app = 'shop'",
        "DELETE FROM heads WHERE app = 'blog'",
        "UPDATE facts SET seq = 9 WHERE app = 'shop' AND seq = 1;
         UPDATE facts SET seq = 1 WHERE app = 'shop' AND seq = 2;
         UPDATE facts SET seq = 2 WHERE app = 'shop' AND seq = 9",
        "UPDATE facts SET app = 'wiki' WHERE app = 'blog'",
        "UPDATE heads SET seq = 2 WHERE app = 'shop'",
        "UPDATE epochs SET epoch = 1000",
        "UPDATE snapshots SET bytes = x'00'",
        "UPDATE evidence SET count = count + 1",
    ];
    for change in changes {
        let result = tampered(change);
        assert!(matches!(result, Err(JournalError::Corrupt { .. })), "{change}: {result:?}");
    }
}

#[test]
fn a_row_edited_together_with_its_own_hash_breaks_the_chain() {
    let (folder, mut store) = filled();
    let mut row = store.read(&app("shop"), Seq(1), 1).unwrap().remove(0);
    drop(store);
    row.bytes = b"forged".to_vec();
    let db = Connection::open(folder.path().join(FILE)).unwrap();
    db.execute(
        "UPDATE facts SET bytes = ?1, hash = ?2 WHERE app = 'shop' AND seq = 2",
        rusqlite::params![row.bytes, row.hash()],
    )
    .unwrap();
    drop(db);
    let error = Store::open_reading(folder.path()).unwrap().verify().unwrap_err();
    assert!(error.to_string().contains("does not follow"), "{error}");
}

#[test]
fn a_newer_file_is_refused_untouched() {
    let (folder, store) = filled();
    drop(store);
    let db = Connection::open(folder.path().join(FILE)).unwrap();
    db.execute_batch("PRAGMA user_version = 99; PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    drop(db);
    let before = Image::of(folder.path());
    for error in [open(folder.path()).unwrap_err(), Store::open_reading(folder.path()).unwrap_err()]
    {
        assert!(matches!(error, JournalError::Newer { .. }), "{error}");
        assert!(error.to_string().contains("form 99"), "{error}");
    }
    assert!(Image::of(folder.path()).database == before.database);
}

#[test]
fn a_missing_or_empty_journal_beside_other_state_is_refused() {
    for empty in [None, Some("")] {
        let (folder, store) = filled();
        drop(store);
        std::fs::remove_file(folder.path().join(FILE)).unwrap();
        std::fs::write(folder.path().join("weights"), "x").unwrap();
        if let Some(text) = empty {
            std::fs::write(folder.path().join(FILE), text).unwrap();
        }
        let error = open(folder.path()).unwrap_err();
        assert!(matches!(error, JournalError::Missing { .. }), "{error}");
        assert!(error.to_string().contains("(weights)"), "{error}");
        assert!(matches!(Store::open_reading(folder.path()), Err(JournalError::Missing { .. })));
    }
}

#[test]
fn a_first_start_that_was_killed_begins_again() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(FILE), "").unwrap();
    let mut store = open(folder.path()).unwrap();
    append(&mut store, "shop", &["one"]);
}

#[test]
fn a_journal_that_is_a_folder_or_another_database_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join(FILE)).unwrap();
    assert!(matches!(open(folder.path()), Err(JournalError::Unsafe { .. })));

    let folder = tempfile::tempdir().unwrap();
    let db = Connection::open(folder.path().join(FILE)).unwrap();
    db.execute_batch("CREATE TABLE other (x); PRAGMA user_version = 1").unwrap();
    drop(db);
    assert!(matches!(open(folder.path()), Err(JournalError::Corrupt { .. })));
    std::fs::write(folder.path().join(FILE), "not a database").unwrap();
    assert!(matches!(open(folder.path()), Err(JournalError::Corrupt { .. })));
}

#[test]
fn files_of_the_journal_are_private() {
    use std::os::unix::fs::PermissionsExt;
    let (folder, _store) = filled();
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{:?}", entry.path());
    }
}
