//! The admin API: JSON over the Unix socket, for the command line and for nobody else yet.
//!
//! Bodies are small and bounded, callers are known by the socket's peer credentials, a browser's
//! request (one with `Origin`) is refused. It decides nothing: it turns a request into an input of
//! the controller and the answer into `wire` shapes.

#![expect(clippy::result_large_err, reason = "an error here is the whole answer, made once")]

pub mod adoption;
pub mod analysis;
pub mod answers;
pub mod databases;
pub mod doctor;
pub mod events;
pub mod legs;
pub mod maintenance;
pub mod metrics;
pub mod peer;
pub mod rate;
pub mod report;
pub mod restore;
pub mod status;
pub mod tcp;
pub mod wire;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::rejection::JsonRejection;
use axum::extract::{ConnectInfo, DefaultBodyLimit, FromRequest, Path, Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use cutover_model::{Actor, Input, Millis};
use cutover_proxy::SigningKey;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::net::{TcpListener, UnixListener};
use tokio_util::sync::CancellationToken;

use crate::controller::{App, Controller, Failure, fresh_salt};
use analysis::Figures;
use peer::{Peer, Users};
use rate::{Pass, Rate};

/// Bytes of a request body: the largest, a note, has some hundred.
const BODY: usize = 64 * 1024;

/// How long a request may take to be answered; streams have their own rules.
const LIMIT: Duration = Duration::from_secs(30);

/// How long the file with the users' names may take to be looked at.
const NAMES: Duration = Duration::from_millis(500);

/// What the routes know.
#[derive(Debug, Clone)]
pub struct Desk {
    /// All apps.
    pub controller: Controller,
    /// The figures of the last minute.
    pub figures: Arc<Figures>,
    /// When the daemon started.
    pub started_at: Millis,
    /// Where it listens.
    pub listen: Vec<SocketAddr>,
    /// The key of preview links.
    pub cookie_key: SigningKey,
    /// Who may come in by the socket.
    pub door: peer::Door,
    /// What is wrong with the daemon itself.
    pub troubles: Arc<status::Troubles>,
    /// What they are called.
    pub users: Arc<Users>,
}

/// Serves the socket until `stop`.
///
/// # Errors
/// When the socket cannot be accepted from.
pub async fn serve(
    listener: UnixListener,
    desk: Desk,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let routes = Router::new()
        .merge(public(desk.clone()))
        .merge(admin(desk.clone()))
        .merge(databases::routes(desk.clone()))
        .layer(middleware::from_fn_with_state((desk, Arc::new(Rate::default())), guard))
        .into_make_service_with_connect_info::<Peer>();
    axum::serve(listener, routes).with_graceful_shutdown(stop.cancelled_owned()).await
}

/// Serves `/metrics`, `/healthz` and `/readyz` on TCP, read-only, until `stop`.
///
/// # Errors
/// When the listener cannot be accepted from.
pub async fn serve_metrics(
    listener: TcpListener,
    desk: Desk,
    stop: CancellationToken,
) -> std::io::Result<()> {
    tcp::serve(listener, public(desk), tcp::Limits::default(), stop).await
}

fn public(desk: Desk) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(status::ready))
        .route("/metrics", get(metrics::metrics))
        .with_state(desk)
}

