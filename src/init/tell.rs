//! What `init` says on the terminal: a table, the questions, the memory, what to type next.

use std::time::Duration;

use super::duty::Duty;
use super::file::wrapped;
use super::proposal::Proposal;
use super::seen::Seen;
use super::volumes::VolumeGuess;

/// What was done with the file.
#[derive(Debug, Clone)]
pub struct Written {
    /// The file.
    pub path: String,
    /// How many lines it has.
    pub lines: usize,
}

/// The whole text.
#[must_use]
pub fn tell(
    proposal: &Proposal,
    compose_files: &[String],
    seen: &Seen,
    written: &Written,
) -> String {
    let mut lines = vec![heading(proposal, compose_files, seen), String::new()];
    lines.extend(table(proposal));
    lines.push(String::new());
    let asks =
        if proposal.asks.is_empty() { "" } else { " What I could not know, set to the safe side:" };
    lines.push(format!(
        "Wrote {}, {} lines; touched nothing else.{asks}",
        written.path, written.lines
    ));
    for (index, ask) in proposal.asks.iter().enumerate() {
        let first = format!("  ASK {}  ", index + 1);
        lines.extend(wrapped(&first, "         ", &ask.text, 96));
    }
    lines.extend(wrapped("", "", &memory(proposal), 96));
    lines.push(
        "Next:  cutover check     then  sudo cutover adopt     (shows its plan, then asks)".into(),
    );
    lines.join("\n") + "\n"
}

fn heading(proposal: &Proposal, compose_files: &[String], seen: &Seen) -> String {
    let env = match proposal.env_files.len() {
        0 => String::new(),
        1 => " and 1 env file".to_owned(),
        count => format!(" and {count} env files"),
    };
    let state = match seen.up {
        Some(up) => format!("is up since {}", age(up)),
        None => "is not running".to_owned(),
    };
    format!(
        "Read {}{env} as docker compose does. Project \"{}\" {state}.",
        compose_files.join(", "),
        proposal.project
    )
}

fn age(up: Duration) -> String {
    let minutes = up.as_secs() / 60;
    let (count, unit) = match minutes {
        0 => return "less than a minute".to_owned(),
        1..60 => (minutes, "minute"),
        60..2_880 => (minutes / 60, "hour"),
        _ => (minutes / 1_440, "day"),
    };
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}

fn table(proposal: &Proposal) -> Vec<String> {
    let mut rows: Vec<[String; 4]> =
        vec![["service", "looks like", "with Cutover", "public port"].map(str::to_owned)];
    for service in &proposal.services {
        let fate = match service.duty {
            Duty::TwoCopies => "two copies",
            Duty::Shared => "one copy, shared, never restarted",
            Duty::Singleton => "one copy, moves with the release",
            Duty::Job => "run once for each deploy",
        };
        let (name, looks_like) = (service.name.clone(), service.looks_like.clone());
        rows.push([name, looks_like, fate.to_owned(), service.public.clone()]);
    }
    if !proposal.volumes.is_empty() {
        rows.push(["volume", "used by", "", ""].map(str::to_owned));
    }
    for volume in &proposal.volumes {
        let verb = if volume.written { "writes" } else { "reads" };
        let used_by = format!("{}, {verb}", volume.used_by.join(", "));
        rows.push([volume.key.clone(), used_by, volume_fate(proposal, volume), String::new()]);
    }
    aligned(&rows)
}

fn volume_fate(proposal: &Proposal, volume: &VolumeGuess) -> String {
    let fate = match volume.class {
        "per-color" => "one for each copy",
        "read-only" => "the same for both, read only",
        _ => "the same for both copies",
    };
    match proposal.ask_about(super::proposal::Topic::Volumes).filter(|_| volume.ask) {
        Some(number) => format!("{fate} (my guess: ASK {number})"),
        None => fate.to_owned(),
    }
}

/// Columns two spaces apart. What stands last in its row makes no column wider.
fn aligned(rows: &[[String; 4]]) -> Vec<String> {
    let last = |row: &[String; 4]| row.iter().rposition(|cell| !cell.is_empty()).unwrap_or(0);
    let mut widths = [0; 4];
    for row in rows {
        for (column, cell) in row.iter().enumerate().take(last(row)) {
            widths[column] = widths[column].max(cell.chars().count());
        }
    }
    let line = |row: &[String; 4]| {
        let cells = row.iter().zip(widths).take(last(row) + 1);
        let cells: Vec<String> = cells.map(|(cell, width)| format!("{cell:<width$}")).collect();
        cells.join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

fn memory(proposal: &Proposal) -> String {
    let need = match proposal.memory_need {
        Some(need) => format!("a second copy needs about {}", amount(need)),
        None => "what a second copy needs is known once the first one runs".to_owned(),
    };
    let free = proposal.memory_free.map(|free| format!("; {} are free", amount(free)));
    let hosts =
        if proposal.ports.routes.is_empty() { "" } else { " Host names: any is routed, as today." };
    format!("Memory: {need}{}.{hosts}", free.unwrap_or_default())
}

/// `620 MB`, `1.9 GB`.
fn amount(bytes: u64) -> String {
    let megabytes = bytes.div_ceil(1_000_000);
    match megabytes {
        0..1_000 => format!("{megabytes} MB"),
        _ => format!("{}.{} GB", megabytes / 1_000, megabytes % 1_000 / 100),
    }
}
