//! The checked configuration of one app.
//!
//! An app is either a compose app, whose two stacks run from the operator's compose file, or a
//! static one, whose endpoints somebody else runs. INVARIANT: every route of a static app names a
//! service that each color it has lists; every route of a compose app has a port.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use cutover_model::{Color, ServiceName, Weight};
use serde::{Serialize, Serializer};

use super::{Database, Integrity, Smoke, Sticky};
use crate::read::choice;
use crate::secret::SecretSource;

/// One app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct App {
    /// Where its stacks come from.
    pub kind: AppKind,
    /// Which requests are its; at least one.
    pub routes: Vec<Route>,
    /// Public ports that are carried by connection.
    pub tcp: Vec<TcpPort>,
    /// How its clients are known again: its own choice or that of `[proxy]`.
    pub sticky: Sticky,
    /// How readiness is asked.
    pub probe: Probe,
    /// The steps of a deploy.
    pub rollout: Rollout,
    /// How long the old color stays up; `None`: until the next deploy. No effect in this version.
    pub keep_warm: Option<Duration>,
    /// Its database.
    pub database: Option<Database>,
    /// Queries that say whether its data is whole.
    pub integrity: Vec<Integrity>,
    /// What has to work on a color before and after traffic moves.
    pub smoke: Vec<Smoke>,
    /// Has no effect in this version.
    pub contacts: Vec<Contact>,
}

impl App {
    /// The route that the readiness probe takes: the one that a client's request for its host, path
    /// and port would take: the host decides first, then the longest path.
    #[must_use]
    pub fn probe_route(&self) -> Option<&Route> {
        let path = self.probe.path.split('?').next().unwrap_or_default();
        // A host that some route names is not served by routes without one.
        let asked = self.probe.host.as_ref();
        let named = asked.is_some() && self.routes.iter().any(|route| route.host.as_ref() == asked);
        let host = |route: &Route| match asked {
            Some(_) if named => route.host.as_ref() == asked,
            Some(_) => route.host.is_none(),
            None => true,
        };
        let on = |route: &Route| match (self.probe.on, route.on) {
            (Some(asked), Some(on)) => asked == on,
            _ => true,
        };
        let fits = |route: &&Route| host(route) && on(route) && route.path.covers(path);
        // Of equals the first one in the file wins, as `max_by_key` keeps the last one of a list.
        self.routes.iter().rev().filter(fits).max_by_key(|route| route.path.as_str().len())
    }
}

/// Public ports of one service that are carried by connection to the stable color.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TcpPort {
    /// Where clients connect.
    pub listen: Vec<SocketAddr>,
    /// The service.
    pub service: ServiceName,
    /// The port inside the container; `None` for fixed endpoints.
    pub port: Option<u16>,
}

/// Where an app's stacks come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AppKind {
    /// From a compose file.
    Compose(Box<Compose>),
    /// From nowhere: the endpoints are given.
    Static(Endpoints),
}

/// A compose app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Compose {
    /// The compose files in the order in which they are merged; at least one.
    pub files: Vec<PathBuf>,
    /// The operator's own compose project; `None`: as compose finds it.
    pub project: Option<String>,
    /// The compose profiles that are on; `None`: as compose finds them.
    pub profiles: Option<BTreeSet<String>>,
    /// Services that run once, for both colors.
    pub shared: BTreeSet<ServiceName>,
    /// Services that run in the stable color only.
    pub singletons: BTreeSet<ServiceName>,
    /// Services that run once for each deploy and end, beside those that the file waits for.
    pub jobs: BTreeSet<ServiceName>,
    /// Files whose contents belong to a release.
    pub env_files: Vec<PathBuf>,
    /// Which of their keys come back with a release.
    pub env: EnvKeys,
    /// What becomes of each volume and each writable bind mount, by its name or source.
    pub volumes: BTreeMap<String, VolumeClass>,
    /// What becomes of published ports that no route replaces.
    #[serde(serialize_with = "by_text")]
    pub ports: BTreeMap<PortKey, PortClass>,
    /// What becomes of each external network, by its name in the compose file.
    pub networks: BTreeMap<String, NetworkClass>,
    /// Variables that may be missing.
    pub blank_ok: BTreeSet<String>,
    /// What a deploy runs once before the new color gets traffic.
    pub migrations: Option<Migrations>,
}

/// Which keys of env files come back with a release, as patterns with `*` and `?`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct EnvKeys {
    /// They come back.
    pub pin: Vec<String>,
    /// They keep today's value, beside those that always do.
    pub follow: Vec<String>,
}

