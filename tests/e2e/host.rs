//! The host adapters on the real engine: every row of two copies of one compose file that can be
//! provoked here, without the rest of the program.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use cutover::host::compose::{Cache, Generated, PublishedClass};
use cutover::host::docker::{Events, Filter, Notice, Watch};
use cutover::host::facts::{self, MigrationSource};
use cutover::host::settings::NetworkClass;
use cutover::host::stack::{self, Phase};
use cutover::host::{Docker, HostError, PortClass, Proof, VolumeClass, files, prove, shared};
use cutover_model::Color;

use crate::harness::shop::Shop;
use crate::harness::stack::Stack;
use crate::harness::{engine, eventually};

mod site;

use site::{Site, service};

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
async fn a_link_moves_no_connection_of_a_shared_container() {
    let stack = Stack::copy("plain");
    stack.up();
    stack.answers(stack.port, "/");
    let docker = Docker::connect(None).await.expect("Docker");
    let id = engine::containers_of(&stack.project, "web").remove(0);
    let web = docker.container(&id).await.expect("seen");
    let mut connection = TcpStream::connect(("127.0.0.1", stack.port)).expect("connected");
    connection.set_read_timeout(Some(Duration::from_secs(5))).expect("a limit");
    ask_on(&mut connection);
    let link = format!("{}-green-link", stack.project);
    docker.ensure_link(&link, &stack.project, "green").await.expect("made");
    for _ in 0..2 {
        let aliases = ["web".to_owned(), "the-web".to_owned()];
        docker.join(&link, &web, &aliases).await.expect("joined");
        ask_on(&mut connection);
    }
    let joined = docker.container(&id).await.expect("seen").networks;
    assert!(joined[&link].aliases.contains(&"the-web".to_owned()));
    docker.remove_network(&link, &stack.project).await.expect("removed");
    docker.remove_network(&link, &stack.project).await.expect("removed twice");
    ask_on(&mut connection);
    let others = format!("{}_default", stack.project);
    let refused = docker.remove_network(&others, &stack.project).await.expect_err("not ours");
    assert!(refused.to_string().contains("not ours to remove"), "{refused}");
}

