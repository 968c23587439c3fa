//! Which sockets the proxy listens on: public ones, and the landing of a redirect.
//!
//! A public port that somebody else holds is either led to us by a journalled rule, or waits for an
//! adoption; the rest is bound. Sockets that were kept for us are used first. Pure choice in
//! [`choose`], the opening in [`open`].

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

use cutover_model::{Landing, Lead, Redirect};

use super::inherit::Inherited;
use crate::host::redirect::landing;

/// Whether an app of the file may still be adopted: only then a taken port is no mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Adoption {
    /// An app runs from compose and was never adopted: its ports may be taken by it.
    Possible,
    /// No: a taken port is refused with its owner's name.
    Excluded,
}

/// What to do about each public address.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Choice {
    /// Bind these, or use what was kept.
    pub bind: Vec<SocketAddr>,
    /// Led to the landing by the journalled rule.
    pub led: Vec<SocketAddr>,
    /// Held by others until an adoption leads them.
    pub waiting: Vec<SocketAddr>,
}

/// Sorts the public addresses; `taken` says what others listen on now.
#[must_use]
pub fn choose(
    wanted: &[SocketAddr],
    rule: Option<&Redirect>,
    taken: &[Lead],
    adoption: Adoption,
) -> Choice {
    let mut choice = Choice::default();
    for address in wanted {
        let is_led = rule.is_some_and(|rule| rule.leads.iter().any(|lead| meets(*address, lead)));
        let is_taken = taken.iter().any(|lead| meets(*address, lead));
        if is_led {
            choice.led.push(*address);
        } else if is_taken && adoption == Adoption::Possible {
            choice.waiting.push(*address);
        } else {
            choice.bind.push(*address);
        }
    }
    choice
}

/// Whether a listener on `address` and one on the lead's would be in each other's way.
fn meets(address: SocketAddr, lead: &Lead) -> bool {
    let (ours, theirs) = (address.ip(), lead.address);
    address.port() == lead.port
        && ours.is_ipv4() == theirs.is_ipv4()
        && (ours == theirs || ours.is_unspecified() || theirs.is_unspecified())
}

/// Everything that the proxy shall listen on.
#[derive(Debug, Default)]
pub struct Ports {
    /// The addresses, landing included.
    pub listen: Vec<SocketAddr>,
    /// Sockets that are open already, each bound to one of `listen`.
    pub sockets: Vec<OwnedFd>,
    /// Names in systemd's store that nobody wants any more.
    pub surplus: Vec<String>,
}

/// Puts together what the proxy is started with. `landing` is opened where something is led or may
/// be; without the right to (no `CAP_NET_ADMIN`) there is none, and only a rule would miss it.
///
/// # Errors
/// When a rule leads to a landing that cannot be opened.
pub fn open(
    choice: &Choice,
    landing: Option<Landing>,
    workers: usize,
    inherited: Vec<Inherited>,
) -> io::Result<Ports> {
    let mut ports = Ports::default();
    let mut kept = inherited;
    let places = landing.map(|l| [Some(SocketAddr::from(l.v4)), l.v6.map(SocketAddr::from)]);
    let places: Vec<SocketAddr> = places.into_iter().flatten().flatten().collect();
    for address in choice.bind.iter().chain(&places) {
        let (ours, rest): (Vec<_>, Vec<_>) = kept.into_iter().partition(|i| i.address == *address);
        kept = rest;
        let is_landing = places.contains(address);
        if ours.is_empty() && is_landing {
            match landing::group(*address, workers) {
                Ok(sockets) => ports.sockets.extend(sockets.into_iter().map(OwnedFd::from)),
                Err(error) if choice.led.is_empty() || address.ip() == v6_loopback() => {
                    tracing::debug!(%error, %address, "no landing for led connections");
                    continue;
                }
                Err(error) => return Err(error),
            }
        }
        for (index, inherited) in ours.into_iter().enumerate() {
            // More sockets than workers: a connection to one that nobody accepts from would hang.
            if index < workers {
                ports.sockets.push(inherited.socket);
            } else {
                ports.surplus.push(inherited.name);
            }
        }
        ports.listen.push(*address);
    }
    ports.surplus.extend(kept.into_iter().map(|inherited| inherited.name));
    Ok(ports)
}

fn v6_loopback() -> IpAddr {
    IpAddr::V6(std::net::Ipv6Addr::LOCALHOST)
}

#[cfg(test)]
mod tests {
    use cutover_model::WhenDead;

    use super::*;

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn rule(leads: &[Lead]) -> Redirect {
        let landing = Landing::on_loopback(10_080);
        crate::host::redirect::plan("cutover", leads, landing, WhenDead::Wait).unwrap()
    }

    #[test]
    fn a_led_port_is_not_bound_even_if_nobody_holds_it_now() {
        let wanted = addresses(&["0.0.0.0:80", "[::]:80", "0.0.0.0:443"]);
        let rule = rule(&Lead::everywhere(80));
        let choice = choose(&wanted, Some(&rule), &[], Adoption::Excluded);
        assert_eq!(choice.led, addresses(&["0.0.0.0:80", "[::]:80"]));
        assert_eq!(choice.bind, addresses(&["0.0.0.0:443"]));
    }

    #[test]
    fn a_taken_port_waits_only_while_an_adoption_is_possible() {
        let wanted = addresses(&["0.0.0.0:80", "10.0.0.1:81"]);
        let taken = [Lead::everywhere(80)[0], Lead { address: wanted[1].ip(), port: 80 }];
        let choice = choose(&wanted, None, &taken, Adoption::Possible);
        assert_eq!(choice.waiting, addresses(&["0.0.0.0:80"]));
        assert_eq!(choice.bind, addresses(&["10.0.0.1:81"]));
        let choice = choose(&wanted, None, &taken, Adoption::Excluded);
        assert_eq!(choice.bind, wanted, "the bind refuses it and names the owner");
    }

    #[test]
    fn kept_sockets_are_used_and_the_surplus_is_named() {
        let keep = |name: &str, listener: &std::net::TcpListener| Inherited {
            name: name.into(),
            address: listener.local_addr().unwrap(),
            socket: listener.try_clone().unwrap().into(),
        };
        let wanted = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let inherited = vec![keep("w0", &wanted), keep("w1", &wanted), keep("old", &other)];
        let choice = Choice { bind: vec![wanted.local_addr().unwrap()], ..Choice::default() };
        let ports = open(&choice, None, 1, inherited).unwrap();
        assert_eq!(ports.listen, choice.bind);
        assert_eq!(ports.sockets.len(), 1);
        assert_eq!(ports.surplus, ["w1", "old"]);
    }
}
