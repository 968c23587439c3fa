//! The actions, one by one: what each does to the host.
//!
//! Leaves: no branching on rollouts, no journal. An error's text is for the operator: what is
//! wrong, where, and the last log lines of the container at fault, with secrets masked.

use std::path::{Path, PathBuf};
use std::time::Duration;

use cutover_model::{Action, Color, Fact, LineLevel, ReleaseId};
use tokio::sync::{mpsc, oneshot};

use super::{
    ProbeTarget, Report, Work, assembling, checking, looking, making, migrating, rehearsing,
    undoing,
};
use crate::host::compose::{self, ColoredStack, Compose};
use crate::host::docker::{Container, Docker, Filter, State};
use crate::host::redact::Secrets;
use crate::host::stack::{self, Phase, StartLimits, Starter};
use crate::host::{StackSettings, files, probe, shared};

/// How long a shared service may take to be ready.
const SHARED: Duration = Duration::from_secs(120);

pub(super) type Text = Result<Option<String>, String>;

/// Performs one action; the text is for people, and so is an error, whoever said it.
pub(super) async fn perform(
    settings: &StackSettings,
    action: &Action,
    work: &mut Work,
    reports: &mpsc::Sender<Report>,
) -> Text {
    match act(settings, action, work, reports).await {
        Ok(text) => Ok(text),
        Err(why) => Err(known_secrets(settings, work).await.mask(&why)),
    }
}