/// One request on a connection that stays.
fn ask_on(connection: &mut TcpStream) {
    connection.write_all(b"GET / HTTP/1.1\r\nhost: shop.test\r\n\r\n").expect("sent");
    let mut buffer = [0; 65_536];
    let count = connection.read(&mut buffer).expect("an answer on the same connection");
    assert!(buffer[..count].starts_with(b"HTTP/1.1 200"), "{count} bytes");
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
async fn a_stopped_shared_service_is_started_and_a_changed_one_left_alone() {
    let stack = Stack::copy("one-shot-job");
    let mut site = Site::of_stack(&stack, 80).await;
    site.settings.shared.insert(service("postgres"));
    stack.compose(&["up", "-d", "--wait", "postgres"]).succeeded();
    let postgres = engine::containers_of(&stack.project, "postgres").remove(0);
    let changed = std::fs::read_to_string(stack.path().join("compose.yml")).expect("the file");
    stack.write("compose.yml", &changed.replace("retries: 30", "retries: 31"));
    stack.commit("another definition");
    let (green, _) = site.color(Color::Green, 1).await.expect("colored");
    let compose = site.compose();
    let drift = shared::drift(&site.docker, &compose, &green).await.expect("compared");
    assert_eq!(drift.len(), 1, "{drift:?}");
    assert!(drift[0].what.contains("it is left as it is"), "{drift:?}");
    stack.compose(&["stop", "postgres"]).succeeded();
    let seen = shared::ensure(&site.docker, &compose, &green, None).await.expect("started");
    assert_eq!(seen[0].done, shared::Done::Started);
    assert_eq!(seen[0].containers, [postgres], "the same container");
    let seen = shared::ensure(&site.docker, &compose, &green, None).await.expect("nothing");
    assert_eq!(seen[0].done, shared::Done::Nothing);
}

#[tokio::test]
async fn a_shared_container_that_was_made_anew_is_linked_again() {
    let shop = Shop::up();
    let site = Site::of_shop(&shop).await;
    let project = site.project(Color::Green);
    let green = site.deploy(Color::Green, 2).await.expect("deployed");
    let projects = vec![shop.project.clone(), project.clone()];
    let mut events = Events::start(Watch { socket: None, projects });
    assert_eq!(next(&mut events).await, Notice::Relist);

    shop.compose(&["up", "-d", "--force-recreate", "--no-deps", "--wait", "postgres"]).succeeded();
    loop {
        if let Notice::Container { service, action, project, .. } = next(&mut events).await
            && service == "postgres"
            && action == "start"
        {
            assert_eq!(project, shop.project);
            break;
        }
    }
    shared::link(&site.docker, &site.settings, &green.stack).await.expect("linked again");
    eventually("green reaches the database", Duration::from_secs(30), || {
        let health = site.ask(&green.running, "backend", 3001, "/api/health");
        (health.status == 200).then_some(())
    });
    engine::docker(&["kill", &green.running[0].id]).succeeded();
    loop {
        if let Notice::Container { id, action, exit_code, .. } = next(&mut events).await
            && action == "die"
            && id == green.running[0].id
        {
            assert_eq!(exit_code, Some(137));
            break;
        }
    }
}

async fn next(events: &mut Events) -> Notice {
    let limit = Duration::from_secs(30);
    tokio::time::timeout(limit, events.next()).await.expect("in time").expect("still watching")
}

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
async fn both_colors_see_a_shared_volume_and_neither_loses_it() {
    let stack = Stack::copy("per-color-volume");
    let mut site = Site::of_stack(&stack, 80).await;
    for (name, class) in [
        ("papers", VolumeClass::Shared),
        ("scratch", VolumeClass::PerColor),
        ("prices", VolumeClass::ReadOnly),
    ] {
        site.settings.volumes.insert(name.to_owned(), class);
    }
    site.deploy(Color::Blue, 1).await.expect("deployed");
    site.deploy(Color::Green, 2).await.expect("deployed");
    let mounts = |color: Color| {
        let id = engine::containers_of(&site.project(color), "web").remove(0);
        let template = "{{range .Mounts}}{{.Destination}}={{.Name}}:{{.RW}} {{end}}";
        let text = engine::inspect(&id, template);
        let mut mounts: Vec<_> = text.split_whitespace().map(str::to_owned).collect();
        mounts.sort();
        mounts
    };
    let project = &stack.project;
    for color in [Color::Blue, Color::Green] {
        let wanted = [
            format!("/prices={project}_prices:false"),
            format!("/tmp={project}-{color}_scratch:true"),
            format!("/uploads={project}_papers:true"),
        ];
        assert_eq!(mounts(color), wanted);
        stack::remove(&site.docker, &site.settings, color).await.expect("removed");
    }
    let left = engine::docker(&["volume", "ls", "--format", "{{.Name}}"]).stdout;
    for volume in ["papers", "prices"] {
        assert!(left.contains(&format!("{project}_{volume}")), "{left}");
    }
    // The operator's own compose takes the volume that was made for both colors as its own.
    let said = stack.compose(&["up", "-d"]).succeeded().both();
    assert!(!said.contains("already exists but was not created"), "{said}");
}

#[tokio::test]
async fn names_and_networks_of_one_color_are_its_own() {
    let stack = Stack::copy("container-name");
    stack.up();
    let mut site = Site::of_stack(&stack, 80).await;
    site.settings.volumes.clear();
    let green = site.deploy(Color::Green, 1).await.expect("deployed beside the operator's");
    let web = green.running.iter().find(|c| c.service() == Some("web")).expect("web");
    let name = format!("{}-the-web", stack.project);
    assert_ne!(web.name, name);
    let network = format!("{}-green_default", stack.project);
    assert!(web.networks[&network].aliases.contains(&name), "{:?}", web.networks);

    let stack = Stack::copy("external-network");
    let outside = format!("{}-outside", stack.project);
    engine::docker(&["network", "create", &outside]).succeeded();
    stack.set_variables(&[("STACK_NETWORK", &outside)]);
    let mut site = Site::of_stack(&stack, 80).await;
    site.settings.networks.insert("outside".to_owned(), NetworkClass::Join);
    let green = site.deploy(Color::Green, 1).await.expect("deployed");
    let aliases = &green.running[0].networks[&outside].aliases;
    assert!(aliases.contains(&"web-green".to_owned()), "{aliases:?}");
    assert!(!aliases.contains(&"web".to_owned()), "{aliases:?}");
    stack::remove(&site.docker, &site.settings, Color::Green).await.expect("removed");
    let left = engine::docker(&["network", "inspect", &outside]);
    assert_eq!(left.code, 0, "a network of somebody else was removed");
}

#[tokio::test]
async fn every_replica_is_an_endpoint() {
    let stack = Stack::copy("two-replicas");
    let site = Site::of_stack(&stack, 80).await;
    let green = site.deploy(Color::Green, 1).await.expect("deployed");
    let endpoints = stack::endpoints(&green.running).expect("remembered");
    assert_eq!(endpoints.len(), 2);
    assert_ne!(endpoints[0].ip, endpoints[1].ip);
    assert!(endpoints.iter().all(|endpoint| prove(endpoint) == Proof::Alive));
    engine::docker(&["restart", "-t", "0", &endpoints[0].container]).succeeded();
    assert_eq!(prove(&endpoints[0]), Proof::Gone, "the same container, another process");
    assert_eq!(prove(&endpoints[1]), Proof::Alive);
}

#[tokio::test]
async fn an_env_file_that_is_edited_changes_no_release_that_exists() {
    let stack = Stack::copy("secret-env-file");
    let site = Site::of_stack(&stack, 80).await;
    let green = site.deploy(Color::Green, 1).await.expect("deployed");
    stack.write("secret.env", "API_TOKEN=another-one-12\n");
    engine::docker(&["rm", "-f", &green.running[0].id]).succeeded();
    site.start(&green.folder, &green.generated, &green.stack, Phase::Services)
        .await
        .expect("made again from the release");
    let id = engine::containers_of(&site.project(Color::Green), "web").remove(0);
    let env = engine::inspect(&id, "{{.Config.Env}}");
    assert!(env.contains("API_TOKEN=teapot-4711-teapot"), "{env}");
    let secrets = files::secrets_of(&green.folder).await.expect("read");
    assert_eq!(secrets.mask("token teapot-4711-teapot refused"), "token *** refused");
    let file = std::fs::read_to_string(&green.generated.file).expect("the generated file");
    assert!(!file.contains("teapot"), "the secret stands in the generated file");
    files::verify_release(&green.folder).await.expect("unchanged");
    assert!(site.state().exists());
}

#[tokio::test]
async fn published_ports_are_taken_off_and_classified() {
    let stack = Stack::copy("fixed-ports");
    stack.up();
    let mut site = Site::of_stack(&stack, 80).await;
    let error = site.color(Color::Green, 1).await.expect_err("unclassified").to_string();
    assert!(error.contains(&format!("publishes port {}", stack.tcp_port)), "{error}");
    site.settings.ports.insert("line:7000".to_owned(), PortClass::Tcp);
    site.settings.ports.insert("7009/udp".to_owned(), PortClass::Drop);
    let green = site.deploy(Color::Green, 1).await.expect("deployed beside the running one");
    let classes: Vec<_> = green.stack.published.iter().map(|port| port.class).collect();
    let wanted = [PublishedClass::Tcp, PublishedClass::Dropped, PublishedClass::Listener];
    assert_eq!(classes, wanted);
}

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
            let run = stack::run_once(docker, &compose, generated, &backend, &words, limit, None);
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

#[tokio::test]
async fn a_silent_engine_is_noticed_and_everything_is_listed_again_when_it_answers() {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("docker.sock");
    let (gate, open) = tokio::sync::watch::channel(true);
    let listener = tokio::net::UnixListener::bind(&socket).expect("bound");
    let proxy = tokio::spawn(forward(listener, open));
    let watch = Watch { socket: Some(socket.clone()), projects: vec!["nobody".to_owned()] };
    let mut events = Events::start(watch);
    assert_eq!(next(&mut events).await, Notice::Relist);
    gate.send_replace(false);
    let away = next(&mut events).await;
    assert!(matches!(away, Notice::Away { .. }), "{away:?}");
    gate.send_replace(true);
    loop {
        match next(&mut events).await {
            Notice::Relist => break,
            Notice::Away { .. } => {}
            other => panic!("{other:?} before the listing"),
        }
    }
    proxy.abort();
}

/// Passes bytes on to the engine while the gate is open, and keeps silent while it is closed.
async fn forward(listener: tokio::net::UnixListener, open: tokio::sync::watch::Receiver<bool>) {
    loop {
        let (client, _) = listener.accept().await.expect("accepted");
        let open = open.clone();
        tokio::spawn(async move {
            let engine = tokio::net::UnixStream::connect("/var/run/docker.sock").await;
            let (from, to) = client.into_split();
            let (back, forth) = engine.expect("the engine").into_split();
            tokio::join!(pass(from, forth, open.clone()), pass(back, to, open));
        });
    }
}

async fn pass(
    mut from: tokio::net::unix::OwnedReadHalf,
    mut to: tokio::net::unix::OwnedWriteHalf,
    mut open: tokio::sync::watch::Receiver<bool>,
) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut buffer = [0; 8192];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        if open.wait_for(|open| *open).await.is_err() {
            return;
        }
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
    to.shutdown().await.ok();
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
async fn what_is_only_read_is_the_commits_and_what_is_written_is_the_operators() {
    let stack = Stack::copy("read-only-bind");
    let site = Site::of_stack(&stack, 80).await;
    let green = site.deploy(Color::Green, 1).await.expect("deployed");
    stack.write("settings/release.env", "SHOP_RELEASE=edited\n");
    engine::docker(&["restart", "-t", "0", &green.running[0].id]).succeeded();
    let running = stack::observe(&site.docker, &green.stack.project).await.expect("seen");
    eventually("it is back", Duration::from_secs(10), || {
        let address = running[0].dial().map(|ip| std::net::SocketAddr::new(ip, 80));
        TcpStream::connect(address.expect("an address")).ok()
    });
    assert_eq!(site.ask(&running, "web", 80, "/").release(), "one");

    let stack = Stack::copy("writable-bind");
    let mut site = Site::of_stack(&stack, 80).await;
    let papers = stack.path().join("papers");
    for (class, shared) in [(VolumeClass::Shared, true), (VolumeClass::PerColor, false)] {
        site.settings.volumes.insert("./papers".to_owned(), class);
        let color = if shared { Color::Blue } else { Color::Green };
        let one = site.deploy(color, if shared { 1 } else { 2 }).await.expect("deployed");
        let source = engine::inspect(&one.running[0].id, "{{(index .Mounts 0).Source}}");
        assert_eq!(source == papers.display().to_string(), shared, "{source}");
        let own = site.settings.state.join("folders").join(color.to_string());
        assert_eq!(source.starts_with(&own.display().to_string()), !shared, "{source}");
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
