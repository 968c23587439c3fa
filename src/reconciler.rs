//! The reconciler: runs a plan, action by action.
//!
//! Each action is reported before it is performed and after; it goes on only when the intent is
//! durable. It holds no state between runs, decides nothing and never touches traffic: the host
//! is changed through `host`, everything else is the controller's.
//! INVARIANT: an action looks first and may run twice.

mod adopting;
mod assembling;
mod checking;
pub mod database;
mod drifting;
mod ended;
mod leftovers;
mod looking;
mod making;
mod migrating;
mod perform;
mod pointing;
mod preflight;
mod rehearsing;
mod tending;
mod undoing;

pub use adopting::Running;
pub use assembling::Missing;
pub use checking::{Checked, Outcome, ProbeTarget, Proved, ask_once, smoke};
use database::Database;
pub use drifting::{Drift, Expected};
pub use ended::Ended;
pub use leftovers::{Found as Leftovers, Known};
pub use looking::Looked;
pub use making::{Again, Mode, Rejected, Tree};
pub use rehearsing::Former;
pub use tending::{Tended, Unserved, View};
pub use undoing::DownCommand;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use cutover_model::{
    Action, AppName, ByColor, Color, Containers, Fact, LineLevel, Migrated, Observation,
    OperationId, Parts, Release, ReleaseId, Seen, ServiceName,
};
use tokio::sync::{mpsc, oneshot};

use crate::adopt::Published;
use crate::host::StackSettings;
use crate::host::docker::{Events, Watch};
use crate::host::env::EnvDiff;
use crate::host::postgres::contents::down::Down;
use crate::host::probe::smoke::Smoke;

/// Runs plans.
#[derive(Debug, Clone, Default)]
pub struct Reconciler {
    _private: (),
}

/// What the actions of one plan hand on to each other.
#[derive(Debug)]
pub struct Work {
    /// The app.
    pub app: AppName,
    /// The release that is being made, and its color.
    pub release: Option<(ReleaseId, Color)>,
    /// The compose project of what is in each color.
    pub projects: ByColor<Option<String>>,
    /// The release that is in each color.
    pub releases: ByColor<Option<ReleaseId>>,
    /// The commit asked for; `None`: HEAD.
    pub reference: Option<String>,
    /// See [`Mode`].
    pub mode: Mode,
    /// Releases that were rolled back, and their commits.
    pub rejected: Vec<(ReleaseId, Option<String>)>,
    /// The migration: service and command.
    pub migration: Option<(ServiceName, Vec<String>)>,
    /// Where the release's migrations and their down scripts are, below its sources.
    pub down: Option<PathBuf>,
    /// Down scripts to run, newest migration first, and what the database had before them.
    pub downs: (Vec<Down>, Option<Vec<String>>),
    /// What takes migrations back in place of scripts: service, command, and what it takes back.
    pub down_command: Option<DownCommand>,
    /// The database, for a restore point and for integrity queries.
    pub database: Option<Database>,
    /// Where to probe.
    pub probe: Option<ProbeTarget>,
    /// What has to work before a deploy gets a user.
    pub smoke: Vec<Smoke>,
    /// Integrity queries that did not pass before anything of the release ran.
    pub wrong_before: Vec<String>,
    /// The records of the releases that parts are taken from.
    pub known: BTreeMap<ReleaseId, Release>,
    /// What served when a migration is tried, to be asked on the copy.
    pub former: Option<Former>,
    /// Whether clients get the maintenance page: nobody meets what a migration breaks.
    pub is_closed: bool,
    /// What was found out of the migration on a copy.
    pub tried: Option<Migrated>,
    /// Whether the live database got the migration that was to be tried on a copy.
    pub met_live: bool,
    /// Whether a restore point was made.
    pub has_point: bool,
    /// Whether a singleton was started.
    pub moved_singletons: bool,
    made: making::Making,
}

impl Work {
    /// Nothing yet.
    #[must_use]
    pub fn new(app: AppName) -> Self {
        Self {
            app,
            release: None,
            projects: ByColor::default(),
            releases: ByColor::default(),
            reference: None,
            mode: Mode::default(),
            rejected: Vec::new(),
            migration: None,
            down: None,
            downs: (Vec::new(), None),
            down_command: None,
            database: None,
            probe: None,
            smoke: Vec::new(),
            wrong_before: Vec::new(),
            known: BTreeMap::new(),
            former: None,
            is_closed: false,
            tried: None,
            met_live: false,
            has_point: false,
            moved_singletons: false,
            made: making::Making::default(),
        }
    }

    /// The operator's own project, once the release is rendered.
    #[must_use]
    pub fn operator_project(&self) -> Option<String> {
        self.made.stack.as_ref().map(|stack| stack.operator_project.clone())
    }

    /// The record of the release, once its images are there.
    #[must_use]
    pub fn record(&self) -> Option<Release> {
        self.made.record.clone()
    }
}

/// What differs between two releases on disk and in the repository.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Compared {
    /// Commits from the first to the second, newest first; with `-` those that go away.
    pub commits: Vec<String>,
    /// Keys, by env file.
    pub env: BTreeMap<String, EnvDiff>,
    /// What could not be compared.
    pub unknown: Vec<String>,
}

