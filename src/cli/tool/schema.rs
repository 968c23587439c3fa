//! `cutover config schema`: the JSON Schema of `cutover.toml`, for editors.

use crate::cli::exit::Exit;
use crate::cli::session::Session;

/// The arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  cutover config schema > cutover.schema.json")]
pub struct Args {
    /// What of the file
    #[command(subcommand)]
    what: What,
}

/// What `config` can do.
#[derive(Debug, clap::Subcommand)]
enum What {
    /// The JSON Schema of cutover.toml
    Schema,
}

/// Runs it.
pub fn run(session: &Session, args: &Args) -> Exit {
    match args.what {
        What::Schema => session.out.raw(&format!("{:#}", cutover_config::schema())),
    }
    Exit::Done
}
