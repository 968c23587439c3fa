//! The keys of a compose app. The compose file itself is not read here.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, PathBuf};

use cutover_model::ServiceName;

use super::Surroundings;
use crate::checked::{Compose, EnvKeys, Migrations, PortClass, PortKey};
use crate::problem::Sink;
use crate::raw::{RawApp, RawEnv, RawMigrations, Words};
use crate::read::{At, Keyed};
use crate::scalar::FilePath;

/// Characters that only a shell gives a meaning.
const SHELL: &str = "&|;<>()$`\\\"'*?[]{}~#!\n";

/// Checks the compose keys of an app.
pub(super) fn check(raw: &RawApp, app: &str, around: &Surroundings, sink: &mut Sink) -> Compose {
    if let Some(list) = raw.compose.as_ref().filter(|list| list.value.0.is_empty())
        && !sink.touched(&list.place.key)
    {
        sink.wrong(&list.place, "the list of compose files is empty")
            .hint("write [\"compose.yml\"]");
    }
    let files = raw.compose.iter().flat_map(|list| &list.value.0);
    let files = files.map(|file| around.file(file, sink)).collect();
    let env_files = raw.env_files.iter().flat_map(|list| &list.value);
    let env_files = env_files.map(|file| around.file(file, sink)).collect();
    let shared = services(raw.shared.as_ref(), sink);
    let singletons = services(raw.singletons.as_ref(), sink);
    refuse_both(raw, sink);
    Compose {
        files,
        project: project(raw.project.as_ref(), app, sink),
        profiles: profiles(raw.profiles.as_ref(), sink),
        shared,
        singletons,
        jobs: services(raw.jobs.as_ref(), sink),
        env_files,
        env: raw.env.as_ref().map(|at| env_keys(&at.value, sink)).unwrap_or_default(),
        volumes: classes(raw.volumes.as_ref()),
        ports: raw.ports.as_ref().map(|at| ports(&at.value, sink)).unwrap_or_default(),
        networks: classes(raw.networks.as_ref()),
        blank_ok: blank_ok(raw.blank_ok.as_ref(), sink),
        migrations: raw.migrations.as_ref().and_then(|at| migrations(at, sink)),
    }
}

/// The name of the project that runs today: compose's own rule, and none that a color takes.
fn project(at: Option<&At<String>>, app: &str, sink: &mut Sink) -> Option<String> {
    let at = at?;
    let name = &at.value;
    let good = name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-".contains(c));
    if !good {
        sink.wrong(&at.place, format!("\"{name}\" is not the name of a compose project")).hint(
            "a lower-case letter or a digit, then these, dashes and underscores; `docker compose \
             ls` lists those that run",
        );
        return None;
    }
    if [format!("{app}-blue"), format!("{app}-green")].contains(name) {
        sink.wrong(&at.place, format!("\"{name}\" is the project of one of the colors")).hint(
            "write the project that \"docker compose up\" makes in this folder, or leave it out",
        );
        return None;
    }
    Some(name.clone())
}

/// The profiles that are on; an empty list turns all of them off.
fn profiles(list: Option<&At<Vec<At<String>>>>, sink: &mut Sink) -> Option<BTreeSet<String>> {
    let list = list?;
    for item in &list.value {
        let name = &item.value;
        let good = name.starts_with(|c: char| c.is_ascii_alphanumeric())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
        if !good && name != "*" {
            sink.wrong(&item.place, format!("\"{name}\" is not the name of a profile")).hint(
                "write it as `profiles` of a service in the compose file has it; \"*\" is all",
            );
        }
    }
    Some(list.value.iter().map(|item| item.value.clone()).collect())
}

/// Reads the patterns of keys that are pinned or follow.
fn env_keys(raw: &RawEnv, sink: &mut Sink) -> EnvKeys {
    let mut patterns = |list: Option<&At<Vec<At<String>>>>| {
        let mut kept = Vec::new();
        for at in list.into_iter().flat_map(|list| &list.value) {
            let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '*' | '?');
            if at.value.is_empty() || !at.value.chars().all(fits) {
                sink.wrong(&at.place, format!("\"{}\" is no key of an env file", at.value))
                    .hint("write the name of a variable; * and ? stand for what may vary");
            } else {
                kept.push(at.value.clone());
            }
        }
        kept
    };
    EnvKeys { pin: patterns(raw.pin.as_ref()), follow: patterns(raw.follow.as_ref()) }
}

/// Reads a list of service names.
fn services(list: Option<&At<Vec<At<String>>>>, sink: &mut Sink) -> BTreeSet<ServiceName> {
    let items = list.into_iter().flat_map(|list| &list.value);
    items.filter_map(|item| service(item, sink)).collect()
}

/// Reads one service name.
pub(super) fn service(at: &At<String>, sink: &mut Sink) -> Option<ServiceName> {
    match ServiceName::new(at.value.clone()) {
        Ok(name) => Some(name),
        Err(error) => {
            sink.wrong(&at.place, error.to_string())
                .hint("write the name of the service as the compose file has it");
            None
        }
    }
}

