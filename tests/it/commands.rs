//! Commands against a real daemon: what they print, how they end, and what clients get.

use std::io::{BufRead as _, BufReader};
use std::net::TcpStream;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::daemon::{Cutover, until};
use crate::full_disk::SmallDisk;

#[test]
fn a_person_shifts_cuts_back_and_goes_forward_again() {
    let cutover = Cutover::start(None);
    assert!(cutover.good(&["status"]).contains("shop   CALM"));
    assert_eq!(cutover.greens(20), 0);

    let shift = cutover.good(&["shift", "50%"]);
    assert!(shift.contains("DONE: 50 % of the clients are on r2"), "{shift}");
    assert!(shift.contains("Next:  cutover next"), "{shift}");
    let greens = cutover.greens(200);
    assert!((60..=140).contains(&greens), "{greens} of 200");
    assert!(cutover.good(&["status"]).contains("ROLLOUT"));

    let back = cutover.good(&["rollback"]);
    assert!(back.lines().next().unwrap().contains("DONE: all traffic is on r1"), "{back}");
    assert!(back.contains("NOT rolled back: the database"), "{back}");
    assert!(back.contains("cutover undo o2"), "{back}");
    assert_eq!(cutover.greens(50), 0);

    let again = cutover.good(&["rollback"]);
    assert!(again.starts_with("Nothing to do: r1 has had all traffic since"), "{again}");
    cutover.good(&["undo", "o2"]);
    assert!(cutover.greens(100) > 10);
    cutover.good(&["promote"]);
    assert_eq!(cutover.greens(20), 20);
    let releases = cutover.good(&["releases"]);
    assert!(releases.contains("serves everyone   proved itself"), "{releases}");
    cutover.good(&["note", "o2", "prices", "wrong"]);
    assert!(cutover.good(&["events"]).contains("note: prices wrong"));
}

#[test]
fn refusals_say_so_and_change_nothing() {
    let cutover = Cutover::start(None);
    for (words, exit, text) in [
        (&["promote"][..], 4, "no rollout is going on"),
        (&["rollback"], 4, "nowhere to go back"),
        (&["rollback", "--to", "r9"], 2, "there is no release r9"),
        (&["undo", "o9"], 2, "there is no operation o9"),
        (&["wait", "o9"], 2, "no operation o9"),
        (&["deploy"], 4, "fixed endpoints"),
        (&["status", "--app", "blog"], 2, "there is no app \"blog\""),
        (&["shift", "10%", "--app", "blog"], 2, "there is no app \"blog\""),
        (&["shift", "101%"], 2, "100 %"),
        (&["note", "o9", "x"], 2, "no operation o9"),
        (&["rollback", "--database", "--detach"], 2, "leave --detach out"),
        (&["rollback", "--only", "database", "--detach"], 2, "leave --detach out"),
        (&["rollback", "--offline", "--detach"], 2, "cannot be used with"),
        (&["rollback", "--at", "+1h", "--detach"], 2, "cannot be used with"),
    ] {
        let ran = cutover.run(words);
        assert_eq!(ran.exit, exit, "{words:?}: {ran:?}");
        assert!(ran.err.contains(text), "{words:?}: {ran:?}");
        assert_eq!(ran.out, "", "{words:?}");
    }
    assert_eq!(cutover.greens(20), 0);
}

#[test]
fn every_answer_for_scripts_is_json_with_a_schema() {
    let cutover = Cutover::start(None);
    cutover.good(&["shift", "10%"]);
    for words in [
        &["status", "--json"][..],
        &["releases", "--json"],
        &["events", "--json"],
        &["next", "--json"],
        &["rollback", "--json"],
        &["rollback", "--json"],
        &["wait", "o1", "--json"],
        &["preview", "--json"],
        &["note", "o1", "x", "--json"],
        &["promote", "--json"],
    ] {
        let ran = cutover.run(words);
        assert!(!ran.out.is_empty(), "{words:?}: {ran:?}");
        for line in ran.out.lines() {
            let value: Value = serde_json::from_str(line).unwrap();
            let schema = value["schema"].as_str().unwrap_or_default();
            assert!(schema.starts_with("cutover."), "{words:?}: {line}");
        }
    }
}

#[test]
fn without_a_daemon_the_exit_code_is_69_and_the_text_says_what_to_do() {
    let mut cutover = Cutover::start(None);
    cutover.kill();
    let ran = cutover.run(&["rollback"]);
    assert_eq!(ran.exit, 69, "{ran:?}");
    assert!(ran.err.contains("NOTHING WAS CHANGED"), "{ran:?}");
    let mut elsewhere = cutover.command(&["status"]);
    elsewhere.env("CUTOVER_CONFIG", cutover.path("log"));
    assert_eq!(elsewhere.output().unwrap().status.code(), Some(78));
}

