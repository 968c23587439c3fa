//! A small stack out of `tests/stacks`, copied into a git repository of its own.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;

use super::daemon::Cutover;
use super::engine::{self, Printed};
use super::{eventually, ports, wire};

pub(crate) struct Stack {
    folder: TempDir,
    pub(crate) project: String,
    pub(crate) port: u16,
    pub(crate) tcp_port: u16,
}

impl Stack {
    /// Copies the folder `name`, commits it, starts nothing.
    pub(crate) fn copy(name: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("cutover-stack-").tempdir().expect("a folder");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stacks").join(name);
        let target = folder.path().join("stack");
        copy_folder(&source, &target);
        let tag: String = name.chars().filter(char::is_ascii_alphanumeric).take(12).collect();
        let stack = Self {
            folder,
            project: ports::project_name(&tag),
            port: ports::free_port(),
            tcp_port: ports::free_port(),
        };
        stack.set_variables(&[]);
        std::fs::write(stack.path().join(".gitignore"), ".env\nsecret.env\ncutover.toml\n")
            .expect("a file");
        git(&stack.path(), &["init", "-q", "-b", "main"]);
        stack.commit("one");
        stack
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("stack")
    }

    /// Writes `.env`: the names and ports of this copy, and `more`.
    pub(crate) fn set_variables(&self, more: &[(&str, &str)]) {
        let mut text = format!(
            "STACK_PROJECT={}\nSTACK_PORT={}\nSTACK_TCP_PORT={}\n",
            self.project, self.port, self.tcp_port
        );
        for (name, value) in more {
            text.push_str(&format!("{name}={value}\n"));
        }
        self.write(".env", &text);
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path().join(name), text).expect("a file of the stack");
    }

    pub(crate) fn commit(&self, message: &str) {
        commit_all(&self.path(), message);
    }

    pub(crate) fn compose(&self, arguments: &[&str]) -> Printed {
        self.compose_on(&[], arguments)
    }

    /// The same on an engine of the test's own: `["-H", "unix:///..."]`.
    pub(crate) fn compose_on(&self, engine: &[&str], arguments: &[&str]) -> Printed {
        let all: Vec<&str> = [engine, &["compose"], arguments].concat();
        engine::run("docker", &all, &self.path())
    }

    /// Configures Cutover for it: a route to `web`, and `more` lines in the app's section. Nothing
    /// is started.
    pub(crate) fn cutover(&self, more: &str) -> Cutover {
        self.cutover_for("port = 80", "/", more)
    }

    /// The same with another port inside the container and another path to probe.
    pub(crate) fn cutover_for(&self, inside: &str, probe: &str, more: &str) -> Cutover {
        self.cutover_to("web", inside, probe, more)
    }

    /// The same with another service behind the route.
    pub(crate) fn cutover_to(
        &self,
        service: &str,
        inside: &str,
        probe: &str,
        more: &str,
    ) -> Cutover {
        let (app, port) = (&self.project, self.port);
        let beside = self.folder.path().display();
        self.write(
            "cutover.toml",
            &format!(
                r#"version = 1
listen = [{{ address = "0.0.0.0:{port}" }}]

[proxy]
workers = 1

[admin]
socket = "{beside}/cutover.sock"

[state]
path = "{beside}/state"

[apps.{app}]
compose = ["compose.yml"]
{more}

[[apps.{app}.routes]]
service = "{service}"
{inside}

[apps.{app}.probe]
path = "{probe}"
attempts = 150
interval = "200ms"
"#
            ),
        );
        Cutover::new(&self.path(), &self.folder.path().join("daemon.log"))
    }

    /// The state folder of its daemon.
    pub(crate) fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    /// The containers of one color.
    pub(crate) fn color(&self, color: &str, service: &str) -> Vec<String> {
        engine::containers_of(&format!("{}-{color}", self.project), service)
    }

    pub(crate) fn up(&self) {
        self.compose(&["up", "-d"]).succeeded();
    }

    /// Waits until the path answers 200 on this port.
    pub(crate) fn answers(&self, port: u16, path: &str) -> wire::Answer {
        eventually(&format!("200 on {path}"), Duration::from_secs(60), || {
            wire::get(port, path).ok().filter(|answer| answer.status == 200)
        })
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        clean_up(&self.project, self.folder.path());
    }
}

/// Removes the containers and all the rest, unless `CUTOVER_E2E_KEEP` asks to look at them.
pub(crate) fn clean_up(project: &str, folder: &Path) {
    if std::env::var_os("CUTOVER_E2E_KEEP").is_some() {
        eprintln!("kept: project {project}, folder {}", folder.display());
        return;
    }
    engine::remove_all(project);
}

pub(crate) fn git(folder: &Path, arguments: &[&str]) -> Printed {
    let mut all = vec!["-c", "user.name=shop", "-c", "user.email=shop@localhost"];
    all.extend(arguments);
    engine::run("git", &all, folder).succeeded()
}

pub(crate) fn commit_all(folder: &Path, message: &str) {
    git(folder, &["add", "-A"]);
    git(folder, &["commit", "-q", "--allow-empty", "-m", message]);
}

fn copy_folder(source: &Path, target: &Path) {
    std::fs::create_dir_all(target).expect("a folder");
    let entries =
        std::fs::read_dir(source).unwrap_or_else(|error| panic!("{}: {error}", source.display()));
    for entry in entries {
        let entry = entry.expect("an entry");
        let to = target.join(entry.file_name());
        if entry.path().is_dir() {
            copy_folder(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).expect("a copied file");
        }
    }
}
