//! `[apps.NAME]`: which kind of app it is, and the parts that both kinds have.

use std::collections::BTreeMap;
use std::time::Duration;

use cutover_model::AppName;

use super::{
    Surroundings, compose, contacts, database, duration, endpoints, no_effect, proofs, rollout,
    routes, tcp,
};
use crate::checked::{Admin, App, AppKind, Listener, Probe, StatusRange, Sticky};
use crate::problem::Sink;
use crate::raw::{RawApp, RawConfig, RawProbe};
use crate::read::{At, Named};
use crate::scalar::Target;
use crate::tree::Place;

/// What the apps are checked against.
pub(super) struct Outside<'c> {
    /// Where clients come in.
    pub(super) listeners: &'c [At<Listener>],
    /// Where operators come in.
    pub(super) admin: &'c Admin,
    /// Folder and credentials.
    pub(super) around: &'c Surroundings,
}

/// Checks all apps, and that they do not get in each other's way.
pub(super) fn check_all(
    raw: &RawConfig,
    listeners: &[At<Listener>],
    admin: &Admin,
    sticky: &Sticky,
    around: &Surroundings,
    sink: &mut Sink,
) -> BTreeMap<AppName, App> {
    let named = raw.apps.as_ref().map(|at| at.value.0.as_slice()).unwrap_or_default();
    if named.is_empty() {
        let hint = "add a section [apps.NAME]; `cutover init` writes one from a compose file";
        sink.missing(&Place::file(), "apps", "there is no app", hint);
    }
    let outside = Outside { listeners, admin, around };
    let mut apps = BTreeMap::new();
    for entry in named {
        let name = name(entry, named, sink);
        let app = check(entry, &outside, sticky, sink);
        if let Some(name) = name {
            apps.insert(name, app);
        }
    }
    routes::refuse_twins(named, sink);
    tcp::refuse_twins(raw, listeners, admin, sink);
    database::refuse_twins(raw, around, sink);
    apps
}

fn name(entry: &Named<RawApp>, all: &[Named<RawApp>], sink: &mut Sink) -> Option<AppName> {
    let text = &entry.name.value;
    let name = match AppName::new(text.clone()) {
        Ok(name) => name,
        Err(error) => {
            let hint = "choose a short name in lower case, as [apps.shop]";
            sink.wrong(&entry.name.place, error.to_string()).hint(hint);
            return None;
        }
    };
    let base = text.strip_suffix("-blue").or_else(|| text.strip_suffix("-green"));
    if let Some(other) = all.iter().find(|other| Some(other.name.value.as_str()) == base) {
        let what = format!("\"{text}\" is the name of a stack of app \"{}\"", other.name.value);
        sink.wrong(&entry.name.place, what)
            .also(&other.name.place, "this app")
            .hint("choose a name that does not end in a color");
    }
    Some(name)
}

fn check(entry: &Named<RawApp>, outside: &Outside<'_>, sticky: &Sticky, sink: &mut Sink) -> App {
    let (raw, place) = (&entry.item.value, &entry.item.place);
    let kind = kind(entry, outside, sink);
    let own_sticky = raw.sticky.as_ref();
    if let Some(keep_warm) = &raw.keep_warm {
        no_effect(keep_warm, "the old color stays up until the next deploy", sink);
    }
    let app = App {
        routes: routes::check(raw, place, &kind, outside.listeners, sink),
        tcp: tcp::check(raw, &kind, sink),
        kind,
        sticky: own_sticky.map_or_else(|| sticky.clone(), |at| at.value.clone()),
        probe: probe(raw.probe.as_ref().map(|at| &at.value), outside.listeners, sink),
        rollout: rollout::check(raw.rollout.as_ref().map(|at| &at.value), sink),
        keep_warm: raw.keep_warm.as_ref().map(|at| at.value.0),
        database: raw
            .database
            .as_ref()
            .and_then(|at| database::check(at, raw, outside.around, sink)),
        integrity: proofs::integrity(
            raw.integrity.as_ref(),
            raw.database.as_ref().map(|at| &at.place),
            sink,
        ),
        smoke: proofs::smoke(raw.smoke.as_ref(), sink),
        contacts: raw
            .contacts
            .as_ref()
            .map(|at| contacts::check(at, outside.around, sink))
            .unwrap_or_default(),
    };
    if !app.routes.is_empty() && !sink.touched(&place.below("routes").key) {
        probe_has_a_route(&app, raw, place, sink);
    }
    app
}

