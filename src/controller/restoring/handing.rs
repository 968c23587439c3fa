//! Handing the traffic over together with the data: the release that shall serve is started before
//! requests wait, and gets them all while they wait.
//!
//! Nobody's reputation changes but that of the release that serves from now on: what is undone was
//! no failure of the other one.

use std::sync::Arc;
use std::time::Instant;

use cutover_model::{
    Action, Actor, Fact, Goal, LineLevel, OperationId, ReleaseId, ReleaseState, RestorePlan,
    RolloutEnding, Source, Split, Weight, plan,
};
use cutover_proxy::message::{Change, Publish};

use super::super::App;
use super::Stop;
use crate::journal::weights::Entry;
use crate::reconciler::Work;
use crate::reconciler::database::Database;

/// Whether it is on record that a release is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    /// Where it has to be started, that is recorded first.
    NotYet,
    /// It only comes back.
    Already,
}

impl App {
    /// Starts the release that shall serve, where it does not run; it gets no request yet.
    pub(super) async fn ready_to_serve(
        self: &Arc<Self>,
        operation: OperationId,
        restore: &RestorePlan,
    ) -> Result<(), Stop> {
        let before = "it is started before any request waits";
        self.start_idle(operation, restore.to, (before, Known::NotYet)).await
    }

    /// Records that a release is about to be started or stopped for the exchange.
    pub(super) async fn note_stacks(
        &self,
        operation: OperationId,
        (started, stopped): (Option<ReleaseId>, Option<ReleaseId>),
    ) -> Result<(), Stop> {
        let fact = Fact::RestoreStacks { operation, started, stopped };
        let recorded = self.record(Actor::daemon(), vec![fact]).await;
        recorded.map_err(|failure| Stop::Stuck(failure.to_string()))
    }

    /// Stops again what was started for an exchange that does not stand, and starts what was
    /// stopped; in words, also what of it cannot be done.
    pub(super) async fn stacks_back(
        self: &Arc<Self>,
        operation: OperationId,
        database: &Database,
    ) -> String {
        let state = self.state();
        let Some(restore) = state.restores.get(&operation) else { return String::new() };
        let idle = |release: &ReleaseId| {
            let standing = state.standing(*release)?;
            let color = standing.release.color;
            let is_idle = *state.colors.get(color) == Some(*release)
                && state.split.share(color) == Weight::ZERO;
            is_idle.then(|| standing.release.project.clone())
        };
        let mut said = Vec::new();
        if let Some(release) = restore.started
            && let Some(project) = idle(&release)
        {
            said.push(match database.stop(&project).await {
                Ok(_) => format!("{release}, which was started for it, is stopped again."),
                Err(trouble) => format!(
                    "{release}, which was started for it, still runs: {trouble}. To stop it: \
                     docker compose -p {project} stop"
                ),
            });
        }
        if let Some(release) = restore.stopped
            && idle(&release).is_some()
        {
            let why = "it was stopped for the exchange and is started again";
            let started = self.start_idle(operation, release, (why, Known::Already)).await;
            said.push(match started {
                Ok(()) => format!("{release}, which was stopped for it, runs again."),
                Err(stop) => format!(
                    "{release}, which was stopped for it, is not running: {stop}. A rollback to \
                     it starts it"
                ),
            });
        }
        said.join(" ")
    }

    /// Starts a release without traffic, where it does not run.
    async fn start_idle(
        self: &Arc<Self>,
        operation: OperationId,
        release: ReleaseId,
        (why, known): (&str, Known),
    ) -> Result<(), Stop> {
        let state = self.state();
        let Some(standing) = state.standing(release) else { return Ok(()) };
        let color = standing.release.color;
        if state.split.share(color) > Weight::ZERO {
            return Ok(());
        }
        let (Some(reconciler), Some(stack)) = (&self.shared.reconciler, self.stack()) else {
            return Ok(());
        };
        let mut work = Work::new(self.name.clone());
        work.projects = self.projects();
        work.releases = state.colors;
        let project = work.projects.get(color).clone();
        let seen = reconciler.observe(&stack, project.as_deref()).await;
        let actions = plan(&Goal::Again { release, color }, &seen);
        let mut actions = actions.map_err(|error| Stop::Stuck(error.to_string()))?;
        // On today's data its probe says nothing about the data that it will have.
        actions.retain(|action| !matches!(action, Action::Probe { .. }));
        if actions.is_empty() {
            return Ok(());
        }
        if known == Known::NotYet {
            self.note_stacks(operation, (Some(release), None)).await?;
        }
        let text = format!("{release} is stopped: {why}");
        self.say(Some(operation), LineLevel::Step, "3/4 exchange", text);
        let driven = self.drive(operation, reconciler, &stack, &actions, &mut work).await;
        driven.map(|_| ()).map_err(|stopped| Stop::Stuck(stopped.to_string()))
    }

    /// Gives a release all traffic, as part of the exchange; memory first.
    pub(super) async fn hand_over(
        &self,
        operation: OperationId,
        (to, from): (ReleaseId, Option<ReleaseId>),
        source: &Source,
    ) -> Result<(), String> {
        let entry = {
            let mut live = self.live();
            let number = live.next_move();
            let state = &live.state;
            let standing = state.standing(to).ok_or("the release is not on record any more")?;
            let after = Split::all(standing.release.color);
            let (before, salt) = (state.split, state.salt);
            if before == after {
                return Ok(());
            }
            let mut facts =
                vec![Fact::SplitChanged { number, before, after, operation: Some(operation) }];
            if state.rollout.is_some() {
                facts.push(Fact::RolloutEnded { ending: RolloutEnding::RolledBack });
            }
            if standing.rejected_by.is_some() {
                facts.push(Fact::ReleaseCleared { release: to });
            }
            if standing.state != ReleaseState::Warm {
                // It was started for this: from now on a rollback to it is instant again.
                facts.push(Fact::ReleaseIs { release: to, state: ReleaseState::Warm });
            }
            let is_way_back = matches!(source, Source::Aside { .. });
            if let Some(release) = from.filter(|from| *from != to && !is_way_back) {
                facts.push(Fact::ReleaseRejected { release, operation });
            }
            let changes = vec![Change::Split { split: after, salt }];
            let publish = Publish { app: self.name.clone(), changes, based_on: None };
            let published = self.shared.proxy.switch().apply(publish);
            let published = published.map_err(|refused| refused.to_string())?;
            live.split_generation = Some(published.split_generation);
            // CRASH: the new table serves and nothing is durable yet; the next start is held, and
            // hands over again.
            live.push(&Actor::daemon(), facts, None);
            let (at, reason) = (super::super::now(), "restore".to_owned());
            Entry { split: after, salt, number, at, operation: Some(operation), reason }
        };
        self.wake();
        let begun = Instant::now();
        if let Err(error) = self.shared.weights.set(&self.name, entry).await {
            let took = begun.elapsed().as_millis();
            tracing::warn!(%error, took, "the weights file was not written");
        }
        Ok(())
    }
}
