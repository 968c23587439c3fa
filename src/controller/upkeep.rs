//! Work on backups and on databases beside the live one: begun, carried out, resumed, given up.
//!
//! Each is one operation, recorded before it is begun; one at a time, and none beside a deploy or a
//! restore. A restore that a person has accepted does not wait for such work: it ends it.
//! INVARIANT: when an operation has ended, nothing half made of it is left, or the next one removes
//! it before it begins.

mod asking;
mod beside;
mod schedule;

use std::sync::Arc;
use std::time::Duration;

use cutover_model::{Actor, Ending, Fact, Input, LineLevel, Millis, Occasion, OperationId, Upkeep};
use tokio_util::sync::CancellationToken;

use super::restoring::{Resume, Stop};
use super::{Answer, App, Failure, Recorded, now};
use crate::host::backups::{Backup, Reason};
use crate::reconciler::database::{Database, Decoded};
use crate::{crash, text};

pub use asking::{Beside, Going, Prunable};

/// How long a restore waits for such work to end.
const WAY: Duration = Duration::from_secs(10);

impl App {
    /// Begins such work; returns as soon as it is recorded.
    ///
    /// # Errors
    /// [`Failure`]: another operation runs, or there is no database.
    pub async fn begin_upkeep(
        self: &Arc<Self>,
        upkeep: Upkeep,
        actor: Actor,
        request: Option<String>,
    ) -> Result<Answer, Failure> {
        if self.settings().database.is_none() {
            let why = "no database is configured: [apps.NAME.database] in cutover.toml";
            return Err(Failure::Impossible(why.to_owned()));
        }
        let app = Arc::clone(self);
        // Even when nobody waits for the answer any more: what is recorded is begun.
        let begun = self.tasks.spawn(async move {
            let answer = app.ask(Input::Upkeep { upkeep }, actor, request).await?;
            // CRASH: it is recorded and not begun; the next start carries it out.
            crash::point("upkeep.recorded");
            app.run_upkeep(answer.operation);
            Ok(answer)
        });
        begun.await.map_err(|_| Failure::Stopping)?
    }

    fn run_upkeep(self: &Arc<Self>, operation: OperationId) {
        let stop = self.stop.child_token();
        {
            let mut restoring = self.restoring();
            if restoring.running.as_ref().is_some_and(|(running, _)| *running == operation) {
                return;
            }
            restoring.running = Some((operation, stop.clone()));
        }
        let app = Arc::clone(self);
        self.carry(operation, async move {
            // Whoever allows connections now is done first.
            drop(app.database_turn().await);
            let result = Box::pin(app.carry_on(operation, &stop)).await;
            Box::pin(app.end_upkeep(operation, result)).await;
            app.task_over(operation);
        });
    }

    /// What an operation is, if it is such work and has not ended.
    fn upkeep_of(&self, operation: OperationId) -> Option<Upkeep> {
        let live = self.live();
        let known = live.state.operations.get(&operation)?;
        known.upkeep().filter(|_| known.ended.is_none()).cloned()
    }

    async fn carry_on(
        self: &Arc<Self>,
        operation: OperationId,
        stop: &CancellationToken,
    ) -> Result<(), Stop> {
        let Some(upkeep) = self.upkeep_of(operation) else { return Ok(()) };
        let database = self.database(operation).await?;
        if !matches!(upkeep, Upkeep::Prune { .. }) {
            database.clear().await?;
        }
        crash::point("upkeep.begun");
        // Letting go and dropping are not left in the middle; both look for the stop themselves.
        match &upkeep {
            Upkeep::Prune { ids } => self.let_backups_go(operation, ids, &database, stop).await,
            Upkeep::Retire { of, database: name, was } => {
                let saved = async {
                    match was {
                        Some(_) => self.save_aside(operation, (*of, name), &database).await,
                        None => Ok(()),
                    }
                };
                self.unless_stopped(stop, saved).await?;
                self.drop_aside(operation, (*of, name), was.is_some(), &database).await
            }
            other => self.unless_stopped(stop, self.work(operation, other, &database)).await,
        }
    }

    async fn unless_stopped(
        &self,
        stop: &CancellationToken,
        work: impl Future<Output = Result<(), Stop>>,
    ) -> Result<(), Stop> {
        tokio::select! {
            done = work => done,
            () = stop.cancelled() => Err(self.why_stopped()),
        }
    }

    async fn work(
        &self,
        operation: OperationId,
        upkeep: &Upkeep,
        database: &Database,
    ) -> Result<(), Stop> {
        match upkeep {
            Upkeep::BackUp { occasion } => self.back_up(operation, *occasion, database).await,
            Upkeep::Verify { ids } => self.read_back(operation, ids, database).await,
            Upkeep::Aside { backup, database: name } => {
                self.restore_aside(operation, (backup, name), database).await
            }
            Upkeep::Drill { backup } => self.drill(operation, backup, database).await,
            Upkeep::Import { path, data_of, identity } => {
                let file = (path.as_str(), identity.as_deref());
                self.import(operation, file, *data_of, database).await
            }
            Upkeep::Prune { .. } | Upkeep::Retire { .. } => Ok(()),
        }
    }

