//! One color's stack: prepared, started in order, watched until it is up, stopped, removed.
//!
//! The first start goes through compose (which puts configs into containers and runs hooks), with
//! nothing that a service depends on: the order, the waits and the one run of each job are ours. A
//! stack that was stopped is brought back by `docker start` in the same order, never by compose,
//! which would run the jobs again.
//!
//! INVARIANT: only containers, networks and volumes that carry our label for the app are removed.

use std::collections::BTreeMap;
use std::time::Duration;

use cutover_model::{Color, ServiceName};
use tokio::sync::mpsc;

use super::compose::{
    ColoredStack, Compose, ComposeError, Generated, ImageSource, Kind, PullPolicy, Start,
};
use super::docker::{self, Container, Docker, DockerError, Filter, Health, State, label};
use super::endpoint::{self, Endpoint, EndpointError};
use super::redact::Secrets;
use super::settings::{StackSettings, VolumeClass};

mod error;
mod forget;
mod run;
mod wait;

pub use error::{Fault, StackError};
pub use forget::forget;
pub use run::{Once, RunOutput, end_beside, end_once, run_once, start_beside, words};

/// Which services of a stack are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Those that run in both colors, and the jobs.
    Services,
    /// Those that run in both colors, without the jobs: the release had its stack before.
    Lasting,
    /// Those that run in the stable color only.
    Singletons,
}

/// How long and how often, when a stack starts.
#[derive(Debug, Clone, Copy)]
pub struct StartLimits {
    /// How long one service may take until it runs and is healthy.
    pub ready: Duration,
    /// How long one job may take.
    pub job: Duration,
    /// How often the engine may restart a container before it counts as crashing.
    pub restarts: i64,
    /// How long a container without a health check must have run before it counts as up.
    pub steady: Duration,
}

impl Default for StartLimits {
    fn default() -> Self {
        Self {
            ready: Duration::from_secs(120),
            job: Duration::from_secs(600),
            restarts: 2,
            steady: Duration::from_secs(2),
        }
    }
}

/// What a start needs besides the stack.
#[derive(Debug, Clone)]
pub struct Starter<'a> {
    /// The engine.
    pub docker: &'a Docker,
    /// The limits.
    pub limits: StartLimits,
    /// What to mask in log lines.
    pub secrets: &'a Secrets,
    /// Told of each service that is up; lines are lost when it is full.
    pub progress: Option<mpsc::Sender<String>>,
}

/// What was removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Removed {
    /// The containers.
    pub containers: Vec<String>,
    /// The networks.
    pub networks: Vec<String>,
}

/// The services whose images the engine does not have yet, or whose registry is to be asked each
/// time; images that are built here are left out.
///
/// # Errors
/// [`StackError`] when the engine does not answer.
pub async fn missing_images(
    docker: &Docker,
    stack: &ColoredStack,
) -> Result<Vec<ServiceName>, StackError> {
    let mut missing = Vec::new();
    for (service, source) in &stack.images {
        let ImageSource::Named { reference, pull } = source else { continue };
        let absent = docker.image(reference).await?.is_none();
        if *pull == PullPolicy::Always || (absent && *pull == PullPolicy::Missing) {
            missing.push(service.clone());
        }
    }
    Ok(missing)
}

/// The id of each service's image.
///
/// # Errors
/// [`StackError::NoImage`] naming the first one that the engine does not have.
pub async fn resolve_images(
    docker: &Docker,
    stack: &ColoredStack,
) -> Result<BTreeMap<ServiceName, String>, StackError> {
    let mut ids = BTreeMap::new();
    for (service, source) in &stack.images {
        let reference = source.reference();
        let image = docker.image(reference).await?.ok_or_else(|| StackError::NoImage {
            service: service.clone(),
            reference: reference.to_owned(),
        })?;
        ids.insert(service.clone(), image.id);
    }
    Ok(ids)
}

/// Makes what the stack's containers need: per-color folders, volumes that both colors share and
/// that do not exist yet, the link.
///
/// # Errors
/// [`StackError`] with the reason.
pub async fn prepare(
    docker: &Docker,
    settings: &StackSettings,
    stack: &ColoredStack,
) -> Result<(), StackError> {
    for folder in &stack.folders {
        tokio::fs::create_dir_all(folder)
            .await
            .map_err(|error| StackError::Folder { folder: folder.clone(), error })?;
    }
    for volume in stack.volumes.iter().filter(|v| v.class != VolumeClass::PerColor) {
        if volume.real.starts_with('/') {
            continue;
        }
        // Labelled as the operator's own compose would, which then takes it for its own.
        let labels = [
            (label::PROJECT, stack.operator_project.as_str()),
            ("com.docker.compose.volume", volume.name.as_str()),
        ];
        let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned()));
        docker.ensure_volume(&volume.real, labels.into()).await?;
    }
    if let Some(link) = &stack.link {
        docker.ensure_link(link, settings.app.as_str(), &stack.color.to_string()).await?;
    }
    Ok(())
}

