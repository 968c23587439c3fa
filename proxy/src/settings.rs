//! What the data plane is told once, at its start: addresses, limits, deadlines, trust.
//!
//! It does not read files or the environment: the daemon checks the operator's file and fills this
//! in. Invariant: every limit and every deadline has a default, and none of them is "off".

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::str::FromStr;
use std::time::Duration;

use cutover_model::Generation;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::message::{AppSpec, Gate, OwnPages};
use crate::signals::AccessRecord;

/// Everything that [`crate::Proxy::start`] needs.
#[derive(Debug, Clone)]
pub struct ProxySettings {
    /// Where clients connect. IPv4 and IPv6 are separate addresses.
    pub listen: Vec<SocketAddr>,
    /// One thread each, with listeners, pools and counters of its own.
    pub workers: NonZeroUsize,
    /// Peers whose forwarding headers are believed.
    pub trusted_proxies: Vec<Cidr>,
    /// Peers that may choose a color by `X-Cutover-Color`.
    pub override_from: Vec<Cidr>,
    /// Signs client ids and preview tokens; keep it over restarts, or every client gets a new slot.
    pub cookie_key: SigningKey,
    /// Upper bounds.
    pub limits: Limits,
    /// Deadlines on the client's side and of the pools.
    pub timeouts: Timeouts,
    /// The pseudonym in `Via`, unique for each proxy; `None` sends no `Via` and sees no loops.
    pub via: Option<String>,
    /// Where a record of each request goes. When the channel is full, records are lost and counted;
    /// requests never wait for it.
    pub access_log: Option<mpsc::Sender<AccessRecord>>,
    /// The operator's own pages for the proxy's own answers; see [`crate::Proxy::set_pages`].
    pub pages: OwnPages,
    /// Gates that are not open when the first connection is accepted; those of unknown apps wait
    /// for their app.
    pub gates: Vec<Gate>,
    /// The path on which an outer balancer asks whether we are there: answered 200 by the proxy
    /// while the app's gate is not open, and by the app otherwise.
    pub balancer_path: Option<String>,
    /// The generation of the first table; later than any that was handed out before.
    pub first_generation: Generation,
    /// The apps of the first table, in force before the first connection is accepted.
    pub tables: Vec<AppSpec>,
}

/// A key that signs; it is shown nowhere.
#[derive(Clone, PartialEq, Eq)]
pub struct SigningKey([u8; 32]);

impl SigningKey {
    /// The bytes themselves, for the one call that needs them.
    #[must_use]
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl From<[u8; 32]> for SigningKey {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl ProxySettings {
    /// Settings with every default, for these addresses and this key.
    #[must_use]
    pub fn new(listen: Vec<SocketAddr>, cookie_key: impl Into<SigningKey>) -> Self {
        Self {
            listen,
            workers: std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
            trusted_proxies: Vec::new(),
            override_from: vec![
                Cidr { address: IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)), prefix: 8 },
                Cidr { address: IpAddr::V6(std::net::Ipv6Addr::LOCALHOST), prefix: 128 },
            ],
            cookie_key: cookie_key.into(),
            limits: Limits::default(),
            timeouts: Timeouts::default(),
            via: Some(format!("cutover-{:08x}", rand::random::<u32>())),
            access_log: None,
            pages: OwnPages::default(),
            gates: Vec::new(),
            balancer_path: None,
            first_generation: Generation(1),
            tables: Vec::new(),
        }
    }
}

/// Upper bounds of the data plane.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Connections of clients at one time; over it they are answered 503 and closed.
    pub connections: Connections,
    /// Bytes of a request's or an answer's head.
    pub header_bytes: usize,
    /// Idle connections kept for one endpoint by one worker.
    pub idle_per_endpoint: usize,
    /// Idle connections kept to all endpoints by all workers. [`crate::Proxy::start`] lowers it to
    /// what the process has descriptors for.
    pub idle: usize,
    /// Bytes of a request body that are read and thrown away after an early answer.
    pub linger_bytes: u64,
}

/// How many connections of clients there may be at one time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Connections {
    /// Somebody asked for so many: a process that cannot have them says so.
    Asked(usize),
    /// As many as the process has descriptors for, up to so many.
    UpTo(usize),
}