/// What an error may not show: the values of the release, or of the files that it is made from.
async fn known_secrets(settings: &StackSettings, work: &Work) -> Secrets {
    let folder = work.release.map(|(release, _)| release_folder(settings, release));
    let mut secrets = match folder.filter(|folder| folder.exists()) {
        Some(folder) => secrets_of(&folder).await,
        None => Secrets::none(),
    };
    let dot_env = Path::new(".env");
    for file in settings.env_files.iter().map(PathBuf::as_path).chain([dot_env]) {
        // What is not there has nothing to show.
        if let Ok(text) = tokio::fs::read_to_string(settings.folder.join(file)).await {
            secrets = secrets.with_env_text(&text);
        }
    }
    if let Some(stack) = &work.made.stack {
        let pairs = compose::environment_of(&stack.file);
        secrets = secrets.with(pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    }
    secrets
}

async fn act(
    settings: &StackSettings,
    action: &Action,
    work: &mut Work,
    reports: &mpsc::Sender<Report>,
) -> Text {
    match action {
        Action::Render { release, color } => {
            making::render(settings, *release, *color, work, reports).await
        }
        Action::Assemble { release, color, parts } => {
            Box::pin(assembling::assemble(settings, (*release, *color), parts, work, reports)).await
        }
        Action::Images { release } => Box::pin(making::images(settings, *release, work)).await,
        Action::Clear { color, .. } => Box::pin(clear(settings, *color, work)).await,
        Action::Share { color } => Box::pin(share(settings, *color, work)).await,
        Action::Point { release } => {
            Box::pin(super::pointing::point(work, reports, *release)).await
        }
        Action::Rehearse { release } => {
            Box::pin(rehearsing::rehearse(settings, *release, work, reports)).await
        }
        Action::Migrate { release } => {
            Box::pin(migrating::migrate(settings, *release, work, reports)).await
        }
        Action::TryDown { release } => {
            Box::pin(undoing::try_down(settings, *release, work, reports)).await
        }
        Action::TakeDown { release } => {
            Box::pin(undoing::take_down(settings, *release, work)).await
        }
        Action::Start { release, .. } => {
            Box::pin(start(settings, *release, Phase::Services, work)).await
        }
        Action::Revive { release, .. } => {
            Box::pin(start(settings, *release, Phase::Lasting, work)).await
        }
        Action::Wake { release, color } => Box::pin(wake(settings, *release, *color, work)).await,
        Action::Probe { color, .. } => Box::pin(ready(settings, *color, work, reports)).await,
        Action::MoveSingletons { from, to } => {
            Box::pin(move_singletons(settings, *from, *to, work)).await
        }
    }
}

/// The folder of a release, below the app's part of the state folder.
pub(super) fn release_folder(settings: &StackSettings, release: ReleaseId) -> PathBuf {
    settings.release_folder(release)
}

/// Where a release's files for a color are: where it was made again, a folder of their own.
pub(super) fn folder_in(settings: &StackSettings, release: ReleaseId, color: Color) -> PathBuf {
    let folder = release_folder(settings, release);
    let again = folder.join(format!("in-{color}"));
    if files::is_release(&again) { again } else { folder }
}

pub(super) fn worktree(settings: &StackSettings, release: ReleaseId) -> PathBuf {
    settings.worktree(release)
}

pub(super) async fn docker(settings: &StackSettings) -> Result<Docker, String> {
    Docker::connect(settings.docker_socket.as_deref()).await.map_err(text)
}

pub(super) fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

pub(super) async fn say(
    reports: &mpsc::Sender<Report>,
    level: LineLevel,
    label: &'static str,
    text: String,
) {
    // Nobody listens only when the daemon stops.
    drop(reports.send(Report::Line { level, label, text }).await);
}

/// Has something recorded; it goes on once that is durable.
pub(super) async fn happened(reports: &mpsc::Sender<Report>, fact: Fact) -> Result<(), String> {
    let (go, recorded) = oneshot::channel();
    let stopping = "the daemon is stopping".to_owned();
    let report = Report::Happened { fact: Box::new(fact), go };
    reports.send(report).await.map_err(|_| stopping.clone())?;
    recorded.await.map_err(|_| stopping)?
}

pub(super) fn made(work: &Work) -> Result<&ColoredStack, String> {
    work.made.stack.as_ref().ok_or_else(|| "the release was not rendered".to_owned())
}

async fn clear(settings: &StackSettings, color: Color, work: &Work) -> Text {
    let docker = docker(settings).await?;
    let project = settings.project(color);
    if let Some(other) = work.projects.get(color).as_deref().filter(|other| *other != project) {
        // An adopted stack is the operator's own: it is stopped, never removed.
        for container in colored(settings, &docker, other).await? {
            docker.stop(&container, None).await.map_err(text)?;
        }
    }
    let removed = stack::remove(&docker, settings, color).await.map_err(text)?;
    Ok(match removed.containers.len() {
        0 => None,
        some => Some(format!("{some} containers of the former release in {color} are gone")),
    })
}

/// The containers of a project that are not shared ones.
pub(super) async fn colored(
    settings: &StackSettings,
    docker: &Docker,
    project: &str,
) -> Result<Vec<Container>, String> {
    let all = docker.containers(&Filter::project(project)).await.map_err(text)?;
    let is_ours =
        |c: &Container| !c.is_oneoff() && c.service().is_some_and(|s| !settings.is_shared(s));
    Ok(all.into_iter().filter(is_ours).collect())
}

async fn share(settings: &StackSettings, color: Color, work: &mut Work) -> Text {
    let docker = docker(settings).await?;
    let compose = Compose::new(settings);
    let stack = stack_of(settings, color, work).await?;
    let Some(stack) = stack else { return Ok(None) };
    stack::prepare(&docker, settings, &stack).await.map_err(text)?;
    shared::ensure(&docker, &compose, &stack, None).await.map_err(text)?;
    shared::link(&docker, settings, &stack).await.map_err(text)?;
    shared::wait(&docker, &stack, SHARED).await.map_err(text)?;
    // What a migration of this release adds is told from what is there now.
    if work.made.stack.is_some() {
        work.made.migrations = migrating::applied(settings, &docker, &stack).await;
        // And what was wrong with the data already is not held against it.
        work.wrong_before = checking::wrong(work.database.as_ref()).await;
    }
    let drift = shared::drift(&docker, &compose, &stack).await.map_err(text)?;
    let seen: Vec<String> =
        drift.into_iter().map(|d| format!("{}: {}", d.service, d.what)).collect();
    Ok(match seen.is_empty() {
        true => None,
        false => Some(format!("differs from the compose file, left alone: {}", seen.join("; "))),
    })
}

/// The rendered stack: the one being made, or the one in the release's folder. `None`: the release
/// was adopted and has none.
pub(super) async fn stack_of(
    settings: &StackSettings,
    color: Color,
    work: &Work,
) -> Result<Option<ColoredStack>, String> {
    if let Some(stack) = work.made.stack.as_ref().filter(|stack| stack.color == color) {
        return Ok(Some(stack.clone()));
    }
    let Some(release) = *work.releases.get(color) else { return Ok(None) };
    let folder = folder_in(settings, release, color);
    if !folder.exists() {
        return Ok(None);
    }
    files::load_stack(&folder).await.map(Some).map_err(text)
}

async fn start(settings: &StackSettings, release: ReleaseId, phase: Phase, work: &Work) -> Text {
    let docker = docker(settings).await?;
    let compose = Compose::new(settings);
    let stack = made(work)?;
    let folder = folder_in(settings, release, stack.color);
    let generated = files::generated(&folder, stack);
    let secrets = secrets_of(&folder).await;
    let starter = starter(&docker, &secrets);
    let started = stack::start(&starter, &compose, &generated, stack, phase)
        .await
        .map_err(|error| with_log(&error))?;
    // Made now, so that at the cutover they only have to be started.
    let singletons = stack::singletons(stack);
    let names: Vec<&str> = singletons.iter().map(|service| service.as_str()).collect();
    if !names.is_empty() {
        compose.create(&generated, &names).await.map_err(text)?;
    }
    let containers = match started.len() {
        1 => "1 container".to_owned(),
        many => format!("{many} containers"),
    };
    Ok(Some(format!("{containers} in {}", stack.color)))
}

fn starter<'a>(docker: &'a Docker, secrets: &'a Secrets) -> Starter<'a> {
    Starter { docker, limits: StartLimits::default(), secrets, progress: None }
}

/// The values that must not be shown. Where they cannot be read nothing is masked by value, and
/// what sounds like a secret still is.
pub(super) async fn secrets_of(folder: &Path) -> Secrets {
    files::secrets_of(folder).await.unwrap_or_else(|error| {
        tracing::warn!(%error, "the secrets of a release cannot be read");
        Secrets::none()
    })
}

fn with_log(error: &stack::StackError) -> String {
    let lines: Vec<String> = error.log().iter().map(|line| format!("  {}", line.text)).collect();
    match lines.is_empty() {
        true => error.to_string(),
        false => format!("{error}\n{}", lines.join("\n")),
    }
}

async fn wake(settings: &StackSettings, release: ReleaseId, color: Color, work: &Work) -> Text {
    let docker = docker(settings).await?;
    let project = work.projects.get(color).clone().unwrap_or_else(|| settings.project(color));
    match stack_of(settings, color, work).await? {
        Some(stack) => {
            let secrets = secrets_of(&folder_in(settings, release, color)).await;
            stack::start_again(&starter(&docker, &secrets), &project, &stack, Phase::Services)
                .await
                .map_err(|error| with_log(&error))?;
        }
        None => {
            for container in colored(settings, &docker, &project).await? {
                let is_singleton = container.service().is_some_and(|s| settings.is_singleton(s));
                match container.state {
                    _ if is_singleton => {}
                    State::Running => {}
                    State::Paused => docker.unpause(&container).await.map_err(text)?,
                    _ => docker.start(&container).await.map_err(text)?,
                }
            }
        }
    }
    Ok(Some(format!("{release} runs again in {color}")))
}

pub(super) fn probe_spec(target: &ProbeTarget) -> probe::ProbeSpec {
    probe::ProbeSpec {
        address: target.address,
        host: target.host.clone().unwrap_or_else(|| "localhost".to_owned()),
        path: target.path.clone(),
        headers: Vec::new(),
        expect: target.expect.clone(),
        body: None,
        passes: target.passes,
        attempts: target.attempts,
        interval: target.interval,
        timeout: target.timeout,
    }
}

/// A container may be healthy and still run what was there before: then it gets no traffic.
async fn refuse_other_images(
    settings: &StackSettings,
    color: Color,
    work: &Work,
) -> Result<(), String> {
    let known = work.release.and_then(|(release, _)| work.known.get(&release));
    let (Some(record), Some(stack)) = (work.made.record.as_ref().or(known), &work.made.stack)
    else {
        return Ok(());
    };
    let docker = docker(settings).await?;
    let containers = colored(settings, &docker, &stack.project).await?;
    let ids =
        record.images.iter().filter_map(|(service, id)| Some((service.parse().ok()?, id.clone())));
    match stack::wrong_images(&containers, &ids.collect()).as_slice() {
        [] => Ok(()),
        wrong => Err(format!(
            "{color} does not run what was made for it: {}. It gets no traffic; deploy again",
            wrong.join("; ")
        )),
    }
}

async fn ready(
    settings: &StackSettings,
    color: Color,
    work: &Work,
    reports: &mpsc::Sender<Report>,
) -> Text {
    refuse_other_images(settings, color, work).await?;
    let Some(target) = &work.probe else { return Ok(None) };
    match probe::probe(&probe_spec(target)).await {
        Ok(_) => {
            let proved = Box::pin(checking::ready(color, work, target, reports)).await?;
            Ok(Some(format!(
                "{color}: {} answered {} times in a row{proved}; no user on it yet",
                target.path, target.passes
            )))
        }
        Err(error) => {
            let log = looking::last_lines(settings, color, work).await;
            Err(format!("{color} does not become ready: {error}{log}"))
        }
    }
}

async fn move_singletons(
    settings: &StackSettings,
    from: Color,
    to: Color,
    work: &mut Work,
) -> Text {
    let docker = docker(settings).await?;
    let is_singleton = |c: &Container| c.service().is_some_and(|s| settings.is_singleton(s));
    if let Some(project) = work.projects.get(from).clone() {
        for container in colored(settings, &docker, &project).await? {
            if is_singleton(&container) && container.is_running() {
                docker.stop(&container, None).await.map_err(text)?;
                work.moved_singletons = true;
            }
        }
    }
    let Some(project) = work.projects.get(to).clone() else { return Ok(None) };
    match stack_of(settings, to, work).await? {
        Some(stack) => {
            let release = stack.release;
            let folder = folder_in(settings, release, to);
            let generated = files::generated(&folder, &stack);
            let secrets = secrets_of(&folder).await;
            let starter = starter(&docker, &secrets);
            let made = colored(settings, &docker, &project).await?;
            let is_made = stack::singletons(&stack)
                .iter()
                .all(|name| made.iter().any(|c| c.service() == Some(name.as_str())));
            let started = match is_made {
                true => stack::start_again(&starter, &project, &stack, Phase::Singletons).await,
                false => {
                    let compose = Compose::new(settings);
                    stack::start(&starter, &compose, &generated, &stack, Phase::Singletons).await
                }
            };
            let started = started.map_err(|error| with_log(&error))?;
            work.moved_singletons |= !started.is_empty();
        }
        None => {
            for container in colored(settings, &docker, &project).await? {
                if is_singleton(&container) && !container.is_running() {
                    docker.start(&container).await.map_err(text)?;
                    work.moved_singletons = true;
                }
            }
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_error_shows_no_value_of_the_operators_files() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut settings = StackSettings::new(
            "shop".parse().expect("a name"),
            folder.path().to_owned(),
            folder.path().join("state"),
        );
        settings.env_files = vec!["backend.env".into(), "missing.env".into()];
        std::fs::write(folder.path().join(".env"), "API_TOKEN=sesame-4711\n").expect("a file");
        std::fs::write(folder.path().join("backend.env"), "DB_PASSWORD=cups\n").expect("a file");
        let work = Work::new(settings.app.clone());
        let said = "invalid IP address: sesame-4711; postgres://shop:cups@db failed";
        let masked = known_secrets(&settings, &work).await.mask(said);
        assert_eq!(masked, "invalid IP address: ***; postgres://shop:***@db failed");
    }
}
