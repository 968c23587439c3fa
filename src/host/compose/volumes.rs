//! Volumes and host folders: which of them two copies share, and which each has for itself.
//!
//! Every named volume and every writable folder that a colored service mounts has a class that the
//! operator gave it; there is no default, because each of the three is a disaster for somebody.
//! What only shared services mount is none of a color's business.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cutover_model::ServiceName;
use cutover_model::paths::normal;
use serde_json::Value;

use super::color::Coloring;
use super::problem::ComposeProblem;
use super::stack::VolumeUse;
use super::view::{Object, is_true, list, object, text};
use crate::host::settings::VolumeClass;

/// Everything that colored services mount, classified.
#[derive(Default)]
pub(super) struct Volumes {
    named: BTreeMap<String, VolumeUse>,
    folders: BTreeMap<PathBuf, VolumeUse>,
}

impl Volumes {
    pub(super) fn into_uses(self) -> Vec<VolumeUse> {
        self.named.into_values().chain(self.folders.into_values()).collect()
    }
}

/// One mount of one service.
struct Mount {
    service: String,
    target: String,
    writable: bool,
}

#[derive(Default)]
struct Found {
    named: BTreeMap<String, Vec<Mount>>,
    folders: BTreeMap<PathBuf, Vec<Mount>>,
}

fn uses(mounts: &[Mount]) -> String {
    let one = |mount: &Mount| format!("{} at {}", mount.service, mount.target);
    mounts.iter().map(one).collect::<Vec<_>>().join(", ")
}

fn pairs(mounts: &[Mount]) -> Vec<(ServiceName, String)> {
    let pair = |mount: &Mount| {
        Some((ServiceName::new(mount.service.as_str()).ok()?, mount.target.clone()))
    };
    mounts.iter().filter_map(pair).collect()
}

