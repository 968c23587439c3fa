//! `adopt` and `leave`: the plan first, then the operation.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{ConnectInfo, Path, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};

use super::peer::Peer;
use super::wire::{self, ProblemKind};
use super::{Body, Desk, Words, actor, answers, find, problem, request_id};

/// How long old and new are compared when nothing is said.
const COMPARE: Duration = Duration::from_secs(60);

/// The longest comparison.
const LONGEST: Duration = Duration::from_secs(3_600);

fn length(millis: Option<u64>) -> Duration {
    millis.map_or(COMPARE, Duration::from_millis).min(LONGEST)
}

fn plan(text: String, ports: Vec<u16>) -> Response {
    Json(wire::Plan { schema: wire::schema::PLAN.to_owned(), text, ports }).into_response()
}

/// `GET …/adopt?compare_ms=60000`
pub async fn adopt_plan(
    State(desk): State<Desk>,
    Path(name): Path<String>,
    words: Words,
) -> Response {
    let app = match find(&desk, &name) {
        Ok(app) => app,
        Err(answer) => return answer,
    };
    let compare = words.0.get("compare_ms").and_then(|text| text.parse().ok());
    match app.adoption_plan(length(compare)).await {
        Ok(found) => plan(found.to_string(), found.ports),
        Err(why) => problem(ProblemKind::Refused, format!("{why}. NOTHING WAS CHANGED."), 4),
    }
}

/// `POST …/adopt`
pub async fn adopt(
    State(desk): State<Desk>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path(name): Path<String>,
    headers: HeaderMap,
    Body(body): Body<wire::Adopt>,
) -> Response {
    let app = match find(&desk, &name) {
        Ok(app) => app,
        Err(answer) => return answer,
    };
    let (task, actor, request) = (Arc::clone(app), actor(&desk, &peer), request_id(&headers));
    let compare = length(body.compare_ms);
    match tokio::spawn(async move { task.adopt(compare, actor, request).await }).await {
        Ok(Ok(answer)) => answers::done(&desk, app, answer),
        Ok(Err(failure)) => answers::failed(&failure),
        Err(error) => problem(ProblemKind::Failed, format!("it broke: {error}"), 1),
    }
}

/// `GET …/leave`
pub async fn leave_plan(State(desk): State<Desk>, Path(name): Path<String>) -> Response {
    let app = match find(&desk, &name) {
        Ok(app) => app,
        Err(answer) => return answer,
    };
    match app.leave_plan().await {
        Ok(found) => plan(found.to_string(), found.ports),
        Err(why) => problem(ProblemKind::Refused, format!("{why}. NOTHING WAS CHANGED."), 4),
    }
}

/// `POST …/leave`
pub async fn leave(
    State(desk): State<Desk>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path(name): Path<String>,
    headers: HeaderMap,
    Body(_): Body<super::Nothing>,
) -> Response {
    let app = match find(&desk, &name) {
        Ok(app) => app,
        Err(answer) => return answer,
    };
    let (task, actor, request) = (Arc::clone(app), actor(&desk, &peer), request_id(&headers));
    match tokio::spawn(async move { task.leave(actor, request).await }).await {
        Ok(Ok(answer)) => answers::done(&desk, app, answer),
        Ok(Err(failure)) => answers::failed(&failure),
        Err(error) => problem(ProblemKind::Failed, format!("it broke: {error}"), 1),
    }
}
