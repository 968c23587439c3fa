//! What the journal promises: order, conflicts, fencing, bounds, snapshots, waiting.

use std::collections::BTreeMap;

use cutover_model::{Color, Weight};
use proptest::prelude::*;
use rusqlite::Connection;

use super::store::FILE;
use super::*;

mod damage;

fn app(name: &str) -> AppName {
    AppName::new(name).unwrap()
}

fn fact(text: &str) -> NewFact {
    NewFact {
        kind: "noted".to_owned(),
        version: 1,
        actor: "li".to_owned(),
        operation: Some(OperationId(3)),
        time: Millis(1_700_000_000_000),
        bytes: text.as_bytes().to_vec(),
    }
}

fn facts(texts: &[&str]) -> Vec<NewFact> {
    texts.iter().map(|text| fact(text)).collect()
}

fn open(folder: &Path) -> Result<Store, JournalError> {
    let lock = Arc::new(StateLock::take(folder, Millis(1))?);
    Store::open(folder, lock, "node-a", Millis(1))
}

/// What the facts of an app say, as text.
fn texts(store: &mut Store, name: &str) -> Vec<String> {
    let read = store.read(&app(name), Seq(0), usize::MAX).unwrap();
    read.into_iter().map(|fact| String::from_utf8(fact.bytes).unwrap()).collect()
}

fn append(store: &mut Store, name: &str, texts: &[&str]) -> Seq {
    let (head, epoch) = (store.head(&app(name)).unwrap(), store.epoch());
    store.append(&app(name), head, epoch, &facts(texts)).unwrap()
}

/// A folder with facts of two apps, snapshots and counts.
fn filled() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(folder.path()).unwrap();
    append(&mut store, "shop", &["one", "two"]);
    append(&mut store, "blog", &["uno"]);
    append(&mut store, "shop", &["three"]);
    let snapshot = Snapshot { seq: Seq(2), version: 1, bytes: b"one two".to_vec() };
    let epoch = store.epoch();
    store.save_snapshot(&app("shop"), epoch, &snapshot).unwrap();
    store.put_evidence(&app("shop"), epoch, OperationId(3), &[count(100, 7)]).unwrap();
    (folder, store)
}

fn count(weight: u16, count: u64) -> Evidence {
    let weight = Weight::from_basis_points(weight).unwrap();
    Evidence { weight, color: Color::Green, kind: "ok".to_owned(), count }
}

#[tokio::test]
async fn facts_come_back_as_appended_and_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options::new(folder.path().join("state"), "node-a", Millis(7));
    let journal = Journal::open(options.clone()).await.unwrap();
    let (shop, epoch) = (app("shop"), journal.epoch());
    let mut watch = journal.watch();
    let seq = journal.append(&shop, Seq(0), epoch, facts(&["one", "two"])).await.unwrap();
    assert_eq!(seq, Seq(2));
    assert!(watch.has_changed().unwrap());
    watch.mark_unchanged();
    assert_eq!(journal.append(&shop, seq, epoch, facts(&["three"])).await, Ok(Seq(3)));
    journal.close().await.unwrap();

    let journal = Journal::open(options).await.unwrap();
    assert_eq!(journal.epoch(), epoch.next());
    assert_eq!(journal.apps().await.unwrap(), std::slice::from_ref(&shop));
    let read = journal.read(&shop, Seq(1), 10).await.unwrap();
    let seen: Vec<_> = read.iter().map(|f| (f.seq.0, f.bytes.as_slice())).collect();
    assert_eq!(seen, [(2, b"two".as_slice()), (3, b"three".as_slice())]);
    let first = &read[0];
    assert_eq!((first.epoch, first.node.as_str(), first.version), (epoch, "node-a", 1));
    assert_eq!((first.actor.as_str(), first.operation), ("li", Some(OperationId(3))));
    assert_eq!(first.id.get_version_num(), 7);
    assert_eq!(read[1].before, first.hash());
    let chains = journal.verify().await.unwrap();
    assert_eq!(chains[0].head_hash, read[1].hash());
}

