//! Release folders: the rendered file, copies of env files and secrets, a manifest of hashes.
//!
//! A release is written under a temporary name, synced, renamed and its parent synced, so that it
//! is there whole or not at all; nothing in it is changed afterwards. Folders are 0700, files 0600,
//! but for secrets that a container reads as its own user, which keep their mode and owner inside
//! the closed folder.
//!
//! What is read is bounded, regular, and not reached through a link that leaves the app's folder.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::compose::{ColoredStack, FileCopy, Generated, Required};
use super::redact::Secrets;

pub mod down;
pub mod given;
mod told;

pub use told::environments;

/// Larger env files and secrets are refused: they are something else.
const LARGEST: u64 = 4 * 1024 * 1024;
/// The generated compose file.
const COMPOSE: &str = "compose.json";
/// The stack as it was colored.
const STACK: &str = "stack.json";
/// The hashes of everything else.
const MANIFEST: &str = "manifest.json";

/// Why a release folder could not be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FilesError {
    /// The system refused.
    #[error("cannot {what} {}: {error}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        error: std::io::Error,
    },
    /// A file that must exist does not.
    #[error("{} does not exist; the compose file or env_files names it", path.display())]
    Absent {
        /// The file.
        path: PathBuf,
    },
    /// A file that is not one.
    #[error("{} is refused: {reason}", path.display())]
    Refused {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A file of the release is not what was written.
    #[error("the release in {} is damaged: {}", folder.display(), damage.join("; "))]
    Damaged {
        /// The release's folder.
        folder: PathBuf,
        /// What is wrong with which file.
        damage: Vec<String>,
    },
    /// A file of the release is not of the form that is written.
    #[error("{} cannot be read: {error}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Why.
        error: serde_json::Error,
    },
}

/// A file to put into a release.
#[derive(Clone)]
pub struct ReleaseFile {
    /// Its place, relative to the release's folder.
    pub to: PathBuf,
    /// What it holds.
    pub bytes: Vec<u8>,
    /// Its permission bits.
    pub mode: u32,
    /// Its owner and group, where these are kept.
    pub owner: Option<(u32, u32)>,
}

impl std::fmt::Debug for ReleaseFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ReleaseFile({}, {} bytes)", self.to.display(), self.bytes.len())
    }
}

/// What a release folder holds: SHA-256 in hex, by relative path.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The hashes.
    pub files: BTreeMap<PathBuf, String>,
}

/// All files of a release: the generated file with image ids, the stack, and the copies, read now.
///
/// # Errors
/// [`FilesError`] when a copy cannot be made.
pub async fn release_files(
    operator: &Path,
    stack: &ColoredStack,
    file: &Value,
) -> Result<Vec<ReleaseFile>, FilesError> {
    let mut files = vec![json(COMPOSE, file)?, json(STACK, stack)?];
    files.extend(copies_now(operator, stack.copies.clone()).await?);
    Ok(files)
}

/// The same for a stack with its file, from copies that other releases kept.
///
/// # Errors
/// [`FilesError::Malformed`].
pub fn kept_files(
    stack: &ColoredStack,
    file: &Value,
    copies: Vec<ReleaseFile>,
) -> Result<Vec<ReleaseFile>, FilesError> {
    let mut files = vec![json(COMPOSE, file)?, json(STACK, stack)?];
    files.extend(copies);
    Ok(files)
}

/// The copies that a release keeps: env files, secrets and configs, with mode and owner.
///
/// # Errors
/// [`FilesError::Damaged`] when a file is not what was written.
pub async fn copies_of(folder: &Path) -> Result<Vec<ReleaseFile>, FilesError> {
    let manifest = verify_release(folder).await?;
    let folder = folder.to_owned();
    off_runtime(move || {
        let names = manifest.files.into_keys();
        let copies = names.filter(|to| to != Path::new(COMPOSE) && to != Path::new(STACK));
        copies
            .map(|to| {
                let path = folder.join(&to);
                let bytes = read_bounded(&path)?;
                let facts = std::fs::metadata(&path).map_err(io("read", &path))?;
                let owner = Some((facts.uid(), facts.gid())).filter(|_| !to.starts_with("env"));
                Ok(ReleaseFile { to, bytes, mode: facts.permissions().mode() & 0o777, owner })
            })
            .collect()
    })
    .await
}

