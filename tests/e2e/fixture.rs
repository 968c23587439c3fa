//! The fixture itself: what the other tests take for granted, without Cutover.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use crate::harness::load::{CALLERS, Load, Plan, READERS};
use crate::harness::own_engine::OwnEngine;
use crate::harness::shop::Shop;
use crate::harness::stack::Stack;
use crate::harness::{engine, eventually, wire};

fn local(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

#[test]
fn the_shop_runs_from_plain_docker_compose() {
    let shop = Shop::up();
    let page = shop.answers(shop.port, "/");
    assert_eq!(page.release(), "v1");
    assert!(page.text().contains("Shop v1"));
    let whoami = shop.answers(shop.api_port, "/api/whoami").json();
    assert_eq!(whoami["release"], "v1");
    assert_eq!(whoami["role"], "backend");

    let order =
        wire::request(shop.api_port, "POST", "/api/orders", &[], b"cup").expect("an answer");
    assert_eq!(order.status, 201);
    let put = wire::request(shop.api_port, "PUT", "/api/uploads/x", &[], b"12").expect("an answer");
    assert_eq!(put.status, 201);
    assert_eq!(shop.answers(shop.api_port, "/api/uploads/x").body, b"12");
    let bytes = shop.answers(shop.api_port, "/api/bytes?n=200000").body;
    assert_eq!(bytes.len(), 200_000);
    assert!(bytes.iter().zip(0u64..).all(|(byte, at)| u64::from(*byte) == at % 251));
    let events = shop.answers(shop.api_port, "/api/stream?n=3&ms=1").text();
    assert_eq!(events.matches("data: v1").count(), 3);

    let observer = shop.observer();
    assert_eq!(observer.number("SELECT count(*) FROM orders WHERE release = 'v1'"), 1);
    let names = observer.text(
        "SELECT string_agg(migration_name || ' ' || applied_steps_count, ',' ORDER BY started_at)
         FROM _prisma_migrations WHERE finished_at IS NOT NULL",
    );
    assert_eq!(names, "20261101090000_init 1,20261109120000_agent 1");
    eventually("the agent ticks", Duration::from_secs(10), || {
        (observer.number("SELECT count(*) FROM agent_ticks WHERE what = 'tick'") >= 2).then_some(())
    });
    let backend = observer.sessions("shop backend v1");
    assert!((1..=4).contains(&backend.len()), "{backend:?}");
}

#[test]
fn a_release_of_the_shop_is_bad_in_the_way_it_was_told_to() {
    let shop = Shop::up();
    let start = shop.observer();
    let (server, postgres) = (start.server_start(), shop.container("postgres"));

    assert!(shop.release("bad").contains("Shop v2"));
    shop.compose(&["up", "-d", "--build", "--wait"]).succeeded();
    let statuses: Vec<u16> = (0..30)
        .map(|_| wire::get(shop.api_port, "/api/whoami").expect("an answer").status)
        .collect();
    assert_eq!(statuses.iter().filter(|status| **status == 500).count(), 9, "{statuses:?}");
    assert_eq!(shop.answers(shop.api_port, "/api/health").release(), "v2");

    shop.release("migration");
    shop.compose(&["build", "-q"]).succeeded();
    let said = shop.compose(&["run", "--rm", "backend", "/shop", "migrate"]).succeeded().stdout;
    assert!(said.contains("_note_v3"), "{said}");

    shop.release("crash");
    shop.compose(&["up", "-d", "--build", "backend"]);
    let backend = shop.container("backend");
    eventually("the backend is dead", Duration::from_secs(20), || {
        (engine::inspect(&backend, "{{.State.Status}} {{.State.ExitCode}}") == "exited 1")
            .then_some(())
    });
    let log = engine::docker(&["logs", &backend]).both();
    assert!(log.contains("no price list in /prices"), "{log}");

    assert_eq!(start.server_start(), server);
    assert_eq!(shop.container("postgres"), postgres);
}

#[test]
fn the_load_keeps_its_rate_and_records_every_request() {
    let shop = Shop::up();
    let plan = |port, mix| Plan { address: local(port), rate: 200, clients: 300, mix };
    let readers = Load::start(plan(shop.port, READERS));
    let callers = Load::start(plan(shop.api_port, CALLERS));
    readers.wait_for(700);
    callers.wait_for(700);
    let (readers, callers) = (readers.stop(), callers.stop());
    readers.assert_none_failed();
    callers.assert_none_failed();
    let seen: HashSet<usize> = readers.0.iter().map(|record| record.client).collect();
    assert_eq!(seen.len(), 300);
    assert_eq!(readers.by_release().get("v1"), Some(&readers.0.len()));
    assert_eq!(callers.first_by_client().len(), 300);
    let orders = callers.0.iter().filter(|record| record.call.method == "POST").count();
    let rows = shop.observer().number("SELECT count(*) FROM orders");
    assert_eq!(usize::try_from(rows).ok(), Some(orders));

    shop.compose(&["stop", "-t", "1", "backend"]).succeeded();
    let refused = Load::start(plan(shop.api_port, CALLERS));
    refused.wait_for(50);
    let refused = refused.stop();
    assert_eq!(refused.failures().len(), refused.0.len());
}

#[test]
fn kinto_migrates_and_keeps_a_record() {
    let stack = Stack::copy("kinto");
    stack.compose(&["up", "-d", "--wait", "postgres"]).succeeded();
    let migrate = ["run", "--rm", "kinto", "kinto", "migrate", "--ini", "/etc/kinto.ini"];
    let said = stack.compose(&migrate).succeeded().both();
    assert!(said.contains("Created PostgreSQL storage schema"), "{said}");
    stack.up();
    assert_eq!(stack.answers(stack.port, "/v1/__heartbeat__").json()["storage"], true);
    let headers = [("authorization", "Basic bWU6cHc="), ("content-type", "application/json")];
    let path = "/v1/buckets/default/collections/tasks/records/11111111-1111-1111-1111-111111111111";
    let put = wire::request(stack.port, "PUT", path, &headers, br#"{"data":{"cup":1}}"#);
    assert_eq!(put.expect("an answer").status, 201);
    let record = wire::request(stack.port, "GET", path, &headers, b"").expect("an answer");
    assert_eq!(record.json()["data"]["cup"], 1);
}

#[test]
fn every_small_stack_is_valid_compose() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stacks");
    let names = std::fs::read_dir(folder).expect("the stacks");
    let mut count = 0;
    for entry in names {
        let entry = entry.expect("an entry");
        let name = entry.file_name().to_string_lossy().into_owned();
        let config = ["compose", "config", "--format", "json"];
        let rendered = engine::run("docker", &config, &entry.path());
        assert_eq!(rendered.code, 0, "{name}: {}", rendered.stderr);
        let warned = rendered.stderr.contains("variable is not set");
        let expected = ["missing-variable", "dollar-in-secret"].contains(&name.as_str());
        assert_eq!(warned, expected, "{name}: {}", rendered.stderr);
        count += 1;
    }
    assert!(count >= 30, "{count} stacks");
}

#[test]
fn an_engine_of_our_own_can_be_killed_and_its_containers_go_on() {
    let mut own = OwnEngine::start();
    own.load("shop-program:latest");
    let run = ["run", "-d", "-p", "7070:80", "shop-program:latest", "/shop", "frontend"];
    own.docker(&run).succeeded();
    let address = SocketAddr::from((own.address, 7070));
    let answers = || wire::ask(address, "GET", "/", &[], b"").ok().filter(|a| a.status == 200);
    eventually("the container answers", Duration::from_secs(20), answers);
    own.signal("STOP");
    assert!(answers().is_some());
    own.signal("CONT");
    own.kill();
    assert!(answers().is_some());
    own.launch();
    assert!(answers().is_some());
    assert_eq!(own.docker(&["ps", "-q"]).succeeded().stdout.lines().count(), 1);
}
