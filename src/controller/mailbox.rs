//! The mailbox: one task per app that turns inputs into decisions, facts and effects, in order.
//!
//! What waits for the disk is written first. An input's facts are durable before its split is
//! published; the publish names the table that the decision stood on, so that a cut-back which came
//! in between is never undone by it. Who asked gets no answer before it is known whether the facts
//! stand; what a disk says too late is in `late`.

mod late;
pub(super) mod recorder;

use std::sync::Arc;
use std::time::{Duration, Instant};

use cutover_model::{
    Actor, Color, Effect, Ending, Fact, Generation, Happened, Input, OperationId, Salt, Split,
    Weight, decide,
};
use cutover_proxy::message::{Acknowledged, Change, Publish, Refused};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::boot::untrusted;
use super::live::happened;
use super::{Answer, App, Failure, Moved, Recorded, now};
use crate::journal::JournalError;
use crate::journal::weights::Entry;
use late::{Accepted, Claim, Late};
use recorder::{Doubt, Recorder};

/// Inputs that may wait: one operator and a few scripts; more is a mistake, and they wait outside.
pub(super) const MAILBOX: usize = 64;

/// How long a disk that takes nothing is left alone.
const RETRY: Duration = Duration::from_secs(1);

/// What the mailbox takes.
#[derive(Debug)]
pub(super) enum Message {
    /// An input.
    Ask {
        input: Input,
        actor: Actor,
        request: Option<String>,
        reply: oneshot::Sender<Result<Answer, Failure>>,
    },
    /// Facts that shall be durable.
    Record {
        actor: Actor,
        facts: Vec<Fact>,
        room: Room,
        reply: oneshot::Sender<Result<(), Failure>>,
    },
    /// A release takes a color that has no traffic.
    Claim { color: Color, made: Fact, reply: oneshot::Sender<Result<(), Failure>> },
    /// Write what waits.
    Flush,
}

/// What a record may use on a disk that is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Room {
    /// What there is.
    AsIs,
    /// The reserve too: an operation that has moved traffic shall be able to end.
    Reserve,
}

/// Runs until the daemon stops, then writes what waits once more.
pub(super) async fn run(
    app: Arc<App>,
    recorder: Recorder,
    mut messages: mpsc::Receiver<Message>,
    stop: CancellationToken,
) {
    let mut mailbox = Mailbox { app, recorder, late: None };
    loop {
        let retry = tokio::time::sleep(RETRY);
        let message = tokio::select! {
            message = messages.recv() => message,
            () = retry, if mailbox.has_to_write() => Some(Message::Flush),
            () = stop.cancelled() => None,
        };
        match message {
            None => break,
            Some(Message::Flush) => mailbox.try_flush().await,
            Some(Message::Record { actor, facts, room, reply }) => {
                mailbox.record(happened(&actor, facts), room, None, reply).await;
            }
            Some(Message::Claim { color, made, reply }) => mailbox.claim(color, made, reply).await,
            Some(Message::Ask { input, actor, request, reply }) => {
                mailbox.ask(input, &actor, request, reply).await;
            }
        }
    }
    mailbox.try_flush().await;
}

/// What became of a batch.
#[derive(Debug)]
enum Wrote {
    /// It is durable.
    Yes,
    /// It does not stand, for this reason.
    No(Failure),
    /// Nobody knows yet: the disk has not answered.
    Unknown,
}

/// The task's own.
struct Mailbox {
    app: Arc<App>,
    recorder: Recorder,
    /// Whose batch is in doubt; `None` while one is: the oldest of those that wait.
    late: Option<Late>,
}

impl Mailbox {
    fn has_to_write(&self) -> bool {
        let is_open = self.recorder.why_closed().is_none();
        is_open && (self.app.unrecorded() > 0 || self.recorder.is_in_doubt())
    }

    async fn try_flush(&mut self) {
        if self.recorder.why_closed().is_none()
            && let Err(failure) = self.flush().await
        {
            tracing::warn!(%failure, "facts wait for the disk");
        }
    }

