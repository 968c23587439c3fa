//! Endpoints: what Docker shows of a color becomes what the table says of it.
//!
//! Traffic goes to a proven endpoint, never to a name: container id, address, pid with start ticks
//! and boot id. Docker's events say when to look again, `/proc` says every few seconds whether what
//! is in the table still is what it was; Docker being away takes nothing out of the table.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cutover_model::{
    Actor, ByColor, Color, Fact, LineLevel, ReleaseId, ReleaseState, ServiceName, Weight,
};
use cutover_proxy::message::{AppSpec, Change, EndpointSpec, Publish};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::App;
use crate::host::docker::Notice;
use crate::host::{Endpoint, Proof, StackSettings, prove};
use crate::reconciler::{Ended, Looked, ProbeTarget, Reconciler};

/// How often `/proc` is asked about every endpoint.
const PROVE: Duration = Duration::from_secs(5);

/// How often Docker is asked although it told nothing.
const LOOK: Duration = Duration::from_secs(30);

/// The proven endpoints of one color, by service.
pub type Endpoints = BTreeMap<ServiceName, Vec<Endpoint>>;

/// The order in which Docker was asked, for each color: two look at once where an operation has
/// started a container and its event comes, too.
#[derive(Debug, Default)]
pub(super) struct Looks {
    begun: AtomicU64,
    newest: Mutex<ByColor<u64>>,
}

