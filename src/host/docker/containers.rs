//! Containers: found by compose's labels, seen as plain values, started, stopped, removed.
//!
//! A stop gives the container its own grace time and the engine some more; a container that is
//! already as wanted is success. Values hold no environment, so that no secret leaves here.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::time::Duration;

use bollard::models::{
    ContainerInspectResponse, ContainerStateStatusEnum, ContainerUpdateBody, EndpointSettings,
    HealthStatusEnum, RestartPolicy, RestartPolicyNameEnum,
};
use bollard::query_parameters::{
    ListContainersOptionsBuilder, RemoveContainerOptionsBuilder, StatsOptionsBuilder,
    StopContainerOptionsBuilder,
};
use futures_util::StreamExt;

use super::{ASK, CHANGE, Docker, DockerError, short, within};

/// The labels by which containers, networks and volumes are found.
pub mod label {
    /// Compose: the project.
    pub const PROJECT: &str = "com.docker.compose.project";
    /// Compose: the service.
    pub const SERVICE: &str = "com.docker.compose.service";
    /// Compose: `True` for `docker compose run` containers.
    pub const ONEOFF: &str = "com.docker.compose.oneoff";
    /// Compose: the place of this container among its service's.
    pub const NUMBER: &str = "com.docker.compose.container-number";
    /// Compose: the hash of the service's definition.
    pub const HASH: &str = "com.docker.compose.config-hash";
    /// Compose: its version.
    pub const VERSION: &str = "com.docker.compose.version";
    /// Compose: the folder of the project.
    pub const FOLDER: &str = "com.docker.compose.project.working_dir";
    /// Ours: the app. What does not carry it is never removed.
    pub const APP: &str = "app.cutover.app";
    /// Ours: the color.
    pub const COLOR: &str = "app.cutover.color";
    /// Ours: the release.
    pub const RELEASE: &str = "app.cutover.release";
    /// Ours: `service`, `singleton`, `job`, `link`, or `pin`.
    pub const KIND: &str = "app.cutover.kind";
}

/// Which containers to list; all given labels must match.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    labels: Vec<String>,
}

impl Filter {
    /// The containers of a compose project.
    #[must_use]
    pub fn project(project: &str) -> Self {
        Self::default().label(label::PROJECT, project)
    }

    /// The containers that carry our label for an app.
    #[must_use]
    pub fn app(app: &str) -> Self {
        Self::default().label(label::APP, app)
    }

    /// Only those of one service.
    #[must_use]
    pub fn service(self, service: &str) -> Self {
        self.label(label::SERVICE, service)
    }

    /// Only those with a label.
    #[must_use]
    pub fn label(mut self, key: &str, value: &str) -> Self {
        self.labels.push(format!("{key}={value}"));
        self
    }

    pub(super) fn query(&self) -> HashMap<String, Vec<String>> {
        HashMap::from([("label".to_owned(), self.labels.clone())])
    }
}

/// What a container does now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Made, never started.
    Created,
    /// Its process runs.
    Running,
    /// Its processes are frozen.
    Paused,
    /// Between a crash and the next start.
    Restarting,
    /// Its process ended.
    Exited,
    /// Being removed, or it could not be.
    Dead,
}

/// What its own health check says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// It has none.
    None,
    /// Not decided yet.
    Starting,
    /// Passing.
    Healthy,
    /// Failing.
    Unhealthy,
}

/// One network that a container is on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attached {
    /// Its address there; `None` while it is stopped.
    pub ip: Option<IpAddr>,
    /// The names it answers to there.
    pub aliases: Vec<String>,
}

