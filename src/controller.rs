//! The controller: one task and one mailbox per app; input, decision, journal, evolve, effects.
//!
//! It alone changes what is known of an app and what the proxy's table says of it. Two ways lead
//! in: the mailbox (everything that may wait: the fact is durable before the effect) and the path
//! of the cut-back (`App::cut_back`), which touches memory first and waits for nothing.
//! It never talks to Docker itself: plans go to the reconciler.
//! INVARIANT: the state in memory is the recorded one plus the batches that wait for the disk, in
//! the order in which the journal gets them.

mod adoption;
mod boot;
mod cut_back;
mod endpoints;
mod gate;
mod incident;
mod live;
mod mailbox;
mod make;
mod ports;
mod reload;
mod remaking;
mod restoring;
mod settle;
mod tending;
mod upkeep;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use cutover_model::{
    Actor, AppKind, AppName, AppState, ByColor, Effect, Fact, Generation, Happened, Input, Landing,
    LastGood, LineLevel, Millis, OperationId, Refusal, Salt, Split, Step, Weight,
};
use cutover_proxy::SigningKey;
use cutover_proxy::message::AppSpec;
use tokio::sync::{Notify, broadcast, mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::host::StackSettings;
use crate::host::probe::smoke::Smoke;
use crate::journal::Journal;
use crate::journal::weights::Weights;
use crate::reconciler::database::DatabaseSettings;
use crate::reconciler::{Drift, Reconciler};

pub use boot::{Prepared, Remembered};
pub use cut_back::Recorded;
pub use endpoints::Endpoints;
pub use gate::{Closing, HoldGuard, HoldLimits, HoldLost, Turned, first_hold};
pub use incident::Harm;
pub use live::Overdue;
pub use make::DeployRequest;
pub use ports::Carried;
pub use remaking::Preview;
pub use restoring::{Data, Kept, Planned, RestoreRequest, Resume, WayBack};
pub use settle::{DownWay, MigrationSeen};
pub use upkeep::{Beside, Going, Prunable};

pub use crate::reconciler::database::{Export, ExportedRow, Left};
pub use crate::reconciler::{Again, Mode, Tree};
pub use crate::reconciler::{Checked, Leftovers};

use live::Live;
use mailbox::{Message, Room};

/// What the controller needs to know of one app, filled by the daemon from the configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct AppSettings {
    /// The app.
    pub app: AppName,
    /// Its kind.
    pub kind: AppKind,
    /// Its table before any journal or Docker is looked at: routes, deadlines, and for a static
    /// app its endpoints.
    pub spec: AppSpec,
    /// The public ports that its clients come in on.
    pub ports: Vec<u16>,
    /// The public ports whose connections are carried.
    pub carried: Vec<Carried>,
    /// Its compose file, for a compose app.
    pub stack: Option<StackSettings>,
    /// The recipe of a rollout.
    pub steps: Vec<Step>,
    /// The share of requests that may fail by the app's own doing, before an adoption is undone.
    pub max_error_rate: Weight,
    /// The readiness probe.
    pub probe: ProbeSettings,
    /// What has to work on a color.
    pub smoke: Vec<Smoke>,
    /// The migration command.
    pub migration: Option<MigrationSettings>,
    /// The database that is rolled back with the app.
    pub database: Option<DatabaseSettings>,
    /// How long a drain waits for open requests.
    pub drain: Duration,
}

/// The readiness probe of an app, asked on the path that traffic takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeSettings {
    /// Host header; `None`: the first route's.
    pub host: Option<String>,
    /// The path.
    pub path: String,
    /// The statuses that pass.
    pub expect: Vec<std::ops::RangeInclusive<u16>>,
    /// How often it is tried.
    pub attempts: u32,
    /// How many passes in a row are wanted.
    pub passes: u32,
    /// Between two tries.
    pub interval: Duration,
    /// How long one try may take.
    pub timeout: Duration,
}

/// The migration command of an app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MigrationSettings {
    /// The service whose image runs it.
    pub service: cutover_model::ServiceName,
    /// The words of the command.
    pub command: Vec<String>,
    /// The folder of migrations with their down scripts, below a release's sources.
    pub down: Option<PathBuf>,
    /// The words of the command that takes a release's migrations back, in place of scripts.
    pub down_command: Option<Vec<String>>,
    /// The words of the command that says which migrations there are.
    pub status_command: Option<Vec<String>>,
}

/// Everything that the apps share.
#[derive(Debug)]
pub struct Shared {
    /// The data plane.
    pub proxy: Arc<cutover_proxy::Proxy>,
    /// The journal.
    pub journal: Arc<Journal>,
    /// The weights file.
    pub weights: Weights,
    /// Where connections arrive that a rule leads to the proxy; `None`: none can be opened here.
    pub landing: Option<Landing>,
    /// Told when something changed that the last good table shall have.
    pub tables_changed: Notify,
    /// The state folder, for pages that a restart shows again.
    pub state: PathBuf,
    /// What the state folder draws its secrets from.
    pub key: SigningKey,
    /// Why that key is not the one of former starts: what was marked by it is not known as ours.
    pub key_lost: Option<String>,
    /// What a start does with operations that were cut off.
    pub resume: Resume,
    /// Runs plans; `None` when no app is made from a compose file.
    pub reconciler: Option<Reconciler>,
}

