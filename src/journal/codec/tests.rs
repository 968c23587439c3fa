//! Every kind of fact there and back, replays, lifts and the fixtures of released forms.

use std::path::Path;
use std::sync::Arc;

use cutover_model::*;
use serde_json::json;

use super::*;
use crate::journal::{StateLock, Store};

const LIFTS: [Lift; 2] = [
    Lift {
        kind: "moved",
        version: 1,
        to_kind: "moved",
        to_version: 2,
        change: |mut value| {
            let percent = value["percent"].as_u64().ok_or("no percent")?;
            value["points"] = json!(percent * 100);
            Ok(value)
        },
    },
    Lift {
        kind: "moved",
        version: 2,
        to_kind: "split_changed",
        to_version: 1,
        change: |value| Ok(json!({"after": value["points"]})),
    },
];
const KNOWN: [(&str, u32); 2] = [("split_changed", 1), ("noted", 3)];

#[test]
fn an_old_form_is_lifted_step_by_step() {
    let lifted = lift(&LIFTS, &KNOWN, "moved", 1, json!({"percent": 5}));
    assert_eq!(lifted, Ok(("split_changed".to_owned(), json!({"after": 500}))));
}

#[test]
fn a_newer_kind_or_version_is_refused() {
    for (kind, version) in [("noted", 4), ("noted", 1), ("teleported", 1)] {
        let error = lift(&LIFTS, &KNOWN, kind, version, json!({})).unwrap_err();
        assert!(error.to_string().contains("newer Cutover"), "{error}");
    }
}

#[test]
fn an_old_form_that_lacks_something_is_reported() {
    let error = lift(&LIFTS, &KNOWN, "moved", 1, json!({})).unwrap_err();
    assert!(error.to_string().contains("no percent"), "{error}");
}

#[test]
fn a_circle_of_steps_ends() {
    let back = |value| Ok(value);
    let circle = [
        Lift { kind: "a", version: 1, to_kind: "b", to_version: 1, change: back },
        Lift { kind: "b", version: 1, to_kind: "a", to_version: 1, change: back },
    ];
    assert!(lift(&circle, &KNOWN, "a", 1, json!({})).is_err());
}

fn happened(at: i64, fact: Fact) -> Happened {
    Happened { at: Millis(at), actor: Actor("li".to_owned()), operation: fact.operation(), fact }
}

fn release(id: u64, color: Color) -> Release {
    Release {
        id: ReleaseId(id),
        color,
        project: format!("shop-{color}"),
        commit: Some("4be1c20a9d".to_owned()),
        title: "Cart on one page".to_owned(),
        images: [("backend".to_owned(), "sha256:aa".to_owned())].into(),
        env_files: [(".env".to_owned(), "bb".to_owned())].into(),
        migrations: Some(vec!["20261123_cart".to_owned()]),
        folder: format!("releases/shop/r{id}"),
        made_at: Millis(1_795_000_000_000),
        parts: None,
    }
}

