//! kill -9 of the daemon behind every record of every operation: each is then resumed, and each is
//! then given up.
//!
//! The place is `recorded@N`: the N-th batch of an operation that is more than a line for people is
//! durable, and nobody has an answer yet. An operation is run again and again, with N counted up,
//! until it is over before it dies. `CUTOVER_EVERY=1` takes every state and both ways (`make
//! kills`), `CUTOVER_FROM` begins at a later one; without it two states are taken, so that the gate
//! stays short.

use std::time::Duration;

use super::{ANY, number, wait};
use crate::backups::RARELY;
use crate::backups::yard::Yard as _;
use crate::harness::engine;
use crate::harness::eventually;
use crate::harness::fronted::{Fronted, operation_of};
use crate::restore::kills::named;
use crate::restore::shop::Shop;

/// The last state that is tried where not every one is.
const SAMPLED: u64 = 6;
/// What the daemon still does when the command has its answer.
const AFTERWARDS: Duration = Duration::from_millis(1_500);

/// One that can be killed: what the case starts from, what is typed, and what must hold.
pub(crate) trait Killed {
    /// The program.
    fn fronted(&mut self) -> &mut Fronted;
    /// What runs or waits.
    fn under_way(&self) -> Vec<String>;
    /// What must hold whatever was killed. `kept`: what giving up said that it keeps.
    fn holds(&mut self, place: &str, kept: &str);
}

/// Whether every state is tried.
fn is_whole() -> bool {
    number("CUTOVER_EVERY") == Some(1)
}

/// The ways from a state of an operation: resumed (`false`), given up.
fn ways(state: u64) -> &'static [bool] {
    match (is_whole(), state) {
        (true, _) => &[false, true],
        (false, 2) => &[false],
        (false, SAMPLED) => &[true],
        (false, _) => &[],
    }
}

/// Runs an operation once for each of its states; how often it was killed.
pub(crate) fn each_state<K: Killed>(
    killed: &mut K,
    name: &str,
    mut ready: impl FnMut(&mut K) -> Vec<String>,
) -> u64 {
    let mut kills = 0;
    let mut dies_at = |state: u64, gives_up: bool| {
        let place = format!("{name}, record {state}, gives up: {gives_up}");
        eprintln!("{place}");
        let typed = ready(killed);
        let died = dies(killed.fronted(), state, &typed);
        let kept = comes_back(killed, gives_up, &place);
        killed.holds(&place, &kept);
        kills += u64::from(died);
        died
    };
    'states: for state in number("CUTOVER_FROM").unwrap_or(1)..100 {
        for gives_up in ways(state) {
            if !dies_at(state, *gives_up) {
                if !is_whole() && state == 2 {
                    // It has one record.
                    dies_at(1, false);
                }
                break 'states;
            }
        }
        if state >= SAMPLED && !is_whole() {
            break;
        }
    }
    kills
}

/// Whether the daemon died at its N-th record of this command; it does not run any more.
fn dies(fronted: &mut Fronted, state: u64, typed: &[String]) -> bool {
    fronted.cutover.stop();
    fronted.cutover.variable("CUTOVER_CRASH", Some(&format!("recorded@{state}")));
    fronted.cutover.start_daemon(&[]);
    // The rule for backups is applied at a start: that is an operation, too.
    eventually("the daemon answers or dies", Duration::from_secs(30), || {
        let answers = fronted.run(&["status"]).printed.code != 69;
        (answers || fronted.cutover.has_died()).then_some(())
    });
    let words: Vec<&str> = typed.iter().map(String::as_str).collect();
    let ran = fronted.run(&words);
    wait(AFTERWARDS);
    let died = fronted.cutover.has_died();
    let is_told = died || ran.printed.code == 0;
    let events = || fronted.run(&["events", "--last", "60"]).printed.both();
    assert!(is_told, "without a kill: {}\n{}", ran.printed.both(), events());
    fronted.cutover.kill();
    fronted.cutover.variable("CUTOVER_CRASH", None);
    died
}

