//! A defect of Cutover's own: the task of an operation panics. The operation ends as failed, with
//! its reason; nothing stays locked, closed, frozen or waiting, and the next one goes through.

use super::shop::Shop;

#[test]
fn a_panic_in_an_operation_ends_it_as_failed_and_nothing_stays_locked() {
    let mut shop = Shop::deployed();
    let before = shop.databases();
    shop.fronted.shop.release("migration");
    shop.falls_at("point.copied", &["deploy", "--at-once"]);
    assert_eq!(shop.databases(), before, "half a restore point is left");
    shop.fronted.serves("v1");
    // A deploy that has claimed the other color.
    shop.falls_at("migrate.begun", &["deploy", "--at-once"]);
    shop.fronted.serves("v1");
    shop.falls_at("backup.dumped", &["backup", "create"]);

    shop.run(&["deploy", "--at-once"]).succeeded();
    shop.fronted.serves("v2");
    shop.write("DELETE FROM orders WHERE id % 7 = 0");
    let spoilt = shop.fingerprint("shop");
    for place in ["restore.built", "restore.closed"] {
        shop.falls_at(place, &["rollback", "--database", "--max-loss", "1000000"]);
        assert_eq!(shop.fingerprint("shop"), spoilt, "{place}");
        shop.fronted.serves("v1");
        shop.assert_at_rest();
    }
    shop.converges(&spoilt);
}

/// The names are exchanged and users write to the restored data: it is not taken from them again.
#[test]
fn a_panic_behind_the_exchange_leaves_the_restored_data_live_and_goes_on_when_told() {
    let mut shop = Shop::with_a_bad_migration();
    let spoilt = shop.fingerprint("shop");
    shop.begins_to_panic_at("restore.settle.begun");
    let load = shop.readers();
    let ran = shop.run(&["rollback", "--database", "--max-loss", "1000000"]);
    ran.exits(7).says(&["STUCK", "a defect in Cutover ended it", "cutover continue"]);
    let restored = shop.fingerprint("shop");
    assert_ne!(restored, spoilt, "it was undone without being asked");
    shop.fronted.serves("v1");
    load.stop().assert_none_failed();
    let operation = shop.running().pop().expect("it waits for a person");
    shop.ends_to_panic();
    shop.run(&["continue", &operation]).succeeded();
    shop.nothing_runs_after("continue");
    assert_eq!(shop.fingerprint("shop"), restored);
    shop.fronted.serves("v1");
    shop.assert_at_rest();
    shop.run(&["undo", &operation, "--max-loss", "1000000"]).succeeded();
    assert_eq!(shop.fingerprint("shop"), spoilt);
}

impl Shop {
    /// Runs a command whose task panics at this place, under a daemon that goes on with all else.
    fn falls_at(&mut self, place: &str, arguments: &[&str]) {
        self.begins_to_panic_at(place);
        let load = self.readers();
        let ran = self.run(arguments).exits(1);
        ran.says(&["a defect in Cutover ended it", &format!("falls at {place}"), "report it"]);
        self.nothing_runs_after(place);
        load.stop().assert_none_failed();
        // No lock is held, by the same daemon: it takes the next command.
        self.run(&["note", "o1", place]).succeeded();
        self.ends_to_panic();
    }

    fn begins_to_panic_at(&mut self, place: &str) {
        self.fronted.cutover.stop();
        self.fronted.cutover.variable("CUTOVER_CRASH", Some(&format!("panic:{place}")));
        self.fronted.cutover.serve();
    }

    fn ends_to_panic(&mut self) {
        self.fronted.cutover.stop();
        self.fronted.cutover.variable("CUTOVER_CRASH", None);
        self.fronted.cutover.serve();
    }
}
