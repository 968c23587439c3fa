//! An archive as it is kept, and how its bytes are had: as they are, or through `age`.

use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use tokio::fs::File;
use tokio::io::{AsyncRead, AsyncReadExt as _};

use super::tool::{CHUNK, Running};
use super::{Sealed, same, seal};
use crate::host::backups::age::Decrypting;
use crate::host::postgres::error::DbError;
use crate::host::postgres::names::hex;

/// An archive in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// The file.
    pub path: PathBuf,
    /// What the file has to be.
    pub sealed: Sealed,
    /// How it is read where it is encrypted.
    pub key: Option<Key>,
}

/// What an encrypted archive is read with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// The file of the private key.
    pub identity: PathBuf,
    /// The SHA-256 of what comes out, where it is known.
    pub plain_sha256: Option<String>,
}

impl Kept {
    /// A file that is an archive as it stands.
    #[must_use]
    pub fn plain(path: &Path, sealed: &Sealed) -> Self {
        Self { path: path.to_owned(), sealed: sealed.clone(), key: None }
    }

    /// Whether the file is what it was.
    pub(super) async fn holds(&self) -> Result<(), DbError> {
        same(&self.path, &self.sealed, &seal(&self.path).await?)
    }

    /// Hands the archive to a tool, to its last byte, and holds what was handed over against what
    /// it has to be.
    pub(super) async fn feed(&self, running: &mut Running) -> Result<(), DbError> {
        let at = |error| DbError::File { path: self.path.clone(), error };
        let Some(key) = &self.key else {
            let mut file = File::open(&self.path).await.map_err(at)?;
            let fed = feed(running, &mut file, &self.path).await?;
            return same(&self.path, &self.sealed, &fed);
        };
        let broken = |why| DbError::Archive { path: self.path.clone(), why };
        let mut decrypting = Decrypting::start(&self.path, &key.identity).map_err(broken)?;
        let fed = feed(running, &mut decrypting.plain, &self.path).await?;
        decrypting.end().await.map_err(broken)?;
        match &key.plain_sha256 {
            Some(wanted) if *wanted != fed.sha256 => {
                Err(broken("what comes out of it is not what went in".to_owned()))
            }
            _ => Ok(()),
        }
    }
}

/// Hands bytes to a tool and gives what was handed over, hashed on the way.
async fn feed(
    running: &mut Running,
    from: &mut (impl AsyncRead + Unpin),
    path: &Path,
) -> Result<Sealed, DbError> {
    let at = |error| DbError::File { path: path.to_owned(), error };
    let (mut hash, mut bytes, mut buffer) = (Sha256::new(), 0_u64, vec![0; CHUNK]);
    let mut takes = true;
    loop {
        let count = from.read(&mut buffer).await.map_err(at)?;
        if count == 0 {
            running.close_input().await;
            return Ok(Sealed { bytes, sha256: hex(&hash.finalize()) });
        }
        // It may have ended with an error; all of it is hashed all the same.
        takes = takes && running.feed(&buffer[..count]).await;
        hash.update(&buffer[..count]);
        bytes += count as u64;
    }
}
