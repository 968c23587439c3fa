//! The database of an app, as a restore works on it: the hands of `host::postgres`, put in order.
//!
//! One value for one operation; it holds no session and no state between calls, and each call looks
//! first and may run twice. It decides nothing and knows no traffic.

mod asking;
mod backing_up;
mod building;
mod counting;
mod exporting;
mod importing;
mod leftovers;
mod rehearsing;
mod room;
mod stacks;
mod swapping;
mod undoing;
mod upkeep;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cutover_model::restore::{Checked, Databases, Found, Mark};
use cutover_model::{AppName, Oid, OperationId, RestorePlan, ServiceName, Source};

use sha2::{Digest as _, Sha256};

use super::perform;
use crate::host::StackSettings;
use crate::host::postgres::preflight::{self, UnknownSpace};
use crate::host::postgres::verify::Question;
use crate::host::postgres::{
    Again, DbError, DbName, Installation, Kind, Made, Password, Reach, Server, Session, Tls, Whose,
    claims, facts,
};

pub use asking::Said;
pub use backing_up::Decoded;
pub(super) use building::now;
pub use exporting::{Export, ExportedRow};
pub use leftovers::Left;
pub use room::Then;
pub use swapping::{Counted, Ready, Tried};

/// What is needed to know of an app's database, filled by the daemon from the configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct DatabaseSettings {
    /// Where its server is.
    pub place: Place,
    /// How the way to it is encrypted.
    pub tls: Tls,
    /// The database.
    pub name: DbName,
    /// The role.
    pub user: String,
    /// Where its password comes from; `None`: none is sent.
    pub password: Option<PasswordSource>,
    /// The database to be connected to while the app's own is renamed.
    pub maintenance: DbName,
    /// How a deploy makes its restore point.
    pub point: PointKind,
    /// How long requests may be held.
    pub max_hold: Duration,
    /// How long restored data is watched; zero: not at all.
    pub watch: Duration,
    /// Where backups lie.
    pub backups: PathBuf,
    /// When they are made, and how many are kept.
    pub schedule: Option<Schedule>,
    /// What says that the data is whole.
    pub integrity: Vec<Question>,
    /// Whether disk space that cannot be known is accepted.
    pub unknown_space: UnknownSpace,
}

impl DatabaseSettings {
    /// The names that a restore from this source uses, as this operation. Pure.
    #[must_use]
    pub fn names(&self, source: &Source, as_operation: OperationId) -> Names {
        let live = &self.name;
        let candidate = match source {
            Source::Aside { operation } => live.previous(*operation),
            Source::Point { .. } | Source::Backup { .. } => live.candidate(as_operation),
        };
        Names { candidate: candidate.into(), aside: live.previous(as_operation).into() }
    }
}

/// When backups are made, how many are kept, and what becomes of each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    /// Five fields, as cron has them, in the time zone of this machine.
    pub cron: String,
    /// Days, weeks and months, each with its newest one.
    pub keep: (u32, u32, u32),
    /// Who `age` encrypts them to.
    pub encrypt: Option<String>,
    /// The private key that `age` decrypts with, where it is on this host.
    pub identity: Option<PathBuf>,
    /// The command that copies each one elsewhere; its path is the last argument.
    pub copy: Vec<String>,
    /// How long that command may take.
    pub copy_timeout: Duration,
}

/// Where a password comes from: read each time, kept nowhere.
#[derive(Clone)]
pub struct PasswordSource {
    label: String,
    read: Arc<ReadPassword>,
}

type ReadPassword = dyn Fn() -> Result<Password, String> + Send + Sync;

impl PasswordSource {
    /// Two of the same label are the same source.
    #[must_use]
    pub fn new(label: String, read: Arc<ReadPassword>) -> Self {
        Self { label, read }
    }
}

impl PartialEq for PasswordSource {
    fn eq(&self, other: &Self) -> bool {
        self.label == other.label
    }
}

impl fmt::Debug for PasswordSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Where a server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In the container of a shared service.
    Service(ServiceName, u16),
    /// Outside of compose.
    Host(String, u16),
}

/// How a deploy makes its restore point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PointKind {
    /// A copy of one snapshot; no session is touched.
    Copy,
    /// A template clone; every session has to go for it.
    Clone,
    /// None.
    Off,
}

