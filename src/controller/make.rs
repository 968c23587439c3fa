//! A deploy: the idle color gets a new release, and then its first share of the traffic.
//!
//! The serving color is never touched. The old standby goes only when the new images are there,
//! under a claim that keeps a cut-back from going to a color that is being cleared. Whatever fails
//! is put back: nothing of ours is left behind but the record of why.

mod put_back;
mod rehearsing;

use std::sync::Arc;
use std::time::{Duration, Instant};

use cutover_model::ServiceName;
use cutover_model::{
    Action, Actor, Color, Containers, Effect, Ending, Fact, Goal, Input, LineLevel, Migration,
    Observation, OperationId, Refusal, ReleaseId, ReleaseState, Seen, Settle, Split, Step, Way,
    plan,
};
use tokio::sync::{mpsc, oneshot};

use super::mailbox::Message;
use super::{Answer, App, Failure, fresh_salt};
use crate::host::StackSettings;
use crate::reconciler::database::{DatabaseSettings, PointKind};
use crate::reconciler::{Mode, Reconciler, Report, Stopped, Work};

/// Reports that may wait for the controller: it records each within milliseconds.
const REPORTS: usize = 64;

/// Releases without a stack whose files and images are kept.
const RELEASES_KEPT: usize = 10;

/// Where down scripts are looked for, unless the operator says where they are.
const DOWN: &str = "prisma/migrations";

/// What a deploy is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeployRequest {
    /// The commit; `None`: HEAD.
    pub reference: Option<String>,
    /// Images to run instead of those in the file.
    pub images: Vec<(ServiceName, String)>,
    /// How its traffic begins.
    pub settle: Settle,
    /// Which work tree, and whether a release that was rolled back may come again.
    pub mode: Mode,
    /// The caller's id of the request.
    pub request: Option<String>,
}

