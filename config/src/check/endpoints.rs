//! `[apps.NAME.endpoints]`: fixed addresses, none of which leads back into Cutover itself.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use cutover_model::ServiceName;

use super::compose::service;
use crate::checked::{Admin, Endpoints, Listener};
use crate::problem::Sink;
use crate::raw::RawEndpoints;
use crate::read::{At, Keyed, OneOrMany};
use crate::scalar::Address;

type RawColor = Option<At<Keyed<OneOrMany<Address>>>>;

/// Checks both colors.
pub(super) fn check(
    at: &At<RawEndpoints>,
    listeners: &[At<Listener>],
    admin: &Admin,
    sink: &mut Sink,
) -> Endpoints {
    let mut own: Vec<(SocketAddr, &'static str)> =
        listeners.iter().map(|at| (at.value.address, "listens for clients")).collect();
    own.extend(admin.http.map(|address| (address, "is managed")));
    own.extend(admin.metrics.map(|address| (address, "shows its metrics")));
    let raw = &at.value;
    if raw.blue.as_ref().is_none_or(|blue| blue.value.0.is_empty()) {
        let what = "blue has no endpoints, but it is the color that serves at first";
        let hint = "add blue = { web = [\"127.0.0.1:9001\"] }";
        sink.missing(&at.place, "blue", what, hint);
    }
    Endpoints { blue: color(&raw.blue, &own, sink), green: color(&raw.green, &own, sink) }
}

fn color(
    raw: &RawColor,
    own: &[(SocketAddr, &'static str)],
    sink: &mut Sink,
) -> BTreeMap<ServiceName, Vec<SocketAddr>> {
    let mut checked = BTreeMap::new();
    for entry in raw.iter().flat_map(|at| &at.value.0) {
        let addresses = &entry.item.value.0;
        if addresses.is_empty() && !sink.touched(&entry.item.place.key) {
            sink.wrong(&entry.item.place, format!("\"{}\" has no address", entry.name.value))
                .hint("write at least one, as [\"127.0.0.1:9001\"]");
        }
        let mut good: Vec<SocketAddr> = Vec::new();
        for address in addresses {
            refuse(address, own, sink);
            if good.contains(&address.value.0) {
                sink.wrong(&address.place, format!("{} stands here twice", address.value.0))
                    .hint("keep one of them");
            }
            good.push(address.value.0);
        }
        if let Some(name) = service(&entry.name, sink) {
            checked.insert(name, good);
        }
    }
    checked
}

/// Addresses that must never be asked.
fn refuse(at: &At<Address>, own: &[(SocketAddr, &'static str)], sink: &mut Sink) {
    let address = at.value.0;
    let ip = address.ip().to_canonical();
    let (what, hint) = if address.port() == 0 {
        (format!("{address} has no port"), "write the port that the endpoint listens on")
    } else if ip.is_unspecified() {
        (format!("{ip} is not an address to connect to"), "write 127.0.0.1 for this machine")
    } else if is_link_local(ip) {
        let what =
            format!("{ip} is link-local: metadata and credentials of the machine live there");
        (what, "write an address of the endpoint that is not link-local")
    } else if ip.is_multicast() || ip == IpAddr::V4(std::net::Ipv4Addr::BROADCAST) {
        (format!("{ip} is not the address of one machine"), "write the endpoint's own address")
    } else if let Some((_, role)) = own.iter().find(|(own, _)| leads_to(address, *own)) {
        let what = format!("{address} is where Cutover itself {role}");
        (what, "write the address that the application listens on")
    } else {
        return;
    };
    sink.wrong(&at.place, what).hint(hint);
}

fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

/// Whether connecting to `target` surely reaches a listener of our own.
fn leads_to(target: SocketAddr, own: SocketAddr) -> bool {
    let (target_ip, own_ip) = (target.ip().to_canonical(), own.ip().to_canonical());
    target.port() == own.port()
        && (target_ip == own_ip
            || (own_ip.is_unspecified()
                && own_ip.is_ipv4() == target_ip.is_ipv4()
                && target_ip.is_loopback()))
}
