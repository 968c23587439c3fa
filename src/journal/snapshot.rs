//! Snapshots: the state of an app at a place of its journal, so that a replay stays short.
//!
//! A snapshot is derived: while all facts are there, one of another version is passed over, not an
//! error; once facts were pruned, an older version is read and lifted by its reader. Its checksum
//! covers the hash of the fact at its place, so it fits one chain only.
//! Invariant: an app has at most [`KEPT`] snapshots, and pruned facts lie before the newest one.

use cutover_model::{AppName, Epoch, Seq};
use rusqlite::{OptionalExtension, params};

use super::JournalError;
use super::look::{Look, number};
use super::record::{Hash, StoredFact, digest};
use super::store::Store;

/// Snapshots kept for each app.
pub(super) const KEPT: u64 = 3;

/// Bytes of one snapshot at most.
pub(super) const MAX_BYTES: usize = 8 * 1024 * 1024;

/// Facts that one call of [`Store::prune`] drops at most, so that the writer is soon free again.
pub(super) const MOST_PRUNED: u64 = 5_000;

/// The state of an app at a place of its journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The last fact that is in it.
    pub seq: Seq,
    /// The version of the state's form.
    pub version: u32,
    /// The state.
    pub bytes: Vec<u8>,
}

/// What a replay needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replay {
    /// Where to begin; `None`: at the first fact.
    pub snapshot: Option<Snapshot>,
    /// All facts after it, oldest first.
    pub tail: Vec<StoredFact>,
}

fn sum(app: &AppName, snapshot: &Snapshot, at: &Hash) -> Hash {
    digest(&[
        b"cutover.snapshot/1",
        app.as_str().as_bytes(),
        &snapshot.seq.0.to_be_bytes(),
        &snapshot.version.to_be_bytes(),
        &snapshot.bytes,
        at,
    ])
}

impl Store {
    /// See [`super::Journal::save_snapshot`].
    ///
    /// # Errors
    /// As there.
    pub fn save_snapshot(
        &mut self,
        app: &AppName,
        epoch: Epoch,
        snapshot: &Snapshot,
    ) -> Result<(), JournalError> {
        if snapshot.bytes.len() > MAX_BYTES {
            let text = format!("a snapshot of more than {MAX_BYTES} bytes");
            return Err(JournalError::Refused(text));
        }
        self.change(epoch, "saving a snapshot", |change| {
            let Some(at) = change.hash_at(app, snapshot.seq)? else {
                let text = format!("a snapshot at {}, where there is no fact", snapshot.seq);
                return Err(JournalError::Refused(text));
            };
            change.sql(|tx| {
                tx.execute(
                    "INSERT OR REPLACE INTO snapshots (app, seq, version, bytes, sum)
                     VALUES (?1, ?2, ?3, ?4, ?5)",
                    params![
                        app.as_str(),
                        number(snapshot.seq.0),
                        snapshot.version,
                        snapshot.bytes,
                        sum(app, snapshot, &at)
                    ],
                )?;
                tx.execute(
                    "DELETE FROM snapshots WHERE app = ?1 AND seq NOT IN
                     (SELECT seq FROM snapshots WHERE app = ?1 ORDER BY seq DESC LIMIT ?2)",
                    params![app.as_str(), number(KEPT)],
                )
            })?;
            Ok(())
        })
    }

