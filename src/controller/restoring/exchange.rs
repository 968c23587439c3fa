//! The exchange of names: requests wait, open ones end, the loss is counted again, two names change
//! in one transaction, the release that serves is probed, requests go on.
//!
//! All of it lies within `max_hold`; past it requests flow again and nothing was changed. The hold
//! is a lease of the data plane's own, so a daemon that dies here leaves nobody waiting.
//! INVARIANT: names are exchanged only while the hold lasts, and never when more would be lost than
//! was accepted. Whatever fails, it is seen first on which side of the exchange the world is:
//! before it who was frozen goes on, behind it nobody writes who must not.

use std::sync::Arc;
use std::time::{Duration, Instant};

use cutover_model::restore::{self, Aside, Side};
use cutover_model::{
    Actor, AppName, AppState, Fact, LineLevel, OperationId, RestorePlan, Source, Stage,
};
use cutover_proxy::message::{Gate, GateChange, HoldId};
use tokio_util::sync::CancellationToken;

use super::super::gate::{self, HoldGuard, HoldLimits};
use super::super::{App, now};
use super::{Restoring, Stop};
use crate::reconciler::ask_once;
use crate::reconciler::database::{Counted, Database, Ready, Trouble};
use crate::text;

/// How much longer than `max_hold` the data plane's lease is.
pub(super) const LEASE_GRACE: Duration = Duration::from_secs(1);

/// The part of `max_hold` that open requests get to end in.
pub(super) const DRAIN_SHARE: u32 = 2;

/// Probes that have to pass, one after the other, before requests go on.
const PASSES: u32 = 3;

/// Between two probes of a release that has not noticed yet that its connections were ended.
const AGAIN: Duration = Duration::from_millis(20);

/// What the release that shall serve gets at least to answer in, once the names are exchanged.
const ANSWERS_IN: Duration = Duration::from_secs(2);

impl App {
    /// Holds, counts, exchanges, probes, lets go. `is_old`: the loss was accepted too long ago.
    pub(super) async fn exchange(
        self: &Arc<Self>,
        operation: OperationId,
        plan: &RestorePlan,
        database: &Database,
        (stop, is_old): (&CancellationToken, bool),
    ) -> Result<(), Stop> {
        self.may_exchange(plan)?;
        let before = tokio::select! {
            counted = database.counted(plan) => counted?,
            () = stop.cancelled() => return Err(self.why_stopped()),
        };
        may_lose(plan, before.loss, is_old)?;
        let ready = database.ready_to_swap(plan).await?;
        if stop.is_cancelled() {
            return Err(self.why_stopped());
        }
        self.reached(operation, Stage::Hold).await?;
        let most = Duration::from_millis(plan.max_hold_ms);
        let hold = self.hold(HoldLimits::within(most), most + LEASE_GRACE);
        let hold = hold.map_err(|failure| Stop::Stuck(failure.to_string()))?;
        let until = Instant::now() + most;
        let counting = self.while_held((operation, before), plan, database, (&hold, stop));
        let counted = match tokio::time::timeout_at(until.into(), counting).await {
            Ok(counted) => counted,
            Err(_) => Err(Stop::Stuck(format!(
                "requests had waited for {}, the most that is allowed (max_hold)",
                text::duration(most)
            ))),
        };
        let exchanged = match counted {
            Ok(counted) => {
                let holds = || hold.is_held() && !stop.is_cancelled();
                match ready.swap(left(until), holds).await {
                    Ok(_) => Ok(counted),
                    // CRASH: it may stand all the same; the numbers of the databases tell.
                    Err(trouble) => {
                        let stood = self.after_doubt(operation, plan, trouble).await;
                        let given_up = stop.is_cancelled().then(|| self.why_stopped());
                        stood.map(|()| counted).map_err(|stop| given_up.unwrap_or(stop))
                    }
                }
            }
            // Nothing was exchanged. Everybody needs the database, and only who is frozen needs
            // Docker, which may not answer.
            Err(stop) => {
                let opened = self.open_by(operation, database, &ready).await;
                self.unfreeze(operation, plan, database).await;
                Err(with_closed(stop, opened.err()))
            }
        };
        let result = match exchanged {
            Ok(counted) => {
                let writes = ready.end().await;
                self.exchanged(operation, plan, counted);
                self.open_held(operation, plan, database, (writes, &hold, until)).await
            }
            Err(stop) => Err(stop),
        };
        let tally = hold.release().await;
        let checked = result?;
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
        self.say_checked(operation, checked);
        tracing::info!(%operation, "the names were exchanged");
        Ok(())
    }

