//! What the journal and the data plane say of an operation.

use std::sync::Arc;
use std::time::Duration;

use cutover_model::{
    AppKind, AppState, Color, Ending, Fact, Happened, OperationId, OperationKind, Release,
    ReleaseId,
};

use super::super::wire;
use crate::controller::{App, Harm};
use crate::report::{
    Difference, EnvChange, Image, Logs, Moment, Report, Restored, Said, Users, Version, What,
    Written,
};

/// Moments of a timeline: the first and the last ones are kept.
const MOMENTS: usize = 200;
/// Lines of a log that are looked through.
const LOOKED_THROUGH: usize = 2_000;
/// Lines of a log that are shown.
const LINES: usize = 40;
/// Characters of a line that are shown.
const COLUMNS: usize = 300;
/// How long before the trigger lines are of interest, in milliseconds.
const BEFORE_MS: i64 = 10_000;
/// How long Docker may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Words that errors have in most languages and frameworks.
const LOUD: [&str; 8] =
    ["error", "exception", "fatal", "panic", "traceback", "fail", "deadlock", "refused"];

/// The report as far as the journal has it; `None`: it does not know the operation.
pub(super) fn from_facts(
    app: &App,
    operation: OperationId,
    facts: &[Arc<Happened>],
    now: i64,
) -> Option<Report> {
    let state = app.state();
    let own = || facts.iter().filter(|happened| belongs(happened) == Some(operation));
    let (started, what) = own().find_map(|happened| match &happened.fact {
        Fact::OperationStarted { what, .. } => Some((happened, what.clone())),
        _ => None,
    })?;
    let (from, to) = releases(&state, operation, &what, own().map(|h| &h.fact));
    let ended = own().find_map(|happened| match &happened.fact {
        Fact::OperationEnded { ending, .. } => Some((happened.at.0, why_not_well(ending))),
        _ => None,
    });
    let said = own().filter_map(|happened| match &happened.fact {
        Fact::Noted { text, .. } => {
            let (at, by) = (happened.at.0, happened.actor.0.clone());
            Some(Said { at, by, text: text.clone() })
        }
        _ => None,
    });
    let is_move = |h: &Arc<Happened>| matches!(h.fact, Fact::SplitChanged { .. });
    let mut traffic_at = own().find(|h| is_move(h)).map(|h| h.at.0);
    let mut asked_at = started.at.0;
    // Traffic goes before the data, by a rollback of its own.
    let earlier = |h: &&Arc<Happened>| h.at <= started.at && belongs(h) != Some(operation);
    let last = facts.iter().rev().filter(earlier).find(|h| is_move(h));
    if let (None, Some(moved), OperationKind::Restore { .. }) = (traffic_at, last, &what)
        && let Some(before) = belongs(moved).and_then(|id| state.operations.get(&id))
        && took_from(&before.what).is_some_and(|of| Some(of) == from)
    {
        (traffic_at, asked_at) = (Some(moved.at.0), before.started_at.0);
    }
    let version = |release: ReleaseId| Version {
        release,
        label: state.standing(release).map(|s| s.release.label()).unwrap_or_default(),
    };
    Some(Report {
        schema: wire::schema::REPORT.to_owned(),
        app: app.name.clone(),
        operation,
        what: what.as_str().to_owned(),
        started_at: started.at.0,
        asked_at,
        from: from.map(version),
        to: to.map(version),
        users: Users::default(),
        data: restored(&what, own()),
        said: said.collect(),
        decided_by: started.actor.0.clone(),
        automatic: started.actor == cutover_model::Actor::daemon(),
        traffic_at,
        timeline: facts.iter().map(moment).collect(),
        left_out: 0,
        difference: None,
        logs: Logs::default(),
        checks: Vec::new(),
        written: Written::default(),
        made_at: now,
        ended,
    })
}

/// The release that a way back took the traffic from.
fn took_from(what: &OperationKind) -> Option<ReleaseId> {
    match what {
        OperationKind::Rollback { from, .. } | OperationKind::Remake { from, .. } => *from,
        _ => None,
    }
}

fn belongs(happened: &Happened) -> Option<OperationId> {
    happened.fact.operation().or(happened.operation)
}

fn why_not_well(ending: &Ending) -> Option<String> {
    match ending {
        Ending::Done => None,
        Ending::Failed(why) | Ending::Refused(why) => Some(why.clone()),
        Ending::GivenUp => Some("given up by a person".to_owned()),
        Ending::Overtaken => Some("a later rollback took its place".to_owned()),
        Ending::Interrupted => Some("the daemon ended".to_owned()),
    }
}

