//! `cutover adopt`: takes over a running application; its plan first, then it asks.

use std::time::Duration;

use crate::api::wire::{Adopt, Plan};
use crate::cli::exit::Exit;
use crate::cli::failure::CliError;
use crate::cli::follow::{Wait, carry_out};
use crate::cli::offline::{self, Begun};
use crate::cli::planned::Planned;
use crate::cli::session::Session;
use crate::client::{Client, ClientError};

/// The arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
New connections on the public ports are led to Cutover by a rule; open ones stay, and no container
is restarted. For a minute old and new are compared; on any new error the rule goes away by itself.
The way back, at any time, is  cutover leave.

Examples:
  sudo cutover adopt --dry-run     the plan, and nothing else
  sudo cutover adopt")]
pub struct Args {
    #[command(flatten)]
    planned: Planned,
    /// How long old and new are compared
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    compare: u32,
    /// Print the operation and return, without waiting for its end
    #[arg(long)]
    detach: bool,
}

/// Runs it.
///
/// # Errors
/// What the daemon refuses, or that there is none and it does not start.
pub async fn run(session: &Session, args: Args) -> Result<Exit, CliError> {
    let client = session.daemon()?;
    let compare_ms = u64::from(args.compare) * 1_000;
    let path = session.path(&format!("adopt?compare_ms={compare_ms}"));
    let mut begun = None;
    let mut plan = client.get::<Plan>(&path).await;
    if matches!(plan, Err(ClientError::NoDaemon { .. })) && !args.planned.dry_run {
        begun = Some(started(session, &client).await?);
        plan = client.get(&path).await;
    }
    // A daemon that was started for nothing does not stay.
    let plan = match plan {
        Ok(plan) => plan,
        Err(error) => {
            stop_again(session, begun).await;
            return Err(error.into());
        }
    };
    session.out.value(&plan);
    if let Some(exit) = args.planned.show(session, &plan.text) {
        stop_again(session, begun).await;
        return Ok(exit);
    }
    let body = Adopt { compare_ms: Some(compare_ms) };
    carry_out(session, &client, "adopt", &body, Wait::from(args.detach)).await
}

/// Starts the daemon: it takes no port that somebody else holds, so nothing changes for clients.
async fn started(session: &Session, client: &Client) -> Result<Begun, CliError> {
    session.out.talk("No daemon runs: starting it. It takes no traffic yet.");
    let file = offline::file(session);
    offline::start(session, &file, client.socket(), Duration::from_secs(30)).await
}

async fn stop_again(session: &Session, begun: Option<Begun>) {
    if let Some(begun) = begun {
        offline::stop_again(session, begun).await;
    }
}
