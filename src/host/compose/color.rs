//! Coloring: from the operator's stack to the stack of one color. Pure.
//!
//! Works on compose's own JSON and keeps every key that it has no reason to change. Collects all
//! problems before it gives up, so that the operator mends the file once. Reads no file, asks no
//! engine, and puts no value of a variable into a note or a problem.
//!
//! INVARIANT: the two colors of an app have no network, container name, published port, built image
//! name or writable place in common, but for what the operator classified as shared.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use cutover_model::{Color, ReleaseId, ServiceName};
use serde_json::Value;

use super::super::docker::label;
use super::super::settings::StackSettings;
use super::problem::ComposeProblem;
use super::stack::{
    ColoredStack, FileCopy, ImageSource, Join, Kind, Published, Required, SharedLink,
};
use super::view::{Object, dependencies, object};
use super::{Rendered, dependencies as edges};

/// Which color and release to make, and where the release's files are.
#[derive(Debug, Clone, PartialEq)]
pub struct ColorTarget {
    /// The color.
    pub color: Color,
    /// The release.
    pub release: ReleaseId,
    /// The release's folder, where copies of env files go.
    pub folder: PathBuf,
    /// The release's worktree; `None`: files are taken from the operator's folder.
    pub source: Option<SourceTree>,
}

/// A checked-out commit beside the operator's folder.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceTree {
    /// The top folder of the operator's repository.
    pub root: PathBuf,
    /// The worktree, with the same files in it.
    pub worktree: PathBuf,
    /// The files that git tracks, relative to the top folder.
    pub tracked: BTreeSet<PathBuf>,
}

/// The work in progress.
pub(super) struct Coloring<'a> {
    pub(super) settings: &'a StackSettings,
    pub(super) target: &'a ColorTarget,
    pub(super) rendered: &'a Rendered,
    pub(super) jobs: BTreeSet<String>,
    pub(super) problems: Vec<ComposeProblem>,
    pub(super) notes: Vec<String>,
    pub(super) copies: Vec<FileCopy>,
    pub(super) folders: Vec<PathBuf>,
    pub(super) joins: Vec<Join>,
    pub(super) published: Vec<Published>,
    pub(super) images: BTreeMap<ServiceName, ImageSource>,
    pub(super) builds: Object,
}

/// Makes the stack of one color.
///
/// # Errors
/// Every reason why the file cannot run in two colors as it is, sorted.
pub fn color(
    rendered: &Rendered,
    settings: &StackSettings,
    target: &ColorTarget,
) -> Result<ColoredStack, Vec<ComposeProblem>> {
    let mut work = Coloring::new(rendered, settings, target);
    work.check_names();
    for name in &rendered.blanks {
        if !settings.blank_ok.contains(name) {
            work.problems.push(ComposeProblem::BlankVariable { name: name.clone() });
        }
    }
    let colored: Vec<String> = work.names().filter(|name| !settings.is_shared(name)).collect();
    if colored.is_empty() {
        work.problems.push(ComposeProblem::NothingColored);
    }
    work.check_shared_calls(&colored);
    let volumes = work.classify_volumes(&colored);
    let mut services = Object::new();
    for name in &colored {
        if let Some(body) = work.service(name).cloned() {
            let body = work.color_service(name, body, &volumes);
            services.insert(name.clone(), Value::Object(body));
        }
    }
    let shared = work.shared_links();
    let (starts, waits) = edges::order(&mut work, &colored);
    let file = work.file(services, &volumes, &shared);
    work.keep_environment();
    work.publish_shared();
    let build_file = work.build_file();
    work.finish(Draft { file, build_file, starts, waits, shared, volumes: volumes.into_uses() })
}

/// What has been made, before the problems are looked at.
struct Draft {
    file: Value,
    build_file: Option<Value>,
    starts: Vec<super::stack::Start>,
    waits: Vec<super::stack::SharedWait>,
    shared: Vec<SharedLink>,
    volumes: Vec<super::stack::VolumeUse>,
}

impl<'a> Coloring<'a> {
    fn new(rendered: &'a Rendered, settings: &'a StackSettings, target: &'a ColorTarget) -> Self {
        let mut work = Self {
            settings,
            target,
            rendered,
            jobs: settings.jobs.iter().map(ToString::to_string).collect(),
            problems: Vec::new(),
            notes: rendered.warnings.clone(),
            copies: Vec::new(),
            folders: Vec::new(),
            joins: Vec::new(),
            published: Vec::new(),
            images: BTreeMap::new(),
            builds: Object::new(),
        };
        let waited_for: Vec<String> = work
            .names()
            .filter_map(|name| work.service(&name).map(dependencies))
            .flatten()
            .filter(|edge| edge.condition == "service_completed_successfully")
            .map(|edge| edge.on)
            .collect();
        work.jobs.extend(waited_for);
        work
    }

