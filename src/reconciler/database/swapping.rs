//! The part of a restore in which requests wait: closing, counting, exchanging, opening again.

use std::time::Duration;

use cutover_model::{RestorePlan, Source};

use super::{Database, Trouble, named};
use crate::crash;
use crate::host::postgres::facts::Written;
use crate::host::postgres::swap::{Swap, Swapped};
use crate::host::postgres::{
    DbName, Kind, Made, Marker, Session, Whose, claims, facts, gate, recover, swap,
};

/// How long opening again may take in the session that an exchange has open; then new ones do it.
const BY_ITS_OWN: Duration = Duration::from_secs(5);

impl Database {
    /// Opens what this operation, a killed process or an earlier one had closed, and ends what this
    /// one left running on the server. Always with a session of its own.
    ///
    /// # Errors
    /// [`Trouble`]: then databases may still be closed.
    pub async fn recover(&self) -> Result<(), Trouble> {
        let session = self.session().await?;
        self.recover_in(&session).await
    }

    /// The same in the session of an exchange that was not begun: neither Docker nor a new
    /// connection is needed for it.
    ///
    /// # Errors
    /// [`Trouble`]: then databases may still be closed, and [`Database::recover`] may open them.
    pub async fn recover_by(&self, ready: &Ready) -> Result<(), Trouble> {
        let recovered = tokio::time::timeout(BY_ITS_OWN, self.recover_in(&ready.session));
        let slow = "the session of the exchange does not answer";
        recovered.await.unwrap_or_else(|_| Err(Trouble::Away(slow.to_owned())))
    }

    async fn recover_in(&self, session: &Session) -> Result<(), Trouble> {
        // Connections first: users wait for them; what goes on in a candidate hurts nobody.
        self.reopen(session).await?;
        let scope = recover::Scope::Operation(self.operation);
        let ended = recover::end_sessions(session, &self.server.installation, scope).await?;
        if ended > 0 {
            tracing::warn!(ended, "sessions that a killed process had left were ended");
            // What they had begun may have closed it once more before they ended.
            self.reopen(session).await?;
        }
        Ok(())
    }

    async fn reopen(&self, session: &Session) -> Result<(), Trouble> {
        let (installation, newest) = (&self.server.installation, Some(self.operation));
        let opened = gate::reopen_up_to(session, installation, newest).await?;
        if !opened.is_empty() {
            let names: Vec<String> = opened.iter().map(ToString::to_string).collect();
            tracing::warn!(databases = names.join(", "), "opened for connections again");
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
        let now = facts::written(&session, live.oid).await?;
        before.lost_by(&now).ok_or_else(|| {
            Trouble::Away(format!(
                "the loss cannot be counted again: somebody set back the server's counters of \
                 \"{}\" meanwhile (pg_stat_reset, or a crash of the server)",
                live.name
            ))
        })
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

    /// Everything that the exchange needs, looked up before anybody waits for it.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn ready_to_swap(&self, plan: &RestorePlan) -> Result<Ready, Trouble> {
        let session = self.session().await?;
        let (live, candidate) = (named(&plan.database)?, named(&plan.candidate)?);
        let mut swap = self.swap_of(&session, &live, &candidate).await?;
        // INVARIANT: the name that was agreed on is the one that later starts look for.
        swap.aside = named(&plan.aside)?;
        if swap.live_oid != plan.live.0 {
            let text = format!("\"{live}\" is another database than when this was agreed on");
            return Err(Trouble::Refused(text));
        }
        Ok(Ready { session, swap })
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
        let installation = &self.server.installation;
        let found = claims::whose(&session, installation, &candidate).await?;
        if let Whose::Ours { marker, .. } = &found
            && marker.kind == Kind::Previous
        {
            return Ok(format!(
                "What was written to the restored data meanwhile is kept in {candidate}: cutover \
                 db list shows it until you drop it yourself."
            ));
        }
        claims::drop_ours(&session, installation, &candidate, &live).await?;
        Ok(match found {
            // It is made after the dump.
            Whose::Ours { .. } => "The copy is dropped; the dump is kept.".to_owned(),
            Whose::Nobody | Whose::Foreign(_) => String::new(),
        })
    }

    /// After an exchange that holds: nothing of this operation is left behind on the server.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn finish(&self, plan: &RestorePlan) -> Result<(), Trouble> {
        let session = self.session().await?;
        self.reopen(&session).await?;
        // What serves now is nobody's but the operator's.
        let name = named(&plan.database)?;
        if let Whose::Ours { .. } =
            claims::whose(&session, &self.server.installation, &name).await?
        {
            tracing::warn!(%name, "the live database still carries a mark");
        }
        Ok(())
    }

