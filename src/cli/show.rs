//! Texts, made from the wire's values by pure functions: what the users get now comes first, a
//! release is named before its color, times are clock times.

mod backups;
mod clock;
mod doctor;
mod event;
mod legs;
mod maintenance;
mod migrations;
mod moves;
mod releases;
mod restore;
mod status;

use cutover_model::{LineLevel, Way};

pub(super) use backups::{backups, prune_plan, retire_plan};
pub(super) use clock::Clock;
pub(super) use doctor::{doctor, mended};
pub(super) use event::{Actions, event, said};
pub(super) use legs::{releases_diff, rollback_plan, rollback_set, rollback_taken_back};
pub(super) use maintenance::turned;
pub(super) use migrations::{down_plan, migrations};
pub(super) use moves::{first_lines, last_lines, nothing_to_do, serves_all};
pub(super) use releases::{preview, releases};
pub(super) use restore::{databases, loss_question, restore_plan};
pub(super) use status::status;

/// Where the text of a followed line begins when its time has no fraction.
const INDENT: &str = "          ";

/// `cutover: …`, then the ways on.
pub(super) fn failure(message: &str, ways: &[Way]) -> String {
    let mut text = format!("cutover: {message}");
    for line in ways_lines(ways) {
        text.push_str("\n  ");
        text.push_str(&line);
    }
    text
}

/// `command    what`, aligned.
pub(super) fn ways_lines(ways: &[Way]) -> Vec<String> {
    let width = ways.iter().map(|way| way.command.chars().count()).max().unwrap_or(0);
    let line = |way: &Way| format!("{:<width$}    {}", way.command, way.what);
    ways.iter().map(|way| line(way).trim_end().to_owned()).collect()
}

/// `03:07:41  label  text`; the further lines of a text stand below its first one.
pub(super) fn line(clock: &Clock, at: i64, level: LineLevel, label: &str, text: &str) -> String {
    let label = match (level, label) {
        (LineLevel::Error, "failed") => "FAILED",
        (_, label) => label,
    };
    let label = if label.is_empty() { String::new() } else { format!("{label:<13}  ") };
    let mut lines = text.lines();
    let mut whole = format!("{}  {label}{}", clock.time(at), lines.next().unwrap_or_default());
    for more in lines {
        whole.push('\n');
        whole.push_str(INDENT);
        whole.push_str(more);
    }
    whole.trim_end().to_owned()
}

#[cfg(test)]
mod tests;
