//! The schema of a database as `pg_dump` writes it, to be held against another one byte for byte.

use std::time::Duration;

use cutover_model::OperationId;
use tokio::io::AsyncReadExt;

use super::tool::{self, CHUNK, dbname};
use crate::host::postgres::connect::Server;
use crate::host::postgres::error::DbError;
use crate::host::postgres::names::DbName;

/// Larger schemas are not compared.
const LARGEST: usize = 64 * 1024 * 1024;
/// How long it may take: it waits for no lock for longer than that.
const LIMIT: Duration = Duration::from_secs(300);

/// Dumps the schema of a database. Lines that differ from one dump to the next are left out: the
/// key of `\restrict` is drawn anew each time.
///
/// # Errors
/// [`DbError::Tool`] with what `pg_dump` said, [`DbError::TooSlow`] at the limit.
pub async fn dump_schema(
    server: &Server,
    operation: OperationId,
    database: &DbName,
) -> Result<String, DbError> {
    let what = "dumping a schema";
    let args = [
        "--schema-only".to_owned(),
        "--no-password".to_owned(),
        "--lock-wait-timeout=30s".to_owned(),
        format!("--dbname={}", dbname(database)),
    ];
    let dumped = async {
        let mut running = tool::start(server, operation, "pg_dump", &args).await?;
        running.close_input().await;
        let (mut bytes, mut buffer) = (Vec::new(), vec![0; CHUNK]);
        loop {
            let count = match running.stdout.read(&mut buffer).await {
                Ok(0) | Err(_) => break,
                Ok(count) => count,
            };
            bytes.extend_from_slice(&buffer[..count]);
            if bytes.len() > LARGEST {
                let text = format!("it is larger than {LARGEST} bytes");
                return Err(DbError::Answer { what: what.to_owned(), text });
            }
        }
        running.end().await?;
        Ok(without_keys(&String::from_utf8_lossy(&bytes)))
    };
    match tokio::time::timeout(LIMIT, dumped).await {
        Ok(dumped) => dumped,
        Err(_) => Err(DbError::TooSlow { what: what.to_owned(), limit: LIMIT }),
    }
}

fn without_keys(text: &str) -> String {
    let is_key = |line: &&str| line.starts_with("\\restrict ") || line.starts_with("\\unrestrict ");
    text.split_inclusive('\n').filter(|line| !is_key(line)).collect()
}

/// The first line that differs, as it should be and as it is; `None`: they are equal.
#[must_use]
pub fn first_difference(wanted: &str, found: &str) -> Option<(String, String)> {
    if wanted == found {
        return None;
    }
    let (mut one, mut other) = (wanted.lines(), found.lines());
    loop {
        match (one.next(), other.next()) {
            (Some(wanted), Some(found)) if wanted == found => {}
            (wanted, found) => {
                let shown = |line: Option<&str>| line.unwrap_or("(its end)").trim().to_owned();
                return Some((shown(wanted), shown(found)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_keys_of_a_dump_are_left_out() {
        let dump = "-- dump\n\\restrict x1\nCREATE TABLE a ();\n\\unrestrict x1\n";
        assert_eq!(without_keys(dump), "-- dump\nCREATE TABLE a ();\n");
        assert_eq!(first_difference(dump, dump), None);
        let found = first_difference("a\nb int;\n", "a\nb text;\n").unwrap();
        assert_eq!(found, ("b int;".to_owned(), "b text;".to_owned()));
        assert!(first_difference("a\n", "a\nb\n").is_some(), "something more is a difference");
    }
}