impl Connections {
    /// The number.
    #[must_use]
    pub fn most(self) -> usize {
        match self {
            Self::Asked(most) | Self::UpTo(most) => most,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: Connections::UpTo(20_000),
            header_bytes: 64 * 1024,
            idle_per_endpoint: 256,
            idle: 8_192,
            linger_bytes: 16 * 1024 * 1024,
        }
    }
}

/// Deadlines on the client's side, and how long idle connections are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timeouts {
    /// From accept to the first byte.
    pub first_byte: Duration,
    /// From the first byte of a head to its end.
    pub header: Duration,
    /// Between two pieces of a request body.
    pub body: Duration,
    /// How long a client may take nothing while there is something to write.
    pub write: Duration,
    /// Between two requests on one connection.
    pub idle: Duration,
    /// How long a tunnel may be silent in both directions.
    pub tunnel_idle: Duration,
    /// How long a request body is read and thrown away after an early answer, and how long a client
    /// that has closed its side is waited for while nothing can be written to it.
    pub linger: Duration,
    /// How long an idle upstream connection is kept: below the usual server's five seconds.
    pub upstream_idle: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            first_byte: Duration::from_secs(10),
            header: Duration::from_secs(10),
            body: Duration::from_secs(30),
            write: Duration::from_secs(30),
            idle: Duration::from_secs(75),
            tunnel_idle: Duration::from_secs(3600),
            linger: Duration::from_secs(5),
            upstream_idle: Duration::from_secs(4),
        }
    }
}

/// A network, like `10.0.0.0/8`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cidr {
    /// Any address of the network.
    pub address: IpAddr,
    /// How many leading bits count.
    pub prefix: u8,
}

impl Cidr {
    /// Whether the address is in the network. An IPv4 address written as IPv6 counts as IPv4.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(net), IpAddr::V4(ip)) => {
                let shift = 32u32.saturating_sub(u32::from(self.prefix));
                let mask = u32::MAX.checked_shl(shift).unwrap_or(0);
                net.to_bits() & mask == ip.to_bits() & mask
            }
            (IpAddr::V6(net), IpAddr::V6(ip)) => {
                let shift = 128u32.saturating_sub(u32::from(self.prefix));
                let mask = u128::MAX.checked_shl(shift).unwrap_or(0);
                net.to_bits() & mask == ip.to_bits() & mask
            }
            _ => false,
        }
    }
}

/// Why a text is not a network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not a network: write an address and a prefix length, like 10.0.0.0/8")]
pub struct CidrError(String);

impl FromStr for Cidr {
    type Err = CidrError;

    /// Reads `10.0.0.0/8`, `::1/128`, or one address alone.
    fn from_str(text: &str) -> Result<Self, CidrError> {
        let wrong = || CidrError(text.chars().take(60).collect());
        let (address, prefix) = text.split_once('/').unwrap_or((text, ""));
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let prefix = if text.contains('/') { prefix.parse().map_err(|_| wrong())? } else { most };
        if prefix <= most { Ok(Self { address, prefix }) } else { Err(wrong()) }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_in_no_debug_text() {
        let settings = ProxySettings::new(Vec::new(), [0xAB; 32]);
        let text = format!("{settings:?} {settings:#?}");
        assert!(text.contains("cookie_key: ***") && !text.contains("171"), "{text}");
    }

    #[test]
    fn networks_hold_their_addresses_and_no_others() {
        for (network, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.1"),
            ("192.168.7.0/24", "::ffff:192.168.7.9", "192.168.8.1"),
            ("::1/128", "::1", "::2"),
            ("0.0.0.0/0", "203.0.113.9", "::1"),
            ("127.0.0.1", "127.0.0.1", "127.0.0.2"),
        ] {
            let network: Cidr = network.parse().unwrap();
            assert!(network.contains(inside.parse().unwrap()), "{network} {inside}");
            assert!(!network.contains(outside.parse().unwrap()), "{network} {outside}");
        }
        for bad in ["", "10.0.0.0/33", "ten/8", "10.0.0.0/", "10.0.0.0/-1"] {
            assert!(bad.parse::<Cidr>().is_err(), "{bad}");
        }
    }
}
