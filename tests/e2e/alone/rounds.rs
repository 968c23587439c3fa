//! The main job, ten times: deploy, 1, 10, 50, 100 %, rollback, under load.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Instant;

use cutover_model::Color;

use crate::harness::engine;
use crate::harness::fronted::{Fronted, access_log};
use crate::harness::ledger::Ledger;
use crate::harness::load::{Load, Record, Records};
use crate::harness::observer::{Observer, Session};

const RATE: u32 = 500;
const CLIENTS: usize = 2_000;
const ROUNDS: usize = 10;
/// How many clients are met at each weight of each round; another part of them each time.
const MET: usize = 1_000;

#[test]
fn ten_rounds_of_deploy_and_rollback_fail_no_request() {
    let fronted = Fronted::deployed();
    let shop = &fronted.shop;
    crate::harness::wire::request(shop.port, "PUT", "/api/uploads/kept", &[], b"kept")
        .expect("an answer");
    let untouched = Untouched::look(&fronted);
    let mut ledger = Ledger::open(&fronted.cutover);
    let mut colors = Colors::default();
    colors.look(&fronted);
    let load = fronted.load(RATE, CLIENTS);
    load.wait_for(CLIENTS);
    let (mut shares, mut spans) = (Vec::new(), Vec::new());
    for round in 1..=ROUNDS {
        let begun = Instant::now();
        fronted.deploy("good", &["--no-traffic"]).succeeded();
        colors.look(&fronted);
        let (deployed, next) = (Instant::now(), format!("v{}", round + 1));
        for weight in [1, 10, 50] {
            ledger.moves(&fronted.cutover, &["shift", &format!("{weight}%")]);
            shares.push(step(&load, weight, &next));
        }
        ledger.moves(&fronted.cutover, &["promote"]);
        let promoted = Instant::now();
        load.wait_for(200);
        let after = load.sent_since(promoted);
        assert_eq!(after.by_release().keys().collect::<Vec<_>>(), [&next], "round {round}");
        ledger.moves(&fronted.cutover, &["rollback"]);
        let acknowledged = Instant::now();
        load.wait_for(200);
        let after = load.sent_since(acknowledged);
        assert_eq!(after.by_release().keys().collect::<Vec<_>>(), ["v1"], "round {round}");
        spans.push((deployed, promoted));
        eprintln!(
            "round {round}: deploy {:?}, weights {:?}, promote and rollback {:?}",
            deployed - begun,
            promoted - deployed,
            promoted.elapsed()
        );
    }
    let records = load.stop();
    records.assert_none_failed();
    let clients: HashSet<usize> = records.0.iter().map(|record| record.client).collect();
    assert_eq!(clients.len(), CLIENTS);
    ledger.agrees_with_the_journal(&fronted.cutover);
    ledger.proves(&access_log(shop), &records, |record| colors.of(record));
    // When pages are opened shifts against the rounds: not each of them has clients that show it.
    let moved: usize =
        spans.iter().map(|(from, to)| assert_one_way(&records.sent_between(*from, *to))).sum();
    assert!(moved > 0, "no client with a cookie met a new release");
    assert_shares(&shares);
    untouched.is_so_still(&fronted, &records);
    eprintln!(
        "{} requests, p50 {:?}, p99 {:?}",
        records.0.len(),
        records.quantile(0.5),
        records.quantile(0.99)
    );
}

/// Which color an answer came from, by what the containers themselves say.
#[derive(Default)]
struct Colors {
    containers: HashMap<String, Color>,
}

impl Colors {
    /// Learns the containers that run now by the short ids that are their host names.
    fn look(&mut self, fronted: &Fronted) {
        for color in Color::BOTH {
            let project = format!("{}-{color}", fronted.shop.project);
            for id in engine::containers_of(&project, "backend") {
                self.containers.insert(id.chars().take(12).collect(), color);
            }
        }
    }

    /// The first release stays in green; each later one has blue.
    fn of(&self, record: &Record) -> Color {
        let color = if record.release == "v1" { Color::Green } else { Color::Blue };
        if let Some(name) = &record.container {
            assert_eq!(self.containers.get(name), Some(&color), "{record:?}");
        }
        color
    }
}

