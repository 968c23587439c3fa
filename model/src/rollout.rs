//! The machine of one app: what is (`AppState`), what may be asked (`Input`), what follows.
//!
//! [`decide`] reads the state and says which facts and effects follow from an input; [`evolve`]
//! applies one fact. Nothing else changes an [`AppState`], live or in a replay. A rollback is
//! accepted in every state that has a release to go back to.

mod decide;
mod evolve;
mod manner;
mod refusal;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

pub use decide::{Asked, Decision, Effect, Input, Settle, decide, would_make};
pub use evolve::{Illegal, evolve};
pub use manner::{Manner, Open, Proof};
pub use refusal::{Refusal, Way};

use crate::fact::{AppKind, Ending, OperationKind, Step};
use crate::migration::{Applied, Migrated};
use crate::release::{Measured, ReleaseState, Standing};
use crate::restore::{Aside, Point, Restore, Source};
use crate::scheduled::Scheduled;
use crate::split::ByColor;
use crate::upkeep::{Kept, Upkeep};
use crate::{Actor, Closure, Color, Millis, OperationId, Redirect, ReleaseId, Salt, Split, Weight};

/// How many ended operations the state remembers; older ones are in the journal.
pub const OPERATIONS_KEPT: usize = 64;

/// How many releases' migrations the state remembers.
pub const MIGRATED_KEPT: usize = 50;

/// How many releases the state remembers; those with a stack are never forgotten.
pub const RELEASES_KEPT: usize = 200;

/// Everything that is known of one app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppState {
    /// What kind of app it is.
    pub kind: AppKind,
    /// The split in force.
    pub split: Split,
    /// The salt of the newest rollout.
    pub salt: Salt,
    /// The release whose stack is in each color.
    pub colors: ByColor<Option<ReleaseId>>,
    /// Every release that is still on record.
    pub releases: BTreeMap<ReleaseId, Standing>,
    /// The rollout that goes on.
    pub rollout: Option<Rollout>,
    /// Operations: those that run, and the newest that ended.
    pub operations: BTreeMap<OperationId, Operation>,
    /// The newest change of the split.
    pub last_move: Option<Move>,
    /// How often the split has changed.
    pub moves: u64,
    /// The number of the newest operation.
    pub newest_operation: OperationId,
    /// The number of the newest release.
    pub newest_release: ReleaseId,
    /// The rule that leads public ports to the proxy while somebody else holds them.
    #[serde(default)]
    pub redirect: Option<Redirect>,
    /// The maintenance that lasts.
    #[serde(default)]
    pub maintenance: Option<Closure>,
    /// How long starts took.
    #[serde(default)]
    pub measured: Measured,
    /// Restores of the database that go on.
    #[serde(default)]
    pub restores: BTreeMap<OperationId, Restore>,
    /// Databases that restores put aside, by restore.
    #[serde(default)]
    pub asides: BTreeMap<OperationId, Aside>,
    /// Restore points, by the release before whose migration they were made.
    #[serde(default)]
    pub points: BTreeMap<ReleaseId, Point>,
    /// Releases whose restore points were let go: what a later point has is not what was before.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub points_let_go: BTreeSet<ReleaseId>,
    /// Who served when a restore point was made, by the release before whose migration it was made.
    /// It stays when the point goes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub served_at_point: BTreeMap<ReleaseId, ReleaseId>,
    /// What releases' migrations do, by release: the newest ones.
    #[serde(default)]
    pub migrated: BTreeMap<ReleaseId, Migrated>,
    /// What is remembered of backups and drills.
    #[serde(default)]
    pub kept: Kept,
    /// The rollback that a person has set for later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduled: Option<Scheduled>,
}

/// One attempt to move a release to stable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rollout {
    /// The release.
    pub release: ReleaseId,
    /// Its recipe.
    pub steps: Vec<Step>,
    /// The salt of its cohorts.
    pub salt: Salt,
    /// When it began.
    pub started_at: Millis,
    /// When the weight last changed.
    pub weight_since: Millis,
}

