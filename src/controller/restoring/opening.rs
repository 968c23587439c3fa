//! Allowing connections to the database again: what one try does not open is tried again until it
//! is open, also by a daemon that starts; and what may go on only then.
//!
//! INVARIANT: whatever closes a database ends in [`App::open_again`], or in a daemon's death, after
//! which the next start does the same before anything else works on the database.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cutover_model::restore::{self, Restore, Side};
use cutover_model::{
    Action, Actor, AppState, Color, Ending, Fact, Halt, LineLevel, Operation, OperationId,
    OperationKind, RestorePlan, Stage,
};

use super::super::App;
use super::super::gate::HoldLimits;
use super::exchange::{DRAIN_SHARE, LEASE_GRACE};
use super::{Resume, Stop, Task};
use crate::reconciler::database::{Database, PointKind};
use crate::text;

/// Between the first two tries; twice as long after each.
const FIRST: Duration = Duration::from_millis(250);

/// The longest pause between two tries: users are without their database meanwhile.
const LONGEST: Duration = Duration::from_secs(5);

/// How long opening may fail before that is an event: PostgreSQL that starts is none.
const PATIENCE: Duration = Duration::from_secs(10);

/// What was told of a database that does not open.
#[derive(Debug, Default)]
struct Told {
    since: Option<Instant>,
    said: Option<String>,
}

impl Told {
    /// Whether this failure is to be said now: each reason once, and at once where trying again
    /// changes nothing.
    fn is_due(&mut self, stop: &Stop, now: Instant) -> bool {
        let since = *self.since.get_or_insert(now);
        let is_lasting = matches!(stop, Stop::Refused(_)) || now - since >= PATIENCE;
        let why = stop.to_string();
        let is_due = is_lasting && self.said.as_ref() != Some(&why);
        if is_due {
            self.said = Some(why);
        }
        is_due
    }

    fn is_said(&self) -> bool {
        self.said.is_some()
    }
}

fn not_opened(stop: &Stop) -> String {
    format!(
        "the database may be closed for connections by an operation that was cut off, and cannot \
         be opened: {stop}. That is tried until it succeeds; cutover doctor says whether it is \
         closed"
    )
}

impl App {
    /// Why the database cannot be opened that an operation may have closed.
    #[must_use]
    pub fn not_opened(&self) -> Option<String> {
        self.restoring().not_opened.clone()
    }

    /// The hands on the database, with everything open that this or an earlier operation closed.
    pub(super) async fn open_once(&self, operation: OperationId) -> Result<Database, Stop> {
        let database = self.database(operation).await?;
        database.recover().await?;
        Ok(database)
    }

    /// The same; where it fails it is tried again, by a task of its own, until it succeeds.
    pub(in crate::controller) async fn open_again(
        self: &Arc<Self>,
        operation: OperationId,
    ) -> Result<Database, Stop> {
        let opened = self.open_once(operation).await;
        opened.map_err(|stop| {
            self.keep_opening(operation);
            Stop::Stuck(format!(
                "{stop}. The database may be closed for connections: that is tried again until it \
                 is open"
            ))
        })
    }

    /// Whether connections may not be allowed yet after this operation.
    pub(super) fn may_be_closed(&self, operation: OperationId) -> bool {
        self.restoring().opening.contains(&operation)
    }

    /// Waits for the turn to end what an operation left on the server: its sessions have its name,
    /// so another one's end of them would end these.
    pub(in crate::controller) async fn database_turn(&self) -> tokio::sync::OwnedMutexGuard<()> {
        let turn = Arc::clone(&self.restoring().turn);
        turn.lock_owned().await
    }

    pub(super) fn keep_opening(self: &Arc<Self>, operation: OperationId) {
        if !self.restoring().opening.insert(operation) {
            return;
        }
        let app = Arc::clone(self);
        self.tasks.spawn(async move {
            let Some(database) = app.until_open(operation).await else { return };
            app.restoring().opening.remove(&operation);
            let text = "PostgreSQL answers again: connections to the database are allowed";
            app.say(Some(operation), LineLevel::Note, "database", text);
            app.drop_lost_points(operation, &database).await;
            if let Some(plan) = app.plan_of(operation)
                && !app.has_task(operation)
                && app.side_now(operation, &plan, &database).await == Some(Side::After)
            {
                // Nobody may serve on it yet: going on is the only way that serves anybody.
                app.begin(operation, Task::GoOn);
            }
        });
    }