impl App {
    /// Begins a deploy; returns as soon as it is recorded. What follows is told to followers.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn deploy(
        self: &Arc<Self>,
        deploy: DeployRequest,
        actor: Actor,
    ) -> Result<Answer, Failure> {
        self.refuse_rejected(&deploy).await?;
        let answer = self.ask(Input::Deploy, actor, deploy.request.clone()).await?;
        let made = answer.effects.iter().find_map(|effect| match effect {
            Effect::Make { release, color } => Some((*release, *color)),
            _ => None,
        });
        if let Some((release, color)) = made {
            let (app, operation) = (Arc::clone(self), answer.operation);
            self.carry(operation, app.make(operation, release, color, deploy));
        }
        Ok(answer)
    }

    /// Refuses the commit of a release that was rolled back, before anything is begun.
    async fn refuse_rejected(&self, deploy: &DeployRequest) -> Result<(), Refusal> {
        let (Some(reconciler), Some(stack)) = (&self.shared.reconciler, self.stack()) else {
            return Ok(());
        };
        let rejected = self.rejected();
        let wanted = (deploy.reference.as_deref(), deploy.mode);
        let Some(found) = reconciler.rejected(&stack, wanted, &rejected).await else {
            return Ok(());
        };
        let ways = [
            ("cutover deploy", "of a commit that mends it"),
            ("cutover deploy --again", "deploys it all the same"),
        ];
        let way =
            |(command, what): (&str, &str)| Way { command: command.into(), what: what.into() };
        Err(Refusal::Cannot { why: found.to_string(), ways: ways.map(way).to_vec() })
    }

    async fn make(
        self: Arc<Self>,
        operation: OperationId,
        release: ReleaseId,
        color: Color,
        deploy: DeployRequest,
    ) {
        let started = Instant::now();
        let mut made = Made::Nothing;
        let result = self.make_inner(operation, release, color, deploy, &mut made).await;
        let ending = match result {
            Ok(()) => {
                let text = self.end_text(release, started.elapsed());
                self.say(Some(operation), LineLevel::Step, "done", text);
                Ending::Done
            }
            Err(not_made) => {
                let (label, why) = not_made.told();
                self.say(Some(operation), LineLevel::Error, label, why);
                if made == Made::Nothing {
                    self.forget(release).await;
                } else {
                    self.tidy_database(operation).await;
                    self.put_back_made(operation, release, color, made).await;
                }
                not_made.ending()
            }
        };
        self.note(&Actor::daemon(), vec![Fact::OperationEnded { operation, ending }]);
        self.let_old_releases_go().await;
        self.let_old_points_go(operation).await;
    }

    /// Folders, worktrees and images of releases beyond the newest ones that have no stack.
    async fn let_old_releases_go(&self) {
        let (Some(reconciler), Some(stack)) = (&self.shared.reconciler, self.stack()) else {
            return;
        };
        let state = self.state();
        let gone = state.releases.values().rev().filter(|s| s.state == ReleaseState::Gone);
        for standing in gone.skip(RELEASES_KEPT).take(RELEASES_KEPT) {
            reconciler.forget(&stack, standing.release.id).await;
        }
    }

    async fn make_inner(
        self: &Arc<Self>,
        operation: OperationId,
        release: ReleaseId,
        color: Color,
        deploy: DeployRequest,
        made: &mut Made,
    ) -> Result<(), NotMade> {
        // A reload in the middle of a deploy is for the next one.
        let settings = self.settings();
        let (Some(reconciler), Some(mut stack)) = (&self.shared.reconciler, settings.stack.clone())
        else {
            return Err(NotMade::Refused("this app has no compose file".to_owned()));
        };
        stack.images = deploy.images.iter().cloned().collect();
        let mut work = self.work_of((release, color), &deploy);
        let makes_point = |database: &DatabaseSettings| database.point != PointKind::Off;
        let migration =
            match (&work.migration, settings.database.as_ref().filter(|d| makes_point(d))) {
                (None, _) => Migration::None,
                (Some(_), None) => Migration::Once,
                (Some(_), Some(_)) => Migration::AfterPoint,
            };
        let seen = self.observe_color(reconciler, &stack, color).await;
        let goal = Goal::Fresh { release, color, migration };
        let actions = plan(&goal, &seen).map_err(|e| e.to_string())?;
        let (look, rest) = split_behind(actions, |a| matches!(a, Action::Render { .. }));
        let (images, rest) = split_behind(rest, |a| matches!(a, Action::Images { .. }));
        let (tried, rest) = split_behind(rest, |a| matches!(a, Action::Rehearse { .. }));

        let looked = self.drive(operation, reconciler, &stack, &look, &mut work).await;
        looked.map_err(|stopped| NotMade::Refused(stopped.to_string()))?;
        *made = Made::Images;
        self.drive(operation, reconciler, &stack, &images, &mut work).await?;
        if let Some(project) = work.operator_project() {
            // It may be known already; it never changes while the daemon runs.
            drop(self.operators_project.set(project));
        }
        work.database = match self.database(operation).await {
            Ok(database) => Some(database),
            Err(stop) if migration == Migration::AfterPoint => return Err(stop.to_string().into()),
            Err(_) => None,
        };
        work.probe = self.probe_target(color).await?;
        work.smoke.clone_from(&settings.smoke);
        work.former = self.former(color, work.probe.as_ref());
        work.is_closed = self.state().maintenance.is_some();
        let tried = self.drive(operation, reconciler, &stack, &tried, &mut work).await;
        tried.map_err(|stopped| match work.met_live {
            true => NotMade::Failed(stopped.to_string()),
            false => stopped.into(),
        })?;
        let record = work.record().ok_or_else(|| "the release was not prepared".to_owned())?;
        self.claim(color, Fact::ReleaseMade { release: Box::new(record) }).await?;
        *made = Made::Stack;
        let result = match self.drive(operation, reconciler, &stack, &rest, &mut work).await {
            Ok(_) => self.begin_traffic(operation, release, deploy.settle).await,
            Err(stopped) => Err(stopped.to_string()),
        };
        match result {
            Ok(()) => Ok(()),
            Err(why) => Err(with_what_stays(why, &reconciler.migrated(&stack, &work).await).into()),
        }
    }

    /// What a deploy's actions begin with.
    fn work_of(&self, made: (ReleaseId, Color), deploy: &DeployRequest) -> Work {
        let mut work = Work::new(self.name.clone());
        work.projects = self.projects();
        work.releases = self.state().colors;
        work.release = Some(made);
        work.reference.clone_from(&deploy.reference);
        work.mode = deploy.mode;
        work.rejected = self.rejected();
        let migration = self.settings().migration.clone();
        let down = migration.as_ref().and_then(|migration| migration.down.clone());
        work.down = Some(down.unwrap_or_else(|| DOWN.into()));
        work.migration = migration.map(|migration| (migration.service, migration.command));
        work
    }

    /// Makes the release known as the one in its color; from here on no traffic can go to what was
    /// there before.
    pub(super) async fn claim(&self, color: Color, made: Fact) -> Result<(), String> {
        let (reply, answer) = oneshot::channel();
        let message = Message::Claim { color, made, reply };
        let sent = self.mailbox.send(message).await.map_err(|_| Failure::Stopping);
        let claimed = match sent {
            Ok(()) => answer.await.unwrap_or(Err(Failure::Stopping)),
            Err(stopping) => Err(stopping),
        };
        claimed.map_err(|failure| failure.to_string())
    }

    async fn begin_traffic(
        self: &Arc<Self>,
        operation: OperationId,
        release: ReleaseId,
        settle: Settle,
    ) -> Result<(), String> {
        let warm = Fact::ReleaseIs { release, state: ReleaseState::Warm };
        self.record(Actor::daemon(), vec![warm]).await.map_err(|f| f.to_string())?;
        let salt = fresh_salt();
        let steps: Vec<Step> = self.settings().steps.clone();
        let ready = Input::Ready { deploy: operation, release, settle, steps, salt };
        let answer = self.ask(ready, Actor::daemon(), None).await.map_err(|f| f.to_string())?;
        if let Some(moved) = answer.moved {
            self.say(
                Some(operation),
                LineLevel::Step,
                &weight_label(moved.after),
                self.first_share(release, moved.after),
            );
        }
        match self.settle_now(operation, answer.effects).await {
            Ending::Failed(why) => Err(why),
            _ => Ok(()),
        }
    }

    fn first_share(&self, release: ReleaseId, after: Split) -> String {
        match after.sole() {
            Some(_) => format!("{release} serves everyone"),
            None => format!(
                "of the clients are on {release}; the others stay on {}",
                self.name_of(after.stable)
            ),
        }
    }

    fn end_text(&self, release: ReleaseId, took: Duration) -> String {
        let state = self.state();
        let took = crate::text::duration(took);
        if state.stable() == Some(release) {
            return format!("in {took}. {release} serves everyone.");
        }
        let next = match state.rollout.as_ref().and_then(|r| r.step_above(state.split.weight)) {
            Some(step) => format!("cutover next ({})", step.weight),
            None => "cutover next (100 %)".to_owned(),
        };
        format!(
            "in {took}. Next:  {next}    all at once: cutover promote    back: cutover rollback"
        )
    }

    /// What is there in a color that is about to get another release.
    pub(super) async fn observe_color(
        &self,
        reconciler: &Reconciler,
        stack: &StackSettings,
        color: Color,
    ) -> Observation {
        let project = stack.project(color);
        let seen = reconciler.observe(stack, Some(&project)).await;
        match self.projects().get(color).as_deref().filter(|other| **other != project) {
            // An adopted stack is in the operator's own project: it has to make room, too.
            Some(other) => both(seen, reconciler.observe(stack, Some(other)).await),
            None => seen,
        }
    }

    /// Runs actions: each is recorded before it is performed and after.
    pub(super) async fn drive(
        self: &Arc<Self>,
        operation: OperationId,
        reconciler: &Reconciler,
        stack: &StackSettings,
        actions: &[Action],
        work: &mut Work,
    ) -> Result<Duration, Stopped> {
        let started = Instant::now();
        let (reports, mut heard) = mpsc::channel(REPORTS);
        let listen = async {
            while let Some(report) = heard.recv().await {
                self.hear(operation, report).await;
            }
        };
        let run = reconciler.run(stack, actions, work, reports);
        let (result, ()) = tokio::join!(run, listen);
        result.map(|()| started.elapsed())
    }

    async fn hear(self: &Arc<Self>, operation: OperationId, report: Report) {
        match report {
            Report::Intended { index, action, go } => {
                let intended = Fact::ActionIntended { operation, index, action: action.clone() };
                let recorded = self.record_intent(intended).await;
                if recorded.is_ok() {
                    self.hold_for(&action).await;
                }
                drop(go.send(recorded.map_err(|failure| match failure {
                    // Traffic may have moved before this: only the action was not begun.
                    Failure::NotRecorded(why) => why,
                    other => other.to_string(),
                })));
            }
            Report::Done { index, action, took, text, go } => {
                if let Action::Start { color, .. }
                | Action::Revive { color, .. }
                | Action::Wake { color, .. } = action
                {
                    self.look_at(color).await;
                }
                let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
                let done = Fact::ActionDone { operation, index, took_ms };
                self.note(&Actor::daemon(), vec![done]);
                if let Some(text) = text {
                    self.say(Some(operation), LineLevel::Step, action.label(), text);
                }
                self.let_go(operation).await;
                go.send(()).unwrap_or(());
            }
            Report::Happened { fact, go } => {
                let recorded = self.record(Actor::daemon(), vec![*fact]).await;
                drop(go.send(recorded.map_err(|failure| failure.to_string())));
            }
            Report::Failed { index, why } => {
                self.let_go(operation).await;
                let failed = Fact::ActionFailed { operation, index, why };
                self.note(&Actor::daemon(), vec![failed]);
            }
            Report::Line { level, label, text } => {
                self.say(Some(operation), level, label, text);
            }
        }
    }

    /// What the users get now, after something that did not succeed.
    pub(super) fn serves_as_before(&self) -> String {
        serves_as_before(self.state().serving())
    }

    fn rejected(&self) -> Vec<(ReleaseId, Option<String>)> {
        let state = self.state();
        let rejected = state.releases.values().filter(|s| s.rejected_by.is_some());
        rejected.map(|s| (s.release.id, s.release.commit.clone())).collect()
    }
}

