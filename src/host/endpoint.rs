//! Endpoints and their proof.
//!
//! An endpoint is one container of a service at one address, remembered with its first process's
//! id, start ticks and the machine's boot id, so that after a restart of this program `/proc` alone
//! can say whether the address still belongs to it: no Docker, no name, no network.
//!
//! INVARIANT: [`Proof::Alive`] is said only when boot id, start ticks and, where they can be read,
//! the container's id and the address agree. What cannot be read is [`Proof::Unknown`].

use std::io::ErrorKind;
use std::net::IpAddr;
use std::path::Path;

use cutover_model::ServiceName;
use serde::{Deserialize, Serialize};

/// One container of a service.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Endpoint {
    /// The container's full id.
    pub container: String,
    /// The service that it is a copy of.
    pub service: ServiceName,
    /// Its address, as this host dials it.
    pub ip: IpAddr,
    /// Its first process, in this host's process table.
    pub pid: u32,
    /// When that process started, in clock ticks since boot; `None`: it could not be seen here
    /// (Docker runs elsewhere, or in another process namespace), so only Docker can prove it.
    pub start_ticks: Option<u64>,
    /// Which boot of the machine this was.
    pub boot_id: String,
}

/// Whether an endpoint still is what was remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Proof {
    /// It is the same container at the same address.
    Alive,
    /// It is not: the process ended, is another one, or the machine was started again.
    Gone,
    /// `/proc` cannot say; ask Docker.
    Unknown,
}

/// Why no endpoint could be made of a running container.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// This system has no boot id.
    #[error("cannot read this machine's boot id: {0}")]
    BootId(std::io::Error),
}

/// Remembers a running container: reads what `/proc` shows of its first process now.
///
/// # Errors
/// [`EndpointError::BootId`] where the system has none.
pub fn remember(
    container: String,
    service: ServiceName,
    ip: IpAddr,
    pid: u32,
) -> Result<Endpoint, EndpointError> {
    remember_in(Path::new("/proc"), container, service, ip, pid)
}

/// Proves an endpoint by `/proc`.
#[must_use]
pub fn prove(endpoint: &Endpoint) -> Proof {
    prove_in(Path::new("/proc"), endpoint)
}

fn remember_in(
    proc: &Path,
    container: String,
    service: ServiceName,
    ip: IpAddr,
    pid: u32,
) -> Result<Endpoint, EndpointError> {
    let boot_id = boot_id(proc).map_err(EndpointError::BootId)?;
    let mut endpoint = Endpoint { container, service, ip, pid, start_ticks: None, boot_id };
    // A process that is not the container's (another process namespace) proves nothing.
    if let (Ok(Some(ticks)), Some(true)) = (start_ticks(proc, pid), is_of(proc, &endpoint)) {
        endpoint.start_ticks = Some(ticks);
    }
    Ok(endpoint)
}

fn prove_in(proc: &Path, endpoint: &Endpoint) -> Proof {
    match boot_id(proc) {
        Ok(now) if now != endpoint.boot_id => return Proof::Gone,
        Ok(_) => {}
        Err(_) => return Proof::Unknown,
    }
    let Some(then) = endpoint.start_ticks else { return Proof::Unknown };
    match start_ticks(proc, endpoint.pid) {
        Ok(Some(now)) if now == then => {}
        Ok(_) => return Proof::Gone,
        Err(_) => return Proof::Unknown,
    }
    if is_of(proc, endpoint) == Some(false) || has_address(proc, endpoint) == Some(false) {
        return Proof::Gone;
    }
    // The process may have ended between the reads.
    match start_ticks(proc, endpoint.pid) {
        Ok(Some(now)) if now == then => Proof::Alive,
        Ok(_) => Proof::Gone,
        Err(_) => Proof::Unknown,
    }
}

fn boot_id(proc: &Path) -> std::io::Result<String> {
    let text = std::fs::read_to_string(proc.join("sys/kernel/random/boot_id"))?;
    Ok(text.trim().to_owned())
}

/// Field 22 of `/proc/<pid>/stat`; `None` when there is no such process or it has ended and waits
/// to be collected. The command in field 2 may hold spaces and brackets, so fields are counted
/// from the last `)`.
fn start_ticks(proc: &Path, pid: u32) -> std::io::Result<Option<u64>> {
    let stat = match std::fs::read_to_string(proc.join(pid.to_string()).join("stat")) {
        Ok(stat) => stat,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        // A process that ends while it is read.
        Err(error) if error.raw_os_error() == Some(3) => return Ok(None),
        Err(error) => return Err(error),
    };
    let malformed = || std::io::Error::new(ErrorKind::InvalidData, "not the form of proc(5)");
    let (_, rest) = stat.rsplit_once(')').ok_or_else(malformed)?;
    let mut fields = rest.split_ascii_whitespace();
    if matches!(fields.next(), Some("Z" | "X")) {
        return Ok(None);
    }
    let ticks = fields.nth(18).and_then(|ticks| ticks.parse().ok());
    ticks.map(Some).ok_or_else(malformed)
}

