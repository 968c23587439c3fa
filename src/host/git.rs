//! git: which commit the operator's folder is at, and a release's own checkout of one.
//!
//! The operator's work tree is only read: a release is checked out as a detached worktree in the
//! state folder, and a ref of ours keeps its commit from being collected. Hooks, file-system
//! monitors, prompts and option-like names are off.
//!
//! A folder that is no repository is not an error: a release may have no commit.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::compose::SourceTree;
use super::process::{self, Output, ProcessError, Spec, escape};

/// How long a question may take.
const ASK: Duration = Duration::from_secs(30);
/// How long a checkout may take, large files included.
const CHECKOUT: Duration = Duration::from_secs(600);
/// How many changed files are named.
const NAMED: usize = 50;

/// Why git gave no result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GitError {
    /// The command could not be run to its end.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// git refused or failed.
    #[error("{what} in {}: {tail}", folder.display())]
    Failed {
        /// What was asked.
        what: &'static str,
        /// The folder.
        folder: PathBuf,
        /// The end of what git said.
        tail: String,
    },
    /// There is no such commit.
    #[error(
        "{} has no commit \"{reference}\"; see: git log --oneline, or fetch it first",
        folder.display()
    )]
    NoCommit {
        /// The repository.
        folder: PathBuf,
        /// What was asked for, escaped.
        reference: String,
    },
    /// Something else is where the worktree should go.
    #[error("{} exists and is not a worktree at {commit}; move it away", path.display())]
    InTheWay {
        /// The place.
        path: PathBuf,
        /// The wanted commit.
        commit: String,
    },
}

/// A commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commit {
    /// The full id.
    pub id: String,
    /// The first line of its message, control bytes escaped.
    pub subject: String,
}

/// Where the operator's folder stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The top folder of the repository.
    pub root: PathBuf,
    /// The commit.
    pub commit: Commit,
    /// The branch; `None` when detached.
    pub branch: Option<String>,
    /// Files that differ from the commit, with git's two letters before each; at most 50 of them.
    pub dirty: Vec<String>,
}

/// Where the operator's folder stands; `None`: it is no repository, or one without a commit.
///
/// # Errors
/// [`GitError`] when git cannot be run or fails.
pub async fn head(folder: &Path) -> Result<Option<Head>, GitError> {
    let out = git(folder, ASK, &["rev-parse", "--show-toplevel"]).await?;
    if !out.status.success() {
        if out.stderr.contains("not a git repository") {
            return Ok(None);
        }
        return Err(failed("finding the repository", folder, &out));
    }
    let root = PathBuf::from(OsStr::from_bytes(out.stdout.trim_ascii_end()));
    if !git(&root, ASK, &["rev-parse", "--verify", "--quiet", "HEAD^{commit}"])
        .await?
        .status
        .success()
    {
        return Ok(None);
    }
    let commit = resolve(&root, "HEAD").await?;
    let out = git(&root, ASK, &["symbolic-ref", "--short", "--quiet", "HEAD"]).await?;
    let branch = out.status.success().then(|| text(&out)).filter(|name| !name.is_empty());
    let status = git(&root, ASK, &["status", "--porcelain", "-z", "--untracked-files=normal"]);
    let status = checked("looking for changed files", &root, status.await?)?;
    Ok(Some(Head { root, commit, branch, dirty: dirty(&status.stdout) }))
}

/// The entries of `git status --porcelain -z`.
fn dirty(bytes: &[u8]) -> Vec<String> {
    let mut entries = bytes.split(|byte| *byte == 0).filter(|entry| entry.len() > 3);
    let mut found = Vec::new();
    while let Some(entry) = entries.next() {
        if found.len() == NAMED {
            break;
        }
        found.push(escape(&String::from_utf8_lossy(entry)));
        // A rename is followed by the old name.
        if entry.first() == Some(&b'R') {
            entries.next();
        }
    }
    found
}

/// The commit that a name means: a branch, a tag, an id.
///
/// # Errors
/// [`GitError::NoCommit`] when there is none, also for names that look like an option.
pub async fn resolve(root: &Path, reference: &str) -> Result<Commit, GitError> {
    let no_commit = || GitError::NoCommit { folder: root.to_owned(), reference: escape(reference) };
    if reference.is_empty() || reference.contains('\0') {
        return Err(no_commit());
    }
    let wanted = format!("{reference}^{{commit}}");
    let args = ["rev-parse", "--verify", "--quiet", "--end-of-options", &wanted];
    let out = git(root, ASK, &args).await?;
    // Older versions print the separator too.
    let id = text(&out).lines().last().unwrap_or_default().to_owned();
    let is_id = (40..=64).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_hexdigit());
    if !out.status.success() || !is_id {
        return Err(no_commit());
    }
    let args = ["show", "--no-patch", "--format=%s", "--end-of-options", &id];
    let out = checked("reading the commit", root, git(root, ASK, &args).await?)?;
    Ok(Commit { id, subject: escape(&text(&out)) })
}

