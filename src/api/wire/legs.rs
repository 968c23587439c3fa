//! A rollback that brings back parts: what is asked, and the plan that a dry run shows.

use cutover_model::{AppName, Layers, Leg, Manner, Open, Parts, Proof, ReleaseId};
use serde::{Deserialize, Serialize};

/// `POST …/rollback`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rollback {
    /// The release, when named.
    #[serde(default)]
    pub to: Option<ReleaseId>,
    /// To a release that never proved itself, and without its probe.
    #[serde(default)]
    pub force: bool,
    /// Cut the open requests of the release that loses the traffic.
    #[serde(default)]
    pub drop_in_flight: bool,
    /// Which parts come back; none named: all of them, as they stand in the release's own stack.
    #[serde(default)]
    pub legs: Vec<Leg>,
    /// Whether its images are built anew, and how.
    #[serde(default)]
    pub rebuild: Option<Layers>,
    /// Only show the plan: `200` with [`RollbackPlan`].
    #[serde(default)]
    pub dry_run: bool,
}

impl Rollback {
    /// How it is carried out.
    #[must_use]
    pub fn manner(&self) -> Manner {
        Manner {
            proof: if self.force { Proof::Waived } else { Proof::Wanted },
            open: if self.drop_in_flight { Open::Cut } else { Open::Finish },
        }
    }

    /// Whether a new release is composed: some of the parts, or images that are built anew.
    #[must_use]
    pub fn composes(&self) -> bool {
        let is_all = Leg::ALL.iter().all(|leg| self.legs.contains(leg));
        self.rebuild.is_some() || !(self.legs.is_empty() || is_all)
    }
}

/// `POST …/rollback/schedule`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RollbackAt {
    /// When; `None`: what was set is taken back.
    pub at: Option<i64>,
    /// What.
    #[serde(default)]
    pub rollback: Rollback,
}

/// A rollback that is set for later, or was until now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RollbackSet {
    /// `cutover.rollback-set/1`
    pub schema: String,
    /// The app.
    pub app: AppName,
    /// When it is carried out.
    pub at: i64,
    /// The release that gets the traffic.
    pub to: ReleaseId,
    /// The release that loses it.
    pub from: ReleaseId,
    /// Who set it.
    pub by: String,
    /// The daemon's clock.
    pub now: i64,
}

/// What a rollback would do: the actions are those that a run performs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RollbackPlan {
    /// `cutover.rollback-plan/1`
    pub schema: String,
    /// The app.
    pub app: AppName,
    /// The release that serves now.
    pub serves: Option<ReleaseId>,
    /// The release that would get the traffic.
    pub release: ReleaseId,
    /// What it would be made of; `None`: its stack is there, only traffic moves.
    pub parts: Option<Parts>,
    /// The actions before traffic moves, in order, by their words.
    pub actions: Vec<String>,
    /// How long it takes, by what was measured here.
    pub takes: String,
}

/// `GET …/releases/diff?from=r1&to=r2`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleasesDiff {
    /// `cutover.releases-diff/1`
    pub schema: String,
    /// The first release.
    pub from: ReleaseId,
    /// The second one.
    pub to: ReleaseId,
    /// What people call both.
    pub labels: (String, String),
    /// Commits: `+` those that only the second has, `-` those that only the first has.
    pub commits: Vec<String>,
    /// Services whose image differs.
    pub images: Vec<ImageDiff>,
    /// Migrations that the database had at the second and not at the first; `None`: not known.
    pub migrations: Option<Vec<String>>,
    /// Env files whose keys differ; never a value.
    pub env: Vec<EnvFileDiff>,
    /// What could not be compared.
    pub unknown: Vec<String>,
}

/// A service with another image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageDiff {
    /// The service.
    pub service: String,
    /// Its image id at the first release, where it had one.
    pub from: Option<String>,
    /// At the second one.
    pub to: Option<String>,
}

/// An env file with other keys or values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvFileDiff {
    /// The file, as the operator's folder has it.
    pub file: String,
    /// Keys that only the second release has.
    pub added: Vec<String>,
    /// Keys that only the first one has.
    pub removed: Vec<String>,
    /// Keys with another value.
    pub changed: Vec<String>,
}
