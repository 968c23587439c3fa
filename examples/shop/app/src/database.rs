//! A pool of a few PostgreSQL connections. A lost connection is replaced once for each query, as
//! usual pools do; a second loss is the caller's error. Counts every connection it opened.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{Mutex, Semaphore};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, NoTls, Row};

use crate::Failure;
use crate::settings::Settings;

pub(crate) struct Database {
    url: String,
    name: String,
    idle: Mutex<Vec<Client>>,
    slots: Semaphore,
    opened: AtomicU64,
}

impl Database {
    pub(crate) fn new(settings: &Settings) -> Result<Self, Failure> {
        let url = settings.text("DATABASE_URL").ok_or("DATABASE_URL is not set")?.to_owned();
        Self::at(settings, url)
    }

    pub(crate) fn at(settings: &Settings, url: String) -> Result<Self, Failure> {
        let size = settings.number("SHOP_DB_CONNECTIONS").unwrap_or(4).clamp(1, 64);
        Ok(Self {
            url,
            name: format!("shop {} {}", settings.role, settings.release),
            idle: Mutex::new(Vec::new()),
            slots: Semaphore::new(usize::try_from(size)?),
            opened: AtomicU64::new(0),
        })
    }

    /// Connections opened since the start; grows only when one was lost or the pool fills.
    pub(crate) fn opened(&self) -> u64 {
        self.opened.load(Ordering::Relaxed)
    }

    pub(crate) async fn query(
        &self,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, Failure> {
        let _slot = self.slots.acquire().await?;
        let kept = self.idle.lock().await.pop();
        if let Some(client) = kept {
            match client.query(sql, parameters).await {
                Ok(rows) => {
                    self.idle.lock().await.push(client);
                    return Ok(rows);
                }
                Err(_) if client.is_closed() => {}
                Err(error) => {
                    self.idle.lock().await.push(client);
                    return Err(described(&error));
                }
            }
        }
        let client = self.connect().await?;
        let rows = client.query(sql, parameters).await.map_err(|error| described(&error))?;
        self.idle.lock().await.push(client);
        Ok(rows)
    }

    /// A connection outside of the pool, for a script of several statements.
    pub(crate) async fn connect(&self) -> Result<Client, Failure> {
        let mut config: tokio_postgres::Config = self.url.parse()?;
        config.application_name(&self.name);
        config.connect_timeout(std::time::Duration::from_secs(3));
        let (client, connection) = config.connect(NoTls).await.map_err(|e| described(&e))?;
        // The task ends with its connection, and the connection with its client.
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                eprintln!("shop: database connection lost: {}", described(&error));
            }
        });
        self.opened.fetch_add(1, Ordering::Relaxed);
        Ok(client)
    }
}

/// The server's own words where there are any; the driver alone says only "db error".
pub(crate) fn described(error: &tokio_postgres::Error) -> Failure {
    match error.as_db_error() {
        Some(said) => format!("{} ({})", said.message(), said.code().code()).into(),
        None => error.to_string().into(),
    }
}