/// Checks a commit out beside the operator's folder, detached. There already is success.
///
/// # Errors
/// [`GitError::InTheWay`] when something else is there.
pub async fn add_worktree(root: &Path, commit: &str, place: &Path) -> Result<SourceTree, GitError> {
    let mut is_there = place.exists();
    if is_there && !is_whole(place, commit).await? {
        if !is_worktree(root, place).await? {
            let (path, commit) = (place.to_owned(), commit.to_owned());
            return Err(GitError::InTheWay { path, commit });
        }
        // Left half made by a kill, or edited: it is ours, and made anew.
        remove_worktree(root, place).await?;
        is_there = false;
    }
    if !is_there {
        // What is left of a worktree whose folder somebody removed would be in the way.
        forget_place(root, place).await?;
        let spec = spec(root, CHECKOUT)
            .args(["worktree", "add", "--detach", "--force", "--quiet", "--end-of-options"])
            .arg(place)
            .arg(commit);
        checked("checking the commit out", root, process::run(spec).await?)?;
    }
    if place.join(".gitmodules").exists() {
        let args = ["submodule", "update", "--init", "--recursive", "--quiet"];
        checked("checking out its submodules", place, git(place, CHECKOUT, &args).await?)?;
    }
    let tracked = tracked(place).await?;
    Ok(SourceTree { root: root.to_owned(), worktree: place.to_owned(), tracked })
}

/// Whether a checkout is at this commit, with every file of it as it is there.
async fn is_whole(place: &Path, commit: &str) -> Result<bool, GitError> {
    let out = git(place, ASK, &["rev-parse", "--show-toplevel", "HEAD"]).await?;
    let said = text(&out);
    let mut lines = said.lines();
    // A folder that is no checkout of its own would be answered for by one around it.
    let is_own = lines.next().is_some_and(|top| same_place(Path::new(top), place));
    if !out.status.success() || !is_own || lines.next() != Some(commit) {
        return Ok(false);
    }
    let args = ["status", "--porcelain", "--untracked-files=no", "--ignore-submodules=all"];
    let out = git(place, CHECKOUT, &args).await?;
    Ok(out.status.success() && out.stdout.is_empty())
}

fn same_place(one: &Path, other: &Path) -> bool {
    match (one.canonicalize(), other.canonicalize()) {
        (Ok(one), Ok(other)) => one == other,
        _ => one == other,
    }
}

/// Whether a folder is on the repository's list of worktrees, half made ones too.
async fn is_worktree(root: &Path, place: &Path) -> Result<bool, GitError> {
    let out = git(root, ASK, &["worktree", "list", "--porcelain"]).await?;
    let list = text(&checked("listing worktrees", root, out)?);
    let mut places = list.lines().filter_map(|line| line.strip_prefix("worktree "));
    Ok(places.any(|listed| same_place(Path::new(listed), place)))
}

/// Takes a place off the list of worktrees, also where a kill left it locked.
async fn forget_place(root: &Path, place: &Path) -> Result<(), GitError> {
    if is_worktree(root, place).await? {
        let spec = spec(root, ASK)
            .args(["worktree", "remove", "--force", "--force", "--end-of-options"])
            .arg(place);
        // Where its folder is gone, this says so; what is left of it is pruned.
        process::run(spec).await?;
    }
    checked("tidying worktrees", root, git(root, ASK, &["worktree", "prune"]).await?).map(drop)
}

/// The files that git tracks in a checkout, submodules' files too, relative to its top folder.
async fn tracked(place: &Path) -> Result<BTreeSet<PathBuf>, GitError> {
    let args = ["ls-files", "-z", "--recurse-submodules"];
    let out = checked("listing tracked files", place, git(place, ASK, &args).await?)?;
    let names = out.stdout.split(|byte| *byte == 0).filter(|name| !name.is_empty());
    Ok(names.map(|name| PathBuf::from(OsStr::from_bytes(name))).collect())
}

