//! Each refusal of the way back of data, provoked for real and asked for by the command: it ends
//! with 4, says what is wrong and what to do, and nothing is changed or left behind.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::shop::Shop;
use crate::backups::yard::{SmallDisk, Yard as _};
use crate::harness::daemon::Ran;
use crate::harness::engine;
use crate::harness::fronted::operation_of;

/// A file whose remedy is another one.
const ANOTHER: &str = "take another backup (cutover backup list)";

#[test]
fn a_backup_cut_at_every_tenth_is_refused_and_nothing_is_changed() {
    let shop = Shop::deployed();
    shop.run(&["backup", "create"]).succeeded();
    let before = shop.seen();
    let archive = shop.archive("b-1");
    let whole = std::fs::read(&archive).expect("an archive");
    for tenth in 0..10 {
        std::fs::write(&archive, &whole[..whole.len() * tenth / 10]).expect("a write");
        let ran = shop.takes("b-1").refused(&before);
        ran.says(&["b-1/dump.pgc is refused", "bytes, and had", ANOTHER]);
    }
    std::fs::write(&archive, &whole).expect("a write");
    shop.spoil("b-1");
    let ran = shop.takes("b-1").refused(&before);
    ran.says(&["its SHA-256 is not the one in its manifest", ANOTHER]);
}

#[test]
fn a_backup_that_does_not_fit_is_refused_and_nothing_is_changed() {
    let shop = Shop::deployed();
    shop.run(&["backup", "create"]).succeeded();
    let shop = Shop::spoilt(shop);
    let back = operation_of(&shop.run(&["rollback"]).succeeded().printed.both());
    shop.fronted.serves("v1");
    let before = shop.seen();
    let archive = shop.archive("b-1");
    let whole = std::fs::read(&archive).expect("an archive");
    std::fs::remove_file(&archive).expect("a removal");
    shop.takes("b-1").refused(&before).says(&["dump.pgc", "No such file", ANOTHER]);
    shop.run(&["backup", "list"]).succeeded().says(&["DAMAGED", "archive missing"]);
    shop.run(&["backup", "verify", "newest"]).exits(2);
    std::fs::write(&archive, &whole).expect("a write");

    let manifest = shop.folder().join("b-1/manifest.json");
    let text = std::fs::read_to_string(&manifest).expect("a manifest");
    std::fs::write(&manifest, &text[..text.len() / 2]).expect("a write");
    shop.takes("b-1").refused(&before).says(&["its manifest is damaged", ANOTHER]);
    shop.run(&["backup", "verify", "--all"]).exits(1).says(&["b-1 is DAMAGED", "its manifest"]);
    shop.run(&["backup", "verify", "b-1"]).exits(4).says(&["b-1 is no whole backup"]);
    for (field, value, said) in [
        ("/server", json!(990_002), ["was made by PostgreSQL 99, and here is ", "a later one"]),
        ("/contents/size", json!(1_u64 << 50), ["the server's disk is", "make room"]),
        ("/database", json!("other"), ["is one of the database \"other\"", "b-1"]),
    ] {
        let mut changed: Value = serde_json::from_str(&text).expect("JSON");
        *changed.pointer_mut(field).expect(field) = value;
        std::fs::write(&manifest, changed.to_string()).expect("a write");
        shop.takes("b-1").refused(&before).says(&said);
    }
    std::fs::write(&manifest, &text).expect("a write");
    shop.takes("b-9").refused(&before).says(&["there is no such backup"]);

    // Traffic goes first: then it is not said that nothing was changed.
    shop.run(&["undo", &back]).succeeded();
    shop.fronted.serves("v2");
    shop.spoil("b-1");
    let ran = shop.run(&["rollback", "--database", "--backup", "b-1", "--max-loss", "1000000"]);
    let said = ran.exits(4).says(&["database is as it was; traffic went back before"]);
    assert!(!said.printed.both().contains("NOTHING WAS CHANGED"), "{}", said.printed.both());
    assert_eq!(shop.seen(), before, "v1 serves, and all else is as it was");
    // Nothing of all this stands in the way of what is whole.
    std::fs::write(&archive, &whole).expect("a write");
    shop.takes("b-1").ran.succeeded().says(&["3/4 exchange", "DONE"]);
    shop.assert_at_rest();
}

