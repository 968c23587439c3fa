//! Facts: things that happened, in the order in which they happened.
//!
//! A fact's serialised form is persisted for ever: fields may be added with a default, a meaning is
//! never changed; a changed meaning is a new kind, and the old one is upcast where it is read.

mod operation;

use serde::{Deserialize, Serialize};

use crate::migration::Migrated;
use crate::plan::Action;
use crate::release::{Release, ReleaseState};
use crate::restore::{Aside, Halt, Point, RestorePlan, Stage, Watched};
use crate::scheduled::Scheduled;
use crate::{Color, Maintenance, Millis, OperationId, Redirect, ReleaseId, Salt, Split, Weight};

pub use operation::OperationKind;

/// The label of the line that says what a rollback has left as it is: the last thing to read.
pub const LEFT: &str = "left";

/// Who asked, as the socket's peer credentials or the automation say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Actor(pub String);

impl Actor {
    /// The daemon itself.
    #[must_use]
    pub fn daemon() -> Self {
        Self("cutover".to_owned())
    }
}

/// What kind of application it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AppKind {
    /// Two stacks made from a compose file.
    #[default]
    Compose,
    /// Fixed endpoints, made by somebody else.
    Static,
}

/// How an operation ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// At its target.
    Done,
    /// At the former state, for this reason.
    Failed(String),
    /// Refused while it looked, for this reason: nothing was changed.
    Refused(String),
    /// A person gave it up: at the former state.
    GivenUp,
    /// A later cut-back took its place.
    Overtaken,
    /// The daemon was stopped or killed while it ran; what it had begun was put back.
    Interrupted,
}

/// How a rollout ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RolloutEnding {
    /// The release serves everyone.
    Promoted,
    /// A person gave up.
    Aborted,
    /// Traffic went back to stable.
    RolledBack,
}

/// One line of a rollout's recipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// The canary's weight in this step.
    pub weight: Weight,
    /// How long the step lasts at least, in milliseconds.
    pub soak_ms: u64,
}

