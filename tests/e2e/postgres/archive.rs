//! Dumps, copies and clones of a real database, damaged archives, and what is held against them.

use std::path::Path;
use std::time::{Duration, Instant};

use cutover::host::postgres::archive::{self, listing};
use cutover::host::postgres::preflight::{self, Need, UnknownSpace};
use cutover::host::postgres::verify::{self, Answered, Question, Wanted};
use cutover::host::postgres::{
    Contents, DbError, DbName, Kind, Lookup, Made, Marker, Owners, Sealed, Server, Session,
    Snapshot, build, claims, facts, loss, properties,
};

use crate::harness::postgres::{PASSWORD, Pg, name, operation, usual_major};

const LIMIT: Duration = Duration::from_secs(60);
const ODD: &str = "It's \"Shop\" \\ 5%; drop -- Ä";

/// A database with something of everything.
const SCHEMA: &str = "
CREATE TABLE orders (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, total int, note text);
INSERT INTO orders (total, note) SELECT n, repeat('x', 50) || n FROM generate_series(1, 5000) n;
CREATE TABLE log (at timestamptz, what text);
INSERT INTO log SELECT now(), 'same' FROM generate_series(1, 100);
CREATE SCHEMA \"Odd \"\"Schema\";
CREATE TABLE \"Odd \"\"Schema\".\"T\" (a int PRIMARY KEY);
CREATE INDEX ON orders (total);
CREATE VIEW sums AS SELECT sum(total) FROM orders;
CREATE ROLE app LOGIN; GRANT SELECT ON orders TO app; ALTER TABLE log OWNER TO app;
SELECT lo_from_bytea(0, 'a large object');
";

struct Site {
    pg: Pg,
    server: Server,
    session: Session,
    live: DbName,
}

impl Site {
    async fn start() -> Self {
        let pg = Pg::start();
        let quoted = name(ODD).quoted();
        pg.run("postgres", &format!("CREATE DATABASE {quoted}")).await;
        pg.run(ODD, SCHEMA).await;
        for sql in [
            format!(
                "ALTER DATABASE {quoted} SET search_path TO \"$user\", public, \"Odd \"\"Schema\""
            ),
            format!("ALTER DATABASE {quoted} SET \"app.tenant\" TO 'it''s \\ me'"),
            format!("ALTER ROLE app IN DATABASE {quoted} SET work_mem TO '8MB'"),
            format!("REVOKE ALL ON DATABASE {quoted} FROM PUBLIC"),
            format!("GRANT CONNECT ON DATABASE {quoted} TO app WITH GRANT OPTION"),
            format!("ALTER DATABASE {quoted} CONNECTION LIMIT 40"),
        ] {
            pg.run("postgres", &sql).await;
        }
        let server = pg.server().await;
        let session = server.connect(&server.maintenance, operation(5)).await.expect("a session");
        claims::ensure_ledger(&session).await.expect("the ledger");
        Self { pg, server, session, live: name(ODD) }
    }

    fn marker(&self, kind: Kind, made: Made) -> Marker {
        let (installation, operation) = (self.server.installation.clone(), operation(5));
        Marker { installation, operation, kind, made }
    }

    async fn snapshot(&self) -> Snapshot {
        let session = self.server.connect(&self.live, operation(5)).await.expect("a session");
        Snapshot::open(session).await.expect("a snapshot")
    }

    /// An empty candidate, like the live one.
    async fn empty(&self) -> DbName {
        let to = self.live.candidate(operation(5));
        let model = facts::database(&self.session, &self.live).await.expect("f").expect("there");
        let marker = self.marker(Kind::Candidate, Made::Building);
        build::empty(&self.session, &model, &to, &marker).await.expect("made");
        to
    }

    async fn findings(&self, candidate: &DbName, contents: &Contents) -> Vec<String> {
        let model = facts::database(&self.session, &self.live).await.expect("f").expect("there");
        let properties = properties::read(&self.session, &model).await.expect("read");
        let there = self.server.connect(candidate, operation(5)).await.expect("a session");
        let wanted = Wanted { contents, properties: &properties };
        verify::compare(&there, &wanted, LIMIT).await.expect("compared")
    }

