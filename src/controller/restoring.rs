//! A restore of the database: its stages in order, each recorded before it is begun.
//!
//! Traffic is on the safe color before anything here starts. The candidate is built beside the live
//! database; requests wait only for the exchange of names, which has a file of its own. Whatever
//! fails before the exchange is put back, or waits for a person where going on makes sense; what
//! fails right after it is exchanged back.
//! INVARIANT: one task works on an operation at a time. No request waits when it ends, and
//! connections to the live database are allowed, or are being allowed until that succeeds.

mod ending;
mod exchange;
mod halting;
mod handing;
mod leftovers;
mod opening;
mod planning;
mod tries;
mod watching;

use cutover_model::restore::{self, ACCEPTED_FOR_MS, Side, Source};
use cutover_model::{
    Actor, Effect, Fact, Input, LineLevel, OperationId, Refusal, ReleaseId, RestorePlan, Stage,
};
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

use super::gate::HoldGuard;
use super::{Answer, App, Failure, Recorded, now};
use crate::crash;
use crate::host::StackSettings;
use crate::reconciler::database::{Database, Then, Trouble, Us, installation};
use crate::text;
use tries::Tries;

pub(super) use exchange::first_hold;
pub use planning::{Data, Kept, Planned, RestoreRequest, WayBack};

/// Why a restore did not reach its end.
#[derive(Debug, thiserror::Error)]
pub(super) enum Stop {
    /// A person has to accept a larger loss, or accept it again.
    #[error("{why}")]
    Asks { rows: u64, why: String },
    /// Something outside has to be mended first; what was made is kept.
    #[error("{0}")]
    Stuck(String),
    /// It cannot be done; nothing was changed.
    #[error("{0}")]
    Refused(String),
    /// It failed and was put back.
    #[error("{0}")]
    Failed(String),
    /// A person gave it up.
    #[error("it was given up")]
    GivenUp,
    /// The daemon ends; it goes on at the next start.
    #[error("the daemon is stopping")]
    Stopping,
}

impl From<Trouble> for Stop {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Refused(why) => Self::Refused(why),
            Trouble::Away(why) => Self::Stuck(why),
            Trouble::Failed(why) => Self::Failed(why),
        }
    }
}

impl From<restore::Strange> for Stop {
    fn from(strange: restore::Strange) -> Self {
        Self::Stuck(strange.to_string())
    }
}

/// The restore that this app carries out now.
#[derive(Debug, Default)]
pub(super) struct Restoring {
    pub(super) running: Option<(OperationId, CancellationToken)>,
    /// The hold that the proxy was started with, because a daemon was killed in the exchange.
    held: Option<HoldGuard>,
    /// The hold of a deploy that clones the live database.
    pointing: Option<HoldGuard>,
    /// The release whose containers are frozen, so that it writes nothing.
    frozen: Option<ReleaseId>,
    /// Operations after which connections are still to be allowed again.
    opening: BTreeSet<OperationId>,
    /// Why they cannot be allowed, as long as that is so.
    not_opened: Option<String>,
    /// Whose turn it is to allow them: never two at once for one operation.
    turn: Arc<tokio::sync::Mutex<()>>,
    /// Work on backups that ends because a restore was accepted.
    pub(super) makes_way: Option<OperationId>,
    /// Plans that were shown, to be accepted within ten minutes.
    shown: Vec<planning::Shown>,
}

impl Restoring {
    /// Whether a plan that can still be accepted takes its data from here.
    pub(super) fn shows(&self, source: &Source) -> bool {
        self.shown.iter().any(|shown| shown.is_open() && shown.plan.source == *source)
    }
}

/// What a task does with an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Task {
    GoOn,
    GiveUp,
}