/// Why something on the database was not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// It cannot be done, and another try changes nothing; nothing was changed.
    #[error("{0}")]
    Refused(String),
    /// Something is away or busy: it can be gone on with later.
    #[error("{0}")]
    Away(String),
    /// It failed.
    #[error("{0}")]
    Failed(String),
}

impl Trouble {
    /// The same of a file that was read by another path than its own.
    #[must_use]
    pub fn about(self, reading: &Path, path: &str) -> Self {
        let reading = reading.display().to_string();
        match self {
            Self::Refused(why) => Self::Refused(why.replace(&reading, path)),
            Self::Away(why) => Self::Away(why.replace(&reading, path)),
            Self::Failed(why) => Self::Failed(why.replace(&reading, path)),
        }
    }
}

impl From<DbError> for Trouble {
    fn from(error: DbError) -> Self {
        match error.again() {
            Again::Now | Again::Later => Self::Away(error.to_string()),
            Again::Never => Self::Refused(error.to_string()),
        }
    }
}

/// The live database, as a plan needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveFacts {
    /// Its name.
    pub name: String,
    /// The server's own identifier.
    pub system: String,
    /// Its number.
    pub oid: Oid,
    /// Its size in bytes, when the role may know.
    pub bytes: Option<u64>,
}

/// A database of an app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Its name.
    pub name: String,
    /// What it is, in one or two words.
    pub what: &'static str,
    /// Its size in bytes, when the role may know.
    pub bytes: Option<u64>,
    /// The operation whose mark it carries.
    pub operation: Option<OperationId>,
}

/// The names that a restore uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    /// Of what takes the live name.
    pub candidate: String,
    /// Under which the live one is kept.
    pub aside: String,
}