    async fn dump(&self, path: &Path) -> (Sealed, Contents) {
        let snapshot = self.snapshot().await;
        let contents = snapshot.contents(LIMIT).await.expect("counted");
        let from = (&self.live, &snapshot);
        let sealed = archive::dump(&self.server, operation(5), from, path, LIMIT).await;
        let sealed = sealed.expect("dumped");
        snapshot.close().await;
        (sealed, contents)
    }
}

#[tokio::test]
async fn a_dump_is_read_back_restored_aside_and_found_whole() {
    let site = Site::start().await;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("b-1.dump");
    let (sealed, contents) = site.dump(&path).await;
    assert_eq!(contents.rows["public.orders"], 5_000);
    assert!(contents.rows.contains_key("\"Odd \"\"Schema\".\"T\""), "{contents:?}");
    assert!(contents.roles.contains("app"));
    let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&path).expect("a file"));
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(std::fs::read_dir(folder.path()).expect("it").count(), 1, "nothing lies beside it");
    archive::check(&site.server, operation(5), &path, &sealed, LIMIT).await.expect("it is whole");
    let list = listing::read(&site.server, operation(5), &path, LIMIT).await.expect("a list");
    assert_eq!(list.server_major, i32::try_from(usual_major()).ok());
    assert!(list.owners.contains("app") && list.entries > 10, "{list:?}");

    for _ in 0..2 {
        let candidate = site.empty().await;
        let into = (&candidate, &Owners::AsDumped);
        let from = (path.as_path(), &sealed);
        archive::restore(&site.server, operation(5), from, into, LIMIT).await.expect("restored");
        assert_eq!(site.findings(&candidate, &contents).await, Vec::<String>::new());
    }
    let candidate = site.live.candidate(operation(5));
    let spoil = "DELETE FROM orders WHERE id = 7; SELECT setval('orders_id_seq', 3);
                 UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'orders_total_idx'::regclass;
                 DROP TABLE log;";
    site.pg.run(candidate.as_str(), spoil).await;
    let shrink = format!("ALTER DATABASE {} CONNECTION LIMIT 3", candidate.quoted());
    site.pg.run("postgres", &shrink).await;
    let found = site.findings(&candidate, &contents).await.join("\n");
    for words in [
        "public.orders has 4999 rows and should have 5000",
        "sequence public.orders_id_seq is behind: 3",
        "orders_total_idx is invalid",
        "table public.log is missing",
        "its connection limit differs",
    ] {
        assert!(found.contains(words), "{words} in:\n{found}");
    }
}

