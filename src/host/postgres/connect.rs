//! Sessions with the server: found, opened, bounded.
//!
//! A server in compose is found by its labels and dialled by its container's address, which `/proc`
//! or Docker proves first; nothing is cached, since a restarted container has another address. Each
//! statement has a limit on the server and a little more here, so a server that accepts and never
//! answers is an error and no hang. No session is shared or kept: a caller opens one for its work.
//!
//! INVARIANT: every session carries the installation and the operation in its `application_name`,
//! by which [`super::recover`] ends what a killed process left.

mod tls;

use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use cutover_model::{OperationId, ServiceName};
use futures_util::StreamExt;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinHandle;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{
    Client, Config, Connection, NoTls, Row, RowStream, SimpleQueryMessage, config::SslMode,
};

use super::error::{DbError, causes};
use super::names::{DbName, Installation};
use crate::host::docker::{Container, Docker, Filter};
use crate::host::endpoint::{self, Proof};
use crate::host::redact::Secrets;

pub use tls::Tls;

/// How long a connection may take, with the login.
const CONNECT: Duration = Duration::from_secs(5);
/// How much longer than the server's own limit an answer is waited for.
const GRACE: Duration = Duration::from_secs(2);
/// Questions about the catalog.
pub(super) const ASK: Duration = Duration::from_secs(10);

/// A password. Its `Debug` shows nothing.
#[derive(Clone)]
pub struct Password(String);

impl Password {
    /// Wraps it.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub(super) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Where a server is.
#[derive(Debug, Clone)]
pub enum Reach {
    /// In the only running container of a service of a compose project.
    Service {
        /// The engine.
        docker: Docker,
        /// The operator's own project.
        project: String,
        /// The service.
        service: ServiceName,
        /// The port inside the container.
        port: u16,
    },
    /// At an address.
    Host {
        /// A name or an IP address.
        host: String,
        /// Its port.
        port: u16,
    },
}

/// One database server, and the role to be there. Cheap to clone; holds no connection.
#[derive(Debug, Clone)]
pub struct Server {
    /// Where it is.
    pub reach: Reach,
    /// How the way to it is encrypted.
    pub tls: Tls,
    /// The role.
    pub user: String,
    /// Its password; `None`: none is sent.
    pub password: Option<Password>,
    /// The database to be connected to while others are renamed.
    pub maintenance: DbName,
    /// Who we are on it.
    pub installation: Installation,
}

/// Where a server is found now.
#[derive(Debug, Clone)]
pub struct Located {
    /// The host to dial.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The container that it runs in, unless it is outside of compose.
    pub container: Option<Container>,
}

/// Which schemas unqualified names are looked up in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lookup {
    /// PostgreSQL's own only: for everything that this program asks by itself.
    Catalog,
    /// As the database is set up: for the operator's own queries.
    AsSetUp,
}

impl Server {
    /// The server in a few words, for messages.
    #[must_use]
    pub fn label(&self) -> String {
        match &self.reach {
            Reach::Service { service, .. } => format!("PostgreSQL (service {service})"),
            Reach::Host { host, port } => format!("PostgreSQL at {host}:{port}"),
        }
    }

    /// What has to be masked in everything that its tools print.
    #[must_use]
    pub fn secrets(&self) -> Secrets {
        let password = self.password.as_ref().map(|password| ("PASSWORD", password.expose()));
        Secrets::none().with(password)
    }

    /// Finds the server.
    ///
    /// # Errors
    /// [`DbError::Unreachable`] when its service has not exactly one running container with an
    /// address, [`DbError::Docker`] when the engine cannot say.
    pub async fn locate(&self) -> Result<Located, DbError> {
        let (docker, project, service, port) = match &self.reach {
            Reach::Host { host, port } => {
                return Ok(Located { host: host.clone(), port: *port, container: None });
            }
            Reach::Service { docker, project, service, port } => (docker, project, service, *port),
        };
        let filter = Filter::project(project).service(service.as_str());
        let mut found = docker.containers(&filter).await?;
        found.retain(|container| !container.is_oneoff() && container.is_running());
        let away = |reason: String| DbError::Unreachable { server: self.label(), reason };
        let container = match (found.pop(), found.is_empty()) {
            (Some(container), true) => container,
            (None, _) => {
                let reason = format!(
                    "project {project} has no running container of it; start it with: docker \
                     compose -p {project} start {service}"
                );
                return Err(away(reason));
            }
            (Some(_), false) => {
                let count = found.len() + 1;
                return Err(away(format!(
                    "{count} containers of it run, which one holds the data?"
                )));
            }
        };
        let ip = address(&container, service).map_err(away)?;
        Ok(Located { host: ip.to_string(), port, container: Some(container) })
    }

