//! An eye on a PostgreSQL container: a session that stays open, and what the server says about
//! itself and its sessions. It writes nothing.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio_postgres::{Client, Config, NoTls, Row};

/// A session whose network is gone would wait for ever.
const PATIENCE: Duration = Duration::from_secs(30);

/// A session of somebody else: its process id in the server and when it began.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Session {
    pub(crate) pid: i32,
    pub(crate) name: String,
    pub(crate) began: String,
}

pub(crate) struct Observer {
    runtime: Runtime,
    client: Client,
}

impl Observer {
    pub(crate) fn connect(address: SocketAddr, user: &str, password: &str, name: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime for the observer");
        let mut config = Config::new();
        config.host(address.ip().to_string()).port(address.port());
        config.user(user).password(password).dbname(name).application_name("observer");
        config.connect_timeout(Duration::from_secs(10));
        let client = runtime.block_on(async {
            let (client, connection) = config.connect(NoTls).await.expect("a database session");
            // Ends with the session; a loss shows at the next question.
            tokio::spawn(connection);
            client
        });
        Self { runtime, client }
    }

    /// A question on the one session. A session that was reset ends the test here.
    pub(crate) fn ask(&self, sql: &str) -> Vec<Row> {
        let asked = async { tokio::time::timeout(PATIENCE, self.client.query(sql, &[])).await };
        match self.runtime.block_on(asked) {
            Ok(Ok(rows)) => rows,
            Ok(Err(error)) => panic!("the observer's session: {error}, asked: {sql}"),
            Err(_) => panic!("the observer's session: no answer in {PATIENCE:?}, asked: {sql}"),
        }
    }

    pub(crate) fn number(&self, sql: &str) -> i64 {
        self.ask(sql).first().expect("a row").get(0)
    }

    pub(crate) fn text(&self, sql: &str) -> String {
        self.ask(sql).first().expect("a row").get(0)
    }

    /// When the server started: the same text means that it was never restarted.
    pub(crate) fn server_start(&self) -> String {
        self.text("SELECT pg_postmaster_start_time()::text")
    }

    /// The sessions whose name starts with `prefix`.
    pub(crate) fn sessions(&self, prefix: &str) -> Vec<Session> {
        let rows = self.ask(
            "SELECT pid, application_name, backend_start::text FROM pg_stat_activity
             WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() ORDER BY pid",
        );
        let mut sessions: Vec<Session> = rows
            .iter()
            .map(|row| Session { pid: row.get(0), name: row.get(1), began: row.get(2) })
            .collect();
        sessions.retain(|session| session.name.starts_with(prefix));
        sessions
    }
}
