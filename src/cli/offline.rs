//! What commands do without the daemon: rollback by the next start, leaving, starting it.
//!
//! Only the words are here; what is read and written, and that a daemon which lives after all is
//! never overruled, is the adoption's offline part.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cutover_config::Config;
use cutover_model::{Actor, AppName, Millis, ReleaseId};

use super::exit::Exit;
use super::failure::CliError;
use super::session::Session;
use crate::adopt::leave::{self, LeavePlan, Putting};
use crate::adopt::offline::start::{self, Start, Started};
use crate::adopt::offline::{self, Asleep, Need, OfflineError};
use crate::client::ClientError;
use crate::daemon;
use crate::host::{Compose, Docker, StackSettings};

/// How long the daemon may take to answer after its start.
const START: Duration = Duration::from_secs(30);

/// How long compose may take to put a release on the ports.
const PUT: Duration = Duration::from_secs(300);

/// The files that are looked for when none is named, in this order.
const FILES: [&str; 2] = ["cutover.toml", "/etc/cutover/cutover.toml"];

impl From<OfflineError> for CliError {
    fn from(error: OfflineError) -> Self {
        let exit = match error {
            OfflineError::Running(_) | OfflineError::Nowhere(_) => Exit::Refused,
            OfflineError::App(_) => Exit::Usage,
            _ => Exit::Failed,
        };
        Self::new(exit, error.to_string())
    }
}

/// The error of a command that asked the daemon, with the ways that do without it.
pub(super) fn without_daemon(session: &Session, error: ClientError) -> CliError {
    let mut error = CliError::from(error);
    if error.exit != Exit::NoDaemon {
        return error;
    }
    let what = would_start(session);
    let start = what.unwrap_or_else(|| "starts it with the former release at 100 %".to_owned());
    error.ways.clear();
    error
        .way("sudo cutover rollback --offline", start)
        .way("sudo cutover leave --offline", "without Cutover: docker compose on the ports")
        .way("sudo systemctl restart cutover", "starts it; it serves as it did before")
}

/// What `rollback --offline` would do, when the state folder can be read and says so.
fn would_start(session: &Session) -> Option<String> {
    let config = load(&file(session)).ok()?;
    let turn = asleep(session, &config).ok()?.turn(None).ok()?;
    let instead = turn.from.filter(|from| *from != turn.to);
    let instead = instead.map_or_else(String::new, |from| format!(" instead of {from}"));
    Some(format!("starts the service with {} at 100 %{instead}", turn.to))
}

/// The operator's file for a command that needs it without the daemon.
pub(super) fn file(session: &Session) -> PathBuf {
    let named = session.global.config.clone();
    named.unwrap_or_else(|| {
        let there = FILES.iter().map(Path::new).find(|file| file.exists());
        there.unwrap_or(Path::new(FILES[0])).to_owned()
    })
}

fn load(file: &Path) -> Result<Config, CliError> {
    match cutover_config::load(file, std::env::vars()) {
        Ok(loaded) => Ok(loaded.config),
        Err(problems) => {
            let mistakes = crate::text::number_of(problems.len(), "mistake");
            let text = format!("{} has {mistakes}", file.display());
            let way = format!("cutover check --config {}", file.display());
            Err(CliError::new(Exit::BadConfig, text).way(way, "shows each, with its place"))
        }
    }
}

fn asleep(session: &Session, config: &Config) -> Result<Asleep, CliError> {
    let app = match session.global.app.as_deref().map(AppName::new) {
        None => None,
        Some(Ok(app)) => Some(app),
        Some(Err(error)) => return Err(CliError::new(Exit::Usage, error.to_string())),
    };
    Ok(offline::look(&config.state.path, app.as_ref())?)
}

fn now() -> Millis {
    Millis(jiff::Timestamp::now().as_millisecond())
}

/// A daemon that a command has started.
#[derive(Debug)]
pub(super) struct Begun {
    by: Started,
    socket: PathBuf,
    /// The state folder, if there was none before.
    state: Option<PathBuf>,
}

/// Stops the daemon that was started for something that did not come about.
pub(super) async fn stop_again(session: &Session, begun: Begun) {
    let stays = begun
        .state
        .map_or(String::new(), |state| format!("; its state folder {} stays", state.display()));
    match start::stop(&begun.by, &begun.socket, START).await {
        Ok(()) => session
            .out
            .talk(&format!("The daemon that was started for the plan is stopped again{stays}.")),
        Err(error) => session
            .out
            .talk(&format!("The daemon that was started for the plan still runs: {error}")),
    }
}

