//! `migrate status` and `migrate down`: the way back by down scripts, tried on a copy first; and
//! kills in the middle of it.

use std::process::Child;
use std::time::Duration;

use super::site::Site;
use crate::harness::fronted::Fronted;
use crate::harness::{engine, eventually};
use crate::kills::states::{Killed, each_state, words};
use crate::restore::kills::named;

const CART: &str = "20261123000000_cart";

/// v2 brought a migration with this down script and serves.
fn with_down(down: Option<&str>) -> Site {
    with_down_on(Site::deployed(), down)
}

fn with_down_on(site: Site, down: Option<&str>) -> Site {
    site.migration(CART, "ALTER TABLE orders ADD COLUMN cart text;");
    if let Some(down) = down {
        site.script(CART, "down.sql", down);
    }
    site.fronted.deploy("good", &["--at-once"]).succeeded();
    site.fronted.serves("v2");
    site
}

#[test]
fn down_scripts_bring_the_old_schema_back_and_keep_the_rows() {
    let site = with_down(Some("ALTER TABLE orders DROP COLUMN cart;"));
    site.fronted
        .shop
        .observe("shop")
        .ask("INSERT INTO orders (item, release) VALUES ('cup', 'v2')");
    let status = site.run(&["migrate", "status"]).succeeded();
    status.says(&[CART, "r2", "only adds, r1 works with it", "way back: cutover migrate down"]);
    let plan = site.run(&["migrate", "down", "--dry-run"]).succeeded();
    plan.says(&["takes the migrations of r2 back", CART, "Nothing has happened yet"]);
    let asked = site.run(&["migrate", "down"]).exits(4);
    asked.says(&["NOTHING WAS CHANGED"]);
    assert!(site.has_column("cart"));

    site.run(&["rollback"]).succeeded();
    site.fronted.serves("v1");
    let ran = site.run(&["migrate", "down", "--yes"]).succeeded();
    ran.says(&["byte for byte what it was before", "taken back", "DONE"]);
    assert!(!site.has_column("cart"));
    assert!(!site.applied().contains(CART), "its row is gone: {}", site.applied());
    let rows =
        site.fronted.shop.observe("shop").number("SELECT count(*) FROM orders WHERE item = 'cup'");
    assert_eq!(rows, 1, "rows that were written since stay");
    site.at_rest("migrate down");
    let none = site.run(&["migrate", "down", "--yes"]).exits(4);
    none.says(&["NOTHING WAS CHANGED"]);
}

#[test]
fn a_down_script_that_does_not_bring_the_schema_back_is_refused() {
    let script = "ALTER TABLE orders ALTER COLUMN cart SET DEFAULT '';";
    check_refused(script, "is not what it was before it");
}

#[test]
fn a_down_script_that_fails_is_refused() {
    check_refused("ALTER TABLE orders DROP COLUMN basket;", "fail on a copy");
}

#[test]
fn a_down_script_that_ends_its_transaction_is_refused() {
    let script = "ALTER TABLE orders DROP COLUMN cart; COMMIT; BEGIN;";
    check_refused(script, "ends its transaction");
}

fn check_refused(script: &str, why: &str) {
    let site = with_down(Some(script));
    let refused = site.run(&["migrate", "down", "--yes"]).exits(4);
    refused.says(&[why, "NOTHING WAS CHANGED"]);
    assert!(site.has_column("cart"), "{script}");
    assert!(site.applied().contains(CART), "{script}");
    site.at_rest("a refused migrate down");
}

#[test]
fn a_missing_down_script_stands_on_the_ladder() {
    let site = with_down(None);
    let missing = format!("impossible: {CART} has no down.sql");
    let refused = site.run(&["migrate", "down", "--yes"]).exits(4);
    refused.says(&[&missing, "cutover rollback --database"]);
    let ladder = site.run(&["rollback", "--database", "--dry-run"]).succeeded();
    ladder.says(&["down scripts of r2", &missing, "restore point before r2"]);
}

