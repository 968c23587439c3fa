//! The agent: work that must not be done twice. It writes a row every second; the rows of two
//! agents that ran at the same time overlap, which is how a test sees it.

use std::time::Duration;

use crate::Failure;
use crate::database::Database;
use crate::settings::Settings;
use crate::stop::{self, Stop};

const ROW: &str = "INSERT INTO agent_ticks (release, hostname, what) VALUES ($1, $2, $3)";

pub(crate) async fn run(settings: Settings, stop: Stop) -> Result<(), Failure> {
    let database = Database::new(&settings)?;
    tick(&database, &settings, "start").await;
    loop {
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(1)) => {
                tick(&database, &settings, "tick").await;
            }
            () = stop::asked(stop.clone()) => break,
        }
    }
    tick(&database, &settings, "stop").await;
    Ok(())
}

async fn tick(database: &Database, settings: &Settings, what: &str) {
    match database.query(ROW, &[&settings.release, &settings.hostname, &what]).await {
        Ok(_) => println!("agent {} {what}", settings.release),
        Err(error) => eprintln!("agent {}: {error}", settings.release),
    }
}
