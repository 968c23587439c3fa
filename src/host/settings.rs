//! What the host adapters need to know of one app, in their own words.
//!
//! Filled by the daemon from the checked configuration, so that nothing here reads or parses the
//! operator's file. All paths are absolute unless said otherwise.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use cutover_model::{AppName, Color, ReleaseId, ServiceName};
use serde::{Deserialize, Serialize};

use super::env::EnvRules;

/// How two copies of a service treat one volume or one writable folder of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VolumeClass {
    /// Both colors mount the same one, both may write.
    Shared,
    /// Each color has its own, empty at first: scratch.
    PerColor,
    /// Both colors mount the same one and may only read it.
    ReadOnly,
}

/// What becomes of a published port of a colored service that no route covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PortClass {
    /// Forwarded to the stable color, connection by connection.
    Tcp,
    /// Not published any more.
    Drop,
}

/// What becomes of an external network that a colored service is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NetworkClass {
    /// Both colors join it, under names of their own (`backend-green`), never under the service's.
    Join,
    /// The colored services leave it.
    Drop,
}

/// A port inside a service that a route leads to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RoutedPort {
    /// The service.
    pub service: ServiceName,
    /// The port inside the container.
    pub port: u16,
}

/// One app as its compose file, and what the operator said about it.
#[derive(Debug, Clone, PartialEq)]
pub struct StackSettings {
    /// The app; a color's compose project is `<app>-<color>`.
    pub app: AppName,
    /// The operator's folder: the project directory of every compose call.
    pub folder: PathBuf,
    /// The compose files, relative to `folder` or absolute; empty: those that compose finds.
    pub compose_files: Vec<PathBuf>,
    /// The operator's own compose project; `None`: as compose finds it.
    pub operators_project: Option<String>,
    /// The compose profiles that are on; `None`: as compose finds them.
    pub profiles: Option<BTreeSet<String>>,
    /// Services that run once, for both colors.
    pub shared: BTreeSet<ServiceName>,
    /// Services that run in the stable color only.
    pub singletons: BTreeSet<ServiceName>,
    /// Services that run once and end, besides those that the file itself waits for to end.
    pub jobs: BTreeSet<ServiceName>,
    /// Files that are kept with each release, relative to `folder` or absolute.
    pub env_files: Vec<PathBuf>,
    /// Named volumes by name, host folders by path (`./data` or absolute).
    pub volumes: BTreeMap<String, VolumeClass>,
    /// Published ports that no route covers: `9000`, `5353/udp`, or `service:port inside`.
    pub ports: BTreeMap<String, PortClass>,
    /// External networks by their name in the file.
    pub networks: BTreeMap<String, NetworkClass>,
    /// Where the routes lead.
    pub routed: BTreeSet<RoutedPort>,
    /// The service that runs the app's database, and that database; `None`: it is not known, or it
    /// runs outside of compose.
    pub database: Option<(ServiceName, String)>,
    /// Variables that may be blank.
    pub blank_ok: BTreeSet<String>,
    /// Images to run instead of those in the file (`deploy --image SERVICE=IMAGE`).
    pub images: BTreeMap<ServiceName, String>,
    /// Which keys of env files come back with a release, and which keep today's value.
    pub env: EnvRules,
    /// Docker's socket; `None`: `DOCKER_HOST` or the default.
    pub docker_socket: Option<PathBuf>,
    /// The app's own part of the state folder: releases, worktrees, per-color folders.
    pub state: PathBuf,
}

impl StackSettings {
    /// Settings that say nothing but where the app is.
    #[must_use]
    pub fn new(app: AppName, folder: PathBuf, state: PathBuf) -> Self {
        Self {
            app,
            folder,
            compose_files: Vec::new(),
            operators_project: None,
            profiles: None,
            shared: BTreeSet::new(),
            singletons: BTreeSet::new(),
            jobs: BTreeSet::new(),
            env_files: Vec::new(),
            volumes: BTreeMap::new(),
            ports: BTreeMap::new(),
            networks: BTreeMap::new(),
            routed: BTreeSet::new(),
            database: None,
            blank_ok: BTreeSet::new(),
            images: BTreeMap::new(),
            env: EnvRules::default(),
            docker_socket: None,
            state,
        }
    }

    /// The folder of a release: its compose file, env files and what else belongs to it.
    #[must_use]
    pub fn release_folder(&self, release: ReleaseId) -> PathBuf {
        self.state.join("releases").join(release.to_string())
    }

    /// The folder in which a release's commit is checked out.
    #[must_use]
    pub fn worktree(&self, release: ReleaseId) -> PathBuf {
        self.state.join("worktrees").join(release.to_string())
    }

    /// The compose project of a color: `<app>-<color>`.
    #[must_use]
    pub fn project(&self, color: Color) -> String {
        format!("{}-{color}", self.app)
    }

    /// The internal network by which a color reaches the shared services: `<app>-<color>-link`.
    #[must_use]
    pub fn link_network(&self, color: Color) -> String {
        format!("{}-{color}-link", self.app)
    }

    /// Whether the service runs once, for both colors.
    #[must_use]
    pub fn is_shared(&self, service: &str) -> bool {
        self.shared.iter().any(|name| name.as_str() == service)
    }

    /// Whether the service runs in the stable color only.
    #[must_use]
    pub fn is_singleton(&self, service: &str) -> bool {
        self.singletons.iter().any(|name| name.as_str() == service)
    }
}