/// A container as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// The full id.
    pub id: String,
    /// The name, without the slash.
    pub name: String,
    /// All labels.
    pub labels: BTreeMap<String, String>,
    /// The id of its image.
    pub image: String,
    /// What it does.
    pub state: State,
    /// What its health check says.
    pub health: Health,
    /// When its health check was last made, as Docker writes it; empty: never.
    pub checked_at: String,
    /// What its health check printed last, escaped, when it is not healthy.
    pub health_output: Option<String>,
    /// The first process; `None` while it is not running.
    pub pid: Option<u32>,
    /// The exit code of its last end.
    pub exit_code: i64,
    /// Whether the kernel ended it for want of memory.
    pub oom_killed: bool,
    /// How often the engine restarted it by itself.
    pub restarts: i64,
    /// Why it could not start, in the engine's words.
    pub error: String,
    /// When it was started last, RFC 3339.
    pub started_at: String,
    /// When it ended last, RFC 3339.
    pub finished_at: String,
    /// Its networks by name.
    pub networks: BTreeMap<String, Attached>,
    /// How long it may take to stop.
    pub stop_timeout: Duration,
    /// Its memory limit in bytes; `None`: unlimited.
    pub memory_limit: Option<u64>,
    /// The named volumes it mounts: name and place.
    pub volumes: Vec<(String, String)>,
    /// Whether the engine starts it again by itself, in the engine's word: `no`, `always`,
    /// `unless-stopped`, `on-failure`.
    pub restart_policy: String,
}

impl Container {
    /// The compose service, if compose made it.
    #[must_use]
    pub fn service(&self) -> Option<&str> {
        self.labels.get(label::SERVICE).map(String::as_str)
    }

    /// The compose project, if compose made it.
    #[must_use]
    pub fn project(&self) -> Option<&str> {
        self.labels.get(label::PROJECT).map(String::as_str)
    }

    /// Whether `docker compose run` made it.
    #[must_use]
    pub fn is_oneoff(&self) -> bool {
        self.labels.get(label::ONEOFF).is_some_and(|value| value == "True")
    }

    /// Whether its process runs and is not frozen.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.state == State::Running
    }

    /// Where this host dials it: its address on the first network by name that is not a link, so
    /// that the same container always gives the same one.
    #[must_use]
    pub fn dial(&self) -> Option<IpAddr> {
        let (links, own): (Vec<_>, Vec<_>) =
            self.networks.iter().partition(|(name, _)| name.ends_with("-link"));
        own.into_iter().chain(links).find_map(|(_, attached)| attached.ip)
    }

    fn from_inspect(answer: ContainerInspectResponse) -> Result<Self, DockerError> {
        let what = || "looking at a container".to_owned();
        let id = answer.id.ok_or_else(|| DockerError::Incomplete { what: what(), field: "Id" })?;
        let state =
            answer.state.ok_or_else(|| DockerError::Incomplete { what: what(), field: "State" })?;
        let config = answer.config.unwrap_or_default();
        let host = answer.host_config.unwrap_or_default();
        let networks = answer.network_settings.and_then(|settings| settings.networks);
        let health = state.health.as_ref().and_then(|health| health.status);
        let last = state.health.as_ref().and_then(|health| health.log.as_ref()?.last());
        let health_output =
            last.and_then(|last| Some(super::super::process::tail(last.output.as_deref()?, 2)));
        let failed = last.is_some_and(|last| last.exit_code != Some(0));
        let checked_at = last.and_then(|last| last.start.clone()).unwrap_or_default();
        let volumes = answer.mounts.unwrap_or_default().into_iter();
        let volumes = volumes.filter_map(|mount| Some((mount.name?, mount.destination?)));
        Ok(Self {
            id,
            name: answer.name.unwrap_or_default().trim_start_matches('/').to_owned(),
            labels: config.labels.unwrap_or_default().into_iter().collect(),
            image: answer.image.unwrap_or_default(),
            state: state_of(state.status),
            health: health_of(health, failed),
            checked_at,
            health_output,
            pid: state.pid.and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid != 0),
            exit_code: state.exit_code.unwrap_or(0),
            oom_killed: state.oom_killed.unwrap_or(false),
            restarts: answer.restart_count.unwrap_or(0),
            error: super::super::process::escape(&state.error.unwrap_or_default()),
            started_at: state.started_at.unwrap_or_default(),
            finished_at: state.finished_at.unwrap_or_default(),
            networks: networks
                .unwrap_or_default()
                .into_iter()
                .map(|(name, settings)| (name, attached(settings)))
                .collect(),
            stop_timeout: Duration::from_secs(
                config.stop_timeout.and_then(|secs| u64::try_from(secs).ok()).unwrap_or(10),
            ),
            memory_limit: host.memory.and_then(|m| u64::try_from(m).ok()).filter(|m| *m > 0),
            volumes: volumes.collect(),
            restart_policy: host
                .restart_policy
                .and_then(|policy| policy.name)
                .map_or_else(|| "no".to_owned(), |name| name.to_string()),
        })
    }
}

