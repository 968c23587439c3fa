//! What a release's kept file tells its containers, to compare it with what they were told.
//!
//! Only what needs no interpretation: where compose would fill in, unquote or escape, nothing is
//! said, so that a difference is one.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use super::{COMPOSE, FilesError, off_runtime, read_bounded};
use crate::host::env::plain_values;

/// What a release's file tells each service's containers, by key, as far as it needs no
/// interpretation: its `environment`, and the plain lines of its env files.
///
/// # Errors
/// [`FilesError`] when a file cannot be read.
pub async fn environments(
    folder: &Path,
) -> Result<BTreeMap<String, BTreeMap<String, String>>, FilesError> {
    let mut told = told(folder).await?;
    told.values_mut().for_each(|values| values.retain(|_, value| !value.contains('$')));
    Ok(told)
}

async fn told(folder: &Path) -> Result<BTreeMap<String, BTreeMap<String, String>>, FilesError> {
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
                    values.extend(plain_values(&text));
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
