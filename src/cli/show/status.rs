//! The picture of `status`.

use std::time::Duration;

use cutover_model::{ReleaseState, Weight};

use super::Clock;
use super::maintenance::page;
use super::moves::name;
use crate::api::wire::{AppStatus, BackupLine, DataReadiness, Host, Mood, Side, Singleton, Status};
use crate::text;

/// The columns of a first line: the daemon's clock ends there.
const WIDTH: usize = 100;

/// All apps, or the one that was named.
pub(in crate::cli) fn status(status: &Status, only: Option<&str>, clock: &Clock) -> String {
    let apps: Vec<String> = status
        .apps
        .iter()
        .filter(|app| only.is_none_or(|name| app.app.as_str() == name))
        .map(|app| one(app, status, clock))
        .collect();
    if apps.is_empty() {
        return "no app is configured".to_owned();
    }
    apps.join("\n\n")
}

fn one(app: &AppStatus, status: &Status, clock: &Clock) -> String {
    let now = status.now;
    let mut lines = vec![head(app, now, clock)];
    if let Some(maintenance) = &app.maintenance {
        lines.push(format!("closed     {}: cutover maintenance off", page(maintenance)));
        if !maintenance.allow.is_empty() {
            lines.push(format!("but        {} are served", maintenance.allow.join(", ")));
        }
    }
    let width = width(&app.serves).max(width(&app.standby));
    lines.push(format!("serves     {}", served(&app.serves, width, now)));
    lines.push(format!("standby    {}", standby(&app.standby, width)));
    lines.push(format!("rollback   {}", app.rollback.text));
    lines
        .extend(app.data.as_ref().map(|data| format!("data       {}", way_back(data, now, clock))));
    lines.extend(
        app.backup.as_ref().map(|newest| format!("backup     {}", backup(newest, now, clock))),
    );
    lines.push(format!("host       {}", host(&status.host, &app.singletons)));
    if let Some(line) = rollout(app) {
        lines.push(format!("rollout    {line}"));
    }
    for running in &app.running {
        let since = clock.near(running.started_at, now);
        let (operation, what, actor) = (running.operation, &running.what, &running.actor);
        lines.push(format!(
            "running    {operation}, {what} by {actor} since {since}: cutover wait {operation}"
        ));
    }
    lines.extend(last_move(app, now, clock));
    if !app.ports.is_empty() {
        let ports: Vec<String> = app.ports.iter().map(ToString::to_string).collect();
        let ports = ports.join(", ");
        lines.push(format!("ports      {ports}: led here by a rule, until  cutover leave"));
    }
    lines.extend(app.notes.iter().map(|note| format!("note       {note}")));
    if let Some(to) = app.rollback.to
        && app.mood == Mood::Trouble
        && app.rollback.instant
    {
        lines.push(format!("If you want {to} back, now:    cutover rollback"));
    }
    lines.join("\n")
}

/// `b-118, 26 Nov 03:00, verified; test restore 22 Nov, 41 s; next 03:00; copy off this host: NONE`
fn backup(newest: &BackupLine, now: i64, clock: &Clock) -> String {
    let broken = match newest.broken {
        0 => String::new(),
        count => format!("; {count} not whole: cutover doctor"),
    };
    let mut parts = Vec::new();
    if let Some((at, why)) = &newest.failed {
        let why = why.lines().next().unwrap_or_default();
        parts.push(format!("FAILED {}: {why}", clock.near(*at, now)));
    }
    parts.push(match (&newest.id, newest.at) {
        (Some(id), Some(at)) => {
            let read = if newest.verified_at.is_some() { "verified" } else { "NOT verified" };
            format!("{id}, {}, {read}", clock.near(at, now))
        }
        _ => "NONE: cutover backup create".to_owned(),
    });
    parts.push(drill(newest, now, clock));
    parts.push(match newest.next_at {
        Some(at) if newest.waits_for.is_some() => {
            let operation = newest.waits_for.map_or(String::new(), |waits| waits.to_string());
            format!("DUE {}, waits for the end of {operation}", clock.near(at, now))
        }
        Some(at) => format!("next {}", clock.near(at, now)),
        None => "no schedule".to_owned(),
    });
    let copied = match (newest.copied_at, &newest.not_copied) {
        (Some(at), _) => clock.near(at, now),
        (None, Some((at, _))) => format!("FAILED {}", clock.near(*at, now)),
        (None, None) => "NONE".to_owned(),
    };
    parts.push(format!("copy off this host: {copied}"));
    format!("{}{broken}", parts.join("; "))
}

/// `test restore 22 Nov, 41 s`
fn drill(newest: &BackupLine, now: i64, clock: &Clock) -> String {
    let Some(drill) = &newest.drill else { return "test restore NONE: cutover drill".to_owned() };
    let at = clock.near(drill.at, now);
    match &drill.failed {
        Some(_) => format!("test restore {at} FAILED"),
        None => {
            let took = text::duration(Duration::from_millis(drill.took_ms));
            format!("test restore {at}, {took}")
        }
    }
}

/// `restore point before r7, 26 Nov 22:31, 2 h 38 min old; copying it took 3.4 s`
fn way_back(data: &DataReadiness, now: i64, clock: &Clock) -> String {
    let millis = |millis: u64| text::duration(Duration::from_millis(millis));
    let mut line = data.what.clone();
    if let Some(at) = data.at {
        let age = millis(u64::try_from(now - at).unwrap_or(0));
        line.push_str(&format!(", {}, {age} old", clock.near(at, now)));
    }
    if let Some(takes) = data.takes_ms {
        line.push_str(&format!("; copying it took {}", millis(takes)));
    }
    line
}

