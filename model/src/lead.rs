//! Public ports that are led to the proxy by a rule while somebody else holds them.
//!
//! Pure values, as they are journalled: everything that is needed to set the rule again after a
//! reboot. What the rule is made of, and how it gets there, is the host's business.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};

use serde::{Deserialize, Serialize};

/// A public port that is led. An unspecified address means every address of this host in its
/// family, exactly as a listener on it would take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Lead {
    /// The address that the old owner listens on.
    pub address: IpAddr,
    /// The public port.
    pub port: u16,
}

impl Lead {
    /// The leads of a port that is open on all addresses, IPv4 and IPv6.
    #[must_use]
    pub fn everywhere(port: u16) -> [Self; 2] {
        [
            Self { address: IpAddr::V4(Ipv4Addr::UNSPECIFIED), port },
            Self { address: IpAddr::V6(Ipv6Addr::UNSPECIFIED), port },
        ]
    }
}

/// Where the proxy takes what is led to it: a transparent listener on loopback for each family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Landing {
    /// For IPv4.
    pub v4: SocketAddrV4,
    /// For IPv6; `None` on a host without it.
    pub v6: Option<SocketAddrV6>,
}

impl Landing {
    /// Both families on one port of loopback.
    #[must_use]
    pub fn on_loopback(port: u16) -> Self {
        Self {
            v4: SocketAddrV4::new(Ipv4Addr::LOCALHOST, port),
            v6: Some(SocketAddrV6::new(Ipv6Addr::LOCALHOST, port, 0, 0)),
        }
    }
}

/// What happens to new connections while nothing listens on the landing, that is while the proxy
/// is down.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WhenDead {
    /// The old owner answers them, as before the adoption. Right while it still runs the stable
    /// release.
    OldOwner,
    /// They wait: the client's own retransmission (after 1 s) finds the restarted proxy. Nobody is
    /// refused, and nobody reaches a release that the split does not name.
    #[default]
    Wait,
}

/// The rule that leads new connections to the proxy; open ones stay where they are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redirect {
    /// The nftables table that holds the rule.
    pub table: String,
    /// What is led; sorted, without repetition.
    pub leads: Vec<Lead>,
    /// Where to.
    pub landing: Landing,
    /// What holds while the proxy is down.
    pub when_dead: WhenDead,
    /// The leads that the host's firewall must let in, because the old owner's traffic went around
    /// it (Docker's ports do) and the proxy's does not.
    #[serde(default)]
    pub accept: Vec<Lead>,
}

impl Redirect {
    /// The public ports, sorted.
    #[must_use]
    pub fn ports(&self) -> Vec<u16> {
        let mut ports: Vec<u16> = self.leads.iter().map(|lead| lead.port).collect();
        ports.sort_unstable();
        ports.dedup();
        ports
    }
}
