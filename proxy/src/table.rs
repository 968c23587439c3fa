//! The routing table: one immutable value that says where every request goes.
//!
//! It owns what a publish makes and what a request reads; it does not publish (`switch`) and does
//! not choose (`client`, `upstream`). Invariant: a table never changes after it was built; what
//! counts (leases, endpoints' load, series) lives behind shared handles that outlive it.

mod build;
mod leases;
mod routes;

use std::sync::Arc;

use cutover_model::{AppName, Color, Generation, ReleaseId};

pub(crate) use build::{Registry, apply, first_table, forsake, renew};
pub(crate) use leases::{Kind, Leases};
pub(crate) use routes::{PathIndex, RouteIndex};

use crate::gate::Gate;
use crate::message::{AppSpec, ByColor, StripPrefix};
use crate::signals::Series;
use crate::upstream::{Endpoint, Upstream};

/// Where every request goes.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) generation: Generation,
    /// Host, path and port to (app, route); shared by tables with the same routes.
    pub(crate) index: Arc<RouteIndex>,
    pub(crate) apps: Vec<Arc<AppTable>>,
}

impl Table {
    pub(crate) fn find(&self, app: &AppName) -> Option<&Arc<AppTable>> {
        self.apps.iter().find(|table| table.spec.app == *app)
    }
}

/// One app's part of the table.
#[derive(Debug)]
pub(crate) struct AppTable {
    /// What it was built from; persisted as the last good table.
    pub(crate) spec: AppSpec,
    /// The generation that last changed the split.
    pub(crate) split_generation: Generation,
    /// In the order of `spec.routes`.
    pub(crate) routes: Vec<RouteTable>,
    /// In the order of `spec.ports`.
    pub(crate) ports: Vec<ByColor<Arc<Upstream>>>,
    /// The app's routes by path alone, for the colors' own addresses.
    pub(crate) paths: PathIndex,
    pub(crate) colors: ByColor<ColorTable>,
    /// The same one in every table of the app.
    pub(crate) gate: Arc<Gate>,
}

/// One route with both colors' upstreams.
#[derive(Debug)]
pub(crate) struct RouteTable {
    /// Without a trailing slash; empty for `/`.
    pub(crate) prefix: Box<str>,
    pub(crate) strip: StripPrefix,
    pub(crate) upstreams: ByColor<Arc<Upstream>>,
}

/// What a request needs to know of the color that it goes to.
#[derive(Debug)]
pub(crate) struct ColorTable {
    pub(crate) release: Option<ReleaseId>,
    pub(crate) series: Arc<Series>,
    pub(crate) leases: Arc<Leases>,
}

impl AppTable {
    /// Every endpoint that a route leads to, in both colors; one may come more than once.
    pub(crate) fn endpoints(&self) -> impl Iterator<Item = &Arc<Endpoint>> {
        let routes = self.routes.iter().map(|route| &route.upstreams);
        let upstreams = routes.chain(&self.ports).flat_map(|both| [&both.blue, &both.green]);
        upstreams.flat_map(|upstream| &upstream.endpoints)
    }

    pub(crate) fn color(&self, color: Color) -> &ColorTable {
        self.colors.get(color)
    }
}
