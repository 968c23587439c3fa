//! A restore that waits for a person: what is said of it, and that nothing is said that was not
//! seen.
//!
//! Which data is live is asked of the server where an exchange was begun: the journal says only
//! what was meant.

use std::sync::Arc;
use std::time::Duration;

use cutover_model::restore::{self, Side};
use cutover_model::{Actor, Fact, Halt, LineLevel, OperationId, RestorePlan, Source, Stage};

use super::super::App;
use crate::text;

/// How long the server may take to say which data is live: the person waits for the text.
const LOOK: Duration = Duration::from_secs(5);

/// What is known of the data where a restore halts.
struct Seen {
    /// `None`: it is not known.
    side: Option<Side>,
    /// Whether the live database may still be closed for connections.
    may_be_closed: bool,
}

impl App {
    /// It waits for a person; no request waits.
    pub(super) async fn halt(self: &Arc<Self>, operation: OperationId, halt: Halt) {
        let state = self.state();
        if let Some(restore) = state.restores.get(&operation) {
            let may_be_closed = self.may_be_closed(operation);
            let side = match restore.stage {
                // Who opens it waits for the end of this task, and users wait for that.
                Some(stage) if stage >= Stage::Swap && may_be_closed => None,
                Some(stage) if stage >= Stage::Swap => {
                    let looked = self.side_by_server(operation, &restore.plan);
                    tokio::time::timeout(LOOK, looked).await.ok().flatten()
                }
                // INVARIANT: the stage of the exchange is recorded before it is begun.
                _ => Some(Side::Before),
            };
            let seen = Seen { side, may_be_closed };
            let serves = state.serving().map_or("nothing".to_owned(), |r| r.to_string());
            let text = told(operation, &serves, (&restore.plan, &seen), &halt);
            self.say(Some(operation), LineLevel::Error, "", text);
        }
        self.task_over(operation);
        self.note(&Actor::daemon(), vec![Fact::RestoreHalted { operation, halt }]);
    }

    /// How fast a loss grows; 0 where that cannot be found out now.
    pub(super) async fn written_a_minute(&self, operation: OperationId) -> u64 {
        // Who opens the database waits for the end of this task, and users wait for that.
        if self.may_be_closed(operation) {
            return 0;
        }
        let rate = async { self.database(operation).await.ok()?.writes_a_minute().await.ok() };
        let rate = tokio::time::timeout(LOOK, rate).await.ok().flatten();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a rough figure, never below 0"
        )]
        rate.map_or(0, |rate| rate.ceil() as u64)
    }

    async fn side_by_server(&self, operation: OperationId, plan: &RestorePlan) -> Option<Side> {
        let database = self.database(operation).await.ok()?;
        let side = restore::side(plan, &database.look(plan).await.ok()?).ok()?;
        self.note_side(operation, plan, side);
        Some(side)
    }
}

/// What a person reads.
fn told(
    operation: OperationId,
    serves: &str,
    (plan, seen): (&RestorePlan, &Seen),
    halt: &Halt,
) -> String {
    let is_way_back = matches!(plan.source, Source::Aside { .. });
    let (safe, mut how, or) = match seen.side {
        Some(Side::Before) => {
            let or = match is_way_back {
                true => "ends it; the data stays as it is",
                false => "drops the copy, keeps the dump",
            };
            (", safe", format!("{serves} serves with today's data, as before"), or)
        }
        Some(Side::After) => {
            let how = format!(
                "The names are exchanged: {serves} serves with the data of {}, and what was live \
                 until then is kept in {}",
                text::day(plan.data_of.0),
                plan.aside
            );
            ("", how, "exchanges the names back; what was written since is kept")
        }
        None => {
            let how = format!("{serves} serves; whether the names were exchanged is not known");
            ("", how, "looks first: exchanged names go back, else the copy is dropped")
        }
    };
    if seen.may_be_closed {
        let closed = format!("{serves} cannot reach its database until that is open again");
        how = match seen.side {
            Some(Side::Before) => closed,
            Some(Side::After) => format!("{how}. {closed}"),
            None => format!("{closed}; whether the names were exchanged is not known"),
        };
    }
    let safe = if seen.may_be_closed { "" } else { safe };
    match halt {
        Halt::Asks { rows, why, a_minute } => {
            let growing = match a_minute {
                0 => String::new(),
                rows => format!(", growing by about {} a minute", text::count(*rows)),
            };
            format!(
                "WAITS ({operation}). {how}. No request waits.\nwhy       {why}: {} rows would be \
                 lost now{growing}\nnext      cutover continue {operation} --max-loss {}\n\
                 or        cutover abort {operation}      {or}",
                text::count(*rows),
                restore::enough(*rows, *a_minute)
            )
        }
        Halt::Stuck { why } => format!(
            "STUCK ({operation}){safe}. {how}. No request waits.\nwhy       {why}\nnext      \
             cutover continue {operation}    when that is mended: it looks, and goes on\nor        \
             cutover abort {operation}       {or}"
        ),
        Halt::Waits => format!("{operation} waits for a person"),
    }
}

#[cfg(test)]
mod tests;