impl Coloring<'_> {
    /// Finds what the colored services mount, and its class or a problem.
    pub(super) fn classify_volumes(&mut self, colored: &[String]) -> Volumes {
        let found = self.mounts(colored.iter().cloned());
        let shared: Vec<_> = self.names().filter(|name| self.settings.is_shared(name)).collect();
        let of_shared = self.mounts(shared.into_iter());
        let mut volumes = Volumes::default();
        for (name, mounts) in &found.named {
            let read_only = mounts.iter().all(|mount| !mount.writable);
            let filled = of_shared.named.contains_key(name) || self.volume_is_external(name);
            let given = self.settings.volumes.get(name).copied();
            let class = given.or((read_only && filled).then_some(VolumeClass::ReadOnly));
            let Some(class) = class else {
                self.problems.push(ComposeProblem::UnclassifiedVolume {
                    volume: name.clone(),
                    uses: uses(mounts),
                    key: name.clone(),
                });
                continue;
            };
            let real = self.real_volume(name, class);
            let entry = VolumeUse { name: name.clone(), real, class, mounts: pairs(mounts) };
            volumes.named.insert(name.clone(), entry);
        }
        for (folder, mounts) in found.folders {
            if let Some(entry) = self.classify_folder(&folder, &mounts) {
                volumes.folders.insert(folder, entry);
            }
        }
        volumes
    }

    fn classify_folder(&mut self, folder: &Path, mounts: &[Mount]) -> Option<VolumeUse> {
        let given = self.folder_class(folder);
        let read_only = mounts.iter().all(|mount| !mount.writable);
        let shown = folder.display().to_string();
        let class = match given {
            Some(class) => class,
            None if read_only => VolumeClass::ReadOnly,
            None => {
                self.problems.push(ComposeProblem::UnclassifiedFolder {
                    folder: shown,
                    uses: uses(mounts),
                    key: self.folder_key(folder),
                });
                return None;
            }
        };
        let real = match class {
            VolumeClass::Shared => folder.to_owned(),
            VolumeClass::ReadOnly => self.source_of(folder),
            VolumeClass::PerColor => {
                let name: String = self
                    .folder_key(folder)
                    .chars()
                    .map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '_' })
                    .collect();
                let color = self.target.color.to_string();
                let own =
                    self.settings.state.join("folders").join(color).join(name.trim_matches('.'));
                self.folders.push(own.clone());
                own
            }
        };
        if given.is_none() && real == folder {
            self.note(format!(
                "{shown} is mounted read-only from where it is: changing it changes both colors"
            ));
        }
        let real = real.to_string_lossy().into_owned();
        Some(VolumeUse { name: shown, real, class, mounts: pairs(mounts) })
    }

    fn folder_class(&self, folder: &Path) -> Option<VolumeClass> {
        let keys = self.settings.volumes.iter();
        keys.filter(|(key, _)| key.contains('/') || key.starts_with('.'))
            .find(|(key, _)| normal(&self.settings.folder.join(key)) == folder)
            .map(|(_, class)| *class)
    }

    /// A folder as the operator writes it: `./data`, or its path.
    fn folder_key(&self, folder: &Path) -> String {
        match folder.strip_prefix(&self.settings.folder) {
            Ok(inside) => format!("./{}", inside.display()),
            Err(_) => folder.display().to_string(),
        }
    }

    fn mounts(&self, services: impl Iterator<Item = String>) -> Found {
        let mut found = Found::default();
        for service in services {
            let Some(body) = self.service(&service) else { continue };
            for mount in list(body, "volumes").iter().filter_map(Value::as_object) {
                let (Some(source), Some(target)) = (text(mount, "source"), text(mount, "target"))
                else {
                    continue;
                };
                let writable = !is_true(mount, "read_only");
                let entry = Mount { service: service.clone(), target: target.to_owned(), writable };
                match text(mount, "type") {
                    Some("volume") => found.named.entry(source.to_owned()).or_default().push(entry),
                    Some("bind") => {
                        found.folders.entry(normal(Path::new(source))).or_default().push(entry);
                    }
                    _ => {}
                }
            }
        }
        found
    }

    fn volume_body(&self, name: &str) -> Option<&Object> {
        object(self.top(), "volumes")?.get(name)?.as_object()
    }

    fn volume_is_external(&self, name: &str) -> bool {
        self.volume_body(name).is_some_and(|body| is_true(body, "external"))
    }

    fn real_volume(&mut self, name: &str, class: VolumeClass) -> String {
        if class != VolumeClass::PerColor {
            let real = self.operator_name("volumes", name);
            let real = real.as_ref().and_then(Value::as_str).map(str::to_owned);
            return real.unwrap_or_else(|| format!("{}_{name}", self.rendered.project));
        }
        let body = self.volume_body(name);
        let options = body.and_then(|body| object(body, "driver_opts"));
        let driver = body.and_then(|body| text(body, "driver")).unwrap_or("local");
        let reason = if driver != "local" {
            Some(format!("it has the driver {driver}"))
        } else if options.is_some_and(|options| !options.is_empty()) {
            Some("it has driver_opts that say where it is".to_owned())
        } else {
            None
        };
        if let Some(reason) = reason {
            let volume = name.to_owned();
            self.problems.push(ComposeProblem::CannotCopyVolume { volume, reason });
        }
        format!("{}_{name}", self.project())
    }

    /// Puts the real places into a service's mounts.
    pub(super) fn color_mounts(&self, body: &mut Object, volumes: &Volumes) {
        let mounts = body.get_mut("volumes").and_then(Value::as_array_mut);
        for mount in mounts.into_iter().flatten().filter_map(Value::as_object_mut) {
            let Some(source) = text(mount, "source").map(str::to_owned) else { continue };
            let entry = match text(mount, "type") {
                Some("volume") => volumes.named.get(&source),
                Some("bind") => volumes.folders.get(&normal(Path::new(&source))),
                _ => None,
            };
            let Some(entry) = entry else { continue };
            if text(mount, "type") == Some("bind") {
                mount.insert("source".to_owned(), Value::from(entry.real.as_str()));
            }
            if entry.class == VolumeClass::ReadOnly {
                mount.insert("read_only".to_owned(), Value::Bool(true));
            }
        }
    }

    /// The top-level `volumes` of the color's file.
    pub(super) fn volumes_section(&mut self, volumes: &Volumes) -> Object {
        let mut section = Object::new();
        for (name, entry) in &volumes.named {
            let body = if entry.class == VolumeClass::PerColor {
                let mut body = self.volume_body(name).cloned().unwrap_or_default();
                body.remove("name");
                body.remove("external");
                let labels = self.labels(None).into_iter().collect();
                body.insert("labels".to_owned(), Value::Object(labels));
                body
            } else {
                let external =
                    [("name", Value::from(entry.real.as_str())), ("external", true.into())];
                external.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
            };
            section.insert(name.clone(), Value::Object(body));
        }
        section
    }
}