#[tokio::test]
async fn a_damaged_archive_is_refused_wherever_it_was_damaged() {
    let site = Site::start().await;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("b-2.dump");
    let (sealed, _) = site.dump(&path).await;
    let whole = std::fs::read(&path).expect("the dump");
    let candidate = site.empty().await;
    let bad = folder.path().join("bad.dump");
    for tenth in 0..10 {
        std::fs::write(&bad, &whole[..whole.len() * tenth / 10]).expect("written");
        let error = archive::check(&site.server, operation(5), &bad, &sealed, LIMIT).await;
        let error = error.expect_err("cut");
        assert!(matches!(error, DbError::Archive { .. }), "tenth {tenth}: {error}");
        let from = (bad.as_path(), &sealed);
        let into = (&candidate, &Owners::AsDumped);
        let error = archive::restore(&site.server, operation(5), from, into, LIMIT).await;
        assert!(matches!(error, Err(DbError::Archive { .. })), "tenth {tenth}: {error:?}");
        // Without a note of what it was, the decode finds it.
        let believed = archive::seal(&bad).await.expect("hashed");
        let error = archive::check(&site.server, operation(5), &bad, &believed, LIMIT).await;
        let text = error.expect_err("cut").to_string();
        assert!(text.contains("cannot read it back"), "tenth {tenth}: {text}");
    }
    let mut flipped = whole.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 0x10;
    std::fs::write(&bad, &flipped).expect("written");
    let error = archive::check(&site.server, operation(5), &bad, &sealed, LIMIT).await;
    assert!(error.expect_err("flipped").to_string().contains("SHA-256"));
    let there = site.server.connect(&candidate, operation(5)).await.expect("a session");
    let now = cutover::host::postgres::contents::contents(&there, LIMIT).await.expect("counted");
    assert!(now.rows.is_empty(), "nothing of a damaged archive was restored: {now:?}");

    let snapshot = site.snapshot().await;
    let from = (&site.live, &snapshot);
    let none = folder.path().join("none/b-3.dump");
    let error = archive::dump(&site.server, operation(5), from, &none, LIMIT).await;
    let error = error.expect_err("no such folder");
    assert!(matches!(error, DbError::File { .. }), "{error}");
    let wrong = site.pg.server_as("shop", "wrong-4711").await;
    let from = (&site.live, &site.snapshot().await);
    let error =
        archive::dump(&wrong, operation(5), from, &bad, LIMIT).await.expect_err("not let in");
    let text = format!("{error} {error:?}");
    assert!(text.contains("password authentication failed"), "{text}");
    assert!(!text.contains("wrong-4711") && !text.contains(PASSWORD), "{text}");
}

