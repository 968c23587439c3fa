//! The listeners that a redirect leads to, and the bind that follows the release of a port.
//!
//! A landing is a listener on loopback that may take connections for other addresses
//! (`IP_TRANSPARENT`, which asks for `CAP_NET_ADMIN`). It serves nothing: what is accepted from it
//! is the proxy's business.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, SockRef, Socket, Type};

/// How many listeners share the landing's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// One: a second one is refused.
    Alone,
    /// One for each worker, by `SO_REUSEPORT`.
    Workers,
}

/// The same backlog as the public listeners have; the kernel cuts it to `somaxconn`.
const BACKLOG: i32 = 4096;

/// Opens a listener that a redirect can lead to; nonblocking.
///
/// # Errors
/// `PermissionDenied` without `CAP_NET_ADMIN`, `AddrInUse` when the address is taken.
pub fn listen(address: SocketAddr, sharing: Sharing) -> io::Result<TcpListener> {
    let socket = socket(address)?;
    socket.set_reuse_port(sharing == Sharing::Workers)?;
    set_transparent(&socket, address)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Opens one listener for each worker; the first is opened alone, so that a taken address is
/// refused.
///
/// # Errors
/// As [`listen`].
pub fn group(address: SocketAddr, workers: usize) -> io::Result<Vec<TcpListener>> {
    let first = listen(address, Sharing::Alone)?;
    SockRef::from(&first).set_reuse_port(true)?;
    let mut group = vec![first];
    while group.len() < workers {
        group.push(listen(address, Sharing::Workers)?);
    }
    Ok(group)
}

/// Lets a listener that is already open be led to.
///
/// # Errors
/// `PermissionDenied` without `CAP_NET_ADMIN`.
pub fn make_transparent(listener: &impl AsFd, address: SocketAddr) -> io::Result<()> {
    set_transparent(&SockRef::from(listener), address)
}

fn set_transparent(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    match address {
        SocketAddr::V4(_) => socket.set_ip_transparent_v4(true),
        SocketAddr::V6(_) => socket.set_ip_transparent_v6(true),
    }
}

fn socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

/// Picks the landing's port for a daemon that has none yet: below the ports that the kernel gives
/// to outgoing connections, so that it is free again after a restart.
///
/// # Errors
/// When there is none, or loopback cannot be bound.
pub fn choose_port() -> io::Result<u16> {
    (10_080..11_080)
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok() && is_free_v6(*port))
        .ok_or_else(none_free)
}

fn is_free_v6(port: u16) -> bool {
    // A host without IPv6 has no listener in the way either.
    !matches!(TcpListener::bind(("::1", port)), Err(e) if e.kind() == io::ErrorKind::AddrInUse)
}

fn none_free() -> io::Error {
    io::Error::new(io::ErrorKind::AddrInUse, "no port is free on loopback in both families")
}

/// Picks any port that is free on loopback in both families.
///
/// # Errors
/// When there is none, or loopback cannot be bound.
pub fn free_port() -> io::Result<u16> {
    for _ in 0..32 {
        let v4 = TcpListener::bind(("127.0.0.1", 0))?;
        let port = v4.local_addr()?.port();
        if is_free_v6(port) {
            return Ok(port);
        }
    }
    Err(none_free())
}

/// A port that was waited for.
#[derive(Debug)]
pub struct Claimed {
    /// The listener, nonblocking, made without `SO_REUSEPORT`.
    pub listener: TcpListener,
    /// How long it took from the call.
    pub waited: Duration,
}

/// How often a taken port is tried: the hand-over without a rule promises less than 100 ms.
const CLAIM_EVERY: Duration = Duration::from_millis(5);

/// Binds `address` as soon as its owner lets it go: what is left where no rule is permitted.
///
/// # Errors
/// `TimedOut` when it is still taken at the deadline; every other error at once.
pub async fn claim(address: SocketAddr, deadline: Duration) -> io::Result<Claimed> {
    let start = Instant::now();
    let mut beat = tokio::time::interval(CLAIM_EVERY);
    loop {
        beat.tick().await;
        match bind(address) {
            Ok(listener) => return Ok(Claimed { listener, waited: start.elapsed() }),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            Err(error) => return Err(error),
        }
        if start.elapsed() >= deadline {
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("{address} was not released within {} s", deadline.as_secs()),
            ));
        }
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket(address)?;
    socket.bind(&address.into())?;
    // Two sockets may be bound to one address before either listens; only one may listen.
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_released_port_is_bound_within_100_ms() {
        let owner = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = owner.local_addr().unwrap();
        let (released, when) = tokio::sync::oneshot::channel();
        let waiting = tokio::spawn(claim(address, Duration::from_secs(10)));
        // Let it meet the taken port at least once.
        tokio::time::timeout(CLAIM_EVERY * 4, std::future::pending::<()>()).await.unwrap_err();
        drop(owner);
        released.send(Instant::now()).unwrap();
        let claimed = waiting.await.unwrap().unwrap();
        let gap = when.await.unwrap().elapsed();
        assert!(claimed.waited >= CLAIM_EVERY, "it never met the taken port");
        assert!(gap < Duration::from_millis(100), "{gap:?}");
        assert_eq!(claimed.listener.local_addr().unwrap(), address);
    }

    #[tokio::test]
    async fn a_port_that_is_never_released_ends_the_wait() {
        let owner = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = owner.local_addr().unwrap();
        let error = claim(address, Duration::from_millis(20)).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn a_free_port_can_be_bound_in_both_families() {
        let port = free_port().unwrap();
        assert_ne!(port, 0);
        TcpListener::bind(("127.0.0.1", port)).unwrap();
    }
}
