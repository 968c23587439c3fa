//! The edges of a compose file: the order of starting, what is cut, and calls past the split.
//!
//! Edges to shared services become waits, edges to singletons are cut with a note, edges between
//! colored services give the order. A shared service that reaches a colored one by name is refused.

use std::collections::{BTreeMap, BTreeSet};

use cutover_model::ServiceName;
use serde_json::Value;

use super::color::Coloring;
use super::problem::ComposeProblem;
use super::stack::{HealthCheck, Kind, SharedWait, Start, WaitFor};
use super::view::{
    Object, containers, dependencies, duration, environment, links, list, memory_limit, networks,
    object, text, words,
};

/// The colored services in start order, and the shared ones to wait for before.
pub(super) fn order(work: &mut Coloring<'_>, colored: &[String]) -> (Vec<Start>, Vec<SharedWait>) {
    let mut waits: BTreeMap<(ServiceName, &'static str), SharedWait> = BTreeMap::new();
    let mut open: Vec<Start> = Vec::new();
    for name in colored {
        let (Some(body), Ok(service)) = (work.service(name), ServiceName::new(name.as_str()))
        else {
            continue;
        };
        let mut start = start_of(work, &service, body);
        for edge in dependencies(body) {
            let (wait, word) = wait_for(&edge.condition);
            let Ok(on) = ServiceName::new(edge.on.as_str()) else { continue };
            if work.settings.is_shared(&edge.on) {
                let wait = waits.entry((on.clone(), word)).or_insert_with(|| SharedWait {
                    service: on,
                    condition: wait,
                    wanted_by: Vec::new(),
                });
                wait.wanted_by.push(service.clone());
            } else if work.service(&edge.on).is_none() {
                // Not required, and its profile is off.
            } else if work.kind(&edge.on) == Kind::Singleton && start.kind != Kind::Singleton {
                work.note(format!(
                    "{name} does not wait for {on}: it runs in the stable color only"
                ));
            } else {
                start.after.push((on, wait));
            }
        }
        open.push(start);
    }
    (sorted(open), waits.into_values().collect())
}

fn wait_for(condition: &str) -> (WaitFor, &'static str) {
    match condition {
        "service_healthy" => (WaitFor::Healthy, "healthy"),
        "service_completed_successfully" => (WaitFor::Completed, "completed"),
        _ => (WaitFor::Started, "started"),
    }
}

fn start_of(work: &Coloring<'_>, service: &ServiceName, body: &Object) -> Start {
    let health_check = match object(body, "healthcheck") {
        None => HealthCheck::NotGiven,
        Some(check) if check.get("disable") == Some(&Value::Bool(true)) => HealthCheck::Disabled,
        Some(check) => match list(check, "test").first().and_then(Value::as_str) {
            Some("NONE") => HealthCheck::Disabled,
            Some(_) => HealthCheck::Given,
            None => HealthCheck::NotGiven,
        },
    };
    Start {
        service: service.clone(),
        kind: work.kind(service.as_str()),
        after: Vec::new(),
        health_check,
        stop_grace: text(body, "stop_grace_period")
            .and_then(duration)
            .unwrap_or(std::time::Duration::from_secs(10)),
        containers: containers(body),
        memory_limit: memory_limit(body),
    }
}

/// Each after what it waits for; by name where nothing else says. Compose refuses loops itself; if
/// one is left after all, its services come last.
fn sorted(mut open: Vec<Start>) -> Vec<Start> {
    let mut done: Vec<Start> = Vec::with_capacity(open.len());
    let mut names: BTreeSet<ServiceName> = BTreeSet::new();
    while !open.is_empty() {
        let ready =
            open.iter().position(|start| start.after.iter().all(|(on, _)| names.contains(on)));
        let next = open.remove(ready.unwrap_or(0));
        names.insert(next.service.clone());
        done.push(next);
    }
    done
}

impl Coloring<'_> {
    /// Refuses shared services that reach colored ones by name.
    pub(super) fn check_shared_calls(&mut self, colored: &[String]) {
        for shared in self.names().filter(|name| self.settings.is_shared(name)).collect::<Vec<_>>()
        {
            let Some(body) = self.service(&shared) else { continue };
            let edges = object(body, "depends_on").into_iter().flat_map(|map| map.keys().cloned());
            let edges = edges.map(|on| (on, "depends_on".to_owned()));
            let linked = links(body).into_iter().map(|(on, _)| (on, "links".to_owned()));
            let mut calls: Vec<(String, String)> = edges.chain(linked).collect();
            calls.retain(|(on, _)| colored.contains(on));
            for name in colored {
                let hosts = self.host_names(name);
                for (variable, value) in environment(body) {
                    if hosts.iter().any(|host| names_host(variable, value, host)) {
                        calls.push((name.clone(), format!("environment: {variable}")));
                    }
                }
                let in_words = words(body)
                    .iter()
                    .any(|word| hosts.iter().any(|host| names_host("", word, host)));
                if in_words {
                    calls.push((name.clone(), "command".to_owned()));
                }
            }
            let mut places: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
            for (colored, place) in calls {
                places.entry(colored).or_default().insert(place);
            }
            for (colored, places) in places {
                let (shared, place) = (shared.clone(), Vec::from_iter(places).join(", "));
                self.problems.push(ComposeProblem::SharedCallsColored { shared, colored, place });
            }
        }
    }

    /// The names under which a service is found on its networks.
    pub(super) fn host_names(&self, service: &str) -> Vec<String> {
        let mut names = BTreeSet::from([service.to_owned()]);
        if let Some(body) = self.service(service) {
            names.extend(text(body, "container_name").map(str::to_owned));
            names.extend(networks(body).into_values().flatten());
        }
        names.into_iter().collect()
    }
}

