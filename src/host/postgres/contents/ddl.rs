//! Commands and drops that event triggers tell of: which of them the comparison of two looks at a
//! schema explains, and which stay unknown.
//!
//! INVARIANT: what is not in these lists is taken for grave, never for harmless.

/// Behind a change whose meaning for other releases nobody can tell from the catalogue.
pub(super) const UNKNOWN: &str = "(what that does to other releases is not known)";

/// Commands whose every effect on other releases is compared, or that have none.
const COMPARED: [&str; 43] = [
    "ALTER AGGREGATE",
    "ALTER DOMAIN",
    "ALTER FUNCTION",
    "ALTER INDEX",
    "ALTER MATERIALIZED VIEW",
    "ALTER POLICY",
    "ALTER PROCEDURE",
    "ALTER ROUTINE",
    "ALTER RULE",
    "ALTER SEQUENCE",
    "ALTER STATISTICS",
    "ALTER TABLE",
    "ALTER TRIGGER",
    "ALTER TYPE",
    "ALTER VIEW",
    // Only what is made later has other rights.
    "ALTER DEFAULT PRIVILEGES",
    "COMMENT",
    "CREATE AGGREGATE",
    "CREATE COLLATION",
    "CREATE DOMAIN",
    "CREATE EXTENSION",
    "CREATE FOREIGN TABLE",
    "CREATE FUNCTION",
    "CREATE INDEX",
    "CREATE MATERIALIZED VIEW",
    "CREATE POLICY",
    "CREATE PROCEDURE",
    "CREATE RULE",
    "CREATE SCHEMA",
    "CREATE SEQUENCE",
    "CREATE STATISTICS",
    "CREATE TABLE",
    "CREATE TABLE AS",
    "CREATE TEXT SEARCH CONFIGURATION",
    "CREATE TEXT SEARCH DICTIONARY",
    "CREATE TRIGGER",
    "CREATE TYPE",
    "CREATE VIEW",
    "GRANT",
    "REFRESH MATERIALIZED VIEW",
    "REINDEX",
    "REVOKE",
    "SELECT INTO",
];

/// What rights are compared of.
const WITH_RIGHTS: [&str; 8] =
    ["table", "sequence", "function", "procedure", "routine", "schema", "type", "domain"];

/// Kinds of objects whose drop the comparison tells, or that no release can miss.
const DROPS_COMPARED: [&str; 19] = [
    "aggregate",
    "composite type",
    "composite type column",
    "default value",
    "domain constraint",
    "foreign table",
    "foreign table column",
    "function",
    "index",
    "materialized view",
    "policy",
    "procedure",
    "rule",
    "statistics object",
    "table",
    "table constraint",
    "trigger",
    "view",
    "view column",
];

/// Whether the comparison tells what a command did. `on` is its object, or the kind of its objects
/// for a command about rights.
pub(super) fn is_compared(command: &str, on: &str) -> bool {
    let is_about_rights = ["GRANT", "REVOKE"].contains(&command);
    COMPARED.contains(&command) && (!is_about_rights || WITH_RIGHTS.contains(&on))
}

/// Whether the comparison tells of the drop of an object of this kind.
pub(super) fn is_drop_compared(kind: &str) -> bool {
    DROPS_COMPARED.contains(&kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_compared_is_known_to_be_unknown() {
        assert!(is_compared("ALTER TABLE", "public.orders"));
        assert!(is_compared("REVOKE", "table"));
        assert!(!is_compared("REVOKE", "large object"));
        assert!(!is_compared("CREATE CAST", "(text AS integer)"));
        assert!(!is_compared("ALTER EXTENSION", "citext"));
        assert!(is_drop_compared("index"));
        assert!(!is_drop_compared("operator"));
    }
}
