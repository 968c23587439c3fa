//! The plan of a rollback that makes a stack, and what differs between two releases.

use std::time::Duration;

use super::Clock;
use crate::api::wire::{EnvFileDiff, ReleasesDiff, RollbackPlan, RollbackSet};
use crate::text;

/// The plan, before anything happens.
pub(in crate::cli) fn rollback_plan(plan: &RollbackPlan, with_data: bool) -> String {
    let (release, takes) = (plan.release, &plan.takes);
    let serves = plan.serves.map_or("nothing".to_owned(), |serves| serves.to_string());
    let mut lines = vec!["Plan. Nothing has happened.".to_owned()];
    if plan.actions.is_empty() {
        lines.push(format!("  1  traffic    all to {release}, whose stack is there"));
    } else {
        lines.push(format!("{serves} serves until {release} is ready; nothing of it is touched."));
        for (number, action) in (1..).zip(&plan.actions) {
            lines.push(format!("  {number}  {action}"));
        }
        let last = plan.actions.len() + 1;
        lines.push(format!("  {last}  traffic    all to {release}; {serves} stays warm"));
    }
    lines.push(format!("Until traffic is there: {takes}."));
    if !with_data {
        lines.push("NOT rolled back: the database, volumes, and what was sent to others.".into());
    }
    lines.join("\n")
}

/// A rollback that is set for later.
pub(in crate::cli) fn rollback_set(set: &RollbackSet, clock: &Clock) -> String {
    let RollbackSet { to, from, at, now, .. } = set;
    let millis = u64::try_from(at - now).unwrap_or(0);
    let in_ = text::duration(Duration::from_millis(millis));
    format!(
        "{to} gets all traffic at {}, in {in_}, in the place of {from}. Nothing has changed yet.\n\
         It holds over restarts, and is over if {from} has no traffic any more by then.\n\
         Take it back:  cutover rollback --at never",
        clock.near(*at, *now)
    )
}

/// One that was, until now.
pub(in crate::cli) fn rollback_taken_back(set: &RollbackSet, clock: &Clock) -> String {
    let RollbackSet { to, from, at, now, .. } = set;
    let at = clock.near(*at, *now);
    format!(
        "Taken back: {to} does not get the traffic of {from} at {at}. Nothing else has changed."
    )
}

/// What differs between two releases.
pub(in crate::cli) fn releases_diff(diff: &ReleasesDiff) -> String {
    let (from, to) = (diff.from, diff.to);
    let mut lines = vec![format!("{from} {}  ->  {to} {}", diff.labels.0, diff.labels.1)];
    section(&mut lines, "commits", &diff.commits);
    let short = |id: &Option<String>| {
        let id = id.as_deref().unwrap_or("none");
        id.strip_prefix("sha256:").unwrap_or(id).chars().take(12).collect::<String>()
    };
    let images: Vec<String> = diff
        .images
        .iter()
        .map(|image| format!("{}  {} -> {}", image.service, short(&image.from), short(&image.to)))
        .collect();
    section(&mut lines, "images", &images);
    match &diff.migrations {
        Some(names) => section(&mut lines, "migrations", names),
        None => lines.push("migrations  not known".to_owned()),
    }
    let env: Vec<String> = diff.env.iter().map(keys).collect();
    section(&mut lines, "env keys", &env);
    lines.extend(diff.unknown.iter().map(|what| format!("not known: {what}")));
    lines.join("\n")
}

fn keys(diff: &EnvFileDiff) -> String {
    let of = |keys: &[String], word: &str| match keys.is_empty() {
        true => None,
        false => Some(format!("{} {word}", keys.join(", "))),
    };
    let parts =
        [of(&diff.added, "added"), of(&diff.changed, "changed"), of(&diff.removed, "removed")];
    format!("{}: {}", diff.file, parts.into_iter().flatten().collect::<Vec<_>>().join("; "))
}

fn section(lines: &mut Vec<String>, name: &str, entries: &[String]) {
    match entries {
        [] => lines.push(format!("{name:<11} the same")),
        many => {
            for (at, entry) in many.iter().enumerate() {
                let name = if at == 0 { name } else { "" };
                lines.push(format!("{name:<11} {entry}"));
            }
        }
    }
}
