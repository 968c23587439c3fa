//! What `init` proposes: every service, volume and port with what becomes of it, and the questions
//! that it could not answer by itself.
//!
//! Pure: from the stack, the folder's findings and what runs. The file and the text on the terminal
//! are both made from this one value, so they cannot disagree.

use std::collections::BTreeSet;
use std::path::Path;

use serde::Serialize;

use super::around::Around;
use super::database::{self, DatabaseGuess};
use super::duty::{self, Duty, Reason};
use super::folder::Findings;
use super::ports::{self, Ports};
use super::seen::{Seen, Spoken};
use super::stack::{Service, Stack};
use super::volumes::{self, VolumeGuess};

/// Everything that is proposed for one app.
#[derive(Debug, Clone, Serialize)]
pub struct Proposal {
    /// The app's name.
    pub app: String,
    /// The operator's own project.
    pub project: String,
    /// What only the operator's shell says to compose.
    pub around: Around,
    /// Each service with what becomes of it, the ones that clients see first.
    pub services: Vec<ServiceGuess>,
    /// Volumes and writable folders.
    pub volumes: Vec<VolumeGuess>,
    /// Listeners, routes, other published ports.
    pub ports: Ports,
    /// The path that readiness is asked on.
    pub probe: ProbeGuess,
    /// Files with variables.
    pub env_files: Vec<String>,
    /// Variables that compose leaves blank today.
    pub blanks: Vec<String>,
    /// Networks of somebody else.
    pub networks: Vec<String>,
    /// What a deploy runs once.
    pub migrations: Option<MigrationsGuess>,
    /// The database that is rolled back with the app.
    pub database: Option<DatabaseGuess>,
    /// What could not be known, in the order of the numbers that the file refers to.
    pub asks: Vec<Ask>,
    /// Memory that a second copy needs, bytes.
    pub memory_need: Option<u64>,
    /// Memory that can be had, bytes.
    pub memory_free: Option<u64>,
}

/// One service.
#[derive(Debug, Clone, Serialize)]
pub struct ServiceGuess {
    /// Its name.
    pub name: String,
    /// What it looks like.
    pub looks_like: String,
    /// What becomes of it.
    pub duty: Duty,
    /// Its public ports, and what becomes of them.
    pub public: String,
    /// The first port that it shows to other services only.
    pub exposes: Option<u16>,
}

/// Where readiness is asked.
#[derive(Debug, Clone, Serialize)]
pub struct ProbeGuess {
    /// The path.
    pub path: String,
    /// The public port, when there are several.
    pub on: Option<u16>,
    /// Whether it answered.
    pub answered: bool,
}

/// What a deploy runs once.
#[derive(Debug, Clone, Serialize)]
pub struct MigrationsGuess {
    /// The service whose image runs it.
    pub service: String,
    /// The command.
    pub command: String,
}

/// What a question is about, so that the file can refer to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Topic {
    /// Routes: there are none.
    Routes,
    /// The path of the probe.
    Probe,
    /// Migrations.
    Migrations,
    /// The database's password.
    Database,
    /// Timers inside of web services.
    Timers,
    /// Volumes.
    Volumes,
    /// Ports.
    Ports,
    /// Networks.
    Networks,
    /// Blank variables.
    Blanks,
    /// A balancer of the operator's own.
    Balancer,
}

/// One question.
#[derive(Debug, Clone, Serialize)]
pub struct Ask {
    /// What it is about.
    pub topic: Topic,
    /// The question, with what was chosen.
    pub text: String,
}

impl Proposal {
    /// The number of the question about a topic, if there is one.
    #[must_use]
    pub fn ask_about(&self, topic: Topic) -> Option<usize> {
        self.asks.iter().position(|ask| ask.topic == topic).map(|index| index + 1)
    }

    /// The names of the services with a duty.
    pub fn with_duty(&self, duty: Duty) -> impl Iterator<Item = &str> {
        self.services.iter().filter(move |s| s.duty == duty).map(|s| s.name.as_str())
    }
}

