//! What a command that moves traffic says: its first line, what stands right below, its last lines.

use std::time::Duration;

use cutover_model::Weight;

use super::{Clock, ways_lines};
use crate::api::wire::{AppStatus, Done, Problem, Recorded, Side};
use crate::text;

/// Below a first line, whose time has a fraction.
pub(super) const BELOW: &str = "              ";

/// The first line, and what belongs right below it.
pub(in crate::cli) fn first_lines(done: &Done, clock: &Clock) -> String {
    let mut lines = vec![format!("{}  {}", clock.exact(done.at), first(done))];
    lines.extend(done.remarks.iter().map(|remark| format!("{BELOW}{remark}")));
    lines.extend(not_recorded(&done.recorded));
    lines.join("\n")
}

/// What belongs right below a first line whose change is not in the journal.
pub(super) fn not_recorded(recorded: &Recorded) -> Vec<String> {
    match recorded {
        Recorded::Journal => Vec::new(),
        Recorded::WeightsOnly { why } => vec![
            format!("{BELOW}Not in the journal yet: {why}."),
            format!("{BELOW}It is on disk in the weights file: a restart keeps it."),
        ],
        Recorded::MemoryOnly { why } => vec![
            format!("{BELOW}NOT RECORDED YET: {why}."),
            format!("{BELOW}If the daemon were killed now, it would be taken back."),
        ],
    }
}

fn first(done: &Done) -> String {
    let (serves, standby) = (&done.serves, &done.standby);
    let Some(moved) = &done.moved else {
        return begun(done);
    };
    let took = text::duration(Duration::from_micros(moved.took_us));
    if serves.weight == Weight::FULL {
        let other = match standby.release {
            Some(_) => format!("; {} gets nothing new", name(standby)),
            None => String::new(),
        };
        return format!("DONE: all traffic is on {}{other}. {took}.", name(serves));
    }
    // The newer of the two is the one that people watch.
    let (canary, stable) = match serves.release > standby.release {
        true => (serves, standby),
        false => (standby, serves),
    };
    let (share, canary, stable) = (canary.weight, name(canary), name(stable));
    format!("DONE: {share} of the clients are on {canary}; {stable} serves the others. {took}.")
}

/// The same line, from a look at what is.
pub(in crate::cli) fn serves_all(app: &AppStatus, now: i64, clock: &Clock) -> String {
    let at = app.last_move.as_ref().map_or(now, |moved| moved.at);
    let (weight, name) = (app.serves.weight, name(&app.serves));
    match weight {
        Weight::FULL => format!("{}  DONE: all traffic is on {name}.", clock.exact(at)),
        _ => format!("{}  {weight} of the traffic is on {name}.", clock.exact(at)),
    }
}

/// An operation that has not moved traffic (yet).
fn begun(done: &Done) -> String {
    let operation = done.operation;
    match done.what.as_str() {
        "deploy" => {
            let serves = match done.serves.release {
                Some(_) => format!("{} serves.", name(&done.serves)),
                None => "Nothing serves yet.".to_owned(),
            };
            let view = "Ctrl-C leaves this view, the deploy goes on.";
            let color = done.standby.color;
            format!("{operation}: a new release goes to {color}. {serves}\n{view}")
        }
        "abort" => {
            format!("{operation}: the rollout is ended. {} serves everyone.", name(&done.serves))
        }
        "rollback" if done.cuts_only => {
            let (serves, standby) = (name(&done.serves), name(&done.standby));
            format!("{operation}: {serves} has all traffic already; {standby} loses what is open.")
        }
        "adopt" => format!("{operation}: taking over. Ctrl-C leaves this view, it goes on."),
        "migrate down" => {
            format!("{operation}: tried on a copy first. Ctrl-C leaves this view, it goes on.")
        }
        "leave" => format!("{operation}: giving back. Ctrl-C leaves this view, it goes on."),
        "backup" | "backup verify" | "backup prune" | "backup import" | "backup restore"
        | "db retire" | "drill" => {
            format!("{operation}: {}. Ctrl-C leaves this view, it goes on.", done.what)
        }
        what => format!("{operation} ({what}) is accepted; traffic has not moved yet."),
    }
}

/// `r5 (v1.4.1)`, or the color when nothing is in it.
pub(super) fn name(side: &Side) -> String {
    match (side.release, side.label.as_str()) {
        (Some(release), "") => release.to_string(),
        (Some(release), label) => format!("{release} ({label})"),
        (None, _) => side.color.to_string(),
    }
}

/// The last lines of a command that ended well: what was not done, how to take it back, what next.
/// `left`: what the daemon knows of the data that stays.
pub(in crate::cli) fn last_lines(done: &Done, left: Option<&str>) -> String {
    let operation = done.operation;
    let standby = match done.standby.release {
        Some(release) => release.to_string(),
        None => done.standby.color.to_string(),
    };
    match done.what.as_str() {
        "rollback" | "abort" => format!(
            "{}\n\
             Undo this:  cutover undo {operation}          \
             Say why, any time:  cutover note {operation} \"...\"",
            not_rolled_back(done, left)
        ),
        "adopt" => "From now on \"cutover deploy\" replaces \"docker compose up\".\n\
                    Next:  cutover deploy          Way back:  cutover leave"
            .to_owned(),
        "deploy" | "leave" | "migrate down" => String::new(),
        "backup" => "All of them:  cutover backup list          Can it be restored?  cutover drill"
            .to_owned(),
        "backup verify" | "backup prune" | "backup import" | "backup restore" | "db retire"
        | "drill" => String::new(),
        "undo" => format!("Back again:  cutover undo {operation}"),
        _ if done.serves.weight == Weight::FULL => match &done.rollback {
            Some(back) if back.instant => format!(
                "{standby} stays warm until the next deploy: \"cutover rollback\" is instant and \
                 loses no data."
            ),
            Some(back) => format!("\"cutover rollback\" from here: {}", back.text),
            None => String::new(),
        },
        _ => {
            let next = done.next_weights.first().copied().unwrap_or(Weight::FULL);
            format!(
                "Next:  cutover next ({next})    all at once: cutover promote    \
                 back: cutover rollback"
            )
        }
    }
}

/// What no rollback of traffic takes back, and what it would take to do so.
fn not_rolled_back(done: &Done, left: Option<&str>) -> String {
    let left = left.map_or(String::new(), |left| format!(" {left}."));
    match done.has_database {
        true => format!(
            "NOT rolled back: the database.{left}\n  \
             what would it cost?    cutover rollback --database --dry-run\n  \
             stop all writes now    cutover maintenance on"
        ),
        false => {
            format!("NOT rolled back: the database, volumes, and what was sent to others.{left}")
        }
    }
}

/// "It is so already", and the way forward again.
pub(in crate::cli) fn nothing_to_do(problem: &Problem) -> String {
    let mut text = problem.message.clone();
    if !text.ends_with('.') {
        text.push('.');
    }
    for line in ways_lines(&problem.ways) {
        text.push_str("\n  ");
        text.push_str(&line);
    }
    text
}
