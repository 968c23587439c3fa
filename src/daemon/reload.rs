//! HUP: the operator's file is read again, and all of it counts or nothing.
//!
//! A file with problems is refused, and so is one that changes what only a start can change: the
//! old settings stay. [`needs_restart`] says which parts these are. What an app serves is replaced
//! in one step for each app; a route that goes from one app to another needs a restart.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cutover_config::{Config, Paint};
use cutover_model::{AppName, LineLevel};
use cutover_proxy::Proxy;
use cutover_proxy::message::RouteSpec;

use super::{pages, settings};
use crate::controller::{AppSettings, Controller};

/// What a reload needs to know.
#[derive(Debug)]
pub struct Reload {
    file: PathBuf,
    /// The socket that the file named at the start; the one in use may come from the command line.
    named_socket: Option<PathBuf>,
    proxy: Arc<Proxy>,
    now: Mutex<Config>,
}

impl Reload {
    /// From the configuration that the daemon starts with.
    #[must_use]
    pub fn new(config: &Config, file: &Path, proxy: Arc<Proxy>) -> Self {
        let loaded = cutover_config::load(file, std::env::vars()).ok();
        let named_socket = loaded.map(|loaded| loaded.config.admin.socket);
        Self { file: file.to_owned(), named_socket, proxy, now: Mutex::new(config.clone()) }
    }

    /// How long open requests may take at the end, by the file in force.
    #[must_use]
    pub fn drain(&self) -> Duration {
        self.now.lock().unwrap_or_else(PoisonError::into_inner).proxy.drain_deadline
    }

    /// Reads the file and takes it, or refuses it and changes nothing; both are said to every app.
    pub fn run(&self, controller: &Controller) {
        let (level, text) = match self.take(controller) {
            Ok(warnings) => {
                let text = format!("{} was read again and is in force", self.file.display());
                tracing::info!(%warnings, "{text}");
                (LineLevel::Step, text)
            }
            Err(why) => {
                let text = format!(
                    "{} is refused, the settings stay as they were: {why}",
                    self.file.display()
                );
                tracing::error!("{text}");
                (LineLevel::Error, text)
            }
        };
        for app in controller.apps() {
            app.say(None, level, "reload", text.clone());
        }
    }

    fn take(&self, controller: &Controller) -> Result<String, String> {
        let loaded = cutover_config::load(&self.file, std::env::vars())
            .map_err(|problems| problems.render(Paint::Plain).trim_end().to_owned())?;
        let mut config = loaded.config;
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        if self.named_socket.as_ref() == Some(&config.admin.socket) {
            config.admin.socket.clone_from(&now.admin.socket);
        }
        let folder = self.file.parent().map_or_else(|| PathBuf::from("/"), Path::to_owned);
        let (before, after) = (settings::apps(&now, &folder), settings::apps(&config, &folder));
        let mut parts = needs_restart(&now, &config);
        parts.extend(apps_need_restart(&before, &after));
        if !parts.is_empty() {
            return Err(format!("needs a restart: {}", parts.join(", ")));
        }
        let (own_pages, unreadable) = pages::read(&config);
        if !unreadable.is_empty() {
            return Err(unreadable.join("; "));
        }
        replace(controller, after)?;
        self.proxy.set_pages(&own_pages);
        *now = config;
        Ok(loaded.warnings.to_string())
    }
}

/// All apps, or none: what was replaced is put back when a later one is refused.
fn replace(controller: &Controller, settings: Vec<AppSettings>) -> Result<(), String> {
    let mut done = Vec::new();
    for settings in settings {
        let name = settings.app.clone();
        let app = controller.app(Some(name.as_str())).map_err(|failure| failure.to_string())?;
        match app.reload(settings) {
            Ok(before) => done.push((Arc::clone(app), before)),
            Err(refused) => {
                for (app, before) in done {
                    if let Err(error) = app.reload(AppSettings::clone(&before)) {
                        tracing::error!(app = %app.name, %error, "the former settings");
                    }
                }
                return Err(refused.to_string());
            }
        }
    }
    Ok(())
}

/// The parts of the file, outside of the apps, that differ and that only a start can change.
#[must_use]
pub fn needs_restart(now: &Config, new: &Config) -> Vec<String> {
    let (old_timeouts, timeouts) = (&now.proxy.timeouts, &new.proxy.timeouts);
    let client = |t: &cutover_config::Timeouts| {
        [t.header, t.body_progress, t.write_stall, t.idle, t.upstream_idle, t.tunnel_idle]
    };
    let (old, proxy) = (&now.proxy, &new.proxy);
    let parts = [
        ("[[listen]]", now.listeners != new.listeners),
        ("[proxy] workers", old.workers != proxy.workers),
        ("[proxy] trusted_proxies", old.trusted_proxies != proxy.trusted_proxies),
        ("[proxy] override_from", old.override_from != proxy.override_from),
        ("[proxy] max_connections", old.max_connections != proxy.max_connections),
        ("[proxy] via", old.via != proxy.via),
        ("[proxy] balancer_path", old.balancer_path != proxy.balancer_path),
        ("[proxy] access_log", old.access_log != proxy.access_log),
        ("[proxy.timeouts] of clients", client(old_timeouts) != client(timeouts)),
        ("[admin]", now.admin != new.admin),
        ("[state]", now.state != new.state),
    ];
    parts.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name.to_owned()).collect()
}

