//! A release is made: sources fixed and colored, images built, pulled and pinned; and forgotten.
//!
//! Nothing here starts a container or touches what runs. Whether there is room for a second copy
//! is asked before anything is built; that is in `preflight`. What is written stands below the
//! release's folder and worktree, and goes with [`stack::forget`].

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use cutover_model::{Color, LineLevel, OperationId, Release, ReleaseId};
use tokio::sync::mpsc;

use super::perform::{Text, docker, made, release_folder, say, text, worktree};
use super::{Report, Work, migrating, preflight};
use crate::host::compose::{self, Cache, ColorTarget, ColoredStack, Compose};
use crate::host::docker::Docker;
use crate::host::{StackSettings, files, git, stack};

/// How long a build may take.
const BUILD: Duration = Duration::from_secs(3_600);
/// How long a pull may take.
const PULL: Duration = Duration::from_secs(1_800);

/// Which work tree a deploy takes, and whether a release that was rolled back may come again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Mode {
    /// What of the work tree is built.
    pub tree: Tree,
    /// Whether the commit of a release that was rolled back may be deployed.
    pub again: Again,
}

/// What of the operator's folder is built.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Tree {
    /// The commit.
    #[default]
    Commit,
    /// The files as they lie there.
    Dirty,
}

/// Whether a release that was rolled back may come again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Again {
    /// It is refused.
    #[default]
    Refused,
    /// A person said `--again`.
    Allowed,
}

/// What a deploy's actions hand on.
#[derive(Debug, Default)]
pub(super) struct Making {
    pub(super) record: Option<Release>,
    pub(super) stack: Option<ColoredStack>,
    pub(super) commit: Option<git::Commit>,
    /// The migrations that the database had before any of this release could run.
    pub(super) migrations: Option<Vec<String>>,
    /// The repository's top folder.
    pub(super) root: Option<PathBuf>,
}

/// Fixes the sources and writes the color's compose file.
pub(super) async fn render(
    settings: &StackSettings,
    release: ReleaseId,
    color: Color,
    work: &mut Work,
    reports: &mpsc::Sender<Report>,
) -> Text {
    let head = git::head(&settings.folder).await.map_err(text)?;
    let mut source = None;
    if let Some(head) = &head {
        let commit = match (&work.reference, work.mode.tree) {
            (Some(reference), _) => git::resolve(&head.root, reference).await.map_err(text)?,
            (None, Tree::Dirty) => git::snapshot(&head.root).await.map_err(text)?,
            (None, Tree::Commit) => head.commit.clone(),
        };
        // The work tree may have moved since the deploy was accepted.
        refuse_rejected(&work.rejected, work.mode, &commit).map_err(text)?;
        if work.mode.tree == Tree::Commit && work.reference.is_none() && !head.dirty.is_empty() {
            let files: Vec<&str> = head.dirty.iter().take(5).map(String::as_str).collect();
            let note = format!(
                "not in this release: {} changed, but not committed (--dirty takes them along)",
                files.join(", ")
            );
            say(reports, LineLevel::Note, "note", note).await;
        }
        let tree = git::add_worktree(&head.root, &commit.id, &worktree(settings, release))
            .await
            .map_err(text)?;
        let app = settings.app.as_str();
        git::keep(&head.root, app, &release.to_string(), &commit.id).await.map_err(text)?;
        work.made.root = Some(head.root.clone());
        work.made.commit = Some(commit);
        source = Some(tree);
    } else if work.reference.is_some() {
        return Err(format!(
            "{} is not a git repository, so --ref means nothing",
            settings.folder.display()
        ));
    }
    let mut compose = Compose::new(settings);
    if let Some(tree) = &source {
        compose = compose.in_tree(tree);
    }
    let rendered = compose.render(&settings.project(color)).await.map_err(text)?;
    let folder = release_folder(settings, release);
    let target = ColorTarget { color, release, folder, source };
    let stack = compose::color(&rendered, settings, &target)
        .map_err(|problems| compose::ComposeError::Problems(problems).to_string())?;
    for note in &stack.notes {
        say(reports, LineLevel::Note, "note", note.clone()).await;
    }
    preflight::room(settings, &docker(settings).await?, &stack, work, reports).await?;
    work.made.stack = Some(stack);
    let named = match &work.made.commit {
        Some(commit) => format!("{release} = {} \"{}\"", short(&commit.id), commit.subject),
        None => format!("{release}, from {}", settings.folder.display()),
    };
    Ok(Some(format!("{named}, into {color}")))
}

