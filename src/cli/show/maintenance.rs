//! What `maintenance on` and `off` say.

use std::time::Duration;

use super::moves::{BELOW, name, not_recorded};
use super::{Clock, ways_lines};
use crate::api::wire::{Maintenance, PageOf, Turned};
use crate::text;
use cutover_model::Way;

/// The whole text.
pub(in crate::cli) fn turned(turned: &Turned, clock: &Clock) -> String {
    let took = text::duration(Duration::from_micros(turned.took_us));
    let first = match &turned.maintenance {
        Some(now) => format!("DONE: clients get {}. {took}.", page(now)),
        None => format!("DONE: clients are served again, by {}. {took}.", name(&turned.serves)),
    };
    let mut lines = vec![format!("{}  {first}", clock.exact(turned.at))];
    lines.extend(not_recorded(&turned.recorded));
    match &turned.maintenance {
        Some(now) => lines.extend(on(turned, now)),
        None => lines.extend(turned.before.iter().map(|before| {
            let lasted = u64::try_from(turned.at - before.since).unwrap_or(0);
            let lasted = text::duration(Duration::from_millis(lasted));
            format!("{BELOW}Maintenance lasted {lasted}, since {}.", clock.time(before.since))
        })),
    }
    lines.join("\n")
}

/// `your page (503, come back in 5 min)`
pub(super) fn page(maintenance: &Maintenance) -> String {
    let whose = match maintenance.page {
        PageOf::Operator => "your page",
        PageOf::Cutover => "the maintenance page",
    };
    let after = match maintenance.retry_after_s {
        hours if hours % 3_600 == 0 => format!("{} h", hours / 3_600),
        minutes if minutes % 60 == 0 => format!("{} min", minutes / 60),
        other => text::duration(Duration::from_secs(other.into())),
    };
    format!("{whose} (503, come back in {after})")
}

fn on(turned: &Turned, now: &Maintenance) -> Vec<String> {
    let mut lines = Vec::new();
    if !now.allow.is_empty() {
        lines.push(format!("{BELOW}Served all the same: {}", now.allow.join(", ")));
    }
    let tunnels = match turned.tunnels {
        0 => String::new(),
        some => format!("; {some} WebSockets are asked to come back"),
    };
    lines.push(format!("{BELOW}{} open requests finish{tunnels}", turned.requests));
    let standing = name(&turned.serves);
    lines.push(format!(
        "NOT stopped: {standing} itself. Its workers and timers run on, and may write."
    ));
    let ways = [
        ("cutover maintenance off", "serves clients again"),
        ("cutover status", "says so in its first line, until then"),
    ];
    let way = |(command, what): (&str, &str)| Way { command: command.into(), what: what.into() };
    let ways: Vec<Way> = ways.into_iter().map(way).collect();
    lines.extend(ways_lines(&ways).into_iter().map(|line| format!("  {line}")));
    lines
}
