//! `doctor`: leftovers and dangers, and the removal of what is ours.
//!
//! Looks at the moment it is asked; removes only what it would find again under the same id, so
//! that nothing is removed that changed since it was shown.
//! INVARIANT: nothing is called mended that a second look did not miss.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{ConnectInfo, Path, State};
use axum::response::{IntoResponse, Response};
use cutover_model::{AppKind, AppState, LineLevel, ReleaseId};

use super::peer::Peer;
use super::wire::{self, After, Doctor, Finding, Mended};
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
    let (task, ids, by) = (Arc::clone(app), body.ids.clone(), peer.name(&desk.users));
    // It goes on without whoever asked: a large database takes long to drop.
    let mending = tokio::spawn(async move { mend(&task, &ids, &by).await });
    let ended = tokio::time::timeout(MEND, mending).await;
    if let Ok(Err(error)) = &ended {
        tracing::error!(%error, "doctor --fix broke");
    }
    let (mut doctor, seen) = look_at(app).await;
    doctor.mended = after(&body.ids, &doctor, seen);
    doctor.goes_on = ended.is_err();
    Json(doctor).into_response()
}

/// What a look has seen whole. What it has not may be there all the same.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    releases: bool,
    server: bool,
}

/// What became of what was to be mended, by a look after it.
fn after(ids: &[String], doctor: &Doctor, seen: Seen) -> Vec<Mended> {
    let is = |id: &String| {
        let is_seen = match id.split_once(':').map(|(kind, _)| kind) {
            Some("release") => seen.releases,
            Some("database" | "closed") => seen.server,
            _ => false,
        };
        match doctor.findings.iter().any(|finding| finding.id == *id) {
            true => After::There,
            false if is_seen => After::Gone,
            false => After::NotKnown,
        }
    };
    ids.iter().map(|id| Mended { id: id.clone(), is: is(id) }).collect()
}

async fn mend(app: &Arc<App>, ids: &[String], by: &str) {
    let wants = |kind: &str| ids.iter().any(|id| id.starts_with(kind));
    // What was worked on, by id: what it is, and why it could not be mended.
    let mut tried: BTreeMap<String, (String, Option<String>)> = BTreeMap::new();
    if wants("release:") {
        let found = examine(app).await;
        for finding in found.findings.into_iter().filter(|f| f.fixable && ids.contains(&f.id)) {
            let release = finding.id.strip_prefix("release:").map(str::parse::<ReleaseId>);
            if let Some(Ok(release)) = release {
                app.clean_leftovers(release).await;
                tried.insert(finding.id, (finding.what, None));
            }
        }
    }
    if wants("database:") || wants("closed:") {
        let left = app.database_leftovers().await.unwrap_or_default();
        // What is closed stands behind what was half made, and users wait for it.
        for left in left.iter().rev() {
            let finding = on_the_server(left);
            if !finding.fixable || !ids.contains(&finding.id) {
                continue;
            }
            let why = match app.clean_database(left).await {
                Ok(true) => None,
                Ok(false) => continue,
                Err(why) => Some(why.to_string()),
            };
            tried.insert(finding.id, (finding.what, why));
        }
    }
    if tried.is_empty() {
        return;
    }
    let worked_on: Vec<String> = tried.keys().cloned().collect();
    let (doctor, seen) = look_at(app).await;
    for Mended { id, is } in after(&worked_on, &doctor, seen) {
        let Some((what, why)) = tried.remove(&id) else { continue };
        let (level, said) = match (is, why) {
            (After::Gone, _) => (LineLevel::Note, format!("mended for {by}")),
            (After::There | After::NotKnown, Some(why)) => {
                (LineLevel::Error, format!("could not be mended: {why}"))
            }
            (After::There, None) => {
                let text = "could not be mended, it is still there; the daemon's log says why";
                (LineLevel::Error, text.to_owned())
            }
            (After::NotKnown, None) => {
                let text = format!("whether it is mended is not known: {}", unseen(&doctor));
                (LineLevel::Error, text)
            }
        };
        app.say(None, level, "doctor", format!("{what}: {said}"));
    }
}

fn unseen(doctor: &Doctor) -> String {
    format!("not seen: {}", doctor.not_looked.join("; "))
}

async fn examine(app: &Arc<App>) -> Doctor {
    look_at(app).await.0
}

async fn look_at(app: &Arc<App>) -> (Doctor, Seen) {
    let mut doctor = Doctor {
        schema: wire::schema::DOCTOR.to_owned(),
        app: app.name.clone(),
        findings: own(app),
        not_looked: Vec::new(),
        mended: Vec::new(),
        goes_on: false,
    };
    let mut seen = Seen::default();
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
                Ok(left) => {
                    seen.server = true;
                    doctor.findings.extend(left.iter().map(on_the_server));
                }
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
            seen.releases = found.no_docker.is_none();
            host(&mut doctor, found);
        }
    }
    (doctor, seen)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_mended_that_was_not_looked_for_again() {
        let ours = |id: &str| Finding { ours: true, ..danger(id, String::new(), "") };
        let doctor = Doctor {
            schema: String::new(),
            app: "shop".parse().unwrap(),
            findings: vec![ours("release:r8"), ours("closed:shop")],
            not_looked: Vec::new(),
            mended: Vec::new(),
            goes_on: false,
        };
        let ids = ["release:r7", "release:r8", "database:shop__cand_o1", "closed:shop", "gate"];
        let told = |releases, server| {
            let all = after(&ids.map(str::to_owned), &doctor, Seen { releases, server });
            all.iter().map(|mended| mended.is).collect::<Vec<_>>()
        };
        let (gone, there, unknown) = (After::Gone, After::There, After::NotKnown);
        assert_eq!(told(true, true), [gone, there, gone, there, unknown]);
        assert_eq!(told(false, true), [unknown, there, gone, there, unknown]);
        assert_eq!(told(true, false), [gone, there, unknown, there, unknown]);
    }
}
