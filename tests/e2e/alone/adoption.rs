//! Adoption and leaving under load: no container restarted, no connection of the database lost, no
//! request failed, nothing of ours left on the host; also behind a firewall that drops what is not
//! for the published ports.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::harness::fronted::{ADOPT, Fronted};
use crate::harness::own_engine::OwnEngine;
use crate::harness::traces::Traces;
use crate::harness::witness::Witness;
use crate::harness::{eventually, wire};

#[test]
fn adopt_and_leave_under_load_fail_no_request_and_restart_nothing() {
    let fronted = Fronted::beside();
    let shop = &fronted.shop;
    let before = Traces::look(&fronted);
    let witness = Witness::look(shop);
    let load = fronted.load_on_both(Ipv4Addr::LOCALHOST, 300, 600);
    load.wait_for(300);
    fronted.run(ADOPT).succeeded().says(&["Adopted"]);
    load.wait_for(300);
    let page = shop.answers(shop.port, "/");
    assert!(page.header("via").is_some(), "not through Cutover: {}", page.head);
    witness.nothing_was_touched(shop);
    fronted.run(&["leave", "--yes"]).succeeded();
    load.wait_for(300);
    load.stop_without_a_failure();
    witness.nothing_was_touched(shop);
    let page = shop.answers(shop.port, "/");
    assert!(page.header("via").is_none(), "still through Cutover: {}", page.head);
    Traces::look(&fronted).assert_given_back(&before, shop, None);
}

#[test]
fn adopt_behind_a_firewall_that_knows_only_the_published_ports_fails_no_request() {
    let own = OwnEngine::start();
    let fronted = Fronted::beside_on(&own);
    let shop = &fronted.shop;
    close_all_but(&own, [shop.port, shop.api_port]);
    let ask = |port: u16, path: &str| {
        let address = SocketAddr::from((own.address, port));
        wire::ask(address, "GET", path, &[], b"").ok().filter(|answer| answer.status == 200)
    };
    let page = eventually("the shop answers from outside", Duration::from_secs(20), || {
        ask(shop.port, "/")
    });
    assert!(page.header("via").is_none());
    let rules = own.rules();
    let witness = Witness::look(shop);
    let load = fronted.load_on_both(own.address, 200, 200);
    load.wait_for(200);
    fronted.run(ADOPT).succeeded();
    load.wait_for(200);
    let page = ask(shop.port, "/").expect("an answer");
    assert!(page.header("via").is_some(), "not through Cutover: {}", page.head);
    witness.nothing_was_touched(shop);
    fronted.deploy("good", &["--at-once"]).succeeded();
    assert_eq!(ask(shop.api_port, "/api/whoami").expect("an answer").release(), "v2");
    fronted.run(&["rollback"]).succeeded();
    load.wait_for(100);
    fronted.run(&["leave", "--yes"]).succeeded();
    load.wait_for(200);
    load.stop_without_a_failure();
    let page = ask(shop.port, "/").expect("an answer");
    assert!(page.header("via").is_none(), "still through Cutover: {}", page.head);
    // The agent runs once: the deploy has moved it, and the rollback has brought it back.
    witness.the_database_was_not_touched("shop backend");
    assert_same_rules(&rules, &own.rules());
}

/// Nobody else makes rules in there: whatever differs is of ours.
fn assert_same_rules(before: &[String], after: &[String]) {
    let [before, after] = [before, after].map(|rules| rules.iter().collect::<BTreeSet<_>>());
    let left: Vec<_> = after.difference(&before).collect();
    let gone: Vec<_> = before.difference(&after).collect();
    assert!(left.is_empty() && gone.is_empty(), "left behind:\n{left:#?}\ngone:\n{gone:#?}");
}

/// A firewall as many hosts have it: INPUT drops everything but these ports.
fn close_all_but(own: &OwnEngine, [one, other]: [u16; 2]) {
    let rules = format!(
        "table inet hostwall {{\nchain input {{\n\
         type filter hook input priority 0; policy drop;\n\
         ct state established,related accept\niif lo accept\n\
         tcp dport {{ {one}, {other} }} accept\n}}\n}}\n"
    );
    let [program, net] = own.prefix();
    let mut nft = Command::new(program)
        .args([&net, "nft", "-f", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("nft starts");
    nft.stdin.take().expect("a pipe").write_all(rules.as_bytes()).expect("the rules");
    assert!(nft.wait().expect("the end of nft").success());
}