fn state_of(status: Option<ContainerStateStatusEnum>) -> State {
    match status {
        Some(ContainerStateStatusEnum::RUNNING) => State::Running,
        Some(ContainerStateStatusEnum::PAUSED) => State::Paused,
        Some(ContainerStateStatusEnum::RESTARTING) => State::Restarting,
        Some(ContainerStateStatusEnum::EXITED) => State::Exited,
        Some(ContainerStateStatusEnum::CREATED) => State::Created,
        _ => State::Dead,
    }
}

/// Docker calls a container unhealthy as soon as it is frozen, and after that until its check was
/// made again. `failed`: whether the last check did.
fn health_of(status: Option<HealthStatusEnum>, failed: bool) -> Health {
    match status {
        Some(HealthStatusEnum::UNHEALTHY) if !failed => Health::Starting,
        Some(HealthStatusEnum::STARTING) => Health::Starting,
        Some(HealthStatusEnum::HEALTHY) => Health::Healthy,
        Some(HealthStatusEnum::UNHEALTHY) => Health::Unhealthy,
        _ => Health::None,
    }
}

fn attached(settings: EndpointSettings) -> Attached {
    let address = |text: Option<String>| text.and_then(|text| text.parse().ok());
    Attached {
        ip: address(settings.ip_address).or_else(|| address(settings.global_ipv6_address)),
        aliases: settings.aliases.unwrap_or_default(),
    }
}

impl Docker {
    /// The containers that match, stopped ones too, each looked at closely, sorted by name. One
    /// that disappears in between is left out.
    ///
    /// # Errors
    /// [`DockerError`] when the engine does not answer.
    pub async fn containers(&self, filter: &Filter) -> Result<Vec<Container>, DockerError> {
        let options =
            ListContainersOptionsBuilder::default().all(true).filters(&filter.query()).build();
        let what = "listing containers";
        let listed = within(ASK, what, self.client.list_containers(Some(options))).await?;
        let mut found = Vec::with_capacity(listed.len());
        for id in listed.into_iter().filter_map(|summary| summary.id) {
            match self.container(&id).await {
                Ok(container) => found.push(container),
                Err(error) if error.is_missing() => {}
                Err(error) => return Err(error),
            }
        }
        found.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }

    /// One container, by id or name.
    ///
    /// # Errors
    /// [`DockerError::Missing`] when there is none.
    pub async fn container(&self, id: &str) -> Result<Container, DockerError> {
        let what = format!("looking at container {}", short(id));
        let answer = within(ASK, what, self.client.inspect_container(id, None)).await?;
        Container::from_inspect(answer)
    }

    /// The variables that a container was made with.
    ///
    /// # Errors
    /// [`DockerError`] when the engine does not answer.
    pub async fn environment_of(
        &self,
        container: &Container,
    ) -> Result<BTreeMap<String, String>, DockerError> {
        let what = format!("looking at {}", container.name);
        let call = self.client.inspect_container(&container.id, None);
        let config = within(ASK, what, call).await?.config.unwrap_or_default();
        let pairs = config.env.unwrap_or_default();
        let split = |pair: String| Some(pair.split_once('=')?).map(|(k, v)| (k.into(), v.into()));
        Ok(pairs.into_iter().filter_map(split).collect())
    }

    /// Starts a container; one that runs already is success.
    ///
    /// # Errors
    /// [`DockerError`] with the engine's reason, for instance a port that is taken.
    pub async fn start(&self, container: &Container) -> Result<(), DockerError> {
        let what = format!("starting {}", container.name);
        within(CHANGE, what, self.client.start_container(&container.id, None)).await
    }

    /// Asks a container to stop and waits for its own grace time, or for `grace` when given; then
    /// the engine ends it. It stays stopped when the engine or the machine is started again, also
    /// where its restart policy was `always`. One that is stopped or gone is success.
    ///
    /// # Errors
    /// [`DockerError`] when it still runs at the end of it.
    pub async fn stop(
        &self,
        container: &Container,
        grace: Option<Duration>,
    ) -> Result<(), DockerError> {
        self.keep_stopped(container).await?;
        let grace = grace.unwrap_or(container.stop_timeout);
        let seconds = i32::try_from(grace.as_secs()).unwrap_or(i32::MAX);
        let options = StopContainerOptionsBuilder::default().t(seconds).build();
        let what = format!("stopping {}", container.name);
        let call = self.client.stop_container(&container.id, Some(options));
        gone_is_fine(within(grace + Duration::from_secs(20), what, call).await)
    }

