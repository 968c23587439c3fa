//! Volumes and writable folders of the host: one for both copies, or one for each.
//!
//! The safe side is "shared", as today: nothing that somebody uploaded is missing in the new copy.
//! Only names that speak of logs and caches are proposed as one for each, and that is asked about.

use std::collections::BTreeMap;
use std::path::Path;

use super::duty::Duty;
use super::stack::{Mount, Stack};

/// A volume or a folder of the host.
#[derive(Debug, Clone, serde::Serialize)]
pub struct VolumeGuess {
    /// As the file names it.
    pub key: String,
    /// `shared`, `per-color`, `read-only`.
    pub class: &'static str,
    /// Who mounts it.
    pub used_by: Vec<String>,
    /// Whether somebody writes.
    pub written: bool,
    /// Whether the operator has to decide.
    pub ask: bool,
}

/// Decides for everything that services other than shared ones mount.
#[must_use]
pub fn decide(folder: &Path, stack: &Stack, duties: &[(String, Duty)]) -> Vec<VolumeGuess> {
    let mut found: BTreeMap<String, VolumeGuess> = BTreeMap::new();
    for (name, duty) in duties {
        if *duty == Duty::Shared {
            continue;
        }
        for mount in stack.services.get(name).map(|s| s.volumes.as_slice()).unwrap_or_default() {
            let Some(key) = key(folder, mount) else { continue };
            let guess = found.entry(key.clone()).or_insert_with(|| VolumeGuess {
                class: "read-only",
                used_by: Vec::new(),
                written: false,
                ask: false,
                key,
            });
            if !guess.used_by.contains(name) {
                guess.used_by.push(name.clone());
            }
            guess.written |= !mount.read_only;
        }
    }
    for guess in found.values_mut().filter(|guess| guess.written) {
        let scratch = is_scratch(&guess.key);
        (guess.class, guess.ask) = if scratch { ("per-color", true) } else { ("shared", false) };
    }
    found.into_values().collect()
}

/// The name of a volume, or the path of a folder that can be written.
fn key(folder: &Path, mount: &Mount) -> Option<String> {
    let source = mount.source.as_deref()?;
    match mount.kind.as_str() {
        "volume" => Some(source.to_owned()),
        "bind" if !mount.read_only => Some(match Path::new(source).strip_prefix(folder) {
            Ok(inside) => format!("./{}", inside.display()),
            Err(_) => source.to_owned(),
        }),
        _ => None,
    }
}

fn is_scratch(key: &str) -> bool {
    let last = key.rsplit('/').next().unwrap_or(key).to_ascii_lowercase();
    last.split(['-', '_', '.'])
        .any(|word| matches!(word, "log" | "logs" | "tmp" | "temp" | "cache" | "caches"))
}
