//! The operator's file of Cutover, `cutover.toml`: text in; a checked [`Config`], or every problem
//! at once, out.
//!
//! The path of the text: `tree` (TOML with places, environment variables laid in), `read` and `raw`
//! (shapes and single values), `check` (defaults, and what has to fit together), `checked` (the
//! result). Nothing stops at the first mistake, and no mistake is ignored: what this version cannot
//! do is refused with "not yet", or accepted with a warning where leaving it out changes nothing
//! that clients see. Secrets are named, not read, and never shown.

use std::path::{Path, PathBuf};

use check::Surroundings;
use problem::Sink;
use raw::RawConfig;
use read::Read as _;

mod check;
mod checked;
mod file;
mod network;
mod problem;
mod raw;
mod read;
mod scalar;
mod schema;
mod secret;
mod tree;

pub use checked::*;
pub use network::{Network, NetworkError};
pub use problem::{Paint, Problem, Problems, Severity};
pub use schema::schema;
pub use secret::{Secret, SecretError, SecretSource};

/// A file that was read and found good.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// What it says.
    pub config: Config,
    /// What the operator should know, though nothing is wrong.
    pub warnings: Problems,
    /// The text as it was read.
    pub source: String,
}

/// Reads a file, lays the environment's overrides over it and checks everything.
///
/// Files that it names and that are missing are warnings: the daemon has to start without them.
///
/// # Errors
/// Every problem at once, each with its place.
pub fn load(
    path: &Path,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<Loaded, Problems> {
    let source = file::read(path)?;
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let folder = absolute.parent().unwrap_or(Path::new("/"));
    let origin = path.display().to_string();
    let (config, warnings) = read_text(&source, &origin, folder, environment, MissingFiles::Warn)?;
    Ok(Loaded { config, warnings, source })
}

/// Reads a text as if it stood in `folder`, and checks all of it. `origin` names it in messages.
///
/// # Errors
/// Every problem at once, each with its place.
pub fn parse(
    text: &str,
    origin: &str,
    folder: &Path,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<(Config, Problems), Problems> {
    read_text(text, origin, folder, environment, MissingFiles::Ignore)
}

#[derive(Clone, Copy, PartialEq)]
enum MissingFiles {
    Warn,
    Ignore,
}

fn read_text(
    text: &str,
    origin: &str,
    folder: &Path,
    environment: impl IntoIterator<Item = (String, String)>,
    missing: MissingFiles,
) -> Result<(Config, Problems), Problems> {
    let environment: Vec<(String, String)> = environment.into_iter().collect();
    let credentials = environment.iter().find(|(name, _)| name == "CREDENTIALS_DIRECTORY");
    let around = Surroundings {
        folder: folder.to_owned(),
        credentials: credentials.map(|(_, path)| PathBuf::from(path)),
    };
    let mut sink = Sink::default();
    let mut root = tree::parse(text, &mut sink);
    let shown = tree::mask(text, &root);
    tree::overrides::merge(&mut root, environment, &mut sink);
    let config =
        RawConfig::read(&root, &mut sink).map(|raw| check::check(&raw, &around, &mut sink));
    if missing == MissingFiles::Warn {
        for (place, path) in std::mem::take(&mut sink.files) {
            if !path.exists() {
                let what = format!("there is no file {}", path.display());
                sink.warn(&place, what).hint("relative paths start at the folder of this file");
            }
        }
    }
    let Sink { problems, warnings, .. } = sink;
    match config {
        Some(config) if problems.is_empty() => {
            Ok((config, Problems::new(origin, shown, Severity::Warning, warnings)))
        }
        _ => Err(Problems::new(origin, shown, Severity::Error, problems)),
    }
}
