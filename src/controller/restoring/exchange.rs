//! The exchange of names: requests wait, open ones end, the loss is counted again, two names change
//! in one transaction, the release that serves is probed, requests go on.
//!
//! All of it lies within `max_hold`; past it requests flow again and nothing was changed. The hold
//! is a lease of the data plane's own, so a daemon that dies here leaves nobody waiting.
//! INVARIANT: names are exchanged only while the hold lasts, and never when more would be lost than
//! was accepted.

use std::sync::Arc;
use std::time::{Duration, Instant};

use cutover_model::restore::Aside;
use cutover_model::{
    Actor, AppName, AppState, Fact, LineLevel, OperationId, ReleaseId, RestorePlan, Source, Stage,
};
use cutover_proxy::message::{Gate, GateChange, HoldId};

use super::super::gate::{self, HoldGuard, HoldLimits};
use super::super::{App, now};
use super::{Restoring, Stop};
use crate::reconciler::ask_once;
use crate::reconciler::database::{Counted, Database, Trouble};
use crate::text;

/// How much longer than `max_hold` the data plane's lease is.
const LEASE_GRACE: Duration = Duration::from_secs(1);

/// The part of `max_hold` that open requests get to end in.
const DRAIN_SHARE: u32 = 2;

/// Probes that have to pass, one after the other, before requests go on.
const PASSES: u32 = 3;

/// Between two probes of a release that has not noticed yet that its connections were ended.
const AGAIN: Duration = Duration::from_millis(20);

impl App {
    /// Holds, counts, exchanges, probes, lets go.
    pub(super) async fn exchange(
        self: &Arc<Self>,
        operation: OperationId,
        plan: &RestorePlan,
        database: &Database,
    ) -> Result<(), Stop> {
        self.may_exchange(plan)?;
        let before = database.counted(plan).await?;
        if before.loss > plan.max_loss {
            let why = format!("{} were accepted", text::count(plan.max_loss));
            return Err(Stop::Asks { rows: before.loss, why });
        }
        self.reached(operation, Stage::Hold).await?;
        let most = Duration::from_millis(plan.max_hold_ms);
        // A daemon that was killed in its hold has come back with one: it is this one's now.
        let held = self.take_hold().filter(HoldGuard::is_held);
        let hold = match held {
            Some(hold) => hold,
            None => {
                let hold = self.hold(HoldLimits::within(most), most + LEASE_GRACE);
                hold.map_err(|failure| Stop::Stuck(failure.to_string()))?
            }
        };
        let until = Instant::now() + most;
        let result = self.while_held((operation, before), plan, database, (&hold, until)).await;
        if result.is_err()
            && let Err(trouble) = database.recover(plan).await
        {
            // Requests would meet a closed database: the lease ends the hold if this stays so.
            self.say(Some(operation), LineLevel::Error, "database", trouble.to_string());
        }
        let paused = match &result {
            Ok(_) => Ok(()),
            // Nothing was exchanged, or it was exchanged back: who was paused goes on.
            Err(_) => match self.busy_project(plan) {
                Some(project) => database.unpause(&project).await,
                None => Ok(()),
            },
        };
        let tally = hold.release().await;
        if let Err(trouble) = paused {
            self.say(Some(operation), LineLevel::Error, "unpause", trouble.to_string());
        }
        let at = result?;
        let text = match tally {
            Some(tally) => format!(
                "exchanged. {} requests waited, {} at most; {} failed. Requests flow.",
                tally.waited,
                text::duration(tally.longest),
                tally.refused
            ),
            None => "exchanged. Requests flow.".to_owned(),
        };
        self.say(Some(operation), LineLevel::Step, "3/4 exchange", text);
        tracing::info!(%operation, at = at.0, "the names were exchanged");
        Ok(())
    }