/// Readiness is asked on the way that clients take, so there has to be one.
fn probe_has_a_route(app: &App, raw: &RawApp, place: &Place, sink: &mut Sink) {
    if app.probe_route().is_some() {
        return;
    }
    let probe = raw.probe.as_ref();
    let path = probe.and_then(|probe| probe.value.path.as_ref()).map(|path| &path.place);
    let at = path.or(probe.map(|probe| &probe.place)).unwrap_or(place);
    sink.wrong(at, format!("no route of this app takes {}, to ask if it is ready", app.probe.path))
        .hint(format!(
            "let `path` of [{}.probe] (with `host` and `on`) be one that a client could ask for",
            place.key
        ));
}

fn kind(entry: &Named<RawApp>, outside: &Outside<'_>, sink: &mut Sink) -> AppKind {
    let (raw, place) = (&entry.item.value, &entry.item.place);
    match (&raw.compose, &raw.endpoints) {
        (Some(compose), Some(endpoints)) => {
            sink.wrong(&endpoints.place, "an app has compose files or fixed endpoints, not both")
                .also(&compose.place, "the compose files")
                .hint("leave one of the two out, or make it two apps");
        }
        (None, None) => {
            let what = "the app has neither compose files nor endpoints";
            let hint = "add compose = [\"compose.yml\"], or a section with .endpoints";
            if !sink.touched(&place.below("endpoints").key) {
                sink.missing(place, "compose", what, hint);
            }
        }
        _ => {}
    }
    match &raw.endpoints {
        Some(endpoints) if raw.compose.is_none() => {
            refuse_compose_keys(raw, sink);
            let endpoints = endpoints::check(endpoints, outside.listeners, outside.admin, sink);
            AppKind::Static(endpoints)
        }
        _ => {
            AppKind::Compose(Box::new(compose::check(raw, &entry.name.value, outside.around, sink)))
        }
    }
}

/// Keys that mean something for compose apps only.
fn refuse_compose_keys(raw: &RawApp, sink: &mut Sink) {
    fn place<T>(field: &Option<At<T>>) -> Option<&Place> {
        field.as_ref().map(|at| &at.place)
    }
    let keys = [
        place(&raw.project),
        place(&raw.profiles),
        place(&raw.shared),
        place(&raw.singletons),
        place(&raw.jobs),
        place(&raw.env_files),
        place(&raw.env),
        place(&raw.volumes),
        place(&raw.ports),
        place(&raw.networks),
        place(&raw.blank_ok),
        place(&raw.keep_warm),
        place(&raw.migrations),
    ];
    for place in keys.into_iter().flatten() {
        let key = place.key.rsplit('.').next().unwrap_or_default();
        sink.wrong(place, format!("`{key}` has no meaning for an app with fixed endpoints"))
            .hint("leave it out: Cutover does not run this app's processes");
    }
}

/// Checks `[apps.NAME.probe]`, or makes the defaults.
fn probe(raw: Option<&RawProbe>, listeners: &[At<Listener>], sink: &mut Sink) -> Probe {
    let on = raw.and_then(|raw| raw.on.as_ref());
    if let Some(on) = on {
        routes::check_listener(on.value.small(), &on.place, listeners, sink);
    }
    let expect = raw.and_then(|raw| raw.expect.as_ref());
    let ready = StatusRange { first: 200, last: 399 };
    if let Some(at) = expect.filter(|at| at.value.0.is_empty() && !sink.touched(&at.place.key)) {
        sink.wrong(&at.place, "no status would mean ready").hint("write 200, or \"2xx\"");
    }
    let attempts_at = raw.and_then(|raw| raw.attempts.as_ref());
    let passes_at = raw.and_then(|raw| raw.passes.as_ref());
    let attempts = attempts_at.map_or(10, |at| at.value.count());
    // With few attempts and nothing said, asking for more passes than attempts would be absurd.
    let passes = passes_at.map_or(attempts.min(3), |at| at.value.count());
    if let Some(at) = passes_at.filter(|_| passes > attempts) {
        let what = format!("{passes} passes in a row are more than the {attempts} attempts");
        sink.wrong(&at.place, what).hint("raise `attempts`, or lower `passes`");
    }
    let path = raw.and_then(|raw| raw.path.as_ref());
    let target = |at: &At<Target>| at.value.0.clone();
    let interval = raw.and_then(|raw| raw.interval.as_ref());
    let timeout = raw.and_then(|raw| raw.timeout.as_ref());
    Probe {
        path: path.map_or_else(|| "/".to_owned(), target),
        host: raw.and_then(|raw| raw.host.as_ref()).map(|at| at.value.clone()),
        on: on.map(|at| at.value.small()),
        expect: expect
            .map_or_else(|| vec![ready], |at| at.value.0.iter().map(|s| s.value).collect()),
        attempts,
        interval: duration(interval, Duration::from_secs(10)),
        passes,
        timeout: super::deadline(timeout, Duration::from_secs(5), sink),
    }
}