#[test]
fn the_first_line_of_a_rollback_stands_within_50_ms() {
    let cutover = Cutover::start(None);
    let mut best = Duration::MAX;
    for _ in 0..5 {
        cutover.good(&["shift", "50%"]);
        let started = Instant::now();
        let mut child = cutover.command(&["rollback"]).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        best = best.min(started.elapsed());
        assert!(line.contains("DONE: all traffic is on r1"), "{line}");
        child.wait().unwrap();
    }
    assert!(best < Duration::from_millis(50), "{best:?}");
}

#[test]
fn ctrl_c_leaves_the_view_and_the_operation_goes_on() {
    let cutover = Cutover::start(None);
    let open = cutover.ask("/slow");
    until("blue has the request", || cutover.blue.waiting.load(Ordering::SeqCst) > 0);
    cutover.good(&["shift", "50%"]);
    let mut child = cutover.command(&["promote"]).spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut text = String::new();
    // The drain is under way: the view is open.
    while !text.contains("r1 finishes 1 open request") {
        assert_ne!(out.read_line(&mut text).unwrap(), 0, "{text}");
    }
    interrupt(&child);
    let ended = child.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(0));
    let said = String::from_utf8(ended.stderr).unwrap();
    assert!(said.contains("cutover wait o2"), "{said}");
    assert_eq!(cutover.greens(10), 10, "the operation went on");

    let waiting = cutover.command(&["wait", "o2"]).spawn().unwrap();
    cutover.blue.is_slow.store(false, Ordering::SeqCst);
    let waited = waiting.wait_with_output().unwrap();
    let text = String::from_utf8(waited.stdout).unwrap();
    assert!(text.contains("o2 is done."), "{text}");
    drop(open);
}

fn interrupt(child: &std::process::Child) {
    let pid = rustix::process::Pid::from_child(child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
}

#[test]
fn a_rollback_may_drop_what_is_open_at_once_or_later() {
    let cutover = Cutover::start(None);
    cutover.good(&["shift", "100%"]);
    let slow = || {
        let before = cutover.green.waiting.load(Ordering::SeqCst);
        let open = cutover.ask("/slow");
        until("green has it", || cutover.green.waiting.load(Ordering::SeqCst) > before);
        open
    };
    let cut_short = |open: TcpStream| {
        let mut text = String::new();
        BufReader::new(open).read_line(&mut text).unwrap();
        assert!(text.contains(" 503 "), "{text:?}");
    };
    let open = slow();
    let back = cutover.good(&["rollback", "--drop-in-flight"]);
    assert!(back.contains("DONE: all traffic is on r1"), "{back}");
    assert!(back.contains("r2: 1 open request and 0 WebSockets cut, as asked"), "{back}");
    cut_short(open);

    cutover.good(&["undo", "o2"]);
    let open = slow();
    cutover.good(&["rollback", "--detach"]);
    assert!(cutover.good(&["rollback"]).contains("Nothing to do"));
    let later = cutover.good(&["rollback", "--drop-in-flight"]);
    assert!(later.contains("has all traffic already; r2"), "{later}");
    assert!(later.contains("1 open request and 0 WebSockets cut"), "{later}");
    cut_short(open);
    assert_eq!(cutover.greens(20), 0);
}

#[test]
fn a_release_that_never_proved_itself_gets_everything_only_by_force() {
    let cutover = Cutover::start(None);
    let refused = cutover.run(&["rollback", "--to", "r2"]);
    assert_eq!(refused.exit, 4, "{refused:?}");
    for words in ["r2 never proved itself", "NOTHING WAS CHANGED", "rollback --to r2 --force"] {
        assert!(refused.err.contains(words), "{refused:?}");
    }
    assert_eq!(cutover.greens(20), 0);
    cutover.good(&["rollback", "--to", "r2", "--force"]);
    assert_eq!(cutover.greens(20), 20);
    assert!(cutover.good(&["events"]).contains("rollback from r1 to r2, by force"));
}

#[test]
fn a_killed_daemon_comes_back_with_the_same_split() {
    let mut cutover = Cutover::start(None);
    for weight in ["30%", "100%"] {
        cutover.good(&["shift", weight]);
        let before = cutover.good(&["status", "--json"]);
        cutover.kill();
        cutover.serve();
        let after = cutover.good(&["status", "--json"]);
        let shares = |text: &str| {
            let status: Value = serde_json::from_str(text).unwrap();
            let app = &status["apps"][0];
            ["serves", "standby"].map(|side| {
                (
                    app[side]["color"].clone(),
                    app[side]["weight"].clone(),
                    app[side]["release"].clone(),
                )
            })
        };
        assert_eq!(shares(&after), shares(&before));
    }
    assert_eq!(cutover.greens(20), 20);
}

#[test]
fn a_second_daemon_is_refused_and_named_the_first() {
    let cutover = Cutover::start(None);
    let ran = cutover.run(&["serve"]);
    assert_eq!(ran.exit, 1, "{ran:?}");
    assert!(ran.err.contains(&format!("process {}", cutover.pid())), "{ran:?}");
    assert_eq!(cutover.greens(5), 0);
}

#[test]
fn a_second_daemon_on_the_same_port_is_refused_and_named_the_first() {
    let cutover = Cutover::start(None);
    let mut second = cutover.command(&["serve"]);
    second.env("CUTOVER_STATE__PATH", cutover.path("other-state"));
    second.env("CUTOVER_ADMIN__SOCKET", cutover.path("other.sock"));
    let ended = second.output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(1), "{said}");
    let port = format!("port {} is taken by", cutover.address.port());
    assert!(said.contains(&port), "{said}");
    assert!(said.contains(&format!("pid {}", cutover.pid())), "{said}");
    assert_eq!(cutover.greens(5), 0);
}

