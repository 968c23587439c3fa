//! `migrate status` and `migrate down` by commands of the release, in a container of its own.

use super::site::Site;

const CART: &str = "20261123000000_cart";
const REGION: &str = "20261124000000_region";

/// v2 brought two migrations, which its command takes back by these scripts.
fn with_undo(command: &str, cart: &str, region: &str) -> Site {
    let mut site = Site::deployed();
    site.goes_down_by(command);
    site.migration(CART, "ALTER TABLE orders ADD COLUMN cart text;");
    site.script(CART, "undo.sql", cart);
    site.migration(REGION, "ALTER TABLE orders ADD COLUMN region text;");
    site.script(REGION, "undo.sql", region);
    site.fronted.deploy("good", &["--at-once"]).succeeded();
    site.fronted.serves("v2");
    site
}

const NO_CART: &str = "ALTER TABLE orders DROP COLUMN cart;";
const NO_REGION: &str = "ALTER TABLE orders DROP COLUMN region;";

#[test]
fn a_command_takes_a_releases_migrations_back_after_it_was_tried_on_a_copy() {
    let site = with_undo("/shop migrate-down", NO_CART, NO_REGION);
    let ask = |sql: &str| site.fronted.shop.observe("shop").ask(sql);
    ask("INSERT INTO orders (item, release) VALUES ('cup', 'v2')");
    let status = site.run(&["migrate", "status"]).succeeded();
    status.says(&[
        "way back: cutover migrate down",
        "The status command says:",
        &format!("applied {REGION}"),
    ]);
    let plan = site.run(&["migrate", "down", "--dry-run"]).succeeded();
    plan.says(&[&format!("{REGION}, {CART}"), "on the live database, by: /shop migrate-down"]);
    site.run(&["rollback"]).succeeded();
    site.fronted.serves("v1");
    let ran = site.run(&["migrate", "down", "--yes"]).succeeded();
    ran.says(&["byte for byte what it was before", "taken back", "DONE"]);
    for (column, name) in [("cart", CART), ("region", REGION)] {
        assert!(!site.has_column(column), "{column}");
        assert!(!site.applied().contains(name), "its row is gone: {}", site.applied());
    }
    let cups = "SELECT count(*) FROM orders WHERE item = 'cup'";
    assert_eq!(site.fronted.shop.observe("shop").number(cups), 1, "rows written since stay");
    site.at_rest("migrate down by a command");
}

#[test]
fn a_command_that_does_not_bring_the_schema_back_never_meets_the_live_database() {
    let wrong = "ALTER TABLE orders ALTER COLUMN cart SET DEFAULT '';";
    let site = with_undo("/shop migrate-down", wrong, NO_REGION);
    let refused = site.run(&["migrate", "down", "--yes"]).exits(4);
    refused.says(&["after the down command of r2 the schema is not", "NOTHING WAS CHANGED"]);
    // One of two is not enough.
    let mut site = site;
    site.script(CART, "undo.sql", NO_CART);
    site.again_by("/shop migrate-down", "/shop migrate-down /prisma/migrations 1");
    let refused = site.run(&["migrate", "down", "--yes"]).exits(4);
    refused.says(&["NOTHING WAS CHANGED"]);
    // A command that is not there.
    site.again_by("/shop migrate-down /prisma/migrations 1", "/shop fold");
    let refused = site.run(&["migrate", "down", "--yes"]).exits(4);
    refused.says(&["the down command of r2 fails on a copy", "usage: shop", "NOTHING WAS CHANGED"]);
    assert!(site.has_column("cart") && site.has_column("region"));
    site.at_rest("a refused migrate down");
}

#[test]
fn a_down_command_that_is_killed_on_the_live_database_is_told_as_half_known() {
    let mut site = with_undo("/shop migrate-down", NO_CART, NO_REGION);
    site.run(&["rollback"]).succeeded();
    for (place, is_done) in
        [("down.copied", false), ("down.tried", false), ("down.begun", false), ("down.ran", true)]
    {
        site.dies_in(&["migrate", "down", "--yes"], place);
        assert_eq!(site.has_column("cart"), !is_done, "{place}");
        assert_eq!(site.applied().contains(CART), !is_done, "{place}");
        assert!(site.beside().is_empty(), "{place}: {:?}", site.beside());
    }
    let events = site.run(&["events", "--last", "60"]).succeeded().printed.stdout;
    assert!(events.contains("whether the command had changed something"), "{events}");
    site.fronted.serves("v1");
    site.at_rest("a killed migrate down");
}