/// Actions up to one, and those that follow; without it none comes first.
fn split_behind(
    mut actions: Vec<Action>,
    is_last: impl Fn(&Action) -> bool,
) -> (Vec<Action>, Vec<Action>) {
    let first = actions.iter().position(is_last).map_or(0, |place| place + 1);
    let rest = actions.split_off(first);
    (actions, rest)
}

/// What is in a color when its containers lie in two projects.
fn both(one: Observation, other: Observation) -> Observation {
    let containers = match (one.containers, other.containers) {
        (Seen::Known(one), Seen::Known(other)) => Seen::Known(Containers {
            running: one.running + other.running,
            stopped: one.stopped + other.stopped,
        }),
        (Seen::Unknown(why), _) | (_, Seen::Unknown(why)) => Seen::Unknown(why),
    };
    Observation { containers }
}

/// The reason of a failed deploy, with the migrations that it leaves in the database.
fn with_what_stays(why: String, migrations: &[String]) -> String {
    match migrations {
        [] => why,
        names => format!(
            "{why}\nThese migrations stay in the database, and the release that serves runs with \
             them: {}",
            names.join(", ")
        ),
    }
}

/// Why a deploy has made no release.
#[derive(Debug)]
enum NotMade {
    /// It was looked at, or its migration was tried on a copy: nothing that serves has met it.
    Refused(String),
    /// Something of it did not work.
    Failed(String),
}

