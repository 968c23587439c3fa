//! Reading and checking the journal's rows within one transaction.
//!
//! Owns the translation between rows and values and the checks of chains and checksums. Opens
//! nothing and commits nothing; that is the store's part.
//! Invariant: no row leaves here whose hash or checksum is not right.

use std::path::Path;

use cutover_model::{AppName, Epoch, Millis, OperationId, Seq};
use rusqlite::{Connection, OptionalExtension, Row, params};
use uuid::Uuid;

use super::JournalError;
use super::record::{Hash, StoredFact, digest, hex};

/// One app's chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// The app.
    pub app: AppName,
    /// The last fact that was pruned; the chain begins after it.
    pub base: Seq,
    /// Its hash.
    pub base_hash: Hash,
    /// The last fact.
    pub head: Seq,
    /// Its hash. Kept elsewhere, it proves later that nothing before it was changed.
    pub head_hash: Hash,
}

impl Chain {
    fn sum(&self) -> Hash {
        digest(&[
            b"cutover.head/1",
            self.app.as_str().as_bytes(),
            &self.base.0.to_be_bytes(),
            &self.base_hash,
            &self.head.0.to_be_bytes(),
            &self.head_hash,
        ])
    }
}

/// SQLite's numbers are signed; ours count up from 0 and never come near the difference.
pub(super) fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

pub(super) fn epoch_sum(epoch: Epoch, node: &str, pid: i64, time: Millis) -> Hash {
    digest(&[
        b"cutover.epoch/1",
        &epoch.0.to_be_bytes(),
        node.as_bytes(),
        &pid.to_be_bytes(),
        &time.0.to_be_bytes(),
    ])
}

/// A view of the file within one transaction.
pub(super) struct Look<'a> {
    path: &'a Path,
    db: &'a Connection,
}

impl<'a> Look<'a> {
    pub(super) fn new(path: &'a Path, db: &'a Connection) -> Self {
        Self { path, db }
    }

    pub(super) fn sql<T>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, JournalError> {
        work(self.db).map_err(|error| JournalError::sql(self.path, "reading or writing", &error))
    }

    pub(super) fn corrupt(&self, what: String) -> JournalError {
        JournalError::Corrupt { path: self.path.to_owned(), what }
    }

