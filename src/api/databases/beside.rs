//! Databases that operations left beside the live one: their rows, and their end.

use std::convert::Infallible;

use axum::body::{Body as Streamed, Bytes};
use axum::extract::{ConnectInfo, Path, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use cutover_model::OperationId;
use futures_util::stream;

use super::super::peer::Peer;
use super::super::wire::{self, ExportLine, ProblemKind};
use super::super::{Body, Desk, Words, actor, answers, find, problem, request_id};
use super::backups::begun;
use crate::controller::{Export, ExportedRow};

/// The routes below an app.
pub(super) fn routes() -> Router<Desk> {
    Router::new()
        .route("/v1/apps/{app}/db/retire", get(plan).post(retire))
        .route("/v1/apps/{app}/db/export", get(export))
}

fn named(words: &Words) -> Result<OperationId, Response> {
    let text = words.0.get("operation").map(String::as_str).unwrap_or_default();
    text.parse().map_err(|error| problem(ProblemKind::Usage, format!("{error}"), 2))
}

async fn plan(State(desk): State<Desk>, Path(name): Path<String>, words: Words) -> Response {
    let (app, operation) = match (find(&desk, &name), named(&words)) {
        (Ok(app), Ok(operation)) => (app, operation),
        (Err(answer), _) | (_, Err(answer)) => return answer,
    };
    match app.beside(operation).await {
        Ok(beside) => Json(wire::RetirePlan {
            schema: wire::schema::RETIRE_PLAN.to_owned(),
            app: app.name.clone(),
            operation,
            name: beside.name,
            was_live: beside.was.is_some(),
            rows: beside.rows,
            bytes: beside.bytes,
        })
        .into_response(),
        Err(failure) => answers::failed(&failure),
    }
}

async fn retire(
    State(desk): State<Desk>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path(name): Path<String>,
    headers: HeaderMap,
    Body(body): Body<wire::Retire>,
) -> Response {
    let app = match find(&desk, &name) {
        Ok(app) => app,
        Err(answer) => return answer,
    };
    let done = app.retire(body.operation, actor(&desk, &peer), request_id(&headers)).await;
    begun(&desk, app, done)
}

async fn export(State(desk): State<Desk>, Path(name): Path<String>, words: Words) -> Response {
    let (app, operation) = match (find(&desk, &name), named(&words)) {
        (Ok(app), Ok(operation)) => (app, operation),
        (Err(answer), _) | (_, Err(answer)) => return answer,
    };
    let export = match app.export(operation).await {
        Ok(export) => export,
        Err(failure) => return answers::failed(&failure),
    };
    let body = stream::unfold(Some(export), |export| async move {
        let (line, export) = next(export?).await;
        let mut line = serde_json::to_vec(&line).unwrap_or_default();
        line.push(b'\n');
        Some((Ok::<_, Infallible>(Bytes::from(line)), export))
    });
    ([(header::CONTENT_TYPE, "application/x-ndjson")], Streamed::from_stream(body)).into_response()
}

async fn next(mut export: Export) -> (ExportLine, Option<Export>) {
    match export.rows.recv().await {
        Some(ExportedRow::Table { name, columns }) => {
            (ExportLine::Table { name, columns }, Some(export))
        }
        Some(ExportedRow::Row { changed, values }) => {
            (ExportLine::Row { changed, values }, Some(export))
        }
        None => match export.ended.await {
            Ok(Ok(rows)) => (ExportLine::End { rows }, None),
            Ok(Err(trouble)) => (ExportLine::Failed { why: trouble.to_string() }, None),
            Err(_) => (ExportLine::Failed { why: "it broke".to_owned() }, None),
        },
    }
}