    /// Allows connections again after an exchange that was not begun: by the session that is open
    /// for it, else by new ones.
    async fn open_by(
        self: &Arc<Self>,
        operation: OperationId,
        database: &Database,
        ready: &Ready,
    ) -> Result<(), Stop> {
        if let Err(trouble) = database.recover_by(ready).await {
            tracing::warn!(%operation, %trouble, "the database is opened by new sessions");
            self.open_again(operation).await?;
        }
        Ok(())
    }

    /// The check was made while requests waited; it is told after the exchange that it belongs to.
    fn say_checked(&self, operation: OperationId, checked: Option<String>) {
        if let Some(text) = checked {
            self.say(Some(operation), LineLevel::Step, "4/4 check", text);
        }
    }

    /// Everything between the hold and the exchange; the rows that are lost by it.
    async fn while_held(
        self: &Arc<Self>,
        (operation, before): (OperationId, Counted),
        plan: &RestorePlan,
        database: &Database,
        (hold, stop): (&HoldGuard, &CancellationToken),
    ) -> Result<u64, Stop> {
        let most = Duration::from_millis(plan.max_hold_ms);
        let drained = hold.drained(most / DRAIN_SHARE).await;
        if drained.requests_left > 0 {
            let left = drained.requests_left;
            let text = format!("{left} requests are still open; they keep their connections");
            self.say(Some(operation), LineLevel::Note, "3/4 exchange", text);
        }
        // Whether it has traffic or lost it while the loss was counted: nothing of it may write.
        self.freeze(operation, plan, database).await?;
        let counted = database.close_and_count(plan, before, most).await?;
        may_lose(plan, counted, false)?;
        let text = format!(
            "loss counted again: {} of {} allowed",
            text::count(counted),
            text::count(plan.max_loss)
        );
        self.say(Some(operation), LineLevel::Step, "3/4 exchange", text);
        self.reached(operation, Stage::Swap).await?;
        // A cut-back waits for nothing, so one may have come while requests waited.
        self.may_exchange(plan)?;
        if stop.is_cancelled() {
            return Err(self.why_stopped());
        }
        Ok(counted)
    }

    /// A swap that failed may stand all the same: then the way is forward. Connections are allowed
    /// again, whichever side it is, and who is frozen goes on only before the exchange.
    async fn after_doubt(
        self: &Arc<Self>,
        operation: OperationId,
        plan: &RestorePlan,
        trouble: Trouble,
    ) -> Result<(), Stop> {
        let stuck = |more: String| Stop::Stuck(format!("{trouble}; then: {more}"));
        let database = self.open_again(operation).await;
        let database = database.map_err(|more| stuck(more.to_string()))?;
        let seen = database.look(plan).await.map_err(Stop::from);
        match seen.and_then(|seen| Ok(restore::side(plan, &seen)?)) {
            // The caller records it, with the count.
            Ok(Side::After) => Ok(()),
            Ok(Side::Before) => {
                self.unfreeze(operation, plan, &database).await;
                // Only time stood in the way: what was made is still good.
                Err(Stop::Stuck(trouble.to_string()))
            }
            Err(more) => {
                self.keep_opening(operation);
                Err(stuck(more.to_string()))
            }
        }
    }

    /// The names are exchanged: the release that shall serve gets the traffic and is probed. Where
    /// it does not answer they are exchanged back, while requests still wait.
    async fn open_held(
        self: &Arc<Self>,
        operation: OperationId,
        plan: &RestorePlan,
        database: &Database,
        (writes, hold, until): (Option<u64>, &HoldGuard, Instant),
    ) -> Result<Option<String>, Stop> {
        self.note_open(operation).await;
        let most = left(until).max(ANSWERS_IN);
        if hold.renew(most + LEASE_GRACE).is_err() {
            tracing::warn!(%operation, "requests flow before the restored data was probed");
        }
        let opened = self.open_on(operation, plan, most).await;
        let why = match opened {
            Ok(checked) => return Ok(checked),
            Err(why) => why,
        };
        match self.exchange_back(operation, plan, database, (writes, Some(hold))).await {
            Ok(()) => Err(Stop::Failed(why)),
            Err(more) => Err(Stop::Stuck(format!("{why}; and {more}"))),
        }
    }

