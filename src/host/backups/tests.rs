//! Backups on disk are whole or not there, and the right ones are let go.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;

use jiff::tz::TimeZone;

use super::retention::{Keep, may_go};
use super::*;

const DAY: i64 = 24 * 3_600 * 1_000;
/// Monday, 2 November 2026, 03:00 UTC.
const MONDAY: i64 = 1_793_588_400_000;

fn manifest(id: &str, at: i64) -> Manifest {
    Manifest {
        version: 1,
        id: id.to_owned(),
        database: "shop".into(),
        at: Millis(at),
        reason: Reason::Scheduled,
        server: 150_018,
        system: "7000".into(),
        bytes: 0,
        sha256: String::new(),
        form: Form::Custom,
        contents: serde_json::Value::Null,
        activity: serde_json::Value::Null,
        took_ms: 10,
        verified_at: None,
        copied: None,
        not_copied: None,
        damaged: None,
        operation: None,
        installation: String::new(),
        made_at: Millis(at),
        release: None,
        plain_sha256: None,
    }
}

fn backup(number: i64) -> Backup {
    let manifest = manifest(&format!("b-{number}"), MONDAY + number * DAY);
    Backup { folder: PathBuf::from(&manifest.id), manifest, is_only_seen: false }
}

async fn made(home: &Path, bytes: &[u8]) -> Backup {
    let draft = begin(home).unwrap();
    std::fs::write(draft.archive(), bytes).unwrap();
    let (bytes, sha256) = hash(&draft.archive()).await.unwrap();
    let manifest = Manifest { bytes, sha256, ..manifest(&draft.id, MONDAY) };
    draft.finish(manifest).await.unwrap()
}

#[tokio::test]
async fn a_backup_is_there_only_when_it_is_finished() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path().join("backups");
    assert_eq!(list(&home).await.unwrap(), Listed::default());
    let draft = begin(&home).unwrap();
    std::fs::write(draft.archive(), b"half").unwrap();
    let listed = list(&home).await.unwrap();
    assert_eq!((listed.backups.len(), listed.broken.len()), (0, 1));
    drop(draft);
    assert_eq!(list(&home).await.unwrap(), Listed::default());

    let first = made(&home, b"one").await;
    let second = made(&home, b"two").await;
    assert_eq!((first.id(), second.id()), ("b-1", "b-2"));
    assert_eq!(list(&home).await.unwrap().backups.len(), 2);
    assert_eq!(find(&home, "b-2").await.unwrap(), second);
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&home), 0o700);
    assert_eq!(mode(&first.folder.join(MANIFEST)), 0o600);
}

#[tokio::test]
async fn an_archive_that_changed_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let backup = made(home.path(), b"the shop's rows").await;
    check(&backup).await.unwrap();
    let whole = std::fs::read(backup.archive()).unwrap();
    for bit in 0..whole.len() * 8 {
        let mut flipped = whole.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        std::fs::write(backup.archive(), &flipped).unwrap();
        assert!(check(&backup).await.is_err(), "bit {bit}");
    }
    for tenth in 0..10 {
        std::fs::write(backup.archive(), &whole[..whole.len() * tenth / 10]).unwrap();
        let error = check(&backup).await.unwrap_err().to_string();
        assert!(error.contains("bytes"), "{error}");
    }
}

#[tokio::test]
async fn an_id_leads_nowhere_else() {
    let home = tempfile::tempdir().unwrap();
    for id in ["../x", "b-1/../../x", "", "b-", "/etc", "b-1\0", "b-99"] {
        assert!(find(home.path(), id).await.is_err(), "{id:?}");
    }
}

#[tokio::test]
async fn a_removed_backup_is_gone_and_its_id_may_come_again() {
    let home = tempfile::tempdir().unwrap();
    let backup = made(home.path(), b"one").await;
    remove(&backup.folder, || {}).await.unwrap();
    remove(&backup.folder, || {}).await.unwrap();
    assert_eq!(list(home.path()).await.unwrap(), Listed::default());
}