/// What the reconciler tells the controller.
#[derive(Debug)]
pub enum Report {
    /// An action is about to be performed; it waits for `go`.
    Intended {
        /// Its place in the plan.
        index: u32,
        /// It.
        action: Action,
        /// Told when the intent is durable, or why it is not.
        go: oneshot::Sender<Result<(), String>>,
    },
    /// An action was performed; the next one waits for `go`.
    Done {
        /// Its place in the plan.
        index: u32,
        /// It.
        action: Action,
        /// How long it took.
        took: Duration,
        /// What to tell people, when there is something.
        text: Option<String>,
        /// Told when the controller has done what follows from it.
        go: oneshot::Sender<()>,
    },
    /// An action failed; the plan ends.
    Failed {
        /// Its place in the plan.
        index: u32,
        /// Why.
        why: String,
    },
    /// Something happened that has to be recorded before it goes on.
    Happened {
        /// It.
        fact: Box<Fact>,
        /// Told when it is durable, or why it is not.
        go: oneshot::Sender<Result<(), String>>,
    },
    /// Something for people.
    Line {
        /// How loud.
        level: LineLevel,
        /// The word in front.
        label: &'static str,
        /// The text.
        text: String,
    },
}

/// A plan that ended before its end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Stopped {
    /// An action failed.
    #[error("{label}: {why}")]
    Failed {
        /// The action's word.
        label: &'static str,
        /// Why, with what to do.
        why: String,
    },
    /// The intent could not be recorded, so nothing was begun.
    #[error("{label} was not begun: {why}")]
    NotRecorded {
        /// The action's word.
        label: &'static str,
        /// Why.
        why: String,
    },
    /// Nobody listens any more: the daemon is stopping.
    #[error("the daemon is stopping")]
    Stopping,
}

