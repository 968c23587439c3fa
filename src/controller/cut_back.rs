//! The path of the cut-back: API, switch, acknowledgement, and only then the disk.
//!
//! It waits for nothing: no mailbox behind a slow disk, no Docker, no database, no lock that is
//! held across one of them. What it did is kept in memory, in the weights file and, as soon as the
//! disk takes it, in the journal; the answer says how far that has come.

use std::sync::Arc;
use std::time::{Duration, Instant};

use cutover_model::{
    Actor, AppKind, ByColor, Color, Effect, Input, MOVES_AHEAD, OperationId, cut_back_by_color,
    decide,
};
use cutover_proxy::message::{Change, Publish};
use tokio::sync::oneshot;

use super::mailbox::moved;
use super::{Answer, App, Failure, Moved, now};
use crate::journal::weights::Entry;

/// How long the answer waits for the disk before it says "not yet": the first line has to stand
/// within 50 ms, whatever the disk does.
const DISK: Duration = Duration::from_millis(25);

/// Where a change stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recorded {
    /// In the journal: durable.
    Journal,
    /// In the weights file, durable; not yet in the journal, for this reason.
    WeightsOnly(String),
    /// Only in memory so far, for this reason.
    MemoryOnly(String),
}

impl App {
    /// Cuts back.
    ///
    /// # Errors
    /// [`Failure::Refused`]: nothing was changed.
    pub(super) async fn cut_back(
        self: &Arc<Self>,
        input: Input,
        actor: Actor,
        request: Option<String>,
    ) -> Result<Answer, Failure> {
        let (durable, told) = oneshot::channel();
        let cut = self.cut_in_memory(input, &actor, request, durable)?;
        let wait = Instant::now();
        self.wake();
        let weights = match cut.moved {
            Some(moved) => self.keep_cut_back(&cut, moved).await,
            None => Ok(()),
        };
        let left = DISK.saturating_sub(wait.elapsed());
        let journal = match tokio::time::timeout(left, told).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) | Err(_) => Err("the disk has not answered yet".to_owned()),
        };
        let recorded = match (journal, weights) {
            (Ok(()), _) => Recorded::Journal,
            (Err(why), Ok(())) if cut.moved.is_some() => Recorded::WeightsOnly(why),
            (Err(why), _) => Recorded::MemoryOnly(why),
        };
        self.settle(cut.operation, cut.effects.clone());
        let (operation, at, moved) = (cut.operation, cut.at, cut.moved);
        Ok(Answer { operation, at, moved, recorded, state: self.state(), effects: cut.effects })
    }

    /// The part that touches memory only: decision, publish, state.
    fn cut_in_memory(
        &self,
        input: Input,
        actor: &Actor,
        request: Option<String>,
        durable: oneshot::Sender<Result<(), String>>,
    ) -> Result<CutBack, Failure> {
        let started = Instant::now();
        let reason = if input == Input::Abort { "abort" } else { "rollback" };
        // Looked at before `live` is held: endpoints are locked before it elsewhere.
        let runs = self.runs();
        let mut live = self.live();
        live.cut_backs += 1;
        let mut asked = live.number(input, request);
        let decision = if live.untrusted.is_some() {
            asked.move_number += MOVES_AHEAD;
            cut_back_by_color(&live.state, &asked, runs)?
        } else {
            decide(&live.state, &asked)?
        };
        let mut done = None;
        for effect in &decision.effects {
            let Effect::Publish { split, salt } = effect else { continue };
            if live.claimed.is_some_and(|c| split.share(c) > live.state.split.share(c)) {
                // The color is not touched before its claim stands, and now it is given up.
                live.claimed = None;
            }
            let changes = vec![Change::Split { split: *split, salt: *salt }];
            let app = self.name.clone();
            let publish = Publish { app, changes, based_on: None };
            let published = self
                .shared
                .proxy
                .switch()
                .apply(publish)
                .map_err(|refused| Failure::Unknown(refused.to_string()))?;
            live.split_generation = Some(published.split_generation);
            done = Some(moved(&published, started.elapsed()));
        }
        self.shared.tables_changed.notify_one();
        // CRASH: the new table serves and nothing is durable yet; the caller has no answer either.
        live.accept(&asked);
        live.push(actor, decision.facts, Some(durable));
        let has_journal = live.untrusted.is_none();
        Ok(CutBack {
            operation: asked.operation,
            kept_operation: has_journal.then_some(asked.operation),
            number: asked.move_number,
            at: now(),
            moved: done,
            effects: decision.effects,
            reason,
        })
    }

    /// The colors that have a running container, as far as is known.
    fn runs(&self) -> ByColor<bool> {
        let is_static = self.settings().kind == AppKind::Static;
        let endpoints = self.endpoints();
        let runs = |color: Color| {
            is_static || endpoints.get(color).values().any(|found| !found.is_empty())
        };
        ByColor { blue: runs(Color::Blue), green: runs(Color::Green) }
    }

    /// Writes the weights file, in place and synced, within the time that there is.
    async fn keep_cut_back(&self, cut: &CutBack, moved: Moved) -> Result<(), String> {
        let entry = Entry {
            split: moved.after,
            salt: self.state().salt,
            number: cut.number,
            at: cut.at,
            operation: cut.kept_operation,
            reason: cut.reason.to_owned(),
        };
        // Written on even when nobody waits any more: a call that is given up in its queue is
        // dropped.
        let (app, shared) = (self.name.clone(), Arc::clone(&self.shared));
        let write = tokio::spawn(async move { shared.weights.set(&app, entry).await });
        match tokio::time::timeout(DISK, write).await {
            Ok(Ok(result)) => result.map_err(|error| error.to_string()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("the disk has not answered yet".to_owned()),
        }
    }
}

/// A cut-back that is in force.
struct CutBack {
    operation: OperationId,
    /// The same, if the journal can have it: without one the number may be another's.
    kept_operation: Option<OperationId>,
    number: u64,
    at: cutover_model::Millis,
    moved: Option<Moved>,
    effects: Vec<Effect>,
    reason: &'static str,
}