    fn step(&self, operation: OperationId, label: &str, text: impl Into<String>) {
        self.say(Some(operation), LineLevel::Step, label, text);
    }

    async fn back_up(
        &self,
        operation: OperationId,
        occasion: Occasion,
        database: &Database,
    ) -> Result<(), Stop> {
        let reason = match occasion {
            Occasion::Asked => Reason::Asked,
            Occasion::Scheduled => Reason::Scheduled,
        };
        let backup = match database.made_before(self.began(operation)).await? {
            Some(backup) => {
                let text = format!("{} was there already when the daemon ended", backup.id());
                self.step(operation, "backup", text);
                backup
            }
            None => {
                let (backup, said) = database.back_up(reason, self.state().serving()).await?;
                self.step(operation, "backup", said);
                backup
            }
        };
        let id = backup.id().to_owned();
        match (self.copy(operation, backup, database).await, occasion) {
            (Err(why), Occasion::Asked) => Err(Stop::Failed(format!(
                "{id} is kept and read back, but no copy left this host: {why}"
            ))),
            _ => Ok(()),
        }
    }

    /// The operator's own command; a failure is told, and the backup is none the worse.
    async fn copy(
        &self,
        operation: OperationId,
        backup: Backup,
        database: &Database,
    ) -> Result<(), String> {
        match database.copy_elsewhere(backup).await {
            Ok(None) => Ok(()),
            Ok(Some(said)) => {
                self.step(operation, "copy", said);
                Ok(())
            }
            Err(trouble) => {
                let text = format!("no copy left this host: {trouble}");
                self.say(Some(operation), LineLevel::Error, "copy", text);
                Err(trouble.to_string())
            }
        }
    }

    async fn read_back(
        &self,
        operation: OperationId,
        ids: &[String],
        database: &Database,
    ) -> Result<(), Stop> {
        let mut bad = Vec::new();
        for id in ids {
            let (level, said) = match database.read_back(id).await? {
                Decoded::Whole(took) => {
                    let took = text::duration(took);
                    (LineLevel::Step, format!("{id}, every block and its SHA-256, {took}"))
                }
                Decoded::Damaged(why) => {
                    bad.push(id.as_str());
                    (LineLevel::Error, format!("{id} is DAMAGED and will not be restored: {why}"))
                }
                Decoded::Unreadable(why) => {
                    bad.push(id.as_str());
                    (LineLevel::Error, format!("{id} cannot be read here: {why}"))
                }
            };
            crash::point("verify.read");
            self.say(Some(operation), level, "verify", said);
        }
        match bad.is_empty() {
            true => Ok(()),
            false => Err(Stop::Failed(format!("not whole: {}", bad.join(", ")))),
        }
    }

    async fn let_backups_go(
        &self,
        operation: OperationId,
        ids: &[String],
        database: &Database,
        stop: &CancellationToken,
    ) -> Result<(), Stop> {
        database.sweep().await?;
        for id in ids {
            if stop.is_cancelled() {
                return Err(self.why_stopped());
            }
            if let Some(size) = database.let_go(id).await? {
                self.step(operation, "prune", format!("{id}, {}", text::size(size)));
            }
            crash::point("prune.removed");
        }
        Ok(())
    }

    /// How such work is left.
    pub(super) async fn end_upkeep(
        self: &Arc<Self>,
        operation: OperationId,
        result: Result<(), Stop>,
    ) {
        let Some(upkeep) = self.upkeep_of(operation) else { return };
        let (why, ending) = match result {
            Err(Stop::Stopping) => return,
            Ok(()) => (None, Ending::Done),
            Err(Stop::GivenUp) => (None, Ending::GivenUp),
            Err(Stop::Refused(why)) => (Some(why.clone()), Ending::Refused(why)),
            Err(Stop::Failed(why) | Stop::Stuck(why) | Stop::Asks { why, .. }) => {
                (Some(why.clone()), Ending::Failed(why))
            }
        };
        let mut ending = ending;
        if ending != Ending::Done {
            match self.put_upkeep_back(operation, &upkeep, &ending).await {
                Ok(Some(other)) => ending = other,
                Ok(None) => {}
                Err(stop) => {
                    let text = format!("what was half made is removed later: {stop}");
                    self.say(Some(operation), LineLevel::Note, "", text);
                }
            }
        }
        if let (Some(why), true) = (why, ending != Ending::Done) {
            self.say(Some(operation), LineLevel::Error, "failed", why);
        }
        let is_backup = matches!(upkeep, Upkeep::BackUp { .. }) && ending == Ending::Done;
        self.note(&Actor::daemon(), vec![Fact::OperationEnded { operation, ending }]);
        if is_backup {
            self.retain().await;
        }
    }

