//! Files that came from elsewhere: looked at, and poured into a database of their own by a role
//! that may do nothing else.
//!
//! Two passes: the first finds out whether the file is whole and what is in it, the second restores
//! it; the bytes of both have to be the same. `psql` runs in its restricted mode, so what the first
//! pass did not understand cannot make it run anything; a server whose `psql` has no such mode
//! takes no plain dump.

mod plain;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use cutover_model::OperationId;
use sha2::{Digest as _, Sha256};
use tokio::fs::File;
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader};
use tokio::process::{Child, Command};

use super::tool::{self, Running, dbname};
use super::{Kept, Sealed, hex, listing, measure, seal};
use crate::host::postgres::connect::Server;
use crate::host::postgres::error::DbError;
use crate::host::postgres::names::DbName;
use crate::host::process::remedy;
use plain::{Line, Scan};

/// The longest line of a dump: a row is one line, and PostgreSQL keeps values below 1 GB.
const LONGEST: usize = 256 * 1024 * 1024;

/// What a file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Form {
    /// An archive as `pg_dump -Fc` writes it.
    Archive(Sealed),
    /// A plain dump.
    Plain {
        /// Whether it is packed by gzip.
        packed: bool,
        /// The SHA-256 of its text.
        sha256: String,
    },
}

/// A file that was looked at and is whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Foreign {
    /// The file.
    pub path: PathBuf,
    /// What it is.
    pub form: Form,
    /// The major version of the server that it was made from, when it says so.
    pub made_from: Option<i32>,
    /// Bytes of it, unpacked.
    pub bytes: u64,
    /// Rows by table, where they can be counted beforehand.
    pub rows: BTreeMap<String, u64>,
    /// Statements about owners and rights that are left out.
    pub left_out: u64,
}

fn bad(path: &Path, why: impl Into<String>) -> DbError {
    DbError::Archive { path: path.to_owned(), why: why.into() }
}

/// Looks at a file: what it is, whether it is whole.
///
/// # Errors
/// [`DbError::Archive`] with what speaks against it.
pub async fn look(
    server: &Server,
    operation: OperationId,
    path: &Path,
    limit: Duration,
) -> Result<Foreign, DbError> {
    let at = |error| DbError::File { path: path.to_owned(), error };
    let mut head = [0; 5];
    let mut file = File::open(path).await.map_err(at)?;
    let mut got = 0;
    while got < head.len() {
        match file.read(&mut head[got..]).await.map_err(at)? {
            0 => break,
            count => got += count,
        }
    }
    drop(file);
    match &head[..got] {
        b"PGDMP" => archive(server, operation, path, limit).await,
        [0x1f, 0x8b, ..] => plain_dump(path, true).await,
        b"age-e" => Err(bad(path, "it is encrypted: decrypt it first (age -d -i KEY FILE > OUT)")),
        [] => Err(bad(path, "it is empty")),
        _ => plain_dump(path, false).await,
    }
}

async fn archive(
    server: &Server,
    operation: OperationId,
    path: &Path,
    limit: Duration,
) -> Result<Foreign, DbError> {
    let sealed = seal(path).await?;
    let listing = listing::read(server, operation, path, limit).await?;
    let bytes = measure(server, operation, &Kept::plain(path, &sealed), limit).await?;
    Ok(Foreign {
        path: path.to_owned(),
        made_from: listing.server_major,
        bytes,
        form: Form::Archive(sealed),
        rows: BTreeMap::new(),
        left_out: 0,
    })
}

async fn plain_dump(path: &Path, packed: bool) -> Result<Foreign, DbError> {
    let mut text = Text::open(path, packed).await?;
    let mut scan = Scan::default();
    while let Some(line) = text.next().await? {
        if text.lines == 1 && line.starts_with(b"PGDMP") {
            return Err(bad(path, "it is a packed archive: unpack it first (gunzip)"));
        }
        scan.line(&line).map_err(|why| bad(path, why))?;
    }
    let (bytes, sha256) = text.end().await?;
    scan.end().map_err(|why| bad(path, why))?;
    Ok(Foreign {
        path: path.to_owned(),
        form: Form::Plain { packed, sha256 },
        made_from: scan.made_from,
        bytes,
        rows: scan.rows,
        left_out: scan.left_out,
    })
}

