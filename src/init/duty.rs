//! What becomes of each service when there are two copies of the stack.
//!
//! The safe side is one copy: data has one keeper, and a job that nobody calls is not done twice.
//! Two copies are proposed only for services that answer somebody.

use super::seen::Seen;
use super::stack::{Service, Stack};
use super::{images, ports};

/// What becomes of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Duty {
    /// A copy in each color.
    TwoCopies,
    /// One copy for both colors.
    Shared,
    /// One copy, in the stable color.
    Singleton,
    /// Runs once for each deploy.
    Job,
}

/// Why a service has its duty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Its image keeps data.
    Keeper(&'static str),
    /// It mounts a folder in which servers keep data.
    DataFolder,
    /// It uses the host itself, which cannot be had twice.
    Host(&'static str),
    /// It spreads requests over others.
    Balancer,
    /// It publishes UDP only, which cannot be moved by connection.
    OnlyUdp,
    /// What it publishes is not HTTP, which cannot be moved by connection yet.
    NotHttp,
    /// Others wait until it ended.
    Ends,
    /// It publishes a port.
    Published,
    /// Others call it.
    Called,
    /// Nobody calls it.
    NobodyCalls,
}

/// Decides for one service.
#[must_use]
pub fn decide(name: &str, service: &Service, stack: &Stack, seen: &Seen) -> (Duty, Reason) {
    if let Some(reason) = shared(service) {
        return (Duty::Shared, reason);
    }
    if waits(name, stack, |condition| condition == "service_completed_successfully") {
        return (Duty::Job, Reason::Ends);
    }
    if images::is_balancer(service.image_name()) {
        return (Duty::Shared, Reason::Balancer);
    }
    let udp = service.ports.iter().filter(|port| port.is_udp()).count();
    match service.ports.len() {
        0 => {}
        published if published == udp => return (Duty::Shared, Reason::OnlyUdp),
        _ if !service.ports.iter().any(|port| ports::is_http(name, port, seen)) => {
            return (Duty::Shared, Reason::NotHttp);
        }
        _ => return (Duty::TwoCopies, Reason::Published),
    }
    if !service.expose.is_empty() || waits(name, stack, |_| true) || is_named(name, stack) {
        return (Duty::TwoCopies, Reason::Called);
    }
    (Duty::Singleton, Reason::NobodyCalls)
}

fn shared(service: &Service) -> Option<Reason> {
    if let Some(keeper) = images::keeper_of(service.image_name()) {
        return Some(Reason::Keeper(keeper.called));
    }
    if service.volumes.iter().any(|mount| images::is_data_folder(&mount.target)) {
        return Some(Reason::DataFolder);
    }
    if service.network_mode.as_deref() == Some("host") {
        return Some(Reason::Host("the host's network"));
    }
    if service.pid.as_deref() == Some("host") {
        return Some(Reason::Host("the host's processes"));
    }
    if !service.devices.is_empty() {
        return Some(Reason::Host("devices of the host"));
    }
    None
}

/// Whether a variable of another service has an address at this one: `http://backend:3001`.
fn is_named(name: &str, stack: &Stack) -> bool {
    let others = stack.services.iter().filter(|(other, _)| *other != name);
    let mut values = others.flat_map(|(_, other)| other.environment.values());
    values.any(|value| {
        value.match_indices(name).any(|(at, _)| {
            let before = value[..at].ends_with("//") || value[..at].ends_with('@') || at == 0;
            before && value[at + name.len()..].starts_with([':', '/'])
        })
    })
}

/// Whether another service waits for this one under such a condition.
fn waits(name: &str, stack: &Stack, condition: impl Fn(&str) -> bool) -> bool {
    let mut others = stack.services.values().filter_map(|other| other.depends_on.get(name));
    others.any(|dependency| condition(&dependency.condition))
}
