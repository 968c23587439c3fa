//! Asks from a network namespace, as a client outside of this host would, what a redirect will do.
//!
//! Makes a namespace with one wire to this host, tries each port as it is today, then with a rule
//! that leads this one wire only to a listener of its own, and takes everything away again. Nobody
//! else's connection is touched. Decides nothing.

use std::io::ErrorKind;
use std::net::TcpStream;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, TcpListener};
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::landing::{self, Sharing};
use super::{Landing, Lead, RedirectError, Ruleset, Scope, WhenDead, nft, plan, tool};

/// Whether a connection came through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It did.
    Yes,
    /// It was refused, or nothing answered.
    No,
    /// It cannot be told from here, for instance for a port on loopback.
    Unknown,
}

/// How one lead is reached from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reach {
    /// The lead.
    pub lead: Lead,
    /// As things are.
    pub before: Answer,
    /// With the rule.
    pub after: Answer,
}

/// A drop in a firewall shows only as silence; a first retransmission comes after 1 s.
const PATIENCE: Duration = Duration::from_millis(1_500);

static COUNT: AtomicU32 = AtomicU32::new(0);

/// Tries each lead from outside, before and with a rule.
///
/// # Errors
/// When the namespace, the wire or the short-lived rule cannot be made.
pub async fn check(leads: &[Lead]) -> Result<Vec<Reach>, RedirectError> {
    let wire = Wire::new();
    // What a check that was killed left behind has another process id: only ours can be in the way.
    let made = wire.make().await;
    let result = match made {
        Ok(()) => wire.try_all(leads).await,
        Err(error) => Err(error),
    };
    let removed = nft::remove(&wire.table).await;
    let gone = wire.take_down().await;
    let result = result?;
    removed?;
    gone?;
    Ok(result)
}

/// A namespace and the wire to it.
struct Wire {
    space: String,
    here: String,
    there: String,
    table: String,
    v4: [Ipv4Addr; 2],
    v6: [Ipv6Addr; 2],
}

impl Wire {
    fn new() -> Self {
        let process = std::process::id();
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        // From the networks for benchmarks and local use: on no real wire.
        let third = 128 + (process.wrapping_add(number) % 127) as u8;
        let fourth = ((process / 127) % 63) as u8 * 4;
        let v6 =
            |last| Ipv6Addr::new(0xfdc0, 0x7e4, u16::from(third), u16::from(fourth), 0, 0, 0, last);
        Self {
            space: format!("cutover-check-{process}-{number}"),
            here: format!("cutc{:x}", (process << 4) ^ number),
            there: format!("cutd{:x}", (process << 4) ^ number),
            table: format!("cutover_check_{process}_{number}"),
            v4: [1, 2].map(|last| Ipv4Addr::new(198, 19, third, fourth + last)),
            v6: [v6(1), v6(2)],
        }
    }

    async fn make(&self) -> Result<(), RedirectError> {
        let Self { space, here, there, .. } = self;
        ip(&["netns", "add", space]).await?;
        ip(&["link", "add", here, "type", "veth", "peer", "name", there, "netns", space]).await?;
        let v4 = self.v4.map(|address| format!("{address}/30"));
        let v6 = self.v6.map(|address| format!("{address}/126"));
        ip(&["addr", "add", &v4[0], "dev", here]).await?;
        ip(&["-n", space, "addr", "add", &v4[1], "dev", there]).await?;
        ip(&["link", "set", here, "up"]).await?;
        ip(&["-n", space, "link", "set", there, "up"]).await?;
        let via = self.v4[0].to_string();
        ip(&["-n", space, "route", "add", "default", "via", &via]).await?;
        // A host without IPv6 has no such leads either: their answers will be "unknown".
        if std::path::Path::new("/proc/thread-self/net/if_inet6").exists() {
            ip(&["addr", "add", &v6[0], "dev", here, "nodad"]).await?;
            ip(&["-n", space, "addr", "add", &v6[1], "dev", there, "nodad"]).await?;
            let via = self.v6[0].to_string();
            ip(&["-n", space, "-6", "route", "add", "default", "via", &via]).await?;
        }
        Ok(())
    }

    async fn take_down(&self) -> Result<(), RedirectError> {
        // The wire goes with either end; by name, in case the namespace was never made.
        let link = tool::run("ip", &["link", "del", &self.here], "").await?;
        let space = tool::run("ip", &["netns", "del", &self.space], "").await?;
        for answer in [link, space] {
            let absent =
                ["Cannot find device", "No such file"].iter().any(|t| answer.talk.contains(t));
            if !answer.good && !absent {
                return Err(answer.failure());
            }
        }
        Ok(())
    }

