//! `status`: what the users get now, first.

mod coming;
mod ladder;
mod troubles;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use cutover_model::{
    AppKind, AppState, ByColor, Color, LineLevel, Millis, OperationId, ReleaseId, ReleaseState,
    ServiceName, Weight,
};

pub use troubles::Troubles;

use super::Desk;
use super::wire::{self, Mood};
use crate::controller::{App, now};
use crate::host::backups::Listed;
use crate::host::facts;

/// How long the figures of the machine may take.
const FILL: Duration = Duration::from_millis(250);
/// A share of failures over which users are said to see errors.
const TROUBLE_SHARE: f64 = 0.05;
/// Failures in a minute below which nothing is said.
const TROUBLE_FAILURES: u64 = 5;

/// `GET /v1/status`
pub async fn status(State(desk): State<Desk>) -> Response {
    let host = host(&desk).await;
    let mut apps = Vec::new();
    for app in desk.controller.apps() {
        apps.push(one(&desk, app, ladder::listed(app).await.as_ref()));
    }
    Json(wire::Status {
        schema: wire::schema::STATUS.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started_at: desk.started_at.0,
        now: now().0,
        listen: desk.listen.iter().map(ToString::to_string).collect(),
        apps,
        host,
    })
    .into_response()
}

/// How full the machine is; a disk that does not answer is not waited for.
async fn host(desk: &Desk) -> wire::Host {
    let path = desk.controller.apps().next().map(|app| app.shared().journal.path().to_owned());
    let Some(path) = path else { return wire::Host::default() };
    let look = tokio::task::spawn_blocking(move || facts::fill(&path));
    match tokio::time::timeout(FILL, look).await {
        Ok(Ok(fill)) => wire::Host { memory: fill.memory, disk: fill.disk },
        Ok(Err(_)) | Err(_) => wire::Host::default(),
    }
}

/// Where the services that run once were last seen.
fn singletons(app: &App) -> Vec<wire::Singleton> {
    let settings = app.settings();
    let Some(stack) = &settings.stack else { return Vec::new() };
    let endpoints = app.endpoints();
    let count = |service, color| {
        let found = endpoints.get(color).get(service).map_or(0, Vec::len);
        u32::try_from(found).unwrap_or(u32::MAX)
    };
    let one = |service| wire::Singleton {
        service: ServiceName::to_string(service),
        running: ByColor { blue: count(service, Color::Blue), green: count(service, Color::Green) },
    };
    stack.singletons.iter().map(one).collect()
}

/// `GET /readyz`: every app that has a release has an endpoint for each route.
pub async fn ready(State(desk): State<Desk>) -> Response {
    let missing: Vec<String> =
        desk.controller.apps().flat_map(|app| missing_endpoints(app, &app.state())).collect();
    match missing.is_empty() {
        true => (StatusCode::OK, "ready\n".to_owned()),
        false => (StatusCode::SERVICE_UNAVAILABLE, format!("{}\n", missing.join("\n"))),
    }
    .into_response()
}

fn one(desk: &Desk, app: &Arc<App>, backups: Option<&Listed>) -> wire::AppStatus {
    let state = app.state();
    let (serves, standby) = sides(desk, app, &state);
    let mut why = app.untrusted().or_else(|| desk.troubles.loud());
    let missing = missing_endpoints(app, &state);
    if why.is_none() && !missing.is_empty() {
        why = Some(missing.join("; "));
    }
    let traffic = serves.traffic;
    let share = desk.figures.usage(&app.name, serves.color).failure_share();
    if why.is_none() && share >= TROUBLE_SHARE && traffic.failed >= TROUBLE_FAILURES {
        why = Some(format!(
            "{} of the last minute's {} requests failed",
            crate::text::count(traffic.failed),
            crate::text::count(traffic.requests)
        ));
    }
    let mood = match () {
        () if state.maintenance.is_some() => Mood::Maintenance,
        () if why.is_some() => Mood::Trouble,
        () if serves.release.is_none() => Mood::Empty,
        () if state.changing().is_some() => Mood::Working,
        () if state.split.weight > Weight::ZERO => Mood::Rollout,
        () => Mood::Calm,
    };
    wire::AppStatus {
        app: app.name.clone(),
        mood,
        since: state.last_move.map(|moved| moved.at.0),
        maintenance: state.maintenance.as_ref().map(super::maintenance::of),
        why,
        rollback: rollback(app, &state),
        data: ladder::data(&state, backups),
        backup: backups.map(|listed| ladder::newest(&state, listed, due(desk, app))),
        next_weights: next_weights(&state),
        running: running(&state),
        last_move: state.last_move.map(|moved| wire::LastMove {
            at: moved.at.0,
            operation: moved.operation,
            what: moved
                .operation
                .and_then(|id| state.operations.get(&id))
                .map(|operation| operation.what.as_str().to_owned()),
        }),
        notes: notes(desk, app),
        ports: state.redirect.as_ref().map(cutover_model::Redirect::ports).unwrap_or_default(),
        generation: app.shared().proxy.switch().generation(),
        serves,
        standby,
        singletons: singletons(app),
    }
}

