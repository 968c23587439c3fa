//! The translation between the model's facts and the bytes that the journal keeps.
//!
//! A stored form lives for ever: an old kind or version is lifted step by step where it is read and
//! never edited where it stands. A kind or version that this program does not know is refused, and
//! nothing is changed, because guessing at a newer program's facts could undo what it did.
//! Invariant: what was encoded by any released version decodes to what it meant then.

use cutover_model::{Actor, AppState, Fact, Happened, Seq, evolve};
use serde_json::Value;

use super::{NewFact, Replay, Snapshot, StoredFact};

/// The kinds and versions that this program writes. A kind is added here when the model gets it.
const KNOWN: [(&str, u32); 37] = [
    ("app_defined", 1),
    ("operation_started", 1),
    ("operation_ended", 1),
    ("action_intended", 1),
    ("action_done", 1),
    ("action_failed", 1),
    ("release_made", 1),
    ("release_remade", 1),
    ("release_is", 1),
    ("release_proven", 1),
    ("release_rejected", 1),
    ("release_cleared", 1),
    ("rollout_started", 1),
    ("split_changed", 1),
    ("rollout_ended", 1),
    ("line", 1),
    ("ports_taken", 1),
    ("ports_given", 1),
    ("gate_closed", 1),
    ("gate_opened", 1),
    ("noted", 1),
    ("restore_planned", 1),
    ("restore_reached", 1),
    ("restore_halted", 1),
    ("restore_stacks", 1),
    ("restore_resumed", 1),
    ("aside_kept", 1),
    ("aside_gone", 1),
    ("restore_watched", 1),
    ("rollback_set", 1),
    ("rollback_unset", 1),
    ("point_made", 1),
    ("point_gone", 1),
    ("migration_tried", 1),
    ("migration_begun", 1),
    ("migration_done", 1),
    ("migration_undone", 1),
];

/// The steps that lift what older programs wrote; never edited, only added to.
const LIFTS: [Lift; 0] = [];

/// The version of the snapshots that this program writes; raised, with a step in `STATE_LIFTS`,
/// whenever the form of [`AppState`] changes. While all facts are there, older ones are passed
/// over, because the facts say the same; once facts were pruned, an older one is lifted.
pub const STATE_VERSION: u32 = 3;

/// The step at place n lifts a snapshot of version n + 1 to n + 2; never edited, only added to.
/// 2: who served when a restore point was made, rollbacks set for later; a state without facts has
/// none. 3: what a restore started and stopped for its exchange; one that was begun before has none
/// of it on record.
const STATE_LIFTS: [StateLift; STATE_VERSION as usize - 1] = [Ok, Ok];

/// A change of an older snapshot's form; an error says in plain words what it lacks.
pub type StateLift = fn(Value) -> Result<Value, String>;

/// One step that lifts an old stored form.
pub struct Lift {
    /// The stored kind that it takes.
    pub kind: &'static str,
    /// The version that it takes.
    pub version: u32,
    /// The kind that it makes.
    pub to_kind: &'static str,
    /// The version that it makes.
    pub to_version: u32,
    /// The change; an error says in plain words what the old form lacks.
    pub change: fn(Value) -> Result<Value, String>,
}

/// Why stored bytes are no fact that this program knows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// A newer Cutover wrote it.
    #[error(
        "a newer Cutover wrote facts of the kind \"{kind}\", version {version}, which this one \
         does not know. Nothing was changed. Install the newer version again"
    )]
    Unknown {
        /// The stored kind.
        kind: String,
        /// The stored version.
        version: u32,
    },
    /// The bytes are whole (their hash is right) but do not have the kind's form.
    #[error("a fact of the kind \"{kind}\", version {version}, cannot be read: {why}")]
    Malformed {
        /// The stored kind.
        kind: String,
        /// The stored version.
        version: u32,
        /// What does not fit.
        why: String,
    },
}

/// The form in which the journal keeps a fact.
///
/// # Errors
/// [`CodecError::Unknown`] when the kind is missing in this file's list.
pub fn encode(happened: &Happened) -> Result<NewFact, CodecError> {
    let kind = happened.fact.kind();
    let unknown = || CodecError::Unknown { kind: kind.to_owned(), version: 0 };
    let (_, version) = *KNOWN.iter().find(|(name, _)| *name == kind).ok_or_else(unknown)?;
    let bytes = serde_json::to_vec(&happened.fact).map_err(|error| CodecError::Malformed {
        kind: kind.to_owned(),
        version,
        why: error.to_string(),
    })?;
    Ok(NewFact {
        kind: kind.to_owned(),
        version,
        actor: happened.actor.0.chars().take(64).collect(),
        operation: happened.operation,
        time: happened.at,
        bytes,
    })
}

