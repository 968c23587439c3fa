//! `migrate status` and `migrate down`: which release brought which migration, and the way back by
//! its down scripts.
//!
//! The operation is begun and ended here; a kill in the middle leaves the database with all of it
//! or nothing, and the next start tells by the tool's own rows which.

use std::sync::Arc;
use std::time::Duration;

use cutover_model::{
    Action, Actor, Ending, Fact, Input, LineLevel, Migrated, OperationId, OperationKind, ReleaseId,
};

use super::super::{Answer, App, Failure};
use crate::host::files::down;
use crate::host::postgres::contents::down::Down;
use crate::reconciler::{Stopped, Work};

/// How long is waited between two looks at a database that does not answer.
const AGAIN: Duration = Duration::from_secs(1);

/// A migration that the database has, or that a release brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MigrationSeen {
    /// Its name, as the tool's table has it.
    pub name: String,
    /// The release that brought it, and what was found out of that release's migrations.
    pub by: Option<(ReleaseId, String)>,
}

/// The way back by down scripts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DownWay {
    /// The release whose migrations would be taken back.
    pub release: ReleaseId,
    /// Their names, in the order in which they go.
    pub names: Vec<String>,
    /// Why it is impossible; `None`: the scripts are there.
    pub impossible: Option<String>,
}

impl App {
    /// The migrations of the database, oldest first; `None`: it cannot be asked.
    pub async fn migrations(&self) -> Option<Vec<MigrationSeen>> {
        let (reconciler, stack) = (self.shared.reconciler.as_ref()?, self.stack()?);
        let state = self.state();
        let serving = state.standing(state.serving()?)?;
        let names = reconciler.applied(&stack, &serving.release).await?;
        let by = |name: &String| {
            let its = |migrated: &&Migrated| migrated.names.contains(name);
            let migrated = state.migrated.values().rev().find(its)?;
            Some((migrated.release, migrated.told()))
        };
        Some(names.into_iter().map(|name| MigrationSeen { by: by(&name), name }).collect())
    }

    /// The way back by the newest release's down scripts; `None`: no release brought a migration
    /// that the database still has.
    pub async fn down_way(&self) -> Option<DownWay> {
        let state = self.state();
        let migrated = state.newest_migrated()?;
        let release = migrated.release;
        let names: Vec<String> = migrated.names.iter().rev().cloned().collect();
        let impossible = self.downs(migrated).await.err();
        Some(DownWay { release, names, impossible })
    }

    /// The scripts, in the order in which they are run.
    async fn downs(&self, migrated: &Migrated) -> Result<Vec<Down>, String> {
        let release = migrated.release;
        let state = self.state();
        let (Some(reconciler), Some(stack), Some(standing)) =
            (&self.shared.reconciler, self.stack(), state.standing(release))
        else {
            return Err(format!("{release} is not on record any more"));
        };
        if migrated.names.is_empty() {
            return Err(format!("which migrations {release} brought is not known"));
        }
        if !state.points.contains_key(&release) {
            return Err(format!(
                "there is no restore point before {release} to hold the outcome against"
            ));
        }
        let scripts = reconciler.down_scripts(&stack, &standing.release).await?;
        let down = |name: &String| match down::of(&scripts, name) {
            Some(sql) => Ok(Down { name: name.clone(), sql: sql.clone() }),
            None => Err(format!("{name} has no down.sql")),
        };
        migrated.names.iter().rev().map(down).collect()
    }

    /// Takes the newest release's migrations back; returns as soon as it is recorded.
    ///
    /// # Errors
    /// [`Failure`]: there is none, a script is missing, another operation runs.
    pub async fn migrate_down(
        self: &Arc<Self>,
        actor: Actor,
        request: Option<String>,
    ) -> Result<Answer, Failure> {
        let state = self.state();
        let Some(migrated) = state.newest_migrated().cloned() else {
            let why = "no release has brought a migration that the database still has";
            return Err(Failure::Impossible(why.to_owned()));
        };
        let release = migrated.release;
        let downs = self.downs(&migrated).await;
        let downs = downs.map_err(|why| {
            Failure::Impossible(format!("the migrations of {release} cannot be taken back: {why}"))
        })?;
        let answer = self.ask(Input::MigrateDown { release }, actor, request).await?;
        let (app, operation) = (Arc::clone(self), answer.operation);
        self.tasks.spawn(async move {
            let ending = Box::pin(app.take_down(operation, release, downs)).await;
            app.note(&Actor::daemon(), vec![Fact::OperationEnded { operation, ending }]);
        });
        Ok(answer)
    }