    async fn try_all(&self, leads: &[Lead]) -> Result<Vec<Reach>, RedirectError> {
        let before = self.connect_all(leads).await?;
        let (v4, v6) = listeners()?;
        let landing = Landing {
            v4: local_v4(&v4)?,
            v6: v6.as_ref().and_then(|listener| local_v6(listener).ok()),
        };
        let ruleset = Ruleset::new(
            &plan(&self.table, leads, landing, WhenDead::Wait)?,
            Scope::Interface(self.here.clone()),
        );
        nft::apply(&ruleset).await?;
        let after = self.connect_all(leads).await?;
        // Only what arrived at our own listener proves the way; a connection may have gone
        // elsewhere.
        let expected = after.iter().filter(|answer| **answer == Answer::Yes).count();
        let mut landed = 0;
        let end = tokio::time::Instant::now() + PATIENCE;
        loop {
            landed += arrived(&v4) + v6.as_ref().map_or(0, arrived);
            if landed >= expected || tokio::time::Instant::now() >= end {
                break;
            }
            // On busy cores the last packet of a handshake arrives after its connect is over.
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        if landed < expected {
            return Err(RedirectError::Refused(format!(
                "a test from a network namespace was answered by somebody else than Cutover \
                 ({landed} of {expected} arrived): another rule on this host comes first"
            )));
        }
        Ok(leads
            .iter()
            .zip(before.into_iter().zip(after))
            .map(|(lead, (before, after))| Reach { lead: *lead, before, after })
            .collect())
    }

    async fn connect_all(&self, leads: &[Lead]) -> Result<Vec<Answer>, RedirectError> {
        let targets: Vec<Option<SocketAddr>> = leads.iter().map(|lead| self.target(lead)).collect();
        let path = format!("/run/netns/{}", self.space);
        let work = move || {
            // A thread of its own: it never comes back from the namespace.
            std::thread::spawn(move || {
                let space = std::fs::File::open(&path)?;
                move_into_link_name_space(space.as_fd(), Some(LinkNameSpaceType::Network))?;
                Ok(targets.into_iter().map(try_connect).collect())
            })
            .join()
            .unwrap_or_else(|_| Err(std::io::Error::other("the test thread ended early")))
        };
        tokio::task::spawn_blocking(work)
            .await
            .map_err(|error| RedirectError::Refused(error.to_string()))?
            .map_err(RedirectError::io("cannot enter the namespace of the test"))
    }

    fn target(&self, lead: &Lead) -> Option<SocketAddr> {
        let address = match lead.address {
            address if address.is_loopback() => return None,
            IpAddr::V4(Ipv4Addr::UNSPECIFIED) => IpAddr::V4(self.v4[0]),
            IpAddr::V6(Ipv6Addr::UNSPECIFIED) => IpAddr::V6(self.v6[0]),
            address => address,
        };
        Some(SocketAddr::new(address, lead.port))
    }
}

async fn ip(arguments: &[&str]) -> Result<(), RedirectError> {
    tool::run("ip", arguments, "").await?.success().map(drop)
}

fn try_connect(target: Option<SocketAddr>) -> Answer {
    let Some(target) = target else { return Answer::Unknown };
    match TcpStream::connect_timeout(&target, PATIENCE) {
        Ok(_) => Answer::Yes,
        Err(error) if error.kind() == ErrorKind::NetworkUnreachable => Answer::Unknown,
        Err(_) => Answer::No,
    }
}

fn listeners() -> Result<(TcpListener, Option<TcpListener>), RedirectError> {
    let v4 = landing::listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), Sharing::Alone)
        .map_err(RedirectError::io("cannot open a transparent listener"))?;
    let v6 = landing::listen(SocketAddr::from((Ipv6Addr::LOCALHOST, 0)), Sharing::Alone).ok();
    Ok((v4, v6))
}

fn local_v4(listener: &TcpListener) -> Result<SocketAddrV4, RedirectError> {
    match listener.local_addr() {
        Ok(SocketAddr::V4(address)) => Ok(address),
        other => Err(RedirectError::Refused(format!("no IPv4 listener: {other:?}"))),
    }
}

fn local_v6(listener: &TcpListener) -> Result<SocketAddrV6, RedirectError> {
    match listener.local_addr() {
        Ok(SocketAddr::V6(address)) => Ok(address),
        other => Err(RedirectError::Refused(format!("no IPv6 listener: {other:?}"))),
    }
}

/// Takes what has arrived; the listeners do not block.
fn arrived(listener: &TcpListener) -> usize {
    std::iter::from_fn(|| listener.accept().ok()).count()
}