/// The story of an app: each kind of fact at least once, in an order that `evolve` accepts.
fn story() -> Vec<Fact> {
    let (o, r) = (OperationId, ReleaseId);
    let weight = |points| Weight::from_basis_points(points).unwrap();
    let blue = Split::all(Color::Blue);
    let tenth = Split { stable: Color::Blue, weight: weight(1_000) };
    let green = Split::all(Color::Green);
    let step = Step { weight: weight(1_000), soak_ms: 60_000 };
    let (r1, r2) = (release(1, Color::Blue), release(2, Color::Green));
    let deploy = OperationKind::Deploy { release: r(2) };
    let rollback =
        OperationKind::Rollback { to: r(1), from: Some(r(2)), manner: Manner::default() };
    let start = Action::Start { release: r(2), color: Color::Green };
    let rule = Redirect {
        table: "cutover".to_owned(),
        leads: Lead::everywhere(80).to_vec(),
        landing: Landing::on_loopback(10_080),
        when_dead: WhenDead::Wait,
        accept: Lead::everywhere(80)[..1].to_vec(),
    };
    vec![
        Fact::AppDefined { kind: AppKind::Compose, stable: Color::Blue },
        Fact::OperationStarted { operation: o(1), what: OperationKind::Adopt, request: None },
        Fact::ReleaseMade { release: Box::new(r1) },
        Fact::ReleaseIs { release: r(1), state: ReleaseState::Warm },
        Fact::ReleaseProven { release: r(1) },
        Fact::PortsTaken { rule: Box::new(rule) },
        Fact::OperationEnded { operation: o(1), ending: Ending::Done },
        Fact::OperationStarted { operation: o(2), what: deploy, request: Some("q-1".to_owned()) },
        Fact::ReleaseMade { release: Box::new(r2) },
        Fact::ActionIntended { operation: o(2), index: 0, action: start.clone() },
        Fact::ActionFailed { operation: o(2), index: 0, why: "no answer".to_owned() },
        Fact::ActionIntended { operation: o(2), index: 0, action: start },
        Fact::ActionDone { operation: o(2), index: 0, took_ms: 1_234 },
        Fact::ReleaseIs { release: r(2), state: ReleaseState::Warm },
        Fact::RolloutStarted { release: r(2), salt: Salt(7), steps: vec![step] },
        Fact::SplitChanged { number: 1, before: blue, after: tenth, operation: Some(o(2)) },
        Fact::Line {
            operation: Some(o(2)),
            level: LineLevel::Step,
            label: "10 %".to_owned(),
            text: "r2 0 of 177 failed".to_owned(),
        },
        Fact::SplitChanged { number: 2, before: tenth, after: green, operation: Some(o(2)) },
        Fact::RolloutEnded { ending: RolloutEnding::Promoted },
        Fact::OperationEnded { operation: o(2), ending: Ending::Done },
        Fact::OperationStarted { operation: o(3), what: rollback, request: None },
        Fact::SplitChanged { number: 3, before: green, after: blue, operation: Some(o(3)) },
        Fact::ReleaseRejected { release: r(2), operation: o(3) },
        Fact::OperationEnded { operation: o(3), ending: Ending::Failed("a reason".to_owned()) },
        Fact::Noted { operation: o(3), text: "prices wrong".to_owned() },
        Fact::ReleaseCleared { release: r(2) },
        Fact::PortsGiven,
        Fact::GateClosed {
            maintenance: Box::new(Maintenance {
                retry_after_s: 300,
                allow: vec!["10.0.0.0/8".to_owned()],
                page: Some("ab".repeat(32)),
            }),
        },
        Fact::GateOpened,
    ]
}

fn told() -> Vec<Happened> {
    (1_795_000_000_000..).step_by(1_000).zip(story()).map(|(at, fact)| happened(at, fact)).collect()
}

#[test]
fn every_kind_of_fact_comes_back_as_it_was() {
    let mut kinds: Vec<_> = KNOWN.iter().map(|(kind, _)| *kind).collect();
    for happened in told() {
        let new = encode(&happened).unwrap();
        kinds.retain(|kind| *kind != new.kind);
        assert_eq!(decode(&stored(&new)), Ok(happened));
    }
    assert!(kinds.is_empty(), "the story lacks {kinds:?}");
}

fn stored(new: &NewFact) -> StoredFact {
    StoredFact {
        app: AppName::new("shop").unwrap(),
        seq: Seq(1),
        epoch: Epoch(1),
        node: "node-a".to_owned(),
        id: uuid::Uuid::nil(),
        kind: new.kind.clone(),
        version: new.version,
        time: new.time,
        actor: new.actor.clone(),
        operation: new.operation,
        bytes: new.bytes.clone(),
        before: [0; 32],
    }
}

#[test]
fn a_fact_of_a_newer_program_is_refused_with_its_kind() {
    let new = encode(&told()[0]).unwrap();
    let newer = StoredFact { version: 2, ..stored(&new) };
    let unknown = StoredFact { kind: "teleported".to_owned(), ..stored(&new) };
    for fact in [newer, unknown] {
        let error = decode(&fact).unwrap_err().to_string();
        assert!(error.contains("newer Cutover") && error.contains(&fact.kind), "{error}");
    }
    let broken = StoredFact { bytes: b"{}".to_vec(), ..stored(&new) };
    assert!(matches!(decode(&broken), Err(CodecError::Malformed { .. })));
}

/// The state after the story, by `evolve` alone.
fn end_of_story() -> AppState {
    let mut state = AppState::default();
    for happened in told() {
        evolve(&mut state, &happened).unwrap();
    }
    state
}

