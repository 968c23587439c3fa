//! A rollback that is set for later: set, taken back, and carried out when its time has come.
//!
//! It is in the journal, so that it outlives the daemon; what is carried out is the same rollback
//! that a person would type. The clock on the wall is looked at once a second.

use std::sync::Arc;
use std::time::Duration;

use cutover_model::{
    Actor, AppKind, AppState, Color, Due, Fact, Input, LineLevel, Manner, Millis, OperationId,
    Refusal, ReleaseId, ReleaseState, Scheduled,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::super::{App, Failure, now};
use crate::text;

/// How often the clock is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// How long after a start nothing is carried out.
const FIRST: Duration = Duration::from_secs(3);
/// Further away is a mistake in the year.
const FAR_MS: i64 = 31 * 24 * 60 * 60 * 1_000;

impl App {
    /// Sets a rollback for later; what was set before is replaced.
    ///
    /// # Errors
    /// [`Failure`]: the time is not in the next 31 days, or the rollback would be refused now.
    pub async fn schedule_rollback(
        self: &Arc<Self>,
        at: Millis,
        (to, manner): (Option<ReleaseId>, Manner),
        by: Actor,
    ) -> Result<Scheduled, Failure> {
        let set_at = now();
        if at <= set_at {
            let way = "write a later one; without --at it happens at once";
            return Err(Failure::Impossible(format!("{} is past: {way}", text::day(at.0))));
        }
        if at.0 - set_at.0 > FAR_MS {
            let why = format!("{} is more than a month away", text::day(at.0));
            return Err(Failure::Impossible(why));
        }
        let planned = self.preview_rollback(Input::Rollback { to, manner }).await?;
        let state = self.state();
        // In a rollout the canary loses what it has; else who serves everyone.
        let from = match state.split.sole() {
            Some(color) => *state.colors.get(color),
            None => state.standby().filter(|canary| *canary != planned.release).or(state.stable()),
        };
        let Some(from) = from.filter(|from| *from != planned.release) else {
            let release = planned.release;
            return Err(Failure::Refused(Refusal::AlreadyThere { release, since: None }));
        };
        let scheduled = Scheduled { at, to: planned.release, from, manner, by: by.clone(), set_at };
        let _turn = self.schedule_turn.lock().await;
        self.record(by, vec![Fact::RollbackSet { scheduled: Box::new(scheduled.clone()) }]).await?;
        Ok(scheduled)
    }

    /// Takes back what was set; it, or `None`: nothing was.
    ///
    /// # Errors
    /// [`Failure`]: it cannot be recorded, so it stays.
    pub async fn unschedule_rollback(&self, by: Actor) -> Result<Option<Scheduled>, Failure> {
        // One that is being carried out now is waited for: it cannot be taken back any more.
        let _turn = self.schedule_turn.lock().await;
        let Some(scheduled) = self.state().scheduled else { return Ok(None) };
        let why = format!("{} took it back", by.0);
        self.record(by, vec![Fact::RollbackUnset { why }]).await?;
        Ok(Some(scheduled))
    }

    /// Carries out what is set, when its time has come, until the daemon stops.
    pub(in crate::controller) async fn tend_schedule(self: Arc<Self>, stop: CancellationToken) {
        // At a start it is first found out what runs.
        let mut look = tokio::time::interval_at(Instant::now() + FIRST, LOOK);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = look.tick() => {}
            }
            let mut told = self.schedule_turn.lock().await;
            let state = self.state();
            let Some(scheduled) = state.scheduled.clone() else { continue };
            match scheduled.due(&state, now()) {
                Due::NotYet => {}
                Due::Over(why) => self.drop_schedule(&scheduled, &why),
                Due::Done(operation) => self.unset(operation),
                // Known as running, and nothing of it is there: that is about to be found out.
                Due::Now if self.is_unseen(&state, scheduled.to) => {}
                Due::Now => self.carry_out_scheduled(&scheduled, &mut told).await,
            }
        }
    }

    fn is_unseen(&self, state: &AppState, release: ReleaseId) -> bool {
        let place = Color::BOTH.into_iter().find(|c| *state.colors.get(*c) == Some(release));
        state.kind == AppKind::Compose
            && state.release_state(release) == ReleaseState::Warm
            && place.is_some_and(|color| self.endpoints().get(color).values().all(Vec::is_empty))
    }

    async fn carry_out_scheduled(
        self: &Arc<Self>,
        scheduled: &Scheduled,
        told: &mut Option<Millis>,
    ) {
        let (input, request) = (scheduled.input(), scheduled.request());
        let asked = match self.engine_is_away(scheduled.to).await {
            Some(why) => Err(Failure::Away(why)),
            None => self.roll_back(input, scheduled.by.clone(), Some(request)).await,
        };
        // CRASH: it happened and is still set; the next look finds that there is nothing to lose.
        crate::crash::point("schedule.done");
        match asked {
            Ok(answer) => self.unset(answer.operation),
            Err(Failure::Stopping) => {}
            // A deploy, a full disk, Docker away: it is tried again until it is too late.
            Err(failure) if failure.may_pass() => {
                if *told != Some(scheduled.set_at) {
                    *told = Some(scheduled.set_at);
                    let text = format!("the rollback to {} waits: {failure}", scheduled.to);
                    self.say(None, LineLevel::Note, "rollback", text);
                }
            }
            Err(failure) => self.drop_schedule(scheduled, &failure.to_string()),
        }
    }

    fn unset(&self, operation: OperationId) {
        let why = format!("{operation} carries it out");
        self.note(&Actor::daemon(), vec![Fact::RollbackUnset { why }]);
    }

    /// It is not carried out any more, and that is told.
    fn drop_schedule(&self, scheduled: &Scheduled, why: &str) {
        let Scheduled { at, to, .. } = scheduled;
        let what = format!("the rollback to {to} that was set for {}", text::day(at.0));
        let state = self.state();
        let sole = state.split.sole().and_then(|color| *state.colors.get(color));
        let (level, line) = match sole == Some(*to) {
            true => {
                (LineLevel::Note, format!("{what} has nothing left to do: {to} serves already"))
            }
            false => {
                let way = format!("if it is still wanted: cutover rollback --to {to}");
                (LineLevel::Error, format!("{what} is not carried out: {why}\n{way}"))
            }
        };
        self.note(&Actor::daemon(), vec![Fact::RollbackUnset { why: why.to_owned() }]);
        self.say(None, level, "rollback", line);
    }
}
