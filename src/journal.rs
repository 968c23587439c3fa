//! The journal: the record of facts, and the other small files that the daemon keeps.
//!
//! Owns the state folder: its lock, the SQLite file with facts, snapshots and evidence, the weights
//! file and the last good tables. It is generic over bytes: what a fact means is the model's
//! business, [`codec`] translates. It never repairs or resets anything by itself.
//! Invariant: a fact that [`Journal::append`] acknowledged is on disk, and the chain of hashes over
//! an app's facts has neither gap nor change; whatever breaks this is reported, not mended.

pub mod codec;
pub mod disk;
pub mod error;
pub mod lock;
pub mod record;
pub mod reserve;
pub mod tables;
pub mod weights;

mod evidence;
mod look;
mod schema;
mod snapshot;
mod store;
mod wal;
mod worker;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cutover_model::{AppName, Epoch, Millis, OperationId, Seq};
use tokio::sync::watch;

pub use error::JournalError;
pub use evidence::Evidence;
pub use lock::{Holder, StateLock};
pub use look::Chain;
pub use record::{NewFact, StoredFact};
pub use snapshot::{Replay, Snapshot};
pub use store::Store;

use worker::{Worker, WorkerError};

/// Calls that may wait for the writer. Each is one caller that waits for its answer, and callers
/// are one task per app and the few requests of the API, so more than this means that the disk
/// hangs.
const QUEUE: usize = 128;

/// How long the writer is idle before it empties the write-ahead file into the database.
const IDLE: Duration = Duration::from_secs(1);

/// How the journal is opened.
#[derive(Debug, Clone)]
pub struct Options {
    /// The state folder; made if it is missing.
    pub folder: PathBuf,
    /// The name of this machine, written into each fact; at most 64 bytes.
    pub node: String,
    /// How long a call waits for the disk before it gives up with [`JournalError::Slow`].
    pub limit: Duration,
    /// The time, written into the lock.
    pub now: Millis,
}

impl Options {
    /// The usual options for a folder: calls wait 5 s for the disk.
    #[must_use]
    pub fn new(folder: impl Into<PathBuf>, node: impl Into<String>, now: Millis) -> Self {
        Self { folder: folder.into(), node: node.into(), limit: Duration::from_secs(5), now }
    }
}

/// The open journal. Cheap to share behind an `Arc`; every call has a time limit.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    epoch: Epoch,
    limit: Duration,
    door: Door,
    appended: watch::Sender<u64>,
}

/// Whether the file may be used.
#[derive(Debug)]
enum Door {
    Open {
        writer: Worker<Store>,
        reader: Worker<Store>,
    },
    /// It cannot be trusted: every call says why, and nothing touches it. The folder stays locked.
    Closed {
        why: JournalError,
        _lock: Arc<StateLock>,
    },
}

/// What was found in the folder.
enum Files {
    Open(Box<(Store, Store)>),
    Closed(JournalError, Arc<StateLock>),
}

impl Journal {
    /// Locks the state folder, opens or makes the journal, checks all of it and takes the next
    /// epoch. Waits for the disk without a limit: the daemon has nothing to say before.
    ///
    /// # Errors
    /// [`JournalError::Locked`] while another daemon has the folder; [`JournalError::Unsafe`],
    /// [`JournalError::Missing`], [`JournalError::Newer`], [`JournalError::Corrupt`]: nothing was
    /// touched and the text says what to do; [`JournalError::Full`] and [`JournalError::Disk`].
    pub async fn open(options: Options) -> Result<Self, JournalError> {
        let journal = Self::open_or_closed(options).await?;
        match journal.closed() {
            Some(why) => Err(why.clone()),
            None => Ok(journal),
        }
    }

