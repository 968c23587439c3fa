//! One app on the real engine, deployed by the host functions alone: what an operation does, in
//! the same order, without journal, traffic or configuration file.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cutover::host::compose::{self, Cache, ColorTarget, ColoredStack, Compose, Generated};
use cutover::host::docker::Container;
use cutover::host::stack::{self, Phase, StackError, StartLimits, Starter};
use cutover::host::{
    Docker, HostError, RoutedPort, StackSettings, VolumeClass, files, git, shared,
};
use cutover_model::{AppName, Color, ReleaseId, ServiceName};

use crate::harness::stack::Stack;
use crate::harness::{shop::Shop, wire};

/// An app and the folder of its state.
pub(crate) struct Site {
    pub(crate) settings: StackSettings,
    pub(crate) docker: Docker,
    state: tempfile::TempDir,
}

/// One color that was deployed.
pub(crate) struct Deployed {
    pub(crate) stack: ColoredStack,
    pub(crate) generated: Generated,
    pub(crate) folder: PathBuf,
    pub(crate) running: Vec<Container>,
}

pub(crate) fn service(name: &str) -> ServiceName {
    ServiceName::new(name).expect("a service's name")
}

impl Site {
    pub(crate) async fn new(app: &str, folder: &Path) -> Self {
        let state = tempfile::tempdir().expect("a state folder");
        let app = AppName::new(app).expect("an app's name");
        let settings = StackSettings::new(app, folder.to_owned(), state.path().join("app"));
        let docker = Docker::connect(None).await.expect("Docker");
        Self { settings, docker, state }
    }

    /// The shop, as its operator would set it up.
    pub(crate) async fn of_shop(shop: &Shop) -> Self {
        let mut site = Self::new(&shop.project, &shop.path()).await;
        site.settings.shared.insert(service("postgres"));
        site.settings.singletons.insert(service("agent"));
        site.route("backend", 3001).route("frontend", 80);
        site.settings.volumes.insert("uploads".to_owned(), VolumeClass::Shared);
        site.settings.env_files = vec![".env".into(), "backend/.env".into()];
        site
    }

    /// A small stack whose `web` is routed.
    pub(crate) async fn of_stack(stack: &Stack, port: u16) -> Self {
        let mut site = Self::new(&stack.project, &stack.path()).await;
        site.route("web", port);
        site
    }

    pub(crate) fn route(&mut self, name: &str, port: u16) -> &mut Self {
        self.settings.routed.insert(RoutedPort { service: service(name), port });
        self
    }

    pub(crate) fn compose(&self) -> Compose {
        Compose::new(&self.settings)
    }

    pub(crate) fn project(&self, color: Color) -> String {
        self.settings.project(color)
    }

    pub(crate) fn state(&self) -> &Path {
        self.state.path()
    }

    /// The color's stack, as it would be deployed from the commit that the folder is at.
    pub(crate) async fn color(
        &self,
        color: Color,
        release: u64,
    ) -> Result<(ColoredStack, PathBuf), HostError> {
        let release = ReleaseId(release);
        let folder = self.settings.state.join("releases").join(release.to_string());
        let worktree = self.settings.state.join("worktrees").join(release.to_string());
        let mut compose = self.compose();
        let mut source = None;
        if let Some(head) = git::head(&self.settings.folder).await? {
            let tree = git::add_worktree(&head.root, &head.commit.id, &worktree).await?;
            compose = compose.in_tree(&tree);
            source = Some(tree);
        }
        let rendered = compose.render(&self.settings.project(color)).await?;
        let target = ColorTarget { color, release, folder: folder.clone(), source };
        let stack = compose::color(&rendered, &self.settings, &target)
            .map_err(compose::ComposeError::Problems)?;
        Ok((stack, folder))
    }

    /// Everything up to the running services of a color.
    pub(crate) async fn deploy(&self, color: Color, release: u64) -> Result<Deployed, HostError> {
        let (stack, folder) = self.color(color, release).await?;
        let compose = self.compose();
        if let Some(build) = &stack.build_file {
            let file = self.settings.state.join("builds/build.json");
            files::write_file(&file, build.to_string().into_bytes()).await?;
            let generated = Generated { project: stack.project.clone(), file, env_file: None };
            compose.build(&generated, Cache::Use, Duration::from_secs(300), None).await?;
        }
        let ids = stack::resolve_images(&self.docker, &stack).await?;
        let file = stack.with_images(&ids).expect("each service has an image");
        let release_files = files::release_files(&self.settings.folder, &stack, &file).await?;
        files::write_release(&folder, release_files).await?;
        let generated = files::generated(&folder, &stack);
        stack::prepare(&self.docker, &self.settings, &stack).await?;
        shared::ensure(&self.docker, &compose, &stack, None).await?;
        shared::link(&self.docker, &self.settings, &stack).await?;
        shared::wait(&self.docker, &stack, Duration::from_secs(60)).await?;
        let running = self.start(&folder, &generated, &stack, Phase::Services).await?;
        Ok(Deployed { stack, generated, folder, running })
    }

    pub(crate) async fn start(
        &self,
        folder: &Path,
        generated: &Generated,
        stack: &ColoredStack,
        phase: Phase,
    ) -> Result<Vec<Container>, HostError> {
        let secrets = files::secrets_of(folder).await?;
        let limits = StartLimits {
            ready: Duration::from_secs(60),
            job: Duration::from_secs(60),
            ..StartLimits::default()
        };
        let starter = Starter { docker: &self.docker, limits, secrets: &secrets, progress: None };
        Ok(stack::start(&starter, &self.compose(), generated, stack, phase).await?)
    }

    pub(crate) async fn start_again(
        &self,
        deployed: &Deployed,
        phase: Phase,
    ) -> Result<Vec<Container>, StackError> {
        let secrets = files::secrets_of(&deployed.folder).await.expect("the release's files");
        let limits = StartLimits::default();
        let starter = Starter { docker: &self.docker, limits, secrets: &secrets, progress: None };
        let project = &deployed.stack.project;
        stack::start_again(&starter, project, &deployed.stack, phase).await
    }

    /// Asks a running container of a color, at its own address.
    pub(crate) fn ask(
        &self,
        running: &[Container],
        name: &str,
        port: u16,
        path: &str,
    ) -> wire::Answer {
        let container = running.iter().find(|container| container.service() == Some(name));
        let ip = container.and_then(Container::dial).expect("a running container");
        wire::ask(SocketAddr::new(ip, port), "GET", path, &[], b"").expect("an answer")
    }
}
