//! `migrate status` and `migrate down`: the way back by down scripts, tried on a copy first; and
//! kills in the middle of it.

use super::site::Site;

const CART: &str = "20261123000000_cart";

/// v2 brought a migration with this down script and serves.
fn with_down(down: Option<&str>) -> Site {
    let site = Site::deployed();
    site.migration(CART, "ALTER TABLE orders ADD COLUMN cart text;");
    if let Some(down) = down {
        site.script(CART, "down.sql", down);
    }
    site.fronted.deploy("good", &["--at-once"]).succeeded();
    site.fronted.serves("v2");
    site
}

#[test]
fn down_scripts_bring_the_old_schema_back_and_keep_the_rows() {
    let site = with_down(Some("ALTER TABLE orders DROP COLUMN cart;"));
    site.observe("shop").ask("INSERT INTO orders (item, release) VALUES ('cup', 'v2')");
    let status = site.run(&["migrate", "status"]).succeeded();
    status.says(&[CART, "r2", "only adds, r1 works with it", "way back: cutover migrate down"]);
    let plan = site.run(&["migrate", "down", "--dry-run"]).succeeded();
    plan.says(&["takes the migrations of r2 back", CART, "Nothing has happened yet"]);
    let asked = site.run(&["migrate", "down"]).exits(4);
    asked.says(&["NOTHING WAS CHANGED"]);
    assert!(site.has_column("cart"));

    site.run(&["rollback"]).succeeded();
    site.fronted.serves("v1");
    let ran = site.run(&["migrate", "down", "--yes"]).succeeded();
    ran.says(&["byte for byte what it was before", "taken back", "DONE"]);
    assert!(!site.has_column("cart"));
    assert!(!site.applied().contains(CART), "its row is gone: {}", site.applied());
    let rows = site.observe("shop").number("SELECT count(*) FROM orders WHERE item = 'cup'");
    assert_eq!(rows, 1, "rows that were written since stay");
    site.at_rest("migrate down");
    let none = site.run(&["migrate", "down", "--yes"]).exits(4);
    none.says(&["NOTHING WAS CHANGED"]);
}

#[test]
fn a_down_script_that_does_not_bring_the_schema_back_is_refused() {
    let script = "ALTER TABLE orders ALTER COLUMN cart SET DEFAULT '';";
    check_refused(script, "is not what it was before it");
}

#[test]
fn a_down_script_that_fails_is_refused() {
    check_refused("ALTER TABLE orders DROP COLUMN basket;", "fail on a copy");
}

#[test]
fn a_down_script_that_ends_its_transaction_is_refused() {
    let script = "ALTER TABLE orders DROP COLUMN cart; COMMIT; BEGIN;";
    check_refused(script, "ends its transaction");
}

fn check_refused(script: &str, why: &str) {
    let site = with_down(Some(script));
    let refused = site.run(&["migrate", "down", "--yes"]).exits(4);
    refused.says(&[why, "NOTHING WAS CHANGED"]);
    assert!(site.has_column("cart"), "{script}");
    assert!(site.applied().contains(CART), "{script}");
    site.at_rest("a refused migrate down");
}

#[test]
fn a_missing_down_script_stands_on_the_ladder() {
    let site = with_down(None);
    let missing = format!("impossible: {CART} has no down.sql");
    let refused = site.run(&["migrate", "down", "--yes"]).exits(4);
    refused.says(&[&missing, "cutover rollback --database"]);
    let ladder = site.run(&["rollback", "--database", "--dry-run"]).succeeded();
    ladder.says(&["down scripts of r2", &missing, "restore point before r2"]);
}

#[test]
fn a_migrate_down_that_is_killed_is_wholly_done_or_never_was() {
    let mut site = with_down(Some("ALTER TABLE orders DROP COLUMN cart;"));
    site.run(&["rollback"]).succeeded();
    for (place, is_done) in
        [("down.copied", false), ("down.tried", false), ("down.begun", false), ("down.ran", true)]
    {
        site.dies_in(&["migrate", "down", "--yes"], place);
        assert_eq!(site.has_column("cart"), !is_done, "{place}");
        assert_eq!(site.applied().contains(CART), !is_done, "{place}");
    }
    let none = site.run(&["migrate", "down", "--yes"]).exits(4);
    none.says(&["No release has brought a migration that the database still has"]);
    site.fronted.serves("v1");
}