impl Rollout {
    /// The first step above a weight; `None`: what follows is everything.
    #[must_use]
    pub fn step_above(&self, weight: Weight) -> Option<Step> {
        self.steps.iter().copied().find(|step| step.weight > weight)
    }
}

/// Something that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation {
    /// What.
    pub what: OperationKind,
    /// Who asked.
    pub actor: Actor,
    /// When.
    pub started_at: Millis,
    /// How it ended; `None`: it runs.
    pub ended: Option<(Millis, Ending)>,
    /// The caller's id of the request.
    pub request: Option<String>,
    /// The first split that it changed, to undo it.
    pub moved: Option<Moved>,
    /// What was said about it.
    pub notes: Vec<String>,
}

/// What an operation that moved traffic found, so that it can be undone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moved {
    /// The split before.
    pub before: Split,
    /// Which releases were in the colors.
    pub colors: ByColor<Option<ReleaseId>>,
    /// The rollout that went on.
    pub rollout: Option<Rollout>,
}

/// A change of the split.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Move {
    /// Its number, counted by app.
    pub number: u64,
    /// When.
    pub at: Millis,
    /// By which operation.
    pub operation: Option<OperationId>,
    /// Before.
    pub before: Split,
    /// After.
    pub after: Split,
}

impl Default for AppState {
    fn default() -> Self {
        Self {
            kind: AppKind::Compose,
            split: Split::all(Color::Blue),
            salt: Salt(0),
            colors: ByColor::default(),
            releases: BTreeMap::new(),
            rollout: None,
            operations: BTreeMap::new(),
            last_move: None,
            moves: 0,
            newest_operation: OperationId(0),
            newest_release: ReleaseId(0),
            redirect: None,
            measured: Measured::default(),
            maintenance: None,
            restores: BTreeMap::new(),
            asides: BTreeMap::new(),
            points: BTreeMap::new(),
            points_let_go: BTreeSet::new(),
            served_at_point: BTreeMap::new(),
            migrated: BTreeMap::new(),
            kept: Kept::default(),
            scheduled: None,
        }
    }
}

impl AppState {
    /// The release that is stable, if any stack is there at all.
    #[must_use]
    pub fn stable(&self) -> Option<ReleaseId> {
        *self.colors.get(self.split.stable)
    }

    /// The release in the color that is not stable.
    #[must_use]
    pub fn standby(&self) -> Option<ReleaseId> {
        *self.colors.get(self.split.canary())
    }

    /// The release with the larger share of the traffic.
    #[must_use]
    pub fn serving(&self) -> Option<ReleaseId> {
        *self.colors.get(self.split.leading())
    }

    /// What is known of a release.
    #[must_use]
    pub fn standing(&self, release: ReleaseId) -> Option<&Standing> {
        self.releases.get(&release)
    }

    /// What became of a release; a release that is not on record is gone.
    #[must_use]
    pub fn release_state(&self, release: ReleaseId) -> ReleaseState {
        self.standing(release).map_or(ReleaseState::Gone, |s| s.state)
    }

    /// Where a rollback without `--to` leads now: in a rollout back to stable, else to the newest
    /// release that proved itself and is not the one that serves.
    #[must_use]
    pub fn rollback_target(&self) -> Option<ReleaseId> {
        if self.split.weight > Weight::ZERO {
            return self.stable();
        }
        let serving = self.stable();
        self.releases
            .values()
            .rev()
            .find(|s| s.is_trusted() && Some(s.release.id) != serving)
            .map(|s| s.release.id)
    }

    /// Whether the newest move of traffic led back: by a rollback, an abort, a stack that was made
    /// again for one, or a restore that brought the traffic with the data.
    #[must_use]
    pub fn has_moved_back(&self) -> bool {
        let by = self.last_move.and_then(|moved| moved.operation);
        match by.and_then(|id| self.operations.get(&id)).map(|operation| &operation.what) {
            Some(
                OperationKind::Rollback { .. }
                | OperationKind::Abort
                | OperationKind::Remake { .. },
            ) => true,
            // The way back of a restore leads forward.
            Some(OperationKind::Restore { source, .. }) => !matches!(source, Source::Aside { .. }),
            _ => false,
        }
    }