/// Who an app is on its database server: drawn from the key that the state folder keeps, and from
/// its name, since two apps may count their operations alike. Databases that were put aside carry
/// it.
///
/// # Errors
/// None in practice: a hash is always an id.
pub fn installation(key: &[u8; 32], app: &AppName) -> Result<Installation, Trouble> {
    let hash = Sha256::new().chain_update(b"cutover installation\0").chain_update(key);
    let hash = hash.chain_update(app.as_str()).finalize();
    let text: String = hash[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    Installation::new(text).map_err(|error| Trouble::Refused(error.to_string()))
}

/// Who works on a database.
#[derive(Debug, Clone)]
pub struct Us {
    /// This installation's app.
    pub installation: Installation,
    /// This process: a later one has a higher number.
    pub epoch: u64,
    /// The operator's own compose project, once it is known.
    pub project: Option<String>,
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Database {
    settings: DatabaseSettings,
    /// `None`: its endpoints are fixed, and it has no containers that are known.
    stack: Option<StackSettings>,
    server: Server,
    operation: OperationId,
    /// Which process this is: a later one has a higher number.
    epoch: u64,
}

impl Database {
    /// The hands for one operation; nothing is opened yet.
    ///
    /// # Errors
    /// [`Trouble`] when Docker cannot be asked, or the password cannot be read.
    pub async fn open(
        stack: Option<&StackSettings>,
        settings: &DatabaseSettings,
        us: Us,
        operation: OperationId,
    ) -> Result<Self, Trouble> {
        let reach = match &settings.place {
            Place::Host(host, port) => Reach::Host { host: host.clone(), port: *port },
            Place::Service(service, port) => {
                let none = "a service of compose needs an app that is made from a compose file";
                let stack = stack.ok_or_else(|| Trouble::Refused(none.to_owned()))?;
                let docker = perform::docker(stack).await.map_err(Trouble::Away)?;
                let unknown = "it is not known yet which compose project runs the database: adopt \
                               or deploy first";
                let project =
                    us.project.clone().ok_or_else(|| Trouble::Refused(unknown.to_owned()))?;
                Reach::Service { docker, project, service: service.clone(), port: *port }
            }
        };
        let password = match &settings.password {
            Some(source) => Some((source.read)().map_err(Trouble::Refused)?),
            None => None,
        };
        let server = Server {
            reach,
            tls: settings.tls.clone(),
            user: settings.user.clone(),
            password,
            maintenance: settings.maintenance.clone(),
            installation: us.installation,
        };
        let (settings, stack, epoch) = (settings.clone(), stack.cloned(), us.epoch);
        Ok(Self { settings, stack, server, operation, epoch })
    }

    /// The names that a restore from this source uses.
    #[must_use]
    pub fn names(&self, source: &Source) -> Names {
        self.settings.names(source, self.operation)
    }

    /// How a restore point is made.
    #[must_use]
    pub fn makes(&self) -> PointKind {
        self.settings.point
    }

    /// How long requests may wait, in milliseconds.
    #[must_use]
    pub fn max_hold_ms(&self) -> u64 {
        u64::try_from(self.settings.max_hold.as_millis()).unwrap_or(u64::MAX)
    }

    async fn session(&self) -> Result<Session, Trouble> {
        Ok(self.server.connect(&self.settings.maintenance, self.operation).await?)
    }

    /// The live database now, before something is planned on it.
    ///
    /// # Errors
    /// [`Trouble`]; [`Trouble::Refused`] where the server takes no writes.
    pub async fn facts(&self) -> Result<LiveFacts, Trouble> {
        let session = self.session().await?;
        let server = facts::server(&session).await?;
        if let Some(refusal) = preflight::no_writes(&server) {
            return Err(Trouble::Refused(format!("{}: {}", refusal.what, refusal.remedy)));
        }
        let Some(live) = facts::database(&session, &self.settings.name).await? else {
            let name = &self.settings.name;
            return Err(Trouble::Refused(format!("there is no database \"{name}\"")));
        };
        if !live.allows {
            return Err(Trouble::Refused(format!(
                "\"{}\" does not take connections: find out who closed it; ALTER DATABASE ... \
                 ALLOW_CONNECTIONS true opens it",
                live.name
            )));
        }
        Ok(LiveFacts {
            name: live.name.into(),
            system: server.system_identifier,
            oid: Oid(live.oid),
            bytes: live.size,
        })
    }

    /// The live database and everything of this installation beside it.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn kept(&self) -> Result<Vec<Kept>, Trouble> {
        let session = self.session().await?;
        let mut found = Vec::new();
        if let Some(live) = facts::database(&session, &self.settings.name).await? {
            found.push(Kept {
                name: live.name.into(),
                what: "live",
                bytes: live.size,
                operation: None,
            });
        }
        for database in facts::marked(&session).await? {
            let Some(marker) = database.marker() else { continue };
            if marker.installation != self.server.installation {
                continue;
            }
            let what = match marker.kind {
                Kind::Candidate => "candidate",
                Kind::Previous => "put aside",
                Kind::Point => "restore point",
                Kind::Scratch => "copy",
            };
            let (name, bytes) = (database.name.into(), database.size);
            // A restore point is called after its release.
            let operation = (marker.kind != Kind::Point).then_some(marker.operation);
            found.push(Kept { name, what, bytes, operation });
        }
        Ok(found)
    }

    /// What stands under the three names of a plan.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn look(&self, plan: &RestorePlan) -> Result<Databases, Trouble> {
        let session = self.session().await?;
        claims::ensure_ledger(&session).await?;
        let system = facts::server(&session).await?.system_identifier;
        Ok(Databases {
            system,
            live: self.found(&session, &plan.database).await?,
            candidate: self.found(&session, &plan.candidate).await?,
            aside: self.found(&session, &plan.aside).await?,
        })
    }

    async fn found(&self, session: &Session, name: &str) -> Result<Option<Found>, Trouble> {
        let name = named(name)?;
        let Some(database) = facts::database(session, &name).await? else { return Ok(None) };
        let oid = Oid(database.oid);
        let mark = match claims::whose(session, &self.server.installation, &name).await? {
            Whose::Nobody => Mark::None,
            Whose::Ours { marker, .. } if marker.operation == self.operation => {
                Mark::Ours(match marker.made {
                    Made::Verified => Checked::Passed,
                    Made::Building => Checked::NotYet,
                })
            }
            Whose::Ours { marker, .. } => Mark::Foreign(format!("of {}", marker.operation)),
            Whose::Foreign(why) => Mark::Foreign(why),
        };
        Ok(Some(Found { oid, mark }))
    }
}

fn named(text: &str) -> Result<DbName, Trouble> {
    DbName::new(text).map_err(|error| Trouble::Refused(error.to_string()))
}
