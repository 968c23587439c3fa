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