fn refuse_both(raw: &RawApp, sink: &mut Sink) {
    let (Some(shared), Some(singletons)) = (&raw.shared, &raw.singletons) else { return };
    for single in &singletons.value {
        if let Some(twin) = shared.value.iter().find(|shared| shared.value == single.value) {
            let what = format!("\"{}\" is both shared and a singleton", single.value);
            sink.wrong(&single.place, what).also(&twin.place, "shared here").hint(
                "shared: one copy that never stops; singleton: one copy that moves with the \
                 release. Choose one",
            );
        }
    }
}

fn classes<T: Copy>(keyed: Option<&At<Keyed<T>>>) -> BTreeMap<String, T> {
    let entries = keyed.into_iter().flat_map(|at| &at.value.0);
    entries.map(|entry| (entry.name.value.clone(), entry.item.value)).collect()
}

fn ports(raw: &Keyed<PortClass>, sink: &mut Sink) -> BTreeMap<PortKey, PortClass> {
    let mut ports = BTreeMap::new();
    for entry in &raw.0 {
        match PortKey::from_text(&entry.name.value) {
            Ok(key) => {
                if entry.item.value == PortClass::Tcp {
                    let what = "a port that is carried by connection has a section of its own";
                    sink.wrong(&entry.item.place, what).hint(
                        "add [[apps.NAME.tcp]] with listen = \"0.0.0.0:1883\", service and port, \
                         and leave it out here: the address must be known before compose is read",
                    );
                }
                ports.insert(key, entry.item.value);
            }
            Err(reason) => {
                sink.wrong(&entry.name.place, reason).hint(
                    "write it like \"9229\" = \"drop\"; other names are \"5353/udp\" and \
                         \"backend:9229\"",
                );
            }
        }
    }
    ports
}

fn blank_ok(list: Option<&At<Vec<At<String>>>>, sink: &mut Sink) -> BTreeSet<String> {
    let items = list.into_iter().flat_map(|list| &list.value);
    for item in items.clone() {
        let name = &item.value;
        let good = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if !good {
            sink.wrong(&item.place, format!("\"{name}\" is not the name of a variable"))
                .hint("write the name alone, as \"SENTRY_DSN\"");
        }
    }
    items.map(|item| item.value.clone()).collect()
}

fn migrations(at: &At<RawMigrations>, sink: &mut Sink) -> Option<Migrations> {
    let (place, raw) = (&at.place, &at.value);
    if raw.service.is_none() {
        let what = "the migrations do not say which service runs them";
        sink.missing(place, "service", what, "add `service`, as service = \"backend\"");
    }
    if raw.command.is_none() {
        let hint = "add `command`, as command = \"npx prisma migrate deploy\"";
        sink.missing(place, "command", "the migrations have no command", hint);
    }
    let down = raw.down.as_ref().and_then(|down| scripts(down, sink));
    let service = service(raw.service.as_ref()?, sink)?;
    let command = raw.command.as_ref()?;
    let words = words(&command.value);
    if words.is_empty() && !sink.touched(&command.place.key) {
        sink.wrong(&command.place, "the command is empty")
            .hint("leave the section out if there is nothing to run");
    }
    let mut more = |of: &Option<At<Words>>| {
        let at = of.as_ref()?;
        let words = self::words(&at.value);
        if words.is_empty() {
            sink.wrong(&at.place, "the command is empty").hint("leave the line out");
            return None;
        }
        Some(words)
    };
    let (down_command, status_command) = (more(&raw.down_command), more(&raw.status_command));
    if let (Some(command), Some(_)) = (&raw.down_command, &raw.down) {
        sink.wrong(&command.place, "both scripts and a command take migrations back")
            .hint("write `down` for a folder of scripts, or `down_command`, not both");
    }
    Some(Migrations { service, command: words, down, down_command, status_command })
}

/// A folder below the sources: of each release it is that release's own.
fn scripts(down: &At<FilePath>, sink: &mut Sink) -> Option<PathBuf> {
    let path = PathBuf::from(&down.value.0);
    let is_plain = |part: Component<'_>| matches!(part, Component::Normal(_) | Component::CurDir);
    if !path.components().all(is_plain) || path.as_os_str().is_empty() {
        sink.wrong(&down.place, "the folder of the migrations lies below that of this file")
            .hint("write it like \"prisma/migrations\"");
        return None;
    }
    Some(path)
}

/// A plain line is split at its spaces, so that images without a shell can run it; a line with
/// anything that only a shell understands is given to `sh -c`.
pub(super) fn words(command: &Words) -> Vec<String> {
    match command {
        Words::List(words) => words.clone(),
        Words::Line(line) if line.contains(|c| SHELL.contains(c)) => {
            vec!["sh".to_owned(), "-c".to_owned(), line.clone()]
        }
        Words::Line(line) => line.split_whitespace().map(str::to_owned).collect(),
    }
}
