//! The way of data on later major versions of PostgreSQL, each with its own programs; and archives
//! of a later version than the server, which are refused.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::shop::Shop;
use crate::backups::yard::Yard as _;
use crate::harness::engine;
use crate::harness::fronted::operation_of;
use crate::harness::postgres::{PASSWORD, Pg, image_of};
use crate::harness::shop::PASSWORD as OWN;

#[test]
fn data_goes_back_and_forth_on_postgresql_16() {
    goes_back_and_forth(16);
}

#[test]
fn data_goes_back_and_forth_on_postgresql_17() {
    goes_back_and_forth(17);
}

#[test]
fn data_goes_back_and_forth_on_postgresql_18() {
    goes_back_and_forth(18);
}

/// From a backup and a restore point, over a migration that is tried on a copy first.
fn goes_back_and_forth(major: u32) {
    let shop = Shop::deployed_on(major);
    assert!(shop.text("SHOW server_version").starts_with(&major.to_string()));
    shop.write("INSERT INTO orders (item, release) SELECT 'cup', 'v1' FROM generate_series(1, 50)");
    let backed_up = shop.fingerprint("shop");
    shop.run(&["backup", "create"]).succeeded().says(&["b-1", "read back completely"]);
    shop.run(&["backup", "verify", "newest"]).succeeded().says(&["b-1, every block"]);
    shop.run(&["drill"]).succeeded().says(&["1 integrity query: pass", "can be restored"]);

    let shop = Shop::spoilt(shop);
    let spoilt = shop.fingerprint("shop");
    let ran = shop.run(&["rollback", "--database", "--max-loss", "1000000"]).succeeded();
    ran.clone().says(&["restore point before r2", "3/4 exchange", "integrity 1 of 1", "DONE"]);
    shop.fronted.serves("v1");
    assert!(!shop.has_migration("_note_v2"));
    assert_eq!(shop.spoilt_orders("shop"), 0);
    assert_eq!(shop.fingerprint(&shop.aside()), spoilt);

    let undone = operation_of(&ran.printed.both());
    shop.run(&["undo", &undone, "--max-loss", "1000000"]).succeeded();
    shop.fronted.serves("v2");
    assert_eq!(shop.fingerprint("shop"), spoilt);

    let back = ["rollback", "--database", "--backup", "b-1", "--max-loss", "1000000"];
    shop.run(&back).succeeded().says(&["3/4 exchange", "DONE"]);
    shop.fronted.serves("v1");
    assert_eq!(shop.fingerprint("shop"), backed_up);
    shop.assert_at_rest();
    shop.assert_nothing_half_made();
}

#[test]
fn a_dump_of_a_newer_server_is_refused_with_both_versions() {
    let newer = Newer::start();
    let shop = Shop::deployed_on(17);
    let said = ["the dump was made by PostgreSQL 18, and here is 17", "a later one"];
    for format in ["custom", "plain"] {
        refused(&shop, &newer.dump(&newer.pg.id, PASSWORD, format), &said);
    }
    drop(shop);

    let shop = Shop::deployed_on(15);
    let said = ["the dump was made by PostgreSQL 18, and here is 15", "a later one"];
    refused(&shop, &newer.dump(&newer.pg.id, PASSWORD, "plain"), &said);
    // Its programs cannot even list that one.
    let said = ["of PostgreSQL 18 by pg_dump 18", "here is of version 15, which cannot read it"];
    refused(&shop, &newer.dump(&newer.pg.id, PASSWORD, "custom"), &said);
    // Of this very server, by a later program: what such a plain dump sets is left out.
    let own = shop.fronted.shop.container("postgres");
    let said = ["of PostgreSQL 15 by pg_dump 18", "have it made anew by pg_dump 15"];
    refused(&shop, &newer.dump(&own, OWN, "custom"), &said);
    let plain = newer.dump(&own, OWN, "plain").display().to_string();
    shop.run(&["backup", "import", &plain]).succeeded().says(&["a plain dump, whole", "DONE"]);
    shop.assert_at_rest();
}

/// It is not imported, and nothing is changed.
#[track_caller]
fn refused(shop: &Shop, file: &Path, said: &[&str]) {
    let (before, databases) = (shop.fingerprint("shop"), shop.databases());
    let ran = shop.run(&["backup", "import", &file.display().to_string()]).exits(4);
    ran.says(said).says(&["NOTHING WAS CHANGED"]);
    assert_eq!(shop.ids(), [] as [&str; 0]);
    assert_eq!(shop.databases(), databases);
    assert_eq!(shop.fingerprint("shop"), before);
}

/// A server of PostgreSQL 18, its programs, and the dumps that they make.
struct Newer {
    pg: Pg,
    folder: TempDir,
}

impl Newer {
    fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("cutover-dumps-").tempdir().expect("a folder");
        Self { pg: Pg::start_of(18), folder }
    }

    /// A dump of the database `shop` of a server in a container.
    fn dump(&self, container: &str, password: &str, format: &str) -> PathBuf {
        let password = format!("PGPASSWORD={password}");
        let mount = format!("{}:/out", self.folder.path().display());
        let network = format!("container:{container}");
        let mut all = vec!["run", "--rm", "--network", &network, "-v", &mount, "-e", &password];
        let (image, to) = (image_of(18), format!("--file=/out/{format}"));
        all.extend([image.as_str(), "pg_dump", "-h", "127.0.0.1", "-U", "shop", "-d", "shop"]);
        all.extend(["-F", format, &to]);
        engine::docker(&all).succeeded();
        self.folder.path().join(format)
    }
}
