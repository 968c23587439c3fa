//! Migrations: what a deploy's migration does to the schema, and who can run on it.
//!
//! What was found out on a copy is recorded before the migration runs, so that a rollback is
//! decided from memory alone. Nothing here looks at a database.
//! INVARIANT: what is not known is never taken for "only adds" or "works".

use serde::{Deserialize, Serialize};

use crate::{Millis, OperationId, ReleaseId};

/// What a migration does, the gravest of all that it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// Nothing that another release could meet.
    None,
    /// It only adds: what was there stays as it was.
    Expand,
    /// It changes rows.
    Data,
    /// It writes tables anew in a form that holds all that they held.
    Rewrite,
    /// It takes away or forbids what former releases may use.
    Contract,
}

impl Class {
    /// As it is told of a migration.
    #[must_use]
    pub fn told(self) -> &'static str {
        match self {
            Self::None => "changes nothing in the schema",
            Self::Expand => "only adds",
            Self::Data => "changes rows",
            Self::Rewrite => "rewrites tables",
            Self::Contract => "takes away",
        }
    }
}

/// Whether a former release works on the migrated schema.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "works", rename_all = "snake_case")]
pub enum Works {
    /// It passed everything that it was asked.
    Yes {
        /// What, in a few words.
        what: String,
    },
    /// It did not.
    No {
        /// What failed, in a few words.
        why: String,
    },
    /// It could not be asked, for this reason.
    NotKnown {
        /// The reason.
        why: String,
    },
}

/// The migrations of a release, as they were tried and applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Migrated {
    /// The release.
    pub release: ReleaseId,
    /// The names of its migrations, as the tool's table has them; empty: not known.
    pub names: Vec<String>,
    /// What they do; `None`: that could not be found out.
    pub class: Option<Class>,
    /// What they take away or forbid, in a few words each: `dropped nodes.region`.
    pub breaks: Vec<String>,
    /// The release that served when they were tried, and whether it works with them.
    pub former: Option<(ReleaseId, Works)>,
    /// When they were tried.
    pub at: Millis,
    /// Whether the database has them.
    pub state: Applied,
    /// How they were taken back the last time; `None`: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undone: Option<Undone>,
}

/// What is known of the moment at which migrations were taken back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Undone {
    /// The operation that did.
    pub by: OperationId,
    /// The newest release then: what came after it was made without them.
    pub newest: ReleaseId,
    /// Releases that served then, and went on without them.
    pub works: Vec<ReleaseId>,
    /// The restore that brought data which has them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub brought_back: Option<OperationId>,
}

/// Whether the database has a release's migrations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "applied", rename_all = "snake_case")]
pub enum Applied {
    /// They were tried on a copy only.
    No,
    /// They were begun on the live database, or applied to it.
    Yes,
    /// This operation took them back, or put data back from before them.
    Undone {
        /// The operation.
        operation: OperationId,
    },
}

impl Migrated {
    /// Why a former release cannot run on a database that has them; `None`: nothing says so.
    #[must_use]
    pub fn breaks(&self, former: ReleaseId) -> Option<String> {
        if self.state == Applied::Yes { self.takes_away(former) } else { None }
    }

    /// Why a former release cannot run on data that has them, whatever today's has; `None`: nothing
    /// says so.
    #[must_use]
    pub fn takes_away(&self, former: ReleaseId) -> Option<String> {
        if former >= self.release {
            return None;
        }
        let release = self.release;
        if self.class == Some(Class::Contract) {
            let what = match self.breaks.as_slice() {
                [] => "took something away".to_owned(),
                [one] => one.clone(),
                [one, rest @ ..] => format!("{one} and {} more", rest.len()),
            };
            return Some(format!("{release} {what}"));
        }
        match &self.former {
            // What is older than the one that failed has no better chance.
            Some((tried, Works::No { why })) if former <= *tried => {
                Some(format!("with the migration of {release}, {tried} fails: {why}"))
            }
            _ => None,
        }
    }

    /// What is told of them after their names: `only adds, r1 works with it`.
    #[must_use]
    pub fn told(&self) -> String {
        let class = self.class.map_or("what it does is not known", Class::told);
        let class = match (self.class, self.breaks.as_slice()) {
            (Some(Class::Contract), breaks) if !breaks.is_empty() => breaks.join(", "),
            _ => class.to_owned(),
        };
        match &self.former {
            None => class,
            Some((former, Works::Yes { .. })) => format!("{class}, {former} works with it"),
            Some((former, Works::No { .. })) => format!("{class}, {former} does NOT work with it"),
            Some((former, Works::NotKnown { .. })) => {
                format!("{class}, whether {former} works with it is not known")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn migrated(class: Option<Class>, works: Works) -> Migrated {
        Migrated {
            release: ReleaseId(7),
            names: vec!["20261126_region".into()],
            class,
            breaks: Vec::new(),
            former: Some((ReleaseId(5), works)),
            at: Millis(1),
            state: Applied::Yes,
            undone: None,
        }
    }

    fn yes() -> Works {
        Works::Yes { what: "its probe".into() }
    }

    #[test]
    fn only_what_takes_away_or_what_a_release_failed_on_stands_in_its_way() {
        for class in [None, Some(Class::Expand), Some(Class::Data), Some(Class::Rewrite)] {
            assert_eq!(migrated(class, yes()).breaks(ReleaseId(5)), None, "{class:?}");
        }
        let mut contract = migrated(Some(Class::Contract), yes());
        contract.breaks = vec!["dropped nodes.region".into()];
        let why = contract.breaks(ReleaseId(5)).unwrap();
        assert_eq!(why, "r7 dropped nodes.region");
        assert_eq!(contract.breaks(ReleaseId(7)), None, "it has it itself");
        assert_eq!(contract.breaks(ReleaseId(8)), None, "it came after it");
        contract.state = Applied::Undone { operation: OperationId(9) };
        assert_eq!(contract.breaks(ReleaseId(5)), None, "the database has it no more");

        let failed = migrated(Some(Class::Expand), Works::No { why: "it answered 500".into() });
        assert!(failed.breaks(ReleaseId(5)).is_some() && failed.breaks(ReleaseId(3)).is_some());
        assert_eq!(failed.breaks(ReleaseId(6)), None, "that one was never asked");
    }

    #[test]
    fn what_is_not_known_is_never_told_as_good() {
        let tried = migrated(None, Works::NotKnown { why: "no container".into() });
        let told = tried.told();
        assert!(!told.contains("only adds") && told.contains("not known"), "{told}");
        assert_eq!(migrated(Some(Class::Expand), yes()).told(), "only adds, r5 works with it");
    }
}
