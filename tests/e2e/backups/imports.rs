//! Files from elsewhere: taken in whole, or refused without a trace.

use std::path::PathBuf;

use super::yard::Yard as _;
use crate::harness::engine;
use crate::restore::shop::Shop;

#[test]
fn files_from_elsewhere_become_backups_of_our_own() {
    let shop = with_orders();
    let (data, databases) = (shop.fingerprint("shop"), shop.databases());
    let plain = shop.dumped();
    let packed = shop.fronted.shop.beside("old.sql.gz");
    engine::run("gzip", &["-k", "old.sql"], plain.parent().expect("a folder")).succeeded();
    let archive = shop.archived();
    shop.write("DELETE FROM orders");
    for (number, file) in [plain, packed, archive].iter().enumerate() {
        let file = file.display().to_string();
        let ran = shop.run(&["backup", "import", &file]).succeeded();
        ran.says(&["rows in 3 tables", "read back completely", "DONE"][usize::from(number == 2)..]);
        let id = format!("b-{}", number + 1);
        assert_eq!(shop.ids().last(), Some(&id));
        let name = format!("from_{number}");
        shop.run(&["backup", "restore", &id, "--aside", &name]).succeeded();
        assert_eq!(shop.fingerprint(&name), data, "{file}");
        assert_eq!(shop.owners(&name), ["shop"], "{file}");
    }
    shop.run(&["backup", "list"]).succeeded().says(&["imported"]);
    // It is no way back that is taken unasked.
    shop.run(&["drill"]).exits(2);
    shop.run(&["drill", "--backup", "b-2"]).succeeded();
    assert_eq!(shop.databases().len(), databases.len() + 3);
    shop.assert_no_role_is_left();
    shop.assert_nothing_half_made();
    shop.assert_at_rest();
}

#[test]
fn a_file_that_is_cut_or_damaged_is_refused_without_a_trace() {
    let shop = with_orders();
    let databases = shop.databases();
    let plain = shop.dumped();
    let folder = plain.parent().expect("a folder");
    engine::run("gzip", &["-k", "old.sql"], folder).succeeded();
    let files = [plain.clone(), folder.join("old.sql.gz"), shop.archived()];
    let bad = shop.fronted.shop.beside("bad");
    for file in files {
        let whole = std::fs::read(&file).expect("the file");
        for tenth in 0..10 {
            std::fs::write(&bad, &whole[..whole.len() * tenth / 10]).expect("a write");
            let ran = shop.run(&["backup", "import", &bad.display().to_string()]);
            ran.exits(4).says(&["NOTHING WAS CHANGED"]);
        }
    }
    assert_eq!(shop.ids(), [] as [&str; 0]);
    assert_eq!(shop.databases(), databases);
    shop.run(&["backup", "import", "/nonexistent.sql"]).exits(4);
    shop.run(&["backup", "import", "/dev/zero"]).exits(4);
    shop.assert_no_role_is_left();
    shop.assert_at_rest();
}

