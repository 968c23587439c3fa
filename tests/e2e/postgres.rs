//! The hands on a database, on a real server: found, asked, and every way it is not let in.

mod archive;
mod standby;
mod swap;
mod tls;

use std::time::Duration;

use cutover::host::postgres::claims::{self, Whose};
use cutover::host::postgres::recover::{self, Scope};
use cutover::host::postgres::verify::{self, Answered, Question};
use cutover::host::postgres::{Again, DbError, Fault, Kind, Made, Marker, Reach, facts};

use crate::harness::engine;
use crate::harness::postgres::{PASSWORD, Pg, name, operation, usual_major};

#[tokio::test]
async fn a_server_is_found_by_its_labels_and_says_what_it_is() {
    let pg = Pg::start();
    let server = pg.server().await;
    let odd = "It's \"quoted\"; drop -- Ä";
    pg.run("postgres", &format!("CREATE DATABASE \"{}\"", odd.replace('"', "\"\""))).await;
    let session = server.connect(&name(odd), operation(41)).await.expect("a session");
    let seen = facts::server(&session).await.expect("facts");
    assert_eq!(seen.major(), i32::try_from(usual_major()).expect("a number"));
    assert!(seen.role.superuser && seen.role.createdb && seen.role.signals, "{seen:?}");
    assert!(!seen.in_recovery && !seen.read_only, "{seen:?}");
    assert_eq!(seen.max_wal, 64 * 1024 * 1024);
    assert_eq!(seen.data_directory.as_deref(), Some("/var/lib/postgresql/data"));

    let holder = pg.client("shop").await;
    // In this order: making a slot waits for the end of every transaction.
    for sql in [
        "SELECT pg_create_logical_replication_slot('feed', 'pgoutput')",
        "CREATE TABLE t (); BEGIN; INSERT INTO t DEFAULT VALUES; PREPARE TRANSACTION 'two'",
    ] {
        holder.batch_execute(sql).await.expect("it is done");
    }
    let shop = facts::database(&session, &name("shop")).await.expect("facts").expect("it is there");
    assert_eq!((shop.owner.as_str(), shop.allows, shop.connection_limit), ("shop", true, -1));
    assert!(shop.sessions.iter().any(|session| session.application == "somebody"), "{shop:?}");
    assert_eq!(shop.prepared, [("two".to_owned(), "shop".to_owned())]);
    assert_eq!(shop.slots[0].0, "feed");
    assert_eq!(shop.marker(), None);
    let own = facts::database(&session, &name(odd)).await.expect("facts").expect("it is there");
    assert_eq!(own.sessions, [], "our own session is left out");
    assert!(facts::database(&session, &name("none")).await.expect("facts").is_none());
    let label =
        "SELECT application_name FROM pg_stat_activity WHERE application_name LIKE 'cutover:%'";
    let rows = holder.query(label, &[]).await.expect("rows");
    assert!(rows[0].get::<_, String>(0).ends_with(":o41"));
}

#[tokio::test]
async fn no_limit_that_is_meant_for_the_application_ends_a_session_of_ours() {
    for (major, limits) in [
        (16, &["idle_session_timeout"][..]),
        (18, &["idle_session_timeout", "transaction_timeout"]),
    ] {
        let pg = Pg::start_of(major);
        for limit in limits {
            pg.run("postgres", &format!("ALTER DATABASE shop SET {limit} = '10min'")).await;
        }
        let server = pg.server().await;
        let session = server.connect(&name("shop"), operation(1)).await.expect("a session");
        for limit in limits {
            let question = Question {
                name: (*limit).to_owned(),
                sql: format!("SELECT current_setting('{limit}')"),
                expect: Some("0".to_owned()),
                timeout: Duration::from_secs(5),
            };
            let asked = verify::ask(&session, &question).await.expect("asked");
            assert_eq!(asked, Answered::Pass, "{major} {limit}");
        }
    }
}

#[tokio::test]
async fn each_way_of_not_being_let_in_has_its_own_error_and_shows_no_password() {
    let pg = Pg::start();
    let server = pg.server().await;
    let shop = name("shop");
    let shown = |error: &DbError| {
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains(PASSWORD) && !shown.contains("wrong-4711"), "{shown}");
    };
    let wrong = pg.server_as("shop", "wrong-4711").await;
    let error = wrong.connect(&shop, operation(1)).await.expect_err("wrong password");
    assert!(matches!(error, DbError::NotLetIn { .. }), "{error}");
    assert_eq!((error.fault(), error.again()), (Fault::Operator, Again::Never));
    shown(&error);
    assert!(!format!("{wrong:?}").contains("wrong-4711"));

    let error = server.connect(&name("none"), operation(1)).await.expect_err("no database");
    assert!(matches!(error, DbError::NoDatabase { .. }), "{error}");

    pg.run("postgres", "ALTER DATABASE shop ALLOW_CONNECTIONS false").await;
    let error = server.connect(&shop, operation(1)).await.expect_err("closed");
    assert!(matches!(error, DbError::Gated { .. }), "{error}");
    assert_eq!(error.again(), Again::Later);
    pg.run("postgres", "ALTER DATABASE shop ALLOW_CONNECTIONS true").await;

    let session = server.connect(&shop, operation(1)).await.expect("a session");
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                WHERE application_name LIKE 'cutover:%'";
    pg.run("postgres", end).await;
    let error = facts::server(&session).await.expect_err("ended");
    assert!(matches!(error, DbError::Ended { .. } | DbError::Closed { .. }), "{error}");
    assert!(error.leaves_doubt() && error.again() == Again::Now);

    engine::docker(&["pause", &pg.id]).succeeded();
    let mut host = server.clone();
    host.reach = Reach::Host { host: pg.address(), port: 5432 };
    let begun = std::time::Instant::now();
    let error = host.connect(&shop, operation(1)).await.expect_err("it never answers");
    assert!(matches!(error, DbError::Unreachable { .. }), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(10));
    let error = server.connect(&shop, operation(1)).await.expect_err("it does not run");
    assert!(error.to_string().contains("no running container"), "{error}");
    engine::docker(&["unpause", &pg.id]).succeeded();
    engine::docker(&["stop", "-t", "1", &pg.id]).succeeded();
    let error = server.connect(&shop, operation(1)).await.expect_err("stopped");
    assert!(matches!(error, DbError::Unreachable { .. }), "{error}");
}

