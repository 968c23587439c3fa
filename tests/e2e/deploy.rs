//! Deploys that go well, and deploys that fail: the serving color is never touched.

use std::time::Duration;

use crate::harness::fronted::{Fronted, operation_of};
use crate::harness::{engine, eventually};

#[test]
fn a_deploy_moves_everything_and_a_rollback_brings_it_back() {
    let fronted = Fronted::deployed();
    let observer = fronted.shop.observer();
    let (server, before) = (observer.server_start(), fronted.starts());
    let load = fronted.load(100, 200);
    load.wait_for(100);
    fronted.deploy("migration", &[]).succeeded();
    fronted.run(&["status"]).succeeded().says(&["r1", "r2", "1 %"]);
    fronted.run(&["shift", "10%"]).succeeded();
    load.wait_for(400);
    fronted.run(&["next"]).succeeded();
    load.wait_for(200);
    fronted.run(&["promote"]).succeeded();
    fronted.serves("v2");
    let rollback = fronted.run(&["rollback"]).succeeded();
    rollback.clone().says(&["r1"]);
    fronted.serves("v1");
    fronted.run(&["rollback"]).succeeded().says(&["Nothing to do"]);
    load.wait_for(100);
    let records = load.stop();
    records.assert_none_failed();
    assert!(records.by_release().get("v2").is_some_and(|count| *count > 0));
    assert_eq!(observer.server_start(), server);
    let after = fronted.starts();
    let agents = engine::containers_of(&format!("{}-green", fronted.shop.project), "agent");
    for (id, start) in before.iter().filter(|(id, _)| !agents.contains(id)) {
        let now = after.iter().find(|(other, _)| other == id).map(|(_, start)| start);
        assert_eq!(now, Some(start), "{id} was restarted");
    }
    let undo = fronted.run(&["undo", &operation_of(&rollback.printed.both())]).succeeded();
    assert!(undo.printed.both().contains("r2"), "{}", undo.printed.both());
    fronted.serves("v2");
}

#[test]
fn two_agents_never_work_at_the_same_time() {
    let fronted = Fronted::deployed();
    let observer = fronted.shop.observer();
    fronted.deploy("good", &["--at-once"]).succeeded();
    let ticks = |release: &str| {
        observer.number(&format!(
            "SELECT count(*) FROM agent_ticks WHERE release = '{release}' AND what = 'tick'"
        ))
    };
    eventually("v2's agent ticks", Duration::from_secs(20), || (ticks("v2") >= 2).then_some(()));
    let before = ticks("v1");
    fronted.run(&["rollback"]).succeeded();
    eventually("v1's agent ticks again", Duration::from_secs(30), || {
        (ticks("v1") >= before + 2).then_some(())
    });
    let rows = observer.ask("SELECT release, hostname, what FROM agent_ticks ORDER BY id");
    let mut working: Option<String> = None;
    for row in rows {
        let (release, host, what): (String, String, String) = (row.get(0), row.get(1), row.get(2));
        match (what.as_str(), &working) {
            ("start", None) => working = Some(host),
            ("stop", Some(mine)) if *mine == host => working = None,
            ("tick", Some(mine)) if *mine == host => {}
            other => panic!("{release} on {host}: {other:?}"),
        }
    }
}

/// A failed deploy: exit code, the words of its message, and nothing left behind.
fn check_failed_deploy(kind: &str, words: &[&str]) {
    let fronted = Fronted::deployed();
    let before = engine::belongings(&fronted.shop.project);
    let load = fronted.load(50, 100);
    load.wait_for(20);
    let ran = fronted.deploy(kind, &[]);
    assert_eq!(ran.printed.code, 1, "{}", ran.printed.both());
    ran.says(words);
    fronted.run(&["status"]).succeeded().says(&["r1"]);
    load.wait_for(50);
    let records = load.stop();
    records.assert_none_failed();
    assert_eq!(records.by_release().keys().collect::<Vec<_>>(), ["v1"]);
    assert_eq!(engine::belongings(&fronted.shop.project), before);
}

#[test]
fn a_release_that_crashes_leaves_the_serving_one_untouched() {
    check_failed_deploy("crash", &["backend", "no price list in /prices"]);
}

#[test]
fn a_release_that_never_gets_healthy_leaves_the_serving_one_untouched() {
    check_failed_deploy("unhealthy", &["backend", "503"]);
}

#[test]
fn a_release_that_does_not_build_leaves_the_serving_one_untouched() {
    check_failed_deploy("broken", &["assets"]);
}

#[test]
fn migrations_that_stay_after_a_failed_deploy_are_named() {
    let fronted = Fronted::deployed();
    fronted.shop.release("migration");
    let ran = fronted.deploy("crash", &[]);
    assert_eq!(ran.printed.code, 1, "{}", ran.printed.both());
    ran.says(&["no price list in /prices", "_note_v2"]);
    assert_eq!(fronted.release_now(), "v1");
}

#[test]
fn a_release_that_was_rolled_back_is_refused_before_anything_begins() {
    let fronted = Fronted::deployed();
    fronted.deploy("good", &["--at-once"]).succeeded();
    fronted.run(&["rollback"]).succeeded();
    let before = engine::belongings(&fronted.shop.project);
    let operations = || {
        let events = fronted.run(&["events", "--json"]).succeeded().printed.stdout;
        events.matches("operation_started").count()
    };
    let begun = operations();
    for words in [&["deploy"][..], &["deploy", "--ref", "HEAD"]] {
        let refused = fronted.run(words).exits(4);
        refused.says(&["the commit of r2", "NOTHING WAS CHANGED", "cutover deploy --again"]);
    }
    assert_eq!(operations(), begun, "a refusal is no operation");
    assert_eq!(engine::belongings(&fronted.shop.project), before);
    assert_eq!(fronted.release_now(), "v1");
    fronted.run(&["deploy", "--again", "--at-once"]).succeeded();
    fronted.serves("v2");
}