    /// Opens a session with a database on behalf of an operation.
    ///
    /// # Errors
    /// [`DbError`]: not found, not let in, closed for connections, no answer in time.
    pub async fn connect(
        &self,
        database: &DbName,
        operation: OperationId,
    ) -> Result<Session, DbError> {
        self.open(database, operation, Lookup::Catalog).await
    }

    /// The same with a choice of where unqualified names are looked up.
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub async fn open(
        &self,
        database: &DbName,
        operation: OperationId,
        lookup: Lookup,
    ) -> Result<Session, DbError> {
        let located = self.locate().await?;
        let mut config = Config::new();
        let path = match lookup {
            Lookup::Catalog => " -c search_path=pg_catalog,pg_temp",
            Lookup::AsSetUp => "",
        };
        config
            .host(self.tls_name())
            .ssl_mode(SslMode::Disable)
            .port(located.port)
            .user(&self.user)
            .dbname(database.as_str())
            .application_name(self.installation.session_name(operation))
            .options(format!(
                "-c statement_timeout=10s -c lock_timeout=5s -c client_min_messages=error \
                 -c idle_in_transaction_session_timeout=60s{path}"
            ))
            .connect_timeout(CONNECT)
            .tcp_user_timeout(Duration::from_secs(15))
            .keepalives(true)
            .keepalives_idle(Duration::from_secs(10))
            .keepalives_interval(Duration::from_secs(3))
            .keepalives_retries(3);
        if let (Some(_), Ok(address)) = (&located.container, located.host.parse()) {
            config.hostaddr(address);
        }
        if let Some(password) = &self.password {
            config.password(password.expose());
        }
        let encryption = self.encryption()?;
        let begun = async {
            match encryption {
                None => config.connect(NoTls).await.map(|(client, rest)| (client, kept(rest))),
                Some(encryption) => {
                    let pair = config.ssl_mode(SslMode::Require).connect(encryption).await;
                    pair.map(|(client, rest)| (client, kept(rest)))
                }
            }
        };
        let what = format!("connecting to \"{database}\"");
        // The connect timeout ends with the TCP connection; the login gets one, too.
        let (client, task) = match tokio::time::timeout(CONNECT + GRACE, begun).await {
            Ok(Ok(pair)) => pair,
            Ok(Err(error)) => return Err(self.refused(&what, &error)),
            Err(_) => {
                let reason = format!("no answer within {:?}", CONNECT + GRACE);
                return Err(DbError::Unreachable { server: self.label(), reason });
            }
        };
        let session = Session {
            client,
            task,
            limit: AtomicU64::new(10_000),
            broken: AtomicBool::new(false),
            database: database.clone(),
        };
        session.within(&what, ASK, session.client.batch_execute(PATIENT)).await?;
        Ok(session)
    }

    fn refused(&self, what: &str, error: &tokio_postgres::Error) -> DbError {
        let let_in = [
            SqlState::INVALID_PASSWORD,
            SqlState::INVALID_AUTHORIZATION_SPECIFICATION,
            SqlState::INSUFFICIENT_PRIVILEGE,
        ];
        if let Some(error) = self.distrust(error) {
            return error;
        }
        match error.code() {
            Some(code) if let_in.contains(code) => DbError::NotLetIn {
                server: self.label(),
                reason: self.secrets().mask(&match error.as_db_error() {
                    Some(error) => crate::host::process::escape(error.message()),
                    None => causes(error),
                }),
            },
            Some(_) => DbError::of(what, CONNECT, error),
            None => {
                let reason = self.secrets().mask(&causes(error));
                DbError::Unreachable { server: self.label(), reason }
            }
        }
    }
}

/// Owned by the session: it ends when the client is dropped, or is aborted with it.
fn kept<S, T>(connection: Connection<S, T>) -> JoinHandle<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(error = %causes(&error), "a session with PostgreSQL ended");
        }
    })
}

/// The address of a container, once nothing speaks against it still being the container's.
fn address(container: &Container, service: &ServiceName) -> Result<IpAddr, String> {
    let ip = container.dial().ok_or("its container has no address on any network")?;
    let pid = container.pid.ok_or("its container has no process")?;
    let id = container.id.clone();
    let endpoint = endpoint::remember(id, service.clone(), ip, pid).map_err(|e| e.to_string())?;
    match endpoint::prove(&endpoint) {
        // Docker has just shown it running with this address: without /proc that is the proof.
        Proof::Alive | Proof::Unknown => Ok(ip),
        Proof::Gone => Err("its container ended while it was looked up".to_owned()),
    }
}

