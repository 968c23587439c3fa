//! The data goes back together with a stack that has to be made: again, or anew.

use super::shop::Shop;
use crate::harness::engine;
use crate::harness::fronted::operation_of;

const ANY: [&str; 2] = ["--max-loss", "100000"];

/// v2 serves on data that it spoilt; the data as it was before is the second number.
fn spoilt() -> (Shop, [String; 2]) {
    let shop = Shop::spoilt(Shop::deployed());
    let was =
        "SELECT md5(string_agg(id || 'cup', ',' ORDER BY id)) FROM generate_series(1, 500) AS id";
    let known = [shop.orders("shop"), shop.text(was)];
    assert_ne!(known[0], known[1]);
    (shop, known)
}

fn without_a_stack(shop: &Shop) {
    let color = match shop.status()["apps"][0]["serves"]["color"].as_str() {
        Some("blue") => "green",
        _ => "blue",
    };
    for service in ["backend", "frontend"] {
        let project = format!("{}-{color}", shop.fronted.shop.project);
        for id in engine::containers_of(&project, service) {
            engine::docker(&["rm", "-f", &id]).succeeded();
        }
    }
}

#[test]
fn the_data_goes_back_with_a_release_whose_containers_are_gone() {
    let (shop, [bad, good]) = spoilt();
    without_a_stack(&shop);
    let back = [&["rollback", "--database"][..], &ANY].concat();
    let ran = shop.run(&back).succeeded();
    let ran = ran.says(&["restore point before r2", "DONE"]);
    assert_eq!((shop.fronted.release_now(), shop.orders("shop")), ("v1".to_owned(), good.clone()));
    let said = shop.run(&["report", "--json"]).succeeded().printed.stdout;
    let report: serde_json::Value = serde_json::from_str(said.trim()).expect("JSON");
    assert_eq!(report["what"], "restore", "{report}");
    let at = |name: &str| report[name].as_i64().unwrap_or_else(|| panic!("{name}: {report}"));
    assert!(at("asked_at") < at("traffic_at") && at("traffic_at") < at("started_at"), "{report}");
    assert!(report["data"]["kept_as"].is_string(), "{report}");
    let outcome = |index: usize| report["checks"][index]["outcome"].clone();
    assert_eq!((outcome(0), outcome(2)), ("pass".into(), "pass".into()), "{report}");
    let again = shop.run(&["rollback"]).succeeded();
    again.says(&["Nothing to do"]);
    let both = ran.printed.both();
    let operation = operation_of(both.rsplit("DONE").next().expect("the end"));
    shop.run(&[&["undo", &operation][..], &ANY].concat()).succeeded();
    assert_eq!(shop.orders("shop"), bad, "the way forward");
    let said = shop.run(&["report", &operation]).succeeded().printed.both();
    assert!(said.contains("not asked: r2 serves now, and this is about r1"), "{said}");
    shop.assert_at_rest();
}

#[test]
fn the_data_goes_back_with_a_release_that_is_built_anew() {
    let (shop, [_, good]) = spoilt();
    let typed = ["rollback", "--to", "r1", "--rebuild", "--database"];
    let plan = shop.run(&[&typed[..], &["--dry-run"]].concat()).succeeded();
    let plan = plan.says(&[
        "r3 = code of r1, images built anew, config of r1",
        "all to r3",
        "Then, once it has all traffic, the data is put back.",
        "> restore point before r2",
    ]);
    assert!(!plan.printed.both().contains("NOT rolled back: the database"), "{:?}", plan.printed);
    assert_eq!(shop.fronted.release_now(), "v2", "a dry run does nothing");
    let ran = shop.run(&[&typed[..], &ANY].concat()).succeeded();
    ran.says(&["restore point before r2", "DONE"]);
    assert_eq!((shop.fronted.release_now(), shop.orders("shop")), ("v1".to_owned(), good));
    assert_eq!(shop.status()["apps"][0]["serves"]["release"], 3);
    shop.assert_at_rest();
}
