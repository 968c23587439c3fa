//! Commands that need more than one input, and how the controller's answers go over the wire.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{ConnectInfo, Path, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use cutover_model::{Color, Effect, Fact, Refusal, ReleaseId, Settle, Weight};
use futures_util::stream;
use tokio::sync::mpsc;

use super::peer::Peer;
use super::wire::{self, ProblemKind};
use super::{Body as Given, Desk, Words, actor, find, problem, problem_with, request_id, status};
use crate::controller::{Again, Answer, App, DeployRequest, Failure, Mode, Recorded, Tree};

/// How long a preview link is good.
const PREVIEW: std::time::Duration = std::time::Duration::from_secs(3_600);

/// Log lines of a release when nothing is said.
const LOG_LINES: usize = 100;

/// An answer that a command was carried out or begun.
pub fn done(desk: &Desk, app: &Arc<App>, answer: Answer) -> Response {
    let seen = status::sides(desk, app, &answer.state);
    let what = answer.state.operations.get(&answer.operation);
    let moved = answer.moved.map(|moved| wire::Moved {
        weight: (moved.before.weight, moved.after.weight),
        stable: (moved.before.stable, moved.after.stable),
        generation: moved.generation,
        took_us: u64::try_from(moved.took.as_micros()).unwrap_or(u64::MAX),
    });
    Json(wire::Done {
        schema: wire::schema::DONE.to_owned(),
        app: app.name.clone(),
        operation: answer.operation,
        what: what.map_or("", |operation| operation.what.as_str()).to_owned(),
        at: answer.at.0,
        moved,
        recorded: recorded(answer.recorded),
        serves: seen.0,
        standby: seen.1,
        next_weights: status::next_weights(&answer.state),
        remarks: status::remarks(&answer.state, answer.operation),
        cuts_only: matches!(answer.effects.as_slice(), [Effect::Drain { .. }]),
        has_database: app.settings().database.is_some() && app.settings().stack.is_some(),
        rollback: Some(status::rollback(app, &answer.state)),
    })
    .into_response()
}

/// Where a change stands.
pub fn recorded(recorded: Recorded) -> wire::Recorded {
    match recorded {
        Recorded::Journal => wire::Recorded::Journal,
        Recorded::WeightsOnly(why) => wire::Recorded::WeightsOnly { why },
        Recorded::MemoryOnly(why) => wire::Recorded::MemoryOnly { why },
    }
}

/// An answer that nothing was done, or that it failed.
pub fn failed(failure: &Failure) -> Response {
    let message = failure.to_string();
    match failure {
        Failure::Refused(refusal) => refused(refusal, message),
        Failure::NotRecorded(_) | Failure::TooLate { .. } => {
            problem(ProblemKind::NotRecorded, message, 4)
        }
        Failure::Overtaken(_) | Failure::Untrusted(_) => problem(ProblemKind::Refused, message, 4),
        Failure::Unknown(_) => problem(ProblemKind::NotFound, message, 2),
        Failure::Impossible(why) => {
            let message = format!("{why}. NOTHING WAS CHANGED.");
            problem(ProblemKind::Refused, message, 4)
        }
        Failure::Away(why) => {
            let message = format!("{why}. NOTHING WAS CHANGED.");
            problem(ProblemKind::Refused, message, 4)
        }
        Failure::Stopping => problem(ProblemKind::Failed, message, 69),
    }
}

fn refused(refusal: &Refusal, message: String) -> Response {
    match refusal {
        Refusal::AlreadyThere { release, since } => {
            let since = since.map_or(String::new(), |(at, operation)| {
                let by = operation.map_or(String::new(), |operation| format!(" ({operation})"));
                format!(" since {}{by}", crate::text::clock(at.0))
            });
            let message = format!("Nothing to do: {release} has had all traffic{since}");
            problem_with(ProblemKind::NothingToDo, message, undo_way(refusal), 0)
        }
        Refusal::SameWeight { split } => {
            let message = format!("Nothing to do: the weight is {} already", split.weight);
            problem(ProblemKind::NothingToDo, message, 0)
        }
        Refusal::Busy { .. } => problem(ProblemKind::Busy, message, 6),
        Refusal::Cannot { why, ways } => problem_with(
            ProblemKind::Refused,
            format!("{why}. NOTHING WAS CHANGED."),
            ways.clone(),
            4,
        ),
        Refusal::Schema { why, ways } => problem_with(
            ProblemKind::Schema,
            format!("{why}. NOTHING WAS CHANGED."),
            ways.clone(),
            4,
        ),
        Refusal::LosesRows { operation } => {
            let way = cutover_model::Way {
                command: format!("cutover undo {operation} --dry-run"),
                what: "counts it first".to_owned(),
            };
            problem_with(ProblemKind::AsksLoss, message, vec![way], 4)
        }
        Refusal::Unknown { .. } => problem(ProblemKind::NotFound, message, 2),
    }
}

