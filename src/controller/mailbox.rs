//! The mailbox: one task per app that turns inputs into decisions, facts and effects, in order.
//!
//! What waits for the disk is written first. An input's facts are durable before its split is
//! published; the publish names the table that the decision stood on, so that a cut-back which came
//! in between is never undone by it.

use std::sync::Arc;
use std::time::Duration;

use cutover_model::{
    Actor, Effect, Ending, Fact, Generation, Happened, Input, OperationId, Salt, Split, decide,
};
use cutover_proxy::message::{Acknowledged, Change, Publish, Refused};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::live::happened;
use super::recorder::Recorder;
use super::{Answer, App, Failure, Moved, Recorded, now};
use crate::journal::weights::Entry;

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
    mut recorder: Recorder,
    mut mailbox: mpsc::Receiver<Message>,
    stop: CancellationToken,
) {
    loop {
        let retry = tokio::time::sleep(RETRY);
        let message = tokio::select! {
            message = mailbox.recv() => message,
            () = retry, if app.unrecorded() > 0 => Some(Message::Flush),
            () = stop.cancelled() => None,
        };
        match message {
            None => break,
            Some(Message::Flush) => report(app.flush(&mut recorder).await),
            Some(Message::Record { actor, facts, room, reply }) => {
                let facts = happened(&actor, facts);
                drop(reply.send(app.append_with(&mut recorder, &facts, room).await));
            }
            Some(Message::Ask { input, actor, request, reply }) => {
                drop(reply.send(app.carry_out(&mut recorder, input, actor, request).await));
            }
        }
    }
    report(app.flush(&mut recorder).await);
}

fn report(flushed: Result<(), Failure>) {
    if let Err(failure) = flushed {
        tracing::warn!(%failure, "facts wait for the disk");
    }
}

impl App {
    /// Writes the batches that wait, oldest first.
    async fn flush(&self, recorder: &mut Recorder) -> Result<(), Failure> {
        loop {
            let Some(batch) = self.live().oldest() else { return Ok(()) };
            if let Err(error) = recorder.append(&batch).await {
                let why = error.to_string();
                self.live().not_written(&why);
                return Err(Failure::NotRecorded(why));
            }
            self.live().written(recorder.state());
        }
    }

    async fn write(
        &self,
        recorder: &mut Recorder,
        actor: &Actor,
        facts: Vec<Fact>,
    ) -> Result<(), Failure> {
        self.append(recorder, &happened(actor, facts)).await
    }

    async fn append(&self, recorder: &mut Recorder, facts: &[Happened]) -> Result<(), Failure> {
        self.flush(recorder).await?;
        recorder.append(facts).await.map_err(|e| Failure::NotRecorded(e.to_string()))?;
        self.live().recorded(recorder.state(), facts.to_vec());
        Ok(())
    }

    async fn append_with(
        &self,
        recorder: &mut Recorder,
        facts: &[Happened],
        room: Room,
    ) -> Result<(), Failure> {
        let appended = self.append(recorder, facts).await;
        let is_refused = matches!(appended, Err(Failure::NotRecorded(_)));
        if is_refused && room == Room::Reserve && self.shared.journal.give_up_reserve().await {
            return self.append(recorder, facts).await;
        }
        appended
    }

    async fn carry_out(
        self: &Arc<Self>,
        recorder: &mut Recorder,
        input: Input,
        actor: Actor,
        request: Option<String>,
    ) -> Result<Answer, Failure> {
        if let Some(why) = self.untrusted() {
            return Err(Failure::Untrusted(why));
        }
        self.flush(recorder).await?;
        // These have tasks of their own, which end the operation.
        let has_own_task = matches!(
            input,
            Input::Deploy
                | Input::Ready { .. }
                | Input::Returned { .. }
                | Input::Adopt
                | Input::Leave
                | Input::Restore { .. }
                | Input::Continue { .. }
        );
        let (asked, decision, based_on) = {
            let mut live = self.live();
            let asked = live.number(input, request);
            let decision = decide(&live.state, &asked)?;
            live.accept(&asked);
            (asked, decision, live.split_generation)
        };
        let operation = asked.operation;
        self.write(recorder, &actor, decision.facts).await?;
        // CRASH: the journal has the new split, the table not yet: the next start publishes it.
        let mut moved = None;
        for effect in &decision.effects {
            if let Effect::Publish { split, salt } = effect {
                match self.publish(*split, *salt, based_on) {
                    Ok(done) => moved = Some(done),
                    Err(refused) => {
                        return Err(self.overtaken(recorder, operation, refused).await);
                    }
                }
            }
        }
        if let Some(moved) = &moved {
            self.keep_weight(asked.move_number, operation, moved.after).await;
        }
        let answer = Answer {
            operation,
            at: now(),
            moved,
            recorded: Recorded::Journal,
            state: self.state(),
            effects: decision.effects,
        };
        if !has_own_task {
            self.settle(operation, answer.effects.clone());
        }
        Ok(answer)
    }

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
        Ok(moved(&done, started.elapsed()))
    }

    async fn overtaken(
        &self,
        recorder: &mut Recorder,
        operation: OperationId,
        refused: Refused,
    ) -> Failure {
        let ended = Fact::OperationEnded { operation, ending: Ending::Overtaken };
        if let Err(failure) = self.write(recorder, &Actor::daemon(), vec![ended]).await {
            tracing::warn!(%failure, "the end of an overtaken operation is not recorded");
        }
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