#[test]
fn a_rollback_on_a_full_disk_holds_and_survives_a_kill() {
    let disk = SmallDisk::mount("size=3m,mode=0700");
    let mut cutover = Cutover::start(Some(&disk.path));
    cutover.good(&["shift", "100%"]);
    assert_eq!(cutover.greens(10), 10);
    let long = "x".repeat(1_900);
    let mut fillers = Vec::new();
    // What a refused write gives back is filled, too, until the next one is refused at once.
    until("the disk is full for every write", || {
        fillers.push(disk.fill());
        let refused = |_| cutover.run(&["note", "o1", &long]).exit != 0;
        (0..3).all(refused)
    });

    let weights = || std::fs::read(disk.path.join("weights")).unwrap();
    let before = weights();
    let ran = cutover.run(&["rollback", "--detach"]);
    assert_eq!(ran.exit, 0, "{ran:?}");
    assert!(ran.out.contains("DONE: all traffic is on r1"), "{ran:?}");
    let is_said = ran.out.contains("Not in the journal yet") || ran.out.contains("NOT RECORDED");
    assert!(is_said, "{ran:?}");
    assert_eq!(cutover.greens(50), 0);

    // A slow disk may still be at the weights file.
    until("the weights file has it", || weights() != before);
    cutover.kill();
    fillers.iter().for_each(|filler| std::fs::remove_file(filler).unwrap());
    cutover.serve();
    assert_eq!(cutover.greens(50), 0);
    let status = cutover.good(&["status"]);
    assert!(status.contains("serves     r1"), "{status}");
    assert!(cutover.good(&["events"]).contains("all to blue"));
}

#[test]
fn a_rollback_without_a_daemon_starts_it_on_the_former_release() {
    let mut cutover = Cutover::start(None);
    cutover.good(&["shift", "100%"]);
    let refused = cutover.run(&["rollback", "--offline"]);
    assert_eq!(refused.exit, 4, "{refused:?}");
    assert!(refused.err.contains(&format!("process {}", cutover.pid())), "{refused:?}");
    assert_eq!(cutover.greens(10), 10);

    cutover.kill();
    let hint = cutover.run(&["rollback"]);
    assert!(hint.err.contains("sudo cutover rollback --offline"), "{hint:?}");
    assert!(hint.err.contains("the service with r1 at 100 % instead of r2"), "{hint:?}");
    assert!(hint.err.contains("sudo cutover leave --offline"), "{hint:?}");
    let ran = cutover.run(&["rollback", "--offline"]);
    let started = Started(cutover.path("state/lock"));
    assert_eq!(ran.exit, 0, "{ran:?}");
    assert!(ran.out.contains("with r1 at 100 % instead of r2"), "{ran:?}");
    assert!(ran.out.contains("DONE: the daemon serves; all traffic is on r1."), "{ran:?}");
    assert_eq!(cutover.greens(30), 0);
    let status = cutover.good(&["status"]);
    assert!(status.contains("serves     r1"), "{status}");
    cutover.good(&["undo", "o2"]);
    assert_eq!(cutover.greens(30), 30);
    drop(started);
}

/// A daemon that a command started; ended by the number that stands in its lock.
pub(crate) struct Started(pub(crate) std::path::PathBuf);

impl Drop for Started {
    fn drop(&mut self) {
        let text = std::fs::read_to_string(&self.0).unwrap_or_default();
        let number = text.lines().next().and_then(|line| line.strip_prefix("pid "));
        let pid = number.and_then(|n| n.parse().ok()).and_then(rustix::process::Pid::from_raw);
        if let Some(pid) = pid {
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap_or(());
        }
    }
}

#[test]
fn an_app_without_containers_is_neither_adopted_nor_left() {
    let cutover = Cutover::start(None);
    for words in [&["adopt", "--dry-run"][..], &["adopt", "--yes"], &["leave", "--yes"]] {
        let ran = cutover.run(words);
        assert_eq!(ran.exit, 4, "{words:?}: {ran:?}");
        assert!(ran.err.contains("NOTHING WAS CHANGED"), "{words:?}: {ran:?}");
    }
}