#[test]
fn a_dump_that_wants_more_than_its_own_database_is_refused_without_a_trace() {
    let shop = with_orders();
    let (data, databases) = (shop.fingerprint("shop"), shop.databases());
    let plain = std::fs::read_to_string(shop.dumped()).expect("a dump");
    let bad = shop.fronted.shop.beside("bad.sql");
    for (evil, said) in [
        ("\\! touch /tmp/cutover-was-here", "command of psql"),
        ("\\connect shop\nDELETE FROM orders;", "command of psql"),
        ("SELECT 1 \\g |id", "command of psql"),
        ("SET standard_conforming_strings = off;", "how strings are read"),
        ("CREATE ROLE intruder SUPERUSER;", "must be superuser"),
        ("DROP DATABASE shop;", "cannot run inside a transaction block"),
        ("ALTER DATABASE shop RENAME TO gone;", "must be owner"),
        ("ALTER ROLE shop PASSWORD 'x';", "must be superuser"),
        ("CREATE TABLE public.t (x text);\nCOPY public.t FROM PROGRAM 'id';", "must be superuser"),
        ("INSERT INTO public.nothing VALUES (1);", "does not exist"),
    ] {
        let copy = plain.find("COPY public.").expect("rows");
        let text = format!("{}{evil}\n{}", &plain[..copy], &plain[copy..]);
        std::fs::write(&bad, text).expect("a write");
        let ran = shop.run(&["backup", "import", &bad.display().to_string()]);
        assert_ne!(ran.printed.code, 0, "{evil}: {}", ran.printed.both());
        let both = ran.printed.both();
        assert!(both.contains(said), "{evil}: {both}");
        assert_eq!(shop.databases(), databases, "{evil}");
    }
    let seen = shop.in_postgres(&["sh", "-c", "ls /tmp/cutover-was-here || true"]);
    assert!(!seen.contains("cutover-was-here\n"), "a dump ran a command: {seen}");
    assert_eq!(shop.fingerprint("shop"), data);
    assert_eq!(shop.ids(), [] as [&str; 0]);
    shop.assert_no_role_is_left();
    shop.assert_at_rest();
}

pub(super) fn with_orders() -> Shop {
    let shop = Shop::deployed();
    shop.write("DELETE FROM orders");
    shop.write("INSERT INTO orders (item, release) SELECT 'cup', 'v1' FROM generate_series(1, 40)");
    shop
}

/// What a test of imports sees of a shop, and makes of it.
pub(super) trait Elsewhere {
    fn in_postgres(&self, words: &[&str]) -> String;
    fn dumped(&self) -> PathBuf;
    fn archived(&self) -> PathBuf;
    fn owners(&self, database: &str) -> Vec<String>;
    fn assert_no_role_is_left(&self);
}

impl Elsewhere for Shop {
    fn in_postgres(&self, words: &[&str]) -> String {
        let container = self.fronted.shop.container("postgres");
        let mut all = vec!["exec", container.as_str()];
        all.extend(words);
        engine::run("docker", &all, &self.fronted.shop.path()).succeeded().stdout
    }

    /// A plain dump, as somebody else would make one.
    fn dumped(&self) -> PathBuf {
        let path = self.fronted.shop.beside("old.sql");
        let text =
            self.in_postgres(&["pg_dump", "-U", "shop", "-h", "/var/run/postgresql", "shop"]);
        std::fs::write(&path, text).expect("a dump");
        path
    }

    fn archived(&self) -> PathBuf {
        let path = self.fronted.shop.beside("old.pgc");
        let at = "/tmp/old.pgc";
        self.in_postgres(&[
            "pg_dump",
            "-U",
            "shop",
            "-h",
            "/var/run/postgresql",
            "-Fc",
            "-f",
            at,
            "shop",
        ]);
        let from = format!("{}:{at}", self.fronted.shop.container("postgres"));
        let to = path.display().to_string();
        engine::run("docker", &["cp", &from, &to], &self.fronted.shop.path()).succeeded();
        path
    }

    fn owners(&self, database: &str) -> Vec<String> {
        let sql = "SELECT DISTINCT tableowner::text FROM pg_tables WHERE schemaname = 'public'";
        let said = self.in_postgres(&[
            "psql",
            "-U",
            "shop",
            "-h",
            "/var/run/postgresql",
            "-d",
            database,
            "-Atc",
            sql,
        ]);
        said.lines().map(str::to_owned).collect()
    }

    fn assert_no_role_is_left(&self) {
        let sql = "SELECT rolname FROM pg_roles WHERE rolname LIKE 'cutover%'";
        let said = self.in_postgres(&[
            "psql",
            "-U",
            "shop",
            "-h",
            "/var/run/postgresql",
            "-d",
            "postgres",
            "-Atc",
            sql,
        ]);
        assert_eq!(said.trim(), "", "a role is left");
    }
}
