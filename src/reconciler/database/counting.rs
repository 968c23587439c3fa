//! What a restore would lose, and how fast that grows.
//!
//! Exact where every row was compared; from the server's own figures otherwise, which count rows
//! that were rolled back, too: an upper bound.

use std::time::Duration;

use cutover_model::RestorePlan;
use cutover_model::restore::{Certainty, Loss, TableLoss};

use super::building::COUNT;
use super::swapping::Counted;
use super::{Database, Trouble, named};
use crate::host::backups::{self, Backup};
use crate::host::postgres::loss::{self, Activity, Bill, Exactness};
use crate::host::postgres::{Session, facts};

/// How long writes are watched to say how fast a loss grows.
const WATCH: Duration = Duration::from_millis(1_500);

impl Database {
    /// What the live database has and the candidate has not, row by row.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn loss(&self, plan: &RestorePlan) -> Result<Loss, Trouble> {
        let name = match self.look(plan).await?.aside {
            // After the exchange: what was put aside is compared with what is live.
            Some(aside) if aside.oid == plan.live => {
                return self.between(&plan.aside, &plan.database).await;
            }
            _ => plan.candidate.clone(),
        };
        self.loss_against(&name).await
    }

    /// What the live database has and this one has not, row by row.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn loss_against(&self, name: &str) -> Result<Loss, Trouble> {
        self.between(self.settings.name.as_str(), name).await
    }

    async fn between(&self, newer: &str, older: &str) -> Result<Loss, Trouble> {
        let newer = self.server.connect(&named(newer)?, self.operation).await?;
        let older = self.server.connect(&named(older)?, self.operation).await?;
        Ok(listed(loss::exact(&newer, &older, COUNT).await?))
    }

    /// The loss, and the writes at that moment: for a second count when nobody writes any more.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn counted(&self, plan: &RestorePlan) -> Result<Counted, Trouble> {
        let session = self.session().await?;
        // First the writes: what comes between the two is counted twice and not left out.
        let writes = facts::written(&session, plan.live.0).await?;
        let loss = self.loss(plan).await?.rows();
        Ok(Counted { loss, writes })
    }

    /// Rows written to a database since its statistics began.
    pub(super) async fn writes_of(&self, session: &Session, oid: u32) -> Result<u64, Trouble> {
        Ok(facts::writes(session, oid).await?)
    }

    /// At most so many rows were written since a backup; nothing is said of which.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn loss_since(&self, backup: &Backup) -> Result<Option<Loss>, Trouble> {
        let then = serde_json::from_value::<Activity>(backup.manifest.activity.clone());
        let system = self.facts().await?.system;
        let Some(then) = then.ok().filter(|_| backup.manifest.system == system) else {
            return Ok(None);
        };
        let inside = self.server.connect(&self.settings.name, self.operation).await?;
        let now = loss::activity(&inside).await?;
        Ok(loss::at_most(&then, &now).map(listed))
    }

    /// Rows that are written a minute, from a short look.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn writes_a_minute(&self) -> Result<f64, Trouble> {
        let oid = self.facts().await?.oid.0;
        let session = self.session().await?;
        let before = self.writes_of(&session, oid).await?;
        tokio::time::sleep(WATCH).await;
        let after = self.writes_of(&session, oid).await?;
        #[expect(clippy::cast_precision_loss, reason = "a rough figure for people")]
        let rows = after.saturating_sub(before) as f64;
        Ok(rows * 60.0 / WATCH.as_secs_f64())
    }

    /// The backups of the live database, newest first; broken ones are left out.
    ///
    /// # Errors
    /// [`Trouble`] when the folder cannot be read.
    pub async fn backups(&self) -> Result<Vec<Backup>, Trouble> {
        let listed = backups::list(&self.settings.backups).await;
        let listed = listed.map_err(|error| Trouble::Failed(error.to_string()))?;
        let mut found = listed.backups;
        found.retain(|backup| backup.manifest.database == self.settings.name.as_str());
        found.reverse();
        Ok(found)
    }
}

/// The largest loss first; `public` is left out of names.
fn listed(bill: Bill) -> Loss {
    let certainty = match bill.exactness {
        Exactness::Exact => Certainty::Exact,
        Exactness::AtMost => Certainty::AtMost,
    };
    let table = |(name, loss): (String, loss::TableLoss)| TableLoss {
        table: name.strip_prefix("public.").map_or(name.clone(), str::to_owned),
        new: loss.new,
        changed: loss.changed,
        deleted: loss.deleted,
        columns: loss.columns,
    };
    let mut tables: Vec<TableLoss> = bill.tables.into_iter().map(table).collect();
    tables.sort_by_key(|table| std::cmp::Reverse(table.rows()));
    Loss { tables, certainty }
}
