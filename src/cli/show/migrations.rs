//! Texts about migrations.

use crate::api::wire::{DownLine, Migrations};

/// `migrate status`.
pub(in crate::cli) fn migrations(seen: &Migrations) -> String {
    let mut lines = Vec::new();
    match &seen.applied {
        None => lines.push("What the database has cannot be read.".to_owned()),
        Some(applied) if applied.is_empty() => lines.push("The database has none.".to_owned()),
        Some(applied) => {
            let width = applied.iter().map(|line| line.name.chars().count()).max().unwrap_or(0);
            for line in applied {
                let by = line.release.map_or_else(|| "-".to_owned(), |by| by.to_string());
                let told = line.told.as_deref().unwrap_or_default();
                let text = format!("{:<width$}  {by:<4}  {told}", line.name);
                lines.push(text.trim_end().to_owned());
            }
        }
    }
    lines.push(String::new());
    lines.push(match &seen.down {
        None => "way back: none: no release brought one of these".to_owned(),
        Some(down) => match &down.impossible {
            None => format!("way back: cutover migrate down    takes {} back", down.release),
            Some(why) => format!("way back by {}: impossible: {why}", way(down)),
        },
    });
    if let Some(tool) = &seen.tool {
        lines.push(String::new());
        lines.push(match &tool.failed {
            None => "The status command says:".to_owned(),
            Some(why) => format!("The status command did not answer: {why}"),
        });
        lines.extend(tool.lines.iter().map(|line| format!("   {line}")));
    }
    lines.join("\n")
}

fn way(down: &DownLine) -> String {
    match &down.command {
        None => format!("down scripts of {}", down.release),
        Some(_) => format!("the down command in {}", down.release),
    }
}

/// What `migrate down` would do.
pub(in crate::cli) fn down_plan(seen: &Migrations) -> String {
    let Some(down) = &seen.down else {
        return "No release has brought a migration that the database still has.".to_owned();
    };
    let release = down.release;
    if let Some(why) = &down.impossible {
        return format!("{}   impossible: {why}", way(down));
    }
    let (on_live, and) = match &down.command {
        None => ("in one transaction, with their rows in its table".to_owned(), "the scripts drop"),
        Some(command) => (format!("by: {command}"), "the command drops"),
    };
    let lines = [
        format!("This takes the migrations of {release} back. Nothing has happened yet."),
        format!("   {}", down.names.join(", ")),
        "   1  on a copy of today's data: the schema has to become what it was before".to_owned(),
        format!("   2  on the live database, {on_live}"),
        format!("Rows that were written since stay, but for what {and}."),
    ];
    lines.join("\n")
}
