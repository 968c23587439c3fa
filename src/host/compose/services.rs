//! One colored service: what is taken out of it, what is put in its place, what is refused.

use cutover_model::ServiceName;
use serde_json::Value;

use super::color::Coloring;
use super::problem::ComposeProblem;
use super::stack::{ImageSource, Kind, PullPolicy};
use super::view::{Object, environment, is_true, links, list, object, text};
use super::volumes::Volumes;

/// Labels by which other proxies find containers: they would find both colors.
const FOREIGN_LABELS: [&str; 5] =
    ["traefik.", "caddy", "haproxy.", "com.github.nginx-proxy", "com.github.jrcs.letsencrypt"];
/// Variables by which `nginx-proxy` finds containers.
const FOREIGN_VARIABLES: [&str; 4] =
    ["VIRTUAL_HOST", "VIRTUAL_PORT", "VIRTUAL_PATH", "LETSENCRYPT_HOST"];
/// Keys that mean something to the operator's own use of the file only.
const DROPPED: [&str; 3] = ["profiles", "develop", "container_name"];

impl Coloring<'_> {
    /// The service as it is in the color's file.
    pub(super) fn color_service(
        &mut self,
        name: &str,
        mut body: Object,
        volumes: &Volumes,
    ) -> Object {
        self.refuse_host(name, &body);
        self.refuse_single(name, &body);
        if let Some(old) = text(&body, "container_name").map(str::to_owned) {
            self.note(format!(
                "{name}: the container is not called {old} any more; {old} stays its name inside \
                 the color's networks"
            ));
        }
        self.take_ports(name, &mut body);
        self.color_networks(name, &mut body);
        for key in DROPPED {
            body.remove(key);
        }
        self.take_foreign(name, &mut body);
        self.keep_env_files(&mut body);
        self.color_mounts(&mut body, volumes);
        self.take_image(name, &mut body);
        self.cut_edges(&mut body);
        if is_true(&body, "privileged") {
            self.note(format!(
                "{name} is privileged: two copies may get in each other's way on the host"
            ));
        }
        if self.kind(name) == Kind::Job {
            // Compose would run it again whenever it brings the stack up.
            body.insert("restart".to_owned(), Value::from("no"));
        }
        if text(&body, "restart") == Some("always") {
            // Docker starts an "always" container that was stopped when it is itself started again:
            // a stopped color, or a second singleton, would come back by itself.
            body.insert("restart".to_owned(), Value::from("unless-stopped"));
        }
        let labels = self.labels(Some(self.kind(name)));
        put_labels(&mut body, labels);
        body
    }

    /// What uses the host itself.
    fn refuse_host(&mut self, name: &str, body: &Object) {
        let mut refuse = |key: &str, value: &str| {
            let (service, key, value) = (name.to_owned(), key.to_owned(), value.to_owned());
            self.problems.push(ComposeProblem::HostAccess { service, key, value });
        };
        for key in ["network_mode", "pid", "ipc", "uts"] {
            if text(body, key) == Some("host") {
                refuse(key, "host");
            }
        }
        for device in list(body, "devices") {
            let place = match device {
                Value::String(text) => text.clone(),
                other => other.get("source").and_then(Value::as_str).unwrap_or("?").to_owned(),
            };
            refuse("devices", &place);
        }
        if !list(body, "device_cgroup_rules").is_empty() {
            refuse("device_cgroup_rules", "set");
        }
        for key in ["provider", "models"] {
            if body.get(key).is_some_and(|value| !value.is_null()) {
                let key = if key == "provider" { "provider" } else { "models" };
                let service = name.to_owned();
                self.problems.push(ComposeProblem::Unsupported { service, key });
            }
        }
    }

    /// What refers to one container, or to a shared service in a way that no link carries.
    fn refuse_single(&mut self, name: &str, body: &Object) {
        let mut found: Vec<(&str, String)> = Vec::new();
        for key in ["network_mode", "pid", "ipc"] {
            let Some(value) = text(body, key) else { continue };
            let shared = value.strip_prefix("service:").is_some_and(|s| self.settings.is_shared(s));
            if shared || value.starts_with("container:") {
                found.push((key, value.to_owned()));
            }
        }
        for value in list(body, "volumes_from").iter().filter_map(Value::as_str) {
            let source = value.split(':').next().unwrap_or(value);
            if source == "container" || self.settings.is_shared(source) {
                found.push(("volumes_from", value.to_owned()));
            }
        }
        for value in list(body, "external_links").iter().filter_map(Value::as_str) {
            found.push(("external_links", value.to_owned()));
        }
        for (key, value) in found {
            let (service, key) = (name.to_owned(), key.to_owned());
            self.problems.push(ComposeProblem::TiedToOne { service, key, value });
        }
    }

    /// Labels and variables by which other proxies would find both colors.
    fn take_foreign(&mut self, name: &str, body: &mut Object) {
        let mut gone: Vec<String> = Vec::new();
        if let Some(labels) = body.get_mut("labels").and_then(Value::as_object_mut) {
            labels.retain(|key, _| {
                let foreign = FOREIGN_LABELS.iter().any(|prefix| key.starts_with(prefix));
                if foreign {
                    gone.push(key.split('.').next().unwrap_or(key).to_owned());
                }
                !foreign
            });
        }
        if let Some(variables) = body.get_mut("environment").and_then(Value::as_object_mut) {
            for variable in FOREIGN_VARIABLES {
                gone.extend(variables.remove(variable).map(|_| variable.to_owned()));
            }
        }
        gone.sort();
        gone.dedup();
        if !gone.is_empty() {
            let list = gone.join(", ");
            self.note(format!(
                "{name}: taken out, since another proxy would find both colors by it: {list}"
            ));
        }
    }

    /// The image: built under a name of ours, or named by the operator. An id takes its place
    /// later.
    fn take_image(&mut self, name: &str, body: &mut Object) {
        let Ok(service) = ServiceName::new(name) else { return };
        let build = body.remove("build").filter(|build| !build.is_null());
        let policy = body.remove("pull_policy");
        let policy = policy.as_ref().and_then(Value::as_str).unwrap_or_default().to_owned();
        let chosen = self.settings.images.get(&service).cloned();
        let source = match (chosen, build, text(body, "image")) {
            (Some(reference), _, _) => ImageSource::Named { reference, pull: PullPolicy::Missing },
            (None, Some(build), _) => {
                let tag = self.tag(name);
                let build = self.build_section(name, &build);
                let mut entry = Object::new();
                entry.insert("image".to_owned(), Value::from(tag.as_str()));
                entry.insert("build".to_owned(), build);
                if let Some(platform) = body.get("platform") {
                    entry.insert("platform".to_owned(), platform.clone());
                }
                self.builds.insert(name.to_owned(), Value::Object(entry));
                ImageSource::Built { tag }
            }
            (None, None, Some(reference)) => ImageSource::Named {
                reference: reference.to_owned(),
                pull: match policy.as_str() {
                    "always" => PullPolicy::Always,
                    "never" => PullPolicy::Never,
                    _ => PullPolicy::Missing,
                },
            },
            (None, None, None) => {
                self.problems.push(ComposeProblem::NoImage { service: name.to_owned() });
                return;
            }
        };
        body.insert("image".to_owned(), Value::from(source.reference()));
        self.images.insert(service, source);
    }

    /// The name of an image that is built for this release: no tag of the operator's moves.
    fn tag(&self, service: &str) -> String {
        let service: String = service
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' })
            .collect();
        let service = service.trim_matches('-');
        format!("cutover/{}-{service}:{}", self.settings.app, self.target.release)
    }

    /// Edges stay where both ends are services of the color that keep running, so that a person who
    /// runs compose on the file by hand starts no job again.
    fn cut_edges(&self, body: &mut Object) {
        let stays = |on: &str| {
            !self.settings.is_shared(on)
                && self.service(on).is_some()
                && self.kind(on) == Kind::Service
        };
        if let Some(edges) = body.get_mut("depends_on").and_then(Value::as_object_mut) {
            edges.retain(|on, _| stays(on));
        }
        if object(body, "depends_on").is_some_and(Object::is_empty) {
            body.remove("depends_on");
        }
        let kept: Vec<Value> = links(body)
            .into_iter()
            .filter(|(on, _)| !self.settings.is_shared(on))
            .map(|(on, alias)| Value::from(format!("{on}:{alias}")))
            .collect();
        if body.remove("links").is_some() && !kept.is_empty() {
            body.insert("links".to_owned(), Value::from(kept));
        }
    }
}

