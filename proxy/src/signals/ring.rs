//! The failures of one worker: a bounded ring of records with numbers without gaps.
//!
//! A reader keeps a [`Cursor`]; what was overwritten before it looked is counted as lost.
//! Invariant: the ring never holds more than [`ROOM`] records and pushing never waits for a reader
//! (the lock is held for one push or one copy).

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::message::Outcome;

/// Records kept for each worker: a few seconds of a color that fails every request, below 1 MiB.
const ROOM: usize = 2_048;

/// How far a reader has read, for each worker. Starts at the first record.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    pub(crate) next: Vec<u64>,
}

/// The latest failures of one worker.
#[derive(Debug, Default)]
pub(crate) struct Ring {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    records: VecDeque<Outcome>,
    /// The number of the next record.
    next: u64,
}

impl Ring {
    pub(crate) fn push(&self, outcome: Outcome) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.records.len() == ROOM {
            inner.records.pop_front();
        }
        inner.records.push_back(outcome);
        inner.next += 1;
    }

    /// Copies what came since `cursor` and moves it; returns how many records were lost.
    pub(crate) fn read(&self, cursor: &mut u64, into: &mut Vec<Outcome>) -> u64 {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let oldest = inner.next - inner.records.len() as u64;
        // A cursor of an earlier process may lie ahead: begin again.
        let from = if *cursor > inner.next { oldest } else { (*cursor).max(oldest) };
        let lost = from.saturating_sub(*cursor);
        let skip = usize::try_from(from - oldest).unwrap_or(usize::MAX);
        into.extend(inner.records.iter().skip(skip).cloned());
        *cursor = inner.next;
        lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Class, Routed};
    use cutover_model::{AppName, Color, Generation, Role};

    fn failure(at_ms: i64) -> Outcome {
        Outcome {
            at_ms,
            app: AppName::new("shop").unwrap(),
            release: None,
            color: Color::Green,
            role: Role::Canary,
            generation: Generation(1),
            route: 0,
            class: Class::Reset,
            status: None,
            method: "GET".into(),
            path: "/".into(),
            client: 0,
            latency_us: 1,
            attempt: 1,
            routed: Routed::Slot,
        }
    }

    #[test]
    fn each_failure_is_read_once_and_losses_are_counted() {
        let ring = Ring::default();
        let (mut cursor, mut seen) = (0, Vec::new());
        ring.push(failure(0));
        assert_eq!(ring.read(&mut cursor, &mut seen), 0);
        assert_eq!(ring.read(&mut cursor, &mut seen), 0);
        assert_eq!(seen.len(), 1);
        for at in 0..ROOM as i64 + 7 {
            ring.push(failure(at));
        }
        seen.clear();
        assert_eq!(ring.read(&mut cursor, &mut seen), 7);
        assert_eq!(seen.len(), ROOM);
        assert_eq!(seen[0].at_ms, 7);
    }
}
