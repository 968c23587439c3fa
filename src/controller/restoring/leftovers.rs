//! What is left on the database server, for `doctor`: looked for, and removed, only while nothing
//! runs.

use std::collections::BTreeSet;
use std::time::Duration;

use super::super::{App, Failure};
use super::planning::failure;
use crate::reconciler::database::Left;

/// How long the server may take to tell.
const LOOK: Duration = Duration::from_secs(8);

impl App {
    /// What is left on the database server of work that has ended, and what is dangerous there.
    ///
    /// # Errors
    /// Why the server cannot be asked.
    pub async fn database_leftovers(&self) -> Result<Vec<Left>, Failure> {
        let operation = self.state().newest_operation;
        let look = async {
            let database = self.database(operation).await.map_err(failure)?;
            database
                .leftovers(&self.recorded_databases())
                .await
                .map_err(|trouble| failure(trouble.into()))
        };
        let away = |_| Failure::Away("the database server does not answer".to_owned());
        tokio::time::timeout(LOOK, look).await.map_err(away)?
    }

    /// Databases that the journal names: restore points, and what was put aside or restored beside.
    fn recorded_databases(&self) -> BTreeSet<String> {
        let state = self.state();
        let points = state.points.values().map(|point| point.name.clone());
        points.chain(state.asides.values().map(|aside| aside.name.clone())).collect()
    }

    /// Removes, or opens, what is still left and is ours, unless somebody works on it now. Whether
    /// it was something of that kind.
    ///
    /// # Errors
    /// Why it could not be.
    pub async fn clean_database(&self, left: &Left) -> Result<bool, Failure> {
        let _turn = self.database_turn().await;
        let state = self.state();
        if self.untrusted().is_some() || state.running().is_some() || !state.restores.is_empty() {
            return Ok(false);
        }
        let database = self.database(state.newest_operation).await.map_err(failure)?;
        let done = match left {
            Left::Half { name, .. } => database.drop_half(name).await,
            Left::Closed { .. } => database.reopen_live().await,
            Left::Danger { .. } => return Ok(false),
        };
        done.map(|()| true).map_err(|trouble| failure(trouble.into()))
    }
}