impl NotMade {
    /// The label of the line that says it, and the reason.
    fn told(&self) -> (&'static str, &str) {
        match self {
            Self::Refused(why) => ("refused", why),
            Self::Failed(why) => ("failed", why),
        }
    }

    fn ending(self) -> Ending {
        match self {
            Self::Refused(why) => Ending::Refused(why),
            Self::Failed(why) => Ending::Failed(why),
        }
    }
}

impl From<String> for NotMade {
    fn from(why: String) -> Self {
        Self::Failed(why)
    }
}

impl From<Stopped> for NotMade {
    fn from(stopped: Stopped) -> Self {
        match stopped {
            // Only a copy has met the migration.
            Stopped::Failed { label: "rehearsal", why } => Self::Refused(why),
            other => Self::Failed(other.to_string()),
        }
    }
}

/// How far a deploy has come, to put back what it made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Made {
    Nothing,
    /// A release folder and images.
    Images,
    /// Containers and networks in the color.
    Stack,
}

fn serves_as_before(serving: Option<ReleaseId>) -> String {
    match serving {
        Some(release) => format!("{release} serves as before"),
        None => "no release serves yet".to_owned(),
    }
}

fn weight_label(split: Split) -> String {
    match split.sole() {
        Some(_) => "100 %".to_owned(),
        None => split.weight.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_never_serves_as_before() {
        assert_eq!(serves_as_before(Some(ReleaseId(3))), "r3 serves as before");
        assert_eq!(serves_as_before(None), "no release serves yet");
    }
}
