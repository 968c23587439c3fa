//! `cutover report` through the real daemon: a release that fails, a rollback, and the report of it.

use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;

use crate::daemon::{Cutover, until};

/// Kills green's server for a few requests of clients, then goes back to blue.
fn incident() -> Cutover {
    let cutover = Cutover::start(None);
    cutover.good(&["shift", "50%"]);
    cutover.good(&["promote"]);
    assert_eq!(cutover.get("/x"), "green");
    for _ in 0..3 {
        let mut answer = String::new();
        cutover.ask("/broken").read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 500"), "{answer}");
    }
    cutover.good(&["rollback"]);
    cutover
}

fn value(cutover: &Cutover, words: &[&str]) -> Value {
    serde_json::from_str(&cutover.good(words)).expect("one JSON value")
}

#[test]
fn a_rollback_is_reported_with_what_users_met_and_what_was_checked() {
    let mut cutover = incident();
    let newest = value(&cutover, &["report", "--json"]);
    assert_eq!(
        (newest["schema"].as_str(), newest["what"].as_str()),
        (Some("cutover.report/1"), Some("rollback"))
    );
    let operation = format!("o{}", newest["operation"]);
    cutover.good(&["note", &operation, "prices wrong"]);
    until("it is kept with the operation", || {
        value(&cutover, &["report", "--json"])["users"]["failed"] == 3
    });
    let report = value(&cutover, &["report", &operation, "--json"]);
    assert_eq!(report["users"]["known"], true, "{report}");
    assert_eq!(report["said"][0]["text"], "prices wrong");
    assert!(report["users"]["since"].as_i64() <= report["traffic_at"].as_i64(), "{report}");
    let outcome = |item: &str| {
        let checks = report["checks"].as_array().expect("checks");
        checks.iter().find(|check| check["item"] == item).expect(item)["outcome"].clone()
    };
    assert_eq!((outcome("health"), outcome("access")), ("pass".into(), "pass".into()));
    assert_eq!((outcome("core"), outcome("data")), ("not_known".into(), "not_known".into()));

    let text = cutover.good(&["report"]);
    for part in [
        "# shop: rolled back from r2",
        "3 failed requests",
        "\"prices wrong\"",
        "first failed request",
        "## Root cause",
        &format!("cutover report {operation} --edit"),
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    assert!(cutover.good(&["report", "--language", "zh"]).contains("回滚事件报告"));

    // What users met outlives the daemon that saw it.
    cutover.kill();
    cutover.serve();
    let later = value(&cutover, &["report", &operation, "--json"]);
    assert_eq!(later["users"], report["users"]);
}

#[test]
fn a_failed_check_says_so() {
    let cutover = incident();
    cutover.good(&["maintenance", "on"]);
    let report = value(&cutover, &["report", "--json"]);
    let access = &report["checks"][4];
    assert_eq!(access["outcome"], "fail", "users get the maintenance page: {access}");
    assert_eq!(report["checks"][0]["outcome"], "pass", "the release itself is well");
}

#[test]
fn what_people_write_is_in_the_report_when_it_is_made_again() {
    let cutover = incident();
    let editor = cutover.path("editor");
    std::fs::write(
        &editor,
        "#!/bin/sh\nsed -i 's/^## Root cause$/&\\n\\nA <b>missing<\\/b> index./' \
        \"$1\"\n",
    )
    .unwrap();
    std::fs::set_permissions(&editor, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut edit = cutover.command(&["report", "--edit"]);
    let ended = edit.env("EDITOR", &editor).env_remove("VISUAL").output().unwrap();
    assert!(ended.status.success(), "{ended:?}");
    let page = cutover.path("page.html");
    cutover.good(&["report", "--html", "--output", &page.display().to_string()]);
    let page = std::fs::read_to_string(page).unwrap();
    assert!(page.contains("A &lt;b&gt;missing&lt;/b&gt; index."), "{page}");
    assert!(!page.contains("<script") && page.contains("default-src 'none'"));
    let mut none = cutover.command(&["report", "--edit"]);
    let ended = none.env("EDITOR", "false").env_remove("VISUAL").output().unwrap();
    assert_eq!(ended.status.code(), Some(1), "an editor that fails changes nothing");
    assert!(cutover.good(&["report"]).contains("A \\<b>missing\\</b> index."));
}

#[test]
fn doctor_finds_nothing_where_nothing_is() {
    let cutover = Cutover::start(None);
    let ran = cutover.run(&["doctor"]);
    assert_eq!((ran.exit, ran.out.trim()), (0, "shop: nothing was found."), "{ran:?}");
    assert_eq!(cutover.run(&["doctor", "--yes"]).exit, 2, "only with --fix");
}

#[test]
fn without_an_incident_there_is_no_report() {
    let cutover = Cutover::start(None);
    let ran = cutover.run(&["report"]);
    assert_eq!(ran.exit, 2);
    assert!(ran.err.contains("nothing was rolled back or restored"), "{}", ran.err);
    let ran = cutover.run(&["report", "o99"]);
    assert!(ran.err.contains("there is no operation o99"), "{}", ran.err);
}
