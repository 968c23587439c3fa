//! A rollback that has to make a stack: it does not wait for a backup, and one that is set for later
//! waits for Docker instead of being dropped.

use std::time::Duration;

use super::shop::Shop;
use crate::harness::eventually;

#[test]
fn a_rollback_ends_a_backup_and_one_set_for_later_waits_for_docker() {
    let mut shop = Shop::deployed();
    // The engine by a name that can be taken away.
    let link = shop.fronted.shop.beside("engine.sock");
    let appear = || std::os::unix::fs::symlink("/var/run/docker.sock", &link).expect("a link");
    appear();
    shop.fronted.cutover.stop();
    let host = format!("unix://{}", link.display());
    shop.fronted.cutover.variable("DOCKER_HOST", Some(&host));
    shop.fronted.cutover.serve();
    for _ in 0..2 {
        shop.fronted.deploy("good", &["--at-once"]).succeeded();
    }
    shop.fronted.serves("v3");

    // A backup that waits for a table as long as somebody holds it.
    shop.write("CREATE TABLE held (id int)");
    let holder = shop.session();
    holder.ask("BEGIN");
    holder.ask("LOCK TABLE held IN ACCESS EXCLUSIVE MODE");
    shop.run(&["backup", "create", "--detach"]).succeeded();
    eventually("the backup waits", Duration::from_secs(30), || {
        shop.does("wait_event_type = 'Lock'").then_some(())
    });
    shop.run(&["rollback", "--to", "r1", "--dry-run"]).succeeded();
    let ran = shop.run(&["rollback", "--to", "r1"]).succeeded();
    ran.says(&["r1 has no containers any more", "all traffic is on r1"]);
    holder.ask("ROLLBACK");
    shop.fronted.serves("v1");
    let events = || shop.run(&["events", "--last", "300"]).succeeded().printed.stdout;
    let said = events();
    assert!(said.contains("is given up: it makes way for a rollback"), "{said}");
    // An action is named where it ends, too.
    assert!(said.contains("ready: done in") && !said.contains("action 0"), "{said}");
    shop.nothing_runs_after("the rollback");

    shop.run(&["rollback", "--to", "r2", "--at", "+3s"]).succeeded();
    std::fs::remove_file(&link).expect("the link goes");
    eventually("it waits", Duration::from_secs(30), || {
        events().contains("the rollback to r2 waits").then_some(())
    });
    shop.fronted.serves("v1");
    appear();
    shop.fronted.serves("v2");
    assert_eq!(events().matches("the rollback to r2 waits").count(), 1, "{}", events());
    assert!(!events().contains("is not carried out"), "{}", events());
}
