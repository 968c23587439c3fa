//! What a deploy's rehearsal needs to know of what serves, and what is put back after one that did
//! not lead to a release.

use std::sync::Arc;

use cutover_model::{Actor, Applied, Color, Fact, LineLevel, OperationId, ReleaseId, ServiceName};
use cutover_proxy::message::{RouteSpec, StripPrefix};

use super::App;
use crate::host::probe::smoke::{Smoke, SmokeKind};
use crate::reconciler::{Former, ProbeTarget, Work};

impl App {
    /// What serves beside the color that a deploy makes; `None`: nothing.
    pub(in crate::controller) fn former(
        &self,
        color: Color,
        probe: Option<&ProbeTarget>,
    ) -> Option<Former> {
        let color = color.other();
        let release = (*self.state().colors.get(color))?;
        let target = probe?.clone();
        let app = self.settings();
        let routes = &app.spec.routes;
        let host = target.host.as_deref();
        let service = reached(routes, host, &target.path);
        let same = |smoke: &&Smoke| match &smoke.kind {
            SmokeKind::Http { path, host: own, .. } => {
                let asked = reached(routes, own.as_deref().or(host), path);
                asked.is_ok() && asked == service
            }
            SmokeKind::Command { .. } => false,
        };
        let smoke = app.smoke.iter().filter(same).cloned().collect();
        Some(Former { release, color, service, target, smoke })
    }

    /// Containers and copies of a rehearsal go, and the restore point of a migration that never
    /// was.
    pub(super) async fn end_rehearsal(
        self: &Arc<Self>,
        operation: OperationId,
        release: ReleaseId,
        color: Color,
    ) {
        let settings = self.settings();
        let (Some(reconciler), Some(stack)) = (&self.shared.reconciler, &settings.stack) else {
            return;
        };
        if settings.migration.is_none() || settings.database.is_none() {
            return;
        }
        let Ok(database) = self.database(operation).await else { return };
        // After a kill others end what this operation left running, too.
        let _turn = self.database_turn().await;
        let mut work = Work::new(self.name.clone());
        work.projects = self.projects();
        work.database = Some(database.clone());
        let state = self.state();
        let was_begun = state.migrated.get(&release).is_some_and(|m| m.state != Applied::No);
        if !was_begun {
            // What runs on of it then has met a copy only.
            work.release = Some((release, color));
            work.migration = settings
                .migration
                .as_ref()
                .map(|migration| (migration.service.clone(), migration.command.clone()));
        }
        let probe = self.probe_target(color).await.ok().flatten();
        work.former = self.former(color, probe.as_ref());
        if let Err(why) = reconciler.end_rehearsal(stack, &work).await {
            let text = format!("something of the rehearsal is still there: {why}");
            self.say(Some(operation), LineLevel::Error, "rehearsal", text);
        }
        let Some(point) = state.points.get(&release).filter(|_| !was_begun) else { return };
        // A command that was cut off may have met the live database instead of the copy.
        if reconciler.has_rows_of(stack, (release, color), &point.name).await != Some(true) {
            let text = format!(
                "{} is kept: nothing says that the live database was not migrated",
                point.name
            );
            self.say(Some(operation), LineLevel::Note, "restore point", text);
            return;
        }
        match database.drop_point(release).await {
            Ok(()) => self.note(&Actor::daemon(), vec![Fact::PointGone { release }]),
            Err(trouble) => {
                let text = format!("the restore point before {release} is still there: {trouble}");
                self.say(Some(operation), LineLevel::Note, "restore point", text);
            }
        }
    }
}

/// The service and the port inside that a request reaches.
fn reached(
    routes: &[RouteSpec],
    host: Option<&str>,
    path: &str,
) -> Result<(ServiceName, u16), String> {
    let (host, on) = match host.map(|host| (host, host.rsplit_once(':'))) {
        Some((_, Some((name, port)))) => (Some(name), port.parse::<u16>().ok()),
        Some((host, None)) => (Some(host), None),
        None => (None, None),
    };
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let fits = |route: &&RouteSpec| {
        let prefix = route.path.trim_end_matches('/');
        let rest = path.strip_prefix(prefix);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            && (on.is_none() || route.on.is_none() || route.on == on)
    };
    let fitting: Vec<&RouteSpec> = routes.iter().filter(fits).collect();
    // A host that any route names is never served by those that name none.
    let is_named = routes.iter().any(|route| route.host.is_some() && route.host.as_deref() == host);
    let of_host = |route: &&&RouteSpec| match is_named {
        true => route.host.as_deref() == host,
        false => route.host.is_none(),
    };
    let longest = fitting.iter().filter(of_host).max_by_key(|route| route.path.len());
    match longest {
        None => Err(format!("no route leads {path} to a service")),
        Some(route) if route.strip_prefix == StripPrefix::Strip => {
            Err(format!("the route of {path} takes its prefix away"))
        }
        Some(route) => Ok((route.service.clone(), route.port)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(host: Option<&str>, path: &str, service: &str) -> RouteSpec {
        RouteSpec {
            host: host.map(str::to_owned),
            path: path.to_owned(),
            on: None,
            service: service.parse().unwrap(),
            port: 80,
            strip_prefix: StripPrefix::Keep,
        }
    }

    #[test]
    fn a_probe_reaches_the_service_that_a_client_would() {
        let routes = [
            route(None, "/", "page"),
            route(None, "/api", "backend"),
            route(Some("admin.example"), "/", "admin"),
        ];
        let to = |host, path| reached(&routes, host, path).map(|(service, _)| service.to_string());
        assert_eq!(to(None, "/api/health?x=1").as_deref(), Ok("backend"));
        assert_eq!(to(Some("localhost"), "/apis").as_deref(), Ok("page"));
        assert_eq!(to(Some("admin.example"), "/api").as_deref(), Ok("admin"));
        assert!(reached(&[], None, "/").is_err());
    }
}
