//! A release is put together from what was kept: of itself, or of several releases.
//!
//! Nothing is pulled, and nothing built unless the parts say so. What was kept is never changed: a
//! release that comes back in another color, or with some values of today, gets a folder of its
//! own (`in-blue`) below the one that its deploy wrote.
//! INVARIANT: with the same parts and no key that follows, env files and images are byte for byte
//! what they were.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cutover_model::{Color, Images, Layers, Parts, Release, ReleaseId, ServiceName};
use tokio::sync::mpsc;

use super::perform::{Text, docker, folder_in, release_folder, text, worktree};
use super::{Report, Work, making, migrating, preflight};
use crate::host::compose::{
    self, Cache, ColorTarget, ColoredStack, Compose, Place, Required, SourceTree,
};
use crate::host::docker::Docker;
use crate::host::files::ReleaseFile;
use crate::host::{StackSettings, env, files, git};

/// What a release cannot be made of.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Missing {
    /// The files that were kept are gone or damaged.
    #[error("{release} cannot be made again: {why}")]
    Files {
        /// The release.
        release: ReleaseId,
        /// What is wrong with them.
        why: String,
    },
    /// Images are gone, by service; they can be built anew where the commit is known.
    #[error("{release} cannot be made again: {} not on this host any more", images(.services))]
    Images {
        /// The release whose images they were.
        release: ReleaseId,
        /// Service and image.
        services: Vec<String>,
        /// Whether its commit is on record.
        commit: Option<String>,
    },
    /// Docker does not say.
    #[error("whether it can be made is not known: {0}")]
    Unknown(String),
}

fn images(services: &[String]) -> String {
    match services {
        [one] => format!("the image of {one} is"),
        many => format!("the images of {} are", many.join(", ")),
    }
}

/// Whether everything is there. Looks only.
pub(super) async fn check(
    settings: &StackSettings,
    parts: &Parts,
    known: &BTreeMap<ReleaseId, Release>,
) -> Result<(), Missing> {
    for release in [parts.code, parts.config] {
        let folder = release_folder(settings, release);
        if let Err(error) = files::load_stack(&folder).await {
            let why = match folder.exists() {
                true => error.to_string(),
                false => "its files are not kept any more".to_owned(),
            };
            return Err(Missing::Files { release, why });
        }
    }
    let Images::Of(release) = parts.images else { return Ok(()) };
    let Some(record) = known.get(&release) else {
        return Err(Missing::Files { release, why: "it is not on record".to_owned() });
    };
    let services = lost(settings, record).await.map_err(Missing::Unknown)?;
    match services.is_empty() {
        true => Ok(()),
        false => Err(Missing::Images { release, services, commit: record.commit.clone() }),
    }
}

/// Services of a release whose image the engine does not have any more, each with the image.
pub(super) async fn lost(
    settings: &StackSettings,
    release: &Release,
) -> Result<Vec<String>, String> {
    let docker = docker(settings).await?;
    let mut lost = Vec::new();
    for (service, id) in &release.images {
        if !settings.is_shared(service) && docker.image(id).await.map_err(text)?.is_none() {
            lost.push(format!("{service} ({})", crate::host::docker::short(id)));
        }
    }
    Ok(lost)
}