/// The release that lost the traffic, and the one that got it.
fn releases<'f>(
    state: &AppState,
    operation: OperationId,
    what: &OperationKind,
    mut facts: impl Iterator<Item = &'f Fact>,
) -> (Option<ReleaseId>, Option<ReleaseId>) {
    match what {
        OperationKind::Rollback { to, from, .. } => (*from, Some(*to)),
        OperationKind::Remake { release, from, .. } => (*from, Some(*release)),
        OperationKind::Restore { to, .. } => {
            let from = facts.find_map(|fact| match fact {
                Fact::RestorePlanned { plan, .. } => plan.from,
                _ => None,
            });
            (from, Some(*to))
        }
        OperationKind::Deploy { release } => (None, Some(*release)),
        _ => {
            let moved = state.operations.get(&operation).and_then(|o| o.moved.as_ref());
            let from = moved.and_then(|m| *m.colors.get(m.before.leading()));
            let change = facts.find_map(|fact| match fact {
                Fact::SplitChanged { after, .. } => Some(after.leading()),
                _ => None,
            });
            let to = moved.zip(change).and_then(|(m, color)| *m.colors.get(color));
            (from.filter(|from| Some(*from) != to), to)
        }
    }
}

fn restored<'h>(
    what: &OperationKind,
    facts: impl Iterator<Item = &'h Arc<Happened>>,
) -> Option<Restored> {
    let OperationKind::Restore { source, .. } = what else { return None };
    let mut data =
        Restored { source: source.to_string(), data_of: 0, at: None, rows: None, kept_as: None };
    let mut has_ended = false;
    for happened in facts {
        match &happened.fact {
            Fact::RestorePlanned { plan, .. } => data.data_of = plan.data_of.0,
            Fact::AsideKept { aside, .. } => {
                data.at = Some(happened.at.0);
                data.rows = Some(aside.rows);
                data.kept_as = Some(aside.name.clone());
            }
            // Exchanged back in the operation itself, or undone or retired since.
            Fact::AsideGone { .. } => {
                data.kept_as = None;
                data.at = data.at.filter(|_| has_ended);
            }
            Fact::OperationEnded { .. } => has_ended = true,
            _ => {}
        }
    }
    Some(data)
}

fn moment(happened: &Arc<Happened>) -> Moment {
    Moment {
        at: happened.at.0,
        operation: belongs(happened),
        by: happened.actor.0.clone(),
        what: What::Fact(Box::new(happened.fact.clone())),
    }
}

/// What users met: as it was kept with the operation, or as records still have it.
pub(super) async fn users(app: &App, daemon_since: i64, report: &mut Report) {
    let from = report.from.as_ref().map(|from| from.release);
    let mut kept = None;
    for operation in [Some(report.operation), before(app, report.operation, from)] {
        let Some(operation) = operation.filter(|_| kept.is_none()) else { continue };
        match app.kept_harm(operation).await {
            Ok(found) => kept = found,
            Err(error) => tracing::warn!(%error, "what users met cannot be read"),
        }
    }
    // Without one that was kept, records of before the daemon's start are not there.
    let now = || from.map(|from| app.harm(from));
    let is_whole = daemon_since <= report.asked_at;
    let Some(harm) = kept.or_else(now).filter(|harm| harm.failed > 0 || is_whole) else { return };
    let Harm { first_ms, last_ms, failed, clients, lost } = harm;
    report.users =
        Users { known: true, since: first_ms, until: last_ms, failed, clients, at_least: lost };
}

/// The rollback that took the traffic from the release before its data was put back: the newest one
/// since the release was made.
fn before(app: &App, operation: OperationId, from: Option<ReleaseId>) -> Option<OperationId> {
    let state = app.state();
    let mut earlier = state.operations.range(..operation).rev();
    let moved = earlier.find(|(_, asked)| asked.moved.is_some())?;
    took_from(&moved.1.what).filter(|of| Some(*of) == from).map(|_| *moved.0)
}

/// The timeline from the first failure, or the operation's start, to its end; then its own facts.
pub(super) fn trim(report: &mut Report) {
    let (operation, users) = (report.operation, report.users.clone());
    let begin = users.since.unwrap_or(report.asked_at).min(report.asked_at);
    let end = report.ended.as_ref().map_or(report.made_at, |(at, _)| *at);
    report.timeline.retain(|moment| {
        let is_quiet = matches!(&moment.what, What::Fact(fact) if matches!(
            **fact,
            Fact::ActionDone { .. } | Fact::ReleaseIs { .. }
        ));
        let is_near = (begin..=end).contains(&moment.at);
        !is_quiet && (is_near || moment.operation == Some(operation))
    });
    let failure = |at: Option<i64>, what: What| {
        at.map(|at| Moment { at, operation: None, by: String::new(), what })
    };
    report.timeline.extend(failure(users.since, What::FirstFailure));
    report.timeline.extend(failure(users.until, What::LastFailure));
    report.timeline.sort_by_key(|moment| moment.at);
    let over = report.timeline.len().saturating_sub(MOMENTS);
    if over > 0 {
        report.timeline.drain(MOMENTS / 2..MOMENTS / 2 + over);
        report.left_out = over as u64;
    }
}

