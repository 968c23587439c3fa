//! The `docker compose` command, and the generated file of one color.
//!
//! Merging, `extends`, `include`, profiles and interpolation are compose's own: this works on what
//! `docker compose config` prints, never on the operator's YAML, and never edits it. What two
//! copies of a stack may not have in common is decided by [`color`], a pure function.
//!
//! INVARIANT: no call answers a question of compose's (standard input is closed, never `-y`), and
//! none is made for a shared container that exists: compose may stop it for a changed network.

use std::path::{Path, PathBuf};
use std::time::Duration;

use cutover_model::ServiceName;
use serde_json::Value;
use tokio::sync::mpsc;

use super::process::{self, Output, Priority, Spec};
use super::settings::StackSettings;
use super::stack::{Once, RunOutput};

mod color;
mod dependencies;
mod networks;
mod paths;
mod ports;
mod problem;
mod remade;
mod services;
mod stack;
#[cfg(test)]
mod tests;
mod view;
mod volumes;

pub use color::{ColorTarget, SourceTree, color};
pub use problem::{ComposeError, ComposeProblem};
pub use remade::Place;
pub(crate) use services::environment_of;
pub use stack::{
    ColoredStack, FileCopy, HealthCheck, ImageSource, Join, Kind, Published, PublishedClass,
    PullPolicy, Required, SharedLink, SharedWait, Start, VolumeUse, WaitFor,
};

/// How long compose may take to read files.
const READ: Duration = Duration::from_secs(30);
/// How long compose may take to create and start containers, images being there.
const START: Duration = Duration::from_secs(180);
/// How many of the last lines of a command run once are kept.
const RUN_LINES: usize = 40;

/// The operator's stack as compose understands it.
///
/// Its `Debug` does not show the stacks: they hold what the env files hold.
#[derive(Clone, PartialEq)]
pub struct Rendered {
    /// The operator's own project name.
    pub project: String,
    /// The stack under the operator's own project name: the real names of what exists.
    pub operator: Value,
    /// The stack under the color's project name: a name that is the same in both was set by the
    /// operator.
    pub colored: Value,
    /// Variables that compose found unset and left blank.
    pub blanks: Vec<String>,
    /// What else compose warned of.
    pub warnings: Vec<String>,
}

impl std::fmt::Debug for Rendered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rendered").field("project", &self.project).finish_non_exhaustive()
    }
}

/// Whether a build may use layers that earlier builds left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cache {
    /// It may.
    Use,
    /// It may not: everything is built anew.
    Ignore,
}

/// A generated file on disk, as compose is called for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generated {
    /// The compose project.
    pub project: String,
    /// The file.
    pub file: PathBuf,
    /// The release's copy of `.env`, for what the env files themselves refer to.
    pub env_file: Option<PathBuf>,
}

/// The command, for one app's folder.
#[derive(Debug, Clone)]
pub struct Compose {
    folder: PathBuf,
    files: Vec<PathBuf>,
    project: Option<String>,
    /// As `COMPOSE_PROFILES` has them.
    profiles: Option<String>,
    socket: Option<PathBuf>,
    /// Variables for the file, instead of the folder's own `.env`.
    variables: Option<PathBuf>,
}

impl Compose {
    /// For an app.
    #[must_use]
    pub fn new(settings: &StackSettings) -> Self {
        Self {
            folder: settings.folder.clone(),
            files: settings.compose_files.clone(),
            project: settings.operators_project.clone(),
            profiles: settings
                .profiles
                .as_ref()
                .map(|names| names.iter().map(String::as_str).collect::<Vec<_>>().join(",")),
            socket: settings.docker_socket.clone(),
            variables: None,
        }
    }

    /// The same, reading the compose files of a release's commit, also when none is named; a file
    /// that git does not track is read where it is. Relative paths inside them, those of `include`
    /// and `extends` too, still mean the operator's folder.
    #[must_use]
    pub fn in_tree(mut self, tree: &SourceTree) -> Self {
        if self.files.is_empty() {
            self.files = default_files(&self.folder);
        }
        for file in &mut self.files {
            let here = self.folder.join(&*file);
            *file = tree.place_of(&here).unwrap_or(here);
        }
        self
    }

    /// The same, with the variables of this file instead of those of the folder's own `.env`.
    #[must_use]
    pub fn with_variables(mut self, file: PathBuf) -> Self {
        self.variables = Some(file);
        self
    }

    /// The version of the plugin.
    ///
    /// # Errors
    /// [`ComposeError`] when it is not installed.
    pub async fn version(&self) -> Result<String, ComposeError> {
        let spec = self.spec(READ).args(["version", "--short"]);
        let out = checked("docker compose version", process::run(spec).await?)?;
        Ok(String::from_utf8_lossy(&out.stdout).trim().to_owned())
    }