    /// Everything between the hold and its release; when it was exchanged.
    async fn while_held(
        self: &Arc<Self>,
        (operation, before): (OperationId, Counted),
        plan: &RestorePlan,
        database: &Database,
        (hold, until): (&HoldGuard, Instant),
    ) -> Result<cutover_model::Millis, Stop> {
        let most = Duration::from_millis(plan.max_hold_ms);
        let drained = hold.drained(most / DRAIN_SHARE).await;
        if drained.requests_left > 0 {
            let left = drained.requests_left;
            let text = format!("{left} requests are still open; they keep their connections");
            self.say(Some(operation), LineLevel::Note, "3/4 exchange", text);
        }
        if let Some(project) = self.busy_project(plan) {
            database.pause(&project).await?;
        }
        let counted = database.close_and_count(plan, before, left(until)).await?;
        if counted > plan.max_loss {
            database.recover(plan).await?;
            let why = format!("{} were accepted", text::count(plan.max_loss));
            return Err(Stop::Asks { rows: counted, why });
        }
        let text = format!(
            "loss counted again: {} of {} allowed",
            text::count(counted),
            text::count(plan.max_loss)
        );
        self.say(Some(operation), LineLevel::Step, "3/4 exchange", text);
        if let Err(stop) = self.reached(operation, Stage::Swap).await {
            database.recover(plan).await?;
            return Err(stop);
        }
        if !hold.is_held() {
            database.recover(plan).await?;
            return Err(Stop::Stuck(format!(
                "requests had waited for {}, the most that is allowed (max_hold)",
                text::duration(most)
            )));
        }
        if let Err(trouble) = database.swap(plan, left(until)).await {
            // CRASH: it may stand all the same; the numbers of the databases tell.
            return Err(self.after_doubt(plan, database, trouble).await);
        }
        let at = now();
        self.exchanged(operation, plan, counted);
        self.reached(operation, Stage::Open).await?;
        let served = self.state().serving();
        match self.open_on(operation, plan, left(until)).await {
            Ok(()) => Ok(at),
            Err(why) => Err(self.exchange_back((operation, served), plan, database, why).await),
        }
    }

    /// A swap that failed: connections are allowed again, whichever side it is.
    async fn after_doubt(&self, plan: &RestorePlan, database: &Database, trouble: Trouble) -> Stop {
        if let Err(more) = database.recover(plan).await {
            return Stop::Stuck(format!("{trouble}; then: {more}"));
        }
        // Only time stood in the way: what was made is still good.
        Stop::Stuck(trouble.to_string())
    }

    fn exchanged(&self, operation: OperationId, plan: &RestorePlan, rows: u64) {
        let aside = Aside {
            name: plan.aside.clone(),
            database: plan.database.clone(),
            oid: plan.live,
            since: now(),
            rows,
            served: plan.from,
            serves: plan.to,
        };
        let kept = Fact::AsideKept { operation, aside: Box::new(aside) };
        self.note(&Actor::daemon(), vec![kept]);
    }

    /// Gives the release that shall serve all traffic, and probes it on the restored data.
    async fn open_on(
        self: &Arc<Self>,
        operation: OperationId,
        plan: &RestorePlan,
        most: Duration,
    ) -> Result<(), String> {
        let state = self.state();
        let standing = state.standing(plan.to).ok_or("the release is not on record any more")?;
        let color = standing.release.color;
        self.hand_over(operation, (plan.to, plan.from), &plan.source).await?;
        let Some(target) = self.probe_target(color).await? else { return Ok(()) };
        let mut why = "it did not answer".to_owned();
        let probing = async {
            let mut passed = 0;
            while passed < PASSES {
                match ask_once(&target).await {
                    Ok(_) => passed += 1,
                    // Its pool has to notice that every connection was ended: that is one failure.
                    Err(failed) => {
                        (passed, why) = (0, failed);
                        tokio::time::sleep(AGAIN).await;
                    }
                }
            }
        };
        if tokio::time::timeout(most, probing).await.is_err() {
            return Err(format!("{} does not pass its probe on the restored data: {why}", plan.to));
        }
        let text = format!("{} answers on the restored data, {PASSES} times in a row", plan.to);
        self.say(Some(operation), LineLevel::Step, "4/4 check", text);
        Ok(())
    }

