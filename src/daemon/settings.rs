//! From the checked configuration to the small settings of each part.
//!
//! Only the daemon and the command line see `Config`; this is where it ends. Nothing is decided
//! here but what a part needs to know.

mod database;

use std::num::NonZeroUsize;
use std::path::Path;

use cutover_config::{self as config, Config};
use cutover_model::{AppKind, AppName, ByColor, Color, Salt, ServiceName, Split, Step};
use cutover_proxy::message::{
    AppSpec, ColorSpec, CookieSpec, Deadlines, EndpointSpec, PortSpec, RouteSpec, SameSite, Secure,
    Sticky, StripPrefix,
};
use cutover_proxy::{Cidr, Connections, ProxySettings, SigningKey};

use crate::controller::{AppSettings, Carried, MigrationSettings, Prepared, ProbeSettings};
use crate::host::probe::smoke::{Smoke, SmokeKind};
use crate::host::{NetworkClass, PortClass, RoutedPort, StackSettings, VolumeClass};

/// What the data plane is told.
#[must_use]
pub fn proxy(config: &Config, cookie_key: SigningKey) -> ProxySettings {
    let from = &config.proxy;
    let listen = config.listeners.iter().map(|listener| listener.address).collect();
    let mut settings = ProxySettings::new(listen, cookie_key);
    if let Some(workers) = from.workers.and_then(|n| NonZeroUsize::new(usize::from(n))) {
        settings.workers = workers;
    }
    settings.trusted_proxies = from.trusted_proxies.iter().filter_map(cidr).collect();
    settings.override_from = from.override_from.iter().filter_map(cidr).collect();
    if let Some(asked) = from.max_connections {
        let asked = usize::try_from(asked).unwrap_or(usize::MAX);
        settings.limits.connections = Connections::Asked(asked);
    }
    let timeouts = &mut settings.timeouts;
    timeouts.first_byte = from.timeouts.header;
    timeouts.header = from.timeouts.header;
    timeouts.body = from.timeouts.body_progress;
    timeouts.write = from.timeouts.write_stall;
    timeouts.idle = from.timeouts.idle;
    timeouts.tunnel_idle = from.timeouts.tunnel_idle;
    timeouts.upstream_idle = from.timeouts.upstream_idle;
    settings.balancer_path.clone_from(&from.balancer_path);
    if !from.via {
        settings.via = None;
    }
    settings
}

/// What is in force before the first connection is accepted.
pub fn first_tables(settings: &mut ProxySettings, apps: &[Prepared], state: &Path) {
    settings.tables = apps.iter().map(Prepared::first_spec).collect();
    let gates = apps.iter().flat_map(|app| [app.first_gate(state), app.first_hold()]);
    settings.gates = gates.flatten().collect();
}

/// What the controller is told of each app.
#[must_use]
pub fn apps(config: &Config, folder: &Path) -> Vec<AppSettings> {
    config.apps.iter().map(|(name, app)| self::app(config, folder, name, app)).collect()
}

fn app(config: &Config, folder: &Path, name: &AppName, app: &config::App) -> AppSettings {
    let step = |step: &config::RolloutStep| Step {
        weight: step.weight,
        soak_ms: u64::try_from(step.soak.as_millis()).unwrap_or(u64::MAX),
    };
    let (kind, stack, migration) = match &app.kind {
        config::AppKind::Static(_) => (AppKind::Static, None, None),
        config::AppKind::Compose(compose) => (
            AppKind::Compose,
            Some(stack(config, folder, name, app, compose)),
            compose.migrations.as_ref().map(|migrations| MigrationSettings {
                service: migrations.service.clone(),
                command: migrations.command.clone(),
                down: migrations.down.clone(),
                down_command: migrations.down_command.clone(),
                status_command: migrations.status_command.clone(),
            }),
        ),
    };
    AppSettings {
        app: name.clone(),
        kind,
        spec: spec(config, name, app),
        ports: ports(config, app),
        carried: carried(app),
        stack,
        steps: app.rollout.steps.iter().map(step).collect(),
        max_error_rate: app.rollout.max_error_rate,
        probe: probe(&app.probe),
        smoke: app.smoke.iter().map(|from| smoke(from, folder)).collect(),
        migration,
        database: database::database(config, name, app),
        drain: config.proxy.drain_deadline,
    }
}

