//! `doctor` and `report` where there are containers, files and commits to look at.

use std::time::Duration;

use serde_json::Value;

use crate::harness::daemon::Cutover;
use crate::harness::stack::Stack;
use crate::harness::{engine, eventually};
use crate::restore::shop::Shop;

fn two_releases() -> (Stack, Cutover) {
    let stack = Stack::copy("plain");
    let mut cutover = stack.cutover("env_files = [\".env\"]");
    cutover.serve();
    cutover.run(&["deploy", "--at-once"]).succeeded();
    stack.set_variables(&[("STACK_RELEASE", "two"), ("PRICE_MODE", "region")]);
    stack.commit("Prices per region");
    cutover.run(&["deploy", "--at-once"]).succeeded();
    (stack, cutover)
}

fn json(cutover: &Cutover, words: &[&str]) -> Value {
    let printed = cutover.run(words).printed;
    let line = printed.stdout.lines().find(|line| line.starts_with('{')).expect("a JSON line");
    serde_json::from_str(line).expect("JSON")
}

fn ids(found: &Value) -> Vec<String> {
    let findings = found["findings"].as_array().expect("findings").iter();
    findings.map(|finding| finding["id"].as_str().expect("an id").to_owned()).collect()
}

#[test]
fn doctor_removes_what_is_left_of_an_unknown_release_and_nothing_else() {
    let (stack, cutover) = two_releases();
    let app = stack.state().join("apps").join(&stack.project);
    let kept = |name: &str| app.join("releases").join(name).exists();
    assert!(!ids(&json(&cutover, &["doctor", "--json"])).contains(&"release:r77".to_owned()));

    std::fs::create_dir_all(app.join("releases/r77")).expect("a folder");
    std::fs::create_dir_all(app.join("worktrees/r77")).expect("a folder");
    std::fs::create_dir_all(app.join("releases/theirs")).expect("a folder");
    // It has a release's name and is none: it cannot be removed as one.
    std::fs::write(app.join("releases/r78"), "").expect("a file");
    let container = stack.color("blue", "web").remove(0);
    let image = engine::inspect(&container, "{{.Image}}");
    let labels = ["app", "release", "kind"].map(|key| format!("app.cutover.{key}"));
    let pin = format!("{}-leftover-pin", stack.project);
    let values = [stack.project.as_str(), "r77", "pin"];
    let pairs: Vec<String> =
        labels.iter().zip(values).map(|(key, value)| format!("{key}={value}")).collect();
    let mut words = vec!["create", "--name", &pin];
    pairs.iter().for_each(|pair| words.extend(["--label", pair]));
    words.extend([image.as_str(), "pin"]);
    engine::docker(&words).succeeded();

    let ran = cutover.run(&["doctor"]).exits(1);
    ran.says(&["files, checkout, image pins of r77, which is not on record", "doctor --fix"]);
    let asked = cutover.run(&["doctor", "--fix"]);
    assert!(asked.printed.both().contains("add --yes"), "{}", asked.printed.both());
    assert!(kept("r77"), "nobody said yes");
    let mended = cutover.run(&["doctor", "--fix", "--yes"]).exits(1);
    mended.says(&["Mended 1 of 2.\nStill there:\n  files of r78, which is not on record"]);
    let events = cutover.run(&["events"]).succeeded().printed.stdout;
    let of = |name: &str| events.lines().filter(|line| line.contains(name)).collect::<String>();
    assert!(of("r77, which").contains("mended for"), "{events}");
    assert!(of("r78, which").contains("could not be mended, it is still there"), "{events}");
    assert!(!kept("r77") && !app.join("worktrees/r77").exists());
    assert_ne!(engine::docker(&["inspect", &pin]).code, 0, "its pin is gone");
    assert!(kept("r1") && kept("r2") && kept("theirs"), "what is known or not ours stays");
    let left = ids(&json(&cutover, &["doctor", "--json"]));
    assert!(left.iter().any(|id| id.ends_with("theirs")), "{left:?}");
    assert!(!left.contains(&"release:r77".to_owned()), "{left:?}");
}

