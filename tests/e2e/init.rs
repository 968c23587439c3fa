//! `cutover init` and `cutover check` on real compose files and real containers.
//!
//! What init writes has to pass the check that the operator types next, the compose file included.

use std::path::Path;

use cutover::cli::check::{self, CheckArgs};
use cutover::cli::init::{self, InitArgs};
use cutover::cli::said::Said;
use cutover_config::Paint;

use crate::harness::shop::Shop;
use crate::harness::stack::Stack;

async fn init_in(folder: &Path) -> Said {
    let config = folder.join("cutover.toml");
    let args = InitArgs { config, files: Vec::new(), force: false, dry_run: false, json: false };
    init::run(&args).await.expect("init comes to an end")
}

async fn check_in(folder: &Path) -> Said {
    let args = CheckArgs { config: folder.join("cutover.toml"), json: false };
    check::run(&args, Vec::new(), Paint::Plain).await
}

#[tokio::test]
async fn the_running_shop_is_understood_and_the_file_passes_its_check() {
    let shop = Shop::up();
    shop.answers(shop.api_port, "/api/health");
    let said = init_in(&shop.path()).await;
    assert_eq!((said.exit, said.err.as_str()), (0, ""), "{}", said.out);
    for part in [
        "backend   web, /api/health answers 200  two copies",
        "frontend  web, / answers 200            two copies",
        "agent     no port, calls postgres       one copy, moves with the release",
        "postgres  PostgreSQL 15                 one copy, shared, never restarted",
        "is up since less than a minute",
        "Memory: a second copy needs about",
        "prisma/migrations is there",
    ] {
        assert!(said.out.contains(part), "{part}\n{}", said.out);
    }
    let path = shop.path().join("cutover.toml");
    let text = std::fs::read_to_string(&path).expect("the file");
    assert!(text.contains("path = \"/api/health\""), "{text}");
    assert!(!text.contains("cups-and-plates"), "no secret stands in it");

    let checked = check_in(&shop.path()).await;
    assert_eq!(checked.exit, 0, "{}{}", checked.out, checked.err);
    let on = format!("any host / on port {} -> backend:3001", shop.api_port);
    assert!(checked.out.contains(&on), "{}", checked.out);

    let again = init_in(&shop.path()).await;
    assert_eq!(again.exit, 4, "a file that is there is not written over");
    assert_eq!(std::fs::read_to_string(&path).expect("the file"), text);
}

#[tokio::test]
async fn every_stack_gives_a_file_that_passes_or_a_reason_why_not() {
    let stacks = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stacks");
    let names = std::fs::read_dir(stacks).expect("the stacks");
    let names = names.map(|entry| entry.expect("a stack").file_name().into_string());
    let mut count = 0;
    for name in names.map(|name| name.expect("a name")) {
        let stack = Stack::copy(&name);
        let said = init_in(&stack.path()).await;
        if matches!(name.as_str(), "host-network" | "host-pid") {
            assert_eq!(said.exit, 4, "{name}: {}", said.err);
            assert!(said.err.contains("uses the host's"), "{name}: {}", said.err);
            assert!(!stack.path().join("cutover.toml").exists());
            continue;
        }
        assert_eq!(said.exit, 0, "{name}: {}", said.err);
        let checked = check_in(&stack.path()).await;
        assert_eq!(checked.exit, 0, "{name}: {}{}", checked.out, checked.err);
        count += 1;
    }
    assert!(count > 25, "{count} stacks were tried");
}

#[tokio::test]
async fn a_compose_file_that_compose_refuses_is_named_with_its_reason() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("compose.yml"), "services:\n  web:\n    imge: x\n")
        .expect("a file");
    let said = init_in(folder.path()).await;
    assert_eq!(said.exit, 1);
    assert!(said.err.contains("imge"), "{}", said.err);
    assert!(!folder.path().join("cutover.toml").exists());
}

#[tokio::test]
async fn check_reads_the_compose_file_and_names_what_two_copies_cannot_share() {
    let stack = Stack::copy("unclassified-volume");
    init_in(&stack.path()).await;
    let path = stack.path().join("cutover.toml");
    let text = std::fs::read_to_string(&path).expect("the file");
    let start = text.find("[apps.").expect("an app");
    let volumes = text.find(".volumes]").expect("volumes");
    let section = text[..volumes].rfind('[').filter(|at| *at > start).expect("their section");
    let end = section + text[section..].find("\n\n").expect("its end");
    std::fs::write(&path, format!("{}{}", &text[..section], &text[end..])).expect("a file");
    let checked = check_in(&stack.path()).await;
    assert_eq!(checked.exit, 78);
    assert!(checked.err.contains("the volume"), "{}", checked.err);
    assert!(checked.err.contains("\"per-color\""), "{}", checked.err);
}
