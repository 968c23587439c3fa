//! Adoption under load: no container restarted, no connection of the database lost, no request
//! failed; also behind a firewall that drops what is not for the published port.

use std::io::Write as _;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::harness::fronted::{ADOPT, Fronted};
use crate::harness::load::{Load, Plan, READERS};
use crate::harness::own_engine::OwnEngine;
use crate::harness::stack::Stack;
use crate::harness::{engine, eventually, wire};

#[test]
fn adopt_and_leave_under_load_fail_no_request_and_restart_nothing() {
    let fronted = Fronted::beside();
    let shop = &fronted.shop;
    let observer = shop.observer();
    let load = fronted.load(300, 600);
    load.wait_for(600);
    let before = (engine::starts(&shop.project), observer.server_start());
    let sessions = observer.sessions("shop");
    fronted.run(ADOPT).succeeded().says(&["Adopted"]);
    load.wait_for(600);
    let page = shop.answers(shop.port, "/");
    assert!(page.header("via").is_some(), "not through Cutover: {}", page.head);
    let kept = observer.sessions("shop");
    assert!(sessions.iter().all(|session| kept.contains(session)), "a session was reset");
    fronted.run(&["leave", "--yes"]).succeeded();
    load.wait_for(600);
    load.stop().assert_none_failed();
    assert_eq!((engine::starts(&shop.project), observer.server_start()), before);
    let page = shop.answers(shop.port, "/");
    assert!(page.header("via").is_none(), "still through Cutover: {}", page.head);
}

#[test]
fn adopt_behind_a_firewall_that_knows_only_the_published_port_fails_no_request() {
    let own = OwnEngine::start();
    own.load("shop-program:latest");
    let stack = Stack::copy("plain");
    let host = own.host();
    stack.compose_on(&["-H", &host], &["up", "-d"]).succeeded();
    close_all_but(&own, stack.port);
    let address = SocketAddr::from((own.address, stack.port));
    let ask = || wire::ask(address, "GET", "/", &[], b"").ok().filter(|a| a.status == 200);
    let page = eventually("the stack answers from outside", Duration::from_secs(20), ask);
    assert!(page.header("via").is_none());

    let [program, net] = own.prefix();
    let mut cutover =
        stack.cutover("").inside(&[&program, &net], &[("DOCKER_HOST", host.as_str())]);
    cutover.serve();
    let load = Load::start(Plan { address, rate: 200, clients: 200, mix: READERS });
    load.wait_for(300);
    cutover.run(ADOPT).succeeded();
    load.wait_for(300);
    let page = ask().expect("an answer");
    assert!(page.header("via").is_some(), "not through Cutover: {}", page.head);
    stack.set_variables(&[("STACK_RELEASE", "two")]);
    stack.commit("two");
    cutover.run(&["deploy", "--at-once"]).succeeded();
    assert_eq!(ask().expect("an answer").release(), "two");
    cutover.run(&["rollback"]).succeeded();
    load.wait_for(100);
    cutover.run(&["leave", "--yes"]).succeeded();
    load.wait_for(300);
    load.stop().assert_none_failed();
    let page = ask().expect("an answer");
    assert!(page.header("via").is_none(), "still through Cutover: {}", page.head);
}

/// A firewall as many hosts have it: INPUT drops everything but one port.
fn close_all_but(own: &OwnEngine, port: u16) {
    let rules = format!(
        "table inet hostwall {{\nchain input {{\n\
         type filter hook input priority 0; policy drop;\n\
         ct state established,related accept\niif lo accept\ntcp dport {port} accept\n}}\n}}\n"
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
