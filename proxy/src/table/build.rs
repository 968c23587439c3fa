//! How a table is made from the one before and the changes of one app.
//!
//! Pure but for the registry, which hands out the handles that outlive tables: endpoints keep their
//! load and idle connections, series keep their counts. Invariant: an app that was not changed is
//! the same `Arc` in the new table.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use cutover_model::{AppName, Color, Generation, ReleaseId, ServiceName};

use super::routes::{Place, normal};
use super::{AppTable, ColorTable, Leases, PathIndex, RouteIndex, RouteTable, Table};
use crate::gate::Gates;
use crate::message::{AppSpec, ByColor, Change, ColorSpec, PortSpec, Refused, RouteSpec};
use crate::signals::Series;
use crate::upstream::{Endpoint, Upstream};

/// Releases whose counts are kept for each color of each app; older ones are dropped (I11).
const SERIES_KEPT: usize = 16;

type SeriesList = Vec<Arc<Series>>;

/// Handles that outlive a table.
#[derive(Debug)]
pub(crate) struct Registry {
    pub(crate) workers: usize,
    series: Mutex<HashMap<(AppName, Color), SeriesList>>,
    pub(crate) gates: Gates,
}

impl Registry {
    pub(crate) fn new(workers: usize) -> Self {
        Self { workers, series: Mutex::default(), gates: Gates::default() }
    }

    fn series(&self, app: &AppName, color: Color, release: Option<ReleaseId>) -> Arc<Series> {
        let mut all = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        let list = all.entry((app.clone(), color)).or_default();
        if let Some(at) = list.iter().position(|series| series.release == release) {
            // The newest stays last: the one that is dropped is the one that served longest ago.
            let series = list.remove(at);
            list.push(series.clone());
            return series;
        }
        let series = Arc::new(Series::new(app.clone(), color, release, self.workers));
        list.push(series.clone());
        if list.len() > SERIES_KEPT {
            list.remove(0);
        }
        series
    }

    pub(crate) fn each_series(&self, mut look: impl FnMut(&Series)) {
        let all = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        let mut keys: Vec<_> = all.keys().cloned().collect();
        keys.sort();
        for series in keys.iter().filter_map(|key| all.get(key)).flatten() {
            look(series);
        }
    }
}

/// The table before any publish but the ones of the settings.
///
/// # Errors
/// [`Refused::RouteTaken`] when two of the apps want the same route.
pub(crate) fn first_table(
    registry: &Registry,
    generation: Generation,
    specs: &[AppSpec],
) -> Result<Table, Refused> {
    let apps: Vec<_> = specs
        .iter()
        .map(|spec| Arc::new(app_table(registry, spec.clone(), None, generation)))
        .collect();
    let index = Arc::new(index(&apps)?);
    Ok(Table { generation, index, apps })
}

/// The table after these changes of one app; the base is not touched.
///
/// # Errors
/// [`Refused`] when the app is not there, or a route is another app's.
pub(crate) fn apply(
    registry: &Registry,
    base: &Table,
    app: &AppName,
    changes: &[Change],
) -> Result<Table, Refused> {
    let generation = base.generation.next();
    let place = base.apps.iter().position(|table| table.spec.app == *app);
    let before = place.and_then(|at| base.apps.get(at));
    let mut spec = before.map(|table| table.spec.clone());
    let mut moved = false;
    for change in changes {
        moved |= change_spec(&mut spec, app, change)?;
    }
    let mut apps = base.apps.clone();
    match (spec, place) {
        (Some(mut spec), _) => {
            spec.app = app.clone();
            let split_generation = match before {
                Some(table)
                    if !moved && table.spec.split == spec.split && table.spec.salt == spec.salt =>
                {
                    table.split_generation
                }
                _ => generation,
            };
            let table =
                Arc::new(app_table(registry, spec, before.map(AsRef::as_ref), split_generation));
            match place.and_then(|at| apps.get_mut(at)) {
                Some(slot) => *slot = table,
                None => apps.push(table),
            }
        }
        (None, Some(at)) => {
            apps.remove(at);
        }
        (None, None) => {}
    }
    let same_routes = before.is_some_and(|table| {
        apps.len() == base.apps.len()
            && place.and_then(|at| apps.get(at)).is_some_and(|t| t.spec.routes == table.spec.routes)
    });
    let index = if same_routes { base.index.clone() } else { Arc::new(index(&apps)?) };
    Ok(Table { generation, index, apps })
}

/// Applies one change; says whether it moved the split.
fn change_spec(
    spec: &mut Option<AppSpec>,
    app: &AppName,
    change: &Change,
) -> Result<bool, Refused> {
    if let Change::Define(new) = change {
        *spec = Some(new.as_ref().clone());
        return Ok(false);
    }
    let unknown = || Refused::UnknownApp(app.clone());
    if matches!(change, Change::Remove) {
        spec.take().ok_or_else(unknown)?;
        return Ok(false);
    }
    let spec = spec.as_mut().ok_or_else(unknown)?;
    match change {
        Change::Split { split, salt } => {
            (spec.split, spec.salt) = (*split, *salt);
            return Ok(true);
        }
        Change::Endpoints { color, service, endpoints } => {
            let upstreams = &mut spec.colors.get_mut(*color).upstreams;
            upstreams.insert(service.clone(), endpoints.clone());
        }
        Change::Release { color, release } => spec.colors.get_mut(*color).release = *release,
        Change::Routes(routes) => spec.routes.clone_from(routes),
        Change::Terms { sticky, deadlines } => {
            spec.sticky.clone_from(sticky);
            spec.deadlines.clone_from(deadlines);
        }
        Change::Define(_) | Change::Remove => {}
    }
    Ok(false)
}