    /// What cannot be recorded now does not stop the way forward: it is written when it can be.
    async fn note_open(&self, operation: OperationId) {
        if let Err(stop) = self.reached(operation, Stage::Open).await {
            tracing::warn!(%operation, %stop, "the exchange stands, and its record waits");
            let fact = Fact::RestoreReached { operation, stage: Stage::Open };
            self.note(&Actor::daemon(), vec![fact]);
        }
    }

    /// Records that the names are exchanged, and what is put aside; recorded again, only the count
    /// is another.
    fn exchanged(&self, operation: OperationId, plan: &RestorePlan, rows: u64) {
        let known = self.state().asides.get(&operation).cloned();
        let aside = Aside {
            name: plan.aside.clone(),
            database: plan.database.clone(),
            oid: plan.live,
            since: known.as_ref().map_or_else(now, |known| known.since),
            rows,
            served: plan.from,
            serves: plan.to,
            watched: known.and_then(|known| known.watched),
        };
        let kept = Fact::AsideKept { operation, aside: Box::new(aside) };
        self.note(&Actor::daemon(), vec![kept]);
    }

    /// Gives the release that shall serve all traffic, and probes it on the restored data; what the
    /// probe said.
    async fn open_on(
        self: &Arc<Self>,
        operation: OperationId,
        plan: &RestorePlan,
        most: Duration,
    ) -> Result<Option<String>, String> {
        let state = self.state();
        let standing = state.standing(plan.to).ok_or("the release is not on record any more")?;
        let color = standing.release.color;
        self.hand_over(operation, (plan.to, plan.from), &plan.source).await?;
        let Some(target) = self.probe_target(color).await? else { return Ok(None) };
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
        Ok(Some(format!("{} answers on the restored data, {PASSES} times in a row", plan.to)))
    }

    /// The names go back: the release that shall serve does not work on the restored data, or a
    /// person gives it up. `writes`: those to the restored data right after the exchange.
    ///
    /// # Errors
    /// Why not; the restored data is live then, or it is not known.
    pub(super) async fn exchange_back(
        self: &Arc<Self>,
        operation: OperationId,
        plan: &RestorePlan,
        database: &Database,
        (writes, hold): (Option<u64>, Option<&HoldGuard>),
    ) -> Result<(), String> {
        let most = Duration::from_millis(plan.max_hold_ms);
        if let Some(hold) = hold
            && hold.renew(most + LEASE_GRACE).is_err()
        {
            tracing::warn!(%operation, "the names go back while requests flow");
        }
        if let Some(hold) = hold {
            hold.drained(most / DRAIN_SHARE).await;
        }
        // Nobody but who had the traffic before knows today's data.
        let state = self.state();
        let moved = state.operations.get(&operation).and_then(|known| known.moved.as_ref());
        let had = moved.and_then(|moved| *moved.colors.get(moved.before.leading()));
        if let Some(from) = plan.from.filter(|from| had == Some(*from))
            && state.serving() == Some(plan.to)
            && let Err(more) = self.hand_over(operation, (from, None), &plan.source).await
        {
            self.say(Some(operation), LineLevel::Error, "traffic", more);
        }
        let mut back = database.swap_back(plan, writes).await.map(drop);
        if let Err(trouble) = &back {
            let database = self.open_again(operation).await.map_err(|stop| stop.to_string())?;
            let seen = database.look(plan).await.map_err(|more| more.to_string())?;
            match restore::side(plan, &seen).map_err(|strange| strange.to_string())? {
                Side::Before => back = Ok(()),
                Side::After => {
                    return Err(format!("the names could not be exchanged back: {trouble}"));
                }
            }
        }
        self.note(&Actor::daemon(), vec![Fact::AsideGone { operation }]);
        self.unfreeze(operation, plan, database).await;
        back.map_err(|trouble| trouble.to_string())
    }

