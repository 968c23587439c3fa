//! kill -9 of the daemon at any moment of any operation, and once more in the recovery from that.
//!
//! Dice choose the operation, both moments and whether it then goes on or is given up. Every roll
//! comes from one seed, which is printed: `CUTOVER_SEED` gives another run, `CUTOVER_KILLS` says how
//! many rounds it has.

pub(crate) mod states;

use std::time::{Duration, Instant};

use crate::backups::RARELY;
use crate::backups::yard::Yard as _;
use crate::harness::{eventually, wire};
use crate::restore::kills::named;
use crate::restore::shop::Shop;

/// How long after a start the second kill may come.
const RECOVERY_MS: u64 = 2_500;
/// Accepts every loss.
const ANY: [&str; 2] = ["--max-loss", "1000000"];

/// What is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    BackUp,
    Drill,
    Prune,
    Restore,
    RestoreBackup,
    Undo,
    Rollback,
}

/// Each with the time that it runs for, in milliseconds.
const ALL: [(What, u64); 7] = [
    (What::BackUp, 1_500),
    (What::Drill, 3_000),
    (What::Prune, 500),
    (What::Restore, 8_000),
    (What::RestoreBackup, 8_000),
    (What::Undo, 6_000),
    (What::Rollback, 1_000),
];
/// The same of a deploy with a migration.
const DEPLOY_MS: u64 = 20_000;

/// Marsaglia's xorshift: enough for dice, and the same everywhere.
struct Dice(u64);

