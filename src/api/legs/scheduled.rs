//! `rollback --at TIME`: set for later, or taken back.

use std::sync::Arc;

use axum::Json;
use axum::extract::{ConnectInfo, Path, State};
use axum::response::{IntoResponse, Response};
use cutover_model::{Millis, Scheduled};

use super::super::peer::Peer;
use super::super::wire::{self, ProblemKind};
use super::super::{Body as Given, Desk, actor, answers, find, problem};
use crate::controller::{App, Failure, now};

/// `POST …/rollback/schedule`
pub async fn set(
    State(desk): State<Desk>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path(name): Path<String>,
    Given(body): Given<wire::RollbackAt>,
) -> Response {
    let app = match find(&desk, &name) {
        Ok(app) => app,
        Err(answer) => return answer,
    };
    if body.rollback.composes() || body.rollback.dry_run {
        let text = "only a release that is on record can be set for later";
        return problem(ProblemKind::Usage, text, 2);
    }
    let (task, by) = (Arc::clone(app), actor(&desk, &peer));
    let what = (body.rollback.to, body.rollback.manner());
    // A caller that goes away must not leave it unknown whether it was set.
    let asked = tokio::spawn(async move {
        match body.at {
            Some(at) => task.schedule_rollback(Millis(at), what, by).await.map(Some),
            None => task.unschedule_rollback(by).await,
        }
    });
    match asked.await {
        Ok(Ok(Some(scheduled))) => Json(shown(app, scheduled)).into_response(),
        Ok(Ok(None)) => {
            problem(ProblemKind::NothingToDo, "Nothing to do: no rollback is set for later", 0)
        }
        Ok(Err(failure)) => answers::failed(&failure),
        Err(error) => answers::failed(&Failure::Unknown(format!("it broke: {error}"))),
    }
}

fn shown(app: &App, scheduled: Scheduled) -> wire::RollbackSet {
    wire::RollbackSet {
        schema: wire::schema::ROLLBACK_SET.to_owned(),
        app: app.name.clone(),
        at: scheduled.at.0,
        to: scheduled.to,
        from: scheduled.from,
        by: scheduled.by.0,
        now: now().0,
    }
}