    /// Removes what was made; another ending, where it turns out that all was done.
    async fn put_upkeep_back(
        &self,
        operation: OperationId,
        upkeep: &Upkeep,
        ending: &Ending,
    ) -> Result<Option<Ending>, Stop> {
        let database = self.database(operation).await?;
        if matches!(upkeep, Upkeep::Prune { .. }) {
            database.sweep().await?;
            return Ok(None);
        }
        database.clear().await?;
        let is_given_up = *ending == Ending::GivenUp;
        let makes_way = self.restoring().makes_way == Some(operation);
        match upkeep {
            Upkeep::Retire { of, database: name, was } => {
                // The dump stays, whatever is said of it: the rule lets it go in a month.
                let is_gone = !database.is_there(name).await?;
                if is_gone {
                    self.drop_aside(operation, (*of, name), was.is_some(), &database).await?;
                    return Ok(Some(Ending::Done));
                }
            }
            Upkeep::Aside { .. } => {
                if let Some(name) = database.copy_of(operation).await? {
                    database.drop_beside(&name).await?;
                }
            }
            // One that made way for a restore may be what is restored.
            Upkeep::BackUp { .. } | Upkeep::Import { .. } if is_given_up && !makes_way => {
                database.forget_made(self.began(operation)).await?;
            }
            _ => {}
        }
        Ok(None)
    }

    /// After a start: such work that was cut off goes on, or waits where it was told to.
    pub(super) fn resume_upkeep(self: &Arc<Self>, then: Resume) {
        let state = self.state();
        let cut_off =
            state.operations.iter().find(|(_, o)| o.ended.is_none() && o.upkeep().is_some());
        match (cut_off, then) {
            (Some((operation, _)), Resume::GoOn) => {
                let text = "the daemon was ended in the middle of this; it goes on";
                self.say(Some(*operation), LineLevel::Note, "", text);
                self.run_upkeep(*operation);
            }
            (Some((operation, _)), Resume::Wait) => {
                let text = format!(
                    "{operation} waits for a person: cutover continue {operation}, or cutover \
                     abort {operation}"
                );
                self.say(Some(*operation), LineLevel::Note, "", text);
            }
            // What a restore has half made is its own to make anew.
            (None, _) if state.restores.is_empty() => {
                if let Some(home) = self.settings().database.as_ref().map(|d| d.backups.clone()) {
                    self.tasks.spawn(async move {
                        if let Err(error) = crate::host::backups::sweep(&home).await {
                            tracing::warn!(%error, "half made backups cannot be removed");
                        }
                    });
                }
            }
            (None, _) => {}
        }
    }

    /// Such work that waits goes on.
    pub(super) fn go_on_upkeep(
        self: &Arc<Self>,
        operation: OperationId,
    ) -> Result<Answer, Failure> {
        if self.upkeep_of(operation).is_none() {
            return Err(Failure::Unknown(format!("{operation} has ended already")));
        }
        self.run_upkeep(operation);
        Ok(self.answer_of(operation))
    }

    /// Such work is given up: what it had made is removed.
    pub(super) fn give_upkeep_up(
        self: &Arc<Self>,
        operation: OperationId,
        actor: &Actor,
    ) -> Answer {
        let text = format!("{} gives {operation} up", actor.0);
        self.say(Some(operation), LineLevel::Note, "", text);
        let running = self.restoring().running.clone();
        match running {
            Some((running, stop)) if running == operation => stop.cancel(),
            _ => {
                let app = Arc::clone(self);
                self.carry(operation, async move {
                    Box::pin(app.end_upkeep(operation, Err(Stop::GivenUp))).await;
                });
            }
        }
        self.answer_of(operation)
    }

    /// When an operation began.
    pub(super) fn began(&self, operation: OperationId) -> Millis {
        let state = self.state();
        state.operations.get(&operation).map_or(now(), |operation| operation.started_at)
    }

    fn answer_of(&self, operation: OperationId) -> Answer {
        Answer {
            operation,
            at: now(),
            moved: None,
            recorded: Recorded::Journal,
            state: self.state(),
            effects: Vec::new(),
        }
    }

    /// Such work makes way: for a restore that was accepted, for a rollback that makes a stack.
    pub(super) async fn make_way(self: &Arc<Self>, what: &str) {
        let running = self.state().running().map(|(id, o)| (id, o.upkeep().is_some()));
        let Some((operation, true)) = running else { return };
        let is_told = self.restoring().makes_way.replace(operation) == Some(operation);
        if !is_told {
            let text = format!("{operation} is given up: it makes way for {what}");
            self.say(Some(operation), LineLevel::Note, "", text);
            self.give_upkeep_up(operation, &Actor::daemon());
        }
        let deadline = tokio::time::Instant::now() + WAY;
        while self.upkeep_of(operation).is_some() && tokio::time::Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}
