//! Evidence: how many requests of which kind each color answered, by operation and weight.
//!
//! Counts live beside the facts, not in them, because they change all the time and a rollout's
//! verdict only needs the last value. Invariant: counts of at most [`KEPT`] operations are kept for
//! each app.

use cutover_model::{AppName, Color, Epoch, OperationId, Weight};
use rusqlite::params;

use super::JournalError;
use super::look::{Look, number};
use super::record::{Hash, digest};
use super::store::Store;

/// Operations whose counts are kept for each app.
pub(super) const KEPT: u64 = 200;

/// One count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// The canary's weight while the requests were counted.
    pub weight: Weight,
    /// The color that answered.
    pub color: Color,
    /// What is counted, at most 64 bytes.
    pub kind: String,
    /// How many.
    pub count: u64,
}

fn sum(app: &AppName, operation: OperationId, count: &Evidence) -> Hash {
    digest(&[
        b"cutover.evidence/1",
        app.as_str().as_bytes(),
        &operation.0.to_be_bytes(),
        &count.weight.basis_points().to_be_bytes(),
        count.color.as_str().as_bytes(),
        count.kind.as_bytes(),
        &count.count.to_be_bytes(),
    ])
}

impl Store {
    /// See [`super::Journal::put_evidence`].
    ///
    /// # Errors
    /// As there.
    pub fn put_evidence(
        &mut self,
        app: &AppName,
        epoch: Epoch,
        operation: OperationId,
        counts: &[Evidence],
    ) -> Result<(), JournalError> {
        if let Some(long) = counts.iter().find(|count| count.kind.len() > 64) {
            let text = format!("an evidence kind of {} bytes", long.kind.len());
            return Err(JournalError::Refused(text));
        }
        self.change(epoch, "storing counts", |change| {
            change.sql(|tx| {
                let mut put = tx.prepare_cached(
                    "INSERT OR REPLACE INTO evidence
                         (app, operation, weight, color, kind, count, sum)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                )?;
                for count in counts {
                    put.execute(params![
                        app.as_str(),
                        number(operation.0),
                        count.weight.basis_points(),
                        count.color.as_str(),
                        count.kind,
                        number(count.count),
                        sum(app, operation, count),
                    ])?;
                }
                tx.execute(
                    "DELETE FROM evidence WHERE app = ?1 AND operation NOT IN
                     (SELECT DISTINCT operation FROM evidence WHERE app = ?1
                      ORDER BY operation DESC LIMIT ?2)",
                    params![app.as_str(), number(KEPT)],
                )
            })?;
            Ok(())
        })
    }

    /// See [`super::Journal::evidence`].
    ///
    /// # Errors
    /// As there.
    pub fn evidence(
        &mut self,
        app: &AppName,
        operation: OperationId,
    ) -> Result<Vec<Evidence>, JournalError> {
        self.looking("reading counts", |look| {
            let rows = look.evidence_rows(Some((app, operation)))?;
            Ok(rows.into_iter().map(|(_, _, count)| count).collect())
        })
    }
}

impl Look<'_> {
    /// The counts of one operation, or all of them, each one checked.
    pub(super) fn evidence_rows(
        &self,
        of: Option<(&AppName, OperationId)>,
    ) -> Result<Vec<(AppName, OperationId, Evidence)>, JournalError> {
        type Row = (String, i64, u16, String, String, i64, Hash);
        let app = of.map(|(app, _)| app.as_str());
        let operation = of.map(|(_, operation)| number(operation.0));
        let rows: Vec<Row> = self.sql(|db| {
            db.prepare(
                "SELECT app, operation, weight, color, kind, count, sum FROM evidence
                 WHERE (?1 IS NULL OR app = ?1) AND (?2 IS NULL OR operation = ?2)
                 ORDER BY app, operation, weight, color, kind",
            )?
            .query_map(params![app, operation], |row| {
                Ok((
                    row.get(0)?,
                    row.get(1)?,
                    row.get(2)?,
                    row.get(3)?,
                    row.get(4)?,
                    row.get(5)?,
                    row.get(6)?,
                ))
            })?
            .collect()
        })?;
        rows.into_iter()
            .map(|(app, operation, weight, color, kind, count, stored)| {
                let damaged =
                    || self.corrupt(format!("a count of \"{app}\", operation {operation}"));
                let name = AppName::new(app.clone()).map_err(|_| damaged())?;
                let operation = OperationId(operation.cast_unsigned());
                let weight = Weight::from_basis_points(weight).map_err(|_| damaged())?;
                let color = color.parse().map_err(|_| damaged())?;
                let count = Evidence { weight, color, kind, count: count.cast_unsigned() };
                if sum(&name, operation, &count) == stored {
                    Ok((name, operation, count))
                } else {
                    Err(damaged())
                }
            })
            .collect()
    }
}
