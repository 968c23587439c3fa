//! kill -9 of the daemon in the middle of work on backups: started again it goes on, or is given
//! up; either way every backup is whole or not there, and no database is left.

use std::time::Duration;

use super::RARELY;
use super::imports::{Elsewhere as _, with_orders};
use super::yard::Yard as _;
use crate::harness::eventually;
use crate::harness::fronted::operation_of;
use crate::restore::kills::named;
use crate::restore::shop::Shop;

/// What a killed operation is when it was given up.
#[derive(Clone, Copy, PartialEq, Eq)]
enum After {
    GoesOn,
    GivenUp,
}

const BACKUP: &[&str] =
    &["upkeep.recorded", "upkeep.begun", "backup.dumped", "backup.checked", "backup.kept"];
const DRILL: &[&str] = &["beside.empty", "beside.restored", "drill.checked", "drill.dropped"];
const IMPORT: &[&str] = &["import.empty", "import.role", "import.poured", "import.dropped"];
const ASIDE: &[&str] = &["beside.restored", "aside.left"];

#[test]
fn a_killed_backup_goes_on_to_one_backup() {
    let mut shop = Shop::deployed();
    for (number, place) in BACKUP.iter().enumerate() {
        shop.dies(place, &["backup", "create"], After::GoesOn);
        assert_eq!(shop.ids().len(), number + 1, "{place}: {:?}", shop.ids());
        shop.run(&["backup", "verify", "newest"]).succeeded();
    }
    shop.assert_at_rest();
}

#[test]
fn a_killed_backup_is_given_up_without_a_trace() {
    let mut shop = Shop::deployed();
    shop.run(&["backup", "create"]).succeeded();
    for place in BACKUP {
        shop.dies(place, &["backup", "create"], After::GivenUp);
        assert_eq!(shop.ids(), ["b-1"], "{place}");
    }
    shop.assert_at_rest();
}

#[test]
fn a_killed_drill_leaves_no_database() {
    let mut shop = Shop::deployed();
    shop.run(&["backup", "create"]).succeeded();
    let databases = shop.databases();
    for place in DRILL {
        for after in [After::GoesOn, After::GivenUp] {
            shop.dies(place, &["drill"], after);
            assert_eq!(shop.databases(), databases, "{place}");
        }
    }
    shop.run(&["drill"]).succeeded();
    shop.assert_at_rest();
}

#[test]
fn a_killed_restore_beside_is_there_whole_or_not_at_all() {
    let mut shop = Shop::deployed();
    shop.run(&["backup", "create"]).succeeded();
    let (databases, data) = (shop.databases(), shop.fingerprint("shop"));
    for place in ASIDE {
        let typed = ["backup", "restore", "b-1", "--aside", "look"];
        shop.dies(place, &typed, After::GivenUp);
        assert_eq!(shop.databases(), databases, "{place}");
        let operation = shop.dies(place, &typed, After::GoesOn);
        assert_eq!(shop.fingerprint("look"), data, "{place}");
        shop.run(&["db", "retire", &operation, "--yes"]).succeeded();
        assert_eq!(shop.databases(), databases, "{place}");
    }
    shop.assert_at_rest();
}

#[test]
fn a_killed_prune_leaves_no_half_of_a_backup() {
    let mut shop = Shop::deployed();
    let places = [("prune.removed", After::GivenUp), ("prune.renamed", After::GoesOn)];
    for _ in 0..3 {
        shop.run(&["backup", "create"]).succeeded();
    }
    let config = shop.fronted.shop.path().join("cutover.toml");
    let text = std::fs::read_to_string(&config).expect("the file");
    let with_rule = text.replace("name = \"shop\"\n", &format!("name = \"shop\"\n{RARELY}\n"));
    std::fs::write(&config, with_rule).expect("a write");
    for (place, after) in places {
        shop.dies(place, &["backup", "prune", "--yes"], after);
        let left = shop.ids();
        assert!(left.last().is_some_and(|id| id == "b-3"), "{place}: {left:?}");
        shop.run(&["backup", "verify", "--all"]).succeeded();
        // One was gone when it was given up; the rest goes when it goes on.
        let wanted: &[&str] = if after == After::GivenUp { &["b-2", "b-3"] } else { &["b-3"] };
        assert_eq!(left, wanted, "{place}");
    }
    shop.assert_at_rest();
}

