//! The daemon is killed; its supervisor starts it again, or nobody does.

use std::time::{Duration, Instant};

use crate::harness::fronted::{ADOPT, Fronted};
use crate::harness::traces::Traces;
use crate::harness::{engine, eventually, wire};

#[test]
fn a_killed_daemon_comes_back_with_the_same_split() {
    let mut fronted = Fronted::with_standby("good");
    for (weight, points) in [("1%", 100), ("10%", 1_000), ("50%", 5_000), ("100%", 10_000)] {
        fronted.run(&["shift", weight]).succeeded();
        let load = fronted.load(200, 1_000);
        load.wait_for(1_200);
        let before = load.so_far().first_by_client();
        fronted.cutover.kill();
        let killed = Instant::now();
        fronted.cutover.start_daemon(&[]);
        eventually("it answers again", Duration::from_secs(10), || {
            wire::get(fronted.shop.port, "/api/whoami").ok().filter(|answer| answer.status == 200)
        });
        let back = Instant::now();
        eprintln!("{weight}: back after {:?}", back - killed);
        load.wait_for(1_200);
        let records = load.stop();
        let after = records.sent_between(back, Instant::now());
        after.assert_none_failed();
        let moved = after
            .first_by_client()
            .into_iter()
            .filter(|(client, release)| before.get(client).is_some_and(|was| was != release))
            .count();
        assert_eq!(moved, 0, "at {weight} clients changed their release");
        assert_eq!(weight_of_v2(&fronted), points, "{weight}");
        let releases = after.by_release();
        let met = |release: &str| releases.get(release).copied().unwrap_or(0);
        assert_eq!(met("v1") == 0, points == 10_000, "{weight}: {releases:?}");
        assert!(met("v2") > 0, "{weight}: {releases:?}");
    }
}

/// What status says that the second release gets, in basis points.
fn weight_of_v2(fronted: &Fronted) -> u64 {
    let said = fronted.run(&["status", "--json"]).succeeded().printed.stdout;
    let status: serde_json::Value = serde_json::from_str(&said).expect("JSON");
    let app = &status["apps"][0];
    let sides = [&app["serves"], &app["standby"]];
    let of_v2 = sides.iter().find(|side| side["release"] == 2);
    of_v2.and_then(|line| line["weight"].as_u64()).unwrap_or_else(|| panic!("no r2 in {said}"))
}

#[test]
fn without_a_daemon_a_rollback_offline_serves_the_former_release() {
    let mut fronted = Fronted::deployed();
    fronted.deploy("good", &["--at-once"]).succeeded();
    fronted.cutover.kill();
    fronted.run(&["rollback"]).exits(69).says(&["--offline"]);
    let mut offline = fronted.cutover.spawn(&["rollback", "--offline"]);
    fronted.serves("v1");
    fronted.run(&["status"]).succeeded().says(&["r1"]);
    crate::harness::daemon::signal(offline.id(), "TERM");
    eventually("it ends", Duration::from_secs(60), || offline.try_wait().expect("a state"));
}

#[test]
fn without_a_daemon_leave_offline_gives_the_ports_back() {
    let mut fronted = Fronted::deployed();
    let observer = fronted.shop.observer();
    let server = observer.server_start();
    fronted.deploy("good", &["--at-once"]).succeeded();
    fronted.cutover.kill();
    fronted.run(&["leave", "--offline", "--yes"]).succeeded();
    serves_from_plain_compose(&fronted, "v2");
    assert_eq!(observer.server_start(), server, "the database was restarted");
    let left = engine::belongings(&fronted.shop.project);
    let colored = |line: &&String| line.contains("-green") || line.contains("-blue");
    assert_eq!(left.iter().find(colored), None, "{left:#?}");
}

#[test]
fn without_a_daemon_leave_offline_of_an_adopted_app_leaves_nothing_of_ours() {
    let mut fronted = Fronted::beside();
    let before = Traces::look(&fronted);
    let observer = fronted.shop.observer();
    let server = observer.server_start();
    fronted.run(ADOPT).succeeded();
    fronted.deploy("good", &["--at-once"]).succeeded();
    fronted.cutover.kill();
    fronted.run(&["leave", "--offline", "--yes"]).succeeded();
    serves_from_plain_compose(&fronted, "v2");
    assert_eq!(observer.server_start(), server, "the database was restarted");
    Traces::look(&fronted).assert_given_back(&before, &fronted.shop, Some("r2"));
}

fn serves_from_plain_compose(fronted: &Fronted, release: &str) {
    let shop = &fronted.shop;
    let page = shop.answers(shop.port, "/");
    assert!(page.header("via").is_none(), "{}", page.head);
    let answer = shop.answers(shop.api_port, "/api/whoami");
    assert!(answer.header("via").is_none(), "{}", answer.head);
    assert_eq!((page.release(), answer.release()), (release, release));
}