fn index(apps: &[Arc<AppTable>]) -> Result<RouteIndex, Refused> {
    let mut index = RouteIndex::default();
    for (app, table) in apps.iter().enumerate() {
        for (number, route) in table.spec.routes.iter().enumerate() {
            index.add(route, Place { app, route: number }).map_err(|taken| {
                Refused::RouteTaken {
                    first: apps.get(taken.app).unwrap_or(table).spec.app.clone(),
                    second: table.spec.app.clone(),
                    route: route_text(route),
                }
            })?;
        }
    }
    Ok(index)
}

fn route_text(route: &RouteSpec) -> String {
    let host = route.host.as_deref().unwrap_or("(any host)");
    let on = route.on.map(|port| format!(" on port {port}")).unwrap_or_default();
    format!("{host}{}{on}", route.path)
}

fn app_table(
    registry: &Registry,
    spec: AppSpec,
    before: Option<&AppTable>,
    split_generation: Generation,
) -> AppTable {
    let mut known = before.map(endpoints).unwrap_or_default();
    let routes: Vec<RouteTable> =
        spec.routes.iter().map(|route| route_table(registry, &spec, route, &mut known)).collect();
    let carried =
        |port: &PortSpec| upstreams(registry, &spec, &port.service, port.port, &mut known);
    let ports = spec.ports.iter().map(carried).collect();
    let mut paths = PathIndex::default();
    for (number, route) in spec.routes.iter().enumerate() {
        // Two hosts may have the same path: on a color's own address the first one answers.
        let (Ok(()) | Err(_)) = paths.add(route, Place { app: 0, route: number });
    }
    let color = |color: Color| {
        let release = spec.colors.get(color).release;
        ColorTable {
            release,
            series: registry.series(&spec.app, color, release),
            leases: Arc::new(Leases::new(registry.workers)),
        }
    };
    let colors = ByColor { blue: color(Color::Blue), green: color(Color::Green) };
    let gate = registry.gates.of(&spec.app);
    AppTable { split_generation, routes, ports, paths, colors, gate, spec }
}

type Known = HashMap<(String, SocketAddr), Arc<Endpoint>>;

/// Every endpoint of an app's table by what it is.
pub(crate) fn endpoints(table: &AppTable) -> Known {
    let mut known = Known::new();
    for endpoint in table.endpoints() {
        known.insert((endpoint.id.clone(), endpoint.address), endpoint.clone());
    }
    known
}

fn route_table(
    registry: &Registry,
    spec: &AppSpec,
    route: &RouteSpec,
    known: &mut Known,
) -> RouteTable {
    RouteTable {
        prefix: normal(&route.path).into(),
        strip: route.strip_prefix,
        upstreams: upstreams(registry, spec, &route.service, route.port, known),
    }
}

/// The endpoints of a service in both colors; `port` is that of endpoints that bring none.
fn upstreams(
    registry: &Registry,
    spec: &AppSpec,
    service: &ServiceName,
    port: u16,
    known: &mut Known,
) -> ByColor<Arc<Upstream>> {
    let mut upstream = |color: &ColorSpec| {
        let specs = color.upstreams.get(service).map(Vec::as_slice).unwrap_or_default();
        let endpoints = specs
            .iter()
            .map(|endpoint| {
                let address = SocketAddr::new(endpoint.ip, endpoint.port.unwrap_or(port));
                let fresh = || Endpoint::new(endpoint.id.clone(), address, registry.workers);
                known
                    .entry((endpoint.id.clone(), address))
                    .or_insert_with(|| Arc::new(fresh()))
                    .clone()
            })
            .collect();
        Arc::new(Upstream::new(endpoints, registry.workers))
    };
    ByColor { blue: upstream(&spec.colors.blue), green: upstream(&spec.colors.green) }
}

/// The same table with new leases for one app: the old ones only fall from now on. The generation
/// stays, since nothing that routes has changed.
pub(crate) fn renew(registry: &Registry, base: &Table, app: &AppName) -> Option<Table> {
    let at = base.apps.iter().position(|table| table.spec.app == *app)?;
    let before = base.apps.get(at)?;
    let mut apps = base.apps.clone();
    let table = app_table(registry, before.spec.clone(), Some(before), before.split_generation);
    *apps.get_mut(at)? = Arc::new(table);
    Some(Table { generation: base.generation, index: base.index.clone(), apps })
}

/// Closes the idle connections of endpoints that the new table does not have any more.
pub(crate) fn forsake(before: &AppTable, after: Option<&AppTable>) {
    let kept = after.map(endpoints).unwrap_or_default();
    for (what, endpoint) in endpoints(before) {
        if !kept.contains_key(&what) {
            endpoint.remove();
        }
    }
}