fn notes(desk: &Desk, app: &App) -> Vec<String> {
    let mut notes = desk.troubles.notes();
    notes.extend(app.overdue().map(|overdue| overdue.to_string()));
    notes.extend(app.ended());
    notes.extend(app.not_opened());
    let drift = app.drift();
    notes.extend(drift.running);
    for (release, services) in &drift.lost {
        let services = services.join(", ");
        notes.push(format!("images of {release} are not on this host any more: {services}"));
    }
    if !drift.folder.is_empty() {
        let (files, serving) = (drift.folder.join("; "), app.state().serving());
        let serving = serving.map_or_else(String::new, |release| format!(" from {release}'s"));
        notes.push(format!("env files in the folder differ{serving}: {files}"));
    }
    let state = app.state();
    notes.extend(state.scheduled.as_ref().map(coming::rollback));
    notes.extend(coming::watch(app, &state));
    let gated = app.shared().proxy.gated(&app.name);
    if let (Some(_), Some(tally)) = (gated.hold, gated.tally) {
        let (waiting, refused) = (tally.waiting, tally.refused);
        notes.push(format!("an operation holds the requests: {waiting} wait, {refused} got 503"));
    }
    notes
}

fn missing_endpoints(app: &App, state: &AppState) -> Vec<String> {
    let Some(release) = state.serving() else { return Vec::new() };
    if state.kind == AppKind::Static {
        return Vec::new();
    }
    let endpoints = app.endpoints();
    let known = endpoints.get(state.split.leading());
    let mut services: Vec<String> = app
        .settings()
        .spec
        .routes
        .iter()
        .filter(|route| known.get(&route.service).is_none_or(Vec::is_empty))
        .map(|route| route.service.to_string())
        .collect();
    services.sort();
    services.dedup();
    services.into_iter().map(|s| format!("{release} has no running container of {s}")).collect()
}

fn running(state: &AppState) -> Vec<wire::Running> {
    let unended = state.operations.iter().filter(|(_, operation)| operation.ended.is_none());
    let brief = |(id, operation): (&OperationId, &cutover_model::Operation)| wire::Running {
        operation: *id,
        what: operation.what.as_str().to_owned(),
        started_at: operation.started_at.0,
        actor: operation.actor.0.clone(),
    };
    unended.map(brief).collect()
}

/// The weights that are left of the recipe.
pub fn next_weights(state: &AppState) -> Vec<Weight> {
    let Some(rollout) = &state.rollout else { return Vec::new() };
    let weights = rollout.steps.iter().map(|step| step.weight);
    weights.filter(|weight| *weight > state.split.weight).collect()
}

/// The color with the larger share, and the other one.
pub fn sides(desk: &Desk, app: &Arc<App>, state: &AppState) -> (wire::Side, wire::Side) {
    let leading = state.split.leading();
    (side(desk, app, state, leading), side(desk, app, state, leading.other()))
}

fn side(desk: &Desk, app: &Arc<App>, state: &AppState, color: Color) -> wire::Side {
    let release = *state.colors.get(color);
    let standing = release.and_then(|release| state.standing(release));
    let usage = desk.figures.usage(&app.name, color);
    let endpoints = match state.kind {
        AppKind::Static => {
            app.settings().spec.colors.get(color).upstreams.values().map(Vec::len).sum()
        }
        AppKind::Compose => app.endpoints().get(color).values().map(Vec::len).sum::<usize>(),
    };
    wire::Side {
        color,
        weight: state.split.share(color),
        release,
        label: standing.map(|standing| standing.release.label()).unwrap_or_default(),
        state: standing.map(|standing| standing.state),
        since: standing.map(|standing| standing.release.made_at.0),
        endpoints: u32::try_from(endpoints).unwrap_or(u32::MAX),
        traffic: wire::Traffic {
            per_second: usage.per_second(),
            requests: usage.requests,
            failed: usage.failed,
            p99_us: usage.p99_us,
        },
        address: app.color_address(color).ok().map(|address| address.to_string()),
    }
}

