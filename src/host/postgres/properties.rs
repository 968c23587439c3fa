//! What a clone or a restore loses of a database itself: owner, rights, limits, settings.
//!
//! A template clone and a restore both start with defaults; these are read from the database that
//! was the model, laid on the new one in one transaction, and compared afterwards. The comment is
//! left out: that of a database of ours is its mark, and the swap carries the operator's over.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::connect::{ASK, Session};
use super::error::DbError;
use super::facts::{DatabaseFacts, get};
use super::names::{DbName, identifier, literal};

/// Settings whose value is a list of names, which must not become one quoted name.
const LISTS: [&str; 6] = [
    "search_path",
    "temp_tablespaces",
    "session_preload_libraries",
    "local_preload_libraries",
    "shared_preload_libraries",
    "unix_socket_directories",
];

/// One right: who has it (empty: everybody), which, and whether it may be passed on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Right {
    /// The role; empty: everybody.
    pub role: String,
    /// `CONNECT`, `CREATE` or `TEMPORARY`.
    pub right: String,
    /// Whether it may be passed on.
    pub passes_on: bool,
}

/// One setting of a database, for everybody or for one role in it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Setting {
    /// The role; empty: everybody.
    pub role: String,
    /// The name of the setting.
    pub name: String,
    /// Its value as the catalog has it.
    pub value: String,
}

/// What of a database is neither in a template clone nor in an archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Properties {
    /// The owner.
    pub owner: String,
    /// Who may do what in it.
    pub rights: BTreeSet<Right>,
    /// The most connections of ordinary roles; -1: any.
    pub connection_limit: i32,
    /// Its settings.
    pub settings: BTreeSet<Setting>,
}

/// Reads them of one database, from any session of the server.
///
/// # Errors
/// [`DbError`] when the server does not answer.
pub async fn read(session: &Session, database: &DatabaseFacts) -> Result<Properties, DbError> {
    let what = "reading the rights and settings of a database";
    // Without a list of rights the server's defaults hold: acldefault writes them out.
    let sql = "SELECT coalesce(r.rolname::text, ''), a.privilege_type, a.is_grantable
                 FROM pg_database d,
                      aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) a
                 LEFT JOIN pg_roles r ON r.oid = a.grantee
                WHERE d.oid = $1";
    let mut rights = BTreeSet::new();
    for row in &session.rows(what, ASK, sql, &[&database.oid]).await? {
        rights.insert(Right { role: get(row, 0)?, right: get(row, 1)?, passes_on: get(row, 2)? });
    }
    let sql = "SELECT coalesce(r.rolname::text, ''), split_part(c, '=', 1),
                      substr(c, strpos(c, '=') + 1)
                 FROM pg_db_role_setting s
                CROSS JOIN unnest(s.setconfig) c
                 LEFT JOIN pg_roles r ON r.oid = s.setrole
                WHERE s.setdatabase = $1";
    let mut settings = BTreeSet::new();
    for row in &session.rows(what, ASK, sql, &[&database.oid]).await? {
        settings.insert(Setting { role: get(row, 0)?, name: get(row, 1)?, value: get(row, 2)? });
    }
    Ok(Properties {
        owner: database.owner.clone(),
        rights,
        connection_limit: database.connection_limit,
        settings,
    })
}

/// Lays them on a database in one transaction; what it has besides goes.
///
/// # Errors
/// [`DbError`] when a role is gone or ours may not do it.
pub async fn apply(
    session: &Session,
    database: &DatabaseFacts,
    wanted: &Properties,
) -> Result<(), DbError> {
    let now = read(session, database).await?;
    if now == *wanted {
        return Ok(());
    }
    let sql = statements(&database.name, &now, wanted);
    session.run(&format!("giving \"{}\" its rights and settings", database.name), ASK, &sql).await
}

/// The statements that make one of the other. Pure.
fn statements(database: &DbName, now: &Properties, wanted: &Properties) -> String {
    let name = database.quoted();
    let who = |role: &str| match role {
        "" => "PUBLIC".to_owned(),
        role => identifier(role),
    };
    let mut sql = String::new();
    let mut add = |text: String| {
        sql.push_str(&text);
        sql.push_str(";\n");
    };
    add(format!("ALTER DATABASE {name} OWNER TO {}", identifier(&wanted.owner)));
    add(format!("ALTER DATABASE {name} CONNECTION LIMIT {}", wanted.connection_limit));
    let roles: BTreeSet<&str> =
        now.rights.iter().chain(&wanted.rights).map(|right| right.role.as_str()).collect();
    for role in roles.into_iter().chain([wanted.owner.as_str()]) {
        add(format!("REVOKE ALL ON DATABASE {name} FROM {}", who(role)));
    }
    for right in &wanted.rights {
        let passes_on = if right.passes_on { " WITH GRANT OPTION" } else { "" };
        let (what, role) = (&right.right, who(&right.role));
        add(format!("GRANT {what} ON DATABASE {name} TO {role}{passes_on}"));
    }
    let subject = |role: &str| match role {
        "" => format!("ALTER DATABASE {name}"),
        role => format!("ALTER ROLE {} IN DATABASE {name}", identifier(role)),
    };
    for setting in now.settings.difference(&wanted.settings) {
        add(format!("{} RESET {}", subject(&setting.role), setting_name(&setting.name)));
    }
    for setting in &wanted.settings {
        let value = match LISTS.contains(&setting.name.to_ascii_lowercase().as_str()) {
            true => list(&setting.value),
            false => literal(&setting.value),
        };
        let (subject, name) = (subject(&setting.role), setting_name(&setting.name));
        add(format!("{subject} SET {name} TO {value}"));
    }
    sql
}

/// `myapp.user` is two names with a dot between.
fn setting_name(name: &str) -> String {
    name.split('.').map(identifier).collect::<Vec<_>>().join(".")
}

/// `"$user", public` as the catalog has it, each name a literal of its own.
fn list(value: &str) -> String {
    let (mut items, mut item, mut quoted) = (Vec::new(), String::new(), false);
    let mut chars = value.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                item.push('"');
                chars.next();
            }
            '"' => quoted = !quoted,
            ',' if !quoted => items.push(std::mem::take(&mut item)),
            ' ' if !quoted => {}
            c => item.push(c),
        }
    }
    items.push(item);
    items.iter().map(|item| literal(item)).collect::<Vec<_>>().join(", ")
}

/// What differs, each in a sentence.
#[must_use]
pub fn differences(wanted: &Properties, found: &Properties) -> Vec<String> {
    let mut said = Vec::new();
    if wanted.owner != found.owner {
        said.push(format!("its owner is {} and not {}", found.owner, wanted.owner));
    }
    if wanted.connection_limit != found.connection_limit {
        said.push("its connection limit differs".to_owned());
    }
    for right in wanted.rights.symmetric_difference(&found.rights) {
        let role = if right.role.is_empty() { "everybody" } else { &right.role };
        said.push(format!("the right {} of {role} differs", right.right));
    }
    for setting in wanted.settings.symmetric_difference(&found.settings) {
        said.push(format!("the setting {} differs", setting.name));
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_schemas_stays_a_list() {
        assert_eq!(list("\"$user\", public"), "'$user', 'public'");
        assert_eq!(list("\"a, \"\"b\", c"), "'a, \"b', 'c'");
        assert_eq!(list(""), "''");
        assert_eq!(setting_name("app.tenant"), "\"app\".\"tenant\"");
    }
}
