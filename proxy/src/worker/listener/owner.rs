//! Who has a port: looked up in `/proc`, for the text of a refusal.
//!
//! Best effort: without the right to read other processes' descriptors there is no name. It never
//! fails and never decides anything.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

/// The state `LISTEN` in `/proc/net/tcp`.
const LISTENING: &str = "0A";

/// The program that listens on this port, as `nginx (pid 812)`.
pub(super) fn of(address: SocketAddr) -> Option<String> {
    let inodes: Vec<String> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|path| fs::read_to_string(path).ok())
        .flat_map(|text| listeners(&text, address))
        .collect();
    let mut processes: Vec<u32> = fs::read_dir("/proc")
        .ok()?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    processes.sort_unstable();
    let pid = processes.into_iter().find(|pid| holds(*pid, &inodes))?;
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    let me = if pid == std::process::id() { ", this program" } else { "" };
    Some(format!("{} (pid {pid}{me})", name.trim()))
}

/// The inodes of sockets in `/proc/net/tcp` that listen where `address` wants to.
fn listeners(text: &str, address: SocketAddr) -> Vec<String> {
    let wanted = format!("{:04X}", address.port());
    text.lines()
        .skip(1)
        .filter_map(|line| {
            let mut fields = line.split_ascii_whitespace();
            let (ip, port) = fields.nth(1)?.rsplit_once(':')?;
            let state = fields.nth(1)?;
            let inode = fields.nth(5)?;
            let clash = port == wanted && state == LISTENING && overlaps(ip, address.ip());
            clash.then(|| format!("socket:[{inode}]"))
        })
        .collect()
}

/// Whether a hexadecimal address of `/proc/net/tcp` may clash with ours: equal, or one is "any".
fn overlaps(hex: &str, ours: IpAddr) -> bool {
    let any = hex.bytes().all(|b| b == b'0');
    let same = match ours {
        IpAddr::V4(ip) => hex == format!("{:08X}", u32::from_ne_bytes(ip.octets())),
        IpAddr::V6(_) => hex.len() == 32,
    };
    any || same || ours.is_unspecified()
}

fn holds(pid: u32, inodes: &[String]) -> bool {
    let Ok(fds) = fs::read_dir(Path::new("/proc").join(pid.to_string()).join("fd")) else {
        return false;
    };
    fds.flatten().filter_map(|fd| fs::read_link(fd.path()).ok()).any(|target| {
        target.to_str().is_some_and(|target| inodes.iter().any(|inode| inode == target))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_are_found_in_the_kernels_table() {
        let table = [
            "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt",
            "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 12345",
            "   1: 0100007F:1F90 0100007F:9999 01 00000000:00000000 00:00000000 00000000 0 0 777",
            "   2: 00000000:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 888",
        ]
        .join("\n");
        let at = |text: &str| listeners(&table, text.parse().unwrap());
        assert_eq!(at("127.0.0.1:8080"), ["socket:[12345]"]);
        assert_eq!(at("0.0.0.0:8080"), ["socket:[12345]"]);
        assert_eq!(at("10.0.0.1:80"), ["socket:[888]"]);
        assert!(at("127.0.0.1:81").is_empty());
    }

    #[test]
    fn our_own_listener_is_named() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let owner = of(listener.local_addr().unwrap()).unwrap();
        assert!(owner.contains(&format!("(pid {}", std::process::id())), "{owner}");
    }
}
