//! What the disk says too late: a batch that turns out to stand, or not, after its time.
//!
//! Whoever asked is answered only then, and what was asked for goes on as if the disk had been
//! quick. Two things come in between. A person who has waited for long was told that it is not
//! known: nothing begins behind their back any more, it is put back in the journal. And a cut-back
//! is always the last word.
//! INVARIANT: afterwards the split of the journal is the one of the table.

use std::time::{Duration, Instant};

use cutover_model::{
    Actor, Asked, Color, Effect, Ending, Fact, Generation, Happened, Input, Occasion,
    RolloutEnding, Standing, Upkeep,
};
use tokio::sync::oneshot;

use super::{Doubt, Mailbox, moved_there};
use crate::controller::{Answer, Failure};

/// How long a person waits for an answer; the admin socket gives up then, too.
const PATIENCE: Duration = Duration::from_secs(30);

/// An input that was decided.
#[derive(Debug)]
pub(super) struct Accepted {
    pub(super) asked: Asked,
    pub(super) effects: Vec<Effect>,
    pub(super) based_on: Option<Generation>,
    /// How many cut-backs there had been.
    pub(super) cut_backs: u64,
    pub(super) at: Instant,
}

impl Accepted {
    /// Whether a task of its own carries it out and ends the operation.
    pub(super) fn has_own_task(&self) -> bool {
        matches!(
            self.asked.input,
            Input::Deploy
                | Input::Ready { .. }
                | Input::Returned { .. }
                | Input::Adopt
                | Input::Leave
                | Input::Restore { .. }
                | Input::MigrateDown { .. }
                | Input::Continue { .. }
                | Input::Upkeep { .. }
        )
    }

    /// Whether a person waits for it, and not an operation that is under way, or the schedule.
    fn is_a_persons(&self) -> bool {
        const SCHEDULED: Upkeep = Upkeep::BackUp { occasion: Occasion::Scheduled };
        match &self.asked.input {
            Input::Ready { .. } | Input::Returned { .. } | Input::Continue { .. } => false,
            Input::Upkeep { upkeep } => *upkeep != SCHEDULED,
            _ => true,
        }
    }
}

/// A color that a release is about to take.
#[derive(Debug)]
pub(super) struct Claim {
    pub(super) color: Color,
    /// What was there.
    pub(super) former: Option<Box<Standing>>,
}

/// Whose batch is in doubt.
#[derive(Debug)]
pub(super) enum Late {
    Record {
        facts: Vec<Happened>,
        claim: Option<Claim>,
        reply: oneshot::Sender<Result<(), Failure>>,
    },
    Ask {
        accepted: Accepted,
        facts: Vec<Happened>,
        reply: oneshot::Sender<Result<Answer, Failure>>,
    },
}

impl Late {
    pub(super) fn refuse(self, failure: Failure) {
        match self {
            Self::Record { reply, .. } => drop(reply.send(Err(failure))),
            Self::Ask { reply, .. } => drop(reply.send(Err(failure))),
        }
    }
}

impl Mailbox {
    /// It is known now what became of a batch.
    pub(super) async fn conclude(&mut self, late: Late, doubt: &Doubt) {
        if *doubt == Doubt::Dropped {
            if let Late::Record { claim: Some(_), .. } = late {
                self.app.live().claimed = None;
            }
            let why = "the disk had not answered in time, and did not take it".to_owned();
            return late.refuse(Failure::NotRecorded(why));
        }
        match late {
            Late::Record { facts, claim, reply } => drop(reply.send(self.stands(facts, claim))),
            Late::Ask { accepted, facts, reply } => {
                let began = facts.iter().map(|happened| happened.fact.clone()).collect();
                self.app.live().recorded(self.recorder.state(), facts);
                let waited = accepted.at.elapsed();
                let is_cut_back = self.app.live().cut_backs != accepted.cut_backs;
                if is_cut_back || (accepted.is_a_persons() && waited > PATIENCE) {
                    let failure = Failure::TooLate { after: waited, is_cut_back };
                    self.give_up(&accepted, began, &failure);
                    drop(reply.send(Err(failure)));
                } else {
                    drop(reply.send(self.finish(accepted).await));
                }
            }
        }
    }

    /// Recorded facts count. A claim that a cut-back went over is taken back: what was in the color
    /// still is, and serves.
    pub(super) fn stands(&self, facts: Vec<Happened>, claim: Option<Claim>) -> Result<(), Failure> {
        let mut live = self.app.live();
        live.recorded(self.recorder.state(), facts);
        self.app.shared.tables_changed.notify_one();
        let Some(Claim { color, former }) = claim else { return Ok(()) };
        if live.claimed.take() == Some(color) {
            return Ok(());
        }
        if let Some(former) = former {
            let (release, state) = (former.release.id, former.state);
            let project = former.release.project;
            let again = Fact::ReleaseRemade { release, color, project };
            live.push(&Actor::daemon(), vec![again, Fact::ReleaseIs { release, state }], None);
        }
        Err(moved_there(color))
    }

    /// What stands and is not carried out is put back, to what the table says.
    fn give_up(&self, accepted: &Accepted, began: Vec<Fact>, failure: &Failure) {
        let operation = accepted.asked.operation;
        let table = self.app.shared.proxy.switch().split(&self.app.name).map(|(_, split)| split);
        let mut live = self.app.live();
        let mut facts = Vec::new();
        if let Some(after) = table.filter(|table| *table != live.state.split) {
            let (number, before) = (live.next_move(), live.state.split);
            facts.push(Fact::SplitChanged { number, before, after, operation: Some(operation) });
        }
        let has = |is: fn(&Fact) -> bool| began.iter().any(is);
        if has(|fact| matches!(fact, Fact::RolloutStarted { .. })) && live.state.rollout.is_some() {
            facts.push(Fact::RolloutEnded { ending: RolloutEnding::Aborted });
        }
        if has(|fact| matches!(fact, Fact::OperationStarted { .. })) {
            let ending = Ending::Failed(failure.to_string());
            facts.push(Fact::OperationEnded { operation, ending });
        }
        live.push(&Actor::daemon(), facts, None);
    }
}