/// Restores it into an empty database that belongs to the role of `server`.
///
/// # Errors
/// [`DbError::Tool`] with what the server said, [`DbError::Archive`] when the file changed.
pub async fn pour(
    server: &Server,
    operation: OperationId,
    foreign: &Foreign,
    into: &DbName,
    limit: Duration,
) -> Result<(), DbError> {
    let poured = async {
        match &foreign.form {
            Form::Archive(sealed) => {
                let args = [
                    "--exit-on-error".to_owned(),
                    "--single-transaction".to_owned(),
                    "--no-owner".to_owned(),
                    "--no-acl".to_owned(),
                    "--no-password".to_owned(),
                    format!("--dbname={}", dbname(into)),
                ];
                let mut running = tool::start(server, operation, "pg_restore", &args).await?;
                let fed = Kept::plain(&foreign.path, sealed).feed(&mut running).await;
                let ended = running.end().await;
                fed?;
                ended
            }
            Form::Plain { packed, sha256 } => {
                let args = [
                    "--no-psqlrc".to_owned(),
                    "--quiet".to_owned(),
                    "--output=/dev/null".to_owned(),
                    "--set=ON_ERROR_STOP=1".to_owned(),
                    "--single-transaction".to_owned(),
                    "--no-password".to_owned(),
                    format!("--dbname={}", dbname(into)),
                ];
                let mut running = tool::start(server, operation, "psql", &args).await?;
                let fed = statements(&mut running, &foreign.path, *packed, sha256).await;
                running.close_input().await;
                let ended = running.end().await;
                ended.map_err(too_old)?;
                fed
            }
        }
    };
    match tokio::time::timeout(limit, poured).await {
        Ok(poured) => poured,
        Err(_) => Err(DbError::TooSlow { what: "restoring a file".to_owned(), limit }),
    }
}

/// A `psql` without its restricted mode does not know the command that turns it on.
fn too_old(error: DbError) -> DbError {
    match error {
        DbError::Tool { tail, .. } if tail.contains("restrict") => DbError::Preflight {
            what: "this server's psql has no restricted mode, so a plain dump could make it run \
                   commands; update PostgreSQL to its newest minor version, or import an archive \
                   (pg_dump -Fc)"
                .to_owned(),
        },
        other => other,
    }
}

async fn statements(
    running: &mut Running,
    path: &Path,
    packed: bool,
    wanted: &str,
) -> Result<(), DbError> {
    let token: String = (0..4).map(|_| format!("{:08x}", rand::random::<u32>())).collect();
    let mut takes = running.feed(format!("\\restrict {token}\n").as_bytes()).await;
    let (mut text, mut scan) = (Text::open(path, packed).await?, Scan::default());
    while let Some(mut line) = text.next().await? {
        if scan.line(&line).map_err(|why| bad(path, why))? == Line::Pass && takes {
            line.push(b'\n');
            takes = running.feed(&line).await;
        }
    }
    let (_, sha256) = text.end().await?;
    match sha256 == wanted {
        true => Ok(()),
        false => Err(bad(path, "it changed while it was read")),
    }
}

/// The text of a dump, line by line, unpacked and hashed on the way.
struct Text {
    path: PathBuf,
    reader: Box<dyn AsyncBufRead + Send + Unpin>,
    unpacking: Option<Child>,
    hash: Sha256,
    bytes: u64,
    lines: u64,
}

impl Text {
    async fn open(path: &Path, packed: bool) -> Result<Self, DbError> {
        let at = |error| DbError::File { path: path.to_owned(), error };
        let (reader, unpacking): (Box<dyn AsyncRead + Send + Unpin>, _) = match packed {
            false => (Box::new(File::open(path).await.map_err(at)?), None),
            true => {
                let mut command = Command::new("gzip");
                command.arg("--decompress").arg("--stdout").arg("--").arg(path);
                command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
                command.process_group(0).kill_on_drop(true);
                let mut child = command.spawn().map_err(|error| {
                    bad(path, format!("gzip cannot be started ({error}): {}", remedy(&error)))
                })?;
                let stdout = child.stdout.take().ok_or_else(|| bad(path, "gzip was lost"))?;
                (Box::new(stdout), Some(child))
            }
        };
        let reader = Box::new(BufReader::with_capacity(256 * 1024, reader));
        let hash = Sha256::new();
        Ok(Self { path: path.to_owned(), reader, unpacking, hash, bytes: 0, lines: 0 })
    }

    /// The next line without its end; `None`: there is none.
    async fn next(&mut self) -> Result<Option<Vec<u8>>, DbError> {
        let at = |error| DbError::File { path: self.path.clone(), error };
        let mut line = Vec::new();
        loop {
            let part = self.reader.fill_buf().await.map_err(at)?;
            if part.is_empty() {
                break;
            }
            let end = part.iter().position(|byte| *byte == b'\n');
            let count = end.map_or(part.len(), |end| end + 1);
            line.extend_from_slice(&part[..count]);
            self.reader.consume(count);
            if end.is_some() {
                break;
            }
            if line.len() > LONGEST {
                return Err(bad(&self.path, "it has a line of more than 256 MB"));
            }
        }
        if line.is_empty() {
            return Ok(None);
        }
        self.hash.update(&line);
        self.bytes += line.len() as u64;
        self.lines += 1;
        if line.last() == Some(&b'\n') {
            line.pop();
        }
        Ok(Some(line))
    }

    /// After the last line: its bytes and its hash.
    async fn end(mut self) -> Result<(u64, String), DbError> {
        if let Some(child) = &mut self.unpacking {
            let at = |error| DbError::File { path: self.path.clone(), error };
            if !child.wait().await.map_err(at)?.success() {
                return Err(bad(&self.path, "gzip cannot unpack it: it is cut or damaged"));
            }
        }
        Ok((self.bytes, hex(&self.hash.finalize())))
    }
}
