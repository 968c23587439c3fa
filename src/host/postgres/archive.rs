//! Archives: dumps into files of this host, their proof, and restoring one into a candidate.
//!
//! Always `pg_dump -Fc`, compressed: a plain dump cut short restores with exit code 0, and without
//! compression a flipped bit restores silently different data. A file has a temporary name until
//! it is whole and synced. `pg_restore -l` accepts every damaged archive; only a full decode finds
//! one, and our own SHA-256 finds what even that lets pass.

use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cutover_model::OperationId;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::fs::File;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};

pub mod foreign;
mod header;
pub mod kept;
pub mod listing;
pub mod restricted;
pub mod schema;
pub(in crate::host::postgres) mod tool;

use super::connect::Server;
use super::contents::Snapshot;
use super::error::DbError;
use super::names::{DbName, hex};
use kept::Kept;
use tool::{CHUNK, Running, dbname};

/// The size and the hash of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sealed {
    /// How long it is.
    pub bytes: u64,
    /// Its SHA-256 in hexadecimal digits.
    pub sha256: String,
}

/// Who owns what is restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owners {
    /// As in the archive; needs a superuser and all of its roles.
    AsDumped,
    /// This role, for everything; our own has to be a member of it.
    All(String),
}

/// Dumps a database, as a snapshot shows it, into a file with mode 0600. `path` is there whole or
/// not
/// at all; what an earlier try left beside it is removed.
///
/// # Errors
/// [`DbError::Tool`] with what `pg_dump` said, [`DbError::File`] when the disk does not take it.
pub async fn dump(
    server: &Server,
    operation: OperationId,
    (database, snapshot): (&DbName, &Snapshot),
    path: &Path,
    limit: Duration,
) -> Result<Sealed, DbError> {
    let part = part_of(path);
    let made = async {
        let mut running = start_dump(server, operation, database, snapshot).await?;
        running.close_input().await;
        let sealed = write(&mut running, &part).await?;
        running.end().await?;
        let at = |error| DbError::File { path: path.to_owned(), error };
        tokio::fs::rename(&part, path).await.map_err(at)?;
        // CRASH: the name may not be on disk yet; without it the dump was not made.
        let folder = path.parent().unwrap_or(Path::new("."));
        synced(File::open(folder).await.map_err(at)?).await.map_err(at)?;
        Ok(sealed)
    };
    let made = bounded("dumping the database", limit, made).await;
    if made.is_err()
        && let Err(error) = tokio::fs::remove_file(&part).await
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(%error, path = %part.display(), "half a dump could not be removed");
    }
    made
}

async fn synced(file: File) -> std::io::Result<()> {
    let file = file.into_std().await;
    tokio::task::spawn_blocking(move || file.sync_all()).await.map_err(std::io::Error::other)?
}

fn part_of(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.part"))
}

async fn start_dump(
    server: &Server,
    operation: OperationId,
    database: &DbName,
    snapshot: &Snapshot,
) -> Result<Running, DbError> {
    let args = [
        "--format=custom".to_owned(),
        // The fastest that still has a checksum of its own.
        "--compress=1".to_owned(),
        "--no-password".to_owned(),
        "--lock-wait-timeout=30s".to_owned(),
        format!("--snapshot={}", snapshot.id()),
        format!("--dbname={}", dbname(database)),
    ];
    tool::start(server, operation, "pg_dump", &args).await
}

async fn write(running: &mut Running, path: &Path) -> Result<Sealed, DbError> {
    let at = |error| DbError::File { path: path.to_owned(), error };
    match tokio::fs::remove_file(path).await {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(at(error)),
        _ => {}
    }
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    let mut file = tokio::fs::OpenOptions::from(options).open(path).await.map_err(at)?;
    let (mut hash, mut bytes, mut buffer) = (Sha256::new(), 0_u64, vec![0; CHUNK]);
    loop {
        let count = running.stdout.read(&mut buffer).await.map_err(at)?;
        if count == 0 {
            break;
        }
        file.write_all(&buffer[..count]).await.map_err(at)?;
        hash.update(&buffer[..count]);
        bytes += count as u64;
    }
    file.flush().await.map_err(at)?;
    // A sync that fails ends this file: it is never renamed, the dump is made anew.
    synced(file).await.map_err(at)?;
    Ok(Sealed { bytes, sha256: hex(&hash.finalize()) })
}

/// Proves an archive that is not encrypted: its hash, and a full decode of every block by
/// `pg_restore`.
///
/// # Errors
/// [`DbError::Archive`] when it is damaged, cut, or made by a later PostgreSQL.
pub async fn check(
    server: &Server,
    operation: OperationId,
    path: &Path,
    sealed: &Sealed,
    limit: Duration,
) -> Result<(), DbError> {
    check_kept(server, operation, &Kept::plain(path, sealed), limit).await
}

/// Proves an archive.
///
/// # Errors
/// As [`check`], and where it cannot be decrypted.
pub async fn check_kept(
    server: &Server,
    operation: OperationId,
    kept: &Kept,
    limit: Duration,
) -> Result<(), DbError> {
    let checked = async {
        kept.holds().await?;
        let args = ["--file=/dev/null".to_owned()];
        let mut running = tool::start(server, operation, "pg_restore", &args).await?;
        let fed = kept.feed(&mut running).await;
        let ended = running.end().await;
        fed?;
        ended.map_err(|error| damaged(&kept.path, error))
    };
    bounded("reading an archive back", limit, checked).await
}

