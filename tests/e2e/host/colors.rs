//! A color comes up, is told apart from the other one, stops, comes back and goes.

use cutover::host::stack::Phase;
use cutover::host::{Proof, facts, prove, stack};
use cutover_model::Color;

use super::site::{Site, service};
use crate::harness::engine;
use crate::harness::shop::Shop;
use crate::harness::stack::Stack;

#[test]
fn a_second_copy_comes_up_and_goes_without_a_trace_on_the_first() {
    let shop = Shop::up();
    let observer = shop.observer();
    let (server, rows) = (observer.server_start(), observer.sessions("shop backend v1"));
    let before = engine::starts(&shop.project);
    let had = engine::belongings(&shop.project);
    // The observer of the database has a runtime of its own, so this one is not entered.
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let site = runtime.block_on(Site::of_shop(&shop));
    let green = runtime.block_on(site.deploy(Color::Green, 2)).expect("deployed");

    let health = site.ask(&green.running, "backend", 3001, "/api/health");
    assert_eq!(health.status, 200, "{}", health.text());
    let whoami = site.ask(&green.running, "backend", 3001, "/api/whoami").json();
    assert_eq!(whoami["release"], "v1");
    assert_eq!(site.ask(&green.running, "frontend", 80, "/").status, 200);
    assert!(engine::containers_of(&site.project(Color::Green), "agent").is_empty());
    assert!(engine::containers_of(&site.project(Color::Green), "postgres").is_empty());
    for container in &green.running {
        let ports = engine::inspect(&container.id, "{{json .HostConfig.PortBindings}}");
        assert!(ports == "{}" || ports == "null", "{ports}");
        assert!(container.image.starts_with("sha256:"), "{}", container.image);
        let id = engine::inspect(&container.id, "{{.Config.Image}}");
        assert!(id.starts_with("sha256:"), "an id and not a tag: {id}");
    }

    assert_eq!(engine::starts(&shop.project), before, "a container of the operator's changed");
    assert_eq!(observer.server_start(), server);
    for row in &rows {
        let now = observer.sessions("shop backend v1");
        assert!(now.iter().any(|session| session.pid == row.pid && session.began == row.began));
    }
    let remove = || {
        let removed = stack::remove(&site.docker, &site.settings, Color::Green);
        runtime.block_on(removed).expect("removed")
    };
    let removed = remove();
    assert_eq!(removed.containers.len(), 2, "{removed:?}");
    assert_eq!(engine::belongings(&shop.project), had, "something of ours is left");
    assert_eq!(engine::starts(&shop.project), before);
    assert_eq!(remove(), stack::Removed::default(), "the second time there is nothing");
}

#[tokio::test]
async fn singletons_wait_for_their_phase_and_a_stopped_color_comes_back() {
    let shop = Shop::up();
    let site = Site::of_shop(&shop).await;
    let green = site.deploy(Color::Green, 2).await.expect("deployed");
    let project = site.project(Color::Green);
    let agents = site
        .start(&green.folder, &green.generated, &green.stack, Phase::Singletons)
        .await
        .expect("started");
    assert_eq!(agents.len(), 1);
    let singles = stack::singletons(&green.stack);
    stack::stop(&site.docker, &project, &singles).await.expect("stopped");
    let now = stack::observe(&site.docker, &project).await.expect("seen");
    let running: Vec<_> =
        now.iter().filter(|c| c.is_running()).filter_map(|c| c.service()).collect();
    assert_eq!(running, ["backend", "frontend"]);

    let all: Vec<_> = green.stack.starts.iter().map(|start| start.service.clone()).collect();
    let endpoints = stack::endpoints(&green.running).expect("remembered");
    assert_eq!(endpoints.len(), 2);
    stack::stop(&site.docker, &project, &all).await.expect("stopped");
    stack::stop(&site.docker, &project, &all).await.expect("stopped twice");
    assert!(endpoints.iter().all(|endpoint| prove(endpoint) == Proof::Gone));

    let running = site.start_again(&green, Phase::Services).await.expect("started again");
    assert_eq!(running.len(), 2);
    assert_eq!(site.ask(&running, "backend", 3001, "/api/health").status, 200);
    let endpoints = stack::endpoints(&running).expect("remembered");
    assert_eq!(endpoints.len(), 2);
    assert!(endpoints.iter().all(|endpoint| prove(endpoint) == Proof::Alive), "{endpoints:?}");
}

