//! What operations are asked for; their serialised form is persisted for ever, as that of facts.

use serde::{Deserialize, Serialize};

use crate::parts::Parts;
use crate::restore::Source;
use crate::rollout::Manner;
use crate::upkeep::Upkeep;
use crate::{OperationId, ReleaseId, Weight};

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum OperationKind {
    /// Take over what runs.
    Adopt,
    /// Give the ports back.
    Leave,
    /// Make a release in the idle color.
    Deploy {
        /// The release that it makes.
        release: ReleaseId,
    },
    /// Move the canary's weight.
    Shift {
        /// The weight asked for.
        weight: Weight,
    },
    /// Go to the next step.
    Next,
    /// Give the canary everything.
    Promote,
    /// Take the canary's traffic away and end the rollout.
    Abort,
    /// Traffic back to a former release.
    Rollback {
        /// The release that gets the traffic.
        to: ReleaseId,
        /// The release that loses it.
        from: Option<ReleaseId>,
        /// What was asked for beyond the usual.
        #[serde(default, skip_serializing_if = "Manner::is_usual")]
        manner: Manner,
    },
    /// A former release's stack is made again, or a new release of former parts, and gets
    /// everything: a rollback, too.
    Remake {
        /// The release that is made: a former one, or a new one.
        release: ReleaseId,
        /// The release that loses the traffic.
        from: Option<ReleaseId>,
        /// What it is made of.
        parts: Parts,
        /// What was asked for beyond the usual.
        #[serde(default, skip_serializing_if = "Manner::is_usual")]
        manner: Manner,
    },
    /// Reverse an operation that moved traffic.
    Undo {
        /// The operation that is reversed.
        operation: OperationId,
    },
    /// Put the database back.
    Restore {
        /// To which data.
        source: Source,
        /// The release that serves on it.
        to: ReleaseId,
    },
    /// Take a release's migrations back by its down scripts.
    MigrateDown {
        /// The release.
        release: ReleaseId,
    },
    /// Work on backups, or on databases beside the live one.
    Upkeep {
        /// What.
        upkeep: Upkeep,
    },
}

impl OperationKind {
    /// Whether no other operation of the kind may run beside it; moves of traffic may.
    #[must_use]
    pub fn is_exclusive(&self) -> bool {
        matches!(
            self,
            Self::Adopt
                | Self::Leave
                | Self::Deploy { .. }
                | Self::Remake { .. }
                | Self::Restore { .. }
                | Self::MigrateDown { .. }
                | Self::Upkeep { .. }
        )
    }

    /// The command's word.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Adopt => "adopt",
            Self::Leave => "leave",
            Self::Deploy { .. } => "deploy",
            Self::Shift { .. } => "shift",
            Self::Next => "next",
            Self::Promote => "promote",
            Self::Abort => "abort",
            Self::Rollback { .. } | Self::Remake { .. } => "rollback",
            Self::Undo { .. } => "undo",
            Self::Restore { .. } => "restore",
            Self::MigrateDown { .. } => "migrate down",
            Self::Upkeep { upkeep } => upkeep.as_str(),
        }
    }
}