    /// Reads the operator's stack, under its own project name and under the color's. Secrets that
    /// stand in env files are not in it; a missing env file is an error, a missing variable is in
    /// `blanks`, from the env files too.
    ///
    /// # Errors
    /// [`ComposeError::Invalid`] with compose's own words.
    pub async fn render(&self, project: &str) -> Result<Rendered, ComposeError> {
        // The env files that a former release named may be gone from the folder; it has copies.
        let whole: &[&str] = match self.variables {
            Some(_) => &["--quiet", "--no-env-resolution"],
            None => &["--quiet"],
        };
        let (operator, colored, whole) = tokio::try_join!(
            self.config(None, &["--format", "json", "--no-env-resolution"]),
            self.config(Some(project), &["--format", "json", "--no-env-resolution"]),
            self.config(None, whole),
        )?;
        let (mut blanks, mut warnings) = (Vec::new(), Vec::new());
        for line in [&operator, &colored, &whole].into_iter().flat_map(|out| out.stderr.lines()) {
            match blank_variable(line) {
                Some(name) => blanks.push(name),
                None if line.contains("level=warning") => warnings.push(warning_text(line)),
                None => {}
            }
        }
        for list in [&mut blanks, &mut warnings] {
            list.sort();
            list.dedup();
        }
        let operator: Value =
            serde_json::from_slice(&operator.stdout).map_err(ComposeError::NotJson)?;
        let colored = serde_json::from_slice(&colored.stdout).map_err(ComposeError::NotJson)?;
        let project = operator.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
        Ok(Rendered { project, operator, colored, blanks, warnings })
    }

    async fn config(&self, project: Option<&str>, args: &[&str]) -> Result<Output, ComposeError> {
        let spec = self.of_operator(self.spec(READ), project).arg("config").args(args);
        let out = process::run(spec).await?;
        if out.status.success() {
            return Ok(out);
        }
        if out.stderr.contains("unknown flag") {
            return Err(ComposeError::TooOld { tail: process::tail(&out.stderr, 1) });
        }
        let tail = process::tail(&without_warnings(&out.stderr), 4);
        let (code, what) = (out.status.code().unwrap_or(-1), "docker compose config".to_owned());
        if process::crashed(&out.stderr) {
            return Err(ComposeError::Failed { what, code, tail });
        }
        Err(ComposeError::Invalid { folder: self.folder.display().to_string(), tail })
    }

    /// The hash of a service's definition in the operator's own project, as compose writes it on
    /// the container.
    ///
    /// # Errors
    /// [`ComposeError`] with compose's own words.
    pub async fn hash(&self, service: &str) -> Result<String, ComposeError> {
        let out = self.config(None, &["--hash", service]).await?;
        let text = String::from_utf8_lossy(&out.stdout);
        Ok(text.split_ascii_whitespace().nth(1).unwrap_or_default().to_owned())
    }

    /// What a container of a service gets, by name: its `environment` and its env files, filled in.
    ///
    /// # Errors
    /// [`ComposeError`] with compose's own words.
    pub async fn environment(
        &self,
        file: &Generated,
        service: &ServiceName,
    ) -> Result<Vec<(String, String)>, ComposeError> {
        let words = ["config", "--format", "json", service.as_str()];
        let spec = of_generated(self.spec(READ), file, &self.folder).args(words);
        let out = checked("docker compose config", process::run(spec).await?)?;
        let all: Value = serde_json::from_slice(&out.stdout).map_err(ComposeError::NotJson)?;
        let body = all["services"][service.as_str()].as_object();
        Ok(body.map(services::variables).unwrap_or_default())
    }

    /// Brings up one service of the operator's own project that has no container yet, with nothing
    /// that it depends on. Never to be called for one that exists.
    ///
    /// # Errors
    /// [`ComposeError`] with compose's own words.
    pub async fn up_absent_shared(
        &self,
        service: &str,
        progress: Option<mpsc::Sender<String>>,
    ) -> Result<(), ComposeError> {
        let spec = streamed(self.spec(Duration::from_secs(900)), progress);
        let spec = self.of_operator(spec, None);
        let spec = spec.args(["up", "-d", "--no-deps", "--no-recreate"]).arg(service);
        checked(&format!("docker compose up {service}"), process::run(spec).await?).map(drop)
    }