/// Proves an archive as [`check_kept`] does; how many bytes it is as the text of a script.
///
/// # Errors
/// As [`check_kept`].
pub async fn measure(
    server: &Server,
    operation: OperationId,
    kept: &Kept,
    limit: Duration,
) -> Result<u64, DbError> {
    let measured = async {
        kept.holds().await?;
        let args = ["--file=-".to_owned()];
        let mut running = tool::start(server, operation, "pg_restore", &args).await?;
        let said = std::mem::replace(&mut running.stdout, Box::pin(tokio::io::empty()));
        let (fed, counted) = tokio::join!(kept.feed(&mut running), count(said));
        let ended = running.end().await;
        fed?;
        ended.map_err(|error| damaged(&kept.path, error))?;
        counted.map_err(|error| DbError::File { path: kept.path.clone(), error })
    };
    bounded("reading an archive back", limit, measured).await
}

async fn count(mut from: impl AsyncRead + Unpin) -> std::io::Result<u64> {
    tokio::io::copy(&mut from, &mut tokio::io::sink()).await
}

/// Restores an archive that is not encrypted into an empty database; never into the live one, which
/// the caller proves by handing over the candidate that [`super::build::empty`] made.
///
/// # Errors
/// [`DbError::Archive`] when it is damaged, [`DbError::Tool`] with what `pg_restore` said.
pub async fn restore(
    server: &Server,
    operation: OperationId,
    (path, sealed): (&Path, &Sealed),
    into: (&DbName, &Owners),
    limit: Duration,
) -> Result<(), DbError> {
    restore_kept(server, operation, &Kept::plain(path, sealed), into, limit).await
}

/// Restores an archive into an empty database.
///
/// # Errors
/// As [`restore`], and where it cannot be decrypted.
pub async fn restore_kept(
    server: &Server,
    operation: OperationId,
    kept: &Kept,
    (into, owners): (&DbName, &Owners),
    limit: Duration,
) -> Result<(), DbError> {
    let restored = async {
        kept.holds().await?;
        let mut running = start_restore(server, operation, into, owners).await?;
        let fed = kept.feed(&mut running).await;
        let ended = running.end().await;
        fed?;
        ended
    };
    bounded("restoring an archive", limit, restored).await
}

async fn start_restore(
    server: &Server,
    operation: OperationId,
    into: &DbName,
    owners: &Owners,
) -> Result<Running, DbError> {
    let mut args = vec!["--exit-on-error".to_owned(), "--no-password".to_owned()];
    if let Owners::All(role) = owners {
        args.extend(["--no-owner".to_owned(), format!("--role={role}")]);
    }
    args.push(format!("--dbname={}", dbname(into)));
    tool::start(server, operation, "pg_restore", &args).await
}

/// Copies a database, as a snapshot shows it, into an empty one: `pg_dump | pg_restore`. No session
/// of anybody is touched.
///
/// # Errors
/// [`DbError::Tool`] with what the first of the two said that failed.
pub async fn copy(
    server: &Server,
    operation: OperationId,
    (from, snapshot): (&DbName, &Snapshot),
    (into, owners): (&DbName, &Owners),
    limit: Duration,
) -> Result<(), DbError> {
    let copied = async {
        let mut reading = start_dump(server, operation, from, snapshot).await?;
        reading.close_input().await;
        let mut writing = start_restore(server, operation, into, owners).await?;
        let mut buffer = vec![0; CHUNK];
        loop {
            let count = match reading.stdout.read(&mut buffer).await {
                Ok(0) | Err(_) => break,
                Ok(count) => count,
            };
            if !writing.feed(&buffer[..count]).await {
                // Its end says why; pg_dump's would only say that its pipe broke.
                return writing.end().await;
            }
        }
        // A dump that failed half-way may not look like one that is complete.
        reading.end().await?;
        writing.close_input().await;
        writing.end().await
    };
    bounded("copying the database", limit, copied).await
}

/// Hashes a file.
///
/// # Errors
/// [`DbError::File`] when it cannot be read.
pub async fn seal(path: &Path) -> Result<Sealed, DbError> {
    let at = |error| DbError::File { path: path.to_owned(), error };
    let mut file = File::open(path).await.map_err(at)?;
    let (mut hash, mut bytes, mut buffer) = (Sha256::new(), 0_u64, vec![0; CHUNK]);
    loop {
        let count = file.read(&mut buffer).await.map_err(at)?;
        if count == 0 {
            return Ok(Sealed { bytes, sha256: hex(&hash.finalize()) });
        }
        hash.update(&buffer[..count]);
        bytes += count as u64;
    }
}

fn same(path: &Path, wanted: &Sealed, found: &Sealed) -> Result<(), DbError> {
    let why = match (wanted.bytes == found.bytes, wanted.sha256 == found.sha256) {
        (true, true) => return Ok(()),
        (false, _) => format!("it has {} bytes and had {}", found.bytes, wanted.bytes),
        (true, false) => "its SHA-256 is not the one that was noted".to_owned(),
    };
    Err(DbError::Archive { path: path.to_owned(), why })
}

fn damaged(path: &Path, error: DbError) -> DbError {
    match error {
        DbError::Tool { tail, .. } => DbError::Archive {
            path: path.to_owned(),
            why: format!("pg_restore cannot read it back: {tail}"),
        },
        other => other,
    }
}

async fn bounded<T>(
    what: &str,
    limit: Duration,
    work: impl Future<Output = Result<T, DbError>>,
) -> Result<T, DbError> {
    match tokio::time::timeout(limit, work).await {
        Ok(done) => done,
        Err(_) => Err(DbError::TooSlow { what: what.to_owned(), limit }),
    }
}
