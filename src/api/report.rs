//! The incident report of an operation: gathered from the journal, the data plane and checks that
//! are made now.
//!
//! `gather` picks and counts, `checks` asks; what could not be had is said to be not known. The
//! sections that people write are kept in the state folder, one file for each operation.

mod checks;
mod gather;

use std::path::PathBuf;

use axum::Json;
use axum::extract::{ConnectInfo, Path, State};
use axum::response::{IntoResponse, Response};
use cutover_model::{Ending, Operation, OperationId, OperationKind};

use super::peer::Peer;
use super::wire::{self, ProblemKind};
use super::{Body, Desk, events, find, problem};
use crate::controller::{App, now};
use crate::host::files;
use crate::report::Written;

/// Bytes of a section that a person writes.
const MOST: usize = 16 * 1024;

/// `GET …/operations/o41/report`; `-` is the newest rollback or restore.
pub async fn report(
    State(desk): State<Desk>,
    Path((name, operation)): Path<(String, String)>,
) -> Response {
    let app = match find(&desk, &name) {
        Ok(app) => app,
        Err(answer) => return answer,
    };
    let operation = match named(app, &operation) {
        Ok(operation) => operation,
        Err(answer) => return answer,
    };
    let facts = match events::all(app).await {
        Ok(facts) => facts,
        Err(answer) => return answer,
    };
    let Some(mut report) = gather::from_facts(app, operation, &facts, now().0) else {
        let text = match operation <= app.state().newest_operation {
            true => format!("{operation} is older than the record that a report reads"),
            false => format!("there is no operation {operation}"),
        };
        return problem(ProblemKind::NotFound, text, 2);
    };
    gather::users(app, desk.started_at.0, &mut report).await;
    gather::trim(&mut report);
    gather::difference(app, &mut report).await;
    gather::logs(app, &mut report).await;
    report.checks = checks::all(&desk, app, &report, &facts).await;
    report.written = match written(app, operation).await {
        Ok(written) => written,
        Err(why) => return problem(ProblemKind::Failed, why, 1),
    };
    Json(report).into_response()
}

fn named(app: &App, text: &str) -> Result<OperationId, Response> {
    if text != "-" {
        let parsed: Result<OperationId, _> = text.parse();
        return parsed.map_err(|error| problem(ProblemKind::Usage, error.to_string(), 2));
    }
    let state = app.state();
    let is_incident = |operation: &Operation| {
        let is_back = matches!(
            operation.what,
            OperationKind::Rollback { .. }
                | OperationKind::Remake { .. }
                | OperationKind::Restore { .. }
        );
        // What was refused has changed nothing.
        is_back && !matches!(operation.ended, Some((_, Ending::Refused(_))))
    };
    let newest = state.operations.iter().rev().find(|(_, operation)| is_incident(operation));
    newest.map(|(id, _)| *id).ok_or_else(|| {
        let text = "nothing was rolled back or restored: name an operation, as in o41";
        problem(ProblemKind::NotFound, text, 2)
    })
}

fn place(app: &App, operation: OperationId) -> PathBuf {
    let reports = app.shared().state.join("reports").join(app.name.as_str());
    reports.join(format!("{operation}.json"))
}

async fn written(app: &App, operation: OperationId) -> Result<Written, String> {
    let path = place(app, operation);
    match tokio::fs::read(&path).await {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map_err(|error| format!("{} cannot be read: {error}", path.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Written::default()),
        Err(error) => Err(format!("{} cannot be read: {error}", path.display())),
    }
}

/// `POST …/operations/o41/report`: what people wrote, all three sections.
pub async fn write(
    State(desk): State<Desk>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path((name, operation)): Path<(String, String)>,
    Body(body): Body<Written>,
) -> Response {
    let app = match find(&desk, &name) {
        Ok(app) => app,
        Err(answer) => return answer,
    };
    let operation = match named(app, &operation) {
        Ok(operation) => operation,
        Err(answer) => return answer,
    };
    if operation > app.state().newest_operation {
        return problem(ProblemKind::NotFound, format!("there is no operation {operation}"), 2);
    }
    let sections = [&body.cause, &body.improvements, &body.prevention];
    if sections.iter().any(|section| section.len() > MOST) {
        let text = format!("a section has at most {MOST} bytes: keep it to what was found");
        return problem(ProblemKind::Usage, text, 2);
    }
    let bytes = match serde_json::to_vec_pretty(&body) {
        Ok(bytes) => bytes,
        Err(error) => return problem(ProblemKind::Failed, error.to_string(), 1),
    };
    tracing::info!(%operation, by = peer.name(&desk.users), "a report was written");
    match files::write_file(&place(app, operation), bytes).await {
        Ok(()) => {
            let schema = wire::schema::REPORT_WRITTEN;
            Json(serde_json::json!({"schema": schema, "operation": operation})).into_response()
        }
        Err(error) => problem(ProblemKind::NotRecorded, error.to_string(), 4),
    }
}