fn undo_way(refusal: &Refusal) -> Vec<cutover_model::Way> {
    let Refusal::AlreadyThere { since: Some((_, Some(operation))), .. } = refusal else {
        return Vec::new();
    };
    vec![cutover_model::Way {
        command: format!("cutover undo {operation}"),
        what: "takes that back".to_owned(),
    }]
}

/// `POST …/deploy`
pub async fn deploy(
    State(desk): State<Desk>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path(name): Path<String>,
    headers: HeaderMap,
    Given(body): Given<wire::Deploy>,
) -> Response {
    let app = match find(&desk, &name) {
        Ok(app) => app,
        Err(answer) => return answer,
    };
    let settle = match (body.at_once, body.no_traffic) {
        (true, true) => {
            let text = "--at-once and --no-traffic contradict each other";
            return problem(ProblemKind::Usage, text, 2);
        }
        (true, false) => Settle::AtOnce,
        (false, true) => Settle::NoTraffic,
        (false, false) => Settle::FirstStep,
    };
    let mut images = Vec::new();
    for (service, image) in body.images {
        match service.parse() {
            Ok(service) => images.push((service, image)),
            Err(error) => return problem(ProblemKind::Usage, format!("--image: {error}"), 2),
        }
    }
    let request = DeployRequest {
        reference: body.reference,
        images,
        settle,
        mode: Mode {
            tree: if body.dirty { Tree::Dirty } else { Tree::Commit },
            again: if body.again { Again::Allowed } else { Again::Refused },
        },
        request: request_id(&headers),
    };
    let (task, actor) = (Arc::clone(app), actor(&desk, &peer));
    let asked = tokio::spawn(async move { task.deploy(request, actor).await });
    match asked.await {
        Ok(Ok(answer)) => done(&desk, app, answer),
        Ok(Err(failure)) => failed(&failure),
        Err(error) => problem(ProblemKind::Failed, format!("it broke: {error}"), 1),
    }
}

/// `POST …/note`
pub async fn note(
    State(desk): State<Desk>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path(name): Path<String>,
    Given(body): Given<wire::Note>,
) -> Response {
    let app = match find(&desk, &name) {
        Ok(app) => app,
        Err(answer) => return answer,
    };
    let operation = body.operation;
    if operation > app.state().newest_operation {
        return problem(ProblemKind::NotFound, format!("there is no operation {operation}"), 2);
    }
    let noted = vec![Fact::Noted { operation, text: body.text }];
    match app.record(actor(&desk, &peer), noted).await {
        Ok(()) => Json(serde_json::json!({"schema": "cutover.noted/1", "operation": operation}))
            .into_response(),
        Err(failure) => failed(&failure),
    }
}

/// `GET …/releases`
pub async fn releases(State(desk): State<Desk>, Path(name): Path<String>) -> Response {
    let app = match find(&desk, &name) {
        Ok(app) => app,
        Err(answer) => return answer,
    };
    let state = app.state();
    let line = |standing: &cutover_model::Standing| {
        let release = &standing.release;
        let is_there = *state.colors.get(release.color) == Some(release.id);
        wire::ReleaseLine {
            release: release.id,
            label: release.label(),
            commit: release.commit.clone(),
            color: release.color,
            state: standing.state,
            weight: if is_there { state.split.share(release.color) } else { Weight::ZERO },
            made_at: release.made_at.0,
            proven_at: standing.proven_at.map(|at| at.0),
            rejected_by: standing.rejected_by,
            images: release.images.clone(),
            migrations: release.migrations.clone(),
            parts: release.parts,
        }
    };
    let releases = state.releases.values().rev().map(line).collect();
    let (schema, app) = (wire::schema::RELEASES.to_owned(), app.name.clone());
    Json(wire::Releases { schema, app, releases }).into_response()
}