/// What becomes of a volume when there are two stacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum VolumeClass {
    /// Both colors use the one that is there.
    Shared,
    /// Each color has its own, empty at first.
    PerColor,
    /// Both colors read the one that is there; neither may write.
    ReadOnly,
}
choice!(VolumeClass, "a class of volume",
    "shared" => Self::Shared, "per-color" => Self::PerColor, "read-only" => Self::ReadOnly);

/// What becomes of an external network that services with two copies are on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum NetworkClass {
    /// Both colors join it, under names of their own.
    Join,
    /// Neither color joins it.
    Drop,
}
choice!(NetworkClass, "a class of network", "join" => Self::Join, "drop" => Self::Drop);

/// A published port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PortKey {
    /// The service, if `port` is the one inside its container; `None`: `port` is the public one.
    pub service: Option<ServiceName>,
    /// The port.
    pub port: u16,
    /// TCP or UDP.
    pub transport: Transport,
}

/// What a published port carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Transport {
    /// TCP
    Tcp,
    /// UDP
    Udp,
}

impl fmt::Display for PortKey {
    /// As it is written in the file: `9229`, `5353/udp`, `backend:9229`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(service) = &self.service {
            write!(f, "{service}:")?;
        }
        let suffix = if self.transport == Transport::Udp { "/udp" } else { "" };
        write!(f, "{}{suffix}", self.port)
    }
}

/// What becomes of a published port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PortClass {
    /// Carried by connection: refused here, since it has a section of its own with its address.
    Tcp,
    /// Not published any more.
    Drop,
}
choice!(PortClass, "a class of port", "tcp" => Self::Tcp, "drop" => Self::Drop);

/// What a deploy runs once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Migrations {
    /// The service whose image runs it.
    pub service: ServiceName,
    /// The words of the command; never empty.
    pub command: Vec<String>,
    /// The folder of migrations with their down scripts, below the sources of a release.
    pub down: Option<PathBuf>,
    /// The words of the command that takes a release's migrations back.
    pub down_command: Option<Vec<String>>,
    /// The words of the command that says which migrations there are.
    pub status_command: Option<Vec<String>>,
}

/// The endpoints of a static app. Blue is stable at first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Endpoints {
    /// The endpoints of each service in blue.
    pub blue: BTreeMap<ServiceName, Vec<SocketAddr>>,
    /// The endpoints of each service in green; may be empty as a whole.
    pub green: BTreeMap<ServiceName, Vec<SocketAddr>>,
}

impl Endpoints {
    /// The endpoints of one color.
    #[must_use]
    pub fn of(&self, color: Color) -> &BTreeMap<ServiceName, Vec<SocketAddr>> {
        match color {
            Color::Blue => &self.blue,
            Color::Green => &self.green,
        }
    }
}

/// Which requests go to which service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Route {
    /// The host; `None`: every host that no other route names.
    pub host: Option<HostName>,
    /// The path prefix; the longest one wins, on segment boundaries.
    pub path: PathPrefix,
    /// The service.
    pub service: ServiceName,
    /// The port inside the container; `None` for static apps, whose endpoints carry their own.
    pub port: Option<u16>,
    /// Only requests that came in on this port of a listener.
    pub on: Option<u16>,
    /// Whether the prefix is taken away before the request goes on.
    pub strip_prefix: bool,
    /// What the service speaks.
    pub protocol: Protocol,
}

/// What a service speaks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// HTTP/1.1 in the clear.
    #[default]
    Http1,
    /// HTTP/2 in the clear. Refused by this version.
    H2c,
    /// HTTP/1.1 over TLS. Refused by this version.
    Https,
}
choice!(Protocol, "a protocol",
    "http1" => Self::Http1, "h2c" => Self::H2c, "https" => Self::Https);

/// A host, lower case, without port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct HostName(String);