/// What no deploy and no rollback may touch, as it was.
struct Untouched {
    observer: Observer,
    server: String,
    sessions: Vec<Session>,
    postgres: Vec<(String, String)>,
    volumes: Vec<String>,
    backend: (String, String),
    rows: String,
}

impl Untouched {
    fn look(fronted: &Fronted) -> Self {
        let shop = &fronted.shop;
        let observer = shop.observer();
        let green = format!("{}-green", shop.project);
        let backend = engine::containers_of(&green, "backend").remove(0);
        Self {
            server: observer.server_start(),
            sessions: observer.sessions("shop backend v1"),
            postgres: engine::starts(&shop.project),
            volumes: volumes(&shop.project),
            backend: (backend.clone(), started(&backend)),
            rows: rows(&observer),
            observer,
        }
    }

    /// The observer's own session is the first witness: a reset would end the test.
    fn is_so_still(&self, fronted: &Fronted, records: &Records) {
        let shop = &fronted.shop;
        assert_eq!(self.observer.server_start(), self.server);
        let sessions = self.observer.sessions("shop backend v1");
        let is_kept = |session: &Session| sessions.contains(session);
        assert!(self.sessions.iter().all(is_kept), "a session was reset");
        let said = engine::docker(&["logs", &shop.container("postgres")]).both();
        assert!(!said.contains("reset by peer"), "{said}");
        assert_eq!(engine::starts(&shop.project), self.postgres, "postgres was restarted");
        let (backend, start) = &self.backend;
        assert_eq!(started(backend), *start, "the backend of the first release was restarted");
        assert_eq!(volumes(&shop.project), self.volumes);
        assert_eq!(shop.answers(shop.port, "/api/uploads/kept").body, b"kept");
        assert_eq!(rows(&self.observer), self.rows, "rows from before");
        let orders = records.0.iter().filter(|r| r.call.method == "POST").count();
        let rows = self.observer.number("SELECT count(*) FROM orders");
        assert_eq!(usize::try_from(rows).ok(), Some(orders), "one row for each order, none lost");
    }
}

fn started(container: &str) -> String {
    engine::inspect(container, "{{.State.StartedAt}} {{.State.Pid}} {{.RestartCount}}")
}

fn volumes(project: &str) -> Vec<String> {
    let all = engine::belongings(project);
    all.into_iter().filter(|line| line.contains(" volume ")).collect()
}

/// The schema and the migrations on record: nothing here brings a new one.
fn rows(observer: &Observer) -> String {
    observer.text(
        "SELECT (SELECT string_agg(m::text, '|' ORDER BY m.started_at) FROM _prisma_migrations m)
             || (SELECT string_agg(table_name || '.' || column_name || ' ' || data_type, '|'
                     ORDER BY table_name, ordinal_position)
                 FROM information_schema.columns WHERE table_schema = 'public')",
    )
}

/// How many clients met the new release first, out of how many, at which weight.
struct Share {
    weight: u32,
    clients: usize,
    on_canary: usize,
}

/// Waits until enough clients were there, and counts who met the new release.
fn step(load: &Load, weight: u32, next: &str) -> Share {
    let begun = Instant::now();
    let mut first = HashMap::new();
    // Those that ended meanwhile may have been sent before.
    while first.len() < MET {
        load.wait_for((MET - first.len()).max(RATE as usize / 10));
        first = load.sent_since(begun).first_by_client();
    }
    let on_canary = first.values().filter(|release| *release == next).count();
    Share { weight, clients: first.len(), on_canary }
}

/// While the weight only rises, a client that was given the new release keeps it. How many were.
fn assert_one_way(records: &Records) -> usize {
    let mut sorted: Vec<&Record> = records.0.iter().filter(|record| record.has_cookie).collect();
    sorted.sort_by_key(|record| record.sent);
    let mut moved = HashSet::new();
    for record in sorted {
        if record.release != "v1" {
            moved.insert(record.client);
        } else {
            assert!(!moved.contains(&record.client), "moved back: {record:?}");
        }
    }
    moved.len()
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
        let distance = (on_canary as f64 - n * p) / deviation;
        eprintln!("{weight} %: {on_canary} of {clients} clients, {distance:+.2} deviations");
        assert!(distance.abs() <= 4.0, "{weight} %: {on_canary} of {clients} clients");
    }
}
