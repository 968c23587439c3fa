//! `rollback --at TIME`: it happens then and not before, outlives the daemon, can be taken back,
//! and is dropped, with a word, where there is nothing to roll back any more.

use std::time::{Duration, Instant};

use crate::daemon::{Cutover, until};

fn is_green(cutover: &Cutover) -> bool {
    cutover.greens(20) == 20
}

/// Green serves everyone, and a rollback to r1 is set.
fn set_for(at: &str) -> Cutover {
    let cutover = Cutover::start(None);
    cutover.good(&["shift", "100%"]);
    let said = cutover.good(&["rollback", "--at", at]);
    assert!(said.contains("r1 gets all traffic at"), "{said}");
    assert!(said.contains("in the place of r2. Nothing has changed yet."), "{said}");
    assert!(is_green(&cutover), "it happened at once");
    cutover
}

fn events(cutover: &Cutover) -> String {
    cutover.good(&["events", "--last", "100"])
}

#[test]
fn a_rollback_set_for_later_happens_then_also_after_a_kill() {
    let mut cutover = set_for("+10s");
    let status = cutover.good(&["status"]);
    assert!(status.contains("r1 gets all traffic at") && status.contains("--at never"), "{status}");
    cutover.kill();
    cutover.serve();
    assert!(is_green(&cutover), "it happened before its time");
    until("it happened", || !is_green(&cutover));
    assert_eq!(cutover.greens(20), 0);
    until("it is done with", || events(&cutover).contains("no rollback is set any more"));
    let said = events(&cutover);
    assert_eq!(said.matches("rollback from r2 to r1").count(), 2, "set, and carried out:\n{said}");
    assert!(!cutover.good(&["status"]).contains("--at never"));
    // It is a rollback like any other.
    let operation = said.split("any more: ").nth(1).and_then(|rest| rest.split(' ').next());
    cutover.good(&["undo", operation.unwrap()]);
    assert!(is_green(&cutover));
}

#[test]
fn a_rollback_set_for_later_is_taken_back_or_dropped_with_a_word() {
    let cutover = set_for("+4s");
    let past = Instant::now() + Duration::from_secs(6);
    assert!(cutover.good(&["rollback", "--at", "never"]).contains("Taken back: r1 does not get"));
    assert!(cutover.good(&["rollback", "--at", "never"]).contains("Nothing to do"));
    until("its time has passed", || {
        assert!(is_green(&cutover), "it was taken back");
        Instant::now() > past
    });

    // Set again, and overtaken by a rollback at once: nothing is left to do.
    cutover.good(&["rollback", "--at", "+1h"]);
    cutover.good(&["rollback"]);
    until("it is dropped", || events(&cutover).contains("has nothing left to do: r1 serves"));
    let again = cutover.run(&["rollback", "--at", "+1h", "--to", "r1"]);
    assert!(again.out.contains("Nothing to do"), "{again:?}");
    // The second one takes the place of the first.
    cutover.good(&["shift", "100%"]);
    for at in ["+1h", "+2h"] {
        cutover.good(&["rollback", "--at", at]);
    }
    assert_eq!(cutover.good(&["status"]).matches("--at never").count(), 1);
}

#[test]
fn a_time_that_cannot_be_meant_is_refused() {
    let cutover = Cutover::start(None);
    cutover.good(&["shift", "100%"]);
    for (at, exit, word) in [
        ("2020-01-01T00:00:00Z", 4, "is past"),
        ("+800h", 4, "more than a month away"),
        ("25:00", 2, "is not a time: write 03:00"),
        ("yesterday 03:00", 2, "is not a time"),
    ] {
        let ran = cutover.run(&["rollback", "--at", at]);
        assert_eq!(ran.exit, exit, "{at}: {ran:?}");
        assert!(ran.err.contains(word), "{at}: {ran:?}");
    }
    let ran = cutover.run(&["rollback", "--at", "+1h", "--to", "r9"]);
    assert_ne!(ran.exit, 0, "{ran:?}");
    for with in ["--database", "--offline", "--rebuild"] {
        assert_eq!(cutover.run(&["rollback", "--at", "+1h", with]).exit, 2, "{with}");
    }
    assert!(is_green(&cutover));
    assert!(!cutover.good(&["status"]).contains("--at never"));
}