    /// See [`super::Journal::replay`].
    ///
    /// # Errors
    /// As there; [`JournalError::Corrupt`] too when facts were pruned and no snapshot of this
    /// version covers them.
    pub fn replay(&mut self, app: &AppName, version: u32) -> Result<Replay, JournalError> {
        self.looking("replaying", |look| {
            let chain = look.chain(app)?;
            let base = chain.as_ref().map_or(Seq(0), |chain| chain.base);
            let mut kept = look.snapshots(app)?;
            kept.retain(|snapshot| snapshot.version <= version && snapshot.seq >= base);
            let own = kept.iter().rposition(|snapshot| snapshot.version == version);
            // The facts say it better than an older form; only where they are gone it has to do.
            let at = own.or_else(|| kept.len().checked_sub(1).filter(|_| base > Seq(0)));
            let snapshot = at.map(|at| kept.swap_remove(at));
            let after = snapshot.as_ref().map_or(Seq(0), |snapshot| snapshot.seq);
            if after < base {
                return Err(look.corrupt(format!(
                    "the facts of \"{app}\" up to {base} were pruned, and no snapshot of version \
                     {version} or an older one covers them"
                )));
            }
            Ok(Replay { snapshot, tail: look.facts(app, after, usize::MAX)? })
        })
    }

    /// See [`super::Journal::prune`].
    ///
    /// # Errors
    /// As there.
    pub fn prune(
        &mut self,
        app: &AppName,
        epoch: Epoch,
        keep_from: Seq,
    ) -> Result<u64, JournalError> {
        self.change(epoch, "pruning", |change| {
            let chain = change.chain(app)?.map_or(Seq(0), |chain| chain.base);
            let base = Seq(keep_from.0.saturating_sub(1).min(chain.0 + MOST_PRUNED));
            if base <= chain {
                return Ok(0);
            }
            let covered = change.snapshots(app)?.last().is_some_and(|newest| newest.seq >= base);
            let Some(hash) = change.hash_at(app, base)?.filter(|_| covered) else {
                let text = format!("no snapshot covers the facts before {keep_from}");
                return Err(JournalError::Refused(text));
            };
            change.set_base(app, base, hash)?;
            let gone = change.sql(|tx| {
                tx.execute(
                    "DELETE FROM snapshots WHERE app = ?1 AND seq < ?2",
                    params![app.as_str(), number(base.0)],
                )?;
                tx.execute(
                    "DELETE FROM facts WHERE app = ?1 AND seq <= ?2",
                    params![app.as_str(), number(base.0)],
                )
            })?;
            Ok(gone as u64)
        })
    }
}

impl Look<'_> {
    /// The snapshots of an app, oldest first, each one checked.
    pub(super) fn snapshots(&self, app: &AppName) -> Result<Vec<Snapshot>, JournalError> {
        // The plus sign: each row is compared, none is found by an order that may be damaged.
        let rows: Vec<(Snapshot, Hash)> = self.sql(|db| {
            db.prepare(
                "SELECT seq, version, bytes, sum FROM snapshots WHERE +app = ?1 ORDER BY seq",
            )?
            .query_map([app.as_str()], |row| {
                let seq = Seq(row.get::<_, i64>(0)?.cast_unsigned());
                let snapshot = Snapshot { seq, version: row.get(1)?, bytes: row.get(2)? };
                Ok((snapshot, row.get(3)?))
            })?
            .collect()
        })?;
        rows.into_iter()
            .map(|(snapshot, stored)| {
                let at = self.hash_at(app, snapshot.seq)?;
                if at.is_some_and(|at| sum(app, &snapshot, &at) == stored) {
                    Ok(snapshot)
                } else {
                    let text = format!("the snapshot of \"{app}\" at {}", snapshot.seq);
                    Err(self.corrupt(text))
                }
            })
            .collect()
    }

    /// The hash of the fact at a place that the chain still knows.
    pub(super) fn hash_at(&self, app: &AppName, seq: Seq) -> Result<Option<Hash>, JournalError> {
        if let Some(chain) = self.chain(app)?.filter(|chain| chain.base == seq && seq.0 > 0) {
            return Ok(Some(chain.base_hash));
        }
        self.sql(|db| {
            db.query_row(
                "SELECT hash FROM facts WHERE app = ?1 AND seq = ?2",
                params![app.as_str(), number(seq.0)],
                |row| row.get(0),
            )
            .optional()
        })
    }
}