#[test]
fn what_a_server_lacks_or_has_in_the_way_is_refused_and_nothing_is_changed() {
    let mut shop = Shop::deployed();
    shop.sql("postgres", &["ALTER SYSTEM SET max_prepared_transactions = 4"]);
    shop.server("stop");
    shop.server("start");
    shop.make_extension("ghost");
    shop.sql("shop", &["CREATE ROLE phantom", "GRANT SELECT ON orders TO phantom"]);
    shop.sql("shop", &["CREATE EXTENSION ghost"]);
    shop.run(&["backup", "create"]).succeeded();
    shop.sql("shop", &["DROP EXTENSION ghost", "DROP OWNED BY phantom", "DROP ROLE phantom"]);
    let shop = Shop::spoilt(shop);
    shop.run(&["rollback"]).succeeded();
    let before = shop.seen();
    shop.remove_extension("ghost");
    shop.takes("b-1").refused(&before).says(&[
        "the server has no extension ghost: install it on the server",
        "the server has no role phantom: make it with CREATE ROLE",
    ]);
    shop.make_extension("ghost");
    shop.sql("postgres", &["CREATE ROLE phantom"]);

    let begun = ["BEGIN", "INSERT INTO orders (item, release) VALUES ('cup', 'v1')"];
    shop.sql("shop", &[begun[0], begun[1], "PREPARE TRANSACTION 'two phases'"]);
    for asked in [shop.takes("b-1"), shop.takes_the_point()] {
        asked
            .refused(&before)
            .says(&["prepared transaction of shop: two phases", "COMMIT PREPARED"]);
    }
    shop.sql("shop", &["ROLLBACK PREPARED 'two phases'"]);

    // Somebody else's databases have the names that the next operation wants.
    for kind in ["cand", "prev"] {
        let name = format!("shop__{kind}_{}", shop.next_operation());
        shop.sql("postgres", &[&format!("CREATE DATABASE {name}")]);
        let with_it = shop.seen();
        shop.takes("b-1").refused(&with_it).says(&[&name, "rename or drop it yourself"]);
        shop.sql("postgres", &[&format!("DROP DATABASE {name}")]);
    }
    // A candidate of another operation of ours that has not ended well.
    let claim = "INSERT INTO cutover.claims (name, installation, operation, kind)
                 SELECT 'shop__cand_o99', installation, 'o99', 'candidate'
                   FROM cutover.claims LIMIT 1";
    shop.sql("postgres", &[claim]);
    let with_it = shop.seen();
    for asked in [shop.takes("b-1"), shop.takes_the_point()] {
        asked.refused(&with_it).says(&["o99 has left \"shop__cand_o99\"", "cutover abort"]);
    }
    shop.sql("postgres", &["DELETE FROM cutover.claims WHERE operation = 'o99'"]);
    assert_eq!(shop.seen(), before);
}

#[test]
fn what_is_closed_or_leaves_no_room_is_refused_and_nothing_is_changed() {
    let shop = Shop::deployed();
    shop.run(&["backup", "create"]).succeeded();
    let mut shop = Shop::spoilt(shop);
    shop.run(&["rollback"]).succeeded();
    let before = shop.seen();
    // A gate that is not ours: somebody has closed the database by hand.
    shop.sql("postgres", &["ALTER DATABASE shop ALLOW_CONNECTIONS false"]);
    for asked in [shop.takes("b-1"), shop.takes_the_point()] {
        asked.ran.exits(4).says(&["ALLOW_CONNECTIONS true", "NOTHING WAS CHANGED"]);
    }
    assert_eq!(shop.closed(), 1, "what somebody else has closed stays closed");
    shop.sql("postgres", &["ALTER DATABASE shop ALLOW_CONNECTIONS true"]);
    assert_eq!(shop.seen(), before);

    // The sessions that would have to end for it take longer than requests may wait.
    let file = shop.fronted.shop.path().join("cutover.toml");
    let whole = std::fs::read_to_string(&file).expect("a file");
    std::fs::write(
        &file,
        whole.replacen("name = \"shop\"", "name = \"shop\"\nmax_hold = \"10ms\"", 1),
    )
    .expect("a write");
    shop.fronted.cutover.stop();
    shop.fronted.cutover.serve();
    let session = shop.session();
    for asked in [shop.takes("b-1"), shop.takes_the_point()] {
        asked.refused(&before).says(&["at least, and max_hold is 10.0 ms", "raise max_hold"]);
    }
    drop(session);
    std::fs::write(&file, &whole).expect("a write");
    shop.fronted.cutover.stop();
    shop.fronted.cutover.serve();

    let disk = SmallDisk::over(shop.folder());
    let asked = shop.takes_the_point();
    drop(disk);
    asked.refused(&before).says(&["may need", "make room there"]);
    // The one that is connected to while names are exchanged is not the one that is renamed.
    let other = whole.replacen("name = \"shop\"", "name = \"postgres\"", 1);
    assert_ne!(other, whole);
    std::fs::write(&file, other).expect("a write");
    let said = ["would have to be renamed", "set `maintenance`"];
    shop.run(&["check"]).exits(78).says(&said);
    std::fs::write(&file, &whole).expect("a write");
    assert_eq!(shop.seen(), before);
}

