//! The list of releases, and a link that shows one.

use cutover_model::{ReleaseState, Weight};

use super::Clock;
use crate::api::wire::{Preview, ReleaseLine, Releases};

/// Newest first, one line each.
pub(in crate::cli) fn releases(list: &Releases, now: i64, clock: &Clock) -> String {
    if list.releases.is_empty() {
        return format!("{} has no release yet: cutover adopt or cutover deploy", list.app);
    }
    let rows: Vec<[String; 5]> = list.releases.iter().map(|line| row(line, now, clock)).collect();
    let width =
        |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..5).map(width).collect();
    let line = |row: &[String; 5]| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("   ").trim_end().to_owned()
    };
    let both = rows
        .iter()
        .zip(&list.releases)
        .flat_map(|(row, release)| std::iter::once(line(row)).chain(below(release)));
    both.collect::<Vec<_>>().join("\n")
}

/// What a release runs: its images, and what it was composed of.
fn below(line: &ReleaseLine) -> Vec<String> {
    let indent = "     ";
    let short =
        |id: &String| id.strip_prefix("sha256:").unwrap_or(id).chars().take(12).collect::<String>();
    let images = line.images.iter().map(|(service, id)| format!("{service} {}", short(id)));
    let images = images.collect::<Vec<_>>().join("   ");
    let mut lines = Vec::new();
    if let Some(parts) = &line.parts {
        lines.push(format!("{indent}{}", parts.told()));
    }
    if !images.is_empty() {
        lines.push(format!("{indent}images  {images}"));
    }
    lines
}

fn row(line: &ReleaseLine, now: i64, clock: &Clock) -> [String; 5] {
    let marks = match (line.rejected_by, line.proven_at) {
        (Some(by), _) => format!("rolled back by {by}"),
        (None, Some(_)) => "proved itself".to_owned(),
        (None, None) => String::new(),
    };
    [
        line.release.to_string(),
        line.label.clone(),
        clock.near(line.made_at, now),
        format!("{}, {}", line.color, state(line)),
        marks,
    ]
}

fn state(line: &ReleaseLine) -> String {
    match line.state {
        _ if line.weight == Weight::FULL => "serves everyone".to_owned(),
        _ if line.weight > Weight::ZERO => format!("serves {}", line.weight),
        ReleaseState::Starting => "is being started".to_owned(),
        ReleaseState::Warm => "warm".to_owned(),
        ReleaseState::Stopped => "stopped".to_owned(),
        ReleaseState::Gone => "gone".to_owned(),
        ReleaseState::Failed => "failed".to_owned(),
    }
}

/// A link, until when, and the address for scripts.
pub(in crate::cli) fn preview(preview: &Preview, clock: &Clock) -> String {
    let (release, color) = (preview.release, preview.color);
    let until = clock.time(preview.until);
    let mut text =
        format!("{release} ({color}), for you alone, until {until}:\n  {}", preview.link);
    if let Some(address) = &preview.address {
        text.push_str("\nOn this host, for scripts:\n  http://");
        text.push_str(address);
    }
    text
}