/// A file of the operator's, read now.
///
/// # Errors
/// [`FilesError`] when it is not there, no file, too large, or a link leads out of the folder.
pub async fn read_now(operator: &Path, path: &Path) -> Result<Vec<u8>, FilesError> {
    let (operator, path) = (operator.to_owned(), path.to_owned());
    off_runtime(move || read_bounded(&inside(&operator, &path)?)).await
}

/// Whether a folder holds a finished release.
#[must_use]
pub fn is_release(folder: &Path) -> bool {
    folder.join(MANIFEST).is_file()
}

/// Copies of files, read now where they are.
///
/// # Errors
/// [`FilesError`] when one cannot be made.
pub async fn copies_now(
    operator: &Path,
    copies: Vec<FileCopy>,
) -> Result<Vec<ReleaseFile>, FilesError> {
    let operator = operator.to_owned();
    off_runtime(move || read_copies(&operator, &copies)).await
}

/// How compose is called for a release that was written.
#[must_use]
pub fn generated(folder: &Path, stack: &ColoredStack) -> Generated {
    let env_file = Some(folder.join("env/.env")).filter(|path| path.is_file());
    Generated { project: stack.project.clone(), file: folder.join(COMPOSE), env_file }
}

/// The stack of a release that was written, after its hashes were checked.
///
/// # Errors
/// [`FilesError::Damaged`] when a file is not what was written.
pub async fn load_stack(folder: &Path) -> Result<ColoredStack, FilesError> {
    verify_release(folder).await?;
    let path = folder.join(STACK);
    off_runtime(move || {
        let bytes = read_bounded(&path)?;
        serde_json::from_slice(&bytes).map_err(|error| FilesError::Malformed { path, error })
    })
    .await
}

/// The secrets that a release's env files and environment hold, to mask them in logs.
///
/// # Errors
/// [`FilesError`] when a file cannot be read.
pub async fn secrets_of(folder: &Path) -> Result<Secrets, FilesError> {
    let folder = folder.to_owned();
    off_runtime(move || {
        let path = folder.join(MANIFEST);
        let manifest: Manifest = serde_json::from_slice(&read_bounded(&path)?)
            .map_err(|error| FilesError::Malformed { path, error })?;
        let mut secrets = Secrets::none();
        for relative in manifest.files.keys() {
            let text = || -> Result<String, FilesError> {
                let bytes = read_bounded(&folder.join(relative))?;
                Ok(String::from_utf8_lossy(&bytes).into_owned())
            };
            if relative.starts_with("env") {
                secrets = secrets.with_env_text(&text()?);
            } else if relative.starts_with("secrets") {
                secrets = secrets.with([("secret", text()?.trim())]);
            } else if relative == Path::new(COMPOSE)
                && let Ok(file) = serde_json::from_str(&text()?)
            {
                let pairs = super::compose::environment_of(&file);
                secrets = secrets.with(pairs.iter().map(|(k, v)| (k.as_str(), v.as_str())));
            }
        }
        Ok(secrets)
    })
    .await
}

/// Writes a release's folder: whole, or not at all. A finished release that holds the same is
/// success, one that holds something else an error; what is half a release is replaced.
///
/// # Errors
/// [`FilesError`]; nothing is left behind under the release's name.
pub async fn write_release(folder: &Path, files: Vec<ReleaseFile>) -> Result<Manifest, FilesError> {
    let folder = folder.to_owned();
    off_runtime(move || write_folder(&folder, &files)).await
}

/// Compares a release's files with its manifest.
///
/// # Errors
/// [`FilesError::Damaged`] naming each file that is missing or different.
pub async fn verify_release(folder: &Path) -> Result<Manifest, FilesError> {
    let folder = folder.to_owned();
    off_runtime(move || verify(&folder)).await
}

/// Removes a release's folder; one that is gone is success.
///
/// # Errors
/// [`FilesError::Io`] when it stays.
pub async fn remove_release(folder: &Path) -> Result<(), FilesError> {
    let folder = folder.to_owned();
    off_runtime(move || match std::fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(FilesError::Io { what: "remove", path: folder, error })
        }
        _ => Ok(()),
    })
    .await
}

