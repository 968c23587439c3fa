//! `[[apps.NAME.tcp]]`: ports that are carried by connection, that each leads somewhere and that no
//! two listeners want one address.

use std::net::SocketAddr;

use cutover_model::Color;

use super::listen::{overlap, refuse_overlap};
use crate::checked::{Admin, AppKind, Listener, TcpPort};
use crate::problem::Sink;
use crate::raw::{RawApp, RawConfig, RawTcp};
use crate::read::At;
use crate::scalar::Address;
use crate::tree::Place;

/// Checks the ports of one app.
pub(super) fn check(raw: &RawApp, kind: &AppKind, sink: &mut Sink) -> Vec<TcpPort> {
    let ports = raw.tcp.iter().flat_map(|at| &at.value);
    ports.filter_map(|port| check_one(port, kind, sink)).collect()
}

fn check_one(at: &At<RawTcp>, kind: &AppKind, sink: &mut Sink) -> Option<TcpPort> {
    let raw = &at.value;
    let listen: Vec<SocketAddr> = addresses(raw).iter().map(|at| at.value.0).collect();
    if listen.is_empty() && !sink.touched(&at.place.below("listen").key) {
        let hint = "add `listen`, as listen = \"0.0.0.0:1883\"";
        sink.missing(&at.place, "listen", "the port does not say where clients connect", hint);
    }
    let Some(named) = &raw.service else {
        let hint = "add `service`, as service = \"broker\"";
        sink.missing(&at.place, "service", "the port does not say where it leads", hint);
        return None;
    };
    let service = super::compose::service(named, sink)?;
    match kind {
        AppKind::Compose(compose) => {
            let runs_once = compose.singletons.contains(&service);
            if runs_once || compose.shared.contains(&service) {
                let what = format!("\"{service}\" runs once: there is no color to choose");
                sink.wrong(&named.place, what)
                    .hint("a shared service keeps its own published port; leave this section out");
            }
            if raw.port.is_none() {
                let what = "the section does not say the port inside the container";
                sink.missing(&at.place, "port", what, "add `port`, as port = 1883");
            }
        }
        AppKind::Static(endpoints) => {
            if !endpoints.of(Color::Blue).contains_key(&service) {
                let what = format!("\"{service}\" has no fixed endpoints in blue");
                sink.wrong(&named.place, what).hint("name a service that [.endpoints] lists");
            }
            if let Some(port) = &raw.port {
                sink.wrong(&port.place, "fixed endpoints carry their own ports")
                    .hint("leave `port` out");
            }
        }
    }
    Some(TcpPort { listen, service, port: raw.port.as_ref().map(|at| at.value.small()) })
}

fn addresses(raw: &RawTcp) -> &[At<Address>] {
    raw.listen.as_ref().map(|at| at.value.0.as_slice()).unwrap_or_default()
}

/// Refuses addresses that are taken by `[[listen]]`, by `[admin]`, or by another of these.
pub(super) fn refuse_twins(
    raw: &RawConfig,
    listeners: &[At<Listener>],
    admin: &Admin,
    sink: &mut Sink,
) {
    let mut taken: Vec<(&Place, SocketAddr)> =
        listeners.iter().map(|at| (&at.place, at.value.address)).collect();
    let apps = raw.apps.iter().flat_map(|at| &at.value.0);
    let ports = apps.flat_map(|app| app.item.value.tcp.iter().flat_map(|at| &at.value));
    for address in ports.flat_map(|port| addresses(&port.value)) {
        let new = address.value.0;
        let ours = [admin.http, admin.metrics].into_iter().flatten();
        if let Some((place, old)) = taken.iter().find(|(_, old)| overlap(*old, new)) {
            refuse_overlap(&address.place, new, place, *old, sink);
        } else if ours.clone().any(|old| overlap(old, new)) {
            sink.wrong(&address.place, format!("{new} is taken by [admin]"))
                .hint("give one of the two another port");
        }
        taken.push((&address.place, new));
    }
}
