//! The database goes back with the release: traffic first, then a plan, a number, the exchange.

mod busy;
mod closed;
mod composed;
mod fallen;
pub(crate) mod kills;
mod majors;
mod makes_way;
mod refusals;
mod server;
pub(crate) mod shop;
mod twice;
mod watched;

use shop::Shop;

#[test]
fn rollback_with_the_database_from_the_restore_point_fails_no_request() {
    let shop = Shop::with_a_bad_migration();
    let load = shop.fronted.load(200, 200);
    load.wait_for(400);
    let plan = shop.run(&["rollback", "--database", "--dry-run"]).succeeded();
    plan.says(&["restore point before r2", "exact", "orders", "Nothing has happened yet"]);
    assert_eq!(shop.fronted.release_now(), "v2", "a look changes nothing");

    let ran = shop.run(&["rollback", "--database", "--max-loss", "1000000"]).succeeded();
    ran.clone().says(&["1/4 dump", "2/4 copy", "3/4 exchange", "exchanged.", "0 failed", "DONE"]);
    ran.clone().says(&["4/4 check", "integrity 1 of 1"]);
    let said = ran.printed.both();
    assert!(said.rfind("3/4 exchange") < said.find("4/4 check"), "the lines are in order:\n{said}");
    load.wait_for(400);
    let records = load.stop();
    records.assert_none_failed();
    shop.fronted.serves("v1");
    assert!(!shop.has_migration("_note_v2"), "the old data has the old schema");
    assert_eq!(shop.spoilt_orders("shop"), 0);
    // What was live is kept, whole.
    let aside = shop.aside();
    assert!(shop.spoilt_orders(&aside) > 0);
    shop.assert_at_rest();
    let held = shop.longest_wait(&ran.printed.both());
    eprintln!("requests waited {held:.0} ms");
    // Two other tests run beside this one; how long it takes alone is in `alone::large`.
    assert!(held < 5_000.0, "requests waited {held} ms");
}

#[test]
fn an_undone_restore_is_exactly_what_was_before() {
    let shop = Shop::with_a_bad_migration();
    let before = shop.fingerprint("shop");
    let ran = shop.run(&["rollback", "--database", "--max-loss", "1000000"]).succeeded();
    let operation = crate::harness::fronted::operation_of(&ran.printed.both());
    shop.fronted.serves("v1");
    assert_ne!(shop.fingerprint("shop"), before);

    let refused = shop.run(&["undo", &operation]);
    assert_eq!(refused.printed.code, 4, "nobody accepted a loss: {}", refused.printed.both());
    shop.run(&["undo", &operation, "--max-loss", "1000000"]).succeeded();
    shop.fronted.serves("v2");
    assert_eq!(shop.fingerprint("shop"), before);
    // And again, with clients: the release that comes back is ready before any of them waits.
    let ran = shop.run(&["rollback", "--database", "--max-loss", "1000000"]).succeeded();
    let operation = crate::harness::fronted::operation_of(&ran.printed.both());
    let load = shop.fronted.load(50, 100);
    load.wait_for(100);
    shop.run(&["undo", &operation, "--max-loss", "1000000"]).succeeded();
    load.wait_for(100);
    load.stop().assert_none_failed();
    shop.fronted.serves("v2");
    shop.assert_at_rest();
}

#[test]
fn a_loss_above_what_was_accepted_changes_nothing() {
    let shop = Shop::with_a_bad_migration();
    let before = shop.fingerprint("shop");
    let ran = shop.run(&["rollback", "--database", "--max-loss", "0"]);
    assert_eq!(ran.printed.code, 4, "{}", ran.printed.both());
    // Traffic went back before.
    ran.says(&[
        "rows would be lost, 0 are allowed",
        "The database is as it was; traffic went back",
    ]);
    shop.fronted.serves("v1");
    assert_eq!(shop.fingerprint("shop"), before);
    shop.assert_at_rest();
}
