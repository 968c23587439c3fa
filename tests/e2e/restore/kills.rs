//! kill -9 of the daemon at every stage of a restore: started again it goes on, or is given up;
//! either way the data is exactly the old or the new, and nobody is left waiting.

use std::time::Duration;

use super::shop::Shop;
use crate::harness::{engine, eventually};

/// Places before the exchange: afterwards a restore can be given up.
const BEFORE: &[&str] = &[
    "restore.dump.asked",
    "backup.dumped",
    "restore.copy.begun",
    "restore.built",
    "restore.stop.begun",
    "restore.closed",
];

#[test]
fn a_restore_killed_before_its_exchange_goes_on_to_its_end() {
    check_resumed(&["backup.checked", "restore.verified", "restore.exchange.begun"]);
}

#[test]
fn a_restore_killed_in_its_exchange_goes_on_to_its_end() {
    check_resumed(&["restore.emptied", "restore.exchange.begun@2", "restore.swapping"]);
}

#[test]
fn a_restore_killed_behind_its_exchange_goes_on_to_its_end() {
    check_resumed(&["restore.swapped", "restore.check.begun", "restore.settle.begun"]);
}

/// The release that shall serve on the restored data does not answer there. While requests wait
/// since the start the names go back by themselves; afterwards a person reads which data is live.
#[test]
fn a_release_that_fails_behind_an_exchange_is_taken_back_or_told_of_as_it_is() {
    let mut shop = Shop::spoilt(Shop::deployed_with("max_hold = \"8s\""));
    let spoilt = shop.fingerprint("shop");
    shop.dies_in_a_restore("restore.swapped");
    assert_ne!(shop.fingerprint("shop"), spoilt);
    shop.first_release("pause");
    shop.fronted.cutover.serve();
    shop.nothing_runs_after("restore.swapped");
    let said = shop.run(&["events", "--last", "50"]).printed.stdout;
    assert!(said.contains("r1 does not pass its probe on the restored data"), "{said}");
    assert_eq!(shop.fingerprint("shop"), spoilt, "the names went back by themselves");
    shop.first_release("unpause");
    shop.fronted.serves("v1");

    shop.dies_in_a_restore("restore.swapped");
    shop.server("stop");
    shop.fronted.cutover.serve();
    // Nobody waits for ever: the hold of the start has ended.
    shop.fronted.serves("v1");
    shop.first_release("pause");
    shop.server("start");
    let said = eventually("a person is asked", Duration::from_secs(60), || {
        let said = shop.run(&["events", "--last", "20"]).printed.stdout;
        said.contains("STUCK").then_some(said)
    });
    let stuck = said.split("STUCK").nth(1).expect("what it says");
    assert!(!stuck.contains("safe") && !stuck.contains("as before"), "{stuck}");
    assert!(stuck.contains("names are exchanged"), "{stuck}");
    assert!(stuck.contains("exchanges the names back"), "{stuck}");
    shop.first_release("unpause");
    shop.run(&["abort", &shop.newest_restore()]).succeeded();
    shop.nothing_runs_after("abort");
    assert_eq!(shop.fingerprint("shop"), spoilt, "an abort gives today's data back");
    shop.fronted.serves("v1");
}

/// At each of these places the daemon dies; started again it brings the restore to its end, which
/// is undone for the next one.
fn check_resumed(places: &[&str]) {
    let mut shop = Shop::with_a_bad_migration();
    let spoilt = shop.fingerprint("shop");
    for place in places {
        shop.dies_in_a_restore(place);
        shop.fronted.cutover.serve();
        let operation = shop.at_rest_after(place);
        assert_ne!(shop.fingerprint("shop"), spoilt, "{place}: the old data is not back");
        assert!(!shop.has_migration("_note_v2"), "{place}");
        shop.fronted.serves("v1");
        shop.run(&["undo", &operation, "--max-loss", "1000000"]).succeeded();
        shop.fronted.serves("v2");
        assert_eq!(shop.fingerprint("shop"), spoilt, "{place}: the way back");
        shop.assert_at_rest();
    }
}

#[test]
fn a_restore_killed_before_the_exchange_is_given_up_without_a_trace() {
    let mut shop = Shop::with_a_bad_migration();
    let spoilt = shop.fingerprint("shop");
    let before = shop.databases();
    // What v2 has without its traffic: at the first place nothing of it was stopped.
    let mut standby = None;
    for place in BEFORE {
        shop.dies_in_a_restore(place);
        shop.fronted.cutover.serve_with(&["--wait"]);
        let operation = shop.waiting_operation(place);
        shop.run(&["abort", &operation]).succeeded();
        assert_eq!(shop.at_rest_after(place), operation);
        assert_eq!(shop.fingerprint("shop"), spoilt, "{place}");
        assert_eq!(shop.databases(), before, "{place}: something is left");
        let runs = shop.running_in("blue");
        assert_eq!(runs, *standby.get_or_insert(runs), "{place}: v2 does not stand by any more");
        assert!(runs > 0);
        // Traffic went back before anything else, and stays there: it loses nothing.
        shop.fronted.serves("v1");
    }
}

