//! The part of a restore in which requests wait: closing, counting, exchanging, opening again.

use std::time::Duration;

use cutover_model::{RestorePlan, Source};

use super::{Database, Trouble, named};
use crate::crash;
use crate::host::postgres::swap::{Swap, Swapped};
use crate::host::postgres::{
    DbName, Made, Marker, Session, Whose, claims, facts, gate, recover, swap,
};

impl Database {
    /// Opens what a killed process had closed, and ends what it left running on the server.
    ///
    /// # Errors
    /// [`Trouble`]: then databases may still be closed.
    pub async fn recover(&self, _plan: &RestorePlan) -> Result<(), Trouble> {
        let session = self.session().await?;
        claims::ensure_ledger(&session).await?;
        // Connections first: users wait for them; what goes on in a candidate hurts nobody.
        let opened = gate::reopen(&session, &self.server.installation).await?;
        if !opened.is_empty() {
            let names: Vec<String> = opened.iter().map(ToString::to_string).collect();
            tracing::warn!(databases = names.join(", "), "opened for connections again");
        }
        let scope = recover::Scope::Operation(self.operation);
        let ended = recover::end_sessions(&session, &self.server.installation, scope).await?;
        if ended > 0 {
            tracing::warn!(ended, "sessions that a killed process had left were ended");
        }
        Ok(())
    }

    /// Closes both databases for connections, ends their sessions, and counts what would be lost:
    /// nobody writes any more. [`Database::recover`] opens them again.
    ///
    /// # Errors
    /// [`Trouble`]; they may be closed then.
    pub async fn close_and_count(
        &self,
        plan: &RestorePlan,
        before: Counted,
        limit: Duration,
    ) -> Result<u64, Trouble> {
        let session = self.session().await?;
        let (live, candidate) = self.pair(&session, plan).await?;
        let (installation, both) = (&self.server.installation, [&live, &candidate]);
        gate::close(&session, installation, self.operation, &both).await?;
        crash::point("restore.closed");
        gate::empty(&session, &both, limit).await?;
        crash::point("restore.emptied");
        // Sessions give their figures to the server when they end, so these are all.
        let now = self.writes_of(&session, live.oid).await?;
        Ok(before.loss.saturating_add(now.saturating_sub(before.writes)))
    }

    async fn pair(
        &self,
        session: &Session,
        plan: &RestorePlan,
    ) -> Result<(facts::DatabaseFacts, facts::DatabaseFacts), Trouble> {
        let gone = |name: &str| Trouble::Failed(format!("there is no database \"{name}\""));
        let live = facts::database(session, &named(&plan.database)?).await?;
        let candidate = facts::database(session, &named(&plan.candidate)?).await?;
        Ok((
            live.ok_or_else(|| gone(&plan.database))?,
            candidate.ok_or_else(|| gone(&plan.candidate))?,
        ))
    }

    /// Exchanges the names.
    ///
    /// # Errors
    /// [`Trouble`]; whether it stands all the same, [`Database::look`] tells.
    pub async fn swap(&self, plan: &RestorePlan, limit: Duration) -> Result<Swapped, Trouble> {
        let session = self.session().await?;
        let (live, candidate) = (named(&plan.database)?, named(&plan.candidate)?);
        let swap = self.swap_of(&session, &live, &candidate).await?;
        if swap.live_oid != plan.live.0 {
            let text = format!("\"{live}\" is another database than when this was agreed on");
            return Err(Trouble::Refused(text));
        }
        crash::point("restore.swapping");
        let swapped = swap::swap(&session, &swap, limit).await?;
        crash::point("restore.swapped");
        Ok(swapped)
    }

    async fn swap_of(
        &self,
        session: &Session,
        live: &DbName,
        candidate: &DbName,
    ) -> Result<Swap, Trouble> {
        let (who, epoch) = (&self.server.installation, self.epoch);
        Ok(Swap::plan(session, who, (self.operation, epoch), live, candidate).await?)
    }

    /// Removes the candidate; what is kept is said in a few words. What an earlier restore put
    /// aside is no candidate of this one's making, and stays.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn drop_candidate(&self, plan: &RestorePlan) -> Result<String, Trouble> {
        if matches!(plan.source, Source::Aside { .. }) {
            return Ok(String::new());
        }
        let session = self.session().await?;
        let (live, candidate) = (named(&plan.database)?, named(&plan.candidate)?);
        claims::drop_ours(&session, &self.server.installation, &candidate, &live).await?;
        Ok("The copy is dropped; the dump is kept.".to_owned())
    }

    /// After an exchange that holds: nothing of this operation is left behind on the server.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn finish(&self, plan: &RestorePlan) -> Result<(), Trouble> {
        let session = self.session().await?;
        gate::reopen(&session, &self.server.installation).await?;
        // What serves now is nobody's but the operator's.
        let name = named(&plan.database)?;
        if let Whose::Ours { .. } =
            claims::whose(&session, &self.server.installation, &name).await?
        {
            tracing::warn!(%name, "the live database still carries a mark");
        }
        Ok(())
    }

    /// Exchanges the names back, right after an exchange that did not hold.
    ///
    /// # Errors
    /// [`Trouble`]; then the restored data is live, and open.
    pub async fn swap_back(&self, plan: &RestorePlan) -> Result<(), Trouble> {
        let session = self.session().await?;
        let (live, aside) = (named(&plan.database)?, named(&plan.aside)?);
        let mut back = self.swap_of(&session, &live, &aside).await?;
        // What was tried goes to its former name: a candidate of this operation, or what an
        // earlier one had put aside.
        back.aside = named(&plan.candidate)?;
        swap::swap(&session, &back, swap::LIMIT).await?;
        let kind = match plan.source {
            Source::Aside { .. } => crate::host::postgres::Kind::Previous,
            Source::Point { .. } | Source::Backup { .. } => crate::host::postgres::Kind::Candidate,
        };
        let operation = match plan.source {
            Source::Aside { operation } => operation,
            Source::Point { .. } | Source::Backup { .. } => self.operation,
        };
        let installation = self.server.installation.clone();
        let marker = Marker { installation, operation, kind, made: Made::Verified };
        claims::mark(&session, &back.aside, &marker).await?;
        Ok(())
    }
}

/// What was counted while people could still write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counted {
    /// Rows that would be lost.
    pub loss: u64,
    /// Rows written to the live database since its statistics began, at the same moment.
    pub writes: u64,
}
