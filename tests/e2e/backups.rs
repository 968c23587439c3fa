//! Backups as an operator has them: made, read back, restored beside, drilled, encrypted, copied,
//! let go; with a real PostgreSQL, and nothing left behind by any of it.

mod imports;
mod kills;
pub(crate) mod yard;

use std::time::Duration;

use yard::Yard as _;

use crate::harness::eventually;
use crate::harness::fronted::operation_of;
use crate::restore::shop::Shop;

/// One that is never due while a test runs.
pub(crate) const RARELY: &str = r#"backup = { schedule = "0 0 1 1 *", keep = { daily = 1 } }"#;

#[test]
fn a_backup_is_made_read_back_restored_beside_and_let_go_by_the_rule() {
    let shop = Shop::deployed_with(RARELY);
    shop.write("INSERT INTO orders (item, release) SELECT 'cup', 'v1' FROM generate_series(1, 50)");
    let (before, databases) = (shop.fingerprint("shop"), shop.databases());
    shop.run(&["backup", "create"]).succeeded().says(&["b-1", "read back completely"]);
    let listed = shop.listed();
    assert_eq!(listed.len(), 1);
    assert!(listed[0]["verified_at"].is_i64() && listed[0]["why"] == "asked for", "{listed:?}");
    shop.run(&["backup", "list"]).succeeded().says(&["b-1", "asked for", "r1", "NONE", "1 Jan"]);
    shop.run(&["backup", "verify", "newest"]).succeeded().says(&["b-1, every block"]);
    shop.run(&["backup", "verify", "b-7"]).exits(2).says(&["there is no backup b-7"]);

    shop.write("DELETE FROM orders WHERE id % 2 = 0");
    let ran = shop.run(&["backup", "restore", "b-1", "--aside", "look here"]).succeeded();
    ran.clone().says(&["look here", "orders_have_items: pass", "DONE"]);
    assert_eq!(shop.fingerprint("look here"), before, "it has the data of the backup");
    assert_ne!(shop.fingerprint("shop"), before, "the live one was not touched");
    shop.run(&["db", "list"]).succeeded().says(&["look here", "copy"]);
    // Somebody else's database is never taken for ours.
    shop.run(&["backup", "restore", "b-1", "--aside", "look here"]).exits(4).says(&["already"]);
    shop.run(&["backup", "restore", "b-1", "--aside", "shop"]).exits(4);
    let of = retired_by(&ran.printed.both());
    shop.run(&["db", "retire", &of]).exits(4).says(&["Nothing was changed"]);
    shop.run(&["db", "retire", &of, "--yes"]).succeeded().says(&["is dropped"]);
    assert_eq!(shop.databases(), databases);

    // The rule keeps one a day: the newer one takes the place of the older.
    shop.run(&["backup", "create"]).succeeded();
    eventually("the older one is let go", Duration::from_secs(20), || {
        (shop.ids() == ["b-2"]).then_some(())
    });
    shop.run(&["backup", "prune"]).succeeded().says(&["Nothing to do"]);
    shop.assert_nothing_half_made();

    // One byte of it: it is found, told, and never restored.
    shop.spoil("b-2");
    shop.run(&["backup", "verify", "--all"]).exits(1).says(&["b-2 is DAMAGED"]);
    shop.run(&["backup", "list"]).succeeded().says(&["DAMAGED"]);
    shop.run(&["doctor"]).says(&["b-2 is damaged"]);
    shop.run(&["drill"]).exits(2).says(&["there is no backup that can be read", "b-2"]);
    shop.run(&["drill", "--backup", "b-2"]).exits(4).says(&["NOTHING WAS CHANGED"]);
    assert_eq!(shop.databases(), databases);
    // A disk that it may fill is not begun with.
    let disk = yard::SmallDisk::over(shop.folder());
    shop.run(&["backup", "create"]).exits(4).says(&["may need", "NOTHING WAS CHANGED"]);
    drop(disk);
    shop.assert_at_rest();
}

#[test]
fn a_drill_says_whether_the_newest_backup_can_be_restored() {
    let shop = Shop::deployed();
    let databases = shop.databases();
    shop.run(&["drill"]).exits(2).says(&["there is no backup yet", "backup create"]);
    shop.run(&["status"]).says(&["test restore NONE", "no schedule"]);
    shop.run(&["backup", "create"]).succeeded();
    let load = shop.fronted.load(50, 20);
    load.wait_for(50);
    shop.run(&["drill"]).succeeded().says(&["1 integrity query: pass", "can be restored"]);
    load.wait_for(50);
    load.stop().assert_none_failed();
    let status = shop.run(&["status"]).succeeded().printed.stdout;
    let line = status.lines().find(|line| line.starts_with("backup")).expect("the line");
    assert!(line.contains("verified; test restore") && !line.contains("FAILED"), "{line}");
    assert_eq!(shop.databases(), databases);

    // A backup of data that is not whole: the drill is what says so.
    shop.write("INSERT INTO orders (item, release) VALUES ('', 'v1')");
    shop.run(&["backup", "create"]).succeeded();
    shop.run(&["drill"]).exits(1).says(&["orders_have_items", "1 instead of 0"]);
    shop.run(&["status"]).says(&["FAILED"]);
    assert_eq!(shop.databases(), databases);
    shop.assert_at_rest();
}

