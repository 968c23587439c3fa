//! The journal's file: appending, reading and checking, on the thread that calls.
//!
//! Owns the SQLite connection. After an error of the disk it drops the connection, and before the
//! next call it opens the file again, checks all of it and syncs what it holds, because the system
//! may have lost what an unsuccessful sync was about.
//! Invariant: facts of an app stand at 1, 2, 3, … (from its base on), each carries the hash of the
//! one before, and `heads` names the last one; all changes of one call are one transaction.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cutover_model::{AppName, Epoch, Millis, Seq};
use rusqlite::{Connection, OpenFlags, TransactionBehavior, params};
use uuid::Uuid;

use super::look::{Chain, Look, epoch_sum, number};
use super::record::{MAX_FACTS, NewFact, ORIGIN, StoredFact};
use super::schema::Found;
use super::{JournalError, StateLock, disk, schema, wal};

/// The name of the database in the state folder.
pub(super) const FILE: &str = "journal.db";

/// The open file.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    node: String,
    epoch: Epoch,
    db: Option<Connection>,
    /// The folder's lock, as long as the file is open for writing; `None`: only for reading.
    lock: Option<Arc<StateLock>>,
}

impl Store {
    /// Opens or makes the file for writing, checks all of it and takes the next epoch.
    ///
    /// # Errors
    /// See [`super::Journal::open`].
    pub fn open(
        folder: &Path,
        lock: Arc<StateLock>,
        node: &str,
        now: Millis,
    ) -> Result<Self, JournalError> {
        if node.len() > 64 {
            return Err(JournalError::Refused("a node's name has at most 64 bytes".to_owned()));
        }
        let path = folder.join(FILE);
        if schema::look(&path)? == Found::Nothing {
            check_fresh(folder)?;
            if !path.exists() {
                drop(disk::create_private(&path)?);
                disk::sync_folder(folder)?;
            }
        }
        let (node, lock) = (node.to_owned(), Some(lock));
        let mut store = Self { path, node, epoch: Epoch(0), db: None, lock };
        store.db = Some(store.connect()?);
        store.verify()?;
        store.take_epoch(now)?;
        store.rest();
        Ok(store)
    }

    /// Opens the file for reading only, without the lock, also while a daemon has it.
    ///
    /// # Errors
    /// [`JournalError::Missing`], [`JournalError::Newer`], [`JournalError::Corrupt`], and those of
    /// the disk.
    pub fn open_reading(folder: &Path) -> Result<Self, JournalError> {
        let path = folder.join(FILE);
        if !matches!(schema::look(&path)?, Found::Form(form) if form > 0) {
            let found = other_state(folder)?;
            return Err(JournalError::Missing { folder: folder.to_owned(), found });
        }
        let mut store = Self { path, node: String::new(), epoch: Epoch(0), db: None, lock: None };
        store.db = Some(store.connect()?);
        Ok(store)
    }

