//! `maintenance on` and `off` over the wire.

use std::sync::Arc;

use axum::Json;
use axum::extract::{ConnectInfo, Path, State};
use axum::response::{IntoResponse, Response};
use cutover_model::Closure;

use super::peer::Peer;
use super::wire::{self, PageOf, ProblemKind};
use super::{Body, Desk, Nothing, actor, answers, find, problem, status};
use crate::controller::{App, Closing, Failure, Turned};

/// Bytes of a request: a page of 256 KiB, as JSON writes it.
pub const BODY: usize = 1024 * 1024;

/// The longest time that clients are told to stay away.
const LONGEST_S: u32 = 7 * 24 * 3_600;

/// `POST …/maintenance/on`
pub async fn on(
    State(desk): State<Desk>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path(name): Path<String>,
    Body(body): Body<wire::MaintenanceOn>,
) -> Response {
    let app = match find(&desk, &name) {
        Ok(app) => app,
        Err(answer) => return answer,
    };
    if !(1..=LONGEST_S).contains(&body.retry_after_s) {
        return problem(ProblemKind::Usage, "clients may be sent away for 1 s to 7 days", 2);
    }
    let mut allow = Vec::new();
    for network in &body.allow {
        match network.parse() {
            Ok(network) => allow.push(network),
            Err(error) => return problem(ProblemKind::Usage, format!("--allow: {error}"), 2),
        }
    }
    let closing = Closing { retry_after_s: body.retry_after_s, allow, page: body.page };
    // A caller that goes away must not take a half-done change with it.
    let (task, by) = (Arc::clone(app), actor(&desk, &peer));
    let asked = tokio::spawn(async move { task.close(closing, by).await.map(Some) });
    answer(&desk, app, asked.await)
}

/// `POST …/maintenance/off`
pub async fn off(
    State(desk): State<Desk>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path(name): Path<String>,
    Body(_body): Body<Nothing>,
) -> Response {
    let app = match find(&desk, &name) {
        Ok(app) => app,
        Err(answer) => return answer,
    };
    let (task, by) = (Arc::clone(app), actor(&desk, &peer));
    let asked = tokio::spawn(async move { task.reopen(by).await });
    answer(&desk, app, asked.await)
}

type Asked = Result<Result<Option<Turned>, Failure>, tokio::task::JoinError>;

fn answer(desk: &Desk, app: &Arc<App>, asked: Asked) -> Response {
    match asked {
        Ok(Ok(Some(turned))) => done(desk, app, turned),
        Ok(Ok(None)) => {
            let text = "Nothing to do: clients are served, no maintenance is on";
            problem(ProblemKind::NothingToDo, text, 0)
        }
        Ok(Err(failure)) => answers::failed(&failure),
        Err(error) => problem(ProblemKind::Failed, format!("it broke: {error}"), 1),
    }
}

fn done(desk: &Desk, app: &Arc<App>, turned: Turned) -> Response {
    Json(wire::Turned {
        schema: wire::schema::MAINTENANCE.to_owned(),
        app: app.name.clone(),
        at: turned.at.0,
        took_us: u64::try_from(turned.took.as_micros()).unwrap_or(u64::MAX),
        recorded: answers::recorded(turned.recorded),
        before: turned.before.as_ref().map(of),
        maintenance: turned.closure.as_ref().map(of),
        requests: turned.requests,
        tunnels: turned.tunnels,
        serves: status::sides(desk, app, &app.state()).0,
    })
    .into_response()
}

/// A maintenance as it goes over the wire.
#[must_use]
pub fn of(closure: &Closure) -> wire::Maintenance {
    wire::Maintenance {
        since: closure.since.0,
        by: closure.by.0.clone(),
        retry_after_s: closure.how.retry_after_s,
        allow: closure.how.allow.clone(),
        page: if closure.how.page.is_some() { PageOf::Operator } else { PageOf::Cutover },
    }
}