#[test]
fn rows_put_aside_come_out_as_csv_and_the_database_is_retired() {
    let shop = Shop::with_a_bad_migration();
    shop.write("INSERT INTO orders (item, release) VALUES ('a \"cup\", blue', 'v2')");
    let ran = shop.run(&["rollback", "--database", "--max-loss", "1000000"]).succeeded();
    let (operation, aside) = (operation_of(&ran.printed.both()), shop.aside());
    let lost = shop.fronted.shop.beside("lost");
    let folder = lost.display().to_string();
    let ran = shop.run(&["db", "export", &operation, "--csv", "--output", &folder]).succeeded();
    ran.says(&["orders", "which the live database has not"]);
    let csv = std::fs::read_to_string(lost.join("orders.csv")).expect("the rows of orders");
    let spoilt = csv.lines().filter(|line| line.starts_with("changed") && line.contains("spoilt"));
    assert_eq!(i64::try_from(spoilt.count()).unwrap(), shop.spoilt_orders(&aside));
    assert!(csv.contains(r#""a ""cup"", blue""#), "{csv}");
    assert!(csv.lines().any(|line| line.starts_with("new,")), "{csv}");

    let kept = shop.fingerprint(&aside);
    shop.run(&["db", "retire", &operation, "--dry-run"]).succeeded().says(&[&aside, "dump it"]);
    assert!(shop.databases().contains(&aside), "a look drops nothing");
    let ran = shop.run(&["db", "retire", &operation, "--yes"]).succeeded();
    ran.says(&["read back completely", "is dropped", "--backup b-2"]);
    assert!(!shop.databases().contains(&aside));
    shop.run(&["undo", &operation]).exits(4);
    // What it held is still to be had.
    shop.run(&["backup", "restore", "b-2", "--aside", "again"]).succeeded();
    assert_eq!(shop.fingerprint("again"), kept);
    // Neither what a restore saved nor what was retired is a way back that is taken unasked.
    shop.run(&["drill"]).exits(2);
    shop.assert_at_rest();
}

#[test]
fn an_encrypted_backup_is_read_back_with_its_key_and_refused_without() {
    let keys = tempfile::tempdir().expect("a folder");
    let key = keys.path().join("key.txt");
    let recipient = yard::new_key(&key);
    let out = keys.path().join("out");
    std::fs::create_dir(&out).expect("a folder");
    let copy = format!(
        r#"["sh", "-c", "cp \"$CUTOVER_BACKUP\" {}/$CUTOVER_BACKUP_ID.pgc"]"#,
        out.display()
    );
    let shop = Shop::deployed_with(&format!(
        "[apps.APP.database.backup]\nschedule = \"0 0 1 1 *\"\nencrypt = \"{recipient}\"\n\
         identity_file = \"{}\"\ncopy = {copy}",
        key.display()
    ));
    let before = shop.fingerprint("shop");
    shop.run(&["backup", "create"]).succeeded().says(&["encrypted, read back completely", "copy"]);
    let kept = std::fs::read(shop.archive("b-1")).expect("the archive");
    assert!(kept.starts_with(b"age-encryption.org/"), "it is not encrypted");
    assert_eq!(std::fs::read(out.join("b-1.pgc")).expect("a copy"), kept);
    shop.run(&["backup", "verify", "newest"]).succeeded().says(&["every block"]);
    shop.run(&["drill"]).succeeded();
    shop.run(&["backup", "restore", "b-1", "--aside", "opened"]).succeeded();
    assert_eq!(shop.fingerprint("opened"), before);

    // The key is gone, and the place for copies: both are said, and the backup is kept.
    std::fs::rename(&key, keys.path().join("elsewhere")).expect("a rename");
    std::fs::remove_dir_all(&out).expect("a removal");
    shop.run(&["backup", "verify", "newest"]).exits(1).says(&["cannot be read here"]);
    shop.run(&["drill"]).exits(4).says(&["NOTHING WAS CHANGED"]);
    std::fs::rename(keys.path().join("elsewhere"), &key).expect("a rename");
    let ran = shop.run(&["backup", "create"]).exits(1);
    ran.says(&["b-2 is kept", "no copy left this host"]);
    shop.run(&["status"]).says(&["copy off this host: FAILED"]);
    assert_eq!(shop.ids(), ["b-1", "b-2"]);
    shop.assert_at_rest();
}

#[test]
fn the_schedule_makes_backups_and_catches_one_up_that_was_missed() {
    let mut shop =
        Shop::deployed_with(r#"backup = { schedule = "* * * * *", keep = { daily = 1 } }"#);
    let patience = Duration::from_secs(90);
    let newest = |shop: &Shop| shop.listed().last().cloned().unwrap_or_default();
    let first = eventually("a backup by itself", patience, || {
        let newest = newest(&shop);
        (newest["why"] == "schedule").then(|| newest["id"].clone())
    });
    shop.run(&["status"]).says(&["verified", "next "]);
    shop.fronted.cutover.stop();
    // The minute passes while no daemon runs.
    let clock = || jiff::Timestamp::now().as_second();
    let minute = clock() / 60;
    // Early in a later one, so that what comes now is not the next regular one.
    eventually("a minute without a daemon", patience, || {
        (clock() / 60 > minute && clock() % 60 < 20).then_some(())
    });
    shop.fronted.cutover.serve();
    eventually("the one that was missed", Duration::from_secs(30), || {
        (newest(&shop)["id"] != first).then_some(())
    });
    let said = shop.run(&["events", "--last", "100"]).printed.stdout;
    assert!(said.contains("backup by schedule"), "{said}");
    shop.assert_nothing_half_made();
}

/// The operation's name, `o12`, out of "cutover db retire o12".
fn retired_by(text: &str) -> String {
    let after = text.split("cutover db retire ").nth(1).expect("it says how to tidy up");
    after.chars().take_while(char::is_ascii_alphanumeric).collect()
}