#[test]
fn days_and_weeks_keep_their_newest() {
    // One backup each day for four weeks; day 27 is a Sunday.
    let backups: Vec<Backup> = (0..28).map(backup).collect();
    let gone = may_go(
        &backups,
        Keep { daily: 3, weekly: 2, monthly: 0 },
        (Millis(MONDAY + 28 * DAY), &TimeZone::UTC),
        &BTreeSet::new(),
    );
    let kept: Vec<i64> = (0..28).filter(|n| !gone.contains(&format!("b-{n}"))).collect();
    // The three newest days, and the newest of this week and of the one before.
    assert_eq!(kept, [20, 25, 26, 27]);
}

#[tokio::test]
async fn what_a_kill_left_is_swept_and_nothing_else() {
    let home = tempfile::tempdir().unwrap();
    let (kept, gone) = (made(home.path(), b"one").await, made(home.path(), b"two").await);
    std::mem::forget(begin(home.path()).unwrap());
    std::fs::rename(&gone.folder, home.path().join(".gone-b-2")).unwrap();
    std::fs::create_dir(home.path().join("mine")).unwrap();
    assert_eq!(sweep(home.path()).await.unwrap(), 2);
    assert_eq!(names(home.path()).unwrap().len(), 2, "a folder of somebody else's stays");
    assert_eq!(list(home.path()).await.unwrap().backups, [kept]);
}

#[test]
fn what_is_needed_is_kept_whatever_its_age() {
    let mut backups: Vec<Backup> = (0..10).map(backup).collect();
    backups[1].manifest.verified_at = Some(Millis(1));
    backups[2].manifest.reason = Reason::Before(OperationId(41));
    let named = BTreeSet::from(["b-3".to_owned()]);
    let keep = Keep { daily: 1, weekly: 0, monthly: 0 };
    let gone = may_go(&backups, keep, (Millis(MONDAY + 20 * DAY), &TimeZone::UTC), &named);
    assert_eq!(gone, ["b-0", "b-4", "b-5", "b-6", "b-7", "b-8"]);
}

#[test]
fn what_was_saved_before_a_change_goes_a_month_later_and_counts_for_no_day() {
    let mut backups: Vec<Backup> = (0..3).map(backup).collect();
    backups[1].manifest.reason = Reason::Before(OperationId(41));
    backups[2].manifest.reason = Reason::Imported;
    let keep = Keep { daily: 1, weekly: 0, monthly: 0 };
    let at = |days: i64| {
        let now = Millis(MONDAY + days * DAY);
        may_go(&backups, keep, (now, &TimeZone::UTC), &BTreeSet::new())
    };
    assert_eq!(at(30), [] as [&str; 0]);
    assert_eq!(at(32), ["b-1"]);
    assert_eq!(at(40), ["b-1", "b-2"]);
}

#[test]
fn a_damaged_backup_stands_for_no_day() {
    let mut backups: Vec<Backup> = (0..2).map(backup).collect();
    backups[1].manifest.damaged = Some((Millis(1), "cut".to_owned()));
    let keep = Keep { daily: 1, weekly: 0, monthly: 0 };
    let now = (Millis(MONDAY + 2 * DAY), &TimeZone::UTC);
    // The damaged one is a person's to look at until a month has passed.
    assert_eq!(may_go(&backups, keep, now, &BTreeSet::new()), [] as [&str; 0]);
    let later = (Millis(MONDAY + 90 * DAY), &TimeZone::UTC);
    assert_eq!(may_go(&backups, keep, later, &BTreeSet::new()), ["b-1"]);
    // Somebody may be bringing its archive back at this moment.
    backups[1].is_only_seen = true;
    assert_eq!(may_go(&backups, keep, later, &BTreeSet::new()), [] as [&str; 0]);
}
