//! The actions, one by one: what each does to the host.
//!
//! Leaves: no branching on rollouts, no journal. An error's text is for the operator: what is
//! wrong, where, and the last log lines of the container at fault, with secrets masked.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cutover_model::{Action, Color, Containers, LineLevel, Release, ReleaseId, ServiceName};
use tokio::sync::mpsc;

use super::{Again, Report, Tree, Work};
use crate::host::compose::{self, Cache, ColorTarget, ColoredStack, Compose};
use crate::host::docker::{Container, Docker, Filter};
use crate::host::redact::Secrets;
use crate::host::stack::{self, Phase, StartLimits, Starter};
use crate::host::{Endpoint, StackSettings, files, git, probe, shared};

/// How long a build may take.
const BUILD: Duration = Duration::from_secs(3_600);
/// How long a pull may take.
const PULL: Duration = Duration::from_secs(1_800);
/// How long a migration may take.
const MIGRATE: Duration = Duration::from_secs(3_600);
/// How long a shared service may take to be ready.
const SHARED: Duration = Duration::from_secs(120);
/// Log lines that a failure shows.
const LOG_LINES: usize = 6;

/// What a deploy's actions hand on.
#[derive(Debug, Default)]
pub(super) struct Making {
    pub(super) record: Option<Release>,
    stack: Option<ColoredStack>,
    commit: Option<git::Commit>,
    /// The repository's top folder.
    root: Option<PathBuf>,
}

type Text = Result<Option<String>, String>;

/// Performs one action; the text is for people.
pub(super) async fn perform(
    settings: &StackSettings,
    action: &Action,
    work: &mut Work,
    reports: &mpsc::Sender<Report>,
) -> Text {
    match action {
        Action::Render { release, color } => {
            render(settings, *release, *color, work, reports).await
        }
        Action::Images { release } => Box::pin(images(settings, *release, work)).await,
        Action::Clear { color, .. } => Box::pin(clear(settings, *color, work)).await,
        Action::Share { color } => Box::pin(share(settings, *color, work)).await,
        Action::Migrate { release } => Box::pin(migrate(settings, *release, work)).await,
        Action::Start { release, .. } => Box::pin(start(settings, *release, work)).await,
        Action::Wake { release, color } => Box::pin(wake(settings, *release, *color, work)).await,
        Action::Probe { color, .. } => Box::pin(ready(settings, *color, work)).await,
        Action::MoveSingletons { from, to } => {
            Box::pin(move_singletons(settings, *from, *to, work)).await
        }
    }
}

/// The folder of a release, below the app's part of the state folder.
pub(super) fn release_folder(settings: &StackSettings, release: ReleaseId) -> PathBuf {
    settings.state.join("releases").join(release.to_string())
}

fn worktree(settings: &StackSettings, release: ReleaseId) -> PathBuf {
    settings.state.join("worktrees").join(release.to_string())
}