    /// Who shall serve on the old data where nobody is named: who serves, if traffic has been moved
    /// back, else where a rollback leads.
    #[must_use]
    pub fn restore_target(&self) -> Option<ReleaseId> {
        match self.split.weight == Weight::ZERO && self.has_moved_back() {
            true => self.stable(),
            false => self.rollback_target(),
        }
    }

    /// The release later than this one that may have written into the data of this moment; one that
    /// never had traffic, and never came as far as its migration, has not.
    #[must_use]
    pub fn spoilt_by(&self, to: ReleaseId, at: Millis) -> Option<ReleaseId> {
        let code = self.code_of(to);
        let may_have_written = |standing: &&Standing| {
            let release = standing.release.id;
            let has_served = standing.proven_at.is_some() || standing.rejected_by.is_some();
            let stands = self.stable() == Some(release) || self.standby() == Some(release);
            has_served || stands || self.migrated.contains_key(&release)
        };
        let later = self.releases.values().filter(|standing| {
            let release = standing.release.id;
            release > code && release != to && standing.release.made_at <= at
        });
        later.filter(may_have_written).map(|standing| standing.release.id).next()
    }

    /// The restore point that has the data a release worked on last: the newest one that was made
    /// while it served, whether for the first time or again after a rollback, and that has no
    /// migration which it cannot run with. Without one: the one from before the first release that
    /// was deployed after it. `None`: there is no later one.
    ///
    /// # Errors
    /// The release before whose migration that point was made, when it is not there any more: a
    /// later one has its migrations, an older one lacks what was written since.
    pub fn point_for(&self, to: ReleaseId) -> Result<Option<&Point>, ReleaseId> {
        let code = self.code_of(to);
        let is_it = |by: ReleaseId| by == to || by == code;
        let while_it_served = self.served_at_point.iter().rev().filter(|(_, by)| is_it(**by));
        let mut fits = while_it_served.map(|(release, _)| *release).filter(|release| {
            let taken = self.points.get(release).map(|point| point.at);
            let had = |migrated: &&Migrated| {
                migrated.release < *release && self.was_there(migrated, taken)
            };
            self.migrated.values().filter(had).all(|migrated| migrated.takes_away(code).is_none())
        });
        if let Some(release) = fits.next() {
            return self.points.get(&release).map(Some).ok_or(release);
        }
        let Some(point) = self.points.values().find(|point| point.release > code) else {
            return Ok(None);
        };
        let is_between = |release: ReleaseId| release > code && release < point.release;
        // One that was composed of others migrates nothing; one that failed and has had no point
        // did not come as far as its migration.
        let may_have_migrated = |standing: &&Standing| {
            let has_served = standing.proven_at.is_some() || standing.rejected_by.is_some();
            standing.release.parts.is_none() && has_served
        };
        let migrated = self.releases.values().filter(may_have_migrated).map(|s| s.release.id);
        let without = migrated.chain(self.points_let_go.iter().copied()).filter(|r| is_between(*r));
        without.min().map_or(Ok(Some(point)), Err)
    }

    /// Whether the database had a release's migrations at a moment after that release was deployed.
    fn was_there(&self, migrated: &Migrated, at: Option<Millis>) -> bool {
        match migrated.state {
            Applied::No => false,
            Applied::Yes => true,
            Applied::Undone { operation } => {
                let undone = self.operations.get(&operation).map(|by| by.started_at);
                undone.zip(at).is_some_and(|(undone, at)| undone > at)
            }
        }
    }

    /// The release whose code a release runs: its own, but where it was composed of former parts.
    #[must_use]
    pub fn code_of(&self, release: ReleaseId) -> ReleaseId {
        let parts = self.standing(release).and_then(|standing| standing.release.parts);
        parts.map_or(release, |parts| parts.code)
    }

