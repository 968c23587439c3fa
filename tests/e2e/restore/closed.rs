//! A live database that a killed daemon left closed for connections is opened without anybody's
//! doing, as soon as PostgreSQL answers.

use std::time::Duration;

use super::shop::Shop;
use crate::harness::eventually;

#[test]
fn a_database_closed_by_a_killed_daemon_is_opened_when_postgresql_comes_back() {
    let mut shop = Shop::with_a_bad_migration();
    shop.dies_in_a_restore("restore.closed");
    assert!(shop.closed() > 0, "the crash point closes it");
    shop.server("stop");
    // It waits for a person: nobody tells it to go on, and the database is opened all the same.
    shop.fronted.cutover.serve_with(&["--wait"]);
    let operation = shop.waiting_operation("restore.closed");
    shop.server("start");
    eventually("the live database is open", Duration::from_secs(60), || {
        (shop.closed() == 0).then_some(())
    });
    shop.fronted.serves("v1");
    shop.run(&["continue", &operation]).succeeded();
    shop.at_rest_after("continue");
    assert!(!shop.has_migration("_note_v2"));
}

#[test]
fn a_deploy_killed_in_its_clone_leaves_no_closed_database_and_no_half_restore_point() {
    let mut shop = Shop::deployed_with("restore_point = \"clone\"");
    let before = shop.databases();
    shop.fronted.shop.release("migration");
    shop.dies_at("clone.closed", &["deploy", "--at-once"]);
    assert_eq!(shop.closed(), 1, "the live one");
    shop.fronted.cutover.serve();
    eventually("the live database is open", Duration::from_secs(30), || {
        (shop.closed() == 0).then_some(())
    });
    shop.nothing_runs_after("clone.closed");
    shop.fronted.serves("v1");
    // Killed later, when the copy is there and not on record.
    shop.dies_at("point.made", &["deploy", "--at-once"]);
    shop.fronted.cutover.serve();
    eventually("the restore point is dropped", Duration::from_secs(30), || {
        (shop.databases() == before).then_some(())
    });
    shop.nothing_runs_after("point.made");
    shop.run(&["deploy", "--at-once"]).succeeded().says(&["every session of the database"]);
    shop.fronted.serves("v2");
}