impl Looks {
    /// A look begins; before Docker is asked.
    fn begin(&self) -> u64 {
        self.begun.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Uses what a look has found, unless a later one was used already: what it saw is older, and
    /// would stay for [`LOOK`].
    fn use_in_order(&self, color: Color, look: u64, used: impl FnOnce()) {
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        if look > *newest.get(color) {
            *newest.get_mut(color) = look;
            used();
        }
    }
}

impl App {
    /// The proven endpoints, to be kept with the last good table.
    #[must_use]
    pub fn endpoints(&self) -> ByColor<Endpoints> {
        self.endpoints.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The compose project of what is in each color.
    pub(super) fn projects(&self) -> ByColor<Option<String>> {
        let state = self.state();
        let project = |color: Color| {
            let release = (*state.colors.get(color))?;
            Some(state.standing(release)?.release.project.clone())
        };
        ByColor { blue: project(Color::Blue), green: project(Color::Green) }
    }

    /// The color's own address on loopback.
    ///
    /// # Errors
    /// A text, when no such listener could be opened.
    pub fn color_address(&self, color: Color) -> Result<SocketAddr, String> {
        self.color_addresses
            .get(color)
            .ok_or_else(|| format!("{color} has no address of its own on loopback"))
    }

    /// Where the readiness probe of a color goes: through the proxy, by the color's own address.
    pub(super) async fn probe_target(&self, color: Color) -> Result<Option<ProbeTarget>, String> {
        let app = self.settings();
        let settings = &app.probe;
        let address = self.color_address(color)?;
        let host = settings
            .host
            .clone()
            .or_else(|| app.spec.routes.iter().find_map(|route| route.host.clone()));
        Ok(Some(ProbeTarget {
            address,
            host,
            path: settings.path.clone(),
            expect: settings.expect.clone(),
            attempts: settings.attempts,
            passes: settings.passes,
            interval: settings.interval,
            timeout: settings.timeout,
        }))
    }

    /// Asks Docker for a color's containers and publishes their addresses.
    pub(super) async fn look_at(&self, color: Color) {
        let (Some(reconciler), Some(stack)) = (&self.shared.reconciler, self.stack()) else {
            return;
        };
        // What is in which color is the journal's to say; until then what is known goes on.
        if self.untrusted().is_some() {
            return;
        }
        let Some(project) = self.projects().get(color).clone() else {
            self.publish_endpoints(color, Endpoints::new());
            self.note_ended(color, Vec::new());
            return;
        };
        let look = self.looks.begin();
        match reconciler.endpoints(&stack, &project).await {
            // It is there, and goes on or is replaced in a moment.
            Ok(_) if self.is_frozen(color) => {}
            Ok(Looked { endpoints, ended }) => {
                self.looks.use_in_order(color, look, || {
                    let is_empty = endpoints.is_empty();
                    self.note_ended(color, ended);
                    self.publish_endpoints(color, endpoints);
                    self.note_warmth(color, is_empty);
                });
            }
            Err(why) => {
                let app = &self.name;
                tracing::warn!(%app, %color, %why, "endpoints are kept as known");
            }
        }
    }

    /// Takes out of the table what `/proc` says is gone. What it cannot say stays.
    pub(super) fn prove_all(&self) {
        for color in Color::BOTH {
            let known = self.endpoints().get(color).clone();
            let mut proven = known.clone();
            for endpoints in proven.values_mut() {
                endpoints.retain(|endpoint| prove(endpoint) != Proof::Gone);
            }
            if proven != known {
                self.publish_endpoints(color, proven);
            }
        }
    }

    /// Publishes what changed, keeps it for the last good table.
    pub(super) fn publish_endpoints(&self, color: Color, found: Endpoints) {
        let mut kept = self.endpoints.lock().unwrap_or_else(PoisonError::into_inner);
        if *kept.get(color) == found {
            return;
        }
        // Held over the publish, which touches memory only: what is kept is what was published.
        let settings = self.settings();
        let mut changes = endpoint_changes(&settings.spec, color, &found);
        let release = *self.state().colors.get(color);
        changes.push(Change::Release { color, release });
        *kept.get_mut(color) = found;
        let publish = Publish { app: self.name.clone(), changes, based_on: None };
        if let Err(refused) = self.shared.proxy.switch().apply(publish) {
            tracing::error!(%refused, "endpoints could not be published");
        }
        drop(kept);
        self.shared.tables_changed.notify_one();
    }

    /// Why containers that clients should meet do not run any more: told once, while nobody works
    /// on them.
    fn note_ended(&self, color: Color, found: Vec<Ended>) {
        let settings = self.settings();
        let is_routed = |service: &str| {
            settings.spec.routes.iter().any(|route| route.service.as_str() == service)
        };
        // A job has ended well; what has a route should never.
        let matters = found.into_iter().filter(|e| e.code != 0 || is_routed(&e.service));
        let found: BTreeSet<String> = matters.map(|ended| ended.told).collect();
        let former = {
            let mut kept = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(kept.get_mut(color), found.clone())
        };
        let state = self.state();
        if state.split.share(color) == Weight::ZERO || state.changing().is_some() {
            return;
        }
        for line in found.difference(&former) {
            self.say(None, LineLevel::Error, "ended", line.clone());
        }
    }

    /// Why containers of the colors that clients meet do not run.
    #[must_use]
    pub fn ended(&self) -> Vec<String> {
        let state = self.state();
        let kept = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        let met = Color::BOTH.into_iter().filter(|c| state.split.share(*c) > Weight::ZERO);
        met.flat_map(|color| kept.get(color).iter().cloned()).collect()
    }

    /// A release that has nothing left to serve with counts as stopped: a rollback to it starts and
    /// probes it before it moves anybody.
    fn note_warmth(&self, color: Color, is_empty: bool) {
        let state = self.state();
        let Some(release) = *state.colors.get(color) else { return };
        if !is_empty || state.release_state(release) != ReleaseState::Warm {
            return;
        }
        let stopped = Fact::ReleaseIs { release, state: ReleaseState::Stopped };
        self.note(&Actor::daemon(), vec![stopped]);
        let text = format!("{release} in {color}: no container of it can serve any more");
        self.say(None, LineLevel::Error, "stopped", text);
    }

    /// Follows Docker and `/proc` until the daemon stops.
    pub(super) async fn follow_endpoints(self: Arc<Self>, stop: CancellationToken) {
        let (Some(reconciler), Some(stack)) = (self.shared.reconciler.clone(), self.stack()) else {
            return;
        };
        let mut projects = self.watched(&stack);
        let mut notices = reconciler.watch(&stack, projects.clone());
        let mut prove = tokio::time::interval(PROVE);
        let mut look = tokio::time::interval(LOOK);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = prove.tick() => self.prove_all(),
                _ = look.tick() => self.look_at_both().await,
                notice = notices.next() => match notice {
                    Some(notice) => {
                        // Whatever /proc can say already is taken out before Docker is asked.
                        self.prove_all();
                        tracing::debug!(?notice, "docker told of a change");
                        if self.is_habit(&notice) {
                            self.habits.notify_one();
                        }
                        self.look_at_both().await;
                    }
                    None => {
                        tracing::error!("docker's events ended; looking every {LOOK:?}");
                        notices = reconciler.watch(&stack, projects.clone());
                    }
                },
            }
            let now = self.watched(&stack);
            if now != projects {
                notices = reconciler.watch(&stack, now.clone());
                projects = now;
            }
        }
    }

