//! Migrations: tried on a copy first, classified, refused where they fail or break what serves, and
//! in the way of a rollback where they take something away.

mod classes;
mod command;
mod down;
mod kills;
mod site;

use site::Site;

#[test]
fn a_migration_that_only_adds_is_tried_on_a_copy_and_leaves_the_way_back_open() {
    let site = Site::deployed();
    let databases = site.databases();
    site.migration("20261123000000_cart", "ALTER TABLE orders ADD COLUMN cart text;");
    let ran = site.fronted.deploy("good", &["--at-once"]).succeeded();
    ran.says(&["20261123000000_cart: tried on a copy: only adds, r1 works with it. Applied"]);
    site.fronted.serves("v2");
    let fresh: Vec<_> = site.databases().into_iter().filter(|n| !databases.contains(n)).collect();
    assert_eq!(fresh, ["shop__point_r2"], "the copy is gone");
    assert!(site.beside().is_empty(), "containers of the rehearsal: {:?}", site.beside());

    let ran = site.run(&["rollback"]).succeeded();
    ran.says(&[
        "NOT rolled back: the database.",
        "r2 ran 1 migration (only adds, r1 works with it) and has written since",
    ]);
    site.fronted.serves("v1");
}

#[test]
fn a_url_that_compose_fills_in_is_led_to_the_copy() {
    let site = Site::deployed();
    let file = |name: &str| std::fs::read_to_string(site.fronted.shop.path().join(name)).unwrap();
    let url = "postgres://shop:${POSTGRES_PASSWORD}@postgres:5432/shop";
    // In an env file, from `.env` beside the compose file.
    let plain = file("backend/.env");
    let env: Vec<_> = plain.lines().filter(|line| !line.starts_with("DATABASE_URL")).collect();
    let env = env.join("\n");
    site.fronted.shop.write("backend/.env", &format!("{env}\nDATABASE_URL={url}\n"));
    // In the compose file, with a sign that is written twice there.
    let with = format!(
        "    env_file: backend/.env\n    environment:\n      \
         REPORTS_URL: {url}?application_name=shop$$1\n"
    );
    let compose = file("compose.yml").replace("    env_file: backend/.env\n", &with);
    site.fronted.shop.write("compose.yml", &compose);
    site.migration("20261123000000_cart", "ALTER TABLE orders ADD COLUMN cart text;");
    let ran = site.fronted.deploy("good", &["--at-once"]).succeeded();
    ran.says(&["20261123000000_cart: tried on a copy: only adds, r1 works with it. Applied"]);
    assert!(site.has_column("cart") && site.beside().is_empty());
}

#[test]
fn a_migration_that_takes_away_closes_the_way_back_and_says_so_first() {
    let site = Site::deployed();
    site.migration("20261126000000_region", "ALTER TABLE orders DROP COLUMN made_at;");
    let ran = site.fronted.deploy("good", &["--at-once"]).succeeded();
    let said = ran.printed.both();
    let first = said.find("This closes the way back").expect("it says so");
    let applied = said.find("Applied").expect("it is applied");
    assert!(first < applied, "first of all: {said}");
    ran.says(&["dropped orders.made_at", "a plain rollback to r1 is refused"]);
    site.fronted.serves("v2");

    let refused = site.run(&["rollback"]).exits(4);
    refused.says(&[
        "r1 cannot run on today's database: r2 dropped orders.made_at. NOTHING WAS CHANGED.",
        "cutover rollback --database",
        "cutover maintenance on",
        "cutover rollback --force",
    ]);
    assert_eq!(site.fronted.release_now(), "v2");

    // A person may all the same, and come forward again.
    let ran = site.run(&["rollback", "--force"]).succeeded();
    site.fronted.serves("v1");
    let operation = crate::harness::fronted::operation_of(&ran.printed.both());
    site.run(&["undo", &operation]).succeeded();
    site.fronted.serves("v2");

    let ran = site.run(&["rollback", "--database", "--max-loss", "1000000"]).succeeded();
    ran.says(&["traffic goes back with the data, not before", "DONE"]);
    site.fronted.serves("v1");
    assert!(site.has_column("made_at"), "the old data has the old schema");
}

#[test]
fn a_migration_that_fails_is_refused_before_the_live_database_meets_it() {
    let site = Site::deployed();
    site.fronted.deploy("good", &["--at-once"]).succeeded();
    let before = site.applied();
    let databases = site.databases();
    site.migration("20261127000000_broken", "ALTER TABLE nothing ADD COLUMN x text;");
    let refused = site.fronted.deploy("good", &["--at-once"]).exits(4);
    refused.says(&[
        "fails on a copy of the database; the live one was not touched",
        "20261127000000_broken",
        "r2 serves as before",
        "NOTHING WAS CHANGED",
    ]);
    assert_eq!(site.applied(), before);
    assert_eq!(site.databases(), databases, "copy and restore point are gone");
    // The old standby is where it was: traffic goes back at once.
    site.run(&["rollback"]).succeeded();
    site.fronted.serves("v1");
}

#[test]
fn a_command_that_migrates_the_live_database_in_its_rehearsal_is_told_with_the_way_back() {
    let mut site = Site::deployed();
    site.migrates_what_a_file_names();
    site.migration("20261128000000_cart", "ALTER TABLE orders ADD COLUMN cart text;");
    let failed = site.fronted.deploy("good", &["--at-once"]).exits(1);
    let both = failed.printed.both();
    assert!(!both.contains("NOTHING WAS CHANGED"), "{both}");
    failed.says(&["has migrated the live database: 20261128000000_cart", "r1 serves as before"]);
    assert!(site.has_column("cart"), "it has met the live database");
    assert_eq!(site.fronted.release_now(), "v1");
    let kept = |name: &String| name == "shop__point_r2";
    assert!(site.databases().iter().any(kept), "the restore point from before it is kept");
}

#[test]
fn a_migration_that_would_fail_what_serves_is_refused() {
    let mut site = Site::deployed();
    site.probes("/api/orders/count");
    site.migration("20261128000000_sales", "ALTER TABLE orders RENAME TO sales;");
    let refused = site.fronted.deploy("good", &["--at-once"]).exits(4);
    refused.says(&["renamed orders to sales", "r1 serves, and would fail", "maintenance on"]);
    assert!(site.has_column("item"), "the live database was not touched");
    assert_eq!(site.fronted.release_now(), "v1");
    assert!(site.beside().is_empty(), "containers of the rehearsal: {:?}", site.beside());
}
