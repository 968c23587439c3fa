//! The seam: everything that the control plane says to the data plane, and what it hears back.
//!
//! Every message is a value that can be serialised; no shared pointer crosses. Today both sides run
//! in one process, later the proxy can be an unprivileged child that outlives the control plane.
//! Invariant: a table is changed only by [`Change`]s applied to one app through `Switch::update`,
//! so two apps never publish from one stale base.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

mod added;
mod gate;
mod pages;

pub use cutover_model::ByColor;
use cutover_model::{AppName, Color, Generation, ReleaseId, Role, Salt, ServiceName, Split};
use serde::{Deserialize, Serialize};

pub use crate::settings::Cidr;
pub use added::Added;
pub use gate::{
    AppDrained, Closed, DrainApp, Gate, GateChange, Gated, Hold, HoldEnd, HoldId, HoldTally,
    Streams,
};
pub use pages::OwnPages;

/// What the control plane asks of the data plane.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// Change what one app's table says, in one atomic step.
    Publish(Publish),
    /// Report when no request is left on a color that got its request before `Drain` was received;
    /// at the deadline the rest is ended properly (WebSockets by 1001) or, for requests, reported.
    Drain(Drain),
    /// Report when nothing is left of what an app has now, in both colors.
    DrainApp(DrainApp),
    /// Let an app's requests wait, send its clients away, or let them in again.
    Gate(Gate),
    /// Swap the pages that the proxy answers with itself.
    Pages(OwnPages),
}

/// One atomic change of one app's table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Publish {
    /// The app whose table changes.
    pub app: AppName,
    /// What changes; applied in order, published once.
    pub changes: Vec<Change>,
    /// Publish only if the app's split was last changed by this generation: a shift that was
    /// decided before a cut-back must not undo it. `None`: publish whatever is there (cut-back,
    /// endpoints).
    pub based_on: Option<Generation>,
}

/// One change of an app's table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// Defines the app anew, or for the first time.
    Define(Box<AppSpec>),
    /// Moves the weight. The salt changes only with a new rollout.
    Split {
        /// The new split.
        split: Split,
        /// The rollout's salt.
        salt: Salt,
    },
    /// Replaces the endpoints of one service in one color; other services keep theirs.
    Endpoints {
        /// The color.
        color: Color,
        /// The service.
        service: ServiceName,
        /// Its endpoints, all proven; empty: requests for it are answered 503.
        endpoints: Vec<EndpointSpec>,
    },
    /// Says which release runs in a color; for logs, metrics and outcome records.
    Release {
        /// The color.
        color: Color,
        /// The release, or nothing.
        release: Option<ReleaseId>,
    },
    /// Replaces the app's routes.
    Routes(Vec<RouteSpec>),
    /// Replaces how clients are known again and the deadlines; routes and split stay.
    Terms {
        /// How a client is known again.
        sticky: Sticky,
        /// The deadlines of the app's requests.
        deadlines: Deadlines,
    },
    /// Takes the app out of the table.
    Remove,
}

/// Everything the data plane knows of one app.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AppSpec {
    /// The app.
    pub app: AppName,
    /// Which requests are the app's.
    pub routes: Vec<RouteSpec>,
    /// The split.
    pub split: Split,
    /// The salt of the rollout.
    pub salt: Salt,
    /// What runs in blue and in green.
    pub colors: ByColor<ColorSpec>,
    /// How a client is known again.
    pub sticky: Sticky,
    /// The deadlines of the app's requests.
    pub deadlines: Deadlines,
    /// Which services are reached by connection, beside routes; see [`crate::Proxy::add_port`].
    #[serde(default)]
    pub ports: Vec<PortSpec>,
}

/// A service whose public port is carried by connection to the stable color, whatever it speaks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortSpec {
    /// The service.
    pub service: ServiceName,
    /// The port inside the container; 0 for static endpoints, which bring their own.
    pub port: u16,
}

/// What runs in one color.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ColorSpec {
    /// The release, if one runs.
    pub release: Option<ReleaseId>,
    /// The endpoints of each service that a route names.
    pub upstreams: BTreeMap<ServiceName, Vec<EndpointSpec>>,
}

