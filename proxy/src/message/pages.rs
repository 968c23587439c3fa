//! The operator's own pages for what the proxy answers itself.
//!
//! They were read and bounded by the control plane: the data plane opens no file.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Pages by status; an answer without one gets ours. A client that asks for JSON gets JSON.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnPages {
    /// HTML, in UTF-8, by the status of the answer.
    pub html: BTreeMap<u16, String>,
}
