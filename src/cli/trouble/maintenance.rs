//! `cutover maintenance on` and `off`: clients are sent away with a page, or served again.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use crate::api::wire::{self, ProblemKind};
use crate::cli::exit::Exit;
use crate::cli::failure::CliError;
use crate::cli::follow::Nothing;
use crate::cli::session::Session;
use crate::cli::show;
use crate::client::ClientError;

/// The longest page.
const LONGEST: u64 = 256 * 1024;

/// The arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
New requests are answered 503 at once, with Retry-After; those that are open finish, WebSockets are
asked to come back. The application runs on. It lasts until  cutover maintenance off, over restarts,
too. A path for a balancer in front: balancer_path in cutover.toml.

Examples:
  cutover maintenance on
  cutover maintenance on --page down.html --retry-after 30m --allow 10.0.0.0/8
  cutover maintenance off")]
pub struct Args {
    /// On or off
    #[command(subcommand)]
    turn: Turn,
}

#[derive(Debug, clap::Subcommand)]
enum Turn {
    /// Send clients away with a page; again: change how
    On(On),
    /// Serve them again
    Off,
}

#[derive(Debug, clap::Args)]
struct On {
    /// Serve clients of this network all the same; may be given more than once
    #[arg(long, value_name = "CIDR")]
    allow: Vec<String>,
    /// A page of your own, HTML
    #[arg(long, value_name = "FILE")]
    page: Option<PathBuf>,
    /// When clients shall come back
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = time)]
    retry_after: Duration,
}

fn time(text: &str) -> Result<Duration, String> {
    let parsed: Result<jiff::SignedDuration, _> = text.parse();
    parsed
        .ok()
        .and_then(|time| Duration::try_from(time).ok())
        .filter(|time| time.as_secs() > 0)
        .ok_or_else(|| "write a time like 30s, 5m or 2h".to_owned())
}

/// Runs it.
///
/// # Errors
/// What the daemon refuses, that there is none, or that the page cannot be read.
pub async fn run(session: &Session, args: Args) -> Result<Exit, CliError> {
    match args.turn {
        Turn::On(on) => {
            let retry_after_s = u32::try_from(on.retry_after.as_secs()).unwrap_or(u32::MAX);
            let page = on.page.as_deref().map(read).transpose()?;
            let body = wire::MaintenanceOn { retry_after_s, allow: on.allow, page };
            ask(session, "maintenance/on", &body).await
        }
        Turn::Off => ask(session, "maintenance/off", &Nothing {}).await,
    }
}

async fn ask(session: &Session, path: &str, body: &impl Serialize) -> Result<Exit, CliError> {
    let client = session.daemon()?;
    match client.post::<wire::Turned>(&session.path(path), body).await {
        Ok(turned) => {
            session.out.value(&turned);
            session.out.text(&show::turned(&turned, &session.clock));
            Ok(Exit::Done)
        }
        Err(ClientError::Problem(problem)) if problem.kind == ProblemKind::NothingToDo => {
            session.out.value(&problem);
            session.out.text(&show::nothing_to_do(&problem));
            Ok(Exit::Done)
        }
        Err(error) => Err(error.into()),
    }
}

/// Reads the page here, with the rights of who asks: the daemon opens no file for others.
fn read(path: &Path) -> Result<String, CliError> {
    let wrong = |why: String| {
        let text = format!("--page {}: {why}. NOTHING WAS CHANGED.", path.display());
        CliError::new(Exit::Usage, text)
    };
    let file = std::fs::File::open(path).map_err(|error| wrong(error.to_string()))?;
    let mut bytes = Vec::new();
    file.take(LONGEST + 1).read_to_end(&mut bytes).map_err(|error| wrong(error.to_string()))?;
    if bytes.len() as u64 > LONGEST {
        return Err(wrong(format!("a page has at most {} KiB", LONGEST / 1024)));
    }
    String::from_utf8(bytes).map_err(|_| wrong("save it as UTF-8".to_owned()))
}