/// Started again, it goes on by itself, or a person gives up what was begun: what that said.
fn comes_back(killed: &mut impl Killed, gives_up: bool, place: &str) -> String {
    let mut said = String::new();
    if gives_up {
        killed.fronted().cutover.serve_with(&["--wait"]);
        for operation in killed.under_way() {
            // It may count by itself that it cannot be given up any more.
            said.push_str(&killed.fronted().run(&["abort", &operation]).printed.both());
        }
    } else {
        killed.fronted().cutover.serve();
    }
    // Behind a backup the rule lets others go: an operation of its own.
    for _ in 0..2 {
        eventually(&format!("the end of {place}"), Duration::from_secs(120), || {
            killed.under_way().is_empty().then_some(())
        });
        wait(AFTERWARDS);
    }
    said
}

/// A shop with the only two contents that its database may have.
struct Known {
    shop: Shop,
    /// As v2 spoilt it, and as it was before its migration.
    data: [String; 2],
}

impl Known {
    fn new() -> Self {
        let shop = Shop::spoilt(Shop::deployed_with(RARELY));
        shop.run(&["backup", "create"]).succeeded();
        let data = [shop.orders("shop"), shop.orders_of_v1()];
        assert_ne!(data[0], data[1]);
        Self { shop, data }
    }

    fn restored(&self) -> String {
        self.shop.goes_forward(&self.data[0]);
        let ran = self.shop.run(&[&["rollback", "--database"][..], &ANY].concat()).succeeded();
        operation_of(&ran.printed.both())
    }
}

impl Killed for Known {
    fn fronted(&mut self) -> &mut Fronted {
        &mut self.shop.fronted
    }

    fn under_way(&self) -> Vec<String> {
        self.shop.running()
    }

    fn holds(&mut self, place: &str, kept: &str) {
        self.shop.lets_go_of(kept, place);
        let answered = self.shop.check(place);
        let serves = &self.shop.status()["apps"][0]["serves"]["release"];
        assert_eq!(answered, format!("v{serves}"), "{place}");
        let data = self.shop.orders("shop");
        assert!(self.data.contains(&data), "{place}: data that never was");
        let mixed = ("v2", &self.data[1]);
        assert_ne!((answered.as_str(), &data), mixed, "{place}: neither the old nor the new");
    }
}

/// A shop whose releases come with migrations; its rows are the same in all of them.
struct Deploys {
    shop: Shop,
    data: String,
}

impl Killed for Deploys {
    fn fronted(&mut self) -> &mut Fronted {
        &mut self.shop.fronted
    }

    fn under_way(&self) -> Vec<String> {
        self.shop.running()
    }

    fn holds(&mut self, place: &str, _kept: &str) {
        let answered = self.shop.check(place);
        let serves = &self.shop.status()["apps"][0]["serves"]["release"];
        let said = self.shop.run(&["releases", "--json"]).succeeded().printed.stdout;
        let listed: serde_json::Value = serde_json::from_str(said.trim()).expect("JSON");
        let mut releases = listed["releases"].as_array().expect("releases").iter();
        let serving = releases.find(|line| line["release"] == *serves).expect("it is listed");
        let file = format!("{}:release.env", serving["commit"].as_str().expect("a commit"));
        let of = ["show", file.as_str()];
        let file = engine::run("git", &of, &self.shop.fronted.shop.path()).succeeded().stdout;
        let answers = format!("SHOP_RELEASE={answered}");
        assert!(file.lines().any(|line| line == answers), "{place}: not {answered}: {file}");
        assert_eq!(self.shop.orders("shop"), self.data, "{place}");
    }
}

#[test]
fn a_deploy_killed_behind_each_record() {
    let shop = Shop::deployed();
    shop.write(
        "INSERT INTO orders (item, release) SELECT 'cup', 'v1' FROM generate_series(1, 500)",
    );
    let data = shop.orders("shop");
    let mut deploys = Deploys { shop, data };
    let kills = each_state(&mut deploys, "deploy", |deploys| {
        deploys.shop.fronted.shop.release("migration");
        words(&["deploy", "--at-once"])
    });
    assert!(kills >= 1, "never killed");
}