/// The ports of the listeners that one of the app's routes can be reached by.
fn ports(config: &Config, app: &config::App) -> Vec<u16> {
    let is_reached =
        |port: &u16| app.routes.iter().any(|route| route.on.is_none_or(|on| on == *port));
    let ports = config.listeners.iter().map(|listener| listener.address.port());
    let ports: std::collections::BTreeSet<u16> = ports.filter(is_reached).collect();
    ports.into_iter().collect()
}

fn probe(from: &config::Probe) -> ProbeSettings {
    let host = from.host.as_ref().map(|host| host.as_str().to_owned());
    // On a color's own address the port in `Host` says which listener is meant.
    let host = match from.on {
        Some(on) => Some(format!("{}:{on}", host.as_deref().unwrap_or("localhost"))),
        None => host,
    };
    ProbeSettings {
        host,
        path: from.path.clone(),
        expect: from.expect.iter().map(|range| range.first..=range.last).collect(),
        attempts: from.attempts,
        passes: from.passes,
        interval: from.interval,
        timeout: from.timeout,
    }
}

fn smoke(from: &config::Smoke, folder: &Path) -> Smoke {
    let kind = match &from.kind {
        config::SmokeKind::Http { path, host, expect, body } => SmokeKind::Http {
            path: path.clone(),
            host: host.as_ref().map(|host| host.as_str().to_owned()),
            expect: expect.iter().map(|range| range.first..=range.last).collect(),
            body: body.clone(),
        },
        config::SmokeKind::Command(words) => {
            SmokeKind::Command { words: words.clone(), folder: folder.to_owned() }
        }
    };
    Smoke { name: from.name.clone(), kind, timeout: from.timeout }
}

fn spec(config: &Config, name: &AppName, app: &config::App) -> AppSpec {
    let timeouts = &config.proxy.timeouts;
    let mut colors = ByColor::<ColorSpec>::default();
    if let config::AppKind::Static(endpoints) = &app.kind {
        for color in Color::BOTH {
            colors.get_mut(color).upstreams = endpoints
                .of(color)
                .iter()
                .map(|(service, addresses)| (service.clone(), fixed(addresses)))
                .collect();
        }
    }
    AppSpec {
        app: name.clone(),
        routes: app.routes.iter().map(route).collect(),
        split: Split::all(Color::Blue),
        salt: Salt(0),
        colors,
        sticky: sticky(&app.sticky, &config.proxy.cookie),
        deadlines: Deadlines {
            connect: timeouts.upstream_connect,
            answer: timeouts.upstream_response,
            progress: timeouts.upstream_progress,
        },
        ports: app.tcp.iter().map(port_spec).collect(),
    }
}

fn port_spec(from: &config::TcpPort) -> PortSpec {
    PortSpec { service: from.service.clone(), port: from.port.unwrap_or(0) }
}

/// Each address at which connections are carried, and where to.
fn carried(app: &config::App) -> Vec<Carried> {
    let of = |port: &config::TcpPort| {
        let to = port_spec(port);
        let addresses = port.listen.clone().into_iter();
        addresses.map(move |address| Carried { address, to: to.clone() })
    };
    app.tcp.iter().flat_map(of).collect()
}

fn fixed(addresses: &[std::net::SocketAddr]) -> Vec<EndpointSpec> {
    let spec = |address: &std::net::SocketAddr| EndpointSpec {
        id: address.to_string(),
        ip: address.ip(),
        port: Some(address.port()),
    };
    addresses.iter().map(spec).collect()
}