/// All apps.
#[derive(Debug, Clone)]
pub struct Controller {
    apps: Arc<BTreeMap<AppName, Arc<App>>>,
}

/// One app: its handle for the API, the reconciler's reports and the controller's own tasks.
#[derive(Debug)]
pub struct App {
    /// Its name.
    pub name: AppName,
    /// Replaced whole by a reload; who needs several of them takes them once.
    settings: ArcSwap<AppSettings>,
    shared: Arc<Shared>,
    live: Mutex<Live>,
    mailbox: mpsc::Sender<Message>,
    endpoints: Mutex<ByColor<Endpoints>>,
    looks: endpoints::Looks,
    /// Whose turn it is to move singletons.
    singletons: tokio::sync::Mutex<()>,
    color_addresses: ByColor<Option<SocketAddr>>,
    /// The operator's own project, once a release tells it.
    operators_project: OnceLock<String>,
    /// What differed from the records at the last look.
    drift: Mutex<Drift>,
    /// Why containers of each color do not run, by the last look.
    ended: Mutex<ByColor<BTreeSet<String>>>,
    /// Told when somebody started something in it.
    habits: Notify,
    /// The restore that is carried out, and plans that were shown.
    restoring: Mutex<restoring::Restoring>,
    /// Whose turn it is with the rollback that is set for later; when that was set of which it was
    /// told that it waits.
    schedule_turn: tokio::sync::Mutex<Option<Millis>>,
    /// Ends the task that keeps the rule for the public ports.
    kept_rule: Mutex<Option<CancellationToken>>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// Why an input was not carried out; unless said otherwise nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The machine refused it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The journal cannot be written, so nothing that has to be recorded first was begun.
    #[error("the change cannot be recorded: {0}. NOTHING WAS CHANGED")]
    NotRecorded(String),
    /// The disk took it too late: it was put back, and traffic is as before.
    #[error(
        "the disk took {} s to record this{}. It was not carried out: traffic is as it was",
        .after.as_secs(),
        if *.is_cut_back { ", and a cut-back came in between" } else { "" }
    )]
    TooLate {
        /// How long it took.
        after: Duration,
        /// Whether a cut-back came in between.
        is_cut_back: bool,
    },
    /// A cut-back came in between.
    #[error("a cut-back came in between: the split is now {0:?}")]
    Overtaken(Split),
    /// The app's journal cannot be trusted: it serves, and changes nothing but by cut-back.
    #[error("{0}")]
    Untrusted(String),
    /// The app has no such thing, or it does not exist.
    #[error("{0}")]
    Unknown(String),
    /// It cannot be done, for this reason.
    #[error("{0}")]
    Impossible(String),
    /// What has to be asked beforehand does not answer.
    #[error("{0}")]
    Away(String),
    /// The daemon is stopping.
    #[error("the daemon is stopping")]
    Stopping,
}

impl Failure {
    /// Whether the same may be accepted a moment later, without anybody doing anything.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        matches!(
            self,
            Self::Refused(Refusal::Busy { .. })
                | Self::NotRecorded(_)
                | Self::TooLate { .. }
                | Self::Away(_)
        )
    }
}

/// What a command gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The operation.
    pub operation: OperationId,
    /// When it was accepted, or when traffic moved.
    pub at: Millis,
    /// The move of traffic, if there was one.
    pub moved: Option<Moved>,
    /// Where the change stands.
    pub recorded: Recorded,
    /// The state right after.
    pub state: AppState,
    /// What follows; already under way unless the input was a deploy's.
    pub effects: Vec<Effect>,
}

/// A move of traffic that is in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moved {
    /// Before.
    pub before: Split,
    /// Now.
    pub after: Split,
    /// The table that serves now.
    pub generation: Generation,
    /// From the decision to the moment from which every new request uses the new table.
    pub took: Duration,
}

/// What happened to one app, and what will.
#[derive(Debug)]
pub struct Following {
    /// What happened already, oldest first; bounded, the journal has the rest.
    pub past: Vec<Arc<Happened>>,
    /// What happens from now on.
    pub next: broadcast::Receiver<Arc<Happened>>,
}

impl Controller {
    /// Wraps the apps.
    #[must_use]
    pub fn new(apps: impl IntoIterator<Item = Arc<App>>) -> Self {
        let apps = apps.into_iter().map(|app| (app.name.clone(), app)).collect();
        Self { apps: Arc::new(apps) }
    }

    /// Every app, by name.
    pub fn apps(&self) -> impl Iterator<Item = &Arc<App>> {
        self.apps.values()
    }

