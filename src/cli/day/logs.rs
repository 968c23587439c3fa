//! `cutover logs RELEASE`: the last lines that its containers wrote.

use std::fmt::Write as _;

use cutover_model::{ReleaseId, ServiceName};

use crate::api::wire::LogLine;
use crate::cli::exit::Exit;
use crate::cli::failure::CliError;
use crate::cli::session::Session;
use crate::client::{Client, ClientError};

/// The arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  cutover logs                               of the rollout's release, or of the one that serves
  cutover logs r6 --service backend -n 500
  cutover logs r6 --follow                   goes on until Ctrl-C, or until its containers end")]
pub struct Args {
    /// The release
    #[arg(value_name = "RELEASE")]
    release: Option<ReleaseId>,
    /// Only this service
    #[arg(long, value_name = "SERVICE")]
    service: Option<ServiceName>,
    /// How many lines of each container
    #[arg(short = 'n', long, value_name = "LINES", default_value_t = 100)]
    tail: u32,
    /// Go on with what they print from now on
    #[arg(short, long)]
    follow: bool,
}

/// Runs it.
///
/// # Errors
/// What the daemon refuses, or that there is none.
pub async fn run(session: &Session, args: Args) -> Result<Exit, CliError> {
    let client = session.daemon()?;
    let mut path = session.path("logs");
    // Writing into a string cannot fail; names and numbers need no escaping.
    write!(path, "?tail={}", args.tail).ok();
    if let Some(release) = args.release {
        write!(path, "&release={release}").ok();
    }
    if let Some(service) = &args.service {
        write!(path, "&service={service}").ok();
    }
    if args.follow {
        path.push_str("&follow=1");
        return follow(session, &client, &path).await;
    }
    let lines: Vec<LogLine> = client.get(&path).await?;
    let width = lines.iter().map(|line| line.service.chars().count()).max().unwrap_or(0);
    for line in &lines {
        session.out.value(line);
        session.out.text(&format!("{:<width$}  {}", line.service, line.line));
    }
    Ok(Exit::Done)
}

async fn follow(session: &Session, client: &Client, path: &str) -> Result<Exit, CliError> {
    let mut lines = client.lines(path).await?;
    let leave = tokio::signal::ctrl_c();
    tokio::pin!(leave);
    let mut width = 0;
    loop {
        let next = tokio::select! {
            next = lines.next::<LogLine>() => next,
            _ = &mut leave => return Ok(Exit::Done),
        };
        match next {
            Ok(Some(line)) => {
                width = width.max(line.service.chars().count());
                session.out.value(&line);
                session.out.text(&format!("{:<width$}  {}", line.service, line.line));
            }
            Ok(None) => {
                session.out.talk("Its containers have ended: there is nothing more to follow.");
                return Ok(Exit::Done);
            }
            Err(ClientError::Broken(_)) => {
                return Err(CliError::new(Exit::NoDaemon, "the daemon ended"));
            }
            Err(error) => return Err(error.into()),
        }
    }
}