#[test]
fn an_append_after_somebody_elses_is_a_conflict_and_writes_nothing() {
    let (_folder, mut store) = filled();
    let epoch = store.epoch();
    for (expected, actual) in [(0, 3), (2, 3), (4, 3)] {
        let result = store.append(&app("shop"), Seq(expected), epoch, &facts(&["x"]));
        let (expected, actual) = (Seq(expected), Seq(actual));
        assert_eq!(result, Err(JournalError::Conflict { expected, actual }));
    }
    assert_eq!(texts(&mut store, "shop"), ["one", "two", "three"]);
}

#[test]
fn an_older_daemon_is_fenced_from_every_write() {
    let (_folder, mut store) = filled();
    let old = Epoch(store.epoch().0 - 1);
    let fenced = JournalError::Fenced { epoch: old, current: store.epoch() };
    let (shop, operation) = (app("shop"), OperationId(3));
    let snapshot = Snapshot { seq: Seq(3), version: 1, bytes: vec![] };
    assert_eq!(store.append(&shop, Seq(3), old, &facts(&["x"])), Err(fenced.clone()));
    assert_eq!(store.save_snapshot(&shop, old, &snapshot), Err(fenced.clone()));
    assert_eq!(store.put_evidence(&shop, old, operation, &[count(1, 1)]), Err(fenced.clone()));
    assert_eq!(store.prune(&shop, old, Seq(2)), Err(fenced));
}

#[test]
fn a_second_daemon_on_the_same_state_is_refused() {
    let (folder, store) = filled();
    let error = open(folder.path()).unwrap_err();
    assert!(matches!(error, JournalError::Locked { .. }), "{error}");
    assert!(error.to_string().contains(&std::process::id().to_string()), "{error}");
    drop(store);
    open(folder.path()).unwrap();
}

#[test]
fn reading_works_while_a_daemon_has_the_state() {
    let (folder, mut store) = filled();
    let mut reading = Store::open_reading(folder.path()).unwrap();
    assert_eq!(texts(&mut reading, "shop"), ["one", "two", "three"]);
    append(&mut store, "shop", &["four"]);
    assert_eq!(texts(&mut reading, "shop").len(), 4);
    assert!(reading.append(&app("shop"), Seq(4), Epoch(0), &facts(&["x"])).is_err());
}

#[test]
fn what_breaks_a_bound_is_refused() {
    let (_folder, mut store) = filled();
    let bad = [
        NewFact { kind: String::new(), ..fact("") },
        NewFact { kind: "k".repeat(65), ..fact("") },
        NewFact { version: 0, ..fact("") },
        NewFact { actor: "a".repeat(257), ..fact("") },
        NewFact { bytes: vec![0; record::MAX_BYTES + 1], ..fact("") },
    ];
    let epoch = store.epoch();
    for fact in bad {
        let result = store.append(&app("shop"), Seq(3), epoch, &[fact]);
        assert!(matches!(result, Err(JournalError::Refused(_))), "{result:?}");
    }
    let many = vec![fact("x"); record::MAX_FACTS + 1];
    let result = store.append(&app("shop"), Seq(3), epoch, &many);
    assert!(matches!(result, Err(JournalError::Refused(_))), "{result:?}");
    assert_eq!(store.head(&app("shop")), Ok(Seq(3)));
}

#[test]
fn a_replay_is_the_newest_fitting_snapshot_and_the_tail() {
    let (_folder, mut store) = filled();
    let replay = store.replay(&app("shop"), 1).unwrap();
    assert_eq!(replay.snapshot.unwrap().bytes, b"one two");
    assert_eq!(replay.tail.len(), 1);
    let other = store.replay(&app("shop"), 2).unwrap();
    assert_eq!((other.snapshot, other.tail.len()), (None, 3));
    let nothing = store.replay(&app("unknown"), 1).unwrap();
    assert_eq!((nothing.snapshot, nothing.tail.len()), (None, 0));
}

