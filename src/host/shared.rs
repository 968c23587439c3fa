//! Shared services: databases, queues, caches, which run once for both colors.
//!
//! They belong to the operator's own project. One that runs is left alone whatever its definition
//! says; a stopped one is started by the engine; only one that has no container is made, by
//! compose. Differences are reported as drift, never mended here. Each color reaches them by an
//! internal network, which moves no route of theirs.
//!
//! INVARIANT: compose is never called for a shared container that exists.

use std::time::Duration;

use cutover_model::{Color, ServiceName};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::HostError;
use super::compose::{ColoredStack, Compose, WaitFor};
use super::docker::{Container, Docker, Filter, Health, State, label};
use super::settings::StackSettings;
use super::stack::{Fault, StackError};

/// How often containers are looked at while one is waited for.
const LOOK: Duration = Duration::from_millis(500);

/// What was found of a shared service, and done for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedSeen {
    /// The service.
    pub service: ServiceName,
    /// What was done.
    pub done: Done,
    /// Its containers' ids.
    pub containers: Vec<String>,
}

/// What was done for a shared service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Done {
    /// Nothing: it runs.
    Nothing,
    /// Its stopped container was started.
    Started,
    /// It had no container; compose made it.
    Made,
    /// It ended with exit code 0, as a job does.
    Ended,
}

/// A shared service that is not as its definition says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drift {
    /// The service.
    pub service: ServiceName,
    /// What differs, in a sentence.
    pub what: String,
}

/// Sees to it that each shared service has a running container, touching none that runs.
///
/// # Errors
/// [`HostError`] naming the service.
pub async fn ensure(
    docker: &Docker,
    compose: &Compose,
    stack: &ColoredStack,
    progress: Option<mpsc::Sender<String>>,
) -> Result<Vec<SharedSeen>, HostError> {
    let mut seen = Vec::new();
    for shared in &stack.shared {
        let service = &shared.service;
        let found = containers(docker, stack, service).await?;
        let done = if found.is_empty() {
            if let Err(error) = compose.up_absent_shared(service.as_str(), progress.clone()).await {
                take_back(docker, stack, service).await;
                return Err(error.into());
            }
            Done::Made
        } else {
            let completes = stack
                .waits
                .iter()
                .any(|wait| wait.service == *service && wait.condition == WaitFor::Completed);
            revive(docker, &found, completes).await?
        };
        let found = containers(docker, stack, service).await?;
        let containers = found.into_iter().map(|container| container.id).collect();
        seen.push(SharedSeen { service: service.clone(), done, containers });
    }
    Ok(seen)
}

/// Removes what compose made of an absent service and could not start, as where its port is taken:
/// it never ran. What does not go is seen by the next deploy, which starts it.
async fn take_back(docker: &Docker, stack: &ColoredStack, service: &ServiceName) {
    for container in containers(docker, stack, service).await.unwrap_or_default() {
        if container.state == State::Created
            && let Err(error) = docker.remove(&container).await
        {
            tracing::warn!(%error, "a container that could not start is left");
        }
    }
}

async fn revive(docker: &Docker, found: &[Container], completes: bool) -> Result<Done, HostError> {
    let mut done = Done::Nothing;
    for container in found {
        match container.state {
            State::Running | State::Restarting => {}
            State::Exited if completes && container.exit_code == 0 => done = Done::Ended,
            State::Paused => {
                docker.unpause(container).await?;
                done = Done::Started;
            }
            State::Exited | State::Created | State::Dead => {
                docker.start(container).await?;
                done = Done::Started;
            }
        }
    }
    Ok(done)
}

/// Joins the shared containers to the color's link under their names; joined already is success.
/// To be called again whenever a shared container is seen to start: the operator may have made it
/// anew, and a new one is on no link.
///
/// # Errors
/// [`HostError`] with the engine's reason.
pub async fn link(
    docker: &Docker,
    settings: &StackSettings,
    stack: &ColoredStack,
) -> Result<(), HostError> {
    let Some(name) = &stack.link else { return Ok(()) };
    docker.ensure_link(name, settings.app.as_str(), &stack.color.to_string()).await?;
    for shared in &stack.shared {
        for container in containers(docker, stack, &shared.service).await? {
            docker.join(name, &container, &shared.aliases).await?;
        }
    }
    Ok(())
}