    /// The same, but a journal that is damaged, missing, newer or on a disk that refuses it is no
    /// error: it is closed. Every call then says why, and nothing touches the file.
    ///
    /// # Errors
    /// [`JournalError::Locked`], [`JournalError::Unsafe`], and those of the disk when the folder
    /// cannot be made or locked: somebody else may have the state, or may change it.
    pub async fn open_or_closed(options: Options) -> Result<Self, JournalError> {
        let (limit, path) = (options.limit, options.folder.join(store::FILE));
        let opened = tokio::task::spawn_blocking(move || Self::open_files(&options)).await;
        let (door, epoch) = match opened.map_err(|_| JournalError::Gone)?? {
            Files::Open(stores) => {
                let (writer, reader) = *stores;
                let epoch = writer.epoch();
                let gone = |error: std::io::Error| JournalError::Disk {
                    path: path.clone(),
                    step: "starting the writer's thread",
                    why: error.to_string(),
                };
                let writer = Worker::start("journal", QUEUE, IDLE, writer, Store::rest);
                let reader = Worker::start("journal-reader", QUEUE, IDLE, reader, |_| ());
                let (writer, reader) = (writer.map_err(gone)?, reader.map_err(gone)?);
                (Door::Open { writer, reader }, epoch)
            }
            Files::Closed(why, lock) => (Door::Closed { why, _lock: lock }, Epoch(0)),
        };
        Ok(Self { path, epoch, limit, door, appended: watch::Sender::new(0) })
    }

    fn open_files(options: &Options) -> Result<Files, JournalError> {
        let Options { folder, node, now, .. } = options;
        disk::make_folder(folder)?;
        let lock = Arc::new(StateLock::take(folder, *now)?);
        let opened = Store::open(folder, Arc::clone(&lock), node, *now)
            .and_then(|writer| Ok((writer, Store::open_reading(folder)?)));
        Ok(match opened {
            Ok(stores) => Files::Open(Box::new(stores)),
            Err(why) => Files::Closed(why, lock),
        })
    }

    /// Why the file is not used; see [`Journal::open_or_closed`].
    #[must_use]
    pub fn closed(&self) -> Option<&JournalError> {
        match &self.door {
            Door::Open { .. } => None,
            Door::Closed { why, .. } => Some(why),
        }
    }

