//! Signals that end nothing: HUP reads the file again, whole or not at all; the others do nothing.

use std::process::Command;

use crate::daemon::{Cutover, until};

pub(crate) fn signal(cutover: &Cutover, name: &str) {
    let pid = cutover.pid().to_string();
    assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
}

pub(crate) fn rewrite(cutover: &Cutover, change: impl Fn(&str) -> String) {
    let path = cutover.path("cutover.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(path, change(&text)).unwrap();
}

/// Whether a process has a handler of its own for a signal.
fn catches(pid: u32, signal: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
    u64::from_str_radix(caught.trim(), 16).unwrap() & (1 << (signal - 1)) != 0
}

#[test]
fn signals_are_listened_for_before_anything_is_begun() {
    let mut cutover = Cutover::start(None);
    cutover.kill();
    std::fs::remove_dir_all(cutover.path("state")).unwrap();
    let mut serve = cutover.command(&["serve"]).spawn().unwrap();
    // The state folder is the first thing that a start makes; the socket comes much later.
    until("the start begins", || cutover.path("state").exists());
    for (name, number) in [("HUP", 1), ("INT", 2), ("USR1", 10), ("USR2", 12), ("TERM", 15)] {
        assert!(catches(serve.id(), number), "{name} would end it");
    }
    serve.kill().unwrap();
    serve.wait().unwrap();
}

/// The file with the app below `/new` and nowhere else.
pub(crate) fn moved(text: &str) -> String {
    let route = "service = \"web\"\n";
    assert!(text.contains(route), "{text}");
    text.replace(route, "service = \"web\"\npath = \"/new\"\n[apps.shop.probe]\npath = \"/new\"\n")
}

/// Waits until the record has this line so many times.
fn said(cutover: &Cutover, line: &str, times: usize) {
    // By the socket: the file may name no daemon at this moment.
    let socket = cutover.path("cutover.sock").display().to_string();
    until(line, || cutover.good(&["--socket", &socket, "events"]).matches(line).count() >= times);
}

#[test]
fn hup_takes_a_good_file_and_keeps_the_split() {
    let cutover = Cutover::start(None);
    assert_eq!(cutover.get("/x"), "blue");
    cutover.good(&["shift", "50%"]);
    rewrite(&cutover, moved);
    signal(&cutover, "HUP");
    said(&cutover, "was read again and is in force", 1);
    assert!(!["blue", "green"].contains(&cutover.get("/x").as_str()));
    let greens = (0..100).filter(|_| cutover.get("/new") == "green").count();
    assert!((20..=80).contains(&greens), "{greens} of 100: a reload leaves the split alone");
    assert!(cutover.good(&["status"]).contains("ROLLOUT"));
}

#[test]
fn hup_reads_the_operators_pages_again_and_refuses_what_cannot_be_read() {
    let cutover = Cutover::start(None);
    rewrite(&cutover, moved);
    std::fs::write(cutover.path("404.html"), "<p>first</p>").unwrap();
    rewrite(&cutover, |text| format!("{text}[proxy.error_pages]\n404 = \"404.html\"\n"));
    signal(&cutover, "HUP");
    said(&cutover, "was read again and is in force", 1);
    assert_eq!(cutover.get("/x"), "<p>first</p>");

    std::fs::write(cutover.path("404.html"), "x".repeat(300 * 1024)).unwrap();
    signal(&cutover, "HUP");
    said(&cutover, "a page has at most 256 KiB", 1);
    assert_eq!(cutover.get("/x"), "<p>first</p>");
}

#[test]
fn hup_refuses_what_is_wrong_or_needs_a_restart_as_a_whole() {
    let cutover = Cutover::start(None);
    let good = std::fs::read_to_string(cutover.path("cutover.toml")).unwrap();
    rewrite(&cutover, |text| moved(text).replace("service", "servise"));
    signal(&cutover, "HUP");
    said(&cutover, "is refused, the settings stay as they were", 1);
    assert_eq!(cutover.get("/x"), "blue");

    let other = moved(&good);
    rewrite(&cutover, |_| format!("{other}[proxy]\nworkers = 7\n"));
    signal(&cutover, "HUP");
    said(&cutover, "needs a restart: [proxy] workers", 1);
    assert_eq!(cutover.get("/x"), "blue", "the routes of a refused file do not count");

    for name in ["USR1", "USR2"] {
        signal(&cutover, name);
    }
    rewrite(&cutover, |_| other.clone());
    signal(&cutover, "HUP");
    said(&cutover, "was read again and is in force", 1);
    assert_eq!(cutover.get("/new"), "blue");
}
