//! `doctor`: leftovers and dangers, and the removal of what is ours.
//!
//! Looks at the moment it is asked; removes only what it would find again under the same id, so
//! that nothing is removed that changed since it was shown.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{ConnectInfo, Path, State};
use axum::response::{IntoResponse, Response};
use cutover_model::{AppKind, AppState, LineLevel, ReleaseId};

use super::peer::Peer;
use super::wire::{self, Doctor, Finding};
use super::{Body, Desk, find, problem};
use crate::controller::{App, Left, now};
use crate::host::backups;

/// How far the journal's clock may be ahead of this one, in milliseconds.
const SKEW_MS: i64 = 2_000;
/// How long an answer waits for what is mended; it goes on behind that.
const MEND: Duration = Duration::from_secs(4);

/// `GET …/doctor`
pub async fn look(State(desk): State<Desk>, Path(name): Path<String>) -> Response {
    match find(&desk, &name) {
        Ok(app) => Json(examine(app).await).into_response(),
        Err(answer) => answer,
    }
}

/// `POST …/doctor`: what is still there is the answer.
pub async fn fix(
    State(desk): State<Desk>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path(name): Path<String>,
    Body(body): Body<wire::Fix>,
) -> Response {
    let app = match find(&desk, &name) {
        Ok(app) => app,
        Err(answer) => return answer,
    };
    if let Some(runs) = runs(&app.state()) {
        let text = format!("{runs} runs: what looks left over may be its own");
        return problem(wire::ProblemKind::Busy, text, 6);
    }
    let (task, ids, by) = (Arc::clone(app), body.ids, peer.name(&desk.users));
    // It goes on without whoever asked: a large database takes long to drop.
    let mending = tokio::spawn(async move { mend(&task, &ids, &by).await });
    if let Ok(Err(error)) = tokio::time::timeout(MEND, mending).await {
        tracing::error!(%error, "doctor --fix broke");
    }
    Json(examine(app).await).into_response()
}

async fn mend(app: &Arc<App>, ids: &[String], by: &str) {
    let wants = |kind: &str| ids.iter().any(|id| id.starts_with(kind));
    if wants("release:") {
        let found = examine(app).await;
        for finding in found.findings.iter().filter(|f| f.fixable && ids.contains(&f.id)) {
            let release = finding.id.strip_prefix("release:").map(str::parse::<ReleaseId>);
            if let Some(Ok(release)) = release {
                app.clean_leftovers(release).await;
                let text = format!("{}: removed for {by}", finding.what);
                app.say(None, LineLevel::Note, "doctor", text);
            }
        }
    }
    if !wants("database:") && !wants("closed:") {
        return;
    }
    let left = app.database_leftovers().await.unwrap_or_default();
    // What is closed stands behind what was half made, and users wait for it.
    for left in left.iter().rev() {
        let finding = on_the_server(left);
        if !finding.fixable || !ids.contains(&finding.id) {
            continue;
        }
        let (level, said) = match app.clean_database(left).await {
            Ok(true) => (LineLevel::Note, format!("mended for {by}")),
            Ok(false) => continue,
            Err(why) => (LineLevel::Error, format!("could not be mended: {why}")),
        };
        app.say(None, level, "doctor", format!("{}: {said}", finding.what));
    }
}

async fn examine(app: &Arc<App>) -> Doctor {
    let mut doctor = Doctor {
        schema: wire::schema::DOCTOR.to_owned(),
        app: app.name.clone(),
        findings: own(app),
        not_looked: Vec::new(),
    };
    backups(app, &mut doctor).await;
    let state = app.state();
    if app.settings().database.is_some() {
        match (runs(&state), app.untrusted()) {
            (Some(runs), _) => {
                let text =
                    format!("leftovers in the database: {runs} runs, and makes what looks so");
                doctor.not_looked.push(text);
            }
            // The journal says what is left over; why it does not is a finding of its own.
            (None, Some(_)) => {}
            (None, None) => match app.database_leftovers().await {
                Ok(left) => doctor.findings.extend(left.iter().map(on_the_server)),
                Err(why) => doctor.not_looked.push(format!("the database server: {why}")),
            },
        }
    }
    if state.kind == AppKind::Compose {
        if let Some(runs) = runs(&state) {
            let text =
                format!("leftovers of releases: {runs} runs, and makes what looks like some");
            doctor.not_looked.push(text);
        } else if let Some(found) = app.leftovers().await {
            host(&mut doctor, found);
        }
    }
    doctor
}

/// An operation that has not ended: `o41 (deploy)`.
fn runs(state: &AppState) -> Option<String> {
    let mut unended = state.operations.iter().filter(|(_, operation)| operation.ended.is_none());
    unended.next().map(|(id, operation)| format!("{id} ({})", operation.what.as_str()))
}

fn danger(id: &str, what: String, command: &str) -> Finding {
    Finding { id: id.to_owned(), what, ours: false, command: command.to_owned(), fixable: false }
}