impl Reconciler {
    /// Runs the actions in order; the first failure ends it.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn run(
        &self,
        stack: &StackSettings,
        actions: &[Action],
        work: &mut Work,
        reports: mpsc::Sender<Report>,
    ) -> Result<(), Stopped> {
        for (index, action) in (0u32..).zip(actions) {
            let label = action.label();
            let (go, allowed) = oneshot::channel();
            let intended = Report::Intended { index, action: action.clone(), go };
            reports.send(intended).await.map_err(|_| Stopped::Stopping)?;
            let allowed = allowed.await.map_err(|_| Stopped::Stopping)?;
            allowed.map_err(|why| Stopped::NotRecorded { label, why })?;
            // CRASH: the action is in doubt: it is looked at and repeated, or taken back.
            let started = Instant::now();
            let performed = Box::pin(perform::perform(stack, action, work, &reports)).await;
            let took = started.elapsed();
            match performed {
                Ok(text) => {
                    let (go, seen) = oneshot::channel();
                    let action = action.clone();
                    let done = Report::Done { index, action, took, text, go };
                    reports.send(done).await.map_err(|_| Stopped::Stopping)?;
                    seen.await.map_err(|_| Stopped::Stopping)?;
                }
                Err(why) => {
                    let failed = Report::Failed { index, why: why.clone() };
                    reports.send(failed).await.map_err(|_| Stopped::Stopping)?;
                    return Err(Stopped::Failed { label, why });
                }
            }
        }
        Ok(())
    }

    /// What plain compose runs now, as the release that an adoption makes of it.
    ///
    /// # Errors
    /// What is missing.
    pub async fn running(
        &self,
        stack: &StackSettings,
        release: ReleaseId,
        color: Color,
        ports: &[u16],
    ) -> Result<Running, String> {
        adopting::running(stack, release, color, ports).await
    }

    /// The operator's own project, and which of these ports Docker publishes for whom.
    ///
    /// # Errors
    /// Why compose or Docker could not be asked.
    pub async fn operators(
        &self,
        stack: &StackSettings,
        ports: &[u16],
    ) -> Result<(String, Vec<Published>), String> {
        adopting::operators(stack, ports).await
    }

    /// Whether a deploy of this commit (`None`: HEAD) would be of a release that was rolled back,
    /// and may not be. It looks only.
    pub async fn rejected(
        &self,
        stack: &StackSettings,
        wanted: (Option<&str>, Mode),
        rejected: &[(ReleaseId, Option<String>)],
    ) -> Option<Rejected> {
        making::rejected(stack, wanted, rejected).await
    }

    /// What is missing of the parts that a release would be made of; it looks only.
    ///
    /// # Errors
    /// What is missing, and whether the images can be built anew.
    pub async fn check_parts(
        &self,
        stack: &StackSettings,
        parts: &Parts,
        known: &BTreeMap<ReleaseId, Release>,
    ) -> Result<(), Missing> {
        assembling::check(stack, parts, known).await
    }

    /// Images of a release that the engine does not have any more, by service.
    ///
    /// # Errors
    /// Why Docker could not be asked.
    pub async fn lost_images(
        &self,
        stack: &StackSettings,
        release: &Release,
    ) -> Result<Vec<String>, String> {
        assembling::lost(stack, release).await
    }

    /// What differs from the records; it looks only.
    ///
    /// # Errors
    /// Why Docker could not be asked.
    pub async fn drift(&self, stack: &StackSettings, expected: &Expected) -> Result<Drift, String> {
        drifting::look(stack, expected).await
    }

    /// What differs between two releases: commits between them, env keys by file, and what is not
    /// known. `at` says in which color a release has its stack.
    pub async fn compare(
        &self,
        stack: &StackSettings,
        (before, after): (&Release, &Release),
        at: impl Fn(&Release) -> Option<Color>,
    ) -> Compared {
        let (env, unknown) = drifting::compare(stack, (before, after), at).await;
        let commits = making::commits(stack, before.commit.as_deref(), after.commit.as_deref());
        Compared { commits: commits.await, env, unknown }
    }

    /// Tags a commit as what ran before an operation; the tag's name.
    ///
    /// # Errors
    /// Why it could not be tagged.
    pub async fn tag_before(
        &self,
        stack: &StackSettings,
        operation: OperationId,
        commit: &str,
    ) -> Result<String, String> {
        making::tag_before(stack, operation, commit).await
    }

    /// The commit that the operator's checkout is at; `None`: it is no repository.
    pub async fn checkout(&self, stack: &StackSettings) -> Option<String> {
        making::checkout(stack).await
    }

    /// What is left of releases that are not on record, and what is dangerous on the host.
    pub async fn leftovers(&self, stack: &StackSettings, known: &Known) -> Leftovers {
        leftovers::look(stack, known).await
    }

    /// Removes what is left of a release that is not on record; nothing that runs.
    pub async fn clean(&self, stack: &StackSettings, release: ReleaseId) {
        leftovers::clean(stack, release).await;
    }

    /// Removes what a release has outside of its stack.
    pub async fn forget(&self, stack: &StackSettings, release: ReleaseId) {
        crate::host::stack::forget(stack, release).await;
    }

    /// What Docker shows of the containers of a project.
    ///
    /// # Errors
    /// Why Docker could not be asked.
    pub async fn endpoints(&self, stack: &StackSettings, project: &str) -> Result<Looked, String> {
        looking::endpoints(stack, project).await
    }

    /// The newest log lines of a release's services, or of one: service and line, oldest first.
    ///
    /// # Errors
    /// Why Docker could not be asked.
    pub async fn logs(
        &self,
        stack: &StackSettings,
        of: (&str, ReleaseId),
        service: Option<&str>,
        tail: usize,
    ) -> Result<Vec<(String, String)>, String> {
        looking::logs(stack, of, service, tail).await
    }

    /// The same, and every line that comes, until the containers end or nobody reads.
    ///
    /// # Errors
    /// Why Docker could not be asked.
    pub async fn follow_logs(
        &self,
        stack: &StackSettings,
        of: (&str, ReleaseId),
        service: Option<&str>,
        tail: usize,
    ) -> Result<mpsc::Receiver<(String, String)>, String> {
        looking::follow_logs(stack, of, service, tail).await
    }

    /// The migrations that a deploy's release has added so far; empty where it is not known.
    pub async fn migrated(&self, stack: &StackSettings, work: &Work) -> Vec<String> {
        let Ok(docker) = perform::docker(stack).await else { return Vec::new() };
        migrating::added(stack, &docker, work).await.unwrap_or_default()
    }

    /// The migrations that the database has, by the tool's table; `None`: it cannot be asked.
    pub async fn applied(&self, stack: &StackSettings, release: &Release) -> Option<Vec<String>> {
        undoing::applied(stack, release).await
    }

    /// Removes what a rehearsal that was cut off left: containers, and the copy.
    ///
    /// # Errors
    /// Why Docker or the database server does not do it.
    pub async fn end_rehearsal(&self, stack: &StackSettings, work: &Work) -> Result<(), String> {
        rehearsing::end(stack, work).await
    }

    /// The operator's own project, by the releases that are there; `None`: none of them tells.
    pub async fn operators_project(
        &self,
        stack: &StackSettings,
        releases: ByColor<Option<ReleaseId>>,
        projects: &ByColor<Option<String>>,
    ) -> Option<String> {
        tending::operators_project(stack, releases, projects).await
    }

    /// Looks at the operator's project and mends what can be mended.
    ///
    /// # Errors
    /// Why Docker could not be asked or did not do it.
    pub async fn tend(&self, stack: &StackSettings, view: &View) -> Result<Tended, String> {
        tending::tend(stack, view).await
    }

    /// Follows Docker's events about an app's projects.
    #[must_use]
    pub fn watch(&self, stack: &StackSettings, projects: Vec<String>) -> Events {
        Events::start(Watch { socket: stack.docker_socket.clone(), projects })
    }

    /// What is there of a project.
    pub async fn observe(&self, stack: &StackSettings, project: Option<&str>) -> Observation {
        let Some(project) = project else {
            return Observation { containers: Seen::Known(Containers::default()) };
        };
        let containers = match looking::count(stack, project).await {
            Ok(containers) => Seen::Known(containers),
            Err(why) => Seen::Unknown(why),
        };
        Observation { containers }
    }
}
