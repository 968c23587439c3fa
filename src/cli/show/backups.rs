//! Backups as a person reads them: the list, what the rule lets go, what is about to be dropped.

use super::Clock;
use crate::api::wire::{Backup, Backups, Prunable, RetirePlan};
use crate::text;

/// The list, newest last, where the eye is.
pub(in crate::cli) fn backups(listed: &Backups, clock: &Clock) -> String {
    let mut lines = Vec::new();
    if listed.backups.is_empty() {
        lines.push("No backup is there. Make one:  cutover backup create".to_owned());
    } else {
        lines.push(table(&listed.backups, clock));
        lines.push(format!("They lie in {}.", listed.folder));
    }
    for (path, why) in &listed.broken {
        lines.push(format!("NOT A BACKUP  {path}: {why}"));
    }
    match listed.next_at {
        Some(at) => lines.push(format!("Next one by itself: {}", clock.full(at))),
        None => lines.push(
            "None is made by itself: add backup = { schedule = \"0 3 * * *\" } to the database's \
             section"
                .to_owned(),
        ),
    }
    lines.join("\n")
}

fn table(backups: &[Backup], clock: &Clock) -> String {
    let head = row(["id", "data of", "why", "size", "release", "read back", "kept as", "copy"]);
    let mut lines = vec![head];
    for backup in backups {
        let read = match (&backup.damaged, backup.verified_at) {
            (Some(_), _) => "DAMAGED".to_owned(),
            (None, Some(at)) => clock.day(at),
            (None, None) => "NOT".to_owned(),
        };
        let copy = match (&backup.copied, &backup.not_copied) {
            (Some((at, by)), _) => format!("{}, {by}", clock.day(*at)),
            (None, Some(_)) => "FAILED".to_owned(),
            (None, None) => "NONE".to_owned(),
        };
        let release = backup.release.map_or("-".to_owned(), |release| release.to_string());
        let form = if backup.encrypted { "encrypted" } else { "plain" };
        let (at, size) = (clock.day(backup.at), text::size(backup.bytes));
        lines.push(row([&backup.id, &at, &backup.why, &size, &release, &read, form, &copy]));
        if let Some(why) = &backup.damaged {
            lines.push(format!("       {why}"));
        }
        if let (None, Some((_, why))) = (&backup.copied, &backup.not_copied) {
            lines.push(format!("       copy: {}", why.lines().next().unwrap_or_default()));
        }
    }
    lines.join("\n")
}

fn row(cells: [&str; 8]) -> String {
    let [id, at, why, size, release, read, form, copy] = cells;
    let line =
        format!("{id:<6} {at:<13} {why:<13} {size:>7}  {release:<7} {read:<13} {form:<9} {copy}");
    line.trim_end().to_owned()
}

/// What the rule lets go.
pub(in crate::cli) fn prune_plan(plan: &Prunable, clock: &Clock) -> String {
    let Prunable { daily, weekly, monthly, .. } = plan;
    let rule = format!("{daily} days, {weekly} weeks, {monthly} months keep their newest one");
    if plan.going.is_empty() {
        return format!("Nothing to do: the rule ({rule}) keeps all {}.", plan.staying);
    }
    let freed = plan.going.iter().map(|backup| backup.bytes).sum();
    let (going, freed) = (text::number_of(plan.going.len(), "backup"), text::size(freed));
    let lines: Vec<String> =
        table(&plan.going, clock).lines().map(|line| format!("  {line}")).collect();
    format!(
        "Plan. Nothing has happened yet. The rule: {rule}.\n{}\nGone for good: {going}, {freed}. \
         {} stay.",
        lines.join("\n"),
        plan.staying
    )
}

/// What is about to be dropped.
pub(in crate::cli) fn retire_plan(plan: &RetirePlan) -> String {
    let RetirePlan { name, operation, .. } = plan;
    let size = plan.bytes.map_or(String::new(), |bytes| format!(", {}", text::size(bytes)));
    let rows = plan.rows.map_or(String::new(), |rows| {
        format!(", {} rows that the live database had not", text::count(rows))
    });
    let mut lines =
        vec!["Plan. Nothing has happened yet.".to_owned(), format!("  {name}{size}{rows}")];
    match plan.was_live {
        true => lines.extend([
            "  1  dump it, read the dump back completely; kept a month as a backup".to_owned(),
            format!("  2  drop it: \"cutover undo {operation}\" is not possible any more"),
            format!("The rows as CSV, before that:  cutover db export {operation} --csv"),
        ]),
        false => lines.push("  drop it: it is a copy of a backup, which is kept".to_owned()),
    }
    lines.join("\n")
}
