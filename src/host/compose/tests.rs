//! Coloring, over what the real compose prints for the stacks in `tests/stacks` and the one in
//! `fixtures/everything`. `scripts/compose-fixtures` makes the fixtures.

use std::collections::BTreeSet;
use std::path::PathBuf;

use cutover_model::{AppName, Color, ReleaseId, ServiceName};
use serde_json::Value;

use super::*;
use crate::host::settings::{NetworkClass, PortClass, RoutedPort, VolumeClass};

fn fixture(name: &str) -> Rendered {
    let path = format!("{}/src/host/compose/fixtures/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).expect("scripts/compose-fixtures made it");
    let value: Value = serde_json::from_str(&text).expect("JSON");
    let list = |key: &str| serde_json::from_value(value[key].clone()).expect("a list");
    Rendered {
        project: value["project"].as_str().expect("a name").to_owned(),
        operator: value["operator"].clone(),
        colored: value["colored"].clone(),
        blanks: list("blanks"),
        warnings: list("warnings"),
    }
}

fn service(name: &str) -> ServiceName {
    ServiceName::new(name).expect("a name")
}

/// Settings of an app that says nothing, but for a route to `web` and to `shared`.
fn settings(shared: &[&str]) -> StackSettings {
    let app = AppName::new("shop").expect("a name");
    let mut settings = StackSettings::new(app, "/srv/shop".into(), "/state/shop".into());
    settings.shared = shared.iter().map(|name| service(name)).collect();
    settings
}

fn routed(settings: &mut StackSettings, name: &str, port: u16) {
    settings.routed.insert(RoutedPort { service: service(name), port });
}

fn target(color: Color) -> ColorTarget {
    let folder = PathBuf::from("/state/shop/releases/r7");
    ColorTarget { color, release: ReleaseId(7), folder, source: None }
}

fn colored(fixture: &Rendered, settings: &StackSettings, one: Color) -> ColoredStack {
    // The fixtures are rendered for green; blue's differ in the project's name only.
    let text = fixture.colored.to_string().replace("shop-green", &format!("shop-{one}"));
    let rendered =
        Rendered { colored: serde_json::from_str(&text).expect("JSON"), ..fixture.clone() };
    match color(&rendered, settings, &target(one)) {
        Ok(stack) => stack,
        Err(problems) => panic!("{}", ComposeError::Problems(problems)),
    }
}

fn problems(name: &str, settings: &StackSettings) -> String {
    match color(&fixture(name), settings, &target(Color::Green)) {
        Ok(stack) => panic!("no problem in {name}: {:?}", stack.notes),
        Err(problems) => ComposeError::Problems(problems).to_string(),
    }
}

#[test]
fn what_env_files_hold_is_in_no_debug_text() {
    let mut rendered = fixture("plain");
    for stack in [&mut rendered.operator, &mut rendered.colored] {
        stack["services"]["web"]["environment"]["API_TOKEN"] = Value::from("sesame-4711");
    }
    let mut settings = settings(&[]);
    routed(&mut settings, "web", 80);
    let stack = colored(&rendered, &settings, Color::Green);
    assert!(stack.file.to_string().contains("sesame-4711"), "the stack has it");
    let text = format!("{rendered:?} {stack:?}");
    assert!(text.contains("shop-green") && !text.contains("sesame"), "{text}");
}

/// What the operator of `fixtures/everything` writes in the end.
fn everything() -> StackSettings {
    let mut settings = settings(&["postgres"]);
    settings.singletons.insert(service("agent"));
    settings.env_files = vec![".env".into(), "backend/.env".into()];
    settings.blank_ok.insert("NOT_SET".to_owned());
    settings.blank_ok.insert("def".to_owned());
    routed(&mut settings, "backend", 3001);
    routed(&mut settings, "frontend", 80);
    for (port, class) in
        [("9000", PortClass::Tcp), ("9001", PortClass::Drop), ("5353/udp", PortClass::Drop)]
    {
        settings.ports.insert(port.to_owned(), class);
    }
    for (volume, class) in [
        ("uploads", VolumeClass::Shared),
        ("logs", VolumeClass::PerColor),
        ("./data", VolumeClass::PerColor),
    ] {
        settings.volumes.insert(volume.to_owned(), class);
    }
    settings.networks.insert("outer".to_owned(), NetworkClass::Join);
    settings
}

#[test]
fn a_file_with_everything_in_it_is_colored() {
    let stack = colored(&fixture("everything"), &everything(), Color::Green);
    let text = serde_json::to_string_pretty(&stack).expect("JSON");
    insta::assert_snapshot!("everything", text);
}

#[test]
fn all_problems_are_found_at_once() {
    let mut settings = settings(&["postgres", "redis"]);
    settings.singletons.insert(service("postgres"));
    insta::assert_snapshot!("everything_unsaid", problems("everything", &settings));
}

#[test]
fn each_stack_that_cannot_run_twice_says_why() {
    let mut with_web = settings(&[]);
    routed(&mut with_web, "web", 80);
    let with = |shared: &[&str]| {
        let mut with = settings(shared);
        routed(&mut with, "web", 80);
        with
    };
    let mut text = String::new();
    for (name, settings) in [
        ("external-network", with_web.clone()),
        ("fixed-ports", with_web.clone()),
        ("host-network", settings(&[])),
        ("host-pid", with_web.clone()),
        ("missing-variable", with_web.clone()),
        ("dollar-in-secret", with_web.clone()),
        ("shared-calls-colored", with(&["clock"])),
        ("unclassified-volume", with_web.clone()),
        ("writable-bind", with_web.clone()),
    ] {
        text.push_str(&format!("== {name}\n{}\n", problems(name, &settings)));
    }
    insta::assert_snapshot!("refused", text);
}

/// Names, ports and places that a color's file claims for itself.
fn claims(stack: &ColoredStack) -> BTreeSet<String> {
    let mut claims = BTreeSet::new();
    let object = |value: &Value| value.as_object().cloned().unwrap_or_default();
    for (name, body) in object(&stack.file["services"]) {
        for key in ["container_name", "ports", "mac_address"] {
            if let Some(value) = body.get(key) {
                claims.insert(format!("{name} {key} {value}"));
            }
        }
        for (network, entry) in object(&body["networks"]) {
            if let Some(address) = entry.get("ipv4_address") {
                claims.insert(format!("{name} {network} {address}"));
            }
        }
    }
    for section in ["networks", "volumes"] {
        for (key, body) in object(&stack.file[section]) {
            let shared = stack
                .volumes
                .iter()
                .any(|volume| volume.name == key && volume.class != VolumeClass::PerColor);
            if !shared {
                let name = body["name"].as_str().map(str::to_owned);
                claims.insert(name.unwrap_or_else(|| format!("{}_{key}", stack.project)));
            }
        }
    }
    claims.extend(stack.folders.iter().map(|folder| folder.display().to_string()));
    claims.extend(stack.joins.iter().flat_map(|join| join.aliases.clone()));
    claims
}

#[test]
fn two_colors_have_nothing_in_common_but_what_is_shared() {
    for (name, shared, routes) in [
        ("everything", vec!["postgres"], vec![]),
        ("plain", vec![], vec![("web", 80)]),
        ("container-name", vec![], vec![("web", 80)]),
        ("named-network", vec![], vec![("web", 80)]),
        ("two-networks", vec![], vec![("web", 80)]),
        ("traefik-labels", vec![], vec![("web", 80)]),
        ("include-extends", vec![], vec![("web", 80)]),
        ("one-shot-job", vec!["postgres"], vec![("web", 80)]),
        ("two-replicas", vec![], vec![]),
    ] {
        let mut settings = if name == "everything" { everything() } else { settings(&shared) };
        for (service, port) in routes {
            routed(&mut settings, service, port);
        }
        let fixture = fixture(name);
        let blue = claims(&colored(&fixture, &settings, Color::Blue));
        let green = claims(&colored(&fixture, &settings, Color::Green));
        let both: Vec<_> = blue.intersection(&green).collect();
        assert!(both.is_empty(), "{name}: {both:?}");
        assert!(!blue.is_empty(), "{name} claims nothing: the test sees nothing");
    }
}

#[test]
fn jobs_run_before_those_that_wait_for_them_and_are_not_restarted() {
    let mut settings = settings(&["postgres"]);
    routed(&mut settings, "web", 80);
    let stack = colored(&fixture("one-shot-job"), &settings, Color::Green);
    let order: Vec<_> = stack.starts.iter().map(|s| (s.service.as_str(), s.kind)).collect();
    assert_eq!(order, [("prepare", Kind::Job), ("web", Kind::Service)]);
    assert_eq!(stack.file["services"]["prepare"]["restart"], "no");
    assert_eq!(stack.file["services"]["web"].get("depends_on"), None);
    let waits: Vec<_> = stack.waits.iter().map(|w| (w.service.as_str(), w.condition)).collect();
    assert_eq!(waits, [("postgres", WaitFor::Healthy)]);
}

#[test]
fn images_are_replaced_by_ids_and_a_missing_one_is_named() {
    let mut settings = everything();
    settings.images.insert(service("frontend"), "nginx:1.27".to_owned());
    let stack = colored(&fixture("everything"), &settings, Color::Green);
    assert_eq!(stack.images[&service("frontend")].reference(), "nginx:1.27");
    assert_eq!(stack.images[&service("backend")].reference(), "cutover/shop-backend:r7");
    let mut ids: std::collections::BTreeMap<_, _> =
        stack.images.keys().map(|name| (name.clone(), format!("sha256:{name}"))).collect();
    let file = stack.with_images(&ids).expect("all there");
    assert_eq!(file["services"]["backend"]["image"], "sha256:backend");
    assert_eq!(file["services"]["backend"]["pull_policy"], "never");
    assert_eq!(file["services"]["backend"].get("build"), None);
    ids.remove(&service("agent"));
    assert_eq!(stack.with_images(&ids), Err(vec![service("agent")]));
}

#[test]
fn tracked_files_come_from_the_worktree_and_written_ones_stay() {
    let tracked = ["backend/Dockerfile", "backend/conf/a.conf", "backend/.env"].map(PathBuf::from);
    let source = SourceTree {
        root: "/srv/shop".into(),
        worktree: "/state/shop/worktrees/r7".into(),
        tracked: tracked.into(),
    };
    let target = ColorTarget { source: Some(source), ..target(Color::Green) };
    let mut settings = everything();
    settings.volumes.insert("./data".to_owned(), VolumeClass::Shared);
    let stack = color(&fixture("everything"), &settings, &target).expect("colored");
    let build = stack.build_file.expect("builds");
    let context = &build["services"]["backend"]["build"]["context"];
    assert_eq!(context, "/state/shop/worktrees/r7/backend");
    let places: Vec<_> = stack.volumes.iter().map(|volume| volume.real.as_str()).collect();
    assert!(places.contains(&"/state/shop/worktrees/r7/backend/conf"), "{places:?}");
    assert!(places.contains(&"/srv/shop/data"), "{places:?}");
    let from: Vec<_> = stack.copies.iter().map(|copy| copy.from.display().to_string()).collect();
    assert!(from.contains(&"/state/shop/worktrees/r7/backend/.env".to_owned()), "{from:?}");
    assert!(from.contains(&"/srv/shop/.env".to_owned()), "{from:?}");
}

#[test]
fn a_stack_survives_being_written_down() {
    let stack = colored(&fixture("everything"), &everything(), Color::Green);
    let text = serde_json::to_string(&stack).expect("JSON");
    assert_eq!(serde_json::from_str::<ColoredStack>(&text).expect("read"), stack);
}

#[test]
fn blank_variables_are_named() {
    let line = concat!(
        r#"time="2026-11-22T12:09:25Z" level=warning msg="The \"NOT_SET\" variable is "#,
        r#"not set. Defaulting to a blank string.""#
    );
    assert_eq!(blank_variable(line).as_deref(), Some("NOT_SET"));
    assert_eq!(blank_variable("level=warning msg=\"other\""), None);
    assert_eq!(warning_text(r#"level=warning msg="a \"b\" c""#), "a \"b\" c");
}

#[test]
fn a_build_that_lost_a_layer_to_somebody_else_is_made_once_more_and_no_other() {
    let lost = "failed to export image: failed to set parent sha256:ea93: unknown parent image ID";
    assert!(lost_a_layer(lost));
    for other in ["COPY failed: file not found", "no space left on device", ""] {
        assert!(!lost_a_layer(other), "{other}");
    }
}