/// Makes the proposal.
#[must_use]
pub fn propose(
    folder: &Path,
    stack: &Stack,
    blanks: &[String],
    findings: &Findings,
    seen: &Seen,
) -> Proposal {
    let decided: Vec<(String, Duty, Reason)> = stack
        .services
        .iter()
        .map(|(name, service)| {
            let (duty, reason) = duty::decide(name, service, stack, seen);
            (name.clone(), duty, reason)
        })
        .collect();
    let duties: Vec<(String, Duty)> =
        decided.iter().map(|(name, duty, _)| (name.clone(), *duty)).collect();
    let ports = ports::decide(stack, &duties, seen, findings.ipv6);
    let probe = probe(stack, &ports, seen);
    let mut services: Vec<ServiceGuess> =
        decided.iter().map(|row| guess(row, stack, &ports, seen)).collect();
    services.sort_by_key(|service| rank(service, &ports));
    let mut proposal = Proposal {
        app: app_name(&stack.name),
        project: stack.name.clone(),
        around: Around::default(),
        services,
        volumes: volumes::decide(folder, stack, &duties),
        ports,
        probe,
        env_files: env_files(folder, stack, &duties, findings),
        blanks: blanks.to_vec(),
        networks: networks(stack, &duties),
        migrations: None,
        database: database::decide(stack, &decided, findings),
        asks: Vec::new(),
        memory_need: memory(&duties, seen),
        memory_free: seen.memory_free,
    };
    super::asks::fill(&mut proposal, stack, &decided, findings);
    proposal
}

/// A name that the file accepts, from the name of a project.
fn app_name(project: &str) -> String {
    let fit = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let name: String = project.chars().map(fit).collect();
    let name = name.trim_start_matches(|c: char| !c.is_ascii_lowercase());
    let name: String = name.chars().take(31).collect();
    let mut name = name.trim_end_matches('-');
    for color in ["-blue", "-green"] {
        name = name.strip_suffix(color).unwrap_or(name);
    }
    if name.is_empty() { "app".to_owned() } else { name.to_owned() }
}

/// Services that clients see come first, data last.
fn rank(service: &ServiceGuess, ports: &Ports) -> (usize, String) {
    let routed = ports.routes.iter().position(|route| route.service == service.name);
    let place = match (service.duty, routed) {
        (Duty::TwoCopies, Some(place)) => place,
        (Duty::TwoCopies, None) => 1_000,
        (Duty::Singleton, _) => 2_000,
        (Duty::Job, _) => 3_000,
        (Duty::Shared, _) => 4_000,
    };
    (place, service.name.clone())
}

fn guess(
    (name, duty, reason): &(String, Duty, Reason),
    stack: &Stack,
    ports: &Ports,
    seen: &Seen,
) -> ServiceGuess {
    let service = stack.services.get(name).cloned().unwrap_or_default();
    let looks_like = match reason {
        Reason::Keeper(called) => match service.image_tag() {
            Some(tag) => format!("{called} {tag}"),
            None => (*called).to_owned(),
        },
        Reason::DataFolder => "keeps data".to_owned(),
        Reason::Host(what) => format!("uses {what}"),
        Reason::Balancer => "a balancer".to_owned(),
        Reason::OnlyUdp => "UDP only".to_owned(),
        Reason::NotHttp => "publishes a port, not HTTP".to_owned(),
        Reason::Ends => "runs once and ends; others wait for it".to_owned(),
        Reason::Called => match service.expose.first() {
            Some(port) => format!("no public port, answers others on {port}"),
            None => "no public port, called by others".to_owned(),
        },
        Reason::NobodyCalls => match first_dependency(&service, stack) {
            Some(called) => format!("no port, calls {called}"),
            None => "no port, nobody calls it".to_owned(),
        },
        Reason::Published => published(name, &service, ports, seen),
    };
    ServiceGuess {
        name: name.clone(),
        looks_like,
        duty: *duty,
        public: public(name, *duty, &service, ports),
        exposes: service.expose.iter().find_map(|port| port.split('/').next()?.parse().ok()),
    }
}

fn first_dependency<'s>(service: &'s Service, stack: &'s Stack) -> Option<&'s str> {
    let data = |name: &&String| {
        let other = stack.services.get(*name);
        other.is_some_and(|other| super::images::keeper_of(other.image_name()).is_some())
    };
    let names = || service.depends_on.keys();
    names().find(|name| !data(name)).or_else(|| names().next()).map(String::as_str)
}

