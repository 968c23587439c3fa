//! `rollback`: traffic at once where the release's stack is there; else the stack is made first,
//! whole or of chosen parts. A dry run shows the plan of the same decision.

pub mod scheduled;

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Json;
use axum::extract::{ConnectInfo, Path, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use cutover_model::{
    Action, AppState, IdError, Input, Leg, Parts, Release, ReleaseId, ReleaseState,
};

use super::peer::Peer;
use super::wire::{self, ProblemKind};
use super::{Body as Given, Desk, Words, actor, answers, find, problem, request_id};
use crate::controller::Failure;

/// `POST …/rollback`
pub async fn rollback(
    State(desk): State<Desk>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path(name): Path<String>,
    headers: HeaderMap,
    Given(body): Given<wire::Rollback>,
) -> Response {
    let app = match find(&desk, &name) {
        Ok(app) => app,
        Err(answer) => return answer,
    };
    let input = input(&body);
    let task = Arc::clone(app);
    if body.dry_run {
        let planned = task.preview_rollback(input).await;
        return match planned {
            Ok(planned) => {
                let state = app.state();
                let plan = wire::RollbackPlan {
                    schema: wire::schema::ROLLBACK_PLAN.to_owned(),
                    app: app.name.clone(),
                    serves: state.serving(),
                    release: planned.release,
                    parts: planned.parts,
                    actions: planned.actions.iter().map(told).collect(),
                    takes: takes(&state, planned.release, planned.parts.as_ref()),
                };
                Json(plan).into_response()
            }
            Err(failure) => answers::failed(&failure),
        };
    }
    let (actor, request) = (actor(&desk, &peer), request_id(&headers));
    // A caller that goes away must not take a half-done command with it.
    let asked = tokio::spawn(async move { task.roll_back(input, actor, request).await });
    match asked.await {
        Ok(Ok(answer)) => answers::done(&desk, app, answer),
        Ok(Err(failure)) => answers::failed(&failure),
        Err(error) => answers::failed(&Failure::Unknown(format!("it broke: {error}"))),
    }
}

fn input(body: &wire::Rollback) -> Input {
    let manner = body.manner();
    if !body.composes() {
        return Input::Rollback { to: body.to, manner };
    }
    let legs = if body.legs.is_empty() { Leg::ALL.to_vec() } else { body.legs.clone() };
    Input::Compose { to: body.to, legs, rebuild: body.rebuild, manner }
}

/// One action of the plan, in the operator's words.
fn told(action: &Action) -> String {
    let text = match action {
        Action::Assemble { release, parts, .. } if parts.whole() == Some(*release) => {
            "the files that were kept, images by id, env files as they were".to_owned()
        }
        Action::Assemble { release, parts, .. } => format!("{release} = {}", parts.told()),
        Action::Clear { color, .. } => format!("what is in {color} makes room"),
        Action::Share { .. } => "shared services run and are linked; none is restarted".to_owned(),
        Action::Revive { color, .. } => format!("containers in {color}; no job, no migration"),
        Action::Probe { .. } => "asked on the path that clients take".to_owned(),
        _ => String::new(),
    };
    format!("{:<10} {text}", action.label()).trim_end().to_owned()
}

/// How long it takes until traffic moves, by what was measured here.
pub fn takes(state: &AppState, release: ReleaseId, parts: Option<&Parts>) -> String {
    let shown = |ms: u64| crate::text::duration(std::time::Duration::from_millis(ms));
    let measured = &state.measured;
    match (parts, state.release_state(release)) {
        (None, ReleaseState::Warm) => "instant".to_owned(),
        (None, ReleaseState::Stopped) => match (measured.wake_ms, measured.start_ms) {
            (Some(ms), _) => format!("a start, last time {}", shown(ms)),
            (None, Some(ms)) => format!("a start; that of the last deploy took {}", shown(ms)),
            (None, None) => "a start; none was measured yet".to_owned(),
        },
        _ => match (measured.remake_ms, measured.start_ms) {
            (Some(ms), _) => format!("last time {}", shown(ms)),
            (None, Some(ms)) => format!("the start of the last deploy took {}", shown(ms)),
            (None, None) => "not measured yet".to_owned(),
        },
    }
}

/// `GET …/releases/diff?from=r1&to=r2`
pub async fn diff(State(desk): State<Desk>, Path(name): Path<String>, words: Words) -> Response {
    let app = match find(&desk, &name) {
        Ok(app) => app,
        Err(answer) => return answer,
    };
    let state = app.state();
    let named = |word: &str| -> Result<Release, Response> {
        let text = words.0.get(word).map_or("", String::as_str);
        let id: ReleaseId =
            text.parse().map_err(|e: IdError| problem(ProblemKind::Usage, e.to_string(), 2))?;
        let standing = state.standing(id).map(|standing| standing.release.clone());
        standing
            .ok_or_else(|| problem(ProblemKind::NotFound, format!("there is no release {id}"), 2))
    };
    let (from, to) = match (named("from"), named("to")) {
        (Ok(from), Ok(to)) => (from, to),
        (Err(answer), _) | (_, Err(answer)) => return answer,
    };
    let compared = app.compare(&from, &to).await;
    let env = compared.env.into_iter().map(|(file, diff)| wire::EnvFileDiff {
        file,
        added: diff.added,
        removed: diff.removed,
        changed: diff.changed,
    });
    let migrations = match (&from.migrations, &to.migrations) {
        (Some(from), Some(to)) => {
            Some(to.iter().filter(|name| !from.contains(name)).cloned().collect())
        }
        _ => None,
    };
    Json(wire::ReleasesDiff {
        schema: wire::schema::RELEASES_DIFF.to_owned(),
        from: from.id,
        to: to.id,
        labels: (from.label(), to.label()),
        commits: compared.commits,
        images: images(&from, &to),
        migrations,
        env: env.collect(),
        unknown: compared.unknown,
    })
    .into_response()
}

fn images(from: &Release, to: &Release) -> Vec<wire::ImageDiff> {
    let services: BTreeSet<&String> = from.images.keys().chain(to.images.keys()).collect();
    let both = services.into_iter().map(|service| wire::ImageDiff {
        service: service.clone(),
        from: from.images.get(service).cloned(),
        to: to.images.get(service).cloned(),
    });
    both.filter(|diff| diff.from != diff.to).collect()
}