/// How loud a progress line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LineLevel {
    /// Progress.
    Step,
    /// Worth reading: a note or a warning.
    Note,
    /// A failure's text, with what to do.
    Error,
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "fact", rename_all = "snake_case")]
pub enum Fact {
    /// The app is known from now on.
    AppDefined {
        /// Its kind.
        kind: AppKind,
        /// The color that serves at first.
        stable: Color,
    },
    /// An operation was accepted: the intent, durable before any effect.
    OperationStarted {
        /// Its number.
        operation: OperationId,
        /// What was asked for.
        what: OperationKind,
        /// The caller's own id of the request: a repeat is the same operation.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        request: Option<String>,
    },
    /// An operation ended.
    OperationEnded {
        /// Its number.
        operation: OperationId,
        /// How.
        ending: Ending,
    },
    /// An action is about to be performed. A last fact of this kind is in doubt.
    ActionIntended {
        /// The operation.
        operation: OperationId,
        /// Its place in the plan, from 0.
        index: u32,
        /// The action.
        action: Action,
    },
    /// An action was performed.
    ActionDone {
        /// The operation.
        operation: OperationId,
        /// Its place in the plan.
        index: u32,
        /// How long it took.
        took_ms: u64,
    },
    /// An action failed.
    ActionFailed {
        /// The operation.
        operation: OperationId,
        /// Its place in the plan.
        index: u32,
        /// Why, in the operator's words.
        why: String,
    },
    /// A release was made; its stack is not ready yet.
    ReleaseMade {
        /// The record.
        release: Box<Release>,
    },
    /// A former release's stack is being made again, in this color; it is not ready yet.
    ReleaseRemade {
        /// The release.
        release: ReleaseId,
        /// Where its stack is from now on.
        color: Color,
        /// The compose project of its containers from now on.
        project: String,
    },
    /// What became of a release.
    ReleaseIs {
        /// The release.
        release: ReleaseId,
        /// Its state from now on.
        state: ReleaseState,
    },
    /// A release served everyone: it has the `stable` mark.
    ReleaseProven {
        /// The release.
        release: ReleaseId,
    },
    /// A release was rolled back or aborted.
    ReleaseRejected {
        /// The release.
        release: ReleaseId,
        /// By which operation.
        operation: OperationId,
    },
    /// A rejection was taken back.
    ReleaseCleared {
        /// The release.
        release: ReleaseId,
    },
    /// A rollout began; the weight is still 0.
    RolloutStarted {
        /// The release that shall become stable.
        release: ReleaseId,
        /// The salt of its cohorts.
        salt: Salt,
        /// The recipe.
        steps: Vec<Step>,
    },
    /// The split changed.
    SplitChanged {
        /// The number of this move: counts up by app, in the weights file too.
        number: u64,
        /// Before.
        before: Split,
        /// From now on.
        after: Split,
        /// By which operation; `None`: the daemon set the table right after a crash.
        operation: Option<OperationId>,
    },
    /// The rollout ended.
    RolloutEnded {
        /// How.
        ending: RolloutEnding,
    },
    /// Something for people to read, as `events` and the following command show it.
    Line {
        /// The operation it belongs to.
        operation: Option<OperationId>,
        /// How loud.
        level: LineLevel,
        /// The short word in front.
        label: String,
        /// The text.
        text: String,
    },
    /// New connections to these public ports are led to the proxy by a rule of ours.
    PortsTaken {
        /// The rule, complete: set again at every start and every 10 s.
        rule: Box<Redirect>,
    },
    /// The rule is gone.
    PortsGiven,
    /// The gate is closed: clients get the maintenance page from now on.
    GateClosed {
        /// How.
        maintenance: Box<Maintenance>,
    },
    /// The gate is open again.
    GateOpened,
    /// What a restore was agreed on; together with its start.
    RestorePlanned {
        /// The operation.
        operation: OperationId,
        /// The plan.
        plan: Box<RestorePlan>,
    },
    /// A stage of a restore is about to begin. The newest one is in doubt.
    RestoreReached {
        /// The operation.
        operation: OperationId,
        /// The stage.
        stage: Stage,
    },
    /// A restore is about to start a release or to stop one, for its exchange: where it is given
    /// up, that is reversed.
    RestoreStacks {
        /// The operation.
        operation: OperationId,
        /// The release that is started.
        started: Option<ReleaseId>,
        /// The release that is stopped.
        stopped: Option<ReleaseId>,
    },
    /// A restore waits for a person; traffic is on the safe color and no request waits.
    RestoreHalted {
        /// The operation.
        operation: OperationId,
        /// Why.
        halt: Halt,
    },
    /// It goes on.
    RestoreResumed {
        /// The operation.
        operation: OperationId,
        /// The most rows that may be lost from now on, when it was accepted anew.
        max_loss: Option<u64>,
    },
    /// The names were exchanged: the former database is kept under another name.
    AsideKept {
        /// The restore that put it aside.
        operation: OperationId,
        /// It.
        aside: Box<Aside>,
    },
    /// A database that was put aside is there no more under that name.
    AsideGone {
        /// The restore that had put it aside.
        operation: OperationId,
    },
    /// Watching restored data gave something: a first failure, or its end.
    RestoreWatched {
        /// The restore.
        operation: OperationId,
        /// What is known of it now.
        watched: Box<Watched>,
    },
    /// A person has set a rollback for later; it takes the place of one that was set before.
    RollbackSet {
        /// It.
        scheduled: Box<Scheduled>,
    },
    /// No rollback is set any more.
    RollbackUnset {
        /// Why, in the operator's words.
        why: String,
    },
    /// A restore point was made.
    PointMade {
        /// It.
        point: Box<Point>,
    },
    /// A restore point is there no more.
    PointGone {
        /// The release before whose migration it was made.
        release: ReleaseId,
    },
    /// A release's migrations were tried on a copy of the database.
    MigrationTried {
        /// What was found out; the live database was not touched.
        migrated: Box<Migrated>,
    },
    /// The migration command is about to be run on the live database. Without what follows it is in
    /// doubt, and counts as applied.
    MigrationBegun {
        /// The release whose migrations they are.
        release: ReleaseId,
    },
    /// It was run.
    MigrationDone {
        /// The release.
        release: ReleaseId,
        /// What the database has now and had not before; empty: nothing.
        names: Vec<String>,
    },
    /// The live database has a release's migrations no more.
    MigrationUndone {
        /// The release.
        release: ReleaseId,
        /// What took them back.
        operation: OperationId,
    },
    /// A person's words about an operation.
    Noted {
        /// The operation.
        operation: OperationId,
        /// The words.
        text: String,
    },
}

