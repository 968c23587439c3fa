//! The rows of a database that was put aside, which the live one has not.
//!
//! Read-only on both; sent as they are found, to whoever listens.

use tokio::sync::mpsc;

use super::building::LONG;
use super::{Database, Trouble, named};
use crate::host::postgres::loss::export;

pub use crate::host::postgres::loss::export::Difference as ExportedRow;

/// Rows that wait to be taken: a few screens of them, so that a slow reader holds up the queries
/// and not this process's memory.
const WAITING: usize = 256;

/// An export that runs.
#[derive(Debug)]
pub struct Export {
    /// What is found.
    pub rows: mpsc::Receiver<ExportedRow>,
    /// How many rows, or why not all.
    pub ended: tokio::task::JoinHandle<Result<u64, Trouble>>,
}

impl Database {
    /// Begins to send the rows of a database that was put aside.
    ///
    /// # Errors
    /// [`Trouble`] when one of the two databases takes no session.
    pub async fn export(&self, aside: &str) -> Result<Export, Trouble> {
        let newer = self.server.connect(&named(aside)?, self.operation).await?;
        let older = self.server.connect(&self.settings.name, self.operation).await?;
        let (to, rows) = mpsc::channel(WAITING);
        let ended = tokio::spawn(async move { Ok(export::rows(&newer, &older, &to, LONG).await?) });
        Ok(Export { rows, ended })
    }
}
