//! A PostgreSQL server in a container of the test's own, labelled as compose would, and clients
//! that know nothing of Cutover.

use std::time::Duration;

use cutover::host::Docker;
use cutover::host::postgres::{DbName, Installation, Password, Reach, Server, Tls};
use cutover_model::{OperationId, ServiceName};
use tokio_postgres::{Client, Config, NoTls};

use super::{engine, eventually, ports};

pub(crate) const PASSWORD: &str = "pg-secret-4711";

/// One server; its database is `shop`, its superuser `shop`.
pub(crate) struct Pg {
    pub(crate) project: String,
    pub(crate) id: String,
}

impl Pg {
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// One of this major version.
    pub(crate) fn start_of(major: u32) -> Self {
        Self::start_as(&[], &image_of(major))
    }

    /// `more`: arguments of `docker run` before the image.
    pub(crate) fn start_with(more: &[&str]) -> Self {
        Self::start_as(more, &image_of(usual_major()))
    }

    fn start_as(more: &[&str], image: &str) -> Self {
        let project = ports::project_name("pg");
        let name = format!("{project}-postgres-1");
        let labels = [
            format!("com.docker.compose.project={project}"),
            "com.docker.compose.service=postgres".to_owned(),
            "com.docker.compose.oneoff=False".to_owned(),
        ];
        let password = format!("POSTGRES_PASSWORD={PASSWORD}");
        let mut all = vec!["run", "-d", "--name", &name, "-e", "POSTGRES_USER=shop"];
        all.extend(["-e", &password, "--shm-size", "128m"]);
        labels.iter().for_each(|label| all.extend(["--label", label.as_str()]));
        all.extend(more);
        all.extend([image, "postgres"]);
        all.extend(["-c", "max_prepared_transactions=4", "-c", "wal_level=logical"]);
        all.extend(["-c", "max_connections=60", "-c", "fsync=off", "-c", "max_wal_size=64MB"]);
        let id = engine::docker(&all).succeeded().stdout.trim().to_owned();
        let pg = Self { project, id };
        eventually("PostgreSQL is ready", Duration::from_secs(60), || {
            let log = engine::docker(&["logs", &pg.id]).both();
            let ready = "database system is ready to accept connections";
            let made = log.split("is made").nth(1)?;
            made.contains(ready).then_some(())
        });
        pg
    }

    pub(crate) fn address(&self) -> String {
        let template = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
        engine::inspect(&self.id, template)
    }

    pub(crate) async fn server(&self) -> Server {
        self.server_as("shop", PASSWORD).await
    }

    pub(crate) async fn server_as(&self, user: &str, password: &str) -> Server {
        Server {
            reach: Reach::Service {
                docker: Docker::connect(None).await.expect("Docker"),
                project: self.project.clone(),
                service: ServiceName::new("postgres").expect("a name"),
                port: 5432,
            },
            tls: Tls::Disable,
            user: user.to_owned(),
            password: Some(Password::new(password)),
            maintenance: name("postgres"),
            installation: Installation::new("0192f0c1-test").expect("an id"),
        }
    }

    /// How a client of somebody else gets in.
    pub(crate) fn config(&self, database: &str) -> Config {
        let mut config = Config::new();
        config.host(self.address()).user("shop").password(PASSWORD).dbname(database);
        config.application_name("somebody").connect_timeout(Duration::from_secs(5));
        config
    }

    /// A client of somebody else.
    pub(crate) async fn client(&self, database: &str) -> Client {
        let (client, connection) = self.config(database).connect(NoTls).await.expect("let in");
        tokio::spawn(connection);
        client
    }

    /// Runs statements as somebody else.
    pub(crate) async fn run(&self, database: &str, sql: &str) {
        self.client(database).await.batch_execute(sql).await.unwrap_or_else(|e| {
            panic!("{sql}: {}", e.as_db_error().map_or(e.to_string(), ToString::to_string))
        });
    }

    /// The first column of the first row.
    pub(crate) async fn number(&self, database: &str, sql: &str) -> i64 {
        self.client(database).await.query_one(sql, &[]).await.expect("a row").get(0)
    }

    /// The names of all databases, sorted.
    pub(crate) async fn databases(&self) -> Vec<String> {
        let sql = "SELECT datname::text FROM pg_database WHERE NOT datistemplate ORDER BY 1";
        let rows = self.client("postgres").await.query(sql, &[]).await.expect("rows");
        rows.iter().map(|row| row.get(0)).collect()
    }
}

impl Drop for Pg {
    fn drop(&mut self) {
        if std::env::var_os("CUTOVER_E2E_KEEP").is_none() {
            engine::docker(&["rm", "-f", "-v", &self.id]);
        }
    }
}

/// The image of a major version that `scripts/images` makes.
pub(crate) fn image_of(major: u32) -> String {
    format!("cutover-fixture/postgres:{major}")
}

/// The major version that tests run on which are about no particular one:
/// `CUTOVER_TEST_POSTGRES=18 make e2e` runs all of them on another.
pub(crate) fn usual_major() -> u32 {
    let asked = std::env::var("CUTOVER_TEST_POSTGRES").ok();
    asked.map_or(15, |asked| asked.parse().expect("CUTOVER_TEST_POSTGRES is a major version"))
}

pub(crate) fn name(text: &str) -> DbName {
    DbName::new(text).expect("a name")
}

pub(crate) fn operation(number: u64) -> OperationId {
    OperationId(number)
}
