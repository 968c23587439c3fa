//! One fact as a line of `events`: when, where in the journal, which operation, who, what.

use std::collections::BTreeMap;
use std::time::Duration;

use cutover_model::{
    Ending, Fact, Halt, LineLevel, Open, OperationId, OperationKind, Proof, ReleaseState,
    RolloutEnding, Split,
};

use super::Clock;
use crate::api::wire::Event;
use crate::text;

/// The words of actions that have begun: how one ended is recorded by its place in the plan alone.
#[derive(Debug, Default)]
pub(in crate::cli) struct Actions(BTreeMap<(OperationId, u32), &'static str>);

impl Actions {
    /// The same fact; how an action ended is told by the word that its beginning was told by.
    fn said(&mut self, fact: &Fact) -> String {
        match fact {
            Fact::ActionIntended { operation, index, action } => {
                self.0.insert((*operation, *index), action.label());
                said(fact)
            }
            Fact::ActionDone { operation, index, took_ms } => {
                let took = text::duration(Duration::from_millis(*took_ms));
                format!("{}: done in {took}", self.taken(*operation, *index))
            }
            Fact::ActionFailed { operation, index, why } => {
                format!("{}: failed: {why}", self.taken(*operation, *index))
            }
            Fact::OperationEnded { operation, .. } => {
                self.0.retain(|(of, _), _| of != operation);
                said(fact)
            }
            _ => said(fact),
        }
    }

    fn taken(&mut self, operation: OperationId, index: u32) -> String {
        let known = self.0.remove(&(operation, index));
        known.map_or_else(|| format!("action {} of its plan", index + 1), str::to_owned)
    }
}

/// `27 Nov 03:07:41  #212  o40  li  traffic: …`
pub(in crate::cli) fn event(event: &Event, clock: &Clock, actions: &mut Actions) -> String {
    let happened = &event.happened;
    let seq = event.seq.map_or_else(String::new, |seq| format!("#{seq}"));
    let operation = happened.operation.map_or_else(String::new, |o| o.to_string());
    let said = actions.said(&happened.fact);
    let mut lines = said.lines();
    let first = lines.next().unwrap_or_default();
    let (at, actor) = (clock.full(happened.at.0), &happened.actor.0);
    let mut whole = format!("{at:<15}  {seq:<6} {operation:<5} {actor:<8} {first}");
    for line in lines {
        whole.push_str("\n                                        ");
        whole.push_str(line);
    }
    whole.trim_end().to_owned()
}

/// What a fact says, in words.
pub(in crate::cli) fn said(fact: &Fact) -> String {
    match fact {
        Fact::AppDefined { stable, .. } => format!("the app is known; {stable} serves first"),
        Fact::OperationStarted { what, .. } => asked(what),
        Fact::OperationEnded { ending, .. } => ended(ending),
        Fact::ActionIntended { action, .. } => format!("{}: begins", action.label()),
        Fact::ActionDone { took_ms, .. } => {
            format!("done in {}", text::duration(Duration::from_millis(*took_ms)))
        }
        Fact::ActionFailed { why, .. } => format!("failed: {why}"),
        Fact::ReleaseRemade { release, color, .. } => {
            format!("{release} is made again in {color}")
        }
        Fact::ReleaseMade { release } => {
            format!("{} made in {}: {}", release.id, release.color, release.label())
        }
        Fact::ReleaseIs { release, state } => format!("{release} is {}", state_word(*state)),
        Fact::ReleaseProven { release } => format!("{release} proved itself: it serves everyone"),
        Fact::ReleaseRejected { release, operation } => {
            format!("{release} was taken back by {operation}")
        }
        Fact::ReleaseCleared { release } => format!("{release} may serve again"),
        Fact::RolloutStarted { release, steps, .. } if steps.is_empty() => {
            format!("rollout of {release} begins, without steps")
        }
        Fact::RolloutStarted { release, steps, .. } => {
            let steps: Vec<String> = steps.iter().map(|step| step.weight.to_string()).collect();
            format!("rollout of {release} begins: {}", steps.join(", "))
        }
        Fact::SplitChanged { before, after, .. } => {
            format!("traffic: {}, before: {}", split(*after), split(*before))
        }
        Fact::RolloutEnded { ending } => match ending {
            RolloutEnding::Promoted => "the rollout ends: it serves everyone".to_owned(),
            RolloutEnding::Aborted => "the rollout ends: given up".to_owned(),
            RolloutEnding::RolledBack => "the rollout ends: rolled back".to_owned(),
        },
        Fact::Line { level, label, text, .. } => {
            let loud = if *level == LineLevel::Error { "ERROR " } else { "" };
            let label = if label.is_empty() { String::new() } else { format!("{label}: ") };
            format!("{loud}{label}{text}")
        }
        Fact::PortsTaken { rule } => {
            let ports: Vec<String> = rule.ports().iter().map(ToString::to_string).collect();
            format!("new connections on {} come through the proxy", ports.join(", "))
        }
        Fact::PortsGiven => "ports given back".to_owned(),
        Fact::GateClosed { maintenance } => sent_away(&maintenance.allow),
        Fact::GateOpened => "maintenance is over: clients are served".to_owned(),
        Fact::RollbackSet { .. } | Fact::RollbackUnset { .. } => later(fact),
        Fact::Noted { text, .. } => format!("note: {text}"),
        Fact::RestorePlanned { .. }
        | Fact::RestoreReached { .. }
        | Fact::RestoreStacks { .. }
        | Fact::RestoreHalted { .. }
        | Fact::RestoreResumed { .. }
        | Fact::AsideKept { .. }
        | Fact::AsideGone { .. }
        | Fact::RestoreWatched { .. }
        | Fact::PointMade { .. }
        | Fact::PointGone { .. } => restored(fact),
        Fact::MigrationTried { .. }
        | Fact::MigrationBegun { .. }
        | Fact::MigrationDone { .. }
        | Fact::MigrationUndone { .. } => migrated(fact),
    }
}

fn sent_away(allow: &[String]) -> String {
    let text = "maintenance: clients are sent away with 503";
    match allow {
        [] => text.to_owned(),
        served => format!("{text}, but for {}", served.join(", ")),
    }
}

fn later(fact: &Fact) -> String {
    match fact {
        Fact::RollbackSet { scheduled } => format!(
            "rollback from {} to {} is set for {}",
            scheduled.from,
            scheduled.to,
            text::day(scheduled.at.0)
        ),
        Fact::RollbackUnset { why } => format!("no rollback is set any more: {why}"),
        _ => String::new(),
    }
}

fn migrated(fact: &Fact) -> String {
    match fact {
        Fact::MigrationTried { migrated } => format!(
            "the migrations of {} were tried on a copy: {}: {}",
            migrated.release,
            migrated.names.join(", "),
            migrated.told()
        ),
        Fact::MigrationBegun { release } => format!("the migrations of {release} are applied now"),
        Fact::MigrationDone { release, names } if names.is_empty() => {
            format!("{release} had no migration to apply")
        }
        Fact::MigrationDone { release, names } => {
            format!("{release} has applied {}", names.join(", "))
        }
        Fact::MigrationUndone { release, operation } => {
            format!("{operation} took the migrations of {release} back")
        }
        _ => String::new(),
    }
}

fn restored(fact: &Fact) -> String {
    match fact {
        Fact::RestorePlanned { plan, .. } => format!(
            "agreed: {} into \"{}\", at most {} rows lost",
            plan.source, plan.database, plan.max_loss
        ),
        Fact::RestoreReached { stage, .. } => format!("{}: begins", stage.label()),
        Fact::RestoreStacks { started, stopped, .. } => {
            let both = [(started, "started"), (stopped, "stopped")];
            let said = both.iter().filter_map(|(release, does)| {
                release.map(|release| format!("{release} is {does} for the exchange"))
            });
            said.collect::<Vec<_>>().join("; ")
        }
        Fact::RestoreHalted { halt, .. } => match halt {
            Halt::Asks { rows, why, .. } => format!("waits: {rows} rows would be lost: {why}"),
            Halt::Stuck { why } => format!("STUCK: {why}"),
            Halt::Waits => "waits for a person: the daemon was started so".to_owned(),
        },
        Fact::RestoreResumed { max_loss: Some(rows), .. } => {
            format!("goes on; at most {rows} rows may be lost")
        }
        Fact::RestoreResumed { .. } => "goes on".to_owned(),
        Fact::AsideKept { aside, .. } => {
            format!("\"{}\" is kept as \"{}\"", aside.database, aside.name)
        }
        Fact::AsideGone { operation } => format!("what {operation} put aside is gone"),
        Fact::RestoreWatched { watched, .. } => match (watched.ended, watched.failed) {
            (None, _) => format!("watched: fails: {}", watched.wrong.join("; ")),
            (Some(_), None) => "watched to the end: nothing failed".to_owned(),
            (Some(_), Some(at)) => {
                format!("watched to the end: failed first at {}", text::clock(at.0))
            }
        },
        Fact::PointMade { point } => {
            format!("restore point before {} is \"{}\"", point.release, point.name)
        }
        Fact::PointGone { release } => format!("the restore point before {release} is gone"),
        _ => String::new(),
    }
}

fn asked(what: &OperationKind) -> String {
    match what {
        OperationKind::Deploy { release } => format!("deploy of {release}"),
        OperationKind::Shift { weight } => format!("shift to {weight}"),
        OperationKind::Rollback { to, from, manner } => {
            let from = from.map_or_else(String::new, |from| format!(" from {from}"));
            let force = if manner.proof == Proof::Waived { ", by force" } else { "" };
            let open = if manner.open == Open::Cut { ", open requests cut" } else { "" };
            format!("rollback{from} to {to}{force}{open}")
        }
        OperationKind::Remake { release, from, parts, .. } => {
            let from = from.map_or_else(String::new, |from| format!(" from {from}"));
            format!("rollback{from} to {release}, made of {}", parts.told())
        }
        OperationKind::MigrateDown { release } => format!("down scripts of {release}"),
        OperationKind::Undo { operation } => format!("undo {operation}"),
        OperationKind::Upkeep { upkeep } => upkeep.to_string(),
        OperationKind::Restore { source, to } => format!("restore of {source}; {to} serves on it"),
        OperationKind::Adopt
        | OperationKind::Leave
        | OperationKind::Next
        | OperationKind::Promote
        | OperationKind::Abort => what.as_str().to_owned(),
    }
}

fn ended(ending: &Ending) -> String {
    match ending {
        Ending::Done => "done".to_owned(),
        Ending::Failed(why) => format!("FAILED: {why}"),
        Ending::Refused(why) => format!("refused: {why}"),
        Ending::GivenUp => "given up".to_owned(),
        Ending::Overtaken => "overtaken by a later rollback".to_owned(),
        Ending::Interrupted => "interrupted by the daemon's end".to_owned(),
    }
}

fn state_word(state: ReleaseState) -> &'static str {
    match state {
        ReleaseState::Starting => "being started",
        ReleaseState::Warm => "warm",
        ReleaseState::Stopped => "stopped",
        ReleaseState::Gone => "gone",
        ReleaseState::Failed => "failed",
    }
}

fn split(split: Split) -> String {
    match split.sole() {
        Some(color) => format!("all to {color}"),
        None => format!("{} to {}", split.weight, split.canary()),
    }
}
