//! kill -9 while the release that must not write has the traffic until the exchange, as in the
//! undoing of a restore: it is frozen then, and must not stay so.

use std::time::Duration;

use super::shop::Shop;
use crate::harness::eventually;
use crate::harness::fronted::operation_of;

const BACK: &[&str] = &["rollback", "--database", "--max-loss", "1000000"];

#[test]
fn an_undo_killed_before_its_exchange_goes_on_to_its_end() {
    check_undone(&["restore.exchange.begun", "restore.closed", "restore.swapping"]);
}

#[test]
fn an_undo_killed_behind_its_exchange_goes_on_to_its_end() {
    check_undone(&["restore.swapped", "restore.check.begun"]);
}

/// At each of these places the daemon dies in an undo; started again it brings it to its end.
fn check_undone(places: &[&str]) {
    let mut shop = Shop::with_a_long_hold();
    let spoilt = shop.fingerprint("shop");
    for place in places {
        let restore = operation_of(&shop.run(BACK).succeeded().printed.both());
        shop.fronted.serves("v1");
        shop.dies_at(place, &["undo", &restore, "--max-loss", "1000000"]);
        shop.fronted.cutover.serve();
        shop.at_rest_after(place);
        assert_eq!(shop.fingerprint("shop"), spoilt, "{place}: the way back");
        shop.fronted.serves("v2");
    }
}

#[test]
fn a_release_frozen_by_a_killed_daemon_serves_while_the_restore_waits_for_a_person() {
    let mut shop = Shop::with_a_long_hold();
    let restore = operation_of(&shop.run(BACK).succeeded().printed.both());
    let old = shop.fingerprint("shop");
    shop.dies_at("restore.closed", &["undo", &restore, "--max-loss", "1000000"]);
    shop.fronted.cutover.serve_with(&["--wait"]);
    let operation = shop.waiting_operation("restore.closed");
    shop.fronted.serves("v1");
    eventually("every database is open", Duration::from_secs(30), || {
        (shop.closed() == 0).then_some(())
    });
    assert!(shop.running_in("blue") > 0, "v2 was started for the exchange");
    let said = shop.run(&["abort", &operation]).succeeded().printed.both();
    assert!(said.contains("started for it, is stopped again"), "{said}");
    assert!(!said.contains("as it was before"), "{said}");
    shop.at_rest_after("abort");
    assert_eq!(shop.running_in("blue"), 0, "v2 would write into data that it must not see");
    shop.fronted.serves("v1");
    assert_eq!(shop.fingerprint("shop"), old);
    shop.run(&["undo", &restore, "--max-loss", "1000000"]).succeeded();
    shop.fronted.serves("v2");
    shop.assert_at_rest();
}
