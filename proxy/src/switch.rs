//! The switch: the only way to change the table, and the way to drain what was replaced.
//!
//! A publish is a compare-and-swap of the whole table by the changes of one app, so that two apps
//! never publish from one stale base. It touches memory only: no file, no Docker, no lock that
//! anything slow could hold (I2). Invariant: when `apply` returns, every request whose head is
//! parsed from then on is routed by the new table or a later one.

mod drain;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use cutover_model::{AppName, Color, Generation};

pub(crate) use drain::{drain, drain_app};

use crate::message::{Acknowledged, AppSpec, Change, Publish, Refused};
use crate::table::{self, AppTable, Leases, Registry, Table};

/// The handle that publishes. Cheap to clone, usable from every thread.
#[derive(Debug, Clone)]
pub struct Switch {
    board: Arc<Board>,
}

/// What the switch changes and the workers read.
#[derive(Debug)]
pub(crate) struct Board {
    pub(crate) table: ArcSwap<Table>,
    pub(crate) registry: Registry,
    /// Leases of replaced tables that were not idle when they were last looked at.
    retired: Mutex<HashMap<AppName, Vec<Retired>>>,
}

#[derive(Debug, Clone)]
struct Retired {
    color: Color,
    leases: Arc<Leases>,
}

impl Board {
    pub(crate) fn new(
        workers: usize,
        generation: Generation,
        specs: &[AppSpec],
    ) -> Result<Self, Refused> {
        let registry = Registry::new(workers);
        let first = table::first_table(&registry, generation, specs)?;
        Ok(Self { table: ArcSwap::from_pointee(first), registry, retired: Mutex::default() })
    }

    /// Swaps the table if it is still `base`, and notes the replaced app's leases in the same
    /// breath, so that a drain never misses them. The lock is held for a swap and a push.
    fn swap(&self, base: &Arc<Table>, next: Arc<Table>, replaced: Option<&AppTable>) -> bool {
        let mut all = self.retired.lock().unwrap_or_else(PoisonError::into_inner);
        let found = self.table.compare_and_swap(base, next);
        let swapped = Arc::ptr_eq(&found, base);
        if let (true, Some(replaced)) = (swapped, replaced) {
            Self::retire(&mut all, replaced);
        }
        swapped
    }

    fn retire(all: &mut HashMap<AppName, Vec<Retired>>, replaced: &AppTable) {
        let list = all.entry(replaced.spec.app.clone()).or_default();
        for color in Color::BOTH {
            list.push(Retired { color, leases: replaced.color(color).leases.clone() });
        }
        list.retain(|retired| !retired.leases.is_idle());
        if list.is_empty() {
            all.remove(&replaced.spec.app);
        }
    }

    /// The leases of replaced tables of one color.
    fn retired(&self, app: &AppName, color: Color) -> Vec<Arc<Leases>> {
        let all = self.retired.lock().unwrap_or_else(PoisonError::into_inner);
        let list = all.get(app).map(Vec::as_slice).unwrap_or_default();
        list.iter().filter(|r| r.color == color).map(|r| r.leases.clone()).collect()
    }

    /// The leases that a color of an app may have, in every table.
    pub(crate) fn leases(&self, app: &AppName) -> Vec<u64> {
        let table = self.table.load();
        let now =
            table.find(app).map(|table| Color::BOTH.map(|color| table.color(color).leases.id));
        let before = Color::BOTH.into_iter().flat_map(|color| self.retired(app, color));
        now.into_iter().flatten().chain(before.map(|leases| leases.id)).collect()
    }

    /// Requests and tunnels that a color has now, whichever table routed them.
    pub(crate) fn open(&self, app: &AppName, color: Color) -> (u64, u64) {
        let now = self.table.load().find(app).map(|table| table.color(color).leases.clone());
        let before = self.retired(app, color);
        before
            .iter()
            .chain(&now)
            .map(|leases| leases.open())
            .fold((0, 0), |sum, open| (sum.0 + open.0, sum.1 + open.1))
    }
}

impl Switch {
    pub(crate) fn new(board: Arc<Board>) -> Self {
        Self { board }
    }

    /// Publishes changes of one app. In force when this returns.
    ///
    /// # Errors
    /// [`Refused`]; nothing was changed then.
    pub fn apply(&self, publish: Publish) -> Result<Acknowledged, Refused> {
        let (acknowledged, _replaced) =
            self.update(&publish.app, publish.based_on, &publish.changes)?;
        Ok(acknowledged)
    }

    /// Compare-and-swap of one app's table; hands back the one that was replaced.
    fn update(
        &self,
        app: &AppName,
        based_on: Option<Generation>,
        changes: &[Change],
    ) -> Result<(Acknowledged, Option<Arc<AppTable>>), Refused> {
        let board = &*self.board;
        loop {
            let base = board.table.load_full();
            let before = base.find(app);
            overtaken(app, based_on, before.map(AsRef::as_ref))?;
            let next = Arc::new(table::apply(&board.registry, &base, app, changes)?);
            if !board.swap(&base, next.clone(), before.map(AsRef::as_ref)) {
                continue;
            }
            let before = before.cloned();
            let after = next.find(app);
            if let Some(replaced) = &before {
                table::forsake(replaced, after.map(AsRef::as_ref));
            }
            let split = after.or(before.as_ref()).map(|table| table.spec.split);
            let Some(split) = split else { return Err(Refused::UnknownApp(app.clone())) };
            let acknowledged = Acknowledged {
                generation: next.generation,
                split_generation: after.map_or(next.generation, |table| table.split_generation),
                split,
                before: before.as_ref().map(|table| table.spec.split),
            };
            return Ok((acknowledged, before));
        }
    }

    /// The apps as specs, as they serve now: what to keep as the last good table.
    #[must_use]
    pub fn specs(&self) -> Vec<AppSpec> {
        self.board.table.load().apps.iter().map(|table| table.spec.clone()).collect()
    }

    /// The generation that serves now.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.board.table.load().generation
    }

    /// The generation that last changed the app's split, and the split, if the app is known.
    #[must_use]
    pub fn split(&self, app: &AppName) -> Option<(Generation, cutover_model::Split)> {
        let table = self.board.table.load();
        table.find(app).map(|table| (table.split_generation, table.spec.split))
    }

    /// Requests and tunnels that a color has now.
    #[must_use]
    pub fn in_flight(&self, app: &AppName, color: Color) -> InFlight {
        let (requests, tunnels) = self.board.open(app, color);
        InFlight { requests, tunnels }
    }
}

/// What a color has now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct InFlight {
    /// Requests whose answer is not complete.
    pub requests: u64,
    /// Open tunnels (WebSockets).
    pub tunnels: u64,
}

fn overtaken(
    app: &AppName,
    based_on: Option<Generation>,
    now: Option<&AppTable>,
) -> Result<(), Refused> {
    match (based_on, now) {
        (Some(wanted), Some(table)) if table.split_generation != wanted => {
            Err(Refused::Overtaken {
                app: app.clone(),
                generation: table.split_generation,
                now: table.spec.split,
            })
        }
        (Some(_), None) => Err(Refused::UnknownApp(app.clone())),
        _ => Ok(()),
    }
}
