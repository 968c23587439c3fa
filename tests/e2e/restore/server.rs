//! The server of the database is stopped, takes no writes, or is restarted while its data is dumped
//! and its candidate is built. Pages go on, nothing is left, a repeat converges.

use std::process::Child;
use std::time::Duration;

use super::shop::Shop;
use crate::harness::engine;
use crate::harness::eventually;
use crate::harness::load::{Load, Plan, READERS};
use crate::harness::traces::files;

const BACK: &[&str] = &["rollback", "--database", "--max-loss", "1000000"];

#[test]
fn a_server_that_is_down_or_takes_no_writes_refuses_a_restore_before_anything_is_made() {
    let mut shop = Shop::with_a_bad_migration();
    let (databases, spoilt) = (shop.databases(), shop.fingerprint("shop"));
    let backups = shop.backups();
    let load = shop.readers();
    shop.server("stop");
    let ran = shop.run(BACK).exits(4);
    ran.says(&[
        "no running container of it",
        "start it with: docker compose",
        "The database is as it was",
    ]);
    // Traffic goes back first, whatever becomes of the data, and stays there.
    shop.fronted.serves("v1");
    shop.server("start");
    shop.assert_nothing_began(&databases, &backups);

    // Of the whole server, and of the one database that names are exchanged from.
    for whose in ["SYSTEM", "DATABASE postgres"] {
        shop.sets_read_only(whose, "on");
        let ran = shop.run(BACK).exits(4);
        ran.says(&["default_transaction_read_only is on", "turn it off", "NOTHING WAS CHANGED"]);
        shop.sets_read_only(whose, "off");
        shop.assert_nothing_began(&databases, &backups);
    }
    load.stop().assert_none_failed();
    assert_eq!(shop.fingerprint("shop"), spoilt);
    shop.converges(&spoilt);
}

#[test]
fn a_server_that_is_restarted_in_a_dump_or_a_copy_is_tried_again_and_the_data_comes_back() {
    let mut shop = Shop::with_a_bad_migration();
    let spoilt = shop.fingerprint("shop");
    let load = shop.readers();

    // pg_dump reads this list, and nobody else does: it waits in the middle.
    let holder = shop.session();
    holder.ask("BEGIN");
    holder.ask("LOCK TABLE pg_catalog.pg_ts_template");
    let child = shop.begun("wait_event_type = 'Lock' AND query LIKE '%pg_ts_template%'");
    shop.restart_server();
    drop(holder);
    let operation = shop.goes_on(child, "dump");
    shop.assert_put_back(&spoilt);
    shop.run(&["undo", &operation, "--max-loss", "100000"]).succeeded();
    shop.fronted.serves("v2");
    assert_eq!(shop.fingerprint("shop"), spoilt);

    // Whoever copies a database waits for a checkpoint first.
    let stop = format!("kill -STOP {}", shop.process("checkpointer"));
    shop.inside(&["sh", "-c", &stop]);
    let child = shop.begun("query LIKE 'CREATE DATABASE%'");
    shop.restart_server();
    shop.goes_on(child, "copy");
    shop.assert_put_back(&spoilt);
    load.stop().assert_none_failed();
}

/// Requests may wait for so long only, and a process of the server that stands still keeps the
/// exchange from being made. Docker is away at that moment, and is not needed to open it again.
#[test]
fn an_exchange_that_is_given_up_opens_the_database_although_docker_is_away() {
    let mut shop = Shop::spoilt(Shop::deployed_with("max_hold = \"8s\""));
    let spoilt = shop.fingerprint("shop");
    let link = shop.fronted.shop.beside("engine.sock");
    let appear = || std::os::unix::fs::symlink("/var/run/docker.sock", &link).expect("a link");
    appear();
    shop.fronted.cutover.stop();
    shop.fronted.cutover.variable("DOCKER_HOST", Some(&format!("unix://{}", link.display())));
    shop.fronted.cutover.serve();
    let pid = shop.session_that_stands_still();
    let child = shop.fronted.cutover.spawn(BACK);
    let is_open = || {
        let sql = "SELECT datallowconn FROM pg_database WHERE datname = 'shop'";
        shop.sql("postgres", &[sql]).trim() == "t"
    };
    eventually("the database is closed", Duration::from_secs(120), || (!is_open()).then_some(()));
    std::fs::remove_file(&link).expect("the engine is away");
    eventually("the database is open", Duration::from_secs(20), || is_open().then_some(()));
    shop.fronted.serves("v1");
    appear();
    shop.inside(&["sh", "-c", &format!("kill -CONT {pid}")]);
    let ended = child.wait_with_output().expect("what it printed");
    let said = String::from_utf8_lossy(&[ended.stdout, ended.stderr].concat()).into_owned();
    assert_eq!(ended.status.code(), Some(7), "{said}");
    assert!(said.contains("the most that is allowed (max_hold)"), "{said}");
    assert_eq!(shop.fingerprint("shop"), spoilt);
    let operation = shop.running().pop().expect("it waits for a person");
    shop.run(&["continue", &operation]).succeeded();
    shop.assert_put_back(&spoilt);
}

