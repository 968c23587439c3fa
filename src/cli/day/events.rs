//! `cutover events`: the journal's facts as lines.

use crate::api::wire::Event;
use crate::cli::exit::Exit;
use crate::cli::failure::CliError;
use crate::cli::session::Session;
use crate::cli::show;
use crate::client::ClientError;

/// The arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Each line: when, its place in the journal, the operation, who, what.

Examples:
  cutover events -n 20
  cutover events --follow --json | jq .")]
pub struct Args {
    /// How many of the newest events
    #[arg(short = 'n', long, value_name = "EVENTS", default_value_t = 50)]
    last: u32,
    /// Go on with what happens from now on
    #[arg(short, long)]
    follow: bool,
}

/// Runs it.
///
/// # Errors
/// What the daemon refuses, or that there is none.
pub async fn run(session: &Session, args: Args) -> Result<Exit, CliError> {
    let client = session.daemon()?;
    let follow = if args.follow { "&follow=1" } else { "" };
    let path = session.path(&format!("events?last={}{follow}", args.last));
    let mut actions = show::Actions::default();
    let mut lines = client.lines(&path).await?;
    let leave = tokio::signal::ctrl_c();
    tokio::pin!(leave);
    loop {
        let next = tokio::select! {
            next = lines.next::<Event>() => next,
            _ = &mut leave => return Ok(Exit::Done),
        };
        match next {
            Ok(Some(event)) => {
                session.out.value(&event);
                session.out.text(&show::event(&event, &session.clock, &mut actions));
            }
            Ok(None) if !args.follow => return Ok(Exit::Done),
            Ok(None) | Err(ClientError::Broken(_)) => {
                return Err(CliError::new(Exit::NoDaemon, "the daemon ended"));
            }
            Err(error) => return Err(error.into()),
        }
    }
}
