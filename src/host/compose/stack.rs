//! What coloring a compose file gives: the file of one color, and everything that compose will not
//! do for it.
//!
//! Values only; kept with the release as JSON, so that the same stack can be started again without
//! the operator's file.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use cutover_model::{Color, ReleaseId, ServiceName};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::super::settings::VolumeClass;

/// One color of an app, ready to be built, checked and started.
///
/// Its `Debug` does not show the files: they hold what the env files hold.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct ColoredStack {
    /// The compose project: `<app>-<color>`.
    pub project: String,
    /// The operator's own project, where the shared services are.
    pub operator_project: String,
    /// The color.
    pub color: Color,
    /// The release.
    pub release: ReleaseId,
    /// The whole compose file. Images are as the operator named them until
    /// [`ColoredStack::with_images`] puts ids in their place.
    pub file: Value,
    /// A compose file that only builds; `None` when nothing is built here.
    pub build_file: Option<Value>,
    /// Where each service's image comes from.
    pub images: BTreeMap<ServiceName, ImageSource>,
    /// The services in the order in which they are started.
    pub starts: Vec<Start>,
    /// Shared services that must be up before anything is started.
    pub waits: Vec<SharedWait>,
    /// The shared services, and the names by which this color knows them.
    pub shared: Vec<SharedLink>,
    /// The internal network to them; `None` when there are none.
    pub link: Option<String>,
    /// Networks outside of the file that containers are joined to before they start.
    pub joins: Vec<Join>,
    /// What was published, and what becomes of it.
    pub published: Vec<Published>,
    /// What the colored services mount.
    pub volumes: Vec<VolumeUse>,
    /// Files to copy into the release folder.
    pub copies: Vec<FileCopy>,
    /// Folders that must exist: the per-color ones.
    pub folders: Vec<PathBuf>,
    /// What was changed that the operator may want to know.
    pub notes: Vec<String>,
}

/// What a colored service is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Runs in both colors.
    Service,
    /// Runs in the stable color only.
    Singleton,
    /// Runs once per deploy, to its end.
    Job,
}

impl Kind {
    /// As it stands in labels.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Service => "service",
            Self::Singleton => "singleton",
            Self::Job => "job",
        }
    }
}

/// What one service waits for in another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WaitFor {
    /// That it runs.
    Started,
    /// That its health check passes.
    Healthy,
    /// That it ended with exit 0.
    Completed,
}

/// One service to start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// The service.
    pub service: ServiceName,
    /// What it is there for.
    pub kind: Kind,
    /// What it waits for; all of these stand before it in the list.
    pub after: Vec<(ServiceName, WaitFor)>,
    /// Whether the file gives it a health check; the image may have one of its own.
    pub health_check: HealthCheck,
    /// How long it may take to stop.
    pub stop_grace: Duration,
    /// How many containers it has.
    pub containers: u32,
    /// Its memory limit in bytes.
    pub memory_limit: Option<u64>,
}

/// Whether a service has a health check in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HealthCheck {
    /// It has.
    Given,
    /// It has none; the image may.
    NotGiven,
    /// It is switched off.
    Disabled,
}

/// A shared service that must be up first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedWait {
    /// The shared service.
    pub service: ServiceName,
    /// What to wait for.
    pub condition: WaitFor,
    /// The colored services that asked for it.
    pub wanted_by: Vec<ServiceName>,
}

/// A shared service on the link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedLink {
    /// The service.
    pub service: ServiceName,
    /// The names that it answers to.
    pub aliases: Vec<String>,
}

/// A network outside of the file that a service is joined to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Join {
    /// The network's real name.
    pub network: String,
    /// The service.
    pub service: ServiceName,
    /// The names it answers to there: never the service's own.
    pub aliases: Vec<String>,
}

/// One published port of the operator's file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// The service.
    pub service: ServiceName,
    /// The address of this host; `None`: all.
    pub host_ip: Option<String>,
    /// The port of this host; `None`: any free one.
    pub port: Option<u16>,
    /// The port inside.
    pub target: u16,
    /// `tcp` or `udp`.
    pub protocol: String,
    /// What becomes of it.
    pub class: PublishedClass,
}

/// What becomes of a published port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PublishedClass {
    /// The proxy listens there: a route leads to the service.
    Listener,
    /// Forwarded to the stable color, connection by connection.
    Tcp,
    /// Not published any more.
    Dropped,
    /// Stays as it is: the service is shared.
    Kept,
}

/// One volume or folder that colored services mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeUse {
    /// Its name in the file, or its path.
    pub name: String,
    /// Its real name or path in this color.
    pub real: String,
    /// How it is treated.
    pub class: VolumeClass,
    /// Who mounts it where.
    pub mounts: Vec<(ServiceName, String)>,
}

/// A file that becomes part of the release, so that editing it changes no release that exists.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FileCopy {
    /// Where it is now.
    pub from: PathBuf,
    /// Where it goes, relative to the release folder.
    pub to: PathBuf,
    /// Whether it must exist.
    pub required: Required,
}

/// Whether a file must exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Required {
    /// Its absence is an error.
    Yes,
    /// Its absence is fine.
    No,
}

/// Where an image comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ImageSource {
    /// Built here, under this name of ours.
    Built {
        /// The name.
        tag: String,
    },
    /// Named by the operator.
    Named {
        /// The name.
        reference: String,
        /// When to ask the registry.
        pull: PullPolicy,
    },
}

impl ImageSource {
    /// The name under which the engine has it.
    #[must_use]
    pub fn reference(&self) -> &str {
        match self {
            Self::Built { tag } => tag,
            Self::Named { reference, .. } => reference,
        }
    }
}

/// When to ask the registry for an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PullPolicy {
    /// At each deploy.
    Always,
    /// When the engine does not have it.
    Missing,
    /// Not at all.
    Never,
}

impl std::fmt::Debug for ColoredStack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ColoredStack")
            .field("project", &self.project)
            .field("release", &self.release)
            .field("images", &self.images)
            .finish_non_exhaustive()
    }
}

impl ColoredStack {
    /// The file with the id of each image in its place; services that have none are named.
    ///
    /// # Errors
    /// The services that have no id.
    pub fn with_images(
        &self,
        ids: &BTreeMap<ServiceName, String>,
    ) -> Result<Value, Vec<ServiceName>> {
        let mut file = self.file.clone();
        let mut missing = Vec::new();
        let services = file.get_mut("services").and_then(Value::as_object_mut);
        for (service, body) in services.into_iter().flatten() {
            let id = ids.iter().find(|(name, _)| name.as_str() == service);
            match (id, body.as_object_mut(), ServiceName::new(service.as_str())) {
                (Some((_, id)), Some(body), _) => {
                    body.insert("image".to_owned(), Value::from(id.as_str()));
                    body.insert("pull_policy".to_owned(), Value::from("never"));
                }
                (_, _, Ok(name)) => missing.push(name),
                _ => {}
            }
        }
        if missing.is_empty() { Ok(file) } else { Err(missing) }
    }

    /// The services of a kind, in start order.
    pub fn of_kind(&self, kind: Kind) -> impl Iterator<Item = &Start> {
        self.starts.iter().filter(move |start| start.kind == kind)
    }

    /// The memory that the limits of the services that run in both colors add up to; `None` when
    /// one of them has none.
    #[must_use]
    pub fn memory_limit(&self) -> Option<u64> {
        self.of_kind(Kind::Service).try_fold(0_u64, |sum, start| {
            Some(sum.saturating_add(start.memory_limit?.saturating_mul(start.containers.into())))
        })
    }
}