impl HostName {
    /// Checks and wraps a host name or an IP address (IPv6 in brackets).
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn new(text: &str) -> Result<Self, String> {
        let lower = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        if let Some(address) = lower.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            return match address.parse::<std::net::Ipv6Addr>() {
                Ok(address) => Ok(Self(format!("[{address}]"))),
                Err(_) => Err(format!("\"{text}\" is not an IPv6 address")),
            };
        }
        if let Ok(IpAddr::V6(address)) = lower.parse() {
            return Ok(Self(format!("[{address}]")));
        }
        let reason = if lower.is_empty() {
            "a host cannot be empty; leave `host` out to match every host".to_owned()
        } else if lower.contains('*') {
            format!("not yet: \"{text}\" stands for several hosts; write one route for each")
        } else if lower.contains("://") || lower.contains('/') {
            format!("\"{text}\" is more than a host; the path has a key of its own")
        } else if lower.contains(':') {
            format!("\"{text}\" has a port; that is the key `on`")
        } else if !lower.is_ascii() {
            format!("\"{text}\" has to be written as browsers send it, beginning with xn--")
        } else if lower.len() > 253 || !lower.split('.').all(is_label) {
            format!("\"{text}\" is not a host name")
        } else {
            return Ok(Self(lower));
        };
        Err(reason)
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_label(label: &str) -> bool {
    (1..=63).contains(&label.len())
        && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
        && !label.starts_with('-')
        && !label.ends_with('-')
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A path prefix: begins with `/`, ends without one (but for `/` itself).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct PathPrefix(String);

impl PathPrefix {
    /// `/`: everything.
    #[must_use]
    pub fn root() -> Self {
        Self("/".to_owned())
    }

    /// Checks and wraps a prefix. A slash at its end makes no difference and is taken away.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn new(text: &str) -> Result<Self, String> {
        if !text.starts_with('/') {
            return Err(format!("\"{text}\" does not begin with /"));
        }
        if text.contains(['?', '#']) {
            return Err(format!("\"{text}\" is more than a path: routes do not look at queries"));
        }
        if text.contains('*') {
            return Err(format!("\"{text}\": a prefix matches everything below it without a *"));
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(format!("{text:?} has a character that a path cannot carry as it is"));
        }
        let trimmed = text.trim_end_matches('/');
        let odd = |segment: &str| matches!(segment, "" | "." | "..");
        if trimmed.split('/').skip(1).any(odd) {
            return Err(format!("\"{text}\" has an empty segment or dots for one"));
        }
        Ok(Self(if trimmed.is_empty() { "/".to_owned() } else { trimmed.to_owned() }))
    }

    /// Whether a path lies at or below the prefix.
    #[must_use]
    pub fn covers(&self, path: &str) -> bool {
        let rest = path.strip_prefix(self.0.trim_end_matches('/'));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// The prefix as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PathPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// How readiness is asked: on the path that a client's request takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Probe {
    /// The path; routed like a client's request.
    pub path: String,
    /// The host to ask for; `None`: that of the first route that has the path.
    pub host: Option<HostName>,
    /// The port of a listener that is asked; `None`: any that has a route for the path.
    pub on: Option<u16>,
    /// Statuses that mean ready.
    pub expect: Vec<StatusRange>,
    /// How often it is asked before the color counts as failed.
    pub attempts: u32,
    /// From one attempt to the next.
    pub interval: Duration,
    /// How many good answers in a row mean ready.
    pub passes: u32,
    /// How long one answer may take.
    pub timeout: Duration,
}

/// Statuses from one to another, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct StatusRange {
    /// The lowest.
    pub first: u16,
    /// The highest.
    pub last: u16,
}

impl StatusRange {
    /// Whether a status lies in it.
    #[must_use]
    pub fn contains(self, status: u16) -> bool {
        (self.first..=self.last).contains(&status)
    }
}

/// The steps of a deploy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rollout {
    /// The steps, their weights rising, all below 100 %; at least one.
    pub steps: Vec<RolloutStep>,
    /// The share of failures that an adoption puts up with; releases are not judged by it yet.
    pub max_error_rate: Weight,
}

/// One step of a deploy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct RolloutStep {
    /// The canary's weight.
    pub weight: Weight,
    /// How long it lasts at least; has no effect in this version.
    pub soak: Duration,
}

/// Somebody who is told; has no effect in this version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Contact {
    /// The name in messages.
    pub name: String,
    /// Where the message goes; the address is a secret.
    pub webhook: SecretSource,
    /// What they are told of.
    pub on: Vec<ContactEvent>,
}

/// A kind of event that people are told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ContactEvent {
    /// A deploy began or ended.
    Deploy,
    /// Traffic went back to a former release.
    Rollback,
    /// An operation needs a person.
    Stuck,
    /// A figure that matters is bad.
    Alarm,
    /// A backup was made, or was not.
    Backup,
}
choice!(ContactEvent, "a kind of event",
    "deploy" => Self::Deploy, "rollback" => Self::Rollback, "stuck" => Self::Stuck,
    "alarm" => Self::Alarm, "backup" => Self::Backup);

fn by_text<K: fmt::Display, V: Serialize, S: Serializer>(
    map: &BTreeMap<K, V>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(map.iter().map(|(key, value)| (key.to_string(), value)))
}