    /// Builds images, at low priority, progress line by line. The process group is ended when the
    /// limit passes or the caller gives up.
    ///
    /// # Errors
    /// [`ComposeError::Failed`] with the end of what the build said.
    pub async fn build(
        &self,
        file: &Generated,
        cache: Cache,
        limit: Duration,
        progress: Option<mpsc::Sender<String>>,
    ) -> Result<(), ComposeError> {
        for is_last in [false, true] {
            let spec = streamed(self.spec(limit).priority(Priority::Low), progress.clone());
            let mut spec = of_generated(spec, file, &self.folder).arg("build");
            if cache == Cache::Ignore {
                spec = spec.arg("--no-cache");
            }
            let out = process::run(spec).await?;
            if out.status.success() {
                return Ok(());
            }
            // The builder writes steps to standard output, and why it failed to either of them.
            let said = format!("{}\n{}", String::from_utf8_lossy(&out.stdout), out.stderr);
            if !is_last && lost_a_layer(&said) {
                tracing::warn!("a layer was removed under a build: it is built once more");
                continue;
            }
            let code = out.status.code().unwrap_or(-1);
            let tail = process::tail(&without_warnings(&said), 8);
            return Err(ComposeError::Failed { what: "docker compose build".into(), code, tail });
        }
        Ok(())
    }

    /// Pulls the images of some services with the credentials of this user.
    ///
    /// # Errors
    /// [`ComposeError::Failed`] with compose's own words.
    pub async fn pull(
        &self,
        file: &Generated,
        services: &[&str],
        limit: Duration,
        progress: Option<mpsc::Sender<String>>,
    ) -> Result<(), ComposeError> {
        let spec = of_generated(streamed(self.spec(limit), progress), file, &self.folder);
        let spec = spec.args(["pull", "--ignore-buildable"]).args(services);
        checked("docker compose pull", process::run(spec).await?).map(drop)
    }

    /// Makes the containers, networks and volumes of some services without starting them. Images
    /// must be there.
    ///
    /// # Errors
    /// [`ComposeError::Failed`] with compose's own words.
    pub async fn create(&self, file: &Generated, services: &[&str]) -> Result<(), ComposeError> {
        let spec = of_generated(self.spec(START), file, &self.folder)
            .args(["up", "--no-start", "--no-deps", "--no-build", "--pull", "never"])
            .args(services);
        checked("docker compose up --no-start", process::run(spec).await?).map(drop)
    }

    /// Starts some services, with nothing that they depend on, from containers that exist or are
    /// made now. Images must be there.
    ///
    /// # Errors
    /// [`ComposeError::Failed`] with compose's own words.
    pub async fn up(&self, file: &Generated, services: &[&str]) -> Result<(), ComposeError> {
        let spec = of_generated(self.spec(START), file, &self.folder)
            .args(["up", "-d", "--no-deps", "--no-recreate", "--no-build", "--pull", "never"])
            .args(services);
        checked(&format!("starting {}", services.join(", ")), process::run(spec).await?).map(drop)
    }

    /// Runs a command once in a new container of a service, and removes the container at its end.
    ///
    /// # Errors
    /// [`ComposeError`] when it could not run; an exit code other than 0 is not an error.
    pub(crate) async fn run(
        &self,
        file: &Generated,
        name: &str,
        once: &Once<'_>,
        progress: Option<mpsc::Sender<String>>,
    ) -> Result<RunOutput, ComposeError> {
        let spec = of_generated(streamed(self.spec(once.limit), progress), file, &self.folder)
            .args(["run", "--rm", "--no-deps", "-T", "--pull", "never", "--name", name]);
        let out = process::run(once.of(spec)).await?;
        let said = format!("{}\n{}", String::from_utf8_lossy(&out.stdout), out.stderr);
        let lines: Vec<_> = said.lines().map(str::trim_end).filter(|l| !l.is_empty()).collect();
        let tail = lines[lines.len().saturating_sub(RUN_LINES)..].iter();
        let code = out.status.code().unwrap_or(-1);
        Ok(RunOutput { code, tail: tail.map(|line| process::escape(line)).collect() })
    }

    /// Starts a service once more in a container of its own, which nothing finds by its service.
    ///
    /// # Errors
    /// [`ComposeError::Failed`] with compose's own words.
    pub(crate) async fn run_beside(
        &self,
        file: &Generated,
        name: &str,
        once: &Once<'_>,
    ) -> Result<(), ComposeError> {
        let words = ["run", "-d", "--no-deps", "--pull", "never", "--name", name];
        let spec = of_generated(self.spec(once.limit), file, &self.folder).args(words);
        let what = format!("starting {} beside", once.service);
        checked(&what, process::run(once.of(spec)).await?).map(drop)
    }