    pub(super) fn checkpoint(&self) -> Result<(), JournalError> {
        let busy: i64 =
            self.sql(|db| db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0)))?;
        if busy == 0 { Ok(()) } else { Err(JournalError::Busy) }
    }

    pub(super) fn epoch(&self) -> Result<Epoch, JournalError> {
        let row: Option<(i64, String, i64, i64, Hash)> = self.sql(|db| {
            db.query_row("SELECT epoch, node, pid, time_ms, sum FROM epochs", [], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?))
            })
            .optional()
        })?;
        let Some((epoch, node, pid, time, sum)) = row else { return Ok(Epoch(0)) };
        let epoch = Epoch(epoch.cast_unsigned());
        if epoch_sum(epoch, &node, pid, Millis(time)) == sum {
            Ok(epoch)
        } else {
            Err(self.corrupt("the record of the epoch".to_owned()))
        }
    }

    pub(super) fn check_epoch(&self, epoch: Epoch) -> Result<(), JournalError> {
        let current = self.epoch()?;
        if current == epoch { Ok(()) } else { Err(JournalError::Fenced { epoch, current }) }
    }

    pub(super) fn chain(&self, app: &AppName) -> Result<Option<Chain>, JournalError> {
        let row = self.sql(|db| {
            db.prepare_cached(
                "SELECT app, base_seq, base_hash, seq, hash, sum FROM heads WHERE app = ?1",
            )?
            .query_row([app.as_str()], chain_row)
            .optional()
        })?;
        row.map(|row| self.checked(row)).transpose()
    }

    pub(super) fn chains(&self) -> Result<Vec<Chain>, JournalError> {
        let rows: Vec<ChainRow> = self.sql(|db| {
            db.prepare("SELECT app, base_seq, base_hash, seq, hash, sum FROM heads ORDER BY app")?
                .query_map([], chain_row)?
                .collect()
        })?;
        rows.into_iter().map(|row| self.checked(row)).collect()
    }

    fn checked(&self, (app, base, base_hash, head, head_hash, sum): ChainRow) -> CheckedChain {
        let damaged = || self.corrupt(format!("the record of the last fact of \"{app}\""));
        let name = AppName::new(app.clone()).map_err(|_| damaged())?;
        let (base, head) = (Seq(base.cast_unsigned()), Seq(head.cast_unsigned()));
        let chain = Chain { app: name, base, base_hash, head, head_hash };
        if chain.sum() == sum { Ok(chain) } else { Err(damaged()) }
    }

    pub(super) fn set_chain(&self, chain: &Chain) -> Result<(), JournalError> {
        self.sql(|tx| {
            tx.prepare_cached(
                "INSERT OR REPLACE INTO heads (app, base_seq, base_hash, seq, hash, sum)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?
            .execute(params![
                chain.app.as_str(),
                number(chain.base.0),
                chain.base_hash,
                number(chain.head.0),
                chain.head_hash,
                chain.sum(),
            ])
        })?;
        Ok(())
    }

    pub(super) fn set_base(
        &self,
        app: &AppName,
        base: Seq,
        base_hash: Hash,
    ) -> Result<(), JournalError> {
        match self.chain(app)? {
            Some(chain) => self.set_chain(&Chain { base, base_hash, ..chain }),
            None => Err(JournalError::Refused(format!("\"{app}\" has no facts"))),
        }
    }

    pub(super) fn insert(&self, fact: &StoredFact, hash: &Hash) -> Result<(), JournalError> {
        self.sql(|tx| {
            tx.prepare_cached(
                "INSERT INTO facts (app, seq, epoch, node, id, kind, version, time_ms, actor,
                                    operation, bytes, before, hash)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
            )?
            .execute(params![
                fact.app.as_str(),
                number(fact.seq.0),
                number(fact.epoch.0),
                fact.node,
                fact.id.as_bytes(),
                fact.kind,
                fact.version,
                fact.time.0,
                fact.actor,
                fact.operation.map(|operation| number(operation.0)),
                fact.bytes,
                fact.before,
                hash,
            ])
        })?;
        Ok(())
    }

    pub(super) fn facts(
        &self,
        app: &AppName,
        after: Seq,
        limit: usize,
    ) -> Result<Vec<StoredFact>, JournalError> {
        let mut facts = Vec::new();
        let mut check = |fact: StoredFact, stored: Hash| {
            if fact.hash() == stored {
                facts.push(fact);
                Ok(())
            } else {
                Err(self.corrupt(format!("fact {} of \"{app}\" was changed", fact.seq)))
            }
        };
        self.each_fact(app, after, limit, &mut check)?;
        Ok(facts)
    }

    fn each_fact(
        &self,
        app: &AppName,
        after: Seq,
        limit: usize,
        visit: &mut dyn FnMut(StoredFact, Hash) -> Result<(), JournalError>,
    ) -> Result<(), JournalError> {
        let sql = |error: rusqlite::Error| JournalError::sql(self.path, "reading facts", &error);
        let mut select = self
            .db
            .prepare_cached(
                "SELECT seq, epoch, node, id, kind, version, time_ms, actor, operation, bytes,
                        before, hash, app
                 FROM facts WHERE app = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3",
            )
            .map_err(sql)?;
        let limit = number(limit as u64);
        let mut rows = select.query(params![app.as_str(), number(after.0), limit]).map_err(sql)?;
        while let Some(row) = rows.next().map_err(sql)? {
            let (fact, hash) = fact_row(app, row).map_err(sql)?;
            // SQLite trusts the order of its rows: one that lost its place comes along unasked.
            if row.get_ref(12).and_then(|name| Ok(name.as_str()? == app.as_str())) != Ok(true) {
                return Err(self.corrupt(format!("fact {} of \"{app}\" was changed", fact.seq)));
            }
            visit(fact, hash)?;
        }
        Ok(())
    }

    /// Checks the structure of the file, every chain, every snapshot and every count.
    pub(super) fn verify(&self) -> Result<Vec<Chain>, JournalError> {
        let structure: String =
            self.sql(|db| db.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)))?;
        if structure != "ok" {
            return Err(self.corrupt(structure));
        }
        self.epoch()?;
        let chains = self.chains()?;
        let mut total = 0;
        for chain in &chains {
            self.verify_chain(chain)?;
            self.snapshots(&chain.app)?;
            total += chain.head.0.saturating_sub(chain.base.0);
        }
        let rows: i64 =
            self.sql(|db| db.query_row("SELECT count(*) FROM facts", [], |r| r.get(0)))?;
        let stray: i64 = self.sql(|db| {
            db.query_row(
                "SELECT count(*) FROM snapshots WHERE app NOT IN (SELECT app FROM heads)",
                [],
                |row| row.get(0),
            )
        })?;
        if rows != number(total) || stray != 0 {
            return Err(self.corrupt("facts or snapshots that belong to no app".to_owned()));
        }
        self.evidence_rows(None)?;
        Ok(chains)
    }

    fn verify_chain(&self, chain: &Chain) -> Result<(), JournalError> {
        let app = &chain.app;
        let (mut last, mut hash) = (chain.base, chain.base_hash);
        let mut visit = |fact: StoredFact, stored: Hash| {
            if fact.seq != last.next() {
                let text = format!("facts of \"{app}\" between {last} and {} are gone", fact.seq);
                return Err(self.corrupt(text));
            }
            if fact.before != hash {
                let text = format!("fact {} of \"{app}\" does not follow {last}", fact.seq);
                return Err(self.corrupt(text));
            }
            last = fact.seq;
            hash = fact.hash();
            if hash != stored {
                return Err(self.corrupt(format!("fact {} of \"{app}\" was changed", fact.seq)));
            }
            Ok(())
        };
        self.each_fact(app, Seq(0), usize::MAX, &mut visit)?;
        if (last, hash) == (chain.head, chain.head_hash) {
            Ok(())
        } else {
            Err(self.corrupt(format!(
                "the last fact of \"{app}\" should be {} ({}), but it is {last}",
                chain.head,
                hex(&chain.head_hash)
            )))
        }
    }
}

type ChainRow = (String, i64, Hash, i64, Hash, Hash);
type CheckedChain = Result<Chain, JournalError>;

fn chain_row(row: &Row<'_>) -> rusqlite::Result<ChainRow> {
    Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?))
}

fn fact_row(app: &AppName, row: &Row<'_>) -> rusqlite::Result<(StoredFact, Hash)> {
    let id: [u8; 16] = row.get(3)?;
    let fact = StoredFact {
        app: app.clone(),
        seq: Seq(row.get::<_, i64>(0)?.cast_unsigned()),
        epoch: Epoch(row.get::<_, i64>(1)?.cast_unsigned()),
        node: row.get(2)?,
        id: Uuid::from_bytes(id),
        kind: row.get(4)?,
        version: row.get(5)?,
        time: Millis(row.get(6)?),
        actor: row.get(7)?,
        operation: row.get::<_, Option<i64>>(8)?.map(|o| OperationId(o.cast_unsigned())),
        bytes: row.get(9)?,
        before: row.get(10)?,
    };
    Ok((fact, row.get(11)?))
}