    /// Tries until it succeeds; `None`: the daemon stops, and the next start goes on with it.
    async fn until_open(self: &Arc<Self>, operation: OperationId) -> Option<Database> {
        let mut pause = FIRST;
        let mut told = Told::default();
        loop {
            if self.settings().database.is_none() {
                self.restoring().not_opened = None;
                return None;
            }
            {
                let _turn = self.database_turn().await;
                // A task that works on the database opens by itself, and closes on purpose.
                if self.restoring().running.is_none() {
                    match self.open_once(operation).await {
                        Ok(database) => {
                            self.restoring().not_opened = None;
                            if told.is_said() && !self.may_be_closed(operation) {
                                let text = "connections to the database are allowed";
                                self.say(
                                    Some(operation),
                                    LineLevel::Note,
                                    "database",
                                    text.to_owned(),
                                );
                            }
                            return Some(database);
                        }
                        Err(stop) => {
                            let text = not_opened(&stop);
                            self.restoring().not_opened = Some(text.clone());
                            if told.is_due(&stop, Instant::now()) {
                                self.say(Some(operation), LineLevel::Error, "database", text);
                            }
                        }
                    }
                }
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.stop.cancelled() => return None,
            }
            pause = (pause * 2).min(LONGEST);
        }
    }

    /// On which side of the exchange the world is; before it, who was frozen goes on.
    async fn side_now(
        &self,
        operation: OperationId,
        plan: &RestorePlan,
        database: &Database,
    ) -> Option<Side> {
        let seen = database.look(plan).await;
        let side = seen.map_err(Stop::from).and_then(|seen| Ok(restore::side(plan, &seen)?));
        match side {
            Ok(side) => {
                self.note_side(operation, plan, side);
                if side == Side::Before {
                    self.unfreeze(operation, plan, database).await;
                }
                Some(side)
            }
            Err(stop) => {
                tracing::warn!(%operation, %stop, "the side of an exchange is not known");
                None
            }
        }
    }

    /// Freezes the release that must not write, whether it has traffic or has just lost it.
    pub(super) async fn freeze(
        &self,
        operation: OperationId,
        plan: &RestorePlan,
        database: &Database,
    ) -> Result<(), Stop> {
        let (Some(from), Some(project)) = (plan.from, self.other_project(plan)) else {
            return Ok(());
        };
        self.restoring().frozen = Some(from);
        let paused = database.pause(&project).await?;
        if paused > 0 {
            let text = format!("{from} is frozen, {paused} containers: it writes nothing more");
            self.say(Some(operation), LineLevel::Step, "3/4 exchange", text);
        }
        Ok(())
    }

    /// Lets it go on, where the names were not exchanged.
    pub(super) async fn unfreeze(
        &self,
        operation: OperationId,
        plan: &RestorePlan,
        database: &Database,
    ) {
        if let Some(project) = self.other_project(plan)
            && let Err(trouble) = database.unpause(&project).await
        {
            return self.say(Some(operation), LineLevel::Error, "unpause", trouble.to_string());
        }
        self.restoring().frozen = None;
    }

    /// Whether what is in a color is frozen for an exchange: it is there, and answers nobody.
    pub(in crate::controller) fn is_frozen(&self, color: Color) -> bool {
        let frozen = self.restoring().frozen;
        let live = self.live();
        let Some(release) = *live.state.colors.get(color) else { return false };
        let in_exchange = |restore: &Restore| {
            restore.plan.from == Some(release)
                && restore.halted.is_none()
                && restore.stage.is_some_and(Stage::starts_held)
        };
        frozen == Some(release) || live.state.restores.values().any(in_exchange)
    }

    /// After a start: the database is opened before anything else works on it; then restores that
    /// were cut off go on, or wait where they were told to.
    pub(in crate::controller) fn resume_restores(self: &Arc<Self>, then: Resume) {
        let restores = self.state().restores;
        for (operation, restore) in &restores {
            match (then, &restore.halted) {
                (Resume::GoOn, None) => {
                    let text = "the daemon was ended in the middle of this; it goes on";
                    self.say(Some(*operation), LineLevel::Note, "", text);
                }
                (Resume::Wait, None) => {
                    let (operation, halt) = (*operation, Halt::Waits);
                    self.note(&Actor::daemon(), vec![Fact::RestoreHalted { operation, halt }]);
                }
                (_, Some(_)) => {}
            }
        }
        let state = self.state();
        let may_have_closed = !restores.is_empty() || unfinished(&state).next().is_some();
        if self.settings().database.is_none() || !may_have_closed {
            return;
        }
        let app = Arc::clone(self);
        self.tasks.spawn(async move { app.start_database(restores, then).await });
    }