    /// The newest migrations that the database has.
    #[must_use]
    pub fn newest_migrated(&self) -> Option<&Migrated> {
        self.migrated.values().rev().find(|migrated| migrated.state == Applied::Yes)
    }

    /// Why a release cannot run on today's database, by what was recorded; `None`: nothing says so.
    #[must_use]
    pub fn cannot_run(&self, release: ReleaseId) -> Option<String> {
        let code = self.code_of(release);
        let breaks = self.migrated.values().rev().find_map(|migrated| migrated.breaks(code));
        let why = breaks.or_else(|| self.lacks(code))?;
        Some(format!("{release} cannot run on today's database: {why}"))
    }

    /// Which migrations a release was made with, its own or earlier ones, that the database has no
    /// more; `None`: none that is on record.
    fn lacks(&self, code: ReleaseId) -> Option<String> {
        self.migrated.values().rev().find_map(|migrated| {
            let Applied::Undone { operation } = migrated.state else { return None };
            let release = migrated.release;
            let undone = migrated.undone.as_ref();
            let was_there = undone.is_some_and(|undone| code > release && code <= undone.newest);
            let works = undone.is_some_and(|undone| undone.works.contains(&code));
            let lacks = (code == release || was_there) && !works && !self.has_again(migrated);
            lacks.then(|| format!("{operation} took the migrations of {release} back"))
        })
    }

    /// Whether later releases have brought all of these migrations once more.
    fn has_again(&self, migrated: &Migrated) -> bool {
        let later = self
            .migrated
            .values()
            .filter(|other| other.release > migrated.release && other.state == Applied::Yes);
        let names: BTreeSet<&String> = later.flat_map(|other| &other.names).collect();
        !migrated.names.is_empty() && migrated.names.iter().all(|name| names.contains(name))
    }

    /// The restore that made what is live, with what it put aside, while that is there.
    #[must_use]
    pub fn live_restore(&self) -> Option<(OperationId, &Aside)> {
        let is_done = |known: &&Operation| {
            let is_restore = matches!(known.what, OperationKind::Restore { .. });
            is_restore && matches!(known.ended, Some((_, Ending::Done)))
        };
        let newest = self.operations.values().rev().find(is_done);
        let (operation, aside) = self.asides.iter().max_by_key(|(_, aside)| aside.since.0)?;
        // What a later one put aside was retired: what is live is still its work.
        let is_later = newest.is_some_and(|newest| newest.started_at > aside.since);
        (!is_later).then_some((*operation, aside))
    }

    /// Restore points beyond the newest ones, oldest first; one that a restore uses now is kept.
    #[must_use]
    pub fn old_points(&self, kept: usize) -> Vec<ReleaseId> {
        let is_used = |release: ReleaseId| {
            let source = Source::Point { release };
            self.restores.values().any(|restore| restore.plan.source == source)
        };
        let beyond = self.points.len().saturating_sub(kept);
        let oldest = self.points.keys().copied().take(beyond);
        oldest.filter(|release| !is_used(*release)).collect()
    }

    /// The operation that runs, other than traffic moves that only wait for a drain.
    #[must_use]
    pub fn running(&self) -> Option<(OperationId, &Operation)> {
        self.operations
            .iter()
            .find(|(_, o)| o.ended.is_none() && o.what.is_exclusive())
            .map(|(id, o)| (*id, o))
    }

    /// The same, but work on backups: that changes nothing of what serves.
    #[must_use]
    pub fn changing(&self) -> Option<(OperationId, &Operation)> {
        self.running().filter(|(_, running)| running.upkeep().is_none())
    }
}

impl Operation {
    /// The work on backups that it is, if it is one.
    #[must_use]
    pub fn upkeep(&self) -> Option<&Upkeep> {
        match &self.what {
            OperationKind::Upkeep { upkeep } => Some(upkeep),
            _ => None,
        }
    }
}