impl Dice {
    /// From the seed that was asked for; else the same ones each time.
    fn new() -> Self {
        let seed = number("CUTOVER_SEED").unwrap_or(1);
        eprintln!("CUTOVER_SEED={seed}");
        Self(seed.max(1).wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    fn kills(&mut self, within_ms: u64) -> Kills {
        Kills {
            first: Duration::from_millis(self.below(within_ms)),
            second: Duration::from_millis(self.below(RECOVERY_MS)),
            gives_up: self.below(2) == 1,
        }
    }
}

/// When the daemon is killed, and what a person does then.
#[derive(Clone, Copy, Debug)]
struct Kills {
    /// After the command was typed.
    first: Duration,
    /// After the next start.
    second: Duration,
    gives_up: bool,
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn work_on_the_database_killed_twice_at_any_moment_ends_at_the_old_or_the_new() {
    let mut dice = Dice::new();
    let mut shop = Shop::spoilt(Shop::deployed_with(RARELY));
    shop.run(&["backup", "create"]).succeeded();
    let known = [shop.orders("shop"), shop.orders_of_v1()];
    assert_ne!(known[0], known[1]);
    for round in 0..number("CUTOVER_KILLS").unwrap_or(6) {
        let (what, about) = ALL[dice.below(ALL.len() as u64) as usize];
        let kills = dice.kills(about);
        let place = format!("round {round}: {what:?} {kills:?}");
        eprintln!("{place}");
        let typed: Vec<&str> = match what {
            What::BackUp => vec!["backup", "create"],
            What::Drill => vec!["drill"],
            What::Prune => vec!["backup", "prune", "--yes"],
            What::Restore => [&["rollback", "--database"][..], &ANY].concat(),
            What::RestoreBackup => {
                [&["rollback", "--database", "--backup", "ID"][..], &ANY].concat()
            }
            What::Rollback => vec!["rollback"],
            What::Undo => [&["undo", "ID"][..], &ANY].concat(),
        };
        let mut typed: Vec<String> = typed.into_iter().map(str::to_owned).collect();
        match what {
            What::Restore | What::Rollback => shop.goes_forward(&known[0]),
            What::RestoreBackup => {
                shop.goes_forward(&known[0]);
                typed[3] = shop.ids().pop().expect("a backup");
            }
            What::Undo => {
                shop.goes_forward(&known[0]);
                shop.run(&[&["rollback", "--database"][..], &ANY].concat()).succeeded();
                typed[1] = shop.started("restore").pop().expect("it was begun");
            }
            What::BackUp | What::Drill | What::Prune => {}
        }
        let was = (shop.fronted.release_now(), shop.orders("shop"));
        let kept = shop.killed_twice(&typed, kills, &place);
        shop.lets_go_of(&kept, &place);
        let is = (shop.check(&place), shop.orders("shop"));
        if let What::BackUp | What::Drill | What::Prune = what {
            assert_eq!(is, was, "{place}");
        }
        // What v2 spoilt, and what was before its migration: there is no third. v1 serves both.
        let of = |release: &str, data: &String| (release.to_owned(), data.clone());
        let may_be = [of("v2", &known[0]), of("v1", &known[0]), of("v1", &known[1])];
        assert!(may_be.contains(&is), "{place}: neither the old nor the new: {is:?}");
    }
}

#[test]
fn a_deploy_killed_twice_at_any_moment_leaves_the_former_or_the_new_release() {
    let mut dice = Dice::new();
    let mut shop = Shop::deployed();
    let orders =
        "INSERT INTO orders (item, release) SELECT 'cup', 'v1' FROM generate_series(1, 500)";
    shop.write(orders);
    let data = shop.orders("shop");
    for round in 0..number("CUTOVER_KILLS").unwrap_or(2) {
        let kills = dice.kills(DEPLOY_MS);
        let place = format!("round {round}: {kills:?}");
        eprintln!("{place}");
        let before = shop.serving();
        shop.fronted.shop.release("migration");
        let typed = ["deploy", "--at-once"].map(str::to_owned);
        shop.killed_twice(&typed, kills, &place);
        shop.check(&place);
        let now = shop.serving();
        eprintln!("r{before} before, now r{now}");
        let said = shop.run(&["releases", "--json"]).succeeded().printed.stdout;
        let listed: serde_json::Value = serde_json::from_str(said.trim()).expect("JSON");
        let releases = listed["releases"].as_array().expect("releases").iter();
        let newest = releases.filter_map(|line| line["release"].as_u64()).max().expect("releases");
        assert!(now == before || now == newest, "{place}: r{now} of r{before} and r{newest}");
        assert_eq!(shop.orders("shop"), data, "{place}");
        // Whatever it ended at, the next one goes through.
        shop.run(&["deploy", "--at-once", "--again"]).succeeded();
        shop.check(&place);
        let newest = shop.serving();
        let point = format!("restore point before r{newest}");
        let ran = shop.run(&[&["rollback", "--database"][..], &ANY].concat()).succeeded();
        ran.says(&[&point, "DONE"]);
        assert_ne!(shop.serving(), newest);
    }
}

impl Shop {
    /// What giving up said, where that was the way.
    fn killed_twice(&mut self, typed: &[String], kills: Kills, place: &str) -> String {
        let mut kept = String::new();
        let words: Vec<&str> = typed.iter().map(String::as_str).collect();
        let mut child = self.fronted.cutover.spawn(&words);
        wait(kills.first);
        self.fronted.cutover.kill();
        child.kill().expect("a signal to our own child");
        let said = child.wait_with_output().expect("the end of our own child");
        eprintln!("{}", String::from_utf8_lossy(&said.stderr));
        self.fronted.cutover.start_daemon(&[]);
        wait(kills.second);
        self.fronted.cutover.kill();
        match kills.gives_up {
            false => self.fronted.cutover.serve(),
            true => {
                self.fronted.cutover.serve_with(&["--wait"]);
                for operation in self.running() {
                    // It may count by itself that it cannot be given up any more.
                    kept.push_str(&self.run(&["abort", &operation]).printed.both());
                }
            }
        }
        eventually(&format!("the end of {place}"), Duration::from_secs(120), || {
            self.running().is_empty().then_some(())
        });
        kept
    }

    /// The number of the release that serves.
    fn serving(&self) -> u64 {
        self.status()["apps"][0]["serves"]["release"].as_u64().expect("a release serves")
    }

    /// Behind the exchange users may have written to the restored data: giving up keeps it, and
    /// says so.
    fn lets_go_of(&self, kept: &str, place: &str) {
        let databases = self.databases();
        for candidate in databases.iter().filter(|name| name.contains("__cand_")) {
            assert!(kept.contains(candidate), "{place}: {candidate} is left: {kept}");
            self.fronted.shop.observe("postgres").ask(&format!("DROP DATABASE {candidate}"));
        }
    }

    /// What must hold whatever was killed; the release that serves.
    fn check(&self, place: &str) -> String {
        self.assert_at_rest();
        self.assert_nothing_half_made();
        let answer = wire::get(self.fronted.shop.port, "/api/whoami").expect("an answer");
        assert_eq!(answer.status, 200, "{place}");
        answer.release().to_owned()
    }

    /// Takes back what led away from v2 and its data, as a person would.
    fn goes_forward(&self, spoilt: &str) {
        let is_there = || self.fronted.release_now() == "v2" && self.orders("shop") == spoilt;
        let mut said = Vec::new();
        // The newest restore put the spoilt data aside, if it is not the live data.
        for operation in self.started("restore").iter().rev() {
            if self.orders("shop") == spoilt {
                break;
            }
            said.push(self.run(&[&["undo", operation][..], &ANY].concat()).printed.both());
        }
        if let Some(newest) = self.started("rollback").last().filter(|_| !is_there()) {
            said.push(self.run(&["undo", newest]).printed.both());
        }
        if !is_there() {
            said.push(self.run(&["rollback", "--to", "r2", "--force"]).printed.both());
        }
        let now = (self.fronted.release_now(), self.orders("shop"));
        let wanted = ("v2".to_owned(), spoilt.to_owned());
        let events = self.run(&["events", "--last", "150"]).printed.both();
        assert_eq!(now, wanted, "no way forward: {}\n{events}", said.join("\n"));
    }

    /// The operations of this kind that were begun, the newest last.
    fn started(&self, kind: &str) -> Vec<String> {
        let said = self.run(&["events", "--json", "--last", "400"]).printed.stdout;
        let events = said.lines().filter_map(|line| {
            let event: serde_json::Value = serde_json::from_str(line).ok()?;
            let fact = &event["happened"]["fact"];
            let fits = fact["fact"] == "operation_started" && fact["what"]["kind"] == kind;
            fits.then(|| named(&event["happened"]["operation"]))
        });
        events.collect()
    }

    /// What [`Shop::orders`] says of the orders before v2 spoilt them.
    fn orders_of_v1(&self) -> String {
        self.text(
            "SELECT md5(string_agg(id || 'cup', ',' ORDER BY id)) FROM generate_series(1, 500) AS id",
        )
    }
}

fn wait(time: Duration) {
    let end = Instant::now() + time;
    while let Some(rest) = end.checked_duration_since(Instant::now()) {
        std::thread::park_timeout(rest);
    }
}
