//! What is known of an app in memory, and what of it still waits for the disk.
//!
//! Held behind a mutex for as long as a decision and a publish take: microseconds, never across an
//! await, never across a disk. Numbers of operations and moves are drawn here, so that facts get
//! their numbers in the order in which the journal gets the facts.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cutover_model::{
    Actor, AppState, Asked, Color, Fact, Generation, Happened, Input, OperationId, evolve,
};
use tokio::sync::{broadcast, oneshot};

use super::{Failure, Following, now};
use crate::text;

/// Facts that a follower can still read without the journal: one long deploy has about a hundred.
const RECENT: usize = 512;

/// Batches that may wait for a disk that takes nothing: a cut-back is two or three of them. Over
/// it, lines for people are dropped and changes are refused before they are made ([`Live::room`]),
/// but never a cut-back, and never what has happened. What is left to come over it is small: one
/// operation at most is still running, and a cut-back that would move nothing leaves no fact.
const WAITING: usize = 1_000;

/// What a slow disk may need; over it people are told.
const SLOW: Duration = Duration::from_secs(3);

/// Facts that belong together.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) facts: Vec<Happened>,
    /// Told once, when the batch is durable or why it is not yet.
    pub(super) durable: Option<oneshot::Sender<Result<(), String>>>,
    since: Instant,
    /// Why the disk did not take it, the last time.
    refused: Option<String>,
}

/// Changes that the disk should have taken by now.
#[derive(Debug)]
pub struct Overdue {
    /// How many batches.
    pub batches: usize,
    /// What the disk says, or that it says nothing.
    pub why: String,
}

impl fmt::Display for Overdue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = if self.batches == 1 { "is" } else { "are" };
        let changes = text::number_of(self.batches, "change");
        write!(f, "{changes} {verb} not in the journal yet: {}", self.why)
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) state: AppState,
    /// Which publish the app's split stands on.
    pub(super) split_generation: Option<Generation>,
    /// A color that a deploy is about to clear: no traffic may go there.
    pub(super) claimed: Option<Color>,
    /// How often somebody asked for a cut-back, granted or not.
    pub(super) cut_backs: u64,
    /// Why the journal is not trusted.
    pub(super) untrusted: Option<String>,
    pending: VecDeque<Batch>,
    operations: OperationId,
    moves: u64,
    recent: VecDeque<Arc<Happened>>,
    said: broadcast::Sender<Arc<Happened>>,
}

impl Live {
    pub(super) fn new(state: AppState) -> Self {
        Self {
            operations: state.newest_operation,
            moves: state.moves,
            state,
            split_generation: None,
            claimed: None,
            cut_backs: 0,
            untrusted: None,
            pending: VecDeque::new(),
            recent: VecDeque::new(),
            said: broadcast::Sender::new(RECENT),
        }
    }

    /// The input with the numbers that it gets if it is accepted.
    pub(super) fn number(&self, input: Input, request: Option<String>) -> Asked {
        let operation = match &input {
            Input::Ready { deploy, .. } => *deploy,
            Input::Returned { operation, .. } | Input::Continue { operation, .. } => *operation,
            _ => self.next_operation(),
        };
        let move_number = self.moves.max(self.state.moves) + 1;
        Asked { input, operation, move_number, request }
    }

    /// The number that the next operation gets, unless another one is accepted before it.
    pub(super) fn next_operation(&self) -> OperationId {
        self.operations.max(self.state.newest_operation).next()
    }

    /// The number of a move that is made at once.
    pub(super) fn next_move(&mut self) -> u64 {
        self.moves = self.moves.max(self.state.moves) + 1;
        self.moves
    }

    /// It is accepted: its numbers are taken.
    pub(super) fn accept(&mut self, asked: &Asked) {
        self.operations = self.operations.max(asked.operation);
        self.moves = self.moves.max(asked.move_number);
    }

    /// Facts that have happened and wait for the disk.
    pub(super) fn push(
        &mut self,
        actor: &Actor,
        facts: Vec<Fact>,
        durable: Option<oneshot::Sender<Result<(), String>>>,
    ) {
        let only_lines = facts.iter().all(|fact| matches!(fact, Fact::Line { .. }));
        let facts = happened(actor, facts);
        for fact in &facts {
            self.take_in(fact);
        }
        if let Some(why) = &self.untrusted {
            // Nothing may be written on top of what is not understood.
            if let Some(durable) = durable {
                drop(durable.send(Err(why.clone())));
            }
            return;
        }
        if self.pending.len() >= WAITING && only_lines {
            return;
        }
        self.pending.push_back(Batch { facts, durable, since: Instant::now(), refused: None });
    }

    /// Facts that the journal has; `recorded` is the state after them.
    pub(super) fn recorded(&mut self, recorded: &AppState, facts: Vec<Happened>) {
        self.rebase(recorded);
        for fact in facts {
            self.tell(Arc::new(fact));
        }
    }

    /// The oldest batch that waits; it stays until [`Live::written`] says that it is durable.
    pub(super) fn oldest(&mut self) -> Option<Vec<Happened>> {
        self.pending.front().map(|batch| batch.facts.clone())
    }