/// Adds labels, whatever form the file writes them in.
fn put_labels(body: &mut Object, ours: Vec<(String, Value)>) {
    let labels = body.entry("labels").or_insert_with(|| Value::Object(Object::new()));
    if let Some(listed) = labels.as_array() {
        let pairs = listed.iter().filter_map(Value::as_str).map(|entry| {
            let (key, value) = entry.split_once('=').unwrap_or((entry, ""));
            (key.to_owned(), Value::from(value))
        });
        *labels = Value::Object(pairs.collect());
    }
    if !labels.is_object() {
        *labels = Value::Object(Object::new());
    }
    if let Some(labels) = labels.as_object_mut() {
        labels.extend(ours);
    }
}

/// The secret-sounding values that stand in a file's environment, to be masked in logs.
#[must_use]
pub(crate) fn environment_of(file: &Value) -> Vec<(String, String)> {
    let services = file.get("services").and_then(Value::as_object);
    let bodies = services.into_iter().flat_map(Object::values).filter_map(Value::as_object);
    bodies.flat_map(variables).collect()
}

/// The variables that a body of compose's own prints has. It writes "$" as "$$".
pub(super) fn variables(body: &Object) -> Vec<(String, String)> {
    let named = environment(body).into_iter();
    named.map(|(name, value)| (name.to_owned(), value.replace("$$", "$"))).collect()
}
