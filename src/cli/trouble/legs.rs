//! `rollback --only`, `--rebuild` and `--dry-run`: the parts that come back, and the plan of it.

use cutover_model::{Layers, Leg};

use crate::api::wire;
use crate::cli::exit::Exit;
use crate::cli::failure::CliError;
use crate::cli::session::Session;
use crate::cli::show;
use crate::client::Client;

/// Which parts come back.
#[derive(Debug, Clone, Default, clap::Args)]
#[group(skip)]
pub struct Args {
    /// Bring back these parts only; the others stay as they are today, in a new release
    #[arg(long, value_name = "PART,...", value_delimiter = ',', conflicts_with = "offline")]
    pub only: Vec<Part>,
    /// Build the images anew from the release's commit, with the build arguments it was built with
    #[arg(long, conflicts_with = "offline")]
    pub rebuild: bool,
    /// Build without layers of earlier builds
    #[arg(long, requires = "rebuild")]
    pub no_cache: bool,
}

/// A part, as it is typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    /// The compose file and the files that git tracks
    Code,
    /// The images, by id
    Images,
    /// The env files, secrets and configs
    Config,
    /// The data
    Database,
}

impl Args {
    /// The parts that are files and images.
    #[must_use]
    pub fn legs(&self) -> Vec<Leg> {
        let leg = |part: &Part| match part {
            Part::Code => Some(Leg::Code),
            Part::Images => Some(Leg::Images),
            Part::Config => Some(Leg::Config),
            Part::Database => None,
        };
        let mut legs: Vec<Leg> = self.only.iter().filter_map(leg).collect();
        legs.sort();
        legs.dedup();
        legs
    }

    /// Whether the data was named.
    #[must_use]
    pub fn names_database(&self) -> bool {
        self.only.contains(&Part::Database)
    }

    /// How the images are built anew, if they are.
    #[must_use]
    pub fn rebuild(&self) -> Option<Layers> {
        let layers = if self.no_cache { Layers::Fresh } else { Layers::Kept };
        self.rebuild.then_some(layers)
    }
}

/// Shows the plan, which a run would carry out.
pub(super) async fn plan(
    session: &Session,
    client: &Client,
    body: &wire::Rollback,
) -> Result<Exit, CliError> {
    let plan: wire::RollbackPlan = client.post(&session.path("rollback"), body).await?;
    session.out.value(&plan);
    session.out.text(&show::rollback_plan(&plan, false));
    Ok(Exit::Done)
}