    /// Finds out what became of a batch in doubt, then writes those that wait, oldest first.
    async fn flush(&mut self) -> Result<(), Failure> {
        if self.recorder.is_in_doubt() {
            let doubt = self.recorder.settle().await;
            let doubt = doubt.map_err(|error| self.refused(&error))?;
            match self.late.take() {
                Some(late) => self.conclude(late, &doubt).await,
                None if doubt != Doubt::Dropped => self.app.live().written(self.recorder.state()),
                None => {}
            }
        }
        loop {
            let Some(batch) = self.app.live().oldest() else { return Ok(()) };
            if let Err(error) = self.recorder.append(&batch).await {
                self.app.live().not_written(&error.to_string());
                return Err(self.refused(&error));
            }
            self.app.live().written(self.recorder.state());
        }
    }

    /// What is said of an error; after one that closed the recorder the app is not trusted.
    fn refused(&mut self, error: &JournalError) -> Failure {
        let Some(why) = self.recorder.why_closed() else {
            return Failure::NotRecorded(error.to_string());
        };
        let mut live = self.app.live();
        let why = match &live.untrusted {
            Some(why) => why.clone(),
            None => {
                let why = untrusted(&self.app.name, why);
                tracing::error!("{why}");
                live.untrusted.insert(why).clone()
            }
        };
        drop(live);
        if let Some(late) = self.late.take() {
            late.refuse(Failure::Untrusted(why.clone()));
        }
        Failure::Untrusted(why)
    }

    /// Writes a batch after those that wait.
    async fn write(&mut self, facts: &[Happened]) -> Wrote {
        if let Err(failure) = self.flush().await {
            return Wrote::No(failure);
        }
        match self.recorder.append(facts).await {
            Ok(()) => Wrote::Yes,
            Err(_) if self.recorder.is_in_doubt() => Wrote::Unknown,
            Err(error) => Wrote::No(self.refused(&error)),
        }
    }

    async fn write_with(&mut self, facts: &[Happened], room: Room) -> Wrote {
        let wrote = self.write(facts).await;
        let is_refused = matches!(wrote, Wrote::No(Failure::NotRecorded(_)) | Wrote::Unknown);
        if room == Room::AsIs || !is_refused || !self.app.shared.journal.give_up_reserve().await {
            return wrote;
        }
        if let Wrote::Unknown = wrote {
            match self.recorder.settle().await {
                Ok(Doubt::Stands(_)) => return Wrote::Yes,
                Ok(Doubt::Dropped) => {}
                Err(_) if self.recorder.is_in_doubt() => return Wrote::Unknown,
                Err(error) => return Wrote::No(self.refused(&error)),
            }
        }
        self.write(facts).await
    }

    /// Records facts, under a claim or not; answers as soon as it is known whether they stand.
    async fn record(
        &mut self,
        facts: Vec<Happened>,
        room: Room,
        claim: Option<Claim>,
        reply: oneshot::Sender<Result<(), Failure>>,
    ) {
        match self.write_with(&facts, room).await {
            Wrote::Yes => drop(reply.send(self.stands(facts, claim))),
            Wrote::No(failure) => {
                if claim.is_some() {
                    self.app.live().claimed = None;
                }
                drop(reply.send(Err(failure)));
            }
            Wrote::Unknown => self.late = Some(Late::Record { facts, claim, reply }),
        }
    }

    /// A release takes a color. Whether traffic may be there is looked at here, so that no input
    /// comes between that look and the fact; a cut-back may, and it wins.
    async fn claim(
        &mut self,
        color: Color,
        made: Fact,
        reply: oneshot::Sender<Result<(), Failure>>,
    ) {
        let claim = {
            let mut live = self.app.live();
            let former = *live.state.colors.get(color);
            if former.is_some() && live.state.split.share(color) > Weight::ZERO {
                drop(live);
                return drop(reply.send(Err(moved_there(color))));
            }
            live.claimed = Some(color);
            let former = former.and_then(|former| live.state.standing(former));
            Claim { color, former: former.cloned().map(Box::new) }
        };
        let facts = happened(&Actor::daemon(), vec![made]);
        self.record(facts, Room::AsIs, Some(claim), reply).await;
    }

    async fn ask(
        &mut self,
        input: Input,
        actor: &Actor,
        request: Option<String>,
        reply: oneshot::Sender<Result<Answer, Failure>>,
    ) {
        let (accepted, facts) = match self.accept(input, actor, request).await {
            Ok(accepted) => accepted,
            Err(failure) => return drop(reply.send(Err(failure))),
        };
        match self.write(&facts).await {
            Wrote::Yes => {
                self.app.live().recorded(self.recorder.state(), facts);
                drop(reply.send(self.finish(accepted).await));
            }
            Wrote::No(failure) => drop(reply.send(Err(failure))),
            Wrote::Unknown => self.late = Some(Late::Ask { accepted, facts, reply }),
        }
    }

