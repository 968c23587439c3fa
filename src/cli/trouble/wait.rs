//! `cutover wait OPERATION`: its lines, until it has ended.

use cutover_model::{Ending, OperationId};

use crate::cli::exit::Exit;
use crate::cli::failure::CliError;
use crate::cli::follow::{Followed, end, follow};
use crate::cli::session::Session;

/// The arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The exit code is the operation's: 0 done, 1 failed. Ctrl-C leaves the view; the operation goes on.

Examples:
  cutover deploy --detach
  cutover wait o33")]
pub struct Args {
    /// The operation, like o33
    #[arg(value_name = "OPERATION")]
    operation: OperationId,
}

/// Runs it.
///
/// # Errors
/// What the daemon refuses, or that there is none.
pub async fn run(session: &Session, args: Args) -> Result<Exit, CliError> {
    let client = session.daemon()?;
    let operation = args.operation;
    match follow(session, &client, operation).await? {
        Followed::Left => Ok(Exit::Done),
        Followed::Halted(_) => Ok(Exit::Stuck),
        Followed::Ended(ending) => {
            if ending == Ending::Done {
                session.out.text(&format!("{operation} is done."));
            }
            Ok(end(session, operation, &ending))
        }
    }
}
