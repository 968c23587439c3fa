//! The main job, ten times: deploy, 1, 10, 50, 100 %, rollback, under load.

use std::collections::BTreeMap;
use std::time::Instant;

use crate::harness::engine;
use crate::harness::fronted::Fronted;
use crate::harness::load::{Load, Records};

const RATE: u32 = 500;
const CLIENTS: usize = 2_500;

#[test]
fn ten_rounds_of_deploy_and_rollback_fail_no_request() {
    let fronted = Fronted::deployed();
    let shop = &fronted.shop;
    let observer = shop.observer();
    let server = observer.server_start();
    let v1_sessions = observer.sessions("shop backend v1");
    let postgres = engine::starts(&shop.project);
    let v1 = engine::containers_of(&format!("{}-green", shop.project), "backend");
    let v1_start = engine::inspect(&v1[0], "{{.State.StartedAt}} {{.State.Pid}}");
    crate::harness::wire::request(shop.port, "PUT", "/api/uploads/kept", &[], b"kept")
        .expect("an answer");
    let load = fronted.load(RATE, CLIENTS);
    load.wait_for(CLIENTS);
    let mut shares = Vec::new();
    for round in 1..=10 {
        fronted.deploy("good", &["--no-traffic"]).succeeded();
        let next = format!("v{}", round + 1);
        for weight in [1, 10, 50] {
            fronted.run(&["shift", &format!("{weight}%")]).succeeded();
            shares.push(step(&load, weight, &next));
        }
        fronted.run(&["promote"]).succeeded();
        let promoted = Instant::now();
        load.wait_for(200);
        let after = load.so_far().sent_between(promoted, Instant::now());
        assert_eq!(after.by_release().keys().collect::<Vec<_>>(), [&next], "round {round}");
        fronted.run(&["rollback"]).succeeded();
        let acknowledged = Instant::now();
        load.wait_for(200);
        let after = load.so_far().sent_between(acknowledged, Instant::now());
        assert_eq!(after.by_release().keys().collect::<Vec<_>>(), ["v1"], "round {round}");
    }
    let records = load.stop();
    records.assert_none_failed();
    assert_shares(&shares);
    assert_eq!(observer.server_start(), server);
    let sessions = observer.sessions("shop backend v1");
    assert!(v1_sessions.iter().all(|session| sessions.contains(session)), "a session was reset");
    let orders = records.0.iter().filter(|r| r.call.method == "POST").count();
    let rows = observer.number("SELECT count(*) FROM orders");
    assert_eq!(usize::try_from(rows).ok(), Some(orders), "one row for each order, none lost");
    assert_eq!(shop.answers(shop.port, "/api/uploads/kept").body, b"kept");
    assert_eq!(engine::starts(&shop.project), postgres, "postgres was restarted");
    let start = engine::inspect(&v1[0], "{{.State.StartedAt}} {{.State.Pid}}");
    assert_eq!(start, v1_start, "the backend of the first release was restarted");
    eprintln!(
        "{} requests, p50 {:?}, p99 {:?}",
        records.0.len(),
        records.quantile(0.5),
        records.quantile(0.99)
    );
}

/// How many clients met the new release first, out of how many, at which weight.
struct Share {
    weight: u32,
    clients: usize,
    on_canary: usize,
}

/// Waits until each client was there once, and counts who met the new release.
fn step(load: &Load, weight: u32, next: &str) -> Share {
    let begun = Instant::now();
    load.wait_for(CLIENTS + RATE as usize / 2);
    let records: Records = load.so_far().sent_between(begun, Instant::now());
    let first = records.first_by_client();
    let on_canary = first.values().filter(|release| *release == next).count();
    Share { weight, clients: first.len(), on_canary }
}

fn assert_shares(shares: &[Share]) {
    let mut sums: BTreeMap<u32, (usize, usize)> = BTreeMap::new();
    for share in shares {
        let sum = sums.entry(share.weight).or_default();
        sum.0 += share.clients;
        sum.1 += share.on_canary;
    }
    for (weight, (clients, on_canary)) in sums {
        let (n, p) = (clients as f64, f64::from(weight) / 100.0);
        let deviation = (n * p * (1.0 - p)).sqrt();
        let distance = (on_canary as f64 - n * p).abs() / deviation;
        eprintln!("{weight} %: {on_canary} of {clients} clients, {distance:.2} deviations");
        assert!(distance <= 4.0, "{weight} %: {on_canary} of {clients} clients");
    }
}
