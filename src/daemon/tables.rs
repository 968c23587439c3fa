//! The last good tables and the cookie key: what a start needs before anything answers.
//!
//! Saved whenever endpoints or splits change, at most a few times a second. A file that is damaged
//! or of a newer form is said so and passed over: the apps then wait for Docker, traffic to their
//! endpoints begins a little later.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use cutover_model::{AppName, ByColor, Generation, LastGood};
use cutover_proxy::SigningKey;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::controller::{Controller, Endpoints, Shared};
use crate::journal::disk;
use crate::journal::tables::{self, Loaded};

/// Changes that come within this time are saved once.
const GATHER: Duration = Duration::from_millis(200);

/// Generations that may have been handed out since the file was saved.
const AHEAD: u64 = 1_000_000;

/// What is kept.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Kept {
    /// The newest generation at that time.
    generation: Generation,
    /// The proven endpoints of each app.
    apps: BTreeMap<AppName, ByColor<Endpoints>>,
    /// What else the table of each app said: a start whose journal cannot be trusted has only this.
    #[serde(default)]
    said: BTreeMap<AppName, LastGood>,
}

impl Kept {
    /// A generation that no table of the past can have had.
    #[must_use]
    pub fn next_generation(&self) -> Generation {
        Generation(self.generation.0.saturating_add(AHEAD)).next()
    }

    /// The endpoints of an app.
    #[must_use]
    pub fn endpoints(&self, app: &AppName) -> ByColor<Endpoints> {
        self.apps.get(app).cloned().unwrap_or_default()
    }

    /// What else its table said.
    #[must_use]
    pub fn said(&self, app: &AppName) -> Option<LastGood> {
        self.said.get(app).cloned()
    }
}

/// Reads what is kept.
#[must_use]
pub fn load(state: &Path) -> Kept {
    match tables::load(state) {
        Ok(Loaded::Newest(kept)) => kept,
        Ok(Loaded::Before(kept, error)) => {
            tracing::warn!(%error, "the newest last good table is damaged; the one before is used");
            kept
        }
        Ok(Loaded::Nothing) => Kept::default(),
        Err(error) => {
            tracing::warn!(%error, "there is no last good table; endpoints wait for docker");
            Kept::default()
        }
    }
}

/// Saves the tables whenever they changed, until the daemon stops.
pub async fn keep(
    state: PathBuf,
    controller: Controller,
    shared: Arc<Shared>,
    stop: CancellationToken,
) {
    let mut last = None;
    loop {
        tokio::select! {
            () = shared.tables_changed.notified() => {}
            () = stop.cancelled() => return,
        }
        tokio::time::sleep(GATHER).await;
        let generation = shared.proxy.switch().generation();
        let apps = controller.apps().map(|app| (app.name.clone(), app.endpoints())).collect();
        let said = controller.apps().map(|app| (app.name.clone(), app.last_good())).collect();
        let what = (apps, said);
        if last.as_ref() == Some(&what) {
            continue;
        }
        let (state, (apps, said)) = (state.clone(), what.clone());
        let kept = Kept { generation, apps, said };
        let saved = tokio::task::spawn_blocking(move || tables::save(&state, &kept)).await;
        match saved {
            Ok(Ok(())) => last = Some(what),
            Ok(Err(error)) => tracing::warn!(%error, "the last good table could not be saved"),
            Err(error) => tracing::error!(%error, "saving the last good table panicked"),
        }
    }
}

/// The key that signs client ids, made at the first start.
///
/// # Errors
/// When it can be neither read nor made.
pub fn cookie_key(state: &Path) -> anyhow::Result<SigningKey> {
    let path = state.join("cookie.key");
    if let Some(bytes) = disk::read_file(&path, 64)? {
        let key = <[u8; 32]>::try_from(bytes.as_slice()).ok().map(SigningKey::from);
        return key.with_context(|| {
            format!(
                "{} does not hold a key of 32 bytes. Remove it and a new one is made: clients of a \
                 running rollout then get new places",
                path.display()
            )
        });
    }
    let key: [u8; 32] = rand::random();
    disk::replace_file(&path, &key)?;
    Ok(key.into())
}