/// A release without containers: whether and how fast it can be made again.
fn gone(state: &AppState, to: ReleaseId, lost: &BTreeMap<ReleaseId, Vec<String>>) -> String {
    let record = state.standing(to).map(|standing| &standing.release);
    if record.is_none_or(|record| record.folder.is_empty()) {
        return format!("traffic: not possible, {to} was taken over and has no stack any more");
    }
    if let Some(lost) = lost.get(&to) {
        let lost = lost.join(", ");
        return format!(
            "traffic: images of {to} are gone ({lost}): cutover rollback --to {to} --rebuild"
        );
    }
    let parts = cutover_model::Parts::of(to, state.stable());
    let takes = super::legs::takes(state, to, Some(&parts));
    format!("traffic: {to} has to be made again from its record: {takes}")
}

/// Where a rollback leads without a journal.
fn by_color(state: &AppState) -> wire::Readiness {
    let color =
        if state.split.weight > Weight::ZERO { state.split.stable } else { state.split.canary() };
    let to = *state.colors.get(color);
    let what = to.map_or_else(|| color.to_string(), |to| format!("{to} in {color}"));
    let text = format!("traffic: to {what}, by the last good table; nothing is started for it");
    wire::Readiness { to, label: String::new(), instant: true, text }
}

/// When the next backup is due, and who keeps it from being made, if it is by now.
fn due(desk: &Desk, app: &App) -> (Option<Millis>, Option<OperationId>) {
    let next = app.next_backup(desk.started_at);
    (next, next.filter(|next| *next <= now()).and_then(|_| app.backup_waits()))
}

/// What a rollback would do now, by what is on record.
pub fn rollback(app: &App, state: &AppState) -> wire::Readiness {
    match app.untrusted() {
        Some(_) => by_color(state),
        None => readiness(state, &app.drift().lost),
    }
}

fn readiness(state: &AppState, lost: &BTreeMap<ReleaseId, Vec<String>>) -> wire::Readiness {
    let Some(to) = state.rollback_target() else {
        let text = "nowhere to go back to: no other release has proved itself".to_owned();
        return wire::Readiness { to: None, label: String::new(), instant: false, text };
    };
    let label = state.standing(to).map(|s| s.release.label()).unwrap_or_default();
    let there = Color::BOTH.into_iter().find(|color| *state.colors.get(*color) == Some(to));
    let has_traffic = there.is_some_and(|color| state.split.share(color) > Weight::ZERO);
    if let Some(why) = state.cannot_run(to).filter(|_| !has_traffic) {
        let text = format!("traffic: REFUSED: {why}");
        return wire::Readiness { to: Some(to), label, instant: false, text };
    }
    let (instant, text) = match (there.is_some(), state.release_state(to)) {
        (true, ReleaseState::Warm) => (true, format!("traffic: instant, to {to}, no loss")),
        (true, ReleaseState::Stopped) => {
            let takes = super::legs::takes(state, to, None);
            (false, format!("traffic: {to} is stopped: {takes}"))
        }
        _ => (false, gone(state, to, lost)),
    };
    wire::Readiness { to: Some(to), label, instant, text }
}

/// What belongs right below the first line of an answer.
pub fn remarks(state: &AppState, operation: OperationId) -> Vec<String> {
    let Some(cutover_model::OperationKind::Rollback { to, .. }) =
        state.operations.get(&operation).map(|operation| &operation.what)
    else {
        return Vec::new();
    };
    let skipped: Vec<String> = state
        .releases
        .values()
        .filter(|s| s.release.id > *to && s.proven_at.is_none())
        .filter(|s| s.rejected_by.is_some_and(|by| by != operation))
        .map(|s| format!("{to}, not {}: it never proved itself", s.release.id))
        .collect();
    skipped
}

/// The word for a level, in front of an event.
#[must_use]
pub fn level_word(level: LineLevel) -> &'static str {
    match level {
        LineLevel::Step => "",
        LineLevel::Note => "note",
        LineLevel::Error => "ERROR",
    }
}