    async fn start_database(
        self: Arc<Self>,
        restores: BTreeMap<OperationId, Restore>,
        then: Resume,
    ) {
        for (operation, restore) in &restores {
            // By the journal no exchange was begun, so whoever serves may go on before PostgreSQL
            // is there.
            if restore.stage == Some(Stage::Hold)
                && let Ok(database) = self.database(*operation).await
            {
                self.unfreeze(*operation, &restore.plan, &database).await;
            }
        }
        let newest = self.state().newest_operation;
        let Some(database) = self.until_open(newest).await else { return };
        self.drop_lost_points(newest, &database).await;
        for (operation, restore) in restores {
            let side = self.side_now(operation, &restore.plan, &database).await;
            match side {
                Some(Side::After) => self.renew_first_hold(&restore.plan),
                Some(Side::Before) | None => self.open_gate(operation).await,
            }
            let waits = then == Resume::Wait || restore.halted.is_some();
            let is_stuck = restore.halted.is_some();
            match side {
                // Who shall serve on it may not have the traffic yet.
                Some(Side::After) if !is_stuck => self.begin(operation, Task::GoOn),
                _ if waits => self.open_gate(operation).await,
                _ => self.begin(operation, Task::GoOn),
            }
        }
    }

    /// After a deploy that failed: its restore point may have closed the database, and may be half
    /// of one.
    pub(in crate::controller) async fn tidy_database(self: &Arc<Self>, operation: OperationId) {
        if self.settings().database.is_none() {
            return;
        }
        match self.open_again(operation).await {
            Ok(database) => self.drop_lost_points(operation, &database).await,
            Err(stop) => self.say(Some(operation), LineLevel::Error, "database", stop.to_string()),
        }
    }

    /// Requests wait for a restore point that closes the database; those that are open end first.
    pub(in crate::controller) async fn hold_for(&self, action: &Action) {
        let settings = self.settings();
        let clones = settings.database.as_ref().filter(|d| d.point == PointKind::Clone);
        let (Some(database), Action::Point { .. }) = (clones, action) else { return };
        let most = database.max_hold;
        match self.hold(HoldLimits::within(most), most + LEASE_GRACE) {
            Ok(hold) => {
                hold.drained(most / DRAIN_SHARE).await;
                if hold.renew(most + LEASE_GRACE).is_ok() {
                    self.restoring().pointing = Some(hold);
                }
            }
            Err(failure) => tracing::warn!(%failure, "no request waits for the clone"),
        }
    }

    /// The restore point is made, or is not: who waited goes on.
    pub(in crate::controller) async fn let_go(&self, operation: OperationId) {
        let hold = self.restoring().pointing.take();
        if let Some(hold) = hold
            && let Some(tally) = hold.release().await
        {
            let longest = text::duration(tally.longest);
            let (waited, refused) = (tally.waited, tally.refused);
            let text = format!("{waited} requests waited, {longest} at most; {refused} failed");
            self.say(Some(operation), LineLevel::Step, "restore point", text);
        }
    }

    /// Restore points that a deploy began, up to this one, and did not come to record.
    async fn drop_lost_points(&self, newest: OperationId, database: &Database) {
        let state = self.state();
        let known: Vec<String> = state.points.values().map(|point| point.name.clone()).collect();
        // A later deploy may be making its own now.
        let deploys: Vec<OperationId> = unfinished(&state).filter(|by| *by <= newest).collect();
        if deploys.is_empty() {
            return;
        }
        let _turn = self.database_turn().await;
        match database.drop_unrecorded_points(&known, &deploys).await {
            Ok(gone) => {
                for name in gone {
                    let text = format!("{name}, which no deploy came to use, is dropped");
                    self.say(None, LineLevel::Note, "restore point", text);
                }
            }
            Err(trouble) => {
                tracing::warn!(%trouble, "restore points of failed deploys are dropped later");
            }
        }
    }
}

/// Deploys that did not reach their end: what they made of a restore point nobody uses, and they
/// may have closed the database for it.
fn unfinished(state: &AppState) -> impl Iterator<Item = OperationId> {
    let is_unfinished = |known: &&Operation| {
        let is_deploy = matches!(known.what, OperationKind::Deploy { .. });
        is_deploy && !matches!(known.ended, Some((_, Ending::Done)))
    };
    let found = state.operations.iter().filter(move |(_, known)| is_unfinished(known));
    found.map(|(operation, _)| *operation)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_keeps_the_database_closed_is_told_once_and_at_once_where_waiting_helps_nobody() {
        let (mut told, begun) = (Told::default(), Instant::now());
        let away = Stop::Stuck("nobody listens".to_owned());
        assert!(!told.is_due(&away, begun), "it may be starting");
        assert!(told.is_due(&away, begun + PATIENCE));
        assert!(!told.is_due(&away, begun + PATIENCE * 2), "said already");
        let refused = Stop::Refused("the password is wrong".to_owned());
        assert!(told.is_due(&refused, begun + PATIENCE * 2), "another reason");
        assert!(Told::default().is_due(&refused, begun));
        let text = not_opened(&refused);
        assert!(
            text.contains("the password is wrong") && text.contains("cutover doctor"),
            "{text}"
        );
    }
}
