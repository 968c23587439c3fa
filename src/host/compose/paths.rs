//! Where files of the operator's folder are, in a release.
//!
//! Build contexts and read-only files that git tracks are taken from the release's worktree; env
//! files, secrets and configs are copied into the release; what is written stays where it is. No
//! file is read here.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use cutover_model::paths::normal;
use serde_json::Value;

use super::color::{Coloring, SourceTree};
use super::stack::{FileCopy, Required};
use super::view::{Object, object, text};

impl SourceTree {
    /// The same file or folder in the worktree, when git tracks it or something inside it.
    #[must_use]
    pub fn place_of(&self, path: &Path) -> Option<PathBuf> {
        let relative = normal(path).strip_prefix(&self.root).ok()?.to_owned();
        let tracked = relative.as_os_str().is_empty()
            || self.tracked.contains(&relative)
            || self.tracked.range(relative.clone()..).next().is_some_and(|next| {
                // Paths sort by component, so what is inside follows directly.
                next.starts_with(&relative)
            });
        tracked.then(|| self.worktree.join(relative))
    }
}

impl Coloring<'_> {
    /// A tracked file or folder in the worktree; any other where it is.
    pub(super) fn source_of(&self, path: &Path) -> PathBuf {
        let tree = self.target.source.as_ref();
        tree.and_then(|tree| tree.place_of(path)).unwrap_or_else(|| path.to_owned())
    }

    /// Makes a file part of the release; gives its place there.
    pub(super) fn keep(&mut self, path: &Path, folder: &str, required: Required) -> PathBuf {
        let path = normal(&self.settings.folder.join(path));
        let relative = match path.strip_prefix(&self.settings.folder) {
            Ok(inside) => inside.to_owned(),
            Err(_) => Path::new("outside").join(path.strip_prefix("/").unwrap_or(&path)),
        };
        let to = Path::new(folder).join(relative);
        let from = self.source_of(&path);
        match self.copies.iter_mut().find(|copy| copy.to == to) {
            Some(copy) if required == Required::Yes => copy.required = Required::Yes,
            Some(_) => {}
            None => self.copies.push(FileCopy { from, to: to.clone(), required }),
        }
        self.target.folder.join(to)
    }

    /// `env_file` and `label_file`: the release's copies.
    pub(super) fn keep_env_files(&mut self, body: &mut Object) {
        for key in ["env_file", "label_file"] {
            let Some(value) = body.get_mut(key) else { continue };
            if let Value::String(path) = value {
                *value = Value::from(vec![Value::from(path.as_str())]);
            }
            for entry in value.as_array_mut().into_iter().flatten() {
                let place = |work: &mut Self, path: &str, required| {
                    let kept = work.keep(Path::new(path), "env", required);
                    Value::from(kept.to_string_lossy().into_owned())
                };
                match entry {
                    Value::String(path) => *entry = place(self, path, Required::Yes),
                    Value::Object(file) => {
                        let optional = file.get("required") == Some(&Value::Bool(false));
                        let required = if optional { Required::No } else { Required::Yes };
                        if let Some(path) = text(file, "path").map(str::to_owned) {
                            file.insert("path".to_owned(), place(self, &path, required));
                        }
                    }
                    _ => {}
                }
            }
        }
    }

    /// The top-level `secrets` or `configs` that the colored services use, their files copied.
    pub(super) fn keep_files(&mut self, key: &str, services: &Object) -> Option<Value> {
        let used: BTreeSet<String> = services
            .values()
            .filter_map(Value::as_object)
            .flat_map(|body| super::view::list(body, key))
            .filter_map(|entry| match entry {
                Value::String(name) => Some(name.clone()),
                other => other.get("source").and_then(Value::as_str).map(str::to_owned),
            })
            .collect();
        let mut kept = Object::new();
        for (name, entry) in object(self.top(), key).into_iter().flatten() {
            if !used.contains(name) {
                continue;
            }
            let mut entry = entry.clone();
            if let Some(body) = entry.as_object_mut() {
                body.remove("name");
                if let Some(file) = text(body, "file").map(str::to_owned) {
                    let place = self.keep(Path::new(&file), key, Required::Yes);
                    body.insert("file".to_owned(), place.to_string_lossy().into_owned().into());
                }
            }
            kept.insert(name.clone(), entry);
        }
        (!kept.is_empty()).then_some(Value::Object(kept))
    }

    /// The build section, its contexts in the worktree, without tags of the operator's.
    pub(super) fn build_section(&mut self, service: &str, build: &Value) -> Value {
        let mut build = match build {
            Value::String(context) => {
                Object::from_iter([("context".to_owned(), Value::from(context.as_str()))])
            }
            other => other.as_object().cloned().unwrap_or_default(),
        };
        if build.remove("tags").is_some() {
            self.note(format!(
                "{service}: build.tags are left alone, so that no tag of yours moves"
            ));
        }
        if let Some(context) = text(&build, "context").map(str::to_owned)
            && Path::new(&context).is_absolute()
        {
            let place = self.source_of(Path::new(&context));
            build.insert("context".to_owned(), place.to_string_lossy().into_owned().into());
        }
        if let Some(dockerfile) = text(&build, "dockerfile").map(str::to_owned)
            && Path::new(&dockerfile).is_absolute()
        {
            let place = self.source_of(Path::new(&dockerfile));
            build.insert("dockerfile".to_owned(), place.to_string_lossy().into_owned().into());
        }
        let contexts = build.get_mut("additional_contexts").and_then(Value::as_object_mut);
        for value in contexts.into_iter().flat_map(Object::values_mut) {
            if let Some(path) = value.as_str().filter(|path| path.starts_with('/')) {
                let place = self.source_of(Path::new(path));
                *value = place.to_string_lossy().into_owned().into();
            }
        }
        Value::Object(build)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_git_tracks_is_in_the_worktree() {
        let tree = SourceTree {
            root: "/shop".into(),
            worktree: "/state/w".into(),
            tracked: ["backend/src/a.rs", "backend.txt", "conf/nginx.conf"]
                .map(PathBuf::from)
                .into(),
        };
        let place = |path: &str| tree.place_of(Path::new(path));
        assert_eq!(place("/shop/backend"), Some("/state/w/backend".into()));
        assert_eq!(place("/shop/x/../conf/nginx.conf"), Some("/state/w/conf/nginx.conf".into()));
        assert_eq!(place("/shop"), Some("/state/w/".into()));
        for untracked in ["/shop/data", "/shop/back", "/shop/conf/other", "/elsewhere", "/shop2"] {
            assert_eq!(place(untracked), None, "{untracked}");
        }
    }
}