/// The release that a query names; `None`: the canary, or the one that serves.
fn named(app: &App, words: &Words) -> Result<(ReleaseId, Color), Response> {
    let state = app.state();
    let wanted = match words.0.get("release") {
        Some(text) => match text.parse::<ReleaseId>() {
            Ok(release) => Some(release),
            Err(error) => return Err(problem(ProblemKind::Usage, error.to_string(), 2)),
        },
        None => state.rollout.as_ref().map(|r| r.release).or(state.serving()),
    };
    let Some(wanted) = wanted else {
        return Err(problem(ProblemKind::NotFound, "no release is there yet", 2));
    };
    Color::BOTH
        .into_iter()
        .find(|color| *state.colors.get(*color) == Some(wanted))
        .map(|color| (wanted, color))
        .ok_or_else(|| {
            let text = format!("{wanted} has no stack: cutover releases lists what there is");
            problem(ProblemKind::NotFound, text, 2)
        })
}

/// `GET …/preview?release=r6`
pub async fn preview(State(desk): State<Desk>, Path(name): Path<String>, words: Words) -> Response {
    let app = match find(&desk, &name) {
        Ok(app) => app,
        Err(answer) => return answer,
    };
    let (release, color) = match named(app, &words) {
        Ok(found) => found,
        Err(answer) => return answer,
    };
    let until = std::time::SystemTime::now() + PREVIEW;
    let token = cutover_proxy::preview_token(desk.cookie_key.expose(), &app.name, color, until);
    let settings = app.settings();
    let route = settings.spec.routes.first();
    let path = route.map_or("/", |route| route.path.as_str());
    let host = route.and_then(|route| route.host.clone()).unwrap_or_else(|| {
        // An address that means "all" is none to type into a browser.
        desk.listen.first().map_or_else(
            || "localhost".to_owned(),
            |listen| match listen.ip().is_unspecified() {
                true => format!("localhost:{}", listen.port()),
                false => listen.to_string(),
            },
        )
    });
    Json(wire::Preview {
        schema: wire::schema::PREVIEW.to_owned(),
        release,
        color,
        link: format!("http://{host}{path}?cutover-preview={token}"),
        until: crate::controller::now().0 + 1_000 * i64::try_from(PREVIEW.as_secs()).unwrap_or(0),
        address: app.color_address(color).ok().map(|address| address.to_string()),
    })
    .into_response()
}

fn follow_lines(lines: mpsc::Receiver<(String, String)>) -> Response {
    let body = stream::unfold(lines, |mut lines| async move {
        let (service, line) = lines.recv().await?;
        let mut line = serde_json::to_vec(&wire::LogLine { service, line }).unwrap_or_default();
        line.push(b'\n');
        Some((Ok::<_, Infallible>(Bytes::from(line)), lines))
    });
    ([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(body)).into_response()
}

/// `GET …/logs?release=r6&service=backend&tail=100`; with `follow=1` JSON lines that go on.
pub async fn logs(State(desk): State<Desk>, Path(name): Path<String>, words: Words) -> Response {
    let app = match find(&desk, &name) {
        Ok(app) => app,
        Err(answer) => return answer,
    };
    let (_, color) = match named(app, &words) {
        Ok(found) => found,
        Err(answer) => return answer,
    };
    let tail = match words.0.get("tail").map(|text| text.parse::<usize>()) {
        None => LOG_LINES,
        Some(Ok(tail)) => tail.min(10_000),
        Some(Err(_)) => return problem(ProblemKind::Usage, "tail is a number of lines", 2),
    };
    let service = words.0.get("service").map(String::as_str);
    if words.0.contains_key("follow") {
        return match app.follow_logs(color, service, tail).await {
            Ok(lines) => follow_lines(lines),
            Err(why) => problem(ProblemKind::Failed, why, 1),
        };
    }
    match app.logs(color, service, tail).await {
        Ok(lines) => {
            let lines: Vec<wire::LogLine> =
                lines.into_iter().map(|(service, line)| wire::LogLine { service, line }).collect();
            Json(lines).into_response()
        }
        Err(why) => problem(ProblemKind::Failed, why, 1),
    }
}