/// Backups that are none, and that none has left this host.
async fn backups(app: &App, doctor: &mut Doctor) {
    let settings = app.settings();
    let Some(database) = &settings.database else { return };
    let listed = match backups::list(&database.backups).await {
        Ok(listed) => listed,
        Err(error) => {
            doctor.not_looked.push(format!("backups: {error}"));
            return;
        }
    };
    let mut own = listed.backups.iter().filter(|backup| backup.manifest.is_way_back());
    let newest = own.next_back();
    let copied = newest.is_some_and(|newest| newest.manifest.copied.is_some());
    for backup in &listed.backups {
        if let Some((_, why)) = &backup.manifest.damaged {
            let (id, text) = (backup.id(), format!("{} is damaged: {why}", backup.id()));
            let command = format!("cutover backup verify {id}");
            doctor.findings.push(danger(&format!("damaged:{id}"), text, &command));
        }
    }
    if newest.is_none() {
        let text = "there is no backup of the database".to_owned();
        doctor.findings.push(danger("no-backup", text, "cutover backup create"));
    } else if !copied {
        let text = "no copy of the newest backup has left this host: set backup.copy".to_owned();
        doctor.findings.push(danger("no-copy", text, "cutover check"));
    }
    for broken in listed.broken {
        let path = broken.folder.display().to_string();
        doctor.findings.push(Finding {
            id: format!("backup:{path}"),
            what: format!("{path} is no backup: {}", broken.why),
            ours: true,
            command: format!("ls -la {path}"),
            fixable: false,
        });
    }
}

fn on_the_server(left: &Left) -> Finding {
    let ours = |id: String, what: String| Finding {
        id,
        what,
        ours: true,
        command: String::new(),
        fixable: true,
    };
    match left {
        Left::Half { name, operation, bytes } => {
            let size = bytes.map_or_else(String::new, |b| format!(", {}", crate::text::size(b)));
            let what =
                format!("database \"{name}\"{size}: {operation} did not finish it, and has ended");
            ours(format!("database:{name}"), what)
        }
        Left::Closed { name } => {
            let what = format!("\"{name}\" takes no connections: an operation of ours closed it");
            ours(format!("closed:{name}"), what)
        }
        Left::Danger { key, what, command } => danger(key, what.clone(), command),
    }
}

/// What the app itself knows.
fn own(app: &App) -> Vec<Finding> {
    let (state, mut findings) = (app.state(), Vec::new());
    if let Some(why) = app.untrusted() {
        findings.push(danger("journal", why, "cutover status"));
    }
    if let Some(overdue) = app.overdue() {
        findings.push(danger("unrecorded", overdue.to_string(), "df -h"));
    }
    let gated = app.shared().proxy.gated(&app.name);
    if gated.hold.is_some() && runs(&state).is_none() {
        findings.push(Finding {
            id: "gate".to_owned(),
            what: "requests are held, and no operation asked for it: its lease ends it by itself"
                .to_owned(),
            ours: true,
            command: "cutover status".to_owned(),
            fixable: false,
        });
    }
    let newest = app.follow().past.iter().map(|happened| happened.at.0).max();
    if let Some(ahead) = newest.map(|at| at - now().0).filter(|ahead| *ahead > SKEW_MS) {
        let text = format!(
            "the clock went back by {} s: times of the record are ahead of it",
            ahead / 1_000
        );
        findings.push(danger("clock", text, "timedatectl"));
    }
    findings
}

fn host(doctor: &mut Doctor, found: crate::controller::Leftovers) {
    if let Some(why) = found.no_docker {
        doctor.not_looked.push(format!("containers and image pins: {why}"));
    }
    let mut add = |finding| doctor.findings.push(finding);
    if found.live_restore == Some(false) {
        let text = "Docker's live-restore is off: restarting Docker would stop both stacks. Put \
                    \"live-restore\": true into /etc/docker/daemon.json";
        add(danger("live-restore", text.to_owned(), "systemctl reload docker"));
    }
    for tight in found.tight {
        let command = if tight.starts_with("disk") { "docker system df" } else { "free -h" };
        add(danger(&format!("tight:{tight}"), format!("this host is full: {tight}"), command));
    }
    for (name, release) in found.strays {
        add(Finding {
            id: format!("container:{name}"),
            what: format!("container {name} of {release} is in no color and gets no traffic"),
            ours: true,
            command: format!("docker rm -f {name}"),
            fixable: false,
        });
    }
    for (release, parts) in found.releases {
        add(Finding {
            id: format!("release:{release}"),
            what: format!("{} of {release}, which is not on record", parts.join(", ")),
            ours: true,
            command: String::new(),
            fixable: true,
        });
    }
    for path in found.foreign {
        let text = format!("{path} lies in our folder and has no name of ours");
        add(danger(&format!("path:{path}"), text, &format!("ls -ld {path}")));
    }
}
