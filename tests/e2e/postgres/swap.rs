//! The exchange of two databases: under load, killed at any moment, refused, taken back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cutover::host::postgres::recover::{self, Scope};
use cutover::host::postgres::swap::{self, LIMIT, Side, Swap};
use cutover::host::postgres::{
    DbError, DbName, Kind, Made, Marker, Server, Session, build, claims, facts, fence, gate,
};
use rand::{Rng, SeedableRng};
use tokio_postgres::{Client, NoTls};

use crate::harness::engine;
use crate::harness::postgres::{Pg, name, operation};

fn marker(server: &Server, number: u64, made: Made) -> Marker {
    let (installation, operation) = (server.installation.clone(), operation(number));
    Marker { installation, operation, kind: Kind::Candidate, made }
}

async fn session(server: &Server, number: u64) -> Session {
    server.connect(&server.maintenance, operation(number)).await.expect("a session")
}

/// Clones `shop` to a verified candidate of an operation.
async fn candidate(server: &Server, session: &Session, number: u64) -> DbName {
    claims::ensure_ledger(session).await.expect("the ledger");
    let shop = facts::database(session, &name("shop")).await.expect("facts").expect("there");
    let to = shop.name.candidate(operation(number));
    let building = marker(server, number, Made::Building);
    build::clone(session, &shop, &to, &building).await.expect("cloned");
    claims::mark(session, &to, &marker(server, number, Made::Verified)).await.expect("marked");
    to
}

async fn plan(server: &Server, session: &Session, number: u64, candidate: &DbName) -> Swap {
    let by = (operation(number), number);
    Swap::plan(session, &server.installation, by, &name("shop"), candidate).await.expect("a plan")
}

