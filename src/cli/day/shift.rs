//! `cutover shift WEIGHT`: the canary's share of the clients.

use cutover_model::Weight;

use crate::api::wire;
use crate::cli::exit::Exit;
use crate::cli::failure::CliError;
use crate::cli::follow::{Wait, carry_out};
use crate::cli::session::Session;

/// The arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  cutover shift 10%      a tenth of the clients; the same people stay on it while it grows
  cutover shift 0.25%    two decimals at most
  cutover shift 0%       nobody, but the rollout goes on
  cutover shift 100%     everybody: the same as  cutover promote")]
pub struct Args {
    /// The share of the clients, like 10% or 12.5%
    #[arg(value_name = "WEIGHT")]
    weight: Weight,
    /// Print the operation and return, without waiting for its end
    #[arg(long)]
    detach: bool,
}

/// Runs it.
///
/// # Errors
/// What the daemon refuses, or that there is none.
pub async fn run(session: &Session, args: Args) -> Result<Exit, CliError> {
    let client = session.daemon()?;
    let body = wire::Shift { weight: args.weight };
    carry_out(session, &client, "shift", &body, Wait::from(args.detach)).await
}
