//! The checked configuration: a plain tree that can be trusted.
//!
//! Every value here passed its checks, relative paths are joined to the folder of the operator's
//! file, defaults are filled in. What this version refuses has no place in it. Only the daemon and
//! the command line see it; each part of the program gets its own small settings made from it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use cutover_model::AppName;
use serde::Serialize;

use crate::network::Network;
use crate::read::choice;

mod app;
mod database;
mod smoke;

pub use app::{
    App, AppKind, Compose, Contact, ContactEvent, Endpoints, EnvKeys, HostName, Migrations,
    NetworkClass, PathPrefix, PortClass, PortKey, Probe, Protocol, Rollout, RolloutStep, Route,
    StatusRange, TcpPort, Transport, VolumeClass,
};
pub use database::{
    Backup, Database, DatabaseAt, DatabaseTls, Expected, Integrity, Keep, RestorePoint, SpaceCheck,
    TlsMode,
};
pub use smoke::{Smoke, SmokeKind};

/// The whole file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Config {
    /// Where clients come in; at least one.
    pub listeners: Vec<Listener>,
    /// `[proxy]`
    pub proxy: Proxy,
    /// `[tls]`; has no effect in this version.
    pub tls: Tls,
    /// `[admin]`
    pub admin: Admin,
    /// `[state]`
    pub state: State,
    /// `[apps.NAME]`; at least one.
    pub apps: BTreeMap<AppName, App>,
}

/// One address where clients come in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Listener {
    /// The address; port 0 takes any free port.
    pub address: SocketAddr,
}

/// `[proxy]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Proxy {
    /// Threads that serve requests; `None`: one for each core that may be used.
    pub workers: Option<u16>,
    /// Peers whose forwarding headers are believed.
    pub trusted_proxies: Vec<Network>,
    /// Peers that may choose a color by header.
    pub override_from: Vec<Network>,
    /// How a client is known again; apps may set their own.
    pub sticky: Sticky,
    /// Attributes of the cookie.
    pub cookie: Cookie,
    /// Deadlines.
    pub timeouts: Timeouts,
    /// Client connections at the same time, more are refused; `None`: what the proxy has room for.
    pub max_connections: Option<u32>,
    /// How long requests may go on after their color was replaced, and at the end of the program.
    pub drain_deadline: Duration,
    /// Whether `Via` is added to requests and answers.
    pub via: bool,
    /// The file that gets one JSON line for each request; `None`: no access log.
    pub access_log: Option<PathBuf>,
    /// The path on which a balancer in front asks whether Cutover is there.
    pub balancer_path: Option<String>,
    /// The operator's own pages by status, of [`ERROR_PAGES`]; the rest are Cutover's.
    pub error_pages: BTreeMap<u16, PathBuf>,
}

/// The answers of the proxy's own that may have a page of the operator's.
pub const ERROR_PAGES: [u16; 4] = [404, 502, 503, 504];

/// How a client is known again, so that it stays on its color during a rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Sticky {
    /// A signed cookie.
    Cookie,
    /// A hash of the client's address.
    Ip,
    /// A hash of this header, in lower case; without it, of the address.
    Header(String),
    /// A draw for each request.
    Off,
}

/// Attributes of the cookie `cutover`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Cookie {
    /// `Domain`, when an app spans several hosts.
    pub domain: Option<HostName>,
    /// When `Secure` is set.
    pub secure: Secure,
    /// `SameSite`.
    pub same_site: SameSite,
}

/// When the cookie gets `Secure`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Secure {
    /// When the request came in over TLS.
    #[default]
    Auto,
    /// Always: something in front of Cutover speaks TLS.
    Always,
    /// Never.
    Never,
}
choice!(Secure, "a rule for Secure",
    "auto" => Self::Auto, "always" => Self::Always, "never" => Self::Never);

/// The cookie's `SameSite`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SameSite {
    /// `Lax`
    #[default]
    Lax,
    /// `Strict`
    Strict,
    /// `None`; browsers want `Secure` with it.
    None,
}
choice!(SameSite, "a value of SameSite",
    "lax" => Self::Lax, "strict" => Self::Strict, "none" => Self::None);

/// `[proxy.timeouts]`: every stage of a request has a deadline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Timeouts {
    /// From the first byte of a request (or the connection's start) to the end of its head.
    pub header: Duration,
    /// Between two pieces of a request's body.
    pub body_progress: Duration,
    /// Between two pieces of an answer that the client takes.
    pub write_stall: Duration,
    /// Between two requests on a client's connection.
    pub idle: Duration,
    /// Until a connection to an endpoint stands.
    pub upstream_connect: Duration,
    /// Until the head of the answer.
    pub upstream_response: Duration,
    /// Between two pieces of the answer's body.
    pub upstream_progress: Duration,
    /// How long an unused connection to an endpoint is kept; below the endpoint's own limit.
    pub upstream_idle: Duration,
    /// Between two pieces of a tunnel (WebSocket), in either direction.
    pub tunnel_idle: Duration,
}

/// `[tls]`: checked for form only; has no effect in this version.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Tls {
    /// Certificates with their keys.
    pub certificates: Vec<Certificate>,
}

/// One certificate with its key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Certificate {
    /// The chain in PEM.
    pub cert: PathBuf,
    /// The private key in PEM.
    pub key: PathBuf,
}

/// `[admin]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Admin {
    /// The Unix socket that commands talk to.
    pub socket: PathBuf,
    /// API with tokens; loopback only in this version.
    pub http: Option<SocketAddr>,
    /// `/metrics`, `/healthz` and `/readyz`, read-only.
    pub metrics: Option<SocketAddr>,
}

/// `[state]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct State {
    /// The folder of everything that has to survive.
    pub path: PathBuf,
}