    /// The whole file as it is under the color's project.
    pub(super) fn top(&self) -> &'a Object {
        static NONE: std::sync::LazyLock<Object> = std::sync::LazyLock::new(Object::new);
        self.rendered.colored.as_object().unwrap_or(&NONE)
    }

    /// All services of the file, by name.
    pub(super) fn names(&self) -> impl Iterator<Item = String> + use<'a> {
        object(self.top(), "services").into_iter().flat_map(|map| map.keys().cloned())
    }

    /// One service as it is in the file.
    pub(super) fn service(&self, name: &str) -> Option<&'a Object> {
        object(self.top(), "services")?.get(name)?.as_object()
    }

    /// What a colored service is there for.
    pub(super) fn kind(&self, service: &str) -> Kind {
        if self.jobs.contains(service) {
            Kind::Job
        } else if self.settings.is_singleton(service) {
            Kind::Singleton
        } else {
            Kind::Service
        }
    }

    /// The compose project of the color.
    pub(super) fn project(&self) -> String {
        self.settings.project(self.target.color)
    }

    /// Says what was changed.
    pub(super) fn note(&mut self, text: String) {
        if !self.notes.contains(&text) {
            self.notes.push(text);
        }
    }

    /// Our labels, for a service or, without `kind`, for a network or volume.
    pub(super) fn labels(&self, kind: Option<Kind>) -> Vec<(String, Value)> {
        let mut labels = vec![
            (label::APP, self.settings.app.to_string()),
            (label::COLOR, self.target.color.to_string()),
        ];
        if let Some(kind) = kind {
            labels.push((label::RELEASE, self.target.release.to_string()));
            labels.push((label::KIND, kind.as_str().to_owned()));
        }
        labels.into_iter().map(|(key, value)| (key.to_owned(), Value::from(value))).collect()
    }

    fn check_names(&mut self) {
        let settings = self.settings;
        let known: BTreeSet<String> = self.names().collect();
        let named = settings.shared.iter().map(|name| ("shared", name));
        let named = named.chain(settings.singletons.iter().map(|name| ("singletons", name)));
        let named = named.chain(settings.jobs.iter().map(|name| ("jobs", name)));
        let named = named.chain(settings.images.keys().map(|name| ("--image", name)));
        let named = named.chain(settings.routed.iter().map(|route| ("a route", &route.service)));
        for (setting, name) in named {
            if !known.contains(name.as_str()) {
                let list = known.iter().cloned().collect::<Vec<_>>().join(", ");
                let name = name.to_string();
                self.problems.push(ComposeProblem::UnknownService { setting, name, known: list });
            }
        }
        for (other, names) in [("singletons", &settings.singletons), ("jobs", &settings.jobs)] {
            for name in names.intersection(&settings.shared) {
                let service = name.to_string();
                self.problems.push(ComposeProblem::TwoDuties { service, other });
            }
        }
    }

    /// The whole file of the color.
    fn file(
        &mut self,
        services: Object,
        volumes: &super::volumes::Volumes,
        shared: &[SharedLink],
    ) -> Value {
        let mut file = Object::new();
        file.insert("name".to_owned(), Value::from(self.project()));
        let networks = self.networks_section(&services, shared);
        for key in ["secrets", "configs"] {
            if let Some(section) = self.keep_files(key, &services) {
                file.insert(key.to_owned(), section);
            }
        }
        file.insert("services".to_owned(), Value::Object(services));
        file.insert("networks".to_owned(), Value::Object(networks));
        let volumes = self.volumes_section(volumes);
        if !volumes.is_empty() {
            file.insert("volumes".to_owned(), Value::Object(volumes));
        }
        Value::Object(file)
    }

    fn build_file(&mut self) -> Option<Value> {
        if self.builds.is_empty() {
            return None;
        }
        let mut file = Object::new();
        file.insert("name".to_owned(), Value::from(self.project()));
        // A build may use secrets of its own.
        if let Some(secrets) = self.top().get("secrets") {
            file.insert("secrets".to_owned(), secrets.clone());
        }
        file.insert("services".to_owned(), Value::Object(std::mem::take(&mut self.builds)));
        Some(Value::Object(file))
    }

    fn keep_environment(&mut self) {
        self.keep(std::path::Path::new(".env"), "env", Required::No);
        for path in &self.settings.env_files {
            let required = if path.ends_with(".env") && path.components().count() == 1 {
                Required::No
            } else {
                Required::Yes
            };
            self.keep(path, "env", required);
        }
    }

    fn finish(self, draft: Draft) -> Result<ColoredStack, Vec<ComposeProblem>> {
        if !self.problems.is_empty() {
            let problems: BTreeSet<_> = self.problems.into_iter().collect();
            return Err(problems.into_iter().collect());
        }
        let link =
            (!draft.shared.is_empty()).then(|| self.settings.link_network(self.target.color));
        Ok(ColoredStack {
            project: self.project(),
            operator_project: self.rendered.project.clone(),
            color: self.target.color,
            release: self.target.release,
            file: draft.file,
            build_file: draft.build_file,
            images: self.images,
            starts: draft.starts,
            waits: draft.waits,
            shared: draft.shared,
            link,
            joins: self.joins,
            published: self.published,
            volumes: draft.volumes,
            copies: self.copies,
            folders: self.folders,
            notes: self.notes,
        })
    }
}