async fn docker(settings: &StackSettings) -> Result<Docker, String> {
    Docker::connect(settings.docker_socket.as_deref()).await.map_err(text)
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

async fn render(
    settings: &StackSettings,
    release: ReleaseId,
    color: Color,
    work: &mut Work,
    reports: &mpsc::Sender<Report>,
) -> Text {
    let head = git::head(&settings.folder).await.map_err(text)?;
    let mut source = None;
    if let Some(head) = &head {
        let commit = match (&work.reference, work.mode.tree) {
            (Some(reference), _) => git::resolve(&head.root, reference).await.map_err(text)?,
            (None, Tree::Dirty) => git::snapshot(&head.root).await.map_err(text)?,
            (None, Tree::Commit) => head.commit.clone(),
        };
        refuse_rejected(work, &commit)?;
        if work.mode.tree == Tree::Commit && work.reference.is_none() && !head.dirty.is_empty() {
            let files: Vec<&str> = head.dirty.iter().take(5).map(String::as_str).collect();
            let note = format!(
                "not in this release: {} changed, but not committed (--dirty takes them along)",
                files.join(", ")
            );
            say(reports, LineLevel::Note, "note", note).await;
        }
        let tree = git::add_worktree(&head.root, &commit.id, &worktree(settings, release))
            .await
            .map_err(text)?;
        let app = settings.app.as_str();
        git::keep(&head.root, app, &release.to_string(), &commit.id).await.map_err(text)?;
        work.made.root = Some(head.root.clone());
        work.made.commit = Some(commit);
        source = Some(tree);
    } else if work.reference.is_some() {
        return Err(format!(
            "{} is not a git repository, so --ref means nothing",
            settings.folder.display()
        ));
    }
    let mut compose = Compose::new(settings);
    if let Some(tree) = &source {
        let placed: Option<Vec<PathBuf>> = settings
            .compose_files
            .iter()
            .map(|path| tree.place_of(&settings.folder.join(path)))
            .collect();
        if let Some(placed) = placed {
            compose = compose.with_files(placed);
        }
    }
    let rendered = compose.render(&settings.project(color)).await.map_err(text)?;
    let folder = release_folder(settings, release);
    let target = ColorTarget { color, release, folder, source };
    let stack = compose::color(&rendered, settings, &target)
        .map_err(|problems| compose::ComposeError::Problems(problems).to_string())?;
    for note in &stack.notes {
        say(reports, LineLevel::Note, "note", note.clone()).await;
    }
    work.made.stack = Some(stack);
    let named = match &work.made.commit {
        Some(commit) => format!("{release} = {} \"{}\"", short(&commit.id), commit.subject),
        None => format!("{release}, from {}", settings.folder.display()),
    };
    Ok(Some(format!("{named}, into {color}")))
}

fn short(commit: &str) -> String {
    commit.chars().take(7).collect()
}

fn refuse_rejected(work: &Work, commit: &git::Commit) -> Result<(), String> {
    let rejected = work.rejected.iter().find(|(_, id)| id.as_deref() == Some(commit.id.as_str()));
    match rejected {
        Some((release, _)) if work.mode.again == Again::Refused => Err(format!(
            "{} is the commit of {release}, which was rolled back. Commit a fix, or deploy it all \
             the same: cutover deploy --again",
            short(&commit.id)
        )),
        _ => Ok(()),
    }
}

async fn say(reports: &mpsc::Sender<Report>, level: LineLevel, label: &'static str, text: String) {
    // Nobody listens only when the daemon stops.
    drop(reports.send(Report::Line { level, label, text }).await);
}

async fn images(settings: &StackSettings, release: ReleaseId, work: &mut Work) -> Text {
    let docker = docker(settings).await?;
    let stack = made(work)?.clone();
    let compose = Compose::new(settings);
    let folder = release_folder(settings, release);
    let mut built = Vec::new();
    if let Some(build_file) = &stack.build_file {
        let file = settings.state.join("builds").join(format!("{release}.json"));
        let bytes = serde_json::to_vec_pretty(build_file).map_err(text)?;
        files::write_file(&file, bytes).await.map_err(text)?;
        let generated = compose::Generated { project: stack.project.clone(), file, env_file: None };
        compose.build(&generated, Cache::Use, BUILD, None).await.map_err(text)?;
        built = build_file["services"]
            .as_object()
            .map(|services| services.keys().cloned().collect())
            .unwrap_or_default();
        drop(std::fs::remove_file(&generated.file));
    }
    let missing = stack::missing_images(&docker, &stack).await.map_err(text)?;
    if !missing.is_empty() {
        let file = settings.state.join("builds").join(format!("{release}-pull.json"));
        let bytes = serde_json::to_vec_pretty(&stack.file).map_err(text)?;
        files::write_file(&file, bytes).await.map_err(text)?;
        let generated = compose::Generated { project: stack.project.clone(), file, env_file: None };
        let names: Vec<&str> = missing.iter().map(|service| service.as_str()).collect();
        let pulled = compose.pull(&generated, &names, PULL, None).await.map_err(text);
        drop(std::fs::remove_file(&generated.file));
        pulled?;
    }
    let ids = stack::resolve_images(&docker, &stack).await.map_err(text)?;
    let file = stack.with_images(&ids).map_err(|missing| {
        let names: Vec<String> = missing.iter().map(ToString::to_string).collect();
        format!("no image for {}", names.join(", "))
    })?;
    let contents = files::release_files(&settings.folder, &stack, &file).await.map_err(text)?;
    let manifest = files::write_release(&folder, contents).await.map_err(text)?;
    for id in ids.values() {
        let (app, release) = (settings.app.as_str(), release.to_string());
        docker.pin_image(id, app, &release).await.map_err(text)?;
    }
    let commit = work.made.commit.clone();
    work.made.record = Some(Release {
        id: release,
        color: stack.color,
        project: stack.project.clone(),
        commit: commit.as_ref().map(|commit| commit.id.clone()),
        title: commit.map(|commit| commit.subject).unwrap_or_default(),
        images: ids.into_iter().map(|(service, id)| (service.to_string(), id)).collect(),
        env_files: manifest
            .files
            .into_iter()
            .map(|(path, hash)| (path.display().to_string(), hash))
            .filter(|(path, _)| path.contains("env"))
            .collect(),
        migrations: None,
        folder: folder.display().to_string(),
        made_at: cutover_model::Millis(jiff::Timestamp::now().as_millisecond()),
    });
    Ok(Some(match built.as_slice() {
        [] => "images as they are".to_owned(),
        names => names.join(", "),
    }))
}

fn made(work: &Work) -> Result<&ColoredStack, String> {
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
async fn colored(
    settings: &StackSettings,
    docker: &Docker,
    project: &str,
) -> Result<Vec<Container>, String> {
    let all = docker.containers(&Filter::project(project)).await.map_err(text)?;
    let is_ours =
        |c: &Container| !c.is_oneoff() && c.service().is_some_and(|s| !settings.is_shared(s));
    Ok(all.into_iter().filter(is_ours).collect())
}

async fn share(settings: &StackSettings, color: Color, work: &Work) -> Text {
    let docker = docker(settings).await?;
    let compose = Compose::new(settings);
    let stack = stack_of(settings, color, work).await?;
    let Some(stack) = stack else { return Ok(None) };
    stack::prepare(&docker, settings, &stack).await.map_err(text)?;
    shared::ensure(&docker, &compose, &stack, None).await.map_err(text)?;
    shared::link(&docker, settings, &stack).await.map_err(text)?;
    shared::wait(&docker, &stack, SHARED).await.map_err(text)?;
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
async fn stack_of(
    settings: &StackSettings,
    color: Color,
    work: &Work,
) -> Result<Option<ColoredStack>, String> {
    if let Some(stack) = work.made.stack.as_ref().filter(|stack| stack.color == color) {
        return Ok(Some(stack.clone()));
    }
    let Some(release) = *work.releases.get(color) else { return Ok(None) };
    let folder = release_folder(settings, release);
    if !folder.exists() {
        return Ok(None);
    }
    files::load_stack(&folder).await.map(Some).map_err(text)
}

async fn migrate(settings: &StackSettings, release: ReleaseId, work: &Work) -> Text {
    let Some((service, command)) = &work.migration else { return Ok(None) };
    let docker = docker(settings).await?;
    let compose = Compose::new(settings);
    let stack = made(work)?;
    let folder = release_folder(settings, release);
    let generated = files::generated(&folder, stack);
    let out = stack::run_once(&docker, &compose, &generated, service, command, MIGRATE, None)
        .await
        .map_err(text)?;
    let secrets = secrets_of(&folder).await;
    if out.code != 0 {
        return Err(format!(
            "\"{}\" in {service} ended with exit {}:\n{}\nThe database may have part of it: look at \
             the migrations table before the next deploy",
            command.join(" "),
            out.code,
            secrets.mask(&out.tail.join("\n"))
        ));
    }
    // Compose tells of what it makes in the same breath.
    let is_composes = |line: &str| {
        let first = line.split_whitespace().next().unwrap_or_default();
        matches!(first, "Container" | "Network" | "Volume")
    };
    let last = out
        .tail
        .iter()
        .rfind(|line| !line.trim().is_empty() && !is_composes(line))
        .map_or("done", String::as_str);
    Ok(Some(format!(
        "{} (there is no restore point yet: a rollback moves traffic, not data)",
        secrets.mask(last)
    )))
}

async fn start(settings: &StackSettings, release: ReleaseId, work: &Work) -> Text {
    let docker = docker(settings).await?;
    let compose = Compose::new(settings);
    let stack = made(work)?;
    let folder = release_folder(settings, release);
    let generated = files::generated(&folder, stack);
    let secrets = secrets_of(&folder).await;
    let starter = starter(&docker, &secrets);
    let started = stack::start(&starter, &compose, &generated, stack, Phase::Services)
        .await
        .map_err(|error| with_log(&error))?;
    // Made now, so that at the cutover they only have to be started.
    let singletons = stack::singletons(stack);
    let names: Vec<&str> = singletons.iter().map(|service| service.as_str()).collect();
    if !names.is_empty() {
        compose.create(&generated, &names).await.map_err(text)?;
    }
    Ok(Some(format!("{} containers in {}", started.len(), stack.color)))
}

fn starter<'a>(docker: &'a Docker, secrets: &'a Secrets) -> Starter<'a> {
    Starter { docker, limits: StartLimits::default(), secrets, progress: None }
}

/// The values that must not be shown. Where they cannot be read nothing is masked by value, and
/// what sounds like a secret still is.
async fn secrets_of(folder: &Path) -> Secrets {
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
            let secrets = secrets_of(&release_folder(settings, release)).await;
            stack::start_again(&starter(&docker, &secrets), &project, &stack, Phase::Services)
                .await
                .map_err(|error| with_log(&error))?;
        }
        None => {
            for container in colored(settings, &docker, &project).await? {
                let is_singleton = container.service().is_some_and(|s| settings.is_singleton(s));
                if !is_singleton && !container.is_running() {
                    docker.start(&container).await.map_err(text)?;
                }
            }
        }
    }
    Ok(Some(format!("{release} runs again in {color}")))
}

async fn ready(settings: &StackSettings, color: Color, work: &Work) -> Text {
    let Some(target) = &work.probe else { return Ok(None) };
    let spec = probe::ProbeSpec {
        address: target.address,
        host: target.host.clone().unwrap_or_else(|| "localhost".to_owned()),
        path: target.path.clone(),
        headers: Vec::new(),
        expect: target.expect.clone(),
        passes: target.passes,
        attempts: target.attempts,
        interval: target.interval,
        timeout: target.timeout,
    };
    match probe::probe(&spec).await {
        Ok(_) => Ok(Some(format!(
            "{color}: {} answered {} times in a row; no user on it yet",
            target.path, target.passes
        ))),
        Err(error) => {
            let log = last_lines(settings, color, work).await;
            Err(format!("{color} does not become ready: {error}{log}"))
        }
    }
}

/// The newest log lines of a project's services, or of one of them, with secrets masked.
pub(super) async fn logs(
    settings: &StackSettings,
    (project, release): (&str, ReleaseId),
    service: Option<&str>,
    tail: usize,
) -> Result<Vec<(String, String)>, String> {
    let docker = docker(settings).await?;
    let folder = release_folder(settings, release);
    let secrets = if folder.exists() { secrets_of(&folder).await } else { Secrets::none() };
    let mut found = Vec::new();
    for container in colored(settings, &docker, project).await? {
        let name = container.service().unwrap_or("?").to_owned();
        if service.is_some_and(|wanted| wanted != name) {
            continue;
        }
        for line in docker.log_tail(&container, tail).await.map_err(text)? {
            let shown = format!("{} {}", line.time, secrets.mask(&line.text));
            found.push((line.time.clone(), (name.clone(), shown)));
        }
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    let skipped = found.len().saturating_sub(tail);
    Ok(found.into_iter().skip(skipped).map(|(_, line)| line).collect())
}

/// The newest log lines of each container of a color that wrote any.
async fn last_lines(settings: &StackSettings, color: Color, work: &Work) -> String {
    let Ok(docker) = docker(settings).await else { return String::new() };
    let project = work.projects.get(color).clone().unwrap_or_else(|| settings.project(color));
    let secrets = match work.release {
        Some((release, _)) => secrets_of(&release_folder(settings, release)).await,
        None => Secrets::none(),
    };
    let mut text = String::new();
    for container in colored(settings, &docker, &project).await.unwrap_or_default() {
        let lines = docker.log_tail(&container, LOG_LINES).await.unwrap_or_default();
        let service = container.service().unwrap_or("?");
        for line in lines {
            text.push_str(&format!("\n  {service}  {}", secrets.mask(&line.text)));
        }
    }
    text
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
            let folder = release_folder(settings, release);
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

/// Containers of a project that are not shared, singletons or ended jobs.
pub(super) async fn count(settings: &StackSettings, project: &str) -> Result<Containers, String> {
    let docker = docker(settings).await?;
    let mut counted = Containers::default();
    for container in colored(settings, &docker, project).await? {
        if container.service().is_some_and(|s| settings.is_singleton(s)) {
            continue;
        }
        match container.is_running() {
            true => counted.running += 1,
            false => counted.stopped += 1,
        }
    }
    Ok(counted)
}

/// The proven endpoints of a project, by service.
pub(super) async fn endpoints(
    settings: &StackSettings,
    project: &str,
) -> Result<BTreeMap<ServiceName, Vec<Endpoint>>, String> {
    let docker = docker(settings).await?;
    let containers = colored(settings, &docker, project).await?;
    let mut found: BTreeMap<ServiceName, Vec<Endpoint>> = BTreeMap::new();
    for endpoint in stack::endpoints(&containers).map_err(text)? {
        found.entry(endpoint.service.clone()).or_default().push(endpoint);
    }
    Ok(found)
}

/// Removes what a release has outside of its stack: folder, worktree, pins, ref.
pub(super) async fn forget(settings: &StackSettings, release: ReleaseId) {
    let name = release.to_string();
    if let Ok(Some(head)) = git::head(&settings.folder).await {
        log(git::remove_worktree(&head.root, &worktree(settings, release)).await);
        log(git::forget(&head.root, settings.app.as_str(), &name).await);
    }
    if let Ok(docker) = docker(settings).await {
        log(docker.unpin_images(settings.app.as_str(), &name).await);
    }
    let folder = release_folder(settings, release);
    if folder.exists() {
        log(files::remove_release(&folder).await);
    }
    for rest in [format!("{name}.json"), format!("{name}-pull.json")] {
        drop(std::fs::remove_file(settings.state.join("builds").join(rest)));
    }
}

fn log<T, E: std::fmt::Display>(result: Result<T, E>) {
    if let Err(error) = result {
        tracing::warn!(%error, "something of a release is left over; doctor finds it");
    }
}
