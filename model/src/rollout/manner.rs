//! How a rollback is carried out when a person asks for more than the usual.
//!
//! Two choices and nothing else; what they bring is decided where a rollback is.

use serde::{Deserialize, Serialize};

/// How a rollback is carried out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Manner {
    /// What is asked of the release that gets the traffic.
    pub proof: Proof,
    /// What becomes of the open requests of the release that loses it.
    pub open: Open,
}

impl Manner {
    /// Whether nothing was asked beyond the usual; for serialisation.
    #[must_use]
    pub fn is_usual(&self) -> bool {
        *self == Self::default()
    }
}

/// What is asked of a release before a rollback gives it the traffic.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Proof {
    /// It proved itself, and when it has to be started it passes its probe.
    #[default]
    Wanted,
    /// None: a person said `--force`. Its containers still have to run.
    Waived,
}

/// What becomes of requests that are open on a color that loses its traffic.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Open {
    /// They are finished, until the drain's deadline.
    #[default]
    Finish,
    /// They are cut at once: a person said `--drop-in-flight`.
    Cut,
}
