//! The way back of data over the wire: the plan, its acceptance, going on, giving up.

use axum::Json;
use axum::extract::{ConnectInfo, Path, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use cutover_model::restore::{Certainty, Loss};
use cutover_model::{OperationId, Source};

use super::peer::Peer;
use super::wire::{self, DataAsk, ProblemKind, Rows};
use super::{Body, Desk, Nothing, actor, answers, find, problem, request_id};
use crate::controller::{Data, Planned, RestoreRequest, WayBack};

/// `POST …/restore/plan`
pub async fn plan(
    State(desk): State<Desk>,
    Path(name): Path<String>,
    Body(body): Body<wire::RestoreAsk>,
) -> Response {
    let app = match find(&desk, &name) {
        Ok(app) => app,
        Err(answer) => return answer,
    };
    let data = match body.data {
        DataAsk::Cheapest => Data::Cheapest,
        DataAsk::Backup(id) => Data::Backup(id),
        DataAsk::NewestBackup => Data::NewestBackup,
        DataAsk::Point(release) => Data::Point(release),
        DataAsk::Aside(operation) => Data::Aside(operation),
    };
    match Box::pin(app.plan_restore(RestoreRequest { to: body.to, as_of: body.as_of, data })).await
    {
        Ok(planned) => Json(shown(app.name.clone(), planned)).into_response(),
        Err(failure) => answers::failed(&failure),
    }
}

fn shown(app: cutover_model::AppName, planned: Planned) -> wire::RestorePlanned {
    let Planned { plan, bytes, serves, ways, chosen, loss, growing, token } = planned;
    wire::RestorePlanned {
        schema: wire::schema::RESTORE_PLAN.to_owned(),
        app,
        is_way_back: matches!(plan.source, Source::Aside { .. }),
        database: plan.database,
        bytes,
        to: plan.to,
        from: plan.from,
        serves,
        ways: ways.into_iter().map(way).collect(),
        chosen,
        loss,
        lost_since: plan.data_of.0,
        growing,
        aside: plan.aside,
        max_hold_ms: plan.max_hold_ms,
        token,
    }
}

fn way(way: WayBack) -> wire::WayBack {
    let rows = match way.loss {
        Err(why) => Rows::Impossible(why),
        Ok(None) => Rows::NotCounted,
        Ok(Some(loss)) => rows(&loss),
    };
    let takes_ms = way.takes.map(|takes| u64::try_from(takes.as_millis()).unwrap_or(u64::MAX));
    wire::WayBack { what: way.what, rows, waits_ms: None, takes_ms }
}

fn rows(loss: &Loss) -> Rows {
    match loss.certainty {
        Certainty::Exact => Rows::Exact(loss.rows()),
        Certainty::AtMost => Rows::AtMost(loss.rows()),
    }
}

/// `POST …/restore`
pub async fn restore(
    State(desk): State<Desk>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path(name): Path<String>,
    headers: HeaderMap,
    Body(body): Body<wire::RestoreGo>,
) -> Response {
    let app = match find(&desk, &name) {
        Ok(app) => app,
        Err(answer) => return answer,
    };
    let (actor, request) = (actor(&desk, &peer), request_id(&headers));
    match app.restore(&body.token, body.max_loss, actor, request).await {
        Ok(answer) => answers::done(&desk, app, answer),
        Err(failure) => answers::failed(&failure),
    }
}

/// `POST …/operations/o41/continue`
pub async fn go_on(
    State(desk): State<Desk>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path((name, operation)): Path<(String, String)>,
    Body(body): Body<wire::Continue>,
) -> Response {
    let app = match find(&desk, &name) {
        Ok(app) => app,
        Err(answer) => return answer,
    };
    let operation = match parse(&operation) {
        Ok(operation) => operation,
        Err(answer) => return answer,
    };
    match app.go_on(operation, body.max_loss, actor(&desk, &peer)).await {
        Ok(answer) => answers::done(&desk, app, answer),
        Err(failure) => answers::failed(&failure),
    }
}

/// `POST …/operations/o41/abort`
pub async fn give_up(
    State(desk): State<Desk>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path((name, operation)): Path<(String, String)>,
    Body(Nothing {}): Body<Nothing>,
) -> Response {
    let app = match find(&desk, &name) {
        Ok(app) => app,
        Err(answer) => return answer,
    };
    let operation = match parse(&operation) {
        Ok(operation) => operation,
        Err(answer) => return answer,
    };
    match app.give_up(operation, actor(&desk, &peer)).await {
        Ok(answer) => answers::done(&desk, app, answer),
        Err(failure) => answers::failed(&failure),
    }
}

fn parse(operation: &str) -> Result<OperationId, Response> {
    operation.parse().map_err(|error| problem(ProblemKind::Usage, format!("{error}"), 2))
}
