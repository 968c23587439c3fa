//! `cutover status`: who serves, how well, and what a rollback would do.

use std::time::Duration;

use crate::api::wire::{AppStatus, Mood, Status};
use crate::cli::exit::Exit;
use crate::cli::failure::CliError;
use crate::cli::session::Session;
use crate::cli::show;
use crate::client::Client;

/// Between two pictures of `--watch`.
const EVERY: Duration = Duration::from_secs(1);

/// The arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  cutover status
  cutover status --watch           drawn again every second; Ctrl-C ends it
  cutover status --check           exit code 1 when users see errors or nothing serves
  cutover status --watch --json    one line every second")]
pub struct Args {
    /// Go on, drawn again every second
    #[arg(short, long)]
    watch: bool,
    /// Exit with 1 when an app is in trouble or nothing serves
    #[arg(long, conflicts_with = "watch")]
    check: bool,
}

/// Runs it.
///
/// # Errors
/// That there is no daemon, or no such app.
pub async fn run(session: &Session, args: Args) -> Result<Exit, CliError> {
    let client = session.daemon()?;
    if args.watch {
        return watch(session, &client).await;
    }
    let status = ask(session, &client).await?;
    print(session, &status);
    let is_bad =
        |app: &AppStatus| matches!(app.mood, Mood::Trouble | Mood::Empty | Mood::Maintenance);
    let is_bad = chosen(session, &status).any(is_bad);
    Ok(if args.check && is_bad { Exit::Failed } else { Exit::Done })
}

async fn ask(session: &Session, client: &Client) -> Result<Status, CliError> {
    let status: Status = client.get("/v1/status").await?;
    if let Some(name) = &session.global.app
        && chosen(session, &status).next().is_none()
    {
        let names: Vec<&str> = status.apps.iter().map(|app| app.app.as_str()).collect();
        let text = format!("there is no app \"{name}\"; there is {}", names.join(", "));
        return Err(CliError::new(Exit::Usage, text));
    }
    Ok(status)
}

fn print(session: &Session, status: &Status) {
    session.out.value(status);
    session.out.text(&show::status(status, session.global.app.as_deref(), &session.clock));
}

fn chosen<'s>(session: &'s Session, status: &'s Status) -> impl Iterator<Item = &'s AppStatus> {
    let only = session.global.app.as_deref();
    status.apps.iter().filter(move |app| only.is_none_or(|name| app.app.as_str() == name))
}

async fn watch(session: &Session, client: &Client) -> Result<Exit, CliError> {
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let leave = tokio::signal::ctrl_c();
    tokio::pin!(leave);
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            _ = &mut leave => return Ok(Exit::Done),
        }
        match ask(session, client).await {
            Ok(status) => {
                session.out.clear();
                print(session, &status);
            }
            // A daemon that is being restarted comes back: the watch goes on.
            Err(error) if error.exit == Exit::NoDaemon => {
                session.out.clear();
                session.out.talk(&show::failure(&error.message, &error.ways));
            }
            Err(error) => return Err(error),
        }
    }
}
