//! Drift: what runs, or lies in the folder, is not what the release's record says. Looks only.
//!
//! Three kinds: containers of a color that were removed, made from another image or told something
//! else; images of kept releases that are gone; env files of the operator's folder that differ
//! from those of the release that serves. Nothing is put right here: a person did it, or has to.
//! INVARIANT: a line names keys of variables, never a value.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use cutover_model::{Color, Release, ReleaseId};

use super::perform::{colored, docker, folder_in, text};
use crate::host::compose::{ColoredStack, Kind};
use crate::host::docker::{Container, Docker};
use crate::host::env::EnvDiff;
use crate::host::{StackSettings, files, stack};

/// What is looked at.
#[derive(Debug, Clone, Default)]
pub struct Expected {
    /// Releases that should run as they were made, with the compose project of each.
    pub running: Vec<(Release, String)>,
    /// Releases whose images are kept.
    pub kept: Vec<Release>,
    /// The release that serves.
    pub serving: Option<Release>,
}

/// What differs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Drift {
    /// What runs otherwise than it was made, a sentence each.
    pub running: BTreeSet<String>,
    /// Images that are gone: service and image, by release.
    pub lost: BTreeMap<ReleaseId, Vec<String>>,
    /// Env files of the folder that are not those of the release that serves.
    pub folder: Vec<String>,
}

/// Looks.
pub(super) async fn look(settings: &StackSettings, expected: &Expected) -> Result<Drift, String> {
    let docker = docker(settings).await?;
    let mut drift = Drift { lost: lost(settings, &docker, expected).await?, ..Drift::default() };
    for (release, project) in &expected.running {
        let containers = colored(settings, &docker, project).await?;
        let folder = folder_in(settings, release.id, release.color);
        // An adopted release has no file of ours: its images are all that is known of it.
        let stack = match release.folder.is_empty() {
            true => None,
            false => files::load_stack(&folder).await.ok(),
        };
        drift.running.extend(images(release, &containers));
        if let Some(stack) = &stack {
            drift.running.extend(absent(release, stack, &containers));
            drift.running.extend(told(&docker, release, &folder, &containers).await);
        }
    }
    if let Some(serving) = expected.serving.as_ref().filter(|r| !r.folder.is_empty()) {
        drift.folder = folder(settings, serving).await;
    }
    Ok(drift)
}

async fn lost(
    settings: &StackSettings,
    docker: &Docker,
    expected: &Expected,
) -> Result<BTreeMap<ReleaseId, Vec<String>>, String> {
    let mut known: BTreeMap<String, bool> = BTreeMap::new();
    let mut lost: BTreeMap<ReleaseId, Vec<String>> = BTreeMap::new();
    for release in &expected.kept {
        for (service, id) in release.images.iter().filter(|(s, _)| !settings.is_shared(s)) {
            if !known.contains_key(id) {
                let is_there = docker.image(id).await.map_err(text)?.is_some();
                known.insert(id.clone(), is_there);
            }
            if known.get(id) == Some(&false) {
                lost.entry(release.id).or_default().push(service.clone());
            }
        }
    }
    Ok(lost)
}

fn images(release: &Release, containers: &[Container]) -> Vec<String> {
    let ids = release.images.iter().filter_map(|(name, id)| Some((name.parse().ok()?, id.clone())));
    let wrong = stack::wrong_images(containers, &ids.collect());
    wrong.into_iter().map(|line| format!("{}: {line}", release.id)).collect()
}

fn absent(release: &Release, stack: &ColoredStack, containers: &[Container]) -> Vec<String> {
    let of = |name: &str| containers.iter().filter(|c| c.service() == Some(name)).count();
    let short = stack.of_kind(Kind::Service).filter_map(|start| {
        let (there, wanted) = (of(start.service.as_str()), start.containers as usize);
        let (id, service) = (release.id, &start.service);
        match there {
            0 => Some(format!("{id}: {service} has no container any more, somebody removed it")),
            some if some < wanted => {
                Some(format!("{id}: {service} has {some} of {wanted} containers"))
            }
            _ => None,
        }
    });
    short.collect()
}