impl App {
    /// A restore that waits goes on.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn go_on(
        self: &Arc<Self>,
        operation: OperationId,
        max_loss: Option<u64>,
        actor: Actor,
    ) -> Result<Answer, Failure> {
        if self.state().operations.get(&operation).is_some_and(|known| known.upkeep().is_some()) {
            return self.go_on_upkeep(operation);
        }
        if self.has_task(operation) {
            let what = "restore".to_owned();
            return Err(Failure::Refused(Refusal::Busy { operation, what }));
        }
        self.see_begun(Input::Continue { operation, max_loss }, actor, None).await
    }

    /// Has an input recorded and its task begun, even when nobody waits for the answer any more.
    async fn see_begun(
        self: &Arc<Self>,
        input: Input,
        actor: Actor,
        request: Option<String>,
    ) -> Result<Answer, Failure> {
        let app = Arc::clone(self);
        let begun = self.tasks.spawn(async move {
            let answer = app.ask(input, actor, request).await?;
            for effect in &answer.effects {
                if let Effect::Restore { operation } = *effect {
                    app.begin(operation, Task::GoOn);
                }
            }
            Ok(answer)
        });
        begun.await.map_err(|_| Failure::Stopping)?
    }

    /// Gives an operation up: what it had begun is put back.
    ///
    /// # Errors
    /// [`Failure`]: it has ended, or is beyond giving up.
    pub async fn give_up(
        self: &Arc<Self>,
        operation: OperationId,
        actor: Actor,
    ) -> Result<Answer, Failure> {
        let state = self.state();
        let is_upkeep =
            |known: &cutover_model::Operation| known.upkeep().is_some() && known.ended.is_none();
        if state.operations.get(&operation).is_some_and(is_upkeep) {
            return Ok(self.give_upkeep_up(operation, &actor));
        }
        if !state.restores.contains_key(&operation) {
            let why = match state.operations.get(&operation) {
                None => format!("there is no operation {operation}"),
                Some(known) if known.ended.is_some() => format!("{operation} has ended already"),
                Some(known) => format!("{operation} ({}) cannot be given up", known.what.as_str()),
            };
            return Err(Failure::Unknown(why));
        }
        let text = format!("{} gives {operation} up", actor.0);
        self.say(Some(operation), LineLevel::Note, "", text);
        self.begin(operation, Task::GiveUp);
        Ok(Answer {
            operation,
            at: now(),
            moved: None,
            recorded: Recorded::Journal,
            state: self.state(),
            effects: Vec::new(),
        })
    }

    pub(super) fn restoring(&self) -> std::sync::MutexGuard<'_, Restoring> {
        self.restoring.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn has_task(&self, operation: OperationId) -> bool {
        self.restoring().running.as_ref().is_some_and(|(running, _)| *running == operation)
    }

    /// Its task has nothing left to do but to say how it ended; who reads that may act at once.
    pub(super) fn task_over(&self, operation: OperationId) {
        let mut restoring = self.restoring();
        if restoring.running.as_ref().is_some_and(|(running, _)| *running == operation) {
            restoring.running = None;
        }
    }

    /// Starts the task of an operation. One that runs already is told to end, if it shall be given
    /// up.
    fn begin(self: &Arc<Self>, operation: OperationId, task: Task) {
        let stop = self.stop.child_token();
        let turn = {
            let mut restoring = self.restoring();
            if let Some((running, stop)) = &restoring.running
                && *running == operation
            {
                if task == Task::GiveUp {
                    stop.cancel();
                }
                return;
            }
            restoring.running = Some((operation, stop.clone()));
            Arc::clone(&restoring.turn)
        };
        let app = Arc::clone(self);
        self.carry(operation, async move {
            // Whoever allows connections now is done first; then it is this task's to do.
            drop(turn.lock().await);
            if !app.live().state.restores.contains_key(&operation) {
                return app.task_over(operation);
            }
            let result = match task {
                Task::GoOn => Box::pin(app.tries(operation, &stop)).await,
                Task::GiveUp => Err(Stop::GivenUp),
            };
            let is_given_up = stop.is_cancelled() && !app.stop.is_cancelled();
            match result {
                Ok(()) => app.task_over(operation),
                // It was given up while it came to a halt by itself.
                Err(Stop::Stuck(_) | Stop::Asks { .. }) if is_given_up => {
                    Box::pin(app.end_restore(operation, Stop::GivenUp)).await;
                }
                Err(stop) => Box::pin(app.end_restore(operation, stop)).await,
            }
        });
    }

    fn plan_of(&self, operation: OperationId) -> Option<RestorePlan> {
        self.live().state.restores.get(&operation).map(|restore| restore.plan.clone())
    }

    /// Every stage that is left. What is away before requests wait is looked at and tried again a
    /// few times, before a person is asked.
    async fn tries(
        self: &Arc<Self>,
        operation: OperationId,
        stop: &CancellationToken,
    ) -> Result<(), Stop> {
        let mut tries = Tries::new();
        loop {
            let ended = Box::pin(self.stages(operation, stop)).await;
            let Err(Stop::Stuck(why)) = ended else { return ended };
            let stage = self.live().state.restores.get(&operation).and_then(|r| r.stage);
            let is_preparing = stage.is_none_or(|stage| stage < Stage::Hold);
            let Some(pause) = tries.pause().filter(|_| is_preparing) else {
                return Err(Stop::Stuck(tries.told(&why)));
            };
            let shown = text::duration(pause);
            let text = format!("{why}. It is tried again in {shown} ({tries})");
            self.say(Some(operation), LineLevel::Note, "waits", text);
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stop.cancelled() => return Err(self.why_stopped()),
            }
        }
    }

    /// Every stage that is left.
    async fn stages(
        self: &Arc<Self>,
        operation: OperationId,
        stop: &CancellationToken,
    ) -> Result<(), Stop> {
        let restore = self.state().restores.get(&operation).cloned();
        let Some(restore) = restore else { return Ok(()) };
        let (plan, begun) = (restore.plan, restore.stage);
        let is_old = now().0 - plan.accepted_at.0 > ACCEPTED_FOR_MS;
        // First of all: whatever a killed daemon had closed is opened, and what it had started
        // ends. Of a fresh operation nothing can be closed.
        let database = match begun {
            None => self.open_once(operation).await?,
            Some(_) => self.open_again(operation).await?,
        };
        let seen = database.look(&plan).await?;
        let left = restore::left(&plan, begun, &seen).map_err(|strange| match begun {
            None => Stop::Refused(strange.to_string()),
            Some(_) => Stop::Stuck(strange.to_string()),
        })?;
        let side = restore::side(&plan, &seen)?;
        self.note_side(operation, &plan, side);
        let is_before = side == Side::Before;
        if begun.is_some() && is_before {
            self.unfreeze(operation, &plan, &database).await;
            self.open_gate(operation).await;
        }
        let dumps = if left.contains(&Stage::Dump) { Then::Dumps } else { Then::HasDumped };
        for stage in left {
            if stop.is_cancelled() && is_before && stage <= Stage::Hold {
                return Err(self.why_stopped());
            }
            match stage {
                Stage::Hold => {
                    let exchanged = self.exchange(operation, &plan, &database, (stop, is_old));
                    Box::pin(exchanged).await?;
                }
                // The exchange has done these, unless it was cut off before them.
                Stage::Swap => {}
                Stage::Open if is_before => {}
                Stage::Open => self.open_after(operation, &plan, &database).await?,
                Stage::Settle => return self.settle_restore(operation, &plan, &database).await,
                stage => {
                    self.reached(operation, stage).await?;
                    let prepared = tokio::select! {
                        done = self.prepare(operation, (stage, dumps), &plan, &database) => done,
                        () = stop.cancelled() => return Err(self.why_stopped()),
                    };
                    if let Err(stop) = prepared {
                        return Err(self.stopped_in(operation, stage, stop).await);
                    }
                }
            }
        }
        Ok(())
    }

    pub(super) fn why_stopped(&self) -> Stop {
        if self.stop.is_cancelled() { Stop::Stopping } else { Stop::GivenUp }
    }

    /// Why a stage did not come to its end, with nothing closed that it had closed: what is copied
    /// takes no connections meanwhile.
    async fn stopped_in(self: &Arc<Self>, operation: OperationId, stage: Stage, why: Stop) -> Stop {
        match stage {
            Stage::Build => {
                let opened = self.open_again(operation).await;
                exchange::with_closed(why, opened.err())
            }
            _ => why,
        }
    }

    /// Records that a stage begins; it is begun only then.
    async fn reached(&self, operation: OperationId, stage: Stage) -> Result<(), Stop> {
        crash::point(format_args!("restore.{}.asked", stage.label()));
        let reached = vec![Fact::RestoreReached { operation, stage }];
        let recorded = self.record(Actor::daemon(), reached).await;
        crash::point(format_args!("restore.{}.begun", stage.label()));
        recorded.map_err(|failure| Stop::Stuck(failure.to_string()))
    }

    /// A stage before the exchange; the live database keeps serving.
    async fn prepare(
        self: &Arc<Self>,
        operation: OperationId,
        (stage, then): (Stage, Then),
        plan: &RestorePlan,
        database: &Database,
    ) -> Result<(), Stop> {
        let say = |label: &str, text: String| {
            self.say(Some(operation), LineLevel::Step, label, text);
        };
        match stage {
            Stage::Preflight => database.preflight(plan, then).await?,
            Stage::Dump => say("1/4 dump", database.dump(plan).await?),
            Stage::Build => say("2/4 copy", database.build(plan).await?),
            Stage::Verify => say("2/4 copy", database.verify(plan).await?),
            Stage::Stop => {
                if let Some(project) = self.idle_project(plan) {
                    if database.running(&project).await? > 0 {
                        self.note_stacks(operation, (None, plan.from)).await?;
                    }
                    let stopped = database.stop(&project).await?;
                    say("3/4 exchange", stopped);
                }
                self.ready_to_serve(operation, plan).await?;
            }
            Stage::Hold | Stage::Swap | Stage::Open | Stage::Settle => {}
        }
        Ok(())
    }

    /// The project of the release that must not write any more, when it has no traffic.
    fn idle_project(&self, plan: &RestorePlan) -> Option<String> {
        let state = self.state();
        let standing = state.standing(plan.from?)?;
        let color = standing.release.color;
        let is_there = *state.colors.get(color) == plan.from;
        let is_idle = state.split.share(color) == cutover_model::Weight::ZERO;
        (is_there && is_idle).then(|| standing.release.project.clone())
    }

    /// The project of the release that must not write into the restored data.
    fn other_project(&self, plan: &RestorePlan) -> Option<String> {
        let state = self.state();
        let standing = state.standing(plan.from?)?;
        let is_there = *state.colors.get(standing.release.color) == plan.from;
        is_there.then(|| standing.release.project.clone())
    }

    /// The operator's own project, in which the shared services run.
    async fn project_of_shared(&self, stack: &StackSettings) -> Option<String> {
        if let Some(known) = self.operators_project.get() {
            return Some(known.clone());
        }
        let reconciler = self.shared.reconciler.as_ref()?;
        let colors = self.state().colors;
        reconciler.operators_project(stack, colors, &self.projects()).await
    }

    /// The hands on this app's database, for one operation.
    pub(super) async fn database(&self, operation: OperationId) -> Result<Database, Stop> {
        let settings = self.settings();
        let Some(database) = &settings.database else {
            let why = "no database is configured: [apps.NAME.database] in cutover.toml";
            return Err(Stop::Refused(why.to_owned()));
        };
        let project = match &settings.stack {
            Some(stack) => self.project_of_shared(stack).await,
            None => None,
        };
        if let Some(why) = &self.shared.key_lost {
            return Err(Stop::Refused(format!("what is ours in the database is not known: {why}")));
        }
        let installation = installation(self.shared.key.expose(), &self.name)?;
        let epoch = self.shared.journal.epoch().0;
        let us = Us { installation, epoch, project };
        Ok(Database::open(settings.stack.as_ref(), database, us, operation).await?)
    }
}

/// What a daemon does at its start with operations that were cut off.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Resume {
    /// They go on.
    #[default]
    GoOn,
    /// They wait for `continue` or `abort`.
    Wait,
}
