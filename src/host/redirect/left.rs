//! Counts the connections that are still open on the old owner of a public port.
//!
//! Reads the kernel's own tables, of this host and of a container's network; changes nothing and
//! needs neither Docker nor a tool. Ours are told apart by the sockets that this process holds, and
//! connections that the proxy or Docker's forwarder made into a container are counted once only.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use super::RedirectError;

/// A container that was reached through a public port without a forwarder in between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inside {
    /// A process of the container.
    pub pid: u32,
    /// The port inside.
    pub port: u16,
}

/// One line of `/proc/net/tcp`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) local: SocketAddr,
    pub(crate) peer: SocketAddr,
    pub(crate) state: u8,
    pub(crate) inode: u64,
}

pub(crate) const ESTABLISHED: u8 = 0x01;
pub(crate) const LISTEN: u8 = 0x0a;

/// Counts open connections to the public `ports` that are not ours, on this host and inside the
/// containers.
///
/// # Errors
/// When this host's own table cannot be read; a container that is gone has none.
pub fn count(ports: &[u16], inside: &[Inside]) -> Result<usize, RedirectError> {
    let look = || {
        table(Path::new("/proc/thread-self/net"))
            .map_err(RedirectError::io("cannot read /proc/thread-self/net/tcp"))
    };
    let before = look()?;
    let ours = own_sockets().map_err(RedirectError::io("cannot read /proc/self/fd"))?;
    // One of ours that was closed between the two looks is not somebody else's.
    let host: Vec<Line> = look()?.into_iter().filter(|line| before.contains(line)).collect();
    let on_host = host
        .iter()
        .filter(|line| line.state == ESTABLISHED && ports.contains(&line.local.port()))
        .filter(|line| line.inode != 0 && !ours.contains(&line.inode))
        .count();
    let made_here: HashSet<(SocketAddr, SocketAddr)> =
        host.iter().map(|line| (line.local, line.peer)).collect();
    let in_containers: usize = inside
        .iter()
        .filter_map(|i| {
            Some((i, table(&Path::new("/proc").join(i.pid.to_string()).join("net")).ok()?))
        })
        .map(|(i, lines)| {
            lines
                .iter()
                .filter(|line| line.state == ESTABLISHED && line.local.port() == i.port)
                .filter(|line| !made_here.contains(&(line.peer, line.local)))
                .count()
        })
        .sum();
    Ok(on_host + in_containers)
}

/// All TCP sockets of a network, IPv4 and IPv6; mapped addresses are given as IPv4.
pub(crate) fn table(net: &Path) -> std::io::Result<Vec<Line>> {
    let mut lines = parse(&std::fs::read_to_string(net.join("tcp"))?);
    match std::fs::read_to_string(net.join("tcp6")) {
        Ok(text) => lines.extend(parse(&text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    Ok(lines)
}

fn parse(text: &str) -> Vec<Line> {
    text.lines().skip(1).filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<Line> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    let local = parse_address(fields.next()?)?;
    let peer = parse_address(fields.next()?)?;
    let state = u8::from_str_radix(fields.next()?, 16).ok()?;
    let inode = fields.nth(5)?.parse().ok()?;
    Some(Line { local, peer, state, inode })
}

/// `0100007F:0050`: 32-bit words in the machine's byte order, then the port.
fn parse_address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let words: Vec<[u8; 4]> = (0..address.len() / 8)
        .map(|i| u32::from_str_radix(address.get(i * 8..i * 8 + 8)?, 16).ok().map(u32::to_ne_bytes))
        .collect::<Option<_>>()?;
    let ip = match words.as_slice() {
        [v4] => IpAddr::V4(Ipv4Addr::from(*v4)),
        [a, b, c, d] => {
            let mut bytes = [0; 16];
            for (place, word) in bytes.chunks_exact_mut(4).zip([a, b, c, d]) {
                place.copy_from_slice(word);
            }
            IpAddr::V6(Ipv6Addr::from(bytes)).to_canonical()
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

/// The inodes of the sockets that this process holds.
fn own_sockets() -> std::io::Result<HashSet<u64>> {
    sockets_of(Path::new("/proc/self/fd"))
}

/// The inodes of the sockets in a process's folder of descriptors.
pub(crate) fn sockets_of(folder: &Path) -> std::io::Result<HashSet<u64>> {
    let mut inodes = HashSet::new();
    for entry in std::fs::read_dir(folder)? {
        // A descriptor may be closed between the listing and the look.
        let Ok(target) = entry.and_then(|entry| std::fs::read_link(entry.path())) else { continue };
        let inode = target.to_str().and_then(|t| t.strip_prefix("socket:[")?.strip_suffix(']'));
        inodes.extend(inode.and_then(|inode| inode.parse::<u64>().ok()));
    }
    Ok(inodes)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn the_kernels_lines_are_read() {
        let rest = "00000000:00000000 00:00000000 00000000     0        0";
        let v6 = |last: &str| format!("{}{last}", "0".repeat(24));
        let mapped = format!("{}FFFF00000100007F", "0".repeat(16));
        let any = "0".repeat(32);
        let text = [
            "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid"
                .into(),
            format!("   0: 0100007F:0050 0200090A:9C40 01 {rest} 4711 1 0 20 4 30 10 -1"),
            format!("   1: {}:0050 {any}:0000 0A {rest} 4712 1", v6("01000000")),
            format!("   2: {mapped}:0050 {mapped}:0051 01 {rest} 4713 1"),
            "   3: garbage".to_owned(),
        ]
        .join("\n");
        let lines = parse(&text);
        assert_eq!(lines.len(), 3);
        assert_eq!(lines[0].local, "127.0.0.1:80".parse().unwrap());
        assert_eq!(lines[0].peer, "10.9.0.2:40000".parse().unwrap());
        assert_eq!((lines[0].state, lines[0].inode), (ESTABLISHED, 4711));
        assert_eq!((lines[1].local, lines[1].state), ("[::1]:80".parse().unwrap(), LISTEN));
        assert_eq!(lines[2].local, "127.0.0.1:80".parse().unwrap());
    }

    #[test]
    fn our_own_connections_are_not_left_on_the_old_owner() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let client = TcpStream::connect(address).unwrap();
        let (server, _) = listener.accept().unwrap();
        assert_eq!(count(&[address.port()], &[]).unwrap(), 0);
        drop((client, server));
    }
}