/// Removes a release's worktree; one that is gone is success.
///
/// # Errors
/// [`GitError`] when it stays.
pub async fn remove_worktree(root: &Path, place: &Path) -> Result<(), GitError> {
    if place.exists() {
        let spec = spec(root, CHECKOUT)
            .args(["worktree", "remove", "--force", "--force", "--end-of-options"])
            .arg(place);
        let out = process::run(spec).await?;
        if !out.status.success() && is_worktree(root, place).await? {
            // git does not remove one that a kill left without its files of its own.
            std::fs::remove_dir_all(place).map_err(|error| GitError::Failed {
                what: "removing the checkout",
                folder: place.to_owned(),
                tail: error.to_string(),
            })?;
            return forget_place(root, place).await;
        }
        checked("removing the checkout", root, out)?;
    }
    checked("tidying worktrees", root, git(root, ASK, &["worktree", "prune"]).await?).map(drop)
}

/// Keeps a release's commit from being collected: `refs/cutover/releases/<app>/<release>`.
///
/// # Errors
/// [`GitError`] when the ref cannot be written.
pub async fn keep(root: &Path, app: &str, release: &str, commit: &str) -> Result<(), GitError> {
    let name = format!("refs/cutover/releases/{app}/{release}");
    let args = ["update-ref", "--no-deref", "--end-of-options", &name, commit];
    checked("keeping the commit", root, git(root, ASK, &args).await?).map(drop)
}

/// The commits that are in `to` and not in `from`, newest first, a short id and a subject each; at
/// most 50.
///
/// # Errors
/// [`GitError`] when one of them is not there any more.
pub async fn between(root: &Path, from: &str, to: &str) -> Result<Vec<String>, GitError> {
    let (from, to) = (resolve(root, from).await?, resolve(root, to).await?);
    let range = format!("{}..{}", from.id, to.id);
    let most = format!("--max-count={NAMED}");
    let args = ["log", "--format=%h %s", &most, "--end-of-options", &range];
    let out = checked("listing commits", root, git(root, ASK, &args).await?)?;
    Ok(text(&out).lines().map(escape).collect())
}

/// Tags a commit in the operator's repository, where there is no such tag yet; there already at the
/// same commit, is success. Nothing else of the repository is touched.
///
/// # Errors
/// [`GitError`] when the tag is at another commit.
pub async fn tag(root: &Path, name: &str, commit: &str) -> Result<(), GitError> {
    let name = format!("refs/tags/{name}");
    let none = "0".repeat(commit.len());
    let args = ["update-ref", "--no-deref", "--end-of-options", &name, commit, &none];
    let out = git(root, ASK, &args).await?;
    if out.status.success() || resolve(root, &name).await.is_ok_and(|there| there.id == commit) {
        return Ok(());
    }
    Err(failed("tagging the commit", root, &out))
}

/// Lets a release's commit go; a ref that is gone is success.
///
/// # Errors
/// [`GitError`] when the ref cannot be removed.
pub async fn forget(root: &Path, app: &str, release: &str) -> Result<(), GitError> {
    let name = format!("refs/cutover/releases/{app}/{release}");
    let args = ["update-ref", "--no-deref", "-d", "--end-of-options", &name];
    checked("letting the commit go", root, git(root, ASK, &args).await?).map(drop)
}

/// Makes a commit of the work tree as it is, changed and new files included, on no branch: neither
/// the work tree nor the index is touched.
///
/// # Errors
/// [`GitError`] when git fails.
pub async fn snapshot(root: &Path) -> Result<Commit, GitError> {
    let folder = tempfile::tempdir().map_err(|error| GitError::Failed {
        what: "making a temporary folder",
        folder: std::env::temp_dir(),
        tail: error.to_string(),
    })?;
    let index = folder.path().join("index");
    let with_index = |limit| spec(root, limit).env("GIT_INDEX_FILE", &index);
    let read = with_index(ASK).args(["read-tree", "HEAD"]);
    checked("reading the commit", root, process::run(read).await?)?;
    let add = with_index(CHECKOUT).args(["add", "--all"]);
    checked("adding changed files", root, process::run(add).await?)?;
    let tree = process::run(with_index(ASK).arg("write-tree")).await?;
    let tree = text(&checked("writing the tree", root, tree)?);
    let commit = spec(root, ASK)
        .args(["commit-tree", "-p", "HEAD", "-m", "work tree, not committed", &tree])
        .env("GIT_AUTHOR_NAME", "cutover")
        .env("GIT_AUTHOR_EMAIL", "cutover@localhost")
        .env("GIT_COMMITTER_NAME", "cutover")
        .env("GIT_COMMITTER_EMAIL", "cutover@localhost");
    let commit = text(&checked("writing the snapshot", root, process::run(commit).await?)?);
    resolve(root, &commit).await
}