    /// The epoch taken; 0 for a store that only reads.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The database file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn connect(&self) -> Result<Connection, JournalError> {
        let sql = |step| move |error: rusqlite::Error| JournalError::sql(&self.path, step, &error);
        let flags = if self.lock.is_some() {
            wal::check(&disk::beside(&self.path, "-wal"))?;
            OpenFlags::SQLITE_OPEN_READ_WRITE
        } else {
            OpenFlags::SQLITE_OPEN_READ_ONLY
        };
        let flags = flags | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
        let mut db = Connection::open_with_flags(&self.path, flags).map_err(sql("opening"))?;
        db.busy_timeout(Duration::from_secs(2)).map_err(sql("opening"))?;
        db.pragma_update(None, "trusted_schema", "OFF").map_err(sql("opening"))?;
        db.pragma_update(None, "cell_size_check", "ON").map_err(sql("opening"))?;
        if self.lock.is_none() {
            schema::check(&self.path, &db)?;
            return Ok(db);
        }
        db.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))
            .map_err(sql("opening"))?;
        db.pragma_update(None, "synchronous", "FULL").map_err(sql("opening"))?;
        schema::prepare(&self.path, &mut db)?;
        Ok(db)
    }

    /// Opens the file again after an error of the disk, if there was one.
    fn ready(&mut self) -> Result<&mut Connection, JournalError> {
        if self.db.is_none() {
            let db = self.connect()?;
            if self.lock.is_some() {
                let look = Look::new(&self.path, &db);
                look.verify()?;
                look.check_epoch(self.epoch)?;
                // Everything that was read is now written to the database itself and synced.
                look.checkpoint()?;
            }
            self.db = Some(db);
        }
        self.db.as_mut().ok_or(JournalError::Gone)
    }

    /// One transaction under an epoch; an error of the disk closes the file.
    pub(super) fn change<T>(
        &mut self,
        epoch: Epoch,
        step: &'static str,
        work: impl FnOnce(&Look<'_>) -> Result<T, JournalError>,
    ) -> Result<T, JournalError> {
        let path = self.path.clone();
        let sql = |error: rusqlite::Error| JournalError::sql(&path, step, &error);
        let db = self.ready()?;
        let result = (|| {
            let tx = db.transaction_with_behavior(TransactionBehavior::Immediate).map_err(sql)?;
            let look = Look::new(&path, &tx);
            look.check_epoch(epoch)?;
            let result = work(&look)?;
            tx.commit().map_err(sql)?;
            Ok(result)
        })();
        self.after(result)
    }

    /// Reading in one transaction, so that all of it is of one moment.
    pub(super) fn looking<T>(
        &mut self,
        step: &'static str,
        work: impl FnOnce(&Look<'_>) -> Result<T, JournalError>,
    ) -> Result<T, JournalError> {
        let path = self.path.clone();
        let sql = |error: rusqlite::Error| JournalError::sql(&path, step, &error);
        let db = self.ready()?;
        let result = db
            .transaction_with_behavior(TransactionBehavior::Deferred)
            .map_err(sql)
            .and_then(|tx| work(&Look::new(&path, &tx)));
        self.after(result)
    }

    fn after<T>(&mut self, result: Result<T, JournalError>) -> Result<T, JournalError> {
        use JournalError::{Corrupt, Disk, Full};
        if matches!(result, Err(Full { .. } | Disk { .. } | Corrupt { .. })) {
            self.db = None;
        }
        result
    }

    /// See [`super::Journal::append`].
    ///
    /// # Errors
    /// As there.
    pub fn append(
        &mut self,
        app: &AppName,
        expected: Seq,
        epoch: Epoch,
        facts: &[NewFact],
    ) -> Result<Seq, JournalError> {
        facts.iter().try_for_each(NewFact::check)?;
        if facts.len() > MAX_FACTS {
            let text = format!("{} facts at once; {MAX_FACTS} are allowed", facts.len());
            return Err(JournalError::Refused(text));
        }
        let node = self.node.clone();
        self.change(epoch, "appending", |change| {
            let chain = change.chain(app)?.unwrap_or_else(|| Chain {
                app: app.clone(),
                base: Seq(0),
                base_hash: ORIGIN,
                head: Seq(0),
                head_hash: ORIGIN,
            });
            if chain.head != expected {
                return Err(JournalError::Conflict { expected, actual: chain.head });
            }
            let mut chain = chain;
            for fact in facts {
                let stored = StoredFact {
                    app: app.clone(),
                    seq: chain.head.next(),
                    epoch,
                    node: node.clone(),
                    id: Uuid::now_v7(),
                    kind: fact.kind.clone(),
                    version: fact.version,
                    time: fact.time,
                    actor: fact.actor.clone(),
                    operation: fact.operation,
                    bytes: fact.bytes.clone(),
                    before: chain.head_hash,
                };
                chain.head = stored.seq;
                chain.head_hash = stored.hash();
                change.insert(&stored, &chain.head_hash)?;
            }
            if !facts.is_empty() {
                change.set_chain(&chain)?;
            }
            Ok(chain.head)
        })
    }

    /// See [`super::Journal::head`].
    ///
    /// # Errors
    /// As there.
    pub fn head(&mut self, app: &AppName) -> Result<Seq, JournalError> {
        self.looking("reading", |look| Ok(look.chain(app)?.map_or(Seq(0), |chain| chain.head)))
    }

    /// See [`super::Journal::apps`].
    ///
    /// # Errors
    /// As there.
    pub fn apps(&mut self) -> Result<Vec<AppName>, JournalError> {
        self.looking("reading", |look| Ok(look.chains()?.into_iter().map(|c| c.app).collect()))
    }

    /// See [`super::Journal::read`].
    ///
    /// # Errors
    /// As there.
    pub fn read(
        &mut self,
        app: &AppName,
        after: Seq,
        limit: usize,
    ) -> Result<Vec<StoredFact>, JournalError> {
        self.looking("reading", |look| look.facts(app, after, limit))
    }

    /// See [`super::Journal::verify`].
    ///
    /// # Errors
    /// As there.
    pub fn verify(&mut self) -> Result<Vec<Chain>, JournalError> {
        self.looking("checking", |look| look.verify())
    }

    fn take_epoch(&mut self, now: Millis) -> Result<(), JournalError> {
        let node = self.node.clone();
        let current = self.looking("reading the epoch", |look| look.epoch())?;
        let next = current.next();
        let pid = i64::from(std::process::id());
        self.change(current, "taking the epoch", |change| {
            let sum = epoch_sum(next, &node, pid, now);
            change.sql(|tx| {
                tx.execute(
                    "INSERT OR REPLACE INTO epochs (id, epoch, node, pid, time_ms, sum)
                     VALUES (1, ?1, ?2, ?3, ?4, ?5)",
                    params![number(next.0), node, pid, now.0, sum],
                )
            })?;
            Ok(())
        })?;
        self.epoch = next;
        Ok(())
    }

    /// Moves everything into the database itself, where each byte is under a checksum of ours, and
    /// empties the write-ahead file. Called when the writer is idle.
    pub fn rest(&mut self) {
        let Some(db) = &self.db else { return };
        let result = Look::new(&self.path, db).checkpoint();
        match self.after(result) {
            // Somebody reads just now; the next rest does it.
            Ok(()) | Err(JournalError::Busy) => {}
            Err(error) => tracing::warn!(%error, "the journal's write-ahead file stays full"),
        }
    }
}

/// Names in the state folder that speak of earlier state, at most five.
fn other_state(folder: &Path) -> Result<Vec<String>, JournalError> {
    let failed = |error: std::io::Error| JournalError::io(folder, "listing", &error);
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name().to_string_lossy().into_owned();
        // The log of a daemon that a command started is made before that daemon runs.
        if !matches!(name.as_str(), "lock" | FILE | "lost+found" | "serve.log") {
            found.push(name);
        }
    }
    found.sort();
    found.truncate(5);
    Ok(found)
}

fn check_fresh(folder: &Path) -> Result<(), JournalError> {
    let found = other_state(folder)?;
    if found.is_empty() {
        Ok(())
    } else {
        Err(JournalError::Missing { folder: folder.to_owned(), found })
    }
}