    async fn take_down(
        self: &Arc<Self>,
        operation: OperationId,
        release: ReleaseId,
        downs: Vec<Down>,
    ) -> Ending {
        let refused = |why: String| {
            self.say(Some(operation), LineLevel::Error, "failed", why.clone());
            Ending::Refused(why)
        };
        let (Some(reconciler), Some(stack)) = (&self.shared.reconciler, self.stack()) else {
            return refused("this app has no compose file".to_owned());
        };
        let state = self.state();
        let mut work = match self.work_down(operation, release).await {
            Ok(work) => work,
            Err(why) => return refused(why),
        };
        let before = state.standing(release).and_then(|s| s.release.migrations.clone());
        work.downs = (downs, before);
        let tried = [Action::TryDown { release }];
        if let Err(stopped) = self.drive(operation, reconciler, &stack, &tried, &mut work).await {
            let why = match stopped {
                Stopped::Failed { why, .. } => why,
                other => other.to_string(),
            };
            return refused(why);
        }
        let down = [Action::TakeDown { release }];
        let ran = self.drive(operation, reconciler, &stack, &down, &mut work).await;
        match ran {
            Ok(_) => self.went_down(operation, release),
            // The transaction may stand all the same: the rows tell.
            Err(stopped) => match self.has_gone_down(release).await {
                Some(true) => self.went_down(operation, release),
                _ => {
                    let why = format!("{stopped}\nThe database is as it was");
                    self.say(Some(operation), LineLevel::Error, "failed", why.clone());
                    Ending::Failed(why)
                }
            },
        }
    }

    async fn work_down(&self, operation: OperationId, release: ReleaseId) -> Result<Work, String> {
        let state = self.state();
        let mut work = Work::new(self.name.clone());
        work.projects = self.projects();
        work.releases = state.colors;
        work.database = Some(self.database(operation).await.map_err(|stop| stop.to_string())?);
        if let Some(standing) = state.standing(release) {
            work.known.insert(release, standing.release.clone());
        }
        let idle = state.split.leading().other();
        let probe = self.probe_target(idle).await?;
        work.former = self.former(idle, probe.as_ref());
        work.is_closed = state.maintenance.is_some();
        Ok(work)
    }

    fn went_down(&self, operation: OperationId, release: ReleaseId) -> Ending {
        self.note(&Actor::daemon(), vec![Fact::MigrationUndone { release, operation }]);
        let text = format!(
            "DONE ({operation}). The database is as it was before {release}, with today's rows. \
             {}: its migrations come again with its next deploy",
            self.serves_as_before()
        );
        self.say(Some(operation), LineLevel::Step, "", text);
        Ending::Done
    }

    /// Whether the database has none of a release's migrations; `None`: it cannot be asked.
    async fn has_gone_down(&self, release: ReleaseId) -> Option<bool> {
        let state = self.state();
        let (reconciler, stack) = (self.shared.reconciler.as_ref()?, self.stack()?);
        let record = &state.standing(release)?.release;
        let names = &state.migrated.get(&release)?.names;
        let there = reconciler.applied(&stack, record).await?;
        Some(names.iter().all(|name| !there.contains(name)))
    }

    /// After a start: one that was cut off is at its target or where it began, and ends so.
    pub(super) fn end_down(self: &Arc<Self>, operation: OperationId, what: &OperationKind) {
        let OperationKind::MigrateDown { release } = *what else { return };
        let app = Arc::clone(self);
        self.tasks.spawn(async move {
            // What was left running on the server ends first: only then the rows tell.
            while let Err(why) = app.clean_down(operation, release).await {
                tracing::warn!(%operation, why, "a copy of a killed migrate down is still there");
                tokio::select! {
                    () = tokio::time::sleep(AGAIN) => {}
                    () = app.stop.cancelled() => return,
                }
            }
            let ending = match app.has_gone_down(release).await {
                Some(true) => app.went_down(operation, release),
                _ => Ending::Interrupted,
            };
            app.note(&Actor::daemon(), vec![Fact::OperationEnded { operation, ending }]);
        });
    }

    async fn clean_down(&self, operation: OperationId, release: ReleaseId) -> Result<(), String> {
        let (Some(reconciler), Some(stack)) = (&self.shared.reconciler, self.stack()) else {
            return Ok(());
        };
        let _turn = self.database_turn().await;
        let work = self.work_down(operation, release).await?;
        reconciler.end_rehearsal(&stack, &work).await
    }
}
