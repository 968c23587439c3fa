//! Routes: that each leads somewhere, and that no two claim the same requests.

use cutover_model::{Color, ServiceName};

use crate::checked::{AppKind, Listener, PathPrefix, Protocol, Route};
use crate::problem::Sink;
use crate::raw::{RawApp, RawRoute};
use crate::read::{At, Named};
use crate::tree::Place;

/// Checks the routes of one app.
pub(super) fn check(
    raw: &RawApp,
    app: &Place,
    kind: &AppKind,
    listeners: &[At<Listener>],
    sink: &mut Sink,
) -> Vec<Route> {
    let routes = raw.routes.as_ref().map(|at| at.value.as_slice()).unwrap_or_default();
    if routes.is_empty() {
        let hint = format!("add a section [[{}.routes]] with at least `service`", app.key);
        sink.missing(app, "routes", "the app has no route: no request would reach it", &hint);
    }
    routes.iter().filter_map(|route| check_one(route, kind, listeners, sink)).collect()
}

fn check_one(
    route: &At<RawRoute>,
    kind: &AppKind,
    listeners: &[At<Listener>],
    sink: &mut Sink,
) -> Option<Route> {
    let raw = &route.value;
    let protocol = raw.protocol.as_ref().map(|at| at.value).unwrap_or_default();
    if let Some(at) = raw.protocol.as_ref().filter(|at| at.value != Protocol::Http1) {
        let name = if protocol == Protocol::H2c { "h2c" } else { "https" };
        sink.wrong(&at.place, format!("not yet: services that speak {name}"))
            .hint("leave it out if the service answers HTTP/1.1 in the clear, too");
    }
    if let Some(on) = &raw.on {
        check_listener(on.value.small(), &on.place, listeners, sink);
    }
    let service = service(route, sink)?;
    match kind {
        AppKind::Compose(compose) => {
            let key = service_place(raw, &route.place);
            if compose.singletons.contains(&service) {
                sink.wrong(key, format!("\"{service}\" is a singleton: it runs in one color only"))
                    .hint("a service with a route has two copies; take it out of `singletons`");
            } else if compose.shared.contains(&service) {
                sink.wrong(
                    key,
                    format!("\"{service}\" is shared: it keeps its own published port"),
                )
                .hint("leave the route out, or take the service out of `shared`");
            }
            if raw.port.is_none() {
                let what = "the route does not say the port inside the container";
                sink.missing(&route.place, "port", what, "add `port`, as port = 3000");
            }
        }
        AppKind::Static(endpoints) => {
            for color in Color::BOTH {
                let listed = endpoints.of(color);
                let absent = color == Color::Green && listed.is_empty();
                if !absent && !listed.contains_key(&service) {
                    refuse_unlisted(&service, color, endpoints.of(color), raw, route, sink);
                }
            }
            if let Some(port) = &raw.port {
                sink.wrong(&port.place, "fixed endpoints carry their own ports")
                    .hint("leave `port` out");
            }
        }
    }
    Some(Route {
        host: raw.host.as_ref().map(|at| at.value.clone()),
        path: path(raw),
        service,
        port: raw.port.as_ref().map(|at| at.value.small()),
        on: raw.on.as_ref().map(|at| at.value.small()),
        strip_prefix: raw.strip_prefix.as_ref().is_some_and(|at| at.value),
        protocol,
    })
}

fn service(route: &At<RawRoute>, sink: &mut Sink) -> Option<ServiceName> {
    let Some(at) = &route.value.service else {
        let hint = "add `service`, as service = \"backend\"";
        sink.missing(&route.place, "service", "the route does not say where it leads", hint);
        return None;
    };
    match ServiceName::new(at.value.clone()) {
        Ok(service) => Some(service),
        Err(error) => {
            sink.wrong(&at.place, error.to_string())
                .hint("write the name as the compose file has it");
            None
        }
    }
}

fn service_place<'r>(raw: &'r RawRoute, route: &'r Place) -> &'r Place {
    raw.service.as_ref().map_or(route, |at| &at.place)
}

fn refuse_unlisted<V>(
    service: &ServiceName,
    color: Color,
    listed: &std::collections::BTreeMap<ServiceName, V>,
    raw: &RawRoute,
    route: &At<RawRoute>,
    sink: &mut Sink,
) {
    let names: Vec<&str> = listed.keys().map(ServiceName::as_str).collect();
    let known = if names.is_empty() { "nothing".to_owned() } else { names.join(", ") };
    let place = service_place(raw, &route.place);
    // With a mistake inside the endpoints, the service may well be there.
    let section = place.key.split(".routes").next().unwrap_or_default();
    if !sink.touched(&format!("{section}.endpoints")) {
        sink.wrong(place, format!("{color} has no endpoints for \"{service}\""))
            .hint(format!("{color} lists: {known}; add {service} = [\"127.0.0.1:9001\"] to it"));
    }
}

/// A port that a listener has to have.
pub(super) fn check_listener(
    port: u16,
    place: &Place,
    listeners: &[At<Listener>],
    sink: &mut Sink,
) {
    let mut ports: Vec<u16> = listeners.iter().map(|at| at.value.address.port()).collect();
    if ports.contains(&port) || ports.is_empty() || sink.touched("listen") {
        return;
    }
    ports.sort_unstable();
    ports.dedup();
    let known: Vec<String> = ports.iter().map(u16::to_string).collect();
    sink.wrong(place, format!("no listener has port {port}"))
        .hint(format!("write one of {}, or add a [[listen]] for {port}", known.join(", ")));
}

/// Two routes for the same host, path and port of a listener, in one app or in two.
pub(super) fn refuse_twins(apps: &[Named<RawApp>], sink: &mut Sink) {
    let mut seen: Vec<(String, &Place)> = Vec::new();
    for app in apps {
        let routes = app.item.value.routes.as_ref().map(|at| at.value.as_slice());
        for route in routes.unwrap_or_default() {
            let text = describe(&route.value);
            match seen.iter().find(|(other, _)| *other == text) {
                Some((_, first)) => {
                    sink.wrong(&route.place, format!("two routes want {text}"))
                        .also(first, "the first")
                        .hint("change `host`, `path` or `on` of one of them");
                }
                None => seen.push((text, &route.place)),
            }
        }
    }
}

fn describe(raw: &RawRoute) -> String {
    let host = raw.host.as_ref().map_or("every host", |at| at.value.as_str());
    let on = raw.on.as_ref().map(|at| format!(" on port {}", at.value.small()));
    format!("{host}, path {}{}", path(raw), on.unwrap_or_default())
}

fn path(raw: &RawRoute) -> PathPrefix {
    raw.path.as_ref().map_or_else(PathPrefix::root, |at| at.value.clone())
}
