//! Keeping one color's role out: both colors' connection strings lead to the restored data, and
//! workers never pass the proxy. With a role of its own a color is fenced here; one that shares its
//! role has its containers stopped instead.

use cutover_model::OperationId;

use super::connect::{ASK, Session};
use super::error::DbError;
use super::facts::get;
use super::names::{Installation, identifier, literal};

/// Takes the right to log in from a role and ends its sessions; fenced by us already is success.
///
/// # Errors
/// [`DbError::Preflight`] when the role is our own, is gone, or cannot log in anyway.
pub async fn fence(
    session: &Session,
    installation: &Installation,
    operation: OperationId,
    role: &str,
) -> Result<usize, DbError> {
    let what = "fencing a role";
    let sql = "SELECT rolcanlogin, rolname = current_user,
                      EXISTS (SELECT FROM cutover.fences WHERE role = $1 AND installation = $2)
                 FROM pg_roles WHERE rolname = $1";
    let rows = session.rows(what, ASK, sql, &[&role, &installation.as_str()]).await?;
    let name = crate::host::process::escape(role);
    let refused = |what: String| DbError::Preflight { what };
    let row = rows.first().ok_or_else(|| refused(format!("there is no role \"{name}\"")))?;
    if get(row, 1)? {
        let why = "is the one that Cutover uses, too; stop the color's containers instead";
        return Err(refused(format!("role \"{name}\" cannot be fenced: it {why}")));
    }
    if !get::<bool>(row, 0)? && !get::<bool>(row, 2)? {
        return Err(refused(format!("role \"{name}\" may not log in already")));
    }
    let sql = format!(
        "INSERT INTO cutover.fences (role, installation, operation)
              VALUES ({}, {}, '{operation}') ON CONFLICT (role) DO NOTHING;
         ALTER ROLE {} NOLOGIN;",
        literal(role),
        literal(installation.as_str()),
        identifier(role),
    );
    session.run(what, ASK, &sql).await?;
    let sql = "SELECT count(*) FILTER (WHERE pg_terminate_backend(pid)) FROM pg_stat_activity
                WHERE usename = $1 AND pid <> pg_backend_pid()";
    let ended: i64 = get(&session.row("ending a role's sessions", ASK, sql, &[&role]).await?, 0)?;
    Ok(usize::try_from(ended).unwrap_or(0))
}

/// Gives the right to log in back to every role that this installation has fenced, on behalf of one
/// operation or of any. Gives their names.
///
/// # Errors
/// [`DbError`] when the server does not answer.
pub async fn unfence(
    session: &Session,
    installation: &Installation,
    operation: Option<OperationId>,
) -> Result<Vec<String>, DbError> {
    let what = "letting a role log in again";
    let operation = operation.map(|operation| operation.to_string());
    let sql = "SELECT f.role, EXISTS (SELECT FROM pg_roles r WHERE r.rolname = f.role)
                 FROM cutover.fences f
                WHERE f.installation = $1 AND ($2::text IS NULL OR f.operation = $2)";
    let rows = session.rows(what, ASK, sql, &[&installation.as_str(), &operation]).await?;
    let (mut sql, mut roles) = (String::new(), Vec::new());
    for row in &rows {
        let role: String = get(row, 0)?;
        if get(row, 1)? {
            sql.push_str(&format!("ALTER ROLE {} LOGIN;\n", identifier(&role)));
        }
        let key = literal(&role);
        sql.push_str(&format!("DELETE FROM cutover.fences WHERE role = {key};\n"));
        roles.push(role);
    }
    if !sql.is_empty() {
        session.run(what, ASK, &sql).await?;
    }
    Ok(roles)
}
