//! Published ports: which become listeners with a route, and what becomes of the others.
//!
//! What clients reach today they reach afterwards, on the same addresses and ports: a route for
//! each HTTP port. What cannot be taken over is dropped, and asked about; the ports of debuggers
//! are dropped without a question.

use super::duty::Duty;
use super::images;
use super::seen::{Seen, Spoken};
use super::stack::{Port, Stack};

/// What becomes of the published ports.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct Ports {
    /// Addresses to listen on.
    pub listen: Vec<String>,
    /// One route for each HTTP port.
    pub routes: Vec<RouteGuess>,
    /// Ports without a route, with what becomes of them and why.
    pub classes: Vec<PortGuess>,
}

/// A route.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct RouteGuess {
    /// The service.
    pub service: String,
    /// The port inside.
    pub port: u16,
    /// The public port.
    pub public: u16,
}

/// A published port without a route.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct PortGuess {
    /// As the file names it: `9229`, `5353/udp`.
    pub key: String,
    /// The service.
    pub service: String,
    /// `drop`; ports that are forwarded by connection come later.
    pub class: &'static str,
    /// Why.
    pub why: String,
    /// Whether the operator has to decide.
    pub ask: bool,
}

/// Decides for every port of every service with two copies.
#[must_use]
pub fn decide(stack: &Stack, duties: &[(String, Duty)], seen: &Seen, ipv6: bool) -> Ports {
    let mut ports = Ports::default();
    for (name, duty) in duties {
        if *duty != Duty::TwoCopies {
            continue;
        }
        for port in stack.services.get(name).map(|s| s.ports.as_slice()).unwrap_or_default() {
            decide_one(name, port, seen, ipv6, &mut ports);
        }
    }
    ports.listen.dedup();
    // The proper site first: the port that a browser asks for, then small ones.
    ports.routes.sort_by_key(|route| (route.public != 80, route.public));
    ports.routes.dedup();
    ports
}

/// Whether clients speak HTTP to a published port, as far as is known.
#[must_use]
pub fn is_http(name: &str, port: &Port, seen: &Seen) -> bool {
    !port.is_udp()
        && match seen.spoken(name, port.target) {
            Some(Spoken::Http { .. }) => true,
            Some(Spoken::Other) => false,
            Some(Spoken::Nothing) | None => images::spoken_on(port.target).is_none(),
        }
}

fn decide_one(name: &str, port: &Port, seen: &Seen, ipv6: bool, ports: &mut Ports) {
    let suffix = if port.is_udp() { "/udp" } else { "" };
    let mut class = |key: String, class: &'static str, why: String, ask: bool| {
        let service = name.to_owned();
        let guess = PortGuess { key, service, class, why, ask };
        if !ports.classes.contains(&guess) {
            ports.classes.push(guess);
        }
    };
    let Some(public) = port.public() else {
        let key = format!("{name}:{}{suffix}", port.target);
        let why = "its public port changes at each start, so nobody can rely on it".to_owned();
        return class(key, "drop", why, true);
    };
    let key = format!("{public}{suffix}");
    if port.is_udp() {
        let why = "UDP cannot be forwarded between two copies".to_owned();
        return class(key, "drop", why, true);
    }
    if images::is_debugger(port.target) {
        return class(key, "drop", "the port of a debugger".to_owned(), false);
    }
    if !is_http(name, port, seen) {
        let spoken = images::spoken_on(port.target).unwrap_or("something else than HTTP");
        let why = format!("{spoken} cannot be taken over yet");
        return class(key, "drop", why, true);
    }
    listen(port.host_ip.as_deref(), public, ipv6, &mut ports.listen);
    ports.routes.push(RouteGuess { service: name.to_owned(), port: port.target, public });
}

fn listen(host_ip: Option<&str>, public: u16, ipv6: bool, list: &mut Vec<String>) {
    let addresses = match host_ip.filter(|ip| !ip.is_empty()) {
        Some(ip) if ip.contains(':') => vec![format!("[{ip}]:{public}")],
        Some("0.0.0.0") | None if ipv6 => {
            vec![format!("0.0.0.0:{public}"), format!("[::]:{public}")]
        }
        Some(ip) => vec![format!("{ip}:{public}")],
        None => vec![format!("0.0.0.0:{public}")],
    };
    for address in addresses {
        if !list.contains(&address) {
            list.push(address);
        }
    }
}