/// Writes one file, 0600, under a temporary name, synced, then renamed; its folder is made, 0700.
///
/// # Errors
/// [`FilesError::Io`]; the former file then is as it was.
pub async fn write_file(path: &Path, bytes: Vec<u8>) -> Result<(), FilesError> {
    let path = path.to_owned();
    off_runtime(move || {
        let parent = path.parent().unwrap_or(Path::new("/")).to_owned();
        make_folder(&parent)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let temporary = parent.join(format!(".{name}.{}.tmp", std::process::id()));
        let to = PathBuf::from(temporary.file_name().unwrap_or_default());
        put(&parent, &ReleaseFile { to, bytes, mode: 0o600, owner: None })?;
        std::fs::rename(&temporary, &path).map_err(io("rename", &temporary))?;
        sync_folder(&parent)
    })
    .await
}

/// File work blocks; it is done beside the runtime.
async fn off_runtime<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, FilesError> + Send + 'static,
) -> Result<T, FilesError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(FilesError::Io {
            what: "work on",
            path: PathBuf::new(),
            error: std::io::Error::other(error),
        }),
    }
}

fn json(to: &str, value: &impl Serialize) -> Result<ReleaseFile, FilesError> {
    let mut bytes = serde_json::to_vec_pretty(value)
        .map_err(|error| FilesError::Malformed { path: to.into(), error })?;
    bytes.push(b'\n');
    Ok(ReleaseFile { to: to.into(), bytes, mode: 0o600, owner: None })
}

fn read_copies(operator: &Path, copies: &[FileCopy]) -> Result<Vec<ReleaseFile>, FilesError> {
    let mut files = Vec::new();
    for copy in copies {
        let found = match std::fs::symlink_metadata(&copy.from) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(io("read", &copy.from)(error)),
            Ok(_) => Some(inside(operator, &copy.from)?),
        };
        let Some(real) = found else {
            if copy.required == Required::Yes {
                return Err(FilesError::Absent { path: copy.from.clone() });
            }
            continue;
        };
        let bytes = read_bounded(&real)?;
        let (mut mode, mut owner) = (0o600, None);
        if !copy.to.starts_with("env") {
            let facts = std::fs::metadata(&real).map_err(io("read", &real))?;
            (mode, owner) = (facts.permissions().mode() & 0o777, Some((facts.uid(), facts.gid())));
        }
        files.push(ReleaseFile { to: copy.to.clone(), bytes, mode, owner });
    }
    Ok(files)
}

/// Where a path really is; refused when it stands in the operator's folder and a link in it leads
/// out of there.
fn inside(operator: &Path, path: &Path) -> Result<PathBuf, FilesError> {
    let real = std::fs::canonicalize(path).map_err(io("read", path))?;
    let root = std::fs::canonicalize(operator).map_err(io("read", operator))?;
    if path.starts_with(operator) && !real.starts_with(&root) {
        let reason = format!("it is a link out of the app's folder, to {}", real.display());
        return Err(FilesError::Refused { path: path.to_owned(), reason });
    }
    Ok(real)
}

/// Reads a regular file of bounded size; never waits at a pipe.
fn read_bounded(path: &Path) -> Result<Vec<u8>, FilesError> {
    let refused = |reason: String| FilesError::Refused { path: path.to_owned(), reason };
    let nonblock = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or(0);
    let file = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(nonblock)
        .open(path)
        .map_err(io("read", path))?;
    let facts = file.metadata().map_err(io("read", path))?;
    if !facts.is_file() {
        return Err(refused("it is not a regular file".to_owned()));
    }
    let mut bytes = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut bytes).map_err(io("read", path))?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > LARGEST {
        return Err(refused(format!("it is larger than {} MiB", LARGEST / 1024 / 1024)));
    }
    Ok(bytes)
}