/// One container of a service: an address that was proven to be its.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointSpec {
    /// The container's id, or the address as text for a static app.
    pub id: String,
    /// Where its network interface listens; the port is the route's.
    pub ip: IpAddr,
    /// The port of a static endpoint; `None`: the route's port.
    pub port: Option<u16>,
}

/// Which requests go to which service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteSpec {
    /// The host, lower case, without port; `None` matches every host that no other route names.
    pub host: Option<String>,
    /// The path prefix, starting with `/`; the longest one wins, on segment boundaries.
    pub path: String,
    /// Only requests that came in on this local port.
    pub on: Option<u16>,
    /// The service.
    pub service: ServiceName,
    /// The port inside the container; 0 for static endpoints, which bring their own.
    pub port: u16,
    /// Take the prefix away before the request goes on.
    pub strip_prefix: StripPrefix,
}

/// Whether the matched prefix goes on to the upstream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StripPrefix {
    /// The upstream sees the whole path.
    #[default]
    Keep,
    /// The upstream sees the path without the prefix.
    Strip,
}

/// How a client is known again, so that it stays on its color during a rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sticky {
    /// A signed cookie for browsers, a hash of Authorization or the address for others.
    Cookie(CookieSpec),
    /// A hash of the client's address.
    Ip,
    /// A hash of this request header; without it, of the address.
    Header(String),
    /// A draw for each request.
    Off,
}

/// Attributes of the cookie `cutover`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CookieSpec {
    /// `Domain`, when the app spans several hosts.
    pub domain: Option<String>,
    /// When `Secure` is set.
    pub secure: Secure,
    /// `SameSite`.
    pub same_site: SameSite,
}

/// When a cookie gets `Secure`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Secure {
    /// When the request came in over TLS.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// The cookie's `SameSite`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SameSite {
    /// `Lax`, the default.
    #[default]
    Lax,
    /// `Strict`.
    Strict,
    /// `None`; browsers want `Secure` with it.
    None,
}

/// Deadlines of one app's requests on the upstream side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deadlines {
    /// Until a connection to an endpoint stands.
    pub connect: Duration,
    /// From the request's last byte (or the first, for a streamed body) to the head of the answer.
    pub answer: Duration,
    /// Between two pieces of an answer's body.
    pub progress: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(3),
            answer: Duration::from_secs(60),
            progress: Duration::from_secs(60),
        }
    }
}

/// Wait until the requests that a color has now are answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drain {
    /// The app.
    pub app: AppName,
    /// The color that should become idle.
    pub color: Color,
    /// How long requests may take before they are reported as left.
    pub deadline: Duration,
    /// What happens to what is left at the deadline.
    pub rest: Rest,
}

/// What happens to leases that are left at a drain's deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rest {
    /// They go on; the answer counts them.
    Leave,
    /// Tunnels are closed (1001), requests are cut.
    End,
}

/// What the data plane answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// The publish is in force: a request whose head is parsed from now on uses this table.
    Acknowledged(Acknowledged),
    /// The drain has ended.
    Drained(Drained),
    /// The drain of a whole app has ended.
    AppDrained(AppDrained),
    /// The gate stands so from now on.
    Gated(Gated),
    /// Nothing was changed.
    Refused(Refused),
}

/// A publish that is in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledged {
    /// The generation of the table that serves from now on.
    pub generation: Generation,
    /// The generation that last changed this app's split; the next shift names it in `based_on`.
    pub split_generation: Generation,
    /// The split that serves from now on.
    pub split: Split,
    /// The split before.
    pub before: Option<Split>,
}

/// The end of a drain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drained {
    /// Requests that were open when the drain began.
    pub requests: u64,
    /// Tunnels (WebSockets) that were open when it began.
    pub tunnels: u64,
    /// Requests and tunnels that were still open at the deadline.
    pub left: u64,
}

