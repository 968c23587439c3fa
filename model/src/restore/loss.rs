//! What a restore loses: rows that today's database has and the restored one has not.
//!
//! A count is exact only where every row was compared; everything else says "at most" and means it.

use serde::{Deserialize, Serialize};

/// How far a count can be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Certainty {
    /// Every row was compared.
    Exact,
    /// It can be less.
    AtMost,
}

/// What one table loses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableLoss {
    /// `schema.table`, without the schema where it is `public`.
    pub table: String,
    /// Rows that were not there.
    pub new: u64,
    /// Rows that are different.
    pub changed: u64,
    /// Rows that were there and are gone.
    pub deleted: u64,
    /// Columns that are lost with their values, in every row.
    #[serde(default)]
    pub columns: Vec<String>,
}

impl TableLoss {
    /// All of them.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.new.saturating_add(self.changed).saturating_add(self.deleted)
    }
}

/// What is lost, table by table; tables that lose nothing are left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loss {
    /// The tables, the largest loss first.
    pub tables: Vec<TableLoss>,
    /// How far the numbers can be believed.
    pub certainty: Certainty,
}

impl Loss {
    /// Every row of every table.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.tables.iter().fold(0, |sum, table| sum.saturating_add(table.rows()))
    }

    /// A sum over tables: new, changed, deleted.
    #[must_use]
    pub fn sums(&self) -> (u64, u64, u64) {
        self.tables.iter().fold((0, 0, 0), |(new, changed, deleted), table| {
            (
                new.saturating_add(table.new),
                changed.saturating_add(table.changed),
                deleted.saturating_add(table.deleted),
            )
        })
    }
}

/// What a person is asked to accept of a loss that goes on growing while they decide: with what ten
/// minutes add, a tenth at least, rounded up to two digits. The very number of now would be too low
/// by the time that it is counted again.
#[must_use]
pub fn enough(rows: u64, a_minute: u64) -> u64 {
    let more = a_minute.saturating_mul(10).max(rows.div_ceil(10));
    let most = rows.saturating_add(more);
    let digits = most.checked_ilog10().unwrap_or(0);
    let step = 10_u64.pow(digits.saturating_sub(1));
    most.div_ceil(step).saturating_mul(step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_is_that_of_all_tables_and_does_not_wrap() {
        let table = |new| TableLoss {
            table: "orders".into(),
            new,
            changed: 2,
            deleted: 1,
            columns: Vec::new(),
        };
        let loss = Loss { tables: vec![table(4), table(5)], certainty: Certainty::Exact };
        assert_eq!((loss.rows(), loss.sums()), (15, (9, 4, 2)));
        let all = Loss { tables: vec![table(u64::MAX), table(1)], certainty: Certainty::AtMost };
        assert_eq!(all.rows(), u64::MAX);
    }
}