fn spec(folder: &Path, limit: Duration) -> Spec {
    Spec::new("git", limit)
        .arg("-C")
        .arg(folder)
        // The folder often belongs to another user than the daemon's.
        .args(["-c", "safe.directory=*", "-c", "core.hooksPath=/dev/null"])
        .args(["-c", "core.fsmonitor=false", "-c", "core.quotePath=false", "-c", "gc.auto=0"])
        .args(["-c", "commit.gpgSign=false", "-c", "advice.detachedHead=false"])
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_OPTIONAL_LOCKS", "0")
        .env("GIT_ASKPASS", "true")
        .env("LC_ALL", "C")
        .without("GIT_DIR")
        .without("GIT_WORK_TREE")
        .without("GIT_INDEX_FILE")
}

async fn git(folder: &Path, limit: Duration, args: &[&str]) -> Result<Output, GitError> {
    Ok(process::run(spec(folder, limit).args(args)).await?)
}

fn checked(what: &'static str, folder: &Path, out: Output) -> Result<Output, GitError> {
    if out.status.success() { Ok(out) } else { Err(failed(what, folder, &out)) }
}

fn failed(what: &'static str, folder: &Path, out: &Output) -> GitError {
    let tail = process::tail(&out.stderr, 3);
    GitError::Failed { what, folder: folder.to_owned(), tail }
}