    /// The oldest batch is durable.
    pub(super) fn written(&mut self, recorded: &AppState) {
        if let Some(batch) = self.pending.pop_front()
            && let Some(durable) = batch.durable
        {
            drop(durable.send(Ok(())));
        }
        self.rebase(recorded);
    }

    /// The oldest batch could not be written now.
    pub(super) fn not_written(&mut self, why: &str) {
        for batch in &mut self.pending {
            batch.refused = Some(why.to_owned());
            if let Some(durable) = batch.durable.take() {
                drop(durable.send(Err(why.to_owned())));
            }
        }
    }

    /// Whether a change that is not a cut-back may still be made.
    ///
    /// # Errors
    /// [`Failure::NotRecorded`]: the disk has taken nothing for long; nothing was changed.
    pub(super) fn room(&self) -> Result<(), Failure> {
        let waiting = self.pending.len();
        if waiting < WAITING {
            return Ok(());
        }
        Err(Failure::NotRecorded(format!(
            "{waiting} changes wait for the disk already; only a cut-back is still taken"
        )))
    }

    pub(super) fn waiting(&self) -> usize {
        self.pending.len()
    }

    /// What waits because the disk refused it, or for longer than a slow disk needs.
    pub(super) fn overdue(&self) -> Option<Overdue> {
        let is_late = |batch: &&Batch| batch.refused.is_some() || batch.since.elapsed() > SLOW;
        let late: Vec<&Batch> = self.pending.iter().filter(is_late).collect();
        let first = late.first()?;
        let waits =
            || format!("the disk has not answered for {} s", first.since.elapsed().as_secs());
        let why = late.iter().find_map(|batch| batch.refused.clone()).unwrap_or_else(waits);
        Some(Overdue { batches: late.len(), why })
    }

    pub(super) fn follow(&self) -> Following {
        Following { past: self.recent.iter().cloned().collect(), next: self.said.subscribe() }
    }

    fn rebase(&mut self, recorded: &AppState) {
        let mut state = recorded.clone();
        for fact in self.pending.iter().flat_map(|batch| &batch.facts) {
            apply(&mut state, fact);
        }
        self.state = state;
    }

    fn take_in(&mut self, fact: &Happened) {
        apply(&mut self.state, fact);
        self.tell(Arc::new(fact.clone()));
    }

    fn tell(&mut self, fact: Arc<Happened>) {
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(Arc::clone(&fact));
        // No follower is no failure.
        drop(self.said.send(fact));
    }
}

/// Facts with who and when.
pub(super) fn happened(actor: &Actor, facts: Vec<Fact>) -> Vec<Happened> {
    let at = now();
    let with =
        |fact: Fact| Happened { at, actor: actor.clone(), operation: fact.operation(), fact };
    facts.into_iter().map(with).collect()
}

fn apply(state: &mut AppState, fact: &Happened) {
    if let Err(illegal) = evolve(state, fact) {
        // It happened, so it stays recorded; the state says what it said before.
        tracing::error!(%illegal, "a fact does not fit the state in memory");
    }
}

#[cfg(test)]
mod tests {
    use cutover_model::{AppKind, LineLevel};

    use super::*;

    fn line() -> Fact {
        Fact::Line {
            operation: None,
            level: LineLevel::Step,
            label: String::new(),
            text: "a line".to_owned(),
        }
    }

    fn change(number: usize) -> Fact {
        let kind = if number.is_multiple_of(2) { AppKind::Static } else { AppKind::Compose };
        Fact::AppDefined { kind, stable: Color::Blue }
    }

    #[tokio::test]
    async fn while_the_disk_takes_nothing_changes_are_refused_and_cut_backs_are_kept() {
        let (mut live, actor) = (Live::new(AppState::default()), Actor::daemon());
        for number in 0..WAITING {
            assert_eq!(live.room(), Ok(()), "{number}");
            live.push(&actor, vec![change(number)], None);
        }
        let refused = live.room().expect_err("no room").to_string();
        assert!(refused.contains("1000 changes wait") && refused.contains("NOTHING WAS CHANGED"));
        // What is for people only goes; what a cut-back did is kept, and told when it is durable.
        live.push(&actor, vec![line()], None);
        assert_eq!(live.waiting(), WAITING);
        let (durable, mut told) = oneshot::channel();
        live.push(&actor, vec![change(WAITING + 1), line()], Some(durable));
        assert_eq!(live.waiting(), WAITING + 1);
        live.not_written("no space is left");
        assert_eq!(told.try_recv(), Ok(Err("no space is left".to_owned())));

        // The disk takes them again, oldest first, each once.
        let mut recorded = AppState::default();
        let mut written = 0;
        while let Some(batch) = live.oldest() {
            batch.iter().for_each(|fact| evolve(&mut recorded, fact).expect("legal"));
            live.written(&recorded);
            written += 1;
        }
        assert_eq!((written, live.waiting()), (WAITING + 1, 0));
        assert_eq!(live.state, recorded);
        assert_eq!(live.room(), Ok(()));
    }
}