#[test]
fn a_report_names_commits_env_keys_images_and_log_lines_of_the_release() {
    let (_stack, cutover) = two_releases();
    cutover.run(&["rollback"]).succeeded();
    let report = json(&cutover, &["report", "--json"]);
    let commits = report["difference"]["commits"].to_string();
    assert!(commits.contains("Prices per region"), "{report}");
    let env = report["difference"]["env"].to_string();
    assert!(env.contains("PRICE_MODE") && !env.contains("region"), "{env}");
    let said = cutover.run(&["report"]).succeeded().printed.stdout;
    assert!(said.contains("PRICE\\_MODE"), "{said}");
    let health = &report["checks"][0];
    assert_eq!(
        (health["item"].as_str(), health["outcome"].as_str()),
        (Some("health"), Some("pass"))
    );
}

/// An operation that has ended leaves nothing on the server; where something of it is there all the
/// same it is said, and removed on request. What is not ours is said at most.
#[test]
fn doctor_finds_what_is_left_on_the_database_server_and_mends_what_is_ours() {
    let mut shop = Shop::deployed();
    shop.sql("postgres", &["ALTER SYSTEM SET max_prepared_transactions = 4"]);
    shop.server("stop");
    shop.server("start");
    shop.fronted.serves("v1");
    shop.fronted.deploy("migration", &["--at-once"]).succeeded();
    let clean = shop.run(&["doctor"]).printed.both();
    assert!(!clean.contains("did not finish it") && !clean.contains("takes no conn"), "{clean}");

    let ours = |into: &str, columns: &str, values: &str| {
        let from = "FROM cutover.claims LIMIT 1";
        format!("INSERT INTO cutover.{into} ({columns}) SELECT installation, {values} {from}")
    };
    let claim =
        ours("claims", "installation, operation, name, kind", "'o1', 'shop__cand_o1', 'candidate'");
    let oid = "'o1', (SELECT oid FROM pg_database WHERE datname = 'shop')";
    let gate = ours("gates", "installation, operation, oid", oid);
    shop.sql("postgres", &[&claim, &gate]);
    for name in ["shop__cand_o1", "shop__cand_o2"] {
        shop.sql("postgres", &[&format!("CREATE DATABASE {name}")]);
    }
    let begun = ["BEGIN", "INSERT INTO orders (item, release) VALUES ('cup', 'v1')"];
    shop.sql("shop", &[begun[0], begun[1], "PREPARE TRANSACTION 'two phases'"]);
    shop.sql("postgres", &["SELECT pg_create_physical_replication_slot('lost', true)"]);
    shop.sql("postgres", &["ALTER DATABASE shop ALLOW_CONNECTIONS false"]);

    let theirs = ["nobody reads the replication slot lost", "ROLLBACK PREPARED 'two phases'"];
    eventually("the transaction is old", Duration::from_secs(30), || {
        shop.run(&["doctor"]).printed.stdout.contains(theirs[1]).then_some(())
    });
    let ran = shop.run(&["doctor"]).exits(1);
    ran.clone().says(&[theirs[0], "\"shop\" takes no connections: an operation of ours", "o1 did"]);
    assert!(!ran.printed.both().contains("cand_o2"), "{}", ran.printed.both());
    shop.run(&["doctor", "--fix", "--yes"]).says(&["--fix mends:", " of 2."]);
    // The server may take longer to drop it than the answer waits.
    eventually("it is dropped", Duration::from_secs(60), || {
        (!shop.databases().contains(&"shop__cand_o1".to_owned())).then_some(())
    });
    let left = shop.databases();
    assert!(left.contains(&"shop__cand_o2".to_owned()), "what is not ours stays: {left:?}");
    assert_eq!(shop.closed(), 0);
    let after = shop.run(&["doctor"]).exits(1).says(&theirs).printed.both();
    assert!(!after.contains("takes no connections") && !after.contains("did not"), "{after}");
}