fn short(commit: &str) -> String {
    commit.chars().take(7).collect()
}

/// The commit that a deploy wants is the one of a release that was rolled back.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} is the commit of {release}, which was rolled back", short(commit))]
pub struct Rejected {
    commit: String,
    release: ReleaseId,
}

/// Whether a deploy would be of a release that was rolled back. A repository that cannot be read
/// is no answer: the deploy itself says what is wrong with it.
pub(super) async fn rejected(
    settings: &StackSettings,
    (reference, mode): (Option<&str>, Mode),
    rejected: &[(ReleaseId, Option<String>)],
) -> Option<Rejected> {
    // A snapshot of changed files is a commit of its own.
    if rejected.is_empty() || mode.tree == Tree::Dirty {
        return None;
    }
    let head = git::head(&settings.folder).await.ok()??;
    let commit = match reference {
        Some(reference) => git::resolve(&head.root, reference).await.ok()?,
        None => head.commit,
    };
    refuse_rejected(rejected, mode, &commit).err()
}

fn refuse_rejected(
    rejected: &[(ReleaseId, Option<String>)],
    mode: Mode,
    commit: &git::Commit,
) -> Result<(), Rejected> {
    let found = rejected.iter().find(|(_, id)| id.as_deref() == Some(commit.id.as_str()));
    match found {
        Some((release, _)) if mode.again == Again::Refused => {
            Err(Rejected { commit: commit.id.clone(), release: *release })
        }
        _ => Ok(()),
    }
}

/// Builds, pulls and pins; from here on the release is on record.
pub(super) async fn images(settings: &StackSettings, release: ReleaseId, work: &mut Work) -> Text {
    let docker = docker(settings).await?;
    let stack = made(work)?.clone();
    let folder = release_folder(settings, release);
    let built = bring(settings, &docker, &stack, release).await?;
    let ids = stack::resolve_images(&docker, &stack).await.map_err(text)?;
    let file = stack.with_images(&ids).map_err(|missing| {
        let names: Vec<String> = missing.iter().map(ToString::to_string).collect();
        format!("no image for {}", names.join(", "))
    })?;
    let mut contents = files::release_files(&settings.folder, &stack, &file).await.map_err(text)?;
    if let Some(scripts) = &work.down {
        // Those of the commit that is deployed, where there is one.
        let root = work.made.root.as_deref();
        let inside = root.and_then(|root| settings.folder.strip_prefix(root).ok());
        let sources = inside.map(|inside| worktree(settings, release).join(inside));
        let sources = sources.unwrap_or_else(|| settings.folder.clone());
        contents.extend(files::down::scripts(sources.join(scripts)).await.map_err(text)?);
    }
    let manifest = files::write_release(&folder, contents).await.map_err(text)?;
    for id in ids.values() {
        let (app, release) = (settings.app.as_str(), release.to_string());
        docker.pin_image(id, app, &release).await.map_err(text)?;
    }
    work.made.migrations = migrating::applied(settings, &docker, &stack).await;
    let commit = work.made.commit.clone();
    work.made.record = Some(Release {
        id: release,
        color: stack.color,
        project: stack.project.clone(),
        commit: commit.as_ref().map(|commit| commit.id.clone()),
        title: commit.map(|commit| commit.subject).unwrap_or_default(),
        images: ids.into_iter().map(|(service, id)| (service.to_string(), id)).collect(),
        env_files: env_hashes(manifest),
        migrations: work.made.migrations.clone(),
        folder: folder.display().to_string(),
        made_at: cutover_model::Millis(jiff::Timestamp::now().as_millisecond()),
        parts: None,
    });
    Ok(Some(match built.as_slice() {
        [] => "images as they are".to_owned(),
        names => names.join(", "),
    }))
}

