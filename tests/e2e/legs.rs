//! Rollbacks that make a stack: of a release whose containers are gone, and of chosen parts. What
//! comes back is compared by image id, by the variables inside the containers, and by commit.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::harness::fronted::{Fronted, operation_of};
use crate::harness::shop::Shop;
use crate::harness::{engine, eventually};

/// What a release runs, as Docker and the record say.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Runs {
    commit: String,
    images: BTreeMap<String, String>,
    variables: BTreeMap<String, Vec<String>>,
}

const COPIED: [&str; 2] = ["backend", "frontend"];

fn record(fronted: &Fronted, release: &str) -> serde_json::Value {
    let said = fronted.run(&["releases", "--json"]).succeeded().printed.stdout;
    let list: serde_json::Value = serde_json::from_str(&said).expect("JSON");
    let releases = list["releases"].as_array().expect("releases").iter();
    let mut of =
        releases.filter(|line| line["release"].to_string().trim_matches('"') == &release[1..]);
    of.next().unwrap_or_else(|| panic!("no {release} in {said}")).clone()
}

fn runs(fronted: &Fronted, release: &str) -> Runs {
    let record = record(fronted, release);
    let color = record["color"].as_str().expect("a color");
    let project = format!("{}-{color}", fronted.shop.project);
    let (mut images, mut variables) = (BTreeMap::new(), BTreeMap::new());
    for service in COPIED {
        let ids = engine::containers_of(&project, service);
        let [id] = ids.as_slice() else { panic!("{release}: {service} has {ids:?}") };
        let label = engine::inspect(id, "{{index .Config.Labels \"app.cutover.release\"}}");
        assert_eq!(label, release);
        images.insert(service.to_owned(), engine::inspect(id, "{{.Image}}"));
        assert_eq!(images[service], record["images"][service].as_str().expect("an id"));
        let told = engine::inspect(id, "{{range .Config.Env}}{{println .}}{{end}}");
        let mut told: Vec<String> = told.lines().map(str::to_owned).collect();
        told.sort();
        variables.insert(service.to_owned(), told);
    }
    Runs { commit: record["commit"].as_str().expect("a commit").to_owned(), images, variables }
}

fn git(fronted: &Fronted, arguments: &[&str]) -> String {
    let said = engine::run("git", arguments, &fronted.shop.path()).succeeded().stdout;
    said.trim().to_owned()
}

/// Writes a line into the backend's env file.
fn set(fronted: &Fronted, key: &str, value: &str) {
    let path = fronted.shop.path().join("backend/.env");
    let text = std::fs::read_to_string(&path).expect("backend/.env");
    let kept = text.lines().filter(|line| !line.starts_with(&format!("{key}=")));
    let mut text: String = kept.map(|line| format!("{line}\n")).collect();
    text.push_str(&format!("{key}={value}\n"));
    std::fs::write(path, text).expect("backend/.env");
}

/// r1, r2 and r3 were deployed one after the other: r1's containers are gone.
fn three() -> (Fronted, [Runs; 3]) {
    let mut fronted = Fronted::unserved(Shop::with_database(), |shop| shop.beside("state"));
    // Its images are of this test alone: others may be removed with them.
    let name = &fronted.shop.project;
    let file = fronted.shop.path().join("Dockerfile");
    let text = std::fs::read_to_string(&file).expect("a Dockerfile");
    std::fs::write(file, format!("{text}LABEL of={name}\n")).expect("a Dockerfile");
    git(&fronted, &["-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qam", "label"]);
    fronted.cutover.serve();
    fronted.run(&["deploy"]).succeeded();
    let first = runs(&fronted, "r1");
    set(&fronted, "PRICE_MODE", "net");
    fronted.deploy("good", &["--at-once"]).succeeded();
    let second = runs(&fronted, "r2");
    set(&fronted, "PRICE_MODE", "gross");
    fronted.deploy("migration", &["--at-once"]).succeeded();
    let third = runs(&fronted, "r3");
    (fronted, [first, second, third])
}