impl Shop {
    /// Stops the process of a session with the live database: it cannot be ended.
    fn session_that_stands_still(&self) -> String {
        let sql = "SELECT pg_sleep(600)";
        let container = self.fronted.shop.container("postgres");
        let asks = ["psql", "-U", "shop", "-d", "shop", "-h", "/var/run/postgresql", "-c", sql];
        engine::docker(&[&["exec", "-d", &container], &asks[..]].concat()).succeeded();
        let who = "SELECT pid FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(600)'
                    AND pid <> pg_backend_pid()";
        let pid = eventually("the session is there", Duration::from_secs(10), || {
            let said = self.sql("postgres", &[who]);
            said.trim().parse::<u32>().ok().map(|pid| pid.to_string())
        });
        self.inside(&["sh", "-c", &format!("kill -STOP {pid}")]);
        pid
    }

    /// Pages and their assets: what is answered without the database.
    pub(super) fn readers(&self) -> Load {
        let address = self.fronted.address();
        let load = Load::start(Plan { address, rate: 50, clients: 50, mix: READERS });
        load.wait_for(50);
        load
    }

    /// Backups, half made ones, too.
    fn backups(&self) -> Vec<String> {
        let mut found = files(&self.fronted.shop.beside("state/backups"));
        found.sort();
        found
    }

    /// Sets whether new transactions can only read, and waits until it is so.
    fn sets_read_only(&self, whose: &str, to: &str) {
        let set = format!("ALTER {whose} SET default_transaction_read_only = {to}");
        // It can be turned off again by whoever does so for the own session.
        let may = "PGOPTIONS=-c default_transaction_read_only=off";
        let psql = ["psql", "-U", "shop", "-d", "postgres", "-Atc"];
        let reload = ["-c", "SELECT pg_reload_conf()"];
        self.inside(&[&["env", may], &psql[..], &[&set], &reload].concat());
        eventually("it is set", Duration::from_secs(10), || {
            let said = self.inside(&[&psql[..], &["SHOW default_transaction_read_only"]].concat());
            (said.trim() == to).then_some(())
        });
    }

    #[track_caller]
    fn assert_nothing_began(&self, databases: &[String], backups: &[String]) {
        assert_eq!(self.databases(), databases);
        assert_eq!(self.backups(), backups);
        self.nothing_runs_after("a refusal");
        self.fronted.serves("v1");
        self.assert_at_rest();
    }

    /// Typed again it goes through, and what was live is put aside as it was.
    pub(super) fn converges(&self, spoilt: &str) {
        self.run(BACK).succeeded();
        self.assert_put_back(spoilt);
    }

    /// The old data is live, and what was live is put aside as it was.
    fn assert_put_back(&self, spoilt: &str) {
        self.fronted.serves("v1");
        assert!(!self.has_migration("_note_v2"));
        let asides = self.databases().into_iter().filter(|name| name.contains("__prev_"));
        let asides: Vec<_> = asides.map(|name| (self.fingerprint(&name), name)).collect();
        assert!(asides.iter().any(|(kept, _)| kept == spoilt), "{spoilt}: {asides:?}");
        self.assert_at_rest();
    }

    /// Runs something in the container of the database.
    fn inside(&self, command: &[&str]) -> String {
        let container = self.fronted.shop.container("postgres");
        engine::docker(&[&["exec", &container], command].concat()).succeeded().stdout
    }

    /// Types the command, and waits until a session of Cutover's does this on the server.
    fn begun(&self, does: &str) -> Child {
        let mut child = self.fronted.cutover.spawn(BACK);
        let is_there = eventually(does, Duration::from_secs(120), || {
            let ended = child.try_wait().expect("the state of a child");
            (ended.is_some() || self.does(does)).then_some(ended.is_none())
        });
        if !is_there {
            panic!("{does}: it has ended before: {:?}", child.wait_with_output());
        }
        child
    }

    /// A command that has met a restart of the server says so, tries again and comes to its end:
    /// its operation.
    fn goes_on(&self, mut child: Child, step: &str) -> String {
        let limit = Duration::from_secs(120);
        eventually(&format!("the end of the {step}"), limit, || {
            child.try_wait().expect("the state of a child")
        });
        let ended = child.wait_with_output().expect("what it printed");
        let said = [ended.stdout, ended.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        assert_eq!(ended.status.code(), Some(0), "{step}:\n{said}");
        assert!(said.contains("It is tried again in"), "{step}: {said}");
        assert!(!said.contains("cannot be used"), "{step}: no backup is bad:\n{said}");
        let undo = said.rsplit("cutover undo ").next().expect("the way back");
        undo.chars().take_while(char::is_ascii_alphanumeric).collect()
    }
}