/// The containers that do not run the image that their release names, as sentences: nothing of
/// them may get traffic.
#[must_use]
pub fn wrong_images(containers: &[Container], ids: &BTreeMap<ServiceName, String>) -> Vec<String> {
    let wrong = containers.iter().filter_map(|container| {
        let service = container.service()?;
        let (_, wanted) = ids.iter().find(|(name, _)| name.as_str() == service)?;
        (container.image != *wanted).then(|| {
            let (name, image) = (&container.name, docker::short(&container.image));
            format!("{name} runs image {image}, its release is {}", docker::short(wanted))
        })
    });
    wrong.collect()
}

/// Starts one phase of a stack for the first time, in dependency order: makes the containers,
/// joins them to networks outside of the file, starts each and waits until it is up, runs each job
/// once to its end. What runs already stays. Gives the containers that run.
///
/// # Errors
/// [`StackError`] naming the service at fault, with the last lines of its log. What was started
/// stays, for a look at it; [`remove`] takes it away.
pub async fn start(
    starter: &Starter<'_>,
    compose: &Compose,
    generated: &Generated,
    stack: &ColoredStack,
    phase: Phase,
) -> Result<Vec<Container>, StackError> {
    let starts: Vec<&Start> = in_phase(stack, phase).collect();
    let names: Vec<&str> = starts.iter().map(|start| start.service.as_str()).collect();
    if names.is_empty() {
        return Ok(Vec::new());
    }
    starter.refuse_others(stack).await?;
    compose.create(generated, &names).await?;
    join(starter.docker, stack, &names).await?;
    for start in &starts {
        starter.await_edges(&stack.project, start).await?;
        if start.kind == Kind::Job && starter.job_done(&stack.project, start).await? {
            continue;
        }
        let up = compose.up(generated, &[start.service.as_str()]).await;
        if let Err(error) = up {
            return Err(starter.explain(&stack.project, start, error).await);
        }
        starter.await_up(&stack.project, start).await?;
    }
    starter.await_steady(&stack.project, &starts).await?;
    running(starter.docker, &stack.project, &starts).await
}

/// Brings a stopped stack back: `docker start` in dependency order, waiting for each. Jobs stay as
/// they are. `project`: the stack's, or the operator's own for a release that was taken over.
///
/// # Errors
/// [`StackError::NoContainer`] when one was removed; else as [`start`].
pub async fn start_again(
    starter: &Starter<'_>,
    project: &str,
    stack: &ColoredStack,
    phase: Phase,
) -> Result<Vec<Container>, StackError> {
    let starts: Vec<&Start> =
        in_phase(stack, phase).filter(|start| start.kind != Kind::Job).collect();
    for start in &starts {
        let containers = of_service(starter.docker, project, start).await?;
        if containers.is_empty() {
            return Err(StackError::NoContainer {
                service: start.service.clone(),
                project: project.to_owned(),
            });
        }
        starter.await_edges(project, start).await?;
        for container in &containers {
            match container.state {
                State::Running => {}
                State::Paused => starter.docker.unpause(container).await?,
                _ => starter.docker.start(container).await?,
            }
        }
        let is_frozen = |container: &Container| container.state == State::Paused;
        let frozen: Vec<_> = containers.into_iter().filter(is_frozen).collect();
        starter.await_woken(project, start, &frozen).await?;
    }
    starter.await_steady(project, &starts).await?;
    running(starter.docker, project, &starts).await
}

/// Stops some services of a project, all at once; each has its own grace time. They stay stopped
/// when the engine or the machine is started again. Stopped already is success.
///
/// # Errors
/// [`StackError`] naming the first container that still runs.
pub async fn stop(
    docker: &Docker,
    project: &str,
    services: &[ServiceName],
) -> Result<(), StackError> {
    let containers = docker.containers(&Filter::project(project)).await?;
    let meant = containers.iter().filter(|container| {
        let service = container.service();
        !container.is_oneoff() && services.iter().any(|name| Some(name.as_str()) == service)
    });
    let stops = meant
        .filter(|c| !matches!(c.state, State::Exited | State::Created | State::Dead))
        .map(|container| docker.stop(container, None));
    for result in futures_util::future::join_all(stops).await {
        result?;
    }
    Ok(())
}

