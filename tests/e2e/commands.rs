//! Commands on the example that change nothing, and refusals.

use std::io::{BufRead as _, BufReader, Read as _};

use crate::harness::daemon::Cutover;
use crate::harness::engine;
use crate::harness::fronted::{Fronted, config};
use crate::harness::shop::Shop;

#[test]
fn init_writes_a_file_that_check_accepts() {
    let shop = Shop::up();
    let cutover = Cutover::new(&shop.path(), &shop.beside("daemon.log"));
    let said = cutover.run(&["init"]).succeeded().printed.both();
    for word in ["backend", "frontend", "agent", "postgres", "uploads"] {
        assert!(said.contains(word), "{word} is missing in:\n{said}");
    }
    let written = std::fs::read_to_string(shop.path().join("cutover.toml")).expect("cutover.toml");
    assert!(written.contains("shared"), "{written}");
    assert!(written.contains("singletons"), "{written}");
    cutover.run(&["check"]).succeeded();
    let again = cutover.run(&["init"]);
    assert_ne!(again.printed.code, 0, "a second init must not write over the first one's file");
    assert_eq!(
        std::fs::read_to_string(shop.path().join("cutover.toml")).expect("cutover.toml"),
        written
    );
}

#[test]
fn check_reports_six_mistakes_each_with_its_place() {
    let shop = Shop::copy();
    let good = config(&shop, &shop.beside("state").display().to_string());
    let bad = good
        .replace("version = 1", "version = 7")
        .replace("workers = 2", "workers = \"two\"")
        .replace("singletons =", "singeltons =")
        .replace("uploads = \"shared\"", "uploads = \"both\"")
        .replace("interval = \"500ms\"", "interval = 500")
        .replace("weight = \"10%\"", "weight = \"110%\"");
    shop.write("cutover.toml", &bad);
    let cutover = Cutover::new(&shop.path(), &shop.beside("daemon.log"));
    let ran = cutover.run(&["check"]).exits(78);
    let said = ran.printed.both();
    let words = ["version", "workers", "singeltons", "both", "interval", "110%"];
    for (line, word) in words.iter().map(|word| (line_of(&bad, word), word)) {
        let place = format!("cutover.toml:{line}");
        assert!(said.contains(&place), "{word} at {place} is missing in:\n{said}");
    }
}

fn line_of(text: &str, word: &str) -> usize {
    text.lines().position(|line| line.contains(word)).expect("the mistake stands in the text") + 1
}

#[test]
fn a_second_daemon_on_the_same_state_is_refused_and_names_the_first() {
    let fronted = Fronted::deployed();
    let pid = fronted.cutover.pid().to_string();
    let second = fronted.run(&["serve"]);
    assert_ne!(second.printed.code, 0);
    assert!(second.printed.both().contains(&pid), "{}", second.printed.both());
    assert_eq!(fronted.release_now(), "v1");
}

#[test]
fn commands_without_a_daemon_say_so_and_exit_with_69() {
    let shop = Shop::copy();
    shop.write("cutover.toml", &config(&shop, &shop.beside("state").display().to_string()));
    let cutover = Cutover::new(&shop.path(), &shop.beside("daemon.log"));
    for arguments in [&["status"][..], &["rollback"], &["deploy"], &["shift", "10%"]] {
        let ran = cutover.run(arguments).exits(69);
        assert!(ran.printed.both().contains("no answer"), "{arguments:?} {}", ran.printed.both());
    }
}

#[test]
fn logs_are_followed_until_their_container_ends() {
    let fronted = Fronted::deployed();
    let mut child = fronted.cutover.spawn(&["logs", "r1", "--service", "backend", "--follow"]);
    let mut out = BufReader::new(child.stdout.take().expect("its output"));
    let mut text = String::new();
    while !text.contains("listens on") {
        assert_ne!(out.read_line(&mut text).expect("a line"), 0, "{text}");
    }
    let color = format!("{}-green", fronted.shop.project);
    let backend = engine::containers_of(&color, "backend").remove(0);
    engine::run("docker", &["stop", &backend], &fronted.shop.path()).succeeded();
    out.read_to_string(&mut text).expect("the rest");
    assert!(text.contains("finishes"), "what came later is missing in:\n{text}");
    let ended = child.wait_with_output().expect("its end");
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(ended.status.success() && said.contains("have ended"), "{said}");
}
