//! The docker command: run, read, and remove everything that belongs to one project.

use std::path::Path;
use std::process::{Command, Stdio};

/// What a program printed, and how it ended.
#[derive(Clone, Debug)]
pub(crate) struct Printed {
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) code: i32,
}

impl Printed {
    /// The output, where anything else than success ends the test.
    pub(crate) fn succeeded(self) -> Self {
        assert_eq!(self.code, 0, "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    pub(crate) fn both(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }
}

pub(crate) fn run(program: &str, arguments: &[&str], folder: &Path) -> Printed {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(folder);
    finish(command)
}

pub(crate) fn finish(mut command: Command) -> Printed {
    super::turn::take();
    let output = command
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
    Printed {
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        code: output.status.code().unwrap_or(-1),
    }
}

pub(crate) fn docker(arguments: &[&str]) -> Printed {
    run("docker", arguments, Path::new("/"))
}

fn lines(arguments: &[&str]) -> Vec<String> {
    docker(arguments).stdout.lines().map(str::to_owned).filter(|line| !line.is_empty()).collect()
}

/// The ids of all containers of a compose project, running or not.
pub(crate) fn containers(project: &str) -> Vec<String> {
    let label = format!("label=com.docker.compose.project={project}");
    lines(&["ps", "-aq", "--no-trunc", "--filter", &label])
}

/// The ids of the containers of one service.
pub(crate) fn containers_of(project: &str, service: &str) -> Vec<String> {
    let project = format!("label=com.docker.compose.project={project}");
    let service = format!("label=com.docker.compose.service={service}");
    lines(&["ps", "-aq", "--no-trunc", "--filter", &project, "--filter", &service])
}

/// One field of a container, by a Go template.
pub(crate) fn inspect(container: &str, template: &str) -> String {
    docker(&["inspect", "--format", template, container]).succeeded().stdout.trim().to_owned()
}

/// When each container of a project was started, by id: unchanged means never restarted.
pub(crate) fn starts(project: &str) -> Vec<(String, String)> {
    starts_by(docker, project)
}

/// The same, asked through another way to docker.
pub(crate) fn starts_by(
    docker: impl Fn(&[&str]) -> Printed,
    project: &str,
) -> Vec<(String, String)> {
    let label = format!("label=com.docker.compose.project={project}");
    let ids = docker(&["ps", "-aq", "--no-trunc", "--filter", &label]).succeeded().stdout;
    let template = "{{.State.StartedAt}} {{.State.Pid}} {{.RestartCount}}";
    let start = |id: &str| {
        let said = docker(&["inspect", "--format", template, id]).succeeded().stdout;
        (id.to_owned(), said.trim().to_owned())
    };
    let mut starts: Vec<_> = ids.lines().map(start).collect();
    starts.sort();
    starts
}

/// Volumes, networks and containers whose compose project starts with `app`, as text: to compare
/// what was there before with what is there after.
pub(crate) fn belongings(app: &str) -> Vec<String> {
    let mut found = Vec::new();
    let format = "{{.Label \"com.docker.compose.project\"}} container {{.Names}} {{.State}}";
    found.extend(lines(&["ps", "-a", "--format", format]));
    let format = "{{.Label \"com.docker.compose.project\"}} network {{.Name}}";
    found.extend(lines(&["network", "ls", "--format", format]));
    let format = "{{.Label \"com.docker.compose.project\"}} volume {{.Name}}";
    found.extend(lines(&["volume", "ls", "--format", format]));
    found.retain(|line| line.contains(app));
    found.sort();
    found
}

/// Removes what is named after `app`: its own project, both colors, links and images.
pub(crate) fn remove_all(app: &str) {
    let named = |arguments: &[&str]| -> Vec<String> {
        let mut found = lines(arguments);
        found.retain(|name| name.contains(app));
        found
    };
    let projects: Vec<String> =
        ["", "-blue", "-green"].iter().map(|color| format!("{app}{color}")).collect();
    let mut ids: Vec<String> = projects.iter().flat_map(|project| containers(project)).collect();
    ids.extend(named(&["ps", "-a", "--format", "{{.Names}}"]));
    discard(&["rm", "-f", "-v"], &ids);
    discard(&["network", "rm"], &named(&["network", "ls", "--format", "{{.Name}}"]));
    discard(&["volume", "rm", "-f"], &named(&["volume", "ls", "--format", "{{.Name}}"]));
    let images = named(&["image", "ls", "--format", "{{.Repository}}:{{.Tag}}"]);
    discard(&["rmi", "-f"], &images);
}

fn discard(command: &[&str], names: &[String]) {
    if names.is_empty() {
        return;
    }
    let mut arguments = command.to_vec();
    arguments.extend(names.iter().map(String::as_str));
    docker(&arguments);
}
