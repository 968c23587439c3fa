//! What fails is named with its last words, and leaves nothing behind.

use std::time::Duration;

use cutover::host::compose::{Cache, Generated};
use cutover::host::{HostError, files, stack};
use cutover_model::Color;

use super::site::{Site, service};
use crate::harness::stack::Stack;
use crate::harness::{engine, eventually};

/// Deploys and expects it to fail; nothing may be left after the clean-up that follows.
async fn fails(site: &Site, stack: &Stack) -> (String, String) {
    let had = engine::belongings(&stack.project);
    let error = site.deploy(Color::Green, 1).await.err().expect("fails");
    let log = match &error {
        HostError::Stack(error) => {
            error.log().iter().map(|line| line.text.clone()).collect::<Vec<_>>().join("\n")
        }
        _ => String::new(),
    };
    stack::remove(&site.docker, &site.settings, Color::Green).await.expect("removed");
    assert_eq!(engine::belongings(&stack.project), had, "something of ours is left");
    (error.to_string(), log)
}

#[tokio::test]
async fn a_container_that_crashes_is_named_with_its_last_words_and_leaves_nothing() {
    let stack = Stack::copy("crash-loop");
    stack.set_variables(&[("STACK_CRASH", "no price list in /prices")]);
    let site = Site::of_stack(&stack, 80).await;
    let (error, log) = fails(&site, &stack).await;
    assert!(error.starts_with("web was started again "), "{error}");
    assert!(log.contains("no price list"), "{log}");
}

#[tokio::test]
async fn a_job_that_fails_is_named_and_nobody_who_waits_for_it_starts() {
    let stack = Stack::copy("failing-job");
    stack.set_variables(&[("STACK_JOB", "no-such-role")]);
    let site = Site::of_stack(&stack, 80).await;
    let error = site.deploy(Color::Green, 1).await.err().expect("fails").to_string();
    assert!(error.starts_with("prepare ended with exit code "), "{error}");
    let web = engine::containers_of(&site.project(Color::Green), "web").remove(0);
    assert_eq!(engine::inspect(&web, "{{.State.Status}}"), "created");
}

#[tokio::test]
async fn a_build_that_fails_and_an_image_that_nobody_has_are_named_before_anything_starts() {
    let stack = Stack::copy("build-fails");
    let site = Site::of_stack(&stack, 80).await;
    let (error, _) = fails(&site, &stack).await;
    assert!(error.starts_with("docker compose build failed"), "{error}");

    let stack = Stack::copy("missing-image");
    let site = Site::of_stack(&stack, 80).await;
    let (green, _) = site.color(Color::Green, 1).await.expect("colored");
    let missing = stack::missing_images(&site.docker, &green).await.expect("looked");
    assert_eq!(missing, [service("web")]);
    let (error, _) = fails(&site, &stack).await;
    assert!(error.contains("cutover-fixture/nobody-made-this:1 of web is not on"), "{error}");
}

#[tokio::test]
async fn a_build_that_hangs_is_ended_with_all_that_it_started() {
    let stack = Stack::copy("build-fails");
    let marker = stack.project.clone();
    let text = format!("FROM shop-program:latest\nRUN [\"/shop\", \"frontend\", \"{marker}\"]\n");
    stack.write("Dockerfile", &text);
    stack.commit("hangs");
    let site = Site::of_stack(&stack, 80).await;
    let (green, _) = site.color(Color::Green, 1).await.expect("colored");
    let file = site.state().join("build.json");
    let build = green.build_file.expect("something to build");
    files::write_file(&file, build.to_string().into_bytes()).await.expect("written");
    let generated = Generated { project: green.project, file, env_file: None };
    let (lines, mut said) = tokio::sync::mpsc::channel(64);
    let limit = Duration::from_secs(6);
    let compose = site.compose();
    let error = compose.build(&generated, Cache::Use, limit, Some(lines)).await;
    let error = error.expect_err("it hangs").to_string();
    assert!(error.contains("took longer than 6s"), "{error}");
    assert!(said.recv().await.is_some(), "no progress was told");
    eventually("no process of the build is left", Duration::from_secs(20), || {
        let running = engine::docker(&["ps", "--no-trunc", "--format", "{{.Command}}"]).stdout;
        (!running.contains(&marker) && !processes().contains(&generated.project)).then_some(())
    });
}

/// The command lines of all processes of this machine.
fn processes() -> String {
    let read = |entry: std::fs::DirEntry| std::fs::read(entry.path().join("cmdline")).ok();
    let lines = std::fs::read_dir("/proc").expect("/proc").flatten().filter_map(read);
    lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " ") + "\n").collect()
}