/// The services of a stack that run in the stable color only.
#[must_use]
pub fn singletons(stack: &ColoredStack) -> Vec<ServiceName> {
    stack.of_kind(Kind::Singleton).map(|start| start.service.clone()).collect()
}

/// Removes everything of a color that is ours: containers, networks, the link. Per-color volumes
/// stay. Nothing there is success.
///
/// # Errors
/// [`StackError`] naming what stays.
pub async fn remove(
    docker: &Docker,
    settings: &StackSettings,
    color: Color,
) -> Result<Removed, StackError> {
    let (app, color_text) = (settings.app.as_str(), color.to_string());
    let filter = Filter::app(app).label(label::COLOR, &color_text);
    let mut removed = Removed::default();
    let containers = docker.containers(&filter).await?;
    let results = futures_util::future::join_all(containers.iter().map(|c| docker.remove(c))).await;
    for (container, result) in containers.iter().zip(results) {
        result?;
        removed.containers.push(container.name.clone());
    }
    for network in docker.networks(&filter).await? {
        docker.remove_network(&network.name, app).await?;
        removed.networks.push(network.name);
    }
    Ok(removed)
}

/// The containers of a project, `docker compose run` ones left out.
///
/// # Errors
/// [`StackError`] when the engine does not answer.
pub async fn observe(docker: &Docker, project: &str) -> Result<Vec<Container>, StackError> {
    let mut containers = docker.containers(&Filter::project(project)).await?;
    containers.retain(|container| !container.is_oneoff());
    Ok(containers)
}

/// The endpoints among some containers: those that run, have an address, and are not reported
/// unhealthy by their own check.
///
/// # Errors
/// [`EndpointError`] where the system has no boot id.
pub fn endpoints(containers: &[Container]) -> Result<Vec<Endpoint>, EndpointError> {
    let mut found = Vec::new();
    for container in containers.iter().filter(|c| c.is_running()) {
        let service = container.service().and_then(|name| ServiceName::new(name).ok());
        let (Some(service), Some(ip), Some(pid)) = (service, container.dial(), container.pid)
        else {
            continue;
        };
        if container.health != Health::Unhealthy {
            found.push(endpoint::remember(container.id.clone(), service, ip, pid)?);
        }
    }
    Ok(found)
}

fn in_phase(stack: &ColoredStack, phase: Phase) -> impl Iterator<Item = &Start> {
    stack.starts.iter().filter(move |start| match phase {
        Phase::Services => start.kind != Kind::Singleton,
        Phase::Lasting => start.kind == Kind::Service,
        Phase::Singletons => start.kind == Kind::Singleton,
    })
}

async fn join(docker: &Docker, stack: &ColoredStack, names: &[&str]) -> Result<(), StackError> {
    for join in stack.joins.iter().filter(|join| names.contains(&join.service.as_str())) {
        let filter = Filter::project(&stack.project).service(join.service.as_str());
        for container in docker.containers(&filter).await? {
            docker.join(&join.network, &container, &join.aliases).await?;
        }
    }
    Ok(())
}

async fn of_service(
    docker: &Docker,
    project: &str,
    start: &Start,
) -> Result<Vec<Container>, StackError> {
    let filter = Filter::project(project).service(start.service.as_str());
    let mut containers = docker.containers(&filter).await?;
    containers.retain(|container| !container.is_oneoff());
    Ok(containers)
}

async fn running(
    docker: &Docker,
    project: &str,
    starts: &[&Start],
) -> Result<Vec<Container>, StackError> {
    let mut containers = observe(docker, project).await?;
    containers.retain(|container| {
        container.is_running()
            && starts.iter().any(|start| Some(start.service.as_str()) == container.service())
    });
    Ok(containers)
}

impl From<EndpointError> for StackError {
    fn from(error: EndpointError) -> Self {
        Self::Endpoint(error)
    }
}

impl From<DockerError> for StackError {
    fn from(error: DockerError) -> Self {
        Self::Docker(error)
    }
}

impl From<ComposeError> for StackError {
    fn from(error: ComposeError) -> Self {
        Self::Compose(error)
    }
}
