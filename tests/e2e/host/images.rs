//! Images that stay what they were; migrations, as they are seen from outside.

use std::time::Duration;

use cutover::host::docker::Filter;
use cutover::host::facts::MigrationSource;
use cutover::host::stack::Phase;
use cutover::host::{Docker, facts, stack};
use cutover_model::Color;

use super::site::{Site, service};
use crate::harness::engine;
use crate::harness::shop::Shop;
use crate::harness::stack::Stack;

#[tokio::test]
async fn an_image_that_a_release_holds_survives_a_prune() {
    let docker = Docker::connect(None).await.expect("Docker");
    let app = crate::harness::ports::project_name("pin");
    let folder = tempfile::tempdir().expect("a folder");
    let text = format!("FROM scratch\nLABEL cutover-test={app}\nCOPY Dockerfile /\n");
    std::fs::write(folder.path().join("Dockerfile"), text).expect("written");
    let tag = format!("{app}:r1");
    engine::run("docker", &["build", "-q", "-t", &tag, "."], folder.path()).succeeded();
    let id = docker.image(&tag).await.expect("asked").expect("built").id;
    docker.pin_image(&id, &app, "r1").await.expect("pinned");
    docker.pin_image(&id, &app, "r1").await.expect("pinned twice");
    let filter = format!("label=cutover-test={app}");
    let prune = || engine::docker(&["image", "prune", "-a", "-f", "--filter", &filter]).succeeded();
    prune();
    assert!(docker.image(&id).await.expect("asked").is_some(), "the pin did not hold it");
    docker.unpin_images(&app, "r1").await.expect("let go");
    prune();
    assert_eq!(docker.image(&id).await.expect("asked"), None, "the prune does nothing here");
}

#[tokio::test]
async fn a_tag_that_moves_changes_no_release() {
    let stack = Stack::copy("latest-tag");
    let image = format!("{}-app", stack.project);
    stack.set_variables(&[("STACK_IMAGE", &image)]);
    let tag = format!("{image}:latest");
    engine::docker(&["tag", "shop-program:latest", &tag]).succeeded();
    let site = Site::of_stack(&stack, 80).await;
    let green = site.deploy(Color::Green, 1).await.expect("deployed");
    let was = green.running[0].image.clone();
    stack.write("Dockerfile", "FROM shop-program:latest\nLABEL moved=yes\n");
    engine::run("docker", &["build", "-q", "-t", &tag, "."], &stack.path()).succeeded();
    engine::docker(&["rm", "-f", &green.running[0].id]).succeeded();
    let again = site
        .start(&green.folder, &green.generated, &green.stack, Phase::Services)
        .await
        .expect("made again");
    assert_eq!(again[0].image, was);
    let now = site.docker.image(&tag).await.expect("asked").expect("there").id;
    assert_ne!(now, was, "the tag did not move: the test sees nothing");
}

#[tokio::test]
async fn a_migration_runs_once_in_a_container_that_goes_and_its_rows_are_seen() {
    let shop = Shop::up();
    let site = Site::of_shop(&shop).await;
    let postgres = site.docker.container(&shop.container("postgres")).await.expect("seen");
    let source =
        MigrationSource { database: "shop".to_owned(), user: "shop".to_owned(), password: None };
    let rows = || facts::migrations(&site.docker, &postgres, &source);
    let before = rows().await.expect("asked").expect("readable");
    assert_eq!(before["_prisma_migrations"].len(), 2, "{before:?}");
    shop.release("migration");
    let green = site.deploy(Color::Green, 2).await.expect("deployed");
    let words = stack::words("/shop migrate").expect("a command");
    let run = || {
        let (docker, generated) = (&site.docker, &green.generated);
        let limit = Duration::from_secs(60);
        let compose = site.compose();
        let (words, backend) = (words.clone(), service("backend"));
        async move {
            let once = stack::Once { service: &backend, command: &words, env: &[], limit };
            let run = stack::run_once(docker, &compose, generated, &once, None);
            run.await
        }
    };
    let out = run().await.expect("ran");
    assert_eq!(out.code, 0, "{:?}", out.tail);
    assert_eq!(rows().await.expect("asked").expect("readable")["_prisma_migrations"].len(), 3);
    assert_eq!(run().await.expect("ran twice").code, 0);
    let filter = Filter::project(&site.project(Color::Green)).service("backend");
    assert_eq!(site.docker.containers(&filter).await.expect("listed").len(), 1, "the run is gone");
}
