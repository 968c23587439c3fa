//! Listening sockets: one for each worker and address, bound so that a taken port is refused.
//!
//! The first socket of an address is bound and listening without `SO_REUSEPORT`: the kernel then
//! refuses it if anybody else listens there, another Cutover included. Only then the option is set
//! and the other workers' sockets join. Invariant: there is no moment at which two programs can
//! both believe that they own the port.

mod owner;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;

use socket2::{Domain, Protocol, Socket, Type};

use crate::error::StartError;

/// Connections that the kernel keeps for us while we are busy.
const BACKLOG: i32 = 4_096;

/// The sockets of every worker: `[worker][address]`.
pub(crate) fn listen(
    addresses: &[SocketAddr],
    inherited: Vec<OwnedFd>,
    workers: usize,
) -> Result<Vec<Vec<TcpListener>>, StartError> {
    let mut found: Vec<(SocketAddr, TcpListener)> = Vec::new();
    for fd in inherited {
        let listener = TcpListener::from(fd);
        let address = listener.local_addr().map_err(StartError::Inherited)?;
        found.push((address, listener));
    }
    let mut sets: Vec<Vec<TcpListener>> = (0..workers).map(|_| Vec::new()).collect();
    for wanted in addresses {
        let ours = found.extract_if(.., |(address, _)| address == wanted).map(|(_, l)| l).collect();
        let group = group(*wanted, ours, workers)?;
        for (set, listener) in sets.iter_mut().zip(group) {
            set.push(listener);
        }
    }
    for listener in sets.iter().flatten() {
        listener.set_nonblocking(true).map_err(StartError::Runtime)?;
    }
    Ok(sets)
}

/// One socket for each worker. Inherited ones are dealt out by index; where there are fewer of them
/// than workers they are shared.
fn group(
    address: SocketAddr,
    inherited: Vec<TcpListener>,
    workers: usize,
) -> Result<Vec<TcpListener>, StartError> {
    let refused = |error| StartError::Listen { address, error, owner: None };
    if !inherited.is_empty() {
        return inherited
            .iter()
            .cycle()
            .take(workers.max(inherited.len()))
            .map(|listener| listener.try_clone().map_err(refused))
            .collect();
    }
    let first = exclusive(address)?;
    // With port 0 the kernel has chosen one: the others join there.
    let bound = first.local_addr().map_err(refused)?;
    socket2::SockRef::from(&first).set_reuse_port(true).map_err(refused)?;
    let mut group = vec![first];
    while group.len() < workers {
        let socket = open(bound).map_err(refused)?;
        socket.set_reuse_port(true).map_err(refused)?;
        start(&socket, bound).map_err(refused)?;
        group.push(socket.into());
    }
    Ok(group)
}

/// Binds an address that nobody else may have.
///
/// # Errors
/// [`StartError::Listen`], with the owner's name when it can be found.
pub(crate) fn exclusive(address: SocketAddr) -> Result<TcpListener, StartError> {
    let bound = open(address).and_then(|socket| start(&socket, address).map(|()| socket));
    bound.map(Into::into).map_err(|error| {
        let taken = error.kind() == io::ErrorKind::AddrInUse;
        StartError::Listen { address, error, owner: taken.then(|| owner::of(address)).flatten() }
    })
}

fn open(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        // IPv4 has an address of its own in the list, so that both have their own owner check.
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    Ok(socket)
}

fn start(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)
}
