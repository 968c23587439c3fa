//! `shop`: one program with the roles of a small web application, chosen by its first argument.
//!
//! It owns nothing but the example: a backend with rows in PostgreSQL, a frontend, an agent that
//! must never run twice, and a migration command. It knows nothing of Cutover. A release can be
//! bad on purpose: see `settings`.

mod agent;
mod backend;
mod database;
mod faults;
mod frontend;
mod health;
mod migrate;
mod settings;
mod socket;
mod stop;
mod web;

use std::process::ExitCode;

use settings::Settings;

const USAGE: &str = "usage: shop ROLE

  backend              the API on port 3001 (PORT)
  frontend             the page on port 80 (PORT)
  agent                one row in agent_ticks every second
  migrate [FOLDER [FILE]]
                       applies the migrations of FOLDER (/prisma/migrations), each once, to the
                       database that DATABASE_URL names, or FILE
  migrate-status       lists the migrations that the database has, newest first
  migrate-down [FOLDER [COUNT]]
                       takes the newest COUNT (1, or CUTOVER_DOWN_COUNT) back by each undo.sql
  health URL           asks URL and exits 0 when it answers 200";

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("shop: no runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(run(&arguments)) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("shop: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: &[String]) -> Result<ExitCode, Failure> {
    let role = arguments.first().map(String::as_str).unwrap_or_default();
    let rest = arguments.get(1).map(String::as_str);
    let settings = Settings::read(role);
    match role {
        "backend" | "frontend" | "agent" => serve(role, settings).await,
        "migrate" => {
            let url = arguments.get(2).map(std::fs::read_to_string).transpose()?;
            migrate::apply(&settings, rest.unwrap_or("/prisma/migrations"), url).await?;
            Ok(ExitCode::SUCCESS)
        }
        "migrate-status" => {
            migrate::status(&settings).await?;
            Ok(ExitCode::SUCCESS)
        }
        "migrate-down" => {
            let count = match arguments.get(2) {
                Some(count) => count.clone(),
                None => std::env::var("CUTOVER_DOWN_COUNT").unwrap_or_else(|_| "1".to_owned()),
            };
            let folder = rest.unwrap_or("/prisma/migrations");
            migrate::take_back(&settings, folder, count.parse()?).await?;
            Ok(ExitCode::SUCCESS)
        }
        "health" => health::ask(rest.unwrap_or("http://127.0.0.1:3001/api/health")).await,
        _ => {
            eprintln!("{USAGE}");
            Ok(ExitCode::from(2))
        }
    }
}

/// Runs one of the long-lived roles until a signal, or until the settings say that it breaks.
async fn serve(role: &str, settings: Settings) -> Result<ExitCode, Failure> {
    if let Some(reason) = settings.text("SHOP_CRASH_AT_START") {
        return Err(format!("{role} cannot start: {reason}").into());
    }
    let stop = stop::on_signal()?;
    let life = settings.millis("SHOP_EXIT_AFTER_MS");
    println!("shop: {role} {} starts on {}", settings.release, settings.hostname);
    let work = async {
        match role {
            "backend" => backend::run(settings, stop).await,
            "frontend" => frontend::run(settings, stop).await,
            _ => agent::run(settings, stop).await,
        }
    };
    match life {
        None => work.await?,
        Some(life) => match tokio::time::timeout(life, work).await {
            Ok(ended) => ended?,
            Err(_) => {
                eprintln!("shop: {role} dies after {} ms, as told", life.as_millis());
                return Ok(ExitCode::from(42));
            }
        },
    }
    println!("shop: {role} stopped");
    Ok(ExitCode::SUCCESS)
}