/// Everything that a refusal leaves as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    serves: String,
    data: String,
    databases: Vec<String>,
    claims: String,
    kept: Vec<PathBuf>,
}

/// A way back of data that was asked for.
struct Asked<'a> {
    shop: &'a Shop,
    ran: Ran,
}

impl Asked<'_> {
    /// It ended with 4, and nothing is changed.
    #[track_caller]
    fn refused(self, before: &Seen) -> Ran {
        let ran = self.ran.exits(4).says(&["NOTHING WAS CHANGED"]);
        assert_eq!(self.shop.seen(), *before, "{}", ran.printed.both());
        assert_eq!(self.shop.closed(), 0, "a database is closed");
        let said = ran.printed.both();
        assert!(!said.contains("is dropped") && !said.contains("dump is kept"), "{said}");
        let running = &self.shop.status()["apps"][0]["running"];
        assert!(running.as_array().is_some_and(Vec::is_empty), "{running}");
        ran
    }
}

impl Shop {
    fn seen(&self) -> Seen {
        let kept = std::fs::read_dir(self.folder()).into_iter().flatten();
        let mut kept: Vec<PathBuf> = kept.map(|entry| entry.expect("an entry").path()).collect();
        kept.sort();
        let claims = "SELECT name, operation, kind FROM cutover.claims ORDER BY 1";
        Seen {
            serves: self.fronted.release_now(),
            data: self.fingerprint("shop"),
            databases: self.databases(),
            claims: self.sql("postgres", &[claims]),
            kept,
        }
    }

    /// The data of a backup, with today's traffic.
    fn takes(&self, backup: &str) -> Asked<'_> {
        let words = ["rollback", "--to", "r1", "--database", "--backup", backup];
        let ran = self.run(&[&words[..], &["--max-loss", "1000000"]].concat());
        Asked { shop: self, ran }
    }

    /// The data of the restore point.
    fn takes_the_point(&self) -> Asked<'_> {
        let words = ["rollback", "--to", "r1", "--database", "--max-loss", "1000000"];
        Asked { shop: self, ran: self.run(&words) }
    }

    /// The number that the next operation gets.
    fn next_operation(&self) -> String {
        let said = self.run(&["events", "--json", "--last", "400"]).printed.stdout;
        let operations = said.lines().filter_map(|line| {
            let event: Value = serde_json::from_str(line).ok()?;
            let operation = &event["happened"]["operation"];
            let text = operation.as_str().map(|text| text.trim_start_matches('o').parse().ok());
            operation.as_u64().or_else(|| text.flatten())
        });
        format!("o{}", operations.max().expect("an operation") + 1)
    }

    /// Statements of somebody else's, in one session of the server's own tool.
    pub(crate) fn sql(&self, database: &str, statements: &[&str]) -> String {
        let container = self.fronted.shop.container("postgres");
        let mut words = vec!["exec", &container, "psql", "-U", "shop", "-d", database, "-At"];
        words.extend(["-h", "/var/run/postgresql", "-v", "ON_ERROR_STOP=1"]);
        statements.iter().for_each(|statement| words.extend(["-c", statement]));
        engine::docker(&words).succeeded().stdout
    }

    /// An extension with nothing in it, which the server can make from now on.
    fn make_extension(&self, name: &str) {
        self.in_extensions(&format!(
            "printf \"default_version = '1'\\n\" > {name}.control && : > {name}--1.sql"
        ));
    }

    fn remove_extension(&self, name: &str) {
        self.in_extensions(&format!("rm {name}.control {name}--1.sql"));
    }

    fn in_extensions(&self, command: &str) {
        let find = "f=$(find /usr -name plpgsql.control | head -n 1) && cd \"$(dirname \"$f\")\"";
        let container = self.fronted.shop.container("postgres");
        let all = format!("{find} && {command}");
        engine::docker(&["exec", "-u", "root", &container, "sh", "-c", &all]).succeeded();
    }
}
