//! Smoke probes and integrity queries: run before a release gets a user, after traffic moved, after
//! a restore, and in the report.

use crate::harness::engine;
use crate::harness::fronted::{Fronted, operation_of};
use crate::harness::observer::Observer;

/// Two smoke probes and one query; the second probe fails while a file `broken` lies there.
fn shop() -> Fronted {
    Fronted::deployed_with(|app| {
        format!(
            r#"
[apps.{app}.database]
service = "postgres"
name = "shop"
user = "shop"
password_env = {{ file = ".env", key = "POSTGRES_PASSWORD" }}

[[apps.{app}.integrity]]
name = "orders_have_items"
sql = "SELECT count(*) FROM orders WHERE item = ''"
expect = "0"

[[apps.{app}.smoke]]
name = "page"
path = "/"
body = "<title>"

[[apps.{app}.smoke]]
name = "buy"
command = ["sh", "-c", "echo $CUTOVER_URL > asked; test ! -e broken || {{ echo no stock >&2; exit 3; }}"]
"#
        )
    })
}

fn spoil(fronted: &Fronted) {
    let observer: Observer = fronted.shop.observer();
    observer.ask("INSERT INTO orders (item, release) VALUES ('', 'v1')");
}

#[test]
fn a_release_that_fails_a_smoke_probe_gets_no_user() {
    let fronted = shop();
    let ran = fronted.deploy("good", &["--at-once"]).succeeded();
    ran.says(&["smoke 2 of 2, integrity 1 of 1", "no user on it yet"]);
    fronted.serves("v2");
    let asked = std::fs::read_to_string(fronted.shop.path().join("asked")).expect("it was run");
    assert!(asked.starts_with("http://127.0.0.1:"), "{asked}");

    fronted.shop.write("broken", "");
    let ran = fronted.deploy("good", &["--at-once"]);
    assert_eq!(ran.printed.code, 1, "{}", ran.printed.both());
    ran.says(&["smoke 1 of 2", "smoke: buy fails: exit 3: no stock", "r2 serves as before"]);
    assert_eq!(fronted.release_now(), "v2");
    let blue = engine::starts(&format!("{}-green", fronted.shop.project));
    let green = engine::starts(&format!("{}-blue", fronted.shop.project));
    assert!(blue.is_empty() || green.is_empty(), "what failed is still there: {blue:?} {green:?}");
}

#[test]
fn spoilt_data_is_said_at_each_moment_and_stops_only_who_spoilt_it() {
    let fronted = shop();
    fronted.deploy("good", &["--at-once"]).succeeded();
    spoil(&fronted);
    // It was so before: a release that mends it has to get through.
    let ran = fronted.deploy("good", &["--at-once"]).succeeded();
    ran.says(&["orders_have_items fails: 1 instead of 0, as before this deploy"]);
    fronted.serves("v3");

    let ran = fronted.run(&["rollback"]);
    assert_eq!(ran.printed.code, 0, "{}", ran.printed.both());
    let operation = operation_of(&ran.printed.both());
    fronted.serves("v2");
    ran.says(&["smoke 2 of 2, integrity 0 of 1", "DATA: orders_have_items fails: 1 instead of 0"]);
    let report = fronted.run(&["report", &operation]).succeeded();
    report.says(&["smoke 2 of 2", r"orders\_have\_items fails: 1 instead of 0"]);

    let observer = fronted.shop.observer();
    observer.ask("DELETE FROM orders WHERE item = ''");
    let folder = fronted.shop.path().join("prisma/migrations/20261201000000_spoil");
    std::fs::create_dir_all(&folder).expect("a folder");
    let sql = "INSERT INTO orders (item, release) VALUES ('', 'v4');";
    std::fs::write(folder.join("migration.sql"), sql).expect("a migration");
    let ran = fronted.deploy("good", &["--at-once"]);
    assert_eq!(ran.printed.code, 1, "{}", ran.printed.both());
    ran.says(&["DATA: orders_have_items fails: 1 instead of 0", "r2 serves as before"]);
    assert_eq!(fronted.release_now(), "v2");
}