    /// The release that shall serve does not work on the restored data: the names go back.
    async fn exchange_back(
        self: &Arc<Self>,
        (operation, had_traffic): (OperationId, Option<ReleaseId>),
        plan: &RestorePlan,
        database: &Database,
        why: String,
    ) -> Stop {
        if let Some(from) = plan.from.filter(|_| self.state().serving() == Some(plan.to))
            && had_traffic == Some(from)
            && let Err(more) = self.hand_over(operation, (from, None), &plan.source).await
        {
            self.say(Some(operation), LineLevel::Error, "traffic", more);
        }
        let back = database.swap_back(plan).await;
        match back {
            Ok(()) => {
                self.note(&Actor::daemon(), vec![Fact::AsideGone { operation }]);
                Stop::Failed(why)
            }
            Err(trouble) => {
                Stop::Stuck(format!("{why}; and the names could not be exchanged back: {trouble}"))
            }
        }
    }

    /// After a crash behind the exchange: probe, and let go.
    pub(super) async fn open_after(
        self: &Arc<Self>,
        operation: OperationId,
        plan: &RestorePlan,
        database: &Database,
    ) -> Result<(), Stop> {
        if !self.state().asides.contains_key(&operation) {
            let rows = database.loss(plan).await.map_or(0, |loss| loss.rows());
            self.exchanged(operation, plan, rows);
        }
        self.reached(operation, Stage::Open).await?;
        let most = Duration::from_millis(plan.max_hold_ms);
        let opened = self.open_on(operation, plan, most).await;
        self.open_gate(operation).await;
        opened.map_err(Stop::Stuck)
    }

    /// The project of the release that must not write, while it still has traffic.
    fn busy_project(&self, plan: &RestorePlan) -> Option<String> {
        let state = self.state();
        let standing = state.standing(plan.from?)?;
        let is_there = *state.colors.get(standing.release.color) == plan.from;
        (is_there && self.idle_project(plan).is_none()).then(|| standing.release.project.clone())
    }

    /// A cut-back may have come in between: data are exchanged only for who shall serve on them.
    fn may_exchange(&self, plan: &RestorePlan) -> Result<(), Stop> {
        let state = self.state();
        let is_way_back = matches!(plan.source, Source::Aside { .. });
        match state.serving() {
            Some(serves) if serves == plan.to || is_way_back || Some(serves) == plan.from => Ok(()),
            Some(serves) => Err(Stop::Stuck(format!(
                "{serves} serves by now, and this was agreed on for {}",
                plan.to
            ))),
            None => Ok(()),
        }
    }

    /// The hold that the proxy was started with is this app's to end.
    pub(in crate::controller) fn take_first_hold(&self) {
        let held = first_hold(&self.name, &self.live().state);
        if let Some(Gate { change: GateChange::Hold(hold), .. }) = held {
            self.restoring().held = Some(self.held_since_start(hold.id, hold.streams));
        }
    }

    fn take_hold(&self) -> Option<HoldGuard> {
        let Restoring { held, .. } = &mut *self.restoring();
        held.take()
    }

    /// Lets go whoever a hold of this operation keeps waiting.
    pub(super) async fn open_gate(&self, operation: OperationId) {
        if let Some(hold) = self.take_hold() {
            tracing::info!(%operation, "requests that waited since the start go on");
            hold.release().await;
        }
    }
}

/// The hold that an app starts with, when a daemon was killed in the middle of an exchange.
pub(in crate::controller) fn first_hold(app: &AppName, state: &AppState) -> Option<Gate> {
    let (operation, restore) = state.restores.iter().find(|(_, restore)| {
        restore.halted.is_none() && restore.stage.is_some_and(Stage::starts_held)
    })?;
    let most = Duration::from_millis(restore.plan.max_hold_ms);
    let id = HoldId(operation.0);
    Some(gate::first_hold(app, id, HoldLimits::within(most), most + LEASE_GRACE))
}

fn left(until: Instant) -> Duration {
    until.saturating_duration_since(Instant::now())
}