    /// Exchanges the names back after an exchange that did not hold. `writes`: those to the
    /// restored data right after it; where they moved, or are not known, it is kept under the
    /// candidate's name like one that was put aside.
    ///
    /// # Errors
    /// [`Trouble`]; then the restored data is live.
    pub async fn swap_back(
        &self,
        plan: &RestorePlan,
        writes: Option<u64>,
    ) -> Result<Tried, Trouble> {
        let session = self.session().await?;
        let (live, aside) = (named(&plan.database)?, named(&plan.aside)?);
        let mut back = self.swap_of(&session, &live, &aside).await?;
        // What was tried goes to its former name: a candidate of this operation, or what an
        // earlier one had put aside.
        back.aside = named(&plan.candidate)?;
        swap::swap(&session, &back, swap::LIMIT).await?;
        // Every session has ended, so these are all.
        let now = self.writes_of(&session, back.live_oid).await?;
        let tried = match writes {
            Some(writes) if writes == now => Tried::Unwritten,
            _ => Tried::Written,
        };
        let (kind, operation) = match (&plan.source, tried) {
            (Source::Aside { operation }, _) => (Kind::Previous, *operation),
            (_, Tried::Written) => (Kind::Previous, self.operation),
            (_, Tried::Unwritten) => (Kind::Candidate, self.operation),
        };
        let installation = self.server.installation.clone();
        let marker = Marker { installation, operation, kind, made: Made::Verified };
        claims::mark(&session, &back.aside, &marker).await?;
        Ok(tried)
    }
}

/// An exchange that only has to be made.
#[derive(Debug)]
pub struct Ready {
    session: Session,
    swap: Swap,
}

impl Ready {
    /// Exchanges the names, if this still holds right before it is committed.
    ///
    /// # Errors
    /// [`Trouble`]; whether it stands all the same, [`Database::look`] tells.
    pub async fn swap(
        &self,
        limit: Duration,
        holds: impl Fn() -> bool,
    ) -> Result<Swapped, Trouble> {
        crash::point("restore.swapping");
        let swapped = swap::swap_while(&self.session, &self.swap, limit, holds).await?;
        crash::point("restore.swapped");
        Ok(swapped)
    }

    /// Lets go of the database's lock. Rows written to the restored data since its statistics
    /// began; `None`: the server does not say.
    pub async fn end(self) -> Option<u64> {
        let written = facts::writes(&self.session, self.swap.candidate_oid).await;
        self.session.close().await;
        written.inspect_err(|error| tracing::warn!(%error, "writes are not known")).ok()
    }
}

/// Whether restored data was written to before it went again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tried {
    /// Nobody wrote to it: it can be dropped.
    Unwritten,
    /// Somebody did, or may have: it is kept.
    Written,
}

/// What was counted while people could still write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counted {
    /// Rows that would be lost.
    pub loss: u64,
    /// Rows written to the live database since its statistics began, at the same moment.
    pub writes: Written,
}

impl Counted {
    /// Rows that would be lost by now; `None`: the counters began anew since, so it is not known.
    fn lost_by(&self, now: &Written) -> Option<u64> {
        let since = now.rows.checked_sub(self.writes.rows)?;
        (now.reset == self.writes.reset).then(|| self.loss.saturating_add(since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_that_were_set_back_between_two_counts_count_nothing() {
        let written = |rows, reset: &str| Written { rows, reset: reset.to_owned() };
        let before = Counted { loss: 20, writes: written(1_000, "") };
        assert_eq!(before.lost_by(&written(1_005, "")), Some(25));
        assert_eq!(before.lost_by(&written(3, "")), None, "a crash of the server");
        assert_eq!(before.lost_by(&written(3, "today")), None);
        assert_eq!(before.lost_by(&written(2_000, "today")), None);
    }
}
