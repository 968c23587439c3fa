//! What `doctor` found.

use cutover_model::AppName;
use serde::{Deserialize, Serialize};

/// `GET …/doctor`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Doctor {
    /// `cutover.doctor/1`
    pub schema: String,
    /// The app.
    pub app: AppName,
    /// What was found, dangers first.
    pub findings: Vec<Finding>,
    /// What could not be looked at, and why.
    pub not_looked: Vec<String>,
    /// After `--fix`: what became of each thing that was asked for, by a second look.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mended: Vec<Mended>,
    /// Whether the mending goes on behind this answer.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub goes_on: bool,
}

/// What became of one finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mended {
    /// The finding's id.
    pub id: String,
    /// As the second look saw it.
    pub is: After,
}

/// A finding after `--fix`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum After {
    /// Looked for, and not there any more.
    Gone,
    /// Still there.
    There,
    /// What it was found in could not be looked at again: see `not_looked`.
    NotKnown,
}

/// One thing that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Names it to `doctor --fix`; the same thing has the same id again.
    pub id: String,
    /// What it is, in a sentence.
    pub what: String,
    /// Whether it carries our mark.
    pub ours: bool,
    /// What to type; empty when `--fix` removes it or nothing can be typed.
    pub command: String,
    /// Whether `--fix` removes it.
    pub fixable: bool,
}

/// `POST …/doctor`: removes what was shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fix {
    /// The ids of the findings.
    pub ids: Vec<String>,
}