    /// Whether the operator's own project may have to be looked at.
    fn is_habit(&self, notice: &Notice) -> bool {
        match notice {
            Notice::Relist => true,
            Notice::Container { project, action, .. } => {
                action == "start" && self.operators_project.get() == Some(project)
            }
            Notice::Away { .. } | Notice::Network { .. } => false,
        }
    }

    /// The compose projects whose containers matter: both colors' and the operator's own.
    fn watched(&self, stack: &StackSettings) -> Vec<String> {
        let known = self.projects();
        let all = Color::BOTH.into_iter().flat_map(|color| {
            [Some(stack.project(color)), known.get(color).clone()].into_iter().flatten()
        });
        let all: BTreeSet<String> = all.chain(self.operators_project.get().cloned()).collect();
        all.into_iter().collect()
    }

    /// The newest log lines of what is in a color.
    ///
    /// # Errors
    /// Why they could not be read.
    pub async fn logs(
        &self,
        color: Color,
        service: Option<&str>,
        tail: usize,
    ) -> Result<Vec<(String, String)>, String> {
        let (reconciler, stack, project, release) = self.log_source(color)?;
        reconciler.logs(&stack, (&project, release), service, tail).await
    }

    /// The same, and every line that comes, until the containers end or nobody reads.
    ///
    /// # Errors
    /// Why they could not be read.
    pub async fn follow_logs(
        &self,
        color: Color,
        service: Option<&str>,
        tail: usize,
    ) -> Result<mpsc::Receiver<(String, String)>, String> {
        let (reconciler, stack, project, release) = self.log_source(color)?;
        reconciler.follow_logs(&stack, (&project, release), service, tail).await
    }

    fn log_source(
        &self,
        color: Color,
    ) -> Result<(&Reconciler, StackSettings, String, ReleaseId), String> {
        let (Some(reconciler), Some(stack)) = (&self.shared.reconciler, self.stack()) else {
            return Err("this app has fixed endpoints: its logs are elsewhere".to_owned());
        };
        let release = *self.state().colors.get(color);
        match (self.projects().get(color).clone(), release) {
            (Some(project), Some(release)) => Ok((reconciler, stack, project, release)),
            _ => Err(format!("{color} is empty")),
        }
    }

    async fn look_at_both(&self) {
        for color in Color::BOTH {
            self.look_at(color).await;
        }
    }
}

/// What the table is told of a color's endpoints: those of the services that routes and ports name.
pub(super) fn endpoint_changes(spec: &AppSpec, color: Color, found: &Endpoints) -> Vec<Change> {
    let routed = spec.routes.iter().map(|route| &route.service);
    let carried = spec.ports.iter().map(|port| &port.service);
    let services: BTreeSet<&ServiceName> = routed.chain(carried).collect();
    let change = |service: &ServiceName| {
        let endpoints = specs(found.get(service).map_or(&[], Vec::as_slice));
        Change::Endpoints { color, service: service.clone(), endpoints }
    };
    services.into_iter().map(change).collect()
}

/// Endpoints as the table wants them.
pub(super) fn specs(endpoints: &[Endpoint]) -> Vec<EndpointSpec> {
    let spec = |endpoint: &Endpoint| EndpointSpec {
        id: endpoint.container.clone(),
        ip: endpoint.ip,
        port: None,
    };
    endpoints.iter().map(spec).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_seen_earlier_never_replaces_what_was_seen_later() {
        let (looks, mut seen) = (Looks::default(), Vec::new());
        let (before, after) = (looks.begin(), looks.begin());
        // The one that was begun later comes back first.
        looks.use_in_order(Color::Blue, after, || seen.push("there"));
        looks.use_in_order(Color::Blue, before, || seen.push("not there yet"));
        assert_eq!(seen, ["there"]);
        looks.use_in_order(Color::Green, before, || seen.push("green"));
        assert_eq!(seen, ["there", "green"], "each color has an order of its own");
    }
}
