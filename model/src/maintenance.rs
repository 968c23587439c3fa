//! Maintenance: an app's clients are sent away until a person lets them in again.
//!
//! Only what has to survive a restart; the page itself is a file of the state folder, named here by
//! its hash, so that a page that is not the one of the record is never shown.

use serde::{Deserialize, Serialize};

use crate::{Actor, Happened, Millis};

/// How clients are sent away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Maintenance {
    /// When they shall come back, in seconds.
    pub retry_after_s: u32,
    /// Networks whose clients are served all the same, as the operator wrote them.
    pub allow: Vec<String>,
    /// SHA-256 of the operator's page, in hex; `None`: ours.
    pub page: Option<String>,
}

/// A maintenance that lasts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closure {
    /// Since when.
    pub since: Millis,
    /// Who began it.
    pub by: Actor,
    /// How.
    pub how: Maintenance,
}

impl Closure {
    /// A gate that is closed once more, with other words, is closed since it was at first.
    #[must_use]
    pub fn begun(before: Option<Self>, happened: &Happened, how: Maintenance) -> Self {
        match before {
            Some(before) => Self { how, ..before },
            None => Self { since: happened.at, by: happened.actor.clone(), how },
        }
    }
}
