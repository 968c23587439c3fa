//! Backups as files: a folder for each, with the archive and a manifest of hashes.
//!
//! A backup is made in a folder with a temporary name; when its archive is synced and its manifest
//! written, the folder is renamed and its parent synced: a backup is there whole or not at all, and
//! what a kill left half done is never counted. Folders are 0700, files 0600. Which ones may go is
//! decided by [`retention`]; this file never removes what it was not told to.
//! INVARIANT: nothing is a backup that has no manifest, and nothing is restored whose hash differs.

pub mod age;
pub mod due;
pub mod retention;

use std::io::Read;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use cutover_model::{Millis, OperationId, ReleaseId};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::files::{self, FilesError};

/// The archive's name inside of a backup.
const ARCHIVE: &str = "dump.pgc";
/// The manifest's.
const MANIFEST: &str = "manifest.json";
/// How a folder begins whose backup is not whole yet.
const UNFINISHED: &str = ".unfinished-";
/// How a folder begins whose backup was let go.
const GONE: &str = ".gone-";

/// Why a backup was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The schedule said so.
    Scheduled,
    /// A person asked for it.
    Asked,
    /// A restore was about to put other data in place.
    Before(OperationId),
    /// A database that a restore had put aside was about to be dropped.
    Retired(OperationId),
    /// It came from elsewhere.
    Imported,
}

impl Reason {
    /// Whether it is one of the live database's own backups: what a schedule or a person made of
    /// data that served, not what was saved because it was about to be replaced.
    #[must_use]
    pub fn is_ordinary(&self) -> bool {
        matches!(self, Self::Scheduled | Self::Asked)
    }

    /// In one or two words.
    #[must_use]
    pub fn words(&self) -> String {
        match self {
            Self::Scheduled => "schedule".to_owned(),
            Self::Asked => "asked for".to_owned(),
            Self::Before(operation) => format!("before {operation}"),
            Self::Retired(operation) => format!("retired, {operation}"),
            Self::Imported => "imported".to_owned(),
        }
    }
}

/// How an archive is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// As `pg_dump -Fc` wrote it.
    Custom,
    /// The same, encrypted to this recipient by `age`.
    Age {
        /// The public key.
        recipient: String,
    },
}

/// What is known of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The form of this file.
    pub version: u32,
    /// The backup's id, like `b-118`.
    pub id: String,
    /// The database.
    pub database: String,
    /// The moment whose data it has.
    pub at: Millis,
    /// Why it was made.
    pub reason: Reason,
    /// The server's version, as `150018`.
    pub server: i32,
    /// Which server's: its own identifier.
    pub system: String,
    /// The archive's bytes.
    pub bytes: u64,
    /// Its SHA-256, in hexadecimal digits.
    pub sha256: String,
    /// How it is kept.
    pub form: Form,
    /// What was in it, counted in the same snapshot; as `postgres::contents` has it.
    pub contents: serde_json::Value,
    /// The server's counters of it at that moment; as `postgres::loss` has them.
    pub activity: serde_json::Value,
    /// How long it took to make, in milliseconds.
    pub took_ms: u64,
    /// When it was read back completely.
    pub verified_at: Option<Millis>,
    /// When a copy left this host, and by which command's first word.
    pub copied: Option<(Millis, String)>,
    /// When a copy failed last, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_copied: Option<(Millis, String)>,
    /// When it was found damaged, and how; a later reading that passes takes it away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub damaged: Option<(Millis, String)>,
    /// The operation that made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<OperationId>,
    /// The installation whose operation that was.
    #[serde(default)]
    pub installation: String,
    /// When it was whole and read back for the first time.
    #[serde(default)]
    pub made_at: Millis,
    /// The release that served then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<ReleaseId>,
    /// The SHA-256 of the archive before it was encrypted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plain_sha256: Option<String>,
}

