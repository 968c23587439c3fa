//! A role for one import: it may log in, owns one database, and may do nothing else.
//!
//! Its name carries the installation and the operation, so that one that a killed process left is
//! known again, and nobody else's is ever dropped.

use cutover_model::OperationId;

use crate::host::postgres::connect::{ASK, Server, Session};
use crate::host::postgres::error::DbError;
use crate::host::postgres::facts::get;
use crate::host::postgres::names::{DbName, identifier, literal};

/// A password that nobody else knows, and that is gone with its role.
#[must_use]
pub fn password() -> String {
    (0..8).map(|_| format!("{:08x}", rand::random::<u32>())).collect()
}

fn prefix(server: &Server) -> String {
    let session = server.installation.session_prefix();
    let hash = session.split(':').nth(1).unwrap_or_default();
    format!("cutover_import_{hash}_")
}

/// Makes the role of an operation.
///
/// # Errors
/// [`DbError::NotPermitted`] when our own may not make one.
pub async fn make(
    session: &Session,
    server: &Server,
    operation: OperationId,
    password: &str,
) -> Result<String, DbError> {
    let name = format!("{}{operation}", prefix(server));
    let (quoted, secret) = (identifier(&name), literal(password));
    let sql = format!(
        "CREATE ROLE {quoted} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION \
         NOBYPASSRLS CONNECTION LIMIT 4 PASSWORD {secret}; GRANT {quoted} TO CURRENT_USER"
    );
    let what = "making a role for the import (CREATEROLE is needed for that)";
    session.run(what, ASK, &sql).await?;
    Ok(name)
}

/// Gives it its database.
///
/// # Errors
/// [`DbError`].
pub async fn give(session: &Session, database: &DbName, role: &str) -> Result<(), DbError> {
    let sql = format!("ALTER DATABASE {} OWNER TO {}", database.quoted(), identifier(role));
    session.run("giving the import its database", ASK, &sql).await
}

/// Makes everything in the database of this session the owner's.
///
/// # Errors
/// [`DbError`].
pub async fn take_back(session: &Session, role: &str, owner: &str) -> Result<(), DbError> {
    let (role, owner) = (identifier(role), identifier(owner));
    let sql = format!("REASSIGN OWNED BY {role} TO {owner}; DROP OWNED BY {role}");
    session.run("giving what was imported to the database's owner", ASK, &sql).await
}

/// Drops every such role of this installation; their databases have to be gone.
///
/// # Errors
/// [`DbError`].
pub async fn forget(session: &Session, server: &Server) -> Result<(), DbError> {
    let what = "dropping the role of an import";
    let sql = "SELECT rolname::text FROM pg_roles WHERE left(rolname, length($1)) = $1";
    for row in &session.rows(what, ASK, sql, &[&prefix(server)]).await? {
        let name: String = get(row, 0)?;
        session.run(what, ASK, &format!("DROP ROLE IF EXISTS {}", identifier(&name))).await?;
    }
    Ok(())
}
