//! A release: what a stack runs, and what is known of it.
//!
//! The record is made once, by a deploy or an adoption, and never edited; what happens to the
//! release later is a [`ReleaseState`] and marks that facts set.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::parts::Parts;
use crate::{Color, Millis, OperationId, ReleaseId};

/// What a stack runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// Its number.
    pub id: ReleaseId,
    /// The color that it runs in.
    pub color: Color,
    /// The compose project that its containers carry as a label; the operator's own for an adopted
    /// release, empty for a static app.
    pub project: String,
    /// The commit it was built from, in full, when the folder is a git repository.
    pub commit: Option<String>,
    /// The first line of the commit's message, or a tag: for people.
    pub title: String,
    /// The image id of each service.
    pub images: BTreeMap<String, String>,
    /// SHA-256 of each env file, by its path as the operator wrote it.
    pub env_files: BTreeMap<String, String>,
    /// Names of the migrations that the database had when the release was made, when visible.
    pub migrations: Option<Vec<String>>,
    /// The folder below the state folder that keeps its rendered file and snapshots.
    pub folder: String,
    /// When it was made.
    pub made_at: Millis,
    /// What it was composed of; `None`: a deploy or an adoption made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parts: Option<Parts>,
}

impl Release {
    /// What people call it: the short commit and the title, or what there is of them.
    #[must_use]
    pub fn label(&self) -> String {
        let commit = self.commit.as_deref().map(|c| c.chars().take(7).collect::<String>());
        match (commit, self.title.as_str()) {
            (Some(commit), "") => commit,
            (Some(commit), title) => format!("{commit} \"{title}\""),
            (None, title) => title.to_owned(),
        }
    }
}

/// What became of a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReleaseState {
    /// Its stack is being made; it may get no traffic yet.
    Starting,
    /// Its stack runs and passed its probes: traffic can be on it within milliseconds.
    Warm,
    /// Its containers are there but stopped: `docker start` brings it back.
    Stopped,
    /// Its containers are gone; only the record is left.
    Gone,
    /// It never became ready.
    Failed,
}

/// How long it took, the last time, until a release was ready for traffic.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Measured {
    /// To start a stopped stack again, in milliseconds.
    pub wake_ms: Option<u64>,
    /// To make a stack again, in milliseconds.
    pub remake_ms: Option<u64>,
    /// For a deploy, from its images to its probe, in milliseconds.
    pub start_ms: Option<u64>,
}

/// A release and what happened to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// The record.
    pub release: Release,
    /// What became of it.
    pub state: ReleaseState,
    /// Since when it has the `stable` mark: it has served everyone.
    pub proven_at: Option<Millis>,
    /// The operation that rolled it back or aborted it; it is not a rollback's target and not
    /// deployed again without `--again`.
    pub rejected_by: Option<OperationId>,
}

impl Standing {
    /// Whether a rollback may go to it: it served everyone and nobody took it back.
    #[must_use]
    pub fn is_trusted(&self) -> bool {
        self.proven_at.is_some() && self.rejected_by.is_none()
    }
}