impl Manifest {
    /// Whether it may be what a restore or a drill takes when none is named: the live database's
    /// own, and not known to be damaged.
    #[must_use]
    pub fn is_way_back(&self) -> bool {
        self.reason.is_ordinary() && self.damaged.is_none()
    }
}

/// A backup that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backup {
    /// Its folder.
    pub folder: PathBuf,
    /// What is known of it.
    pub manifest: Manifest,
    /// Whether the damage that `manifest` tells was only seen in passing: an archive that is not
    /// there, or not as long as it was. It may be in the middle of being brought back.
    pub is_only_seen: bool,
}

impl Backup {
    /// Its archive.
    #[must_use]
    pub fn archive(&self) -> PathBuf {
        self.folder.join(ARCHIVE)
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.manifest.id
    }
}

/// Something in the folder that is no whole backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// Where it lies.
    pub folder: PathBuf,
    /// What is wrong with it.
    pub why: String,
}

impl Broken {
    /// The id that its folder has, where it is named like a backup.
    #[must_use]
    pub fn id(&self) -> Option<String> {
        let name = self.folder.file_name()?.to_str()?;
        is_id(name).then(|| name.to_owned())
    }
}

/// What a folder of backups has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listed {
    /// Whole ones, oldest first.
    pub backups: Vec<Backup>,
    /// What is none.
    pub broken: Vec<Broken>,
}

/// A backup that is being made; dropped before its end it removes what it wrote.
#[derive(Debug)]
pub struct Draft {
    home: PathBuf,
    folder: PathBuf,
    /// The id that it will have.
    pub id: String,
    done: bool,
}

impl Draft {
    /// Where the archive is to be written.
    #[must_use]
    pub fn archive(&self) -> PathBuf {
        self.folder.join(ARCHIVE)
    }

    /// Makes a backup of it: the archive has to be whole and synced.
    ///
    /// # Errors
    /// [`FilesError`]; what was written is removed.
    pub async fn finish(mut self, manifest: Manifest) -> Result<Backup, FilesError> {
        write_manifest(&self.folder, &manifest).await?;
        let folder = self.home.join(&self.id);
        let io = |what, path: &Path, error| FilesError::Io { what, path: path.to_owned(), error };
        std::fs::rename(&self.folder, &folder).map_err(|e| io("rename", &self.folder, e))?;
        // CRASH: the folder is there under its name, or under the old one and no backup.
        sync(&self.home)?;
        self.done = true;
        Ok(Backup { folder, manifest, is_only_seen: false })
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.done
            && let Err(error) = std::fs::remove_dir_all(&self.folder)
        {
            tracing::warn!(%error, folder = %self.folder.display(), "half a backup is left over");
        }
    }
}

/// Begins a backup in a folder of backups, which is made when it is not there.
///
/// # Errors
/// [`FilesError`].
pub fn begin(home: &Path) -> Result<Draft, FilesError> {
    let io = |what, path: &Path, error| FilesError::Io { what, path: path.to_owned(), error };
    let make =
        |path: &Path, deep| std::fs::DirBuilder::new().mode(0o700).recursive(deep).create(path);
    make(home, true).map_err(|e| io("make", home, e))?;
    let id = next_id(home)?;
    let folder = home.join(format!("{UNFINISHED}{id}"));
    if folder.exists() {
        std::fs::remove_dir_all(&folder).map_err(|e| io("remove", &folder, e))?;
    }
    make(&folder, false).map_err(|e| io("make", &folder, e))?;
    Ok(Draft { home: home.to_owned(), folder, id, done: false })
}

/// Ids count up over all that are there or were begun: one that was given is not given again while
/// anything of it is left.
fn next_id(home: &Path) -> Result<String, FilesError> {
    let number = |name: &str| name.rsplit_once("b-")?.1.parse::<u64>().ok();
    let newest = names(home)?.iter().filter_map(|name| number(name)).max().unwrap_or(0);
    Ok(format!("b-{}", newest + 1))
}

