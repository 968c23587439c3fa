//! After a restore: the checks are made again and again for a while, and what fails is said once.
//!
//! Nothing is undone by it: an undo loses what was written since, and that is a person's to accept.
//! What is known stands in the journal, so a watch goes on after a restart of the daemon.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cutover_model::restore::{Watch, Watched, watch};
use cutover_model::{Actor, Aside, Fact, LineLevel, Millis, OperationId};
use tokio_util::sync::CancellationToken;

use super::super::{App, now};
use crate::reconciler::ask_once;
use crate::text;

/// How often the clock is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// Between a failure and the second look that makes it one.
const AGAIN: Duration = Duration::from_secs(2);
/// How many times the checks are made in one watch.
const TIMES: u32 = 10;
/// They are made at most and at least this often.
const BETWEEN: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(60)];

impl App {
    /// Watches what restores made live, until the daemon stops.
    pub(in crate::controller) async fn tend_watches(self: Arc<Self>, stop: CancellationToken) {
        // When each is looked at next, and how often it was; the first time one interval after the
        // restore's own checks.
        let mut next: BTreeMap<OperationId, (Millis, u32)> = BTreeMap::new();
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = look.tick() => {}
            }
            let watches = self.watches();
            next.retain(|operation, _| watches.iter().any(|(known, ..)| known == operation));
            for (operation, aside, watch) in watches {
                let between = i64::try_from(self.watch_interval().as_millis()).unwrap_or(i64::MAX);
                let first = (Millis(aside.since.0 + between), 0);
                let (due, looks) = *next.entry(operation).or_insert(first);
                if watch == Watch::Last || due <= now() {
                    let looks = looks + 1;
                    tokio::select! {
                        () = stop.cancelled() => return,
                        () = self.look_after(operation, &aside, (watch, looks)) => {}
                    }
                    next.insert(operation, (Millis(now().0 + between), looks));
                }
            }
        }
    }

    /// The restores whose data is watched now; none while something else changes what is live.
    fn watches(&self) -> Vec<(OperationId, Aside, Watch)> {
        let most = self.watch_ms();
        let state = self.state();
        if most == 0 || state.changing().is_some() || !self.has_checks() {
            return Vec::new();
        }
        // What an earlier one made is not live any more, whether the newest is watched or not.
        let Some((operation, aside)) = state.live_restore() else { return Vec::new() };
        match watch(aside.since, aside.watched.as_ref(), most, now()) {
            Watch::Over => Vec::new(),
            watch => vec![(operation, aside.clone(), watch)],
        }
    }

    /// How long restored data is watched, in milliseconds; 0: it is not.
    #[must_use]
    pub fn watch_ms(&self) -> i64 {
        let most = self.settings().database.as_ref().map_or(Duration::ZERO, |d| d.watch);
        i64::try_from(most.as_millis()).unwrap_or(i64::MAX)
    }

    /// What a restore says of the watch that follows; empty: there is none.
    pub(super) fn watch_text(&self) -> String {
        let most = self.watch_ms();
        if most == 0 || !self.has_checks() {
            return String::new();
        }
        let for_ = how_long(most);
        format!("watch       its checks are repeated for {for_}: cutover status, events")
    }

    fn watch_interval(&self) -> Duration {
        let most = self.settings().database.as_ref().map_or(Duration::ZERO, |d| d.watch);
        (most / TIMES).clamp(BETWEEN[0], BETWEEN[1])
    }

    /// Whether the operator's file names anything that could fail.
    #[must_use]
    pub fn has_checks(&self) -> bool {
        let settings = self.settings();
        let integrity = settings.database.as_ref().map_or(0, |d| d.integrity.len());
        integrity + settings.smoke.len() > 0
    }

    /// Makes the checks once, and says what is new in it.
    async fn look_after(
        &self,
        operation: OperationId,
        aside: &Aside,
        (watch, looks): (Watch, u32),
    ) {
        let mut wrong = self.wrong_now().await;
        if !wrong.is_empty() {
            // A pool that lost a connection, a server that was restarted: once is no failure yet.
            tokio::time::sleep(AGAIN).await;
            wrong = self.wrong_now().await;
        }
        // It may have been undone, or begun to be, while the checks were made.
        let state = self.state();
        if state.changing().is_some() || !state.asides.contains_key(&operation) {
            return;
        }
        let mut watched = aside.watched.clone().unwrap_or_default();
        let is_new = watched.failed.is_none() && !wrong.is_empty();
        if is_new {
            (watched.failed, watched.wrong) = (Some(now()), wrong.clone());
            self.say_failing(operation, aside, &wrong);
        }
        let passes_again = watched.failed.is_some() && wrong.is_empty();
        let is_turned = passes_again != watched.passes_again;
        watched.passes_again = passes_again;
        if watch == Watch::Last {
            watched.ended = Some(now());
            self.say_watched(operation, &watched, (looks, &wrong));
        }
        if is_new || is_turned || watch == Watch::Last {
            let fact = Fact::RestoreWatched { operation, watched: Box::new(watched) };
            self.note(&Actor::daemon(), vec![fact]);
        }
    }

    /// What fails now: the probe of what serves, its smoke probes, the integrity queries.
    async fn wrong_now(&self) -> Vec<String> {
        let color = self.state().split.leading();
        let mut wrong = Vec::new();
        match self.probe_target(color).await {
            Ok(Some(target)) => {
                if let Err(why) = ask_once(&target).await {
                    wrong.push(format!("{} does not answer as it should: {why}", target.path));
                }
            }
            Ok(None) => {}
            Err(why) => wrong.push(format!("what serves cannot be asked: {why}")),
        }
        let (proved, troubles) = Box::pin(self.prove(color)).await;
        wrong.extend(proved.wrong());
        wrong.extend(troubles);
        wrong
    }

    fn say_failing(&self, operation: OperationId, aside: &Aside, wrong: &[String]) {
        let since = text::clock(aside.since.0);
        let text = format!(
            "on the data that {operation} put back:\n{}\nNothing is undone by itself. Data of \
             before it: cutover undo {operation}      loses what is written after {since}; counts \
             it first",
            wrong.join("\n")
        );
        self.say(Some(operation), LineLevel::Error, "watch", text);
    }

    fn say_watched(
        &self,
        operation: OperationId,
        watched: &Watched,
        (looks, wrong): (u32, &[String]),
    ) {
        let for_ = how_long(self.watch_ms());
        let (level, text) = match (watched.failed, wrong.is_empty()) {
            // A restart, or an operation in between: what nobody looked at is not called good.
            (None, _) if looks < TIMES / 2 => {
                let times = if looks == 1 { "once".to_owned() } else { format!("{looks} times") };
                let text = format!("looked at {times} in {for_}: nothing failed then");
                (LineLevel::Note, text)
            }
            (None, _) => (LineLevel::Step, format!("watched {for_}: nothing failed")),
            (Some(at), true) => {
                let at = text::clock(at.0);
                (LineLevel::Note, format!("watched {for_}: failed at {at}, and passes now"))
            }
            (Some(at), false) => {
                let at = text::clock(at.0);
                let text = format!("watched {for_}: fails since {at}:\n{}", wrong.join("\n"));
                (LineLevel::Error, text)
            }
        };
        self.say(Some(operation), level, "watch", text);
    }
}

/// `5 min`, `20 s`.
fn how_long(millis: i64) -> String {
    let text = text::duration(Duration::from_millis(millis.unsigned_abs()));
    text.strip_suffix(" 0 s").map_or(text.clone(), str::to_owned)
}
