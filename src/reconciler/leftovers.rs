//! What is left on the host of releases that nobody knows any more, and what is dangerous there.
//!
//! Looks and says; [`clean`] removes the files, the checkout and the image pins of one release, and
//! nothing that runs: containers are named for a person to decide.
//! INVARIANT: nothing is a leftover of ours that lies outside of the app's part of the state folder
//! or does not carry the app's label.

use std::collections::{BTreeMap, BTreeSet};

use cutover_model::{ByColor, Color, ReleaseId};

use super::perform::{docker, text};
use crate::host::StackSettings;
use crate::host::docker::{Container, Filter, label};
use crate::host::facts;

/// Percent of memory or disk from which on it is said to be tight.
const TIGHT: u8 = 90;

/// What the controller knows.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// Every release that is on record.
    pub releases: BTreeSet<ReleaseId>,
    /// The release in each color.
    pub colors: ByColor<Option<ReleaseId>>,
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// What is left of each release that is not on record.
    pub releases: BTreeMap<ReleaseId, Vec<String>>,
    /// Containers of ours whose release is in no color: name and release.
    pub strays: Vec<(String, String)>,
    /// Things in our folders that have no name of ours.
    pub foreign: Vec<String>,
    /// Whether containers go on when Docker is restarted.
    pub live_restore: Option<bool>,
    /// Why Docker could not be asked.
    pub no_docker: Option<String>,
    /// What is tight: `memory 93 %`.
    pub tight: Vec<String>,
}

/// Looks.
pub(super) async fn look(settings: &StackSettings, known: &Known) -> Found {
    let mut found = Found::default();
    for (folder, what) in [("releases", "files"), ("worktrees", "checkout")] {
        let place = settings.state.join(folder);
        for name in names(&place) {
            match name.parse::<ReleaseId>() {
                Ok(release) if known.releases.contains(&release) => {}
                Ok(release) => found.releases.entry(release).or_default().push(what.to_owned()),
                Err(_) => found.foreign.push(place.join(&name).display().to_string()),
            }
        }
    }
    match docked(settings, known, &mut found).await {
        Ok(live_restore) => found.live_restore = live_restore,
        Err(why) => found.no_docker = Some(why),
    }
    let fill = facts::fill(&settings.state);
    for (what, share) in [("memory", fill.memory), ("disk", fill.disk)] {
        if let Some(share) = share.filter(|share| *share >= TIGHT) {
            found.tight.push(format!("{what} {share} %"));
        }
    }
    found
}

fn names(place: &std::path::Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(place) else { return Vec::new() };
    let mut names: Vec<String> =
        entries.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

async fn docked(
    settings: &StackSettings,
    known: &Known,
    found: &mut Found,
) -> Result<Option<bool>, String> {
    let docker = docker(settings).await?;
    let all = docker.containers(&Filter::app(settings.app.as_str())).await.map_err(text)?;
    for container in &all {
        sort(container, known, found);
    }
    Ok(docker.engine().await.map_err(text)?.live_restore)
}

/// A pin belongs to what is left of its release; anything else of a release that is in no color is
/// a stray.
fn sort(container: &Container, known: &Known, found: &mut Found) {
    let label = |key: &str| container.labels.get(key).map_or("", String::as_str);
    let release = label(label::RELEASE).parse::<ReleaseId>();
    if label(label::KIND) == "pin" {
        if let Ok(release) = release
            && !known.releases.contains(&release)
        {
            let parts = found.releases.entry(release).or_default();
            if !parts.iter().any(|part| part == "image pins") {
                parts.push("image pins".to_owned());
            }
        }
        return;
    }
    let is_in_a_color = Color::BOTH
        .into_iter()
        .any(|color| known.colors.get(color).is_some_and(|there| release.as_ref() == Ok(&there)));
    if !is_in_a_color {
        found.strays.push((container.name.clone(), label(label::RELEASE).to_owned()));
    }
}

/// Removes what is left of a release that is not on record.
pub(super) async fn clean(settings: &StackSettings, release: ReleaseId) {
    crate::host::stack::forget(settings, release).await;
    // Without a repository the checkout is a folder like any other.
    let checkout = super::perform::worktree(settings, release);
    if checkout.exists()
        && let Err(error) = std::fs::remove_dir_all(&checkout)
    {
        tracing::warn!(%error, "a checkout is left over");
    }
}