fn names(home: &Path) -> Result<Vec<String>, FilesError> {
    let entries = match std::fs::read_dir(home) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => {
            return Err(FilesError::Io { what: "read", path: home.to_owned(), error });
        }
    };
    Ok(entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect())
}

/// Removes what a killed process left half made or half removed. To be called only while nothing
/// makes a backup here.
///
/// # Errors
/// [`FilesError`]; what is left is swept the next time.
pub async fn sweep(home: &Path) -> Result<usize, FilesError> {
    let home = home.to_owned();
    blocking(move || {
        let mut swept = 0;
        for name in names(&home)? {
            if name.starts_with(UNFINISHED) || name.starts_with(GONE) {
                let path = home.join(&name);
                match std::fs::remove_dir_all(&path) {
                    Ok(()) => swept += 1,
                    // Somebody else sweeps, too.
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                    Err(error) => return Err(FilesError::Io { what: "remove", path, error }),
                }
            }
        }
        Ok(swept)
    })
    .await
}

/// What is there.
///
/// # Errors
/// [`FilesError`] when the folder cannot be read; one that is not there has no backups.
pub async fn list(home: &Path) -> Result<Listed, FilesError> {
    let home = home.to_owned();
    blocking(move || {
        let mut listed = Listed::default();
        for name in names(&home)? {
            let folder = home.join(&name);
            if name.starts_with(UNFINISHED) {
                listed.broken.push(Broken { folder, why: "it was never finished".to_owned() });
                continue;
            }
            if name.starts_with(GONE) {
                continue;
            }
            match read_manifest(&folder) {
                Ok(manifest) if manifest.id == name => {
                    listed.backups.push(look(Backup { folder, manifest, is_only_seen: false }));
                }
                Ok(manifest) => {
                    let why = format!("its manifest says {}", manifest.id);
                    listed.broken.push(Broken { folder, why });
                }
                Err(why) => listed.broken.push(Broken { folder, why }),
            }
        }
        listed.backups.sort_by_key(|backup| (backup.manifest.at, backup.manifest.id.clone()));
        Ok(listed)
    })
    .await
}

fn is_id(text: &str) -> bool {
    text.strip_prefix("b-").is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}

