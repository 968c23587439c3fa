//! New settings for an app that serves: its table in one step, everything else at the next use.
//!
//! What runs goes on with the settings that it began with: a deploy keeps its stack and its recipe.
//! Whether a change is possible without a restart is the daemon's to say; see `daemon::reload`.
//! INVARIANT: the split is never changed by a reload.

use std::sync::{Arc, PoisonError};

use cutover_model::{AppKind, Color};
use cutover_proxy::message::{Change, Publish, Refused};

use super::endpoints::endpoint_changes;
use super::{App, AppSettings};

impl App {
    /// Takes these settings from now on; gives back the former ones.
    ///
    /// # Errors
    /// Why the proxy refuses the routes; nothing was changed then.
    pub fn reload(&self, settings: AppSettings) -> Result<Arc<AppSettings>, Refused> {
        // Endpoints that are found at this moment wait, and are published for the new routes.
        let known = self.endpoints.lock().unwrap_or_else(PoisonError::into_inner);
        let spec = &settings.spec;
        let mut changes = vec![
            Change::Routes(spec.routes.clone()),
            Change::Terms { sticky: spec.sticky.clone(), deadlines: spec.deadlines.clone() },
        ];
        for color in Color::BOTH {
            match settings.kind {
                AppKind::Compose => {
                    changes.extend(endpoint_changes(spec, color, known.get(color)));
                }
                AppKind::Static => {
                    let upstreams = spec.colors.get(color).upstreams.clone();
                    changes.extend(upstreams.into_iter().map(|(service, endpoints)| {
                        Change::Endpoints { color, service, endpoints }
                    }));
                }
            }
        }
        let publish = Publish { app: self.name.clone(), changes, based_on: None };
        self.shared.proxy.switch().apply(publish)?;
        let before = self.settings.swap(Arc::new(settings));
        drop(known);
        self.shared.tables_changed.notify_one();
        Ok(before)
    }
}