pub(crate) fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

#[test]
fn work_beside_the_live_database_killed_behind_each_record() {
    let mut known = Known::new();
    let live = known.shop.orders("shop");
    let mut counts = Vec::new();
    let mut count = |count: u64| counts.push(count);
    count(each_state(&mut known, "backup", |_| words(&["backup", "create"])));
    count(each_state(&mut known, "drill", |_| words(&["drill"])));
    count(each_state(&mut known, "prune", |known| {
        known.shop.run(&["backup", "create"]).succeeded();
        words(&["backup", "prune", "--yes"])
    }));
    count(each_state(&mut known, "restore aside", |known| {
        if let Some(made) = known.shop.made("look") {
            known.shop.run(&["db", "retire", &made, "--yes"]).succeeded();
        }
        words(&["backup", "restore", "newest", "--aside", "look"])
    }));
    count(each_state(&mut known, "retire", |known| {
        if known.shop.made("look").is_none() {
            known.shop.run(&["backup", "restore", "newest", "--aside", "look"]).succeeded();
        }
        let made = known.shop.made("look").expect("it was restored");
        words(&["db", "retire", &made, "--yes"])
    }));
    assert!(counts.iter().all(|kills| *kills >= 1), "{counts:?}");
    assert_eq!(known.shop.orders("shop"), live, "nothing of it touches the live database");
}

#[test]
fn a_restore_from_a_point_killed_behind_each_record() {
    let mut known = Known::new();
    let kills = each_state(&mut known, "restore", |known| {
        known.shop.goes_forward(&known.data[0]);
        words(&[&["rollback", "--database"][..], &ANY].concat())
    });
    assert!(kills >= 1, "never killed");
}

#[test]
#[ignore = "minutes: make kills runs it"]
fn a_restore_from_a_backup_killed_behind_each_record() {
    let mut known = Known::new();
    let backup = known.shop.ids().pop().expect("a backup");
    let kills = each_state(&mut known, "restore from a backup", |known| {
        known.shop.goes_forward(&known.data[0]);
        words(&[&["rollback", "--database", "--backup", &backup][..], &ANY].concat())
    });
    assert!(kills >= 1, "never killed");
}

#[test]
fn an_undo_of_a_restore_killed_behind_each_record() {
    let mut known = Known::new();
    let kills = each_state(&mut known, "undo", |known| {
        let restore = known.restored();
        words(&[&["undo", &restore][..], &ANY].concat())
    });
    assert!(kills >= 1, "never killed");
}

#[test]
#[ignore = "minutes: make kills runs it"]
fn a_rollback_killed_behind_each_record() {
    let mut known = Known::new();
    let kills = each_state(&mut known, "rollback", |known| {
        known.shop.goes_forward(&known.data[0]);
        words(&["rollback"])
    });
    assert!(kills >= 1, "never killed");
}

#[test]
#[ignore = "minutes: make kills runs it"]
fn a_rollback_to_a_stack_that_is_made_again_killed_behind_each_record() {
    let mut known = Known::new();
    let kills = each_state(&mut known, "rollback to a stack that is made again", |known| {
        known.shop.goes_forward(&known.data[0]);
        let project = format!("{}-green", known.shop.fronted.shop.project);
        assert_eq!(known.shop.status()["apps"][0]["serves"]["color"], "blue");
        for service in ["backend", "frontend"] {
            for id in engine::containers_of(&project, service) {
                engine::docker(&["rm", "-f", &id]).succeeded();
            }
        }
        words(&["rollback", "--to", "r1"])
    });
    assert!(kills >= 1, "never killed");
}

impl Shop {
    /// The operation that made this database, if it is there.
    fn made(&self, database: &str) -> Option<String> {
        let said = self.run(&["db", "list", "--json"]).succeeded().printed.stdout;
        let listed: serde_json::Value = serde_json::from_str(said.trim()).expect("JSON");
        let mut databases = listed["databases"].as_array().expect("databases").iter();
        let found = databases.find(|line| line["name"] == database)?;
        Some(named(&found["operation"]))
    }
}