/// Starts the daemon and waits until it answers; says who started it.
pub(super) async fn start(
    session: &Session,
    file: &Path,
    socket: &Path,
    limit: Duration,
) -> Result<Begun, CliError> {
    let config = load(file)?;
    let program = std::env::current_exe().map_err(anyhow::Error::from)?;
    let file = std::path::absolute(file).map_err(anyhow::Error::from)?;
    let log = std::env::temp_dir().join(format!("cutover-serve-{}.log", std::process::id()));
    let had_state = config.state.path.is_dir();
    let log = if had_state { config.state.path.join("serve.log") } else { log };
    let how = Start { program, file, socket: socket.to_owned(), log, limit };
    let by = start::start(&how).await?;
    match &by {
        Started::Systemd => session.out.talk("systemd started cutover.service."),
        Started::Directly { pid } => {
            let pid = pid.map_or_else(String::new, |pid| format!(" (process {pid})"));
            session.out.talk(&format!(
                "The daemon was started by this command{pid}: nobody restarts it if it ends. \
                 Its log is {}",
                how.log.display()
            ));
        }
    }
    let state = (!had_state).then_some(config.state.path);
    Ok(Begun { by, socket: socket.to_owned(), state })
}

/// `rollback --offline`: writes the split for the next start, then starts the daemon.
pub(super) async fn rollback(session: &Session, to: Option<ReleaseId>) -> Result<Exit, CliError> {
    let file = file(session);
    let config = load(&file)?;
    let asleep = asleep(session, &config)?;
    let turn = asleep.turn(to)?;
    let instead = turn.from.filter(|from| *from != turn.to);
    let instead = instead.map_or_else(String::new, |from| format!(" instead of {from}"));
    let operation = match turn.need {
        Need::Move => asleep.set_traffic(&turn, now())?,
        Need::Nothing => None,
    };
    let at = session.clock.time(now().0);
    session.out.text(&format!("{at}  starting the daemon with {} at 100 %{instead}", turn.to));
    start(session, &file, &config.admin.socket, START).await?;
    let at = session.clock.exact(now().0);
    session.out.text(&format!("{at}  DONE: the daemon serves; all traffic is on {}.", turn.to));
    if let Some(operation) = operation {
        session.out.text(&format!("Undo this:  cutover undo {operation}"));
    }
    session.out.value(&serde_json::json!({
        "schema": "cutover.offline/1",
        "app": asleep.app,
        "to": turn.to,
        "from": turn.from,
        "operation": operation,
    }));
    Ok(Exit::Done)
}

/// A leave that was planned.
pub(super) struct Leaving {
    asleep: Asleep,
    pub(super) plan: LeavePlan,
    docker: Docker,
    stack: StackSettings,
}

/// The plan of `leave --offline`; nothing happens.
pub(super) async fn leaving(session: &Session) -> Result<Leaving, CliError> {
    let file = std::path::absolute(file(session)).map_err(anyhow::Error::from)?;
    let config = load(&file)?;
    let asleep = asleep(session, &config)?;
    let folder = file.parent().unwrap_or(Path::new("/"));
    let settings = daemon::settings::apps(&config, folder);
    let settings = settings.into_iter().find(|settings| settings.app == asleep.app);
    let found = settings.and_then(|settings| Some((settings.stack?, settings.ports)));
    let Some((stack, ports)) = found else {
        let text = format!("{} has no compose file: there is nothing to give back", asleep.app);
        return Err(CliError::new(Exit::Refused, text));
    };
    let failed = |why: String| CliError::new(Exit::Failed, format!("{why}. NOTHING WAS CHANGED."));
    let docker = Docker::connect(stack.docker_socket.as_deref()).await;
    let docker = docker.map_err(|error| failed(error.to_string()))?;
    let published = docker.published(&ports).await.map_err(|error| failed(error.to_string()))?;
    let rendered = Compose::new(&stack).render(&stack.project(cutover_model::Color::Blue)).await;
    let project = rendered.map_err(|error| failed(error.to_string()))?.project;
    let putting = Putting {
        folder: stack.folder.clone(),
        files: stack.compose_files.clone(),
        project,
        images: BTreeMap::new(),
        singletons: BTreeMap::new(),
        limit: PUT,
    };
    let plan =
        asleep.leave_plan(putting, ports, &published, |service| leave::runs(&stack, service))?;
    Ok(Leaving { asleep, plan, docker, stack })
}

/// `leave --offline`.
pub(super) async fn leave(session: &Session, leaving: Leaving) -> Result<Exit, CliError> {
    let Leaving { asleep, plan, docker, stack } = leaving;
    let actor = Actor(std::env::var("USER").unwrap_or_else(|_| "root".to_owned()));
    asleep.leave(&plan, (&docker, &stack), &actor, now()).await?;
    let at = session.clock.exact(now().0);
    let release = plan.release;
    session.out.text(&format!("{at}  DONE: {release} runs from plain docker compose again."));
    session.out.value(&serde_json::json!({
        "schema": "cutover.offline/1",
        "app": asleep.app,
        "left": true,
        "release": release,
        "ports": plan.ports,
    }));
    Ok(Exit::Done)
}
