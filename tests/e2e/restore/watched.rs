//! After a restore the checks are made again for a while: what fails is said once, with its undo,
//! and nothing is undone by itself; over a restart of the daemon too.

use std::time::Duration;

use super::shop::Shop;
use crate::harness::eventually;
use crate::harness::fronted::operation_of;

const PATIENCE: Duration = Duration::from_secs(60);

fn events(shop: &Shop) -> String {
    shop.run(&["events", "--last", "400"]).succeeded().printed.stdout
}

fn waits_for(shop: &Shop, words: &str) {
    eventually(words, PATIENCE, || events(shop).contains(words).then_some(()));
}

#[test]
fn data_that_goes_bad_after_a_restore_is_said_once_with_its_undo() {
    let mut shop = Shop::spoilt(Shop::deployed_with("watch = \"20s\""));
    let ran = shop.run(&["rollback", "--database", "--max-loss", "1000000"]).succeeded();
    ran.clone().says(&["its checks are repeated for 20 s"]);
    let operation = operation_of(&ran.printed.both());
    let watched = format!("the data that {operation} put back is watched until");
    shop.run(&["status"]).succeeded().says(&[&watched]);

    // The query fails from now on; a restart in between changes nothing of the watch.
    shop.write("INSERT INTO orders (item, release) VALUES ('', 'v1')");
    waits_for(&shop, "watched: fails: DATA: orders_have_items");
    shop.fronted.cutover.kill();
    shop.fronted.cutover.serve();
    waits_for(&shop, "watched 20 s: fails since");
    let said = events(&shop);
    let undo = format!("cutover undo {operation}");
    assert_eq!(said.matches("Nothing is undone by itself").count(), 1, "{said}");
    assert!(said.contains("ERROR watch: on the data that") && said.contains(&undo), "{said}");
    shop.run(&["status"]).succeeded().says(&["something failed at", "orders_have_items", &undo]);
    shop.run(&["report", &operation]).succeeded().says(&["Nothing is undone by itself"]);
    assert_eq!(shop.spoilt_orders("shop"), 0, "nothing was undone");

    // A person undoes it: that data is watched as well, and nothing is wrong with it.
    shop.run(&["undo", &operation, "--max-loss", "1000000"]).succeeded();
    assert!(shop.spoilt_orders("shop") > 0);
    waits_for(&shop, "watched 20 s: nothing failed");
    shop.run(&["status"]).succeeded().says(&["was watched until", "nothing failed"]);
    shop.assert_at_rest();
}
