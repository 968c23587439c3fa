//! `GET …/db`: the databases of an app, live, kept and half made.

use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};

use super::wire::{self, DatabaseLine};
use super::{Desk, answers, find};

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
            operation: aside.map(|(operation, _)| *operation),
            rows: aside.map(|(_, aside)| aside.rows),
            name: database.name,
        }
    };
    let databases = seen.into_iter().map(line).collect();
    let (schema, app) = (wire::schema::DATABASES.to_owned(), app.name.clone());
    Json(wire::Databases { schema, app, databases }).into_response()
}
