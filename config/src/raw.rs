//! The file as it is written: every section with its keys, nothing filled in.
//!
//! These types are the only list of keys there is: reading, "did you mean" and the JSON Schema all
//! come from them. The comments are what an editor shows, so they speak to the operator.

use crate::checked::{HostName, SameSite, Secure, Sticky};
use crate::network::Network;
use crate::read::{At, Keyed, Number, OneOrMany, section};
use crate::scalar::{Address, FilePath, Span};

mod app;
mod database;

pub(crate) use app::{
    RawApp, RawContact, RawEndpoints, RawEnv, RawMigrations, RawProbe, RawRollout, RawRoute,
    RawStep, RawTcp, Words,
};
pub(crate) use database::{RawBackup, RawDatabase, RawIntegrity, RawSmoke, RawVariable};

section! {
    /// The operator's file of Cutover, `cutover.toml`.
    RawConfig {
        /// The form of this file: 1.
        #[schemars(required, extend("const" = 1))]
        version: Number<0, { i64::MAX }>,
        /// Where clients come in.
        #[schemars(required)]
        listen: Vec<At<RawListen>>,
        /// The proxy.
        proxy: RawProxy,
        /// Certificates (accepted, has no effect in this version).
        tls: RawTls,
        /// How the daemon is reached.
        admin: RawAdmin,
        /// Where the daemon keeps what has to survive.
        state: RawState,
        /// The applications, by name.
        #[schemars(required)]
        apps: Keyed<RawApp>,
    }
}

section! {
    /// Addresses where clients come in.
    RawListen {
        /// One address or a list of them, each with a port.
        #[schemars(required)]
        address: OneOrMany<Address>,
        /// Not yet: TLS on these addresses.
        tls: bool,
        /// Not yet: peers that send the PROXY protocol.
        proxy_protocol_from: Vec<At<Network>>,
    }
}

section! {
    /// The proxy.
    RawProxy {
        /// Threads that serve requests. Default: one for each core that may be used.
        workers: Number<1, 1024>,
        /// Peers whose forwarding headers are believed. Default: none.
        trusted_proxies: Vec<At<Network>>,
        /// Peers that may choose a color by header. Default: loopback.
        override_from: Vec<At<Network>>,
        /// How a client is known again. Default: cookie.
        sticky: Sticky,
        /// Attributes of the cookie.
        cookie: RawCookie,
        /// Deadlines of every stage of a request.
        timeouts: RawTimeouts,
        /// Client connections at the same time. Default: 20000, or what the process has file
        /// descriptors for.
        max_connections: Number<1, 1_000_000>,
        /// How long requests may go on after their color was replaced. Default: 30s.
        drain_deadline: Span,
        /// Whether the header Via is added. Default: true.
        via: bool,
        /// File that gets one JSON line for each request. Default: none.
        access_log: FilePath,
        /// Path on which a balancer in front asks for us; answered while an app is held or closed.
        balancer_path: String,
        /// Your own pages (HTML files) for the proxy's 404, 502, 503 and 504. Default: short ones.
        error_pages: Keyed<FilePath>,
    }
    not yet: shield;
}

section! {
    /// Attributes of the cookie.
    RawCookie {
        /// Domain, when an app spans several hosts.
        domain: HostName,
        /// When Secure is set. Default: auto, over TLS.
        secure: Secure,
        /// SameSite. Default: lax.
        same_site: SameSite,
    }
}

section! {
    /// Deadlines of every stage of a request.
    RawTimeouts {
        /// Until the head of a request is complete. Default: 10s.
        header: Span,
        /// Between two pieces of a request's body. Default: 30s.
        body_progress: Span,
        /// Between two pieces of an answer that the client takes. Default: 30s.
        write_stall: Span,
        /// Between two requests on a connection. Default: 75s.
        idle: Span,
        /// Until a connection to an endpoint stands. Default: 3s.
        upstream_connect: Span,
        /// Until the head of the answer. Default: 60s.
        upstream_response: Span,
        /// Between two pieces of the answer's body. Default: 60s.
        upstream_progress: Span,
        /// How long an unused connection to an endpoint is kept. Default: 4s.
        upstream_idle: Span,
        /// How long a WebSocket may be silent. Default: 1h.
        tunnel_idle: Span,
    }
}

section! {
    /// Certificates (accepted, has no effect in this version).
    RawTls {
        /// The certificates; the client's server name chooses.
        certificates: Vec<At<RawCertificate>>,
    }
    not yet: acme, client_ca, redirect;
}

section! {
    /// One certificate with its key.
    RawCertificate {
        /// The chain in PEM.
        #[schemars(required)]
        cert: FilePath,
        /// The private key in PEM.
        #[schemars(required)]
        key: FilePath,
    }
}

section! {
    /// How the daemon is reached.
    RawAdmin {
        /// The Unix socket that commands talk to. Default: /run/cutover/cutover.sock.
        socket: FilePath,
        /// API with tokens, on loopback. Default: off.
        http: Address,
        /// /metrics and /healthz, read-only. Default: off.
        metrics: Address,
    }
}

section! {
    /// Where the daemon keeps what has to survive.
    RawState {
        /// A folder. Default: /var/lib/cutover.
        path: FilePath,
    }
}