/// A client with a pool of one connection: what fails is tried once more on a new connection.
async fn busy(pg: Arc<Pg>, client: u64, stop: Arc<AtomicBool>, failed: Arc<AtomicU64>) -> u64 {
    let mut done = 0;
    let mut connection: Option<Client> = None;
    while !stop.load(Ordering::Relaxed) {
        let sql = format!("INSERT INTO seen VALUES ({client}, {done}) ON CONFLICT DO NOTHING");
        for attempt in 0..2 {
            if connection.is_none() {
                connection = Some(connected(&pg).await);
            }
            let on = connection.as_ref().expect("just made");
            match on.batch_execute(&sql).await {
                Ok(()) => break,
                Err(error) => {
                    connection = None;
                    if attempt == 1 {
                        eprintln!("client {client}, statement {done}: {error:?}");
                        failed.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
        }
        done += 1;
    }
    done
}

/// As a pool does: asks for a connection until there is one.
async fn connected(pg: &Pg) -> Client {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        match pg.config("shop").user("busy").connect(NoTls).await {
            Ok((client, connection)) => {
                tokio::spawn(connection);
                return client;
            }
            Err(error) => assert!(Instant::now() < deadline, "no connection: {error:?}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The table that they write to, and their role: one that is let in without the arithmetic of
/// passwords, which would be all that a small machine does.
async fn prepared() -> Arc<Pg> {
    let pg = Arc::new(Pg::start());
    let rule = "sed -i '1i host all busy all trust' \"$PGDATA/pg_hba.conf\"";
    engine::docker(&["exec", &pg.id, "sh", "-c", rule]).succeeded();
    let sql = "CREATE TABLE seen (client int, n int, PRIMARY KEY (client, n));
               CREATE ROLE busy LOGIN; GRANT ALL ON seen TO busy; SELECT pg_reload_conf()";
    pg.run("shop", sql).await;
    pg
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_busy_clients_that_try_once_more_see_no_failure() {
    let pg = prepared().await;
    let server = pg.server().await;
    pg.run("postgres", "COMMENT ON DATABASE shop IS 'the shop''s own'").await;
    let session = session(&server, 41).await;
    let candidate = candidate(&server, &session, 41).await;
    let plan = plan(&server, &session, 41, &candidate).await;
    let (stop, failed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let clients: Vec<_> = (0..20)
        .map(|n| tokio::spawn(busy(Arc::clone(&pg), n, Arc::clone(&stop), Arc::clone(&failed))))
        .collect();
    let connected = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'somebody'";
    while pg.number("shop", connected).await < 20 {
        tokio::task::yield_now().await;
    }
    let swapped = swap::swap(&session, &plan, LIMIT).await.expect("exchanged");
    eprintln!("exchanged in {:?}, {} sessions ended", swapped.took, swapped.ended);
    assert!(swapped.took < LIMIT && swapped.ended >= 15, "{swapped:?}");
    let again = swap::swap(&session, &plan, LIMIT).await.expect("it was done");
    assert!(again.took.is_zero());
    // They all come back on the other side.
    let rows = "SELECT count(DISTINCT client) FROM seen";
    while pg.number("shop", rows).await < 20 {
        tokio::task::yield_now().await;
    }
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        assert!(client.await.expect("a client") > 0);
    }
    assert_eq!(failed.load(Ordering::Relaxed), 0, "statements failed after one more try");
    let live = facts::database(&session, &name("shop")).await.expect("facts").expect("there");
    assert_eq!((live.oid, live.allows), (plan.candidate_oid, true));
    assert_eq!(live.comment.as_deref(), Some("the shop's own"));
    let aside = facts::database_of(&session, plan.live_oid).await.expect("facts").expect("there");
    assert_eq!((aside.name.as_str(), aside.allows), ("shop__prev_o41", true));
    assert_eq!(aside.marker().map(|marker| marker.kind), Some(Kind::Previous));
    // And back again: what was put aside is the candidate now.
    let back = self::plan(&server, &session, 42, &aside.name).await;
    swap::swap(&session, &back, LIMIT).await.expect("back");
    let live = facts::database(&session, &name("shop")).await.expect("facts").expect("there");
    assert_eq!(live.oid, plan.live_oid);
    assert_eq!(live.comment.as_deref(), Some("the shop's own"));
    assert_eq!(pg.databases().await, ["postgres", "shop", "shop__prev_o42"]);
}

/// What a daemon does after it was killed, in its order. Gives the side that it found.
async fn recovered(server: &Server, swap: &Swap) -> Side {
    let deadline = Instant::now() + Duration::from_secs(60);
    let session = loop {
        match server.connect(&server.maintenance, swap.operation).await {
            Ok(session) => break session,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    recover::end_sessions(&session, &server.installation, Scope::Installation)
        .await
        .expect("ended");
    gate::reopen(&session, &server.installation).await.expect("opened");
    let side = swap::side(&session, swap).await.expect("seen");
    for oid in [swap.live_oid, swap.candidate_oid] {
        let database = facts::database_of(&session, oid).await.expect("facts").expect("there");
        assert!(database.allows, "{database:?}");
    }
    assert!(facts::database(&session, &swap.live).await.expect("facts").is_some());
    side
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_killed_at_any_moment_leaves_exactly_the_old_or_the_new_state() {
    let pg = prepared().await;
    let server = pg.server().await;
    let first = session(&server, 1).await;
    let mut candidate = candidate(&server, &first, 1).await;
    drop(first);
    let stop = Arc::new(AtomicBool::new(false));
    let failed = Arc::new(AtomicU64::new(0));
    let clients: Vec<_> = (0..4)
        .map(|n| tokio::spawn(busy(Arc::clone(&pg), n, Arc::clone(&stop), Arc::clone(&failed))))
        .collect();
    let seed: u64 = rand::rng().random();
    eprintln!("seed {seed}");
    let mut random = rand::rngs::SmallRng::seed_from_u64(seed);
    let (mut before, mut after) = (0, 0);
    let mut whole = Duration::ZERO;
    for round in 2..40 {
        let session = session(&server, round).await;
        let plan = plan(&server, &session, round, &candidate).await;
        // The first one may end; the others die somewhere on its way, or just after it.
        let most = u64::try_from(whole.as_micros()).expect("it is short") * 2;
        let moment = match most {
            0 => LIMIT * 3,
            most => Duration::from_micros(random.random_range(0..most)),
        };
        let begun = Instant::now();
        // Dropped in the middle: what the server has been told, it finishes.
        let swapped = tokio::time::timeout(moment, swap::swap(&session, &plan, LIMIT)).await;
        if whole.is_zero() {
            whole = begun.elapsed();
            eprintln!("a whole swap takes {whole:?}");
        }
        drop(session);
        let finished = matches!(swapped, Ok(Ok(_)));
        match recovered(&server, &plan).await {
            Side::Before => {
                assert!(!finished, "round {round}: it was done and is not");
                before += 1;
            }
            Side::After => {
                after += 1;
                candidate = plan.aside.clone();
            }
            Side::Neither(what) => panic!("round {round} after {moment:?}: {what}"),
        }
        assert_eq!(pg.databases().await.len(), 3, "round {round}");
    }
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.expect("a client");
    }
    eprintln!("{before} old, {after} new");
    assert!(before > 0 && after > 0, "seed {seed}: {before} old, {after} new");
}

#[tokio::test]
async fn a_server_killed_in_the_middle_comes_back_with_one_live_database_that_is_open() {
    let pg = Pg::start();
    let server = pg.server().await;
    let first = session(&server, 1).await;
    let mut candidate = candidate(&server, &first, 1).await;
    drop(first);
    for round in 2..6 {
        let session = session(&server, round).await;
        let plan = plan(&server, &session, round, &candidate).await;
        let live = facts::database(&session, &name("shop")).await.expect("facts").expect("there");
        gate::close(&session, &server.installation, operation(round), &[&live])
            .await
            .expect("shut");
        let id = pg.id.clone();
        let moment = Duration::from_millis(round * 7);
        let kill = std::thread::spawn(move || {
            std::thread::sleep(moment);
            engine::docker(&["kill", "-s", "KILL", &id]).succeeded();
        });
        let swapped = swap::swap(&session, &plan, LIMIT).await;
        kill.join().expect("killed");
        engine::docker(&["start", &pg.id]).succeeded();
        match recovered(&server, &plan).await {
            Side::Before => assert!(swapped.is_err()),
            Side::After => candidate = plan.aside.clone(),
            Side::Neither(what) => panic!("round {round}: {what}"),
        }
        assert_eq!(pg.databases().await.len(), 3);
    }
}

#[tokio::test]
async fn a_swap_that_may_not_be_is_refused_and_both_stay_open() {
    let pg = Pg::start();
    let server = pg.server().await;
    let session = session(&server, 7).await;
    let candidate = candidate(&server, &session, 7).await;
    let plan = plan(&server, &session, 7, &candidate).await;
    let refused = async |words: &str| {
        let error = swap::swap(&session, &plan, LIMIT).await.expect_err(words);
        assert!(error.to_string().contains(words), "{error}");
        assert_eq!(swap::side(&session, &plan).await.expect("seen"), Side::Before);
        for name in [&plan.live, &plan.candidate] {
            let seen = facts::database(&session, name).await.expect("facts").expect("there");
            assert!(seen.allows, "{words}: {name} is closed");
        }
    };
    let holder = pg.client("shop").await;
    let sql = "CREATE TABLE t (); BEGIN; INSERT INTO t DEFAULT VALUES; PREPARE TRANSACTION 'two'";
    holder.batch_execute(sql).await.expect("prepared");
    refused("prepared transaction (two)").await;
    holder.batch_execute("ROLLBACK PREPARED 'two'").await.expect("rolled back");

    pg.run("postgres", "CREATE DATABASE shop__prev_o7").await;
    refused("not Cutover's").await;
    pg.run("postgres", "DROP DATABASE shop__prev_o7").await;

    claims::mark(&session, &candidate, &marker(&server, 7, Made::Building)).await.expect("marked");
    refused("was not verified").await;
    claims::mark(&session, &candidate, &marker(&server, 7, Made::Verified)).await.expect("marked");

    pg.run("postgres", "INSERT INTO cutover.epochs VALUES ('0192f0c1-test', 8)").await;
    refused("a later daemon (epoch 8)").await;
    pg.run("postgres", "UPDATE cutover.epochs SET epoch = 7").await;

    let _in_the_way = pg.client("shop").await;
    let error = swap::swap(&session, &plan, Duration::ZERO).await.expect_err("no time");
    assert!(matches!(error, DbError::NotEmptied { .. }), "{error}");
    drop(pg.client("shop").await);

    pg.run("postgres", "ALTER DATABASE shop ALLOW_CONNECTIONS false").await;
    let error = swap::swap(&session, &plan, LIMIT).await.expect_err("closed by somebody");
    assert!(error.to_string().contains("and not by Cutover"), "{error}");
    let opened = gate::reopen(&session, &server.installation).await.expect("asked");
    assert_eq!(opened, [], "what somebody else closed is theirs");
    pg.run("postgres", "ALTER DATABASE shop ALLOW_CONNECTIONS true").await;

    swap::swap(&session, &plan, LIMIT).await.expect("exchanged");
}

#[tokio::test]
async fn a_role_is_fenced_and_let_in_again() {
    let pg = Pg::start();
    let server = pg.server().await;
    let session = session(&server, 9).await;
    claims::ensure_ledger(&session).await.expect("the ledger");
    pg.run("postgres", "CREATE ROLE \"bad color\" LOGIN PASSWORD 'x'").await;
    let mut config = pg.config("shop");
    config.user("bad color").password("x");
    let (client, connection) = config.connect(NoTls).await.expect("let in");
    tokio::spawn(connection);
    let id = &server.installation;
    let ended = fence::fence(&session, id, operation(9), "bad color").await.expect("fenced");
    assert_eq!(ended, 1);
    fence::fence(&session, id, operation(9), "bad color").await.expect("fenced already");
    assert!(client.batch_execute("SELECT 1").await.is_err());
    assert!(config.connect(NoTls).await.is_err());
    let error = fence::fence(&session, id, operation(9), "shop").await.expect_err("our own");
    assert!(error.to_string().contains("stop the color's containers"), "{error}");
    for freed in [vec!["bad color".to_owned()], vec![]] {
        let roles = fence::unfence(&session, id, Some(operation(9))).await.expect("let in");
        assert_eq!(roles, freed);
    }
    drop(config.connect(NoTls).await.expect("let in again"));
}