#[test]
fn a_replay_from_a_snapshot_ends_where_a_full_replay_ends() {
    let tail: Vec<StoredFact> = (1..)
        .zip(told())
        .map(|(seq, happened)| StoredFact { seq: Seq(seq), ..stored(&encode(&happened).unwrap()) })
        .collect();
    let last = Seq(tail.len() as u64);
    let full = Replay { snapshot: None, tail: tail.clone() };
    assert_eq!(replayed(&full), Ok((end_of_story(), last)));
    for cut in 1..tail.len() {
        let head = Replay { snapshot: None, tail: tail[..cut].to_vec() };
        let (state, seq) = replayed(&head).unwrap();
        let short =
            Replay { snapshot: Some(snapshot(seq, &state).unwrap()), tail: tail[cut..].to_vec() };
        assert_eq!(replayed(&short), Ok((end_of_story(), last)), "cut at {cut}");
    }
}

/// Journals of every released form; a new form adds a folder and leaves the others alone.
const JOURNALS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/journals");

fn open(folder: &Path) -> Store {
    let lock = Arc::new(StateLock::take(folder, Millis(1)).unwrap());
    Store::open(folder, lock, "node-a", Millis(1)).unwrap()
}

/// Writes the journal of the story into a folder. `CUTOVER_WRITE_JOURNAL` names one to keep it:
/// that is how the fixture of a form is made, once, before its release.
fn write_story(folder: &Path) {
    let mut store = open(folder);
    let (shop, epoch) = (AppName::new("shop").unwrap(), store.epoch());
    let facts: Vec<NewFact> = told().iter().map(|happened| encode(happened).unwrap()).collect();
    let half = facts.len() / 2;
    let seq = store.append(&shop, Seq(0), epoch, &facts[..half]).unwrap();
    let (state, _) = replayed(&store.replay(&shop, STATE_VERSION).unwrap()).unwrap();
    store.save_snapshot(&shop, epoch, &snapshot(seq, &state).unwrap()).unwrap();
    store.append(&shop, seq, epoch, &facts[half..]).unwrap();
}

#[test]
fn a_journal_written_now_replays_to_the_end_of_the_story() {
    let kept = std::env::var_os("CUTOVER_WRITE_JOURNAL").map(std::path::PathBuf::from);
    let made = tempfile::tempdir().unwrap();
    let folder = kept.as_deref().unwrap_or(made.path());
    write_story(folder);
    let (state, _) = replayed_from(folder);
    assert_eq!(state, end_of_story());
}

fn replayed_from(folder: &Path) -> (AppState, Seq) {
    let mut store = open(folder);
    let shop = AppName::new("shop").unwrap();
    let short = replayed(&store.replay(&shop, STATE_VERSION).unwrap()).unwrap();
    let full = replayed(&store.replay(&shop, u32::MAX).unwrap()).unwrap();
    assert_eq!(short, full, "the snapshot and the facts differ");
    full
}

#[test]
fn the_journal_of_the_first_form_opens_and_replays() {
    let folder = tempfile::tempdir().unwrap();
    let fixture = Path::new(JOURNALS).join("v1/journal.db");
    std::fs::copy(fixture, folder.path().join("journal.db")).unwrap();
    let (state, seq) = replayed_from(folder.path());
    assert_eq!(seq, Seq(27));
    assert_eq!(state, end_of_story());
}

#[test]
fn an_older_snapshot_is_lifted_step_by_step_and_a_newer_one_refused() {
    let rename = |mut value: Value| {
        let weight = value["weight"].take();
        Ok(json!({ "share": weight }))
    };
    let double = |value: Value| match value["share"].as_u64() {
        Some(share) => Ok(json!({ "share": share * 2 })),
        None => Err("it has no share".to_owned()),
    };
    let lifts: [StateLift; 2] = [rename, double];
    let snapshot = |version, value: Value| {
        let bytes = serde_json::to_vec(&value).unwrap();
        Snapshot { seq: Seq(7), version, bytes }
    };
    let lifted = |version, value| lift_state(&lifts, &snapshot(version, value));
    assert_eq!(lifted(1, json!({ "weight": 5 })), Ok(json!({ "share": 10 })));
    assert_eq!(lifted(2, json!({ "share": 5 })), Ok(json!({ "share": 10 })));
    assert_eq!(lifted(3, json!({ "share": 10 })), Ok(json!({ "share": 10 })));
    for version in [0, 4] {
        let refused = lifted(version, json!({}));
        assert!(matches!(refused, Err(CodecError::Unknown { .. })), "{version}: {refused:?}");
    }
    let lacking = lifted(2, json!({})).unwrap_err();
    assert!(lacking.to_string().contains("it has no share"), "{lacking}");
}