/// What differs between the releases, as far as their records, files and the repository say.
pub(super) async fn difference(app: &App, report: &mut Report) {
    let state = app.state();
    let record = |version: &Option<Version>| -> Option<Release> {
        let standing = state.standing(version.as_ref()?.release)?;
        Some(standing.release.clone())
    };
    let (Some(later), Some(former)) = (record(&report.from), record(&report.to)) else { return };
    let migrations = match (&former.migrations, &later.migrations) {
        (Some(former), Some(later)) => {
            Some(later.iter().filter(|name| !former.contains(name)).cloned().collect())
        }
        _ => None,
    };
    let images = images(&former, &later);
    let compared = tokio::time::timeout(PATIENCE, app.compare(&former, &later)).await;
    let (commits, env) = match compared {
        Ok(compared) if state.kind == AppKind::Compose => {
            let is_known = former.commit.is_some() && later.commit.is_some();
            let env = compared.env.iter();
            let env = env.map(|(file, diff)| EnvChange { file: file.clone(), keys: diff.told() });
            let env = compared.unknown.is_empty().then(|| env.collect());
            (is_known.then_some(compared.commits), env)
        }
        Ok(_) | Err(_) => (None, None),
    };
    report.difference = Some(Difference { commits, migrations, env, images });
}

fn images(former: &Release, later: &Release) -> Vec<Image> {
    let services: std::collections::BTreeSet<&String> =
        former.images.keys().chain(later.images.keys()).collect();
    let image = |service: &String| {
        let (before, after) = (former.images.get(service), later.images.get(service));
        (before != after).then(|| Image {
            service: service.clone(),
            before: before.cloned(),
            after: after.cloned(),
        })
    };
    services.into_iter().filter_map(image).collect()
}

/// What the release that lost the traffic wrote around the trigger, loud lines first.
pub(super) async fn logs(app: &App, report: &mut Report) {
    let state = app.state();
    let color = report.from.as_ref().and_then(|from| {
        Color::BOTH.into_iter().find(|color| *state.colors.get(*color) == Some(from.release))
    });
    let none = |why: &str| Logs { lines: Vec::new(), why_none: Some(why.to_owned()) };
    let Some(color) = color else {
        report.logs = none("the containers of that release are gone");
        return;
    };
    let read = tokio::time::timeout(PATIENCE, app.logs(color, None, LOOKED_THROUGH)).await;
    report.logs = match read {
        Ok(Ok(lines)) => {
            let begin = report.users.since.unwrap_or(report.started_at) - BEFORE_MS;
            let end = report.traffic_at.unwrap_or(report.made_at) + BEFORE_MS;
            let lines = around(lines, begin, end);
            match lines.is_empty() {
                true => none("it wrote nothing in that time"),
                false => Logs { lines, why_none: None },
            }
        }
        Ok(Err(why)) => none(&why),
        Err(_) => none("Docker does not answer"),
    };
}

/// The lines of a time, at most [`LINES`]: those that sound like errors, else the last ones.
fn around(lines: Vec<(String, String)>, begin: i64, end: i64) -> Vec<(String, String)> {
    let at = |line: &str| -> Option<i64> {
        let stamp: jiff::Timestamp = line.split(' ').next()?.parse().ok()?;
        Some(stamp.as_millisecond())
    };
    let is_near = |line: &str| at(line).is_some_and(|at| (begin..=end).contains(&at));
    let near: Vec<_> = lines.into_iter().filter(|(_, line)| is_near(line)).collect();
    let is_loud = |line: &str| {
        let line = line.to_ascii_lowercase();
        LOUD.iter().any(|word| line.contains(word))
    };
    let loud: Vec<_> = near.iter().filter(|(_, line)| is_loud(line)).take(LINES).cloned().collect();
    let skipped = near.len().saturating_sub(LINES);
    let chosen = if loud.is_empty() { near.into_iter().skip(skipped).collect() } else { loud };
    let cut = |(service, line): (String, String)| (service, line.chars().take(COLUMNS).collect());
    chosen.into_iter().map(cut).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(second: u32, text: &str) -> (String, String) {
        ("backend".to_owned(), format!("2026-11-27T02:58:{second:02}.000000000Z {text}"))
    }

    #[test]
    fn loud_lines_of_the_time_are_shown_and_else_the_last_ones() {
        let minute = "2026-11-27T02:58:00Z".parse::<jiff::Timestamp>().unwrap().as_millisecond();
        let lines = vec![
            line(1, "Error: before"),
            line(20, "GET /"),
            line(21, "TypeError: undefined"),
            line(50, "Error: after"),
        ];
        let (begin, end) = (minute + 10_000, minute + 30_000);
        let shown = around(lines.clone(), begin, end);
        assert_eq!(shown, [line(21, "TypeError: undefined")]);
        assert_eq!(around(vec![line(20, "GET /")], begin, end), [line(20, "GET /")]);
        let many = (0..500).map(|_| line(20, &"x".repeat(1_000))).collect();
        let shown = around(many, begin, end);
        assert_eq!(shown.len(), LINES);
        assert!(shown.iter().all(|(_, line)| line.len() == COLUMNS));
        assert!(around(vec![("x".into(), "no time".into())], begin, end).is_empty());
    }
}