    /// The app of this name; without a name the only one.
    ///
    /// # Errors
    /// [`Failure::Unknown`] that lists the names there are.
    pub fn app(&self, name: Option<&str>) -> Result<&Arc<App>, Failure> {
        let names = || {
            let names: Vec<&str> = self.apps.keys().map(AppName::as_str).collect();
            names.join(", ")
        };
        match name {
            Some(name) => self
                .apps
                .iter()
                .find(|(known, _)| known.as_str() == name)
                .map(|(_, app)| app)
                .ok_or_else(|| {
                    Failure::Unknown(format!("there is no app \"{name}\"; there is {}", names()))
                }),
            None => {
                let mut all = self.apps.values();
                match (all.next(), all.next()) {
                    (Some(app), None) => Ok(app),
                    (None, _) => Err(Failure::Unknown("no app is configured".to_owned())),
                    _ => Err(Failure::Unknown(format!(
                        "there is more than one app: name it with --app ({})",
                        names()
                    ))),
                }
            }
        }
    }
}

impl App {
    /// What is known now, what waits for the disk included.
    #[must_use]
    pub fn state(&self) -> AppState {
        self.live().state.clone()
    }

    /// What the last good table says beside its endpoints.
    #[must_use]
    pub fn last_good(&self) -> LastGood {
        LastGood::of(&self.live().state)
    }

    /// The settings in force.
    #[must_use]
    pub fn settings(&self) -> Arc<AppSettings> {
        self.settings.load_full()
    }

    /// Its compose file, for a compose app.
    fn stack(&self) -> Option<StackSettings> {
        self.settings.load().stack.clone()
    }

    /// What differed from the records at the last look.
    #[must_use]
    pub fn drift(&self) -> Drift {
        self.drift.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many batches of facts wait for the disk.
    #[must_use]
    pub fn unrecorded(&self) -> usize {
        self.live().waiting()
    }

    /// Those of them that the disk should have taken by now, if there are any.
    #[must_use]
    pub fn overdue(&self) -> Option<Overdue> {
        self.live().overdue()
    }

    /// The reason why this app's journal is not trusted, if it is not.
    #[must_use]
    pub fn untrusted(&self) -> Option<String> {
        self.live().untrusted.clone()
    }

    /// What the app's shared parts are.
    #[must_use]
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Carries out an input: by the path of the cut-back where it is one, else by the mailbox.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn ask(
        self: &Arc<Self>,
        input: Input,
        actor: Actor,
        request: Option<String>,
    ) -> Result<Answer, Failure> {
        if input.is_cut_back() {
            return self.cut_back(input, actor, request).await;
        }
        self.live().room()?;
        let (reply, answer) = oneshot::channel();
        let message = Message::Ask { input, actor, request, reply };
        self.mailbox.send(message).await.map_err(|_| Failure::Stopping)?;
        answer.await.map_err(|_| Failure::Stopping)?
    }

    /// Records facts; returns when they are durable.
    ///
    /// # Errors
    /// [`Failure::NotRecorded`]; the facts have then not happened.
    pub async fn record(&self, actor: Actor, facts: Vec<Fact>) -> Result<(), Failure> {
        self.record_with(actor, facts, Room::AsIs).await
    }

    /// Records what is about to be done; on a full disk the reserve is given up for it.
    async fn record_intent(&self, intent: Fact) -> Result<(), Failure> {
        self.record_with(Actor::daemon(), vec![intent], Room::Reserve).await
    }

    async fn record_with(&self, actor: Actor, facts: Vec<Fact>, room: Room) -> Result<(), Failure> {
        let (reply, answer) = oneshot::channel();
        let message = Message::Record { actor, facts, room, reply };
        self.mailbox.send(message).await.map_err(|_| Failure::Stopping)?;
        answer.await.map_err(|_| Failure::Stopping)?
    }

    /// Notes facts that have happened whether the disk takes them or not: they count at once and
    /// wait for the journal.
    pub fn note(&self, actor: &Actor, facts: Vec<Fact>) {
        self.live().push(actor, facts, None);
        self.wake();
    }

    /// Notes a line for people.
    pub fn say(
        &self,
        operation: Option<OperationId>,
        level: LineLevel,
        label: &str,
        text: impl Into<String>,
    ) {
        let label = label.to_owned();
        let line = Fact::Line { operation, level, label, text: text.into() };
        self.note(&Actor::daemon(), vec![line]);
    }

    /// What happened, and what will.
    #[must_use]
    pub fn follow(&self) -> Following {
        self.live().follow()
    }

    fn live(&self) -> MutexGuard<'_, Live> {
        // A panic while it was held left a value that evolve() had finished with or not begun.
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the mailbox to write what waits; a full mailbox will do so anyhow.
    fn wake(&self) {
        drop(self.mailbox.try_send(Message::Flush));
    }
}

/// The wall clock.
#[must_use]
pub fn now() -> Millis {
    Millis(jiff::Timestamp::now().as_millisecond())
}

/// A fresh salt: which clients are early differs from rollout to rollout.
#[must_use]
pub fn fresh_salt() -> Salt {
    Salt(rand::random())
}