    /// What is seen of the exchange is recorded before anything else: whatever is said, undone or
    /// repeated from now on depends on it. How many rows it put aside is counted later.
    pub(super) fn note_side(&self, operation: OperationId, plan: &RestorePlan, side: Side) {
        let is_known = self.state().asides.contains_key(&operation);
        match side {
            Side::After if !is_known => self.exchanged(operation, plan, plan.max_loss),
            Side::Before if is_known => {
                self.note(&Actor::daemon(), vec![Fact::AsideGone { operation }]);
            }
            Side::Before | Side::After => {}
        }
    }

    /// After a crash behind the exchange: probe, let go, and only then count what it cost.
    pub(super) async fn open_after(
        self: &Arc<Self>,
        operation: OperationId,
        plan: &RestorePlan,
        database: &Database,
    ) -> Result<(), Stop> {
        self.note_open(operation).await;
        let most = Duration::from_millis(plan.max_hold_ms);
        // Its lease is as old as this process, which had PostgreSQL to wait for.
        let hold = self.take_hold().filter(|hold| hold.renew(most + LEASE_GRACE).is_ok());
        let opened = self.open_on(operation, plan, most).await;
        let is_held = hold.as_ref().is_some_and(HoldGuard::is_held);
        let opened = match opened {
            // Only where nobody was served on the restored data yet.
            Err(why) if is_held => {
                let with = (None, hold.as_ref());
                match self.exchange_back(operation, plan, database, with).await {
                    Ok(()) => Err(Stop::Failed(why)),
                    Err(more) => Err(Stop::Stuck(format!("{why}; and {more}"))),
                }
            }
            opened => opened.map_err(Stop::Stuck),
        };
        if let Some(hold) = hold {
            hold.release().await;
        }
        self.say_checked(operation, opened?);
        self.count_exchanged(operation, plan, database).await;
        Ok(())
    }

    /// How many rows were put aside, where a crash came before that was recorded.
    async fn count_exchanged(&self, operation: OperationId, plan: &RestorePlan, on: &Database) {
        let known = self.state().asides.get(&operation).map(|aside| aside.rows);
        if known.is_some_and(|rows| rows >= plan.max_loss)
            && let Ok(loss) = on.loss(plan).await
        {
            // What is written by now counts as a difference, too; no more was lost than accepted.
            self.exchanged(operation, plan, loss.rows().min(plan.max_loss));
        }
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

    /// Requests that wait since the start wait on: what they wait for is known by now, and goes on.
    pub(super) fn renew_first_hold(&self, plan: &RestorePlan) {
        let most = Duration::from_millis(plan.max_hold_ms);
        if let Some(hold) = &self.restoring().held
            && hold.renew(most + LEASE_GRACE).is_err()
        {
            tracing::warn!("requests flow before the restored data was probed");
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

/// Whether a person has accepted that loss, and not too long ago.
fn may_lose(plan: &RestorePlan, rows: u64, is_old: bool) -> Result<(), Stop> {
    let why = match (rows > plan.max_loss, is_old) {
        (false, false) => return Ok(()),
        (true, _) => format!("{} were accepted", text::count(plan.max_loss)),
        (false, true) => {
            let since = text::clock(plan.accepted_at.0);
            format!("the loss was accepted at {since}, which is too long ago")
        }
    };
    Err(Stop::Asks { rows, why })
}

/// Why it stopped, and that the database may be closed, if it may.
pub(super) fn with_closed(stop: Stop, closed: Option<Stop>) -> Stop {
    match (stop, closed) {
        (stop, None) => stop,
        (Stop::Asks { rows, why }, Some(more)) => {
            Stop::Asks { rows, why: format!("{why}; {more}") }
        }
        (stop @ (Stop::Stopping | Stop::GivenUp), Some(_)) => stop,
        (stop, Some(more)) => Stop::Stuck(format!("{stop}; {more}")),
    }
}

fn left(until: Instant) -> Duration {
    until.saturating_duration_since(Instant::now())
}