/// Whether the process's control group names the container; `None`: it names no container at all
/// (a private control-group namespace) or cannot be read.
fn is_of(proc: &Path, endpoint: &Endpoint) -> Option<bool> {
    let text = std::fs::read_to_string(proc.join(endpoint.pid.to_string()).join("cgroup")).ok()?;
    if text.contains(&endpoint.container) {
        return Some(true);
    }
    let names_one = text
        .split(|c: char| !c.is_ascii_hexdigit())
        .any(|word| word.len() == 64 && word.bytes().all(|b| b.is_ascii_hexdigit()));
    if names_one || text.trim() != "0::/" { Some(false) } else { None }
}

/// Whether the address is one of the process's own network namespace; `None`: unreadable.
fn has_address(proc: &Path, endpoint: &Endpoint) -> Option<bool> {
    let net = proc.join(endpoint.pid.to_string()).join("net");
    match endpoint.ip {
        IpAddr::V4(ip) => {
            let trie = std::fs::read_to_string(net.join("fib_trie")).ok()?;
            let mut lines = trie.lines().map(str::trim).peekable();
            let wanted = format!("|-- {ip}");
            while let Some(line) = lines.next() {
                if line == wanted && lines.peek().is_some_and(|next| *next == "/32 host LOCAL") {
                    return Some(true);
                }
            }
            Some(false)
        }
        IpAddr::V6(ip) => {
            let list = std::fs::read_to_string(net.join("if_inet6")).ok()?;
            let wanted: String = ip.octets().iter().map(|byte| format!("{byte:02x}")).collect();
            Some(list.lines().any(|line| line.starts_with(&wanted)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    const ID: &str = "0e364f2a4e24ac450f4ce98a2932fc47864fda953417b71f96e3f97caf8e7610";

    /// A `/proc` with one container's process in it.
    fn fake(ticks: u64) -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("temp dir");
        let write = |path: &str, text: &str| {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().expect("parent")).expect("dir");
            std::fs::write(path, text).expect("write");
        };
        write("sys/kernel/random/boot_id", "boot-1\n");
        let zeros = "0 ".repeat(18);
        write("77/stat", &format!("77 (a b) c) S {zeros}{ticks} 0 0\n"));
        write("77/cgroup", &format!("9:pids:/docker/{ID}\n"));
        write("77/net/fib_trie", "Main:\n  |-- 172.24.0.2\n     /32 host LOCAL\n");
        dir
    }

    fn endpoint(dir: &tempfile::TempDir) -> Endpoint {
        let service = ServiceName::new("web").expect("name");
        let ip = IpAddr::V4(Ipv4Addr::new(172, 24, 0, 2));
        remember_in(dir.path(), ID.to_owned(), service, ip, 77).expect("remembered")
    }

    #[test]
    fn the_same_process_is_alive() {
        let dir = fake(4242);
        let endpoint = endpoint(&dir);
        assert_eq!(endpoint.start_ticks, Some(4242));
        assert_eq!(prove_in(dir.path(), &endpoint), Proof::Alive);
    }

    #[test]
    fn another_process_with_the_same_pid_is_not() {
        let endpoint = endpoint(&fake(4242));
        assert_eq!(prove_in(fake(4243).path(), &endpoint), Proof::Gone);
    }

    #[test]
    fn after_a_boot_everything_is_gone() {
        let dir = fake(1);
        let mut endpoint = endpoint(&dir);
        endpoint.boot_id = "boot-0".to_owned();
        assert_eq!(prove_in(dir.path(), &endpoint), Proof::Gone);
    }

    #[test]
    fn an_address_that_moved_to_another_container_is_not_alive() {
        let dir = fake(1);
        let mut endpoint = endpoint(&dir);
        endpoint.ip = IpAddr::V4(Ipv4Addr::new(172, 24, 0, 3));
        assert_eq!(prove_in(dir.path(), &endpoint), Proof::Gone);
        endpoint.ip = IpAddr::V4(Ipv4Addr::new(172, 24, 0, 2));
        endpoint.container = ID.replace('0', "1");
        assert_eq!(prove_in(dir.path(), &endpoint), Proof::Gone);
    }

    #[test]
    fn a_process_that_ended_or_is_a_zombie_is_gone() {
        let dir = fake(1);
        let endpoint = endpoint(&dir);
        let stat = dir.path().join("77/stat");
        let text = std::fs::read_to_string(&stat).expect("stat").replace(") S ", ") Z ");
        std::fs::write(&stat, text).expect("write");
        assert_eq!(prove_in(dir.path(), &endpoint), Proof::Gone);
        std::fs::remove_file(stat).expect("remove");
        assert_eq!(prove_in(dir.path(), &endpoint), Proof::Gone);
    }

    #[test]
    fn what_proc_does_not_show_is_unknown_and_not_alive() {
        let dir = fake(1);
        let mut endpoint = endpoint(&dir);
        endpoint.start_ticks = None;
        assert_eq!(prove_in(dir.path(), &endpoint), Proof::Unknown);
        std::fs::write(dir.path().join("77/cgroup"), "0::/user.slice\n").expect("write");
        let again = super::tests::endpoint(&dir);
        assert_eq!(again.start_ticks, None, "another namespace's process proves nothing");
    }

    #[test]
    fn this_process_can_be_read() {
        let ticks = start_ticks(Path::new("/proc"), std::process::id()).expect("readable");
        assert!(ticks.is_some());
    }
}
