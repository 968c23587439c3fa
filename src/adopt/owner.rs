//! Who holds the public ports now.
//!
//! Reads the kernel's table of listeners and `/proc`, and is told what Docker publishes (a port
//! that Docker forwards by rule alone has no listener). Changes nothing.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use cutover_model::Lead;
use serde::Serialize;

pub use crate::host::docker::Published;
use crate::host::redirect::left::{self, LISTEN};

/// Who holds a port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum Owner {
    /// Docker, for a container.
    Docker(Published),
    /// A process of this host: nginx, haproxy, caddy, …
    Process {
        /// Its id.
        pid: u32,
        /// The program's name.
        name: String,
    },
    /// This daemon.
    Ours,
    /// Somebody listens, and `/proc` does not say who.
    Unknown,
}

impl Owner {
    /// In words, for the plan.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::Docker(published) => match &published.project {
                Some(project) => {
                    format!("container {} of compose project \"{project}\"", published.name)
                }
                None => format!("container {}", published.name),
            },
            Self::Process { pid, name } => format!("{name} (pid {pid})"),
            Self::Ours => "Cutover itself".into(),
            Self::Unknown => "a process that /proc does not show".into(),
        }
    }
}

/// A port that is held, at the address that its owner listens on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Held {
    /// Where.
    pub lead: Lead,
    /// By whom.
    pub owner: Owner,
}

/// Finds the owners of these ports; a port that nobody holds is not in the answer.
///
/// # Errors
/// When the kernel's table of sockets cannot be read.
pub fn find(ports: &[u16], published: &[Published]) -> std::io::Result<Vec<Held>> {
    let lines = left::table(Path::new("/proc/thread-self/net"))?;
    let listeners: Vec<(SocketAddr, u64)> = lines
        .iter()
        .filter(|line| line.state == LISTEN && ports.contains(&line.local.port()))
        .map(|line| (line.local, line.inode))
        .collect();
    let processes = if listeners.is_empty() { HashMap::new() } else { holders() };
    let listening = listeners
        .into_iter()
        .map(|(local, inode)| Listening { local, process: processes.get(&inode).cloned() });
    Ok(sort(ports, &listening.collect::<Vec<_>>(), published))
}

/// A process that holds sockets.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Process {
    pid: u32,
    name: String,
}

struct Listening {
    local: SocketAddr,
    process: Option<Process>,
}

/// The pure part: listeners and published ports to owners.
fn sort(ports: &[u16], listening: &[Listening], published: &[Published]) -> Vec<Held> {
    let mut held: BTreeMap<Lead, Owner> = BTreeMap::new();
    for listener in listening {
        let (address, port) = (listener.local.ip(), listener.local.port());
        let owner = owner(listener, published);
        // A socket on [::] takes IPv4, too, unless somebody else listens there.
        let takes_v4 = address.is_ipv6()
            && address.is_unspecified()
            && matches!(owner, Owner::Process { .. } | Owner::Unknown)
            && !listening.iter().any(|l| l.local.port() == port && l.local.is_ipv4());
        if takes_v4 {
            let v4 = Lead { address: IpAddr::V4(Ipv4Addr::UNSPECIFIED), port };
            held.insert(v4, owner.clone());
        }
        held.insert(Lead { address, port }, owner);
    }
    for port in published.iter().filter(|published| ports.contains(&published.port)) {
        let lead = Lead { address: port.address, port: port.port };
        held.entry(lead).or_insert_with(|| Owner::Docker(port.clone()));
    }
    held.into_iter().map(|(lead, owner)| Held { lead, owner }).collect()
}

fn owner(listener: &Listening, published: &[Published]) -> Owner {
    let Some(process) = &listener.process else { return Owner::Unknown };
    if process.pid == std::process::id() {
        return Owner::Ours;
    }
    let docker = matches!(process.name.as_str(), "docker-proxy" | "dockerd" | "rootlesskit");
    published
        .iter()
        .filter(|_| docker)
        .find(|p| p.port == listener.local.port() && p.address == listener.local.ip())
        .map_or_else(
            || Owner::Process { pid: process.pid, name: process.name.clone() },
            |published| Owner::Docker(published.clone()),
        )
}

/// The process of each socket that listens or is open, by inode.
fn holders() -> HashMap<u64, Process> {
    let mut holders = HashMap::new();
    let Ok(folder) = std::fs::read_dir("/proc") else { return holders };
    for entry in folder.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        // A process that ended meanwhile, or that is not ours to look at, holds nothing we can see.
        let Ok(inodes) = left::sockets_of(&entry.path().join("fd")) else { continue };
        let name = name_of(&entry.path());
        for inode in inodes {
            // A master and its workers share the socket: the one that is nobody's child holds it.
            // Numbers of processes wrap around, so the lower one need not be the older one.
            holders
                .entry(inode)
                .and_modify(|known: &mut Process| {
                    if parent_of(known.pid) == Some(pid) {
                        *known = Process { pid, name: name.clone() };
                    }
                })
                .or_insert_with(|| Process { pid, name: name.clone() });
        }
    }
    holders
}

/// The process that started this one.
fn parent_of(pid: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold anything; what follows it does not.
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

/// The program's name: the command's file name where the kernel's own is cut at 15 bytes.
fn name_of(process: &Path) -> String {
    let short = std::fs::read_to_string(process.join("comm")).unwrap_or_default();
    let short = short.trim().to_owned();
    if short.len() < 15 {
        return short;
    }
    let path = std::fs::read_link(process.join("exe")).unwrap_or_else(|_| PathBuf::from(&short));
    path.file_name().map_or(short, |name| name.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn published(address: &str, port: u16) -> Published {
        Published {
            container: "c0ffee".into(),
            name: "shop-frontend-1".into(),
            project: Some("shop".into()),
            service: Some("frontend".into()),
            address: address.parse().unwrap(),
            port,
            inside: 80,
            pid: Some(7),
        }
    }

    fn listening(local: &str, name: &str) -> Listening {
        let process = Some(Process { pid: 4_000_000, name: name.into() });
        Listening { local: local.parse().unwrap(), process }
    }

    #[test]
    fn dockers_forwarder_stands_for_its_container() {
        let held = sort(
            &[80],
            &[listening("0.0.0.0:80", "docker-proxy"), listening("[::]:80", "docker-proxy")],
            &[published("0.0.0.0", 80), published("::", 80)],
        );
        assert_eq!(held.len(), 2);
        assert!(held.iter().all(|h| matches!(&h.owner, Owner::Docker(p) if p.port == 80)));
    }

    #[test]
    fn a_port_that_docker_forwards_without_a_listener_is_held_too() {
        let held = sort(&[80], &[], &[published("0.0.0.0", 80), published("0.0.0.0", 99)]);
        assert_eq!(held.len(), 1);
        assert_eq!(held[0].lead.port, 80);
    }

    #[test]
    fn a_process_on_both_families_with_one_socket_is_led_in_both() {
        let held = sort(&[80], &[listening("[::]:80", "caddy")], &[]);
        let leads: Vec<Lead> = held.iter().map(|h| h.lead).collect();
        assert_eq!(leads, Lead::everywhere(80));
        let two = [listening("[::]:80", "nginx"), listening("10.0.0.1:80", "haproxy")];
        assert_eq!(sort(&[80], &two, &[]).len(), 2, "IPv4 is somebody else's");
    }

    #[test]
    fn we_are_found_as_ourselves() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let held = find(&[port], &[]).unwrap();
        assert_eq!(held.len(), 1);
        assert_eq!(held[0].owner, Owner::Ours);
        assert!(find(&[1], &[]).unwrap().is_empty());
    }
}