    /// `always` becomes `unless-stopped`; the container goes on as it is. With `always`, a restart
    /// of the engine would bring back what was stopped: a second singleton, for instance.
    pub(super) async fn keep_stopped(&self, container: &Container) -> Result<(), DockerError> {
        if container.restart_policy != "always" {
            return Ok(());
        }
        let body = ContainerUpdateBody {
            restart_policy: Some(RestartPolicy {
                name: Some(RestartPolicyNameEnum::UNLESS_STOPPED),
                maximum_retry_count: None,
            }),
            ..ContainerUpdateBody::default()
        };
        let what = format!("changing the restart policy of {}", container.name);
        gone_is_fine(within(CHANGE, what, self.client.update_container(&container.id, body)).await)
    }

    /// Removes a container and its anonymous volumes, by force if `stopped` is not yet true of it.
    /// One that is gone is success.
    ///
    /// # Errors
    /// [`DockerError`] when it is still there at the end of it.
    pub async fn remove(&self, container: &Container) -> Result<(), DockerError> {
        let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
        let what = format!("removing {}", container.name);
        let call = self.client.remove_container(&container.id, Some(options));
        match gone_is_fine(within(CHANGE, what, call).await) {
            // "removal of container is already in progress"
            Err(DockerError::Refused { status: 409, .. }) => self.wait_gone(&container.id).await,
            other => other,
        }
    }

    async fn wait_gone(&self, id: &str) -> Result<(), DockerError> {
        let deadline = tokio::time::Instant::now() + CHANGE;
        loop {
            match self.container(id).await {
                Err(error) if error.is_missing() => return Ok(()),
                Err(error) => return Err(error),
                Ok(container) if tokio::time::Instant::now() > deadline => {
                    let what = format!("removing {}", container.name);
                    return Err(DockerError::NoAnswer { what, limit: CHANGE });
                }
                Ok(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    }

    /// Freezes a container's processes; one that is frozen already is success.
    ///
    /// # Errors
    /// [`DockerError`] with the engine's reason.
    pub async fn pause(&self, container: &Container) -> Result<(), DockerError> {
        let what = format!("freezing {}", container.name);
        match within(CHANGE, what, self.client.pause_container(&container.id)).await {
            Err(_) if self.container(&container.id).await?.state == State::Paused => Ok(()),
            other => other,
        }
    }

    /// Lets a frozen container go on; one that is not frozen is success.
    ///
    /// # Errors
    /// [`DockerError`] with the engine's reason.
    pub async fn unpause(&self, container: &Container) -> Result<(), DockerError> {
        let what = format!("letting {} go on", container.name);
        match within(CHANGE, what, self.client.unpause_container(&container.id)).await {
            Err(_) if self.container(&container.id).await?.state != State::Paused => Ok(()),
            other => other,
        }
    }

    /// The memory that a container uses now, in bytes, page cache left out; 0 while it is stopped.
    ///
    /// # Errors
    /// [`DockerError`] when the engine does not answer.
    pub async fn memory_of(&self, container: &Container) -> Result<u64, DockerError> {
        let options = StatsOptionsBuilder::default().stream(false).one_shot(true).build();
        let what = format!("asking for the memory of {}", container.name);
        let mut stream = Box::pin(self.client.stats(&container.id, Some(options)));
        let first = async { stream.next().await.transpose() };
        let memory = within(ASK, what, first).await?.and_then(|stats| stats.memory_stats);
        let Some(memory) = memory else { return Ok(0) };
        let cache = memory.stats.as_ref().and_then(|stats| {
            stats.get("inactive_file").or_else(|| stats.get("total_inactive_file")).copied()
        });
        Ok(memory.usage.unwrap_or(0).saturating_sub(cache.unwrap_or(0)))
    }
}

fn gone_is_fine(result: Result<(), DockerError>) -> Result<(), DockerError> {
    match result {
        Err(error) if error.is_missing() => Ok(()),
        other => other,
    }
}