/// Why a command changed nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refused {
    /// The table has no such app.
    #[error("the proxy has no app \"{0}\"")]
    UnknownApp(AppName),
    /// Somebody else changed the split since the caller looked.
    #[error("the split of \"{app}\" was changed meanwhile: now {now:?}, by table {generation}")]
    Overtaken {
        /// The app.
        app: AppName,
        /// The generation that changed it.
        generation: Generation,
        /// What it is now.
        now: Split,
    },
    /// Another hold lasts at the app's gate.
    #[error("the requests of \"{app}\" are held by another operation already")]
    Held {
        /// The app.
        app: AppName,
        /// The hold that lasts.
        hold: HoldId,
    },
    /// The hold has ended: it was opened, or its lease ran out.
    #[error("the requests of \"{0}\" are not held any more")]
    NoHold(AppName),
    /// Two apps claim the same route.
    #[error("\"{first}\" and \"{second}\" both want {route}")]
    RouteTaken {
        /// The app that has it.
        first: AppName,
        /// The app that wants it.
        second: AppName,
        /// Host, path and port, as text.
        route: String,
    },
}

/// How a request ended, seen from the color that was asked; the verdict is made of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// 1xx to 3xx.
    Ok,
    /// 4xx of the upstream's own making.
    ClientError,
    /// 5xx of the upstream's own making.
    ServerError,
    /// No connection could be made.
    Connect,
    /// The connection broke before or within the answer.
    Reset,
    /// The deadline before the head of the answer passed.
    Timeout,
    /// The client's own fault (bad chunk, reset, too slow): charged to nobody.
    ClientFault,
}

impl Class {
    /// Every class, in the order of the counters.
    pub const ALL: [Self; 7] = [
        Self::Ok,
        Self::ClientError,
        Self::ServerError,
        Self::Connect,
        Self::Reset,
        Self::Timeout,
        Self::ClientFault,
    ];

    /// Whether the color is to blame.
    #[must_use]
    pub fn is_failure(self) -> bool {
        matches!(self, Self::ServerError | Self::Connect | Self::Reset | Self::Timeout)
    }

    /// The label in metrics and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::ClientError => "client_error",
            Self::ServerError => "server_error",
            Self::Connect => "connect",
            Self::Reset => "reset",
            Self::Timeout => "timeout",
            Self::ClientFault => "client_fault",
        }
    }
}

/// How a request came to its color.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Routed {
    /// By its slot: counts for the verdict.
    Slot,
    /// By an override or a color's own address: left out of the verdict.
    Forced,
}

/// One upstream attempt that failed (successes are only counted).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// Milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// The app.
    pub app: AppName,
    /// The release in the color that was asked.
    pub release: Option<ReleaseId>,
    /// The color.
    pub color: Color,
    /// Its role by the table used.
    pub role: Role,
    /// The table used.
    pub generation: Generation,
    /// The index of the route in the app's table.
    pub route: u16,
    /// How it ended.
    pub class: Class,
    /// The status, when there was one.
    pub status: Option<u16>,
    /// The request's method, cut to 32 bytes.
    pub method: String,
    /// The path without the query, cut to 120 bytes. For people; never a label.
    pub path: String,
    /// A keyed hash of the client id: tells clients apart, names nobody.
    pub client: u64,
    /// From the request's head to this outcome.
    pub latency_us: u64,
    /// 1 for the first attempt, 2 for a retry on another endpoint.
    pub attempt: u8,
    /// How it came to its color.
    pub routed: Routed,
}

/// What happened since the last look: counts for all, records for the failures.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Outcomes {
    /// Counts since start, one row for each app, color, release and class that has any.
    pub counts: Vec<Count>,
    /// Failures since the last look, oldest first.
    pub failures: Vec<Outcome>,
    /// Failures whose record was lost because the ring was full; they are in `counts`.
    pub lost: u64,
}

/// One counter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// The app.
    pub app: AppName,
    /// The color.
    pub color: Color,
    /// The release in it.
    pub release: Option<ReleaseId>,
    /// The class.
    pub class: Class,
    /// How the requests came to the color; `Forced` ones are no evidence.
    pub routed: Routed,
    /// Attempts since the proxy started.
    pub requests: u64,
    /// Their latencies: cumulative counts for the upper bounds of [`LATENCY_BOUNDS_US`], then all.
    pub latency: Vec<u64>,
    /// The sum of their latencies in microseconds.
    pub latency_sum_us: u64,
}

/// Upper bounds of the latency buckets in microseconds.
pub const LATENCY_BOUNDS_US: [u64; 14] = [
    1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000, 10_000_000, 30_000_000,
];
