//! Who was allowed to answer: every publish as generation and split, and the access log's line for
//! each request.
//!
//! The publishes are what the commands acknowledged, checked against the journal. Endpoints change
//! the table too and get generations of their own; a split holds until the next one is published.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::time::{Duration, Instant};

use cutover_model::{Color, Split, Weight};
use cutover_proxy::AccessRecord;
use cutover_proxy::message::Routed;

use super::daemon::{Cutover, Ran};
use super::eventually;
use super::load::{Record, Records, VISIT};

/// A publish that was acknowledged to somebody.
struct Publish {
    split: Split,
    /// The command had returned by then.
    acknowledged: Instant,
}

/// Every publish since a moment.
pub(crate) struct Ledger {
    before: Split,
    published: BTreeMap<u64, Publish>,
}

impl Ledger {
    /// From now on; no traffic may be moved while this looks.
    pub(crate) fn open(cutover: &Cutover) -> Self {
        let said = cutover.run(&["status", "--json"]).succeeded().printed.stdout;
        let status: serde_json::Value = serde_json::from_str(&said).expect("JSON");
        let serves = &status["apps"][0]["serves"];
        assert_eq!(serves["weight"].as_u64(), Some(10_000), "one color has everything: {said}");
        let stable = serde_json::from_value(serves["color"].clone()).expect("a color");
        Self { before: Split::all(stable), published: BTreeMap::new() }
    }

    /// Runs a command that moves traffic, and notes what it published.
    pub(crate) fn moves(&mut self, cutover: &Cutover, arguments: &[&str]) -> Ran {
        let ran = cutover.run(&[arguments, &["--json"]].concat()).succeeded();
        let acknowledged = Instant::now();
        let line = ran.printed.stdout.lines().next().unwrap_or_default();
        let done: serde_json::Value = serde_json::from_str(line).expect("a JSON line");
        let moved = &done["moved"];
        let generation = moved["generation"].as_u64();
        let generation =
            generation.unwrap_or_else(|| panic!("{arguments:?} moved nothing: {line}"));
        let split = Split {
            stable: serde_json::from_value(moved["stable"][1].clone()).expect("a color"),
            weight: serde_json::from_value(moved["weight"][1].clone()).expect("a weight"),
        };
        let before = self.published.insert(generation, Publish { split, acknowledged });
        assert!(before.is_none(), "two publishes of generation {generation}");
        ran
    }

    fn split_at(&self, generation: u64) -> Split {
        let last = self.published.range(..=generation).next_back();
        last.map_or(self.before, |(_, publish)| publish.split)
    }

    /// The journal tells the same story.
    pub(crate) fn agrees_with_the_journal(&self, cutover: &Cutover) {
        let said = cutover.run(&["events", "--json", "-n", "100000"]).succeeded().printed.stdout;
        let facts = said.lines().map(|line| {
            let event: serde_json::Value = serde_json::from_str(line).expect("a JSON line");
            event["happened"]["fact"].clone()
        });
        let journal: Vec<Split> = facts
            .filter(|fact| fact["fact"] == "split_changed")
            .map(|fact| serde_json::from_value(fact["after"].clone()).expect("a split"))
            .collect();
        let ours: Vec<Split> = self.published.values().map(|publish| publish.split).collect();
        assert!(journal.ends_with(&ours), "journal {journal:?}\ncommands {ours:?}");
    }

    /// Every request has one line in the log, and every line obeys its generation: the color is one
    /// that the split of that table allowed, and it is the color of the release that answered.
    pub(crate) fn proves(
        &self,
        log: &Path,
        records: &Records,
        color_of: impl Fn(&Record) -> Color,
    ) {
        let lines = read_log(log, records.0.len());
        let mut by_split: BTreeMap<(Color, Weight), usize> = BTreeMap::new();
        for record in &records.0 {
            let line = lines.get(&record.id);
            let line = line.unwrap_or_else(|| panic!("{} is not in the log", record.id));
            let generation = line.generation.0;
            let split = self.split_at(generation);
            let color = line.color.unwrap_or_else(|| panic!("routed nowhere: {line:?}"));
            assert!(
                split.share(color) > Weight::ZERO,
                "generation {generation} ({split:?}) gives {color} nothing: {line:?}"
            );
            assert_eq!(line.routed, Some(Routed::Slot), "{line:?}");
            assert_eq!(color, color_of(record), "the log says {color}: {record:?}");
            assert_eq!(line.status, record.status, "{line:?} {record:?}");
            *by_split.entry((split.stable, split.weight)).or_default() += 1;
            self.is_not_older_than_acknowledged(record, generation);
        }
        eprintln!("requests by stable color and weight of the other one: {by_split:?}");
    }

    /// None issued after the acknowledgement is routed by an older table.
    fn is_not_older_than_acknowledged(&self, record: &Record, generation: u64) {
        let newer = self.published.range(generation + 1..);
        for (published, publish) in newer {
            assert!(
                record.sent <= publish.acknowledged,
                "{} was sent after generation {published} was acknowledged, and routed by \
                 {generation}",
                record.id
            );
        }
    }
}

/// The lines of the load's requests by id, once there are that many.
fn read_log(log: &Path, count: usize) -> HashMap<String, AccessRecord> {
    eventually("the access log is complete", Duration::from_secs(10), || {
        let text = std::fs::read_to_string(log).expect("the access log");
        let mut lines = HashMap::new();
        for line in text.lines().filter(|line| line.contains(VISIT) && line.ends_with('}')) {
            let line: AccessRecord = serde_json::from_str(line).expect("a line of the log");
            let id = line.request_id.clone();
            assert!(lines.insert(id, line).is_none(), "two lines for one request");
        }
        (lines.len() >= count).then_some(lines)
    })
}
