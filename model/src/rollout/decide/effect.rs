//! What follows for the controller from a decision: values only, in the order of their doing.

use serde::{Deserialize, Serialize};

use crate::parts::Parts;
use crate::rollout::{Manner, Open};
use crate::{Color, OperationId, ReleaseId, Salt, Split};

/// What the controller has to do, in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "effect", rename_all = "snake_case")]
pub enum Effect {
    /// Publish this split.
    Publish {
        /// The split.
        split: Split,
        /// The salt.
        salt: Salt,
    },
    /// See the open requests of a color to their end.
    Drain {
        /// The color.
        color: Color,
        /// Which end.
        open: Open,
    },
    /// Stop the singletons of one color, then start those of the other.
    MoveSingletons {
        /// Where they run.
        from: Color,
        /// Where they shall run.
        to: Color,
    },
    /// Start a stopped color, probe it, then ask for the rollback again.
    Wake {
        /// The release.
        release: ReleaseId,
        /// Its color.
        color: Color,
        /// How the rollback goes on.
        manner: Manner,
    },
    /// Make a stack of a former release's parts in the idle color, then give it everything.
    Remake {
        /// The release.
        release: ReleaseId,
        /// The color.
        color: Color,
        /// What it is made of.
        parts: Parts,
        /// How the rollback goes on.
        manner: Manner,
    },
    /// Take over what runs.
    Adopt {
        /// The release that it becomes.
        release: ReleaseId,
        /// The color that it is from now on.
        color: Color,
    },
    /// Give the ports back.
    Leave {
        /// The release that serves, and will.
        release: ReleaseId,
        /// Its color.
        color: Color,
    },
    /// Carry out a restore, or go on with it.
    Restore {
        /// Its operation.
        operation: OperationId,
    },
    /// Work on backups.
    Upkeep {
        /// Its operation.
        operation: OperationId,
    },
    /// Make the release.
    Make {
        /// The release.
        release: ReleaseId,
        /// The color it goes to.
        color: Color,
    },
}