/// The same of the apps.
fn apps_need_restart(now: &[AppSettings], new: &[AppSettings]) -> Vec<String> {
    let names = |apps: &[AppSettings]| -> BTreeSet<AppName> {
        apps.iter().map(|app| app.app.clone()).collect()
    };
    let (old_names, new_names) = (names(now), names(new));
    let mut parts: Vec<String> = Vec::new();
    parts.extend(new_names.difference(&old_names).map(|app| format!("[apps.{app}] is new")));
    parts.extend(old_names.difference(&new_names).map(|app| format!("[apps.{app}] is gone")));
    for app in new {
        let Some(before) = now.iter().find(|known| known.app == app.app) else { continue };
        if before.kind != app.kind {
            parts.push(format!("[apps.{}] is of another kind", app.app));
        }
        if before.ports != app.ports {
            parts.push(format!("[apps.{}] is reached by other ports", app.app));
        }
        let project =
            |app: &AppSettings| app.stack.as_ref().and_then(|s| s.operators_project.clone());
        if project(before) != project(app) {
            parts.push(format!("[apps.{}] project", app.app));
        }
        if before.carried != app.carried {
            parts.push(format!("[[apps.{}.tcp]]", app.app));
        }
        let others = now.iter().filter(|known| known.app != app.app);
        for other in others.filter(|other| other.spec.routes.iter().any(|r| has(app, r))) {
            parts.push(format!("a route goes from \"{}\" to \"{}\"", other.app, app.app));
        }
    }
    parts
}

fn has(app: &AppSettings, route: &RouteSpec) -> bool {
    let same = |own: &RouteSpec| {
        let path = |route: &RouteSpec| route.path.trim_end_matches('/').to_owned();
        own.host == route.host && own.on == route.on && path(own) == path(route)
    };
    app.spec.routes.iter().any(same)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str = "version = 1\n[[listen]]\naddress = \"127.0.0.1:8080\"\n";

    fn config(head: &str, apps: &str) -> Config {
        let text = format!("{BASE}{head}{apps}");
        cutover_config::parse(&text, "cutover.toml", Path::new("/srv/shop"), []).unwrap().0
    }

    fn app(name: &str, path: &str) -> String {
        format!(
            "[apps.{name}.endpoints]\nblue = {{ web = [\"127.0.0.1:1\"] }}\n\
             green = {{ web = [\"127.0.0.1:2\"] }}\n\
             [[apps.{name}.routes]]\nservice = \"web\"\npath = \"{path}\"\n\
             [apps.{name}.probe]\npath = \"{path}\"\n"
        )
    }

    fn differences(now: &Config, new: &Config) -> Vec<String> {
        let apps = |config| settings::apps(config, Path::new("/srv/shop"));
        let mut parts = needs_restart(now, new);
        parts.extend(apps_need_restart(&apps(now), &apps(new)));
        parts
    }

    #[test]
    fn what_an_app_serves_and_how_it_is_deployed_needs_no_restart() {
        let now = config("", &app("shop", "/"));
        let more = format!(
            "{}interval = \"3s\"\n[[apps.shop.routes]]\nservice = \"web\"\npath = \"/new\"\n",
            app("shop", "/")
        );
        let head = "[proxy]\nsticky = \"ip\"\ndrain_deadline = \"5s\"\n\
                    [proxy.timeouts]\nupstream_response = \"7s\"\n";
        let new = config(head, &more);
        assert_ne!(now, new);
        assert!(differences(&now, &new).is_empty(), "{:?}", differences(&now, &new));
    }

    #[test]
    fn what_only_a_start_can_change_is_named() {
        let now = config("", &app("shop", "/"));
        for (head, apps, named) in [
            ("[proxy]\nworkers = 7\n", app("shop", "/"), "[proxy] workers"),
            ("[proxy]\ntrusted_proxies = [\"10.0.0.1\"]\n", app("shop", "/"), "trusted_proxies"),
            ("[state]\npath = \"/srv/other\"\n", app("shop", "/"), "[state]"),
            ("[proxy.timeouts]\nheader = \"3s\"\n", app("shop", "/"), "[proxy.timeouts]"),
            ("", app("other", "/"), "[apps.other] is new"),
            ("", app("shop", "/") + &app("other", "/x"), "[apps.other] is new"),
        ] {
            let parts = differences(&now, &config(head, &apps));
            assert!(parts.iter().any(|part| part.contains(named)), "{named}: {parts:?}");
        }
    }

    #[test]
    fn a_route_that_goes_to_another_app_is_refused() {
        let now = config("", &(app("shop", "/") + &app("wiki", "/wiki")));
        let new = config("", &(app("shop", "/wiki") + &app("wiki", "/w")));
        let parts = differences(&now, &new);
        assert_eq!(parts, ["a route goes from \"wiki\" to \"shop\""]);
    }
}