fn route(from: &config::Route) -> RouteSpec {
    RouteSpec {
        host: from.host.as_ref().map(|host| host.as_str().to_owned()),
        path: from.path.as_str().to_owned(),
        on: from.on,
        service: from.service.clone(),
        port: from.port.unwrap_or(0),
        strip_prefix: match from.strip_prefix {
            true => StripPrefix::Strip,
            false => StripPrefix::Keep,
        },
    }
}

fn sticky(from: &config::Sticky, cookie: &config::Cookie) -> Sticky {
    match from {
        config::Sticky::Cookie => Sticky::Cookie(CookieSpec {
            domain: cookie.domain.as_ref().map(|host| host.as_str().to_owned()),
            secure: match cookie.secure {
                config::Secure::Auto => Secure::Auto,
                config::Secure::Always => Secure::Always,
                config::Secure::Never => Secure::Never,
            },
            same_site: match cookie.same_site {
                config::SameSite::Lax => SameSite::Lax,
                config::SameSite::Strict => SameSite::Strict,
                config::SameSite::None => SameSite::None,
            },
        }),
        config::Sticky::Ip => Sticky::Ip,
        config::Sticky::Header(name) => Sticky::Header(name.clone()),
        config::Sticky::Off => Sticky::Off,
    }
}

fn cidr(network: &config::Network) -> Option<Cidr> {
    network.to_string().parse().ok()
}

fn stack(
    config: &Config,
    folder: &Path,
    name: &AppName,
    app: &config::App,
    compose: &config::Compose,
) -> StackSettings {
    let state = config.state.path.join("apps").join(name.as_str());
    let mut stack = StackSettings::new(name.clone(), folder.to_owned(), state);
    stack.compose_files.clone_from(&compose.files);
    stack.operators_project.clone_from(&compose.project);
    stack.profiles.clone_from(&compose.profiles);
    stack.shared.clone_from(&compose.shared);
    stack.singletons.clone_from(&compose.singletons);
    stack.jobs.clone_from(&compose.jobs);
    stack.env_files.clone_from(&compose.env_files);
    stack.env.pin.clone_from(&compose.env.pin);
    stack.env.follow.clone_from(&compose.env.follow);
    stack.blank_ok.clone_from(&compose.blank_ok);
    stack.database = app.database.as_ref().and_then(|database| match &database.at {
        config::DatabaseAt::Service { service, .. } => {
            Some((service.clone(), database.name.as_str().to_owned()))
        }
        config::DatabaseAt::Host { .. } => None,
    });
    let volume = |(name, class): (&String, &config::VolumeClass)| {
        let class = match class {
            config::VolumeClass::Shared => VolumeClass::Shared,
            config::VolumeClass::PerColor => VolumeClass::PerColor,
            config::VolumeClass::ReadOnly => VolumeClass::ReadOnly,
        };
        (name.clone(), class)
    };
    stack.volumes = compose.volumes.iter().map(volume).collect();
    let port = |(key, class): (&config::PortKey, &config::PortClass)| {
        let class = match class {
            config::PortClass::Tcp => PortClass::Tcp,
            config::PortClass::Drop => PortClass::Drop,
        };
        (key.to_string(), class)
    };
    stack.ports = compose.ports.iter().map(port).collect();
    let inside = |port: &config::TcpPort| Some(format!("{}:{}", port.service, port.port?));
    stack.ports.extend(app.tcp.iter().filter_map(inside).map(|key| (key, PortClass::Tcp)));
    let network = |(name, class): (&String, &config::NetworkClass)| {
        let class = match class {
            config::NetworkClass::Join => NetworkClass::Join,
            config::NetworkClass::Drop => NetworkClass::Drop,
        };
        (name.clone(), class)
    };
    stack.networks = compose.networks.iter().map(network).collect();
    stack.routed = app.routes.iter().filter_map(routed).collect();
    stack
}

fn routed(route: &config::Route) -> Option<RoutedPort> {
    let service: ServiceName = route.service.clone();
    Some(RoutedPort { service, port: route.port? })
}