#[test]
fn snapshots_are_bounded_and_stand_on_a_fact() {
    let (_folder, mut store) = filled();
    let epoch = store.epoch();
    for n in 0..10 {
        let seq = append(&mut store, "shop", &["more"]);
        let snapshot = Snapshot { seq, version: 1, bytes: vec![n] };
        store.save_snapshot(&app("shop"), epoch, &snapshot).unwrap();
    }
    assert_eq!(store.replay(&app("shop"), 1).unwrap().snapshot.unwrap().bytes, [9]);
    let kept = store.looking("test", |look| look.snapshots(&app("shop"))).unwrap();
    assert_eq!(kept.len() as u64, snapshot::KEPT);
    let beyond = Snapshot { seq: Seq(99), version: 1, bytes: vec![] };
    let result = store.save_snapshot(&app("shop"), epoch, &beyond);
    assert!(matches!(result, Err(JournalError::Refused(_))));
}

#[test]
fn pruned_facts_leave_a_chain_that_can_be_checked() {
    let (folder, mut store) = filled();
    let epoch = store.epoch();
    let refused = store.prune(&app("shop"), epoch, Seq(4));
    assert!(matches!(refused, Err(JournalError::Refused(_))), "not covered: {refused:?}");
    assert_eq!(store.prune(&app("shop"), epoch, Seq(3)), Ok(2));
    assert_eq!(texts(&mut store, "shop"), ["three"]);
    drop(store);
    let mut store = open(folder.path()).unwrap();
    let replay = store.replay(&app("shop"), 1).unwrap();
    assert_eq!((replay.snapshot.unwrap().seq, replay.tail.len()), (Seq(2), 1));
    let older = store.replay(&app("shop"), 2).unwrap();
    assert_eq!((older.snapshot.unwrap().version, older.tail.len()), (1, 1), "to be lifted");
    let error = store.replay(&app("shop"), 0).unwrap_err();
    assert!(error.to_string().contains("pruned"), "{error}");
    append(&mut store, "shop", &["four"]);
    store.verify().unwrap();
}

#[test]
fn counts_are_replaced_by_key_and_bounded_by_operation() {
    let (_folder, mut store) = filled();
    let (shop, epoch) = (app("shop"), store.epoch());
    store.put_evidence(&shop, epoch, OperationId(3), &[count(100, 8), count(500, 1)]).unwrap();
    assert_eq!(store.evidence(&shop, OperationId(3)), Ok(vec![count(100, 8), count(500, 1)]));
    for n in 0..evidence::KEPT {
        store.put_evidence(&shop, epoch, OperationId(10 + n), &[count(1, n)]).unwrap();
    }
    assert_eq!(store.evidence(&shop, OperationId(3)), Ok(vec![]));
    assert_eq!(store.evidence(&shop, OperationId(10)), Ok(vec![count(1, 0)]));
}

#[test]
fn a_write_that_found_no_space_is_repeated_after_a_check() {
    let (_folder, mut store) = filled();
    store
        .looking("test", |look| look.sql(|db| db.pragma_update(None, "max_page_count", 8)))
        .unwrap();
    let large = NewFact { bytes: vec![7; 200_000], ..fact("") };
    let epoch = store.epoch();
    let full = store.append(&app("shop"), Seq(3), epoch, std::slice::from_ref(&large));
    assert!(matches!(full, Err(JournalError::Full { .. })), "{full:?}");
    assert!(full.unwrap_err().is_in_doubt());
    assert_eq!(store.head(&app("shop")), Ok(Seq(3)));
    assert_eq!(store.append(&app("shop"), Seq(3), epoch, &[large]), Ok(Seq(4)));
    store.verify().unwrap();
}