fn published(name: &str, service: &Service, ports: &Ports, seen: &Seen) -> String {
    let Some(route) = ports.routes.iter().find(|route| route.service == name) else {
        return "publishes a port".to_owned();
    };
    match seen.spoken(name, route.port) {
        Some(Spoken::Http { path, status }) => format!("web, {path} answers {status}"),
        Some(_) => "publishes a port, no answer".to_owned(),
        None => match service.health_path() {
            Some(path) => format!("web, checks its own {path}"),
            None => "web".to_owned(),
        },
    }
}

fn public(name: &str, duty: Duty, service: &Service, ports: &Ports) -> String {
    if duty == Duty::Shared {
        return "stays as it is".to_owned();
    }
    let mut parts: Vec<String> = Vec::new();
    for route in ports.routes.iter().filter(|route| route.service == name) {
        parts.push(format!("{}, taken over", route.public));
    }
    for guess in ports.classes.iter().filter(|guess| guess.service == name) {
        parts.push(format!("{}, no longer public", guess.key));
    }
    if parts.is_empty() {
        return if service.ports.is_empty() { "-".to_owned() } else { "?".to_owned() };
    }
    parts.join("; ")
}

/// The best path that answered; else the one that a health check names; else the first page.
fn probe(stack: &Stack, ports: &Ports, seen: &Seen) -> ProbeGuess {
    let several = ports.routes.iter().any(|route| Some(route.public) != first_public(ports));
    let on = |public: u16| several.then_some(public);
    let heard =
        ports.routes.iter().filter_map(|route| match seen.spoken(&route.service, route.port) {
            Some(Spoken::Http { path, status }) if *status < 400 => Some((route, path)),
            _ => None,
        });
    // A path of its own tells more than a first page.
    if let Some((route, path)) = heard.min_by_key(|(_, path)| *path == "/") {
        return ProbeGuess { path: path.clone(), on: on(route.public), answered: true };
    }
    let checked = ports
        .routes
        .iter()
        .find_map(|route| Some((route, stack.services.get(&route.service)?.health_path()?)));
    match checked {
        Some((route, path)) => ProbeGuess { path, on: on(route.public), answered: false },
        None => {
            let on = first_public(ports).and_then(on);
            ProbeGuess { path: "/".to_owned(), on, answered: false }
        }
    }
}

fn first_public(ports: &Ports) -> Option<u16> {
    ports.routes.first().map(|route| route.public)
}

fn env_files(
    folder: &Path,
    stack: &Stack,
    duties: &[(String, Duty)],
    findings: &Findings,
) -> Vec<String> {
    let mut files: BTreeSet<String> = BTreeSet::new();
    if findings.dot_env {
        files.insert(".env".to_owned());
    }
    for (name, _) in duties.iter().filter(|(_, duty)| *duty != Duty::Shared) {
        for file in stack.services.get(name).map(|s| s.env_file.as_slice()).unwrap_or_default() {
            let path = file.path.strip_prefix(folder).unwrap_or(&file.path);
            files.insert(path.display().to_string());
        }
    }
    files.into_iter().collect()
}

/// Networks of somebody else that services with copies are on.
fn networks(stack: &Stack, duties: &[(String, Duty)]) -> Vec<String> {
    let used = |network: &&String| {
        duties.iter().filter(|(_, duty)| *duty != Duty::Shared).any(|(name, _)| {
            stack.services.get(name).is_some_and(|s| s.networks.contains_key(network.as_str()))
        })
    };
    let external = stack.networks.iter().filter(|(_, network)| network.external);
    external.map(|(name, _)| name).filter(used).cloned().collect()
}

/// What the services with two copies use now; `None` when one of them is not known.
fn memory(duties: &[(String, Duty)], seen: &Seen) -> Option<u64> {
    let doubled = duties.iter().filter(|(_, duty)| *duty == Duty::TwoCopies);
    let mut sum = None;
    for (name, _) in doubled {
        let used = seen.services.get(name)?.memory?;
        sum = Some(sum.unwrap_or(0_u64).saturating_add(used));
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::app_name;

    #[test]
    fn any_project_gives_a_name_that_the_file_accepts() {
        for (project, app) in [
            ("shop", "shop"),
            ("My_Shop.2", "my-shop-2"),
            ("2048", "app"),
            ("9lives", "lives"),
            ("shop-blue", "shop"),
            ("", "app"),
        ] {
            assert_eq!(app_name(project), app);
            assert!(cutover_model::AppName::new(app_name(project)).is_ok());
        }
    }
}
