//! The same command typed twice at once, and left in the middle by Ctrl-C: one operation each time.

use std::process::Child;
use std::time::Duration;

use super::shop::Shop;
use crate::backups::yard::Yard as _;
use crate::harness::daemon::signal;
use crate::harness::eventually;

const BACK: &[&str] = &["rollback", "--database", "--max-loss", "1000000"];
/// Longer than any of these takes.
const LIMIT: Duration = Duration::from_secs(180);

fn ended(mut child: Child) -> (Option<i32>, String) {
    eventually("the end of a command", LIMIT, || child.try_wait().expect("the state of a child"));
    let ended = child.wait_with_output().expect("what it printed");
    let said = String::from_utf8_lossy(&[ended.stdout, ended.stderr].concat()).into_owned();
    (ended.status.code(), said)
}

impl Shop {
    /// Types it twice at once: exactly one does it, and the other says which operation does.
    fn twice(&self, typed: &[&str]) {
        let children = [typed, typed].map(|typed| self.fronted.cutover.spawn(typed));
        let mut ends = children.map(ended).to_vec();
        ends.sort_by_key(|(code, _)| *code);
        assert_eq!(ends[0].0, Some(0), "{typed:?}: {ends:?}");
        let (code, said) = &ends[1];
        assert!(matches!(code, Some(4 | 6)), "{typed:?}: {ends:?}");
        let names = said.split_whitespace().any(|word| {
            let word = word.trim_matches(|c: char| !c.is_ascii_alphanumeric());
            word.strip_prefix('o').is_some_and(|number| number.parse::<u64>().is_ok())
        });
        assert!(names, "{typed:?}: it names the operation: {said}");
    }
}

#[test]
fn the_same_command_typed_twice_at_once_is_done_once() {
    let shop = Shop::deployed();
    shop.write(
        "INSERT INTO orders (item, release) SELECT 'cup', 'v1' FROM generate_series(1, 500)",
    );
    shop.twice(&["backup", "create"]);
    assert_eq!(shop.ids().len(), 1);
    shop.fronted.shop.release("migration");
    shop.twice(&["deploy", "--at-once"]);
    assert_eq!(shop.status()["apps"][0]["serves"]["release"], 2);
    let spoilt = shop.orders("shop");
    shop.write("UPDATE orders SET item = 'spoilt' WHERE id % 5 = 0");
    shop.twice(BACK);
    assert_eq!(shop.fronted.release_now(), "v1");
    assert_eq!(shop.orders("shop"), spoilt, "as it was before the release");
    let asides = shop.databases().into_iter().filter(|name| name.contains("__prev_")).count();
    assert_eq!(asides, 1, "{:?}", shop.databases());
    shop.assert_at_rest();
}

#[test]
fn a_command_that_is_left_goes_on_and_says_so() {
    let shop = Shop::deployed();
    shop.fronted.shop.release("migration");
    let child = shop.fronted.cutover.spawn(&["deploy", "--at-once"]);
    left(&shop, child);
    shop.fronted.serves("v2");
    let child = shop.fronted.cutover.spawn(BACK);
    eventually("the restore runs", LIMIT, || {
        let running = shop.status()["apps"][0]["running"].to_string();
        running.contains("restore").then_some(())
    });
    left(&shop, child);
    shop.fronted.serves("v1");
    assert!(!shop.has_migration("_note_v2"), "the data came back, too");
    shop.assert_at_rest();
}

/// Ctrl-C once the operation runs; then its end.
fn left(shop: &Shop, child: Child) {
    let operation = eventually("it runs", LIMIT, || shop.running().pop());
    signal(child.id(), "INT");
    let (code, said) = ended(child);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains(&format!("You left; {operation} goes on")), "{said}");
    shop.run(&["wait", &operation]).succeeded();
}