fn admin(desk: Desk) -> Router {
    let page_sized = DefaultBodyLimit::max(maintenance::BODY);
    Router::new()
        .route("/v1/status", get(status::status))
        .route("/v1/apps/{app}/releases/diff", get(legs::diff))
        .route("/v1/apps/{app}/releases", get(answers::releases))
        .route("/v1/apps/{app}/doctor", get(doctor::look).post(doctor::fix))
        .route("/v1/apps/{app}/preview", get(answers::preview))
        .route("/v1/apps/{app}/logs", get(answers::logs))
        .route("/v1/apps/{app}/events", get(events::events))
        .route("/v1/apps/{app}/operations/{operation}/follow", get(events::follow))
        .route(
            "/v1/apps/{app}/operations/{operation}/report",
            get(report::report).post(report::write),
        )
        .route("/v1/apps/{app}/shift", post(shift))
        .route("/v1/apps/{app}/next", post(next))
        .route("/v1/apps/{app}/promote", post(promote))
        .route("/v1/apps/{app}/abort", post(abort))
        .route("/v1/apps/{app}/rollback", post(legs::rollback))
        .route("/v1/apps/{app}/rollback/schedule", post(legs::scheduled::set))
        .route("/v1/apps/{app}/undo", post(undo))
        .route("/v1/apps/{app}/db", get(databases::list))
        .route("/v1/apps/{app}/migrations", get(databases::migrations))
        .route("/v1/apps/{app}/migrations/down", post(databases::migrate_down))
        .route("/v1/apps/{app}/restore", post(restore::restore))
        .route("/v1/apps/{app}/restore/plan", post(restore::plan))
        .route("/v1/apps/{app}/operations/{operation}/continue", post(restore::go_on))
        .route("/v1/apps/{app}/operations/{operation}/abort", post(restore::give_up))
        .route("/v1/apps/{app}/deploy", post(answers::deploy))
        .route("/v1/apps/{app}/adopt", get(adoption::adopt_plan).post(adoption::adopt))
        .route("/v1/apps/{app}/leave", get(adoption::leave_plan).post(adoption::leave))
        .route("/v1/apps/{app}/note", post(answers::note))
        .route("/v1/apps/{app}/maintenance/on", post(maintenance::on).layer(page_sized))
        .route("/v1/apps/{app}/maintenance/off", post(maintenance::off))
        .fallback(|| async {
            problem(wire::ProblemKind::NotFound, "the daemon has no such address", 1)
        })
        .method_not_allowed_fallback(|| async {
            let mut answer = problem(wire::ProblemKind::Usage, "that method is not for this", 2);
            *answer.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
            answer
        })
        .layer(DefaultBodyLimit::max(BODY))
        .with_state(desk)
}

/// Everything before a route: who calls, and whether it is a browser.
async fn guard(
    State((desk, rate)): State<(Desk, Arc<Rate>)>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    request: Request,
    next: Next,
) -> Response {
    if request.headers().contains_key(header::ORIGIN) {
        let text = "the admin socket takes no requests from browsers";
        return problem(wire::ProblemKind::NotPermitted, text, 77);
    }
    if let Err(text) = desk.door.admit(&peer) {
        return problem(wire::ProblemKind::NotPermitted, text, 77);
    }
    // A person who cuts back, or sends clients away, is never told to wait.
    let path = request.uri().path();
    let is_cut_back = ["/rollback", "/abort"].iter().any(|end| path.ends_with(end))
        || path.contains("/maintenance/");
    let pass = rate.take(peer.uid.unwrap_or(u32::MAX), Instant::now());
    if pass == Pass::TooSoon && !is_cut_back {
        let mut answer = problem(wire::ProblemKind::Busy, "too many requests at once", 6);
        *answer.status_mut() = StatusCode::TOO_MANY_REQUESTS;
        return answer;
    }
    if !is_cut_back {
        // Before a cut-back no file is looked at: its record has the name that is known by then.
        let users = Arc::clone(&desk.users);
        let refresh = tokio::task::spawn_blocking(move || users.refresh());
        if tokio::time::timeout(NAMES, refresh).await.is_err() {
            tracing::warn!("the names of this host's users cannot be read now");
        }
    }
    let is_stream = request.uri().path().ends_with("/follow")
        || request.uri().query().is_some_and(|query| query.contains("follow"));
    if is_stream {
        return next.run(request).await;
    }
    match tokio::time::timeout(LIMIT, next.run(request)).await {
        Ok(answer) => answer,
        Err(_) => {
            let text = format!(
                "no answer within {} s: it is not known yet whether this happens. What the disk \
                 takes later than that is put back; cutover events shows it",
                LIMIT.as_secs()
            );
            let mut answer = problem(wire::ProblemKind::Failed, text, 5);
            *answer.status_mut() = StatusCode::GATEWAY_TIMEOUT;
            answer
        }
    }
}

/// An answer that says why nothing was done.
pub fn problem(kind: wire::ProblemKind, message: impl Into<String>, exit: u8) -> Response {
    problem_with(kind, message.into(), Vec::new(), exit)
}