/// Takes the shared containers off a color's link and removes it; no link is success.
///
/// # Errors
/// [`HostError`] with the engine's reason.
pub async fn unlink(
    docker: &Docker,
    settings: &StackSettings,
    color: Color,
) -> Result<(), HostError> {
    let name = settings.link_network(color);
    Ok(docker.remove_network(&name, settings.app.as_str()).await?)
}

/// Waits until the shared services are what the colored ones wait for.
///
/// # Errors
/// [`StackError::Shared`] naming the service and what is missing.
pub async fn wait(docker: &Docker, stack: &ColoredStack, limit: Duration) -> Result<(), HostError> {
    let deadline = Instant::now() + limit;
    for wait in &stack.waits {
        loop {
            let found = containers(docker, stack, &wait.service).await?;
            let missing = found.iter().find_map(|c| Some((c, lacks(c, wait.condition)?)));
            let (container, why) = match (missing, found.is_empty()) {
                (None, false) => break,
                (Some((container, why)), _) => (container.name.clone(), why),
                (None, true) => (wait.service.to_string(), "it has no container".to_owned()),
            };
            if Instant::now() >= deadline {
                let (service, fault) = (wait.service.clone(), Fault::TooSlow { limit, why });
                return Err(StackError::Shared { service, container, fault }.into());
            }
            tokio::time::sleep(LOOK).await;
        }
    }
    Ok(())
}

/// What a container lacks to be what is waited for. Pure.
fn lacks(container: &Container, condition: WaitFor) -> Option<String> {
    let running = container.state == State::Running;
    match condition {
        WaitFor::Completed if container.state == State::Exited && container.exit_code == 0 => None,
        WaitFor::Completed => Some("it has not ended with exit code 0".to_owned()),
        _ if !running => Some("it does not run".to_owned()),
        WaitFor::Started => None,
        WaitFor::Healthy => match container.health {
            Health::Healthy | Health::None => None,
            Health::Starting => Some("its health check has not passed yet".to_owned()),
            Health::Unhealthy => Some("its health check fails".to_owned()),
        },
    }
}

/// What of the shared services differs from their definition. Hashes are compared only where the
/// container was made by the compose that is installed now, since each version hashes differently.
///
/// # Errors
/// [`HostError`] when it cannot be found out.
pub async fn drift(
    docker: &Docker,
    compose: &Compose,
    stack: &ColoredStack,
) -> Result<Vec<Drift>, HostError> {
    let version = compose.version().await?;
    let mut found = Vec::new();
    for shared in &stack.shared {
        let service = &shared.service;
        for container in containers(docker, stack, service).await? {
            let made_by = container.labels.get(label::VERSION);
            if made_by != Some(&version) {
                continue;
            }
            let wanted = compose.hash(service.as_str()).await?;
            if container.labels.get(label::HASH).is_some_and(|hash| *hash != wanted) {
                found.push(Drift {
                    service: service.clone(),
                    what: format!(
                        "{} runs with an older definition than the compose file has; it is left \
                         as it is. To apply it in a quiet moment: docker compose up -d {service}",
                        container.name
                    ),
                });
            }
        }
    }
    Ok(found)
}

/// The containers of a shared service, in the operator's own project.
///
/// # Errors
/// [`HostError`] when the engine does not answer.
pub async fn containers(
    docker: &Docker,
    stack: &ColoredStack,
    service: &ServiceName,
) -> Result<Vec<Container>, HostError> {
    let filter = Filter::project(&stack.operator_project).service(service.as_str());
    let mut found = docker.containers(&filter).await?;
    found.retain(|container| !container.is_oneoff());
    Ok(found)
}
