//! `migrate status` and `migrate down`: which release brought which migration, and the way back by
//! its down scripts, or by the configured command.
//!
//! The operation is begun and ended here; a kill in the middle leaves the database with all of it
//! or nothing, and the next start tells by the tool's own rows which.

mod outcome;

use std::sync::Arc;

use cutover_model::{
    Action, Actor, AppState, Ending, Fact, Input, LineLevel, Migrated, OperationId, OperationKind,
    ReleaseId, Weight,
};

use self::outcome::Outcome;
use super::super::restoring::Stop;
use super::super::{Answer, App, Failure};
use crate::host::files::down;
use crate::host::postgres::contents::down::Down;
use crate::reconciler::{DownCommand, Stopped, Work};

/// A migration that the database has, or that a release brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MigrationSeen {
    /// Its name, as the tool's table has it.
    pub name: String,
    /// The release that brought it, and what was found out of that release's migrations.
    pub by: Option<(ReleaseId, String)>,
}

/// How a release's migrations are taken back.
#[derive(Debug, Clone)]
enum Downs {
    /// By scripts, in the order in which they are run.
    Scripts(Vec<Down>),
    /// By a command in a container of the release.
    Command(DownCommand),
}

/// The way back by down scripts or a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DownWay {
    /// The release whose migrations would be taken back.
    pub release: ReleaseId,
    /// Their names, in the order in which they go.
    pub names: Vec<String>,
    /// The configured command that does it; `None`: down scripts do.
    pub command: Option<String>,
    /// Why it is impossible; `None`: the scripts, or the command, are there.
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

    /// The way back of the newest release's migrations; `None`: no release brought a migration
    /// that the database still has.
    pub async fn down_way(&self) -> Option<DownWay> {
        let state = self.state();
        let migrated = state.newest_migrated()?;
        let release = migrated.release;
        let names = way_back(migrated);
        let command = self.down_command(migrated).map(|command| command.words.join(" "));
        let impossible = self.downs(migrated).await.err();
        Some(DownWay { release, names, command, impossible })
    }

    /// What the tool says itself, by the configured command, in a container of the release that
    /// serves; `None`: none is configured.
    pub async fn migration_tool_says(&self) -> Option<Result<Vec<String>, String>> {
        let migration = self.settings().migration.clone()?;
        let command = migration.status_command?;
        let state = self.state();
        if let Some((operation, _)) = state.running() {
            return Some(Err(format!("{operation} is running: it is not asked now")));
        }
        let (reconciler, stack) = (self.shared.reconciler.as_ref()?, self.stack()?);
        let serving = state.standing(state.serving()?)?;
        Some(reconciler.tool_says(&stack, &serving.release, (&migration.service, &command)).await)
    }

    async fn downs(&self, migrated: &Migrated) -> Result<Downs, String> {
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
        if let Some(command) = self.down_command(migrated) {
            return Ok(Downs::Command(command));
        }
        let scripts = reconciler.down_scripts(&stack, &standing.release).await?;
        let down = |name: &String| match down::of(&scripts, name) {
            Some(sql) => Ok(Down { name: name.clone(), sql: sql.clone() }),
            None => Err(format!("{name} has no down.sql")),
        };
        let scripts: Result<Vec<Down>, String> = migrated.names.iter().rev().map(down).collect();
        scripts.map(Downs::Scripts)
    }

    fn down_command(&self, migrated: &Migrated) -> Option<DownCommand> {
        let migration = self.settings().migration.clone()?;
        let (service, words) = (migration.service, migration.down_command?);
        Some(DownCommand { service, words, names: way_back(migrated) })
    }

    /// Takes the newest release's migrations back, which are those that were shown: the release and
    /// their names in the order in which they go. Returns as soon as it is recorded.
    ///
    /// # Errors
    /// [`Failure`]: there is none, others came since, a script is missing, another operation runs.
    pub async fn migrate_down(
        self: &Arc<Self>,
        shown: (ReleaseId, Vec<String>),
        actor: Actor,
        request: Option<String>,
    ) -> Result<Answer, Failure> {
        let state = self.state();
        let Some(migrated) = state.newest_migrated().cloned() else {
            let why = "no release has brought a migration that the database still has";
            return Err(Failure::Impossible(why.to_owned()));
        };
        if let Some(why) = other_than_shown(&migrated, &shown) {
            return Err(Failure::Impossible(why));
        }
        let release = migrated.release;
        let downs = self.downs(&migrated).await;
        let downs = downs.map_err(|why| {
            Failure::Impossible(format!("the migrations of {release} cannot be taken back: {why}"))
        })?;
        let answer = self.ask(Input::MigrateDown { release }, actor, request).await?;
        let (app, operation) = (Arc::clone(self), answer.operation);
        self.carry(operation, async move {
            // None: the daemon stops, and the next start ends it.
            if let Some(ending) = Box::pin(app.take_down(operation, release, downs)).await {
                app.note(&Actor::daemon(), vec![Fact::OperationEnded { operation, ending }]);
            }
        });
        Ok(answer)
    }

    async fn take_down(
        self: &Arc<Self>,
        operation: OperationId,
        release: ReleaseId,
        downs: Downs,
    ) -> Option<Ending> {
        let refused = |why: String| {
            self.say(Some(operation), LineLevel::Error, "failed", why.clone());
            Some(Ending::Refused(why))
        };
        let (Some(reconciler), Some(stack)) = (&self.shared.reconciler, self.stack()) else {
            return refused("this app has no compose file".to_owned());
        };
        let state = self.state();
        let met = Met::of(&state);
        let mut work = match self.work_down(operation, release).await {
            Ok(work) => work,
            Err(stop) => return refused(stop.to_string()),
        };
        let is_gone = match self.is_gone_before(operation, release, &work).await {
            Ok(is_gone) => is_gone,
            Err(why) => return refused(why),
        };
        let before = state.standing(release).and_then(|s| s.release.migrations.clone());
        work.downs.1 = before;
        match downs {
            _ if is_gone => work.down_command = None,
            Downs::Scripts(scripts) => work.downs.0 = scripts,
            Downs::Command(command) => work.down_command = Some(command),
        }
        let is_command = work.down_command.is_some();
        let tried = [Action::TryDown { release }];
        if let Err(stopped) = self.drive(operation, reconciler, &stack, &tried, &mut work).await {
            let why = match stopped {
                Stopped::Failed { why, .. } => why,
                other => other.to_string(),
            };
            if !is_command {
                return refused(why);
            }
            return self.not_tried(operation, release, why).await;
        }
        if is_gone {
            return Some(self.went_down(operation, release));
        }
        // Traffic may move, and the site may open, while the copy is tried.
        if let Some(why) = met.differs(Met::of(&self.state())) {
            return refused(why);
        }
        let down = [Action::TakeDown { release }];
        let ran = self.drive(operation, reconciler, &stack, &down, &mut work).await;
        let Err(stopped) = ran else { return Some(self.went_down(operation, release)) };
        let as_it_was = || {
            let why = match is_command {
                false => format!("{stopped}\nThe database is as it was"),
                true => format!("{stopped}\n{}", half(release)),
            };
            self.say(Some(operation), LineLevel::Error, "failed", why.clone());
            Some(Ending::Failed(why))
        };
        if let Stopped::NotRecorded { .. } = stopped {
            return refused(stopped.to_string());
        }
        // The transaction may stand all the same: the rows tell.
        match self.outcome(operation, release).await? {
            Outcome::Gone => Some(self.went_down(operation, release)),
            Outcome::Stays => as_it_was(),
            Outcome::Unknown(why) => {
                Some(self.in_doubt(operation, release, &format!("{why}\n{stopped}")))
            }
        }
    }

    /// A command that failed on the copy may have met another database than it was told.
    async fn not_tried(
        self: &Arc<Self>,
        operation: OperationId,
        release: ReleaseId,
        why: String,
    ) -> Option<Ending> {
        let failed = |why: String| {
            self.say(Some(operation), LineLevel::Error, "failed", why.clone());
            why
        };
        match self.outcome(operation, release).await? {
            Outcome::Stays => Some(Ending::Refused(failed(why))),
            Outcome::Gone => {
                self.note(&Actor::daemon(), vec![Fact::MigrationUndone { release, operation }]);
                Some(Ending::Failed(failed(why)))
            }
            Outcome::Unknown(more) => {
                Some(self.in_doubt(operation, release, &format!("{more}\n{why}")))
            }
        }
    }

    /// Whether the migrations are gone before anything was done: an earlier try had an outcome that
    /// nobody came to know. The copy has to prove it then, as it has to prove the scripts.
    async fn is_gone_before(
        &self,
        operation: OperationId,
        release: ReleaseId,
        work: &Work,
    ) -> Result<bool, String> {
        let (Some(database), Some(names)) =
            (&work.database, self.state().migrated.get(&release).map(|m| m.names.clone()))
        else {
            return Ok(false);
        };
        let is_gone = database.lacks(release, &names).await.map_err(|trouble| {
            format!("which migrations of {release} are there is not known: {trouble}")
        })?;
        if is_gone {
            let text = format!(
                "the database has none of the migrations of {release} any more: no script is run, \
                 and a copy is held against what was before them"
            );
            self.say(Some(operation), LineLevel::Note, "database", text);
        }
        Ok(is_gone)
    }

    async fn work_down(&self, operation: OperationId, release: ReleaseId) -> Result<Work, Stop> {
        let state = self.state();
        let mut work = Work::new(self.name.clone());
        work.projects = self.projects();
        work.releases = state.colors;
        work.database = Some(self.database(operation).await?);
        if let Some(standing) = state.standing(release) {
            work.known.insert(release, standing.release.clone());
            let migration = self.settings().migration.clone();
            // The container of a command that was cut off goes, too.
            if let Some((service, words)) =
                migration.and_then(|m| Some((m.service, m.down_command?)))
            {
                work.release = Some((release, standing.release.color));
                work.migration = Some((service, words));
            }
        }
        let idle = state.split.leading().other();
        let probe = self.probe_target(idle).await.map_err(Stop::Stuck)?;
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

    /// After a start, or a panic: one that was cut off is at its target or where it began, and ends
    /// so, as `cut_off` where it began; where that cannot be found out, it ends and says so, since
    /// everything else waits for it.
    pub(super) async fn end_down(
        self: &Arc<Self>,
        operation: OperationId,
        what: &OperationKind,
        cut_off: Ending,
    ) {
        let OperationKind::MigrateDown { release } = *what else { return };
        let has_command =
            self.settings().migration.as_ref().is_some_and(|m| m.down_command.is_some());
        if has_command && let Err(stop) = self.clean_down_once(operation, release).await {
            // What runs on of it could still take away what is seen to be there.
            tracing::warn!(%operation, %stop, "a container of a down command may run on");
        }
        let Some(outcome) = self.outcome(operation, release).await else { return };
        let Some(()) = self.clean_down(operation, release, &outcome).await else { return };
        let ending = match outcome {
            Outcome::Gone => self.went_down(operation, release),
            Outcome::Stays if has_command => {
                self.say(Some(operation), LineLevel::Note, "database", half(release));
                cut_off
            }
            Outcome::Stays => cut_off,
            Outcome::Unknown(why) => self.in_doubt(operation, release, &why),
        };
        self.note(&Actor::daemon(), vec![Fact::OperationEnded { operation, ending }]);
    }
}