#[test]
fn a_release_without_containers_comes_back_byte_for_byte_and_so_does_the_way_forward() {
    let (fronted, [first, second, third]) = three();
    // A session each time: a color's network, which one could go over, ends with its containers.
    let seen = || {
        let observer = fronted.shop.observer();
        let rows = observer.number("SELECT count(*) FROM _prisma_migrations");
        (observer.server_start(), rows)
    };
    let before = seen();
    std::fs::write(fronted.shop.path().join("release.env"), "# edited, not committed\n")
        .expect("a file of the shop");
    let (head, dirty) = (git(&fronted, &["rev-parse", "HEAD"]), git(&fronted, &["status", "-s"]));
    fronted.run(&["status"]).succeeded().says(&["instant, to r2"]);

    let load = fronted.load(50, 100);
    load.wait_for(50);
    let back = fronted.run(&["rollback", "--to", "r1"]);
    let first_again = runs(&fronted, "r1");
    let operation = operation_of(&back.printed.both());
    let tag = git(&fronted, &["rev-parse", &format!("cutover/before-{operation}")]);
    let undo = fronted.run(&["undo", &operation]);
    let third_again = runs(&fronted, "r3");
    // r1 took r2's color: r2 is gone now, and comes back as it was, too.
    let forward = fronted.run(&["rollback", "--to", "r2"]);
    let second_again = runs(&fronted, "r2");
    let records = load.stop();
    records.assert_none_failed();
    back.succeeded().says(&[
        "r1 has no containers any more",
        "r3 serves until it is ready",
        "all traffic is on r1",
        &format!("Your checkout is still at {} (r3)", &head[..7]),
    ]);
    undo.succeeded();
    forward.succeeded();
    assert_eq!(first_again, first);
    assert_eq!(tag, third.commit, "what ran before is tagged");
    assert_eq!(third_again, third);
    assert_eq!(second_again, second);
    fronted.serves("v2");
    assert_eq!(seen(), before, "no migration ran, no database was restarted");
    assert_eq!(git(&fronted, &["rev-parse", "HEAD"]), head);
    assert_eq!(git(&fronted, &["status", "-s"]), dirty);
}

/// The operations that the journal knows, and the actions of the newest one, by their words.
fn newest_actions(fronted: &Fronted) -> Vec<String> {
    let said = fronted.run(&["events", "--json"]).succeeded().printed.stdout;
    let events = said.lines().filter_map(|line| serde_json::from_str(line).ok());
    let intended: Vec<serde_json::Value> = events
        .map(|event: serde_json::Value| event["happened"].clone())
        .filter(|happened| happened["fact"]["fact"] == "action_intended")
        .collect();
    let newest = intended.last().expect("an action")["operation"].clone();
    let of = intended.iter().filter(|happened| happened["operation"] == newest);
    of.map(|h| h["fact"]["action"]["action"].as_str().expect("a word").to_owned()).collect()
}

#[test]
fn chosen_parts_make_a_new_release_and_a_dry_run_shows_its_plan() {
    let fronted = Fronted::deployed();
    set(&fronted, "PRICE_MODE", "net");
    set(&fronted, "MAIL_TOKEN", "old-token");
    fronted.deploy("good", &["--at-once"]).succeeded();
    let second = runs(&fronted, "r2");
    set(&fronted, "PRICE_MODE", "gross");
    set(&fronted, "MAIL_TOKEN", "new-token");
    fronted.deploy("good", &["--at-once"]).succeeded();
    let third = runs(&fronted, "r3");

    let dry = fronted.run(&["rollback", "--to", "r2", "--only", "config", "--dry-run"]).succeeded();
    dry.says(&["Plan. Nothing has happened.", "code of r3, images of r3, config of r2", "traffic"]);
    assert_eq!(fronted.release_now(), "v3");

    let back = fronted.run(&["rollback", "--to", "r2", "--only", "config"]).succeeded();
    back.says(&["code of r3, images of r3, config of r2", "MAIL_TOKEN", "all traffic is on r4"]);
    let composed = runs(&fronted, "r4");
    assert_eq!((&composed.commit, &composed.images), (&third.commit, &third.images));
    let told = &composed.variables["backend"];
    assert!(told.contains(&"PRICE_MODE=net".to_owned()), "r2's: {told:?}");
    assert!(told.contains(&"MAIL_TOKEN=new-token".to_owned()), "a token follows: {told:?}");
    let actions = newest_actions(&fronted);
    assert!(!actions.iter().any(|a| ["start", "migrate", "images"].contains(&a.as_str())));

    let diff = fronted.run(&["releases", "--diff", "r3", "r4"]).succeeded();
    let printed = diff.printed.both();
    diff.says(&["backend/.env: PRICE_MODE changed", "images      the same"]);
    assert!(!printed.contains("gross") && !printed.contains("net,"), "{printed}");
    fronted.run(&["releases"]).succeeded().says(&["code of r3, images of r3, config of r2"]);

    fronted.run(&["rollback", "--to", "r2", "--only", "code,images"]).succeeded();
    let again = runs(&fronted, "r5");
    assert_eq!((&again.commit, &again.images), (&second.commit, &second.images));
    assert_eq!(again.variables["backend"], composed.variables["backend"]);
    fronted.serves("v2");
}