/// Puts a release together for a color.
pub(super) async fn assemble(
    settings: &StackSettings,
    (release, color): (ReleaseId, Color),
    parts: &Parts,
    work: &mut Work,
    reports: &mpsc::Sender<Report>,
) -> Text {
    let docker = docker(settings).await?;
    let code = kept_of(work, parts.code)?.clone();
    let is_new = parts.whole() != Some(release);
    let to = match is_new {
        true => release_folder(settings, release),
        false => release_folder(settings, release).join(format!("in-{color}")),
    };
    let (copies, followed) = config(settings, parts, work).await?;
    let tree = sources(settings, release, &code, work).await?;
    let goes = Goes { release, color, folder: to.clone(), tree };
    let stack = stack_for(settings, parts, &goes, &copies).await?;
    preflight::room(settings, &docker, &stack, work, reports).await?;
    let ids = image_ids(settings, &docker, parts, &stack, work).await?;
    let file = stack.with_images(&ids).map_err(|missing| {
        let names: Vec<String> = missing.iter().map(ToString::to_string).collect();
        format!("no image for {}", names.join(", "))
    })?;
    let copies = placed(settings, &stack, copies).await?;
    let contents = files::kept_files(&stack, &file, copies).map_err(text)?;
    // CRASH: without the folder the release is what its deploy wrote; it is in no color yet.
    files::remove_release(&to).await.map_err(text)?;
    let manifest = files::write_release(&to, contents).await.map_err(text)?;
    for id in ids.values() {
        let (app, release) = (settings.app.as_str(), release.to_string());
        docker.pin_image(id, app, &release).await.map_err(text)?;
    }
    if is_new {
        let record = Release {
            id: release,
            color,
            project: stack.project.clone(),
            commit: code.commit.clone(),
            title: code.title.clone(),
            images: ids.into_iter().map(|(service, id)| (service.to_string(), id)).collect(),
            env_files: making::env_hashes(manifest),
            migrations: migrating::applied(settings, &docker, &stack).await,
            folder: to.display().to_string(),
            made_at: cutover_model::Millis(jiff::Timestamp::now().as_millisecond()),
            parts: Some(*parts),
        };
        work.made.record = Some(record);
    }
    work.made.stack = Some(stack);
    Ok(Some(told((release, color), parts, &followed)))
}

fn told((release, color): (ReleaseId, Color), parts: &Parts, followed: &[String]) -> String {
    let mut told = match parts.whole() == Some(release) {
        true => format!("{release} again, from its own record, into {color}"),
        false => format!("{release} = {}, into {color}", parts.told()),
    };
    if !followed.is_empty() {
        told.push_str(&format!("; {} keep today's value", followed.join(", ")));
    }
    told
}

fn kept_of(work: &Work, release: ReleaseId) -> Result<&Release, String> {
    work.known.get(&release).ok_or_else(|| format!("{release} is not on record"))
}

/// Where what is put together goes.
struct Goes {
    release: ReleaseId,
    color: Color,
    folder: PathBuf,
    tree: Option<SourceTree>,
}

/// The copies of the configuration's release, with today's values of keys that follow, and these
/// keys' names.
async fn config(
    settings: &StackSettings,
    parts: &Parts,
    work: &Work,
) -> Result<(Vec<ReleaseFile>, Vec<String>), String> {
    let serving = |release| {
        let at = work.known.get(&release).map(|r: &Release| r.color);
        at.map_or_else(|| release_folder(settings, release), |c| folder_in(settings, release, c))
    };
    let today = parts.today.filter(|today| work.known.contains_key(today));
    if today == Some(parts.config) {
        return Ok((files::copies_of(&serving(parts.config)).await.map_err(text)?, Vec::new()));
    }
    let folder = release_folder(settings, parts.config);
    let mut copies = files::copies_of(&folder).await.map_err(text)?;
    let mut followed = Vec::new();
    let Some(today) = today.map(serving).filter(|folder| files::is_release(folder)) else {
        return Ok((copies, followed));
    };
    let now = files::copies_of(&today).await.map_err(text)?;
    for copy in copies.iter_mut().filter(|copy| copy.to.starts_with("env")) {
        let Some(now) = now.iter().find(|now| now.to == copy.to) else { continue };
        let (Ok(former), Ok(now)) = (str::from_utf8(&copy.bytes), str::from_utf8(&now.bytes))
        else {
            continue;
        };
        let (merged, keys) = env::bring_back(former, now, &settings.env);
        copy.bytes = merged.into_bytes();
        followed.extend(keys);
    }
    followed.sort();
    followed.dedup();
    Ok((copies, followed))
}

/// The worktree of the code's commit, where it has one; it belongs to the release that is made.
async fn sources(
    settings: &StackSettings,
    release: ReleaseId,
    code: &Release,
    work: &mut Work,
) -> Result<Option<SourceTree>, String> {
    let Some(commit) = &code.commit else { return Ok(None) };
    let head = git::head(&settings.folder).await.map_err(text)?;
    let head = head
        .ok_or_else(|| format!("{} is not a git repository any more", settings.folder.display()))?;
    let commit = git::resolve(&head.root, commit).await.map_err(text)?;
    let (app, name) = (settings.app.as_str(), release.to_string());
    git::keep(&head.root, app, &name, &commit.id).await.map_err(text)?;
    let tree = git::add_worktree(&head.root, &commit.id, &worktree(settings, release)).await;
    work.made.root = Some(head.root);
    work.made.commit = Some(commit);
    tree.map(Some).map_err(text)
}

