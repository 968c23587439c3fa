//! `cutover note OPERATION TEXT`: why, for the record.

use cutover_model::OperationId;
use serde_json::Value;

use crate::api::wire;
use crate::cli::exit::Exit;
use crate::cli::failure::CliError;
use crate::cli::session::Session;

/// Bytes of a note: it is a sentence, not a report.
const MOST: usize = 2_000;

/// The arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  cutover note o40 \"prices wrong\"")]
pub struct Args {
    /// The operation, like o40
    #[arg(value_name = "OPERATION")]
    operation: OperationId,
    /// The words
    #[arg(value_name = "TEXT", required = true, num_args = 1..)]
    text: Vec<String>,
}

/// Runs it.
///
/// # Errors
/// What the daemon refuses, or that there is none.
pub async fn run(session: &Session, args: Args) -> Result<Exit, CliError> {
    let client = session.daemon()?;
    let (operation, text) = (args.operation, args.text.join(" "));
    if text.len() > MOST {
        let message = format!("a note has at most {MOST} bytes, this one has {}", text.len());
        return Err(CliError::new(Exit::Usage, message));
    }
    let noted: Value = client.post(&session.path("note"), &wire::Note { operation, text }).await?;
    session.out.value(&noted);
    session.out.text(&format!("Written down with {operation}."));
    Ok(Exit::Done)
}