impl Fact {
    /// The name under which the journal stores it; never changed.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::AppDefined { .. } => "app_defined",
            Self::OperationStarted { .. } => "operation_started",
            Self::OperationEnded { .. } => "operation_ended",
            Self::ActionIntended { .. } => "action_intended",
            Self::ActionDone { .. } => "action_done",
            Self::ActionFailed { .. } => "action_failed",
            Self::ReleaseMade { .. } => "release_made",
            Self::ReleaseRemade { .. } => "release_remade",
            Self::ReleaseIs { .. } => "release_is",
            Self::ReleaseProven { .. } => "release_proven",
            Self::ReleaseRejected { .. } => "release_rejected",
            Self::ReleaseCleared { .. } => "release_cleared",
            Self::RolloutStarted { .. } => "rollout_started",
            Self::SplitChanged { .. } => "split_changed",
            Self::RolloutEnded { .. } => "rollout_ended",
            Self::Line { .. } => "line",
            Self::PortsTaken { .. } => "ports_taken",
            Self::PortsGiven => "ports_given",
            Self::GateClosed { .. } => "gate_closed",
            Self::GateOpened => "gate_opened",
            Self::RestorePlanned { .. } => "restore_planned",
            Self::RestoreReached { .. } => "restore_reached",
            Self::RestoreStacks { .. } => "restore_stacks",
            Self::RestoreHalted { .. } => "restore_halted",
            Self::RestoreResumed { .. } => "restore_resumed",
            Self::AsideKept { .. } => "aside_kept",
            Self::AsideGone { .. } => "aside_gone",
            Self::RestoreWatched { .. } => "restore_watched",
            Self::RollbackSet { .. } => "rollback_set",
            Self::RollbackUnset { .. } => "rollback_unset",
            Self::PointMade { .. } => "point_made",
            Self::PointGone { .. } => "point_gone",
            Self::MigrationTried { .. } => "migration_tried",
            Self::MigrationBegun { .. } => "migration_begun",
            Self::MigrationDone { .. } => "migration_done",
            Self::MigrationUndone { .. } => "migration_undone",
            Self::Noted { .. } => "noted",
        }
    }

    /// The operation that the fact belongs to.
    #[must_use]
    pub fn operation(&self) -> Option<OperationId> {
        match self {
            Self::OperationStarted { operation, .. }
            | Self::OperationEnded { operation, .. }
            | Self::ActionIntended { operation, .. }
            | Self::ActionDone { operation, .. }
            | Self::ActionFailed { operation, .. }
            | Self::ReleaseRejected { operation, .. }
            | Self::RestorePlanned { operation, .. }
            | Self::RestoreReached { operation, .. }
            | Self::RestoreStacks { operation, .. }
            | Self::RestoreHalted { operation, .. }
            | Self::RestoreResumed { operation, .. }
            | Self::AsideKept { operation, .. }
            | Self::AsideGone { operation, .. }
            | Self::RestoreWatched { operation, .. }
            | Self::MigrationUndone { operation, .. }
            | Self::Noted { operation, .. } => Some(*operation),
            Self::SplitChanged { operation, .. } | Self::Line { operation, .. } => *operation,
            _ => None,
        }
    }
}

/// A fact with who, when and why: what the journal keeps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Happened {
    /// When, by the wall clock.
    pub at: Millis,
    /// Who.
    pub actor: Actor,
    /// The operation that it belongs to.
    pub operation: Option<OperationId>,
    /// What.
    pub fact: Fact,
}