    /// The epoch that this daemon took; an older one cannot append any more.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The database file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Changes whenever facts were appended; for those who follow.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.appended.subscribe()
    }

    /// Gives up the reserve of the state folder for facts that something waits for; whether there
    /// is room now that was not there before.
    pub async fn give_up_reserve(&self) -> bool {
        let Some(folder) = self.path.parent().map(Path::to_owned) else { return false };
        let released = tokio::task::spawn_blocking(move || reserve::release_to_end(&folder));
        matches!(tokio::time::timeout(self.limit, released).await, Ok(Ok(true)))
    }

    async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Store) -> Result<T, JournalError> + Send + 'static,
    ) -> Result<T, JournalError> {
        match &self.door {
            Door::Open { writer, .. } => {
                writer.call(self.limit, work).await.map_err(|e| self.waited(e))?
            }
            Door::Closed { why, .. } => Err(why.clone()),
        }
    }

    async fn ask<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Store) -> Result<T, JournalError> + Send + 'static,
    ) -> Result<T, JournalError> {
        match &self.door {
            Door::Open { reader, .. } => {
                reader.call(self.limit, work).await.map_err(|e| self.waited(e))?
            }
            Door::Closed { why, .. } => Err(why.clone()),
        }
    }

    fn waited(&self, error: WorkerError) -> JournalError {
        match error {
            WorkerError::Busy => JournalError::Busy,
            WorkerError::Slow => JournalError::Slow { limit: self.limit },
            WorkerError::Gone => JournalError::Gone,
        }
    }

    /// Appends facts to an app's chain, all or none; returns the place of the last one.
    ///
    /// `expected` is the place of the last fact that the caller has seen, `Seq(0)` for none.
    ///
    /// # Errors
    /// [`JournalError::Conflict`] when there are others, [`JournalError::Fenced`] when a newer
    /// daemon has taken over: nothing was written. After [`JournalError::Full`],
    /// [`JournalError::Disk`] and [`JournalError::Slow`] it is unknown whether the facts stand; ask
    /// [`Journal::head`].
    pub async fn append(
        &self,
        app: &AppName,
        expected: Seq,
        epoch: Epoch,
        facts: Vec<NewFact>,
    ) -> Result<Seq, JournalError> {
        let app = app.clone();
        let seq = self.write(move |store| store.append(&app, expected, epoch, &facts)).await?;
        self.appended.send_modify(|count| *count = count.wrapping_add(1));
        Ok(seq)
    }

    /// The place of an app's last fact; `Seq(0)` when it has none.
    ///
    /// # Errors
    /// Those of the disk and of waiting.
    pub async fn head(&self, app: &AppName) -> Result<Seq, JournalError> {
        let app = app.clone();
        self.write(move |store| store.head(&app)).await
    }

    /// The apps that have facts, by name.
    ///
    /// # Errors
    /// Those of the disk and of waiting.
    pub async fn apps(&self) -> Result<Vec<AppName>, JournalError> {
        self.ask(|store| store.apps()).await
    }

    /// At most `limit` facts of an app after a place, oldest first; each one's hash is checked.
    ///
    /// # Errors
    /// [`JournalError::Corrupt`], and those of the disk and of waiting.
    pub async fn read(
        &self,
        app: &AppName,
        after: Seq,
        limit: usize,
    ) -> Result<Vec<StoredFact>, JournalError> {
        let app = app.clone();
        self.ask(move |store| store.read(&app, after, limit)).await
    }

    /// What a replay needs: the newest snapshot of this version and the facts after it. Once facts
    /// were pruned, it may be a snapshot of an older version, which the caller lifts.
    ///
    /// # Errors
    /// [`JournalError::Corrupt`], and those of the disk and of waiting.
    pub async fn replay(&self, app: &AppName, version: u32) -> Result<Replay, JournalError> {
        let app = app.clone();
        self.ask(move |store| store.replay(&app, version)).await
    }

    /// Keeps a snapshot; the oldest go, so that an app has at most 3.
    ///
    /// # Errors
    /// [`JournalError::Fenced`], [`JournalError::Refused`] when its place has no fact, and those of
    /// the disk and of waiting.
    pub async fn save_snapshot(
        &self,
        app: &AppName,
        epoch: Epoch,
        snapshot: Snapshot,
    ) -> Result<(), JournalError> {
        let app = app.clone();
        self.write(move |store| store.save_snapshot(&app, epoch, &snapshot)).await
    }

    /// Drops the facts before `keep_from` that a snapshot covers; the chain stays checkable from
    /// there. Returns how many went: a bounded number at a time, the next call takes the rest.
    ///
    /// # Errors
    /// [`JournalError::Refused`] when no snapshot covers them, [`JournalError::Fenced`], and those
    /// of the disk and of waiting.
    pub async fn prune(
        &self,
        app: &AppName,
        epoch: Epoch,
        keep_from: Seq,
    ) -> Result<u64, JournalError> {
        let app = app.clone();
        self.write(move |store| store.prune(&app, epoch, keep_from)).await
    }

    /// Checks the whole file: structure, every chain, every snapshot.
    ///
    /// # Errors
    /// [`JournalError::Corrupt`] with the first thing that is wrong.
    pub async fn verify(&self) -> Result<Vec<Chain>, JournalError> {
        self.ask(|store| store.verify()).await
    }

    /// Sets counts of one operation; the ones that are not named stay.
    ///
    /// # Errors
    /// [`JournalError::Fenced`], and those of the disk and of waiting.
    pub async fn put_evidence(
        &self,
        app: &AppName,
        epoch: Epoch,
        operation: OperationId,
        counts: Vec<Evidence>,
    ) -> Result<(), JournalError> {
        let app = app.clone();
        self.write(move |store| store.put_evidence(&app, epoch, operation, &counts)).await
    }

    /// The counts of one operation, ordered by weight, color and kind.
    ///
    /// # Errors
    /// [`JournalError::Corrupt`], and those of the disk and of waiting.
    pub async fn evidence(
        &self,
        app: &AppName,
        operation: OperationId,
    ) -> Result<Vec<Evidence>, JournalError> {
        let app = app.clone();
        self.ask(move |store| store.evidence(&app, operation)).await
    }

    /// Ends both threads and closes the file; waits at most the time limit.
    ///
    /// # Errors
    /// [`JournalError::Slow`] when the disk hangs; the process may end all the same.
    pub async fn close(self) -> Result<(), JournalError> {
        let limit = self.limit;
        let Door::Open { writer, reader } = self.door else { return Ok(()) };
        reader.end(limit).await.map_err(|_| JournalError::Slow { limit })?;
        writer.end(limit).await.map_err(|_| JournalError::Slow { limit })
    }
}

#[cfg(test)]
mod tests;
