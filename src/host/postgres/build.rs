//! Making databases beside the live one: empty ones to restore into, and template clones.
//!
//! Both claim the name first, remove what an earlier try of ours left of it, and lay the model's
//! rights and settings on what they make. A clone by file copy writes hardly any WAL; where the
//! server cannot choose (before 15) it copies by file anyway.

use std::time::Duration;

use super::claims::{self, Whose};
use super::connect::Session;
use super::error::DbError;
use super::facts::{self, DatabaseFacts, get};
use super::gate;
use super::names::{DbName, Marker, identifier, literal};
use super::properties;

/// Copying files: a large database on a slow disk takes long, and the session must not.
const COPY: Duration = Duration::from_secs(3600);

/// Makes an empty database like the model: encoding, locale, owner, rights and settings. One of
/// ours
/// with this name is made anew.
///
/// # Errors
/// [`DbError::NotOurs`] when a foreign database has the name.
pub async fn empty(
    session: &Session,
    model: &DatabaseFacts,
    name: &DbName,
    marker: &Marker,
) -> Result<u32, DbError> {
    let like = likeness(session, model).await?;
    let from = format!("TEMPLATE template0 {like}");
    make(session, model, name, marker, (&from, COPY)).await
}

/// Clones a database. It is closed for connections and emptied meanwhile, whoever is connected, and
/// opened again on any error that leaves this session usable.
///
/// # Errors
/// [`DbError::NotOurs`] when a foreign database has the name, [`DbError::NotEmptied`] when sessions
/// do not go. After any error a caller has to open with a new session.
pub async fn clone(
    session: &Session,
    model: &DatabaseFacts,
    name: &DbName,
    marker: &Marker,
) -> Result<u32, DbError> {
    clone_within(session, model, name, marker, (COPY, &|| ())).await
}

/// The same for a model that people wait for: the copy is given up at the limit. `closed`: told
/// once the model is closed.
///
/// # Errors
/// As [`clone`]; [`DbError::TooSlow`] at the limit.
pub async fn clone_within(
    session: &Session,
    model: &DatabaseFacts,
    name: &DbName,
    marker: &Marker,
    (limit, closed): (Duration, &(dyn Fn() + Sync)),
) -> Result<u32, DbError> {
    if let Some((gid, _)) = model.prepared.first() {
        let gid = crate::host::process::escape(gid);
        let what =
            format!("\"{}\" has a prepared transaction ({gid}); decide it first", model.name);
        return Err(DbError::Preflight { what });
    }
    let strategy = match facts::server(session).await?.major() {
        15.. => " STRATEGY file_copy",
        _ => "",
    };
    let copied = format!("TEMPLATE {}{strategy}", model.name.quoted());
    let made = async {
        gate::close(session, &marker.installation, marker.operation, &[model]).await?;
        // CRASH: the model is closed, and noted as closed by us: reopen opens it.
        closed();
        gate::empty(session, &[model], super::swap::LIMIT).await?;
        make(session, model, name, marker, (&copied, limit)).await
    };
    let made = made.await;
    let opened = gate::reopen(session, &marker.installation).await;
    let oid = made?;
    opened?;
    Ok(oid)
}

async fn make(
    session: &Session,
    model: &DatabaseFacts,
    name: &DbName,
    marker: &Marker,
    (from, limit): (&str, Duration),
) -> Result<u32, DbError> {
    claims::claim(session, name, marker).await?;
    if let Whose::Ours { .. } = claims::whose(session, &marker.installation, name).await? {
        claims::drop_ours(session, &marker.installation, name, &model.name).await?;
        claims::claim(session, name, marker).await?;
    }
    let sql =
        format!("CREATE DATABASE {} OWNER {} {from}", name.quoted(), identifier(&model.owner));
    // CRASH: the name is claimed; whether the database is there, the catalog says.
    session.run(&format!("making \"{name}\""), limit, &sql).await?;
    // CRASH: it is there without a mark; the claim says that it is ours.
    let oid = claims::mark(session, name, marker).await?;
    let made = facts::database_of(session, oid).await?;
    let made = made.ok_or_else(|| facts::answer("looking at what was made", "it is gone"))?;
    let wanted = properties::read(session, model).await?;
    properties::apply(session, &made, &wanted).await?;
    Ok(oid)
}

/// The encoding and locale of the model, as `CREATE DATABASE` takes them.
async fn likeness(session: &Session, model: &DatabaseFacts) -> Result<String, DbError> {
    let what = "asking for the locale of a database";
    let major = facts::server(session).await?.major();
    let (provider, locale, rules) = match major {
        17.. => ("datlocprovider::text", "datlocale", "daticurules"),
        16 => ("datlocprovider::text", "daticulocale", "daticurules"),
        15 => ("datlocprovider::text", "daticulocale", "NULL"),
        // Before, there is none to choose.
        _ => ("''", "NULL", "NULL"),
    };
    let sql = format!(
        "SELECT pg_encoding_to_char(encoding)::text, datcollate::text, datctype::text, {provider},
                {locale}::text, {rules}::text, t.spcname::text
           FROM pg_database d JOIN pg_tablespace t ON t.oid = d.dattablespace WHERE d.oid = $1"
    );
    let row = session.row(what, super::connect::ASK, &sql, &[&model.oid]).await?;
    let text = |column| get::<String>(&row, column).map(|text| literal(&text));
    let mut like = format!("ENCODING {} LC_COLLATE {} LC_CTYPE {}", text(0)?, text(1)?, text(2)?);
    match (get::<&str>(&row, 3)?, get::<Option<String>>(&row, 4)?) {
        ("i", Some(locale)) => {
            like.push_str(&format!(" LOCALE_PROVIDER icu ICU_LOCALE {}", literal(&locale)));
            if let Some(rules) = get::<Option<String>>(&row, 5)? {
                like.push_str(&format!(" ICU_RULES {}", literal(&rules)));
            }
        }
        ("b", Some(locale)) => {
            like.push_str(&format!(" LOCALE_PROVIDER builtin BUILTIN_LOCALE {}", literal(&locale)));
        }
        // Else it would be the template's, which `initdb` may have been told to be another one.
        ("c", _) => like.push_str(" LOCALE_PROVIDER libc"),
        _ => {}
    }
    like.push_str(&format!(" TABLESPACE {}", identifier(&get::<String>(&row, 6)?)));
    Ok(like)
}