fn problem_with(
    kind: wire::ProblemKind,
    message: String,
    ways: Vec<cutover_model::Way>,
    exit: u8,
) -> Response {
    let status = match kind {
        wire::ProblemKind::NothingToDo => StatusCode::OK,
        wire::ProblemKind::Refused
        | wire::ProblemKind::Busy
        | wire::ProblemKind::Schema
        | wire::ProblemKind::AsksLoss => StatusCode::CONFLICT,
        wire::ProblemKind::NotFound => StatusCode::NOT_FOUND,
        wire::ProblemKind::Usage => StatusCode::BAD_REQUEST,
        wire::ProblemKind::NotPermitted => StatusCode::FORBIDDEN,
        wire::ProblemKind::NotRecorded => StatusCode::INSUFFICIENT_STORAGE,
        wire::ProblemKind::Failed => StatusCode::INTERNAL_SERVER_ERROR,
    };
    let schema = wire::schema::PROBLEM.to_owned();
    (status, Json(wire::Problem { schema, kind, message, ways, exit })).into_response()
}

/// A JSON body whose mistakes are answered in our own form.
pub struct Body<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> Result<Self, Response> {
        match Json::<T>::from_request(request, state).await {
            Ok(Json(value)) => Ok(Self(value)),
            Err(rejection) => Err(rejected(&rejection)),
        }
    }
}

fn rejected(rejection: &JsonRejection) -> Response {
    let mut answer = problem(wire::ProblemKind::Usage, rejection.body_text(), 2);
    *answer.status_mut() = rejection.status();
    answer
}

/// The app of a path; `-` is the only one.
pub fn find<'d>(desk: &'d Desk, name: &str) -> Result<&'d Arc<App>, Response> {
    let name = Some(name).filter(|name| *name != "-");
    desk.controller.app(name).map_err(|failure| answers::failed(&failure))
}

/// Who asked, for the record.
pub fn actor(desk: &Desk, peer: &Peer) -> Actor {
    Actor(peer.name(&desk.users))
}

/// The caller's own id of a request: a repeat is the same operation.
pub fn request_id(headers: &HeaderMap) -> Option<String> {
    let id = headers.get("x-request-id")?.to_str().ok()?;
    (!id.is_empty() && id.len() <= 64).then(|| id.to_owned())
}

async fn carry_out(
    desk: &Desk,
    app: &str,
    peer: &Peer,
    headers: &HeaderMap,
    input: Input,
) -> Response {
    let app = match find(desk, app) {
        Ok(app) => app,
        Err(answer) => return answer,
    };
    // A caller that goes away must not take a half-done command with it.
    let (task, actor, request) = (Arc::clone(app), actor(desk, peer), request_id(headers));
    let asked = tokio::spawn(async move { task.ask(input, actor, request).await });
    match asked.await {
        Ok(Ok(answer)) => answers::done(desk, app, answer),
        Ok(Err(failure)) => answers::failed(&failure),
        Err(error) => answers::failed(&Failure::Unknown(format!("it broke: {error}"))),
    }
}

macro_rules! command {
    ($name:ident, $body:ty, |$value:ident| $input:expr) => {
        async fn $name(
            State(desk): State<Desk>,
            ConnectInfo(peer): ConnectInfo<Peer>,
            Path(app): Path<String>,
            headers: HeaderMap,
            Body($value): Body<$body>,
        ) -> Response {
            carry_out(&desk, &app, &peer, &headers, $input).await
        }
    };
}

/// The body of a command that says nothing.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

async fn shift(
    State(desk): State<Desk>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path(app): Path<String>,
    headers: HeaderMap,
    Body(body): Body<wire::Shift>,
) -> Response {
    let steps = match find(&desk, &app) {
        Ok(app) => app.settings().steps.clone(),
        Err(answer) => return answer,
    };
    let input = Input::Shift { weight: body.weight, salt: fresh_salt(), steps };
    carry_out(&desk, &app, &peer, &headers, input).await
}

command!(next, Nothing, |_body| Input::Next);
command!(promote, Nothing, |_body| Input::Promote);
command!(abort, Nothing, |_body| Input::Abort);
command!(undo, wire::Undo, |body| Input::Undo { operation: body.operation });

/// `?follow` and its like: a query of words.
pub type Words = Query<std::collections::BTreeMap<String, String>>;
