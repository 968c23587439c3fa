//! What an adoption and a leave need to know of the host: the operator's own project, what of it
//! runs, and who publishes which port.

use std::collections::BTreeMap;

use cutover_model::{Color, Millis, Release, ReleaseId};

use crate::adopt::Published;
use crate::host::compose::Compose;
use crate::host::docker::{Container, Docker, Filter};
use crate::host::{StackSettings, git};

/// What plain compose runs now.
#[derive(Debug, Clone)]
pub struct Running {
    /// The operator's compose project.
    pub project: String,
    /// The record that it becomes.
    pub record: Release,
    /// The services that will be there twice.
    pub services: Vec<String>,
    /// The services that run once.
    pub once: Vec<String>,
    /// Which of the public ports Docker publishes, for whom.
    pub published: Vec<Published>,
    /// What is to be known of the engine first.
    pub warnings: Vec<String>,
}

/// With live-restore off, which is Docker's default, an upgrade of Docker takes the site down.
const NO_LIVE_RESTORE: &str = "Docker's live-restore is off: restarting Docker would stop both \
    stacks. Put \"live-restore\": true into /etc/docker/daemon.json, then: systemctl reload docker";

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// Looks at what plain compose runs; changes nothing.
///
/// # Errors
/// What is missing: a service of the file without a running container, or Docker itself.
pub(super) async fn running(
    settings: &StackSettings,
    release: ReleaseId,
    color: Color,
    ports: &[u16],
) -> Result<Running, String> {
    let docker = Docker::connect(settings.docker_socket.as_deref()).await.map_err(text)?;
    let compose = Compose::new(settings);
    let rendered = compose.render(&settings.project(color)).await.map_err(text)?;
    let names = rendered.operator["services"].as_object().cloned().unwrap_or_default();
    let containers = docker.containers(&Filter::project(&rendered.project)).await.map_err(text)?;
    let containers: Vec<&Container> = containers.iter().filter(|c| !c.is_oneoff()).collect();
    let (mut services, mut once, mut missing) = (Vec::new(), Vec::new(), Vec::new());
    for name in names.keys() {
        let of = containers.iter().filter(|c| c.service() == Some(name.as_str()));
        let is_up = of.clone().any(|container| container.is_running());
        let is_job = of.clone().any(|c| !c.is_running() && c.exit_code == 0);
        let runs_once = settings.is_shared(name) || settings.is_singleton(name);
        match (is_up, runs_once) {
            (true, true) => once.push(name.clone()),
            (true, false) => services.push(name.clone()),
            (false, _) if is_job => {}
            (false, _) => missing.push(name.clone()),
        }
    }
    if !missing.is_empty() {
        return Err(format!(
            "no running container of {} in the compose project \"{}\". Start the app as you always \
             do (docker compose up -d), or begin with cutover deploy",
            missing.join(", "),
            rendered.project
        ));
    }
    let image = |name: &String| {
        let container = containers.iter().find(|c| c.service() == Some(name.as_str()))?;
        Some((name.clone(), container.image.clone()))
    };
    let images: BTreeMap<String, String> = services.iter().chain(&once).filter_map(image).collect();
    for id in images.values() {
        let app = settings.app.as_str();
        docker.pin_image(id, app, &release.to_string()).await.map_err(text)?;
    }
    let head = git::head(&settings.folder).await.map_err(text)?;
    let record = Release {
        id: release,
        color,
        project: rendered.project.clone(),
        commit: head.as_ref().map(|head| head.commit.id.clone()),
        title: head.map_or("adopted".to_owned(), |head| head.commit.subject),
        images,
        env_files: BTreeMap::new(),
        migrations: None,
        folder: String::new(),
        made_at: Millis(jiff::Timestamp::now().as_millisecond()),
        parts: None,
    };
    let published = docker.published(ports).await.map_err(text)?;
    let is_off = docker.engine().await.map_err(text)?.live_restore == Some(false);
    let warnings = is_off.then(|| NO_LIVE_RESTORE.to_owned()).into_iter().collect();
    Ok(Running { project: rendered.project, record, services, once, published, warnings })
}

/// The operator's own project, and which of these ports Docker publishes for whom.
pub(super) async fn operators(
    settings: &StackSettings,
    ports: &[u16],
) -> Result<(String, Vec<Published>), String> {
    let docker = Docker::connect(settings.docker_socket.as_deref()).await.map_err(text)?;
    let project = settings.project(Color::Blue);
    let rendered = Compose::new(settings).render(&project).await.map_err(text)?;
    Ok((rendered.project, docker.published(ports).await.map_err(text)?))
}