/// The fact that the journal keeps.
///
/// # Errors
/// [`CodecError`]; nothing of it was guessed.
pub fn decode(stored: &StoredFact) -> Result<Happened, CodecError> {
    let malformed = |error: serde_json::Error| CodecError::Malformed {
        kind: stored.kind.clone(),
        version: stored.version,
        why: error.to_string(),
    };
    let value = serde_json::from_slice(&stored.bytes).map_err(malformed)?;
    let (_, value) = lift(&LIFTS, &KNOWN, &stored.kind, stored.version, value)?;
    let fact: Fact = serde_json::from_value(value).map_err(malformed)?;
    Ok(Happened {
        at: stored.time,
        actor: Actor(stored.actor.clone()),
        operation: stored.operation,
        fact,
    })
}

/// A snapshot of an app's state after the fact at `seq`.
///
/// # Errors
/// [`CodecError::Malformed`] when it cannot be written as JSON.
pub fn snapshot(seq: Seq, state: &AppState) -> Result<Snapshot, CodecError> {
    let bytes = serde_json::to_vec(state).map_err(|error| in_snapshot(&error))?;
    Ok(Snapshot { seq, version: STATE_VERSION, bytes })
}

fn in_snapshot(error: &serde_json::Error) -> CodecError {
    let (kind, version, why) = ("snapshot".to_owned(), STATE_VERSION, error.to_string());
    CodecError::Malformed { kind, version, why }
}

/// The state that a snapshot holds.
///
/// # Errors
/// [`CodecError::Unknown`] for a snapshot of a newer version, [`CodecError::Malformed`].
pub fn state(snapshot: &Snapshot) -> Result<AppState, CodecError> {
    let value = lift_state(&STATE_LIFTS, snapshot)?;
    serde_json::from_value(value).map_err(|error| in_snapshot(&error))
}

/// A snapshot's state in the form that the last of these steps makes.
///
/// # Errors
/// [`CodecError::Unknown`] for a version that no step begins or ends with,
/// [`CodecError::Malformed`].
pub fn lift_state(lifts: &[StateLift], snapshot: &Snapshot) -> Result<Value, CodecError> {
    let (kind, version) = ("snapshot".to_owned(), snapshot.version);
    let done = usize::try_from(version).ok().and_then(|version| version.checked_sub(1));
    let Some(steps) = done.and_then(|done| lifts.get(done..)) else {
        return Err(CodecError::Unknown { kind, version });
    };
    let value = serde_json::from_slice(&snapshot.bytes).map_err(|error| in_snapshot(&error))?;
    let lifted = steps.iter().try_fold(value, |value, step| step(value));
    lifted.map_err(|why| CodecError::Malformed { kind, version, why })
}

/// The state that a replay leads to, and the place of its last fact: the same `evolve` as live.
///
/// # Errors
/// [`CodecError`], also when a fact cannot follow on the ones before it.
pub fn replayed(replay: &Replay) -> Result<(AppState, Seq), CodecError> {
    let (mut state, mut seq) = match &replay.snapshot {
        Some(snapshot) => (self::state(snapshot)?, snapshot.seq),
        None => (AppState::default(), Seq(0)),
    };
    for stored in &replay.tail {
        evolve(&mut state, &decode(stored)?).map_err(|illegal| CodecError::Malformed {
            kind: stored.kind.clone(),
            version: stored.version,
            why: illegal.to_string(),
        })?;
        seq = stored.seq;
    }
    Ok((state, seq))
}

/// Lifts a stored form to one of the `known` kinds and versions.
///
/// # Errors
/// [`CodecError::Unknown`] when no steps lead there, [`CodecError::Malformed`] when one fails.
pub fn lift(
    lifts: &[Lift],
    known: &[(&'static str, u32)],
    kind: &str,
    version: u32,
    value: Value,
) -> Result<(String, Value), CodecError> {
    let (mut kind, mut version, mut value) = (kind.to_owned(), version, value);
    // Each step is used at most once, so a circle of steps ends as unknown.
    for _ in 0..=lifts.len() {
        if known.iter().any(|(name, number)| *name == kind && *number == version) {
            return Ok((kind, value));
        }
        let Some(step) = lifts.iter().find(|l| l.kind == kind && l.version == version) else {
            break;
        };
        value = (step.change)(value).map_err(|why| CodecError::Malformed {
            kind: kind.clone(),
            version,
            why,
        })?;
        (kind, version) = (step.to_kind.to_owned(), step.to_version);
    }
    Err(CodecError::Unknown { kind, version })
}

#[cfg(test)]
mod tests;