    /// Decides, and takes the numbers.
    async fn accept(
        &mut self,
        input: Input,
        actor: &Actor,
        request: Option<String>,
    ) -> Result<(Accepted, Vec<Happened>), Failure> {
        if let Some(why) = self.app.untrusted() {
            return Err(Failure::Untrusted(why));
        }
        self.flush().await?;
        let mut live = self.app.live();
        let asked = live.number(input, request);
        let decision = decide(&live.state, &asked)?;
        for effect in &decision.effects {
            if let (Effect::Publish { split, .. }, Some(claimed)) = (effect, live.claimed)
                && split.share(claimed) > live.state.split.share(claimed)
            {
                let why = format!("a deploy is replacing what was in {claimed} at this moment");
                return Err(Failure::Impossible(why));
            }
        }
        live.accept(&asked);
        let accepted = Accepted {
            effects: decision.effects,
            based_on: live.split_generation,
            cut_backs: live.cut_backs,
            at: Instant::now(),
            asked,
        };
        drop(live);
        Ok((accepted, happened(actor, decision.facts)))
    }

    /// The facts stand: publishes what was decided, and answers.
    async fn finish(&self, accepted: Accepted) -> Result<Answer, Failure> {
        let has_own_task = accepted.has_own_task();
        let Accepted { asked, effects, based_on, .. } = accepted;
        let (app, operation) = (&self.app, asked.operation);
        // CRASH: the journal has the new split, the table not yet: the next start publishes it.
        let mut moved = None;
        for effect in &effects {
            if let Effect::Publish { split, salt } = effect {
                match app.publish(*split, *salt, based_on) {
                    Ok(done) => moved = Some(done),
                    Err(refused) => return Err(app.overtaken(operation, refused)),
                }
            }
        }
        if let Some(moved) = &moved {
            app.keep_weight(asked.move_number, operation, moved.after).await;
        }
        let (recorded, state) = (Recorded::Journal, app.state());
        let answer = Answer { operation, at: now(), moved, recorded, state, effects };
        if !has_own_task {
            app.settle(operation, answer.effects.clone());
        }
        Ok(answer)
    }
}

/// Why a claim was given up.
fn moved_there(color: Color) -> Failure {
    Failure::Unknown(format!("traffic moved to {color} meanwhile: this was given up"))
}

impl App {
    /// Publishes a split; with `based_on`, only if nobody moved it since.
    pub(super) fn publish(
        &self,
        split: Split,
        salt: Salt,
        based_on: Option<Generation>,
    ) -> Result<Moved, Refused> {
        let started = std::time::Instant::now();
        let mut live = self.live();
        let (app, changes) = (self.name.clone(), vec![Change::Split { split, salt }]);
        let done = self.shared.proxy.switch().apply(Publish { app, changes, based_on })?;
        live.split_generation = Some(done.split_generation);
        drop(live);
        self.shared.tables_changed.notify_one();
        Ok(moved(&done, started.elapsed()))
    }

    fn overtaken(&self, operation: OperationId, refused: Refused) -> Failure {
        let ended = Fact::OperationEnded { operation, ending: Ending::Overtaken };
        self.note(&Actor::daemon(), vec![ended]);
        match refused {
            Refused::Overtaken { now, .. } => Failure::Overtaken(now),
            other => Failure::Unknown(other.to_string()),
        }
    }

    /// Keeps the new split in the weights file; a failure is logged, the journal has it.
    async fn keep_weight(&self, number: u64, operation: OperationId, split: Split) {
        let entry = Entry {
            split,
            salt: self.state().salt,
            number,
            at: now(),
            operation: Some(operation),
            reason: String::new(),
        };
        if let Err(error) = self.shared.weights.set(&self.name, entry).await {
            tracing::warn!(%error, "the weights file was not written");
        }
    }
}

pub(super) fn moved(done: &Acknowledged, took: Duration) -> Moved {
    Moved {
        before: done.before.unwrap_or(done.split),
        after: done.split,
        generation: done.generation,
        took,
    }
}
