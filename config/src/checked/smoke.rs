//! The checked configuration of smoke probes: what has to work on a color.

use std::time::Duration;

use serde::Serialize;

use super::{HostName, StatusRange};

/// One smoke probe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Smoke {
    /// Its name in messages; unique within the app.
    pub name: String,
    /// What is done.
    pub kind: SmokeKind,
    /// How long it may take.
    pub timeout: Duration,
}

/// What a smoke probe does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SmokeKind {
    /// A GET on the way that a client's request takes, to one color.
    Http {
        /// The path with its query; routed like a client's request.
        path: String,
        /// The host to ask for; `None`: that of the route.
        host: Option<HostName>,
        /// The statuses that pass.
        expect: Vec<StatusRange>,
        /// A text that the answer's body has to hold.
        body: Option<String>,
    },
    /// A command on this host, by its words, in the folder of the operator's file; `CUTOVER_URL`
    /// in its environment is the color's own address. Exit code 0 passes.
    Command(Vec<String>),
}