/// `memory 62 %   disk 41 %   agent: 1, in green`
fn host(host: &Host, singletons: &[Singleton]) -> String {
    let share = |share: Option<u8>| match share {
        Some(share) => format!("{share} %"),
        None => "not known".to_owned(),
    };
    let mut parts =
        vec![format!("memory {}", share(host.memory)), format!("disk {}", share(host.disk))];
    for singleton in singletons {
        let (service, running) = (&singleton.service, singleton.running);
        parts.push(match (running.blue, running.green) {
            (0, 0) => format!("{service}: none seen running"),
            (blue, 0) => format!("{service}: {blue}, in blue"),
            (0, green) => format!("{service}: {green}, in green"),
            (blue, green) => format!("{service}: {} (!), in both colors", blue + green),
        });
    }
    parts.join("   ")
}

fn width(side: &Side) -> usize {
    if side.release.is_some() { name(side).chars().count() } else { 0 }
}

fn head(app: &AppStatus, now: i64, clock: &Clock) -> String {
    let since = app.since.map_or_else(String::new, |at| format!(" since {}", clock.near(at, now)));
    let mood = match (app.mood, &app.why) {
        (Mood::Maintenance, _) => {
            let by = app.maintenance.as_ref().map(|maintenance| {
                format!(" since {} by {}", clock.near(maintenance.since, now), maintenance.by)
            });
            format!("MAINTENANCE{}: clients get 503", by.unwrap_or_default())
        }
        (Mood::Calm, _) => format!("CALM{since}"),
        (Mood::Rollout, _) => format!("ROLLOUT, at this weight{since}"),
        (Mood::Working, _) => "WORKING".to_owned(),
        (Mood::Empty, _) => "EMPTY: no release serves yet: cutover adopt or deploy".to_owned(),
        (Mood::Trouble, Some(why)) => format!("TROUBLE: {why}"),
        (Mood::Trouble, None) => "TROUBLE".to_owned(),
    };
    let (left, right) = (format!("{}   {mood}", app.app), clock.full(now));
    let used = left.chars().count() + right.chars().count();
    let gap = WIDTH.saturating_sub(used).max(2);
    format!("{left}{}{right}", " ".repeat(gap))
}

fn place(side: &Side, width: usize) -> String {
    let name = if side.release.is_some() { name(side) } else { String::new() };
    format!("{name:<width$}    {:<6}  {:>6}", side.color, side.weight)
}

fn served(side: &Side, width: usize, now: i64) -> String {
    let up = match side.since {
        Some(since) => {
            let millis = u64::try_from(now.saturating_sub(since)).unwrap_or(0);
            format!("    up {}", text::duration(Duration::from_millis(millis)))
        }
        None => String::new(),
    };
    if side.release.is_none() {
        return "nothing".to_owned();
    }
    format!("{}    {}{up}", place(side, width), traffic(side))
}

fn standby(side: &Side, width: usize) -> String {
    let state = match side.state {
        _ if side.weight > Weight::ZERO => traffic(side),
        Some(ReleaseState::Warm) => "warm until the next deploy".to_owned(),
        Some(ReleaseState::Starting) => "is being started".to_owned(),
        Some(ReleaseState::Stopped) => "stopped; a rollback starts it first".to_owned(),
        Some(ReleaseState::Failed) => "never became ready".to_owned(),
        None if side.release.is_some() => "what it does is not known".to_owned(),
        Some(ReleaseState::Gone) | None => "empty".to_owned(),
    };
    format!("{}    {state}", place(side, width))
}

fn traffic(side: &Side) -> String {
    let traffic = &side.traffic;
    if traffic.requests == 0 {
        return "no requests in the last minute".to_owned();
    }
    let p99 = traffic.p99_us.map_or_else(String::new, |us| match us {
        0..1_000_000 => format!("   p99 below {} ms", us.div_ceil(1_000)),
        _ => format!("   p99 below {}", text::duration(Duration::from_micros(us))),
    });
    let errors = share(traffic.failed, traffic.requests);
    format!("{} req/s   errors {errors}{p99}", rate(traffic.per_second))
}

fn rate(per_second: f64) -> String {
    if per_second < 10.0 { format!("{per_second:.1}") } else { format!("{per_second:.0}") }
}

/// `0 %` only when it is none, `0.1 %`, `31 %`.
fn share(part: u64, whole: u64) -> String {
    let tenths = part.saturating_mul(1_000) / whole.max(1);
    match tenths {
        _ if part == 0 => "0 %".to_owned(),
        0 => "below 0.1 %".to_owned(),
        1..=99 => format!("{}.{} %", tenths / 10, tenths % 10),
        _ => format!("{} %", tenths / 10),
    }
}

fn rollout(app: &AppStatus) -> Option<String> {
    if app.mood != Mood::Rollout {
        return None;
    }
    let mut steps: Vec<String> = app.next_weights.iter().map(ToString::to_string).collect();
    if app.next_weights.last() != Some(&Weight::FULL) {
        steps.push("100 %".to_owned());
    }
    let steps = steps.join(", ");
    Some(format!("next {steps}: cutover next    all at once: cutover promote"))
}

fn last_move(app: &AppStatus, now: i64, clock: &Clock) -> Option<String> {
    let last = app.last_move.as_ref()?;
    let by = match (&last.what, last.operation) {
        (Some(what), Some(operation)) => format!(" by {operation} ({what})"),
        (None, Some(operation)) => format!(" by {operation}"),
        _ => String::new(),
    };
    Some(format!("moved      {}{by}", clock.near(last.at, now)))
}
