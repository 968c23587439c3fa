//! The daemon is killed; its supervisor starts it again, or nobody does.

use std::time::{Duration, Instant};

use crate::harness::fronted::Fronted;
use crate::harness::{eventually, wire};

#[test]
fn a_killed_daemon_comes_back_with_the_same_split() {
    let mut fronted = Fronted::with_standby("good");
    for weight in ["10%", "50%", "100%"] {
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
        let said = fronted.run(&["status"]).succeeded().printed.stdout;
        let shown = weight.replace('%', " %");
        assert!(said.contains(&shown), "{said}");
    }
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
    fronted.deploy("good", &["--at-once"]).succeeded();
    fronted.cutover.kill();
    fronted.run(&["leave", "--offline", "--yes"]).succeeded();
    let page = fronted.shop.answers(fronted.shop.port, "/");
    assert!(page.header("via").is_none(), "{}", page.head);
    fronted.shop.answers(fronted.shop.api_port, "/api/health");
}
