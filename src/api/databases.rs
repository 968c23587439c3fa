//! `GET …/db`: the databases of an app, live, kept and half made; and its migrations.

mod backups;
mod beside;

use std::sync::Arc;

use axum::extract::{ConnectInfo, DefaultBodyLimit, Path, State};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};

use super::peer::Peer;
use super::wire::{self, DatabaseLine, DownLine, MigrationLine, ProblemKind, ToolLine};
use super::{Body, Desk, actor, answers, find, problem};

/// The routes of backups and of databases beside the live one.
pub fn routes(desk: Desk) -> Router {
    Router::new()
        .merge(backups::routes())
        .merge(beside::routes())
        .layer(DefaultBodyLimit::max(super::BODY))
        .with_state(desk)
}

/// What there is.
pub async fn list(State(desk): State<Desk>, Path(name): Path<String>) -> Response {
    let app = match find(&desk, &name) {
        Ok(app) => app,
        Err(answer) => return answer,
    };
    let seen = match app.databases().await {
        Ok(seen) => seen,
        Err(failure) => return answers::failed(&failure),
    };
    let state = app.state();
    let line = |database: crate::controller::Kept| {
        let aside = state.asides.iter().find(|(_, aside)| aside.name == database.name);
        let point = state.points.values().find(|point| point.name == database.name);
        DatabaseLine {
            what: database.what.to_owned(),
            since: aside.map(|(_, aside)| aside.since.0).or(point.map(|point| point.at.0)),
            bytes: database.bytes,
            operation: aside.map(|(operation, _)| *operation).or(database.operation),
            rows: aside.map(|(_, aside)| aside.rows),
            name: database.name,
        }
    };
    let databases = seen.into_iter().map(line).collect();
    let (schema, app) = (wire::schema::DATABASES.to_owned(), app.name.clone());
    Json(wire::Databases { schema, app, databases }).into_response()
}

/// `GET …/migrations`
pub async fn migrations(State(desk): State<Desk>, Path(name): Path<String>) -> Response {
    let app = match find(&desk, &name) {
        Ok(app) => app,
        Err(answer) => return answer,
    };
    let line = |seen: crate::controller::MigrationSeen| {
        let (release, told) = seen.by.unzip();
        MigrationLine { name: seen.name, release, told }
    };
    let down = app.down_way().await.map(|way| DownLine {
        release: way.release,
        names: way.names,
        command: way.command,
        impossible: way.impossible,
    });
    let tool = app.migration_tool_says().await.map(|said| match said {
        Ok(lines) => ToolLine { lines, failed: None },
        Err(why) => ToolLine { lines: Vec::new(), failed: Some(why) },
    });
    let applied = app.migrations().await.map(|seen| seen.into_iter().map(line).collect());
    let (schema, app) = (wire::schema::MIGRATIONS.to_owned(), app.name.clone());
    Json(wire::Migrations { schema, app, applied, down, tool }).into_response()
}

/// `POST …/migrations/down`
pub async fn migrate_down(
    State(desk): State<Desk>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path(name): Path<String>,
    Body(shown): Body<wire::MigrateDown>,
) -> Response {
    let app = match find(&desk, &name) {
        Ok(app) => app,
        Err(answer) => return answer,
    };
    // A caller that goes away must not take a half-done change with it.
    let (task, by) = (Arc::clone(app), actor(&desk, &peer));
    let shown = (shown.release, shown.names);
    match tokio::spawn(async move { task.migrate_down(shown, by, None).await }).await {
        Ok(Ok(answer)) => answers::done(&desk, app, answer),
        Ok(Err(failure)) => answers::failed(&failure),
        Err(error) => problem(ProblemKind::Failed, format!("it broke: {error}"), 1),
    }
}
