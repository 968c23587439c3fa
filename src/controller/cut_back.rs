//! The path of the cut-back: API, switch, acknowledgement, and only then the disk.
//!
//! It waits for nothing: no mailbox behind a slow disk, no Docker, no database, no lock that is
//! held across one of them. What it did is kept in memory, in the weights file and, as soon as the
//! disk takes it, in the journal; the answer says how far that has come.

use std::sync::Arc;
use std::time::{Duration, Instant};

use cutover_model::{Actor, Effect, Input, OperationId, decide};
use cutover_proxy::message::{Change, Publish};
use tokio::sync::oneshot;

use super::mailbox::moved;
use super::{Answer, App, Failure, Moved, now};
use crate::journal::weights::Entry;

/// How long the answer waits for the disk before it says "not yet": the first line has to stand
/// within 50 ms, whatever the disk does.
pub(super) const DISK: Duration = Duration::from_millis(25);

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
        let mut live = self.live();
        let asked = live.number(input, request);
        let decision = decide(&live.state, &asked)?;
        let mut done = None;
        for effect in &decision.effects {
            let Effect::Publish { split, salt } = effect else { continue };
            if let Some(claimed) = live.claimed
                && split.share(claimed) > live.state.split.share(claimed)
            {
                let why = format!("a deploy is replacing what was in {claimed} at this moment");
                return Err(Failure::Impossible(why));
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
        // CRASH: the new table serves and nothing is durable yet; the caller has no answer either.
        live.accept(&asked);
        live.push(actor, decision.facts, Some(durable));
        Ok(CutBack {
            operation: asked.operation,
            number: asked.move_number,
            at: now(),
            moved: done,
            effects: decision.effects,
            reason,
        })
    }

    /// Writes the weights file, in place and synced, within the time that there is.
    async fn keep_cut_back(&self, cut: &CutBack, moved: Moved) -> Result<(), String> {
        let entry = Entry {
            split: moved.after,
            salt: self.state().salt,
            number: cut.number,
            at: cut.at,
            operation: Some(cut.operation),
            reason: cut.reason.to_owned(),
        };
        let write = self.shared.weights.set(&self.name, entry);
        match tokio::time::timeout(DISK, write).await {
            Ok(result) => result.map_err(|error| error.to_string()),
            Err(_) => Err("the disk has not answered yet".to_owned()),
        }
    }
}

/// A cut-back that is in force.
struct CutBack {
    operation: OperationId,
    number: u64,
    at: cutover_model::Millis,
    moved: Option<Moved>,
    effects: Vec<Effect>,
    reason: &'static str,
}