fn write_folder(folder: &Path, files: &[ReleaseFile]) -> Result<Manifest, FilesError> {
    let parent = folder.parent().unwrap_or(Path::new("/"));
    make_folder(parent)?;
    if let Ok(there) = verify(folder) {
        let same = there.files.len() == files.len()
            && files.iter().all(|file| there.files.get(&file.to) == Some(&hash(&file.bytes)));
        let reason = "another finished release is there already".to_owned();
        let path = folder.to_owned();
        return if same { Ok(there) } else { Err(FilesError::Refused { path, reason }) };
    }
    let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let temporary = parent.join(format!(".{name}.tmp"));
    // CRASH: a folder under the temporary name is half a release of an earlier try.
    for stale in [temporary.as_path(), folder] {
        if stale.exists() {
            std::fs::remove_dir_all(stale).map_err(io("remove", stale))?;
        }
    }
    make_folder(&temporary)?;
    let written = fill(&temporary, files);
    if written.is_err()
        && let Err(error) = std::fs::remove_dir_all(&temporary)
    {
        tracing::warn!(%error, "half a release is left under its temporary name");
    }
    let manifest = written?;
    std::fs::rename(&temporary, folder).map_err(io("rename", &temporary))?;
    sync_folder(parent)?;
    Ok(manifest)
}

fn fill(folder: &Path, files: &[ReleaseFile]) -> Result<Manifest, FilesError> {
    let mut manifest = Manifest::default();
    for file in files {
        let stays = file.to.components().all(|part| matches!(part, Component::Normal(_)));
        if !stays || file.to == Path::new(MANIFEST) {
            let reason = "it would leave the release's folder".to_owned();
            return Err(FilesError::Refused { path: file.to.clone(), reason });
        }
        put(folder, file)?;
        manifest.files.insert(file.to.clone(), hash(&file.bytes));
    }
    put(folder, &json(MANIFEST, &manifest)?)?;
    sync_folder(folder)?;
    Ok(manifest)
}

fn put(folder: &Path, file: &ReleaseFile) -> Result<(), FilesError> {
    let path = folder.join(&file.to);
    if let Some(parent) = path.parent() {
        make_folder(parent)?;
    }
    let mut open = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&path)
        .map_err(io("write", &path))?;
    open.write_all(&file.bytes).map_err(io("write", &path))?;
    if let Some((user, group)) = file.owner
        && let Err(error) = std::os::unix::fs::chown(&path, Some(user), Some(group))
    {
        tracing::debug!(%error, path = %path.display(), "the owner of a copy cannot be kept");
    }
    let mode = std::fs::Permissions::from_mode(file.mode);
    open.set_permissions(mode).map_err(io("set the mode of", &path))?;
    open.sync_all().map_err(io("sync", &path))?;
    match path.parent() {
        Some(parent) => sync_folder(parent),
        None => Ok(()),
    }
}

fn verify(folder: &Path) -> Result<Manifest, FilesError> {
    let path = folder.join(MANIFEST);
    let manifest: Manifest = serde_json::from_slice(&read_bounded(&path)?)
        .map_err(|error| FilesError::Malformed { path, error })?;
    let mut damage = Vec::new();
    for (relative, wanted) in &manifest.files {
        match read_bounded(&folder.join(relative)) {
            Ok(bytes) if hash(&bytes) == *wanted => {}
            Ok(_) => damage.push(format!("{} was changed", relative.display())),
            Err(error) => damage.push(error.to_string()),
        }
    }
    if damage.is_empty() {
        return Ok(manifest);
    }
    Err(FilesError::Damaged { folder: folder.to_owned(), damage })
}

fn make_folder(folder: &Path) -> Result<(), FilesError> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(io("make the folder", folder))
}

fn sync_folder(folder: &Path) -> Result<(), FilesError> {
    let open = std::fs::File::open(folder).map_err(io("sync", folder))?;
    open.sync_all().map_err(io("sync", folder))
}

fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn io(what: &'static str, path: &Path) -> impl Fn(std::io::Error) -> FilesError {
    let path = path.to_owned();
    move |error| FilesError::Io { what, path: path.clone(), error }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(to: &str, text: &str) -> ReleaseFile {
        let bytes = text.as_bytes().to_vec();
        ReleaseFile { to: to.into(), bytes, mode: 0o600, owner: None }
    }

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).expect("there").permissions().mode() & 0o777
    }

    #[tokio::test]
    async fn a_release_is_written_whole_closed_and_verifiable() {
        let dir = tempfile::tempdir().expect("temp dir");
        let folder = dir.path().join("releases/r1");
        let files = vec![file("compose.json", "{}"), file("env/.env", "A=1\n")];
        let manifest = write_release(&folder, files.clone()).await.expect("written");
        assert_eq!(manifest.files.len(), 2);
        assert_eq!(mode(&folder), 0o700);
        assert_eq!(mode(&folder.join("env/.env")), 0o600);
        assert_eq!(verify_release(&folder).await.expect("sound"), manifest);
        assert_eq!(write_release(&folder, files).await.expect("the same"), manifest);
        let other = write_release(&folder, vec![file("a", "1")]).await.expect_err("another");
        assert!(other.to_string().contains("another finished release"), "{other}");
        std::fs::write(folder.join("env/.env"), "A=2\n").expect("write");
        let error = verify_release(&folder).await.expect_err("damaged").to_string();
        assert!(error.contains("env/.env was changed"), "{error}");
    }

    #[tokio::test]
    async fn half_a_release_of_an_earlier_try_is_replaced() {
        let dir = tempfile::tempdir().expect("temp dir");
        let folder = dir.path().join("r1");
        std::fs::create_dir_all(dir.path().join(".r1.tmp/x")).expect("dir");
        std::fs::create_dir_all(&folder).expect("dir");
        write_release(&folder, vec![file("a", "1")]).await.expect("written");
        assert!(!dir.path().join(".r1.tmp").exists());
    }

    #[tokio::test]
    async fn nothing_is_left_when_a_file_would_leave_the_folder() {
        let dir = tempfile::tempdir().expect("temp dir");
        let folder = dir.path().join("r1");
        for bad in ["../x", "/x", "a/../../x", "manifest.json"] {
            write_release(&folder, vec![file("good", "1"), file(bad, "2")]).await.expect_err(bad);
            let left = std::fs::read_dir(dir.path()).expect("dir").count();
            assert_eq!(left, 0, "{bad}");
        }
    }

    #[test]
    fn links_out_of_the_folder_pipes_and_huge_files_are_refused() {
        let dir = tempfile::tempdir().expect("temp dir");
        let copy = |name: &str| {
            let from = dir.path().join(name);
            let copies = [FileCopy { from, to: "env/x".into(), required: Required::Yes }];
            read_copies(dir.path(), &copies).map(|files| files[0].bytes.clone())
        };
        std::fs::write(dir.path().join("real.env"), "A=1").expect("write");
        std::os::unix::fs::symlink("real.env", dir.path().join("in.env")).expect("link");
        assert_eq!(copy("in.env").expect("inside"), b"A=1");
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("out.env")).expect("link");
        assert!(copy("out.env").expect_err("out").to_string().contains("link out of"));
        let status = std::process::Command::new("mkfifo").arg(dir.path().join("pipe")).status();
        assert!(status.expect("mkfifo").success());
        assert!(copy("pipe").expect_err("pipe").to_string().contains("not a regular file"));
        let huge = std::fs::File::create(dir.path().join("huge")).expect("create");
        huge.set_len(1 << 30).expect("sparse");
        assert!(copy("huge").expect_err("huge").to_string().contains("larger than 4 MiB"));
        assert!(matches!(copy("absent"), Err(FilesError::Absent { .. })));
    }

    #[tokio::test]
    async fn secrets_of_a_release_are_known_for_masking() {
        let dir = tempfile::tempdir().expect("temp dir");
        let folder = dir.path().join("r1");
        let compose = r#"{"services":{"a":{"environment":{"API_KEY":"pa$$word1"}}}}"#;
        let files = vec![
            file(COMPOSE, compose),
            file("env/backend/.env", "DB_PASSWORD=hunter22\n"),
            file("secrets/token", "tok-12345\n"),
        ];
        write_release(&folder, files).await.expect("written");
        let secrets = secrets_of(&folder).await.expect("read");
        assert_eq!(secrets.mask("pa$word1 hunter22 tok-12345 x"), "*** *** *** x");
    }

    #[tokio::test]
    async fn a_single_file_is_replaced_in_one_step() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("builds/r1.json");
        for text in ["1", "2"] {
            write_file(&path, text.as_bytes().to_vec()).await.expect("written");
            assert_eq!(std::fs::read_to_string(&path).expect("read"), text);
        }
        assert_eq!(mode(&path), 0o600);
        assert_eq!(std::fs::read_dir(dir.path().join("builds")).expect("dir").count(), 1);
    }
}