#[tokio::test]
async fn only_what_is_claimed_or_marked_is_ever_dropped() {
    let pg = Pg::start();
    let server = pg.server().await;
    let (shop, operation) = (name("shop"), operation(41));
    let session = server.connect(&server.maintenance, operation).await.expect("a session");
    for _ in 0..2 {
        claims::ensure_ledger(&session).await.expect("the ledger");
    }
    let id = &server.installation;
    let drop = |name| claims::drop_ours(&session, id, name, &shop);
    let marker = |kind, made| Marker { installation: id.clone(), operation, kind, made };

    let foreign = shop.candidate(operation);
    pg.run("postgres", "CREATE DATABASE shop__cand_o41").await;
    let building = marker(Kind::Candidate, Made::Building);
    for error in [
        claims::claim(&session, &foreign, &building).await.expect_err("foreign"),
        claims::mark(&session, &foreign, &building).await.expect_err("foreign"),
        drop(&foreign).await.expect_err("foreign"),
        drop(&shop).await.expect_err("the live one"),
    ] {
        assert!(matches!(error, DbError::NotOurs { .. }), "{error}");
    }
    pg.run("postgres", "COMMENT ON DATABASE shop__cand_o41 IS 'cutover/1 candidate verified o41 else-where-1; made'").await;
    assert!(matches!(claims::whose(&session, id, &foreign).await, Ok(Whose::Foreign(_))));
    assert!(drop(&foreign).await.is_err());
    pg.run("postgres", "DROP DATABASE shop__cand_o41").await;

    // Claimed, made, and the process died before it could mark it.
    let ours = shop.scratch(operation);
    claims::claim(&session, &ours, &marker(Kind::Scratch, Made::Building)).await.expect("claimed");
    assert_eq!(claims::whose(&session, id, &ours).await.expect("seen"), Whose::Nobody);
    pg.run("postgres", "CREATE DATABASE shop__try_o41").await;
    let Ok(Whose::Ours { marker: seen, .. }) = claims::whose(&session, id, &ours).await else {
        panic!("it is ours");
    };
    assert_eq!(seen.made, Made::Building);
    let verified = marker(Kind::Scratch, Made::Verified);
    let oid = claims::mark(&session, &ours, &verified).await.expect("marked");
    let seen = facts::database_of(&session, oid).await.expect("facts").expect("there");
    assert_eq!(seen.marker(), Some(verified));
    // Somebody replaced it by one of their own.
    pg.run("postgres", "DROP DATABASE shop__try_o41").await;
    pg.run("postgres", "CREATE DATABASE shop__try_o41").await;
    assert!(matches!(claims::whose(&session, id, &ours).await, Ok(Whose::Foreign(_))));
    pg.run("postgres", "DROP DATABASE shop__try_o41").await;

    claims::claim(&session, &ours, &marker(Kind::Scratch, Made::Building)).await.expect("claimed");
    pg.run("postgres", "CREATE DATABASE shop__try_o41").await;
    let busy = pg.client("shop__try_o41").await;
    for _ in 0..2 {
        drop(&ours).await.expect("dropped");
    }
    assert!(busy.simple_query("SELECT 1").await.is_err());
    assert_eq!(claims::claimed(&session, id).await.expect("claims"), []);
    assert_eq!(pg.number("postgres", "SELECT count(*) FROM cutover.claims").await, 0);
    assert_eq!(pg.databases().await, ["postgres", "shop"]);
}

#[tokio::test]
async fn one_operation_works_on_a_database_and_a_killed_one_is_cleared_away() {
    let pg = Pg::start();
    let server = pg.server().await;
    let shop = name("shop");
    let first = server.connect(&server.maintenance, operation(1)).await.expect("a session");
    let live = facts::database(&first, &shop).await.expect("facts").expect("there");
    for _ in 0..2 {
        claims::lock(&first, &live).await.expect("the lock");
    }
    let second = server.connect(&server.maintenance, operation(2)).await.expect("a session");
    let error = claims::lock(&second, &live).await.expect_err("taken");
    assert!(error.to_string().contains(":o1"), "{error}");
    // What the killed one left: a statement that goes on, and one of another operation.
    let left = pg.client("shop").await;
    let label = server.installation.session_name(operation(1));
    left.batch_execute(&format!("SET application_name = '{label}'")).await.expect("named");
    let sleeping = tokio::spawn(async move { left.batch_execute("SELECT pg_sleep(600)").await });
    let ended =
        recover::end_sessions(&second, &server.installation, Scope::Operation(operation(1)));
    assert_eq!(ended.await.expect("ended"), 2);
    assert!(sleeping.await.expect("a task").is_err());
    claims::lock(&second, &live).await.expect("free now");
    let again = recover::end_sessions(&second, &server.installation, Scope::Installation);
    assert_eq!(again.await.expect("ended"), 0);
}