/// What is seen of an archive without reading it: that it is gone, or not as long as it was.
fn look(mut backup: Backup) -> Backup {
    let wanted = backup.manifest.bytes;
    let why = match std::fs::metadata(backup.archive()) {
        Ok(found) if found.len() == wanted => return backup,
        Ok(found) => format!("it has {} bytes, and had {wanted} when it was made", found.len()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => "archive missing".to_owned(),
        // Nothing is known against it.
        Err(_) => return backup,
    };
    if backup.manifest.damaged.is_none() {
        let at = Millis(jiff::Timestamp::now().as_millisecond());
        backup.manifest.damaged = Some((at, why));
        backup.is_only_seen = true;
    }
    backup
}

/// One of them.
///
/// # Errors
/// [`FilesError::Absent`] when there is none of this id.
pub async fn find(home: &Path, id: &str) -> Result<Backup, FilesError> {
    let path = home.join(id);
    if !is_id(id) {
        let reason = "a backup's id looks like b-118".to_owned();
        return Err(FilesError::Refused { path: PathBuf::from(id), reason });
    }
    let listed = list(home).await?;
    if let Some(broken) = listed.broken.iter().find(|broken| broken.folder == path) {
        return Err(FilesError::Refused { path, reason: broken.why.clone() });
    }
    let found = listed.backups.into_iter().find(|backup| backup.manifest.id == id);
    found.ok_or_else(|| {
        let reason = "there is no such backup".to_owned();
        FilesError::Refused { path: PathBuf::from(id), reason }
    })
}

/// Compares the archive with its manifest: length and SHA-256.
///
/// # Errors
/// [`FilesError::Refused`] that says what differs.
pub async fn check(backup: &Backup) -> Result<(), FilesError> {
    let (path, manifest) = (backup.archive(), backup.manifest.clone());
    let (bytes, sha256) = hash(&path).await?;
    if bytes != manifest.bytes {
        let reason = format!("it has {bytes} bytes, and had {} when it was made", manifest.bytes);
        return Err(FilesError::Refused { path, reason });
    }
    if sha256 != manifest.sha256 {
        let reason = "its SHA-256 is not the one in its manifest: it is damaged".to_owned();
        return Err(FilesError::Refused { path, reason });
    }
    Ok(())
}

/// Length and SHA-256 of a file.
///
/// # Errors
/// [`FilesError::Io`].
pub async fn hash(path: &Path) -> Result<(u64, String), FilesError> {
    let path = path.to_owned();
    blocking(move || {
        let io = |error| FilesError::Io { what: "read", path: path.clone(), error };
        let mut file = std::fs::File::open(&path).map_err(io)?;
        let (mut hasher, mut bytes) = (Sha256::new(), 0);
        let mut buffer = vec![0; 256 * 1024];
        loop {
            let read = file.read(&mut buffer).map_err(io)?;
            if read == 0 {
                let digest = hasher.finalize();
                return Ok((bytes, digest.iter().map(|byte| format!("{byte:02x}")).collect()));
            }
            hasher.update(&buffer[..read]);
            bytes += read as u64;
        }
    })
    .await
}

/// Writes a manifest anew: that it was verified, or copied.
///
/// # Errors
/// [`FilesError`]; the old one stands then.
pub async fn amend(backup: &Backup) -> Result<(), FilesError> {
    write_manifest(&backup.folder, &backup.manifest).await
}

/// Removes a backup: its folder gets another name first, so that half of it is none. Gone already
/// is success. `renamed`: told once it has.
///
/// # Errors
/// [`FilesError`].
pub async fn remove(folder: &Path, renamed: fn()) -> Result<(), FilesError> {
    let folder = folder.to_owned();
    blocking(move || {
        let io = |error| FilesError::Io { what: "remove", path: folder.clone(), error };
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        let gone = folder.with_file_name(format!("{GONE}{name}"));
        let absent = |error: &std::io::Error| error.kind() == std::io::ErrorKind::NotFound;
        match std::fs::rename(&folder, &gone) {
            Ok(()) => sync(folder.parent().unwrap_or(Path::new(".")))?,
            Err(error) if absent(&error) => {}
            Err(error) => return Err(io(error)),
        }
        // CRASH: it is no backup any more; the next sweep removes what is left of it.
        renamed();
        match std::fs::remove_dir_all(&gone) {
            Err(error) if !absent(&error) => Err(io(error)),
            _ => Ok(()),
        }
    })
    .await
}

async fn write_manifest(folder: &Path, manifest: &Manifest) -> Result<(), FilesError> {
    let path = folder.join(MANIFEST);
    let bytes = serde_json::to_vec_pretty(manifest).map_err(|error| FilesError::Io {
        what: "write",
        path: path.clone(),
        error: std::io::Error::other(error),
    })?;
    files::write_file(&path, bytes).await
}

fn read_manifest(folder: &Path) -> Result<Manifest, String> {
    let path = folder.join(MANIFEST);
    let text = match std::fs::read(&path) {
        Ok(bytes) if bytes.len() <= 1024 * 1024 => bytes,
        Ok(_) => return Err("its manifest is too long".to_owned()),
        Err(error) => return Err(format!("its manifest cannot be read: {error}")),
    };
    serde_json::from_slice(&text).map_err(|error| format!("its manifest is damaged: {error}"))
}

fn sync(folder: &Path) -> Result<(), FilesError> {
    let io = |error| FilesError::Io { what: "sync", path: folder.to_owned(), error };
    std::fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(io)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, FilesError> + Send + 'static,
) -> Result<T, FilesError> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| {
        let path = PathBuf::from("backups");
        Err(FilesError::Io { what: "work on", path, error: std::io::Error::other(error) })
    })
}

#[cfg(test)]
mod tests;