#[test]
fn a_migrate_down_that_is_killed_is_wholly_done_or_never_was() {
    let mut site = with_down(Some("ALTER TABLE orders DROP COLUMN cart;"));
    site.run(&["rollback"]).succeeded();
    for (place, is_done) in
        [("down.copied", false), ("down.tried", false), ("down.begun", false), ("down.ran", true)]
    {
        site.dies_in(&["migrate", "down", "--yes"], place);
        assert_eq!(site.has_column("cart"), !is_done, "{place}");
        assert_eq!(site.applied().contains(CART), !is_done, "{place}");
    }
    let none = site.run(&["migrate", "down", "--yes"]).exits(4);
    none.says(&["No release has brought a migration that the database still has"]);
    site.fronted.serves("v1");
}

impl Killed for Site {
    fn fronted(&mut self) -> &mut Fronted {
        &mut self.fronted
    }

    fn under_way(&self) -> Vec<String> {
        let ran = self.run(&["status", "--json"]);
        let status: serde_json::Value =
            serde_json::from_str(ran.printed.stdout.trim()).unwrap_or_default();
        let Some(running) = status["apps"][0]["running"].as_array() else {
            return vec!["unknown".to_owned()];
        };
        running.iter().map(|operation| named(&operation["operation"])).collect()
    }

    fn holds(&mut self, place: &str, _kept: &str) {
        self.at_rest(place);
        assert_eq!(self.has_column("cart"), self.applied().contains(CART), "{place}: half of it");
        self.fronted.serves("v1");
    }
}

#[test]
fn a_migrate_down_killed_behind_each_record() {
    let mut site = with_down(Some("ALTER TABLE orders DROP COLUMN cart;"));
    let kills = each_state(&mut site, "migrate down", |site| {
        if !site.has_column("cart") {
            site.fronted.deploy("good", &["--at-once"]).succeeded();
            assert!(site.has_column("cart"));
        }
        if site.fronted.release_now() != "v1" {
            site.run(&["rollback", "--to", "r1"]).succeeded();
        }
        words(&["migrate", "down", "--yes"])
    });
    assert!(kills >= 1, "never killed");
}

#[test]
fn traffic_that_moves_while_the_copy_is_tried_stops_it_before_the_live_database() {
    let site = with_down(Some("SELECT pg_sleep(4); ALTER TABLE orders DROP COLUMN cart;"));
    let child = site.begins_down("shop__try_.*");
    site.run(&["rollback"]).succeeded();
    let said = ended(child, 4);
    assert!(said.contains("r1 serves now, and r2 did"), "{said}");
    assert!(said.contains("NOTHING WAS CHANGED"), "{said}");
    assert!(site.has_column("cart") && site.applied().contains(CART));
    site.at_rest("a refused migrate down");
}

#[test]
fn a_server_that_dies_in_it_is_waited_for_before_anything_is_said() {
    let site = with_down(Some("SELECT pg_sleep(4); ALTER TABLE orders DROP COLUMN cart;"));
    let child = site.begins_down("shop");
    site.server("kill");
    site.eventually_says("whether the migrations of r2 were taken back is not known");
    let events = site.run(&["events", "--last", "30"]).succeeded().printed.stdout;
    assert!(!events.contains("The database is as it was"), "{events}");
    site.server("start");
    let said = ended(child, 1);
    assert!(said.contains("The database is as it was"), "{said}");
    assert!(site.has_column("cart") && site.applied().contains(CART));
    site.at_rest("a migrate down whose server died");
}