#[test]
fn a_lost_image_is_refused_by_name_and_built_anew_on_request() {
    let (fronted, [first, ..]) = three();
    let starts = fronted.starts();
    let pins = format!("name=cutover-pin-{}-r1-", fronted.shop.project);
    let pins = engine::docker(&["ps", "-aq", "--filter", &pins]).succeeded().stdout;
    for pin in pins.lines() {
        engine::docker(&["rm", "-f", pin]).succeeded();
    }
    let services = ["backend", "frontend", "agent"];
    for service in services {
        let tag = format!("cutover/{}-{service}:r1", fronted.shop.project);
        engine::docker(&["rmi", &tag]);
    }
    let image = &first.images["backend"];
    assert_ne!(engine::docker(&["image", "inspect", image]).code, 0, "{image} is still there");
    let refused = fronted.run(&["rollback", "--to", "r1"]).exits(4);
    refused.says(&["r1 cannot be made again", "backend", "NOTHING WAS CHANGED", "--rebuild"]);
    assert_eq!(fronted.starts(), starts, "nothing was stopped");
    fronted.run(&["rollback", "--to", "r1", "--rebuild"]).succeeded();
    fronted.serves("v1");
    let rebuilt = runs(&fronted, "r4");
    assert_eq!((&rebuilt.commit, &rebuilt.variables), (&first.commit, &first.variables));
}

#[test]
fn what_a_person_removes_is_told_once_and_left_alone() {
    let fronted = Fronted::with_standby("good");
    let project = format!("{}-blue", fronted.shop.project);
    let [backend] = &engine::containers_of(&project, "backend")[..] else { panic!("one backend") };
    engine::docker(&["rm", "-f", backend]).succeeded();
    set(&fronted, "LOG_LEVEL", "loud");
    eventually("drift is in status", Duration::from_secs(90), || {
        let said = fronted.run(&["status"]).succeeded().printed.both();
        let is_told = said.contains("r2: backend has no container any more");
        (is_told && said.contains("backend/.env: LOG_LEVEL added")).then_some(())
    });
    let told = fronted.run(&["events"]).succeeded().printed.both();
    assert_eq!(told.matches("backend has no container any more").count(), 1, "{told}");
    assert!(!told.contains("loud"), "{told}");
    assert!(engine::containers_of(&project, "backend").is_empty(), "it was not put back");
    assert_eq!(fronted.release_now(), "v1");
}

/// Docker calls what is frozen unhealthy, and after that until its check is made again.
#[test]
fn a_release_that_was_frozen_by_hand_is_woken_proven_and_gets_the_traffic() {
    let fronted = Fronted::adopted();
    fronted.deploy("good", &["--at-once"]).succeeded();
    fronted.serves("v2");
    // First what was taken over, then what was made: containers of the operator's own project, and
    // of a color.
    let own = fronted.shop.project.clone();
    let has = |project: &String| !engine::containers_of(project, "backend").is_empty();
    let color = ["blue", "green"].map(|color| format!("{own}-{color}")).into_iter().find(has);
    let color = color.expect("r2 is in a color");
    for (project, release, to) in [(own, "r1", "v1"), (color, "r2", "v2")] {
        let ids: Vec<_> =
            COPIED.iter().flat_map(|service| engine::containers_of(&project, service)).collect();
        assert_eq!(ids.len(), 2, "{release} in {project}");
        ids.iter().for_each(|id| drop(engine::docker(&["pause", id]).succeeded()));
        eventually("it is told", Duration::from_secs(60), || {
            let told = fronted.run(&["events"]).succeeded().printed.both();
            let is_it = |line: &str| {
                line.contains(&format!("{release} in ")) && line.contains(": no container of it")
            };
            told.lines().any(is_it).then_some(())
        });
        let load = fronted.load(50, 100);
        load.wait_for(50);
        let back = fronted.run(&["rollback", "--to", release]);
        let records = load.stop();
        back.succeeded().says(&[
            &format!("{release} is stopped: starting it"),
            &format!("all traffic is on {release}"),
        ]);
        records.assert_none_failed();
        fronted.serves(to);
        for id in ids {
            assert_eq!(engine::inspect(&id, "{{.State.Status}}"), "running");
        }
    }
}
