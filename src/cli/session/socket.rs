//! Which daemon a command talks to.
//!
//! `--socket` or `CUTOVER_SOCKET`, then the file of `--config` or `CUTOVER_CONFIG`, then the
//! default socket, and only then `cutover.toml` in this folder: a command typed in the wrong folder
//! must not reach another daemon than it did yesterday.

use std::path::{Path, PathBuf};

use crate::cli::Global;
use crate::cli::exit::Exit;
use crate::cli::failure::CliError;

/// Where the daemon's socket is unless told otherwise.
pub(super) const DEFAULT: &str = "/run/cutover/cutover.sock";

/// The file in this folder.
const FILE: &str = "cutover.toml";

/// A socket, and what made us take it; `None`: it is the default one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) socket: PathBuf,
    pub(super) by: Option<String>,
}

/// Finds the socket.
///
/// # Errors
/// When the file that names it cannot be read or is wrong.
pub(super) fn find(global: &Global) -> Result<Found, CliError> {
    if let Some(socket) = &global.socket {
        // Typed just now needs no word; what was set long ago does.
        let is_set = std::env::var_os("CUTOVER_SOCKET").is_some_and(|set| set == *socket);
        let by = is_set.then(|| "by CUTOVER_SOCKET".to_owned());
        return Ok(Found { socket: socket.clone(), by });
    }
    if let Some(file) = &global.config {
        return by_file(file);
    }
    let default = Path::new(DEFAULT);
    // A folder that cannot be entered is there: the refusal comes from the connection.
    if default.exists() || !Path::new(FILE).exists() {
        return Ok(Found { socket: default.to_owned(), by: None });
    }
    by_file(Path::new(FILE))
}

fn by_file(file: &Path) -> Result<Found, CliError> {
    let socket = socket_of(file)?;
    let by = (socket != Path::new(DEFAULT)).then(|| format!("named by {}", file.display()));
    Ok(Found { socket, by })
}

fn mistakes(number: usize) -> String {
    crate::text::number_of(number, "mistake")
}

fn socket_of(file: &Path) -> Result<PathBuf, CliError> {
    match cutover_config::load(file, std::env::vars()) {
        Ok(loaded) => Ok(loaded.config.admin.socket),
        Err(problems) => Err(CliError::new(
            Exit::BadConfig,
            format!("{} names no daemon: it has {}", file.display(), mistakes(problems.len())),
        )
        .way(format!("cutover check --config {}", file.display()), "shows each, with its place")),
    }
}