#[test]
fn a_backup_that_is_due_while_a_restore_waits_for_a_person_says_so() {
    let rarely = "0 0 1 1 *";
    let mut shop = Shop::deployed_with(&format!("backup = {{ schedule = \"{rarely}\" }}"));
    shop = Shop::spoilt(shop);
    shop.dies_in_a_restore("restore.built");
    let file = shop.fronted.shop.path().join("cutover.toml");
    let text = std::fs::read_to_string(&file).expect("a file");
    std::fs::write(&file, text.replace(rarely, "* * * * *")).expect("a write");
    shop.fronted.cutover.serve_with(&["--wait"]);
    let operation = shop.waiting_operation("restore.built");
    let told = [
        format!("waits for the end of {operation}"),
        format!("is not made: {operation} waits for a person"),
    ];
    for (words, told) in [(&["status"][..], &told[0]), (&["events", "--last", "50"], &told[1])] {
        eventually(told, Duration::from_secs(90), || {
            shop.run(words).printed.stdout.contains(told).then_some(())
        });
    }
    shop.run(&["abort", &operation]).succeeded();
    eventually("the backup is made", Duration::from_secs(60), || {
        let said = shop.run(&["events", "--last", "50"]).printed.stdout;
        said.contains("backup by schedule").then_some(())
    });
    assert!(!shop.run(&["status"]).printed.stdout.contains(&told[0]));
}

impl Shop {
    /// Begins a restore with a daemon that dies at this place.
    pub(super) fn dies_in_a_restore(&mut self, place: &str) {
        self.dies_at(place, &["rollback", "--database", "--max-loss", "1000000"]);
    }

    /// Runs a command with a daemon that dies at this place.
    pub(super) fn dies_at(&mut self, place: &str, arguments: &[&str]) {
        self.fronted.cutover.stop();
        self.fronted.cutover.variable("CUTOVER_CRASH", Some(place));
        self.fronted.cutover.serve();
        let ran = self.run(arguments);
        assert_eq!(ran.printed.code, 69, "{place} was not reached: {}", ran.printed.both());
        // It was accepted, and is taken up by the next start.
        let said = ran.printed.both();
        assert!(!said.contains("NOTHING WAS CHANGED"), "{place}: {said}");
        self.fronted.cutover.kill();
        self.fronted.cutover.variable("CUTOVER_CRASH", None);
    }

    /// Freezes the containers of r1, or lets them go on.
    fn first_release(&self, what: &str) {
        for container in engine::containers(&format!("{}-green", self.fronted.shop.project)) {
            let is_paused = || engine::inspect(&container, "{{.State.Paused}}") == "true";
            // What serves again may have been let go on already.
            if is_paused() != (what == "pause") {
                engine::docker(&[what, &container]).succeeded();
            }
        }
    }

    /// How many containers run in a color.
    pub(super) fn running_in(&self, color: &str) -> usize {
        let label =
            format!("label=com.docker.compose.project={}-{color}", self.fronted.shop.project);
        engine::docker(&["ps", "-q", "--filter", &label]).succeeded().stdout.lines().count()
    }

    /// Waits until no operation runs; the newest restore.
    pub(super) fn at_rest_after(&self, place: &str) -> String {
        self.nothing_runs_after(place);
        self.assert_at_rest();
        self.newest_restore()
    }

    /// Waits until no operation runs.
    pub(super) fn nothing_runs_after(&self, place: &str) {
        eventually(&format!("the end of what died at {place}"), Duration::from_secs(90), || {
            let status = self.status();
            status["apps"][0]["running"].as_array().is_some_and(Vec::is_empty).then_some(())
        });
    }

    pub(super) fn waiting_operation(&self, place: &str) -> String {
        eventually(&format!("{place}: it waits"), Duration::from_secs(30), || {
            let said = self.run(&["events", "--last", "20"]).printed.stdout;
            said.contains("waits for a person").then_some(())
        });
        self.newest_restore()
    }

    pub(crate) fn status(&self) -> serde_json::Value {
        let ran = self.run(&["status", "--json"]);
        serde_json::from_str(ran.printed.stdout.trim()).unwrap_or_default()
    }

    /// The number of the newest restore, by the record.
    fn newest_restore(&self) -> String {
        let found = self.newest_restore_or("");
        assert!(!found.is_empty(), "a restore was begun");
        found
    }

    /// The same; another word where none was begun.
    pub(crate) fn newest_restore_or(&self, other: &str) -> String {
        let said = self.run(&["events", "--json", "--last", "400"]).printed.stdout;
        let mut started = said.lines().rev().filter_map(|line| {
            let event: serde_json::Value = serde_json::from_str(line).ok()?;
            let fact = &event["happened"]["fact"];
            let is_restore =
                fact["fact"] == "operation_started" && fact["what"]["kind"] == "restore";
            is_restore.then(|| event["happened"]["operation"].clone())
        });
        started.next().map_or_else(|| other.to_owned(), |newest| named(&newest))
    }

    /// The operations that run or wait; a daemon that does not answer may have some.
    pub(crate) fn running(&self) -> Vec<String> {
        let status = self.status();
        let Some(running) = status["apps"][0]["running"].as_array() else {
            return vec!["unknown".to_owned()];
        };
        running.iter().map(|operation| named(&operation["operation"])).collect()
    }
}

/// An operation as a person types it.
pub(crate) fn named(operation: &serde_json::Value) -> String {
    match operation.as_u64() {
        Some(number) => format!("o{number}"),
        None => operation.as_str().expect("an operation").to_owned(),
    }
}
