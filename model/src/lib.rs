//! Nouns and decisions of Cutover.
//!
//! Pure: every value here can be built, compared and serialised, every function is total and takes
//! time as an argument. No clock, no randomness, no runtime, no file, no network. What runs live is
//! what replays the journal: [`rollout::decide`] says what should happen, [`rollout::evolve`] is
//! the only way that state changes.

pub mod fact;
pub mod ids;
mod last_good;
pub mod lead;
mod maintenance;
pub mod migration;
pub mod parts;
pub mod paths;
pub mod plan;
pub mod release;
pub mod restore;
pub mod rollout;
pub mod scheduled;
pub mod split;
pub mod upkeep;

pub use fact::{
    Actor, AppKind, Ending, Fact, Happened, LEFT, LineLevel, OperationKind, RolloutEnding, Step,
};
pub use ids::{
    AppName, Epoch, Generation, IdError, Millis, OperationId, ReleaseId, Salt, Seq, ServiceName,
};
pub use last_good::{LastGood, MOVES_AHEAD, color_of, cut_back_by_color};
pub use lead::{Landing, Lead, Redirect, WhenDead};
pub use maintenance::{Closure, Maintenance};
pub use migration::{Applied, Migrated, Works};
pub use parts::{Images, Layers, Leg, Parts};
pub use plan::{Action, Containers, Goal, Migration, NoPlan, Observation, Seen, plan};
pub use release::{Measured, Release, ReleaseState, Standing};
pub use restore::{Aside, Halt, Oid, Point, Restore, RestorePlan, Source, Stage};
pub use rollout::{
    AppState, Asked, Decision, Effect, Illegal, Input, Manner, Open, Operation, Proof, Refusal,
    Rollout, Settle, Way, decide, evolve, would_make,
};
pub use scheduled::{Due, Scheduled};
pub use split::{ByColor, Color, Role, Slot, Split, Weight, WeightError};
pub use upkeep::{Occasion, Upkeep};
