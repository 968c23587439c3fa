//! Where clients and operators come in: listeners and admin addresses, and that none overlap.

use std::net::SocketAddr;

use super::Surroundings;
use crate::checked::{Admin, Listener};
use crate::problem::Sink;
use crate::raw::{RawAdmin, RawConfig, RawListen};
use crate::read::At;
use crate::scalar::Address;
use crate::tree::Place;

/// The longest path that a Unix socket can have on Linux, without the NUL at its end.
const LONGEST_SOCKET: usize = 107;

/// Checks `[[listen]]`.
pub(super) fn check(raw: &RawConfig, sink: &mut Sink) -> Vec<At<Listener>> {
    let sections = raw.listen.as_ref().map(|list| list.value.as_slice()).unwrap_or_default();
    if sections.is_empty() {
        let hint = "add a section: [[listen]] with address = \"0.0.0.0:80\"";
        sink.missing(&Place::file(), "listen", "there is no address to listen on", hint);
    }
    let mut listeners: Vec<At<Listener>> = Vec::new();
    for section in sections {
        for address in addresses(section, sink) {
            let taken = listeners.iter().find(|l| overlap(l.value.address, address.value.0));
            if let Some(taken) = taken {
                let (new, old) = (address.value.0, taken.value.address);
                refuse_overlap(&address.place, new, &taken.place, old, sink);
                continue;
            }
            let listener = Listener { address: address.value.0 };
            listeners.push(At { value: listener, place: address.place.clone() });
        }
    }
    listeners
}

fn addresses<'r>(section: &'r At<RawListen>, sink: &mut Sink) -> &'r [At<Address>] {
    let raw = &section.value;
    if let Some(tls) = raw.tls.as_ref().filter(|tls| tls.value) {
        sink.wrong(&tls.place, "not yet: TLS on a listener")
            .hint("leave this listener out; until it is built, TLS has to end in front of Cutover");
    }
    if let Some(peers) = raw.proxy_protocol_from.as_ref().filter(|list| !list.value.is_empty()) {
        sink.wrong(&peers.place, "not yet: the PROXY protocol").hint(
            "leave it out; let the balancer in front send X-Forwarded-For, and name it in \
                   `trusted_proxies` of [proxy]",
        );
    }
    match &raw.address {
        Some(list) => {
            if list.value.0.is_empty() && !sink.touched(&list.place.key) {
                sink.wrong(&list.place, "the list of addresses is empty")
                    .hint("write at least one, as \"0.0.0.0:80\"");
            }
            &list.value.0
        }
        None => {
            let hint = "add address = \"0.0.0.0:80\"";
            sink.missing(&section.place, "address", "a listener needs an address", hint);
            &[]
        }
    }
}

/// Checks `[admin]`.
pub(super) fn admin(
    raw: Option<&RawAdmin>,
    listeners: &[At<Listener>],
    around: &Surroundings,
    sink: &mut Sink,
) -> Admin {
    let socket_at = raw.and_then(|raw| raw.socket.as_ref());
    let socket = around.path(socket_at, "/run/cutover/cutover.sock");
    if let Some(at) = socket_at.filter(|_| socket.as_os_str().len() > LONGEST_SOCKET) {
        let length = socket.as_os_str().len();
        sink.wrong(&at.place, format!("a socket's path has at most 107 bytes; this has {length}"))
            .hint("choose a shorter one, as \"/run/cutover/cutover.sock\"");
    }
    let http = raw.and_then(|raw| raw.http.as_ref());
    let metrics = raw.and_then(|raw| raw.metrics.as_ref());
    if let Some(http) = http.filter(|http| !http.value.0.ip().is_loopback()) {
        sink.wrong(
            &http.place,
            format!("{} is not loopback, and there is no TLS", http.value.0.ip()),
        )
        .hint(
            "write \"127.0.0.1:9900\" and reach it through SSH; tokens never travel in the \
                   clear",
        );
    }
    let mut taken: Vec<(&crate::tree::Place, SocketAddr)> =
        listeners.iter().map(|listener| (&listener.place, listener.value.address)).collect();
    for at in [http, metrics].into_iter().flatten() {
        if let Some((place, old)) = taken.iter().find(|(_, old)| overlap(*old, at.value.0)) {
            refuse_overlap(&at.place, at.value.0, place, *old, sink);
        }
        taken.push((&at.place, at.value.0));
    }
    let address = |at: Option<&At<Address>>| at.map(|at| at.value.0);
    Admin { socket, http: address(http), metrics: address(metrics) }
}

pub(super) fn refuse_overlap(
    place: &crate::tree::Place,
    new: SocketAddr,
    taken: &crate::tree::Place,
    old: SocketAddr,
    sink: &mut Sink,
) {
    let what = if new == old {
        format!("{new} is taken twice")
    } else {
        format!("{new} overlaps with {old}")
    };
    sink.wrong(place, what)
        .also(taken, "taken here")
        .hint("keep one of the two, or give one another port");
}

/// Whether two addresses cannot be bound side by side. IPv6 listeners take no IPv4 clients, so
/// `0.0.0.0:80` and `[::]:80` go together. Port 0 is any free port.
pub(super) fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    one.port() != 0
        && one.port() == other.port()
        && one.is_ipv4() == other.is_ipv4()
        && (one.ip() == other.ip() || one.ip().is_unspecified() || other.ip().is_unspecified())
}