fn text(out: &Output) -> String {
    String::from_utf8_lossy(&out.stdout).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn repository() -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("temp dir");
        let write = |path: &str, text: &str| {
            std::fs::create_dir_all(dir.path().join(path).parent().expect("parent")).expect("dir");
            std::fs::write(dir.path().join(path), text).expect("write");
        };
        write("compose.yml", "services: {}\n");
        write("backend/main.js", "1\n");
        write(".gitignore", "data/\n");
        for args in [
            vec!["init", "--quiet", "--initial-branch=main"],
            vec!["add", "--all"],
            vec![
                "-c",
                "user.name=t",
                "-c",
                "user.email=t@t",
                "commit",
                "-qm",
                "Cart \x1b on one page",
            ],
        ] {
            let out = git(dir.path(), ASK, &args).await.expect("git runs");
            assert!(out.status.success(), "{}", out.stderr);
        }
        dir
    }

    #[tokio::test]
    async fn a_folder_without_a_repository_has_no_head() {
        let dir = tempfile::tempdir().expect("temp dir");
        assert_eq!(head(dir.path()).await.expect("no error"), None);
    }

    #[tokio::test]
    async fn head_names_the_commit_and_changed_files() {
        let dir = repository().await;
        std::fs::write(dir.path().join("backend/main.js"), "2\n").expect("write");
        std::fs::write(dir.path().join("new file"), "x").expect("write");
        let head = head(&dir.path().join("backend")).await.expect("head").expect("a repository");
        assert_eq!(head.branch.as_deref(), Some("main"));
        assert_eq!(head.commit.subject, "Cart \\u{1b} on one page");
        assert_eq!(head.dirty, [" M backend/main.js", "?? new file"]);
    }

    #[tokio::test]
    async fn names_that_look_like_options_are_not_commits() {
        let dir = repository().await;
        let bad = ["--upload-pack=touch /tmp/x", "-f", "-h", "", "nope", "HEAD:compose.yml"];
        for bad in bad.into_iter().chain(["HEAD\n-f", "main\nmain", "--", "@{upstream}", "a..b"]) {
            let error = resolve(dir.path(), bad).await.expect_err(bad);
            assert!(matches!(error, GitError::NoCommit { .. }), "{bad}: {error}");
        }
    }

    #[tokio::test]
    async fn a_worktree_is_made_kept_and_removed_without_touching_the_folder() {
        let dir = repository().await;
        let state = tempfile::tempdir().expect("temp dir");
        let place = state.path().join("r1");
        let root = head(dir.path()).await.expect("head").expect("repository").root;
        let commit = resolve(&root, "main").await.expect("commit");
        std::fs::write(dir.path().join("backend/main.js"), "2\n").expect("write");
        for _ in 0..2 {
            let tree = add_worktree(&root, &commit.id, &place).await.expect("worktree");
            assert_eq!(tree.place_of(&root.join("backend")), Some(place.join("backend")));
            assert_eq!(tree.place_of(&root.join("data")), None);
        }
        assert_eq!(std::fs::read_to_string(place.join("backend/main.js")).expect("read"), "1\n");
        assert_eq!(
            std::fs::read_to_string(dir.path().join("backend/main.js")).expect("read"),
            "2\n"
        );
        keep(&root, "shop", "r1", &commit.id).await.expect("kept");
        let kept = resolve(&root, "refs/cutover/releases/shop/r1").await.expect("kept");
        assert_eq!(kept, commit);
        remove_worktree(&root, &place).await.expect("removed");
        remove_worktree(&root, &place).await.expect("removed twice");
        assert!(!place.exists());
        forget(&root, "shop", "r1").await.expect("forgotten");
        forget(&root, "shop", "r1").await.expect("forgotten twice");
    }

    #[tokio::test]
    async fn what_is_kept_survives_a_gc_and_a_tag_never_moves() {
        let dir = repository().await;
        let root = head(dir.path()).await.expect("head").expect("repository").root;
        let first = resolve(&root, "main").await.expect("commit");
        std::fs::write(dir.path().join("new"), "x").expect("write");
        let lost = snapshot(dir.path()).await.expect("a commit on no branch");
        let held = snapshot(dir.path()).await.expect("another or the same");
        keep(&root, "shop", "r1", &held.id).await.expect("kept");
        tag(&root, "cutover/before-o1", &first.id).await.expect("tagged");
        tag(&root, "cutover/before-o1", &first.id).await.expect("tagged twice");
        tag(&root, "cutover/before-o1", &held.id).await.expect_err("it stays where it is");
        let tagged = resolve(&root, "cutover/before-o1").await.expect("the tag");
        assert_eq!(tagged, first);
        for args in
            [&["reflog", "expire", "--expire=now", "--all"][..], &["gc", "-q", "--prune=now"]]
        {
            let out = git(&root, CHECKOUT, args).await.expect("git runs");
            assert!(out.status.success(), "{}", out.stderr);
        }
        assert_eq!(resolve(&root, &held.id).await.expect("kept"), held);
        if lost.id != held.id {
            resolve(&root, &lost.id).await.expect_err("what nothing holds is collected");
        }
    }

    #[tokio::test]
    async fn a_worktree_that_was_left_half_made_is_made_anew() {
        let dir = repository().await;
        let state = tempfile::tempdir().expect("temp dir");
        let root = head(dir.path()).await.expect("head").expect("repository").root;
        let commit = resolve(&root, "main").await.expect("commit").id;
        let place = state.path().join("r1");
        let file = place.join("backend/main.js");
        add_worktree(&root, &commit, &place).await.expect("worktree");
        let names = root.join(".git/worktrees/r1");
        let harm: [&dyn Fn(); 5] = [
            &|| std::fs::remove_file(&file).expect("a file that was not written yet"),
            &|| std::fs::write(names.join("locked"), "initializing").expect("lock"),
            &|| std::fs::remove_dir_all(&place).expect("the folder"),
            &|| std::fs::remove_file(place.join(".git")).expect("the way back"),
            &|| std::fs::remove_file(names.join("index")).expect("the index"),
        ];
        for (number, harm) in harm.iter().enumerate() {
            harm();
            add_worktree(&root, &commit, &place).await.unwrap_or_else(|e| panic!("{number}: {e}"));
            assert_eq!(std::fs::read_to_string(&file).expect("read"), "1\n", "{number}");
        }
        std::fs::create_dir(state.path().join("r2")).expect("a folder of somebody's");
        let error = add_worktree(&root, &commit, &state.path().join("r2")).await.expect_err("r2");
        assert!(matches!(error, GitError::InTheWay { .. }), "{error}");
    }

    #[tokio::test]
    async fn a_snapshot_has_changed_and_new_files_and_leaves_the_index_alone() {
        let dir = repository().await;
        std::fs::write(dir.path().join("backend/main.js"), "2\n").expect("write");
        std::fs::write(dir.path().join("new"), "x").expect("write");
        std::fs::create_dir(dir.path().join("data")).expect("dir");
        std::fs::write(dir.path().join("data/ignored"), "x").expect("write");
        let before = git(dir.path(), ASK, &["status", "--porcelain"]).await.expect("git").stdout;
        let commit = snapshot(dir.path()).await.expect("snapshot");
        let after = git(dir.path(), ASK, &["status", "--porcelain"]).await.expect("git").stdout;
        assert_eq!(before, after);
        let args = ["ls-tree", "-r", "--name-only", commit.id.as_str()];
        let files = text(&git(dir.path(), ASK, &args).await.expect("git"));
        assert_eq!(files, ".gitignore\nbackend/main.js\ncompose.yml\nnew");
    }
}