/// A role or a database may have limits for its application that a snapshot or a lock of ours must
/// not end by; which of them a server knows depends on its version.
const PATIENT: &str = "SELECT pg_catalog.set_config(name, '0', false) FROM pg_catalog.pg_settings
                        WHERE name IN ('idle_session_timeout', 'transaction_timeout')";

/// One session with one database.
#[derive(Debug)]
pub struct Session {
    client: Client,
    task: JoinHandle<()>,
    /// The server's limit of a statement now, in milliseconds.
    limit: AtomicU64,
    broken: AtomicBool,
    database: DbName,
}

impl Session {
    /// The database that it was opened with. After a swap that one may have another name.
    #[must_use]
    pub fn database(&self) -> &DbName {
        &self.database
    }

    /// Whether the connection has ended.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Asks with parameters; one statement.
    pub(super) async fn rows(
        &self,
        what: &str,
        limit: Duration,
        sql: &str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, DbError> {
        self.limited(what, limit).await?;
        self.within(what, limit, self.client.query(sql, params)).await
    }

    /// Asks for exactly one row.
    pub(super) async fn row(
        &self,
        what: &str,
        limit: Duration,
        sql: &str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Row, DbError> {
        let mut rows = self.rows(what, limit, sql, params).await?;
        match (rows.pop(), rows.is_empty()) {
            (Some(row), true) => Ok(row),
            _ => Err(DbError::Answer { what: what.to_owned(), text: "not one row".to_owned() }),
        }
    }

    /// Runs one statement; several are one transaction.
    pub(super) async fn run(&self, what: &str, limit: Duration, sql: &str) -> Result<(), DbError> {
        self.limited(what, limit).await?;
        self.within(what, limit, self.client.batch_execute(sql)).await
    }

    /// Asks one statement of the operator's: how many rows it gives, and the first column of the
    /// first one as text. Rows are counted as they come and not kept.
    pub(super) async fn table(
        &self,
        what: &str,
        limit: Duration,
        sql: &str,
    ) -> Result<(u64, Option<String>), DbError> {
        self.limited(what, limit).await?;
        // Preparing refuses a text with more than one statement.
        self.within(what, limit, self.client.prepare(sql)).await?;
        let asked = async {
            let stream = self.client.simple_query_raw(sql).await?;
            tokio::pin!(stream);
            let (mut rows, mut first) = (0, None);
            while let Some(message) = stream.next().await {
                if let SimpleQueryMessage::Row(row) = message? {
                    if rows == 0 {
                        first = row.try_get(0)?.map(str::to_owned);
                    }
                    rows += 1;
                }
            }
            Ok((rows, first))
        };
        self.within(what, limit, asked).await
    }

    /// Asks for rows that are too many to keep.
    pub(super) async fn stream(
        &self,
        what: &str,
        limit: Duration,
        sql: &str,
    ) -> Result<RowStream, DbError> {
        self.limited(what, limit).await?;
        let none: [&(dyn ToSql + Sync); 0] = [];
        self.within(what, limit, self.client.query_raw(sql, none)).await
    }

    /// Takes back the transaction, if one is open, broken or not.
    pub(super) async fn rollback(&self) -> Result<(), DbError> {
        // What was set inside goes with it, so the limit is not known any more.
        self.limit.store(0, Ordering::Relaxed);
        self.within("taking back a transaction", ASK, self.client.batch_execute("ROLLBACK")).await
    }

    /// Sets the server's limit for what comes next.
    pub(super) async fn limited(&self, what: &str, limit: Duration) -> Result<(), DbError> {
        let millis = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX).max(1);
        if self.limit.load(Ordering::Relaxed) == millis {
            return Ok(());
        }
        let set = format!("SET statement_timeout = {}", millis.min(2_147_483_647));
        self.within(what, ASK, self.client.batch_execute(&set)).await?;
        self.limit.store(millis, Ordering::Relaxed);
        Ok(())
    }

    pub(super) async fn within<T>(
        &self,
        what: &str,
        limit: Duration,
        call: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, DbError> {
        match tokio::time::timeout(limit + GRACE, call).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(DbError::of(what, limit, &error)),
            Err(_) => {
                self.broken.store(true, Ordering::Relaxed);
                Err(DbError::TooSlow { what: what.to_owned(), limit })
            }
        }
    }

    /// Ends the session and waits until the server was told; an aborted one leaves its transaction
    /// to the server, which rolls it back.
    pub async fn close(mut self) {
        let task = std::mem::replace(&mut self.task, tokio::spawn(std::future::ready(())));
        drop(self);
        if tokio::time::timeout(GRACE, task).await.is_err() {
            tracing::debug!("a session with PostgreSQL did not end in time");
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // One that does not answer would wait for its answer for ever.
        if self.broken.load(Ordering::Relaxed) {
            self.task.abort();
        }
    }
}
