//! Commands that show their plan first: the options and the question that they share.
//!
//! What a plan says is its command's; here is only whether it is carried out.

use super::exit::Exit;
use super::output::Consent;
use super::session::Session;

/// How a plan is taken up.
#[derive(Debug, clap::Args)]
pub(super) struct Planned {
    /// Show the plan and do nothing
    #[arg(long, conflicts_with = "yes")]
    pub(super) dry_run: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

impl Planned {
    /// Shows the plan and asks; how the command ends here, `None`: it goes on.
    pub(super) fn show(&self, session: &Session, plan: &str) -> Option<Exit> {
        session.out.text(plan.trim_end());
        if self.dry_run {
            return Some(Exit::Done);
        }
        if self.yes || session.out.ask("Go on?") == Consent::Yes {
            return None;
        }
        session.out.text("Nothing was changed.");
        Some(Exit::Refused)
    }
}