/// What is known of the live database where a command ended in the middle: no transaction holds it.
fn half(release: ReleaseId) -> String {
    format!(
        "the migrations of {release} still stand in the database's table; whether the command had \
         changed something before it ended is not known. cutover migrate down tries it on a copy \
         again and tells; cutover rollback --database puts the data back"
    )
}

/// What users meet while the scripts are tried on a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Met {
    serving: Option<ReleaseId>,
    canary: Weight,
    is_closed: bool,
}

impl Met {
    fn of(state: &AppState) -> Self {
        Self {
            serving: state.serving(),
            canary: state.split.weight,
            is_closed: state.maintenance.is_some(),
        }
    }

    /// Why what was found out on the copy does not hold for what users meet now.
    fn differs(self, now: Self) -> Option<String> {
        let name = |release: Option<ReleaseId>| {
            release.map_or("nothing".to_owned(), |release| release.to_string())
        };
        let what = if self.serving != now.serving {
            format!("{} serves now, and {} did", name(now.serving), name(self.serving))
        } else if self.canary != now.canary {
            "a rollout gives two releases traffic now".to_owned()
        } else if self.is_closed && !now.is_closed {
            "the site is open now, and was closed".to_owned()
        } else {
            return None;
        };
        Some(format!("{what}, when the scripts were tried on the copy: try it again"))
    }
}