#[tokio::test]
async fn nobody_waits_for_ever_behind_a_slow_disk() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = Options::new(folder.path().join("state"), "node-a", Millis(7));
    options.limit = Duration::from_millis(50);
    let journal = Journal::open(options).await.unwrap();
    // Somebody else holds SQLite's write lock: the writer waits, as for a disk that hangs.
    let other = Connection::open(journal.path()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let result = journal.append(&app("shop"), Seq(0), journal.epoch(), facts(&["x"])).await;
    assert_eq!(result, Err(JournalError::Slow { limit: Duration::from_millis(50) }));
}

#[derive(Debug, Clone)]
enum Step {
    Append { app: usize, facts: usize },
    Stale { app: usize },
    Snapshot { app: usize },
    Prune { app: usize },
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..3_usize, 0..4_usize).prop_map(|(app, facts)| Step::Append { app, facts }),
        1 => (0..3_usize).prop_map(|app| Step::Stale { app }),
        1 => (0..3_usize).prop_map(|app| Step::Snapshot { app }),
        1 => (0..3_usize).prop_map(|app| Step::Prune { app }),
        1 => Just(Step::Reopen),
    ]
}

/// What a journal should hold for one app: all texts ever, the last pruned place, the last snapshot.
#[derive(Debug, Default)]
struct Wanted {
    texts: Vec<String>,
    base: usize,
    snapshot: Option<usize>,
}

fn perform(store: &mut Store, wanted: &mut Wanted, name: &AppName, step: &Step) {
    let (epoch, head) = (store.epoch(), Seq(wanted.texts.len() as u64));
    match step {
        Step::Append { facts, .. } => {
            let new: Vec<_> = (0..*facts).map(|n| format!("{name} {} {n}", head.0)).collect();
            let new_facts: Vec<_> = new.iter().map(|text| fact(text)).collect();
            let seq = store.append(name, head, epoch, &new_facts).unwrap();
            wanted.texts.extend(new);
            assert_eq!(seq.0, wanted.texts.len() as u64);
        }
        Step::Stale { .. } => {
            let stale = store.append(name, head.next(), epoch, &[fact("x")]);
            assert!(matches!(stale, Err(JournalError::Conflict { .. })));
        }
        Step::Snapshot { .. } if head.0 > 0 => {
            let snapshot = Snapshot { seq: head, version: 1, bytes: head.to_string().into() };
            store.save_snapshot(name, epoch, &snapshot).unwrap();
            wanted.snapshot = Some(wanted.texts.len());
        }
        Step::Prune { .. } => {
            let Some(seq) = wanted.snapshot else { return };
            store.prune(name, epoch, Seq(seq as u64 + 1)).unwrap();
            wanted.base = seq;
        }
        Step::Snapshot { .. } | Step::Reopen => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn the_journal_says_what_was_acknowledged(steps in prop::collection::vec(step(), 1..20)) {
        let folder = tempfile::tempdir().unwrap();
        let mut store = open(folder.path()).unwrap();
        let names = [app("shop"), app("blog"), app("wiki")];
        let mut all: BTreeMap<AppName, Wanted> = BTreeMap::new();
        for step in steps {
            match &step {
                Step::Append { app, .. }
                | Step::Stale { app }
                | Step::Snapshot { app }
                | Step::Prune { app } => {
                    let name = &names[*app];
                    perform(&mut store, all.entry(name.clone()).or_default(), name, &step);
                }
                Step::Reopen => {
                    drop(store);
                    store = open(folder.path()).unwrap();
                }
            }
        }
        store.verify().unwrap();
        for (name, wanted) in all {
            let seen = texts(&mut store, name.as_str());
            prop_assert_eq!(&seen[..], &wanted.texts[wanted.base..]);
            let replay = store.replay(&name, 1).unwrap();
            let from = replay.snapshot.map(|snapshot| usize::try_from(snapshot.seq.0).unwrap());
            prop_assert_eq!(from, wanted.snapshot);
            prop_assert_eq!(replay.tail.len(), wanted.texts.len() - from.unwrap_or(0));
        }
    }
}