#[tokio::test]
async fn a_job_runs_once_per_deploy_and_not_when_a_color_comes_back() {
    let stack = Stack::copy("one-shot-job");
    let mut site = Site::of_stack(&stack, 80).await;
    site.settings.shared.insert(service("postgres"));
    let green = site.deploy(Color::Green, 1).await.expect("deployed, with an absent database made");
    let project = site.project(Color::Green);
    assert_eq!(engine::containers_of(&stack.project, "postgres").len(), 1, "made by compose");
    let job = engine::containers_of(&project, "prepare").remove(0);
    let ran = engine::inspect(&job, "{{.State.StartedAt}} {{.State.ExitCode}}");
    assert!(ran.ends_with(" 0"), "{ran}");
    site.start(&green.folder, &green.generated, &green.stack, Phase::Services)
        .await
        .expect("the same again");
    stack::stop(&site.docker, &project, &[service("web"), service("prepare")]).await.expect("ok");
    site.start_again(&green, Phase::Services).await.expect("back");
    assert_eq!(engine::inspect(&job, "{{.State.StartedAt}} {{.State.ExitCode}}"), ran);
}

#[tokio::test]
async fn containers_of_another_release_are_not_taken_for_this_one() {
    let stack = Stack::copy("plain");
    let site = Site::of_stack(&stack, 80).await;
    let first = site.deploy(Color::Green, 1).await.expect("deployed");
    let error = site.deploy(Color::Green, 2).await.err().expect("in the way").to_string();
    assert!(error.contains("belongs to r1 and is in the way"), "{error}");
    let ids = stack::resolve_images(&site.docker, &first.stack).await.expect("resolved");
    assert_eq!(stack::wrong_images(&first.running, &ids), Vec::<String>::new());
    let others = ids.into_keys().map(|name| (name, "sha256:other".to_owned())).collect();
    let wrong = stack::wrong_images(&first.running, &others);
    assert!(wrong[0].ends_with("its release is other"), "{wrong:?}");
}

#[tokio::test]
async fn a_container_that_restarts_always_stays_stopped_once_it_is_stopped() {
    let stack = Stack::copy("crash-loop");
    stack.up();
    let site = Site::of_stack(&stack, 80).await;
    let id = engine::containers_of(&stack.project, "web").remove(0);
    let policy = || engine::inspect(&id, "{{.HostConfig.RestartPolicy.Name}}");
    assert_eq!(policy(), "always");
    stack::stop(&site.docker, &stack.project, &[service("web")]).await.expect("stopped");
    assert_eq!(policy(), "unless-stopped");
    let green = site.deploy(Color::Green, 1).await.expect("deployed");
    let web = &green.running[0];
    assert_eq!(web.restart_policy, "unless-stopped");
    let names: Vec<_> =
        engine::docker(&["ps", "--format", "{{.ID}}"]).stdout.lines().map(str::to_owned).collect();
    assert!(!names.iter().any(|name| id.starts_with(name)), "the operator's came back");
}

#[tokio::test]
async fn stacks_that_need_no_further_word_run_three_times_at_once() {
    for name in
        ["include-extends", "profiles", "traefik-labels", "named-network", "anonymous-volume"]
    {
        let stack = Stack::copy(name);
        let network = format!("{}-front", stack.project);
        stack.set_variables(&[("STACK_NETWORK", &network)]);
        stack.up();
        let site = Site::of_stack(&stack, 80).await;
        for (color, release) in [(Color::Blue, 1), (Color::Green, 2)] {
            let one = match site.deploy(color, release).await {
                Ok(one) => one,
                Err(error) => panic!("{name}: {error}"),
            };
            assert_eq!(site.ask(&one.running, "web", 80, "/").status, 200, "{name}");
            let services: Vec<_> = one.running.iter().filter_map(|c| c.service()).collect();
            assert!(!services.contains(&"debug"), "a profile that is off was started");
            let foreign = |c: &cutover::host::docker::Container| {
                c.labels.keys().any(|key| key.starts_with("traefik."))
                    || c.networks.contains_key(&network)
            };
            assert!(!one.running.iter().any(foreign), "{name}: {:?}", one.running);
        }
        stack.answers(stack.port, "/");
    }
}

#[tokio::test]
async fn the_memory_of_a_second_copy_is_known_from_limits_or_from_use() {
    let stack = Stack::copy("memory-limits");
    stack.up();
    let site = Site::of_stack(&stack, 80).await;
    let (green, _) = site.color(Color::Green, 1).await.expect("colored");
    assert_eq!(green.memory_limit(), Some(64 * 1024 * 1024));
    let running = stack::observe(&site.docker, &stack.project).await.expect("seen");
    let need = facts::memory_need(&site.docker, &running).await.expect("asked");
    assert_eq!(need, 64 * 1024 * 1024);
    let used = site.docker.memory_of(&running[0]).await.expect("asked");
    assert!((1..need).contains(&used), "{used}");
    let engine = site.docker.engine().await.expect("asked");
    let room = facts::room(site.state(), &engine.root);
    assert!(room.docker_disk_free.is_some_and(|free| free > 0), "{room:?} {engine:?}");
}
