//! A lease: one request's (or tunnel's) hold on a color of a table.
//!
//! Taking one looks at the table again afterwards, so that whoever replaced the table and then sees
//! no lease can be sure that none will come. Invariant: a lease is given back exactly once, by
//! drop.

use std::sync::Arc;

use cutover_model::{Color, Generation};

use super::{Local, Worker};
use crate::table::{AppTable, ColorTable, Kind, RouteTable};

/// Holds one color of one app in one table.
#[derive(Debug)]
pub(crate) struct Lease {
    worker: Arc<Worker>,
    pub(crate) local: Arc<Local>,
    place: usize,
    pub(crate) route: usize,
    pub(crate) color: Color,
    kind: Kind,
}

/// A color of an app in one table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spot {
    pub(crate) generation: Generation,
    pub(crate) place: usize,
    pub(crate) color: Color,
}

impl Lease {
    /// Takes a lease; `None` if the app's table was replaced meanwhile: look again then.
    pub(crate) fn take(
        worker: &Arc<Worker>,
        local: &Arc<Local>,
        (place, route): (usize, usize),
        color: Color,
    ) -> Option<Self> {
        let app = local.table.apps.get(place)?;
        app.color(color).leases.raise(worker.index, Kind::Request);
        let worker = worker.clone();
        let lease = Self { worker, local: local.clone(), place, route, color, kind: Kind::Request };
        lease.is_current(app).then_some(lease)
    }

    fn is_current(&self, app: &Arc<AppTable>) -> bool {
        let now = self.worker.shared.board.table.load();
        Arc::ptr_eq(&now, &self.local.table)
            || now.find(&app.spec.app).is_some_and(|table| Arc::ptr_eq(table, app))
    }

    pub(crate) fn app(&self) -> &AppTable {
        // The index was checked by `take`, and tables do not change.
        &self.local.table.apps[self.place]
    }

    pub(crate) fn route(&self) -> &RouteTable {
        &self.app().routes[self.route]
    }

    pub(crate) fn color_table(&self) -> &ColorTable {
        self.app().color(self.color)
    }

    pub(crate) fn id(&self) -> u64 {
        self.color_table().leases.id
    }

    /// Where the counts of its color are found again, without holding on to it.
    pub(crate) fn spot(&self) -> Spot {
        Spot { generation: self.local.table.generation, place: self.place, color: self.color }
    }

    /// The request has become a tunnel.
    pub(crate) fn become_tunnel(&mut self) {
        if self.kind == Kind::Request {
            let leases = &self.color_table().leases;
            leases.raise(self.worker.index, Kind::Tunnel);
            leases.lower(self.worker.index, Kind::Request);
            self.kind = Kind::Tunnel;
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.color_table().leases.lower(self.worker.index, self.kind);
    }
}