/// SHA-256 of each env file, by its path in the release.
pub(super) fn env_hashes(manifest: files::Manifest) -> BTreeMap<String, String> {
    let named = manifest.files.into_iter().map(|(path, hash)| (path.display().to_string(), hash));
    let is_script = |path: &str| path.starts_with(files::down::FOLDER);
    named.filter(|(path, _)| path.contains("env") && !is_script(path)).collect()
}

/// Builds what is built here, from the sources that the stack names; the services.
pub(super) async fn build(
    settings: &StackSettings,
    stack: &ColoredStack,
    cache: Cache,
) -> Result<Vec<String>, String> {
    let Some(build_file) = &stack.build_file else { return Ok(Vec::new()) };
    let file = settings.state.join("builds").join(format!("{}.json", stack.release));
    let bytes = serde_json::to_vec_pretty(build_file).map_err(text)?;
    files::write_file(&file, bytes).await.map_err(text)?;
    let generated = compose::Generated { project: stack.project.clone(), file, env_file: None };
    Compose::new(settings).build(&generated, cache, BUILD, None).await.map_err(text)?;
    drop(std::fs::remove_file(&generated.file));
    let services = build_file["services"].as_object();
    Ok(services.map(|services| services.keys().cloned().collect()).unwrap_or_default())
}

/// Builds and pulls what is not there; the names of what was built.
async fn bring(
    settings: &StackSettings,
    docker: &Docker,
    stack: &ColoredStack,
    release: ReleaseId,
) -> Result<Vec<String>, String> {
    let compose = Compose::new(settings);
    let built = build(settings, stack, Cache::Use).await?;
    let missing = stack::missing_images(docker, stack).await.map_err(text)?;
    if !missing.is_empty() {
        let file = settings.state.join("builds").join(format!("{release}-pull.json"));
        let bytes = serde_json::to_vec_pretty(&stack.file).map_err(text)?;
        files::write_file(&file, bytes).await.map_err(text)?;
        let generated = compose::Generated { project: stack.project.clone(), file, env_file: None };
        let names: Vec<&str> = missing.iter().map(|service| service.as_str()).collect();
        let pulled = compose.pull(&generated, &names, PULL, None).await.map_err(text);
        drop(std::fs::remove_file(&generated.file));
        pulled?;
    }
    Ok(built)
}

/// Tags what ran before an operation, for its app alone where two apps share a repository.
pub(super) async fn tag_before(
    settings: &StackSettings,
    operation: OperationId,
    commit: &str,
) -> Result<String, String> {
    let head = git::head(&settings.folder).await.map_err(text)?;
    let root = head.ok_or("the folder is not a git repository any more")?.root;
    let name = format!("cutover/before-{operation}");
    if git::tag(&root, &name, commit).await.is_ok() {
        return Ok(name);
    }
    let name = format!("cutover/{}-before-{operation}", settings.app);
    git::tag(&root, &name, commit).await.map_err(text)?;
    Ok(name)
}

/// The commits that lie between two, one line each: those that come, then those that go.
pub(super) async fn commits(
    settings: &StackSettings,
    before: Option<&str>,
    after: Option<&str>,
) -> Vec<String> {
    let (Some(before), Some(after)) = (before, after) else { return Vec::new() };
    let Ok(Some(head)) = git::head(&settings.folder).await else { return Vec::new() };
    let mut lines = Vec::new();
    for (sign, from, to) in [('+', before, after), ('-', after, before)] {
        let between = git::between(&head.root, from, to).await.unwrap_or_default();
        lines.extend(between.into_iter().map(|line| format!("{sign} {line}")));
    }
    lines
}

/// The commit that the operator's checkout is at.
pub(super) async fn checkout(settings: &StackSettings) -> Option<String> {
    Some(git::head(&settings.folder).await.ok()??.commit.id)
}
