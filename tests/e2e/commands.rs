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
    // What is right, what is written instead, where in that the mistake stands, what is said of it.
    let mistakes = [
        ("version = 1", "version = 7", "7", "version 7 is not known"),
        ("workers = 2", "workers = \"two\"", "\"two\"", "`proxy.workers` is a text"),
        ("singletons =", "singeltons =", "singeltons", "unknown key `singeltons`"),
        ("uploads = \"shared\"", "uploads = \"both\"", "\"both\"", "\"both\" is not a class"),
        ("interval = \"500ms\"", "interval = 500", "500", ".probe.interval` is a whole number"),
        ("weight = \"10%\"", "weight = \"110%\"", "\"110%\"", "a weight is at most 100 %"),
    ];
    let bad = mistakes.iter().fold(good, |text, (right, wrong, ..)| text.replace(right, wrong));
    shop.write("cutover.toml", &bad);
    let cutover = Cutover::new(&shop.path(), &shop.beside("daemon.log"));
    let ran = cutover.run(&["check"]).exits(78).says(&["cutover.toml: 6 problems"]);
    let said = ran.printed.both();
    let reports: Vec<&str> = said.split("error: ").skip(1).collect();
    assert_eq!(reports.len(), mistakes.len(), "{said}");
    for (report, (_, wrong, mark, what)) in reports.iter().zip(mistakes) {
        let (line, column) = place_of(&bad, wrong, mark);
        let place = format!("--> {}/cutover.toml:{line}:{column}\n", shop.path().display());
        assert!(report.lines().next().is_some_and(|line| line.contains(what)), "{what}: {report}");
        assert!(report.contains(&place), "{what} at {place} is missing in:\n{report}");
        assert!(report.contains("= help: "), "nothing says what to write: {report}");
    }
}

/// Line and column, from 1, at which `mark` begins inside of `written`, which stands there once.
fn place_of(text: &str, written: &str, mark: &str) -> (usize, usize) {
    assert_eq!(text.matches(written).count(), 1, "{written}");
    let at = text.find(written).expect("it was counted");
    let at = at + written.find(mark).expect("the mark is a part of it");
    let line_start = text[..at].rfind('\n').map_or(0, |end| end + 1);
    (text[..at].matches('\n').count() + 1, text[line_start..at].chars().count() + 1)
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
