//! Backups by themselves: made when they are due, and let go by the rule once a newer one is there.
//!
//! A run that was missed is caught up once. One that is due while another operation runs waits for
//! its end. A failed one is tried again, and told each time.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use cutover_model::restore::Restore;
use cutover_model::{Actor, LineLevel, Millis, Occasion, OperationId, Upkeep};
use tokio_util::sync::CancellationToken;

use super::super::{App, Failure, now};
use crate::host::backups::retention::{Keep, may_go};
use crate::host::backups::{self, due};
use crate::text;

/// How often the clock is looked at: it may be set at any time.
const LOOK: Duration = Duration::from_secs(2);

impl App {
    /// Makes backups as they are due until the daemon stops.
    pub(in crate::controller) async fn tend_backups(self: Arc<Self>, stop: CancellationToken) {
        let mut since = now();
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (mut told, mut waited, mut seen) = (String::new(), None, None);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = look.tick() => {}
            }
            if self.next_backup(since).is_none_or(|due| due > now()) {
                // Where the clock went back, this look is what the next one counts from.
                since = now();
                continue;
            }
            let state = self.state();
            let waits = self.backup_waits();
            // Twice in a row: one that has only just been recorded is begun by then.
            if let Some(operation) = waits.filter(|_| waits == seen && waits != waited) {
                let text = format!(
                    "a backup is due by the schedule and is not made: {operation} waits for a \
                     person. cutover continue {operation}, or cutover abort {operation}"
                );
                self.say(Some(operation), LineLevel::Error, "backup", text);
                waited = waits;
            }
            seen = waits;
            if state.running().is_some() || state.serving().is_none() {
                continue;
            }
            let upkeep = Upkeep::BackUp { occasion: Occasion::Scheduled };
            match self.begin_upkeep(upkeep, Actor::daemon(), None).await {
                Ok(_) => told.clear(),
                Err(Failure::Refused(_) | Failure::Stopping) => {}
                Err(failure) => {
                    let why = failure.to_string();
                    if why != told {
                        self.say(None, LineLevel::Error, "backup", why.clone());
                        told = why;
                    }
                }
            }
        }
    }

    /// The operation that waits for a person, and that a backup which is due waits for.
    #[must_use]
    pub fn backup_waits(&self) -> Option<OperationId> {
        let state = self.state();
        let (operation, known) = state.running()?;
        let is_halted = |restore: &Restore| restore.halted.is_some();
        let waits = state.restores.get(&operation).map_or(known.upkeep().is_some(), is_halted);
        let worked_on = self.restoring().running.as_ref().map(|(id, _)| *id);
        (waits && worked_on != Some(operation)).then_some(operation)
    }

    /// When the next backup is due. `since`: since when the schedule is known, where none was made.
    #[must_use]
    pub fn next_backup(&self, since: Millis) -> Option<Millis> {
        let settings = self.settings();
        let schedule = settings.database.as_ref()?.schedule.as_ref()?;
        let kept = self.state().kept;
        let last = kept.scheduled.or(kept.backup.as_ref().map(|tried| tried.began));
        let last = last.filter(|last| *last <= now());
        due::due(&schedule.cron, last.unwrap_or(since), kept.failures, now())
    }

    /// The rule for what is kept; `None`: there is none, and nothing goes by itself.
    pub(super) fn keep(&self) -> Option<Keep> {
        let settings = self.settings();
        let (daily, weekly, monthly) = settings.database.as_ref()?.schedule.as_ref()?.keep;
        Some(Keep { daily, weekly, monthly })
    }

    /// Backups that the rule lets go, oldest first.
    pub(super) async fn may_go(&self, keep: Keep) -> Result<Vec<backups::Backup>, Failure> {
        let state = self.state();
        let settings = self.settings();
        let known = settings.database.as_ref().map(|d| (d.backups.clone(), d.name.clone()));
        let Some((home, own)) = known else { return Ok(Vec::new()) };
        let listed = backups::list(&home).await;
        let mut listed = listed.map_err(|error| Failure::Impossible(error.to_string()))?.backups;
        // The same folder by another path may hold another app's.
        listed.retain(|backup| backup.manifest.database == own.as_str());
        let mut named = BTreeSet::new();
        for backup in &listed {
            let (id, manifest) = (backup.id(), &backup.manifest);
            let source = cutover_model::Source::Backup { id: id.to_owned() };
            let in_plan = state.restores.values().any(|restore| restore.plan.source == source)
                || self.restoring().shows(&source);
            let running = state.operations.values().filter(|operation| operation.ended.is_none());
            let in_work = running.filter_map(|o| o.upkeep()).any(|work| work.needs(id));
            // What a restore saved stays as long as that restore can be undone.
            let is_way_back = matches!(manifest.reason, backups::Reason::Before(operation)
                if state.asides.contains_key(&operation)
                    || state.restores.contains_key(&operation));
            if in_plan || in_work || is_way_back {
                named.insert(id.to_owned());
            }
        }
        let gone = may_go(&listed, keep, (now(), &text::zone()), &named);
        Ok(listed.into_iter().filter(|backup| gone.iter().any(|id| id == backup.id())).collect())
    }

    /// After a backup that was made and read back: the rule is applied.
    pub(super) async fn retain(self: &Arc<Self>) {
        let Some(keep) = self.keep() else { return };
        let ids: Vec<String> = match self.may_go(keep).await {
            Ok(gone) => gone.iter().map(|backup| backup.id().to_owned()).collect(),
            Err(failure) => return tracing::warn!(%failure, "backups cannot be let go"),
        };
        if ids.is_empty() {
            return;
        }
        let begun = self.begin_upkeep(Upkeep::Prune { ids }, Actor::daemon(), None);
        if let Err(failure) = Box::pin(begun).await {
            // They go with the next one.
            tracing::info!(%failure, "backups are let go later");
        }
    }
}