/// The stack as it was kept; or rendered anew from its commit, where a variable of the file has
/// another value now.
async fn stack_for(
    settings: &StackSettings,
    parts: &Parts,
    goes: &Goes,
    copies: &[ReleaseFile],
) -> Result<ColoredStack, String> {
    let base = release_folder(settings, parts.code);
    let variables = |copies: &[ReleaseFile]| {
        let file = copies.iter().find(|copy| copy.to == Path::new("env/.env"));
        file.map(|file| file.bytes.clone()).unwrap_or_default()
    };
    let (wanted, kept) =
        (variables(copies), variables(&files::copies_of(&base).await.map_err(text)?));
    if wanted == kept {
        let stack = files::load_stack(&base).await.map_err(text)?;
        let (old, new) = (worktree(settings, parts.code), worktree(settings, goes.release));
        let place = Place {
            settings,
            color: goes.color,
            release: goes.release,
            folder: (&base, &goes.folder),
            worktree: (&old, &new),
        };
        return stack.remade(&place).map_err(text);
    }
    let Some(tree) = &goes.tree else {
        return Err(format!(
            "variables in .env differ from those that {}'s compose file was rendered with, and it \
             has no commit to render it from again",
            parts.code
        ));
    };
    let file = settings.state.join("builds").join(format!("{}.env", goes.release));
    files::write_file(&file, wanted).await.map_err(text)?;
    let compose = Compose::new(settings).in_tree(tree).with_variables(file.clone());
    let rendered = compose.render(&settings.project(goes.color)).await;
    drop(std::fs::remove_file(&file));
    let target = ColorTarget {
        color: goes.color,
        release: goes.release,
        folder: goes.folder.clone(),
        source: Some(tree.clone()),
    };
    compose::color(&rendered.map_err(text)?, settings, &target)
        .map_err(|problems| compose::ComposeError::Problems(problems).to_string())
}

/// The id of each service's image: kept, or built now.
async fn image_ids(
    settings: &StackSettings,
    docker: &Docker,
    parts: &Parts,
    stack: &ColoredStack,
    work: &Work,
) -> Result<BTreeMap<ServiceName, String>, String> {
    let code = kept_of(work, parts.code)?;
    let (of, layers) = match parts.images {
        Images::Of(release) => (kept_of(work, release)?, None),
        Images::Built(layers) => (code, Some(layers)),
    };
    if let Some(layers) = layers {
        let cache = if layers == Layers::Fresh { Cache::Ignore } else { Cache::Use };
        making::build(settings, stack, cache).await?;
    }
    let built = stack.build_file.as_ref().and_then(|file| file["services"].as_object());
    let mut ids = BTreeMap::new();
    for (service, source) in &stack.images {
        let is_built = built.is_some_and(|built| built.contains_key(service.as_str()));
        let wanted = match layers.is_some() && is_built {
            true => source.reference().to_owned(),
            // A service that the other release did not have keeps the one of the code's.
            false => of
                .images
                .get(service.as_str())
                .or_else(|| code.images.get(service.as_str()))
                .cloned()
                .ok_or_else(|| format!("no image of {service} is on record"))?,
        };
        let image = docker.image(&wanted).await.map_err(text)?.ok_or_else(|| {
            format!("the image {wanted} of {service} is not on this host any more")
        })?;
        ids.insert(service.clone(), image.id);
    }
    Ok(ids)
}

/// The files that the stack wants, from the copies, or from where they are where none was kept.
async fn placed(
    settings: &StackSettings,
    stack: &ColoredStack,
    copies: Vec<ReleaseFile>,
) -> Result<Vec<ReleaseFile>, String> {
    let mut kept: BTreeMap<PathBuf, ReleaseFile> =
        copies.into_iter().map(|copy| (copy.to.clone(), copy)).collect();
    let (mut found, mut absent) = (Vec::new(), Vec::new());
    for copy in &stack.copies {
        match kept.remove(&copy.to) {
            Some(file) => found.push(file),
            None if copy.required == Required::Yes => absent.push(copy.clone()),
            None => {}
        }
    }
    found.extend(files::copies_now(&settings.folder, absent).await.map_err(text)?);
    Ok(found)
}