/// Names of a release's migrations, in the order in which they are taken back.
fn way_back(migrated: &Migrated) -> Vec<String> {
    migrated.names.iter().rev().cloned().collect()
}

/// Why what would be taken back is not what was shown.
fn other_than_shown(
    newest: &Migrated,
    (release, names): &(ReleaseId, Vec<String>),
) -> Option<String> {
    let now = way_back(newest);
    if newest.release == *release && now == *names {
        return None;
    }
    Some(format!(
        "the newest migrations are those of {} now ({}), and those of {release} were shown ({})",
        newest.release,
        now.join(", "),
        names.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use cutover_model::{Applied, Millis};

    use super::*;

    #[test]
    fn only_what_was_shown_is_taken_back() {
        let (two, three) = (ReleaseId(2), ReleaseId(3));
        let names = |list: &[&str]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
        let newest = Migrated {
            release: three,
            names: names(&["a", "b"]),
            class: None,
            breaks: Vec::new(),
            former: None,
            at: Millis(0),
            state: Applied::Yes,
            undone: None,
        };
        assert_eq!(other_than_shown(&newest, &(three, names(&["b", "a"]))), None);
        let other = other_than_shown(&newest, &(two, names(&["b", "a"]))).unwrap();
        assert!(other.contains("those of r3 now (b, a), and those of r2 were shown"), "{other}");
        assert!(other_than_shown(&newest, &(three, names(&["a"]))).is_some());
    }

    #[test]
    fn what_users_meet_may_not_change_while_a_copy_is_tried() {
        let met = |serving: u64, canary: Weight, is_closed: bool| Met {
            serving: Some(ReleaseId(serving)),
            canary,
            is_closed,
        };
        let zero = Weight::ZERO;
        assert_eq!(met(1, zero, false).differs(met(1, zero, false)), None);
        let closed_since = met(1, zero, false).differs(met(1, zero, true));
        assert_eq!(closed_since, None, "nobody meets it");
        let moved = met(1, zero, false).differs(met(2, zero, false)).unwrap();
        assert!(moved.starts_with("r2 serves now, and r1 did"), "{moved}");
        assert!(met(1, zero, true).differs(met(1, zero, false)).is_some(), "open now");
        assert!(met(1, zero, false).differs(met(1, Weight::FULL, false)).is_some());
    }
}