#[test]
fn a_killed_import_is_one_backup_or_none() {
    let mut shop = with_orders();
    let databases = shop.databases();
    let file = shop.dumped().display().to_string();
    for (number, place) in IMPORT.iter().enumerate() {
        let typed = ["backup", "import", file.as_str()];
        shop.dies(place, &typed, After::GivenUp);
        assert_eq!(shop.ids().len(), number, "{place}");
        shop.dies(place, &typed, After::GoesOn);
        assert_eq!(shop.ids().len(), number + 1, "{place}");
        assert_eq!(shop.databases(), databases, "{place}");
        shop.assert_no_role_is_left();
    }
    shop.assert_at_rest();
}

#[test]
fn a_killed_retirement_loses_nothing() {
    let mut shop = Shop::with_a_bad_migration();
    let ran = shop.run(&["rollback", "--database", "--max-loss", "1000000"]).succeeded();
    let (operation, aside) = (operation_of(&ran.printed.both()), shop.aside());
    let data = shop.fingerprint(&aside);
    let typed = ["db", "retire", operation.as_str(), "--yes"];
    for (number, place) in ["retire.dumped", "retire.dropping"].into_iter().enumerate() {
        shop.dies(place, &typed, After::GivenUp);
        assert_eq!(shop.fingerprint(&aside), data, "{place}");
        assert_eq!(shop.ids().len(), number + 2, "{place}: no dump of it is thrown away");
    }
    // The database is gone already: there is nothing to be given up any more.
    shop.dies("retire.dropped", &typed, After::GivenUp);
    assert!(!shop.databases().contains(&aside));
    let ids = shop.ids();
    assert_eq!(ids, ["b-1", "b-2", "b-3", "b-4"]);
    shop.run(&["backup", "restore", "b-4", "--aside", "again"]).succeeded();
    assert_eq!(shop.fingerprint("again"), data);
    shop.run(&["undo", &operation]).exits(4);
    shop.assert_at_rest();
}

impl Shop {
    /// Begins something with a daemon that dies at this place; what it was, once it is over.
    fn dies(&mut self, place: &str, typed: &[&str], after: After) -> String {
        self.fronted.cutover.stop();
        self.fronted.cutover.variable("CUTOVER_CRASH", Some(place));
        self.fronted.cutover.serve();
        let ran = self.run(typed);
        let died = [69, 1].contains(&ran.printed.code);
        assert!(died, "{place} was not reached: {}", ran.printed.both());
        self.fronted.cutover.kill();
        self.fronted.cutover.variable("CUTOVER_CRASH", None);
        let operation = match after {
            After::GoesOn => {
                self.fronted.cutover.serve();
                None
            }
            After::GivenUp => {
                self.fronted.cutover.serve_with(&["--wait"]);
                let operation = self.running().pop().expect("it waits for a person");
                self.run(&["abort", &operation]);
                Some(operation)
            }
        };
        eventually(&format!("the end of what died at {place}"), Duration::from_secs(60), || {
            self.running().is_empty().then_some(())
        });
        self.assert_nothing_half_made();
        operation.unwrap_or_else(|| self.newest_operation())
    }

    /// The newest one on record.
    fn newest_operation(&self) -> String {
        let said = self.run(&["events", "--json", "--last", "200"]).printed.stdout;
        let mut started = said.lines().rev().filter_map(|line| {
            let event: serde_json::Value = serde_json::from_str(line).ok()?;
            let is_start = event["happened"]["fact"]["fact"] == "operation_started";
            is_start.then(|| named(&event["happened"]["operation"]))
        });
        started.next().expect("an operation was begun")
    }
}
