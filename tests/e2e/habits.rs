//! The operator's habits: plain compose commands beside Cutover, in the app's own folder.

use std::time::Duration;

use crate::harness::fronted::Fronted;
use crate::harness::{engine, eventually};

const PATIENCE: Duration = Duration::from_secs(60);

/// Adopted, then two releases: the operator's own project is in no color any more.
fn moved_out() -> Fronted {
    let fronted = Fronted::adopted();
    for _ in 0..2 {
        fronted.deploy("good", &["--at-once"]).succeeded();
    }
    fronted
}

fn alarmed(fronted: &Fronted, words: &str) {
    eventually(words, PATIENCE, || {
        fronted.run(&["events"]).printed.both().contains(words).then_some(())
    });
}

#[test]
fn plain_compose_commands_are_seen_and_do_no_harm() {
    let fronted = moved_out();
    let (shop, project) = (&fronted.shop, &fronted.shop.project);
    let links = || {
        let names = "{{range $name, $_ := .NetworkSettings.Networks}}{{$name}} {{end}}";
        let on = engine::inspect(&shop.container("postgres"), names);
        ["blue", "green"].iter().all(|color| on.contains(&format!("{project}-{color}-link")))
    };
    assert!(links());
    let stopped = engine::inspect(&shop.container("backend"), "{{.State.Running}}");
    assert_eq!(stopped, "false", "the adopted stack made room for the second deploy");
    shop.compose(&["up", "-d", "--wait", "--force-recreate", "postgres"]).succeeded();
    eventually("both links are there again", PATIENCE, || links().then_some(()));
    alarmed(&fronted, "postgres was made anew");
    fronted.serves("v3");
    eventually("the database answers", PATIENCE, || {
        let answer = crate::harness::wire::get(shop.port, "/api/health").ok()?;
        (answer.status == 200).then_some(())
    });

    shop.compose(&["up", "-d", "--no-deps", "--no-build", "agent"]).succeeded();
    alarmed(&fronted, "a second agent was started");
    let state = engine::inspect(&shop.container("agent"), "{{.State.Running}}");
    assert_eq!(state, "false");

    let said = shop.compose(&["up", "-d", "--no-deps", "--no-build", "backend"]).succeeded();
    let about = engine::inspect(&shop.container("backend"), "{{json .State}} {{.RestartCount}}");
    assert!(about.contains("\"Running\":true"), "{about} {}", said.both());
    alarmed(&fronted, "somebody started backend");
    fronted.serves("v3");
}
