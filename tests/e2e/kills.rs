//! kill -9 of the daemon at any moment of any operation, and once more in the recovery from that.
//!
//! Dice choose the operation, both moments and whether it then goes on or is given up. Every roll
//! comes from one seed, which is printed: `CUTOVER_SEED` repeats a run, `CUTOVER_KILLS` says how
//! many rounds it has.

use std::time::{Duration, Instant};

use crate::harness::{eventually, wire};
use crate::restore::shop::Shop;

/// Rounds where nobody asks for more.
const ROUNDS: u64 = 6;
/// How long after a start the second kill may come.
const RECOVERY_MS: u64 = 2_500;

/// What is killed, and for how long it runs about, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    BackUp,
    Drill,
    Prune,
    Restore,
    Undo,
    Rollback,
    Deploy,
}

const ALL: [(What, u64); 7] = [
    (What::BackUp, 2_500),
    (What::Drill, 4_000),
    (What::Prune, 800),
    (What::Restore, 9_000),
    (What::Undo, 7_000),
    (What::Rollback, 1_500),
    (What::Deploy, 18_000),
];

/// Marsaglia's xorshift: enough for dice, and the same everywhere.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn killed_twice_at_any_moment_everything_is_the_old_or_the_new() {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let seed = number("CUTOVER_SEED").unwrap_or(now.map_or(1, |since| since.as_secs()));
    eprintln!("CUTOVER_SEED={seed}");
    let mut dice = Dice(seed.max(1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    let mut shop = Shop::with_a_bad_migration();
    shop.run(&["backup", "create"]).succeeded();
    let spoilt = shop.orders("shop");
    let mut known = vec![spoilt];
    for round in 0..number("CUTOVER_KILLS").unwrap_or(ROUNDS) {
        let (what, about) = ALL[dice.below(ALL.len() as u64) as usize];
        let first = Duration::from_millis(dice.below(about));
        let second = Duration::from_millis(dice.below(RECOVERY_MS));
        let gives_up = dice.below(2) == 1;
        let place = format!("round {round}: {what:?}, {first:?}, {second:?}, gives up: {gives_up}");
        eprintln!("{place}");
        shop.killed_twice(what, first, second, gives_up, &place);
        shop.check(&mut known, &place);
    }
}

impl Shop {
    fn killed_twice(
        &mut self,
        what: What,
        first: Duration,
        second: Duration,
        gives_up: bool,
        place: &str,
    ) {
        let undone = self.newest_restore_or("o1");
        let words: Vec<&str> = match what {
            What::BackUp => vec!["backup", "create"],
            What::Drill => vec!["drill"],
            What::Prune => vec!["backup", "prune", "--yes"],
            What::Restore => vec!["rollback", "--database", "--max-loss", "1000000"],
            What::Undo => vec!["undo", &undone, "--max-loss", "1000000"],
            What::Rollback => vec!["rollback"],
            What::Deploy => {
                self.fronted.shop.release("good");
                vec!["deploy", "--again", "--at-once"]
            }
        };
        let mut typed = self.fronted.cutover.spawn(&words);
        wait(first);
        self.fronted.cutover.kill();
        typed.kill().expect("a signal to our own child");
        typed.wait().expect("the end of our own child");
        self.fronted.cutover.start_daemon(&[]);
        wait(second);
        self.fronted.cutover.kill();
        match gives_up {
            false => self.fronted.cutover.serve(),
            true => {
                self.fronted.cutover.serve_with(&["--wait"]);
                for operation in self.running() {
                    // It may count by itself that it cannot be given up any more.
                    self.run(&["abort", &operation]);
                }
            }
        }
        eventually(&format!("the end of {place}"), Duration::from_secs(120), || {
            self.running().is_empty().then_some(())
        });
    }

    /// What must hold whatever was killed.
    fn check(&self, known: &mut Vec<String>, place: &str) {
        self.assert_at_rest();
        let left = self.databases();
        assert!(left.iter().all(|name| !name.contains("__try_")), "{place}: {left:?}");
        let answer = wire::get(self.fronted.shop.port, "/api/whoami").expect("an answer");
        assert_eq!(answer.status, 200, "{place}");
        assert!(["v1", "v2"].contains(&answer.release()), "{place}: {}", answer.release());
        let data = self.orders("shop");
        if !known.contains(&data) {
            known.push(data);
        }
        // What v2 spoilt, and what was before its migration: there is no third.
        assert!(known.len() <= 2, "{place}: data that never was");
        // A backup is whole or not there.
        let listed = self.run(&["backup", "list", "--json"]).succeeded();
        let listed: serde_json::Value =
            serde_json::from_str(listed.printed.stdout.trim()).expect("JSON");
        let unfinished = listed["broken"].as_array().is_none_or(Vec::is_empty);
        assert!(unfinished, "{place}: {listed}");
    }

    fn running(&self) -> Vec<String> {
        let status = self.status();
        let running = status["apps"][0]["running"].as_array().cloned();
        let running = running.unwrap_or_else(|| vec!["unknown".into()]);
        let name = |operation: &serde_json::Value| match operation["operation"].as_u64() {
            Some(number) => format!("o{number}"),
            None => operation["operation"].as_str().unwrap_or_default().to_owned(),
        };
        running.iter().map(name).collect()
    }
}

fn wait(time: Duration) {
    let end = Instant::now() + time;
    while let Some(rest) = end.checked_duration_since(Instant::now()) {
        std::thread::park_timeout(rest);
    }
}
