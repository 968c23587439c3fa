//! What a release's kept file tells its containers, to compare it with what they were told.
//!
//! Only what needs no interpretation: where compose would fill in, unquote or escape, nothing is
//! said, so that a difference is one.

use std::collections::BTreeMap;
use std::path::Path;

use cutover_model::ServiceName;
use serde_json::Value;

use super::{COMPOSE, FilesError, off_runtime, read_bounded};
use crate::host::env::{plain_values, values};

/// What a release's file tells each service's containers, by key, as far as it needs no
/// interpretation: its `environment`, and the plain lines of its env files.
///
/// # Errors
/// [`FilesError`] when a file cannot be read.
pub async fn environments(
    folder: &Path,
) -> Result<BTreeMap<String, BTreeMap<String, String>>, FilesError> {
    let mut told = told(folder, plain_values).await?;
    told.values_mut().for_each(|values| values.retain(|_, value| !value.contains('$')));
    Ok(told)
}

/// A variable of a service as its release's files tell it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// Its value, quotes taken off.
    pub value: String,
    /// Whether the container gets just this: compose fills nothing in and unescapes nothing.
    pub is_plain: bool,
}

/// The variables of one service of a release.
///
/// # Errors
/// [`FilesError`] when a file cannot be read.
pub async fn variables(folder: &Path, service: &ServiceName) -> Result<Vec<Variable>, FilesError> {
    let mut told = told(folder, values).await?;
    let known = told.remove(service.as_str()).unwrap_or_default();
    let variable = |(name, value): (String, String)| {
        let is_plain = !value.contains(['$', '\\']);
        Variable { name, value, is_plain }
    };
    Ok(known.into_iter().map(variable).collect())
}

async fn told(
    folder: &Path,
    read: fn(&str) -> BTreeMap<String, String>,
) -> Result<BTreeMap<String, BTreeMap<String, String>>, FilesError> {
    let path = folder.join(COMPOSE);
    off_runtime(move || {
        let file: Value = serde_json::from_slice(&read_bounded(&path)?)
            .map_err(|error| FilesError::Malformed { path, error })?;
        let mut told = BTreeMap::new();
        for (service, body) in file["services"].as_object().into_iter().flatten() {
            let mut values = BTreeMap::new();
            for entry in body["env_file"].as_array().into_iter().flatten() {
                let path = entry["path"].as_str().or(entry.as_str()).unwrap_or_default();
                if let Ok(bytes) = read_bounded(Path::new(path)) {
                    let text = String::from_utf8_lossy(&bytes);
                    values.extend(read(&text));
                }
            }
            for (key, value) in body["environment"].as_object().into_iter().flatten() {
                values.remove(key);
                if let Some(value) = value.as_str() {
                    values.insert(key.clone(), value.to_owned());
                }
            }
            told.insert(service.clone(), values);
        }
        Ok(told)
    })
    .await
}
