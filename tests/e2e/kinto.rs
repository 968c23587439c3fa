//! A real application that nobody here wrote: Kinto from the Python package index, with its own
//! migrations, through deploy, shift and rollback.

use std::collections::BTreeSet;

use crate::harness::daemon::Cutover;
use crate::harness::engine;
use crate::harness::fronted::ADOPT;
use crate::harness::stack::Stack;
use crate::harness::wire;

const RECORDS: &str = "/v1/buckets/default/collections/tasks/records";
const MORE: &str = "shared = [\"postgres\"]\n\
    migrations = { service = \"kinto\", command = \"kinto migrate --ini /etc/kinto.ini\" }";

struct Kinto {
    cutover: Cutover,
    stack: Stack,
}

impl Kinto {
    /// Its daemon runs; nothing is deployed.
    fn of(stack: Stack) -> Self {
        let mut cutover = stack.cutover_to("kinto", "port = 8888", "/v1/__heartbeat__", MORE);
        cutover.serve();
        Self { cutover, stack }
    }

    /// What a client of this name meets: Kinto's first page tells its name.
    fn release_for(&self, client: &str) -> String {
        let headers = [("authorization", client)];
        let page = wire::request(self.stack.port, "GET", "/v1/", &headers, b"");
        let page = page.expect("an answer");
        assert_eq!(page.status, 200, "{}", page.text());
        page.json()["project_name"].as_str().expect("a name").to_owned()
    }

    /// The releases that forty clients meet.
    fn releases(&self) -> BTreeSet<String> {
        (0..40).map(|number| self.release_for(&format!("Bearer client-{number}"))).collect()
    }

    fn meets_only(&self, release: &str) {
        assert_eq!(self.releases().into_iter().collect::<Vec<_>>(), [release]);
    }

    fn put(&self, number: u32) {
        let headers = [("authorization", "Basic bWU6cHc="), ("content-type", "application/json")];
        let body = format!("{{\"data\":{{\"cup\":{number}}}}}");
        let put = wire::request(self.stack.port, "PUT", &path(number), &headers, body.as_bytes());
        let put = put.expect("an answer");
        assert_eq!(put.status, 201, "{}", put.text());
    }

    fn has(&self, number: u32) {
        let headers = [("authorization", "Basic bWU6cHc=")];
        let record = wire::request(self.stack.port, "GET", &path(number), &headers, b"");
        let record = record.expect("an answer");
        assert_eq!(record.json()["data"]["cup"], number, "{}", record.text());
    }

    fn postgres(&self) -> Vec<(String, String)> {
        let ids = engine::containers_of(&self.stack.project, "postgres");
        let start = |id: &String| engine::inspect(id, "{{.State.StartedAt}} {{.State.Pid}}");
        ids.iter().map(|id| (id.clone(), start(id))).collect()
    }

    /// The second release: migrated, given half of the clients, then all, then taken back.
    fn second_release_and_back(&self) {
        self.put(1);
        let postgres = self.postgres();
        assert_eq!(postgres.len(), 1);
        self.stack.set_variables(&[("KINTO_RELEASE", "two")]);
        self.stack.commit("two");
        let said = self.cutover.run(&["deploy", "--no-traffic"]).succeeded().printed.both();
        let line = said.lines().find(|line| line.contains("migration"));
        let line = line.unwrap_or_else(|| panic!("no word on the migration: {said}"));
        assert!(line.contains("there is no restore point"), "{line}");
        self.meets_only("one");
        self.cutover.run(&["shift", "50%"]).succeeded();
        assert_eq!(self.releases().into_iter().collect::<Vec<_>>(), ["one", "two"]);
        self.cutover.run(&["promote"]).succeeded();
        self.meets_only("two");
        self.has(1);
        self.put(2);
        self.cutover.run(&["rollback"]).succeeded();
        self.meets_only("one");
        self.has(1);
        self.has(2);
        assert_eq!(self.postgres(), postgres, "postgres was restarted");
    }
}

fn path(number: u32) -> String {
    format!("{RECORDS}/11111111-1111-1111-1111-{number:012}")
}

#[test]
fn kinto_is_deployed_migrated_by_its_own_command_shifted_and_taken_back() {
    let kinto = Kinto::of(Stack::copy("kinto"));
    // The database is empty: without the migration the heartbeat would never pass.
    kinto.cutover.run(&["deploy"]).succeeded();
    kinto.meets_only("one");
    kinto.second_release_and_back();
}

#[test]
fn kinto_that_runs_from_plain_compose_is_adopted_and_goes_on_from_there() {
    let stack = Stack::copy("kinto");
    stack.compose(&["up", "-d", "--wait", "postgres"]).succeeded();
    let migrate = ["run", "--rm", "kinto", "kinto", "migrate", "--ini", "/etc/kinto.ini"];
    stack.compose(&migrate).succeeded();
    stack.up();
    stack.answers(stack.port, "/v1/__heartbeat__");
    let kinto = Kinto::of(stack);
    kinto.cutover.run(ADOPT).succeeded();
    kinto.second_release_and_back();
    kinto.cutover.run(&["leave", "--yes"]).succeeded();
    kinto.has(2);
}