#[tokio::test]
async fn a_copy_is_the_snapshot_whatever_is_written_meanwhile_and_its_loss_is_counted() {
    let site = Site::start().await;
    let snapshot = site.snapshot().await;
    let contents = snapshot.contents(LIMIT).await.expect("counted");
    let then =
        loss::activity(&site.server.connect(&site.live, operation(5)).await.expect("s")).await;
    let write = "INSERT INTO orders (total) SELECT 1 FROM generate_series(1, 11);
                 UPDATE orders SET total = total + 1 WHERE id <= 7; DELETE FROM orders WHERE id = 100;
                 INSERT INTO log SELECT now(), 'other' FROM generate_series(1, 5);
                 CREATE TABLE later AS SELECT 1 AS one;";
    site.pg.run(ODD, write).await;
    let candidate = site.empty().await;
    let (from, into) = ((&site.live, &snapshot), (&candidate, &Owners::AsDumped));
    archive::copy(&site.server, operation(5), from, into, LIMIT).await.expect("copied");
    assert_eq!(site.findings(&candidate, &contents).await, Vec::<String>::new());
    // Not before: who has counted a table in a transaction keeps its columns as they are.
    snapshot.close().await;
    site.pg.run(ODD, "ALTER TABLE orders ADD COLUMN extra int").await;

    let live = site.server.connect(&site.live, operation(5)).await.expect("a session");
    let other = site.server.connect(&candidate, operation(5)).await.expect("a session");
    let bill = loss::exact(&live, &other, LIMIT).await.expect("compared");
    let orders = &bill.tables["public.orders"];
    assert_eq!((orders.new, orders.changed, orders.deleted), (11, 7, 1));
    assert_eq!(orders.columns, ["extra"]);
    assert_eq!((bill.tables["public.log"].new, bill.tables["public.later"].new), (5, 1));
    assert_eq!((bill.tables.len(), bill.total()), (3, 25));
    let again = loss::exact(&live, &other, LIMIT).await.expect("twice on the same sessions");
    assert_eq!(again, bill);
    let deadline = Instant::now() + Duration::from_secs(30);
    let now = loop {
        // Counters are reported by sessions that become idle.
        let now = loss::activity(&live).await.expect("counters");
        let bill = loss::at_most(then.as_ref().expect("counters"), &now);
        if bill.as_ref().is_some_and(|bill| bill.total() >= 25) {
            break now;
        }
        assert!(Instant::now() < deadline, "not all 25 changes are counted: {bill:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let mut restarted = now.clone();
    restarted.server_start.push('x');
    assert_eq!(loss::at_most(&now, &restarted), None, "after a crash nothing is known");
}

#[tokio::test]
async fn a_clone_has_the_rights_and_settings_of_its_model() {
    let site = Site::start().await;
    let to = site.live.point(cutover_model::ReleaseId(7));
    let model = facts::database(&site.session, &site.live).await.expect("f").expect("there");
    let busy = site.pg.client(ODD).await;
    for _ in 0..2 {
        let marker = site.marker(Kind::Point, Made::Building);
        build::clone(&site.session, &model, &to, &marker).await.expect("cloned");
    }
    assert!(busy.batch_execute("SELECT 1").await.is_err(), "a template clone ends every session");
    let contents = site.snapshot().await.contents(LIMIT).await.expect("counted");
    assert_eq!(site.findings(&to, &contents).await, Vec::<String>::new());
    let seen = facts::database(&site.session, &to).await.expect("facts").expect("there");
    assert_eq!(seen.marker().map(|marker| marker.kind), Some(Kind::Point));
    let path = "SELECT count(*) FROM \"T\"";
    assert_eq!(site.pg.number(to.as_str(), path).await, 0, "its search_path was copied");
}

#[tokio::test]
async fn what_is_made_beside_a_database_has_its_kind_of_locale() {
    for (major, kinds) in [(15, &["libc"][..]), (18, &["libc", "builtin"])] {
        let pg = Pg::start_of(major);
        let server = pg.server().await;
        let session = server.connect(&server.maintenance, operation(5)).await.expect("a session");
        claims::ensure_ledger(&session).await.expect("the ledger");
        for kind in kinds {
            let locale = if *kind == "builtin" { "BUILTIN_LOCALE 'C.UTF-8'" } else { "" };
            let sql = format!(
                "CREATE DATABASE by_{kind} TEMPLATE template0 LOCALE_PROVIDER {kind} {locale}"
            );
            pg.run("postgres", &sql).await;
        }
        if kinds.contains(&"builtin") {
            // As `initdb --locale-provider=builtin` leaves it.
            let sql = "UPDATE pg_database SET datlocprovider = 'b', datlocale = 'C.UTF-8'
                        WHERE datname = 'template0'";
            pg.run("postgres", sql).await;
        }
        for kind in kinds {
            let model = name(&format!("by_{kind}"));
            let live = facts::database(&session, &model).await.expect("facts").expect("there");
            let installation = server.installation.clone();
            let (operation, made) = (operation(5), Made::Building);
            let marker = Marker { installation, operation, kind: Kind::Candidate, made };
            let candidate = model.candidate(operation);
            build::empty(&session, &live, &candidate, &marker).await.expect("made");
            let sql = format!(
                "SELECT count(*) FROM pg_database WHERE datname = '{candidate}'
                    AND datlocprovider = '{}'",
                &kind[..1].replace('l', "c")
            );
            assert_eq!(pg.number("postgres", &sql).await, 1, "{major} {kind}");
        }
    }
}

#[tokio::test]
async fn what_speaks_against_it_is_said_all_at_once() {
    let site = Site::start().await;
    let pg = &site.pg;
    pg.run("postgres", "CREATE ROLE weak LOGIN PASSWORD 'weak'").await;
    let foreign = site.live.candidate(operation(5)).quoted();
    pg.run("postgres", &format!("CREATE DATABASE {foreign}")).await;
    let holder = pg.client(ODD).await;
    let sql = "BEGIN; INSERT INTO log VALUES (now(), 'x'); PREPARE TRANSACTION 'two'";
    holder.batch_execute(sql).await.expect("prepared");
    let need = Need {
        live: site.live.clone(),
        size: 1 << 50,
        extensions: ["postgis".to_owned()].into(),
        roles: ["somebody".to_owned(), "app".to_owned()].into(),
        made_by: Some(99),
        restores: true,
        unknown_space: UnknownSpace::Refused,
        max_hold: None,
    };
    let seen = preflight::look(&site.server, &site.session, operation(5), &site.live).await;
    let reasons = preflight::refusals(&need, &seen.expect("seen"));
    let text: Vec<String> =
        reasons.into_iter().map(|r| format!("{} -> {}", r.what, r.remedy)).collect();
    let text = text.join("\n");
    for words in [
        "prepared transaction of shop: two",
        "MB short of what is to be made",
        "dump was made by PostgreSQL 99, and here is ",
        "no extension postgis",
        "no role somebody",
        "is not Cutover's",
    ] {
        assert!(text.contains(words), "{words} in:\n{text}");
    }
    assert_eq!(text.lines().count(), 6, "{text}");

    let weak = pg.server_as("weak", "weak").await;
    let session = weak.connect(&weak.maintenance, operation(5)).await.expect("a session");
    let seen = preflight::look(&weak, &session, operation(5), &site.live).await;
    let error = seen.expect_err("it may not make the schema");
    assert!(matches!(error, DbError::NotPermitted { .. }), "{error}");
}

#[tokio::test]
async fn an_integrity_query_can_neither_write_nor_run_for_ever() {
    let site = Site::start().await;
    let there = site.server.open(&site.live, operation(5), Lookup::AsSetUp).await.expect("s");
    let ask = async |sql: &str, expect: Option<&str>| {
        let question = Question {
            name: "q".to_owned(),
            sql: sql.to_owned(),
            expect: expect.map(str::to_owned),
            timeout: Duration::from_millis(500),
        };
        verify::ask(&there, &question).await.expect("asked")
    };
    assert_eq!(ask("SELECT 1 FROM orders WHERE total IS NULL", None).await, Answered::Pass);
    assert_eq!(ask("SELECT * FROM \"T\"", None).await, Answered::Pass, "its own search_path");
    let many = ask("SELECT * FROM orders WHERE id <= 37", None).await;
    assert_eq!(many, Answered::Fail("37 rows".to_owned()));
    assert_eq!(ask("SELECT count(*) > 0 FROM orders", Some("t")).await, Answered::Pass);
    let wrong = ask("SELECT count(*) FROM orders", Some("0")).await;
    assert_eq!(wrong, Answered::Fail("5000 instead of 0".to_owned()));
    for sql in [
        "SELECT * FROM nothing",
        "SELECT later FROM orders",
        "SELECT later(id) FROM orders",
        "SELECT * FROM later.orders",
        "SELECT id::later FROM orders",
    ] {
        let answered = ask(sql, None).await;
        assert!(matches!(answered, Answered::Misfit(_)), "{sql}: {answered:?}");
    }
    for sql in ["DELETE FROM orders", "COMMIT; DELETE FROM orders", "SELECT pg_sleep(60)", "SELEC"]
    {
        let answered = ask(sql, None).await;
        assert!(matches!(answered, Answered::Unclear(_)), "{sql}: {answered:?}");
    }
    assert_eq!(site.pg.number(ODD, "SELECT count(*) FROM orders").await, 5_000);
}

#[tokio::test]
async fn a_disk_that_is_too_small_is_known_before_anything_is_built() {
    let disk = "/var/lib/postgresql/data:rw,size=120m";
    let pg = Pg::start_with(&["--tmpfs", disk]);
    let server = pg.server().await;
    let session = server.connect(&server.maintenance, operation(5)).await.expect("a session");
    let seen = preflight::look(&server, &session, operation(5), &name("shop")).await.expect("seen");
    let space = seen.space.expect("it is here");
    assert!(space.data < 120 * 1024 * 1024, "{space:?}");
    let need = |size| Need {
        live: name("shop"),
        size,
        extensions: [].into(),
        roles: [].into(),
        made_by: None,
        restores: true,
        unknown_space: UnknownSpace::Refused,
        max_hold: None,
    };
    let reasons = preflight::refusals(&need(100 * 1024 * 1024), &seen);
    assert!(reasons.iter().any(|reason| reason.what.contains("short of")), "{reasons:?}");
    assert_eq!(pg.databases().await, ["postgres", "shop"]);
}
