//! Volumes, folders, env files and images: what a release keeps, and what both colors share.

use super::{Case, FIRST, SECOND};
use crate::harness::engine;

fn mounts(container: &str) -> String {
    engine::inspect(
        container,
        "{{range .Mounts}}{{.Type}} {{.Name}} {{.Source}} {{.Destination}} {{.RW}}\n{{end}}",
    )
}

#[test]
fn volumes_are_shared_or_apart_as_they_are_classified() {
    let classes =
        "volumes = { scratch = \"per-color\", papers = \"shared\", prices = \"read-only\" }";
    let case = Case::new("per-color-volume", classes);
    // The volumes of the operator's own project are there, as after years of plain compose.
    case.stack.compose(&["up", "--no-start"]).succeeded();
    case.goes_round();
    let (blue, green) =
        (mounts(&case.container(FIRST, "web")), mounts(&case.container(SECOND, "web")));
    let name_at = |mounts: &str, place: &str| -> String {
        let line = mounts.lines().find(|line| line.contains(place)).expect("a mount");
        line.split(' ').nth(1).expect("a name").to_owned()
    };
    assert_eq!(name_at(&blue, "/uploads"), name_at(&green, "/uploads"));
    assert_eq!(name_at(&blue, "/uploads"), format!("{}_papers", case.stack.project));
    assert_ne!(name_at(&blue, "/tmp"), name_at(&green, "/tmp"));
    assert!(blue.lines().any(|line| line.contains("/prices") && line.ends_with("false")), "{blue}");
}

#[test]
fn a_writable_folder_keeps_its_place() {
    let case = Case::new("writable-bind", "volumes = { \"./papers\" = \"shared\" }");
    case.goes_round();
    let papers = case.stack.path().join("papers").display().to_string();
    for color in [FIRST, SECOND] {
        let seen = mounts(&case.container(color, "web"));
        assert!(seen.contains(&papers), "{color}: {seen}");
    }
}

#[test]
fn each_release_sees_the_files_of_its_own_commit() {
    let case = Case::new("read-only-bind", "");
    case.deploy().succeeded();
    case.serves("one");
    case.stack.write("settings/release.env", "SHOP_RELEASE=two\n");
    case.stack.commit("two");
    case.deploy().succeeded();
    case.serves("two");
    let blue = case.container(FIRST, "web");
    engine::docker(&["restart", "-t", "1", &blue]).succeeded();
    case.cutover.run(&["rollback"]).succeeded();
    case.serves("one");
}

#[test]
fn what_is_not_committed_is_named_and_left_out_unless_it_is_asked_for() {
    let case = Case::new("read-only-bind", "");
    case.stack.write("settings/release.env", "SHOP_RELEASE=two\n");
    let said = case.deploy().succeeded().printed.both();
    assert!(said.contains("not in this release"), "{said}");
    assert!(said.contains("settings/release.env"), "{said}");
    case.serves("one");
    case.cutover.run(&["deploy", "--at-once", "--dirty"]).succeeded();
    case.serves("two");
}

#[test]
fn a_secret_stands_nowhere_but_in_the_copy_of_its_file() {
    let case = Case::new("secret-env-file", "env_files = [\"secret.env\"]");
    let said = case.deploy().succeeded().printed.both();
    case.serves("one");
    let environment = engine::inspect(&case.container(FIRST, "web"), "{{json .Config.Env}}");
    assert!(environment.contains("teapot-4711-teapot"), "{environment}");
    assert!(!said.contains("teapot"), "{said}");
    assert!(!case.cutover.said().contains("teapot"));
    let state = case.stack.state().display().to_string();
    let found = engine::run("grep", &["-rl", "teapot-4711", &state], "/".as_ref()).stdout;
    for path in found.lines() {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = std::fs::metadata(path).expect("a file").permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{path}");
        let name = path.rsplit('/').next().unwrap_or_default();
        assert!(name.contains("env"), "the secret stands in {path}");
    }
    assert!(!found.is_empty(), "the release keeps no copy of its env file");
}

#[test]
fn a_tag_that_moves_does_not_move_a_release() {
    let case = Case::new("latest-tag", "");
    let image = format!("{}-app", case.stack.project);
    let tagged = format!("{image}:latest");
    engine::docker(&["tag", "shop-program:latest", &tagged]).succeeded();
    case.stack.set_variables(&[("STACK_IMAGE", &image)]);
    case.deploy().succeeded();
    let id = engine::inspect(&case.container(FIRST, "web"), "{{.Image}}");
    engine::docker(&["tag", "cutover-fixture/postgres:15", &tagged]).succeeded();
    let blue = case.container(FIRST, "web");
    engine::docker(&["restart", "-t", "1", &blue]).succeeded();
    assert_eq!(engine::inspect(&blue, "{{.Image}}"), id);
    case.serves("one");
    let releases = case.cutover.run(&["releases", "--json"]).succeeded().printed.stdout;
    assert!(releases.contains(id.trim_start_matches("sha256:")), "{releases}");
}

#[test]
fn a_release_of_a_ref_is_made_from_the_compose_file_of_that_commit() {
    let case = Case::new("plain", "");
    let path = case.stack.path().join("compose.yml");
    let first = std::fs::read_to_string(&path).expect("the compose file");
    case.stack.write("compose.yml", &first.replace(":-one}", ":-two}"));
    case.stack.commit("two");
    case.cutover.run(&["deploy", "--at-once", "--ref", "HEAD~1"]).succeeded();
    case.serves("one");
    case.cutover.run(&["deploy", "--at-once"]).succeeded();
    case.serves("two");
}
