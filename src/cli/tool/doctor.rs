//! `cutover doctor [--fix]`: leftovers and dangers, each with what to type.

use crate::api::wire::{After, Doctor, Fix};
use crate::cli::exit::Exit;
use crate::cli::failure::CliError;
use crate::cli::output::Consent;
use crate::cli::session::Session;
use crate::cli::show;

/// The arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exit code 0: nothing was found. --fix removes only what carries our mark and belongs to a release
that nobody knows any more: its files, its checkout, its image pins; or to an operation that has
ended: its unfinished databases. It allows connections again that such an operation had refused.
Nothing that runs is removed.

Examples:
  cutover doctor
  cutover doctor --fix          shows what it would remove, then asks")]
pub struct Args {
    /// Remove what is ours and of no use, after asking
    #[arg(long)]
    fix: bool,
    /// Do not ask
    #[arg(long, requires = "fix")]
    yes: bool,
}

/// Runs it.
///
/// # Errors
/// What the daemon refuses, or that there is none.
pub async fn run(session: &Session, args: Args) -> Result<Exit, CliError> {
    let client = session.daemon()?;
    let path = session.path("doctor");
    let found: Doctor = client.get(&path).await?;
    let fixable: Vec<_> = found.findings.iter().filter(|f| f.fixable).collect();
    if !args.fix || fixable.is_empty() {
        session.out.value(&found);
        session.out.text(&show::doctor(&found));
        return Ok(exit(&found));
    }
    session.out.text(&show::doctor(&found));
    let what: Vec<String> = fixable.iter().map(|f| format!("  {}", f.what)).collect();
    session.out.talk(&format!("--fix mends:\n{}", what.join("\n")));
    if !args.yes && session.out.ask("Mend them?") == Consent::No {
        session.out.talk("Nothing was changed.");
        return Ok(exit(&found));
    }
    let fix = Fix { ids: fixable.iter().map(|f| f.id.clone()).collect() };
    let left: Doctor = client.post(&path, &fix).await?;
    session.out.value(&left);
    session.out.text(&show::mended(&found, &left));
    session.out.text(&show::doctor(&left));
    Ok(exit(&left))
}

fn exit(found: &Doctor) -> Exit {
    let is_mended = found.mended.iter().all(|mended| mended.is == After::Gone);
    if found.findings.is_empty() && is_mended { Exit::Done } else { Exit::Failed }
}
