//! The operator's integrity queries, asked of the live database or of one beside it.
//!
//! Each has a session of its own, set up as the app's are, a transaction that cannot write, and a
//! time limit on the server.

use super::super::checking::{Checked, Outcome};
use super::{Database, Trouble};
use crate::host::postgres::{DbName, Lookup, verify};

impl Database {
    /// Asks every integrity query; what came of each, in the order of the operator's file. `of`:
    /// the database that is asked, `None`: the live one.
    ///
    /// # Errors
    /// [`Trouble`] when the server cannot be asked at all.
    pub async fn integrity(&self, of: Option<&DbName>) -> Result<Vec<Checked>, Trouble> {
        let name = of.unwrap_or(&self.settings.name);
        let mut checked = Vec::new();
        for query in &self.settings.integrity {
            let session = self.server.open(name, self.operation, Lookup::AsSetUp).await?;
            let answered = verify::ask(&session, query).await?;
            session.close().await;
            checked.push(Checked::answered(query.name.clone(), answered));
        }
        Ok(checked)
    }

    /// The same where each has to pass; the names of all of them.
    ///
    /// # Errors
    /// [`Trouble::Refused`] that names the first that did not pass, and what it gave.
    pub async fn ask_integrity(&self, name: &DbName) -> Result<Vec<String>, Trouble> {
        let mut passed = Vec::new();
        for Checked { name, outcome } in self.integrity(Some(name)).await? {
            match outcome {
                Outcome::Pass => passed.push(name),
                Outcome::Fail(why) | Outcome::Unclear(why) => {
                    return Err(Trouble::Refused(format!("integrity query {name}: {why}")));
                }
            }
        }
        Ok(passed)
    }
}