    fn spec(&self, limit: Duration) -> Spec {
        let spec = Spec::new("docker", limit)
            .arg("compose")
            .folder(&self.folder)
            .env("COMPOSE_ANSI", "never")
            .env("COMPOSE_PROGRESS", "plain")
            .env("COMPOSE_MENU", "false")
            .env("BUILDKIT_PROGRESS", "plain")
            .env("DOCKER_CLI_HINTS", "false");
        match &self.socket {
            Some(socket) => {
                let host = format!("unix://{}", socket.display());
                spec.env("DOCKER_HOST", host).without("DOCKER_CONTEXT")
            }
            None => spec,
        }
    }

    /// The operator's own files, project and profiles, each found as compose finds it when none is
    /// named. `project`: instead of the operator's own.
    fn of_operator(&self, mut spec: Spec, project: Option<&str>) -> Spec {
        if let Some(project) = project.or(self.project.as_deref()) {
            spec = spec.args(["-p", project]);
        }
        // A variable, unlike the option, can also say "none of those in .env".
        if let Some(profiles) = &self.profiles {
            spec = spec.env("COMPOSE_PROFILES", profiles);
        }
        let mut spec = spec.arg("--project-directory").arg(&self.folder);
        if let Some(file) = &self.variables {
            spec = spec.arg("--env-file").arg(file);
        }
        for file in &self.files {
            spec = spec.arg("-f").arg(self.folder.join(file));
        }
        spec
    }
}

/// The files that compose takes when none is named; none when the surroundings name some.
fn default_files(folder: &Path) -> Vec<PathBuf> {
    let named_elsewhere = std::env::var_os("COMPOSE_FILE").is_some()
        || std::fs::read_to_string(folder.join(".env"))
            .is_ok_and(|text| text.lines().any(|line| line.trim().starts_with("COMPOSE_FILE=")));
    if named_elsewhere {
        return Vec::new();
    }
    let first = |names: [&str; 4]| {
        names.into_iter().map(|name| folder.join(name)).find(|path| path.is_file())
    };
    let main = first(["compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml"]);
    let further = first([
        "compose.override.yml",
        "compose.override.yaml",
        "docker-compose.override.yml",
        "docker-compose.override.yaml",
    ]);
    main.into_iter().chain(further).collect()
}

/// A generated file is complete: nothing of the surroundings may change what it means.
fn of_generated(spec: Spec, generated: &Generated, folder: &Path) -> Spec {
    let none = PathBuf::from("/dev/null");
    spec.without("COMPOSE_FILE")
        .without("COMPOSE_PROFILES")
        .without("COMPOSE_PROJECT_NAME")
        .without("COMPOSE_ENV_FILES")
        .without("COMPOSE_REMOVE_ORPHANS")
        .env("COMPOSE_IGNORE_ORPHANS", "true")
        .args(["-p", &generated.project])
        .arg("--project-directory")
        .arg(folder)
        .arg("--env-file")
        .arg(generated.env_file.as_ref().unwrap_or(&none))
        .arg("-f")
        .arg(&generated.file)
}

fn streamed(spec: Spec, progress: Option<mpsc::Sender<String>>) -> Spec {
    match progress {
        Some(lines) => spec.lines(lines),
        None => spec,
    }
}

fn checked(what: &str, out: Output) -> Result<Output, ComposeError> {
    if out.status.success() {
        return Ok(out);
    }
    let said = without_warnings(&out.stderr);
    Err(ComposeError::Failed {
        what: what.to_owned(),
        code: out.status.code().unwrap_or(-1),
        tail: process::tail(&said, 4),
    })
}

/// Whether a build failed because somebody else on this host removed an image whose layers it was
/// about to use: the same build makes them anew.
fn lost_a_layer(said: &str) -> bool {
    ["unknown parent image ID", "layer does not exist"].iter().any(|words| said.contains(words))
}

fn without_warnings(text: &str) -> String {
    text.lines().filter(|line| !line.contains("level=warning")).collect::<Vec<_>>().join("\n")
}

/// The name in `The \"NAME\" variable is not set. Defaulting to a blank string.`
fn blank_variable(line: &str) -> Option<String> {
    let (before, _) = line.split_once("variable is not set")?;
    let before = before.trim_end().trim_end_matches(['\\', '"']);
    let start = before.rfind(['"', '\\']).map_or(0, |position| position + 1);
    let name = before[start..].trim();
    (!name.is_empty()).then(|| name.to_owned())
}

/// The sentence inside a line of the form `time="…" level=warning msg="…"`.
fn warning_text(line: &str) -> String {
    let text = line.split_once("msg=").map_or(line, |(_, text)| text);
    process::escape(text.trim_matches('"')).replace("\\\"", "\"")
}
