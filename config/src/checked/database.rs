//! The checked configuration of an app's database: where it is, how it is kept, what proves that
//! its data is whole.
//!
//! Names are checked for what PostgreSQL takes (1 to 63 bytes, no NUL); whether the server, the
//! role and the database exist is asked by `cutover check` and by each operation, not here.

use std::path::PathBuf;
use std::time::Duration;

use cutover_model::ServiceName;
use serde::Serialize;

use crate::read::choice;
use crate::secret::SecretSource;

/// The app's database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Database {
    /// Where its server is.
    pub at: DatabaseAt,
    /// The database.
    pub name: String,
    /// How the way to it is encrypted, and what its certificate has to prove.
    pub tls: DatabaseTls,
    /// The role to connect as.
    pub user: String,
    /// Its password; `None`: none is sent.
    pub password: Option<SecretSource>,
    /// The database to be connected to while the app's own is renamed.
    pub maintenance: String,
    /// How a deploy makes its restore point.
    pub restore_point: RestorePoint,
    /// How long requests may be held while names are exchanged.
    pub max_hold: Duration,
    /// How long restored data is watched; zero: not at all.
    pub watch: Duration,
    /// Whether the free space of the server's disk has to be known.
    pub space: SpaceCheck,
    /// When it is backed up.
    pub backup: Option<Backup>,
}

/// Where a database server is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DatabaseAt {
    /// In the container of a shared service.
    Service {
        /// The service.
        service: ServiceName,
        /// The port inside its container.
        port: u16,
    },
    /// Outside of compose.
    Host {
        /// A name or an IP address.
        host: String,
        /// Its port.
        port: u16,
    },
}

/// How the way to a database server is encrypted: libpq's `sslmode`, without its modes that try.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DatabaseTls {
    /// Nothing is encrypted.
    #[default]
    Disable,
    /// Encrypted; whoever answers is taken for the server.
    Require,
    /// Encrypted; the certificate is signed by an authority of this file.
    VerifyCa {
        /// Certificates in PEM.
        ca: PathBuf,
    },
    /// The same, and it names the host, or the service.
    VerifyFull {
        /// Certificates in PEM.
        ca: PathBuf,
    },
}

/// The words of [`DatabaseTls`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum TlsMode {
    /// See [`DatabaseTls::Disable`].
    #[default]
    Disable,
    /// See [`DatabaseTls::Require`].
    Require,
    /// See [`DatabaseTls::VerifyCa`].
    VerifyCa,
    /// See [`DatabaseTls::VerifyFull`].
    VerifyFull,
}
choice!(TlsMode, "a way to encrypt",
    "disable" => Self::Disable, "require" => Self::Require, "verify-ca" => Self::VerifyCa,
    "verify-full" => Self::VerifyFull);

/// How a deploy makes its restore point.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RestorePoint {
    /// `pg_dump | pg_restore` of one snapshot: no session is touched.
    #[default]
    Copy,
    /// A template clone: faster, but every session of the database has to go for it.
    Clone,
    /// None: a deploy with a migration can be taken back by a backup only.
    Off,
}
choice!(RestorePoint, "a kind of restore point",
    "copy" => Self::Copy, "clone" => Self::Clone, "off" => Self::Off);

/// Whether the free space of the server's disk has to be known before anything is built on it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SpaceCheck {
    /// It has to be known and enough.
    #[default]
    Checked,
    /// The operator answers for it: the server is elsewhere and cannot be asked.
    Unchecked,
}
choice!(SpaceCheck, "a way to treat disk space",
    "checked" => Self::Checked, "unchecked" => Self::Unchecked);

/// When a database is backed up, and how many backups are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Backup {
    /// Five fields, as cron has them.
    pub schedule: String,
    /// How many are kept.
    pub keep: Keep,
    /// The folder of the files; `None`: `backups` in the state folder.
    pub path: Option<PathBuf>,
    /// The recipient that files are encrypted to by `age`; `None`: not encrypted.
    pub encrypt: Option<String>,
    /// The private key that `age` decrypts with; `None`: it is not on this host.
    pub identity_file: Option<PathBuf>,
    /// A command that copies each new file elsewhere; the file's path is its last argument.
    pub copy: Vec<String>,
    /// How long that command may take.
    pub copy_timeout: Duration,
}

/// How many backups are kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Keep {
    /// One for each of the last days.
    pub daily: u32,
    /// One for each of the last weeks.
    pub weekly: u32,
    /// One for each of the last months.
    pub monthly: u32,
}

/// A query that says whether the data is whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Integrity {
    /// Its name in messages; unique within the app.
    pub name: String,
    /// One statement; it runs in a transaction that cannot write.
    pub sql: String,
    /// What it has to answer.
    pub expect: Expected,
    /// How long it may take.
    pub timeout: Duration,
}

/// What an integrity query has to answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Expected {
    /// No row at all: each row is something wrong.
    NoRows,
    /// One row, whose first column is this as text (`t` and `f` are true and false).
    Value(String),
}