#[test]
fn a_commit_whose_connection_broke_is_found_out() {
    let site = Site::deployed();
    // What is behind a row of this table takes its time in COMMIT.
    for sql in [
        "CREATE TABLE slow (id int)",
        "CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql
         AS $$ BEGIN PERFORM pg_sleep(6); RETURN NULL; END $$",
        "CREATE CONSTRAINT TRIGGER wait AFTER INSERT ON slow DEFERRABLE INITIALLY DEFERRED
         FOR EACH ROW EXECUTE FUNCTION wait()",
    ] {
        site.fronted.shop.observe("shop").ask(sql);
    }
    let script = "ALTER TABLE orders DROP COLUMN cart; INSERT INTO slow VALUES (1);";
    let site = with_down_on(site, Some(script));
    let child = site.begins("shop", "query = 'COMMIT'");
    let container = site.fronted.shop.container("postgres");
    let networks = "{{range $name, $_ := .NetworkSettings.Networks}}{{$name}} {{end}}";
    let networks = engine::inspect(&container, networks);
    for network in networks.split_whitespace() {
        engine::docker(&["network", "disconnect", network, &container]).succeeded();
    }
    site.eventually_says("the connection broke");
    for network in networks.split_whitespace() {
        // Cutover may have been first: it links the service to a release's network by itself.
        let back = ["network", "connect", "--alias", "postgres", network, &container];
        engine::docker(&back);
    }
    let said = ended(child, 0);
    assert!(!said.contains("The database is as it was\n"), "{said}");
    assert!(said.contains("DONE"), "{said}");
    assert!(!site.has_column("cart") && !site.applied().contains(CART));
    site.at_rest("a commit whose connection broke");
}

#[test]
fn an_outcome_that_stays_unknown_ends_and_the_next_migrate_down_finds_it_out() {
    let mut site = with_down(Some("ALTER TABLE orders DROP COLUMN cart;"));
    site.run(&["rollback"]).succeeded();
    site.dies_for_good_in(&["migrate", "down", "--yes"], "down.ran");
    site.server("stop");
    site.fronted.cutover.serve();
    site.eventually_says("It is asked again");
    site.nothing_runs_after("down.ran, with PostgreSQL away");
    site.eventually_says("Once the database answers: cutover migrate down");
    site.server("start");
    assert!(!site.has_column("cart"), "the kill came behind the commit");
    let again = site.run(&["migrate", "down", "--yes"]).succeeded();
    again.says(&["has none of the migrations of r2 any more", "DONE"]);
    site.at_rest("a migrate down that was found out");
    let none = site.run(&["migrate", "down", "--yes"]).exits(4);
    none.says(&["No release has brought a migration that the database still has"]);
}

fn ended(child: Child, code: i32) -> String {
    let ended = child.wait_with_output().expect("its end");
    let said = [ended.stdout, ended.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert_eq!(ended.status.code(), Some(code), "{said}");
    said
}

impl Site {
    /// Begins a `migrate down`, and waits until its script runs in a database of this name.
    fn begins_down(&self, database: &str) -> Child {
        self.begins(database, "query LIKE '%pg_sleep%'")
    }

    fn begins(&self, database: &str, runs: &str) -> Child {
        let child = self.fronted.cutover.spawn(&["migrate", "down", "--yes"]);
        let sql = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE pid <> pg_backend_pid()
              AND state = 'active' AND {runs}
              AND datname ~ '^{database}$'"
        );
        let server = self.fronted.shop.observe("postgres");
        eventually(&format!("{runs} in {database}"), Duration::from_secs(60), || {
            (server.number(&sql) > 0).then_some(())
        });
        child
    }

    /// Stops, kills or starts PostgreSQL.
    fn server(&self, what: &str) {
        let container = self.fronted.shop.container("postgres");
        engine::docker(&[what, &container]).succeeded();
        if what == "start" {
            eventually("PostgreSQL answers", Duration::from_secs(60), || {
                let asked = ["exec", &container, "pg_isready", "-h", "127.0.0.1"];
                (engine::docker(&asked).code == 0).then_some(())
            });
        }
    }

    fn eventually_says(&self, words: &str) {
        eventually(words, Duration::from_secs(90), || {
            let events = self.run(&["events", "--last", "40"]);
            events.printed.stdout.contains(words).then_some(())
        });
    }
}
