//! How a restore ends: settled on the restored data, waiting for a person, or put back.

use std::sync::Arc;
use std::time::Duration;

use cutover_model::restore::{self, Restore, Side};
use cutover_model::{
    Actor, Ending, Fact, Halt, LineLevel, OperationId, RestorePlan, Source, Stage,
};

use super::super::App;
use super::super::gate::HoldLimits;
use super::{Stop, exchange};
use crate::reconciler::database::Database;
use crate::text;

impl App {
    /// What was restored is in place: what only waited to be stopped is stopped, and it is watched.
    pub(super) async fn settle_restore(
        self: &Arc<Self>,
        operation: OperationId,
        plan: &RestorePlan,
        database: &Database,
    ) -> Result<(), Stop> {
        self.reached(operation, Stage::Settle).await?;
        if let Some(project) = self.idle_project(plan)
            && let Err(trouble) = database.kill(&project).await
        {
            self.say(Some(operation), LineLevel::Error, "stop", trouble.to_string());
        }
        self.restoring().frozen = None;
        if let Err(trouble) = database.finish(plan).await {
            self.say(Some(operation), LineLevel::Error, "database", trouble.to_string());
        }
        let color = self.state().split.stable;
        if let Err(why) = self.move_singletons(operation, color).await {
            self.say(Some(operation), LineLevel::Error, "singletons", why);
        }
        if let Source::Aside { operation } = plan.source {
            // What it had put aside is the live one now.
            self.note(&Actor::daemon(), vec![Fact::AsideGone { operation }]);
        }
        let serves = self.state().standing(plan.to).map_or(color, |s| s.release.color);
        self.say_check(operation, (plan.to, serves), "4/4 check").await;
        self.say(Some(operation), LineLevel::Step, "", self.restored_text(operation, plan));
        let ended = Fact::OperationEnded { operation, ending: Ending::Done };
        self.note(&Actor::daemon(), vec![ended]);
        Ok(())
    }

    fn restored_text(&self, operation: OperationId, plan: &RestorePlan) -> String {
        let state = self.state();
        let (to, from) = (plan.to, plan.from);
        let label = |release| {
            let standing = state.standing(release);
            standing.map_or_else(String::new, |s| format!(" ({})", s.release.label()))
        };
        let aside = state.asides.get(&operation);
        let rows = aside.map_or(0, |aside| aside.rows);
        let before = from.map_or_else(|| "-".to_owned(), |from| format!("{from}{}", label(from)));
        let data = text::day(plan.data_of.0);
        let lines = [
            format!("DONE ({operation}). Users are on {to}, data of {data}."),
            format!("before      {before}, database of today"),
            format!("now         {to}{}, its images, its env files", label(to)),
            format!("set aside   database {}, {} rows", plan.aside, text::count(rows)),
            format!(
                "undo        cutover undo {operation}      loses what is written after {}; counts \
                 it first",
                text::clock(aside.map_or(0, |aside| aside.since.0))
            ),
            self.watch_text(),
            format!(
                "lost rows   cutover db export {operation} --csv      for the people who enter \
                 them again"
            ),
            format!(
                "tidy up     cutover db retire {operation}      only when you are sure; until then \
                 it is kept"
            ),
        ];
        let lines = lines.into_iter().filter(|line| !line.is_empty());
        lines.collect::<Vec<_>>().join("\n")
    }

    /// How a restore that did not reach its end is left.
    pub(in crate::controller) async fn end_restore(
        self: &Arc<Self>,
        operation: OperationId,
        stop: Stop,
    ) {
        self.open_gate(operation).await;
        let (why, ending) = match stop {
            Stop::Stopping => return self.task_over(operation),
            Stop::Asks { rows, why } => {
                let a_minute = self.written_a_minute(operation).await;
                return self.halt(operation, Halt::Asks { rows, why, a_minute }).await;
            }
            Stop::Stuck(why) => return self.halt(operation, Halt::Stuck { why }).await,
            Stop::Refused(why) => (why.clone(), Ending::Refused(why)),
            Stop::Failed(why) => (why.clone(), Ending::Failed(why)),
            Stop::GivenUp => ("it was given up".to_owned(), Ending::GivenUp),
        };
        match self.take_back(operation).await {
            Ok(kept) => {
                let text = format!("{why}\nThe database is as it was. {kept}");
                let level = match ending {
                    Ending::GivenUp => LineLevel::Note,
                    _ => LineLevel::Error,
                };
                let label = if level == LineLevel::Error { "failed" } else { "" };
                self.say(Some(operation), level, label, text.trim_end());
                self.task_over(operation);
                let ended = Fact::OperationEnded { operation, ending };
                self.note(&Actor::daemon(), vec![ended]);
            }
            Err(Stop::Stuck(more) | Stop::Failed(more) | Stop::Refused(more)) => {
                let why = format!("{why}; and it cannot be put back: {more}");
                self.halt(operation, Halt::Stuck { why }).await;
            }
            Err(_) => self.halt(operation, Halt::Stuck { why }).await,
        }
    }

    /// Exchanges back where that was done, and removes what was made for it.
    async fn take_back(self: &Arc<Self>, operation: OperationId) -> Result<String, Stop> {
        let restore = self.state().restores.get(&operation).cloned();
        let Some(Restore { plan, stage: Some(_), .. }) = restore else {
            // Nothing was begun, so nothing is there.
            return Ok(String::new());
        };
        let database = self.open_again(operation).await?;
        let seen = database.look(&plan).await?;
        let side = restore::side(&plan, &seen)?;
        self.note_side(operation, &plan, side);
        match side {
            Side::Before => self.unfreeze(operation, &plan, &database).await,
            Side::After => {
                let most = Duration::from_millis(plan.max_hold_ms);
                let hold = self.hold(HoldLimits::within(most), most + exchange::LEASE_GRACE).ok();
                let back = self.exchange_back(operation, &plan, &database, (None, hold.as_ref()));
                let back = back.await;
                if let Some(hold) = hold {
                    hold.release().await;
                }
                back.map_err(Stop::Stuck)?;
            }
        }
        if let Err(trouble) = database.sweep().await {
            tracing::warn!(%operation, %trouble, "half a dump may be left");
        }
        let dropped = database.drop_candidate(&plan).await?;
        let stacks = self.stacks_back(operation, &database).await;
        Ok(format!("{dropped} {stacks}").trim().to_owned())
    }
}
