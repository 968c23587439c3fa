//! What an archive says of itself: who made it, and what it needs to be restored.
//!
//! Read from `pg_restore --list`, which reads the table of contents only; it proves nothing about
//! the rows ([`super::check`] does).

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use cutover_model::OperationId;
use tokio::fs::File;
use tokio::io::AsyncReadExt;

use super::header::{self, Header};
use super::tool::{self, CHUNK};
use crate::host::postgres::connect::Server;
use crate::host::postgres::error::DbError;

/// The longest list that is read: some hundred thousand objects.
const LONGEST: usize = 64 * 1024 * 1024;

/// What an archive needs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// The major version of the server that it was made from; `None`: it does not say.
    pub server_major: Option<i32>,
    /// The extensions that it makes.
    pub extensions: BTreeSet<String>,
    /// The roles that own something in it.
    pub owners: BTreeSet<String>,
    /// How many objects it has.
    pub entries: usize,
}

/// Asks an archive for its list.
///
/// # Errors
/// [`DbError::Archive`] when it is no archive, or one that these tools are too old for.
pub async fn read(
    server: &Server,
    operation: OperationId,
    path: &Path,
    limit: Duration,
) -> Result<Listing, DbError> {
    let list = async {
        let args = ["--list".to_owned()];
        let mut running = tool::start(server, operation, "pg_restore", &args).await?;
        let at = |error| DbError::File { path: path.to_owned(), error };
        let mut file = File::open(path).await.map_err(at)?;
        let mut buffer = vec![0; CHUNK];
        loop {
            let count = file.read(&mut buffer).await.map_err(at)?;
            // It ends once it has read the table of contents.
            if count == 0 || !running.feed(&buffer[..count]).await {
                break;
            }
        }
        running.close_input().await;
        let text = running.output(LONGEST).await?;
        match running.end().await {
            Ok(()) => Ok(parse(&text)),
            Err(DbError::Tool { tail, .. }) => {
                let why = too_new(server, path).await?.unwrap_or(tail);
                Err(DbError::Archive { path: path.to_owned(), why })
            }
            Err(error) => Err(error),
        }
    };
    match tokio::time::timeout(limit, list).await {
        Ok(list) => list,
        Err(_) => Err(DbError::TooSlow { what: "asking an archive for its list".into(), limit }),
    }
}

/// That these tools are too old for an archive; `None`: they are not, or it does not say.
async fn too_new(server: &Server, path: &Path) -> Result<Option<String>, DbError> {
    let at = |error| DbError::File { path: path.to_owned(), error };
    let mut head = Vec::new();
    let file = File::open(path).await.map_err(at)?;
    file.take(header::LENGTH as u64).read_to_end(&mut head).await.map_err(at)?;
    let Some(Header { server: from, tool }) = header::parse(&head) else { return Ok(None) };
    let here = tool::tools_major(server).await?;
    Ok((tool > here).then(|| {
        format!(
            "it was made of PostgreSQL {from} by pg_dump {tool}, and pg_restore here is of version \
             {here}, which cannot read it; restore it with a server of version {tool} or a later \
             one, or have it made anew by pg_dump {here}"
        )
    }))
}

/// The list as `pg_restore` prints it: comments with `;`, then `dump id; oid oid TYPE - NAME
/// OWNER`.
fn parse(text: &str) -> Listing {
    let mut listing = Listing::default();
    for line in text.lines() {
        if let Some(comment) = line.strip_prefix(';') {
            let version = comment.trim().strip_prefix("Dumped from database version: ");
            if let Some(version) = version {
                let digits = version.split(|c: char| !c.is_ascii_digit()).next();
                listing.server_major = digits.and_then(|digits| digits.parse().ok());
            }
            continue;
        }
        let Some((_, rest)) = line.split_once("; ") else { continue };
        listing.entries += 1;
        let words: Vec<&str> = rest.split(' ').collect();
        if let [_, _, "EXTENSION", _, name, ..] = words[..] {
            listing.extensions.insert(name.to_owned());
        }
        // Names with blanks in them are cut here; the restore itself finds a role that is missing.
        if let Some(owner) = words.last().filter(|owner| !owner.is_empty() && words.len() > 4) {
            listing.owners.insert((*owner).to_owned());
        }
    }
    listing
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_says_what_is_needed() {
        let text = ";\n; Archive created at 2026-11-22\n;     Dumped from database version: 15.18 \
                    (Debian)\n;\n2; 3079 16385 EXTENSION - pgcrypto \n\
                    3400; 0 0 COMMENT - EXTENSION pgcrypto \n\
                    215; 1259 16390 TABLE public orders shop\n";
        let listing = parse(text);
        assert_eq!(listing.server_major, Some(15));
        assert_eq!(listing.extensions.into_iter().collect::<Vec<_>>(), ["pgcrypto"]);
        assert!(listing.owners.contains("shop"));
        assert_eq!(listing.entries, 3);
    }
}