/// Variables that containers of the color have otherwise than the release says.
async fn told(
    docker: &Docker,
    release: &Release,
    folder: &Path,
    containers: &[Container],
) -> Vec<String> {
    let Ok(wanted) = files::environments(folder).await else { return Vec::new() };
    let mut found = Vec::new();
    for container in containers {
        let Some(service) = container.service() else { continue };
        let Some(wanted) = wanted.get(service).filter(|wanted| !wanted.is_empty()) else {
            continue;
        };
        let Ok(has) = docker.environment_of(container).await else { continue };
        let differs = wanted.iter().filter(|(key, value)| has.get(*key) != Some(value));
        let keys: Vec<&str> = differs.map(|(key, _)| key.as_str()).collect();
        if !keys.is_empty() {
            let (id, name, keys) = (release.id, &container.name, keys.join(", "));
            found.push(format!("{id}: {name} was made with other values of {keys}"));
        }
    }
    found
}

/// Env files of the folder that differ from the serving release's, by key.
async fn folder(settings: &StackSettings, serving: &Release) -> Vec<String> {
    let at = folder_in(settings, serving.id, serving.color);
    let Ok(copies) = files::copies_of(&at).await else { return Vec::new() };
    let mut found = Vec::new();
    for copy in copies {
        let Some((shown, place)) = operators(settings, &copy.to) else { continue };
        let Ok(now) = files::read_now(&settings.folder, &place).await else {
            found.push(format!("{shown} is gone"));
            continue;
        };
        let (now, kept) = (String::from_utf8_lossy(&now), String::from_utf8_lossy(&copy.bytes));
        let diff = EnvDiff::between(&kept, &now);
        if !diff.is_empty() {
            found.push(format!("{shown}: {}", diff.told()));
        }
    }
    found
}

/// Where a kept env file is in the operator's folder, and how it is called there.
fn operators(settings: &StackSettings, kept: &Path) -> Option<(String, PathBuf)> {
    let relative = kept.strip_prefix("env").ok()?;
    let place = match relative.strip_prefix("outside") {
        Ok(outside) => Path::new("/").join(outside),
        Err(_) => settings.folder.join(relative),
    };
    Some((relative.display().to_string(), place))
}

/// Which env keys differ between two releases, a line for each file; images, by service.
pub(super) async fn compare(
    settings: &StackSettings,
    (before, after): (&Release, &Release),
    at: impl Fn(&Release) -> Option<Color>,
) -> (BTreeMap<String, EnvDiff>, Vec<String>) {
    let place = |release: &Release| match at(release) {
        Some(color) => folder_in(settings, release.id, color),
        None => super::perform::release_folder(settings, release.id),
    };
    let of = |copies: Vec<files::ReleaseFile>| -> BTreeMap<String, String> {
        let env = copies.into_iter().filter(|copy| copy.to.starts_with("env"));
        env.map(|copy| {
            let name = copy.to.strip_prefix("env").unwrap_or(&copy.to).display().to_string();
            (name, String::from_utf8_lossy(&copy.bytes).into_owned())
        })
        .collect()
    };
    let mut unknown = Vec::new();
    let mut read = Vec::new();
    for release in [before, after] {
        match files::copies_of(&place(release)).await {
            Ok(copies) => read.push(of(copies)),
            Err(_) => unknown.push(format!("{}'s env files are not kept", release.id)),
        }
    }
    let [one, other] = read.as_slice() else { return (BTreeMap::new(), unknown) };
    let names: BTreeSet<&String> = one.keys().chain(other.keys()).collect();
    let text = |of: &BTreeMap<String, String>, name| of.get(name).cloned().unwrap_or_default();
    let differ = names
        .into_iter()
        .map(|name| (name.clone(), EnvDiff::between(&text(one, name), &text(other, name))));
    (differ.filter(|(_, diff)| !diff.is_empty()).collect(), unknown)
}
