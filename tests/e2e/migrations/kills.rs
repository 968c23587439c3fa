//! kill -9 of the daemon in a rehearsal and in the migration itself: started again nothing of it is
//! left, what served serves, and the same deploy goes through.

use std::time::Duration;

use super::site::Site;
use crate::harness::eventually;

#[test]
fn a_rehearsal_that_is_killed_leaves_nothing_and_the_deploy_goes_through_again() {
    let mut site = Site::deployed();
    site.migration("20261129000000_cart", "ALTER TABLE orders ADD COLUMN cart text;");
    site.fronted.shop.release("good");
    let before = site.applied();
    let databases = site.databases();
    for place in ["rehearsal.cloned", "rehearsal.ran", "rehearsal.tried"] {
        site.dies_in_a_deploy(place);
        assert_eq!(site.applied(), before, "{place}: only a copy was migrated");
        assert_eq!(site.databases(), databases, "{place}: something is left");
    }
    site.run(&["deploy", "--at-once"]).succeeded();
    site.fronted.serves("v2");
    assert!(site.has_column("cart"));
}

#[test]
fn a_migration_that_is_killed_is_in_doubt_and_the_deploy_goes_through_again() {
    let mut site = Site::deployed();
    site.migration("20261129000000_cart", "ALTER TABLE orders ADD COLUMN cart text;");
    site.fronted.shop.release("good");
    for place in ["migrate.begun", "migrate.ran"] {
        site.dies_in_a_deploy(place);
        assert_eq!(site.fronted.release_now(), "v1", "{place}");
    }
    assert!(site.has_column("cart"), "the second one was killed behind it");
    site.run(&["deploy", "--at-once"]).succeeded();
    site.fronted.serves("v2");
}

impl Site {
    /// Begins a deploy with a daemon that dies at this place; then starts it again and waits until
    /// nothing goes on.
    fn dies_in_a_deploy(&mut self, place: &str) {
        self.dies_in(&["deploy", "--at-once"], place);
    }

    /// The same with another command.
    pub(super) fn dies_in(&mut self, command: &[&str], place: &str) {
        self.dies_for_good_in(command, place);
        self.fronted.cutover.serve();
        self.at_rest(place);
    }

    /// The same without a start afterwards.
    pub(super) fn dies_for_good_in(&mut self, command: &[&str], place: &str) {
        let cutover = &mut self.fronted.cutover;
        cutover.stop();
        cutover.variable("CUTOVER_CRASH", Some(place));
        cutover.serve();
        let ran = cutover.run(command);
        assert_eq!(ran.printed.code, 69, "{place} was not reached: {}", ran.printed.both());
        cutover.kill();
        cutover.variable("CUTOVER_CRASH", None);
    }

    /// Waits until no operation runs.
    pub(super) fn at_rest(&self, place: &str) {
        self.nothing_runs_after(place);
        self.assert_open();
        let left = self.databases();
        assert!(left.iter().all(|name| !name.contains("__try_")), "{place}: {left:?}");
        assert!(self.beside().is_empty(), "{place}: {:?}", self.beside());
    }

    /// The same without a look at the database.
    pub(super) fn nothing_runs_after(&self, place: &str) {
        eventually(&format!("the end of what died at {place}"), Duration::from_secs(90), || {
            let ran = self.run(&["status", "--json"]);
            let status: serde_json::Value =
                serde_json::from_str(ran.printed.stdout.trim()).unwrap_or_default();
            status["apps"][0]["running"].as_array().is_some_and(Vec::is_empty).then_some(())
        });
    }
}
