//! `cutover completions SHELL`: a script that completes commands and options.

use clap_complete::Shell;

use crate::cli::exit::Exit;
use crate::cli::session::Session;

/// The arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  cutover completions bash | sudo tee /etc/bash_completion.d/cutover")]
pub struct Args {
    /// The shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

/// Runs it.
pub fn run(session: &Session, args: &Args, mut command: clap::Command) -> Exit {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "cutover", &mut script);
    session.out.raw(String::from_utf8_lossy(&script).trim_end());
    Exit::Done
}
