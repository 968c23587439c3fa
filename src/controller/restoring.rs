//! A restore of the database: its stages in order, each recorded before it is begun.
//!
//! Traffic is on the safe color before anything here starts. The candidate is built beside the live
//! database; requests wait only for the exchange of names, which has a file of its own. Whatever
//! fails before the exchange is put back, or waits for a person where going on makes sense; what
//! fails right after it is exchanged back.
//! INVARIANT: no request waits when this returns, and connections to the live database are allowed.

mod exchange;
mod handing;
mod planning;

use cutover_model::restore::{self, ACCEPTED_FOR_MS, Side};
use cutover_model::{
    Actor, Effect, Ending, Fact, Halt, Input, LineLevel, OperationId, RestorePlan, Source, Stage,
};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

use super::gate::HoldGuard;
use super::{Answer, App, Failure, Recorded, now};
use crate::host::StackSettings;
use crate::reconciler::database::{Database, Trouble, Us, installation};
use crate::{crash, text};

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
    running: Option<(OperationId, CancellationToken)>,
    /// The hold that the proxy was started with, because a daemon was killed in the exchange.
    held: Option<HoldGuard>,
    /// Plans that were shown, to be accepted within ten minutes.
    shown: Vec<planning::Shown>,
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
        let mut answer = self.ask(Input::Continue { operation, max_loss }, actor, None).await?;
        answer.operation = operation;
        self.begin_restore(&answer);
        Ok(answer)
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
        let Some(restore) = state.restores.get(&operation) else {
            let why = match state.operations.get(&operation) {
                None => format!("there is no operation {operation}"),
                Some(known) if known.ended.is_some() => format!("{operation} has ended already"),
                Some(known) => format!("{operation} ({}) cannot be given up", known.what.as_str()),
            };
            return Err(Failure::Unknown(why));
        };
        let text = format!("{} gives {operation} up", actor.0);
        self.say(Some(operation), LineLevel::Note, "", text);
        let halted = restore.halted.is_some();
        match self.restoring().running.as_ref() {
            Some((running, stop)) if *running == operation => stop.cancel(),
            _ if halted => {
                let app = Arc::clone(self);
                self.tasks.spawn(async move { app.end_restore(operation, Stop::GivenUp).await });
            }
            _ => {}
        }
        Ok(Answer {
            operation,
            at: now(),
            moved: None,
            recorded: Recorded::Journal,
            state: self.state(),
            effects: Vec::new(),
        })
    }

    fn restoring(&self) -> std::sync::MutexGuard<'_, Restoring> {
        self.restoring.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Starts the task of a restore that was accepted or goes on.
    pub(super) fn begin_restore(self: &Arc<Self>, answer: &Answer) {
        for effect in &answer.effects {
            let Effect::Restore { operation } = *effect else { continue };
            self.run_restore(operation);
        }
    }

    fn run_restore(self: &Arc<Self>, operation: OperationId) {
        let stop = self.stop.child_token();
        {
            let mut restoring = self.restoring();
            if restoring.running.as_ref().is_some_and(|(running, _)| *running == operation) {
                return;
            }
            restoring.running = Some((operation, stop.clone()));
        }
        let app = Arc::clone(self);
        self.tasks.spawn(async move {
            let result = Box::pin(app.stages(operation, &stop)).await;
            // Who reads that it waits may tell it to go on at once.
            app.restoring().running = None;
            if let Err(stop) = result {
                Box::pin(app.end_restore(operation, stop)).await;
            }
        });
    }

    /// After a start: restores that were cut off go on, or wait where they were told to.
    pub(super) fn resume_restores(self: &Arc<Self>, then: Resume) {
        let restores = self.state().restores;
        for (operation, restore) in restores {
            match (then, restore.halted) {
                (Resume::GoOn, None) => {
                    let text = "the daemon was ended in the middle of this; it goes on";
                    self.say(Some(operation), LineLevel::Note, "", text);
                    self.run_restore(operation);
                }
                (Resume::Wait, None) => {
                    self.note(
                        &Actor::daemon(),
                        vec![Fact::RestoreHalted { operation, halt: Halt::Waits }],
                    );
                    self.settle_gate(operation);
                }
                // It waits for a person already; only the gate may still be held.
                (_, Some(_)) => self.settle_gate(operation),
            }
        }
    }

    /// Connections are allowed and no request waits, whatever a killed daemon left.
    fn settle_gate(self: &Arc<Self>, operation: OperationId) {
        let app = Arc::clone(self);
        self.tasks.spawn(async move {
            if let Some(plan) = app.plan_of(operation)
                && let Ok(database) = app.database(operation).await
                && let Err(trouble) = database.recover(&plan).await
            {
                app.say(Some(operation), LineLevel::Error, "database", trouble.to_string());
            }
            app.open_gate(operation).await;
        });
    }

    fn plan_of(&self, operation: OperationId) -> Option<RestorePlan> {
        self.live().state.restores.get(&operation).map(|restore| restore.plan.clone())
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
        let database = self.database(operation).await?;
        // First of all: whatever a killed daemon had closed is opened, and what it had started
        // ends.
        database.recover(&plan).await?;
        let seen = database.look(&plan).await?;
        let left = restore::left(&plan, begun, &seen)?;
        let is_fresh = begun.is_none();
        let is_before = restore::side(&plan, &seen)? == Side::Before;
        if !is_fresh && is_before {
            self.accepted_lately(&plan, &database).await?;
        }
        for stage in left {
            if stop.is_cancelled() && is_before && stage <= Stage::Hold {
                return Err(self.why_stopped());
            }
            match stage {
                Stage::Hold => {
                    Box::pin(self.exchange(operation, &plan, &database)).await?;
                }
                // The exchange has done these, unless it was cut off before them.
                Stage::Swap => {}
                Stage::Open if is_before => {}
                Stage::Open => self.open_after(operation, &plan, &database).await?,
                Stage::Settle => return self.settle_restore(operation, &plan, &database).await,
                stage => {
                    self.reached(operation, stage).await?;
                    tokio::select! {
                        done = self.prepare(operation, stage, &plan, &database) => done?,
                        () = stop.cancelled() => return Err(self.why_stopped()),
                    }
                }
            }
        }
        Ok(())
    }

    fn why_stopped(&self) -> Stop {
        if self.stop.is_cancelled() { Stop::Stopping } else { Stop::GivenUp }
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
        stage: Stage,
        plan: &RestorePlan,
        database: &Database,
    ) -> Result<(), Stop> {
        let say = |label: &str, text: String| {
            self.say(Some(operation), LineLevel::Step, label, text);
        };
        match stage {
            Stage::Preflight => database.preflight(plan).await?,
            Stage::Dump => say("1/4 dump", database.dump(plan).await?),
            Stage::Build => say("2/4 copy", database.build(plan).await?),
            Stage::Verify => say("2/4 copy", database.verify(plan).await?),
            Stage::Stop => {
                if let Some(project) = self.idle_project(plan) {
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

    /// After a pause of the operation, an acceptance that is too old is asked for again.
    async fn accepted_lately(&self, plan: &RestorePlan, database: &Database) -> Result<(), Stop> {
        if now().0 - plan.accepted_at.0 <= ACCEPTED_FOR_MS {
            return Ok(());
        }
        let rows = database.loss(plan).await?.rows();
        let since = text::clock(plan.accepted_at.0);
        let why = format!("the loss was accepted at {since}, which is too long ago");
        Err(Stop::Asks { rows, why })
    }

    /// What was restored is in place: what only waited to be stopped is stopped, and it is watched.
    async fn settle_restore(
        self: &Arc<Self>,
        operation: OperationId,
        plan: &RestorePlan,
        database: &Database,
    ) -> Result<(), Stop> {
        self.reached(operation, Stage::Settle).await?;
        if let Some(project) = self.idle_project(plan)
            && let Err(trouble) = database.kill(&project).await
        {
            self.say(Some(operation), LineLevel::Error, "stop", trouble.to_string());
        }
        if let Err(trouble) = database.finish(plan).await {
            self.say(Some(operation), LineLevel::Error, "database", trouble.to_string());
        }
        let color = self.state().split.stable;
        if let Err(why) = self.move_singletons(operation, color).await {
            self.say(Some(operation), LineLevel::Error, "singletons", why);
        }
        if let Source::Aside { operation } = plan.source {
            // What it had put aside is the live one now.
            self.note(&Actor::daemon(), vec![Fact::AsideGone { operation }]);
        }
        let serves = self.state().standing(plan.to).map_or(color, |s| s.release.color);
        self.say_check(operation, (plan.to, serves), "4/4 check").await;
        self.say(Some(operation), LineLevel::Step, "", self.restored_text(operation, plan));
        let ended = Fact::OperationEnded { operation, ending: Ending::Done };
        self.note(&Actor::daemon(), vec![ended]);
        Ok(())
    }

    fn restored_text(&self, operation: OperationId, plan: &RestorePlan) -> String {
        let state = self.state();
        let (to, from) = (plan.to, plan.from);
        let label = |release| {
            let standing = state.standing(release);
            standing.map_or_else(String::new, |s| format!(" ({})", s.release.label()))
        };
        let aside = state.asides.get(&operation);
        let rows = aside.map_or(0, |aside| aside.rows);
        let before = from.map_or_else(|| "-".to_owned(), |from| format!("{from}{}", label(from)));
        let data = text::day(plan.data_of.0);
        let lines = [
            format!("DONE ({operation}). Users are on {to}, data of {data}."),
            format!("before      {before}, database of today"),
            format!("now         {to}{}, its images, its env files", label(to)),
            format!("set aside   database {}, {} rows", plan.aside, text::count(rows)),
            format!(
                "undo        cutover undo {operation}      loses what is written after {}; counts \
                 it first",
                text::clock(aside.map_or(0, |aside| aside.since.0))
            ),
            "kept        cutover db list    until you drop it yourself".to_owned(),
        ];
        lines.join("\n")
    }

    /// How a restore that did not reach its end is left.
    async fn end_restore(self: &Arc<Self>, operation: OperationId, stop: Stop) {
        self.open_gate(operation).await;
        let (why, ending) = match stop {
            Stop::Stopping => return,
            Stop::Asks { rows, why } => {
                return self.halt(operation, Halt::Asks { rows, why });
            }
            Stop::Stuck(why) => return self.halt(operation, Halt::Stuck { why }),
            Stop::Refused(why) => (why.clone(), Ending::Refused(why)),
            Stop::Failed(why) => (why.clone(), Ending::Failed(why)),
            Stop::GivenUp => ("it was given up".to_owned(), Ending::GivenUp),
        };
        match self.take_back(operation).await {
            Ok(kept) => {
                let text = format!("{why}\nThe database is as it was. {kept}");
                let level = match ending {
                    Ending::GivenUp => LineLevel::Note,
                    _ => LineLevel::Error,
                };
                let label = if level == LineLevel::Error { "failed" } else { "" };
                self.say(Some(operation), level, label, text.trim_end());
                let ended = Fact::OperationEnded { operation, ending };
                self.note(&Actor::daemon(), vec![ended]);
            }
            Err(Stop::Stuck(more) | Stop::Failed(more) | Stop::Refused(more)) => {
                let why = format!("{why}; and it cannot be put back: {more}");
                self.halt(operation, Halt::Stuck { why });
            }
            Err(_) => self.halt(operation, Halt::Stuck { why }),
        }
    }

    /// Removes what was made for the exchange; the live database was never touched.
    async fn take_back(&self, operation: OperationId) -> Result<String, Stop> {
        let Some(plan) = self.plan_of(operation) else { return Ok(String::new()) };
        let database = self.database(operation).await?;
        database.recover(&plan).await?;
        let seen = database.look(&plan).await?;
        if restore::side(&plan, &seen)? == Side::After {
            return Err(Stop::Stuck(format!(
                "the names are exchanged already: cutover continue {operation} finishes, cutover \
                 undo {operation} takes it back then"
            )));
        }
        Ok(database.drop_candidate(&plan).await?)
    }

    /// It waits for a person: traffic is on the safe color, and no request waits.
    fn halt(&self, operation: OperationId, halt: Halt) {
        let serves = self.state().serving().map_or("nothing".to_owned(), |r| r.to_string());
        let text = match &halt {
            Halt::Asks { rows, why } => format!(
                "WAITS ({operation}). {serves} serves with today's data, as before. No request \
                 waits.\nwhy       {why}: {} rows would be lost now\nnext      cutover continue \
                 {operation} --max-loss {rows}\nor        cutover abort {operation}      drops \
                 the copy, keeps the dump",
                text::count(*rows)
            ),
            Halt::Stuck { why } => format!(
                "STUCK ({operation}), safe. {serves} serves. No request waits.\nwhy       \
                 {why}\nnext      cutover continue {operation}    when that is mended: it looks, \
                 and goes on\nor        cutover abort {operation}       drops the copy, keeps the \
                 dump"
            ),
            Halt::Waits => format!("{operation} waits for a person"),
        };
        self.say(Some(operation), LineLevel::Error, "", text);
        self.note(&Actor::daemon(), vec![Fact::RestoreHalted { operation, halt }]);
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
        let (Some(stack), Some(database)) = (&settings.stack, &settings.database) else {
            let why = "no database is configured: [apps.NAME.database] in cutover.toml";
            return Err(Stop::Refused(why.to_owned()));
        };
        let project = self.project_of_shared(stack).await;
        if let Some(why) = &self.shared.key_lost {
            return Err(Stop::Refused(format!("what is ours in the database is not known: {why}")));
        }
        let installation = installation(&self.shared.key, &self.name)?;
        let epoch = self.shared.journal.epoch().0;
        let us = Us { installation, epoch, project };
        Ok(Database::open(stack, database, us, operation).await?)
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