/// Whether a value refers to a host of that name: in a URL, as `host:port`, alone in a variable
/// that is called a host, or in a list of these.
fn names_host(variable: &str, value: &str, host: &str) -> bool {
    let upper = variable.to_ascii_uppercase();
    let is_host_variable = ["HOST", "HOSTS", "SERVER", "SERVERS", "UPSTREAM", "ADDR", "ADDRESS"]
        .iter()
        .any(|end| upper == *end || upper.ends_with(&format!("_{end}")));
    value.split([',', ' ', ';', '\n']).any(|part| {
        let (in_url, authority) = match part.split_once("://") {
            Some((_, rest)) => (true, rest.split(['/', '?', '#']).next().unwrap_or(rest)),
            None => (false, part.split(['/', '=']).next_back().unwrap_or(part)),
        };
        let authority = authority.rsplit_once('@').map_or(authority, |(_, after)| after);
        let (name, port) = match authority.split_once(':') {
            Some((name, port)) => {
                (name, port.bytes().all(|b| b.is_ascii_digit()) && !port.is_empty())
            }
            None => (authority, false),
        };
        name == host && (in_url || port || (is_host_variable && part == host))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_found_where_they_are_meant() {
        for (variable, value) in [
            ("API", "http://backend:3001/x"),
            ("API", "http://backend"),
            ("DSN", "amqp://u:p@backend:5672/v"),
            ("TARGETS", "one:80,backend:3001"),
            ("BACKEND_HOST", "backend"),
            ("X", "--target=backend:80"),
        ] {
            assert!(names_host(variable, value, "backend"), "{variable}={value}");
        }
        for (variable, value) in [
            ("POSTGRES_DB", "backend"),
            ("API", "http://backend2:80"),
            ("API", "http://my.backend:80"),
            ("PATH", "/srv/backend"),
            ("NOTE", "backend: soon"),
        ] {
            assert!(!names_host(variable, value, "backend"), "{variable}={value}");
        }
    }
}
