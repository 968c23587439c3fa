//! Backups over the wire: what is kept, and the work on it. Each change answers as soon as it is
//! recorded; its lines are followed like those of any operation.

use std::sync::Arc;

use axum::extract::{ConnectInfo, Path, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use cutover_model::{Millis, Occasion, Upkeep};

use super::super::peer::Peer;
use super::super::wire::{self, ProblemKind};
use super::super::{Body, Desk, Nothing, actor, answers, find, problem, request_id};
use crate::controller::{Answer, App, Failure, Going};
use crate::host::backups::{Backup, Broken, Form};
use crate::host::files::given::{self, Asker, Given};

/// The routes below an app.
pub(super) fn routes() -> Router<Desk> {
    Router::new()
        .route("/v1/apps/{app}/backups", get(list).post(create))
        .route("/v1/apps/{app}/backups/verify", post(verify))
        .route("/v1/apps/{app}/backups/prune", get(prunable).post(prune))
        .route("/v1/apps/{app}/backups/aside", post(aside))
        .route("/v1/apps/{app}/backups/import", post(import))
        .route("/v1/apps/{app}/drill", post(drill))
}

fn shown(backup: &Backup) -> wire::Backup {
    let manifest = backup.manifest.clone();
    wire::Backup {
        database_bytes: manifest.contents.get("size").and_then(serde_json::Value::as_u64),
        id: manifest.id,
        at: manifest.at.0,
        why: manifest.reason.words(),
        bytes: manifest.bytes,
        verified_at: manifest.verified_at.map(|at| at.0),
        damaged: manifest.damaged.map(|(_, why)| why),
        release: manifest.release,
        encrypted: matches!(manifest.form, Form::Age { .. }),
        copied: manifest.copied.map(|(at, by)| (at.0, by)),
        not_copied: manifest.not_copied.map(|(at, why)| (at.0, why)),
        sha256: manifest.sha256,
        server: manifest.server,
        folder: backup.folder.display().to_string(),
    }
}

async fn list(State(desk): State<Desk>, Path(name): Path<String>) -> Response {
    let app = match find(&desk, &name) {
        Ok(app) => app,
        Err(answer) => return answer,
    };
    let listed = match app.listed_backups().await {
        Ok(listed) => listed,
        Err(failure) => return answers::failed(&failure),
    };
    let folder = app.settings().database.as_ref().map(|d| d.backups.display().to_string());
    Json(wire::Backups {
        schema: wire::schema::BACKUPS.to_owned(),
        app: app.name.clone(),
        folder: folder.unwrap_or_default(),
        backups: listed.backups.iter().map(shown).collect(),
        broken: listed
            .broken
            .into_iter()
            .map(|broken| (broken.folder.display().to_string(), broken.why))
            .collect(),
        next_at: app.next_backup(desk.started_at).map(|Millis(at)| at),
    })
    .into_response()
}

/// The answer to work that was begun, or why it was not.
pub(super) fn begun(desk: &Desk, app: &Arc<App>, done: Result<Answer, Failure>) -> Response {
    match done {
        Ok(answer) => answers::done(desk, app, answer),
        Err(failure) => answers::failed(&failure),
    }
}

/// Begins work for whoever asks, unless it is not to be.
async fn begin(
    (desk, app): (&Desk, &Arc<App>),
    upkeep: Result<Upkeep, Failure>,
    (peer, headers): (&Peer, &HeaderMap),
) -> Response {
    let done = match upkeep {
        Ok(upkeep) => app.begin_upkeep(upkeep, actor(desk, peer), request_id(headers)).await,
        Err(failure) => Err(failure),
    };
    begun(desk, app, done)
}

async fn create(
    State(desk): State<Desk>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path(name): Path<String>,
    headers: HeaderMap,
    Body(Nothing {}): Body<Nothing>,
) -> Response {
    let app = match find(&desk, &name) {
        Ok(app) => app,
        Err(answer) => return answer,
    };
    let upkeep = Upkeep::BackUp { occasion: Occasion::Asked };
    begin((&desk, app), Ok(upkeep), (&peer, &headers)).await
}

async fn verify(
    State(desk): State<Desk>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path(name): Path<String>,
    headers: HeaderMap,
    Body(body): Body<wire::Verify>,
) -> Response {
    let app = match find(&desk, &name) {
        Ok(app) => app,
        Err(answer) => return answer,
    };
    let ids = match body.backup {
        Some(id) => app.meant(&id).await.map(|id| vec![id]),
        None => app.listed_backups().await.map(|listed| {
            let whole = listed.backups.iter().map(|backup| backup.id().to_owned());
            // What is named like a backup and is none is not passed over.
            whole.chain(listed.broken.iter().filter_map(Broken::id)).collect()
        }),
    };
    let upkeep = ids.map(|ids| Upkeep::Verify { ids });
    begin((&desk, app), upkeep, (&peer, &headers)).await
}

async fn prunable(State(desk): State<Desk>, Path(name): Path<String>) -> Response {
    let app = match find(&desk, &name) {
        Ok(app) => app,
        Err(answer) => return answer,
    };
    let found = match app.prunable().await {
        Ok(found) => found,
        Err(failure) => return answers::failed(&failure),
    };
    let (daily, weekly, monthly) = found.keep;
    Json(wire::Prunable {
        schema: wire::schema::PRUNE_PLAN.to_owned(),
        app: app.name.clone(),
        daily,
        weekly,
        monthly,
        going: found.going.iter().map(|Going { backup }| shown(backup)).collect(),
        staying: found.staying as u64,
    })
    .into_response()
}

async fn prune(
    State(desk): State<Desk>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path(name): Path<String>,
    headers: HeaderMap,
    Body(body): Body<wire::Prune>,
) -> Response {
    let app = match find(&desk, &name) {
        Ok(app) => app,
        Err(answer) => return answer,
    };
    if body.ids.is_empty() {
        let text = "Nothing to do: the rule lets no backup go";
        return problem(ProblemKind::NothingToDo, text, 0);
    }
    begun(&desk, app, app.prune(body.ids, actor(&desk, &peer), request_id(&headers)).await)
}

async fn aside(
    State(desk): State<Desk>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path(name): Path<String>,
    headers: HeaderMap,
    Body(body): Body<wire::Aside>,
) -> Response {
    let app = match find(&desk, &name) {
        Ok(app) => app,
        Err(answer) => return answer,
    };
    let (actor, request) = (actor(&desk, &peer), request_id(&headers));
    begun(&desk, app, app.restore_beside(&body.backup, body.name, actor, request).await)
}

async fn drill(
    State(desk): State<Desk>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path(name): Path<String>,
    headers: HeaderMap,
    Body(body): Body<wire::Drill>,
) -> Response {
    let app = match find(&desk, &name) {
        Ok(app) => app,
        Err(answer) => return answer,
    };
    let upkeep = app.meant(&body.backup).await.map(|backup| Upkeep::Drill { backup });
    begin((&desk, app), upkeep, (&peer, &headers)).await
}

async fn import(
    State(desk): State<Desk>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path(name): Path<String>,
    headers: HeaderMap,
    Body(body): Body<wire::Import>,
) -> Response {
    let app = match find(&desk, &name) {
        Ok(app) => app,
        Err(answer) => return answer,
    };
    // The daemon may read every file; whoever asks must not read one through it.
    let asker = match peer.uid {
        Some(0) => Asker::Root,
        Some(uid) => Asker::User(uid, peer.gid),
        None => Asker::Unknown,
    };
    let path = std::path::PathBuf::from(&body.path);
    let given = given::aside(move || Given::open(&path, asker)).await;
    let upkeep = given.map(|given| Upkeep::Import {
        data_of: Millis(given.written_ms()),
        identity: Some(given.identity()),
        path: body.path,
    });
    begin((&desk, app), upkeep.map_err(Failure::Impossible), (&peer, &headers)).await
}
